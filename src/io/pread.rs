//! The `pread` engine: tokio's executor for one thread, files read by pread(2).
//!
//! It runs everywhere, wakes faster than the ring does, and on the hot end costs the same: the
//! bytes are in the page cache. The read is made on the shard's own thread, since handing it to
//! another would cost more than it takes.
//!
//! Nothing here waits for a descriptor but tokio's own sockets, and those only on the edge.

use std::{
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

use super::{Executor, File, Io, LocalFuture, Setup, Slab, SlabPool, Stat, Subscription, Watch, Watcher, host, watch};
use crate::{
    clock::{Clock, SystemClock},
    ring::Signal,
};

/// Runs `body` on this thread until its future ends. Calls `begun` once the executor is there.
pub(super) fn run<T>(setup: Setup, begun: impl FnOnce(), body: impl FnOnce(Rc<dyn Io>) -> LocalFuture<'static, T>) -> io::Result<T> {
    let mut builder = Builder::new_current_thread();
    builder.enable_time();
    if setup.network {
        builder.enable_io();
    }
    let runtime = builder.build()?;
    let tasks = LocalSet::new();
    let broken = Arc::new(Signal::default());
    let engine: Rc<dyn Io> = Rc::new(Pread { clock: setup.clock, slabs: setup.slabs, watcher: setup.watcher, broken: broken.clone() });
    begun();
    let outcome = runtime.block_on(tasks.run_until(async move {
        let body = body(engine);
        tokio::select! {
            biased;
            outcome = body => outcome,
            () = broken.wait() => panic!("a task of this thread panicked, see above"),
        }
    }));
    Ok(outcome)
}

struct Pread {
    clock: SystemClock,
    slabs: SlabPool,
    watcher: Watcher,
    /// Raised by a task that panics: tokio would swallow it, and the thread would go on without.
    broken: Arc<Signal>,
}

struct Alarm(Arc<Signal>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.raise();
        }
    }
}

impl Executor for Pread {
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

impl Io for Pread {
    fn open(&self, path: &Path) -> io::Result<Rc<dyn File>> {
        Ok(Rc::new(Open { fd: host::open(path)? }))
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
        "pread"
    }
}

struct Open {
    fd: OwnedFd,
}

impl File for Open {
    fn read_at(&self, offset: u64, len: usize, _cold: bool, mut slab: Slab) -> LocalFuture<'_, (Slab, io::Result<usize>)> {
        let read = host::read_at(&self.fd, offset, len, &mut slab.bytes);
        Box::pin(ready((slab, read)))
    }

    fn stat(&self) -> io::Result<Stat> {
        host::stat_of(&self.fd)
    }
}

struct Watched(Subscription);

impl Watch for Watched {
    fn changed(&self, span: Duration) -> LocalFuture<'_, ()> {
        Box::pin(watch::either(self.0.signal().wait(), tokio::time::sleep(watch::wait_at_most(span))))
    }
}
