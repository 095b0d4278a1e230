//! Files that are only appended to, one after the other: where the next entry goes, and what a failed call
//! leaves of that.

use std::{
    collections::VecDeque,
    fmt, io,
    path::{Path, PathBuf},
};

use super::writer::Done;
use crate::io::Disk;

/// What lies in segments of one kind.
pub(super) trait Kept: fmt::Debug {
    /// Of errors and log lines.
    const WHAT: &'static str;
    /// Appends it to `segment`, which will lie at `base`.
    fn append(&self, segment: &mut Vec<u8>, base: u64);
    /// True where segments are read by us again: their lengths are what a reader goes by.
    const COMES_AGAIN: bool;
    /// The name of a segment.
    fn segment_name(of: &str, number: u32) -> String;
    /// The number of a segment; `None` for any other file.
    fn segment_number(of: &str, path: &Path) -> Option<u32>;
    /// Where the last segment that a start finds is gone on with, what stands behind it being cut off; or why
    /// it is left as it is and another begun.
    fn end(held: &[u8]) -> Result<u64, String>;
}

/// The segment that is appended to.
#[derive(Clone, Copy, Debug)]
struct Tail {
    number: u32,
    /// Bytes that are whole entries and, but for a fresh start, durable.
    len: u64,
    /// True until the segment's name is durable: nothing in it was ever answered.
    fresh: bool,
    /// True after a failed call: there may be more in the file than `len`.
    unclean: bool,
}

/// Segments of one kind and name.
#[derive(Debug)]
pub(super) struct Segments<E> {
    dir: PathBuf,
    /// Whose they are, where a folder holds those of several.
    of: String,
    /// Bytes after which a new segment is begun.
    segment_bytes: u64,
    /// Segments that are no longer appended to, oldest first, with their bytes.
    sealed: VecDeque<(u32, u64)>,
    tail: Option<Tail>,
    next: u32,
    /// With the tag that is answered once the entry, and all before it, is durable.
    waiting: VecDeque<(E, Option<u64>)>,
    has_dir: bool,
}

impl<E: Kept> Segments<E> {
    /// None so far.
    ///
    /// - `has_dir`: false if the folder may have to be made.
    pub(super) fn new(dir: PathBuf, of: String, segment_bytes: u64, has_dir: bool) -> Self {
        let (sealed, waiting) = (VecDeque::new(), VecDeque::new());
        Self { dir, of, segment_bytes, sealed, tail: None, next: 0, waiting, has_dir }
    }

    /// Finds the segments in `dir`, and the end of the last one.
    pub(super) fn open(disk: &dyn Disk, dir: PathBuf, of: String, segment_bytes: u64) -> io::Result<Self> {
        let mut segments = Self::new(dir, of, segment_bytes, true);
        segments.count(disk)?;
        if let Some((number, _)) = segments.sealed.back().copied() {
            segments.find_end(disk, number);
        }
        Ok(segments)
    }

    /// Numbers up to this one were given, whatever is left of their segments.
    pub(super) fn begin_above(&mut self, number: u32) {
        if self.next <= number {
            self.next = number.wrapping_add(1);
            self.seal();
        }
    }

    /// Takes entries in; the tag is answered once all of them are durable.
    pub(super) fn add(&mut self, entries: impl IntoIterator<Item = E>, tag: u64) {
        self.waiting.extend(entries.into_iter().map(|entry| (entry, None)));
        if let Some((_, last)) = self.waiting.back_mut() {
            *last = Some(tag);
        }
    }

