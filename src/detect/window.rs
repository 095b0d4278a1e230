//! What is summed of one entity in one window of time, and the row and the vector that it becomes.
//!
//! Windows are tumbling and aligned to 1970: `[start, start + length)` of event time.

use super::{
    Class, Event, FEATURES, GAUGES, Severity,
    attack::Evidence,
    counts::{Noted, insert},
    float::{ln, log2},
    packed::Packed,
    saved::{CUT, Reader, Writer},
    seed::hash,
};
use crate::limits::{ALERT_EVIDENCE_MAX as EVIDENCE_MAX, ALERT_TECHNIQUES_MAX as TECHNIQUES_MAX, DETECT_KINDS_MAX as KINDS_MAX};

/// The eight numbers by which a window is scored.
pub const VECTOR: [&str; 8] = ["n", "kinds", "new_here", "new_anywhere", "rare_here", "rare_anywhere", "burst", "surge"];

/// The sums.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Milliseconds since 1970.
    pub start: i64,
    /// 0, or which of the parts that came after it was closed.
    pub part: u16,
    /// The watermark at which it closes.
    pub due: i64,
    pub events: u32,
    pub first_ms: i64,
    pub last_ms: i64,
    sums: [f64; 10],
    /// Events that carry each feature.
    carried: [u32; 10],
    /// Highest level of a Wazuh rule.
    pub level: u8,
    /// Sorted.
    kinds: Box<[u32]>,
    kinds_more: u32,
    /// Event types, by hash, sorted.
    types: Box<[u32]>,
    new_here: u32,
    new_anywhere: u32,
    /// Probability of the least likely event.
    here: f64,
    anywhere: f64,
    burst: f64,
    /// Highest level of a Sigma rule that matched.
    pub sigma: Option<Severity>,
    /// Techniques that events and rules name, and how often.
    pub techniques: Techniques,
    /// Of the least likely event on its entity type, kind and agent; then origins: of the first event, and of the first of
    /// each kind.
    texts: Packed,
    pub source: Class,
    /// A burst was told of in it.
    pub is_told: bool,
}

/// Techniques, and how often each was named by whom. Most windows have none.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(clippy::box_collection, reason = "one word in every window for what few have")]
pub struct Techniques(Option<Box<Vec<Technique>>>);

type Technique = (Box<str>, Evidence, u32);

impl std::ops::Deref for Techniques {
    type Target = [Technique];

    fn deref(&self) -> &[Technique] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }
}

/// Texts of a window that are no origins.
const WORDS: usize = 3;

/// A window as a row: what people and models are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Row {
    /// Counts summed, gauges averaged over the events that carry them.
    pub features: [f64; 10],
    /// Highest rule level, events, and distinct kinds of them.
    pub level: f64,
    pub count: f64,
    pub unique: f64,
    /// Means over this row and the two before it.
    pub level_mean: f64,
    pub count_mean: f64,
    pub unique_mean: f64,
    /// `(this - previous) / previous`; 0 for the first.
    pub count_rate: f64,
    pub unique_rate: f64,
}

/// Adds a number to a sorted list; false if it was there.
fn note(sorted: &mut Box<[u32]>, n: u32) -> bool {
    match sorted.binary_search(&n) {
        Ok(_) => false,
        Err(at) => {
            insert(sorted, at, n);
            true
        }
    }
}

impl Window {
    /// An empty one.
    pub fn new(start: i64, part: u16, due: i64, source: Class) -> Self {
        Self {
            start,
            part,
            due,
            events: 0,
            first_ms: i64::MAX,
            last_ms: i64::MIN,
            sums: [0.0; 10],
            carried: [0; 10],
            level: 0,
            kinds: Box::default(),
            kinds_more: 0,
            types: Box::default(),
            new_here: 0,
            new_anywhere: 0,
            here: f64::INFINITY,
            anywhere: f64::INFINITY,
            burst: 0.0,
            sigma: None,
            techniques: Techniques::default(),
            texts: Packed::default(),
            source,
            is_told: false,
        }
    }

