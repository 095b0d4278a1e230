//! A consumer of a group: librdkafka's `BaseConsumer`, polled by the shard when its queue wakes the shard.
//!
//! Partitions come and go as the group's members do, one by one (cooperative). librdkafka tells what it wants
//! ([`News::Given`], [`News::Wanted`]) and waits for our answer, so a partition that is to go can first be worked
//! off. Nothing here blocks the shard: what asks a broker and waits does so on a short-lived thread.
//!
//! Invariant: nothing is committed but by [`Consumer::commit`].

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use rdkafka::{
    ClientContext, Message as _, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code},
    types::RDKafkaRespErr,
};

pub use super::lag::End;
use super::{
    fates::{self, Trouble},
    lag,
    settings::Connection,
};
use crate::{
    clock::{Clock, Nanos, SystemClock},
    io::{aside, unbound},
    metrics::State,
    net::tls,
    ring::Signal,
};

/// How long one question to a broker may take.
const ASK: Duration = Duration::from_secs(5);
/// Between two questions.
const REST: Duration = Duration::from_secs(1);

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub topic: String,
    pub partition: i32,
}

/// One record, as long as it is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Record<'r> {
    pub topic: &'r str,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<&'r [u8]>,
    /// `None`: a tombstone.
    pub value: Option<&'r [u8]>,
    /// The record's own time, milliseconds since 1970; `None` where it has none.
    pub time_ms: Option<i64>,
}

/// What happened beside records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// How it stands with the brokers.
    Stands(State),
    /// The group gives us these; they wait for [`Consumer::begin`].
    Given(Vec<Place>),
    /// These are read from now on; so many records of each were deleted before anybody read them.
    Began(Vec<(Place, u64)>),
    /// The group wants these back; it waits for [`Consumer::release`].
    Wanted(Vec<Place>),
    /// These are somebody else's already: what is under way of them is not ours to commit.
    Lost(Vec<Place>),
    /// How far the partitions reach, as the brokers told with the last records.
    Ends(BTreeMap<Place, End>),
    /// These offsets of a [`Consumer::commit`] are with the broker, or are not.
    Committed(BTreeMap<Place, i64>, Result<(), String>),
    /// It can go on no longer; a new one must be made.
    Broken(String),
}

/// A member of a group.
pub struct Consumer {
    /// Taken when it closes.
    inner: Option<Arc<BaseConsumer<Context>>>,
    stamp: u64,
    /// When the first certificate in use ends.
    pub certificate_ends: Option<Nanos>,
}

struct Context {
    served: AtomicU64,
    news: Mutex<Vec<News>>,
    /// What librdkafka's log said last about a connection that failed.
    hint: Mutex<Option<Trouble>>,
    signal: Arc<Signal>,
    asking: AtomicBool,
    /// The log or an error told of a connection that failed, since the last poll.
    is_troubled: AtomicBool,
    /// How often there was a reason to ask.
    reasons: AtomicU64,
    closed: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    fn tell(&self, news: News) {
        lock(&self.news).push(news);
        self.signal.raise();
    }
    fn hint(&self, trouble: Trouble) {
        {
            let mut hint = lock(&self.hint);
            // A plain "away" after a reason is the echo of that reason.
            if !matches!((&*hint, &trouble), (Some(Trouble::Wrong(_)), Trouble::Away(_))) {
                *hint = Some(trouble);
            }
        }
        // Of some outages librdkafka tells in its log and nowhere else.
        self.is_troubled.store(true, Relaxed);
        self.signal.raise();
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        // A line comes by the queue: what stands behind it must not wait for the next.
        self.served.fetch_add(1, Relaxed);
        if let Some(trouble) = fates::trouble_in_log(facility, line) {
            self.hint(trouble);
        } else if matches!(facility, "FAIL" | "ERROR") {
            self.hint(fates::trouble(Code::BrokerTransportFailure, line));
        }
        if matches!(level, RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug | RDKafkaLogLevel::Notice) {
            tracing::debug!(facility, "librdkafka: {line}");
        } else {
            tracing::info!(facility, "librdkafka: {line}");
        }
    }
    fn stats_raw(&self, statistics: &[u8]) {
        self.served.fetch_add(1, Relaxed);
        self.tell(News::Ends(lag::ends(statistics)));
    }
    fn error(&self, error: KafkaError, reason: &str) {
        self.served.fetch_add(1, Relaxed);
        self.hint(fates::trouble(error.rdkafka_error_code().unwrap_or(Code::Fail), reason));
    }
}

