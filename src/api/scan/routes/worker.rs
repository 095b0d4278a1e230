//! A worker's own side: what its master may ask of it.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::json;

use super::super::{
    Shared,
    call::Call,
    schema::Schema,
    schema::must,
    shapes::{DONE, TASK_BROUGHT, TEXT},
    table::{Brings, Holds, May, Outcome, Route, Verb, ok},
};
use crate::{
    api::{access::Role, refusal::Refusal},
    scan::task::Task,
};

/// The role of the key that the master shows.
const MASTER: May = May::Has(Role::Admin);
const NO_WORKER: (u16, &str) = (400, "this node is no worker of a master");

pub(super) static ROUTES: &[Route] = &[
    Route {
        verb: Verb::Post,
        path: "/task",
        may: MASTER,
        doc: "Brings a task to this worker.",
        query: &[],
        brings: Brings::Json(TASK_BROUGHT),
        answers: &[(
            200,
            Holds::Json(Schema::Open(&[must("success", Schema::Bool, ""), must("message", TEXT, ""), must("worker_id", TEXT, "")])),
            "accepted",
        )],
        refusals: &[(400, "not JSON, or this node is no worker of a master"), (503, "it has as many tasks as it can do")],
        run: |shared, call| Box::pin(task(shared, call)),
    },
    Route {
        verb: Verb::Post,
        path: "/shutdown",
        may: MASTER,
        doc: "Ends this worker's agent, once what it scans is scanned.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(200, Holds::Json(DONE), "it ends")],
        refusals: &[NO_WORKER],
        run: |shared, _| {
            Box::pin(async move {
                if !shared.scan.hands.shut_down() {
                    return Err(no_worker());
                }
                ok(&json!({"success": true, "message": "ending"}))
            })
        },
    },
];

fn no_worker() -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "no_worker", "this node is no worker of a master")
}

async fn task(shared: Arc<Shared>, call: Call) -> Outcome {
    let task: Task = call.read()?;
    let worker_id = shared.scan.hands.worker().map(|told| told["worker_id"].clone());
    match shared.scan.hands.offer(task) {
        Some(true) => ok(&json!({"success": true, "message": "accepted", "worker_id": worker_id})),
        Some(false) => Err(Refusal::away("full", "this worker has as many tasks as it can do", 5)),
        None => Err(no_worker()),
    }
}
