//! `influx`: lines of line protocol written into an InfluxDB, of 1.x, 2.x or 3.
//!
//! - [`running`]: takes, gathers, writes, heeds the answer; start there.
//! - [`lines`]: what waits, which lines go together, what becomes of each. Pure.
//! - [`fates`]: what an answer means. Pure tables.
//! - [`settings`], [`session`]: what is asked for, and the open way with its secrets.
//! - [`check`]: what `shipper check` tells of one.
//!
//! A payload is one line or several, and is final: nothing of it is changed, nothing is added. A message
//! is acked once all its lines are written; it is refused, whole, once one of them was proven to be
//! refused alone (decision 13).
//!
//! Invariant: URL, bucket and login come from the settings alone, and no text holds a secret.

mod check;
mod fates;
mod lines;
mod running;
mod session;
mod settings;
#[cfg(test)]
mod tests;

use super::{Finding, Kind, Sink, SinkError, Spec, Thread};
use crate::{
    clock::Nanos,
    register::{Field, Section},
};
use settings::Settings;

/// The kind.
pub struct Influx;

impl Kind for Influx {
    fn name(&self) -> &'static str {
        "influx"
    }
    fn about(&self) -> &'static str {
        "lines of line protocol into InfluxDB 1.x, 2.x or 3, in batches, down to the one that it refuses"
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
        Ok(Box::new(running::Influx { name: name.to_owned(), settings: self.clone() }))
    }
    fn check_files(&self, _name: &str, _now: Nanos) -> Vec<Finding> {
        check::files(self)
    }
    fn check(&self, _name: &str) -> Vec<Finding> {
        check::asks(self)
    }
}
