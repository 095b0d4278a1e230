//! A sample a minute of what matters, its usual value, and where it goes.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::{Moment, series};
use crate::clock::Nanos;

/// How each is called, and its metric.
pub(super) const METRICS: [(&str, &str); 7] = [
    ("throughput", "scanner.throughput"),
    ("error_rate", "scanner.error_rate"),
    ("average_scan_time", "scanner.average_scan_time_ms"),
    ("queue_size", "queue.size"),
    ("active_workers", "workers.healthy"),
    ("cpu", "system.cpu_percent"),
    ("memory", "system.memory_percent"),
];

const MINUTE: Nanos = 60_000_000_000;
/// Samples kept: those of a day.
const SAMPLES_MAX: usize = 1440;
/// Samples from which on there is a trend.
const TREND_MIN: usize = 10;

type Sample = [Option<f64>; METRICS.len()];

/// Samples of a day.
#[derive(Debug)]
pub(super) struct Performance {
    samples: VecDeque<Sample>,
    baseline: usize,
    /// When the last one was taken, monotonic.
    last: Option<Nanos>,
}

impl Performance {
    pub(super) fn new(baseline: usize) -> Self {
        Self { samples: VecDeque::new(), baseline, last: None }
    }

    /// Takes it if a minute has gone by.
    pub(super) fn offer(&mut self, sample: Sample, now: Moment) {
        if self.last.is_some_and(|last| now.mono < last + MINUTE) {
            return;
        }
        self.last = Some(now.mono);
        if self.samples.len() >= SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    pub(super) fn told(&self) -> Value {
        let told = METRICS.iter().enumerate().map(|(n, (name, _))| {
            let values: Vec<f64> = self.samples.iter().filter_map(|sample| sample.get(n).copied().flatten()).collect();
            ((*name).to_owned(), one(&values, self.baseline))
        });
        json!({"samples": self.samples.len(), "metrics": Value::Object(told.collect())})
    }
}

fn one(values: &[f64], baseline: usize) -> Value {
    let Some(current) = values.last() else {
        return json!({"current": null, "min": null, "max": null, "avg": null, "trend": "insufficient_data", "baseline_deviation": null});
    };
    let usual = series::median(values.get(values.len().saturating_sub(baseline)..).unwrap_or_default());
    let (min, max) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), v| (min.min(*v), max.max(*v)));
    let trend = if values.len() < TREND_MIN { "insufficient_data" } else { series::trend(values, 3, 0.05) };
    // Percent of nothing is no number.
    let deviation = (usual != 0.0).then(|| (current - usual) / usual * 100.0);
    json!({"current": current, "min": min, "max": max, "avg": series::mean(values), "trend": trend, "baseline_deviation": deviation})
}
