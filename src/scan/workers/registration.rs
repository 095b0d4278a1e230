//! What a worker says of itself when it registers, and with each heartbeat.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeSet, net::Ipv6Addr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::fields::{Fields, Problem, is_id, is_word};
use crate::scan::task::{Capability, TaskId};

/// Tasks at once of a worker that does not say.
const MAX_TASKS: u64 = 5;
/// Tasks at once at most.
const MAX_TASKS_MAX: u64 = 100;
/// Tasks that a heartbeat may name.
const RUNNING_MAX: usize = 1000;

/// A worker's registration, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    pub worker_id: String,
    /// A name or an address, without a port.
    pub host: String,
    pub port: u16,
    /// Tasks at once: 1 to 100.
    pub max_tasks: u32,
    pub capabilities: BTreeSet<Capability>,
    /// Shown, and used for nothing.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// Which life of the worker this is; whoever gives none is never taken for the same.
    #[serde(default)]
    pub instance_id: Option<String>,
}

impl Registration {
    /// Reads one.
    ///
    /// # Errors
    /// Everything that is wrong with it, by field.
    pub fn parse(object: &Map<String, Value>) -> Result<Self, Vec<Problem>> {
        let mut fields = Fields::of(object);
        ["worker_id", "host", "port"].into_iter().for_each(|name| fields.require(name));
        let worker_id = fields.text("worker_id", "3 to 64 of A-Z a-z 0-9 _ -", |text| is_word(text, 3..=64));
        let host = fields.text("host", "a host's name or address of 1 to 253 characters", is_host);
        let port = fields.whole("port", 1024..=65535);
        let max_tasks = fields.whole("max_tasks", 1..=MAX_TASKS_MAX).unwrap_or(MAX_TASKS);
        let capabilities = capabilities(&mut fields);
        let metadata = match fields.value("metadata") {
            None => Some(Map::new()),
            Some(Value::Object(metadata)) => Some(metadata.clone()),
            Some(_) => {
                fields.wrong("metadata", "must be an object");
                None
            }
        };
        let instance_id = fields.text("instance_id", "1 to 128 of A-Z a-z 0-9 _ -", is_id).map(str::to_owned);
        let mut problems = fields.finish();
        problems.extend(metadata.iter().flat_map(of_metadata));
        match (worker_id, host, port.and_then(|port| u16::try_from(port).ok()), capabilities, metadata) {
            (Some(worker_id), Some(host), Some(port), Some(capabilities), Some(metadata)) if problems.is_empty() => Ok(Self {
                worker_id: worker_id.into(),
                host: host.into(),
                port,
                max_tasks: u32::try_from(max_tasks).unwrap_or(1),
                capabilities,
                metadata,
                instance_id,
            }),
            _ => Err(problems),
        }
    }
}

/// At least one, each once. Without any, those of a worker that scans.
fn capabilities(fields: &mut Fields<'_>) -> Option<BTreeSet<Capability>> {
    const NAME: &str = "capabilities";
    const MUST: &str = "must be at least one of file_scan, yara_analysis, network_analysis, log_analysis, each once";
    let Some(list) = fields.list(NAME, 4) else {
        let is_absent = fields.value(NAME).is_none();
        return is_absent.then(|| BTreeSet::from([Capability::FileScan, Capability::YaraAnalysis]));
    };
    let read: Option<BTreeSet<Capability>> = list.iter().map(|each| Capability::deserialize(each).ok()).collect();
    let read = read.filter(|found| !found.is_empty() && found.len() == list.len());
    if read.is_none() {
        fields.wrong(NAME, MUST);
    }
    read
}

/// What is wrong with the metadata of a registration.
fn of_metadata(metadata: &Map<String, Value>) -> Vec<Problem> {
    let mut fields = Fields::within(metadata, "metadata.");
    fields.whole("threads", 1..=32);
    fields.number("start_time", 0.0..=f64::MAX);
    fields.text("version", "three numbers with dots, as 1.2.3", is_version);
    fields.text("platform", "linux, windows, macos or freebsd", |text| matches!(text, "linux" | "windows" | "macos" | "freebsd"));
    fields.whole("memory_limit", 128..=32768);
    fields.finish()
}

