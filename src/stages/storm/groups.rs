//! Which alerts go out by themselves and which are counted. Pure.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::super::{Now, is_at_or_before, saved};
use crate::{
    batch::Message,
    clock::Nanos,
    limits::{STORM_PATHS_MAX, STORM_SAMPLES},
};

/// What is read of an alert.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alarm<'a> {
    pub message: &'a Message<'a>,
    pub level: i64,
    pub severity: i64,
    /// Of its path.
    pub path: Option<u64>,
    pub tx_id: Option<&'a str>,
}

/// Alerts about one thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    /// The highest so far.
    level: i64,
    /// Monotonic time of the last alert.
    touched: Nanos,
    /// Origins of those that went out by themselves: the first, and one for each rise of the level.
    passed: Vec<Vec<u8>>,
    /// Of the alert that came last.
    last: Vec<u8>,
    /// What is counted and not summed up; with the monotonic time at which it will be.
    window: Option<(Nanos, Window)>,
}

/// Alerts that did not go out by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    pub count: u64,
    /// Times of the first and the last record.
    pub first_ms: i64,
    pub last_ms: i64,
    /// Of the record that was counted last: nothing was sent for it.
    pub origin: Vec<u8>,
    /// Of the gravest.
    pub severity: i64,
    pub payload: Vec<u8>,
    pub key: Option<Vec<u8>>,
    /// Distinct, sorted.
    pub paths: Vec<u64>,
    /// There were more.
    pub paths_more: bool,
    pub tx_ids: Vec<String>,
}

/// All groups of one stage.
#[derive(Debug)]
pub(super) struct Groups {
    span: Nanos,
    silence: Nanos,
    groups_max: usize,
    bytes_max: usize,
    all: HashMap<u128, Group>,
    /// The same by their last alert.
    touched: BTreeSet<(Nanos, u128)>,
    /// Those with a window, by its end.
    windows: BTreeSet<(Nanos, u128)>,
    /// Windows whose summary is not emitted yet.
    pub(super) ended: VecDeque<Window>,
    /// Of all groups.
    bytes: usize,
    pub(super) evicted: u64,
}

