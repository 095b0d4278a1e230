//! Three topics by priority, taken 8:4:1, and how much of them is taken. Pure.
//!
//! | topic | priorities | of 13 |
//! |---|---|---|
//! | `<topic>.high` | 8 to 10 | 8 |
//! | `<topic>` | 4 to 7 | 4 |
//! | `<topic>.low` | 1 to 3 | 1 |
//!
//! A lane that is empty leaves its turns to the others. Records of one partition keep their order, so whatever was
//! taken last of it, and all before, is in the store: that offset may be committed.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::scan::task::{Priority, TaskId};

/// Turns of each lane before all have turns again.
const TURNS: [u32; 3] = [8, 4, 1];

/// The topic of a priority.
pub fn topic(base: &str, priority: Priority) -> String {
    match priority.get() {
        8.. => format!("{base}.high"),
        4..=7 => base.to_owned(),
        _ => format!("{base}.low"),
    }
}

/// The three topics, most urgent first.
pub fn topics(base: &str) -> [String; 3] {
    [format!("{base}.high"), base.to_owned(), format!("{base}.low")]
}

/// A record that waits to be copied into the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting<P> {
    pub place: P,
    pub offset: i64,
    pub value: Vec<u8>,
}

/// Records that were polled, and tasks that were taken from them and have not ended.
///
/// - `P`: a partition.
#[derive(Debug)]
pub struct Lanes<P> {
    /// Most urgent first: what waits, and the turns left.
    lanes: [(VecDeque<Waiting<P>>, u32); 3],
    /// Taken, not ended.
    taken: BTreeSet<TaskId>,
    /// Behind the last record that is in the store, by partition.
    copied: BTreeMap<P, i64>,
    /// What of that the group knows.
    committed: BTreeMap<P, i64>,
    /// Tasks taken at most.
    most: usize,
}

impl<P: Clone + Ord> Lanes<P> {
    /// Nothing yet.
    ///
    /// - `slots`: scans at once. Twice as many tasks are taken, so that nobody waits for the broker.
    pub fn new(slots: usize) -> Self {
        let lanes = TURNS.map(|turns| (VecDeque::new(), turns));
        Self { lanes, taken: BTreeSet::new(), copied: BTreeMap::new(), committed: BTreeMap::new(), most: 2 * slots }
    }

    /// A record was polled.
    ///
    /// - `lane`: 0 is the most urgent one; what is beyond the last counts as the last.
    pub fn push(&mut self, lane: usize, record: Waiting<P>) {
        let [high, normal, low] = &mut self.lanes;
        match lane {
            0 => high,
            1 => normal,
            _ => low,
        }
        .0
        .push_back(record);
    }

    /// Whether another task may be taken.
    pub fn has_room(&self) -> bool {
        self.taken.len() < self.most
    }

    /// True if nothing more is to be fetched of a lane: what waits of it is enough for all the room there is.
    pub fn is_full(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_none_or(|(waiting, _)| waiting.len() >= self.most.max(1))
    }

    /// The next record by its turn, if there is room. It stays until [`copied`](Self::copied) says that it is in the store.
    pub fn take(&mut self) -> Option<Waiting<P>> {
        if !self.has_room() {
            return None;
        }
        if self.lanes.iter().all(|(waiting, turns)| waiting.is_empty() || *turns == 0) {
            for ((_, left), turns) in self.lanes.iter_mut().zip(TURNS) {
                *left = turns;
            }
        }
        let (waiting, turns) = self.lanes.iter_mut().find(|(waiting, turns)| !waiting.is_empty() && *turns > 0)?;
        *turns -= 1;
        waiting.pop_front()
    }

    /// A record could not be copied now: it is the next one of its lane again.
    pub fn put_back(&mut self, lane: usize, record: Waiting<P>) {
        let [high, normal, low] = &mut self.lanes;
        let (waiting, turns) = match lane {
            0 => high,
            1 => normal,
            _ => low,
        };
        waiting.push_front(record);
        *turns += 1;
    }

    /// A record is in the store, or in the dead letter.
    ///
    /// - `id`: of the task, if it has not ended yet.
    pub fn copied(&mut self, place: &P, offset: i64, id: Option<TaskId>) {
        self.copied.insert(place.clone(), offset + 1);
        self.taken.extend(id);
    }

    /// A task ended.
    pub fn ended(&mut self, id: &str) {
        self.taken.remove(id);
    }

    /// Tasks that were taken and have not ended.
    pub fn taken(&self) -> impl Iterator<Item = &TaskId> {
        self.taken.iter()
    }

    /// Records that wait.
    pub fn waiting(&self) -> usize {
        self.lanes.iter().map(|(waiting, _)| waiting.len()).sum()
    }

    /// What is to be committed and is not yet.
    pub fn due(&self) -> BTreeMap<P, i64> {
        self.copied.iter().filter(|(place, offset)| self.committed.get(place) != Some(offset)).map(|(p, o)| (p.clone(), *o)).collect()
    }

    /// The group knows of these.
    pub fn committed(&mut self, offsets: &BTreeMap<P, i64>) {
        for (place, offset) in offsets {
            // It may be somebody else's by now.
            if self.copied.contains_key(place) {
                self.committed.insert(place.clone(), *offset);
            }
        }
    }

    /// These partitions are to go: what waits of them is forgotten, what was copied may still be committed.
    pub fn let_go(&mut self, places: &[P]) {
        for (waiting, _) in &mut self.lanes {
            waiting.retain(|record| !places.contains(&record.place));
        }
    }

