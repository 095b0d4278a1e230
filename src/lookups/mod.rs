//! What asks someone else about a message and emits what it learns.
//!
//! A lookup takes [`Parcel`]s as a sink does, on the edge thread. For each message it sends home
//! any number of children with [`Emit::child`], then settles the message with the parcel's own
//! acks: `delivered` when it has asked and emitted all there is, `refused` when the message itself
//! can never be asked about. The home owes the children before it lets the message go, so what was
//! learned is as safe as what was read. Cache, batches, limits and waiting are the lookup's own
//! business, shown on its [`Board`](crate::metrics::Board) entry; errors that end it are its return
//! value.
//!
//! Adding one is one file and one line in [`ALL`].

use std::{fmt, path::Path, rc::Rc, sync::Arc};

pub use crate::put_by::{PutBy, Spooling};
use crate::{
    clock::Nanos,
    io::{Executor, LocalFuture},
    metrics::Standing,
    register::{Field, Section},
    tables::Shelf,
};
pub use crate::{
    parcel::{Acks, Child, Home, Inbox, Parcel},
    register::{Finding, Level},
};

crate::register! { Kind:
    misp::Misp,
}

/// What exists: a kind of lookup.
pub trait Kind: Sync {
    /// As in `kind = "…"`.
    fn name(&self) -> &'static str;
    /// One line for `shipper list`.
    fn about(&self) -> &'static str;
    /// Its settings.
    fn fields(&self) -> &'static [Field];
    /// Its outputs, the primary one first and empty (`misp`), another by what follows the dot
    /// (`failed` in `misp.failed`).
    fn outputs(&self) -> &'static [&'static str];
    /// Default of `required`: whether a record waits for this lookup before it is acked.
    fn required(&self) -> bool {
        true
    }
    /// Reads its settings; wrong ones are noted in the section.
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec>;
}

/// What a lookup is built with, beside its settings.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// Has every table that the settings name.
    pub tables: &'a Shelf,
    /// The agent's state folder.
    pub state_dir: &'a Path,
}

/// What the config asks for, checked.
pub trait Spec: Send + Sync + fmt::Debug {
    /// The one running lookup. Opens nothing that can fail for a passing reason: that is `run`'s
    /// work.
    ///
    /// # Errors
    /// What can never work with these settings on this host.
    fn build(&self, name: &str, given: &Given<'_>) -> Result<Box<dyn Lookup>, LookupError>;
    /// Whether it can put messages by while it cannot ask; `None` for a kind that never does.
    fn spool(&self) -> Option<Spooling> {
        None
    }
    /// True if its messages may wait for somebody else's outage to end.
    fn waits(&self) -> bool {
        true
    }
    /// Looks at the files that the settings name: what `shipper check --offline` can say. One line
    /// per finding.
    ///
    /// - `now`: wall time.
    fn check_files(&self, name: &str, now: Nanos) -> Vec<Finding> {
        let _ = (name, now);
        Vec::new()
    }
    /// Asks the other side whether it would answer us: `shipper check`. May block a few seconds.
    /// One line per finding.
    fn check(&self, name: &str) -> Vec<Finding> {
        let _ = name;
        Vec::new()
    }
}

/// A running lookup.
pub trait Lookup {
    /// Runs until the inbox is closed and everything taken from it is settled.
    fn run(
        self: Box<Self>,
        inbox: Arc<Inbox>,
        emit: Emit,
        on: Rc<dyn Executor>,
        standing: Standing,
    ) -> LocalFuture<'static, Result<(), LookupError>>;
}

/// What ends a lookup.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// Can never work with these settings on this host.
    #[error("lookup {lookup}: {what}")]
    Settings { lookup: String, what: String },
    /// Our own mistake; the agent aborts and resumes from the checkpoint.
    #[error("lookup {lookup}: {what}; this is a defect of shipper")]
    Broken { lookup: String, what: String },
}

/// Where a lookup's children go.
///
/// ```text
/// for n in parcel.numbers() {
///     if emit.wants(FAILED) {
///         emit.child(&parcel, n, FAILED, None, b"{}".to_vec());
///     }
///     parcel.acks.delivered_one(parcel.batch.stream, parcel.batch.seq, n);
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Emit {
    routes: Vec<Option<u8>>,
    spool: Option<PutBy>,
}

impl Emit {
    /// - `routes`: for each of the kind's outputs its slot in the topology, `None` if unwired.
    pub fn new(routes: Vec<Option<u8>>) -> Self {
        Self { routes, spool: None }
    }
    /// The same, with a place for what cannot be asked about now.
    pub fn with_spool(self, spool: PutBy) -> Self {
        Self { spool: Some(spool), ..self }
    }
    /// Where messages go that cannot be asked about now; `None` where they wait.
    pub fn spool(&self) -> Option<&PutBy> {
        self.spool.as_ref()
    }
    /// True if the output is wired; what nobody takes need not be built.
    pub fn wants(&self, output: usize) -> bool {
        self.slot(output).is_some()
    }
    /// Sends a message home that was made of message `number` of `parcel`, which must not be
    /// settled yet. It keeps that one's origin and time. On an unwired output it is forgotten.
    ///
    /// - `output`: index in [`Kind::outputs`].
    pub fn child(&self, parcel: &Parcel, number: u32, output: usize, key: Option<&[u8]>, payload: Vec<u8>) {
        let Some(output) = self.slot(output) else { return };
        let batch = &parcel.batch;
        let parent = batch.message(number);
        parcel.acks.child(Child {
            stream: batch.stream,
            seq: batch.seq,
            parent: number,
            branch: parent.branch,
            output,
            key: key.map(<[u8]>::to_vec),
            origin: parent.origin().to_vec(),
            payload,
            time_ms: parent.time_ms,
        });
    }

    fn slot(&self, output: usize) -> Option<u8> {
        self.routes.get(output).copied().flatten()
    }
}
