//! What this is, and how it is.

use std::sync::Arc;

use axum::{
    http::{StatusCode, header},
    response::IntoResponse,
};
use serde_json::{Value, json};

use super::super::{
    Shared,
    call::Call,
    docs, openapi,
    schema::{Schema, must},
    shapes::{COUNT, FREE, NUMBER, POSITIVE, TEXT, list},
    table::{Brings, Holds, May, Outcome, Route, Verb, ok, told},
};
use crate::{
    api::{VERSION, access::Role},
    scan::{monitor::Grade, tasks::AlertFilter, workers::Status},
};

const VIEWER: May = May::Has(Role::Viewer);

pub(super) static ROUTES: &[Route] = &[
    Route {
        verb: Verb::Get,
        path: "/",
        may: May::Anybody,
        doc: "Name and version; a page where a browser asks with a key, or needs none.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(
            200,
            Holds::Json(Schema::Open(&[must("name", TEXT, ""), must("version", TEXT, ""), must("documentation", TEXT, "")])),
            "",
        )],
        refusals: &[],
        run: |shared, call| Box::pin(root(shared, call)),
    },
    Route {
        verb: Verb::Get,
        path: "/openapi.json",
        may: May::Anybody,
        doc: "This interface, for programs.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(200, Holds::Json(FREE), "OpenAPI 3.1")],
        refusals: &[],
        run: |_, _| Box::pin(async { ok(&openapi::document()) }),
    },
    Route {
        verb: Verb::Get,
        path: "/docs",
        may: May::Anybody,
        doc: "This interface, for people.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(200, Holds::Other("text/html"), "a page")],
        refusals: &[],
        run: |_, _| Box::pin(async { Ok(page(docs::page())) }),
    },
    Route {
        verb: Verb::Get,
        path: "/health",
        may: May::Anybody,
        doc: "Whether all is well; its parts only with a key.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[
            (200, Holds::Json(Schema::Open(&[must("status", Schema::Choice(&["healthy", "degraded"]), "")])), ""),
            (503, Holds::Json(Schema::Open(&[must("status", TEXT, "unhealthy, or a Refusal's members")])), "unhealthy"),
        ],
        refusals: &[],
        run: |shared, call| Box::pin(health(shared, call)),
    },
    Route {
        verb: Verb::Get,
        path: "/metrics",
        may: VIEWER,
        doc: "Figures for Prometheus.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(200, Holds::Other("application/openmetrics-text"), "text/plain where that is asked for")],
        refusals: &[],
        run: |shared, call| {
            Box::pin(async move {
                let (text, media) = shared.front.metrics(&call.headers);
                Ok(([(header::CONTENT_TYPE, media)], text).into_response())
            })
        },
    },
    Route {
        verb: Verb::Get,
        path: "/status",
        may: VIEWER,
        doc: "Scanner, rules, tasks and alerts at a glance.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(
            200,
            Holds::Json(Schema::Open(&[
                must("status", TEXT, "running or stopped"),
                must("uptime", POSITIVE, "seconds"),
                must("scanner_type", TEXT, ""),
                must("scanner_running", Schema::Bool, ""),
                must("extracted_files_count", COUNT, "files that were accepted since the start"),
                must("rules_count", COUNT, ""),
                must("alerts_count", COUNT, ""),
                must("alerts_last_24h", COUNT, ""),
                must("version", TEXT, ""),
                must("tasks", FREE, "by state"),
                must("suricata", FREE, ""),
                must("config", FREE, "in use, without secrets"),
            ])),
            "",
        )],
        refusals: &[],
        run: |shared, _| Box::pin(status(shared)),
    },
    Route {
        verb: Verb::Get,
        path: "/performance",
        may: VIEWER,
        doc: "How fast files are scanned.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(
            200,
            Holds::Json(Schema::Open(&[
                must("uptime_seconds", POSITIVE, ""),
                must("files_processed", COUNT, "since the start"),
                must("files_matched", COUNT, ""),
                must("files_failed", COUNT, ""),
                must("throughput_files_per_second", POSITIVE, "over a minute"),
                must("average_scan_time_ms", Schema::Nullable(&NUMBER), "over five minutes; null where nothing was scanned"),
                must("median_scan_time_ms", Schema::Nullable(&NUMBER), ""),
                must("p95_scan_time_ms", Schema::Nullable(&NUMBER), ""),
                must("current_queue_size", COUNT, ""),
                must("average_queue_size", NUMBER, "over an hour"),
                must("active_threads", COUNT, "children that run"),
            ])),
            "",
        )],
        refusals: &[],
        run: |shared, _| Box::pin(performance(shared)),
    },
    Route {
        verb: Verb::Get,
        path: "/performance/workers",
        may: VIEWER,
        doc: "The same by worker.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(
            200,
            Holds::Json(Schema::Open(&[must("worker_stats", list(&FREE), ""), must("worker_health", FREE, "by status")])),
            "",
        )],
        refusals: &[],
        run: |shared, _| Box::pin(workers(shared)),
    },
];

