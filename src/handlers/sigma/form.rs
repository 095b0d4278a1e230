//! In which form a record is, what log it comes from, and who it is about.
//!
//! | form | known by | log source |
//! |---|---|---|
//! | `evtx` | object `Event.System` | Windows, by channel and number |
//! | `wazuh` | `rule.id` or `rule.level`, and `agent` or `manager`; a hit of the indexer is unwrapped | with `data.win`: Windows, by channel and number; else Linux, the program as service |
//! | `winlogbeat` | object `winlog` | Windows, by channel and number |
//! | `ecs` | `@timestamp` and one of `event.category`, `event.kind`, `event.module` | `host.os.type`, by category and type |
//! | `zeek` | `uid` and `id.orig_h` | Zeek, `_path` as service, else `conn` |
//! | `other` | any other object | as the config says |

use std::borrow::Cow;

use super::flat::{Flat, Meeting, Scratch};
use crate::{
    alert::{Node, timestamp_ms},
    tables::sigma::{LogSource, WINDOWS, windows},
};

/// The form of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Evtx,
    Wazuh,
    Winlogbeat,
    Ecs,
    Zeek,
    Other,
}

impl Form {
    /// All of them, in the order in which a record is held against them.
    pub const ALL: [Form; 6] = [Form::Evtx, Form::Wazuh, Form::Winlogbeat, Form::Ecs, Form::Zeek, Form::Other];

    /// As the config and facts have it.
    pub fn word(self) -> &'static str {
        match self {
            Form::Evtx => "evtx",
            Form::Wazuh => "wazuh",
            Form::Winlogbeat => "winlogbeat",
            Form::Ecs => "ecs",
            Form::Zeek => "zeek",
            Form::Other => "other",
        }
    }

    /// A member that every record of this form has, as a key of JSON; `None` where there is none.
    pub fn needle(self) -> Option<&'static [u8]> {
        match self {
            Form::Evtx => Some(b"\"System\""),
            Form::Wazuh => Some(b"\"rule\""),
            // `winlog`, and what has it as the beginning of a dotted key.
            Form::Winlogbeat => Some(b"\"winlog"),
            Form::Ecs => Some(b"\"@timestamp\""),
            Form::Zeek => Some(b"\"uid\""),
            Form::Other => None,
        }
    }
}

/// A record that was recognised.
pub struct Seen<'t> {
    pub form: Form,
    pub source: LogSource<'t>,
    /// The record itself; of a hit, what it holds.
    root: Node<'t>,
    /// Of a Wazuh alert with a Windows event, that event.
    win: Option<Node<'t>>,
    /// Number of a Windows event; else 0.
    number: u32,
}

impl<'t> Seen<'t> {
    /// Looks at a record.
    ///
    /// - `other`: what an event is whose form does not say it.
    pub fn of(root: Node<'t>, other: LogSource<'t>) -> Self {
        let root = root.get("_source").filter(|hit| hit.is_object()).unwrap_or(root);
        let seen = |form, source, win, number| Self { form, source, root, win, number };
        if let Some(system) = root.path(&["Event", "System"]).filter(|system| system.is_object()) {
            let number = number_of(system.get("EventID"));
            return seen(Form::Evtx, windows(text_of(system.get("Channel")), number), None, number);
        }
        let rule = root.get("rule");
        if rule.is_some_and(|rule| rule.get("id").or(rule.get("level")).is_some())
            && ["agent", "manager"].iter().any(|name| root.get(name).is_some_and(Node::is_object))
        {
            let Some(win) = root.path(&["data", "win"]).filter(|win| win.is_object()) else {
                let service = text_of(root.path(&["predecoder", "program_name"]));
                let source = if service.is_empty() { other } else { LogSource { product: "linux", service, categories: &[] } };
                return seen(Form::Wazuh, source, None, 0);
            };
            let number = number_of(win.path(&["system", "eventID"]));
            return seen(Form::Wazuh, windows(text_of(win.path(&["system", "channel"])), number), Some(win), number);
        }
        if dotted(root, "winlog.channel").is_some() {
            let number = number_of(dotted(root, "winlog.event_id"));
            return seen(Form::Winlogbeat, windows(text_of(dotted(root, "winlog.channel")), number), None, number);
        }
        if root.get("@timestamp").is_some()
            && ["event.category", "event.kind", "event.module"].iter().any(|name| dotted(root, name).is_some())
        {
            return seen(Form::Ecs, ecs(root, other), None, 0);
        }
        if root.get("uid").and_then(Node::as_str).is_some() && dotted(root, "id.orig_h").is_some() {
            let service = root.get("_path").and_then(Node::as_str).unwrap_or("conn");
            return seen(Form::Zeek, LogSource { product: "zeek", service, categories: &[] }, None, 0);
        }
        seen(Form::Other, other, None, 0)
    }

