//! `dedup`: a record that came before, within a window, goes no further.
//!
//! A message is known by members of its payload (an alert's id), by its key, or by its whole
//! payload; by the whole payload as well where a member is missing, so that records without an id
//! are not each other's repeats. What it is known by is kept as a hash that nobody can forge: an
//! attacker who could make two records look alike could hide the second.
//!
//! | it was seen | where | within the window | fate |
//! |---|---|---|---|
//! | never | | | passes, is remembered |
//! | before | elsewhere | no: it was forgotten | passes, is remembered |
//! | before | elsewhere | yes | dropped, `duplicate`; the window goes on as it was |
//! | before | at its own origin | any | passes: read again after a crash, it is itself |
//!
//! The last row also lets several messages of one record pass. Every entry has the same window, so
//! the oldest is always the first to go, and a queue does what a timer wheel would. Time is
//! monotonic: setting the host's clock neither shortens nor lengthens a window.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

use std::collections::{HashMap, VecDeque};

use super::{Fate, Kind, Now, Out, Spec, Stage};
use crate::{
    alert::Parser,
    batch::Message,
    clock::{Nanos, nanos},
    limits::DEDUP_ENTRIES_MAX,
    register::{Field, Section, Type},
    tables::Shelf,
};

/// The kind.
pub struct Dedup;

static FIELDS: &[Field] = &[
    Field::new(
        "by",
        Type::Choice(&["members", "key", "payload"]),
        "\"members\"",
        "What a message is known by: members of its payload, its key, or the whole payload. Without them, or a key, the whole payload.",
    ),
    Field::new(
        "members",
        Type::Texts,
        "[\"id\"]",
        "Members of the JSON payload that a message is known by, inner ones with dots; all of them together.",
    ),
    Field::new("window", Type::Span, "\"30m\"", "How long a message is remembered, from when it was first seen."),
    Field::new(
        "entries",
        Type::Int { min: 1, max: DEDUP_ENTRIES_MAX as i64 },
        "200000",
        "How many are remembered, some 80 bytes each; beyond, the oldest is forgotten and counted.",
    ),
];

impl Kind for Dedup {
    fn name(&self) -> &'static str {
        "dedup"
    }
    fn about(&self) -> &'static str {
        "drops what came before, known by members of the payload, by key, or whole"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn outputs(&self) -> &'static [&'static str] {
        &[""]
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        let members = section.texts("members");
        let by = match section.choice("by") {
            "key" => By::Key,
            "payload" => By::Payload,
            _ => By::Members(members.iter().map(|member| member.split('.').map(str::to_owned).collect()).collect()),
        };
        if members.is_empty() && matches!(by, By::Members(_)) {
            section.wrong("members", "is empty; name members, or set by = \"payload\"");
        }
        if by == By::Key || by == By::Payload {
            let what = "says nothing unless by = \"members\"; remove one of the two";
            if section.is_set("members") {
                section.wrong("members", what);
            }
        }
        let window = nanos(section.span("window"));
        if window == 0 {
            section.wrong("window", "0 remembers nothing; write a span, such as \"30m\"");
        }
        let entries = usize::try_from(section.int("entries")).unwrap_or(1).clamp(1, DEDUP_ENTRIES_MAX);
        Box::new(Settings { by, window, entries })
    }
}

/// What a message is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
enum By {
    /// Paths into its payload.
    Members(Vec<Vec<String>>),
    Key,
    Payload,
}

#[derive(Clone, Debug)]
struct Settings {
    by: By,
    window: Nanos,
    entries: usize,
}

impl Spec for Settings {
    fn build(&self, _tables: &Shelf) -> Box<dyn Stage> {
        Box::new(Running { by: self.by.clone(), parser: Parser::new(), memory: Memory::new(self.window, self.entries), text: Vec::new() })
    }
}

struct Running {
    by: By,
    parser: Parser,
    memory: Memory,
    /// Scratch.
    text: Vec<u8>,
}

impl Running {
    /// Half a SHA-256 over what the message is known by; the first byte says which it is, so that a
    /// payload is never taken for an id.
    fn name(&mut self, message: &Message<'_>) -> u128 {
        let Self { by, parser, text, .. } = self;
        text.clear();
        let known = match by {
            By::Payload => false,
            By::Key => message.key.is_some_and(|key| {
                text.push(b'k');
                text.extend_from_slice(key);
                true
            }),
            By::Members(paths) => {
                text.push(b'm');
                super::members(parser, message.payload, paths, text)
            }
        };
        if !known {
            text.clear();
            text.push(b'p');
        }
        super::name(&[text, if known { &[] } else { message.payload }])
    }
}

