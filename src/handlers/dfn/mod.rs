//! `dfn`: fail2ban and Windows alerts, as the DFN's receivers parse them, and the confirmation
//! that goes back into the manager.
//!
//! | an alert with | becomes, on the primary output |
//! |---|---|
//! | `data.win.system.eventID` in `event_ids` | the event's XML (`windows`) |
//! | `data.program_name` in `programs`, a rule group in `groups`, and `data.srcip` | a line of syslog (`syslog`) |
//!
//! One alert may be both. What has been delivered is confirmed on `confirm` with a record for
//! the manager's queue (`confirm`). Nothing of an alert is trusted to be of its usual type: a
//! number, a list or a missing member is written as best it can be, and sent.
//!
//! An alert that the manager made of one of our own records (`data.integration`) is never sent.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

mod confirm;
mod networks;
mod syslog;
mod windows;

use std::borrow::Cow;

use super::{Fate, Handler, Kind, Needles, Output, Record, Rejection, Spec};
use crate::{
    alert::{Alert, Node, json_str, timestamp_ms},
    batch::{Outbox, Writing},
    register::{Field, Section, Type},
    tables::Shelf,
};
use networks::Networks;

/// The kind.
pub struct Dfn;

const PRIMARY: usize = 0;
const CONFIRM: usize = 1;

const EVENT_IDS: &str = "[1100, 1102, 3697, 4625, 4672, 4697, 4698, 4702, 4719, 4720, 4724, 4794, 4964]";

static FIELDS: &[Field] = &[
    Field::new("event_ids", Type::Texts, EVENT_IDS, "Windows events to ship, by `data.win.system.eventID`; an empty list ships none."),
    Field::new("programs", Type::Texts, "[\"fail2ban.actions\"]", "Values of `data.program_name` that a fail2ban alert may have."),
    Field::new("groups", Type::Texts, "[\"fail2ban\"]", "Rule groups of which a fail2ban alert must have one."),
    Field::new(
        "own_networks",
        Type::Texts,
        "[]",
        "Networks of ours, IPv4 or IPv6, such as \"136.199.0.0/16\". If set, bans of addresses in them, and of addresses that are not \
         reachable from the Internet, are not shipped.",
    ),
    Field::new(
        "drop_private",
        Type::Bool,
        "false",
        "Drops bans of addresses that are not reachable from the Internet, with or without `own_networks`.",
    ),
    Field::new(
        "syslog",
        Type::Choice(&["upstream", "rfc5424"]),
        "\"upstream\"",
        "Form of the fail2ban text: as the DFN's receivers parse it, or a true RFC 5424 line.",
    ),
    Field::new(
        "key",
        Type::Choice(&["none", "agent.id"]),
        "\"none\"",
        "Kafka key: none, or the agent's id, which keeps each agent's messages in order.",
    ),
    Field::new(
        "headers",
        Type::Choice(&["all", "origin"]),
        "\"all\"",
        "Kafka headers: shipper-origin alone, or also alert-id, agent-id and content-type.",
    ),
    Field::new(
        "confirm.integration",
        Type::Text,
        "\"dfn\"",
        "Name of the integration in confirmations; an alert whose `data.integration` is this name is never shipped.",
    ),
    Field::new(
        "confirm.max_bytes",
        Type::Bytes,
        "65535",
        "Bytes of a confirmation, from 1024 to 65535: the manager cuts what is longer, so ours is cut first and says so.",
    ),
];

impl Kind for Dfn {
    fn name(&self) -> &'static str {
        "dfn"
    }
    fn about(&self) -> &'static str {
        "fail2ban and Windows alerts for the DFN, confirmed into the manager"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn outputs(&self) -> &'static [Output] {
        &[Output { name: "", after: None }, Output { name: "confirm", after: Some(PRIMARY) }]
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        let networks = Networks::parse(&section.texts("own_networks"), section.bool("drop_private")).unwrap_or_else(|wrong| {
            section.wrong("own_networks", wrong);
            Networks::default()
        });
        let integration = section.text("confirm.integration");
        if integration.is_empty()
            || integration.len() > 64
            || !integration.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        {
            section.wrong("confirm.integration", "is no name; use 1 to 64 letters, digits, dots, dashes and underscores");
        }
        let max_bytes = section.bytes("confirm.max_bytes");
        if !(1024..=65_535).contains(&max_bytes) {
            section.wrong("confirm.max_bytes", format!("{max_bytes} is out of range; use 1024 to 65535, beyond which the manager cuts"));
        }
        Box::new(Settings {
            event_ids: section.texts("event_ids"),
            programs: section.texts("programs"),
            groups: section.texts("groups"),
            networks,
            rfc5424: section.choice("syslog") == "rfc5424",
            keyed: section.choice("key") == "agent.id",
            all_headers: section.choice("headers") == "all",
            confirm: confirm::Form { integration, max_bytes: usize::try_from(max_bytes).unwrap_or(usize::MAX).clamp(1024, 65_535) },
        })
    }
}