    /// Jobs that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.iter().filter(|(_, tag)| tag.is_some()).count()
    }

    /// Bytes of the oldest entry that waits, framed.
    pub(super) fn next_bytes(&self) -> Option<u64> {
        let (first, _) = self.waiting.front()?;
        // The exact length does not depend on the place.
        let mut buffer = Vec::new();
        first.append(&mut buffer, 0);
        Some(buffer.len() as u64)
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.sealed.iter().map(|(_, bytes)| bytes).sum::<u64>() + self.tail.map_or(0, |tail| tail.len)
    }

    /// Each segment with its bytes that may be read, oldest first.
    pub(super) fn ends(&self) -> Vec<(u32, u64)> {
        let tail = self.tail.filter(|tail| !tail.fresh).map(|tail| (tail.number, tail.len));
        self.sealed.iter().copied().chain(tail).collect()
    }

    /// The oldest segment; the tail is sealed if it is the only one.
    pub(super) fn oldest(&mut self) -> Option<(u32, u64)> {
        if self.sealed.is_empty() {
            self.seal();
        }
        self.sealed.front().copied()
    }

    /// The oldest segment that is no longer appended to.
    pub(super) fn oldest_sealed(&self) -> Option<(u32, u64)> {
        self.sealed.front().copied()
    }

    /// The segment that is appended to, if something in it was ever answered.
    pub(super) fn tail_number(&self) -> Option<u32> {
        self.tail.filter(|tail| !tail.fresh && !tail.unclean).map(|tail| tail.number)
    }

    /// Appends as many of the waiting entries as the current segment takes, with one fsync.
    ///
    /// - `room`: bytes that may be written.
    pub(super) fn write(&mut self, disk: &dyn Disk, room: u64, done: &mut Vec<Done>) -> Result<(), String> {
        let tail = self.current(disk)?;
        let path = self.path(tail.number);
        let mut buffer = Vec::new();
        let mut taken = 0;
        for (entry, _) in &self.waiting {
            let before = buffer.len();
            entry.append(&mut buffer, tail.len);
            if buffer.len() as u64 > room {
                buffer.truncate(before);
                break;
            }
            taken += 1;
            if tail.len + buffer.len() as u64 >= self.segment_bytes {
                break;
            }
        }

        let appended = disk.append(&path, &buffer);
        let written = appended.is_ok();
        let durable = appended.and_then(|()| disk.sync(&path)).and_then(|()| if tail.fresh { disk.sync_dir(&self.dir) } else { Ok(()) });
        if let Err(error) = durable {
            self.tail = Some(Tail { unclean: true, ..tail });
            if written && !tail.fresh {
                // After a failed fsync the kernel may hold pages as clean that never reached the
                // disk, and a second fsync would say all is well. Nothing since the last good one
                // is believed, and the segment is never appended to again. It is cut so that a
                // reader does not meet the same entries twice; it may, if that fails too.
                let _ = disk.truncate(&path, tail.len);
                self.seal();
            }
            return Err(failed::<E>(if written { "fsync" } else { "write" }, &path, &error));
        }
        self.tail = Some(Tail { len: tail.len + buffer.len() as u64, fresh: false, ..tail });
        done.extend(self.waiting.drain(..taken).filter_map(|(_, tag)| tag).map(|tag| Done::Kept { tag }));
        Ok(())
    }

    /// The segment to append to, clean; a new one if there is none or it is long enough.
    fn current(&mut self, disk: &dyn Disk) -> Result<Tail, String> {
        if !self.has_dir {
            let parent = self.dir.parent().unwrap_or(&self.dir);
            let made = disk.make_dir(&self.dir).and_then(|()| disk.sync_dir(parent));
            made.map_err(|error| failed::<E>("make the folder of the", &self.dir, &error))?;
            self.has_dir = true;
        }
        let mut tail = match self.tail {
            Some(tail) if tail.len < self.segment_bytes => tail,
            _ => {
                self.seal();
                let tail = Tail { number: self.next, len: 0, fresh: true, unclean: false };
                self.next = self.next.wrapping_add(1);
                tail
            }
        };
        self.tail = Some(tail);
        if tail.unclean {
            let path = self.path(tail.number);
            // A fresh one is made anew, under the same number: so a disk that keeps failing does
            // not fill with segments. In an older one no fsync has failed; cutting is enough.
            let cleaned = if tail.fresh { disk.remove(&path).or_else(absent_is_fine) } else { disk.truncate(&path, tail.len) };
            cleaned.map_err(|error| failed::<E>("clean up", &path, &error))?;
            tail.unclean = false;
            self.tail = Some(tail);
        }
        Ok(tail)
    }

    /// The segment is appended to no more.
    pub(super) fn seal(&mut self) {
        if let Some(tail) = self.tail.take() {
            self.sealed.push_back((tail.number, tail.len));
        }
    }

    /// Removes the oldest segment.
    pub(super) fn remove(&mut self, disk: &dyn Disk, number: u32) -> io::Result<()> {
        disk.remove(&self.path(number)).or_else(absent_is_fine)?;
        disk.sync_dir(&self.dir)?;
        self.sealed.pop_front();
        Ok(())
    }

    /// Removes segments of which every byte is below `number` and `offset`. Numbers are never given again, also
    /// over a restart: where none would be left, an empty one is made first, and stays.
    pub(super) fn forget(&mut self, disk: &dyn Disk, number: u32, offset: u64) -> Result<(), String> {
        let is_below = |segment: u32, bytes: u64| segment < number || segment == number && bytes <= offset;
        if let Some(tail) = self.tail.filter(|tail| tail.len > 0 && !tail.fresh && !tail.unclean && is_below(tail.number, tail.len)) {
            self.sealed.push_back((tail.number, tail.len));
            self.tail = None;
        }
        if self.tail.is_none() && self.sealed.iter().all(|(segment, bytes)| is_below(*segment, *bytes)) && !self.sealed.is_empty() {
            let path = self.path(self.next);
            let made = disk.write(&path, &[]).and_then(|()| disk.sync(&path)).and_then(|()| disk.sync_dir(&self.dir));
            made.map_err(|error| failed::<E>("make a segment of the", &path, &error))?;
            self.tail = Some(Tail { number: self.next, len: 0, fresh: false, unclean: false });
            self.next = self.next.wrapping_add(1);
        }
        while let Some((segment, _)) = self.sealed.front().copied().filter(|(segment, bytes)| is_below(*segment, *bytes)) {
            self.remove(disk, segment).map_err(|error| failed::<E>("remove", &self.path(segment), &error))?;
        }
        Ok(())
    }

    /// Lists the segments anew, but for the tail.
    pub(super) fn count(&mut self, disk: &dyn Disk) -> io::Result<()> {
        let mut found = Vec::new();
        for path in disk.list(&self.dir)? {
            if let Some(number) = E::segment_number(&self.of, &path)
                && self.tail.is_none_or(|tail| tail.number != number)
            {
                let bytes = match disk.len(&path) {
                    Err(error) if E::COMES_AGAIN && error.kind() != io::ErrorKind::NotFound => return Err(error),
                    bytes => bytes.unwrap_or(0),
                };
                found.push((number, bytes));
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
                tracing::warn!(path = %path.display(), %error, "a segment of the {} cannot be read; a new one is begun", E::WHAT);
                return;
            }
        };
        let end = match E::end(&held) {
            Ok(end) => end,
            Err(what) => {
                tracing::warn!(path = %path.display(), what, "a segment of the {} is damaged; a new one is begun", E::WHAT);
                return;
            }
        };
        let cut = || if end < held.len() as u64 { disk.truncate(&path, end) } else { Ok(()) };
        // What is there may never have been fsynced: nothing is appended to what a power cut could take.
        if cut().and_then(|()| disk.sync(&path)).is_err() {
            // Cut or not, what stands behind is no entry.
            if let Some((_, bytes)) = self.sealed.back_mut() {
                *bytes = end;
            }
            return;
        }
        self.sealed.pop_back();
        // Its name is durable as well: whoever opens a folder has seen to that.
        self.tail = Some(Tail { number, len: end, fresh: false, unclean: false });
    }

    pub(super) fn path(&self, number: u32) -> PathBuf {
        self.dir.join(E::segment_name(&self.of, number))
    }
}

fn absent_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

pub(super) fn failed<E: Kept>(what: &str, path: &Path, error: &io::Error) -> String {
    format!("cannot {what} {} {}: {error}; free disk space or fix its permissions", E::WHAT, path.display())
}
