//! The message of every broker: `{"priority":n,"timestamp":seconds,"task":{…}}`, as other scanners write it.
//!
//! Ours has one member more, `owner`: the node that wants the outcome. Members that nobody knows are passed over.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{
    limits,
    scan::{
        task::{Asker, Capability, Priority, RelPath, Task, Zeek},
        workers::fields::is_id,
    },
};

/// Levels of nesting in a task's metadata.
const METADATA_DEPTH: usize = 4;
/// Bytes of a path.
const PATH_BYTES: usize = 4096;

/// Finds the root and the path below it; `None` where the path is not below a root.
pub type Resolve<'r> = &'r dyn Fn(Option<&str>, &[u8]) -> Option<(String, RelPath)>;

/// A message that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    pub task: Task,
    /// The node that wants the outcome.
    pub owner: Option<String>,
    /// Whether the path is below a root of this node. Only a message with an owner comes without: it is told.
    pub is_here: bool,
}

/// Why a message goes to the dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Bad {
    #[error("longer than {} bytes", limits::SCAN_ENVELOPE_BYTES_MAX)]
    TooLong,
    #[error("no JSON object")]
    NotJson,
    #[error("no object `task`")]
    NoTask,
    #[error("type is not file_scan")]
    Type,
    #[error("task_id is not 1 to 128 of A-Z a-z 0-9 _ -")]
    Id,
    #[error("priority is not a whole number from 1 to 10")]
    Priority,
    #[error("file_path is not a path of 1 to 4096 bytes without NUL")]
    Path,
    #[error("file_path is not below a root of this node")]
    NotAllowed,
    #[error("required_capabilities are not a list of those that there are")]
    Capabilities,
    #[error("metadata is no object of at most {} bytes and {METADATA_DEPTH} levels", limits::SCAN_METADATA_BYTES_MAX)]
    Metadata,
    #[error("sha256, size, zeek or owner is not of its form")]
    Form,
}

impl Bad {
    /// A word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::NotJson => "not_json",
            Self::NoTask => "no_task",
            Self::Type => "type",
            Self::Id => "task_id",
            Self::Priority => "priority",
            Self::Path => "file_path",
            Self::NotAllowed => "not_allowed",
            Self::Capabilities => "required_capabilities",
            Self::Metadata => "metadata",
            Self::Form => "form",
        }
    }
}

/// Reads a message.
///
/// - `now`: seconds since 1970, for a message that does not say when it was sent.
///
/// # Errors
/// What is wrong with it.
pub fn read(bytes: &[u8], resolve: Resolve<'_>, now: f64) -> Result<Envelope, Bad> {
    if bytes.len() > limits::SCAN_ENVELOPE_BYTES_MAX {
        return Err(Bad::TooLong);
    }
    let Ok(Value::Object(envelope)) = serde_json::from_slice(bytes) else { return Err(Bad::NotJson) };
    let Some(Value::Object(task)) = envelope.get("task") else { return Err(Bad::NoTask) };
    if given(task, "type").is_some_and(|kind| kind != "file_scan") {
        return Err(Bad::Type);
    }
    let task_id = match given(task, "task_id") {
        None => id_of(bytes),
        Some(id) => id.as_str().filter(|id| is_id(id)).ok_or(Bad::Id)?.to_owned(),
    };
    let priority = match given(task, "priority").or_else(|| given(&envelope, "priority")) {
        None => Priority::NORMAL,
        Some(priority) => priority.as_i64().and_then(Priority::new).ok_or(Bad::Priority)?,
    };
    let named = RelPath::deserialize(Value::Object(path_of(task))).map_err(|_| Bad::Path)?;
    if named.0.is_empty() || named.0.len() > PATH_BYTES || named.0.contains(&0) {
        return Err(Bad::Path);
    }
    let root = match given(task, "root") {
        None => None,
        Some(root) => Some(root.as_str().ok_or(Bad::NotAllowed)?),
    };
    let owner = optional(&envelope, "owner", |value| value.as_str().filter(|name| is_id(name)).map(str::to_owned))?;
    let found = resolve(root, &named.0);
    let is_here = found.is_some();
    let (root, path) = match found {
        Some(found) => found,
        None if owner.is_some() => (root.unwrap_or_default().to_owned(), named),
        None => return Err(Bad::NotAllowed),
    };
    let required_capabilities = match given(task, "required_capabilities") {
        None => Vec::new(),
        Some(asked) => Vec::<Capability>::deserialize(asked).ok().filter(|asked| asked.len() <= 4).ok_or(Bad::Capabilities)?,
    };
    let metadata = match given(task, "metadata") {
        None => Map::new(),
        Some(Value::Object(metadata)) if is_small(metadata) => metadata.clone(),
        Some(_) => return Err(Bad::Metadata),
    };
    let size = optional(task, "size", Value::as_u64)?;
    let sha256 = optional(task, "sha256", |value| value.as_str().filter(|text| is_sha256(text)).map(str::to_ascii_lowercase))?;
    let zeek = optional(task, "zeek", |value| Zeek::deserialize(value).ok())?;
    let time = |from: &Map<String, Value>, name| from.get(name).and_then(Value::as_f64).filter(|time| *time >= 0.0 && time.is_finite());
    let submitted_at = time(task, "submitted_at").or_else(|| time(&envelope, "timestamp")).unwrap_or(now);
    let task = Task {
        task_id,
        kind: "file_scan".into(),
        root,
        path,
        size,
        sha256,
        priority,
        submitted_at,
        asker: Asker::Queue,
        attempt: 0,
        required_capabilities,
        metadata,
        zeek,
    };
    Ok(Envelope { task, owner, is_here })
}

