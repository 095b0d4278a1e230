//! `misp`: asks a MISP instance which indicators it knows.
//!
//! - [`core`]: which questions become which searches, and what answers mean. Pure; start there.
//! - [`value`], [`attribute`], [`answer`], [`networks`], [`cache`], [`query`], [`sightings`],
//!   [`record`]: its parts, pure as well.
//! - [`client`]: drives it. [`session`]: the calls to MISP. [`shared`]: the cache in Redis.
//! - `running`: the lookup of a topology. `check`: what `shipper check` tells of one.
//!
//! Invariant: a question is never skipped. It waits while MISP is away, its key is refused, or its
//! own limit is used up; only a value that MISP refuses alone is given up, and said.

pub mod answer;
pub mod attribute;
pub mod cache;
mod check;
pub mod client;
pub mod core;
pub mod networks;
pub mod query;
pub mod record;
mod running;
pub mod session;
pub mod settings;
pub mod shared;
pub mod sightings;
pub mod value;

pub use client::Client;
pub use settings::{FIELDS, Settings};

use super::{Finding, Kind, Lookup, LookupError, Spec};
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
        "asks MISP which indicators of handler ioc it knows; a record for each that it does"
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
    fn build(&self, _name: &str) -> Result<Box<dyn Lookup>, LookupError> {
        Ok(Box::new(self.clone()))
    }
    fn check_files(&self, _name: &str, _now: Nanos) -> Vec<Finding> {
        check::files(self)
    }
    fn check(&self, _name: &str) -> Vec<Finding> {
        check::asks(self)
    }
}
