//! `detector`: windows of events per entity, scored by how unlike they are to what was before.
//!
//! It takes events (`apt.event`, `sigma.event`) and emits nothing for them but a burst that should not wait; windows
//! close by event time, or after a while of silence, and are scored between batches. What is told of a window goes out
//! apart, with the origin of its first event, so one address is one message. `crate::detect` decides everything; here
//! are settings, times, origins and JSON.
//!
//! What it remembers cannot be had again from what is delivered, so its branch's saved position waits for its snapshot.
//! A snapshot says up to where each stream is counted in it: what is read again is not counted again.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

mod models;
mod streams;
#[cfg(test)]
mod tests;
mod written;

use std::{collections::VecDeque, sync::Arc};

use models::Panel;
use streams::Streams;

use super::{Fate, Kind, Late, LateMessage, Now, Out, Spec, Stage};
use crate::{
    batch::Message,
    clock::{Nanos, nanos},
    detect::{
        Event, FEATURES,
        baseline::Report,
        detector::{Detector, Engine, Scored, Settings},
        kept::{
            Behaviour, Questions,
            behaviour::{Feature, Score},
        },
        saved::{Reader, Writer},
    },
    limits,
    register::{Field, Section, Type},
    tables::Shelf,
};

/// The kind.
pub struct Kinds;

static FIELDS: &[Field] = &[
    Field::new("window", Type::Span, "\"10m\"", "Length of a window, of event time."),
    Field::new(
        "allowed_lateness",
        Type::Span,
        "\"1m\"",
        "How far behind the newest event others may come before their window is closed without them.",
    ),
    Field::new("idle_close", Type::Span, "\"2m\"", "Silence after which open windows are closed all the same."),
    Field::new(
        "threshold",
        Type::Text,
        "\"0.7\"",
        "Score from which on a window is an alert: 0.7 is one window in a hundred, 0.8 one in a thousand, 0.9 one in ten thousand.",
    ),
    Field::new(
        "alert_budget_per_day",
        Type::Int { min: 0, max: 1_000_000 },
        "50",
        "Alerts a day that are worth somebody's time: where more windows reach the threshold, it is raised for them; 0 never raises it.",
    ),
    Field::new(
        "max_entities",
        Type::Int { min: 1, max: limits::DETECT_ENTITIES_MAX as i64 },
        "100000",
        "Entities that are known at once, about 1.5 KiB each; beyond, the one that was silent longest is forgotten, and counted.",
    ),
    Field::new(
        "engine",
        Type::Choice(&["rcf", "oif"]),
        "rcf",
        "What scores windows: a random cut forest, or an online isolation forest, which is faster and not as good.",
    ),
    Field::new(
        "seed",
        Type::Int { min: 0, max: i64::MAX },
        "42",
        "Of all that is chance in it: the same events and the same seed are the same alerts.",
    ),
    Field::new(
        "baseline_period",
        Type::Span,
        "\"168h\"",
        "Over what time what is usual is learnt: half of it is forgotten in half that time, of single entities, and in all of it, of what windows look like.",
    ),
    Field::new(
        "snapshot_every",
        Type::Span,
        "\"30s\"",
        "Time between two snapshots at least; what is read again after a crash grows with it.",
    ),
    Field::new(
        "models",
        Type::Tables("model"),
        "[]",
        "Models that are asked about each window; an alert of the window names the score of each.",
    ),
    Field::new("model_threshold", Type::Number, "0.7", "Score of the models, 0 to 1, from which on a window is an alert by them."),
];

