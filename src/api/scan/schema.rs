//! What a request must be, and what an answer is: read by the check of bodies, and told by `/openapi.json`.

use std::net::Ipv6Addr;

use serde_json::{Map, Value, json};

/// A value of JSON.
#[derive(Clone, Copy)]
pub(super) enum Schema {
    /// An object with these members and no others.
    Object(&'static [Field]),
    /// An object with at least these members.
    Open(&'static [Field]),
    /// Any object, of at most so many bytes as JSON and so deep; of answers 0 is any.
    Free {
        bytes: usize,
        depth: usize,
    },
    Text(Form),
    /// One of these texts.
    Choice(&'static [&'static str]),
    Whole {
        min: i64,
        max: i64,
    },
    Number {
        min: f64,
        max: f64,
    },
    Bool,
    List {
        of: &'static Schema,
        min: usize,
        max: usize,
        is_set: bool,
    },
    Nullable(&'static Schema),
    /// Anything.
    Any,
}

/// A member of an object, or a parameter.
#[derive(Clone, Copy)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) of: Schema,
    pub(super) need: Need,
    /// A line for people.
    pub(super) doc: &'static str,
}

/// Whether a member must be there.
#[derive(Clone, Copy)]
pub(super) enum Need {
    Must,
    May,
    /// Where it is absent this stands, as JSON.
    Else(&'static str),
}

pub(super) const fn must(name: &'static str, of: Schema, doc: &'static str) -> Field {
    Field { name, of, need: Need::Must, doc }
}
pub(super) const fn may(name: &'static str, of: Schema, doc: &'static str) -> Field {
    Field { name, of, need: Need::May, doc }
}
pub(super) const fn or(name: &'static str, of: Schema, default: &'static str, doc: &'static str) -> Field {
    Field { name, of, need: Need::Else(default), doc }
}

/// Forms of texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// At most so many bytes.
    Free(usize),
    /// At least one byte, at most so many, none of them NUL.
    Path(usize),
    /// 1 to 128 of `[A-Za-z0-9_-]`.
    Id,
    /// 3 to 64 of them.
    WorkerId,
    Host,
    /// `1.2.3`.
    Version,
    /// `[A-Za-z0-9._-]{1,128}`, not beginning with a dot.
    FileName,
    /// A flat name.
    Metric,
    /// Braces only as `{value}`.
    Template,
    /// 64 hex digits.
    Sha256,
    /// A day, or a time as RFC 3339; without a zone it is UTC.
    Time,
}

impl Form {
    /// Pattern for programs, and words for people.
    fn told(self) -> (Option<&'static str>, String) {
        match self {
            Self::Free(max) => (None, format!("a text of at most {max} bytes")),
            Self::Path(max) => (Some("^[^\\u0000]+$"), format!("1 to {max} bytes without NUL")),
            Self::Id => (Some("^[A-Za-z0-9_-]{1,128}$"), "1 to 128 of A-Z a-z 0-9 _ -".into()),
            Self::WorkerId => (Some("^[A-Za-z0-9_-]{3,64}$"), "3 to 64 of A-Z a-z 0-9 _ -".into()),
            Self::Host => (Some("^[A-Za-z0-9.-]{1,253}$"), "a host's name or address".into()),
            Self::Version => (Some("^[0-9]{1,9}\\.[0-9]{1,9}\\.[0-9]{1,9}$"), "three numbers with dots, as 1.2.3".into()),
            Self::FileName => {
                (Some("^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$"), "1 to 128 of A-Z a-z 0-9 . _ -, not beginning with a dot".into())
            }
            Self::Metric => (Some("^[A-Za-z0-9._-]{1,128}$"), "1 to 128 of A-Z a-z 0-9 . _ -".into()),
            Self::Template => (Some("^([^{}]|\\{value\\})+$"), "1 to 1024 bytes, with no braces but {value}".into()),
            Self::Sha256 => (Some("^[0-9a-f]{64}$"), "64 hex digits in lower case".into()),
            Self::Time => (None, "a day as 2026-01-31, or a time as 2026-01-31T12:00:00Z".into()),
        }
    }

