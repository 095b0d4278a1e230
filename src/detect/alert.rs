//! The JSON of an alert, whoever found it, and the id that makes a repeat a repeat.
//!
//! Field names and types are those that dashboards of the system before us read. What an alert holds of an event is
//! bounded: an alert beyond [`limits::ALERT_BYTES_MAX`] first loses origins, then details, causes and names.

use std::fmt;

use super::{
    Severity,
    attack::{self, Evidence, Technique},
};
use crate::{json, limits};

/// What found an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Detection {
    /// A feature above 0.8 in one event.
    FeatureHigh,
    /// An event of the simulator that says itself that it is suspicious.
    Simulation,
    /// The level of a Wazuh rule.
    WazuhLevel,
    /// A Sigma rule that matched.
    Sigma,
    /// A model of the operator's.
    Model,
    /// A window that is unlike what was before.
    Behavioral,
    /// Many events at once, without waiting for the end of their window.
    Burst,
    /// Something is wrong with the agent itself.
    System,
}

impl Detection {
    /// All of them.
    pub const ALL: [Detection; 8] = [
        Detection::FeatureHigh,
        Detection::Simulation,
        Detection::WazuhLevel,
        Detection::Sigma,
        Detection::Model,
        Detection::Behavioral,
        Detection::Burst,
        Detection::System,
    ];

    /// As alerts and metrics have it.
    pub fn word(self) -> &'static str {
        match self {
            Detection::FeatureHigh => "feature_high",
            Detection::Simulation => "simulation",
            Detection::WazuhLevel => "wazuh_level",
            Detection::Sigma => "sigma",
            Detection::Model => "model",
            Detection::Behavioral => "behavioral_analytics",
            Detection::Burst => "burst",
            Detection::System => "system",
        }
    }
}

/// The window of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Milliseconds since 1970, the end not included.
    pub start_ms: i64,
    pub end_ms: i64,
    pub events: u64,
}

/// A feature that is far from what it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cause<'a> {
    pub feature: &'a str,
    pub value: f64,
    pub mean: f64,
    pub sd: f64,
    pub z: f64,
}

/// What scored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detector<'a> {
    pub name: &'a str,
    pub version: u32,
    /// Share of windows that score as high or higher.
    pub p: f64,
}

/// An alert. Text that is empty and lists that are empty are left out, but for what is always there.
#[derive(Clone, Debug)]
pub struct Alert<'a> {
    pub detection: Detection,
    /// Which rule, model or detector it is of; two of one event differ in it. Part of the id, not shown.
    pub of: &'a str,
    pub entity: &'a str,
    pub entity_type: &'a str,
    pub event_type: &'a str,
    /// Time of the event, or of the end of the window; milliseconds since 1970.
    pub ts_ms: i64,
    pub severity: Severity,
    /// 0 to 1.
    pub score: f64,
    /// The detector's own score.
    pub anomaly_score: Option<f64>,
    /// Names and values.
    pub features: &'a [(&'a str, f64)],
    /// Names and scores of models.
    pub models: &'a [(&'a str, f64)],
    /// By id.
    pub techniques: &'a [Technique<'a>],
    /// How sure the techniques are.
    pub confidence: Option<f64>,
    /// Where its event lies, as the header `shipper-origin` says it; of a window, its last event.
    pub origin: &'a str,
    /// When that event came in, milliseconds since 1970.
    pub received_ms: Option<i64>,
    pub agent_id: &'a str,
    pub window: Option<Window>,
    pub causes: &'a [Cause<'a>],
    /// Where its events lie; the first [`limits::ALERT_EVIDENCE_MAX`] are named.
    pub evidence: &'a [&'a str],
    /// The entity is too new to be judged well.
    pub warming: bool,
    pub detector: Option<Detector<'a>>,
    /// For people.
    pub message: &'a str,
    /// A JSON object.
    pub details: &'a str,
    /// What kind of event it was.
    pub data_source: &'a str,
}

