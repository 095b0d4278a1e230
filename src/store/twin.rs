//! A disk that stops, or fails, at any call, and the proof that the writer outlives it.
//!
//! The model is meaner than a real disk: what was not fsynced may be there, half there, zeros or
//! gone, names apart from contents; after a failed fsync the pages it was for stay lost, although
//! the next fsync says all is well.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use crate::io::Disk;

#[derive(Clone, Debug, Default)]
struct Inode {
    durable: Vec<u8>,
    now: Vec<u8>,
    /// Bytes that a failed fsync has lost for good, unless they are cut off or written anew.
    lost: Option<(usize, usize)>,
}

#[derive(Clone, Debug)]
enum NameOp {
    Link(PathBuf, usize),
    Unlink(PathBuf),
}

/// What happens at the call that was chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum At {
    /// The machine stops before, in the middle of, or after the call's effect.
    Stop(u8),
    /// The call fails once; a write has put half of its bytes down.
    Fail(io::ErrorKind),
}

/// What is left of that which was not fsynced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Left {
    Nothing,
    Half,
    Zeros,
    All,
}

pub(super) const LEFT: [Left; 4] = [Left::Nothing, Left::Half, Left::Zeros, Left::All];

#[derive(Clone, Debug, Default)]
struct Model {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    pending: Vec<NameOp>,
    dirs: BTreeSet<PathBuf>,
    calls: usize,
    plan: Vec<(usize, At)>,
    stopped: bool,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(super) struct TwinDisk(Arc<Mutex<Model>>);

impl TwinDisk {
    /// Does what `plan` says at its calls, counted from 1.
    pub(super) fn with(self, plan: &[(usize, At)]) -> Self {
        {
            let mut model = self.0.lock().unwrap();
            model.plan = plan.to_vec();
            model.calls = 0;
        }
        self
    }
    pub(super) fn calls(&self) -> usize {
        self.0.lock().unwrap().calls
    }
    pub(super) fn is_stopped(&self) -> bool {
        self.0.lock().unwrap().stopped
    }
    pub(super) fn names(&self) -> Vec<PathBuf> {
        self.0.lock().unwrap().names.keys().cloned().collect()
    }
    /// Turns one bit of a file, durably.
    pub(super) fn damage(&self, path: &Path, at: usize) {
        let mut model = self.0.lock().unwrap();
        let n = model.names[path];
        model.inodes[n].now[at] ^= 1;
        model.inodes[n].durable[at] ^= 1;
    }

    /// The disk after the power came back.
    pub(super) fn reboot(&self, contents: Left, names: Left) -> Self {
        let mut model = self.0.lock().unwrap().clone();
        let kept = match names {
            Left::Nothing => 0,
            Left::Half | Left::Zeros => model.pending.len() / 2,
            Left::All => model.pending.len(),
        };
        model.names = model.durable_names.clone();
        for op in &model.pending[..kept] {
            apply(&mut model.names, op);
        }
        for inode in &mut model.inodes {
            let (durable, now) = (&inode.durable, &inode.now);
            let common = durable.iter().zip(now).take_while(|(a, b)| a == b).count();
            let mut after = match contents {
                Left::Nothing => durable.clone(),
                Left::Half => now[..common + (now.len() - common) / 2].to_vec(),
                Left::Zeros => now[..common].iter().copied().chain(std::iter::repeat_n(0, now.len() - common)).collect(),
                Left::All => now.clone(),
            };
            if let Some((from, to)) = inode.lost {
                let (from, to) = (from.min(after.len()), to.min(after.len()));
                after[from..to].fill(0);
            }
            *inode = Inode { durable: after.clone(), now: after, lost: None };
        }
        model.durable_names = model.names.clone();
        model.pending.clear();
        model.plan.clear();
        model.calls = 0;
        model.stopped = false;
        Self(Arc::new(Mutex::new(model)))
    }

