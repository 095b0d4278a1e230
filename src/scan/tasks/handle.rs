//! What everybody else holds of the store.

use std::{
    future::Future,
    ops::Bound,
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Sender, channel},
    },
    task::{Context, Poll},
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::{Map, Value};

use super::{
    Alert, AlertFilter, AlertId, Alerts, AlertsOf, Answer, Audited, Away, Cancelled, Figures, Finished, GivenBack, Known, Lease, Limits,
    Loss, Nanos, OpenError, Page, Retried, Standing, State, Submission, Submitted, Take, TaskFilter, alerts,
    answer::promise,
    core::Live,
    ids::Ids,
    open,
    rows::{AuditRow, Cached, Fault, TaskRow, Thing, View, decode, file_key, get, get_file, state_key, verdict_key},
    sizes::Sizes,
    store::Store,
    thread::{Asked, Board, Order, Reading, Shared, SharedClock, Writer, read},
};
use crate::{
    clock::SystemClock,
    limits::SCAN_OPERATIONS_MAX,
    scan::{
        outcome::Outcome,
        task::{Capability, RelPath, Task, TaskId, Zeek},
    },
};

/// The way to the task store. Cheap to clone; each clone waits for tasks by itself, see [`ready`](Self::ready).
pub struct Tasks {
    inner: Arc<Inner>,
    /// The stamp at which a lease of this handle left nothing that it could take.
    barren: Arc<AtomicU64>,
}

struct Inner {
    orders: Sender<Order>,
    /// To `scan-read` and `scan-list`.
    looks: Sender<Reading>,
    lists: Sender<Reading>,
    shared: Arc<Shared>,
    clock: SharedClock,
    limits: Limits,
    sizes: Arc<Sizes>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Inner {
    fn close(&self) {
        let _ = self.orders.send(Order::Close); // it may have ended
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ = writer.join(); // panics abort
        }
        drop(self.shared.database.write().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Clone for Tasks {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), barren: Arc::default() }
    }
}

impl std::fmt::Debug for Tasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tasks").field("figures", &self.figures()).finish()
    }
}

