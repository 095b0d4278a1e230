//! What the environment says, variable by variable, checked as the program checks it.
//!
//! Pure. Every error is found, not only the first. Refuses to write anything: that is `write.rs`.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    super::{
        env_file::{self, Form, expand},
        errors::{ImportError, ImportErrors},
    },
    compose::{Service, Variable},
    variables::{Kind, VARIABLES, named},
};
use crate::register::section::nearest;

/// What every variable of the program begins with; the rest of an environment is not its.
const BEGINNINGS: &[&str] = &["MISP_", "ALERT", "CACHE_", "RATE_", "BURST_", "SUPPRESSION_", "CIRCUIT_", "PAUSE_", "REDIS_", "LOG_"];

/// An environment that passed every check.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    pub(super) given: BTreeMap<&'static str, Value>,
    /// The service of a Compose file, where it was read from one.
    pub service: Option<Service>,
    /// What was passed over, with its key.
    pub notes: Vec<(String, String)>,
}

impl Imported {
    /// The value of a variable: the given one or the default; null for a name that is none.
    pub fn value(&self, name: &str) -> Value {
        match self.given.get(name) {
            Some(value) => value.clone(),
            None => named(name).and_then(|variable| variable.kind.typed(variable.default).ok()).unwrap_or_default(),
        }
    }

    /// True if anyone gave this variable, be it with its default.
    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The values that differ from their default, by name; secrets masked.
    pub fn accepted(&self) -> Value {
        let default = |name: &str| Imported::default().value(name);
        let differing = self.given.iter().filter(|(name, value)| **value != default(name));
        let shown = |name: &str, value: &Value| match named(name).map(|variable| variable.kind) {
            Some(Kind::Secret) => json!("***"),
            _ if name == "MISP_URL" => json!(without_login(value.as_str().unwrap_or_default())),
            _ => value.clone(),
        };
        differing.map(|(name, value)| ((*name).to_owned(), shown(name, value))).collect::<serde_json::Map<_, _>>().into()
    }
}

/// A URL without the user and password that it may hold.
pub fn without_login(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    if scheme.is_empty() { format!("{host}{path}") } else { format!("{scheme}://{host}{path}") }
}

/// Checks variables; of two with one name the later stands.
///
/// # Errors
/// Everything that is wrong, in the order of the program's own table.
pub fn check(variables: &[Variable]) -> Result<Imported, ImportErrors> {
    let (mut imported, mut errors) = (Imported::default(), Vec::new());
    for variable in VARIABLES {
        let Some(given) = variables.iter().rev().find(|given| given.name == variable.name) else { continue };
        match variable.kind.typed(&given.value) {
            Ok(value) => {
                imported.given.insert(variable.name, value);
            }
            Err(what) => errors.push(ImportError { key: variable.name.to_owned(), what: format!("{what} (in {})", given.place) }),
        }
    }
    let mut unknown: Vec<&str> = Vec::new();
    for given in variables.iter().filter(|given| named(&given.name).is_none()) {
        if !unknown.contains(&given.name.as_str()) && BEGINNINGS.iter().any(|begins| given.name.starts_with(begins)) {
            unknown.push(&given.name);
        }
    }
    for name in unknown {
        let hint = nearest(name, VARIABLES.iter().map(|variable| variable.name)).map(|near| format!("; did you mean {near}?"));
        let what = format!("left out: the Wazuh MISP Processor reads no such variable{}", hint.unwrap_or_default());
        imported.notes.push((name.to_owned(), what));
    }
    if errors.is_empty() { Ok(imported) } else { Err(ImportErrors(errors)) }
}

