//! What is kept of each entity, for so many of them: the one that was silent longest goes first.

use std::borrow::Cow;

use super::{
    baseline::Baseline,
    counts::{Counts, EntityCounts, Index, one_more},
    saved::{CUT, Reader, Writer},
    seed::hash,
    window::Window,
};

const NONE: u32 = u32::MAX;
/// Closed windows of an entity whose severity is remembered, for late parts.
const CLOSED: usize = 4;

/// A type of entity; the usual ones take no memory of their own.
fn known_type(of: &str) -> Cow<'static, str> {
    match ["host", "user", "network", ""].into_iter().find(|known| *known == of) {
        Some(known) => Cow::Borrowed(known),
        None => Cow::Owned(of.to_owned()),
    }
}

/// One entity.
#[derive(Clone, Debug)]
pub struct Entity {
    pub name: Box<str>,
    pub hash: u64,
    /// Host, user, network, or what its events say.
    pub of: Cow<'static, str>,
    pub counts: EntityCounts,
    /// Mean and variance of a window's `n`.
    pub n: (f32, f32),
    pub baseline: Baseline,
    /// Level, count and unique of the last two rows.
    pub rows: Vec<[f64; 3]>,
    pub open: Vec<Box<Window>>,
    /// Start of windows that are closed, parts so far, and severity as a number; the newest last.
    pub closed: Vec<(i64, u16, u8)>,
    /// Windows closed so far.
    pub windows: u32,
    newer: u32,
    older: u32,
}

/// Where the running variance of `n` begins.
const VARIANCE: f32 = 0.25;

impl Entity {
    fn new(name: &str, hash: u64, of: &str) -> Self {
        Self {
            name: name.into(),
            hash,
            of: known_type(of),
            counts: EntityCounts::default(),
            n: (0.0, VARIANCE),
            baseline: Baseline::default(),
            rows: Vec::new(),
            open: Vec::new(),
            closed: Vec::new(),
            windows: 0,
            newer: NONE,
            older: NONE,
        }
    }

    /// Notes that a part of a window was closed.
    pub fn close(&mut self, start: i64, part: u16) {
        self.windows = self.windows.saturating_add(1);
        if let Some((_, parts, _)) = self.closed.iter_mut().find(|(known, ..)| *known == start) {
            *parts = (*parts).max(part);
            return;
        }
        if self.closed.len() >= CLOSED {
            self.closed.remove(0);
        }
        one_more(&mut self.closed, 1);
        self.closed.push((start, part, 0));
    }

    /// Notes that a window was told of with this severity.
    pub fn tell(&mut self, start: i64, severity: u8) {
        if let Some((.., highest)) = self.closed.iter_mut().find(|(known, ..)| *known == start) {
            *highest = (*highest).max(severity);
        }
    }

    fn save(&self, out: &mut Writer) {
        out.text(&self.name);
        out.text(&self.of);
        self.counts.save(out);
        out.f32(self.n.0);
        out.f32(self.n.1);
        self.baseline.save(out);
        out.number(self.rows.len() as u64);
        self.rows.iter().flatten().for_each(|x| out.f64(*x));
        out.number(self.open.len() as u64);
        self.open.iter().for_each(|window| window.save(out));
        out.number(u64::from(self.windows));
        out.number(self.closed.len() as u64);
        for (start, part, severity) in &self.closed {
            out.signed(*start);
            out.number(u64::from(*part));
            out.byte(*severity);
        }
    }