    fn is(self, text: &str) -> bool {
        let length = text.len();
        let all = |also: &[u8]| text.bytes().all(|b| b.is_ascii_alphanumeric() || also.contains(&b));
        match self {
            Self::Free(max) => length <= max,
            Self::Path(max) => (1..=max).contains(&length) && !text.contains('\0'),
            Self::Id => is_id(text),
            Self::WorkerId => (3..=64).contains(&length) && all(b"_-"),
            Self::Host => ((1..=253).contains(&length) && all(b".-")) || text.parse::<Ipv6Addr>().is_ok(),
            Self::Version => {
                text.split('.').count() == 3 && text.split('.').all(|n| (1..=9).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit()))
            }
            Self::FileName => (1..=128).contains(&length) && all(b"._-") && !text.starts_with('.'),
            Self::Metric => (1..=128).contains(&length) && all(b"._-"),
            Self::Template => (1..=1024).contains(&length) && !text.replace("{value}", "").contains(['{', '}']),
            Self::Sha256 => length == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)),
            Self::Time => time(text).is_some(),
        }
    }
}

/// 1 to 128 of `[A-Za-z0-9_-]`: ids in paths.
pub(super) fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

/// Nanoseconds since 1970 of [`Form::Time`]; a time before 1970 is 1970.
pub(super) fn time(text: &str) -> Option<u64> {
    let zoned = text.parse::<jiff::Timestamp>().ok();
    let found = zoned.or_else(|| jiff::tz::TimeZone::UTC.to_timestamp(text.parse().ok()?).ok());
    found.map(|at| u64::try_from(at.as_nanosecond().max(0)).unwrap_or(u64::MAX))
}

