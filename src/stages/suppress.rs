//! `suppress`: of messages about the same thing one goes out at once, the rest as a count.
//!
//! What two messages are about is told by members of their payload: the indicator and the agent of
//! a match. The first one passes and opens a window; further ones within it are counted. When the
//! window ends, one message says how often the first was repeated: its payload with `repeated`,
//! `first` and `last` added. So nothing known to be bad is silent for longer than a window.
//!
//! | the message | fate |
//! |---|---|
//! | lacks one of the members | passes |
//! | opens a window | passes |
//! | is the one that opened it, read again after a crash | passes: it is itself |
//! | was counted before, and is read again | dropped, `suppressed`, not counted again |
//! | falls into a window | dropped, `suppressed`, counted |
//!
//! A summary goes by the address of the last record that it counts, since that one was not sent.
//! Where there is no more room, the oldest window ends early, with its summary.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

use std::{
    collections::{HashMap, VecDeque},
    io::Write,
};

use super::{Fate, Kind, Late, LateMessage, Now, Out, Spec, Stage, is_at_or_before, open_object, rfc3339, saved};
use crate::{
    alert::Parser,
    batch::Message,
    clock::{Nanos, nanos},
    limits::{SUPPRESS_BYTES, SUPPRESS_ENTRIES_MAX},
    register::{Field, Section, Type},
    tables::Shelf,
};

/// The kind.
pub struct Suppress;

static FIELDS: &[Field] = &[
    Field::required(
        "members",
        Type::Texts,
        "Members of the JSON payload that tell what a message is about, inner ones with dots; all of them together.",
    ),
    Field::new("window", Type::Span, "\"10m\"", "How long further messages about the same are counted, from the first one on."),
    Field::new(
        "entries",
        Type::Int { min: 1, max: SUPPRESS_ENTRIES_MAX as i64 },
        "10000",
        "How many windows are open at once; beyond, the oldest ends early, and is counted.",
    ),
];

impl Kind for Suppress {
    fn name(&self) -> &'static str {
        "suppress"
    }
    fn about(&self) -> &'static str {
        "sends the first message about something at once, and the rest of a window as a count"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn outputs(&self) -> &'static [&'static str] {
        &[""]
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        let members = section.texts("members");
        if members.is_empty() && section.is_set("members") {
            section.wrong("members", "is empty; name members, as in members = [\"ioc.value\", \"agent.id\"]");
        }
        let window = nanos(section.span("window"));
        if window == 0 {
            section.wrong("window", "0 suppresses nothing; write a span, such as \"10m\"");
        }
        let entries = usize::try_from(section.int("entries")).unwrap_or(1).clamp(1, SUPPRESS_ENTRIES_MAX);
        let members = members.iter().map(|member| member.split('.').map(str::to_owned).collect()).collect();
        Box::new(Settings { members, window, entries })
    }
}

#[derive(Clone, Debug)]
struct Settings {
    /// Paths into the payload.
    members: Vec<Vec<String>>,
    window: Nanos,
    entries: usize,
}

impl Spec for Settings {
    fn build(&self, _tables: &Shelf) -> Box<dyn Stage> {
        let windows = Windows::new(self.window, self.entries, SUPPRESS_BYTES);
        Box::new(Running { members: self.members.clone(), parser: Parser::new(), windows, text: Vec::new() })
    }
}

struct Running {
    members: Vec<Vec<String>>,
    parser: Parser,
    windows: Windows,
    /// Scratch.
    text: Vec<u8>,
}

