//! Chance and hashes of our own, from one seed: the same on every machine.

/// A stream of random numbers (SplitMix64, Steele and others, OOPSLA 2014): eight bytes of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chance(pub u64);

impl Chance {
    /// The next 64 bits.
    #[allow(clippy::should_implement_trait, reason = "it never ends, so it is no iterator")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }
    /// Uniform in (0, 1): never 0, so that its logarithm is finite.
    pub fn unit(&mut self) -> f64 {
        ((self.next() >> 12) as f64 + 0.5) * (1.0 / 4_503_599_627_370_496.0)
    }
    /// Uniform below `n`, which is not 0.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }
}

/// Bits that depend on all bits of `x`, one to one.
pub fn mixed(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// Both halves of the product of two words, folded.
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// A hash of bytes. Who does not know the seed cannot choose names that meet.
pub fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut state = mixed(seed ^ 0x2545_f491_4f6c_dd1d);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
        state = folded(state ^ word, 0xa076_1d64_78bd_642f ^ seed.rotate_left(32));
    }
    let mut last = [0; 8];
    let rest = words.remainder();
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    state = folded(state ^ u64::from_le_bytes(last), 0xe703_7ed1_a0b4_28db);
    mixed(state ^ bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_paper_and_stay() {
        let mut chance = Chance(1_234_567);
        assert_eq!([chance.next(), chance.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
        let mut chance = Chance(7);
        assert!((0..10_000).all(|_| (1e-17..1.0).contains(&chance.unit())));
        let mean = (0..10_000).map(|_| chance.below(10) as f64).sum::<f64>() / 10_000.0;
        assert!((mean - 4.5).abs() < 0.1, "{mean}");
    }

    #[test]
    fn hashes_differ_by_every_byte_length_and_seed() {
        let mut seen = BTreeSet::new();
        for len in 0..40 {
            let bytes = vec![0_u8; len];
            assert!(seen.insert(hash(1, &bytes)) && seen.insert(hash(2, &bytes)));
            for at in 0..len {
                let mut other = bytes.clone();
                other[at] = 1;
                assert!(seen.insert(hash(1, &other)), "{len} {at}");
            }
        }
    }
}