/// The variables of a file of `NAME=value` lines.
///
/// - `name`: the file's, for places.
/// - `outside`: what `${NAME}` in a value may name besides the lines before it.
///
/// # Errors
/// Values whose variables cannot be written in.
pub fn of_file(text: &str, name: &str, outside: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Variable>, ImportErrors> {
    let (mut given, mut errors): (Vec<Variable>, Vec<ImportError>) = (Vec::new(), Vec::new());
    for line in env_file::lines(text, Form::Dotenv) {
        let place = format!("{name} line {}", line.line);
        let value = match line.value {
            None => outside(&line.name),
            Some(value) if line.literal => Some(value),
            Some(value) => {
                let before = |wanted: &str| given.iter().rev().find(|known| known.name == wanted).map(|known| known.value.clone());
                match expand(&value, &|wanted| before(wanted).or_else(|| outside(wanted)), &mut Vec::new()) {
                    Ok(value) => Some(value),
                    Err(what) => {
                        errors.push(ImportError { key: line.name.clone(), what: format!("{what} (in {place})") });
                        None
                    }
                }
            }
        };
        given.extend(value.map(|value| Variable { name: line.name, value, place }));
    }
    if errors.is_empty() { Ok(given) } else { Err(ImportErrors(errors)) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> Vec<Variable> {
        let variable =
            |(name, value): &(&str, &str)| Variable { name: (*name).into(), value: (*value).into(), place: "x.env line 7".into() };
        pairs.iter().map(variable).collect()
    }

    #[test]
    fn all_errors_are_found_at_once_each_with_its_place() {
        let errors = check(&given(&[("CACHE_TTL_HOURS", "5.0"), ("BURST_WINDOW", "1s"), ("REDIS_PORT", ""), ("MISP_API_KEY", "k")]));
        let shown = errors.unwrap_err().to_string();
        let want = "CACHE_TTL_HOURS: is \"5.0\"; it must be a whole number, without a fraction (in x.env line 7)\n\
                    BURST_WINDOW: is \"1s\"; it must be a number (in x.env line 7)\n\
                    REDIS_PORT: is empty; it must be a whole number, without a fraction (in x.env line 7)";
        assert_eq!(shown, want);
    }

    #[test]
    fn what_differs_from_the_defaults_is_told_without_secrets() {
        let imported = check(&given(&[
            ("MISP_URL", "https://u:hush@misp.example/attributes/restSearch/"),
            ("MISP_API_KEY", "hush"),
            ("CACHE_TTL_HOURS", "24"),
            ("ALERTS_FILES", "/a, /b"),
            ("PATH", "/bin"),
            ("REDIS_PASSWORD", "hush"),
            ("REDIS_HOSTS", "r"),
        ]))
        .unwrap();
        let want = json!({"MISP_URL": "https://misp.example/attributes/restSearch/", "MISP_API_KEY": "***", "ALERTS_FILES": ["/a", "/b"]});
        assert_eq!(imported.accepted(), want);
        assert!(imported.is_given("CACHE_TTL_HOURS") && !imported.is_given("REDIS_HOST"));
        assert_eq!(imported.value("REDIS_HOST"), "redis");
        assert_eq!(imported.notes.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["REDIS_PASSWORD", "REDIS_HOSTS"]);
        assert!(imported.notes.iter().any(|(_, what)| what.ends_with("did you mean REDIS_HOST?")), "{:?}", imported.notes);
        assert!(!format!("{:?}", imported.notes).contains("hush"));
    }

    #[test]
    fn a_file_names_its_lines_and_may_use_what_stands_before() {
        let outside = |name: &str| (name == "HOST").then(|| "h".to_owned());
        let got = of_file("# x\nA=${HOST}1\nB=$A$A\nHOST\nC='$A'\n", "e", &outside).unwrap();
        let shown: Vec<_> = got.iter().map(|v| (v.name.as_str(), v.value.as_str(), v.place.as_str())).collect();
        assert_eq!(shown, [("A", "h1", "e line 2"), ("B", "h1h1", "e line 3"), ("HOST", "h", "e line 4"), ("C", "$A", "e line 5")]);
        assert_eq!(of_file("A=${B:?no B}\n", "e", &outside).unwrap_err().0[0].key, "A");
    }
}