fn page(html: String) -> axum::response::Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"),
    ];
    (headers, html).into_response()
}

async fn root(shared: Arc<Shared>, call: Call) -> Outcome {
    let accept = call.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.contains("text/html") && call.is_known && call.who.is(Role::Viewer) {
        return Ok(page(shared.front.page()));
    }
    ok(&json!({"name": "shipper", "version": VERSION, "documentation": "/docs"}))
}

async fn health(shared: Arc<Shared>, call: Call) -> Outcome {
    let (is_failing, is_well, mut parts) = shared.front.health();
    let scan = shared.monitor().health();
    let trouble = shared.scan.tasks.figures().trouble;
    let word = match scan.overall {
        _ if is_failing || trouble.is_some() => "unhealthy",
        Grade::Critical => "unhealthy",
        Grade::Warning => "degraded",
        Grade::Healthy if !is_well => "degraded",
        Grade::Healthy => "healthy",
    };
    let answer = |body: &Value| match word {
        "unhealthy" => {
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "10")], told(StatusCode::SERVICE_UNAVAILABLE, body)).into_response()
        }
        _ => told(StatusCode::OK, body),
    };
    if !call.is_known {
        return Ok(answer(&json!({"status": word})));
    }
    parts["status"] = word.into();
    parts["scan"] = scan.told();
    parts["scan"]["store"] = json!({"status": if trouble.is_some() { "critical" } else { "healthy" }, "message": trouble});
    Ok(answer(&parts))
}

async fn status(shared: Arc<Shared>) -> Outcome {
    let scan = &shared.scan;
    let figures = scan.tasks.figures();
    let now = shared.now();
    let day = AlertFilter { start: Some(now.wall.saturating_sub(86_400_000_000_000)), ..AlertFilter::default() };
    let recent = scan.tasks.alerts(day, crate::scan::tasks::Page { number: 1, size: 1 }).await.map_err(super::away)?.total;
    let (children, _) = scan.hands.children();
    let mut told = json!({
        "status": if scan.tasks.is_paused() { "stopped" } else { "running" },
        "uptime": now.mono as f64 / 1e9,
        "scanner_type": "children",
        "scanner_running": children > 0,
        "extracted_files_count": figures.since_start.submitted,
        "rules_count": scan.hands.rules()["rules"].as_array().map_or(0, Vec::len),
        "alerts_count": figures.alerts,
        "alerts_last_24h": recent,
        "version": VERSION,
        "tasks": {"queued": figures.queued, "leased": figures.leased, "done": figures.done, "dead": figures.dead, "cancelled": figures.cancelled},
        "suricata": scan.hands.suricata(),
        "config": super::workers::effective(&shared),
    });
    // Of a worker its own words stand beside these.
    if let (Some(Value::Object(worker)), Some(told)) = (scan.hands.worker(), told.as_object_mut()) {
        told.extend(worker.into_iter().filter(|(name, _)| !matches!(name.as_str(), "status" | "uptime")).collect::<Vec<_>>());
    }
    ok(&told)
}

async fn performance(shared: Arc<Shared>) -> Outcome {
    let figures = shared.scan.tasks.figures();
    let now = shared.now();
    let monitor = shared.monitor();
    let value = |name: &str| monitor.value(name);
    let count = |verdict: &str| figures.since_start.finished.get(verdict).copied().unwrap_or(0);
    let hour = monitor.summary(3600, now);
    ok(&json!({
        "uptime_seconds": now.mono as f64 / 1e9,
        "files_processed": figures.since_start.finished.values().sum::<u64>(),
        "files_matched": count("matched"),
        "files_failed": count("error"),
        "throughput_files_per_second": value("scanner.throughput").unwrap_or(0.0),
        "average_scan_time_ms": value("scanner.average_scan_time_ms"),
        "median_scan_time_ms": monitor.metrics()["timers"]["scan.time"]["median_ms"],
        "p95_scan_time_ms": value("scanner.p95_scan_time_ms"),
        "current_queue_size": figures.queued,
        "average_queue_size": hour["queue.size"]["avg"].as_f64().unwrap_or(figures.queued as f64),
        "active_threads": shared.scan.hands.children().0,
    }))
}

async fn workers(shared: Arc<Shared>) -> Outcome {
    let in_flight = shared.in_flight();
    let registry = shared.registry();
    let rows = registry.rows(&in_flight, &shared.clock);
    let counts = registry.counts(&shared.clock);
    let count = |status| counts.get(&status).copied().unwrap_or(0);
    let health = json!({"healthy": count(Status::Healthy), "unhealthy": count(Status::Unhealthy), "offline": count(Status::Offline)});
    ok(&json!({"worker_stats": rows, "worker_health": health}))
}
