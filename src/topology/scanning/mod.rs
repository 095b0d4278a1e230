//! Scanning of files inside the agent: what joins roots, watch, task store, children, workers and the API.
//!
//! ```text
//! roots ── watch ──┐                      ┌── give ──→ children ──┐
//! API, brokers ────┴──→ task store ───────┴── workers (API) ──────┴──→ outcome ──→ task store ──→ feed ──→ source `scan`
//! ```
//!
//! All of it runs on one thread, `scan`, beside the store's own and the watch's: what takes long happens in the children, what
//! is fsynced on the store's thread. A reload of the agent drains it, and starts it anew.
//!
//! - `give` takes what waits to the children of this host, and their answers to the store.
//! - `rounds` does what is done by the clock: rules, workers that fell silent, monitor, cleanup.
//! - `feed` is what source `scan` brings.
//! - `hands` is what the API may ask for; `related` joins Zeek's and Suricata's logs; `broker`, `push` and `worker` are for many hosts.

mod broker;
mod children;
mod cleaning;
mod feed;
mod give;
mod hands;
mod push;
mod related;
mod rounds;
pub mod settings;
mod start;
mod watching;
mod worker;

pub use start::{Around, ScanError, Scanning};
