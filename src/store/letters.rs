//! The dead letter's segments: where the next entry goes, and what gives way when they are full.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
};

use super::writer::{Done, Options};
use crate::{
    dead_letter::{self, Entry, Found},
    io::Disk,
};

/// What happens when the dead letter is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// What is refused waits; its stream stops until there is room.
    Stop,
    /// The oldest segment goes, counted as lost.
    DropOldest,
}

/// Entries that were removed to make room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    pub entries: u64,
    /// Of refused bytes, without their headers.
    pub bytes: u64,
}

/// The segment that is appended to.
#[derive(Clone, Copy, Debug)]
struct Tail {
    number: u32,
    /// Bytes that are whole entries and, but for a fresh start, durable.
    len: u64,
    /// True until the segment's name is durable.
    fresh: bool,
}

#[derive(Debug)]
pub(super) struct Letters {
    dir: PathBuf,
    options: Options,
    /// Segments that are no longer appended to, oldest first, with their bytes.
    sealed: VecDeque<(u32, u64)>,
    tail: Option<Tail>,
    next: u32,
    waiting: VecDeque<(Entry, u64)>,
    dropped: Dropped,
}

impl Letters {
    /// Finds the segments of `dir`, and the end of the last one.
    pub(super) fn open(disk: &dyn Disk, dir: PathBuf, options: Options) -> io::Result<Self> {
        let mut letters = Self {
            dir,
            options: Options {
                // A small dead letter still has several segments, so that the oldest is a part of it.
                segment_bytes: options.segment_bytes.min(options.dead_letter_bytes_max / 8).max(1),
                ..options
            },
            sealed: VecDeque::new(),
            tail: None,
            next: 0,
            waiting: VecDeque::new(),
            dropped: Dropped::default(),
        };
        letters.count(disk)?;
        if let Some((number, _)) = letters.sealed.back().copied() {
            letters.find_end(disk, number);
        }
        Ok(letters)
    }

