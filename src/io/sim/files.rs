//! The file system: names, files behind them, and what of both survives a power loss.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::{Chance, Machine, machine::SimClock};
use crate::{clock::Clock, io::Stat, ring::Signal};

/// What is left of bytes that were not synced when the power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// None of them.
    Nothing,
    /// A part, from the front.
    Part,
    /// As many zeros.
    Zeros,
    /// All of them.
    All,
}

/// What the disk under the agent's own folders suffers from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// No room: writes put down a part and fail.
    pub full: bool,
    /// Of a thousand calls that write or sync, how many fail.
    pub errors: u32,
    /// Of a thousand calls that only look, how many fail.
    pub looks: u32,
}

/// A file: what every reader sees, and what would be left after a power loss.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) number: u64,
    pub(super) now: Vec<u8>,
    durable: Vec<u8>,
    /// Bytes that a failed sync has lost for good, unless they are cut off or written anew.
    spoilt: Option<(usize, usize)>,
    born: u64,
    modified: u64,
    names: u32,
    handles: u32,
    /// Monotonic nanoseconds of the first of them.
    held_since: u64,
    /// True if it lost its last name while no reader had it open.
    lost: bool,
}

#[derive(Clone, Debug)]
enum NameOp {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename { from: PathBuf, to: PathBuf },
}

pub(super) struct Inner {
    pub(super) inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    pending: Vec<NameOp>,
    dirs: BTreeSet<PathBuf>,
    free: Vec<u64>,
    next: u64,
    clock: SimClock,
    pub(super) chance: Chance,
    pub(super) calls: u64,
    pub(super) stop_at: Option<u64>,
    pub(super) stopped: bool,
    pub(super) trouble: Trouble,
    pub(super) hints_lost: u32,
    /// Times that the power came back.
    pub(super) boots: u32,
    watchers: Vec<(PathBuf, Weak<Signal>)>,
}

/// The file system. Clones are the same one.
#[derive(Clone)]
pub struct Files(Arc<Mutex<Inner>>);

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Files({:?})", self.lock().names.keys())
    }
}

