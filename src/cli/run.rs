//! `shipper run`: the agent, until SIGTERM.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context;
use argh::FromArgs;

use super::{DEFAULT_CONFIG, UNAVAILABLE, log::Log};
use crate::{
    api::Bound,
    clock::SystemClock,
    io::{
        self, Disk, Watcher,
        disk::{RealDisk, StateLock},
    },
    metrics::{Board, Metrics},
    ring::Signal,
    store::{self, Writer},
    topology::{
        Engine, Flag, Host, OnFull, Plan, face,
        rows::Rows,
        run::{Agent, Needs},
    },
};

/// Run the agent until SIGTERM or SIGINT.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "run", example = "shipper run", example = "shipper run --config shipper.toml --cores 4 --engine pread")]
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
}

/// Runs the command.
///
/// # Errors
/// A wrong config, a state folder that is held or cannot be trusted, threads that cannot start.
pub fn run(args: Run) -> anyhow::Result<ExitCode> {
    let path = args.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG));
    let mut flags = Vec::new();
    if let Some(cores) = args.cores {
        flags.push(Flag { path: "cores", value: cores.to_string(), flag: "--cores" });
    }
    if let Some(engine) = &args.engine {
        flags.push(Flag { path: "engine", value: engine.clone(), flag: "--engine" });
    }
    let plan = Plan::load(Some(path), std::env::vars(), &flags, &Host::this())?;
    let log = Log::start(&plan.globals.log)?;
    let wanted = match plan.globals.engine {
        Engine::Auto => io::Asked::Auto,
        Engine::Uring => io::Asked::Uring,
        Engine::Pread => io::Asked::Pread,
    };
    let (engine, why) = match io::choose(wanted) {
        Ok(chosen) => chosen,
        Err(why) => {
            eprintln!("shipper: {why}");
            return Ok(ExitCode::from(UNAVAILABLE));
        }
    };
    tracing::info!(%engine, why, "engine");
    let state = plan.globals.state_dir.clone();
    RealDisk::new()
        .make_dir(&state)
        .with_context(|| format!("cannot make state folder {}; name another with state.dir, or fix permissions", state.display()))?;
    let _lock = StateLock::take(&state)?;
    let letters = plan.globals.dead_letter.path.clone();
    let _letters_lock = lock_letters(&state, &letters)?;
    let bound = plan.globals.api.as_ref().map(Bound::bind).transpose()?;
    let options = store::Options {
        dead_letter_bytes_max: plan.globals.dead_letter.max_bytes,
        on_full: match plan.globals.dead_letter.on_full {
            OnFull::Stop => store::OnFull::Stop,
            OnFull::DropOldest => store::OnFull::DropOldest,
        },
        ..store::Options::default()
    };
    let (writer, checkpoint) = Writer::open_apart(Box::new(RealDisk::new()), &state, &letters, options)?;
    let clock = SystemClock::new();
    let board = Board::default();
    let metrics = Metrics::new(&board);
    let store = store::start(writer, clock, board.enter("store")).context("cannot start the store thread")?;
    if let Some(saved) = checkpoint.as_ref().and_then(|c| c.saved_at.parse::<jiff::Timestamp>().ok()) {
        metrics.saved(u64::try_from(saved.as_nanosecond()).unwrap_or(0));
    }
    let rows = checkpoint.map(|c| c.rows).unwrap_or_default();
    let watcher = Watcher::new().context("cannot start the watch thread")?;
    let every = plan.globals.log.stats_every;
    let (stats_of, stats_rows) = (metrics.clone(), Rows::new(rows));
    let stats: crate::topology::run::EdgeTask = Box::new(move |io| {
        Box::pin(async move {
            if every.is_zero() {
                return;
            }
            loop {
                io.sleep(every).await;
                tell(&stats_of);
            }
        })
    });
    let cores = io::cores().context("cannot ask which cores may be used")?;
    let shown = bound.map(|bound| face::task(bound, face::face(&plan, engine, clock, board.clone(), metrics.clone(), Some(store.clone()))));
    let needs = Needs {
        plan: Arc::new(plan),
        engine,
        cores,
        watcher,
        clock,
        board,
        metrics: metrics.clone(),
        store: Some(store),
        rows: stats_rows,
        waiter: std::thread::current(),
    };
    let asked = Asked::listen(&needs)?;
    let agent = Agent::start(needs, [stats].into_iter().chain(shown).collect())?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    while !asked.stop.take() && agent.sources() > 0 {
        if asked.hangup.take() {
            match log.reopen() {
                Ok(()) => tracing::warn!("SIGHUP: the log is opened anew; this build cannot reload, restart to take a changed config"),
                Err(e) => tracing::error!("SIGHUP: {e:#}; lines go on into the old file"),
            }
        }
        std::thread::park();
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    let clean = agent.drain();
    tell(&metrics);
    if !clean {
        tracing::warn!("stopped before everything was acked; the rest is read again at the next start");
    }
    Ok(ExitCode::SUCCESS)
}

/// Locks the folder of the dead letter where it is not inside the state folder.
fn lock_letters(state: &Path, letters: &Path) -> anyhow::Result<Option<StateLock>> {
    if letters.starts_with(state) {
        return Ok(None);
    }
    RealDisk::new()
        .make_dir(letters)
        .with_context(|| format!("cannot make folder {}; name another with dead_letter.path, or fix permissions", letters.display()))?;
    Ok(Some(StateLock::take(letters)?))
}

/// What signals ask of the main thread, which is unparked by each.
struct Asked {
    stop: Signal,
    hangup: Signal,
}

impl Asked {
    /// Listens on a thread of its own, which lives as long as the process: what the agent is made
    /// of may be built anew meanwhile, and no signal is lost.
    fn listen(needs: &Needs) -> anyhow::Result<Arc<Self>> {
        use tokio::signal::unix::{SignalKind, signal};
        let asked = Arc::new(Self { stop: Signal::default(), hangup: Signal::default() });
        let (tells, main) = (asked.clone(), std::thread::current());
        let setup = io::Setup {
            name: "signals".into(),
            core: None,
            network: true,
            slabs: io::SlabPool::new(1),
            watcher: needs.watcher.clone(),
            clock: needs.clock,
            cold: false,
        };
        let body = move |_: std::rc::Rc<dyn io::Io>| -> io::LocalFuture<'static, ()> {
            Box::pin(async move {
                let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
                let [Ok(mut term), Ok(mut int), Ok(mut hup)] = kinds.map(signal) else {
                    tracing::error!("cannot catch signals; a stop will not drain, and what is unacked is read again at the next start");
                    return;
                };
                loop {
                    tokio::select! {
                        _ = term.recv() => tells.stop.raise(),
                        _ = int.recv() => tells.stop.raise(),
                        _ = hup.recv() => tells.hangup.raise(),
                    }
                    main.unpark();
                }
            })
        };
        io::spawn(io::Engine::Pread, setup, body).context("cannot start the thread that hears signals")?;
        Ok(asked)
    }
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
}
