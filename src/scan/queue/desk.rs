//! What both brokers do with the store: share what is left over, take what others leave over, bring outcomes home.
//!
//! | a message of the broker is | then |
//! |---|---|
//! | a task of another node, or of a program | it is stored here; its outcome goes to its owner |
//! | a task of this node | its lease to the broker ends, and it is scanned here |
//! | an outcome of a task of this node | it is stored; an error of a node that has no such file is none: it is scanned here |
//!
//! What is shared is leased to [`BROKER`] for as long as a task may take. With no outcome by then the store gives it
//! out again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::envelope::{self, Bad, Envelope};
use crate::{
    clock::{Clock, Nanos},
    metrics::{Standing, State},
    scan::{
        outcome::{Outcome, Reason, Verdict},
        task::{Asker, Capability, RelPath, Task, TaskId},
        tasks::{Away, Finished, Loss, State as Stage, Submission, Submitted, Take, Tasks},
    },
};

/// Who has a lease on what was shared. No worker can have that name.
pub const BROKER: &str = "(broker)";
/// Tasks that are looked at for something to share.
const LOOK: usize = 64;
/// How long it is remembered that a task came home: longer than any task may take.
const HOME: Nanos = 24 * 3600 * 1_000_000_000;
/// Everything that a task may ask for.
const ALL: [Capability; 4] = [Capability::FileScan, Capability::YaraAnalysis, Capability::NetworkAnalysis, Capability::LogAnalysis];

/// Finds the root and the path below it; `None` where the path is not below a root.
pub type Resolve = Arc<dyn Fn(Option<&str>, &[u8]) -> Option<(String, RelPath)> + Send + Sync>;
/// Tells the time to threads.
pub type SharedClock = Arc<dyn Clock + Send + Sync>;

/// How a broker stands and what passed by it.
#[derive(Debug)]
pub struct Board {
    /// As it is called in the log.
    name: &'static str,
    state: Mutex<State>,
    /// Where the agent shows it.
    standing: Option<Standing>,
    /// Tasks that were handed to the broker, and confirmed.
    pub shared: AtomicU64,
    /// Those that it would not have.
    pub refused: AtomicU64,
    /// Tasks that came from it.
    pub taken: AtomicU64,
    /// Messages that went to the dead letter.
    pub bad: AtomicU64,
    /// Outcomes that came back.
    pub returned: AtomicU64,
    /// Messages that wait there, where it says so.
    pub size: AtomicU64,
}

impl Board {
    /// Nothing yet.
    pub fn new(name: &'static str) -> Self {
        let zero = AtomicU64::default;
        Self {
            name,
            state: Mutex::new(State::Starting),
            standing: None,
            shared: zero(),
            refused: zero(),
            taken: zero(),
            bad: zero(),
            returned: zero(),
            size: zero(),
        }
    }

    /// Nothing yet; what it says is shown there as well.
    pub fn shown(name: &'static str, standing: Option<Standing>) -> Self {
        Self { standing, ..Self::new(name) }
    }

    /// How it stands.
    pub fn state(&self) -> State {
        lock(&self.state).clone()
    }

