//! From a raw score to one that means something: ranks among the last scores, a tail beyond them, a budget.
//!
//! `p` is the share of windows that score as high; `0.5 + 0.1·log10(1/p)` is the score that is told: one window in a
//! hundred has 0.7, one in a thousand 0.8, one in ten thousand 0.9.

use std::collections::VecDeque;

use super::{
    float::{exp, ln, log10},
    saved::{Reader, Writer},
};

/// Scores that are remembered.
pub const SCORES: usize = 16_384;
/// The share of them to whose excesses a tail is fitted is one in so many.
const TAIL: usize = 50;
/// Excesses below which no tail is fitted.
const TAIL_LEAST: usize = 20;
/// The least share that is believed: nobody has seen a thousand million windows.
const P_LEAST: f64 = 1e-9;

/// The last scores, in order of time and in order of size.
#[derive(Clone, Debug, Default)]
pub struct Ranks {
    last: VecDeque<f32>,
    sorted: Vec<f32>,
}

/// What lies beyond most scores.
#[derive(Clone, Copy, Debug)]
struct Tail {
    /// Where it begins.
    base: f64,
    scale: f64,
    shape: f64,
    /// Share of scores above its beginning.
    weight: f64,
}

impl Tail {
    fn share_above(self, score: f64) -> f64 {
        let excess = (score - self.base) / self.scale;
        self.weight * if self.shape < 1e-6 { exp(-excess) } else { exp(-ln(1.0 + self.shape * excess) / self.shape) }
    }
}

impl Ranks {
    /// Scores remembered.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// True before the first.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// Remembers a score; the oldest goes beyond [`SCORES`].
    pub fn push(&mut self, score: f64) {
        let score = score as f32;
        let place = |sorted: &[f32], score: f32| sorted.partition_point(|other| other.total_cmp(&score).is_lt());
        let at = place(&self.sorted, score);
        if self.last.len() < SCORES {
            self.sorted.insert(at, score);
        } else if let Some(gone) = self.last.pop_front() {
            // One goes, one comes: only what lies between them moves.
            let from = place(&self.sorted, gone);
            let to = if from < at { at - 1 } else { at };
            if let Some(between) = self.sorted.get_mut(from.min(to)..=from.max(to)) {
                if from < to { between.rotate_left(1) } else { between.rotate_right(1) }
            }
            if let Some(free) = self.sorted.get_mut(to) {
                *free = score;
            }
        }
        self.last.push_back(score);
    }

