//! Alerts of a Wazuh manager.

use std::borrow::Cow;

use super::{
    members::{Key, Members},
    record::{Said, name, texts},
};
use crate::{alert::Node, detect::attack::Evidence};

/// Features that groups of a rule stand for, as bits, F1 the lowest.
fn features(group: &str) -> u16 {
    match group {
        "authentication" | "authentication_success" => 1 << 1,
        "authentication_failed" | "authentication_failures" | "invalid_login" | "win_authentication_failed" => 1 << 2,
        "process" | "audit_command" | "sysmon_event1" | "sysmon_eid1_detections" => 1 << 9,
        "firewall" | "network" | "ids" | "packetbeat" | "sysmon_event3" | "sysmon_eid3_detections" => 1,
        _ if group.starts_with("syscheck") => 1 << 3,
        _ => 0,
    }
}

/// Reads an alert.
pub(super) fn read<'t>(members: &Members<'t>) -> Said<'t> {
    let (rule, agent) = (members.object(Key::Rule), members.object(Key::Agent));
    let of = |object: Option<Node<'t>>, key| object.and_then(|object| name(object.get(key)));
    let agent_id = of(agent, "id");
    let entity = of(agent, "name").or_else(|| agent_id.clone()).or_else(|| of(members.object(Key::Manager), "name"));
    let mut said = Said {
        entity,
        event_type: Cow::Borrowed("wazuh"),
        time: members.get(Key::Timestamp).or_else(|| members.get(Key::At)),
        agent_id: agent_id.unwrap_or_default(),
        ..Said::default()
    };
    let (mut groups, mut attack, mut is_system) = (None, None, false);
    for (key, value) in rule.into_iter().flat_map(Node::members) {
        match key {
            // A double becomes the nearest level that there is.
            "level" => said.level = value.as_f64().map_or(0, |level| level as u8),
            "id" => said.rule_id = name(Some(value)),
            "groups" => groups = Some(value),
            "mitre" => attack = value.get("id"),
            "description" => said.note = value.as_str().unwrap_or(""),
            _ => {}
        }
    }
    let mut bits = 0;
    for group in texts(groups).flat_map(|list| list.split(',')).map(str::trim) {
        bits |= features(group);
        is_system |= group == "system";
    }
    for number in (1..=10).filter(|number| bits >> (number - 1) & 1 == 1) {
        said.set(number, 1.0);
    }
    if is_system && let Some(data) = members.object(Key::Data) {
        for (number, key) in [(6, "cpu"), (7, "memory")] {
            if let Some(percent) = data.get(key).and_then(Node::as_f64).filter(|x| x.is_finite()) {
                said.set(number, percent / 100.0);
            }
        }
    }
    said.techniques.take(attack, Evidence::Rule);
    said
}