    /// Runs one call: `effect` is told how much of itself to do, 0 none, 1 half, 2 all.
    fn call<T>(&self, changes: bool, effect: impl FnOnce(&mut Model, u8) -> io::Result<T>) -> io::Result<T> {
        let mut model = self.0.lock().unwrap();
        let stop = || io::Error::other("the machine has stopped");
        if model.stopped {
            return Err(stop());
        }
        model.calls += 1;
        let calls = model.calls;
        let at = model.plan.iter().find(|(n, _)| *n == calls).map(|(_, at)| *at);
        match at {
            None => effect(&mut model, 2),
            Some(At::Stop(applied)) => {
                if applied > 0 {
                    let _ = effect(&mut model, applied);
                }
                model.stopped = true;
                Err(stop())
            }
            Some(At::Fail(kind)) => {
                if changes {
                    let _ = effect(&mut model, 1);
                }
                Err(io::Error::new(kind, "the disk says no"))
            }
        }
    }
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, op: &NameOp) {
    match op {
        NameOp::Link(path, inode) => drop(names.insert(path.clone(), *inode)),
        NameOp::Unlink(path) => drop(names.remove(path)),
    }
}

impl Model {
    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
    fn find_or_make(&mut self, path: &Path) -> usize {
        if let Ok(n) = self.find(path) {
            return n;
        }
        self.inodes.push(Inode::default());
        let n = self.inodes.len() - 1;
        self.change(NameOp::Link(path.to_owned(), n));
        n
    }
    fn change(&mut self, op: NameOp) {
        apply(&mut self.names, &op);
        self.pending.push(op);
    }
}

impl Disk for TwinDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.call(false, |model, _| Ok(model.inodes[model.find(path)?].now.clone()))
    }
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.call(true, |model, applied| {
            let n = model.find_or_make(path);
            model.inodes[n].lost = None;
            model.inodes[n].now = bytes[..bytes.len() * usize::from(applied) / 2].to_vec();
            Ok(())
        })
    }
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.call(true, |model, applied| {
            let n = model.find_or_make(path);
            model.inodes[n].now.extend_from_slice(&bytes[..bytes.len() * usize::from(applied) / 2]);
            Ok(())
        })
    }
    fn sync(&self, path: &Path) -> io::Result<()> {
        self.call(true, |model, applied| {
            let n = model.find(path)?;
            let inode = &mut model.inodes[n];
            if applied == 2 {
                inode.durable = inode.now.clone();
                if let Some((from, to)) = inode.lost {
                    let (from, to) = (from.min(inode.durable.len()), to.min(inode.durable.len()));
                    inode.durable[from..to].fill(0);
                }
            } else {
                inode.lost = Some((inode.durable.len().min(inode.now.len()), inode.now.len()));
            }
            Ok(())
        })
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.call(true, |model, applied| {
            if applied == 2 {
                let pending = std::mem::take(&mut model.pending);
                for op in pending {
                    let (NameOp::Link(path, _) | NameOp::Unlink(path)) = &op;
                    if path.parent() == Some(dir) { apply(&mut model.durable_names, &op) } else { model.pending.push(op) }
                }
            }
            Ok(())
        })
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(false, |model, _| {
            let n = model.find(from)?;
            // One step, as the file system promises: both or neither.
            apply(&mut model.names, &NameOp::Unlink(from.to_owned()));
            model.change(NameOp::Link(to.to_owned(), n));
            Ok(())
        })
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(false, |model, _| {
            model.find(path)?;
            model.change(NameOp::Unlink(path.to_owned()));
            Ok(())
        })
    }
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.call(false, |model, _| {
            let n = model.find(path)?;
            let inode = &mut model.inodes[n];
            inode.now.truncate(len as usize);
            inode.lost = inode.lost.map(|(from, to)| (from.min(len as usize), to.min(len as usize)));
            Ok(())
        })
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.call(false, |model, _| Ok(model.names.keys().filter(|path| path.parent() == Some(dir)).cloned().collect()))
    }
    fn len(&self, path: &Path) -> io::Result<u64> {
        self.call(false, |model, _| Ok(model.inodes[model.find(path)?].now.len() as u64))
    }
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.call(false, |model, _| {
            model.dirs.insert(dir.to_owned());
            Ok(())
        })
    }
}
