//! The running agent over real files: started, drained, killed and started again.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use shipper::{
    clock::SystemClock,
    io::{Engine, Watcher, cores, disk::RealDisk},
    metrics::{Board, Metrics},
    store::{self, Options, Writer},
    topology::{
        Config, Host, Plan,
        home::Rows,
        run::{Agent, Needs},
    },
};

/// A started agent and what it counts.
pub struct Started {
    pub agent: Agent,
    pub metrics: Metrics,
}

/// Starts an agent on `config`, with its state in `dir`.
pub fn start(config: &str, dir: &Path, engine: Engine) -> Started {
    let tree = shipper::register::Node::parse_toml(config).unwrap();
    let plan = Plan::build(Config::read(tree, std::iter::empty(), &[], &Host { name: "mgr-1".into(), embedded: None })).unwrap();
    let (writer, checkpoint) = Writer::open(Box::new(RealDisk::new()), dir, Options::default()).unwrap();
    let (clock, board) = (SystemClock::new(), Board::default());
    let metrics = Metrics::new(&board);
    let store = store::start(writer, clock, board.enter("store")).unwrap();
    let rows = Rows::new(checkpoint.map(|c| c.rows).unwrap_or_default());
    let needs = Needs {
        plan: Arc::new(plan),
        engine,
        cores: cores().unwrap(),
        watcher: Watcher::new().unwrap(),
        clock,
        board,
        metrics: metrics.clone(),
        store: Some(store),
        rows,
    };
    Started { agent: Agent::start(needs, Vec::new()).unwrap(), metrics }
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
