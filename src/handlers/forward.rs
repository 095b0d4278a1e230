//! `forward`: every alert, or those chosen, as the bytes that were read.
//!
//! Without a choice nothing is parsed: what does not look broken is passed on as it is
//! (`validate = "parse"` asks for more). The bytes stay in the slab until a sink takes them.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use super::{Fate, Handler, Kind, Needles, Output, Record, Rejection, Spec};
use crate::{
    alert::{Alert, Node},
    batch::Outbox,
    register::{Field, Section, Type},
    tables::Shelf,
};

/// The kind.
pub struct Forward;

static FIELDS: &[Field] = &[
    Field::new(
        "levels",
        Type::Int { min: 0, max: 16 },
        "0",
        "Least `rule.level` that is shipped, 0 to 16. 0 ships every level, and alerts without one.",
    ),
    Field::new("rule_ids", Type::Texts, "[]", "Ships only alerts of these rules, by `rule.id`; an empty list ships all."),
    Field::new("groups", Type::Texts, "[]", "Ships only alerts whose rule is in one of these groups; an empty list ships all."),
    Field::new("agents", Type::Texts, "[]", "Ships only alerts of these agents, by `agent.id` or `agent.name`; an empty list ships all."),
    Field::new(
        "validate",
        Type::Choice(&["shape", "parse"]),
        "\"shape\"",
        "What is asked of an alert: that it does not look broken, or that it is JSON, which costs a parse of each.",
    ),
    Field::new(
        "headers",
        Type::Choice(&["origin", "all"]),
        "\"origin\"",
        "Kafka headers: shipper-origin alone, or also alert-id, agent-id and content-type, which costs a parse and a copy for each alert.",
    ),
];

impl Kind for Forward {
    fn name(&self) -> &'static str {
        "forward"
    }
    fn about(&self) -> &'static str {
        "ships alerts as they were read, all or by choice"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn outputs(&self) -> &'static [Output] {
        &[Output { name: "", after: None }]
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        let level = u64::try_from(section.int("levels")).unwrap_or(0);
        let (rule_ids, groups, agents) = (section.texts("rule_ids"), section.texts("groups"), section.texts("agents"));
        let chooses = level > 0 || !(rule_ids.is_empty() && groups.is_empty() && agents.is_empty());
        let all_headers = section.choice("headers") == "all";
        let parses = chooses || all_headers || section.choice("validate") == "parse";
        Box::new(Settings { level, rule_ids, groups, agents, all_headers, parses })
    }
}

/// Settings of one `forward` handler.
#[derive(Clone, Debug)]
struct Settings {
    level: u64,
    rule_ids: Vec<String>,
    groups: Vec<String>,
    agents: Vec<String>,
    all_headers: bool,
    /// Something above needs the content of an alert.
    parses: bool,
}

impl Spec for Settings {
    fn build(&self, _tables: &Shelf) -> Box<dyn Handler> {
        Box::new(self.clone())
    }
}