    pub(super) fn add(&mut self, entry: Entry, tag: u64) {
        self.waiting.push_back((entry, tag));
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn take_dropped(&mut self) -> Dropped {
        std::mem::take(&mut self.dropped)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.sealed.iter().map(|(_, bytes)| bytes).sum::<u64>() + self.tail.map_or(0, |tail| tail.len)
    }

    /// Writes what waits; the error says why something still does.
    pub(super) fn commit(&mut self, disk: &dyn Disk, done: &mut Vec<Done>) -> Result<(), String> {
        while !self.waiting.is_empty() {
            self.write_segment(disk, done)?;
        }
        Ok(())
    }

    /// Appends as many of the waiting entries as the current segment takes, with one fsync.
    fn write_segment(&mut self, disk: &dyn Disk, done: &mut Vec<Done>) -> Result<(), String> {
        let Some((first, _)) = self.waiting.front() else { return Ok(()) };
        // The exact length does not depend on the place.
        let mut buffer = Vec::new();
        dead_letter::append(&mut buffer, 0, first);
        self.make_room(disk, buffer.len() as u64)?;
        let tail = self.current();
        let room = self.options.dead_letter_bytes_max.saturating_sub(self.bytes());

        buffer.clear();
        let mut taken = 0;
        for (entry, _) in &self.waiting {
            let before = buffer.len();
            dead_letter::append(&mut buffer, tail.len, entry);
            if buffer.len() as u64 > room {
                buffer.truncate(before);
                break;
            }
            taken += 1;
            if tail.len + buffer.len() as u64 >= self.options.segment_bytes {
                break;
            }
        }

        let path = self.path(tail.number);
        if let Err(error) = disk.append(&path, &buffer) {
            self.after_failed_append(disk, tail, &path);
            return Err(failed("write", &path, &error));
        }
        let synced = disk.sync(&path).and_then(|()| if tail.fresh { disk.sync_dir(&self.dir) } else { Ok(()) });
        if let Err(error) = synced {
            self.after_failed_sync(disk, tail, &path);
            return Err(failed("fsync", &path, &error));
        }
        self.tail = Some(Tail { len: tail.len + buffer.len() as u64, fresh: false, ..tail });
        done.extend(self.waiting.drain(..taken).map(|(_, tag)| Done::Kept { tag }));
        Ok(())
    }

    /// The segment to append to; a new one if there is none or it is long enough.
    fn current(&mut self) -> Tail {
        match self.tail {
            Some(tail) if tail.len < self.options.segment_bytes => tail,
            _ => {
                self.seal();
                let tail = Tail { number: self.next, len: 0, fresh: true };
                self.next = self.next.wrapping_add(1);
                self.tail = Some(tail);
                tail
            }
        }
    }

    fn seal(&mut self) {
        if let Some(tail) = self.tail.take() {
            self.sealed.push_back((tail.number, tail.len));
        }
    }

    /// Part of the buffer may be in the file. Nothing was fsynced, so cutting it off is enough.
    fn after_failed_append(&mut self, disk: &dyn Disk, tail: Tail, path: &Path) {
        // An append may also have failed before it made the file.
        let cut = if tail.fresh { disk.remove(path).or_else(absent_is_fine) } else { disk.truncate(path, tail.len) };
        if cut.is_err() {
            self.seal();
        }
    }

    /// After a failed fsync the kernel may hold pages as clean that never reached the disk, and a
    /// second fsync would say so. Nothing since the last good one is believed, and the segment is
    /// never appended to again.
    fn after_failed_sync(&mut self, disk: &dyn Disk, tail: Tail, path: &Path) {
        if tail.fresh {
            // Nothing in it was ever answered. A new file under the same number starts clean, and
            // a disk that keeps failing does not fill with segments.
            if disk.remove(path).or_else(absent_is_fine).is_ok() {
                return;
            }
        } else {
            // Cut off so that a reader does not meet the same entries twice; it may if this fails.
            let _ = disk.truncate(path, tail.len);
        }
        self.seal();
    }

    fn make_room(&mut self, disk: &dyn Disk, need: u64) -> Result<(), String> {
        let max = self.options.dead_letter_bytes_max;
        let full = |dir: &Path| {
            Err(format!(
                "the dead letter {} is full ({max} bytes); look at it and empty it with `shipper dead-letter`, or raise dead_letter.max_bytes",
                dir.display()
            ))
        };
        if self.bytes() + need <= max {
            return Ok(());
        }
        if self.options.on_full == OnFull::Stop || need > max {
            // An operator may have emptied it in the meantime.
            let _ = self.count(disk);
            return if self.bytes() + need <= max { Ok(()) } else { full(&self.dir) };
        }
        while self.bytes() + need > max {
            if self.sealed.is_empty() {
                self.seal();
            }
            let Some((number, bytes)) = self.sealed.front().copied() else { return full(&self.dir) };
            self.remove_segment(disk, number).map_err(|error| failed("remove", &self.path(number), &error))?;
            self.sealed.pop_front();
            tracing::warn!(segment = number, bytes, "the dead letter is full: its oldest segment is dropped");
        }
        Ok(())
    }

    fn remove_segment(&mut self, disk: &dyn Disk, number: u32) -> io::Result<()> {
        let path = self.path(number);
        let mut gone = Dropped::default();
        // Unreadable is no reason to keep it: the room is needed, its bytes are already lost.
        let held = disk.read(&path).unwrap_or_default();
        for found in dead_letter::entries(&held) {
            if let Found::Entry { bytes, .. } = found {
                gone.entries += 1;
                gone.bytes += bytes.len() as u64;
            }
        }
        disk.remove(&path).or_else(absent_is_fine)?;
        disk.sync_dir(&self.dir)?;
        self.dropped.entries += gone.entries;
        self.dropped.bytes += gone.bytes;
        Ok(())
    }

    /// Lists the segments anew, but for the tail.
    fn count(&mut self, disk: &dyn Disk) -> io::Result<()> {
        let mut found = Vec::new();
        for path in disk.list(&self.dir)? {
            if let Some(number) = dead_letter::segment_number(&path)
                && self.tail.is_none_or(|tail| tail.number != number)
            {
                found.push((number, disk.len(&path).unwrap_or(0)));
            }
        }
        found.sort_unstable();
        let newest = found.last().map_or(0, |(number, _)| number.wrapping_add(1));
        self.next = self.next.max(newest);
        self.sealed = found.into();
        if let Some(tail) = self.tail
            && disk.len(&self.path(tail.number)).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        {
            // Emptied by the operator, the tail included.
            self.tail = None;
        }
        Ok(())
    }

    /// Goes on with the last segment, without the entry that a crash cut off; or leaves it as it
    /// is and begins another, if there is anything else about it.
    fn find_end(&mut self, disk: &dyn Disk, number: u32) {
        let path = self.path(number);
        let held = match disk.read(&path) {
            Ok(held) => held,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a dead-letter segment cannot be read; a new one is begun");
                return;
            }
        };
        let mut end = held.len() as u64;
        for found in dead_letter::entries(&held) {
            match found {
                Found::Entry { .. } => {}
                Found::Torn { from } => end = from,
                Found::Damaged { from, to } => {
                    tracing::warn!(path = %path.display(), from, to, "a dead-letter segment is damaged; a new one is begun");
                    return;
                }
            }
        }
        if end < held.len() as u64 && disk.truncate(&path, end).and_then(|()| disk.sync(&path)).is_err() {
            return;
        }
        self.sealed.pop_back();
        self.tail = Some(Tail { number, len: end, fresh: end == 0 });
    }

    fn path(&self, number: u32) -> PathBuf {
        self.dir.join(dead_letter::segment_name(number))
    }
}

fn absent_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> String {
    format!("cannot {what} dead letter {}: {error}; free disk space or fix its permissions", path.display())
}
