//! A MISP for tests: the search endpoint as MISP 2.5 has it (POST only, OR lists, pages, its collation,
//! its own limit), and everything that can go wrong on the way to it.

#![allow(dead_code, reason = "two binaries share it, and each uses a part")]

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    future::Future,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use shipper::{
    clock::SystemClock,
    io::{self, Engine, Executor, Setup, SlabPool, Watcher},
    lookups::misp::{self, FIELDS, core::Verdict},
    metrics::{Board, Standing},
    register::{Errors, Node, Section},
};

/// The key that it takes.
pub const KEY: &str = "0123456789012345678901234567890123456789";

/// One attribute.
#[derive(Clone, Debug)]
pub struct Row {
    pub kind: &'static str,
    pub value: String,
    pub timestamp: u64,
    pub deleted: bool,
    pub to_ids: bool,
    /// Of its event, and when that changed and was published last.
    pub published: bool,
    pub event_timestamp: u64,
    pub publish_timestamp: u64,
}

pub fn row(kind: &'static str, value: impl Into<String>) -> Row {
    let timestamp = 1_700_000_000;
    let (event_timestamp, publish_timestamp) = (timestamp, timestamp);
    Row { kind, value: value.into(), timestamp, deleted: false, to_ids: true, published: true, event_timestamp, publish_timestamp }
}

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Status(u16),
    /// Nothing comes, and the connection stays.
    Hang,
    /// The connection ends without an answer.
    Reset,
    /// The connection ends in the middle of the body.
    Half,
    /// 200 with a page.
    Html,
    /// An attribute that nobody asked for, alone.
    OtherValue,
    /// A body without an end.
    Endless,
    /// To a login page.
    Redirect,
}

/// What it knows and how it behaves; may be changed while it runs.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub rows: Vec<Row>,
    /// A search with one of these is answered 400.
    pub refused: BTreeSet<String>,
    /// Each with the percentage of searches that it hits.
    pub faults: Vec<(u64, Fault)>,
    /// Searches in a window, and its length: `enforce_rate_limit`.
    pub limit: Option<(u64, Duration)>,
    pub may_sight: bool,
}

/// The running stand-in.
pub struct Misp {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    world: Mutex<World>,
    key: Mutex<String>,
    is_out: AtomicBool,
    searches: Mutex<Vec<Value>>,
    refusals: AtomicU64,
    limited: AtomicU64,
    sighted: Mutex<Vec<Value>>,
    window: Mutex<(Instant, u64)>,
}

impl Misp {
    pub fn start(world: World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            world: Mutex::new(world),
            key: Mutex::new(KEY.into()),
            is_out: AtomicBool::new(false),
            searches: Mutex::default(),
            refusals: AtomicU64::new(0),
            limited: AtomicU64::new(0),
            sighted: Mutex::default(),
            window: Mutex::new((Instant::now(), 0)),
        });
        let of = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = of.clone();
                if !shared.is_out.load(SeqCst) {
                    thread::spawn(move || serve(&stream, &shared));
                }
            }
        });
        Self { address, shared }
    }
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
    pub fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.shared.world.lock().unwrap());
    }
    /// While it is out every connection ends at once.
    pub fn out(&self, is_out: bool) {
        self.shared.is_out.store(is_out, SeqCst);
    }
    pub fn set_key(&self, key: &str) {
        *self.shared.key.lock().unwrap() = key.into();
    }
    /// The bodies of searches that came with the right key.
    pub fn searches(&self) -> Vec<Value> {
        self.shared.searches.lock().unwrap().clone()
    }
    /// Requests that came with a wrong key.
    pub fn refusals(&self) -> u64 {
        self.shared.refusals.load(SeqCst)
    }
    /// Searches that met its limit.
    pub fn limited(&self) -> u64 {
        self.shared.limited.load(SeqCst)
    }
    /// The bodies of sightings.
    pub fn sighted(&self) -> Vec<Value> {
        self.shared.sighted.lock().unwrap().clone()
    }
}

struct Request {
    line: String,
    key: String,
    body: Vec<u8>,
}

fn read(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    let (mut line, mut key, mut length) = (String::new(), String::new(), 0);
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|n| *n > 0)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => key = value.into(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { line: line.trim_end().into(), key, body })
}

fn serve(stream: &TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(stream);
    let mut to = stream;
    while let Some(request) = read(&mut reader) {
        if shared.is_out.load(SeqCst) || !answer(&mut to, shared, &request) {
            return;
        }
    }
}

fn send(to: &mut &TcpStream, status: u16, headers: &str, body: &str) -> bool {
    let text = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len());
    to.write_all(text.as_bytes()).is_ok()
}

