//! Figures of the process itself, under the names that every exporter uses for them.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::{counter::Counter, gauge::Gauge, info::Info};

use super::{Face, VERSION};
use crate::{
    clock::{Clock, Nanos},
    io::usage,
    metrics::{Labels, labels},
    store::StoreHandle,
};

/// Set at each scrape.
pub(super) struct Process {
    cpu: Counter<f64, AtomicU64>,
    resident: Gauge,
    open_files: Gauge,
    open_files_max: Gauge,
    uptime: Gauge<f64, AtomicU64>,
    dead_letter: Gauge,
}

impl Process {
    pub(super) fn new(face: &Face) -> Self {
        let process = Self {
            cpu: Counter::default(),
            resident: Gauge::default(),
            open_files: Gauge::default(),
            open_files_max: Gauge::default(),
            uptime: Gauge::default(),
            dead_letter: Gauge::default(),
        };
        let metrics = &face.metrics;
        let build: Info<Labels> = Info::new(labels([("version", VERSION)]));
        metrics.register("shipper_build", "The build that runs", build);
        let agent: Info<Labels> = Info::new(labels([("instance", &face.instance), ("engine", &face.engine)]));
        metrics.register("shipper_agent", "The agent's name and how it reads files", agent);
        metrics.register("shipper_uptime_seconds", "Since the agent was started", process.uptime.clone());
        metrics.register("shipper_dead_letter_stored_bytes", "Bytes of the dead letter on disk", process.dead_letter.clone());
        let limit = Gauge::<i64>::default();
        limit.set(narrow(face.dead_letter_bytes_max));
        metrics.register("shipper_dead_letter_limit_bytes", "Bytes at which the dead letter is full", limit);
        metrics.register("process_cpu_seconds", "Time on processors, user and kernel", process.cpu.clone());
        metrics.register("process_resident_memory_bytes", "Bytes resident in memory", process.resident.clone());
        metrics.register("process_open_fds", "Open descriptors", process.open_files.clone());
        metrics.register("process_max_fds", "How many descriptors may be open", process.open_files_max.clone());
        let started = Gauge::<f64, AtomicU64>::default();
        started.set(face.clock.now().saturating_sub(face.clock.mono()) as f64 / 1e9);
        metrics.register("process_start_time_seconds", "When the process was started, seconds since 1970", started);
        process
    }

    /// - `mono`: monotonic now; the clock was begun with the agent.
    pub(super) fn refresh(&self, face: &Face, mono: Nanos) {
        let usage = usage();
        // A counter can only be added to; one thread does.
        self.cpu.inc_by((usage.cpu.as_secs_f64() - self.cpu.get()).max(0.0));
        self.resident.set(narrow(usage.resident_bytes));
        self.open_files.set(narrow(usage.open_files));
        self.open_files_max.set(usage.open_files_max.map_or(-1, narrow));
        self.uptime.set(mono as f64 / 1e9);
        self.dead_letter.set(narrow(face.store.as_ref().map_or(0, StoreHandle::dead_letter_bytes)));
    }
}

fn narrow(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
