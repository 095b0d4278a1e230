//! One component's settings, read against its table of fields.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use super::tree::{Node, Place, Value};

/// One setting: its name (dotted for sub-tables, `tls.ca`), type, default and documentation.
///
/// The same table reads the config, answers an unknown key, and prints `shipper list --example`
/// and `docs/CONFIG.md`, so the four cannot disagree.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub name: &'static str,
    pub kind: Type,
    /// The default as an operator would write it in TOML; `None` for "unset" or, with
    /// `required`, for "must be given".
    pub default: Option<&'static str>,
    pub required: bool,
    /// What it does, with unit and range; one or two sentences for the operator.
    pub doc: &'static str,
}

impl Field {
    /// A field with a default.
    pub const fn new(name: &'static str, kind: Type, default: &'static str, doc: &'static str) -> Self {
        Self { name, kind, default: Some(default), required: false, doc }
    }
    /// A field that must be given.
    pub const fn required(name: &'static str, kind: Type, doc: &'static str) -> Self {
        Self { name, kind, default: None, required: true, doc }
    }
    /// A field that may be left unset.
    pub const fn optional(name: &'static str, kind: Type, doc: &'static str) -> Self {
        Self { name, kind, default: None, required: false, doc }
    }
}

/// What a setting may hold; printed in the manual and in errors.
#[derive(Clone, Copy, Debug)]
pub enum Type {
    /// Any text.
    Text,
    /// A path; relative ones are relative to the working directory.
    Path,
    /// `true` or `false`.
    Bool,
    /// A whole number, both ends included.
    Int { min: i64, max: i64 },
    /// A number, whole or not.
    Number,
    /// A size: a number of bytes or text such as `"16 MiB"`.
    Bytes,
    /// A span of time as text: `"5ms"`, `"1s"`, `"2h"`; `"0"` is none.
    Span,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of texts; one text is a list of one.
    Texts,
    /// An address and port.
    Address,
    /// A table of free keys with text, number or boolean values.
    Map,
    /// The name of a `[tables.NAME]` of that kind; the config is checked for it.
    Table(&'static str),
    /// A list of such names; one name is a list of one.
    Tables(&'static str),
    /// A list of tables, each with these settings.
    Records(&'static [Field]),
}

impl Type {
    fn with_article(self) -> String {
        match self {
            Type::Bool | Type::Choice(_) | Type::Text => self.to_string(),
            Type::Address => format!("an {self}"),
            _ => format!("a {self}"),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Text => f.write_str("text"),
            Type::Path => f.write_str("path"),
            Type::Bool => f.write_str("true or false"),
            Type::Int { min, max } if *max == i64::MAX => write!(f, "whole number from {min}"),
            Type::Int { min, max } => write!(f, "whole number from {min} to {max}"),
            Type::Number => f.write_str("number"),
            Type::Bytes => f.write_str("size, such as \"16 MiB\""),
            Type::Span => f.write_str("span, such as \"5ms\" or \"1h\""),
            Type::Choice(words) => write!(f, "one of {}", words.join(", ")),
            Type::Texts => f.write_str("list of texts"),
            Type::Address => f.write_str("address and port, such as \"127.0.0.1:9600\""),
            Type::Map => f.write_str("table"),
            Type::Table(kind) => write!(f, "name of a table of kind {kind}"),
            Type::Tables(kind) => write!(f, "list of names of tables of kind {kind}"),
            Type::Records(fields) => {
                let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
                write!(f, "list of tables with {}", names.join(", "))
            }
        }
    }
}

/// One thing that is wrong with the config: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {key}: {what}")]
pub struct SettingsError {
    pub place: Place,
    /// Dotted, as the operator would write it: `sinks.dfn_cert.topic`.
    pub key: String,
    /// What is wrong and the remedy, `;` between them.
    pub what: String,
}

/// All that is wrong, in the order found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Errors(pub Vec<SettingsError>);

impl Errors {
    /// Notes one more.
    pub fn add(&mut self, place: &Place, key: impl Into<String>, what: impl Into<String>) {
        self.0.push(SettingsError { place: place.clone(), key: key.into(), what: what.into() });
    }
    /// True while nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

/// One component's part of the tree.
///
/// Getters take a field's name; asking for a name that the table lacks is our own mistake and
/// aborts (a contract test parses every kind's example). A value of the wrong type is noted and
/// the default stands in, so that one wrong key never hides the next.
pub struct Section<'t> {
    /// Dotted name of the section: `sinks.dfn_cert`.
    pub name: String,
    node: &'t Node,
    fields: &'static [Field],
    errors: &'t mut Errors,
}

impl<'t> Section<'t> {
    /// Opens a section and notes every key that its table does not have.
    ///
    /// - `common`: keys that the caller itself has read from this table (`kind`, `inputs`, …).
    pub fn open(name: impl Into<String>, node: &'t Node, fields: &'static [Field], common: &[&str], errors: &'t mut Errors) -> Self {
        let section = Self { name: name.into(), node, fields, errors };
        let mut unknown = Vec::new();
        unknown_keys(section.node, "", fields, common, &mut unknown);
        for (place, key) in unknown {
            let known = fields.iter().map(|f| f.name).chain(common.iter().copied());
            let file = format!("{key}_file");
            let answer = match nearest(&key, known) {
                None if fields.iter().any(|f| f.name == file) => {
                    format!("secrets do not stand in the config; write them to a file and set \"{file}\"")
                }
                Some(name) => format!("no such setting; did you mean \"{name}\"?"),
                None => "no such setting; see `shipper list --example` for the known ones".into(),
            };
            section.errors.add(&place, section.dotted(&key), answer);
        }
        section
    }

    /// The place of a setting, or of the section where it is not set.
    pub fn place(&self, name: &str) -> Place {
        self.find(name).map_or_else(|| self.node.place.clone(), |n| n.place.clone())
    }

    fn dotted(&self, name: &str) -> String {
        if self.name.is_empty() { name.to_owned() } else { format!("{}.{name}", self.name) }
    }

    /// Notes that a setting is wrong; for checks that the table cannot express.
    pub fn wrong(&mut self, name: &str, what: impl Into<String>) {
        let place = self.place(name);
        self.errors.add(&place, self.dotted(name), what);
    }

    /// True if the operator wrote this setting.
    pub fn is_set(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// A text setting; empty where it is optional and unset.
    pub fn text(&mut self, name: &str) -> String {
        self.opt_text(name).unwrap_or_default()
    }

    /// A text setting that may be unset.
    pub fn opt_text(&mut self, name: &str) -> Option<String> {
        self.read(name, |value| match value {
            Value::Text(text) => Some(text.clone()),
            Value::Int(n) => Some(n.to_string()),
            _ => None,
        })
    }

    /// A path that may be unset.
    pub fn opt_path(&mut self, name: &str) -> Option<PathBuf> {
        self.opt_text(name).map(PathBuf::from)
    }

    /// A path; empty where it is optional and unset.
    pub fn path(&mut self, name: &str) -> PathBuf {
        self.opt_path(name).unwrap_or_default()
    }

    /// A yes or no.
    pub fn bool(&mut self, name: &str) -> bool {
        self.read(name, |value| match value {
            Value::Bool(b) => Some(*b),
            Value::Text(text) => text.parse().ok(),
            _ => None,
        })
        .unwrap_or_default()
    }

    /// A yes or no of the keys that the caller of [`open`](Self::open) reads itself; `None` if it is unset, or
    /// neither, which the caller tells.
    pub fn also_bool(&self, name: &str) -> Option<bool> {
        match &self.find(name)?.value {
            Value::Bool(b) => Some(*b),
            Value::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// A whole number inside the bounds of its field.
    pub fn int(&mut self, name: &str) -> i64 {
        let Type::Int { min, max } = self.field(name).kind else { unreachable!("{name} is no Int in its table") };
        self.read(name, |value| {
            let n = match value {
                Value::Int(n) => *n,
                Value::Text(text) => text.trim().parse().ok()?,
                _ => return None,
            };
            (min..=max).contains(&n).then_some(n)
        })
        .unwrap_or(min)
    }

    /// A number, whole or not; 0 where it is optional and unset.
    pub fn number(&mut self, name: &str) -> f64 {
        self.opt_number(name).unwrap_or_default()
    }

    /// A number that may be unset. What is no finite number is wrong.
    pub fn opt_number(&mut self, name: &str) -> Option<f64> {
        self.read(name, |value| {
            let x = match value {
                Value::Int(n) => *n as f64,
                Value::Float(x) => *x,
                Value::Text(text) => text.trim().parse().ok()?,
                _ => return None,
            };
            x.is_finite().then_some(x)
        })
    }

    /// A size in bytes.
    pub fn bytes(&mut self, name: &str) -> u64 {
        self.read(name, |value| match value {
            Value::Int(n) => u64::try_from(*n).ok(),
            Value::Text(text) => parse_bytes(text),
            _ => None,
        })
        .unwrap_or_default()
    }

    /// A span of time.
    pub fn span(&mut self, name: &str) -> Duration {
        self.opt_span(name).unwrap_or_default()
    }

    /// A span of time that may be unset.
    pub fn opt_span(&mut self, name: &str) -> Option<Duration> {
        self.read(name, |value| match value {
            Value::Text(text) => parse_span(text),
            Value::Int(0) => Some(Duration::ZERO),
            _ => None,
        })
    }

    /// One of the words of its field.
    pub fn choice(&mut self, name: &str) -> &'static str {
        let Type::Choice(words) = self.field(name).kind else { unreachable!("{name} is no Choice in its table") };
        self.read(name, |value| match value {
            Value::Text(text) => words.iter().copied().find(|w| w.eq_ignore_ascii_case(text)),
            Value::Bool(b) => words.iter().copied().find(|w| *w == if *b { "true" } else { "false" }),
            _ => None,
        })
        .unwrap_or(words[0])
    }

    /// A list of texts; empty where it is optional and unset.
    pub fn texts(&mut self, name: &str) -> Vec<String> {
        self.read(name, |value| match value {
            Value::Text(text) if text.is_empty() => Some(Vec::new()),
            Value::Text(text) => Some(text.split(',').map(|t| t.trim().to_owned()).collect()),
            Value::Int(n) => Some(vec![n.to_string()]),
            Value::List(items) => items
                .iter()
                .map(|item| match &item.value {
                    Value::Text(text) => Some(text.clone()),
                    Value::Int(n) => Some(n.to_string()),
                    _ => None,
                })
                .collect(),
            _ => None,
        })
        .unwrap_or_default()
    }

    /// An address that may be unset.
    pub fn opt_address(&mut self, name: &str) -> Option<SocketAddr> {
        self.read(name, |value| match value {
            Value::Text(text) => SocketAddr::from_str(text).ok(),
            _ => None,
        })
    }

    /// A table of free keys, values as text.
    pub fn map(&mut self, name: &str) -> Vec<(String, String)> {
        self.read(name, |value| match value {
            Value::Table(entries) => entries.iter().map(|(key, node)| Some((key.name.clone(), node.value.as_text()?))).collect(),
            _ => None,
        })
        .unwrap_or_default()
    }

    /// The tables of a list, each as a section of its own; empty where it is unset.
    ///
    /// - `each`: reads one of them.
    pub fn records<T>(&mut self, name: &str, mut each: impl FnMut(&mut Section<'_>) -> T) -> Vec<T> {
        let Type::Records(fields) = self.field(name).kind else { unreachable!("{name} is no Records in its table") };
        let is_table = |node: &Node| matches!(node.value, Value::Table(_));
        let all_tables = |value: &Value| match value {
            Value::List(items) => items.iter().all(is_table).then_some(()),
            _ => None,
        };
        if self.read(name, all_tables).is_none() {
            return Vec::new();
        }
        let Some(Node { value: Value::List(items), .. }) = self.find(name) else { return Vec::new() };
        let path = self.dotted(name);
        let errors = &mut *self.errors;
        (0..).zip(items).map(|(n, node)| each(&mut Section::open(format!("{path}[{n}]"), node, fields, &[], errors))).collect()
    }

    /// The node of a setting, for values that only their component understands.
    pub fn node(&self, name: &str) -> Option<&'t Node> {
        self.find(name)
    }

    fn field(&self, name: &str) -> &'static Field {
        self.fields.iter().find(|f| f.name == name).unwrap_or_else(|| panic!("{}: no field {name} in its table", self.name))
    }

    fn find(&self, name: &str) -> Option<&'t Node> {
        name.split('.').try_fold(self.node, |node, key| node.get(key))
    }

    fn read<T>(&mut self, name: &str, take: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let field = self.field(name);
        let default = || {
            let text = field.default?;
            let node = Node::parse_scalar(text);
            Some(take(&node.value).unwrap_or_else(|| panic!("{}.{name}: its default {text} is not a {}", self.name, field.kind)))
        };
        let Some(node) = self.find(name) else {
            if field.required {
                let place = self.node.place.clone();
                self.errors.add(&place, self.dotted(name), format!("must be set; it is {}", field.kind.with_article()));
            }
            return default();
        };
        match take(&node.value) {
            Some(value) => Some(value),
            None => {
                let what = format!("{} is not {}", node.value.shown(), field.kind.with_article());
                self.errors.add(&node.place, self.dotted(name), what);
                default()
            }
        }
    }
}

fn unknown_keys(node: &Node, prefix: &str, fields: &[Field], common: &[&str], found: &mut Vec<(Place, String)>) {
    let Value::Table(entries) = &node.value else { return };
    for (key, child) in entries {
        let path = if prefix.is_empty() { key.name.clone() } else { format!("{prefix}.{}", key.name) };
        if fields.iter().any(|f| f.name == path) || common.contains(&path.as_str()) {
            continue;
        }
        let inside = format!("{path}.");
        if matches!(child.value, Value::Table(_)) && fields.iter().any(|f| f.name.starts_with(&inside)) {
            unknown_keys(child, &path, fields, common, found);
        } else {
            found.push((key.place.clone(), path));
        }
    }
}

/// The known name nearest to `word`, if one is near enough to be a slip of the hand.
pub fn nearest<'n>(word: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // Two long words would make a large table, and are no slip of the hand.
    known
        .filter(|name| word.len().max(name.len()) <= 64)
        .map(|name| (distance(word.as_bytes(), name.as_bytes()), name))
        .filter(|(steps, name)| *steps <= 1 + name.len().min(word.len()) / 4)
        .min()
        .map(|(_, name)| name)
}

/// Steps (insert, delete, change, swap of neighbours) from one word to the other.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut least = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(rows[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    rows[a.len()][b.len()]
}

/// Reads a size: `4096`, `"64 KiB"`, `"16MiB"`, `"2 GB"`.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// Reads a span: `"250us"`, `"5ms"`, `"1s"`, `"1m 30s"`, `"2h"`, `"7d"`, `"0"`.
pub fn parse_span(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "us" => Duration::from_micros(1),
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" | "min" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            "d" => Duration::from_secs(86_400),
            _ => return None,
        };
        total = total.checked_add(unit.checked_mul(u32::try_from(number).ok()?)?)?;
        rest = rest[letters..].trim_start();
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans_are_read() {
        assert_eq!(parse_bytes("64 KiB"), Some(65_536));
        assert_eq!(parse_bytes("2GB"), Some(2_000_000_000));
        assert_eq!(parse_bytes("two"), None);
        assert_eq!(parse_bytes("99999999999 TiB"), None);
        assert_eq!(parse_span("1m 30s"), Some(Duration::from_secs(90)));
        assert_eq!(parse_span("5"), None);
        assert_eq!(parse_span(""), None);
    }

    #[test]
    fn a_slip_of_the_hand_finds_its_name() {
        let known = ["topic", "brokers", "tls.ca", "compression"];
        let find = |word| nearest(word, known.iter().copied());
        assert_eq!(find("topci"), Some("topic"));
        assert_eq!(find("broker"), Some("brokers"));
        assert_eq!(find("compresion"), Some("compression"));
        assert_eq!(find("zzz"), None);
    }
}
