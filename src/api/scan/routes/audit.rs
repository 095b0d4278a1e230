//! Who changed what, and who was refused.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::{
    Shared,
    call::Call,
    schema::{Schema, may, must, or},
    shapes::{COUNT, FREE, list},
    table::{Brings, Holds, May, Outcome, Route, Verb, ok},
};
use crate::api::access::Role;

pub(super) static ROUTES: &[Route] = &[Route {
    verb: Verb::Get,
    path: "/audit",
    may: May::Has(Role::Admin),
    doc: "Refused and changing calls, the oldest first.",
    query: &[
        or("limit", Schema::Whole { min: 1, max: 1000 }, "100", ""),
        may("after", Schema::Whole { min: 0, max: i64::MAX }, "only entries behind this number"),
    ],
    brings: Brings::Nothing,
    answers: &[(
        200,
        Holds::Json(Schema::Open(&[
            must("entries", list(&FREE), "seq, time, request_id, key, address, method, path, status; others of cleanup"),
            must("count", COUNT, ""),
            must("next", Schema::Nullable(&COUNT), "as `after`, of the next page"),
        ])),
        "",
    )],
    refusals: &[],
    run: |shared, call| Box::pin(all(shared, call)),
}];

async fn all(shared: Arc<Shared>, call: Call) -> Outcome {
    let limit = call.number("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(100);
    let found = shared.scan.tasks.audits(call.number("after"), limit).await.map_err(super::away)?;
    let next = found.last().map(|entry| entry.seq);
    let entries: Vec<Value> = found
        .into_iter()
        .map(|entry| {
            let mut shown = entry.entry;
            if !shown.is_object() {
                shown = json!({"entry": shown});
            }
            shown["seq"] = entry.seq.into();
            shown
        })
        .collect();
    ok(&json!({"count": entries.len(), "entries": entries, "next": next}))
}
