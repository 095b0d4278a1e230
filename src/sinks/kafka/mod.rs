//! `kafka`: each message durable on a Kafka topic before it is acked, in the stream's order.
//!
//! - [`window`]: which messages are open. Pure.
//! - [`running`]: order, fates and standing, above the port `net::kafka::port::Producer`.
//! - [`check`]: what `shipper check` tells of one.
//! - [`sim`]: a simulated cluster behind the same port.
//!
//! Invariant: nothing here names librdkafka; no message is answered twice or forgotten.

use std::{sync::Arc, time::Duration};

use super::{Finding, Kind, Sink, SinkError, Spec, Thread};
use crate::{
    clock::Nanos,
    limits,
    net::kafka::{
        producer::Client,
        settings::{self, Connection},
    },
    register::{Field, Section, Type},
};

mod check;
mod running;
pub mod sim;
#[cfg(test)]
mod tests;
mod window;

pub use running::Running;

/// Bytes of a message that the client takes, unless the options say otherwise.
const MESSAGE_BYTES_MAX: u64 = 1_000_000;

/// The kind.
pub struct Kafka;

static FIELDS: &[Field] = &[
    settings::BROKERS,
    Field::required("topic", Type::Text, "Topic that every message goes to."),
    settings::TLS_ENABLED,
    settings::TLS_CA,
    settings::TLS_CERT,
    settings::TLS_KEY,
    settings::TLS_KEY_PASSWORD_FILE,
    settings::SASL_MECHANISM,
    settings::SASL_USERNAME,
    settings::SASL_PASSWORD_FILE,
    settings::SASL_PASSWORD_ENV,
    settings::SASL_PASSWORD_CREDENTIAL,
    Field::new(
        "compression",
        Type::Choice(&["lz4", "zstd", "gzip", "snappy", "none"]),
        "lz4",
        "Codec of the batches on the wire and on the broker's disk.",
    ),
    Field::new(
        "linger",
        Type::Span,
        "20ms",
        "How long a batch waits for more messages; up to 900s. Longer batches cost less, shorter ones are sooner. Behind a file that is followed, up to 20ms of it pass between two looks at the file.",
    ),
    Field::new("batch_bytes", Type::Bytes, "1000000", "Bytes of one batch before compression, 1 to 2147483647."),
    Field::new(
        "request_timeout",
        Type::Span,
        "10s",
        "After this a broker that does not answer is left and asked again; 1s to 300s. A paused leader costs this long.",
    ),
    Field::new("queue_bytes", Type::Bytes, "16 MiB", "Bytes of messages in the client, sent or not; then the reader waits. From 1 MiB."),
    settings::CLIENT_ID,
    settings::OPTIONS,
];

impl Kind for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }
    fn about(&self) -> &'static str {
        "a topic of a Kafka cluster; acked when durable on all in-sync replicas"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn required(&self) -> bool {
        true
    }
    fn thread(&self) -> Thread {
        Thread::Shard
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        Box::new(Settings::parse(section))
    }
}

/// Settings of one `kafka` sink.
#[derive(Clone, Debug)]
pub struct Settings {
    pub connection: Connection,
    pub topic: String,
    pub compression: &'static str,
    pub linger: Duration,
    pub batch_bytes: u64,
    pub request_timeout: Duration,
    pub queue_bytes: u64,
    /// Between two tries while it holds.
    pub hold_retry: Duration,
    /// Before a message that failed for a passing reason is sent again.
    pub retry: Duration,
}

impl Settings {
    /// The defaults, for a topic of a cluster.
    pub fn new(connection: Connection, topic: &str) -> Self {
        Self {
            connection,
            topic: topic.to_owned(),
            compression: "lz4",
            linger: Duration::from_millis(20),
            batch_bytes: 1_000_000,
            request_timeout: Duration::from_secs(10),
            queue_bytes: limits::KAFKA_QUEUE_BYTES,
            hold_retry: Duration::from_millis(limits::HOLD_RETRY_MS),
            retry: Duration::from_secs(1),
        }
    }

