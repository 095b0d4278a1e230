//! A worker against a master of a few lines: real sockets, real time, no scanning.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize},
};

use super::*;
use crate::{
    clock::SystemClock,
    metrics::Board,
    scan::{
        task::{Asker, Priority, RelPath},
        workers::registration::Heartbeat,
    },
};

/// What the master has and has heard.
#[derive(Default)]
struct Heard {
    /// Tasks to be leased, and their bytes with the SHA-256 that the master tells.
    tasks: VecDeque<Task>,
    files: BTreeMap<TaskId, (Vec<u8>, String)>,
    registered: usize,
    beats: usize,
    last_beat: Heartbeat,
    /// Heartbeats are answered with 404 until the next registration.
    forgets: bool,
    outcomes: Vec<Outcome>,
    /// So many results are answered with 500 first.
    refuses_results: usize,
    unregistered: usize,
    log: Vec<String>,
}

#[derive(Clone, Default)]
struct Master(Arc<Mutex<Heard>>);

impl Master {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, listener: TcpListener) {
        let master = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let master = master.clone();
                std::thread::spawn(move || master.answer(stream));
            }
        });
    }

    fn answer(&self, stream: TcpStream) {
        let mut reader = BufReader::new(&stream);
        let (mut line, mut length, mut key) = (String::new(), 0, String::new());
        reader.read_line(&mut line).expect("a request line");
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).expect("a header");
            let Some((name, value)) = header.trim().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().expect("a length"),
                "x-api-key" => key = value.to_owned(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        let (status, header, answer) = if key == "hush" { self.route(line.trim(), &body) } else { (401, String::new(), Vec::new()) };
        let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n{header}\r\n", answer.len());
        let _ = (&stream).write_all(&[head.into_bytes(), answer].concat()); // a worker that ends hangs up
    }

    fn route(&self, line: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
        let mut heard = self.heard();
        heard.log.push(line.to_owned());
        let words: Vec<&str> = line.split([' ', '/']).filter(|word| !word.is_empty()).collect();
        let object = || serde_json::from_slice::<serde_json::Map<String, Value>>(body).expect("an object");
        let plain = |status| (status, String::new(), b"{}".to_vec());
        match &words[..] {
            ["POST", "distributed", "workers", "register", ..] => {
                Registration::parse(&object()).expect("a registration as the master checks it");
                heard.registered += 1;
                heard.forgets = false;
                plain(200)
            }
            ["PUT", "distributed", "workers", "w-1", "heartbeat", ..] => {
                heard.last_beat = Heartbeat::parse(&object()).expect("a heartbeat as the master checks it");
                heard.beats += 1;
                plain(if heard.forgets { 404 } else { 200 })
            }
            ["POST", "distributed", "workers", "w-1", "lease", ..] => {
                let most = object()["max"].as_u64().expect("a number") as usize;
                let n = most.min(heard.tasks.len());
                let tasks: Vec<Task> = heard.tasks.drain(..n).collect();
                drop(heard);
                if tasks.is_empty() {
                    std::thread::sleep(Duration::from_millis(50)); // as if it waited
                }
                (200, String::new(), json!({ "tasks": tasks }).to_string().into_bytes())
            }
            ["GET", "distributed", "tasks", id, "file", ..] => match heard.files.get(*id) {
                Some((bytes, sha256)) => (200, format!("X-Content-SHA256: {sha256}\r\n"), bytes.clone()),
                None => plain(404),
            },
            ["POST", "distributed", "tasks", _, "result", ..] => {
                if heard.refuses_results > 0 {
                    heard.refuses_results -= 1;
                    return plain(500);
                }
                heard.outcomes.push(serde_json::from_slice(body).expect("an outcome"));
                plain(200)
            }
            ["DELETE", "distributed", "workers", "w-1", ..] => {
                heard.unregistered += 1;
                plain(200)
            }
            _ => plain(405),
        }
    }
}

/// Calls every file clean, and remembers what it saw.
#[derive(Default)]
struct Sees {
    bytes: Mutex<Vec<(TaskId, Option<Vec<u8>>)>>,
    /// Scans wait for it.
    holds: AtomicBool,
    at_once: AtomicUsize,
    most: AtomicUsize,
    load: Mutex<Load>,
}

