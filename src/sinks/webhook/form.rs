//! The body of a request: payloads as they are, or alerts in the words of PagerDuty and Slack. Pure.
//!
//! An alert's strings are an attacker's words: where a person reads them they can neither link nor
//! call anybody, and nothing in them chooses where a request goes.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// What a request holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One payload.
    Json,
    /// Payloads as one JSON array.
    Array,
    /// Payloads one a line.
    Ndjson,
    /// One alert as an event of PagerDuty's Events API v2.
    PagerDuty,
    /// One alert as a message for an incoming webhook of Slack.
    Slack,
}

impl Form {
    /// Every word that the setting takes, in the order of the variants.
    pub(super) const WORDS: &[&str] = &["json", "array", "ndjson", "pagerduty", "slack"];

    pub(super) fn of(word: &str) -> Self {
        match word {
            "array" => Self::Array,
            "ndjson" => Self::Ndjson,
            "pagerduty" => Self::PagerDuty,
            "slack" => Self::Slack,
            _ => Self::Json,
        }
    }
    /// Whether many messages can go in one request.
    pub(super) fn is_batch(self) -> bool {
        matches!(self, Self::Array | Self::Ndjson)
    }
    /// Whether it takes alert records alone.
    pub(super) fn wants_alerts(self) -> bool {
        matches!(self, Self::PagerDuty | Self::Slack)
    }
    pub(super) fn content_type(self) -> &'static str {
        if self == Self::Ndjson { "application/x-ndjson" } else { "application/json" }
    }
}

/// An alert about a web attack, as far as people are told of it: `timestamp`, `severity`, `client_ip`, `attack_type`, …
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Alert {
    /// All of it, as it came.
    record: Map<String, Value>,
    pub severity: f64,
}

impl Alert {
    /// Reads one.
    ///
    /// # Errors
    /// What it lacks.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, &'static str> {
        let Ok(Value::Object(record)) = serde_json::from_slice(payload) else { return Err("the message is no JSON object") };
        let severity = record.get("severity").and_then(Value::as_f64);
        severity.map(|severity| Self { record, severity }).ok_or("the message is no alert: it has no number \"severity\"")
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.record.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// Event time, seconds since 1970.
    fn time(&self) -> Option<Timestamp> {
        let seconds = self.record.get("timestamp")?.as_f64()?;
        Timestamp::from_second(seconds as i64).ok()
    }

    fn level(&self) -> &str {
        self.text("level").unwrap_or(match self.severity {
            s if s >= 80.0 => "critical",
            s if s >= 60.0 => "high",
            s if s >= 40.0 => "medium",
            _ => "low",
        })
    }

    fn summary(&self) -> String {
        let mut text = match self.text("attack_type") {
            Some(attack) => format!("WAF: {attack}"),
            None => "WAF alert".to_owned(),
        };
        let parts = [("from", "client_ip"), ("on", "host"), ("rule", "rule_id")];
        for (word, name) in parts {
            if let Some(value) = self.text(name) {
                text.push_str(&format!(" {word} {value}"));
            }
        }
        text.push_str(&format!(", severity {}", self.severity));
        if let Some(uri) = self.text("uri") {
            text.push_str(&format!(": {uri}"));
        }
        cut(&text.replace(char::is_control, " "), SUMMARY_CHARS)
    }

