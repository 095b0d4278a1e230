//! Live tasks: who waits, who has what, until when. No disk, no clock.
//!
//! Higher priority first, first come first served within one; every [`OLDEST_EVERY`]th take serves the one that waits longest.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    Limits, Nanos,
    decide::{self, Loss, Next, Tries},
};
use crate::{
    limits::SCAN_OLDEST_EVERY as OLDEST_EVERY,
    scan::task::{Capability, Priority, TaskId},
};

/// A worker's hold on a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hold {
    pub worker: String,
    pub deadline: Nanos,
    /// Beyond this no heartbeat extends it.
    pub ttl: Nanos,
    pub is_started: bool,
    /// Of the bytes that were handed out, in hex.
    #[serde(default)]
    pub sha256: Option<String>,
}

/// A task that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Live {
    /// The order of coming.
    pub seq: u64,
    pub priority: Priority,
    pub needs: Vec<Capability>,
    /// Of the bytes that are to be scanned, where the asker knows, in hex.
    pub sha256: Option<String>,
    /// Since when it waits.
    pub since: Nanos,
    pub not_before: Nanos,
    pub tries: Tries,
    pub workers: Vec<String>,
    pub last_error: String,
    pub hold: Option<Hold>,
}

impl Live {
    /// One that has nothing behind it.
    pub fn new(seq: u64, priority: Priority, needs: Vec<Capability>, sha256: Option<String>, now: Nanos) -> Self {
        Self {
            seq,
            priority,
            needs,
            sha256,
            since: now,
            not_before: 0,
            tries: Tries::default(),
            workers: Vec::new(),
            last_error: String::new(),
            hold: None,
        }
    }
}

/// What an outcome says that matters here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said<'a> {
    pub sha256: &'a str,
    /// Bytes were looked at, so `sha256` must be theirs.
    pub is_of_bytes: bool,
    pub passing: Option<Loss>,
}

/// What to do with an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Apply,
    NoLease,
    WrongBytes(Next),
    Lost(Loss, Next),
}

/// The live tasks of a node.
#[derive(Debug)]
pub(super) struct Core {
    limits: Limits,
    live: BTreeMap<TaskId, Live>,
    /// May be leased, by (10 − priority, seq) and by seq.
    ready: BTreeMap<(u8, u64), TaskId>,
    by_age: BTreeMap<u64, TaskId>,
    /// Wait for their time.
    later: BTreeSet<(Nanos, TaskId)>,
    deadlines: BTreeSet<(Nanos, TaskId)>,
    in_flight: BTreeMap<String, u64>,
    /// (since, seq) of all that wait.
    waiting: BTreeSet<(Nanos, u64)>,
    takes: u64,
    seq: u64,
    /// Counts tasks that became ready.
    stamp: u64,
}

