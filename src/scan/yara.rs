//! The YARA engine: compiles texts, scans bytes. The only module that names it; feature `scan`.
//!
//! Runs in scan children alone: its modules parse hostile bytes, and its conditions are machine code made at run time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    buffer::{Engine, Found, Names, Stop},
    outcome::{At, Match, Pattern},
    rules::{
        ENGINE, Rule, RuleError, RulesView, Source, Sources,
        compiled::{Compiled, Damaged},
        lex,
        load::hex,
    },
    settings,
    severity::severity,
};
use crate::limits::{COMPILE_STACK_BYTES, RULE_ERRORS_MAX};

/// The variables that public rules expect, all texts.
const EXTERNALS: [&str; 6] = ["filename", "filepath", "extension", "filetype", "owner", "md5"];

/// Namespace and name of a rule, and whether it is global.
type Known = BTreeMap<(String, String), bool>;

/// Compiles all that compiles; what does not is in the set's errors.
///
/// - `relaxed`: take the loose escapes in regular expressions that only libyara knows.
pub fn compile(sources: &Sources, relaxed: bool) -> Result<Compiled, String> {
    // The compiler recurses into conditions: nested parentheses overflow the stack that a thread has by itself.
    std::thread::scope(|scope| {
        let compiler = std::thread::Builder::new().name("compile".into()).stack_size(COMPILE_STACK_BYTES);
        let running =
            compiler.spawn_scoped(scope, || compile_here(sources, relaxed)).map_err(|error| format!("no thread to compile on: {error}"))?;
        running.join().map_err(|_| "the compiler panicked".to_owned())?
    })
}

fn compile_here(sources: &Sources, relaxed: bool) -> Result<Compiled, String> {
    let all: Vec<&Source> = sources.files.iter().collect();
    let mut whole = Pass::run(&all, relaxed, true);
    let known = whole.known();
    // A rule that asks for a name does not compile where names are unknown.
    let mentions: Vec<&Source> = all.iter().copied().filter(|file| mentions_names(file)).collect();
    let mut nameless = Pass::run(&mentions, relaxed, false).known();
    // And a global one that does decides over its whole namespace.
    let mentioned: BTreeSet<&str> = mentions.iter().map(|file| file.namespace.as_str()).collect();
    let is_lost = |nameless: &Known, rule: &(String, String)| mentioned.contains(rule.0.as_str()) && !nameless.contains_key(rule);
    let gates = known.iter().filter(|(rule, is_global)| **is_global && is_lost(&nameless, rule));
    let gated: BTreeSet<String> = gates.map(|((namespace, _), _)| namespace.clone()).collect();
    nameless.retain(|(namespace, _), _| !gated.contains(namespace));
    let naming_rules: Vec<(String, String)> = known.keys().filter(|rule| is_lost(&nameless, rule)).cloned().collect();
    let of_naming: BTreeSet<&str> = naming_rules.iter().map(|(namespace, _)| namespace.as_str()).collect();
    let with_names: Vec<&Source> = mentions.into_iter().filter(|file| of_naming.contains(file.namespace.as_str())).collect();
    let naming = (!with_names.is_empty()).then(|| Pass::run(&with_names, relaxed, true));

    let mut errors = sources.errors.clone();
    errors.append(&mut whole.errors);
    errors.sort_by(|a, b| (&a.file, a.line, &a.code).cmp(&(&b.file, b.line, &b.code)));
    let errors_more = errors.len().saturating_sub(RULE_ERRORS_MAX);
    errors.truncate(RULE_ERRORS_MAX);
    let mut rules = whole.listed();
    rules.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let bytes = |rules: &yara_x::Rules| rules.serialize().map_err(|error| format!("the compiled rules cannot be written: {error}"));
    Ok(Compiled {
        whole: bytes(&whole.rules)?,
        naming: naming.map(|naming| bytes(&naming.rules)).transpose()?.unwrap_or_default(),
        naming_rules,
        view: RulesView { version: sources.version.clone(), engine: ENGINE.into(), rules, errors, errors_more },
    })
}

/// Whether a word of the text is one of the names; most such words are keys in `meta`.
fn mentions_names(file: &Source) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    file.parts.iter().any(|part| part.text.split(|c| !is_word(c)).any(|word| EXTERNALS.contains(&word)))
}

/// One run of the compiler over files.
struct Pass {
    rules: yara_x::Rules,
    errors: Vec<RuleError>,
}

