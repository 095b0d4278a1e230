//! What was written, read, emitted, dropped, acked and found, and whether it adds up. Pure.

use serde::Serialize;

use super::readback::Found;
use crate::metrics::Metrics;

/// What the manager wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// Unknown where a file was given.
    pub alerts: Option<u64>,
    /// Alerts that `dfn` selects; unknown where a file was given.
    pub wanted: Option<u64>,
    pub bytes: u64,
    pub parts: u32,
}

/// The sums.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Sums {
    pub written_alerts: Option<u64>,
    pub written_bytes: u64,
    pub written_parts: u32,
    /// Alerts that must become messages.
    pub wanted_alerts: Option<u64>,
    pub read_alerts: u64,
    pub read_bytes: u64,
    pub shipped_bytes: u64,
    pub dropped_bytes: u64,
    pub dead_letter_bytes: u64,
    pub in_flight_bytes: i64,
    pub emitted_messages: u64,
    pub acked_messages: u64,
    pub found_messages: u64,
    pub repeated_messages: u64,
    pub clean_stop: bool,
}

impl Sums {
    pub(super) fn new(metrics: &Metrics, written: Written, found: Found, clean: bool) -> Self {
        let branch = metrics.branch("alerts", "dfn");
        Self {
            written_alerts: written.alerts,
            written_bytes: written.bytes,
            written_parts: written.parts,
            wanted_alerts: written.wanted,
            read_alerts: metrics.source("alerts").records.get(),
            read_bytes: branch.read.get(),
            shipped_bytes: branch.shipped.get(),
            dropped_bytes: branch.dropped.total(),
            dead_letter_bytes: branch.dead_letter.total(),
            in_flight_bytes: branch.in_flight.get(),
            emitted_messages: branch.emitted.get(),
            acked_messages: branch.delivered.get(),
            found_messages: found.messages,
            repeated_messages: found.repeated,
            clean_stop: clean,
        }
    }

    /// What does not add up; empty where all does.
    pub(super) fn broken(&self) -> Vec<String> {
        let told = i128::from(self.shipped_bytes)
            + i128::from(self.dropped_bytes)
            + i128::from(self.dead_letter_bytes)
            + i128::from(self.in_flight_bytes);
        let same = |what: &str, a: i128, b: i128| (a != b).then(|| format!("{what}: {a} and {b}"));
        [
            self.written_alerts.and_then(|n| same("alerts written and read", n.into(), self.read_alerts.into())),
            same("bytes written and read", self.written_bytes.into(), self.read_bytes.into()),
            same("bytes read, and shipped + dropped + dead letter + in flight", self.read_bytes.into(), told),
            same("bytes in flight at the end, and none", self.in_flight_bytes.into(), 0),
            self.wanted_alerts.and_then(|n| same("alerts that dfn selects, and messages emitted", n.into(), self.emitted_messages.into())),
            same("messages emitted and acked", self.emitted_messages.into(), self.acked_messages.into()),
            same("messages acked and found in the topic", self.acked_messages.into(), self.found_messages.into()),
            same("messages found twice, and none", self.repeated_messages.into(), 0),
            (!self.clean_stop).then(|| "the agent stopped before all was acked".to_owned()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_add_up_only_if_every_one_does() {
        let good = Sums {
            written_alerts: Some(10),
            written_bytes: 100,
            written_parts: 2,
            wanted_alerts: Some(3),
            read_alerts: 10,
            read_bytes: 100,
            shipped_bytes: 30,
            dropped_bytes: 60,
            dead_letter_bytes: 10,
            in_flight_bytes: 0,
            emitted_messages: 3,
            acked_messages: 3,
            found_messages: 3,
            repeated_messages: 0,
            clean_stop: true,
        };
        assert_eq!(good.broken(), Vec::<String>::new());
        type Spoil = fn(&mut Sums);
        let spoilt: [(Spoil, &str); 9] = [
            (|s| s.read_alerts = 9, "written and read"),
            (|s| s.written_bytes = 101, "bytes written and read"),
            (|s| s.dropped_bytes = 59, "shipped + dropped"),
            (|s| (s.in_flight_bytes, s.dropped_bytes) = (1, 59), "in flight at the end"),
            (|s| s.wanted_alerts = Some(4), "selects"),
            (|s| s.emitted_messages = 4, "emitted and acked"),
            (|s| s.found_messages = 2, "found in the topic"),
            (|s| s.repeated_messages = 1, "twice"),
            (|s| s.clean_stop = false, "stopped before"),
        ];
        for (spoil, part) in spoilt {
            let mut sums = good.clone();
            spoil(&mut sums);
            assert!(sums.broken().iter().any(|what| what.contains(part)), "{part}: {:?}", sums.broken());
        }
    }
}
