//! A producer for few messages, each of which somebody waits for. What carries records is [`producer`](super::producer).
//!
//! Invariant: whoever waits is told, by the broker's ack or by an error after [`PATIENCE_MS`].

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64, atomic::Ordering::Relaxed},
    time::Duration,
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext},
};
use tokio::sync::oneshot;

use super::{
    fates::{self, Trouble},
    settings::Connection,
    wake::Woken,
};
use crate::{
    io::{aside, unbound},
    ring::Signal,
};

/// Milliseconds after which a message is given up.
const PATIENCE_MS: u64 = 30_000;

/// Tells whether a message is with the broker.
pub type Sent = oneshot::Receiver<Result<(), String>>;

/// A producer of any topics.
pub struct Sender {
    /// Taken when it closes.
    inner: Option<Woken<Context>>,
}

struct Context {
    served: AtomicU64,
    hint: Mutex<Option<Trouble>>,
}

impl Context {
    fn hint(&self, trouble: Trouble) {
        *self.hint.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
    }
}

impl ClientContext for Context {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, line: &str) {
        self.served.fetch_add(1, Relaxed);
        if let Some(trouble) = fates::trouble_in_log(facility, line) {
            self.hint(trouble);
        }
        tracing::debug!(facility, "librdkafka: {line}");
    }
    fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
        self.served.fetch_add(1, Relaxed);
        self.hint(fates::trouble(error.rdkafka_error_code().unwrap_or(rdkafka::error::RDKafkaErrorCode::Fail), reason));
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<oneshot::Sender<Result<(), String>>>;
    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Self::DeliveryOpaque) {
        self.served.fetch_add(1, Relaxed);
        let result = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.to_string()),
        };
        let _ = waiting.send(result); // nobody may wait any more
    }
}

impl Sender {
    /// A producer; connects by itself.
    ///
    /// - `signal`: raised when there is something to [`serve`](Self::serve).
    ///
    /// # Errors
    /// A secret that cannot be read, or a property that librdkafka refuses; with the remedy.
    pub fn open(connection: &Connection, signal: Arc<Signal>) -> Result<Self, String> {
        let ours = [
            ("enable.idempotence", "true".to_owned()),
            ("acks", "all".to_owned()),
            ("linger.ms", "0".to_owned()),
            ("message.timeout.ms", PATIENCE_MS.to_string()),
        ];
        let context = Context { served: AtomicU64::new(0), hint: Mutex::default() };
        let config = connection.client(&ours)?;
        let producer: BaseProducer<Context> = unbound(|| config.create_with_context(context))
            .map_err(|e| format!("cannot make a Kafka client: {e}; correct the setting it names"))?;
        Ok(Self { inner: Some(Woken::new(producer, signal)) })
    }

    fn inner(&self) -> &Woken<Context> {
        self.inner.as_ref().expect("a sender is open until it is dropped")
    }

    /// Hands a message over. Serve the sender while waiting for what comes back.
    pub fn send(&self, topic: &str, key: &str, value: &[u8]) -> Sent {
        let (told, sent) = oneshot::channel();
        let record = BaseRecord::with_opaque_to(topic, Box::new(told)).key(key).payload(value);
        if let Err((error, record)) = self.inner().send(record) {
            let _ = record.delivery_opaque.send(Err(error.to_string())); // the receiver is in our hand
        }
        sent
    }

    /// Serves what librdkafka has for us: call it whenever the signal is raised.
    pub fn serve(&self) {
        let served = &self.inner().context().served;
        loop {
            let before = served.load(Relaxed);
            self.inner().poll(Duration::ZERO);
            if served.load(Relaxed) == before {
                return;
            }
        }
    }

    /// What was last heard of connections that failed.
    pub fn trouble(&self) -> Option<Trouble> {
        self.inner().context().hint.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // librdkafka joins its threads, which takes time.
        if let Some(inner) = self.inner.take()
            && let Err(error) = aside("kafka-close", move || drop(inner))
        {
            tracing::debug!(%error, "no thread to close a producer on; closed here");
        }
    }
}
