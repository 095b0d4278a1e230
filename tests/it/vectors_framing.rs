//! Vectors of kind `framing`: a folder that changes under the agent, and what must be handed on.
//!
//! The agent runs for real, `forward` into a `file` sink, on both engines. Dated files lie in the
//! tree as Wazuh lays them. After each `poll` the test waits until the agent has been still.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use serde_json::Value;
use shipper::io::Engine;

use crate::agent::{Started, start};

/// How long nothing may move before the agent counts as still.
const STILL: Duration = Duration::from_millis(250);

struct Folder {
    dir: PathBuf,
    running: Option<Started>,
    engine: Engine,
    start_at: &'static str,
}

impl Folder {
    fn path(&self, name: &str) -> PathBuf {
        let base = self.dir.join("alerts");
        let dated = name.starts_with("ossec-alerts-");
        let folder = if dated { base.join("2026/Mar") } else { base };
        fs::create_dir_all(&folder).unwrap();
        folder.join(name)
    }

    fn launch(&mut self) {
        let config = format!(
            "drain_for = \"20s\"\n[sources.alerts]\nkind = \"wazuh\"\npath = {:?}\nstart_at = \"{}\"\n[handlers.all]\nkind = \"forward\"\ninputs = [\"alerts\"]\nvalidate = \"parse\"\n[sinks.out]\nkind = \"file\"\ninputs = [\"all\"]\npath = {:?}\nfsync = false\n",
            self.path("alerts.json").display().to_string(),
            self.start_at,
            self.dir.join("out").display().to_string(),
        );
        self.running = Some(start(&config, &self.dir.join("state"), self.engine));
        self.settle();
    }

    fn settle(&self) {
        let Some(running) = &self.running else { return };
        let counts = running.metrics.branch("alerts", "all");
        let now = || (counts.read.get(), counts.shipped.get(), counts.in_flight.get());
        let (mut last, mut since) = (now(), Instant::now());
        while since.elapsed() < STILL {
            std::thread::sleep(Duration::from_millis(10));
            if now() != last {
                (last, since) = (now(), Instant::now());
            }
        }
    }

    fn step(&mut self, step: &Value) {
        let text = |key: &str| step[key].as_str();
        let file = self.path(text("file").unwrap_or("alerts.json"));
        match text("op").unwrap() {
            "append" => {
                let bytes = match text("hex") {
                    Some(hex) => (0..hex.len() / 2).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap()).collect(),
                    None => text("text").unwrap_or_default().as_bytes().to_vec(),
                };
                let times = step["times"].as_u64().unwrap_or(1);
                let mut open = fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
                open.write_all(&bytes.repeat(usize::try_from(times).unwrap())).unwrap();
            }
            "poll" => {
                if self.running.is_none() {
                    self.launch();
                }
                self.settle();
            }
            "link" => fs::hard_link(self.path(text("from").unwrap()), self.path(text("to").unwrap())).unwrap(),
            "copy" => drop(fs::copy(self.path(text("from").unwrap()), self.path(text("to").unwrap())).unwrap()),
            "rename" => fs::rename(self.path(text("from").unwrap()), self.path(text("to").unwrap())).unwrap(),
            "unlink" => fs::remove_file(file).unwrap(),
            "truncate" => fs::OpenOptions::new().write(true).open(file).unwrap().set_len(step["to"].as_u64().unwrap_or(0)).unwrap(),
            "swap" => {
                let (name, dated) = (self.path("alerts.json"), self.path(text("to").unwrap()));
                fs::File::create(&dated).unwrap();
                fs::remove_file(&name).unwrap();
                fs::hard_link(&dated, &name).unwrap();
            }
            // A kill cannot be had inside the test's own process: the drain stands for it here, as
            // nothing that was read is lost either way.
            "stop" | "crash" => self.stop(),
            "restart" => self.launch(),
            other => panic!("no step {other}"),
        }
    }

    fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.agent.drain();
        }
    }
}

fn ids(out: &Path) -> Vec<String> {
    let text = fs::read(out).unwrap_or_default();
    // A whole JSON object without an `id` is no alert of Wazuh's: the vectors do not speak of it.
    let of = |line: &[u8]| match serde_json::from_str::<Value>(&String::from_utf8_lossy(line)) {
        Ok(value) => value["id"].as_str().map(str::to_owned),
        Err(_) => Some(String::from_utf8_lossy(line).chars().take(200).collect()),
    };
    text.split(|b| *b == b'\n').filter(|l| !l.is_empty()).filter_map(of).collect()
}

fn run(vector: &Value, engine: Engine) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let start_at = if vector["start"] == "head" { "beginning" } else { "end" };
    let mut folder = Folder { dir: dir.path().to_owned(), running: None, engine, start_at };
    for step in vector["steps"].as_array().unwrap() {
        folder.step(step);
    }
    folder.stop();
    let list = |key: &str| -> Vec<String> {
        vector["expected"][key].as_array().map(|l| l.iter().map(|v| v.as_str().unwrap().to_owned()).collect()).unwrap_or_default()
    };
    let too = list("allowed_too");
    let came: Vec<String> = ids(&dir.path().join("out")).into_iter().filter(|id| !too.contains(id)).collect();
    let expected: Vec<String> = list("delivered").into_iter().filter(|id| !too.contains(id)).collect();
    if came == expected { Ok(()) } else { Err(format!("{engine}: came {came:?}, expected {expected:?}")) }
}

#[test]
fn every_framing_vector_is_handed_on_as_expected_on_both_engines() {
    let dir =
        std::env::var_os("SHIPPER_VECTORS").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors"), PathBuf::from);
    let Ok(text) = fs::read_to_string(dir.join("dfn.jsonl")) else {
        eprintln!("skipped: no {}; set SHIPPER_VECTORS", dir.join("dfn.jsonl").display());
        return;
    };
    let vectors: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).filter(|v: &Value| v["kind"] == "framing").collect();
    let mut engines = vec![Engine::Pread];
    match shipper::io::choose(shipper::io::Asked::Uring) {
        Ok(_) => engines.push(Engine::Uring),
        Err(why) => eprintln!("skipped on uring: {why}"),
    }
    let work = Mutex::new(vectors.iter().flat_map(|v| engines.iter().map(move |e| (v, *e))).collect::<Vec<_>>());
    let failures = Mutex::new(Vec::new());
    let total = work.lock().unwrap().len();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while let Some((vector, engine)) = { work.lock().unwrap().pop() } {
                    if let Err(what) = run(vector, engine) {
                        failures.lock().unwrap().push(format!("{}: {what}", vector["name"]));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    println!("framing: {} of {total} as expected", total - failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
