//! What two entries of one request have in common.
//!
//! nginx answers `error_page` by an internal redirect, of which ModSecurity makes a second transaction: of one
//! blocked request there are two entries, mostly with two ids. They share the connection, so address and
//! port, and come within a moment of each other.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::shown::Shown;

/// A key that both entries have: half a SHA-256 as hexadecimal digits, since whoever could make two requests share a
/// key could hide the second. An event of which the port is not known has one of its own, by its id.
///
/// - `rules`: ids that it set off.
pub fn key(shown: &Shown<'_>, rules: &[u64]) -> String {
    let mut rules = rules.to_vec();
    rules.sort_unstable();
    rules.dedup();
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        // Lengths, so that parts cannot run together.
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(shown.host.as_bytes());
    part(shown.client.as_bytes());
    match shown.event.port {
        Some(port) => part(&port.to_le_bytes()),
        None => part(shown.event.id.as_bytes()),
    }
    part(shown.event.uri.as_bytes());
    part(&shown.time.div_euclid(1_000_000_000).to_le_bytes());
    rules.iter().for_each(|rule| part(&rule.to_le_bytes()));
    hash.finalize().iter().take(16).fold(String::with_capacity(32), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
