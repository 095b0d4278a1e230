//! What every request passes: who asks, how often, from which page; and what every answer carries.
//!
//! Behind it nobody asks for keys again: a request carries [`Who`], or none if nobody was named.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    extract::{ConnectInfo, Request, State as Of},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    access::{Denied, Gate, Role, Who},
    listen::Caller,
    refusal::Refusal,
};
use crate::{
    clock::{Clock, SystemClock},
    metrics::{Counts, labels},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Characters of a path in the audit.
const PATH_MAX: usize = 256;

/// Routes that are not in the table of scanning.
pub(super) const OLDER: [&str; 9] =
    ["/", "/metrics", "/health", "/health/live", "/health/ready", "/api/alerts", "/api/alerts/ID", "/api/stats", "/api/entity/ID"];

/// Takes an entry of the audit.
pub(super) type Audit = Box<dyn Fn(Value) + Send + Sync>;

/// The door.
pub(super) struct Door {
    pub(super) gate: Gate,
    clock: SystemClock,
    requests: Counts,
    audit: Option<Audit>,
    /// Pages on other names for this host are not to act here: there are no keys, and calls that change things.
    is_wary: bool,
    /// Of this life, before the number of a request.
    life: u32,
    count: AtomicU64,
}

/// Of an answer: the path of its route, with `{id}`. A few words, so that figures may be counted by it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Template(pub(super) &'static str);

impl Door {
    /// - `requests`: counted by path and status.
    pub(super) fn new(gate: Gate, clock: SystemClock, requests: Counts, audit: Option<Audit>) -> Self {
        let is_wary = audit.is_some() && !gate.has_keys();
        // The low bits of the start differ from life to life.
        let life = (clock.now() >> 10) as u32;
        Self { gate, clock, requests, audit, is_wary, life, count: AtomicU64::new(0) }
    }

    fn admit(&self, headers: &HeaderMap, caller: Option<&Caller>, path: &str) -> Result<Option<Who>, Refusal> {
        if self.is_wary && caller.is_some_and(|caller| caller.address().is_some()) {
            self.be_wary(headers)?;
        }
        let key = key(headers)?;
        let address = caller.and_then(Caller::address);
        let certificate = caller.and_then(Caller::certificate);
        let who = self.gate.enter(address, key, certificate, self.clock.mono()).map_err(|denied| match denied {
            Denied::Wrong => Refusal::wrong_key(),
            Denied::TooMany(ms) => Refusal::too_many(ms),
        })?;
        let is_for_viewers = path == "/metrics" || path.starts_with("/api/");
        match &who {
            None if is_for_viewers => Err(Refusal::no_key()),
            Some(who) if is_for_viewers && !who.is(Role::Viewer) => Err(role(Role::Viewer)),
            _ => Ok(who),
        }
    }

    /// Without keys a page could ask in the name of a person on this host: by a name of its own for our address, or blindly.
    fn be_wary(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if !is_near(host) {
            return Err(Refusal::forbidden("host_not_allowed", "without keys this face answers to localhost and addresses only"));
        }
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        let origin = origin.to_str().unwrap_or_default();
        // `null`, of a page without an origin, is nobody's.
        let is_ours = origin.split_once("://").is_some_and(|(_, host)| is_near(host));
        if is_ours || self.gate.is_origin(origin) {
            return Ok(());
        }
        Err(Refusal::forbidden("origin_not_allowed", "pages of this origin may not ask; name it in api.cors_origins"))
    }

    /// Answers for pages: of listed origins, and never with credentials.
    fn cors(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        let Some(origin) = origin.filter(|origin| origin.to_str().is_ok_and(|origin| self.gate.is_origin(origin))) else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("x-request-id, retry-after"));
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }

    fn preflight(&self, origin: &HeaderValue) -> Response {
        let mut response = StatusCode::NO_CONTENT.into_response();
        if origin.to_str().is_ok_and(|origin| self.gate.is_origin(origin)) {
            let headers = response.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, PUT, DELETE"));
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("x-api-key, authorization, content-type"));
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
        response
    }

    fn note(&self, seen: &Seen, who: Option<&Who>, status: StatusCode) {
        let Some(audit) = &self.audit else { return };
        let is_refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS);
        let is_change = !matches!(seen.method, Method::GET | Method::HEAD | Method::OPTIONS);
        if !is_refused && (!is_change || status == StatusCode::METHOD_NOT_ALLOWED) {
            return;
        }
        if is_refused && !self.gate.is_noted(seen.address, self.clock.mono()) {
            return;
        }
        let mut time = Vec::new();
        crate::json::time(&mut time, i64::try_from(self.clock.now() / 1_000_000).unwrap_or(i64::MAX));
        audit(json!({
            "time": String::from_utf8_lossy(&time),
            "request_id": seen.id,
            "key": who.map(|who| who.name.as_str()),
            "address": seen.address.map_or_else(|| "unix".to_owned(), |address| address.to_string()),
            "method": seen.method.as_str(),
            "path": seen.path.chars().take(PATH_MAX).collect::<String>(),
            "status": status.as_u16(),
        }));
    }
}

