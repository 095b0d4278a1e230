//! What is to be scanned: a file below a root, and what is known of it before anybody opens it.

use serde::{Deserialize, Serialize};

/// Names a task: a UUID, or 1 to 128 of `[A-Za-z0-9_-]` from others.
pub type TaskId = String;

/// Higher is sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Priority(u8);

impl Priority {
    pub const LOW: Self = Self(1);
    pub const NORMAL: Self = Self(5);
    pub const HIGH: Self = Self(8);
    pub const CRITICAL: Self = Self(10);

    /// `None` if it is not one of 1 to 10.
    pub fn new(priority: i64) -> Option<Self> {
        u8::try_from(priority).ok().filter(|priority| (1..=10).contains(priority)).map(Self)
    }
    pub fn get(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::NORMAL
    }
}

impl TryFrom<i64> for Priority {
    type Error = &'static str;
    fn try_from(priority: i64) -> Result<Self, Self::Error> {
        Self::new(priority).ok_or("a priority is 1 to 10")
    }
}

impl From<Priority> for i64 {
    fn from(priority: Priority) -> Self {
        priority.0.into()
    }
}

/// A file's name below its root: any bytes, `/` between folders, never `..`, never a first `/`.
///
/// As JSON two members: `file_path`, lossy where it is no UTF-8, and then `path_b64` with all bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "PathForm", into = "PathForm")]
pub struct RelPath(pub Vec<u8>);

impl RelPath {
    /// As text for people and JSON.
    pub fn lossy(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
    /// Behind the last `/`.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }
}

#[derive(Serialize, Deserialize)]
struct PathForm {
    file_path: String,
    #[serde(default)]
    path_b64: Option<String>,
}

impl From<PathForm> for RelPath {
    fn from(form: PathForm) -> Self {
        let bytes = form.path_b64.as_deref().and_then(crate::net::base64::decode);
        Self(bytes.unwrap_or_else(|| form.file_path.into_bytes()))
    }
}

impl From<RelPath> for PathForm {
    fn from(path: RelPath) -> Self {
        match String::from_utf8(path.0) {
            Ok(file_path) => Self { file_path, path_b64: None },
            Err(error) => {
                let bytes = error.as_bytes();
                Self { file_path: String::from_utf8_lossy(bytes).into_owned(), path_b64: Some(crate::net::base64::encode(bytes)) }
            }
        }
    }
}

/// What makes a file this file: the same name with another one of these is another task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    pub dev: u64,
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
}

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asker {
    Watch,
    Api,
    Upload,
    /// Another node, by a broker.
    Queue,
}

/// What a worker can do, and what a task may ask of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    FileScan,
    YaraAnalysis,
    NetworkAnalysis,
    LogAnalysis,
}

/// What Zeek says of the file: its own id, and the connections that carried it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Zeek {
    pub fuid: String,
    /// Of the first connection; empty if no row is known.
    pub uid: String,
    /// Of all connections.
    pub uids: Vec<String>,
    /// Who sent it, and who got it: addresses.
    pub sender: String,
    pub receiver: String,
    pub source: String,
    pub mime_type: String,
    pub filename: String,
    /// Of `cutoff`, `missing_bytes`, `timedout`.
    pub reasons: Vec<String>,
}

/// A file that is to be scanned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub task_id: TaskId,
    #[serde(rename = "type", default = "file_scan")]
    pub kind: String,
    /// Name of the root; `upload` is where uploaded bytes are kept.
    pub root: String,
    #[serde(flatten)]
    pub path: RelPath,
    /// Bytes, where somebody has looked.
    #[serde(default)]
    pub size: Option<u64>,
    /// In hex, where the bytes were seen.
    #[serde(default)]
    pub sha256: Option<String>,
    #[serde(default)]
    pub priority: Priority,
    /// Seconds since 1970.
    pub submitted_at: f64,
    #[serde(rename = "source")]
    pub asker: Asker,
    /// Starts so far.
    #[serde(default)]
    pub attempt: u32,
    #[serde(default)]
    pub required_capabilities: Vec<Capability>,
    #[serde(default)]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zeek: Option<Zeek>,
}

fn file_scan() -> String {
    "file_scan".into()
}
