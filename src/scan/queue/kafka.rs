//! Kafka, by this crate's own client: [`lanes`] decides, this drives.
//!
//! | topic | holds |
//! |---|---|
//! | `<topic>.high`, `<topic>`, `<topic>.low` | tasks by priority |
//! | `<topic>.dead` | what no node understood, as it came |
//! | `<topic>.results` | outcomes, each under the name of the node that wants it |
//!
//! All five are to be there: this creates none. A task is copied into the store, then its offset is committed; nobody
//! waits for a scan to poll. Twice as many tasks as there are slots are taken; beyond, nothing more is fetched.

#![allow(clippy::disallowed_methods, reason = "a broker is of the real machine: the simulator has none, and its time is the system's")]

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use super::{
    desk::{Desk, Ended, Taken},
    envelope,
    lanes::{self, Lanes, Waiting},
};
use crate::{
    clock::Nanos,
    metrics::State,
    net::{
        backoff::{Backoff, Rolls},
        kafka::{
            consumer::{Consumer, End, News, Place},
            sender::{Sender, Sent},
            settings::Connection,
        },
    },
    ring::Signal,
    scan::{settings::Kafka, task::TaskId, tasks::Away},
};

/// Tasks that are handed to the broker before it is waited for.
const AT_ONCE: usize = 64;
/// Between two looks at tasks that were taken, or at what might be shared: at first, and at most.
const LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));
/// Between two polls with nothing to do; the group wants one every five minutes.
const REST: Duration = Duration::from_secs(60);
/// Nanoseconds that a partition that is to go waits for its last commit.
const LAST_COMMIT: Nanos = 5_000_000_000;
/// Records of outcomes that wait here.
const RESULTS: usize = 256;

/// A broker, and what passes between it and the store.
#[derive(Debug)]
pub struct Broker {
    connection: Connection,
    settings: Kafka,
    desk: Desk,
}

impl Broker {
    /// Connects to nobody yet.
    ///
    /// - `connection`: its brokers are those of `settings`, whatever it says.
    pub fn new(connection: Connection, settings: Kafka, desk: Desk) -> Self {
        Self { connection: Connection { brokers: settings.brokers.clone(), ..connection }, settings, desk }
    }

    /// The topics that are to be there.
    pub fn topics(&self) -> Vec<String> {
        let base = &self.settings.topic;
        let mut topics = lanes::topics(base).to_vec();
        topics.extend([format!("{base}.dead"), format!("{base}.results")]);
        topics
    }

    /// Works until `stop`; begins anew for ever.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let mut rolls = Rolls::new(self.desk.clock.now());
        loop {
            let why = tokio::select! {
                biased;
                () = &mut stop => None,
                why = self.session() => Some(why),
            };
            self.desk.take_back().await;
            let Some(why) = why else { return };
            self.desk.board.stands(State::Holding(why));
            tokio::select! {
                biased;
                () = &mut stop => return,
                () = tokio::time::sleep(Duration::from_nanos(backoff.wait(rolls.roll()))) => {}
            }
        }
    }

    /// One set of clients, until one of them can go on no longer, and why.
    async fn session(&self) -> String {
        match self.open() {
            Ok(mut session) => match session.work().await {
                Err(why) => why,
                Ok(never) => match never {},
            },
            Err(why) => why,
        }
    }

    fn open(&self) -> Result<Session<'_>, String> {
        let (signal, base) = (Arc::new(Signal::default()), &self.settings.topic);
        let sends = Arc::new(Signal::default());
        let sender = Sender::open(&self.connection, sends.clone())?;
        let join = |group: &str, topics: Vec<String>, lanes, only: Option<&str>| {
            let ours = [
                ("group.id", group.to_owned()),
                ("enable.auto.commit", "false".into()),
                ("enable.auto.offset.store", "false".into()),
                ("auto.offset.reset", "earliest".into()),
                ("partition.assignment.strategy", "cooperative-sticky".into()),
                ("statistics.interval.ms", "30000".into()),
                ("queued.max.messages.kbytes", "4096".into()),
            ];
            let consumer = Consumer::join(&self.connection, &ours, &topics, signal.clone())?;
            Ok::<_, String>(Member {
                consumer,
                only: only.map(str::to_owned),
                topics,
                lanes,
                places: BTreeSet::new(),
                paused: BTreeSet::new(),
                wanted: None,
                is_committing: false,
            })
        };
        let group = &self.settings.group;
        let tasks = match self.desk.slots {
            0 => None,
            slots => Some(join(group, lanes::topics(base).to_vec(), Lanes::new(slots), None)?),
        };
        let results = join(
            &format!("{group}.results.{}", self.desk.node),
            vec![format!("{base}.results")],
            Lanes::new(RESULTS),
            Some(&self.desk.node),
        )?;
        Ok(Session { broker: self, signal, sends, sender, tasks, results, owners: BTreeMap::new() })
    }
}

