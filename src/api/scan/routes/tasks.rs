//! Tasks: submitted, looked at, cancelled, and worked on by workers elsewhere.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    super::{
        Shared,
        call::{self, Call},
        schema::{Form, Schema, may, must, or},
        shapes::{BROUGHT, CAPABILITIES, COUNT, FILE_PATH, ID, METADATA, PRIORITY, ROOT, STANDING, TEXT, list},
        table::{Brings, Holds, May, Outcome, Route, Verb, ok},
    },
    files,
};
use crate::{
    api::{
        access::{Role, keys::hex},
        refusal::Refusal,
    },
    limits,
    scan::{
        monitor::Finished as Measured,
        outcome,
        roots::UPLOAD,
        task::{Asker, Identity, Priority, RelPath},
        tasks::{Cancelled, Finished, Standing, State, Submission, Submitted, TaskFilter},
    },
};

const SHA256: HeaderName = HeaderName::from_static("x-content-sha256");
/// A member of `metadata` that is ours: the name of the key.
const SUBMITTED_BY: &str = "submitted_by";

pub(super) static ROUTES: &[Route] = &[
    Route {
        verb: Verb::Post,
        path: "/distributed/scan",
        may: May::Has(Role::Submitter),
        doc: "Has a file scanned; the answer comes once the task is stored.",
        query: &[],
        brings: Brings::Json(Schema::Object(&[
            must("file_path", FILE_PATH, "below the root, or absolute and below a root"),
            may("root", ROOT, "its name; the first one where none is given"),
            or("priority", PRIORITY, "5", "higher is sooner"),
            or("metadata", METADATA, "{}", "kept with the task; 4 KiB, depth 4"),
            may("required_capabilities", CAPABILITIES, "what its worker must be able to do"),
        ])),
        answers: &[(
            200,
            Holds::Json(Schema::Open(&[must("success", Schema::Bool, ""), must("task_id", ID, ""), must("message", TEXT, "")])),
            "",
        )],
        refusals: &[(404, "no such file"), (422, "the body is wrong, or it is no regular file")],
        run: |shared, call| Box::pin(submit(shared, call)),
    },
    Route {
        verb: Verb::Post,
        path: "/distributed/scan/upload",
        may: May::Has(Role::Submitter),
        doc: "Has these bytes scanned.",
        query: &[
            or("filename", Schema::Text(Form::Path(255)), "\"upload\"", "what rules see as the name; text only"),
            or("priority", PRIORITY, "5", "higher is sooner"),
        ],
        brings: Brings::Bytes,
        answers: &[(
            200,
            Holds::Json(Schema::Open(&[
                must("success", Schema::Bool, ""),
                must("task_id", ID, ""),
                must("sha256", TEXT, ""),
                must("size", COUNT, "bytes"),
                must("duplicate", Schema::Bool, "the same bytes were here already"),
            ])),
            "",
        )],
        refusals: &[],
        run: |shared, call| Box::pin(upload(shared, call)),
    },
    Route {
        verb: Verb::Get,
        path: "/distributed/tasks",
        may: May::Has(Role::Viewer),
        doc: "Tasks, in the order of their ids.",
        query: &[
            may("state", Schema::Choice(&["queued", "leased", "done", "dead", "cancelled"]), ""),
            or("limit", Schema::Whole { min: 1, max: 1000 }, "100", ""),
            may("after", ID, "the last id of the page before"),
        ],
        brings: Brings::Nothing,
        answers: &[(
            200,
            Holds::Json(Schema::Open(&[
                must("tasks", list(&STANDING), ""),
                must("count", COUNT, ""),
                must("next", Schema::Nullable(&TEXT), "as `after`"),
            ])),
            "",
        )],
        refusals: &[],
        run: |shared, call| Box::pin(all(shared, call)),
    },
    Route {
        verb: Verb::Get,
        path: "/distributed/tasks/{id}",
        may: May::Has(Role::Viewer),
        doc: "A task and what became of it.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(200, Holds::Json(STANDING), "")],
        refusals: &[],
        run: |shared, call| Box::pin(async move { ok(&super::standing(&get(&shared, call.id()).await?)) }),
    },
    Route {
        verb: Verb::Delete,
        path: "/distributed/tasks/{id}",
        may: May::Has(Role::Submitter),
        doc: "Cancels a task of one's own; an admin any.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(200, Holds::Json(Schema::Open(&[must("success", Schema::Bool, ""), must("task_id", ID, "")])), "")],
        refusals: &[(409, "it has ended")],
        run: |shared, call| Box::pin(cancel(shared, call)),
    },
    Route {
        verb: Verb::Post,
        path: "/distributed/tasks/{id}/result",
        may: May::Has(Role::Worker),
        doc: "Brings the result of a task that this worker has.",
        query: &[],
        brings: Brings::Large(BROUGHT),
        answers: &[(
            200,
            Holds::Json(Schema::Open(&[
                must("success", Schema::Bool, ""),
                must("duplicate", Schema::Bool, "the task had its result already"),
                must("message", TEXT, "stored, duplicate, requeued or dead"),
                must("alerts", list(&COUNT), "their ids"),
            ])),
            "",
        )],
        refusals: &[(409, "no lease, or of other bytes than those handed out")],
        run: |shared, call| Box::pin(result(shared, call)),
    },
    Route {
        verb: Verb::Get,
        path: "/distributed/tasks/{id}/file",
        may: May::Has(Role::Worker),
        doc: "The bytes of a task that this worker has; X-Content-SHA256 says which.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(200, Holds::Other("application/octet-stream"), "bytes")],
        refusals: &[(409, "another worker has it, or nobody"), (422, "it is no regular file any more, or too large")],
        run: |shared, call| Box::pin(file(shared, call)),
    },
];

