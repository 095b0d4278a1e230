//! What the file says, key by key, each of the type that it must have.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    super::{
        errors::{ImportError, ImportErrors},
        given::Given,
        misp::given::without_login,
    },
    keys::{KEYS, Key, Kind, find},
};
use crate::register::section::nearest;

/// A file that passed every check.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// All keys that there are.
    keys: &'static [Key],
    given: BTreeMap<String, Value>,
    /// What was passed over, with its key.
    pub notes: Vec<(String, String)>,
}

impl Config {
    /// Flattens a file and checks its values.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn of(given: &Given) -> Result<Self, ImportErrors> {
        Self::by(given, KEYS)
    }

    /// The same by the keys of another program.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn by(given: &Given, keys: &'static [Key]) -> Result<Self, ImportErrors> {
        let (mut config, mut leaves, mut errors) = (Self { keys, ..Self::default() }, Vec::new(), Vec::new());
        match given {
            Given::Table(_) => flatten(given, "", &mut leaves),
            Given::Null => {}
            other => {
                let what = format!("is {}; it must be a table of settings", other.shown());
                errors.push(ImportError { key: String::new(), what });
            }
        }
        for (name, value) in leaves {
            let Some(key) = find(keys, &name) else {
                let hint = nearest(&name, keys.iter().map(|key| key.name)).map(|near| format!("; did you mean {near}?"));
                config.notes.push((name, format!("left out: the program knows no such key{}", hint.unwrap_or_default())));
                continue;
            };
            match typed(key.kind, value) {
                Ok(Value::Null) => {}
                Ok(value) => {
                    config.given.insert(name, value);
                }
                Err(what) => errors.push(ImportError { key: name, what }),
            }
        }
        if errors.is_empty() { Ok(config) } else { Err(ImportErrors(errors)) }
    }

    /// True if the key, or any below it, is given.
    pub fn has(&self, name: &str) -> bool {
        self.given.keys().any(|key| key == name || key.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
    }

    /// Names and values below a key that ends in a dot.
    pub fn below(&self, name: &str) -> Vec<(&str, &Value)> {
        self.given.iter().filter_map(|(key, value)| Some((key.strip_prefix(name)?, value))).collect()
    }

    /// Every name that is given.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.given.keys().map(String::as_str)
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.given.get(name)?.as_str().map(str::trim).filter(|text| !text.is_empty())
    }

    pub fn texts(&self, name: &str) -> Vec<String> {
        let listed = self.given.get(name).and_then(Value::as_array);
        listed.into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    }

    pub fn whole(&self, name: &str) -> Option<i64> {
        self.given.get(name)?.as_i64()
    }

    pub fn number(&self, name: &str) -> Option<f64> {
        self.given.get(name)?.as_f64()
    }

    pub fn switch(&self, name: &str) -> Option<bool> {
        self.given.get(name)?.as_bool()
    }

    /// What was given, by name; secrets masked.
    pub fn accepted(&self) -> Value {
        let shown = |name: &str, value: &Value| match find(self.keys, name).map(|key| key.kind) {
            Some(Kind::Secret) => json!("***"),
            // Below a key that nobody reads anything may lie.
            Some(Kind::Any) if ["password", "secret", "token", "key"].iter().any(|word| name.contains(word)) => json!("***"),
            _ => plain(value),
        };
        self.given.iter().map(|(name, value)| (name.clone(), shown(name, value))).collect::<serde_json::Map<_, _>>().into()
    }
}

/// A URL may hold a login.
fn plain(value: &Value) -> Value {
    match value {
        Value::String(text) if text.contains('@') => json!(without_login(text)),
        Value::Array(items) => items.iter().map(plain).collect(),
        other => other.clone(),
    }
}

/// The values that are no tables, each with its name.
fn flatten<'g>(given: &'g Given, name: &str, into: &mut Vec<(String, &'g Given)>) {
    match given {
        Given::Table(entries) => {
            for (key, value) in entries {
                flatten(value, &if name.is_empty() { key.clone() } else { format!("{name}.{key}") }, into);
            }
        }
        leaf => into.push((name.to_owned(), leaf)),
    }
}

