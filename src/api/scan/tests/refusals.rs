//! What is refused, and how that is said.

use serde_json::{Value, json};

use super::harness::{Server, Wish};
use crate::scan::settings::Role;

#[test]
fn every_refusal_has_its_status_and_the_one_shape() {
    let server = Server::start(Wish::default());
    server.file("a", b"x");
    let scan = "/distributed/scan";
    let json = "application/json";
    let deep = format!("{{\"file_path\": \"a\", \"metadata\": {}1{}}}", "{\"a\":".repeat(40), "}".repeat(40));
    let long = format!("{{\"file_path\": \"{}\"}}", "a".repeat(1 << 20));
    let rows: Vec<(&str, &str, &str, &str, u16, &str)> = vec![
        ("GET", "/none", json, "", 404, "no_route"),
        ("GET", "/distributed/none/x/y", json, "", 404, "no_route"),
        ("PATCH", "/status", json, "", 405, "method_not_allowed"),
        ("GET", scan, json, "", 405, "method_not_allowed"),
        ("POST", scan, json, "", 400, "invalid_json"),
        ("POST", scan, json, "{", 400, "invalid_json"),
        ("POST", scan, json, "{\"file_path\": \"a\", \"file_path\": \"a\"}", 400, "invalid_json"),
        ("POST", scan, json, "{\"file_path\": \"a\", \"priority\": NaN}", 400, "invalid_json"),
        ("POST", scan, json, "{\"file_path\": \"a\", \"priority\": 1e400}", 400, "invalid_json"),
        ("POST", scan, json, &deep, 400, "invalid_json"),
        ("POST", scan, json, &long, 413, "too_large"),
        ("POST", scan, "text/plain", "{\"file_path\": \"a\"}", 415, "unsupported_media_type"),
        ("POST", scan, "application/json; charset=latin1", "{\"file_path\": \"a\"}", 415, "unsupported_media_type"),
        ("POST", scan, json, "[]", 422, "invalid"),
        ("POST", scan, json, "{\"file_path\": \"a\", \"priority\": 0}", 422, "invalid"),
        ("POST", scan, json, "{\"file_path\": \"a\", \"priority\": 11}", 422, "invalid"),
        ("POST", scan, json, "{\"file_path\": \"a\", \"priority\": -3}", 422, "invalid"),
        ("POST", scan, json, "{\"file_path\": \"a\", \"priority\": \"5\"}", 422, "invalid"),
        ("POST", scan, json, "{\"file_path\": \"a\", \"extra\": 1}", 422, "invalid"),
        ("POST", scan, json, "{\"file_path\": \"\"}", 422, "invalid"),
        ("POST", scan, json, "{\"file_path\": \"a\\u0000b\"}", 422, "invalid"),
        ("POST", scan, json, "{\"file_path\": \"a\", \"required_capabilities\": [\"root\"]}", 422, "invalid"),
        ("POST", scan, json, "{\"file_path\": \"a\", \"metadata\": {\"a\": {\"b\": {\"c\": {\"d\": {}}}}}}", 422, "invalid"),
        ("GET", "/alerts/0x1", json, "", 404, "no_alert"),
        ("GET", "/alerts/01", json, "", 404, "no_alert"),
        ("GET", "/alerts/99999999999999999999999", json, "", 404, "no_alert"),
        ("GET", "/distributed/tasks/..%2f..%2fetc", json, "", 404, "not_found"),
        ("GET", "/distributed/tasks/a%00b", json, "", 404, "not_found"),
        ("GET", "/distributed/tasks/none", json, "", 404, "no_task"),
        ("DELETE", "/distributed/dead-letter/none", json, "", 404, "not_dead"),
        ("POST", "/distributed/dead-letter/none/retry", json, "", 404, "not_dead"),
        ("POST", "/monitoring/alerts/alert_1_1/resolve", json, "", 404, "no_alert"),
        ("DELETE", "/monitoring/rules/none", json, "", 404, "no_rule"),
        ("PUT", "/distributed/workers/none/heartbeat", json, "{}", 404, "no_worker"),
        ("GET", "/alerts?page=0", json, "", 422, "invalid"),
        ("GET", "/alerts?page_size=101", json, "", 422, "invalid"),
        ("GET", "/alerts?severity=11", json, "", 422, "invalid"),
        ("GET", "/alerts?start_date=yesterday", json, "", 422, "invalid"),
        ("GET", "/alerts?start_date=2026-02-01&end_date=2026-01-01", json, "", 422, "invalid"),
        ("GET", "/alerts?unknown=1", json, "", 422, "invalid"),
        ("GET", "/alerts?page=1&page=1", json, "", 422, "invalid"),
        ("GET", "/monitoring/metrics/summary?time_window=0", json, "", 422, "invalid"),
        ("GET", "/monitoring/metrics/summary?time_window=86401", json, "", 422, "invalid"),
        ("POST", "/scanner/start?threads=65", json, "", 422, "invalid"),
        ("POST", "/scanner/start", json, "", 409, "already_running"),
        ("POST", "/distributed/start", json, "", 409, "already_running"),
        ("POST", "/webhook/config", json, "{\"url\": \"http://x\"}", 409, "config_only"),
        ("POST", "/rules/update", json, "{}", 422, "rules_refused"),
        ("POST", "/cleanup/force", json, "{\"dry_run\": false}", 409, "cleanup_off"),
        ("POST", "/shutdown", json, "", 400, "no_worker"),
        ("POST", "/suricata/start", json, "", 501, "not_offered"),
        ("POST", "/suricata/rules/update", json, "", 501, "not_offered"),
        (
            "PUT",
            "/monitoring/rules/r",
            json,
            "{\"metric\":\"m\",\"condition\":\"!=\",\"threshold\":1,\"level\":\"info\",\"message\":\"x\"}",
            422,
            "invalid",
        ),
        (
            "PUT",
            "/monitoring/rules/r",
            json,
            "{\"metric\":\"m\",\"condition\":\">\",\"threshold\":1,\"level\":\"info\",\"message\":\"{x}\"}",
            422,
            "invalid",
        ),
        (
            "PUT",
            "/monitoring/rules/R",
            json,
            "{\"metric\":\"m\",\"condition\":\">\",\"threshold\":1,\"level\":\"info\",\"message\":\"x\"}",
            404,
            "not_found",
        ),
    ];
    for (method, path, media, body, status, code) in rows {
        let bytes = (!body.is_empty()).then_some(body.as_bytes());
        let reply = server.raw("admin", method, path, media, bytes, "");
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{method} {path} {body:.80}");
        assert_eq!(reply.headers.contains_key("allow"), status == 405);
        let text = String::from_utf8(reply.bytes).unwrap();
        assert!(!text.contains(server.dir.path().to_str().unwrap()), "a path of ours: {text}");
    }
    assert_eq!(server.ask("admin", "PATCH", "/distributed/tasks/x", None).headers["allow"], "DELETE, GET, HEAD");
    let wrong = server.ask("admin", "POST", scan, Some(&json!({"file_path": "a", "priority": 99, "x": 1}))).json();
    let paths: Vec<&Value> = wrong["error"]["fields"].as_array().unwrap().iter().map(|field| &field["path"]).collect();
    assert_eq!(paths, ["priority", "x"]);
}

