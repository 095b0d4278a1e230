//! Which values were seen, for MISP: each once in a window, never one for each alert. Pure.

use std::{
    collections::{HashSet, VecDeque},
    mem,
    rc::Rc,
};

use crate::clock::Nanos;

/// Values of one call.
const VALUES: usize = 100;
/// How long the first value of a call waits for others.
const GATHER: Nanos = 10_000_000_000;
/// Values that wait; MISP may be away long, and a sighting is a courtesy.
const WAITING_MAX: usize = 10_000;

/// Values seen lately, and those that MISP has not been told of.
#[derive(Debug)]
pub struct Sightings {
    window: Nanos,
    seen: HashSet<Rc<str>>,
    /// Values seen with the time at which they may be told again, oldest first.
    ends: VecDeque<(Nanos, Rc<str>)>,
    waiting: VecDeque<Rc<str>>,
    /// When the next call is due.
    due: Nanos,
    lost: u64,
}

impl Sightings {
    /// - `window`: a value is told once in it.
    pub fn new(window: Nanos) -> Self {
        Self { window, seen: HashSet::new(), ends: VecDeque::new(), waiting: VecDeque::new(), due: Nanos::MAX, lost: 0 }
    }

    /// A value was seen, and MISP knows it.
    pub fn note(&mut self, now: Nanos, value: &Rc<str>) {
        while let Some((_, value)) = self.ends.pop_front_if(|(end, _)| *end <= now) {
            self.seen.remove(&value);
        }
        if !self.seen.insert(value.clone()) {
            return;
        }
        self.ends.push_back((now.saturating_add(self.window), value.clone()));
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.pop_front();
            self.lost += 1;
        }
        self.waiting.push_back(value.clone());
        if self.due == Nanos::MAX {
            self.due = now.saturating_add(GATHER);
        }
    }

    /// When there is something to be told.
    pub fn due(&self) -> Option<Nanos> {
        (self.due < Nanos::MAX).then_some(self.due)
    }

    /// The values of the next call; none if it is not due.
    pub fn take(&mut self, now: Nanos) -> Vec<Rc<str>> {
        if now < self.due {
            return Vec::new();
        }
        let count = self.waiting.len().min(VALUES);
        let values = self.waiting.drain(..count).collect();
        self.due = if self.waiting.is_empty() { Nanos::MAX } else { now };
        values
    }

    /// A call failed for a passing reason: its values are told later.
    pub fn give_back(&mut self, now: Nanos, values: Vec<Rc<str>>) {
        for value in values.into_iter().rev().take(WAITING_MAX.saturating_sub(self.waiting.len())) {
            self.waiting.push_front(value);
        }
        self.due = now.saturating_add(GATHER);
    }

    /// Values that were let go since the last call, because too many waited.
    pub fn lost(&mut self) -> u64 {
        mem::take(&mut self.lost)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const S: Nanos = 1_000_000_000;

    #[test]
    fn a_value_is_told_once_a_window_and_again_after_a_failure() {
        let mut sightings = Sightings::new(3600 * S);
        let value: Rc<str> = "a".into();
        (0..1000).for_each(|n| sightings.note(n, &value));
        assert_eq!(sightings.take(9 * S), [] as [Rc<str>; 0]);
        assert_eq!(sightings.take(11 * S), std::slice::from_ref(&value));
        assert_eq!(sightings.due(), None);
        sightings.give_back(11 * S, vec![value.clone()]);
        assert_eq!(sightings.due(), Some(21 * S));
        assert_eq!(sightings.take(21 * S), std::slice::from_ref(&value));
        sightings.note(3599 * S, &value);
        assert_eq!(sightings.due(), None);
        sightings.note(3601 * S, &value);
        assert_eq!(sightings.due(), Some(3611 * S));
    }

    proptest! {
        #[test]
        fn each_value_of_each_window_is_told_once(steps in prop::collection::vec((0u8..4, 0u64..30), 0..64)) {
            let window = 40 * S;
            let mut sightings = Sightings::new(window);
            let (mut now, mut told, mut twin, mut last) = (0, BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
            for (value, gap) in steps {
                now += gap * S;
                let value: Rc<str> = value.to_string().into();
                if last.get(&value).is_none_or(|at| at + window <= now) {
                    last.insert(value.clone(), now);
                    *twin.entry(value.clone()).or_insert(0) += 1;
                }
                sightings.note(now, &value);
                sightings.take(now).into_iter().for_each(|value| *told.entry(value).or_insert(0) += 1);
            }
            sightings.take(now + GATHER).into_iter().for_each(|value| *told.entry(value).or_insert(0) += 1);
            prop_assert_eq!(told, twin);
        }
    }
}