/// Writes a message.
///
/// - `now`: seconds since 1970.
pub fn write(task: &Task, owner: &str, now: f64) -> Vec<u8> {
    json!({ "priority": i64::from(task.priority), "timestamp": now, "task": task, "owner": owner }).to_string().into_bytes()
}

/// A member that is there and not null.
fn given<'o>(object: &'o Map<String, Value>, name: &str) -> Option<&'o Value> {
    object.get(name).filter(|value| !value.is_null())
}

/// A member that may be absent, and must be of its form.
fn optional<T>(object: &Map<String, Value>, name: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>, Bad> {
    given(object, name).map(|value| read(value).ok_or(Bad::Form)).transpose()
}

/// The two members that name a file.
fn path_of(task: &Map<String, Value>) -> Map<String, Value> {
    ["file_path", "path_b64"].into_iter().filter_map(|name| Some((name.to_owned(), task.get(name)?.clone()))).collect()
}

fn is_small(metadata: &Map<String, Value>) -> bool {
    fn depth(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }
    let deepest = metadata.values().map(depth).max().unwrap_or(0);
    deepest < METADATA_DEPTH && serde_json::to_string(metadata).is_ok_and(|text| text.len() <= limits::SCAN_METADATA_BYTES_MAX)
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The id of a message that gives none: the same for the same bytes, so that a repeated one is one task.
fn id_of(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("q-{hex}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One root, `zeek`, at `/x`.
    fn resolve(root: Option<&str>, path: &[u8]) -> Option<(String, RelPath)> {
        let below = path.strip_prefix(b"/x/").or_else(|| (!path.starts_with(b"/")).then_some(path))?;
        let is_allowed = root.is_none_or(|root| root == "zeek") && !below.split(|byte| *byte == b'/').any(|part| part == b"..");
        is_allowed.then(|| ("zeek".into(), RelPath(below.to_vec())))
    }

    fn read_one(value: &Value) -> Result<Envelope, Bad> {
        read(value.to_string().as_bytes(), &resolve, 7.0)
    }

    #[test]
    fn the_message_of_other_scanners_is_understood() {
        let upstream = json!({"priority": 8, "timestamp": 1_767_322_800.25, "task": {
            "task_id": "4e5b5a1e-5c4f-4f43-9d3c-2a0f8f2d9c11", "type": "file_scan", "file_path": "/x/extract-1-HTTP-Fabc",
            "priority": 8, "submitted_at": 1_767_322_800.1, "metadata": {"from": "api"}}});
        let Envelope { task, owner, is_here } = read_one(&upstream).unwrap();
        assert!(is_here);
        assert_eq!(
            (task.task_id.as_str(), task.root.as_str(), task.path.lossy().as_ref()),
            ("4e5b5a1e-5c4f-4f43-9d3c-2a0f8f2d9c11", "zeek", "extract-1-HTTP-Fabc")
        );
        assert_eq!((task.priority, task.asker, owner), (Priority::HIGH, Asker::Queue, None));
        assert!((task.submitted_at - 1_767_322_800.1).abs() < 1e-6);
        let least = read_one(&json!({"task": {"file_path": "a"}})).unwrap().task;
        assert_eq!((least.priority, least.submitted_at), (Priority::NORMAL, 7.0));
        assert_eq!(least.task_id, read_one(&json!({"task": {"file_path": "a"}})).unwrap().task.task_id, "the same bytes are the same task");
        assert!(is_id(&least.task_id) && least.task_id != read_one(&json!({"task": {"file_path": "b"}})).unwrap().task.task_id);
        assert_eq!(read_one(&json!({"priority": 3, "task": {"file_path": "a"}})).unwrap().task.priority.get(), 3);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let rows = [
            (json!([]), Bad::NotJson),
            (json!({}), Bad::NoTask),
            (json!({"task": "x"}), Bad::NoTask),
            (json!({"task": {}}), Bad::Path),
            (json!({"task": {"file_path": ""}}), Bad::Path),
            (json!({"task": {"file_path": 3}}), Bad::Path),
            (json!({"task": {"file_path": "a\0b"}}), Bad::Path),
            (json!({"task": {"file_path": "a".repeat(4097)}}), Bad::Path),
            (json!({"task": {"file_path": "../etc/passwd"}}), Bad::NotAllowed),
            (json!({"task": {"file_path": "/etc/passwd"}}), Bad::NotAllowed),
            (json!({"task": {"file_path": "a", "root": "etc"}}), Bad::NotAllowed),
            (json!({"task": {"file_path": "a", "root": 1}}), Bad::NotAllowed),
            (json!({"task": {"file_path": "a", "type": "shell"}}), Bad::Type),
            (json!({"task": {"file_path": "a", "task_id": "a/b"}}), Bad::Id),
            (json!({"task": {"file_path": "a", "task_id": ""}}), Bad::Id),
            (json!({"task": {"file_path": "a", "priority": 0}}), Bad::Priority),
            (json!({"task": {"file_path": "a", "priority": 99}}), Bad::Priority),
            (json!({"task": {"file_path": "a", "priority": -3}}), Bad::Priority),
            (json!({"task": {"file_path": "a", "priority": 5.5}}), Bad::Priority),
            (json!({"task": {"file_path": "a", "priority": "high"}}), Bad::Priority),
            (json!({"priority": 11, "task": {"file_path": "a"}}), Bad::Priority),
            (json!({"task": {"file_path": "a", "required_capabilities": ["root"]}}), Bad::Capabilities),
            (json!({"task": {"file_path": "a", "metadata": []}}), Bad::Metadata),
            (json!({"task": {"file_path": "a", "metadata": {"m": "x".repeat(5000)}}}), Bad::Metadata),
            (json!({"task": {"file_path": "a", "metadata": {"a": {"b": {"c": {"d": {}}}}}}}), Bad::Metadata),
            (json!({"task": {"file_path": "a", "sha256": "abc"}}), Bad::Form),
            (json!({"task": {"file_path": "a", "size": -1}}), Bad::Form),
            (json!({"task": {"file_path": "a", "zeek": 4}}), Bad::Form),
            (json!({"owner": "../q", "task": {"file_path": "a"}}), Bad::Form),
            (json!({"x": "x".repeat(70_000), "task": {"file_path": "a"}}), Bad::TooLong),
        ];
        for (message, want) in rows {
            let shown: String = message.to_string().chars().take(80).collect();
            assert_eq!(read_one(&message).err(), Some(want), "{shown}");
        }
        let elsewhere = read_one(&json!({"owner": "n1", "task": {"task_id": "t", "file_path": "a", "root": "etc"}})).unwrap();
        assert_eq!((elsewhere.is_here, elsewhere.task.task_id.as_str(), elsewhere.owner.as_deref()), (false, "t", Some("n1")));
        assert_eq!(read(b"\xff\xfe", &resolve, 0.0).err(), Some(Bad::NotJson));
        assert_eq!(read(b"{\"task\":", &resolve, 0.0).err(), Some(Bad::NotJson));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            id in "[A-Za-z0-9_-]{1,40}",
            path in prop::collection::vec(1u8..=255, 1..20),
            priority in 1i64..=10,
            owner in "[a-z0-9-]{1,20}",
            size in prop::option::of(0u64..1 << 53),
        ) {
            prop_assume!(resolve(None, &path).is_some_and(|(_, found)| found.0 == path));
            let task = Task {
                task_id: id, kind: "file_scan".into(), root: "zeek".into(), path: RelPath(path), size, sha256: None,
                priority: Priority::new(priority).unwrap(), submitted_at: 1.5, asker: Asker::Queue, attempt: 0,
                required_capabilities: vec![Capability::FileScan], metadata: Map::new(), zeek: Some(Zeek { fuid: "F1".into(), ..Zeek::default() }),
            };
            let found = read(&write(&task, &owner, 2.0), &resolve, 9.0).unwrap();
            prop_assert_eq!(found, Envelope { task, owner: Some(owner), is_here: true });
        }

        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, &resolve, 0.0);
        }
    }
}
