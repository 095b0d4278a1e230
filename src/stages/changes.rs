//! `changes`: tells when a member of records is another than before, such as an engine that was switched off.
//!
//! Whose the members are is told by other members, such as the host. What is seen first is remembered and not told.
//!
//! | the watched member | fate |
//! |---|---|
//! | is missing, `null` or empty | says nothing |
//! | is seen first, or as before | nothing is told |
//! | is another | told, unless a change of it was told less than `window` ago: it is then told with the first record after, if it is still another than was told last |
//! | is another, in a record from before the last change | a record that is read again: nothing is told |
//!
//! Time is that of the records, so an archive tells what a live file would have. What is remembered outlives a
//! restart; where there is no room, what was seen first goes, and is counted.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

use std::{
    collections::{HashMap, VecDeque},
    io::Write,
};

use super::{Fate, Kind, LEVELS, Now, Out, Spec, Stage, WORDS, members, name, saved};
use crate::{
    alert::{Node, Parser, json_str},
    batch::Message,
    limits::CHANGES_ENTRIES_MAX,
    register::{Field, Section, Type},
    tables::Shelf,
};

/// The kind.
pub struct Changes;

static FIELDS: &[Field] = &[
    Field::new("of", Type::Texts, "[\"host\"]", "Members of the JSON payload that tell whose the watched ones are."),
    Field::new(
        "watch",
        Type::Texts,
        "[\"engine\", \"mode\", \"rule_set\"]",
        "Members at the top of the payload; a change of one of them is told.",
    ),
    Field::new("window", Type::Span, "\"1h\"", "A member that changed is not told of again for that long: two servers under one name."),
    Field::new("level", WORDS, "high", "Level of what is told."),
    Field::new(
        "entries",
        Type::Int { min: 1, max: CHANGES_ENTRIES_MAX as i64 },
        "10000",
        "How many members are remembered; beyond, what was seen first goes, and is counted.",
    ),
];

impl Kind for Changes {
    fn name(&self) -> &'static str {
        "changes"
    }
    fn about(&self) -> &'static str {
        "tells when a member of records is another than before: an engine switched off, a rule set replaced"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn outputs(&self) -> &'static [&'static str] {
        &[""]
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        let (of, watch) = (section.texts("of"), section.texts("watch"));
        for (name, list) in [("of", &of), ("watch", &watch)] {
            if list.is_empty() {
                section.wrong(name, "is empty; name members, as in of = [\"host\"] and watch = [\"mode\"]");
            }
        }
        let window_ms = i64::try_from(section.span("window").as_millis()).unwrap_or(i64::MAX);
        let level = section.choice("level");
        let entries = usize::try_from(section.int("entries")).unwrap_or(1).clamp(1, CHANGES_ENTRIES_MAX);
        Box::new(Settings { of, watch, window_ms, level, entries })
    }
}

#[derive(Clone, Debug)]
struct Settings {
    of: Vec<String>,
    watch: Vec<String>,
    window_ms: i64,
    level: &'static str,
    entries: usize,
}

impl Spec for Settings {
    fn build(&self, _tables: &Shelf) -> Box<dyn Stage> {
        Box::new(Running {
            of: self.of.iter().map(|of| vec![of.clone()]).collect(),
            memory: Memory::new(self.window_ms, self.entries),
            settings: self.clone(),
            parser: Parser::new(),
            whose: Vec::new(),
            payload: Vec::new(),
        })
    }
    fn needs(&self) -> (&'static str, Vec<&str>) {
        ("of", self.of.iter().map(String::as_str).collect())
    }
}

/// What was seen of one member of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    /// As it was told last, or seen first; compact JSON.
    value: Vec<u8>,
    /// Of the record that told it, or that had it first, milliseconds since 1970.
    since: i64,
    is_told: bool,
}

/// What is remembered, pure.
#[derive(Debug)]
struct Memory {
    window_ms: i64,
    room: usize,
    seen: HashMap<u128, Seen>,
    /// Names, first seen first.
    order: VecDeque<u128>,
    evicted: u64,
}

impl Memory {
    fn new(window_ms: i64, room: usize) -> Self {
        Self { window_ms, room, seen: HashMap::new(), order: VecDeque::new(), evicted: 0 }
    }

    /// Notes a value; returns the one before where the change is to be told.
    fn note(&mut self, name: u128, value: &[u8], at: i64) -> Option<Vec<u8>> {
        if let Some(seen) = self.seen.get_mut(&name) {
            let is_early = at < seen.since || (seen.is_told && at.saturating_sub(seen.since) < self.window_ms);
            if seen.value == value || is_early {
                return None;
            }
            (seen.since, seen.is_told) = (at, true);
            return Some(std::mem::replace(&mut seen.value, value.to_vec()));
        }
        self.insert(name, Seen { value: value.to_vec(), since: at, is_told: false });
        None
    }

