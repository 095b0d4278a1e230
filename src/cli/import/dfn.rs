//! Reads a wazuh-dfn configuration: file, environment and flags, checked key by key.
//!
//! Pure: it is handed the file's text, the arguments and the variables. Flags win over the
//! environment, the environment over the file (as upstream documents it; its code lets the file
//! win). Every error is found, not only the first. Refuses to write anything: that is `write.rs`.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

use super::{
    errors::{ImportError, ImportErrors},
    given::{Format, Given},
    keys::{KEYS, Key, Kind, SECTIONS},
    values,
};
use crate::register::section::nearest;

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    File,
    Variable(&'static str),
    Flag(&'static str),
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            From::File => f.write_str("file"),
            From::Variable(name) => write!(f, "environment {name}"),
            From::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A configuration that passed every check.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    given: BTreeMap<&'static str, (Value, Vec<From>)>,
}

impl Imported {
    /// The value of a key (`kafka.timeout`): the given one, or the default.
    ///
    /// Null for a name that is no key.
    pub fn value(&self, name: &str) -> Value {
        match self.given.get(name) {
            Some((value, _)) => value.clone(),
            None => KEYS.iter().find(|key| key.name == name).map(default_of).unwrap_or_default(),
        }
    }

    /// True if anyone gave this key, be it with its default.
    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The keys that were given, in the order of the table, with who gave them.
    pub fn given(&self) -> impl Iterator<Item = (&'static Key, &Value, &[From])> {
        KEYS.iter().filter_map(|key| self.given.get(key.name).map(|(value, from)| (key, value, from.as_slice())))
    }

    /// The values that differ from their default, nested by section.
    pub fn accepted(&self) -> Value {
        let mut root = serde_json::Map::new();
        for (key, value, _) in self.given().filter(|(key, value, _)| **value != default_of(key)) {
            let mut map = &mut root;
            let (section, name) = split(key.name);
            for part in section.split('.') {
                let inner = map.entry(part).or_insert_with(|| Value::Object(serde_json::Map::new()));
                let Value::Object(inner) = inner else { unreachable!("a section is no key") };
                map = inner;
            }
            map.insert(name.to_owned(), value.clone());
        }
        Value::Object(root)
    }
}

fn default_of(key: &Key) -> Value {
    serde_json::from_str(key.default).unwrap_or_default() // a test reads them all
}

/// Section and name of a key.
fn split(name: &'static str) -> (&'static str, &'static str) {
    name.rsplit_once('.').unwrap_or(("", name))
}

/// Reads a configuration from its three places.
///
/// - `file`: the text of the file and the format that its name suggests; `-t` in `argv` wins.
/// - `argv`: upstream's arguments; `-c` names the file that the caller has read, so `-c` without
///   a `file` is an error.
/// - `env`: the variables, of which upstream's names count.
///
/// # Errors
/// Everything that is wrong, in the order flags, file, environment, checks across keys.
pub fn read(file: Option<(&str, Format)>, argv: &[String], env: &[(String, String)]) -> Result<Imported, ImportErrors> {
    let mut reading = Reading::default();
    let flags = reading.flags(argv);
    match (file, &flags.config) {
        (Some((text, format)), _) => reading.file(text, flags.format.unwrap_or(format)),
        (None, Some(path)) => reading.wrong("", format!("cannot read the configuration {path}; name a file that is there")),
        (None, None) => {}
    }
    for key in KEYS {
        if let Some((_, text)) = env.iter().rev().find(|(name, _)| name == key.variable) {
            reading.text(key, text, From::Variable(key.variable));
        }
    }
    for (key, text) in flags.values {
        reading.text(key, &text, From::Flag(key.flag));
    }
    reading.finish()
}

/// The file that upstream's arguments name (`-c`), if they do.
pub fn config_path(argv: &[String]) -> Option<String> {
    Reading::default().flags(argv).config
}

#[derive(Default)]
struct Flags {
    config: Option<String>,
    format: Option<Format>,
    values: Vec<(&'static Key, String)>,
}

/// Upstream's flags that are no keys, and whether they take a value.
const OTHER_FLAGS: &[(&str, bool)] = &[
    ("--config", true),
    ("--config-format", true),
    ("--output-format", true),
    ("--skip-path-validation", false),
    ("--print-config-only", false),
];

#[derive(Default)]
struct Reading {
    imported: Imported,
    errors: Vec<ImportError>,
}

impl Reading {
    fn wrong(&mut self, key: &str, what: impl Into<String>) {
        self.errors.push(ImportError { key: key.to_owned(), what: what.into() });
    }

    fn flags(&mut self, argv: &[String]) -> Flags {
        let mut flags = Flags::default();
        let mut words = argv.iter();
        while let Some(word) = words.next() {
            let (name, glued) = match (word.as_str(), word.split_once('=')) {
                ("-c", _) => ("--config", None),
                ("-t", _) => ("--config-format", None),
                (_, Some((name, value))) if name.starts_with("--") => (name, Some(value.to_owned())),
                (word, _) => match (word.strip_prefix("-c"), word.strip_prefix("-t")) {
                    (Some(path), _) => ("--config", Some(path.to_owned())),
                    (_, Some(format)) => ("--config-format", Some(format.to_owned())),
                    _ => (word, None),
                },
            };
            let Some((name, takes, key)) = find_flag(name) else {
                let known = KEYS.iter().map(|key| key.flag).chain(OTHER_FLAGS.iter().map(|(name, _)| *name));
                let hint = nearest(name, known).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                self.wrong("", format!("wazuh-dfn has no flag {name:?}{hint}"));
                continue;
            };
            let key_name = key.map_or("", |key| key.name);
            let value = match (takes, glued) {
                (false, None) => continue,
                (false, Some(_)) => {
                    self.wrong(key_name, format!("the flag {name} takes no value"));
                    continue;
                }
                (true, Some(value)) => Some(value),
                (true, None) => words.clone().next().filter(|next| is_value(next)).map(|next| {
                    words.next();
                    next.clone()
                }),
            };
            match (value, key) {
                (None, _) => self.wrong(key_name, format!("the flag {name} needs a value")),
                (Some(value), Some(key)) => flags.values.push((key, value)),
                (Some(value), None) if name == "--config" => flags.config = Some(value),
                (Some(value), None) => match Format::of_word(&value) {
                    Some(format) if name == "--config-format" => flags.format = Some(format),
                    Some(_) => {}
                    None => self.wrong("", format!("the flag {name} is {value:?}; it must be yaml or toml")),
                },
            }
        }
        flags
    }

    fn file(&mut self, text: &str, format: Format) {
        let root = match Given::parse(text, format) {
            Ok(root) => root,
            Err(error) => return self.wrong("", format!("the file cannot be read: {error}; mend it, or give its format")),
        };
        let Given::Table(sections) = root else {
            return self.wrong("", format!("the file is {}; it must be a table of sections", root.shown()));
        };
        for (section, value) in sections {
            let mut top = SECTIONS.iter().copied().filter(|name| !name.contains('.'));
            if top.clone().any(|name| name == section) {
                self.section(&section, value);
            } else {
                let hint = nearest(&section, &mut top).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                self.wrong(&section, format!("wazuh-dfn has no such section{hint}"));
            }
        }
    }

    fn section(&mut self, section: &str, value: Given) {
        let entries = match value {
            Given::Table(entries) => entries,
            Given::Null => return,
            other => return self.wrong(section, format!("is {}; it must be a table", other.shown())),
        };
        for (name, value) in entries {
            let full = format!("{section}.{name}");
            match KEYS.iter().find(|key| key.name == full) {
                Some(key) => self.take(key, &value, From::File),
                None if full == "health.api" => match value {
                    Given::Table(_) => self.section("health.api", value),
                    other => self.wrong(&full, format!("is {}; it must be a table", other.shown())),
                },
                // A switch of the checks of certificate files, which the import does not open.
                None if full == "dfn.skip_path_validation" => {
                    if let Err(what) = values::typed(Kind::Bool, &value) {
                        self.wrong(&full, what);
                    }
                }
                None => {
                    let names = KEYS.iter().filter_map(|key| (split(key.name).0 == section).then_some(split(key.name).1));
                    let hint = nearest(&name, names).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                    self.wrong(&full, format!("wazuh-dfn has no such key{hint}"));
                }
            }
        }
    }

    /// Takes a value that was given as text.
    fn text(&mut self, key: &'static Key, text: &str, from: From) {
        let trimmed = text.trim();
        let given = match key.kind {
            Kind::Options => Given::parse_json(trimmed).map_err(|error| format!("is no JSON: {error}; write {{\"linger_ms\": 5}}")),
            Kind::Allowed if trimmed.starts_with('[') => Given::parse_json(trimmed).map_err(|error| format!("is no JSON: {error}")),
            Kind::Allowed if trimmed.is_empty() => Ok(Given::List(Vec::new())),
            Kind::Allowed => Ok(Given::List(trimmed.split(',').map(|item| Given::Text(item.trim().to_owned())).collect())),
            // The command line takes a whole number only as one: Python's int() knows no "3.0".
            Kind::Int(..) if matches!(from, From::Flag(_)) && text.contains('.') => Err(format!("is {text:?}; it must be a whole number")),
            _ => Ok(Given::Text(text.to_owned())),
        };
        match given {
            Ok(given) => self.take(key, &given, from),
            Err(what) => self.wrong(key.name, format!("{what} (in {from})")),
        }
    }

    fn take(&mut self, key: &'static Key, given: &Given, from: From) {
        match values::typed(key.kind, given) {
            Ok(value) => {
                let entry = self.imported.given.entry(key.name).or_default();
                entry.0 = value;
                entry.1.push(from);
            }
            Err(_) if key.name.ends_with("auth_token") => self.wrong(key.name, format!("is no text; put it in quotes (in {from})")),
            Err(what) => self.wrong(key.name, format!("{what} (in {from})")),
        }
    }

    /// The checks across keys; a key that is wrong by itself is not compared.
    fn finish(mut self) -> Result<Imported, ImportErrors> {
        for (low, high) in [
            ("health.queue_warning_threshold", "health.queue_critical_threshold"),
            ("health.kafka_slow_threshold", "health.kafka_extremely_slow_threshold"),
        ] {
            let wrong = self.errors.iter().any(|error| error.key == low || error.key == high);
            let (Some(l), Some(h)) = (self.imported.value(low).as_f64(), self.imported.value(high).as_f64()) else { continue };
            if !wrong && h <= l {
                self.wrong(high, format!("is {h}; it must be above {low}, which is {l}"));
            }
        }
        let missing = |reading: &Self, name: &str| reading.imported.value(name).as_str().unwrap_or_default().is_empty();
        if self.imported.value("health.api.https_enabled") == Value::Bool(true) {
            for name in ["health.api.cert_file", "health.api.key_file"] {
                if missing(&self, name) && !self.errors.iter().any(|error| error.key == name) {
                    self.wrong(name, "is not set, but health.api.https_enabled is true; name the file");
                    break;
                }
            }
        }
        if self.errors.is_empty() { Ok(self.imported) } else { Err(ImportErrors(self.errors)) }
    }
}

/// A flag by its name or the unique beginning of one: its whole name, whether it takes a value, its key.
fn find_flag(word: &str) -> Option<(&'static str, bool, Option<&'static Key>)> {
    let all = || {
        let keys = KEYS.iter().map(|key| (key.flag, true, Some(key)));
        keys.chain(OTHER_FLAGS.iter().map(|(name, takes)| (*name, *takes, None)))
    };
    if let Some(exact) = all().find(|(name, ..)| *name == word) {
        return Some(exact);
    }
    let mut begins = all().filter(|(name, ..)| word.len() > 2 && name.starts_with(word));
    let first = begins.next()?;
    begins.next().is_none().then_some(first)
}

/// Whether a word can be the value of a flag: one that begins with `-` only if it is a number or holds a blank.
fn is_value(word: &str) -> bool {
    !word.starts_with('-') || word == "-" || word.contains(' ') || word.parse::<f64>().is_ok_and(f64::is_finite)
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    fn errors(yaml: &str, argv: &[&str]) -> Vec<String> {
        match read(Some((yaml, Format::Yaml)), &args(argv), &[]) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.0.into_iter().map(|error| error.key).collect(),
        }
    }

    #[test]
    fn every_default_passes_its_own_check() {
        for key in KEYS {
            let given = Given::parse_json(key.default).unwrap_or_else(|error| panic!("{}: {error}", key.name));
            assert_eq!(values::typed(key.kind, &given), Ok(default_of(key)), "{}", key.name);
            assert!(SECTIONS.contains(&split(key.name).0), "{}", key.name);
        }
        assert_eq!(Imported::default().accepted(), serde_json::json!({}));
    }

    #[test]
    fn names_flags_and_variables_are_unique() {
        for one in [|key: &Key| key.name, |key: &Key| key.flag, |key: &Key| key.variable] {
            let mut all: Vec<_> = KEYS.iter().map(one).collect();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), KEYS.len());
        }
    }

    #[test]
    fn all_errors_are_found_at_once() {
        let found = errors("misc: {num_workers: 0, own_net: x}\nkafk: {}\nlog: {level: debug}\n", &["--nope", "1"]);
        assert_eq!(found, ["", "", "misc.num_workers", "misc.own_net", "kafk", "log.level"]);
    }

    #[test]
    fn flags_may_be_glued_and_shortened() {
        for (argv, want) in [
            (&["--misc-num-workers=7"][..], Some(7)),
            (&["--misc-num", "7"], Some(7)),
            (&["--misc", "7"], None),
            (&["--misc-num-workers"], None),
            (&["--misc-num-workers", "--log-level", "INFO"], None),
            (&["--misc-num-workers", "-3"], None),
            (&["--misc-num-workers", "3.0"], None),
            (&["--misc-num-workers", "5", "--misc-num-workers", "6"], Some(6)),
        ] {
            let got = read(None, &args(argv), &[]).ok().and_then(|i| i.value("misc.num_workers").as_i64());
            assert_eq!(got, want, "{argv:?}");
        }
    }

    #[test]
    fn thresholds_are_compared_with_defaults_too() {
        assert_eq!(errors("health: {queue_warning_threshold: 95}\n", &[]), ["health.queue_critical_threshold"]);
        assert_eq!(errors("health: {kafka_slow_threshold: 5}\n", &[]), ["health.kafka_extremely_slow_threshold"]);
        assert_eq!(errors("health: {queue_warning_threshold: 0}\n", &[]), ["health.queue_warning_threshold"]);
        assert_eq!(errors("health: {queue_warning_threshold: 95, queue_critical_threshold: 96}\n", &[]), [""; 0]);
    }

    #[test]
    fn https_needs_both_files() {
        assert_eq!(errors("health: {api: {https_enabled: true, cert_file: c}}\n", &[]), ["health.api.key_file"]);
        assert_eq!(errors("health: {api: {https_enabled: true, cert_file: c, key_file: k}}\n", &[]), [""; 0]);
    }

    #[test]
    fn a_token_is_never_in_an_error() {
        let shown = read(Some(("health: {api: {auth_token: 12345678}}\n", Format::Yaml)), &[], &[])
            .map(|_| ())
            .expect_err("a number is no token")
            .to_string();
        assert!(shown.contains("health.api.auth_token"), "{shown}");
        assert!(!shown.contains("12345678"), "{shown}");
    }
}
