//! The HTTP face: figures, health, a page, and the routes of scanning; on a loopback address, a unix socket, or by TLS.
//!
//! What it shows it takes from what the agent keeps anyway, on the edge thread, in
//! well under a millisecond; nothing here waits for a shard, a sink or the disk. Only a look at alerts may wait for a
//! Redis, or a second for a detector, and the routes of [`scan`] for their store; they hold up nobody else. A client that is
//! slow, silent or talkative loses its own connection and nothing else: one request a connection,
//! [`API_REQUEST_MS`](crate::limits::API_REQUEST_MS) for all of it unless it was let in to a route that takes more.
//!
//! - [`access`]: keys, roles, rates. Pure but for the keys file.
//! - [`door`]: what every request passes.
//! - [`scan`]: the only routes that change anything.
//!
//! Refuses to know a config. Start at [`serve`].

pub mod access;
mod alerts;
mod door;
mod figures;
mod health;
mod listen;
mod page;
mod refusal;
pub mod scan;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State as Of},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};

pub use access::{AccessError, Gate};
pub use alerts::Alerts;
pub use health::{Component, Health, Status, Stream};
pub use listen::{BindError, Bound, Listen};
pub use scan::{Hands, Later, Scan};

use crate::{
    clock::{Clock, SystemClock},
    io::usage,
    limits,
    metrics::{Behind, Board, BranchCounts, Counts, Metrics, Tries},
    store::StoreHandle,
};
use access::Who;
use door::{Audit, Door};
use listen::Caller;
use refusal::Refusal;

/// What the face shows.
pub struct Face {
    pub instance: String,
    /// `uring` or `pread`.
    pub engine: String,
    /// Sources and sinks of the plan, in its order.
    pub parts: Vec<Part>,
    /// After how long without a move a source counts as stalled; zero is never.
    pub stall_after: Duration,
    pub board: Board,
    pub metrics: Metrics,
    /// The clock of the homes, begun with the agent.
    pub clock: SystemClock,
    /// `None` where nothing is kept.
    pub store: Option<StoreHandle>,
    /// Bytes at which the dead letter is full.
    pub dead_letter_bytes_max: u64,
    pub alerts: Alerts,
    /// Who may come.
    pub gate: Gate,
    /// Where files are scanned.
    pub scan: Option<Scan>,
}

/// A component of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// As on the board: `sinks.dfn_cert`.
    pub name: String,
    pub kind: &'static str,
    /// Whether records wait for it.
    pub required: bool,
}

/// Every route, as an unknown path is told.
const ROUTES: [&str; 9] = door::OLDER;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN_METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Answers requests until it is dropped.
///
/// - `bound`: made safe by [`access::Settings::guard`], which gave the gate of `face`.
pub async fn serve(bound: Bound, face: Face) {
    let address = bound.address().to_owned();
    let connections = if face.scan.is_some() { limits::API_SCAN_CONNECTIONS_MAX } else { limits::API_CONNECTIONS_MAX };
    match bound.open(connections) {
        Ok(listener) => {
            tracing::info!(address, "api listens");
            // The listener retries by itself, so this ends with the thread.
            let _ = axum::serve(listener, router(face).into_make_service_with_connect_info::<Caller>()).await;
        }
        Err(error) => tracing::error!(address, %error, "api cannot listen; figures are in the log only"),
    }
}

struct Shown {
    face: Face,
    process: figures::Process,
}

/// One look at everything.
struct Look {
    health: Health,
    /// Components that asked another side for something, and how that went.
    tries: Vec<(String, Tries)>,
    /// What components count of their own.
    figures: Vec<(String, Vec<(String, i64)>)>,
    branches: Vec<(String, String, BranchCounts)>,
    uptime: Duration,
    checkpoint_age: Option<Duration>,
    dead_letter_bytes: u64,
}

impl Shown {
    fn look(&self) -> Look {
        let face = &self.face;
        let (now, mono) = (face.clock.now(), face.clock.mono());
        let behind: Vec<(String, Behind)> = face.metrics.sources(now, mono).into_iter().map(|(name, _, behind)| (name, behind)).collect();
        Look {
            health: Health::of(&face.parts, &face.board.standings(), &behind, face.stall_after),
            tries: face.board.tries(mono),
            figures: face.board.figures_told(),
            branches: face.metrics.branches(),
            uptime: Duration::from_nanos(mono),
            checkpoint_age: face.metrics.saved_at().map(|at| Duration::from_nanos(now.saturating_sub(at))),
            dead_letter_bytes: face.store.as_ref().map_or(0, StoreHandle::dead_letter_bytes),
        }
    }

    /// Everything that is known of it.
    fn health_told(&self, look: &Look) -> Value {
        let face = &self.face;
        let components: Vec<Value> = look
            .health
            .components
            .iter()
            .map(|c| {
                let mut told =
                    json!({"name": c.name, "kind": c.kind, "required": c.required, "state": c.state.word(), "text": c.state.to_string()});
                if let Some((_, tries)) = look.tries.iter().find(|(name, _)| *name == c.name) {
                    told["last_success_seconds"] = json!(tries.last_good.map(|since| since.as_secs_f64()));
                    told["last_5_minutes"] = json!({"succeeded": tries.good, "failed": tries.bad});
                }
                if let Some((_, figures)) = look.figures.iter().find(|(name, _)| *name == c.name) {
                    told["figures"] =
                        figures.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<serde_json::Map<_, _>>().into();
                }
                told
            })
            .collect();
        let usage = usage();
        let streams: Vec<Value> = look
            .health
            .streams
            .iter()
            .map(|s| {
                json!({
                    "source": s.source,
                    "lag_bytes": s.behind.lag(),
                    "unread_bytes": s.behind.unread,
                    "unacked_bytes": s.behind.unacked,
                    "lag_seconds": s.behind.age.as_secs_f64(),
                    "still_seconds": s.behind.still.as_secs_f64(),
                    "stalled": s.stalled,
                })
            })
            .collect();
        json!({
            "status": look.health.status.word(),
            "reasons": look.health.reasons,
            "version": VERSION,
            "instance": face.instance,
            "engine": face.engine,
            "uptime_seconds": look.uptime.as_secs_f64(),
            "resident_bytes": usage.resident_bytes,
            "cpu_seconds": usage.cpu.as_secs_f64(),
            "components": components,
            "streams": streams,
            "checkpoint_age_seconds": look.checkpoint_age.map(|age| age.as_secs_f64()),
            "dead_letter": {"bytes": look.dead_letter_bytes, "max_bytes": face.dead_letter_bytes_max},
        })
    }

