//! Values of one metric: the last ones with their times, and a histogram of all.

use std::{collections::VecDeque, fmt};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::{Kind, Moment};
use crate::{clock::Nanos, limits};

const SECOND: Nanos = 1_000_000_000;
/// Histograms hold thousandths, up to an hour of milliseconds, to one in a hundred.
const SCALE: f64 = 1000.0;
const HIGHEST: u64 = 3_600_000_000;

/// An empty histogram of thousandths.
fn empty() -> Histogram<u64> {
    let made = Histogram::new_with_bounds(1, HIGHEST, 2);
    // The bounds above are legal ones.
    made.unwrap_or_else(|error| unreachable!("{error}"))
}

fn put(histogram: &mut Histogram<u64>, value: f64) {
    histogram.saturating_record(((value.max(0.0) * SCALE).round() as u64).max(1));
}

fn quantile(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / SCALE
}

/// One metric.
pub(super) struct Series {
    kind: Kind,
    /// The newest last.
    points: VecDeque<(Moment, f64)>,
    /// Of a counter the sum, else the last value; absent where nobody knows.
    value: Option<f64>,
    spread: Option<Spread>,
}

/// All values of a histogram.
struct Spread {
    histogram: Histogram<u64>,
    sum: f64,
    min: f64,
    max: f64,
}

impl Series {
    pub(super) fn new(kind: Kind) -> Self {
        let spread = matches!(kind, Kind::Histogram | Kind::Timer).then(|| Spread {
            histogram: empty(),
            sum: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
        });
        Self { kind, points: VecDeque::new(), value: None, spread }
    }

    pub(super) fn record(&mut self, value: f64, now: Moment) {
        let stands = match self.kind {
            Kind::Counter => self.value.unwrap_or(0.0) + value,
            _ => value,
        };
        self.value = Some(stands);
        if let Some(spread) = &mut self.spread {
            put(&mut spread.histogram, value);
            (spread.sum, spread.min, spread.max) = (spread.sum + value, spread.min.min(value), spread.max.max(value));
        }
        if self.points.len() >= limits::MONITOR_POINTS_MAX {
            self.points.pop_front();
        }
        self.points.push_back((now, stands));
    }

    /// The value of a gauge is not known any more.
    pub(super) fn forget(&mut self) {
        self.value = None;
    }

    pub(super) fn value(&self) -> Option<f64> {
        self.value
    }

    pub(super) fn word(&self) -> &'static str {
        match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Timer => "timer",
        }
    }

    pub(super) fn group(&self) -> &'static str {
        match self.kind {
            Kind::Counter => "counters",
            Kind::Gauge => "gauges",
            Kind::Histogram => "histograms",
            Kind::Timer => "timers",
        }
    }

    /// As `/monitoring/metrics` shows it; a timer's members say `_ms`.
    pub(super) fn told(&self) -> Option<Value> {
        let Some(spread) = &self.spread else { return self.value.map(|value| json!(value)) };
        let count = spread.histogram.len();
        let unit = if self.kind == Kind::Timer { "_ms" } else { "" };
        let mut told = serde_json::Map::from_iter([("count".to_owned(), json!(count))]);
        let average = spread.sum / count.max(1) as f64;
        let of = |q| quantile(&spread.histogram, q);
        let members =
            [("min", spread.min), ("max", spread.max), ("avg", average), ("median", of(0.5)), ("p95", of(0.95)), ("p99", of(0.99))];
        told.extend(members.map(|(name, value)| (format!("{name}{unit}"), json!(value))));
        Some(Value::Object(told))
    }

    /// Of a timer: how many values are at most so many seconds, their sum in seconds, and their number.
    pub(super) fn below(&self, bounds: &[f64]) -> (Vec<u64>, f64, u64) {
        let Some(spread) = &self.spread else { return (vec![0; bounds.len()], 0.0, 0) };
        let counts = bounds.iter().map(|s| spread.histogram.count_between(0, ((s * 1000.0 * SCALE) as u64).clamp(1, HIGHEST)));
        (counts.collect(), spread.sum / 1000.0, spread.histogram.len())
    }

    /// Values not older than `from`, monotonic.
    pub(super) fn points(&self, from: Nanos) -> impl Iterator<Item = (Moment, f64)> {
        self.points.iter().copied().filter(move |(at, _)| at.mono >= from)
    }

    pub(super) fn summary(&self, from: Nanos) -> Option<Value> {
        let values: Vec<f64> = self.points(from).map(|(_, value)| value).collect();
        let latest = *values.last()?;
        let (min, max) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), v| (min.min(*v), max.max(*v)));
        Some(json!({
            "count": values.len(), "min": min, "max": max, "avg": mean(&values), "median": median(&values), "latest": latest,
            "trend": trend(&values, 4, 0.1),
        }))
    }
}

