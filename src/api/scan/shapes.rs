//! Schemas that several routes share.

use super::schema::{Field, Form, Schema, may, must, or};

pub(super) const TEXT: Schema = Schema::Text(Form::Free(usize::MAX));
pub(super) const COUNT: Schema = Schema::Whole { min: 0, max: i64::MAX };
pub(super) const NUMBER: Schema = Schema::Number { min: f64::MIN, max: f64::MAX };
pub(super) const POSITIVE: Schema = Schema::Number { min: 0.0, max: f64::MAX };
pub(super) const FREE: Schema = Schema::Free { bytes: usize::MAX, depth: usize::MAX };
pub(super) const ID: Schema = Schema::Text(Form::Id);
pub(super) const CAPABILITY: Schema = Schema::Choice(&["file_scan", "yara_analysis", "network_analysis", "log_analysis"]);
pub(super) const CAPABILITIES: Schema = Schema::List { of: &CAPABILITY, min: 1, max: 4, is_set: true };
pub(super) const PRIORITY: Schema = Schema::Whole { min: 1, max: 10 };
pub(super) const METADATA: Schema = Schema::Free { bytes: 4096, depth: 4 };
pub(super) const FILE_PATH: Schema = Schema::Text(Form::Path(4096));
pub(super) const ROOT: Schema = Schema::Text(Form::Path(64));
pub(super) const WINDOW: Schema = Schema::Whole { min: 1, max: 86_400 };

/// A list in an answer.
pub(super) const fn list(of: &'static Schema) -> Schema {
    Schema::List { of, min: 0, max: usize::MAX, is_set: false }
}

const PROBLEM: Schema = Schema::Open(&[must("path", TEXT, ""), must("problem", TEXT, "")]);
const FAULT: Schema = Schema::Open(&[
    must("code", TEXT, "for programs"),
    must("message", TEXT, "for people"),
    must("fields", list(&PROBLEM), "what is wrong with which"),
]);
pub(super) const REFUSAL: Schema = Schema::Open(&[must("detail", TEXT, "for people"), must("error", FAULT, "")]);

pub(super) const DONE: Schema = Schema::Open(&[must("success", Schema::Bool, "always true"), may("message", TEXT, "")]);

pub(super) const ALERT: Schema = Schema::Open(&[
    must("id", COUNT, ""),
    must("timestamp", TEXT, "RFC 3339, UTC"),
    must("file_path", TEXT, ""),
    must("file_name", TEXT, ""),
    must("rule_name", TEXT, ""),
    must("rule_namespace", TEXT, ""),
    must("severity", Schema::Whole { min: 0, max: 10 }, ""),
    must("sha256", TEXT, ""),
    must("task_id", TEXT, ""),
    may("zeek_uid", TEXT, "of the connection"),
    may("fuid", TEXT, "of the file"),
    may("partial", Schema::Bool, ""),
    may("cached", Schema::Bool, ""),
]);

pub(super) const TASK: Schema = Schema::Open(&[
    must("task_id", TEXT, ""),
    must("root", TEXT, ""),
    must("file_path", TEXT, "below the root"),
    must("priority", PRIORITY, ""),
    must("submitted_at", NUMBER, "seconds since 1970"),
    must("source", TEXT, "who asked: watch, api, upload, queue"),
    must("attempt", COUNT, "starts so far"),
]);

pub(super) const STANDING: Schema = Schema::Open(&[
    must("task", TASK, ""),
    must("state", Schema::Choice(&["queued", "leased", "done", "dead", "cancelled"]), ""),
    must("worker_id", Schema::Nullable(&TEXT), "who has it"),
    must("until", Schema::Nullable(&NUMBER), "of the lease, or before which it is not tried again; seconds since 1970"),
    must("ended_at", Schema::Nullable(&NUMBER), ""),
    must("result", Schema::Nullable(&RESULT), ""),
    must("dead", Schema::Nullable(&FREE), "reason, attempts, last_error, workers"),
]);

pub(super) const VERDICT: Schema = Schema::Choice(&["clean", "matched", "skipped", "error"]);

pub(super) const RESULT: Schema = Schema::Open(&[
    must("task_id", TEXT, ""),
    must("root", TEXT, ""),
    must("file_path", TEXT, ""),
    must("sha256", TEXT, ""),
    must("verdict", VERDICT, "clean with partial false: every rule saw every byte"),
    must("partial", Schema::Bool, ""),
    must("reasons", list(&TEXT), ""),
    must("matches", list(&FREE), ""),
    must("children", list(&FREE), "members of an archive"),
]);

