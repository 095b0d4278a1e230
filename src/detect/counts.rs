//! How often what was seen where: the counters behind rarity and bursts, in memory that has an end.
//!
//! Kinds of events are counted exactly, each entity's up to [`KINDS_MAX`] and all together up to [`PAIRS_MAX`]; beyond,
//! in a count-min sketch and a Bloom filter that all entities share. A sketch counts too many, never too few, so what
//! lies in it seems more usual than it is: a flood of invented kinds hides itself from these two numbers, and shows in
//! the number of kinds.

use super::{
    float::halved,
    saved::{Reader, Writer},
    seed::{hash, mixed},
};
use crate::limits::{DETECT_ALL_KINDS_MAX as ALL_KINDS_MAX, DETECT_KINDS_MAX as KINDS_MAX, DETECT_PAIRS_MAX as PAIRS_MAX};

/// Counters of a row of a sketch, of two.
const CELLS: usize = 4096;
/// Bits of a Bloom filter.
const BLOOM_BITS: u64 = 1 << 20;
/// A kind's number with this bit is part of its hash: it is beyond [`ALL_KINDS_MAX`].
const BEYOND: u32 = 1 << 31;

/// Puts one more into a list that keeps no spare room: there are as many such lists as entities.
pub fn insert<T>(list: &mut Box<[T]>, at: usize, one: T) {
    let mut longer = std::mem::take(list).into_vec();
    longer.reserve_exact(1);
    longer.insert(at, one);
    *list = longer.into_boxed_slice();
}

/// How much of something came in this tick: counts of earlier ticks fade by half each (MIDAS-R, Bhatia and others,
/// AAAI 2020).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Recent {
    count: f32,
    tick: u32,
}

impl Recent {
    /// Counts one more; gives the count.
    fn add(&mut self, tick: u32) -> f64 {
        if tick > self.tick {
            self.count = (f64::from(self.count) * halved(u64::from(tick - self.tick))) as f32;
            self.tick = tick;
        }
        self.count += 1.0;
        f64::from(self.count)
    }
    fn save(self, out: &mut Writer) {
        out.f32(self.count);
        out.number(u64::from(self.tick));
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, &'static str> {
        Ok(Self { count: from.f32()?, tick: from.small()? })
    }
}

/// How far what came now is above the mean of all ticks: a chi-squared value.
///
/// - `now`: recent count.
/// - `total`: of all ticks.
/// - `ticks`: so far, this one included.
fn surprise(now: f64, total: f64, ticks: f64) -> f64 {
    let mean = total / ticks;
    if ticks < 2.0 || now <= mean {
        return 0.0;
    }
    let above = now - mean;
    above * above * ticks * ticks / (total * (ticks - 1.0))
}

/// Numbers by hash: open addressing, no order, no chance of its own.
#[derive(Clone, Debug)]
pub struct Index {
    /// A number plus 1; 0 is free.
    places: Vec<u32>,
    used: usize,
}

impl Default for Index {
    fn default() -> Self {
        Self { places: vec![0; 16], used: 0 }
    }
}

impl Index {
    fn place(&self, hash: u64) -> usize {
        hash as usize & (self.places.len() - 1)
    }
    /// The number with this hash that is the one.
    pub fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = self.place(hash);
        loop {
            match self.places.get(at).copied().unwrap_or(0) {
                0 => return None,
                n if is(n - 1) => return Some(n - 1),
                _ => at = (at + 1) & (self.places.len() - 1),
            }
        }
    }
    /// Adds a number that is not in it.
    ///
    /// - `hash_of`: hash of a number that is.
    pub fn insert(&mut self, hash: u64, n: u32, hash_of: impl Fn(u32) -> u64) {
        if (self.used + 1) * 8 > self.places.len() * 7 {
            let larger = vec![0; self.places.len() * 2];
            for n in std::mem::replace(&mut self.places, larger).into_iter().filter(|n| *n != 0) {
                self.put(hash_of(n - 1), n);
            }
        }
        self.used += 1;
        self.put(hash, n + 1);
    }
    fn put(&mut self, hash: u64, n: u32) {
        let mut at = self.place(hash);
        while let Some(place) = self.places.get_mut(at) {
            if *place == 0 {
                *place = n;
                return;
            }
            at = (at + 1) & (self.places.len() - 1);
        }
    }
    /// Takes a number out. What stood behind it moves up, so that no search ends too early.
    pub fn remove(&mut self, hash: u64, n: u32, hash_of: impl Fn(u32) -> u64) {
        let mask = self.places.len() - 1;
        let at = |at: usize, places: &[u32]| places.get(at & mask).copied().unwrap_or(0);
        let mut free = self.place(hash);
        while at(free, &self.places) != n + 1 {
            if at(free, &self.places) == 0 {
                return;
            }
            free = (free + 1) & mask;
        }
        let mut next = (free + 1) & mask;
        loop {
            let other = at(next, &self.places);
            if other == 0 {
                break;
            }
            let home = self.place(hash_of(other - 1));
            // It may move to the free place if that lies between its home and where it is.
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(free) & mask) {
                if let Some(place) = self.places.get_mut(free) {
                    *place = other;
                }
                free = next;
            }
            next = (next + 1) & mask;
        }
        if let Some(place) = self.places.get_mut(free) {
            *place = 0;
        }
        self.used -= 1;
    }
}

