//! Which documents were handed in, as far back as they are asked for again: a bounded set. Pure.
//!
//! Documents come late, so the last minutes are asked for again and again, and what is known is passed over. A
//! document is its index and id, kept as 64 bits of their SHA-256: nobody finds another document with the same
//! ones. Beside each stands the time below which it is not asked for again.
//!
//! Invariant: never more than `max`; of more the oldest eighth is forgotten, and [`forgotten`](Seen::forgotten) says up to when.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

/// Milliseconds since 1970.
pub(super) type Ms = i64;

/// What a document is known by.
pub(super) type Name = u64;

/// The name of a document.
pub(super) fn name(index: &str, id: &str) -> Name {
    let mut hash = Sha256::new();
    hash.update((index.len() as u64).to_le_bytes());
    hash.update(index);
    hash.update(id);
    hash.finalize().iter().take(8).fold(0, |name, byte| name << 8 | u64::from(*byte))
}

/// The set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    marks: HashMap<Name, Ms>,
    max: usize,
    /// Times of all that was forgotten are at or below this.
    forgotten: Ms,
}

impl Seen {
    /// - `max`: documents, at least 1.
    pub(super) fn new(max: usize) -> Self {
        Self { marks: HashMap::new(), max: max.max(1), forgotten: Ms::MIN }
    }

    /// Documents in it.
    pub(super) fn len(&self) -> usize {
        self.marks.len()
    }

    pub(super) fn has(&self, name: Name) -> bool {
        self.marks.contains_key(&name)
    }

    /// Times of all that was forgotten, for want of room or since it is not asked for again, are at or below this; `Ms::MIN`
    /// before the first. So a longer look back than before repeats nothing.
    pub(super) fn forgotten(&self) -> Ms {
        self.forgotten
    }

    /// Puts a document in, or says that it is still asked for. True if others had to go for it.
    pub(super) fn mark(&mut self, name: Name, at: Ms) -> bool {
        let mark = self.marks.entry(name).or_insert(at);
        *mark = (*mark).max(at);
        self.bound()
    }

    /// Forgets what is not asked for again.
    pub(super) fn prune(&mut self, below: Ms) {
        self.marks.retain(|_, at| *at >= below);
        self.forgotten = self.forgotten.max(below.saturating_sub(1));
        if self.marks.capacity() > 4 * self.marks.len().max(1024) {
            self.marks.shrink_to_fit();
        }
    }

    /// One pass for an eighth of all, so that a full set costs little for each document.
    fn bound(&mut self) -> bool {
        if self.marks.len() <= self.max {
            return false;
        }
        let mut all: Vec<(Ms, Name)> = self.marks.iter().map(|(name, at)| (*at, *name)).collect();
        let gone = all.len() - self.max + self.max / 8;
        let (oldest, last, _) = all.select_nth_unstable(gone - 1);
        self.forgotten = self.forgotten.max(last.0);
        let last = last.1;
        oldest.iter().map(|(_, name)| *name).chain([last]).for_each(|name| _ = self.marks.remove(&name));
        true
    }

    /// Writes all but some of them: times as steps from the earliest, which are short.
    pub(super) fn write(&self, but: &HashSet<Name>, out: &mut Vec<u8>) {
        let base = self.marks.values().copied().min().unwrap_or(0);
        let all = || self.marks.iter().filter(|(name, _)| !but.contains(name));
        out.extend_from_slice(&self.forgotten.to_le_bytes());
        out.extend_from_slice(&base.to_le_bytes());
        out.extend_from_slice(&(all().count() as u64).to_le_bytes());
        for (name, at) in all() {
            step(at.wrapping_sub(base).cast_unsigned(), out);
            out.extend_from_slice(&name.to_le_bytes());
        }
    }