    /// These partitions are somebody else's: what waits of them is forgotten, what was taken stays ours.
    pub fn forget(&mut self, places: &[P]) {
        self.let_go(places);
        for place in places {
            self.copied.remove(place);
            self.committed.remove(place);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(place: u8, offset: i64) -> Waiting<u8> {
        Waiting { place, offset, value: Vec::new() }
    }

    #[test]
    fn a_priority_has_its_topic() {
        let of = |n| topic("t", Priority::new(n).unwrap());
        let found: Vec<String> = (1..=10).map(of).collect();
        assert_eq!(found, ["t.low", "t.low", "t.low", "t", "t", "t", "t", "t.high", "t.high", "t.high"]);
        assert_eq!(topics("t"), ["t.high", "t", "t.low"]);
    }

    #[test]
    fn full_lanes_are_taken_eight_to_four_to_one() {
        let mut lanes = Lanes::new(1000);
        for lane in 0..3u8 {
            (0..60).for_each(|offset| lanes.push(lane.into(), record(lane, offset)));
        }
        let order: Vec<u8> = (0..26).map(|_| lanes.take().unwrap().place).collect();
        let one = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2];
        assert_eq!(order, [one, one].concat());
    }

    #[test]
    fn no_more_is_taken_than_twice_the_slots() {
        let mut lanes = Lanes::new(1);
        (0..5).for_each(|offset| lanes.push(1, record(1, offset)));
        assert!(lanes.is_full(1) && !lanes.is_full(0));
        for id in ["a", "b"] {
            let next = lanes.take().unwrap();
            lanes.copied(&next.place, next.offset, Some(id.into()));
        }
        assert_eq!(lanes.take(), None);
        assert_eq!(lanes.due(), BTreeMap::from([(1, 2)]), "copied, so to be committed, though not scanned");
        lanes.committed(&BTreeMap::from([(1, 2)]));
        assert!(lanes.due().is_empty());
        lanes.ended("a");
        assert_eq!(lanes.take(), Some(record(1, 2)));
        assert_eq!(lanes.waiting(), 2);
        let nobody = Lanes::<u8>::new(0);
        assert!(!nobody.has_room(), "a node that scans nothing takes nothing");
    }

    #[test]
    fn what_could_not_be_copied_is_next_again() {
        let mut lanes = Lanes::new(2);
        (0..3).for_each(|offset| lanes.push(0, record(1, offset)));
        let first = lanes.take().unwrap();
        lanes.put_back(0, first);
        assert_eq!(lanes.take(), Some(record(1, 0)));
        assert!(lanes.due().is_empty());
    }

    #[test]
    fn a_partition_that_goes_takes_what_waits_of_it_along() {
        let mut lanes = Lanes::new(4);
        lanes.push(0, record(1, 5));
        lanes.push(0, record(2, 9));
        lanes.copied(&1, 4, Some("a".into()));
        lanes.forget(&[1]);
        assert_eq!((lanes.waiting(), lanes.due(), lanes.taken().count()), (1, BTreeMap::new(), 1));
        lanes.committed(&BTreeMap::from([(1, 5)]));
        lanes.copied(&1, 4, None);
        assert_eq!(lanes.due(), BTreeMap::from([(1, 5)]), "a late answer of before says nothing of its next life here");
    }

    proptest! {
        /// The naive twin knows one rule: in each round of 13 a lane gets its turns, as long as it has records.
        #[test]
        fn turns_are_those_of_the_naive_twin(counts in prop::array::uniform3(0usize..40)) {
            let mut lanes = Lanes::new(1000);
            for (lane, count) in counts.into_iter().enumerate() {
                (0..count).for_each(|offset| lanes.push(lane, record(lane as u8, offset as i64)));
            }
            let (mut left, mut want) = (counts, Vec::new());
            while left.iter().sum::<usize>() > 0 {
                for (lane, turns) in [8, 4, 1].into_iter().enumerate() {
                    let now = left[lane].min(turns);
                    left[lane] -= now;
                    want.extend(std::iter::repeat_n(lane as u8, now));
                }
            }
            let found: Vec<u8> = std::iter::from_fn(|| lanes.take()).map(|next| next.place).collect();
            prop_assert_eq!(found, want);
        }

        /// Offsets to be committed never pass a record that is not in the store.
        #[test]
        fn nothing_uncopied_is_committed(steps in prop::collection::vec((0u8..4, 0u8..2), 1..60)) {
            let mut lanes = Lanes::new(2);
            let (mut offsets, mut copied) = ([0i64; 2], [0i64; 2]);
            let mut taken: Vec<String> = Vec::new();
            for (step, place) in steps {
                match step {
                    0 => { lanes.push(place.into(), record(place, offsets[usize::from(place)])); offsets[usize::from(place)] += 1; }
                    1 => if let Some(next) = lanes.take() {
                        let id = format!("{}-{}", next.place, next.offset);
                        lanes.copied(&next.place, next.offset, Some(id.clone()));
                        copied[usize::from(next.place)] = next.offset + 1;
                        taken.push(id);
                    },
                    2 => if let Some(id) = taken.pop() { lanes.ended(&id); },
                    _ => if let Some(next) = lanes.take() { let lane = next.place.into(); lanes.put_back(lane, next); },
                }
                prop_assert!(taken.len() <= 4);
                for (place, offset) in lanes.due() {
                    prop_assert_eq!(offset, copied[usize::from(place)]);
                }
            }
        }
    }
}
