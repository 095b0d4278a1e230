//! Which offset of a partition may be committed: everything below it is settled. Pure.
//!
//! | chunks handed in end at | settled | commit |
//! |---|---|---|
//! | 10, 20, 30 | 0 | nothing |
//! | 10, 20, 30 | 2 | 20 |
//! | 10, 20, 30 | 3 | 30, and the partition is idle |

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::collections::VecDeque;

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
        assert_eq!((flights.due(), flights.is_idle()), (Some(30), true));
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
