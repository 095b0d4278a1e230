//! A face over a real task store, real roots and real sockets, with a scanner that looks for one word.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use axum::middleware::from_fn_with_state;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::super::{Front, Hands, Later, Scan, Shared, router};
use crate::{
    api::{
        Bound, Listen,
        access::{Keys, Rate, Settings as Access, keys},
        door::{self, Audit, Door},
        listen::Caller,
    },
    clock::SystemClock,
    metrics::Counts,
    scan::{
        monitor::{self, Change, Monitor},
        outcome::{Match, Outcome, Verdict},
        roots::{Roots, UPLOAD},
        settings::{Balance, Role, Root, Settings, Workers},
        task::{Capability, Task},
        tasks::{AlertsOf, Limits, Take, Tasks},
        workers::Registry,
    },
};

/// What the scanner takes for malware.
pub const BAD: &[u8] = b"EVIL-TEST-FILE";
const ALL: [Capability; 4] = [Capability::FileScan, Capability::YaraAnalysis, Capability::NetworkAnalysis, Capability::LogAnalysis];

/// Keys by name; each is a word of its own, so that it is found wherever it should not be.
pub const KEYS: [(&str, &str, &str); 6] = [
    ("viewer", "viewer", "key-of-viewer-11111111"),
    ("submitter", "submitter", "key-of-submitter-22222222"),
    ("worker-a", "worker", "key-of-worker-a-33333333"),
    ("worker-b", "worker", "key-of-worker-b-44444444"),
    ("admin", "admin", "key-of-admin-55555555"),
    ("both", "viewer,submitter", "key-of-both-66666666"),
];

/// The agent's part, as far as a test needs it.
pub struct Agent {
    children: AtomicUsize,
    pub told: Mutex<Vec<Change>>,
    /// Tasks that a master brought, where this is a worker.
    pub offered: Option<Mutex<Vec<Task>>>,
}

impl Hands for Agent {
    fn rules(&self) -> Value {
        json!({"version": "sha256:1", "rules": [{"name": "evil", "namespace": "own", "tags": [], "meta": []}], "errors": []})
    }
    fn update_rules(&self, force: bool) -> Later<Result<Value, (String, Value)>> {
        let rules = self.rules();
        Box::pin(async move {
            if force {
                Ok(rules)
            } else {
                Err(("no rule is left".into(), json!([{"file": "a.yar", "line": 3, "message": "syntax error"}])))
            }
        })
    }
    fn children(&self) -> (usize, usize) {
        (self.children.load(Ordering::Relaxed), 0)
    }
    fn child_deaths(&self) -> u64 {
        0
    }
    fn set_children(&self, children: Option<usize>) -> Later<bool> {
        let wanted = children.unwrap_or(2);
        let is_new = self.children.swap(wanted, Ordering::Relaxed) != wanted;
        Box::pin(async move { is_new })
    }
    fn cleanup(&self) -> Value {
        json!({"running": false, "cleanup_enabled": false})
    }
    fn clean(&self, is_dry: bool) -> Later<Result<Value, String>> {
        Box::pin(async move { if is_dry { Ok(json!({"success": true, "files_deleted": 0})) } else { Err("cleanup is off".into()) } })
    }
    fn sinks(&self) -> Value {
        json!([{"name": "out", "kind": "webhook", "required": false}])
    }
    fn relate(&self, task: &Task, outcome: &mut Outcome) {
        outcome.correlated.push(json!({"by": "flow", "task": task.task_id}));
    }
    fn suricata(&self) -> Value {
        json!({"running": false})
    }
    fn suricata_alerts(&self) -> Vec<Value> {
        vec![
            json!({"signature": "ET Test", "severity": 1, "src_ip": "192.0.2.1", "dest_ip": "192.0.2.2", "timestamp": "2026-01-01T00:00:00Z"}),
        ]
    }
    fn correlations(&self) -> Vec<Value> {
        Vec::new()
    }
    fn correlate(&self) -> Later<Result<usize, String>> {
        Box::pin(async { Ok(0) })
    }
    fn offer(&self, task: Task) -> Option<bool> {
        let mut offered = self.offered.as_ref()?.lock().unwrap();
        let has_room = offered.is_empty();
        has_room.then(|| offered.push(task));
        Some(has_room)
    }
    fn worker(&self) -> Option<Value> {
        self.offered.as_ref().map(|offered| json!({"worker_id": "w-here", "current_tasks": offered.lock().unwrap().len(), "max_tasks": 1}))
    }
    fn shut_down(&self) -> bool {
        self.offered.is_some()
    }
    fn tell(&self, changes: Vec<Change>) {
        self.told.lock().unwrap().extend(changes);
    }
}

