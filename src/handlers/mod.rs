//! What turns one record into messages, or into nothing.
//!
//! A handler is a plain synchronous function over one record: no clock, no I/O, no lock, no
//! memory of earlier records. One instance per shard; `&mut self` is scratch only. Payload bytes
//! are final here.
//!
//! Adding one is one file and one line in [`ALL`].

use std::fmt;

use crate::{
    alert::{Alert, Piece},
    batch::Outbox,
    clock::Nanos,
    metrics::Figure,
    position::Origin,
    register::{Field, Section},
    tables::Shelf,
};

crate::register! { Kind:
    forward::Forward,
    dfn::Dfn,
    ioc::Ioc,
    waf::Waf,
    apt::Apt,
    sigma::Sigma,
    scan::Scan,
}

/// What exists: a kind of handler.
pub trait Kind: Sync {
    /// As in `kind = "…"`.
    fn name(&self) -> &'static str;
    /// One line for `shipper list`.
    fn about(&self) -> &'static str;
    /// Its settings.
    fn fields(&self) -> &'static [Field];
    /// Its outputs, the primary one first.
    fn outputs(&self) -> &'static [Output];
    /// True if its first output must be taken; false if another one may be all that is wanted.
    fn needs_primary(&self) -> bool {
        true
    }
    /// Reads its settings; wrong ones are noted in the section.
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec>;
}

/// What the config asks for, checked.
pub trait Spec: Send + Sync + fmt::Debug {
    /// One running handler; called once per shard.
    ///
    /// - `tables`: has every table that the settings name.
    fn build(&self, tables: &Shelf) -> Box<dyn Handler>;
    /// Members that every JSON payload of an output has at its top; `None` where that is not known.
    ///
    /// - `output`: index in [`Kind::outputs`].
    fn members(&self, output: usize) -> Option<&'static [&'static str]> {
        let _ = output;
        None
    }
    /// What an output wants of the settings and does not have: a setting, and what is wrong with it.
    ///
    /// - `output`: index in [`Kind::outputs`].
    fn lacks(&self, output: usize) -> Option<(&'static str, String)> {
        let _ = output;
        None
    }
    /// Figures of how long its records took.
    fn latencies(&self) -> Latencies {
        Latencies::default()
    }
}

/// Histograms, in seconds, of how long it took until all that is required of a record was delivered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latencies {
    /// From the record's own time, which its messages carry.
    pub event: Option<&'static Figure>,
    /// From its receipt. Its first label, where it has one, says which agent.
    pub receipt: Option<&'static Figure>,
}

/// What every handler has as its last output: records that it refuses, as they were read, with the reason in a header.
/// What takes it is the dead letter then.
pub const REJECTED: &str = "rejected";

/// One output of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// Empty for the primary output (`dfn`), else what follows the dot (`confirm` in `dfn.confirm`).
    pub name: &'static str,
    /// Index of the output that must be delivered first, for the same record.
    pub after: Option<usize>,
}

/// A frame with its origin.
#[derive(Clone, Copy, Debug)]
pub struct Record<'s> {
    /// Without its terminator (`\n` or `\r\n`).
    pub frame: &'s [u8],
    pub origin: Origin<'s>,
    /// Wall time at which it was seen, nanoseconds since 1970.
    pub received: Nanos,
    /// True for an event of the agent itself (source `agent`), never for anything read.
    pub own: bool,
}

/// Which frames a handler can have any use for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needles {
    /// Every frame.
    All,
    /// Only frames that contain at least one of these strings, or a `\u00` escape, which may hide one. Where one of them is
    /// empty or not ASCII: every frame.
    Any(Vec<Vec<u8>>),
}

/// What became of a record in one handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// At least one message went into the outbox.
    Emitted,
    /// Nothing to send, by rule; the reason is a metric label.
    Dropped(&'static str),
    /// The record is wrong; it goes to the dead letter.
    Rejected(Rejection),
}

/// Why a record is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// A metric label: `not_json`, `too_long`, …
    pub reason: &'static str,
    /// For a person: what exactly.
    pub detail: String,
}

/// A running handler.
pub trait Handler {
    /// Byte strings of which at least one occurs in every frame that could emit something.
    ///
    /// The law: for frames that are valid JSON the messages are the same with and without this.
    fn needles(&self) -> Needles;
    /// Handles one record. The alert parses on first use.
    fn handle(&mut self, record: &Record<'_>, alert: &mut Alert<'_>, out: &mut Outbox<'_>) -> Fate;
    /// What is whole of a frame that is no JSON, for a handler whose records are not the manager's alerts, or that can mend
    /// the frame: pieces in order that cover all of it. `None`: as [`salvage`](crate::alert::salvage) takes it apart.
    fn salvage(&mut self, frame: &[u8]) -> Option<Vec<Piece>> {
        let _ = frame;
        None
    }
    /// What it saw and why it decided so, as JSON members for `try --explain`; for people, not fast.
    fn explain(&mut self, record: &Record<'_>, alert: &mut Alert<'_>) -> Vec<(&'static str, String)> {
        let _ = (record, alert);
        Vec::new()
    }
}
