//! What is measured of scanning, what is wrong with it, and who was told. Pure: values and times are handed in.
//!
//! ```text
//! outcomes, figures, host ── record ──> series ──> summary, performance, export
//!                                         └── check ──> rules ──> alerts fired and resolved
//! ```
//!
//! A metric has a flat name (`queue.size`). One that nobody could measure is absent, which is neither good nor bad.
//!
//! Refuses to know tasks, files, HTTP, and what becomes of an alert. Only [`export::write`] touches the disk.

pub mod export;
mod health;
mod performance;
pub mod rules;
mod series;

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub use health::{Grade, Health};
pub use rules::{Alert, AlertLevel, Change, Condition, Resolved, Rule, RuleError};

use crate::{clock::Nanos, limits};
use performance::Performance;
use rules::Rules;
use series::{Rates, Series};

/// A moment on both clocks: the wall's for what is shown, the monotonic one for spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    pub wall: Nanos,
    pub mono: Nanos,
}

impl Moment {
    /// Seconds since 1970.
    pub fn seconds(self) -> f64 {
        self.wall as f64 / 1e9
    }
}

/// How values of a metric belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value is added to the sum of all earlier ones.
    Counter,
    /// The last value stands.
    Gauge,
    Histogram,
    /// A histogram of milliseconds.
    Timer,
}

/// `[monitor]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Between two looks at queue, workers and host.
    pub collect_s: u64,
    /// Between two looks at the rules.
    pub check_s: u64,
    /// Alerts that are remembered.
    pub history_max: usize,
    /// Newest samples whose median is the baseline.
    pub baseline_samples: usize,
    /// Where exports go; without it there are none.
    pub export_dir: Option<std::path::PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { collect_s: 30, check_s: 60, history_max: 1000, baseline_samples: 100, export_dir: None }
    }
}

/// Queue and workers now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Tasks that wait.
    pub queued: u64,
    /// Seconds that the oldest of them has waited.
    pub oldest_age_s: f64,
    pub dead: u64,
    pub workers: u64,
    pub workers_healthy: u64,
    pub workers_offline: u64,
}

/// The host now; what could not be read is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Host {
    /// 0 to 100, of all processors, since the look before.
    pub cpu_percent: Option<f64>,
    pub memory_percent: Option<f64>,
    /// In units of 2^20 bytes.
    pub memory_available_mb: Option<f64>,
    /// Of the fullest file system of roots and state.
    pub disk_percent: Option<f64>,
    /// In units of 2^30 bytes.
    pub disk_free_gb: Option<f64>,
    /// Bytes since the host's start.
    pub network_sent: Option<u64>,
    pub network_received: Option<u64>,
}

/// A scan that ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finished {
    pub is_error: bool,
    pub scan_ms: f64,
    /// From submission to start.
    pub wait_ms: f64,
}

/// Metrics, rules and alerts of one node.
#[derive(Debug)]
pub struct Monitor {
    settings: Settings,
    series: BTreeMap<String, Series>,
    rates: Rates,
    network: [Option<u64>; 2],
    rules: Rules,
    performance: Performance,
    /// Values of names that there was no room for.
    unnamed: u64,
}

