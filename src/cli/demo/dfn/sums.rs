//! What was written, read, emitted, dropped, acked and found, and whether it adds up. Pure.

use serde::Serialize;

use super::{
    super::account::{Account, same},
    readback::Found,
};
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
    #[serde(flatten)]
    pub account: Account,
    pub written_alerts: Option<u64>,
    /// Alerts that must become messages.
    pub wanted_alerts: Option<u64>,
    pub emitted_messages: u64,
    pub acked_messages: u64,
    pub found_messages: u64,
    pub repeated_messages: u64,
}

impl Sums {
    pub(super) fn new(metrics: &Metrics, written: Written, found: Found, clean: bool) -> Self {
        let branch = metrics.branch("alerts", "dfn");
        Self {
            account: Account::new(metrics, "dfn", written.bytes, written.parts, clean),
            written_alerts: written.alerts,
            wanted_alerts: written.wanted,
            emitted_messages: branch.emitted.get(),
            acked_messages: branch.delivered.get(),
            found_messages: found.messages,
            repeated_messages: found.repeated,
        }
    }

    /// What does not add up; empty where all does.
    pub(super) fn broken(&self) -> Vec<String> {
        let (read, emitted, acked) = (self.account.read_alerts, self.emitted_messages, self.acked_messages);
        let own = [
            self.written_alerts.and_then(|n| same("alerts written and read", n, read)),
            self.wanted_alerts.and_then(|n| same("alerts that dfn selects, and messages emitted", n, emitted)),
            same("messages emitted and acked", emitted, acked),
            same("messages acked and found in the topic", acked, self.found_messages),
            same("messages found twice, and none", self.repeated_messages, 0),
        ];
        self.account.broken().into_iter().chain(own.into_iter().flatten()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_add_up_only_if_every_one_does() {
        let good = Sums {
            account: Account { read_alerts: 10, clean_stop: true, ..Account::default() },
            written_alerts: Some(10),
            wanted_alerts: Some(3),
            emitted_messages: 3,
            acked_messages: 3,
            found_messages: 3,
            repeated_messages: 0,
        };
        assert_eq!(good.broken(), Vec::<String>::new());
        type Spoil = fn(&mut Sums);
        let spoilt: [(Spoil, &str); 6] = [
            (|s| s.account.read_alerts = 9, "written and read"),
            (|s| s.wanted_alerts = Some(4), "selects"),
            (|s| s.emitted_messages = 4, "emitted and acked"),
            (|s| s.found_messages = 2, "found in the topic"),
            (|s| s.repeated_messages = 1, "twice"),
            (|s| s.account.clean_stop = false, "stopped before"),
        ];
        for (spoil, part) in spoilt {
            let mut sums = good.clone();
            spoil(&mut sums);
            assert!(sums.broken().iter().any(|what| what.contains(part)), "{part}: {:?}", sums.broken());
        }
    }
}
