//! Each operation, on the live tasks and on the rows, in one transaction.

use std::sync::Arc;

use redb::{ReadableTable, ReadableTableMetadata};
use serde_json::{Map, Value};

use super::{
    AlertId, AlertsOf, Away, Cancelled, Counts, Dead, DeadReason, Figures, Finished, GivenBack, Lease, Limits, Loss, Nanos, Retried, State,
    Submission, Submitted, Take, alerts,
    core::{Core, Fate, Said},
    decide::Next,
    ids::Ids,
    rows::{
        AuditRow, Cached, End, Fault, FileRow, Tables, TaskRow, Thing, decode, encode, file_key, get, get_file, state_key, told_name,
        verdict_key, verdict_size,
    },
    said,
    sizes::Sizes,
};
use crate::{
    limits::MONITOR_RECORDS,
    scan::{
        outcome::{Outcome, Reason, Verdict},
        task::{Capability, Identity, Task, TaskId, Zeek},
    },
};

/// A name that is seen again is noted so rarely.
const SEEN_EVERY: Nanos = 86_400 * 1_000_000_000;

/// What the thread keeps between operations; built from the rows.
#[derive(Debug)]
pub(super) struct Memory {
    pub core: Core,
    pub counts: Counts,
    pub dead: u64,
    pub cancelled: u64,
    pub done: u64,
    pub alerts: u64,
    /// Of verdicts. Whoever asks for verdicts looks at it too.
    pub sizes: Arc<Sizes>,
    /// Sizes of verdicts that go with the next commit.
    pub sizes_gone: Vec<u64>,
}

impl Memory {
    /// As the rows say.
    pub fn load(tables: &Tables<'_>, limits: &Limits, counts: Counts) -> Result<Self, Fault> {
        let mut core = Core::new(limits.clone());
        let open = tables.read();
        for row in open.live.iter()? {
            let (id, row) = row?;
            let id = id.value();
            let live = decode(row.value(), || format!("live/{id}"))?;
            // A task without its row could be given to nobody.
            if get::<TaskRow>(&open.tasks, "tasks", id)?.is_none() {
                return Err(Fault::Corrupt { row: format!("tasks/{id}"), why: "it is in the queue and not there".into() });
            }
            core.restore(id.to_owned(), live);
        }
        let count =
            |state| -> Result<u64, Fault> { Ok(open.states.range((state_key(state), "")..(state_key(state) + 1, ""))?.count() as u64) };
        let (dead, cancelled) = (count(State::Dead)?, count(State::Cancelled)?);
        let done = open.states.len()?.saturating_sub(dead + cancelled);
        let alerts = open.alerts.len()?;
        Ok(Self { core, counts, dead, cancelled, done, alerts, sizes: Arc::default(), sizes_gone: Vec::new() })
    }

    /// Counts the verdicts that are kept, once for as long as the store is open.
    pub fn count_sizes(&self, tables: &Tables<'_>) -> Result<(), Fault> {
        for row in tables.read().verdict_ages.iter()? {
            self.sizes.add(verdict_size(row?.0.value().1));
        }
        Ok(())
    }

    /// After a commit.
    pub fn committed(&mut self) {
        for size in self.sizes_gone.drain(..) {
            self.sizes.remove(size);
        }
    }

    pub fn figures(&self, limits: &Limits) -> Figures {
        Figures {
            queued: self.core.queued(),
            leased: self.core.leased(),
            done: self.done,
            dead: self.dead,
            cancelled: self.cancelled,
            size_max: limits.size_max,
            alerts: self.alerts,
            oldest_waiting: self.core.oldest_waiting(),
            in_flight: self.core.in_flight().clone(),
            since_start: self.counts.clone(),
            trouble: None,
        }
    }

    fn sum(&mut self, state: State) -> Option<&mut u64> {
        match state {
            State::Done => Some(&mut self.done),
            State::Dead => Some(&mut self.dead),
            State::Cancelled => Some(&mut self.cancelled),
            State::Queued | State::Leased => None,
        }
    }
    pub fn add(&mut self, state: State) {
        if let Some(sum) = self.sum(state) {
            *sum += 1;
        }
    }
    pub fn take(&mut self, state: State) {
        if let Some(sum) = self.sum(state) {
            *sum = sum.saturating_sub(1);
        }
    }
}

