//! What was written, planted, read, extracted, matched and told, and whether it adds up. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::readback::Found;
use crate::metrics::Metrics;

/// What the manager wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub alerts: u64,
    pub bytes: u64,
    pub parts: u32,
    /// Alerts with a known indicator, each counted once.
    pub planted_alerts: u64,
    /// Of these, how many were written a second time.
    pub repeated_alerts: u64,
    /// Of each known indicator, in how many alerts it stands.
    pub planted: BTreeMap<String, u64>,
}

/// The sums.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Sums {
    pub written_alerts: u64,
    pub written_bytes: u64,
    pub written_parts: u32,
    pub planted_alerts: u64,
    pub planted_indicators: u64,
    pub repeated_alerts: u64,
    pub read_alerts: u64,
    pub read_bytes: u64,
    pub shipped_bytes: u64,
    pub dropped_bytes: u64,
    pub dead_letter_bytes: u64,
    pub in_flight_bytes: i64,
    /// Alerts with indicators, and all of these, as the agent's file of indicators has them.
    pub alerts_with_indicators: u64,
    pub indicators: u64,
    /// Of these, the ones that were planted.
    pub known_indicators: u64,
    /// Alerts that the filter let through, and those among them that came a second time.
    pub filter_hits: u64,
    pub duplicates: u64,
    /// Matches of the lookup, and how they are told.
    pub matches: u64,
    pub matches_alone: u64,
    pub matches_in_summaries: u64,
    pub matched_indicators: u64,
    /// Indicators of which more or fewer matches are told than were planted.
    pub wrong_indicators: u64,
    pub clean_stop: bool,
}

impl Sums {
    pub(super) fn new(metrics: &Metrics, written: &Written, found: &Found, clean: bool) -> Self {
        let branch = metrics.branch("alerts", "ioc");
        let duplicates = metrics.stage("alerts", "dedup").dropped.total();
        let lookup = metrics.lookup("misp");
        let planted = |value: &String| written.planted.get(value).copied().unwrap_or(0);
        let told = |value: &String| found.matched.get(value).copied().unwrap_or(0);
        let wrong =
            written.planted.keys().chain(found.matched.keys().filter(|value| planted(value) == 0)).filter(|v| planted(v) != told(v));
        Self {
            written_alerts: written.alerts,
            written_bytes: written.bytes,
            written_parts: written.parts,
            planted_alerts: written.planted_alerts,
            planted_indicators: written.planted.len() as u64,
            repeated_alerts: written.repeated_alerts,
            read_alerts: metrics.source("alerts").records.get(),
            read_bytes: branch.read.get(),
            shipped_bytes: branch.shipped.get(),
            dropped_bytes: branch.dropped.total(),
            dead_letter_bytes: branch.dead_letter.total(),
            in_flight_bytes: branch.in_flight.get(),
            alerts_with_indicators: found.parsed_lines,
            indicators: found.indicators,
            known_indicators: written.planted.keys().filter_map(|value| found.parsed.get(value)).sum(),
            filter_hits: lookup.taken.get() + duplicates,
            duplicates,
            matches: lookup.emitted.get(),
            matches_alone: found.first,
            matches_in_summaries: found.repeated,
            matched_indicators: found.matched.len() as u64,
            wrong_indicators: wrong.count() as u64,
            clean_stop: clean,
        }
    }

    /// What does not add up; empty where all does.
    pub(super) fn broken(&self) -> Vec<String> {
        let told = i128::from(self.shipped_bytes)
            + i128::from(self.dropped_bytes)
            + i128::from(self.dead_letter_bytes)
            + i128::from(self.in_flight_bytes);
        let same = |what: &str, a: i128, b: i128| (a != b).then(|| format!("{what}: {a} and {b}"));
        let sum = |a: u64, b: u64| i128::from(a) + i128::from(b);
        let known = sum(self.planted_alerts, self.repeated_alerts);
        [
            same("alerts written and read", self.written_alerts.into(), self.read_alerts.into()),
            same("bytes written and read", self.written_bytes.into(), self.read_bytes.into()),
            same("bytes read, and shipped + dropped + dead letter + in flight", self.read_bytes.into(), told),
            same("bytes in flight at the end, and none", self.in_flight_bytes.into(), 0),
            same("bytes in the dead letter, and none", self.dead_letter_bytes.into(), 0),
            same("known indicators written, repeats included, and extracted", known, self.known_indicators.into()),
            (i128::from(self.filter_hits) < known)
                .then(|| format!("alerts that the filter let through, at least {known}: {}", self.filter_hits)),
            same("alerts written twice, and duplicates", self.repeated_alerts.into(), self.duplicates.into()),
            same("alerts with a known indicator, and matches", self.planted_alerts.into(), self.matches.into()),
            same("matches, and those told alone or in a summary", self.matches.into(), sum(self.matches_alone, self.matches_in_summaries)),
            same("known indicators planted and matched", self.planted_indicators.into(), self.matched_indicators.into()),
            same("indicators told more or less often than planted, and none", self.wrong_indicators.into(), 0),
            (!self.clean_stop).then(|| "the agent stopped before all was acked".to_owned()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_add_up_only_if_every_one_does() {
        let good = Sums {
            written_alerts: 10,
            written_bytes: 100,
            written_parts: 2,
            planted_alerts: 5,
            planted_indicators: 2,
            repeated_alerts: 1,
            read_alerts: 10,
            read_bytes: 100,
            shipped_bytes: 60,
            dropped_bytes: 40,
            dead_letter_bytes: 0,
            in_flight_bytes: 0,
            alerts_with_indicators: 8,
            indicators: 9,
            known_indicators: 6,
            filter_hits: 7,
            duplicates: 1,
            matches: 5,
            matches_alone: 2,
            matches_in_summaries: 3,
            matched_indicators: 2,
            wrong_indicators: 0,
            clean_stop: true,
        };
        assert_eq!(good.broken(), Vec::<String>::new());
        type Spoil = fn(&mut Sums);
        let spoilt: [(Spoil, &str); 13] = [
            (|s| s.read_alerts = 9, "alerts written and read"),
            (|s| s.written_bytes = 101, "bytes written and read"),
            (|s| s.dropped_bytes = 39, "shipped + dropped"),
            (|s| (s.in_flight_bytes, s.dropped_bytes) = (1, 39), "in flight at the end"),
            (|s| (s.dead_letter_bytes, s.dropped_bytes) = (1, 39), "in the dead letter"),
            (|s| s.known_indicators = 5, "extracted"),
            (|s| s.filter_hits = 5, "filter"),
            (|s| s.duplicates = 0, "written twice"),
            (|s| s.matches = 4, "and matches"),
            (|s| s.matches_in_summaries = 2, "told alone"),
            (|s| s.matched_indicators = 3, "planted and matched"),
            (|s| s.wrong_indicators = 1, "more or less often"),
            (|s| s.clean_stop = false, "stopped before"),
        ];
        for (spoil, part) in spoilt {
            let mut sums = good.clone();
            spoil(&mut sums);
            assert!(sums.broken().iter().any(|what| what.contains(part)), "{part}: {:?}", sums.broken());
        }
    }
}
