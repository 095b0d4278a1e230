//! `storm`: of alerts about the same thing the first goes out at once, the rest as one summary a window.
//!
//! What alerts are about is told by members of their payload: client, kind of attack and host. A scanner that
//! sets off ten thousand alerts in a minute is then one alert and a few summaries.
//!
//! | the alert | fate |
//! |---|---|
//! | lacks one of the members | passes |
//! | is the first of its group | passes |
//! | has a higher level than any before it in its group | passes |
//! | is one that was passed, read again after a crash | passes: it is itself |
//! | was counted before, and is read again | dropped, `storm`, not counted again |
//! | is any other | dropped, `storm`, counted in a window |
//!
//! A window begins with the first alert that is counted and ends with one summary: the payload of its gravest
//! alert, with `count`, `first`, `last`, `paths` (and `paths_more`, if there were more than are counted) and
//! `tx_ids` added. A group ends after a time without alerts. Where there is no more room, the group that was
//! silent longest ends early, with its summary.
//!
//! [`groups`] has the rules, pure; here payloads are read and written.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

mod groups;

use std::io::Write;

use groups::{Alarm, Groups, Window};

use super::{Fate, Kind, Late, LateMessage, Now, Out, Spec, Stage, name, open_object, rfc3339, values};
use crate::{
    alert::{Node, Parser, json_str},
    batch::Message,
    clock::{Nanos, nanos},
    limits::{STORM_BYTES, STORM_GROUPS_MAX},
    register::{Field, Section, Type},
    tables::Shelf,
};

/// The kind.
pub struct Storm;

static FIELDS: &[Field] = &[
    Field::new(
        "members",
        Type::Texts,
        "[\"client_ip\", \"attack_type\", \"host\"]",
        "Members of the JSON payload that tell what an alert is about, inner ones with dots. An alert without one of them passes, so feed it whole records (alert_fields full of handler `waf`).",
    ),
    Field::new("window", Type::Span, "\"60s\"", "How long alerts of a group are counted before their summary goes out."),
    Field::new("silence", Type::Span, "\"10m\"", "A group without alerts for that long ends; the next alert is a first one again."),
    Field::new(
        "level",
        Type::Text,
        "\"level\"",
        "Member with the level of an alert: one of low, medium, high, critical, or a number. An alert of a higher level than its group has seen goes out at once.",
    ),
    Field::new(
        "groups",
        Type::Int { min: 1, max: STORM_GROUPS_MAX as i64 },
        "100000",
        "How many groups there are at once; beyond, the one that was silent longest ends early, and is counted.",
    ),
];

impl Kind for Storm {
    fn name(&self) -> &'static str {
        "storm"
    }
    fn about(&self) -> &'static str {
        "groups alerts: the first goes out at once, the rest as one summary a window, with count, paths and samples"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn outputs(&self) -> &'static [&'static str] {
        &[""]
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        let path = |member: &String| member.split('.').map(str::to_owned).collect::<Vec<_>>();
        let members = section.texts("members");
        if members.is_empty() {
            section.wrong("members", "is empty; name members, as in members = [\"client_ip\", \"attack_type\", \"host\"]");
        }
        let (window, silence) = (nanos(section.span("window")), nanos(section.span("silence")));
        if window == 0 {
            section.wrong("window", "0 counts nothing; write a span, such as \"60s\"");
        }
        if silence < window {
            section.wrong("silence", "is shorter than window, so groups would end before their summaries; write a longer span");
        }
        let groups = usize::try_from(section.int("groups")).unwrap_or(1).clamp(1, STORM_GROUPS_MAX);
        Box::new(Settings { members: members.iter().map(path).collect(), level: path(&section.text("level")), window, silence, groups })
    }
}

#[derive(Clone, Debug)]
struct Settings {
    /// Paths into the payload.
    members: Vec<Vec<String>>,
    level: Vec<String>,
    window: Nanos,
    silence: Nanos,
    groups: usize,
}

