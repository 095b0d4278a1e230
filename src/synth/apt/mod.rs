//! What APT detection reads, made: messages of ten features, and the events of a simulated site.
//!
//! - [`features`]: the test producer's messages.
//! - [`simulation`]: hosts and users whose events come on a virtual clock.
//! - [`scenario`]: attacks as values, which a simulation starts any number of times.
//!
//! Deterministic: the same seed, settings and times give the same bytes, so a run is a test fixture. Refuses to
//! touch a clock: time is handed in or runs virtually. Addresses and names are private, or nobody's.

mod draws;
mod endpoint;
mod event;
pub mod features;
mod network;
pub mod scenario;
pub mod simulation;
mod site;
mod technique;
#[cfg(test)]
mod tests;
mod user;

use crate::clock::Nanos;

/// One message, made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// When it happened, nanoseconds since 1970.
    pub at: Nanos,
    /// Whom it is about; the key by which Kafka keeps an entity on one partition.
    pub entity: Box<str>,
    /// One JSON object, without a newline.
    pub json: Vec<u8>,
}

/// A time as events carry it: RFC 3339, UTC, milliseconds.
fn stamp(at: Nanos) -> impl std::fmt::Display {
    let at = jiff::Timestamp::from_nanosecond(i128::from(at)).unwrap_or_default();
    std::fmt::from_fn(move |f| write!(f, "{at:.3}"))
}
