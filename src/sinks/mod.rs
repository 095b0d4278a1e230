//! What takes batches out and acks them.
//!
//! A sink gets [`Parcel`]s through its inbox and answers each message with exactly one
//! [`Settle`]: delivered, or refused for good. Waiting, trying again and holding are its own
//! business, shown on its [`Board`](crate::metrics::Board) entry. Errors that end the agent are its return value.
//!
//! Adding one is one file and one line in [`ALL`].

use std::{fmt, rc::Rc, sync::Arc};

use crate::{
    batch::Batch,
    clock::Nanos,
    io::{Executor, LocalFuture},
    metrics::Standing,
    register::{Field, Section},
    ring::Mailbox,
};

crate::register! { Kind:
    file::File,
    stdout::Stdout,
    blackhole::Blackhole,
    wazuh_queue::WazuhQueue,
    kafka::Kafka,
}

/// What exists: a kind of sink.
pub trait Kind: Sync {
    /// As in `kind = "…"`.
    fn name(&self) -> &'static str;
    /// One line for `shipper list`.
    fn about(&self) -> &'static str;
    /// Its settings.
    fn fields(&self) -> &'static [Field];
    /// Default of `required`: whether a record waits for this sink before it is acked.
    fn required(&self) -> bool;
    /// Which thread runs it.
    fn thread(&self) -> Thread;
    /// Reads its settings; wrong ones are noted in the section.
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec>;
}

/// Where a sink runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thread {
    /// One instance on each shard that is home to a stream which feeds it.
    Shard,
    /// One instance on the edge thread (tokio with network).
    Edge,
    /// One instance on a thread of its own, where it may block.
    Own,
}

/// What the config asks for, checked.
pub trait Spec: Send + Sync + fmt::Debug {
    /// One running sink. Opens nothing that can fail for a passing reason: that is `run`'s work.
    ///
    /// # Errors
    /// What can never work with these settings on this host.
    fn build(&self, name: &str) -> Result<Box<dyn Sink>, SinkError>;
    /// Looks at the files that the settings name: what `shipper check --offline` can say. One line
    /// per finding.
    ///
    /// - `now`: wall time.
    fn check_files(&self, name: &str, now: Nanos) -> Vec<Finding> {
        let _ = (name, now);
        Vec::new()
    }
    /// Asks the other side whether it would take what we send: `shipper check`. May block a few
    /// seconds. One line per finding.
    fn check(&self, name: &str) -> Vec<Finding> {
        let _ = name;
        Vec::new()
    }
}

/// One line of `shipper check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    /// What, on what, and the remedy after `;`.
    pub text: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Good,
    Warning,
    Bad,
}

/// A running sink.
pub trait Sink {
    /// Runs until the inbox is closed and everything taken from it is settled.
    fn run(self: Box<Self>, inbox: Arc<Inbox>, on: Rc<dyn Executor>, standing: Standing) -> LocalFuture<'static, Result<(), SinkError>>;
}

/// What ends a sink.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Can never work with these settings on this host.
    #[error("sink {sink}: {what}")]
    Settings { sink: String, what: String },
    /// Our own mistake; the agent aborts and resumes from the checkpoint.
    #[error("sink {sink}: {what}; this is a defect of shipper")]
    Broken { sink: String, what: String },
}

/// Where a sink's parcels arrive.
pub type Inbox = Mailbox<Parcel>;

/// Some messages of one batch, for one sink.
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
            Pick::Outputs(mask) => {
                let count = u32::try_from(self.batch.len()).unwrap_or(u32::MAX);
                (0..count).filter(|n| mask >> self.batch.message(*n).output & 1 == 1).collect()
            }
        }
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
}

/// Where a sink's answers go. Cheap to clone; callable from any thread.
#[derive(Clone)]
pub struct Acks {
    home: Arc<dyn Home>,
    sink: u8,
}

/// The home shard of a stream, as sinks see it.
pub trait Home: Send + Sync {
    /// Takes one answer; never waits, never fails (room is planned).
    fn settle(&self, sink: u8, settle: Settle);
}

impl Acks {
    /// Answers of sink number `sink` go to `home`.
    pub fn new(home: Arc<dyn Home>, sink: u8) -> Self {
        Self { home, sink }
    }
    /// Every message of `batch` in `numbers` was delivered.
    pub fn delivered(&self, batch: &Batch, numbers: Vec<u32>) {
        self.home.settle(self.sink, Settle { stream: batch.stream, seq: batch.seq, messages: Settled::Delivered(numbers) });
    }
    /// One message was delivered.
    pub fn delivered_one(&self, stream: u32, seq: u64, number: u32) {
        self.home.settle(self.sink, Settle { stream, seq, messages: Settled::One(number) });
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
