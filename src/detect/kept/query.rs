//! Which alerts are asked for, in which order, and what all of them come to.
//!
//! The order is that of a sorted set in Redis read backwards: the newest first, of one millisecond the
//! greater id first.

use std::collections::BTreeMap;

use super::{Brief, brief::SEVERITIES};
use crate::limits;

/// Which alerts; a member that is `None` asks for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub severity: Option<&'static str>,
    pub source: Option<String>,
    pub entity: Option<String>,
    /// Event time, milliseconds since 1970; older ones are left out.
    pub since_ms: i64,
    pub before: Option<Before>,
    /// At most so many; 1 to [`limits::ALERTS_PAGE`].
    pub limit: usize,
}

/// Where a page begins: behind this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Before {
    /// Milliseconds since 1970; what is older.
    Time(i64),
    /// Id of the last alert of the page before.
    Alert(String),
}

impl Query {
    /// True if this alert is asked for, as far as its members say; where a page begins is not looked at.
    pub fn wants(&self, brief: &Brief) -> bool {
        brief.time_ms >= self.since_ms
            && self.severity.is_none_or(|severity| severity == brief.severity)
            && self.source.as_ref().is_none_or(|source| *source == brief.source)
            && self.entity.as_ref().is_none_or(|entity| *entity == brief.entity)
    }
}

impl Default for Query {
    fn default() -> Self {
        Self { severity: None, source: None, entity: None, since_ms: i64::MIN, before: None, limit: limits::ALERTS_PAGE }
    }
}

/// What alerts come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub alerts: u64,
    /// By word of the scale.
    pub severities: BTreeMap<String, u64>,
    /// By `source.type`.
    pub sources: BTreeMap<String, u64>,
    /// By entity; the most frequent ones.
    pub entities: BTreeMap<String, u64>,
    /// By day in UTC.
    pub days: BTreeMap<String, u64>,
}

impl Stats {
    /// Counts one.
    pub fn add(&mut self, brief: &Brief) {
        self.alerts += 1;
        let counts = [
            (&mut self.severities, brief.severity.to_owned()),
            (&mut self.sources, brief.source.clone()),
            (&mut self.entities, brief.entity.clone()),
            (&mut self.days, brief.day()),
        ];
        for (counts, of) in counts {
            *counts.entry(of).or_default() += 1;
        }
    }

    /// Reads a field of the hash in Redis and its value; what is unknown is passed over.
    pub fn read(&mut self, field: &str, count: u64) {
        match field.split_once(':') {
            None if field == "alerts" => self.alerts = count,
            Some(("severity", word)) if SEVERITIES.contains(&word) => _ = self.severities.insert(word.to_owned(), count),
            Some(("source", word)) => _ = self.sources.insert(word.to_owned(), count),
            Some(("day", word)) => _ = self.days.insert(word.to_owned(), count),
            _ => {}
        }
    }
}
