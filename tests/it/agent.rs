//! The running agent over real files: started, drained, killed and started again.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use shipper::{
    api::Bound,
    clock::SystemClock,
    io::{Engine, Watcher, cores, disk::RealDisk},
    metrics::{Board, Metrics},
    store::{self, Options, Writer},
    topology::{
        Config, Host, Plan, face,
        rows::Rows,
        run::{Agent, Needs},
    },
};

/// A started agent and what it counts.
pub struct Started {
    pub agent: Agent,
    pub metrics: Metrics,
    pub board: Board,
}

/// Starts an agent on `config`, with its state in `dir`.
pub fn start(config: &str, dir: &Path, engine: Engine) -> Started {
    start_facing(config, dir, engine, None)
}

/// Starts an agent that answers on `bound`.
pub fn start_facing(config: &str, dir: &Path, engine: Engine, bound: Option<Bound>) -> Started {
    let tree = shipper::register::Node::parse_toml(config).unwrap();
    let plan = Plan::build(Config::read(tree, std::iter::empty(), &[], &Host { name: "mgr-1".into(), embedded: None })).unwrap();
    let (mut writer, checkpoint) = Writer::open(Box::new(RealDisk::new()), dir, Options::default()).unwrap();
    let snapshots = writer.take_snapshots();
    let (clock, board) = (SystemClock::new(), Board::default());
    let metrics = Metrics::new(&board);
    let store = store::start(writer, clock, board.enter("store")).unwrap();
    let rows = Rows::new(checkpoint.map(|c| c.rows).unwrap_or_default()).with_snapshots(snapshots);
    let shown = bound.map(|bound| face::task(bound, face::face(&plan, engine, clock, board.clone(), metrics.clone(), Some(store.clone()))));
    let needs = Needs {
        plan: Arc::new(plan),
        engine,
        cores: cores().unwrap(),
        watcher: Watcher::new().unwrap(),
        clock,
        board: board.clone(),
        metrics: metrics.clone(),
        store: Some(store),
        rows,
        waiter: std::thread::current(),
    };
    Started { agent: Agent::start(needs, shown.into_iter().collect()).unwrap(), metrics, board }
}

/// Waits until `is` holds, and says `what` did not come about otherwise.
#[track_caller]
pub fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn line(n: u64) -> String {
    format!("{{\"timestamp\":\"2026-03-14T06:25:12.001+0100\",\"rule\":{{\"level\":3,\"id\":\"5501\"}},\"id\":\"{n}\"}}\n")
}

fn config(file: &Path) -> String {
    format!(
        "[sources.alerts]\nkind = \"wazuh\"\npath = {:?}\nstart_at = \"beginning\"\n[handlers.all]\nkind = \"forward\"\ninputs = [\"alerts\"]\n[sinks.nothing]\nkind = \"blackhole\"\ninputs = [\"all\"]\n",
        file.display().to_string()
    )
}

#[track_caller]
fn check_law(metrics: &Metrics, shipped: u64, dead: u64) {
    let counts = metrics.branch("alerts", "all");
    assert_eq!((counts.shipped.get(), counts.dead_letter.total()), (shipped, dead));
    assert_eq!(counts.imbalance(), 0, "read = shipped + dropped + dead letter + in flight");
}

