//! `apt`: security events of every kind made into one, and alerts of those that are grave by themselves.
//!
//! Reads events of the simulator, alerts of Wazuh, documents of the Elastic Common Schema, records of Windows event
//! logs, connections of Zeek, and messages of ten features, whichever a record turns out to be. Output `event` has
//! one event for each, for stage `detector`; the first output has an alert for each event that needs no memory of
//! others to be one. docs/APT.md has every decision.
//!
//! | question | module |
//! |---|---|
//! | which members are there | `members` |
//! | what is it, and what does an event take of it | `record` |
//! | what stands in it, class by class | `sim`, `wazuh`, `documents`, `raw` |
//! | when was it | `time` |
//! | all of it at once, of a plain event of the simulator | `flat` |
//!
//! Everything in a record may have been written by an attacker: no type of a member is relied on, nothing of it
//! chooses where anything goes, and what cannot be read stays in the dead letter.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

mod documents;
mod figures;
mod flat;
mod members;
mod models;
mod own;
mod raw;
mod record;
mod sim;
mod time;
mod wazuh;

use super::{Fate, Handler, Kind, Needles, Output, Record, Rejection, Spec};
use crate::{
    alert::{Alert, Piece, json_str_plain, salvage},
    batch::Outbox,
    detect::{self, Class, Detection, FEATURES, Severity, attack},
    json, limits,
    metrics::Counted,
    register::{Field, Section, Type},
    tables::Shelf,
};
use models::Panel;
use record::Read;

/// The kind.
pub struct Apt;

const PRIMARY: usize = 0;
const EVENT: usize = 1;

/// Above it, one feature alone is an alert.
const FEATURE_HIGH: f64 = 0.8;

static FIELDS: &[Field] = &[
    Field::new(
        "wazuh_alert_level",
        Type::Int { min: 0, max: 16 },
        "12",
        "Level of a Wazuh rule from which on its alert is one of ours as well; 0 is never.",
    ),
    Field::new(
        "models",
        Type::Tables("model"),
        "[]",
        "Models that are asked about each event that carries features; one that wants more than the ten features does not answer.",
    ),
    Field::new("model_threshold", Type::Number, "0.7", "Score of the models, 0 to 1, from which on an event is an alert."),
];

impl Kind for Apt {
    fn name(&self) -> &'static str {
        "apt"
    }
    fn about(&self) -> &'static str {
        "security events of every kind made into one, and alerts of those that are grave by themselves"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn outputs(&self) -> &'static [Output] {
        &[Output { name: "", after: None }, Output { name: "event", after: None }]
    }
    fn needs_primary(&self) -> bool {
        false
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        let level = u8::try_from(section.int("wazuh_alert_level")).ok().filter(|level| *level > 0);
        let model_threshold = section.number("model_threshold");
        if !(0.0..=1.0).contains(&model_threshold) {
            section.wrong("model_threshold", format!("{model_threshold} is no score; use a number from 0 to 1"));
        }
        Box::new(Settings { wazuh_alert_level: level, models: section.texts("models"), model_threshold })
    }
}

/// Settings of one `apt` handler.
#[derive(Clone, Debug)]
struct Settings {
    wazuh_alert_level: Option<u8>,
    /// Names of tables.
    models: Vec<String>,
    model_threshold: f64,
}

/// Members that every alert has.
const ALERT_MEMBERS: &[&str] = &[
    "schema",
    "id",
    "timestamp",
    "entity",
    "entity_type",
    "event_type",
    "severity",
    "prediction_score",
    "detection_type",
    "features",
    "models",
    "mitre_attack",
    "source",
];
/// Members that every event has.
const EVENT_MEMBERS: &[&str] =
    &["ts", "entity", "entity_type", "source", "event_type", "kind", "counts", "features", "level", "sigma", "techniques", "agent_id"];

impl Spec for Settings {
    fn build(&self, tables: &Shelf) -> Box<dyn Handler> {
        let panel = Panel::new(tables, &self.models, self.model_threshold);
        Box::new(Running { settings: self.clone(), panel, kind: String::new() })
    }
    fn members(&self, output: usize) -> Option<&'static [&'static str]> {
        match output {
            PRIMARY => Some(ALERT_MEMBERS),
            EVENT => Some(EVENT_MEMBERS),
            _ => None,
        }
    }
}

/// The handler.
struct Running {
    settings: Settings,
    panel: Panel,
    /// Memory for the kind of an event.
    kind: String,
}