    /// What PagerDuty takes for the same incident: address, attack type, host and hour.
    ///
    /// A record of six members has no type and no host: its rule's family stands for the type, as the type is
    /// made of that, and an attack on several hosts is one incident.
    fn incident(&self) -> String {
        let hour = self.time().map_or(0, |at| at.as_second().div_euclid(3600));
        let of = |name| self.text(name).unwrap_or_default();
        let attack = self.text("attack_type").unwrap_or_else(|| family(of("rule_id")));
        // Lengths keep one part from running into the next.
        let whole = [of("client_ip"), attack, of("host")].map(|part| format!("{}:{part}", part.len())).join("|");
        let digest = Sha256::digest(format!("{whole}|{hour}"));
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// An event of PagerDuty's Events API v2.
    ///
    /// - `source`: what is affected, where the record names no host.
    pub(super) fn to_pagerduty(&self, routing_key: &str, source: &str) -> Vec<u8> {
        let severity = match self.level() {
            "critical" => "critical",
            "high" => "error",
            "medium" => "warning",
            _ => "info",
        };
        let mut payload = json!({
            "summary": self.summary(),
            "source": self.text("host").unwrap_or(source),
            "severity": severity,
            "component": "waf",
            "custom_details": &self.record,
        });
        for (key, name) in [("group", "host"), ("class", "attack_type")] {
            if let (Some(value), Some(payload)) = (self.text(name), payload.as_object_mut()) {
                payload.insert(key.to_owned(), value.into());
            }
        }
        if let (Some(at), Some(payload)) = (self.time(), payload.as_object_mut()) {
            payload.insert("timestamp".to_owned(), at.to_string().into());
        }
        let event = json!({ "routing_key": routing_key, "event_action": "trigger", "dedup_key": self.incident(), "payload": payload });
        event.to_string().into_bytes()
    }

    /// A message for an incoming webhook of Slack.
    pub(super) fn to_slack(&self) -> Vec<u8> {
        let level = foreign(self.level(), 20);
        let mut text = format!("*WAF alert*, severity {} ({level})", self.severity);
        let words = [("attack", "attack_type", 100), ("from", "client_ip", 100), ("on", "host", 260), ("rule", "rule_id", 20)];
        for (word, name, most) in words {
            if let Some(value) = self.text(name) {
                text.push_str(&format!(", {word} {}", foreign(value, most)));
            }
        }
        for (word, name, most) in [("URI", "uri", 1000), ("transaction", "tx_id", 100)] {
            if let Some(value) = self.text(name) {
                text.push_str(&format!("\n{word} {}", foreign(value, most)));
            }
        }
        json!({ "text": text, "unfurl_links": false, "unfurl_media": false }).to_string().into_bytes()
    }
}

/// The first three digits of a rule of the Core Rule Set: `942` of `942100`; all of another id.
fn family(rule_id: &str) -> &str {
    let is_crs = rule_id.len() == 6 && rule_id.starts_with('9') && rule_id.bytes().all(|byte| byte.is_ascii_digit());
    if is_crs { rule_id.get(..3).unwrap_or(rule_id) } else { rule_id }
}

/// Characters that PagerDuty takes of a summary.
const SUMMARY_CHARS: usize = 1024;

fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some(_) => text.chars().take(chars - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

/// Words of somebody else for Slack: shown as code, where nothing links or calls, and which they cannot leave.
fn foreign(text: &str, chars: usize) -> String {
    let mut safe = String::from("`");
    for c in cut(text, chars).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '`' => safe.push('\''),
            // A space without width parts what would be a name or a link.
            '@' => safe.push_str("@\u{200b}"),
            ':' => safe.push_str(":\u{200b}"),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe.push('`');
    safe
}

/// Payloads as one JSON array.
///
/// - `payloads`: each one JSON text, as [`is_json`] says.
pub(super) fn array<'p>(payloads: impl Iterator<Item = &'p [u8]>) -> Vec<u8> {
    let mut body = vec![b'['];
    for (n, payload) in payloads.enumerate() {
        if n > 0 {
            body.push(b',');
        }
        body.extend_from_slice(payload);
    }
    body.push(b']');
    body
}

/// Payloads one a line. A line end inside of one becomes a blank: in JSON it can only stand between words.
pub(super) fn lines<'p>(payloads: impl Iterator<Item = &'p [u8]>) -> Vec<u8> {
    let mut body = Vec::new();
    for payload in payloads {
        body.extend(payload.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
        body.push(b'\n');
    }
    body
}

/// True if a payload is one JSON text and nothing else: among others in an array it must be.
pub(super) fn is_json(payload: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(payload).is_ok()
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const FULL: &str = r#"{"timestamp":1796010428,"severity":95,"client_ip":"203.0.113.5","rule_id":"942100","uri":"/a?q=1' OR 1","tx_id":"Z1","level":"critical","attack_type":"sqli","host":"shop.example"}"#;
    const PLAIN: &str = r#"{"timestamp":1796010428,"severity":62,"client_ip":"203.0.113.5","rule_id":"942100","uri":"","tx_id":"Z1"}"#;

    fn alert(text: &str) -> Alert {
        Alert::parse(text.as_bytes()).unwrap()
    }
    fn read(body: &[u8]) -> Value {
        serde_json::from_slice(body).unwrap()
    }

    #[test]
    fn an_alert_is_an_event_of_pagerduty() {
        let event = read(&alert(FULL).to_pagerduty("key", "fallback"));
        assert_eq!((&event["routing_key"], &event["event_action"]), (&json!("key"), &json!("trigger")));
        let payload = &event["payload"];
        assert_eq!(payload["summary"], "WAF: sqli from 203.0.113.5 on shop.example rule 942100, severity 95: /a?q=1' OR 1");
        let rest = ["source", "severity", "component", "group", "class", "timestamp"].map(|name| payload[name].as_str().unwrap());
        assert_eq!(rest, ["shop.example", "critical", "waf", "shop.example", "sqli", "2026-11-30T03:47:08Z"]);
        assert_eq!(payload["custom_details"], read(FULL.as_bytes()));

        let plain = read(&alert(PLAIN).to_pagerduty("key", "fallback"));
        let payload = &plain["payload"];
        assert_eq!((&payload["source"], &payload["severity"]), (&json!("fallback"), &json!("error")));
        assert!(payload.get("group").is_none() && payload.get("class").is_none());
    }

    #[test]
    fn one_incident_is_one_address_attack_host_and_hour() {
        let of = |text: &str| read(&alert(text).to_pagerduty("k", "s"))["dedup_key"].as_str().unwrap().to_owned();
        let key = of(FULL);
        assert!((16..=255).contains(&key.len()));
        assert_eq!(of(&FULL.replace("\"Z1\"", "\"Z2\"").replace("942100", "942101").replace("1796010428", "1796010429")), key);
        for (from, to) in [("203.0.113.5", "203.0.113.6"), ("sqli", "xss_"), ("shop.", "shop2."), ("1796010428", "1796014028")] {
            assert_ne!(of(&FULL.replace(from, to)), key, "{from}");
        }
    }

    #[test]
    fn without_attack_and_host_the_rules_family_tells_incidents_apart() {
        let of = |text: &str| read(&alert(text).to_pagerduty("k", "s"))["dedup_key"].as_str().unwrap().to_owned();
        let key = of(PLAIN);
        assert_eq!(of(&PLAIN.replace("942100", "942999").replace("\"Z1\"", "\"Z2\"")), key, "one family");
        for (from, to) in [("942100", "941100"), ("942100", "9421"), ("203.0.113.5", "203.0.113.6"), ("1796010428", "1796014028")] {
            assert_ne!(of(&PLAIN.replace(from, to)), key, "{from}");
        }
        assert_eq!(["942100", "9421", "1234567", "123456", ""].map(family), ["942", "9421", "1234567", "123456", ""]);
    }

    #[test]
    fn long_words_are_cut_to_what_the_receiver_takes() {
        let long = FULL.replace("/a?q", &"é".repeat(5000));
        let summary = read(&alert(&long).to_pagerduty("k", "s"))["payload"]["summary"].as_str().unwrap().to_owned();
        assert!(summary.chars().count() == SUMMARY_CHARS && summary.ends_with('…'));
        let long = long.replace("shop.example", &"<".repeat(5000)).replace("Z1", &"@".repeat(5000));
        let text = read(&alert(&long).to_slack())["text"].as_str().unwrap().chars().count();
        assert!(text <= 3000, "{text}");
    }

    #[test]
    fn an_attackers_words_cannot_link_call_or_leave_their_place_in_slack() {
        let evil = FULL.replace("/a?q=1' OR 1", "/`*x* <!channel> @here <http://evil.example|click> https://evil.example\\u0007\\n&");
        let text = read(&alert(&evil).to_slack())["text"].as_str().unwrap().to_owned();
        for part in ["<", ">", "@here", "://", "\u{7}"] {
            assert!(!text.contains(part), "{part:?} in {text}");
        }
        assert_eq!(text.matches('`').count() % 2, 0);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.starts_with("*WAF alert*, severity 95 (`critical`), attack `sqli`, from `203.0.113.5`"), "{text}");
        assert!(text.contains("URI `/'*x* &lt;!channel&gt; @\u{200b}here"), "{text}");
    }

    #[test]
    fn what_is_no_alert_is_told() {
        for (payload, why) in
            [("x", "no JSON object"), ("[]", "no JSON object"), ("{}", "no number \"severity\""), (r#"{"severity":"9"}"#, "no number")]
        {
            assert!(Alert::parse(payload.as_bytes()).unwrap_err().contains(why), "{payload}");
        }
    }

    #[test]
    fn many_go_as_an_array_or_as_lines() {
        let payloads = || [&b"{\"a\":1}"[..], b"[2,\n3]"].into_iter();
        assert_eq!(array(payloads()), b"[{\"a\":1},[2,\n3]]");
        assert_eq!(lines(payloads()), b"{\"a\":1}\n[2, 3]\n");
        assert_eq!((array(std::iter::empty()), lines(std::iter::empty())), (b"[]".to_vec(), Vec::new()));
        assert!(is_json(b" {} ") && !is_json(b"1],[2") && !is_json(b"") && !is_json(b"{} {}"));
    }
}