impl Schema {
    /// As JSON Schema 2020-12.
    pub(super) fn told(&self) -> Value {
        match self {
            Self::Object(fields) => {
                let mut told = object(fields, false);
                told["additionalProperties"] = json!(false);
                told
            }
            Self::Open(fields) => object(fields, true),
            Self::Free { .. } => json!({"type": "object"}),
            Self::Text(Form::Time) => json!({"type": "string", "anyOf": [{"format": "date-time"}, {"format": "date"}]}),
            Self::Text(form) => {
                let mut told = json!({"type": "string"});
                match form {
                    Form::Free(max) => told["maxLength"] = json!(max),
                    Form::Path(max) => (told["minLength"], told["maxLength"]) = (json!(1), json!(max)),
                    Form::Template => (told["minLength"], told["maxLength"]) = (json!(1), json!(1024)),
                    _ => {}
                }
                if let (Some(pattern), _) = form.told() {
                    told["pattern"] = json!(pattern);
                }
                told
            }
            Self::Choice(words) => json!({"type": "string", "enum": words}),
            Self::Whole { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
            Self::Number { min, max } => {
                let mut told = json!({"type": "number"});
                if *min > f64::MIN {
                    told["minimum"] = json!(min);
                }
                if *max < f64::MAX {
                    told["maximum"] = json!(max);
                }
                told
            }
            Self::Bool => json!({"type": "boolean"}),
            Self::List { of, min, max, is_set } => {
                let mut told = json!({"type": "array", "items": of.told()});
                if *min > 0 {
                    told["minItems"] = json!(min);
                }
                if *max < usize::MAX {
                    told["maxItems"] = json!(max);
                }
                if *is_set {
                    told["uniqueItems"] = json!(true);
                }
                told
            }
            Self::Nullable(of) => json!({"anyOf": [of.told(), {"type": "null"}]}),
            Self::Any => json!({}),
        }
    }

    /// Notes what is wrong with a value, fills in what is absent, and writes whole numbers as such.
    ///
    /// - `path`: of the value, its parents with dots; empty for the body.
    pub(super) fn check(&self, value: &mut Value, path: &str, wrong: &mut Vec<(String, String)>) {
        let mut note = |must: String| wrong.push((shown(path), must));
        match self {
            Self::Object(fields) | Self::Open(fields) => match value {
                Value::Object(map) => members(fields, map, path, matches!(self, Self::Object(_)), wrong),
                _ => note("must be an object".into()),
            },
            Self::Free { bytes, depth } => {
                if !value.is_object() {
                    note("must be an object".into());
                } else if deep(value) > *depth || value.to_string().len() > *bytes {
                    note(format!("must be an object of at most {bytes} bytes, no deeper than {depth}"));
                }
            }
            Self::Text(form) => {
                if value.as_str().is_none_or(|text| !form.is(text)) {
                    note(format!("must be {}", form.told().1));
                }
            }
            Self::Choice(words) => {
                if value.as_str().is_none_or(|text| !words.contains(&text)) {
                    note(format!("must be one of {}", words.join(", ")));
                }
            }
            Self::Whole { min, max } => match whole(value).filter(|n| (*min..=*max).contains(n)) {
                Some(n) => *value = n.into(),
                None => note(format!("must be a whole number from {min} to {max}")),
            },
            Self::Number { min, max } => {
                if value.as_f64().is_none_or(|n| !n.is_finite() || n < *min || n > *max) {
                    note(if *max == f64::MAX {
                        format!("must be a finite number from {min:e}")
                    } else {
                        format!("must be a number from {min} to {max}")
                    });
                }
            }
            Self::Bool => {
                if !value.is_boolean() {
                    note("must be true or false".into());
                }
            }
            Self::List { of, min, max, is_set } => match value {
                Value::Array(list) if (*min..=*max).contains(&list.len()) => {
                    let repeats = *is_set && list.iter().enumerate().any(|(n, one)| list.iter().take(n).any(|other| other == one));
                    if repeats {
                        note("must hold each value once".into());
                    }
                    list.iter_mut().enumerate().for_each(|(n, one)| of.check(one, &format!("{path}[{n}]"), wrong));
                }
                _ => note(format!("must be a list of {min} to {max}")),
            },
            Self::Nullable(of) => {
                if !value.is_null() {
                    of.check(value, path, wrong);
                }
            }
            Self::Any => {}
        }
    }

    /// Reads a parameter's text as a value of this form.
    pub(super) fn read(&self, text: &str) -> Value {
        match self {
            Self::Whole { .. } => text.parse::<i64>().map_or_else(|_| text.into(), Value::from),
            Self::Bool => match text {
                "true" => true.into(),
                "false" => false.into(),
                _ => text.into(),
            },
            _ => text.into(),
        }
    }
}

fn object(fields: &[Field], is_open: bool) -> Value {
    let mut properties = Map::new();
    for field in fields {
        let mut told = field.of.told();
        if let Need::Else(default) = field.need {
            told["default"] = serde_json::from_str(default).unwrap_or_default();
        }
        if !field.doc.is_empty() {
            told["description"] = json!(field.doc);
        }
        properties.insert(field.name.to_owned(), told);
    }
    let needed: Vec<&str> =
        fields.iter().filter(|f| matches!(f.need, Need::Must) || (is_open && matches!(f.need, Need::Else(_)))).map(|f| f.name).collect();
    let mut told = json!({"type": "object", "properties": properties});
    if !needed.is_empty() {
        told["required"] = json!(needed);
    }
    told
}

fn members(fields: &[Field], map: &mut Map<String, Value>, path: &str, is_closed: bool, wrong: &mut Vec<(String, String)>) {
    let inner = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    for field in fields {
        match (map.get_mut(field.name), field.need) {
            (Some(value), _) => field.of.check(value, &inner(field.name), wrong),
            (None, Need::Must) => wrong.push((inner(field.name), "is missing".into())),
            (None, Need::May) => {}
            (None, Need::Else(default)) => {
                map.insert(field.name.to_owned(), serde_json::from_str(default).unwrap_or_default());
            }
        }
    }
    if is_closed {
        let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
        for name in map.keys().filter(|name| !known.contains(&name.as_str())) {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            wrong.push((inner(&shown(name)), format!("is not known here; known: {known}")));
        }
    }
}

/// A name of others, short and with no characters that a terminal obeys.
fn shown(name: &str) -> String {
    name.chars().take(128).collect::<String>().escape_debug().to_string()
}

/// A whole number, also one written with a point.
fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let x = value.as_f64()?;
        // Beyond 2^53 a double does not say which whole number it is.
        (x.fract() == 0.0 && x.abs() <= 9_007_199_254_740_992.0).then_some(x as i64)
    })
}