/// Why a record is no event.
enum Refusal {
    Empty,
    Rejected(&'static str, String),
}

impl Refusal {
    fn detail(&self) -> &str {
        match self {
            Refusal::Empty => "empty",
            Refusal::Rejected(_, detail) => detail,
        }
    }
}

impl Running {
    /// Reads a record, and hands on what was read.
    fn read<R>(
        &mut self,
        record: &Record<'_>,
        alert: &mut Alert<'_>,
        then: impl FnOnce(&Read<'_>, &Settings, &mut Panel) -> R,
    ) -> Result<R, Refusal> {
        let rejected = |reason, detail: String| Err(Refusal::Rejected(reason, detail));
        let frame = record.frame;
        if frame.len() > limits::APT_RECORD_BYTES_MAX {
            return rejected("too_large", format!("{} bytes; at most {} are read", frame.len(), limits::APT_RECORD_BYTES_MAX));
        }
        let received_ms = i64::try_from(record.received / 1_000_000).unwrap_or(i64::MAX);
        if let Some(read) = record::read_flat(frame, received_ms, &mut self.kind) {
            return Ok(then(&read, &self.settings, &mut self.panel));
        }
        if let Err(error) = alert.root() {
            return match not_utf8(frame) {
                _ if frame.trim_ascii().is_empty() => Err(Refusal::Empty),
                Some(at) => rejected("not_utf8", format!("not UTF-8 from byte {at} on")),
                None if error.is_too_deep() => rejected("too_deep", error.to_string()),
                None => rejected("not_json", error.to_string()),
            };
        }
        if alert.repaired() > 0
            && let Some(at) = not_utf8(frame)
        {
            return rejected("not_utf8", format!("not UTF-8 from byte {at} on"));
        }
        let Ok(root) = alert.root() else { return Err(Refusal::Empty) };
        if !root.is_object() {
            return rejected("not_object", format!("JSON, but no object: {:?}", root.kind()));
        }
        if !root.is_within(limits::APT_DEPTH_MAX) {
            return rejected("too_deep", format!("more than {} brackets inside each other", limits::APT_DEPTH_MAX));
        }
        Ok(then(&record::read(root, received_ms, &mut self.kind), &self.settings, &mut self.panel))
    }
}

/// Where bytes cease to be UTF-8.
fn not_utf8(bytes: &[u8]) -> Option<usize> {
    std::str::from_utf8(bytes).err().map(|error| error.valid_up_to())
}

/// Why an event is an alert by itself.
struct Finding {
    detection: Detection,
    reason: &'static str,
    score: f64,
    severity: Severity,
}

impl Finding {
    fn of(read: &Read<'_>, settings: &Settings) -> Option<Self> {
        let event = &read.event;
        match event.source {
            Class::Sim | Class::Features if event.features.iter().any(|value| *value > FEATURE_HIGH) => Some(Self {
                detection: Detection::FeatureHigh,
                reason: "feature_high",
                score: 0.75,
                severity: read.severity.map_or(Severity::Medium, |own| own.max(Severity::Medium)),
            }),
            Class::Sim if read.is_suspicious => Some(Self {
                detection: Detection::Simulation,
                reason: "marked_suspicious",
                score: 0.7,
                severity: read.severity.map_or(Severity::Medium, |own| own.max(Severity::Medium)),
            }),
            Class::Wazuh if settings.wazuh_alert_level.is_some_and(|least| event.level >= least) => Some(Self {
                detection: Detection::WazuhLevel,
                reason: "wazuh_level",
                score: (f64::from(event.level) / 16.0).min(1.0),
                severity: Severity::of_wazuh_level(event.level),
            }),
            _ => None,
        }
    }

    /// What people read of it, and its details as a JSON object.
    fn words(&self, read: &Read<'_>) -> (String, String) {
        let event = &read.event;
        let mut details = Vec::new();
        details.extend_from_slice(b"{\"reason\":");
        json_str_plain(&mut details, self.reason);
        let message = match self.detection {
            Detection::FeatureHigh => {
                let high = FEATURES.iter().zip(event.features).filter(|(_, value)| *value > FEATURE_HIGH);
                let words: Vec<_> = high.map(|(name, value)| format!("{name} {value:.2}")).collect();
                format!("above {FEATURE_HIGH}: {}", words.join(", "))
            }
            Detection::WazuhLevel => {
                details.extend_from_slice(b",\"rule_id\":");
                json_str_plain(&mut details, &event.kind);
                details.extend_from_slice(b",\"rule_level\":");
                json::whole(&mut details, event.level.into());
                read.note.to_owned()
            }
            Detection::Model => format!("the models give {:.2}", self.score),
            _ if read.note.is_empty() => "the event says that it is suspicious".to_owned(),
            _ => read.note.to_owned(),
        };
        details.push(b'}');
        (message, String::from_utf8(details).unwrap_or_default())
    }

