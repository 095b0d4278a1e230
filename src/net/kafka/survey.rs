//! Asks a cluster what `shipper check` wants to know, and changes nothing there: no message, no topic.
//!
//! All topics are asked for, not ours by name: brokers make a topic that a producer asks for by name.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context as Turn, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use rdkafka::{
    ClientContext,
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    client::DefaultClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::DeliveryResult,
    metadata::Metadata,
    producer::{BaseProducer, Producer as _, ProducerContext},
};

use super::{
    fates::{self, Trouble},
    settings::Connection,
};
use crate::clock::{Clock, SystemClock, nanos};

/// One question for metadata.
const ASK: Duration = Duration::from_secs(2);
/// Events that are served between two questions.
const EVENTS: u32 = 64;
/// For the topic's own settings, which not every user may see.
const ASK_SETTINGS: Duration = Duration::from_secs(3);
/// How long the answer to "may we produce at all", asked by the client itself, is waited for.
const ASK_PRODUCER: Duration = Duration::from_millis(1500);

/// What a cluster tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The broker that answered, `host:port/id`.
    pub broker: String,
    pub brokers: usize,
    /// `None`: it does not exist, or this user may not see it.
    pub topic: Option<Topic>,
    /// Why this user may produce nothing at all, with the remedy.
    pub refused: Option<String>,
}

/// What a cluster tells of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topic {
    pub partitions: usize,
    /// Partitions without a leader.
    pub leaderless: usize,
    /// The fewest replicas of a partition, and the fewest that are in sync.
    pub replicas: usize,
    pub in_sync: usize,
    /// Its settings, as far as this user may see them.
    pub message_bytes_max: Option<u64>,
    pub in_sync_min: Option<usize>,
}

#[derive(Default)]
struct Context {
    troubles: Mutex<Vec<(Code, Trouble)>>,
}

impl Context {
    fn note(&self, code: Code, trouble: Trouble) {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).push((code, trouble));
    }
    /// The worst so far: what a person must mend comes before what may pass.
    fn worst(&self) -> Option<Trouble> {
        let all = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let wrong = all.iter().find(|(_, trouble)| matches!(trouble, Trouble::Wrong(_)));
        wrong.or(all.first()).map(|(_, trouble)| trouble.clone())
    }
    fn fatal(&self) -> Option<String> {
        let all = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find_map(|(_, trouble)| match trouble {
            Trouble::Fatal(text) => Some(text.clone()),
            _ => None,
        })
    }
}

impl ClientContext for Context {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, line: &str) {
        if let Some(trouble) = fates::trouble_in_log(facility, line) {
            self.note(Code::Fail, trouble);
        }
    }
    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
        self.note(code, fates::trouble(code, reason));
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();
    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// How many brokers there are, and every topic that this user may see with its partitions. Joins no group.
///
/// # Errors
/// What is in the way of an answer, and the remedy.
pub fn topics(connection: &Connection, patience: Duration) -> Result<(usize, Vec<(String, usize)>), String> {
    // A client without a group is one as good as another for this.
    let client: BaseProducer<Context> = connection
        .client(&[])?
        .create_with_context(Context::default())
        .map_err(|e| format!("cannot make a Kafka client: {e}; correct the setting it names"))?;
    let metadata = metadata(&client, patience)?;
    let topics = metadata.topics().iter().filter(|topic| topic.error().is_none());
    Ok((metadata.brokers().len(), topics.map(|topic| (topic.name().to_owned(), topic.partitions().len())).collect()))
}

/// Asks for metadata until it is answered, something is wrong, or patience ends.
fn metadata(client: &BaseProducer<Context>, patience: Duration) -> Result<Metadata, String> {
    let clock = SystemClock::new();
    loop {
        let answer = client.client().fetch_metadata(None, ASK);
        // One call serves one event: errors stand in line behind log lines.
        (0..EVENTS).for_each(|_| client.poll(Duration::ZERO));
        let worst = client.context().worst();
        match (answer, worst) {
            (Ok(metadata), _) => return Ok(metadata),
            (Err(_), Some(Trouble::Wrong(text))) => return Err(text),
            (Err(error), other) if clock.mono() >= nanos(patience) => {
                return Err(match other {
                    Some(Trouble::Away(text) | Trouble::Fatal(text)) => text,
                    _ => format!("no broker answers; see brokers, the network and the brokers themselves ({error})"),
                });
            }
            _ => {}
        }
    }
}

/// Asks; blocks for at most `patience` and a few seconds.
///
/// - `ours`: librdkafka's properties that the sink sets.
///
/// # Errors
/// What is in the way of an answer, and the remedy.
pub fn survey(connection: &Connection, ours: &[(&str, String)], topic: &str, patience: Duration) -> Result<Survey, String> {
    let producer: BaseProducer<Context> = connection
        .client(ours)?
        .create_with_context(Context::default())
        .map_err(|e| format!("cannot make a Kafka client: {e}; correct the setting it names"))?;
    let metadata = metadata(&producer, patience)?;
    let clock = SystemClock::new();
    let found = metadata.topics().iter().find(|t| t.name() == topic && t.error().is_none());
    let mut told = found.map(|found| Topic {
        partitions: found.partitions().len(),
        leaderless: found.partitions().iter().filter(|p| p.leader() < 0).count(),
        replicas: found.partitions().iter().map(|p| p.replicas().len()).min().unwrap_or(0),
        in_sync: found.partitions().iter().map(|p| p.isr().len()).min().unwrap_or(0),
        ..Topic::default()
    });
    if let Some(told) = &mut told {
        settings(connection, topic, told);
    }
    // An idempotent producer asks for its number by itself, which wants Write on some topic.
    let until = clock.mono() + nanos(ASK_PRODUCER);
    while producer.context().fatal().is_none() && clock.mono() < until {
        producer.poll(Duration::from_millis(100));
    }
    let refused =
        producer.context().fatal().map(|text| format!("this user may write to no topic; grant Write and Describe on the topic ({text})"));
    Ok(Survey { broker: metadata.orig_broker_name().to_owned(), brokers: metadata.brokers().len(), topic: told, refused })
}

/// Adds the topic's own settings; a user that may not see them is a usual thing.
fn settings(connection: &Connection, topic: &str, told: &mut Topic) {
    let Ok(client) = connection.client(&[]).map(|config| config.create::<AdminClient<DefaultClientContext>>()) else { return };
    let Ok(client) = client else { return };
    let options = AdminOptions::new().request_timeout(Some(ASK_SETTINGS));
    let Ok(mut all) = wait(client.describe_configs([&ResourceSpecifier::Topic(topic)], &options)) else { return };
    let Some(Ok(found)) = all.pop() else { return };
    let value = |name: &str| found.get(name).and_then(|entry| entry.value.clone());
    told.message_bytes_max = value("max.message.bytes").and_then(|text| text.parse().ok());
    told.in_sync_min = value("min.insync.replicas").and_then(|text| text.parse().ok());
}

struct Waking(Thread);

impl Wake for Waking {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks this thread until the future is there; librdkafka's thread completes it, at the latest
/// after its own timeout.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Waking(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Turn::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
