//! Sizes of files for which a verdict is kept, so that nobody is asked about the others.
//!
//! Counts in slots that sizes share. It errs to one side: what is kept is never denied; what is gone may be affirmed, also after a
//! commit that failed, whose verdicts stay counted.

use std::sync::atomic::{AtomicU32, Ordering};

/// Half a MiB; with ten thousand different sizes one question in thirteen is asked in vain.
const SLOTS: usize = 1 << 17;

#[derive(Debug)]
pub(super) struct Sizes {
    /// A power of two of them.
    slots: Box<[AtomicU32]>,
}

impl Default for Sizes {
    fn default() -> Self {
        Self::with_slots(SLOTS)
    }
}

impl Sizes {
    fn with_slots(slots: usize) -> Self {
        Self { slots: std::iter::repeat_with(AtomicU32::default).take(slots).collect() }
    }

    fn slot(&self, size: u64) -> Option<&AtomicU32> {
        // Neighbours and powers of two are the usual sizes: both have to spread, which takes two rounds.
        let mix = |n: u64| (n ^ n >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let mixed = mix(mix(size)) >> 32;
        self.slots.get(usize::try_from(mixed).unwrap_or(0) & (self.slots.len() - 1))
    }

    /// Before the verdict can be found.
    pub fn add(&self, size: u64) {
        if let Some(slot) = self.slot(size) {
            slot.fetch_add(1, Ordering::Release); // with `may_hold`
        }
    }

    /// After the verdict is gone.
    pub fn remove(&self, size: u64) {
        if let Some(slot) = self.slot(size) {
            // What was never added takes nothing from others.
            let _ = slot.fetch_update(Ordering::Release, Ordering::Relaxed, |count| count.checked_sub(1));
        }
    }

    /// `false` if surely no verdict is kept for a file of so many bytes.
    pub fn may_hold(&self, size: u64) -> bool {
        self.slot(size).is_none_or(|slot| slot.load(Ordering::Acquire) > 0)
    }
}

#[cfg(test)]
mod props {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_kept_is_never_denied(steps in prop::collection::vec((any::<bool>(), 0u64..24), 0..200), slots in 0u32..8) {
            let sizes = Sizes::with_slots(1 << slots);
            let mut naive: BTreeMap<u64, u32> = BTreeMap::new();
            for (is_added, size) in steps {
                if is_added {
                    sizes.add(size);
                    *naive.entry(size).or_default() += 1;
                } else if let Some(count) = naive.get_mut(&size).filter(|count| **count > 0) {
                    sizes.remove(size);
                    *count -= 1;
                }
                for size in 0..24 {
                    prop_assert!(sizes.may_hold(size) || naive.get(&size).is_none_or(|count| *count == 0));
                }
            }
            let rest: Vec<(u64, u32)> = naive.into_iter().collect();
            for (size, count) in rest {
                (0..count).for_each(|_| sizes.remove(size));
            }
            prop_assert!((0..24).all(|size| !sizes.may_hold(size)), "all are gone, and nothing is affirmed any more");
        }
    }

    #[test]
    fn usual_sizes_have_slots_of_their_own() {
        let sizes = Sizes::default();
        (0..5000).for_each(|n| sizes.add(n));
        (13..40).for_each(|n| sizes.add(1 << n));
        let affirmed = (10_000..20_000u64).filter(|size| sizes.may_hold(*size)).count();
        assert!(affirmed < 1000, "{affirmed} of 10,000 that are not there");
    }
}
