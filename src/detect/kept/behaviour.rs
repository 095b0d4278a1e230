//! What an entity does as a rule, and who is asked for it.
//!
//! A detector knows entities by the hundred thousand and does not tell of them unasked: who wants to see one
//! puts a question, and the detector answers at its next event or tick ([`Questions`]).

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};

use super::{Brief, brief::rfc3339};
use crate::limits;

/// One entity's behaviour.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Behaviour {
    /// What it was made of: windows, or alerts.
    pub data_points: u64,
    /// Milliseconds since 1970: the first and the last of them.
    pub start_ms: i64,
    pub end_ms: i64,
    pub features: BTreeMap<String, Feature>,
    /// Data points by hour of the day in UTC.
    pub by_hour: [u64; 24],
    pub score: Option<Score>,
}

/// One feature over all data points.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Feature {
    pub mean: f64,
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub std: f64,
    pub current: f64,
}

/// Scores of the data points, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    pub current: f64,
    pub mean: f64,
    pub max: f64,
}

impl Feature {
    /// Of these values, the newest first; `None` without any.
    pub fn of(values: &[f64]) -> Option<Self> {
        let current = *values.first()?;
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let std = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |n: usize| sorted.get(n).copied().unwrap_or(current);
        let half = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { at(half) } else { (at(half - 1) + at(half)) / 2.0 };
        Some(Self { mean, median, min: at(0), max: at(sorted.len() - 1), std, current })
    }
}

impl Behaviour {
    /// As far as alerts show it; `None` without any.
    ///
    /// - `alerts`: their JSON, the newest first.
    pub fn of_alerts<'a>(alerts: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut behaviour = Self { start_ms: i64::MAX, end_ms: i64::MIN, ..Self::default() };
        let (mut values, mut scores): (BTreeMap<String, Vec<f64>>, Vec<f64>) = (BTreeMap::new(), Vec::new());
        for json in alerts {
            let Ok(Brief { time_ms, .. }) = Brief::read(json) else { continue };
            behaviour.data_points += 1;
            behaviour.start_ms = behaviour.start_ms.min(time_ms);
            behaviour.end_ms = behaviour.end_ms.max(time_ms);
            let hour = time_ms.div_euclid(3_600_000).rem_euclid(24);
            if let Some(count) = usize::try_from(hour).ok().and_then(|hour| behaviour.by_hour.get_mut(hour)) {
                *count += 1;
            }
            // Members beyond the brief are shown where they are what they should be.
            let Ok(alert) = serde_json::from_slice::<Value>(json) else { continue };
            for (name, value) in alert.get("features").and_then(Value::as_object).into_iter().flatten() {
                if let Some(value) = value.as_f64() {
                    values.entry(name.clone()).or_default().push(value);
                }
            }
            let score = ["anomaly_score", "prediction_score"].into_iter().find_map(|name| alert.get(name)?.as_f64());
            scores.extend(score);
        }
        behaviour.features = values.into_iter().filter_map(|(name, values)| Some((name, Feature::of(&values)?))).collect();
        behaviour.score = Feature::of(&scores).map(|of| Score { current: of.current, mean: of.mean, max: of.max });
        (behaviour.data_points > 0).then_some(behaviour)
    }

    /// As the HTTP face shows it.
    pub fn json(&self) -> Value {
        let features: BTreeMap<&String, Value> = self.features.iter().map(|(name, of)| (name, of.json())).collect();
        let hours: Vec<(String, Value)> = self.by_hour.iter().enumerate().map(|(hour, count)| (hour.to_string(), json!(count))).collect();
        json!({
            "data_points": self.data_points,
            "time_range": {"start": rfc3339(self.start_ms), "end": rfc3339(self.end_ms)},
            "features": features,
            "activity_by_hour": hours.into_iter().collect::<serde_json::Map<_, _>>(),
            "anomaly_score": self.score.map(|of| json!({"current": of.current, "mean": of.mean, "max": of.max})),
        })
    }
}

impl Feature {
    fn json(&self) -> Value {
        let Self { mean, median, min, max, std, current } = self;
        json!({"mean": mean, "median": median, "min": min, "max": max, "std": std, "current": current})
    }
}

/// Questions for the behaviour of entities, put by one thread and answered by others.
///
/// ```text
/// face:      let asked = questions.ask("host1")?;  …  asked.answer()
/// detector:  at each event and tick: questions.answer(|entity| self.behaviour(entity))
/// ```
#[derive(Default)]
pub struct Questions {
    /// True while somebody asks. Pairs: stored under the lock, read before it.
    is_asked: AtomicBool,
    open: Mutex<Vec<Open>>,
}