impl Stage for Running {
    fn take(&mut self, message: &Message<'_>, now: Now, out: &mut Out) -> Fate {
        self.text.clear();
        let is_known = super::members(&mut self.parser, message.payload, &self.members, &mut self.text);
        if !is_known || self.windows.passes(super::name(&[&self.text]), message, now) {
            out.pass(0);
            return Fate::Emitted;
        }
        Fate::Dropped("suppressed")
    }
    fn tick(&mut self, now: Now, out: &mut Late) {
        self.windows.end(now.mono);
        out.messages.extend(self.windows.ended.drain(..).map(|window| window.summary()));
    }
    fn due(&self) -> Option<Nanos> {
        if self.windows.ended.is_empty() { self.windows.order.front().map(|(until, _)| *until) } else { Some(0) }
    }
    fn flush(&mut self, _: Now, out: &mut Late) {
        self.windows.end(Nanos::MAX);
        out.messages.extend(self.windows.ended.drain(..).map(|window| window.summary()));
    }
    fn save(&self, now: Now) -> Option<Vec<u8>> {
        Some(self.windows.save(now))
    }
    fn load(&mut self, saved: &[u8], now: Now) -> Result<(), String> {
        self.windows.load(saved, now).ok_or_else(|| "it ends in the middle of a window".to_owned())
    }
    fn entries(&self) -> usize {
        self.windows.open.len()
    }
    fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.windows.evicted)
    }
}

/// The windows that are open. Pure.
#[derive(Debug)]
struct Windows {
    span: Nanos,
    entries: usize,
    bytes_max: usize,
    open: HashMap<u128, Window>,
    /// When each ends, the first one first; the same names. Every window is as long, so they end in
    /// the order of their beginning.
    order: VecDeque<(Nanos, u128)>,
    /// Closed ones whose summary is not emitted yet.
    ended: VecDeque<Window>,
    /// Of all that are open.
    bytes: usize,
    evicted: u64,
}

/// One window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Window {
    /// Of the message that opened it.
    payload: Vec<u8>,
    key: Option<Vec<u8>>,
    origin: Vec<u8>,
    /// Wall time.
    first: Nanos,
    repeated: u64,
    /// Of the message that was counted last.
    last: Nanos,
    last_origin: Vec<u8>,
    last_ms: i64,
}

impl Windows {
    fn new(span: Nanos, entries: usize, bytes_max: usize) -> Self {
        let (open, order, ended) = (HashMap::new(), VecDeque::new(), VecDeque::new());
        Self { span, entries, bytes_max, open, order, ended, bytes: 0, evicted: 0 }
    }

    /// Whether a message goes out by itself; else it is counted.
    fn passes(&mut self, name: u128, message: &Message<'_>, now: Now) -> bool {
        self.end(now.mono);
        let origin = message.origin();
        if let Some(window) = self.open.get_mut(&name) {
            if window.origin == origin {
                return true;
            }
            if !is_at_or_before(origin, &window.last_origin) {
                self.bytes = (self.bytes + origin.len()).saturating_sub(window.last_origin.len());
                window.repeated += 1;
                window.last = now.wall;
                window.last_ms = message.time_ms;
                window.last_origin.clear();
                window.last_origin.extend_from_slice(origin);
            }
            return false;
        }
        let (payload, key) = (message.payload.to_vec(), message.key.map(<[u8]>::to_vec));
        let window = Window { payload, key, origin: origin.to_vec(), first: now.wall, ..Window::default() };
        self.begin(now.mono.saturating_add(self.span), name, window);
        true
    }

    fn begin(&mut self, until: Nanos, name: u128, window: Window) {
        self.bytes += window.bytes();
        while self.open.len() >= self.entries || self.bytes > self.bytes_max {
            if self.order.is_empty() {
                break;
            }
            self.end_first();
            self.evicted += 1;
        }
        self.order.push_back((until, name));
        self.open.insert(name, window);
    }

    /// Ends what ends at or before `mono`.
    fn end(&mut self, mono: Nanos) {
        while self.order.front().is_some_and(|(until, _)| *until <= mono) {
            self.end_first();
        }
    }

    fn end_first(&mut self) {
        let Some(window) = self.order.pop_front().and_then(|(_, name)| self.open.remove(&name)) else { return };
        self.bytes = self.bytes.saturating_sub(window.bytes());
        if window.repeated > 0 {
            self.ended.push_back(window);
        }
    }