/// Memory and rows, during one commit.
pub(super) struct Store<'a, 't> {
    pub memory: &'a mut Memory,
    pub tables: Tables<'t>,
    pub ids: &'a mut Ids,
    pub limits: &'a Limits,
    pub alerts_of: &'a AlertsOf,
    /// Wall time.
    pub now: Nanos,
}

type Done<T> = Result<T, Fault>;

impl Store<'_, '_> {
    /// Gives names to tasks that have none. Run again after a commit that failed and yet happened, it finds them by these.
    ///
    /// - `is_again`: what has its answer is scanned again.
    pub fn submit(&mut self, submissions: &mut [Submission], is_again: bool) -> Done<Vec<Submitted>> {
        submissions.iter_mut().map(|submission| self.submit_one(submission, is_again)).collect()
    }

    fn submit_one(&mut self, submission: &mut Submission, is_again: bool) -> Done<Submitted> {
        let Submission { task, identity } = submission;
        if !task.task_id.is_empty()
            && let Some(row) = self.task_row(&task.task_id)?
        {
            let id = task.task_id.clone();
            return Ok(match row.end {
                None => Submitted::UnderWay(id),
                Some(end) => {
                    Submitted::Known { id, verdict: end.outcome.filter(|_| end.state == State::Done).map(|outcome| outcome.verdict) }
                }
            });
        }
        let key = file_key(&task.root, &task.path);
        let before = match identity {
            Some(_) => get_file(&self.tables.read().files, &key)?,
            None => None,
        };
        if let Some(mut file) = before
            && Some(file.identity) == *identity
        {
            if self.memory.core.get(&file.task_id).is_some() {
                return Ok(Submitted::UnderWay(file.task_id));
            }
            // Somebody has just seen what was not there before.
            let was_absent = file.verdict == Some(Verdict::Error) && file.reasons.contains(&Reason::NotFound);
            if !is_again && !was_absent {
                let known = Submitted::Known { id: file.task_id.clone(), verdict: file.verdict };
                if self.now.saturating_sub(file.seen) > SEEN_EVERY {
                    let seen = std::mem::replace(&mut file.seen, self.now);
                    let open = self.tables.write();
                    open.files_seen.remove((seen, key.as_slice()))?;
                    open.files_seen.insert((self.now, key.as_slice()), ())?;
                    open.files.insert(key.as_slice(), encode(&file).as_slice())?;
                }
                return Ok(known);
            }
        }
        if self.memory.core.is_full() {
            return Ok(Submitted::Full);
        }
        if task.task_id.is_empty() {
            task.task_id = self.ids.next(self.now);
        }
        let task = Task { attempt: 0, ..task.clone() };
        let id = task.task_id.clone();
        if let Some(identity) = *identity {
            self.put_file(&key, FileRow::new(identity, id.clone(), self.now))?;
        }
        self.memory.core.add(&id, task.priority, task.required_capabilities.clone(), task.sha256.clone(), self.now);
        self.memory.counts.submitted += 1;
        self.put_live(&id)?;
        self.put_task(&TaskRow { task, identity: *identity, end: None })?;
        Ok(Submitted::Queued(id))
    }

    pub fn lease(&mut self, worker: &str, able: &[Capability], max: usize, take: &Take) -> Done<Vec<Lease>> {
        let (now, lease, ttl) = (self.now, self.limits.lease, self.limits.task_ttl);
        let core = &mut self.memory.core;
        let ids = match take {
            Take::Next => core.take(worker, able, max, lease, false, now),
            Take::Started => core.take(worker, able, max, lease, true, now),
            Take::Local => core.take(worker, able, max, ttl, true, now),
            Take::Broker => core.take(worker, able, max, ttl, false, now),
            Take::This(id) if max > 0 && core.take_this(id, worker, able, lease, now) => vec![id.clone()],
            Take::ThisForBroker(id) if max > 0 && core.take_this(id, worker, able, ttl, now) => vec![id.clone()],
            Take::This(_) | Take::ThisForBroker(_) => Vec::new(),
        };
        let mut leases = Vec::with_capacity(ids.len());
        for id in ids {
            self.put_live(&id)?;
            let row = self.task_row(&id)?.ok_or_else(|| missing(&id))?;
            let Some(live) = self.memory.core.get(&id) else { continue };
            let mut task = row.task;
            task.attempt = live.tries.attempt;
            let deadline = live.hold.as_ref().map_or(now, |hold| hold.deadline);
            leases.push(Lease { task, identity: row.identity, deadline, alone: live.tries.timeouts > 0 });
        }
        Ok(leases)
    }