    /// Reads what [`write`](Self::write) wrote; `None` if it is not that.
    pub(super) fn read(max: usize, bytes: &mut &[u8]) -> Option<Self> {
        let mut seen = Self { forgotten: i64_of(bytes)?, ..Self::new(max) };
        let (base, count) = (i64_of(bytes)?, u64_of(bytes)?);
        // Nine bytes at least for each.
        if count > (bytes.len() / 9) as u64 {
            return None;
        }
        seen.marks.reserve(usize::try_from(count).ok()?);
        for _ in 0..count {
            let at = base.wrapping_add(step_of(bytes)?.cast_signed());
            seen.marks.insert(u64_of(bytes)?, at);
        }
        // Where the bound is lower than before.
        seen.bound();
        Some(seen)
    }
}

/// LEB128: seven bits a byte, the lowest first, the eighth says that more follow.
pub(super) fn step(mut n: u64, out: &mut Vec<u8>) {
    while n >= 128 {
        out.push(u8::try_from(n & 127).unwrap_or(0) | 128);
        n >>= 7;
    }
    out.push(u8::try_from(n).unwrap_or(0));
}

pub(super) fn step_of(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u64::from(byte & 127).checked_shl(shift)?;
        if byte & 128 == 0 {
            return Some(n);
        }
    }
    None
}

pub(super) fn u64_of(bytes: &mut &[u8]) -> Option<u64> {
    let (eight, rest) = bytes.split_first_chunk::<8>()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*eight))
}

pub(super) fn i64_of(bytes: &mut &[u8]) -> Option<i64> {
    u64_of(bytes).map(u64::cast_signed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests state what must hold")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_of_index_and_id_together() {
        assert_ne!(name("a", "bc"), name("ab", "c"));
        assert_ne!(name("a", "b"), name("a", "c"));
        // SHA-256 of eight bytes of length (1), "a", "b".
        assert_eq!(name("a", "b"), name("a", "b"));
    }

    #[test]
    fn of_too_many_the_oldest_go() {
        let mut seen = Seen::new(8);
        for n in 0..8 {
            assert!(!seen.mark(n, 100 + n.cast_signed()));
        }
        assert!(seen.mark(8, 50), "one had to go, and an eighth with it");
        assert_eq!((seen.len(), seen.forgotten()), (7, 100));
        assert!(!seen.has(8) && !seen.has(0) && seen.has(1));
        seen.prune(103);
        assert_eq!((seen.len(), seen.forgotten()), (5, 102));
    }

    mod naive {
        use super::{Ms, Name};

        /// Everything in a list.
        #[derive(Default)]
        pub struct Seen {
            pub all: Vec<(Ms, Name)>,
            pub forgotten: Option<Ms>,
        }

        impl Seen {
            pub fn mark(&mut self, max: usize, name: Name, at: Ms) {
                match self.all.iter_mut().find(|(_, n)| *n == name) {
                    Some(known) => known.0 = known.0.max(at),
                    None => self.all.push((at, name)),
                }
                if self.all.len() > max {
                    self.all.sort();
                    for _ in 0..1 + max / 8 {
                        let (at, _) = self.all.remove(0);
                        self.forgotten = self.forgotten.max(Some(at));
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_list_and_survives_being_written(
            max in 1usize..20,
            steps in prop::collection::vec((0u64..30, -50i64..50, prop::option::of(-50i64..50)), 0..60),
        ) {
            let (mut seen, mut naive) = (Seen::new(max), naive::Seen::default());
            for (name, at, below) in steps {
                seen.mark(name, at);
                naive.mark(max, name, at);
                if let Some(below) = below {
                    seen.prune(below);
                    naive.all.retain(|(at, _)| *at >= below);
                    naive.forgotten = naive.forgotten.max(Some(below - 1));
                }
                for n in 0..30 {
                    prop_assert_eq!(seen.has(n), naive.all.iter().any(|(_, name)| *name == n), "{}", n);
                }
                prop_assert_eq!(seen.forgotten(), naive.forgotten.unwrap_or(Ms::MIN));
                let mut bytes = Vec::new();
                seen.write(&HashSet::from([3, 4]), &mut bytes);
                let read = Seen::read(max, &mut &bytes[..]).unwrap();
                for n in 0..30 {
                    prop_assert_eq!(read.has(n), seen.has(n) && n != 3 && n != 4);
                }
                prop_assert_eq!(read.forgotten(), seen.forgotten());
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Seen::read(10, &mut &bytes[..]);
        }
    }
}
