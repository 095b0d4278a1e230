//! The real topology on a simulated machine: one seed is one run. Files are rotated, cut and lost,
//! brokers come and go, disks fill up, the agent is killed at any call and the power goes; in the
//! end nothing is lost, nothing is sent again that was saved as acked, and the sums add up.
//!
//! `SHIPPER_SEED=N` runs one seed and tells what happens in it, `SHIPPER_SEEDS=FROM..TO` a range;
//! `tools/sim` does both.

mod holding;
mod judge;
mod world;

use std::{
    cell::{Cell, RefCell},
    io,
    path::{Path, PathBuf},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use judge::{Begun, Judge, Topic};
use shipper::{
    checkpoint::{self, Checkpoint},
    clock::Clock,
    io::{
        Executor, Io, LocalFuture,
        sim::{Chance, Files, Group, Machine, SimDisk, Thread, Trouble},
    },
    lookups::{self, Emit, Lookup, LookupError, Parcel, Spooling},
    metrics::{Board, Metrics, Standing},
    net::kafka::settings::Connection,
    register::Place,
    sinks::{
        self, Inbox, Sink, SinkError,
        kafka::{Running, Settings, sim::Cluster},
    },
    store::{self, OnFull, Options, Writer},
    synth::Mix,
    topology::{
        Config, Host as Names, Plan,
        config::{Inputs, LookupEntry},
        host::{Body, Host, Place as On},
        rows::Rows,
        run::{Agent, Wiring},
    },
};
use world::{Habits, Shared, World};

const STATE: &str = "/var/lib/shipper";
/// Seeds that every run of the tests tries.
const SEEDS: u64 = 600;
/// Calls of a short day at which the agent is killed, each in a run of its own.
const CALLS: u64 = 1200;
/// Virtual time within which everything must have come to rest.
const REST: Duration = Duration::from_secs(3600);

/// The simulated machine as what the agent runs on.
struct Simulated {
    machine: Machine,
    group: Group,
    files: Files,
}

impl Host for Simulated {
    type Started = Rc<Cell<Option<bool>>>;

    fn clock(&self) -> &dyn Clock {
        self.machine.clock()
    }

    fn start(&self, _: On, body: Body) -> io::Result<Self::Started> {
        let thread: Rc<dyn Io> = Thread::new(&self.machine, self.group, &self.files, 8);
        let ended = Rc::new(Cell::new(None));
        let (end, future) = (ended.clone(), body(thread));
        self.machine.spawn_in(self.group, "body", Box::pin(async move { end.set(Some(future.await)) }));
        Ok(ended)
    }

    fn ended(&self, started: &mut Self::Started, span: Option<Duration>) -> Option<bool> {
        let until = self.machine.clock().mono() + shipper::clock::nanos(span.unwrap_or(REST));
        let ended = self.machine.run(until, || started.get().is_some() || self.files.is_stopped());
        assert!(ended || span.is_some(), "a body of the agent never ends");
        started.get()
    }
}

/// A kafka sink over a simulated cluster.
struct OnCluster {
    name: String,
    cluster: Cluster,
}

impl std::fmt::Debug for OnCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OnCluster({})", self.name)
    }
}

impl sinks::Spec for OnCluster {
    fn build(&self, name: &str) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(Self { name: name.to_owned(), cluster: self.cluster.clone() }))
    }
}

impl Sink for OnCluster {
    fn run(self: Box<Self>, inbox: Arc<Inbox>, on: Rc<dyn Executor>, standing: Standing) -> LocalFuture<'static, Result<(), SinkError>> {
        let port = self.cluster.producer(on.clone());
        let sink = Running::with_port(&self.name, &Settings::new(Connection::default(), "t"), Box::new(port));
        Box::new(sink).run(inbox, on, standing)
    }
}

/// A lookup that is slow and learns of each message what it is: its child.
#[derive(Clone, Debug, Default)]
struct Echo {
    /// Bytes of a spool, into which messages go while it is away.
    spool_max: Option<u64>,
    is_away: Arc<AtomicBool>,
}