    /// Its fields.
    pub fn fields<'s>(&self, scratch: &'s mut Scratch) -> Flat<'t, 's> {
        let mut flat = Flat::new(scratch, 64);
        match (self.form, self.win) {
            (Form::Evtx, _) => self.evtx(&mut flat),
            (Form::Wazuh, Some(win)) => wazuh_windows(win, &mut flat),
            (Form::Wazuh, None) => {
                // What the decoder took out of the line has the line's own names; `full_log` is there for words.
                if let Some(fields) = self.root.get("data") {
                    flat.add(fields, "", Meeting::Last);
                    if let Some(audit) = fields.get("audit") {
                        flat.add(audit, "", Meeting::First);
                    }
                }
                flat.add(self.root, "", Meeting::First);
            }
            (Form::Winlogbeat, _) => {
                flat.add(self.root, "", Meeting::Last);
                if let Some(fields) = dotted(self.root, "winlog.event_data") {
                    flat.add(fields, "", Meeting::First);
                }
                for (name, path) in WINLOG {
                    if let Some(value) = dotted(self.root, path) {
                        flat.put_node(name, value, Meeting::First);
                    }
                }
            }
            _ => flat.add(self.root, "", Meeting::Last),
        }
        flat
    }

    fn evtx(&self, flat: &mut Flat<'t, '_>) {
        let Some(event) = self.root.get("Event") else { return };
        if let Some(fields) = event.get("EventData") {
            event_data(fields, flat);
        }
        // One object whose name the provider chose, with the fields inside.
        for (_, fields) in event.get("UserData").into_iter().flat_map(Node::members) {
            flat.add(fields, "", Meeting::First);
        }
        for (name, value) in event.get("System").into_iter().flat_map(Node::members) {
            // A number with qualifiers is an object with the number as its text.
            flat.put_node(name, value.get("#text").unwrap_or(value), Meeting::First);
            if name == "Provider"
                && let Some(provider) = value.path(&["#attributes", "Name"]).or(value.get("@Name")).or(value.get("Name"))
            {
                flat.put_node("Provider_Name", provider, Meeting::First);
            }
        }
    }

    /// Who it is about, and what that is.
    pub fn entity(&self) -> (Cow<'t, str>, &'static str) {
        let first = |paths: &[&str]| {
            let texts = paths.iter().filter_map(|path| dotted(self.root, path)).map(first_of).map(Node::text);
            texts.into_iter().find(|text| !text.is_empty())
        };
        let (found, kind) = match self.form {
            Form::Evtx => (first(&["Event.System.Computer"]), "host"),
            Form::Wazuh => (first(&["agent.name", "agent.id", "manager.name"]), "host"),
            Form::Winlogbeat | Form::Ecs => {
                (first(&["host.name", "host.hostname", "winlog.computer_name", "agent.hostname", "agent.name", "source.ip"]), "host")
            }
            Form::Zeek => (first(&["id.orig_h"]), "network"),
            Form::Other => (first(&["entity", "host"]), "host"),
        };
        (found.unwrap_or(Cow::Borrowed("unknown_entity")), kind)
    }

    /// When it was, milliseconds since 1970; `None` if it does not say.
    pub fn time_ms(&self) -> Option<i64> {
        let paths: &[&str] = match self.form {
            Form::Evtx => &[
                "Event.System.TimeCreated.#attributes.SystemTime",
                "Event.System.TimeCreated.@SystemTime",
                "Event.System.TimeCreated.SystemTime",
                "Event.System.TimeCreated",
            ],
            Form::Wazuh => &["timestamp", "@timestamp"],
            Form::Zeek => &["ts"],
            _ => &["@timestamp", "timestamp"],
        };
        paths.iter().filter_map(|path| dotted(self.root, path)).find_map(time_of)
    }

    /// The agent of a Wazuh alert.
    pub fn agent_id(&self) -> Cow<'t, str> {
        match self.form {
            Form::Wazuh => self.root.path(&["agent", "id"]).map(Node::text).unwrap_or_default(),
            _ => Cow::Borrowed(""),
        }
    }

    /// What happened, in the words that alerts have for it.
    pub fn event_type(&self) -> &'t str {
        let category = self.source.categories.first().copied().unwrap_or_default();
        match (category, self.source.service, self.number) {
            ("process_creation" | "process_termination" | "process_access" | "process_tampering" | "create_remote_thread", ..) => "process",
            ("network_connection", ..) | (_, "conn", _) => "network_connection",
            ("dns_query", ..) | (_, "dns", _) => "dns_query",
            (category, ..) if category.starts_with("file_") || category == "create_stream_hash" => "file",
            (category, ..) if category.starts_with("registry_") => "registry",
            (_, "security", 4624 | 4625 | 4634 | 4647 | 4648) => "authentication",
            (_, "security", 4697) | (_, "system", 7045) => "service",
            ("", service, _) if !service.is_empty() => service,
            ("", ..) => "event",
            (category, ..) => category,
        }
    }
}

