//! Distributed scanning: files under roots become tasks, tasks become outcomes, matches become alerts.
//!
//! ```text
//! roots, watch ─┐                        ┌─ children (YARA, one process each)
//! API, queues ──┴→ task store → workers ─┴→ outcome → task store → alerts → sinks
//! ```
//!
//! The node that accepts a task owns it until its outcome is stored. `clean` is said only if every rule saw every byte.
//!
//! Refuses to know HTTP and the topology.

pub mod alert;
pub mod buffer;
pub mod children;
pub mod cleanup;
#[cfg(test)]
pub(crate) mod corpus;
pub mod lines;
pub mod monitor;
pub mod outcome;
pub mod queue;
pub mod roots;
pub mod rules;
pub mod settings;
pub mod severity;
pub mod suricata;
pub mod task;
pub mod tasks;
pub mod watch;
pub mod workers;
#[cfg(feature = "scan")]
pub mod yara;
pub mod zeek;
