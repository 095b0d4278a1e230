//! What a foreign configuration says, value by value, as the program it was written for reads it.
//!
//! YAML is read by the rules of YAML 1.1 (`off` is false, `1_000` a number, `2026-03-14` a date),
//! because that is what Python's loader does; our own config is read elsewhere, by YAML 1.2.
//! Refuses to know any key.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput, Tag};

/// Nested deeper than this, a configuration is refused.
const DEPTH_MAX: u32 = 32;
/// Values a configuration may hold, its aliases written out; one more is refused.
const VALUES_MAX: u32 = 100_000;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Yaml,
    Toml,
}

impl Format {
    /// The format of a word (`yaml`, `toml`); `None` for any other.
    pub fn of_word(word: &str) -> Option<Self> {
        match word {
            "yaml" => Some(Self::Yaml),
            "toml" => Some(Self::Toml),
            _ => None,
        }
    }
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// A value that no key takes, in words: "a date".
    Other(&'static str),
    List(Vec<Given>),
    /// In the order written; of two equal keys the last one stands.
    Table(Vec<(String, Given)>),
}

impl Given {
    /// Reads a whole file.
    ///
    /// # Errors
    /// What the parser did not understand, with its line.
    pub fn parse(text: &str, format: Format) -> Result<Self, String> {
        match format {
            Format::Yaml => parse_yaml(text, plain),
            Format::Toml => toml::from_str::<toml::Table>(text)
                .map(|table| of_toml(toml::Value::Table(table)))
                .map_err(|error| error.to_string().trim_end().replace('\n', " ")),
        }
    }

    /// Reads YAML whose values stay the text that was written: `5.0` is "5.0", `yes` is "yes"; only
    /// nothing, `~` and `null` are null. For files whose reader makes text of every value.
    ///
    /// # Errors
    /// What the parser did not understand, with its line.
    pub fn parse_words(text: &str) -> Result<Self, String> {
        parse_yaml(text, |text| match text {
            "" | "~" | "null" | "Null" | "NULL" => Self::Null,
            text => Self::Text(text.to_owned()),
        })
    }

    /// Reads JSON text.
    ///
    /// # Errors
    /// What the parser did not understand.
    pub fn parse_json(text: &str) -> Result<Self, String> {
        serde_json::from_str::<serde_json::Value>(text).map(of_json).map_err(|error| error.to_string())
    }

    /// The value as an error may show it: short, never the content of a list or table.
    pub fn shown(&self) -> String {
        match self {
            Self::Null => "nothing".into(),
            Self::Bool(b) => b.to_string(),
            Self::Int(n) => n.to_string(),
            Self::Float(x) => x.to_string(),
            Self::Text(text) => {
                let cut: String = text.chars().take(40).collect();
                if cut.len() < text.len() { format!("{cut:?}…") } else { format!("{cut:?}") }
            }
            Self::Other(what) => (*what).into(),
            Self::List(_) => "a list".into(),
            Self::Table(_) => "a table".into(),
        }
    }
}

fn of_toml(value: toml::Value) -> Given {
    match value {
        toml::Value::String(text) => Given::Text(text),
        toml::Value::Integer(n) => Given::Int(n),
        toml::Value::Float(x) => Given::Float(x),
        toml::Value::Boolean(b) => Given::Bool(b),
        toml::Value::Datetime(_) => Given::Other("a date"),
        toml::Value::Array(items) => Given::List(items.into_iter().map(of_toml).collect()),
        toml::Value::Table(table) => Given::Table(table.into_iter().map(|(key, value)| (key, of_toml(value))).collect()),
    }
}

fn of_json(value: serde_json::Value) -> Given {
    match value {
        serde_json::Value::Null => Given::Null,
        serde_json::Value::Bool(b) => Given::Bool(b),
        serde_json::Value::Number(n) => match n.as_i64() {
            Some(n) => Given::Int(n),
            None => n.as_f64().map_or(Given::Other("a number beyond 64 bits"), Given::Float),
        },
        serde_json::Value::String(text) => Given::Text(text),
        serde_json::Value::Array(items) => Given::List(items.into_iter().map(of_json).collect()),
        serde_json::Value::Object(map) => Given::Table(map.into_iter().map(|(key, value)| (key, of_json(value))).collect()),
    }
}

/// - `plain`: what a value without quotes is.
fn parse_yaml(text: &str, plain: fn(&str) -> Given) -> Result<Given, String> {
    let parser = Parser::new_from_str(text.trim_start_matches('\u{feff}'));
    let mut loader = Loader { parser, anchors: HashMap::new(), values: 0, plain };
    let mut document = None;
    loop {
        match loader.next()? {
            Event::StreamStart | Event::Nothing | Event::DocumentEnd => {}
            Event::StreamEnd => return Ok(document.unwrap_or(Given::Null)),
            Event::DocumentStart(_) if document.is_some() => return Err("holds more than one document".into()),
            Event::DocumentStart(_) => {
                let first = loader.next()?;
                document = Some(loader.value(first, 0)?);
            }
            _ => return Err("is not one YAML document".into()),
        }
    }
}

struct Loader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, (Given, u32)>,
    values: u32,
    plain: fn(&str) -> Given,
}

