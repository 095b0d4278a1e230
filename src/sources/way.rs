//! The way between both halves of a source that remembers what it handed in: beside batches, what it begins with, once, and
//! what is to be saved of it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    io::Executor,
    limits,
    ring::Signal,
    sources::{Admit, Link},
};

const MS: u64 = 1_000_000;

/// The way between both halves; `C` is what the edge begins with.
pub(in crate::sources) struct Way<C> {
    pub link: Arc<Link>,
    begin: Mutex<Option<C>>,
    begun: Signal,
    kept: Mutex<Option<Vec<u8>>>,
    /// Bytes that are not read yet, about.
    lag: AtomicU64,
    written: Signal,
}

impl<C> Way<C> {
    pub(in crate::sources) fn new() -> Arc<Self> {
        Arc::new(Self {
            link: Link::new(1),
            begin: Mutex::default(),
            begun: Signal::default(),
            kept: Mutex::default(),
            lag: AtomicU64::new(0),
            written: Signal::default(),
        })
    }

    // The home's side.

    /// Where to go on.
    pub(in crate::sources) fn begin(&self, core: C) {
        *self.begin.lock().unwrap_or_else(PoisonError::into_inner) = Some(core);
        self.begun.raise();
    }
    /// What is to be saved, the latest.
    fn take(&self) -> Option<Vec<u8>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
    /// The home's part, once its stream is open and the edge has begun: hands in what comes, tells what is settled, and has saved
    /// what is to be, until nothing more will be settled.
    pub(in crate::sources) async fn carry(&self, admit: &dyn Admit, stream: &str) {
        let link = &self.link;
        let bring = async {
            loop {
                let brought = tokio::select! {
                    biased;
                    () = admit.closed() => break,
                    brought = link.next() => brought,
                };
                let Some(brought) = brought else { break };
                admit.lag(brought.lag);
                if !admit.chunk(stream, brought.chunk).await {
                    break;
                }
            }
            link.close();
            admit.last();
        };
        let acks = async {
            loop {
                let goes_on = tokio::select! {
                    biased;
                    goes_on = admit.settles() => goes_on,
                    () = self.written.wait() => true,
                };
                link.settle(0, admit.settled(stream));
                admit.lag(self.lag());
                if let Some(body) = self.take() {
                    admit.keep(body);
                }
                if !goes_on {
                    break;
                }
                link.tell();
            }
            link.end();
            link.is_done().await;
            if let Some(body) = self.take() {
                admit.keep(body);
            }
        };
        tokio::join!(bring, acks);
    }

    // The edge's side.

    /// Waits until the home says where to go on; `None` if it ended before.
    pub(in crate::sources) async fn begun(&self) -> Option<C> {
        tokio::select! {
            biased;
            () = self.begun.wait() => {}
            () = self.link.closed() => {}
        }
        self.begin.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
    /// Bytes that are not read yet, about.
    pub(in crate::sources) fn lag(&self) -> u64 {
        self.lag.load(Ordering::Relaxed)
    }
    /// So many bytes are not read yet, about.
    pub(in crate::sources) fn lags(&self, bytes: u64) {
        if self.lag.swap(bytes, Ordering::Relaxed) != bytes {
            self.written.raise();
        }
    }
    /// Hears what is settled and has it saved, until the home is over.
    ///
    /// - `settle`: told how many batches are settled; true if that is news.
    /// - `save`: what holds of it after a kill.
    pub(in crate::sources) async fn keep(&self, on: &dyn Executor, mut settle: impl FnMut(u64) -> bool, save: impl Fn() -> Vec<u8>) {
        // Where the first run began is known from now on.
        let (mut is_touched, mut rests_until) = (true, 0);
        loop {
            let is_over = self.link.is_over();
            is_touched |= settle(self.link.settled(0));
            let now = on.clock().mono();
            if is_touched && (is_over || now >= rests_until) {
                let body = save();
                // What is large is saved as much more rarely, as snapshots of stages are.
                let rest = (body.len() as u64 * 1000 / limits::SNAPSHOT_BYTES_PER_SECOND).max(limits::CHECKPOINT_EVERY_MS / 4);
                (is_touched, rests_until) = (false, now.saturating_add(rest * MS));
                *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
                self.written.raise();
            }
            if is_over {
                return;
            }
            tokio::select! {
                biased;
                () = self.link.told() => {}
                () = on.sleep(Duration::from_nanos(rests_until.saturating_sub(now))), if is_touched => {}
            }
        }
    }
}
