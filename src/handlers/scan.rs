//! `scan`: alerts of scanned files into messages.
//!
//! The first output is the alert as the store has it. Output `wazuh` is one line of the form that the public decoders of YARA's
//! active response know, for sink `wazuh_queue`:
//!
//! ```text
//! 1:yara:wazuh-yara: INFO - Scan result: eicar_exact extract-1577836800.1-HTTP-FSn2xY1
//! ```
//!
//! Output `monitor` is what the watch over scanning has to say. A file's name is text of strangers: in the line it has no blank,
//! no control character and no byte beyond printable ASCII.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use super::{Fate, Handler, Kind, Needles, Output, Record, Rejection, Spec};
use crate::{
    alert::{Alert, Node},
    batch::Outbox,
    register::{Field, Section, Type},
    tables::Shelf,
};

/// The kind.
pub struct Scan;

const ALERT: usize = 0;
const WAZUH: usize = 1;
const MONITOR: usize = 2;

static FIELDS: &[Field] = &[
    Field::new("severity", Type::Int { min: 0, max: 10 }, "0", "Least severity of a rule, 0 to 10, whose match is told."),
    Field::new(
        "location",
        Type::Text,
        "\"yara\"",
        "Location of the lines in the Wazuh manager's queue: letters, digits, \"_\", \"-\" and \".\".",
    ),
];

impl Kind for Scan {
    fn name(&self) -> &'static str {
        "scan"
    }
    fn about(&self) -> &'static str {
        "alerts of scanned files: as JSON, as lines for Wazuh, and what the watch over scanning says"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn outputs(&self) -> &'static [Output] {
        &[Output { name: "alert", after: None }, Output { name: "wazuh", after: None }, Output { name: "monitor", after: None }]
    }
    fn needs_primary(&self) -> bool {
        false
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        let location = section.text("location");
        if location.is_empty() || !location.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) {
            section.wrong("location", "is no location; use letters, digits, \"_\", \"-\" and \".\"");
        }
        Box::new(Settings { severity: u64::try_from(section.int("severity")).unwrap_or(0), location })
    }
}

#[derive(Clone, Debug)]
struct Settings {
    severity: u64,
    location: String,
}

impl Spec for Settings {
    fn build(&self, _tables: &Shelf) -> Box<dyn Handler> {
        Box::new(self.clone())
    }
}

impl Handler for Settings {
    fn needles(&self) -> Needles {
        Needles::All
    }

    fn handle(&mut self, record: &Record<'_>, alert: &mut Alert<'_>, out: &mut Outbox<'_>) -> Fate {
        let root = match alert.root() {
            Ok(root) => root,
            Err(error) => return Fate::Rejected(Rejection { reason: "not_json", detail: error.to_string() }),
        };
        if let Some(told) = root.get("monitor_alert") {
            // As below: it is fired once and resolved once.
            let text = |key| told.get(key).map(Node::text).unwrap_or_default();
            let key = format!("{}/{}", text("alert_id"), text("state"));
            out.message(MONITOR).key(key.as_bytes()).frame(0..record.frame.len());
            return Fate::Emitted;
        }
        let Some(rule) = root.get("rule_name").map(Node::text) else { return Fate::Dropped("no_alert") };
        if root.get("severity").and_then(Node::as_u64).unwrap_or(0) < self.severity {
            return Fate::Dropped("severity");
        }
        let text = |key| root.get(key).map(Node::text).unwrap_or_default();
        let (task, namespace, path) = (text("task_id"), text("rule_namespace"), text("file_path"));
        // The key is the same whenever the alert is sent again: who reads it can drop the repeat.
        let key = format!("{task}/{namespace}:{rule}");
        out.message(ALERT).key(key.as_bytes()).header("content-type", b"application/json").frame(0..record.frame.len());
        out.message(WAZUH).key(key.as_bytes()).payload(|w| {
            w.extend_from_slice(format!("1:{}:wazuh-yara: INFO - Scan result: ", self.location).as_bytes());
            escape(w, &rule);
            w.push(b' ');
            escape(w, &path);
        });
        Fate::Emitted
    }
}

/// Text of strangers in a line of words: printable ASCII stands for itself, but for the backslash; all else is `\xNN`.
fn escape(w: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'\\' => w.extend_from_slice(b"\\\\"),
            b'!'..=b'~' => w.push(byte),
            _ => w.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::{
        alert::Parser,
        batch::{Draft, Place},
        io::Slab,
        position::{Origin, Position},
    };

    /// What becomes of a record: its fate, and of each message the output, the key and the payload.
    fn handled(settings: &Settings, frame: &[u8]) -> (Fate, Vec<(u8, String, String)>) {
        let mut handler = settings.build(&Shelf::default());
        let mut parser = Parser::new();
        let mut alert = parser.alert(frame);
        let origin = Origin { stream: "scan/m/scan/alerts", offset: 7, len: None };
        let mut draft = Draft::new(Slab::from_bytes(frame.to_vec()));
        let place = Place { start: 0, len: u32::try_from(frame.len()).unwrap() };
        let fate = {
            let (_, mut out) = draft.outbox(place, 0, &[Some(0), Some(1), Some(2)], origin);
            handler.handle(&Record { frame, origin, received: 0, own: false }, &mut alert, &mut out)
        };
        let batch = draft.finish(0, Position::Count(7), 0);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let messages = batch.numbers().map(|n| batch.message(n)).map(|m| (m.output, text(m.key.unwrap_or_default()), text(m.payload)));
        (fate, messages.collect())
    }

    fn settings(severity: u64) -> Settings {
        Settings { severity, location: "yara".into() }
    }

    #[test]
    fn an_alert_goes_out_as_it_is_and_as_a_line() {
        let frame =
            br#"{"id":7,"task_id":"t-1","rule_name":"eicar","rule_namespace":"own/10","severity":3,"file_path":"a b\nc\u00e4\\.txt"}"#;
        let (fate, messages) = handled(&settings(3), frame);
        assert_eq!(fate, Fate::Emitted);
        let key = "t-1/own/10:eicar".to_owned();
        let line = "1:yara:wazuh-yara: INFO - Scan result: eicar a\\x20b\\x0ac\\xc3\\xa4\\\\.txt".to_owned();
        assert_eq!(messages, [(0, key.clone(), String::from_utf8(frame.to_vec()).unwrap()), (1, key, line)]);
        assert_eq!(handled(&settings(4), frame), (Fate::Dropped("severity"), vec![]));
    }

    #[test]
    fn what_the_watch_says_has_an_output_of_its_own() {
        let frame = br#"{"monitor_alert":{"alert_id":"alert_1_1","state":"fired"}}"#;
        let message = (2, "alert_1_1/fired".to_owned(), String::from_utf8(frame.to_vec()).unwrap());
        assert_eq!(handled(&settings(9), frame), (Fate::Emitted, vec![message]));
        assert_eq!(handled(&settings(0), b"{}").0, Fate::Dropped("no_alert"));
        assert!(matches!(handled(&settings(0), b"{").0, Fate::Rejected(_)));
    }
}
