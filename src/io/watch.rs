//! Hints from inotify: one thread that sleeps until the kernel says that a watched file or
//! folder changed, and then only raises signals.
//!
//! - A **file** is watched twice: its inode for writes (Wazuh writes `alerts.json` through another
//!   hard link, so the folder hears nothing of them), and its folder for the name being made,
//!   moved or removed. While the folder is missing, the nearest one above it that exists stands in.
//! - Reading is not watched, so the agent's own reads wake nobody.
//! - Writes are **folded**: after each round the thread rests [`limits::WATCH_FOLD_MS`], in which
//!   the kernel merges equal events, and a raised signal stays one flag until its task looks.
//! - Who looks again without being called ([`Subscription::spare`]) is not worth waking up for:
//!   while that is everybody, the thread rests [`limits::WATCH_SPARE_MS`].
//! - A hint may be missing (a folder further up was renamed, inotify is used up): whoever waits is
//!   called at least every [`limits::SAFETY_POLL_MS`] and looks on its own.
//!
//! Invariant: a watch is placed before its signal is raised, so a change that came too early for
//! the watch is seen by the look that the signal causes.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fmt,
    future::{Future, poll_fn},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    thread,
    time::Duration,
};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::{limits, ring::Signal};

/// Bytes of events taken from the kernel at once.
const EVENTS_BYTES: usize = 16 << 10;
/// How often arming looks again because a folder appeared while it climbed.
const CLIMBS_MAX: usize = 8;

/// Places watches; clones share one thread, which ends with the last of them.
#[derive(Clone)]
pub struct Watcher {
    shared: Arc<Shared>,
}

struct Shared {
    board: Arc<Mutex<Board>>,
    bell: Arc<Bell>,
}

/// Calls the thread.
struct Bell {
    fd: OwnedFd,
    /// Nobody holds the watcher any more.
    ended: AtomicBool,
}

impl Bell {
    fn ring(&self) {
        let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
    }

    /// Waits until the bell rings, `also` is readable, or the time is over; true if that was all.
    fn ended(&self, also: Option<BorrowedFd<'_>>, span: Option<&Timespec>) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN), PollFd::from_borrowed_fd(also.unwrap_or(self.fd.as_fd()), PollFlags::IN)];
        let watched = if also.is_some() { &mut fds[..] } else { &mut fds[..1] };
        // An interrupted or failed wait only means to look.
        let _ = poll(watched, span);
        if !fds[0].revents().is_empty() {
            let _ = rustix::io::read(&self.fd, &mut [0; 8]);
        }
        self.ended.load(Ordering::Acquire)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.bell.ended.store(true, Ordering::Release);
        self.bell.ring();
    }
}

/// A watch on one path; it is taken back when this is dropped.
pub struct Subscription {
    id: u64,
    entry: Arc<Entry>,
    watcher: Watcher,
}

struct Entry {
    path: PathBuf,
    signal: Signal,
    /// It looks again without being called.
    spared: AtomicBool,
}

/// Who waits for what.
#[derive(Default)]
struct Board {
    /// `None` where inotify is refused: every wait then ends by its time alone.
    watches: Option<Watches>,
    entries: HashMap<u64, (Arc<Entry>, Vec<WatchDescriptor>)>,
    interests: HashMap<WatchDescriptor, Vec<Interest>>,
    next: u64,
    trouble: Option<String>,
}

struct Interest {
    entry: u64,
    /// The one name in the watched folder that matters; `None` is everything.
    name: Option<OsString>,
}

impl Watcher {
    /// Starts the thread. Where inotify or the thread is refused, says so once in the log; waits
    /// then end by their time alone.
    ///
    /// # Errors
    /// As eventfd(2): out of descriptors.
    pub fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let bell = Arc::new(Bell { fd, ended: AtomicBool::new(false) });
        let board = Arc::new(Mutex::new(Board::default()));
        match Inotify::init() {
            Ok(inotify) => {
                lock(&board).watches = Some(inotify.watches());
                let (theirs, rung) = (board.clone(), bell.clone());
                if let Err(e) = thread::Builder::new().name("watch".into()).spawn(move || attend(inotify, &theirs, &rung)) {
                    lock(&board).give_up(&format!("cannot start the watch thread: {e}"));
                }
            }
            Err(e) => lock(&board).give_up(&format!(
                "cannot use inotify: {e}; raise fs.inotify.max_user_instances, files are looked at once a second until then"
            )),
        }
        Ok(Self { shared: Arc::new(Shared { board, bell }) })
    }

    /// Watches a file or folder, whether it exists yet or not.
    ///
    /// The signal is raised at once, since what happened before cannot be known.
    pub fn watch(&self, path: &Path) -> Subscription {
        let entry = Arc::new(Entry { path: path.to_owned(), signal: Signal::default(), spared: AtomicBool::new(false) });
        let mut board = lock(&self.shared.board);
        let id = board.next;
        board.next += 1;
        board.entries.insert(id, (entry.clone(), Vec::new()));
        board.arm(id);
        drop(board);
        entry.signal.raise();
        // A long rest was for those who were there before.
        self.shared.bell.ring();
        Subscription { id, entry, watcher: self.clone() }
    }

    /// Why watches are missing, in the operator's words; `None` while all are in place.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.shared.board).trouble.clone()
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let board = lock(&self.shared.board);
        write!(f, "Watcher({} paths, {} watches)", board.entries.len(), board.interests.len())
    }
}

