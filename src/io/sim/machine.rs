//! Tasks and virtual time.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use super::Chance;
use crate::{
    clock::{Clock, Nanos, nanos},
    io::{Executor, LocalFuture},
};

/// Tasks that end together: the world, or one life of the agent.
pub type Group = u32;

/// Nanoseconds that a turn of a task takes at most.
const TURN_NANOS: u64 = 20_000;
/// Turns within one instant's work after which the machine is said to spin.
const TURNS_MAX: u64 = 5_000_000;

/// A machine with virtual time. Clones are the same machine; as an executor it runs tasks of
/// group 0.
#[derive(Clone)]
pub struct Machine(Rc<Inner>);

struct Inner {
    clock: SimClock,
    chance: RefCell<Chance>,
    tasks: RefCell<BTreeMap<u64, Task>>,
    next: Cell<u64>,
    ready: Arc<Ready>,
    timers: RefCell<BTreeMap<(Nanos, u64), Waker>>,
    turns: Cell<u64>,
    trace: RefCell<Trace>,
}

struct Task {
    name: &'static str,
    group: Group,
    future: LocalFuture<'static, ()>,
    waker: Waker,
    queued: Arc<Queued>,
}

#[derive(Default)]
struct Ready(Mutex<Vec<u64>>);

struct Queued {
    task: u64,
    is_queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Queued {
    fn wake(self: Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::AcqRel) {
            self.ready.0.lock().unwrap_or_else(PoisonError::into_inner).push(self.task);
        }
    }
}

#[derive(Default)]
struct Trace {
    /// FNV-1a over all lines.
    hash: u64,
    lines: Option<Vec<String>>,
}

/// The machine's clock, readable from its file system too.
#[derive(Clone, Debug)]
pub struct SimClock {
    now: Arc<AtomicU64>,
    born: Nanos,
}

impl Clock for SimClock {
    fn now(&self) -> Nanos {
        self.born.saturating_add(self.mono())
    }
    fn mono(&self) -> Nanos {
        self.now.load(Ordering::Relaxed)
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new(0, 0)
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Machine({} tasks at {} ns)", self.0.tasks.borrow().len(), self.0.clock.mono())
    }
}

impl Machine {
    /// A machine whose monotonic time begins at 0 and whose wall clock says `wall` then
    /// (nanoseconds since 1970).
    pub fn new(seed: u64, wall: Nanos) -> Self {
        Self(Rc::new(Inner {
            clock: SimClock { now: Arc::default(), born: wall },
            chance: RefCell::new(Chance::new(seed)),
            tasks: RefCell::default(),
            next: Cell::new(0),
            ready: Arc::default(),
            timers: RefCell::default(),
            turns: Cell::new(0),
            trace: RefCell::default(),
        }))
    }

    /// The machine's clock.
    pub fn sim_clock(&self) -> SimClock {
        self.0.clock.clone()
    }

    /// Choices of their own for a part of the machine.
    pub fn chance(&self) -> Chance {
        self.0.chance.borrow_mut().fork()
    }

    /// Keeps the lines of the trace, not only their hash.
    pub fn keep_trace(&self) {
        self.0.trace.borrow_mut().lines = Some(Vec::new());
    }

