//! The HTTP face of a plan: what it shows, and the task that shows it.

use super::{Globals, Plan, run::EdgeTask};
use crate::{
    api::{AccessError, Alerts, BindError, Bound, Face, Gate, Part, serve},
    clock::SystemClock,
    io::Engine,
    metrics::{Board, Metrics},
    scan::settings::QueueKind,
    sinks::AlertShelf,
    store::StoreHandle,
};

/// A place to listen, and who may come.
pub struct Opened {
    bound: Bound,
    gate: Gate,
}

/// Why the face cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// Takes the place that a plan names, if it names one, and makes it safe.
///
/// # Errors
/// [`OpenError`]: nobody listens then.
pub fn open(globals: &Globals) -> Result<Option<Opened>, OpenError> {
    let Some(listen) = &globals.api else { return Ok(None) };
    let mut bound = Bound::bind(listen)?;
    let gate = globals.access.guard(&mut bound)?;
    Ok(Some(Opened { bound, gate }))
}

/// Shows what a plan does on the edge thread.
pub fn shown(opened: Opened, face: Face) -> EdgeTask {
    let Opened { bound, gate } = opened;
    task(bound, Face { gate, ..face })
}

/// What the face shows of a plan that runs.
pub fn face(plan: &Plan, engine: Engine, clock: SystemClock, board: Board, metrics: Metrics, store: Option<StoreHandle>) -> Face {
    let sources = plan.sources.iter().map(|s| Part { name: format!("sources.{}", s.name), kind: s.kind, required: true });
    let lookups = plan.lookups.iter().map(|l| Part { name: format!("lookups.{}", l.name), kind: l.kind, required: l.required });
    let sinks = plan.sinks.iter().map(|s| Part { name: format!("sinks.{}", s.name), kind: s.kind, required: s.required });
    let scan = plan.scan.iter().map(|_| Part { name: "scan".into(), kind: "scan", required: true });
    let broker = plan.scan.iter().filter(|scan| scan.settings.queue.kind != QueueKind::Memory);
    let broker = broker.map(|_| Part { name: "scan.queue".into(), kind: "queue", required: false });
    let mut alerts = Alerts::default();
    for shelf in plan.sinks.iter().filter_map(|sink| sink.spec.shelf()) {
        match shelf {
            AlertShelf::Memory(recent) => alerts.in_memory(recent),
            AlertShelf::Redis { server, keys } => alerts.in_redis(server, keys),
        }
    }
    plan.stages.iter().filter_map(|stage| stage.spec.questions()).for_each(|questions| alerts.ask(questions));
    Face {
        instance: plan.globals.instance.clone(),
        engine: engine.to_string(),
        parts: sources.chain(lookups).chain(sinks).chain(scan).chain(broker).collect(),
        stall_after: plan.globals.stall_after,
        board,
        metrics,
        clock,
        store,
        dead_letter_bytes_max: plan.globals.dead_letter.max_bytes,
        alerts,
        gate: Gate::default(),
        scan: None,
    }
}

/// Shows it on the edge thread.
pub fn task(bound: Bound, face: Face) -> EdgeTask {
    Box::new(move |_| Box::pin(serve(bound, face)))
}

/// Hands the alerts in memory over to a plan that takes the place of another.
pub fn adopt(plan: &Plan, before: &Plan) {
    for sink in &plan.sinks {
        let old = before.sinks.iter().find(|old| (&old.name, old.kind) == (&sink.name, sink.kind));
        if let (Some(AlertShelf::Memory(new)), Some(AlertShelf::Memory(old))) = (sink.spec.shelf(), old.and_then(|old| old.spec.shelf())) {
            new.adopt(&old);
        }
    }
}
