//! What a record is, and what of it an event takes: the first rule that fits decides.

use std::borrow::Cow;

use super::{
    documents,
    flat::{self, Flat},
    members::{Key, Members},
    raw, sim, time, wazuh,
};
use crate::{
    alert::{Kind, Node},
    detect::{Class, Event, FEATURES, Severity, attack, attack::Evidence, event::ALL_PRESENT, short},
    limits,
};

/// Decimals of a feature that is computed: enough for any threshold, and 0.1 + 0.7 is 0.8.
const DECIMALS: f64 = 1e6;

/// A computed feature as it is kept: within 0 and 1, six decimals.
pub(super) fn unit(x: f64) -> f64 {
    // Whole numbers this small are cut without a rounding of their own.
    f64::from((x.clamp(0.0, 1.0) * DECIMALS + 0.5) as u32) / DECIMALS
}

/// A record that was read.
pub(super) struct Read<'t> {
    /// Its time is that of the record's arrival where the record says none.
    pub(super) event: Event<'t>,
    /// True if the record says when it was.
    pub(super) is_timed: bool,
    /// Of a `features` record, as bits: which of the ten are absent, and which are no numbers.
    pub(super) missing: u16,
    pub(super) invalid: u16,
    /// What an event of the simulator says of itself.
    pub(super) severity: Option<Severity>,
    pub(super) is_suspicious: bool,
    /// What it says for people: why it is suspicious, or what its rule is about.
    pub(super) note: &'t str,
    /// It names more techniques than are kept.
    pub(super) is_cut: bool,
}

impl Read<'_> {
    /// Names and values of the features; what is missing or invalid has none.
    pub(super) fn features(&self) -> impl Iterator<Item = (&'static str, f64)> + '_ {
        let none = self.missing | self.invalid;
        FEATURES.into_iter().zip(self.event.features).enumerate().filter(move |(n, _)| none >> n & 1 == 0).map(|(_, pair)| pair)
    }
}

/// What a record of one class says.
#[derive(Default)]
pub(super) struct Said<'t> {
    pub(super) entity: Option<Cow<'t, str>>,
    pub(super) entity_type: Option<&'t str>,
    pub(super) event_type: Cow<'t, str>,
    pub(super) action: Cow<'t, str>,
    /// Id of the rule; the kind of the event, where there is one.
    pub(super) rule_id: Option<Cow<'t, str>>,
    pub(super) time: Option<Node<'t>>,
    pub(super) features: [f64; 10],
    pub(super) present: u16,
    pub(super) level: u8,
    pub(super) agent_id: Cow<'t, str>,
    pub(super) techniques: Techniques<'t>,
    pub(super) note: &'t str,
}

impl Said<'_> {
    /// Sets a feature, numbered from 1 as F1 to F10 are.
    pub(super) fn set(&mut self, number: usize, value: f64) {
        if let Some(feature) = self.features.get_mut(number - 1) {
            *feature = unit(value);
            self.present |= 1 << (number - 1);
        }
    }
}

/// Techniques that a record names.
#[derive(Default)]
pub(super) struct Techniques<'t> {
    pub(super) all: Vec<(Cow<'t, str>, Evidence)>,
    pub(super) is_cut: bool,
}

impl<'t> Techniques<'t> {
    /// Takes the ids of a text, or of a list of texts; what is no id is left out.
    pub(super) fn take(&mut self, node: Option<Node<'t>>, evidence: Evidence) {
        for text in texts(node) {
            self.take_one(text, evidence);
        }
    }

    /// Takes the id that a text is, if it is one.
    pub(super) fn take_one(&mut self, text: &'t str, evidence: Evidence) {
        let Some(id) = attack::id(text) else { return };
        if self.all.iter().any(|(known, _)| *known == id) {
            return;
        }
        if self.all.len() >= limits::ALERT_TECHNIQUES_MAX {
            self.is_cut = true;
            return;
        }
        self.all.push((id, evidence));
    }
}

