//! What the operator wrote, with its place: TOML and YAML end in the same tree.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::fmt;

use super::section::Errors;
use crate::limits::CONFIG_DEPTH_MAX;

/// What the names of our environment variables begin with.
pub const ENV_PREFIX: &str = "SHIPPER__";

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of the config file, from 1.
    Line(u32),
    /// An environment variable.
    Env(String),
    /// A flag of the command line.
    Flag(String),
    /// Nowhere: a default of ours.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(n) => write!(f, "line {n}"),
            Place::Env(name) => write!(f, "environment {name}"),
            Place::Flag(name) => write!(f, "flag {name}"),
            Place::Default => f.write_str("default"),
        }
    }
}

/// A key of a table and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub name: String,
    pub place: Place,
}

/// One value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub value: Value,
    pub place: Place,
}

/// What can be written in TOML or YAML.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order written.
    Table(Vec<(Key, Node)>),
}

impl Node {
    /// A table without entries, written nowhere.
    pub fn empty() -> Node {
        Node { value: Value::Table(Vec::new()), place: Place::Default }
    }

    /// Lays environment variables over what the file says.
    ///
    /// `SHIPPER__SINKS__DFN_CERT__TOPIC=x` sets `sinks.dfn_cert.topic`: segments between `__` are
    /// keys, matched to those in the file whatever their case and whether they have `-` or `_`; a
    /// key that the file lacks is taken in lower case. A value is text, `[a, b]` a list of texts.
    /// Variables without the prefix are left alone. In the order of their names, so that the
    /// result does not depend on the process's environment block.
    pub fn overlay_env(&mut self, vars: impl Iterator<Item = (String, String)>, errors: &mut Errors) {
        let mut ours: Vec<_> = vars.filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
        ours.sort();
        for (name, value) in ours {
            let place = Place::Env(name.clone());
            let path: Vec<_> = name.trim_start_matches(ENV_PREFIX).split("__").map(str::to_ascii_lowercase).collect();
            if path.iter().any(String::is_empty) {
                errors.add(&place, path.join("."), "names no setting; write SHIPPER__SECTION__KEY");
                continue;
            }
            let keys: Vec<_> = path.iter().map(String::as_str).collect();
            self.put(&keys, same_env_name, env_value(&value, &place), place, errors);
        }
    }

    /// Sets the value at a dotted path, for flags; tables on the way are made.
    pub fn set(&mut self, path: &str, value: Value, place: Place, errors: &mut Errors) {
        let keys: Vec<_> = path.split('.').collect();
        self.put(&keys, |a, b| a == b, value, place, errors);
    }

    fn put(&mut self, keys: &[&str], same: fn(&str, &str) -> bool, value: Value, place: Place, errors: &mut Errors) {
        if keys.len() > CONFIG_DEPTH_MAX {
            return errors.add(&place, "environment", format!("nested deeper than {CONFIG_DEPTH_MAX}; write SHIPPER__SECTION__KEY"));
        }
        let mut node = self;
        for (depth, name) in keys.iter().enumerate() {
            if matches!(node.value, Value::Null) {
                *node = Node { value: Value::Table(Vec::new()), place: place.clone() };
            }
            let Value::Table(entries) = &mut node.value else {
                let above = keys.get(..depth).unwrap_or_default().join(".");
                return errors.add(&place, keys.join("."), format!("{above} is no table and has no keys; remove one of the two"));
            };
            // An exact match first: `a-b` and `a_b` may both exist.
            let at =
                entries.iter().position(|(key, _)| key.name == *name).or_else(|| entries.iter().position(|(key, _)| same(&key.name, name)));
            let at = at.unwrap_or_else(|| {
                let key = Key { name: (*name).to_owned(), place: place.clone() };
                entries.push((key, Node { value: Value::Null, place: place.clone() }));
                entries.len() - 1
            });
            let Some((_, next)) = entries.get_mut(at) else { return };
            node = next;
        }
        *node = Node { value, place };
    }

    /// The value of a table's key; `None` in anything but a table.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Table(entries) => entries.iter().find(|(k, _)| k.name == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The entries of a table, in the order written; empty for anything else.
    pub fn entries(&self) -> &[(Key, Node)] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }

    /// Reads one value as it would stand in a TOML file after `=`; text that is not quoted and
    /// is no other value stands for itself.
    pub fn parse_scalar(text: &str) -> Node {
        let value = match text {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "[]" => Value::List(Vec::new()),
            "{}" => Value::Table(Vec::new()),
            _ => {
                let bare = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
                match (bare, text.parse::<i64>(), text.strip_prefix('[').and_then(|t| t.strip_suffix(']'))) {
                    (Some(inner), _, _) => Value::Text(inner.replace("\\\"", "\"").replace("\\\\", "\\")),
                    (_, Ok(n), _) => Value::Int(n),
                    (_, _, Some(list)) => Value::List(list.split(',').map(|item| Node::parse_scalar(item.trim())).collect()),
                    _ => Value::Text(text.to_owned()),
                }
            }
        };
        Node { value, place: Place::Default }
    }
}

