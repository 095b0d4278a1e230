//! Points for InfluxDB, in its line protocol.
//!
//! ```text
//! waf_events,client_ip=192.0.2.1,rule_id=942100,severity_level=critical anomaly_score=65i,severity=95i,response_code=403i 1640995200000000000
//! ```
//!
//! In tags a backslash hides `,`, `=` and blanks from the reader; a tag may not be empty or end in a backslash.
//! Texts stand in quotes, with a backslash before quotes and backslashes. Newlines, tabs, returns and form feeds
//! become the two characters of their escapes in both, so one point is one line whatever a client wrote.

use std::io::Write;

use super::{shown::Shown, uri::cut};
use crate::{
    limits::{WAF_TAG_BYTES_MAX, WAF_URI_BYTES_MAX},
    tables::geoip::Place,
};

/// Which points an event becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The document's.
    Doc,
    /// Both measurements of the service that we replace.
    Upstream,
    /// Tags with few values only.
    Lean,
}

impl Layout {
    /// Points of one event.
    pub fn points(self) -> usize {
        match self {
            Layout::Doc | Layout::Lean => 1,
            Layout::Upstream => 2,
        }
    }

    /// Appends a point, without a newline.
    ///
    /// - `n`: which one, below [`points`](Self::points).
    pub fn write(self, n: usize, out: &mut Vec<u8>, shown: &Shown<'_>) {
        match (self, n) {
            (Layout::Doc, _) => doc(out, shown),
            (Layout::Upstream, 0) => events(out, shown),
            (Layout::Upstream, _) => requests(out, shown),
            (Layout::Lean, _) => lean(out, shown),
        }
        // Writing into a vector cannot fail.
        let _ = write!(out, " {}", shown.time);
    }
}

fn doc(out: &mut Vec<u8>, shown: &Shown<'_>) {
    out.extend_from_slice(b"waf_events");
    tag(out, "client_ip", shown.client);
    tag(out, "rule_id", &shown.score.rule_id);
    tag(out, "severity_level", shown.score.level);
    let _ = write!(out, " anomaly_score={}i,severity={}i", shown.score.base, shown.score.severity);
    code(out, shown);
}

fn events(out: &mut Vec<u8>, shown: &Shown<'_>) {
    let Place { country, city, .. } = shown.place;
    out.extend_from_slice(b"waf_events");
    tag(out, "client_ip", shown.client);
    tag(out, "geo_city", city);
    tag(out, "geo_country", country);
    tag(out, "method", shown.event.method);
    tag(out, "rule_id", &shown.score.rule_id);
    tag(out, "severity_level", shown.score.level);
    let _ = write!(out, " anomaly_score={}i,severity={}i", shown.score.base, shown.score.severity);
    code(out, shown);
    text(out, "uri", shown.uri, WAF_URI_BYTES_MAX);
    degrees(out, "geo_latitude", shown.place.latitude);
    degrees(out, "geo_longitude", shown.place.longitude);
    system(out, shown);
}

fn requests(out: &mut Vec<u8>, shown: &Shown<'_>) {
    let Place { country, city, .. } = shown.place;
    out.extend_from_slice(b"waf_requests");
    tag(out, "attack_type", shown.score.attack_type);
    tag(out, "blocked", word(shown.event.is_blocked()));
    tag(out, "city", city);
    tag(out, "client_ip", shown.client);
    tag(out, "country", country);
    tag(out, "method", shown.event.method);
    tag(out, "rule_id", &shown.score.rule_id);
    tag(out, "severity", shown.score.level);
    let _ = write!(out, " count=1i,anomaly_score={}i,severity_score={}i", shown.score.base, shown.score.severity);
    code(out, shown);
    text(out, "uri", shown.uri, WAF_URI_BYTES_MAX);
    degrees(out, "latitude", shown.place.latitude);
    degrees(out, "longitude", shown.place.longitude);
    system(out, shown);
}

/// Only tags that a client cannot choose, or not freely: databases count every set of tags.
fn lean(out: &mut Vec<u8>, shown: &Shown<'_>) {
    out.extend_from_slice(b"waf_events");
    tag(out, "attack_type", shown.score.attack_type);
    tag(out, "blocked", word(shown.event.is_blocked()));
    tag(out, "host", shown.host);
    tag(out, "severity_level", shown.score.level);
    let _ = write!(out, " anomaly_score={}i,severity={}i", shown.score.base, shown.score.severity);
    code(out, shown);
    text(out, "client_ip", shown.client, WAF_TAG_BYTES_MAX);
    text(out, "country", shown.place.country, WAF_TAG_BYTES_MAX);
    text(out, "method", shown.event.method, WAF_TAG_BYTES_MAX);
    text(out, "rule_id", &shown.score.rule_id, WAF_TAG_BYTES_MAX);
    text(out, "tx_id", shown.event.id, WAF_TAG_BYTES_MAX);
    text(out, "uri", shown.uri, WAF_URI_BYTES_MAX);
    system(out, shown);
}

fn word(yes: bool) -> &'static str {
    if yes { "true" } else { "false" }
}

fn code(out: &mut Vec<u8>, shown: &Shown<'_>) {
    if let Some(code) = shown.event.code {
        let _ = write!(out, ",response_code={code}i");
    }
}

/// Appends an angle, 0 where none is known: the field is never missing.
fn degrees(out: &mut Vec<u8>, key: &str, angle: Option<f64>) {
    let _ = write!(out, ",{key}={}", angle.filter(|angle| angle.is_finite()).unwrap_or(0.0));
}

/// Appends the number of the autonomous system, if it is known.
fn system(out: &mut Vec<u8>, shown: &Shown<'_>) {
    if let Some(asn) = shown.place.asn {
        let _ = write!(out, ",asn={asn}i");
    }
}

/// Appends a tag, if there is anything to say.
fn tag(out: &mut Vec<u8>, key: &str, value: &str) {
    let value = cut(value, WAF_TAG_BYTES_MAX).trim_end_matches('\\');
    if value.is_empty() {
        return;
    }
    out.push(b',');
    out.extend_from_slice(key.as_bytes());
    out.push(b'=');
    for byte in value.bytes() {
        match escape(byte) {
            Some(letter) => out.extend_from_slice(&[b'\\', letter]),
            None if matches!(byte, b',' | b'=' | b' ') => out.extend_from_slice(&[b'\\', byte]),
            None => out.push(byte),
        }
    }
}

/// Appends a field of text, cut to so many bytes.
fn text(out: &mut Vec<u8>, key: &str, value: &str, max: usize) {
    out.push(b',');
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"=\"");
    for byte in cut(value, max).bytes() {
        match escape(byte) {
            Some(letter) => out.extend_from_slice(&[b'\\', letter]),
            None if matches!(byte, b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            None => out.push(byte),
        }
    }
    out.push(b'"');
}

/// The letter that stands for a byte which may not stand for itself.
fn escape(byte: u8) -> Option<u8> {
    match byte {
        b'\n' => Some(b'n'),
        b'\t' => Some(b't'),
        b'\r' => Some(b'r'),
        0x0c => Some(b'f'),
        _ => None,
    }
}
