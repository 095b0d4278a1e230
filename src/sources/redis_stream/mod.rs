//! `redis_stream`: entries of streams of Redis, read by a consumer group.
//!
//! Two halves. The one on the edge thread ([`edge`]) speaks to Redis: it reads, claims what dead consumers left,
//! acks what is settled, and counts what was cut off unread. The one on the home shard hands batches in and says
//! what is settled. [`core`] decides what becomes of an entry, pure.
//!
//! What surprises: Redis keeps what is not acked, so the checkpoint decides nothing here. Its row shows how far
//! the streams were read.

mod check;
mod core;
mod edge;

use std::{rc::Rc, sync::Arc, time::Duration};

use self::{core::Rules, edge::Edge};
use super::{Admit, Ending, Finding, Halves, Kind, Link, Source, SourceError, Spec};
use crate::{
    io::{Io, LocalFuture},
    metrics::Standing,
    net::redis::{Place, Settings as Server, stream::host_name},
    position::Position,
    register::{Field, Section, Type},
};

/// The kind.
pub struct RedisStream;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

static FIELDS: &[Field] = &[
    Field::new(
        "url",
        Type::Text,
        "redis://localhost:6379",
        "redis://host:port, rediss://host:port (TLS) or unix:/path of the socket. User, password and database have settings of their own.",
    ),
    Field::optional("username", Type::Text, "ACL user; unset: the default user."),
    Field::optional("password_file", Type::Path, "File whose first line is the password; read again at each connection."),
    Field::new("db", Type::Int { min: 0, max: 65_535 }, "0", "Number of the database."),
    Field::optional("tls.ca", Type::Path, "PEM file with the CAs that vouch for a rediss:// server; unset: the system's."),
    Field::new("streams", Type::Texts, "[\"waf-realtime\"]", "Keys of the streams to read; what is not there yet is made, empty."),
    Field::new(
        "group",
        Type::Text,
        "waf-realtime",
        "Consumer group; made where it is not there. All agents of one group share the entries.",
    ),
    Field::optional(
        "consumer",
        Type::Text,
        "Our name in the group, which must stay the same over restarts and be nobody else's; unset: host name and instance.",
    ),
    Field::new(
        "start",
        Type::Text,
        "0",
        "Where a group that we make begins: 0 is the first entry there is, $ only what comes from now on, or an id. A group that \
         vanished is made again at 0.",
    ),
    Field::new("count", Type::Int { min: 1, max: 10_000 }, "256", "Entries of one read at most; fewer where they are long."),
    Field::new("block", Type::Span, "2s", "How long one read waits for new entries, from 10ms to 60s."),
    Field::optional(
        "field",
        Type::Text,
        "Field of an entry that holds the event. Unset or not there: the only field, else the first of data, event, message, payload, \
         json, log, value; an entry without any goes to the dead letter.",
    ),
    Field::new(
        "min_idle",
        Type::Span,
        "60s",
        "From 1s. An entry that another consumer was given so long ago, and has neither acked nor touched since, is taken over. What is \
         under way here is touched, so a long outage behind us gives nothing away.",
    ),
    Field::new(
        "max_deliveries",
        Type::Int { min: 0, max: 1_000_000 },
        "5",
        "An entry that was given out more often, and never acked, goes to the dead letter as `poison`: whoever works on it seems to die of \
         it. A clean stop counts for nothing. 0: never.",
    ),
    Field::optional(
        "dead_stream",
        Type::Text,
        "Stream to which entries that are refused here (poison, no field, too long) are added as well.",
    ),
    Field::new("timeout", Type::Span, "5s", "For one answer of Redis, beside `block`."),
];

impl Kind for RedisStream {
    fn name(&self) -> &'static str {
        "redis_stream"
    }
    fn about(&self) -> &'static str {
        "entries of Redis streams, by a consumer group"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        Box::new(Settings::parse(section))
    }
}

/// What the config says.
#[derive(Clone, Debug)]
struct Settings {
    redis: Server,
    streams: Vec<String>,
    group: String,
    consumer: Option<String>,
    start: String,
    count: usize,
    block: Duration,
    rules: Rules,
    min_idle: Duration,
    dead_stream: Option<String>,
}

