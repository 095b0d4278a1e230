//! How things lie in the file: tables of redb, rows as JSON.
//!
//! | table | key | row |
//! |---|---|---|
//! | `tasks` | task id | [`TaskRow`]: the task and, once it ended, how |
//! | `live` | task id | [`Live`](super::core::Live): place in the queue, attempts, lease; only while it has not ended |
//! | `states` | (state, task id) | of ended ones |
//! | `ended` | (time, task id) | of ended ones: the order of retention |
//! | `files` | root, NUL, path | [`FileRow`]: identity, task, verdict |
//! | `files_seen`, `files_done` | (time, file) | the orders of retention and of cleanup |
//! | `verdicts`, `verdict_ages` | version, SHA-256, size · (time, key) | [`Cached`] |
//! | `alerts`, `alert_times`, `alert_index` | id · (time, id) · (index, text, id) | [`AlertRow`] · nothing · its time |
//! | `audit` | number | [`AuditRow`] |
//! | `things` | (kind, name) | workers, alerts and rules of the monitor, what was told of these alerts: JSON that is theirs |
//! | `meta` | name | numbers: the format |
//!
//! Who is queued and who has a lease is in `live` alone: the orders of priority and of deadlines are in memory
//! and built from it at the start.

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, Table, WriteTransaction};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{Dead, Known, Nanos, State, alerts::Alert};
use crate::scan::{
    outcome::{Outcome, Reason, Verdict},
    task::{Identity, RelPath, Task, TaskId},
};

/// Raised when an older build could not read what this one writes.
pub(super) const FORMAT: u64 = 1;

macro_rules! tables {
    ($($name:ident: $key:ty => $row:ty;)*) => {
        mod define {
            $(#[allow(non_upper_case_globals)]
            pub(super) const $name: redb::TableDefinition<'static, $key, $row> = redb::TableDefinition::new(stringify!($name));)*
        }
        /// All tables, in a transaction that writes.
        pub(super) struct Open<'t> {
            $(pub $name: Table<'t, $key, $row>,)*
        }
        /// All tables as of the last commit.
        #[allow(dead_code, reason = "all tables, of which some are only written")]
        pub(super) struct View {
            $(pub $name: ReadOnlyTable<$key, $row>,)*
        }
        /// The tables of a damaged file that can be opened at all.
        #[allow(dead_code, reason = "the same")]
        pub(super) struct Remains {
            $(pub $name: Option<ReadOnlyTable<$key, $row>>,)*
        }
        impl Remains {
            pub fn new(txn: &ReadTransaction) -> Self {
                Self { $($name: txn.open_table(define::$name).ok(),)* }
            }
        }
        impl<'t> Open<'t> {
            fn new(txn: &'t WriteTransaction) -> Result<Self, Fault> {
                Ok(Self { $($name: txn.open_table(define::$name)?,)* })
            }
        }
        impl View {
            pub fn new(txn: &ReadTransaction) -> Result<Self, Fault> {
                Ok(Self { $($name: txn.open_table(define::$name)?,)* })
            }
        }
    };
}

tables! {
    meta: &'static str => u64;
    tasks: &'static str => &'static [u8];
    live: &'static str => &'static [u8];
    states: (u8, &'static str) => ();
    ended: (u64, &'static str) => ();
    files: &'static [u8] => &'static [u8];
    files_seen: (u64, &'static [u8]) => ();
    files_done: (u64, &'static [u8]) => ();
    verdicts: &'static str => &'static [u8];
    verdict_ages: (u64, &'static str) => ();
    alerts: u64 => &'static [u8];
    alert_times: (u64, u64) => ();
    alert_index: (u8, &'static str, u64) => u64;
    audit: u64 => &'static [u8];
    things: (u8, &'static str) => &'static [u8];
}

/// The format that the file says it has; `None` in a new file.
pub(super) fn format(txn: &WriteTransaction) -> Result<Option<u64>, Fault> {
    Ok(txn.open_table(define::meta)?.get("format")?.map(|format| format.value()))
}

/// All tables, and whether anything was written to one.
pub(super) struct Tables<'t> {
    open: Open<'t>,
    is_written: bool,
}

impl<'t> Tables<'t> {
    pub fn new(txn: &'t WriteTransaction) -> Result<Self, Fault> {
        Ok(Self { open: Open::new(txn)?, is_written: false })
    }
    pub fn read(&self) -> &Open<'t> {
        &self.open
    }
    /// What is asked of here must be committed.
    pub fn write(&mut self) -> &mut Open<'t> {
        self.is_written = true;
        &mut self.open
    }
    pub fn is_written(&self) -> bool {
        self.is_written
    }
}

/// What went wrong below an operation.
#[derive(Debug)]
pub(super) enum Fault {
    /// The disk or the file: tried again.
    Disk(redb::Error),
    /// One row is not what we wrote.
    Corrupt { row: String, why: String },
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::Corrupted(why) => Self::Corrupt { row: "(the tree itself)".into(), why },
            error => Self::Disk(error),
        }
    }
}

/// A row as bytes.
pub(super) fn encode(row: &impl Serialize) -> Vec<u8> {
    // Maps with string keys and finite numbers: it cannot fail, and `null` would be found at the next reading.
    serde_json::to_vec(row).unwrap_or_else(|_| b"null".to_vec())
}

/// A row from bytes.
///
/// - `row`: how the error names it.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8], row: impl FnOnce() -> String) -> Result<T, Fault> {
    serde_json::from_slice(bytes).map_err(|error| Fault::Corrupt { row: row(), why: error.to_string() })
}

/// The row of a task, or of anything else under a string.
pub(super) fn get<T: DeserializeOwned>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
    key: &str,
) -> Result<Option<T>, Fault> {
    table.get(key)?.map(|row| decode(row.value(), || format!("{name}/{key}"))).transpose()
}

/// `tasks`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TaskRow {
    pub task: Task,
    pub identity: Option<Identity>,
    /// `None` while it is queued or leased.
    pub end: Option<End>,
}

