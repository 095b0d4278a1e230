//! What Suricata said of the connections that carried files. It is read, and never started or stopped.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::super::{
    Shared,
    call::Call,
    schema::{self, Form, Schema, may, must, or},
    shapes::{COUNT, FREE, list},
    table::{Brings, Holds, May, Outcome, Route, Running, Verb, ok},
};
use crate::api::{access::Role, refusal::Refusal};

const VIEWER: May = May::Has(Role::Viewer);
const TEXT: Schema = Schema::Text(Form::Free(256));
const NOT_OFFERED: (u16, &str) = (501, "not_offered");

const fn refused(path: &'static str) -> Route {
    Route {
        verb: Verb::Post,
        path,
        may: May::Has(Role::Admin),
        doc: "Is not offered: whoever runs Suricata does this.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[],
        refusals: &[NOT_OFFERED],
        run: not_offered,
    }
}

fn not_offered(_: Arc<Shared>, _: Call) -> Running {
    Box::pin(async {
        let message = "Suricata is read here, and neither run nor changed; do this where it is installed";
        Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "not_offered", message))
    })
}

pub(super) static ROUTES: &[Route] = &[
    Route {
        verb: Verb::Get,
        path: "/suricata/status",
        may: VIEWER,
        doc: "What is known of its log.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(200, Holds::Json(FREE), "")],
        refusals: &[],
        run: |shared, _| Box::pin(async move { ok(&shared.scan.hands.suricata()) }),
    },
    Route {
        verb: Verb::Get,
        path: "/suricata/alerts",
        may: VIEWER,
        doc: "Its alerts in memory, the newest first.",
        query: &[
            or("page", Schema::Whole { min: 1, max: 1_000_000_000 }, "1", ""),
            or("page_size", Schema::Whole { min: 1, max: 100 }, "20", ""),
            may("severity", Schema::Whole { min: 0, max: 255 }, ""),
            may("signature", TEXT, "a part of it, in any case"),
            may("src_ip", TEXT, "exactly"),
            may("dest_ip", TEXT, "exactly"),
            may("start_date", Schema::Text(Form::Time), "not before"),
            may("end_date", Schema::Text(Form::Time), "not after"),
        ],
        brings: Brings::Nothing,
        answers: &[(200, Holds::Json(PAGE), "")],
        refusals: &[],
        run: |shared, call| Box::pin(alerts(shared, call)),
    },
    Route {
        verb: Verb::Get,
        path: "/suricata/correlation",
        may: VIEWER,
        doc: "Relations of files to its alerts, the newest first.",
        query: &[or("limit", Schema::Whole { min: 1, max: 1000 }, "100", "")],
        brings: Brings::Nothing,
        answers: &[(200, Holds::Json(Schema::Open(&[must("correlations", list(&FREE), ""), must("count", COUNT, "")])), "")],
        refusals: &[],
        run: |shared, call| {
            Box::pin(async move {
                let limit = call.number("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(100);
                let mut found = shared.scan.hands.correlations();
                found.truncate(limit);
                ok(&json!({"count": found.len(), "correlations": found}))
            })
        },
    },
    Route {
        verb: Verb::Post,
        path: "/suricata/correlate",
        may: May::Has(Role::Submitter),
        doc: "Looks for relations anew.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(200, Holds::Json(Schema::Open(&[must("success", Schema::Bool, ""), must("found", COUNT, "")])), "")],
        refusals: &[(409, "there is no log to look in")],
        run: |shared, _| {
            Box::pin(async move {
                let found = shared.scan.hands.correlate().await.map_err(|why| Refusal::conflict("no_log", why))?;
                ok(&json!({"success": true, "found": found}))
            })
        },
    },
    refused("/suricata/start"),
    refused("/suricata/stop"),
    refused("/suricata/pcap"),
    refused("/suricata/rules/update"),
];

const PAGE: Schema = Schema::Open(&[
    must("alerts", list(&FREE), ""),
    must("count", COUNT, ""),
    must("total", COUNT, ""),
    must("page", COUNT, ""),
    must("page_size", COUNT, ""),
]);

async fn alerts(shared: Arc<Shared>, call: Call) -> Outcome {
    let (start, end) = (call.text("start_date").and_then(schema::time), call.text("end_date").and_then(schema::time));
    if let (Some(start), Some(end)) = (start, end)
        && start > end
    {
        return Err(Refusal::field("start_date", "is after end_date"));
    }
    let is_it = |alert: &Value| {
        let text = |name: &str| alert[name].as_str().unwrap_or_default();
        let at = schema::time(text("timestamp"));
        let part = |name: &str| call.text(name).is_none_or(|part| text(name).to_lowercase().contains(&part.to_lowercase()));
        call.number("severity").is_none_or(|severity| alert["severity"].as_u64() == Some(severity))
            && part("signature")
            && ["src_ip", "dest_ip"].iter().all(|name| call.text(name).is_none_or(|address| text(name) == address))
            && start.is_none_or(|start| at.is_some_and(|at| at >= start))
            && end.is_none_or(|end| at.is_some_and(|at| at <= end))
    };
    let found: Vec<Value> = shared.scan.hands.suricata_alerts().into_iter().filter(is_it).collect();
    let (number, size) = (call.number("page").unwrap_or(1), call.number("page_size").unwrap_or(20));
    let skip = usize::try_from((number - 1).saturating_mul(size)).unwrap_or(usize::MAX);
    let alerts: Vec<&Value> = found.iter().skip(skip).take(usize::try_from(size).unwrap_or(20)).collect();
    ok(&json!({"alerts": alerts, "count": alerts.len(), "total": found.len(), "page": number, "page_size": size}))
}
