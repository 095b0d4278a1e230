//! The engine `sim`: one simulated thread of an agent.

use std::{
    cell::RefCell,
    io,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use super::{
    Chance, Files, Group, Machine,
    disk::{Kind, call},
};
use crate::{
    clock::Clock,
    io::{
        Executor, File, Io, LocalFuture, Slab, SlabPool, Stat, Watch,
        watch::{either, wait_at_most},
    },
    ring::Signal,
};

/// A thread: its tasks end with its group.
pub struct Thread {
    machine: Machine,
    group: Group,
    files: Files,
    slabs: SlabPool,
    chance: Rc<RefCell<Chance>>,
}

/// Milliseconds that a hint may be late.
const HINT_LATE_MS: u64 = 20;

impl Thread {
    /// A thread of `group` that sees `files`, with `slabs` pooled buffers.
    pub fn new(machine: &Machine, group: Group, files: &Files, slabs: usize) -> Rc<Self> {
        let chance = Rc::new(RefCell::new(machine.chance()));
        Rc::new(Self { machine: machine.clone(), group, files: files.clone(), slabs: SlabPool::new(slabs), chance })
    }
}

impl Executor for Thread {
    fn clock(&self) -> &dyn Clock {
        self.machine.clock()
    }
    fn spawn(&self, name: &'static str, task: LocalFuture<'static, ()>) {
        self.machine.spawn_in(self.group, name, task);
    }
    fn sleep(&self, span: Duration) -> LocalFuture<'static, ()> {
        self.machine.sleep(span)
    }
    fn pause(&self) -> LocalFuture<'static, ()> {
        self.machine.pause()
    }
}

impl Io for Thread {
    fn open(&self, path: &Path) -> io::Result<Rc<dyn File>> {
        let inode = call(&self.files, Kind::Look, |inner, _| {
            if inner.is_dir(path) {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            let n = inner.find(path)?;
            inner.hold(n);
            Ok(n)
        })?;
        Ok(Rc::new(Open { inode, files: self.files.clone(), machine: self.machine.clone(), chance: self.chance.clone() }))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        call(&self.files, Kind::Look, |inner, _| {
            if inner.is_dir(path) {
                return Ok(Stat { device: 1, inode: 1, ..Stat::default() });
            }
            Ok(inner.stat(inner.find(path)?))
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        call(&self.files, Kind::Look, |inner, _| inner.list(dir))
    }

    fn watch(&self, path: &Path) -> Rc<dyn Watch> {
        let signal = Arc::new(Signal::default());
        self.files.lock().watch(path, &signal);
        Rc::new(Watched { signal, machine: self.machine.clone(), chance: self.chance.clone() })
    }

    fn slabs(&self) -> &SlabPool {
        &self.slabs
    }

    fn engine(&self) -> &'static str {
        "sim"
    }

    fn boot(&self) -> String {
        self.files.lock().boots.to_string()
    }
}

struct Open {
    inode: usize,
    files: Files,
    machine: Machine,
    chance: Rc<RefCell<Chance>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.files.lock().let_go(self.inode);
    }
}

impl File for Open {
    fn read_at(&self, offset: u64, len: usize, _cold: bool, mut slab: Slab) -> LocalFuture<'_, (Slab, io::Result<usize>)> {
        Box::pin(async move {
            let late = self.chance.borrow_mut().of_thousand(200);
            if late {
                let span = self.chance.borrow_mut().below(3_000_000);
                self.machine.wait(Duration::from_nanos(span)).await;
            }
            let read = call(&self.files, Kind::Look, |inner, _| {
                let bytes = &inner.inodes[self.inode].now;
                let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
                let mut count = rest.len().min(len);
                if count > 1 && self.chance.borrow_mut().of_thousand(100) {
                    count = 1 + self.chance.borrow_mut().index(count);
                }
                slab.bytes.extend_from_slice(&rest[..count]);
                Ok(count)
            });
            (slab, read)
        })
    }

    fn stat(&self) -> io::Result<Stat> {
        call(&self.files, Kind::Look, |inner, _| Ok(inner.stat(self.inode)))
    }
}

struct Watched {
    signal: Arc<Signal>,
    machine: Machine,
    chance: Rc<RefCell<Chance>>,
}

impl Watch for Watched {
    fn changed(&self, span: Duration) -> LocalFuture<'_, ()> {
        Box::pin(async move {
            either(self.signal.wait(), self.machine.wait(wait_at_most(span))).await;
            let late = self.chance.borrow_mut().below(HINT_LATE_MS * 1_000_000);
            self.machine.wait(Duration::from_nanos(late)).await;
        })
    }

    fn rest(&self, span: Duration) -> LocalFuture<'_, ()> {
        Box::pin(self.machine.wait(span))
    }
}
