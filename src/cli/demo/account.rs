//! The bytes of a demo, whatever the system: what was written and read, and what became of it. Pure.

use serde::Serialize;

use crate::metrics::Metrics;

/// Bytes, and what else every demo counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Account {
    pub written_bytes: u64,
    pub written_parts: u32,
    pub read_alerts: u64,
    pub read_bytes: u64,
    pub shipped_bytes: u64,
    pub dropped_bytes: u64,
    pub dead_letter_bytes: u64,
    pub in_flight_bytes: i64,
    pub clean_stop: bool,
}

impl Account {
    /// - `handler`: whose branch of source `alerts` it is.
    pub fn new(metrics: &Metrics, handler: &str, written_bytes: u64, written_parts: u32, clean_stop: bool) -> Self {
        let branch = metrics.branch("alerts", handler);
        Self {
            written_bytes,
            written_parts,
            read_alerts: metrics.source("alerts").records.get(),
            read_bytes: branch.read.get(),
            shipped_bytes: branch.shipped.get(),
            dropped_bytes: branch.dropped.total(),
            dead_letter_bytes: branch.dead_letter.total(),
            in_flight_bytes: branch.in_flight.get(),
            clean_stop,
        }
    }

    /// What does not add up; empty where all does.
    pub fn broken(&self) -> Vec<String> {
        let told = i128::from(self.shipped_bytes)
            + i128::from(self.dropped_bytes)
            + i128::from(self.dead_letter_bytes)
            + i128::from(self.in_flight_bytes);
        [
            same("bytes written and read", self.written_bytes, self.read_bytes),
            same("bytes read, and shipped + dropped + dead letter + in flight", self.read_bytes, told),
            same("bytes in flight at the end, and none", self.in_flight_bytes, 0),
            (!self.clean_stop).then(|| "the agent stopped before all was acked".to_owned()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The law, for a person.
    pub fn line(&self) -> String {
        format!(
            "bytes     {} read = {} shipped + {} dropped by rule + {} dead letter + {} in flight",
            self.read_bytes, self.shipped_bytes, self.dropped_bytes, self.dead_letter_bytes, self.in_flight_bytes
        )
    }
}

/// What to say of two numbers that should be the same, if they are not.
pub(super) fn same(what: &str, a: impl Into<i128>, b: impl Into<i128>) -> Option<String> {
    let (a, b): (i128, i128) = (a.into(), b.into());
    (a != b).then(|| format!("{what}: {a} and {b}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_add_up_only_if_every_sum_does() {
        let good = Account {
            written_bytes: 100,
            read_bytes: 100,
            shipped_bytes: 60,
            dropped_bytes: 30,
            dead_letter_bytes: 10,
            clean_stop: true,
            ..Account::default()
        };
        assert_eq!(good.broken(), Vec::<String>::new());
        type Spoil = fn(&mut Account);
        let spoilt: [(Spoil, &str); 4] = [
            (|a| a.written_bytes = 101, "bytes written and read"),
            (|a| a.dropped_bytes = 29, "shipped + dropped"),
            (|a| (a.in_flight_bytes, a.dropped_bytes) = (1, 29), "in flight at the end"),
            (|a| a.clean_stop = false, "stopped before"),
        ];
        for (spoil, part) in spoilt {
            let mut account = good.clone();
            spoil(&mut account);
            assert!(account.broken().iter().any(|what| what.contains(part)), "{part}: {:?}", account.broken());
        }
    }
}
