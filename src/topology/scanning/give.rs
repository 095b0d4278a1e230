//! What waits goes to the children of this host, and what they answer into the store.

use std::{
    cell::Cell,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::start::Shared;
use crate::{
    clock::Clock,
    io::Io,
    limits,
    ring::Signal,
    scan::{
        monitor::{Finished as Measured, Moment},
        outcome::{Outcome, Reason, Verdict},
        task::{Capability, Task},
        tasks::{Away, Finished, Lease, Loss, Take, Tasks},
    },
};

/// What the children of this host can do.
const ABLE: [Capability; 4] = [Capability::FileScan, Capability::YaraAnalysis, Capability::NetworkAnalysis, Capability::LogAnalysis];

/// Between two tries of a store that cannot answer.
const AGAIN: Duration = Duration::from_secs(1);

/// Gives out tasks until it is told to stop.
pub(super) struct Giver {
    pub(super) shared: Arc<Shared>,
    pub(super) io: Rc<dyn Io>,
    tasks: Tasks,
    /// Tasks in hand.
    in_hand: Cell<usize>,
    /// The last file took less than it takes to be called slow.
    is_quick: Cell<bool>,
    /// One of them is done: for who gives out, and for who waits for the last one.
    done: Signal,
    rested: Signal,
}

impl Giver {
    pub(super) fn new(shared: Arc<Shared>, io: Rc<dyn Io>) -> Rc<Self> {
        let tasks = shared.tasks.clone();
        Rc::new(Self {
            shared,
            io,
            tasks,
            in_hand: Cell::new(0),
            is_quick: Cell::new(false),
            done: Signal::default(),
            rested: Signal::default(),
        })
    }

    /// Runs until the agent drains.
    pub(super) async fn run(self: Rc<Self>) {
        while !self.shared.stops.load(Ordering::Acquire) {
            // More than the children can have, so that none waits for the store's next commit; but what is slow may be for others.
            let each = if self.is_quick.get() { 2 * limits::CHILD_FILES_AT_ONCE } else { 2 };
            let room = (each * self.shared.scanner.places()).saturating_sub(self.in_hand.get());
            if room == 0 {
                tokio::select! {
                    () = self.done.wait() => {}
                    () = self.shared.turn.wait() => {}
                }
                continue;
            }
            match self.tasks.lease(&self.shared.worker, &ABLE, room, Take::Local).await {
                Ok(leases) if leases.is_empty() => {
                    tokio::select! {
                        () = self.tasks.ready() => {}
                        () = self.shared.turn.wait() => {}
                    }
                }
                Ok(leases) => {
                    for lease in leases {
                        self.in_hand.set(self.in_hand.get() + 1);
                        let giver = self.clone();
                        self.io.spawn("scan of a file", Box::pin(async move { giver.whole(lease).await }));
                    }
                }
                Err(Away::Closed) => break,
                Err(away) => {
                    tracing::warn!("cannot ask for files to scan: {away}");
                    self.io.sleep(AGAIN).await;
                }
            }
        }
    }

    /// Waits until nothing is in hand.
    pub(super) async fn rests(&self) {
        while self.in_hand.get() > 0 {
            self.rested.wait().await;
        }
    }

    /// One task, from its lease to its stored outcome.
    async fn whole(self: Rc<Self>, lease: Lease) {
        let Lease { task, .. } = lease;
        let id = task.task_id.clone();
        let waited = seconds(self.io.clock()) - task.submitted_at;
        match self.scanned(&task).await {
            Ok(outcome) => self.finish(outcome, waited).await,
            Err((loss, why)) => {
                tracing::info!(task = id, loss = loss.as_str(), "a file is given back: {}", plain(&why));
                if let Err(away) = self.tasks.give_back_because(&self.shared.worker, &id, loss, &why).await {
                    tracing::warn!(task = id, "a file could not be given back, it comes again when its lease ends: {away}");
                }
            }
        }
        self.in_hand.set(self.in_hand.get() - 1);
        self.done.raise();
        self.rested.raise();
    }

    /// Opens the file and has it scanned.
    async fn scanned(&self, task: &Task) -> Result<Outcome, (Loss, String)> {
        let shared = &self.shared;
        let begun = seconds(self.io.clock());
        let opened = shared.roots.open_file(&task.root, &task.path, shared.plan.settings.file_bytes_max);
        let mut outcome = match opened {
            Ok(opened) => shared.scanner.scan(task, &shared.worker, opened.fd).await?,
            Err(failure) if failure.reason == Reason::Io => return Err((Loss::Io, told(&failure))),
            Err(failure) => Outcome::error(task, failure.reason),
        };
        outcome.worker_id.clone_from(&shared.worker);
        outcome.attempt = task.attempt;
        if outcome.started_at <= 0.0 {
            outcome.started_at = begun;
        }
        // A row of Zeek's log that comes a little late still goes out with the alert.
        let facts = shared.related.facts(&self.io, task, is_matched(&outcome)).await;
        let mono = self.io.clock().mono();
        shared.related.settle(task, facts, &mut outcome, mono);
        Ok(outcome)
    }

    async fn finish(&self, outcome: Outcome, waited: f64) {
        self.is_quick.set(outcome.scan_ms < limits::CHILD_SLOW_MS);
        let (id, is_error, scan_ms) = (outcome.task_id.clone(), outcome.verdict == Verdict::Error, outcome.scan_ms as f64);
        match self.tasks.finish(&self.shared.worker, outcome).await {
            Ok(Finished::Applied { .. }) => {
                let now = Moment { wall: self.io.clock().now(), mono: self.io.clock().mono() };
                self.shared.monitor().finished(Measured { is_error, scan_ms, wait_ms: waited.max(0.0) * 1000.0 }, now);
            }
            Ok(Finished::Requeued { .. } | Finished::Dead(_) | Finished::Duplicate) => {}
            Ok(Finished::NoLease | Finished::WrongBytes) => {
                tracing::info!(task = id, "an answer came too late, the file is scanned by somebody else");
            }
            Err(away) => tracing::warn!(task = id, "an answer could not be stored, the file is scanned again: {away}"),
        }
    }
}

/// True if alerts will be made of it.
fn is_matched(outcome: &Outcome) -> bool {
    !outcome.matches.is_empty() || outcome.children.iter().any(|child| !child.matches.is_empty())
}

/// Wall time, seconds since 1970.
pub(super) fn seconds(clock: &dyn Clock) -> f64 {
    clock.now() as f64 / 1e9
}

/// An error with all that is behind it.
pub(super) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// Text of others for the log: one line.
pub(super) fn plain(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().take(limits::LOGGED_CHARS).map(shown).collect()
}
