//! What happened in the last stretch of time, for many keys at once. Pure.
//!
//! A window is cut into [`SLOTS`] slots and moves on by one slot at a time, so a sum is over the last eleven to
//! twelve twelfths of it. Time is that of the records: what comes late within a window still counts, what is older
//! counts no more.

use std::collections::{BTreeSet, HashMap};

use crate::{clock::Nanos, limits::RATES_DISTINCT_MAX};

/// Slots of a window.
pub(super) const SLOTS: u64 = 12;

/// What is kept of one key.
pub(super) trait Tally: Default {
    /// Notes something.
    ///
    /// - `slot`: no older than the window.
    /// - `what`: a rule, or 1 for what is counted twice over.
    fn add(&mut self, slot: u64, what: u64);
    /// All that was noted in the window that ends with `now`, and how much of it was marked.
    fn sums(&self, now: u64) -> (u64, u64);
}

/// How many, and how many of them were marked.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts([(u64, u32, u32); SLOTS as usize]);

impl Tally for Counts {
    fn add(&mut self, slot: u64, what: u64) {
        let Some(place) = self.0.get_mut((slot % SLOTS) as usize) else { return };
        if place.0 != slot {
            *place = (slot, 0, 0);
        }
        place.1 = place.1.saturating_add(1);
        place.2 = place.2.saturating_add(u32::from(what != 0));
    }
    fn sums(&self, now: u64) -> (u64, u64) {
        let inside = self.0.iter().filter(|(slot, ..)| *slot + SLOTS > now);
        inside.fold((0, 0), |(all, marked), (_, count, of)| (all + u64::from(*count), marked + u64::from(*of)))
    }
}

/// How many different ones, each with the slot in which it came last.
#[derive(Clone, Debug, Default)]
pub(super) struct Distinct(Vec<(u64, u64)>);

impl Tally for Distinct {
    fn add(&mut self, slot: u64, what: u64) {
        if let Some((_, last)) = self.0.iter_mut().find(|(known, _)| *known == what) {
            *last = slot.max(*last);
            return;
        }
        if self.0.len() >= RATES_DISTINCT_MAX {
            self.0.retain(|(_, last)| last + SLOTS > slot);
        }
        // Beyond, a scanner is a scanner.
        if self.0.len() < RATES_DISTINCT_MAX {
            self.0.push((what, slot));
        }
    }
    fn sums(&self, now: u64) -> (u64, u64) {
        (self.0.iter().filter(|(_, last)| last + SLOTS > now).count() as u64, 0)
    }
}

#[derive(Clone, Debug, Default)]
struct Key<T> {
    /// The newest slot in which something came.
    newest: u64,
    /// The slot in which it was told last.
    told: Option<u64>,
    tally: T,
}

/// One rate of many keys.
#[derive(Debug)]
pub(super) struct Windows<T> {
    /// Length of a slot.
    slot: Nanos,
    keys_max: usize,
    all: HashMap<u128, Key<T>>,
    /// The same by the slot in which something came last.
    touched: BTreeSet<(u64, u128)>,
    /// Of all keys.
    newest: u64,
    pub(super) evicted: u64,
}

