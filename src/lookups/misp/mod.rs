//! `misp`: asks a MISP instance which indicators it knows.
//!
//! - [`core`]: which questions become which searches, and what answers mean. Pure; start there.
//! - [`value`] (of `tables`, which the handler `ioc` asks by as well), [`attribute`], [`answer`], [`networks`], [`cache`], [`query`], [`sightings`],
//!   [`record`]: its parts, pure as well.
//! - [`mirror`]: answers from the local tables in MISP's place; [`local`]: rows as their attributes and back.
//! - [`sync`]: makes the tables what MISP has; `periodic`: again and again, beside the lookup.
//! - [`client`]: drives it. [`session`]: the calls to MISP. [`shared`]: the cache in Redis.
//! - `figures`: what is told of it in figures.
//! - `running`: the lookup of a topology. `check`: what `shipper check` tells of one.
//!
//! Invariant: a question is never skipped. It waits while MISP is away, its key is refused, or its
//! own limit is used up, in memory or on disk; only a value that MISP refuses alone is given up, and said.

pub mod answer;
pub mod attribute;
pub mod cache;
mod check;
pub mod client;
pub mod core;
mod figures;
pub mod local;
pub mod mirror;
pub mod networks;
mod periodic;
pub mod query;
pub mod record;
mod running;
pub mod session;
pub mod settings;
pub mod shared;
pub mod sightings;
pub mod sync;

pub use crate::tables::value;
pub use client::Client;
pub use mirror::Mirror;
pub use settings::{FIELDS, Mode, Settings};

use super::{Finding, Given, Kind, Lookup, LookupError, Spec, Spooling};
use crate::{
    clock::Nanos,
    register::{Field, Section},
};

/// The kind.
pub struct Misp;

impl Kind for Misp {
    fn name(&self) -> &'static str {
        "misp"
    }
    fn about(&self) -> &'static str {
        "asks MISP, or a mirror of it, which indicators of handler ioc it knows; a record for each that it does"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn outputs(&self) -> &'static [&'static str] {
        running::OUTPUTS
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        Box::new(Settings::parse(section))
    }
}

impl Spec for Settings {
    fn build(&self, name: &str, given: &Given<'_>) -> Result<Box<dyn Lookup>, LookupError> {
        // The config is checked for it; a table that nobody placed is one that is never filled.
        let held = |table: &String| given.tables.of(table).unwrap_or_default();
        Ok(Box::new(running::Running {
            settings: self.clone(),
            name: name.to_owned(),
            held: self.indicators.as_ref().map(held),
            state_dir: given.state_dir.to_owned(),
        }))
    }
    fn spool(&self) -> Option<Spooling> {
        Some(Spooling { max: self.spool_max })
    }
    fn waits(&self) -> bool {
        self.mode == Mode::Ask && self.spool_max.is_none()
    }
    fn check_files(&self, _name: &str, _now: Nanos) -> Vec<Finding> {
        check::files(self)
    }
    fn check(&self, _name: &str) -> Vec<Finding> {
        check::asks(self)
    }
}