impl lookups::Spec for Echo {
    fn build(&self, _: &str, _: &shipper::lookups::Given<'_>) -> Result<Box<dyn Lookup>, LookupError> {
        Ok(Box::new(self.clone()))
    }
    fn spool(&self) -> Option<Spooling> {
        self.spool_max.map(|max| Spooling { max: Some(max) })
    }
}

impl Echo {
    async fn answer(self: Rc<Self>, emit: Emit, on: Rc<dyn Executor>, parcel: Parcel, n: u32) {
        while self.is_away.load(Ordering::Relaxed) {
            on.sleep(Duration::from_millis(20)).await;
        }
        on.sleep(Duration::from_millis(u64::from(n % 7))).await;
        let message = parcel.batch.message(n);
        emit.child(&parcel, n, 0, message.key, message.payload.to_vec());
        on.pause().await;
        parcel.acks.delivered_one(parcel.batch.stream, parcel.batch.seq, n);
    }
}

impl Lookup for Echo {
    fn run(
        self: Box<Self>,
        inbox: Arc<Inbox>,
        emit: Emit,
        on: Rc<dyn Executor>,
        _: Standing,
    ) -> LocalFuture<'static, Result<(), LookupError>> {
        Box::pin(async move {
            let echo = Rc::new(*self);
            while let Some(parcel) = inbox.pop().await {
                for n in parcel.numbers() {
                    let spool = emit.spool();
                    if spool.is_some_and(|spool| spool.has(&parcel, n)) {
                        // It is on disk: others must not wait for it.
                        on.spawn("echo", Box::pin(echo.clone().answer(emit.clone(), on.clone(), parcel.clone(), n)));
                    } else if !(echo.is_away.load(Ordering::Relaxed) && spool.is_some_and(|spool| spool.put(&on, &parcel, vec![n]))) {
                        echo.clone().answer(emit.clone(), on.clone(), parcel.clone(), n).await;
                    }
                }
            }
            Ok(())
        })
    }
}

/// What happens to the agent in one life.
#[derive(Clone, Copy, Debug)]
struct Fate {
    /// It is stopped as a person does it, and may drain.
    stops: bool,
    /// It is killed at this call, or after this time, whichever comes first.
    calls: Option<u64>,
    after: Duration,
    power: bool,
    /// Before it starts again.
    pause: Duration,
}

/// Everything that a seed decides.
#[derive(Clone, Debug)]
struct Scenario {
    seed: u64,
    config: String,
    habits: Habits,
    fates: Vec<Fate>,
    /// The weather changes so often, in milliseconds on average; 0 is always fine.
    weather_ms: u64,
    lost_answers: u32,
    failures: u32,
    fatal: u32,
    message_bytes_max: usize,
    holds: bool,
    trouble: Option<Trouble>,
    hints_lost: u32,
    /// Seconds from the start to midnight.
    midnight: u64,
    on_full: OnFull,
    /// The lookup has a spool of so many bytes, and goes away and comes back so often, in milliseconds on
    /// average; 0: it has none, and is never away.
    spool_max: u64,
    away_ms: u64,
}