impl ConsumerContext for Context {
    fn commit_callback(&self, _: KafkaResult<()>, _: &TopicPartitionList) {
        self.served.fetch_add(1, Relaxed);
    }
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        self.served.fetch_add(1, Relaxed);
        let places = places(list);
        let is_closed = self.closed.load(Relaxed);
        if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            // The group waits for an answer even where it changes nothing.
            if is_closed || places.is_empty() {
                let _ = consumer.incremental_assign(&TopicPartitionList::new());
            } else {
                self.tell(News::Given(places));
            }
            return;
        }
        // While it closes nobody listens any more, and what is lost is gone.
        let is_lost = consumer.assignment_lost();
        if is_closed || is_lost || places.is_empty() {
            let _ = consumer.incremental_unassign(list);
        }
        if !is_closed && !places.is_empty() {
            self.tell(if is_lost { News::Lost(places) } else { News::Wanted(places) });
        }
    }
}

fn places(list: &TopicPartitionList) -> Vec<Place> {
    list.elements().iter().map(|each| Place { topic: each.topic().to_owned(), partition: each.partition() }).collect()
}

/// Whoever has no place in a list of librdkafka's has a name that no topic can have.
fn listed<'p>(all: impl Iterator<Item = (&'p Place, Offset)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (place, offset) in all {
        if let Err(error) = list.add_partition_offset(&place.topic, place.partition, offset) {
            tracing::debug!(%error, topic = place.topic, "a partition cannot be listed");
        }
    }
    list
}

impl Consumer {
    /// Joins the group. Returns at once; what comes of it is told in [`News`].
    ///
    /// - `ours`: librdkafka's properties that the source sets.
    /// - `topics`: names, or patterns that begin with `^`.
    /// - `signal`: raised when there is something to poll.
    ///
    /// # Errors
    /// A secret or certificate that cannot be used, a property or pattern that librdkafka refuses; with the remedy.
    pub fn join(connection: &Connection, ours: &[(&str, String)], topics: &[String], signal: Arc<Signal>) -> Result<Self, String> {
        let stamp = connection.files_stamp();
        // Looked at by us first: of a bad certificate librdkafka tells a number at best.
        let certificates = connection.tls.as_ref().map(|files| tls::look(&files.read(), SystemClock::new().now())).unwrap_or_default();
        if let Some(refusal) = certificates.refusal() {
            return Err(refusal);
        }
        let config = connection.client(ours)?;
        let context = Context {
            served: AtomicU64::new(0),
            news: Mutex::default(),
            hint: Mutex::default(),
            signal: signal.clone(),
            asking: AtomicBool::new(false),
            is_troubled: AtomicBool::new(false),
            reasons: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        };
        let mut inner: BaseConsumer<Context> = unbound(|| config.create_with_context(context))
            .map_err(|e| format!("cannot make a Kafka client: {e}; correct the setting it names"))?;
        inner.set_nonempty_callback(move || signal.raise());
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        inner.subscribe(&names).map_err(|e| format!("cannot subscribe to {}: {e}; correct topics", topics.join(", ")))?;
        let consumer = Self { inner: Some(Arc::new(inner)), stamp, certificate_ends: certificates.ends };
        consumer.ask();
        Ok(consumer)
    }

    fn inner(&self) -> &Arc<BaseConsumer<Context>> {
        self.inner.as_ref().expect("a consumer is open until it is dropped")
    }

    /// Leaves the group, so that others need not wait until they miss us; raises `left` when that is done.
    pub fn leave(mut self, left: Arc<Signal>) {
        self.close(move || left.raise());
    }

    /// Closes it away from this thread: librdkafka waits for the broker's answer.
    fn close(&mut self, then: impl FnOnce() + Send + 'static) {
        let Some(inner) = self.inner.take() else { return };
        inner.context().closed.store(true, Relaxed);
        let closing = aside("kafka-close", move || {
            drop(inner);
            then();
        });
        if let Err(error) = closing {
            tracing::debug!(%error, "no thread to close a consumer on; closed here");
        }
    }

    /// True if the files that it was made with have changed since.
    pub fn is_stale(&self, connection: &Connection) -> bool {
        connection.files_stamp() != self.stamp
    }

