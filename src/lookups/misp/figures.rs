//! What is told of one lookup in figures: the engine's counts under the names of metrics.

use std::cell::Cell;

use super::{
    core::{Core, Counts},
    settings::Settings,
};
use crate::{
    clock::Nanos,
    metrics::{Count, Level, Standing},
};

/// Types of indicators that have a figure of their own: those of handler `ioc`.
const TYPES: [&str; 11] = ["ip", "domain", "url", "email", "md5", "sha1", "sha256", "sha512", "imphash", "ja3", "other"];
/// What became of sightings.
const SIGHTED: [&str; 3] = ["told", "refused", "lost"];

/// One count of the engine: the metric, its help, its label, and where it stands.
type Row = (&'static str, &'static str, &'static [(&'static str, &'static str)], fn(&Counts) -> u64);

static ROWS: &[Row] = {
    const ANSWERS: &str = "Indicators with an answer, by what it is";
    const CACHED: &str = "Values looked for in a cache, by what it had of them";
    const SEARCHES: &str = "Searches sent to MISP, each page and each try one";
    const FAILED: &str = "Searches without a usable answer, by why";
    const WAITS: &str = "Times that a search waited for a limit on searches";
    const LEFT_OUT: &str = "Attributes in answers of MISP that were left out";
    const OWN: (&str, &str) = ("cache", "own");
    const SHARED: (&str, &str) = ("cache", "shared");
    &[
        ("shipper_misp_answered_indicators", ANSWERS, &[("answer", "hit")], |c| c.hits),
        ("shipper_misp_answered_indicators", ANSWERS, &[("answer", "miss")], |c| c.misses),
        ("shipper_misp_answered_indicators", ANSWERS, &[("answer", "failed")], |c| c.failed),
        ("shipper_misp_cached_values", CACHED, &[OWN, ("had", "hit")], |c| c.cached),
        ("shipper_misp_cached_values", CACHED, &[OWN, ("had", "miss")], |c| c.cached_misses),
        ("shipper_misp_cached_values", CACHED, &[OWN, ("had", "nothing")], |c| c.uncached),
        ("shipper_misp_cached_values", CACHED, &[SHARED, ("had", "hit")], |c| c.shared),
        ("shipper_misp_cached_values", CACHED, &[SHARED, ("had", "miss")], |c| c.shared_empty),
        ("shipper_misp_cached_values", CACHED, &[SHARED, ("had", "nothing")], |c| c.shared_misses),
        ("shipper_misp_coalesced_values", "Values that were being asked for already", &[], |c| c.coalesced),
        ("shipper_misp_searches", SEARCHES, &[("kind", "first")], |c| c.searches - c.pages - c.again),
        ("shipper_misp_searches", SEARCHES, &[("kind", "page")], |c| c.pages),
        ("shipper_misp_searches", SEARCHES, &[("kind", "again")], |c| c.again),
        ("shipper_misp_searched_values", "Values of searches, each search counted at its first page and try", &[], |c| c.values),
        ("shipper_misp_failed_searches", FAILED, &[("reason", "away")], |c| c.failures),
        ("shipper_misp_failed_searches", FAILED, &[("reason", "denied")], |c| c.denied),
        ("shipper_misp_failed_searches", FAILED, &[("reason", "refused")], |c| c.refused),
        ("shipper_misp_failed_searches", FAILED, &[("reason", "limited")], |c| c.limited),
        ("shipper_misp_limit_waits", WAITS, &[("limit", "misp")], |c| c.waited_for_misp),
        ("shipper_misp_limit_waits", WAITS, &[("limit", "rate")], |c| c.waited_for_rate),
        ("shipper_misp_breaker_openings", "Times that MISP was left alone for a while, failed trials counted again", &[], |c| c.openings),
        ("shipper_misp_given_up_values", "Values that MISP will never take", &[], |c| c.given_up),
        ("shipper_misp_left_out_attributes", LEFT_OUT, &[("reason", "not_asked")], |c| c.foreign_rows),
        ("shipper_misp_left_out_attributes", LEFT_OUT, &[("reason", "past_hits")], |c| c.cut_rows),
    ]
};

/// The figures of one lookup.
pub(super) struct Figures {
    asked: [Count; TYPES.len()],
    counts: Vec<Count>,
    /// What was told last.
    told: Cell<Counts>,
    sighted: Option<[Count; SIGHTED.len()]>,
    open: Level,
    breaker: Level,
    limited: Level,
    cache_bytes: Level,
    cache_entries: Level,
    networks: Level,
    redis: Option<Level>,
}

impl Figures {
    pub(super) fn new(standing: &Standing, settings: &Settings) -> Self {
        let asked = TYPES.map(|kind| standing.count("shipper_misp_asked_indicators", "Indicators asked about, by type", &[("type", kind)]));
        let counts = ROWS.iter().map(|(name, help, labels, _)| standing.count(name, help, labels)).collect();
        let sighted = |fate| standing.count("shipper_misp_sightings", "Values seen, by whether MISP was told", &[("fate", fate)]);
        let redis = || standing.level("shipper_misp_redis_up", "1 while the shared cache can be used, 0 while it cannot", &[]);
        Self {
            asked,
            counts,
            told: Cell::default(),
            sighted: settings.sightings.is_some().then(|| SIGHTED.map(sighted)),
            open: standing.level("shipper_misp_open_indicators", "Indicators without an answer yet", &[]),
            breaker: standing.level("shipper_misp_breaker_open", "1 while MISP is left alone for a while or tried, 0 otherwise", &[]),
            limited: standing.level("shipper_misp_limited", "1 while MISP's own limit on searches is used up, 0 otherwise", &[]),
            cache_bytes: standing.level("shipper_misp_cache_bytes", "Bytes of the own cache", &[]),
            cache_entries: standing.level("shipper_misp_cache_entries", "Values in the own cache", &[]),
            networks: standing.level("shipper_misp_networks", "Networks of MISP that are held", &[]),
            redis: settings.redis.as_ref().map(|_| redis()),
        }
    }

    /// An indicator of this type is asked about.
    pub(super) fn asked(&self, kind: &str) {
        let at = TYPES.iter().position(|known| *known == kind);
        self.asked[at.unwrap_or(TYPES.len() - 1)].inc();
    }

    /// What became of sightings: a word of [`SIGHTED`].
    pub(super) fn sighted(&self, fate: &'static str, values: usize) {
        let at = SIGHTED.iter().position(|known| *known == fate);
        if let (Some(counts), Some(at)) = (&self.sighted, at) {
            counts[at].inc_by(values as u64);
        }
    }

    /// Tells how the engine stands.
    ///
    /// - `open`: questions without a verdict.
    pub(super) fn tell(&self, core: &Core, now: Nanos, open: usize, has_redis: bool) {
        let (counts, before) = (core.counts(), self.told.replace(core.counts()));
        for (count, (.., of)) in self.counts.iter().zip(ROWS) {
            count.inc_by(of(&counts).saturating_sub(of(&before)));
        }
        let set = |level: &Level, n: usize| _ = level.set(i64::try_from(n).unwrap_or(i64::MAX));
        let (bytes, entries) = core.cache_size();
        set(&self.open, open);
        set(&self.breaker, usize::from(core.is_open()));
        set(&self.limited, usize::from(core.is_limited(now)));
        set(&self.cache_bytes, bytes);
        set(&self.cache_entries, entries);
        set(&self.networks, core.networks());
        if let Some(redis) = &self.redis {
            set(redis, usize::from(has_redis));
        }
    }
}
