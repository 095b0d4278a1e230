//! The processes that scan, what is removed, and where alerts go.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::json;

use super::super::{
    Shared,
    call::Call,
    schema::{Schema, may, must, or},
    shapes::{COUNT, FREE, TEXT, list},
    table::{Brings, Holds, May, Outcome, Route, Verb, ok},
};
use crate::api::{access::Role, refusal::Refusal};

const ADMIN: May = May::Has(Role::Admin);
const SCANNER: Schema = Schema::Open(&[
    must("success", Schema::Bool, ""),
    must("scanner_type", TEXT, ""),
    must("threads", COUNT, ""),
    must("status", TEXT, ""),
]);
const CONFLICT: (u16, &str) = (409, "it is so already");

pub(super) static ROUTES: &[Route] = &[
    Route {
        verb: Verb::Post,
        path: "/scanner/start",
        may: ADMIN,
        doc: "Starts the processes that scan here.",
        query: &[or("threads", Schema::Whole { min: 0, max: 64 }, "0", "how many; 0 is as configured")],
        brings: Brings::Nothing,
        answers: &[(200, Holds::Json(SCANNER), "")],
        refusals: &[CONFLICT],
        run: |shared, call| Box::pin(start(shared, call)),
    },
    Route {
        verb: Verb::Post,
        path: "/scanner/stop",
        may: ADMIN,
        doc: "Stops them; what they scan is scanned to its end, the rest waits.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(200, Holds::Json(SCANNER), "")],
        refusals: &[CONFLICT],
        run: |shared, _| Box::pin(stop(shared)),
    },
    Route {
        verb: Verb::Get,
        path: "/cleanup/stats",
        may: May::Has(Role::Viewer),
        doc: "What was removed, and how full the disk is.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(200, Holds::Json(FREE), "")],
        refusals: &[],
        run: |shared, _| Box::pin(async move { ok(&shared.scan.hands.cleanup()) }),
    },
    Route {
        verb: Verb::Post,
        path: "/cleanup/force",
        may: ADMIN,
        doc: "Removes now what the config lets be removed, or only says what that is.",
        query: &[],
        brings: Brings::Json(Schema::Object(&[or("dry_run", Schema::Bool, "true", "remove nothing")])),
        answers: &[(200, Holds::Json(FREE), "")],
        refusals: &[(409, "cleanup is off in the config")],
        run: |shared, call| Box::pin(clean(shared, call)),
    },
    Route {
        verb: Verb::Get,
        path: "/webhook/config",
        may: May::Has(Role::Viewer),
        doc: "Where alerts go, by the config; without secrets.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(200, Holds::Json(Schema::Open(&[must("sinks", list(&FREE), "")])), "")],
        refusals: &[],
        run: |shared, _| Box::pin(async move { ok(&json!({"sinks": shared.scan.hands.sinks()})) }),
    },
    Route {
        verb: Verb::Post,
        path: "/webhook/config",
        may: ADMIN,
        doc: "Is always refused: where alerts go stands in the config alone.",
        query: &[],
        brings: Brings::Json(Schema::Object(&[
            may("url", TEXT, ""),
            may("secret", TEXT, ""),
            may("events", list(&TEXT), ""),
            may("enabled", Schema::Bool, ""),
        ])),
        answers: &[],
        refusals: &[(409, "config_only")],
        run: |_, _| {
            Box::pin(async {
                Err(Refusal::conflict("config_only", "where alerts go stands in the config alone; change [sinks] there and reload"))
            })
        },
    },
];

async fn start(shared: Arc<Shared>, call: Call) -> Outcome {
    let wanted = call.number("threads").and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    if !shared.scan.hands.set_children(wanted).await {
        return Err(Refusal::conflict("already_running", "the scanner runs already, with as many processes"));
    }
    ok(&json!({"success": true, "scanner_type": "children", "threads": shared.scan.hands.children().0, "status": "started"}))
}

async fn stop(shared: Arc<Shared>) -> Outcome {
    if !shared.scan.hands.set_children(Some(0)).await {
        return Err(Refusal::conflict("already_stopped", "the scanner stands still already"));
    }
    ok(&json!({"success": true, "scanner_type": "children", "threads": 0, "status": "stopped"}))
}

async fn clean(shared: Arc<Shared>, call: Call) -> Outcome {
    let is_dry = call.body["dry_run"].as_bool().unwrap_or(true);
    match shared.scan.hands.clean(is_dry).await {
        Ok(told) => ok(&told),
        Err(why) => Err(Refusal::new(StatusCode::CONFLICT, "cleanup_off", why)),
    }
}
