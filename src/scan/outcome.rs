//! What became of a task: the verdict, what matched where, and what was left out.

use serde::{Deserialize, Serialize};

use super::task::{RelPath, Task, TaskId, Zeek};

/// The answer. `clean` with `partial` false says that every rule saw every byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Clean,
    Matched,
    Skipped,
    Error,
}

/// Why a file was skipped, or could not be scanned. Of `Error` only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    // Of `Skipped`.
    ExcludedMime,
    ExcludedExtension,
    // Of `Error`.
    NotFound,
    TooLarge,
    NotAFile,
    NotAllowed,
    Timeout,
    Io,
    /// It changed while it was read; tried again before it is told.
    Changed,
    // Of `partial`.
    MatchLimit,
    LimitDepth,
    LimitChildren,
    LimitBytes,
    LimitRatio,
    Encrypted,
    Corrupt,
    /// A member that is a link, a device, or of a form that is not read.
    Refused,
    Cutoff,
    MissingBytes,
    Timedout,
}

/// What became of a task, or of a member of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub task_id: TaskId,
    pub root: String,
    #[serde(flatten)]
    pub path: RelPath,
    #[serde(default)]
    pub sha256: String,
    #[serde(default)]
    pub sha1: String,
    #[serde(default)]
    pub md5: String,
    #[serde(default)]
    pub tlsh: Option<String>,
    /// Bytes.
    #[serde(default)]
    pub size: u64,
    #[serde(default)]
    pub mime: String,
    pub verdict: Verdict,
    #[serde(default)]
    pub partial: bool,
    /// Sorted, each once.
    #[serde(default)]
    pub reasons: Vec<Reason>,
    /// `sha256:` and hex; empty where no rule was asked.
    #[serde(default)]
    pub rules_version: String,
    #[serde(default)]
    pub engine: String,
    #[serde(default)]
    pub cached: bool,
    #[serde(default)]
    pub worker_id: String,
    /// Seconds since 1970.
    #[serde(default)]
    pub started_at: f64,
    #[serde(default)]
    pub scan_ms: u64,
    #[serde(default)]
    pub attempt: u32,
    /// Sorted by namespace and rule, each pair once.
    #[serde(default)]
    pub matches: Vec<Match>,
    /// Members of an archive, depth first.
    #[serde(default)]
    pub children: Vec<Child>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zeek: Option<Zeek>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub correlated: Vec<serde_json::Value>,
}

impl Outcome {
    /// That a task could not be scanned at all.
    pub fn error(task: &Task, reason: Reason) -> Self {
        Self {
            task_id: task.task_id.clone(),
            root: task.root.clone(),
            path: task.path.clone(),
            sha256: String::new(),
            sha1: String::new(),
            md5: String::new(),
            tlsh: None,
            size: task.size.unwrap_or(0),
            mime: String::new(),
            verdict: Verdict::Error,
            partial: false,
            reasons: vec![reason],
            rules_version: String::new(),
            engine: String::new(),
            cached: false,
            worker_id: String::new(),
            started_at: 0.0,
            scan_ms: 0,
            attempt: task.attempt,
            matches: Vec::new(),
            children: Vec::new(),
            zeek: task.zeek.clone(),
            correlated: Vec::new(),
        }
    }
}

/// A rule that matched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Match {
    pub rule: String,
    pub namespace: String,
    /// Sorted.
    pub tags: Vec<String>,
    /// In the rule's order: keys repeat.
    pub meta: Vec<(String, serde_json::Value)>,
    /// 0 to 10.
    pub severity: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    pub patterns: Vec<Pattern>,
}

/// A pattern of a rule, and where it was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pattern {
    /// With its `$`.
    pub id: String,
    /// All that were found, reported or not.
    pub count: u64,
    /// The first few.
    pub at: Vec<At>,
}

/// A place of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    pub offset: u64,
    pub length: u64,
    /// The first bytes, in hex.
    pub data: String,
    pub xor: Option<u8>,
}

/// A member of an archive. Its name is text, never a path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Child {
    pub name: String,
    /// 1 for a member of the file itself.
    pub depth: u32,
    #[serde(default)]
    pub size: u64,
    #[serde(default)]
    pub sha256: String,
    #[serde(default)]
    pub mime: String,
    /// `Error` if it could not be read.
    pub verdict: Verdict,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    #[serde(default)]
    pub matches: Vec<Match>,
}
