//! A Kafka broker inside the process, for the demo, benches and tests.
//!
//! It keeps at most 5 MiB or 100,000 messages of a partition, the oldest go first: whoever reads a
//! topic back reads it while it is written. A topic that nobody created appears when it is asked for.

use rdkafka::{
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};

/// Bytes of one partition that the embedded broker keeps.
pub const PARTITION_BYTES_MAX: u64 = 5 << 20;
/// Messages of one partition that the embedded broker keeps.
pub const PARTITION_MESSAGES_MAX: u64 = 100_000;

/// A running embedded broker; it ends with this value.
pub struct Embedded {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Embedded {
    /// Starts `brokers` brokers on loopback.
    ///
    /// # Errors
    /// If librdkafka cannot start it (no port, no thread).
    pub fn start(brokers: u16) -> Result<Self, String> {
        let cluster = MockCluster::new(i32::from(brokers)).map_err(|e| format!("cannot start the embedded broker: {e}"))?;
        Ok(Self { cluster })
    }
    /// Addresses, as setting `brokers` takes them.
    pub fn brokers(&self) -> Vec<String> {
        self.cluster.bootstrap_servers().split(',').map(str::to_owned).collect()
    }
    /// Makes a topic.
    ///
    /// # Errors
    /// If it exists already, or its name holds a NUL.
    pub fn create_topic(&self, topic: &str, partitions: u16) -> Result<(), String> {
        self.cluster.create_topic(topic, i32::from(partitions), 1).map_err(|e| format!("embedded broker: topic {topic}: {e}"))
    }
    /// Takes the first broker off the network, or puts it back.
    pub fn set_down(&self, down: bool) {
        let done = if down { self.cluster.broker_down(1) } else { self.cluster.broker_up(1) };
        debug_assert!(done.is_ok(), "the first broker exists: {done:?}");
    }
    /// Answers the next produce requests with "message too large", once for each of `count`.
    pub fn refuse_next(&self, count: usize) {
        let errors = vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; count];
        self.cluster.request_errors(RDKafkaApiKey::Produce, &errors);
    }
}