fn error(to: &mut &TcpStream, status: u16, message: &str) -> bool {
    send(to, status, "", &json!({ "name": message, "message": message, "url": "/" }).to_string())
}

/// Answers one request; false ends the connection.
fn answer(to: &mut &TcpStream, shared: &Shared, request: &Request) -> bool {
    if request.key != *shared.key.lock().unwrap() {
        shared.refusals.fetch_add(1, SeqCst);
        return error(
            to,
            403,
            "Authentication failed. Please make sure you pass the API key of an API enabled user along in the Authorization header.",
        );
    }
    let world = shared.world.lock().unwrap().clone();
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    match request.line.split(' ').take(2).collect::<Vec<_>>().as_slice() {
        ["GET", "/servers/getVersion"] => send(
            to,
            200,
            "",
            &json!({ "version": "2.5.1", "pymisp_recommended_version": "2.5.1", "perm_sighting": world.may_sight }).to_string(),
        ),
        ["POST", "/sightings/add"] => {
            shared.sighted.lock().unwrap().push(body);
            let said = if world.may_sight { json!({ "Sighting": { "id": "1" } }) } else { json!({ "message": "No permission" }) };
            send(to, 200, "", &said.to_string())
        }
        ["POST", "/attributes/restSearch"] => search(to, shared, &world, body),
        ["GET", path] if path.starts_with("/attributes/restSearch") => {
            error(to, 400, "No filters were given; they are taken from the body of a POST.")
        }
        _ => error(to, 404, "no such action"),
    }
}

fn search(to: &mut &TcpStream, shared: &Shared, world: &World, body: Value) -> bool {
    let number = {
        let mut searches = shared.searches.lock().unwrap();
        searches.push(body.clone());
        searches.len() as u64
    };
    if let Some((most, window)) = world.limit {
        let mut now = shared.window.lock().unwrap();
        if now.0.elapsed() >= window {
            *now = (Instant::now(), 0);
        }
        now.1 += 1;
        if now.1 > most {
            shared.limited.fetch_add(1, SeqCst);
            let left = window.saturating_sub(now.0.elapsed()).as_secs() + 1;
            let headers = format!("X-Rate-Limit-Limit: {most}\r\nX-Rate-Limit-Remaining: 0\r\nX-Rate-Limit-Reset: {left}\r\n");
            return send(to, 429, &headers, "{\"message\":\"API searches are limited\"}");
        }
    }
    // A roll for each search, spread well, the same in every run.
    let mut roll = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) % 100;
    for (percent, fault) in &world.faults {
        if roll < *percent {
            return fail(to, *fault);
        }
        roll -= percent;
    }
    let asked: Option<Vec<String>> =
        body["value"]["OR"].as_array().map(|list| list.iter().map(|v| v.as_str().unwrap_or_default().to_owned()).collect());
    let is_for_networks = body["value"] == "%/%";
    let time = |name: &str| -> Option<u64> { body[name].as_str().and_then(|text| text.parse().ok()) };
    let flag = |name: &str| body[name].as_u64();
    if asked.as_ref().is_some_and(|asked| asked.iter().any(|value| world.refused.contains(value))) {
        return error(to, 400, "Invalid value");
    }
    assert!(asked.iter().flatten().all(|value| !value.starts_with('%') && !value.ends_with('%')), "a pattern was sent: {asked:?}");
    let asked: Option<BTreeSet<String>> = asked.map(|asked| asked.iter().map(|value| fold(value)).collect());
    let passes = |row: &Row| {
        (body["deleted"].is_array() || !row.deleted)
            && flag("to_ids").is_none_or(|wanted| row.to_ids == (wanted == 1))
            && flag("published").is_none_or(|wanted| row.published == (wanted == 1))
            && time("attribute_timestamp").is_none_or(|since| row.timestamp >= since)
            && time("event_timestamp").is_none_or(|since| row.event_timestamp >= since)
            && time("publish_timestamp").is_none_or(|since| row.publish_timestamp >= since)
    };
    let is_found = |row: &Row| match &asked {
        Some(asked) => passes(row) && row.value.split('|').any(|part| asked.contains(&fold(part))),
        None if is_for_networks => passes(row) && row.value.contains('/') && row.kind.starts_with("ip-"),
        None => passes(row),
    };
    let limit = body["limit"].as_u64().unwrap_or(u64::MAX);
    let skip = (body["page"].as_u64().unwrap_or(1) - 1).saturating_mul(limit);
    let found = world.rows.iter().enumerate().filter(|(_, row)| is_found(row));
    let page: Vec<Value> = found.skip(skip as usize).take(limit as usize).map(|(id, row)| written(id, row)).collect();
    // As unreliable as MISP's own.
    let headers = format!("X-Result-Count: {}\r\nX-Skipped-Elements-Count: 0\r\n", page.len() + 1);
    send(to, 200, &headers, &json!({ "response": { "Attribute": page } }).to_string())
}

