//! Records as programs write them: event logs of Windows, and connections that Zeek saw.

use std::borrow::Cow;

use super::{
    members::{Key, Members},
    record::{Said, name},
};
use crate::alert::{Kind, Node};

const MIB: f64 = 1_048_576.0;

/// What an XML attribute became: `{"#attributes":{"Name":…}}`, `{"@Name":…}` or `{"Name":…}`.
fn attribute<'t>(node: Option<Node<'t>>, plain: &str, marked: &str) -> Option<Node<'t>> {
    let node = node?;
    node.path(&["#attributes", plain]).or_else(|| node.get(marked)).or_else(|| node.get(plain))
}

/// Reads a record of a Windows event log, as evtx-dump writes it and Sigma has it.
pub(super) fn windows<'t>(members: &Members<'t>) -> Said<'t> {
    let system = members.object(Key::Evtx).and_then(|event| event.get("System"));
    let of = |key| system.and_then(|system| system.get(key));
    // With qualifiers, the id is the text of an element.
    let id = of("EventID").and_then(|id| if id.kind() == Kind::Object { id.get("#text") } else { Some(id) });
    let is = |node: Option<Node<'_>>, begin: &str| node.and_then(Node::as_str).is_some_and(|text| text.starts_with(begin));
    let provider = attribute(of("Provider"), "Name", "@Name");
    let is_sysmon = is(provider, "Microsoft-Windows-Sysmon") || is(of("Channel"), "Microsoft-Windows-Sysmon/");
    let (event_type, feature) = match (is_sysmon, id.and_then(Node::as_u64)) {
        (true, Some(1)) | (false, Some(4688)) => ("process", 10),
        (true, Some(11 | 15 | 23 | 26)) | (false, Some(4663)) => ("file", 4),
        (false, Some(4624)) => ("authentication", 2),
        (false, Some(4625)) => ("authentication", 3),
        (true, Some(3)) => ("network_connection", 0),
        (true, Some(12..=14)) => ("registry", 0),
        (true, Some(22)) => ("dns_query", 0),
        (false, Some(7045 | 4697)) => ("service", 0),
        _ => ("other", 0),
    };
    let mut said = Said {
        entity: name(of("Computer")),
        event_type: Cow::Borrowed(event_type),
        action: name(id).unwrap_or_default(),
        time: attribute(of("TimeCreated"), "SystemTime", "@SystemTime").or_else(|| of("TimeCreated")),
        ..Said::default()
    };
    if feature > 0 {
        said.set(feature, 1.0);
    }
    said
}

/// Reads a line of Zeek's conn.log.
pub(super) fn zeek<'t>(members: &Members<'t>) -> Said<'t> {
    let nested = || members.object(Key::Id).and_then(|id| id.get("orig_h"));
    let mut said = Said {
        entity: name(members.get(Key::Originator).or_else(nested)),
        entity_type: Some("network"),
        event_type: Cow::Borrowed("network_connection"),
        action: members.text(Key::Service).or_else(|| members.text(Key::Proto)).map_or(Cow::Borrowed(""), Cow::Borrowed),
        time: members.get(Key::Ts),
        ..Said::default()
    };
    let bytes = [members.number(Key::OrigBytes), members.number(Key::RespBytes)];
    if bytes.iter().any(Option::is_some) {
        said.set(1, bytes.into_iter().flatten().sum::<f64>() / MIB);
    }
    said
}