impl Scanner for Arc<Sees> {
    fn has(&self, task: &Task) -> bool {
        task.root == "here"
    }
    fn scan(&self, task: Task, bytes: Option<Vec<u8>>) -> Scanned {
        use std::sync::atomic::Ordering::SeqCst;
        let sees = Arc::clone(self);
        Box::pin(async move {
            let now = sees.at_once.fetch_add(1, SeqCst) + 1;
            sees.most.fetch_max(now, SeqCst);
            while sees.holds.load(SeqCst) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            sees.at_once.fetch_sub(1, SeqCst);
            sees.bytes.lock().expect("no panic").push((task.task_id.clone(), bytes));
            Ok(Outcome { verdict: Verdict::Clean, reasons: Vec::new(), ..Outcome::error(&task, Reason::Io) })
        })
    }
    fn load(&self) -> Load {
        *self.load.lock().expect("no panic")
    }
}

fn task(id: &str, root: &str, size: Option<u64>) -> Task {
    Task {
        task_id: id.into(),
        kind: "file_scan".into(),
        root: root.into(),
        path: RelPath(b"a".to_vec()),
        size,
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

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn worker(port: u16, sees: &Arc<Sees>) -> Arc<Worker> {
    let registration = json!({"worker_id": "w-1", "host": "127.0.0.1", "port": 8001, "max_tasks": 3, "instance_id": "i-1"});
    let master = http::Settings {
        base: format!("http://127.0.0.1:{port}"),
        verify: true,
        ca: None,
        own: None,
        proxy: None,
        connect_timeout: Duration::from_secs(2),
        timeout: Duration::ZERO,
        body_max: 0,
        idle_connections: 0,
    };
    let settings = Settings {
        master,
        key: Some(Secret::new("hush".into())),
        registration: Registration::parse(registration.as_object().expect("an object")).expect("valid"),
        heartbeat: Duration::from_millis(100),
        file_bytes_max: 1000,
        drain: Duration::from_secs(5),
        standing: None,
    };
    Arc::new(Worker::new(settings, Arc::new(Arc::clone(sees)), Arc::new(SystemClock::new())).expect("a worker"))
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// Waits until it is so; ten seconds are for a busy machine.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not within ten seconds: {what}");
}

#[test]
fn a_worker_scans_what_it_leases_and_only_bytes_that_are_the_tasks() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (port, master, sees) = (listener.local_addr().expect("an address").port(), Master::default(), Arc::new(Sees::default()));
    {
        let mut heard = master.heard();
        let right = sha256(b"right");
        type Row<'r> = (&'r str, &'r str, Option<u64>, &'r [u8], &'r str);
        let rows: [Row<'_>; 5] = [
            ("right", "there", Some(5), b"right", &right),
            ("sha", "there", None, b"wrong", &right),
            ("size", "there", Some(6), b"right", &right),
            ("large", "there", Some(1001), b"right", &right),
            ("longer", "there", None, &[0; 1001], &right),
        ];
        for (id, root, size, bytes, sha256) in rows {
            heard.tasks.push_back(task(id, root, size));
            heard.files.insert(id.into(), (bytes.to_vec(), sha256.into()));
        }
        heard.tasks.push_back(task("local", "here", Some(5)));
        heard.tasks.push_back(task("gone", "there", Some(5)));
        heard.refuses_results = 1;
    }
    master.serve(listener);
    let worker = worker(port, &sees);
    run(async {
        let done = async {
            until("all outcomes", || master.heard().outcomes.len() == 6).await;
            until("no task runs", || worker.status()["current_tasks"] == 0).await;
        };
        worker.run(done).await;
    });
    let heard = master.heard();
    let mut outcomes: Vec<(&str, Verdict, &[Reason])> =
        heard.outcomes.iter().map(|o| (o.task_id.as_str(), o.verdict, o.reasons.as_slice())).collect();
    outcomes.sort_by_key(|(id, _, _)| *id);
    let want: [(&str, Verdict, &[Reason]); 6] = [
        ("large", Verdict::Error, &[Reason::TooLarge]),
        ("local", Verdict::Clean, &[]),
        ("longer", Verdict::Error, &[Reason::TooLarge]),
        ("right", Verdict::Clean, &[]),
        ("sha", Verdict::Error, &[Reason::Changed]),
        ("size", Verdict::Error, &[Reason::Changed]),
    ];
    assert_eq!(outcomes, want);
    assert!(heard.outcomes.iter().all(|outcome| outcome.worker_id == "w-1"));
    let mut scanned = sees.bytes.lock().expect("no panic").clone();
    scanned.sort();
    assert_eq!(scanned, [("local".into(), None), ("right".into(), Some(b"right".to_vec()))], "nothing else was scanned");
    assert!(sees.most.load(std::sync::atomic::Ordering::SeqCst) <= 3, "no more than max_tasks at once");
    assert_eq!((heard.registered, heard.unregistered), (1, 1));
    assert_eq!(worker.state(), State::Ready);
    assert_eq!((worker.status()["total_processed"].as_u64(), worker.status()["error_count"].as_u64()), (Some(7), Some(5)));
}

#[test]
fn a_worker_waits_for_its_master_and_registers_again_when_it_is_forgotten() {
    // Nobody listens yet, and the port is kept.
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let (master, sees) = (Master::default(), Arc::new(Sees::default()));
    let mut worker = worker(port, &sees);
    let standing = Board::default().enter("scan");
    Arc::get_mut(&mut worker).expect("nobody else has it").settings.standing = Some(standing.clone());
    run(async {
        let done = async {
            until("it says that nobody is there", || matches!(worker.state(), State::Retrying(_))).await;
            assert_eq!(standing.get(), worker.state(), "the agent shows it at once");
            master.serve(TcpListener::bind(("127.0.0.1", port)).expect("the port"));
            until("it is registered and beats", || master.heard().beats > 1).await;
            assert_eq!((worker.state(), standing.get()), (State::Ready, State::Ready));
            master.heard().forgets = true;
            until("it has registered again", || master.heard().registered > 1).await;
        };
        worker.run(done).await;
    });
    assert_eq!(master.heard().unregistered, 1);
}

#[test]
fn a_heartbeat_tells_how_busy_the_host_is_and_leaves_out_what_nobody_knows() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (port, master, sees) = (listener.local_addr().expect("an address").port(), Master::default(), Arc::new(Sees::default()));
    master.serve(listener);
    let worker = worker(port, &sees);
    let told = |master: &Master| {
        let heard = master.heard();
        (heard.last_beat.cpu_usage, heard.last_beat.memory_usage)
    };
    run(async {
        let done = async {
            until("it beats", || master.heard().beats > 0).await;
            assert_eq!(told(&master), (None, None));
            *sees.load.lock().expect("no panic") = Load { cpu_percent: Some(12.5), memory_percent: Some(100.0), ..Load::default() };
            until("it tells what it knows", || told(&master) == (Some(12.5), Some(100.0))).await;
        };
        worker.run(done).await;
    });
}