fn unknown() -> Refusal {
    Refusal::not_found("no_task", "there is no such task")
}

async fn get(shared: &Shared, id: &str) -> Result<Standing, Refusal> {
    shared.scan.tasks.task(id).await.map_err(super::away)?.ok_or_else(unknown)
}

fn priority(value: Option<&Value>) -> Priority {
    value.and_then(Value::as_i64).and_then(Priority::new).unwrap_or_default()
}

/// Stores one task.
async fn store(shared: &Shared, submission: Submission) -> Result<(String, &'static str), Refusal> {
    let told = shared.scan.tasks.submit_again(vec![submission]).await.map_err(super::away)?;
    match told.into_iter().next() {
        Some(Submitted::Queued(id)) => Ok((id, "queued")),
        Some(Submitted::UnderWay(id)) => Ok((id, "this file waits or is scanned already")),
        Some(Submitted::Known { id, .. }) => Ok((id, "this file has its result already")),
        Some(Submitted::Full) => Err(files::full()),
        None => Err(Refusal::internal(&"the store gave no answer to a submission")),
    }
}

async fn submit(shared: Arc<Shared>, call: Call) -> Outcome {
    super::not_stopped(&shared)?;
    let (root, found) = files::found(&shared, &call, false, false).await?;
    let Some((path, identity)) = found.into_iter().next() else { return Err(unknown()) };
    let mut submission = files::task(&root, path, identity, priority(call.body.get("priority")), shared.now().seconds());
    submission.task.required_capabilities = serde_json::from_value(call.body["required_capabilities"].clone()).unwrap_or_default();
    if let Some(metadata) = call.body["metadata"].as_object() {
        if metadata.contains_key(SUBMITTED_BY) {
            return Err(Refusal::field("metadata.submitted_by", "is set here, to the name of the key; leave it out"));
        }
        submission.task.metadata.clone_from(metadata);
    }
    submission.task.metadata.insert(SUBMITTED_BY.into(), call.who.name.clone().into());
    let (id, message) = store(&shared, submission).await?;
    ok(&json!({"success": true, "task_id": id, "message": message}))
}