    /// Adds an event.
    ///
    /// - `noted`: what it is beside those before it.
    pub fn add(&mut self, event: &Event<'_>, noted: &Noted, origin: &[u8]) {
        self.events = self.events.saturating_add(1);
        self.first_ms = self.first_ms.min(event.ts_ms);
        self.last_ms = self.last_ms.max(event.ts_ms);
        for (n, ((sum, carried), value)) in self.sums.iter_mut().zip(&mut self.carried).zip(event.features).enumerate() {
            if event.present >> n & 1 == 1 {
                *sum += value;
                *carried = carried.saturating_add(1);
            }
        }
        self.level = self.level.max(event.level);
        let first_of_kind = if self.kinds.len() < KINDS_MAX {
            note(&mut self.kinds, noted.kind)
        } else {
            // Beyond, only what this entity never had can be told to be another one.
            let is_known = self.kinds.binary_search(&noted.kind).is_ok();
            self.kinds_more = self.kinds_more.saturating_add(u32::from(!is_known && noted.new_here));
            !is_known && noted.new_here
        };
        if event.source == Class::Wazuh || self.types.len() >= KINDS_MAX {
            self.source = if event.source == Class::Wazuh { event.source } else { self.source };
        } else {
            note(&mut self.types, hash(0, event.event_type.as_bytes()) as u32);
        }
        self.new_here = self.new_here.saturating_add(u32::from(noted.new_here));
        self.new_anywhere = self.new_anywhere.saturating_add(u32::from(noted.new_anywhere));
        self.anywhere = self.anywhere.min(noted.anywhere);
        self.burst = self.burst.max(noted.burst);
        if noted.here < self.here {
            self.here = noted.here;
            let words = [&event.event_type, &event.kind, &event.agent_id].map(|word| word.as_bytes());
            if !self.texts.iter().take(WORDS).eq(words) {
                self.texts = Packed::of(words.map(<[u8]>::to_vec).into_iter().chain(self.evidence()));
            }
        }
        if first_of_kind && self.texts.len() < WORDS + EVIDENCE_MAX {
            self.texts.push(origin);
        }
        self.mark(event);
    }

    /// Takes from an event what it says of its window, but counts nothing.
    pub fn mark(&mut self, event: &Event<'_>) {
        self.sigma = self.sigma.max(event.sigma);
        for (id, evidence) in &event.techniques {
            let techniques = self.techniques.0.get_or_insert_default();
            if let Some((.., times)) = techniques.iter_mut().find(|(known, by, _)| **known == **id && by == evidence) {
                *times = times.saturating_add(1);
            } else if techniques.len() < TECHNIQUES_MAX {
                techniques.push((Box::from(&**id), *evidence, 1));
            }
        }
    }

    fn word(&self, n: usize) -> String {
        self.texts.iter().nth(n).and_then(|word| String::from_utf8(word).ok()).unwrap_or_default()
    }
    /// Of the least likely event on its entity: its type.
    pub fn event_type(&self) -> String {
        self.word(0)
    }
    /// Of the same: its kind.
    pub fn rarest(&self) -> String {
        self.word(1)
    }
    /// Of the same: its agent.
    pub fn agent_id(&self) -> String {
        self.word(2)
    }
    /// Origins: of the first event, then of the first of each kind.
    pub fn evidence(&self) -> impl Iterator<Item = Vec<u8>> {
        self.texts.iter().skip(WORDS)
    }

    /// Distinct kinds of its events.
    pub fn kinds(&self) -> u32 {
        self.kinds.len() as u32 + self.kinds_more
    }

    /// `ln(1 + events)`.
    pub fn n(&self) -> f64 {
        ln(1.0 + f64::from(self.events))
    }

    /// `ln(1 + burst)`.
    pub fn burst(&self) -> f64 {
        ln(1.0 + self.burst)
    }

    /// The eight numbers, in the order of [`VECTOR`].
    ///
    /// - `surge`: how far `n` is above its entity's mean, in standard deviations.
    pub fn vector(&self, surge: f64) -> [f32; 8] {
        let count = |n: u32| ln(1.0 + f64::from(n)) as f32;
        let rare = |p: f64| if p.is_finite() { -log2(p) as f32 } else { 0.0 };
        [
            self.n() as f32,
            count(self.kinds()),
            count(self.new_here),
            count(self.new_anywhere),
            rare(self.here),
            rare(self.anywhere),
            self.burst() as f32,
            surge as f32,
        ]
    }

    /// Bit n: an event of it carries feature n.
    pub fn present(&self) -> u16 {
        self.carried.iter().enumerate().fold(0, |present, (n, carried)| present | u16::from(*carried > 0) << n)
    }

    /// True if it holds alerts of Wazuh: its count is one of alerts, and its kinds are rules.
    pub fn is_of_alerts(&self) -> bool {
        self.source == Class::Wazuh
    }

    /// Distinct kinds as a row counts them: rules, or types of events.
    pub fn unique(&self) -> u32 {
        if self.is_of_alerts() { self.kinds() } else { self.types.len() as u32 }
    }

    /// The row.
    ///
    /// - `before`: level, count and unique of the two rows before it, the older first.
    pub fn row(&self, before: &[[f64; 3]]) -> Row {
        let mut features = self.sums;
        for gauge in GAUGES {
            if let (Some(value), Some(carried)) = (features.get_mut(gauge), self.carried.get(gauge).filter(|n| **n > 0)) {
                *value /= f64::from(*carried);
            }
        }
        let own = [f64::from(self.level), f64::from(self.events), f64::from(self.unique())];
        let mean = |of: fn(&[f64; 3]) -> f64| (before.iter().map(of).sum::<f64>() + of(&own)) / (before.len() + 1) as f64;
        let rate = |of: fn(&[f64; 3]) -> f64| match before.last().map(of) {
            Some(previous) if previous != 0.0 => (of(&own) - previous) / previous,
            _ => 0.0,
        };
        let [level, count, unique] = own;
        Row {
            features,
            level,
            count,
            unique,
            level_mean: mean(|row| row[0]),
            count_mean: mean(|row| row[1]),
            unique_mean: mean(|row| row[2]),
            count_rate: rate(|row| row[1]),
            unique_rate: rate(|row| row[2]),
        }
    }