/// Settings of one `dfn` handler.
#[derive(Clone, Debug)]
struct Settings {
    event_ids: Vec<String>,
    programs: Vec<String>,
    groups: Vec<String>,
    networks: Networks,
    rfc5424: bool,
    keyed: bool,
    all_headers: bool,
    confirm: confirm::Form,
}

impl Spec for Settings {
    fn build(&self, _tables: &Shelf) -> Box<dyn Handler> {
        Box::new(self.clone())
    }
}

/// What of an alert both of its messages carry.
pub(super) struct Common<'t> {
    timestamp: Option<Node<'t>>,
    id: Cow<'t, str>,
    agent_id: Option<Node<'t>>,
    agent_name: Option<Node<'t>>,
    agent_ip: Option<Node<'t>>,
}

impl<'t> Common<'t> {
    fn of(root: Node<'t>) -> Self {
        let agent = root.get("agent");
        let of_agent = |key| agent.and_then(|agent| agent.get(key));
        Self {
            timestamp: root.get("timestamp"),
            id: text(root.get("id")),
            agent_id: of_agent("id"),
            agent_name: of_agent("name"),
            agent_ip: of_agent("ip"),
        }
    }
}

/// A value as text; nothing where there is none.
fn text(node: Option<Node<'_>>) -> Cow<'_, str> {
    node.map(Node::text).unwrap_or_default()
}

/// Appends a value as JSON, `null` where there is none.
fn write_or_null(w: &mut Vec<u8>, node: Option<Node<'_>>) {
    match node {
        Some(node) => node.write_json(w),
        None => w.extend_from_slice(b"null"),
    }
}

/// A Windows alert that is selected.
struct Windows<'t> {
    data: Node<'t>,
    win: Node<'t>,
    system: windows::System<'t>,
    event_id: Cow<'t, str>,
}

/// A fail2ban alert that is selected.
struct Ban<'t> {
    root: Node<'t>,
    data: Node<'t>,
    program: &'t str,
}

/// What an alert is, and why it is not the other.
struct Selection<'t> {
    windows: Option<Windows<'t>>,
    ban: Result<Ban<'t>, &'static str>,
}

impl Settings {
    /// Decides by the alert alone.
    fn select<'t>(&self, root: Node<'t>) -> Selection<'t> {
        let none = |why| Selection { windows: None, ban: Err(why) };
        let Some(data) = root.get("data").filter(|data| data.is_object()) else { return none("unwanted") };
        if data.get("integration").and_then(Node::as_str) == Some(&*self.confirm.integration) {
            return none("own_integration");
        }
        Selection { windows: self.windows(data), ban: self.ban(root, data) }
    }

    fn windows<'t>(&self, data: Node<'t>) -> Option<Windows<'t>> {
        let win = data.get("win")?;
        let system = windows::System::of(win.get("system")?);
        let event_id = system.event_id()?.text();
        self.event_ids.iter().any(|id| *id == event_id).then_some(Windows { data, win, system, event_id })
    }

    fn ban<'t>(&self, root: Node<'t>, data: Node<'t>) -> Result<Ban<'t>, &'static str> {
        let program = data.get("program_name").and_then(Node::as_str).filter(|name| self.programs.iter().any(|p| p == name));
        let source = data.get("srcip");
        let groups = root.path(&["rule", "groups"]);
        let (Some(program), Some(source), Some(groups)) = (program, source, groups) else { return Err("unwanted") };
        let wanted = |name: &str| self.groups.iter().any(|group| group == name.trim());
        let in_group = match groups.as_str() {
            Some(list) => list.split(',').any(wanted),
            None => groups.elements().filter_map(Node::as_str).any(wanted),
        };
        if !in_group {
            return Err("unwanted");
        }
        if confirm::is_nothing(source) {
            return Err("no_source");
        }
        match source.as_str().and_then(|source| self.networks.internal(source)) {
            Some(why) => Err(why),
            None => Ok(Ban { root, data, program }),
        }
    }

    /// Begins a message with the headers and the key that are asked for.
    fn begin<'o, 'd>(&self, out: &'o mut Outbox<'d>, common: &Common<'_>) -> Writing<'o, 'd> {
        let mut message = out.message(PRIMARY);
        let agent_id = if self.all_headers || self.keyed { text(common.agent_id) } else { Cow::default() };
        if self.all_headers {
            for (name, value) in [("alert-id", &common.id), ("agent-id", &agent_id)] {
                if !value.is_empty() {
                    message = message.header(name, value.as_bytes());
                }
            }
            message = message.header("content-type", b"application/json");
        }
        if self.keyed && !agent_id.is_empty() {
            message = message.key(agent_id.as_bytes());
        }
        message.time_ms(common.timestamp.and_then(Node::as_str).and_then(timestamp_ms).unwrap_or(0))
    }

    fn own_event(&self, alert: &mut Alert<'_>, out: &mut Outbox<'_>) -> Fate {
        let Ok(root) = alert.root() else { return Fate::Dropped("own_event") };
        if !out.wants(CONFIRM) || !confirm::tells(root) {
            return Fate::Dropped("own_event");
        }
        out.message(CONFIRM).payload(|w| self.confirm.own_event(w, root));
        Fate::Emitted
    }
}

