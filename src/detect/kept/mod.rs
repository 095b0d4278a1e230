//! Alerts that are kept so that people can look at them. Pure.
//!
//! - [`brief`]: what of an alert's JSON decides where it lies and how it is counted; start there.
//! - [`query`]: which alerts are asked for, in which order, and their sums.
//! - [`recent`]: the newest in memory.
//! - [`keys`]: how they lie in Redis.
//! - [`behaviour`]: what an entity does as a rule, and who is asked for it.
//!
//! Refuses to know what an alert says beyond its [`Brief`]: its bytes are shown as they came.

pub mod behaviour;
pub mod brief;
pub mod keys;
pub mod query;
pub mod recent;

pub use behaviour::{Behaviour, Questions};
pub use brief::Brief;
pub use keys::Keys;
pub use query::{Before, Query, Stats};
pub use recent::{Kept, Recent};
