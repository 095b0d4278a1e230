//! What is told, as JSON.

use std::{borrow::Cow, fmt::Write};

use crate::{
    detect::{
        Alert, Detection, Event, FEATURES, Severity,
        alert::{self, Cause},
        attack,
        detector::{Burst, Engine, Scored, Settings},
        window::VECTOR,
    },
    json,
};

/// Of the meaning of its scores.
const VERSION: u32 = 1;

/// One in so many, for people.
fn one_in(p: f64) -> String {
    let n = (1.0 / p).round();
    let mut digits = format!("{n:.0}");
    let mut at = digits.len();
    while at > 3 {
        at -= 3;
        digits.insert(at, ',');
    }
    digits
}

/// Numbers by name, as an object.
fn object(out: &mut Vec<u8>, numbers: impl Iterator<Item = (&'static str, f64)>) {
    out.push(b'{');
    for (n, (name, x)) in numbers.enumerate() {
        if n > 0 {
            out.push(b',');
        }
        json::json_str_plain(out, name);
        out.push(b':');
        json::number(out, x);
    }
    out.push(b'}');
}

/// A number to six digits behind the point: what is a forest's to say.
fn short(x: f64) -> f64 {
    (x * 1e6).round() / 1e6
}

/// The alert of a window.
pub(super) fn alert(out: &mut Vec<u8>, name: &str, engine: Engine, scored: &Scored, models: &[(&str, f64)]) {
    let window = &scored.window;
    let features: Vec<(&str, f64)> = FEATURES.into_iter().zip(scored.row.features).collect();
    let causes: Vec<Cause<'_>> = scored
        .causes
        .iter()
        .filter_map(|cause| {
            let feature = FEATURES.get(cause.feature)?;
            Some(Cause { feature, value: cause.value, mean: short(cause.mean), sd: short(cause.deviation), z: short(cause.z) })
        })
        .collect();
    let (event_type, agent_id) = (window.event_type(), window.agent_id());
    let named = window.techniques.iter().map(|(id, evidence, times)| (Cow::Borrowed(&**id), *evidence, *times));
    let techniques = attack::of_alert(named, &scored.row.features, scored.score, &event_type, &scored.entity_type);
    let mut most: Vec<(&str, f64)> = VECTOR.into_iter().zip(scored.shares).filter(|(_, share)| *share >= 0.15).collect();
    most.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
    let mut message = format!("1 window in {} is as unusual", one_in(scored.p));
    for (n, (name, share)) in most.iter().take(3).enumerate() {
        let before = if n == 0 { ": " } else { ", " };
        // Writing to memory cannot fail.
        let _ = write!(message, "{before}{name} {:.0} %", share * 100.0);
    }
    let mut details = b"{\"vector\":".to_vec();
    object(&mut details, VECTOR.into_iter().zip(scored.vector.map(|x| short(f64::from(x)))));
    details.extend_from_slice(b",\"shares\":");
    object(&mut details, VECTOR.into_iter().zip(scored.shares.map(short)));
    details.extend_from_slice(b",\"rarest\":");
    json::json_str_plain(&mut details, &window.rarest());
    details.extend_from_slice(b",\"kinds\":");
    json::whole(&mut details, i64::from(window.kinds()));
    if window.part > 0 {
        details.extend_from_slice(b",\"part\":");
        json::whole(&mut details, i64::from(window.part));
    }
    details.push(b'}');
    let evidence: Vec<String> = window.evidence().map(|origin| String::from_utf8_lossy(&origin).into_owned()).collect();
    let evidence: Vec<&str> = evidence.iter().map(|origin| &**origin).collect();
    Alert {
        detection: Detection::Behavioral,
        of: name,
        entity: &scored.entity,
        entity_type: &scored.entity_type,
        event_type: &event_type,
        ts_ms: scored.end,
        severity: scored.severity,
        score: short(scored.score),
        anomaly_score: Some(short(scored.raw)),
        features: &features,
        models,
        techniques: &techniques,
        confidence: Some(attack::confidence(scored.score, attack::high(features.iter().copied()))),
        origin: evidence.first().copied().unwrap_or_default(),
        received_ms: None,
        agent_id: &agent_id,
        window: Some(alert::Window { start_ms: window.start, end_ms: scored.end, events: u64::from(window.events) }),
        causes: &causes,
        evidence: &evidence,
        warming: scored.warming,
        detector: Some(alert::Detector { name: engine.word(), version: VERSION, p: scored.p }),
        message: &message,
        details: std::str::from_utf8(&details).unwrap_or_default(),
        data_source: window.source.word(),
    }
    .write(out);
}

/// The alert of a window by the operator's models.
///
/// - `score`: their mean.
pub(super) fn of_models(out: &mut Vec<u8>, name: &str, scored: &Scored, score: f64, models: &[(&str, f64)]) {
    let window = &scored.window;
    let features: Vec<(&str, f64)> = FEATURES.into_iter().zip(scored.row.features).collect();
    let (event_type, agent_id) = (window.event_type(), window.agent_id());
    let named = window.techniques.iter().map(|(id, evidence, times)| (Cow::Borrowed(&**id), *evidence, *times));
    let techniques = attack::of_alert(named, &scored.row.features, score, &event_type, &scored.entity_type);
    let mut details = b"{\"vector\":".to_vec();
    object(&mut details, VECTOR.into_iter().zip(scored.vector.map(|x| short(f64::from(x)))));
    details.push(b'}');
    let evidence: Vec<String> = window.evidence().map(|origin| String::from_utf8_lossy(&origin).into_owned()).collect();
    let evidence: Vec<&str> = evidence.iter().map(|origin| &**origin).collect();
    Alert {
        detection: Detection::Model,
        of: name,
        entity: &scored.entity,
        entity_type: &scored.entity_type,
        event_type: &event_type,
        ts_ms: scored.end,
        severity: Severity::of_score(score),
        score: short(score),
        anomaly_score: Some(short(scored.raw)),
        features: &features,
        models,
        techniques: &techniques,
        confidence: None,
        origin: evidence.first().copied().unwrap_or_default(),
        received_ms: None,
        agent_id: &agent_id,
        window: Some(alert::Window { start_ms: window.start, end_ms: scored.end, events: u64::from(window.events) }),
        causes: &[],
        evidence: &evidence,
        warming: scored.warming,
        detector: None,
        message: &format!("the models give {score:.2}"),
        details: std::str::from_utf8(&details).unwrap_or_default(),
        data_source: window.source.word(),
    }
    .write(out);
}

/// The alert of a burst.
pub(super) fn burst(out: &mut Vec<u8>, name: &str, settings: Settings, event: &Event<'_>, origin: &[u8], burst: &Burst) {
    let features: Vec<(&str, f64)> = FEATURES.into_iter().zip(event.features).collect();
    let named = event.techniques.iter().map(|(id, evidence)| (Cow::Borrowed(&**id), *evidence, 1));
    let techniques = attack::of_alert(named, &event.features, burst.score, &event.event_type, &event.entity_type);
    let message = format!("{} events in this window so far, more at once than in 1 of {} windows", burst.events, one_in(burst.p));
    let mut details = b"{\"strength\":".to_vec();
    json::number(&mut details, short(burst.strength));
    details.extend_from_slice(b",\"kind\":");
    json::json_str_plain(&mut details, &event.kind);
    details.push(b'}');
    let origin = String::from_utf8_lossy(origin);
    Alert {
        detection: Detection::Burst,
        of: name,
        entity: &event.entity,
        entity_type: &event.entity_type,
        event_type: &event.event_type,
        ts_ms: event.ts_ms,
        severity: burst.severity,
        score: short(burst.score),
        anomaly_score: Some(short(burst.strength)),
        features: &features,
        models: &[],
        techniques: &techniques,
        confidence: Some(attack::confidence(burst.score, attack::high(features.iter().copied()))),
        origin: &origin,
        received_ms: None,
        agent_id: &event.agent_id,
        window: Some(alert::Window {
            start_ms: burst.start,
            end_ms: burst.start.saturating_add(settings.window_ms),
            events: u64::from(burst.events),
        }),
        causes: &[],
        evidence: &[&origin],
        warming: burst.warming,
        detector: Some(alert::Detector { name: "midas", version: VERSION, p: burst.p }),
        message: &message,
        details: std::str::from_utf8(&details).unwrap_or_default(),
        data_source: event.source.word(),
    }
    .write(out);
}

/// The row of a window.
pub(super) fn window(out: &mut Vec<u8>, scored: &Scored) {
    let window = &scored.window;
    let text = |out: &mut Vec<u8>, key: &str, value: &str| {
        out.extend_from_slice(key.as_bytes());
        json::json_str_plain(out, value);
    };
    text(out, "{\"entity\":", &scored.entity);
    text(out, ",\"entity_type\":", &scored.entity_type);
    text(out, ",\"agent_id\":", &window.agent_id());
    for (key, ms) in [(",\"time_window\":\"", window.start), (",\"end\":\"", scored.end)] {
        out.extend_from_slice(key.as_bytes());
        json::time(out, ms);
        out.push(b'"');
    }
    out.extend_from_slice(b",\"part\":");
    json::whole(out, i64::from(window.part));
    for (name, x) in scored.row.members(window.is_of_alerts()) {
        out.push(b',');
        json::json_str_plain(out, name);
        out.push(b':');
        json::number(out, x);
    }
    out.extend_from_slice(b",\"vector\":");
    object(out, VECTOR.into_iter().zip(scored.vector.map(|x| short(f64::from(x)))));
    for (key, x) in [(",\"anomaly_score\":", scored.raw), (",\"p\":", scored.p), (",\"prediction_score\":", scored.score)] {
        out.extend_from_slice(key.as_bytes());
        json::number(out, short(x));
    }
    text(out, ",\"severity\":", scored.severity.word());
    for (key, is) in [(",\"alert\":", scored.is_alert), (",\"warming\":", scored.warming), (",\"late\":", scored.is_late)] {
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(if is { b"true" } else { b"false" });
    }
    out.push(b'}');
}
