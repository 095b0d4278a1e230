//! The worker role: registers with a master, asks it for tasks, scans them, reports.
//!
//! ```text
//! register ──→ heartbeats ┐
//!    ▲  for ever, 1 … 60 s │      404: register again
//!    └─────────────────────┤
//!                 leases ──┴→ bytes, checked → scan → outcome, until the master has answered
//! ```
//!
//! Tasks that the master brings by itself come by [`Worker::offer`]. How a file is scanned is [`Scanner`]'s business, and
//! how the worker's own API listens is that of whoever serves it.
//!
//! Invariant: bytes whose size or SHA-256 is not what the master says are never scanned.

#![allow(clippy::disallowed_methods, reason = "a master is of the real machine: the simulator has none, and its time is the system's")]

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, watch};

use super::registration::Registration;
use crate::{
    clock::{Clock, Nanos},
    io::Load,
    limits,
    metrics::{Standing, State},
    net::{
        backoff::{Backoff, Rolls},
        http::{self, Call, HttpError, Reply},
        secret::Secret,
    },
    scan::{
        outcome::{Outcome, Reason, Verdict},
        task::{Task, TaskId},
        tasks::Loss,
    },
};

/// Seconds that the master may wait until it has a task for us.
const WAIT_S: u64 = 20;
/// For a call, that wait included.
const PATIENCE: Duration = Duration::from_secs(45);
/// Nanoseconds after which an outcome that the master does not take is given up: its lease is long over.
const OUTCOME_PATIENCE: Nanos = 900_000_000_000;
/// Between two tries to be told what to do.
const TRIES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What comes of a scan.
pub type Scanned = Pin<Box<dyn Future<Output = Result<Outcome, Loss>> + Send>>;

/// Scans files.
pub trait Scanner: Send + Sync {
    /// True if the file can be opened here: a root of that name is configured, and the file is there.
    fn has(&self, task: &Task) -> bool;
    /// Scans the file, or these bytes of it.
    fn scan(&self, task: Task, bytes: Option<Vec<u8>>) -> Scanned;
    /// How busy this host is, since it was asked last.
    fn load(&self) -> Load;
}

/// What a worker is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the master is, and how it is trusted; spans and sizes are set here.
    pub master: http::Settings,
    /// Shown to the master with each call.
    pub key: Option<Secret>,
    pub registration: Registration,
    pub heartbeat: Duration,
    /// Files longer than this are not fetched.
    pub file_bytes_max: u64,
    /// How long the end waits for scans that run.
    pub drain: Duration,
    /// Where the agent shows how it stands with the master.
    pub standing: Option<Standing>,
}

/// What became of a task that was brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    Accepted,
    /// Enough tasks run here, or the worker is ending: 503.
    Full,
}

/// A worker. Share it: one runs it, others offer tasks and ask how it stands.
pub struct Worker {
    settings: Settings,
    /// For short answers, and for files.
    calls: http::Client,
    files: http::Client,
    scanner: Arc<dyn Scanner>,
    clock: Arc<dyn Clock + Send + Sync>,
    began: Nanos,
    inner: Mutex<Inner>,
    /// A scan has ended.
    ended: Notify,
    is_draining: watch::Sender<bool>,
}

struct Inner {
    state: State,
    /// Being scanned, since when.
    running: BTreeMap<TaskId, Nanos>,
    total_processed: u64,
    error_count: u64,
    /// Seconds, of all scans together.
    seconds: f64,
}

/// Why it has to register anew, or to wait.
enum Trouble {
    /// The master does not know us.
    Unknown,
    /// The master, or what is between us, is away.
    Away(String),
    /// A person must mend something.
    Wrong(String),
}

impl From<HttpError> for Trouble {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Settings(why) => Self::Wrong(why),
            other => Self::Away(other.to_string()),
        }
    }
}

#[derive(Deserialize)]
struct Leases {
    tasks: Vec<Task>,
}

