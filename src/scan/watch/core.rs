//! Which files become tasks, from what was seen of them. Pure.
//!
//! | seen of a file | and before | a task? |
//! |---|---|---|
//! | closed, as I | handed on as I, and nothing else since | no |
//! | closed, as I | anything else | at once |
//! | listed, as I | handed on as I | no |
//! | listed, as I | closed or listed as I, not handed on | once it is *still* |
//! | listed, as I | nothing, or as another | once it is *still*; stillness begins now |
//! | named by a log | listed, not handed on | at once |
//! | named by a log | anything else | it counts as still for [`NAMED_FOR`] |
//! | not in its folder's listing | anything | it is forgotten |
//!
//! *Still*: the same identity for `settle`, or its mtime is so long ago, or it was named. A file that is written on
//! after it was handed on has another identity, and is handed on again when it is closed or still.

use std::collections::BTreeMap;

use crate::{
    clock::Nanos,
    limits,
    scan::task::{Identity, RelPath},
};

/// How long a name is remembered that a log told: two listings and some.
pub(super) const NAMED_FOR: Nanos = 90_000_000_000;

/// A folder below a root, by the root's number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Folder {
    pub(super) root: usize,
    pub(super) path: RelPath,
}

impl Folder {
    /// 0 for the root itself.
    pub(super) fn levels(&self) -> u32 {
        let path = &self.path.0;
        if path.is_empty() { 0 } else { 1 + path.iter().filter(|byte| **byte == b'/').count() as u32 }
    }
}

/// Both clocks, nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) mono: Nanos,
    pub(super) wall: Nanos,
}

/// What is known of a file.
#[derive(Debug)]
struct Row {
    identity: Identity,
    /// Since when it is so; monotonic.
    since: Nanos,
    is_handed_on: bool,
}

#[derive(Debug)]
pub(super) struct Core {
    settle: Nanos,
    folders: BTreeMap<Folder, BTreeMap<Vec<u8>, Row>>,
    /// Until when each counts.
    named: BTreeMap<Vec<u8>, Nanos>,
    due: Vec<(Folder, Vec<u8>, Identity)>,
}

impl Core {
    pub(super) fn new(settle: Nanos) -> Self {
        Self { settle, folders: BTreeMap::new(), named: BTreeMap::new(), due: Vec::new() }
    }

    /// A file was closed by its writer, or moved in. `None` if it is no regular file any more.
    pub(super) fn closed(&mut self, folder: &Folder, name: &[u8], identity: Option<Identity>) {
        let files = self.folders.entry(folder.clone()).or_default();
        let Some(identity) = identity else {
            files.remove(name);
            return;
        };
        if files.get(name).is_some_and(|row| row.is_handed_on && row.identity == identity) {
            return;
        }
        files.insert(name.to_vec(), Row { identity, since: 0, is_handed_on: true });
        self.due.push((folder.clone(), name.to_vec(), identity));
    }

    /// A file that was handed on, for as long as its name leads to the same inode.
    pub(super) fn handed_on(&self, folder: &Folder, name: &[u8], inode: u64) -> Option<Identity> {
        let row = self.folders.get(folder)?.get(name)?;
        (row.is_handed_on && row.identity.inode == inode).then_some(row.identity)
    }

    /// All files of a folder, by name.
    pub(super) fn listed(&mut self, folder: &Folder, files: &BTreeMap<Vec<u8>, Identity>, now: Now) {
        self.named.retain(|_, until| now.mono < *until);
        let rows = self.folders.entry(folder.clone()).or_default();
        rows.retain(|name, _| files.contains_key(name));
        for (name, identity) in files {
            let fresh = || Row { identity: *identity, since: now.mono, is_handed_on: false };
            let row = rows.entry(name.clone()).or_insert_with(fresh);
            if row.identity != *identity {
                *row = fresh();
            }
            if row.is_handed_on {
                continue;
            }
            let written = Nanos::try_from(identity.mtime_ns).unwrap_or(0);
            let still = now.mono.saturating_sub(row.since).max(now.wall.saturating_sub(written));
            if still >= self.settle || is_named(&self.named, folder, name) {
                row.is_handed_on = true;
                self.due.push((folder.clone(), name.clone(), *identity));
            }
        }
    }

    /// A log says that a file is whole. `by`: its name, or its path below the root.
    pub(super) fn named(&mut self, by: &[u8], now: Now) {
        let mut is_taken = false;
        let name = by.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        for (folder, files) in &mut self.folders {
            let Some(row) = files.get_mut(name).filter(|row| !row.is_handed_on) else { continue };
            if by == name || path_of(folder, name) == by {
                row.is_handed_on = true;
                is_taken = true;
                self.due.push((folder.clone(), name.to_vec(), row.identity));
            }
        }
        if !is_taken && self.named.len() < limits::SCAN_NAMED_MAX {
            self.named.insert(by.to_vec(), now.mono.saturating_add(NAMED_FOR));
        }
    }

    /// Forgets the folders that are not among these, which are sorted.
    pub(super) fn keep(&mut self, folders: &[Folder]) {
        self.folders.retain(|folder, _| folders.binary_search(folder).is_ok());
    }

    /// What is to be handed on, in the order in which it became so.
    pub(super) fn due(&mut self) -> Vec<(Folder, Vec<u8>, Identity)> {
        std::mem::take(&mut self.due)
    }

    /// Files, and how many of them wait; goes through all.
    pub(super) fn count(&self) -> (u64, u64) {
        let rows = || self.folders.values().flat_map(BTreeMap::values);
        (rows().count() as u64, rows().filter(|row| !row.is_handed_on).count() as u64)
    }

    pub(super) fn folders(&self) -> u64 {
        self.folders.len() as u64
    }
}

fn is_named(named: &BTreeMap<Vec<u8>, Nanos>, folder: &Folder, name: &[u8]) -> bool {
    !named.is_empty() && (named.contains_key(name) || named.contains_key(&path_of(folder, name)))
}

fn path_of(folder: &Folder, name: &[u8]) -> Vec<u8> {
    crate::scan::roots::below(&folder.path, name).0
}
