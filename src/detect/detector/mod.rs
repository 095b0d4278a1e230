//! The detector: events into windows, windows into scores, scores into what is told. Pure.
//!
//! Events are counted as they come; windows close by event time, in the order of their ends and of the names of their
//! entities, and are scored in that order, one by one, whenever there is time: what is told depends on the events
//! alone, not on when the scoring is done. So a detector that is saved, loaded and shown the same events goes on to
//! the same alerts, to the last bit, on any machine.
//!
//! Two rules keep attacks from becoming normal: the memory is longer than an attack, and what scores above 99.5 % of
//! all windows is not learnt, but for what is beyond 1 % of them.

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
};

use super::{
    Event, Severity,
    baseline::{Cause, Usuals, fading},
    counts::Counts,
    entities::Entities,
    float::{exp, ln},
    model::Model,
    saved::{CUT, Reader, Writer},
    scale::{Pace, Ranks, told},
    window::{Row, Window},
};

pub use super::model::Engine;
use crate::limits::DETECT_OPEN_MAX as OPEN_MAX;

/// Windows of an entity before it is judged fully.
const WARM: u32 = 10;
/// Windows above this share of all are not learnt.
const NOT_LEARNT_ABOVE: f64 = 0.995;
/// Scores that must be known before that is said of any.
const NOT_LEARNT_FROM: usize = 500;
/// Points of which a half-life has at least so many.
const HALF_LIFE_POINTS: f64 = 50_000.0;
/// Share of windows whose strongest burst is as strong: above, it is told at once.
const BURST_SHARE: f64 = 1e-4;
/// Weight of the newest window in the running mean of `n`.
const SURGE_WEIGHT: f64 = 0.02;
/// Milliseconds of a day.
const DAY_MS: f64 = 86_400_000.0;
/// The form of what is saved.
const SAVED_FORM: u8 = 1;

/// What an operator says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Milliseconds.
    pub window_ms: i64,
    pub lateness_ms: i64,
    /// Score from which on a window is an alert.
    pub threshold: f64,
    /// Alerts a day that the threshold is raised for; 0 never raises it.
    pub budget_per_day: f64,
    pub entities_max: usize,
    pub engine: Engine,
    pub seed: u64,
    pub baseline_days: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window_ms: 600_000,
            lateness_ms: 60_000,
            threshold: 0.7,
            budget_per_day: 50.0,
            entities_max: 100_000,
            engine: Engine::Rcf,
            seed: 42,
            baseline_days: 7.0,
        }
    }
}

/// A window with its score.
#[derive(Clone, Debug)]
pub struct Scored {
    pub entity: Box<str>,
    pub entity_type: Cow<'static, str>,
    pub window: Box<Window>,
    pub end: i64,
    pub row: Row,
    /// In the order of [`VECTOR`](super::window::VECTOR).
    pub vector: [f32; 8],
    /// Which part of the score each of them has; of alerts only.
    pub shares: [f64; 8],
    /// The forest's score; 0 while it knows too little.
    pub raw: f64,
    /// Share of windows that score as high.
    pub p: f64,
    /// On the scale of alerts, 0.5 to 1.
    pub score: f64,
    pub severity: Severity,
    pub causes: Vec<Cause>,
    /// Its entity is new.
    pub warming: bool,
    /// It came after its window was closed: it was scored, and nothing was learnt of it.
    pub is_late: bool,
    pub is_alert: bool,
}

/// Many events at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst {
    pub start: i64,
    /// Events of the window so far.
    pub events: u32,
    /// `ln(1 + chi squared)`.
    pub strength: f64,
    /// Share of windows with one as strong, at most.
    pub p: f64,
    pub score: f64,
    pub severity: Severity,
    pub warming: bool,
}

/// What is counted of the detector itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub windows: u64,
    pub late_events: u64,
    pub not_learnt: u64,
    pub evicted: u64,
    /// Windows that were closed early because their entity had too many open ones.
    pub closed_early: u64,
}

/// The detector.
#[derive(Clone, Debug)]
pub struct Detector {
    settings: Settings,
    counts: Counts,
    entities: Entities,
    /// Entities with windows that close at a watermark.
    due: BTreeMap<i64, Vec<u32>>,
    /// Closed, not scored yet.
    queue: VecDeque<(u32, Box<Window>)>,
    /// Scored before anybody asked: what follows depended on it.
    done: VecDeque<Scored>,
    watermark: i64,
    model: Model,
    ranks: Ranks,
    /// Strongest bursts of windows.
    bursts: Ranks,
    /// Chi squared above which a burst is told.
    burst_above: f64,
    pace: Pace,
    usuals: Usuals,
    usuals_at: i64,
    pub tally: Tally,
}