impl Value {
    /// A scalar as text; `None` for lists and tables.
    pub fn as_text(&self) -> Option<String> {
        match self {
            Value::Text(text) => Some(text.clone()),
            Value::Int(n) => Some(n.to_string()),
            Value::Float(x) => Some(x.to_string()),
            Value::Bool(b) => Some(b.to_string()),
            Value::Null => Some(String::new()),
            Value::List(_) | Value::Table(_) => None,
        }
    }

    /// The value as an error may show it: short, and never a table's content.
    pub fn shown(&self) -> String {
        match self {
            Value::Text(text) => {
                let cut: String = text.chars().take(40).collect();
                if cut.len() < text.len() { format!("{cut:?}…") } else { format!("{cut:?}") }
            }
            Value::Int(n) => n.to_string(),
            Value::Float(x) => x.to_string(),
            Value::Bool(b) => b.to_string(),
            Value::Null => "nothing".into(),
            Value::List(_) => "a list".into(),
            Value::Table(_) => "a table".into(),
        }
    }
}

fn same_env_name(a: &str, b: &str) -> bool {
    let fold = |byte: u8| if byte == b'-' { b'_' } else { byte.to_ascii_lowercase() };
    a.bytes().map(fold).eq(b.bytes().map(fold))
}

/// Text stays text (a topic named `007` keeps its zeros; the getters read numbers from text).
fn env_value(text: &str, place: &Place) -> Value {
    let Some(list) = text.trim().strip_prefix('[').and_then(|t| t.strip_suffix(']')) else {
        return Value::Text(text.to_owned());
    };
    let items = list.split(',').map(|item| item.trim().trim_matches('"')).filter(|item| !item.is_empty());
    Value::List(items.map(|item| Node { value: Value::Text(item.to_owned()), place: place.clone() }).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests state what must hold")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn overlaid(text: &str, vars: &[(&str, &str)]) -> (Node, Errors) {
        let mut node = Node::parse_toml(text).unwrap();
        let mut errors = Errors::default();
        node.overlay_env(vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())), &mut errors);
        (node, errors)
    }

    #[test]
    fn a_variable_finds_its_key_whatever_its_case_and_dashes() {
        let (node, errors) = overlaid("[sinks.DFN-cert]\ntopic = 'a'\n", &[("SHIPPER__SINKS__DFN_CERT__TOPIC", "007"), ("HOME", "/")]);
        assert!(errors.is_empty(), "{errors}");
        let sinks = node.get("sinks").unwrap();
        assert_eq!(sinks.entries().len(), 1);
        let topic = sinks.get("DFN-cert").unwrap().get("topic").unwrap();
        assert_eq!(topic.value, Value::Text("007".into()));
        assert_eq!(topic.place, Place::Env("SHIPPER__SINKS__DFN_CERT__TOPIC".into()));
    }

    #[test]
    fn a_variable_makes_the_tables_that_are_missing() {
        let (node, errors) = overlaid("", &[("SHIPPER__SOURCES__IN__PATHS", "[/a, \"/b\"]")]);
        assert!(errors.is_empty(), "{errors}");
        let Value::List(items) = &node.get("sources").unwrap().get("in").unwrap().get("paths").unwrap().value else { panic!("no list") };
        let texts: Vec<_> = items.iter().map(|n| n.value.as_text().unwrap()).collect();
        assert_eq!(texts, ["/a", "/b"]);
    }

    #[test]
    fn a_variable_below_a_value_is_an_error() {
        let (_, errors) = overlaid("cores = 1\n", &[("SHIPPER__CORES__X", "1"), ("SHIPPER__", "1")]);
        assert_eq!(
            errors.to_string(),
            "environment SHIPPER__: : names no setting; write SHIPPER__SECTION__KEY\n\
             environment SHIPPER__CORES__X: cores.x: cores is no table and has no keys; remove one of the two"
        );
    }

    proptest! {
        #[test]
        fn no_variable_makes_it_panic(name in "[A-Ca-c_-]{0,12}", value in r#"[\[\]",a ]{0,8}"#) {
            let _ = overlaid("a = 1\n[b]\nc = [1]\n", &[(&format!("SHIPPER__{name}"), &value)]);
        }
    }
}
