//! The threads: `scan-store` writes; `scan-read` looks single rows up and `scan-list` goes through many, as of the last commit, so that
//! a long list makes neither a commit nor the question for a verdict wait.
//!
//! Operations that come while a commit runs are the next commit, gathered for [`GROUP_COMMIT_MS`] at most. An operation may run
//! more than once: after a failure memory is built again from the rows, and the same ones run again.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    task::Waker,
    time::Duration,
};

use redb::{Database, ReadableDatabase};

use super::{
    AlertsOf, Away, Figures, Limits, Nanos,
    answer::Promise,
    ids::Ids,
    open, retention,
    rows::{Fault, Tables, View},
    store::{Memory, Store},
};
use crate::{
    clock::Clock,
    limits::{GROUP_COMMIT_MS, SCAN_COMMIT_OPERATIONS, SCAN_RETENTION_EVERY_S, SCAN_RETENTION_ROWS},
};

/// Tells the time to more than one thread.
pub(super) type SharedClock = Arc<dyn Clock + Send + Sync>;

/// Time between two tries at a disk that fails, and between two steps of retention.
const RETRY: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(100);
/// At most so long until wall time is looked at again while something waits for it: it may have been set.
const LOOK: Duration = Duration::from_secs(30);

/// An operation that writes.
pub(super) trait Job: Send {
    /// May be called again if the commit failed.
    fn run(&mut self, store: &mut Store<'_, '_>) -> Result<(), Fault>;
    /// After the commit.
    fn publish(self: Box<Self>);
    fn refuse(self: Box<Self>, why: Away);
}

/// A [`Job`] of a closure.
pub(super) struct Asked<T, F> {
    pub run: F,
    pub value: Option<T>,
    pub promise: Promise<T>,
}

impl<T: Send, F: FnMut(&mut Store<'_, '_>) -> Result<T, Fault> + Send> Job for Asked<T, F> {
    fn run(&mut self, store: &mut Store<'_, '_>) -> Result<(), Fault> {
        self.value = Some((self.run)(store)?);
        Ok(())
    }
    fn publish(self: Box<Self>) {
        if let Some(value) = self.value {
            self.promise.tell(Ok(value));
        }
    }
    fn refuse(self: Box<Self>, why: Away) {
        self.promise.tell(Err(why));
    }
}

/// What goes to `scan-store`.
pub(super) enum Order {
    Job(Box<dyn Job>),
    Close,
}

/// An operation that reads, or hears why it cannot.
pub(super) type Reading = Box<dyn FnOnce(Result<&View, Away>) + Send>;

/// What others see of the store without asking it.
#[derive(Default)]
pub(super) struct Board {
    pub figures: Figures,
    /// Tasks that may be leased at once.
    pub ready: u64,
    /// Of [`Core::stamp`](super::core::Core::stamp).
    pub stamp: u64,
    pub is_paused: bool,
    pub is_closed: bool,
    pub wakers: BTreeMap<u64, Waker>,
    pub wakers_made: u64,
}

/// Between the handles and the threads.
pub(super) struct Shared {
    board: Mutex<Board>,
    pub changed: Condvar,
    /// Operations that wait or run.
    pub waiting: AtomicUsize,
    /// `None` while it is opened again.
    pub database: RwLock<Option<Database>>,
}

impl Shared {
    pub fn new(database: Database) -> Self {
        Self { board: Mutex::default(), changed: Condvar::new(), waiting: AtomicUsize::new(0), database: RwLock::new(Some(database)) }
    }
    pub fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Changes the board and wakes whoever waits for something on it.
    pub fn change(&self, change: impl FnOnce(&mut Board)) {
        let mut board = self.board();
        change(&mut board);
        let wakers = std::mem::take(&mut board.wakers);
        drop(board);
        self.changed.notify_all();
        for waker in wakers.into_values() {
            waker.wake();
        }
    }
}

/// What `scan-store` runs.
pub(super) struct Writer {
    pub dir: PathBuf,
    pub shared: Arc<Shared>,
    pub clock: SharedClock,
    pub limits: Limits,
    pub alerts_of: AlertsOf,
    pub ids: Ids,
    pub memory: Memory,
    /// Wall time of the next step of retention.
    pub retention_at: Nanos,
}

impl Writer {
    /// Until the last handle is gone or one closes the store.
    pub fn run(mut self, orders: &Receiver<Order>) {
        let mut is_open = true;
        while is_open {
            let mut batch = Vec::new();
            is_open = self.gather(orders, &mut batch);
            if !self.commit(batch, orders) {
                break;
            }
        }
        self.shared.change(|board| board.is_closed = true);
    }

    /// Waits for operations, or for something to happen by itself. `false` at the end.
    fn gather(&self, orders: &Receiver<Order>, batch: &mut Vec<Box<dyn Job>>) -> bool {
        let left = |at: Nanos| Duration::from_nanos(at.saturating_sub(self.clock.now()));
        let wait = left(self.retention_at);
        let wait = self.memory.core.next_at().map_or(wait, |at| wait.min(left(at)).min(LOOK));
        match orders.recv_timeout(wait) {
            Ok(Order::Job(job)) => batch.push(job),
            Ok(Order::Close) | Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => return true,
        }
        let first = self.clock.mono();
        while batch.len() < SCAN_COMMIT_OPERATIONS && self.clock.mono() - first < GROUP_COMMIT_MS * 1_000_000 {
            match orders.try_recv() {
                Ok(Order::Job(job)) => batch.push(job),
                Ok(Order::Close) => return false,
                Err(_) => break,
            }
        }
        true
    }