    /// It stands otherwise: said once, and once when it is well again.
    pub fn stands(&self, now: State) {
        let before = std::mem::replace(&mut *lock(&self.state), now.clone());
        if let Some(standing) = &self.standing {
            standing.set(now.clone());
        }
        if before.word() == now.word() {
            return;
        }
        let queue = self.name;
        match now {
            State::Starting => {}
            State::Ready if before == State::Starting => tracing::info!(queue, "the queue's broker is connected"),
            State::Ready => tracing::info!(queue, "the queue's broker is back"),
            State::Retrying(why) => {
                tracing::warn!(queue, "the queue's broker is away; tasks wait here and it is tried again: {why}");
            }
            State::Holding(why) => tracing::error!(queue, "the queue's broker will not work with us until a person mends it: {why}"),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Taken {
    /// It is in the store, and waits for its outcome.
    Waits { id: TaskId, owner: Option<String> },
    /// This node has no such root: its owner is told so.
    Elsewhere { outcome: Box<Outcome>, owner: String },
    /// The store has no room: ask again later.
    Full,
    /// It goes to the dead letter.
    Bad(Bad),
}

/// What became of a task.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    NotYet,
    /// With its outcome; without one if it is dead, was cancelled, or is not known any more.
    With(Option<Box<Outcome>>),
}

/// What both brokers share.
#[derive(Clone)]
pub struct Desk {
    pub tasks: Tasks,
    /// The name of this node among all: `[A-Za-z0-9_-]{1,128}`.
    pub node: String,
    pub resolve: Resolve,
    pub clock: SharedClock,
    /// Scans at once here. 0: nothing is taken, everything is shared.
    pub slots: usize,
    pub board: Arc<Board>,
    /// Tasks that came home, since when: they are not shared again.
    home: Arc<Mutex<BTreeMap<TaskId, Nanos>>>,
    /// Tasks that the broker had once, since when: if such a one waits here again, its lease ran out.
    went: Arc<Mutex<BTreeMap<TaskId, Nanos>>>,
    /// Leased for the broker, or about to be, and not confirmed by it.
    unconfirmed: Arc<Mutex<BTreeSet<TaskId>>>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("node", &self.node).field("slots", &self.slots).finish_non_exhaustive()
    }
}

impl Desk {
    /// A desk in front of a store.
    pub fn new(tasks: Tasks, node: String, resolve: Resolve, clock: SharedClock, slots: usize, board: Arc<Board>) -> Self {
        Self { tasks, node, resolve, clock, slots, board, home: Arc::default(), went: Arc::default(), unconfirmed: Arc::default() }
    }

    /// Seconds since 1970.
    #[allow(clippy::cast_precision_loss, reason = "seconds for JSON: microseconds are more than enough")]
    pub fn now(&self) -> f64 {
        self.clock.now() as f64 / 1e9
    }

    fn comes_home(&self, id: &str) {
        self.remember(&self.home, id);
    }

    fn remember(&self, ids: &Mutex<BTreeMap<TaskId, Nanos>>, id: &str) {
        let now = self.clock.mono();
        let mut ids = lock(ids);
        if ids.len() % 1024 == 1023 {
            ids.retain(|_, since| now.saturating_sub(*since) < HOME);
        }
        ids.insert(id.to_owned(), now);
    }

    /// Leases what the workers here leave over, for the broker. Of each it is to be told whether the broker has it.
    ///
    /// # Errors
    /// The store is away.
    pub async fn surplus(&self, most: usize) -> Result<Vec<Task>, Away> {
        let busy: u64 = self.tasks.figures().in_flight.iter().filter(|(worker, _)| *worker != BROKER).map(|(_, n)| n).sum();
        if busy < self.slots as u64 {
            return Ok(Vec::new());
        }
        let next = self.tasks.peek(LOOK).await?;
        let may_be_shared: Vec<TaskId> = {
            let (home, went) = (lock(&self.home), lock(&self.went));
            // A broker that did not bring it about once may not do so again: whoever scans here does.
            let is_lost = |id: &str| self.slots > 0 && went.contains_key(id);
            let is_ours = |task: &&Task| {
                task.asker != Asker::Queue && task.asker != Asker::Upload && !home.contains_key(&task.task_id) && !is_lost(&task.task_id)
            };
            next.iter().filter(is_ours).map(|task| task.task_id.clone()).take(most).collect()
        };
        let mut shared = Vec::new();
        for id in may_be_shared {
            // Before: a lease that nobody waits for any more is one all the same.
            lock(&self.unconfirmed).insert(id.clone());
            shared.extend(self.tasks.lease(BROKER, &ALL, 1, Take::ThisForBroker(id)).await?.into_iter().map(|lease| lease.task));
        }
        Ok(shared)
    }

    /// The broker has a task.
    pub fn confirmed(&self, id: &str) {
        lock(&self.unconfirmed).remove(id);
        self.remember(&self.went, id);
        self.board.shared.fetch_add(1, Relaxed);
    }

    /// The broker would not have a task: it waits here again.
    ///
    /// # Errors
    /// The store is away.
    pub async fn refused(&self, id: &str) -> Result<(), Away> {
        self.tasks.give_back(BROKER, id, Loss::Refused).await?;
        lock(&self.unconfirmed).remove(id);
        self.board.refused.fetch_add(1, Relaxed);
        Ok(())
    }