    pub fn peek(&mut self, max: usize) -> Done<Vec<Task>> {
        let ids = self.memory.core.peek(max, self.now);
        ids.iter().map(|id| Ok(self.task_row(id)?.ok_or_else(|| missing(id))?.task)).collect()
    }

    pub fn started(&mut self, worker: &str, id: &str) -> Done<bool> {
        let is_started = self.memory.core.start(worker, id, self.now);
        if is_started {
            self.put_live(id)?;
        }
        Ok(is_started)
    }

    pub fn handed_out(&mut self, worker: &str, id: &str, sha256: &str) -> Done<bool> {
        let is_its = self.memory.core.handed_out(worker, id, sha256);
        if is_its {
            self.put_live(id)?;
        }
        Ok(is_its)
    }

    pub fn finish(&mut self, worker: &str, outcome: &Outcome) -> Done<Finished> {
        let id = outcome.task_id.as_str();
        if self.memory.core.get(id).is_none() {
            let is_done = self.task_row(id)?.and_then(|row| row.end).is_some_and(|end| end.state == State::Done);
            self.memory.counts.duplicates += u64::from(is_done);
            return Ok(if is_done { Finished::Duplicate } else { Finished::NoLease });
        }
        let heard = Said {
            sha256: &outcome.sha256,
            is_of_bytes: matches!(outcome.verdict, Verdict::Clean | Verdict::Matched),
            passing: said::passing(outcome.verdict, &outcome.reasons),
        };
        match self.memory.core.judge(worker, id, heard, self.now) {
            Fate::NoLease => Ok(Finished::NoLease),
            Fate::WrongBytes(next) => {
                self.memory.counts.wrong_bytes += 1;
                self.go_on(id, Loss::WrongBytes, next, None)?;
                Ok(Finished::WrongBytes)
            }
            Fate::Lost(loss, next) => match self.go_on(id, loss, next, Some(outcome))? {
                GivenBack::Requeued { at } => Ok(Finished::Requeued { at }),
                GivenBack::Dead(reason) => Ok(Finished::Dead(reason)),
                GivenBack::TimedOut => Ok(Finished::Applied { alerts: Vec::new() }),
                GivenBack::NoLease => Ok(Finished::NoLease),
            },
            Fate::Apply => Ok(Finished::Applied { alerts: self.apply(id, outcome.clone(), Some(worker))? }),
        }
    }

    pub fn give_back(&mut self, worker: &str, id: &str, loss: Loss, why: &str) -> Done<GivenBack> {
        match self.memory.core.give_back(worker, id, loss, why, self.now) {
            None => Ok(GivenBack::NoLease),
            Some(next) => self.go_on(id, loss, next, None),
        }
    }

    pub fn lost(&mut self, worker: &str) -> Done<usize> {
        let lost = self.memory.core.lost(worker, self.now);
        for (id, next) in &lost {
            self.go_on(id, Loss::Worker, *next, None)?;
        }
        Ok(lost.len())
    }

    /// Takes back leases that are over. To be called before anything else of a commit.
    pub fn expire(&mut self) -> Done<()> {
        for (id, next) in self.memory.core.expire(self.now) {
            self.go_on(&id, Loss::Lease, next, None)?;
        }
        self.memory.core.wake(self.now);
        Ok(())
    }

    pub fn extend(&mut self, worker: &str, ids: &[TaskId]) -> Done<usize> {
        let extended = self.memory.core.extend(worker, ids, self.now);
        for id in &extended {
            self.put_live(id)?;
        }
        Ok(extended.len())
    }

    pub fn cancel(&mut self, id: &str) -> Done<Cancelled> {
        if self.memory.core.get(id).is_some() {
            self.end(id, State::Cancelled, None, None)?;
            return Ok(Cancelled::Cancelled);
        }
        Ok(match self.task_row(id)?.and_then(|row| row.end) {
            Some(end) => Cancelled::Ended(end.state),
            None => Cancelled::Unknown,
        })
    }