/// No work of a session ends well.
enum Never {}

struct Session<'b> {
    broker: &'b Broker,
    /// Of both consumers.
    signal: Arc<Signal>,
    sends: Arc<Signal>,
    sender: Sender,
    tasks: Option<Member>,
    results: Member,
    /// Who wants the outcome of a task that was taken.
    owners: BTreeMap<TaskId, String>,
}

impl Session<'_> {
    async fn work(&mut self) -> Result<Never, String> {
        let desk = &self.broker.desk;
        let ready = desk.tasks.clone();
        let mut look = LOOK.0;
        loop {
            let now = desk.clock.mono();
            let stands = |state| desk.board.stands(state);
            let mut has_more = self.results.turn(now, &mut |_| ())?;
            match &mut self.tasks {
                Some(tasks) => {
                    has_more |= tasks.turn(now, &mut |news| match news {
                        Told::Stands(state) => stands(state),
                        Told::Lag(lag) => desk.board.size.store(lag, Relaxed),
                    })?;
                }
                None => desk.board.stands(State::Ready),
            }
            // The store is away: nothing was acked, and all of it comes again.
            let did = match self.step().await {
                Ok(did) => did,
                Err(Away::Closed) => std::future::pending().await,
                Err(away) => {
                    tracing::warn!(%away, "the queue waits for the task store");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    false
                }
            };
            if did || has_more {
                look = LOOK.0;
                continue;
            }
            let is_busy = self
                .tasks
                .as_ref()
                .is_some_and(|tasks| tasks.lanes.taken().next().is_some() || tasks.lanes.waiting() > 0 || tasks.is_restless());
            let is_waiting = desk.tasks.figures().queued > 0;
            let pause = if is_busy || is_waiting || self.results.is_restless() { look } else { REST };
            tokio::select! {
                biased;
                () = self.signal.wait() => look = LOOK.0,
                () = self.sends.wait() => self.sender.serve(),
                () = ready.ready(), if !is_waiting => look = LOOK.0,
                () = tokio::time::sleep(pause) => look = (look * 2).min(LOOK.1),
            }
        }
    }

    /// Everything that can be done now; true if something was.
    async fn step(&mut self) -> Result<bool, Away> {
        let taken = self.takes().await?;
        let ended = self.ends().await?;
        let returned = self.returns().await?;
        let shared = self.shares().await?;
        Ok(taken | ended | returned | shared)
    }

    /// Copies tasks into the store.
    async fn takes(&mut self) -> Result<bool, Away> {
        let (desk, base) = (&self.broker.desk, &self.broker.settings.topic);
        let Some(tasks) = &mut self.tasks else { return Ok(false) };
        let mut did = false;
        while let Some(record) = tasks.lanes.take() {
            let lane = tasks.lane(&record.place.topic);
            let taken = match desk.take(&record.value).await {
                Ok(taken) => taken,
                Err(away) => {
                    tasks.lanes.put_back(lane, record);
                    return Err(away);
                }
            };
            match taken {
                Taken::Waits { id, owner } => {
                    tasks.lanes.copied(&record.place, record.offset, Some(id.clone()));
                    if let Some(owner) = owner {
                        self.owners.insert(id, owner);
                    }
                }
                Taken::Elsewhere { outcome, owner } => {
                    let results = format!("{base}.results");
                    let message = serde_json::to_vec(&outcome).unwrap_or_default();
                    if let Err(why) = sent(&self.sender, &self.sends, self.sender.send(&results, &owner, &message)).await {
                        desk.board
                            .stands(State::Retrying(format!("an outcome for {results} is not taken: {why}; see that the topic is there")));
                        tasks.lanes.put_back(lane, record);
                        return Ok(did);
                    }
                    tasks.lanes.copied(&record.place, record.offset, None);
                }
                Taken::Full => {
                    tasks.lanes.put_back(lane, record);
                    return Ok(did);
                }
                Taken::Bad(bad) => {
                    let dead = format!("{base}.dead");
                    let (topic, partition, offset) = (&record.place.topic, record.place.partition, record.offset);
                    tracing::warn!(
                        topic,
                        partition,
                        offset,
                        reason = bad.code(),
                        "a record of the queue is not understood ({bad}); it goes to {dead}"
                    );
                    if let Err(why) = sent(&self.sender, &self.sends, self.sender.send(&dead, bad.code(), &record.value)).await {
                        desk.board.stands(State::Retrying(format!("a record for {dead} is not taken: {why}; see that the topic is there")));
                        tasks.lanes.put_back(lane, record);
                        return Ok(did);
                    }
                    tasks.lanes.copied(&record.place, record.offset, None);
                }
            }
            did = true;
        }
        Ok(did)
    }

    /// Looks which tasks have ended, and tells their owners.
    async fn ends(&mut self) -> Result<bool, Away> {
        let desk = &self.broker.desk;
        let Some(tasks) = &mut self.tasks else { return Ok(false) };
        let results = format!("{}.results", self.broker.settings.topic);
        let taken: Vec<TaskId> = tasks.lanes.taken().cloned().collect();
        let mut did = false;
        for id in taken {
            let Ended::With(outcome) = desk.ended(&id).await? else { continue };
            if let (Some(outcome), Some(owner)) = (outcome, self.owners.get(&id))
                && let Ok(message) = serde_json::to_vec(&outcome)
                && let Err(why) = sent(&self.sender, &self.sends, self.sender.send(&results, owner, &message)).await
            {
                desk.board.stands(State::Retrying(format!("an outcome for {results} is not taken: {why}; see that the topic is there")));
                continue;
            }
            self.owners.remove(&id);
            tasks.lanes.ended(&id);
            did = true;
        }
        Ok(did)
    }

    /// Takes outcomes of what was shared.
    async fn returns(&mut self) -> Result<bool, Away> {
        let desk = &self.broker.desk;
        let mut did = false;
        while let Some(record) = self.results.lanes.take() {
            if !record.value.is_empty()
                && let Err(away) = desk.returned(&record.value).await
            {
                self.results.lanes.put_back(0, record);
                return Err(away);
            }
            self.results.lanes.copied(&record.place, record.offset, None);
            did = true;
        }
        Ok(did)
    }

    /// Hands over what is left over here.
    async fn shares(&mut self) -> Result<bool, Away> {
        let (desk, base) = (&self.broker.desk, &self.broker.settings.topic);
        let shared = desk.surplus(AT_ONCE).await?;
        let mut waiting = Vec::with_capacity(shared.len());
        for task in &shared {
            let message = envelope::write(task, &desk.node, desk.now());
            waiting.push((&task.task_id, self.sender.send(&lanes::topic(base, task.priority), &task.task_id, &message)));
        }
        for (id, each) in waiting {
            match sent(&self.sender, &self.sends, each).await {
                Ok(()) => desk.confirmed(id),
                Err(why) => {
                    desk.board.stands(State::Retrying(format!("a task is not taken: {why}")));
                    desk.refused(id).await?;
                }
            }
        }
        Ok(!shared.is_empty())
    }
}

