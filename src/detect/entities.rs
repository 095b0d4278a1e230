//! What is kept of each entity, for so many of them: the one that was silent longest goes first.

use std::borrow::Cow;

use super::{
    baseline::Baseline,
    counts::{Counts, EntityCounts, Index},
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

/// A row that was: level, count and unique.
#[derive(Clone, Copy, Debug, Default)]
struct Past {
    level: u8,
    count: u32,
    unique: u32,
}

/// Windows that are closed, the newest last.
#[derive(Clone, Debug, Default)]
struct Closed {
    starts: [i64; CLOSED],
    /// Parts so far.
    parts: [u16; CLOSED],
    /// As numbers.
    severities: [u8; CLOSED],
    len: u8,
}

impl Closed {
    fn iter(&self) -> impl Iterator<Item = (i64, u16, u8)> {
        let all = self.starts.iter().zip(self.parts).zip(self.severities);
        all.take(usize::from(self.len)).map(|((start, part), severity)| (*start, part, severity))
    }
    /// Part and severity of the window that starts there.
    fn of(&mut self, start: i64) -> Option<(&mut u16, &mut u8)> {
        let at = self.iter().position(|(known, ..)| known == start)?;
        Some((self.parts.get_mut(at)?, self.severities.get_mut(at)?))
    }
    /// Adds one; the oldest gives way.
    fn push(&mut self, (start, part, severity): (i64, u16, u8)) {
        if usize::from(self.len) == CLOSED {
            self.starts.rotate_left(1);
            self.parts.rotate_left(1);
            self.severities.rotate_left(1);
            self.len -= 1;
        }
        let at = usize::from(self.len);
        if let (Some(to), Some(parts), Some(of)) = (self.starts.get_mut(at), self.parts.get_mut(at), self.severities.get_mut(at)) {
            (*to, *parts, *of) = (start, part, severity);
            self.len += 1;
        }
    }
}

/// One entity. A hundred thousand of them are usual: what each has lies in it, and its lists keep no spare room.
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
    /// The last two rows, the older first.
    past: [Past; 2],
    rows: u8,
    pub open: Vec<Box<Window>>,
    closed: Closed,
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
            past: [Past::default(); 2],
            rows: 0,
            open: Vec::new(),
            closed: Closed::default(),
            windows: 0,
            newer: NONE,
            older: NONE,
        }
    }

    /// Notes that a part of a window was closed.
    pub fn close(&mut self, start: i64, part: u16) {
        self.windows = self.windows.saturating_add(1);
        match self.closed.of(start) {
            Some((parts, _)) => *parts = (*parts).max(part),
            None => self.closed.push((start, part, 0)),
        }
    }

    /// Parts of a closed window so far, and the severity that was told of it as a number; `None` if it is not remembered.
    pub fn closed(&self, start: i64) -> Option<(u16, u8)> {
        self.closed.iter().find(|(known, ..)| *known == start).map(|(_, part, severity)| (part, severity))
    }

    /// Opens a window.
    pub fn open(&mut self, window: Window) {
        self.open.reserve_exact(1);
        self.open.push(Box::new(window));
    }

    /// Level, count and unique of the last two rows, the older first, and how many of the two there are.
    pub fn rows(&self) -> ([[f64; 3]; 2], usize) {
        (self.past.map(|row| [f64::from(row.level), f64::from(row.count), f64::from(row.unique)]), usize::from(self.rows))
    }

    /// Notes a row.
    pub fn note(&mut self, level: u8, count: u32, unique: u32) {
        if self.rows == 2 {
            self.past.rotate_left(1);
            self.rows = 1;
        }
        if let Some(row) = self.past.get_mut(usize::from(self.rows)) {
            *row = Past { level, count, unique };
            self.rows += 1;
        }
    }

    /// Notes that a window was told of with this severity.
    pub fn tell(&mut self, start: i64, severity: u8) {
        if let Some((_, highest)) = self.closed.of(start) {
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
        let (rows, len) = self.rows();
        out.number(len as u64);
        rows.iter().take(len).flatten().for_each(|x| out.f64(*x));
        out.number(self.open.len() as u64);
        self.open.iter().for_each(|window| window.save(out));
        out.number(u64::from(self.windows));
        out.number(u64::from(self.closed.len));
        for (start, part, severity) in self.closed.iter() {
            out.signed(start);
            out.number(u64::from(part));
            out.byte(severity);
        }
    }

    fn load(seed: u64, all: &mut Counts, from: &mut Reader<'_>) -> Result<Self, &'static str> {
        let name = from.text()?;
        let mut entity = Self::new(name, hash(seed, name.as_bytes()), from.text()?);
        entity.counts = EntityCounts::load(all, from)?;
        entity.n = (from.f32()?, from.f32()?);
        entity.baseline = Baseline::load(from)?;
        let rows = from.count()?;
        for _ in 0..rows {
            let [level, count, unique] = [from.f64()?, from.f64()?, from.f64()?];
            entity.note(level as u8, count as u32, unique as u32);
            if entity.rows().0.get(usize::from(entity.rows) - 1) != Some(&[level, count, unique]) {
                return Err(CUT);
            }
        }
        for _ in 0..from.count()? {
            entity.open(Window::load(from)?);
        }
        entity.windows = from.small()?;
        let closed = from.count()?;
        for _ in 0..closed {
            entity.closed.push((from.signed()?, from.small()?, from.byte()?));
        }
        if rows > 2 || closed > CLOSED {
            return Err(CUT);
        }
        Ok(entity)
    }
}

/// Entities of one piece of memory.
const PIECE: usize = 1 << 10;

/// Entities by number, in pieces: one more does not move all the others.
#[derive(Clone, Debug, Default)]
struct Places(Vec<Vec<Entity>>);

impl Places {
    fn get(&self, n: u32) -> Option<&Entity> {
        self.0.get(n as usize / PIECE)?.get(n as usize % PIECE)
    }
    fn get_mut(&mut self, n: u32) -> Option<&mut Entity> {
        self.0.get_mut(n as usize / PIECE)?.get_mut(n as usize % PIECE)
    }
    /// Adds one; gives its number.
    fn push(&mut self, entity: Entity) -> u32 {
        if self.0.last().is_none_or(|piece| piece.len() == PIECE) {
            self.0.push(Vec::with_capacity(PIECE));
        }
        let before = (self.0.len() - 1) * PIECE;
        let Some(piece) = self.0.last_mut() else { return NONE };
        piece.push(entity);
        (before + piece.len() - 1) as u32
    }
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Entities {
    seed: u64,
    all: Places,
    free: Vec<u32>,
    index: Index,
    newest: u32,
    oldest: u32,
    len: usize,
}

impl Entities {
    /// - `seed`: of its hashes.
    pub fn new(seed: u64) -> Self {
        Self { seed, all: Places::default(), free: Vec::new(), index: Index::default(), newest: NONE, oldest: NONE, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, n: u32) -> Option<&Entity> {
        self.all.get(n)
    }
    pub fn get_mut(&mut self, n: u32) -> Option<&mut Entity> {
        self.all.get_mut(n)
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
            None => self.all.push(entity),
        };
        let all = &self.all;
        self.index.insert(hash, n, |n| all.get(n).map_or(0, |entity| entity.hash));
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
        self.index.remove(hash, n, |n| all.get(n).map_or(0, |entity| entity.hash));
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