    /// The connection is gone: what the broker has not confirmed waits here again. It may have it all the same, which does
    /// no harm.
    pub async fn take_back(&self) {
        let unconfirmed = std::mem::take(&mut *lock(&self.unconfirmed));
        for id in unconfirmed {
            if let Err(away) = self.tasks.give_back(BROKER, &id, Loss::Refused).await {
                tracing::debug!(task = id, %away, "a task's lease to the broker is left to run out");
            }
        }
    }

    /// Takes a message that names a task.
    ///
    /// # Errors
    /// The store is away: nothing is known of the message then, so it must not be acked.
    pub async fn take(&self, bytes: &[u8]) -> Result<Taken, Away> {
        let Envelope { task, owner, is_here } = match envelope::read(bytes, &|root, path| (self.resolve)(root, path), self.now()) {
            Ok(envelope) => envelope,
            Err(bad) => {
                self.board.bad.fetch_add(1, Relaxed);
                return Ok(Taken::Bad(bad));
            }
        };
        let id = task.task_id.clone();
        if owner.as_deref() == Some(&self.node) {
            self.comes_home(&id);
            // No lease: it ran out, or somebody here has it already. Either way it is in hand.
            self.tasks.give_back(BROKER, &id, Loss::Worker).await?;
            return Ok(Taken::Waits { id, owner: None });
        }
        if let Some(owner) = owner.clone().filter(|_| !is_here) {
            let outcome =
                Box::new(Outcome { worker_id: self.node.clone(), started_at: self.now(), ..Outcome::error(&task, Reason::NotAllowed) });
            return Ok(Taken::Elsewhere { outcome, owner });
        }
        let submitted = self.tasks.submit(vec![Submission { task, identity: None }]).await?;
        match submitted.into_iter().next() {
            Some(Submitted::Queued(id)) => {
                self.board.taken.fetch_add(1, Relaxed);
                Ok(Taken::Waits { id, owner })
            }
            Some(Submitted::UnderWay(id) | Submitted::Known { id, .. }) => Ok(Taken::Waits { id, owner }),
            Some(Submitted::Full) | None => Ok(Taken::Full),
        }
    }

    /// What became of a task that was taken.
    ///
    /// # Errors
    /// The store is away.
    pub async fn ended(&self, id: &str) -> Result<Ended, Away> {
        Ok(match self.tasks.task(id).await? {
            Some(standing) => match standing.state {
                Stage::Queued | Stage::Leased => Ended::NotYet,
                Stage::Done => Ended::With(standing.outcome.map(Box::new)),
                Stage::Dead | Stage::Cancelled => Ended::With(None),
            },
            None => Ended::With(None),
        })
    }

    /// Takes an outcome of a task that was shared.
    ///
    /// # Errors
    /// The store is away: nothing is known of the outcome then, so it must not be acked.
    pub async fn returned(&self, bytes: &[u8]) -> Result<(), Away> {
        let Ok(outcome) = serde_json::from_slice::<Outcome>(bytes) else {
            self.board.bad.fetch_add(1, Relaxed);
            tracing::warn!("an outcome from the queue's broker is not readable and was dropped; its task is given out again in time");
            return Ok(());
        };
        self.board.returned.fetch_add(1, Relaxed);
        let id = outcome.task_id.clone();
        // Another node may not have the disk: its "not found" says nothing of the file here.
        let is_of_there = |reason: &Reason| matches!(reason, Reason::NotFound | Reason::NotAllowed | Reason::Io | Reason::NotAFile);
        if outcome.verdict == Verdict::Error && outcome.reasons.iter().any(is_of_there) {
            self.comes_home(&id);
            self.tasks.give_back(BROKER, &id, Loss::Refused).await?;
            return Ok(());
        }
        match self.tasks.finish(BROKER, outcome).await? {
            Finished::WrongBytes => {
                tracing::warn!(task = id, "an outcome from the queue's broker is of other bytes than the file has; it is scanned again")
            }
            other => tracing::debug!(task = id, ?other, "an outcome came by the queue's broker"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_shows_at_once_how_the_broker_stands() {
        let standing = crate::metrics::Board::default().enter("scan.queue");
        let board = Board::shown("kafka", Some(standing.clone()));
        for state in [State::Ready, State::Retrying("away".into()), State::Retrying("still away".into()), State::Holding("no".into())] {
            board.stands(state.clone());
            assert_eq!((board.state(), standing.get()), (state.clone(), state));
        }
    }
}
