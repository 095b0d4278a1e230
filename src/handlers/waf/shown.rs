//! What of an event leaves us: scored, masked, timed.

use super::{event::Event, score::Score};
use crate::tables::geoip::Place;

/// An event as it may be shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'e> {
    pub event: &'e Event<'e>,
    pub score: &'e Score<'e>,
    /// Its client, masked.
    pub client: &'e str,
    /// What of its URI may be shown, uncut.
    pub uri: &'e str,
    /// The site or server that was asked.
    pub host: &'e str,
    /// Nanoseconds since 1970.
    pub time: i64,
    pub place: Place<'e>,
    /// The list of bad addresses that its client is on.
    pub reputation: Option<&'e str>,
}