fn config(handlers: &[&str], app: bool, cores: u64) -> String {
    let alerts = world::ALERTS;
    let mut text = format!(
        "instance = \"mgr-1\"\ncores = {cores}\n[sources.alerts]\nkind = \"wazuh\"\npath = \"{alerts}/alerts.json\"\nstart_at = \"beginning\"\n"
    );
    if app {
        text.push_str(&format!("[sources.app]\nkind = \"file\"\npath = \"{}\"\nstart_at = \"beginning\"\n", world::APP));
    }
    for handler in handlers {
        // `once` is `forward` with a stage behind it that drops what came before, `asked` with a lookup,
        // `spooled` with one that is away at times; `held` is `apt` with a detector behind it.
        let (name, kind) = match *handler {
            "dfn" => ("dfn", "dfn"),
            "held" => ("all", "apt"),
            _ => ("all", "forward"),
        };
        let inputs = if app && kind == "forward" { "[\"alerts\", \"app\"]" } else { "[\"alerts\"]" };
        text.push_str(&format!("[handlers.{name}]\nkind = \"{kind}\"\ninputs = {inputs}\n"));
        let outputs: &[&str] = match *handler {
            "dfn" => &["dfn", "dfn.confirm"],
            "once" => &["once"],
            "asked" | "spooled" => &["echo"],
            "held" => &["all", "windows", "windows.window"],
            _ => &["all"],
        };
        if *handler == "once" {
            text.push_str("[stages.once]\nkind = \"dedup\"\ninputs = [\"all\"]\nby = \"payload\"\nwindow = \"5m\"\n");
        }
        if *handler == "held" {
            text.push_str(holding::CONFIG);
        }
        for output in outputs {
            let sink = output.replace('.', "_");
            text.push_str(&format!(
                "[sinks.{sink}]\nkind = \"kafka\"\ninputs = [\"{output}\"]\nbrokers = [\"b:9092\"]\ntopic = \"{sink}\"\n"
            ));
        }
    }
    text
}

impl Scenario {
    fn of(seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0x5EED);
        let handlers: &[&str] = match (seed % 3, seed % 5) {
            (0, 4) => &["once"],
            (0, 1) if seed % 2 == 1 => &["spooled"],
            (0, 1) => &["asked"],
            (0, _) => &["forward"],
            (1, _) => &["dfn"],
            (_, 4) => &["dfn", "once"],
            (_, 1) if seed % 2 == 1 => &["dfn", "spooled"],
            (_, 1) => &["dfn", "asked"],
            _ => &["dfn", "forward"],
        };
        let mut sometimes = |of_thousand: u32, most: u64| -> u32 {
            if chance.of_thousand(of_thousand) { 1 + u32::try_from(chance.below(most)).unwrap() } else { 0 }
        };
        let habits = Habits {
            lines: 100 + sometimes(1000, 400) + sometimes(60, 4000),
            mix: if seed % 3 == 1 { Mix::Windows } else { Mix::Natural },
            faults: sometimes(400, 40),
            big_lines: sometimes(200, 20),
            parts: sometimes(400, 150),
            restarts: sometimes(300, 50),
            cuts: sometimes(150, 30),
            huge_lines: sometimes(40, 8),
            app_lines: if seed % 3 == 1 { 0 } else { sometimes(300, 400) },
            copytruncate: sometimes(400, 1) == 1,
            pause_ms: 20 + u64::from(sometimes(700, 2000)),
        };
        let weather_ms = u64::from(sometimes(600, 10_000));
        let (lost_answers, failures, fatal) = (sometimes(400, 200), sometimes(200, 60), sometimes(200, 30));
        let refuses = sometimes(200, 1) == 1;
        let holds = sometimes(200, 1) == 1;
        let trouble = match sometimes(300, 4) {
            0 => None,
            1 => Some(Trouble { full: true, ..Trouble::default() }),
            2 => Some(Trouble { looks: 50, ..Trouble::default() }),
            n => Some(Trouble { errors: 20 * n * n, looks: 5 * n, ..Trouble::default() }),
        };
        let cores = 1 + u64::from(sometimes(300, 2));
        let hints_lost = sometimes(500, 1000);
        let crashes = sometimes(800, 4);
        let fates = (0..crashes).map(|_| {
            let most_calls = if chance.of_thousand(500) { 60 } else { 2000 };
            let most_pause = if chance.of_thousand(200) { 60_000 } else { 2000 };
            Fate {
                stops: chance.of_thousand(250),
                calls: chance.of_thousand(700).then(|| 1 + chance.below(most_calls)),
                after: Duration::from_millis(1 + chance.below(20_000)),
                power: chance.of_thousand(300),
                pause: Duration::from_millis(chance.below(most_pause)),
            }
        });
        let fates = fates.collect();
        let midnight = 2 + chance.below(40);
        let is_spooled = handlers.contains(&"spooled");
        // A small one runs full.
        let spool_max = if !is_spooled {
            0
        } else if chance.of_thousand(300) {
            40_000
        } else {
            1 << 30
        };
        let away_ms = if is_spooled { 100 + chance.below(10_000) } else { 0 };
        Self {
            seed,
            config: config(handlers, habits.app_lines > 0, cores),
            habits,
            fates,
            weather_ms,
            lost_answers,
            failures,
            fatal,
            message_bytes_max: if refuses { 2200 } else { 1_000_000 },
            holds,
            trouble,
            hints_lost,
            midnight,
            on_full: OnFull::Stop,
            spool_max,
            away_ms,
        }
    }
}