    fn load(seed: u64, all: &mut Counts, from: &mut Reader<'_>) -> Result<Self, &'static str> {
        let name = from.text()?;
        let mut entity = Self::new(name, hash(seed, name.as_bytes()), from.text()?);
        entity.counts = EntityCounts::load(all, from)?;
        entity.n = (from.f32()?, from.f32()?);
        entity.baseline = Baseline::load(from)?;
        for _ in 0..from.count()? {
            entity.rows.push([from.f64()?, from.f64()?, from.f64()?]);
        }
        for _ in 0..from.count()? {
            entity.open.push(Box::new(Window::load(from)?));
        }
        entity.windows = from.small()?;
        for _ in 0..from.count()? {
            entity.closed.push((from.signed()?, from.small()?, from.byte()?));
        }
        if entity.rows.len() > 2 || entity.closed.len() > CLOSED {
            return Err(CUT);
        }
        Ok(entity)
    }
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Entities {
    seed: u64,
    all: Vec<Entity>,
    free: Vec<u32>,
    index: Index,
    newest: u32,
    oldest: u32,
    len: usize,
}

impl Entities {
    /// - `seed`: of its hashes.
    pub fn new(seed: u64) -> Self {
        Self { seed, all: Vec::new(), free: Vec::new(), index: Index::default(), newest: NONE, oldest: NONE, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, n: u32) -> Option<&Entity> {
        self.all.get(n as usize)
    }
    pub fn get_mut(&mut self, n: u32) -> Option<&mut Entity> {
        self.all.get_mut(n as usize)
    }

    /// The number of an entity, if it is known.
    pub fn find(&self, name: &str) -> Option<u32> {
        let hash = hash(self.seed, name.as_bytes());
        self.index.find(hash, |n| self.get(n).is_some_and(|entity| entity.hash == hash && *entity.name == *name))
    }

    /// The number of an entity, which is now the newest one; it is made if it is not known.
    ///
    /// - `known`: its number, as [`find`](Self::find) gave it.
    pub fn see(&mut self, known: Option<u32>, name: &str, of: &str) -> u32 {
        let Some(n) = known else { return self.add(Entity::new(name, hash(self.seed, name.as_bytes()), of)) };
        if n != self.newest {
            self.unlink(n);
            self.link(n);
        }
        n
    }

    fn add(&mut self, entity: Entity) -> u32 {
        let hash = entity.hash;
        let n = match self.free.pop() {
            Some(n) => {
                if let Some(place) = self.get_mut(n) {
                    *place = entity;
                }
                n
            }
            None => {
                self.all.push(entity);
                (self.all.len() - 1) as u32
            }
        };
        let all = &self.all;
        self.index.insert(hash, n, |n| all.get(n as usize).map_or(0, |entity| entity.hash));
        self.link(n);
        self.len += 1;
        n
    }

    /// The one that was silent longest.
    pub fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// Forgets one.
    pub fn remove(&mut self, n: u32) -> Option<Entity> {
        let hash = self.get(n)?.hash;
        let all = &self.all;
        self.index.remove(hash, n, |n| all.get(n as usize).map_or(0, |entity| entity.hash));
        self.unlink(n);
        self.free.push(n);
        self.len -= 1;
        // Its place keeps nothing that takes memory.
        self.get_mut(n).map(|entity| std::mem::replace(entity, Entity::new("", 0, "")))
    }

    fn link(&mut self, n: u32) {
        let newest = std::mem::replace(&mut self.newest, n);
        if let Some(entity) = self.get_mut(n) {
            (entity.older, entity.newer) = (newest, NONE);
        }
        match self.get_mut(newest) {
            Some(other) => other.newer = n,
            None => self.oldest = n,
        }
    }
    fn unlink(&mut self, n: u32) {
        let Some((older, newer)) = self.get(n).map(|entity| (entity.older, entity.newer)) else { return };
        match self.get_mut(older) {
            Some(other) => other.newer = newer,
            None => self.oldest = newer,
        }
        match self.get_mut(newer) {
            Some(other) => other.older = older,
            None => self.newest = older,
        }
    }

    /// Numbers from the one that was silent longest to the newest.
    pub fn oldest_first(&self) -> impl Iterator<Item = u32> {
        std::iter::successors(self.oldest(), |n| self.get(*n).map(|entity| entity.newer).filter(|n| *n != NONE))
    }

    /// Writes all, the one that was silent longest first.
    pub fn save(&self, out: &mut Writer) {
        out.number(self.len as u64);
        self.oldest_first().filter_map(|n| self.get(n)).for_each(|entity| entity.save(out));
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn load(seed: u64, counts: &mut Counts, from: &mut Reader<'_>) -> Result<Self, &'static str> {
        let mut entities = Self::new(seed);
        for _ in 0..from.count()? {
            let entity = Entity::load(seed, counts, from)?;
            if entities.find(&entity.name).is_some() {
                return Err("it holds an entity twice");
            }
            entities.add(entity);
        }
        Ok(entities)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn order_and_names_are_those_of_a_list(steps in proptest::collection::vec((0..12u8, 0..4u8), 1..200)) {
            let (mut entities, mut twin): (_, Vec<String>) = (Entities::new(3), Vec::new());
            for (name, what) in steps {
                let name = format!("host{name}");
                if what == 0 && !twin.is_empty() {
                    let oldest = entities.oldest().unwrap();
                    let gone = entities.remove(oldest).unwrap();
                    prop_assert_eq!(gone.name.to_string(), twin.remove(0));
                } else {
                    twin.retain(|known| *known != name);
                    let known = entities.find(&name);
                    let n = entities.see(known, &name, "host");
                    prop_assert_eq!(entities.find(&name), Some(n));
                    twin.push(name);
                }
                let names: Vec<&str> = entities.oldest_first().map(|n| &*entities.get(n).unwrap().name).collect();
                prop_assert_eq!(names, twin.iter().map(String::as_str).collect::<Vec<_>>());
                prop_assert_eq!(entities.len(), twin.len());
            }
        }
    }
}
