//! The `uring` engine: glommio's executor, files read through io_uring. Nothing else in the agent
//! names glommio.
//!
//! Its sharp edges, and what is done about each:
//!
//! - A refused io_uring is a panic that poisons the process: [`probe`](super::probe) asks first.
//! - Opening a path that vanishes panics: files are opened elsewhere, and handed over by number.
//! - `DmaFile::read_at` gives bytes that are not in the file: only aligned reads are made, and cut
//!   by our own knowledge of its length ([`ahead`](super::ahead)).
//! - Opening a direct file reads /sys and panics on what it does not know: [`sysfs`] looks first.
//! - Many wakes of one task from another thread overflow a counter: foreign threads wake only
//!   through an `AtomicWaker` (`ring`).
//! - It can fall asleep on a task that is ready to run: [`beat`] bounds how long.
//! - While a task is ready it looks at nothing else: [`turn`] makes pausing tasks step aside.
//! - A task left over when the executor goes is never dropped, and the kernel may still write into
//!   a buffer of a read that is: both are waited for before the executor ends.
//!
//! A hot read takes what the page cache holds straight into the slab, without the ring, and waits
//! on the ring only for what is missing.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    io,
    ops::Deref,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use glommio::{LocalExecutorBuilder, Placement, Task, io::BufferedFile, timer::Timer};

use super::{
    Executor, File, Io, LocalFuture, Setup, Slab, SlabPool, Stat, Subscription, Watch, Watcher,
    ahead::{Ahead, Budget},
    host, watch,
};
use crate::{
    clock::{Clock, SystemClock},
    limits,
};

mod beat;
mod cold;
mod sysfs;
mod turn;

/// A sleep longer than a year is a year: glommio's clock overflows with a panic.
const SLEEP_MAX: Duration = Duration::from_secs(365 * 86_400);

/// Runs `body` on this thread until its future ends. Calls `begun` once the executor is there.
pub(super) fn run<T: 'static>(
    setup: Setup,
    begun: impl FnOnce(),
    body: impl FnOnce(Rc<dyn Io>) -> LocalFuture<'static, T>,
) -> io::Result<T> {
    // Direct reads take their buffers from here. Where three times as much does not fit
    // RLIMIT_MEMLOCK it is silently not registered with the rings, and still saves each read the
    // zeroing of fresh pages (four times the CPU).
    let room = if setup.cold { limits::COLD_PINNED_BYTES } else { limits::PINNED_BYTES_MIN };
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .name(&setup.name)
        .io_memory(room)
        // Not used: it is the likeliest cause of oversleeping, and `pause` does its work.
        .preempt_timer(Duration::from_secs(3600))
        .make()
        .map_err(io::Error::from)?;
    let engine = Rc::new(Uring {
        clock: setup.clock,
        slabs: setup.slabs,
        watcher: setup.watcher,
        tasks: Rc::default(),
        reads: Rc::default(),
        budget: Budget::new(limits::COLD_BLOCKS_AHEAD),
        pulse: Rc::default(),
        turn: Rc::default(),
    });
    begun();
    Ok(executor.run(async move {
        let beat = glommio::spawn_local(beat::keep(engine.pulse.clone()));
        let outcome = engine.pulse.count(body(engine.clone())).await;
        beat.cancel().await;
        engine.tasks.end().await;
        engine.reads.settle().await;
        outcome
    }))
}

struct Uring {
    clock: SystemClock,
    slabs: SlabPool,
    watcher: Watcher,
    tasks: Rc<Tasks>,
    reads: Rc<Reads>,
    budget: Budget,
    pulse: Rc<beat::Pulse>,
    turn: Rc<turn::Turn>,
}

/// The tasks that were spawned and have not ended.
#[derive(Default)]
struct Tasks {
    live: RefCell<HashMap<u64, Task<()>>>,
    next: Cell<u64>,
}

impl Tasks {
    fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        let id = self.next.replace(self.next.get() + 1);
        let tasks = Rc::downgrade(self);
        let task = glommio::spawn_local(async move {
            task.await;
            // Detached, since dropping one's own handle would be cancelling oneself.
            if let Some(me) = tasks.upgrade().and_then(|tasks| tasks.live.borrow_mut().remove(&id)) {
                me.detach();
            }
        });
        self.live.borrow_mut().insert(id, task);
    }

    /// Ends them all.
    async fn end(&self) {
        loop {
            let Some(id) = self.live.borrow().keys().next().copied() else { return };
            let task = self.live.borrow_mut().remove(&id);
            if let Some(task) = task {
                task.cancel().await;
            }
        }
    }
}

/// The reads that the kernel has not answered yet.
#[derive(Default)]
struct Reads(Cell<usize>);

struct InFlight(Rc<Reads>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get() - 1);
    }
}

impl Reads {
    /// Begins `read`, which goes on to its end even if nobody waits for it any more.
    fn begin<T: 'static>(self: &Rc<Self>, read: impl Future<Output = io::Result<T>> + 'static) -> LocalFuture<'static, io::Result<T>> {
        self.0.set(self.0.get() + 1);
        let in_flight = InFlight(self.clone());
        let reading = glommio::spawn_local(async move {
            let _in_flight = in_flight;
            read.await
        })
        .detach();
        Box::pin(async move { reading.await.unwrap_or_else(|| Err(io::Error::other("the executor ended"))) })
    }

    async fn settle(&self) {
        while self.0.get() > 0 {
            Timer::new(Duration::from_millis(1)).await;
        }
    }
}

