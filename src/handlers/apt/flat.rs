//! Events of the simulator, decoded straight from the bytes: no tape is filled, nothing is copied.
//!
//! Most events of the simulator have one form: ASCII, no escapes but short ones, a name of each member that is looked
//! for and a value of the kind that is expected. That form is read here in one pass, and checked as strictly as a
//! parser of any JSON does. Whatever is unusual (another class, `\u`, an exponent, a number in quotes, a tab between
//! tokens, deep nesting, an error) is no event *of this form*: [`read`] says `None`, and the tape decides. So this
//! module may refuse anything, and may never read anything in another way than the tape: a property holds the two
//! against each other.

use std::borrow::Cow;

use super::{
    record::{Said, Techniques},
    sim::Told,
    time,
};
use crate::detect::{Severity, attack::Evidence, event::short_number};

/// Brackets inside each other; the simulator has four.
const DEPTH_MAX: u32 = 8;
/// Bytes of a number: every whole number of so many digits has 64 bits.
const NUMBER_BYTES_MAX: usize = 18;

/// An event that was read.
pub(super) struct Flat<'t> {
    pub(super) said: Said<'t>,
    pub(super) ts_ms: Option<i64>,
    pub(super) severity: Option<Severity>,
    pub(super) is_suspicious: bool,
}

/// Reads an event of the simulator; `None` if the frame is not plainly one.
///
/// Inlined: what is said of an event is some three hundred bytes, and moving them costs as much as a member or two.
#[inline(always)]
pub(super) fn read(frame: &[u8]) -> Option<Flat<'_>> {
    let mut cursor = Cursor { text: std::str::from_utf8(frame).ok()?, at: 0, depth: 1 };
    let (mut entity, mut entity_type, mut timestamp) = (None, "", None);
    let (mut is_simulated, mut is_suspicious) = (false, false);
    let mut techniques = Techniques::default();
    let mut told = Told::default();
    cursor.take(b'{')?;
    cursor.members(|cursor, key| {
        match key {
            "timestamp" => timestamp = cursor.value()?.text()?,
            "is_simulated" => is_simulated = matches!(cursor.value()?, Value::Bool(true)),
            "suspicious" => is_suspicious = matches!(cursor.value()?, Value::Bool(true)),
            "severity" => told.severity = cursor.value()?.text()?.and_then(Severity::of_word),
            "entity" => entity = cursor.value()?.text()?,
            "entity_type" => entity_type = cursor.value()?.text()?.unwrap_or_default(),
            "event_type" => told.event_type = cursor.value()?.text()?.unwrap_or_default(),
            "action" => told.action = cursor.value()?.text()?.unwrap_or_default(),
            "reason" => told.reason = cursor.value()?.text()?.unwrap_or_default(),
            "process_name" => told.process_name = cursor.value()?.unescaped(),
            "command_line" => told.command_line = cursor.value()?.unescaped(),
            "file_extension" => told.file_extension = cursor.value()?.text()?.unwrap_or_default(),
            "authentication_status" => told.authentication_status = cursor.value()?.text()?.unwrap_or_default(),
            "login_status" => told.login_status = cursor.value()?.text()?.unwrap_or_default(),
            "change_type" => told.change_type = cursor.value()?.text()?.unwrap_or_default(),
            "destination_port" => told.destination_port = cursor.value()?.number()?,
            "bytes_sent" => told.bytes_sent = cursor.value()?.number()?,
            "connection_duration" => told.connection_duration = cursor.value()?.number()?,
            "mitre_attack" => techniques = cursor.techniques()?,
            // A hit of an index: the event is within.
            "_source" => return None,
            _ => {
                cursor.value()?;
            }
        }
        Some(())
    })?;
    cursor.blanks();
    let entity = entity.filter(|entity| !entity.trim().is_empty())?;
    if !is_simulated || cursor.at < frame.len() {
        return None;
    }
    let mut said = Said {
        entity: Some(Cow::Borrowed(entity)),
        entity_type: Some(entity_type).filter(|text| !text.is_empty()),
        techniques,
        ..Said::default()
    };
    let severity = told.severity;
    told.tell(&mut said);
    Some(Flat { said, ts_ms: time::of_text(timestamp?), severity, is_suspicious })
}

/// A value of the form.
enum Value<'t> {
    Null,
    Bool(bool),
    /// As it was written; not negative, no exponent.
    Number(&'t str),
    Text(Text<'t>),
    /// An object or array.
    Container,
}

/// Text as it was written, between its quotes.
#[derive(Clone, Copy)]
struct Text<'t> {
    raw: &'t str,
    is_escaped: bool,
}

