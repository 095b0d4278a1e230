//! What the agent tells of itself: the log, systemd, and its own events in Wazuh's queue.

use std::{
    fs,
    io::Write,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixDatagram,
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use shipper::{io::Engine, metrics::State};

use crate::agent::{start, until};

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
    // As the unit starts it: whatever its umask says, the group may read the log.
    let mut command = Command::new("sh");
    command.args(["-c", "umask 0077; exec \"$0\" run --config \"$1\"", env!("CARGO_BIN_EXE_shipper")]).arg(&config);
    let agent = Process(command.stderr(fs::File::create(&stderr).unwrap()).spawn().unwrap());
    let holds = |path: &Path, what: &str| fs::read_to_string(path).is_ok_and(|text| text.contains(what));
    until("the source is told", || holds(&log, "sources.alerts"));
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.starts_with("of an earlier run\n{\"timestamp\""), "{text}");
    fs::rename(&log, &old).unwrap();
    agent.signal(rustix::process::Signal::HUP);
    until("the hangup is told in a new file", || holds(&log, "the config is taken anew"));
    fs::rename(&log, &old).unwrap();
    agent.signal(rustix::process::Signal::USR1);
    until("the log alone can be opened anew", || log.exists());
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

/// The manager's end of the queue.
struct Queue(UnixDatagram);

impl Queue {
    fn bind(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self(socket)
    }
    fn next(&self) -> String {
        let mut bytes = vec![0; 1 << 16];
        let len = loop {
            match self.0.recv(&mut bytes) {
                // The timers of the uring engine interrupt whom they like.
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                received => break received.unwrap(),
            }
        };
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    }
}

fn ban(n: u32) -> String {
    format!(
        "{{\"timestamp\":\"2026-03-14T06:25:12.004+0100\",\"rule\":{{\"groups\":[\"fail2ban\"]}},\"agent\":{{\"id\":\"014\",\"name\":\"web-03\",\"ip\":\"172.20.4.13\"}},\"id\":\"{n}\",\"full_log\":\"NOTICE [sshd] Ban 185.220.101.34\",\"data\":{{\"srcip\":\"185.220.101.34\",\"program_name\":\"fail2ban.actions\",\"severity\":\"NOTICE\"}}}}\n"
    )
}

fn confirmed(n: u32) -> String {
    format!("1:[014] (web-03) 172.20.4.13->dfn:{{\"integration\": \"dfn\", \"alert_id\": \"{n}\", ")
}

