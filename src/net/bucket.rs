//! A token bucket on given time. Pure.

use crate::clock::Nanos;

const SECOND: Nanos = 1_000_000_000;

/// Allows `rate` a second on average, and up to `burst` at once after a rest.
///
/// Holds one number, the time at which the bucket is full again, instead of a count that must be
/// refilled: taking a token moves it on by one interval, and no more than `burst` intervals may
/// lie ahead.
///
/// | full again at | now          | a token                   |
/// |---------------|--------------|---------------------------|
/// | past          | any          | yes                       |
/// | now + k intervals, k ≤ burst − 1 | | yes                |
/// | further       |              | no, and the time is told  |
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Nanoseconds between two tokens; 0 means no limit.
    interval: Nanos,
    burst: u64,
    full_at: Nanos,
}

impl Bucket {
    /// A full bucket.
    ///
    /// - `rate`: tokens a second; 0 means no limit.
    /// - `burst`: tokens that it holds; 0 counts as 1.
    pub fn new(rate: u32, burst: u32) -> Self {
        Self { interval: SECOND.checked_div(u64::from(rate)).unwrap_or(0), burst: u64::from(burst.max(1)), full_at: 0 }
    }

    /// A full bucket that gets a token in each `interval`, nanoseconds; 0 means no limit.
    pub fn every(interval: Nanos, burst: u64) -> Self {
        Self { interval, burst: burst.max(1), full_at: 0 }
    }

    /// True if nothing was taken of late.
    pub fn is_full(&self, now: Nanos) -> bool {
        self.full_at <= now
    }

    /// Takes a token.
    ///
    /// - `now`: any clock that never goes back; an earlier time counts as the latest one seen.
    ///
    /// # Errors
    /// The time at which there will be one.
    pub fn take(&mut self, now: Nanos) -> Result<(), Nanos> {
        let at = self.next(now);
        if at > now {
            return Err(at);
        }
        self.full_at = self.full_at.max(now) + self.interval;
        Ok(())
    }

    /// When a token can be taken: `now`, or later.
    pub fn next(&self, now: Nanos) -> Nanos {
        let ahead = (self.burst - 1).saturating_mul(self.interval);
        self.full_at.saturating_sub(ahead).max(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut bucket = Bucket::new(10, 3);
        let at = |ms: u64| ms * 1_000_000;
        let rows = [(1000, Ok(())), (1000, Ok(())), (1000, Ok(())), (1000, Err(at(1100))), (1099, Err(at(1100))), (1100, Ok(()))];
        for (ms, expected) in rows {
            assert_eq!(bucket.take(at(ms)), expected, "at {ms} ms");
        }
        assert_eq!(bucket.take(at(1150)), Err(at(1200)));
        for _ in 0..3 {
            assert_eq!(bucket.take(at(9000)), Ok(()), "a rest fills it, not beyond");
        }
        assert_eq!(bucket.take(at(9000)), Err(at(9100)));
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        let mut bucket = Bucket::new(0, 1);
        assert!((0..1000).all(|_| bucket.take(7).is_ok()));
    }

    #[test]
    fn a_slow_rate_is_an_interval() {
        let mut bucket = Bucket::every(6 * SECOND, 2);
        assert_eq!([0, 1, 2].map(|at| bucket.take(at * SECOND)), [Ok(()), Ok(()), Err(6 * SECOND)]);
        assert!(!bucket.is_full(11 * SECOND));
        assert!(bucket.is_full(12 * SECOND));
    }

    mod naive {
        /// Counts drops: a token is `interval` drops, one nanosecond brings one.
        pub struct Bucket {
            pub drops: u64,
            pub most: u64,
            pub interval: u64,
            pub last: u64,
        }
        impl Bucket {
            pub fn take(&mut self, now: u64) -> bool {
                self.drops = (self.drops + (now - self.last)).min(self.most);
                self.last = now;
                let is_enough = self.drops >= self.interval;
                if is_enough {
                    self.drops -= self.interval;
                }
                is_enough
            }
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_counting_drops(rate in 1u32..50, burst in 1u32..5, steps in prop::collection::vec(0u64..300_000_000, 1..64)) {
            let mut bucket = Bucket::new(rate, burst);
            let (interval, mut now) = (SECOND / u64::from(rate), 0);
            let most = interval * u64::from(burst);
            let mut twin = naive::Bucket { drops: most, most, interval, last: 0 };
            for step in steps {
                now += step;
                let said = bucket.next(now);
                let took = bucket.take(now);
                prop_assert_eq!(took.is_ok(), twin.take(now));
                prop_assert_eq!(took.is_ok(), said == now);
                if let Err(at) = took {
                    prop_assert!(bucket.clone().take(at - 1).is_err() && bucket.clone().take(at).is_ok());
                }
            }
        }
    }
}
