//! The graph: what the operator wrote → what we will run.
//!
//! [`Config`] is the config as written, every setting read against its table and every error
//! kept; [`Plan`] is the checked graph. Nothing is opened on the way: a plan costs no I/O.
//!
//! Start at [`Plan::build`].

mod admission;
pub mod aides;
pub mod config;
pub mod face;
mod flight;
pub mod globals;
pub mod handle;
pub mod home;
pub mod host;
mod lent;
mod made;
mod order;
pub mod plan;
pub mod pulse;
pub mod rows;
pub mod run;
pub mod scanning;
pub mod sharing;
mod silence;
pub mod spooled;
pub mod staged;
mod stream;
pub mod tables;
mod wires;

pub use config::{Config, ConfigError, Flag, Host};
pub use globals::{DeadLetterSettings, Engine, Globals, Listen, LogFormat, LogSettings, OnFull};
pub use plan::{HandlerPlan, LookupPlan, OutputPlan, Plan, SinkPlan, SourcePlan, StagePlan, TablePlan};

#[cfg(test)]
mod tests;
