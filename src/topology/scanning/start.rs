//! Scanning begins with the agent, and ends with it.

use std::{
    io,
    path::PathBuf,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    broker,
    children::{Later, Scanner},
    cleaning::Cleaning,
    feed::ScanFeed,
    give::Giver,
    hands::Own,
    push,
    related::Related,
    rounds,
    settings::{ScanPlan, UPLOADS},
    watching::Watching,
    worker,
};
use crate::{
    api,
    clock::{Clock, SystemClock},
    io::{Disk, Engine, Io, Running, Setup, SlabPool, Watcher, disk::RealDisk, spawn},
    limits,
    metrics::{Board, Standing, State},
    ring::{Mailbox, Signal},
    scan::{
        alert,
        monitor::{Moment, Monitor},
        outcome::Outcome,
        roots::{Roots, RootsError},
        settings::{QueueKind, Role, Root},
        tasks::{self, Limits, OpenError, Tasks},
        workers::{Registry, client::Worker},
    },
    topology::Plan,
};

/// Why scanning cannot begin. The command line exits with 69.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The build.
    #[error(
        "this build cannot scan files: it was made without feature scan; install the package, which has it, or build with `cargo build --features scan`"
    )]
    Lacking,
    #[error(transparent)]
    Roots(#[from] RootsError),
    #[error(transparent)]
    Store(#[from] OpenError),
    /// A row of the store.
    #[error("cannot read the task store: {0}")]
    Rows(#[from] tasks::Away),
    /// The scanning processes.
    #[error("cannot start the processes that scan: {0}")]
    Children(String),
    /// RabbitMQ, where a person must mend something.
    #[error("the queue of scan.queue cannot be used: {0}")]
    Broker(String),
    /// A worker that cannot be one.
    #[error("this host cannot be a worker: {0}")]
    Worker(String),
    /// Anything else of this host.
    #[error("cannot start scanning: {0}")]
    Io(#[from] io::Error),
}

/// What scanning is started with, beside the plan.
pub struct Around {
    pub board: Board,
    pub watcher: Watcher,
    pub clock: SystemClock,
}

/// What all parts of scanning share.
pub(super) struct Shared {
    pub(super) plan: ScanPlan,
    pub(super) state_dir: PathBuf,
    pub(super) tasks: Tasks,
    pub(super) roots: Arc<Roots>,
    registry: Arc<Mutex<Registry>>,
    monitor: Arc<Mutex<Monitor>>,
    pub(super) scanner: Scanner,
    /// As configured.
    pub(super) children: usize,
    /// This host's name as a worker.
    pub(super) worker: String,
    pub(super) feed: ScanFeed,
    pub(super) related: Related,
    pub(super) cleaning: Cleaning,
    pub(super) standing: Standing,
    pub(super) clock: SystemClock,
    watching: Mutex<Option<Watching>>,
    /// The agent drains.
    pub(super) stops: AtomicBool,
    /// Something that the giver goes by has changed.
    pub(super) turn: Signal,
    /// Figures have moved.
    pub(super) looks: Signal,
    /// What others want done on the thread.
    wishes: Arc<Mailbox<Later<()>>>,
}

impl Shared {
    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(super) fn monitor(&self) -> MutexGuard<'_, Monitor> {
        self.monitor.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// The watch, while it runs.
    pub(super) fn watching(&self) -> MutexGuard<'_, Option<Watching>> {
        self.watching.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Has something done on the thread; what finds no room is told, and left.
    pub(super) fn later(&self, wish: Later<()>) {
        if self.wishes.push(wish).is_err() {
            tracing::warn!("scanning has too much to do at once, something that the API asked for is left");
        }
    }
    /// Says how scanning stands.
    pub(super) fn stand(&self) {
        if self.plan.settings.role == Role::Worker {
            return; // the master says
        }
        let state = match self.tasks.figures().trouble {
            Some(why) => State::Retrying(format!("nothing can be stored: {why}")),
            None if self.scanner.is_here() && self.scanner.rules().rules.is_empty() => State::Holding(
                "no rule is loaded, so nothing is scanned; look at scan.rules.paths and at `shipper scan rules check`".into(),
            ),
            None => State::Ready,
        };
        self.standing.set(state);
    }
}

/// Running scanning.
pub struct Scanning {
    shared: Arc<Shared>,
    thread: Running<bool>,
    stop: Arc<Signal>,
    drain_for: Duration,
    /// Of a worker.
    works: Option<Arc<Worker>>,
}

impl Scanning {
    /// Whether what a plan asks for could begin.
    ///
    /// # Errors
    /// Why not.
    pub fn check(plan: &Plan) -> Result<(), ScanError> {
        let Some(scan) = &plan.scan else { return Ok(()) };
        if !cfg!(feature = "scan") {
            return Err(ScanError::Lacking);
        }
        Roots::open(&scan.settings.roots)?;
        Ok(())
    }

    /// Whether the broker that a plan names, if any, works with us. Makes its queues. One that is away may come, and is no error.
    ///
    /// # Errors
    /// What a person must mend.
    pub fn check_broker(plan: &Plan) -> Result<(), ScanError> {
        plan.scan.as_ref().map_or(Ok(()), |scan| broker::check(scan, &plan.globals.instance).map_err(ScanError::Broker))
    }

    /// The task store.
    pub fn tasks(&self) -> Tasks {
        self.shared.tasks.clone()
    }

    /// Starts what a plan asks for; `None` if it asks for nothing.
    ///
    /// # Errors
    /// [`ScanError`]; nothing runs then.
    pub fn start(plan: &Plan, around: Around) -> Result<Option<Self>, ScanError> {
        let Some(scan) = plan.scan.clone() else { return Ok(None) };
        Self::check_broker(plan)?;
        let state_dir = plan.globals.state_dir.clone();
        let uploads = state_dir.join("uploads");
        RealDisk::new().make_dir(&uploads)?;
        let own = Root { name: UPLOADS.into(), path: uploads.clone(), watch: false, depth: 0 };
        let all: Vec<Root> = scan.settings.roots.iter().cloned().chain([own]).collect();
        let roots = Arc::new(Roots::open(&all)?);
        for (name, path) in roots.missing() {
            tracing::warn!(root = name, path = %path.display(), "this scan root is not there; it is scanned from the moment at which it is");
        }
        let tasks = Tasks::open(&state_dir, Limits::new(&scan.settings), Arc::new(alerts_of))?;
        let cores = crate::io::cores().map_or(1, |cores| cores.len());
        let children = scan.settings.children.min(cores.max(1));
        let scanner = Scanner::start(&scan, &state_dir, children, &tasks)?;
        let standing = around.board.enter("scan");
        let clock = around.clock;
        let mut registry = Registry::new(scan.settings.workers.clone(), scan.settings.balance.clone());
        let kept = tasks.workers().wait()?.into_iter().filter_map(|(_, row)| serde_json::from_value(row).ok());
        registry.restore(kept.collect(), &clock);
        let mut monitor = Monitor::new(scan.monitor.clone());
        monitor.restore(tasks.monitor_alerts().wait()?.into_iter().filter_map(|(_, row)| serde_json::from_value(row).ok()));
        let unread = monitor.restore_rules(tasks.monitor_rules().wait()?, Moment { wall: clock.now(), mono: clock.mono() });
        if !unread.is_empty() {
            tracing::warn!(
                rules = unread.join(", "),
                "rules of the monitor cannot be read and are left out; set them anew with PUT /monitoring/rules/NAME"
            );
        }
        let feed = ScanFeed::open(tasks.clone())?;
        for source in &plan.sources {
            if let Some(place) = source.spec.feed() {
                place.put(Arc::new(feed.clone()));
            }
        }
        let shared = Arc::new(Shared {
            related: Related::new(&scan.settings.correlate, tasks.clone()),
            cleaning: Cleaning::new(scan.settings.cleanup.clone(), scan.settings.roots.clone(), tasks.clone(), roots.clone(), clock),
            worker: own_worker(&plan.globals.instance),
            plan: scan,
            state_dir,
            tasks,
            roots,
            registry: Arc::new(Mutex::new(registry)),
            monitor: Arc::new(Mutex::new(monitor)),
            scanner,
            children,
            feed,
            standing,
            clock,
            watching: Mutex::default(),
            stops: AtomicBool::new(false),
            turn: Signal::default(),
            looks: Signal::default(),
            wishes: Mailbox::new(limits::SCAN_WISHES),
        });
        // What this name had leased in an earlier life nobody works on.
        shared.tasks.lost(&shared.worker).wait()?;
        shared.stand();
        let stop = Arc::new(Signal::default());
        let drain_for = plan.globals.drain_for;
        let is_worker = shared.plan.settings.role == Role::Worker;
        let works = if is_worker { Some(worker::worker(&shared, plan.globals.api.as_ref(), drain_for)?) } else { None };
        let broker = match shared.plan.settings.queue.kind {
            QueueKind::Memory => None,
            _ => Some(around.board.enter("scan.queue")),
        };
        let name = plan.globals.instance.clone();
        let body = Body { shared: shared.clone(), stop: stop.clone(), works: works.clone(), broker, name, drain_for };
        let setup = Setup { name: "scan".into(), core: None, network: true, slabs: SlabPool::new(1), watcher: around.watcher, clock };
        let thread = spawn(Engine::Pread, setup, move |io| Box::pin(body.run(io)))?;
        let watching = if is_worker { None } else { Watching::start(&shared)? };
        *shared.watching() = watching;
        let rules = shared.scanner.rules();
        tracing::info!(
            roots = shared.plan.settings.roots.len(),
            children = shared.scanner.children().0,
            rules = rules.rules.len(),
            errors = rules.errors.len(),
            version = rules.version,
            "files are scanned"
        );
        Ok(Some(Self { shared, thread, stop, drain_for, works }))
    }

    /// What the API shows and does.
    pub fn face(&self, plan: &Plan) -> api::scan::Scan {
        let sinks: Vec<Value> =
            plan.sinks.iter().map(|sink| json!({"name": sink.name, "kind": sink.kind, "required": sink.required})).collect();
        let shared = &self.shared;
        api::scan::Scan {
            settings: shared.plan.settings.clone(),
            tasks: shared.tasks.clone(),
            roots: shared.roots.clone(),
            registry: shared.registry.clone(),
            monitor: shared.monitor.clone(),
            uploads: shared.state_dir.join("uploads"),
            hands: Arc::new(Own { shared: shared.clone(), sinks: sinks.into(), works: self.works.clone() }),
        }
    }

    /// Stops taking files, and waits for those under way; true if every one of them has its answer. The store stays open
    /// until [`end`](Self::end), so that what was found in the last moment still goes out.
    pub fn drain(&mut self) -> bool {
        let watching = self.shared.watching().take();
        if let Some(watching) = watching {
            watching.end();
        }
        self.shared.stops.store(true, Ordering::Release);
        self.shared.turn.raise();
        self.stop.raise();
        let deadline = self.shared.clock.mono() + crate::clock::nanos(self.drain_for);
        while !self.thread.is_finished() && self.shared.clock.mono() < deadline {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        self.thread.is_finished()
    }

    /// Ends the children and closes the store.
    pub fn end(self) {
        self.shared.scanner.end();
        self.shared.tasks.close();
        let _ = self.thread.join(); // a panic aborts
    }
}

/// This host's name among workers: no name of one that registers, which has no dot.
fn own_worker(instance: &str) -> String {
    format!("local.{instance}")
}

/// The alerts of an outcome, in the shape in which they are stored.
fn alerts_of(outcome: &Outcome, now: crate::clock::Nanos) -> Vec<serde_json::Map<String, Value>> {
    let alerts = alert::alerts(outcome, now).into_iter().filter_map(|alert| match serde_json::to_value(alert) {
        Ok(Value::Object(mut alert)) => {
            alert.remove("id");
            if !outcome.correlated.is_empty() {
                alert.insert("correlated".into(), outcome.correlated.clone().into());
            }
            Some(alert)
        }
        _ => None,
    });
    alerts.collect()
}

/// What runs on the thread.
struct Body {
    shared: Arc<Shared>,
    stop: Arc<Signal>,
    /// Of a worker.
    works: Option<Arc<Worker>>,
    broker: Option<Standing>,
    /// The agent's.
    name: String,
    drain_for: Duration,
}

impl Body {
    /// Gives false if something was left under way.
    async fn run(self, io: Rc<dyn Io>) -> bool {
        let Self { shared, stop, works, broker, name, drain_for } = self;
        io.spawn("rounds", Box::pin(rounds::run(shared.clone(), io.clone())));
        io.spawn("alerts", Box::pin(shared.feed.clone().tell()));
        let (wishes, on) = (shared.wishes.clone(), io.clone());
        io.spawn(
            "wishes",
            Box::pin(async move {
                while let Some(wish) = wishes.pop().await {
                    on.spawn("a wish", wish);
                }
            }),
        );
        if let Some(works) = works {
            works.run(stop.wait()).await;
            return true;
        }
        let giver = Giver::new(shared.clone(), io.clone());
        if shared.scanner.is_here() {
            io.spawn("giver", Box::pin(giver.clone().run()));
        }
        io.spawn("push", Box::pin(push::run(shared.clone(), io.clone())));
        let (stops, ended) = (Arc::new(Signal::default()), Rc::new(Signal::default()));
        let (of, stopped, tells) = (shared.clone(), stops.clone(), ended.clone());
        io.spawn(
            "broker",
            Box::pin(async move {
                broker::run(of, name, stopped, broker).await;
                tells.raise();
            }),
        );
        stop.wait().await;
        stops.raise();
        let rests = async {
            ended.wait().await;
            giver.rests().await;
        };
        let is_whole = tokio::select! {
            biased;
            () = rests => true,
            () = io.sleep(drain_for) => {
                // What the children are still at is given out again, without waiting for its lease to end.
                let left = shared.tasks.lost(&shared.worker).await.unwrap_or(0);
                tracing::warn!(files = left, "files are still scanned at the end of the drain; they are scanned again at the next start");
                left == 0
            }
        };
        // What was stored in the last moment goes out as well, and nobody on this thread will say so any more.
        shared.feed.more();
        is_whole
    }
}