impl Worker {
    /// Connects to nobody yet.
    ///
    /// # Errors
    /// An address or certificate that cannot be used; with the remedy.
    pub fn new(settings: Settings, scanner: Arc<dyn Scanner>, clock: Arc<dyn Clock + Send + Sync>) -> Result<Self, String> {
        let of = |body_max| {
            let http = http::Settings { timeout: PATIENCE, body_max, ..settings.master.clone() };
            http::Client::new(&http).map_err(|error| error.to_string())
        };
        let file_bytes = usize::try_from(settings.file_bytes_max).unwrap_or(usize::MAX);
        let inner = Inner { state: State::Starting, running: BTreeMap::new(), total_processed: 0, error_count: 0, seconds: 0.0 };
        Ok(Self {
            calls: of(limits::SCAN_MASTER_ANSWER_BYTES_MAX)?,
            files: of(file_bytes)?,
            scanner,
            began: clock.mono(),
            clock,
            inner: Mutex::new(inner),
            ended: Notify::new(),
            is_draining: watch::Sender::new(false),
            settings,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it stands with the master.
    pub fn state(&self) -> State {
        self.lock().state.clone()
    }

    /// What the worker's own API shows.
    pub fn status(&self) -> Value {
        let inner = self.lock();
        let registration = &self.settings.registration;
        json!({
            "worker_id": registration.worker_id,
            "running": !self.is_draining(),
            "current_tasks": inner.running.len(),
            "max_tasks": registration.max_tasks,
            "total_processed": inner.total_processed,
            "error_count": inner.error_count,
            "uptime": seconds(self.clock.mono().saturating_sub(self.began)),
            "average_processing_time": inner.average(),
            "capabilities": registration.capabilities,
        })
    }

    /// Takes a task that the master brings. To be called within tokio, where it is scanned.
    pub fn offer(self: &Arc<Self>, task: Task) -> Offered {
        let mut inner = self.lock();
        if inner.running.contains_key(&task.task_id) {
            return Offered::Accepted;
        }
        if self.is_draining() || self.room(&inner) == 0 {
            return Offered::Full;
        }
        self.begin(&mut inner, task);
        Offered::Accepted
    }

    fn room(&self, inner: &Inner) -> usize {
        (self.settings.registration.max_tasks as usize).saturating_sub(inner.running.len())
    }

    fn is_draining(&self) -> bool {
        *self.is_draining.borrow()
    }

    /// Begins to end: nothing new is taken. [`run`](Self::run) ends when what runs has ended.
    pub fn drain(&self) {
        self.is_draining.send_replace(true);
    }

    async fn drained(&self) {
        // An error says that the sender is gone, which is in our own hand.
        let _ = self.is_draining.subscribe().wait_for(|is_draining| *is_draining).await;
    }

    /// Works until `stop` or [`drain`](Self::drain), then finishes what runs, for as long as the settings say, and
    /// unregisters.
    pub async fn run(self: &Arc<Self>, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        tokio::select! {
            biased;
            () = &mut stop => self.drain(),
            () = self.work() => {}
        }
        // Leases are kept alive while the last scans end.
        let ends = async {
            while !self.lock().running.is_empty() {
                self.ended.notified().await;
            }
        };
        tokio::select! {
            biased;
            () = ends => {}
            _ = async { loop { let _ = self.beats().await; } } => {}
            () = tokio::time::sleep(self.settings.drain) => tracing::warn!("scans are cut short by the end; the master gives their tasks to others"),
        }
        match self.calls.remove(&self.own(""), &self.key()).await {
            Ok(reply) if matches!(reply.status, 200..300 | 404) => tracing::info!("the worker is unregistered"),
            Ok(reply) => tracing::info!(status = reply.status, "the master does not unregister this worker; it will miss it"),
            Err(error) => tracing::info!(%error, "the master could not be told that this worker ends; it will miss it"),
        }
    }

    async fn work(self: &Arc<Self>) {
        let mut backoff = Backoff::new(TRIES.0, TRIES.1);
        let mut rolls = Rolls::new(self.clock.now());
        while !self.is_draining() {
            let trouble = match self.register().await {
                Ok(()) => {
                    backoff.reset();
                    self.stands(State::Ready);
                    tokio::select! {
                        biased;
                        trouble = self.beats() => trouble,
                        trouble = self.leases() => match trouble {
                            Some(trouble) => trouble,
                            None => return,
                        },
                    }
                }
                Err(trouble) => trouble,
            };
            match trouble {
                // At once: the master is there.
                Trouble::Unknown => tracing::info!("the master does not know this worker; it registers again"),
                Trouble::Away(why) => self.stands(State::Retrying(why)),
                Trouble::Wrong(why) => self.stands(State::Holding(why)),
            }
            tokio::select! {
                biased;
                () = self.drained() => return,
                () = tokio::time::sleep(Duration::from_nanos(backoff.wait(rolls.roll()))) => {}
            }
        }
    }

    /// It stands otherwise: said once, and once when it is well again.
    fn stands(&self, now: State) {
        let before = std::mem::replace(&mut self.lock().state, now.clone());
        if let Some(standing) = &self.settings.standing {
            standing.set(now.clone());
        }
        if before.word() == now.word() {
            return;
        }
        let master = self.settings.master.base.as_str();
        match now {
            State::Starting => {}
            State::Ready => tracing::info!(master, "this worker is registered"),
            State::Retrying(why) => tracing::warn!(master, "the master is away; this worker tries on: {why}"),
            State::Holding(why) => tracing::error!(master, "the master refuses this worker; it tries on, but a person must mend it: {why}"),
        }
    }

    fn key(&self) -> Vec<(&'static str, &Secret)> {
        self.settings.key.iter().map(|key| ("x-api-key", key)).collect()
    }

    /// A path of ours at the master.
    fn own(&self, rest: &str) -> String {
        format!("/distributed/workers/{}{rest}", self.settings.registration.worker_id)
    }

    async fn register(&self) -> Result<(), Trouble> {
        let json = serde_json::to_vec(&self.settings.registration).map_err(|error| Trouble::Wrong(error.to_string()))?;
        let reply = self.calls.call(Call { path: "/distributed/workers/register".into(), json: Some(json) }, &self.key()).await?;
        match reply.status {
            200 | 201 => Ok(()),
            409 => Err(Trouble::Wrong(
                "another worker with this worker_id is healthy there; stop it, or give this one an id of its own".into(),
            )),
            _ => Err(refusal(&reply)),
        }
    }

    /// How it stands. What this host does not tell is left out: the master then goes by tasks alone.
    fn beat(&self) -> Value {
        let load = self.scanner.load();
        let inner = self.lock();
        let running: Vec<&TaskId> = inner.running.keys().collect();
        let mut beat = json!({
            "current_tasks": running.len(),
            "total_processed": inner.total_processed,
            "error_count": inner.error_count,
            "average_processing_time": inner.average(),
            "running": running,
        });
        for (name, percent) in [("cpu_usage", load.cpu_percent), ("memory_usage", load.memory_percent)] {
            if let Some(percent) = percent {
                beat[name] = percent.into();
            }
        }
        beat
    }

    /// Heartbeats, until one goes wrong.
    async fn beats(&self) -> Trouble {
        loop {
            tokio::time::sleep(self.settings.heartbeat).await;
            let beat = self.beat();
            match self.calls.put(&self.own("/heartbeat"), beat.to_string().into_bytes(), &self.key()).await {
                Ok(reply) if (200..300).contains(&reply.status) => self.stands(State::Ready),
                Ok(reply) if reply.status == 404 => return Trouble::Unknown,
                Ok(reply) => return refusal(&reply),
                Err(error) => return error.into(),
            }
        }
    }

    /// Asks for tasks whenever there is room, and scans them. `None` when the worker is ending.
    async fn leases(self: &Arc<Self>) -> Option<Trouble> {
        loop {
            if self.is_draining() {
                return None;
            }
            let room = self.room(&self.lock());
            let (path, key) = (self.own("/lease"), self.key());
            let asked = async {
                if room == 0 {
                    self.ended.notified().await;
                    return None;
                }
                let json = json!({ "max": room, "wait_s": WAIT_S }).to_string().into_bytes();
                Some(self.calls.call(Call { path, json: Some(json) }, &key).await)
            };
            let reply = tokio::select! {
                biased;
                // The master may give us tasks in this moment that we never see: their leases end as we unregister.
                () = self.drained() => return None,
                reply = asked => match reply {
                    Some(reply) => reply,
                    None => continue,
                },
            };
            match reply {
                Ok(reply) if reply.status == 200 => match serde_json::from_slice::<Leases>(&reply.body) {
                    Ok(leases) => {
                        let mut inner = self.lock();
                        for task in leases.tasks {
                            self.begin(&mut inner, task);
                        }
                    }
                    Err(error) => return Some(Trouble::Away(format!("its leases cannot be read: {error}"))),
                },
                Ok(reply) if reply.status == 404 => return Some(Trouble::Unknown),
                Ok(reply) if matches!(reply.status, 429 | 503) => {
                    let wait = reply.retry_after(self.clock.now()).map_or(TRIES.0, Duration::from_nanos);
                    tokio::time::sleep(wait.min(TRIES.1)).await;
                }
                Ok(reply) => return Some(refusal(&reply)),
                Err(error) => return Some(error.into()),
            }
        }
    }

    fn begin(self: &Arc<Self>, inner: &mut Inner, task: Task) {
        if inner.running.insert(task.task_id.clone(), self.clock.mono()).is_some() {
            return;
        }
        let worker = self.clone();
        tokio::spawn(async move {
            let id = task.task_id.clone();
            let outcome = worker.scan(task).await;
            let is_error = outcome.as_ref().is_none_or(|outcome| outcome.verdict == Verdict::Error);
            if let Some(outcome) = outcome {
                worker.report(&outcome).await;
            }
            let mut inner = worker.lock();
            let began = inner.running.remove(&id);
            inner.total_processed += 1;
            inner.error_count += u64::from(is_error);
            inner.seconds += began.map_or(0.0, |began| seconds(worker.clock.mono().saturating_sub(began)));
            drop(inner);
            worker.ended.notify_one();
        });
    }

    /// Scans a task; `None` if the master has it no more.
    async fn scan(&self, task: Task) -> Option<Outcome> {
        let started = self.clock.now();
        let bytes = if self.scanner.has(&task) { Ok(None) } else { self.fetch(&task).await };
        let scanned = match bytes {
            Ok(bytes) => self.scanner.scan(task.clone(), bytes).await.map_err(|loss| (reason(loss), format!("{loss:?}"))),
            Err(Fetch::Gone) => return None,
            Err(Fetch::Failed(reason, why)) => Err((reason, why)),
        };
        let outcome = scanned.unwrap_or_else(|(reason, why)| {
            tracing::info!(task = task.task_id, why, "a task cannot be scanned here; the master is told");
            Outcome { started_at: seconds(started), ..Outcome::error(&task, reason) }
        });
        Some(Outcome { worker_id: self.settings.registration.worker_id.clone(), ..outcome })
    }

    /// Gets a task's bytes from the master.
    async fn fetch(&self, task: &Task) -> Result<Option<Vec<u8>>, Fetch> {
        if task.size.is_some_and(|size| size > self.settings.file_bytes_max) {
            return Err(Fetch::Failed(Reason::TooLarge, "it is larger than file_bytes_max of this worker".into()));
        }
        let mut backoff = Backoff::new(TRIES.0, TRIES.1);
        let mut rolls = Rolls::new(self.clock.mono());
        let mut why = String::new();
        for _ in 0..3 {
            match self.files.call(Call { path: format!("/distributed/tasks/{}/file", task.task_id), json: None }, &self.key()).await {
                Ok(reply) if reply.status == 200 => return check(task, reply).map(Some),
                Ok(reply) if matches!(reply.status, 404 | 409) => return Err(Fetch::Gone),
                Ok(reply) => why = format!("the master answers {}", reply.status),
                Err(HttpError::TooLong(_)) => {
                    return Err(Fetch::Failed(Reason::TooLarge, "it is larger than file_bytes_max of this worker".into()));
                }
                Err(error) => why = error.to_string(),
            }
            tokio::time::sleep(Duration::from_nanos(backoff.wait(rolls.roll()))).await;
        }
        Err(Fetch::Failed(Reason::Io, why))
    }

    /// Reports an outcome until the master has answered.
    async fn report(&self, outcome: &Outcome) {
        let Ok(json) = serde_json::to_vec(outcome) else { return };
        let until = self.clock.mono().saturating_add(OUTCOME_PATIENCE);
        let mut backoff = Backoff::new(TRIES.0, TRIES.1);
        let mut rolls = Rolls::new(self.clock.mono());
        let path = format!("/distributed/tasks/{}/result", outcome.task_id);
        let mut why = String::new();
        while self.clock.mono() < until {
            match self.calls.call(Call { path: path.clone(), json: Some(json.clone()) }, &self.key()).await {
                Ok(reply) if (200..300).contains(&reply.status) => return,
                // It has another one, or gave the task to another worker.
                Ok(reply) if matches!(reply.status, 404 | 409) => {
                    tracing::info!(task = outcome.task_id, status = reply.status, "the master has no use for an outcome any more");
                    return;
                }
                Ok(reply) if matches!(reply.status, 400 | 413 | 422) => {
                    tracing::error!(
                        task = outcome.task_id,
                        status = reply.status,
                        "the master does not understand an outcome; are both of one version?"
                    );
                    return;
                }
                Ok(reply) => why = format!("it answers {}", reply.status),
                Err(error) => why = error.to_string(),
            }
            tokio::time::sleep(Duration::from_nanos(backoff.wait(rolls.roll()))).await;
        }
        tracing::warn!(task = outcome.task_id, "an outcome could not be brought to the master in time; it gives the task out again: {why}");
    }
}

impl Inner {
    /// Seconds of a scan.
    #[allow(clippy::cast_precision_loss, reason = "a mean for people")]
    fn average(&self) -> f64 {
        if self.total_processed == 0 { 0.0 } else { self.seconds / self.total_processed as f64 }
    }
}

/// Why there are no bytes.
#[derive(Debug, PartialEq)]
enum Fetch {
    /// The task is nobody's, or another worker's.
    Gone,
    Failed(Reason, String),
}

/// Bytes that are those of the task.
fn check(task: &Task, reply: Reply) -> Result<Vec<u8>, Fetch> {
    let changed = |what: &str| Err(Fetch::Failed(Reason::Changed, format!("the bytes from the master are not those of the task: {what}")));
    if task.size.is_some_and(|size| size != reply.body.len() as u64) {
        return changed("their size is another one");
    }
    let found: String = Sha256::digest(&reply.body).iter().map(|byte| format!("{byte:02x}")).collect();
    let Some(told) = reply.header("x-content-sha256") else { return changed("X-Content-SHA256 is missing") };
    if !told.eq_ignore_ascii_case(&found) || task.sha256.as_ref().is_some_and(|asked| !asked.eq_ignore_ascii_case(&found)) {
        return changed("their SHA-256 is another one");
    }
    Ok(reply.body)
}

/// What a loss is to the master, which tries again what may pass.
fn reason(loss: Loss) -> Reason {
    match loss {
        Loss::Changed | Loss::WrongBytes => Reason::Changed,
        Loss::Timeout => Reason::Timeout,
        Loss::Worker | Loss::Lease | Loss::Refused | Loss::Io | Loss::Child => Reason::Io,
    }
}

/// What an answer that is no success means.
fn refusal(reply: &Reply) -> Trouble {
    let told = serde_json::from_slice::<Value>(&reply.body).ok();
    let told = told.as_ref().and_then(|told| told.pointer("/error/message").or_else(|| told.get("detail")).and_then(Value::as_str));
    let told: String = told.unwrap_or_default().chars().take(300).collect();
    let why = format!("it answers {} {}", reply.status, told.escape_debug());
    match reply.status {
        401 => Trouble::Wrong(format!("{why}; give this worker a key that the master has in its keys_file")),
        403 => Trouble::Wrong(format!("{why}; see scan.workers.hosts and the key's worker id there")),
        400 | 404 | 405 | 422 => Trouble::Wrong(format!("{why}; is it a master, and of this version?")),
        _ => Trouble::Away(why),
    }
}

#[allow(clippy::cast_precision_loss, reason = "seconds for people and JSON")]
fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests;