impl<'t> Text<'t> {
    fn plain(self) -> Option<&'t str> {
        (!self.is_escaped).then_some(self.raw)
    }
}

impl<'t> Value<'t> {
    /// Its text, none in anything else; refuses escapes.
    fn text(self) -> Option<Option<&'t str>> {
        match self {
            Value::Text(text) => text.plain().map(Some),
            _ => Some(None),
        }
    }

    /// Its number, none in anything else; refuses text, which may hold one, and what takes more than a division.
    fn number(self) -> Option<Option<f64>> {
        match self {
            Value::Number(text) => short_number(text).map(Some),
            Value::Text(_) => None,
            _ => Some(None),
        }
    }

    /// Its text with the escapes resolved; empty in anything else.
    fn unescaped(self) -> Cow<'t, str> {
        let Value::Text(Text { raw, is_escaped }) = self else { return Cow::Borrowed("") };
        if !is_escaped {
            return Cow::Borrowed(raw);
        }
        let mut text = String::with_capacity(raw.len());
        let mut rest = raw;
        while let Some((plain, escape)) = rest.split_once('\\') {
            text.push_str(plain);
            let mut chars = escape.chars();
            text.push(match chars.next() {
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some(itself) => itself,
                None => break,
            });
            rest = chars.as_str();
        }
        text.push_str(rest);
        Cow::Owned(text)
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Of eight bytes, the first highest, how many come before the first at which text may end: a quote, a backslash, a
/// control character, or what is not ASCII. 8 if there is none.
///
/// The borrow of a subtraction marks false bytes only above a true one, so the lowest mark is always true.
fn before_stop(word: u64) -> usize {
    let zero = |x: u64| x.wrapping_sub(ONES) & !x;
    let quote = zero(word ^ (ONES * b'"' as u64));
    let backslash = zero(word ^ (ONES * b'\\' as u64));
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    ((quote | backslash | control | word) & HIGHS).trailing_zeros() as usize / 8
}

/// What is still to be read.
struct Cursor<'t> {
    text: &'t str,
    at: usize,
    /// Brackets that are open.
    depth: u32,
}

