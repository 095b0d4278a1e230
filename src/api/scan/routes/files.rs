//! Files and folders that are scanned while the caller waits.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::super::{
    Shared,
    call::Call,
    schema::{Schema, may, must, or},
    shapes::{ALERT, COUNT, FILE_PATH, FREE, ID, NUMBER, ROOT, TEXT, list},
    table::{Brings, Holds, May, Outcome, Route, Verb, ok, told},
};
use crate::{
    api::{access::Role, refusal::Refusal},
    limits,
    scan::{
        outcome::{Reason, Verdict},
        roots::{Entry, OpenFailure, WalkError},
        task::{Asker, Identity, Priority, RelPath, Task},
        tasks::{AlertFilter, Page, State, Submission, Submitted},
    },
};

pub(super) static ROUTES: &[Route] = &[Route {
    verb: Verb::Post,
    path: "/scan",
    may: May::Has(Role::Submitter),
    doc: "Scans a file, or the files of a folder, and waits for it up to a minute.",
    query: &[],
    brings: Brings::Json(Schema::Object(&[
        must("file_path", FILE_PATH, "below the root, or absolute and below a root"),
        may("root", ROOT, "its name; the first one where none is given"),
        or("recursive", Schema::Bool, "false", "of a folder: its subfolders too"),
    ])),
    answers: &[
        (
            200,
            Holds::Json(Schema::Open(&[
                must("success", Schema::Bool, ""),
                must("matched", Schema::Bool, "a rule matched in one of them"),
                must("partial", Schema::Bool, "not every rule saw every byte of all of them"),
                must("error", Schema::Nullable(&TEXT), "of the first that could not be scanned"),
                must("alerts", list(&ALERT), "a thousand at most"),
                must("scan_time", NUMBER, "seconds"),
                must("scanned_files", COUNT, ""),
                must("verdicts", FREE, "how many files got which"),
                must("task_ids", list(&ID), ""),
            ])),
            "all are done",
        ),
        (
            202,
            Holds::Json(Schema::Open(&[must("success", Schema::Bool, ""), must("task_ids", list(&ID), ""), must("pending", COUNT, "")])),
            "some are not done yet",
        ),
    ],
    refusals: &[(404, "no such file"), (422, "the body is wrong, it is no regular file, or the folder holds more than 1000")],
    run: |shared, call| Box::pin(scan(shared, call)),
}];

/// A name that a request means, on the disk: what files it stands for.
///
/// # Errors
/// 403 for a name outside of the roots, whatever is there; 404, 422 or 503 by what is there.
pub(super) async fn found(
    shared: &Arc<Shared>,
    call: &Call,
    may_be_folder: bool,
    is_recursive: bool,
) -> Result<(String, Vec<(RelPath, Identity)>), Refusal> {
    let roots = shared.scan.roots.clone();
    let root = call.body["root"].as_str().map(str::to_owned);
    let file_path = call.body["file_path"].as_str().unwrap_or_default().to_owned();
    let looked = tokio::task::spawn_blocking(move || {
        let not_allowed = || Refusal::forbidden("path_not_allowed", "this path is not below a root");
        let (root, path) = roots.resolve(root.as_deref(), file_path.as_bytes()).map_err(|_| not_allowed())?;
        let root = root.to_owned();
        // The root itself is a folder and has no name in one.
        let seen = if path.0.is_empty() { Ok(None) } else { roots.look(&root, &path) };
        if let Some(identity) = seen.map_err(|failure| refused(&failure))? {
            return Ok((root, vec![(path, identity)]));
        }
        let not_a_file = || Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "not_a_file", "this is no regular file");
        let files = if !may_be_folder {
            // What is no regular file is opened to tell a folder and a pipe from what is not there.
            return Err(roots.open_file(&root, &path, u64::MAX).map_or_else(|failure| refused(&failure), |_| not_a_file()));
        } else if is_recursive {
            roots.walk(&root, &path, limits::API_SCAN_FILES_MAX)
        } else {
            roots.list(&root, &path).map_err(WalkError::from).map(|entries| files_of(&path, entries))
        };
        match files {
            Ok(files) if files.len() <= limits::API_SCAN_FILES_MAX => Ok((root, files)),
            Ok(_) | Err(WalkError::TooManyFiles { .. }) => {
                let what = format!("the folder holds more than {} files; scan its subfolders one by one", limits::API_SCAN_FILES_MAX);
                Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "too_many_files", what))
            }
            Err(WalkError::Open(failure)) => {
                let is_other = failure.reason == Reason::NotFound
                    && roots.open_file(&root, &path, u64::MAX).is_err_and(|f| f.reason == Reason::NotAFile);
                Err(if is_other { not_a_file() } else { refused(&failure) })
            }
        }
    });
    looked.await.map_err(|error| Refusal::internal(&error))?
}

fn files_of(folder: &RelPath, entries: Vec<Entry>) -> Vec<(RelPath, Identity)> {
    let mut files: Vec<(RelPath, Identity)> = entries
        .into_iter()
        .filter_map(|entry| match entry {
            Entry::File { name, identity } => {
                let mut path = folder.0.clone();
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend(name);
                Some((RelPath(path), identity))
            }
            Entry::Folder { .. } => None,
        })
        .collect();
    files.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    files
}

