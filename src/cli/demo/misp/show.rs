//! What a person sees: a line each second, the sums at the end.

use super::{
    super::show::{Lines, Pace, size},
    readback::Readback,
    sums::Sums,
};
use crate::metrics::Metrics;

pub(super) struct Show {
    lines: Lines,
    metrics: Metrics,
    pace: Pace,
}

impl Show {
    pub(super) fn new(lines: Lines, metrics: Metrics) -> Self {
        Self { lines, metrics, pace: Pace::new() }
    }

    /// The line of a second, when it is over.
    pub(super) fn turn(&mut self, alerts: u64, bytes: u64, readback: &Readback) {
        let Some(second) = self.pace.turn(&[alerts, bytes, readback.indicators()]) else { return };
        let (branch, lookup) = (self.metrics.branch("alerts", "ioc"), self.metrics.lookup("misp"));
        let lag = bytes.saturating_sub(branch.shipped.get() + branch.dropped.total() + branch.dead_letter.total());
        self.lines.say(&format!(
            "{:>4} s  {:>8.0} alerts/s  {:>7.2} MB/s  {:>7.0} indicators/s  filter hits {:>6}  matches {:>6}  lag {:>9}  agent {:.1} % of a core",
            second.at,
            second.rates[0],
            second.rates[1] / 1e6,
            second.rates[2],
            lookup.taken.get() + self.metrics.stage("alerts", "dedup").dropped.total(),
            lookup.emitted.get(),
            size(lag),
            second.core,
        ));
    }

    /// The sums.
    pub(super) fn end(&self, sums: &Sums) {
        let broken = sums.broken();
        if self.lines.json {
            return self.lines.object(sums, broken, &[]);
        }
        let (say, account) = (|text: &str| self.lines.say(text), &sums.account);
        say(&format!("\nwritten   {} alerts, {} bytes, {} file(s)", sums.written_alerts, account.written_bytes, account.written_parts));
        say(&format!(
            "planted   {} of them with one of {} known indicators, and {} of these a second time",
            sums.planted_alerts, sums.planted_indicators, sums.repeated_alerts
        ));
        say(&format!("read      {} alerts, {} bytes", account.read_alerts, account.read_bytes));
        say(&format!(
            "extracted {} indicators in {} alerts, {} of them known",
            sums.indicators, sums.alerts_with_indicators, sums.known_indicators
        ));
        say(&format!("filter    {} alerts let through, {} of them duplicates", sums.filter_hits, sums.duplicates));
        say(&format!(
            "matched   {} = {} told alone + {} in summaries, of {} indicators",
            sums.matches, sums.matches_alone, sums.matches_in_summaries, sums.matched_indicators
        ));
        say(&account.line());
        self.lines.verdict(&broken);
    }
}
