//! What the agent tells of itself: the log, systemd, and its own events in Wazuh's queue.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::agent::until;

/// The agent as a process; killed when a test ends early.
struct Process(Child);

impl Process {
    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }
    /// Stops it as systemd does, and gives its exit code.
    fn stop(mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        until("the agent stops", || self.0.try_wait().unwrap().is_some());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(config: &Path, adjust: impl FnOnce(&mut Command)) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shipper"));
    command.args(["run", "--config"]).arg(config).stderr(Stdio::null());
    adjust(&mut command);
    Process(command.spawn().unwrap())
}

/// A config that ships every line of `alerts.json` in `dir` into `out.json`.
fn config(dir: &Path, more: &str) -> std::path::PathBuf {
    let path = dir.join("shipper.toml");
    let quoted = |name: &str| format!("{:?}", dir.join(name).display().to_string());
    let text = format!(
        "state.dir = {}\n{more}\n[sources.alerts]\nkind = \"wazuh\"\npath = {}\nstart_at = \"beginning\"\n[handlers.all]\nkind = \"forward\"\ninputs = [\"alerts\"]\n[sinks.out]\nkind = \"file\"\ninputs = [\"all\"]\npath = {}\n",
        quoted("state"),
        quoted("alerts.json"),
        quoted("out.json")
    );
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_log_file_is_appended_to_and_opened_anew_on_a_hangup() {
    let dir = tempfile::tempdir().unwrap();
    let (log, old) = (dir.path().join("shipper.log"), dir.path().join("shipper.log.1"));
    fs::write(&log, "of an earlier run\n").unwrap();
    let config = config(dir.path(), &format!("log.path = {:?}\nlog.format = \"json\"", log.display().to_string()));
    let stderr = dir.path().join("stderr");
    let agent = run(&config, |command| {
        command.stderr(fs::File::create(&stderr).unwrap());
    });
    let holds = |path: &Path, what: &str| fs::read_to_string(path).is_ok_and(|text| text.contains(what));
    until("the source is told", || holds(&log, "sources.alerts"));
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.starts_with("of an earlier run\n{\"timestamp\""), "{text}");
    fs::rename(&log, &old).unwrap();
    agent.signal(rustix::process::Signal::HUP);
    until("the hangup is told in a new file", || holds(&log, "SIGHUP"));
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(fs::read_to_string(&stderr).unwrap(), "", "nothing but the file is written to");
}

#[test]
fn a_log_file_that_cannot_be_opened_is_told_with_its_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), &format!("log.path = {:?}", dir.path().join("no/shipper.log").display().to_string()));
    let said = Command::new(env!("CARGO_BIN_EXE_shipper")).args(["run", "--config"]).arg(&config).output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(74), "{text}");
    assert!(text.contains("cannot open log file") && text.contains("log.path"), "{text}");
}

#[test]
fn the_journal_gets_priorities_in_place_of_times() {
    for format in ["text", "json"] {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), &format!("log.format = {format:?}"));
        let stderr = dir.path().join("stderr");
        let file = fs::File::create(&stderr).unwrap();
        let meta = file.metadata().unwrap();
        let start = |stream: String| {
            let agent = run(&config, |command| {
                command.stderr(file.try_clone().unwrap()).env("JOURNAL_STREAM", stream);
            });
            until("the source is told", || fs::read_to_string(&stderr).unwrap().contains("sources.alerts"));
            assert_eq!(agent.stop(), Some(0));
            let text = fs::read_to_string(&stderr).unwrap();
            file.set_len(0).unwrap();
            text
        };
        let text = start(format!("{}:{}", meta.dev(), meta.ino()));
        for line in text.lines().map(|line| line.trim_start_matches('\0')) {
            let rest = line.strip_prefix("<6>").or_else(|| line.strip_prefix("<4>"));
            let rest = rest.unwrap_or_else(|| panic!("a line without a priority: {line}"));
            assert!(!rest.starts_with("20") && !rest.contains("\"timestamp\""), "{line}");
        }
        // The variable is inherited by whoever is started with its errors sent elsewhere.
        let text = start(format!("{}:{}", meta.dev(), meta.ino() + 1));
        assert!(!text.contains("<6>") && text.contains("20"), "{text}");
    }
}

#[test]
fn a_dead_letter_elsewhere_is_written_there_and_belongs_to_one_agent() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let elsewhere = dir.path().join("elsewhere/letters");
    let setting = format!("dead_letter.path = {:?}", elsewhere.display().to_string());
    fs::write(dir.path().join("alerts.json"), "{\"timestamp\":\"cut in the mid\n").unwrap();
    let agent = run(&config(dir.path(), &setting), |_| ());
    let segments = || {
        let entries = fs::read_dir(&elsewhere).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name() != "lock" && entry.metadata().is_ok_and(|meta| meta.len() > 0)).count()
    };
    until("the broken line is in the dead letter", || segments() == 1);
    assert!(!dir.path().join("state/dead-letter").exists());

    let second =
        Command::new(env!("CARGO_BIN_EXE_shipper")).args(["run", "--config"]).arg(config(other.path(), &setting)).output().unwrap();
    assert_eq!(second.status.code(), Some(69), "{}", String::from_utf8_lossy(&second.stderr));
    assert_eq!(agent.stop(), Some(0));
}
