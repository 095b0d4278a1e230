//! `webhook`: messages posted to a URL.
//!
//! - [`running`]: takes, gathers, posts, heeds the answer; start there.
//! - [`fates`]: what an answer means. Pure tables.
//! - [`form`]: bodies of requests. [`waiting`]: what waits, and how many go together. Pure.
//! - [`settings`], [`session`]: what is asked for, and the open way with its secrets.
//! - [`check`]: what `shipper check` tells of one.
//!
//! Not required by default: it takes messages over at hand-in and never makes anybody wait. With
//! `required = true` it answers for each: delivered when the receiver said 2xx, refused when it
//! called the message wrong that stood alone.
//!
//! Invariant: the URL comes from the settings alone, and no text holds its path or a secret.

mod check;
mod fates;
mod form;
mod running;
mod session;
mod settings;
mod signature;
#[cfg(test)]
mod tests;
mod waiting;

use super::{Finding, Kind, Sink, SinkError, Spec, Thread};
use crate::{
    clock::Nanos,
    register::{Field, Section},
};
use settings::Settings;

/// The kind.
pub struct Webhook;

impl Kind for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }
    fn about(&self) -> &'static str {
        "messages posted to a URL, one or many a request; alerts for PagerDuty or Slack"
    }
    fn fields(&self) -> &'static [Field] {
        settings::FIELDS
    }
    fn required(&self) -> bool {
        false
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
        Ok(Box::new(running::Webhook { name: name.to_owned(), settings: self.clone() }))
    }
    fn check_files(&self, _name: &str, _now: Nanos) -> Vec<Finding> {
        check::files(self)
    }
}
