//! Scanning over HTTP: tasks, workers, alerts, rules, figures.
//!
//! ```text
//! door ──> dispatch: route, role, ids ──> call: parameters, body ──> routes ──> task store, registry, monitor
//! ```
//!
//! All routes stand in one table ([`routes::all`]); the router, `/openapi.json` and `/docs` are made from it.
//! A request that does not match its route's schema never reaches a route, and no answer holds what the config
//! keeps secret, a path outside of a root, or an error's inner text.
//!
//! Refuses to know how files are scanned: what the agent does for the face is [`Hands`]. Start at [`Scan`].

mod call;
mod docs;
mod figures;
mod openapi;
mod routes;
mod schema;
mod shapes;
mod table;

use std::{
    collections::BTreeMap,
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
};

use axum::{
    Router,
    extract::{ConnectInfo, Request},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
    routing::any,
};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::{
    access::{Role, Who},
    door::{self, Door, Template},
    listen::Caller,
    refusal::Refusal,
};
use crate::{
    clock::{Clock, SystemClock},
    limits,
    scan::{
        monitor::{Change, Moment, Monitor},
        outcome,
        roots::Roots,
        settings::{Role as Duty, Settings},
        task::Task,
        tasks::Tasks,
        workers::Registry,
    },
};
use call::Call;
use table::{May, Outcome, Route};

/// Something that is there later.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the face needs of the agent's scanning.
#[derive(Clone)]
pub struct Scan {
    pub settings: Settings,
    pub tasks: Tasks,
    pub roots: Arc<Roots>,
    /// Workers that have registered here.
    pub registry: Arc<Mutex<Registry>>,
    pub monitor: Arc<Mutex<Monitor>>,
    /// Folder of the root `upload`, ours alone.
    pub uploads: PathBuf,
    pub hands: Arc<dyn Hands>,
}

/// What the agent does for the face.
pub trait Hands: Send + Sync {
    /// The set of rules in use: `{version, rules: [{name, namespace, tags, meta}], errors: [{file, line, code, message}]}`.
    fn rules(&self) -> Value;
    /// Reads the rules anew, and gives them as [`Self::rules`] does.
    ///
    /// - `force`: also if many of them are gone.
    ///
    /// # Errors
    /// Why the set in use stays, and what is wrong with the other: `errors` as above.
    fn update_rules(&self, force: bool) -> Later<Result<Value, (String, Value)>>;
    /// Processes that scan here: how many run, and how many are busy. 0 is a scanner that stands still.
    fn children(&self) -> (usize, usize);
    /// Processes that died at a file, since the start.
    fn child_deaths(&self) -> u64;
    /// Sets how many; `None` is as configured. False if it is so already.
    fn set_children(&self, children: Option<usize>) -> Later<bool>;
    /// As `/cleanup/stats` shows it.
    fn cleanup(&self) -> Value;
    /// Removes what may be removed, or only says what that would be, as `/cleanup/force` shows it.
    fn clean(&self, is_dry: bool) -> Later<Result<Value, String>>;
    /// Sinks of the config: `[{name, kind, required}]`. No secrets.
    fn sinks(&self) -> Value;
    /// Says in an outcome of another host what is known here of its file: the connection that carried it, and what was said of that.
    fn relate(&self, _task: &Task, _outcome: &mut outcome::Outcome) {}
    /// What was not joined to an answer of Zeek's log, since the start, by why; empty where none is read.
    fn zeek_lost(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::new()
    }
    /// `{running, version, alert_count, …}`: what is known of Suricata's log.
    fn suricata(&self) -> Value;
    /// Its alerts in memory, the newest first, as `/suricata/alerts` shows them.
    fn suricata_alerts(&self) -> Vec<Value>;
    /// Relations of scan alerts to its alerts, the newest first.
    fn correlations(&self) -> Vec<Value>;
    /// Looks for relations anew; how many were found.
    fn correlate(&self) -> Later<Result<usize, String>>;
    /// Takes a task that a master brings; false if there is no room, `None` if this node is no worker.
    fn offer(&self, _task: Task) -> Option<bool> {
        None
    }
    /// How this node stands as a worker of a master: `{worker_id, running, current_tasks, max_tasks, …}`; `None` if it is none.
    fn worker(&self) -> Option<Value> {
        None
    }
    /// Ends the agent of a worker as SIGTERM does; false if this node is none.
    fn shut_down(&self) -> bool {
        false
    }
    /// Keeps and sends on what the monitor found.
    fn tell(&self, changes: Vec<Change>);
}