impl<'t> Cursor<'t> {
    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while self.next() == Some(b' ') {
            self.at += 1;
        }
    }

    fn skips(&mut self, byte: u8) -> bool {
        let is_there = self.next() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        self.skips(byte).then_some(())
    }

    fn word(&mut self, word: &str, value: Value<'t>) -> Option<Value<'t>> {
        self.text.as_bytes().get(self.at..)?.starts_with(word.as_bytes()).then(|| {
            self.at += word.len();
            value
        })
    }

    /// Text, from behind its first quote on.
    #[inline(always)]
    fn string(&mut self) -> Option<Text<'t>> {
        let bytes = self.text.as_bytes();
        let (start, mut is_escaped) = (self.at, false);
        loop {
            while let Some(word) = bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
                let before = before_stop(u64::from_le_bytes(*word));
                self.at += before;
                if before < 8 {
                    break;
                }
            }
            match *bytes.get(self.at)? {
                b'"' => {
                    let raw = self.text.get(start..self.at)?;
                    self.at += 1;
                    return Some(Text { raw, is_escaped });
                }
                b'\\' => {
                    if !matches!(bytes.get(self.at + 1)?, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') {
                        return None;
                    }
                    is_escaped = true;
                    self.at += 2;
                }
                0x20..=0x7f => self.at += 1,
                _ => return None,
            }
        }
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.next().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn number(&mut self) -> Option<Value<'t>> {
        let start = self.at;
        if !self.skips(b'0') {
            self.digits()?;
        }
        if self.skips(b'.') {
            self.digits()?;
        }
        // What follows is a comma or a bracket, or it is refused: an exponent also, and a digit after a leading zero.
        self.text.get(start..self.at).filter(|text| text.len() <= NUMBER_BYTES_MAX).map(Value::Number)
    }

    /// Any value, checked to its end.
    fn value(&mut self) -> Option<Value<'t>> {
        match self.next()? {
            b'"' => {
                self.at += 1;
                self.string().map(Value::Text)
            }
            b'0'..=b'9' => self.number(),
            b'{' => {
                self.at += 1;
                self.members(|cursor, _| cursor.value().map(drop)).map(|()| Value::Container)
            }
            b'[' => {
                self.at += 1;
                self.elements(|cursor| cursor.value().map(drop)).map(|()| Value::Container)
            }
            b't' => self.word("true", Value::Bool(true)),
            b'f' => self.word("false", Value::Bool(false)),
            b'n' => self.word("null", Value::Null),
            _ => None,
        }
    }

    /// The members of an object, from behind its bracket on; `each` reads the value.
    fn members(&mut self, mut each: impl FnMut(&mut Self, &'t str) -> Option<()>) -> Option<()> {
        self.list(b'}', |cursor| {
            cursor.take(b'"')?;
            let key = cursor.string()?.plain()?;
            cursor.blanks();
            cursor.take(b':')?;
            cursor.blanks();
            each(cursor, key)
        })
    }

    /// The elements of an array, from behind its bracket on.
    fn elements(&mut self, each: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.list(b']', each)
    }

    #[inline(always)]
    fn list(&mut self, close: u8, mut each: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        if self.depth > DEPTH_MAX {
            return None;
        }
        self.depth += 1;
        self.blanks();
        if !self.skips(close) {
            loop {
                self.blanks();
                each(self)?;
                self.blanks();
                if !self.skips(b',') {
                    break;
                }
            }
            self.take(close)?;
        }
        self.depth -= 1;
        Some(())
    }

    /// `{"techniques":[{"id":"T1110"}]}`: what ATT&CK calls it; nothing else than an object may hold any.
    fn techniques(&mut self) -> Option<Techniques<'t>> {
        let mut found = Techniques::default();
        let mut lists = 0;
        match self.next()? {
            b'[' => return None,
            b'{' => self.at += 1,
            _ => return self.value().map(|_| found),
        }
        self.members(|cursor, key| {
            if key != "techniques" {
                return cursor.value().map(drop);
            }
            // Of two lists the last counts: for the tape.
            lists += 1;
            if lists > 1 {
                return None;
            }
            cursor.take(b'[')?;
            cursor.elements(|cursor| {
                let mut id = None;
                cursor.take(b'{')?;
                cursor.members(|cursor, key| {
                    let value = cursor.value()?;
                    if key == "id" {
                        id = match value {
                            Value::Container => return None,
                            value => value.text()?,
                        };
                    }
                    Some(())
                })?;
                if let Some(id) = id {
                    found.take_one(id, Evidence::Event);
                }
                Some(())
            })
        })?;
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::{
        alert::Parser,
        handlers::apt::record::{self, Read},
        synth::apt::simulation::{Settings, Simulation},
    };

    const RECEIVED: i64 = 1_740_823_299_000;

    fn facts(read: &Read<'_>) -> String {
        let bits = read.event.features.map(f64::to_bits);
        let Read { event, is_timed, missing, invalid, severity, is_suspicious, note, is_cut } = read;
        format!("{bits:?} {event:?} {is_timed} {missing} {invalid} {severity:?} {is_suspicious} {note:?} {is_cut}")
    }

    /// True if the frame has the form; then the tape must say the same.
    fn agrees(frame: &[u8]) -> bool {
        let (mut mine, mut theirs) = (String::new(), String::new());
        let Some(flat) = record::read_flat(frame, RECEIVED, &mut mine) else { return false };
        let mut parser = Parser::new();
        let mut alert = parser.alert(frame);
        assert!(alert.root().is_ok() && alert.repaired() == 0, "the tape refuses {:?}", String::from_utf8_lossy(frame));
        let root = alert.root().unwrap();
        assert!(root.is_object() && root.is_within(crate::limits::APT_DEPTH_MAX));
        assert_eq!(facts(&flat), facts(&record::read(root, RECEIVED, &mut theirs)), "{:?}", String::from_utf8_lossy(frame));
        true
    }

    fn simulated(seed: u64, n: usize) -> Vec<u8> {
        Simulation::new(Settings::new(seed, 1_740_823_200_000_000_000)).nth(n).unwrap().json
    }

    #[test]
    fn events_of_the_simulator_have_the_form() {
        let simulation = Simulation::new(Settings::new(7, 1_740_823_200_000_000_000));
        let plain = simulation.take(4000).filter(|made| agrees(&made.json)).count();
        assert_eq!(plain, 4000);
    }

    /// An event of the simulator with these members behind.
    fn with(members: &str) -> Vec<u8> {
        format!("{{\"is_simulated\":true,\"entity\":\"h\",\"timestamp\":\"2025-03-01T10:00:00Z\"{members}}}").into_bytes()
    }

    #[test]
    fn what_has_the_form_reads_as_on_the_tape_and_anything_else_is_left_to_it() {
        let has = [
            "",
            " , \"a\" : [ 1 , { } , [ ] , null , false , 0.5 ] ",
            ",\"event_type\":\"process\",\"command_line\":\"C:\\\\x \\\"CURL\\\"\\t\\/\",\"process_name\":\"C:\\\\Windows\\\\CMD.exe\"",
            ",\"event_type\":\"process\",\"command_line\":\"a\\\\\",\"process_name\":5",
            ",\"event_type\":\"login\",\"action\":\"x\",\"login_status\":\"\",\"change_type\":\"y\"",
            ",\"event_type\":\"network_connection\",\"bytes_sent\":12.345,\"destination_port\":22.0,\"connection_duration\":null",
            ",\"mitre_attack\":{\"techniques\":[{\"id\":\"t1059\"},{\"id\":\"x\"},{},{\"id\":null}],\"tactics\":[{\"id\":\"T1110\"}]}",
            ",\"mitre_attack\":null,\"severity\":\"HIGH\",\"suspicious\":1,\"entity_type\":\"\"",
            ",\"timestamp\":\"yesterday\",\"reason\":\"r\",\"reason\":\"s\",\"entity\":\"i\"",
        ];
        for members in has {
            assert!(agrees(&with(members)), "{members}");
        }
        let has_not = [
            ",",
            ",\"a\":01",
            ",\"a\":1.",
            ",\"a\":-1",
            ",\"a\":1e5",
            ",\"a\":truex",
            ",\"a\":\"\\u0041\"",
            ",\"a\":\"\\x\"",
            ",\"a\":\"\u{1}\"",
            ",\"a\":\"\u{e9}\"",
            ",\"a\":[1,]",
            ",\"a\":[[[[[[[[[[]]]]]]]]]]",
            ",\"_source\":{}",
            ",\"entity\":\" \"",
            ",\"entity\":5",
            ",\"timestamp\":1740823200",
            ",\"bytes_sent\":\"5\"",
            ",\"is_simulated\":1",
            ",\"reason\":\"\\n\"",
            ",\"mitre_attack\":[\"T1059\"]",
            ",\"mitre_attack\":{\"techniques\":[\"T1059\"]}",
            ",\"mitre_attack\":{\"techniques\":[{\"id\":[\"T1059\"]}]}",
            "}",
        ];
        for members in has_not {
            assert!(!agrees(&with(members)), "{members}");
        }
    }

    #[test]
    fn a_stop_is_found_wherever_it_stands() {
        for byte in 0..=255_u8 {
            for at in 0..8 {
                for beside in [b'a', b' ', b'#', b'!', b']', 0x7f, 0x1f, 0x80, b'"'] {
                    let mut word = [beside; 8];
                    word[at] = byte;
                    let stops = |b: &u8| matches!(b, b'"' | b'\\' | 0..=0x1f | 0x80..);
                    assert_eq!(before_stop(u64::from_le_bytes(word)), word.iter().position(stops).unwrap_or(8), "{word:?}");
                }
            }
        }
    }

    const VALUES: [&str; 24] = [
        "null",
        "true",
        "false",
        "0",
        "1",
        "22",
        "445.0",
        "99999",
        "0.1234567",
        "123456789012345",
        "1234567890.12345678",
        "\"\"",
        "\" \"",
        "\"success\"",
        "\"Critical\"",
        "\"T1059.001\"",
        "\"process\"",
        "\"network_connection\"",
        "\"file\"",
        "\"a\\\\b\\\"sudo\"",
        "[]",
        "{\"id\":\"T1110\"}",
        "{\"techniques\":[{\"id\":\"T1110\",\"n\":[1]},{\"id\":\"T1110\"}]}",
        "[\"a\",{\"type\":\"simulation\"}]",
    ];

    proptest! {
        #[test]
        fn bytes_changed_anywhere_read_as_on_the_tape(
            seed in any::<u64>(), n in 0..40_usize,
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, any::<u8>(), any::<prop::sample::Index>()), 0..4),
        ) {
            let mut frame = simulated(seed, n);
            for (at, what, byte, of) in edits {
                let syntax = b"\"\\{}[]:, \t\n0.e-ntu";
                let at = at.index(frame.len());
                match what {
                    0 => frame[at] = byte,
                    1 => frame[at] = syntax[of.index(syntax.len())],
                    _ => frame.insert(at, syntax[of.index(syntax.len())]),
                }
            }
            agrees(&frame);
        }

        #[test]
        fn any_members_read_as_on_the_tape(
            members in prop::collection::vec((0..super::super::members::TEST_NAMES.len(), 0..VALUES.len()), 0..14),
        ) {
            let text: String = members
                .iter()
                .map(|(name, value)| format!(",\"{}\":{}", super::super::members::TEST_NAMES[*name], VALUES[*value]))
                .collect();
            agrees(&with(&text));
        }
    }
}