#[test]
fn a_restart_goes_on_where_the_checkpoint_stands_and_the_sums_add_up() {
    for engine in [Engine::Pread, Engine::Uring] {
        if engine == Engine::Uring && shipper::io::choose(shipper::io::Asked::Uring).is_err() {
            eprintln!("skipped on uring: this kernel refuses io_uring");
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let (state, file) = (dir.path().join("state"), dir.path().join("alerts.json"));
        let whole: String = (0..2000).map(line).collect();
        fs::write(&file, &whole).unwrap();

        let first = start(&config(&file), &state, engine);
        let counts = first.metrics.branch("alerts", "all");
        until("all of the first part is shipped", || counts.shipped.get() == whole.len() as u64);
        assert!(first.agent.drain(), "nothing is owed at the end");
        check_law(&first.metrics, whole.len() as u64, 0);

        let more: String = (2000..2100).map(line).collect();
        let broken = "{\"timestamp\":\"cut in the mid\n";
        fs::write(&file, format!("{whole}{more}{broken}")).unwrap();
        let second = start(&config(&file), &state, engine);
        let counts = second.metrics.branch("alerts", "all");
        until("the rest is read", || counts.read.get() == (more.len() + broken.len()) as u64);
        assert!(second.agent.drain());
        check_law(&second.metrics, more.len() as u64, broken.len() as u64);
        let letters = fs::read_dir(state.join("dead-letter")).unwrap().count();
        assert!(letters > 0, "the broken line is in the dead letter");
    }
}

#[test]
fn slabs_that_another_shard_handles_come_out_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (dir.path().join("alerts.json"), dir.path().join("out.json"));
    // A broken line now and then: what is refused is settled in order too.
    let text: String = (0..120_000).map(|n| if n % 997 == 0 { "{\"timestamp\":\"cut\n".to_owned() } else { line(n) }).collect();
    fs::write(&file, &text).unwrap();
    let config = format!(
        "cores = 2\n[sources.alerts]\nkind = \"file\"\npath = {file:?}\nstart_at = \"beginning\"\n[handlers.all]\nkind = \"forward\"\ninputs = [\"alerts\"]\nvalidate = \"parse\"\n[sinks.out]\nkind = \"file\"\ninputs = [\"all\"]\npath = {out:?}\nfsync = false\n"
    );
    for engine in [Engine::Pread, Engine::Uring] {
        if engine == Engine::Uring && shipper::io::choose(shipper::io::Asked::Uring).is_err() {
            eprintln!("skipped on uring: this kernel refuses io_uring");
            continue;
        }
        let _ = fs::remove_file(&out);
        let started = start(&config, &dir.path().join(format!("state-{engine}")), engine);
        let counts = started.metrics.branch("alerts", "all");
        until("all is read and acked", || counts.read.get() == text.len() as u64 && counts.in_flight.get() == 0);
        assert!(started.metrics.source("alerts").helped.get() > 0, "the other shard had its part");
        assert!(started.agent.drain());
        assert_eq!(counts.imbalance(), 0);
        let whole: String = text.lines().filter(|line| !line.contains("cut")).map(|line| format!("{line}\n")).collect();
        assert!(fs::read_to_string(&out).unwrap() == whole, "every whole line, in order");
    }
}