    pub fn retry_dead(&mut self, id: &str) -> Done<Retried> {
        let Some(mut row) = self.task_row(id)? else { return Ok(Retried::Unknown) };
        let Some(end) = row.end.as_ref().filter(|end| end.state == State::Dead) else { return Ok(Retried::NotDead) };
        if end.dead.as_ref().is_some_and(|dead| dead.reason == DeadReason::Poison) {
            return Ok(Retried::Poison);
        }
        let at = end.at;
        row.end = None;
        row.task.attempt = 0;
        let task = &row.task;
        self.memory.core.add(id, task.priority, task.required_capabilities.clone(), task.sha256.clone(), self.now);
        self.memory.take(State::Dead);
        let key = file_key(&task.root, &task.path);
        if let Some(file) = get_file(&self.tables.read().files, &key)?.filter(|file| file.task_id == id) {
            self.put_file(&key, FileRow::new(file.identity, id.to_owned(), self.now))?;
        }
        let open = self.tables.write();
        open.states.remove((state_key(State::Dead), id))?;
        open.ended.remove((at, id))?;
        self.put_live(id)?;
        self.put_task(&row)?;
        Ok(Retried::Queued)
    }

    /// Out of the dead letter: from now on the task counts as cancelled. `false` if it is not in there.
    pub fn drop_dead(&mut self, id: &str) -> Done<bool> {
        let Some(mut row) = self.task_row(id)? else { return Ok(false) };
        let Some(end) = row.end.as_mut().filter(|end| end.state == State::Dead) else { return Ok(false) };
        end.state = State::Cancelled;
        self.memory.take(State::Dead);
        self.memory.add(State::Cancelled);
        let open = self.tables.write();
        open.states.remove((state_key(State::Dead), id))?;
        open.states.insert((state_key(State::Cancelled), id), ())?;
        self.put_task(&row)?;
        Ok(true)
    }

    /// Tells what Zeek says of a task's file, before or after its outcome. `false` without such a task.
    pub fn tell_zeek(&mut self, id: &str, zeek: &Zeek) -> Done<bool> {
        let Some(mut row) = self.task_row(id)? else { return Ok(false) };
        row.task.zeek = Some(zeek.clone());
        let mut is_partial = None;
        if let Some(outcome) = row.end.as_mut().and_then(|end| end.outcome.as_mut()) {
            said::tell_zeek(outcome, zeek);
            is_partial = Some((outcome.partial, outcome.reasons.clone()));
        }
        self.put_task(&row)?;
        let Some((partial, reasons)) = is_partial else { return Ok(true) };
        let mut members = Map::new();
        members.insert("zeek_uid".into(), zeek.uid.clone().into());
        members.insert("fuid".into(), zeek.fuid.clone().into());
        members.insert("partial".into(), partial.into());
        for alert in alerts::of_task(&self.tables.read().alert_index, id)? {
            alerts::amend(&mut self.tables, alert, &members)?;
        }
        let key = file_key(&row.task.root, &row.task.path);
        if let Some(file) = get_file(&self.tables.read().files, &key)?.filter(|file| file.task_id == id) {
            self.put_file(&key, FileRow { partial, reasons, ..file })?;
        }
        Ok(true)
    }

    pub fn amend_alert(&mut self, id: AlertId, members: &Map<String, Value>) -> Done<bool> {
        alerts::amend(&mut self.tables, id, members)
    }

    /// Forgets a name, unless its task is under way.
    pub fn forget_file(&mut self, key: &[u8]) -> Done<bool> {
        let Some(file) = get_file(&self.tables.read().files, key)? else { return Ok(false) };
        if self.memory.core.get(&file.task_id).is_some() {
            return Ok(false);
        }
        self.remove_file(key, &file)?;
        Ok(true)
    }
    pub fn remove_file(&mut self, key: &[u8], file: &FileRow) -> Done<()> {
        let open = self.tables.write();
        open.files_seen.remove((file.seen, key))?;
        if let Some(at) = file.ended_at {
            open.files_done.remove((at, key))?;
        }
        open.files.remove(key)?;
        Ok(())
    }

    pub fn audit(&mut self, entry: &Value) -> Done<u64> {
        let now = self.now;
        let open = self.tables.write();
        let last = open.audit.last()?.map_or(0, |(seq, _)| seq.value());
        let seq = last.max(open.meta.get("last_audit")?.map_or(0, |seq| seq.value())) + 1;
        open.meta.insert("last_audit", seq)?;
        open.audit.insert(seq, encode(&AuditRow { at: now, entry: entry.clone() }).as_slice())?;
        Ok(seq)
    }

