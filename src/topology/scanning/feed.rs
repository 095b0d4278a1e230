//! What source `scan` brings: alerts of the task store, and what the monitor has found.
//!
//! What the monitor found is in memory, so that it goes out also while the store's disk is full, and in the store, so that what was not
//! acked before a crash goes out after it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};

use crate::{
    io::LocalFuture,
    limits,
    ring::Signal,
    scan::{
        monitor::Change,
        tasks::{Answer, Away, Tasks},
    },
    sources::{Feed, feed::FeedRecord, scan::STREAMS},
};

/// The feed of one agent. Clones are the same.
#[derive(Clone)]
pub(super) struct ScanFeed {
    tasks: Tasks,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    listeners: Vec<Arc<Signal>>,
    /// What the monitor found, with its numbers, which are milliseconds since 1970, or one more than the one before.
    found: VecDeque<FeedRecord>,
    /// The highest of these numbers so far.
    last: u64,
    /// The highest that the source has taken.
    taken: u64,
    /// Of these, how many gave way before the source took them.
    lost: u64,
}

impl ScanFeed {
    /// A feed that goes on where an earlier one ended.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) fn open(tasks: Tasks) -> Result<Self, Away> {
        let told = tasks.monitor_told().wait()?;
        let found: VecDeque<FeedRecord> = told.into_iter().map(|(number, told)| record(number, &told)).collect();
        let last = found.back().map_or(0, |last| last.number);
        Ok(Self { tasks, inner: Arc::new(Mutex::new(Inner { found, last, ..Inner::default() })) })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the source look.
    pub(super) fn more(&self) {
        self.inner().listeners.iter().for_each(|signal| signal.raise());
    }

    /// Tells the source of new alerts, whoever brought the outcome: a child, a worker by the API, a broker. Ends with the store.
    pub(super) async fn tell(self) {
        let mut told = 0;
        loop {
            self.tasks.more_alerts(told).await;
            let stored = self.tasks.figures().since_start.alerts;
            if stored == told {
                return;
            }
            told = stored;
            self.more();
        }
    }

    /// Hands what the monitor found to the source, and to the store, which answers when it is kept there.
    ///
    /// - `ms`: wall time, milliseconds since 1970.
    pub(super) fn found(&self, change: &Change, ms: u64) -> Answer<()> {
        let (alert, state) = match change {
            Change::Fired(alert) => (alert, "fired"),
            Change::Resolved(alert) => (alert, "resolved"),
        };
        let row = serde_json::to_value(alert).unwrap_or_default();
        let mut told = row.clone();
        told["state"] = state.into();
        let told = json!({ "monitor_alert": told });
        let mut inner = self.inner();
        let number = (inner.last + 1).max(ms);
        inner.last = number;
        inner.found.push_back(record(number, &told));
        if inner.found.len() > limits::MONITOR_RECORDS
            && let Some(oldest) = inner.found.pop_front()
            && oldest.number > inner.taken
        {
            inner.lost += 1;
            tracing::error!(
                lost = inner.lost,
                "an alert of the monitor was not taken by source scan and gave way to newer ones; see what holds its sinks, and GET /monitoring/alerts for what was said"
            );
        }
        inner.listeners.iter().for_each(|signal| signal.raise());
        // Asked for while the numbers are held, so that they come to the store in their order.
        self.tasks.put_monitor_alert(&alert.alert_id, row, number, told)
    }
}

fn record(number: u64, told: &Value) -> FeedRecord {
    FeedRecord { number, bytes: told.to_string().into_bytes() }
}

