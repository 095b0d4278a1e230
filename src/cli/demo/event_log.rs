//! The log of events that a demo writes: one file, which logrotate renames once on the way.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
};

use anyhow::Context;

use super::show::{Lines, Pace, size};
use crate::metrics::BranchCounts;

/// The log.
pub(super) struct EventLog {
    path: PathBuf,
    file: File,
    /// In all files.
    pub bytes: u64,
    /// Files begun.
    pub parts: u32,
}

impl EventLog {
    /// An empty log.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn create(path: PathBuf) -> anyhow::Result<Self> {
        let file = File::create(&path).with_context(|| format!("cannot write {}; check its space", path.display()))?;
        Ok(Self { path, file, bytes: 0, parts: 1 })
    }

    /// Adds events.
    ///
    /// # Errors
    /// They cannot be written.
    pub(super) fn append(&mut self, block: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(block).with_context(|| format!("cannot write {}; check its space", self.path.display()))?;
        self.bytes += block.len() as u64;
        Ok(())
    }

    /// Renames the log and begins it anew, if that was not done yet.
    ///
    /// # Errors
    /// It cannot be renamed or made.
    pub(super) fn rotate_once(&mut self) -> anyhow::Result<()> {
        if self.parts == 1 {
            let begin = || fs::rename(&self.path, self.path.with_extension("json.1")).and_then(|()| File::create(&self.path));
            self.file = begin().with_context(|| format!("cannot write {}; check its space", self.path.display()))?;
            self.parts = 2;
        }
        Ok(())
    }

    /// Tells once a second how it goes.
    ///
    /// - `events`: written so far.
    /// - `counts`: what became of them.
    pub(super) fn tell(&self, lines: Lines, pace: &mut Pace, events: u64, counts: &BranchCounts) {
        let Some(second) = pace.turn(&[events, self.bytes]) else { return };
        let done = counts.shipped.get() + counts.dropped.total() + counts.dead_letter.total();
        lines.say(&format!(
            "{:>4} s  {:>8.0} events/s  {:>7.2} MB/s  lag {:>9}  agent {:.1} % of a core",
            second.at,
            second.rates[0],
            second.rates[1] / 1e6,
            size(self.bytes.saturating_sub(done)),
            second.core,
        ));
    }
}
