//! Records for the manager's queue: confirmations, and what became of ourselves.
//!
//! A record is one datagram, `1:LOCATION:JSON`; the manager makes an event of it. It cuts what
//! is longer than 65,535 bytes, and cut JSON is none, so a record that would be longer is
//! written shorter and says so (`"truncated": true`).

use std::borrow::Cow;

use super::{Common, text};
use crate::alert::{Kind, Node, json_body, json_str};

/// How records are written.
#[derive(Clone, Debug)]
pub(super) struct Form {
    /// Name of the integration; short, of letters, digits, dots, dashes and underscores.
    pub(super) integration: String,
    /// Bytes of a record; at least 1024.
    pub(super) max_bytes: usize,
}

/// What is confirmed.
pub(super) enum About<'a, 't> {
    Syslog,
    Windows { event_id: &'a str, time: Option<Node<'t>> },
}

/// Bytes of a time that is kept where a record must be cut.
const TIME_BYTES: usize = 64;

/// True for what counts as nothing: null, false, zero, empty.
pub(super) fn is_nothing(node: Node<'_>) -> bool {
    match node.kind() {
        Kind::Null => true,
        Kind::Bool => node.as_bool() == Some(false),
        Kind::Number => node.as_f64() == Some(0.0),
        Kind::String => node.as_str() == Some(""),
        Kind::Array | Kind::Object => node.is_empty(),
    }
}

/// True for an event of our own that the manager should hear of.
pub(super) fn tells(root: Node<'_>) -> bool {
    matches!(own_kind(root), "start" | "reconnect" | "error" | "recovered")
}

fn own_kind(root: Node<'_>) -> &str {
    root.path(&["shipper", "event"]).and_then(Node::as_str).unwrap_or_default()
}

impl Form {
    /// Appends the confirmation of a message.
    pub(super) fn confirmation(&self, w: &mut Vec<u8>, common: &Common<'_>, about: &About<'_, '_>) {
        let start = w.len();
        let name = text(common.agent_name);
        self.whole(w, common, &name, &common.id, about, Cut::Nothing);
        if w.len() - start <= self.max_bytes {
            return;
        }
        // First the name, which stands there twice; it gets what the rest leaves.
        w.truncate(start);
        self.whole(w, common, "", &common.id, about, Cut::Name);
        let left = self.max_bytes.saturating_sub(w.len() - start);
        if w.len() - start <= self.max_bytes {
            w.truncate(start);
            let kept = kept(&name, left, |c| in_location(c) + in_json(c));
            self.whole(w, common, kept, &common.id, about, Cut::Name);
            return;
        }
        // Then the location, the times, and at last the id itself.
        w.truncate(start);
        let id = kept(&common.id, self.max_bytes / 2, in_json);
        self.whole(w, common, "", id, about, Cut::All);
        let left = self.max_bytes.saturating_sub(w.len() - start);
        let name = kept(&name, left, in_json);
        w.truncate(start);
        self.whole(w, common, name, id, about, Cut::All);
    }