fn written(id: usize, row: &Row) -> Value {
    json!({
        "id": id.to_string(), "event_id": (id / 10).to_string(), "object_id": "0", "object_relation": null, "category": "Network activity",
        "type": row.kind, "to_ids": row.to_ids, "uuid": format!("5f0c0000-0000-4000-8000-{id:012}"), "timestamp": row.timestamp.to_string(),
        "distribution": "5", "comment": "", "deleted": row.deleted, "value": row.value,
        "Event": { "id": (id / 10).to_string(), "info": "Emotet, again", "org_id": "1", "uuid": format!("5f0e0000-0000-4000-8000-{:012}", id / 10) }, "Tag": [{ "id": "1", "name": "tlp:green" }],
    })
}

/// As utf8mb3_unicode_ci compares.
fn fold(text: &str) -> String {
    text.to_lowercase().replace('é', "e")
}

fn fail(to: &mut &TcpStream, fault: Fault) -> bool {
    let whole = json!({ "response": { "Attribute": [] } }).to_string();
    match fault {
        Fault::Status(status) => send(to, status, "", "<html><body>Proxy error</body></html>"),
        Fault::Html => send(to, 200, "", "<!DOCTYPE html><html><body>Log in</body></html>"),
        Fault::Redirect => send(to, 302, "Location: /users/login\r\n", ""),
        Fault::OtherValue => {
            send(to, 200, "", &json!({ "response": { "Attribute": [written(999, &row("md5", "0".repeat(32)))] } }).to_string())
        }
        Fault::Reset => false,
        Fault::Half => {
            let _ =
                to.write_all(format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n{}", whole.len(), &whole[..whole.len() / 2]).as_bytes());
            false
        }
        Fault::Hang => {
            // Until the other side goes.
            let _ = to.read(&mut [0]);
            false
        }
        Fault::Endless => {
            let _ = to.write_all(b"HTTP/1.1 200 X\r\nContent-Length: 10000000000\r\n\r\n");
            while to.write_all(&[b' '; 65_536]).is_ok() {}
            false
        }
    }
}

/// Settings for a stand-in, with waits that a test can afford.
pub fn settings(misp: &Misp, key: &Path, more: &str) -> misp::Settings {
    let text = format!("url = '{}'\nkey_file = {key:?}\nnetworks_every = '0'\nrate = 0\n{more}", misp.url());
    let node = Node::parse_toml(&text).unwrap();
    let mut errors = Errors::default();
    let mut settings = misp::Settings::parse(&mut Section::open("lookups.misp", &node, FIELDS, &[], &mut errors));
    assert!(errors.is_empty(), "{errors}");
    settings.limits.hold_retry = 50_000_000;
    settings.limits.breaker.wait = Duration::from_millis(10);
    settings.limits.breaker.wait_max = Duration::from_millis(100);
    settings
}

pub fn key_file(key: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{key}").unwrap();
    file
}

/// Runs `body` on a thread like the edge.
pub fn on_edge<F: Future<Output = ()> + 'static>(body: impl FnOnce(Rc<dyn Executor>, Standing) -> F + Send + 'static) {
    let setup = Setup {
        name: "edge".into(),
        core: None,
        network: true,
        slabs: SlabPool::new(1),
        watcher: Watcher::new().unwrap(),
        clock: SystemClock::new(),
    };
    let thread = io::spawn(Engine::Pread, setup, move |io| {
        let body = body(io, Board::default().enter("lookups.misp"));
        Box::pin(async move { tokio::time::timeout(Duration::from_secs(120), body).await.expect("it ends") })
    });
    thread.unwrap().join().unwrap();
}

/// Asks all at once and waits for every verdict, by question.
pub async fn ask_all(client: &misp::Client, questions: impl IntoIterator<Item = (&'static str, String)>) -> Vec<Verdict> {
    let verdicts: Rc<RefCell<BTreeMap<usize, Verdict>>> = Rc::default();
    let mut count = 0;
    for (kind, value) in questions {
        let (verdicts, n) = (verdicts.clone(), count);
        client.ask_then(kind, &value, move |verdict| assert!(verdicts.borrow_mut().insert(n, verdict).is_none()));
        count += 1;
    }
    while verdicts.borrow().len() < count {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Rc::try_unwrap(verdicts).unwrap().into_inner().into_values().collect()
}

pub async fn until(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never comes");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
