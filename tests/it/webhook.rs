//! The running agent with a required sink `webhook`: each record is delivered or in the dead letter, also over a
//! stop while the receiver is away; and with a sink `file` beside it that rotates.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use shipper::{io::Engine, metrics::State};

use crate::agent::{start, until};

/// A receiver that takes lines, refuses a request with the line of id 13, and can be away.
pub(crate) struct Receiver {
    pub(crate) url: String,
    pub(crate) is_away: Arc<AtomicBool>,
    pub(crate) taken: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/in", listener.local_addr().unwrap());
        let (is_away, taken): (Arc<AtomicBool>, Arc<Mutex<Vec<String>>>) = Default::default();
        let (away, lines) = (is_away.clone(), taken.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (away, lines) = (away.clone(), lines.clone());
                std::thread::spawn(move || while serve(&stream, &away, &lines).is_some() {});
            }
        });
        Self { url, is_away, taken }
    }
    fn ids(&self) -> Vec<u64> {
        let id = |line: &String| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_str().unwrap().parse().unwrap();
        self.taken.lock().unwrap().iter().map(id).collect()
    }
}

fn serve(stream: &TcpStream, away: &AtomicBool, taken: &Mutex<Vec<String>>) -> Option<()> {
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
    let status = if away.load(SeqCst) {
        503
    } else if body.contains("\"id\":\"13\"") {
        400
    } else {
        taken.lock().unwrap().extend(body.lines().map(str::to_owned));
        200
    };
    let mut to = stream;
    write!(to, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").ok()
}

fn line(n: u64) -> String {
    format!("{{\"timestamp\":\"2026-03-14T06:25:12.001+0100\",\"rule\":{{\"level\":3,\"id\":\"5501\"}},\"id\":\"{n}\"}}\n")
}

fn config(alerts: &Path, copy: &Path, url: &str) -> String {
    format!(
        "drain_for = \"1s\"\n[sources.alerts]\nkind = \"file\"\npath = {alerts:?}\nstart_at = \"beginning\"\n[handlers.all]\nkind = \"forward\"\ninputs = [\"alerts\"]\n\
         [sinks.hook]\nkind = \"webhook\"\ninputs = [\"all\"]\nrequired = true\nurl = {url:?}\nform = \"ndjson\"\nbatch = 10\nlinger = \"10ms\"\nbackoff_max = \"1s\"\n\
         [sinks.copy]\nkind = \"file\"\ninputs = [\"all\"]\npath = {copy:?}\nrotate_size = \"4 KiB\"\n"
    )
}

#[test]
fn a_record_waits_for_its_webhook_is_delivered_or_in_the_dead_letter() {
    let dir = tempfile::tempdir().unwrap();
    let (alerts, copy, state) = (dir.path().join("alerts.json"), dir.path().join("copy.json"), dir.path().join("state"));
    let receiver = Receiver::start();
    let config = config(&alerts, &copy, &receiver.url);
    let first: String = (0..100).map(line).collect();
    fs::write(&alerts, &first).unwrap();

    let started = start(&config, &state, Engine::Pread);
    let counts = started.metrics.branch("alerts", "all");
    until("all is settled", || counts.read.get() == first.len() as u64 && counts.in_flight.get() == 0);
    assert!(started.agent.drain());
    let bad = line(13).len() as u64;
    assert_eq!((counts.shipped.get(), counts.dead_letter.total(), counts.imbalance()), (first.len() as u64 - bad, bad, 0));
    assert_eq!(receiver.ids(), (0..100).filter(|n| *n != 13).collect::<Vec<_>>(), "each once, in order");

    // The receiver is away: nothing is acked, and the agent stops all the same.
    receiver.is_away.store(true, SeqCst);
    let more: String = (100..120).map(line).collect();
    fs::write(&alerts, format!("{first}{more}")).unwrap();
    let started = start(&config, &state, Engine::Pread);
    let away = || started.board.standings().iter().any(|(name, state)| name == "sinks.hook" && matches!(state, State::Retrying(_)));
    until("it is told", away);
    assert!(!started.agent.drain(), "something is owed");

    receiver.is_away.store(false, SeqCst);
    let started = start(&config, &state, Engine::Pread);
    let counts = started.metrics.branch("alerts", "all");
    until("the rest is delivered", || counts.shipped.get() == more.len() as u64);
    assert!(started.agent.drain());
    let ids: BTreeSet<u64> = receiver.ids().into_iter().collect();
    assert_eq!(ids, (0..120).filter(|n| *n != 13).collect());

    // The copy, over all its archives, has every line; some twice, since they waited for the webhook.
    let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let copies: Vec<String> = names.filter(|name| name.starts_with("copy.json")).collect();
    assert!(copies.len() >= 2, "{copies:?}");
    let text = |name: &String| {
        let bytes = fs::read(dir.path().join(name)).unwrap();
        let mut text = String::new();
        match name.ends_with(".gz") {
            true => flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).map(drop).unwrap(),
            false => text = String::from_utf8(bytes).unwrap(),
        }
        text
    };
    let lines: BTreeSet<String> = copies
        .iter()
        .filter(|name| !name.ends_with(".part"))
        .flat_map(|name| text(name).lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let expected: BTreeSet<String> = (0..120).map(|n| line(n).trim_end().to_owned()).collect();
    assert_eq!(lines, expected);
}
