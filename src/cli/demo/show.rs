//! What a person sees: a line each second, the sums at the end.

use std::{
    fs,
    io::Write,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use super::sums::Sums;
use crate::metrics::Metrics;

/// Threads of ours; librdkafka's are not among them, since the embedded broker and the reader of
/// the topic have the same names.
const OURS: &[&str] = &["shard-", "edge", "store", "watch", "out-"];
/// Clock ticks a second, as /proc counts them.
const TICKS: f64 = 100.0;

pub(super) struct Lines {
    json: bool,
    metrics: Metrics,
    begun: Instant,
    told: Instant,
    alerts: u64,
    bytes: u64,
    ticks: u64,
    /// Since the last line.
    new: Vec<Duration>,
    /// Nanoseconds, whole run.
    latency: Histogram<u64>,
}

impl Lines {
    pub(super) fn new(json: bool, metrics: Metrics) -> Self {
        // Three digits up to a minute; the bounds are constants.
        let latency = Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("bounds of a histogram");
        Self { json, metrics, begun: Instant::now(), told: Instant::now(), alerts: 0, bytes: 0, ticks: ticks(), new: Vec::new(), latency }
    }

    /// One line at once.
    pub(super) fn say(&self, text: &str) {
        if self.json {
            eprintln!("{text}");
        } else {
            let mut out = std::io::stdout().lock();
            // Whoever closed the pipe does not want it.
            let _ = writeln!(out, "{text}").and_then(|()| out.flush());
        }
    }

    /// The line of a second, when it is over.
    pub(super) fn turn(&mut self, alerts: u64, bytes: u64, metrics: &Metrics, latencies: Vec<Duration>) {
        self.new.extend(latencies);
        let span = self.told.elapsed();
        if span < Duration::from_secs(1) {
            return;
        }
        let seconds = span.as_secs_f64();
        let mut now = Histogram::<u64>::new_from(&self.latency);
        for latency in std::mem::take(&mut self.new) {
            let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
            now.saturating_record(nanos);
            self.latency.saturating_record(nanos);
        }
        let spent = ticks();
        let branch = metrics.branch("alerts", "dfn");
        let lag = bytes.saturating_sub(branch.shipped.get() + branch.dropped.total() + branch.dead_letter.total());
        let ack = if now.is_empty() {
            String::new()
        } else {
            format!("ack p50 {} p99 {}  ", millis(now.value_at_quantile(0.5)), millis(now.value_at_quantile(0.99)))
        };
        self.say(&format!(
            "{:>4} s  {:>8.0} alerts/s  {:>7.2} MB/s  acked {:>8} messages  lag {:>9}  {ack}agent {:.1} % of a core",
            self.begun.elapsed().as_secs(),
            (alerts - self.alerts) as f64 / seconds,
            (bytes - self.bytes) as f64 / 1e6 / seconds,
            branch.delivered.get(),
            size(lag),
            (spent.saturating_sub(self.ticks)) as f64 / TICKS / seconds * 100.0,
        ));
        (self.alerts, self.bytes, self.ticks, self.told) = (alerts, bytes, spent, Instant::now());
    }

    /// The sums.
    pub(super) fn end(&self, sums: &Sums) {
        let broken = sums.broken();
        if self.json {
            let mut told = serde_json::to_value(sums).unwrap_or_default();
            told["adds_up"] = broken.is_empty().into();
            told["broken"] = broken.clone().into();
            if !self.latency.is_empty() {
                told["ack_p50_ms"] = (self.latency.value_at_quantile(0.5) as f64 / 1e6).into();
                told["ack_p99_ms"] = (self.latency.value_at_quantile(0.99) as f64 / 1e6).into();
            }
            println!("{told}");
            return;
        }
        let alerts = |n: Option<u64>| n.map_or("alerts of a file".to_owned(), |n| format!("{n} alerts"));
        self.say(&format!("\nwritten   {}, {} bytes, {} file(s)", alerts(sums.written_alerts), sums.written_bytes, sums.written_parts));
        self.say(&format!("read      {} alerts, {} bytes", sums.read_alerts, sums.read_bytes));
        self.say(&format!("emitted   {} messages", sums.emitted_messages));
        self.say(&format!("acked     {} messages", sums.acked_messages));
        self.say(&format!("in topic  {} messages, {} of them twice", sums.found_messages, sums.repeated_messages));
        self.say(&format!(
            "bytes     {} read = {} shipped + {} dropped by rule + {} dead letter + {} in flight",
            sums.read_bytes, sums.shipped_bytes, sums.dropped_bytes, sums.dead_letter_bytes, sums.in_flight_bytes
        ));
        let branch = self.metrics.branch("alerts", "dfn");
        let reasons: Vec<String> = branch.dropped.each().into_iter().map(|(reason, bytes)| format!("{reason} {bytes}")).collect();
        self.say(&format!("dropped   {} (bytes by reason)", if reasons.is_empty() { "nothing".into() } else { reasons.join(", ") }));
        if !self.latency.is_empty() {
            self.say(&format!(
                "ack       p50 {}, p99 {}, from the write that completed a line to its ack",
                millis(self.latency.value_at_quantile(0.5)),
                millis(self.latency.value_at_quantile(0.99))
            ));
        }
        for what in &broken {
            self.say(&format!("WRONG     {what}"));
        }
        self.say(if broken.is_empty() { "the sums add up" } else { "the sums do not add up; this is a defect, please report these lines" });
    }
}

fn millis(nanos: u64) -> String {
    format!("{:.1} ms", nanos as f64 / 1e6)
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// Clock ticks that our own threads have used.
fn ticks() -> u64 {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return 0 };
    tasks
        .flatten()
        .filter_map(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).ok()?;
            let (head, rest) = stat.rsplit_once(')')?;
            let name = head.split_once('(')?.1;
            let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
            // Fields 14 and 15 of proc(5): user and system time; the state is field 3.
            let used = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
            OURS.iter().any(|ours| name.starts_with(ours)).then_some(used)
        })
        .sum()
}
