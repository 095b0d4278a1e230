//! Stages and lookups in a running agent: what they drop, hold back and make, over restarts.

use std::{
    fs,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use shipper::{
    clock::SystemClock,
    io::{Engine, Executor, LocalFuture, Watcher, cores, disk::RealDisk},
    lookups::{self, Emit, Inbox, Lookup, LookupError},
    metrics::{Board, Metrics, Standing},
    register::{Node, Place},
    store::{self, Options, Writer},
    topology::{
        Config, Host, Plan,
        config::{Inputs, LookupEntry},
        rows::Rows,
        run::{Agent, Needs, RunError},
    },
};

use crate::agent::until;

struct Scene {
    _dir: tempfile::TempDir,
    input: PathBuf,
    state: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { input: dir.path().join("in.json"), state: dir.path().join("state"), _dir: dir }
    }
    fn out(&self, sink: &str) -> PathBuf {
        self.state.with_file_name(format!("{sink}.out"))
    }
    fn lines(&self, sink: &str) -> Vec<String> {
        fs::read_to_string(self.out(sink)).unwrap_or_default().lines().map(str::to_owned).collect()
    }
    fn config(&self, between: &str, sinks: &[(&str, &str)]) -> String {
        let mut text = format!(
            "instance = 'mgr-1'\n[sources.in]\nkind = 'file'\npath = {:?}\nstart_at = 'beginning'\n[handlers.all]\nkind = 'forward'\ninputs = ['in']\n{between}",
            self.input
        );
        for (sink, input) in sinks {
            text += &format!("[sinks.{sink}]\nkind = 'file'\ninputs = ['{input}']\npath = {:?}\nfsync = false\n", self.out(sink));
        }
        text
    }
    fn write(&self, lines: impl IntoIterator<Item = String>) {
        let old = fs::read_to_string(&self.input).unwrap_or_default();
        fs::write(&self.input, lines.into_iter().fold(old, |all, line| all + &line + "\n")).unwrap();
    }
    fn start(&self, config: Config) -> Result<(Agent, Metrics), RunError> {
        let plan = Plan::build(config).unwrap_or_else(|errors| panic!("{errors}"));
        let (mut writer, checkpoint) = Writer::open(Box::new(RealDisk::new()), &self.state, Options::default()).unwrap();
        let snapshots = writer.take_snapshots();
        let (clock, board) = (SystemClock::new(), Board::default());
        let metrics = Metrics::new(&board);
        let store = store::start(writer, clock, board.enter("store")).unwrap();
        let needs = Needs {
            plan: Arc::new(plan),
            engine: Engine::Pread,
            cores: cores().unwrap(),
            watcher: Watcher::new().unwrap(),
            clock,
            board,
            metrics: metrics.clone(),
            store: Some(store),
            rows: Rows::new(checkpoint.map(|c| c.rows).unwrap_or_default()).with_snapshots(snapshots),
            waiter: std::thread::current(),
        };
        Ok((Agent::start(needs, Vec::new())?, metrics))
    }
}

fn read(text: &str) -> Config {
    Config::read(Node::parse_toml(text).unwrap(), std::iter::empty(), &[], &Host { name: "mgr-1".into(), embedded: None })
}

fn alert(id: &str, n: u64) -> String {
    format!("{{\"timestamp\":\"2026-03-14T06:25:12.001+0100\",\"id\":\"{id}\",\"n\":{n}}}")
}