impl Settings {
    fn parse(section: &mut Section<'_>) -> Self {
        let url = section.text("url");
        let place = Place::parse(&url, section.opt_path("tls.ca")).unwrap_or_else(|what| {
            section.wrong("url", what);
            Place::Tcp { host: "localhost".into(), port: 6379 }
        });
        if section.is_set("tls.ca") && !matches!(place, Place::Tls { .. }) {
            section.wrong("tls.ca", "is for rediss:// only; write url = \"rediss://…\", or remove it");
        }
        let streams = section.texts("streams");
        if streams.is_empty() || streams.iter().any(String::is_empty) {
            section.wrong("streams", "must name at least one key");
        }
        if streams.iter().enumerate().any(|(n, key)| streams.iter().take(n).any(|before| before == key)) {
            section.wrong("streams", "names a key twice; remove one");
        }
        let group = section.text("group");
        if group.is_empty() {
            section.wrong("group", "is empty; name the group, for example \"waf-realtime\"");
        }
        let start = section.text("start");
        let is_place = start == "$" || start.split('-').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
        if !is_place || start.split('-').count() > 2 {
            section.wrong("start", format!("{start:?} is no place in a stream; write 0, $ or an id such as 1773480423123-0"));
        }
        let within = |section: &mut Section<'_>, name, from: Duration, to: Duration| {
            let span = section.span(name);
            if span < from || span > to {
                section.wrong(name, format!("must be from {from:?} to {to:?}"));
            }
            span.clamp(from, to)
        };
        let hour = Duration::from_secs(3600);
        let dead_stream = section.opt_text("dead_stream").filter(|key| !key.is_empty());
        if dead_stream.as_ref().is_some_and(|dead| streams.contains(dead)) {
            section.wrong("dead_stream", "is one of streams: what is refused would come again for ever; name another key");
        }
        let count = |n: i64| usize::try_from(n).unwrap_or(1);
        Self {
            redis: Server {
                place,
                user: section.opt_text("username").filter(|user| !user.is_empty()),
                password_file: section.opt_path("password_file"),
                db: u32::try_from(section.int("db")).unwrap_or(0),
                connect_timeout: CONNECT_TIMEOUT,
                timeout: within(section, "timeout", Duration::from_millis(100), hour),
            },
            streams,
            group,
            consumer: section.opt_text("consumer").filter(|name| !name.is_empty()),
            start,
            count: count(section.int("count")),
            block: within(section, "block", Duration::from_millis(10), Duration::from_secs(60)),
            rules: Rules {
                field: section.opt_text("field").filter(|field| !field.is_empty()),
                max_deliveries: u64::try_from(section.int("max_deliveries")).unwrap_or(0),
            },
            min_idle: within(section, "min_idle", Duration::from_secs(1), 24 * 7 * hour),
            dead_stream,
        }
    }

    fn consumer(&self, instance: &str) -> String {
        self.consumer.clone().unwrap_or_else(|| match host_name() {
            host if host == instance => host,
            host => format!("{host}-{instance}"),
        })
    }
}

impl Spec for Settings {
    fn build(&self, name: &str, instance: &str) -> Box<dyn Source> {
        // Whole only where nobody made both halves: the home half of a link that nobody serves.
        let _ = (name, instance);
        Box::new(Home { streams: self.streams.clone(), link: Link::new(self.streams.len()) })
    }
    fn halves(&self, _name: &str, instance: &str) -> Option<Halves> {
        let link = Link::new(self.streams.len());
        let (home, streams) = (link.clone(), self.streams.clone());
        let (settings, consumer) = (self.clone(), self.consumer(instance));
        Some(Halves {
            home: Box::new(move || Box::new(Home { streams, link: home })),
            edge: Box::new(move |on, standing| Box::pin(Edge::new(settings, consumer, link, on, standing).run())),
        })
    }
    fn check(&self, _name: &str) -> Vec<Finding> {
        check::asks(self)
    }
    fn survey(&self) -> Vec<Finding> {
        check::survey(self)
    }
}

/// The half on the home shard.
struct Home {
    streams: Vec<String>,
    link: Arc<Link>,
}

impl Source for Home {
    fn run(self: Box<Self>, _io: Rc<dyn Io>, admit: Rc<dyn Admit>, _standing: Standing) -> LocalFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let Self { streams, link } = *self;
            let _ending = Ending(link.clone());
            for stream in &streams {
                admit.open(stream, Position::Redis { ms: 0, seq: 0 });
            }
            let bring = async {
                loop {
                    let brought = tokio::select! {
                        biased;
                        () = admit.closed() => break,
                        brought = link.next() => brought,
                    };
                    let Some((stream, brought)) = brought.and_then(|b| Some((streams.get(b.stream)?, b))) else { break };
                    admit.lag(brought.lag);
                    if !admit.chunk(stream, brought.chunk).await {
                        break;
                    }
                }
                link.close();
                admit.last();
            };
            let acks = async {
                loop {
                    let goes_on = admit.settles().await;
                    for (number, stream) in streams.iter().enumerate() {
                        link.settle(number, admit.settled(stream));
                    }
                    if !goes_on {
                        break;
                    }
                    link.tell();
                }
                link.end();
                link.is_done().await;
            };
            tokio::join!(bring, acks);
            Ok(())
        })
    }
}