/// A text, or the texts of a list.
pub(super) fn texts(node: Option<Node<'_>>) -> impl Iterator<Item = &str> {
    let one = node.and_then(Node::as_str);
    one.into_iter().chain(node.into_iter().flat_map(Node::elements).filter_map(Node::as_str))
}

/// A name: text that is not empty, or a number as it was written.
pub(super) fn name(node: Option<Node<'_>>) -> Option<Cow<'_, str>> {
    let node = node?;
    match node.kind() {
        Kind::String => node.as_str().filter(|text| !text.trim().is_empty()).map(Cow::Borrowed),
        Kind::Number => node.number().map(Cow::Borrowed),
        _ => None,
    }
}

/// What a record is.
fn class(members: &Members<'_>) -> Class {
    let flag = members.get(Key::IsSimulated);
    let is_simulated = flag.is_some_and(|flag| match flag.kind() {
        Kind::Bool => flag.as_bool() == Some(true),
        Kind::Number => flag.as_f64() == Some(1.0),
        _ => false,
    });
    let is_from_simulation =
        || members.object(Key::Source).and_then(|source| source.get("type")).and_then(Node::as_str) == Some("simulation");
    if is_simulated || is_from_simulation() {
        return Class::Sim;
    }
    let said = |node: Node<'_>, key| node.get(key).is_some_and(|value| !value.is_null());
    if let Some(rule) = members.object(Key::Rule)
        && (said(rule, "id") || said(rule, "level"))
        && (members.object(Key::Agent).is_some() || members.object(Key::Manager).is_some())
    {
        return Class::Wazuh;
    }
    if members.get(Key::At).is_some() {
        let dotted = [Key::EventCategory, Key::EventKind, Key::EventModule].into_iter().any(|key| members.get(key).is_some());
        let nested =
            || members.object(Key::Event).is_some_and(|event| ["category", "kind", "module"].into_iter().any(|key| said(event, key)));
        if dotted || nested() {
            return Class::Ecs;
        }
    }
    if members.object(Key::Evtx).is_some_and(|event| event.get("System").is_some_and(Node::is_object)) {
        return Class::Evtx;
    }
    if members.text(Key::Uid).is_some() {
        let nested = || members.object(Key::Id).is_some_and(|id| said(id, "orig_h"));
        if members.get(Key::Originator).is_some() || nested() {
            return Class::ZeekConn;
        }
    }
    if members.features().any(|feature| feature.is_some()) { Class::Features } else { Class::Other }
}

/// Reads a record.
///
/// - `root`: an object; a hit of an index is unwrapped.
/// - `received_ms`: when it came in.
/// - `kind`: memory for the kind of the event.
pub(super) fn read<'t>(root: Node<'t>, received_ms: i64, kind: &'t mut String) -> Read<'t> {
    let mut root = root;
    let mut members = Members::of(root);
    if let Some(hit) = members.object(Key::Hit) {
        root = hit;
        members = Members::of(hit);
    }
    let class = class(&members);
    let (mut missing, mut invalid, mut severity) = (0, 0, None);
    let said = match class {
        Class::Sim => {
            severity = members.text(Key::Severity).and_then(Severity::of_word);
            sim::read(&members, severity)
        }
        Class::Wazuh => wazuh::read(&members),
        Class::Ecs => documents::read(root, &members),
        Class::Evtx => raw::windows(&members),
        Class::ZeekConn => raw::zeek(&members),
        Class::Features => {
            let mut said = plain(&members);
            for (n, (node, feature)) in members.features().zip(&mut said.features).enumerate() {
                match value(node) {
                    Value::Missing => missing |= 1 << n,
                    Value::Invalid => invalid |= 1 << n,
                    Value::Number(x) => *feature = x,
                }
            }
            said.present = ALL_PRESENT & !missing & !invalid;
            said
        }
        Class::Other | Class::Sigma => plain(&members),
    };
    let ts_ms = said.time.and_then(time::millis);
    let is_suspicious = class == Class::Sim && members.get(Key::Suspicious).and_then(Node::as_bool) == Some(true);
    Read { missing, invalid, severity, is_suspicious, ..made(class, said, ts_ms, received_ms, kind) }
}

/// Reads a record that is plainly an event of the simulator, without a tape; `None` if the tape is to decide.
pub(super) fn read_flat<'t>(frame: &'t [u8], received_ms: i64, kind: &'t mut String) -> Option<Read<'t>> {
    let Flat { said, ts_ms, severity, is_suspicious } = flat::read(frame)?;
    Some(Read { severity, is_suspicious, ..made(Class::Sim, said, ts_ms, received_ms, kind) })
}

/// An event of what was said.
#[inline(always)]
fn made<'t>(class: Class, said: Said<'t>, ts_ms: Option<i64>, received_ms: i64, kind: &'t mut String) -> Read<'t> {
    // What makes two events of the same kind: an id of a rule, else type and action.
    let (event_type, action) = (&said.event_type, &said.action);
    let known: Cow<'t, str> = match said.rule_id {
        Some(id) => id,
        None if action.is_empty() && event_type.is_empty() => Cow::Borrowed(class.word()),
        None => {
            kind.clear();
            kind.push_str(event_type);
            if !action.is_empty() {
                if !event_type.is_empty() {
                    kind.push(' ');
                }
                kind.push_str(action);
            }
            Cow::Borrowed(kind.as_str())
        }
    };
    let event = Event {
        ts_ms: ts_ms.unwrap_or(received_ms),
        entity: shortened(said.entity.unwrap_or(Cow::Borrowed("unknown_entity"))),
        entity_type: short(said.entity_type.unwrap_or("host")),
        source: class,
        event_type: shortened(said.event_type),
        kind: shortened(known),
        counts: true,
        features: said.features,
        present: said.present,
        level: said.level,
        sigma: None,
        techniques: said.techniques.all,
        agent_id: shortened(said.agent_id),
    };
    Read {
        event,
        is_timed: ts_ms.is_some(),
        missing: 0,
        invalid: 0,
        severity: None,
        is_suspicious: false,
        note: said.note,
        is_cut: said.techniques.is_cut,
    }
}

