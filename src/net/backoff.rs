//! How long to wait before the next try: doubled each time, with jitter. Pure.

use std::time::Duration;

use crate::clock::{Nanos, nanos};

/// Waits that double from the first to the longest.
///
/// | try | full wait            | given                        |
/// |-----|----------------------|------------------------------|
/// | 1   | first                | a random part, half to whole |
/// | n   | first × 2ⁿ⁻¹         | the same                     |
/// | …   | never beyond longest | the same                     |
///
/// At least half of the wait stays, so that jitter never makes a hammer of a pause.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Nanos,
    longest: Nanos,
    full: Nanos,
}

impl Backoff {
    /// Begins at `first`; a `longest` below it counts as `first`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        let first = nanos(first).max(1);
        Self { first, longest: nanos(longest).max(first), full: first }
    }

    /// Nanoseconds to wait now.
    ///
    /// - `roll`: a random number; equal rolls give equal waits.
    pub fn wait(&mut self, roll: u64) -> Nanos {
        let full = self.full;
        self.full = full.saturating_mul(2).min(self.longest);
        let half = full / 2;
        full - roll % (half + 1)
    }

    /// It worked: the next wait is the first again.
    pub fn reset(&mut self) {
        self.full = self.first;
    }
}

/// A sequence of rolls from a seed (splitmix64): cheap, and the same seed is the same run.
#[derive(Clone, Debug)]
pub struct Rolls(u64);

impl Rolls {
    /// Rolls of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
    /// The next one.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_again() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        let seconds = |backoff: &mut Backoff| backoff.wait(0) / 1_000_000_000;
        assert_eq!([1, 2, 4, 5, 5], std::array::from_fn(|_| seconds(&mut backoff)));
        backoff.reset();
        assert_eq!(seconds(&mut backoff), 1);
    }

    proptest! {
        #[test]
        fn a_wait_is_between_half_and_whole(first in 0u64..1000, longest in 0u64..100_000, tries in 1u32..20, roll: u64) {
            let mut backoff = Backoff::new(Duration::from_nanos(first), Duration::from_nanos(longest));
            let mut wait = 0;
            for _ in 0..tries {
                wait = backoff.wait(roll);
            }
            // The naive twin: the closed form of what the loop does.
            let first = first.max(1);
            let full = (u128::from(first) << (tries - 1)).min(u128::from(longest.max(first)));
            prop_assert!(u128::from(wait) <= full && u128::from(wait) >= full - full / 2, "{wait} of {full}");
        }
    }
}
