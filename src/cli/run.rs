//! `shipper run`: the agent, until SIGTERM; SIGHUP takes the config anew.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context;
use argh::FromArgs;

use super::{DEFAULT_CONFIG, UNAVAILABLE, log::Log, signals::Asked, systemd::Systemd};
use crate::{
    api::Face,
    clock::{SystemClock, nanos},
    io::{
        self, Disk, Watcher,
        disk::{RealDisk, StateLock},
    },
    metrics::{Board, Metrics},
    store::{self, Writer},
    topology::{
        Engine, Flag, Host, OnFull, Plan,
        face::{self, Opened},
        pulse::Pulse,
        rows::Rows,
        run::{Agent, EdgeTask, Needs},
        scanning::{Around, ScanError, Scanning},
        tables,
    },
};

/// Run the agent until SIGTERM or SIGINT; SIGHUP takes the config anew.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "run",
    example = "shipper run",
    example = "shipper run --config shipper.toml --cores 4 --engine pread",
    example = "shipper run --role worker --master https://scan.example:8000 --key-file worker.key"
)]
pub struct Run {
    /// config file (default /etc/shipper/shipper.toml)
    #[argh(option)]
    pub config: Option<PathBuf>,
    /// shards, each pinned to a core
    #[argh(option)]
    pub cores: Option<usize>,
    /// auto, uring or pread
    #[argh(option)]
    pub engine: Option<String>,
    /// scan files as this: both, master or worker
    #[argh(option)]
    pub role: Option<String>,
    /// of a worker: where its master answers
    #[argh(option)]
    pub master: Option<String>,
    /// of a worker: file with its key
    #[argh(option)]
    pub key_file: Option<String>,
}

impl Run {
    /// Loads the config, below flags and environment.
    fn plan(&self) -> Result<Plan, crate::topology::ConfigError> {
        let default = Path::new(DEFAULT_CONFIG);
        let path = self.config.as_deref().or_else(|| (self.master.is_none() || default.exists()).then_some(default));
        let cores = self.cores.map(|cores| Flag { path: "cores", value: cores.to_string(), flag: "--cores" });
        let engine = self.engine.clone().map(|value| Flag { path: "engine", value, flag: "--engine" });
        let role = self.role.clone().map(|value| Flag { path: "scan.role", value, flag: "--role" });
        let master = self.master.clone().map(|value| Flag { path: "scan.worker.master", value, flag: "--master" });
        let key = self.key_file.clone().map(|value| Flag { path: "scan.worker.key_file", value, flag: "--key-file" });
        let flags: Vec<Flag> = cores.into_iter().chain(engine).chain(role).chain(master).chain(key).collect();
        Plan::load(path, std::env::vars(), &flags, &Host::this())
    }
}

/// Runs the command.
///
/// # Errors
/// A wrong config, a state folder that is held or cannot be trusted, threads that cannot start.
pub fn run(args: Run) -> anyhow::Result<ExitCode> {
    let plan = args.plan()?;
    if plan.scan.is_some() && !cfg!(feature = "scan") {
        return Err(ScanError::Lacking.into());
    }
    let log = Log::start(&plan.globals.log)?;
    let engine = match engine_of(&plan) {
        Ok(engine) => engine,
        Err(why) => {
            eprintln!("shipper: {why}");
            return Ok(ExitCode::from(UNAVAILABLE));
        }
    };
    let mut process = Process::open(&args, log, &plan)?;
    let bound = face::open(&plan.globals)?;
    let mut graph = Graph { plan: Arc::new(plan), engine };
    let (mut agent, mut scanning) = process.start(&graph, bound)?;
    loop {
        process.systemd.ready();
        let next = process.wait(&agent, &graph);
        match &next {
            None => process.systemd.stopping(),
            Some(_) => process.board.end_for_next(),
        }
        if let Some(pulse) = &process.pulse {
            pulse.store(None);
        }
        // Files first: what is found in the last moment still goes out.
        let rests = scanning.as_mut().is_none_or(Scanning::drain);
        let clean = agent.drain();
        if let Some(scanning) = scanning.take() {
            scanning.end();
        }
        tell(&process.metrics);
        if !rests {
            tracing::warn!("stopped before every file was scanned; the rest is scanned at the next start");
        }
        if !clean {
            let again = if next.is_some() { "is read again" } else { "is read again at the next start" };
            tracing::warn!("stopped before everything was acked; the rest {again}");
        }
        let Some(next) = next else { return Ok(ExitCode::SUCCESS) };
        if process.asked.stop.take() {
            process.systemd.stopping();
            return Ok(ExitCode::SUCCESS);
        }
        let bound = match next.bound {
            Some(bound) => Some(bound),
            // Its place is free only now.
            None => face::open(&next.graph.plan.globals).unwrap_or_else(|e| {
                tracing::error!("the HTTP face stays off until the next reload: {e}");
                None
            }),
        };
        process.letters = next.letters;
        face::adopt(&next.graph.plan, &graph.plan);
        graph = next.graph;
        process.metrics.begin_anew();
        process.rows.mark_changed();
        (agent, scanning) = process.start(&graph, bound)?;
        tracing::info!("the config is taken anew");
    }
}

