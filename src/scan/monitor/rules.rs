//! Rules over metrics, and the alerts that they fire and resolve. Pure.
//!
//! At each check, for a rule and the value of its metric:
//!
//! | value | before | becomes |
//! |---|---|---|
//! | absent | any | the same; spans begin anew |
//! | true, for less than `for_s` | quiet | quiet |
//! | true, for `for_s` | quiet | active: an alert is fired |
//! | true | active | active |
//! | true | resolved by a person | the same: it may fire again only once it was false |
//! | false | quiet, resolved by a person | quiet |
//! | false, for less than `clear_s` | active | active |
//! | false, for `clear_s` | active | quiet: the alert is resolved by `auto` |
//!
//! A low throughput is false while nothing waits: who has nothing to do is not slow.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Moment;
use crate::{clock::Nanos, limits};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertLevel {
    Info,
    Warning,
    Error,
    Critical,
}

impl AlertLevel {
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// How value and threshold are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    #[serde(rename = ">")]
    Above,
    #[serde(rename = "<")]
    Below,
    #[serde(rename = "==")]
    Equal,
    #[serde(rename = ">=")]
    AtLeast,
    #[serde(rename = "<=")]
    AtMost,
}

impl Condition {
    fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::Above => value > threshold,
            Self::Below => value < threshold,
            Self::Equal => value == threshold,
            Self::AtLeast => value >= threshold,
            Self::AtMost => value <= threshold,
        }
    }
    fn is_low(self) -> bool {
        matches!(self, Self::Below | Self::AtMost)
    }
}

/// When an alert is fired and resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// By its flat name.
    pub metric: String,
    pub condition: Condition,
    pub threshold: f64,
    pub level: AlertLevel,
    /// In it `{value}` is replaced.
    pub message: String,
    /// Seconds for which it must be so.
    #[serde(default)]
    pub for_s: u64,
    /// Seconds of the contrary after which it is over.
    #[serde(default = "clear_s")]
    pub clear_s: u64,
}

fn clear_s() -> u64 {
    120
}

/// Why there is no such rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleError {
    Name,
    /// The field, and what is wrong with it.
    Field(&'static str, &'static str),
    TooMany,
}

/// Something that was seen, and whether it is over. Upstream's members, and `resolved_by`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    pub alert_id: String,
    pub level: AlertLevel,
    pub title: String,
    pub message: String,
    /// Seconds since 1970.
    pub timestamp: f64,
    /// The rule.
    pub source: String,
    /// `{metric, value, threshold}`.
    pub metadata: serde_json::Value,
    pub resolved: bool,
    pub resolved_at: Option<f64>,
    /// `auto`, `rule_removed`, or the name of a key.
    pub resolved_by: Option<String>,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Fired(Alert),
    Resolved(Alert),
}

/// What became of a wish to resolve an alert.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolved {
    Done(Box<Change>),
    /// It is resolved already.
    Already,
    Unknown,
}

#[derive(Clone, Debug, Default)]
struct Standing {
    /// Monotonic.
    true_since: Option<Nanos>,
    false_since: Option<Nanos>,
    active: Option<String>,
    is_held: bool,
}

/// Rules by name, how each stands, and the alerts.
#[derive(Debug)]
pub(super) struct Rules {
    rules: BTreeMap<String, (Rule, Standing)>,
    /// The oldest first. Active ones stay whatever their number.
    history: VecDeque<Alert>,
    history_max: usize,
    /// Of the last id: milliseconds and number.
    last: (u64, u64),
}

impl Rules {
    /// The default rules.
    pub(super) fn new(history_max: usize) -> Self {
        use AlertLevel::{Critical, Error, Warning};
        use Condition::{Above, Below};
        let defaults = [
            ("high_error_rate", "scanner.error_rate", Above, 0.1, Error, "the share of scans that fail is {value}"),
            ("high_queue_size", "queue.size", Above, 100.0, Warning, "{value} tasks wait"),
            ("low_throughput", "scanner.throughput", Below, 1.0, Warning, "{value} files are scanned a second, and others wait"),
            ("worker_offline", "workers.offline_count", Above, 0.0, Error, "{value} workers are offline"),
            ("high_cpu_usage", "system.cpu_percent", Above, 80.0, Warning, "the processors are busy by {value} %"),
            ("high_memory_usage", "system.memory_percent", Above, 80.0, Warning, "memory is in use by {value} %"),
            ("low_disk_space", "system.disk_percent", Above, 90.0, Critical, "a disk is full by {value} %"),
        ];
        let rules = defaults.map(|(name, metric, condition, threshold, level, message)| {
            let (metric, message) = (metric.to_owned(), message.to_owned());
            (name.to_owned(), (Rule { metric, condition, threshold, level, message, for_s: 0, clear_s: clear_s() }, Standing::default()))
        });
        Self { rules: rules.into(), history: VecDeque::new(), history_max, last: (0, 0) }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &Rule)> {
        self.rules.iter().map(|(name, (rule, _))| (name.as_str(), rule))
    }

    pub(super) fn history(&self) -> impl DoubleEndedIterator<Item = &Alert> {
        self.history.iter()
    }

    pub(super) fn set(&mut self, name: &str, rule: Rule) -> Result<(), RuleError> {
        let is_name = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !is_name {
            return Err(RuleError::Name);
        }
        check(&rule)?;
        if !self.rules.contains_key(name) && self.rules.len() >= limits::MONITOR_RULES_MAX {
            return Err(RuleError::TooMany);
        }
        let standing = self.rules.remove(name).map(|(_, standing)| standing).unwrap_or_default();
        self.rules.insert(name.to_owned(), (rule, standing));
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str, now: Moment) -> Option<Vec<Change>> {
        let (_, standing) = self.rules.remove(name)?;
        Some(standing.active.and_then(|id| self.close(&id, "rule_removed", now)).into_iter().collect())
    }

