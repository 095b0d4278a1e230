//! The texts of an alert in which indicators are looked for, each with its way from the root.

use crate::{
    alert::{Elements, Kind, Members, Node},
    intel::{Key, Place},
};

/// Members that tell of the sensor, not of the threat.
const SKIPPED: &[&str] =
    &["rule", "agent", "manager", "cluster", "decoder", "location", "predecoder", "timestamp", "id", "input", "GeoLocation"];
/// Members that are looked at first: what stood in a field of its own is named by it.
const FIRST: &[&str] = &["data", "syscheck"];

/// An object or array that is being walked.
enum Level<'t> {
    Members(Members<'t>),
    Elements(Elements<'t>, usize),
}

/// Tells each string of an alert but those of the sensor: first of `data` and `syscheck`, then of
/// the rest, in the order in which they were written. Names of members are no strings here.
///
/// Walks with a stack of its own: brackets may be nested as deep as the parser allows.
pub(super) fn texts<'t>(root: Node<'t>, mut tell: impl FnMut(&str, &Place<'_>)) {
    let (mut keys, mut levels) = (Vec::with_capacity(16), Vec::with_capacity(16));
    for first in [true, false] {
        for (name, node) in root.members() {
            if FIRST.contains(&name) == first && !SKIPPED.contains(&name) {
                enter(Key::Name(name), node, &mut keys, &mut levels, &mut tell);
            }
        }
    }
}

fn enter<'t>(key: Key<'t>, node: Node<'t>, keys: &mut Vec<Key<'t>>, levels: &mut Vec<Level<'t>>, tell: &mut impl FnMut(&str, &Place<'_>)) {
    let mut next = Some((key, node));
    loop {
        if let Some((key, node)) = next {
            match node.kind() {
                Kind::String => {
                    keys.push(key);
                    tell(node.as_str().unwrap_or_default(), &Place::new(keys));
                    keys.pop();
                }
                Kind::Object => {
                    keys.push(key);
                    levels.push(Level::Members(node.members()));
                }
                Kind::Array => {
                    keys.push(key);
                    levels.push(Level::Elements(node.elements(), 0));
                }
                Kind::Null | Kind::Bool | Kind::Number => {}
            }
        }
        let Some(level) = levels.last_mut() else { return };
        next = match level {
            Level::Members(members) => members.next().map(|(name, node)| (Key::Name(name), node)),
            Level::Elements(elements, n) => {
                *n += 1;
                elements.next().map(|node| (Key::Index(*n - 1), node))
            }
        };
        if next.is_none() {
            levels.pop();
            keys.pop();
        }
    }
}