    /// Hands over records until there are none, or `take` has had enough (false); true if there may be more.
    pub fn poll(&self, mut take: impl FnMut(Record<'_>) -> bool) -> bool {
        let context = self.inner().context();
        if context.is_troubled.swap(false, Relaxed) {
            self.ask();
        }
        loop {
            let before = context.served.load(Relaxed);
            match self.inner().poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    let record = Record {
                        topic: message.topic(),
                        partition: message.partition(),
                        offset: message.offset(),
                        key: message.key(),
                        value: message.payload(),
                        time_ms: message.timestamp().to_millis().filter(|ms| *ms >= 0),
                    };
                    if !take(record) {
                        return true;
                    }
                }
                Some(Err(error)) => self.failed(&error),
                // `None` says as well that something else was served.
                None if context.served.load(Relaxed) == before => return false,
                None => {}
            }
        }
    }

    fn failed(&self, error: &KafkaError) {
        let context = self.inner().context();
        let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            context.tell(News::Broken(error.to_string()));
            return;
        }
        if let Some((_, text)) = WRONG.iter().find(|(wrong, _)| *wrong == code) {
            context.tell(News::Stands(State::Holding(format!("{text} ({code:?})"))));
            self.ask();
            return;
        }
        match code {
            Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve | Code::Authentication | Code::SSL => self.ask(),
            // The policy `none` has nothing to begin at.
            Code::AutoOffsetReset | Code::NoOffset => context.tell(News::Stands(State::Holding(format!(
                "the group has no offset of a partition, or one that is not there any more, and start is none; set start, or the group's offsets ({error})"
            )))),
            Code::PollExceeded => tracing::warn!(%error, "the agent did not come to poll for too long, and the group goes on without it; it joins again"),
            _ => tracing::info!(%error, "librdkafka: the consumer says"),
        }
    }

    /// What happened since the last time.
    pub fn news(&self) -> Vec<News> {
        std::mem::take(&mut *lock(&self.inner().context().news))
    }

    /// Begins to read partitions that were given to us, each at the later of `saved` and what the group has
    /// committed, without either where the policy says. [`News::Began`] tells when they are read.
    pub fn begin(&self, saved: BTreeMap<Place, Option<i64>>) {
        let consumer = self.inner().clone();
        let begun = aside("kafka-ask", move || {
            let context = consumer.context();
            while !context.closed.load(Relaxed) {
                match begin(&consumer, &saved) {
                    Ok((starts, began)) => {
                        // They may be somebody else's by now; the group gives us others then.
                        match consumer.incremental_assign(&listed(starts.iter().map(|(place, offset)| (place, *offset)))) {
                            Ok(()) => context.tell(News::Began(began)),
                            Err(error) => tracing::info!(%error, "partitions that the group gave us are not ours any more"),
                        }
                        return;
                    }
                    Err(error) => {
                        let hint = lock(&context.hint).as_ref().map(Trouble::state);
                        let state = hint.unwrap_or_else(|| {
                            State::Retrying(format!("the group's offsets are not to be had; see the brokers ({error})"))
                        });
                        context.tell(News::Stands(state));
                        std::thread::park_timeout(REST);
                    }
                }
            }
        });
        if let Err(error) = begun {
            self.inner().context().tell(News::Broken(format!("no thread to ask the brokers from ({error})")));
        }
    }

    /// Commits these offsets, everything below which is settled; [`News::Committed`] tells when. librdkafka tells of
    /// a commit only to whoever waits for it, so a short-lived thread does.
    pub fn commit(&self, settled: BTreeMap<Place, i64>) {
        let consumer = self.inner().clone();
        let asked = aside("kafka-commit", move || {
            let list = listed(settled.iter().map(|(place, offset)| (place, Offset::Offset(*offset))));
            let done = match consumer.commit(&list, CommitMode::Sync) {
                Err(error) if error.rdkafka_error_code() != Some(Code::NoOffset) => Err(error.to_string()),
                _ => Ok(()),
            };
            consumer.context().tell(News::Committed(settled, done));
        });
        if let Err(error) = asked {
            self.inner().context().tell(News::Committed(BTreeMap::new(), Err(error.to_string())));
        }
    }

    /// Gives back what the group wants.
    pub fn release(&self, places: &[Place]) {
        if let Err(error) = self.inner().incremental_unassign(&listed(places.iter().map(|place| (place, Offset::Invalid)))) {
            tracing::debug!(%error, "partitions are not given back");
        }
    }

    /// Stops or goes on fetching records of these.
    pub fn pause(&self, places: &[Place], pauses: bool) {
        let list = listed(places.iter().map(|place| (place, Offset::Invalid)));
        let done = if pauses { self.inner().pause(&list) } else { self.inner().resume(&list) };
        if let Err(error) = done {
            tracing::debug!(%error, pauses, "partitions are not paused or resumed");
        }
    }

    /// Starts the asker unless it runs: it asks for metadata until it is answered, and tells what it learns. A reason
    /// that comes while an answer is on its way is asked about again, since the answer may be of before.
    fn ask(&self) {
        let context = self.inner().context();
        context.reasons.fetch_add(1, SeqCst);
        if context.asking.swap(true, SeqCst) {
            return;
        }
        let consumer = self.inner().clone();
        let asked = aside("kafka-ask", move || {
            let context = consumer.context();
            while !context.closed.load(Relaxed) {
                let reasons = context.reasons.load(SeqCst);
                match consumer.fetch_metadata(None, ASK) {
                    Ok(_) => {
                        *lock(&context.hint) = None;
                        context.tell(News::Stands(State::Ready));
                        context.asking.store(false, SeqCst);
                        if context.reasons.load(SeqCst) == reasons || context.asking.swap(true, SeqCst) {
                            return;
                        }
                    }
                    Err(error) => {
                        let hint = lock(&context.hint).as_ref().map(Trouble::state);
                        context.tell(News::Stands(hint.unwrap_or_else(|| {
                            State::Retrying(format!("no broker answers; see brokers, the network and the brokers themselves ({error})"))
                        })));
                        std::thread::park_timeout(REST);
                    }
                }
            }
            context.asking.store(false, SeqCst);
        });
        if let Err(error) = asked {
            tracing::debug!(%error, "no thread to ask the broker from");
            self.inner().context().asking.store(false, SeqCst);
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.close(|| ());
    }
}

