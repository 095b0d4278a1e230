//! Tasks of distributed scanning over a real RabbitMQ and a real Kafka: two nodes, one that owns and shares, one that
//! scans. The broker is killed and paused under load: each accepted task gets one outcome at its owner.
#![cfg_attr(not(feature = "scan"), allow(unused_imports, reason = "what only the tests of RabbitMQ name"))]

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use shipper::{
    clock::SystemClock,
    metrics::State,
    net::kafka::{reader::Reader, sender::Sender, settings::Connection},
    ring::Signal,
    scan::{
        outcome::{Outcome, Reason, Verdict},
        queue::{
            desk::{BROKER, Board, Desk, Resolve},
            kafka,
        },
        settings,
        task::{Asker, Capability, Priority, RelPath, Task},
        tasks::{Limits, Submission, Submitted, Take, TaskFilter, Tasks},
    },
};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::broker::{given, make_topic, services};

/// Tasks of a run.
const TASKS: usize = 600;
/// Seconds until everything must have its outcome; a broker that was killed needs some to come back.
const PATIENCE: Duration = Duration::from_secs(180);
const ALL: [Capability; 4] = [Capability::FileScan, Capability::YaraAnalysis, Capability::NetworkAnalysis, Capability::LogAnalysis];

/// One test at a time: each kills the broker of all, or minds that it is there.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A name that no run before has used: brokers keep what they have.
pub fn fresh(name: &str) -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("{name}-{:x}", since.as_millis())
}

/// A node: a store, a desk, and what scans.
struct Node {
    desk: Desk,
    scans: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    scanner: Option<JoinHandle<()>>,
    /// Kept as long as the store.
    _dir: TempDir,
}