/// Waits until a message is with the broker, or is given up.
async fn sent(sender: &Sender, signal: &Signal, mut sent: Sent) -> Result<(), String> {
    loop {
        sender.serve();
        tokio::select! {
            biased;
            told = &mut sent => return told.unwrap_or_else(|_| Err("the client is closed".into())),
            () = signal.wait() => {}
        }
    }
}

/// What a member tells.
enum Told {
    Stands(State),
    /// Records that wait there.
    Lag(u64),
}

/// A member of a group, and what of its partitions is under way.
struct Member {
    consumer: Consumer,
    /// Of records under another key only the place is of interest.
    only: Option<String>,
    /// Most urgent first.
    topics: Vec<String>,
    lanes: Lanes<Place>,
    places: BTreeSet<Place>,
    /// Topics of which nothing is fetched.
    paused: BTreeSet<usize>,
    /// Partitions that are to go, and until when their last commit is waited for.
    wanted: Option<(Vec<Place>, Nanos)>,
    is_committing: bool,
}

impl Member {
    fn lane(&self, topic: &str) -> usize {
        self.topics.iter().position(|each| each == topic).unwrap_or(self.topics.len() - 1)
    }

    /// True if it is to be looked at again soon.
    fn is_restless(&self) -> bool {
        self.wanted.is_some() || self.is_committing || !self.lanes.due().is_empty()
    }