    pub fn put_thing(&mut self, kind: Thing, name: &str, thing: &Value) -> Done<()> {
        self.tables.write().things.insert((kind as u8, name), encode(thing).as_slice())?;
        Ok(())
    }
    /// An alert of the monitor as it stands now, and what is told of it, with its number.
    pub fn put_monitor_alert(&mut self, id: &str, alert: &Value, number: u64, told: &Value) -> Done<()> {
        self.put_thing(Thing::MonitorAlert, id, alert)?;
        self.forget_monitor_alert()?;
        self.put_thing(Thing::MonitorTold, &told_name(number), told)?;
        let kind = Thing::MonitorTold as u8;
        let names: Result<Vec<String>, Fault> =
            self.tables.read().things.range((kind, "")..(kind + 1, ""))?.map(|row| Ok(row?.0.value().1.to_owned())).collect();
        let names = names?;
        for name in names.iter().take(names.len().saturating_sub(MONITOR_RECORDS)) {
            self.remove_thing(Thing::MonitorTold, name)?;
        }
        Ok(())
    }
    /// The oldest resolved one, if there are too many.
    fn forget_monitor_alert(&mut self) -> Done<()> {
        let kind = Thing::MonitorAlert as u8;
        let (mut count, mut oldest) = (0, None);
        for row in self.tables.read().things.range((kind, "")..(kind + 1, ""))? {
            let (key, row) = row?;
            let alert: Value = decode(row.value(), || format!("things/{}", key.value().1))?;
            if alert.get("resolved").and_then(Value::as_bool) == Some(true) {
                count += 1;
                oldest = oldest.or_else(|| Some(key.value().1.to_owned()));
            }
        }
        if let Some(name) = oldest.filter(|_| count > self.limits.monitor_alerts_max) {
            self.tables.write().things.remove((kind, name.as_str()))?;
        }
        Ok(())
    }
    pub fn remove_thing(&mut self, kind: Thing, name: &str) -> Done<bool> {
        Ok(self.tables.write().things.remove((kind as u8, name))?.is_some())
    }

    /// Puts what [`Core`] decided about a lost task into the rows.
    fn go_on(&mut self, id: &str, loss: Loss, next: Next, heard: Option<&Outcome>) -> Done<GivenBack> {
        match next {
            Next::Again { at } => {
                *self.memory.counts.requeued.entry(loss.as_str()).or_default() += 1;
                self.put_live(id)?;
                Ok(GivenBack::Requeued { at })
            }
            Next::Dead(reason) => {
                *self.memory.counts.dead.entry(reason.as_str()).or_default() += 1;
                let Some(live) = self.memory.core.get(id) else { return Ok(GivenBack::NoLease) };
                let dead =
                    Dead { reason, attempts: live.tries.attempt, last_error: live.last_error.clone(), workers: live.workers.clone() };
                self.end(id, State::Dead, heard.cloned(), Some(dead))?;
                Ok(GivenBack::Dead(reason))
            }
            Next::TimedOut => {
                let outcome = match heard {
                    Some(outcome) => outcome.clone(),
                    None => Outcome::error(&self.task_row(id)?.ok_or_else(|| missing(id))?.task, Reason::Timeout),
                };
                self.apply(id, outcome, None)?;
                Ok(GivenBack::TimedOut)
            }
        }
    }

    /// Stores an outcome, its alerts, and its verdict for others.
    fn apply(&mut self, id: &str, mut outcome: Outcome, worker: Option<&str>) -> Done<Vec<AlertId>> {
        let task = self.task_row(id)?.ok_or_else(|| missing(id))?.task;
        // What a worker says of names is not believed: the task knows them.
        outcome.root = task.root;
        outcome.path = task.path;
        if let Some(live) = self.memory.core.get(id) {
            outcome.attempt = live.tries.attempt;
        }
        if let Some(worker) = worker.filter(|_| outcome.worker_id.is_empty()) {
            outcome.worker_id = worker.to_owned();
        }
        if let Some(zeek) = &task.zeek {
            said::tell_zeek(&mut outcome, zeek);
        }
        let mut stored = Vec::new();
        for mut alert in (self.alerts_of)(&outcome, self.now) {
            alert.insert("task_id".into(), id.into());
            stored.extend(alerts::insert(&mut self.tables, alert, self.now)?);
        }
        self.memory.alerts += stored.len() as u64;
        self.memory.counts.alerts += stored.len() as u64;
        self.remember(&outcome)?;
        let counts = &mut self.memory.counts;
        *counts.finished.entry(said::verdict_text(outcome.verdict)).or_default() += 1;
        if outcome.partial {
            for reason in &outcome.reasons {
                *counts.partial.entry(said::reason_text(*reason)).or_default() += 1;
            }
        }
        counts.cache_hits += u64::from(outcome.cached);
        counts.bytes += outcome.size;
        self.end(id, State::Done, Some(outcome), None)?;
        Ok(stored)
    }