/// What rules call fields of `winlog` that are no event data.
const WINLOG: [(&str, &str); 6] = [
    ("EventID", "winlog.event_id"),
    ("Channel", "winlog.channel"),
    ("Computer", "winlog.computer_name"),
    ("Provider_Name", "winlog.provider_name"),
    ("Task", "winlog.task"),
    ("Message", "message"),
];

/// The data of an event: members by name, or a list of texts with names, or of texts alone.
fn event_data<'t>(fields: Node<'t>, flat: &mut Flat<'t, '_>) {
    for (name, value) in fields.members() {
        if name == "#attributes" {
            continue;
        }
        for element in value.elements() {
            let own = element.path(&["#attributes", "Name"]).or(element.get("@Name")).and_then(Node::as_str);
            if let (Some(own), Some(text)) = (own, element.get("#text")) {
                flat.put_node(own, text, Meeting::Last);
            }
        }
        flat.put_node(name, value.get("#text").unwrap_or(value), Meeting::Last);
    }
}

/// A Windows event in a Wazuh alert: names with a small first letter, texts with too many escapes.
fn wazuh_windows<'t>(win: Node<'t>, flat: &mut Flat<'t, '_>) {
    for (name, value) in win.get("eventdata").into_iter().flat_map(Node::members) {
        flat.put_mended(name, value, Meeting::Last);
    }
    for (name, value) in win.get("system").into_iter().flat_map(Node::members) {
        let name = if name == "providerName" { "Provider_Name" } else { name };
        flat.put_mended(name, value, Meeting::First);
    }
}

