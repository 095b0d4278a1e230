//! Checkpoint and dead letter, written so that a crash at any call loses nothing that was answered.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use super::{
    letters::{Dropped, Letters, OnFull},
    spools::{SPOOL, Spools},
};
use crate::{
    checkpoint::{self, Checkpoint, CheckpointError, Chosen, Slot, Snapshot, SnapshotError},
    clock::Nanos,
    dead_letter::Entry,
    io::Disk,
    limits, spool,
};

/// What the operator may choose about the state folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of all dead-letter segments together.
    pub dead_letter_bytes_max: u64,
    /// What happens when they are used up.
    pub on_full: OnFull,
    /// Nanoseconds after which an entry is removed; `None` keeps it until there is no room.
    pub dead_letter_age_max: Option<Nanos>,
    /// Bytes after which a new segment is begun.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dead_letter_bytes_max: limits::DEAD_LETTER_BYTES,
            on_full: OnFull::Stop,
            dead_letter_age_max: None,
            segment_bytes: limits::DEAD_LETTER_SEGMENT_BYTES,
        }
    }
}

/// Something to make durable. `tag` comes back with the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// Save this checkpoint; its generation is given here. A later one replaces it while it waits.
    Save { checkpoint: Checkpoint, tag: u64 },
    /// Keep what a stage remembers, under its name. A later one replaces it while it waits.
    Snapshot { name: String, snapshot: Snapshot, tag: u64 },
    /// Keep these refused bytes.
    DeadLetter { entry: Entry, tag: u64 },
    /// Keep these messages for a lookup.
    Spool { lookup: String, entries: Vec<spool::Entry>, tag: u64 },
    /// Of a lookup's messages, everything below this place is worked off.
    Unspool { lookup: String, segment: u32, offset: u64, tag: u64 },
}

/// A job that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// This checkpoint, or a later one that replaced it, is saved.
    Saved { tag: u64, generation: u64 },
    /// This snapshot, or a later one that replaced it, is saved.
    Remembered { tag: u64 },
    /// The refused bytes are in the dead letter, the messages in their spool, or gone from it.
    Kept { tag: u64 },
}

/// Why the state folder cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The checkpoint must not be believed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// What a stage saved must not be believed.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A call failed.
    #[error("cannot {what} {}; fix its permissions, or the disk under it", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

/// What was saved last.
#[derive(Debug)]
struct Saved {
    slot: Slot,
    generation: u64,
    instance: String,
}

/// The state folder's checkpoint and dead letter.
pub struct Writer {
    disk: Box<dyn Disk>,
    dir: PathBuf,
    saved: Option<Saved>,
    waiting: Option<(Checkpoint, Vec<u64>)>,
    snapshots: Snapshots,
    letters: Letters,
    spools: Spools,
    checkpoint_trouble: Option<String>,
    letters_trouble: Option<String>,
    snapshot_trouble: Option<String>,
    spools_trouble: Option<String>,
}

/// What stages remember.
#[derive(Debug, Default)]
struct Snapshots {
    /// As found at the start, until somebody takes them.
    found: BTreeMap<String, Snapshot>,
    waiting: BTreeMap<String, (Snapshot, Vec<u64>)>,
    /// True once their folder is known to be there.
    has_dir: bool,
}

impl Writer {
    /// Opens the state folder: makes it if need be, chooses the checkpoint, finds the dead
    /// letter's end and cuts off what a crash left half written.
    ///
    /// `None` beside the writer is a first run.
    ///
    /// # Errors
    /// [`StoreError::Checkpoint`] where [`checkpoint::choose`] refuses; [`StoreError::Io`] where
    /// the folder or a checkpoint cannot be read. Trouble with the dead letter alone refuses
    /// nothing: it begins a new segment.
    pub fn open(disk: Box<dyn Disk>, dir: &Path, options: Options) -> Result<(Self, Option<Checkpoint>), StoreError> {
        Self::open_apart(disk, dir, &dir.join("dead-letter"), options)
    }