    /// Keeps a verdict for files of the same bytes: a whole one, of rules that ran.
    fn remember(&mut self, outcome: &Outcome) -> Done<()> {
        let is_whole = matches!(outcome.verdict, Verdict::Clean | Verdict::Matched) && !outcome.partial && !outcome.cached;
        if !is_whole || outcome.sha256.is_empty() || outcome.rules_version.is_empty() {
            return Ok(());
        }
        let key = verdict_key(&outcome.sha256, outcome.size, &outcome.rules_version);
        let now = self.now;
        let before = get::<Cached>(&self.tables.read().verdicts, "verdicts", &key)?.map(|cached| cached.at);
        let open = self.tables.write();
        match before {
            Some(at) => drop(open.verdict_ages.remove((at, key.as_str()))?),
            None => self.memory.sizes.add(outcome.size),
        }
        open.verdict_ages.insert((now, key.as_str()), ())?;
        open.verdicts.insert(key.as_str(), encode(&Cached { at: now, outcome: outcome.clone() }).as_slice())?;
        Ok(())
    }

    /// Ends a live task.
    fn end(&mut self, id: &str, state: State, outcome: Option<Outcome>, dead: Option<Dead>) -> Done<()> {
        let Some(live) = self.memory.core.end(id) else { return Ok(()) };
        let mut row = self.task_row(id)?.ok_or_else(|| missing(id))?;
        row.task.attempt = live.tries.attempt;
        self.memory.add(state);
        let key = file_key(&row.task.root, &row.task.path);
        if let Some(mut file) = get_file(&self.tables.read().files, &key)?.filter(|file| file.task_id == id) {
            file.ended_at = Some(self.now);
            if let Some(outcome) = outcome.as_ref().filter(|_| state == State::Done) {
                file.verdict = Some(outcome.verdict);
                file.partial = outcome.partial;
                file.reasons.clone_from(&outcome.reasons);
                file.sha256.clone_from(&outcome.sha256);
            }
            self.put_file(&key, file)?;
        }
        let now = self.now;
        let open = self.tables.write();
        open.live.remove(id)?;
        open.states.insert((state_key(state), id), ())?;
        open.ended.insert((now, id), ())?;
        row.end = Some(End { state, at: now, outcome, dead });
        self.put_task(&row)
    }

    pub fn task_row(&self, id: &str) -> Done<Option<TaskRow>> {
        get(&self.tables.read().tasks, "tasks", id)
    }
    fn put_task(&mut self, row: &TaskRow) -> Done<()> {
        self.tables.write().tasks.insert(row.task.task_id.as_str(), encode(row).as_slice())?;
        Ok(())
    }
    fn put_live(&mut self, id: &str) -> Done<()> {
        if let Some(live) = self.memory.core.get(id) {
            self.tables.write().live.insert(id, encode(live).as_slice())?;
        }
        Ok(())
    }
    /// Replaces the row of a name, and what stands in the orders.
    fn put_file(&mut self, key: &[u8], file: FileRow) -> Done<()> {
        if let Some(before) = get_file(&self.tables.read().files, key)? {
            self.remove_file(key, &before)?;
        }
        let open = self.tables.write();
        open.files_seen.insert((file.seen, key), ())?;
        // Cleanup asks for what has an outcome: neither dead nor cancelled.
        if let Some(at) = file.ended_at.filter(|_| file.verdict.is_some()) {
            open.files_done.insert((at, key), ())?;
        }
        open.files.insert(key, encode(&file).as_slice())?;
        Ok(())
    }
}

impl FileRow {
    fn new(identity: Identity, task_id: TaskId, seen: Nanos) -> Self {
        Self { identity, task_id, verdict: None, partial: false, reasons: Vec::new(), sha256: String::new(), ended_at: None, seen }
    }
}

fn missing(id: &str) -> Fault {
    Fault::Corrupt { row: format!("tasks/{id}"), why: "it is in the queue and not there".into() }
}

impl Fault {
    /// As it is told to whoever asked.
    pub fn away(&self) -> Away {
        match self {
            Self::Disk(_) => Away::Disk,
            Self::Corrupt { row, why } => Away::Corrupt { row: row.clone(), why: why.clone() },
        }
    }
}
