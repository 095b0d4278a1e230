//! `kafka`: a file through the whole agent to an embedded broker, beside the bare producer loop.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::Context;
use argh::FromArgs;
use rdkafka::{
    ClientConfig, ClientContext, Message,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    mocking::MockCluster,
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};
use shipper::{
    cli::scratch::Scratch,
    limits,
    synth::{ALERT_BYTES_MEAN, Mix, Synth},
};

use crate::{
    agent::{self, Job},
    size::{self, Round},
};

const TOPIC: &str = "bench";

/// sends alerts to an embedded broker until all are acknowledged: a bare producer loop, then the
/// whole agent from a file, handler forward
#[derive(FromArgs)]
#[argh(subcommand, name = "kafka")]
pub struct Kafka {
    /// alerts a round; beyond what the broker keeps, the oldest are forgotten
    #[argh(option, from_str_fn(size::number), default = "200_000")]
    count: u64,
    /// rounds; the quickest counts
    #[argh(option, default = "3")]
    rounds: u32,
    /// milliseconds that the producer gathers messages
    #[argh(option, default = "5")]
    linger_ms: u32,
    /// lz4, zstd, gzip, snappy or none; of both
    #[argh(option, default = "String::from(\"lz4\")")]
    compression: String,
    /// print the figures as JSON
    #[argh(switch)]
    json: bool,
}

/// Counts what was acknowledged.
#[derive(Default)]
struct Counting {
    delivered: std::sync::atomic::AtomicU64,
    failed: std::sync::atomic::AtomicU64,
}

impl ClientContext for Counting {}

impl ProducerContext for Counting {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, _: usize) {
        let count = match result {
            Ok(message) if message.offset() >= 0 => &self.delivered,
            _ => &self.failed,
        };
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Kafka {
    /// Measures.
    pub fn run(&self) -> anyhow::Result<()> {
        let cluster = MockCluster::new(1).context("cannot start the embedded broker; is a local port free?")?;
        cluster.create_topic(TOPIC, 1, 1).context("cannot make the topic on the embedded broker")?;
        let producer: BaseProducer<Counting> = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", self.linger_ms.to_string())
            .set("compression.type", &self.compression)
            .set("batch.size", "1000000")
            .set("max.in.flight.requests.per.connection", limits::KAFKA_IN_FLIGHT_MAX.to_string())
            .set("queue.buffering.max.kbytes", (limits::KAFKA_QUEUE_BYTES / 1024).to_string())
            .set("message.timeout.ms", "0")
            .create_with_context(Counting::default())
            .context("cannot make a producer")?;
        let mut alerts = Vec::with_capacity(self.count as usize * ALERT_BYTES_MEAN);
        let mut synth = Synth::new(1, Mix::Natural);
        for n in 0..self.count {
            synth.alert(&mut alerts, 1_773_465_912_000_000_000 + n * 2_000_000, 60);
        }
        // The first message waits for the producer's id: it is not part of any round.
        send(&producer, b"first\n")?;
        let mut bare = || Round::of(|| send(&producer, &alerts));
        let scratch = Scratch::make("shipper-bench-kafka")?;
        let part = scratch.path().join("part.json");
        fs::write(&part, &alerts).context("cannot write the alerts below TMPDIR")?;
        let job = &Job {
            part: &part,
            handler: "kind = \"forward\"",
            sink: &format!(
                "kind = \"kafka\"\nbrokers = [\"embedded\"]\ntopic = \"{TOPIC}\"\nlinger = \"{}ms\"\ncompression = {:?}",
                self.linger_ms, self.compression
            ),
            cores: 1,
            embedded: Some(cluster.bootstrap_servers()),
            bytes: alerts.len() as u64,
        };
        let mut runs: Vec<_> =
            agent::engines().into_iter().map(|(name, engine)| (format!("agent, {name}"), move || job.run(engine))).collect();
        let mut ways: Vec<size::Way<'_>> = vec![("bare producer (reference)", &mut bare)];
        ways.extend(runs.iter_mut().map(|(name, run)| (name.as_str(), run as &mut dyn FnMut() -> _)));
        let figures = size::alternate(self.rounds, &mut ways)?;
        size::print(&figures, self.json)
    }
}

/// Sends every line with an origin header and waits until each is acknowledged.
#[allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn send(producer: &BaseProducer<Counting>, alerts: &[u8]) -> anyhow::Result<(u64, u64)> {
    use std::sync::atomic::Ordering::Relaxed;
    let counts = producer.context();
    let (before, mut lines, mut at) = (counts.delivered.load(Relaxed), 0, 0);
    for end in memchr::memchr_iter(b'\n', alerts) {
        let origin = format!("bench/alerts/2026-03-14/000/{at}+{}", end + 1 - at);
        let header = Header { key: "shipper-origin", value: Some(origin.as_bytes()) };
        let mut record =
            BaseRecord::<(), [u8], usize>::with_opaque_to(TOPIC, at).payload(&alerts[at..end]).headers(OwnedHeaders::new().insert(header));
        while let Err((error, back)) = producer.send(record) {
            if !matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
                return Err(error).context("the embedded broker refused a message");
            }
            record = back;
            producer.poll(Duration::from_millis(1));
        }
        lines += 1;
        at = end + 1;
        if lines % 1000 == 0 {
            // One call serves one event: as many calls as there may be events.
            for _ in 0..64 {
                producer.poll(Duration::ZERO);
            }
        }
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while counts.delivered.load(Relaxed) - before < lines {
        producer.poll(Duration::from_millis(1));
        let failed = counts.failed.load(Relaxed);
        anyhow::ensure!(failed == 0, "{failed} messages were not delivered; run again with fewer alerts");
        anyhow::ensure!(
            Instant::now() < deadline,
            "{} messages still in flight after a minute; run again with fewer alerts",
            producer.in_flight_count()
        );
    }
    Ok((lines, at as u64))
}