fn settled(metrics: &Metrics, bytes: u64) -> bool {
    let counts = metrics.branch("in", "all");
    counts.read.get() == bytes && counts.in_flight.get() == 0
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

#[test]
fn a_repeat_is_dropped_and_counted_and_still_known_after_a_restart() {
    let scene = Scene::new();
    let config = scene.config("[stages.once]\nkind = 'dedup'\ninputs = ['all']\n", &[("out", "once")]);
    let (a, b) = (alert("1.1", 1), alert("1.2", 2));
    scene.write([a.clone(), alert("1.1", 3), b.clone()]);
    let (agent, metrics) = scene.start(read(&config)).unwrap();
    until("the first part is settled", || settled(&metrics, length(&scene.input)));
    assert!(agent.drain());
    assert_eq!(scene.lines("out"), [a.clone(), b.clone()]);
    let counts = metrics.branch("in", "all");
    assert_eq!(counts.dropped.each(), [("duplicate", a.len() as u64 + 1)]);
    assert_eq!((counts.shipped.get(), counts.imbalance()), ((a.len() + b.len()) as u64 + 2, 0));
    let stage = metrics.stage("in", "once");
    assert_eq!((stage.taken.get(), stage.emitted.get(), stage.dropped.total(), stage.entries.get()), (3, 2, 1, 2));

    let before = length(&scene.input);
    let c = alert("1.3", 4);
    scene.write([alert("1.2", 5), c.clone()]);
    let (agent, metrics) = scene.start(read(&config)).unwrap();
    until("the rest is settled", || settled(&metrics, length(&scene.input) - before));
    assert!(agent.drain());
    assert_eq!(scene.lines("out"), [a, b, c], "1.2 is known from the run before");
}

/// What a crash can leave of the two files, whichever was written last.
#[test]
fn whichever_of_snapshot_and_checkpoint_is_older_nothing_is_lost() {
    for (older, expected) in [("checkpoint", vec![1, 2, 1, 2]), ("snapshot", vec![1, 2, 3])] {
        let scene = Scene::new();
        let config = scene.config("[stages.once]\nkind = 'dedup'\ninputs = ['all']\n", &[("out", "once")]);
        // A first run that is drained at once leaves the older state.
        scene.write([]);
        let (agent, _) = scene.start(read(&config)).unwrap();
        assert!(agent.drain());
        let saved = scene.state.join("snapshot").join("once.in");
        let kept = scene.state.with_file_name("kept");
        let copy = |from: &Path, to: &Path| {
            for entry in fs::read_dir(from).unwrap().flatten().filter(|e| e.file_name().to_string_lossy().starts_with("checkpoint.")) {
                fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        };
        fs::create_dir(&kept).unwrap();
        copy(&scene.state, &kept);
        let empty = fs::read(&saved).unwrap();

        scene.write([alert("1", 1), alert("2", 2)]);
        let (agent, metrics) = scene.start(read(&config)).unwrap();
        until("both are settled", || settled(&metrics, length(&scene.input)));
        assert!(agent.drain());
        if older == "checkpoint" {
            // The snapshot is newer: both are read again and meet their own origins.
            for entry in fs::read_dir(&scene.state).unwrap().flatten() {
                if entry.file_name().to_string_lossy().starts_with("checkpoint.") {
                    fs::remove_file(entry.path()).unwrap();
                }
            }
            copy(&kept, &scene.state);
        } else {
            // The checkpoint is newer: an id was forgotten, its repeat passes.
            fs::write(&saved, empty).unwrap();
            scene.write([alert("2", 3)]);
        }
        let (agent, metrics) = scene.start(read(&config)).unwrap();
        let count = expected.len();
        until("it is read", || scene.lines("out").len() >= count);
        assert!(agent.drain());
        let numbers: Vec<u64> =
            scene.lines("out").iter().map(|l| l.split("\"n\":").nth(1).unwrap().trim_end_matches('}').parse().unwrap()).collect();
        assert_eq!(numbers, expected, "the older one is the {older}");
        assert_eq!(metrics.branch("in", "all").imbalance(), 0);
    }
}

#[test]
fn a_snapshot_that_cannot_be_read_refuses_the_start_and_a_missing_one_does_not() {
    let scene = Scene::new();
    let config = scene.config("[stages.once]\nkind = 'dedup'\ninputs = ['all']\n", &[("out", "once")]);
    scene.write([alert("1", 1)]);
    let (agent, metrics) = scene.start(read(&config)).unwrap();
    until("it is settled", || settled(&metrics, length(&scene.input)));
    assert!(agent.drain());
    let path = scene.state.join("snapshot").join("once.in");
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    fs::write(&path, bad).unwrap();
    let error = Writer::open(Box::new(RealDisk::new()), &scene.state, Options::default()).err().unwrap().to_string();
    assert!(error.contains("is damaged: its checksum does not match its body; restore it from a backup, or remove it"), "{error}");
    // Whole, and yet nothing that the stage can read.
    let odd = shipper::checkpoint::Snapshot { kind: "dedup".into(), places: Vec::new(), body: b"odd".as_slice().into() };
    fs::write(&path, odd.encode()).unwrap();
    let error = scene.start(read(&config)).err().unwrap().to_string();
    assert!(error.starts_with("stage once cannot read its snapshot once.in in the state folder: it is too short; restore it"), "{error}");
    fs::remove_file(&path).unwrap();
    let (agent, _) = scene.start(read(&config)).unwrap();
    assert!(agent.drain());
}

#[test]
fn what_was_suppressed_is_told_at_the_end_of_its_window_and_owed_like_any_other() {
    let scene = Scene::new();
    let stages = "[stages.quiet]\nkind = 'suppress'\ninputs = ['all']\nmembers = ['id']\nwindow = '2s'\n";
    let config = scene.config(stages, &[("out", "quiet")]);
    scene.write([alert("1", 1), alert("1", 2), alert("2", 3), alert("1", 4)]);
    let (agent, metrics) = scene.start(read(&config)).unwrap();
    until("the summary is there", || scene.lines("out").len() == 3);
    let counts = metrics.branch("in", "all");
    until("it is acked", || counts.delivered.get() == 3);
    assert!(agent.drain());
    let lines = scene.lines("out");
    assert_eq!(lines[..2], [alert("1", 1), alert("2", 3)]);
    let first = alert("1", 1);
    assert!(lines[2].starts_with(&format!("{},\"repeated\":2,\"first\":\"2", first.trim_end_matches('}'))), "{}", lines[2]);
    assert_eq!(counts.dropped.each(), [("suppressed", 2 * (first.len() as u64 + 1))]);
    assert_eq!(counts.imbalance(), 0);
    assert_eq!(metrics.stage("in", "quiet").late.get(), 1);
}

#[test]
fn an_open_window_outlives_a_restart() {
    let scene = Scene::new();
    let stages = |window: &str| format!("[stages.quiet]\nkind = 'suppress'\ninputs = ['all']\nmembers = ['id']\nwindow = '{window}'\n");
    scene.write([alert("1", 1), alert("1", 2)]);
    let (agent, metrics) = scene.start(read(&scene.config(&stages("1h"), &[("out", "quiet")]))).unwrap();
    until("both are settled", || settled(&metrics, length(&scene.input)));
    assert!(agent.drain());
    assert_eq!(scene.lines("out").len(), 1);
    // A shorter window ends the open one as early.
    let (agent, _) = scene.start(read(&scene.config(&stages("1s"), &[("out", "quiet")]))).unwrap();
    until("the summary is there", || scene.lines("out").len() == 2);
    assert!(agent.drain());
    assert!(scene.lines("out")[1].contains("\"repeated\":1,"));
}

/// Asks nobody: two children for each payload that has a hit in it, one on `failed` for one that fails.
#[derive(Debug)]
struct Asker;

impl lookups::Spec for Asker {
    fn build(&self, _: &str, _: &shipper::lookups::Given<'_>) -> Result<Box<dyn Lookup>, LookupError> {
        Ok(Box::new(Self))
    }
}

impl Lookup for Asker {
    fn run(
        self: Box<Self>,
        inbox: Arc<Inbox>,
        emit: Emit,
        on: Rc<dyn Executor>,
        _: Standing,
    ) -> LocalFuture<'static, Result<(), LookupError>> {
        Box::pin(async move {
            while let Some(parcel) = inbox.pop().await {
                for n in parcel.numbers() {
                    on.pause().await;
                    let payload = parcel.batch.message(n).payload;
                    if payload.windows(3).any(|w| w == b"hit") {
                        for which in ["one", "two"] {
                            let text = [b"{\"which\":\"", which.as_bytes(), b"\",\"of\":", payload, b"}"].concat();
                            emit.child(&parcel, n, 0, None, text);
                        }
                    }
                    if payload.windows(4).any(|w| w == b"fail") {
                        emit.child(&parcel, n, 1, None, payload.to_vec());
                    }
                    parcel.acks.delivered_one(parcel.batch.stream, parcel.batch.seq, n);
                }
            }
            Ok(())
        })
    }
}

fn with_asker(text: &str, inputs: &str, required: bool) -> Config {
    // The sinks' inputs name a lookup that only this test has.
    let mut config = read(text);
    let inputs = Inputs { place: Place::Default, names: vec![(inputs.to_owned(), Place::Default)] };
    let (name, place, kind) = ("misp".to_owned(), Place::Default, "asker");
    config.lookups.push(LookupEntry { name, place, kind, inputs, required, outputs: &["", "failed"], spec: Some(Box::new(Asker)) });
    config
}

#[test]
fn what_a_lookup_makes_is_delivered_before_its_record_is_acked() {
    for required in [true, false] {
        let scene = Scene::new();
        let config = scene.config("[stages.once]\nkind = 'dedup'\ninputs = ['all']\n", &[("out", "misp"), ("gaps", "misp.failed")]);
        let kinds = |n: u64| ["hit", "none", "fail"][n as usize % 3];
        let lines: Vec<String> = (0..3000).map(|n| alert(&format!("{} {n}", kinds(n)), n)).collect();
        scene.write(lines.clone());
        scene.write([lines[0].clone()]);
        let (agent, metrics) = scene.start(with_asker(&config, "once", required)).unwrap();
        until("all is settled", || settled(&metrics, length(&scene.input)));
        until("all is written", || scene.lines("out").len() == 2000 && scene.lines("gaps").len() == 1000);
        assert!(agent.drain());
        let expected: Vec<String> =
            lines.iter().step_by(3).flat_map(|l| ["one", "two"].map(|w| format!("{{\"which\":\"{w}\",\"of\":{l}}}"))).collect();
        assert_eq!(scene.lines("out"), expected);
        let counts = metrics.branch("in", "all");
        let bytes = |kind: &str| lines.iter().filter(|l| l.contains(kind)).map(|l| l.len() as u64 + 1).sum::<u64>();
        let repeat = lines[0].len() as u64 + 1;
        if required {
            assert_eq!(counts.shipped.get(), bytes("hit") + bytes("fail"));
            assert_eq!(counts.dropped.each(), [("duplicate", repeat), ("looked_up", bytes("none"))]);
        } else {
            assert_eq!(counts.shipped.get(), 0);
            assert_eq!(counts.dropped.total(), length(&scene.input));
        }
        assert_eq!(counts.imbalance(), 0);
        let lookup = metrics.lookup("misp");
        assert_eq!((lookup.taken.get(), lookup.settled.get(), lookup.emitted.get()), (3000, 3000, 3000));
        assert_eq!(counts.emitted.get(), counts.delivered.get(), "all that was owed was settled");
    }
}
