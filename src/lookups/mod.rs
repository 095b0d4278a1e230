//! What asks someone else about a message and emits what it learns.

pub mod misp;
