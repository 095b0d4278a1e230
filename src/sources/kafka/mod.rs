//! `kafka`: records of topics, as a member of a consumer group.
//!
//! Each partition is a stream. What the ledger calls settled is committed to the group, and nothing else;
//! where the checkpoint knows a partition, the later of the two says where reading begins. A partition that
//! the group wants elsewhere is worked off first. Reading stops while most of the credits are used, and the
//! brokers keep hearing from us all the same.

mod check;
mod core;
mod running;

use std::{rc::Rc, time::Duration};

use self::running::Running;
use super::{Admit, Finding, Kind, Source, SourceError, Spec, StreamName};
use crate::{
    io::{Io, LocalFuture},
    metrics::Standing,
    net::kafka::settings::{self, Connection},
    position::{Position, encode_name},
    register::{Field, Section, Type},
};

/// The kind.
pub struct Kafka;

static FIELDS: &[Field] = &[
    settings::BROKERS,
    Field::required(
        "topics",
        Type::Texts,
        "Topics to read, or patterns that begin with `^` and then fit the whole of a name; topics that come later are found within minutes.",
    ),
    Field::required(
        "group",
        Type::Text,
        "Consumer group. All agents of one group share the partitions, and it remembers how far they are.",
    ),
    Field::new(
        "start",
        Type::Choice(&["earliest", "latest", "none"]),
        "earliest",
        "Where a partition begins that neither the group nor the checkpoint knows: its first record, only what comes from now on, or not at \
         all, which is told.",
    ),
    Field::new("read_committed", Type::Bool, "true", "Leaves out records of transactions that were given up."),
    Field::new(
        "commit_interval",
        Type::Span,
        "5s",
        "How often settled offsets are committed to the group. \"0\": only when a partition goes and at the end.",
    ),
    Field::new("session_timeout", Type::Span, "30s", "After so long without a word from us the group gives our partitions to others."),
    Field::new("request_timeout", Type::Span, "40s", "For one request to a broker."),
    Field::new(
        "drain",
        Type::Span,
        "10s",
        "How long a partition that the group wants elsewhere is worked off first, up to 4m. What is not settled then is read again by \
         whoever has it next.",
    ),
    Field::optional("group_instance_id", Type::Text, "A name that stays ours over restarts: a short one moves no partition."),
    Field::new("fetch_max_bytes", Type::Bytes, "50 MiB", "Of one fetch from a broker."),
    Field::new("max_partition_fetch_bytes", Type::Bytes, "1 MiB", "Of one fetch from a partition; a longer record comes alone."),
    Field::new("exit_when_idle", Type::Span, "0", "The source ends after so long without a record, for batch runs; \"0\": never."),
    settings::CLIENT_ID,
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
    settings::OPTIONS,
];

/// Kilobytes of records that librdkafka fetches ahead, of all partitions.
const AHEAD_KBYTES: u64 = 16 << 10;
/// Milliseconds after which a member that does not poll is no member: we poll far more often.
const POLL_MS: u64 = 300_000;

/// Milliseconds between two looks at how far the partitions reach.
const STATISTICS_MS: u64 = 5000;

impl Kind for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }
    fn about(&self) -> &'static str {
        "records of Kafka topics, as a member of a consumer group"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        Box::new(Settings::parse(section))
    }
    fn address(&self, stream: &StreamName<'_>, position: &Position) -> Option<String> {
        let (topic, partition) = stream.stream.rsplit_once('/')?;
        let Position::Kafka { offset, .. } = position else { return None };
        Some(format!("kafka/{}/{partition}/{offset}", encode_name(topic)))
    }
}

/// What the config says.
#[derive(Clone, Debug)]
struct Settings {
    connection: Connection,
    topics: Vec<String>,
    group: String,
    start: &'static str,
    read_committed: bool,
    commit_interval: Duration,
    session_timeout: Duration,
    request_timeout: Duration,
    drain: Duration,
    group_instance_id: Option<String>,
    fetch_max_bytes: u64,
    max_partition_fetch_bytes: u64,
    exit_when_idle: Duration,
}