/// True if one of `names` is the value's text, or there are none to be.
fn is_one(names: &[String], values: [Option<Node<'_>>; 2]) -> bool {
    names.is_empty() || values.into_iter().flatten().any(|value| names.iter().any(|name| *name == value.text()))
}

impl Settings {
    /// Why an alert is not shipped, by the first rule that says so.
    fn unwanted(&self, root: Node<'_>) -> Option<&'static str> {
        let rule = |key| root.path(&["rule", key]);
        let agent = |key| root.path(&["agent", key]);
        if self.level > 0 && rule("level").and_then(Node::as_u64).is_none_or(|level| level < self.level) {
            return Some("level");
        }
        if !is_one(&self.rule_ids, [rule("id"), None]) {
            return Some("rule_id");
        }
        if !is_one(&self.agents, [agent("id"), agent("name")]) {
            return Some("agent");
        }
        let wanted = |name: &str| self.groups.iter().any(|group| group == name.trim());
        let in_group = || match rule("groups") {
            None => false,
            Some(groups) => match groups.as_str() {
                Some(list) => list.split(',').any(wanted),
                None => groups.elements().filter_map(Node::as_str).any(wanted),
            },
        };
        (!self.groups.is_empty() && !in_group()).then_some("group")
    }
}

impl Handler for Settings {
    fn needles(&self) -> Needles {
        // A choice by rule or agent names short words that stand in most alerts anyhow, or
        // numbers that JSON can write in more than one way: looking for them saves nothing.
        Needles::All
    }

    fn handle(&mut self, record: &Record<'_>, alert: &mut Alert<'_>, out: &mut Outbox<'_>) -> Fate {
        // An event of our own comes only where source `agent` was wired in, and is no alert to choose by.
        if record.own || !self.parses {
            out.message(0).frame(0..record.frame.len());
            return Fate::Emitted;
        }
        let root = match alert.root() {
            Ok(root) => root,
            Err(error) => return Fate::Rejected(Rejection { reason: "not_json", detail: error.to_string() }),
        };
        if let Some(why) = self.unwanted(root) {
            return Fate::Dropped(why);
        }
        let mut message = out.message(0);
        if self.all_headers {
            for (name, value) in [("alert-id", root.get("id")), ("agent-id", root.path(&["agent", "id"]))] {
                if let Some(value) = value.map(Node::text).filter(|value| !value.is_empty()) {
                    message = message.header(name, value.as_bytes());
                }
            }
            message = message.header("content-type", b"application/json");
        }
        message.frame(0..record.frame.len());
        Fate::Emitted
    }

    fn explain(&mut self, record: &Record<'_>, alert: &mut Alert<'_>) -> Vec<(&'static str, String)> {
        let why = match alert.root() {
            _ if record.own => None,
            Err(_) if self.parses => Some("not_json"),
            Ok(root) if self.parses => self.unwanted(root),
            _ => None,
        };
        match why {
            None => vec![("selected", "true".into())],
            Some(why) => vec![("selected", "false".into()), ("why_not", format!("\"{why}\""))],
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
        register::{Errors, Node as Setting, Value, tree},
    };

    fn handler(settings: &[(&str, &str)]) -> Box<dyn Handler> {
        let entries = settings
            .iter()
            .map(|(name, text)| (tree::Key { name: (*name).into(), place: tree::Place::Default }, Setting::parse_scalar(text)))
            .collect();
        let node = Setting { value: Value::Table(entries), place: tree::Place::Default };
        let mut errors = Errors::default();
        let spec = Forward.parse(&mut Section::open("handlers.f", &node, FIELDS, &[], &mut errors));
        assert!(errors.is_empty(), "{errors}");
        spec.build(&Shelf::default())
    }

    /// What becomes of a frame: its fate, the payloads, and the names of the headers.
    fn check(settings: &[(&str, &str)], frame: &[u8]) -> (Fate, Vec<Vec<u8>>, Vec<&'static str>) {
        let mut handler = handler(settings);
        let mut parser = Parser::new();
        let mut alert = parser.alert(frame);
        let origin = Origin { stream: "m/alerts/2026-03-14/000", offset: 0, len: None };
        let mut draft = Draft::new(Slab::from_bytes([frame, b"\n"].concat()));
        let place = Place { start: 0, len: u32::try_from(frame.len()).unwrap() + 1 };
        let fate = {
            let (_, mut out) = draft.outbox(place, 0, &[Some(0)], origin);
            handler.handle(&Record { frame, origin, received: 0, own: false }, &mut alert, &mut out)
        };
        let batch = draft.finish(0, Position::Count(1), 0);
        let messages: Vec<_> = (0..u32::try_from(batch.len()).unwrap()).map(|n| batch.message(n)).collect();
        let headers = messages.iter().flat_map(|m| m.headers().map(|(name, _)| name)).collect();
        (fate, messages.iter().map(|m| m.payload.to_vec()).collect(), headers)
    }

    const ALERT: &[u8] =
        br#"{"timestamp":"t","rule":{"level":5,"id":"100210","groups":["syslog","sshd"]},"agent":{"id":"014","name":"web-03"},"id":"1.2"}"#;

    #[test]
    fn without_a_choice_all_is_shipped_as_it_was_read() {
        for frame in [ALERT, b"{\"a\":\xff}", b"{this looks whole}"] {
            assert_eq!(check(&[], frame), (Fate::Emitted, vec![frame.to_vec()], vec!["shipper-origin"]));
        }
    }

    #[test]
    fn a_choice_ships_what_fits_all_of_it() {
        let ships: &[&[(&str, &str)]] = &[
            &[("levels", "5")],
            &[("rule_ids", "[1, 100210]")],
            &[("groups", "[\"sshd\"]")],
            &[("agents", "[\"web-03\"]"), ("levels", "3")],
            &[("agents", "\"014\"")],
            &[("validate", "parse")],
        ];
        for settings in ships {
            assert_eq!(check(settings, ALERT).0, Fate::Emitted, "{settings:?}");
        }
        let drops: &[(&[(&str, &str)], &str)] = &[
            (&[("levels", "6")], "level"),
            (&[("rule_ids", "[10021]")], "rule_id"),
            (&[("groups", "[\"ssh\"]")], "group"),
            (&[("agents", "[\"web\"]")], "agent"),
            (&[("levels", "5"), ("agents", "[\"web\"]")], "agent"),
        ];
        for (settings, why) in drops {
            assert_eq!(check(settings, ALERT), (Fate::Dropped(why), vec![], vec![]), "{settings:?}");
        }
        for settings in [("levels", "1"), ("rule_ids", "[1]"), ("groups", "[\"a\"]"), ("agents", "[\"a\"]")] {
            assert!(matches!(check(&[settings], b"{}").0, Fate::Dropped(_)), "{settings:?}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused_where_it_is_asked_for() {
        let (fate, payloads, _) = check(&[("validate", "parse")], b"{this looks whole}");
        assert!(matches!(fate, Fate::Rejected(Rejection { reason: "not_json", .. })), "{fate:?}");
        assert_eq!(payloads, Vec::<Vec<u8>>::new());
    }

    #[test]
    fn headers_are_added_by_choice() {
        assert_eq!(check(&[("headers", "all")], ALERT).2, ["shipper-origin", "alert-id", "agent-id", "content-type"]);
        assert_eq!(check(&[("headers", "all")], b"{}").2, ["shipper-origin", "content-type"]);
    }
}