impl Detector {
    /// One that knows nothing.
    pub fn new(settings: Settings) -> Self {
        Self {
            counts: Counts::new(settings.seed),
            entities: Entities::new(settings.seed),
            due: BTreeMap::new(),
            queue: VecDeque::new(),
            done: VecDeque::new(),
            watermark: i64::MIN,
            model: Model::new(settings.engine, settings.seed),
            ranks: Ranks::default(),
            bursts: Ranks::default(),
            burst_above: f64::INFINITY,
            pace: Pace::default(),
            usuals: Usuals::default(),
            usuals_at: 0,
            tally: Tally::default(),
            settings,
        }
    }

    /// Entities that it knows.
    pub fn entities(&self) -> usize {
        self.entities.len()
    }

    /// The watermark: windows that end at or before it are closed.
    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// True if there is anything to score or to give.
    pub fn is_due(&self) -> bool {
        !self.queue.is_empty() || !self.done.is_empty()
    }

    /// True if windows are open.
    pub fn has_open(&self) -> bool {
        !self.due.is_empty()
    }

    /// The score from which on a window is an alert now: the threshold, or what meets the budget.
    pub fn threshold(&self) -> f64 {
        let (per_day, budget) = (self.pace.per_day(), self.settings.budget_per_day);
        let meets = if budget > 0.0 && per_day > budget { told(budget / per_day) } else { 0.0 };
        self.settings.threshold.max(meets)
    }

    /// Takes an event.
    ///
    /// - `present_ms`: now. A clock ahead of it must not close the windows of all others.
    /// - `origin`: where it lies.
    pub fn take(&mut self, event: &Event<'_>, present_ms: i64, origin: &[u8]) -> Option<Burst> {
        let ts_ms = event.ts_ms;
        self.advance(ts_ms.min(present_ms).saturating_sub(self.settings.lateness_ms));
        let known = self.entities.find(&event.entity);
        if known.is_none() {
            self.make_room();
        }
        let n = self.entities.see(known, &event.entity, &event.entity_type);
        let start = ts_ms.div_euclid(self.settings.window_ms).saturating_mul(self.settings.window_ms);
        let end = start.saturating_add(self.settings.window_ms);
        let is_late = end <= self.watermark;
        if self.entities.get(n)?.open.len() >= OPEN_MAX && !self.entities.get(n)?.open.iter().any(|window| window.start == start) {
            self.close_oldest(n);
        }
        let entity = self.entities.get_mut(n)?;
        let at = match entity.open.iter().position(|window| window.start == start) {
            Some(at) => at,
            None => {
                let part = entity.closed(start).map(|(part, _)| part.saturating_add(1));
                let part = part.unwrap_or(u16::from(is_late));
                // What is late closes with the windows that are open now.
                let next = self.watermark.div_euclid(self.settings.window_ms).saturating_add(1).saturating_mul(self.settings.window_ms);
                let due = if is_late { next } else { end };
                entity.open(Window::new(start, part, due, event.source));
                self.due.entry(due).or_default().push(n);
                entity.open.len() - 1
            }
        };
        let window = entity.open.get_mut(at)?;
        if !event.counts {
            window.mark(event);
            return None;
        }
        self.tally.late_events += u64::from(is_late);
        let noted = self.counts.note(entity.hash, &mut entity.counts, &event.kind, ts_ms.min(present_ms));
        window.add(event, &noted, origin);
        // One event is no burst, and one window has one.
        if noted.burst <= self.burst_above || window.is_told || window.events < 2 {
            return None;
        }
        window.is_told = true;
        let (score, warming) = (told(BURST_SHARE), entity.windows < WARM);
        let severity = lowered(Severity::of_score(score), warming);
        Some(Burst { start, events: window.events, strength: ln(1.0 + noted.burst), p: BURST_SHARE, score, severity, warming })
    }

    /// Closes all windows that end at or before a watermark.
    fn advance(&mut self, watermark: i64) {
        if watermark <= self.watermark {
            return;
        }
        self.watermark = watermark;
        if self.due.first_key_value().is_none_or(|(due, _)| *due > watermark) {
            return;
        }
        // What was closed before is scored first, so that what is known at this moment does not depend on when there
        // was time for it.
        self.drain();
        self.burst_above = match self.bursts.score_of(BURST_SHARE) {
            Some(strength) => exp(strength) - 1.0,
            None => f64::INFINITY,
        };
        while let Some(first) = self.due.first_entry().filter(|first| *first.key() <= watermark) {
            let (due, entities) = first.remove_entry();
            self.close(due, &entities);
        }
    }