/// An alert's id: the same for the same thing, whenever it is found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id([u8; 16]);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Id {
    /// In ASCII.
    fn hex(self) -> [u8; 32] {
        let digit = |n: u8| if n < 10 { b'0' + n } else { b'a' + n - 10 };
        let mut hex = [0; 32];
        for (pair, byte) in hex.as_chunks_mut::<2>().0.iter_mut().zip(self.0) {
            *pair = [digit(byte >> 4), digit(byte & 15)];
        }
        hex
    }

    fn of(parts: [&[u8]; 3]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for (n, part) in parts.iter().enumerate() {
            if n > 0 {
                hasher.update(&[0]);
            }
            hasher.update(part);
        }
        let mut id = [0; 16];
        id.copy_from_slice(hasher.finalize().as_bytes().first_chunk::<16>().unwrap_or(&[0; 16]));
        Self(id)
    }
}

/// How much of an alert is written.
#[derive(Clone, Copy)]
struct Room {
    evidence: usize,
    /// Details, causes and models.
    extras: bool,
    /// Bytes of each text.
    text: usize,
}

impl Alert<'_> {
    /// Its id: of a window its entity and start, else where its event lies.
    pub fn id(&self) -> Id {
        let (kind, of) = (self.detection.word().as_bytes(), self.of.as_bytes());
        match self.window {
            Some(window) => {
                let mut key = Vec::with_capacity(64);
                key.extend_from_slice(self.entity.as_bytes());
                key.push(b'/');
                json::whole(&mut key, window.start_ms);
                Id::of([kind, of, &key])
            }
            None => {
                let place = self.origin.strip_prefix("kafka/").or_else(|| self.origin.strip_prefix("opensearch/"));
                Id::of([kind, of, place.unwrap_or(self.origin).as_bytes()])
            }
        }
    }

    /// Appends it as JSON; at most [`limits::ALERT_BYTES_MAX`] bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let all = Room { evidence: limits::ALERT_EVIDENCE_MAX, extras: true, text: usize::MAX };
        let less = [8, 4, 2, 1, 0].map(|evidence| Room { evidence, ..all });
        let least =
            [Room { evidence: 0, extras: false, text: usize::MAX }, Room { evidence: 0, extras: false, text: limits::ENTITY_BYTES_MAX }];
        for room in std::iter::once(all).chain(less).chain(least) {
            out.truncate(start);
            self.write_within(out, room);
            if out.len() - start <= limits::ALERT_BYTES_MAX {
                return;
            }
        }
    }

    fn write_within(&self, out: &mut Vec<u8>, room: Room) {
        let cut = |text| cut(text, room.text);
        out.extend_from_slice(b"{\"schema\":1,\"id\":\"");
        out.extend_from_slice(&self.id().hex());
        out.extend_from_slice(b"\",\"timestamp\":\"");
        json::time(out, self.ts_ms);
        out.push(b'"');
        text(out, ",\"entity\":", cut(self.entity));
        text(out, ",\"entity_type\":", cut(self.entity_type));
        text(out, ",\"event_type\":", cut(self.event_type));
        text(out, ",\"severity\":", self.severity.word());
        number(out, ",\"prediction_score\":", self.score);
        if let Some(score) = self.anomaly_score {
            number(out, ",\"anomaly_score\":", score);
        }
        text(out, ",\"detection_type\":", self.detection.word());
        numbers(out, ",\"features\":{", self.features);
        numbers(out, ",\"models\":{", if room.extras { self.models } else { &[] });
        self.write_attack(out);
        self.write_source(out, room);
        if let Some(window) = self.window {
            out.extend_from_slice(b",\"window\":{\"start\":\"");
            json::time(out, window.start_ms);
            out.extend_from_slice(b"\",\"end\":\"");
            json::time(out, window.end_ms);
            out.extend_from_slice(b"\",\"events\":");
            json::whole(out, i64::try_from(window.events).unwrap_or(i64::MAX));
            out.push(b'}');
        }
        if room.extras && !self.causes.is_empty() {
            out.extend_from_slice(b",\"causes\":");
            list(out, self.causes.iter(), |out, cause| {
                text(out, "{\"feature\":", cause.feature);
                number(out, ",\"value\":", cause.value);
                number(out, ",\"mean\":", cause.mean);
                number(out, ",\"sd\":", cause.sd);
                number(out, ",\"z\":", cause.z);
                out.push(b'}');
            });
        }
        if room.evidence > 0 && !self.evidence.is_empty() {
            out.extend_from_slice(b",\"evidence\":");
            list(out, self.evidence.iter().take(room.evidence), |out, origin| json::json_str_plain(out, origin));
        }
        if self.warming {
            out.extend_from_slice(b",\"warming\":true");
        }
        if let Some(detector) = self.detector {
            text(out, ",\"detector\":{\"name\":", detector.name);
            out.extend_from_slice(b",\"version\":");
            json::whole(out, detector.version.into());
            number(out, ",\"p\":", detector.p);
            out.push(b'}');
        }
        for (key, value) in [(",\"message\":", self.message), (",\"data_source\":", self.data_source)] {
            if !value.is_empty() {
                text(out, key, cut(value));
            }
        }
        if room.extras && !self.details.is_empty() {
            out.extend_from_slice(b",\"details\":");
            out.extend_from_slice(self.details.as_bytes());
        }
        out.push(b'}');
    }

    fn write_attack(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"mitre_attack\":{\"techniques\":");
        let known: Vec<_> = self.techniques.iter().map(|technique| (technique, attack::known(&technique.id))).collect();
        let all = known.iter().fold(attack::Tactics::default(), |all, (_, (_, tactics))| all.and(*tactics));
        list(out, known.iter(), |out, (technique, (name, tactics))| {
            named(out, &technique.id, name);
            out.extend_from_slice(b",\"tactics\":");
            list(out, tactics.list(), |out, (id, name)| {
                named(out, id, name);
                out.push(b'}');
            });
            text(out, ",\"evidence\":", technique.evidence.word());
            if technique.evidence != Evidence::Inferred {
                out.extend_from_slice(b",\"count\":");
                json::whole(out, technique.count.into());
            }
            out.push(b'}');
        });
        out.extend_from_slice(b",\"tactics\":");
        list(out, all.list(), |out, (id, name)| {
            named(out, id, name);
            let tactic = attack::Tactics::of_id(id);
            let of = known.iter().filter(|(_, (_, tactics))| tactics.meets(tactic));
            out.extend_from_slice(b",\"techniques\":");
            list(out, of, |out, (technique, (name, _))| {
                named(out, &technique.id, name);
                out.push(b'}');
            });
            out.push(b'}');
        });
        if let Some(confidence) = self.confidence {
            number(out, ",\"confidence\":", confidence);
        }
        out.push(b'}');
    }

    /// What dashboards show as where it came from.
    fn write_source(&self, out: &mut Vec<u8>, room: Room) {
        let mut parts = self.origin.split('/');
        let (first, second, third, fourth) = (parts.next().unwrap_or(""), parts.next(), parts.next(), parts.next());
        out.extend_from_slice(b",\"source\":{\"type\":");
        match (first, second, third, fourth) {
            _ if self.detection == Detection::System => out.extend_from_slice(b"\"system\""),
            _ if self.window.is_some() => out.extend_from_slice(b"\"behavioral_analytics\""),
            ("kafka", Some(topic), Some(partition), Some(offset)) => {
                text(out, "\"kafka\",\"topic\":", &decoded(topic));
                for (key, n) in [(",\"partition\":", partition), (",\"offset\":", offset)] {
                    if let Ok(n) = n.parse() {
                        out.extend_from_slice(key.as_bytes());
                        json::whole(out, n);
                    }
                }
            }
            ("opensearch", Some(index), Some(doc), None) => {
                text(out, "\"connector\",\"connector\":\"opensearch\",\"index\":", &decoded(index));
                text(out, ",\"doc_id\":", &decoded(doc));
            }
            _ => {
                // `mgr-1/alerts/2026-03-14/000/7+4` is the manager's own file.
                let known = ["file", "redis", "stdin"].into_iter().find(|known| *known == first);
                text(out, "\"connector\",\"connector\":", known.unwrap_or("wazuh"));
            }
        }
        if !self.agent_id.is_empty() {
            text(out, ",\"agent_id\":", cut(self.agent_id, room.text));
        }
        if let Some(ms) = self.received_ms {
            out.extend_from_slice(b",\"timestamp\":\"");
            json::time(out, ms);
            out.push(b'"');
        }
        out.push(b'}');
    }
}

