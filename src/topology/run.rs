//! The plan running: threads started, wired, drained.
//!
//! Shards read, handle and produce; the edge speaks to the network, saves the checkpoint and
//! tells figures; own threads block. Draining goes the way of the bytes: sources stop, homes wait
//! for what is owed, inboxes close, sinks end, the last checkpoint is saved.

use std::{
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{
    Plan,
    aides::Aides,
    handle::Desk,
    home::{Answers, BranchEnd, OutputEnd, Setup, SinkEnd, SourceHome},
    host::{Body, Host, Place, Threads},
    pulse::Pulse,
    rows::Rows,
    silence::Listener,
    staged::{StageEnd, Stages, snapshot_name},
    tables::Keeper,
};
use crate::{
    batch::DraftPool,
    clock::{Clock, SystemClock},
    io::{Engine, Io, LocalFuture, Watcher},
    limits,
    lookups::{Emit, Lookup, LookupError, PutBy},
    metrics::{Board, Count, Metrics, Standing, State},
    ring::{Mailbox, Signal},
    sinks::{Inbox, Sink, SinkError, Thread},
    sources::Source,
    stages::Now,
    store::StoreHandle,
};

/// Why the agent cannot start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A thread or its executor.
    #[error("cannot start the agent's threads")]
    Start(#[from] io::Error),
    /// A sink.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A stage cannot read what it saved.
    #[error(
        "stage {stage} cannot read its snapshot {name} in the state folder: {what}; restore it from a backup, or remove it: the stage then begins anew"
    )]
    Snapshot { stage: String, name: String, what: String },
}

/// What the running agent is handed.
pub struct Needs {
    pub plan: Arc<Plan>,
    pub engine: Engine,
    pub cores: Vec<usize>,
    pub watcher: Watcher,
    pub clock: SystemClock,
    pub board: Board,
    pub metrics: Metrics,
    /// `None` keeps nothing: no checkpoint, no dead letter (measuring only).
    pub store: Option<StoreHandle>,
    pub rows: Rows,
    /// Unparked when a source has ended by itself.
    pub waiter: std::thread::Thread,
}

/// What the agent is wired from, whatever its bodies run on.
pub struct Wiring {
    pub plan: Arc<Plan>,
    pub board: Board,
    pub metrics: Metrics,
    /// `None` keeps nothing: no checkpoint, no dead letter (measuring only).
    pub store: Option<StoreHandle>,
    pub rows: Rows,
    /// Unparked when a source has ended by itself.
    pub waiter: std::thread::Thread,
}

/// Nanoseconds that a source has for its last words to another side, even behind the deadline of a drain.
const LAST_WORDS: u64 = limits::LAST_WORDS_MS * 1_000_000;

/// The running agent.
pub struct Agent<H: Host = Threads> {
    host: H,
    stop: Vec<Arc<Signal>>,
    shards: Vec<H::Started>,
    others: Vec<H::Started>,
    inboxes: Vec<Arc<Inbox>>,
    edge_stop: Arc<Signal>,
    edge: H::Started,
    store: Option<StoreHandle>,
    rows: Rows,
    metrics: Metrics,
    instance: String,
    drain_for: Duration,
    /// Sources that have not ended by themselves.
    sources: Arc<AtomicUsize>,
}

/// Builds a sink on the thread that runs it.
type Build = Box<dyn FnOnce() -> Result<Box<dyn Sink>, SinkError> + Send>;

/// Builds a lookup on the edge thread.
type BuildLookup = Box<dyn FnOnce() -> Result<Box<dyn Lookup>, LookupError> + Send>;

/// Makes a source's half on its home shard.
type BuildHome = Box<dyn FnOnce() -> Box<dyn Source> + Send>;

/// A future for the edge thread (the HTTP face).
pub type EdgeTask = Box<dyn FnOnce(Rc<dyn Io>) -> LocalFuture<'static, ()> + Send>;

impl Agent {
    /// Starts every thread of the plan.
    ///
    /// - `edge_tasks`: what else runs on the edge thread until the drain ends.
    ///
    /// # Errors
    /// [`RunError`]; what had been started ends with the process.
    pub fn start(needs: Needs, edge_tasks: Vec<EdgeTask>) -> Result<Self, RunError> {
        Self::start_watched(needs, edge_tasks, None)
    }