/// What the rest of the face shows of the agent.
pub(super) trait Front: Send + Sync {
    /// The page for a person.
    fn page(&self) -> String;
    /// Whether records wait for a person, whether all is well, and everything that is known of it.
    fn health(&self) -> (bool, bool, Value);
    /// Figures in Prometheus's form, and its media type.
    fn metrics(&self, headers: &axum::http::HeaderMap) -> (String, &'static str);
}

/// What routes share.
pub(super) struct Shared {
    scan: Scan,
    front: Box<dyn Front>,
    door: Arc<Door>,
    clock: SystemClock,
    /// Files whose bytes are on their way, each in memory.
    files: Arc<Semaphore>,
    /// When uploads were last swept, monotonic seconds.
    swept: AtomicU64,
}

impl Shared {
    pub(super) fn new(scan: Scan, front: Box<dyn Front>, door: Arc<Door>, clock: SystemClock) -> Self {
        Self { scan, front, door, clock, files: Arc::new(Semaphore::new(limits::API_FILES_MAX)), swept: AtomicU64::new(0) }
    }
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.scan.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn monitor(&self) -> MutexGuard<'_, Monitor> {
        self.scan.monitor.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn now(&self) -> Moment {
        Moment { wall: self.clock.now(), mono: self.clock.mono() }
    }
    /// Live leases of each worker.
    fn in_flight(&self) -> impl Fn(&str) -> u32 + 'static {
        let figures = self.scan.tasks.figures();
        move |worker| figures.in_flight.get(worker).map_or(0, |n| u32::try_from(*n).unwrap_or(u32::MAX))
    }
}

/// All routes, behind the door.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    let mut paths: BTreeMap<&'static str, Vec<&'static Route>> = BTreeMap::new();
    for route in routes::all() {
        paths.entry(route.path).or_default().push(route);
    }
    let mut router = Router::new();
    for (path, routes) in paths {
        let (shared, routes): (_, Arc<[_]>) = (shared.clone(), routes.into());
        router = router.route(path, any(move |request| dispatch(shared, routes, request)));
    }
    router.fallback(unknown)
}

/// No such route.
pub(super) async fn unknown() -> Response {
    Refusal::not_found("no_route", "there is no such route; /docs lists them").into_response()
}

/// A route that only shows was asked to do something.
pub(super) async fn only_shows() -> Response {
    let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this is asked by GET, HEAD");
    Refusal { allow: Some("GET, HEAD".into()), ..refusal }.into_response()
}

async fn dispatch(shared: Arc<Shared>, routes: Arc<[&'static Route]>, request: Request) -> Response {
    let mut response = answer(shared, &routes, request).await.unwrap_or_else(IntoResponse::into_response);
    if let Some(route) = routes.first() {
        response.extensions_mut().insert(Template(route.path));
    }
    response
}

async fn answer(shared: Arc<Shared>, routes: &[&'static Route], request: Request) -> Outcome {
    let (mut parts, body) = request.into_parts();
    let method = if parts.method == Method::HEAD { &Method::GET } else { &parts.method };
    let Some(route) = routes.iter().find(|route| route.verb.word() == method.as_str()) else {
        let mut allow: Vec<&str> = routes.iter().map(|route| route.verb.word()).collect();
        allow.sort_unstable();
        if allow.contains(&"GET") {
            allow.push("HEAD");
        }
        let allow = allow.join(", ");
        let message = format!("this is asked by {allow}");
        return Err(Refusal { allow: Some(allow), ..Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message) });
    };
    let who = parts.extensions.remove::<Who>();
    match (route.may, &who) {
        (May::Anybody, _) => {}
        (_, None) => return Err(Refusal::no_key()),
        (May::Has(role), Some(who)) if !who.is(role) => return Err(door::role(role)),
        (May::Own, Some(who)) if !who.is(Role::Worker) => return Err(door::role(Role::Worker)),
        _ => {}
    }
    if shared.scan.settings.role == Duty::Worker && route.path.starts_with("/distributed/") {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "not_enabled", "this node is a worker and distributes nothing; ask its master"));
    }
    let ids = table::ids(route.path, parts.uri.path()).unwrap_or_default();
    if ids.iter().any(|id| !schema::is_id(id)) {
        return Err(Refusal::not_found("not_found", "there is none with such an id"));
    }
    if let (May::Own, Some(who)) = (route.may, &who)
        && !ids.first().is_some_and(|id| who.is_worker(id))
    {
        return Err(Refusal::forbidden("other_worker", "this key is another worker's"));
    }
    let query = call::query(route.query, parts.uri.query().unwrap_or_default())?;
    let caller = parts.extensions.get::<ConnectInfo<Caller>>().map(|info| info.0.clone());
    let (read, bytes) = call::body(route, &parts, body, caller.as_ref()).await?;
    if let Some(caller) = &caller {
        caller.allow(limits::API_ANSWER_MS, 0);
    }
    let is_known = who.is_some();
    let who = who.unwrap_or_else(|| Who { name: String::new(), roles: Vec::new(), worker: None });
    (route.run)(shared, Call { who, is_known, caller, headers: parts.headers, ids, query, body: read, bytes: Mutex::new(bytes) }).await
}

#[cfg(test)]
pub(super) mod tests;