/// A run in progress.
struct Sim {
    scenario: Scenario,
    machine: Machine,
    files: Files,
    world: Shared,
    plan: Arc<Plan>,
    topics: Vec<Topic>,
    judge: Judge,
    verbose: bool,
    /// Lives that began with snapshots.
    with_snapshots: u32,
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.machine.end();
    }
}

/// An agent that lives.
struct Life {
    agent: Agent<Simulated>,
    metrics: Metrics,
    begun: Begun,
    store: Rc<Cell<bool>>,
}

impl Sim {
    fn new(scenario: Scenario, verbose: bool, keep_trace: bool) -> Self {
        // 2026-03-14, so many seconds before midnight in the zone of the host.
        let midnight = jiff::tz::TimeZone::system().to_timestamp(jiff::civil::date(2026, 3, 15).at(0, 0, 0, 0)).unwrap();
        let wall = u64::try_from(midnight.as_nanosecond()).unwrap() - scenario.midnight * 1_000_000_000;
        let machine = Machine::new(scenario.seed, wall);
        if keep_trace {
            machine.keep_trace();
        }
        let files = Files::new(&machine);
        files.lose_hints(scenario.hints_lost);
        let mut world = World::new(&machine, &files, scenario.habits.clone(), scenario.seed);
        world.verbose = verbose;
        let world = Rc::new(RefCell::new(world));
        let tree = shipper::register::Node::parse_toml(&scenario.config).unwrap();
        let names = Names { name: "mgr-1".into(), embedded: None };
        let mut config = Config::read(tree, std::iter::empty(), &[], &names);
        let is_away = Arc::new(AtomicBool::new(false));
        if scenario.config.contains("inputs = [\"echo\"]") {
            let inputs = Inputs { place: Place::Default, names: vec![("all".into(), Place::Default)] };
            let echo = Echo { spool_max: Some(scenario.spool_max).filter(|max| *max > 0), is_away: is_away.clone() };
            let (name, place, spec) = ("echo".into(), Place::Default, Some(Box::new(echo) as Box<dyn lookups::Spec>));
            config.lookups.push(LookupEntry { name, place, kind: "echo", inputs, required: true, outputs: &[""], spec });
        }
        let mut plan = Plan::build(config).unwrap_or_else(|e| panic!("{e}"));
        let mut topics = Vec::new();
        for sink in &mut plan.sinks {
            let cluster = Cluster::new(machine.chance().any(), 1);
            cluster.change(|weather| {
                weather.lost_answers = scenario.lost_answers;
                weather.failures = scenario.failures;
                weather.fatal = scenario.fatal;
                weather.message_bytes_max = scenario.message_bytes_max;
            });
            sink.spec = Arc::new(OnCluster { name: sink.name.clone(), cluster: cluster.clone() });
            let output = plan.outputs.iter().find(|output| sink.outputs >> output.slot & 1 == 1).unwrap();
            let branch = plan.handlers[usize::from(output.branch)].name.clone();
            // What a stage or the lookup passes on is what its handler made.
            let stage = plan.stages.iter().find(|stage| stage.routes.contains(&Some(output.slot)));
            let lookup = plan.lookups.iter().find(|lookup| lookup.routes.contains(&Some(output.slot)));
            let inputs = stage.map(|stage| stage.inputs).or(lookup.map(|lookup| lookup.inputs));
            let made = inputs.map_or(u32::from(output.slot), u64::trailing_zeros);
            let output = u8::try_from(made).unwrap();
            let is_spooled = lookup.is_some_and(|lookup| lookup.spool.is_some());
            let is_held = plan.stages.iter().any(|stage| stage.spec.holds().is_some());
            topics.push(Topic { sink: sink.name.clone(), branch, output, is_staged: stage.is_some(), is_spooled, is_held, cluster });
        }
        let sim =
            Self { scenario, machine, files, world, plan: Arc::new(plan), topics, judge: Judge::default(), verbose, with_snapshots: 0 };
        sim.machine.spawn_in(0, "world", Box::pin(world::live(sim.world.clone())));
        if sim.scenario.habits.app_lines > 0 {
            sim.machine.spawn_in(0, "app", Box::pin(world::live_beside(sim.world.clone())));
        }
        if sim.scenario.weather_ms > 0 {
            sim.machine.spawn_in(0, "weather", Box::pin(sim.weather()));
        }
        if sim.scenario.away_ms > 0 {
            sim.machine.spawn_in(0, "lookup", Box::pin(sim.outages(is_away)));
        }
        if let Some(trouble) = sim.scenario.trouble {
            sim.machine.spawn_in(0, "disk", Box::pin(sim.bad_disk(trouble)));
        }
        sim
    }

