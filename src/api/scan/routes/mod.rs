//! The routes, one file a subject.

mod alerts;
mod audit;
mod dead_letter;
mod files;
mod monitoring;
mod rules;
mod scanner;
mod status;
mod suricata;
mod tasks;
mod worker;
mod workers;

#[cfg(test)]
pub(super) use tasks::sweep;

use super::table::Route;

/// All of them, in the order of `/docs`.
pub(super) fn all() -> impl Iterator<Item = &'static Route> {
    [
        status::ROUTES,
        alerts::ROUTES,
        files::ROUTES,
        scanner::ROUTES,
        rules::ROUTES,
        workers::ROUTES,
        tasks::ROUTES,
        dead_letter::ROUTES,
        monitoring::ROUTES,
        audit::ROUTES,
        suricata::ROUTES,
        worker::ROUTES,
    ]
    .into_iter()
    .flatten()
}

use serde_json::Value;

use super::Shared;
use crate::{
    api::refusal::Refusal,
    scan::tasks::{Away, Standing},
};

/// The store gives no answer.
fn away(error: Away) -> Refusal {
    match error {
        Away::Closed => Refusal::away("ending", "the agent is ending", 5),
        Away::Busy(_) => Refusal::away("busy", "the task store does not keep up; ask again", 1),
        Away::Disk => Refusal::away("disk", "the task store cannot be written at the moment; the agent's log says why", 10),
        error @ Away::Corrupt { .. } => Refusal::internal(&error),
    }
}

/// A task as it is shown.
fn standing(standing: &Standing) -> Value {
    let seconds = |at: u64| at as f64 / 1e9;
    serde_json::json!({
        "task": standing.task,
        "state": standing.state,
        "worker_id": standing.worker,
        "until": standing.until.map(seconds),
        "ended_at": standing.ended_at.map(seconds),
        "result": standing.outcome,
        "dead": standing.dead,
    })
}

/// Refuses while dispatch is paused.
fn not_stopped(shared: &Shared) -> Result<(), Refusal> {
    if !shared.scan.tasks.is_paused() {
        return Ok(());
    }
    Err(Refusal::away("stopped", "distribution is stopped; POST /distributed/start starts it", 30))
}
