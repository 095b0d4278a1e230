//! A Kafka topic as a place that takes messages: every one is answered by the broker, or counted as failed.

#![allow(clippy::disallowed_methods, reason = "a command waits in its own thread")]

use std::time::Duration;

use super::out::Account;
use crate::{
    batch::{Draft, Place},
    io::Slab,
    metrics::State,
    net::kafka::{
        port::{Event, Producer, SendError, Tag},
        producer::Client,
        settings::Connection,
    },
    position::{Origin, Position},
    sinks::kafka::Settings,
};

/// Milliseconds after which a message without an answer has failed: a command ends, an agent would wait.
const DELIVERY_MS: u64 = 60_000;
/// Between two looks at the client.
const LOOK: Duration = Duration::from_millis(1);

/// A producer of one topic.
pub(super) struct Broker {
    client: Client,
    sent: u64,
    account: Account,
    trouble: Option<String>,
    broken: Option<String>,
}

impl Broker {
    /// # Errors
    /// If the client cannot be made: a file that is missing, a setting that librdkafka refuses.
    pub(super) fn open(connection: Connection, topic: &str) -> anyhow::Result<Self> {
        let mut ours = Settings::new(connection.clone(), topic).properties();
        ours.push(("message.timeout.ms", DELIVERY_MS.to_string()));
        let mut client = Client::new(connection, topic, ours);
        client.renew().map_err(anyhow::Error::msg)?;
        Ok(Self { client, sent: 0, account: Account::default(), trouble: None, broken: None })
    }

    /// Takes a message; waits while the client's queue is full.
    ///
    /// - `key`: keeps all messages of one entity on one partition.
    pub(super) fn send(&mut self, key: &str, payload: &[u8]) {
        let mut draft = Draft::new(Slab::from_bytes(vec![b'\n']));
        let origin = Origin { stream: "apt", offset: self.sent, len: None };
        let (_, mut out) = draft.outbox(Place { start: 0, len: 1 }, 0, &[Some(0)], origin);
        out.message(0).key(key.as_bytes()).payload(|w| w.extend_from_slice(payload));
        let batch = draft.finish(0, Position::Count(1), 0);
        self.sent += 1;
        while self.broken.is_none() {
            match self.client.send(&batch.message(0), Tag(self.sent)) {
                Ok(()) => return,
                Err(SendError::Full) => {
                    self.serve();
                    std::thread::sleep(LOOK);
                }
                Err(SendError::TooLarge) => return self.account.fail(1, "larger than the client may send"),
                Err(SendError::Failed(failure)) => return self.account.fail(1, &failure.text),
            }
        }
        self.account.fail(1, self.broken.as_deref().unwrap_or_default());
    }

    /// Hears the answers that are there.
    pub(super) fn serve(&mut self) {
        let Self { client, account, trouble, broken, .. } = self;
        client.poll(&mut |event| match event {
            Event::Delivered(tags) => account.done += tags.len() as u64,
            Event::Failed(_, failure) => account.fail(1, &failure.text),
            Event::Client(State::Retrying(why) | State::Holding(why)) => *trouble = Some(why),
            Event::Client(_) => *trouble = None,
            Event::Broken(why) => *broken = Some(why),
        });
    }

    /// What is wrong with the connection.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.broken.as_deref().or(self.trouble.as_deref())
    }

    /// Waits for the answers to all of it; the client itself gives up what has none in a minute.
    pub(super) fn finish(mut self) -> Account {
        loop {
            self.serve();
            let open = self.sent - self.account.done - self.account.failed;
            if open == 0 {
                return self.account;
            }
            if let Some(why) = &self.broken {
                self.account.fail(open, why);
                return self.account;
            }
            std::thread::sleep(LOOK);
        }
    }
}
