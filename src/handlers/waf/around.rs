//! What is known beside the event: of its address, and of alerts that nobody wants.

use std::net::IpAddr;

use super::settings::Tables;
use crate::tables::{GeoIp, Reader, Reputation, Shelf, Suppressions, geoip::Place, networks::Networks, reputation::OWN};

/// What stands for a place of which nothing was asked.
const UNKNOWN: &str = "unknown";
/// What stands for text that is no address; as for addresses of nobody's.
const PRIVATE: &str = "private";

/// Reference data of one handler on one shard.
#[derive(Debug)]
pub struct Around {
    bad: Networks,
    reputation: Option<Reader<Reputation>>,
    geoip: Option<Reader<GeoIp>>,
    suppressions: Option<Reader<Suppressions>>,
}

/// What is known of one address.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The list of bad addresses that it is on.
    pub reputation: Option<&'a str>,
    pub place: Place<'a>,
    pub suppressions: Option<&'a Suppressions>,
}

impl Around {
    /// - `bad`: addresses of bad repute, by the config; taken as they are.
    pub fn new(bad: Networks, names: &Tables, tables: &Shelf) -> Self {
        Self {
            bad,
            reputation: names.reputation.as_ref().and_then(|name| tables.of(name)).map(|held| held.reader()),
            geoip: names.geoip.as_ref().and_then(|name| tables.of(name)).map(|held| held.reader()),
            suppressions: names.suppressions.as_ref().and_then(|name| tables.of(name)).map(|held| held.reader()),
        }
    }

    /// What is known of an address; of a table that is not there yet, nothing is.
    ///
    /// - `address`: `None` for text that is none.
    pub fn of(&mut self, address: Option<IpAddr>) -> Known<'_> {
        let Self { bad, reputation, geoip, suppressions } = self;
        let own = address.and_then(|address| bad.around(address).next()).map(|_| OWN);
        let listed = match (reputation, address) {
            (Some(reader), Some(address)) => reader.get().and_then(|lists| lists.list_of(address)),
            _ => None,
        };
        let named = |word| Place { country: word, city: word, ..Place::default() };
        let place = match (geoip.as_mut().and_then(|reader| reader.get()), address) {
            (None, _) => named(UNKNOWN),
            (Some(_), None) => named(PRIVATE),
            (Some(geoip), Some(address)) => geoip.place(address),
        };
        Known { reputation: own.or(listed), place, suppressions: suppressions.as_mut().and_then(|reader| reader.get()) }
    }
}
