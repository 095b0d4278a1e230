//! Metrics, alerts about the node itself, and their rules.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::super::{
    Shared,
    call::Call,
    schema::{Form, Schema, must, or},
    shapes::{DONE, FREE, NUMBER, RULE, TEXT, WINDOW, list},
    table::{Brings, Holds, May, Outcome, Route, Verb, ok},
};
use crate::{
    api::{access::Role, refusal::Refusal},
    scan::monitor::{
        Resolved, Rule, RuleError,
        export::{self, ExportError},
    },
};

const VIEWER: May = May::Has(Role::Viewer);
const ADMIN: May = May::Has(Role::Admin);

pub(super) static ROUTES: &[Route] = &[
    Route {
        verb: Verb::Get,
        path: "/monitoring/metrics",
        may: VIEWER,
        doc: "All metrics now.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(
            200,
            Holds::Json(Schema::Open(&[must("metrics", FREE, "counters, gauges, histograms, timers"), must("timestamp", NUMBER, "")])),
            "",
        )],
        refusals: &[],
        run: |shared, _| Box::pin(async move { ok(&json!({"metrics": shared.monitor().metrics(), "timestamp": shared.now().seconds()})) }),
    },
    Route {
        verb: Verb::Get,
        path: "/monitoring/metrics/summary",
        may: VIEWER,
        doc: "What metrics came to in the last seconds.",
        query: &[or("time_window", WINDOW, "3600", "seconds")],
        brings: Brings::Nothing,
        answers: &[(
            200,
            Holds::Json(Schema::Open(&[
                must("summary", FREE, "by metric: count, min, max, avg, median, latest, trend"),
                must("time_window", WINDOW, ""),
                must("timestamp", NUMBER, ""),
            ])),
            "",
        )],
        refusals: &[],
        run: |shared, call| {
            Box::pin(async move {
                let window = call.number("time_window").unwrap_or(3600);
                let summary = shared.monitor().summary(window, shared.now());
                ok(&json!({"summary": summary, "time_window": window, "timestamp": shared.now().seconds()}))
            })
        },
    },
    Route {
        verb: Verb::Get,
        path: "/monitoring/alerts",
        may: VIEWER,
        doc: "What is wrong, and what was.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(
            200,
            Holds::Json(Schema::Open(&[
                must("active_alerts", list(&FREE), ""),
                must("alert_history", list(&FREE), "the last fifty, the newest first"),
                must("summary", FREE, ""),
                must("timestamp", NUMBER, ""),
            ])),
            "",
        )],
        refusals: &[],
        run: |shared, _| {
            Box::pin(async move {
                let mut told = shared.monitor().alerts();
                told["timestamp"] = json!(shared.now().seconds());
                ok(&told)
            })
        },
    },
    Route {
        verb: Verb::Post,
        path: "/monitoring/alerts/{id}/resolve",
        may: ADMIN,
        doc: "Says that an alert is dealt with.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(
            200,
            Holds::Json(Schema::Open(&[must("success", Schema::Bool, ""), must("alert_id", TEXT, ""), must("message", TEXT, "")])),
            "",
        )],
        refusals: &[(409, "it is resolved already")],
        run: |shared, call| Box::pin(resolve(shared, call)),
    },
    Route {
        verb: Verb::Get,
        path: "/monitoring/rules",
        may: VIEWER,
        doc: "When an alert is fired.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(200, Holds::Json(Schema::Open(&[must("rules", FREE, "by name")])), "")],
        refusals: &[],
        run: |shared, _| {
            Box::pin(async move {
                let rules: serde_json::Map<String, Value> =
                    shared.monitor().rules().map(|(name, rule)| (name.to_owned(), json!(rule))).collect();
                ok(&json!({"rules": rules}))
            })
        },
    },
    Route {
        verb: Verb::Put,
        path: "/monitoring/rules/{name}",
        may: ADMIN,
        doc: "Puts a rule in, or another one in its place.",
        query: &[],
        brings: Brings::Json(RULE),
        answers: &[(200, Holds::Json(DONE), "")],
        refusals: &[(409, "there are too many rules")],
        run: |shared, call| Box::pin(put_rule(shared, call)),
    },
    Route {
        verb: Verb::Delete,
        path: "/monitoring/rules/{name}",
        may: ADMIN,
        doc: "Takes a rule out; its active alert is resolved.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(200, Holds::Json(DONE), "")],
        refusals: &[],
        run: |shared, call| Box::pin(remove_rule(shared, call)),
    },
    Route {
        verb: Verb::Post,
        path: "/monitoring/export",
        may: ADMIN,
        doc: "Writes metrics into a new file below monitor.export_dir.",
        query: &[],
        brings: Brings::Json(Schema::Object(&[
            must("file_path", Schema::Text(Form::FileName), "one name"),
            or("format", Schema::Choice(&["json", "csv", "prometheus"]), "\"json\"", ""),
            or("time_window", WINDOW, "3600", "seconds, of csv"),
        ])),
        answers: &[(200, Holds::Json(DONE), "")],
        refusals: &[(409, "a file of this name is there, or there is no monitor.export_dir")],
        run: |shared, call| Box::pin(write(shared, call)),
    },
    Route {
        verb: Verb::Get,
        path: "/monitoring/dashboard",
        may: VIEWER,
        doc: "All of it at once.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(
            200,
            Holds::Json(Schema::Open(&[
                must("metrics", FREE, ""),
                must("alerts", FREE, ""),
                must("performance", FREE, ""),
                must("health", FREE, ""),
                must("timestamp", NUMBER, ""),
            ])),
            "",
        )],
        refusals: &[],
        run: |shared, _| Box::pin(async move { ok(&shared.monitor().dashboard(shared.now())) }),
    },
];

