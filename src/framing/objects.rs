//! JSON objects one after the other, over as many lines as they like: where each ends.
//!
//! Braces and brackets are counted outside of strings; blanks and commas between objects belong to
//! none. An object that cannot be JSON any more (a raw line break in a string, a brace where none
//! can stand, a bracket that closes another) is *lost*: with whatever follows it is one frame up to
//! the next line that begins with `{`, so that what was cut takes only its neighbour with it, and
//! what is whole in it can be salvaged. Whatever else stands between objects is lost in the same way.
//!
//! Each byte is looked at once, however the bytes arrive.

use memchr::memchr3;

use super::Frame;

/// Deeper than any event: brackets beyond are counted no more, the object is lost.
const DEPTH_MAX: usize = 1024;

/// Where in an object the cutter stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    /// Between two objects.
    #[default]
    Between,
    /// In an object, outside of strings.
    Object,
    /// In a string.
    Text,
    /// Behind a backslash in a string.
    Escape,
    /// In bytes that are no JSON.
    Lost,
}

/// Finds the ends of objects in bytes that arrive piece by piece.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    mode: Mode,
    /// Brackets that are open; true for a brace.
    open: Vec<bool>,
    /// The last byte outside of strings that is no blank.
    before: u8,
    /// The last byte was a line break.
    at_line: bool,
    /// Where what is open began.
    begin: usize,
    /// Bytes that were looked at.
    at: usize,
}

/// What ended at a place.
struct End {
    start: usize,
    end: usize,
    lost: bool,
}

impl Objects {
    /// Looks at the bytes behind those that it has seen; returns how many of them are whole frames
    /// and what is between them.
    ///
    /// - `bytes`: from where the first frame may begin; those of the last call without what was whole.
    pub fn whole(&mut self, bytes: &[u8]) -> usize {
        if self.at > bytes.len() {
            *self = Self::default();
        }
        self.advance(bytes, &mut |_| {});
        let whole = if self.mode == Mode::Between { bytes.len() } else { self.begin };
        self.at = bytes.len() - whole;
        self.begin = self.begin.saturating_sub(whole);
        whole
    }

    /// Bytes that it has seen of the frame that is open.
    pub fn seen(&self) -> usize {
        self.at
    }

    fn advance(&mut self, bytes: &[u8], ended: &mut impl FnMut(End)) {
        let mut at = self.at;
        while let Some(&byte) = bytes.get(at) {
            match self.mode {
                Mode::Between => match byte {
                    b' ' | b'\t' | b'\r' | b'\n' | b',' => {}
                    b'{' => self.begin(at),
                    _ => {
                        self.begin = at;
                        self.mode = Mode::Lost;
                    }
                },
                Mode::Text => {
                    let skipped = memchr3(b'"', b'\\', b'\n', bytes.get(at..).unwrap_or_default());
                    at = skipped.map_or(bytes.len(), |skipped| at + skipped);
                    match bytes.get(at) {
                        Some(b'"') => (self.mode, self.before) = (Mode::Object, b'"'),
                        Some(b'\\') => self.mode = Mode::Escape,
                        // No line break stands in a string of JSON.
                        Some(_) => self.mode = Mode::Lost,
                        None => break,
                    }
                }
                Mode::Escape => self.mode = if byte == b'\n' { Mode::Lost } else { Mode::Text },
                Mode::Object => self.inside(byte, at, ended),
                Mode::Lost if byte == b'{' && self.at_line => {
                    ended(End { start: self.begin, end: at, lost: true });
                    self.begin(at);
                }
                Mode::Lost => {}
            }
            self.at_line = bytes.get(at) == Some(&b'\n');
            at += 1;
        }
        self.at = bytes.len();
    }

    fn begin(&mut self, at: usize) {
        (self.begin, self.mode, self.before) = (at, Mode::Object, b'{');
        self.open.clear();
        self.open.push(true);
    }

    fn inside(&mut self, byte: u8, at: usize, ended: &mut impl FnMut(End)) {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => return,
            b'"' => self.mode = Mode::Text,
            b'{' | b'[' => {
                let in_list = self.open.last() == Some(&false);
                let can_stand = matches!(self.before, b':' | b'[') || (self.before == b',' && in_list);
                if can_stand && self.open.len() < DEPTH_MAX {
                    self.open.push(byte == b'{');
                } else if byte == b'{' && self.at_line {
                    // The one before was cut, and this is the next one.
                    ended(End { start: self.begin, end: at, lost: true });
                    return self.begin(at);
                } else {
                    self.mode = Mode::Lost;
                }
            }
            b'}' | b']' => match self.open.pop() {
                Some(brace) if brace == (byte == b'}') => {
                    if self.open.is_empty() {
                        self.mode = Mode::Between;
                        ended(End { start: self.begin, end: at + 1, lost: false });
                    }
                }
                _ => self.mode = Mode::Lost,
            },
            _ => {}
        }
        self.before = byte;
    }
}