impl Feed for ScanFeed {
    fn after(&self, stream: &'static str, after: u64, max: usize) -> LocalFuture<'static, Result<Vec<FeedRecord>, String>> {
        let feed = self.clone();
        Box::pin(async move {
            if stream != STREAMS[0] {
                let mut inner = feed.inner();
                // What the source has, an earlier life of ours told it, whether the store heard of it or not.
                (inner.last, inner.taken) = (inner.last.max(after), inner.taken.max(after));
                let records: Vec<FeedRecord> = inner.found.iter().filter(|record| record.number > after).take(max).cloned().collect();
                inner.taken = records.last().map_or(inner.taken, |last| inner.taken.max(last.number));
                return Ok(records);
            }
            let alerts = feed.tasks.alerts_after(after, max).await.map_err(|away| away.to_string())?;
            Ok(alerts
                .into_iter()
                .map(|alert| FeedRecord { number: alert.id, bytes: Value::Object(alert.alert).to_string().into_bytes() })
                .collect())
        })
    }

    fn listen(&self, signal: Arc<Signal>) {
        let mut inner = self.inner();
        // A graph that is gone holds its signal no more.
        inner.listeners.retain(|listener| Arc::strong_count(listener) > 1);
        inner.listeners.push(signal);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::scan::{
        monitor::{Condition, Kind, Moment, Monitor, Rule},
        tasks::Limits,
    };

    fn store(dir: &std::path::Path) -> Tasks {
        Tasks::open(dir, Limits::default(), Arc::new(|_, _| Vec::new())).unwrap()
    }

    /// What source `scan` would bring, with its numbers.
    fn brought(feed: &ScanFeed, after: u64) -> Vec<(u64, Value)> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let records = runtime.block_on(feed.after(STREAMS[1], after, 10_000)).unwrap();
        records.into_iter().map(|record| (record.number, serde_json::from_slice(&record.bytes).unwrap())).collect()
    }

    /// An alert that fires, and resolves itself.
    fn changes() -> [Change; 2] {
        let mut monitor = Monitor::new(Default::default());
        let rule = Rule {
            metric: "m".into(),
            condition: Condition::Above,
            threshold: 1.0,
            level: crate::scan::monitor::AlertLevel::Error,
            message: "it is {value}".into(),
            for_s: 0,
            clear_s: 0,
        };
        monitor.set_rule("mine", rule).unwrap();
        let at = |s: u64| Moment { wall: s * 1_000_000_000, mono: s * 1_000_000_000 };
        let mut change = |value, s| {
            monitor.record("m", Kind::Gauge, value, at(s));
            monitor.check(at(s)).pop().unwrap()
        };
        [change(2.0, 1), change(0.0, 2)]
    }

    #[test]
    fn what_the_monitor_found_and_nobody_acked_comes_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let [fired, resolved] = changes();
        let Change::Fired(alert) = &fired else { panic!("{fired:?}") };
        let signal = Arc::new(Signal::default());
        let first = {
            let tasks = store(dir.path());
            let feed = ScanFeed::open(tasks.clone()).unwrap();
            feed.listen(signal.clone());
            feed.found(&fired, 7_000).wait().unwrap();
            assert!(signal.take(), "the source is told at once");
            // Within the same millisecond.
            feed.found(&resolved, 7_000).wait().unwrap();
            let first = brought(&feed, 0);
            tasks.close();
            first
        };
        let states: Vec<(u64, &str, &str)> = first
            .iter()
            .map(|(number, told)| {
                (*number, told["monitor_alert"]["state"].as_str().unwrap(), told["monitor_alert"]["alert_id"].as_str().unwrap())
            })
            .collect();
        assert_eq!(states, [(7_000, "fired", alert.alert_id.as_str()), (7_001, "resolved", alert.alert_id.as_str())]);

        let tasks = store(dir.path());
        let feed = ScanFeed::open(tasks.clone()).unwrap();
        assert_eq!(brought(&feed, 0), first, "nothing was acked");
        assert_eq!(brought(&feed, 7_000), first[1..], "what was acked is not sent again");
        // The alert itself is kept as it stands now, and the clock was set back meanwhile.
        let kept = tasks.monitor_alerts().wait().unwrap();
        assert_eq!((kept.len(), kept[0].1["resolved"].as_bool(), kept[0].1.get("state")), (1, Some(true), None));
        feed.found(&fired, 5).wait().unwrap();
        assert_eq!(brought(&feed, 7_001).iter().map(|(number, _)| *number).collect::<Vec<_>>(), [7_002]);
    }

    #[test]
    fn numbers_go_on_above_what_the_source_has_and_what_it_has_is_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let tasks = store(dir.path());
        let feed = ScanFeed::open(tasks.clone()).unwrap();
        // It has 9000 of an earlier life that the store never heard of.
        assert_eq!(brought(&feed, 9_000), []);
        let [fired, _] = changes();
        let kept: Vec<_> = (0..=limits::MONITOR_RECORDS).map(|_| feed.found(&fired, 8_000)).collect();
        kept.into_iter().for_each(|kept| kept.wait().unwrap());
        assert_eq!(feed.inner().lost, 1, "the first gave way before the source took it");
        let last = 9_001 + limits::MONITOR_RECORDS as u64;
        assert_eq!(brought(&feed, 9_000).iter().map(|(number, _)| *number).collect::<Vec<_>>(), (9_002..=last).collect::<Vec<_>>());
        feed.found(&fired, 8_000).wait().unwrap();
        assert_eq!(feed.inner().lost, 1, "what gave way now was taken");
    }
}
