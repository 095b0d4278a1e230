//! Workers elsewhere: they register, take tasks, fetch bytes, bring results.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::harness::{BAD, Reply, Server, Wish, outcome};

fn register(server: &Server, worker: &str, instance: &str) -> Reply {
    let body = json!({"worker_id": worker, "host": "127.0.0.1", "port": 8001, "instance_id": instance, "max_tasks": 4});
    server.ask(worker, "POST", "/distributed/workers/register", Some(&body))
}

fn lease(server: &Server, worker: &str, body: &Value) -> Vec<Value> {
    let reply = server.ask(worker, "POST", &format!("/distributed/workers/{worker}/lease"), Some(body));
    assert_eq!(reply.status, 200, "{:?}", reply.json());
    reply.json()["tasks"].as_array().unwrap().clone()
}

#[test]
fn a_worker_scans_a_file_of_its_master() {
    let server = Server::start(Wish { scans: false, ..Wish::default() });
    server.file("evil", BAD);
    assert_eq!(register(&server, "worker-a", "1").status, 200);
    assert_eq!(register(&server, "worker-b", "1").status, 200);
    let begun = Instant::now();
    assert!(lease(&server, "worker-a", &json!({"wait_s": 1})).is_empty());
    assert!(begun.elapsed() >= Duration::from_millis(900), "it waited");
    let submitted = server.ask("submitter", "POST", "/distributed/scan", Some(&json!({"file_path": "evil"}))).json();
    let id = submitted["task_id"].as_str().unwrap();
    let tasks = lease(&server, "worker-a", &json!({"max": 100, "wait_s": 10}));
    assert_eq!((tasks.len(), &tasks[0]["task_id"], &tasks[0]["attempt"]), (1, &json!(id), &json!(1)));
    assert!(tasks[0]["deadline"].as_f64().unwrap() > 1.0e9);
    let status = server.ask("viewer", "GET", "/distributed/workers", None).json();
    assert_eq!((&status["workers"][0]["in_flight"], &status["workers"][1]["in_flight"]), (&json!(1), &json!(0)));

    let file = |worker: &str| server.ask(worker, "GET", &format!("/distributed/tasks/{id}/file"), None);
    assert_eq!(file("worker-b").code(), "no_lease");
    let bytes = file("worker-a");
    assert_eq!((bytes.status, bytes.bytes.as_slice()), (200, BAD));
    let sha = bytes.headers["x-content-sha256"].clone();

    let task = serde_json::from_value(tasks[0].clone()).unwrap();
    let mut result = json!(outcome(&server.scan, &task));
    result["worker_id"] = json!("worker-a");
    assert_eq!(result["sha256"], json!(sha));
    let bring = |worker: &str, result: &Value| server.ask(worker, "POST", &format!("/distributed/tasks/{id}/result"), Some(result));
    assert_eq!(bring("worker-b", &result).code(), "other_worker");
    let mut other = result.clone();
    other["worker_id"] = json!("worker-b");
    assert_eq!(bring("worker-b", &other).code(), "no_lease");
    let mut elsewhere = result.clone();
    elsewhere["file_path"] = json!("another");
    assert_eq!(bring("worker-a", &elsewhere).code(), "wrong_file");
    let stored = bring("worker-a", &result).json();
    assert_eq!((&stored["success"], &stored["duplicate"], stored["alerts"].as_array().unwrap().len()), (&json!(true), &json!(false), 1));
    let again = bring("worker-a", &result);
    assert_eq!((again.status, &again.json()["duplicate"]), (200, &json!(true)));
    assert_eq!(server.ask("viewer", "GET", "/alerts", None).json()["total"], 1);
    assert_eq!(file("worker-a").code(), "no_lease");
    // What this host knows of the file stands in the answer, and its time among those measured, both once.
    let done = server.ask("viewer", "GET", &format!("/distributed/tasks/{id}"), None).json();
    assert_eq!(done["result"]["correlated"], json!([{"by": "flow", "task": id}]));
    assert_eq!(server.scan.monitor.lock().unwrap().scan_seconds(&[60.0]).2, 1);
}

