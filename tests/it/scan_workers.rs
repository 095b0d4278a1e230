//! One master and three workers on one host, killed and paused while files come: every file has one answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Signal, kill_process};
use serde_json::Value;
use shipper::scan::{
    outcome::Verdict,
    settings::Settings,
    tasks::{Limits, State, TaskFilter, Tasks},
};

use crate::scan::running::{Agent, RULES, alerts, file, wait_for};

/// Files of a run; `SCAN_FILES` says otherwise.
fn files() -> usize {
    std::env::var("SCAN_FILES").map_or(600, |text| text.parse().expect("SCAN_FILES is a number"))
}

const WORKERS: usize = 3;
const MASTER_KILLS: usize = 3;

fn write_configs(dir: &Path, port: u16) -> (String, Vec<String>) {
    let at = |name: &str| dir.join(name).display().to_string();
    for folder in ["files", "rules"] {
        fs::create_dir_all(dir.join(folder)).unwrap();
    }
    fs::write(dir.join("rules/test.yar"), RULES).unwrap();
    let (root, rules) =
        (at("files"), format!("[scan.rules]\npaths = [{:?}]\n[scan.workers]\nheartbeat_s = 1\noffline_s = 4\n", at("rules")));
    let write = |name: &str, text: String| {
        let path = dir.join(format!("{name}.toml"));
        fs::write(&path, format!("drain_for = \"5s\"\n[state]\ndir = {:?}\n[scan]\n{text}", at(name))).unwrap();
        path.display().to_string()
    };
    let master = format!(
        "role = \"master\"\nsettle_s = 2\nroots = [{{ name = \"zeek\", path = {root:?} }}]\n\
         [scan.queue]\nattempts_max = 50\nsize_max = 20000\nbackoff_s = [1]\n{rules}\
         [api]\nlisten = \"127.0.0.1:{port}\"\nrate = \"1000000/minute\"\nregister_rate = \"1000000/minute\"\n\
         [sources.scan]\nkind = \"scan\"\n[handlers.scan]\nkind = \"scan\"\ninputs = [\"scan\"]\n\
         [sinks.alerts]\nkind = \"file\"\ninputs = [\"scan.alert\"]\npath = {:?}\n",
        at("alerts.json")
    );
    let worker = |n: usize| {
        // The last one has no such folder, and is sent the bytes.
        let roots =
            if n + 1 < WORKERS { format!("roots = [{{ name = \"zeek\", path = {root:?}, watch = false }}]\n") } else { String::new() };
        let joins = format!("[scan.worker]\nid = \"worker-{n}\"\nmaster = \"http://127.0.0.1:{port}\"\n");
        write(&format!("worker-{n}"), format!("role = \"worker\"\nchildren = 1\n{roots}{joins}{rules}"))
    };
    let workers = (0..WORKERS).map(worker).collect();
    (write("master", master), workers)
}

/// What the master answers; `None` while it is away.
fn ask(port: u16, path: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: master\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()
}

/// Tasks of a state, up to a page of them.
fn count(port: u16, state: &str) -> Option<usize> {
    ask(port, &format!("/distributed/tasks?state={state}&limit=1000"))?["tasks"].as_array().map(Vec::len)
}

/// Numbers that look like chance and are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// A worker, and until when it stands still.
struct Hand {
    agent: Option<Agent>,
    paused_until: Option<Instant>,
}

