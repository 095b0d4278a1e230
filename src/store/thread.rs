//! The thread around the writer: group commit, retries, answers.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    io,
    pin::pin,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, JoinHandle, Thread},
    time::Duration,
};

use super::{
    spools::Spool,
    writer::{Done, Job, Writer},
};
use crate::{
    checkpoint::{Checkpoint, Snapshot},
    clock::{Clock, Nanos, SystemClock, nanos},
    dead_letter::Entry,
    io::{Executor, LocalFuture},
    limits,
    metrics::{Standing, State},
    ring::Mailbox,
    spool,
};

/// Called on the store thread once the job is durable; never called if the thread ends before.
pub type Reply = Box<dyn FnOnce(Done) + Send>;

/// A job and who is to be told.
pub struct Asked {
    pub job: Job,
    pub reply: Reply,
}

impl Asked {
    /// Saves a checkpoint.
    pub fn save(checkpoint: Checkpoint, reply: Reply) -> Box<Self> {
        Box::new(Self { job: Job::Save { checkpoint, tag: 0 }, reply })
    }
    /// Keeps what a stage remembers, under its name.
    pub fn remember(name: String, snapshot: Snapshot, reply: Reply) -> Box<Self> {
        Box::new(Self { job: Job::Snapshot { name, snapshot, tag: 0 }, reply })
    }
    /// Keeps refused bytes.
    pub fn dead_letter(entry: Entry, reply: Reply) -> Box<Self> {
        Box::new(Self { job: Job::DeadLetter { entry, tag: 0 }, reply })
    }
    /// Keeps messages for a lookup.
    pub fn spool(lookup: String, entries: Vec<spool::Entry>, reply: Reply) -> Box<Self> {
        Box::new(Self { job: Job::Spool { lookup, entries, tag: 0 }, reply })
    }
    /// Says that of a lookup's messages everything below this place is worked off.
    pub fn unspool(lookup: String, segment: u32, offset: u64, reply: Reply) -> Box<Self> {
        Box::new(Self { job: Job::Unspool { lookup, segment, offset, tag: 0 }, reply })
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Asked({:?})", self.job)
    }
}

/// Spools by lookup.
type Spools = Arc<Mutex<BTreeMap<String, Arc<Spool>>>>;

/// The way to the store thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StoreHandle {
    mailbox: Arc<Mailbox<Box<Asked>>>,
    turns: Arc<AtomicU64>,
    dead_letter_bytes: Arc<AtomicU64>,
    spools: Spools,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl StoreHandle {
    /// Hands a job over. Its tag is the thread's own business.
    ///
    /// # Errors
    /// The job itself while [`limits::STORE_JOBS`] wait; hand it in again later.
    pub fn ask(&self, asked: Box<Asked>) -> Result<(), Box<Asked>> {
        self.mailbox.push(asked)
    }
    /// Turns of the thread's loop so far: after [`nudge`](Self::nudge) it must grow.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }
    /// Bytes of all dead-letter segments, as of the last commit.
    pub fn dead_letter_bytes(&self) -> u64 {
        self.dead_letter_bytes.load(Ordering::Relaxed)
    }
    /// The spool of a lookup.
    pub fn spool(&self, lookup: &str) -> Arc<Spool> {
        of(&self.spools, lookup)
    }
    /// Lookups with something in their spools.
    pub fn spooled(&self) -> Vec<String> {
        let spools = self.spools.lock().unwrap_or_else(PoisonError::into_inner);
        spools.values().filter(|spool| spool.bytes() > 0).map(|spool| spool.lookup().to_owned()).collect()
    }
    /// Makes the loop turn once.
    pub fn nudge(&self) {
        self.mailbox.nudge();
    }
    /// Ends the thread once all that was asked before has been tried; waits for it, unless it is
    /// a [`Body`] that runs elsewhere.
    ///
    /// What could not be written then is not answered, as after a crash.
    pub fn close(&self) {
        self.mailbox.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It only ends by itself or with the process: panics abort.
            let _ = thread.join();
        }
    }
}

/// Starts the thread.
///
/// - `standing`: shows a full disk or a full dead letter, once.
///
/// # Errors
/// As pthread_create(3).
pub fn start(writer: Writer, clock: SystemClock, standing: Standing) -> io::Result<StoreHandle> {
    let (handle, body) = body(writer, standing);
    let parked = Parked(clock);
    let thread = thread::Builder::new().name("store".into()).spawn(move || {
        let mut running = pin!(body.0.run(&parked));
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        // Its waits park the thread: one look takes it to its end.
        let _ = running.as_mut().poll(&mut Context::from_waker(&waker));
    })?;
    *handle.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
    Ok(handle)
}

/// What the thread runs, for an executor instead of a thread.
pub fn body(writer: Writer, standing: Standing) -> (StoreHandle, Body) {
    let mailbox = Mailbox::new(limits::STORE_JOBS);
    let turns = Arc::new(AtomicU64::new(0));
    let dead_letter_bytes = Arc::new(AtomicU64::new(writer.dead_letter_bytes()));
    let spools = Spools::default();
    writer.spools().for_each(|(lookup, ends)| of(&spools, lookup).publish(ends));
    let handle = StoreHandle {
        mailbox: mailbox.clone(),
        turns: turns.clone(),
        dead_letter_bytes: dead_letter_bytes.clone(),
        spools: spools.clone(),
        thread: Arc::default(),
    };
    let (replies, gathered) = (BTreeMap::new(), Vec::new());
    let running = Running { writer, standing, mailbox, turns, dead_letter_bytes, spools, replies, tag: 0, gathered };
    (handle, Body(running))
}

/// The store, to be run.
pub struct Body(Running);

