//! The agent as a process against a real Apache Kafka, and lookups with a real Redis; `tools/test services`
//! starts them and sets the environment. Sinks against a real InfluxDB and Redis, a source against a real OpenSearch (`tools/test
//! opensearch`). MISP, which cannot be had here, is a stand-in.
//!
//! Where `KAFKA_BROKERS`, `REDIS_URL` or another is not set every test that needs it says that it skips. `SERVICES_ALERTS`
//! makes the two long runs as long as one likes (1M for the record), `SERVICES_OUTAGE` the outages (60s),
//! `SERVICES_EVENTS` the runs of events through Redis (200000), `SERVICES_MESSAGES` the run with poison (100000 unless set).
#![allow(clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]

mod agent;
mod apt;
mod broker;
mod delivery;
mod driven;
mod firewall;
mod influx;
mod kafka_source;
#[path = "../support/kafka_writer.rs"]
mod kafka_writer;
mod misp;
#[path = "../support/misp.rs"]
mod misp_standin;
mod opensearch;
mod redis;
mod redis_alerts;
mod redis_sink;
mod redis_stream;
mod refusals;
#[cfg(feature = "scan")]
mod scan_corpus;
mod scan_queues;
mod tls;
mod topic;
mod waf;