#[test]
fn three_workers_that_are_killed_and_paused_and_a_master_that_is_killed_leave_one_answer_for_each_file() {
    let count_of_files = files();
    let dir = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (master_config, worker_configs) = write_configs(dir.path(), port);
    let mut master = Agent::start(&master_config);
    wait_for("the master does not answer", 60, || ask(port, "/distributed/status").is_some());
    let start = |n: usize| Hand { agent: Some(Agent::start(&worker_configs[n])), paused_until: None };
    let mut hands: Vec<Hand> = (0..WORKERS).map(start).collect();

    let root = dir.path().join("files");
    let writer = thread::spawn(move || {
        for n in 0..count_of_files {
            let (name, text, _) = file(n);
            fs::write(root.join(name), text).unwrap();
            thread::sleep(Duration::from_millis(20).min(Duration::from_secs(60) / u32::try_from(count_of_files).unwrap()));
        }
    });
    let (mut dice, mut kills, mut pauses, mut master_kills) = (Dice(7), 0, 0, 0);
    while !writer.is_finished() || master_kills < MASTER_KILLS || kills == 0 || pauses == 0 {
        thread::sleep(Duration::from_millis(800 + dice.below(1200)));
        for hand in &mut hands {
            if hand.paused_until.is_some_and(|until| until <= Instant::now()) {
                kill_process(hand.agent.as_ref().unwrap().pid(), Signal::CONT).unwrap();
                hand.paused_until = None;
            }
        }
        let chosen = usize::try_from(dice.below(WORKERS as u64)).unwrap();
        match dice.below(5) {
            0 | 1 if master_kills < MASTER_KILLS => {
                master.kill();
                master = Agent::start(&master_config);
                master_kills += 1;
            }
            2 | 3 if hands[chosen].paused_until.is_none() => {
                hands[chosen].agent.take().unwrap().kill();
                hands[chosen] = start(chosen);
                kills += 1;
            }
            _ if hands[chosen].paused_until.is_none() => {
                // Longer than a worker may be silent, now and then.
                kill_process(hands[chosen].agent.as_ref().unwrap().pid(), Signal::STOP).unwrap();
                hands[chosen].paused_until = Some(Instant::now() + Duration::from_millis(500 + dice.below(7000)));
                pauses += 1;
            }
            _ => {}
        }
    }
    writer.join().unwrap();
    for hand in hands.iter().filter(|hand| hand.paused_until.is_some()) {
        kill_process(hand.agent.as_ref().unwrap().pid(), Signal::CONT).unwrap();
    }
    let patience = 300 + u64::try_from(count_of_files).unwrap() / 10;
    let is_known = || ask(port, "/distributed/status").is_some_and(|status| status["message_queue"]["queue_size"] == 0);
    let is_over = || is_known() && count(port, "queued") == Some(0) && count(port, "leased") == Some(0);
    let expected: BTreeSet<(String, String)> =
        (0..count_of_files).flat_map(|n| file(n).2.iter().map(move |rule| (file(n).0, (*rule).to_owned()))).collect();
    wait_for("not every file has its answer and every alert is out", patience, || is_over() && alerts(dir.path()).len() >= expected.len());
    hands.into_iter().for_each(|hand| hand.agent.unwrap().stop());
    master.stop();

    let store = Tasks::open(&dir.path().join("master"), Limits::new(&Settings::default()), Arc::new(|_, _| Vec::new())).unwrap();
    let all = store.tasks(TaskFilter::default(), None, 10 * count_of_files).wait().unwrap();
    let (mut by_name, mut by_worker) = (BTreeMap::<String, Vec<_>>::new(), BTreeMap::<String, usize>::new());
    for standing in all {
        by_name.entry(standing.task.path.lossy().into_owned()).or_default().push(standing);
    }
    assert_eq!(by_name.len(), count_of_files, "every file is known");
    for n in 0..count_of_files {
        let (name, _, rules) = file(n);
        let [standing] = &by_name[&name][..] else { panic!("{name} has {} tasks", by_name[&name].len()) };
        assert_eq!(standing.state, State::Done, "{name}: {:?}", standing.dead);
        let outcome = standing.outcome.as_ref().unwrap();
        let found: Vec<&str> = outcome.matches.iter().map(|found| found.rule.as_str()).collect();
        assert_eq!((found.as_slice(), outcome.partial), (rules, false), "{name}");
        assert_eq!(outcome.verdict, if rules.is_empty() { Verdict::Clean } else { Verdict::Matched }, "{name}");
        *by_worker.entry(outcome.worker_id.clone()).or_default() += 1;
    }
    let told = alerts(dir.path());
    assert_eq!(told.keys().cloned().collect::<BTreeSet<_>>(), expected, "each alert at least once, and no other");
    assert!(told.values().all(|tasks| tasks.len() == 1), "an alert that came twice has one key");
    eprintln!(
        "{count_of_files} files, workers killed {kills} and paused {pauses} times, the master killed {master_kills} times: by worker {by_worker:?}"
    );
    assert!((0..WORKERS).all(|n| by_worker.contains_key(&format!("worker-{n}"))), "{by_worker:?}");
    store.close();
}
