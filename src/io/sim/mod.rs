//! The simulated machine: tasks, time, files and a disk that are a seed's, so one seed is one run.
//!
//! - [`Machine`] runs the tasks of several threads on one real thread, in an order that the seed
//!   chooses, and moves its clock to the next timer when none can run.
//! - [`Files`] is its file system. The world changes it directly; an agent reads through
//!   [`Thread`] (the engine `sim`) and writes through [`SimDisk`], each call of which can be its
//!   last.
//! - [`Chance`] is where every choice comes from.
//!
//! It is meaner than a real machine where that costs nothing: reads are short, hints come late or
//! never, and after a power loss what was not synced is there, half there, zeros or gone.

mod chance;
mod disk;
mod files;
mod machine;
mod thread;

pub use chance::Chance;
pub use disk::SimDisk;
pub use files::{Files, Left, Trouble};
pub use machine::{Group, Machine, SimClock};
pub use thread::Thread;

#[cfg(test)]
mod tests;
