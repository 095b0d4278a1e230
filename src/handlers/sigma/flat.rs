//! The fields of one event, by the names that rules have for them.
//!
//! Rules for Windows speak the names of Sysmon and of the event log (`CommandLine`, `TargetFilename`, `EventID`), others
//! those of their log. A nested member has a dotted name (`process.command_line`), which it has as a member's own name as
//! well. The first letter's case does not count: Wazuh writes `commandLine`.
//!
//! Wazuh writes the texts of a Windows event with their escapes once too often: `C:\\Windows`, `\"`, `&gt;`. They are taken
//! off, or no rule for a path would match. A text that holds anything else behind a backslash was not written so, and stays.

use crate::{
    alert::{Kind, Node},
    limits::{SIGMA_FIELDS_MAX, SIGMA_NESTED_MAX},
    tables::sigma::{Fields, Value},
};

/// Names that an event of another log has for what Sysmon calls so. Asked only for a name that the event does not have.
#[rustfmt::skip]
const ALIASES: &[(&str, &[&str])] = &[
    ("CommandLine", &["process.command_line"]),
    ("CurrentDirectory", &["process.working_directory"]),
    ("DestinationHostname", &["destination.domain"]),
    ("DestinationIp", &["DestAddress", "destination.ip"]),
    ("DestinationPort", &["DestPort", "destination.port"]),
    ("Details", &["NewValue", "registry.data.strings"]),
    ("Filename", &["Path"]),
    ("Image", &["NewProcessName", "Application", "process.executable"]),
    ("ImageLoaded", &["dll.path"]),
    ("IntegrityLevel", &["MandatoryLabel"]),
    ("LogonId", &["SubjectLogonId"]),
    ("OriginalFileName", &["process.pe.original_file_name"]),
    ("ParentCommandLine", &["process.parent.command_line"]),
    ("ParentImage", &["ParentProcessName", "process.parent.executable"]),
    ("ParentProcessId", &["process.parent.pid"]),
    ("ProcessId", &["process.pid"]),
    ("QueryName", &["dns.question.name"]),
    ("Signature", &["ThreatName"]),
    ("SourceIp", &["SourceAddress", "source.ip"]),
    ("SourcePort", &["source.port"]),
    ("TargetFilename", &["file.path"]),
    ("TargetObject", &["ObjectName", "registry.path"]),
    ("User", &["SubjectUserName", "user.name"]),
];

/// Memory that is used again, event after event.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Names, and texts that had to be mended, one behind the other.
    text: String,
    /// By hash of a name: one more than its place; 0 is free.
    index: Vec<u16>,
    path: String,
}

/// Part of [`Scratch::text`].
type Span = (usize, usize);

#[derive(Clone, Copy)]
enum Held<'t> {
    Node(Node<'t>),
    Text(Span),
}

struct Entry<'t> {
    name: Span,
    value: Held<'t>,
}

/// The fields of one event.
pub struct Flat<'t, 's> {
    entries: Vec<Entry<'t>>,
    scratch: &'s mut Scratch,
}

/// Which of two fields of one name is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Meeting {
    /// The one that came first.
    First,
    /// The one that comes last, as of equal keys of JSON.
    Last,
}

impl<'t, 's> Flat<'t, 's> {
    /// No field yet.
    ///
    /// - `members`: about how many there will be.
    pub fn new(scratch: &'s mut Scratch, members: usize) -> Self {
        scratch.text.clear();
        scratch.index.clear();
        let slots = (2 * members.min(SIGMA_FIELDS_MAX)).next_power_of_two().max(64);
        scratch.index.resize(slots, 0);
        Self { entries: Vec::with_capacity(members.min(SIGMA_FIELDS_MAX)), scratch }
    }

    /// Adds the members of an object; nested ones by their dotted names, behind `prefix` and a dot.
    pub fn add(&mut self, object: Node<'t>, prefix: &str, meeting: Meeting) {
        let mut path = std::mem::take(&mut self.scratch.path);
        path.clear();
        path.push_str(prefix);
        self.add_below(object, &mut path, meeting, 0);
        self.scratch.path = path;
    }

    fn add_below(&mut self, object: Node<'t>, path: &mut String, meeting: Meeting, depth: usize) {
        let len = path.len();
        for (name, value) in object.members() {
            if len > 0 {
                path.push('.');
            }
            path.push_str(name);
            if value.is_object() && depth < SIGMA_NESTED_MAX {
                self.add_below(value, path, meeting, depth + 1);
            } else {
                self.put(path, Held::Node(value), meeting);
            }
            path.truncate(len);
        }
    }

    /// Adds one field.
    pub fn put_node(&mut self, name: &str, value: Node<'t>, meeting: Meeting) {
        self.put(name, Held::Node(value), meeting);
    }

    /// Adds one field that Wazuh wrote, without the escapes that it has too many.
    pub fn put_mended(&mut self, name: &str, value: Node<'t>, meeting: Meeting) {
        let begin = self.scratch.text.len();
        let held = match value.as_str() {
            Some(text) if mend(text, &mut self.scratch.text) => Held::Text((begin, self.scratch.text.len())),
            _ => Held::Node(value),
        };
        self.put(name, held, meeting);
    }

