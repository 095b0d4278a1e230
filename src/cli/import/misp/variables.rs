//! The variables of the Wazuh MISP Processor, as data: what each may hold and its default.

use serde_json::{Value, json};

/// One variable.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    pub name: &'static str,
    pub kind: Kind,
    /// Its default as it would be written; empty where there is none.
    pub default: &'static str,
}

/// What a variable may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// Text that is never shown.
    Secret,
    /// Paths with commas between.
    Paths,
    /// What Python's `int()` takes: `5.0` and nothing are no whole numbers, and end the start.
    Whole,
    /// What Python's `float()` takes, but for what is no number of seconds.
    Number,
    /// `true` in any case is true, everything else false.
    Switch,
}

const fn variable(name: &'static str, kind: Kind, default: &'static str) -> Variable {
    Variable { name, kind, default }
}

use Kind::{Number, Paths, Secret, Switch, Text, Whole};

/// Every variable that the program reads.
pub static VARIABLES: &[Variable] = &[
    variable("MISP_URL", Text, ""),
    variable("MISP_API_KEY", Secret, ""),
    variable("MISP_SSL_VERIFY", Switch, "false"),
    variable("ALERTS_FILES", Paths, ""),
    variable("ALERTS_FILE", Text, "/var/ossec/logs/alerts/alerts.json"),
    variable("CACHE_TTL_HOURS", Whole, "24"),
    variable("RATE_LIMIT_SECONDS", Number, "0.01"),
    variable("BURST_LIMIT", Whole, "100"),
    variable("BURST_WINDOW", Number, "1.0"),
    variable("SUPPRESSION_WINDOW_MINUTES", Whole, "10"),
    variable("ALERT_DEDUP_TTL_MINUTES", Whole, "30"),
    variable("CIRCUIT_BREAKER_THRESHOLD", Whole, "5"),
    variable("CIRCUIT_BREAKER_TIMEOUT", Whole, "60"),
    variable("CIRCUIT_BREAKER_BACKOFF_FACTOR", Number, "2.0"),
    variable("CIRCUIT_BREAKER_MAX_TIMEOUT", Whole, "604800"),
    variable("PAUSE_ON_MISP_OUTAGE", Switch, "true"),
    variable("MISP_PROBE_INTERVAL_SECONDS", Whole, "60"),
    variable("REDIS_HOST", Text, "redis"),
    variable("REDIS_PORT", Whole, "6379"),
    variable("REDIS_DB", Whole, "0"),
    variable("REDIS_RETRY_ATTEMPTS", Whole, "3"),
    variable("REDIS_RETRY_DELAY", Number, "2.0"),
    variable("LOG_FILE_PARSED", Text, "/var/log/misp-processor/ioc-parsed.log"),
    variable("LOG_FILE_MATCHED", Text, "/var/log/misp-processor/ioc-matched.log"),
    variable("LOG_ROTATION_SIZE_MB", Whole, "1024"),
    variable("LOG_ROTATION_BACKUP_COUNT", Whole, "1"),
    variable("LOG_LEVEL", Text, "INFO"),
];

/// The variable of a name.
pub fn named(name: &str) -> Option<&'static Variable> {
    VARIABLES.iter().find(|variable| variable.name == name)
}

impl Kind {
    /// Reads a value as the program does.
    ///
    /// # Errors
    /// What is wrong, and the remedy; a secret is never in it.
    pub fn typed(self, text: &str) -> Result<Value, String> {
        match self {
            Kind::Text | Kind::Secret => Ok(json!(text)),
            Kind::Paths => Ok(json!(text.split(',').map(str::trim).filter(|path| !path.is_empty()).collect::<Vec<_>>())),
            Kind::Switch => Ok(json!(text.eq_ignore_ascii_case("true"))),
            Kind::Whole => python_digits(text)
                .and_then(|digits| digits.parse::<i64>().ok())
                .map(Value::from)
                .ok_or_else(|| format!("is {}; it must be a whole number, without a fraction", shown(text))),
            Kind::Number => python_digits(text)
                .and_then(|digits| digits.parse::<f64>().ok())
                .filter(|x| x.is_finite())
                .map(Value::from)
                .ok_or_else(|| format!("is {}; it must be a number", shown(text))),
        }
    }
}

/// A number as Python takes it from text: blanks around it, and underscores between digits.
fn python_digits(text: &str) -> Option<String> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let is_digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let between = |at: usize| is_digit(at.checked_sub(1)) && is_digit(at.checked_add(1));
    let wrong = bytes.iter().enumerate().any(|(at, b)| *b == b'_' && !between(at));
    (!text.is_empty() && !wrong).then(|| text.replace('_', ""))
}

/// A value as an error may show it.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(40).collect();
    match (text.is_empty(), cut.len() < text.len()) {
        (true, _) => "empty".into(),
        (_, true) => format!("{cut:?}…"),
        _ => format!("{cut:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_as_strictly_as_the_program_takes_them() {
        for (text, want) in [("24", Some(24)), (" +7 ", Some(7)), ("-1", Some(-1)), ("1_000", Some(1000)), ("010", Some(10))] {
            assert_eq!(Kind::Whole.typed(text).ok().and_then(|v| v.as_i64()), want, "{text}");
        }
        for text in ["", "5.0", "5.", "1e3", "_1", "1__0", "1_", "0x10", "five", "99999999999999999999", "1 2"] {
            assert!(Kind::Whole.typed(text).is_err(), "{text}");
        }
        for (text, want) in [("0.01", 0.01), ("1", 1.0), (" .5", 0.5), ("1e-3", 0.001), ("1_0.5", 10.5)] {
            assert_eq!(Kind::Number.typed(text).ok().and_then(|v| v.as_f64()), Some(want), "{text}");
        }
        for text in ["", "inf", "nan", "0,5", "x", "1s"] {
            assert!(Kind::Number.typed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_the_word_true_is_true() {
        for (text, want) in [("true", true), ("TRUE", true), ("yes", false), ("1", false), (" true", false), ("", false)] {
            assert_eq!(Kind::Switch.typed(text), Ok(json!(want)), "{text}");
        }
    }

    #[test]
    fn every_default_is_one_of_its_kind() {
        for variable in VARIABLES {
            assert!(variable.kind.typed(variable.default).is_ok(), "{}", variable.name);
            assert_eq!(named(variable.name).map(|v| v.name), Some(variable.name));
        }
        assert_eq!(Kind::Paths.typed(" /a, ,/b,"), Ok(json!(["/a", "/b"])));
    }
}
