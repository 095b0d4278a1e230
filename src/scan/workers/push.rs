//! Brings a task to a worker that is called.
//!
//! It is called at the address that was checked when it registered, follows no redirect, and is believed a status and
//! nothing else. On loopback it is called by HTTP, everywhere else by HTTPS.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::{
    limits,
    net::{
        http::{Client, HttpError, Post, Settings},
        secret::Secret,
    },
    scan::task::Task,
};

/// For a whole call.
const PATIENCE: Duration = Duration::from_secs(5);
/// Clients that are kept.
const CLIENTS_MAX: usize = 100;

/// What became of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    Accepted,
    /// It has enough: another worker may have it, and no attempt is used up.
    Full,
    /// It would not have it, or gave no answer. Whether it scans is not known.
    Failed(String),
}

/// How workers are called.
#[derive(Debug)]
pub struct Push {
    /// The `base` is that of the worker.
    tls: Settings,
    /// Shown to the worker.
    key: Option<Secret>,
    clients: Mutex<BTreeMap<(String, IpAddr, u16), Client>>,
}

impl Push {
    /// - `tls`: CA, certificate and verification; all else of it is set here.
    pub fn new(tls: Settings, key: Option<Secret>) -> Self {
        let tls = Settings {
            connect_timeout: PATIENCE,
            timeout: PATIENCE,
            body_max: limits::SCAN_PUSH_ANSWER_BYTES_MAX,
            idle_connections: 1,
            ..tls
        };
        Self { tls, key, clients: Mutex::default() }
    }

    /// Brings a task to a worker.
    ///
    /// - `host`, `address`, `port`: as [`Registry::place`](super::Registry::place) says.
    pub async fn task(&self, host: &str, address: IpAddr, port: u16, task: &Task) -> Pushed {
        let client = match self.client(host, address, port) {
            Ok(client) => client,
            Err(error) => return Pushed::Failed(error.to_string()),
        };
        let body = match serde_json::to_vec(task) {
            Ok(body) => body,
            Err(error) => return Pushed::Failed(format!("the task cannot be written: {error}")),
        };
        let headers: Vec<(String, Secret)> = self.key.iter().map(|key| ("x-api-key".to_owned(), key.clone())).collect();
        let path = Secret::new("/task".into());
        match client.post(Post { path: &path, content_type: "application/json", body, headers: &headers }).await {
            Ok(reply) => of_status(reply.status),
            Err(error) => Pushed::Failed(error.to_string()),
        }
    }

    fn client(&self, host: &str, address: IpAddr, port: u16) -> Result<Client, HttpError> {
        let key = (host.to_owned(), address, port);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = Client::at(&Settings { base: base(host, address, port), ..self.tls.clone() }, address)?;
        if clients.len() >= CLIENTS_MAX {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }
}

/// The worker's URL. A host that is an address is the one that was checked.
fn base(host: &str, address: IpAddr, port: u16) -> String {
    let scheme = if address.to_canonical().is_loopback() { "http" } else { "https" };
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(host)) => format!("{scheme}://[{host}]:{port}"),
        _ => format!("{scheme}://{host}:{port}"),
    }
}

fn of_status(status: u16) -> Pushed {
    match status {
        200 | 202 => Pushed::Accepted,
        503 | 429 => Pushed::Full,
        401 | 403 => Pushed::Failed(format!("it refuses our key ({status}); give both sides the same one")),
        300..=399 => Pushed::Failed(format!("it sends us elsewhere ({status}), which is not followed")),
        other => Pushed::Failed(format!("it answers {other}")),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{Ipv4Addr, TcpListener},
        thread::JoinHandle,
    };

    use super::*;
    use crate::scan::task::{Asker, Priority, RelPath};

    fn push() -> Push {
        let tls = Settings {
            base: String::new(),
            verify: true,
            ca: None,
            own: None,
            proxy: None,
            connect_timeout: PATIENCE,
            timeout: PATIENCE,
            body_max: 0,
            idle_connections: 0,
        };
        Push::new(tls, Some(Secret::new("hush".into())))
    }

    fn task() -> Task {
        Task {
            task_id: "t-1".into(),
            kind: "file_scan".into(),
            root: "zeek".into(),
            path: RelPath(b"a".to_vec()),
            size: None,
            sha256: None,
            priority: Priority::NORMAL,
            submitted_at: 1.0,
            asker: Asker::Api,
            attempt: 1,
            required_capabilities: Vec::new(),
            metadata: serde_json::Map::new(),
            zeek: None,
        }
    }

    /// Answers one connection with these bytes, and gives back what it was asked.
    fn worker(answer: Vec<u8>) -> (u16, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a call");
            let (mut asked, mut part) = (Vec::new(), [0; 4096]);
            // The body is one JSON object with nothing behind it.
            while !asked.ends_with(b"}") {
                let n = stream.read(&mut part).expect("a request");
                assert!(n > 0, "broken off");
                asked.extend_from_slice(&part[..n]);
            }
            let _ = stream.write_all(&answer); // it may have enough before the end
            String::from_utf8_lossy(&asked).into_owned()
        });
        (port, serving)
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
    }

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn a_status_says_all() {
        let rows = [
            ("200 OK", "", Pushed::Accepted),
            ("503 Service Unavailable", "", Pushed::Full),
            ("500 Internal Server Error", "", Pushed::Failed("it answers 500".into())),
            ("401 Unauthorized", "", Pushed::Failed("it refuses our key (401); give both sides the same one".into())),
            (
                "302 Found",
                "Location: http://127.0.0.1:1/task\r\n",
                Pushed::Failed("it sends us elsewhere (302), which is not followed".into()),
            ),
        ];
        for (status, header, want) in rows {
            let (port, serving) = worker(format!("HTTP/1.1 {status}\r\n{header}Content-Length: 2\r\n\r\n{{}}").into_bytes());
            assert_eq!(run(push().task("127.0.0.1", HERE, port, &task())), want, "{status}");
            let asked = serving.join().expect("a worker").to_lowercase();
            assert!(
                asked.starts_with("post /task http/1.1") && asked.contains("x-api-key: hush") && asked.contains("\"task_id\":\"t-1\""),
                "{asked}"
            );
        }
    }

    #[test]
    fn a_long_answer_is_cut_and_its_status_counts() {
        let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n".to_vec();
        answer.resize(answer.len() + (8 << 20), b'x');
        let (port, serving) = worker(answer);
        assert_eq!(run(push().task("127.0.0.1", HERE, port, &task())), Pushed::Accepted);
        serving.join().expect("a worker");
    }

    #[test]
    fn it_is_called_where_it_was_checked_and_nowhere_else() {
        // A name that resolves to nothing, or to another host by now.
        let (port, serving) = worker(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec());
        assert_eq!(run(push().task("worker.invalid", HERE, port, &task())), Pushed::Accepted);
        assert!(serving.join().expect("a worker").to_lowercase().contains(&format!("host: worker.invalid:{port}")));
        assert_eq!(base("w1.example", "10.0.0.7".parse().expect("an address"), 8001), "https://w1.example:8001");
        assert_eq!(base("::1", "::1".parse().expect("an address"), 8001), "http://[::1]:8001");
    }

    #[test]
    fn nobody_there_is_a_failure_with_a_reason() {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let Pushed::Failed(why) = run(push().task("127.0.0.1", HERE, free, &task())) else { panic!("somebody answered") };
        assert!(why.contains("cannot connect to") && !why.contains("hush"), "{why}");
    }
}
