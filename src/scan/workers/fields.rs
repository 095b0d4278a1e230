//! Reads fields of a JSON object with their bounds, and collects everything that is wrong.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::{fmt, ops::RangeInclusive};

use serde_json::{Map, Value};

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field, its parents with dots.
    pub path: String,
    /// What it must be.
    pub problem: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

/// An object that is read field by field. What nobody asked for is wrong in the end.
#[derive(Debug)]
pub struct Fields<'o> {
    object: &'o Map<String, Value>,
    /// In front of each name: empty, or ends in a dot.
    within: &'static str,
    asked: Vec<&'static str>,
    problems: Vec<Problem>,
}

impl<'o> Fields<'o> {
    /// Reads the outermost object.
    pub fn of(object: &'o Map<String, Value>) -> Self {
        Self::within(object, "")
    }

    /// Reads an object in a field.
    ///
    /// - `within`: its name with a dot behind it.
    pub fn within(object: &'o Map<String, Value>, within: &'static str) -> Self {
        Self { object, within, asked: Vec::new(), problems: Vec::new() }
    }

    /// Says that a field is wrong.
    pub fn wrong(&mut self, name: &str, problem: impl Into<String>) {
        self.problems.push(Problem { path: format!("{}{name}", self.within), problem: problem.into() });
    }

    /// A value that is there and not null.
    pub fn value(&mut self, name: &'static str) -> Option<&'o Value> {
        if !self.asked.contains(&name) {
            self.asked.push(name);
        }
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// A whole number within bounds.
    pub fn whole(&mut self, name: &'static str, bounds: RangeInclusive<u64>) -> Option<u64> {
        let value = self.value(name)?;
        let found = value.as_u64().filter(|n| bounds.contains(n));
        if found.is_none() {
            let (least, most) = (bounds.start(), bounds.end());
            self.wrong(
                name,
                if *most == u64::MAX {
                    format!("must be a whole number of at least {least}")
                } else {
                    format!("must be a whole number from {least} to {most}")
                },
            );
        }
        found
    }

    /// A finite number within bounds.
    pub fn number(&mut self, name: &'static str, bounds: RangeInclusive<f64>) -> Option<f64> {
        let value = self.value(name)?;
        let found = value.as_f64().filter(|n| n.is_finite() && bounds.contains(n));
        if found.is_none() {
            let (least, most) = (bounds.start(), bounds.end());
            self.wrong(
                name,
                if *most == f64::MAX {
                    format!("must be a number of at least {least}")
                } else {
                    format!("must be a number from {least} to {most}")
                },
            );
        }
        found
    }

    /// A text of the form that `is_so` knows.
    ///
    /// - `must`: that form in words, behind "must be".
    pub fn text(&mut self, name: &'static str, must: &str, is_so: impl Fn(&str) -> bool) -> Option<&'o str> {
        let value = self.value(name)?;
        let found = value.as_str().filter(|text| is_so(text));
        if found.is_none() {
            self.wrong(name, format!("must be {must}"));
        }
        found
    }

    /// A list of at most `most`.
    pub fn list(&mut self, name: &'static str, most: usize) -> Option<&'o [Value]> {
        let value = self.value(name)?;
        let found = value.as_array().filter(|list| list.len() <= most);
        if found.is_none() {
            self.wrong(name, format!("must be a list of at most {most}"));
        }
        found.map(Vec::as_slice)
    }

    /// Says that a field is missing, if it is.
    pub fn require(&mut self, name: &'static str) {
        if self.object.get(name).is_none_or(Value::is_null) {
            self.wrong(name, "is missing");
        }
    }

    /// Everything that is wrong, unknown fields last.
    pub fn finish(mut self) -> Vec<Problem> {
        let unknown: Vec<&String> = self.object.keys().filter(|name| !self.asked.contains(&name.as_str())).collect();
        for name in unknown {
            let known = self.asked.join(", ");
            // A name of any length and any characters: shown short and quoted.
            let shown: String = name.chars().take(64).collect();
            self.problems.push(Problem {
                path: format!("{}{}", self.within, shown.escape_debug()),
                problem: format!("is not known here; known are {known}"),
            });
        }
        self.problems
    }
}

/// True for 1 to 128 of `[A-Za-z0-9_-]`: ids of tasks and instances.
pub fn is_id(text: &str) -> bool {
    is_word(text, 1..=128)
}

/// True for so many of `[A-Za-z0-9_-]`.
pub fn is_word(text: &str, length: RangeInclusive<usize>) -> bool {
    length.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}