impl Files {
    /// An empty one that lives in a machine's time.
    pub fn new(machine: &Machine) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            dirs: BTreeSet::new(),
            free: Vec::new(),
            next: 2,
            clock: machine.sim_clock(),
            chance: machine.chance(),
            calls: 0,
            stop_at: None,
            stopped: false,
            trouble: Trouble::default(),
            hints_lost: 0,
            boots: 0,
            watchers: Vec::new(),
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls that agents have made so far.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }
    /// Lets the agent's `n`-th call from now be its last: it takes effect not at all, in part or
    /// whole, and every later one fails, until [`revive`](Self::revive). `None`: no call is.
    pub fn stop_after(&self, n: Option<u64>) {
        let mut inner = self.lock();
        inner.stop_at = n.map(|n| inner.calls + n.max(1));
    }
    /// True once the chosen call was made: the process is to be killed.
    pub fn is_stopped(&self) -> bool {
        self.lock().stopped
    }
    /// The process is gone; another may call again.
    pub fn revive(&self) {
        let mut inner = self.lock();
        (inner.stopped, inner.stop_at) = (false, None);
    }
    /// Sets what the disk under the agent's folders suffers from.
    pub fn suffer(&self, trouble: Trouble) {
        self.lock().trouble = trouble;
    }
    /// Of a thousand hints to watchers, how many are lost.
    pub fn lose_hints(&self, of_thousand: u32) {
        self.lock().hints_lost = of_thousand;
    }

    /// Makes a folder.
    pub fn make_dir(&self, dir: &Path) {
        self.lock().dirs.insert(dir.to_owned());
    }
    /// Makes an empty file; one that exists stays as it is. The name is durable at once, as are
    /// all that the world makes: its journal is not what is tried here.
    pub fn create(&self, path: &Path) {
        let mut inner = self.lock();
        if inner.find(path).is_err() {
            let n = inner.make();
            inner.link(path, n, true);
            inner.hint(path);
        }
    }
    /// Writes at the end of a file.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`].
    pub fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.lock();
        let n = inner.find(path)?;
        inner.inodes[n].now.extend_from_slice(bytes);
        inner.touch(n);
        inner.hint(path);
        Ok(())
    }
    /// Cuts a file.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`].
    pub fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut inner = self.lock();
        let n = inner.find(path)?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        inner.inodes[n].now.truncate(len);
        inner.inodes[n].durable.truncate(len);
        inner.touch(n);
        inner.hint(path);
        Ok(())
    }
    /// Removes a name, if it is there.
    pub fn unlink(&self, path: &Path) {
        let mut inner = self.lock();
        inner.unlink(path, true);
        inner.hint(path);
    }
    /// Gives a file a second name.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], [`io::ErrorKind::AlreadyExists`].
    pub fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        let n = inner.find(from)?;
        if inner.find(to).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        inner.link(to, n, true);
        inner.hint(to);
        Ok(())
    }
    /// Renames, replacing.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`].
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        let n = inner.find(from)?;
        inner.link(to, n, true);
        inner.unlink(from, true);
        inner.hint(from);
        inner.hint(to);
        Ok(())
    }
    /// What was written to a file is on the disk now, as it is some time after anyhow.
    pub fn write_back(&self, path: &Path) {
        let mut inner = self.lock();
        if let Ok(n) = inner.find(path) {
            inner.inodes[n].durable = inner.inodes[n].now.clone();
        }
    }
    /// What a file holds, whoever asks.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let inner = self.lock();
        inner.find(path).ok().map(|n| inner.inodes[n].now.clone())
    }
    /// A number for the file behind a name that no other file ever gets.
    pub fn identity(&self, path: &Path) -> Option<usize> {
        self.lock().find(path).ok()
    }
    /// What a file holds or held, by its identity.
    pub fn content_of(&self, identity: usize) -> Vec<u8> {
        self.lock().inodes[identity].now.clone()
    }
    /// True if a file lost its last name while nobody had it open: its bytes are gone.
    pub fn is_lost(&self, identity: usize) -> bool {
        self.lock().inodes[identity].lost
    }
    /// How long an agent has had a file open, in nanoseconds; `None` if it has not.
    pub fn open_for(&self, identity: usize) -> Option<u64> {
        let inner = self.lock();
        let inode = &inner.inodes[identity];
        (inode.handles > 0).then(|| inner.clock.mono().saturating_sub(inode.held_since))
    }
    /// True while a file has a name.
    pub fn is_named(&self, identity: usize) -> bool {
        self.lock().inodes[identity].names > 0
    }
    /// Names below a folder, whoever asks.
    pub fn names(&self, dir: &Path) -> Vec<PathBuf> {
        self.lock().names.keys().filter(|path| path.starts_with(dir)).cloned().collect()
    }

    /// The power goes and comes back: of what was not synced, chance leaves this or that.
    ///
    /// Returns what became of each file that is not as it was: identity, bytes that are still
    /// what they were, and how many there are now.
    pub fn lose_power(&self) -> Vec<(usize, usize, usize)> {
        let mut inner = self.lock();
        inner.boots += 1;
        let kept = {
            let len = inner.pending.len() as u64;
            usize::try_from(inner.chance.below(len + 1)).unwrap_or(0)
        };
        let pending = std::mem::take(&mut inner.pending);
        let mut names = inner.durable_names.clone();
        for op in &pending[..kept] {
            apply(&mut names, op);
        }
        inner.names = names.clone();
        inner.durable_names = names;
        let mut changed = Vec::new();
        for n in 0..inner.inodes.len() {
            let links = inner.names.values().filter(|named| **named == n).count();
            let left = [Left::Nothing, Left::Part, Left::Zeros, Left::All][inner.chance.index(4)];
            let any = inner.chance.any();
            let inode = &mut inner.inodes[n];
            let common = inode.durable.iter().zip(&inode.now).take_while(|(a, b)| a == b).count();
            let rest = inode.now.len() - common;
            let mut after = match left {
                Left::Nothing => inode.durable.clone(),
                Left::Part => inode.now[..common + if rest == 0 { 0 } else { any as usize % rest }].to_vec(),
                Left::Zeros => inode.now[..common].iter().copied().chain(std::iter::repeat_n(0, rest)).collect(),
                Left::All => inode.now.clone(),
            };
            if let Some((from, to)) = inode.spoilt.take() {
                let (from, to) = (from.min(after.len()), to.min(after.len()));
                after[from..to].fill(0);
            }
            let same = after.iter().zip(&inode.now).take_while(|(a, b)| a == b).count();
            if after != inode.now {
                changed.push((n, same, after.len()));
            }
            inode.now = after.clone();
            inode.durable = after;
            inode.names = u32::try_from(links).unwrap_or(u32::MAX);
        }
        changed
    }
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, op: &NameOp) {
    match op {
        NameOp::Link(path, inode) => drop(names.insert(path.clone(), *inode)),
        NameOp::Unlink(path) => drop(names.remove(path)),
        NameOp::Rename { from, to } => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
    }
}

impl Inner {
    pub(super) fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn is_dir(&self, path: &Path) -> bool {
        self.dirs.contains(path)
    }

    pub(super) fn add_dir(&mut self, dir: &Path) {
        self.dirs.insert(dir.to_owned());
    }

    fn make(&mut self) -> usize {
        // A number that was freed is soon another file's.
        let reuse = self.chance.of_thousand(700);
        let number = self.free.pop().filter(|_| reuse).unwrap_or_else(|| {
            self.next += 1;
            self.next
        });
        let now = self.clock.now();
        self.inodes.push(Inode { number, born: now, modified: now, ..Inode::default() });
        self.inodes.len() - 1
    }

