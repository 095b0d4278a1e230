//! A Windows alert as the XML of its event, in JSON.
//!
//! The manager's agent took the event's XML apart; this puts it together again, in one line. It
//! is written once, escaped for XML and JSON in the same pass, and copied for `body`.

use super::{Common, write_or_null};
use crate::alert::{Node, json_body};

/// Members of `data.win.system` that the XML holds.
#[derive(Clone, Copy)]
#[allow(clippy::enum_variant_names, reason = "the names are Windows's own")]
enum Name {
    ProviderName,
    ProviderGuid,
    EventId,
    Version,
    Level,
    Task,
    Opcode,
    Keywords,
    SystemTime,
    EventRecordId,
    ProcessId,
    ThreadId,
    Channel,
    Computer,
}

impl Name {
    const COUNT: usize = Name::Computer as usize + 1;

    fn of(key: &str) -> Option<Self> {
        Some(match key {
            "providerName" => Name::ProviderName,
            "providerGuid" => Name::ProviderGuid,
            "eventID" => Name::EventId,
            "version" => Name::Version,
            "level" => Name::Level,
            "task" => Name::Task,
            "opcode" => Name::Opcode,
            "keywords" => Name::Keywords,
            "systemTime" => Name::SystemTime,
            "eventRecordID" => Name::EventRecordId,
            "processID" => Name::ProcessId,
            "threadID" => Name::ThreadId,
            "channel" => Name::Channel,
            "computer" => Name::Computer,
            _ => return None,
        })
    }
}

/// Events of logons, which may come without an address; it is then written as `-`.
const WITH_ADDRESS: &[&str] = &["4625", "4768", "4771"];

const EVENT_LOG: &str = "http://manifests.microsoft.com/win/2004/08/windows/eventlog";

/// The members of `data.win.system`, found in one pass.
pub(super) struct System<'t> {
    found: [Option<Node<'t>>; Name::COUNT],
}

impl<'t> System<'t> {
    pub(super) fn of(system: Node<'t>) -> Self {
        let mut found = [None; Name::COUNT];
        for (key, value) in system.members() {
            if let Some(slot) = Name::of(key).and_then(|name| found.get_mut(name as usize)) {
                *slot = Some(value);
            }
        }
        Self { found }
    }

    /// The value of a member that is there and not null.
    fn get(&self, name: Name) -> Option<Node<'t>> {
        self.found.get(name as usize).copied().flatten().filter(|value| !value.is_null())
    }

    pub(super) fn event_id(&self) -> Option<Node<'t>> {
        self.get(Name::EventId)
    }

    pub(super) fn time(&self) -> Option<Node<'t>> {
        self.get(Name::SystemTime)
    }
}

