//! Scanning through the real agent: what a build without it says, and, with it, what kills at any moment leave behind.

use std::{fs, path::Path, process::Command};

/// A config that scans `dir/files` with `dir/rules` and writes alerts to `dir/alerts.json`.
pub fn config(dir: &Path, more: &str) -> String {
    let at = |name: &str| dir.join(name).display().to_string();
    for folder in ["files", "rules"] {
        fs::create_dir_all(dir.join(folder)).unwrap();
    }
    let text = format!(
        r#"
instance = "scan-test"
drain_for = "5s"
[state]
dir = {:?}
[scan]
roots = [{{ name = "zeek", path = {:?} }}]
children = 2
settle_s = 2
{more}
[scan.rules]
paths = [{:?}]
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
"#,
        at("state"),
        at("files"),
        at("rules"),
        at("alerts.json"),
    );
    let path = dir.join("shipper.toml");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[cfg(not(feature = "scan"))]
#[test]
fn a_build_without_scanning_says_which_one_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), "");
    let shipper = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_shipper")).args(args).output().unwrap();
    for command in ["check", "run"] {
        let done = shipper(&[command, "--config", &config]);
        let told = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        assert_eq!(done.status.code(), Some(69), "{command}: {told}");
        assert!(told.contains("--features scan") && told.contains("install the package"), "{command}: {told}");
    }
    assert_eq!(shipper(&["demo", "--system", "scan"]).status.code(), Some(69));
}

#[cfg(feature = "scan")]
pub mod running {
    use std::{
        collections::{BTreeMap, BTreeSet},
        process::{Child, Stdio},
        sync::Arc,
        thread,
        time::{Duration, Instant},
    };

    use rustix::process::{Pid, Signal, kill_process};
    use shipper::scan::{
        outcome::Verdict,
        settings::Settings,
        tasks::{Limits, State, TaskFilter, Tasks},
    };

    use super::*;

    pub const RULES: &str =
        "rule letter { strings: $a = \"dear colleague\" condition: $a }\nrule script { strings: $a = \"#!/bin/sh\" condition: $a at 0 }\n";

    pub struct Agent(Child);

    /// A test that fails leaves none behind.
    impl Drop for Agent {
        fn drop(&mut self) {
            let _ = self.0.kill(); // it may have ended
            let _ = self.0.wait();
        }
    }

