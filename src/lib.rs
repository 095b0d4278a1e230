//! shipper: a log shipper agent.
//!
//! Bytes flow one way, *source → frame → record → alert → handler → batch → sink*; acks flow
//! back, *sink → ack → watermark → checkpoint*. A shard is one thread on one core and shares
//! nothing; whatever crosses between threads crosses a ring. `async` lives at the edges; the
//! middle is plain functions on bytes. Time, disk and network are handed in, because the
//! simulator hands in its own.
//!
//! Read `docs/ARCHITECTURE.md` for the map, then the modules in this order.

#![deny(unsafe_code)]

pub mod clock;
pub mod hmac;
pub mod journal;
pub mod json;
pub mod limits;
pub mod metrics;
pub mod position;
pub mod register;

pub mod io;
pub mod ring;
pub mod store;

pub mod alert;
pub mod batch;
pub mod checkpoint;
pub mod dead_letter;
pub mod detect;
pub mod framing;
pub mod intel;
pub mod ledger;
pub mod spool;
pub mod synth;
pub mod tables;

pub mod parcel;

pub mod net;
pub mod put_by;

pub mod api;
pub mod handlers;
pub mod lookups;
pub mod reference;
pub mod scan;
pub mod sinks;
pub mod sources;
pub mod stages;

pub mod cli;
pub mod topology;
