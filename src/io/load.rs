//! How busy the host is: processors, memory, network. What cannot be read or is not told is absent, never 0.

#![allow(clippy::disallowed_methods, reason = "an engine is where the real machine is touched")]

use std::fs;

/// The host at one look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// 0 to 100, of all processors together, since the look before: time that was neither idle nor spent waiting for a disk.
    pub cpu_percent: Option<f64>,
    /// 0 to 100: what could not be had without pushing others out.
    pub memory_percent: Option<f64>,
    pub memory_available_bytes: Option<u64>,
    /// Since the host's start, over all interfaces but loopback.
    pub received_bytes: Option<u64>,
    pub sent_bytes: Option<u64>,
}

/// Looks at the host again and again. One for each who looks: a share of time is that since its own last look.
#[derive(Debug, Default)]
pub struct Gauge {
    before: Option<Ticks>,
}

/// Time of all processors since the host's start, in ticks of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    all: u64,
    busy: u64,
}

impl Gauge {
    /// Looks now. The first look tells no share of time.
    ///
    /// # Source
    /// /proc/stat, /proc/meminfo, /proc/net/dev (proc(5)).
    pub fn look(&mut self) -> Load {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        self.read(&text("/proc/stat"), &text("/proc/meminfo"), &text("/proc/net/dev"))
    }

    fn read(&mut self, stat: &str, meminfo: &str, net_dev: &str) -> Load {
        let now = ticks(stat);
        let before = std::mem::replace(&mut self.before, now);
        let memory = memory(meminfo);
        let network = network(net_dev);
        Load {
            cpu_percent: before.zip(now).and_then(|(before, now)| now.share_since(before)),
            memory_percent: memory.map(|(total, available)| (total - available) as f64 / total as f64 * 100.0),
            memory_available_bytes: memory.map(|(_, available)| available),
            received_bytes: network.map(|(received, _)| received),
            sent_bytes: network.map(|(_, sent)| sent),
        }
    }
}

impl Ticks {
    /// Percent; `None` if no time has gone by.
    fn share_since(self, before: Self) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|all| *all > 0)?;
        // The kernel's time of waiting for disks may go back a little, and what is busy with it.
        let busy = self.busy.saturating_sub(before.busy).min(all);
        Some(busy as f64 / all as f64 * 100.0)
    }
}

/// The line of all processors: user, nice, system, idle, iowait, irq, softirq, steal. Guests come after, and are in user already.
fn ticks(stat: &str) -> Option<Ticks> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let spent: Vec<u64> = line.split_ascii_whitespace().take(8).map_while(|ticks| ticks.parse().ok()).collect();
    let (idle, iowait) = (*spent.get(3)?, spent.get(4).copied().unwrap_or(0));
    let all = spent.iter().fold(0u64, |sum, ticks| sum.saturating_add(*ticks));
    Some(Ticks { all, busy: all.saturating_sub(idle.saturating_add(iowait)) })
}

