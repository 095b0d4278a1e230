//! What this process takes of its host.

#![allow(clippy::disallowed_methods, reason = "an engine is where the real machine is touched")]

use std::{fs, time::Duration};

use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

/// Memory, time and descriptors of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Bytes resident in memory; 0 where /proc is not mounted.
    pub resident_bytes: u64,
    /// Time on processors since the start, all threads, in user and kernel.
    pub cpu: Duration,
    /// Open descriptors; 0 where /proc is not mounted.
    pub open_files: u64,
    /// How many may be open; `None` for no limit.
    pub open_files_max: Option<u64>,
}

/// Asks what this process takes now.
///
/// # Source
/// /proc/self (proc(5)), getrlimit(2), clock_gettime(2).
pub fn usage() -> Usage {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<u64>().ok());
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    Usage {
        resident_bytes: resident.unwrap_or(0) * 1024,
        cpu: Duration::new(u64::try_from(cpu.tv_sec).unwrap_or(0), u32::try_from(cpu.tv_nsec).unwrap_or(0)),
        // The listing itself has one open.
        open_files: fs::read_dir("/proc/self/fd").map_or(0, |names| (names.count() as u64).saturating_sub(1)),
        open_files_max: getrlimit(Resource::Nofile).current,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_takes_something() {
        let usage = super::usage();
        assert!(usage.resident_bytes > 1 << 20, "{usage:?}");
        assert!(!usage.cpu.is_zero(), "{usage:?}");
        assert!(usage.open_files >= 3, "{usage:?}");
    }
}