/// The log source of an ECS document: its system, and the category of Sysmon that has the same events.
fn ecs<'t>(root: Node<'t>, other: LogSource<'t>) -> LogSource<'t> {
    let product = dotted(root, "host.os.type").and_then(Node::as_str).unwrap_or(other.product);
    let is = |path: &str, word: &str| {
        dotted(root, path).is_some_and(|value| value.as_str() == Some(word) || value.elements().any(|one| one.as_str() == Some(word)))
    };
    let categories: &[&str] = if is("event.category", "process") {
        if is("event.type", "end") { &["process_termination"] } else { &["process_creation"] }
    } else if is("event.category", "file") {
        if is("event.type", "deletion") { &["file_delete"] } else { &["file_event"] }
    } else if is("event.category", "registry") {
        &["registry_set", "registry_event"]
    } else if is("event.category", "library") {
        &["image_load"]
    } else if is("event.category", "driver") {
        &["driver_load"]
    } else if dotted(root, "dns.question.name").is_some() {
        &["dns_query", "dns"]
    } else if is("event.category", "network") {
        &["network_connection", "firewall"]
    } else if is("event.category", "web") {
        &["webserver", "proxy"]
    } else {
        other.categories
    };
    let service = dotted(root, "event.module").or(dotted(root, "event.dataset")).and_then(Node::as_str).unwrap_or(other.service);
    // A service of Windows is told by its channel, which is not here.
    let service = if product == WINDOWS { "" } else { service };
    LogSource { product, service, categories }
}

/// A member by its path, each name an object, or the whole path one key.
fn dotted<'t>(root: Node<'t>, path: &str) -> Option<Node<'t>> {
    let nested = path.split('.').try_fold(root, |node, name| node.get(name));
    nested.or_else(|| if path.contains('.') { root.get(path) } else { None })
}