fn deep(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(deep).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(deep).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVEL: Schema = Schema::Choice(&["low", "high"]);
    const BODY: Schema = Schema::Object(&[
        must("path", Schema::Text(Form::Path(8)), "a path"),
        or("priority", Schema::Whole { min: 1, max: 10 }, "5", ""),
        may("levels", Schema::List { of: &LEVEL, min: 1, max: 3, is_set: true }, ""),
        or("more", Schema::Free { bytes: 20, depth: 2 }, "{}", ""),
        may("share", Schema::Number { min: 0.0, max: 1.0 }, ""),
    ]);

    fn wrong(text: &str) -> Vec<String> {
        let (mut value, mut wrong) = (serde_json::from_str(text).unwrap(), Vec::new());
        BODY.check(&mut value, "", &mut wrong);
        wrong.into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn what_is_wrong_is_told_by_its_path() {
        let rows: [(&str, &[&str]); 18] = [
            (r#"{"path": "a"}"#, &[]),
            (r#"{"path": "a", "priority": 5.0, "levels": ["low", "high"], "more": {"a": {"b": 1}}, "share": 1}"#, &[]),
            (r#"{"path": ""}"#, &["path"]),
            (r#"{"path": "a\u0000"}"#, &["path"]),
            (r#"{"path": "123456789"}"#, &["path"]),
            (r#"{"path": null}"#, &["path"]),
            (r#"{}"#, &["path"]),
            (r#"[]"#, &[""]),
            (r#"{"path": "a", "priority": 0}"#, &["priority"]),
            (r#"{"path": "a", "priority": 11}"#, &["priority"]),
            (r#"{"path": "a", "priority": 5.5}"#, &["priority"]),
            (r#"{"path": "a", "priority": 1e300, "x": 1, "y\n": 2}"#, &["priority", "x", "y\\n"]),
            (r#"{"path": "a", "priority": true}"#, &["priority"]),
            (r#"{"path": "a", "levels": ["low", "low"]}"#, &["levels"]),
            (r#"{"path": "a", "levels": ["low", "no"]}"#, &["levels[1]"]),
            (r#"{"path": "a", "levels": []}"#, &["levels"]),
            (r#"{"path": "a", "more": {"a": {"b": {}}}}"#, &["more"]),
            (r#"{"path": "a", "more": {"a": "0123456789012345"}, "share": 1.01}"#, &["more", "share"]),
        ];
        for (text, expected) in rows {
            assert_eq!(wrong(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_absent_is_filled_in() {
        let mut value = json!({"path": "a", "share": 1});
        BODY.check(&mut value, "", &mut Vec::new());
        assert_eq!(value, json!({"path": "a", "priority": 5, "more": {}, "share": 1}));
    }

    #[test]
    fn times_are_instants() {
        let second = 1_000_000_000;
        let rows = [
            ("1970-01-02", Some(86_400 * second)),
            ("1970-01-01T00:00:01Z", Some(second)),
            ("1970-01-01T01:00:01+01:00", Some(second)),
            ("1970-01-01T00:00:01", Some(second)),
            ("1960-01-01", Some(0)),
            ("2026-13-01", None),
            ("yesterday", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(time(text), expected, "{text}");
        }
    }
}