/// Counts of what lies beyond the exact ones.
#[derive(Clone, Debug, Default)]
struct Sketch {
    /// Two rows; empty until the first is counted.
    cells: Vec<(u32, Recent)>,
    bloom: Vec<u64>,
}

impl Sketch {
    /// Counts one more: how often it came before, its recent count, and whether it was there at all.
    fn add(&mut self, hash: u64, tick: u32) -> (u32, f64, bool) {
        if self.cells.is_empty() {
            self.cells = vec![Default::default(); 2 * CELLS];
            self.bloom = vec![0; (BLOOM_BITS / 64) as usize];
        }
        let (mut count, mut recent) = (u32::MAX, f64::MAX);
        for row in 0..2 {
            let at = (hash >> (32 * row)) as usize % CELLS + row * CELLS;
            if let Some((cell, now)) = self.cells.get_mut(at) {
                count = count.min(*cell);
                *cell = cell.saturating_add(1);
                recent = recent.min(now.add(tick));
            }
        }
        let mut known = true;
        let mut bits = mixed(hash);
        for _ in 0..3 {
            let bit = bits % BLOOM_BITS;
            if let Some(word) = self.bloom.get_mut((bit / 64) as usize) {
                known &= *word >> (bit % 64) & 1 == 1;
                *word |= 1 << (bit % 64);
            }
            bits >>= 20;
        }
        (if known { count } else { 0 }, recent, known)
    }

    fn save(&self, out: &mut Writer) {
        out.byte(u8::from(!self.cells.is_empty()));
        for (count, recent) in &self.cells {
            out.number(u64::from(*count));
            recent.save(out);
        }
        self.bloom.iter().for_each(|word| out.u64(*word));
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, &'static str> {
        if from.byte()? == 0 {
            return Ok(Self::default());
        }
        let cells = (0..2 * CELLS).map(|_| Ok((from.small()?, Recent::load(from)?))).collect::<Result<_, &'static str>>()?;
        let bloom = (0..BLOOM_BITS / 64).map(|_| from.u64()).collect::<Result<_, _>>()?;
        Ok(Self { cells, bloom })
    }
}

/// A kind over all entities.
#[derive(Clone, Copy, Debug)]
struct Kind {
    hash: u64,
    count: u32,
    recent: Recent,
}

/// A kind on one entity.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pair {
    kind: u32,
    count: u32,
    recent: Recent,
}

/// What is counted of one entity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EntityCounts {
    /// By kind.
    pairs: Box<[Pair]>,
    /// Kinds that are not in `pairs`.
    more: u32,
    /// Events.
    events: u32,
    recent: Recent,
}

/// What is counted over all entities.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    seed: u64,
    index: Index,
    kinds: Vec<Kind>,
    /// Kinds that are not in `kinds`.
    more: u32,
    events: u64,
    /// Pairs that all entities hold.
    pairs: usize,
    beyond_pairs: Sketch,
    beyond_kinds: Sketch,
    /// Minutes since 1970 of the first event.
    first: Option<i64>,
    /// Ticks since then.
    tick: u32,
}

/// What an event is, beside all before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noted {
    /// Number of its kind, for whoever counts distinct ones.
    pub kind: u32,
    /// Probability of its kind on its entity, and anywhere.
    pub here: f64,
    pub anywhere: f64,
    /// Its kind was never seen there, or at all.
    pub new_here: bool,
    pub new_anywhere: bool,
    /// The greatest burst of what it is part of.
    pub burst: f64,
}

