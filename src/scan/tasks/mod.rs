//! The task store: what was accepted stays here until its outcome is stored.
//!
//! ```text
//!            ┌────────────── worker lost, lease over, refused, I/O, changed ─────────────┐
//!            ▼                                                                           │
//! submit → queued ── lease ──→ leased ── started ── finish ──→ done (outcome, alerts)    │
//!            │                    └───────── give_back ──────────────────────────────────┤
//!            └── cancel → cancelled                attempts used up, or poison ──→ dead ◄─┘
//! ```
//!
//! `core` decides, without disk or clock; `rows` says how things lie in the file; `store` does each operation on both
//! in one transaction; `thread` gathers operations into one commit. An answer comes after fsync. If a commit
//! fails, memory is built again from the last rows and the same operations run again, so the two never differ.
//!
//! Refuses to know what an alert looks like (it is made by [`AlertsOf`]), how a file is opened, and who a worker is.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

mod alerts;
mod answer;
mod core;
mod decide;
mod handle;
mod ids;
mod open;
mod repair;
mod retention;
mod rows;
mod said;
mod sizes;
mod store;
#[cfg(test)]
mod tests;
mod thread;
#[cfg(test)]
mod twin;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::{
    alerts::{Alert, AlertFilter, Alerts, Page},
    answer::{Answer, Away},
    decide::{DeadReason, Loss},
    handle::{Soon, Tasks},
    open::{FILE, OpenError},
    repair::{How, Repaired, repair},
};
use super::{
    outcome::{Outcome, Reason, Verdict},
    settings::Settings,
    task::{Identity, RelPath, Task, TaskId},
};
use crate::{clock::Nanos, limits};

/// Counts up from 1, in the order of storing.
pub type AlertId = u64;

/// Makes the alerts of an outcome that is stored at this moment, as JSON objects without an `id`.
///
/// What the store finds them by: `rule_name`, `rule_namespace`, `file_path`, `file_type`, `sha256`, `zeek_uid`, `fuid`, `severity`.
pub type AlertsOf = Arc<dyn Fn(&Outcome, Nanos) -> Vec<Map<String, Value>> + Send + Sync>;

/// Bounds and spans of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tasks that may wait; one more is [`Submitted::Full`].
    pub size_max: u64,
    /// Starts of one task.
    pub attempts_max: u32,
    /// Children that one task may take with it.
    pub poison_max: u32,
    /// Before the second attempt, the third and so on; the last one holds on.
    pub backoff: Vec<Nanos>,
    /// Of a lease that nobody extends.
    pub lease: Nanos,
    /// From lease to outcome at most, however often the lease is extended.
    pub task_ttl: Nanos,
    pub verdict_ttl: Nanos,
    /// Of ended tasks, of alerts, and of names that nobody has seen again.
    pub results_age: Nanos,
    pub results_max: u64,
    pub audit_age: Nanos,
    pub audit_max: u64,
    /// Resolved alerts of the monitor.
    pub monitor_alerts_max: u64,
}

impl Limits {
    /// As the operator says.
    ///
    /// A scan may take three times its timeout (an archive with all its members), so the TTL is never below that.
    pub fn new(settings: &Settings) -> Self {
        let queue = &settings.queue;
        Self {
            size_max: queue.size_max,
            attempts_max: queue.attempts_max.max(1),
            poison_max: limits::SCAN_POISON_MAX,
            backoff: queue.backoff_s.iter().map(|s| seconds(*s)).collect(),
            lease: seconds(settings.timeout_s + limits::SCAN_LEASE_GRACE_S),
            task_ttl: seconds(queue.task_ttl_s.max(3 * settings.timeout_s + limits::SCAN_LEASE_GRACE_S)),
            verdict_ttl: seconds(limits::SCAN_VERDICT_TTL_S),
            results_age: seconds(limits::SCAN_RESULTS_AGE_S),
            results_max: limits::SCAN_RESULTS_MAX,
            audit_age: seconds(limits::SCAN_AUDIT_AGE_S),
            audit_max: limits::SCAN_AUDIT_MAX,
            monitor_alerts_max: limits::MONITOR_ALERTS_MAX,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(&Settings::default())
    }
}

fn seconds(s: u64) -> Nanos {
    s.saturating_mul(1_000_000_000)
}

/// A file that somebody wants scanned.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    /// With an empty `task_id` the store gives it one: a UUID that sorts by time.
    pub task: Task,
    /// Of the file, where somebody has looked: a file that is known and done is not scanned again.
    pub identity: Option<Identity>,
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// Stored, and ours until its outcome is.
    Queued(TaskId),
    /// This very file has its answer; `None` if its task is dead or was cancelled.
    Known { id: TaskId, verdict: Option<Verdict> },
    /// This very file is queued or leased.
    UnderWay(TaskId),
    /// `size_max` tasks wait: try later, nothing was stored.
    Full,
}