impl Tasks {
    /// Opens the store in the state directory and starts its threads. What was queued or leased still is.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(dir: &Path, limits: Limits, alerts_of: AlertsOf) -> Result<Self, OpenError> {
        Self::open_at(dir, limits, alerts_of, Arc::new(SystemClock::new()))
    }

    /// The same by another clock: wall time for deadlines, monotonic time for the group commit.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_at(dir: &Path, limits: Limits, alerts_of: AlertsOf, clock: SharedClock) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { path: dir.join(open::FILE), source };
        let database = open::open(dir)?;
        let memory = open::load(&database, dir, &limits)?;
        let sizes = memory.sizes.clone();
        let ids = Ids::open().map_err(io)?;
        let shared = Arc::new(Shared::new(database));
        let (orders, for_writer) = channel();
        let (looks, for_looks) = channel();
        let (lists, for_lists) = channel();
        let writer = Writer {
            dir: dir.to_owned(),
            shared: shared.clone(),
            clock: clock.clone(),
            limits: limits.clone(),
            alerts_of,
            ids,
            memory,
            retention_at: 0,
        };
        writer.publish();
        let writer = thread::Builder::new().name("scan-store".into()).spawn(move || writer.run(&for_writer)).map_err(io)?;
        for (name, readings) in [("scan-read", for_looks), ("scan-list", for_lists)] {
            let shared = shared.clone();
            // They end with the last handle.
            thread::Builder::new().name(name.into()).spawn(move || read(&shared, &readings)).map_err(io)?;
        }
        let inner = Inner { orders, looks, lists, shared, clock, limits, sizes, writer: Mutex::new(Some(writer)) };
        Ok(Self { inner: Arc::new(inner), barren: Arc::default() })
    }

    /// Ends the writing thread once all that was asked before is committed, and closes the file. Later questions are [`Away::Closed`].
    ///
    /// The last handle does the same when it is dropped.
    pub fn close(&self) {
        self.inner.close();
    }

    fn ask<T: Send + 'static>(&self, run: impl FnMut(&mut Store<'_, '_>) -> Result<T, Fault> + Send + 'static) -> Answer<T> {
        let (promise, answer) = promise();
        let waiting = self.inner.shared.waiting.fetch_add(1, Ordering::Relaxed);
        if waiting >= SCAN_OPERATIONS_MAX {
            self.inner.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            promise.tell(Err(Away::Busy(waiting)));
            return answer;
        }
        let job = Order::Job(Box::new(Asked { run, value: None, promise }));
        // A closed store drops it, which is the answer.
        if self.inner.orders.send(job).is_err() {
            self.inner.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        answer
    }

    /// A row or two.
    fn look<T: Send + 'static>(&self, run: impl FnOnce(&View) -> Result<T, Fault> + Send + 'static) -> Answer<T> {
        self.read(&self.inner.looks, run)
    }
    /// As many rows as there are.
    fn go_through<T: Send + 'static>(&self, run: impl FnOnce(&View) -> Result<T, Fault> + Send + 'static) -> Answer<T> {
        self.read(&self.inner.lists, run)
    }
    fn read<T: Send + 'static>(&self, to: &Sender<Reading>, run: impl FnOnce(&View) -> Result<T, Fault> + Send + 'static) -> Answer<T> {
        let (promise, answer) = promise();
        let waiting = self.inner.shared.waiting.fetch_add(1, Ordering::Relaxed);
        if waiting >= SCAN_OPERATIONS_MAX {
            self.inner.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            promise.tell(Err(Away::Busy(waiting)));
            return answer;
        }
        let reading: Reading = Box::new(move |view| promise.tell(view.and_then(|view| run(view).map_err(|fault| fault.away()))));
        if to.send(reading).is_err() {
            self.inner.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        answer
    }

    // Tasks.

    /// Stores files that are to be scanned, all in one commit. The answers are in their order.
    pub fn submit(&self, mut submissions: Vec<Submission>) -> Answer<Vec<Submitted>> {
        self.ask(move |store| store.submit(&mut submissions, false))
    }
    /// The same, for files that have their answer too: by new rules.
    pub fn submit_again(&self, mut submissions: Vec<Submission>) -> Answer<Vec<Submitted>> {
        self.ask(move |store| store.submit(&mut submissions, true))
    }
    /// Gives up to `max` tasks to a worker that can do `able`. None while the store is [paused](Self::pause).
    pub fn lease(&self, worker: &str, able: &[Capability], max: usize, take: Take) -> Answer<Vec<Lease>> {
        let (worker, able, barren, shared) = (worker.to_owned(), able.to_vec(), self.barren.clone(), self.inner.shared.clone());
        self.ask(move |store| {
            if shared.board().is_paused {
                return Ok(Vec::new());
            }
            let leases = store.lease(&worker, &able, max, &take)?;
            let is_barren = leases.len() < max && !matches!(take, Take::This(_) | Take::ThisForBroker(_));
            barren.store(if is_barren { store.memory.core.stamp() } else { 0 }, Ordering::Relaxed);
            Ok(leases)
        })
    }
    /// The tasks that would be given next to somebody who can do everything. None is taken.
    pub fn peek(&self, max: usize) -> Answer<Vec<Task>> {
        self.ask(move |store| store.peek(max))
    }
    /// Writes down that the scan begins, before it does. `false`: not this worker's any more, do not scan.
    pub fn started(&self, worker: &str, id: &str) -> Answer<bool> {
        let (worker, id) = (worker.to_owned(), id.to_owned());
        self.ask(move |store| store.started(&worker, &id))
    }
    /// Writes down what bytes a worker was handed: an outcome of others is refused. `false`: not this worker's.
    pub fn handed_out(&self, worker: &str, id: &str, sha256: &str) -> Answer<bool> {
        let (worker, id, sha256) = (worker.to_owned(), id.to_owned(), sha256.to_owned());
        self.ask(move |store| store.handed_out(&worker, &id, &sha256))
    }
    /// Applies an outcome, once for each task. An error that may pass (`io`, `changed`, `timeout`) is tried again instead.
    pub fn finish(&self, worker: &str, outcome: Outcome) -> Answer<Finished> {
        let worker = worker.to_owned();
        self.ask(move |store| store.finish(&worker, &outcome))
    }
    /// Hands a task back without an outcome.
    pub fn give_back(&self, worker: &str, id: &str, loss: Loss) -> Answer<GivenBack> {
        self.give_back_because(worker, id, loss, "")
    }
    /// The same with what was said, for the dead letter.
    pub fn give_back_because(&self, worker: &str, id: &str, loss: Loss, why: &str) -> Answer<GivenBack> {
        let (worker, id, why) = (worker.to_owned(), id.to_owned(), why.to_owned());
        self.ask(move |store| store.give_back(&worker, &id, loss, &why))
    }
    /// Extends leases of a worker that lives: to a whole lease from now, never past the task's TTL. Gives back how many.
    pub fn extend(&self, worker: &str, ids: &[TaskId]) -> Answer<usize> {
        let (worker, ids) = (worker.to_owned(), ids.to_vec());
        self.ask(move |store| store.extend(&worker, &ids))
    }
    /// Takes everything back from a worker that is gone. Gives back how many.
    pub fn lost(&self, worker: &str) -> Answer<usize> {
        let worker = worker.to_owned();
        self.ask(move |store| store.lost(&worker))
    }
    pub fn cancel(&self, id: &str) -> Answer<Cancelled> {
        let id = id.to_owned();
        self.ask(move |store| store.cancel(&id))
    }
    /// Tells what Zeek says of a task's file, also after its outcome: its alerts are amended. `false` without such a task.
    pub fn tell_zeek(&self, id: &str, zeek: Zeek) -> Answer<bool> {
        let id = id.to_owned();
        self.ask(move |store| store.tell_zeek(&id, &zeek))
    }
    /// A task, wherever it stands.
    pub fn task(&self, id: &str) -> Answer<Option<Standing>> {
        let id = id.to_owned();
        self.look(move |view| standing(view, &id))
    }
    /// Tasks in the order of their ids, which is that of coming for ids of ours.
    ///
    /// - `after`: the last id of the page before.
    pub fn tasks(&self, filter: TaskFilter, after: Option<&str>, limit: usize) -> Answer<Vec<Standing>> {
        let after = after.map(str::to_owned);
        self.go_through(move |view| list(view, filter.state, after.as_deref(), limit))
    }

    // The dead letter.

    /// As [`tasks`](Self::tasks), of the dead letter.
    pub fn dead(&self, after: Option<&str>, limit: usize) -> Answer<Vec<Standing>> {
        self.tasks(TaskFilter { state: Some(State::Dead) }, after, limit)
    }
    /// Queues a dead task once more, as if it were new. What was poison stays.
    pub fn retry_dead(&self, id: &str) -> Answer<Retried> {
        let id = id.to_owned();
        self.ask(move |store| store.retry_dead(&id))
    }
    /// Takes a task out of the dead letter; it counts as cancelled. `false` if it is not in there.
    pub fn drop_dead(&self, id: &str) -> Answer<bool> {
        let id = id.to_owned();
        self.ask(move |store| store.drop_dead(&id))
    }

    // Files and verdicts.

    /// The outcome of a file of the same bytes under the same rules, of the last 24 hours; whole, with `cached` set.
    ///
    /// Its task, path, worker and times are those of the file that was scanned. Its matches may be of rules that ask for a
    /// file's name: whoever takes it puts those aside and lets such rules run again.
    pub fn cached(&self, sha256: &str, size: u64, rules_version: &str) -> Answer<Option<Outcome>> {
        let key = verdict_key(sha256, size, rules_version);
        let oldest = self.inner.clock.now().saturating_sub(self.inner.limits.verdict_ttl);
        self.look(move |view| {
            let cached: Option<Cached> = get(&view.verdicts, "verdicts", &key)?;
            Ok(cached.filter(|cached| cached.at >= oldest).map(|cached| Outcome { cached: true, ..cached.outcome }))
        })
    }
    /// `false` if [`cached`](Self::cached) surely finds nothing for a file of so many bytes.
    pub fn may_have_cached(&self, size: u64) -> bool {
        self.inner.sizes.may_hold(size)
    }
    pub fn known(&self, root: &str, path: &RelPath) -> Answer<Option<Known>> {
        let key = file_key(root, path);
        self.look(move |view| Ok(get_file(&view.files, &key)?.map(|file| file.known(&key))))
    }
    /// Names whose outcome is older than that, oldest first. What is dead or cancelled is not among them.
    ///
    /// - `after`: the last one of the page before.
    pub fn done_older_than(&self, before: Nanos, after: Option<&Known>, limit: usize) -> Answer<Vec<Known>> {
        let after = after.map(|known| (known.ended_at.unwrap_or(0), file_key(&known.root, &known.path)));
        self.go_through(move |view| {
            let from = match &after {
                Some((at, key)) => Bound::Excluded((*at, key.as_slice())),
                None => Bound::Unbounded,
            };
            let mut found = Vec::new();
            for row in view.files_done.range((from, Bound::Excluded((before, &[][..]))))?.take(limit) {
                let key = row?.0.value().1.to_vec();
                found.extend(get_file(&view.files, &key)?.map(|file| file.known(&key)));
            }
            Ok(found)
        })
    }
    /// Forgets a name, as its file is gone. `false` if it is not known or its task is under way.
    pub fn forget_file(&self, root: &str, path: &RelPath) -> Answer<bool> {
        let key = file_key(root, path);
        self.ask(move |store| store.forget_file(&key))
    }

    // Alerts.

    pub fn alert(&self, id: AlertId) -> Answer<Option<Alert>> {
        self.look(move |view| alerts::get(view, id))
    }
    /// A page, newest first, and how many there are in all.
    pub fn alerts(&self, filter: AlertFilter, page: Page) -> Answer<Alerts> {
        self.go_through(move |view| alerts::list(view, &filter, page))
    }
    /// Alerts stored after that one, oldest first. 0 is before the first.
    pub fn alerts_after(&self, id: AlertId, limit: usize) -> Answer<Vec<Alert>> {
        self.go_through(move |view| alerts::after(view, id, limit))
    }
    /// Sets members of an alert; its id, task, rule, file and time stay. `false` if there is none.
    pub fn amend_alert(&self, id: AlertId, members: Map<String, Value>) -> Answer<bool> {
        self.ask(move |store| store.amend_alert(id, &members))
    }

    // Audit, workers, monitor: rows of others.

    /// Keeps an entry. Gives back its number.
    pub fn audit(&self, entry: Value) -> Answer<u64> {
        self.ask(move |store| store.audit(&entry))
    }
    /// Entries after that number, oldest first.
    pub fn audits(&self, after: Option<u64>, limit: usize) -> Answer<Vec<Audited>> {
        self.go_through(move |view| {
            let mut found = Vec::new();
            for row in view.audit.range(after.unwrap_or(0).saturating_add(1)..)?.take(limit) {
                let (seq, row) = row?;
                let seq = seq.value();
                let AuditRow { at, entry } = decode(row.value(), || format!("audit/{seq}"))?;
                found.push(Audited { seq, at, entry });
            }
            Ok(found)
        })
    }
    pub fn put_worker(&self, id: &str, row: Value) -> Answer<()> {
        self.put_thing(Thing::Worker, id, row)
    }
    /// By id.
    pub fn workers(&self) -> Answer<Vec<(String, Value)>> {
        self.things(Thing::Worker)
    }
    pub fn remove_worker(&self, id: &str) -> Answer<bool> {
        let id = id.to_owned();
        self.ask(move |store| store.remove_thing(Thing::Worker, &id))
    }
    /// Keeps an alert of the monitor as it stands now, and what is told of it under a number that rises. Of resolved ones only
    /// the newest by id stay, of what was told only the newest.
    pub fn put_monitor_alert(&self, id: &str, row: Value, number: u64, told: Value) -> Answer<()> {
        let id = id.to_owned();
        self.ask(move |store| store.put_monitor_alert(&id, &row, number, &told))
    }
    /// By id, oldest first.
    pub fn monitor_alerts(&self) -> Answer<Vec<(String, Value)>> {
        self.things(Thing::MonitorAlert)
    }
    /// What was told of them, by its number, oldest first.
    pub fn monitor_told(&self) -> Answer<Vec<(u64, Value)>> {
        self.go_through(|view| {
            let told = things(view, Thing::MonitorTold)?;
            Ok(told.into_iter().filter_map(|(name, row)| Some((name.parse().ok()?, row))).collect())
        })
    }
    /// Keeps a rule of the monitor; null where one of the defaults was taken out.
    pub fn put_monitor_rule(&self, name: &str, row: Value) -> Answer<()> {
        self.put_thing(Thing::MonitorRule, name, row)
    }
    pub fn monitor_rules(&self) -> Answer<Vec<(String, Value)>> {
        self.things(Thing::MonitorRule)
    }

    fn put_thing(&self, kind: Thing, name: &str, row: Value) -> Answer<()> {
        let name = name.to_owned();
        self.ask(move |store| store.put_thing(kind, &name, &row))
    }
    fn things(&self, kind: Thing) -> Answer<Vec<(String, Value)>> {
        self.go_through(move |view| things(view, kind))
    }

    // From memory.

    /// As of the last commit.
    pub fn figures(&self) -> Figures {
        self.inner.shared.board().figures.clone()
    }
    /// Stops giving out tasks, or goes on. What is leased may end; submissions are taken.
    pub fn pause(&self, is_paused: bool) {
        self.inner.shared.change(|board| board.is_paused = is_paused);
    }
    pub fn is_paused(&self) -> bool {
        self.inner.shared.board().is_paused
    }
    /// Resolves when a task may be leased: one that came after this handle's last [`lease`](Self::lease) took all it could, so
    /// ask for leases first and wait if there were none. Also when the store is closed.
    ///
    /// A handle speaks for one worker (or several that can do the same): clone it for others.
    pub fn ready(&self) -> Soon {
        self.soon(What::Ready)
    }
    /// The same for threads. `false` after `timeout`.
    pub fn wait_ready(&self, timeout: Duration) -> bool {
        self.wait(What::Ready, timeout)
    }
    /// Waits until a submission would not be [`Submitted::Full`], until the store is closed, or until `is_over`, which is asked after
    /// each [`wake`](Self::wake).
    pub fn wait_room(&self, is_over: &dyn Fn() -> bool) {
        let board = self.inner.shared.board();
        let is_waiting = |board: &mut Board| !board.is_closed && board.figures.queued >= board.figures.size_max && !is_over();
        drop(self.inner.shared.changed.wait_while(board, is_waiting).unwrap_or_else(PoisonError::into_inner));
    }
    /// Has all who wait look again.
    pub fn wake(&self) {
        self.inner.shared.change(|_| {});
    }

    /// Resolves when more alerts were stored since the start than these. Also when the store is closed.
    pub fn more_alerts(&self, than: u64) -> Soon {
        self.soon(What::Alerts { than })
    }

    fn soon(&self, what: What) -> Soon {
        Soon { shared: self.inner.shared.clone(), barren: self.barren.clone(), what, place: None }
    }
    fn wait(&self, what: What, timeout: Duration) -> bool {
        let board = self.inner.shared.board();
        let waited = self.inner.shared.changed.wait_timeout_while(board, timeout, |board| !what.is_so(board, &self.barren));
        let (board, _) = waited.unwrap_or_else(PoisonError::into_inner);
        what.is_so(&board, &self.barren)
    }
}