#[test]
fn a_worker_distributes_nothing() {
    let mut wish = Wish::default();
    wish.settings.role = Role::Worker;
    let server = Server::start(wish);
    assert_eq!(server.ask("viewer", "GET", "/distributed/status", None).code(), "not_enabled");
    assert_eq!(server.ask("viewer", "GET", "/distributed/tasks", None).status, 400);
    let status = server.ask("viewer", "GET", "/status", None).json();
    assert_eq!((&status["worker_id"], &status["current_tasks"]), (&json!("w-here"), &json!(0)));
}

#[test]
fn a_worker_takes_what_its_master_brings_until_it_is_full() {
    let mut wish = Wish { scans: false, ..Wish::default() };
    wish.settings.role = Role::Worker;
    let server = Server::start(wish);
    let task = json!({"task_id": "t-1", "root": "zeek", "file_path": "a", "submitted_at": 1.5, "source": "watch", "priority": 9});
    let bring = |key: &str| server.ask(key, "POST", "/task", Some(&task));
    assert_eq!(bring("worker-a").status, 403);
    assert_eq!(bring("admin").json(), json!({"success": true, "message": "accepted", "worker_id": "w-here"}));
    let full = bring("admin");
    assert_eq!((full.status, full.code().as_str(), full.headers.contains_key("retry-after")), (503, "full", true));
    let offered = server.agent.offered.as_ref().unwrap().lock().unwrap().clone();
    assert_eq!((offered.len(), offered[0].priority.get(), offered[0].path.0.as_slice()), (1, 9, &b"a"[..]));
    // As the master writes it.
    let written = json!(offered[0]);
    assert_eq!(server.ask("admin", "POST", "/task", Some(&written)).code(), "full");
    assert_eq!(server.ask("admin", "POST", "/shutdown", None).status, 200);
}

#[test]
fn stopped_and_full_are_said_with_a_time() {
    let mut wish = Wish { scans: false, ..Wish::default() };
    wish.settings.queue.size_max = 1;
    let server = Server::start(wish);
    server.file("a", b"1");
    server.file("b", b"2");
    let submit = |name: &str| server.ask("submitter", "POST", "/distributed/scan", Some(&json!({"file_path": name})));
    assert_eq!(submit("a").status, 200);
    let full = submit("b");
    assert_eq!((full.status, full.code().as_str(), full.headers.contains_key("retry-after")), (503, "queue_full", true));
    assert_eq!(server.ask("admin", "POST", "/distributed/stop", None).status, 200);
    assert_eq!(server.ask("admin", "POST", "/distributed/stop", None).code(), "already_stopped");
    let stopped = submit("a");
    assert_eq!((stopped.status, stopped.code().as_str(), stopped.headers.contains_key("retry-after")), (503, "stopped", true));
    assert_eq!(server.ask("viewer", "GET", "/distributed/status", None).json()["running"], false);
    assert_eq!(server.ask("admin", "POST", "/distributed/start", None).status, 200);
}