    fn parse(section: &mut Section<'_>) -> Self {
        let mut settings = Self::new(Connection::parse(section), &section.text("topic"));
        settings.compression = section.choice("compression");
        settings.linger = section.span("linger");
        settings.batch_bytes = section.bytes("batch_bytes");
        settings.request_timeout = section.span("request_timeout");
        settings.queue_bytes = section.bytes("queue_bytes");
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if section.is_set("topic") && (settings.topic.is_empty() || settings.topic.len() > 249 || !settings.topic.chars().all(legal)) {
            section.wrong("topic", "is no topic's name; up to 249 letters, digits, '.', '_' and '-'");
        }
        if settings.linger > Duration::from_secs(900) {
            section.wrong("linger", "is at most 900s");
        }
        if !(1..=i32::MAX as u64).contains(&settings.batch_bytes) {
            section.wrong("batch_bytes", "is from 1 to 2147483647");
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(300)).contains(&settings.request_timeout) {
            section.wrong("request_timeout", "is from 1s to 300s");
        }
        if !(1 << 20..=1 << 40).contains(&settings.queue_bytes) {
            section.wrong("queue_bytes", "is from 1 MiB to 1 TiB");
        }
        settings
    }

    /// Bytes of a message that the client takes.
    fn message_bytes_max(&self) -> u64 {
        let option = self.connection.options.iter().rev().find(|(name, _)| name == "message.max.bytes");
        option.and_then(|(_, value)| value.parse().ok()).unwrap_or(MESSAGE_BYTES_MAX)
    }

    /// librdkafka's properties that follow from these settings.
    pub fn properties(&self) -> Vec<(&'static str, String)> {
        let timeout = self.request_timeout.as_millis().to_string();
        vec![
            ("enable.idempotence", "true".into()),
            ("acks", "all".into()),
            // Nothing is given up by time: a broker may be away for a day.
            ("message.timeout.ms", "0".into()),
            ("max.in.flight.requests.per.connection", limits::KAFKA_IN_FLIGHT_MAX.to_string()),
            // A paused leader keeps its connections: only this timeout leaves it.
            ("socket.timeout.ms", timeout.clone()),
            ("request.timeout.ms", timeout),
            ("socket.keepalive.enable", "true".into()),
            ("reconnect.backoff.max.ms", "2000".into()),
            ("topic.metadata.propagation.max.ms", "2000".into()),
            ("message.max.bytes", MESSAGE_BYTES_MAX.to_string()),
            ("queue.buffering.max.kbytes", (self.queue_bytes >> 10).to_string()),
            ("queue.buffering.max.messages", "1000000".into()),
            ("batch.size", self.batch_bytes.to_string()),
            ("linger.ms", format!("{:.3}", self.linger.as_secs_f64() * 1000.0)),
            ("compression.type", self.compression.to_owned()),
            // As the Java client: a key lands where other producers of the topic put it.
            ("partitioner", "murmur2_random".into()),
        ]
    }
}

impl Spec for Settings {
    fn build(&self, name: &str) -> Result<Box<dyn Sink>, SinkError> {
        let client = Client::new(self.connection.clone(), &self.topic, self.properties());
        Ok(Box::new(Running::with_port(name, self, Box::new(client))))
    }
    fn linger(&self) -> Option<Duration> {
        Some(self.linger)
    }
    fn relieved(&self, of: Duration) -> Option<Arc<dyn Spec>> {
        Some(Arc::new(Self { linger: self.linger.saturating_sub(of), ..self.clone() }))
    }
    fn check_files(&self, _: &str, now: Nanos) -> Vec<Finding> {
        check::files(self, now)
    }
    fn check(&self, _: &str) -> Vec<Finding> {
        check::cluster(self)
    }
}
