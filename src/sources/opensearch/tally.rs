//! How many documents came too late to be seen, minute by minute. Pure.
//!
//! Documents below the look back are not asked for any more, so one that comes later than that would be missed
//! in silence. The server counts what it has in each minute of the last hour below the look back; what it has more
//! than was handed in came too late. Each is counted once. What is deleted there hides as many.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use super::seen::{Ms, i64_of, step, step_of, u64_of};

/// Milliseconds of one count.
pub(super) const MINUTE: Ms = 60_000;
/// Minutes that are counted.
const MINUTES: i64 = 60;

/// Half open: `from..until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub from: Ms,
    pub until: Ms,
}

/// The counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    /// Nothing below was ever asked for.
    since: Ms,
    /// By the number of the minute since 1970: handed in, and lost.
    minutes: BTreeMap<i64, (u64, u64)>,
}

impl Tally {
    /// - `since`: where the source began.
    pub(super) fn new(since: Ms) -> Self {
        Self { since, minutes: BTreeMap::new() }
    }

    pub(super) fn since(&self) -> Ms {
        self.since
    }

    /// A document with this time was handed in.
    pub(super) fn handed_in(&mut self, at: Ms) {
        self.minutes.entry(at.div_euclid(MINUTE)).or_default().0 += 1;
    }

    /// The minutes to be counted, where nothing below `from` is asked for any more; `None` before there is a whole one.
    pub(super) fn span(&self, from: Ms) -> Option<Span> {
        let last = from.div_euclid(MINUTE);
        let first = (self.since.saturating_add(MINUTE - 1)).div_euclid(MINUTE).max(last - MINUTES);
        (first < last).then_some(Span { from: first * MINUTE, until: last * MINUTE })
    }

    /// The server has so many documents in minutes that begin at these times. Gives how many more than before came too late.
    pub(super) fn counted(&mut self, counts: &[(Ms, u64)]) -> u64 {
        let mut more = 0;
        for (at, count) in counts {
            let (handed_in, lost) = self.minutes.entry(at.div_euclid(MINUTE)).or_default();
            let new = count.saturating_sub(*handed_in + *lost);
            *lost += new;
            more += new;
        }
        more
    }

    /// Forgets minutes that are not counted again, where nothing below `from` is asked for any more.
    pub(super) fn prune(&mut self, from: Ms) {
        self.minutes = self.minutes.split_off(&(from.div_euclid(MINUTE) - MINUTES));
    }

    /// Writes it, as if these had not been handed in.
    pub(super) fn write(&self, but: impl Iterator<Item = Ms>, out: &mut Vec<u8>) {
        let mut minutes = self.minutes.clone();
        for at in but {
            if let Some((handed_in, _)) = minutes.get_mut(&at.div_euclid(MINUTE)) {
                *handed_in = handed_in.saturating_sub(1);
            }
        }
        out.extend_from_slice(&self.since.to_le_bytes());
        out.extend_from_slice(&(minutes.len() as u64).to_le_bytes());
        for (minute, (handed_in, lost)) in minutes {
            out.extend_from_slice(&minute.to_le_bytes());
            step(handed_in, out);
            step(lost, out);
        }
    }

    /// Reads what [`write`](Self::write) wrote; `None` if it is not that.
    pub(super) fn read(bytes: &mut &[u8]) -> Option<Self> {
        let mut tally = Self::new(i64_of(bytes)?);
        for _ in 0..u64_of(bytes)? {
            let minute = i64_of(bytes)?;
            tally.minutes.insert(minute, (step_of(bytes)?, step_of(bytes)?));
        }
        Some(tally)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests state what must hold")]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_has_more_is_lost_once() {
        let mut tally = Tally::new(MINUTE / 2);
        for at in [MINUTE, MINUTE + 1, 3 * MINUTE] {
            tally.handed_in(at);
        }
        assert_eq!(tally.span(MINUTE), None, "the first minute is no whole one");
        assert_eq!(tally.span(4 * MINUTE + 7), Some(Span { from: MINUTE, until: 4 * MINUTE }));
        assert_eq!(tally.counted(&[(MINUTE, 2), (3 * MINUTE, 1)]), 0);
        assert_eq!(tally.counted(&[(MINUTE, 2), (2 * MINUTE, 4), (3 * MINUTE, 3)]), 6);
        assert_eq!(tally.counted(&[(MINUTE, 2), (2 * MINUTE, 4), (3 * MINUTE, 3)]), 0);
        assert_eq!(tally.counted(&[(MINUTE, 1), (2 * MINUTE, 5)]), 1, "what is deleted is no gain elsewhere");
        let mut bytes = Vec::new();
        tally.write([MINUTE].into_iter(), &mut bytes);
        let mut read = Tally::read(&mut &*bytes).unwrap();
        assert_eq!(read.counted(&[(MINUTE, 2), (2 * MINUTE, 5)]), 1, "one was not settled, and counts as not handed in");
        assert_eq!(tally.span(400 * MINUTE), Some(Span { from: 340 * MINUTE, until: 400 * MINUTE }));
        tally.prune(63 * MINUTE);
        assert_eq!(tally.minutes.len(), 1, "an hour is kept");
    }
}