/// How a task ended.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct End {
    pub state: State,
    pub at: Nanos,
    pub outcome: Option<Outcome>,
    pub dead: Option<Dead>,
}

/// The first part of a key in `states`.
pub(super) fn state_key(state: State) -> u8 {
    match state {
        State::Queued => 0,
        State::Leased => 1,
        State::Done => 2,
        State::Dead => 3,
        State::Cancelled => 4,
    }
}

/// `files`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FileRow {
    pub identity: Identity,
    pub task_id: TaskId,
    pub verdict: Option<Verdict>,
    pub partial: bool,
    pub reasons: Vec<Reason>,
    pub sha256: String,
    pub ended_at: Option<Nanos>,
    /// When somebody last said that it is there; not more than a day behind.
    pub seen: Nanos,
}

/// The key of a file. A root's name holds no NUL.
pub(super) fn file_key(root: &str, path: &RelPath) -> Vec<u8> {
    let mut key = root.as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(&path.0);
    key
}

/// Reads the row of a file.
pub(super) fn get_file(table: &impl ReadableTable<&'static [u8], &'static [u8]>, key: &[u8]) -> Result<Option<FileRow>, Fault> {
    table.get(key)?.map(|row| decode(row.value(), || format!("files/{}", String::from_utf8_lossy(key)))).transpose()
}

impl FileRow {
    pub fn known(self, key: &[u8]) -> Known {
        let cut = key.iter().position(|byte| *byte == 0).unwrap_or(key.len());
        let (root, path) = key.split_at(cut);
        Known {
            root: String::from_utf8_lossy(root).into_owned(),
            path: RelPath(path.get(1..).unwrap_or_default().to_vec()),
            identity: self.identity,
            task_id: self.task_id,
            verdict: self.verdict,
            partial: self.partial,
            reasons: self.reasons,
            sha256: self.sha256,
            ended_at: self.ended_at,
        }
    }
}

/// `verdicts`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Cached {
    pub at: Nanos,
    pub outcome: Outcome,
}

/// The key of a verdict.
pub(super) fn verdict_key(sha256: &str, size: u64, rules_version: &str) -> String {
    format!("{rules_version} {sha256} {size}")
}

/// The size in a key of `verdicts`.
pub(super) fn verdict_size(key: &str) -> u64 {
    key.rsplit(' ').next().and_then(|size| size.parse().ok()).unwrap_or(0)
}

/// `alerts`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AlertRow {
    pub at: Nanos,
    pub alert: Map<String, Value>,
}

impl AlertRow {
    pub fn alert(self, id: u64) -> Alert {
        Alert { id, at: self.at, alert: self.alert }
    }
}

/// `audit`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AuditRow {
    pub at: Nanos,
    pub entry: Value,
}

/// What lies in `things`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Thing {
    Worker = 0,
    MonitorAlert = 1,
    MonitorRule = 2,
    /// What was told of alerts of the monitor, by number.
    MonitorTold = 3,
}

/// The name under which something lies that was told, in the order of numbers.
pub(super) fn told_name(number: u64) -> String {
    format!("{number:020}")
}
