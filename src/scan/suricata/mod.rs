//! What Suricata saw of the same transfer: events of `eve.json` in memory, and how they relate to a file.
//!
//! | a relation | if | confidence |
//! |---|---|---|
//! | `flow` | the same addresses and ports, either way, or the same Community ID, within `window_s` | 95 |
//! | `hash` | the SHA-256 or MD5 that Suricata took of a file is the file's, within `window_s` | 90 |
//! | `host_and_time` | one address in common, within `proximity_s` | 75 |
//!
//! Of an event the strongest one is told; time alone is none. *Within* is from the file's first byte to its last, and so
//! long before and after.
//!
//! Refuses to start, stop or change Suricata, and to remember anything on disk.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

mod event;
mod related;
#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use self::related::Held;
pub use self::{
    event::{Event, Kind},
    related::{Relation, Way},
};
use super::{
    lines::{Tail, TailError, objects},
    settings::Correlate,
};
use crate::clock::Nanos;

/// What a file is related by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Both ends of each connection that carried it.
    pub flows: Vec<(SocketAddr, SocketAddr)>,
    pub hosts: Vec<IpAddr>,
    /// From its first byte to its last, nanoseconds since 1970. Without it nothing is related.
    pub span: Option<(i64, i64)>,
    /// In hex, lower case; empty if not known.
    pub sha256: String,
    pub md5: String,
}

/// What is held, and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub events: u64,
    pub alerts: u64,
    /// Went before their time: there were too many.
    pub dropped: u64,
    /// Lines, or parts of one, that are no event that relates to anything.
    pub refused: u64,
}

/// The log of one Suricata.
#[derive(Debug)]
pub struct Eve {
    tail: Tail,
    held: Held,
    refused: u64,
}

impl Eve {
    /// - `path`: of `eve.json`; it need not exist yet.
    pub fn new(path: PathBuf, settings: &Correlate) -> Self {
        Self { tail: Tail::new(path), held: Held::new(settings), refused: 0 }
    }

    /// Reads what has come, and lets go of what came two windows ago. Gives back how many events came.
    ///
    /// - `now`: monotonic, never less than before.
    ///
    /// # Errors
    /// A log that is there cannot be read; a later call tries again.
    pub fn refresh(&mut self, now: Nanos) -> Result<u64, TailError> {
        self.held.forget(now);
        let (held, refused, mut came) = (&mut self.held, &mut self.refused, 0);
        self.tail.read(|line| {
            let (objects, is_whole) = objects(line);
            *refused += u64::from(!is_whole);
            for object in objects {
                match event::read(&object) {
                    Ok(Some(event)) => {
                        came += 1;
                        held.put(event, now);
                    }
                    Ok(None) => {}
                    Err(event::NoUse) => *refused += 1,
                }
            }
        })?;
        Ok(came)
    }

    /// What relates to a file: each once by its key, in the order of events.
    pub fn related(&self, to: &Transfer) -> Vec<Relation> {
        self.held.related(to)
    }

    /// All events that are held, the latest first.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.held.events()
    }

    pub fn figures(&self) -> Figures {
        let (events, dropped) = self.held.count();
        let alerts = self.events().filter(|event| event.kind == Kind::Alert).count();
        Figures { events: events as u64, alerts: alerts as u64, dropped, refused: self.refused }
    }
}
