//! What was written, found and summed up, and whether it adds up. Pure.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use serde::Serialize;
use serde_json::Value;

use super::super::account::{Account, same};
use crate::metrics::Metrics;

/// Time, entity and type: what an event of the site is known by.
type Known = (String, String, String);

fn known(object: &Value) -> Option<Known> {
    let text = |name: &str| object[name].as_str().map(str::to_owned);
    Some((text("timestamp")?, text("entity")?, text("event_type")?))
}

/// What the site wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub bytes: u64,
    pub parts: u32,
    pub site: u64,
    pub features: u64,
    pub anomalous: u64,
    /// Bytes that are no event.
    pub foreign_bytes: u64,
    /// Events that say themselves that they are suspicious.
    pub marked: BTreeMap<Known, u64>,
}

impl Written {
    /// Counts an event of the site.
    ///
    /// # Errors
    /// If it is none.
    pub(super) fn site(&mut self, json: &[u8]) -> anyhow::Result<()> {
        let event: Value = serde_json::from_slice(json).context("an event of the site")?;
        self.site += 1;
        if event["suspicious"] == true {
            *self.marked.entry(known(&event).context("an event without time, entity or type")?).or_default() += 1;
        }
        Ok(())
    }
}

/// What the agent's files hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Alerts of single events of the site.
    pub site: BTreeMap<Known, u64>,
    pub features: u64,
    pub ids: BTreeSet<String>,
    pub rare: u64,
    pub windows: u64,
    pub events: u64,
}

impl Found {
    /// Reads alerts of single events, alerts of windows, and windows, one a line.
    ///
    /// # Errors
    /// A line that is none of ours.
    pub(super) fn of(single: &str, rare: &str, windows: &str) -> anyhow::Result<Self> {
        let mut found = Self::default();
        for (line, is_single) in single.lines().map(|line| (line, true)).chain(rare.lines().map(|line| (line, false))) {
            let none = || format!("an alert that is none of ours: {line}");
            let alert: Value = serde_json::from_str(line).with_context(none)?;
            found.ids.insert(alert["id"].as_str().with_context(none)?.to_owned());
            match (is_single, &alert["data_source"]) {
                (false, _) => found.rare += 1,
                (true, source) if source == "features" => found.features += 1,
                (true, _) => *found.site.entry(known(&alert).with_context(none)?).or_default() += 1,
            }
        }
        for line in windows.lines() {
            let none = || format!("a window that is none of ours: {line}");
            let window: Value = serde_json::from_str(line).with_context(none)?;
            found.windows += 1;
            found.events += window["event_count"].as_u64().with_context(none)?;
        }
        Ok(found)
    }
}

/// The sums.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Sums {
    #[serde(flatten)]
    pub account: Account,
    pub site_events: u64,
    pub marked_events: u64,
    pub feature_messages: u64,
    pub anomalous_messages: u64,
    pub foreign_bytes: u64,
    pub site_alerts: u64,
    /// Events that mark themselves, and of which no alert came.
    pub marked_without_alert: u64,
    pub feature_alerts: u64,
    pub different_alerts: u64,
    pub windows: u64,
    pub events_in_windows: u64,
    pub window_alerts: u64,
}

impl Sums {
    pub(super) fn new(metrics: &Metrics, written: &Written, found: &Found, clean: bool) -> Self {
        let missed = |(known, count): (&Known, &u64)| count.saturating_sub(found.site.get(known).copied().unwrap_or(0));
        Self {
            account: Account::new(metrics, "apt", written.bytes, written.parts, clean),
            site_events: written.site,
            marked_events: written.marked.values().sum(),
            feature_messages: written.features,
            anomalous_messages: written.anomalous,
            foreign_bytes: written.foreign_bytes,
            site_alerts: found.site.values().sum(),
            marked_without_alert: written.marked.iter().map(missed).sum(),
            feature_alerts: found.features,
            different_alerts: found.ids.len() as u64,
            windows: found.windows,
            events_in_windows: found.events,
            window_alerts: found.rare,
        }
    }

    fn alerts(&self) -> u64 {
        self.site_alerts + self.feature_alerts + self.window_alerts
    }

    /// True if no id was given twice.
    pub(super) fn alerts_differ(&self) -> bool {
        self.alerts() == self.different_alerts
    }

    /// What does not add up; empty where all does.
    pub(super) fn broken(&self) -> Vec<String> {
        let own = [
            same("events that mark themselves without an alert, and none", self.marked_without_alert, 0),
            same("anomalous messages and their alerts", self.anomalous_messages, self.feature_alerts),
            same("alerts, and their ids", self.alerts(), self.different_alerts),
            same("events written, and events in windows", self.site_events + self.feature_messages, self.events_in_windows),
            same("bytes that are no event, and those in the dead letter", self.foreign_bytes, self.account.dead_letter_bytes),
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
            account: Account { dead_letter_bytes: 5, read_bytes: 5, written_bytes: 5, clean_stop: true, ..Account::default() },
            site_events: 10,
            marked_events: 3,
            feature_messages: 6,
            anomalous_messages: 2,
            foreign_bytes: 5,
            site_alerts: 4,
            feature_alerts: 2,
            different_alerts: 7,
            windows: 5,
            events_in_windows: 16,
            window_alerts: 1,
            ..Sums::default()
        };
        assert_eq!(good.broken(), Vec::<String>::new());
        type Spoil = fn(&mut Sums);
        let spoilt: [(Spoil, &str); 6] = [
            (|s| s.marked_without_alert = 1, "mark themselves"),
            (|s| s.feature_alerts = 3, "anomalous messages"),
            (|s| s.different_alerts = 6, "and their ids"),
            (|s| s.events_in_windows = 15, "events in windows"),
            (|s| s.foreign_bytes = 6, "in the dead letter"),
            (|s| s.account.clean_stop = false, "stopped before"),
        ];
        for (spoil, part) in spoilt {
            let mut sums = good.clone();
            spoil(&mut sums);
            assert!(sums.broken().iter().any(|what| what.contains(part)), "{part}: {:?}", sums.broken());
        }
    }

    #[test]
    fn files_are_read_by_what_an_alert_is_of_and_strange_lines_are_told() {
        let mut written = Written::default();
        written.site(br#"{"timestamp":"t","entity":"h","event_type":"e","suspicious":true}"#).unwrap();
        written.site(br#"{"timestamp":"t","entity":"h","event_type":"e"}"#).unwrap();
        let single = "{\"id\":\"1\",\"timestamp\":\"t\",\"entity\":\"h\",\"event_type\":\"e\",\"data_source\":\"sim\"}\n{\"id\":\"2\",\"data_source\":\"features\"}\n";
        let found = Found::of(single, "{\"id\":\"3\"}\n", "{\"event_count\":4}\n{\"event_count\":1}\n").unwrap();
        assert_eq!((found.site.keys().eq(written.marked.keys()), written.site, found.features), (true, 2, 1));
        assert_eq!((found.rare, found.windows, found.events, found.ids.len()), (1, 2, 5, 3));
        for (single, rare, windows) in [("x\n", "", ""), ("", "{}\n", ""), ("", "", "{}\n"), ("{\"id\":\"1\"}\n", "", "")] {
            assert!(Found::of(single, rare, windows).is_err());
        }
    }
}
