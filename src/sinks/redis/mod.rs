//! `redis`: messages onto a list, into a stream, out on a channel of a Redis, one of them or several; or alerts under their own ids.
//!
//! - [`running`]: takes, sends, heeds the answers; start there.
//! - [`form`]: messages as commands, and how a list gets each once. Pure.
//! - [`alerts`]: alerts as commands, with indices and counts. Pure.
//! - [`waiting`]: what waits, and which forms of it are done. Pure.
//! - [`fates`]: what an error means. Pure table.
//! - [`settings`], [`check`]: what is asked for, and what `shipper check` tells.
//!
//! Invariant: keys and channels come from the settings alone. Of a message only its hash is in a key's name; of an alert its id
//! and its entity are, behind the prefix.

mod alerts;
mod check;
mod fates;
mod form;
mod running;
mod settings;
mod waiting;

use super::{AlertShelf, Finding, Kind, Sink, SinkError, Spec, Spooling, Thread};
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
        "messages onto a list (each once), into a stream, or published, or alerts by id with indices, in a Redis"
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
        Ok(Box::new(running::Redis { name: name.to_owned(), settings: self.clone(), put_by: None }))
    }
    fn spool(&self) -> Option<Spooling> {
        self.spool_max.map(|max| Spooling { max: Some(max) })
    }
    fn shelf(&self) -> Option<AlertShelf> {
        let keys = self.alerts()?.keys.clone();
        Some(AlertShelf::Redis { server: self.server.clone(), keys })
    }
    fn check_files(&self, _name: &str, _now: Nanos) -> Vec<Finding> {
        check::files(self)
    }
    fn check(&self, _name: &str) -> Vec<Finding> {
        check::asks(self)
    }
}