/// Why a name is not opened, for the caller. Causes stay here.
pub(super) fn refused(failure: &OpenFailure) -> Refusal {
    match failure.reason {
        Reason::NotFound => Refusal::not_found("not_found", "there is no such file"),
        Reason::NotAllowed => Refusal::forbidden("path_not_allowed", "this path is not below a root"),
        Reason::NotAFile => Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "not_a_file", "this is no regular file"),
        Reason::TooLarge => Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "too_large", "the file has more than scan.file_bytes_max bytes"),
        _ => Refusal::away("io", "the file cannot be read at the moment; the agent's log says why", 10),
    }
}

/// A task of the API.
pub(super) fn task(root: &str, path: RelPath, identity: Identity, priority: Priority, now: f64) -> Submission {
    let task = Task {
        // The store gives it one.
        task_id: String::new(),
        kind: "file_scan".into(),
        root: root.to_owned(),
        path,
        size: Some(identity.size),
        sha256: None,
        priority,
        submitted_at: now,
        asker: Asker::Api,
        attempt: 0,
        required_capabilities: Vec::new(),
        metadata: serde_json::Map::new(),
        zeek: None,
    };
    Submission { task, identity: Some(identity) }
}

/// 503: nothing is taken at the moment.
pub(super) fn full() -> Refusal {
    Refusal::away("queue_full", "scan.queue.size_max tasks wait; submit it again later", 10)
}

#[allow(clippy::disallowed_methods, reason = "a wait for answers of others, which is no business of the simulated machine")]
async fn scan(shared: Arc<Shared>, call: Call) -> Outcome {
    super::not_stopped(&shared)?;
    let is_recursive = call.body["recursive"].as_bool().unwrap_or(false);
    let begun = Instant::now();
    let deadline = begun + Duration::from_secs(limits::API_SCAN_WAIT_S);
    let (root, files) = found(&shared, &call, true, is_recursive).await?;
    let tasks = &shared.scan.tasks;
    let mut metadata = serde_json::Map::new();
    metadata.insert("submitted_by".into(), call.who.name.clone().into());
    let mut left: Vec<Submission> = files
        .into_iter()
        .map(|(path, identity)| {
            let mut submission = task(&root, path, identity, Priority::HIGH, shared.now().seconds());
            submission.task.metadata.clone_from(&metadata);
            submission
        })
        .collect();
    let (mut ids, mut pending, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    let mut pause = Duration::from_millis(10);
    loop {
        if !left.is_empty() {
            let told = tasks.submit_again(left.clone()).await.map_err(super::away)?;
            let mut again = Vec::new();
            for (submission, told) in left.into_iter().zip(told) {
                match told {
                    Submitted::Queued(id) | Submitted::UnderWay(id) | Submitted::Known { id, .. } => {
                        ids.push(id.clone());
                        pending.push(id);
                    }
                    Submitted::Full => again.push(submission),
                }
            }
            left = again;
            if ids.is_empty() && !left.is_empty() {
                return Err(full());
            }
        }
        let mut open = Vec::new();
        for id in pending {
            match tasks.task(&id).await.map_err(super::away)? {
                Some(standing) if matches!(standing.state, State::Queued | State::Leased) => open.push(id),
                Some(standing) => ended.push(standing),
                None => {}
            }
        }
        pending = open;
        if pending.is_empty() && left.is_empty() {
            break;
        }
        if Instant::now() >= deadline {
            let body = json!({"success": true, "task_ids": ids, "pending": pending.len(), "not_submitted": left.len()});
            return Ok(told(StatusCode::ACCEPTED, &body));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(250));
    }
    let mut alerts: Vec<Value> = Vec::new();
    let mut verdicts = json!({"clean": 0, "matched": 0, "skipped": 0, "error": 0});
    let (mut error, mut is_partial) = (None, false);
    for standing in &ended {
        let Some(outcome) = &standing.outcome else {
            let why = standing.dead.as_ref().map_or("cancelled", |dead| dead.reason.as_str());
            error.get_or_insert_with(|| why.to_owned());
            continue;
        };
        let verdict = json!(outcome.verdict);
        let count = &mut verdicts[verdict.as_str().unwrap_or_default()];
        *count = json!(count.as_u64().unwrap_or(0) + 1);
        is_partial |= outcome.partial;
        if outcome.verdict == Verdict::Error {
            let reasons: Vec<Value> = outcome.reasons.iter().map(|reason| json!(reason)).collect();
            let first = reasons.first().and_then(Value::as_str).unwrap_or("error");
            error.get_or_insert_with(|| first.to_owned());
        }
        if outcome.verdict == Verdict::Matched && alerts.len() < 1000 {
            let filter = AlertFilter { task_id: Some(outcome.task_id.clone()), ..AlertFilter::default() };
            let found = tasks.alerts(filter, Page { number: 1, size: 1000 - alerts.len() as u64 }).await.map_err(super::away)?;
            alerts.extend(found.alerts.into_iter().map(|alert| Value::Object(alert.alert)));
        }
    }
    ok(&json!({
        "success": true,
        "matched": verdicts["matched"] != json!(0),
        "partial": is_partial,
        "error": error,
        "alerts": alerts,
        "scan_time": begun.elapsed().as_secs_f64(),
        "scanned_files": ended.len(),
        "verdicts": verdicts,
        "task_ids": ids,
    }))
}
