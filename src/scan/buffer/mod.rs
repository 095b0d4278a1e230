//! One file in memory: what it is, whether it is wanted, its hashes, what matches, and the same for what is packed in it.
//!
//! ```text
//! size → filters → hashes → cache → rules → members, depth first, under one deadline of 3 × timeout_s
//! ```
//!
//! `clean` with `partial` false is said only if every rule saw every byte, of members too. Hashes, kind, members and rules
//! are of the same buffer. Refuses to know files, processes and the engine.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

pub mod hashes;
pub mod mime;
pub mod unpack;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    outcome::{Child, Match, Outcome, Reason, Verdict},
    rules::RulesView,
    settings,
    task::{RelPath, TaskId, Zeek},
};
use crate::{
    clock::{Clock, Nanos, nanos},
    limits::SCAN_PLACES_MAX,
};
use hashes::Hashes;

/// What finds rules in bytes.
pub trait Engine {
    fn view(&self) -> &RulesView;
    /// Whether this rule asks for names, so that its answer is not of the bytes alone.
    fn is_naming(&self, namespace: &str, rule: &str) -> bool;
    fn has_naming(&self) -> bool;
    /// All rules.
    fn whole(&mut self, bytes: &[u8], names: &Names, timeout: Duration) -> Result<Found, Stop>;
    /// Rules that ask for names, alone.
    fn naming(&mut self, bytes: &[u8], names: &Names, timeout: Duration) -> Result<Found, Stop>;
}

/// What matched.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Sorted by namespace and rule, each pair once.
    pub matches: Vec<Match>,
    /// A pattern reached its maximum, so a count in a condition may be wrong.
    pub is_limited: bool,
}

/// Why the rules have no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    Timeout,
    Failed,
}

/// What rules may ask of a file beyond its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Without folders.
    pub filename: String,
    /// The folder; of a member, the folder inside its archive.
    pub filepath: String,
    /// Lower case, with its dot.
    pub extension: String,
    /// Always empty: public rules ask what it is *not*, and no two tools fill it alike.
    pub filetype: String,
    pub owner: String,
    /// Hex, lower case.
    pub md5: String,
}

impl Names {
    /// - `path`: folders and name, `/` between them.
    pub fn of(path: &str, md5: &str) -> Self {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let extension = extension(name);
        Self { filename: name.into(), filepath: folder.into(), extension, md5: md5.into(), ..Self::default() }
    }
}

/// `.exe` of `Setup.EXE`; empty if there is none. A name that only begins with a dot has none.
pub fn extension(name: &str) -> String {
    match name.trim_start_matches('.').rsplit_once('.') {
        Some((_, suffix)) => format!(".{}", suffix.to_lowercase()),
        None => String::new(),
    }
}

/// A file that is to be scanned: what goes to a child beside its descriptor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub task_id: TaskId,
    pub root: String,
    /// Where the root is, for rules that ask for the folder.
    #[serde(default)]
    pub root_path: String,
    #[serde(flatten)]
    pub path: RelPath,
    /// Of the file; empty if nobody knows.
    #[serde(default)]
    pub owner: String,
    #[serde(default)]
    pub attempt: u32,
    #[serde(default)]
    pub worker_id: String,
    #[serde(default)]
    pub zeek: Option<Zeek>,
}

/// What is allowed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    pub file_bytes_max: u64,
    pub timeout_s: u64,
    pub mime_types: Vec<String>,
    pub extensions: Vec<String>,
    pub depth_max: u32,
    pub children_max: usize,
    pub bytes_max: u64,
    pub ratio_max: u64,
    pub matches_max: usize,
    pub match_bytes: usize,
    pub matches_reported: usize,
}

impl From<&settings::Settings> for Limits {
    fn from(settings: &settings::Settings) -> Self {
        Self {
            file_bytes_max: settings.file_bytes_max,
            timeout_s: settings.timeout_s,
            mime_types: settings.mime_types.clone(),
            extensions: settings.extensions.iter().map(|suffix| format!(".{}", suffix.trim_start_matches('.').to_lowercase())).collect(),
            depth_max: settings.unpack.depth_max,
            children_max: settings.unpack.children_max,
            bytes_max: settings.unpack.bytes_max,
            ratio_max: settings.unpack.ratio_max,
            matches_max: settings.rules.matches_max,
            match_bytes: settings.rules.match_bytes,
            matches_reported: settings.rules.matches_reported,
        }
    }
}

/// What a scan asks of its surroundings.
pub trait Surroundings {
    /// A complete outcome for the same bytes and rules, if one is kept.
    fn cached(&mut self, sha256: &str, size: u64, rules_version: &str) -> Option<Outcome>;
    /// The file itself is done; its members follow.
    fn unpacking(&mut self);
}

/// The answer for a file that nobody could or would look into.
pub fn unseen(job: &Job, verdict: Verdict, reason: Reason) -> Outcome {
    let mut outcome = blank(job);
    (outcome.verdict, outcome.reasons) = (verdict, vec![reason]);
    outcome
}