impl Core {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            live: BTreeMap::new(),
            ready: BTreeMap::new(),
            by_age: BTreeMap::new(),
            later: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            waiting: BTreeSet::new(),
            takes: 0,
            seq: 0,
            stamp: 0,
        }
    }

    /// A task as it was before a restart.
    pub fn restore(&mut self, id: TaskId, live: Live) {
        self.seq = self.seq.max(live.seq + 1);
        self.put(id, live);
    }

    /// A new task. Its row is [`get`](Self::get).
    pub fn add(&mut self, id: &str, priority: Priority, needs: Vec<Capability>, sha256: Option<String>, now: Nanos) {
        let live = Live::new(self.seq, priority, needs, sha256, now);
        self.seq += 1;
        self.put(id.to_owned(), live);
    }

    pub fn is_full(&self) -> bool {
        self.queued() >= self.limits.size_max
    }
    pub fn get(&self, id: &str) -> Option<&Live> {
        self.live.get(id)
    }
    /// Takes a task out: it ended.
    pub fn end(&mut self, id: &str) -> Option<Live> {
        self.pull(id)
    }

    /// Moves what has waited long enough to the ready ones.
    pub fn wake(&mut self, now: Nanos) {
        while let Some((at, id)) = self.later.pop_first() {
            if at > now {
                self.later.insert((at, id));
                return;
            }
            if let Some(live) = self.live.get(&id) {
                let (priority, seq) = (live.priority, live.seq);
                self.ready(priority, seq, id);
            }
        }
    }

    /// Gives up to `max` ready tasks to a worker that can do `able`, started or not.
    pub fn take(&mut self, worker: &str, able: &[Capability], max: usize, span: Nanos, is_started: bool, now: Nanos) -> Vec<TaskId> {
        self.wake(now);
        let mut taken = Vec::new();
        while taken.len() < max {
            let Some(id) = self.next(able) else { break };
            self.give(&id, worker, span, is_started, now);
            taken.push(id);
        }
        taken
    }
    /// Gives this task to a worker if it is ready and asks for no more than `able`.
    pub fn take_this(&mut self, id: &str, worker: &str, able: &[Capability], span: Nanos, now: Nanos) -> bool {
        self.wake(now);
        let is_ready = self.live.get(id).is_some_and(|live| self.by_age.contains_key(&live.seq) && can(able, &live.needs));
        if is_ready {
            self.give(id, worker, span, false, now);
        }
        is_ready
    }
    /// The first ready tasks in the order in which they would go to somebody who can do everything, none taken.
    pub fn peek(&mut self, max: usize, now: Nanos) -> Vec<TaskId> {
        self.wake(now);
        let mut ready: Vec<_> = self.ready.iter().take(max).map(|(key, id)| (*key, id.clone())).collect();
        let is_oldest_next = (self.takes + 1).is_multiple_of(OLDEST_EVERY);
        if let Some((seq, id)) = self.by_age.first_key_value().filter(|_| is_oldest_next) {
            ready.retain(|((_, of), _)| of != seq);
            ready.insert(0, ((0, *seq), id.clone()));
            ready.truncate(max);
        }
        ready.into_iter().map(|(_, id)| id).collect()
    }

    /// Counts a start. `false` without a lease; once only for each lease.
    pub fn start(&mut self, worker: &str, id: &str, now: Nanos) -> bool {
        let Some(live) = self.live.get_mut(id) else { return false };
        let Some(hold) = live.hold.as_mut().filter(|hold| hold.worker == worker && hold.deadline > now) else { return false };
        if !hold.is_started {
            hold.is_started = true;
            start(live, worker);
        }
        true
    }
    /// Notes what bytes a worker was handed. `false` without a lease.
    pub fn handed_out(&mut self, worker: &str, id: &str, sha256: &str) -> bool {
        let hold = self.live.get_mut(id).and_then(|live| live.hold.as_mut()).filter(|hold| hold.worker == worker);
        hold.map(|hold| hold.sha256 = Some(sha256.to_owned())).is_some()
    }

    /// Judges an outcome. Unless it is to be applied or nobody's, the task is already where [`Next`] says, or still
    /// here to be [ended](Self::end).
    pub fn judge(&mut self, worker: &str, id: &str, said: Said<'_>, now: Nanos) -> Fate {
        let Some(hold) = self.hold(worker, id, now) else { return Fate::NoLease };
        let asked = self.live.get(id).and_then(|live| live.sha256.as_deref());
        let known = [hold.sha256.as_deref(), asked];
        let is_wrong = known.iter().flatten().any(|known| {
            let is_same = known.eq_ignore_ascii_case(said.sha256);
            !is_same && (said.is_of_bytes || !said.sha256.is_empty())
        });
        if is_wrong {
            return Fate::WrongBytes(self.lose(id, Loss::WrongBytes, "", now));
        }
        match said.passing {
            None => Fate::Apply,
            Some(loss) => Fate::Lost(loss, self.lose(id, loss, "", now)),
        }
    }
    /// Takes a task back from a worker. `None` without a lease.
    pub fn give_back(&mut self, worker: &str, id: &str, loss: Loss, why: &str, now: Nanos) -> Option<Next> {
        self.hold(worker, id, now)?;
        Some(self.lose(id, loss, why, now))
    }
    /// Takes all back from a worker.
    pub fn lost(&mut self, worker: &str, now: Nanos) -> Vec<(TaskId, Next)> {
        let its = self.live.iter().filter(|(_, live)| live.hold.as_ref().is_some_and(|hold| hold.worker == worker));
        let ids: Vec<_> = its.map(|(id, _)| id.clone()).collect();
        ids.into_iter().map(|id| (id.clone(), self.lose(&id, Loss::Worker, "", now))).collect()
    }
    /// Takes back what nobody finished in time.
    pub fn expire(&mut self, now: Nanos) -> Vec<(TaskId, Next)> {
        let mut over = Vec::new();
        while let Some((deadline, id)) = self.deadlines.first().cloned() {
            if deadline > now {
                break;
            }
            let next = self.lose(&id, Loss::Lease, "", now);
            over.push((id, next));
        }
        over
    }
    /// Extends these leases of a worker; gives back those that changed.
    pub fn extend(&mut self, worker: &str, ids: &[TaskId], now: Nanos) -> Vec<TaskId> {
        let mut extended = Vec::new();
        for id in ids {
            let Some(hold) = self.live.get_mut(id).and_then(|live| live.hold.as_mut()) else { continue };
            let deadline = now.saturating_add(self.limits.lease).min(hold.ttl);
            if hold.worker != worker || hold.deadline <= now || deadline <= hold.deadline {
                continue;
            }
            self.deadlines.remove(&(hold.deadline, id.clone()));
            hold.deadline = deadline;
            self.deadlines.insert((deadline, id.clone()));
            extended.push(id.clone());
        }
        extended
    }

    /// When something happens by itself: a wait or a lease is over.
    pub fn next_at(&self) -> Option<Nanos> {
        let later = self.later.first().map(|(at, _)| *at);
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        later.into_iter().chain(deadline).min()
    }
    pub fn queued(&self) -> u64 {
        self.waiting.len() as u64
    }
    pub fn leased(&self) -> u64 {
        self.deadlines.len() as u64
    }
    /// May be leased at once.
    pub fn ready_count(&self) -> u64 {
        self.ready.len() as u64
    }
    /// Grows with each task that becomes ready.
    pub fn stamp(&self) -> u64 {
        self.stamp
    }
    /// Counts on where the one before this one stood, when it is built anew.
    pub fn count_from(&mut self, before: &Self) {
        self.stamp += before.stamp;
        self.takes = before.takes;
    }
    pub fn oldest_waiting(&self) -> Option<Nanos> {
        self.waiting.first().map(|(since, _)| *since)
    }
    pub fn in_flight(&self) -> &BTreeMap<String, u64> {
        &self.in_flight
    }

    fn hold(&self, worker: &str, id: &str, now: Nanos) -> Option<&Hold> {
        self.live.get(id)?.hold.as_ref().filter(|hold| hold.worker == worker && hold.deadline > now)
    }

    /// Ends a lease. What is dead or out of time stays, without a lease, until it is [ended](Self::end).
    fn lose(&mut self, id: &str, loss: Loss, why: &str, now: Nanos) -> Next {
        let Some(mut live) = self.pull(id) else { return Next::Again { at: now } };
        let is_started = live.hold.take().is_some_and(|hold| hold.is_started);
        let next = decide::lost(&mut live.tries, loss, is_started, &self.limits, now);
        let why = if why.is_empty() { loss.as_str() } else { why };
        live.last_error = why.to_owned();
        live.since = now;
        live.not_before = match next {
            Next::Again { at } if at <= now => 0,
            Next::Again { at } => at,
            Next::Dead(_) | Next::TimedOut => Nanos::MAX,
        };
        self.put(id.to_owned(), live);
        next
    }

    /// The next task for somebody who can do `able`; the oldest at every eighth take.
    fn next(&self, able: &[Capability]) -> Option<TaskId> {
        let is_fit = |id: &&TaskId| self.live.get(*id).is_some_and(|live| can(able, &live.needs));
        let found = if (self.takes + 1).is_multiple_of(OLDEST_EVERY) {
            self.by_age.values().find(is_fit)
        } else {
            self.ready.values().find(is_fit)
        };
        found.cloned()
    }

    fn give(&mut self, id: &str, worker: &str, span: Nanos, is_started: bool, now: Nanos) {
        let Some(mut live) = self.pull(id) else { return };
        self.takes += 1;
        if is_started {
            start(&mut live, worker);
        }
        let deadline = now.saturating_add(span);
        let ttl = now.saturating_add(self.limits.task_ttl).max(deadline);
        live.hold = Some(Hold { worker: worker.to_owned(), deadline, ttl, is_started, sha256: None });
        self.put(id.to_owned(), live);
    }

    fn ready(&mut self, priority: Priority, seq: u64, id: TaskId) {
        self.ready.insert((10 - priority.get(), seq), id.clone());
        self.by_age.insert(seq, id);
        self.stamp += 1;
    }

    /// Into every order it belongs to.
    fn put(&mut self, id: TaskId, live: Live) {
        match &live.hold {
            Some(hold) => {
                self.deadlines.insert((hold.deadline, id.clone()));
                *self.in_flight.entry(hold.worker.clone()).or_default() += 1;
            }
            None => {
                self.waiting.insert((live.since, live.seq));
                if live.not_before == 0 {
                    self.ready(live.priority, live.seq, id.clone());
                } else {
                    self.later.insert((live.not_before, id.clone()));
                }
            }
        }
        self.live.insert(id, live);
    }
    /// Out of every order.
    fn pull(&mut self, id: &str) -> Option<Live> {
        let (id, live) = self.live.remove_entry(id)?;
        self.ready.remove(&(10 - live.priority.get(), live.seq));
        self.by_age.remove(&live.seq);
        self.waiting.remove(&(live.since, live.seq));
        if let Some(hold) = &live.hold {
            self.deadlines.remove(&(hold.deadline, id.clone()));
            if let Some(count) = self.in_flight.get_mut(&hold.worker) {
                *count -= 1;
            }
            if self.in_flight.get(&hold.worker) == Some(&0) {
                self.in_flight.remove(&hold.worker);
            }
        }
        self.later.remove(&(live.not_before, id));
        Some(live)
    }
}

fn can(able: &[Capability], needs: &[Capability]) -> bool {
    needs.iter().all(|need| able.contains(need))
}

fn start(live: &mut Live, worker: &str) {
    live.tries.attempt = live.tries.attempt.saturating_add(1);
    live.tries.refusals = 0;
    if !live.workers.iter().any(|known| known == worker) {
        live.workers.push(worker.to_owned());
    }
}