/// What runs.
struct Graph {
    plan: Arc<Plan>,
    engine: io::Engine,
}

/// What will run, with all that could have failed behind it.
struct Next {
    graph: Graph,
    letters: Letters,
    /// A new place of the HTTP face.
    bound: Option<Opened>,
}

/// The folder of the dead letter, locked where it is not inside the state folder.
struct Letters {
    path: PathBuf,
    lock: Option<Arc<StateLock>>,
}

/// What stays while graphs come and go.
struct Process<'a> {
    args: &'a Run,
    log: Log,
    state: PathBuf,
    _lock: StateLock,
    letters: Letters,
    clock: SystemClock,
    cores: Vec<usize>,
    watcher: Watcher,
    board: Board,
    metrics: Metrics,
    rows: Rows,
    /// Opened, and not yet used by the first graph.
    writer: Option<Writer>,
    asked: Arc<Asked>,
    systemd: Systemd,
    pulse: Option<Pulse>,
}

impl<'a> Process<'a> {
    fn open(args: &'a Run, log: Log, plan: &Plan) -> anyhow::Result<Self> {
        let state = plan.globals.state_dir.clone();
        RealDisk::new()
            .make_dir(&state)
            .with_context(|| format!("cannot make state folder {}; name another with state.dir, or fix permissions", state.display()))?;
        let lock = StateLock::take(&state)?;
        let letters = Letters::take(&state, &plan.globals.dead_letter.path)?;
        let (mut writer, checkpoint) = open_store(&state, &letters.path, plan)?;
        let snapshots = writer.take_snapshots();
        let (clock, board) = (SystemClock::new(), Board::default());
        let metrics = Metrics::new(&board);
        if let Some(saved) = checkpoint.as_ref().and_then(|c| c.saved_at.parse::<jiff::Timestamp>().ok()) {
            metrics.saved(u64::try_from(saved.as_nanosecond()).unwrap_or(0));
        }
        let watcher = Watcher::new().context("cannot start the watch thread")?;
        let systemd = Systemd::of_this_process();
        let pulse = systemd.pulse();
        let (beats, shown, figures) = (pulse.clone(), board.clone(), metrics.clone());
        let asked = Asked::listen(&watcher, clock, Box::new(move |io| Box::pin(systemd.keep(io, beats, shown, figures))))?;
        Ok(Self {
            args,
            log,
            state,
            _lock: lock,
            letters,
            clock,
            cores: io::cores().context("cannot ask which cores may be used")?,
            watcher,
            board,
            metrics,
            rows: Rows::new(checkpoint.map(|c| c.rows).unwrap_or_default()).with_snapshots(snapshots),
            writer: Some(writer),
            asked,
            systemd,
            pulse,
        })
    }

    fn start(&mut self, graph: &Graph, bound: Option<Opened>) -> anyhow::Result<(Agent, Option<Scanning>)> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            // The rows are in memory, no older than what was saved of them.
            None => open_store(&self.state, &self.letters.path, &graph.plan)?.0,
        };
        self.board.begin();
        let store = store::start(writer, self.clock, self.board.enter("store")).context("cannot start the store thread")?;
        if let Some(pulse) = &self.pulse {
            pulse.store(Some(store.clone()));
        }
        let around = Around { board: self.board.clone(), watcher: self.watcher.clone(), clock: self.clock };
        let scanning = Scanning::start(&graph.plan, around)?;
        let stats = stats(graph.plan.globals.log.stats_every, self.metrics.clone());
        let shown = bound.map(|bound| {
            let (board, metrics) = (self.board.clone(), self.metrics.clone());
            let shown = face::face(&graph.plan, graph.engine, self.clock, board, metrics, Some(store.clone()));
            face::shown(bound, Face { scan: scanning.as_ref().map(|scanning| scanning.face(&graph.plan)), ..shown })
        });
        let needs = Needs {
            plan: graph.plan.clone(),
            engine: graph.engine,
            cores: self.cores.clone(),
            watcher: self.watcher.clone(),
            clock: self.clock,
            board: self.board.clone(),
            metrics: self.metrics.clone(),
            store: Some(store),
            rows: self.rows.clone(),
            waiter: std::thread::current(),
        };
        let agent = Agent::start_watched(needs, [stats].into_iter().chain(shown).collect(), self.pulse.clone())?;
        Ok((agent, scanning))
    }

    /// Waits for a stop (`None`) or for a config that can take the place of this one.
    fn wait(&self, agent: &Agent, graph: &Graph) -> Option<Next> {
        loop {
            // Who only answers the API has no source that could end.
            if self.asked.stop.take() || (agent.sources() == 0 && !graph.plan.sources.is_empty()) {
                return None;
            }
            if self.asked.reopen.take() {
                self.reopen();
            }
            if self.asked.hangup.take() {
                self.reopen();
                self.systemd.reloading();
                match self.prepare(graph) {
                    Ok(next) => return Some(next),
                    Err(e) => {
                        tracing::error!("SIGHUP: the config is not taken, the agent goes on with the one it has");
                        // Everything that is wrong, a line each.
                        for line in format!("{e:#}").lines() {
                            tracing::error!("{line}");
                        }
                        self.systemd.ready();
                    }
                }
            }
            std::thread::park();
        }
    }

    fn reopen(&self) {
        if let Err(e) = self.log.reopen() {
            tracing::error!("{e:#}; lines go on into the old file");
        }
    }

    /// Everything of a reload that can fail, before anything is stopped.
    fn prepare(&self, graph: &Graph) -> anyhow::Result<Next> {
        let mut plan = self.args.plan()?;
        let (old, new) = (&graph.plan.globals, &plan.globals);
        anyhow::ensure!(new.state_dir == self.state, "state.dir cannot change while the agent runs; restart it");
        let input = graph.plan.sources.iter().find(|source| source.kind == "stdin");
        anyhow::ensure!(input.is_none(), "standard input cannot be begun anew; restart the agent");
        let engine = engine_of(&plan).map_err(anyhow::Error::msg)?;
        for sink in &plan.sinks {
            sink.spec.build(&sink.name)?;
        }
        for lookup in &plan.lookups {
            lookup.spec.build(&lookup.name, &plan.given())?;
        }
        Scanning::check(&plan)?;
        Scanning::check_broker(&plan)?;
        tables::fill_after(&mut plan, &graph.plan);
        let new = &plan.globals;
        let letters = if new.dead_letter.path == self.letters.path {
            Letters { path: self.letters.path.clone(), lock: self.letters.lock.clone() }
        } else {
            Letters::take(&self.state, &new.dead_letter.path)?
        };
        let bound = if new.api == old.api { None } else { face::open(new)? };
        self.log.set(&new.log)?;
        Ok(Next { graph: Graph { plan: Arc::new(plan), engine }, letters, bound })
    }
}

