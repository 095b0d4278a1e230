//! YARA rules: which files, what is in them, what is wrong with them, and whether a new set may take over.
//!
//! [`mod@load`] reads files and resolves includes; the engine sees texts, never paths. [`compiled`] is the form in which a set
//! goes from the child that compiled it to those that scan, and into the cache.
//!
//! Refuses to know YARA's grammar beyond [`lex`], and the engine.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

pub mod cache;
pub mod compiled;
pub mod lex;
pub mod load;

use serde::{Deserialize, Serialize};

pub use load::{load, stamp};

/// Name and version of what compiles and scans, as outcomes tell them.
pub const ENGINE: &str = "yara-x 1.22.1";

/// Rule files as they are compiled.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sources {
    /// Sorted by path; each a namespace of its own.
    pub files: Vec<Source>,
    /// What was found before any compiler saw a text.
    pub errors: Vec<RuleError>,
    /// `sha256:` and hex, of all paths and contents.
    pub version: String,
}

/// One rule file with what it includes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Source {
    /// Path below the rules' folder, without its suffix.
    pub namespace: String,
    /// In the order in which they are compiled.
    pub parts: Vec<Part>,
}

/// A text that is compiled at once. Lines are those of its file: what is not of this part is blank.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// As people call it.
    pub file: String,
    /// It came by an include; nothing of its text is ever quoted.
    pub included: bool,
    pub text: String,
    pub declared: Vec<lex::Declared>,
}

/// Something that is wrong with a rule file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleError {
    pub file: String,
    /// From 1; 0 is the whole file.
    pub line: u32,
    /// The compiler's (`E009`), or a word of ours (`include_outside`).
    pub code: String,
    pub message: String,
    /// No rule is missing because of it.
    pub harmless: bool,
}

impl std::fmt::Display for RuleError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.harmless { "note" } else { "error" };
        match self.line {
            0 => write!(f, "{}: {kind}[{}]: {}", self.file, self.code, self.message),
            line => write!(f, "{}:{line}: {kind}[{}]: {}", self.file, self.code, self.message),
        }
    }
}

/// A rule of a compiled set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    pub name: String,
    pub namespace: String,
    pub tags: Vec<String>,
    /// In the rule's order: keys repeat.
    pub meta: Vec<(String, serde_json::Value)>,
}

/// What people see of a set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RulesView {
    /// `sha256:` and hex.
    pub version: String,
    /// Name and version of what compiled it.
    pub engine: String,
    /// Sorted by namespace and name.
    pub rules: Vec<Rule>,
    pub errors: Vec<RuleError>,
    /// Beyond those of `errors`.
    pub errors_more: usize,
}

/// Why a new set does not take over; the old one stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no rule is left of the rules' files; look at the errors below, and at `scan.rules.paths`")]
    Empty,
    #[error("{gone} of {of} rules would vanish; mend the files, or reload with force if that is meant")]
    Vanish { gone: usize, of: usize },
}

/// Whether `new` may take the place of `old`.
///
/// # Errors
/// No rule is left, or, without `force`, more than a tenth of the rules would vanish.
pub fn may_replace(old: Option<&RulesView>, new: &RulesView, force: bool) -> Result<(), Refusal> {
    if new.rules.is_empty() {
        return Err(Refusal::Empty);
    }
    let key = |rule: &Rule| (rule.namespace.clone(), rule.name.clone());
    let left: std::collections::HashSet<_> = new.rules.iter().map(key).collect();
    let of = old.map_or(0, |old| old.rules.len());
    let gone = old.map_or(0, |old| old.rules.iter().filter(|rule| !left.contains(&key(rule))).count());
    if gone * 10 > of && !force {
        return Err(Refusal::Vanish { gone, of });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(names: std::ops::Range<usize>) -> RulesView {
        let rule = |n| Rule { name: format!("r{n}"), namespace: "a".into(), tags: Vec::new(), meta: Vec::new() };
        RulesView { rules: names.map(rule).collect(), ..RulesView::default() }
    }

    #[test]
    fn a_set_that_loses_more_than_a_tenth_needs_force() {
        let old = view(0..20);
        assert_eq!(may_replace(Some(&old), &view(2..20), false), Ok(()));
        assert_eq!(may_replace(Some(&old), &view(3..40), false), Err(Refusal::Vanish { gone: 3, of: 20 }));
        assert_eq!(may_replace(Some(&old), &view(3..40), true), Ok(()));
        assert_eq!(may_replace(Some(&old), &view(0..0), true), Err(Refusal::Empty));
        assert_eq!(may_replace(None, &view(0..1), false), Ok(()));
    }
}
