//! One part of the indicator filter: a binary fuse filter of 16-bit fingerprints.
//!
//! A static set: every key that it was built of is found, and of all others one in 65,536. It
//! takes about 18 bits a key. The idea (Graf and Lemire, "Binary Fuse Filters: Fast and Smaller
//! Than Xor Filters", 2022): a key has three places in an array, one in each of three neighbouring
//! segments, and the exclusive or of the three numbers there is its fingerprint. To build it, take
//! away again and again a key that is alone in one of its places, until none is left; then, in the
//! other order, write into that place what makes the exclusive or right.
//!
//! ```text
//! count the keys of every place, and xor them
//! for every place with one key:  take the key away, note (key, place); its other places lose it
//! all taken?  no: another seed.  yes: for each noted, last first:
//!     array[place] = fingerprint(key) ^ array[its two other places]
//! ```
//!
//! Keys are already hashes; the seed only has to spread them anew after a failure.

use super::key::Key;

/// Seeds tried. One fails in a few of a hundred sets, so this is never reached with distinct keys.
const SEEDS_MAX: u64 = 100;

/// How the places of a part lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub seed: u64,
    /// Places of a segment: a power of two.
    pub segment: u32,
    /// Segments in which a key's first place may lie; two more follow them.
    pub segments: u32,
}

/// A part that was built.
#[derive(Clone, Debug)]
pub(super) struct Fuse {
    pub shape: Shape,
    pub fingerprints: Vec<u16>,
}