/// How tasks are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Take {
    /// The next ones. They are started later, by [`Tasks::started`].
    Next,
    /// The next ones, and started in the same commit: a child stands ready.
    Started,
    /// This one, if it may be leased now.
    This(TaskId),
    /// The next ones, started in the same commit by children of this process. The lease lasts as long as a task may: nobody sends
    /// heartbeats for them, and a process that starts again takes back what it had ([`Tasks::lost`]).
    Local,
    /// The next ones, for a broker: the lease lasts as long as a task may.
    Broker,
    /// This one, for a broker.
    ThisForBroker(TaskId),
}

/// A task that a worker has for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// Its `attempt` counts this start only if it is started already.
    pub task: Task,
    /// The file as it was submitted.
    pub identity: Option<Identity>,
    /// Wall time.
    pub deadline: Nanos,
    /// It ran out of time before: nothing else in its child.
    pub alone: bool,
}

/// What became of an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finished {
    /// Stored, with these alerts.
    Applied {
        alerts: Vec<AlertId>,
    },
    /// The task has its outcome already.
    Duplicate,
    /// Not this worker's, or no longer.
    NoLease,
    /// Of other bytes than those handed out: refused, and the lease is over.
    WrongBytes,
    /// An error that may pass: tried again at this wall time.
    Requeued {
        at: Nanos,
    },
    Dead(DeadReason),
}

/// What became of a task that was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenBack {
    /// May be leased again at this wall time.
    Requeued { at: Nanos },
    /// In the dead letter.
    Dead(DeadReason),
    /// Stored as `error: timeout`: it had its second chance.
    TimedOut,
    /// Not this worker's, or no longer.
    NoLease,
}

/// What became of a cancellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    Cancelled,
    /// It had ended before, so.
    Ended(State),
    Unknown,
}

/// What became of asking for a dead task once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retried {
    Queued,
    /// It killed its children; nobody tries it again.
    Poison,
    NotDead,
    Unknown,
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Queued,
    Leased,
    Done,
    Dead,
    Cancelled,
}

/// A task and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    pub task: Task,
    pub identity: Option<Identity>,
    pub state: State,
    /// Of `Leased`.
    pub worker: Option<String>,
    /// Of `Leased`: until when. Of `Queued`: not before. Wall time.
    pub until: Option<Nanos>,
    /// Wall time of its end.
    pub ended_at: Option<Nanos>,
    pub outcome: Option<Outcome>,
    pub dead: Option<Dead>,
}

/// Why a task is in the dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dead {
    pub reason: DeadReason,
    pub attempts: u32,
    pub last_error: String,
    /// Those that tried.
    pub workers: Vec<String>,
}

/// Which tasks are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFilter {
    pub state: Option<State>,
}

/// What is known of a file by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub root: String,
    pub path: RelPath,
    pub identity: Identity,
    pub task_id: TaskId,
    /// `None` while it is queued or leased, and of what is dead or was cancelled.
    pub verdict: Option<Verdict>,
    pub partial: bool,
    pub reasons: Vec<Reason>,
    pub sha256: String,
    /// Wall time of the end of its task.
    pub ended_at: Option<Nanos>,
}

/// An entry of the audit.
#[derive(Clone, Debug, PartialEq)]
pub struct Audited {
    pub seq: u64,
    /// Wall time at which it came here.
    pub at: Nanos,
    pub entry: Value,
}

/// Counts, as of the last commit. From memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Waiting, those after a failure included.
    pub queued: u64,
    pub leased: u64,
    /// Stored, not since the start.
    pub done: u64,
    pub dead: u64,
    pub cancelled: u64,
    pub size_max: u64,
    pub alerts: u64,
    /// Wall time since which the oldest of the waiting ones waits.
    pub oldest_waiting: Option<Nanos>,
    /// Live leases.
    pub in_flight: BTreeMap<String, u64>,
    pub since_start: Counts,
    /// Why nothing can be stored at the moment.
    pub trouble: Option<String>,
}

/// What happened since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub submitted: u64,
    /// Alerts that were stored.
    pub alerts: u64,
    pub finished: BTreeMap<&'static str, u64>,
    pub partial: BTreeMap<String, u64>,
    pub requeued: BTreeMap<&'static str, u64>,
    pub dead: BTreeMap<&'static str, u64>,
    pub duplicates: u64,
    pub wrong_bytes: u64,
    pub cache_hits: u64,
    /// Of files with an outcome.
    pub bytes: u64,
}