/// The objects of `bytes`, in order, and whether each was lost; together the frames cover every byte.
///
/// - `bytes`: should be whole, as [`Objects::whole`] says; a part object at the end is a lost one.
pub fn objects(bytes: &[u8]) -> Vec<(Frame, bool)> {
    let mut found: Vec<(Frame, bool)> = Vec::new();
    let mut cutter = Objects::default();
    let mut note = |End { start, end, lost }: End| {
        if start > 0 && found.is_empty() {
            // Blanks before the first one.
            found.push((Frame { start: 0, end: 0, next: start }, false));
        }
        if let Some((last, _)) = found.last_mut() {
            last.next = start;
        }
        let text = bytes.get(start..end).unwrap_or_default().trim_ascii_end().len();
        found.push((Frame { start, end: start + text, next: end }, lost));
    };
    cutter.advance(bytes, &mut note);
    if cutter.mode != Mode::Between {
        note(End { start: cutter.begin, end: bytes.len(), lost: true });
    }
    match found.last_mut() {
        Some((last, _)) => last.next = bytes.len(),
        None if bytes.is_empty() => {}
        None => found.push((Frame { start: 0, end: 0, next: bytes.len() }, false)),
    }
    found
}

/// The last place in `bytes` at which an object may begin: behind a line that closes one, or before a line that opens
/// one; `None` if there is no such line.
///
/// - `from_start`: the first byte begins a line.
pub fn last_boundary(bytes: &[u8], from_start: bool) -> Option<usize> {
    let mut end = bytes.len();
    loop {
        let body = bytes.get(..end)?.strip_suffix(b"\n").map_or(end, <[u8]>::len);
        let start = bytes.get(..body)?.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if start == 0 && !from_start {
            return None;
        }
        let line = bytes.get(start..body)?.trim_ascii_end();
        let line = line.strip_suffix(b",").unwrap_or(line);
        match (line.first(), line.last()) {
            (Some(b'{' | b'}'), Some(b'}')) => return Some(end),
            (Some(b'{'), _) => return Some(start),
            _ if start == 0 => return None,
            _ => end = start,
        }
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::type_complexity, reason = "tests fail by panicking; rows are tables")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Frames of bytes that arrive in pieces, the part object carried over.
    fn frames_of<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<(Vec<u8>, bool)>, Vec<u8>) {
        let (mut slab, mut found, mut cutter) = (Vec::new(), Vec::new(), Objects::default());
        for piece in pieces {
            slab.extend_from_slice(piece);
            let whole = cutter.whole(&slab);
            assert_eq!(cutter.seen(), slab.len() - whole);
            let of = |(frame, lost): (Frame, bool)| (slab[frame.start..frame.end].to_vec(), lost);
            found.extend(objects(&slab[..whole]).into_iter().map(of).filter(|(text, _)| !text.is_empty()));
            slab.drain(..whole);
        }
        (found, slab)
    }

    const PRETTY: &str =
        "{\n    \"transaction\": {\n        \"id\": \"{1}\",\n        \"a\": [\n            {\n            }\n        ]\n    }\n}";

    #[test]
    fn objects_are_cut_however_they_stand_and_arrive() {
        let torn = &PRETTY[..40];
        let rows: &[(String, Vec<(String, bool)>, &str)] = &[
            ("{}\n{\"a\":1}\n".into(), vec![("{}".into(), false), ("{\"a\":1}".into(), false)], ""),
            ("{}{\"a\":{\"b\":[{},{}]}}".into(), vec![("{}".into(), false), ("{\"a\":{\"b\":[{},{}]}}".into(), false)], ""),
            (format!("{PRETTY},\n\n{PRETTY}\n"), vec![(PRETTY.into(), false), (PRETTY.into(), false)], ""),
            ("{\"a\":\"}\\\"{\\\\\"}x".into(), vec![("{\"a\":\"}\\\"{\\\\\"}".into(), false)], "x"),
            ("{\"a\":".into(), vec![], "{\"a\":"),
            // Cut in a string, then a line of its own.
            ("{\"a\":\"x\n{\"b\":1}\n".into(), vec![("{\"a\":\"x".into(), true), ("{\"b\":1}".into(), false)], ""),
            // Cut behind a value, behind a comma, behind a colon.
            ("{\"a\":1\n{\"b\":1}\n".into(), vec![("{\"a\":1".into(), true), ("{\"b\":1}".into(), false)], ""),
            ("{\"a\":1,\n{\"b\":1}\n".into(), vec![("{\"a\":1,".into(), true), ("{\"b\":1}".into(), false)], ""),
            ("{\"a\":\n{\"b\":1}\n{\"c\":1}\n".into(), vec![("{\"a\":\n{\"b\":1}".into(), true), ("{\"c\":1}".into(), false)], ""),
            // Cut and glued: both in one frame, for salvage; the next one is whole.
            (format!("{torn}{PRETTY}\n{PRETTY}\n"), vec![(format!("{torn}{PRETTY}"), true), (PRETTY.into(), false)], ""),
            ("{\"a\":1}}\n{}".into(), vec![("{\"a\":1}".into(), false), ("}".into(), true), ("{}".into(), false)], ""),
            ("{\"a\":[}\n{}".into(), vec![("{\"a\":[}".into(), true), ("{}".into(), false)], ""),
            ("--1a-A--\ntext {}\n{}".into(), vec![("--1a-A--\ntext {}".into(), true), ("{}".into(), false)], ""),
            (" \r\n\t".into(), vec![], ""),
        ];
        for (text, expected, rest) in rows {
            for cut in 1..=text.len() {
                let (found, left) = frames_of(text.as_bytes().chunks(cut));
                let found: Vec<(String, bool)> = found.into_iter().map(|(text, lost)| (String::from_utf8(text).unwrap(), lost)).collect();
                assert_eq!((&found, left.as_slice()), (expected, rest.as_bytes()), "{text:?}, {cut} bytes at a time");
            }
        }
        let deep = format!("{{\"a\":{}{}}}\n{{}}", "[".repeat(2000), "]".repeat(2000));
        let (found, _) = frames_of([deep.as_bytes()].into_iter());
        assert_eq!(found.iter().map(|(_, lost)| *lost).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn a_first_start_at_the_end_begins_at_an_object() {
        let two = format!("{PRETTY}\n{PRETTY}\n");
        for (text, from_start, expected) in [
            ("", true, None),
            ("{}\n", true, Some(3)),
            ("{}", true, Some(2)),
            ("{\"a\":1}\n{\"b\":", true, Some(8)),
            (two.as_str(), true, Some(two.len())),
            (&two[..two.len() - 3], true, Some(PRETTY.len() + 1)),
            (&two[5..two.len() - 3], false, Some(PRETTY.len() - 4)),
            (&two[5..30], false, None),
            ("x\ny\n", true, None),
        ] {
            assert_eq!(last_boundary(text.as_bytes(), from_start), expected, "{text:?}");
        }
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::json!(1)),
            "[{}\\[\\]\",:\\\\\n a]{0,6}".prop_map(serde_json::Value::from),
            Just(serde_json::json!(null))
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                proptest::collection::btree_map("[{}\" ]{0,3}", inner, 0..4)
                    .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        /// The twin is serde_json's reader of values that stand one after the other.
        #[test]
        fn whole_objects_are_those_that_serde_json_finds(
            values in proptest::collection::vec((value(), any::<bool>(), proptest::sample::select(vec!["", "\n", " ", "\r\n\n", ",\n"])), 0..8),
            cut in 1..40usize,
        ) {
            let mut text = String::new();
            for (value, pretty, between) in &values {
                let value = serde_json::json!({ "transaction": value });
                text += &if *pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
                text += between;
            }
            let (found, rest) = frames_of(text.as_bytes().chunks(cut));
            prop_assert_eq!(rest, b"");
            prop_assert!(found.iter().all(|(_, lost)| !lost));
            let found: Vec<serde_json::Value> = found.iter().map(|(text, _)| serde_json::from_slice(text).unwrap()).collect();
            // It knows no commas between values; those inside are behind a colon or in brackets.
            let naive: Vec<serde_json::Value> = values.iter().map(|(value, ..)| serde_json::json!({ "transaction": value })).collect();
            prop_assert_eq!(found, naive);
            if values.iter().all(|(_, _, between)| !between.starts_with(',')) {
                let stream = serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>();
                prop_assert_eq!(stream.filter_map(Result::ok).count(), values.len());
            }
        }

        /// Whatever the bytes: frames cover them, do not depend on how they arrive, and each is cut again as itself.
        #[test]
        fn frames_cover_all_bytes_and_do_not_depend_on_pieces(
            bytes in proptest::collection::vec(proptest::sample::select(b"{}[]\",:\\\n a{{}}\"".to_vec()), 0..80), cut in 1..20usize,
        ) {
            let frames = objects(&bytes);
            let mut next = 0;
            for (frame, _) in &frames {
                prop_assert_eq!(frame.start, next);
                prop_assert!(frame.start <= frame.end && frame.end <= frame.next);
                next = frame.next;
            }
            prop_assert_eq!(next, bytes.len());
            let mut cutter = Objects::default();
            let whole = cutter.whole(&bytes);
            let at_once: Vec<(Vec<u8>, bool)> = objects(&bytes[..whole]).into_iter().map(|(f, lost)| (bytes[f.start..f.end].to_vec(), lost)).filter(|(text, _)| !text.is_empty()).collect();
            let (found, rest) = frames_of(bytes.chunks(cut));
            prop_assert_eq!(found, at_once);
            prop_assert_eq!(rest, &bytes[whole..]);
            for (frame, lost) in objects(&bytes[..whole]).iter().filter(|(frame, lost)| !lost && frame.end > frame.start) {
                prop_assert_eq!(&objects(&bytes[frame.start..frame.end]), &vec![(Frame { start: 0, end: frame.end - frame.start, next: frame.end - frame.start }, *lost)]);
            }
        }
    }
}