/// As many bytes of a text as there is room for, whole characters only.
fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

fn text(out: &mut Vec<u8>, key: &str, value: &str) {
    out.extend_from_slice(key.as_bytes());
    json::json_str_plain(out, value);
}

fn number(out: &mut Vec<u8>, key: &str, value: f64) {
    out.extend_from_slice(key.as_bytes());
    json::number(out, value);
}

fn numbers(out: &mut Vec<u8>, key: &str, all: &[(&str, f64)]) {
    out.extend_from_slice(key.as_bytes());
    for (n, (name, value)) in all.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        json::json_str_plain(out, name);
        out.push(b':');
        json::number(out, *value);
    }
    out.push(b'}');
}

fn list<T>(out: &mut Vec<u8>, all: impl Iterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (n, one) in all.enumerate() {
        if n > 0 {
            out.push(b',');
        }
        write(out, one);
    }
    out.push(b']');
}

/// Opens an object with an id and a name.
fn named(out: &mut Vec<u8>, id: &str, name: &str) {
    text(out, "{\"id\":", id);
    text(out, ",\"name\":", name);
}

/// A name of an origin without its `%XX`.
fn decoded(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.first_chunk::<2>().and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(code) if first == b'%' => {
                bytes.push(code);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn alert<'a>() -> Alert<'a> {
        Alert {
            detection: Detection::FeatureHigh,
            of: "apt",
            entity: "host1",
            entity_type: "host",
            event_type: "",
            ts_ms: 1_740_823_200_000,
            severity: Severity::Medium,
            score: 0.75,
            anomaly_score: None,
            features: &[("cpu_usage_mean", 0.9)],
            models: &[],
            techniques: &[],
            confidence: None,
            origin: "kafka/apt%2Ftopic/3/17",
            received_ms: Some(1_740_823_201_500),
            agent_id: "",
            window: None,
            causes: &[],
            evidence: &["kafka/apt%2Ftopic/3/17"],
            warming: false,
            detector: None,
            message: "",
            details: "",
            data_source: "features",
        }
    }

    fn written(alert: &Alert<'_>) -> Value {
        let mut out = b"before".to_vec();
        alert.write(&mut out);
        assert!(out.len() - 6 <= limits::ALERT_BYTES_MAX);
        serde_json::from_slice(out.strip_prefix(b"before").unwrap()).unwrap()
    }

    #[test]
    fn an_alert_has_the_members_that_dashboards_read() {
        let inferred = attack::of_alert([], &[0.0, 0.0, 0.0, 0.0, 0.0, 0.9, 0.0, 0.0, 0.0, 0.0], 0.75, "", "host");
        let came = written(&Alert { techniques: &inferred[..1], confidence: Some(0.58), ..alert() });
        assert_eq!(
            came,
            json!({
                "schema": 1, "id": came["id"], "timestamp": "2025-03-01T10:00:00.000Z",
                "entity": "host1", "entity_type": "host", "event_type": "", "severity": "Medium", "prediction_score": 0.75,
                "detection_type": "feature_high", "features": {"cpu_usage_mean": 0.9}, "models": {},
                "mitre_attack": {
                    "techniques": [{"id": "T1486", "name": "Data Encrypted for Impact", "tactics": [{"id": "TA0040", "name": "Impact"}], "evidence": "inferred"}],
                    "tactics": [{"id": "TA0040", "name": "Impact", "techniques": [{"id": "T1486", "name": "Data Encrypted for Impact"}]}],
                    "confidence": 0.58,
                },
                "source": {"type": "kafka", "topic": "apt/topic", "partition": 3, "offset": 17, "timestamp": "2025-03-01T10:00:01.500Z"},
                "evidence": ["kafka/apt%2Ftopic/3/17"], "data_source": "features",
            })
        );
    }

    #[test]
    fn a_window_and_its_detector_are_told() {
        let cause = Cause { feature: "n", value: 3.0, mean: 1.0, sd: 0.5, z: 4.0 };
        let came = written(&Alert {
            detection: Detection::Behavioral,
            window: Some(Window { start_ms: 0, end_ms: 600_000, events: 12 }),
            causes: &[cause],
            anomaly_score: Some(2.25),
            warming: true,
            detector: Some(Detector { name: "rcf", version: 1, p: 0.001 }),
            details: "{\"parts\":2}",
            message: "a \"burst\"",
            agent_id: "003",
            received_ms: None,
            ..alert()
        });
        assert_eq!(came["window"], json!({"start": "1970-01-01T00:00:00.000Z", "end": "1970-01-01T00:10:00.000Z", "events": 12}));
        assert_eq!(came["causes"], json!([{"feature": "n", "value": 3, "mean": 1, "sd": 0.5, "z": 4}]));
        assert_eq!(came["detector"], json!({"name": "rcf", "version": 1, "p": 0.001}));
        assert_eq!(came["source"], json!({"type": "behavioral_analytics", "agent_id": "003"}));
        assert_eq!((&came["warming"], &came["anomaly_score"]), (&json!(true), &json!(2.25)));
        assert_eq!((&came["message"], &came["details"]), (&json!("a \"burst\""), &json!({"parts": 2})));
    }

    #[test]
    fn the_source_is_made_of_the_origin() {
        let cases = [
            (
                "opensearch/wazuh-alerts-4.x-2025.03.01/AbC%2F1",
                json!({"type": "connector", "connector": "opensearch", "index": "wazuh-alerts-4.x-2025.03.01", "doc_id": "AbC/1"}),
            ),
            ("mgr-1/alerts/2026-03-14/000/7+4", json!({"type": "connector", "connector": "wazuh"})),
            ("file/web/1a2b/7+4", json!({"type": "connector", "connector": "file"})),
            ("redis/apt/1773480423123-7", json!({"type": "connector", "connector": "redis"})),
            ("stdin/1773480423/0", json!({"type": "connector", "connector": "stdin"})),
            ("kafka/a%zz%4/x/2", json!({"type": "kafka", "topic": "a%zz%4", "offset": 2})),
        ];
        for (origin, expected) in cases {
            assert_eq!(written(&Alert { origin, received_ms: None, ..alert() })["source"], expected, "{origin}");
        }
    }

    #[test]
    fn an_id_is_of_what_was_found_and_of_nothing_else() {
        let id = alert().id();
        // BLAKE3 of "feature_high\0apt\0apt%2Ftopic/3/17".
        let hash = blake3::hash(b"feature_high\0apt\0apt%2Ftopic/3/17").to_hex();
        assert_eq!(id.to_string(), hash[..32]);
        let same = Alert { score: 0.9, ts_ms: 5, received_ms: None, entity: "other", message: "m", ..alert() };
        assert_eq!(same.id(), id);
        let window = |start_ms| Some(Window { start_ms, end_ms: start_ms + 600_000, events: 1 });
        let others = [
            Alert { origin: "kafka/apt%2Ftopic/3/18", ..alert() },
            Alert { detection: Detection::Model, ..alert() },
            Alert { of: "apu", ..alert() },
            Alert { window: window(0), ..alert() },
            Alert { window: window(600_000), ..alert() },
            Alert { window: window(0), entity: "host2", ..alert() },
        ];
        let mut ids: Vec<Id> = others.iter().map(Alert::id).chain([id]).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 7);
        let late = Alert { window: window(0), origin: "kafka/another/0/1", ..alert() };
        assert_eq!(late.id(), others[3].id(), "a window is known by entity and start alone");
    }

    #[test]
    fn origins_go_first_and_the_rest_stays_within_bounds() {
        let long = "x".repeat(5000);
        let evidence: Vec<&str> = std::iter::repeat_n(&*long, 40).collect();
        assert_eq!(written(&Alert { evidence: &["o"; 40], ..alert() })["evidence"].as_array().unwrap().len(), 16);
        let came = written(&Alert { evidence: &evidence, details: "{}", ..alert() });
        assert_eq!((came["evidence"].as_array().unwrap().len(), &came["details"]), (8, &json!({})));
        let details = format!("{{\"a\":{:?}}}", "é".repeat(32_000));
        let came = written(&Alert { evidence: &evidence[..1], details: &details, ..alert() });
        assert_eq!((came.get("evidence").is_none(), came.get("details").is_none()), (true, false));
        let huge = "\u{1}".repeat(70_000);
        let came = written(&Alert { entity: &huge, message: &huge, event_type: &huge, agent_id: &huge, details: &details, ..alert() });
        assert_eq!((came["entity"].as_str().unwrap().len(), came.get("details").is_none()), (256, true));
        let techniques: Vec<_> =
            (0..64).map(|n| Technique { id: format!("T1078.{n:03}").into(), evidence: Evidence::Rule, count: u32::MAX }).collect();
        written(&Alert { techniques: &techniques, evidence: &evidence, ..alert() });
    }
}
