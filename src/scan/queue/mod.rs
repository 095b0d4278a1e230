//! Brokers: how nodes share their tasks.
//!
//! ```text
//! this node's store ── surplus ──→ broker ──→ another node's store ─→ its workers
//!        ▲                                            │
//!        └───────────── outcome, by the broker ◄──────┘
//! ```
//!
//! The store is the queue, with every kind of queue: a task is accepted there and stays there until its outcome is. A
//! broker carries what the workers of this node leave over to nodes that have room, and what others leave over to here.
//! So a broker that loses, repeats, or is away changes who scans, and never whether.
//!
//! - [`envelope`]: the message, which is upstream's; whatever is wrong with one is told.
//! - [`desk`]: what both brokers do with the store. Start there.
//! - [`lanes`]: order and bounds of the three topics of Kafka. Pure.
//! - `rabbitmq`, [`kafka`]: the two brokers.
//!
//! Invariant: nothing in a message chooses a queue, topic or path that the configuration does not name.

pub mod desk;
pub mod envelope;
pub mod kafka;
pub mod lanes;
#[cfg(feature = "scan")]
pub mod rabbitmq;