impl Monitor {
    /// A monitor with the default rules and no values.
    ///
    /// - `begun`: the start of the node; ids of alerts go on from there.
    pub fn new(settings: Settings) -> Self {
        let rules = Rules::new(settings.history_max);
        let performance = Performance::new(settings.baseline_samples);
        Self { settings, series: BTreeMap::new(), rates: Rates::default(), network: [None; 2], rules, performance, unnamed: 0 }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes a value. What is no number is left out, and so is a name for which there is no room.
    pub fn record(&mut self, name: &str, kind: Kind, value: f64, now: Moment) {
        if !value.is_finite() {
            return;
        }
        if !self.series.contains_key(name) {
            if self.series.len() >= limits::MONITOR_METRICS_MAX {
                self.unnamed += 1;
                return;
            }
            self.series.insert(name.to_owned(), Series::new(kind));
        }
        if let Some(series) = self.series.get_mut(name) {
            series.record(value, now);
        }
    }

    /// A gauge has no value any more, or has this one.
    fn gauge(&mut self, name: &str, value: Option<f64>, now: Moment) {
        match value {
            Some(value) => self.record(name, Kind::Gauge, value, now),
            None => {
                if let Some(series) = self.series.get_mut(name) {
                    series.forget();
                }
            }
        }
    }

    /// A scan ended.
    pub fn finished(&mut self, scan: Finished, now: Moment) {
        self.rates.finished(scan.is_error, scan.scan_ms, now.mono);
        self.record("scan.time", Kind::Timer, scan.scan_ms, now);
        self.record("queue.wait", Kind::Timer, scan.wait_ms, now);
    }

    /// Looks at everything; to be called every [`Settings::collect_s`].
    pub fn collect(&mut self, figures: &Figures, host: &Host, now: Moment) {
        let rates = self.rates.now(now.mono);
        self.gauge("scanner.throughput", Some(rates.throughput), now);
        self.gauge("scanner.error_rate", rates.error_rate, now);
        self.gauge("scanner.average_scan_time_ms", rates.average_ms, now);
        self.gauge("scanner.p95_scan_time_ms", rates.p95_ms, now);
        self.gauge("queue.size", Some(figures.queued as f64), now);
        self.gauge("queue.oldest_age_s", Some(figures.oldest_age_s), now);
        self.gauge("queue.dead", Some(figures.dead as f64), now);
        self.gauge("workers.total", Some(figures.workers as f64), now);
        self.gauge("workers.healthy", Some(figures.workers_healthy as f64), now);
        self.gauge("workers.offline_count", Some(figures.workers_offline as f64), now);
        self.gauge("system.cpu_percent", host.cpu_percent, now);
        self.gauge("system.memory_percent", host.memory_percent, now);
        self.gauge("system.memory_available_mb", host.memory_available_mb, now);
        self.gauge("system.disk_percent", host.disk_percent, now);
        self.gauge("system.disk_free_gb", host.disk_free_gb, now);
        let network = [("system.network_bytes_sent", host.network_sent), ("system.network_bytes_recv", host.network_received)];
        for (n, (name, total)) in network.into_iter().enumerate() {
            let before = self.network.get(n).copied().flatten();
            // The host's sums begin anew with an interface: then nothing is known of what came between.
            if let (Some(before), Some(total)) = (before, total)
                && total >= before
            {
                self.record(name, Kind::Counter, (total - before) as f64, now);
            }
            if let Some(last) = self.network.get_mut(n) {
                *last = total;
            }
        }
        let value = |name: &str| self.value(name);
        let sample = performance::METRICS.map(|(_, metric)| value(metric));
        self.performance.offer(sample, now);
    }

    /// The value of a metric by its flat name: of a counter its sum, of a histogram its last value.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.series.get(name).and_then(Series::value)
    }

    /// Holds every rule against its metric; to be called every [`Settings::check_s`].
    ///
    /// What it gives is to be kept and sent on.
    pub fn check(&mut self, now: Moment) -> Vec<Change> {
        let Self { series, rules, .. } = self;
        rules.check(|name| series.get(name).and_then(Series::value), now)
    }

    /// Rules by name.
    pub fn rules(&self) -> impl Iterator<Item = (&str, &Rule)> {
        self.rules.all()
    }

    /// Puts a rule in, or another one in its place.
    ///
    /// # Errors
    /// What is wrong with it, or that there are too many.
    pub fn set_rule(&mut self, name: &str, rule: Rule) -> Result<(), RuleError> {
        self.rules.set(name, rule)
    }

    /// Takes a rule out, and says whether there was one. Its active alert is resolved, as `rule_removed`.
    pub fn remove_rule(&mut self, name: &str, now: Moment) -> Option<Vec<Change>> {
        self.rules.remove(name, now)
    }

    /// Resolves an active alert.
    ///
    /// - `by`: name of the key that asked.
    pub fn resolve(&mut self, id: &str, by: &str, now: Moment) -> Resolved {
        self.rules.resolve(id, by, now)
    }