#[derive(Clone, Copy)]
enum What {
    Ready,
    Alerts { than: u64 },
}

impl What {
    fn is_so(self, board: &Board, barren: &AtomicU64) -> bool {
        board.is_closed
            || match self {
                Self::Ready => !board.is_paused && board.ready > 0 && board.stamp > barren.load(Ordering::Relaxed),
                Self::Alerts { than } => board.figures.since_start.alerts > than,
            }
    }
}

/// See [`Tasks::ready`] and [`Tasks::more_alerts`].
pub struct Soon {
    shared: Arc<Shared>,
    barren: Arc<AtomicU64>,
    what: What,
    /// Of its waker on the board.
    place: Option<u64>,
}

impl Future for Soon {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = self.shared.clone();
        let mut board = shared.board();
        if self.what.is_so(&board, &self.barren) {
            return Poll::Ready(());
        }
        let place = self.place.unwrap_or_else(|| {
            board.wakers_made += 1;
            board.wakers_made
        });
        board.wakers.insert(place, cx.waker().clone());
        self.place = Some(place);
        Poll::Pending
    }
}

impl Drop for Soon {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.shared.board().wakers.remove(&place);
        }
    }
}

fn things(view: &View, kind: Thing) -> Result<Vec<(String, Value)>, Fault> {
    let mut found = Vec::new();
    for row in view.things.range((kind as u8, "")..(kind as u8 + 1, ""))? {
        let (key, row) = row?;
        let name = key.value().1.to_owned();
        let row = decode(row.value(), || format!("things/{name}"))?;
        found.push((name, row));
    }
    Ok(found)
}