/// What follows `System` in the event.
pub(super) enum Parts<'t> {
    /// The event log was shut down.
    Shutdown,
    /// The audit log was cleared, by whom if it is known.
    Cleared(Option<Node<'t>>),
    /// `eventdata`; whether an address is added that is missing.
    Data { data: Node<'t>, with_address: bool },
    /// `eventdata` should be there and is not.
    Incomplete,
}

impl<'t> Parts<'t> {
    pub(super) fn of(win: Node<'t>, event_id: &str) -> Self {
        let object = |key| win.get(key).filter(|node: &Node<'t>| node.is_object());
        match event_id {
            "1100" => Parts::Shutdown,
            "1102" => Parts::Cleared(object("logFileCleared")),
            _ => match object("eventdata") {
                Some(data) => Parts::Data { data, with_address: WITH_ADDRESS.contains(&event_id) },
                None => Parts::Incomplete,
            },
        }
    }

    pub(super) fn is_incomplete(&self) -> bool {
        matches!(self, Parts::Incomplete)
    }
}

/// Appends the message.
pub(super) fn write(w: &mut Vec<u8>, common: &Common<'_>, system: &System<'_>, event_id: &str, parts: &Parts<'_>, data: Node<'_>) {
    w.extend_from_slice(b"{\"timestamp\": ");
    write_or_null(w, common.timestamp);
    w.extend_from_slice(b", \"event_raw\": \"");
    let start = w.len();
    event(w, system, event_id, parts);
    let end = w.len();
    w.extend_from_slice(b"\", \"body\": \"");
    w.extend_from_within(start..end);
    w.extend_from_slice(
        b"\", \"event_format\": \"windows-xml\", \"event_forward\": true, \"event_parser\": \"wazuh\", \"event_source\": \"soc-agent\", \
          \"data\": ",
    );
    w.extend_from_slice(data.raw());
    w.push(b'}');
}

/// Appends an element with text, or an empty one; the name is ours.
macro_rules! element {
    ($w:expr, $name:literal, $text:expr) => {
        tagged($w, concat!("<", $name), $text, concat!("</", $name, ">"))
    };
}

fn event(w: &mut Vec<u8>, system: &System<'_>, event_id: &str, parts: &Parts<'_>) {
    markup(w, r#"<Event xmlns=\"http://schemas.microsoft.com/win/2004/08/events/event\"><System><Provider"#);
    for (name, key) in [(r#" Name=\""#, Name::ProviderName), (r#" Guid=\""#, Name::ProviderGuid)] {
        if let Some(value) = system.get(key) {
            markup(w, name);
            attribute(w, &value.text());
            markup(w, r#"\""#);
        }
    }
    markup(w, " />");
    element!(w, "EventID", event_id);
    element!(w, "Version", &super::text(system.get(Name::Version)));
    element!(w, "Level", &super::text(system.get(Name::Level)));
    element!(w, "Task", &super::text(system.get(Name::Task)));
    element!(w, "Opcode", &super::text(system.get(Name::Opcode)));
    element!(w, "Keywords", &super::text(system.get(Name::Keywords)));
    markup(w, "<TimeCreated");
    if let Some(time) = system.time() {
        markup(w, r#" SystemTime=\""#);
        attribute(w, &time.text());
        markup(w, r#"\""#);
    }
    markup(w, " />");
    element!(w, "EventRecordID", &super::text(system.get(Name::EventRecordId)));
    markup(w, r#"<Correlation /><Execution ProcessID=\""#);
    attribute(w, &super::text(system.get(Name::ProcessId)));
    markup(w, r#"\" ThreadID=\""#);
    attribute(w, &super::text(system.get(Name::ThreadId)));
    markup(w, r#"\" />"#);
    element!(w, "Channel", &super::text(system.get(Name::Channel)));
    element!(w, "Computer", &super::text(system.get(Name::Computer)));
    markup(w, "<Security /></System>");
    match parts {
        Parts::Shutdown => {
            markup(w, r#"<UserData><ServiceShutdown xmlns=\""#);
            markup(w, EVENT_LOG);
            markup(w, r#"\" /></UserData>"#);
        }
        Parts::Cleared(None) | Parts::Incomplete => {}
        Parts::Cleared(Some(who)) => cleared(w, *who),
        Parts::Data { data, with_address } => event_data(w, *data, *with_address),
    }
    markup(w, "</Event>");
}

fn cleared(w: &mut Vec<u8>, who: Node<'_>) {
    markup(w, r#"<UserData><LogFileCleared xmlns=\""#);
    markup(w, EVENT_LOG);
    if who.is_empty() {
        return markup(w, r#"\" /></UserData>"#);
    }
    markup(w, r#"\">"#);
    for (key, value) in who.distinct() {
        let name = element_name(key);
        tagged(w, &format!("<{name}"), &value.text(), &format!("</{name}>"));
    }
    markup(w, "</LogFileCleared></UserData>");
}

fn event_data(w: &mut Vec<u8>, data: Node<'_>, with_address: bool) {
    let missing = |key| with_address && data.get(key).is_none();
    let added = [("IpAddress", missing("ipAddress")), ("IpPort", missing("ipPort"))];
    if data.is_empty() && !with_address {
        return markup(w, "<EventData />");
    }
    markup(w, "<EventData>");
    for (key, value) in data.distinct() {
        markup(w, r#"<Data Name=\""#);
        let mut letters = key.chars();
        if let Some(first) = letters.next() {
            let mut buffer = [0; 4];
            for upper in first.to_uppercase() {
                attribute(w, upper.encode_utf8(&mut buffer));
            }
        }
        attribute(w, letters.as_str());
        let value = value.text();
        if value.is_empty() {
            markup(w, r#"\" />"#);
        } else {
            markup(w, r#"\">"#);
            content(w, &value);
            markup(w, "</Data>");
        }
    }
    for (name, _) in added.iter().filter(|(_, add)| *add) {
        markup(w, r#"<Data Name=\""#);
        markup(w, name);
        markup(w, r#"\">-</Data>"#);
    }
    markup(w, "</EventData>");
}

/// A member's name as the name of an element: the first letter upper-cased, each character that
/// XML does not allow in a name without a prefix replaced by `_`, and one `_` before a first
/// character that may not be the first.
fn element_name(key: &str) -> String {
    let mut letters = key.chars();
    let upper = letters.next().into_iter().flat_map(char::to_uppercase);
    let mut name: String = upper.chain(letters).map(|c| if may_follow(c) { c } else { '_' }).collect();
    if !name.chars().next().is_some_and(may_begin) {
        name.insert(0, '_');
    }
    name
}

/// XML 1.0 §2.3, `NameStartChar` but the colon, which Namespaces in XML keeps for prefixes.
fn may_begin(c: char) -> bool {
    matches!(c,
        'A'..='Z' | '_' | 'a'..='z' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}' | '\u{370}'..='\u{37d}'
        | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}' | '\u{2c00}'..='\u{2fef}'
        | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}' | '\u{10000}'..='\u{effff}')
}

/// XML 1.0 §2.3, `NameChar` but the colon.
fn may_follow(c: char) -> bool {
    may_begin(c) || matches!(c, '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
}

/// Appends text between the beginning of a tag and its end tag, or an empty element.
fn tagged(w: &mut Vec<u8>, open: &str, text: &str, close: &str) {
    markup(w, open);
    if text.is_empty() {
        return markup(w, " />");
    }
    markup(w, ">");
    content(w, text);
    markup(w, close);
}

/// Appends markup of ours, which is written here as JSON has it: `\"` for a quote.
fn markup(w: &mut Vec<u8>, xml: &str) {
    w.extend_from_slice(xml.as_bytes());
}

/// Appends text between tags.
fn content(w: &mut Vec<u8>, text: &str) {
    escaped::<false>(w, text);
}

/// Appends text inside the quotes of an attribute.
fn attribute(w: &mut Vec<u8>, text: &str) {
    escaped::<true>(w, text);
}

/// True for a byte that XML or JSON wants escaped.
const fn is_special(byte: u8) -> bool {
    (byte < 0x20) | (byte >= 0x80) | (byte == b'"') | (byte == b'\\') | (byte == b'&') | (byte == b'<') | (byte == b'>')
}

/// Bytes up to the first special one; sixteen are looked at in a few vector instructions.
#[inline]
fn plain_run(bytes: &[u8]) -> usize {
    let (chunks, tail) = bytes.as_chunks::<16>();
    let whole = chunks.iter().position(|chunk| chunk.iter().fold(false, |found, byte| found | is_special(*byte)));
    let (from, rest) = match whole.and_then(|n| chunks.get(n).map(|chunk| (n, &chunk[..]))) {
        Some((n, chunk)) => (n * 16, chunk),
        None => (chunks.len() * 16, tail),
    };
    from + rest.iter().position(|byte| SPECIAL.get(usize::from(*byte)).copied().unwrap_or(true)).unwrap_or(rest.len())
}

/// [`is_special`] as a table, for a byte at a time.
static SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[allow(clippy::indexing_slicing, reason = "filled by the compiler")]
        {
            table[byte] = is_special(byte as u8);
        }
        byte += 1;
    }
    table
};

/// Escapes for XML, and the outcome for JSON, in one pass.
fn escaped<const ATTRIBUTE: bool>(w: &mut Vec<u8>, text: &str) {
    let mut rest = text;
    loop {
        let run = plain_run(rest.as_bytes());
        let (plain, special) = rest.split_at_checked(run).unwrap_or((rest, ""));
        w.extend_from_slice(plain.as_bytes());
        let mut chars = special.chars();
        let Some(c) = chars.next() else { return };
        match c {
            '&' => w.extend_from_slice(b"&amp;"),
            '<' => w.extend_from_slice(b"&lt;"),
            '>' => w.extend_from_slice(b"&gt;"),
            '"' if ATTRIBUTE => w.extend_from_slice(b"&quot;"),
            '\r' if ATTRIBUTE => w.extend_from_slice(b"&#13;"),
            '\n' if ATTRIBUTE => w.extend_from_slice(b"&#10;"),
            '\t' if ATTRIBUTE => w.extend_from_slice(b"&#09;"),
            '\r' | '\n' | '\t' => json_body(w, c.encode_utf8(&mut [0; 4])),
            // XML 1.0 §2.2 forbids these even as references.
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => w.extend_from_slice(b"\\ufffd"),
            _ => json_body(w, c.encode_utf8(&mut [0; 4])),
        }
        rest = chars.as_str();
    }
}