    /// Writes it.
    pub fn save(&self, out: &mut Writer) {
        out.signed(self.start);
        out.number(u64::from(self.part));
        out.signed(self.due.saturating_sub(self.start));
        out.number(u64::from(self.events));
        out.signed(self.first_ms.saturating_sub(self.start));
        out.signed(self.last_ms.saturating_sub(self.start));
        for (sum, carried) in self.sums.iter().zip(self.carried) {
            out.number(u64::from(carried));
            if carried > 0 {
                out.f64(*sum);
            }
        }
        out.byte(self.level);
        for list in [&self.kinds, &self.types] {
            out.number(list.len() as u64);
            list.iter().for_each(|n| out.number(u64::from(*n)));
        }
        [self.kinds_more, self.new_here, self.new_anywhere].iter().for_each(|n| out.number(u64::from(*n)));
        [self.here, self.anywhere, self.burst].iter().for_each(|x| out.f64(*x));
        out.byte(self.sigma.map_or(0, |level| level as u8 + 1));
        out.number(self.techniques.len() as u64);
        for (id, evidence, times) in &*self.techniques {
            out.text(id);
            out.byte(*evidence as u8);
            out.number(u64::from(*times));
        }
        out.number(self.evidence().count() as u64);
        self.evidence().for_each(|origin| out.bytes(&origin));
        out.byte(self.source as u8);
        [self.event_type(), self.rarest(), self.agent_id()].iter().for_each(|text| out.text(text));
        out.byte(u8::from(self.is_told));
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn load(from: &mut Reader<'_>) -> Result<Self, &'static str> {
        let (start, part) = (from.signed()?, from.small()?);
        let due = start.saturating_add(from.signed()?);
        let mut window = Self::new(start, part, due, Class::Other);
        window.events = from.small()?;
        window.first_ms = start.saturating_add(from.signed()?);
        window.last_ms = start.saturating_add(from.signed()?);
        for (sum, carried) in window.sums.iter_mut().zip(&mut window.carried) {
            *carried = from.small()?;
            if *carried > 0 {
                *sum = from.f64()?;
            }
        }
        window.level = from.byte()?;
        for list in [&mut window.kinds, &mut window.types] {
            *list = (0..from.count()?).map(|_| from.small()).collect::<Result<_, _>>()?;
        }
        for n in [&mut window.kinds_more, &mut window.new_here, &mut window.new_anywhere] {
            *n = from.small()?;
        }
        for x in [&mut window.here, &mut window.anywhere, &mut window.burst] {
            *x = from.f64()?;
        }
        window.sigma = match from.byte()? {
            0 => None,
            n => Some(*Severity::ALL.get(usize::from(n) - 1).ok_or(CUT)?),
        };
        for _ in 0..from.count()? {
            let id = Box::from(from.text()?);
            let evidence = *Evidence::ALL.get(usize::from(from.byte()?)).ok_or(CUT)?;
            window.techniques.0.get_or_insert_default().push((id, evidence, from.small()?));
        }
        let evidence = (0..from.count()?).map(|_| from.bytes()).collect::<Result<Vec<_>, _>>()?;
        window.source = *Class::ALL.get(usize::from(from.byte()?)).ok_or(CUT)?;
        let words = [from.text()?, from.text()?, from.text()?];
        window.texts = Packed::of(words.map(str::as_bytes).into_iter().chain(evidence));
        window.is_told = from.byte()? != 0;
        Ok(window)
    }
}

impl Row {
    /// Names and values in the order of the contract.
    ///
    /// - `of_alerts`: it counts alerts of Wazuh, else events.
    pub fn members(&self, of_alerts: bool) -> impl Iterator<Item = (&'static str, f64)> {
        let names = if of_alerts {
            ["alert_count", "unique_rule_count", "alert_count_rolling_mean", "unique_rule_count_rolling_mean"]
        } else {
            ["event_count", "unique_category_count", "event_count_rolling_mean", "unique_category_count_rolling_mean"]
        };
        let rates =
            if of_alerts { ["alert_count_rate", "unique_rule_count_rate"] } else { ["event_count_rate", "unique_category_count_rate"] };
        let [count, unique, count_mean, unique_mean] = names;
        let [count_rate, unique_rate] = rates;
        let rest = [
            ("level", self.level),
            (count, self.count),
            (unique, self.unique),
            (count_mean, self.count_mean),
            (unique_mean, self.unique_mean),
            ("level_rolling_mean", self.level_mean),
            (count_rate, self.count_rate),
            (unique_rate, self.unique_rate),
        ];
        FEATURES.into_iter().zip(self.features).chain(rest)
    }
}
