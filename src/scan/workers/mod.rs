//! Who scans: the workers that have registered, how they stand, and which of them gets the next task.
//!
//! - [`registration`]: what a worker says of itself, each bound checked, every mistake told at once.
//! - [`registry`]: the workers known here. Pure: the clock, addresses and leases are handed in. Start there.
//! - [`balance`]: the three ways to choose one. Pure.
//! - [`push`]: brings a task to a worker that is called.
//! - [`client`]: the other side: a worker that registers, pulls leases, scans and reports.
//!
//! Invariants: a worker's status is computed from the clock when it is asked for, and how many tasks a worker has is
//! counted by leases, never by what it says. A worker is called only at an address that was checked when it registered.

pub mod balance;
pub mod client;
pub mod fields;
pub mod push;
pub mod registration;
pub mod registry;

pub use fields::Problem;
pub use registration::{Heartbeat, Registration};
pub use registry::{Pick, Refusal, Registered, Registry, Row, Status};
