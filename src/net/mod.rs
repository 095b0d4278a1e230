//! Shared clients of network protocols.
//!
//! Refuses to know what a record, a sink or a source is: these modules speak a protocol and say
//! what went wrong in an operator's words.

pub mod acceptor;
pub mod backoff;
pub mod base64;
pub mod breaker;
pub mod bucket;
pub mod http;
pub mod kafka;
pub mod redis;
pub mod secret;
pub mod tls;
