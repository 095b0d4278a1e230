//! Figures of scanning for Prometheus, made from what the store and the monitor know.

use std::{collections::BTreeMap, fmt::Write as _, sync::PoisonError};

use super::Scan;
use crate::clock::SystemClock;

/// Seconds: bounds of the histogram.
const BOUNDS: [f64; 10] = [0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];
/// Workers whose load is told one by one.
const WORKERS_MAX: usize = 100;

impl Scan {
    /// In Prometheus's text form, without its end.
    pub(in crate::api) fn text(&self, clock: &SystemClock) -> String {
        let figures = self.tasks.figures();
        let since = &figures.since_start;
        let mut text = String::new();
        let out = &mut text;
        family(out, "shipper_scan_files", "counter", "Files by verdict, since the start", "verdict", &since.finished);
        let states = BTreeMap::from([
            ("queued", figures.queued),
            ("leased", figures.leased),
            ("done", figures.done),
            ("dead", figures.dead),
            ("cancelled", figures.cancelled),
        ]);
        family(out, "shipper_scan_tasks", "gauge", "Tasks by state", "state", &states);
        let (counts, sum, all) = self.monitor.lock().unwrap_or_else(PoisonError::into_inner).scan_seconds(&BOUNDS);
        head(out, "shipper_scan_seconds", "histogram", "Seconds of scans");
        for (bound, count) in BOUNDS.iter().zip(counts) {
            let _ = writeln!(out, "shipper_scan_seconds_bucket{{le=\"{bound:?}\"}} {count}");
        }
        let _ = writeln!(
            out,
            "shipper_scan_seconds_bucket{{le=\"+Inf\"}} {all}\nshipper_scan_seconds_sum {sum:?}\nshipper_scan_seconds_count {all}"
        );
        single(out, "shipper_scan_bytes", "counter", "Bytes of scanned files, since the start", since.bytes);
        family(out, "shipper_scan_requeued", "counter", "Tasks given out again, by reason, since the start", "reason", &since.requeued);
        family(out, "shipper_scan_dead", "counter", "Tasks given up, by reason, since the start", "reason", &since.dead);
        single(out, "shipper_scan_cache_hits", "counter", "Files whose verdict was known, since the start", since.cache_hits);
        family(
            out,
            "shipper_scan_partial",
            "counter",
            "Files of which not all was seen, by reason, since the start",
            "reason",
            &since.partial,
        );
        single(
            out,
            "shipper_scan_child_deaths",
            "counter",
            "Scanning processes that died at a file, since the start",
            self.hands.child_deaths(),
        );
        let lost = self.hands.zeek_lost();
        if !lost.is_empty() {
            let help = "Rows of Zeek that gave way, files that gave way waiting for one, and files whose row never came, since the start";
            family(out, "shipper_scan_zeek_lost", "counter", help, "reason", &lost);
        }
        let rules = self.hands.rules();
        let length = |name: &str| rules[name].as_array().map_or(0, Vec::len) as u64;
        single(out, "shipper_scan_rules", "gauge", "Rules in use", length("rules"));
        single(out, "shipper_scan_rules_errors", "gauge", "What is wrong in the files of rules", length("errors"));
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut standing = BTreeMap::from([("healthy", 0), ("unhealthy", 0), ("offline", 0)]);
        let in_flight = |worker: &str| figures.in_flight.get(worker).map_or(0, |n| u32::try_from(*n).unwrap_or(u32::MAX));
        let rows = registry.rows(&in_flight, clock);
        for row in &rows {
            let status = serde_json::json!(row.status);
            if let Some(count) = standing.get_mut(status.as_str().unwrap_or_default()) {
                *count += 1;
            }
        }
        family(out, "shipper_scan_workers", "gauge", "Workers by status", "status", &standing);
        head(out, "shipper_scan_worker_load", "gauge", "How busy a worker is, 0 to 1");
        for row in rows.iter().take(WORKERS_MAX) {
            let _ = writeln!(out, "shipper_scan_worker_load{{worker=\"{}\"}} {:?}", row.worker_id, row.load_factor);
        }
        head(out, "shipper_scan_worker_task_mismatch", "gauge", "By how many tasks a worker's word and its leases differ");
        for row in rows.iter().take(WORKERS_MAX) {
            let differ = row.current_tasks.abs_diff(row.in_flight.into());
            let _ = writeln!(out, "shipper_scan_worker_task_mismatch{{worker=\"{}\"}} {differ}", row.worker_id);
        }
        text
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing into a string cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}.\n# TYPE {name} {kind}");
}

fn single(out: &mut String, name: &str, kind: &str, help: &str, value: u64) {
    head(out, name, kind, help);
    let total = if kind == "counter" { "_total" } else { "" };
    let _ = writeln!(out, "{name}{total} {value}");
}

/// One sample for each label; labels are words of ours.
fn family<K: std::fmt::Display>(out: &mut String, name: &str, kind: &str, help: &str, label: &str, values: &BTreeMap<K, u64>) {
    head(out, name, kind, help);
    let total = if kind == "counter" { "_total" } else { "" };
    for (value, count) in values {
        let _ = writeln!(out, "{name}{total}{{{label}=\"{value}\"}} {count}");
    }
}