    /// Takes over rules as they were kept; null is a rule that was taken out. What cannot be read is left out, and told.
    pub fn restore_rules(&mut self, kept: impl IntoIterator<Item = (String, Value)>, now: Moment) -> Vec<String> {
        let mut unread = Vec::new();
        for (name, row) in kept {
            let is_done = match serde_json::from_value::<Option<Rule>>(row) {
                Ok(Some(rule)) => self.rules.set(&name, rule).is_ok(),
                Ok(None) => {
                    self.rules.remove(&name, now);
                    true
                }
                Err(_) => false,
            };
            if !is_done {
                unread.push(name);
            }
        }
        unread
    }

    /// Takes over the alerts of an earlier run, the oldest first.
    pub fn restore(&mut self, alerts: impl IntoIterator<Item = Alert>) {
        self.rules.restore(alerts);
    }

    /// Active alerts, the oldest first.
    pub fn active(&self) -> impl Iterator<Item = &Alert> {
        self.rules.history().filter(|alert| !alert.resolved)
    }

    /// How many scans took at most so many seconds, for bounds in order; then the sum of seconds and the number of all.
    pub fn scan_seconds(&self, bounds: &[f64]) -> (Vec<u64>, f64, u64) {
        self.series.get("scan.time").map_or_else(|| (vec![0; bounds.len()], 0.0, 0), |series| series.below(bounds))
    }

    /// `{counters, gauges, histograms, timers}`.
    pub fn metrics(&self) -> Value {
        let mut told = json!({"counters": {}, "gauges": {}, "histograms": {}, "timers": {}});
        for (name, series) in &self.series {
            if let Some(value) = series.told() {
                told[series.group()][name] = value;
            }
        }
        told
    }

    /// Each metric of the last `window_s` seconds: `{count, min, max, avg, median, latest, trend}`.
    pub fn summary(&self, window_s: u64, now: Moment) -> Value {
        let summaries = self.series.iter().filter_map(|(name, series)| Some((name.clone(), series.summary(since(now, window_s))?)));
        Value::Object(summaries.collect())
    }

    /// `{active_alerts, alert_history, summary}`: of the history the last fifty, the newest first.
    pub fn alerts(&self) -> Value {
        let mut newest: Vec<&Alert> = self.rules.history().collect();
        newest.reverse();
        let active: Vec<&&Alert> = newest.iter().filter(|alert| !alert.resolved).collect();
        let mut levels = json!({"info": 0, "warning": 0, "error": 0, "critical": 0});
        for alert in &newest {
            let count = &mut levels[alert.level.word()];
            *count = json!(count.as_u64().unwrap_or(0) + 1);
        }
        json!({
            "active_alerts": active,
            "alert_history": newest.iter().take(50).collect::<Vec<_>>(),
            "summary": {
                "total_alerts": newest.len(),
                "active_alerts": active.len(),
                "resolved_alerts": newest.len() - active.len(),
                "alerts_by_level": levels,
                "recent_alerts": newest.iter().take(10).collect::<Vec<_>>(),
            },
        })
    }

    /// Judges what was collected last.
    pub fn health(&self) -> Health {
        Health::of(|name| self.value(name))
    }

    /// `{metrics, alerts, performance, health, timestamp}`.
    pub fn dashboard(&self, now: Moment) -> Value {
        json!({
            "metrics": self.metrics(),
            "alerts": self.alerts(),
            "performance": self.performance(),
            "health": self.health().told(),
            "timestamp": now.seconds(),
        })
    }

    /// Each metric of performance: `{current, min, max, avg, trend, baseline_deviation}`.
    pub fn performance(&self) -> Value {
        self.performance.told()
    }

    /// Rows `time,name,kind,value` of the last `window_s` seconds, in the order of names and times.
    pub fn csv(&self, window_s: u64, now: Moment) -> String {
        let mut out = b"time,name,kind,value\n".to_vec();
        for (name, series) in &self.series {
            for (at, value) in series.points(since(now, window_s)) {
                crate::json::time(&mut out, i64::try_from(at.wall / 1_000_000).unwrap_or(i64::MAX));
                out.extend_from_slice(format!(",{name},{},", series.word()).as_bytes());
                crate::json::number(&mut out, value);
                out.push(b'\n');
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// The monotonic time so many seconds ago.
fn since(now: Moment, window_s: u64) -> Nanos {
    now.mono.saturating_sub(window_s.saturating_mul(1_000_000_000))
}

#[cfg(test)]
mod tests;
