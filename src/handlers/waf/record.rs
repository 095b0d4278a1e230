//! The record of an alert, and of any event, as JSON.

use std::io::Write;

use super::{shown::Shown, uri::cut};
use crate::{
    alert::json_str_plain,
    limits::{WAF_TAG_BYTES_MAX, WAF_URI_BYTES_MAX},
};

/// Appends `{"timestamp":…,"severity":…,"client_ip":…,"rule_id":…,"uri":…,"tx_id":…}`.
///
/// - `is_full`: also `level`, `attack_type`, `blocked`, `host`, and `reputation` where a list names the address.
pub fn write(out: &mut Vec<u8>, shown: &Shown<'_>, is_full: bool) {
    // Writing into a vector cannot fail.
    let _ = write!(out, "{{\"timestamp\":{},\"severity\":{}", shown.time.div_euclid(1_000_000_000), shown.score.severity);
    member(out, "client_ip", cut(shown.client, WAF_TAG_BYTES_MAX));
    member(out, "rule_id", &shown.score.rule_id);
    member(out, "uri", cut(shown.uri, WAF_URI_BYTES_MAX));
    member(out, "tx_id", cut(shown.event.id, WAF_TAG_BYTES_MAX));
    if is_full {
        write_more(out, shown);
    }
    out.push(b'}');
}

/// Appends the full record of an event, alert or not, with `method`, `response_code` where it is known, `engine` and
/// its `mode`, `rule_set` where the engine names one, and `rules`.
///
/// - `rules`: ids that it set off, those aside that only keep the books.
pub fn write_event(out: &mut Vec<u8>, shown: &Shown<'_>, rules: &[u64]) {
    write(out, shown, true);
    out.pop();
    member(out, "method", cut(shown.event.method, WAF_TAG_BYTES_MAX));
    // Writing into a vector cannot fail.
    if let Some(code) = shown.event.code {
        let _ = write!(out, ",\"response_code\":{code}");
    }
    member(out, "engine", shown.event.writer.word());
    member(out, "mode", shown.event.mode_word());
    let rule_set = shown.event.rule_sets().collect::<Vec<_>>().join(", ");
    if !rule_set.is_empty() {
        member(out, "rule_set", cut(&rule_set, WAF_TAG_BYTES_MAX));
    }
    out.extend_from_slice(b",\"rules\":[");
    for (n, rule) in rules.iter().enumerate() {
        let _ = write!(out, "{}{rule}", if n == 0 { "" } else { "," });
    }
    out.extend_from_slice(b"]}");
}

/// Members that the record of an alert always has.
///
/// - `is_full`: as of [`write`].
pub fn members(is_full: bool) -> &'static [&'static str] {
    let always = EVENT_MEMBERS.get(..if is_full { 10 } else { 6 });
    always.unwrap_or_default()
}

/// Members that the record of an event always has, those of an alert first.
pub const EVENT_MEMBERS: &[&str] = &[
    "timestamp",
    "severity",
    "client_ip",
    "rule_id",
    "uri",
    "tx_id",
    "level",
    "attack_type",
    "blocked",
    "host",
    "method",
    "engine",
    "mode",
    "rules",
];

/// What a full record has beyond the others.
fn write_more(out: &mut Vec<u8>, shown: &Shown<'_>) {
    member(out, "level", shown.score.level);
    member(out, "attack_type", shown.score.attack_type);
    // Writing into a vector cannot fail.
    let _ = write!(out, ",\"blocked\":{}", shown.event.is_blocked());
    member(out, "host", cut(shown.host, WAF_TAG_BYTES_MAX));
    if let Some(list) = shown.reputation {
        member(out, "reputation", list);
    }
}

fn member(out: &mut Vec<u8>, key: &str, value: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
    json_str_plain(out, value);
}
