//! New files below the roots, each handed on once for what it is.
//!
//! - A thread of its own waits in the kernel for files that are closed after writing or moved in, and for new folders
//!   (inotify). It lists the folders at the start, every [`limits::SCAN_LIST_EVERY_MS`], and when the kernel says that
//!   events were lost. Nothing else wakes it but [`Watch::named`].
//! - What is found goes to a sink in batches. While the sink waits (a full queue), so does the watch: the folder is the
//!   queue, and the next listing finds what the kernel could not hold.
//! - [`core`] decides, without a clock or a disk.
//!
//! Refuses to open files, and to remember beyond its own life what was handed on: the task store knows.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

mod core;
mod events;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt, io,
    ops::ControlFlow,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use self::{
    core::{Core, Folder, Now},
    events::Events,
};
use super::{
    outcome::Reason,
    roots::{Entry, Roots, below},
    settings::Root,
    task::{Identity, RelPath},
};
use crate::{
    clock::{Clock, Nanos, nanos},
    limits,
};

/// A file that is to be scanned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub root: Arc<str>,
    pub path: RelPath,
    pub identity: Identity,
}

/// What the watch sees and does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Folders that are watched.
    pub folders: u64,
    /// Files in them, at the last listing.
    pub files: u64,
    /// Of these, not closed and not still for long enough yet.
    pub waiting: u64,
    /// Handed on since the start.
    pub found: u64,
    /// Times that the kernel lost events.
    pub overflows: u64,
    pub listings: u64,
    /// Why new files are found by listing alone, in the operator's words.
    pub trouble: Option<String>,
}

/// The thread, until it is dropped or stopped.
pub struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    bell: OwnedFd,
    ended: AtomicBool,
    named: Mutex<Vec<Vec<u8>>>,
    figures: Mutex<Figures>,
}

