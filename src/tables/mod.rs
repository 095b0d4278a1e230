//! Reference data beside the path of records: read-only, swapped whole. Bytes and meaning, no I/O.
//!
//! The indicators of a MISP server or feed: an export (`exports`) gives attributes, `build` sorts
//! them into two files, and a running agent reads those:
//!
//! - the *filter* is in memory and is asked for every indicator that an alert holds: "no" is
//!   certain, "yes" is wrong once in 65,536 times;
//! - the *mirror* stays on disk and is asked only after a yes: it has event, tags and category.
//!
//! What changed since the last full build is in [`changes`], small and exact. [`Indicators`] is
//! filter and changes together. A false yes costs one look-up, a false no is impossible: that is
//! the promise every test here holds on to.
//!
//! [`Shelf`] has the tables of a running agent by name; each is swapped whole.
//!
//! `warninglists` says which values are known to be harmless, and which are only worth a note.
//!
//! Of an address, [`Reputation`] names the list of bad ones that it is on, and [`GeoIp`] the place
//! where it is. [`Suppressions`] hold back alerts that an operator does not want for a while.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

pub mod attribute;
pub mod build;
pub mod changes;
pub mod exports;
pub mod filter;
mod fuse;
pub mod geoip;
pub mod held;
pub mod indicators;
pub mod key;
pub mod kinds;
pub mod mirror;
pub mod model;
pub mod networks;
pub mod private;
pub mod reputation;
pub mod sigma;
pub mod suppressions;
pub mod value;
pub mod warninglists;

pub use attribute::{Attribute, Indicator, Uuid};
pub use filter::{Filter, TableError};
pub use geoip::GeoIp;
pub use held::{Held, Reader, Shelf};
pub use indicators::{Hit, Indicators};
pub use key::Key;
pub use kinds::Kind;
pub use mirror::{Mirror, MirrorError, ReadAt};
pub use reputation::Reputation;
pub use suppressions::Suppressions;
pub use warninglists::Warninglists;