    /// Adds a line to the trace.
    pub fn note(&self, line: impl FnOnce() -> String) {
        let mut trace = self.0.trace.borrow_mut();
        let line = format!("{:>14} {}", self.0.clock.mono(), line());
        for byte in line.bytes() {
            trace.hash = (trace.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
        if let Some(lines) = &mut trace.lines {
            lines.push(line);
        }
    }

    /// A hash of the whole trace, and its lines where they are kept.
    pub fn trace(&self) -> (u64, Vec<String>) {
        let trace = self.0.trace.borrow();
        (trace.hash, trace.lines.clone().unwrap_or_default())
    }

    /// Turns that tasks have had.
    pub fn turns(&self) -> u64 {
        self.0.turns.get()
    }

    /// Adds a task to a group.
    pub fn spawn_in(&self, group: Group, name: &'static str, future: LocalFuture<'static, ()>) {
        let id = self.0.next.get();
        self.0.next.set(id + 1);
        let queued = Arc::new(Queued { task: id, is_queued: AtomicBool::new(false), ready: self.0.ready.clone() });
        let waker = Waker::from(queued.clone());
        waker.wake_by_ref();
        self.0.tasks.borrow_mut().insert(id, Task { name, group, future, waker, queued });
    }

    /// Ends every task of a group where it stands, as `kill -9` does.
    pub fn kill(&self, group: Group) {
        let mut tasks = self.0.tasks.borrow_mut();
        let ids: Vec<u64> = tasks.iter().filter(|(_, task)| task.group == group).map(|(id, _)| *id).collect();
        let dead: Vec<Task> = ids.iter().filter_map(|id| tasks.remove(id)).collect();
        // Dropped with nothing borrowed: a drop may wake others.
        drop(tasks);
        drop(dead);
    }

    /// Ends every task: they hold the machine, so it would never be freed with them.
    pub fn end(&self) {
        let dead = std::mem::take(&mut *self.0.tasks.borrow_mut());
        drop(dead);
    }

    /// Runs until `done`, at most until `until` (monotonic nanoseconds); true if `done`.
    ///
    /// # Panics
    /// If tasks keep each other busy without an end: that is a livelock of theirs.
    pub fn run(&self, until: Nanos, mut done: impl FnMut() -> bool) -> bool {
        let begun = self.0.turns.get();
        loop {
            if done() {
                return true;
            }
            if self.0.clock.mono() > until {
                return false;
            }
            self.fire();
            if self.turn() {
                let turns = self.0.turns.get() - begun;
                assert!(turns < TURNS_MAX, "the machine spins: {turns} turns and no end");
                continue;
            }
            let next = self.0.timers.borrow().keys().next().map(|(at, _)| *at);
            let Some(next) = next.filter(|next| *next <= until) else {
                self.set(until);
                return done();
            };
            self.set(next);
        }
    }

    /// Runs for a span, whatever happens.
    pub fn run_for(&self, span: Duration) {
        self.run(self.0.clock.mono().saturating_add(nanos(span)), || false);
    }

    fn set(&self, now: Nanos) {
        let now = now.max(self.0.clock.mono());
        if now < Nanos::MAX {
            self.0.clock.now.store(now, Ordering::Relaxed);
        }
    }

    /// Wakes those whose time has come.
    fn fire(&self) {
        let now = self.0.clock.mono();
        let mut timers = self.0.timers.borrow_mut();
        let later = timers.split_off(&(now + 1, 0));
        let due = std::mem::replace(&mut *timers, later);
        drop(timers);
        due.into_values().for_each(Waker::wake);
    }

    /// Gives one ready task, of the seed's choice, a turn.
    fn turn(&self) -> bool {
        let id = {
            let mut ready = self.0.ready.0.lock().unwrap_or_else(PoisonError::into_inner);
            if ready.is_empty() {
                return false;
            }
            let at = self.0.chance.borrow_mut().index(ready.len());
            ready.swap_remove(at)
        };
        let Some(mut task) = self.0.tasks.borrow_mut().remove(&id) else { return true };
        task.queued.is_queued.store(false, Ordering::Release);
        self.0.turns.set(self.0.turns.get() + 1);
        self.note(|| format!("{}:{} {}", task.group, id, task.name));
        let took = self.0.chance.borrow_mut().below(TURN_NANOS);
        self.0.clock.now.fetch_add(took, Ordering::Relaxed);
        let waker = task.waker.clone();
        if task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            self.0.tasks.borrow_mut().insert(id, task);
        }
        true
    }

    /// Waits at least `span`.
    pub fn wait(&self, span: Duration) -> Sleep {
        Sleep { machine: self.0.clone(), until: self.0.clock.mono().saturating_add(nanos(span)), timer: None }
    }
}

/// A timer of the machine.
pub struct Sleep {
    machine: Rc<Inner>,
    until: Nanos,
    timer: Option<(Nanos, u64)>,
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.machine.clock.mono() >= self.until {
            return Poll::Ready(());
        }
        let timer = self.timer.unwrap_or_else(|| {
            let number = self.machine.next.get();
            self.machine.next.set(number + 1);
            (self.until, number)
        });
        self.timer = Some(timer);
        self.machine.timers.borrow_mut().insert(timer, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            self.machine.timers.borrow_mut().remove(&timer);
        }
    }
}

/// Lets others run once.
pub(super) struct Pause(pub(super) bool);

impl Future for Pause {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Executor for Machine {
    fn clock(&self) -> &dyn Clock {
        &self.0.clock
    }
    fn spawn(&self, name: &'static str, task: LocalFuture<'static, ()>) {
        self.spawn_in(0, name, task);
    }
    fn sleep(&self, span: Duration) -> LocalFuture<'static, ()> {
        Box::pin(self.wait(span))
    }
    fn pause(&self) -> LocalFuture<'static, ()> {
        Box::pin(Pause(false))
    }
}
