//! What needs the whole crate, in one binary.

mod engines;
mod vectors_dfn;
//! What needs the whole, in one binary: one link, many tests.
#![allow(clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]

mod tidy;