    /// As [`start`](Self::start), with a pulse for the watchdog.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_watched(needs: Needs, edge_tasks: Vec<EdgeTask>, pulse: Option<Pulse>) -> Result<Self, RunError> {
        let Needs { plan, engine, cores, watcher, clock, board, metrics, store, rows, waiter } = needs;
        let mut edge_tasks = edge_tasks;
        if let Some(keeper) = Keeper::start(&plan, &board) {
            edge_tasks.push(Box::new(move |io| Box::pin(keeper.keep(io))));
        }
        if let Some(listener) = Listener::start(&plan, &board, &metrics, &clock) {
            edge_tasks.push(Box::new(move |io| Box::pin(listener.listen(io))));
        }
        let wiring = Wiring { plan, board, metrics, store, rows, waiter };
        Self::start_on(Threads { engine, cores, watcher, clock, pulse }, wiring, edge_tasks)
    }
}

impl<H: Host> Agent<H> {
    /// Starts every body of the plan on `host`: one wiring for threads and for the simulator.
    ///
    /// # Errors
    /// [`RunError`], as [`Agent::start`].
    pub fn start_on(host: H, wiring: Wiring, edge_tasks: Vec<EdgeTask>) -> Result<Self, RunError> {
        let Wiring { plan, board, metrics, store, rows, waiter } = wiring;
        let shards = plan.globals.cores.max(1);
        let mut others = Vec::new();
        let mut inboxes = Vec::new();
        let mut shared: Vec<(u8, Arc<Inbox>)> = Vec::new();
        let mut edge_sinks: Vec<(Build, Arc<Inbox>, Standing)> = Vec::new();
        let mut edge_lookups: Vec<(BuildLookup, Arc<Inbox>, Emit, Standing)> = Vec::new();
        let shed = metrics.shed();
        let (mut of_homes, mut edge_sources) = (Vec::new(), Vec::new());
        for source in &plan.sources {
            let halves = source.spec.halves(&source.name, &plan.globals.instance);
            of_homes.push(halves.map(|halves| {
                let standing = board.enter(format!("sources.{}", source.name));
                edge_sources.push((halves.edge, standing.clone()));
                (halves.home, standing)
            }));
        }
        let mut stages = Vec::new();
        for source in 0..plan.sources.len() {
            stages.push(Some(stages_of(&plan, source, &metrics, &rows, host.clock())?));
        }
        for name in store.iter().flat_map(StoreHandle::spooled) {
            let of_lookups = plan.lookups.iter().map(|lookup| (&lookup.name, lookup.spool));
            let mut all = of_lookups.chain(plan.sinks.iter().map(|sink| (&sink.name, sink.spool)));
            if all.all(|(of, spool)| *of != name || spool.is_none()) {
                tracing::error!(
                    spool = name,
                    "messages wait in a spool, and the config has no such lookup or sink; add it again, with while_away = \"spool\""
                );
            }
        }
        for lookup in &plan.lookups {
            let inbox = Mailbox::new(room_of(lookup.required, plan.sources.len()));
            shared.push((lookup.slot, inbox.clone()));
            inboxes.push(inbox.clone());
            let standing = board.enter(format!("lookups.{}", lookup.name));
            let (spec, name, plan) = (lookup.spec.clone(), lookup.name.clone(), plan.clone());
            let mut emit = Emit::new(lookup.routes.clone());
            if let (Some(spool), Some(store)) = (lookup.spool, &store) {
                emit = emit.with_spool(PutBy::new(store.clone(), &lookup.name, spool.output, spool.max, &standing));
            }
            let build: BuildLookup = Box::new(move || spec.build(&name, &plan.given()));
            edge_lookups.push((build, inbox, emit, standing));
        }
        for sink in plan.sinks.iter().filter(|s| s.thread != Thread::Shard) {
            let inbox = Mailbox::new(room_of(sink.required, plan.sources.len()));
            shared.push((sink.slot, inbox.clone()));
            inboxes.push(inbox.clone());
            let standing = board.enter(format!("sinks.{}", sink.name));
            let (spec, name) = (sink.spec.clone(), sink.name.clone());
            let put_by = sink.spool.zip(store.as_ref());
            let put_by = put_by.map(|(spool, store)| PutBy::new(store.clone(), &name, spool.output, spool.max, &standing));
            let build: Build = Box::new(move || {
                let mut sink = spec.build(&name)?;
                if let Some(put_by) = put_by {
                    sink.may_put_by(put_by);
                }
                Ok(sink)
            });
            if sink.thread == Thread::Edge {
                edge_sinks.push((build, inbox, standing));
            } else {
                let body: Body = Box::new(move |io| {
                    Box::pin(async move {
                        run_sink(build, inbox, standing, io).await;
                        true
                    })
                });
                others.push(host.start(Place::Own(sink.name.clone()), body)?);
            }
        }
        let edge_stop = Arc::new(Signal::default());
        let edge = {
            let (stop, rows, store, instance) = (edge_stop.clone(), rows.clone(), store.clone(), plan.globals.instance.clone());
            let drain_for = plan.globals.drain_for;
            let saved = metrics.clone();
            let body: Body = Box::new(move |io| {
                Box::pin(async move {
                    for task in edge_tasks {
                        let future = task(io.clone());
                        io.spawn("edge task", future);
                    }
                    let mut ended = Vec::new();
                    for (build, inbox, standing) in edge_sinks {
                        let (on, done) = (io.clone(), Rc::new(Signal::default()));
                        ended.push(done.clone());
                        io.spawn(
                            "sink",
                            Box::pin(async move {
                                run_sink(build, inbox, standing, on).await;
                                done.raise();
                            }),
                        );
                    }
                    for (run, standing) in edge_sources {
                        let (future, done) = (run(io.clone(), standing), Rc::new(Signal::default()));
                        ended.push(done.clone());
                        io.spawn(
                            "source",
                            Box::pin(async move {
                                future.await;
                                done.raise();
                            }),
                        );
                    }
                    for (build, inbox, emit, standing) in edge_lookups {
                        let (on, done) = (io.clone(), Rc::new(Signal::default()));
                        ended.push(done.clone());
                        io.spawn(
                            "lookup",
                            Box::pin(async move {
                                run_lookup(build, inbox, emit, standing, on).await;
                                done.raise();
                            }),
                        );
                    }
                    let every = Duration::from_millis(limits::CHECKPOINT_EVERY_MS);
                    loop {
                        tokio::select! {
                            biased;
                            () = stop.wait() => break,
                            () = io.sleep(every) => save(&rows, store.as_ref(), &instance, io.clock().now(), &saved),
                        }
                    }
                    // Inboxes are closed by now. What a sink has not sent at the deadline, it counts.
                    let deadline = io.clock().mono() + crate::clock::nanos(drain_for);
                    for done in ended {
                        let left = deadline.saturating_sub(io.clock().mono());
                        tokio::select! {
                            biased;
                            () = done.wait() => {}
                            () = io.sleep(Duration::from_nanos(left)) => return false,
                        }
                    }
                    true
                })
            });
            host.start(Place::Edge, body)?
        };
        let sources = Arc::new(AtomicUsize::new((0..plan.sources.len()).filter(|index| plan.keeps_running(*index)).count()));
        let mut running = Vec::new();
        let mut stop = Vec::new();
        let aides = Aides::new(shards, plan.sources.len());
        for shard in 0..shards {
            let signal = Arc::new(Signal::default());
            stop.push(signal.clone());
            let body = Shard {
                number: shard,
                plan: plan.clone(),
                shared: shared.clone(),
                board: board.clone(),
                metrics: metrics.clone(),
                store: store.clone(),
                rows: rows.clone(),
                shed: shed.clone(),
                stages: plan
                    .sources
                    .iter()
                    .zip(&mut stages)
                    .map(|(source, stages)| stages.take_if(|_| source.home == shard).unwrap_or_default())
                    .collect(),
                halves: plan.sources.iter().zip(&mut of_homes).map(|(source, half)| half.take_if(|_| source.home == shard)).collect(),
                stop: signal,
                sources: sources.clone(),
                waiter: waiter.clone(),
                aides: aides.clone(),
            };
            running.push(host.start(Place::Shard(shard), Box::new(move |io| Box::pin(body.run(io))))?);
        }
        Ok(Self {
            host,
            stop,
            shards: running,
            others,
            inboxes,
            edge_stop,
            edge,
            store,
            rows,
            metrics,
            instance: plan.globals.instance.clone(),
            drain_for: plan.globals.drain_for,
            sources,
        })
    }

