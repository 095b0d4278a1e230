//! The engine that holds rules against events; the only module that names it (rsigma).
//!
//! One [`Engine`] has the rules of one log source, so its own search for candidates has little to do.

use std::{borrow::Cow, collections::BTreeMap};

use rsigma_eval::{Engine as Evaluator, Event, EventValue};
use rsigma_parser::{FilterRule, SigmaRule, parse_sigma_yaml};

use super::{Fields, Rule, Value};

/// A rule that was read.
pub(super) struct Parsed(SigmaRule);

impl Parsed {
    /// What is told of it.
    pub fn rule(&self) -> Rule {
        let Self(rule) = self;
        Rule {
            id: rule.id.clone().unwrap_or_else(|| rule.title.clone()),
            title: rule.title.clone(),
            level: rule.level.map_or("medium", |level| level.as_str()),
            tags: rule.tags.clone(),
        }
    }

    /// Product, category and service; empty where it names none.
    pub fn source(&self) -> [String; 3] {
        let source = &self.0.logsource;
        [&source.product, &source.category, &source.service].map(|word| word.as_deref().unwrap_or_default().trim().to_ascii_lowercase())
    }
}

/// Rules that take something away from others.
#[derive(Default)]
pub(super) struct Filters(Vec<FilterRule>);

impl Filters {
    pub fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

/// What a file holds.
#[derive(Default)]
pub(super) struct Read {
    pub rules: Vec<Parsed>,
    pub filters: Filters,
    /// Rules that count events over time.
    pub correlations: usize,
    /// Why something of it is left out.
    pub broken: Vec<String>,
}

/// Reads the rules of a file.
pub(super) fn parse(text: &str) -> Read {
    match parse_sigma_yaml(text) {
        Ok(all) => Read {
            rules: all.rules.into_iter().map(Parsed).collect(),
            filters: Filters(all.filters),
            correlations: all.correlations.len(),
            broken: all.errors,
        },
        Err(error) => Read { broken: vec![error.to_string()], ..Read::default() },
    }
}

/// The rules of one log source.
pub(super) struct Engine {
    evaluator: Evaluator,
    /// Numbers of the rules, by what a match names them with.
    numbers: BTreeMap<String, usize>,
}

impl Engine {
    /// Makes rules ready; returns the numbers of those that cannot be, with the reason.
    pub fn build(rules: Vec<(usize, Parsed)>, filters: &Filters) -> (Self, Vec<(usize, String)>) {
        let mut evaluator = Evaluator::new();
        let failed = evaluator.add_rules(rules.iter().map(|(_, Parsed(rule))| rule));
        let mut broken: Vec<(usize, String)> =
            failed.into_iter().filter_map(|(at, error)| Some((rules.get(at)?.0, error.to_string()))).collect();
        let first = rules.first().map_or(0, |(number, _)| *number);
        for filter in &filters.0 {
            if let Err(error) = evaluator.apply_filter(filter) {
                broken.push((first, format!("the filter {:?}: {error}", filter.title)));
            }
        }
        let name = |rule: &SigmaRule| rule.id.clone().unwrap_or_else(|| rule.title.clone());
        let numbers = rules.iter().map(|(number, Parsed(rule))| (name(rule), *number)).collect();
        (Self { evaluator, numbers }, broken)
    }

    /// True if no rule is ready.
    pub fn is_empty(&self) -> bool {
        self.evaluator.rule_count() == 0
    }

    /// Appends the numbers of the rules that match.
    pub fn find(&self, event: &dyn Fields, found: &mut Vec<usize>) {
        for result in self.evaluator.evaluate(&Seen(event)) {
            let name = result.header.rule_id.as_deref().unwrap_or(&result.header.rule_title);
            found.extend(self.numbers.get(name));
        }
    }
}

/// An event as the engine asks for it.
struct Seen<'e>(&'e dyn Fields);

impl Event for Seen<'_> {
    fn get_field(&self, path: &str) -> Option<EventValue<'_>> {
        self.0.get(path).map(value)
    }

    fn any_string_value(&self, wanted: &dyn Fn(&str) -> bool) -> bool {
        self.0.any_text(wanted)
    }

    fn all_string_values(&self) -> Vec<Cow<'_, str>> {
        self.0.texts().into_iter().map(Cow::Borrowed).collect()
    }

    fn to_json(&self) -> serde_json::Value {
        // Asked for by rules that want the whole event in their result, of which nothing is read here.
        serde_json::Value::Null
    }

    fn field_keys(&self) -> Vec<Cow<'_, str>> {
        Vec::new()
    }
}

fn value(value: Value<'_>) -> EventValue<'_> {
    match value {
        Value::Text(text) => EventValue::Str(text),
        Value::Whole(n) => EventValue::Int(n),
        Value::Number(x) => EventValue::Float(x),
        Value::Bool(b) => EventValue::Bool(b),
        Value::Null => EventValue::Null,
        Value::List(values) => EventValue::Array(values.into_iter().map(self::value).collect()),
    }
}
