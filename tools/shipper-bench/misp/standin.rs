//! A MISP as far as a search needs one: POST over HTTP with connections kept, OR lists, one page.

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use serde_json::{Value, json};

/// What its threads are called: their time is not the agent's.
pub const THREAD: &str = "misp-standin";

/// The running stand-in; its threads end with the process.
pub struct Standin {
    pub address: SocketAddr,
    searches: Arc<AtomicU64>,
}

impl Standin {
    /// Starts one that knows these values, each with MISP's type.
    pub fn start(known: impl Iterator<Item = (&'static str, String)>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let searches = Arc::new(AtomicU64::new(0));
        let rows: Arc<HashMap<String, Value>> =
            Arc::new(known.enumerate().map(|(id, (kind, value))| (value.clone(), attribute(id, kind, &value))).collect());
        let count = searches.clone();
        let named = || thread::Builder::new().name(THREAD.into());
        named().spawn(move || {
            for stream in listener.incoming().flatten() {
                let (rows, count) = (rows.clone(), count.clone());
                // Whoever asked is gone then, and asks again.
                let _ = named().spawn(move || serve(&stream, &rows, &count));
            }
        })?;
        Ok(Self { address, searches })
    }
    /// Searches so far.
    pub fn searches(&self) -> u64 {
        self.searches.load(Relaxed)
    }
}

fn attribute(id: usize, kind: &str, value: &str) -> Value {
    json!({
        "id": id.to_string(), "event_id": (id / 10).to_string(), "object_id": "0", "object_relation": null,
        "category": "Network activity", "type": kind, "to_ids": true, "uuid": format!("5f0c0000-0000-4000-8000-{id:012}"),
        "timestamp": "1700000000", "distribution": "5", "sharing_group_id": "0", "comment": "", "deleted": false,
        "disable_correlation": false, "first_seen": null, "last_seen": null, "value": value,
        "Event": { "id": (id / 10).to_string(), "info": "Campaign as seen by partners", "org_id": "1", "orgc_id": "2", "uuid": "" },
        "Tag": [{ "id": "1", "name": "tlp:green", "colour": "#339900" }],
    })
}

fn serve(stream: &TcpStream, rows: &HashMap<String, Value>, searches: &AtomicU64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut to) = (BufReader::new(stream), stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim_end().split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        searches.fetch_add(1, Relaxed);
        let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
        let asked = asked["value"]["OR"].as_array();
        let found: Vec<&Value> = asked.into_iter().flatten().filter_map(|value| rows.get(value.as_str()?)).collect();
        let answer = json!({ "response": { "Attribute": found } }).to_string();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", answer.len());
        to.write_all(&[head.as_bytes(), answer.as_bytes()].concat())?;
    }
}