/// A task as a master brings it.
pub(super) const TASK_BROUGHT: Schema = Schema::Object(&[
    must("task_id", ID, ""),
    or("type", Schema::Choice(&["file_scan"]), "\"file_scan\"", ""),
    must("root", ROOT, "its name, here or at the master"),
    must("file_path", FILE_PATH, "below the root"),
    may("path_b64", Schema::Nullable(&Schema::Text(Form::Free(8192))), "the bytes of the path, where they are no UTF-8"),
    may("size", Schema::Nullable(&COUNT), "bytes"),
    may("sha256", Schema::Nullable(&Schema::Text(Form::Sha256)), ""),
    or("priority", PRIORITY, "5", ""),
    must("submitted_at", POSITIVE, "seconds since 1970"),
    must("source", Schema::Choice(&["watch", "api", "upload", "queue"]), "who asked"),
    or("attempt", Schema::Whole { min: 0, max: 1_000_000 }, "0", "starts so far"),
    or("required_capabilities", Schema::List { of: &CAPABILITY, min: 0, max: 4, is_set: true }, "[]", ""),
    or("metadata", METADATA, "{}", ""),
    may("zeek", Schema::Nullable(&ZEEK), ""),
    may("deadline", POSITIVE, "of its lease, seconds since 1970"),
    may("alone", Schema::Bool, "nothing else in its process"),
]);

/// What is known of a file by Zeek's log.
const ZEEK: Schema = Schema::Object(&[
    may("fuid", Schema::Text(Form::Free(256)), ""),
    may("uid", Schema::Text(Form::Free(256)), ""),
    may("uids", Schema::List { of: &TEXT, min: 0, max: 1000, is_set: false }, ""),
    may("sender", Schema::Text(Form::Free(64)), ""),
    may("receiver", Schema::Text(Form::Free(64)), ""),
    may("source", Schema::Text(Form::Free(256)), ""),
    may("mime_type", Schema::Text(Form::Free(256)), ""),
    may("filename", Schema::Text(Form::Free(4096)), ""),
    may("reasons", Schema::List { of: &TEXT, min: 0, max: 16, is_set: false }, ""),
]);

/// A result as a worker brings it.
pub(super) const BROUGHT: Schema = Schema::Object(&[
    must("task_id", ID, "as in the path"),
    must("root", ROOT, "as in the task"),
    must("file_path", FILE_PATH, "as in the task"),
    may("path_b64", Schema::Nullable(&Schema::Text(Form::Free(8192))), "as in the task"),
    or("sha256", Schema::Text(Form::Free(64)), "\"\"", "of the bytes that were scanned"),
    or("sha1", Schema::Text(Form::Free(40)), "\"\"", ""),
    or("md5", Schema::Text(Form::Free(32)), "\"\"", ""),
    may("tlsh", Schema::Nullable(&Schema::Text(Form::Free(128))), ""),
    or("size", COUNT, "0", "bytes"),
    or("mime", Schema::Text(Form::Free(256)), "\"\"", ""),
    must("verdict", VERDICT, ""),
    or("partial", Schema::Bool, "false", ""),
    or("reasons", Schema::List { of: &REASON, min: 0, max: 32, is_set: true }, "[]", ""),
    or("rules_version", Schema::Text(Form::Free(128)), "\"\"", ""),
    or("engine", Schema::Text(Form::Free(128)), "\"\"", ""),
    or("cached", Schema::Bool, "false", ""),
    or("worker_id", Schema::Text(Form::Free(64)), "\"\"", "whose lease it is; that of the key where it is bound to one"),
    or("started_at", POSITIVE, "0", "seconds since 1970"),
    or("scan_ms", COUNT, "0", ""),
    or("attempt", Schema::Whole { min: 0, max: 1_000_000 }, "0", ""),
    or("matches", Schema::List { of: &MATCH, min: 0, max: 10_000, is_set: false }, "[]", ""),
    or("children", Schema::List { of: &CHILD, min: 0, max: 10_000, is_set: false }, "[]", ""),
    may("zeek", Schema::Nullable(&ZEEK), ""),
    may("correlated", Schema::List { of: &FREE, min: 0, max: 1000, is_set: false }, ""),
]);

const REASON: Schema = Schema::Choice(&[
    "excluded_mime",
    "excluded_extension",
    "not_found",
    "too_large",
    "not_a_file",
    "not_allowed",
    "timeout",
    "io",
    "changed",
    "match_limit",
    "limit_depth",
    "limit_children",
    "limit_bytes",
    "limit_ratio",
    "encrypted",
    "corrupt",
    "refused",
    "cutoff",
    "missing_bytes",
    "timedout",
]);