    /// Polls, answers the group, commits; true if there may be more to poll.
    fn turn(&mut self, now: Nanos, tell: &mut dyn FnMut(Told)) -> Result<bool, String> {
        let (lanes, topics, only) = (&mut self.lanes, &self.topics, self.only.as_deref());
        let mut has_more = self.consumer.poll(|record| {
            let lane = topics.iter().position(|topic| topic == record.topic).unwrap_or(topics.len() - 1);
            // A tombstone is a record too: an empty one, which nobody understands.
            let is_ours = only.is_none_or(|name| record.key == Some(name.as_bytes()));
            let value = record.value.filter(|_| is_ours).unwrap_or_default().to_vec();
            lanes.push(
                lane,
                Waiting { place: Place { topic: record.topic.to_owned(), partition: record.partition }, offset: record.offset, value },
            );
            !lanes.is_full(lane)
        });
        for news in self.consumer.news() {
            match news {
                News::Stands(state) => tell(Told::Stands(state)),
                News::Given(places) => self.consumer.begin(places.into_iter().map(|place| (place, None)).collect()),
                News::Began(places) => {
                    self.places.extend(places.into_iter().map(|(place, _)| place));
                    self.paused.clear();
                }
                News::Wanted(places) => {
                    self.lanes.let_go(&places);
                    self.wanted = Some((places, now + LAST_COMMIT));
                }
                News::Lost(places) => self.forget(&places),
                News::Ends(ends) => tell(Told::Lag(lag(&ends) + self.lanes.waiting() as u64)),
                News::Committed(offsets, Ok(())) => {
                    self.is_committing = false;
                    self.lanes.committed(&offsets);
                }
                News::Committed(_, Err(why)) => {
                    self.is_committing = false;
                    tracing::debug!(why, "offsets of the queue are not committed; it is tried again");
                }
                News::Broken(why) => return Err(why),
            }
            has_more = true;
        }
        let due = self.lanes.due();
        if !due.is_empty() && !self.is_committing {
            self.is_committing = true;
            self.consumer.commit(due);
        } else if let Some((places, until)) = self.wanted.take_if(|(_, until)| (due.is_empty() && !self.is_committing) || *until <= now) {
            tracing::debug!(?places, until, "partitions of the queue go to another node");
            self.consumer.release(&places);
            self.forget(&places);
        }
        self.pause();
        Ok(has_more)
    }

    fn forget(&mut self, places: &[Place]) {
        self.lanes.forget(places);
        self.places.retain(|place| !places.contains(place));
    }

    /// Fetches nothing more of topics of which enough waits here.
    fn pause(&mut self) {
        for lane in 0..self.topics.len() {
            let (is_full, is_paused) = (self.lanes.is_full(lane), self.paused.contains(&lane));
            if is_full == is_paused {
                continue;
            }
            let of_lane: Vec<Place> = self.places.iter().filter(|place| self.lane(&place.topic) == lane).cloned().collect();
            if of_lane.is_empty() {
                continue;
            }
            self.consumer.pause(&of_lane, is_full);
            if is_full {
                self.paused.insert(lane);
            } else {
                self.paused.remove(&lane);
            }
        }
    }
}

/// Records between what was polled and the ends of the partitions.
fn lag(ends: &BTreeMap<Place, End>) -> u64 {
    ends.values().map(|end| u64::try_from(end.high - end.next + end.queued).unwrap_or(0)).sum()
}
