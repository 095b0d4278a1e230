//! Alerts of scans.

use std::sync::Arc;

use serde_json::json;

use super::super::{
    Shared,
    call::Call,
    schema::{self, Form, Schema, may, must, or},
    shapes::{ALERT, COUNT, list},
    table::{Brings, Holds, May, Outcome, Route, Verb, ok},
};
use crate::{
    api::{access::Role, refusal::Refusal},
    scan::tasks::{AlertFilter, Page},
};

const PART: Schema = Schema::Text(Form::Free(256));

pub(super) static ROUTES: &[Route] = &[
    Route {
        verb: Verb::Get,
        path: "/alerts",
        may: May::Has(Role::Viewer),
        doc: "Alerts, the newest first.",
        query: &[
            or("page", Schema::Whole { min: 1, max: 1_000_000_000 }, "1", ""),
            or("page_size", Schema::Whole { min: 1, max: 100 }, "20", ""),
            may("severity", Schema::Whole { min: 0, max: 10 }, "exactly"),
            may("rule_name", PART, "a part of it, in any case"),
            may("file_type", PART, "a part of it, in any case"),
            may("namespace", PART, "exactly"),
            may("zeek_uid", PART, "exactly"),
            may("fuid", PART, "exactly"),
            may("sha256", Schema::Text(Form::Sha256), ""),
            may("task_id", Schema::Text(Form::Id), ""),
            may("start_date", Schema::Text(Form::Time), "not before"),
            may("end_date", Schema::Text(Form::Time), "not after"),
        ],
        brings: Brings::Nothing,
        answers: &[(
            200,
            Holds::Json(Schema::Open(&[
                must("alerts", list(&ALERT), ""),
                must("count", COUNT, "on this page"),
                must("total", COUNT, "on all pages"),
                must("page", COUNT, ""),
                must("page_size", COUNT, ""),
            ])),
            "",
        )],
        refusals: &[],
        run: |shared, call| Box::pin(page(shared, call)),
    },
    Route {
        verb: Verb::Get,
        path: "/alerts/{id}",
        may: May::Has(Role::Viewer),
        doc: "One alert.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(200, Holds::Json(ALERT), "")],
        refusals: &[],
        run: |shared, call| Box::pin(one(shared, call)),
    },
];

async fn page(shared: Arc<Shared>, call: Call) -> Outcome {
    let text = |name: &str| call.text(name).map(str::to_owned);
    let time = |name: &str| call.text(name).and_then(schema::time);
    let filter = AlertFilter {
        severity: call.number("severity").and_then(|severity| u8::try_from(severity).ok()),
        severity_min: None,
        rule_name: text("rule_name"),
        namespace: text("namespace"),
        file_type: text("file_type"),
        zeek_uid: text("zeek_uid"),
        fuid: text("fuid"),
        sha256: text("sha256"),
        task_id: text("task_id"),
        start: time("start_date"),
        end: time("end_date"),
    };
    if let (Some(start), Some(end)) = (filter.start, filter.end)
        && start > end
    {
        return Err(Refusal::field("start_date", "is after end_date"));
    }
    let page = Page { number: call.number("page").unwrap_or(1), size: call.number("page_size").unwrap_or(20) };
    let (number, size) = (page.number, page.size);
    let found = shared.scan.tasks.alerts(filter, page).await.map_err(super::away)?;
    let alerts: Vec<_> = found.alerts.into_iter().map(|alert| alert.alert).collect();
    ok(&json!({"count": alerts.len(), "alerts": alerts, "total": found.total, "page": number, "page_size": size}))
}

async fn one(shared: Arc<Shared>, call: Call) -> Outcome {
    let unknown = || Refusal::not_found("no_alert", "there is no such alert");
    // As it is written in an answer: no sign, no zero in front.
    let id: u64 = call.id().parse().ok().filter(|id: &u64| id.to_string() == call.id()).ok_or_else(unknown)?;
    let found = shared.scan.tasks.alert(id).await.map_err(super::away)?.ok_or_else(unknown)?;
    ok(&serde_json::Value::Object(found.alert))
}
