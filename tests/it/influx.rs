//! The running agent with sink `influx`: each record is written or in the dead letter, one by one, over an overload, an
//! outage and a stop in the middle of it. The server is a stand-in, since no real one says 429 or 503 when it is asked to.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use shipper::{
    dead_letter::{Found, entries},
    io::Engine,
    metrics::State,
};

use crate::agent::{start, until};

const GOOD: u32 = 204;

/// A server that takes lines, or answers with a status, and in which no line of an id that ends in 13 has a place.
struct Server {
    url: String,
    status: Arc<AtomicU32>,
    written: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (status, written): (Arc<AtomicU32>, Arc<Mutex<Vec<String>>>) = (Arc::new(AtomicU32::new(GOOD)), Arc::default());
        let (now, lines) = (status.clone(), written.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (now, lines) = (now.clone(), lines.clone());
                std::thread::spawn(move || while serve(&stream, &now, &lines).is_some() {});
            }
        });
        Self { url, status, written }
    }
    fn ids(&self) -> BTreeSet<u64> {
        self.written.lock().unwrap().iter().map(|line| id(line.as_bytes())).collect()
    }
}

fn id(line: &[u8]) -> u64 {
    serde_json::from_slice::<serde_json::Value>(line).unwrap()["id"].as_str().unwrap().parse().unwrap()
}

fn is_bad(line: &str) -> bool {
    line.contains("13\"}")
}

fn serve(stream: &TcpStream, status: &AtomicU32, written: &Mutex<Vec<String>>) -> Option<()> {
    let (mut reader, mut length) = (BufReader::new(stream), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(n) = line.strip_prefix("content-length: ") {
            length = n.parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).unwrap();
    let (status, header, said) = match status.load(SeqCst) {
        GOOD if body.lines().any(is_bad) => (400, "", r#"{"code":"invalid","message":"unable to parse 'it': missing fields"}"#),
        GOOD => {
            written.lock().unwrap().extend(body.lines().map(str::to_owned));
            (204, "", "")
        }
        other => (other, "Retry-After: 1\r\n", ""),
    };
    let length = if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", said.len()) };
    let mut to = stream;
    write!(to, "HTTP/1.1 {status} X\r\n{length}{header}\r\n{said}").ok()
}

fn line(n: u64) -> String {
    format!("{{\"timestamp\":\"2026-03-14T06:25:12.001+0100\",\"rule\":{{\"level\":3,\"id\":\"5501\"}},\"id\":\"{n}\"}}\n")
}

fn config(alerts: &Path, url: &str) -> String {
    format!(
        "drain_for = \"1s\"\n[sources.alerts]\nkind = \"file\"\npath = {alerts:?}\nstart_at = \"beginning\"\n[handlers.all]\nkind = \"forward\"\ninputs = [\"alerts\"]\n\
         [sinks.points]\nkind = \"influx\"\ninputs = [\"all\"]\nurl = {url:?}\napi = \"v2\"\nbucket = \"waf\"\norg = \"soc\"\nbatch = 100\nlinger = \"10ms\"\ngzip = false\nbackoff_max = \"1s\"\n"
    )
}

#[test]
fn a_record_is_written_or_in_the_dead_letter_over_an_overload_and_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let (alerts, state) = (dir.path().join("alerts.json"), dir.path().join("state"));
    let server = Server::start();
    let config = config(&alerts, &server.url);
    let text = |range: std::ops::Range<u64>| range.map(line).collect::<String>();
    fs::write(&alerts, text(0..1000)).unwrap();

    let started = start(&config, &state, Engine::Pread);
    let counts = started.metrics.branch("alerts", "all");
    until("all is settled", || counts.read.get() == text(0..1000).len() as u64 && counts.in_flight.get() == 0);
    let bad: u64 = (0..10).map(|n| line(n * 100 + 13).len() as u64).sum();
    assert_eq!((counts.dead_letter.total(), counts.imbalance()), (bad, 0));

    // It is overloaded, then away: both are told, nothing is given up, and the agent stops all the same.
    let told = |what: &'static str| {
        let is =
            move |(name, state): &(String, State)| name == "sinks.points" && matches!(state, State::Retrying(why) if why.contains(what));
        until(what, || started.board.standings().iter().any(is));
    };
    server.status.store(429, SeqCst);
    fs::OpenOptions::new().append(true).open(&alerts).unwrap().write_all(text(1000..1500).as_bytes()).unwrap();
    told("answers 429; its limit is used up");
    server.status.store(503, SeqCst);
    told("answers 503");
    assert!(!started.agent.drain(), "something is owed");

    server.status.store(GOOD, SeqCst);
    let started = start(&config, &state, Engine::Pread);
    let counts = started.metrics.branch("alerts", "all");
    until("the rest is settled", || counts.read.get() > 0 && counts.in_flight.get() == 0 && server.ids().len() == 1485);
    assert!(started.agent.drain());
    assert_eq!(server.ids(), (0..1500).filter(|n| n % 100 != 13).collect());

    let mut dead = Vec::new();
    for segment in fs::read_dir(state.join("dead-letter")).unwrap() {
        for found in entries(&fs::read(segment.unwrap().path()).unwrap()) {
            let Found::Entry { header, bytes, .. } = found else { panic!("{found:?}") };
            assert!(header.detail.ends_with("it is no line protocol"), "{header:?}");
            dead.push(id(bytes));
        }
    }
    dead.sort_unstable();
    assert_eq!(dead, (0..15).map(|n| n * 100 + 13).collect::<Vec<_>>(), "one by one");
}
