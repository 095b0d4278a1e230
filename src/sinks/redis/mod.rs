//! `redis`: messages onto a list, into a stream, out on a channel of a Redis; one of them or several.
//!
//! - [`running`]: takes, sends, heeds the answers; start there.
//! - [`form`]: messages as commands, and how a list gets each once. Pure.
//! - [`waiting`]: what waits, and which forms of it are done. Pure.
//! - [`fates`]: what an error means. Pure table.
//! - [`settings`], [`check`]: what is asked for, and what `shipper check` tells.
//!
//! Invariant: keys and channels come from the settings alone; of a message only its hash is in a key's name.

mod check;
mod fates;
mod form;
mod running;
mod settings;
mod waiting;

use super::{Finding, Kind, Sink, SinkError, Spec, Thread};
use crate::{
    clock::Nanos,
    register::{Field, Section},
};
use settings::Settings;

/// The kind.
pub struct Redis;

impl Kind for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }
    fn about(&self) -> &'static str {
        "messages onto a list (each once), into a stream, or published, in a Redis"
    }
    fn fields(&self) -> &'static [Field] {
        settings::FIELDS
    }
    fn required(&self) -> bool {
        true
    }
    fn thread(&self) -> Thread {
        Thread::Edge
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        Box::new(Settings::parse(section, self.required()))
    }
}

impl Spec for Settings {
    fn build(&self, name: &str) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(running::Redis { name: name.to_owned(), settings: self.clone() }))
    }
    fn check_files(&self, _name: &str, _now: Nanos) -> Vec<Finding> {
        check::files(self)
    }
    fn check(&self, _name: &str) -> Vec<Finding> {
        check::asks(self)
    }
}
