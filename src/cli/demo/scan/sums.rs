//! What was written, answered and told, and whether it adds up. Pure.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use serde::Serialize;

use super::{super::account::same, template::Expected};
use crate::{
    metrics::Metrics,
    scan::{
        outcome::Verdict,
        tasks::{Figures, Standing, State},
    },
};

/// What the writer made, by the file's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written(BTreeMap<String, Expected>);

impl Written {
    pub(super) fn expect(&mut self, name: String, expected: Expected) {
        self.0.insert(name, expected);
    }
    pub(super) fn files(&self) -> u64 {
        self.0.len() as u64
    }
}

/// A task as it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub name: String,
    /// `None` if it has none.
    pub verdict: Option<Verdict>,
    pub partial: bool,
    pub cached: bool,
    pub rules: Vec<String>,
}

impl Answer {
    pub(super) fn of(standing: &Standing) -> Self {
        let outcome = standing.outcome.as_ref().filter(|_| standing.state == State::Done);
        Self {
            name: standing.task.path.lossy().into_owned(),
            verdict: outcome.map(|outcome| outcome.verdict),
            partial: outcome.is_some_and(|outcome| outcome.partial),
            cached: outcome.is_some_and(|outcome| outcome.cached),
            rules: outcome.map(|outcome| outcome.matches.iter().map(|found| found.rule.clone()).collect()).unwrap_or_default(),
        }
    }

    fn is_right(&self, expected: &Expected) -> bool {
        let verdict = if expected.rules.is_empty() { Verdict::Clean } else { Verdict::Matched };
        self.verdict == Some(verdict) && !self.partial && self.rules == expected.rules
    }
}

/// What the agent stored and wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub answers: Vec<Answer>,
    /// File and rule of each alert in the sink, and how many times it is there.
    pub alerts: BTreeMap<(String, String), u64>,
}

impl Found {
    /// Reads alerts, one a line.
    ///
    /// # Errors
    /// A line that is none of ours.
    pub(super) fn of(alerts: &str) -> anyhow::Result<Self> {
        let mut found = Self::default();
        for line in alerts.lines() {
            let none = || format!("an alert that is none of ours: {line}");
            let alert: serde_json::Value = serde_json::from_str(line).with_context(none)?;
            let text = |name: &str| Some(alert.get(name)?.as_str()?.to_owned());
            let key = (text("file_path").with_context(none)?, text("rule_name").with_context(none)?);
            *found.alerts.entry(key).or_default() += 1;
        }
        Ok(found)
    }
}

/// The sums.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Sums {
    pub files: u64,
    pub repeated_bytes: u64,
    pub answers: u64,
    pub clean: u64,
    pub matched: u64,
    pub cached: u64,
    /// Files without an answer, or with another one than the right one.
    pub wrong_answers: u64,
    /// Tasks beyond one for each file.
    pub more_tasks: u64,
    pub dead: u64,
    pub alerts_expected: u64,
    pub alerts_stored: u64,
    pub alerts_told: u64,
    pub alerts_repeated: u64,
    /// Alerts that should be there and are not, and the other way round.
    pub wrong_alerts: u64,
    pub in_flight_bytes: i64,
    pub clean_stop: bool,
}

impl Sums {
    pub(super) fn new(metrics: &Metrics, counted: &Figures, written: &Written, found: &Found, clean_stop: bool) -> Self {
        let mut sums = Self::of(written, found);
        sums.dead = counted.dead;
        sums.alerts_stored = counted.alerts;
        sums.in_flight_bytes = metrics.branch("scan", "scan").in_flight.get();
        sums.clean_stop = clean_stop;
        sums
    }