/// An entity, and where its answer goes.
type Open = (String, Weak<Mutex<Option<Behaviour>>>);

impl fmt::Debug for Questions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Questions")
    }
}

/// A question that was put; who lets go of it asks no more.
#[derive(Debug)]
pub struct Asked(Arc<Mutex<Option<Behaviour>>>);

impl Asked {
    /// The answer, once it is there.
    pub fn answer(&self) -> Option<Behaviour> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Questions {
    fn lock(&self) -> MutexGuard<'_, Vec<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a question; `None` while too many are open.
    pub fn ask(&self, entity: &str) -> Option<Asked> {
        let mut open = self.lock();
        open.retain(|(_, asked)| asked.strong_count() > 0);
        if open.len() >= limits::API_CONNECTIONS_MAX {
            return None;
        }
        let answer = Arc::new(Mutex::new(None));
        open.push((entity.to_owned(), Arc::downgrade(&answer)));
        self.is_asked.store(true, Ordering::Release);
        Some(Asked(answer))
    }

    /// Answers what is open. What this one does not know stays open for others; costs one load while nobody asks.
    pub fn answer(&self, mut of: impl FnMut(&str) -> Option<Behaviour>) {
        if !self.is_asked.load(Ordering::Acquire) {
            return;
        }
        let mut open = self.lock();
        open.retain(|(entity, asked)| {
            let Some(asked) = asked.upgrade() else { return false };
            let Some(behaviour) = of(entity) else { return true };
            *asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(behaviour);
            false
        });
        self.is_asked.store(!open.is_empty(), Ordering::Release);
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::detect::kept::brief::tests::alert;

    #[test]
    fn values_come_to_their_figures() {
        let of = Feature::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((of.mean, of.median, of.min, of.max, of.current), (2.5, 2.5, 1.0, 4.0, 4.0));
        assert!((of.std - 1.25_f64.sqrt()).abs() < 1e-12);
        assert_eq!(Feature::of(&[3.0, 1.0, 2.0]).unwrap().median, 2.0);
        assert_eq!(Feature::of(&[]), None);
    }

    #[test]
    fn alerts_show_when_and_how_an_entity_acts() {
        const HOUR: i64 = 3_600_000;
        let times = [25 * HOUR, 5 * HOUR, HOUR];
        let all: Vec<String> = times.iter().map(|time| alert("a", "h", *time, "Low")).collect();
        let of = Behaviour::of_alerts(all.iter().map(String::as_bytes)).unwrap();
        assert_eq!((of.data_points, of.start_ms, of.end_ms), (3, HOUR, 25 * HOUR));
        assert_eq!((of.by_hour[1], of.by_hour[5], of.by_hour.iter().sum::<u64>()), (2, 1, 3));
        let shown = of.json();
        assert_eq!(shown["features"]["cpu_usage_mean"]["mean"], 0.9);
        assert_eq!(shown["anomaly_score"]["max"], 0.75);
        assert_eq!(shown["time_range"]["start"], "1970-01-01T01:00:00.000Z");
        assert_eq!(shown["activity_by_hour"]["1"], 2);
        assert_eq!(Behaviour::of_alerts([]), None);
        let odd = alert("a", "h", 0, "Low").replace("{\"cpu_usage_mean\":0.9}", "[1]").replace("0.75", "\"x\"");
        let of = Behaviour::of_alerts([odd.as_bytes(), b"{}"]).unwrap();
        assert_eq!((of.data_points, of.features.len(), of.score), (1, 0, None));
    }

    #[test]
    fn a_question_is_answered_by_whoever_knows_and_forgotten_with_its_asker() {
        let questions = Questions::default();
        let known = |name: &'static str| move |entity: &str| (entity == name).then(|| Behaviour { data_points: 7, ..Behaviour::default() });
        questions.answer(|_| panic!("nobody asks"));
        let (a, b) = (questions.ask("a").unwrap(), questions.ask("b").unwrap());
        questions.answer(known("b"));
        assert_eq!((a.answer(), b.answer().map(|of| of.data_points)), (None, Some(7)));
        questions.answer(known("a"));
        assert!(a.answer().is_some());
        questions.answer(|_| panic!("all is answered"));
        let many: Vec<_> = (0..limits::API_CONNECTIONS_MAX).map(|_| questions.ask("x").unwrap()).collect();
        assert!(questions.ask("x").is_none());
        drop(many);
        assert!(questions.ask("x").is_some(), "who has gone asks no more");
    }
}