#[test]
fn a_refused_key_is_said_and_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (port, master) = (listener.local_addr().expect("an address").port(), Master::default());
    master.serve(listener);
    let mut worker = worker(port, &Arc::new(Sees::default()));
    Arc::get_mut(&mut worker).expect("nobody else has it").settings.key = None;
    run(async {
        let done = until("it says what is wrong", || matches!(worker.state(), State::Holding(_)));
        worker.run(done).await;
    });
    let State::Holding(why) = worker.state() else { panic!("it stands otherwise") };
    assert!(why.contains("401") && why.contains("keys_file"), "{why}");
}

#[test]
fn what_is_brought_is_scanned_once_and_a_full_or_ending_worker_takes_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (port, master, sees) = (listener.local_addr().expect("an address").port(), Master::default(), Arc::new(Sees::default()));
    master.serve(listener);
    let worker = worker(port, &sees);
    sees.holds.store(true, std::sync::atomic::Ordering::SeqCst);
    run(async {
        let offers = async {
            until("it is registered", || master.heard().registered == 1).await;
            for id in ["a", "b", "a", "c"] {
                assert_eq!(worker.offer(task(id, "here", None)), Offered::Accepted);
            }
            assert_eq!(worker.offer(task("d", "here", None)), Offered::Full);
            assert_eq!(worker.status()["current_tasks"], 3);
            worker.drain();
            sees.holds.store(false, std::sync::atomic::Ordering::SeqCst);
            assert_eq!(worker.offer(task("e", "here", None)), Offered::Full);
            std::future::pending().await
        };
        tokio::select! {
            () = worker.run(std::future::pending()) => {}
            () = offers => {}
        }
    });
    let heard = master.heard();
    let mut ids: Vec<&str> = heard.outcomes.iter().map(|outcome| outcome.task_id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["a", "b", "c"], "what ran was finished before the end");
    let last = heard.log.last().map(String::as_str);
    assert_eq!(last, Some("DELETE /distributed/workers/w-1 HTTP/1.1"));
}