fn standing(view: &View, id: &str) -> Result<Option<Standing>, Fault> {
    let Some(TaskRow { mut task, identity, end }) = get(&view.tasks, "tasks", id)? else { return Ok(None) };
    let live: Option<Live> = get(&view.live, "live", id)?;
    let mut standing = Standing {
        task: task.clone(),
        identity,
        state: State::Queued,
        worker: None,
        until: None,
        ended_at: None,
        outcome: None,
        dead: None,
    };
    if let Some(live) = live {
        task.attempt = live.tries.attempt;
        standing.task = task;
        standing.until = Some(live.not_before).filter(|at| *at > 0);
        if let Some(hold) = live.hold {
            standing.state = State::Leased;
            standing.until = Some(hold.deadline);
            standing.worker = Some(hold.worker);
        }
    } else if let Some(end) = end {
        standing.state = end.state;
        standing.ended_at = Some(end.at);
        standing.outcome = end.outcome;
        standing.dead = end.dead;
    }
    Ok(Some(standing))
}

fn list(view: &View, state: Option<State>, after: Option<&str>, limit: usize) -> Result<Vec<Standing>, Fault> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut found = Vec::new();
    match state {
        None => {
            for row in view.tasks.range::<&str>((from, Bound::Unbounded))?.take(limit) {
                found.extend(standing(view, row?.0.value())?);
            }
        }
        Some(state @ (State::Queued | State::Leased)) => {
            for row in view.live.range::<&str>((from, Bound::Unbounded))? {
                if found.len() == limit {
                    break;
                }
                let (id, row) = row?;
                let live: Live = decode(row.value(), || format!("live/{}", id.value()))?;
                if live.hold.is_some() == (state == State::Leased) {
                    found.extend(standing(view, id.value())?);
                }
            }
        }
        Some(state) => {
            let key = state_key(state);
            let from = after.map_or(Bound::Included((key, "")), |after| Bound::Excluded((key, after)));
            for row in view.states.range((from, Bound::Excluded((key + 1, ""))))?.take(limit) {
                found.extend(standing(view, row?.0.value().1)?);
            }
        }
    }
    Ok(found)
}
