//! What was written, scored and told, and whether it adds up. Pure.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use serde::Serialize;

use super::{
    super::account::{Account, same},
    ALERT_AT, Expected,
};
use crate::metrics::Metrics;

/// Severity and rule: what an event comes to.
type Came = (u32, u32);

/// What the engine wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub bytes: u64,
    pub parts: u32,
    pub spoiled: u64,
    /// Bytes that are no event.
    pub foreign_bytes: u64,
    /// How many events must come to this.
    pub expected: BTreeMap<Came, u64>,
}

impl Written {
    pub(super) fn expect(&mut self, Expected { severity, rule, .. }: Expected) {
        *self.expected.entry((severity, rule)).or_default() += 1;
    }

    fn events(&self) -> u64 {
        self.expected.values().sum()
    }
}

/// What the agent's files hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub points: u64,
    /// Points that a database would keep: other tags, or another time.
    pub different: u64,
    pub levels: BTreeMap<String, u64>,
    pub came: BTreeMap<Came, u64>,
    pub alerts: BTreeMap<Came, u64>,
}

impl Found {
    /// Reads points and alerts, one a line.
    ///
    /// # Errors
    /// A line that is none of ours.
    pub(super) fn of(points: &str, alerts: &str) -> anyhow::Result<Self> {
        let (mut found, mut different) = (Self::default(), BTreeSet::new());
        for line in points.lines() {
            let none = || format!("a point that is none of ours: {line}");
            let [head, fields, time] = line.split(' ').collect::<Vec<_>>()[..] else { anyhow::bail!("{}", none()) };
            let tag = |name: &str| head.split(',').find_map(|tag| tag.strip_prefix(name)?.strip_prefix('=')).with_context(none);
            let field = fields.split(',').find_map(|field| field.strip_prefix("severity=")?.strip_suffix('i')).with_context(none)?;
            let came = (field.parse().with_context(none)?, tag("rule_id")?.parse().with_context(none)?);
            *found.came.entry(came).or_default() += 1;
            *found.levels.entry(tag("severity_level")?.to_owned()).or_default() += 1;
            found.points += 1;
            different.insert((head, time));
        }
        for line in alerts.lines() {
            let none = || format!("an alert that is none of ours: {line}");
            let alert: serde_json::Value = serde_json::from_str(line).with_context(none)?;
            let severity = alert["severity"].as_u64().and_then(|n| u32::try_from(n).ok()).with_context(none)?;
            let rule = alert["rule_id"].as_str().and_then(|id| id.parse().ok()).with_context(none)?;
            *found.alerts.entry((severity, rule)).or_default() += 1;
        }
        found.different = different.len() as u64;
        Ok(found)
    }
}

/// The sums.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Sums {
    #[serde(flatten)]
    pub account: Account,
    pub written_events: u64,
    pub spoiled_events: u64,
    pub foreign_bytes: u64,
    pub points: u64,
    pub different_points: u64,
    pub critical: u64,
    pub high: u64,
    pub medium: u64,
    pub low: u64,
    /// Kinds of events, by severity and rule, of which more or fewer points or alerts came than events were written.
    pub wrong_points: u64,
    pub wrong_alerts: u64,
    pub alerts: u64,
}

impl Sums {
    pub(super) fn new(metrics: &Metrics, written: &Written, found: &Found, clean: bool) -> Self {
        let grave: BTreeMap<Came, u64> =
            written.expected.iter().filter(|((severity, _), _)| *severity >= ALERT_AT).map(|(came, count)| (*came, *count)).collect();
        let level = |name: &str| found.levels.get(name).copied().unwrap_or(0);
        Self {
            account: Account::new(metrics, "waf", written.bytes, written.parts, clean),
            written_events: written.events(),
            spoiled_events: written.spoiled,
            foreign_bytes: written.foreign_bytes,
            points: found.points,
            different_points: found.different,
            critical: level("critical"),
            high: level("high"),
            medium: level("medium"),
            low: level("low"),
            wrong_points: unlike(&written.expected, &found.came),
            wrong_alerts: unlike(&grave, &found.alerts),
            alerts: found.alerts.values().sum(),
        }
    }

    /// What does not add up; empty where all does.
    pub(super) fn broken(&self) -> Vec<String> {
        let own = [
            same("events written and points", self.written_events, self.points),
            same("points, and those that a database keeps", self.points, self.different_points),
            same("kinds of events with more or fewer points, and none", self.wrong_points, 0),
            same("kinds of grave events with more or fewer alerts, and none", self.wrong_alerts, 0),
            same("points, and those of the four levels", self.points, self.critical + self.high + self.medium + self.low),
            same("bytes that are no event, and those in the dead letter", self.foreign_bytes, self.account.dead_letter_bytes),
        ];
        self.account.broken().into_iter().chain(own.into_iter().flatten()).collect()
    }
}

/// Kinds of which two counts differ.
fn unlike(a: &BTreeMap<Came, u64>, b: &BTreeMap<Came, u64>) -> u64 {
    let kinds: BTreeSet<&Came> = a.keys().chain(b.keys()).collect();
    kinds.into_iter().filter(|kind| a.get(kind) != b.get(kind)).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_add_up_only_if_every_one_does() {
        let good = Sums {
            account: Account { dead_letter_bytes: 5, read_bytes: 5, written_bytes: 5, clean_stop: true, ..Account::default() },
            written_events: 10,
            foreign_bytes: 5,
            points: 10,
            different_points: 10,
            critical: 1,
            high: 2,
            medium: 3,
            low: 4,
            alerts: 1,
            ..Sums::default()
        };
        assert_eq!(good.broken(), Vec::<String>::new());
        type Spoil = fn(&mut Sums);
        let spoilt: [(Spoil, &str); 7] = [
            (|s| s.written_events = 11, "events written and points"),
            (|s| s.different_points = 9, "that a database keeps"),
            (|s| s.wrong_points = 1, "more or fewer points"),
            (|s| s.wrong_alerts = 1, "more or fewer alerts"),
            (|s| s.low = 5, "of the four levels"),
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
    fn files_are_read_by_kind_and_strange_lines_are_told() {
        let point = "waf_events,client_ip=1.2.3.4,rule_id=942100,severity_level=high anomaly_score=30i,severity=60i 5";
        let found = Found::of(&format!("{point}\n{point}\n"), "{\"severity\":90,\"rule_id\":\"942100\"}\n").unwrap();
        assert_eq!((found.points, found.different, &found.came), (2, 1, &BTreeMap::from([((60, 942_100), 2)])));
        assert_eq!(found.alerts, BTreeMap::from([((90, 942_100), 1)]));
        assert!(Found::of("nonsense\n", "").is_err() && Found::of("", "{}\n").is_err());
    }
}