fn append(path: &Path, text: &str) {
    fs::OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// The whole of DFN shipping, into a file in Kafka's place.
fn dfn(dir: &Path, more: &str) -> String {
    let quoted = |name: &str| format!("{:?}", dir.join(name).display().to_string());
    format!(
        "[sources.alerts]\nkind = \"wazuh\"\npath = {}\nstart_at = \"beginning\"\n[sources.agent]\nkind = \"agent\"\n\
         [handlers.dfn]\nkind = \"dfn\"\ninputs = [\"alerts\", \"agent\"]\n\
         [sinks.out]\nkind = \"file\"\nfsync = false\ninputs = [\"dfn\"]\npath = {}\n\
         [sinks.manager]\nkind = \"wazuh_queue\"\ninputs = [\"dfn.confirm\"]\npath = {}\nbackoff = \"20ms\"\n{more}",
        quoted("alerts.json"),
        quoted("out.json"),
        quoted("queue")
    )
}

#[test]
fn wazuh_hears_of_the_start_of_deliveries_and_of_trouble_and_its_end() {
    for engine in [Engine::Pread, Engine::Uring] {
        if engine == Engine::Uring && shipper::io::choose(shipper::io::Asked::Uring).is_err() {
            eprintln!("skipped on uring: this kernel refuses io_uring");
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let (alerts, out) = (dir.path().join("alerts.json"), dir.path().join("out.json"));
        let queue = Queue::bind(&dir.path().join("queue"));
        append(&alerts, "");
        let first = start(&dfn(dir.path(), ""), &dir.path().join("state"), engine);
        let startup = "1:dfn:{\"integration\": \"dfn\", \"description\": \"Wazuh service startup at 20";
        let told = queue.next();
        assert!(told.starts_with(startup), "{told}");

        append(&alerts, &ban(1));
        let told = queue.next();
        assert!(told.starts_with(&confirmed(1)), "{told}");
        assert_eq!(fs::read_to_string(&out).unwrap().lines().count(), 1, "it was delivered before it was confirmed");

        // A folder in the file's place: nothing can be written any more.
        fs::remove_file(&out).unwrap();
        fs::create_dir(&out).unwrap();
        append(&alerts, &ban(2));
        let told = queue.next();
        assert!(told.starts_with("1:dfn:{\"error\": 503, \"description\": \"sinks.out: retrying: cannot write "), "{told}");
        assert!(told.ends_with(", \"integration\": \"dfn\"}"), "{told}");
        append(&alerts, &ban(3));
        fs::remove_dir(&out).unwrap();
        // The end of the trouble and the confirmations come by different ways.
        let mut told: Vec<String> = (0..3).map(|_| queue.next()).collect();
        told.sort();
        let recovered = "1:dfn:{\"integration\": \"dfn\", \"description\": \"sinks.out works again after ";
        assert!(told[0].starts_with(&confirmed(2)) && told[1].starts_with(&confirmed(3)), "{told:?}");
        assert!(told[2].starts_with(recovered) && told[2].contains("messages were held\", \"held\": "), "{told:?}");
        assert!(first.agent.drain(), "nothing is owed at the end");
        for source in ["alerts", "agent"] {
            assert_eq!(first.metrics.branch(source, "dfn").imbalance(), 0, "{source}");
        }

        let second = start(&dfn(dir.path(), ""), &dir.path().join("state"), engine);
        let told = queue.next();
        assert!(told.starts_with(startup), "{told}");
        append(&alerts, &ban(4));
        let told = queue.next();
        assert!(told.starts_with(&confirmed(4)), "nothing of the earlier run is told again: {told}");
        assert!(second.agent.drain());
    }
}

#[test]
fn a_manager_that_is_away_holds_up_nothing_and_hears_everything_later() {
    const BANS: u32 = 500;
    let dir = tempfile::tempdir().unwrap();
    let (alerts, out, path) = (dir.path().join("alerts.json"), dir.path().join("out.json"), dir.path().join("queue"));
    append(&alerts, "");
    let running = start(&dfn(dir.path(), ""), &dir.path().join("state"), Engine::Pread);
    append(&alerts, &(0..BANS).map(ban).collect::<String>());
    until("all are shipped", || fs::read_to_string(&out).is_ok_and(|text| text.lines().count() == BANS as usize));
    let state = |name: &str| running.board.rows().iter().find(|(row, _)| row == name).unwrap().1.clone();
    assert!(matches!(state("sinks.manager"), State::Retrying(_)));
    until("the outage is an event", || running.metrics.source("agent").records.get() == 2);
    until("all is acked", || running.metrics.branch("alerts", "dfn").in_flight.get() == 0);

    let queue = Queue::bind(&path);
    let told: Vec<String> = (0..BANS + 2).map(|_| queue.next()).collect();
    let confirmations: Vec<&String> = told.iter().filter(|record| record.starts_with("1:[014]")).collect();
    assert_eq!(confirmations.len(), BANS as usize);
    for (n, record) in (0..).zip(&confirmations) {
        assert!(record.starts_with(&confirmed(n)), "in order: {record}");
    }
    let has = |what: &str| told.iter().any(|record| record.contains(what));
    assert!(has("Wazuh service startup at ") && has("Wazuh service reconnect at "), "{told:?}");
    assert!(!has("503"), "the manager is not told that it was away");
    assert!(running.agent.drain());
}

#[test]
fn own_events_travel_like_any_other_and_keep_no_agent_alive() {
    let dir = tempfile::tempdir().unwrap();
    let (config, out) = (dir.path().join("shipper.toml"), dir.path().join("own.json"));
    let text = format!(
        "state.dir = {:?}\n[sources.in]\nkind = \"stdin\"\n[sources.agent]\nkind = \"agent\"\n\
         [handlers.all]\nkind = \"forward\"\ninputs = [\"in\"]\n[sinks.nothing]\nkind = \"blackhole\"\ninputs = [\"all\"]\n\
         [handlers.own]\nkind = \"forward\"\ninputs = [\"agent\"]\n[sinks.own]\nkind = \"file\"\ninputs = [\"own\"]\npath = {:?}\n",
        dir.path().join("state").display().to_string(),
        out.display().to_string()
    );
    fs::write(&config, text).unwrap();
    for run_number in 1..=2 {
        let mut agent = run(&config, |command| {
            command.stdin(Stdio::piped());
        });
        agent.0.stdin.take().unwrap().write_all(b"{\"a\":1}\n").unwrap();
        until("the agent ends with its input", || agent.0.try_wait().unwrap().is_some());
        assert_eq!(agent.0.wait().unwrap().code(), Some(0));
        let text = fs::read_to_string(&out).unwrap();
        let events: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let names: Vec<&str> = events.iter().map(|event| event["shipper"]["event"].as_str().unwrap()).collect();
        assert_eq!(names, ["start", "stop"].repeat(run_number), "told once");
    }
}

/// What systemd hears.
struct Hears(Queue, std::path::PathBuf);

impl Hears {
    fn in_dir(dir: &Path) -> Self {
        let path = dir.join("notify");
        Self(Queue::bind(&path), path)
    }
    /// Waits for a message that begins so.
    fn wait_for(&self, what: &str) -> String {
        loop {
            let told = self.0.next();
            if told.starts_with(what) {
                return told;
            }
        }
    }
}

#[test]
fn systemd_hears_of_every_state_and_is_fed_through_an_outage() {
    let dir = tempfile::tempdir().unwrap();
    let hears = Hears::in_dir(dir.path());
    // A folder in the sink's place: an outage from the first record on.
    let out = dir.path().join("out.json");
    fs::create_dir(&out).unwrap();
    fs::write(dir.path().join("alerts.json"), ban(1)).unwrap();
    let agent = run(&config(dir.path(), ""), |command| {
        command.env("NOTIFY_SOCKET", &hears.1).env("WATCHDOG_USEC", "400000");
    });
    hears.wait_for("READY=1");
    let (mut fed, mut status) = (0, String::new());
    while fed < 8 || !status.contains("sinks.out") {
        let told = hears.0.next();
        fed += u32::from(told == "WATCHDOG=1\n");
        status = if told.starts_with("STATUS=") { told } else { status };
    }
    assert!(status.contains(" records/s, ") && status.ends_with(" behind; sinks.out retrying\n"), "{status}");

    fs::remove_dir(&out).unwrap();
    until("the outage is over", || fs::read_to_string(&out).is_ok_and(|text| text.lines().count() == 1));
    agent.signal(rustix::process::Signal::HUP);
    let told = hears.wait_for("RELOADING=1");
    assert!(told.lines().any(|line| line.strip_prefix("MONOTONIC_USEC=").is_some_and(|n| n.parse::<u64>().is_ok())), "{told}");
    hears.wait_for("READY=1");
    hears.wait_for("WATCHDOG=1");
    let ending = std::thread::spawn(move || agent.stop());
    hears.wait_for("STOPPING=1");
    assert_eq!(ending.join().unwrap(), Some(0));
}

#[test]
fn a_hangup_takes_the_config_anew_and_loses_and_doubles_nothing() {
    const LINES: u64 = 4000;
    let dir = tempfile::tempdir().unwrap();
    let (alerts, log) = (dir.path().join("alerts.json"), dir.path().join("shipper.log"));
    append(&alerts, "");
    let logs = format!("log.path = {:?}\nlog.stats_every = \"0\"", log.display().to_string());
    let path = config(dir.path(), &logs);
    let agent = run(&path, |_| ());
    let logged = |what: &str| fs::read_to_string(&log).unwrap_or_default().matches(what).count();
    let line = |n: u64| format!("{{\"timestamp\":\"2026-03-14T06:25:12.001+0100\",\"id\":\"{n}\"}}\n");
    let writer = std::thread::spawn({
        let alerts = alerts.clone();
        move || {
            for n in 0..LINES {
                append(&alerts, &line(n));
                if n % 8 == 0 {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        }
    });
    let outs: Vec<_> = ["out.json", "two.json", "three.json"].map(|name| dir.path().join(name)).into();
    let lines = |path: &Path| fs::read_to_string(path).map(|text| text.lines().count() as u64).unwrap_or(0);
    until("the first sink ships", || lines(&outs[0]) > 100);

    // Broken: every error is told, and the old config stays.
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, good.replace("kind = \"file\"", "kind = \"fyle\"").replace("kind = \"forward\"", "kind = \"forwart\"")).unwrap();
    agent.signal(rustix::process::Signal::HUP);
    until("both errors are told", || logged("\"fyle\"") == 1 && logged("\"forwart\"") == 1);
    let before = lines(&outs[0]);
    until("the old config ships on", || lines(&outs[0]) > before || lines(&outs[0]) == LINES);

    for (number, (old, new)) in [("out.json", "two.json"), ("two.json", "three.json")].into_iter().enumerate() {
        let text = if number == 0 { good.clone() } else { fs::read_to_string(&path).unwrap() };
        fs::write(&path, text.replace(old, new)).unwrap();
        agent.signal(rustix::process::Signal::HUP);
        until("the config is taken", || logged("the config is taken anew") == number + 1);
    }
    writer.join().unwrap();
    append(&alerts, &line(LINES));
    until("the last line arrives", || lines(&outs[2]) > 0 && fs::read_to_string(&outs[2]).unwrap().ends_with(&line(LINES)));
    assert_eq!(agent.stop(), Some(0));
    let came: String = outs.iter().map(|path| fs::read_to_string(path).unwrap_or_default()).collect();
    let expected: String = (0..=LINES).map(line).collect();
    assert!(came == expected, "every line once and in order, across all sinks: {} of {}", came.lines().count(), LINES + 1);
}

#[test]
fn a_reload_is_an_event_and_no_end() {
    let dir = tempfile::tempdir().unwrap();
    let (path, out) = (dir.path().join("shipper.toml"), dir.path().join("own.json"));
    append(&dir.path().join("alerts.json"), "");
    let text = format!(
        "{}[handlers.own]\nkind = \"forward\"\ninputs = [\"agent\"]\n[sinks.own]\nkind = \"file\"\ninputs = [\"own\"]\npath = {:?}\n",
        dfn(dir.path(), ""),
        out.display().to_string()
    );
    fs::write(&path, format!("state.dir = {:?}\n{text}", dir.path().join("state").display().to_string())).unwrap();
    let _queue = Queue::bind(&dir.path().join("queue"));
    let agent = run(&path, |_| ());
    let events = || {
        let text = fs::read_to_string(&out).unwrap_or_default();
        let event = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["shipper"]["event"].as_str().unwrap().to_owned();
        text.lines().map(event).collect::<Vec<_>>()
    };
    until("the start is told", || events() == ["start"]);
    agent.signal(rustix::process::Signal::HUP);
    until("the reload is told", || events() == ["start", "reload"]);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(events(), ["start", "reload", "stop"]);
}

/// What `GET path` answers on a unix socket.
fn get(socket: &Path, path: &str) -> String {
    use std::io::Read;
    let mut text = String::new();
    if let Ok(mut stream) = std::os::unix::net::UnixStream::connect(socket) {
        let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: shipper\r\nConnection: close\r\n\r\n");
        let _ = stream.read_to_string(&mut text);
    }
    text
}

#[test]
fn a_reload_in_an_outage_goes_on_from_what_was_acked_and_its_sums_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let (alerts, out, face, log) =
        (dir.path().join("alerts.json"), dir.path().join("out.json"), dir.path().join("api.sock"), dir.path().join("log"));
    append(&alerts, &ban(1));
    let settings =
        format!("drain_for = \"100ms\"\nlog.path = {:?}\napi.listen = {:?}", log.display().to_string(), format!("unix:{}", face.display()));
    let path = config(dir.path(), &settings);
    let agent = run(&path, |_| ());
    let lines = || fs::read_to_string(&out).map(|text| text.lines().count()).unwrap_or(0);
    until("the first is shipped", || lines() == 1);
    until("the checkpoint knows", || fs::read_to_string(dir.path().join("state/checkpoint.a")).is_ok_and(|text| text.contains("alerts")));
    fs::remove_file(&out).unwrap();
    fs::create_dir(&out).unwrap();
    append(&alerts, &ban(2));
    let logged = |what: &str| fs::read_to_string(&log).unwrap_or_default().matches(what).count();
    until("the outage is told", || logged("retrying") >= 1);
    for reload in 1..=2 {
        agent.signal(rustix::process::Signal::HUP);
        until("the config is taken in the outage", || logged("the config is taken anew") == reload);
        until("the face answers as before", || get(&face, "/health").starts_with("HTTP/1.1 "));
    }
    append(&alerts, &ban(3));
    fs::remove_dir(&out).unwrap();
    until("the rest is shipped", || lines() == 2);
    until("all is acked", || {
        get(&face, "/metrics").lines().any(|line| line.starts_with("shipper_in_flight_bytes{") && line.ends_with(" 0"))
    });
    let text = get(&face, "/metrics");
    let sum = |name: &str| -> u64 {
        let of = text.lines().filter(|line| line.starts_with(name));
        of.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    let told = sum("shipper_shipped_bytes_total{") + sum("shipper_dropped_bytes_total{") + sum("shipper_dead_letter_bytes_total{");
    assert_eq!(sum("shipper_read_bytes_total{"), told, "{text}");
    assert_eq!(text.matches("# HELP shipper_shed_messages").count(), 1, "a metric is told once, however many graphs there were");
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(fs::read_to_string(&out).unwrap(), ban(2) + &ban(3), "what was acked before does not come again");
}