impl Spec for Settings {
    fn needs(&self) -> (&'static str, Vec<&str>) {
        ("members", self.members.iter().filter_map(|path| path.first()).map(String::as_str).collect())
    }
    fn build(&self, _tables: &Shelf) -> Box<dyn Stage> {
        let groups = Groups::new(self.window, self.silence, self.groups, STORM_BYTES);
        Box::new(Running { settings: self.clone(), parser: Parser::new(), groups, text: Vec::new() })
    }
}

struct Running {
    settings: Settings,
    parser: Parser,
    groups: Groups,
    /// Scratch.
    text: Vec<u8>,
}

/// How grave a level is: words in their order, numbers as they are, 0 for anything else.
fn rank(level: Node<'_>) -> i64 {
    const WORDS: [&str; 4] = ["low", "medium", "high", "critical"];
    let word = |text: &str| WORDS.iter().position(|word| text.eq_ignore_ascii_case(word)).map_or(0, |at| at + 1);
    match level.as_str() {
        Some(text) => i64::try_from(word(text)).unwrap_or(0),
        None => whole(level),
    }
}

/// A number cut towards zero; 0 for anything else.
fn whole(node: Node<'_>) -> i64 {
    // A cast of a float is held to what fits.
    node.as_f64().map_or(0, |number| number as i64)
}

/// Half a name: distinct paths are counted, not told apart for ever.
fn path_of(uri: &str) -> u64 {
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    (name(&[path.as_bytes()]) >> 64) as u64
}

impl Stage for Running {
    fn take(&mut self, message: &Message<'_>, now: Now, out: &mut Out) -> Fate {
        self.text.clear();
        let mut alert = self.parser.alert(message.payload);
        let root = alert.root().ok().filter(|root| values(*root, &self.settings.members, &mut self.text));
        let Some(root) = root else {
            out.pass(0);
            return Fate::Emitted;
        };
        let level = self.settings.level.iter().try_fold(root, |node, name| node.get(name));
        let text = |member: &str| root.get(member).and_then(Node::as_str);
        let alarm = Alarm {
            message,
            level: level.map_or(0, rank),
            severity: root.get("severity").map_or(0, whole),
            path: text("uri").map(path_of),
            tx_id: text("tx_id"),
        };
        if self.groups.passes(name(&[&self.text]), &alarm, now) {
            out.pass(0);
            return Fate::Emitted;
        }
        Fate::Dropped("storm")
    }
    fn tick(&mut self, now: Now, out: &mut Late) {
        self.groups.advance(now.mono);
        out.messages.extend(self.groups.ended.drain(..).map(summary));
    }
    fn due(&self) -> Option<Nanos> {
        self.groups.due()
    }
    fn flush(&mut self, _: Now, out: &mut Late) {
        self.groups.advance(Nanos::MAX);
        out.messages.extend(self.groups.ended.drain(..).map(summary));
    }
    fn save(&self, now: Now) -> Option<Vec<u8>> {
        Some(self.groups.save(now))
    }
    fn load(&mut self, saved: &[u8], now: Now) -> Result<(), String> {
        self.groups.load(saved, now).ok_or_else(|| "it ends in the middle of a group".to_owned())
    }
    fn entries(&self) -> usize {
        self.groups.len()
    }
    fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.groups.evicted)
    }
}

/// The message that sums a window up.
fn summary(window: Window) -> LateMessage {
    let Window { mut payload, key, origin, count, first_ms, last_ms, paths, paths_more, tx_ids, .. } = window;
    open_object(&mut payload);
    let time = |ms: i64| rfc3339(u64::try_from(ms).unwrap_or(0).saturating_mul(1_000_000));
    let (first, last) = (time(first_ms), time(last_ms));
    // Writing to memory cannot fail.
    let _ = write!(payload, r#""count":{count},"first":"{first}","last":"{last}","paths":{}"#, paths.len());
    if paths_more {
        payload.extend_from_slice(br#","paths_more":true"#);
    }
    payload.extend_from_slice(br#","tx_ids":["#);
    for (n, tx_id) in tx_ids.iter().enumerate() {
        if n > 0 {
            payload.push(b',');
        }
        json_str(&mut payload, tx_id);
    }
    payload.extend_from_slice(b"]}");
    LateMessage { output: 0, origin, key, payload, time_ms: last_ms }
}

#[cfg(test)]
mod tests;