fn blank(job: &Job) -> Outcome {
    Outcome {
        task_id: job.task_id.clone(),
        root: job.root.clone(),
        path: job.path.clone(),
        sha256: String::new(),
        sha1: String::new(),
        md5: String::new(),
        tlsh: None,
        size: 0,
        mime: String::new(),
        verdict: Verdict::Clean,
        partial: false,
        reasons: Vec::new(),
        rules_version: String::new(),
        engine: String::new(),
        cached: false,
        worker_id: job.worker_id.clone(),
        started_at: 0.0,
        scan_ms: 0,
        attempt: job.attempt,
        matches: Vec::new(),
        children: Vec::new(),
        zeek: job.zeek.clone(),
        correlated: Vec::new(),
    }
}

/// Scans a whole file.
pub fn scan(
    bytes: &[u8],
    job: &Job,
    limits: &Limits,
    engine: &mut dyn Engine,
    around: &mut dyn Surroundings,
    clock: &dyn Clock,
) -> Outcome {
    let (began, started_at) = (clock.mono(), seconds(clock.now()));
    let mut outcome = Outcome { started_at, size: length(bytes), ..blank(job) };
    if outcome.size > limits.file_bytes_max {
        (outcome.verdict, outcome.reasons) = (Verdict::Error, vec![Reason::TooLarge]);
        return outcome;
    }
    outcome.mime = mime::of(bytes).to_owned();
    let name = String::from_utf8_lossy(job.path.name()).into_owned();
    if let Some(reason) = excluded(&outcome.mime, &name, limits) {
        (outcome.verdict, outcome.reasons) = (Verdict::Skipped, vec![reason]);
        return outcome;
    }
    let hashes = Hashes::of(bytes);
    outcome.rules_version = engine.view().version.clone();
    outcome.engine = engine.view().engine.clone();
    let deadline = began.saturating_add(nanos(Duration::from_secs(3 * limits.timeout_s)));
    let names = Names { owner: job.owner.clone(), ..Names::of(&format!("{}/{}", job.root_path, job.path.lossy()), &hashes.md5) };
    let kept = around.cached(&hashes.sha256, outcome.size, &outcome.rules_version);
    (outcome.sha256, outcome.sha1, outcome.md5, outcome.tlsh) = (hashes.sha256, hashes.sha1, hashes.md5, hashes.tlsh);
    let budget = unpack::Budget::new(limits, outcome.size);
    let mut scan = Scan { limits, engine, clock, deadline, reasons: Vec::new(), children: Vec::new(), budget, places: SCAN_PLACES_MAX };
    let mut is_answered = true;
    if let Some(kept) = kept {
        // What asks for the file's own names is asked again: they may be others.
        outcome.matches = kept.matches.into_iter().filter(|found| !scan.engine.is_naming(&found.namespace, &found.rule)).collect();
        outcome.children = kept.children;
        outcome.cached = true;
        scan.reasons = kept.reasons;
        scan.names(bytes, &names, began, &mut outcome.matches);
    } else {
        outcome.matches = scan.rules(bytes, &names, began);
        is_answered = !scan.reasons.iter().any(|reason| matches!(reason, Reason::Timeout | Reason::Io));
        if unpack::kind(bytes).is_some() {
            around.unpacking();
            scan.members(bytes, 1);
        }
        outcome.children = std::mem::take(&mut scan.children);
    }
    outcome.reasons = std::mem::take(&mut scan.reasons);
    if let Some(zeek) = &job.zeek {
        outcome.reasons.extend(zeek.reasons.iter().filter_map(|reason| capture(reason)));
    }
    outcome.reasons.sort_unstable();
    outcome.reasons.dedup();
    outcome.partial = !outcome.reasons.is_empty();
    let matched = !outcome.matches.is_empty() || outcome.children.iter().any(|child| !child.matches.is_empty());
    outcome.verdict = match matched {
        true => Verdict::Matched,
        false if !is_answered => Verdict::Error,
        false => Verdict::Clean,
    };
    outcome.scan_ms = clock.mono().saturating_sub(began) / 1_000_000;
    outcome
}

fn excluded(mime: &str, name: &str, limits: &Limits) -> Option<Reason> {
    let is_type = |wanted: &String| match wanted.strip_suffix('*') {
        Some(prefix) => prefix.ends_with('/') && mime.starts_with(prefix),
        None => wanted == mime,
    };
    if !limits.mime_types.is_empty() && !limits.mime_types.iter().any(is_type) {
        return Some(Reason::ExcludedMime);
    }
    if !limits.extensions.is_empty() && !limits.extensions.contains(&extension(name)) {
        return Some(Reason::ExcludedExtension);
    }
    None
}

