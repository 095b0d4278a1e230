//! Chance by a seed: the same seed, the same draws.

use crate::synth::template::{below, mix};

/// A sequence of draws.
#[derive(Clone, Debug)]
pub(super) struct Draws {
    seed: u64,
    drawn: u64,
}

impl Draws {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed: mix(seed), drawn: 0 }
    }

    fn any(&mut self) -> u64 {
        self.drawn += 1;
        mix(self.seed ^ mix(self.drawn))
    }

    /// A number below `n`, which is from 1 to 2^32.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        below(self.any(), n)
    }

    /// A number from `low` to `high`, both included.
    pub(super) fn from(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True so many times of a hundred.
    pub(super) fn percent(&mut self, times: u64) -> bool {
        self.below(100) < times
    }

    /// One of them, which there must be.
    pub(super) fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    /// Some of them, each once, in their order.
    ///
    /// - `count`: at most as many as there are.
    pub(super) fn some<'a, T>(&mut self, of: &'a [T], count: usize) -> Vec<&'a T> {
        let mut wanted = count.min(of.len());
        let mut taken = Vec::with_capacity(wanted);
        for (n, one) in of.iter().enumerate() {
            // As many as are wanted of those that are left: each set is as likely as any other.
            if self.below((of.len() - n) as u64) < wanted as u64 {
                taken.push(one);
                wanted -= 1;
            }
        }
        taken
    }

    /// Which of these weights the draw falls on; their sum is from 1 to 2^32.
    pub(super) fn weighted(&mut self, weights: &[u32]) -> usize {
        let mut draw = self.below(weights.iter().map(|weight| u64::from(*weight)).sum());
        for (n, weight) in weights.iter().enumerate() {
            match draw.checked_sub(u64::from(*weight)) {
                Some(rest) => draw = rest,
                None => return n,
            }
        }
        weights.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_those_of_their_seed_and_fall_as_they_are_weighted() {
        let all = |seed| {
            let mut draws = Draws::new(seed);
            (0..100).map(|_| draws.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(all(1), all(1));
        assert_ne!(all(1), all(2));
        let (mut draws, mut hits) = (Draws::new(3), [0u32; 4]);
        (0..10_000).for_each(|_| hits[draws.weighted(&[4, 0, 4, 2])] += 1);
        assert_eq!(hits[1], 0);
        for (n, share) in [(0, 4000), (2, 4000), (3, 2000)] {
            assert!(hits[n].abs_diff(share) < 200, "{hits:?}");
        }
    }

    #[test]
    fn some_are_as_many_as_asked_for_each_once_and_each_as_often_as_another() {
        let (mut draws, mut hits, of) = (Draws::new(4), [0u32; 5], [0usize, 1, 2, 3, 4]);
        for _ in 0..5000 {
            let some = draws.some(&of, 2);
            assert!(some.len() == 2 && some[0] < some[1], "{some:?}");
            some.into_iter().for_each(|n| hits[*n] += 1);
        }
        assert!(hits.iter().all(|n| n.abs_diff(2000) < 150), "{hits:?}");
        assert_eq!(draws.some(&of, 9).len(), 5);
        assert!((0..1000).all(|_| (3..=5).contains(&draws.from(3, 5))));
    }
}