async fn resolve(shared: Arc<Shared>, call: Call) -> Outcome {
    let now = shared.now();
    let resolved = shared.monitor().resolve(call.id(), &call.who.name, now);
    match resolved {
        Resolved::Done(change) => {
            shared.scan.hands.tell(vec![*change]);
            ok(&json!({"success": true, "alert_id": call.id(), "message": "resolved"}))
        }
        Resolved::Already => Err(Refusal::conflict("already_resolved", "this alert is resolved already")),
        Resolved::Unknown => Err(Refusal::not_found("no_alert", "there is no such alert")),
    }
}

async fn put_rule(shared: Arc<Shared>, call: Call) -> Outcome {
    let rule: Rule = call.read()?;
    let row = json!(rule);
    let set = shared.monitor().set_rule(call.id(), rule);
    match set {
        Ok(()) => {
            shared.scan.tasks.put_monitor_rule(call.id(), row).await.map_err(super::away)?;
            ok(&json!({"success": true, "message": format!("rule {} is in use", call.id())}))
        }
        // An id of another form is no name of a rule.
        Err(RuleError::Name) => Err(Refusal::not_found("not_found", "the name of a rule is 1 to 64 of a-z 0-9 _")),
        Err(RuleError::Field(field, problem)) => Err(Refusal::field(field, problem)),
        Err(RuleError::TooMany) => Err(Refusal::conflict("too_many_rules", "there are as many rules as may be; remove one")),
    }
}

async fn remove_rule(shared: Arc<Shared>, call: Call) -> Outcome {
    let now = shared.now();
    let removed = shared.monitor().remove_rule(call.id(), now);
    match removed {
        None => Err(Refusal::not_found("no_rule", "there is no such rule")),
        Some(changes) => {
            shared.scan.hands.tell(changes);
            // Not removed from the store: a rule of the defaults would come back.
            shared.scan.tasks.put_monitor_rule(call.id(), Value::Null).await.map_err(super::away)?;
            ok(&json!({"success": true, "message": format!("rule {} is gone", call.id())}))
        }
    }
}

async fn write(shared: Arc<Shared>, call: Call) -> Outcome {
    let Some(dir) = shared.monitor().settings().export_dir.clone() else {
        return Err(Refusal::conflict("no_export_dir", "monitor.export_dir is not set; name a folder there and reload"));
    };
    let name = call.body["file_path"].as_str().unwrap_or_default().to_owned();
    let window = call.body["time_window"].as_u64().unwrap_or(3600);
    let now = shared.now();
    let text = match call.body["format"].as_str() {
        Some("csv") => shared.monitor().csv(window, now),
        Some("prometheus") => shared.front.metrics(&axum::http::HeaderMap::new()).0,
        _ => format!("{:#}\n", shared.monitor().dashboard(now)),
    };
    let written = tokio::task::spawn_blocking({
        let name = name.clone();
        move || export::write(&dir, &name, text.as_bytes())
    });
    match written.await {
        Ok(Ok(())) => ok(&json!({"success": true, "message": format!("written as {name}")})),
        Ok(Err(ExportError::Exists)) => Err(Refusal::conflict("file_exists", ExportError::Exists.to_string())),
        Ok(Err(ExportError::Name)) => Err(Refusal::field("file_path", ExportError::Name.to_string())),
        Ok(Err(error @ ExportError::Io(_))) => {
            tracing::error!(%error, cause = std::error::Error::source(&error).map(tracing::field::display), "api cannot export");
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "export_failed", "the export cannot be written; the agent's log says why"))
        }
        Err(error) => Err(Refusal::internal(&error)),
    }
}