/// A value of that kind; null where nothing is given.
fn typed(kind: Kind, given: &Given) -> Result<Value, String> {
    let wrong = |must: &str| match kind {
        Kind::Secret => Err(format!("must be {must}")),
        _ => Err(format!("is {}; it must be {must}", given.shown())),
    };
    match (kind, given) {
        (_, Given::Null) => Ok(Value::Null),
        (Kind::Any, given) => Ok(loose(given)),
        (Kind::Text | Kind::Secret, Given::Text(text)) => Ok(json!(text)),
        // A password or a name of digits alone.
        (Kind::Text | Kind::Secret, Given::Int(n)) => Ok(json!(n.to_string())),
        (Kind::Text | Kind::Secret, _) => wrong("text"),
        (Kind::Texts, Given::Text(text)) => {
            Ok(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(|part| json!(part)).collect())
        }
        (Kind::Texts, Given::List(items)) => {
            let texts: Option<Vec<Value>> =
                items.iter().map(|item| if let Given::Text(text) = item { Some(json!(text.trim())) } else { None }).collect();
            texts.map(Value::Array).map_or_else(|| wrong("text, or a list of texts"), Ok)
        }
        (Kind::Texts, _) => wrong("text, or a list of texts"),
        (Kind::Whole, Given::Int(n)) => Ok(json!(n)),
        (Kind::Whole, Given::Text(text)) => text.trim().parse::<i64>().map(Value::from).or_else(|_| wrong("a whole number")),
        (Kind::Whole, _) => wrong("a whole number"),
        (Kind::Number, Given::Int(n)) => Ok(json!(n)),
        (Kind::Number, Given::Float(x)) if x.is_finite() => Ok(json!(x)),
        (Kind::Number, _) => wrong("a number"),
        (Kind::Switch, Given::Bool(b)) => Ok(json!(b)),
        (Kind::Switch, _) => wrong("true or false"),
    }
}

/// A value that nobody looks at closely.
fn loose(given: &Given) -> Value {
    match given {
        Given::Bool(b) => json!(b),
        Given::Int(n) => json!(n),
        Given::Float(x) => json!(x),
        Given::Text(text) => json!(text),
        Given::List(items) => items.iter().map(loose).collect(),
        Given::Null | Given::Other(_) | Given::Table(_) => Value::Null,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
mod tests {
    use super::{super::super::given::Format, *};

    fn config(text: &str) -> Result<Config, ImportErrors> {
        Config::of(&Given::parse(text, Format::Yaml).expect("YAML"))
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_and_no_secret_with_it() {
        let text = "kafka: {topic: [a], session_timeout_ms: soon, sasl_plain_password: [hush]}\ndashboard: {debug: 3}\n\
                    settings: {collection_interval_seconds: hourly}\n";
        let told = config(text).unwrap_err().to_string();
        let want = "kafka.topic: is a list; it must be text\n\
                    kafka.session_timeout_ms: is \"soon\"; it must be a whole number\n\
                    kafka.sasl_plain_password: must be text\n\
                    dashboard.debug: is 3; it must be true or false\n\
                    settings.collection_interval_seconds: is \"hourly\"; it must be a number";
        assert_eq!(told, want);
        assert_eq!(config("[1]").unwrap_err().to_string(), "is a list; it must be a table of settings");
        assert!(config("").unwrap().names().next().is_none());
    }

    #[test]
    fn values_are_read_by_name_and_shown_without_secrets() {
        let text = "kafka: {bootstrap_servers: 'a:1, b:2', topic: t, sasl_plain_password: 4711, topik: x}\n\
                    data_sources: {wazuh: {api_url: 'https://u:hush@h:55000', password: hush, enabled: yes}}\n\
                    training_params: {lightgbm: {num_leaves: 31}, token: hush}\nsettings: {behavioral_analytics: {anomaly_threshold: 0.6}}\n";
        let config = config(text).unwrap();
        assert_eq!(config.texts("kafka.bootstrap_servers"), ["a:1", "b:2"]);
        assert_eq!((config.text("kafka.sasl_plain_password"), config.switch("data_sources.wazuh.enabled")), (Some("4711"), Some(true)));
        assert!(config.has("kafka") && config.has("training_params") && !config.has("kaf") && !config.has("dashboard"));
        assert_eq!(config.below("training_params.").len(), 2);
        let shown = config.accepted();
        assert_eq!((&shown["kafka.sasl_plain_password"], &shown["data_sources.wazuh.api_url"]), (&json!("***"), &json!("https://h:55000")));
        assert!(!shown.to_string().contains("hush") && !shown.to_string().contains("4711"), "{shown}");
        assert_eq!(
            config.notes,
            [("kafka.topik".to_owned(), "left out: the program knows no such key; did you mean kafka.topic?".to_owned())]
        );
    }
}