async fn upload(shared: Arc<Shared>, mut call: Call) -> Outcome {
    super::not_stopped(&shared)?;
    let Some(mut body) = call.bytes.get_mut().ok().and_then(Option::take) else {
        return Err(Refusal::internal(&"an upload without a body"));
    };
    let max = shared.scan.settings.file_bytes_max;
    let announced = call.headers.get(header::CONTENT_LENGTH).and_then(|n| n.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|announced| announced > max) {
        return Err(call::too_large(max));
    }
    if let Some(caller) = &call.caller {
        caller.allow(limits::API_BODY_MS, usize::try_from(max).unwrap_or(usize::MAX).saturating_add(1 << 20));
    }
    let failed = |error: &io::Error| {
        tracing::error!(%error, "api cannot keep an upload; check the state directory and free space");
        Refusal::away("io", "the bytes cannot be kept at the moment; the agent's log says why", 30)
    };
    let dir = shared.scan.uploads.clone();
    let mut part = tokio::task::spawn_blocking(move || Part::begin(&dir))
        .await
        .map_err(|error| Refusal::internal(&error))?
        .map_err(|error| failed(&error))?;
    let mut gathered = Vec::new();
    loop {
        let block = call::next(&mut body).await?;
        let is_end = block.is_none();
        gathered.extend_from_slice(&block.unwrap_or_default());
        if part.size + gathered.len() as u64 > max {
            return Err(call::too_large(max));
        }
        if is_end || gathered.len() >= 256 << 10 {
            let bytes = std::mem::take(&mut gathered);
            let written = tokio::task::spawn_blocking(move || part.take(&bytes).map(|()| part)).await;
            part = written.map_err(|error| Refusal::internal(&error))?.map_err(|error| failed(&error))?;
        }
        if is_end {
            break;
        }
    }
    if let Some(caller) = &call.caller {
        caller.allow(limits::API_ANSWER_MS, 0);
    }
    let kept = tokio::task::spawn_blocking(move || part.keep()).await.map_err(|error| Refusal::internal(&error))?;
    let (sha256, identity, is_duplicate) = kept.map_err(|error| failed(&error))?;
    let path = RelPath(sha256.clone().into_bytes());
    let mut submission = files::task(UPLOAD, path, identity, priority(call.query.get("priority")), shared.now().seconds());
    submission.task.asker = Asker::Upload;
    submission.task.sha256 = Some(sha256.clone());
    submission.task.metadata.insert(SUBMITTED_BY.into(), call.who.name.clone().into());
    submission.task.metadata.insert("filename".into(), call.text("filename").unwrap_or("upload").into());
    let (id, message) = store(&shared, submission).await?;
    let (now, last) = (shared.now().mono / 1_000_000_000, shared.swept.load(Ordering::Relaxed));
    if now >= last + limits::API_UPLOADS_SWEEP_S {
        shared.swept.store(now, Ordering::Relaxed);
        tokio::spawn(sweep(shared.clone()));
    }
    ok(&json!({"success": true, "task_id": id, "message": message, "sha256": sha256, "size": identity.size, "duplicate": is_duplicate}))
}

/// Removes uploads whose answer is older than the hours of `[scan.cleanup]`: these copies are ours, whether files of others are removed or not.
///
/// What has no answer yet, or is in the dead letter, stays.
pub(in crate::api::scan) async fn sweep(shared: Arc<Shared>) {
    let dir = shared.scan.uploads.clone();
    let Ok(names) = tokio::task::spawn_blocking(move || names(&dir)).await else { return };
    let cleanup = &shared.scan.settings.cleanup;
    for name in names {
        let path = RelPath(name.clone().into_bytes());
        let Ok(Some(known)) = shared.scan.tasks.known(UPLOAD, &path).await else { continue };
        let (Some(verdict), Some(ended)) = (known.verdict, known.ended_at) else { continue };
        let hours = if verdict == outcome::Verdict::Matched { cleanup.matched_hours } else { cleanup.clean_hours };
        if shared.now().wall.saturating_sub(ended) < hours.saturating_mul(3_600_000_000_000) {
            continue;
        }
        let file = shared.scan.uploads.join(&name);
        let removed = tokio::task::spawn_blocking(move || remove(&file)).await;
        if matches!(removed, Ok(Ok(()))) {
            let _ = shared.scan.tasks.forget_file(UPLOAD, &path).await;
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "uploads are real files, on threads that may block")]
fn remove(file: &Path) -> io::Result<()> {
    fs::remove_file(file)
}

/// Names of uploads that are whole.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| !name.starts_with('.')).collect()
}