impl Subscription {
    /// Raised when the path may have changed. One task at a time may wait for it.
    pub fn signal(&self) -> &Signal {
        &self.entry.signal
    }

    /// Says whether the waiter looks again by itself, so that no hint need come at once. When it
    /// stops doing so, what is known by then is told at once.
    pub fn spare(&self, spared: bool) {
        if self.entry.spared.swap(spared, Ordering::AcqRel) && !spared {
            self.watcher.shared.bell.ring();
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        lock(&self.watcher.shared.board).forget(self.id);
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscription({})", self.entry.path.display())
    }
}

/// How long a wait of `span` really lasts.
pub(super) fn wait_at_most(span: Duration) -> Duration {
    span.min(Duration::from_millis(limits::SAFETY_POLL_MS))
}

/// Waits for whichever comes first.
pub(super) async fn either(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| {
        if one.as_mut().poll(cx).is_ready() || other.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}

/// A poisoned board is whole: nothing that changes it can panic half-way.
fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// Places the watches of one entry as the names lie now, and takes back those it had.
    fn arm(&mut self, id: u64) {
        let Some((entry, old)) = self.entries.get_mut(&id).map(|(entry, held)| (entry.clone(), std::mem::take(held))) else { return };
        self.withdraw(id, &old);
        let mut held = Vec::new();
        // The folder first: a file replaced between the two is then an event, not a gap.
        if let Some((wd, name)) = self.add_folder_of(&entry.path) {
            self.hold(&mut held, wd, Interest { entry: id, name: Some(name) });
        }
        if let Some(wd) = self.add(&entry.path, true).or_else(|| self.add(&entry.path, false)) {
            self.hold(&mut held, wd, Interest { entry: id, name: None });
        }
        if let Some((_, place)) = self.entries.get_mut(&id) {
            *place = held;
        }
        self.release(old);
    }

    /// True if nobody waits to be called: whoever does would be called late in a long rest.
    fn all_spared(&self) -> bool {
        self.entries.values().all(|(entry, _)| entry.spared.load(Ordering::Acquire))
    }

    fn forget(&mut self, id: u64) {
        let Some((_, held)) = self.entries.remove(&id) else { return };
        self.withdraw(id, &held);
        self.release(held);
    }

    fn withdraw(&mut self, id: u64, held: &[WatchDescriptor]) {
        for wd in held {
            if let Some(interests) = self.interests.get_mut(wd) {
                interests.retain(|interest| interest.entry != id);
            }
        }
    }

    fn hold(&mut self, held: &mut Vec<WatchDescriptor>, wd: WatchDescriptor, interest: Interest) {
        self.interests.entry(wd.clone()).or_default().push(interest);
        held.push(wd);
    }

    /// Takes back those watches that interest nobody any more.
    fn release(&mut self, held: Vec<WatchDescriptor>) {
        for wd in held {
            if self.interests.get(&wd).is_some_and(Vec::is_empty) {
                self.interests.remove(&wd);
                if let Some(watches) = &mut self.watches {
                    // The kernel may have dropped it already, together with its file.
                    let _ = watches.remove(wd);
                }
            }
        }
    }

    /// Watches the nearest existing folder above `path`, with the name in it that leads there.
    fn add_folder_of(&mut self, path: &Path) -> Option<(WatchDescriptor, OsString)> {
        for _ in 0..CLIMBS_MAX {
            let mut below = path;
            let (wd, missing) = loop {
                let folder = below.parent()?;
                let folder_or_here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
                if let Some(wd) = self.add(folder_or_here, true) {
                    break (wd, below);
                }
                if self.watches.is_none() || self.trouble.is_some() {
                    return None;
                }
                below = folder;
            };
            // A folder that was made while we climbed past it would never be noticed: climb again.
            if missing == path || !missing.is_dir() {
                return Some((wd, missing.file_name()?.to_owned()));
            }
        }
        None
    }

    /// Adds one watch; `None` if there is nothing to watch, or no room for it.
    fn add(&mut self, path: &Path, as_folder: bool) -> Option<WatchDescriptor> {
        // One inode has one watch, so each kind of inode always gets the same mask.
        let mask = if as_folder {
            WatchMask::ONLYDIR
                | WatchMask::CREATE
                | WatchMask::DELETE
                | WatchMask::MOVED_FROM
                | WatchMask::MOVED_TO
                | WatchMask::CLOSE_WRITE
                | WatchMask::DELETE_SELF
                | WatchMask::MOVE_SELF
        } else {
            WatchMask::MODIFY | WatchMask::ATTRIB | WatchMask::DELETE_SELF | WatchMask::MOVE_SELF
        };
        match self.watches.as_mut()?.add(path, mask) {
            Ok(wd) => Some(wd),
            Err(e) if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::OutOfMemory) => {
                self.say(&format!(
                    "cannot watch {}: {e}; raise fs.inotify.max_user_watches, files are looked at once a second until then",
                    path.display()
                ));
                None
            }
            Err(_) => None, // missing, not a folder, or not ours to look at: opening it says more
        }
    }

