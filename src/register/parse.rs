//! TOML and YAML text → the one spanned tree.
//!
//! TOML gives every syntax error at once; YAML stops at its first. Of YAML only what TOML has as
//! well is taken: one document, text keys, no anchors, aliases or tags (an alias makes a small
//! file arbitrarily large). Nesting is bounded by [`CONFIG_DEPTH_MAX`], so that no walk over the
//! tree can exhaust the stack.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    section::Errors,
    tree::{Key, Node, Place, Value},
};
use crate::limits::CONFIG_DEPTH_MAX;

const SYNTAX: &str = "syntax";

/// Where each line begins, to turn offsets into line numbers.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at).collect())
    }
    fn place(&self, span: &Range<usize>) -> Place {
        Place::Line(u32::try_from(self.0.partition_point(|end| *end < span.start) + 1).unwrap_or(u32::MAX))
    }
}

impl Node {
    /// Parses a TOML file.
    ///
    /// # Errors
    /// Every syntax error with its line.
    pub fn parse_toml(text: &str) -> Result<Node, Errors> {
        let lines = Lines::of(text);
        let (table, wrong) = DeTable::parse_recoverable(text);
        let mut errors = Errors::default();
        for error in wrong {
            let place = lines.place(&error.span().unwrap_or(0..0));
            errors.add(&place, SYNTAX, format!("{}; mend the TOML", error.message().replace('\n', ", ")));
        }
        let node = toml_table(table.get_ref(), Place::Line(1), &lines, &mut errors);
        if errors.is_empty() { Ok(node) } else { Err(errors) }
    }

    /// Parses a YAML file; an empty one is an empty table.
    ///
    /// # Errors
    /// The first thing that is not YAML, or not of the part of YAML that we take.
    pub fn parse_yaml(text: &str) -> Result<Node, Errors> {
        let mut builder = YamlBuilder::default();
        for event in Parser::new_from_str(text) {
            let step = match event {
                Ok((event, span)) => builder.take(event, span),
                Err(error) => Err((line(error.marker().line()), format!("{}; mend the YAML", error.info()))),
            };
            if let Err((place, what)) = step {
                let mut errors = Errors::default();
                errors.add(&place, SYNTAX, what);
                return Err(errors);
            }
        }
        Ok(builder.root.unwrap_or_else(Node::empty))
    }
}

fn toml_table(table: &DeTable<'_>, place: Place, lines: &Lines, errors: &mut Errors) -> Node {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let entries = entries
        .into_iter()
        .map(|(key, value)| {
            let name = Key { name: key.get_ref().clone().into_owned(), place: lines.place(&key.span()) };
            (name, toml_value(value, key.span(), lines, errors))
        })
        .collect();
    Node { value: Value::Table(entries), place }
}

/// - `key`: the span of the value's key; a table's own span may begin at a later header.
fn toml_value(value: &Spanned<DeValue<'_>>, key: Range<usize>, lines: &Lines, errors: &mut Errors) -> Node {
    let place = lines.place(&value.span());
    let value = match value.get_ref() {
        DeValue::Table(table) => return toml_table(table, lines.place(&key), lines, errors),
        DeValue::Array(items) => Value::List(items.iter().map(|item| toml_value(item, item.span(), lines, errors)).collect()),
        DeValue::String(text) => Value::Text(text.clone().into_owned()),
        DeValue::Boolean(b) => Value::Bool(*b),
        DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix()).map_or_else(
            |_| {
                errors.add(&place, SYNTAX, format!("{n} does not fit a whole number of 64 bits; write a smaller one"));
                Value::Null
            },
            Value::Int,
        ),
        DeValue::Float(x) => Value::Float(x.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
    };
    Node { value, place }
}

type Refusal = (Place, String);

fn line(n: usize) -> Place {
    Place::Line(u32::try_from(n.max(1)).unwrap_or(u32::MAX))
}

/// Builds the tree from parser events; open containers wait on a stack of our own.
#[derive(Default)]
struct YamlBuilder {
    open: Vec<Open>,
    root: Option<Node>,
}

enum Open {
    List(Place, Vec<Node>),
    /// Place, entries, and the key whose value comes next.
    Table(Place, Vec<(Key, Node)>, Option<Key>),
}