const AT: Schema = Schema::Object(&[
    must("offset", COUNT, ""),
    must("length", COUNT, ""),
    must("data", Schema::Text(Form::Free(4096)), "in hex"),
    may("xor", Schema::Nullable(&Schema::Whole { min: 0, max: 255 }), ""),
]);
const PATTERN: Schema = Schema::Object(&[
    must("id", Schema::Text(Form::Free(256)), ""),
    must("count", COUNT, ""),
    must("at", Schema::List { of: &AT, min: 0, max: 1000, is_set: false }, ""),
]);
const META: Schema = Schema::List { of: &Schema::Any, min: 2, max: 2, is_set: false };
const MATCH: Schema = Schema::Object(&[
    must("rule", Schema::Text(Form::Free(256)), ""),
    must("namespace", Schema::Text(Form::Free(1024)), ""),
    must("tags", Schema::List { of: &TEXT, min: 0, max: 1000, is_set: false }, ""),
    must("meta", Schema::List { of: &META, min: 0, max: 1000, is_set: false }, "pairs of a name and a value"),
    must("severity", Schema::Whole { min: 0, max: 10 }, ""),
    may("author", Schema::Nullable(&TEXT), ""),
    must("patterns", Schema::List { of: &PATTERN, min: 0, max: 1000, is_set: false }, ""),
]);
const CHILD: Schema = Schema::Object(&[
    must("name", TEXT, ""),
    must("depth", Schema::Whole { min: 0, max: 64 }, ""),
    or("size", COUNT, "0", ""),
    or("sha256", Schema::Text(Form::Free(64)), "\"\"", ""),
    or("mime", Schema::Text(Form::Free(256)), "\"\"", ""),
    must("verdict", VERDICT, ""),
    or("reasons", Schema::List { of: &REASON, min: 0, max: 32, is_set: true }, "[]", ""),
    or("matches", Schema::List { of: &MATCH, min: 0, max: 10_000, is_set: false }, "[]", ""),
]);

pub(super) const WORKER: Schema = Schema::Open(&[
    must("worker_id", TEXT, ""),
    must("host", TEXT, ""),
    must("port", COUNT, ""),
    must("capabilities", list(&CAPABILITY), ""),
    must("status", TEXT, "healthy, unhealthy, offline"),
    must("last_heartbeat", NUMBER, "seconds since 1970"),
    must("current_tasks", COUNT, "as it says"),
    must("in_flight", COUNT, "as its leases say"),
    must("max_tasks", COUNT, ""),
    must("total_processed", COUNT, ""),
    must("error_count", COUNT, ""),
    must("average_processing_time", NUMBER, "seconds"),
    must("cpu_usage", Schema::Nullable(&NUMBER), "percent, as it says"),
    must("memory_usage", Schema::Nullable(&NUMBER), "percent, as it says"),
    must("load_factor", NUMBER, "0 to 1"),
    must("uptime", NUMBER, "seconds since it registered"),
    must("metadata", FREE, ""),
]);

pub(super) const REGISTRATION: Schema = Schema::Object(&[
    must("worker_id", Schema::Text(Form::WorkerId), ""),
    must("host", Schema::Text(Form::Host), "where it may be called; must be in scan.workers.hosts"),
    must("port", Schema::Whole { min: 1024, max: 65_535 }, ""),
    or("max_tasks", Schema::Whole { min: 1, max: 100 }, "5", "tasks at once"),
    may("capabilities", CAPABILITIES, "what it can do"),
    may("metadata", WORKER_METADATA, ""),
    may("instance_id", ID, "which life of the worker this is"),
]);
const WORKER_METADATA: Schema = Schema::Object(&[
    may("threads", Schema::Whole { min: 1, max: 32 }, ""),
    may("start_time", POSITIVE, ""),
    may("version", Schema::Text(Form::Version), ""),
    may("platform", Schema::Choice(&["linux", "windows", "macos", "freebsd"]), ""),
    may("memory_limit", Schema::Whole { min: 128, max: 32_768 }, "MiB"),
]);

pub(super) const HEARTBEAT: Schema = Schema::Object(&[
    may("current_tasks", Schema::Whole { min: 0, max: 1000 }, ""),
    may("total_processed", COUNT, ""),
    may("error_count", COUNT, ""),
    may("average_processing_time", POSITIVE, "seconds"),
    may("memory_usage", Schema::Number { min: 0.0, max: 100.0 }, "percent"),
    may("cpu_usage", Schema::Number { min: 0.0, max: 100.0 }, "percent"),
    may("running", Schema::List { of: &ID, min: 0, max: 1000, is_set: false }, "tasks whose leases go on"),
]);

pub(super) const RULE: Schema = Schema::Object(RULE_FIELDS);
const RULE_FIELDS: &[Field] = &[
    must("metric", Schema::Text(Form::Metric), "by its flat name, as queue.size"),
    must("condition", Schema::Choice(&[">", "<", "==", ">=", "<="]), ""),
    must("threshold", NUMBER, ""),
    must("level", Schema::Choice(&["info", "warning", "error", "critical"]), ""),
    must("message", Schema::Text(Form::Template), "{value} is replaced"),
    or("for_s", Schema::Whole { min: 0, max: 86_400 }, "0", "seconds for which it must be so"),
    or("clear_s", Schema::Whole { min: 0, max: 86_400 }, "120", "seconds of the contrary after which it is over"),
];
