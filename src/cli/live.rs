//! Synthetic alerts written below a folder as a Wazuh manager writes them, live: for the demo and
//! the benchmark.

use std::{io, path::Path};

use jiff::{Timestamp, civil::Date, tz::Offset};

use super::scratch;
use crate::{
    clock::{Clock, Nanos, SystemClock},
    synth::{
        Class, Synth,
        writer::{Op, Rotation, Writer},
    },
};

/// The writer. Rotates at midnight of its zone, and where it is told to.
#[derive(Debug)]
pub struct LiveWriter {
    synth: Synth,
    writer: Writer,
    clock: SystemClock,
    date: Date,
    /// Minutes east of UTC.
    zone: i32,
    line: Vec<u8>,
    alerts: u64,
    bytes: u64,
    flushed: u64,
    parts: u32,
}

impl LiveWriter {
    /// A writer that begins to write below `dir`, the folder of `alerts.json`.
    ///
    /// - `zone`: minutes east of UTC.
    /// - `rotate_bytes`: a new part at this size; never where `None`.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(dir: &Path, synth: Synth, zone: i32, rotate_bytes: Option<u64>) -> io::Result<Self> {
        let clock = SystemClock::new();
        let date = local_date(clock.now(), zone);
        let mut writer = Writer::new(dir, date);
        if let Some(bytes) = rotate_bytes {
            writer = writer.rotating_at(bytes);
        }
        scratch::apply_all(&writer.open())?;
        Ok(Self { synth, writer, clock, date, zone, line: Vec::new(), alerts: 0, bytes: 0, flushed: 0, parts: 1 })
    }

    /// Alerts so far.
    pub fn alerts(&self) -> u64 {
        self.alerts
    }
    /// Their bytes, those in the stdio buffer included.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
    /// Bytes that are in the files.
    pub fn flushed(&self) -> u64 {
        self.flushed
    }
    /// Files begun.
    pub fn parts(&self) -> u32 {
        self.parts
    }
    /// The file being written.
    pub fn path(&self) -> &Path {
        self.writer.path()
    }

    /// Writes one alert, and says what it is.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&mut self) -> io::Result<Class> {
        self.line.clear();
        let class = self.synth.alert(&mut self.line, self.clock.now(), self.zone);
        self.repeat()?;
        Ok(class)
    }

    /// Writes one line that somebody else makes, and gives what it says of it.
    ///
    /// - `make`: appends a line with its newline; is told the wall time.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_made<R>(&mut self, make: impl FnOnce(&mut Vec<u8>, Nanos) -> R) -> io::Result<R> {
        self.line.clear();
        let made = make(&mut self.line, self.clock.now());
        self.repeat()?;
        Ok(made)
    }

    /// Writes the last line once more.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn repeat(&mut self) -> io::Result<()> {
        self.alerts += 1;
        self.bytes += self.line.len() as u64;
        let ops = self.writer.write(&self.line);
        self.apply(&ops)
    }

    /// Does what is due by the clock: the flush of each second, a new day.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn tick(&mut self) -> io::Result<()> {
        let now = self.clock.now();
        let ops = self.writer.tick(now);
        self.apply(&ops)?;
        let today = local_date(now, self.zone);
        if today != self.date {
            self.date = today;
            let ops = self.writer.rotate(Rotation::Day(today));
            self.apply(&ops)?;
        }
        Ok(())
    }

    /// Begins a new part.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn rotate(&mut self) -> io::Result<()> {
        let ops = self.writer.rotate(Rotation::Part);
        self.apply(&ops)
    }

    /// Writes out what the stdio buffer holds.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn flush(&mut self) -> io::Result<()> {
        let ops = self.writer.flush();
        self.apply(&ops)
    }

    fn apply(&mut self, ops: &[Op]) -> io::Result<()> {
        for op in ops {
            scratch::apply(op)?;
            match op {
                Op::Append { bytes, .. } => self.flushed += bytes.len() as u64,
                Op::Create(_) => self.parts += 1,
                _ => {}
            }
        }
        Ok(())
    }
}

fn local_date(now: u64, zone: i32) -> Date {
    let second = i64::try_from(now / 1_000_000_000).unwrap_or(0);
    let offset = Offset::from_seconds(zone.clamp(-1439, 1439) * 60).unwrap_or(Offset::UTC);
    offset.to_datetime(Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH)).date()
}
