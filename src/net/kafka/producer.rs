//! The real producer: rdkafka's `BaseProducer`, polled by the shard when its queue wakes it.
//!
//! Deliveries, log lines and errors arrive as events on librdkafka's main queue. `poll(0)` serves
//! one and does not say whether it did, so the context counts what it served and draining goes on
//! until the count stands still.
//!
//! How the connection stands is told by librdkafka in hints only ("a broker disconnected", which
//! is also what an idle connection does). So a hint that something may be wrong starts the *asker*:
//! one thread that asks for the topic's metadata until it is answered, then ends. It runs at start,
//! and otherwise only while something is wrong.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, NoCustomPartitioner, Producer as _, ProducerContext, PurgeConfig},
};

use super::{
    fates::{self, Trouble},
    port::{Event, Producer, SendError, Tag},
    settings::Connection,
    wake::Woken,
};
use crate::{
    batch::Message,
    clock::{Clock, Nanos, SystemClock},
    io::{aside, unbound},
    metrics::State,
    net::tls,
    ring::Signal,
};

/// Log lines of librdkafka that are passed on within one window.
const LOG_LINES: u32 = 5;
/// Nanoseconds of that window.
const LOG_WINDOW: u64 = 10_000_000_000;
/// How long a question for metadata may take before the trouble is told.
const ASK: Duration = Duration::from_secs(2);
/// Answers of "unknown topic" before it is believed: a topic just made is not known at once.
const UNKNOWN_TOPIC_TRIES: u32 = 3;

/// A producer for one topic.
pub struct Client {
    connection: Connection,
    ours: Vec<(&'static str, String)>,
    topic: String,
    signal: Arc<Signal>,
    open: Option<Open>,
    stamp: u64,
    /// When the first certificate in use ends.
    ends: Option<Nanos>,
    tags: Vec<Tag>,
    failed: Vec<(Tag, Code)>,
    news: Vec<News>,
}

struct Open {
    producer: Arc<Woken<Context>>,
}

/// What the callbacks gather. `ProducerContext` wants `Sync`, though one thread polls.
struct Context {
    topic: String,
    served: AtomicU64,
    gathered: Mutex<Gathered>,
    signal: Arc<Signal>,
    asking: AtomicBool,
    closed: AtomicBool,
    log: Mutex<LogGate>,
}

#[derive(Default)]
struct Gathered {
    delivered: Vec<Tag>,
    failed: Vec<(Tag, Code)>,
    news: Vec<News>,
    /// The last hint, told if the asker gets no answer.
    hint: Option<Trouble>,
}

enum News {
    Stands(State),
    Broken(String),
}

struct LogGate {
    clock: SystemClock,
    began: u64,
    lines: u32,
    withheld: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.served.fetch_add(1, Relaxed);
        if let Some(trouble) = fates::trouble_in_log(facility, line) {
            lock(&self.gathered).hint.get_or_insert(trouble);
        }
        if matches!(level, RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug) {
            tracing::debug!(facility, "librdkafka: {line}");
            return;
        }
        let mut gate = lock(&self.log);
        let now = gate.clock.mono();
        if gate.began == 0 || now.saturating_sub(gate.began) > LOG_WINDOW {
            if gate.withheld > 0 {
                tracing::info!(lines = gate.withheld, "librdkafka: lines withheld");
            }
            (gate.began, gate.lines, gate.withheld) = (now.max(1), 0, 0);
        }
        if gate.lines < LOG_LINES {
            gate.lines += 1;
            tracing::info!(facility, "librdkafka: {line}");
        } else {
            gate.withheld += 1;
        }
    }

    fn stats_raw(&self, _: &[u8]) {
        self.served.fetch_add(1, Relaxed);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.served.fetch_add(1, Relaxed);
        let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
        let trouble = fates::trouble(code, reason);
        let mut gathered = lock(&self.gathered);
        match &trouble {
            Trouble::Fatal(text) => gathered.news.push(News::Broken(text.clone())),
            Trouble::Wrong(_) => {
                gathered.news.push(News::Stands(trouble.state()));
                gathered.hint = Some(trouble);
            }
            // A plain "away" after a reason is the echo of that reason.
            Trouble::Away(_) if matches!(gathered.hint, Some(Trouble::Wrong(_))) => {}
            Trouble::Away(_) if code == Code::AllBrokersDown && gathered.hint.is_some() => {}
            Trouble::Away(_) => gathered.hint = Some(trouble),
        }
    }
}