    /// Runs and commits a batch, again and again until the disk takes it. `false` if the store was closed meanwhile.
    fn commit(&mut self, mut batch: Vec<Box<dyn Job>>, orders: &Receiver<Order>) -> bool {
        let counts = self.memory.counts.clone();
        let mut is_ahead = false;
        loop {
            // After a failure memory is ahead of the rows: nothing may run on it before it is built anew.
            let ready = if is_ahead { self.rebuild(&counts) } else { Ok(()) };
            let Err((at, fault)) = ready.and_then(|()| self.attempt(&mut batch)) else { break };
            is_ahead = true;
            match (&fault, at) {
                (Fault::Corrupt { row, why }, Some(at)) => {
                    tracing::error!(row, why, "a row of the task store cannot be read; stop the agent and run `shipper scan repair`");
                    batch.remove(at).refuse(fault.away());
                    self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
                }
                _ => {
                    self.say(&fault);
                    if self.is_closed_within(orders, RETRY, &mut batch) {
                        return false;
                    }
                    self.reopen();
                }
            }
        }
        self.shared.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
        self.memory.committed();
        self.publish();
        for job in batch {
            job.publish();
        }
        true
    }

    /// One transaction. An error names the operation that met it, if one did.
    fn attempt(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), (Option<usize>, Fault)> {
        let shared = self.shared.clone();
        let database = shared.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = database.as_ref() else { return Err((None, Fault::Disk(redb::Error::DatabaseClosed))) };
        let none = |fault| (None, fault);
        let txn = open::begin(database).map_err(none)?;
        let now = self.clock.now();
        let mut store = Store {
            memory: &mut self.memory,
            tables: Tables::new(&txn).map_err(none)?,
            ids: &mut self.ids,
            limits: &self.limits,
            alerts_of: &self.alerts_of,
            now,
        };
        store.expire().map_err(none)?;
        if self.retention_at <= now {
            let is_more = retention::step(&mut store, SCAN_RETENTION_ROWS).map_err(none)?;
            let wait = if is_more { STEP } else { Duration::from_secs(SCAN_RETENTION_EVERY_S) };
            self.retention_at = now.saturating_add(crate::clock::nanos(wait));
        }
        for (at, job) in batch.iter_mut().enumerate() {
            job.run(&mut store).map_err(|fault| (Some(at), fault))?;
        }
        let is_written = store.tables.is_written();
        drop(store);
        if is_written { txn.commit().map_err(|error| none(error.into())) } else { txn.abort().map_err(|error| none(error.into())) }
    }

    /// Builds memory as the rows say.
    fn rebuild(&mut self, counts: &super::Counts) -> Result<(), (Option<usize>, Fault)> {
        let shared = self.shared.clone();
        let database = shared.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = database.as_ref() else { return Err((None, Fault::Disk(redb::Error::DatabaseClosed))) };
        let txn = open::begin(database).map_err(|fault| (None, fault))?;
        let tables = Tables::new(&txn).map_err(|fault| (None, fault))?;
        let mut memory = Memory::load(&tables, &self.limits, counts.clone()).map_err(|fault| (None, fault))?;
        memory.core.count_from(&self.memory.core);
        memory.sizes = self.memory.sizes.clone();
        self.memory = memory;
        Ok(())
    }

    fn reopen(&mut self) {
        let mut database = self.shared.database.write().unwrap_or_else(PoisonError::into_inner);
        drop(database.take());
        match open::open(&self.dir) {
            Ok(opened) => *database = Some(opened),
            Err(error) => tracing::warn!(%error, "the task store is not open; trying again"),
        }
    }

    /// Says once that the disk fails.
    fn say(&self, fault: &Fault) {
        let why = match fault {
            Fault::Disk(error) => error.to_string(),
            Fault::Corrupt { row, why } => format!("{row}: {why}"),
        };
        if self.shared.board().figures.trouble.as_ref() != Some(&why) {
            tracing::error!(why, dir = %self.dir.display(), "the task store cannot write; tasks wait, see the disk of its folder");
        }
        self.shared.change(|board| board.figures.trouble = Some(why));
    }

    /// Waits; takes up what comes meanwhile.
    fn is_closed_within(&self, orders: &Receiver<Order>, wait: Duration, batch: &mut Vec<Box<dyn Job>>) -> bool {
        let start = self.clock.mono();
        loop {
            let left = wait.saturating_sub(Duration::from_nanos(self.clock.mono() - start));
            match orders.recv_timeout(left) {
                Ok(Order::Job(job)) => batch.push(job),
                Ok(Order::Close) | Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    pub fn publish(&self) {
        let figures = self.memory.figures(&self.limits);
        let (ready, stamp) = (self.memory.core.ready_count(), self.memory.core.stamp());
        let mut was_in_trouble = false;
        self.shared.change(|board| {
            was_in_trouble = board.figures.trouble.is_some();
            board.figures = figures;
            (board.ready, board.stamp) = (ready, stamp);
        });
        if was_in_trouble {
            tracing::info!("the task store writes again");
        }
    }
}

/// What `scan-read` and `scan-list` run.
pub(super) fn read(shared: &Shared, readings: &Receiver<Reading>) {
    while let Ok(reading) = readings.recv() {
        let database = shared.database.read().unwrap_or_else(PoisonError::into_inner);
        let view = match database.as_ref() {
            Some(database) => database.begin_read().map_err(Fault::from).and_then(|txn| View::new(&txn)).map_err(|fault| fault.away()),
            None if shared.board().is_closed => Err(Away::Closed),
            None => Err(Away::Disk),
        };
        shared.waiting.fetch_sub(1, Ordering::Relaxed);
        match view {
            Ok(view) => reading(Ok(&view)),
            Err(why) => reading(Err(why)),
        }
    }
}