impl<'t> Loader<'t> {
    fn next(&mut self) -> Result<Event<'t>, String> {
        match self.parser.next_event() {
            Some(Ok((event, _))) => Ok(event),
            Some(Err(error)) => Err(error.to_string()),
            None => Ok(Event::StreamEnd),
        }
    }

    fn spend(&mut self, values: u32) -> Result<(), String> {
        self.values = self.values.saturating_add(values);
        if self.values > VALUES_MAX { Err(format!("holds more than {VALUES_MAX} values")) } else { Ok(()) }
    }

    fn value(&mut self, event: Event<'t>, depth: u32) -> Result<Given, String> {
        if depth > DEPTH_MAX {
            return Err(format!("is nested deeper than {DEPTH_MAX} levels"));
        }
        let before = self.values;
        self.spend(1)?;
        let (anchor, value) = match event {
            Event::Alias(anchor) => {
                let (value, values) = self.anchors.get(&anchor).cloned().ok_or("names an anchor that is not there")?;
                self.spend(values)?;
                return Ok(value);
            }
            Event::Scalar(text, style, anchor, tag) => (anchor, scalar(&text, style, tag.as_deref(), self.plain)?),
            Event::SequenceStart(anchor, tag) => {
                plain_tag(tag.as_deref(), "seq")?;
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => break,
                        event => items.push(self.value(event, depth + 1)?),
                    }
                }
                (anchor, Given::List(items))
            }
            Event::MappingStart(anchor, tag) => {
                plain_tag(tag.as_deref(), "map")?;
                (anchor, Given::Table(self.entries(depth)?))
            }
            _ => return Err("ends in the middle of a value".into()),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, (value.clone(), self.values - before));
        }
        Ok(value)
    }

    fn entries(&mut self, depth: u32) -> Result<Vec<(String, Given)>, String> {
        let (mut entries, mut merged) = (Vec::new(), Vec::new());
        loop {
            let key = match self.next()? {
                Event::MappingEnd => break,
                Event::Scalar(text, style, _, _) => (text.into_owned(), style == ScalarStyle::Plain),
                event => match self.value(event, depth + 1)? {
                    Given::Text(text) => (text, false),
                    other => (other.shown(), false),
                },
            };
            let event = self.next()?;
            let value = self.value(event, depth + 1)?;
            match (key, value) {
                ((key, true), Given::Table(inner)) if key == "<<" => merged.extend(inner),
                ((key, true), Given::List(tables)) if key == "<<" => {
                    for table in tables {
                        match table {
                            Given::Table(inner) => merged.extend(inner),
                            _ => return Err("merges (`<<`) something that is no table".into()),
                        }
                    }
                }
                ((key, _), value) => put(&mut entries, key, value),
            }
        }
        for (key, value) in merged {
            if !entries.iter().any(|(k, _)| *k == key) {
                entries.push((key, value));
            }
        }
        Ok(entries)
    }
}

fn put(entries: &mut Vec<(String, Given)>, key: String, value: Given) {
    match entries.iter_mut().find(|(k, _)| *k == key) {
        Some((_, old)) => *old = value,
        None => entries.push((key, value)),
    }
}