    /// As [`open`](Self::open), with the dead letter in a folder of its own.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_apart(
        disk: Box<dyn Disk>,
        dir: &Path,
        letters_dir: &Path,
        options: Options,
    ) -> Result<(Self, Option<Checkpoint>), StoreError> {
        let fail = |what, path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { what, path, source }
        };
        let letters_dir = letters_dir.to_owned();
        disk.make_dir(dir).map_err(fail("make the state folder", dir))?;
        disk.make_dir(&letters_dir).map_err(fail("make the folder", &letters_dir))?;
        for parent in [dir.parent(), letters_dir.parent().filter(|parent| *parent != dir)].into_iter().flatten() {
            // Ours or not, readable or not: if we just made the folder, its name should last.
            let _ = disk.sync_dir(parent);
        }
        // After a kill without a power cut the names are there but not yet durable. What is
        // believed from here on must not vanish behind what is saved on top of it.
        for dir in [dir, &letters_dir] {
            disk.sync_dir(dir).map_err(fail("fsync the folder", dir))?;
        }
        let read = |slot: Slot| {
            let path = dir.join(slot.file_name());
            match disk.read(&path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(fail("read the checkpoint", &path)(error)),
            }
        };
        let (a, b) = (read(Slot::A)?, read(Slot::B)?);
        let chosen = checkpoint::choose(dir, a.as_deref(), b.as_deref())?;
        let snapshots = find_snapshots(&*disk, &dir.join(SNAPSHOTS))?;
        let letters = Letters::open(&*disk, letters_dir.clone(), options).map_err(fail("list the folder", &letters_dir))?;
        let spool_dir = dir.join(SPOOL);
        let rows = chosen.as_ref().map_or(&[][..], |chosen| &chosen.checkpoint.rows);
        let spools =
            Spools::open(&*disk, spool_dir.clone(), options.segment_bytes, rows).map_err(fail("read the spools in", &spool_dir))?;
        let writer = Self {
            saved: chosen.as_ref().map(|Chosen { slot, checkpoint }| Saved {
                slot: *slot,
                generation: checkpoint.generation,
                instance: checkpoint.instance.clone(),
            }),
            disk,
            dir: dir.to_owned(),
            waiting: None,
            snapshots,
            letters,
            spools,
            checkpoint_trouble: None,
            letters_trouble: None,
            snapshot_trouble: None,
            spools_trouble: None,
        };
        Ok((writer, chosen.map(|chosen| chosen.checkpoint)))
    }

    /// Makes `jobs`, and what still waits from earlier commits, durable with as few fsyncs as
    /// possible.
    ///
    /// Returns what is durable now. What is not stays here: call again, with nothing if need be.
    pub fn commit(&mut self, jobs: Vec<Job>) -> Vec<Done> {
        for job in jobs {
            match job {
                Job::DeadLetter { entry, tag } => self.letters.add(entry, tag),
                Job::Spool { lookup, entries, tag } => self.spools.add(&lookup, entries, tag),
                Job::Unspool { lookup, segment, offset, tag } => self.spools.forget(lookup, segment, offset, tag),
                Job::Snapshot { name, snapshot, tag } => {
                    let tags = self.snapshots.waiting.remove(&name).map_or_else(Vec::new, |(_, tags)| tags);
                    self.snapshots.waiting.insert(name, (snapshot, tags.into_iter().chain([tag]).collect()));
                }
                Job::Save { checkpoint, tag } => {
                    let (newest, tags) = self.waiting.get_or_insert_with(|| (Checkpoint::default(), Vec::new()));
                    *newest = checkpoint;
                    tags.push(tag);
                }
            }
        }
        let mut done = Vec::new();
        self.letters_trouble = self.letters.commit(&*self.disk, &mut done).err();
        self.spools_trouble = self.spools.commit(&*self.disk, &mut done).err();
        self.checkpoint_trouble = self.save(&mut done).err();
        self.snapshot_trouble = self.remember(&mut done).err();
        done
    }

    /// What stages had saved, by name; once.
    pub fn take_snapshots(&mut self) -> BTreeMap<String, Snapshot> {
        std::mem::take(&mut self.snapshots.found)
    }

    /// Jobs that are not durable yet.
    pub fn waiting(&self) -> usize {
        let snapshots = self.snapshots.waiting.values().map(|(_, tags)| tags.len()).sum::<usize>();
        self.letters.waiting() + self.spools.waiting() + self.waiting.as_ref().map_or(0, |(_, tags)| tags.len()) + snapshots
    }

    /// Why jobs wait, for the board: what failed, on what, and the remedy.
    pub fn trouble(&self) -> Option<String> {
        let all = [&self.letters_trouble, &self.spools_trouble, &self.checkpoint_trouble, &self.snapshot_trouble];
        let all: Vec<&str> = all.into_iter().flatten().map(String::as_str).collect();
        (!all.is_empty()).then(|| all.join("; and "))
    }

    /// Removes what has been in the dead letter for longer than it may be. Looks rarely; most calls cost nothing.
    ///
    /// - `now`: wall time.
    pub fn age(&mut self, now: Nanos) {
        if let Err(why) = self.letters.age(&*self.disk, now) {
            self.letters_trouble = Some(why);
        }
    }

    /// What [`age`](Self::age) has removed since the last call.
    pub fn take_expired(&mut self) -> Dropped {
        self.letters.take_expired()
    }

    /// What `drop_oldest` has removed since the last call.
    pub fn take_dropped(&mut self) -> Dropped {
        self.letters.take_dropped()
    }

    /// Bytes of all dead-letter segments.
    pub fn dead_letter_bytes(&self) -> u64 {
        self.letters.bytes()
    }

    /// Each lookup's spool with its segments and their bytes that may be read, oldest first.
    pub fn spools(&self) -> impl Iterator<Item = (&str, Vec<(u32, u64)>)> {
        self.spools.ends()
    }

    /// The protocol that `checkpoint::choose` relies on: a failed save is tried again with the
    /// same generation in the same slot, so the slot of the last saved one is never touched.
    fn save(&mut self, done: &mut Vec<Done>) -> Result<(), String> {
        let Some((newest, tags)) = &mut self.waiting else { return Ok(()) };
        let (slot, generation, before) = match &self.saved {
            Some(saved) => (saved.slot.other(), saved.generation + 1, Some(&saved.instance)),
            None => (Slot::A, 1, None),
        };
        newest.instance_before = before.filter(|before| **before != newest.instance).cloned();
        newest.generation = generation;
        let bytes = checkpoint::encode(newest).map_err(|error| error.to_string())?;
        let path = self.dir.join(slot.file_name());
        let unfinished = self.dir.join("checkpoint.tmp");
        let disk = &self.disk;
        disk.write(&unfinished, &bytes)
            .and_then(|()| disk.sync(&unfinished))
            .and_then(|()| disk.rename(&unfinished, &path))
            // The rename alone may not survive a power cut: the file is durable, its name is not.
            .and_then(|()| disk.sync_dir(&self.dir))
            .map_err(|error| format!("cannot save checkpoint {}: {error}; free disk space or fix its permissions", path.display()))?;
        done.extend(tags.drain(..).map(|tag| Done::Saved { tag, generation }));
        self.saved = Some(Saved { slot, generation, instance: std::mem::take(&mut newest.instance) });
        self.waiting = None;
        Ok(())
    }

    /// A snapshot has one generation: the name changes to whole new bytes or not at all.
    fn remember(&mut self, done: &mut Vec<Done>) -> Result<(), String> {
        let dir = self.dir.join(SNAPSHOTS);
        while let Some(entry) = self.snapshots.waiting.first_entry() {
            let (path, unfinished) = (dir.join(entry.key()), dir.join(UNFINISHED));
            let (disk, has_dir) = (&self.disk, self.snapshots.has_dir);
            let make = || if has_dir { Ok(()) } else { disk.make_dir(&dir).and_then(|()| disk.sync_dir(&self.dir)) };
            make()
                .and_then(|()| disk.write(&unfinished, &entry.get().0.encode()))
                .and_then(|()| disk.sync(&unfinished))
                .and_then(|()| disk.rename(&unfinished, &path))
                .and_then(|()| disk.sync_dir(&dir))
                .map_err(|error| format!("cannot save snapshot {}: {error}; free disk space or fix its permissions", path.display()))?;
            let (_, tags) = entry.remove();
            self.snapshots.has_dir = true;
            done.extend(tags.into_iter().map(|tag| Done::Remembered { tag }));
        }
        Ok(())
    }
}

/// The folder of snapshots, in the state folder.
const SNAPSHOTS: &str = "snapshot";
/// A snapshot being written; no component's name begins with a dot.
const UNFINISHED: &str = ".unfinished";

fn find_snapshots(disk: &dyn Disk, dir: &Path) -> Result<Snapshots, StoreError> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Io { what: "read the snapshots in", path, source }
    };
    let mut snapshots = Snapshots::default();
    let paths = match disk.list(dir) {
        Ok(paths) => paths,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(snapshots),
        Err(error) => return Err(fail(dir)(error)),
    };
    if !paths.is_empty() {
        // As with the checkpoint: what is believed from here on must not vanish.
        disk.sync_dir(dir).map_err(fail(dir))?;
        snapshots.has_dir = true;
    }
    for path in paths {
        // What a crash left half written, and what is none of ours, is left alone.
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.')) else { continue };
        let bytes = disk.read(&path).map_err(fail(&path))?;
        snapshots.found.insert(name.to_owned(), Snapshot::decode(&path, &bytes)?);
    }
    Ok(snapshots)
}
