//! Engines: how a shard runs tasks and reads files.
//!
//! Three engines of equal rank implement [`Io`]: `uring` (glommio, the only module that names it),
//! `pread` (threads that wait for the disk), `sim` (the simulated machine). A shard waits only
//! for wakers and timers, never for a descriptor, so one shard body runs on all three.
//!
//! [`Disk`] is the other side: the few blocking calls of the thread that writes and fsyncs.
//!
//! Refuses to know what a frame, a position or a Wazuh manager is.

use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use crate::clock::Clock;

mod ahead;
pub mod disk;
mod facts;
mod host;
mod load;
mod local;
mod pread;
pub mod probe;
pub mod sim;
pub mod slab;
mod start;
mod uring;
mod usage;
pub mod watch;

pub use facts::facts;
pub use load::{Gauge, Load};
pub use probe::{Asked, choose};
pub use slab::{Slab, SlabPool};
pub use start::{Engine, Running, Setup, aside, cores, spawn, unbound};
pub use usage::{Usage, usage};
pub use watch::{Subscription, Watcher};

/// A future of one shard: boxed, not `Send`.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// What runs tasks on one thread.
pub trait Executor: 'static {
    /// The time, real or simulated.
    fn clock(&self) -> &dyn Clock;
    /// Runs `task` on this thread until it ends; `name` shows in logs.
    fn spawn(&self, name: &'static str, task: LocalFuture<'static, ()>);
    /// Waits at least `span`.
    fn sleep(&self, span: Duration) -> LocalFuture<'static, ()>;
    /// Lets other tasks of this thread run.
    fn pause(&self) -> LocalFuture<'static, ()>;
}

/// What a shard reads with.
pub trait Io: Executor {
    /// Opens a file for reading. Never follows the name twice: what was opened is what is read.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if the name is away, which for a Wazuh channel is a state;
    /// others as open(2).
    fn open(&self, path: &Path) -> io::Result<Rc<dyn File>>;
    /// Identity and size of what `path` names now, links followed.
    ///
    /// # Errors
    /// As stat(2).
    fn stat(&self, path: &Path) -> io::Result<Stat>;
    /// Whole paths of what is in a folder, in no particular order.
    ///
    /// # Errors
    /// As opendir(3).
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Begins to watch a file or folder, which need not exist; a hint only: the caller still looks
    /// on its own, first of all after this call.
    fn watch(&self, path: &Path) -> Rc<dyn Watch>;
    /// Buffers for reading.
    fn slabs(&self) -> &SlabPool;
    /// `uring`, `pread` or `sim`.
    fn engine(&self) -> &'static str;
    /// Names the time since the host last started: after a power loss it is another. Empty if the
    /// host has no such name.
    fn boot(&self) -> String;
}

/// An open file.
pub trait File {
    /// Appends up to `len` bytes from `offset` to `slab`; the slab comes back with the count.
    ///
    /// - `offset`: bytes from the start of the file; need not begin a frame.
    /// - `len`: at least 1, and no more than the room that the slab was taken with.
    /// - `cold`: the bytes are not expected in the page cache and should not push others out.
    ///
    /// Returns how many were read. 0 is the end of the file *for now*: a tail may grow.
    fn read_at(&self, offset: u64, len: usize, cold: bool, slab: Slab) -> LocalFuture<'_, (Slab, io::Result<usize>)>;
    /// Identity and size now.
    ///
    /// # Errors
    /// As fstat(2).
    fn stat(&self) -> io::Result<Stat>;
}

/// Identity and size of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    pub device: u64,
    pub inode: u64,
    /// Birth time, nanoseconds since 1970; 0 where the file system has none.
    pub born: u64,
    /// Bytes.
    pub size: u64,
    /// Last change of content, nanoseconds since 1970.
    pub modified: u64,
    /// True for a regular file: nothing else is ever read.
    pub is_file: bool,
}

/// A hint that something changed.
pub trait Watch {
    /// Waits until something may have changed, at most `span`, and in no case longer than
    /// [`limits::SAFETY_POLL_MS`](crate::limits::SAFETY_POLL_MS), since a hint may be missed.
    /// One task at a time may wait.
    fn changed(&self, span: Duration) -> LocalFuture<'_, ()>;
    /// Waits for `span`, whatever happens: for whoever looks again anyway, since something new comes
    /// all the time. Hints are spared meanwhile.
    fn rest(&self, span: Duration) -> LocalFuture<'_, ()>;
}

/// The blocking calls of the thread that writes and fsyncs. Names are whole paths.
pub trait Disk: Send {
    /// Reads a whole file.
    ///
    /// # Errors
    /// As open(2) and read(2).
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// A file from its start, piece by piece.
    ///
    /// # Errors
    /// As open(2).
    fn reader(&self, path: &Path) -> io::Result<Box<dyn io::Read>> {
        Ok(Box::new(io::Cursor::new(self.read(path)?)))
    }
    /// The path that a name leads to, through links: [`read`](Self::read) follows none in the last place.
    ///
    /// # Errors
    /// As realpath(3).
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }
    /// Writes a whole new file (mode 0600), replacing one of that name; not yet durable.
    ///
    /// # Errors
    /// As open(2) and write(2).
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Appends to a file (mode 0600), made if absent; not yet durable.
    ///
    /// # Errors
    /// As open(2) and write(2); after one, the file's end is unknown.
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Makes a file's content durable.
    ///
    /// # Errors
    /// As fsync(2). After one nothing that was written is believed.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// As fsync(2).
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Renames, replacing.
    ///
    /// # Errors
    /// As rename(2).
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a name.
    ///
    /// # Errors
    /// As unlink(2).
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Cuts a file to `len` bytes.
    ///
    /// # Errors
    /// As ftruncate(2).
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()>;
    /// Names in a folder.
    ///
    /// # Errors
    /// As opendir(3).
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Bytes of a file.
    ///
    /// # Errors
    /// As stat(2).
    fn len(&self, path: &Path) -> io::Result<u64> {
        self.read(path).map(|bytes| bytes.len() as u64)
    }
    /// Makes a folder (mode 0700) and those above it.
    ///
    /// # Errors
    /// As mkdir(2); an existing folder is none.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;
}
