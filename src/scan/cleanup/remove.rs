//! Removing what a plan says, if it still is what was scanned.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Candidate, Plan, Quarantine, Report, Step, Way, Why, time};
use crate::{
    clock::Nanos,
    limits,
    scan::{
        outcome::{Reason, Verdict},
        roots::{OpenFailure, Roots, apart, identity, look_at, read_whole},
        task::RelPath,
    },
};

/// One removal, for the audit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Always `cleanup`.
    pub by: &'static str,
    /// `delete` or `quarantine`, written before it is done; `failed` if it then was not.
    pub action: &'static str,
    pub time: String,
    pub root: String,
    #[serde(flatten)]
    pub path: RelPath,
    pub sha256: String,
    /// Bytes.
    pub size: u64,
    pub verdict: Option<Verdict>,
    pub why: Why,
}

/// Does what the plan says.
///
/// - `quarantine`: without one, what should go there is kept; a dry round needs none.
/// - `is_dry`: only counts, and stores nothing.
/// - `now`: wall time.
/// - `audit`: comes back once all entries are stored.
pub fn carry_out(
    plan: &Plan,
    candidates: &[Candidate],
    roots: &Roots,
    quarantine: Option<&Quarantine>,
    is_dry: bool,
    now: Nanos,
    mut audit: impl FnMut(&[Entry]) -> Result<(), String>,
) -> Report {
    let mut report = Report { is_dry, began: now, processed: candidates.len() as u64, kept: plan.kept.clone(), ..Report::default() };
    for steps in plan.steps.chunks(limits::SCAN_CLEANUP_BATCH) {
        let mut ready: Vec<(Step, &Candidate)> = Vec::new();
        for step in steps {
            let Some(candidate) = candidates.get(step.candidate) else { continue };
            match stands(roots, candidate) {
                Ok(Standing::Same(_, blocks)) if is_dry => count(&mut report, step.way, blocks),
                Ok(Standing::Same(..)) if step.way == Way::Quarantine && quarantine.is_none() => report.keep("no_quarantine"),
                Ok(Standing::Same(..)) => ready.push((*step, candidate)),
                Ok(Standing::Changed) => report.keep("changed"),
                Ok(Standing::Gone) => report.gone.push((candidate.root.clone(), candidate.path.clone())),
                Err(failure) => {
                    report.keep("io");
                    report.tell(told(candidate, &failure));
                }
            }
        }
        if ready.is_empty() {
            continue;
        }
        let entries: Vec<Entry> = ready.iter().map(|(step, candidate)| entry(step, candidate, now)).collect();
        if let Err(why) = audit(&entries) {
            *report.kept.entry("no_audit").or_default() += ready.len() as u64;
            report.tell(format!("cannot store the audit of removals, so nothing more is removed: {why}"));
            return report;
        }
        let mut failed = Vec::new();
        for ((step, candidate), entry) in ready.into_iter().zip(entries) {
            match remove(roots, candidate, quarantine.filter(|_| step.way == Way::Quarantine)) {
                Ok(blocks) => {
                    count(&mut report, step.way, blocks);
                    report.gone.push((candidate.root.clone(), candidate.path.clone()));
                }
                Err(failure) => {
                    report.keep(if failure.reason == Reason::Changed { "changed" } else { "io" });
                    report.tell(told(candidate, &failure));
                    failed.push(Entry { action: "failed", ..entry });
                }
            }
        }
        if !failed.is_empty()
            && let Err(why) = audit(&failed)
        {
            report.tell(format!("cannot store the audit of removals that failed, so nothing more is removed: {why}"));
            return report;
        }
    }
    report
}

/// What stands under a candidate's name now.
enum Standing {
    /// What was scanned; its folder, and how many bytes of the disk it takes.
    Same(OwnedFd, u64),
    Changed,
    Gone,
}

fn stands(roots: &Roots, candidate: &Candidate) -> Result<Standing, OpenFailure> {
    let (folder, name) = apart(&candidate.path);
    let fd = match roots.open_folder(&candidate.root, &folder) {
        Ok(fd) => fd,
        // A root that is away may come back; what is in it is not gone.
        Err(failure) if failure.reason == Reason::NotFound && roots.open_folder(&candidate.root, &RelPath::default()).is_ok() => {
            return Ok(Standing::Gone);
        }
        Err(failure) => return Err(failure),
    };
    let Some(stat) = look_at(fd.as_fd(), name)? else { return Ok(Standing::Gone) };
    let is_same = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && identity(&stat) == candidate.identity;
    let blocks = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
    Ok(if is_same { Standing::Same(fd, blocks) } else { Standing::Changed })
}

/// Bytes of the disk that are free again.
fn remove(roots: &Roots, candidate: &Candidate, quarantine: Option<&Quarantine>) -> Result<u64, OpenFailure> {
    if let Some(quarantine) = quarantine {
        let opened = roots.open_file(&candidate.root, &candidate.path, candidate.identity.size)?;
        let whole = read_whole(opened.fd.as_fd(), candidate.identity.size)?;
        let sha256: String = Sha256::digest(&whole.bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        if whole.identity != candidate.identity || sha256 != candidate.sha256 {
            return Err(Reason::Changed.into());
        }
        quarantine.keep(&sha256, &whole.bytes).map_err(|cause| OpenFailure { reason: Reason::Io, cause: Some(cause) })?;
    }
    match stands(roots, candidate)? {
        Standing::Same(folder, blocks) => {
            rustix::fs::unlinkat(&folder, candidate.path.name(), AtFlags::empty())?;
            Ok(blocks)
        }
        Standing::Changed => Err(Reason::Changed.into()),
        Standing::Gone => Ok(0),
    }
}

fn count(report: &mut Report, way: Way, blocks: u64) {
    report.removed += 1;
    report.quarantined += u64::from(way == Way::Quarantine);
    report.freed += blocks;
}

fn entry(step: &Step, candidate: &Candidate, now: Nanos) -> Entry {
    Entry {
        by: "cleanup",
        action: if step.way == Way::Quarantine { "quarantine" } else { "delete" },
        time: time(now),
        root: candidate.root.clone(),
        path: candidate.path.clone(),
        sha256: candidate.sha256.clone(),
        size: candidate.identity.size,
        verdict: candidate.verdict,
        why: step.why,
    }
}

fn told(candidate: &Candidate, failure: &OpenFailure) -> String {
    let path = candidate.path.0.escape_ascii();
    let cause = failure.cause.as_ref().map_or_else(|| format!("{:?}", failure.reason), ToString::to_string);
    format!("cannot remove {path} of root {}: {cause}; it is kept and looked at again in the next round", candidate.root)
}