impl Kind for Kinds {
    fn name(&self) -> &'static str {
        "detector"
    }
    fn about(&self) -> &'static str {
        "alerts of windows of events that are unlike what was before, from events of handlers apt and sigma"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn outputs(&self) -> &'static [&'static str] {
        &["", "window"]
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        let mut span = |key: &'static str, least_ms: i64| {
            let ms = i64::try_from(section.span(key).as_millis()).unwrap_or(i64::MAX);
            if ms < least_ms {
                section.wrong(key, format!("is shorter than {least_ms} ms"));
            }
            ms
        };
        let (window_ms, lateness_ms) = (span("window", 1000), span("allowed_lateness", 0));
        let (idle_ms, baseline_ms, every_ms) = (span("idle_close", 1000), span("baseline_period", 3_600_000), span("snapshot_every", 1000));
        let threshold = section.text("threshold").parse::<f64>().ok().filter(|score| (0.5..=1.0).contains(score));
        if threshold.is_none() {
            section.wrong("threshold", "is no number from 0.5 to 1; write one, such as \"0.7\"");
        }
        let engine = if section.choice("engine") == "oif" { Engine::Oif } else { Engine::Rcf };
        let settings = Settings {
            window_ms: window_ms.max(1),
            lateness_ms,
            threshold: threshold.unwrap_or(0.7),
            budget_per_day: section.int("alert_budget_per_day") as f64,
            entities_max: usize::try_from(section.int("max_entities")).unwrap_or(1),
            engine,
            seed: section.int("seed") as u64,
            baseline_days: baseline_ms as f64 / 86_400_000.0,
        };
        let model_threshold = section.number("model_threshold");
        if !(0.0..=1.0).contains(&model_threshold) {
            section.wrong("model_threshold", format!("{model_threshold} is no score; use a number from 0 to 1"));
        }
        let models = section.texts("models");
        let name = section.name.rsplit_once('.').map_or(&*section.name, |(_, name)| name).to_owned();
        let ms = |ms: i64| nanos(std::time::Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
        Box::new(Asked { name, settings, idle: ms(idle_ms), every: ms(every_ms), models, model_threshold, questions: Arc::default() })
    }
}

#[derive(Clone, Debug)]
struct Asked {
    name: String,
    settings: Settings,
    idle: Nanos,
    every: Nanos,
    /// Names of tables.
    models: Vec<String>,
    model_threshold: f64,
    /// Of the HTTP face, for entities.
    questions: Arc<Questions>,
}

impl Spec for Asked {
    fn build(&self, tables: &Shelf) -> Box<dyn Stage> {
        Box::new(Running::new(self.clone(), tables))
    }
    fn questions(&self) -> Option<Arc<Questions>> {
        Some(self.questions.clone())
    }
    fn holds(&self) -> Option<Nanos> {
        Some(self.every)
    }
}

/// Time between two looks whether somebody asks for an entity.
const LOOK_EVERY: Nanos = 1_000_000_000;
/// Windows that are scored before others have a turn: some milliseconds.
const TURN: usize = 100;

struct Running {
    asked: Asked,
    detector: Detector,
    panel: Panel,
    streams: Streams,
    /// Made, and not emitted yet.
    ready: VecDeque<LateMessage>,
    /// Monotonic, of the last event.
    last: Nanos,
    told_evicted: u64,
    /// When it looks for questions next.
    looks_at: Nanos,
    /// Scratch.
    payload: Vec<u8>,
}

impl Running {
    fn new(asked: Asked, tables: &Shelf) -> Self {
        let detector = Detector::new(asked.settings);
        let panel = Panel::new(tables, &asked.models, asked.model_threshold);
        Self {
            asked,
            detector,
            panel,
            streams: Streams::default(),
            ready: VecDeque::new(),
            last: 0,
            told_evicted: 0,
            looks_at: 0,
            payload: Vec::new(),
        }
    }

    /// Makes messages of up to so many windows that are closed.
    fn score(&mut self, windows: usize) {
        for _ in 0..windows {
            let Some(scored) = self.detector.next() else { return };
            self.tell(&scored);
        }
    }

    fn tell(&mut self, scored: &Scored) {
        let origin = scored.window.evidence().next().unwrap_or_default();
        let key = Some(scored.entity.as_bytes().to_vec());
        let message = |output, payload| LateMessage { output, origin: origin.clone(), key: key.clone(), payload, time_ms: scored.end };
        let said = self.panel.ask(scored);
        if scored.is_alert {
            self.payload.clear();
            written::alert(&mut self.payload, &self.asked.name, self.asked.settings.engine, scored, &said.scores);
            self.ready.push_back(message(0, self.payload.clone()));
        }
        if let Some(score) = said.alert {
            self.payload.clear();
            written::of_models(&mut self.payload, &self.asked.name, scored, score, &said.scores);
            self.ready.push_back(message(0, self.payload.clone()));
        }
        self.payload.clear();
        written::window(&mut self.payload, scored);
        self.ready.push_back(message(1, self.payload.clone()));
    }

    fn idle_at(&self) -> Option<Nanos> {
        self.detector.has_open().then(|| self.last.saturating_add(self.asked.idle))
    }