    /// Sources that still run; 0 once each has ended by itself (standard input).
    pub fn sources(&self) -> usize {
        self.sources.load(Ordering::Acquire)
    }

    /// Stops, drains and saves; true if nothing was owed any more at the deadline.
    pub fn drain(mut self) -> bool {
        for signal in &self.stop {
            signal.raise();
        }
        let mut clean = true;
        for shard in &mut self.shards {
            clean &= self.host.ended(shard, None).unwrap_or(false);
        }
        for inbox in &self.inboxes {
            inbox.close();
        }
        self.edge_stop.raise();
        let deadline = self.host.clock().mono() + crate::clock::nanos(self.drain_for);
        for body in &mut self.others {
            let left = deadline.saturating_sub(self.host.clock().mono());
            self.host.ended(body, Some(Duration::from_nanos(left)));
        }
        self.host.ended(&mut self.edge, None);
        self.rows.mark_changed();
        save(&self.rows, self.store.as_ref(), &self.instance, self.host.clock().now(), &self.metrics);
        if let Some(store) = &self.store {
            store.close();
        }
        clean
    }
}

fn save(rows: &Rows, store: Option<&StoreHandle>, instance: &str, now: u64, metrics: &Metrics) {
    let Some(store) = store else { return };
    if rows.are_changed() {
        let metrics = metrics.clone();
        // A store that takes no more is asked again a second later.
        let _ = rows.save(store, instance, now, Box::new(move |_| metrics.saved(now)));
    }
}

