//! What a route is: read by the router, by `/openapi.json` and by `/docs`.

use std::{future::Future, pin::Pin, sync::Arc};

use axum::{http::StatusCode, response::Response};

use super::{
    Shared,
    call::Call,
    schema::{Field, Schema},
};
use crate::api::{access::Role, refusal::Refusal};

/// What a route gives.
pub(super) type Outcome = Result<Response, Refusal>;
pub(super) type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verb {
    Get,
    Post,
    Put,
    Delete,
}

impl Verb {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum May {
    Anybody,
    /// This role, or admin.
    Has(Role),
    /// The worker of the path, or admin.
    Own,
}

/// What a request brings.
#[derive(Clone, Copy)]
pub(super) enum Brings {
    Nothing,
    /// JSON; an absent body counts as `{}` where nothing in it must be.
    Json(Schema),
    /// JSON of up to [`API_RESULT_BYTES_MAX`](crate::limits::API_RESULT_BYTES_MAX).
    Large(Schema),
    /// Bytes as they are.
    Bytes,
}

/// What an answer holds.
#[derive(Clone, Copy)]
pub(super) enum Holds {
    Json(Schema),
    /// Of another media type.
    Other(&'static str),
}

/// One route.
pub(super) struct Route {
    pub(super) verb: Verb,
    /// With `{id}` or `{name}`.
    pub(super) path: &'static str,
    pub(super) may: May,
    /// A sentence for people.
    pub(super) doc: &'static str,
    pub(super) query: &'static [Field],
    pub(super) brings: Brings,
    /// Status, what it holds, and what it says.
    pub(super) answers: &'static [(u16, Holds, &'static str)],
    /// Statuses of refusals beyond those that its shape brings, and why.
    pub(super) refusals: &'static [(u16, &'static str)],
    pub(super) run: fn(Arc<Shared>, Call) -> Running,
}

impl Route {
    /// Every status of a refusal that it may give, in order.
    pub(super) fn refused(&self) -> Vec<(u16, &'static str)> {
        let mut all =
            vec![(429, "too many requests; see Retry-After"), (500, "something is wrong here"), (503, "not now; see Retry-After")];
        if self.may != May::Anybody {
            all.extend([(401, "no key, or a wrong one"), (403, "not with this key, or not from there")]);
        }
        if self.path.contains('{') {
            all.push((404, "there is none"));
        }
        if !self.query.is_empty() {
            all.push((422, "a parameter is wrong"));
        }
        match self.brings {
            Brings::Nothing => {}
            Brings::Json(_) | Brings::Large(_) => all.extend([
                (400, "not JSON"),
                (413, "more than 1 MiB; of a result, 16 MiB"),
                (415, "not application/json"),
                (422, "JSON, and something in it is wrong"),
            ]),
            Brings::Bytes => {
                all.extend([(413, "more than scan.file_bytes_max"), (415, "not application/octet-stream"), (422, "a parameter is wrong")])
            }
        }
        if self.path.starts_with("/distributed/") {
            all.push((400, "this node is a worker and distributes nothing"));
        }
        for own in self.refusals {
            all.retain(|(status, _)| *status != own.0);
            all.push(*own);
        }
        all.sort_by_key(|(status, _)| *status);
        all.dedup_by_key(|(status, _)| *status);
        all
    }
}

/// The ids in a path, if it is of this form.
///
/// - `template`: with `{id}`.
pub(super) fn ids(template: &str, path: &str) -> Option<Vec<String>> {
    let (mut parts, mut ids) = (path.split('/'), Vec::new());
    for expected in template.split('/') {
        let part = parts.next()?;
        if expected.starts_with('{') {
            ids.push(part.to_owned());
        } else if expected != part {
            return None;
        }
    }
    parts.next().is_none().then_some(ids)
}

/// JSON with a status.
pub(super) fn told(status: StatusCode, body: &serde_json::Value) -> Response {
    use axum::{http::header, response::IntoResponse};
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

/// JSON with 200.
pub(super) fn ok(body: &serde_json::Value) -> Outcome {
    Ok(told(StatusCode::OK, body))
}
