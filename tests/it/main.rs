//! What needs the whole crate, in one binary.

mod engines;
mod vectors_dfn;
