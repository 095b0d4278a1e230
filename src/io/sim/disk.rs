//! The simulated side of [`Disk`]: each call may be the last, or fail.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::files::{Files, Inner};
use crate::io::Disk;

/// An agent's way to write its own folders.
#[derive(Clone, Debug)]
pub struct SimDisk(Files);

impl SimDisk {
    /// The disk under a machine's files.
    pub fn new(files: &Files) -> Self {
        Self(files.clone())
    }
}

/// How much of itself a call does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    Nothing,
    Part,
    Whole,
}

/// What a call does to the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Look,
    /// Takes room.
    Write,
    /// Changes names or lengths, or makes them durable.
    Change,
}

/// Makes one call of the agent's: counted, and stopped or failed where that is its lot.
pub(super) fn call<T>(files: &Files, kind: Kind, effect: impl FnOnce(&mut Inner, Done) -> io::Result<T>) -> io::Result<T> {
    let mut inner = files.lock();
    let dead = || io::Error::other("the process is dead");
    if inner.stopped {
        return Err(dead());
    }
    inner.calls += 1;
    if inner.stop_at == Some(inner.calls) {
        // A sync that a kill interrupts is not one that failed: it spoils nothing.
        let ways: &[Done] = if kind == Kind::Write { &[Done::Nothing, Done::Part, Done::Whole] } else { &[Done::Nothing, Done::Whole] };
        let done = ways[inner.chance.index(ways.len())];
        if done != Done::Nothing {
            let _ = effect(&mut inner, done);
        }
        inner.stopped = true;
        return Err(dead());
    }
    let errors = if kind == Kind::Look { inner.trouble.looks } else { inner.trouble.errors };
    if kind == Kind::Write && inner.trouble.full {
        let _ = effect(&mut inner, Done::Part);
        return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device"));
    }
    if inner.chance.of_thousand(errors) {
        let _ = effect(&mut inner, Done::Part);
        return Err(io::Error::other("input/output error"));
    }
    effect(&mut inner, Done::Whole)
}

fn part<'b>(inner: &mut Inner, bytes: &'b [u8], done: Done) -> &'b [u8] {
    match done {
        Done::Whole => bytes,
        Done::Part => &bytes[..inner.chance.index(bytes.len() + 1)],
        Done::Nothing => &[],
    }
}

impl Disk for SimDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        call(&self.0, Kind::Look, |inner, _| Ok(inner.inodes[inner.find(path)?].now.clone()))
    }
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        call(&self.0, Kind::Write, |inner, done| {
            let bytes = part(inner, bytes, done);
            let n = inner.find_or_make(path);
            inner.write(n, bytes, true);
            Ok(())
        })
    }
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        call(&self.0, Kind::Write, |inner, done| {
            let bytes = part(inner, bytes, done);
            let n = inner.find_or_make(path);
            inner.write(n, bytes, false);
            Ok(())
        })
    }
    fn sync(&self, path: &Path) -> io::Result<()> {
        call(&self.0, Kind::Change, |inner, done| {
            let n = inner.find(path)?;
            inner.sync(n, done == Done::Whole);
            Ok(())
        })
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        call(&self.0, Kind::Change, |inner, done| {
            if done == Done::Whole {
                inner.sync_names(dir);
            }
            Ok(())
        })
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        // One step, as the file system promises: both names or neither.
        call(&self.0, Kind::Change, |inner, _| inner.rename(from, to))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        call(&self.0, Kind::Change, |inner, _| {
            inner.find(path)?;
            inner.unlink(path, false);
            Ok(())
        })
    }
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        call(&self.0, Kind::Change, |inner, _| {
            let n = inner.find(path)?;
            inner.cut(n, usize::try_from(len).unwrap_or(usize::MAX));
            Ok(())
        })
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        call(&self.0, Kind::Look, |inner, _| inner.list(dir))
    }
    fn len(&self, path: &Path) -> io::Result<u64> {
        call(&self.0, Kind::Look, |inner, _| Ok(inner.inodes[inner.find(path)?].now.len() as u64))
    }
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        call(&self.0, Kind::Change, |inner, _| {
            inner.add_dir(dir);
            Ok(())
        })
    }
}
