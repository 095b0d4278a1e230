//! Chance, by a seed.

/// SplitMix64: the same seed, the same choices.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Choices of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    /// A number below `end`; 0 where `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.any() % end }
    }
    /// The same, to index a slice.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }
    /// True so many times of a thousand.
    pub fn of_thousand(&mut self, times: u32) -> bool {
        self.below(1000) < u64::from(times)
    }
    /// Choices of their own, for a part whose use of chance must not move another's.
    pub fn fork(&mut self) -> Self {
        Self(self.any())
    }
}
