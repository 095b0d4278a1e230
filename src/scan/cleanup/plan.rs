//! What goes. Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    clock::Nanos,
    scan::{
        outcome::Verdict,
        settings::{Cleanup, Root},
        task::{Identity, RelPath},
    },
};

const HOUR: Nanos = 3_600_000_000_000;

/// A file that the task store knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub root: String,
    pub path: RelPath,
    /// What it was when it was scanned.
    pub identity: Identity,
    /// `None` without an outcome: waiting, under way, dead, or cancelled.
    pub verdict: Option<Verdict>,
    pub partial: bool,
    /// Of the bytes that were scanned, in hex.
    pub sha256: String,
    /// When it got its outcome; wall time.
    pub ended_at: Option<Nanos>,
}

/// How full a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    pub dev: u64,
    /// Bytes.
    pub used: u64,
    /// Bytes that we may still write.
    pub available: u64,
}

impl Disk {
    fn total(self) -> u64 {
        self.used.saturating_add(self.available)
    }

    /// As df(1) counts: what only root may use is not there.
    pub fn percent(self) -> f64 {
        if self.total() == 0 { 0.0 } else { self.used as f64 * 100.0 / self.total() as f64 }
    }

    pub(super) fn json(self) -> Value {
        json!({
            "total_bytes": self.total(),
            "used_bytes": self.used,
            "available_bytes": self.available,
            "usage_percent": (self.percent() * 100.0).round() / 100.0,
        })
    }
}

/// What is done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    Delete,
    Quarantine,
}

/// Why now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    Age,
    DiskFull,
}

/// One file that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its number among the candidates.
    pub candidate: usize,
    pub way: Way,
    pub why: Why,
}

/// What goes, oldest first by cause, and how many stay, by why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub kept: BTreeMap<&'static str, u64>,
}

/// Decides.
///
/// | outcome | goes |
/// |---|---|
/// | `clean`, `skipped` | after `clean_hours`; at `disk_critical` at once, oldest first, down to `disk_warn` |
/// | `matched` | after `matched_hours`, into the quarantine if there is one |
/// | `error`, `partial` whatever the verdict, none | never |
///
/// - `roots`: what lies in one that is not watched stays.
/// - `now`: wall time.
pub fn plan(candidates: &[Candidate], roots: &[Root], disks: &[Disk], settings: &Cleanup, now: Nanos) -> Plan {
    let mut plan = Plan::default();
    // Clean and young, by age: who goes if a disk is full.
    let mut spare: Vec<(Nanos, usize)> = Vec::new();
    let mut freed: BTreeMap<u64, u64> = BTreeMap::new();
    let mut by_age: Vec<(Nanos, Step)> = Vec::new();
    for (number, candidate) in candidates.iter().enumerate() {
        let is_watched = roots.iter().any(|root| root.watch && root.name == candidate.root);
        let kept = match (candidate.verdict, candidate.ended_at) {
            _ if !is_watched => "not_watched",
            (None, _) | (_, None) => "no_outcome",
            (Some(Verdict::Error), _) => "error",
            _ if candidate.partial => "partial",
            (Some(verdict), Some(ended_at)) => {
                let (hours, way) = match verdict {
                    Verdict::Matched if settings.quarantine.is_some() => (settings.matched_hours, Way::Quarantine),
                    Verdict::Matched => (settings.matched_hours, Way::Delete),
                    _ => (settings.clean_hours, Way::Delete),
                };
                if now.saturating_sub(ended_at) >= hours.saturating_mul(HOUR) {
                    if way == Way::Delete {
                        *freed.entry(candidate.identity.dev).or_default() += candidate.identity.size;
                    }
                    by_age.push((ended_at, Step { candidate: number, way, why: Why::Age }));
                    continue;
                }
                if verdict != Verdict::Matched {
                    spare.push((ended_at, number));
                    continue;
                }
                "young"
            }
        };
        *plan.kept.entry(kept).or_default() += 1;
    }
    by_age.sort_by_key(|(ended_at, step)| (*ended_at, step.candidate));
    plan.steps.extend(by_age.into_iter().map(|(_, step)| step));
    spare.sort_unstable();
    for (_, number) in spare {
        let Some(candidate) = candidates.get(number) else { continue };
        let dev = candidate.identity.dev;
        let owed = disks.iter().find(|disk| disk.dev == dev).map_or(0, |disk| too_much(*disk, settings));
        let freed = freed.entry(dev).or_default();
        if *freed < owed {
            *freed += candidate.identity.size;
            plan.steps.push(Step { candidate: number, way: Way::Delete, why: Why::DiskFull });
        } else {
            *plan.kept.entry("young").or_default() += 1;
        }
    }
    plan
}

/// Bytes that have to go; none below `disk_critical`.
fn too_much(disk: Disk, settings: &Cleanup) -> u64 {
    let share = |percent: u8| u64::try_from(u128::from(disk.total()) * u128::from(percent) / 100).unwrap_or(u64::MAX);
    if disk.used < share(settings.disk_critical) || disk.total() == 0 {
        return 0;
    }
    disk.used.saturating_sub(share(settings.disk_warn.min(settings.disk_critical)))
}
