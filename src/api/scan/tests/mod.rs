//! The routes over real sockets, a real store and real files.

#![allow(clippy::disallowed_methods, reason = "tests")]

mod access;
pub(in crate::api) mod harness;
mod refusals;
mod shape;
mod tasks;
mod workers;
