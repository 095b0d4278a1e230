//! `misp`: asks a MISP instance which indicators it knows.
//!
//! - [`core`]: which questions become which searches, and what answers mean. Pure; start there.
//! - [`value`], [`attribute`], [`answer`], [`networks`], [`cache`]: its parts, pure as well.
//!
//! Invariant: a question is never skipped. It waits while MISP is away, its key is refused, or its
//! own limit is used up; only a value that MISP refuses alone is given up, and said.

pub mod answer;
pub mod attribute;
pub mod cache;
pub mod core;
pub mod networks;
pub mod value;
