//! The agent inside another command's process: for the demo, measuring and tests.

use std::{path::Path, sync::Arc, thread};

use anyhow::Context;

use crate::{
    clock::SystemClock,
    io::{self, Disk, Engine, Watcher, disk::RealDisk},
    metrics::{Board, Metrics},
    register::Node,
    store::{self, Writer},
    topology::{
        Config, Host, Plan,
        rows::Rows,
        run::{Agent, EdgeTask, Needs},
        scanning::{Around, Scanning},
    },
};

/// A started agent, what it counts and how its components stand.
pub struct Inside {
    pub agent: Agent,
    /// Where the config has `[scan]`; it is drained before the agent, and ended after it.
    pub scanning: Option<Scanning>,
    pub metrics: Metrics,
    pub board: Board,
}

impl Inside {
    /// Starts an agent on a config given as TOML; its state is kept in `state`, and goes on from there.
    ///
    /// - `host`: names it, and says what broker `embedded` is.
    /// - `tasks`: what else runs on its edge thread.
    ///
    /// # Errors
    /// A wrong config, a state folder that cannot be used, threads that cannot start.
    pub fn start(config: &str, host: &Host, state: &Path, engine: Engine, tasks: Vec<EdgeTask>) -> anyhow::Result<Self> {
        let tree = Node::parse_toml(config).map_err(|e| anyhow::anyhow!("{e}"))?;
        let plan = Plan::build(Config::read(tree, std::iter::empty(), &[], host)).map_err(|e| anyhow::anyhow!("{e}"))?;
        RealDisk::new().make_dir(state).with_context(|| format!("cannot make state folder {}", state.display()))?;
        let (mut writer, checkpoint) = Writer::open(Box::new(RealDisk::new()), state, store::Options::default())?;
        let rows = Rows::new(checkpoint.map(|c| c.rows).unwrap_or_default()).with_snapshots(writer.take_snapshots());
        let (clock, board) = (SystemClock::new(), Board::default());
        let metrics = Metrics::new(&board);
        let watcher = Watcher::new().context("cannot start the watch thread")?;
        let around = Around { board: board.clone(), watcher: watcher.clone(), clock };
        let scanning = Scanning::start(&plan, around)?;
        let needs = Needs {
            plan: Arc::new(plan),
            engine,
            cores: io::cores().context("cannot ask which cores may be used")?,
            watcher,
            clock,
            board: board.clone(),
            metrics: metrics.clone(),
            store: Some(store::start(writer, clock, board.enter("store")).context("cannot start the store thread")?),
            rows,
            waiter: thread::current(),
        };
        Ok(Self { agent: Agent::start(needs, tasks)?, scanning, metrics, board })
    }

    /// Drains it: what it counted, and whether nothing was owed any more.
    pub fn stop(self) -> (Metrics, bool) {
        (self.metrics, self.agent.drain())
    }
}