/// Spreads a key by a seed (the finaliser of MurmurHash3, which is in the public domain).
fn mix(key: Key, seed: u64) -> u64 {
    let mut h = key.0.wrapping_add(seed);
    h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

fn fingerprint(hash: u64) -> u16 {
    (hash ^ (hash >> 32)) as u16
}

impl Shape {
    /// Places of `count` keys.
    fn of(count: usize, seed: u64) -> Self {
        let n = count.max(2) as f64;
        let segment = 1u32 << ((n.ln() / 3.33f64.ln() + 2.25).floor() as u32).min(18);
        let factor = (0.875 + 0.25 * 1e6f64.ln() / n.ln()).max(1.125);
        let places = (count as f64 * factor).round() as u64;
        let segments = places.div_ceil(u64::from(segment)).saturating_sub(2).max(1);
        Self { seed, segment, segments: u32::try_from(segments).unwrap_or(u32::MAX) }
    }

    /// Places in the array; `None` for a shape that no builder makes.
    pub fn places(&self) -> Option<usize> {
        let is_sound = self.segment.is_power_of_two() && self.segment <= 1 << 18 && self.segments > 0;
        let places = (u64::from(self.segments) + 2) * u64::from(self.segment);
        is_sound.then_some(places)?.try_into().ok()
    }

    fn places_of(&self, hash: u64) -> [usize; 3] {
        let first = (u128::from(hash) * (u128::from(self.segments) * u128::from(self.segment))) >> 64;
        // Below segments × segment, which `places` bounds by usize.
        let first = first as usize;
        let (segment, mask) = (self.segment as usize, u64::from(self.segment) - 1);
        // Bits that the multiplication above did not put in front.
        [first, (first + segment) ^ (hash >> 18 & mask) as usize, (first + 2 * segment) ^ (hash & mask) as usize]
    }

    /// True if the key is in the part whose fingerprint at a place `at` tells; a place outside the
    /// array gives `None`, which no key's fingerprint is.
    pub fn holds(&self, key: Key, at: impl Fn(usize) -> Option<u16>) -> bool {
        let hash = mix(key, self.seed);
        let [a, b, c] = self.places_of(hash);
        let (Some(a), Some(b), Some(c)) = (at(a), at(b), at(c)) else { return false };
        a ^ b ^ c == fingerprint(hash)
    }
}

/// Builds a part of distinct keys; `None` if no seed fits, which means that keys repeat.
///
/// Takes 9 bytes a place and 12 a key beside the result while it works: 3 MB for 100,000 keys.
pub(super) fn build(keys: &[Key]) -> Option<Fuse> {
    for seed in 1..=SEEDS_MAX {
        let shape = Shape::of(keys.len(), seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        if let Some(fingerprints) = peel(keys, &shape) {
            return Some(Fuse { shape, fingerprints });
        }
    }
    None
}

/// The array of a shape; `None` if keys are left that are alone nowhere.
#[allow(clippy::indexing_slicing, reason = "places_of stays below places() by construction, and keys are ours")]
fn peel(keys: &[Key], shape: &Shape) -> Option<Vec<u16>> {
    let places = shape.places()?;
    let mut counts = vec![0u8; places];
    let mut hashes = vec![0u64; places];
    for key in keys {
        let hash = mix(*key, shape.seed);
        for place in shape.places_of(hash) {
            // 255 keys in one place: not at this density, but keys that repeat could do it.
            counts[place] = counts[place].checked_add(1)?;
            hashes[place] ^= hash;
        }
    }
    let mut alone: Vec<u32> = (0u32..).zip(&counts).filter(|(_, count)| **count == 1).map(|(place, _)| place).collect();
    let mut taken: Vec<(u64, u32)> = Vec::with_capacity(keys.len());
    while let Some(place) = alone.pop() {
        if counts[place as usize] != 1 {
            continue; // Taken through another of its places meanwhile.
        }
        let hash = hashes[place as usize];
        taken.push((hash, place));
        for other in shape.places_of(hash) {
            counts[other] -= 1;
            hashes[other] ^= hash;
            if counts[other] == 1 {
                alone.push(other as u32);
            }
        }
    }
    if taken.len() != keys.len() {
        return None;
    }
    let mut array = vec![0u16; places];
    for (hash, place) in taken.into_iter().rev() {
        array[place as usize] = 0;
        array[place as usize] = shape.places_of(hash).into_iter().fold(fingerprint(hash), |xor, place| xor ^ array[place]);
    }
    Some(array)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holds(fuse: &Fuse, key: Key) -> bool {
        fuse.shape.holds(key, |at| fuse.fingerprints.get(at).copied())
    }

    fn keys(n: u64) -> Vec<Key> {
        (0..n).map(|n| Key::of(&n.to_be_bytes())).collect()
    }

    #[test]
    fn every_key_is_found_and_few_others_are() {
        for n in [0, 1, 2, 3, 10, 100, 1_000, 100_000] {
            let keys = keys(n);
            let fuse = build(&keys).unwrap();
            assert!(keys.iter().all(|key| holds(&fuse, *key)), "{n}");
            let others = 200_000u64;
            let wrong = (0..others).filter(|n| holds(&fuse, Key::of(format!("other {n}").as_bytes()))).count();
            // 3 expected; 20 has a chance of less than one in a thousand million.
            assert!(wrong < 20, "{wrong} of {others} with {n} keys");
            if n >= 100_000 {
                assert!(fuse.fingerprints.len() as f64 / (n as f64) < 1.2, "{}", fuse.fingerprints.len());
            }
        }
    }

    #[test]
    fn keys_that_repeat_have_no_filter() {
        assert!(build(&[Key(7), Key(7)]).is_none());
        assert!(build(&vec![Key(7); 300]).is_none());
    }

    proptest! {
        #[test]
        fn any_distinct_keys_are_found(keys in proptest::collection::btree_set(any::<u64>(), 0..300)) {
            let keys: Vec<Key> = keys.into_iter().map(Key).collect();
            let fuse = build(&keys).unwrap();
            prop_assert_eq!(fuse.shape.places(), Some(fuse.fingerprints.len()));
            for key in &keys {
                prop_assert!(holds(&fuse, *key));
            }
        }

        #[test]
        fn keys_that_follow_each_other_are_found(from: u64, n in 0..400u64) {
            let keys: Vec<Key> = (0..n).map(|n| Key(from.wrapping_add(n))).collect();
            let fuse = build(&keys).unwrap();
            prop_assert!(keys.iter().all(|key| holds(&fuse, *key)));
        }
    }
}
