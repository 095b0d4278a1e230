//! The thread that writes and fsyncs everything of ours: checkpoint, snapshots, dead letter, spools.
//!
//! [`Writer`] is the whole of it as a plain state machine over a [`Disk`](crate::io::Disk): no
//! thread, no clock, so that the simulator stops it in the middle of any call. [`start`] puts a
//! thread around it that gathers what arrives within [`GROUP_COMMIT_MS`](crate::limits::GROUP_COMMIT_MS) into one commit.
//!
//! The promise: what was answered with [`Done`] is there after a power cut. What cannot be
//! written is not answered, stays in memory and is tried again; the source then runs out of
//! credits and stops reading, which is where a full disk belongs. It never forgets a job, never
//! answers one twice, and never reads a checkpoint that it must not believe.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

pub mod intel;
mod letters;
mod segments;
mod spools;
#[cfg(test)]
mod tests;
mod thread;
#[cfg(test)]
mod twin;
mod writer;

pub use letters::{Dropped, OnFull};
pub use spools::{SPOOL, Spool};
pub use thread::{Asked, Body, Reply, StoreHandle, body, start};
pub use writer::{Done, Job, Options, StoreError, Writer};
