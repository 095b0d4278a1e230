//! Documents of the Elastic Common Schema.
//!
//! Members are nested, or named with dots, or both; `event.category` and `event.type` are lists, or one text.

use std::borrow::Cow;

use super::{
    members::{Key, Members},
    record::{Said, name, texts},
};
use crate::{alert::Node, detect::attack::Evidence};

const MIB: f64 = 1_048_576.0;

/// The value at a dotted path, wherever dots stand in names.
fn at<'t>(node: Node<'t>, path: &str) -> Option<Node<'t>> {
    if let Some(found) = node.get(path).filter(|found| !found.is_null()) {
        return Some(found);
    }
    // At most three dots are in any path that is asked for.
    path.match_indices('.').find_map(|(dot, _)| {
        let (first, rest) = path.split_at_checked(dot)?;
        node.get(first).filter(|inner| inner.is_object()).and_then(|inner| at(inner, rest.strip_prefix('.')?))
    })
}

/// Reads a document.
pub(super) fn read<'t>(root: Node<'t>, members: &Members<'t>) -> Said<'t> {
    let node = |path| at(root, path);
    let number = |path| at(root, path).and_then(Node::as_f64).filter(|x| x.is_finite());
    let entity = ["host.name", "host.hostname", "agent.hostname", "agent.name", "source.ip"].into_iter().find_map(|path| name(node(path)));
    let (categories, types) = (node("event.category"), node("event.type"));
    let is = |node, word: &str| texts(node).any(|text| text.eq_ignore_ascii_case(word));
    let action = name(node("event.action")).unwrap_or_default();
    let outcome = node("event.outcome").and_then(Node::as_str).unwrap_or("");
    let mut said = Said {
        entity,
        event_type: Cow::Borrowed(match texts(categories).find(|category| !category.is_empty()) {
            Some("network") => "network_connection",
            Some(category) => category,
            None => "other",
        }),
        rule_id: name(node("rule.id")),
        time: members.get(Key::At),
        agent_id: name(node("agent.id")).unwrap_or_default(),
        ..Said::default()
    };
    for category in texts(categories) {
        match category {
            "authentication" => {
                let failed =
                    outcome == "failure" || is(types, "error") || is(types, "denied") || action.to_ascii_lowercase().contains("fail");
                let came_in = is(types, "start") || action.eq_ignore_ascii_case("logged-in") || (outcome == "success" && !is(types, "end"));
                if failed {
                    said.set(3, 1.0);
                } else if came_in {
                    said.set(2, 1.0);
                }
            }
            "file" => said.set(4, 1.0),
            "process" => {
                let ends = texts(types).next().is_some() && texts(types).all(|text| text.eq_ignore_ascii_case("end"));
                if !ends {
                    said.set(10, 1.0);
                }
            }
            "email" if is(types, "info") && action.eq_ignore_ascii_case("send") => said.set(5, 1.0),
            "network" => {
                let ends = [number("source.bytes"), number("destination.bytes")];
                let bytes = number("network.bytes").or_else(|| ends.iter().any(Option::is_some).then(|| ends.into_iter().flatten().sum()));
                if let Some(bytes) = bytes {
                    said.set(1, bytes / MIB);
                }
                if let Some(latency) = number("network.latency") {
                    said.set(9, latency / 1000.0);
                }
            }
            _ => {}
        }
    }
    let of_cores = || {
        let (all, cores) = (number("system.cpu.total.pct")?, number("system.cpu.cores").filter(|cores| *cores > 0.0));
        Some(all / cores.unwrap_or(1.0))
    };
    let gauges = [
        (6, number("system.cpu.total.norm.pct").or_else(of_cores)),
        (7, number("system.memory.actual.used.pct")),
        (8, number("system.filesystem.io.total").map(|bytes| bytes / (100.0 * MIB))),
    ];
    for (feature, value) in gauges {
        if let Some(value) = value {
            said.set(feature, value);
        }
    }
    said.techniques.take(node("threat.technique.id"), Evidence::Rule);
    said.techniques.take(node("threat.technique.subtechnique.id"), Evidence::Rule);
    said.action = action;
    said
}