impl ProducerContext<NoCustomPartitioner> for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, tag: usize) {
        self.served.fetch_add(1, Relaxed);
        let tag = Tag(tag as u64);
        let mut gathered = lock(&self.gathered);
        match result {
            Ok(_) => gathered.delivered.push(tag),
            Err((error, _)) => gathered.failed.push((tag, error.rdkafka_error_code().unwrap_or(Code::Fail))),
        }
    }
}

impl Client {
    /// A producer of `topic`, not yet started.
    ///
    /// - `ours`: librdkafka's properties that the sink sets.
    pub fn new(connection: Connection, topic: &str, ours: Vec<(&'static str, String)>) -> Self {
        Self {
            connection,
            ours,
            topic: topic.to_owned(),
            signal: Arc::default(),
            open: None,
            stamp: 0,
            ends: None,
            tags: Vec::new(),
            failed: Vec::new(),
            news: Vec::new(),
        }
    }

    fn look(&self, now: Nanos) -> tls::Report {
        self.connection.tls.as_ref().map(|files| tls::look(&files.read(), now)).unwrap_or_default()
    }

    fn start(&self) -> Result<Open, String> {
        let config = self.connection.client(&self.ours)?;
        let context = Context {
            topic: self.topic.clone(),
            served: AtomicU64::new(0),
            gathered: Mutex::default(),
            signal: self.signal.clone(),
            asking: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            log: Mutex::new(LogGate { clock: SystemClock::new(), began: 0, lines: 0, withheld: 0 }),
        };
        // A client's threads that compress and send need a core of their own while the shard reads.
        let producer: BaseProducer<Context> = unbound(|| config.create_with_context(context))
            .map_err(|e| format!("cannot make a Kafka client: {e}; correct the setting it names"))?;
        let open = Open { producer: Arc::new(Woken::new(producer, self.signal.clone())) };
        open.ask();
        Ok(open)
    }

    /// Closes the producer away from this thread: librdkafka joins its threads, which takes time.
    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            open.producer.context().closed.store(true, Relaxed);
            let closing = aside("kafka-close", move || drop(open));
            if let Err(error) = closing {
                tracing::debug!(%error, "no thread to close a producer on; closed here");
            }
        }
    }
}

impl Open {
    /// Serves all queued events.
    fn drain(&self) {
        let served = &self.producer.context().served;
        loop {
            let before = served.load(Relaxed);
            self.producer.poll(Duration::ZERO);
            if served.load(Relaxed) == before {
                return;
            }
        }
    }

    /// Starts the asker unless it runs.
    fn ask(&self) {
        if self.producer.context().asking.swap(true, Relaxed) {
            return;
        }
        let producer = self.producer.clone();
        let asker = aside("kafka-ask", move || {
            ask(&producer);
            producer.context().asking.store(false, Relaxed);
        });
        if let Err(error) = asker {
            tracing::debug!(%error, "no thread to ask the broker from");
            self.producer.context().asking.store(false, Relaxed);
        }
    }
}