impl Stage for Running {
    fn take(&mut self, message: &Message<'_>, now: Now, out: &mut Out) -> Fate {
        let name = self.name(message);
        if self.memory.is_repeat(name, crc32c::crc32c(message.origin()), now.mono) {
            return Fate::Dropped("duplicate");
        }
        out.pass(0);
        Fate::Emitted
    }
    fn save(&self, now: Now) -> Option<Vec<u8>> {
        Some(self.memory.save(now))
    }
    fn load(&mut self, saved: &[u8], now: Now) -> Result<(), String> {
        self.memory.load(saved, now)
    }
    fn entries(&self) -> usize {
        self.memory.seen.len()
    }
    fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.memory.evicted)
    }
}

/// Names seen within the window. Pure.
#[derive(Debug)]
struct Memory {
    window: Nanos,
    entries: usize,
    /// By name: where it was first seen, as the checksum of its origin.
    seen: HashMap<u128, u32>,
    /// The same names, with when each is forgotten, the first one first.
    order: VecDeque<(Nanos, u128)>,
    evicted: u64,
}

impl Memory {
    fn new(window: Nanos, entries: usize) -> Self {
        Self { window, entries, seen: HashMap::new(), order: VecDeque::new(), evicted: 0 }
    }

    /// Whether it was seen elsewhere within the window; remembers it if it was not seen at all.
    fn is_repeat(&mut self, name: u128, origin: u32, mono: Nanos) -> bool {
        self.expire(mono);
        if let Some(first) = self.seen.get(&name) {
            return *first != origin;
        }
        if self.seen.len() >= self.entries
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
            self.evicted += 1;
        }
        self.seen.insert(name, origin);
        self.order.push_back((mono.saturating_add(self.window), name));
        false
    }

    fn expire(&mut self, mono: Nanos) {
        while let Some((_, name)) = self.order.pop_front_if(|(until, _)| *until <= mono) {
            self.seen.remove(&name);
        }
    }

    /// Wall time, then for each entry, oldest first: name, origin, age in milliseconds. All little end first.
    fn save(&self, now: Now) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.order.len() * ENTRY_BYTES);
        bytes.extend_from_slice(&now.wall.to_le_bytes());
        for (until, name) in &self.order {
            let age = self.window.saturating_sub(until.saturating_sub(now.mono)) / 1_000_000;
            bytes.extend_from_slice(&name.to_le_bytes());
            bytes.extend_from_slice(&self.seen.get(name).copied().unwrap_or_default().to_le_bytes());
            bytes.extend_from_slice(&u32::try_from(age).unwrap_or(u32::MAX).to_le_bytes());
        }
        bytes
    }

    /// Ages went on by the wall clock while the agent was away; a clock set back counts as no time.
    fn load(&mut self, saved: &[u8], now: Now) -> Result<(), String> {
        let (wall, entries) = saved.split_first_chunk::<8>().ok_or("it is too short")?;
        let (entries, rest) = entries.as_chunks::<ENTRY_BYTES>();
        if !rest.is_empty() {
            return Err("its last entry is incomplete".into());
        }
        let away = now.wall.saturating_sub(u64::from_le_bytes(*wall));
        let skip = entries.len().saturating_sub(self.entries);
        let mut last = 0;
        for entry in entries.iter().skip(skip) {
            let (name, entry) = entry.split_first_chunk::<16>().ok_or("an entry is too short")?;
            let (origin, age) = entry.split_first_chunk::<4>().ok_or("an entry is too short")?;
            let age = age.first_chunk::<4>().ok_or("an entry is too short")?;
            let age = u64::from(u32::from_le_bytes(*age)).saturating_mul(1_000_000).saturating_add(away);
            let name = u128::from_le_bytes(*name);
            if age >= self.window || self.seen.insert(name, u32::from_le_bytes(*origin)).is_some() {
                continue;
            }
            // What was saved is in order; damage that no checksum saw must not bring disorder.
            last = now.mono.saturating_add(self.window - age).max(last);
            self.order.push_back((last, name));
        }
        Ok(())
    }
}