/// Bytes that come, in a file without their name yet. Dropped before its end, nothing of it is left.
struct Part {
    dir: std::path::PathBuf,
    name: String,
    file: File,
    hash: Sha256,
    size: u64,
}

#[allow(clippy::disallowed_methods, reason = "uploads are real files, on threads that may block")]
impl Part {
    fn begin(dir: &Path) -> io::Result<Self> {
        let mut random = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let name = format!(".{}.part", hex(&random));
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(dir.join(&name))?;
        Ok(Self { dir: dir.to_owned(), name, file, hash: Sha256::new(), size: 0 })
    }
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(bytes)
    }
    /// Gives them their name, which is their SHA-256, durably. Also says whether it was there already.
    fn keep(self) -> io::Result<(String, Identity, bool)> {
        let sha256 = hex(&self.hash.clone().finalize());
        self.file.sync_all()?;
        let to = self.dir.join(&sha256);
        let is_duplicate = match fs::hard_link(self.dir.join(&self.name), &to) {
            Ok(()) => false,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => true,
            Err(error) => return Err(error),
        };
        File::open(&self.dir)?.sync_all()?;
        let stat = rustix::fs::stat(&to)?;
        let identity = Identity {
            dev: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime_ns: stat.st_mtime * 1_000_000_000 + i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
        };
        Ok((sha256, identity, is_duplicate))
    }
}

#[allow(clippy::disallowed_methods, reason = "uploads are real files, on threads that may block")]
impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.dir.join(&self.name));
    }
}