/// Asks for the topic's metadata until it is answered well, and tells what it learns.
fn ask(producer: &Woken<Context>) {
    let context = producer.context();
    let mut unknown = 0;
    while !context.closed.load(Relaxed) {
        let answer = producer.client().fetch_metadata(Some(&context.topic), ASK);
        let state = match answer {
            Ok(metadata) => {
                let topic = metadata.topics().iter().find(|t| t.name() == context.topic);
                match topic.and_then(|t| t.error()).map(Code::from) {
                    Some(code) => {
                        unknown += 1;
                        let failure = fates::of(code, &context.topic);
                        match failure.fate {
                            fates::Fate::Hold if unknown >= UNKNOWN_TOPIC_TRIES || code == Code::TopicAuthorizationFailed => {
                                Some(State::Holding(failure.text))
                            }
                            fates::Fate::Hold => None,
                            _ => Some(State::Retrying(failure.text)),
                        }
                    }
                    None => match topic.and_then(|t| t.partitions().iter().find(|p| p.leader() < 0)) {
                        Some(partition) => Some(State::Retrying(format!(
                            "topic \"{}\": partition {} has no leader; see the brokers",
                            context.topic,
                            partition.id()
                        ))),
                        None => {
                            lock(&context.gathered).hint = None;
                            context.tell(State::Ready);
                            return;
                        }
                    },
                }
            }
            Err(error) => {
                let hint = lock(&context.gathered).hint.as_ref().map(Trouble::state);
                Some(hint.unwrap_or_else(|| {
                    State::Retrying(format!("no broker answers; see brokers, the network and the brokers themselves ({error})"))
                }))
            }
        };
        if let Some(state) = state {
            context.tell(state);
        }
        if !context.closed.load(Relaxed) {
            std::thread::park_timeout(ASK / 2);
        }
    }
}

impl Context {
    fn tell(&self, state: State) {
        lock(&self.gathered).news.push(News::Stands(state));
        self.signal.raise();
    }
}

impl Producer for Client {
    fn send(&mut self, message: &Message<'_>, tag: Tag) -> Result<(), SendError> {
        let Some(open) = &self.open else { return Err(SendError::Full) };
        let mut headers = OwnedHeaders::new_with_capacity(4);
        for (key, value) in message.headers() {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let tag = usize::try_from(tag.0).expect("a pointer has 64 bits here");
        let mut record = BaseRecord::with_opaque_to(&self.topic, tag).payload(message.payload).headers(headers);
        if let Some(key) = message.key {
            record = record.key(key);
        }
        if message.time_ms != 0 {
            record = record.timestamp(message.time_ms);
        }
        match open.producer.send(record) {
            Ok(()) => Ok(()),
            Err((error, _)) => Err(match error.rdkafka_error_code().unwrap_or(Code::Fail) {
                Code::QueueFull => SendError::Full,
                Code::MessageSizeTooLarge => SendError::TooLarge,
                code => SendError::Failed(fates::of(code, &self.topic)),
            }),
        }
    }

    fn poll(&mut self, take: &mut dyn FnMut(Event<'_>)) {
        let Some(open) = &self.open else { return };
        open.drain();
        {
            let mut gathered = lock(&open.producer.context().gathered);
            std::mem::swap(&mut gathered.delivered, &mut self.tags);
            std::mem::swap(&mut gathered.failed, &mut self.failed);
            std::mem::swap(&mut gathered.news, &mut self.news);
            if gathered.hint.is_some() {
                open.ask();
            }
        }
        if !self.tags.is_empty() {
            take(Event::Delivered(&self.tags));
            self.tags.clear();
        }
        for (tag, code) in self.failed.drain(..) {
            take(Event::Failed(tag, fates::of(code, &self.topic)));
        }
        for news in self.news.drain(..) {
            take(match news {
                News::Stands(state) => Event::Client(state),
                News::Broken(text) => Event::Broken(text),
            });
        }
    }

    fn woken(&self) -> Arc<Signal> {
        self.signal.clone()
    }

    fn renew(&mut self) -> Result<(), String> {
        self.close();
        self.stamp = self.connection.files_stamp();
        // Looked at by us first: of a bad certificate librdkafka tells a number at best, and a
        // broker that closes the connection nothing at all.
        let certificates = self.look(SystemClock::new().now());
        self.ends = certificates.ends;
        if let Some(refusal) = certificates.refusal() {
            return Err(refusal);
        }
        self.open = Some(self.start()?);
        Ok(())
    }

    fn certificate_ends(&self) -> Option<Nanos> {
        self.ends
    }

    fn is_stale(&mut self) -> bool {
        self.connection.files_stamp() != self.stamp
    }

    fn in_flight(&self) -> usize {
        self.open.as_ref().map_or(0, |open| usize::try_from(open.producer.in_flight_count()).unwrap_or(0))
    }

    fn purge(&mut self) {
        if let Some(open) = &self.open {
            open.producer.purge(PurgeConfig::default().queue().inflight());
        }
        self.close();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
    }
}
