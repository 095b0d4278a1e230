//! The dead letter's segments: what gives way when they are full.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    segments::{Kept, Segments, failed},
    writer::{Done, Options},
};
use crate::{
    clock::Nanos,
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

/// Entries that were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    pub entries: u64,
    /// Of refused bytes, without their headers.
    pub bytes: u64,
}

impl Dropped {
    fn add(&mut self, more: Self) {
        self.entries += more.entries;
        self.bytes += more.bytes;
    }
}

impl Kept for Entry {
    const WHAT: &'static str = "dead letter";
    const COMES_AGAIN: bool = false;

    fn append(&self, segment: &mut Vec<u8>, base: u64) {
        dead_letter::append(segment, base, self);
    }
    fn segment_name(_: &str, number: u32) -> String {
        dead_letter::segment_name(number)
    }
    fn segment_number(_: &str, path: &Path) -> Option<u32> {
        dead_letter::segment_number(path)
    }
    fn end(held: &[u8]) -> Result<u64, String> {
        for found in dead_letter::entries(held) {
            match found {
                Found::Entry { .. } => {}
                Found::Torn { from } => return Ok(from),
                Found::Damaged { from, to } => return Err(format!("bytes {from} to {to} are no entry")),
            }
        }
        Ok(held.len() as u64)
    }
}

#[derive(Debug)]
pub(super) struct Letters {
    dir: PathBuf,
    options: Options,
    segments: Segments<Entry>,
    dropped: Dropped,
    expired: Dropped,
    /// When ages are looked at next, in wall time.
    looks_at: Nanos,
    /// The newest entry of the oldest segment, once it was read: segments do not change any more.
    newest: Option<(u32, Nanos)>,
}

/// Looks at ages while an entry grows too old: it goes so much later at most.
const LOOKS: u64 = 16;
/// Between two looks at least and at most.
const LOOK_EVERY: std::ops::RangeInclusive<Nanos> = 1_000_000_000..=3_600_000_000_000;

impl Letters {
    /// Finds the segments of `dir`, and the end of the last one.
    pub(super) fn open(disk: &dyn Disk, dir: PathBuf, options: Options) -> io::Result<Self> {
        // A small dead letter still has several segments, so that the oldest is a part of it.
        let segment_bytes = options.segment_bytes.min(options.dead_letter_bytes_max / 8).max(1);
        let segments = Segments::open(disk, dir.clone(), String::new(), segment_bytes)?;
        let (dropped, expired) = (Dropped::default(), Dropped::default());
        Ok(Self { dir, options, segments, dropped, expired, looks_at: 0, newest: None })
    }

    pub(super) fn add(&mut self, entry: Entry, tag: u64) {
        self.segments.add([entry], tag);
    }

    pub(super) fn waiting(&self) -> usize {
        self.segments.waiting()
    }

    pub(super) fn take_dropped(&mut self) -> Dropped {
        std::mem::take(&mut self.dropped)
    }

    pub(super) fn take_expired(&mut self) -> Dropped {
        std::mem::take(&mut self.expired)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.bytes()
    }

    /// Writes what waits; the error says why something still does.
    pub(super) fn commit(&mut self, disk: &dyn Disk, done: &mut Vec<Done>) -> Result<(), String> {
        while let Some(need) = self.segments.next_bytes() {
            self.make_room(disk, need)?;
            let room = self.options.dead_letter_bytes_max.saturating_sub(self.bytes());
            self.segments.write(disk, room, done)?;
        }
        Ok(())
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
            let _ = self.segments.count(disk);
            return if self.bytes() + need <= max { Ok(()) } else { full(&self.dir) };
        }
        while self.bytes() + need > max {
            let Some((number, bytes)) = self.segments.oldest() else { return full(&self.dir) };
            let gone = self.drop_segment(disk, number).map_err(|error| failed::<Entry>("remove", &self.segments.path(number), &error))?;
            self.dropped.add(gone);
            tracing::warn!(segment = number, bytes, "the dead letter is full: its oldest segment is dropped");
        }
        Ok(())
    }

    /// Removes segments of which every entry is too old. A segment ends once its first entry is of a certain age, so that new
    /// entries do not keep old ones.
    pub(super) fn age(&mut self, disk: &dyn Disk, now: Nanos) -> Result<(), String> {
        let Some(age_max) = self.options.dead_letter_age_max else { return Ok(()) };
        if now < self.looks_at {
            return Ok(());
        }
        let every = (age_max / LOOKS).clamp(*LOOK_EVERY.start(), *LOOK_EVERY.end());
        self.looks_at = now + every;
        if let Some(number) = self.segments.tail_number()
            && times(disk, &self.segments.path(number))?.first().is_some_and(|first| first.saturating_add(every) <= now)
        {
            self.segments.seal();
        }
        while let Some((number, bytes)) = self.segments.oldest_sealed() {
            let path = self.segments.path(number);
            let newest = match self.newest {
                Some((of, newest)) if of == number => newest,
                // What does not say its time is as old as our knowledge of it.
                _ => times(disk, &path)?.into_iter().max().unwrap_or(now),
            };
            self.newest = Some((number, newest));
            if newest.saturating_add(age_max) > now {
                break;
            }
            let gone = self.drop_segment(disk, number).map_err(|error| failed::<Entry>("remove", &path, &error))?;
            self.expired.add(gone);
            tracing::info!(
                segment = number,
                bytes,
                entries = gone.entries,
                "entries of the dead letter are older than dead_letter.max_age and removed"
            );
        }
        Ok(())
    }

    fn drop_segment(&mut self, disk: &dyn Disk, number: u32) -> io::Result<Dropped> {
        let mut gone = Dropped::default();
        // Unreadable is no reason to keep it: the room is needed, its bytes are already lost.
        let held = disk.read(&self.segments.path(number)).unwrap_or_default();
        for found in dead_letter::entries(&held) {
            if let Found::Entry { bytes, .. } = found {
                gone.entries += 1;
                gone.bytes += bytes.len() as u64;
            }
        }
        self.segments.remove(disk, number)?;
        Ok(gone)
    }
}

/// When each entry of a segment was refused, in wall time; what says no time is left out.
fn times(disk: &dyn Disk, path: &Path) -> Result<Vec<Nanos>, String> {
    let held = match disk.read(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed::<Entry>("read", path, &error)),
        held => held.unwrap_or_default(),
    };
    let times = dead_letter::entries(&held)
        .filter_map(|found| match found {
            Found::Entry { header, .. } => header.time.parse::<jiff::Timestamp>().ok(),
            _ => None,
        })
        .filter_map(|time| Nanos::try_from(time.as_nanosecond()).ok())
        .collect();
    Ok(times)
}
