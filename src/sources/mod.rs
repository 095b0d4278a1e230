//! What brings records in, in the order of their stream, each with its position.
//!
//! A source runs on one shard, the home of its streams. It takes credits before it hands a slab
//! in ([`Admit`]) and is the only thing in the agent that waits for them: a slow sink ends as
//! unread bytes in the file, which is where they are safe.
//!
//! Adding one is one file and one line in [`ALL`].

use std::{fmt, rc::Rc};

use crate::{
    io::{Io, LocalFuture},
    metrics::Standing,
    register::{Field, Section},
};

crate::register! { Kind:
    stdin::Stdin,
}

/// What exists: a kind of source.
pub trait Kind: Sync {
    /// As in `kind = "…"`.
    fn name(&self) -> &'static str;
    /// One line for `shipper list`.
    fn about(&self) -> &'static str;
    /// Its settings.
    fn fields(&self) -> &'static [Field];
    /// Reads its settings; wrong ones are noted in the section.
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec>;
}

/// What the config asks for, checked.
pub trait Spec: Send + Sync + fmt::Debug {
    /// One running source.
    fn build(&self, name: &str) -> Box<dyn Source>;
}

/// A running source.
pub trait Source {
    /// Runs until the admission is closed (drain) or the source has ended (stdin).
    fn run(self: Box<Self>, io: Rc<dyn Io>, admit: Rc<dyn Admit>, standing: Standing) -> LocalFuture<'static, Result<(), SourceError>>;
}

/// The way into the topology, one per source.
pub trait Admit {
    /// True once the source should stop reading.
    fn is_closed(&self) -> bool;
}

/// What ends a source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Can never work with these settings on this host.
    #[error("source {source_name}: {what}")]
    Settings { source_name: String, what: String },
}