    /// The score below which a share of all lies; `None` if there is none yet.
    ///
    /// - `share`: 0 to 1.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let at = (share * self.len() as f64) as usize;
        self.sorted.get(at.min(self.len().checked_sub(1)?)).map(|score| f64::from(*score))
    }

    /// The share of windows that score as high as this one or higher, above 0 and at most 1.
    pub fn share_above(&self, score: f64) -> f64 {
        let n = self.len();
        let below = self.sorted.partition_point(|other| f64::from(*other) < f64::from(score as f32));
        // The score itself is one of those that are as high.
        let share = (n - below + 1) as f64 / (n + 1) as f64;
        if below < n { share } else { self.tail().map_or(share, |tail| tail.share_above(score).min(share)).max(P_LEAST) }
    }

    /// The score that a share of windows reaches; `None` while too few are known for a tail.
    pub fn score_of(&self, share: f64) -> Option<f64> {
        let n = self.len();
        let Tail { base, scale, shape, weight } = self.tail()?;
        let excess = if shape < 1e-6 { ln(weight / share) } else { (exp(shape * ln(weight / share)) - 1.0) / shape };
        // What the tail says is not less than the largest of which there is more than that share.
        let ranked = self.sorted.get(n.checked_sub(((share * (n + 1) as f64) as usize).max(1))?).copied().map_or(0.0, f64::from);
        Some((base + scale * excess).max(ranked))
    }

    /// A generalised Pareto tail, fitted by probability-weighted moments (Hosking and Wallis, 1987) to the excesses of
    /// the highest scores; `None` if there are too few.
    fn tail(&self) -> Option<Tail> {
        let n = self.len();
        let count = n / TAIL;
        if count < TAIL_LEAST {
            return None;
        }
        let base = f64::from(*self.sorted.get(n - count - 1)?);
        let (mut mean, mut weighted) = (0.0, 0.0);
        for (i, excess) in self.sorted.get(n - count..)?.iter().enumerate() {
            let excess = f64::from(*excess) - base;
            mean += excess;
            weighted += excess * (1.0 - (i as f64 + 0.65) / count as f64);
        }
        (mean, weighted) = (mean / count as f64, weighted / count as f64);
        if mean <= 0.0 {
            return None;
        }
        let spread = mean - 2.0 * weighted;
        // A tail that ends would call the first score past its end impossible: it is never taken as shorter than an
        // exponential one, nor as one without a mean.
        let shape = if spread > 0.0 { (2.0 - mean / spread).clamp(0.0, 0.9) } else { 0.0 };
        Some(Tail { base, scale: mean * (1.0 - shape), shape, weight: count as f64 / n as f64 })
    }

    /// Writes the scores in order of time.
    pub fn save(&self, out: &mut Writer) {
        out.number(self.last.len() as u64);
        self.last.iter().for_each(|score| out.f32(*score));
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn load(from: &mut Reader<'_>) -> Result<Self, &'static str> {
        let n = from.count()?.min(SCORES);
        let last = (0..n).map(|_| from.f32()).collect::<Result<VecDeque<f32>, _>>()?;
        let mut sorted: Vec<f32> = last.iter().copied().collect();
        sorted.sort_by(f32::total_cmp);
        Ok(Self { last, sorted })
    }
}

/// The score that is told of a share.
pub fn told(share: f64) -> f64 {
    // To nine digits, so that one in ten thousand is 0.9 and not a little less.
    (((0.5 - 0.1 * log10(share)) * 1e9).round() / 1e9).clamp(0.5, 1.0)
}

/// How many windows a day there are, by hours of event time, and how many of them may go unlearnt.
#[derive(Clone, Debug, PartialEq)]
pub struct Pace {
    /// Hour since 1970, and windows; the last is the newest.
    hours: VecDeque<(i64, u32)>,
    first: Option<i64>,
    /// Windows that may go unlearnt now.
    skips: f64,
}

/// Hours of a day.
const DAY: i64 = 24;
/// Share of windows that may go unlearnt.
const SKIPPED: f64 = 0.01;
/// What was not used of it is kept for so many days: attacks come in clumps.
const SKIPS_KEPT_DAYS: f64 = 7.0;
/// Windows that may go unlearnt at once on the smallest site.
const SKIPS_LEAST: f64 = 10.0;

impl Default for Pace {
    fn default() -> Self {
        Self { hours: VecDeque::new(), first: None, skips: SKIPS_LEAST }
    }
}

impl Pace {
    /// Counts a window.
    ///
    /// - `ms`: its end.
    pub fn note(&mut self, ms: i64) {
        let hour = ms.div_euclid(3_600_000);
        self.first.get_or_insert(hour);
        let newest = self.hours.back().map_or(i64::MIN, |(newest, _)| *newest);
        if hour > newest {
            self.hours.push_back((hour, 0));
            while self.hours.front().is_some_and(|(old, _)| *old <= hour - DAY) {
                self.hours.pop_front();
            }
        }
        if let Some((_, windows)) = self.hours.back_mut() {
            *windows = windows.saturating_add(1);
        }
        self.skips = (self.skips + SKIPPED).min((SKIPPED * SKIPS_KEPT_DAYS * self.per_day()).max(SKIPS_LEAST));
    }

    /// True if one more window may go unlearnt, which is then counted.
    pub fn may_skip(&mut self) -> bool {
        let may = self.skips >= 1.0;
        self.skips -= f64::from(u8::from(may));
        may
    }

    /// Windows of a day: of the last 24 hours, or what these would be at the pace so far.
    pub fn per_day(&self) -> f64 {
        let (Some(first), Some((newest, _))) = (self.first, self.hours.back()) else { return 0.0 };
        let known = (newest - first + 1).clamp(1, DAY);
        self.hours.iter().map(|(_, windows)| f64::from(*windows)).sum::<f64>() * DAY as f64 / known as f64
    }

    /// Writes it.
    pub fn save(&self, out: &mut Writer) {
        out.number(self.hours.len() as u64);
        out.signed(self.first.unwrap_or(i64::MIN));
        out.f64(self.skips);
        for (hour, windows) in &self.hours {
            out.signed(*hour);
            out.number(u64::from(*windows));
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn load(from: &mut Reader<'_>) -> Result<Self, &'static str> {
        let n = from.count()?;
        let (first, skips) = (from.signed()?, from.f64()?);
        let hours = (0..n).map(|_| Ok((from.signed()?, from.small()?))).collect::<Result<_, &'static str>>()?;
        Ok(Self { hours, first: (first != i64::MIN).then_some(first), skips })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::detect::seed::Chance;

    proptest! {
        #[test]
        fn ranks_are_those_of_a_twin_that_sorts(scores in proptest::collection::vec(0..30u8, 1..60), asked in 0..31u8) {
            let mut ranks = Ranks::default();
            // A full memory, of which the oldest go first.
            (0..SCORES - 20).for_each(|n| ranks.push(f64::from(n as u32 % 7)));
            let mut twin: Vec<f64> = ranks.last.iter().map(|score| f64::from(*score)).collect();
            for score in scores {
                ranks.push(f64::from(score));
                twin.push(f64::from(score));
                if twin.len() > SCORES {
                    twin.remove(0);
                }
            }
            let asked = f64::from(asked);
            let above = twin.iter().filter(|score| **score >= asked).count();
            if above > 0 {
                prop_assert_eq!(ranks.share_above(asked), (above + 1) as f64 / (twin.len() + 1) as f64);
            }
            twin.sort_by(f64::total_cmp);
            let sorted: Vec<f64> = ranks.sorted.iter().map(|score| f64::from(*score)).collect();
            prop_assert_eq!(&sorted, &twin);
            prop_assert_eq!(ranks.quantile(0.5), Some(twin[twin.len() / 2]));
            let mut out = Writer::default();
            ranks.save(&mut out);
            let read = Ranks::load(&mut Reader(&out.0)).unwrap();
            prop_assert_eq!((read.last, read.sorted), (ranks.last, ranks.sorted));
        }
    }

    #[test]
    fn beyond_the_largest_the_tail_goes_on_where_the_ranks_end() {
        let (mut ranks, mut chance) = (Ranks::default(), Chance(5));
        (0..SCORES).for_each(|_| ranks.push(-ln(chance.unit())));
        // Exponential scores: the share above x is e^-x, of which one in 16,384 is at 9.7.
        for (x, expected) in [(5.0, 6.7e-3), (8.0, 3.4e-4), (14.0, 8.3e-7), (16.0, 1.1e-7)] {
            let share = ranks.share_above(x);
            assert!((0.25..4.0).contains(&(share / expected)), "{x}: {share} instead of {expected}");
        }
        assert!((ranks.score_of(1e-6).unwrap() - 13.8).abs() < 1.5, "{:?}", ranks.score_of(1e-6));
        assert!((ranks.score_of(1e-3).unwrap() - 6.9).abs() < 0.3);
        let mut last = 1.0;
        for x in 0..400 {
            let share = ranks.share_above(f64::from(x) * 0.1);
            assert!(share <= last && share >= P_LEAST, "{x}");
            last = share;
        }
        // Few scores know no rare ones.
        let mut few = Ranks::default();
        assert_eq!((few.share_above(3.0), few.quantile(0.5), few.score_of(0.1)), (1.0, None, None));
        (0..9).for_each(|n| few.push(f64::from(n)));
        assert_eq!(few.share_above(1e9), 0.1);
        // All alike: nothing is beyond.
        let mut same = Ranks::default();
        (0..2000).for_each(|_| same.push(1.0));
        assert_eq!(same.share_above(1.0), 1.0);
        assert!(same.share_above(2.0) > 4e-4);
    }

    #[test]
    fn the_scale_has_its_bands_where_they_are_said_to_be() {
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(told(0.01), 0.7) && near(told(0.001), 0.8) && near(told(1e-4), 0.9) && near(told(1e-9), 1.0) && told(1.0) == 0.5);
    }

    #[test]
    fn a_day_is_counted_by_its_hours() {
        let mut pace = Pace::default();
        assert_eq!(pace.per_day(), 0.0);
        let hour = |n: i64| n * 3_600_000;
        for n in 0..30 {
            (0..10).for_each(|_| pace.note(hour(n) + 1));
            if n == 1 {
                assert_eq!(pace.per_day(), 240.0, "at the pace so far");
            }
        }
        assert_eq!(pace.per_day(), 240.0);
        pace.note(hour(2));
        assert_eq!(pace.per_day(), 241.0, "what is late counts as now");
        let mut out = Writer::default();
        pace.save(&mut out);
        assert_eq!(Pace::load(&mut Reader(&out.0)), Ok(pace.clone()));
        pace.note(hour(100));
        assert_eq!(pace.per_day(), 1.0, "after a gap");
    }

    #[test]
    fn a_hundredth_may_be_skipped_and_what_was_not_is_kept_for_a_week() {
        let mut pace = Pace::default();
        let skips = |pace: &mut Pace| (0..1000).filter(|_| pace.may_skip()).count();
        assert_eq!(skips(&mut pace), 10);
        // A thousand windows an hour, for two weeks.
        (0..336_000).for_each(|n| pace.note(n * 3_600));
        assert_eq!(skips(&mut pace), 1000);
        assert!((600..=680).contains(&skips(&mut pace)), "240 a day, for seven days");
        (0..24_000).for_each(|n| pace.note(1_209_600_000 + n * 3_600));
        assert!((239..=241).contains(&skips(&mut pace)));
    }
}