#[test]
fn a_result_of_other_bytes_ends_the_lease() {
    let server = Server::start(Wish { scans: false, ..Wish::default() });
    server.file("a", b"one");
    register(&server, "worker-a", "1");
    let id = server.ask("submitter", "POST", "/distributed/scan", Some(&json!({"file_path": "a"}))).json()["task_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let tasks = lease(&server, "worker-a", &json!({}));
    assert_eq!(server.ask("worker-a", "GET", &format!("/distributed/tasks/{id}/file"), None).status, 200);
    let mut result = json!(outcome(&server.scan, &serde_json::from_value(tasks[0].clone()).unwrap()));
    result["sha256"] = json!("0".repeat(64));
    let refused = server.ask("worker-a", "POST", &format!("/distributed/tasks/{id}/result"), Some(&result));
    assert_eq!((refused.status, refused.code().as_str()), (409, "wrong_bytes"));
    assert_eq!(server.ask("viewer", "GET", &format!("/distributed/tasks/{id}"), None).json()["state"], "queued");
}

#[test]
fn workers_come_and_go() {
    let server = Server::start(Wish { scans: false, ..Wish::default() });
    server.file("a", b"x");
    assert_eq!(register(&server, "worker-a", "1").json()["requeued"], 0);
    assert_eq!(register(&server, "worker-a", "2").status, 409, "the other one is healthy");
    let admin = |id: &str, host: &str| {
        server.ask("admin", "POST", "/distributed/workers/register", Some(&json!({"worker_id": id, "host": host, "port": 8001})))
    };
    let foreign = admin("worker-x", "192.0.2.1");
    assert_eq!((foreign.status, foreign.code().as_str()), (403, "host_not_allowed"));
    assert_eq!(admin("w-1", "::1").status, 200);
    assert_eq!(admin("w-2", "localhost").status, 200);
    let many = admin("w-3", "127.0.0.1");
    assert_eq!((many.status, many.code().as_str(), many.headers.contains_key("retry-after")), (503, "too_many_workers", true));
    let other = server.ask(
        "worker-b",
        "POST",
        "/distributed/workers/register",
        Some(&json!({"worker_id": "worker-a", "host": "127.0.0.1", "port": 8001})),
    );
    assert_eq!(other.code(), "other_worker");

    let beat = |key: &str, body: Value| server.ask(key, "PUT", "/distributed/workers/worker-a/heartbeat", Some(&body));
    assert_eq!(beat("worker-b", json!({})).code(), "other_worker");
    assert_eq!(beat("worker-a", json!({"current_tasks": -5})).status, 422);
    assert_eq!(beat("worker-a", json!({"current_tasks": 3, "total_processed": 7, "cpu_usage": 50})).status, 200);
    assert_eq!(beat("worker-a", json!({})).status, 200);
    let row = server.ask("worker-a", "GET", "/distributed/workers/worker-a", None).json();
    assert_eq!(
        (&row["current_tasks"], &row["total_processed"], &row["in_flight"], &row["status"]),
        (&json!(3), &json!(7), &json!(0), &json!("healthy"))
    );
    assert_eq!((&row["cpu_usage"], &row["memory_usage"]), (&json!(50.0), &Value::Null));

    server.ask("submitter", "POST", "/distributed/scan", Some(&json!({"file_path": "a"})));
    assert_eq!(lease(&server, "worker-a", &json!({})).len(), 1);
    // The same life again keeps its lease; and what it leaves behind goes to others.
    assert_eq!(register(&server, "worker-a", "1").status, 200);
    let gone = server.ask("worker-a", "DELETE", "/distributed/workers/worker-a", None);
    assert_eq!(gone.status, 200);
    assert_eq!(server.ask("worker-a", "DELETE", "/distributed/workers/worker-a", None).status, 404);
    assert_eq!(beat("worker-a", json!({})).status, 404, "so that it registers again");
    let tasks = server.ask("viewer", "GET", "/distributed/tasks?state=queued", None).json();
    assert_eq!(tasks["count"], 1);
}
