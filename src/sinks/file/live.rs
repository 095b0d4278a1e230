//! The file that is written: appended to, cut back after a failed write, opened anew when its name
//! is another file's, and renamed when it is full or its time is over.

#![allow(clippy::disallowed_methods, reason = "a sink on a thread of its own, where it may block")]

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use jiff::{Timestamp, tz::TimeZone};
use rustix::fs::{FlockOperation, flock};

use super::{
    archive::{self, Form, Stamp},
    sweep::{Before, Step, sync_folder},
};
use crate::clock::Nanos;

/// When the file becomes an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rotation {
    /// Before it would grow beyond so many bytes.
    pub size: Option<u64>,
    /// When a period ends after its last line.
    pub every: Option<Period>,
}

/// A stretch of local time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Period {
    Hour,
    Day,
}

impl Period {
    /// Wall time at which the period ends that `at` lies in.
    pub(super) fn end(self, at: Nanos, zone: &TimeZone) -> Nanos {
        let local = Timestamp::from_nanosecond(i128::from(at)).unwrap_or(Timestamp::MAX).to_zoned_datetime(zone.clone());
        let end = match self {
            // Counted from the local hour, so that an offset of half an hour is one too.
            Self::Hour => {
                let into = local.minute() as u64 * 60 + local.second() as u64;
                return at - at % SECOND + (3600 - into.min(3599)) * SECOND;
            }
            Self::Day => local.tomorrow().and_then(|next| next.start_of_day()),
        };
        end.ok().and_then(|end| Nanos::try_from(end.timestamp().as_nanosecond()).ok()).unwrap_or(Nanos::MAX)
    }
}

const SECOND: Nanos = 1_000_000_000;

/// The file with its name.
#[derive(Debug)]
pub(super) struct Live {
    path: PathBuf,
    /// Whether what is written is synced before that is said.
    fsync: bool,
    rotation: Rotation,
    zone: TimeZone,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: fs::File,
    /// Wall time of the last write.
    written: Nanos,
}

impl Live {
    pub(super) fn new(path: PathBuf, fsync: bool, rotation: Rotation, zone: TimeZone) -> Self {
        Self { path, fsync, rotation, zone, open: None }
    }

    /// Writes all of `text`, or leaves the file as long as it was.
    ///
    /// - `now`: wall time.
    ///
    /// # Errors
    /// What open(2), write(2) or fsync(2) say; nothing of `text` counts as written.
    pub(super) fn write(&mut self, text: &[u8], now: Nanos) -> io::Result<()> {
        let written = self.append(text, now);
        if written.is_err() {
            self.open = None;
        }
        written
    }

    fn append(&mut self, text: &[u8], now: Nanos) -> io::Result<()> {
        let fsync = self.fsync;
        let open = self.opened()?;
        let before = open.file.metadata()?.len();
        let written = open.file.write_all(text).and_then(|()| if fsync { open.file.sync_data() } else { Ok(()) });
        if written.is_err() {
            // A part of a batch would be there twice after the next try.
            let _ = open.file.set_len(before);
        } else if !text.is_empty() {
            open.written = now;
        }
        written
    }

    fn opened(&mut self) -> io::Result<&mut Open> {
        let open = match self.open.take() {
            Some(open) if is_still(&open.file, &self.path) => open,
            before => {
                // Its lock must be gone.
                drop(before);
                let open = open(&self.path, self.rotation != Rotation::default())?;
                if self.fsync {
                    // Its name may be new, or have been taken from the one before.
                    sync_folder(&self.path)?;
                }
                open
            }
        };
        Ok(self.open.insert(open))
    }