    fn say(&self, text: impl FnOnce() -> String) {
        self.world.borrow().say(text);
    }

    /// Brokers come and go until the manager falls silent.
    fn weather(&self) -> impl Future<Output = ()> + 'static {
        let clusters: Vec<Cluster> = self.topics.iter().map(|topic| topic.cluster.clone()).collect();
        let (machine, world, mut chance) = (self.machine.clone(), self.world.clone(), self.machine.chance());
        let (most, holds) = (2 * self.scenario.weather_ms * 1_000_000, self.scenario.holds);
        async move {
            while !world.borrow().is_done() {
                machine.sleep(Duration::from_nanos(chance.below(most))).await;
                let cluster = &clusters[chance.index(clusters.len())];
                let (up, slow, login) = (chance.of_thousand(600), 1 + chance.below(300), holds && chance.of_thousand(200));
                world.borrow().say(|| format!("weather: up {up}, {slow} ms, login refused {login}"));
                cluster.change(|weather| {
                    weather.up = up;
                    weather.latency = Duration::from_millis(slow);
                    weather.login = login.then(|| "simulated: wrong password".into());
                });
            }
            for cluster in &clusters {
                cluster.change(|weather| {
                    (weather.up, weather.login) = (true, None);
                    weather.latency = Duration::from_millis(2);
                });
            }
        }
    }

    /// The lookup goes away and comes back until the manager falls silent.
    fn outages(&self, is_away: Arc<AtomicBool>) -> impl Future<Output = ()> + 'static {
        let (machine, world, mut chance) = (self.machine.clone(), self.world.clone(), self.machine.chance());
        let most = 2 * self.scenario.away_ms * 1_000_000;
        async move {
            while !world.borrow().is_done() {
                machine.sleep(Duration::from_nanos(chance.below(most))).await;
                let away = chance.of_thousand(600);
                world.borrow().say(|| format!("lookup: away {away}"));
                is_away.store(away, Ordering::Relaxed);
            }
            is_away.store(false, Ordering::Relaxed);
        }
    }

    /// The disk of the agent's folders fails now and then until the manager falls silent.
    fn bad_disk(&self, trouble: Trouble) -> impl Future<Output = ()> + 'static {
        let (machine, world, files, mut chance) = (self.machine.clone(), self.world.clone(), self.files.clone(), self.machine.chance());
        async move {
            while !world.borrow().is_done() {
                machine.sleep(Duration::from_millis(chance.below(6000))).await;
                let bad = chance.of_thousand(500);
                world.borrow().say(|| format!("disk: {}", if bad { "bad" } else { "good" }));
                files.suffer(if bad { trouble } else { Trouble::default() });
            }
            files.suffer(Trouble::default());
        }
    }

    /// Starts the agent; `None` if it was killed, or could not, before it ran.
    fn start(&mut self) -> Option<Life> {
        self.world.borrow_mut().life += 1;
        let group = self.world.borrow().life;
        let options = Options { on_full: self.scenario.on_full, segment_bytes: 20_000, ..Options::default() };
        let opened = Writer::open(Box::new(SimDisk::new(&self.files)), Path::new(STATE), options);
        let (mut writer, checkpoint) = match opened {
            Ok(opened) => opened,
            Err(store::StoreError::Io { .. }) => return None,
            Err(error) => {
                assert!(self.files.is_stopped(), "the agent refuses to start: {error}");
                return None;
            }
        };
        if self.files.is_stopped() {
            return None;
        }
        self.judge.starts(checkpoint.as_ref(), self.machine.clock().mono());
        if !judge::knows(checkpoint.as_ref(), judge::SOURCES[1]) {
            self.world.borrow_mut().excuse_old_app();
        }
        let rows = checkpoint.map(|c: Checkpoint| c.rows).unwrap_or_default();
        self.say(|| format!("the agent starts at {:?}", rows.iter().map(|row| &row.branches).collect::<Vec<_>>()));
        let begun = Begun {
            rows: rows.clone(),
            ends: self.topics.iter().map(|topic| topic.cluster.ends().iter().sum()).collect(),
            letters: self.letters().len(),
        };
        let snapshots = writer.take_snapshots();
        self.with_snapshots += u32::from(!snapshots.is_empty());
        let board = Board::default();
        let metrics = Metrics::new(&board);
        let (handle, body) = store::body(writer, board.enter("store"));
        let store = Rc::new(Cell::new(false));
        let (ended, thread) = (store.clone(), Thread::new(&self.machine, group, &self.files, 1));
        self.machine.spawn_in(
            group,
            "store",
            Box::pin(async move {
                body.run(thread).await;
                ended.set(true);
            }),
        );
        let host = Simulated { machine: self.machine.clone(), group, files: self.files.clone() };
        let wiring = Wiring {
            plan: self.plan.clone(),
            board,
            metrics: metrics.clone(),
            store: Some(handle),
            rows: Rows::new(rows).with_snapshots(snapshots),
            waiter: std::thread::current(),
        };
        let agent = Agent::start_on(host, wiring, Vec::new()).unwrap();
        Some(Life { agent, metrics, begun, store })
    }

    fn letters(&self) -> Vec<judge::Letter> {
        let dir = PathBuf::from(STATE).join("dead-letter");
        let segments: Vec<Vec<u8>> = self.files.names(&dir).iter().filter_map(|path| self.files.content(path)).collect();
        judge::letters(&segments)
    }

    /// Runs until `done` or the span is over; the sums must add up all the time.
    fn run(&self, life: &Life, span: Duration, mut done: impl FnMut() -> bool) -> bool {
        let until = self.machine.clock().mono() + shipper::clock::nanos(span);
        let mut look = 0;
        self.machine.run(until, || {
            look += 1;
            if look % 256 == 0 {
                check_law(&life.metrics);
            }
            done()
        })
    }

    fn live_and_die(&mut self, fate: Fate) {
        self.files.stop_after(fate.calls);
        if let Some(life) = self.start() {
            let files = self.files.clone();
            self.run(&life, fate.after, || files.is_stopped());
            check_law(&life.metrics);
            let Life { agent, metrics, begun, store } = life;
            if fate.stops && !files.is_stopped() {
                let clean = agent.drain();
                self.say(|| format!("the agent stops, all is acked: {clean}"));
                let until = self.machine.clock().mono() + 10_000_000_000;
                self.machine.run(until, || store.get() || files.is_stopped());
                check_law(&metrics);
            }
            self.end(&begun);
        }
        self.say(|| format!("the agent is gone{}", if fate.power { ", so is the power" } else { "" }));
        let group = self.world.borrow().life;
        self.machine.kill(group);
        self.files.revive();
        if fate.power {
            self.world.borrow_mut().lose_power();
        }
        self.excuse();
        self.machine.run_for(fate.pause);
    }

    /// What had lost its name and was held open by the dead alone is gone.
    fn excuse(&self) {
        let mut world = self.world.borrow_mut();
        for dated in world.dated.values_mut() {
            dated.excused |= dated.unlinked_in.is_some();
        }
    }

    fn end(&mut self, begun: &Begun) {
        let calm = self.scenario.fatal == 0 && !self.scenario.holds;
        let refuses = self.scenario.message_bytes_max < 900_000 || self.scenario.habits.huge_lines > 0;
        let in_order = calm && self.scenario.failures == 0 && !refuses;
        let letters = self.letters();
        self.judge.ends(begun, &self.topics, letters, !calm, !in_order);
    }

    /// The last life: everything mends, all is read and acked, the agent drains.
    fn finish(&mut self) {
        let life = loop {
            match self.start() {
                Some(life) => break life,
                // systemd tries again.
                None => self.machine.run_for(Duration::from_secs(5)),
            }
        };
        let world = self.world.clone();
        assert!(self.run(&life, REST, || world.borrow().is_done()), "the world ends");
        self.run(&life, Duration::from_secs(90), || false);
        check_law(&life.metrics);
        let Life { agent, metrics, begun, store } = life;
        assert!(agent.drain(), "nothing is owed at the end");
        let until = self.machine.clock().mono() + shipper::clock::nanos(REST);
        assert!(self.machine.run(until, || store.get()), "the store ends");
        for (source, branch, counts) in metrics.branches() {
            assert_eq!(counts.in_flight.get(), 0, "{source}/{branch}: in flight after the drain");
        }
        check_law(&metrics);
        let spools = self.files.names(&PathBuf::from(STATE).join(store::SPOOL));
        let left: usize = spools.iter().filter_map(|path| self.files.content(path)).map(|bytes| bytes.len()).sum();
        assert_eq!(left, 0, "bytes in spools: {spools:?}");
        self.say(|| "drained".into());
        self.end(&begun);
        let read = |slot: checkpoint::Slot| self.files.content(&Path::new(STATE).join(slot.file_name()));
        let (a, b) = (read(checkpoint::Slot::A), read(checkpoint::Slot::B));
        let last = checkpoint::choose(Path::new(STATE), a.as_deref(), b.as_deref()).unwrap().expect("a checkpoint was saved").checkpoint;
        let wrong = self.judge.closes(&self.world.borrow(), &self.plan, &self.topics, &last);
        assert!(wrong.is_empty(), "{} things are wrong:\n{}", wrong.len(), wrong[..wrong.len().min(12)].join("\n"));
    }
}

