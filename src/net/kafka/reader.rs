//! Reads a topic back from its beginning, for the demo and tests. Not a source: it keeps no place.

use std::time::Duration;

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::Headers,
};

use super::settings::Connection;

/// One message as it lies in the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub payload: Vec<u8>,
    pub headers: Vec<(String, Vec<u8>)>,
    /// Milliseconds since 1970.
    pub time_ms: i64,
}

impl Read {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_slice())
    }
}

/// Reads every partition of one topic from its first message.
pub struct Reader {
    consumer: BaseConsumer,
}

impl Reader {
    /// Begins to read `topic`; waits at most `patience` for the broker.
    ///
    /// # Errors
    /// What the client or the broker refuses.
    pub fn open(connection: &Connection, topic: &str, patience: Duration) -> Result<Self, String> {
        let ours =
            [("group.id", "shipper-reader".into()), ("enable.auto.commit", "false".into()), ("enable.partition.eof", "false".into())];
        let consumer: BaseConsumer = connection.client(&ours)?.create().map_err(|e| format!("cannot make a Kafka client: {e}"))?;
        let metadata = consumer.fetch_metadata(Some(topic), patience).map_err(|e| format!("topic {topic}: no metadata: {e}"))?;
        let found = metadata.topics().iter().find(|t| t.name() == topic).ok_or_else(|| format!("topic {topic}: not in the metadata"))?;
        if found.partitions().is_empty() {
            return Err(format!("topic {topic}: it has no partitions; create it"));
        }
        let mut all = TopicPartitionList::new();
        for partition in found.partitions() {
            all.add_partition_offset(topic, partition.id(), Offset::Beginning).map_err(|e| format!("topic {topic}: {e}"))?;
        }
        consumer.assign(&all).map_err(|e| format!("topic {topic}: {e}"))?;
        Ok(Self { consumer })
    }

    /// The next message, if one comes within `patience`.
    ///
    /// # Errors
    /// What the broker refuses; a passing failure is none.
    pub fn next(&mut self, patience: Duration) -> Result<Option<Read>, String> {
        match self.consumer.poll(patience) {
            None => Ok(None),
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(rdkafka::error::RDKafkaErrorCode::BrokerTransportFailure | rdkafka::error::RDKafkaErrorCode::AllBrokersDown) => {
                    Ok(None)
                }
                _ => Err(error.to_string()),
            },
            Some(Ok(message)) => Ok(Some(Read {
                partition: message.partition(),
                offset: message.offset(),
                key: message.key().map(<[u8]>::to_vec),
                payload: message.payload().unwrap_or_default().to_vec(),
                headers: message
                    .headers()
                    .map(|all| all.iter().map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec())).collect())
                    .unwrap_or_default(),
                time_ms: message.timestamp().to_millis().unwrap_or(0),
            })),
        }
    }
}
