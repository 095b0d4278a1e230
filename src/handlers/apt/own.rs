//! The agent's own events: a source that has been away for a minute is an alert, since nothing is detected meanwhile.

use super::PRIMARY;
use crate::{
    alert::{Alert, Node},
    batch::Outbox,
    detect::{self, Detection, Severity},
    handlers::{Fate, Record},
    limits,
};

/// How grave it is.
const SCORE: f64 = 0.85;

/// Emits an alert if the event says that a source is away and stays away; every other is passed over.
pub(super) fn handle(record: &Record<'_>, alert: &mut Alert<'_>, out: &mut Outbox<'_>) -> Fate {
    let Ok(root) = alert.root() else { return Fate::Dropped("own_event") };
    let text = |name| root.path(&["shipper", name]).and_then(Node::as_str).unwrap_or_default();
    let component = text("component");
    if text("event") != "lasting" || !component.starts_with("sources.") || !out.wants(PRIMARY) {
        return Fate::Dropped("own_event");
    }
    let origin = record.origin.to_string();
    let received_ms = i64::try_from(record.received / 1_000_000).unwrap_or(i64::MAX);
    let message = text("description");
    let alert = detect::Alert {
        detection: Detection::System,
        of: component,
        entity: "system",
        entity_type: "host",
        event_type: "source_away",
        ts_ms: received_ms,
        severity: Severity::High,
        score: SCORE,
        anomaly_score: None,
        features: &[],
        models: &[],
        techniques: &[],
        confidence: None,
        origin: &origin,
        received_ms: Some(received_ms),
        agent_id: "",
        window: None,
        causes: &[],
        evidence: &[],
        warming: false,
        detector: None,
        message: message.get(..limits::ALERT_BYTES_MAX / 8).unwrap_or(message),
        details: "",
        data_source: "system",
    };
    out.message(PRIMARY).key(b"system").time_ms(received_ms).payload(|w| alert.write(w));
    Fate::Emitted
}