async fn run_sink(build: impl FnOnce() -> Result<Box<dyn Sink>, SinkError>, inbox: Arc<Inbox>, standing: Standing, io: Rc<dyn Io>) {
    let outcome = match build() {
        Ok(sink) => sink.run(inbox, io, standing.clone()).await,
        Err(e) => Err(e),
    };
    if let Err(e) = outcome {
        match e {
            SinkError::Broken { .. } => panic!("{e}"),
            SinkError::Settings { .. } => standing.set(State::Holding(e.to_string())),
        }
    }
}

async fn run_lookup(build: BuildLookup, inbox: Arc<Inbox>, emit: Emit, standing: Standing, io: Rc<dyn Io>) {
    let outcome = match build() {
        Ok(lookup) => lookup.run(inbox, emit, io, standing.clone()).await,
        Err(e) => Err(e),
    };
    if let Err(e) = outcome {
        match e {
            LookupError::Broken { .. } => panic!("{e}"),
            LookupError::Settings { .. } => standing.set(State::Holding(e.to_string())),
        }
    }
}

/// Parcels that an inbox must take: all that the credits of all sources can be.
fn room_of(required: bool, sources: usize) -> usize {
    if required { 2 * limits::CREDIT_BATCHES * sources.max(1) } else { limits::OPTIONAL_INBOX_PARCELS }
}

/// The stages of one source, with what they saved.
fn stages_of(plan: &Plan, source: usize, metrics: &Metrics, rows: &Rows, clock: &dyn Clock) -> Result<Stages, RunError> {
    let Some(name) = plan.sources.get(source).map(|source| source.name.as_str()) else { return Ok(Stages::default()) };
    let now = Now { mono: clock.mono(), wall: clock.now() };
    let mut ends = Vec::new();
    for stage in plan.stages_of(source) {
        let mut running = stage.spec.build(&plan.shelf);
        let saved_as = snapshot_name(&stage.name, name);
        match rows.snapshot(&saved_as) {
            Some(snapshot) if snapshot.kind == stage.kind => {
                rows.go_on_at(name, &snapshot.places);
                running.load(&snapshot.body, now).map_err(|what| RunError::Snapshot { stage: stage.name.clone(), name: saved_as, what })?
            }
            Some(snapshot) => {
                let (is, was) = (stage.kind, snapshot.kind);
                tracing::warn!(stage = stage.name, source = name, is, was, "the stage was of another kind before and begins anew");
            }
            None => {}
        }
        // What it emits by itself is owed by the first branch that feeds it here.
        let feeding = (0u8..).zip(plan.branches_of(source)).filter(|(_, handler)| stage.branches >> handler.branch & 1 == 1);
        let feeds: Vec<u8> = feeding.map(|(branch, _)| branch).collect();
        ends.push(StageEnd {
            name: stage.name.clone(),
            kind: stage.kind,
            stage: running,
            inputs: stage.inputs,
            routes: stage.routes.clone(),
            branch: feeds.first().copied().unwrap_or(0),
            feeds: feeds.iter().fold(0, |mask, branch| mask | 1 << branch),
            holds: stage.spec.holds(),
            counts: metrics.stage(name, &stage.name),
        });
    }
    Ok(Stages::new(ends))
}