pub struct Page;
impl Front for Page {
    fn page(&self) -> String {
        "<!doctype html>".into()
    }
    fn health(&self) -> (bool, bool, Value) {
        (false, true, json!({"components": []}))
    }
    fn metrics(&self, _: &axum::http::HeaderMap) -> (String, &'static str) {
        ("# EOF\n".into(), "application/openmetrics-text; version=1.0.0; charset=utf-8")
    }
}

/// What a test may change.
pub struct Wish {
    pub has_keys: bool,
    pub access: Access,
    pub settings: Settings,
    /// Whether this host scans.
    pub scans: bool,
    pub listen: SocketAddr,
}

impl Default for Wish {
    fn default() -> Self {
        let much = Rate { count: 1_000_000, per_s: 1 };
        Self {
            has_keys: true,
            access: Access { rate: much, register_rate: much, auth_failures: much, ..Access::default() },
            settings: Settings {
                file_bytes_max: 64 << 10,
                workers: Workers { max: 3, ..Workers::default() },
                balance: Balance::default(),
                ..Settings::default()
            },
            scans: true,
            listen: ([127, 0, 0, 1], 0).into(),
        }
    }
}

/// A face that answers until it is dropped.
pub struct Server {
    pub address: SocketAddr,
    pub scan: Scan,
    pub agent: Arc<Agent>,
    pub dir: tempfile::TempDir,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Alerts of an outcome, as far as the store and the routes read them.
fn alerts_of() -> AlertsOf {
    Arc::new(|outcome: &Outcome, at| {
        let mut time = Vec::new();
        crate::json::time(&mut time, i64::try_from(at / 1_000_000).unwrap());
        let alert = |found: &Match| {
            let path = outcome.path.lossy();
            let told = json!({
                "timestamp": String::from_utf8_lossy(&time), "file_path": path, "file_name": path.rsplit('/').next(), "file_size": outcome.size,
                "file_type": outcome.mime, "md5": outcome.md5, "sha256": outcome.sha256, "zeek_uid": "", "fuid": "", "rule_name": found.rule,
                "rule_namespace": found.namespace, "rule_meta": found.meta, "strings_matched": [], "severity": found.severity,
                "task_id": outcome.task_id, "partial": outcome.partial, "cached": outcome.cached,
            });
            told.as_object().unwrap().clone()
        };
        outcome.matches.iter().map(alert).collect()
    })
}

impl Server {
    pub fn start(wish: Wish) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["state", "zeek", "other", "upload", "export", "secret"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::write(at("secret/shadow"), "root:x").unwrap();
        let root = |name: &str, folder: &str| Root { name: name.into(), path: at(folder), watch: false, depth: 1 };
        let mut settings = wish.settings;
        settings.roots = vec![root("zeek", "zeek"), root("other", "other")];
        let mut roots = settings.roots.clone();
        roots.push(root(UPLOAD, "upload"));
        let mut access = wish.access;
        if wish.has_keys {
            let lines = KEYS.map(|(name, role, key)| {
                let worker = if role == "worker" { name } else { "" };
                format!("{name} {role} {} {worker}\n", keys::hex(&keys::digest(key.as_bytes())))
            });
            fs::write(at("keys"), lines.concat()).unwrap();
            fs::set_permissions(at("keys"), fs::Permissions::from_mode(0o600)).unwrap();
            assert!(!Keys::read(&at("keys")).unwrap().is_empty());
            access.keys_file = Some(at("keys"));
        }
        let clock = SystemClock::new();
        let is_worker = settings.role == Role::Worker;
        let tasks = Tasks::open(&at("state"), Limits::new(&settings), alerts_of()).unwrap();
        let agent = Arc::new(Agent { children: AtomicUsize::new(2), told: Mutex::default(), offered: is_worker.then(Mutex::default) });
        let export_dir = Some(at("export"));
        let scan = Scan {
            tasks: tasks.clone(),
            roots: Arc::new(Roots::open(&roots).unwrap()),
            registry: Arc::new(Mutex::new(Registry::new(settings.workers.clone(), settings.balance.clone()))),
            monitor: Arc::new(Mutex::new(Monitor::new(monitor::Settings { export_dir, ..Default::default() }))),
            uploads: at("upload"),
            hands: agent.clone(),
            settings,
        };
        let mut bound = Bound::bind(&Listen::Tcp(wish.listen)).unwrap();
        let gate = access.guard(&mut bound).unwrap();
        let address: SocketAddr = bound.address().parse().unwrap();
        let audited = tasks.clone();
        let audit: Audit = Box::new(move |entry| drop(audited.audit(entry)));
        let door = Arc::new(Door::new(gate, clock, Counts::default(), Some(audit)));
        let shared = Arc::new(Shared::new(scan.clone(), Box::new(Page), door.clone(), clock));
        let routes = router(shared).layer(from_fn_with_state(door, door::pass));
        let (end, ending) = tokio::sync::oneshot::channel();
        let serving = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let ear = bound.open(512).unwrap();
                tokio::select! {
                    _ = axum::serve(ear, routes.into_make_service_with_connect_info::<Caller>()) => {}
                    _ = ending => {}
                }
            });
            runtime.shutdown_background();
        });
        let ended = Arc::new(AtomicBool::new(false));
        let mut threads = vec![serving];
        if wish.scans {
            let (scan, ended) = (scan.clone(), ended.clone());
            threads.push(std::thread::spawn(move || scanner(&scan, &ended)));
        }
        Self { address, scan, agent, dir, end: Some(end), ended, threads }
    }

    /// Puts a file below the root `zeek`.
    pub fn file(&self, name: &str, bytes: &[u8]) {
        let path = self.dir.path().join("zeek").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Asks with a key, by its name, or with none.
    pub fn ask(&self, key: &str, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let body = body.map(|body| body.to_string().into_bytes());
        self.raw(key, method, path, "application/json", body.as_deref(), "")
    }

    /// The same with bytes of any kind and more headers.
    pub fn raw(&self, key: &str, method: &str, path: &str, media: &str, body: Option<&[u8]>, more: &str) -> Reply {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{more}");
        if let Some((_, _, key)) = KEYS.iter().find(|(name, ..)| *name == key) {
            request += &format!("X-API-Key: {key}\r\n");
        }
        if let Some(body) = body {
            request += &format!("Content-Type: {media}\r\nContent-Length: {}\r\n", body.len());
        }
        stream.write_all(format!("{request}\r\n").as_bytes()).unwrap();
        // Who is refused before the end of a body may not hear it all.
        let _ = stream.write_all(body.unwrap_or_default());
        let reply = Reply::read(&mut stream);
        reply.holds_no_key();
        reply
    }

    /// Entries of the audit, once there are so many.
    pub fn audit(&self, at_least: usize) -> Vec<Value> {
        for _ in 0..200 {
            let entries: Vec<Value> = self.scan.tasks.audits(None, 1000).wait().unwrap().into_iter().map(|entry| entry.entry).collect();
            if entries.len() >= at_least {
                return entries;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("fewer than {at_least} entries");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = self.end.take().map(|end| end.send(()));
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        self.scan.tasks.close();
    }
}

/// Scans whatever may be leased.
fn scanner(scan: &Scan, ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        let leases = scan.tasks.lease("local", &ALL, 8, Take::Started).wait().unwrap();
        if leases.is_empty() {
            scan.tasks.wait_ready(Duration::from_millis(20));
        }
        for lease in leases {
            scan.tasks.finish("local", outcome(scan, &lease.task)).wait().unwrap();
        }
    }
}

/// What the scanner says of a task.
pub fn outcome(scan: &Scan, task: &Task) -> Outcome {
    let told = json!({"task_id": task.task_id, "root": task.root, "file_path": "", "verdict": "error"});
    let mut outcome: Outcome = serde_json::from_value(told).unwrap();
    outcome.path.clone_from(&task.path);
    let opened = match scan.roots.open_file(&task.root, &task.path, scan.settings.file_bytes_max) {
        Ok(opened) => opened,
        Err(failure) => {
            outcome.reasons = vec![failure.reason];
            return outcome;
        }
    };
    let mut bytes = Vec::new();
    fs::File::from(opened.fd).read_to_end(&mut bytes).unwrap();
    outcome.sha256 = keys::hex(&Sha256::digest(&bytes));
    outcome.size = bytes.len() as u64;
    outcome.mime = "text/plain".into();
    outcome.verdict = Verdict::Clean;
    if memchr::memmem::find(&bytes, BAD).is_some() {
        outcome.verdict = Verdict::Matched;
        let meta = vec![("severity".to_owned(), json!(7))];
        outcome.matches =
            vec![Match { rule: "evil".into(), namespace: "own".into(), tags: vec![], meta, severity: 7, author: None, patterns: vec![] }];
    }
    outcome
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub bytes: Vec<u8>,
}

impl Reply {
    pub fn read(stream: &mut impl Read) -> Self {
        let mut all = Vec::new();
        // A peer that has seen enough may reset; what came before counts.
        let _ = stream.read_to_end(&mut all);
        let end = memchr::memmem::find(&all, b"\r\n\r\n").unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&all)));
        let head = String::from_utf8_lossy(&all[..end]).into_owned();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: BTreeMap<_, _> =
            lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        let bytes = all[end + 4..].to_vec();
        for (name, value) in [("cache-control", "no-store"), ("x-content-type-options", "nosniff")] {
            assert_eq!(headers.get(name).map(String::as_str), Some(value), "{head}");
        }
        assert!(headers.contains_key("x-request-id"), "{head}");
        if matches!(status, 429 | 503) {
            assert!(status == 503 || headers.contains_key("retry-after"), "{head}");
        }
        Self { status, headers, bytes }
    }
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.bytes)))
    }
    /// The code of a refusal, which must have the one shape.
    pub fn code(&self) -> String {
        let told = self.json();
        assert_eq!(told["detail"], told["error"]["message"], "{told}");
        assert!(told["error"]["fields"].is_array() && !told["detail"].as_str().unwrap().is_empty(), "{told}");
        told["error"]["code"].as_str().unwrap().to_owned()
    }
    fn holds_no_key(&self) {
        for (_, _, key) in KEYS {
            let digest = keys::hex(&keys::digest(key.as_bytes()));
            assert!(memchr::memmem::find(&self.bytes, key.as_bytes()).is_none(), "a key in an answer");
            assert!(memchr::memmem::find(&self.bytes, digest.as_bytes()).is_none(), "a digest in an answer");
            assert!(self.headers.values().all(|value| !value.contains(key)), "a key in a header");
        }
    }
}

/// A path for messages.
pub fn name(path: &Path) -> String {
    path.display().to_string()
}
