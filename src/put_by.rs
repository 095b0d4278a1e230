//! Messages put by on disk while a lookup cannot ask about them, or a sink cannot send them.
//!
//! Who is away hands messages to [`PutBy::put`], which settles them once they are durable; a source of their
//! own brings them again, in order. What was brought again is on disk until all that becomes of it is
//! settled, so it is never put by a second time: it waits where it came to.

use std::{rc::Rc, sync::Arc, time::Duration};

use crate::{
    io::Executor,
    limits,
    metrics::{Count, Level, Standing},
    parcel::{Owed, Parcel},
    spool::Entry,
    store::{Asked, Spool, StoreHandle},
};

/// How messages are put by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spooling {
    /// Bytes on disk at most; `None`: none are, but what an earlier run has put by is worked off.
    pub max: Option<u64>,
}

/// The way into one spool.
#[derive(Clone, Debug)]
pub struct PutBy {
    store: StoreHandle,
    spool: Arc<Spool>,
    /// Slot of the output on which messages are brought again.
    output: u8,
    /// Bytes; `None`: nothing is put by.
    max: Option<u64>,
    messages: Count,
    full: Level,
}

impl PutBy {
    /// - `of`: name of the lookup or sink.
    /// - `output`: slot of the output on which messages are brought again.
    /// - `max`: bytes on disk at most; `None`: nothing is put by.
    pub fn new(store: StoreHandle, of: &str, output: u8, max: Option<u64>, standing: &Standing) -> Self {
        let spool = store.spool(of);
        let messages = standing.count("shipper_spooled_messages", "Messages put by on disk while what they are for was away", &[]);
        let full = standing.level("shipper_spool_full", "1 while messages wait in memory since their spool is full, 0 otherwise", &[]);
        let limit = standing.level("shipper_spool_limit_bytes", "Bytes that a spool may take on disk", &[]);
        limit.set(max.map_or(0, |max| i64::try_from(max).unwrap_or(i64::MAX)));
        Self { store, spool, output, max, messages, full }
    }

    /// True if messages may be put by; else they wait.
    pub fn is_on(&self) -> bool {
        self.max.is_some()
    }

    /// True for a message that was put by before: it lies on disk, and must not be put by again.
    pub fn has(&self, parcel: &Parcel, number: u32) -> bool {
        parcel.batch.message(number).output == self.output
    }

    /// The same, for one that is owed.
    pub fn brought(&self, owed: &Owed) -> bool {
        owed.output() == self.output
    }

    /// Puts messages by, and settles them once they are durable. False if there is no room for them: nothing
    /// is done then.
    ///
    /// - `numbers`: messages of `parcel` that are not settled, and about which nothing more will be emitted.
    pub fn put(&self, on: &Rc<dyn Executor>, parcel: &Parcel, numbers: Vec<u32>) -> bool {
        let entries: Vec<Entry> = numbers.iter().map(|n| entry(parcel, *n)).collect();
        let bytes = entries.iter().map(Entry::bytes).sum();
        let has_room = self.max.is_some_and(|max| self.spool.reserve(bytes, max));
        if i64::from(!has_room) != self.full.get() {
            self.full.set(i64::from(!has_room));
            let lookup = self.spool.lookup();
            match has_room {
                true => tracing::info!(lookup, "the spool has room again"),
                false => {
                    tracing::warn!(lookup, "the spool is full: messages wait in memory, and so does their source; raise spool_max, or wait")
                }
            }
        }
        if !has_room {
            return false;
        }
        self.messages.inc_by(numbers.len() as u64);
        let (spool, acks) = (self.spool.clone(), parcel.acks.clone());
        let (stream, seq) = (parcel.batch.stream, parcel.batch.seq);
        let reply = move |_| {
            spool.has_come(bytes);
            acks.put_by(stream, seq, numbers);
        };
        let mut asked = Asked::spool(self.spool.lookup().to_owned(), entries, Box::new(reply));
        if let Err(back) = self.store.ask(asked) {
            asked = back;
            let (store, waits) = (self.store.clone(), on.clone());
            on.spawn(
                "spool",
                Box::pin(async move {
                    loop {
                        waits.sleep(Duration::from_millis(limits::GROUP_COMMIT_MS)).await;
                        match store.ask(asked) {
                            Ok(()) => return,
                            Err(back) => asked = back,
                        }
                    }
                }),
            );
        }
        true
    }
}

fn entry(parcel: &Parcel, number: u32) -> Entry {
    let batch = &parcel.batch;
    let message = batch.message(number);
    // A message that a stage held back has left its record behind.
    let has_record = (message.record as usize) < batch.records().len();
    Entry {
        origin: String::from_utf8_lossy(message.origin()).into_owned(),
        time_ms: message.time_ms,
        key: message.key.map(<[u8]>::to_vec),
        payload: message.payload.to_vec(),
        record: if has_record { batch.record_bytes(message.record).to_vec() } else { Vec::new() },
    }
}
