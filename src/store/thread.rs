//! The thread around the writer: group commit, retries, answers.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    io,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Wake, Waker},
    thread::{self, JoinHandle, Thread},
    time::Duration,
};

use super::writer::{Done, Job, Writer};
use crate::{
    checkpoint::Checkpoint,
    clock::{Clock, Nanos, SystemClock, nanos},
    dead_letter::Entry,
    limits,
    metrics::{Standing, State},
    ring::Mailbox,
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
    /// Keeps refused bytes.
    pub fn dead_letter(entry: Entry, reply: Reply) -> Box<Self> {
        Box::new(Self { job: Job::DeadLetter { entry, tag: 0 }, reply })
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Asked({:?})", self.job)
    }
}

/// The way to the store thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StoreHandle {
    mailbox: Arc<Mailbox<Box<Asked>>>,
    turns: Arc<AtomicU64>,
    dead_letter_bytes: Arc<AtomicU64>,
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
    /// Makes the loop turn once.
    pub fn nudge(&self) {
        self.mailbox.nudge();
    }
    /// Ends the thread once all that was asked before has been tried; waits for it.
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
    let mailbox = Mailbox::new(limits::STORE_JOBS);
    let turns = Arc::new(AtomicU64::new(0));
    let dead_letter_bytes = Arc::new(AtomicU64::new(writer.dead_letter_bytes()));
    let mut running = Running {
        writer,
        clock,
        standing,
        mailbox: mailbox.clone(),
        turns: turns.clone(),
        dead_letter_bytes: dead_letter_bytes.clone(),
        replies: HashMap::new(),
        tag: 0,
        gathered: Vec::new(),
    };
    let thread = thread::Builder::new().name("store".into()).spawn(move || running.run())?;
    Ok(StoreHandle { mailbox, turns, dead_letter_bytes, thread: Arc::new(Mutex::new(Some(thread))) })
}

struct Running {
    writer: Writer,
    clock: SystemClock,
    standing: Standing,
    mailbox: Arc<Mailbox<Box<Asked>>>,
    turns: Arc<AtomicU64>,
    dead_letter_bytes: Arc<AtomicU64>,
    replies: HashMap<u64, Reply>,
    tag: u64,
    gathered: Vec<Job>,
}

impl Running {
    fn run(&mut self) {
        self.standing.set(State::Ready);
        loop {
            self.turns.fetch_add(1, Ordering::Relaxed);
            let closed = self.mailbox.is_closed();
            self.gather();
            if !self.gathered.is_empty() || self.writer.waiting() > 0 {
                self.wait_for_more();
                self.commit();
            }
            if closed {
                return;
            }
            if self.mailbox.is_closed() {
                // The close may have come while more was waited for, which took its signal.
                continue;
            }
            let patience = (self.writer.waiting() > 0).then(|| Duration::from_millis(limits::STORE_RETRY_MS));
            self.wait(patience.map(|span| self.clock.mono() + nanos(span)));
        }
    }

    fn gather(&mut self) {
        while let Some(asked) = self.mailbox.try_pop() {
            let Asked { mut job, reply } = *asked;
            self.tag += 1;
            match &mut job {
                Job::Save { tag, .. } | Job::DeadLetter { tag, .. } => *tag = self.tag,
            }
            self.replies.insert(self.tag, reply);
            self.gathered.push(job);
        }
    }

    fn wait_for_more(&mut self) {
        let until = self.clock.mono() + nanos(Duration::from_millis(limits::GROUP_COMMIT_MS));
        while !self.gathered.is_empty() && !self.mailbox.is_closed() && self.clock.mono() < until {
            self.wait(Some(until));
            self.gather();
        }
        self.gather();
    }

    fn commit(&mut self) {
        for done in self.writer.commit(std::mem::take(&mut self.gathered)) {
            let (Done::Saved { tag, .. } | Done::Kept { tag }) = done;
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

    /// Waits for a push, a nudge or the close, at most until `until`.
    fn wait(&self, until: Option<Nanos>) {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut cx = Context::from_waker(&waker);
        let mut changed = pin!(self.mailbox.changed());
        while changed.as_mut().poll(&mut cx).is_pending() {
            match until.map(|until| until.saturating_sub(self.clock.mono())) {
                None => thread::park(),
                Some(0) => return,
                Some(left) => thread::park_timeout(Duration::from_nanos(left)),
            }
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
