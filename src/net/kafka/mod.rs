//! Kafka, by librdkafka. The only folder that names rdkafka.
//!
//! - [`port`]: what a sink needs of a producer; the simulator has its own.
//! - [`producer`]: the real one. The shard polls it when librdkafka's queue wakes the shard; there
//!   is no polling timer and no thread of ours that waits for deliveries.
//! - [`consumer`]: a member of a group, polled in the same way; [`lag`] reads how far partitions reach.
//! - [`fates`]: what an error means for a message, and what it tells an operator. Pure tables.
//! - [`sender`]: a producer for few messages, each awaited.
//! - [`settings`]: one vocabulary of settings for sinks and sources.
//! - [`survey`]: what `shipper check` asks a cluster.
//! - [`mock`] and [`reader`]: a broker inside the process and a plain reader, for the demo and tests.
//!
//! Invariant: `wake` holds the only `unsafe` of the crate; nothing here reads an alert.

pub mod consumer;
pub mod fates;
pub mod lag;
pub mod mock;
pub mod port;
pub mod producer;
pub mod reader;
pub mod sender;
pub mod settings;
pub mod survey;
mod wake;
