//! The agent against a real Apache Kafka; `tools/test services` starts it and sets the environment.
//!
//! Where `KAFKA_BROKERS` is not set every test says that it skips. `SERVICES_ALERTS` makes the two
//! long runs as long as one likes (1M for the record).
#![allow(clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]

mod agent;
mod broker;
mod delivery;
mod refusals;
mod tls;
mod topic;