    impl Agent {
        pub fn start(config: &str) -> Self {
            let mut command = Command::new(env!("CARGO_BIN_EXE_shipper"));
            Self(command.args(["run", "--config", config, "--engine", "pread"]).stdout(Stdio::null()).spawn().unwrap())
        }
        pub fn pid(&self) -> Pid {
            Pid::from_child(&self.0)
        }
        pub fn kill(mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
        pub fn stop(mut self) {
            kill_process(self.pid(), Signal::TERM).unwrap();
            assert!(self.0.wait().unwrap().success(), "a clean stop");
        }
        /// Its scanning processes.
        fn children(&self) -> Vec<Pid> {
            let own = self.pid().as_raw_nonzero().get();
            let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
            let is_child = |pid: &i32| {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1)?.parse::<i32>().ok());
                parent == Some(own)
            };
            pids.filter(is_child).filter_map(Pid::from_raw).collect()
        }
    }

    /// The n-th file: its name, its bytes, and which rules match.
    pub fn file(n: usize) -> (String, String, &'static [&'static str]) {
        let name = format!("extract-1577836800.{n:06}-HTTP-FTest{n:09}");
        match n % 3 {
            0 => (name, format!("dear colleague, this is letter {n}"), &["letter"]),
            1 => (name, format!("#!/bin/sh\necho {n} # dear colleague\n"), &["letter", "script"]),
            _ => (name, format!("nothing in file {n}"), &[]),
        }
    }

    pub fn wait_for(what: &str, seconds: u64, mut is: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        while !is() {
            assert!(Instant::now() < deadline, "{what}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// File and rule of each alert that was written, with the tasks that it names.
    pub fn alerts(dir: &Path) -> BTreeMap<(String, String), BTreeSet<String>> {
        let mut found: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        for line in fs::read_to_string(dir.join("alerts.json")).unwrap_or_default().lines() {
            // A kill may leave half a line; the whole one comes again.
            let Ok(alert) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let text = |name: &str| alert[name].as_str().unwrap().to_owned();
            found.entry((text("file_path"), text("rule_name"))).or_default().insert(text("task_id"));
        }
        found
    }

    #[test]
    fn kills_at_any_moment_leave_one_answer_for_each_file_and_every_alert() {
        const FILES: usize = 240;
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), "[scan.queue]\nattempts_max = 50\nbackoff_s = [1]\n");
        fs::write(dir.path().join("rules/test.yar"), RULES).unwrap();
        let root = dir.path().join("files");
        let writer = thread::spawn(move || {
            for n in 0..FILES {
                let (name, text, _) = file(n);
                fs::write(root.join(name), text).unwrap();
                thread::sleep(Duration::from_millis(50));
            }
        });
        let mut agent = Agent::start(&config);
        for round in 0..6 {
            thread::sleep(Duration::from_millis(1500 + 130 * round));
            if round % 2 == 0 {
                // One child, in the middle of whatever it does.
                if let Some(child) = agent.children().first() {
                    let _ = kill_process(*child, Signal::KILL); // it may just have ended
                }
            } else {
                agent.kill();
                agent = Agent::start(&config);
            }
        }
        writer.join().unwrap();
        let expected: BTreeSet<(String, String)> =
            (0..FILES).flat_map(|n| file(n).2.iter().map(move |rule| (file(n).0, (*rule).to_owned()))).collect();
        wait_for("not every alert came within two minutes", 120, || alerts(dir.path()).len() >= expected.len());
        // Clean files have no alert: they are waited for in the store, which only one process has at a time.
        thread::sleep(Duration::from_secs(2));
        agent.stop();

        let store = Tasks::open(&dir.path().join("state"), Limits::new(&Settings::default()), Arc::new(|_, _| Vec::new())).unwrap();
        let all = store.tasks(TaskFilter::default(), None, 10 * FILES).wait().unwrap();
        let mut by_name: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for standing in all {
            by_name.entry(standing.task.path.lossy().into_owned()).or_default().push(standing);
        }
        assert_eq!(by_name.len(), FILES, "every file is known");
        for n in 0..FILES {
            let (name, _, rules) = file(n);
            let [standing] = &by_name[&name][..] else { panic!("{name} has {} tasks", by_name[&name].len()) };
            assert_eq!(standing.state, State::Done, "{name}: {:?}", standing.dead);
            let outcome = standing.outcome.as_ref().unwrap();
            let found: Vec<&str> = outcome.matches.iter().map(|found| found.rule.as_str()).collect();
            assert_eq!((found.as_slice(), outcome.partial), (rules, false), "{name}");
            assert_eq!(outcome.verdict, if rules.is_empty() { Verdict::Clean } else { Verdict::Matched }, "{name}");
        }
        let told = alerts(dir.path());
        assert_eq!(told.keys().cloned().collect::<BTreeSet<_>>(), expected, "each alert at least once, and no other");
        assert!(told.values().all(|tasks| tasks.len() == 1), "an alert that came twice has one key");
        store.close();
    }

    /// Voluntary switches of the threads that scan, by name.
    pub fn wakeups(agent: &Agent) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        let tasks = format!("/proc/{}/task", agent.pid().as_raw_nonzero());
        for task in fs::read_dir(tasks).unwrap().flatten() {
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default().trim().to_owned();
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let switches =
                status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).and_then(|n| n.trim().parse::<u64>().ok());
            if name.starts_with("scan") {
                *all.entry(name).or_default() += switches.unwrap_or(0);
            }
        }
        all
    }

    #[test]
    fn an_idle_agent_does_not_wake_to_scan() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), "");
        fs::write(dir.path().join("rules/test.yar"), RULES).unwrap();
        let agent = Agent::start(&config);
        fs::write(dir.path().join("files/extract-1-HTTP-FTest000000001"), "dear colleague").unwrap();
        wait_for("the first file was not scanned", 60, || !alerts(dir.path()).is_empty());
        thread::sleep(Duration::from_secs(3));
        let before = wakeups(&agent);
        thread::sleep(Duration::from_secs(10));
        let after = wakeups(&agent);
        assert!(before.contains_key("scan") && before.contains_key("scan-watch"), "{before:?}");
        for (thread, switches) in &after {
            let woken = switches - before.get(thread).copied().unwrap_or(0);
            // A listing or a look at the figures may fall into these seconds.
            assert!(woken <= 8, "{thread} woke {woken} times in ten idle seconds");
        }
        agent.stop();
    }
}
