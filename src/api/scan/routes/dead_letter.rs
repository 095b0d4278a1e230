//! Tasks that nobody tries any more.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::{
    Shared,
    call::Call,
    schema::{Schema, may, must, or},
    shapes::{COUNT, DONE, ID, STANDING, TEXT, list},
    table::{Brings, Holds, May, Outcome, Route, Verb, ok},
};
use crate::{
    api::{access::Role, refusal::Refusal},
    scan::tasks::Retried,
};

pub(super) static ROUTES: &[Route] = &[
    Route {
        verb: Verb::Get,
        path: "/distributed/dead-letter",
        may: May::Has(Role::Viewer),
        doc: "All of them, in the order of their ids.",
        query: &[or("limit", Schema::Whole { min: 1, max: 1000 }, "100", ""), may("after", ID, "the last id of the page before")],
        brings: Brings::Nothing,
        answers: &[(
            200,
            Holds::Json(Schema::Open(&[
                must("tasks", list(&STANDING), ""),
                must("count", COUNT, ""),
                must("next", Schema::Nullable(&TEXT), "as `after`"),
            ])),
            "",
        )],
        refusals: &[],
        run: |shared, call| Box::pin(all(shared, call)),
    },
    Route {
        verb: Verb::Post,
        path: "/distributed/dead-letter/{id}/retry",
        may: May::Has(Role::Admin),
        doc: "Queues one once more, as if it were new.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(200, Holds::Json(DONE), "")],
        refusals: &[(409, "it killed those who scanned it, and is tried by nobody again")],
        run: |shared, call| Box::pin(retry(shared, call)),
    },
    Route {
        verb: Verb::Delete,
        path: "/distributed/dead-letter/{id}",
        may: May::Has(Role::Admin),
        doc: "Takes one out.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(200, Holds::Json(DONE), "")],
        refusals: &[],
        run: |shared, call| Box::pin(take_out(shared, call)),
    },
];

fn unknown() -> Refusal {
    Refusal::not_found("not_dead", "there is no such task in the dead letter")
}

async fn all(shared: Arc<Shared>, call: Call) -> Outcome {
    let limit = call.number("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(100);
    let found = shared.scan.tasks.dead(call.text("after"), limit).await.map_err(super::away)?;
    let tasks: Vec<Value> = found.iter().map(super::standing).collect();
    ok(&json!({"count": tasks.len(), "next": found.last().map(|standing| &standing.task.task_id), "tasks": tasks}))
}

async fn retry(shared: Arc<Shared>, call: Call) -> Outcome {
    match shared.scan.tasks.retry_dead(call.id()).await.map_err(super::away)? {
        Retried::Queued => ok(&json!({"success": true, "message": "queued"})),
        Retried::Poison => Err(Refusal::conflict("poison", "this task killed those who scanned it, and is tried by nobody again")),
        Retried::NotDead | Retried::Unknown => Err(unknown()),
    }
}

async fn take_out(shared: Arc<Shared>, call: Call) -> Outcome {
    if !shared.scan.tasks.drop_dead(call.id()).await.map_err(super::away)? {
        return Err(unknown());
    }
    ok(&json!({"success": true, "message": "taken out"}))
}