impl YamlBuilder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Refusal> {
        let place = line(span.start.line());
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) if self.root.is_some() => Err((place, "a second document; keep one".into())),
            Event::DocumentStart(_) => Ok(()),
            Event::Alias(_) => Err((place, "an alias (`*name`); write the value out".into())),
            Event::Scalar(_, _, anchor, ref tag) | Event::SequenceStart(anchor, ref tag) | Event::MappingStart(anchor, ref tag)
                if anchor != 0 || tag.is_some() =>
            {
                Err((place, "an anchor or a tag (`&name`, `!name`); write the plain value".into()))
            }
            Event::SequenceStart(..) => self.begin(Open::List(place, Vec::new())),
            Event::MappingStart(..) => self.begin(Open::Table(place, Vec::new(), None)),
            Event::Scalar(text, style, _, _) => self.put(Node { value: yaml_scalar(&text, style), place }),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(place, items)) => self.put(Node { value: Value::List(items), place }),
                Some(Open::Table(place, entries, _)) => self.put(Node { value: Value::Table(entries), place }),
                None => Err((place, "an end without a beginning; mend the YAML".into())),
            },
        }
    }

    fn begin(&mut self, container: Open) -> Result<(), Refusal> {
        let (Open::List(place, _) | Open::Table(place, ..)) = &container;
        if self.open.len() >= CONFIG_DEPTH_MAX {
            return Err((place.clone(), format!("nested deeper than {CONFIG_DEPTH_MAX}; flatten it")));
        }
        if let Some(Open::Table(_, _, None)) = self.open.last() {
            return Err((place.clone(), "a list or table as a key; keys are text".into()));
        }
        self.open.push(container);
        Ok(())
    }

    fn put(&mut self, node: Node) -> Result<(), Refusal> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Table(_, entries, key)) => match key.take() {
                Some(key) => {
                    // A table stands where its key does, as in TOML.
                    let place = if matches!(node.value, Value::Table(_)) { key.place.clone() } else { node.place };
                    entries.push((key, Node { value: node.value, place }));
                }
                None => {
                    let Some(name) = node.value.as_text() else {
                        return Err((node.place, "a list or table as a key; keys are text".into()));
                    };
                    if entries.iter().any(|(key, _)| key.name == name) {
                        return Err((node.place, format!("key {} stands twice in one table; remove one", Value::Text(name).shown())));
                    }
                    *key = Some(Key { name, place: node.place });
                }
            },
        }
        Ok(())
    }
}

/// YAML 1.2 core schema, §10.3.2, with `yes`, `no`, `on`, `off` left as text.
fn yaml_scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => {
            if let Ok(n) = text.parse() {
                Value::Int(n)
            } else if let (true, Ok(x)) = (text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)), text.parse()) {
                Value::Float(x)
            } else {
                Value::Text(text.to_owned())
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests state what must hold")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn toml_and_yaml_end_in_the_same_tree() {
        let toml = Node::parse_toml("cores = 2\n[sinks.out]\nkind = \"file\"\nn = [1, \"b\"]\nyes = true\n").unwrap();
        let yaml = Node::parse_yaml("cores: 2\nsinks:\n  out:\n    kind: file\n    n: [1, b]\n    yes: true\n").unwrap();
        assert_eq!(plain(&toml), plain(&yaml));
        assert_eq!(toml.get("sinks").unwrap().get("out").unwrap().get("n").unwrap().place, Place::Line(4));
        assert_eq!(yaml.get("sinks").unwrap().get("out").unwrap().get("n").unwrap().place, Place::Line(5));
    }

    fn plain(node: &Node) -> String {
        match &node.value {
            Value::Table(entries) => entries.iter().map(|(k, v)| format!("{}={{{}}}", k.name, plain(v))).collect(),
            Value::List(items) => items.iter().map(|v| format!("[{}]", plain(v))).collect(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn every_toml_error_has_its_line() {
        let errors = Node::parse_toml("a = \nb = 1\nc = = 2\nd = 99999999999999999999\n").unwrap_err();
        let places: Vec<_> = errors.0.iter().map(|e| e.place.clone()).collect();
        assert!(places.contains(&Place::Line(1)) && places.contains(&Place::Line(3)), "{errors}");
    }

    #[test]
    fn an_empty_file_is_an_empty_table() {
        for text in ["", "\n", "# nothing\n"] {
            assert_eq!(Node::parse_yaml(text).unwrap().entries(), [], "{text:?}");
            assert_eq!(Node::parse_toml(text).unwrap().entries(), [], "{text:?}");
        }
    }

    #[test]
    fn what_makes_yaml_surprising_is_refused() {
        for (text, part) in [
            ("a: &x 1\nb: *x\n", "an anchor"),
            ("a: !!str 1\n", "a tag"),
            ("a: 1\n---\nb: 2\n", "second document"),
            ("a: 1\na: 2\n", "stands twice"),
            ("? [a]\n: 1\n", "as a key"),
            ("a: [1\n", "mend the YAML"),
        ] {
            let error = Node::parse_yaml(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_before_it_costs_the_stack() {
        for text in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(10_000)] {
            assert!(Node::parse_yaml(&text).is_err());
        }
        assert!(Node::parse_toml(&format!("a = {}", "[".repeat(100_000))).is_err());
        assert!(Node::parse_toml(&format!("{}a = 1", "a.".repeat(100_000))).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in r#"[-a-c0-9.:=\[\]{}"'\n ,#&*!|>?]{0,60}"#) {
            let _ = Node::parse_toml(&text);
            let _ = Node::parse_yaml(&text);
        }
    }
}