impl Shared {
    fn ring(&self) {
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes what was found, at most [`limits::SCAN_FOUND_BATCH`] at a time, and comes back when others answer for all of it.
/// May wait as long as it likes, but has to break off when the agent ends.
pub type Sink = Box<dyn FnMut(&[Found]) -> ControlFlow<()> + Send>;

impl Watch {
    /// Starts the thread.
    ///
    /// - `which`: those with `watch` are watched, to their `depth`.
    /// - `settle`: stillness after which a listed file is taken that nobody was seen to close.
    ///
    /// # Errors
    /// Out of descriptors or threads. Refused inotify is none: the folders are then listed, which is said in the log.
    pub fn start(
        roots: Arc<Roots>,
        which: &[Root],
        settle: Duration,
        clock: impl Clock + Send + 'static,
        sink: impl FnMut(&[Found]) -> ControlFlow<()> + Send + 'static,
    ) -> io::Result<Self> {
        let list_every = Duration::from_millis(limits::SCAN_LIST_EVERY_MS);
        Self::start_by(roots, which, settle, list_every, clock, Box::new(sink))
    }

    fn start_by(
        roots: Arc<Roots>,
        which: &[Root],
        settle: Duration,
        list_every: Duration,
        clock: impl Clock + Send + 'static,
        sink: Sink,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            ended: AtomicBool::new(false),
            named: Mutex::default(),
            figures: Mutex::default(),
        });
        let watched = which.iter().filter(|root| root.watch).map(|root| (Arc::from(root.name.as_str()), root.depth)).collect();
        let events = Events::open().map_err(|error| {
            let trouble = format!(
                "cannot use inotify: {error}; raise fs.inotify.max_user_instances, new files are found by listing until the agent restarts"
            );
            tracing::warn!("{trouble}");
            lock(&shared.figures).trouble = Some(trouble);
        });
        let mut body = Body {
            shared: shared.clone(),
            core: Core::new(nanos(settle)),
            events: events.ok(),
            roots,
            watched,
            clock,
            sink,
            list_every: nanos(list_every),
            missing: Vec::new(),
            has_failed: false,
            is_whole: true,
        };
        let thread = thread::Builder::new().name("scan-watch".into()).spawn(move || body.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// A log of Zeek's names a file that it has written whole: it is taken at once, if it is there.
    ///
    /// - `name`: the file's name, or its path below the root.
    pub fn named(&self, name: &[u8]) {
        let mut named = lock(&self.shared.named);
        if named.len() < limits::SCAN_NAMED_MAX {
            named.push(name.to_vec());
        }
        drop(named);
        self.shared.ring();
    }

    pub fn figures(&self) -> Figures {
        lock(&self.shared.figures).clone()
    }

    /// Ends the thread and waits for it; its sink has to have been told before.
    pub fn stop(mut self) {
        self.end();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    fn end(&self) {
        self.shared.ended.store(true, Ordering::Release);
        self.shared.ring();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watch({:?})", self.figures())
    }
}

struct Body<C> {
    shared: Arc<Shared>,
    core: Core,
    /// `None` where inotify is refused.
    events: Option<Events>,
    roots: Arc<Roots>,
    /// Name and depth.
    watched: Vec<(Arc<str>, u32)>,
    clock: C,
    sink: Sink,
    list_every: Nanos,
    /// Roots that were told to be missing.
    missing: Vec<Arc<str>>,
    /// A folder could not be read in the last listing.
    has_failed: bool,
    /// This listing looks at every file.
    is_whole: bool,
}

impl<C: Clock> Body<C> {
    fn run(&mut self) {
        let mut next_listing = self.clock.mono();
        loop {
            let now = self.clock.mono();
            let rest = next_listing.saturating_sub(now);
            if rest > 0 {
                self.wait(Some(rest));
            }
            if self.shared.ended.load(Ordering::Acquire) {
                return;
            }
            let mut seen = self.events.as_mut().map(Events::take).unwrap_or_default();
            if !seen.is_empty() && rest > 0 {
                // What is being closed now is folded with it, and read a tick after its last write at the earliest.
                self.rest();
                seen.add(self.events.as_mut().map(Events::take).unwrap_or_default());
            }
            if seen.overflow {
                lock(&self.shared.figures).overflows += 1;
            }
            if seen.overflow || self.clock.mono() >= next_listing {
                next_listing = self.clock.mono().saturating_add(self.list_every);
                let listings = lock(&self.shared.figures).listings;
                self.is_whole = seen.overflow || self.events.is_none() || listings.is_multiple_of(limits::SCAN_LIST_WHOLE_EVERY);
                self.list_all();
            } else {
                for folder in seen.folders {
                    self.list(folder, &mut Vec::new());
                }
            }
            for (folder, names) in seen.closed {
                self.look(&folder, names.iter().map(Vec::as_slice));
            }
            for name in std::mem::take(&mut *lock(&self.shared.named)) {
                self.core.named(&name, self.now());
            }
            if self.hand_on().is_break() {
                return;
            }
        }
    }

    /// Waits for an event, the bell or the time.
    fn wait(&self, span: Option<Nanos>) {
        let bell = PollFd::new(&self.shared.bell, PollFlags::IN);
        let span = span.map(timespec);
        let _ = match &self.events {
            Some(events) => poll(&mut [bell, PollFd::new(events, PollFlags::IN)], span.as_ref()),
            None => poll(&mut [bell], span.as_ref()),
        };
        let _ = rustix::io::read(&self.shared.bell, &mut [0; 8]);
    }

    /// Waits a moment, whatever happens but the end.
    fn rest(&self) {
        let span = timespec(limits::SCAN_FOLD_MS * 1_000_000);
        let _ = poll(&mut [PollFd::new(&self.shared.bell, PollFlags::IN)], Some(&span));
    }

    fn now(&self) -> Now {
        Now { mono: self.clock.mono(), wall: self.clock.now() }
    }

    fn list_all(&mut self) {
        self.has_failed = false;
        let mut visited = Vec::new();
        for root in 0..self.watched.len() {
            self.list(Folder { root, path: RelPath::default() }, &mut visited);
        }
        // What could not be looked at is not gone.
        if !self.has_failed {
            visited.sort_unstable();
            if let Some(events) = &mut self.events {
                events.keep(&visited);
            }
            self.core.keep(&visited);
        }
        let (files, waiting) = self.core.count();
        let mut figures = lock(&self.shared.figures);
        (figures.files, figures.waiting) = (files, waiting);
        figures.listings += 1;
    }

    /// Lists a folder and those below it, each after a watch was placed on it.
    fn list(&mut self, folder: Folder, visited: &mut Vec<Folder>) {
        let mut left = vec![folder];
        while let Some(folder) = left.pop() {
            let Some((name, depth)) = self.watched.get(folder.root).cloned() else { continue };
            let levels = folder.levels();
            if levels > depth {
                continue;
            }
            if visited.len() >= limits::SCAN_FOLDERS_MAX {
                let max = limits::SCAN_FOLDERS_MAX;
                self.tell(format!("more than {max} folders below the scan roots: files in the others are not found; lower `depth`"));
                return;
            }
            let placed = self.roots.open_folder(&name, &folder.path).and_then(|fd| {
                if let Some(Err(trouble)) = self.events.as_mut().map(|events| events.watch(&fd, &folder, levels < depth)) {
                    self.tell(trouble);
                }
                // What is written on in place is closed again, and the kernel says so. Where it does not, all are looked at.
                let known = |file: &[u8], inode| self.core.handed_on(&folder, file, inode).filter(|_| !self.is_whole);
                self.roots.list_anew(&name, &folder.path, known)
            });
            let is_root = levels == 0;
            let entries = match placed {
                Ok(entries) => entries,
                Err(failure) => {
                    self.has_failed |= failure.reason == Reason::Io;
                    if is_root && !self.missing.contains(&name) {
                        tracing::warn!(root = %name, reason = ?failure.reason, "cannot list scan root; its files are taken once it can be");
                        self.missing.push(name);
                    } else if !is_root && failure.reason == Reason::Io {
                        let path = folder.path.0.escape_ascii();
                        tracing::warn!(root = %name, folder = %path, cause = ?failure.cause, "cannot list a folder below a scan root; let the agent's user read it");
                    }
                    continue;
                }
            };
            if is_root && self.missing.contains(&name) {
                tracing::info!(root = %name, "scan root is there again");
                self.missing.retain(|missing| *missing != name);
            }
            let mut files = BTreeMap::new();
            for entry in entries {
                match entry {
                    Entry::File { name, identity } => drop(files.insert(name, identity)),
                    Entry::Folder { name } => left.push(Folder { root: folder.root, path: below(&folder.path, &name) }),
                }
            }
            let now = self.now();
            self.core.listed(&folder, &files, now);
            visited.push(folder);
        }
    }

    fn look<'n>(&mut self, folder: &Folder, names: impl Iterator<Item = &'n [u8]>) {
        let Some((root, _)) = self.watched.get(folder.root) else { return };
        // A folder that cannot be opened is gone, or the next listing says why.
        let Ok(looks) = self.roots.look_in(root, &folder.path) else { return };
        for name in names {
            match looks.look(name) {
                Ok(identity) => self.core.closed(folder, name, identity),
                Err(_) => continue,
            }
        }
    }

    /// Hands on what is due.
    fn hand_on(&mut self) -> ControlFlow<()> {
        let due: Vec<Found> = self
            .core
            .due()
            .into_iter()
            .filter_map(|(folder, name, identity)| {
                let (root, _) = self.watched.get(folder.root)?;
                Some(Found { root: root.clone(), path: below(&folder.path, &name), identity })
            })
            .collect();
        for batch in due.chunks(limits::SCAN_FOUND_BATCH) {
            (self.sink)(batch)?;
            lock(&self.shared.figures).found += batch.len() as u64;
        }
        lock(&self.shared.figures).folders = self.core.folders();
        ControlFlow::Continue(())
    }

    fn tell(&self, trouble: String) {
        let mut figures = lock(&self.shared.figures);
        if figures.trouble.as_ref() != Some(&trouble) {
            tracing::warn!("{trouble}");
            figures.trouble = Some(trouble);
        }
    }
}

fn timespec(span: Nanos) -> Timespec {
    let seconds = i64::try_from(span / 1_000_000_000).unwrap_or(i64::MAX);
    Timespec { tv_sec: seconds, tv_nsec: (span % 1_000_000_000) as _ }
}