/// The first of a list, or the value itself.
fn first_of(node: Node<'_>) -> Node<'_> {
    node.elements().next().unwrap_or(node)
}

fn text_of(node: Option<Node<'_>>) -> &str {
    node.and_then(|node| node.get("#text").unwrap_or(node).as_str()).unwrap_or_default()
}

fn number_of(node: Option<Node<'_>>) -> u32 {
    node.and_then(|node| node.get("#text").unwrap_or(node).as_u64()).and_then(|number| number.try_into().ok()).unwrap_or(0)
}

/// A time as text, or as seconds or milliseconds since 1970.
fn time_of(node: Node<'_>) -> Option<i64> {
    if let Some(ms) = node.as_str().and_then(timestamp_ms) {
        return Some(ms);
    }
    let number = node.as_f64()?;
    let ms = if number > 1e11 { number } else { number * 1000.0 };
    (0.0..1e15).contains(&ms).then(|| ms.round() as i64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::{
        alert::Parser,
        tables::sigma::{Fields, Value},
    };

    fn check(json: &str, then: impl FnOnce(&Seen<'_>, &dyn Fields)) {
        let mut parser = Parser::new();
        let mut alert = parser.alert(json.as_bytes());
        let other = LogSource { product: "linux", service: "app", categories: &[] };
        let seen = Seen::of(alert.root().unwrap(), other);
        let mut scratch = Scratch::default();
        let fields = seen.fields(&mut scratch);
        then(&seen, &fields);
    }

    fn is(fields: &dyn Fields, name: &str, text: &str) -> bool {
        fields.get(name) == Some(Value::Text(text.into()))
    }

    #[test]
    fn a_windows_event_is_itself() {
        let json = r##"{"Event":{"System":{"Provider":{"#attributes":{"Name":"Service Control Manager"}},"EventID":{"#attributes":{"Qualifiers":16384},"#text":7045},
            "Channel":"System","Computer":"pc-1","TimeCreated":{"#attributes":{"SystemTime":"2025-11-26T05:11:27.927693Z"}}},
            "EventData":{"#attributes":{"Name":"x"},"ServiceName":"evil","Data":[{"#attributes":{"Name":"Named"},"#text":"value"}]}}}"##;
        check(json, |seen, fields| {
            assert_eq!((seen.form, seen.source), (Form::Evtx, windows("System", 7045)));
            assert_eq!((seen.entity(), seen.event_type()), (("pc-1".into(), "host"), "service"));
            assert_eq!(seen.time_ms(), Some(1_764_133_887_927));
            assert_eq!(fields.get("EventID"), Some(Value::Whole(7045)));
            assert!(
                is(fields, "Provider_Name", "Service Control Manager") && is(fields, "ServiceName", "evil") && is(fields, "Named", "value")
            );
        });
    }

    #[test]
    fn a_wazuh_alert_holds_the_event_with_its_own_names() {
        let json = r#"{"_index":"x","_source":{"timestamp":"2026-01-14T00:01:33.293+0100","rule":{"level":3,"id":"92000"},"agent":{"id":"001","name":"pc-1"},
            "data":{"win":{"system":{"providerName":"Microsoft-Windows-Sysmon","eventID":"1","channel":"Microsoft-Windows-Sysmon/Operational","computer":"pc-1"},
            "eventdata":{"commandLine":"\\\"C:\\\\Windows\\\\cmd.exe\\\" /c dir","image":"C:\\\\Windows\\\\cmd.exe"}}}}}"#;
        check(json, |seen, fields| {
            assert_eq!((seen.form, seen.source.service, seen.source.categories), (Form::Wazuh, "sysmon", &["process_creation"][..]));
            assert_eq!((seen.entity().0, seen.agent_id(), seen.event_type()), ("pc-1".into(), "001".into(), "process"));
            assert!(is(fields, "CommandLine", r#""C:\Windows\cmd.exe" /c dir"#) && is(fields, "Image", r"C:\Windows\cmd.exe"));
            assert!(is(fields, "EventID", "1") && is(fields, "Provider_Name", "Microsoft-Windows-Sysmon"));
        });
        let json = r#"{"timestamp":"2026-01-14T00:01:33.293+0100","rule":{"level":5,"id":"5710"},"manager":{"name":"m"},"full_log":"Invalid user x",
            "predecoder":{"program_name":"sshd"},"data":{"srcuser":"x","audit":{"exe":"/bin/sh"}}}"#;
        check(json, |seen, fields| {
            assert_eq!(seen.source, LogSource { product: "linux", service: "sshd", categories: &[] });
            assert!(is(fields, "srcuser", "x") && is(fields, "exe", "/bin/sh") && fields.any_text(&|text| text.contains("Invalid user")));
        });
    }

    #[test]
    fn other_forms_are_known_by_their_members() {
        check(
            r#"{"@timestamp":"2026-01-14T00:01:33.293Z","winlog":{"channel":"Security","event_id":"4688","event_data":{"NewProcessName":"a.exe"},"computer_name":"w"}}"#,
            |seen, fields| {
                assert_eq!((seen.form, seen.source.categories), (Form::Winlogbeat, &["process_creation"][..]));
                assert!(is(fields, "Image", "a.exe") && is(fields, "Channel", "Security"));
                assert_eq!(seen.entity().0, "w");
            },
        );
        check(
            r#"{"@timestamp":"2026-01-14T00:01:33.293Z","event":{"category":["process"],"type":["start"]},"host":{"os":{"type":"windows"},"name":"h"},"process.command_line":"x y"}"#,
            |seen, fields| {
                assert_eq!((seen.form, seen.source.product, seen.source.categories), (Form::Ecs, "windows", &["process_creation"][..]));
                assert!(is(fields, "CommandLine", "x y"));
            },
        );
        check(r#"{"ts":1547188415.857497,"uid":"C","id.orig_h":"10.0.0.1","id.resp_p":53,"service":"dns"}"#, |seen, fields| {
            assert_eq!((seen.form, seen.source.product, seen.source.service), (Form::Zeek, "zeek", "conn"));
            assert_eq!((seen.entity(), seen.time_ms()), (("10.0.0.1".into(), "network"), Some(1_547_188_415_857)));
            assert_eq!(fields.get("id.resp_p"), Some(Value::Whole(53)));
        });
        check(r#"{"a":{"b":1},"entity":"e"}"#, |seen, fields| {
            assert_eq!((seen.form, seen.source.product, seen.entity().0), (Form::Other, "linux", "e".into()));
            assert_eq!((fields.get("a.b"), seen.time_ms()), (Some(Value::Whole(1)), None));
        });
    }

    #[test]
    fn every_form_has_what_it_is_looked_for_by() {
        for form in Form::ALL {
            assert_eq!(form.needle().is_none(), form == Form::Other);
        }
    }
}