/// Errors of a consumer that only a person can mend.
const WRONG: &[(Code, &str)] = &[
    (Code::TopicAuthorizationFailed, "not authorised to read a topic; grant Read and Describe on it to this user"),
    (Code::GroupAuthorizationFailed, "not authorised to use the group; grant Read on it to this user"),
    (Code::UnknownTopicOrPartition, "a topic does not exist, or this user may not see it; create it or correct topics"),
    (Code::UnknownTopic, "a topic does not exist, or this user may not see it; create it or correct topics"),
    (Code::InvalidTopic, "the broker calls a topic's name invalid; correct topics"),
    (Code::InvalidGroupId, "the broker calls the group's name invalid; correct group"),
    (Code::InvalidSessionTimeout, "the broker does not take session_timeout; see its group.min and group.max.session.timeout.ms"),
    (Code::InconsistentGroupProtocol, "other members of the group hand partitions over in another way; name a group of its own in group"),
    (Code::FencedInstanceId, "another member has the same group_instance_id; give each its own"),
    (Code::SaslAuthenticationFailed, "the broker refuses the credentials; see sasl.*"),
    (Code::UnsupportedSASLMechanism, "the broker does not know the mechanism; see sasl.mechanism"),
];

/// Where each partition begins, and how many records of it were deleted unread.
type Starts = (Vec<(Place, Offset)>, Vec<(Place, u64)>);

/// Finds out where to begin.
fn begin(consumer: &BaseConsumer<Context>, saved: &BTreeMap<Place, Option<i64>>) -> KafkaResult<Starts> {
    let asked = listed(saved.keys().map(|place| (place, Offset::Invalid)));
    let committed = consumer.committed_offsets(asked, ASK)?;
    let (mut starts, mut began) = (Vec::new(), Vec::new());
    for (place, saved) in saved {
        let committed = committed.find_partition(&place.topic, place.partition).map(|found| {
            found.error()?;
            KafkaResult::Ok(match found.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            })
        });
        let mut start = committed.transpose()?.flatten().max(*saved);
        let mut deleted = 0;
        if let Some(start) = &mut start {
            let (low, _) = consumer.fetch_watermarks(&place.topic, place.partition, ASK)?;
            deleted = u64::try_from(low - *start).unwrap_or(0);
            // What is gone is gone; the policy might skip what is not.
            *start = low.max(*start);
        }
        starts.push((place.clone(), start.map_or(Offset::Stored, Offset::Offset)));
        began.push((place.clone(), deleted));
    }
    Ok((starts, began))
}