    pub(super) fn check(&mut self, value: impl Fn(&str) -> Option<f64>, now: Moment) -> Vec<Change> {
        let is_idle = value("queue.size").is_none_or(|queued| queued <= 0.0);
        let mut changes = Vec::new();
        let names: Vec<String> = self.rules.keys().cloned().collect();
        for name in names {
            let Some((rule, standing)) = self.rules.get_mut(&name) else { continue };
            let Some(value) = value(&rule.metric) else {
                (standing.true_since, standing.false_since) = (None, None);
                continue;
            };
            let counts = !(is_idle && rule.metric == "scanner.throughput" && rule.condition.is_low());
            let waited = |since: Nanos, seconds: u64| now.mono.saturating_sub(since) >= seconds.saturating_mul(1_000_000_000);
            if counts && rule.condition.holds(value, rule.threshold) {
                standing.false_since = None;
                let since = *standing.true_since.get_or_insert(now.mono);
                if standing.active.is_none() && !standing.is_held && waited(since, rule.for_s) {
                    let rule = rule.clone();
                    let alert = self.fire(&name, &rule, value, now);
                    changes.push(Change::Fired(alert));
                }
            } else {
                (standing.true_since, standing.is_held) = (None, false);
                let since = *standing.false_since.get_or_insert(now.mono);
                if waited(since, rule.clear_s)
                    && let Some(id) = standing.active.take()
                {
                    changes.extend(self.close(&id, "auto", now));
                }
            }
        }
        changes
    }

    fn fire(&mut self, name: &str, rule: &Rule, value: f64, now: Moment) -> Alert {
        let mut digits = Vec::new();
        crate::json::number(&mut digits, value);
        let alert = Alert {
            alert_id: self.next_id(now),
            level: rule.level,
            title: format!("Alert: {name}"),
            message: rule.message.replace("{value}", &String::from_utf8_lossy(&digits)),
            timestamp: now.seconds(),
            source: name.to_owned(),
            metadata: json!({"metric": rule.metric, "value": value, "threshold": rule.threshold}),
            resolved: false,
            resolved_at: None,
            resolved_by: None,
        };
        if let Some((_, standing)) = self.rules.get_mut(name) {
            standing.active = Some(alert.alert_id.clone());
        }
        self.push(alert.clone());
        alert
    }

    /// `alert_<ms>_<seq>`, greater than all before it.
    fn next_id(&mut self, now: Moment) -> String {
        let ms = (now.wall / 1_000_000).max(self.last.0);
        self.last = (ms, if ms == self.last.0 { self.last.1 + 1 } else { 1 });
        format!("alert_{ms}_{}", self.last.1)
    }

    fn push(&mut self, alert: Alert) {
        self.history.push_back(alert);
        while self.history.len() > self.history_max {
            let Some(oldest) = self.history.iter().position(|alert| alert.resolved) else { break };
            self.history.remove(oldest);
        }
    }

    fn close(&mut self, id: &str, by: &str, now: Moment) -> Option<Change> {
        let alert = self.history.iter_mut().find(|alert| alert.alert_id == id && !alert.resolved)?;
        alert.resolved = true;
        alert.resolved_at = Some(now.seconds());
        alert.resolved_by = Some(by.to_owned());
        Some(Change::Resolved(alert.clone()))
    }

    pub(super) fn resolve(&mut self, id: &str, by: &str, now: Moment) -> Resolved {
        if let Some(change) = self.close(id, by, now) {
            let standing = self.rules.values_mut().map(|(_, standing)| standing).find(|s| s.active.as_deref() == Some(id));
            if let Some(standing) = standing {
                (standing.active, standing.is_held) = (None, true);
            }
            return Resolved::Done(Box::new(change));
        }
        if self.history.iter().any(|alert| alert.alert_id == id) { Resolved::Already } else { Resolved::Unknown }
    }

    pub(super) fn restore(&mut self, alerts: impl IntoIterator<Item = Alert>) {
        for alert in alerts {
            let mut numbers = alert.alert_id.strip_prefix("alert_").unwrap_or_default().split('_').map(|n| n.parse().unwrap_or(0));
            self.last = self.last.max((numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)));
            if !alert.resolved
                && let Some((_, standing)) = self.rules.get_mut(&alert.source)
            {
                standing.active = Some(alert.alert_id.clone());
            }
            self.push(alert);
        }
    }
}

/// What is wrong with a rule.
fn check(rule: &Rule) -> Result<(), RuleError> {
    let is_metric = (1..=128).contains(&rule.metric.len()) && rule.metric.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !is_metric {
        return Err(RuleError::Field("metric", "must be 1 to 128 of letters, digits, dots, dashes and underscores"));
    }
    if !rule.threshold.is_finite() {
        return Err(RuleError::Field("threshold", "must be a finite number"));
    }
    if rule.message.is_empty() || rule.message.len() > 1024 {
        return Err(RuleError::Field("message", "must have 1 to 1024 bytes"));
    }
    if rule.message.replace("{value}", "").contains(['{', '}']) {
        return Err(RuleError::Field("message", "may hold no braces but {value}"));
    }
    for (field, seconds) in [("for_s", rule.for_s), ("clear_s", rule.clear_s)] {
        if seconds > 86_400 {
            return Err(RuleError::Field(field, "must be 0 to 86400"));
        }
    }
    Ok(())
}