/// Runs the binary itself, so that it can be killed.
fn spawn(config: &Path) -> std::process::Child {
    std::process::Command::new(env!("CARGO_BIN_EXE_shipper"))
        .args(["run", "--config"])
        .arg(config)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn three_kills_under_load_lose_nothing_and_repeat_only_what_was_not_saved() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (dir.path().join("alerts.json"), dir.path().join("out.json"));
    let settings = dir.path().join("shipper.toml");
    fs::write(
        &settings,
        format!(
            "[state]\ndir = {:?}\n[sources.alerts]\nkind = \"wazuh\"\npath = {:?}\nstart_at = \"beginning\"\n[handlers.all]\nkind = \"forward\"\ninputs = [\"alerts\"]\n[sinks.out]\nkind = \"file\"\ninputs = [\"all\"]\npath = {:?}\n",
            dir.path().join("state").display().to_string(),
            file.display().to_string(),
            out.display().to_string()
        ),
    )
    .unwrap();
    const LINES: u64 = 6000;
    fs::write(&file, "").unwrap();
    let written = file.clone();
    let writer = std::thread::spawn(move || {
        use std::io::Write;
        let mut open = fs::OpenOptions::new().append(true).open(written).unwrap();
        for n in 0..LINES {
            // Two writes a line: a reader meets torn lines all the time.
            let text = line(n);
            let (head, tail) = text.split_at(text.len() / 2);
            open.write_all(head.as_bytes()).unwrap();
            open.write_all(tail.as_bytes()).unwrap();
            if n % 4 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    });
    let lines_out = || fs::read(&out).map(|b| b.iter().filter(|b| **b == b'\n').count() as u64).unwrap_or(0);
    for kill in 1..=3 {
        let mut agent = spawn(&settings);
        until("the agent ships on", || lines_out() >= kill * LINES / 5);
        agent.kill().unwrap();
        agent.wait().unwrap();
    }
    writer.join().unwrap();
    let mut agent = spawn(&settings);
    let last = line(LINES - 1);
    until("the last line arrives", || fs::read(&out).is_ok_and(|bytes| bytes.ends_with(last.as_bytes())));
    agent.kill().unwrap();
    agent.wait().unwrap();

    let expected: std::collections::BTreeSet<String> = (0..LINES).map(line).collect();
    let text = fs::read_to_string(&out).unwrap();
    let came: std::collections::BTreeSet<String> = text.lines().map(|l| format!("{l}\n")).filter(|l| expected.contains(l)).collect();
    assert_eq!(came.len(), expected.len(), "nothing is lost");
    // Each start goes on at or above what an earlier run had saved: runs only step back, never skip.
    let number = |l: &str| l.split("\"id\":\"").nth(2).and_then(|t| t.trim_end_matches("\"}").parse::<u64>().ok());
    let numbers: Vec<u64> = text.lines().filter(|l| expected.contains(&format!("{l}\n"))).filter_map(number).collect();
    let steps_back = numbers.windows(2).filter(|w| w[1] <= w[0]).count();
    assert!(steps_back <= 3, "one step back for each kill at most, not {steps_back}");
    assert!(numbers.windows(2).all(|w| w[1] <= w[0] + 1), "no line is skipped");
}

/// What a reader sees of an agent that takes everything at once.
struct Taker {
    taken: std::cell::Cell<u32>,
    /// Turns of a task beside the reader, at each chunk.
    turns: std::rc::Rc<std::cell::Cell<u32>>,
    most_without_a_turn: std::cell::Cell<u32>,
    last: std::cell::Cell<(u32, u32)>,
    closed: std::cell::Cell<bool>,
    enough: u32,
}

impl shipper::sources::Admit for Taker {
    fn is_closed(&self) -> bool {
        self.closed.get()
    }
    fn closed(&self) -> shipper::io::LocalFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
    fn resume(&self, _: &str) -> Option<shipper::checkpoint::Row> {
        None
    }
    fn rows(&self) -> Vec<shipper::checkpoint::Row> {
        Vec::new()
    }
    fn open(&self, _: &str, _: shipper::position::Position) {}
    fn segment(&self, _: &str, _: shipper::checkpoint::SegmentRow) {}
    fn saved(&self) -> shipper::io::LocalFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
    fn chunk<'a>(&'a self, _: &'a str, _: shipper::sources::Chunk) -> shipper::io::LocalFuture<'a, bool> {
        self.taken.set(self.taken.get() + 1);
        let (turns, since) = self.last.get();
        let since = if turns == self.turns.get() { since + 1 } else { 1 };
        self.last.set((self.turns.get(), since));
        self.most_without_a_turn.set(self.most_without_a_turn.get().max(since));
        self.closed.set(self.taken.get() >= self.enough);
        Box::pin(std::future::ready(true))
    }
    fn lag(&self, _: u64) {}
    fn missed(&self, _: u64) {}
}

#[test]
fn a_backlog_that_nobody_wants_leaves_its_shard_turns_for_others() {
    use shipper::sources::{ALL, Admit as _};
    for engine in [Engine::Pread, Engine::Uring] {
        if engine == Engine::Uring && shipper::io::choose(shipper::io::Asked::Uring).is_err() {
            eprintln!("skipped on uring: this kernel refuses io_uring");
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("alerts.json");
        fs::write(&file, line(1).repeat((40 << 20) / line(1).len())).unwrap();
        let text = format!("path = {:?}\nstart_at = \"beginning\"", file.display().to_string());
        let setup = shipper::io::Setup {
            name: "shard".into(),
            core: None,
            network: false,
            slabs: shipper::io::SlabPool::new(4),
            watcher: Watcher::new().unwrap(),
            clock: SystemClock::new(),
        };
        let running = shipper::io::spawn(engine, setup, move |io| {
            Box::pin(async move {
                let turns = std::rc::Rc::new(std::cell::Cell::new(0));
                let (counted, beside) = (turns.clone(), io.clone());
                io.spawn(
                    "beside",
                    Box::pin(async move {
                        loop {
                            counted.set(counted.get() + 1);
                            beside.pause().await;
                        }
                    }),
                );
                let node = shipper::register::Node::parse_toml(&text).unwrap();
                let kind = ALL.iter().find(|k| k.name() == "wazuh").unwrap();
                let mut errors = shipper::register::Errors::default();
                let spec = kind.parse(&mut shipper::register::Section::open("alerts", &node, kind.fields(), &[], &mut errors));
                let taker = std::rc::Rc::new(Taker {
                    taken: 0.into(),
                    turns,
                    most_without_a_turn: 0.into(),
                    last: (0, 0).into(),
                    closed: false.into(),
                    enough: 100,
                });
                let standing = Board::default().enter("sources.alerts");
                spec.build("alerts", "mgr-1").run(io, taker.clone(), standing).await.unwrap();
                assert!(taker.is_closed());
                taker.most_without_a_turn.get()
            })
        })
        .unwrap();
        let most = running.join().unwrap();
        assert!(most <= 4, "{engine}: {most} slabs were handled before another task had a turn");
    }
}

#[test]
fn a_next_file_that_cannot_be_opened_is_waited_for_and_the_agent_still_stops() {
    for engine in [Engine::Pread, Engine::Uring] {
        if engine == Engine::Uring && shipper::io::choose(shipper::io::Asked::Uring).is_err() {
            eprintln!("skipped on uring: this kernel refuses io_uring");
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let (state, file) = (dir.path().join("state"), dir.path().join("alerts.json"));
        fs::write(&file, line(0)).unwrap();
        let running = start(&config(&file), &state, engine);
        let counts = running.metrics.branch("alerts", "all");
        until("the first file is read", || counts.shipped.get() == line(0).len() as u64);
        // A folder under the name: there, another inode, and no file to read.
        fs::rename(&file, dir.path().join("old.json")).unwrap();
        fs::create_dir(&file).unwrap();
        let told =
            |what: &str| running.board.rows().iter().any(|(name, state)| name == "sources.alerts" && state.to_string().contains(what));
        until("the trouble is told", || told("cannot open"));
        let stopping = std::thread::spawn(move || running.agent.drain());
        until("the agent stops while the trouble lasts", || stopping.is_finished());
        assert!(stopping.join().unwrap());

        fs::remove_dir(&file).unwrap();
        fs::write(&file, line(1)).unwrap();
        let running = start(&config(&file), &state, engine);
        let counts = running.metrics.branch("alerts", "all");
        until("the file that came after it is read", || counts.shipped.get() == line(1).len() as u64);
        assert!(running.agent.drain());
    }
}

#[test]
fn swaps_faster_than_anybody_looks_lose_nothing() {
    const PARTS: u64 = 400;
    for engine in [Engine::Pread, Engine::Uring] {
        if engine == Engine::Uring && shipper::io::choose(shipper::io::Asked::Uring).is_err() {
            eprintln!("skipped on uring: this kernel refuses io_uring");
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let (name, tree, out) = (dir.path().join("alerts.json"), dir.path().join("2026/Mar"), dir.path().join("out.json"));
        fs::create_dir_all(&tree).unwrap();
        let dated =
            |part: u64| tree.join(if part == 0 { "ossec-alerts-14.json".into() } else { format!("ossec-alerts-14-{part:03}.json") });
        fs::write(dated(0), line(0)).unwrap();
        fs::hard_link(dated(0), &name).unwrap();
        let text = config(&name)
            .replace("kind = \"blackhole\"", &format!("kind = \"file\"\nfsync = false\npath = {:?}", out.display().to_string()));
        let running = start(&text, &dir.path().join("state"), engine);
        until("the first part is read", || fs::read(&out).is_ok_and(|bytes| !bytes.is_empty()));
        // As Wazuh swaps: the new file, the name away, the name again, then its first line.
        for part in 1..PARTS {
            fs::write(dated(part), "").unwrap();
            fs::remove_file(&name).unwrap();
            fs::hard_link(dated(part), &name).unwrap();
            let mut open = fs::OpenOptions::new().append(true).open(dated(part)).unwrap();
            std::io::Write::write_all(&mut open, line(part).as_bytes()).unwrap();
        }
        let last = line(PARTS - 1);
        until("the last part is read", || fs::read(&out).is_ok_and(|bytes| bytes.ends_with(last.as_bytes())));
        assert!(running.agent.drain());
        assert_eq!(fs::read_to_string(&out).unwrap(), (0..PARTS).map(line).collect::<String>(), "{engine}: every part once, in order");
    }
}
