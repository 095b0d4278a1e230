//! Which offset of a partition may be committed: everything below it is settled. Pure.
//!
//! | chunks handed in end at | settled | commit |
//! |---|---|---|
//! | 10, 20, 30 | 0 | nothing |
//! | 10, 20, 30 | 2 | 20 |
//! | 10, 20, 30 | 3 | 30, and the partition is idle |
//!
//! How far it is behind is counted in offsets: from the end of what is settled to the partition's end. Where all that was
//! polled is settled, what librdkafka has still to fetch and to hand over counts, since offsets of markers of
//! transactions and of records that compaction took are never polled.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::collections::VecDeque;

use crate::net::kafka::consumer::End;

/// What of one partition is under way here.
#[derive(Debug, Default)]
pub(super) struct Flights {
    /// The offset behind each chunk, in the order of handing in.
    ends: VecDeque<i64>,
    /// Chunks settled so far.
    settled: u64,
    /// Everything below is settled.
    watermark: Option<i64>,
    committed: Option<i64>,
    /// The first offset that was polled, and the one behind the last.
    polled: Option<(i64, i64)>,
}

impl Flights {
    /// A chunk was handed in; everything below `end` has been now.
    pub fn hand_in(&mut self, end: i64) {
        self.ends.push_back(end);
    }
    /// So many chunks of all that were handed in are settled.
    pub fn settled(&mut self, chunks: u64) {
        while self.settled < chunks {
            let Some(end) = self.ends.pop_front() else { return };
            self.settled += 1;
            self.watermark = Some(end);
        }
    }
    /// What is to be committed, if that is not committed yet.
    pub fn due(&self) -> Option<i64> {
        self.watermark.filter(|watermark| self.committed.is_none_or(|committed| committed < *watermark))
    }
    /// The group knows of this offset.
    pub fn committed(&mut self, offset: i64) {
        self.committed = Some(offset);
    }
    /// Records from `first` up to before `end` were polled.
    pub fn polled(&mut self, first: i64, end: i64) {
        self.polled = Some((self.polled.map_or(first, |(first, _)| first), end));
    }
    /// Offsets between what is settled and the end of the partition.
    ///
    /// - `end`: the offset behind the last record that may be read.
    pub fn lag(&self, at: &End, end: i64) -> i64 {
        let behind = match self.polled {
            Some((first, polled)) if self.watermark.unwrap_or(first) < polled => end - self.watermark.unwrap_or(first),
            _ => end - at.next + at.queued,
        };
        behind.max(0)
    }
    /// True if the group knows of all that was handed in: nobody needs a place of ours.
    pub fn is_known(&self) -> bool {
        self.is_idle() && self.committed.is_some() && self.due().is_none()
    }
    /// True if nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.ends.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests slice what they made")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table_holds() {
        let mut flights = Flights::default();
        [10, 20, 30].into_iter().for_each(|end| flights.hand_in(end));
        assert_eq!((flights.due(), flights.is_idle()), (None, false));
        flights.settled(2);
        assert_eq!(flights.due(), Some(20));
        flights.committed(20);
        assert_eq!(flights.due(), None);
        flights.settled(3);
        assert_eq!((flights.due(), flights.is_idle(), flights.is_known()), (Some(30), true, false));
        flights.committed(30);
        assert!(flights.is_known());
        assert!(!Flights::default().is_known(), "the group may know less than the checkpoint");
    }

    #[test]
    fn a_lag_is_what_is_not_settled_and_what_is_not_polled() {
        let at = |next, queued| End { high: 0, stable: 0, next, queued };
        let mut flights = Flights::default();
        assert_eq!(flights.lag(&at(100, 0), 130), 30, "nothing was polled");
        assert_eq!(flights.lag(&at(120, 20), 130), 30, "what waits in librdkafka was not polled either");
        flights.polled(100, 110);
        assert_eq!(flights.lag(&at(120, 10), 130), 30, "nor is what was polled settled");
        flights.hand_in(110);
        flights.settled(1);
        flights.polled(110, 120);
        assert_eq!(flights.lag(&at(130, 0), 130), 20);
        flights.hand_in(120);
        flights.settled(2);
        // 120 to 129 are markers: nobody will ever poll them.
        assert_eq!(flights.lag(&at(130, 0), 130), 0);
        assert_eq!(flights.lag(&at(130, 0), 125), 0, "an end of before is no lag");
    }

    proptest! {
        #[test]
        fn what_is_committed_is_the_end_of_the_last_settled_chunk(steps in prop::collection::vec((0..4u64, 0..4u64, any::<bool>()), 1..40)) {
            let (mut flights, mut ends, mut done) = (Flights::default(), Vec::new(), 0);
            let mut committed = None;
            for (more, settles, commits) in steps {
                for _ in 0..more {
                    let end = ends.last().copied().unwrap_or(100) + 7;
                    ends.push(end);
                    flights.hand_in(end);
                }
                done = (done + settles).min(ends.len() as u64);
                flights.settled(done);
                let watermark = ends[..done as usize].last().copied();
                prop_assert_eq!(flights.due(), watermark.filter(|_| watermark != committed));
                prop_assert_eq!(flights.is_idle(), done as usize == ends.len());
                if let Some(due) = flights.due().filter(|_| commits) {
                    flights.committed(due);
                    committed = Some(due);
                }
            }
        }
    }
}