    /// Notes an event; adds whom it concerns to `wake`.
    fn note(&mut self, wd: &WatchDescriptor, mask: EventMask, name: Option<&OsStr>, wake: &mut Vec<Arc<Entry>>) {
        if mask.contains(EventMask::Q_OVERFLOW) {
            let all: Vec<u64> = self.entries.keys().copied().collect();
            for id in all {
                self.arm(id);
            }
            wake.extend(self.entries.values().map(|(entry, _)| entry.clone()));
            return;
        }
        let concerned: Vec<(u64, bool)> = self
            .interests
            .get(wd)
            .into_iter()
            .flatten()
            .filter(|interest| name.is_none() || interest.name.is_none() || interest.name.as_deref() == name)
            // A name that changed hands, or the watched inode itself in motion: watches must move too.
            .map(|interest| (interest.entry, if name.is_some() { interest.name.is_some() } else { mask.intersects(MOVED) }))
            .collect();
        if mask.contains(EventMask::IGNORED) {
            self.interests.remove(wd);
        }
        for (id, must_rearm) in concerned {
            if must_rearm {
                self.arm(id);
            }
            if let Some((entry, _)) = self.entries.get(&id) {
                wake.push(entry.clone());
            }
        }
    }

    fn give_up(&mut self, why: &str) {
        self.watches = None;
        self.say(why);
    }

    fn say(&mut self, why: &str) {
        if self.trouble.is_none() {
            tracing::warn!("{why}");
            self.trouble = Some(why.to_owned());
        }
    }
}

/// The watched inode itself went somewhere.
const MOVED: EventMask = EventMask::DELETE_SELF.union(EventMask::MOVE_SELF).union(EventMask::IGNORED).union(EventMask::UNMOUNT);

/// The body of the thread.
fn attend(mut inotify: Inotify, board: &Mutex<Board>, bell: &Bell) {
    let mut events = vec![0; EVENTS_BYTES];
    let mut wake = Vec::new();
    let rest = |ms: u64| Timespec { tv_sec: 0, tv_nsec: ms as i64 * 1_000_000 };
    let (fold, spare) = (rest(limits::WATCH_FOLD_MS), rest(limits::WATCH_SPARE_MS));
    loop {
        match inotify.read_events(&mut events) {
            Ok(read) => {
                let mut board = lock(board);
                for event in read {
                    board.note(&event.wd, event.mask, event.name, &mut wake);
                }
            }
            // Nothing came while it rested, so it sleeps until something does.
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                if bell.ended(Some(inotify.as_fd()), None) {
                    return;
                }
                continue;
            }
            Err(e) => {
                lock(board).give_up(&format!("cannot read from inotify: {e}; files are looked at once a second until a restart"));
                return;
            }
        }
        for entry in wake.drain(..) {
            entry.signal.raise();
        }
        let rest = if lock(board).all_spared() { &spare } else { &fold };
        if bell.ended(None, Some(rest)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_waits_to_be_called_keeps_the_rests_short() {
        let folder = tempfile::tempdir().expect("a folder");
        let watcher = Watcher::new().expect("a watcher");
        let (busy, quiet) = (watcher.watch(&folder.path().join("busy")), watcher.watch(&folder.path().join("quiet")));
        let all_spared = || lock(&watcher.shared.board).all_spared();
        busy.spare(true);
        assert!(!all_spared(), "the quiet one would be called late");
        quiet.spare(true);
        assert!(all_spared());
        busy.spare(false);
        assert!(!all_spared());
        drop(busy);
        assert!(all_spared());
    }
}
