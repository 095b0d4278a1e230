//! Which scanned files go from the roots, and how.
//!
//! - [`plan`] decides, without a disk or a clock: by what the task store says of a file, by age, and by how full disks are.
//! - [`carry_out`] removes. A file goes only if it still is what was scanned; its name is taken away in its folder's own
//!   descriptor, and no link is followed. Matched files may go into a quarantine instead.
//! - Each removal is one entry of the audit, stored before it happens. An entry that cannot be stored stops the round.
//!
//! Refuses to remove what has no whole answer (errors, partial ones, dead tasks, files that nobody knows), what lies
//! outside of watched roots, and what has matched before its time, however full a disk is.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

mod plan;
mod quarantine;
mod remove;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub use self::{
    plan::{Candidate, Disk, Plan, Step, Way, Why, plan},
    quarantine::{Quarantine, QuarantineError},
    remove::{Entry, carry_out},
};
use super::{roots::Roots, settings::Cleanup, task::RelPath};
use crate::clock::Nanos;

/// What a round did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub is_dry: bool,
    /// When it began; wall time.
    pub began: Nanos,
    /// Files that were looked at.
    pub processed: u64,
    /// Removed, or moved into the quarantine.
    pub removed: u64,
    pub quarantined: u64,
    /// Bytes of the disk.
    pub freed: u64,
    /// Files that the task store may forget: removed, or gone by themselves.
    pub gone: Vec<(String, RelPath)>,
    /// How many were kept, by why.
    pub kept: BTreeMap<&'static str, u64>,
    /// For people; the first [`crate::limits::SCAN_CLEANUP_ERRORS`].
    pub errors: Vec<String>,
    /// Before it began.
    pub disk: Option<Disk>,
}

impl Report {
    fn keep(&mut self, why: &'static str) {
        *self.kept.entry(why).or_default() += 1;
    }

    fn tell(&mut self, error: String) {
        if self.errors.len() < crate::limits::SCAN_CLEANUP_ERRORS {
            self.errors.push(error);
        }
    }

    /// As `POST /cleanup/force` answers.
    pub fn json(&self) -> Value {
        json!({
            "success": self.errors.is_empty(),
            "dry_run": self.is_dry,
            "start_time": time(self.began),
            "files_processed": self.processed,
            "files_deleted": self.removed - self.quarantined,
            "files_quarantined": self.quarantined,
            "files_kept": self.kept,
            "space_freed_bytes": self.freed,
            "errors": self.errors,
            "disk_usage_before": self.disk.map(Disk::json),
        })
    }
}

/// All rounds since the start; dry ones do not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub rounds: u64,
    pub removed: u64,
    pub quarantined: u64,
    pub freed: u64,
    pub errors: u64,
    /// When the last one began; wall time.
    pub last: Option<Nanos>,
    /// Of the last one.
    pub kept: BTreeMap<&'static str, u64>,
}

impl Totals {
    pub fn add(&mut self, report: &Report) {
        if report.is_dry {
            return;
        }
        self.rounds += 1;
        self.removed += report.removed;
        self.quarantined += report.quarantined;
        self.freed += report.freed;
        self.errors += report.errors.len() as u64;
        self.last = Some(report.began);
        self.kept.clone_from(&report.kept);
    }

    /// As `GET /cleanup/stats` answers.
    ///
    /// - `is_running`: a round is under way.
    /// - `disk`: the fullest of the roots' disks, as it is now.
    pub fn json(&self, settings: &Cleanup, is_running: bool, disk: Option<Disk>) -> Value {
        json!({
            "running": is_running,
            "cleanup_enabled": settings.enabled,
            "total_cleanups": self.rounds,
            "files_deleted": self.removed - self.quarantined,
            "files_quarantined": self.quarantined,
            "files_kept": self.kept,
            "space_freed_bytes": self.freed,
            "last_cleanup": self.last.map(time),
            "errors": self.errors,
            "configuration": {
                "retention_clean_hours": settings.clean_hours,
                "retention_matched_hours": settings.matched_hours,
                "cleanup_interval_minutes": settings.interval_minutes,
                "disk_warning_threshold": settings.disk_warn,
                "disk_critical_threshold": settings.disk_critical,
            },
            "disk_usage": disk.map(Disk::json),
        })
    }
}

fn time(at: Nanos) -> String {
    let mut text = Vec::new();
    crate::json::time(&mut text, i64::try_from(at / 1_000_000).unwrap_or(i64::MAX));
    String::from_utf8(text).unwrap_or_default()
}

/// The disks that the roots are on, each once. Roots that are not there are left out.
pub fn disks(roots: &Roots) -> Vec<Disk> {
    let mut found: Vec<Disk> = Vec::new();
    for name in roots.names() {
        let Ok(fd) = roots.open_folder(name, &RelPath::default()) else { continue };
        let (Ok(stat), Ok(room)) = (rustix::fs::fstat(&fd), rustix::fs::fstatvfs(&fd)) else { continue };
        if found.iter().all(|disk| disk.dev != stat.st_dev) {
            let used = room.f_blocks.saturating_sub(room.f_bfree).saturating_mul(room.f_frsize);
            found.push(Disk { dev: stat.st_dev, used, available: room.f_bavail.saturating_mul(room.f_frsize) });
        }
    }
    found
}

/// The fullest of them.
pub fn fullest(disks: &[Disk]) -> Option<Disk> {
    disks.iter().copied().max_by(|a, b| a.percent().total_cmp(&b.percent()))
}