impl Groups {
    pub(super) fn new(span: Nanos, silence: Nanos, groups_max: usize, bytes_max: usize) -> Self {
        Self {
            span,
            silence,
            groups_max,
            bytes_max,
            all: HashMap::new(),
            touched: BTreeSet::new(),
            windows: BTreeSet::new(),
            ended: VecDeque::new(),
            bytes: 0,
            evicted: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// When a window or a group ends; 0 if something waits to be emitted.
    pub(super) fn due(&self) -> Option<Nanos> {
        if !self.ended.is_empty() {
            return Some(0);
        }
        let window = self.windows.first().map(|(end, _)| *end);
        let group = self.touched.first().map(|(touched, _)| touched.saturating_add(self.silence));
        window.into_iter().chain(group).min()
    }

    /// Whether an alert goes out by itself; else it is counted, or was before.
    pub(super) fn passes(&mut self, name: u128, alarm: &Alarm<'_>, now: Now) -> bool {
        self.advance(now.mono);
        let origin = alarm.message.origin();
        let known = self.all.contains_key(&name);
        let mut group = self.take(name).unwrap_or_default();
        let is_itself = group.passed.iter().any(|passed| passed == origin);
        let is_counted = !is_itself && known && is_at_or_before(origin, &group.last);
        let passes = is_itself || (!is_counted && (!known || alarm.level > group.level));
        if !is_itself && !is_counted {
            group.last = origin.to_vec();
            if passes {
                group.level = alarm.level;
                group.passed.push(origin.to_vec());
            } else {
                let (_, window) = group.window.get_or_insert_with(|| (now.mono.saturating_add(self.span), Window::default()));
                window.count(alarm);
            }
        }
        group.touched = now.mono.max(group.touched);
        self.put(name, group);
        passes
    }

    /// Ends what ends at or before `mono`.
    pub(super) fn advance(&mut self, mono: Nanos) {
        while let Some((_, name)) = self.windows.first().copied().filter(|(end, _)| *end <= mono) {
            let Some(mut group) = self.take(name) else { break };
            self.ended.extend(group.window.take().map(|(_, window)| window));
            self.put(name, group);
        }
        while let Some((_, name)) = self.touched.first().copied().filter(|(touched, _)| touched.saturating_add(self.silence) <= mono) {
            self.end(name);
        }
    }

    /// Ends a group, with what it has counted.
    fn end(&mut self, name: u128) {
        let window = self.take(name).and_then(|group| group.window);
        self.ended.extend(window.map(|(_, window)| window));
    }

    fn take(&mut self, name: u128) -> Option<Group> {
        let group = self.all.remove(&name)?;
        self.touched.remove(&(group.touched, name));
        if let Some((end, _)) = &group.window {
            self.windows.remove(&(*end, name));
        }
        self.bytes = self.bytes.saturating_sub(group.bytes());
        Some(group)
    }

    fn put(&mut self, name: u128, group: Group) {
        self.bytes += group.bytes();
        while self.all.len() >= self.groups_max || self.bytes > self.bytes_max {
            // The group itself is not among them: the last alert is the one to be known.
            let Some((_, oldest)) = self.touched.first().copied() else { break };
            self.end(oldest);
            self.evicted += 1;
        }
        self.touched.insert((group.touched, name));
        self.windows.extend(group.window.as_ref().map(|(end, _)| (*end, name)));
        self.all.insert(name, group);
    }

    /// Wall time; then windows that have ended, and every group: its name, how long it has been silent, what is left
    /// of its window, content.
    pub(super) fn save(&self, now: Now) -> Vec<u8> {
        let mut bytes = now.wall.to_le_bytes().to_vec();
        bytes.extend_from_slice(&(self.ended.len() as u64).to_le_bytes());
        self.ended.iter().for_each(|window| window.save(&mut bytes));
        for (touched, name) in &self.touched {
            let Some(group) = self.all.get(name) else { continue };
            bytes.extend_from_slice(&name.to_le_bytes());
            bytes.extend_from_slice(&now.mono.saturating_sub(*touched).to_le_bytes());
            bytes.extend_from_slice(&group.level.to_le_bytes());
            bytes.extend_from_slice(&(group.passed.len() as u64).to_le_bytes());
            group.passed.iter().for_each(|origin| saved::write(&mut bytes, origin));
            saved::write(&mut bytes, &group.last);
            bytes.push(u8::from(group.window.is_some()));
            if let Some((end, window)) = &group.window {
                bytes.extend_from_slice(&end.saturating_sub(now.mono).to_le_bytes());
                window.save(&mut bytes);
            }
        }
        bytes
    }

    /// Groups went on by the wall clock while the agent was away: what has ended meanwhile is summed up.
    pub(super) fn load(&mut self, saved: &[u8], now: Now) -> Option<()> {
        let mut reader = saved::Reader(saved);
        let away = now.wall.saturating_sub(reader.u64()?);
        let (mut ended, mut all) = (Vec::new(), Vec::new());
        for _ in 0..reader.u64()? {
            ended.push(Window::load(&mut reader)?);
        }
        while !reader.0.is_empty() {
            let name = reader.u128()?;
            let silent = reader.u64()?.saturating_add(away);
            let level = reader.u64()?.cast_signed();
            let mut passed = Vec::new();
            for _ in 0..reader.u64()? {
                passed.push(reader.bytes()?);
            }
            let last = reader.bytes()?;
            let window = match reader.u8()? {
                0 => None,
                _ => Some((reader.u64()?.saturating_sub(away).min(self.span), Window::load(&mut reader)?)),
            };
            all.push((name, silent, Group { level, touched: 0, passed, last, window }));
        }
        self.ended.extend(ended);
        for (name, silent, mut group) in all {
            let is_over = silent >= self.silence;
            if let Some((_, window)) = group.window.take_if(|(left, _)| is_over || *left == 0) {
                self.ended.push_back(window);
            }
            if is_over || self.all.contains_key(&name) {
                self.ended.extend(group.window.map(|(_, window)| window));
                continue;
            }
            if let Some((end, _)) = &mut group.window {
                *end = now.mono.saturating_add(*end);
            }
            // A clock that has run for less than the silence cannot say when it began; it ends later then.
            group.touched = now.mono.saturating_sub(silent);
            self.put(name, group);
        }
        Some(())
    }
}

impl Group {
    fn bytes(&self) -> usize {
        let window = self.window.as_ref().map_or(0, |(_, window)| window.bytes());
        self.passed.iter().map(|origin| origin.len() + size_of::<Vec<u8>>()).sum::<usize>() + self.last.len() + window + size_of::<Self>()
    }
}

impl Window {
    fn count(&mut self, alarm: &Alarm<'_>) {
        let Alarm { message, severity, path, tx_id, .. } = *alarm;
        if self.count == 0 || severity > self.severity {
            self.severity = severity;
            self.payload = message.payload.to_vec();
            self.key = message.key.map(<[u8]>::to_vec);
        }
        if self.count == 0 {
            self.first_ms = message.time_ms;
        }
        self.count += 1;
        // Clocks of several servers may differ.
        self.first_ms = message.time_ms.min(self.first_ms);
        self.last_ms = message.time_ms.max(self.last_ms);
        self.origin = message.origin().to_vec();
        if let Some(path) = path
            && let Err(at) = self.paths.binary_search(&path)
        {
            if self.paths.len() < STORM_PATHS_MAX {
                self.paths.insert(at, path);
            } else {
                self.paths_more = true;
            }
        }
        if self.tx_ids.len() < STORM_SAMPLES {
            self.tx_ids.extend(tx_id.map(str::to_owned));
        }
    }

    fn bytes(&self) -> usize {
        let texts = self.payload.len() + self.key.as_ref().map_or(0, Vec::len) + self.origin.len();
        texts + self.paths.len() * size_of::<u64>() + self.tx_ids.iter().map(|id| id.len() + size_of::<String>()).sum::<usize>()
    }

    fn save(&self, bytes: &mut Vec<u8>) {
        let flags = u64::from(self.key.is_some()) | u64::from(self.paths_more) << 1;
        for n in [self.count, self.first_ms.cast_unsigned(), self.last_ms.cast_unsigned(), self.severity.cast_unsigned(), flags] {
            bytes.extend_from_slice(&n.to_le_bytes());
        }
        for part in [&self.origin, &self.payload, self.key.as_ref().unwrap_or(&Vec::new())] {
            saved::write(bytes, part);
        }
        bytes.extend_from_slice(&(self.paths.len() as u64).to_le_bytes());
        self.paths.iter().for_each(|path| bytes.extend_from_slice(&path.to_le_bytes()));
        bytes.extend_from_slice(&(self.tx_ids.len() as u64).to_le_bytes());
        self.tx_ids.iter().for_each(|id| saved::write(bytes, id.as_bytes()));
    }

    fn load(reader: &mut saved::Reader<'_>) -> Option<Self> {
        let mut signed = || reader.u64().map(u64::cast_signed);
        let (count, first_ms, last_ms, severity) = (signed()?.cast_unsigned(), signed()?, signed()?, signed()?);
        let flags = reader.u64()?;
        let (origin, payload, key) = (reader.bytes()?, reader.bytes()?, reader.bytes()?);
        let (key, paths_more) = ((flags & 1 != 0).then_some(key), flags & 2 != 0);
        let mut window = Self { count, first_ms, last_ms, origin, severity, payload, key, paths_more, ..Self::default() };
        for _ in 0..reader.u64()? {
            window.paths.push(reader.u64()?);
        }
        for _ in 0..reader.u64()? {
            window.tx_ids.push(String::from_utf8(reader.bytes()?).ok()?);
        }
        window.paths.sort_unstable();
        window.paths.truncate(STORM_PATHS_MAX);
        window.tx_ids.truncate(STORM_SAMPLES);
        Some(window)
    }
}