    fn metrics_text(&self) -> String {
        let face = &self.face;
        let (now, mono) = (face.clock.now(), face.clock.mono());
        face.metrics.refresh(now, mono);
        let scanned = face.scan.as_ref().map(|scan| scan.text(&face.clock)).unwrap_or_default();
        self.process.text(face, mono, &scanned)
    }
}

fn router(mut face: Face) -> Router {
    let (gate, scan, clock) = (std::mem::take(&mut face.gate), face.scan.clone(), face.clock);
    let requests = Counts::default();
    let process = figures::Process::new(&face, requests.clone());
    let audit = scan.as_ref().map(|scan| {
        let tasks = scan.tasks.clone();
        // The answer of the store is not waited for: it is busy or ending where it cannot keep an entry, and says so.
        Box::new(move |entry| drop(tasks.audit(entry))) as Audit
    });
    let door = Arc::new(Door::new(gate, clock, requests, audit));
    let shown = Arc::new(Shown { face, process });
    let older = Router::new().route("/health/live", get(live)).route("/health/ready", get(ready)).merge(alerts::routes());
    let routes = match scan {
        None => {
            let older = older.route("/", get(page)).route("/metrics", get(metrics)).route("/health", get(health));
            older.fallback(unknown).method_not_allowed_fallback(not_allowed).with_state(shown)
        }
        Some(scan) => {
            let older = older.method_not_allowed_fallback(scan::only_shows).with_state(shown.clone());
            older.merge(scan::router(Arc::new(scan::Shared::new(scan, Box::new(shown), door.clone(), clock))))
        }
    };
    routes.layer(from_fn_with_state(door, door::pass))
}

impl scan::Front for Arc<Shown> {
    fn page(&self) -> String {
        page::page(&self.face, &self.look())
    }
    fn health(&self) -> (bool, bool, Value) {
        let look = self.look();
        (look.health.status == Status::Failing, look.health.status == Status::Ok, self.health_told(&look))
    }
    fn metrics(&self, asked: &HeaderMap) -> (String, &'static str) {
        (self.metrics_text(), content_type(asked))
    }
}

async fn metrics(Of(shown): Of<Arc<Shown>>, asked: HeaderMap) -> Response {
    ([(header::CONTENT_TYPE, content_type(&asked))], shown.metrics_text()).into_response()
}

/// The older text form reads ours too (its comments differ), so who asks for that alone gets its name.
fn content_type(asked: &HeaderMap) -> &'static str {
    let accept = asked.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("text/plain") && !accept.contains("openmetrics") { PLAIN_METRICS } else { OPENMETRICS }
}

async fn health(Of(shown): Of<Arc<Shown>>, request: Request) -> Response {
    let look = shown.look();
    let code = if look.health.status == Status::Failing { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let body = match request.extensions().get::<Who>() {
        Some(_) => shown.health_told(&look),
        None => json!({"status": look.health.status.word()}),
    };
    answer(code, &body)
}

/// That this is answered says it: the edge turns. It asks nobody, so an outage restarts nothing.
async fn live(Of(shown): Of<Arc<Shown>>) -> Response {
    answer(StatusCode::OK, &json!({"status": "live", "uptime_seconds": Duration::from_nanos(shown.face.clock.mono()).as_secs_f64()}))
}

async fn ready(Of(shown): Of<Arc<Shown>>) -> Response {
    let unready = shown.look().health.unready;
    let code = if unready.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let waiting: Vec<Value> =
        unready.iter().map(|c| json!({"name": c.name, "state": c.state.word(), "text": c.state.to_string()})).collect();
    answer(code, &json!({"status": if unready.is_empty() { "ready" } else { "not ready" }, "waiting_for": waiting}))
}

async fn page(Of(shown): Of<Arc<Shown>>, request: Request) -> Response {
    if request.extensions().get::<Who>().is_none() {
        return Refusal::no_key().into_response();
    }
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"),
    ];
    (headers, page::page(&shown.face, &shown.look())).into_response()
}

async fn unknown(uri: Uri) -> Response {
    answer(StatusCode::NOT_FOUND, &json!({"error": format!("no route {:?}", uri.path()), "routes": ROUTES}))
}

async fn not_allowed(method: Method) -> Response {
    let body = json!({"error": format!("{method} is not allowed; this face only shows, ask with GET"), "routes": ROUTES});
    let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, &body);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

fn answer(code: StatusCode, body: &Value) -> Response {
    (code, [(header::CONTENT_TYPE, "application/json")], format!("{body:#}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_the_older_form_alone_gets_its_name() {
        let cases = [
            (None, OPENMETRICS),
            (Some("*/*"), OPENMETRICS),
            (Some("text/plain;version=0.0.4"), PLAIN_METRICS),
            (Some("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"), OPENMETRICS),
        ];
        for (accept, expected) in cases {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(content_type(&headers), expected, "{accept:?}");
        }
    }
}
