//! Alerts of matched rules: one for each rule and sighting, in the shape that other tools read, and the line for Wazuh.
//!
//! What a file or a rule says is text in them: it chooses neither where they go nor a line of its own.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::outcome::{Match, Outcome};
use crate::{clock::Nanos, json};

/// A rule that matched in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Given by the task store.
    #[serde(default)]
    pub id: u64,
    /// RFC 3339, UTC, of the scan's end.
    pub timestamp: String,
    pub root: String,
    /// Below the root; lossy.
    pub file_path: String,
    /// With all bytes, where the path is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_b64: Option<String>,
    pub file_name: String,
    pub file_size: u64,
    /// By content.
    pub file_type: String,
    pub md5: String,
    pub sha256: String,
    /// Of the connection that carried the file; empty if none is known.
    pub zeek_uid: String,
    /// Zeek's name for the file.
    pub fuid: String,
    pub rule_name: String,
    pub rule_namespace: String,
    /// Pairs in the rule's order: keys repeat. The author is among them, as licences of rules ask.
    pub rule_meta: Vec<(String, Value)>,
    pub rule_tags: Vec<String>,
    /// Names of patterns.
    pub strings_matched: Vec<String>,
    /// 0 to 10.
    pub severity: u8,
    /// The first member of the archive in which it matched, if it did not in the file itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Member>,
    pub task_id: String,
    /// Something of the file was not seen by every rule.
    pub partial: bool,
    /// The same bytes were scanned before.
    pub cached: bool,
    pub rules_version: String,
    pub worker_id: String,
}

/// Where in an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub name: String,
    pub depth: u32,
    pub sha256: String,
}

/// One alert for each rule that matched in the file or in a member of it; sorted by namespace and rule.
///
/// - `when`: nanoseconds since 1970.
pub fn alerts(outcome: &Outcome, when: Nanos) -> Vec<Alert> {
    let own = outcome.matches.iter().map(|found| (found, None));
    let members = outcome.children.iter().flat_map(|child| {
        let member = Member { name: child.name.clone(), depth: child.depth, sha256: child.sha256.clone() };
        child.matches.iter().map(move |found| (found, Some(member.clone())))
    });
    let mut all: Vec<(&Match, Option<Member>)> = own.chain(members).collect();
    // Stable: the file itself stays before its members.
    all.sort_by(|(a, _), (b, _)| (&a.namespace, &a.rule).cmp(&(&b.namespace, &b.rule)));
    all.dedup_by(|(a, _), (b, _)| (&a.namespace, &a.rule) == (&b.namespace, &b.rule));
    let mut timestamp = Vec::new();
    json::time(&mut timestamp, i64::try_from(when / 1_000_000).unwrap_or(i64::MAX));
    let timestamp = String::from_utf8_lossy(&timestamp).into_owned();
    let is_text = std::str::from_utf8(&outcome.path.0).is_ok();
    all.into_iter()
        .map(|(found, member)| Alert {
            id: 0,
            timestamp: timestamp.clone(),
            root: outcome.root.clone(),
            file_path: outcome.path.lossy().into_owned(),
            path_b64: (!is_text).then(|| crate::net::base64::encode(&outcome.path.0)),
            file_name: String::from_utf8_lossy(outcome.path.name()).into_owned(),
            file_size: outcome.size,
            file_type: outcome.mime.clone(),
            md5: outcome.md5.clone(),
            sha256: outcome.sha256.clone(),
            zeek_uid: outcome.zeek.as_ref().map(|zeek| zeek.uid.clone()).unwrap_or_default(),
            fuid: outcome.zeek.as_ref().map(|zeek| zeek.fuid.clone()).unwrap_or_default(),
            rule_name: found.rule.clone(),
            rule_namespace: found.namespace.clone(),
            rule_meta: found.meta.clone(),
            rule_tags: found.tags.clone(),
            strings_matched: found.patterns.iter().map(|pattern| pattern.id.clone()).collect(),
            severity: found.severity,
            member,
            task_id: outcome.task_id.clone(),
            partial: outcome.partial,
            cached: outcome.cached,
            rules_version: outcome.rules_version.clone(),
            worker_id: outcome.worker_id.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(namespace: &str, rule: &str) -> Value {
        json!({"rule": rule, "namespace": namespace, "tags": ["t"], "meta": [["severity", 3], ["author", "A"], ["author", "B"]], "severity": 3,
            "author": "A", "patterns": [{"id": "$a", "count": 1, "at": []}]})
    }

    fn outcome() -> Outcome {
        serde_json::from_value(
            json!({"task_id": "t1", "root": "zeek", "file_path": "a b/extract-1", "sha256": "ff", "md5": "ee", "size": 68,
            "mime": "application/zip", "verdict": "matched", "partial": true, "reasons": ["encrypted"], "matches": [found("b", "r")],
            "children": [{"name": "x", "depth": 1, "verdict": "matched", "sha256": "01", "matches": [found("a", "r"), found("b", "r")]},
                {"name": "y", "depth": 2, "verdict": "matched", "sha256": "02", "matches": [found("a", "r")]}],
            "zeek": {"fuid": "F1", "uid": "C1"}}),
        )
        .unwrap()
    }

    #[test]
    fn each_rule_is_one_alert_at_its_first_place() {
        let alerts = alerts(&outcome(), 1_767_322_800_123_000_000);
        let rows: Vec<_> =
            alerts.iter().map(|alert| (alert.rule_namespace.as_str(), alert.member.as_ref().map(|member| member.name.as_str()))).collect();
        assert_eq!(rows, [("a", Some("x")), ("b", None)]);
        let alert = serde_json::to_value(&alerts[1]).unwrap();
        assert_eq!(
            alert,
            json!({"id": 0, "timestamp": "2026-01-02T03:00:00.123Z", "root": "zeek", "file_path": "a b/extract-1", "file_name": "extract-1",
                "file_size": 68, "file_type": "application/zip", "md5": "ee", "sha256": "ff", "zeek_uid": "C1", "fuid": "F1", "rule_name": "r",
                "rule_namespace": "b", "rule_meta": [["severity", 3], ["author", "A"], ["author", "B"]], "rule_tags": ["t"],
                "strings_matched": ["$a"], "severity": 3, "task_id": "t1", "partial": true, "cached": false, "rules_version": "", "worker_id": ""})
        );
    }
}