    /// Wall time, then every window: what is left of it, name, content. Closed ones have nothing left.
    fn save(&self, now: Now) -> Vec<u8> {
        let mut bytes = now.wall.to_le_bytes().to_vec();
        for window in &self.ended {
            window.save(0, 0, &mut bytes);
        }
        for (until, name) in &self.order {
            if let Some(window) = self.open.get(name) {
                window.save(until.saturating_sub(now.mono), *name, &mut bytes);
            }
        }
        bytes
    }

    /// Windows went on by the wall clock while the agent was away. What has ended meanwhile is still
    /// summed up.
    fn load(&mut self, saved: &[u8], now: Now) -> Option<()> {
        let mut reader = saved::Reader(saved);
        let away = now.wall.saturating_sub(reader.u64()?);
        let (mut last, mut all) = (0, Vec::new());
        while !reader.0.is_empty() {
            let left = reader.u64()?.saturating_sub(away).min(self.span);
            all.push((left, reader.u128()?, Window::load(&mut reader)?));
        }
        for (left, name, window) in all {
            if left == 0 {
                if window.repeated > 0 {
                    self.ended.push_back(window);
                }
            } else if !self.open.contains_key(&name) {
                last = now.mono.saturating_add(left).max(last);
                self.begin(last, name, window);
            }
        }
        Some(())
    }
}

impl Window {
    fn bytes(&self) -> usize {
        self.payload.len() + self.key.as_ref().map_or(0, Vec::len) + self.origin.len() + self.last_origin.len() + size_of::<Self>()
    }