impl Body {
    /// Runs until the handle is closed; a call of the disk then takes no time of its own.
    pub fn run(self, on: Rc<dyn Executor>) -> LocalFuture<'static, ()> {
        Box::pin(async move { self.0.run(&*on).await })
    }
}

struct Running {
    writer: Writer,
    standing: Standing,
    mailbox: Arc<Mailbox<Box<Asked>>>,
    turns: Arc<AtomicU64>,
    dead_letter_bytes: Arc<AtomicU64>,
    spools: Spools,
    replies: BTreeMap<u64, Reply>,
    tag: u64,
    gathered: Vec<Job>,
}

/// How the store waits: by parking a thread, or on an executor.
trait Patience {
    fn mono(&self) -> Nanos;
    fn now(&self) -> Nanos;
    /// Waits for a push, a nudge or the close, at most until `until`.
    fn wait<'a>(&'a self, mailbox: &'a Mailbox<Box<Asked>>, until: Option<Nanos>) -> LocalFuture<'a, ()>;
}

impl Running {
    async fn run(mut self, on: &(impl Patience + ?Sized)) {
        self.standing.set(State::Ready);
        loop {
            self.turns.fetch_add(1, Ordering::Relaxed);
            let closed = self.mailbox.is_closed();
            self.gather();
            if !self.gathered.is_empty() || self.writer.waiting() > 0 {
                self.wait_for_more(on).await;
                self.commit();
            }
            self.age(on.now());
            if closed {
                return;
            }
            if self.mailbox.is_closed() {
                // The close may have come while more was waited for, which took its signal.
                continue;
            }
            let patience = (self.writer.waiting() > 0).then(|| Duration::from_millis(limits::STORE_RETRY_MS));
            on.wait(&self.mailbox, patience.map(|span| on.mono() + nanos(span))).await;
        }
    }

    fn gather(&mut self) {
        while let Some(asked) = self.mailbox.try_pop() {
            let Asked { mut job, reply } = *asked;
            self.tag += 1;
            match &mut job {
                Job::Save { tag, .. }
                | Job::Snapshot { tag, .. }
                | Job::DeadLetter { tag, .. }
                | Job::Spool { tag, .. }
                | Job::Unspool { tag, .. } => *tag = self.tag,
            }
            self.replies.insert(self.tag, reply);
            self.gathered.push(job);
        }
    }

    async fn wait_for_more(&mut self, on: &(impl Patience + ?Sized)) {
        let until = on.mono() + nanos(Duration::from_millis(limits::GROUP_COMMIT_MS));
        while !self.gathered.is_empty() && !self.mailbox.is_closed() && on.mono() < until {
            on.wait(&self.mailbox, Some(until)).await;
            self.gather();
        }
        self.gather();
    }

    fn age(&mut self, now: Nanos) {
        self.writer.age(now);
        let expired = self.writer.take_expired();
        if expired.entries > 0 {
            self.standing.dropped("dead_letter_age", expired.entries);
            self.dead_letter_bytes.store(self.writer.dead_letter_bytes(), Ordering::Relaxed);
        }
    }

    fn commit(&mut self) {
        let all = self.writer.commit(std::mem::take(&mut self.gathered));
        // Before the answers: what is no longer on its way is counted on disk.
        self.writer.spools().for_each(|(lookup, ends)| of(&self.spools, lookup).publish(ends));
        for done in all {
            let (Done::Saved { tag, .. } | Done::Remembered { tag } | Done::Kept { tag }) = done;
            if let Some(reply) = self.replies.remove(&tag) {
                reply(done);
            }
        }
        self.dead_letter_bytes.store(self.writer.dead_letter_bytes(), Ordering::Relaxed);
        let dropped = self.writer.take_dropped();
        if dropped.entries > 0 {
            self.standing.dropped("dead_letter_full", dropped.entries);
        }
        self.standing.set(match self.writer.trouble() {
            Some(why) => State::Retrying(why),
            None => State::Ready,
        });
    }
}

fn of(spools: &Spools, lookup: &str) -> Arc<Spool> {
    let mut spools = spools.lock().unwrap_or_else(PoisonError::into_inner);
    spools.entry(lookup.to_owned()).or_insert_with(|| Spool::new(lookup)).clone()
}

/// The host's clock, and a thread that may park.
struct Parked(SystemClock);

impl Patience for Parked {
    fn mono(&self) -> Nanos {
        self.0.mono()
    }
    fn now(&self) -> Nanos {
        self.0.now()
    }
    fn wait<'a>(&'a self, mailbox: &'a Mailbox<Box<Asked>>, until: Option<Nanos>) -> LocalFuture<'a, ()> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut cx = Context::from_waker(&waker);
        let mut changed = pin!(mailbox.changed());
        while changed.as_mut().poll(&mut cx).is_pending() {
            match until.map(|until| until.saturating_sub(self.0.mono())) {
                None => thread::park(),
                Some(0) => break,
                Some(left) => thread::park_timeout(Duration::from_nanos(left)),
            }
        }
        Box::pin(std::future::ready(()))
    }
}

impl Patience for dyn Executor {
    fn mono(&self) -> Nanos {
        self.clock().mono()
    }
    fn now(&self) -> Nanos {
        self.clock().now()
    }
    fn wait<'a>(&'a self, mailbox: &'a Mailbox<Box<Asked>>, until: Option<Nanos>) -> LocalFuture<'a, ()> {
        Box::pin(async move {
            let mut changed = pin!(mailbox.changed());
            let mut timer = until.map(|until| self.sleep(Duration::from_nanos(until.saturating_sub(self.clock().mono()))));
            std::future::poll_fn(|cx| {
                let woken = changed.as_mut().poll(cx).is_ready();
                if woken || timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
        })
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