    /// Tells of entities to whoever asks.
    fn answer(&self) {
        self.asked.questions.answer(|entity| self.detector.report(entity).map(|report| behaviour(&report)));
    }
}

/// A report as the HTTP face shows it.
fn behaviour(report: &Report) -> Behaviour {
    let feature = |(name, of): (&str, crate::detect::baseline::Figures)| {
        let (mean, median, min, max, std, current) = (of.mean, of.median, of.min, of.max, of.std, of.current);
        (name.to_owned(), Feature { mean, median, min, max, std, current })
    };
    let (current, mean, max) = report.score;
    Behaviour {
        data_points: u64::from(report.data_points),
        start_ms: report.time_range.0,
        end_ms: report.time_range.1,
        features: FEATURES.into_iter().zip(report.features).map(feature).collect(),
        by_hour: report.activity_by_hour,
        score: Some(Score { current, mean, max }),
    }
}

impl Stage for Running {
    fn take(&mut self, message: &Message<'_>, now: Now, out: &mut Out) -> Fate {
        let Ok(event) = Event::read(message.payload) else { return Fate::Dropped("no_event") };
        let origin = message.origin();
        if self.streams.is_counted(origin, event.ts_ms) {
            return Fate::Dropped("counted");
        }
        self.last = now.mono;
        self.answer();
        let present = i64::try_from(now.wall / 1_000_000).unwrap_or(i64::MAX);
        let burst = self.detector.take(&event, present, origin);
        // They are in no snapshot of the detector's.
        while let Some(scored) = self.detector.done() {
            self.tell(&scored);
        }
        let Some(burst) = burst else { return Fate::Dropped("windowed") };
        self.payload.clear();
        written::burst(&mut self.payload, &self.asked.name, self.asked.settings, &event, origin, &burst);
        out.message(0, Some(event.entity.as_bytes()), &self.payload);
        Fate::Emitted
    }
    fn tick(&mut self, now: Now, out: &mut Late) {
        self.answer();
        self.looks_at = now.mono.saturating_add(LOOK_EVERY);
        if !self.detector.is_due() && self.idle_at().is_some_and(|at| at <= now.mono) {
            self.detector.close_all();
        }
        self.score(TURN);
        out.messages.extend(self.ready.drain(..));
    }
    fn due(&self) -> Option<Nanos> {
        if self.detector.is_due() || !self.ready.is_empty() {
            return Some(0);
        }
        // Somebody may ask.
        let looks_at = (self.detector.entities() > 0).then_some(self.looks_at);
        looks_at.into_iter().chain(self.idle_at()).min()
    }
    fn flush(&mut self, _: Now, out: &mut Late) {
        self.detector.close_all();
        self.score(usize::MAX);
        out.messages.extend(self.ready.drain(..));
    }
    fn save(&self, _: Now) -> Option<Vec<u8>> {
        let mut bytes = Writer::default();
        self.detector.save(&mut bytes);
        self.streams.save(&mut bytes);
        bytes.number(self.ready.len() as u64);
        for message in &self.ready {
            bytes.byte(message.output as u8);
            bytes.bytes(&message.origin);
            bytes.bytes(message.key.as_deref().unwrap_or_default());
            bytes.bytes(&message.payload);
            bytes.signed(message.time_ms);
        }
        Some(bytes.0)
    }
    fn load(&mut self, saved: &[u8], now: Now) -> Result<(), String> {
        let mut from = Reader(saved);
        let Some(detector) = Detector::load(self.asked.settings, &mut from)? else {
            tracing::warn!(stage = self.asked.name, "window, engine or seed was changed; the detector begins anew");
            return Ok(());
        };
        let streams = Streams::load(&mut from)?;
        let mut ready = VecDeque::new();
        for _ in 0..from.count()? {
            let output = usize::from(from.byte()?);
            let (origin, key, payload) = (from.bytes()?.to_vec(), Some(from.bytes()?.to_vec()), from.bytes()?.to_vec());
            ready.push_back(LateMessage { output, origin, key, payload, time_ms: from.signed()? });
        }
        (self.detector, self.streams, self.ready, self.last) = (detector, streams, ready, now.mono);
        self.told_evicted = 0;
        Ok(())
    }
    fn entries(&self) -> usize {
        self.detector.entities()
    }
    fn take_evicted(&mut self) -> u64 {
        let evicted = self.detector.tally.evicted;
        evicted - std::mem::replace(&mut self.told_evicted, evicted)
    }
}
