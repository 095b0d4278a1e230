//! What of an alert decides where it is kept and how it is counted.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use serde::Deserialize;

use crate::limits;

/// The scale, the gravest first.
pub const SEVERITIES: [&str; 5] = ["Critical", "High", "Medium", "Low", "Informational"];

/// The members of an alert that it is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brief {
    /// Equal for repeats of one alert: 1 to 64 letters, digits, `-`, `_`, `.`.
    pub id: String,
    /// Whom it is about; 1 to 256 bytes.
    pub entity: String,
    /// Event time, milliseconds since 1970.
    pub time_ms: i64,
    /// A word of [`SEVERITIES`].
    pub severity: &'static str,
    /// `source.type`: 1 to 64 small letters, digits, `-`, `_`.
    pub source: String,
}

/// Members of the alert as they are written.
#[derive(Deserialize)]
struct Members {
    id: Option<String>,
    entity: Option<String>,
    timestamp: Option<String>,
    severity: Option<String>,
    source: Option<Source>,
}

#[derive(Deserialize)]
struct Source {
    r#type: Option<String>,
}

impl Brief {
    /// Reads an alert: one JSON object with `id`, `entity`, `timestamp` (RFC 3339), `severity` and `source.type`.
    ///
    /// # Errors
    /// What is missing or is no such member. Words of the alert are in it only where they were short.
    pub fn read(json: &[u8]) -> Result<Self, String> {
        let members: Members = serde_json::from_slice(json).map_err(|error| format!("is no alert: {error}"))?;
        let Members { id, entity, timestamp, severity, source } = members;
        let id = given("id", id, limits::ALERT_ID_BYTES)?;
        let is_plain = |more: &'static [u8]| move |byte: u8| byte.is_ascii_alphanumeric() || more.contains(&byte);
        if !id.bytes().all(is_plain(b"-_.")) {
            return Err("is no alert: id holds other than letters, digits, -, _ and .".into());
        }
        let entity = given("entity", entity, limits::ENTITY_BYTES)?;
        let timestamp = given("timestamp", timestamp, 64)?;
        let time_ms = timestamp
            .parse::<jiff::Timestamp>()
            .map_err(|_| "is no alert: timestamp is no RFC 3339 with a zone".to_owned())?
            .as_millisecond();
        let severity = given("severity", severity, 64)?;
        let known = severity_of(&severity).filter(|known| *known == severity);
        let severity = known.ok_or_else(|| format!("is no alert: severity is none of {}", SEVERITIES.join(", ")))?;
        let source = given("source.type", source.and_then(|source| source.r#type), 64)?;
        if !source.bytes().all(|byte| is_plain(b"-_")(byte) && !byte.is_ascii_uppercase()) {
            return Err("is no alert: source.type holds other than small letters, digits, - and _".into());
        }
        Ok(Self { id, entity, time_ms, severity, source })
    }

    /// Day of the event, in UTC: `2026-11-30`.
    pub fn day(&self) -> String {
        day(self.time_ms)
    }
}

/// The word of the scale, however its letters are written.
pub fn severity_of(word: &str) -> Option<&'static str> {
    SEVERITIES.into_iter().find(|known| known.eq_ignore_ascii_case(word))
}

/// The day of a time in UTC; empty where a calendar has none.
///
/// - `time_ms`: milliseconds since 1970.
pub fn day(time_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(time_ms).map(|time| time.strftime("%Y-%m-%d").to_string()).unwrap_or_default()
}

/// RFC 3339 in UTC with milliseconds; empty where a calendar has none.
pub fn rfc3339(time_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(time_ms).map(|time| time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()).unwrap_or_default()
}

fn given(name: &str, text: Option<String>, most: usize) -> Result<String, String> {
    match text {
        None => Err(format!("is no alert: it has no {name}")),
        Some(text) if text.is_empty() => Err(format!("is no alert: its {name} is empty")),
        Some(text) if text.len() > most => Err(format!("is no alert: its {name} is longer than {most} bytes")),
        Some(text) => Ok(text),
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]
pub(crate) mod tests {
    use super::*;

    /// An alert of this id, entity, time and severity, from Kafka.
    pub(crate) fn alert(id: &str, entity: &str, time_ms: i64, severity: &str) -> String {
        format!(
            r#"{{"schema":1,"id":"{id}","entity":"{entity}","entity_type":"host","event_type":"process","timestamp":"{}","severity":"{severity}","prediction_score":0.75,"features":{{"cpu_usage_mean":0.9}},"detection_type":"feature_high","source":{{"type":"kafka","topic":"apt","partition":0,"offset":7}}}}"#,
            rfc3339(time_ms)
        )
    }

    #[test]
    fn an_alert_is_known_by_five_members() {
        let json = alert("00ff", "host1", 1_773_480_423_123, "High");
        let brief = Brief::read(json.as_bytes()).unwrap();
        let expected =
            Brief { id: "00ff".into(), entity: "host1".into(), time_ms: 1_773_480_423_123, severity: "High", source: "kafka".into() };
        assert_eq!((&brief, brief.day().as_str()), (&expected, "2026-03-14"));
        let zoned = json.replace("2026-03-14T09:27:03.123Z", "2026-03-14T10:27:03.123+01:00");
        assert_ne!(zoned, json);
        assert_eq!(Brief::read(zoned.as_bytes()), Ok(expected));
        assert_eq!((severity_of("critical"), severity_of("grave")), (Some("Critical"), None));
    }

    #[test]
    fn what_is_no_alert_is_told_by_its_member() {
        let json = alert("a", "host1", 0, "Low");
        let long = format!("\"entity\":\"{}\"", "e".repeat(257));
        let rows = [
            ("\"id\":\"a\",", "", "it has no id"),
            ("\"id\":\"a\"", "\"id\":\"a b\"", "id holds other than"),
            ("\"id\":\"a\"", "\"id\":7", "invalid type"),
            ("\"entity\":\"host1\"", "\"entity\":\"\"", "its entity is empty"),
            ("\"entity\":\"host1\"", long.as_str(), "its entity is longer than 256 bytes"),
            ("00.000Z", "00.000", "timestamp is no RFC 3339"),
            ("\"Low\"", "\"low\"", "severity is none of Critical, High"),
            ("\"type\":\"kafka\",", "", "it has no source.type"),
            ("\"type\":\"kafka\"", "\"type\":\"a b\"", "source.type holds other than"),
            ("\"source\":{", "\"sauce\":{", "it has no source.type"),
            ("{\"schema\"", "[\"schema\"", "is no alert"),
        ];
        for (from, to, why) in rows {
            let bad = json.replacen(from, to, 1);
            assert_ne!(bad, json, "{from}");
            let told = Brief::read(bad.as_bytes()).unwrap_err();
            assert!(told.starts_with("is no alert: ") && told.contains(why), "{to}: {told}");
        }
        assert!(Brief::read(b"\xff").is_err() && Brief::read(b"").is_err());
    }
}