    /// Whether the file is to become an archive before `more` bytes are written.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(super) fn is_due(&mut self, more: usize, now: Nanos) -> io::Result<bool> {
        if self.rotation == Rotation::default() {
            return Ok(false);
        }
        let (every, zone) = (self.rotation.every, self.zone.clone());
        let size = self.rotation.size;
        let open = self.opened()?;
        let len = open.file.metadata()?.len();
        let is_full = size.is_some_and(|size| len + more as u64 > size);
        let is_over = || every.is_some_and(|every| now >= every.end(open.written, &zone));
        Ok(len > 0 && ((is_full && more > 0) || is_over()))
    }

    /// Wall time at which the period ends of what is in the file.
    pub(super) fn period_ends(&self) -> Option<Nanos> {
        let (open, every) = (self.open.as_ref()?, self.rotation.every?);
        let is_empty = open.file.metadata().is_ok_and(|meta| meta.len() == 0);
        (!is_empty).then(|| every.end(open.written, &self.zone))
    }

    /// Makes the file an archive, whose name and length it gives. The next write begins a new one.
    ///
    /// # Errors
    /// What rename(2) or fsync(2) say. Nothing is lost: the file has its old name or the new one.
    pub(super) fn rotate(&mut self, now: Nanos, before: Before<'_>) -> io::Result<(PathBuf, u64)> {
        let bytes = self.opened()?.file.metadata()?.len();
        if !fs::symlink_metadata(&self.path)?.is_file() {
            return Err(io::Error::other("it is a link or no plain file"));
        }
        let last = archive::list(&self.path)?.last().map(|(stamp, _)| *stamp);
        let to = archive::name(&self.path, Stamp::after(last, now), Form::Plain);
        before(Step::Rename)?;
        fs::rename(&self.path, &to)?;
        self.open = None;
        before(Step::SyncFolder)?;
        if self.fsync {
            sync_folder(&self.path)?;
        }
        Ok((to, bytes))
    }
}

/// Opens the file for appending; a line that a kill cut short is ended first, so that it cannot
/// spoil the next one.
///
/// - `alone`: takes a lock, so that no other sink or agent writes into what is renamed here.
fn open(path: &Path, alone: bool) -> io::Result<Open> {
    let mut file = fs::OpenOptions::new().create(true).read(true).append(true).mode(0o640).open(path)?;
    // Where the file system knows no locks, there are none.
    if alone && flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(rustix::io::Errno::WOULDBLOCK) {
        return Err(io::Error::other("another sink or agent writes this file and renames it; give each a file of its own"));
    }
    let meta = file.metadata()?;
    let mut last = [b'\n'];
    if meta.len() > 0 {
        file.read_exact_at(&mut last, meta.len() - 1)?;
    }
    if last != [b'\n'] {
        file.write_all(b"\n")?;
    }
    let (seconds, part) = (u64::try_from(meta.mtime()).unwrap_or(0), u64::try_from(meta.mtime_nsec()).unwrap_or(0));
    Ok(Open { file, written: seconds * SECOND + part })
}

/// True if `path` still names the open file.
pub(super) fn is_still(file: &fs::File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), fs::metadata(path)) else { return false };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Nanos {
        Nanos::try_from(text.parse::<Timestamp>().unwrap().as_nanosecond()).unwrap()
    }

    #[test]
    fn periods_end_by_local_time() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let kolkata = TimeZone::get("Asia/Kolkata").unwrap();
        let rows = [
            (Period::Day, &berlin, "2026-11-30T03:47:08Z", "2026-11-30T23:00:00Z"),
            (Period::Day, &berlin, "2026-11-30T23:00:00Z", "2026-12-01T23:00:00Z"),
            // The days on which summer time begins and ends.
            (Period::Day, &berlin, "2026-03-29T00:30:00Z", "2026-03-29T22:00:00Z"),
            (Period::Day, &berlin, "2026-10-25T00:30:00Z", "2026-10-25T23:00:00Z"),
            (Period::Hour, &berlin, "2026-11-30T03:47:08.5Z", "2026-11-30T04:00:00Z"),
            (Period::Hour, &berlin, "2026-11-30T04:00:00Z", "2026-11-30T05:00:00Z"),
            (Period::Hour, &kolkata, "2026-11-30T03:47:08Z", "2026-11-30T04:30:00Z"),
        ];
        for (period, zone, from, end) in rows {
            assert_eq!(period.end(at(from), zone), at(end), "{period:?} {from}");
        }
    }
}
