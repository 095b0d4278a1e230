//! What both engines share: one thread's tasks on tokio's executor, and the hot end of files.
//!
//! It wakes with a third of the system calls that glommio's executor needs. The hot end is in the
//! page cache, where a ring costs more than it saves: it is read by pread(2) on the shard's own
//! thread, since handing it to another would cost more than it takes.
//!
//! The engines differ in how they read past the page cache ([`Engine`]).
//!
//! Nothing here waits for a descriptor but tokio's own sockets, and those only on the edge.

#![allow(clippy::disallowed_methods, reason = "an engine is where the real machine is touched")]

use std::{
    cell::{Cell, OnceCell},
    future::ready,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{runtime::Builder, task::LocalSet};

use super::{
    Executor, File, Io, LocalFuture, Setup, Slab, SlabPool, Stat, Subscription, Watch, Watcher,
    ahead::{Ahead, Blocks, Budget},
    host, watch,
};
use crate::{
    clock::{Clock, SystemClock},
    limits,
    ring::Signal,
};

/// How an engine reads cold on one thread.
pub(super) trait Engine {
    /// `uring` or `pread`.
    fn name(&self) -> &'static str;
    /// Bytes of a block, and how many of one file are in flight.
    fn blocks(&self) -> (usize, usize);
    /// How this file is read past the page cache.
    ///
    /// # Errors
    /// It cannot be: it is then read through the cache.
    fn open(self: Rc<Self>, fd: &Rc<OwnedFd>) -> io::Result<Box<dyn Blocks>>;
    /// Waits for what the kernel still does with our memory.
    fn end(&self) {}
}

/// Runs `body` on this thread until its future ends. Calls `begun` once the executor is there.
pub(super) fn run<T>(
    setup: Setup,
    cold: Rc<dyn Engine>,
    begun: impl FnOnce(),
    body: impl FnOnce(Rc<dyn Io>) -> LocalFuture<'static, T>,
) -> io::Result<T> {
    let mut builder = Builder::new_current_thread();
    builder.enable_time();
    if setup.network {
        builder.enable_io();
    }
    let runtime = builder.build()?;
    let tasks = LocalSet::new();
    let broken = Arc::new(Signal::default());
    let engine: Rc<dyn Io> = Rc::new(Local {
        clock: setup.clock,
        slabs: setup.slabs,
        watcher: setup.watcher,
        broken: broken.clone(),
        cold: cold.clone(),
        budget: Budget::new(limits::COLD_BLOCKS_AHEAD),
    });
    begun();
    let outcome = runtime.block_on(tasks.run_until(async move {
        let body = body(engine);
        tokio::select! {
            biased;
            outcome = body => outcome,
            () = broken.wait() => panic!("a task of this thread panicked, see above"),
        }
    }));
    drop(tasks);
    cold.end();
    Ok(outcome)
}

struct Local {
    clock: SystemClock,
    slabs: SlabPool,
    watcher: Watcher,
    /// Raised by a task that panics: tokio would swallow it, and the thread would go on without.
    broken: Arc<Signal>,
    cold: Rc<dyn Engine>,
    budget: Budget,
}

struct Alarm(Arc<Signal>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.raise();
        }
    }
}

impl Executor for Local {
    fn clock(&self) -> &dyn Clock {
        &self.clock
    }

    fn spawn(&self, name: &'static str, task: LocalFuture<'static, ()>) {
        let alarm = Alarm(self.broken.clone());
        tokio::task::spawn_local(async move {
            let _alarm = alarm;
            tracing::trace!(task = name, "task begins");
            task.await;
            tracing::trace!(task = name, "task ends");
        });
    }

    fn sleep(&self, span: Duration) -> LocalFuture<'static, ()> {
        Box::pin(tokio::time::sleep(span))
    }

    fn pause(&self) -> LocalFuture<'static, ()> {
        Box::pin(tokio::task::yield_now())
    }
}

impl Io for Local {
    fn open(&self, path: &Path) -> io::Result<Rc<dyn File>> {
        let (block, depth) = self.cold.blocks();
        Ok(Rc::new(Open {
            fd: Rc::new(host::open(path)?),
            engine: self.cold.clone(),
            cold: OnceCell::new(),
            refused: Cell::new(false),
            ahead: Ahead::new(block, depth, self.budget.clone()),
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
        self.cold.name()
    }

    fn boot(&self) -> String {
        host::boot()
    }
}

struct Open {
    fd: Rc<OwnedFd>,
    engine: Rc<dyn Engine>,
    /// `None` where the file cannot be read past the page cache.
    cold: OnceCell<Option<Box<dyn Blocks>>>,
    refused: Cell<bool>,
    ahead: Ahead,
}

impl Open {
    /// How the file is read cold, if it can be.
    fn cold(&self) -> Option<&dyn Blocks> {
        let open = || {
            let opened = self.engine.clone().open(&self.fd);
            opened.inspect_err(|e| tracing::debug!("cold reads go through the page cache: {e}")).ok()
        };
        self.cold.get_or_init(open).as_deref().filter(|_| !self.refused.get())
    }
}

impl File for Open {
    fn read_at(&self, offset: u64, len: usize, cold: bool, mut slab: Slab) -> LocalFuture<'_, (Slab, io::Result<usize>)> {
        if !cold {
            self.ahead.clear();
            let read = host::read_at(&*self.fd, offset, len, &mut slab.bytes);
            return Box::pin(ready((slab, read)));
        }
        Box::pin(async move {
            if let Some(blocks) = self.cold() {
                let before = slab.bytes.len();
                match self.ahead.read(blocks, offset, len, &mut slab.bytes).await {
                    Ok(count) => return (slab, Ok(count)),
                    // Some file systems take the flag and refuse the read; a broken disk answers
                    // the same again below.
                    Err(_) => self.refused.set(true),
                }
                slab.bytes.truncate(before);
            }
            let read = host::read_behind(&*self.fd, offset, len, &mut slab.bytes);
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
        Box::pin(watch::either(self.0.signal().wait(), tokio::time::sleep(watch::wait_at_most(span))))
    }

    fn rest(&self, span: Duration) -> LocalFuture<'_, ()> {
        self.0.spare(true);
        Box::pin(tokio::time::sleep(span))
    }
}
