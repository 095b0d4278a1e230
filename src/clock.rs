//! Now, real or simulated.
//!
//! Nothing outside this module asks the system for the time: components are handed a [`Clock`],
//! because the simulator hands in its own. Sleeping is the executor's business (`io`).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds; since 1970 for wall time, since any fixed moment for monotonic time.
pub type Nanos = u64;

/// Tells the time.
pub trait Clock {
    /// Wall time, nanoseconds since 1970. May jump when the host's clock is set.
    fn now(&self) -> Nanos;
    /// Monotonic time, nanoseconds since an arbitrary moment; for spans and deadlines.
    fn mono(&self) -> Nanos;
}

/// The host's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// Starts monotonic time at zero.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the host's clocks")]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the host's clocks")]
    fn now(&self) -> Nanos {
        nanos(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO))
    }

    fn mono(&self) -> Nanos {
        nanos(self.origin.elapsed())
    }
}

/// A span in nanoseconds; spans beyond 584 years are cut.
pub fn nanos(span: Duration) -> Nanos {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
