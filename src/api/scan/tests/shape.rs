//! The table, and what is made of it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::{docs, openapi, routes, table::May};
use crate::api::access::Role;

/// Each route that must be there, and who may ask: - anybody, V, S, W, A, O a worker for itself.
const WANTED: &[(&str, &str)] = &[
    ("GET /", "-"),
    ("GET /health", "-"),
    ("GET /openapi.json", "-"),
    ("GET /docs", "-"),
    ("GET /status", "V"),
    ("GET /performance", "V"),
    ("GET /performance/workers", "V"),
    ("GET /metrics", "V"),
    ("GET /alerts", "V"),
    ("GET /alerts/{id}", "V"),
    ("POST /scan", "S"),
    ("POST /scanner/start", "A"),
    ("POST /scanner/stop", "A"),
    ("GET /rules", "V"),
    ("POST /rules/update", "A"),
    ("GET /cleanup/stats", "V"),
    ("POST /cleanup/force", "A"),
    ("GET /webhook/config", "V"),
    ("POST /webhook/config", "A"),
    ("POST /distributed/start", "A"),
    ("POST /distributed/stop", "A"),
    ("GET /distributed/status", "V"),
    ("POST /distributed/workers/register", "W"),
    ("GET /distributed/workers", "V"),
    ("GET /distributed/workers/{id}", "O"),
    ("DELETE /distributed/workers/{id}", "O"),
    ("PUT /distributed/workers/{id}/heartbeat", "O"),
    ("POST /distributed/workers/{id}/lease", "O"),
    ("POST /distributed/scan", "S"),
    ("POST /distributed/scan/upload", "S"),
    ("GET /distributed/tasks", "V"),
    ("GET /distributed/tasks/{id}", "V"),
    ("DELETE /distributed/tasks/{id}", "S"),
    ("POST /distributed/tasks/{id}/result", "W"),
    ("GET /distributed/tasks/{id}/file", "W"),
    ("GET /distributed/dead-letter", "V"),
    ("POST /distributed/dead-letter/{id}/retry", "A"),
    ("DELETE /distributed/dead-letter/{id}", "A"),
    ("GET /monitoring/metrics", "V"),
    ("GET /monitoring/metrics/summary", "V"),
    ("GET /monitoring/alerts", "V"),
    ("POST /monitoring/alerts/{id}/resolve", "A"),
    ("GET /monitoring/rules", "V"),
    ("PUT /monitoring/rules/{name}", "A"),
    ("DELETE /monitoring/rules/{name}", "A"),
    ("POST /monitoring/export", "A"),
    ("GET /monitoring/dashboard", "V"),
    ("GET /audit", "A"),
    ("GET /suricata/status", "V"),
    ("GET /suricata/alerts", "V"),
    ("GET /suricata/correlation", "V"),
    ("POST /suricata/correlate", "S"),
    ("POST /suricata/start", "A"),
    ("POST /suricata/stop", "A"),
    ("POST /suricata/pcap", "A"),
    ("POST /suricata/rules/update", "A"),
    ("POST /task", "A"),
    ("POST /shutdown", "A"),
];

#[test]
fn every_route_is_there_once_with_its_role() {
    let letter = |may| match may {
        May::Anybody => "-",
        May::Has(Role::Viewer) => "V",
        May::Has(Role::Submitter) => "S",
        May::Has(Role::Worker) => "W",
        May::Has(Role::Admin) => "A",
        May::Own => "O",
    };
    let found: Vec<(String, &str)> =
        routes::all().map(|route| (format!("{} {}", route.verb.word(), route.path), letter(route.may))).collect();
    let wanted: BTreeSet<(String, &str)> = WANTED.iter().map(|(route, may)| ((*route).to_owned(), *may)).collect();
    assert_eq!(found.iter().cloned().collect::<BTreeSet<_>>(), wanted);
    assert_eq!(found.len(), wanted.len(), "each once");
}

#[test]
fn the_documents_speak_of_every_route() {
    let document = openapi::document();
    let page = docs::page();
    for route in routes::all() {
        let operation = &document["paths"][route.path][route.verb.word().to_ascii_lowercase()];
        assert!(operation["responses"].as_object().is_some_and(|responses| !responses.is_empty()), "{}", route.path);
        assert!(page.contains(&route.path.replace('&', "&amp;")), "{}", route.path);
        let ids = route.path.matches('{').count();
        let told = operation["parameters"].as_array().unwrap().iter().filter(|parameter| parameter["in"] == "path").count();
        assert_eq!(ids, told, "{}", route.path);
    }
    // A page of ours: nothing is fetched, nothing runs.
    for foreign in ["<script", "http://", "https://", "javascript:", "src="] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(!document.to_string().contains("Infinity"));
    assert_eq!(document["openapi"], "3.1.0");
    each(&document, &mut |value| {
        if let Some(of) = value["$ref"].as_str() {
            assert!(document.pointer(of.trim_start_matches('#')).is_some(), "{of}");
        }
    });
}

fn each(value: &Value, with: &mut impl FnMut(&Value)) {
    with(value);
    match value {
        Value::Array(list) => list.iter().for_each(|value| each(value, with)),
        Value::Object(map) => map.values().for_each(|value| each(value, with)),
        _ => {}
    }
}
