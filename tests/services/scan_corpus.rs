//! Every sample of the corpus through two real agents: one finds the files and owns their answers, the other scans. The
//! answer at the owner is that of the sample's row, whichever queue is between them: the store itself, RabbitMQ or Kafka.
//! And an agent whose queue a person must mend first does not start.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use shipper::scan::{
    outcome::{Outcome, Reason, Verdict},
    settings::Settings,
    tasks::{Limits, State, TaskFilter, Tasks},
};

use crate::{
    broker::{given, make_topic},
    scan_queues::{alone, fresh},
};

/// For all samples, with YARA compiled without optimisation.
const PATIENCE: Duration = Duration::from_secs(600);

/// The corpus, if it is there.
fn corpus() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let dir = std::env::var_os("SHIPPER_CORPUS").map_or_else(beside, PathBuf::from).join("yara");
    if !dir.join("expected.jsonl").is_file() {
        eprintln!("skipped: no corpus at {}; SHIPPER_CORPUS says where it is", dir.display());
        return None;
    }
    Some(dir)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if !path.is_dir() {
            fs::write(to.join(name), fs::read(&path).unwrap()).unwrap();
        } else if name != "bad" {
            copy(&path, &to.join(name));
        }
    }
}

/// A folder with samples and rules; agents by name.
struct House(tempfile::TempDir);

impl House {
    /// With the samples and the rules of our own; `None` where there is no corpus, or no python3 to make the samples.
    fn of_corpus() -> Option<(Self, Vec<Value>)> {
        let corpus = corpus()?;
        let house = Self(tempfile::tempdir().unwrap());
        let made = Command::new("python3").arg(corpus.join("gen_samples.py")).arg(house.samples()).arg("--big").output();
        match made {
            Ok(made) => assert!(made.status.success(), "gen_samples.py: {}", String::from_utf8_lossy(&made.stderr)),
            Err(error) => {
                eprintln!("skipped: python3 makes the samples: {error}");
                return None;
            }
        }
        copy(&corpus.join("own"), &house.0.path().join("rules/own"));
        let rows = fs::read_to_string(corpus.join("expected.jsonl")).unwrap();
        Some((house, rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect()))
    }
    /// A rule of the corpus asks for this name.
    fn samples(&self) -> PathBuf {
        self.0.path().join("extract_files")
    }
    fn state(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("state-{name}"))
    }

    /// Writes the config of an agent.
    ///
    /// - `scan`: settings of `[scan]` of its own; `more`: whole sections.
    fn config(&self, name: &str, watch: bool, scan: &str, more: &str) -> PathBuf {
        let rules = self.0.path().join("rules");
        fs::create_dir_all(&rules).unwrap();
        fs::create_dir_all(self.samples()).unwrap();
        let text = format!(
            r#"
instance = "{name}"
drain_for = "5s"
[state]
dir = {:?}
[scan]
roots = [{{ name = "zeek", path = {:?}, watch = {watch}, depth = 0 }}]
settle_s = 1
file_bytes_max = "64 MiB"
timeout_s = 40
children = 2
{scan}
[scan.unpack]
depth_max = 0
[scan.rules]
paths = [{rules:?}]
reload_s = 0
[sources.scan]
kind = "scan"
[handlers.scan]
kind = "scan"
inputs = ["scan"]
[sinks.alerts]
kind = "file"
inputs = ["scan.alert"]
path = {:?}
{more}
"#,
            self.state(name),
            self.samples(),
            self.0.path().join(format!("{name}.json")),
        );
        let path = self.0.path().join(format!("{name}.toml"));
        fs::write(&path, text).unwrap();
        path
    }
}

