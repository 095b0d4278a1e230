//! Lines on their way: from the write that completed them to their ack.

#![allow(clippy::disallowed_methods, reason = "latency is real time")]

use std::{
    collections::VecDeque,
    io, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::metrics::BranchCounts;

/// Between two looks at the counts: the error of a latency.
const LOOK: Duration = Duration::from_micros(250);

/// Lines written, and a thread that sees them acked. Bytes are counted from the first one written.
pub struct Flights {
    shared: Arc<Shared>,
    /// Ends of lines that are still in the writer's buffer.
    ends: VecDeque<u64>,
    watching: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// End of a line, and when the write that completed it was done.
    off: Mutex<VecDeque<(u64, Instant)>>,
    landed: Mutex<Vec<Duration>>,
    over: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Flights {
    /// Watches a branch that is offered every byte written, and nothing else.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn watch(counts: BranchCounts) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let watching = thread::Builder::new().name("flights".into()).spawn(move || {
            while !theirs.over.load(Ordering::Relaxed) {
                let acked = counts.shipped.get() + counts.dropped.total() + counts.dead_letter.total();
                let now = Instant::now();
                let mut off = lock(&theirs.off);
                while off.front().is_some_and(|(end, _)| *end <= acked) {
                    let took = off.pop_front().map(|(_, at)| now.saturating_duration_since(at));
                    lock(&theirs.landed).extend(took);
                }
                drop(off);
                thread::sleep(LOOK);
            }
        })?;
        Ok(Self { shared, ends: VecDeque::new(), watching: Some(watching) })
    }

    /// A line ends at `end`; it may not be in the file yet.
    pub fn line(&mut self, end: u64) {
        self.ends.push_back(end);
    }

    /// `flushed` bytes are in the files: the last line that lies whole there takes off now.
    pub fn flushed(&mut self, flushed: u64) {
        let mut last = None;
        while self.ends.front().is_some_and(|end| *end <= flushed) {
            last = self.ends.pop_front();
        }
        if let Some(end) = last {
            lock(&self.shared.off).push_back((end, Instant::now()));
        }
    }

    /// Latencies since the last call.
    pub fn take(&self) -> Vec<Duration> {
        mem::take(&mut *lock(&self.shared.landed))
    }
}

impl Drop for Flights {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(watching) = self.watching.take() {
            let _ = watching.join();
        }
    }
}