/// As [`short`], for what may be ours already.
fn shortened(name: Cow<'_, str>) -> Cow<'_, str> {
    match name {
        Cow::Borrowed(name) => short(name),
        Cow::Owned(name) => match short(&name) {
            Cow::Owned(hash) => Cow::Owned(hash),
            Cow::Borrowed(_) => Cow::Owned(name),
        },
    }
}

/// What records of every class may say in the plainest way.
pub(super) fn plain<'t>(members: &Members<'t>) -> Said<'t> {
    let of_host = || members.object(Key::Host).and_then(|host| name(host.get("name")));
    let of_agent = || members.object(Key::Agent).and_then(|agent| name(agent.get("name")));
    Said {
        entity: name(members.any(Key::Entity)).or_else(|| name(members.any(Key::Host))).or_else(of_host).or_else(of_agent),
        entity_type: members.text(Key::EntityType),
        event_type: members.text(Key::EventType).map_or(Cow::Borrowed(""), Cow::Borrowed),
        action: members.text(Key::Action).map_or(Cow::Borrowed(""), Cow::Borrowed),
        time: members.get(Key::Timestamp).or_else(|| members.get(Key::At)),
        ..Said::default()
    }
}

/// What stands where a feature should.
enum Value {
    Missing,
    Invalid,
    Number(f64),
}

fn value(node: Option<Node<'_>>) -> Value {
    match node {
        None => Value::Missing,
        Some(node) => match node.kind() {
            Kind::Null => Value::Missing,
            Kind::Bool => Value::Number(if node.as_bool() == Some(true) { 1.0 } else { 0.0 }),
            Kind::Number | Kind::String => match node.as_f64().filter(|x| x.is_finite()) {
                Some(x) => Value::Number(x),
                None => Value::Invalid,
            },
            Kind::Array | Kind::Object => Value::Invalid,
        },
    }
}

/// Names of the features of these bits.
pub(super) fn named(bits: u16) -> impl Iterator<Item = &'static str> {
    FEATURES.iter().enumerate().filter(move |(n, _)| bits >> n & 1 == 1).map(|(_, name)| *name)
}
