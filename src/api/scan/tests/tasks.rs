//! Files and bytes that are scanned, and what is told of them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::harness::{BAD, Server, Wish};

/// The task once it has ended.
fn ended(server: &Server, id: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let told = server.ask("viewer", "GET", &format!("/distributed/tasks/{id}"), None).json();
        if told["state"] != "queued" && told["state"] != "leased" {
            return told;
        }
        assert!(Instant::now() < deadline, "{told}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_file_becomes_a_task_a_result_and_an_alert() {
    let server = Server::start(Wish::default());
    server.file("sub/evil.bin", &[b"xx", BAD].concat());
    server.file("good.txt", b"fine");
    let submit = |body: Value| {
        let reply = server.ask("submitter", "POST", "/distributed/scan", Some(&body));
        assert_eq!(reply.status, 200, "{:?}", reply.json());
        assert_eq!(reply.json()["success"], true);
        reply.json()["task_id"].as_str().unwrap().to_owned()
    };
    let good = submit(json!({"file_path": "good.txt", "priority": 10, "metadata": {"case": 7}}));
    let absolute = server.dir.path().join("zeek/sub/evil.bin");
    let evil = submit(json!({"file_path": absolute}));
    let told = ended(&server, &good);
    assert_eq!(
        (&told["result"]["verdict"], &told["task"]["metadata"]),
        (&json!("clean"), &json!({"case": 7, "submitted_by": "submitter"}))
    );
    let told = ended(&server, &evil);
    assert_eq!(
        (&told["result"]["verdict"], &told["task"]["file_path"], &told["task"]["root"]),
        (&json!("matched"), &json!("sub/evil.bin"), &json!("zeek"))
    );

    let alerts = |query: &str| server.ask("viewer", "GET", &format!("/alerts?{query}"), None).json();
    let all = alerts("");
    assert_eq!((&all["total"], &all["count"], &all["page"], &all["page_size"]), (&json!(1), &json!(1), &json!(1), &json!(20)));
    let alert = &all["alerts"][0];
    assert_eq!((&alert["task_id"], &alert["rule_name"], &alert["severity"]), (&json!(evil), &json!("evil"), &json!(7)));
    assert_eq!(server.ask("viewer", "GET", &format!("/alerts/{}", alert["id"]), None).json(), *alert);
    let sha = alert["sha256"].as_str().unwrap();
    let queries = [
        (format!("sha256={sha}"), 1),
        ("rule_name=VI".into(), 1),
        ("rule_name=none".into(), 0),
        ("severity=7".into(), 1),
        ("severity=6".into(), 0),
        (format!("task_id={evil}"), 1),
        (format!("task_id={good}"), 0),
        ("namespace=own".into(), 1),
        ("namespace=ow".into(), 0),
        ("file_type=TEXT".into(), 1),
        ("start_date=2020-01-01".into(), 1),
        ("end_date=2020-01-01T00:00:00Z".into(), 0),
        ("rule_name=%27%20OR%201%3D1".into(), 0),
    ];
    for (query, total) in queries {
        assert_eq!(alerts(&query)["total"], total, "{query}");
    }
    let past = alerts("page=9");
    assert_eq!((&past["alerts"], &past["total"]), (&json!([]), &json!(1)));

    let page = server.ask("viewer", "GET", "/distributed/tasks?state=done&limit=1", None).json();
    assert_eq!(page["count"], 1);
    let next = page["next"].as_str().unwrap();
    let rest = server.ask("viewer", "GET", &format!("/distributed/tasks?state=done&after={next}"), None).json();
    assert_eq!((&rest["count"], rest["tasks"][0]["task"]["task_id"] == page["tasks"][0]["task"]["task_id"]), (&json!(1), false));
    let status = server.ask("viewer", "GET", "/status", None).json();
    assert_eq!((&status["alerts_count"], &status["alerts_last_24h"], &status["tasks"]["done"]), (&json!(1), &json!(1), &json!(2)));
    assert_eq!(server.ask("viewer", "GET", "/performance", None).json()["files_matched"], 1);
}

#[test]
fn a_scan_waits_for_its_files() {
    let server = Server::start(Wish::default());
    server.file("a", b"fine");
    server.file("d/b", &[b"--", BAD].concat());
    server.file("d/e/c", b"fine");
    let scan = |body: Value| server.ask("submitter", "POST", "/scan", Some(&body));
    let one = scan(json!({"file_path": "a"})).json();
    assert_eq!(
        (&one["matched"], &one["error"], &one["scanned_files"], &one["verdicts"]["clean"]),
        (&json!(false), &Value::Null, &json!(1), &json!(1))
    );
    let flat = scan(json!({"file_path": "d"})).json();
    assert_eq!((&flat["matched"], &flat["scanned_files"], flat["alerts"].as_array().unwrap().len()), (&json!(true), &json!(1), 1));
    let whole = scan(json!({"file_path": "d", "recursive": true})).json();
    assert_eq!((&whole["scanned_files"], &whole["verdicts"]["matched"]), (&json!(2), &json!(1)));
    // Scanned again, and alerted again: each is a sighting.
    assert_eq!(server.ask("viewer", "GET", "/alerts", None).json()["total"], 2);
    for n in 0..1001 {
        server.file(&format!("many/{n}"), b"");
    }
    let many = scan(json!({"file_path": "many"}));
    assert_eq!((many.status, many.code().as_str()), (422, "too_many_files"));
    assert_eq!(scan(json!({"file_path": "none"})).status, 404);
    assert_eq!(scan(json!({"file_path": "."})).json()["scanned_files"], 1, "the root itself");
}

#[test]
fn bytes_are_kept_by_their_digest() {
    let server = Server::start(Wish::default());
    let upload = |key: &str, query: &str, bytes: &[u8]| {
        server.raw(key, "POST", &format!("/distributed/scan/upload{query}"), "application/octet-stream", Some(bytes), "")
    };
    let bytes = [b"uploaded ", BAD].concat();
    let first = upload("submitter", "?filename=..%2F..%2Fetc%2Fpasswd&priority=9", &bytes).json();
    let again = upload("submitter", "", &bytes).json();
    assert_eq!((&first["duplicate"], &again["duplicate"], &first["size"]), (&json!(false), &json!(true), &json!(bytes.len())));
    assert_eq!(first["sha256"], again["sha256"]);
    let told = ended(&server, first["task_id"].as_str().unwrap());
    assert_eq!(
        (&told["result"]["verdict"], &told["task"]["source"], &told["task"]["priority"]),
        (&json!("matched"), &json!("upload"), &json!(9))
    );
    assert_eq!(told["task"]["metadata"]["filename"], "../../etc/passwd", "text, never a path");
    let names: Vec<_> = std::fs::read_dir(server.dir.path().join("upload")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [first["sha256"].as_str().unwrap()], "nothing else is left");
    let max = usize::try_from(server.scan.settings.file_bytes_max).unwrap();
    assert_eq!(upload("submitter", "", &vec![0; max]).status, 200, "equal is allowed");
    assert_eq!(upload("submitter", "", &vec![0; max + 1]).code(), "too_large");
    assert_eq!(upload("submitter", "?priority=0", b"x").status, 422);
    assert_eq!(server.raw("submitter", "POST", "/distributed/scan/upload", "application/json", Some(b"{}"), "").status, 415);
    // Without a length announced it is counted as it comes.
    let chunked = [format!("{:x}\r\n", max + 1).into_bytes(), vec![0; max + 1], b"\r\n0\r\n\r\n".to_vec()].concat();
    let mut stream = std::net::TcpStream::connect(server.address).unwrap();
    let key = super::harness::KEYS[1].2;
    let head = format!(
        "POST /distributed/scan/upload HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    std::io::Write::write_all(&mut stream, &[head.into_bytes(), chunked].concat()).unwrap();
    assert_eq!(super::harness::Reply::read(&mut stream).status, 413);
    assert_eq!(std::fs::read_dir(server.dir.path().join("upload")).unwrap().count(), 2);
}

#[test]
fn uploads_that_have_their_answer_do_not_stay_for_ever() {
    let mut wish = Wish::default();
    // An answer is old at once, but of a match.
    wish.settings.cleanup.clean_hours = 0;
    let server = Server::start(wish);
    let upload = |bytes: &[u8]| {
        let reply = server.raw("submitter", "POST", "/distributed/scan/upload", "application/octet-stream", Some(bytes), "").json();
        ended(&server, reply["task_id"].as_str().unwrap());
        reply["sha256"].as_str().unwrap().to_owned()
    };
    let [clean, evil] = [upload(b"fine"), upload(BAD)];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let access =
        crate::api::door::Door::new(crate::api::access::Gate::default(), crate::clock::SystemClock::new(), Default::default(), None);
    let shared =
        super::super::Shared::new(server.scan.clone(), Box::new(super::harness::Page), access.into(), crate::clock::SystemClock::new());
    runtime.block_on(super::super::routes::sweep(shared.into()));
    let at = |name: &str| server.dir.path().join("upload").join(name).exists();
    assert_eq!((at(&clean), at(&evil)), (false, true));
    assert!(server.scan.tasks.known("upload", &crate::scan::task::RelPath(clean.into_bytes())).wait().unwrap().is_none());
}

#[test]
fn a_task_is_cancelled_by_who_submitted_it_or_an_admin() {
    let server = Server::start(Wish { scans: false, ..Wish::default() });
    let submit = |name: &str| {
        server.file(name, b"x");
        server.ask("submitter", "POST", "/distributed/scan", Some(&json!({"file_path": name}))).json()["task_id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let (a, b) = (submit("a"), submit("b"));
    let cancel = |key: &str, id: &str| server.ask(key, "DELETE", &format!("/distributed/tasks/{id}"), None);
    assert_eq!(cancel("both", &a).code(), "other_owner");
    assert_eq!((cancel("submitter", &a).status, cancel("admin", &b).status), (200, 200));
    assert_eq!(cancel("submitter", &a).code(), "ended");
    let taken = server.ask("submitter", "POST", "/distributed/scan", Some(&json!({"file_path": "a", "metadata": {"submitted_by": "me"}})));
    assert_eq!(taken.json()["error"]["fields"][0]["path"], "metadata.submitted_by");
}

#[test]
fn rules_of_the_monitor_live_in_the_store() {
    let server = Server::start(Wish::default());
    let rule = json!({"metric": "m", "condition": ">", "threshold": 1, "level": "info", "message": "it is {value}"});
    assert_eq!(server.ask("admin", "PUT", "/monitoring/rules/mine", Some(&rule)).status, 200);
    let told = server.ask("viewer", "GET", "/monitoring/rules", None).json();
    assert_eq!((&told["rules"]["mine"]["clear_s"], told["rules"].as_object().unwrap().len()), (&json!(120), 8));
    assert_eq!(server.ask("admin", "DELETE", "/monitoring/rules/low_disk_space", None).status, 200);
    let kept: Vec<(String, bool)> =
        server.scan.tasks.monitor_rules().wait().unwrap().into_iter().map(|(name, row)| (name, row.is_null())).collect();
    assert_eq!(kept, [("low_disk_space".to_owned(), true), ("mine".to_owned(), false)]);
    let now = crate::scan::monitor::Moment { wall: 1_000_000_000, mono: 0 };
    server.scan.monitor.lock().unwrap().record("m", crate::scan::monitor::Kind::Gauge, 2.0, now);
    let fired = server.scan.monitor.lock().unwrap().check(now);
    assert_eq!(fired.len(), 1);
    let alerts = server.ask("viewer", "GET", "/monitoring/alerts", None).json();
    let id = alerts["active_alerts"][0]["alert_id"].as_str().unwrap().to_owned();
    let resolve = || server.ask("admin", "POST", &format!("/monitoring/alerts/{id}/resolve"), None);
    assert_eq!((resolve().status, resolve().code().as_str()), (200, "already_resolved"));
    assert_eq!(server.agent.told.lock().unwrap().len(), 1);
    let history = server.ask("viewer", "GET", "/monitoring/alerts", None).json();
    assert_eq!((&history["alert_history"][0]["resolved_by"], &history["active_alerts"]), (&json!("admin"), &json!([])));
    let summary = server.ask("viewer", "GET", "/monitoring/metrics/summary", None).json();
    assert_eq!((&summary["time_window"], &summary["summary"]["m"]["latest"]), (&json!(3600), &json!(2.0)));
}