/// What Zeek says of a capture that is not whole.
fn capture(reason: &str) -> Option<Reason> {
    match reason {
        "cutoff" => Some(Reason::Cutoff),
        "missing_bytes" => Some(Reason::MissingBytes),
        "timedout" => Some(Reason::Timedout),
        _ => None,
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[allow(clippy::cast_precision_loss, reason = "microseconds of today are exact")]
fn seconds(now: Nanos) -> f64 {
    (now / 1000) as f64 / 1e6
}

/// A scan that is under way.
struct Scan<'a> {
    limits: &'a Limits,
    engine: &'a mut dyn Engine,
    clock: &'a dyn Clock,
    deadline: Nanos,
    reasons: Vec<Reason>,
    children: Vec<Child>,
    budget: unpack::Budget,
    /// Places of matches that may still be told.
    places: usize,
}

impl Scan<'_> {
    /// Time that the rules may take for a buffer whose turn began at `began`: never beyond the whole scan's deadline.
    fn left(&self, began: Nanos) -> Option<Duration> {
        let until = began.saturating_add(nanos(Duration::from_secs(self.limits.timeout_s))).min(self.deadline);
        until.checked_sub(self.clock.mono()).filter(|left| *left > 0).map(Duration::from_nanos)
    }

    /// All rules over one buffer.
    fn rules(&mut self, bytes: &[u8], names: &Names, began: Nanos) -> Vec<Match> {
        let answer = self.left(began).map_or(Err(Stop::Timeout), |left| self.engine.whole(bytes, names, left));
        let mut matches = Vec::new();
        self.take(answer, &mut matches);
        matches
    }

    /// Those that ask for names, beside what is known.
    fn names(&mut self, bytes: &[u8], names: &Names, began: Nanos, matches: &mut Vec<Match>) {
        if self.engine.has_naming() {
            let answer = self.left(began).map_or(Err(Stop::Timeout), |left| self.engine.naming(bytes, names, left));
            self.take(answer, matches);
            matches.sort_by(|a, b| (&a.namespace, &a.rule).cmp(&(&b.namespace, &b.rule)));
        }
    }

    fn take(&mut self, answer: Result<Found, Stop>, matches: &mut Vec<Match>) {
        match answer {
            Ok(mut found) => {
                for pattern in found.matches.iter_mut().flat_map(|found| &mut found.patterns) {
                    pattern.at.truncate(self.places);
                    self.places -= pattern.at.len();
                }
                matches.extend(found.matches);
                self.reasons.extend(found.is_limited.then_some(Reason::MatchLimit));
            }
            Err(Stop::Timeout) => self.reasons.push(Reason::Timeout),
            // The engine has said why.
            Err(Stop::Failed) => self.reasons.push(Reason::Io),
        }
    }

    /// What is packed in `bytes`, and what is packed in that.
    ///
    /// - `depth`: of the members, from 1.
    fn members(&mut self, bytes: &[u8], depth: u32) {
        let Some(kind) = unpack::kind(bytes) else { return };
        if depth > self.limits.depth_max {
            self.flaw(Reason::LimitDepth);
            return;
        }
        let mut archive = unpack::Archive::open(kind, bytes);
        loop {
            if self.clock.mono() >= self.deadline {
                return self.flaw(Reason::Timeout);
            }
            let (clock, deadline) = (self.clock, self.deadline);
            let member = match archive.next(&mut self.budget, &|| clock.mono() >= deadline) {
                Some(Ok(member)) => member,
                // A limit of all members together: nothing more is opened.
                Some(Err(reason)) => return self.flaw(reason),
                None => return,
            };
            let begun = self.reasons.len();
            let at = self.children.len();
            let bytes = member.bytes.as_deref();
            self.children.push(Child {
                name: member.name,
                depth,
                size: member.size,
                sha256: bytes.filter(|_| member.is_whole).map(hashes::sha256).unwrap_or_default(),
                mime: bytes.map(mime::of).unwrap_or_default().to_owned(),
                verdict: Verdict::Clean,
                reasons: Vec::new(),
                matches: Vec::new(),
            });
            self.reasons.extend(&member.flaw);
            let mut matches = Vec::new();
            if let Some(bytes) = bytes {
                let name = self.children.get(at).map(|child| child.name.clone()).unwrap_or_default();
                let md5 = if self.engine.has_naming() { hashes::md5(bytes) } else { String::new() };
                matches = self.rules(bytes, &Names::of(&name, &md5), self.clock.mono());
            }
            let reasons = self.reasons.get(begun..).unwrap_or_default().to_vec();
            if let Some(child) = self.children.get_mut(at) {
                child.verdict = match (matches.is_empty(), reasons.is_empty()) {
                    (false, _) => Verdict::Matched,
                    (true, true) => Verdict::Clean,
                    (true, false) => Verdict::Error,
                };
                (child.matches, child.reasons) = (matches, reasons);
            }
            let within = self.reasons.len();
            if let Some(bytes) = bytes.filter(|_| member.is_whole) {
                self.members(bytes, depth + 1);
            }
            // What stopped the opening of this member stands at it, so that people see where.
            let stopped: Vec<Reason> = self.reasons.get(within..).unwrap_or_default().to_vec();
            if let Some(child) = self.children.get_mut(at)
                && stopped.contains(&Reason::LimitDepth)
                && depth == self.limits.depth_max
            {
                child.reasons.push(Reason::LimitDepth);
                if child.verdict == Verdict::Clean {
                    child.verdict = Verdict::Error;
                }
            }
        }
    }

    fn flaw(&mut self, reason: Reason) {
        self.reasons.push(reason);
    }
}

#[cfg(test)]
mod tests;
