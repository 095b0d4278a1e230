//! Figures of the process itself, under the names that every exporter uses for them.
//!
//! In a registry of their own: a face comes and goes with each reload, and what is registered twice
//! is told twice.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, gauge::Gauge, info::Info},
    registry::Registry,
};

use super::{Face, VERSION};
use crate::{
    clock::{Clock, Nanos},
    io::usage,
    metrics::{Counts, Labels, labels},
    store::StoreHandle,
};

/// Set at each scrape.
pub(super) struct Process {
    registry: Registry,
    cpu: Counter<f64, AtomicU64>,
    resident: Gauge,
    open_files: Gauge,
    open_files_max: Gauge,
    uptime: Gauge<f64, AtomicU64>,
    dead_letter: Gauge,
}

impl Process {
    /// - `requests`: by route and status.
    pub(super) fn new(face: &Face, requests: Counts) -> Self {
        let mut registry = Registry::default();
        let (cpu, uptime) = (Counter::<f64, AtomicU64>::default(), Gauge::<f64, AtomicU64>::default());
        let [resident, open_files, open_files_max, dead_letter, limit] = [(); 5].map(|()| Gauge::<i64>::default());
        let started = Gauge::<f64, AtomicU64>::default();
        let build: Info<Labels> = Info::new(labels([("version", VERSION)]));
        let agent: Info<Labels> = Info::new(labels([("instance", &face.instance), ("engine", &face.engine)]));
        limit.set(narrow(face.dead_letter_bytes_max));
        started.set(face.clock.now().saturating_sub(face.clock.mono()) as f64 / 1e9);
        registry.register("shipper_build", "The build that runs", build);
        registry.register("shipper_agent", "The agent's name and how it reads files", agent);
        registry.register("shipper_api_requests", "Requests by route and status of the answer", requests);
        registry.register("shipper_uptime_seconds", "Since the agent was started", uptime.clone());
        registry.register("shipper_dead_letter_stored_bytes", "Bytes of the dead letter on disk", dead_letter.clone());
        registry.register("shipper_dead_letter_limit_bytes", "Bytes at which the dead letter is full", limit);
        registry.register("process_cpu_seconds", "Time on processors, user and kernel", cpu.clone());
        registry.register("process_resident_memory_bytes", "Bytes resident in memory", resident.clone());
        registry.register("process_open_fds", "Open descriptors", open_files.clone());
        registry.register("process_max_fds", "How many descriptors may be open", open_files_max.clone());
        registry.register("process_start_time_seconds", "When the process was started, seconds since 1970", started);
        Self { registry, cpu, resident, open_files, open_files_max, uptime, dead_letter }
    }

    /// All figures, the agent's and these, as of now.
    /// - `mono`: monotonic now; the clock was begun with the agent.
    /// - `more`: figures of others, in the same form, without an end.
    pub(super) fn text(&self, face: &Face, mono: Nanos, more: &str) -> String {
        let usage = usage();
        // A counter can only be added to; one thread does.
        self.cpu.inc_by((usage.cpu.as_secs_f64() - self.cpu.get()).max(0.0));
        self.resident.set(narrow(usage.resident_bytes));
        self.open_files.set(narrow(usage.open_files));
        self.open_files_max.set(usage.open_files_max.map_or(-1, narrow));
        self.uptime.set(mono as f64 / 1e9);
        self.dead_letter.set(narrow(face.store.as_ref().map_or(0, StoreHandle::dead_letter_bytes)));
        let mut text = face.metrics.text();
        // One text has one end.
        text.truncate(text.trim_end_matches("# EOF\n").len());
        text.push_str(more);
        // Writing into a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn narrow(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