    /// Closes the windows of these entities that are due at a moment, by their end and their entity's name.
    fn close(&mut self, due: i64, numbers: &[u32]) {
        let mut closing: Vec<(i64, u16, u32)> = Vec::with_capacity(numbers.len());
        for n in numbers {
            let Some(entity) = self.entities.get(*n) else { continue };
            closing.extend(entity.open.iter().filter(|window| window.due == due).map(|window| (window.start, window.part, *n)));
        }
        let name = |n: u32| self.entities.get(n).map(|entity| &*entity.name);
        closing.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| name(a.2).cmp(&name(b.2))).then(a.1.cmp(&b.1)));
        closing.dedup();
        for (start, part, n) in closing {
            let Some(entity) = self.entities.get_mut(n) else { continue };
            let Some(at) = entity.open.iter().position(|window| window.start == start && window.part == part) else { continue };
            let window = entity.open.swap_remove(at);
            entity.close(start, part);
            self.queue.push_back((n, window));
        }
    }

    /// Closes the oldest open window of an entity before its time.
    fn close_oldest(&mut self, n: u32) {
        // Severities of closed windows are remembered for so many only: they must be known before one is forgotten.
        self.drain();
        let Some(entity) = self.entities.get_mut(n) else { return };
        let oldest = entity.open.iter().enumerate().min_by_key(|(_, window)| (window.start, window.part)).map(|(at, _)| at);
        if let Some(oldest) = oldest {
            let window = entity.open.swap_remove(oldest);
            entity.close(window.start, window.part);
            self.queue.push_back((n, window));
            self.tally.closed_early += 1;
        }
    }

    /// Closes all windows: nothing came for a while, or nothing will.
    pub fn close_all(&mut self) {
        while let Some((due, numbers)) = self.due.pop_first() {
            self.close(due, &numbers);
            self.watermark = self.watermark.max(due);
        }
    }

    /// Scores all that is closed.
    fn drain(&mut self) {
        while let Some((n, window)) = self.queue.pop_front() {
            let scored = self.score(n, window);
            self.done.extend(scored);
        }
    }

    /// Forgets the entity that was silent longest if there is no room for another one. Its windows are scored first.
    fn make_room(&mut self) {
        while self.entities.len() >= self.settings.entities_max.max(1)
            && let Some(oldest) = self.entities.oldest()
        {
            self.drain();
            let mut open = self.entities.get_mut(oldest).map(|entity| std::mem::take(&mut entity.open)).unwrap_or_default();
            open.sort_by_key(|window| (window.start, window.part));
            for window in open {
                let scored = self.score(oldest, window);
                self.done.extend(scored);
            }
            if let Some(gone) = self.entities.remove(oldest) {
                self.counts.forget(&gone.counts);
                self.tally.evicted += 1;
            }
        }
    }

    /// The next window that had to be scored already; what is saved is without these.
    pub fn done(&mut self) -> Option<Scored> {
        self.done.pop_front()
    }

    /// The next window that is closed, with its score; `None` if none is.
    #[allow(clippy::should_implement_trait, reason = "there may be one later")]
    pub fn next(&mut self) -> Option<Scored> {
        loop {
            if let Some(done) = self.done.pop_front() {
                return Some(done);
            }
            let (n, window) = self.queue.pop_front()?;
            if let Some(scored) = self.score(n, window) {
                return Some(scored);
            }
        }
    }

    /// Scores a window, then learns it.
    fn score(&mut self, n: u32, window: Box<Window>) -> Option<Scored> {
        let threshold = self.threshold();
        let entity = self.entities.get_mut(n)?;
        if window.events == 0 {
            return None;
        }
        let is_late = window.part > 0;
        let end = window.start.saturating_add(self.settings.window_ms);
        let (mean, variance) = (f64::from(entity.n.0), f64::from(entity.n.1));
        let above = window.n() - mean;
        let surge = (above / (variance + 0.001).sqrt()).max(0.0);
        let vector = window.vector(surge);
        let raw = self.model.score(&vector);
        let (p, score) = if raw > 0.0 {
            let p = self.ranks.share_above(raw);
            (p, told(p))
        } else {
            (1.0, told(1.0))
        };
        let (rows, len) = entity.rows();
        let row = window.row(rows.get(..len).unwrap_or_default());
        let present = window.present();
        let warming = entity.baseline.windows < WARM;
        let mut severity = Severity::of_score(score);
        if window.sigma >= Some(Severity::High) || window.level >= 12 {
            severity = severity.raised();
        }
        severity = lowered(severity, warming);
        let before = entity.closed(window.start).map_or(0, |(_, severity)| severity);
        // A late part is told only if it says more than what was told of its window.
        let is_alert = raw > 0.0 && score >= threshold && (!is_late || severity as u8 > before);
        let causes = if is_alert { entity.baseline.causes(&row.features, present, &self.usuals) } else { Vec::new() };
        let shares = if is_alert { self.model.shares(&vector) } else { [0.0; 8] };
        if is_alert {
            entity.tell(window.start, severity as u8);
        }
        if !is_late {
            let half_life = self.settings.baseline_days * DAY_MS / 2.0;
            entity.n.0 = (mean + SURGE_WEIGHT * above) as f32;
            entity.n.1 = ((1.0 - SURGE_WEIGHT) * (variance + SURGE_WEIGHT * above * above)) as f32;
            entity.note(window.level, window.events, window.unique());
            let span = (window.first_ms, window.last_ms);
            entity.baseline.learn(&row.features, present, window.events, span, half_life, score);
            self.usuals.learn(
                &row.features,
                present,
                fading(end.saturating_sub(self.usuals_at).clamp(0, self.settings.window_ms), half_life),
            );
            self.usuals_at = end;
            // The two rules.
            let is_odd =
                raw > 0.0 && self.ranks.len() >= NOT_LEARNT_FROM && self.ranks.quantile(NOT_LEARNT_ABOVE).is_some_and(|edge| raw > edge);
            let learns = !(is_odd && self.pace.may_skip());
            if learns {
                let points = (self.pace.per_day() * self.settings.baseline_days).max(HALF_LIFE_POINTS);
                self.model.learn(&vector, std::f64::consts::LN_2 / points);
            } else {
                self.tally.not_learnt += 1;
            }
            self.pace.note(end);
            if raw > 0.0 {
                self.ranks.push(raw);
            }
            self.bursts.push(window.burst());
        }
        self.tally.windows += 1;
        let (name, of) = (entity.name.clone(), entity.of.clone());
        Some(Scored {
            entity: name,
            entity_type: of,
            window,
            end,
            row,
            vector,
            shares,
            raw,
            p,
            score,
            severity,
            causes,
            warming,
            is_late,
            is_alert,
        })
    }

    /// How an entity behaves; `None` if it is not known, or had no window yet.
    pub fn report(&self, entity: &str) -> Option<super::baseline::Report> {
        self.entities.get(self.entities.find(entity)?)?.baseline.report()
    }

    /// Writes all that it needs to go on.
    pub fn save(&self, out: &mut Writer) {
        out.byte(SAVED_FORM);
        out.number(self.settings.window_ms as u64);
        out.byte(self.settings.engine as u8);
        out.u64(self.settings.seed);
        self.counts.save(out);
        self.entities.save(out);
        // Closed windows name their entity by its place in the order in which all were just written.
        let mut places = vec![0_u32; self.entities.oldest_first().map(|n| n as usize + 1).max().unwrap_or(0)];
        for (place, n) in self.entities.oldest_first().enumerate() {
            if let Some(at) = places.get_mut(n as usize) {
                *at = place as u32;
            }
        }
        out.number(self.queue.len() as u64);
        for (n, window) in &self.queue {
            out.number(u64::from(places.get(*n as usize).copied().unwrap_or_default()));
            window.save(out);
        }
        out.signed(self.watermark);
        self.model.save(out);
        self.ranks.save(out);
        self.bursts.save(out);
        out.f64(self.burst_above);
        self.pace.save(out);
        self.usuals.save(out);
        out.signed(self.usuals_at);
    }

    /// Reads what [`save`](Self::save) wrote. `None` if it was written under another window, engine or seed: what it
    /// knows is then of no use.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn load(settings: Settings, from: &mut Reader<'_>) -> Result<Option<Self>, &'static str> {
        if from.byte()? != SAVED_FORM {
            return Err("a later shipper wrote it");
        }
        let known = (from.number()?, from.byte()?, from.u64()?);
        if known != (settings.window_ms as u64, settings.engine as u8, settings.seed) {
            return Ok(None);
        }
        let mut detector = Self::new(settings);
        detector.counts = Counts::load(settings.seed, from)?;
        detector.entities = Entities::load(settings.seed, &mut detector.counts, from)?;
        for n in detector.entities.oldest_first() {
            for window in detector.entities.get(n).iter().flat_map(|entity| &entity.open) {
                detector.due.entry(window.due).or_default().push(n);
            }
        }
        for _ in 0..from.count()? {
            let n = from.small::<u32>()?;
            if n as usize >= detector.entities.len() {
                return Err(CUT);
            }
            detector.queue.push_back((n, Box::new(Window::load(from)?)));
        }
        detector.watermark = from.signed()?;
        detector.model = Model::load(settings.engine, from)?;
        detector.ranks = Ranks::load(from)?;
        detector.bursts = Ranks::load(from)?;
        detector.burst_above = from.f64()?;
        detector.pace = Pace::load(from)?;
        detector.usuals = Usuals::load(from)?;
        detector.usuals_at = from.signed()?;
        Ok(Some(detector))
    }
}

/// A severity of an entity that is new: a step down, and Medium at most.
fn lowered(severity: Severity, warming: bool) -> Severity {
    if warming { severity.lowered().min(Severity::Medium) } else { severity }
}

#[cfg(test)]
mod tests;