fn shipper(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shipper")).args(args).output().unwrap()
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

struct Agent(Child);

impl Agent {
    fn start(config: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shipper"));
        Self(command.args(["run", "--engine", "pread", "--config"]).arg(config).stdout(Stdio::null()).spawn().unwrap())
    }
    fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success(), "a clean stop");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it has ended, unless the test failed
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Tasks of an agent that are in this state, as its metrics say.
fn tasks(port: u16, key: &str, state: &str) -> usize {
    let url = format!("http://127.0.0.1:{port}/metrics");
    let page = Command::new("curl").args(["-s", "-H", &format!("X-API-Key: {key}"), &url]).output().unwrap();
    let row = format!("shipper_scan_tasks{{state=\"{state}\"}} ");
    String::from_utf8_lossy(&page.stdout).lines().find_map(|line| line.strip_prefix(&row)?.parse().ok()).unwrap_or(0)
}

/// Scans all samples by two agents with this queue between them, and compares the owner's answers with the rows.
fn check(house: &House, rows: &[Value], kind: &str, queue: &str) {
    let (port, other) = (free_port(), free_port());
    let keys = house.0.path().join(format!("{kind}.keys"));
    let new = |name: &str, role: &[&str]| {
        let into = ["--into", keys.to_str().unwrap()];
        let made = shipper(&[&["keys", "new", "--name", name, "--role"][..], role, &into[..]].concat());
        assert!(made.status.success(), "{}", told(&made));
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    };
    let viewer = new("viewer", &["viewer"]);
    let (owner, worker) = (format!("owner-{kind}"), format!("worker-{kind}"));
    let key = new("worker", &["worker", "--worker", &worker]);
    let key_file = house.0.path().join(format!("{kind}.key"));
    fs::write(&key_file, format!("{key}\n")).unwrap();
    let api = |port: u16| format!("[api]\nlisten = \"127.0.0.1:{port}\"\nkeys_file = {keys:?}\n");
    let masters = format!("role = \"master\"\n{queue}");
    let of_owner = house.config(&owner, true, &masters, &format!("{}[scan.workers]\nhosts = [\"127.0.0.0/8\"]\n", api(port)));
    let of_worker = if queue.is_empty() {
        let joins = format!(
            "role = \"worker\"\nworker.master = \"http://127.0.0.1:{port}\"\nworker.id = \"{worker}\"\nworker.key_file = {key_file:?}\nworker.tasks_max = 2"
        );
        house.config(&worker, false, &joins, &api(other))
    } else {
        house.config(&worker, false, queue, "")
    };
    let agents = [Agent::start(&of_owner), Agent::start(&of_worker)];
    let since = Instant::now();
    let mut done = 0;
    while done < rows.len() {
        let dead = tasks(port, &viewer, "dead");
        assert!(since.elapsed() < PATIENCE && dead == 0, "{kind}: {done} of {} have an answer, {dead} are dead", rows.len());
        std::thread::sleep(Duration::from_millis(300));
        done = tasks(port, &viewer, "done");
    }
    agents.into_iter().for_each(Agent::stop);

    let store = Tasks::open(&house.state(&owner), Limits::new(&Settings::default()), Arc::new(|_, _| Vec::new())).unwrap();
    let all = store.tasks(TaskFilter::default(), None, 10 * rows.len()).wait().unwrap();
    store.close();
    let outcomes: BTreeMap<String, Outcome> = all
        .into_iter()
        .map(|standing| {
            assert_eq!(standing.state, State::Done, "{kind}: {:?}", standing.task);
            (standing.task.path.lossy().into_owned(), standing.outcome.unwrap())
        })
        .collect();
    let wrong: Vec<String> = rows.iter().filter_map(|row| compare(row, &outcomes).err()).collect();
    assert!(wrong.is_empty(), "{kind}: {} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    assert_eq!(outcomes.len(), rows.len(), "{kind}: no file but the samples");
    assert!(outcomes.values().all(|outcome| !outcome.worker_id.contains("owner")), "{kind}: the owner scanned nothing by itself");
    eprintln!("{kind}: {} rows in {:.0} s", rows.len(), since.elapsed().as_secs_f32());
}

/// - Errors: what is not as the row says.
fn compare(row: &Value, outcomes: &BTreeMap<String, Outcome>) -> Result<(), String> {
    let name = row["sample"].as_str().unwrap();
    let outcome = outcomes.get(name).ok_or_else(|| format!("{name} has no answer"))?;
    // Files under another zlib are other bytes.
    if row["bytes_depend_on_zlib"] != true {
        let hashes = [&outcome.md5, &outcome.sha1, &outcome.sha256].map(String::as_str);
        let same = ["md5", "sha1", "sha256"].map(|hash| row[hash].as_str().unwrap()) == hashes && row["size"] == outcome.size;
        if !same {
            return Err(format!("{name} is other bytes: {hashes:?}, {} long", outcome.size));
        }
    }
    // The rows were made without unpacking: what says so is no flaw.
    let reasons: Vec<Reason> = outcome.reasons.iter().copied().filter(|reason| *reason != Reason::LimitDepth).collect();
    let is_packed = outcome.reasons.contains(&Reason::LimitDepth);
    if row["own"] == "timeout" {
        let is_told = reasons.iter().any(|reason| matches!(reason, Reason::Timeout | Reason::Timedout));
        return if is_told { Ok(()) } else { Err(format!("{name} ran out of no time: {outcome:?}")) };
    }
    let mut found: Vec<String> = outcome.matches.iter().map(|found| format!("{}:{}", found.namespace, found.rule)).collect();
    found.sort();
    let expected: Vec<&str> = row["own"].as_array().unwrap().iter().map(|rule| rule.as_str().unwrap()).collect();
    let is_cut = reasons == [Reason::MatchLimit];
    let verdict = match (expected.is_empty(), is_packed) {
        (false, _) => Verdict::Matched,
        (true, false) => Verdict::Clean,
        (true, true) => outcome.verdict,
    };
    if found != expected || outcome.verdict != verdict || !(reasons.is_empty() || is_cut) || outcome.partial != (is_packed || is_cut) {
        return Err(format!("{name}: {:?} {:?} {found:?}, expected {expected:?}", outcome.verdict, outcome.reasons));
    }
    Ok(())
}

#[test]
fn every_sample_has_its_row_with_the_store_as_queue() {
    let Some((house, rows)) = House::of_corpus() else { return };
    check(&house, &rows, "memory", "");
}

#[test]
fn every_sample_has_its_row_over_rabbitmq() {
    let Some(rabbitmq) = rabbitmq("password") else { return };
    let _alone = alone();
    let Some((house, rows)) = House::of_corpus() else { return };
    check(&house, &rows, "rabbitmq", &rabbitmq(&fresh("scan-rows"), "quorum"));
}

#[test]
fn every_sample_has_its_row_over_kafka() {
    let Some(brokers) = given("KAFKA_SCAN_BROKERS") else { return };
    let _alone = alone();
    let Some((house, rows)) = House::of_corpus() else { return };
    let topic = fresh("scan-rows");
    for name in [".high", "", ".low", ".dead", ".results"] {
        make_topic("kafka-scan", &format!("{topic}{name}"), 2, &[]);
    }
    let queue = format!("queue.kind = \"kafka\"\nqueue.kafka = {{ brokers = [{brokers:?}], topic = {topic:?}, group = {topic:?} }}");
    check(&house, &rows, "kafka", &queue);
}

/// Settings of a queue of RabbitMQ, by its name and type.
fn rabbitmq(password: &str) -> Option<impl Fn(&str, &str) -> String> {
    let (url, right) = (given("RABBITMQ_URL")?, given("RABBITMQ_PASSWORD_FILE")?);
    let file = if password == "password" { right } else { password.to_owned() };
    Some(move |queue: &str, kind: &str| {
        format!(
            "queue.kind = \"rabbitmq\"\nqueue.rabbitmq = {{ url = {url:?}, username = \"shipper\", password_file = {file:?}, queue = {queue:?}, type = \"{kind}\" }}"
        )
    })
}

#[test]
fn an_agent_whose_queue_a_person_must_mend_does_not_start() {
    let Some(right) = rabbitmq("password") else { return };
    let _alone = alone();
    let house = House(tempfile::tempdir().unwrap());
    let queue = fresh("scan-start");
    let run = |command: &str, scan: &str| {
        let config = house.config("agent", false, scan, "");
        let done = shipper(&[command, "--config", config.to_str().unwrap()]);
        (done.status.code(), told(&done))
    };
    let (code, told) = run("check", &right(&queue, "quorum"));
    assert_eq!(code, Some(0), "{told}");
    for command in ["check", "run"] {
        let (code, told) = run(command, &right(&queue, "classic"));
        assert_eq!(code, Some(69), "{command}: {told}");
        assert!(told.contains(&format!("queue {queue}")) && told.contains("x-queue-type"), "{command}: {told}");
    }
    let wrong = house.0.path().join("wrong");
    fs::write(&wrong, "not-the-password\n").unwrap();
    let wrong = rabbitmq(wrong.to_str().unwrap()).unwrap();
    for command in ["check", "run"] {
        let (code, told) = run(command, &wrong(&queue, "quorum"));
        assert_eq!(code, Some(69), "{command}: {told}");
        assert!(told.contains("it refuses us") && !told.contains("not-the-password"), "{command}: {told}");
    }
    let away = "queue.kind = \"rabbitmq\"\nqueue.rabbitmq = { url = \"amqp://127.0.0.1:1/%2f\", queue = \"q\" }";
    let (code, told) = run("check", away);
    assert_eq!(code, Some(0), "a broker that is away may come: {told}");
}