/// What one shard is made of.
struct Shard {
    number: usize,
    plan: Arc<Plan>,
    shared: Vec<(u8, Arc<Inbox>)>,
    board: Board,
    metrics: Metrics,
    store: Option<StoreHandle>,
    rows: Rows,
    shed: Count,
    /// For each source of the plan; those that have their home elsewhere have none here.
    stages: Vec<Stages>,
    /// The same of sources whose other half is on the edge thread.
    halves: Vec<Option<(BuildHome, Standing)>>,
    stop: Arc<Signal>,
    sources: Arc<AtomicUsize>,
    waiter: std::thread::Thread,
    aides: Aides,
}

impl Shard {
    async fn run(mut self, io: Rc<dyn Io>) -> bool {
        let mut own_inboxes = Vec::new();
        let mut ended = Vec::new();
        for sink in self.plan.sinks.iter().filter(|s| s.thread == Thread::Shard && self.plan.feeds(self.number, s)) {
            let inbox: Arc<Inbox> = Mailbox::new(room_of(true, self.plan.sources.len()));
            own_inboxes.push((sink.slot, inbox.clone()));
            let standing = self.board.enter(format!("sinks.{}", sink.name));
            let (spec, name) = (sink.spec.clone(), sink.name.clone());
            let done = Rc::new(Signal::default());
            ended.push(done.clone());
            let on = io.clone();
            io.spawn(
                "sink",
                Box::pin(async move {
                    run_sink(move || spec.build(&name), inbox, standing, on).await;
                    done.raise();
                }),
            );
        }
        if self.aides.shards() > 1 {
            let (aides, plan, number, on) = (self.aides.clone(), self.plan.clone(), self.number, io.clone());
            io.spawn("aide", Box::pin(aides.serve(number, on, move |source| desk(&plan, source))));
        }
        let mut homes = Vec::new();
        let plan = self.plan.clone();
        for (index, source) in plan.sources.iter().enumerate().filter(|(_, s)| s.home == self.number) {
            let stages = std::mem::take(&mut self.stages[index]);
            let home = self.home(index, stages, &own_inboxes, &io);
            let half = self.halves[index].take();
            let standing = half.as_ref().map_or_else(|| self.board.enter(format!("sources.{}", source.name)), |half| half.1.clone());
            io.spawn("home", Box::pin(home.clone().serve()));
            io.spawn("rows", Box::pin(home.clone().publish_now_and_then()));
            if home.has_stages() {
                io.spawn("stages", Box::pin(home.clone().tick_now_and_then()));
            }
            let running = match half {
                Some((build, _)) => build(),
                None => source.spec.build(&source.name, &self.plan.globals.instance),
            };
            let finished = Rc::new(Signal::default());
            let (left, waiter, ended) = (self.sources.clone(), self.waiter.clone(), finished.clone());
            let counts = usize::from(self.plan.keeps_running(index));
            let is_kept = source.spec.is_kept();
            let source = run_source(running, io.clone(), home.clone(), standing);
            io.spawn(
                "source",
                Box::pin(async move {
                    source.await;
                    left.fetch_sub(counts, Ordering::AcqRel);
                    ended.raise();
                    waiter.unpark();
                }),
            );
            homes.push((home, finished, is_kept));
        }
        self.stop.wait().await;
        let deadline = io.clock().mono() + crate::clock::nanos(self.plan.globals.drain_for);
        let mut clean = true;
        for (home, finished, is_kept) in &homes {
            home.close();
            tokio::select! {
                biased;
                () = finished.wait() => finished.raise(),
                () = home.handed_in() => {}
            }
            home.flush_stages();
            let left = deadline.saturating_sub(io.clock().mono());
            let rests = async {
                match is_kept {
                    true => home.rests().await,
                    false => home.drained().await,
                }
            };
            tokio::select! {
                biased;
                () = rests => {}
                () = io.sleep(Duration::from_nanos(left)) => clean &= *is_kept,
            }
        }
        for (home, ..) in &homes {
            let left = deadline.saturating_sub(io.clock().mono()).max(1_000_000);
            tokio::select! {
                biased;
                () = home.keep() => {}
                () = io.sleep(Duration::from_nanos(left)) => {}
            }
            home.finish();
            self.aides.home_is_done();
        }
        // Some still tell another side what was settled in the end.
        let until = io.clock().mono().max(deadline.saturating_sub(LAST_WORDS)) + LAST_WORDS;
        for (_, finished, _) in &homes {
            let left = until.saturating_sub(io.clock().mono());
            tokio::select! {
                biased;
                () = finished.wait() => {}
                () = io.sleep(Duration::from_nanos(left)) => {}
            }
        }
        let left = deadline.saturating_sub(io.clock().mono()).max(1_000_000);
        tokio::select! {
            biased;
            () = self.aides.homes_are_done(self.number) => {}
            () = io.sleep(Duration::from_nanos(left)) => {}
        }
        for (_, inbox) in &own_inboxes {
            inbox.close();
        }
        for done in ended {
            let left = deadline.saturating_sub(io.clock().mono()).max(1_000_000);
            tokio::select! {
                biased;
                () = done.wait() => {}
                () = io.sleep(Duration::from_nanos(left)) => clean = false,
            }
        }
        clean
    }

