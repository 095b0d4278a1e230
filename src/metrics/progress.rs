//! How far a source is behind, and since when its watermark stands still.
//!
//! The home shard writes, whoever is asked for figures reads; a reader may see one field a moment
//! before the other, never a half-written one.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::clock::Nanos;

/// What one source has before it and behind it.
#[derive(Debug, Default)]
pub struct Progress {
    unread: AtomicU64,
    unacked: AtomicU64,
    /// Wall time at which the oldest unacked bytes were seen; 0 for none.
    oldest: AtomicU64,
    /// Monotonic time of the last move, or of the first bytes after everything was done.
    moved: AtomicU64,
    /// Monotonic time of the last records; 0 before the first.
    came: AtomicU64,
}

/// One look at a [`Progress`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// Bytes that are there and not read.
    pub unread: u64,
    /// Bytes of batches that something is owed for.
    pub unacked: u64,
    /// Age of the oldest unacked bytes; of the standstill where all unacked bytes are unread.
    pub age: Duration,
    /// How long the watermark has stood still with something before it; zero where there is nothing.
    pub still: Duration,
}

impl Behind {
    /// Bytes between the source's end and its watermark.
    pub fn lag(&self) -> u64 {
        self.unread.saturating_add(self.unacked)
    }
    /// True if the watermark should have moved within `after` and has not; zero is never.
    pub fn is_stalled(&self, after: Duration) -> bool {
        !after.is_zero() && self.still >= after
    }
}

impl Progress {
    /// The reader tells how many bytes it has before it.
    ///
    /// - `mono`: monotonic now.
    pub fn unread(&self, bytes: u64, mono: Nanos) {
        self.begin(bytes, mono);
        self.unread.store(bytes, Relaxed);
    }

    /// The home tells what it owes.
    ///
    /// - `bytes`: of batches that are not settled.
    /// - `oldest`: wall time at which the oldest of them was seen; `None` for none.
    /// - `moved`: whether the watermark moved.
    /// - `mono`: monotonic now.
    pub fn unacked(&self, bytes: u64, oldest: Option<Nanos>, moved: bool, mono: Nanos) {
        self.begin(bytes, mono);
        if moved {
            self.moved.store(mono, Relaxed);
        }
        self.unacked.store(bytes, Relaxed);
        self.oldest.store(oldest.unwrap_or(0), Relaxed);
    }

    /// Records came.
    ///
    /// - `mono`: monotonic now.
    pub fn came(&self, mono: Nanos) {
        self.came.store(mono, Relaxed);
    }

    /// How long no record has come, or since `begun`, where none ever did.
    ///
    /// - `mono`: monotonic now.
    pub fn silent(&self, begun: Nanos, mono: Nanos) -> Duration {
        Duration::from_nanos(mono.saturating_sub(self.came.load(Relaxed).max(begun)))
    }

    /// A standstill begins with the first bytes, not with the last move hours ago.
    fn begin(&self, bytes: u64, mono: Nanos) {
        if bytes > 0 && self.unread.load(Relaxed) == 0 && self.unacked.load(Relaxed) == 0 {
            self.moved.store(mono, Relaxed);
        }
    }

    /// What is behind now.
    ///
    /// - `now`, `mono`: wall and monotonic time, of the clock that the home uses.
    pub fn behind(&self, now: Nanos, mono: Nanos) -> Behind {
        let (unread, unacked) = (self.unread.load(Relaxed), self.unacked.load(Relaxed));
        if unread == 0 && unacked == 0 {
            return Behind::default();
        }
        let still = Duration::from_nanos(mono.saturating_sub(self.moved.load(Relaxed)));
        let age = match self.oldest.load(Relaxed) {
            0 => still,
            oldest => Duration::from_nanos(now.saturating_sub(oldest)),
        };
        Behind { unread, unacked, age, still }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    #[test]
    fn a_standstill_begins_with_the_first_bytes_and_ends_with_a_move() {
        let progress = Progress::default();
        let still = |at: Nanos| progress.behind(100 * SECOND + at, at).still;
        progress.unread(0, SECOND);
        assert_eq!(progress.behind(0, 90 * SECOND), Behind::default(), "nothing to do is no standstill");
        progress.unread(10, 100 * SECOND);
        progress.unread(20, 130 * SECOND);
        assert_eq!(still(160 * SECOND), Duration::from_secs(60), "more bytes are no move");
        progress.unacked(20, Some(SECOND), false, 160 * SECOND);
        progress.unread(0, 160 * SECOND);
        assert_eq!(still(170 * SECOND), Duration::from_secs(70), "nor is reading without an ack");
        progress.unacked(5, Some(2 * SECOND), true, 180 * SECOND);
        assert_eq!(still(181 * SECOND), Duration::from_secs(1));
        progress.unacked(0, None, true, 190 * SECOND);
        assert_eq!(still(500 * SECOND), Duration::ZERO);
    }

    #[test]
    fn silence_begins_with_the_last_record_or_with_us() {
        let progress = Progress::default();
        assert_eq!(progress.silent(5 * SECOND, 7 * SECOND), Duration::from_secs(2));
        progress.came(8 * SECOND);
        assert_eq!(progress.silent(5 * SECOND, 20 * SECOND), Duration::from_secs(12));
        assert_eq!(progress.silent(15 * SECOND, 20 * SECOND), Duration::from_secs(5), "of an earlier graph");
    }

    #[test]
    fn lag_is_what_is_unread_and_unacked_and_as_old_as_its_oldest_byte() {
        let progress = Progress::default();
        progress.unacked(7, Some(40 * SECOND), false, SECOND);
        progress.unread(3, SECOND);
        let behind = progress.behind(100 * SECOND, 11 * SECOND);
        assert_eq!((behind.lag(), behind.age, behind.still), (10, Duration::from_secs(60), Duration::from_secs(10)));
        assert!(behind.is_stalled(Duration::from_secs(10)));
        assert!(!behind.is_stalled(Duration::from_secs(11)));
        assert!(!behind.is_stalled(Duration::ZERO), "zero is never");
    }
}
