//! What stages and lookups count.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::metrics::family::Family;

use super::{Count, Counts, Labels, Metrics, Reasons, counts::Level, labels};

/// The families of stages and lookups.
#[derive(Clone, Default)]
pub(super) struct Families {
    taken: Counts,
    dropped: Counts,
    passed: Counts,
    late: Counts,
    evicted: Counts,
    entries: Family<Labels, Level>,
    asked: Counts,
    answered: Counts,
    children: Counts,
    stages: Arc<Mutex<BTreeMap<(String, String), StageCounts>>>,
    lookups: Arc<Mutex<BTreeMap<String, LookupCounts>>>,
}

impl Families {
    pub(super) fn register(&self, metrics: &Metrics) {
        metrics.register("shipper_stage_taken_messages", "Messages that a stage took", self.taken.clone());
        metrics.register("shipper_stage_dropped_messages", "Messages of which nothing went on", self.dropped.clone());
        metrics.register("shipper_stage_emitted_messages", "Messages that a stage passed on or made of one it took", self.passed.clone());
        metrics.register("shipper_stage_late_messages", "Messages that a stage emitted by itself", self.late.clone());
        metrics.register("shipper_stage_evicted_entries", "What a stage forgot for want of room", self.evicted.clone());
        metrics.register("shipper_stage_entries", "What a stage remembers", self.entries.clone());
        metrics.register("shipper_lookup_taken_messages", "Messages handed to a lookup", self.asked.clone());
        metrics.register("shipper_lookup_settled_messages", "Messages that a lookup is done with", self.answered.clone());
        metrics.register("shipper_lookup_emitted_messages", "Messages that a lookup made of others", self.children.clone());
    }

    pub(super) fn stage(&self, source: &str, stage: &str) -> StageCounts {
        let at = labels([("source", source), ("stage", stage)]);
        let make = || StageCounts {
            taken: self.taken.get_or_create_owned(&at),
            dropped: Reasons::new(&self.dropped, &at),
            emitted: self.passed.get_or_create_owned(&at),
            late: self.late.get_or_create_owned(&at),
            evicted: self.evicted.get_or_create_owned(&at),
            entries: self.entries.get_or_create_owned(&at),
        };
        let mut known = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry((source.to_owned(), stage.to_owned())).or_insert_with(make).clone()
    }

    pub(super) fn lookup(&self, lookup: &str) -> LookupCounts {
        let at = labels([("lookup", lookup)]);
        let make = || LookupCounts {
            taken: self.asked.get_or_create_owned(&at),
            settled: self.answered.get_or_create_owned(&at),
            emitted: self.children.get_or_create_owned(&at),
        };
        self.lookups.lock().unwrap_or_else(PoisonError::into_inner).entry(lookup.to_owned()).or_insert_with(make).clone()
    }
}

/// Counters of one stage for one source, in messages.
#[derive(Clone, Debug)]
pub struct StageCounts {
    pub taken: Count,
    /// Nothing went on.
    pub dropped: Reasons,
    /// Passed on, or made of one that it took.
    pub emitted: Count,
    /// Emitted by itself.
    pub late: Count,
    /// Entries forgotten for want of room.
    pub evicted: Count,
    /// Entries now.
    pub entries: Level,
}

/// Counters of one lookup, in messages.
#[derive(Clone, Debug)]
pub struct LookupCounts {
    pub taken: Count,
    pub settled: Count,
    /// Made of others.
    pub emitted: Count,
}

impl Metrics {
    /// The counters of one stage for one source.
    pub fn stage(&self, source: &str, stage: &str) -> StageCounts {
        self.graph.stage(source, stage)
    }
    /// The counters of one lookup.
    pub fn lookup(&self, lookup: &str) -> LookupCounts {
        self.graph.lookup(lookup)
    }
    /// Every stage so far, as (source, stage, counters).
    pub fn stages(&self) -> Vec<(String, String, StageCounts)> {
        let known = self.graph.stages.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|((source, stage), counts)| (source.clone(), stage.clone(), counts.clone())).collect()
    }
    /// Every lookup so far, with its counters.
    pub fn lookups(&self) -> Vec<(String, LookupCounts)> {
        let known = self.graph.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(lookup, counts)| (lookup.clone(), counts.clone())).collect()
    }
}