impl<T: Tally> Windows<T> {
    pub(super) fn new(window: Nanos, keys_max: usize) -> Self {
        let slot = (window / SLOTS).max(1);
        Self { slot, keys_max, all: HashMap::new(), touched: BTreeSet::new(), newest: 0, evicted: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Notes something, and gives the value if it is to be told: `value` gives one, and none was told of this key
    /// for a window.
    ///
    /// - `at`: time of the record.
    /// - `may_tell`: else it is noted only, and told with what comes next.
    pub(super) fn note(
        &mut self,
        name: u128,
        at: Nanos,
        what: impl IntoIterator<Item = u64>,
        may_tell: bool,
        value: impl FnOnce(u64, u64) -> Option<u64>,
    ) -> Option<u64> {
        let slot = at / self.slot;
        self.newest = self.newest.max(slot);
        while let Some((touched, old)) = self.touched.first().copied().filter(|(touched, _)| touched + SLOTS <= self.newest) {
            self.touched.remove(&(touched, old));
            self.all.remove(&old);
        }
        if slot + SLOTS <= self.newest {
            return None;
        }
        let mut key = self.all.remove(&name).unwrap_or_default();
        self.touched.remove(&(key.newest, name));
        key.newest = key.newest.max(slot);
        for what in what {
            key.tally.add(slot, what);
        }
        let now = key.newest;
        let (all, marked) = key.tally.sums(now);
        let told = value(all, marked).filter(|_| may_tell && key.told.is_none_or(|told| told + SLOTS <= now));
        if told.is_some() {
            key.told = Some(now);
        }
        if self.all.len() >= self.keys_max
            && let Some((_, oldest)) = self.touched.pop_first()
        {
            self.all.remove(&oldest);
            self.evicted += 1;
        }
        self.touched.insert((key.newest, name));
        self.all.insert(name, key);
        told
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything that ever came: key, slot, what.
    #[derive(Default)]
    struct Naive {
        all: Vec<(u128, u64, u64)>,
        told: HashMap<u128, u64>,
    }

    impl Naive {
        /// Sums of a key over the window that ends with its newest slot; `None` for what is too old.
        fn note(&mut self, name: u128, slot: u64, what: u64) -> Option<(u64, u64, u64, u64)> {
            let newest = self.all.iter().map(|(_, slot, _)| *slot).max().unwrap_or(0).max(slot);
            if slot + SLOTS <= newest {
                return None;
            }
            self.all.push((name, slot, what));
            let now = self.all.iter().filter(|(known, ..)| *known == name).map(|(_, slot, _)| *slot).max()?;
            let inside: Vec<u64> =
                self.all.iter().filter(|(known, slot, _)| *known == name && slot + SLOTS > now).map(|(_, _, what)| *what).collect();
            let distinct = inside.iter().collect::<BTreeSet<_>>().len() as u64;
            Some((now, inside.len() as u64, inside.iter().filter(|what| **what != 0).count() as u64, distinct))
        }
        fn tells(&mut self, name: u128, now: u64, is_above: bool) -> bool {
            let tells = is_above && self.told.get(&name).is_none_or(|told| told + SLOTS <= now);
            if tells {
                self.told.insert(name, now);
            }
            tells
        }
    }

    proptest! {
        #[test]
        fn sums_are_those_of_a_twin_that_keeps_everything(
            steps in proptest::collection::vec((0..3u128, 0..40i64, 0..4u64), 1..200), above in 1..6u64,
        ) {
            let (mut counts, mut distinct) = (Windows::<Counts>::new(120, 100), Windows::<Distinct>::new(120, 100));
            let (mut naive, mut other) = (Naive::default(), Naive::default());
            let mut at = 10_000_i64;
            for (name, pass, what) in steps {
                // Mostly on, at times back.
                at += if pass > 35 { -15 * (pass - 35) } else { pass / 4 };
                let now = at as u64;
                let mut seen = None;
                let told = counts.note(name, now, [what], true, |all, marked| { seen = Some((all, marked)); (all > above).then_some(all) });
                let expected = naive.note(name, now / 10, what);
                prop_assert_eq!(seen, expected.map(|(_, all, marked, _)| (all, marked)));
                if let Some((slot, all, ..)) = expected {
                    prop_assert_eq!(told.is_some(), naive.tells(name, slot, all > above));
                }
                let mut seen = None;
                let told = distinct.note(name, now, [what], true, |all, _| { seen = Some(all); (all > above).then_some(all) });
                prop_assert_eq!(seen, expected.map(|(.., distinct)| distinct));
                if let Some((slot, .., different)) = expected {
                    prop_assert_eq!(told.is_some(), other.tells(name, slot, different > above));
                }
            }
        }

        #[test]
        fn keys_are_bounded_and_what_goes_is_counted(names in proptest::collection::vec(0..50u128, 1..200), room in 1..8usize) {
            let mut windows = Windows::<Counts>::new(1_000_000, room);
            let mut new = 0;
            for name in names {
                new += u64::from(!windows.all.contains_key(&name));
                windows.note(name, 5, [0], true, |_, _| None);
                prop_assert!(windows.len() <= room && windows.touched.len() == windows.len());
            }
            prop_assert_eq!(windows.evicted + windows.len() as u64, new);
        }
    }

    #[test]
    fn silent_keys_go_and_what_may_not_be_told_is_told_later() {
        let mut windows = Windows::<Counts>::new(120, 100);
        let above = |all: u64, _: u64| (all > 1).then_some(all);
        assert_eq!(windows.note(1, 0, [0], true, above), None);
        assert_eq!(windows.note(1, 0, [0], false, above), None);
        assert_eq!(windows.note(1, 0, [0], true, above), Some(3));
        assert_eq!(windows.note(1, 119, [0], true, above), None, "told in this window");
        assert_eq!(windows.note(2, 239, [0], true, above), None);
        assert_eq!(windows.len(), 1, "the other was silent for a window");
    }
}