    fn insert(&mut self, name: u128, seen: Seen) {
        if self.order.len() >= self.room
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
            self.evicted += 1;
        }
        if self.seen.insert(name, seen).is_none() {
            self.order.push_back(name);
        }
    }

    fn save(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, seen) in self.order.iter().filter_map(|name| Some((name, self.seen.get(name)?))) {
            out.extend_from_slice(&name.to_le_bytes());
            out.extend_from_slice(&seen.since.to_le_bytes());
            out.push(u8::from(seen.is_told));
            saved::write(&mut out, &seen.value);
        }
        out
    }

    /// `None`, and unchanged, where the bytes end too early.
    fn load(&mut self, bytes: &[u8]) -> Option<()> {
        let (mut reader, mut all) = (saved::Reader(bytes), Vec::new());
        while !reader.0.is_empty() {
            let (name, since, is_told) = (reader.u128()?, reader.u64()?.cast_signed(), reader.u8()? == 1);
            all.push((name, Seen { value: reader.bytes()?, since, is_told }));
        }
        (self.seen, self.order) = (HashMap::new(), VecDeque::new());
        all.into_iter().for_each(|(name, seen)| self.insert(name, seen));
        Some(())
    }
}

struct Running {
    settings: Settings,
    /// Paths of `of`.
    of: Vec<Vec<String>>,
    memory: Memory,
    parser: Parser,
    /// Scratch.
    whose: Vec<u8>,
    payload: Vec<u8>,
}

impl Stage for Running {
    fn take(&mut self, message: &Message<'_>, now: Now, out: &mut Out) -> Fate {
        let Self { settings, of, memory, parser, whose, payload } = self;
        whose.clear();
        if !members(parser, message.payload, of, whose) {
            return Fate::Dropped("no_event");
        }
        let wall_ms = i64::try_from(now.wall / 1_000_000).unwrap_or(i64::MAX);
        let at = if message.time_ms > 0 { message.time_ms.min(wall_ms) } else { wall_ms };
        let mut record = parser.alert(message.payload);
        let Ok(root) = record.root() else { return Fate::Dropped("no_event") };
        payload.clear();
        for watched in &settings.watch {
            let says_something = |node: &Node<'_>| !node.is_null() && node.as_str() != Some("");
            let Some(node) = root.get(watched).filter(says_something) else { continue };
            let mut value = Vec::new();
            node.write_compact(&mut value);
            let Some(was) = memory.note(name(&[whose, watched.as_bytes()]), &value, at) else { continue };
            if payload.is_empty() {
                open(payload, settings, root, at);
            } else {
                payload.push(b',');
            }
            payload.extend_from_slice(b"{\"member\":");
            json_str(payload, watched);
            payload.extend_from_slice(b",\"was\":");
            payload.extend_from_slice(&was);
            payload.extend_from_slice(b",\"is\":");
            payload.extend_from_slice(&value);
            payload.push(b'}');
        }
        if payload.is_empty() {
            return Fate::Dropped("unchanged");
        }
        payload.extend_from_slice(b"]}");
        out.message(0, None, payload);
        Fate::Emitted
    }
    fn save(&self, _now: Now) -> Option<Vec<u8>> {
        Some(self.memory.save())
    }
    fn load(&mut self, saved: &[u8], _now: Now) -> Result<(), String> {
        self.memory.load(saved).ok_or_else(|| "it ends in the middle of a member".to_owned())
    }
    fn entries(&self) -> usize {
        self.memory.seen.len()
    }
    fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.memory.evicted)
    }
}