/// A name of letters, digits, dots and hyphens, or an address of IPv6.
fn is_host(text: &str) -> bool {
    let is_name = (1..=253).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    is_name || text.parse::<Ipv6Addr>().is_ok()
}

fn is_version(text: &str) -> bool {
    let mut parts = text.split('.');
    let numbers = parts.by_ref().take(3).filter(|part| (1..=9).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit()));
    numbers.count() == 3 && parts.next().is_none()
}

/// A worker's heartbeat, checked. What is absent is as it was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heartbeat {
    pub current_tasks: Option<u64>,
    pub total_processed: Option<u64>,
    pub error_count: Option<u64>,
    /// Seconds.
    pub average_processing_time: Option<f64>,
    /// Percent.
    pub cpu_usage: Option<f64>,
    /// Percent.
    pub memory_usage: Option<f64>,
    /// Leases that go on.
    pub running: Vec<TaskId>,
}

impl Heartbeat {
    /// Reads one.
    ///
    /// # Errors
    /// Everything that is wrong with it, by field.
    pub fn parse(object: &Map<String, Value>) -> Result<Self, Vec<Problem>> {
        let mut fields = Fields::of(object);
        let mut heartbeat = Self {
            current_tasks: fields.whole("current_tasks", 0..=1000),
            total_processed: fields.whole("total_processed", 0..=u64::MAX),
            error_count: fields.whole("error_count", 0..=u64::MAX),
            average_processing_time: fields.number("average_processing_time", 0.0..=f64::MAX),
            cpu_usage: fields.number("cpu_usage", 0.0..=100.0),
            memory_usage: fields.number("memory_usage", 0.0..=100.0),
            running: Vec::new(),
        };
        if let Some(list) = fields.list("running", RUNNING_MAX) {
            let ids: Option<Vec<TaskId>> = list.iter().map(|id| id.as_str().filter(|id| is_id(id)).map(str::to_owned)).collect();
            match ids {
                Some(ids) => heartbeat.running = ids,
                None => fields.wrong("running", "must be ids of tasks"),
            }
        }
        let problems = fields.finish();
        if problems.is_empty() { Ok(heartbeat) } else { Err(problems) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: &Value) -> &Map<String, Value> {
        value.as_object().expect("an object")
    }

    fn registration(change: &Value) -> Result<Registration, Vec<Problem>> {
        let mut whole = json!({"worker_id": "worker-1", "host": "127.0.0.1", "port": 8001});
        for (name, value) in object(change) {
            whole[name] = value.clone();
        }
        Registration::parse(object(&whole))
    }

    #[test]
    fn a_registration_has_bounds() {
        // What is changed, and the field that is then wrong; none where it stands.
        let long = "a".repeat(64);
        let rows = [
            (json!({}), None),
            (json!({"worker_id": "abc"}), None),
            (json!({"worker_id": long}), None),
            (json!({"worker_id": "ab"}), Some("worker_id")),
            (json!({"worker_id": format!("{long}a")}), Some("worker_id")),
            (json!({"worker_id": "../etc"}), Some("worker_id")),
            (json!({"worker_id": "wörk"}), Some("worker_id")),
            (json!({"worker_id": 77}), Some("worker_id")),
            (json!({"worker_id": null}), Some("worker_id")),
            (json!({"host": "w1.example-a.org"}), None),
            (json!({"host": "::1"}), None),
            (json!({"host": "a".repeat(253)}), None),
            (json!({"host": "a".repeat(254)}), Some("host")),
            (json!({"host": ""}), Some("host")),
            (json!({"host": "user@host"}), Some("host")),
            (json!({"host": "host/path"}), Some("host")),
            (json!({"host": "127.0.0.1:80"}), Some("host")),
            (json!({"port": 1024}), None),
            (json!({"port": 65535}), None),
            (json!({"port": 1023}), Some("port")),
            (json!({"port": 65536}), Some("port")),
            (json!({"port": -1}), Some("port")),
            (json!({"port": "8001"}), Some("port")),
            (json!({"port": 8001.5}), Some("port")),
            (json!({"max_tasks": 1}), None),
            (json!({"max_tasks": 100}), None),
            (json!({"max_tasks": 0}), Some("max_tasks")),
            (json!({"max_tasks": 101}), Some("max_tasks")),
            (json!({"max_tasks": -5}), Some("max_tasks")),
            (json!({"capabilities": ["log_analysis"]}), None),
            (json!({"capabilities": ["file_scan", "yara_analysis", "network_analysis", "log_analysis"]}), None),
            (json!({"capabilities": []}), Some("capabilities")),
            (json!({"capabilities": ["file_scan", "file_scan"]}), Some("capabilities")),
            (json!({"capabilities": ["root"]}), Some("capabilities")),
            (json!({"capabilities": "file_scan"}), Some("capabilities")),
            (json!({"metadata": {"threads": 32, "start_time": 1.5, "version": "1.20.3", "platform": "linux", "memory_limit": 128}}), None),
            (json!({"metadata": []}), Some("metadata")),
            (json!({"metadata": {"threads": 0}}), Some("metadata.threads")),
            (json!({"metadata": {"threads": 33}}), Some("metadata.threads")),
            (json!({"metadata": {"start_time": -0.5}}), Some("metadata.start_time")),
            (json!({"metadata": {"version": "1.2"}}), Some("metadata.version")),
            (json!({"metadata": {"version": "1.2.3.4"}}), Some("metadata.version")),
            (json!({"metadata": {"version": "1.2.x"}}), Some("metadata.version")),
            (json!({"metadata": {"platform": "darwin"}}), Some("metadata.platform")),
            (json!({"metadata": {"memory_limit": 127}}), Some("metadata.memory_limit")),
            (json!({"metadata": {"memory_limit": 32769}}), Some("metadata.memory_limit")),
            (json!({"metadata": {"note": "x"}}), Some("metadata.note")),
            (json!({"instance_id": "a-1"}), None),
            (json!({"instance_id": "a b"}), Some("instance_id")),
            (json!({"status": "healthy"}), Some("status")),
        ];
        for (change, wrong) in rows {
            let found = registration(&change).err().map(|problems| problems.into_iter().map(|p| p.path).collect::<Vec<_>>());
            assert_eq!(found, wrong.map(|field| vec![field.to_owned()]), "{change}");
        }
        let stands = registration(&json!({})).unwrap();
        assert_eq!((stands.max_tasks, stands.capabilities.len(), stands.instance_id), (5, 2, None));
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let told = Registration::parse(object(&json!({"port": 1, "max_tasks": "x", "extra\n": 1, "metadata": {"z": 1}}))).unwrap_err();
        let told: Vec<String> = told.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "worker_id: is missing",
                "host: is missing",
                "port: must be a whole number from 1024 to 65535",
                "max_tasks: must be a whole number from 1 to 100",
                "extra\\n: is not known here; known are worker_id, host, port, max_tasks, capabilities, metadata, instance_id",
                "metadata.z: is not known here; known are threads, start_time, version, platform, memory_limit",
            ]
        );
    }

    #[test]
    fn a_heartbeat_has_bounds() {
        let rows = [
            (json!({}), None),
            (json!({"current_tasks": 0, "total_processed": 7, "error_count": 0, "average_processing_time": 0}), None),
            (json!({"current_tasks": 1000, "cpu_usage": 100, "memory_usage": 0.0}), None),
            (json!({"current_tasks": -5}), Some("current_tasks")),
            (json!({"current_tasks": 1001}), Some("current_tasks")),
            (json!({"current_tasks": true}), Some("current_tasks")),
            (json!({"total_processed": -1}), Some("total_processed")),
            (json!({"error_count": 0.5}), Some("error_count")),
            (json!({"average_processing_time": -0.1}), Some("average_processing_time")),
            (json!({"average_processing_time": "1"}), Some("average_processing_time")),
            (json!({"cpu_usage": 100.1}), Some("cpu_usage")),
            (json!({"memory_usage": -1}), Some("memory_usage")),
            (json!({"running": ["a-b_c"]}), None),
            (json!({"running": ["a/b"]}), Some("running")),
            (json!({"running": vec!["a"; 1001]}), Some("running")),
            (json!({"worker_id": "w-1"}), Some("worker_id")),
        ];
        for (heartbeat, wrong) in rows {
            let found = Heartbeat::parse(object(&heartbeat)).err().map(|problems| problems.into_iter().map(|p| p.path).collect::<Vec<_>>());
            assert_eq!(found, wrong.map(|field| vec![field.to_owned()]), "{heartbeat}");
        }
    }
}
