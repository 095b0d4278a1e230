//! Rungs: proofs that a file still holds the bytes that were read from it.
//!
//! A rung is an offset and the checksum of the bytes just before it. After a restart the highest
//! rung that fits into the file is computed again; if it agrees, the file is the one that was
//! read, up to there. Few rungs must vouch for a long file, so they stand close together near its
//! end, where a power cut takes bytes away, and ever further apart towards its start.
//!
//! The invariant, with `end` the newest rung: of all rungs between the first and the last, the
//! one goes whose neighbours' distance is smallest in relation to how far back they lie. A gap
//! made by that grows no more, while its distance from the end does, so no gap is ever more than
//! a small multiple of its distance from the end.

use crate::limits;

use super::Rung;

/// The rungs of one segment, lowest first, no more than [`limits::RUNGS_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ladder {
    rungs: Vec<Rung>,
}

/// The checksum of a rung: of the last [`limits::RUNG_BYTES`] of `before`, or of all if fewer.
pub fn rung_crc(before: &[u8]) -> u32 {
    let start = before.len().saturating_sub(limits::RUNG_BYTES);
    crc32c::crc32c(before.get(start..).unwrap_or_default())
}

impl Ladder {
    /// The ladder that a checkpoint holds. Rungs that are out of order are left out.
    pub fn from_rungs(saved: &[Rung]) -> Self {
        let mut ladder = Self::default();
        for rung in saved {
            if ladder.rungs.last().is_none_or(|last| last.offset < rung.offset) {
                ladder.rungs.push(*rung);
            }
        }
        ladder
    }

    /// Adds a rung at the end.
    ///
    /// - `offset`: bytes from the start of the file; rungs at or above it are forgotten first,
    ///   since what is below it was just read.
    /// - `crc`: as [`rung_crc`] gives it for the bytes before `offset`.
    /// - `watermark`: the newest rung at or below it survives, whatever must go.
    pub fn push(&mut self, offset: u64, crc: u32, watermark: u64) {
        while self.rungs.last().is_some_and(|last| last.offset >= offset) {
            self.rungs.pop();
        }
        self.rungs.push(Rung { offset, crc });
        while self.rungs.len() > limits::RUNGS_MAX {
            self.thin(watermark);
        }
    }

    /// Forgets the rungs above `offset`: the file was cut back to it.
    pub fn cut(&mut self, offset: u64) {
        self.rungs.retain(|rung| rung.offset <= offset);
    }

    /// The highest rung of which every byte is within `size`.
    pub fn highest_at_or_below(&self, size: u64) -> Option<Rung> {
        self.rungs.iter().rev().find(|rung| rung.offset <= size).copied()
    }

    /// All rungs, lowest first, as the checkpoint saves them.
    pub fn rungs(&self) -> &[Rung] {
        &self.rungs
    }

