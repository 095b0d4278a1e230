//! What takes batches out and acks them.
//!
//! A sink gets [`Parcel`]s through its inbox and answers each message with exactly one
//! [`Settle`]: delivered, or refused for good. Waiting, trying again and holding are its own
//! business, shown on its [`Board`](crate::metrics::Board) entry. Errors that end the agent are its return value.
//!
//! Adding one is one file and one line in [`ALL`].

use std::{fmt, rc::Rc, sync::Arc, time::Duration};

use crate::{
    clock::Nanos,
    detect::kept::{Keys, Recent},
    io::{Executor, LocalFuture},
    metrics::Standing,
    net::redis as redis_server,
    register::{Field, Section},
};
pub use crate::{
    parcel::{Acks, Home, Inbox, Owed, Parcel, Pick, Settle, Settled},
    put_by::{PutBy, Spooling},
    register::{Finding, Level},
};

crate::register! { Kind:
    file::File,
    stdout::Stdout,
    blackhole::Blackhole,
    wazuh_queue::WazuhQueue,
    webhook::Webhook,
    influx::Influx,
    redis::Redis,
    kafka::Kafka,
    memory::Memory,
}

#[cfg(test)]
mod driven;
#[cfg(test)]
pub(crate) use driven::{Driven, parse, until};

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
    /// How long it lets a message wait for others, where readers of files may do that waiting in its place. `None` for a kind
    /// whose waiting is its own business.
    fn linger(&self) -> Option<Duration> {
        None
    }
    /// The same sink with so much less [`linger`](Self::linger); `None` for a kind that has none.
    fn relieved(&self, of: Duration) -> Option<Arc<dyn Spec>> {
        let _ = of;
        None
    }
    /// Whether it puts messages by while it cannot send them; `None` for one that never does.
    fn spool(&self) -> Option<Spooling> {
        None
    }
    /// Where it keeps alerts so that the HTTP face can show them, if it does.
    fn shelf(&self) -> Option<AlertShelf> {
        None
    }
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

/// Where alerts stand for those who want to look at them.
#[allow(clippy::large_enum_variant, reason = "there is one of each sink")]
#[derive(Clone, Debug)]
pub enum AlertShelf {
    /// In memory.
    Memory(Arc<Recent>),
    /// In a Redis, under these keys.
    Redis { server: redis_server::Settings, keys: Keys },
}

/// A running sink.
pub trait Sink {
    /// Gives it a place for what it cannot send now, before it runs.
    fn may_put_by(&mut self, put_by: PutBy) {
        let _ = put_by;
    }
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
