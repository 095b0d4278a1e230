//! What a person sees: a line each second, the sums at the end.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::{
    super::show::{Lines, Pace, millis, size},
    sums::Sums,
};
use crate::metrics::Metrics;

pub(super) struct Show {
    pub lines: Lines,
    metrics: Metrics,
    pace: Pace,
    /// Since the last line.
    new: Vec<Duration>,
    /// Nanoseconds, whole run.
    latency: Histogram<u64>,
}

impl Show {
    pub(super) fn new(lines: Lines, metrics: Metrics) -> Self {
        // Three digits up to a minute; the bounds are constants.
        let latency = Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("bounds of a histogram");
        Self { lines, metrics, pace: Pace::new(), new: Vec::new(), latency }
    }

    /// The line of a second, when it is over.
    pub(super) fn turn(&mut self, alerts: u64, bytes: u64, latencies: Vec<Duration>) {
        self.new.extend(latencies);
        let Some(second) = self.pace.turn(&[alerts, bytes]) else { return };
        let mut now = Histogram::<u64>::new_from(&self.latency);
        for latency in std::mem::take(&mut self.new) {
            let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
            now.saturating_record(nanos);
            self.latency.saturating_record(nanos);
        }
        let branch = self.metrics.branch("alerts", "dfn");
        let lag = bytes.saturating_sub(branch.shipped.get() + branch.dropped.total() + branch.dead_letter.total());
        let ack = if now.is_empty() {
            String::new()
        } else {
            format!("ack p50 {} p99 {}  ", millis(now.value_at_quantile(0.5)), millis(now.value_at_quantile(0.99)))
        };
        self.lines.say(&format!(
            "{:>4} s  {:>8.0} alerts/s  {:>7.2} MB/s  acked {:>8} messages  lag {:>9}  {ack}agent {:.1} % of a core",
            second.at,
            second.rates[0],
            second.rates[1] / 1e6,
            branch.delivered.get(),
            size(lag),
            second.core,
        ));
    }

    /// The sums.
    pub(super) fn end(&self, sums: &Sums) {
        let broken = sums.broken();
        if self.lines.json {
            let mut more = Vec::new();
            if !self.latency.is_empty() {
                more.extend(
                    [("ack_p50_ms", 0.5), ("ack_p99_ms", 0.99)].map(|(name, q)| (name, self.latency.value_at_quantile(q) as f64 / 1e6)),
                );
            }
            return self.lines.object(sums, broken, &more);
        }
        let (say, account) = (|text: &str| self.lines.say(text), &sums.account);
        let alerts = |n: Option<u64>| n.map_or("alerts of a file".to_owned(), |n| format!("{n} alerts"));
        say(&format!("\nwritten   {}, {} bytes, {} file(s)", alerts(sums.written_alerts), account.written_bytes, account.written_parts));
        say(&format!("read      {} alerts, {} bytes", account.read_alerts, account.read_bytes));
        say(&format!("emitted   {} messages", sums.emitted_messages));
        say(&format!("acked     {} messages", sums.acked_messages));
        say(&format!("in topic  {} messages, {} of them twice", sums.found_messages, sums.repeated_messages));
        say(&account.line());
        let branch = self.metrics.branch("alerts", "dfn");
        let reasons: Vec<String> = branch.dropped.each().into_iter().map(|(reason, bytes)| format!("{reason} {bytes}")).collect();
        say(&format!("dropped   {} (bytes by reason)", if reasons.is_empty() { "nothing".into() } else { reasons.join(", ") }));
        if !self.latency.is_empty() {
            say(&format!(
                "ack       p50 {}, p99 {}, from the write that completed a line to its ack",
                millis(self.latency.value_at_quantile(0.5)),
                millis(self.latency.value_at_quantile(0.99))
            ));
        }
        self.lines.verdict(&broken);
    }
}