    fn home(&self, index: usize, stages: Stages, own_inboxes: &[(u8, Arc<Inbox>)], io: &Rc<dyn Io>) -> Rc<SourceHome> {
        let source = &self.plan.sources[index];
        let branches = self.plan.branches_of(index).map(|handler| {
            let (counts, latencies) = (self.metrics.branch(&source.name, &handler.name), handler.spec.latencies());
            let histogram = |figure| counts.figures.histogram(figure, [&self.plan.globals.instance, ""]);
            let [from_event, from_receipt] = [latencies.event, latencies.receipt].map(|figure| figure.map(histogram));
            BranchEnd { name: handler.name.clone(), counts, from_event, from_receipt }
        });
        let branches = branches.collect();
        let outputs = self.plan.outputs.iter().map(|o| OutputEnd { name: o.name.clone(), after: o.after, first: o.first }).collect();
        let lookups = self.plan.lookups.iter().filter_map(|lookup| {
            let (_, inbox) = self.shared.iter().find(|(slot, _)| *slot == lookup.slot)?;
            Some(SinkEnd {
                slot: lookup.slot,
                name: lookup.name.clone(),
                inbox: inbox.clone(),
                required: lookup.required,
                outputs: lookup.inputs,
                shed: self.shed.clone(),
                lookup: Some(self.metrics.lookup(&lookup.name)),
            })
        });
        let sinks = self
            .plan
            .sinks
            .iter()
            .filter_map(|sink| {
                let (_, inbox) = own_inboxes.iter().chain(&self.shared).find(|(slot, _)| *slot == sink.slot)?;
                Some(SinkEnd {
                    slot: sink.slot,
                    name: sink.name.clone(),
                    inbox: inbox.clone(),
                    required: sink.required,
                    outputs: sink.outputs,
                    shed: self.shed.clone(),
                    lookup: None,
                })
            })
            .chain(lookups)
            .collect();
        SourceHome::new(
            io.clone(),
            Setup {
                instance: self.plan.globals.instance.clone(),
                source: source.name.clone(),
                kind: source.kind.to_owned(),
                desk: desk(&self.plan, index),
                branches,
                outputs,
                stages,
                sinks,
                gathers: source.gathers,
                store: self.store.clone(),
                masks_letters: self.plan.globals.dead_letter.mask,
                rows: self.rows.clone(),
                counts: self.metrics.source(&source.name),
                answers: Answers::new(),
                closed: Arc::new(Signal::default()),
                aides: (self.aides.shards() > 1).then(|| (self.aides.clone(), index, self.number)),
            },
        )
    }
}

/// The handlers of one source, for one shard.
fn desk(plan: &Plan, source: usize) -> Desk {
    let handlers = plan.branches_of(source).map(|handler| (handler.spec.build(&plan.shelf), handler.routes.clone())).collect();
    Desk::new(handlers, DraftPool::new(limits::CREDIT_BATCHES), true).rejecting(plan.branches_of(source).map(|handler| handler.rejected))
}

async fn run_source(source: Box<dyn Source>, io: Rc<dyn Io>, home: Rc<SourceHome>, standing: Standing) {
    if let Err(e) = source.run(io, home, standing.clone()).await {
        standing.set(State::Holding(e.to_string()));
    }
}