/// Probability of a kind that came `count` times among `events` of `kinds` kinds, its own included.
fn probability(count: u32, events: u64, kinds: u32) -> f64 {
    (f64::from(count) + 0.5) / (events as f64 + 0.5 * (f64::from(kinds) + 1.0))
}

impl Counts {
    /// - `seed`: of its hashes.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// The tick of a moment; never before the newest one.
    fn tick(&mut self, ms: i64) -> u32 {
        let minute = ms.div_euclid(60_000);
        let first = *self.first.get_or_insert(minute);
        self.tick = self.tick.max(u32::try_from(minute.saturating_sub(first)).unwrap_or(if minute < first { 0 } else { u32::MAX - 1 }));
        self.tick
    }

    /// Notes an event; what it gives is about those before it.
    ///
    /// - `entity`: hash of the entity's name.
    /// - `ms`: its time.
    pub fn note(&mut self, entity: u64, of: &mut EntityCounts, kind: &str, ms: i64) -> Noted {
        let tick = self.tick(ms);
        let ticks = f64::from(tick) + 1.0;
        let name = hash(self.seed, kind.as_bytes());
        // The kind, anywhere.
        let kinds = &self.kinds;
        let is = |n: u32| kinds.get(n as usize).is_some_and(|kind| kind.hash == name);
        let (number, count, recent, known) = match self.index.find(name, is) {
            Some(n) => match self.kinds.get_mut(n as usize) {
                Some(kind) => {
                    let before = kind.count;
                    kind.count = before.saturating_add(1);
                    (n, before, kind.recent.add(tick), true)
                }
                None => (n, 0, 1.0, false),
            },
            None if self.kinds.len() < ALL_KINDS_MAX => {
                let n = self.kinds.len() as u32;
                let mut recent = Recent::default();
                let now = recent.add(tick);
                self.kinds.push(Kind { hash: name, count: 1, recent });
                let kinds = &self.kinds;
                self.index.insert(name, n, |n| kinds.get(n as usize).map_or(0, |kind| kind.hash));
                (n, 0, now, false)
            }
            None => {
                let (count, now, known) = self.beyond_kinds.add(name, tick);
                self.more = self.more.saturating_add(u32::from(!known));
                ((name >> 33) as u32 | BEYOND, count, now, known)
            }
        };
        let anywhere = probability(count, self.events, self.kinds.len() as u32 + self.more);
        let mut burst = surprise(recent, f64::from(count) + 1.0, ticks);
        // The kind on its entity.
        let room = of.pairs.len() < KINDS_MAX && self.pairs < PAIRS_MAX;
        let (count, recent, known_here) = match of.pairs.binary_search_by_key(&number, |pair| pair.kind) {
            Ok(at) => match of.pairs.get_mut(at) {
                Some(pair) => {
                    let before = pair.count;
                    pair.count = before.saturating_add(1);
                    (before, pair.recent.add(tick), true)
                }
                None => (0, 1.0, false),
            },
            Err(at) if room => {
                let mut recent = Recent::default();
                let now = recent.add(tick);
                insert(&mut of.pairs, at, Pair { kind: number, count: 1, recent });
                self.pairs += 1;
                (0, now, false)
            }
            Err(_) => {
                let (count, now, known) = self.beyond_pairs.add(mixed(entity ^ name.rotate_left(17)), tick);
                of.more = of.more.saturating_add(u32::from(!known));
                (count, now, known)
            }
        };
        let here = probability(count, u64::from(of.events), of.pairs.len() as u32 + of.more);
        burst = burst.max(surprise(recent, f64::from(count) + 1.0, ticks));
        // The entity.
        of.events = of.events.saturating_add(1);
        self.events += 1;
        burst = burst.max(surprise(of.recent.add(tick), f64::from(of.events), ticks));
        Noted { kind: number, here, anywhere, new_here: !known_here, new_anywhere: !known, burst }
    }

    /// Forgets what it holds for an entity.
    pub fn forget(&mut self, of: &EntityCounts) {
        self.pairs -= of.pairs.len();
    }