    /// Adds a field; one of Defender's names with blanks (`Threat Name`) also without them, as rules have it.
    fn put(&mut self, name: &str, value: Held<'t>, meeting: Meeting) {
        self.put_as(name, value, meeting);
        if name.contains(' ') {
            self.put_as(&name.replace(' ', ""), value, meeting);
        }
    }

    fn put_as(&mut self, name: &str, value: Held<'t>, meeting: Meeting) {
        match self.find(name) {
            Ok(at) => {
                if let (Meeting::Last, Some(entry)) = (meeting, self.entries.get_mut(at)) {
                    entry.value = value;
                }
            }
            Err(slot) => {
                if self.entries.len() >= SIGMA_FIELDS_MAX {
                    return;
                }
                let begin = self.scratch.text.len();
                self.scratch.text.push_str(name);
                self.entries.push(Entry { name: (begin, self.scratch.text.len()), value });
                if let (Some(slot), Ok(at)) = (self.scratch.index.get_mut(slot), u16::try_from(self.entries.len())) {
                    *slot = at;
                }
                // Half full at most, so that a search ends soon.
                if 2 * self.entries.len() > self.scratch.index.len() {
                    self.widen();
                }
            }
        }
    }

    fn widen(&mut self) {
        let slots = 2 * self.scratch.index.len();
        self.scratch.index.clear();
        self.scratch.index.resize(slots, 0);
        for (at, entry) in self.entries.iter().enumerate() {
            let mut slot = hash(self.text(entry.name).as_bytes()) & (slots - 1);
            while self.scratch.index.get(slot).is_some_and(|taken| *taken != 0) {
                slot = (slot + 1) & (slots - 1);
            }
            if let (Some(slot), Ok(at)) = (self.scratch.index.get_mut(slot), u16::try_from(at + 1)) {
                *slot = at;
            }
        }
    }

    fn text(&self, (begin, end): Span) -> &str {
        self.scratch.text.get(begin..end).unwrap_or_default()
    }

    /// Where a field of that name is, or the free slot where it would be found.
    fn find(&self, name: &str) -> Result<usize, usize> {
        let last = self.scratch.index.len() - 1;
        let mut slot = hash(name.as_bytes()) & last;
        loop {
            let at = match self.scratch.index.get(slot) {
                None | Some(0) => return Err(slot),
                Some(at) => usize::from(*at) - 1,
            };
            if self.entries.get(at).is_some_and(|entry| is_same(self.text(entry.name), name)) {
                return Ok(at);
            }
            slot = (slot + 1) & last;
        }
    }

    fn value(&self, held: Held<'t>) -> Value<'_> {
        match held {
            Held::Text(span) => Value::Text(self.text(span).into()),
            Held::Node(node) => value_of(node),
        }
    }
}

fn value_of(node: Node<'_>) -> Value<'_> {
    match node.kind() {
        Kind::String => Value::Text(node.as_str().unwrap_or_default().into()),
        Kind::Bool => Value::Bool(node.as_bool().unwrap_or_default()),
        Kind::Null => Value::Null,
        Kind::Number => {
            let text = node.number().unwrap_or_default();
            text.parse().map(Value::Whole).unwrap_or_else(|_| Value::Number(text.parse().unwrap_or(f64::NAN)))
        }
        Kind::Array => Value::List(node.elements().map(value_of).collect()),
        Kind::Object => Value::Text(node.text()),
    }
}

impl Fields for Flat<'_, '_> {
    fn get(&self, name: &str) -> Option<Value<'_>> {
        let found = self.find(name).ok().or_else(|| {
            let at = ALIASES.binary_search_by(|(known, _)| known.cmp(&name)).ok()?;
            ALIASES.get(at)?.1.iter().find_map(|other| self.find(other).ok())
        });
        self.entries.get(found?).map(|entry| self.value(entry.value))
    }

    fn any_text(&self, wanted: &dyn Fn(&str) -> bool) -> bool {
        self.entries.iter().any(|entry| match entry.value {
            Held::Text(span) => wanted(self.text(span)),
            Held::Node(node) if node.kind() == Kind::Array => node.elements().filter_map(Node::as_str).any(wanted),
            Held::Node(node) => node.as_str().is_some_and(wanted),
        })
    }

    fn texts(&self) -> Vec<&str> {
        let of = |entry: &Entry<'_>| match entry.value {
            Held::Text(span) => Some(self.text(span)),
            Held::Node(_) => None,
        };
        let mended = self.entries.iter().filter_map(of);
        let plain = self.entries.iter().flat_map(|entry| match entry.value {
            Held::Node(node) if node.kind() == Kind::Array => node.elements().filter_map(Node::as_str).collect(),
            Held::Node(node) => node.as_str().into_iter().collect::<Vec<_>>(),
            Held::Text(_) => Vec::new(),
        });
        mended.chain(plain).collect()
    }
}

