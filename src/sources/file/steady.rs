//! When to look again without being called.
//!
//! A hint costs the watch thread a wake-up and a system call. Where a file grows at nearly every
//! look they buy nothing: its reader then comes by itself, as often as hints would have called it.

use crate::{clock::Nanos, limits};

/// Whether a file grows so steadily that the next look need not be called for.
#[derive(Debug, Default)]
pub(super) struct Steady {
    grew: Nanos,
    /// Looks that found it grown, one soon after the other; a look in vain halves it.
    streak: u32,
}

impl Steady {
    /// Notes a look; true if the next one should come by itself.
    pub(super) fn looked(&mut self, grew: bool, now: Nanos) -> bool {
        if grew {
            let soon = now.saturating_sub(self.grew) <= limits::STEADY_MS * 1_000_000;
            self.streak = if soon { (self.streak + 1).min(4) } else { 1 };
            self.grew = now;
        } else {
            self.streak /= 2;
        }
        self.streak >= 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at a file that is written at `writes` (ms), as the reader times them: soon, or when
    /// called. Returns (looks, hints).
    fn follow(writes: impl Iterator<Item = u64>) -> (u64, u64) {
        let (mut steady, mut by_itself, mut now, mut seen, mut looks, mut hints) = (Steady::default(), false, 0, None, 0, 0);
        let writes: Vec<u64> = writes.collect();
        let last = writes[writes.len() - 1];
        loop {
            now = if by_itself {
                now + limits::WATCH_FOLD_MS
            } else {
                hints += 1;
                let Some(next) = writes.iter().copied().find(|at| seen.is_none_or(|seen| *at > seen)) else { return (looks, hints) };
                next.max(now + 1)
            };
            let newest = writes.iter().copied().rfind(|at| *at <= now);
            looks += 1;
            by_itself = steady.looked(newest > seen, now * 1_000_000);
            seen = newest;
            if now > last + 1000 {
                return (looks, hints);
            }
        }
    }

    #[test]
    fn a_file_written_all_the_time_needs_hardly_a_hint() {
        let (looks, hints) = follow((0..10_000).step_by(5));
        assert!((1240..1270).contains(&looks), "{looks}");
        assert!(hints <= 4, "{hints}");
    }

    #[test]
    fn a_file_written_now_and_then_is_looked_at_when_it_is_written() {
        let (looks, hints) = follow((0..10_000).step_by(100));
        assert_eq!((looks, hints), (100, 101), "the last hint never comes");
    }

    #[test]
    fn silence_ends_the_looking() {
        let mut steady = Steady::default();
        let looks: Vec<bool> = (1..=6).map(|n| steady.looked(true, n)).collect();
        assert_eq!(looks, [false, true, true, true, true, true]);
        assert!(steady.looked(false, 7));
        assert!(!steady.looked(false, 8));
    }
}