/// Bytes in all, and those that are to be had.
fn memory(meminfo: &str) -> Option<(u64, u64)> {
    let of = |name: &str| {
        let value = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    let total = of("MemTotal").filter(|total| *total > 0)?;
    Some((total, of("MemAvailable")?.min(total)))
}

/// Bytes received and sent.
fn network(net_dev: &str) -> Option<(u64, u64)> {
    let mut sums = None;
    for (name, counts) in net_dev.lines().filter_map(|line| line.split_once(':')) {
        if name.trim() == "lo" {
            continue;
        }
        let mut counts = counts.split_ascii_whitespace().map(|count| count.parse::<u64>().ok());
        // Eight counts of what came in, the first of them bytes, and then those of what went out.
        if let (Some(Some(received)), Some(Some(sent))) = (counts.next(), counts.nth(7)) {
            let (all_received, all_sent) = sums.unwrap_or((0u64, 0u64));
            sums = Some((all_received.saturating_add(received), all_sent.saturating_add(sent)));
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of user 100, nice 10, system 40, idle 800, iowait 30, irq 5, softirq 10, steal 5; the guest's 60 are in user.
    const STAT: &str = "cpu  100 10 40 800 30 5 10 5 60 0\ncpu0 50 5 20 400 15 2 5 2 30 0\nintr 9 9 9\nctxt 5\n";
    const MEMINFO: &str = "MemTotal:        8000000 kB\nMemFree:          100000 kB\nMemAvailable:    2000000 kB\nBuffers:  1 kB\n";
    const NET_DEV: &str = "Inter-|   Receive                                                |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
        lo: 999999 10 0 0 0 0 0 0 999999 10 0 0 0 0 0 0\n  eth0: 1000 10 0 0 0 0 0 0 300 5 0 0 0 0 0 0\n\
        wlan0:  24 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n";

    #[test]
    fn what_the_kernel_counts_is_read() {
        assert_eq!(ticks(STAT), Some(Ticks { all: 1000, busy: 170 }));
        // Kernels before 2.6 told four of them; nobody tells fewer.
        assert_eq!(ticks("cpu  1 2 3 4\n"), Some(Ticks { all: 10, busy: 6 }));
        assert_eq!(memory(MEMINFO), Some((8_192_000_000, 2_048_000_000)));
        assert_eq!(network(NET_DEV), Some((1024, 307)));
    }

    #[test]
    fn what_cannot_be_read_is_absent() {
        for text in ["", "\n", "cpu", "cpu  1 2 3", "cpu  a b c d", "cpu0 1 2 3 4 5", "cpux 1 2 3 4"] {
            assert_eq!(ticks(text), None, "{text:?}");
        }
        for text in ["", "MemTotal: 0 kB\nMemAvailable: 0 kB", "MemTotal: 5 kB", "MemAvailable: 5 kB", "MemTotal: x kB\nMemAvailable: 5 kB"]
        {
            assert_eq!(memory(text), None, "{text:?}");
        }
        for text in ["", "eth0: 1 2 3", "eth0: x 0 0 0 0 0 0 0 1", "lo: 1 0 0 0 0 0 0 0 1 0"] {
            assert_eq!(network(text), None, "{text:?}");
        }
        assert_eq!(Gauge::default().read("", "", ""), Load::default());
        // More to be had than there is: a container's view may be made of two.
        assert_eq!(memory("MemTotal: 5 kB\nMemAvailable: 9 kB"), Some((5120, 5120)));
    }

    #[test]
    fn a_share_is_that_since_the_look_before() {
        let cpu = |gauge: &mut Gauge, stat: &str| gauge.read(stat, "", "").cpu_percent;
        let mut gauge = Gauge::default();
        assert_eq!(cpu(&mut gauge, "cpu 100 0 0 900 0"), None, "the first look");
        assert_eq!(cpu(&mut gauge, "cpu 175 0 0 925 0"), Some(75.0));
        assert_eq!(cpu(&mut gauge, "cpu 175 0 0 925 100"), Some(0.0), "whoever waits for a disk keeps no processor busy");
        assert_eq!(cpu(&mut gauge, "cpu 175 0 0 925 100"), None, "no time has gone by");
        assert_eq!(cpu(&mut gauge, "cpu 275 0 0 925 90"), Some(100.0), "iowait went back");
        assert_eq!(cpu(&mut gauge, ""), None);
        assert_eq!(cpu(&mut gauge, "cpu 300 0 0 1000 90"), None, "nothing was known at the look before");
        assert_eq!(cpu(&mut gauge, "cpu 1 0 0 2 0"), None, "the host's counts began anew");
    }

    #[test]
    fn this_host_tells() {
        let mut gauge = Gauge::default();
        let first = gauge.look();
        assert_eq!(first.cpu_percent, None);
        let percent = first.memory_percent.unwrap();
        assert!(percent > 0.0 && percent < 100.0, "{first:?}");
        assert!(first.memory_available_bytes.unwrap() > 1 << 20, "{first:?}");
        // Time goes by while somebody computes.
        let share = (0..10_000).find_map(|_| gauge.look().cpu_percent).unwrap();
        assert!((0.0..=100.0).contains(&share), "{share}");
    }
}