impl Settings {
    fn parse(section: &mut Section<'_>) -> Self {
        let topics = section.texts("topics");
        if section.is_set("topics") && (topics.is_empty() || topics.iter().any(String::is_empty)) {
            section.wrong("topics", "must name at least one topic");
        }
        let group = section.text("group");
        if section.is_set("group") && group.is_empty() {
            section.wrong("group", "is empty; name the group");
        }
        let within = |section: &mut Section<'_>, name, from: Duration, to: Duration| {
            let span = section.span(name);
            if span < from || span > to {
                section.wrong(name, format!("must be from {from:?} to {to:?}"));
            }
            span.clamp(from, to)
        };
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        let bytes = |section: &mut Section<'_>, name| {
            let bytes = section.bytes(name);
            if !(1024..=1 << 30).contains(&bytes) {
                section.wrong(name, "must be from 1 KiB to 1 GiB");
            }
            bytes.clamp(1024, 1 << 30)
        };
        Self {
            connection: Connection::parse_consumer(section),
            topics,
            group,
            start: section.choice("start"),
            read_committed: section.bool("read_committed"),
            commit_interval: section.span("commit_interval"),
            session_timeout: within(section, "session_timeout", second, hour),
            request_timeout: within(section, "request_timeout", second, Duration::from_secs(300)),
            drain: within(section, "drain", Duration::ZERO, Duration::from_secs(240)),
            group_instance_id: section.opt_text("group_instance_id").filter(|id| !id.is_empty()),
            fetch_max_bytes: bytes(section, "fetch_max_bytes"),
            max_partition_fetch_bytes: bytes(section, "max_partition_fetch_bytes"),
            exit_when_idle: section.span("exit_when_idle"),
        }
    }

    /// librdkafka's properties that are ours.
    fn properties(&self) -> Vec<(&'static str, String)> {
        let start = match self.start {
            "none" => "error",
            other => other,
        };
        let isolation = if self.read_committed { "read_committed" } else { "read_uncommitted" };
        let mut all: Vec<(&'static str, String)> = vec![
            ("group.id", self.group.clone()),
            ("auto.offset.reset", start.into()),
            ("enable.auto.commit", "false".into()),
            ("enable.auto.offset.store", "false".into()),
            ("enable.partition.eof", "false".into()),
            ("partition.assignment.strategy", "cooperative-sticky".into()),
            ("isolation.level", isolation.into()),
            ("check.crcs", "true".into()),
            ("statistics.interval.ms", STATISTICS_MS.to_string()),
            ("max.poll.interval.ms", POLL_MS.max(ms(self.session_timeout)).to_string()),
            ("session.timeout.ms", ms(self.session_timeout).to_string()),
            ("heartbeat.interval.ms", (ms(self.session_timeout) / 10).clamp(100, 3000).to_string()),
            ("socket.timeout.ms", ms(self.request_timeout).to_string()),
            ("fetch.max.bytes", self.fetch_max_bytes.max(self.max_partition_fetch_bytes).to_string()),
            ("max.partition.fetch.bytes", self.max_partition_fetch_bytes.to_string()),
            ("queued.max.messages.kbytes", AHEAD_KBYTES.to_string()),
            ("receive.message.max.bytes", (self.fetch_max_bytes.max(self.max_partition_fetch_bytes) + 1024).max(100_000_000).to_string()),
        ];
        all.extend(self.group_instance_id.clone().map(|id| ("group.instance.id", id)));
        all
    }
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl Spec for Settings {
    fn build(&self, name: &str, _instance: &str) -> Box<dyn Source> {
        Box::new(Unstarted { name: name.to_owned(), settings: self.clone() })
    }
    fn check(&self, _name: &str) -> Vec<Finding> {
        check::asks(self)
    }
}

struct Unstarted {
    name: String,
    settings: Settings,
}

impl Source for Unstarted {
    fn run(self: Box<Self>, io: Rc<dyn Io>, admit: Rc<dyn Admit>, standing: Standing) -> LocalFuture<'static, Result<(), SourceError>> {
        let Self { name, settings } = *self;
        Box::pin(async move {
            Running::new(name, settings, io, admit, standing).run().await;
            Ok(())
        })
    }
}
