//! The rules of YARA.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::super::{
    Shared,
    call::Call,
    schema::{Schema, must, or},
    shapes::{COUNT, FREE, TEXT, list},
    table::{Brings, Holds, May, Outcome, Route, Verb, ok},
};
use crate::api::{access::Role, refusal::Refusal};

pub(super) static ROUTES: &[Route] = &[
    Route {
        verb: Verb::Get,
        path: "/rules",
        may: May::Has(Role::Viewer),
        doc: "The rules in use.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(
            200,
            Holds::Json(Schema::Open(&[
                must("rules", list(&FREE), "name, namespace, tags, meta"),
                must("count", COUNT, ""),
                must("version", TEXT, ""),
                must("errors", list(&FREE), "file, line, code, message"),
            ])),
            "",
        )],
        refusals: &[],
        run: |shared, _| Box::pin(all(shared)),
    },
    Route {
        verb: Verb::Post,
        path: "/rules/update",
        may: May::Has(Role::Admin),
        doc: "Reads the rules anew. If nothing of them is usable the old ones stay.",
        query: &[],
        brings: Brings::Json(Schema::Object(&[or("force", Schema::Bool, "false", "also if many rules are gone")])),
        answers: &[(
            200,
            Holds::Json(Schema::Open(&[
                must("success", Schema::Bool, ""),
                must("rule_count", COUNT, ""),
                must("version", TEXT, ""),
                must("errors", list(&FREE), ""),
                must("status", TEXT, "updated or unchanged"),
            ])),
            "",
        )],
        refusals: &[(422, "the new set is refused; the old one stays")],
        run: |shared, call| Box::pin(update(shared, call)),
    },
];

fn count(rules: &Value) -> usize {
    rules["rules"].as_array().map_or(0, Vec::len)
}

async fn all(shared: Arc<Shared>) -> Outcome {
    let rules = shared.scan.hands.rules();
    ok(&json!({"count": count(&rules), "rules": rules["rules"], "version": rules["version"], "errors": rules["errors"]}))
}

async fn update(shared: Arc<Shared>, call: Call) -> Outcome {
    let before = shared.scan.hands.rules()["version"].clone();
    match shared.scan.hands.update_rules(call.body["force"].as_bool().unwrap_or(false)).await {
        Ok(rules) => ok(&json!({
            "success": true,
            "rule_count": count(&rules),
            "version": rules["version"],
            "errors": rules["errors"],
            "status": if rules["version"] == before { "unchanged" } else { "updated" },
        })),
        Err((why, errors)) => {
            let problem = |error: &Value| {
                let part = |name: &str| error[name].as_str().map_or_else(|| error[name].to_string(), str::to_owned);
                (format!("{}:{}", part("file"), part("line")), part("message"))
            };
            let fields = errors.as_array().map(|errors| errors.iter().map(problem).collect()).unwrap_or_default();
            Err(Refusal { fields, ..Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "rules_refused", why) })
        }
    }
}