impl Pass {
    fn run(files: &[&Source], relaxed: bool, with_names: bool) -> Self {
        let mut compiler = yara_x::Compiler::new();
        // Before any source: the engine panics otherwise.
        compiler.relaxed_re_syntax(relaxed);
        compiler.enable_includes(false).switch_all_warnings(false);
        if with_names {
            for name in EXTERNALS {
                compiler.define_global(name, "").expect("six names, each once");
            }
        }
        let mut told = Vec::new();
        let mut dropped: Vec<(&Source, &str, &lex::Declared)> = Vec::new();
        for file in files {
            compiler.new_namespace(&file.namespace);
            for part in &file.parts {
                let (errors_before, ignored_before) = (compiler.errors().len(), compiler.ignored_rules().len());
                let _ = compiler.add_source(yara_x::SourceCode::from(part.text.as_str()));
                let new = &compiler.errors()[errors_before..];
                told.extend(new.iter().map(|error| rule_error(error, &part.file, part.included)));
                let ignored: BTreeSet<&str> = compiler.ignored_rules().skip(ignored_before).map(|(name, _)| name).collect();
                // A text that is no YARA may lose rules whose names nobody can tell.
                let is_syntax = new.iter().any(|error| error.code() == "E001");
                let silent = part.declared.iter().filter(|rule| !ignored.contains(rule.name.as_str()) && !is_syntax);
                dropped.extend(silent.map(|rule| (*file, part.file.as_str(), rule)));
            }
        }
        let mut pass = Self { rules: compiler.build(), errors: told };
        let known = pass.known();
        let silent = dropped.into_iter().filter(|(file, _, rule)| !known.contains_key(&(file.namespace.clone(), rule.name.clone())));
        pass.errors.extend(silent.map(|(_, shown, rule)| {
            let message = "a rule that the compiler left out without an error; is its condition nested too deeply?".to_owned();
            RuleError { file: shown.into(), line: rule.line, code: "dropped".into(), message, harmless: false }
        }));
        pass
    }

    fn known(&self) -> Known {
        self.rules.iter().map(|rule| ((rule.namespace().to_owned(), rule.identifier().to_owned()), rule.is_global())).collect()
    }

    fn listed(&self) -> Vec<Rule> {
        let listed = |rule: yara_x::Rule<'_, '_>| Rule {
            name: rule.identifier().to_owned(),
            namespace: rule.namespace().to_owned(),
            tags: tags(&rule),
            meta: meta(&rule),
        };
        self.rules.iter().map(listed).collect()
    }
}

fn rule_error(error: &yara_x::errors::CompileError, file: &str, included: bool) -> RuleError {
    // The engine's own form gives the line; its `text` quotes the file and is not used.
    let line = serde_json::to_value(error).ok().and_then(|value| value.get("line")?.as_u64()).and_then(|line| u32::try_from(line).ok());
    let title = error.title();
    // Titles name identifiers between back ticks.
    let message = if included { title.split('`').step_by(2).collect::<Vec<_>>().join("…") } else { title.to_owned() };
    RuleError { file: file.into(), line: line.unwrap_or(0), code: error.code().into(), message, harmless: false }
}

fn tags(rule: &yara_x::Rule<'_, '_>) -> Vec<String> {
    let mut tags: Vec<String> = rule.tags().map(|tag| tag.identifier().to_owned()).collect();
    tags.sort();
    tags
}

fn meta(rule: &yara_x::Rule<'_, '_>) -> Vec<(String, Value)> {
    let value = |value| match value {
        yara_x::MetaValue::Integer(n) => json!(n),
        yara_x::MetaValue::Float(x) => json!(x),
        yara_x::MetaValue::Bool(is) => json!(is),
        yara_x::MetaValue::String(text) => json!(text),
        yara_x::MetaValue::Bytes(bytes) => json!(String::from_utf8_lossy(bytes)),
    };
    rule.metadata().map(|(key, of)| (key.to_owned(), value(of))).collect()
}

/// A compiled set, ready to make scanners of.
pub struct Set {
    pub view: RulesView,
    whole: yara_x::Rules,
    naming: Option<yara_x::Rules>,
    naming_rules: Vec<(String, String)>,
}

/// Why a compiled set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    #[error(transparent)]
    Damaged(#[from] Damaged),
    #[error("the engine refuses the compiled set: {0}")]
    Engine(String),
}

impl Set {
    /// # Errors
    /// The set is damaged, or of another engine.
    pub fn open(compiled: Compiled) -> Result<Self, SetError> {
        let rules = |bytes: &[u8]| yara_x::Rules::deserialize(bytes).map_err(|error| SetError::Engine(error.to_string()));
        let naming = if compiled.naming.is_empty() { None } else { Some(rules(&compiled.naming)?) };
        Ok(Self { whole: rules(&compiled.whole)?, naming, naming_rules: compiled.naming_rules, view: compiled.view })
    }

    /// Scanners over this set, for one thread.
    pub fn scanners(&self, settings: &settings::Rules) -> Scanners<'_> {
        let scanner = |rules| {
            let mut scanner = yara_x::Scanner::new(rules);
            scanner.max_matches_per_pattern(settings.matches_max);
            scanner
        };
        Scanners { set: self, settings: settings.clone(), whole: scanner(&self.whole), naming: self.naming.as_ref().map(scanner) }
    }
}

