//! Files that were scanned leave their folders, where that is asked for: rounds by the clock, and those that the API asks for.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use serde_json::Value;

use super::children::{Later, apart};
use crate::{
    clock::{Clock, SystemClock},
    limits,
    scan::{
        cleanup::{Candidate, Entry, Quarantine, Report, Totals, carry_out, disks, fullest, plan},
        roots::Roots,
        settings::{Cleanup, Root},
        tasks::{Known, Tasks},
    },
};

/// What removes files. Clones are the same.
#[derive(Clone)]
pub(super) struct Cleaning(Arc<Inner>);

struct Inner {
    settings: Cleanup,
    watched: Vec<Root>,
    tasks: Tasks,
    roots: Arc<Roots>,
    clock: SystemClock,
    totals: Mutex<Totals>,
    is_running: AtomicBool,
}

impl Cleaning {
    pub(super) fn new(settings: Cleanup, watched: Vec<Root>, tasks: Tasks, roots: Arc<Roots>, clock: SystemClock) -> Self {
        let (totals, is_running) = (Mutex::default(), AtomicBool::new(false));
        Self(Arc::new(Inner { settings, watched, tasks, roots, clock, totals, is_running }))
    }

    fn totals(&self) -> MutexGuard<'_, Totals> {
        self.0.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As `/cleanup/stats` shows it.
    pub(super) fn told(&self) -> Value {
        let disk = fullest(&disks(&self.0.roots));
        self.totals().json(&self.0.settings, self.0.is_running.load(Ordering::Acquire), disk)
    }

    /// One round, on a thread of its own: it waits for disks.
    ///
    /// # Errors
    /// Another one is under way, or the store cannot answer; in words.
    pub(super) fn round(&self, is_dry: bool) -> Later<Result<Report, String>> {
        if self.0.is_running.swap(true, Ordering::AcqRel) {
            return Box::pin(std::future::ready(Err("a round is under way; ask again when it has ended".into())));
        }
        let of = self.clone();
        apart("scan-cleanup", move || {
            let report = of.go_round(is_dry);
            of.0.is_running.store(false, Ordering::Release);
            if let Ok(report) = &report {
                of.totals().add(report);
            }
            report
        })
    }

    fn go_round(&self, is_dry: bool) -> Result<Report, String> {
        let Inner { settings, watched, tasks, roots, clock, .. } = &*self.0;
        let now = clock.now();
        let candidates = self.candidates(now)?;
        let plan = plan(&candidates, watched, &disks(roots), settings, now);
        let quarantine = settings
            .quarantine
            .as_deref()
            .filter(|_| !is_dry)
            .map(|path| Quarantine::open(path, roots))
            .transpose()
            .map_err(|e| e.to_string())?;
        let audit = |entries: &[Entry]| {
            let kept: Vec<_> = entries.iter().map(|entry| tasks.audit(serde_json::to_value(entry).unwrap_or_default())).collect();
            kept.into_iter().try_for_each(|answer| answer.wait().map(drop)).map_err(|away| away.to_string())
        };
        let report = carry_out(&plan, &candidates, roots, quarantine.as_ref(), is_dry, now, audit);
        if !is_dry {
            for (root, path) in &report.gone {
                tasks.forget_file(root, path).wait().map_err(|away| away.to_string())?;
            }
        }
        Ok(report)
    }

    /// Files with an answer, oldest first.
    fn candidates(&self, now: crate::clock::Nanos) -> Result<Vec<Candidate>, String> {
        let (mut all, mut after) = (Vec::new(), None::<Known>);
        while all.len() < limits::SCAN_CLEANUP_CANDIDATES {
            let page =
                self.0.tasks.done_older_than(now, after.as_ref(), limits::SCAN_CLEANUP_PAGE).wait().map_err(|away| away.to_string())?;
            let Some(last) = page.last().cloned() else { break };
            after = Some(last);
            all.extend(page.into_iter().map(|known| Candidate {
                root: known.root,
                path: known.path,
                identity: known.identity,
                verdict: known.verdict,
                partial: known.partial,
                sha256: known.sha256,
                ended_at: known.ended_at,
            }));
        }
        Ok(all)
    }
}