    fn thin(&mut self, watermark: u64) {
        let kept = self.highest_at_or_below(watermark);
        let end = self.rungs.last().map_or(0, |rung| rung.offset);
        let mut best: Option<(u128, u128, usize)> = None;
        for (n, three) in self.rungs.windows(3).enumerate() {
            let &[before, rung, after] = three else { continue };
            if Some(rung) == kept {
                continue;
            }
            let gap = u128::from(after.offset - before.offset);
            let back = u128::from(end - after.offset);
            // The smallest gap / back, without dividing; `<=` lets the later of equals go, so
            // that before the end moves it is not the start that pays.
            let better = best.is_none_or(|(best_gap, best_back, _)| gap * best_back < best_gap * back || (back > 0 && best_back == 0));
            if better {
                best = Some((gap, back, n + 1));
            }
        }
        match best {
            Some((_, _, n)) => drop(self.rungs.remove(n)),
            None => self.rungs.truncate(limits::RUNGS_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offsets(ladder: &Ladder) -> Vec<u64> {
        ladder.rungs().iter().map(|rung| rung.offset).collect()
    }

    #[test]
    fn a_checksum_covers_the_last_bytes_only() {
        let mut bytes = vec![7; 3 * limits::RUNG_BYTES];
        let crc = rung_crc(&bytes);
        bytes[0] = 8;
        assert_eq!(rung_crc(&bytes), crc);
        *bytes.last_mut().unwrap() = 8;
        assert_ne!(rung_crc(&bytes), crc);
        assert_eq!(rung_crc(b"abc"), crc32c::crc32c(b"abc"));
        assert_eq!(rung_crc(b""), 0);
    }

    #[test]
    fn a_cut_file_is_answered_by_what_is_left() {
        let mut ladder = Ladder::default();
        for n in 1..=10 {
            ladder.push(n * 100, n as u32, 0);
        }
        assert_eq!(ladder.highest_at_or_below(555).unwrap().offset, 500);
        assert_eq!(ladder.highest_at_or_below(500).unwrap().offset, 500);
        assert_eq!(ladder.highest_at_or_below(99), None);
        ladder.cut(300);
        assert_eq!(offsets(&ladder), [100, 200, 300]);
        ladder.push(250, 9, 0);
        assert_eq!(offsets(&ladder), [100, 200, 250], "what is pushed was just read");
    }

    #[test]
    fn a_saved_ladder_in_disorder_is_read_as_far_as_it_climbs() {
        let rung = |offset| Rung { offset, crc: 0 };
        assert_eq!(offsets(&Ladder::from_rungs(&[rung(5), rung(5), rung(3), rung(8)])), [5, 8]);
    }

    #[test]
    fn a_day_of_slabs_is_dense_at_its_end_and_reaches_its_start() {
        let mut ladder = Ladder::default();
        for n in 1..=20_000_u64 {
            ladder.push(n * 262_144, 0, n * 262_144 - 65_536);
        }
        let offsets = offsets(&ladder);
        assert_eq!(offsets.len(), limits::RUNGS_MAX);
        assert_eq!(offsets[0], 262_144);
        let end = offsets[offsets.len() - 1];
        assert!(offsets[offsets.len() - 8] >= end - 16 * 262_144, "{offsets:?}");
    }

    proptest! {
        /// The twin is the list of all pushes: thinning may only choose among them, keeps the
        /// first and the last, and leaves no wide gap near the end.
        #[test]
        fn gaps_grow_with_the_distance_from_the_end(
            steps in proptest::collection::vec((0_u32..40, 0_u64..64), 1..600),
            behind in 0_usize..80,
        ) {
            let mut all = Vec::new();
            let mut ladder = Ladder::default();
            let mut offset = 0_u64;
            for (shift, low) in steps {
                offset += (1_u64 << shift) + low;
                all.push(offset);
                let watermark = all[all.len().saturating_sub(1 + behind)];
                ladder.push(offset, shift, watermark);
                let mine = offsets(&ladder);
                prop_assert!(mine.len() <= limits::RUNGS_MAX);
                prop_assert!(mine.iter().all(|o| all.binary_search(o).is_ok()));
                prop_assert_eq!(mine.first(), all.first());
                prop_assert_eq!(mine.last(), all.last());
                for pair in mine.windows(2) {
                    let next_pushed = all[all.partition_point(|o| *o <= pair[0])];
                    let fresh = next_pushed == pair[1];
                    let gap = pair[1] - pair[0];
                    prop_assert!(fresh || gap <= 8 * (offset - pair[1]), "gap {gap} at {} of {offset}", pair[1]);
                }
            }
        }

        #[test]
        fn the_newest_rung_below_a_resting_watermark_stays(steps in proptest::collection::vec(1_u64..1_000_000, 2..400), at in 0_usize..400) {
            let mut ladder = Ladder::default();
            let mut all = Vec::new();
            let mut offset = 0;
            for step in steps {
                offset += step;
                all.push(offset);
                // The watermark follows the end, then rests: a sink is away.
                let watermark = all[at.min(all.len() - 1)];
                ladder.push(offset, 0, watermark);
                prop_assert_eq!(ladder.highest_at_or_below(watermark).map(|r| r.offset), Some(watermark));
            }
        }
    }
}