/// Begins the record of changes, up to the first one.
fn open(payload: &mut Vec<u8>, settings: &Settings, root: Node<'_>, at: i64) {
    // Writing to memory cannot fail.
    let severity = LEVELS.iter().find(|(word, _)| *word == settings.level).map_or(0, |(_, severity)| *severity);
    let _ = write!(
        payload,
        "{{\"timestamp\":{},\"severity\":{severity},\"level\":\"{}\",\"attack_type\":\"changed\"",
        at.div_euclid(1000),
        settings.level
    );
    for member in &settings.of {
        payload.push(b',');
        json_str(payload, member);
        payload.push(b':');
        match root.get(member) {
            Some(node) => node.write_compact(payload),
            None => payload.extend_from_slice(b"null"),
        }
    }
    payload.extend_from_slice(b",\"changes\":[");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        batch::{Apart, Batch},
        position::Position,
        register::{Errors, Node as Setting},
    };

    fn parse(text: &str) -> (Box<dyn Spec>, String) {
        let (node, mut errors) = (Setting::parse_toml(text).unwrap(), Errors::default());
        let spec = Changes.parse(&mut Section::open("stages.c", &node, FIELDS, &[], &mut errors));
        (spec, errors.to_string())
    }

    /// What a record of that second makes the stage tell.
    fn take(stage: &mut dyn Stage, second: i64, payload: &str) -> Option<String> {
        let mut batch = Batch::apart(0, 0, Position::Count(0), 0);
        batch.push(Apart { output: 0, branch: 0, origin: b"s/0", key: None, payload: payload.as_bytes(), time_ms: second * 1000 });
        let mut out = Out::default();
        let fate = stage.take(&batch.message(0), Now { mono: 0, wall: 1 << 60 }, &mut out);
        let made: Vec<String> = out.made().map(|(_, _, payload)| String::from_utf8(payload.to_vec()).unwrap()).collect();
        assert_eq!(fate == Fate::Emitted, made.len() == 1, "{made:?}");
        made.into_iter().next()
    }

    #[test]
    fn a_change_is_told_once_with_what_was() {
        let (spec, errors) = parse("");
        assert_eq!(errors, "");
        let mut stage = spec.build(&Shelf::default());
        let of = |host: &str, mode: &str, rules: &str| format!(r#"{{"host":"{host}","mode":"{mode}","rule_set":{rules}}}"#);
        let hour = 3600;
        for (second, record, told) in [
            (10, of("a", "on", "\"CRS/3\""), None),
            (11, of("a", "on", "\"CRS/3\""), None),
            // What says nothing changes nothing.
            (12, of("a", "", "null"), None),
            (13, r#"{"mode":"off"}"#.to_owned(), None),
            (14, of("b", "off", "\"CRS/3\""), None),
            (
                20,
                of("a", "off", "\"CRS/4\""),
                Some(
                    r#"{"timestamp":20,"severity":60,"level":"high","attack_type":"changed","host":"a","changes":[{"member":"mode","was":"on","is":"off"},{"member":"rule_set","was":"CRS/3","is":"CRS/4"}]}"#,
                ),
            ),
            (21, of("a", "off", "\"CRS/4\""), None),
            // Back within the hour: told when it has passed, if it is still so.
            (22, of("a", "on", "\"CRS/4\""), None),
            // Read again from before.
            (10, of("a", "on", "\"CRS/3\""), None),
            (
                20 + hour,
                of("a", "on", "\"CRS/4\""),
                Some(
                    r#"{"timestamp":3620,"severity":60,"level":"high","attack_type":"changed","host":"a","changes":[{"member":"mode","was":"off","is":"on"}]}"#,
                ),
            ),
        ] {
            assert_eq!(take(&mut *stage, second, &record).as_deref(), told, "{second}: {record}");
        }
        // It outlives a restart.
        let saved = stage.save(Now::default()).unwrap();
        let mut again = spec.build(&Shelf::default());
        again.load(&saved, Now::default()).unwrap();
        assert_eq!(take(&mut *again, 20 + 3 * hour, &of("b", "off", "\"CRS/3\"")), None);
        assert!(take(&mut *again, 20 + 3 * hour, &of("b", "on", "\"CRS/3\"")).is_some());
        assert!(again.load(&saved[..saved.len() - 1], Now::default()).is_err());
    }

    #[test]
    fn hostile_values_stay_values() {
        let mut stage = parse("window = '0s'").0.build(&Shelf::default());
        take(&mut *stage, 1, r#"{"host":"a\"b\u0000","mode":"x"}"#);
        let told = take(&mut *stage, 2, r#"{"host":"a\"b\u0000","mode":{"y":["\"}"]}}"#).unwrap();
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!((&told["host"], &told["changes"][0]["is"]), (&"a\"b\0".into(), &serde_json::json!({"y": ["\"}"]})));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let (_, errors) = parse("of = []\nwatch = []\n");
        assert!(errors.contains("of: is empty") && errors.contains("watch: is empty"), "{errors}");
        assert!(parse("of = ['host', 'port']").0.needs() == ("of", vec!["host", "port"]));
    }

    proptest! {
        /// The twin keeps every record of a name and looks back through all of them.
        #[test]
        fn what_is_told_is_what_looking_back_through_all_records_tells(
            records in proptest::collection::vec((0..3u128, 0..3u8, 0..40i64), 0..60),
        ) {
            let mut memory = Memory::new(10, 100);
            let mut told: Vec<(u128, u8, i64, bool)> = Vec::new();
            for (name, value, at) in records {
                let last = told.iter().rev().find(|(known, ..)| *known == name).copied();
                let expected = match last {
                    None => {
                        told.push((name, value, at, false));
                        None
                    }
                    Some((_, was, since, is_told)) if was != value && at >= since && !(is_told && at - since < 10) => {
                        told.push((name, value, at, true));
                        Some(vec![was])
                    }
                    Some(_) => None,
                };
                prop_assert_eq!(memory.note(name, &[value], at), expected);
                let mut loaded = Memory::new(10, 100);
                prop_assert!(loaded.load(&memory.save()).is_some());
                prop_assert_eq!(&loaded.seen, &memory.seen);
            }
        }

        #[test]
        fn it_keeps_to_its_room(names in proptest::collection::vec(0..20u128, 0..80)) {
            let mut memory = Memory::new(0, 5);
            for name in names {
                memory.note(name, b"x", 1);
                prop_assert!(memory.seen.len() <= 5 && memory.order.len() == memory.seen.len());
            }
        }
    }
}