/// A number for a name, whatever the case of its first letter.
fn hash(name: &[u8]) -> usize {
    let (first, rest) = name.split_first().map_or((0, name), |(first, rest)| (first | 0x20, rest));
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (chunks, tail) = rest.as_chunks::<8>();
    let hash = chunks.iter().fold(u64::from(first), |hash, chunk| mix(hash, u64::from_le_bytes(*chunk)));
    let tail = tail.iter().fold(rest.len() as u64, |word, byte| word << 8 | u64::from(*byte));
    (mix(hash, tail) >> 40) as usize
}

fn is_same(a: &str, b: &str) -> bool {
    match (a.as_bytes(), b.as_bytes()) {
        ([a, rest_a @ ..], [b, rest_b @ ..]) => a | 0x20 == b | 0x20 && rest_a == rest_b,
        (a, b) => a == b,
    }
}

/// Appends a text without the escapes that it has once too often; false if it has none, and nothing is appended.
fn mend(text: &str, out: &mut String) -> bool {
    let has_slash = text.contains('\\');
    if !has_slash && !text.contains('&') {
        return false;
    }
    let begin = out.len();
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '&']) {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        let pairs = [("\\\\", "\\"), ("\\\"", "\""), ("\\n", "\n"), ("\\r", "\r"), ("\\t", "\t")];
        let entities = [("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'")];
        match pairs.iter().chain(&entities).find(|(written, _)| special.starts_with(written)) {
            Some((written, meant)) => {
                out.push_str(meant);
                rest = special.get(written.len()..).unwrap_or_default();
            }
            // Not written so after all.
            None if special.starts_with('\\') => {
                out.truncate(begin);
                return false;
            }
            None => {
                out.push('&');
                rest = special.get(1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    true
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::alert::Parser;

    #[test]
    fn a_field_is_found_by_its_dotted_name_whatever_the_case_of_its_first_letter() {
        let mut parser = Parser::new();
        let mut alert = parser.alert(
            br#"{"process":{"command_line":"a b","pid":7,"args":["a","b"]},"id.orig_h":"10.0.0.1","x":null,"y":true,"z":1.5,"x":2,"Threat Name":"t"}"#,
        );
        let root = alert.root().unwrap();
        let mut scratch = Scratch::default();
        let mut flat = Flat::new(&mut scratch, 1);
        flat.add(root, "", Meeting::Last);
        for (name, value) in [
            ("process.command_line", Some(Value::Text("a b".into()))),
            ("Process.command_line", Some(Value::Text("a b".into()))),
            ("CommandLine", Some(Value::Text("a b".into()))),
            ("commandLine", None),
            ("process.pid", Some(Value::Whole(7))),
            ("process.args", Some(Value::List(vec![Value::Text("a".into()), Value::Text("b".into())]))),
            ("id.orig_h", Some(Value::Text("10.0.0.1".into()))),
            ("x", Some(Value::Whole(2))),
            ("y", Some(Value::Bool(true))),
            ("z", Some(Value::Number(1.5))),
            ("ThreatName", Some(Value::Text("t".into()))),
            ("Threat Name", Some(Value::Text("t".into()))),
            ("process", None),
            ("", None),
        ] {
            assert_eq!(flat.get(name), value, "{name}");
        }
        assert!(flat.any_text(&|text| text == "b") && !flat.any_text(&|text| text == "c"));
        assert_eq!(flat.texts().len(), 6);
    }

    #[test]
    fn many_fields_are_found_and_the_first_of_a_name_can_be_kept() {
        let json: String = (0..500).map(|n| format!("\"f{n}\":{n},")).collect();
        let json = format!("{{{json}\"f7\":-1}}");
        let mut parser = Parser::new();
        let mut alert = parser.alert(json.as_bytes());
        let root = alert.root().unwrap();
        let mut scratch = Scratch::default();
        for (meeting, seventh) in [(Meeting::First, 7), (Meeting::Last, -1)] {
            let mut flat = Flat::new(&mut scratch, 3);
            flat.add(root, "", meeting);
            assert_eq!(flat.get("f7"), Some(Value::Whole(seventh)));
            assert!((0..500).filter(|n| *n != 7).all(|n| flat.get(&format!("f{n}")) == Some(Value::Whole(n))));
            assert_eq!(flat.get("f500"), None);
        }
    }

    #[test]
    fn aliases_are_in_order() {
        assert!(ALIASES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn what_wazuh_escaped_twice_is_mended_and_the_rest_is_left() {
        for (written, meant) in [
            (r#"C:\\Windows\\System32\\svchost.exe"#, Some(r"C:\Windows\System32\svchost.exe")),
            (r#"\"C:\\a b\\c.exe\" /x"#, Some(r#""C:\a b\c.exe" /x"#)),
            (r"\\\\server\\share", Some(r"\\server\share")),
            ("a &gt; b 2&gt;&amp;1", Some("a > b 2>&1")),
            ("a && b", Some("a && b")),
            (r"C:\Windows\System32", None),
            ("plain", None),
            (r"one\", None),
        ] {
            let mut out = String::from("before ");
            let is_mended = mend(written, &mut out);
            assert_eq!((is_mended, &out[7..]), (meant.is_some(), meant.unwrap_or_default()), "{written}");
        }
    }
}