/// What is kept of a request while it is answered.
struct Seen {
    id: String,
    method: Method,
    path: String,
    address: Option<IpAddr>,
}

/// The older route that a path is of.
fn older(path: &str) -> &'static str {
    let is_of = |route: &&&str| match route.strip_suffix("ID") {
        Some(folder) => path.starts_with(folder),
        None => path == **route,
    };
    OLDER.iter().find(is_of).copied().unwrap_or("other")
}

/// 403 for want of a role.
pub(super) fn role(role: Role) -> Refusal {
    Refusal::forbidden("role", format!("this needs a key with the role {} or admin", role.word()))
}

/// True for what no public name can be: a name without dots, one below `localhost`, an address.
///
/// - `host`: with or without a port.
fn is_near(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    let name = host.split(':').next().unwrap_or_default().to_ascii_lowercase();
    !name.contains('.') || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
}

/// The key that was sent, in one of two headers.
fn key(headers: &HeaderMap) -> Result<Option<&[u8]>, Refusal> {
    let bearer = headers.get(header::AUTHORIZATION).map(|value| {
        let value = value.as_bytes();
        match value.split_at_checked(7) {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"bearer ") => Ok(key.trim_ascii()),
            _ => Err(Refusal::wrong_key()),
        }
    });
    match headers.get(API_KEY) {
        Some(key) => Ok(Some(key.as_bytes())),
        None => bearer.transpose(),
    }
}

/// Lets a request through, or sends it away.
pub(super) async fn pass(Of(door): Of<Arc<Door>>, mut request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<ConnectInfo<Caller>>().map(|info| info.0.clone());
    let seen = Seen {
        id: format!("{:08x}{:08x}", door.life, door.count.fetch_add(1, Ordering::Relaxed)),
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        address: caller.as_ref().and_then(Caller::address),
    };
    let origin = request.headers().get(header::ORIGIN).cloned();
    let is_preflight = seen.method == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut who = None;
    let mut response = match &origin {
        Some(origin) if is_preflight => door.preflight(origin),
        _ => match door.admit(request.headers(), caller.as_ref(), &seen.path) {
            Err(refusal) => refusal.into_response(),
            Ok(found) => {
                who.clone_from(&found);
                if let Some(found) = found {
                    request.extensions_mut().insert(found);
                }
                next.run(request).await
            }
        },
    };
    let status = response.status();
    let template = response.extensions().get::<Template>().map_or_else(|| older(&seen.path), |template| template.0);
    let headers = response.headers_mut();
    // One request a connection: nothing of a client outlives it.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(&seen.id) {
        headers.insert(REQUEST_ID, id);
    }
    door.cors(origin.as_ref(), headers);
    door.requests.get_or_create_owned(&labels([("path", template), ("status", status.as_str())])).inc();
    door.note(&seen, who.as_ref(), status);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_stranger_can_own_are_far() {
        for near in ["localhost", "localhost:9600", "127.0.0.1:80", "[::1]:80", "[::1]", "here", "a.localhost", "", "10.0.0.1"] {
            assert!(is_near(near), "{near}");
        }
        for far in ["example.org", "example.org:80", "127.0.0.1.example.org", "[evil.example]", "localhost.example"] {
            assert!(!is_near(far), "{far}");
        }
    }

    #[test]
    fn a_key_is_found_in_either_header() {
        let of = |rows: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in rows {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            key(&headers).map(|key| key.map(|key| String::from_utf8_lossy(key).into_owned()))
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[("x-api-key", "a")]), Ok(Some("a".into())));
        assert_eq!(of(&[("authorization", "Bearer  a ")]), Ok(Some("a".into())));
        assert_eq!(of(&[("authorization", "bearer a")]), Ok(Some("a".into())));
        assert!(of(&[("authorization", "Basic YTpi")]).is_err());
        assert!(of(&[("authorization", "")]).is_err());
    }
}
