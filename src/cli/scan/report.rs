//! What `shipper scan` prints: a line for each file that is not simply clean, and the sums; or outcomes as JSON.

#![allow(clippy::disallowed_methods, reason = "a person looks at a real clock")]

use std::{path::Path, time::Instant};

use super::{IO, MATCHED};
use crate::{
    cli::{plain, tell},
    scan::{
        outcome::{Child, Match, Outcome, Verdict},
        rules::RulesView,
    },
};

#[derive(Default)]
struct Sums {
    files: u64,
    bytes: u64,
    clean: u64,
    matched: u64,
    skipped: u64,
    partial: u64,
    errors: u64,
}

/// Prints, and counts.
pub(super) struct Report {
    as_json: bool,
    sums: Sums,
    begun: Instant,
}

impl Report {
    pub(super) fn new(as_json: bool) -> Self {
        Self { as_json, sums: Sums::default(), begun: Instant::now() }
    }

    pub(super) fn outcome(&mut self, path: &Path, outcome: Outcome) -> anyhow::Result<()> {
        let sums = &mut self.sums;
        sums.files += 1;
        // Of what was read.
        sums.bytes += if outcome.sha256.is_empty() { 0 } else { outcome.size };
        sums.partial += u64::from(outcome.partial);
        *match outcome.verdict {
            Verdict::Clean => &mut sums.clean,
            Verdict::Matched => &mut sums.matched,
            Verdict::Skipped => &mut sums.skipped,
            Verdict::Error => &mut sums.errors,
        } += 1;
        if self.as_json {
            return tell(&(serde_json::to_string(&outcome)? + "\n"));
        }
        if outcome.verdict == Verdict::Clean && !outcome.partial {
            return Ok(());
        }
        tell(&lines(&plain(&path.to_string_lossy()), &outcome))
    }

    /// A file without an outcome.
    pub(super) fn failed(&mut self, path: &Path, why: &str) -> anyhow::Result<()> {
        self.sums.files += 1;
        self.sums.errors += 1;
        let path = plain(&path.to_string_lossy());
        if self.as_json {
            eprintln!("shipper: {path}: {why}");
            return Ok(());
        }
        tell(&format!("{path}: error: {why}\n"))
    }

    pub(super) fn progress(&self) -> String {
        format!("{} files, {} MiB, {} matched", self.sums.files, self.sums.bytes >> 20, self.sums.matched)
    }

    pub(super) fn sums(&self, rules: &RulesView) -> anyhow::Result<()> {
        let Sums { files, bytes, clean, matched, skipped, partial, errors } = &self.sums;
        let took = self.begun.elapsed();
        let skipped = if *skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
        let text = format!(
            "{files} files, {:.1} MiB in {:.1} s with {} rules: {clean} clean, {matched} matched{skipped}, {errors} errors; {partial} not scanned whole\n",
            mib(*bytes),
            took.as_secs_f64(),
            rules.rules.len(),
        );
        if self.as_json {
            eprint!("{text}");
            return Ok(());
        }
        tell(&text)
    }

    pub(super) fn code(&self) -> u8 {
        match &self.sums {
            sums if sums.matched > 0 => MATCHED,
            sums if sums.errors > 0 || sums.partial > 0 => IO,
            _ => 0,
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

fn word(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Of one file, and of members that are not simply clean.
fn lines(path: &str, outcome: &Outcome) -> String {
    let reasons: Vec<String> = outcome.reasons.iter().map(word).collect();
    let partial = if outcome.partial { ", not scanned whole" } else { "" };
    let why = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    let mut text = format!("{path}: {}{partial}{why}\n", word(outcome.verdict));
    outcome.matches.iter().for_each(|found| text.push_str(&rule(found, "")));
    for child in outcome.children.iter().filter(|child| !child.matches.is_empty()) {
        child.matches.iter().for_each(|found| text.push_str(&rule(found, &member(child))));
    }
    text
}

fn member(child: &Child) -> String {
    format!(" in member {}", if child.name.is_empty() { "1".into() } else { plain(&child.name) })
}

fn rule(found: &Match, place: &str) -> String {
    let author = found.author.as_deref().map(|author| format!(", by {}", plain(author))).unwrap_or_default();
    format!("  {} ({}, severity {}{author}){place}\n", found.rule, plain(&found.namespace), found.severity)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn people_see_what_is_not_clean() {
        let found = json!({"rule": "r", "namespace": "a/b", "tags": [], "meta": [], "severity": 7, "author": "A\u{1b}[m", "patterns": []});
        let outcome: Outcome =
            serde_json::from_value(json!({"task_id": "", "root": "", "file_path": "f", "verdict": "matched", "partial": true,
            "reasons": ["encrypted", "limit_depth"], "matches": [found], "children": [{"name": "x\n", "depth": 1, "verdict": "matched",
            "matches": [found]}, {"name": "y", "depth": 1, "verdict": "clean"}]}))
            .unwrap();
        let expected = "f: matched, not scanned whole (encrypted, limit_depth)\n  r (a/b, severity 7, by A\\u{1b}[m)\n  r (a/b, severity 7, by \
                        A\\u{1b}[m) in member x\\n\n";
        assert_eq!(lines("f", &outcome), expected);
        let mut report = Report::new(true);
        assert_eq!(report.code(), 0);
        report.failed(Path::new("f"), "gone").unwrap();
        assert_eq!(report.code(), IO);
        report.sums.matched = 1;
        assert_eq!(report.code(), MATCHED);
    }
}
