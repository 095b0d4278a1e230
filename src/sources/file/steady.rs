//! When to look again without being called.
//!
//! A hint costs the watch thread a wake-up and a system call. Where a file grows at nearly every
//! look they buy nothing: its reader then comes by itself, as often as hints would have called it.

use std::time::Duration;

use crate::{clock::Nanos, limits};

/// Whether a file grows so steadily that the next look need not be called for.
#[derive(Debug, Default)]
pub(super) struct Steady {
    grew: Nanos,
    /// Looks that found it grown, one soon after the other; a look in vain halves it.
    streak: u32,
    gathers: Duration,
}

impl Steady {
    /// - `gathers`: how much longer than usual it may rest between two looks.
    pub(super) fn new(gathers: Duration) -> Self {
        Self { gathers, ..Self::default() }
    }

    /// Notes a look that found so many bytes; says how long after it the next one should come by
    /// itself, if it should.
    pub(super) fn looked(&mut self, found: u64, now: Nanos) -> Option<Duration> {
        if found > 0 {
            let soon = Duration::from_nanos(now.saturating_sub(self.grew)) <= Duration::from_millis(limits::STEADY_MS) + 3 * self.gathers;
            self.streak = if soon { (self.streak + 1).min(4) } else { 1 };
            self.grew = now;
        } else {
            self.streak /= 2;
        }
        let rest = match found < limits::LOOK_WORTH_BYTES {
            true => Duration::from_millis(limits::LOOK_REST_MS) + self.gathers,
            // It is worth a look without waiting for more.
            false => Duration::from_millis(limits::LOOK_REST_BUSY_MS),
        };
        (self.streak >= 2).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at a file to which `bytes` are written at `writes` (ms), as a reader times them that may rest `gathers` (ms)
    /// longer: by itself, or when called. Returns (looks, hints).
    fn follow(gathers: u64, bytes: u64, writes: impl Iterator<Item = u64>) -> (u64, u64) {
        let steady = Steady::new(Duration::from_millis(gathers));
        let (mut steady, mut rest, mut now, mut seen, mut looks, mut hints) = (steady, None, 0, None, 0, 0);
        let writes: Vec<u64> = writes.collect();
        let last = writes[writes.len() - 1];
        loop {
            now = if let Some(rest) = rest {
                now + u64::try_from(Duration::as_millis(&rest)).unwrap()
            } else {
                hints += 1;
                let Some(next) = writes.iter().copied().find(|at| seen.is_none_or(|seen| *at > seen)) else { return (looks, hints) };
                next.max(now + 1)
            };
            let newest = writes.iter().copied().rfind(|at| *at <= now);
            let found = writes.iter().filter(|at| **at <= now && seen.is_none_or(|seen| **at > seen)).count() as u64 * bytes;
            looks += 1;
            rest = steady.looked(found, now * 1_000_000);
            seen = newest;
            if now > last + 1000 {
                return (looks, hints);
            }
        }
    }

    #[test]
    fn a_file_written_all_the_time_needs_hardly_a_hint_and_is_looked_at_more_often_where_much_comes() {
        let little = 4096;
        for (gathers, bytes, every, expected) in
            [(0, little, 5, 1240..1270), (5, little, 5, 760..780), (0, limits::LOOK_WORTH_BYTES, 1, 2490..2530)]
        {
            let (looks, hints) = follow(gathers, bytes, (0..10_000).step_by(every));
            assert!(expected.contains(&looks), "{looks}");
            assert!(hints <= 4, "{hints}");
        }
    }

    #[test]
    fn a_file_written_now_and_then_is_looked_at_when_it_is_written() {
        let (looks, hints) = follow(0, 4096, (0..10_000).step_by(100));
        assert_eq!((looks, hints), (100, 101), "the last hint never comes");
    }

    #[test]
    fn silence_ends_the_looking() {
        let mut steady = Steady::default();
        let looks: Vec<bool> = (1..=6).map(|n| steady.looked(1, n).is_some()).collect();
        assert_eq!(looks, [false, true, true, true, true, true]);
        assert!(steady.looked(0, 7).is_some());
        assert!(steady.looked(0, 8).is_none());
    }
}