impl Node {
    /// - `slots`: scans at once; 0 only shares.
    /// - `root`: the one root that it has.
    fn new(name: &str, slots: usize, root: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { size_max: 10_000, backoff: vec![100_000_000], task_ttl: 30_000_000_000, ..Limits::default() };
        let tasks = Tasks::open(dir.path(), limits, Arc::new(|_, _| Vec::new())).unwrap();
        let resolve: Resolve = Arc::new(move |asked, path| {
            let is_below = asked.is_none_or(|asked| asked == root) && !path.starts_with(b"/");
            is_below.then(|| (root.to_owned(), RelPath(path.to_vec())))
        });
        let desk = Desk::new(tasks, name.into(), resolve, Arc::new(SystemClock::new()), slots, Arc::new(Board::new("test")));
        let (scans, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let scanner = (slots > 0).then(|| {
            let (tasks, scans, is_over) = (desk.tasks.clone(), scans.clone(), is_over.clone());
            std::thread::spawn(move || {
                while !is_over.load(SeqCst) {
                    let leases = tasks.lease("child", &ALL, slots, Take::Started).wait().unwrap();
                    if leases.is_empty() {
                        tasks.wait_ready(Duration::from_millis(100));
                    }
                    for lease in leases {
                        scans.fetch_add(1, SeqCst);
                        let found = Outcome { verdict: Verdict::Clean, reasons: Vec::new(), ..Outcome::error(&lease.task, Reason::Io) };
                        tasks.finish("child", found).wait().unwrap();
                    }
                }
            })
        });
        Self { desk, scans, is_over, scanner, _dir: dir }
    }

    /// Accepts so many files.
    fn accept(&self, prefix: &str, count: usize, root: &str) {
        let of = |n: usize| Submission {
            task: Task {
                task_id: format!("{prefix}-{n}"),
                kind: "file_scan".into(),
                root: root.into(),
                path: RelPath(format!("{prefix}/file-{n}").into_bytes()),
                size: None,
                sha256: None,
                priority: Priority::new(1 + (n % 10) as i64).unwrap(),
                submitted_at: 1.0,
                asker: Asker::Api,
                attempt: 0,
                required_capabilities: Vec::new(),
                metadata: serde_json::Map::new(),
                zeek: None,
            },
            identity: None,
        };
        let accepted = self.desk.tasks.submit((0..count).map(of).collect()).wait().unwrap();
        assert!(accepted.iter().all(|each| matches!(each, Submitted::Queued(_))));
    }

    fn done(&self) -> u64 {
        self.desk.tasks.figures().done
    }

    #[track_caller]
    fn until_done(&self, count: usize) {
        let since = Instant::now();
        while self.done() < count as u64 {
            let left = || {
                self.desk.tasks.tasks(TaskFilter::default(), None, 10_000).wait().unwrap().into_iter().filter(|each| each.outcome.is_none())
            };
            let left = || left().map(|each| (each.task.task_id, each.state, each.dead)).collect::<Vec<_>>();
            assert!(
                since.elapsed() < PATIENCE,
                "{} of {count} have an outcome: {:?}, {:?}",
                self.done(),
                self.desk.tasks.figures(),
                left()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let figures = self.desk.tasks.figures();
        assert_eq!((figures.done, figures.queued, figures.leased, figures.dead), (count as u64, 0, 0, 0));
        let all = self.desk.tasks.tasks(TaskFilter::default(), None, 10_000).wait().unwrap();
        assert!(all.iter().all(|task| task.outcome.as_ref().is_some_and(|outcome| outcome.verdict == Verdict::Clean)));
    }

    fn until(&self, what: &str, is_so: impl Fn(&Board) -> bool) {
        let since = Instant::now();
        while !is_so(&self.desk.board) {
            assert!(since.elapsed() < PATIENCE, "{what}: {:?}", self.desk.board);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.is_over.store(true, SeqCst);
        if let Some(scanner) = self.scanner.take() {
            let _ = scanner.join(); // it has said why
        }
    }
}

/// Drives a broker on a thread of its own, as the edge does.
struct Running {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl Running {
    fn new<F>(run: impl FnOnce(Stop) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<(), String>>,
    {
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(Stop(stopped)))
        });
        Self { stop, thread: Some(thread) }
    }

    fn end(mut self) -> Result<(), String> {
        self.stop.send_replace(true);
        self.thread.take().unwrap().join().unwrap()
    }
}

struct Stop(watch::Receiver<bool>);

impl Stop {
    async fn wait(mut self) {
        let _ = self.0.wait_for(|is_over| *is_over).await; // the other end is gone with the test
    }
}

fn on_kafka(brokers: &str, topic: &str, desk: &Desk) -> Running {
    let settings = settings::Kafka { brokers: vec![brokers.to_owned()], topic: topic.into(), group: format!("g-{topic}") };
    let connection = Connection { client_id: "test".into(), ..Connection::default() };
    let desk = desk.clone();
    Running::new(move |stop| async move {
        kafka::Broker::new(connection, settings, desk).run(stop.wait()).await;
        Ok(())
    })
}

#[test]
fn over_kafka_each_task_gets_one_outcome_while_the_broker_dies_and_stands_still() {
    let Some(brokers) = given("KAFKA_SCAN_BROKERS") else { return };
    let _alone = alone();
    let topic = &fresh("scan-tasks");
    for name in [".high", "", ".low", ".dead", ".results"] {
        make_topic("kafka-scan", &format!("{topic}{name}"), 2, &[]);
    }
    let (owner, worker, other) = (Node::new("owner", 0, "zeek"), Node::new("worker", 4, "zeek"), Node::new("other", 2, "zeek"));
    let running = [on_kafka(&brokers, topic, &owner.desk), on_kafka(&brokers, topic, &worker.desk), on_kafka(&brokers, topic, &other.desk)];
    owner.accept("first", TASKS, "zeek");
    owner.until("some have come back", |board| board.returned.load(SeqCst) > TASKS as u64 / 10);
    services(&["kill", "kafka-scan"]);
    owner.accept("second", TASKS, "zeek");
    std::thread::sleep(Duration::from_secs(1));
    services(&["start", "kafka-scan"]);
    owner.until("more have come back", |board| board.returned.load(SeqCst) > TASKS as u64 / 2);
    services(&["pause", "kafka-scan"]);
    std::thread::sleep(Duration::from_secs(3));
    services(&["resume", "kafka-scan"]);
    owner.until_done(2 * TASKS);
    let scans = worker.scans.load(SeqCst) + other.scans.load(SeqCst);
    eprintln!("kafka: {} tasks, {scans} scans ({} and {})", 2 * TASKS, worker.scans.load(SeqCst), other.scans.load(SeqCst));
    assert!(scans >= 2 * TASKS as u64);
    assert!(worker.scans.load(SeqCst) > 0 && other.scans.load(SeqCst) > 0, "partitions are shared");

    // What nobody understands is kept as it came, and stops nobody.
    let connection = Connection { brokers: vec![brokers.clone()], client_id: "test".into(), ..Connection::default() };
    let sender = Sender::open(&connection, Arc::new(Signal::default())).unwrap();
    for (value, key) in
        [(&b"\xffgarbage"[..], "x"), (br#"{"task":{"file_path":"/etc/passwd"}}"#, "y"), (br#"{"task":{"file_path":"good"}}"#, "z")]
    {
        let mut sent = sender.send(topic, key, value);
        let since = Instant::now();
        while sent.try_recv().is_err() {
            sender.serve();
            assert!(since.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let mut dead = Reader::open(&connection, &format!("{topic}.dead"), PATIENCE).unwrap();
    let mut found = Vec::new();
    let since = Instant::now();
    while found.len() < 2 && since.elapsed() < PATIENCE {
        found.extend(dead.next(Duration::from_millis(200)).unwrap().map(|read| (read.key.unwrap_or_default(), read.payload)));
    }
    found.sort();
    let want =
        [(b"not_allowed".to_vec(), br#"{"task":{"file_path":"/etc/passwd"}}"#.to_vec()), (b"not_json".to_vec(), b"\xffgarbage".to_vec())];
    assert_eq!(found, want);
    let since = Instant::now();
    while worker.scans.load(SeqCst) + other.scans.load(SeqCst) == scans {
        assert!(since.elapsed() < PATIENCE, "a task of a program that wants no answer is scanned");
        std::thread::sleep(Duration::from_millis(20));
    }
    for each in running {
        each.end().unwrap();
    }
}

#[test]
fn a_node_without_the_root_says_so_and_the_owner_scans_by_itself() {
    let Some(brokers) = given("KAFKA_SCAN_BROKERS") else { return };
    let _alone = alone();
    let topic = &fresh("scan-elsewhere");
    for name in [".high", "", ".low", ".dead", ".results"] {
        make_topic("kafka-scan", &format!("{topic}{name}"), 1, &[]);
    }
    let elsewhere = Node::new("elsewhere", 2, "another");
    let running = [on_kafka(&brokers, topic, &elsewhere.desk)];
    // The owner shares first, and only then has somebody who scans.
    let owner = Node::new("owner", 0, "zeek");
    let shares = on_kafka(&brokers, topic, &owner.desk);
    owner.accept("a", 20, "zeek");
    owner.until("all have come back", |board| board.returned.load(SeqCst) == 20);
    let since = Instant::now();
    let mut left = 20;
    while left > 0 {
        assert!(since.elapsed() < PATIENCE, "{left} are left: {:?}", owner.desk.tasks.figures());
        for lease in owner.desk.tasks.lease("child", &ALL, 8, Take::Started).wait().unwrap() {
            let found = Outcome { verdict: Verdict::Clean, reasons: Vec::new(), ..Outcome::error(&lease.task, Reason::Io) };
            owner.desk.tasks.finish("child", found).wait().unwrap();
            left -= 1;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    owner.until_done(20);
    assert_eq!((elsewhere.scans.load(SeqCst), owner.desk.board.bad.load(SeqCst)), (0, 0));
    shares.end().unwrap();
    running.into_iter().for_each(|each| each.end().unwrap());
}

#[cfg(feature = "scan")]
mod rabbitmq {
    use shipper::scan::queue::rabbitmq::{Broker, Place};

    use super::*;

    fn settings_of(queue: &str, is_quorum: bool) -> Option<settings::Rabbitmq> {
        Some(settings::Rabbitmq {
            url: given("RABBITMQ_URL")?,
            username: Some("shipper".into()),
            password_file: given("RABBITMQ_PASSWORD_FILE").map(Into::into),
            queue: queue.into(),
            is_quorum,
            tls: settings::Tls::default(),
        })
    }

    fn broker(queue: &str, is_quorum: bool, size_max: u64, desk: &Desk) -> Option<Broker> {
        Some(Broker::new(settings_of(queue, is_quorum)?, desk.clone(), size_max))
    }

    /// Asks whether a queue is as it should be, and makes it.
    fn check(settings: settings::Rabbitmq, size_max: u64) -> Result<(), String> {
        one(Place::new(settings, "owner".into(), size_max).check())
    }

    fn on_rabbitmq(queue: &str, is_quorum: bool, size_max: u64, desk: &Desk) -> Option<Running> {
        let broker = broker(queue, is_quorum, size_max, desk)?;
        Some(Running::new(move |stop| async move { broker.run(stop.wait()).await }))
    }

    fn one<T>(asked: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(asked)
    }

    /// Messages of a queue, as the broker counts them.
    fn messages(queue: &str) -> Option<u64> {
        let listed = services(&["tool", "rabbitmq", "list_queues", "-q", "name", "messages"]);
        listed.lines().filter_map(|line| line.split_once('\t')).find(|(name, _)| *name == queue).and_then(|(_, n)| n.trim().parse().ok())
    }

    /// Publishes bytes as a program of others does.
    fn publish(queue: &str, body: &str) {
        let erlang = format!(
            "rabbit_basic:publish(rabbit_misc:r(<<\"/\">>, exchange, <<>>), <<\"{queue}\">>, [], <<{}>>).",
            body.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(",")
        );
        services(&["tool", "rabbitmq", "eval", &erlang]);
    }

    /// Makes the queues, and has RabbitMQ write down which quorum queues it has. 3.10 does so by itself only seconds later;
    /// killed before, it has lost a new queue and all in it, and starts another of that name that never gets a leader
    /// (rabbitmq-server issue 15725). No client mends that.
    fn made(settings: settings::Rabbitmq) {
        check(settings, 10_000).unwrap();
        services(&["tool", "rabbitmq", "eval", "[dets:sync(Table) || Table <- [ra_directory_reverse, ra_log_meta]]."]);
    }

    fn run(queue: &str, is_quorum: bool) {
        let _alone = alone();
        let (owner, worker) = (Node::new("owner", 0, "zeek"), Node::new("worker", 4, "zeek"));
        let Some(settings) = settings_of(queue, is_quorum) else { return };
        made(settings);
        let shares = on_rabbitmq(queue, is_quorum, 10_000, &owner.desk).unwrap();
        let takes = on_rabbitmq(queue, is_quorum, 10_000, &worker.desk).unwrap();
        owner.accept("first", TASKS, "zeek");
        owner.until("some have come back", |board| board.returned.load(SeqCst) > TASKS as u64 / 10);
        services(&["kill", "rabbitmq"]);
        owner.accept("second", TASKS, "zeek");
        owner.until("it says that the broker is away", |board| matches!(board.state(), State::Retrying(_)));
        services(&["start", "rabbitmq"]);
        owner.until("more have come back", |board| board.returned.load(SeqCst) > TASKS as u64 / 2);
        services(&["pause", "rabbitmq"]);
        std::thread::sleep(Duration::from_secs(3));
        services(&["resume", "rabbitmq"]);
        owner.until_done(2 * TASKS);
        let scans = worker.scans.load(SeqCst);
        eprintln!("rabbitmq, quorum {is_quorum}: {} tasks, {scans} scans", 2 * TASKS);
        assert_eq!(worker.desk.board.state(), State::Ready);

        publish(queue, "{\"task\":{\"file_path\":\"../x\",\"priority\":99}}");
        publish(queue, "{\"task\":{\"file_path\":\"good\"}}");
        let since = Instant::now();
        while worker.scans.load(SeqCst) == scans || messages(&format!("{queue}.dead")) != Some(1) {
            assert!(since.elapsed() < PATIENCE, "one is scanned, one is dead: {:?}", messages(&format!("{queue}.dead")));
            std::thread::sleep(Duration::from_millis(100));
        }
        // The ack follows the scan, and the count of a quorum queue follows the ack.
        while messages(queue) != Some(0) {
            assert!(since.elapsed() < PATIENCE, "everything is acked: {:?} are left", messages(queue));
            std::thread::sleep(Duration::from_millis(100));
        }
        shares.end().unwrap();
        takes.end().unwrap();
        assert_eq!(messages(queue), Some(0), "nothing comes back");
        assert_eq!(owner.desk.tasks.figures().in_flight.get(BROKER), None);
    }

    #[test]
    fn over_a_quorum_queue_each_task_gets_one_outcome_while_the_broker_dies_and_stands_still() {
        run(&fresh("scan-quorum"), true);
    }

    #[test]
    fn over_a_classic_queue_as_well() {
        run(&fresh("scan-classic"), false);
    }

    #[test]
    fn a_queue_that_does_not_answer_is_away_until_it_does() {
        let _alone = alone();
        let (owner, worker) = (Node::new("owner", 0, "zeek"), Node::new("worker", 4, "zeek"));
        let queue = &fresh("scan-silent");
        let Some(shares) = on_rabbitmq(queue, true, 10_000, &owner.desk) else { return };
        owner.accept("before", 10, "zeek");
        let process = |what: &str| services(&["tool", "rabbitmq", "eval", &format!("sys:{what}(whereis('%2F_{queue}')).")]);
        owner.until("they are in the queue", |board| board.shared.load(SeqCst) == 10);
        // As a queue whose leader is gone: RabbitMQ has it, and says that it runs.
        process("suspend");
        let takes = on_rabbitmq(queue, true, 10_000, &worker.desk).unwrap();
        owner.accept("after", 100, "zeek");
        for node in [&owner, &worker] {
            let says = |board: &Board| matches!(board.state(), State::Retrying(why) if why.contains(&format!("quorum_status {queue}")));
            node.until("it says what to look at", says);
        }
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(15) {
            assert_ne!(owner.desk.board.state(), State::Ready, "a connection is no proof");
            std::thread::sleep(Duration::from_millis(20));
        }
        process("resume");
        owner.until_done(110);
        for node in [&owner, &worker] {
            node.until("it is back", |board| board.state() == State::Ready);
        }
        shares.end().unwrap();
        takes.end().unwrap();
    }

    #[test]
    fn a_queue_with_other_arguments_is_named_and_the_agent_does_not_start() {
        let _alone = alone();
        let node = Node::new("owner", 0, "zeek");
        let queue = &fresh("scan-unequal");
        let Some(settings) = settings_of(queue, true) else { return };
        check(settings.clone(), 500).unwrap();
        let why = check(settings.clone(), 700).unwrap_err();
        assert!(why.contains(&format!("queue {queue}")) && why.contains("x-max-length") && why.contains("another name"), "{why}");
        let second = broker(queue, true, 700, &node.desk).unwrap();
        assert_eq!(one(second.run(std::future::pending())).unwrap_err(), why);
        assert!(check(settings_of(queue, false).unwrap(), 500).unwrap_err().contains("x-queue-type"));
    }

    #[test]
    fn a_full_queue_gives_tasks_back_and_a_wrong_password_is_said() {
        let _alone = alone();
        let node = Node::new("owner", 0, "zeek");
        let queue = &fresh("scan-full");
        let Some(shares) = on_rabbitmq(queue, false, 5, &node.desk) else { return };
        node.accept("a", 20, "zeek");
        node.until("five are there and the others are not", |board| board.shared.load(SeqCst) == 5 && board.refused.load(SeqCst) > 0);
        let since = Instant::now();
        while messages(queue) != Some(5) {
            assert!(since.elapsed() < PATIENCE, "{:?}", messages(queue));
            std::thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(node.desk.tasks.figures().dead, 0, "nobody tried, so nothing is dead");
        shares.end().unwrap();

        let nobody = settings::Rabbitmq { username: Some("nobody".into()), ..settings_of(queue, false).unwrap() };
        let why = check(nobody, 5).unwrap_err();
        assert!(why.contains("refuses us") && !why.contains("shipper-secret"), "{why}");
        let nowhere = settings::Rabbitmq { url: "amqp://127.0.0.1:1/%2f".into(), ..settings_of(queue, true).unwrap() };
        check(nowhere, 5).expect("a broker that is away may come");
    }

    /// The TLS port of that broker wants a certificate of its CA, and has one that the CA vouches for.
    #[cfg(feature = "amqp-tls")]
    #[test]
    fn over_tls_the_ca_vouches_for_the_broker_and_our_certificate_for_us() {
        let (Some(plain), Some(url), Some(certs)) =
            (settings_of(&fresh("scan-tls"), false), given("RABBITMQ_TLS_URL"), given("RABBITMQ_CERTS"))
        else {
            return;
        };
        let file = |name: &str| std::path::Path::new(&certs).join(name);
        let (ca, own) = (Some(file("ca.pem")), Some((file("alice.pem"), file("alice.key"))));
        let with = |ca: Option<std::path::PathBuf>, own: Option<_>| {
            check(settings::Rabbitmq { url: url.clone(), tls: settings::Tls { ca, own }, ..plain.clone() }, 5)
        };
        with(ca.clone(), own.clone()).unwrap();
        assert_eq!(messages(&plain.queue), Some(0), "it has made the queue");
        let named = |why: Result<(), String>, what: &str| {
            let why = why.unwrap_err();
            assert!(why.contains(what) && why.contains("scan.queue.rabbitmq.tls"), "{why}");
        };
        named(with(None, own.clone()), "UnknownIssuer");
        named(with(Some(file("nothing.pem")), own), "nothing.pem");
        named(with(ca, Some((file("alice.pem"), file("ca.pem")))), "ca.pem: has no PRIVATE KEY");
    }
}