    /// Writes it, without the entities.
    pub fn save(&self, out: &mut Writer) {
        out.number(self.kinds.len() as u64);
        for kind in &self.kinds {
            out.u64(kind.hash);
            out.number(u64::from(kind.count));
            kind.recent.save(out);
        }
        out.number(u64::from(self.more));
        out.number(self.events);
        out.signed(self.first.unwrap_or(i64::MIN));
        out.number(u64::from(self.tick));
        self.beyond_pairs.save(out);
        self.beyond_kinds.save(out);
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn load(seed: u64, from: &mut Reader<'_>) -> Result<Self, &'static str> {
        let mut counts = Self::new(seed);
        for n in 0..from.count()? {
            let hash = from.u64()?;
            counts.kinds.push(Kind { hash, count: from.small()?, recent: Recent::load(from)? });
            let kinds = &counts.kinds;
            counts.index.insert(hash, n as u32, |n| kinds.get(n as usize).map_or(0, |kind| kind.hash));
        }
        counts.more = from.small()?;
        counts.events = from.number()?;
        let first = from.signed()?;
        counts.first = (first != i64::MIN).then_some(first);
        counts.tick = from.small()?;
        counts.beyond_pairs = Sketch::load(from)?;
        counts.beyond_kinds = Sketch::load(from)?;
        Ok(counts)
    }
}

impl EntityCounts {
    /// Events and kinds seen.
    pub fn seen(&self) -> (u32, u32) {
        (self.events, self.pairs.len() as u32 + self.more)
    }

    /// Writes it.
    pub fn save(&self, out: &mut Writer) {
        out.number(self.pairs.len() as u64);
        for pair in &self.pairs {
            out.number(u64::from(pair.kind));
            out.number(u64::from(pair.count));
            pair.recent.save(out);
        }
        out.number(u64::from(self.more));
        out.number(u64::from(self.events));
        self.recent.save(out);
    }

    /// Reads what [`save`](Self::save) wrote, and counts it in `all`.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn load(all: &mut Counts, from: &mut Reader<'_>) -> Result<Self, &'static str> {
        let n = from.count()?;
        let pair = |from: &mut Reader<'_>| Ok(Pair { kind: from.small()?, count: from.small()?, recent: Recent::load(from)? });
        let pairs = (0..n).map(|_| pair(from)).collect::<Result<Box<[_]>, &'static str>>()?;
        all.pairs += pairs.len();
        Ok(Self { pairs, more: from.small()?, events: from.small()?, recent: Recent::load(from)? })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// The definition, with maps that keep everything.
    #[derive(Default)]
    struct Twin {
        counts: BTreeMap<(u8, u8), u32>,
        recent: BTreeMap<(u8, u8), (f64, i64)>,
        first: Option<i64>,
    }

    const ANY: u8 = 255;

    impl Twin {
        fn note(&mut self, entity: u8, kind: u8, minute: i64) -> (f64, f64, bool, bool, f64) {
            let first = *self.first.get_or_insert(minute);
            let ticks = (minute - first + 1) as f64;
            let count = |twin: &Self, key| twin.counts.get(&key).copied().unwrap_or(0);
            let kinds = |twin: &Self, of: u8| twin.counts.keys().filter(|(e, k)| *e == of && *k != ANY).count() as f64;
            let p = |twin: &Self, of: u8| {
                let c = count(twin, (of, kind));
                let k = kinds(twin, of) + f64::from(u8::from(c == 0));
                (f64::from(c) + 0.5) / (f64::from(count(twin, (of, ANY))) + 0.5 * (k + 1.0))
            };
            let (here, anywhere) = (p(self, entity), p(self, ANY));
            let (new_here, new_anywhere) = (count(self, (entity, kind)) == 0, count(self, (ANY, kind)) == 0);
            let mut burst: f64 = 0.0;
            for key in [(entity, kind), (entity, ANY), (ANY, kind), (ANY, ANY)] {
                let total = self.counts.entry(key).or_default();
                *total += 1;
                let total = f64::from(*total);
                let (now, at) = self.recent.entry(key).or_insert((0.0, minute));
                *now = *now * 0.5_f64.powi((minute - *at) as i32) + 1.0;
                *at = minute;
                if key != (ANY, ANY) && ticks > 1.0 && *now > total / ticks {
                    burst = burst.max((*now - total / ticks).powi(2) * ticks * ticks / (total * (ticks - 1.0)));
                }
            }
            (here, anywhere, new_here, new_anywhere, burst)
        }
    }

    proptest! {
        #[test]
        fn counts_are_those_of_a_twin_that_keeps_everything(steps in proptest::collection::vec((0..4u8, 0..6u8, 0..3i64), 1..150)) {
            let (mut counts, mut twin, mut minute) = (Counts::new(9), Twin::default(), 28_000_000);
            let mut entities: Vec<EntityCounts> = vec![EntityCounts::default(); 4];
            for (n, (entity, kind, pass)) in steps.into_iter().enumerate() {
                minute += pass;
                if n == 70 {
                    // A snapshot in between changes nothing.
                    let mut out = Writer::default();
                    counts.save(&mut out);
                    entities.iter().for_each(|of| of.save(&mut out));
                    let mut reader = Reader(&out.0);
                    counts = Counts::load(9, &mut reader).unwrap();
                    let read: Vec<EntityCounts> = (0..4).map(|_| EntityCounts::load(&mut counts, &mut reader).unwrap()).collect();
                    prop_assert_eq!(&read, &entities);
                    entities = read;
                }
                let noted = counts.note(u64::from(entity), &mut entities[usize::from(entity)], &format!("kind {kind}"), minute * 60_000 + 17);
                let (here, anywhere, new_here, new_anywhere, burst) = twin.note(entity, kind, minute);
                prop_assert!((noted.here - here).abs() < 1e-12 && (noted.anywhere - anywhere).abs() < 1e-12, "{noted:?} {here} {anywhere}");
                prop_assert_eq!((noted.new_here, noted.new_anywhere), (new_here, new_anywhere));
                prop_assert!((noted.burst - burst).abs() <= 1e-5 * burst.max(1.0), "{noted:?} {burst}");
            }
            prop_assert_eq!(counts.pairs, entities.iter().map(|of| of.pairs.len()).sum::<usize>());
        }

        #[test]
        fn an_index_finds_what_is_in_it_and_nothing_else(steps in proptest::collection::vec((0..60u32, any::<bool>()), 1..300)) {
            // Few hashes, so that many meet.
            let hash_of = |n: u32| u64::from(n % 7);
            let (mut index, mut twin) = (Index::default(), std::collections::BTreeSet::new());
            for (n, insert) in steps {
                if insert && twin.insert(n) {
                    index.insert(hash_of(n), n, hash_of);
                } else if !insert {
                    twin.remove(&n);
                    index.remove(hash_of(n), n, hash_of);
                    prop_assert_eq!(index.used, twin.len());
                }
                for n in 0..60 {
                    prop_assert_eq!(index.find(hash_of(n), |m| m == n).is_some(), twin.contains(&n));
                }
            }
        }
    }

    #[test]
    fn beyond_the_exact_ones_counts_go_on_in_the_sketch() {
        let (mut counts, mut of) = (Counts::new(1), EntityCounts::default());
        for n in 0..1000 {
            let noted = counts.note(7, &mut of, &format!("kind {n}"), 0);
            assert!(noted.new_here && noted.new_anywhere, "{n}: a Bloom filter of a million bits with 488 in it");
        }
        assert_eq!((of.pairs.len(), of.seen()), (KINDS_MAX, (1000, 1000)));
        let again = counts.note(7, &mut of, "kind 999", 0);
        assert!(!again.new_here && (again.here - 1.5 / (1000.0 + 500.5)).abs() < 1e-12, "{again:?}");
        let other = counts.note(8, &mut EntityCounts::default(), "kind 999", 0);
        assert!(other.new_here && !other.new_anywhere);
        let mut out = Writer::default();
        counts.save(&mut out);
        assert!(out.0.len() < 300_000, "{}", out.0.len());
        let mut read = Counts::load(1, &mut Reader(&out.0)).unwrap();
        assert_eq!(read.note(7, &mut of.clone(), "kind 998", 0), counts.note(7, &mut of, "kind 998", 0));
    }

    #[test]
    fn time_that_goes_back_counts_as_now() {
        let (mut counts, mut of) = (Counts::new(1), EntityCounts::default());
        counts.note(7, &mut of, "a", 600_000);
        counts.note(7, &mut of, "a", 0);
        assert_eq!((counts.tick, of.recent.count), (0, 2.0));
        counts.note(7, &mut of, "a", 660_000);
        assert_eq!((counts.tick, of.recent.count), (1, 2.0));
        assert!(counts.note(7, &mut of, "a", i64::MAX).burst.is_finite());
    }
}
