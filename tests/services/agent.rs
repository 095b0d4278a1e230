//! The agent as a process: started, killed, stopped; what it logs; what it saved.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::Value;
use shipper::{
    dead_letter::{Found, Header, entries},
    synth::writer::dated,
};

/// How long a condition may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The day of what [`House::append`] writes.
const DAY: jiff::civil::Date = jiff::civil::Date::constant(2026, 3, 14);

/// A scratch folder with a channel, a state and a config.
pub struct House {
    pub dir: Arc<tempfile::TempDir>,
    graph: String,
    pub drain_for: &'static str,
}

impl House {
    /// - `sink`: the settings of the Kafka sink, as lines of TOML.
    pub fn new(sink: &str) -> Self {
        let handler = "[handlers.all]\nkind = \"forward\"\ninputs = [\"alerts\"]\n";
        Self::with(|_| format!("{handler}[sinks.kafka]\nkind = \"kafka\"\ninputs = [\"all\"]\n{sink}\n"))
    }
    /// - `graph`: what is behind source `alerts`, as TOML, in a house in this folder.
    pub fn with(graph: impl FnOnce(&Path) -> String) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let graph = graph(dir.path());
        Self { dir, graph, drain_for: "60s" }
    }
    /// The same house with another graph.
    pub fn again(&self, graph: impl FnOnce(&str) -> String) -> Self {
        Self { dir: self.dir.clone(), graph: graph(&self.graph), drain_for: self.drain_for }
    }
    /// The folder that the writer writes into.
    pub fn alerts(&self) -> PathBuf {
        self.dir.path().join("alerts")
    }
    /// Appends lines to a day's file and to the channel, which is a hard link to it.
    pub fn append(&self, text: &str) {
        use std::io::Write;
        let (day, channel) = (dated(&self.alerts(), DAY, 0), self.alerts().join("alerts.json"));
        fs::create_dir_all(day.parent().unwrap()).unwrap();
        fs::OpenOptions::new().create(true).append(true).open(&day).unwrap().write_all(text.as_bytes()).unwrap();
        if !channel.exists() {
            fs::hard_link(day, channel).unwrap();
        }
    }
    /// Waits until the saved watermark is the end of the channel's file.
    #[track_caller]
    pub fn until_saved(&self) {
        let size = || fs::metadata(self.alerts().join("alerts.json")).map_or(0, |m| m.len());
        let now = || format!("{:?} of {} bytes", self.watermark(), size());
        wait("the saved watermark is at the end of the file", || self.watermark().1 == size(), now);
    }
    /// Writes the config, and says where it is.
    pub fn config(&self) -> PathBuf {
        let path = self.dir.path().join("shipper.toml");
        let (state, channel) = (self.dir.path().join("state"), self.alerts().join("alerts.json"));
        // A graph with a source of its own is whole.
        let source = match self.graph.contains("[sources.") {
            true => String::new(),
            false => format!("[sources.alerts]\nkind = \"wazuh\"\npath = {channel:?}\nstart_at = \"beginning\"\n"),
        };
        let (drain_for, graph) = (self.drain_for, &self.graph);
        let text = format!("instance = \"mgr-1\"\ndrain_for = {drain_for:?}\n[state]\ndir = {state:?}\n{source}{graph}");
        fs::write(&path, text).unwrap();
        path
    }
    /// What `shipper check` says, and its exit code.
    pub fn check(&self, more: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shipper"));
        let done = command.args(["check", "--config"]).arg(self.config()).args(more).output().unwrap();
        let text = [done.stdout, done.stderr].concat();
        (done.status.code(), String::from_utf8_lossy(&text).into_owned())
    }
    /// Starts the agent.
    pub fn start(&self) -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_shipper"))
            .args(["run", "--config"])
            .arg(self.config())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (out, into) = (BufReader::new(child.stderr.take().unwrap()), lines.clone());
        std::thread::spawn(move || out.lines().map_while(Result::ok).for_each(|line| into.lock().unwrap().push(line)));
        Process { child, lines, began: Instant::now() }
    }
    /// The saved watermark as (segment, offset), as `shipper state show --json` gives it; the
    /// lowest there is before the first save.
    pub fn watermark(&self) -> (u32, u64) {
        let shown = Command::new(env!("CARGO_BIN_EXE_shipper"))
            .args(["state", "show", "--json", "--dir"])
            .arg(self.dir.path().join("state"))
            .output()
            .unwrap();
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
        let position = &shown["positions"][0];
        let segment = position["segment"].as_u64().map_or(0, |n| u32::try_from(n).unwrap());
        (segment, position["offset"].as_u64().unwrap_or(0))
    }
    /// What is in the dead letter, oldest first.
    pub fn dead_letters(&self) -> Vec<(Header, Vec<u8>)> {
        let dir = self.dir.path().join("state/dead-letter");
        let mut paths: Vec<_> = fs::read_dir(dir).map_or(Vec::new(), |all| all.map(|e| e.unwrap().path()).collect());
        paths.sort();
        let segments = paths.into_iter().map(|path| fs::read(path).unwrap());
        let whole = |found: Found<'_>| match found {
            Found::Entry { header, bytes, .. } => (*header, bytes.to_vec()),
            damaged => panic!("{damaged:?}"),
        };
        segments.flat_map(|segment| entries(&segment).map(whole).collect::<Vec<_>>()).collect()
    }
}

/// A running agent.
pub struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    began: Instant,
}

impl Process {
    /// Waits for a log line that holds every part, and gives it.
    #[track_caller]
    pub fn says(&self, parts: &[&str]) -> String {
        let found = || self.lines.lock().unwrap().iter().find(|line| parts.iter().all(|part| line.contains(part))).cloned();
        wait(&format!("the agent says {parts:?}"), || found().is_some(), || self.said());
        let line = found().unwrap();
        eprintln!("after {:.1} s: {line}", self.began.elapsed().as_secs_f64());
        line
    }
    /// All that it said so far.
    pub fn said(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }
    /// Lines of a level so far.
    pub fn lines(&self, level: &str) -> usize {
        self.lines.lock().unwrap().iter().filter(|line| line.contains(level)).count()
    }
    /// False once the process has ended by itself.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
    /// Sends a signal that ends nothing.
    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }
    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
    /// SIGTERM, and waits for the end, also of a drain that leaves something owed.
    pub fn end(mut self) {
        self.signal(rustix::process::Signal::TERM);
        self.child.wait().unwrap();
    }
    /// SIGTERM, and waits for the end of the drain.
    pub fn stop(mut self) {
        self.signal(rustix::process::Signal::TERM);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.lines.lock().unwrap().join("\n"));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A manager that writes `count` alerts a second at `rate`, with two rotations on the way.
pub fn manager(into: &Path, count: u64, rate: u64, rotate_bytes: u64) -> Child {
    fs::create_dir_all(into).unwrap();
    Command::new(env!("CARGO_BIN_EXE_shipper-bench"))
        .args(["gen", "--live", "--count", &count.to_string(), "--rate", &rate.to_string(), "--rotate-bytes", &rotate_bytes.to_string()])
        .arg("--dir")
        .arg(into)
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until `done`, and tells `now` where that does not come about.
#[track_caller]
pub fn wait(what: &str, done: impl Fn() -> bool, now: impl Fn() -> String) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} until {what}; now: {}", now());
        std::thread::sleep(Duration::from_millis(100));
    }
}
