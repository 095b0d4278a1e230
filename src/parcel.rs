//! What crosses from a home to those who take messages, and what comes back.
//!
//! A sink or lookup gets [`Parcel`]s through its [`Inbox`] and answers each message with exactly
//! one [`Settle`], by the parcel's own [`Acks`]. A lookup may send any number of [`Child`]ren home
//! for a message before it settles it.
//!
//! Refuses to know who takes and what a home does with the answers.

use std::{fmt, sync::Arc};

use crate::{batch::Batch, ring::Mailbox};

/// Where a taker's parcels arrive.
pub type Inbox = Mailbox<Parcel>;

/// Some messages of one batch, for one taker.
#[derive(Clone)]
pub struct Parcel {
    pub batch: Arc<Batch>,
    pub pick: Pick,
    /// Where the answers go: the home shard of the batch's stream.
    pub acks: Acks,
}

/// Which messages of the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    /// Every message whose output is in this mask.
    Outputs(u64),
    /// These.
    These(Vec<u32>),
}

impl Parcel {
    /// The numbers of the messages in it, in order.
    pub fn numbers(&self) -> Vec<u32> {
        match &self.pick {
            Pick::These(list) => list.clone(),
            Pick::Outputs(mask) => self.batch.numbers().filter(|n| mask >> self.batch.message(*n).output & 1 == 1).collect(),
        }
    }
}

/// One message that a taker holds and will settle.
#[derive(Debug)]
pub struct Owed {
    batch: Arc<Batch>,
    number: u32,
    acks: Acks,
}

impl Owed {
    /// The messages of a parcel, in order.
    pub fn all(parcel: &Parcel) -> impl Iterator<Item = Self> + use<'_> {
        let of = |number| Self { batch: parcel.batch.clone(), number, acks: parcel.acks.clone() };
        parcel.numbers().into_iter().map(of)
    }
    pub fn payload(&self) -> &[u8] {
        self.batch.message(self.number).payload
    }
    /// Where its record lies, as the header `shipper-origin` says it; empty if it has none.
    pub fn origin(&self) -> &[u8] {
        self.batch.message(self.number).origin()
    }
    /// Its number in its batch.
    pub fn number(&self) -> u32 {
        self.number
    }
    /// Slot of the output that it was emitted on.
    pub fn output(&self) -> u8 {
        self.batch.message(self.number).output
    }
    /// True if it came in this parcel.
    pub fn is_of(&self, parcel: &Parcel) -> bool {
        Arc::ptr_eq(&self.batch, &parcel.batch) && self.acks.is_same(&parcel.acks)
    }
    /// True if both are of one batch and are answered at the same place.
    pub fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.batch, &other.batch) && self.acks.is_same(&other.acks)
    }
    /// The parcel in which it came, with these messages.
    pub fn parcel(&self, numbers: Vec<u32>) -> Parcel {
        Parcel { batch: self.batch.clone(), pick: Pick::These(numbers), acks: self.acks.clone() }
    }
    /// These were delivered: one answer for neighbours of one batch.
    pub fn delivered(all: impl IntoIterator<Item = Self>) {
        let mut together: Option<(Self, Vec<u32>)> = None;
        for one in all {
            match &mut together {
                Some((first, numbers)) if first.is_beside(&one) => numbers.push(one.number),
                _ => {
                    if let Some((first, numbers)) = together.take() {
                        first.acks.delivered(&first.batch, numbers);
                    }
                    let numbers = vec![one.number];
                    together = Some((one, numbers));
                }
            }
        }
        if let Some((first, numbers)) = together {
            first.acks.delivered(&first.batch, numbers);
        }
    }
    /// It was refused for good.
    pub fn refused(self, why: String) {
        self.acks.refused(self.batch.stream, self.batch.seq, self.number, why);
    }
}

impl AsRef<[u8]> for Owed {
    fn as_ref(&self) -> &[u8] {
        self.payload()
    }
}

/// A sink's answer for messages of one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    pub stream: u32,
    pub seq: u64,
    pub messages: Settled,
}

/// Which messages, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// One delivered.
    One(u32),
    /// These delivered.
    Delivered(Vec<u32>),
    /// One refused for good, proven alone; it goes to the dead letter.
    Refused(u32, String),
    /// These are in the taker's spool: they come again.
    PutBy(Vec<u32>),
}

/// Where a sink's answers go. Cheap to clone; callable from any thread.
#[derive(Clone)]
pub struct Acks {
    home: Arc<dyn Home>,
    sink: u8,
}

/// The home shard of a stream, as sinks and lookups see it.
pub trait Home: Send + Sync {
    /// Takes one answer; never waits, never fails (room is planned).
    fn settle(&self, sink: u8, settle: Settle);
    /// Takes a message that a lookup made of another one, which it has not settled yet.
    ///
    /// A home without lookups is never given any.
    fn child(&self, lookup: u8, child: Child) {
        let _ = (lookup, child);
    }
}

/// A message that a lookup made of another one, on its way home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// Stream, batch and number of the message that it was made of.
    pub stream: u32,
    pub seq: u64,
    pub parent: u32,
    /// Branch of that message.
    pub branch: u8,
    /// Slot of the output in the topology's list.
    pub output: u8,
    pub key: Option<Vec<u8>>,
    /// Where the record lies, as the header `shipper-origin` says it.
    pub origin: Vec<u8>,
    pub payload: Vec<u8>,
    /// Milliseconds since 1970, for sinks whose records carry a time.
    pub time_ms: i64,
}

impl Acks {
    /// Answers of sink number `sink` go to `home`.
    pub fn new(home: Arc<dyn Home>, sink: u8) -> Self {
        Self { home, sink }
    }
    /// True if the answers of both go to the same home, as the same taker's.
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.home, &other.home) && self.sink == other.sink
    }
    /// Every message of `batch` in `numbers` was delivered.
    pub fn delivered(&self, batch: &Batch, numbers: Vec<u32>) {
        self.home.settle(self.sink, Settle { stream: batch.stream, seq: batch.seq, messages: Settled::Delivered(numbers) });
    }
    /// One message was delivered.
    pub fn delivered_one(&self, stream: u32, seq: u64, number: u32) {
        self.home.settle(self.sink, Settle { stream, seq, messages: Settled::One(number) });
    }
    /// These messages are in the taker's spool, durably.
    pub fn put_by(&self, stream: u32, seq: u64, numbers: Vec<u32>) {
        self.home.settle(self.sink, Settle { stream, seq, messages: Settled::PutBy(numbers) });
    }
    /// A message that was made of one of the parcel's; before that one is settled.
    pub fn child(&self, child: Child) {
        self.home.child(self.sink, child);
    }
    /// One message was refused for good.
    pub fn refused(&self, stream: u32, seq: u64, number: u32, reason: String) {
        self.home.settle(self.sink, Settle { stream, seq, messages: Settled::Refused(number, reason) });
    }
}

impl fmt::Debug for Acks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Acks(sink {})", self.sink)
    }
}