    fn save(&self, left: Nanos, name: u128, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&left.to_le_bytes());
        bytes.extend_from_slice(&name.to_le_bytes());
        for n in [self.first, self.repeated, self.last, self.last_ms.cast_unsigned(), u64::from(self.key.is_some())] {
            bytes.extend_from_slice(&n.to_le_bytes());
        }
        for part in [&self.payload, self.key.as_ref().unwrap_or(&Vec::new()), &self.origin, &self.last_origin] {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part);
        }
    }

    fn load(reader: &mut saved::Reader<'_>) -> Option<Self> {
        let (first, repeated, last, last_ms) = (reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?.cast_signed());
        let has_key = reader.u64()? != 0;
        let (payload, key, origin) = (reader.bytes()?, reader.bytes()?, reader.bytes()?);
        let key = has_key.then_some(key);
        Some(Self { payload, key, origin, first, repeated, last, last_origin: reader.bytes()?, last_ms })
    }

    /// The message that says how often the first one was repeated.
    fn summary(self) -> LateMessage {
        let Self { mut payload, key, first, repeated, last, last_origin, last_ms, .. } = self;
        open_object(&mut payload);
        let (first, last) = (rfc3339(first), rfc3339(last));
        // Writing to memory cannot fail.
        let _ = write!(payload, r#""repeated":{repeated},"first":"{first}","last":"{last}"}}"#);
        LateMessage { output: 0, origin: last_origin, key, payload, time_ms: last_ms }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        batch::{Apart, Batch},
        position::Position,
        register::{Errors, Node},
    };

    const SECOND: Nanos = 1_000_000_000;
    const WALL: Nanos = 1_773_466_512_000_000_000;

    fn stage(settings: &str) -> Box<dyn Stage> {
        let (node, mut errors) = (Node::parse_toml(settings).unwrap(), Errors::default());
        let spec = Suppress.parse(&mut Section::open("stages.quiet", &node, FIELDS, &[], &mut errors));
        assert!(errors.is_empty(), "{errors}");
        spec.build(&Shelf::default())
    }

    fn at(second: u64) -> Now {
        Now { mono: second * SECOND, wall: WALL + second * SECOND }
    }

    fn passes(stage: &mut dyn Stage, origin: &str, payload: &str, now: Now) -> bool {
        let mut batch = Batch::apart(0, 0, Position::Count(0), 0);
        batch.push(Apart { output: 0, branch: 0, origin: origin.as_bytes(), key: Some(b"k"), payload: payload.as_bytes(), time_ms: 5 });
        let mut out = Out::default();
        let fate = stage.take(&batch.message(0), now, &mut out);
        assert_eq!(fate == Fate::Emitted, out.passed().eq([0]));
        assert!(fate == Fate::Emitted || fate == Fate::Dropped("suppressed"));
        fate == Fate::Emitted
    }

    fn ticked(stage: &mut dyn Stage, now: Now) -> Vec<(String, String)> {
        let mut late = Late::default();
        stage.tick(now, &mut late);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        late.messages.into_iter().map(|m| (text(m.origin), text(m.payload))).collect()
    }

    const PER_AGENT: &str = "members = ['ioc.value', 'agent.id']";

    #[test]
    fn the_table_holds_and_every_window_is_summed_up() {
        let mut stage = stage(PER_AGENT);
        let bad = |agent: &str| format!(r#"{{"ioc":{{"value":"evil.example"}},"agent":{{"id":"{agent}"}}}}"#);
        // Origin, payload, second, passes.
        let rows = [
            ("a/0+9", bad("1"), 0, true),
            ("a/9+9", bad("1"), 10, false),
            ("a/18+9", bad("2"), 11, true),
            ("a/27+9", bad("1"), 12, false),
            ("a/9+9", bad("1"), 13, false),
            ("a/0+9", bad("1"), 14, true),
            ("a/36+9", r#"{"ioc":{"value":"evil.example"}}"#.into(), 15, true),
            ("a/45+9", r#"{"ioc":{"value":"evil.example"}}"#.into(), 15, true),
            ("b/0+9", bad("1"), 599, false),
        ];
        for (origin, payload, second, expected) in rows {
            assert_eq!(passes(&mut *stage, origin, &payload, at(second)), expected, "{origin} at {second}");
        }
        assert_eq!((stage.due(), stage.entries()), (Some(600 * SECOND), 2));
        assert_eq!(ticked(&mut *stage, at(599)), []);
        let summary = r#"{"ioc":{"value":"evil.example"},"agent":{"id":"1"},"repeated":3,"first":"2026-03-14T05:35:12.000Z","last":"2026-03-14T05:45:11.000Z"}"#;
        assert_eq!(ticked(&mut *stage, at(600)), [("b/0+9".to_owned(), summary.to_owned())]);
        assert!(passes(&mut *stage, "b/9+9", &bad("1"), at(600)), "the next one opens a window of its own");
        assert_eq!(stage.due(), Some(611 * SECOND));
        assert_eq!(ticked(&mut *stage, at(611)), [], "what was not repeated needs no summary");
    }

    #[test]
    fn beyond_its_room_the_oldest_window_ends_early_with_its_summary() {
        let mut stage = stage("members = ['a']\nentries = 2");
        for (n, payload) in [r#"{"a":1}"#, r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":3}"#].iter().enumerate() {
            passes(&mut *stage, &format!("s/{n}"), payload, at(n as u64));
        }
        assert_eq!((stage.entries(), stage.take_evicted(), stage.take_evicted(), stage.due()), (2, 1, 0, Some(0)));
        assert_eq!(ticked(&mut *stage, at(4))[0].0, "s/1");
        assert_eq!(stage.due(), Some(602 * SECOND));
    }

    #[test]
    fn wrong_settings_are_answered() {
        let (node, mut errors) = (Node::parse_toml("members = []\nwindow = '0'\n").unwrap(), Errors::default());
        Suppress.parse(&mut Section::open("stages.quiet", &node, FIELDS, &[], &mut errors));
        insta::assert_snapshot!(errors, @r#"
        line 1: stages.quiet.members: is empty; name members, as in members = ["ioc.value", "agent.id"]
        line 2: stages.quiet.window: 0 suppresses nothing; write a span, such as "10m"
        "#);
    }

    #[test]
    fn windows_go_on_over_a_restart_and_end_while_the_agent_is_away() {
        let mut first = stage("members = ['a']");
        for (n, second) in [0, 1, 300].into_iter().enumerate() {
            passes(&mut *first, &format!("s/{n}"), r#"{"a":1}"#, at(second));
        }
        let saved = first.save(at(400)).unwrap();
        for away in [0, 199, 200, 5000] {
            let mut again = stage("members = ['a']");
            // Its own clock begins at 7 s.
            let now = |later: u64| Now { mono: (7 + later) * SECOND, wall: at(400 + away + later).wall };
            again.load(&saved, now(0)).unwrap();
            assert!(passes(&mut *again, "s/0", r#"{"a":1}"#, now(0)) || away >= 200, "it is itself");
            assert_eq!(ticked(&mut *again, now(0)).len(), usize::from(away >= 200), "away for {away} s");
            if away < 200 {
                assert!(!passes(&mut *again, "s/1", r#"{"a":1}"#, now(0)), "counted before");
                let (origin, payload) = ticked(&mut *again, now(200 - away)).remove(0);
                assert_eq!(origin, "s/2");
                assert!(
                    payload.contains(r#""repeated":2,"first":"2026-03-14T05:35:12.000Z","last":"2026-03-14T05:40:12.000Z""#),
                    "{payload}"
                );
            }
        }
        assert_eq!(stage("members = ['a']").load(&saved[..saved.len() - 1], at(0)), Err("it ends in the middle of a window".into()));
        let mut late = Late::default();
        first.flush(at(400), &mut late);
        assert_eq!((late.messages.len(), first.entries()), (1, 0));
    }

    proptest! {
        /// Every message is sent or counted exactly once, whatever the times, the room and the restarts.
        #[test]
        fn what_passes_and_what_is_counted_is_all_there_was(
            steps in proptest::collection::vec((0..6u8, 0..400u64, 0..20u8), 1..150), entries in 1..5usize,
        ) {
            let settings = format!("members = ['a']\nentries = {entries}");
            let (mut stage, mut now, mut sent, mut counted) = (stage(&settings), 0, 0, 0);
            // When each was first sent, in the naive twin without bounds.
            let mut naive: HashMap<u8, u64> = HashMap::new();
            let total = steps.len() as u64;
            let sum = |summaries: Vec<(String, String)>| -> u64 {
                let of = |payload: &str| payload.split("\"repeated\":").nth(1).unwrap().split(',').next().unwrap().parse::<u64>().unwrap();
                summaries.iter().map(|(_, payload)| of(payload)).sum()
            };
            for (n, (about, pass, what)) in steps.into_iter().enumerate() {
                now += pass;
                let is_first = naive.get(&about).is_none_or(|first| now >= first + 600);
                let passed = passes(&mut *stage, &format!("s/{n}"), &format!("{{\"a\":{about}}}"), at(now));
                prop_assert!(passed || !is_first, "the first one of a window is never held back");
                if passed {
                    naive.insert(about, now);
                    sent += 1;
                }
                match what {
                    0 => {
                        let saved = stage.save(at(now)).unwrap();
                        stage = super::tests::stage(&settings);
                        stage.load(&saved, at(now)).unwrap();
                    }
                    1..8 => counted += sum(ticked(&mut *stage, at(now))),
                    _ => {}
                }
                prop_assert!(stage.entries() <= entries);
            }
            let mut late = Late::default();
            stage.flush(at(now), &mut late);
            let rest = late.messages.into_iter().map(|m| (String::new(), String::from_utf8(m.payload).unwrap())).collect();
            prop_assert_eq!(sent + counted + sum(rest), total);
        }

        #[test]
        fn any_bytes_are_loaded_or_refused(saved in proptest::collection::vec(any::<u8>(), 0..400), mono: u64, wall: u64) {
            let mut windows = Windows::new(600 * SECOND, 3, 1000);
            let _ = windows.load(&saved, Now { mono, wall });
            prop_assert!(windows.open.len() <= 3 && windows.order.len() == windows.open.len());
        }
    }
}