    fn emit(&self, read: &Read<'_>, models: &[(&str, f64)], record: &Record<'_>, out: &mut Outbox<'_>) {
        let event = &read.event;
        let named = event.techniques.iter().map(|(id, evidence)| ((**id).into(), *evidence, 1));
        let techniques = attack::of_alert(named, &event.features, self.score, &event.event_type, &event.entity_type);
        let features: Vec<_> = read.features().collect();
        let (message, details) = self.words(read);
        let origin = record.origin.to_string();
        let alert = detect::Alert {
            detection: self.detection,
            of: "apt",
            entity: &event.entity,
            entity_type: &event.entity_type,
            event_type: &event.event_type,
            ts_ms: event.ts_ms,
            severity: self.severity,
            score: self.score,
            anomaly_score: None,
            features: &features,
            models,
            techniques: &techniques,
            confidence: None,
            origin: &origin,
            received_ms: i64::try_from(record.received / 1_000_000).ok(),
            agent_id: &event.agent_id,
            window: None,
            causes: &[],
            evidence: &[&origin],
            warming: false,
            detector: None,
            message: &message,
            details: &details,
            data_source: event.source.word(),
        };
        out.message(PRIMARY).key(event.entity.as_bytes()).time_ms(event.ts_ms).payload(|w| alert.write(w));
    }
}

/// Counts an event, and emits it and what is to be said of it.
fn emit(read: &Read<'_>, settings: &Settings, panel: &mut Panel, record: &Record<'_>, out: &mut Outbox<'_>) -> Fate {
    let event = &read.event;
    let kind = event.source.word();
    out.count(&figures::EVENTS, Counted::One([kind, ""]));
    if !read.is_timed {
        out.count(&figures::UNTIMED, Counted::One([kind, ""]));
    }
    if read.invalid != 0 {
        out.count(&figures::INVALID, Counted::One(["", ""]));
    }
    if read.is_cut {
        out.cut("alert_techniques");
    }
    let own = Finding::of(read, settings).map(|finding| (finding, Vec::new()));
    let answer = panel.ask(read).map(|answer| (answer.finding(), answer.scores));
    let is_quiet = own.is_none() && answer.is_none();
    for (finding, models) in own.into_iter().chain(answer) {
        out.count(&figures::ALERTS, Counted::One([finding.detection.word(), finding.severity.word()]));
        if out.wants(PRIMARY) {
            finding.emit(read, &models, record, out);
        }
    }
    if out.wants(EVENT) {
        out.message(EVENT).time_ms(event.ts_ms).payload(|w| event.write(w));
    }
    if is_quiet && !out.wants(EVENT) { Fate::Dropped("no_alert") } else { Fate::Emitted }
}

impl Handler for Running {
    fn needles(&self) -> Needles {
        // Every record is an event of some kind.
        Needles::All
    }

    fn handle(&mut self, record: &Record<'_>, alert: &mut Alert<'_>, out: &mut Outbox<'_>) -> Fate {
        if record.own {
            return own::handle(record, alert, out);
        }
        match self.read(record, alert, |read, settings, panel| emit(read, settings, panel, record, out)) {
            Ok(fate) => fate,
            Err(Refusal::Empty) => Fate::Dropped("empty"),
            Err(Refusal::Rejected(reason, detail)) => Fate::Rejected(Rejection { reason, detail }),
        }
    }

    fn salvage(&mut self, frame: &[u8]) -> Option<Vec<Piece>> {
        if frame.trim_ascii().is_empty() {
            return Some(Vec::new());
        }
        // Alerts of the manager are found where they are glued or cut; anything else is one record, and broken.
        let pieces = salvage(frame);
        if pieces.iter().any(|piece| !matches!(piece, Piece::Broken(..))) {
            return Some(pieces);
        }
        let reason = if not_utf8(frame).is_some() { "not_utf8" } else { "not_json" };
        Some(vec![Piece::Broken(0..frame.len(), reason)])
    }

    fn explain(&mut self, record: &Record<'_>, alert: &mut Alert<'_>) -> Vec<(&'static str, String)> {
        let facts = self.read(record, alert, |read, _, _| facts(read));
        facts.unwrap_or_else(|refusal| vec![("why_not", quoted(refusal.detail()))])
    }
}

fn facts(read: &Read<'_>) -> Vec<(&'static str, String)> {
    let event = &read.event;
    let text = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap_or_default()
    };
    let names = |bits| {
        let names: Vec<_> = record::named(bits).map(quoted).collect();
        format!("[{}]", names.join(","))
    };
    let features: Vec<_> =
        read.features().map(|(name, value)| format!("{}:{}", quoted(name), text(&|out| json::number(out, value)))).collect();
    let ts = if read.is_timed { format!("\"{}\"", text(&|out| json::time(out, event.ts_ms))) } else { "null".to_owned() };
    vec![
        ("kind", quoted(event.source.word())),
        ("entity", quoted(&event.entity)),
        ("entity_type", quoted(&event.entity_type)),
        ("event_type", quoted(&event.event_type)),
        ("ts", ts),
        ("features", format!("{{{}}}", features.join(","))),
        ("missing", names(read.missing)),
        ("invalid", names(read.invalid)),
    ]
}

fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    json_str_plain(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests;