    pub(super) fn find_or_make(&mut self, path: &Path) -> usize {
        if let Ok(n) = self.find(path) {
            return n;
        }
        let n = self.make();
        self.link(path, n, false);
        n
    }

    fn link(&mut self, path: &Path, n: usize, is_durable: bool) {
        self.unlink(path, is_durable);
        self.inodes[n].names += 1;
        self.names.insert(path.to_owned(), n);
        if is_durable {
            self.durable_names.insert(path.to_owned(), n);
        } else {
            self.pending.push(NameOp::Link(path.to_owned(), n));
        }
    }

    pub(super) fn unlink(&mut self, path: &Path, is_durable: bool) {
        if let Some(n) = self.names.remove(path) {
            let inode = &mut self.inodes[n];
            inode.names -= 1;
            inode.lost |= inode.names == 0 && inode.handles == 0;
            if is_durable {
                self.durable_names.remove(path);
            } else {
                self.pending.push(NameOp::Unlink(path.to_owned()));
            }
            self.release(n);
        }
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let n = self.find(from)?;
        if let Some(old) = self.names.insert(to.to_owned(), n) {
            self.inodes[old].names -= 1;
            self.release(old);
        }
        self.names.remove(from);
        self.pending.push(NameOp::Rename { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    /// Makes the names of one folder durable.
    pub(super) fn sync_names(&mut self, dir: &Path) {
        for op in std::mem::take(&mut self.pending) {
            let (NameOp::Link(path, _) | NameOp::Unlink(path) | NameOp::Rename { to: path, .. }) = &op;
            if path.parent() == Some(dir) { apply(&mut self.durable_names, &op) } else { self.pending.push(op) }
        }
    }

    pub(super) fn write(&mut self, n: usize, bytes: &[u8], replace: bool) {
        let inode = &mut self.inodes[n];
        if replace {
            inode.spoilt = None;
            inode.now.clear();
        }
        inode.now.extend_from_slice(bytes);
        self.touch(n);
    }

    pub(super) fn sync(&mut self, n: usize, works: bool) {
        let inode = &mut self.inodes[n];
        if works {
            inode.durable = inode.now.clone();
            if let Some((from, to)) = inode.spoilt {
                let (from, to) = (from.min(inode.durable.len()), to.min(inode.durable.len()));
                inode.durable[from..to].fill(0);
            }
        } else {
            inode.spoilt = Some((inode.durable.len().min(inode.now.len()), inode.now.len()));
        }
    }

    pub(super) fn cut(&mut self, n: usize, len: usize) {
        let inode = &mut self.inodes[n];
        inode.now.truncate(len);
        inode.spoilt = inode.spoilt.map(|(from, to)| (from.min(len), to.min(len)));
        self.touch(n);
    }

    fn touch(&mut self, n: usize) {
        self.inodes[n].modified = self.clock.now();
    }

    pub(super) fn hold(&mut self, n: usize) {
        if self.inodes[n].handles == 0 {
            self.inodes[n].held_since = self.clock.mono();
        }
        self.inodes[n].handles += 1;
    }

    pub(super) fn let_go(&mut self, n: usize) {
        self.inodes[n].handles -= 1;
        self.release(n);
    }

    fn release(&mut self, n: usize) {
        let inode = &self.inodes[n];
        if inode.names == 0 && inode.handles == 0 {
            self.free.push(inode.number);
        }
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let inside = |path: &&PathBuf| path.parent() == Some(dir);
        let mut found: Vec<PathBuf> = self.names.keys().filter(inside).cloned().collect();
        found.extend(self.dirs.iter().filter(inside).cloned());
        // A folder that only its contents make known is there too.
        let below = self.names.keys().filter_map(|path| Some(dir.join(path.strip_prefix(dir).ok()?.components().next()?)));
        found.extend(below.collect::<BTreeSet<_>>());
        found.sort();
        found.dedup();
        if found.is_empty() && !self.dirs.contains(dir) { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) }
    }

    pub(super) fn stat(&self, n: usize) -> Stat {
        let inode = &self.inodes[n];
        Stat { device: 1, inode: inode.number, born: inode.born, size: inode.now.len() as u64, modified: inode.modified, is_file: true }
    }

    pub(super) fn watch(&mut self, path: &Path, signal: &Arc<Signal>) {
        self.watchers.retain(|(_, signal)| signal.strong_count() > 0);
        self.watchers.push((path.to_owned(), Arc::downgrade(signal)));
    }

    /// Tells whoever watches `path`, another name of its file, or its folder.
    fn hint(&mut self, path: &Path) {
        let file = self.names.get(path).copied();
        let mut hit = Vec::new();
        for (watched, signal) in &self.watchers {
            let same = watched == path || path.parent() == Some(watched) || (file.is_some() && self.names.get(watched).copied() == file);
            if same && let Some(signal) = signal.upgrade() {
                hit.push(signal);
            }
        }
        for signal in hit {
            if !self.chance.of_thousand(self.hints_lost) {
                signal.raise();
            }
        }
    }
}