impl Executor for Uring {
    fn clock(&self) -> &dyn Clock {
        &self.clock
    }

    fn spawn(&self, name: &'static str, task: LocalFuture<'static, ()>) {
        self.tasks.spawn(self.pulse.count(async move {
            tracing::trace!(task = name, "task begins");
            task.await;
            tracing::trace!(task = name, "task ends");
        }));
    }

    fn sleep(&self, span: Duration) -> LocalFuture<'static, ()> {
        Box::pin(sleep(span))
    }

    fn pause(&self) -> LocalFuture<'static, ()> {
        let (turn, clock) = (self.turn.clone(), self.clock);
        Box::pin(async move { turn.pause(&clock).await })
    }
}

async fn sleep(span: Duration) {
    Timer::new(span.min(SLEEP_MAX)).await;
}

impl Io for Uring {
    fn open(&self, path: &Path) -> io::Result<Rc<dyn File>> {
        Ok(Rc::new(Open {
            fd: Rc::new(host::open(path)?),
            reads: self.reads.clone(),
            buffered: RefCell::default(),
            cold: OnceCell::new(),
            refused: Cell::new(false),
            ahead: Ahead::new(limits::SLAB_BYTES, limits::COLD_READS, self.budget.clone()),
        }))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        host::stat(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        host::list(dir)
    }

    fn watch(&self, path: &Path) -> Rc<dyn Watch> {
        Rc::new(Watched(self.watcher.watch(path)))
    }

    fn slabs(&self) -> &SlabPool {
        &self.slabs
    }

    fn engine(&self) -> &'static str {
        "uring"
    }

    fn boot(&self) -> String {
        host::boot()
    }
}

struct Open {
    fd: Rc<OwnedFd>,
    reads: Rc<Reads>,
    /// Opened by the first read that must wait for the disk.
    buffered: RefCell<Option<Rc<BufferedFile>>>,
    cold: OnceCell<cold::Cold>,
    refused: Cell<bool>,
    ahead: Ahead,
}

impl Open {
    async fn read_hot(&self, offset: u64, len: usize, bytes: &mut Vec<u8>) -> io::Result<usize> {
        match host::read_cached(&*self.fd, offset, len, bytes) {
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Unsupported) => {}
            read => return read,
        }
        let known = self.buffered.borrow().clone();
        let file = match known {
            Some(file) => file,
            None => {
                let path = host::by_number(&*self.fd);
                let fd = self.fd.clone();
                let opened = self.reads.begin(async move {
                    let opened = BufferedFile::open(path).await.map_err(io::Error::from);
                    drop(fd); // its number must stay ours until here
                    opened.map(Rc::new)
                });
                match opened.await {
                    Ok(file) => self.buffered.borrow_mut().insert(file).clone(),
                    // Without /proc there is no way to hand the file over.
                    Err(_) => return host::read_at(&*self.fd, offset, len, bytes),
                }
            }
        };
        let read = self.reads.begin(async move { file.read_at(offset, len).await.map_err(io::Error::from) }).await?;
        let read = read.deref();
        bytes.extend_from_slice(&read[..read.len().min(len)]);
        Ok(read.len().min(len))
    }

    /// How the file is read cold, if it can be.
    async fn cold(&self) -> Option<&cold::Cold> {
        if self.refused.get() {
            return None;
        }
        if self.cold.get().is_none() {
            match cold::Cold::open(&self.fd, &self.reads).await {
                Ok(cold) => drop(self.cold.set(cold)),
                Err(e) => {
                    tracing::debug!("cold reads go through the page cache: {e}");
                    self.refused.set(true);
                }
            }
        }
        self.cold.get()
    }
}

impl File for Open {
    fn read_at(&self, offset: u64, len: usize, cold: bool, mut slab: Slab) -> LocalFuture<'_, (Slab, io::Result<usize>)> {
        Box::pin(async move {
            if !cold {
                self.ahead.clear();
                let read = self.read_hot(offset, len, &mut slab.bytes).await;
                return (slab, read);
            }
            if let Some(blocks) = self.cold().await {
                let before = slab.bytes.len();
                match self.ahead.read(blocks, offset, len, &mut slab.bytes).await {
                    Ok(count) => return (slab, Ok(count)),
                    // Some file systems take the flag and refuse the read; a broken disk answers
                    // the same again below.
                    Err(_) => self.refused.set(true),
                }
                slab.bytes.truncate(before);
            }
            let read = self.read_hot(offset, len, &mut slab.bytes).await;
            if let Ok(count) = read {
                host::drop_behind(&*self.fd, offset, count);
            }
            (slab, read)
        })
    }

    fn stat(&self) -> io::Result<Stat> {
        host::stat_of(&*self.fd)
    }
}

struct Watched(Subscription);

impl Watch for Watched {
    fn changed(&self, span: Duration) -> LocalFuture<'_, ()> {
        self.0.spare(false);
        Box::pin(watch::either(self.0.signal().wait(), sleep(watch::wait_at_most(span))))
    }

    fn soon(&self) -> LocalFuture<'_, ()> {
        self.0.spare(true);
        Box::pin(sleep(Duration::from_millis(limits::WATCH_FOLD_MS)))
    }
}