impl Handler for Settings {
    fn needles(&self) -> Needles {
        // Our own events must reach the handler as well.
        let mut needles = vec![b"\"shipper\"".to_vec()];
        if !self.event_ids.is_empty() {
            needles.push(b"eventID".to_vec());
        }
        if !self.groups.is_empty() {
            for program in &self.programs {
                match needle(program) {
                    Some(part) => needles.push(part.as_bytes().to_vec()),
                    None => return Needles::All,
                }
            }
        }
        Needles::Any(needles)
    }

    fn handle(&mut self, record: &Record<'_>, alert: &mut Alert<'_>, out: &mut Outbox<'_>) -> Fate {
        if record.own {
            return self.own_event(alert, out);
        }
        let root = match alert.root() {
            Ok(root) => root,
            Err(error) => return Fate::Rejected(Rejection { reason: "not_json", detail: error.to_string() }),
        };
        let selection = self.select(root);
        if let (None, Err(why)) = (&selection.windows, &selection.ban) {
            return Fate::Dropped(why);
        }
        let common = Common::of(root);
        let confirmed = out.wants(CONFIRM);
        if let Some(event) = &selection.windows {
            let parts = windows::Parts::of(event.win, &event.event_id);
            self.begin(out, &common).payload(|w| windows::write(w, &common, &event.system, &event.event_id, &parts, event.data));
            if confirmed {
                if parts.is_incomplete() {
                    out.message(CONFIRM).payload(|w| self.confirm.incomplete(w, &common));
                }
                let about = confirm::About::Windows { event_id: &event.event_id, time: event.system.time() };
                out.message(CONFIRM).payload(|w| self.confirm.confirmation(w, &common, &about));
            }
        }
        if let Ok(ban) = &selection.ban {
            self.begin(out, &common).payload(|w| syslog::write(w, &common, ban, self.rfc5424));
            if confirmed {
                out.message(CONFIRM).payload(|w| self.confirm.confirmation(w, &common, &confirm::About::Syslog));
            }
        }
        Fate::Emitted
    }

    fn explain(&mut self, record: &Record<'_>, alert: &mut Alert<'_>) -> Vec<(&'static str, String)> {
        let quoted = |s: &str| {
            let mut out = Vec::new();
            json_str(&mut out, s);
            String::from_utf8(out).unwrap_or_default()
        };
        let root = match alert.root() {
            Ok(root) => root,
            Err(error) => return vec![("selected", "[]".into()), ("why_not", quoted(&error.to_string()))],
        };
        if record.own {
            return vec![("selected", "[]".into()), ("why_not", quoted("own_event"))];
        }
        let Selection { windows, ban } = self.select(root);
        let parts: Vec<_> =
            [windows.as_ref().map(|_| "\"windows\""), ban.as_ref().ok().map(|_| "\"fail2ban\"")].into_iter().flatten().collect();
        let mut facts = vec![("selected", format!("[{}]", parts.join(",")))];
        if let Some(event) = windows {
            facts.push(("event_id", quoted(&event.event_id)));
        }
        match ban {
            Ok(ban) => facts.push(("program", quoted(ban.program))),
            Err(why) if parts.is_empty() => facts.push(("why_not", quoted(why))),
            Err(_) => {}
        }
        facts
    }
}

/// The longest part of a name that stands in a frame as it is, whatever JSON escapes; `None` if
/// there is none. (`/` may be written `\/`; what is written `\u00XX` is parsed in any case.)
fn needle(name: &str) -> Option<&str> {
    name.split(|c: char| matches!(c, '/' | '"' | '\\') || c.is_control() || !c.is_ascii())
        .max_by_key(|part| part.len())
        .filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests;
