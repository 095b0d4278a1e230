//! Scanning through the real agent and its API: uploads, Zeek and Suricata beside an answer, cleanup, what the monitor sees and says.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    scan::{
        config,
        running::{Agent, RULES, wait_for, wakeups},
    },
    webhook::Receiver,
};

/// An agent with its API on a socket in its folder, and rules.
struct Whole {
    /// Before its folder: it ends first.
    agent: Option<Agent>,
    config: String,
    dir: tempfile::TempDir,
}

impl Whole {
    /// - `more`: what the config has beside that of other tests; `DIR` is the folder.
    fn start(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().display().to_string();
        let more = more.replace("DIR", &at);
        let config = config(dir.path(), &format!("{more}\n[api]\nlisten = \"unix:{at}/api.sock\"\n"));
        fs::write(dir.path().join("rules/test.yar"), RULES).unwrap();
        let mut whole = Self { agent: None, config, dir };
        whole.begin();
        whole
    }

    fn begin(&mut self) {
        self.agent = Some(Agent::start(&self.config));
        wait_for("the API does not answer", 60, || self.try_ask("GET", "/status", b"").is_some_and(|(status, _)| status == 200));
    }
    fn stop(&mut self) {
        self.agent.take().unwrap().stop();
    }
    fn kill(&mut self) {
        self.agent.take().unwrap().kill();
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn try_ask(&self, method: &str, path: &str, body: &[u8]) -> Option<(u16, Value)> {
        let kind = if path.contains("/upload") { "application/octet-stream" } else { "application/json" };
        let mut stream = UnixStream::connect(self.at("api.sock")).ok()?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8(answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let body = serde_json::from_str(body).unwrap_or_else(|_| Value::from(body));
        Some((head.split(' ').nth(1)?.parse().ok()?, body))
    }

    /// The answer, which must be 200.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, answer) = self.try_ask(method, path, body.as_bytes()).expect("an answer");
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }
    fn get(&self, path: &str) -> Value {
        self.ask("GET", path, &Value::Null)
    }

    /// Alerts that went out, by rule.
    fn alerts(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.at("alerts.json")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
    fn alert_of(&self, file: &str) -> Option<Value> {
        self.alerts().into_iter().find(|alert| alert["file_path"] == file)
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn append(path: &Path, line: &Value) {
    writeln!(fs::OpenOptions::new().append(true).create(true).open(path).unwrap(), "{line}").unwrap();
}

/// What Suricata writes at this moment.
fn event(more: &Value) -> Value {
    let mut event = json!({"timestamp": format!("{:.6}", jiff::Timestamp::now()), "flow_id": 77});
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event
}

#[test]
fn what_is_uploaded_is_scanned_once_and_related_by_its_bytes() {
    let mut whole = Whole::start("[scan.correlate]\neve = \"DIR/eve.json\"\n");
    let letter = b"dear colleague, this was uploaded";
    append(&whole.at("eve.json"), &event(&json!({"event_type": "fileinfo", "fileinfo": {"sha256": sha256(letter), "tx_id": 1}})));
    let upload = |whole: &Whole, name: &str, bytes: &[u8]| {
        whole.try_ask("POST", &format!("/distributed/scan/upload?filename={name}"), bytes).expect("an answer")
    };
    let (status, told) = upload(&whole, "..%2Fletter.txt", letter);
    assert_eq!(
        (status, &told["sha256"], &told["size"], &told["duplicate"]),
        (200, &json!(sha256(letter)), &json!(letter.len()), &json!(false))
    );
    let task = |whole: &Whole, told: &Value| whole.get(&format!("/distributed/tasks/{}", told["task_id"].as_str().unwrap()));
    wait_for("the upload is not scanned", 60, || task(&whole, &told)["state"] == "done");
    let done = task(&whole, &told);
    assert_eq!((&done["result"]["verdict"], &done["result"]["matches"][0]["rule"]), (&json!("matched"), &json!("letter")), "{done}");
    assert_eq!(
        (&done["result"]["correlated"][0]["by"], &done["result"]["correlated"][0]["flow_id"]),
        (&json!("hash"), &json!(77)),
        "{done}"
    );
    wait_for("its alert does not go out", 60, || whole.alerts().len() == 1);
    let alert = &whole.alerts()[0];
    assert_eq!((&alert["sha256"], &alert["correlated"][0]["confidence"]), (&json!(sha256(letter)), &json!(90)), "{alert}");
    assert!(
        whole.at("state/uploads").read_dir().unwrap().flatten().all(|entry| entry.file_name().to_str() == Some(sha256(letter).as_str()))
    );

    let (status, again) = upload(&whole, "other-name", letter);
    assert_eq!((status, &again["duplicate"]), (200, &json!(true)), "{again}");
    let (status, clean) = upload(&whole, "note", b"nothing in here");
    assert_eq!(status, 200);
    wait_for("the second upload is not scanned", 60, || task(&whole, &clean)["state"] == "done");
    assert_eq!(task(&whole, &clean)["result"]["verdict"], "clean");
    whole.stop();
}

#[test]
fn zeeks_row_and_suricatas_alert_stand_beside_an_answer_also_when_they_come_late() {
    let mut whole = Whole::start("[monitor]\ncollect_s = 1\n[scan.correlate]\neve = \"DIR/eve.json\"\nzeek_logs = \"DIR/zeek\"\n");
    fs::create_dir(whole.at("zeek")).unwrap();
    // Each of hosts of its own: one in common would relate as well.
    let row = |name: &str, uid: &str, n: u8| {
        json!({"ts": jiff::Timestamp::now().as_second(), "fuid": name.rsplit('-').next(), "uid": uid, "extracted": name, "is_orig": false,
            "source": "HTTP", "mime_type": "text/plain", "id.orig_h": format!("192.0.2.{n}"), "id.orig_p": 1000, "id.resp_h": format!("198.51.100.{n}"),
            "id.resp_p": 80})
    };
    let said = |n: u8| {
        event(&json!({"event_type": "alert", "flow_id": n, "proto": "TCP", "src_ip": format!("198.51.100.{n}"), "src_port": 80,
            "dest_ip": format!("192.0.2.{n}"), "dest_port": 1000, "alert": {"signature_id": 2_000_001, "signature": "ET TEST", "severity": 1}}))
    };
    let (early, late) = ("extract-1577836800.1-HTTP-FEarly000000001", "extract-1577836800.2-HTTP-FLate0000000002");
    append(&whole.at("eve.json"), &said(1));
    append(&whole.at("zeek/files.log"), &row(early, "CEarly", 1));
    fs::write(whole.at("files").join(early), "dear colleague, in time").unwrap();
    wait_for("the alert with its connection does not go out", 60, || whole.alert_of(early).is_some());
    let alert = whole.alert_of(early).unwrap();
    assert_eq!((&alert["zeek_uid"], &alert["fuid"]), (&json!("CEarly"), &json!("FEarly000000001")), "{alert}");
    assert_eq!((&alert["correlated"][0]["by"], &alert["correlated"][0]["flow_id"]), (&json!("flow"), &json!(1)), "{alert}");

    // After ten seconds the alert goes without its row, and is amended when that comes.
    fs::write(whole.at("files").join(late), "dear colleague, too late").unwrap();
    wait_for("the alert without a row does not go out", 60, || whole.alert_of(late).is_some());
    let alert = whole.alert_of(late).unwrap();
    assert_eq!((&alert["zeek_uid"], &alert["fuid"]), (&json!(""), &json!("FLate0000000002")), "{alert}");
    append(&whole.at("eve.json"), &said(2));
    append(&whole.at("zeek/files.log"), &row(late, "CLate", 2));
    let stored = |whole: &Whole| whole.get("/alerts?fuid=FLate0000000002")["alerts"][0].clone();
    wait_for("the stored alert is not amended", 30, || {
        stored(&whole)["zeek_uid"] == "CLate" && stored(&whole)["correlated"][0]["by"] == "flow"
    });
    assert_eq!(
        whole.get("/suricata/correlation")["correlations"].as_array().map(Vec::len),
        Some(2),
        "{}",
        whole.get("/suricata/correlation")
    );
    let (_, figures) = whole.try_ask("GET", "/metrics", b"").unwrap();
    assert!(figures.as_str().unwrap().contains("shipper_scan_zeek_lost_total{reason=\"late_bound\"} 0"), "{figures}");
    whole.stop();
}

#[test]
fn cleanup_removes_what_has_its_answer_and_puts_matches_into_quarantine() {
    let mut whole = Whole::start(
        "file_bytes_max = 100\n[scan.cleanup]\nenabled = true\nclean_hours = 0\nmatched_hours = 0\nquarantine = \"DIR/quarantine\"\n",
    );
    let (letter, large) = (b"dear colleague, keep me".as_slice(), [b'x'; 101]);
    for (name, bytes) in [("clean", b"nothing".as_slice()), ("letter", letter), ("large", large.as_slice())] {
        fs::write(whole.at("files").join(name), bytes).unwrap();
    }
    wait_for("not all have their answer", 60, || whole.get("/distributed/tasks?state=done")["count"] == 3);
    let left = |whole: &Whole| {
        let mut names: Vec<String> =
            whole.at("files").read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let dry = whole.ask("POST", "/cleanup/force", &json!({"dry_run": true}));
    assert_eq!(left(&whole), ["clean", "large", "letter"], "{dry}");
    let done = whole.ask("POST", "/cleanup/force", &json!({"dry_run": false}));
    assert_eq!(left(&whole), ["large"], "what was not scanned stays: {done}");
    assert_eq!(fs::read(whole.at("quarantine").join(sha256(letter))).unwrap(), letter);
    let audit = whole.get("/audit?limit=1000");
    let told = audit.to_string();
    assert!(told.contains(&sha256(b"nothing")) && told.contains(&sha256(letter)), "each has an entry: {audit}");
    // What was removed is forgotten: the same name is a new file.
    fs::write(whole.at("files").join("clean"), "dear colleague, once more").unwrap();
    wait_for("the new file of an old name is not scanned", 60, || whole.alert_of("clean").is_some());
    whole.stop();
}

#[test]
fn rules_of_the_monitor_that_were_set_or_removed_stay_so_over_restarts() {
    let mut whole = Whole::start("");
    let mine = json!({"metric": "queue.size", "condition": ">", "threshold": 5.0, "level": "info", "message": "{value} wait", "for_s": 1, "clear_s": 2});
    let names = |whole: &Whole| -> Vec<String> {
        let told = whole.get("/monitoring/rules");
        let mut names: Vec<String> = told["rules"].as_object().unwrap_or_else(|| panic!("{told}")).keys().cloned().collect();
        names.sort();
        names
    };
    let before = names(&whole);
    assert!(before.iter().any(|name| name == "high_cpu_usage"), "{before:?}");
    whole.ask("DELETE", "/monitoring/rules/high_cpu_usage", &Value::Null);
    whole.ask("PUT", "/monitoring/rules/mine", &mine);
    whole.ask("PUT", "/monitoring/rules/high_queue_size", &mine);
    let after = names(&whole);
    for is_killed in [false, true] {
        if is_killed {
            whole.kill();
        } else {
            whole.stop();
        }
        whole.begin();
        assert_eq!(names(&whole), after);
        let rules = &whole.get("/monitoring/rules")["rules"];
        for name in ["mine", "high_queue_size"] {
            assert_eq!((&rules[name]["threshold"], &rules[name]["clear_s"]), (&json!(5.0), &json!(2)), "{rules}");
        }
        assert!(rules["high_cpu_usage"].is_null(), "{rules}");
    }
    whole.ask(
        "PUT",
        "/monitoring/rules/high_cpu_usage",
        &json!({"metric": "system.cpu_percent", "condition": ">", "threshold": 99.0, "level": "warning", "message": "{value}"}),
    );
    whole.stop();
    whole.begin();
    assert_eq!(whole.get("/monitoring/rules")["rules"]["high_cpu_usage"]["threshold"], 99.0, "one that was removed may come back");
    whole.stop();
}

#[test]
fn the_monitor_sees_the_host_and_what_it_says_comes_again_after_a_kill_until_it_is_acked() {
    let receiver = Receiver::start();
    receiver.is_away.store(true, std::sync::atomic::Ordering::SeqCst);
    let mut whole = Whole::start(&format!(
        "[monitor]\ncollect_s = 1\ncheck_s = 1\n[sinks.watch]\nkind = \"webhook\"\ninputs = [\"scan.monitor\"]\nrequired = true\nurl = {:?}\nform = \"ndjson\"\nbackoff_max = \"1s\"\n",
        receiver.url
    ));
    let gauges = |whole: &Whole| whole.get("/monitoring/metrics")["metrics"]["gauges"].clone();
    wait_for("the share of the processors is not known", 30, || gauges(&whole)["system.cpu_percent"].is_number());
    let seen = gauges(&whole);
    for name in ["system.cpu_percent", "system.memory_percent", "system.disk_percent"] {
        let percent = seen[name].as_f64().unwrap_or_else(|| panic!("{name}: {seen}"));
        assert!((0.0..=100.0).contains(&percent), "{name}: {seen}");
    }
    let available = seen["system.memory_available_mb"].as_f64().unwrap();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let kib: f64 = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.split_whitespace().next()?.parse().ok()).unwrap();
    assert!((available / (kib / 1024.0) - 1.0).abs() < 0.5, "{available} MiB of {kib} KiB");
    let rule = json!({"metric": "system.memory_percent", "condition": ">", "threshold": 0.001, "level": "warning", "message": "memory is in use by {value} %"});
    whole.ask("PUT", "/monitoring/rules/high_memory_usage", &rule);
    let active = |whole: &Whole| -> Vec<String> {
        let alerts = whole.get("/monitoring/alerts")["active_alerts"].as_array().cloned().unwrap_or_default();
        let mine = alerts.into_iter().filter(|alert| alert["source"] == "high_memory_usage");
        mine.map(|alert| alert["alert_id"].as_str().unwrap().to_owned()).collect()
    };
    wait_for("the rule does not fire", 30, || active(&whole).len() == 1);
    let id = active(&whole).remove(0);
    thread::sleep(Duration::from_millis(500)); // a group commit takes 50 ms
    assert!(receiver.taken.lock().unwrap().is_empty());
    whole.kill();

    receiver.is_away.store(false, std::sync::atomic::Ordering::SeqCst);
    whole.begin();
    assert_eq!(active(&whole), [id.as_str()], "it is still active, and no other was fired");
    let told = |state: &str| {
        let taken = receiver.taken.lock().unwrap();
        let alerts = taken.iter().filter_map(|line| Some(serde_json::from_str::<Value>(line).ok()?["monitor_alert"].clone()));
        alerts.filter(|alert| alert["alert_id"] == id.as_str() && alert["state"] == state).count()
    };
    wait_for("what was not acked does not come after the restart", 60, || told("fired") > 0);
    whole.ask("POST", &format!("/monitoring/alerts/{id}/resolve"), &Value::Null);
    wait_for("that it was resolved does not go out", 60, || told("resolved") > 0);
    thread::sleep(Duration::from_secs(2)); // the checkpoint is saved once a second
    whole.stop();
    let counts = (told("fired"), told("resolved"));
    whole.begin();
    thread::sleep(Duration::from_secs(3));
    assert_eq!((told("fired"), told("resolved")), counts, "what was acked is not sent again");
    whole.stop();
}

#[test]
fn a_worker_tells_how_busy_its_host_is_and_does_not_wake_while_it_idles() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (dir, worker_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let master = config(dir.path(), &format!("role = \"master\"\n[api]\nlisten = \"127.0.0.1:{port}\"\n"));
    let master = Agent::start(&master);
    let worker =
        config(worker_dir.path(), &format!("role = \"worker\"\n[scan.worker]\nmaster = \"http://127.0.0.1:{port}\"\nid = \"busy-1\"\n"));
    fs::write(worker_dir.path().join("rules/test.yar"), RULES).unwrap();
    let worker = Agent::start(&worker);
    let row = || -> Option<Value> {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.write_all(b"GET /distributed/workers/busy-1 HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    };
    wait_for("no heartbeat tells the load", 90, || {
        row().is_some_and(|row| row["cpu_usage"].is_number() && row["memory_usage"].is_number())
    });
    let row = row().unwrap();
    let share = |name: &str| row[name].as_f64().unwrap() / 100.0;
    assert!((0.0..=1.0).contains(&share("cpu_usage")) && (0.0..1.0).contains(&share("memory_usage")), "{row}");
    let load = 0.3 * share("cpu_usage") + 0.3 * share("memory_usage");
    assert!((row["load_factor"].as_f64().unwrap() - load).abs() < 0.001, "{row}");
    assert_eq!((&row["metadata"]["platform"], &row["metadata"]["version"]), (&json!("linux"), &json!(env!("CARGO_PKG_VERSION"))), "{row}");

    thread::sleep(Duration::from_secs(3));
    let before = wakeups(&worker);
    thread::sleep(Duration::from_secs(10));
    let woken: Vec<(String, u64)> =
        wakeups(&worker).into_iter().map(|(name, n)| (name.clone(), n - before.get(&name).copied().unwrap_or(0))).collect();
    // The next heartbeat is half a minute away; the question for tasks may come to its end, and is asked again.
    assert!(woken.iter().all(|(_, n)| *n <= 8), "{woken:?}");
    worker.stop();
    master.stop();
}
