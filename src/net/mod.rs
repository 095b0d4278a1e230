//! Shared clients of network protocols.
//!
//! Refuses to know what a record, a sink or a source is: these modules speak a protocol and say
//! what went wrong in an operator's words.

pub mod kafka;
pub mod tls;
