//! What was learned lately, bounded by bytes. Pure.
//!
//! Entries have a life of their own and stand in one ring. Where room is needed the oldest is looked
//! at: one that was used since then goes to the ring's end once more, another goes for good (the
//! CLOCK rule). So a flood of values that are asked once, which is what an attacker can send, does
//! not drive out those that are asked all day, and an entry costs no list pointers.

use std::{
    collections::{HashMap, VecDeque},
    rc::Rc,
};

use crate::clock::Nanos;

/// Bytes of an entry beside its key and value: its places in map and ring.
const ENTRY_BYTES: usize = 128;

/// Values by key, each until its time.
#[derive(Debug)]
pub struct Cache<V> {
    bytes_max: usize,
    bytes: usize,
    entries: HashMap<Rc<str>, Entry<V>>,
    ring: VecDeque<Rc<str>>,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    until: Nanos,
    weight: usize,
    is_used: bool,
}

impl<V: Clone> Cache<V> {
    /// Holds about so many bytes; 0 holds nothing.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, entries: HashMap::new(), ring: VecDeque::new() }
    }

    /// The value of a key that is still alive.
    pub fn get(&mut self, key: &str, now: Nanos) -> Option<V> {
        let entry = self.entries.get_mut(key)?;
        if now >= entry.until {
            return None;
        }
        entry.is_used = true;
        Some(entry.value.clone())
    }

    /// Keeps a value in place of an older one of its key.
    ///
    /// - `weight`: bytes of the value.
    /// - `until`: when it is forgotten.
    pub fn put(&mut self, key: Rc<str>, value: V, weight: usize, until: Nanos) {
        let weight = weight + key.len() + ENTRY_BYTES;
        if weight > self.bytes_max {
            return;
        }
        self.bytes += weight;
        match self.entries.insert(key.clone(), Entry { value, until, weight, is_used: false }) {
            Some(old) => self.bytes -= old.weight,
            None => self.ring.push_back(key),
        }
        while self.bytes > self.bytes_max {
            self.make_room();
        }
    }

    fn make_room(&mut self) {
        let Some(key) = self.ring.pop_front() else { return };
        match self.entries.get_mut(&key) {
            Some(entry) if entry.is_used => {
                entry.is_used = false;
                self.ring.push_back(key);
            }
            _ => {
                if let Some(entry) = self.entries.remove(&key) {
                    self.bytes -= entry.weight;
                }
            }
        }
    }

    /// Bytes held, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Entries held, those that died among them.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_dies_in_its_time_and_is_replaced_by_a_newer_one() {
        let mut cache = Cache::new(1000);
        cache.put("a".into(), 1, 0, 10);
        assert_eq!((cache.get("a", 9), cache.get("a", 10)), (Some(1), None));
        cache.put("a".into(), 2, 0, 20);
        assert_eq!((cache.get("a", 10), cache.len()), (Some(2), 1));
    }

    #[test]
    fn what_is_asked_again_outlives_a_flood() {
        let mut cache = Cache::new(10 * (ENTRY_BYTES + 4));
        cache.put("good".into(), 0, 0, u64::MAX);
        for n in 0..1000 {
            assert_eq!(cache.get("good", 1), Some(0), "after {n} others");
            cache.put(format!("{n:04}").into(), n, 0, u64::MAX);
        }
        assert_eq!(cache.len(), 10);
    }

    #[test]
    fn what_is_larger_than_all_room_is_not_kept() {
        let mut cache = Cache::new(ENTRY_BYTES + 10);
        cache.put("a".into(), 1, 5, u64::MAX);
        cache.put("b".into(), 2, 10, u64::MAX);
        assert_eq!((cache.get("a", 0), cache.get("b", 0)), (Some(1), None));
    }

    proptest! {
        #[test]
        fn it_never_lies_and_never_outgrows(room in 0usize..6, steps in prop::collection::vec((0u8..8, 0u64..4, any::<bool>()), 0..64)) {
            let bytes_max = room * (ENTRY_BYTES + 1);
            let mut cache = Cache::new(bytes_max);
            // The naive twin forgets nothing but the dead.
            let mut twin: HashMap<String, (usize, u64)> = HashMap::new();
            for (n, (key, life, is_put)) in steps.into_iter().enumerate() {
                let (now, key) = (n as u64, key.to_string());
                if is_put {
                    cache.put(key.as_str().into(), n, 0, now + life);
                    twin.insert(key, (n, now + life));
                } else {
                    let truth = twin.get(&key).filter(|(_, until)| now < *until).map(|(value, _)| *value);
                    let got = cache.get(&key, now);
                    prop_assert!(got.is_none() || got == truth);
                    prop_assert!(got == truth || twin.len() > room, "there was room for everything");
                }
                prop_assert!(cache.bytes() <= bytes_max);
                prop_assert_eq!(cache.len(), cache.ring.len());
            }
        }
    }
}