async fn all(shared: Arc<Shared>, call: Call) -> Outcome {
    let limit = call.number("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(100);
    let state: Option<State> = call.query.get("state").and_then(|state| serde_json::from_value(state.clone()).ok());
    let found = shared.scan.tasks.tasks(TaskFilter { state }, call.text("after"), limit).await.map_err(super::away)?;
    let tasks: Vec<Value> = found.iter().map(super::standing).collect();
    ok(&json!({"count": tasks.len(), "next": found.last().map(|standing| &standing.task.task_id), "tasks": tasks}))
}

async fn cancel(shared: Arc<Shared>, call: Call) -> Outcome {
    let standing = get(&shared, call.id()).await?;
    let owner = standing.task.metadata.get(SUBMITTED_BY).and_then(Value::as_str);
    if !call.who.is(Role::Admin) && owner != Some(call.who.name.as_str()) {
        return Err(Refusal::forbidden("other_owner", "this task was submitted by somebody else"));
    }
    match shared.scan.tasks.cancel(call.id()).await.map_err(super::away)? {
        Cancelled::Cancelled => ok(&json!({"success": true, "task_id": call.id(), "message": "cancelled"})),
        Cancelled::Ended(state) => {
            Err(Refusal::conflict("ended", format!("this task is {} already", json!(state).as_str().unwrap_or("over"))))
        }
        Cancelled::Unknown => Err(unknown()),
    }
}

async fn result(shared: Arc<Shared>, call: Call) -> Outcome {
    let mut outcome: outcome::Outcome = call.read()?;
    if outcome.task_id != call.id() {
        return Err(Refusal::field("task_id", "is not the one of the path"));
    }
    let worker = match &call.who.worker {
        Some(own) if outcome.worker_id.is_empty() || outcome.worker_id == *own => own.clone(),
        Some(_) => return Err(Refusal::forbidden("other_worker", "this key is another worker's")),
        None if outcome.worker_id.is_empty() => return Err(Refusal::field("worker_id", "is missing, and the key is bound to none")),
        None => outcome.worker_id.clone(),
    };
    outcome.worker_id.clone_from(&worker);
    let standing = get(&shared, call.id()).await?;
    if (&standing.task.root, &standing.task.path) != (&outcome.root, &outcome.path) {
        return Err(Refusal::conflict("wrong_file", "this task is of another file"));
    }
    // What only its owner knows stays.
    outcome.zeek = standing.task.zeek.clone().or(outcome.zeek);
    if standing.state == State::Leased && standing.worker.as_ref() == Some(&worker) {
        shared.scan.hands.relate(&standing.task, &mut outcome);
    }
    let measured = Measured {
        is_error: outcome.verdict == outcome::Verdict::Error,
        scan_ms: outcome.scan_ms as f64,
        wait_ms: (outcome.started_at - standing.task.submitted_at).max(0.0) * 1000.0,
    };
    let told = |duplicate: bool, message: &str, alerts: Vec<u64>| {
        ok(&json!({"success": true, "duplicate": duplicate, "message": message, "alerts": alerts}))
    };
    match shared.scan.tasks.finish(&worker, outcome).await.map_err(super::away)? {
        Finished::Applied { alerts } => {
            shared.monitor().finished(measured, shared.now());
            told(false, "stored", alerts)
        }
        Finished::Duplicate => told(true, "duplicate", Vec::new()),
        Finished::Requeued { .. } => told(false, "requeued", Vec::new()),
        Finished::Dead(_) => told(false, "dead", Vec::new()),
        Finished::NoLease => Err(Refusal::conflict("no_lease", "this worker does not have this task, or not any more")),
        Finished::WrongBytes => {
            Err(Refusal::conflict("wrong_bytes", "the result is of other bytes than those handed out; the lease is over"))
        }
    }
}

async fn file(shared: Arc<Shared>, call: Call) -> Outcome {
    let standing = get(&shared, call.id()).await?;
    let holder = standing.worker.filter(|_| standing.state == State::Leased);
    let Some(worker) = holder.filter(|worker| call.who.is_worker(worker)) else {
        return Err(Refusal::conflict("no_lease", "this worker does not have this task, or not any more"));
    };
    let Ok(permit) = shared.files.clone().acquire_owned().await else { return Err(Refusal::internal(&"the face ends")) };
    let (roots, max, task) = (shared.scan.roots.clone(), shared.scan.settings.file_bytes_max, standing.task);
    let read = tokio::task::spawn_blocking(move || {
        let opened = roots.open_file(&task.root, &task.path, max).map_err(|failure| files::refused(&failure))?;
        let mut bytes = Vec::with_capacity(usize::try_from(opened.identity.size).unwrap_or(0));
        let mut reader = File::from(opened.fd).take(max + 1);
        let failed = |_| Refusal::away("io", "the file cannot be read at the moment", 10);
        reader.read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > max {
            return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "too_large", "the file has more than scan.file_bytes_max bytes"));
        }
        let sha256 = hex(&Sha256::digest(&bytes));
        Ok((bytes, sha256))
    });
    let (bytes, sha256) = read.await.map_err(|error| Refusal::internal(&error))??;
    if !shared.scan.tasks.handed_out(&worker, call.id(), &sha256).await.map_err(super::away)? {
        return Err(Refusal::conflict("no_lease", "this worker does not have this task any more"));
    }
    let mut response = Response::new(Body::from(Bytes::from_owner(Held { bytes, _permit: permit })));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    // Whatever opens it is not to run it.
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    if let Ok(value) = HeaderValue::from_str(&sha256) {
        headers.insert(SHA256, value);
    }
    Ok(response)
}

/// Bytes on their way, which take their place in memory until they are gone.
struct Held {
    bytes: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
