//! Writes numbered records into a topic and waits until they are there.

use std::{sync::Arc, time::Duration};

use shipper::{
    batch::{Batch, Draft, Place},
    io::Slab,
    net::kafka::{
        port::{Event, Producer, SendError, Tag},
        producer::Client,
        settings::Connection,
    },
    position::{Origin, Position},
};

/// A producer of one topic.
pub struct Writer {
    client: Client,
    next: u64,
}

fn message(key: Option<&[u8]>, payload: &[u8]) -> Arc<Batch> {
    let mut draft = Draft::new(Slab::from_bytes(vec![b'\n']));
    {
        let origin = Origin { stream: "test", offset: 0, len: None };
        let (_, mut out) = draft.outbox(Place { start: 0, len: 1 }, 0, &[Some(0)], origin);
        let message = out.message(0);
        let message = match key {
            Some(key) => message.key(key),
            None => message,
        };
        message.payload(|w| w.extend_from_slice(payload));
    }
    Arc::new(draft.finish(0, Position::Count(1), 0))
}

impl Writer {
    /// A producer for `topic`.
    pub fn open(connection: &Connection, topic: &str) -> Self {
        let ours = vec![("enable.idempotence", "true".into()), ("linger.ms", "2".into())];
        let mut client = Client::new(connection.clone(), topic, ours);
        client.renew().unwrap();
        Self { client, next: 0 }
    }

    /// Writes the records of these numbers, over all partitions.
    pub fn write(&mut self, numbers: std::ops::Range<u64>) {
        self.send(numbers.map(|n| (None, format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(200)).into_bytes())));
    }

    /// Writes records with an empty value.
    pub fn tombstones(&mut self, count: u64) {
        self.send((0..count).map(|_| (None, Vec::new())));
    }

    /// Writes one record with a key.
    pub fn keyed(&mut self, key: &str, value: &str) {
        self.send(std::iter::once((Some(key.as_bytes().to_vec()), value.as_bytes().to_vec())));
    }

    /// Writes records of one's own: key, value.
    pub fn send(&mut self, records: impl Iterator<Item = (Option<Vec<u8>>, Vec<u8>)>) {
        let (mut open, mut done) = (0u64, 0u64);
        for (key, payload) in records {
            let batch = message(key.as_deref(), &payload);
            self.next += 1;
            while let Err(error) = self.client.send(&batch.message(0), Tag(self.next)) {
                assert!(matches!(error, SendError::Full), "not sent");
                self.serve(&mut done);
            }
            open += 1;
        }
        while done < open {
            self.serve(&mut done);
        }
    }

    fn serve(&mut self, done: &mut u64) {
        let before = *done;
        self.client.poll(&mut |event| match event {
            Event::Delivered(tags) => *done += tags.len() as u64,
            Event::Failed(_, failure) => panic!("{failure:?}"),
            _ => {}
        });
        if *done == before {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