impl fmt::Debug for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.word(), self.value)
    }
}

pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |n: usize| sorted.get(n).copied().unwrap_or(0.0);
    let half = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) && half > 0 { (at(half - 1) + at(half)) / 2.0 } else { at(half) }
}

/// The mean of the last part against the mean of the first.
///
/// - `parts`: how many parts there are: 4 for quarters.
/// - `share`: of the first by which the last must differ.
pub(super) fn trend(values: &[f64], parts: usize, share: f64) -> &'static str {
    let part = values.len() / parts;
    if part == 0 {
        return "stable";
    }
    let first = mean(values.get(..part).unwrap_or_default());
    let last = mean(values.get(values.len() - part..).unwrap_or_default());
    let room = first.abs() * share;
    match last - first {
        more if more > room => "increasing",
        less if less < -room => "decreasing",
        _ => "stable",
    }
}

/// What scans of the last minutes come to.
pub(super) struct Now {
    /// Files a second of the last minute.
    pub throughput: f64,
    /// Absent below [`RATE_MIN`] scans.
    pub error_rate: Option<f64>,
    pub average_ms: Option<f64>,
    pub p95_ms: Option<f64>,
}

/// Scans from which on a rate of errors means something.
const RATE_MIN: u64 = 20;
/// Seconds of the window for errors and times.
const WINDOW_S: u64 = 300;
/// Seconds of the window for throughput.
const RECENT_S: u64 = 60;

/// Scans by second.
#[derive(Default)]
pub(super) struct Rates {
    seconds: VecDeque<Second>,
    /// A histogram a minute.
    minutes: VecDeque<(u64, Histogram<u64>)>,
}

struct Second {
    at: u64,
    finished: u64,
    errors: u64,
    ms: f64,
}

impl Rates {
    pub(super) fn finished(&mut self, is_error: bool, ms: f64, mono: Nanos) {
        self.tidy(mono);
        let at = mono / SECOND;
        if self.seconds.back().is_none_or(|last| last.at != at) {
            self.seconds.push_back(Second { at, finished: 0, errors: 0, ms: 0.0 });
        }
        if let Some(last) = self.seconds.back_mut() {
            (last.finished, last.errors, last.ms) = (last.finished + 1, last.errors + u64::from(is_error), last.ms + ms);
        }
        if self.minutes.back().is_none_or(|(minute, _)| *minute != at / 60) {
            self.minutes.push_back((at / 60, empty()));
        }
        if let Some((_, histogram)) = self.minutes.back_mut() {
            put(histogram, ms);
        }
    }

    pub(super) fn now(&mut self, mono: Nanos) -> Now {
        self.tidy(mono);
        let at = mono / SECOND;
        let recent: u64 = self.seconds.iter().filter(|second| second.at + RECENT_S > at).map(|second| second.finished).sum();
        let (finished, errors, ms) =
            self.seconds.iter().fold((0, 0, 0.0), |(n, errors, ms), s| (n + s.finished, errors + s.errors, ms + s.ms));
        let mut all = empty();
        for (_, histogram) in &self.minutes {
            // Of the same bounds.
            let _ = all.add(histogram);
        }
        Now {
            throughput: recent as f64 / RECENT_S as f64,
            error_rate: (finished >= RATE_MIN).then(|| errors as f64 / finished as f64),
            average_ms: (finished > 0).then(|| ms / finished as f64),
            p95_ms: (!all.is_empty()).then(|| quantile(&all, 0.95)),
        }
    }

    fn tidy(&mut self, mono: Nanos) {
        let at = mono / SECOND;
        while self.seconds.front().is_some_and(|second| second.at + WINDOW_S <= at) {
            self.seconds.pop_front();
        }
        while self.minutes.front().is_some_and(|(minute, _)| minute + WINDOW_S / 60 < at / 60) {
            self.minutes.pop_front();
        }
    }
}

impl fmt::Debug for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} seconds", self.seconds.len())
    }
}