    fn whole(&self, w: &mut Vec<u8>, common: &Common<'_>, name: &str, id: &str, about: &About<'_, '_>, cut: Cut) {
        w.extend_from_slice(b"1:");
        let named = |node: Option<Node<'_>>| node.is_some_and(|node| !is_nothing(node));
        if named(common.agent_id) && named(common.agent_name) && cut != Cut::All {
            location(w, "[");
            location(w, &text(common.agent_id));
            location(w, "] (");
            location(w, name);
            location(w, ") ");
            location(w, &common.agent_ip.filter(|ip| !is_nothing(*ip)).map_or(Cow::Borrowed("any"), Node::text));
            w.extend_from_slice(b"->");
        }
        self.begin(w);
        w.extend_from_slice(b"\"integration\": ");
        json_str(w, &self.integration);
        w.extend_from_slice(b", \"alert_id\": ");
        json_str(w, id);
        w.extend_from_slice(b", \"agent_name\": ");
        json_str(w, name);
        w.extend_from_slice(b", \"dfn\": {\"event_format\": ");
        let time = |w: &mut Vec<u8>, node: Option<Node<'_>>| match node {
            Some(node) if cut == Cut::All => match node.as_str() {
                Some(time) => json_str(w, kept(time, TIME_BYTES, in_json)),
                None if node.raw().len() <= TIME_BYTES => node.write_json(w),
                None => w.extend_from_slice(b"null"),
            },
            node => super::write_or_null(w, node),
        };
        match about {
            About::Syslog => w.extend_from_slice(b"\"syslog5424-json\", \"event_id\": null, \"win_timestamp\": null"),
            About::Windows { event_id, time: created } => {
                w.extend_from_slice(b"\"windows-xml\", \"event_id\": ");
                json_str(w, event_id);
                w.extend_from_slice(b", \"win_timestamp\": ");
                time(w, *created);
            }
        }
        w.extend_from_slice(b", \"wz_timestamp\": ");
        time(w, common.timestamp);
        w.extend_from_slice(if cut == Cut::Nothing { b"}}" } else { b"}, \"truncated\": true}" });
    }

    /// Appends the record that says that an alert came without its `eventdata`.
    pub(super) fn incomplete(&self, w: &mut Vec<u8>, common: &Common<'_>) {
        let text = format!(
            "Incomplete Windows alert. No eventdata found. alert_id: {}, agent_id: {}, agent_name: {}",
            common.id,
            text(common.agent_id),
            text(common.agent_name)
        );
        self.error(w, &text);
    }

    /// Appends the record for an event of our own.
    pub(super) fn own_event(&self, w: &mut Vec<u8>, root: Node<'_>) {
        let kind = own_kind(root);
        let description = text(root.path(&["shipper", "description"]));
        let at = text(root.get("timestamp"));
        match kind {
            "error" => self.error(w, &description),
            "recovered" => self.plain(w, &description, root.path(&["shipper", "held"]).and_then(Node::as_u64)),
            _ => {
                let what = if kind == "reconnect" { "reconnect" } else { "startup" };
                self.plain(w, &format!("Wazuh service {what} at {at}"), None);
            }
        }
    }

    fn plain(&self, w: &mut Vec<u8>, description: &str, held: Option<u64>) {
        w.extend_from_slice(b"1:");
        self.begin(w);
        w.extend_from_slice(b"\"integration\": ");
        json_str(w, &self.integration);
        w.extend_from_slice(b", \"description\": \"");
        json_body(w, kept(description, self.max_bytes - 512, in_json));
        w.push(b'"');
        if let Some(held) = held {
            w.extend_from_slice(format!(", \"held\": {held}").as_bytes());
        }
        w.push(b'}');
    }

    fn error(&self, w: &mut Vec<u8>, description: &str) {
        w.extend_from_slice(b"1:");
        self.begin(w);
        w.extend_from_slice(b"\"error\": 503, \"description\": \"");
        json_body(w, kept(description, self.max_bytes - 512, in_json));
        w.extend_from_slice(b"\", \"integration\": ");
        json_str(w, &self.integration);
        w.push(b'}');
    }

    /// Appends the end of the location and the opening brace.
    fn begin(&self, w: &mut Vec<u8>) {
        w.extend_from_slice(self.integration.as_bytes());
        w.extend_from_slice(b":{");
    }
}

/// How much of a confirmation is cut.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Nothing,
    Name,
    All,
}

/// Appends a part of the location: `|` doubled, a `|` before each `:`.
fn location(w: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(n) = memchr::memchr2(b'|', b':', rest) {
        let (plain, special) = rest.split_at_checked(n).unwrap_or((rest, &[]));
        w.extend_from_slice(plain);
        w.push(b'|');
        let Some((first, after)) = special.split_first() else { return };
        w.push(*first);
        rest = after;
    }
    w.extend_from_slice(rest);
}

/// As much of the beginning of `text` as costs no more than `budget` bytes.
fn kept(text: &str, budget: usize, cost: impl Fn(char) -> usize) -> &str {
    let mut spent = 0;
    for (at, c) in text.char_indices() {
        spent += cost(c);
        if spent > budget {
            return text.get(..at).unwrap_or_default();
        }
    }
    text
}

/// Bytes of a character in the location.
fn in_location(c: char) -> usize {
    if matches!(c, '|' | ':') { 2 } else { c.len_utf8() }
}

/// Bytes of a character in the JSON, at most.
fn in_json(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        ' '..='\u{7f}' => 1,
        _ => 6 * c.len_utf16(),
    }
}
