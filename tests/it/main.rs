//! What needs the whole crate, in one binary.

mod vectors_dfn_config;
