//! What was written, planted, read, extracted, matched and told, and whether it adds up. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    super::account::{Account, same},
    readback::Found,
};
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
    #[serde(flatten)]
    pub account: Account,
    pub written_alerts: u64,
    pub planted_alerts: u64,
    pub planted_indicators: u64,
    pub repeated_alerts: u64,
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
}

impl Sums {
    pub(super) fn new(metrics: &Metrics, written: &Written, found: &Found, clean: bool) -> Self {
        let duplicates = metrics.stage("alerts", "dedup").dropped.total();
        let lookup = metrics.lookup("misp");
        let planted = |value: &String| written.planted.get(value).copied().unwrap_or(0);
        let told = |value: &String| found.matched.get(value).copied().unwrap_or(0);
        let wrong =
            written.planted.keys().chain(found.matched.keys().filter(|value| planted(value) == 0)).filter(|v| planted(v) != told(v));
        Self {
            account: Account::new(metrics, "ioc", written.bytes, written.parts, clean),
            written_alerts: written.alerts,
            planted_alerts: written.planted_alerts,
            planted_indicators: written.planted.len() as u64,
            repeated_alerts: written.repeated_alerts,
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
        }
    }

    /// What does not add up; empty where all does.
    pub(super) fn broken(&self) -> Vec<String> {
        let known = self.planted_alerts + self.repeated_alerts;
        let told = self.matches_alone + self.matches_in_summaries;
        let own = [
            same("alerts written and read", self.written_alerts, self.account.read_alerts),
            same("bytes in the dead letter, and none", self.account.dead_letter_bytes, 0),
            same("known indicators written, repeats included, and extracted", known, self.known_indicators),
            (self.filter_hits < known).then(|| format!("alerts that the filter let through, at least {known}: {}", self.filter_hits)),
            same("alerts written twice, and duplicates", self.repeated_alerts, self.duplicates),
            same("alerts with a known indicator, and matches", self.planted_alerts, self.matches),
            same("matches, and those told alone or in a summary", self.matches, told),
            same("known indicators planted and matched", self.planted_indicators, self.matched_indicators),
            same("indicators told more or less often than planted, and none", self.wrong_indicators, 0),
        ];
        self.account.broken().into_iter().chain(own.into_iter().flatten()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_add_up_only_if_every_one_does() {
        let good = Sums {
            account: Account { read_alerts: 10, clean_stop: true, ..Account::default() },
            written_alerts: 10,
            planted_alerts: 5,
            planted_indicators: 2,
            repeated_alerts: 1,
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
        };
        assert_eq!(good.broken(), Vec::<String>::new());
        type Spoil = fn(&mut Sums);
        let spoilt: [(Spoil, &str); 10] = [
            (|s| s.account.read_alerts = 9, "alerts written and read"),
            (|s| s.account.dead_letter_bytes = 1, "in the dead letter"),
            (|s| s.known_indicators = 5, "extracted"),
            (|s| s.filter_hits = 5, "filter"),
            (|s| s.duplicates = 0, "written twice"),
            (|s| s.matches = 4, "and matches"),
            (|s| s.matches_in_summaries = 2, "told alone"),
            (|s| s.matched_indicators = 3, "planted and matched"),
            (|s| s.wrong_indicators = 1, "more or less often"),
            (|s| s.account.clean_stop = false, "stopped before"),
        ];
        for (spoil, part) in spoilt {
            let mut sums = good.clone();
            spoil(&mut sums);
            assert!(sums.broken().iter().any(|what| what.contains(part)), "{part}: {:?}", sums.broken());
        }
    }
}
