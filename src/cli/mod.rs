//! The commands; one file a command.

pub mod scratch;