/// One thread's scanners. They are dear to make and cheap to use again.
pub struct Scanners<'a> {
    set: &'a Set,
    settings: settings::Rules,
    whole: yara_x::Scanner<'a>,
    naming: Option<yara_x::Scanner<'a>>,
}

impl Engine for Scanners<'_> {
    fn view(&self) -> &RulesView {
        &self.set.view
    }

    fn is_naming(&self, namespace: &str, rule: &str) -> bool {
        let key = |(a, b): &(String, String)| (a.as_str(), b.as_str()).cmp(&(namespace, rule));
        self.set.naming_rules.binary_search_by(key).is_ok()
    }

    fn has_naming(&self) -> bool {
        self.naming.is_some()
    }

    fn whole(&mut self, bytes: &[u8], names: &Names, timeout: Duration) -> Result<Found, Stop> {
        if self.naming.is_some() {
            name(&mut self.whole, names)?;
        }
        scan(&mut self.whole, bytes, timeout, &self.settings, |_, _| true)
    }

    fn naming(&mut self, bytes: &[u8], names: &Names, timeout: Duration) -> Result<Found, Stop> {
        let Some(scanner) = &mut self.naming else { return Ok(Found::default()) };
        name(scanner, names)?;
        let set = self.set;
        let wanted = |namespace: &str, rule: &str| {
            set.naming_rules.binary_search_by(|(a, b)| (a.as_str(), b.as_str()).cmp(&(namespace, rule))).is_ok()
        };
        scan(scanner, bytes, timeout, &self.settings, wanted)
    }
}

fn name(scanner: &mut yara_x::Scanner<'_>, names: &Names) -> Result<(), Stop> {
    let values = [&names.filename, &names.filepath, &names.extension, &names.filetype, &names.owner, &names.md5];
    for (name, value) in EXTERNALS.into_iter().zip(values) {
        scanner.set_global(name, value.as_str()).map_err(failed)?;
    }
    Ok(())
}

/// Says why on standard error, which a child shares with its agent, and has no other place for words.
fn failed(error: impl std::fmt::Display) -> Stop {
    eprintln!("shipper scan-child: the engine gives no answer, so the outcome is partial: {error}");
    Stop::Failed
}

fn scan(
    scanner: &mut yara_x::Scanner<'_>,
    bytes: &[u8],
    timeout: Duration,
    settings: &settings::Rules,
    wanted: impl Fn(&str, &str) -> bool,
) -> Result<Found, Stop> {
    // Zero fails at once; the engine counts in whole seconds.
    scanner.set_timeout(timeout.max(Duration::from_secs(1)));
    let results = match scanner.scan(bytes) {
        Ok(results) => results,
        Err(yara_x::errors::ScanError::Timeout) => return Err(Stop::Timeout),
        Err(error) => return Err(failed(error)),
    };
    let is_full =
        |rule: &yara_x::Rule<'_, '_>| rule.patterns().include_private(true).any(|pattern| pattern.matches().len() >= settings.matches_max);
    // Every pattern of every rule is looked at, so only where a pattern could have been found so often.
    let is_limited = bytes.len() >= settings.matches_max
        && (results.matching_rules().include_private(true).any(|rule| is_full(&rule))
            || results.non_matching_rules().include_private(true).any(|rule| is_full(&rule)));
    let mut matches: Vec<Match> =
        results.matching_rules().filter(|rule| wanted(rule.namespace(), rule.identifier())).map(|rule| found(&rule, settings)).collect();
    matches.sort_by(|a, b| (&a.namespace, &a.rule).cmp(&(&b.namespace, &b.rule)));
    matches.dedup_by(|a, b| (&a.namespace, &a.rule) == (&b.namespace, &b.rule));
    Ok(Found { matches, is_limited })
}

fn found(rule: &yara_x::Rule<'_, '_>, settings: &settings::Rules) -> Match {
    let meta = meta(rule);
    let author = meta.iter().find(|(key, _)| key == "author").and_then(|(_, value)| value.as_str()).map(str::to_owned);
    let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let place = |found: yara_x::Match<'_, '_>| At {
        offset: number(found.range().start),
        length: number(found.range().len()),
        data: hex(&found.data()[..found.data().len().min(settings.match_bytes)]),
        xor: found.xor_key(),
    };
    let patterns = rule.patterns().filter(|pattern| pattern.matches().len() > 0).map(|pattern| Pattern {
        id: pattern.identifier().to_owned(),
        count: number(pattern.matches().len()),
        at: pattern.matches().take(settings.matches_reported).map(place).collect(),
    });
    Match {
        rule: rule.identifier().to_owned(),
        namespace: rule.namespace().to_owned(),
        tags: tags(rule),
        severity: severity(&meta),
        author,
        meta,
        patterns: patterns.collect(),
    }
}
