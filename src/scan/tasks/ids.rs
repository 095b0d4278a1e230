//! Names for tasks: UUIDs of version 7, which sort by time.
//!
//! RFC 9562 §5.7: 48 bits of milliseconds, then 12 that count within one, then 62 that nobody guesses.

use std::io::Read;

use super::Nanos;
use crate::{hmac::Keyed, scan::task::TaskId};

#[derive(Debug)]
pub(super) struct Ids {
    secret: Keyed,
    ms: u64,
    count: u64,
    made: u64,
}

impl Ids {
    /// # Errors
    /// As open(2) and read(2) of `/dev/urandom`.
    #[allow(clippy::disallowed_methods, reason = "the one place that asks the host for randomness of the task store")]
    pub fn open() -> std::io::Result<Self> {
        let mut seed = [0; 32];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
        Ok(Self::new(&seed))
    }
    pub fn new(seed: &[u8]) -> Self {
        Self { secret: Keyed::new(seed), ms: 0, count: 0, made: 0 }
    }

    pub fn next(&mut self, now: Nanos) -> TaskId {
        let ms = now / 1_000_000;
        if ms > self.ms {
            (self.ms, self.count) = (ms, 0);
        } else {
            // More than 4096 in a millisecond, or a clock that was set back: time goes on from the last one.
            self.count += 1;
            if self.count > 0xfff {
                (self.ms, self.count) = (self.ms + 1, 0);
            }
        }
        self.made += 1;
        let hash = self.secret.hash(&self.made.to_be_bytes());
        let random = hash.iter().take(8).fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        let high = (self.ms & 0xffff_ffff_ffff) << 16 | 0x7000 | self.count;
        let low = random >> 2 | 0x8000_0000_0000_0000;
        format!("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", high >> 32, high >> 16 & 0xffff, high & 0xffff, low >> 48, low & 0xffff_ffff_ffff)
    }
}

#[cfg(test)]
mod tests {
    use super::Ids;

    #[test]
    fn ids_sort_by_the_order_of_making_and_are_uuids_of_version_7() {
        let mut ids = Ids::new(b"seed");
        let mut last = String::new();
        for n in 0..20_000u64 {
            // The clock stands for 5000 ids, then is set back.
            let id = ids.next(if n < 15_000 { 1_700_000_000_000_000_000 + n / 5000 * 1_000_000 } else { 5 });
            assert!(id > last, "{id} after {last}");
            assert_eq!(id.len(), 36);
            assert_eq!(&id[14..15], "7");
            assert!("89ab".contains(&id[19..20]), "{id}");
            last = id;
        }
    }
}