const ENTRY_BYTES: usize = 24;

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

    fn stage(settings: &str) -> Box<dyn Stage> {
        let (node, mut errors) = (Node::parse_toml(settings).unwrap(), Errors::default());
        let spec = Dedup.parse(&mut Section::open("stages.once", &node, FIELDS, &[], &mut errors));
        assert!(errors.is_empty(), "{errors}");
        spec.build(&Shelf::default())
    }

    fn passes(stage: &mut dyn Stage, origin: &str, key: Option<&str>, payload: &str, mono: Nanos) -> bool {
        let mut batch = Batch::apart(0, 0, Position::Count(0), 0);
        let key = key.map(str::as_bytes);
        batch.push(Apart { output: 0, branch: 0, origin: origin.as_bytes(), key, payload: payload.as_bytes(), time_ms: 0 });
        let mut out = Out::default();
        let fate = stage.take(&batch.message(0), Now { mono, wall: 0 }, &mut out);
        assert_eq!(fate == Fate::Emitted, out.passed().eq([0]));
        assert!(fate == Fate::Emitted || fate == Fate::Dropped("duplicate"));
        fate == Fate::Emitted
    }

    #[test]
    fn the_table_holds() {
        let (w, settings) = (30 * 60 * SECOND, "");
        // Origin, payload, when, passes.
        let rows = [
            ("a/0", r#"{"id":"1.1"}"#, 0, true),
            ("a/9", r#"{"id":"1.1","n":2}"#, 1, false),
            ("a/0", r#"{"id":"1.1"}"#, 2, true),
            ("a/9", r#"{"id":"1.1"}"#, w - 1, false),
            ("a/9", r#"{"id":"1.1"}"#, w, true),
            ("a/10", r#"{"n":1}"#, w, true),
            ("a/11", r#"{"n":2}"#, w, true),
            ("a/12", r#"{"n":1}"#, w, false),
            ("a/13", r#"{"id":null,"n":1}"#, w, true),
            ("a/14", r#"{"id":1}"#, w, true),
            ("a/15", r#"{"id":"1"}"#, w, true),
            ("a/16", "no json", w, true),
            ("a/17", "no json", w, false),
            ("a/18", "m1.1", w, true),
        ];
        let mut stage = stage(settings);
        for (origin, payload, when, expected) in rows {
            assert_eq!(passes(&mut *stage, origin, None, payload, when), expected, "{origin} {payload} at {when}");
        }
    }

    #[test]
    fn what_a_message_is_known_by_is_a_setting() {
        let mut by_key = stage("by = 'key'");
        assert!(passes(&mut *by_key, "a/0", Some("k"), "1", 0));
        assert!(!passes(&mut *by_key, "a/1", Some("k"), "2", 0));
        assert!(passes(&mut *by_key, "a/2", None, "k", 0), "a payload is no key");
        let mut whole = stage("by = 'payload'");
        assert!(passes(&mut *whole, "a/0", Some("k"), r#"{"id":1,"n":1}"#, 0));
        assert!(passes(&mut *whole, "a/1", Some("k"), r#"{"id":1,"n":2}"#, 0));
        let mut two = stage("members = ['agent.id', 'rule']");
        assert!(passes(&mut *two, "a/0", None, r#"{"agent":{"id":"1"},"rule":"23"}"#, 0));
        assert!(passes(&mut *two, "a/1", None, r#"{"agent":{"id":"12"},"rule":"3"}"#, 0), "members do not run together");
        assert!(!passes(&mut *two, "a/2", None, r#"{"rule":"3","agent":{"id":"12"}}"#, 0));
    }

    #[test]
    fn wrong_settings_are_answered() {
        let (node, mut errors) = (Node::parse_toml("by = 'key'\nmembers = ['id']\nwindow = '0'\n").unwrap(), Errors::default());
        Dedup.parse(&mut Section::open("stages.once", &node, FIELDS, &[], &mut errors));
        insta::assert_snapshot!(errors, @r#"
        line 2: stages.once.members: says nothing unless by = "members"; remove one of the two
        line 3: stages.once.window: 0 remembers nothing; write a span, such as "30m"
        "#);
    }

    #[test]
    fn what_is_saved_is_remembered_as_much_older_as_the_agent_was_away() {
        let mut memory = Memory::new(100 * SECOND, 10);
        memory.is_repeat(1, 11, 1000 * SECOND);
        memory.is_repeat(2, 22, 1050 * SECOND);
        let saved = memory.save(Now { mono: 1060 * SECOND, wall: 5000 * SECOND });
        // Away for, then: whether 1 and 2 are still known. The new process' clock begins at 0.
        for (away, one, two) in [(0, true, true), (39, true, true), (40, false, true), (89, false, true), (90, false, false)] {
            let mut again = Memory::new(100 * SECOND, 10);
            let now = Now { mono: 5 * SECOND, wall: (5000 + away) * SECOND };
            again.load(&saved, now).unwrap();
            assert_eq!((again.is_repeat(1, 0, now.mono), again.is_repeat(2, 0, now.mono)), (one, two), "away for {away} s");
        }
        let mut set_back = Memory::new(100 * SECOND, 10);
        set_back.load(&saved, Now { mono: 0, wall: 3 }).unwrap();
        assert!(set_back.is_repeat(1, 12, 0) && !set_back.is_repeat(1, 11, 0), "a clock set back forgets nothing");
        let mut at_its_end = Memory::new(100 * SECOND, 10);
        at_its_end.load(&saved, Now { mono: 0, wall: 5000 * SECOND }).unwrap();
        assert!(at_its_end.is_repeat(2, 0, 89 * SECOND) && !at_its_end.is_repeat(2, 0, 90 * SECOND), "an age outlives the process");
        assert_eq!(Memory::new(1, 1).load(&saved[..9], Now::default()), Err("its last entry is incomplete".into()));
        assert_eq!(Memory::new(1, 1).load(&saved[..7], Now::default()), Err("it is too short".into()));
    }

    /// Every name ever, looked through for each question.
    struct Naive(Vec<(u128, u32, Nanos)>);

    impl Naive {
        fn is_repeat(&mut self, name: u128, origin: u32, mono: Nanos, window: Nanos, entries: usize) -> bool {
            self.0.retain(|(_, _, at)| *at + window > mono);
            if let Some((_, first, _)) = self.0.iter().find(|(known, ..)| *known == name) {
                return *first != origin;
            }
            self.0.push((name, origin, mono));
            let over = self.0.len().saturating_sub(entries);
            self.0.drain(..over);
            false
        }
    }

    #[test]
    fn beyond_its_room_the_oldest_is_forgotten_and_counted() {
        let mut memory = Memory::new(1000, 2);
        for name in 1..=3 {
            assert!(!memory.is_repeat(name, 0, 0));
        }
        assert_eq!((memory.evicted, memory.seen.len()), (1, 2));
        assert!(memory.is_repeat(3, 1, 0) && memory.is_repeat(2, 1, 0) && !memory.is_repeat(1, 1, 0));
    }

    proptest! {
        #[test]
        fn the_memory_agrees_with_a_list_of_everything_also_across_restarts(
            steps in proptest::collection::vec((0..12u128, 0..3u32, 0..20u64, 0..30u8), 1..200), entries in 1..9usize,
        ) {
            let (window, mut mono) = (60_000_000, 0);
            let (mut memory, mut naive) = (Memory::new(window, entries), Naive(Vec::new()));
            for (name, origin, pass, restart) in steps {
                mono += pass * 1_000_000;
                prop_assert_eq!(memory.is_repeat(name, origin, mono), naive.is_repeat(name, origin, mono, window, entries));
                prop_assert!(memory.seen.len() <= entries && memory.seen.len() == memory.order.len());
                if restart == 0 {
                    let saved = memory.save(Now { mono, wall: mono });
                    memory = Memory::new(window, entries);
                    memory.load(&saved, Now { mono, wall: mono }).unwrap();
                }
            }
        }

        #[test]
        fn any_bytes_are_loaded_or_refused(saved in proptest::collection::vec(any::<u8>(), 0..200), mono: u64, wall: u64) {
            let mut memory = Memory::new(1 << 60, 5);
            let _ = memory.load(&saved, Now { mono, wall });
            prop_assert!(memory.seen.len() <= 5 && memory.order.iter().is_sorted_by_key(|(until, _)| *until));
            prop_assert_eq!(memory.seen.len(), memory.order.len());
        }
    }
}
