//! What the operator wrote, with its place: TOML and YAML end in the same tree.

use std::fmt;

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
