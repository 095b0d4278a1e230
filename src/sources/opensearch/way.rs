//! What crosses between the halves beside batches: the reader as it was saved, once, and what is to be saved of it.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::core::Core;
use crate::{ring::Signal, sources::Link};

/// The way between both halves.
pub(super) struct Way {
    pub link: Arc<Link>,
    begin: Mutex<Option<Core>>,
    begun: Signal,
    kept: Mutex<Option<Vec<u8>>>,
    /// Bytes that are not read yet, about.
    lag: AtomicU64,
    written: Signal,
}

impl Way {
    pub(super) fn new() -> Arc<Self> {
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
    pub(super) fn begin(&self, core: Core) {
        *self.begin.lock().unwrap_or_else(PoisonError::into_inner) = Some(core);
        self.begun.raise();
    }
    /// Bytes that are not read yet, about.
    pub(super) fn lag(&self) -> u64 {
        self.lag.load(Ordering::Relaxed)
    }
    /// Waits until there is something to be saved, or the lag is another.
    pub(super) async fn written(&self) {
        self.written.wait().await;
    }
    /// What is to be saved, the latest.
    pub(super) fn take(&self) -> Option<Vec<u8>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    // The edge's side.

    /// Waits until the home says where to go on; `None` if it ended before.
    pub(super) async fn begun(&self) -> Option<Core> {
        tokio::select! {
            biased;
            () = self.begun.wait() => {}
            () = self.link.closed() => {}
        }
        self.begin.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
    /// So many bytes are not read yet, about.
    pub(super) fn lags(&self, bytes: u64) {
        if self.lag.swap(bytes, Ordering::Relaxed) != bytes {
            self.written.raise();
        }
    }
    /// Has this saved, in place of what was to be saved before.
    pub(super) fn keep(&self, body: Vec<u8>) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        self.written.raise();
    }
}
