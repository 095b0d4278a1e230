//! Logs that other programs write, read for what they say of files: a tail of whole lines, and the JSON objects of a line.
//!
//! Nothing that is read here is owed to anybody: a line that is lost costs a relation, never a task. So there are no
//! positions and no acks, unlike in the sources.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

mod json;
mod tail;

pub use self::{
    json::{instant, objects},
    tail::{Tail, TailError},
};