fn plain_tag(tag: Option<&Tag>, suffix: &str) -> Result<(), String> {
    match tag {
        None => Ok(()),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == suffix => Ok(()),
        Some(tag) => Err(format!("has the tag {}{}; remove it", tag.handle, tag.suffix)),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, plain: fn(&str) -> Given) -> Result<Given, String> {
    match tag {
        Some(tag) if tag.is_yaml_core_schema() => match tag.suffix.as_str() {
            "str" => Ok(Given::Text(text.to_owned())),
            "int" | "float" | "bool" | "null" => Ok(plain(text)),
            _ => plain_tag(Some(tag), "").map(|()| Given::Null),
        },
        Some(tag) if !(tag.handle == "!" && tag.suffix.is_empty()) => plain_tag(Some(tag), "").map(|()| Given::Null),
        Some(_) => Ok(Given::Text(text.to_owned())),
        None if style == ScalarStyle::Plain => Ok(plain(text)),
        None => Ok(Given::Text(text.to_owned())),
    }
}

/// Resolves plain text by YAML 1.1, as Python's loader does.
///
/// | text                   | becomes                                             |
/// |------------------------|-----------------------------------------------------|
/// | nothing, `~`, `null`   | null                                                |
/// | `yes`, `on`, `true`, … | a boolean, in lower, upper and title case           |
/// | `1_000`, `0x1f`, `1:30`| 1000, 31, 90                                        |
/// | `010`                  | refused: it would be 8, and nobody means that       |
/// | `1.5`, `1.0e+3`        | a float; `1e3` is text                              |
/// | `2026-03-14`           | a date, which no key takes                          |
fn plain(text: &str) -> Given {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Given::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Given::Bool(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return Given::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Given::Float(f64::NAN),
        _ => {}
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if matches!(digits, ".inf" | ".Inf" | ".INF") {
        return Given::Float(f64::from(sign) * f64::INFINITY);
    }
    whole(sign, digits)
        .or_else(|| fraction(sign, digits))
        .unwrap_or_else(|| if is_date(text) { Given::Other("a date") } else { Given::Text(text.to_owned()) })
}

fn whole(sign: i32, digits: &str) -> Option<Given> {
    let all = |text: &str, good: fn(char) -> bool| !text.is_empty() && text.chars().all(|c| c == '_' || good(c));
    let bare: String = digits.chars().filter(|c| *c != '_').collect();
    let number = if let Some(rest) = digits.strip_prefix("0b").filter(|rest| all(rest, |c| matches!(c, '0' | '1'))) {
        i64::from_str_radix(&rest.replace('_', ""), 2)
    } else if let Some(rest) = digits.strip_prefix("0x").filter(|rest| all(rest, |c| c.is_ascii_hexdigit())) {
        i64::from_str_radix(&rest.replace('_', ""), 16)
    } else if digits.strip_prefix('0').is_some_and(|rest| all(rest, |c| matches!(c, '0'..='7'))) {
        return Some(Given::Other("a number with a leading zero (YAML reads it as octal)"));
    } else if digits == "0" || (digits.starts_with(|c: char| matches!(c, '1'..='9')) && all(digits, |c| c.is_ascii_digit())) {
        bare.parse()
    } else {
        return sexagesimal(sign, digits);
    };
    Some(match number {
        Ok(n) => Given::Int(n * i64::from(sign)),
        Err(_) => Given::Other("a number beyond 64 bits"),
    })
}

/// `1:30` is 90 in YAML 1.1.
fn sexagesimal(sign: i32, digits: &str) -> Option<Given> {
    let (first, rest) = digits.split_once(':')?;
    if !first.starts_with(|c: char| matches!(c, '1'..='9')) || !first.chars().all(|c| c == '_' || c.is_ascii_digit()) {
        return None;
    }
    let mut total: i64 = first.replace('_', "").parse().ok()?;
    for part in rest.split(':') {
        let n: i64 = part.parse().ok().filter(|n| *n < 60)?;
        if part.len() > 2 || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        total = total.checked_mul(60)?.checked_add(n)?;
    }
    Some(Given::Int(total * i64::from(sign)))
}

fn fraction(sign: i32, digits: &str) -> Option<Given> {
    let (whole, rest) = digits.split_once('.')?;
    let (part, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (rest.get(..at)?, Some(rest.get(at + 1..)?)),
        None => (rest, None),
    };
    let number = |text: &str| text.chars().all(|c| c == '_' || c.is_ascii_digit());
    let starts = if whole.is_empty() { part } else { whole };
    let power = exponent
        .is_none_or(|e| e.strip_prefix(['+', '-']).is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())));
    if !power || !number(whole) || !number(part) || !starts.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let exponent = exponent.map(|e| format!("e{e}")).unwrap_or_default();
    let text = format!("0{}.{}0{exponent}", whole.replace('_', ""), part.replace('_', ""));
    text.parse::<f64>().ok().map(|x| Given::Float(x * f64::from(sign)))
}

fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let digits = |part: Option<&str>, long: std::ops::RangeInclusive<usize>| {
        part.is_some_and(|p| long.contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()))
    };
    if !digits(parts.next(), 4..=4) || !digits(parts.next(), 1..=2) {
        return false;
    }
    let Some(rest) = parts.next() else { return false };
    let (day, time) = match rest.find(['T', 't', ' ']) {
        Some(at) => (rest.get(..at), rest.get(at + 1..)),
        None => (Some(rest), None),
    };
    digits(day, 1..=2) && time.is_none_or(|time| time.trim_start().starts_with(|c: char| c.is_ascii_digit()) && time.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_read_by_the_rules_of_yaml_1_1() {
        let text = |t: &str| Given::Text(t.to_owned());
        for (given, want) in [
            ("off", Given::Bool(false)),
            ("Yes", Given::Bool(true)),
            ("yES", text("yES")),
            ("y", text("y")),
            ("~", Given::Null),
            ("1_000", Given::Int(1000)),
            ("-5", Given::Int(-5)),
            ("0x1f", Given::Int(31)),
            ("0b11", Given::Int(3)),
            ("1:30", Given::Int(90)),
            ("1:60", text("1:60")),
            ("kafka:9093", text("kafka:9093")),
            ("08", text("08")),
            ("1.5", Given::Float(1.5)),
            ("-.5", Given::Float(-0.5)),
            ("1.", Given::Float(1.0)),
            ("1e3", text("1e3")),
            ("1.0e+3", Given::Float(1000.0)),
            ("1.0e3", text("1.0e3")),
            ("10.0.0.0/8", text("10.0.0.0/8")),
            ("10.0.0", text("10.0.0")),
            ("::1", text("::1")),
            ("2026-03-14", Given::Other("a date")),
            ("2026-03-14-x", text("2026-03-14-x")),
            ("99999999999999999999", Given::Other("a number beyond 64 bits")),
        ] {
            assert_eq!(plain(given), want, "{given}");
        }
        assert!(matches!(plain("010"), Given::Other(_)));
        assert!(matches!(plain("-0_7"), Given::Other(_)));
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..9 {
            let items = vec![format!("*a{}", n - 1); 10].join(", ");
            text.push_str(&format!("a{n}: &a{n} [{items}]\n"));
        }
        assert!(Given::parse(&text, Format::Yaml).is_err_and(|e| e.contains("values")));
        assert!(Given::parse(&"[".repeat(500), Format::Yaml).is_err());
    }

    #[test]
    fn the_last_of_two_keys_stands_and_merges_do_not_overwrite() {
        let table = |text| Given::parse(text, Format::Yaml);
        assert_eq!(table("{a: 1, a: 2}"), Ok(Given::Table(vec![("a".into(), Given::Int(2))])));
        let merged = table("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\n").map(|t| match t {
            Given::Table(entries) => entries.last().cloned(),
            _ => None,
        });
        let want = Given::Table(vec![("b".into(), Given::Int(3)), ("a".into(), Given::Int(1))]);
        assert_eq!(merged, Ok(Some(("y".into(), want))));
        assert!(table("--- {a: 1}\n--- {b: 1}\n").is_err());
        assert!(table("a: !thing 5\n").is_err());
        assert_eq!(table(""), Ok(Given::Null));
        let text = |t: &str| Given::Text(t.to_owned());
        let words = vec![text("5.0"), text("yes"), Given::Null, text("null"), text("010")];
        assert_eq!(Given::parse_words("[5.0, yes, ~, 'null', 010]"), Ok(Given::List(words)));
    }
}