fn check_law(metrics: &Metrics) {
    for (source, branch, counts) in metrics.branches() {
        assert_eq!(counts.imbalance(), 0, "{source}/{branch}: read = shipped + dropped + dead letter + in flight");
    }
}

/// Runs a scenario; gives the hash and lines of its trace.
fn run(scenario: Scenario, verbose: bool, keep_trace: bool) -> (u64, Vec<String>) {
    let mut sim = Sim::new(scenario, verbose, keep_trace);
    if sim.verbose {
        eprintln!("{:#?}", sim.scenario);
    }
    for fate in sim.scenario.fates.clone() {
        sim.live_and_die(fate);
    }
    sim.finish();
    sim.machine.trace()
}

/// Runs one seed and says how to run it again if it fails.
fn run_seed(seed: u64, verbose: bool) {
    let ran = std::panic::catch_unwind(|| run(Scenario::of(seed), verbose, false));
    if let Err(panic) = ran {
        eprintln!("seed {seed} fails; replay: tools/sim {seed}");
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn no_seed_loses_repeats_or_invents_a_record() {
    if let Ok(seed) = std::env::var("SHIPPER_SEED") {
        let _ = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).without_time().with_writer(io::stderr).try_init();
        run_seed(seed.parse().expect("SHIPPER_SEED is a number"), true);
        return;
    }
    let (from, to) = match std::env::var("SHIPPER_SEEDS") {
        Ok(range) => {
            let (from, to) = range.split_once("..").expect("SHIPPER_SEEDS is FROM..TO");
            (from.parse().expect("a number"), to.parse().expect("a number"))
        }
        Err(_) => (0, SEEDS),
    };
    let mut failed = Vec::new();
    for seed in from..to {
        if std::panic::catch_unwind(|| run_seed(seed, false)).is_err() {
            failed.push(seed);
        }
        if (seed + 1) % 100 == 0 {
            eprintln!("seeds up to {seed}: {} of {} failed", failed.len(), seed + 1 - from);
        }
    }
    assert!(failed.is_empty(), "seeds {failed:?} fail; replay the first: tools/sim {}", failed[0]);
}

/// A short day with a rotation, broken lines and refusals, and nothing else amiss.
fn short_day(handlers: &[&str]) -> Scenario {
    let habits = Habits {
        lines: 60,
        mix: Mix::Natural,
        faults: 60,
        big_lines: 0,
        parts: 200,
        restarts: 0,
        cuts: 0,
        huge_lines: 0,
        pause_ms: 600,
        app_lines: 0,
        copytruncate: false,
    };
    Scenario {
        seed: 3,
        config: config(handlers, false, 1),
        habits,
        fates: Vec::new(),
        weather_ms: 0,
        lost_answers: 100,
        failures: 0,
        fatal: 0,
        message_bytes_max: 2200,
        holds: false,
        trouble: None,
        hints_lost: 100,
        midnight: 2,
        on_full: OnFull::Stop,
        spool_max: if handlers.contains(&"spooled") { 1 << 30 } else { 0 },
        away_ms: if handlers.contains(&"spooled") { 300 } else { 0 },
    }
}

/// Calls that an agent makes in that day when nobody kills it.
fn calls_of(scenario: Scenario) -> u64 {
    let mut sim = Sim::new(scenario, false, false);
    sim.finish();
    sim.files.calls()
}

#[test]
fn a_kill_at_any_call_loses_nothing() {
    for (handlers, power) in [
        (&["forward"][..], false),
        (&["dfn", "forward"][..], true),
        (&["once"][..], true),
        (&["asked"][..], false),
        (&["spooled"][..], true),
    ] {
        // Idle looks at the end are all alike.
        let calls = calls_of(short_day(handlers)).min(CALLS);
        assert!(calls > 200, "only {calls} calls");
        for call in 1..=calls {
            let fate = Fate { stops: false, calls: Some(call), after: REST / 60, power, pause: Duration::from_millis(300) };
            let scenario = Scenario { fates: vec![fate], ..short_day(handlers) };
            if let Err(panic) = std::panic::catch_unwind(|| run(scenario, false, false)) {
                eprintln!("a kill at call {call} of {handlers:?} fails, power loss: {power}");
                std::panic::resume_unwind(panic);
            }
        }
    }
}

#[test]
fn two_runs_of_one_seed_are_the_same_to_the_byte() {
    for seed in 0..12 {
        let (one, two) = (run(Scenario::of(seed), false, true), run(Scenario::of(seed), false, true));
        assert!(one.1.len() > 300, "seed {seed}: {} lines", one.1.len());
        let differs = one.1.iter().zip(&two.1).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(one, two, "seed {seed}");
    }
}
