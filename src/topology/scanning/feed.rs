//! What source `scan` brings: alerts of the task store, and what the monitor has found.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};

use crate::{
    io::LocalFuture,
    limits,
    ring::Signal,
    scan::tasks::Tasks,
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
    /// The highest of these numbers that the source has taken.
    taken: u64,
    /// Of these, how many gave way before the source took them.
    lost: u64,
}

impl ScanFeed {
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { tasks, inner: Arc::default() }
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

    /// Keeps what the monitor found for the source. Numbers go on over a restart, since they are of the clock.
    ///
    /// - `ms`: wall time, milliseconds since 1970.
    pub(super) fn found(&self, alert: Value, ms: u64) {
        let mut inner = self.inner();
        let number = inner.found.back().map_or(0, |last| last.number + 1).max(ms);
        let bytes = json!({ "monitor_alert": alert }).to_string().into_bytes();
        inner.found.push_back(FeedRecord { number, bytes });
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
    }
}

impl Feed for ScanFeed {
    fn after(&self, stream: &'static str, after: u64, max: usize) -> LocalFuture<'static, Result<Vec<FeedRecord>, String>> {
        let feed = self.clone();
        Box::pin(async move {
            if stream != STREAMS[0] {
                let mut inner = feed.inner();
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
