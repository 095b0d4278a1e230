//! `misp`: asks a MISP instance which indicators it knows.
//!
//! - [`core`]: which questions become which searches, and what answers mean. Pure; start there.
//! - [`value`], [`attribute`], [`answer`], [`networks`], [`cache`], [`query`], [`sightings`]: its
//!   parts, pure as well.
//! - [`client`]: drives it. [`session`]: the calls to MISP. [`shared`]: the cache in Redis.
//!
//! Invariant: a question is never skipped. It waits while MISP is away, its key is refused, or its
//! own limit is used up; only a value that MISP refuses alone is given up, and said.

pub mod answer;
pub mod attribute;
pub mod cache;
pub mod client;
pub mod core;
pub mod networks;
pub mod query;
pub mod session;
pub mod settings;
pub mod shared;
pub mod sightings;
pub mod value;

pub use client::Misp;
pub use settings::{FIELDS, Settings};
