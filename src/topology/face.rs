//! The HTTP face of a plan: what it shows, and the task that shows it.

use super::{Plan, run::EdgeTask};
use crate::{
    api::{Bound, Face, Part, serve},
    clock::SystemClock,
    io::Engine,
    metrics::{Board, Metrics},
    store::StoreHandle,
};

/// What the face shows of a plan that runs.
pub fn face(plan: &Plan, engine: Engine, clock: SystemClock, board: Board, metrics: Metrics, store: Option<StoreHandle>) -> Face {
    let sources = plan.sources.iter().map(|s| Part { name: format!("sources.{}", s.name), kind: s.kind, required: true });
    let lookups = plan.lookups.iter().map(|l| Part { name: format!("lookups.{}", l.name), kind: l.kind, required: l.required });
    let sinks = plan.sinks.iter().map(|s| Part { name: format!("sinks.{}", s.name), kind: s.kind, required: s.required });
    Face {
        instance: plan.globals.instance.clone(),
        engine: engine.to_string(),
        parts: sources.chain(lookups).chain(sinks).collect(),
        stall_after: plan.globals.stall_after,
        board,
        metrics,
        clock,
        store,
        dead_letter_bytes_max: plan.globals.dead_letter.max_bytes,
    }
}

/// Shows it on the edge thread.
pub fn task(bound: Bound, face: Face) -> EdgeTask {
    Box::new(move |_| Box::pin(serve(bound, face)))
}
