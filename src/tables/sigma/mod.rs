//! Sigma rules: what is a sign of an attack in one event of a log.
//!
//! Rules stand under the log source that they were written for (`route`), so an event meets those of its own log only:
//! the thousand rules for new processes cost nothing to a line of a firewall. How a rule is held against an event is the
//! business of an engine; `rsigma` is the only module that names it.
//!
//! A rule that cannot be used is named and left out. Correlation rules count events over time, which a table does not see:
//! they are named as well.
//!
//! Start at [`Builder`] and [`Rules::find`].

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

mod route;
#[cfg_attr(not(feature = "sigma"), path = "absent.rs")]
mod rsigma;

use std::{borrow::Cow, collections::BTreeMap, fmt};

pub use route::{LogSource, WINDOWS, windows};

use crate::limits::SIGMA_RULES_MAX;
use rsigma::{Engine, Parsed};

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'e> {
    Text(Cow<'e, str>),
    Whole(i64),
    Number(f64),
    Bool(bool),
    Null,
    List(Vec<Value<'e>>),
}

/// An event as rules see it.
pub trait Fields {
    /// The field of that name; `None` if the event has none.
    fn get(&self, name: &str) -> Option<Value<'_>>;
    /// True if some text of the event is as wanted, whatever its field.
    fn any_text(&self, wanted: &dyn Fn(&str) -> bool) -> bool;
    /// All texts of the event.
    fn texts(&self) -> Vec<&str>;
}

/// A rule that can match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its UUID; its title where it has none.
    pub id: String,
    pub title: String,
    /// `informational`, `low`, `medium`, `high` or `critical`; `medium` where it says nothing.
    pub level: &'static str,
    /// Such as `attack.t1059.001`.
    pub tags: Vec<String>,
}

/// Words of a log source as numbers: product, category, service. 0 is none.
type Key = [u16; 3];

/// In a key: a word that no event is known to have.
const UNPLACED: u16 = u16::MAX;

/// Rules, swapped whole.
pub struct Rules {
    rules: Vec<Rule>,
    /// Numbers from 1.
    words: BTreeMap<String, u16>,
    engines: BTreeMap<Key, Engine>,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rules({} for {} logs)", self.rules.len(), self.engines.len())
    }
}

impl Rules {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// How many log sources they were written for.
    pub fn sources(&self) -> usize {
        self.engines.len()
    }

    /// The rule of that number.
    pub fn rule(&self, number: usize) -> Option<&Rule> {
        self.rules.get(number)
    }

    /// The rules that an event of this log source may meet, as engines.
    fn engines(&self, source: LogSource<'_>) -> impl Iterator<Item = &Engine> {
        let word = |word: &str| if word.is_empty() { None } else { self.words.get(word).copied() };
        let products = [Some(0), word(source.product)];
        // What the map of Windows does not know may be what this event is.
        let is_windows = source.product == WINDOWS;
        let services = [Some(0), word(source.service), (is_windows && source.service.is_empty()).then_some(UNPLACED)];
        let unplaced = (is_windows && source.categories.is_empty()).then_some(UNPLACED);
        let categories = [Some(0), unplaced].into_iter().chain(source.categories.iter().copied().map(word));
        let keys = categories.flatten().flat_map(move |category| {
            products
                .into_iter()
                .flatten()
                .flat_map(move |product| services.into_iter().flatten().map(move |service| [product, category, service]))
        });
        keys.filter_map(|key| self.engines.get(&key))
    }

    /// True if some rule may match an event of this log source.
    pub fn is_for(&self, source: LogSource<'_>) -> bool {
        self.engines(source).next().is_some()
    }

    /// Appends the numbers of the rules that match.
    pub fn find(&self, source: LogSource<'_>, event: &dyn Fields, found: &mut Vec<usize>) {
        for engine in self.engines(source) {
            engine.find(event, found);
        }
    }
}

/// Why a rule is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The file, and the rule's title where it has one.
    pub rule: String,
    pub why: String,
}

/// Gathers the rules of files.
#[derive(Default)]
pub struct Builder {
    parsed: Vec<Parsed>,
    filters: rsigma::Filters,
    broken: Vec<Broken>,
    /// Correlation rules.
    correlations: usize,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Builder({} rules)", self.parsed.len())
    }
}

impl Builder {
    /// Adds the rules of a file, which may hold several.
    ///
    /// - `name`: the file, for what is told of it.
    pub fn add(&mut self, name: &str, text: &str) {
        let read = rsigma::parse(text);
        let (mut parsed, broken) = (read.rules, read.broken);
        self.correlations += read.correlations;
        self.filters.add(read.filters);
        self.broken.extend(broken.into_iter().map(|why| Broken { rule: name.to_owned(), why }));
        let room = SIGMA_RULES_MAX.saturating_sub(self.parsed.len());
        if parsed.len() > room {
            parsed.truncate(room);
            self.broken
                .push(Broken { rule: name.to_owned(), why: format!("there are more than {SIGMA_RULES_MAX} rules; name a smaller folder") });
        }
        self.parsed.extend(parsed);
    }

    /// A file that could not be read.
    pub fn add_broken(&mut self, name: &str, why: String) {
        self.broken.push(Broken { rule: name.to_owned(), why });
    }

    /// The table, and what is left out of it.
    #[cfg_attr(
        not(feature = "sigma"),
        allow(unreachable_code, unused_variables, unused_mut, reason = "no rule can be read, so none is numbered")
    )]
    pub fn build(mut self) -> (Rules, Left) {
        let mut rules = Vec::new();
        let mut words = BTreeMap::new();
        let mut of_key: BTreeMap<Key, Vec<(usize, Parsed)>> = BTreeMap::new();
        let mut ids = std::collections::BTreeSet::new();
        for parsed in self.parsed {
            let rule = parsed.rule();
            if !ids.insert(rule.id.clone()) {
                self.broken.push(Broken {
                    rule: rule.title,
                    why: format!("there is another rule with the id {}; give it one of its own", rule.id),
                });
                continue;
            }
            let [product, category, service] = parsed.source();
            let mut number = |word: &str| match word {
                "" => 0,
                word => {
                    let next = u16::try_from(words.len() + 1).unwrap_or(UNPLACED - 1).min(UNPLACED - 1);
                    *words.entry(word.to_owned()).or_insert(next)
                }
            };
            let is_windows = product == WINDOWS;
            let placed = |number: u16, is_known: bool| if is_windows && !is_known { UNPLACED } else { number };
            let key = [
                number(&product),
                placed(number(&category), route::is_known("", &category)),
                placed(number(&service), route::is_known(&service, "")),
            ];
            of_key.entry(key).or_default().push((rules.len(), parsed));
            rules.push(rule);
        }
        let mut engines = BTreeMap::new();
        for (key, parsed) in of_key {
            let (engine, broken) = Engine::build(parsed, &self.filters);
            for (number, why) in broken {
                let rule = rules.get(number).map_or_else(String::new, |rule| rule.title.clone());
                self.broken.push(Broken { rule, why });
            }
            if !engine.is_empty() {
                engines.insert(key, engine);
            }
        }
        let left = Left { broken: self.broken, correlations: self.correlations };
        (Rules { rules, words, engines }, left)
    }
}

/// What is not in a table of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    pub broken: Vec<Broken>,
    /// Rules that count events over time.
    pub correlations: usize,
}
