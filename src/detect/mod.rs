//! What APT detection speaks of: events, alerts, techniques, and one scale of severity.
//!
//! A handler makes an [`Event`] of a record; a detector sums events and scores them; what either finds is an
//! [`Alert`]. Everything here is pure: no clock, no disk, no memory of what came before. It refuses to know where an
//! event came from and who scores it.
//!
//! Invariants: an [`Event`] that was written reads as the same one; an alert of the same thing has the same id
//! whenever and wherever it is made; nothing an event says makes an alert longer than
//! [`limits::ALERT_BYTES_MAX`].
//!
//! Start at [`Event`] and [`Alert`]; `attack.tsv` has the techniques of ATT&CK, made by `tools/attack`.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

pub mod alert;
pub mod attack;
pub mod baseline;
pub mod counts;
pub mod detector;
pub mod entities;
pub mod event;
pub mod float;
pub mod forest;
pub mod kept;
pub mod model;
pub mod oif;
pub mod packed;
pub mod saved;
pub mod scale;
pub mod seed;
pub mod severity;
pub mod tree;
pub mod window;

use std::borrow::Cow;

pub use alert::{Alert, Detection};
pub use event::{Class, Event};
pub use severity::Severity;

use crate::limits;

/// The ten features of an event or a window, in the order that is part of the contract.
pub const FEATURES: [&str; 10] = [
    "network_traffic_volume_mean",
    "number_of_logins_mean",
    "number_of_failed_logins_mean",
    "number_of_accessed_files_mean",
    "number_of_email_sent_mean",
    "cpu_usage_mean",
    "memory_usage_mean",
    "disk_io_mean",
    "network_latency_mean",
    "number_of_processes_mean",
];

/// Places in [`FEATURES`] of what is a gauge: a window averages it over the events that carry it. The others are
/// counts, which a window sums.
pub const GAUGES: [usize; 4] = [5, 6, 7, 8];

/// A name as it is kept: as it is, or `blake3:` and 32 digits of its hash where it is longer than
/// [`limits::ENTITY_BYTES_MAX`].
pub fn short(name: &str) -> Cow<'_, str> {
    if name.len() <= limits::ENTITY_BYTES_MAX {
        return Cow::Borrowed(name);
    }
    let hash = blake3::hash(name.as_bytes());
    let mut text = String::from("blake3:");
    text.push_str(hash.to_hex().get(..32).unwrap_or_default());
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_becomes_a_hash() {
        let long = "ä".repeat(129);
        assert_eq!(short(&long[..256]), &long[..256]);
        assert_eq!(short(&long).len(), 39);
        assert_ne!(short(&long), short(&"ö".repeat(129)));
    }
}