impl Letters {
    fn take(state: &Path, path: &Path) -> anyhow::Result<Self> {
        let lock = if path.starts_with(state) {
            None
        } else {
            RealDisk::new().make_dir(path).with_context(|| {
                format!("cannot make folder {}; name another with dead_letter.path, or fix permissions", path.display())
            })?;
            Some(Arc::new(StateLock::take(path)?))
        };
        Ok(Self { path: path.to_owned(), lock })
    }
}

fn engine_of(plan: &Plan) -> Result<io::Engine, String> {
    let wanted = match plan.globals.engine {
        Engine::Auto => io::Asked::Auto,
        Engine::Uring => io::Asked::Uring,
        Engine::Pread => io::Asked::Pread,
    };
    let (engine, why) = io::choose(wanted).map_err(|why| why.to_string())?;
    tracing::info!(%engine, why, "engine");
    Ok(engine)
}

fn open_store(state: &Path, letters: &Path, plan: &Plan) -> Result<(Writer, Option<crate::checkpoint::Checkpoint>), store::StoreError> {
    let options = store::Options {
        dead_letter_bytes_max: plan.globals.dead_letter.max_bytes,
        on_full: match plan.globals.dead_letter.on_full {
            OnFull::Stop => store::OnFull::Stop,
            OnFull::DropOldest => store::OnFull::DropOldest,
        },
        dead_letter_age_max: plan.globals.dead_letter.max_age.map(nanos),
        ..store::Options::default()
    };
    Writer::open_apart(Box::new(RealDisk::new()), state, letters, options)
}

/// Figures in the log, now and then.
fn stats(every: std::time::Duration, metrics: Metrics) -> EdgeTask {
    Box::new(move |io| {
        Box::pin(async move {
            if every.is_zero() {
                return;
            }
            loop {
                io.sleep(every).await;
                tell(&metrics);
            }
        })
    })
}

/// One line of figures for each branch.
fn tell(metrics: &Metrics) {
    for (source, branch, counts) in metrics.branches() {
        tracing::info!(
            source,
            branch,
            read_bytes = counts.read.get(),
            shipped_bytes = counts.shipped.get(),
            dropped_bytes = counts.dropped.total(),
            dead_letter_bytes = counts.dead_letter.total(),
            in_flight_bytes = counts.in_flight.get(),
            "statistics"
        );
    }
    for (source, stage, counts) in metrics.stages() {
        tracing::info!(
            source,
            stage,
            taken = counts.taken.get(),
            emitted = counts.emitted.get(),
            dropped = counts.dropped.total(),
            late = counts.late.get(),
            evicted = counts.evicted.get(),
            entries = counts.entries.get(),
            "statistics"
        );
    }
    for (lookup, counts) in metrics.lookups() {
        tracing::info!(lookup, taken = counts.taken.get(), settled = counts.settled.get(), emitted = counts.emitted.get(), "statistics");
    }
    for (component, figures) in metrics.figures() {
        tracing::info!(component, figures, "statistics");
    }
}