    fn of(written: &Written, found: &Found) -> Self {
        let answers: BTreeMap<&str, &Answer> = found.answers.iter().map(|answer| (answer.name.as_str(), answer)).collect();
        let expected: BTreeSet<(String, String)> =
            written.0.iter().flat_map(|(name, file)| file.rules.iter().map(move |rule| (name.clone(), (*rule).to_owned()))).collect();
        let told: BTreeSet<(String, String)> = found.alerts.keys().cloned().collect();
        let of = |is: fn(&Answer) -> bool| found.answers.iter().filter(|answer| is(answer)).count() as u64;
        let is_wrong = |(name, file): &(&String, &Expected)| answers.get(name.as_str()).is_none_or(|answer| !answer.is_right(file));
        Self {
            files: written.files(),
            repeated_bytes: written.0.values().filter(|file| file.is_repeat).count() as u64,
            answers: of(|answer| answer.verdict.is_some()),
            clean: of(|answer| answer.verdict == Some(Verdict::Clean)),
            matched: of(|answer| answer.verdict == Some(Verdict::Matched)),
            cached: of(|answer| answer.cached),
            wrong_answers: written.0.iter().filter(is_wrong).count() as u64,
            more_tasks: found.answers.len() as u64 - answers.len() as u64,
            alerts_expected: expected.len() as u64,
            alerts_told: told.len() as u64,
            alerts_repeated: found.alerts.values().map(|times| times - 1).sum(),
            wrong_alerts: expected.symmetric_difference(&told).count() as u64,
            ..Self::default()
        }
    }

    /// What does not add up; empty where all does.
    pub(super) fn broken(&self) -> Vec<String> {
        let sums = [
            same("files written and answers stored", self.files, self.answers),
            same("answers, and those that are clean or matched", self.answers, self.clean + self.matched),
            same("files with a wrong answer, and none", self.wrong_answers, 0),
            same("tasks beyond one for each file, and none", self.more_tasks, 0),
            same("files in the dead letter, and none", self.dead, 0),
            same("alerts expected and stored", self.alerts_expected, self.alerts_stored),
            same("alerts stored and told", self.alerts_stored, self.alerts_told),
            same("alerts told twice, and none", self.alerts_repeated, 0),
            same("alerts that are not as the files say, and none", self.wrong_alerts, 0),
            same("bytes of alerts in flight at the end, and none", self.in_flight_bytes, 0),
            (!self.clean_stop).then(|| "the agent stopped before all was done".to_owned()),
        ];
        sums.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::template, *};

    fn answer(name: &str, rules: &[&str]) -> Answer {
        let verdict = Some(if rules.is_empty() { Verdict::Clean } else { Verdict::Matched });
        Answer { name: name.into(), verdict, rules: rules.iter().map(|rule| (*rule).to_owned()).collect(), ..Answer::default() }
    }

    fn all(files: u64) -> (Written, Found) {
        let (mut written, mut found) = (Written::default(), Found::default());
        for n in 0..files {
            let (name, (_, expected)) = (template::name(n), template::file(n));
            found.answers.push(answer(&name, expected.rules));
            found.alerts.extend(expected.rules.iter().map(|rule| ((name.clone(), (*rule).to_owned()), 1)));
            written.expect(name, expected);
        }
        (written, found)
    }

    #[test]
    fn sums_add_up_only_if_every_file_and_alert_is_right() {
        let (written, good) = all(32);
        let sums = |found: &Found| {
            let sums = Sums::of(&written, found);
            Sums { alerts_stored: sums.alerts_expected, clean_stop: true, ..sums }
        };
        let told = sums(&good);
        assert_eq!(told.broken(), Vec::<String>::new());
        assert_eq!((told.files, told.clean, told.matched, told.alerts_told, told.repeated_bytes), (32, 16, 16, 20, 3));
        type Spoil = fn(&mut Found);
        let spoilt: [(Spoil, &str); 6] = [
            (|found| found.answers[0].verdict = None, "answers stored"),
            (|found| found.answers[0].partial = true, "wrong answer"),
            (|found| found.answers[4].rules.push("demo_letter".into()), "wrong answer"),
            (|found| found.answers.push(found.answers[1].clone()), "beyond one for each file"),
            (|found| drop(found.alerts.pop_first()), "not as the files say"),
            (|found| *found.alerts.values_mut().next().unwrap() = 2, "told twice"),
        ];
        for (spoil, part) in spoilt {
            let mut found = good.clone();
            spoil(&mut found);
            let broken = sums(&found).broken();
            assert!(broken.iter().any(|what| what.contains(part)), "{part}: {broken:?}");
        }
        assert!(Sums { clean_stop: false, ..told }.broken().iter().any(|what| what.contains("stopped before")));
        assert!(Found::of("{}\n").is_err());
    }
}
