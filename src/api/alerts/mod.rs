//! Alerts over HTTP: the newest first, one by its id, their sums, and what an entity does as a rule.
//!
//! They come from Redis where a sink keeps them there, else from the newest in memory; from memory as well while
//! Redis is away. The header `shipper-alerts` says which it was. A page that is not the last one has a header `link` with
//! the address of the next.
//!
//! - [`asked`]: what a request asks for. Pure.
//! - [`store`]: alerts in Redis, read.

mod asked;
mod store;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Path, Query as Params, State as Of},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Map, Value, json};

use super::{Shown, answer};
use crate::{
    clock::Clock,
    detect::kept::{Before, Behaviour, Kept, Keys, Query, Questions, Recent, Stats},
    limits,
    net::redis::Settings as Server,
};
use store::{Failed, Store};

/// Which of the two told.
const FROM: HeaderName = HeaderName::from_static("shipper-alerts");
/// Milliseconds between two looks for the answer of a detector.
const LOOK_MS: u64 = 20;

/// Where the face finds alerts.
#[derive(Debug, Default)]
pub struct Alerts {
    recent: Option<Arc<Recent>>,
    store: Option<Store>,
    /// Of each detector.
    questions: Vec<Arc<Questions>>,
}

impl Alerts {
    /// The newest are in memory, here. Of several the first counts.
    pub fn in_memory(&mut self, recent: Arc<Recent>) {
        self.recent.get_or_insert(recent);
    }
    /// They are in this Redis. Of several the first counts.
    pub fn in_redis(&mut self, server: Server, keys: Keys) {
        self.store.get_or_insert_with(|| Store::new(server, keys));
    }
    /// The newest in memory.
    pub(super) fn newest(&self, limit: usize) -> Vec<Arc<Kept>> {
        let query = Query { limit, ..Query::default() };
        self.recent.as_ref().and_then(|recent| recent.page(&query)).unwrap_or_default()
    }
    /// A detector answers these.
    pub fn ask(&mut self, questions: Arc<Questions>) {
        self.questions.push(questions);
    }
}

/// One page.
struct Page {
    alerts: Vec<String>,
    /// Id behind which the next page begins, if there may be one.
    next: Option<String>,
}

/// Why there is no answer.
enum Refused {
    /// Nothing keeps alerts.
    Nowhere,
    /// What was asked for is not there.
    Unknown(String),
    Away(String),
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (code, what) = match self {
            Self::Nowhere => (
                StatusCode::NOT_FOUND,
                "nothing keeps alerts; add a sink of kind memory, or of kind redis with form = \"alerts\"".to_owned(),
            ),
            Self::Unknown(what) => (StatusCode::NOT_FOUND, what),
            Self::Away(what) => (StatusCode::SERVICE_UNAVAILABLE, what),
        };
        answer(code, &json!({"error": what}))
    }
}

pub(super) fn routes() -> Router<Arc<Shown>> {
    Router::new()
        .route("/api/alerts", get(list))
        .route("/api/alerts/{id}", get(one))
        .route("/api/stats", get(stats))
        .route("/api/entity/{id}", get(entity))
}

async fn list(Of(shown): Of<Arc<Shown>>, Params(asked): Params<Vec<(String, String)>>) -> Response {
    let now_ms = i64::try_from(shown.face.clock.now() / 1_000_000).unwrap_or(i64::MAX);
    let query = match asked::query(&asked, now_ms) {
        Ok(query) => query,
        Err(what) => return answer(StatusCode::BAD_REQUEST, &json!({"error": what})),
    };
    let (page, from) = match shown.face.alerts.page(&query).await {
        Ok(page) => page,
        Err(refused) => return refused.into_response(),
    };
    let mut body = String::with_capacity(page.alerts.iter().map(|alert| alert.len() + 2).sum::<usize>() + 4);
    body.push('[');
    for (n, alert) in page.alerts.iter().enumerate() {
        body.push_str(if n > 0 { ",\n" } else { "\n" });
        body.push_str(alert);
    }
    body.push_str("\n]\n");
    let mut response = told(body, from);
    let next = page.next.and_then(|next| HeaderValue::from_str(&asked::link(&asked, &next)).ok());
    if let Some(next) = next {
        response.headers_mut().insert(header::LINK, next);
    }
    response
}

async fn one(Of(shown): Of<Arc<Shown>>, Path(id): Path<String>) -> Response {
    match shown.face.alerts.get(&id).await {
        Ok((alert, from)) => told(alert + "\n", from),
        Err(refused) => refused.into_response(),
    }
}

async fn stats(Of(shown): Of<Arc<Shown>>) -> Response {
    let (stats, from) = match shown.face.alerts.stats().await {
        Ok(stats) => stats,
        Err(refused) => return refused.into_response(),
    };
    let days: Vec<Value> = stats.days.iter().map(|(date, count)| json!({"date": date, "count": count})).collect();
    // The four of the scale that people look for are always there.
    let mut severities: Map<String, Value> =
        ["Critical", "High", "Medium", "Low"].map(|word| (word.to_owned(), json!(0))).into_iter().collect();
    severities.extend(stats.severities.iter().map(|(word, count)| (word.clone(), json!(count))));
    let body = json!({
        "alert_count": stats.alerts,
        "severity_counts": severities,
        "source_counts": stats.sources,
        "entity_counts": stats.entities,
        "timeline_data": days,
    });
    told(format!("{body:#}\n"), from)
}

async fn entity(Of(shown): Of<Arc<Shown>>, Path(entity): Path<String>) -> Response {
    let alerts = &shown.face.alerts;
    let (behaviour, of) = match alerts.detected(&entity).await {
        Some(behaviour) => (behaviour, "detector"),
        None => match alerts.shown(&entity).await {
            Ok(behaviour) => (behaviour, "alerts"),
            Err(refused) => return refused.into_response(),
        },
    };
    let mut body = Map::new();
    body.insert("entity".into(), json!(entity));
    body.insert("of".into(), json!(of));
    if let Value::Object(members) = behaviour.json() {
        body.extend(members);
    }
    answer(StatusCode::OK, &Value::Object(body))
}

fn told(body: String, from: &'static str) -> Response {
    let headers = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json")), (FROM, HeaderValue::from_static(from))];
    (headers, Body::from(body)).into_response()
}

impl Alerts {
    /// What Redis said, else what memory has; that as well while Redis is away.
    fn or_memory<T>(
        &self,
        asked: Option<Result<T, Failed>>,
        of: impl FnOnce(&Recent) -> Result<T, Refused>,
    ) -> Result<(T, &'static str), Refused> {
        let away = match asked {
            Some(Ok(found)) => return Ok((found, "redis")),
            Some(Err(Failed::Unknown(what))) => return Err(Refused::Unknown(what)),
            Some(Err(Failed::Away(what))) => Some(what),
            None => None,
        };
        match (&self.recent, away) {
            (Some(recent), _) => of(recent).map(|found| (found, "memory")),
            (None, Some(what)) => Err(Refused::Away(what)),
            (None, None) => Err(Refused::Nowhere),
        }
    }

    async fn page(&self, query: &Query) -> Result<(Page, &'static str), Refused> {
        let asked = match &self.store {
            Some(store) => Some(store.page(query).await),
            None => None,
        };
        self.or_memory(asked, |recent| page_of(recent, query))
    }

    async fn get(&self, id: &str) -> Result<(String, &'static str), Refused> {
        let unknown = || format!("no alert has the id {id:?}, or it is past its retention");
        let asked = match &self.store {
            Some(store) => Some(store.get(id).await.and_then(|found| found.ok_or_else(|| Failed::Unknown(unknown())))),
            None => None,
        };
        let kept = |recent: &Recent| recent.get(id).ok_or_else(|| Refused::Unknown(unknown()));
        self.or_memory(asked, |recent| Ok(String::from_utf8_lossy(&kept(recent)?.json).into_owned()))
    }

    async fn stats(&self) -> Result<(Stats, &'static str), Refused> {
        let asked = match &self.store {
            Some(store) => Some(store.stats().await),
            None => None,
        };
        self.or_memory(asked, |recent| Ok(recent.stats()))
    }

    /// What the alerts of an entity show.
    async fn shown(&self, entity: &str) -> Result<Behaviour, Refused> {
        let query = Query { entity: Some(entity.to_owned()), ..Query::default() };
        let (page, _) = self.page(&query).await?;
        Behaviour::of_alerts(page.alerts.iter().map(String::as_bytes))
            .ok_or_else(|| Refused::Unknown(format!("nothing is known of an entity {entity:?}")))
    }

    /// What a detector knows of an entity.
    async fn detected(&self, entity: &str) -> Option<Behaviour> {
        let asked: Vec<_> = self.questions.iter().filter_map(|questions| questions.ask(entity)).collect();
        if asked.is_empty() {
            return None;
        }
        for _ in 0..limits::QUESTION_MS.div_ceil(LOOK_MS) {
            if let Some(behaviour) = asked.iter().find_map(|asked| asked.answer()) {
                return Some(behaviour);
            }
            #[allow(clippy::disallowed_methods, reason = "a server of real sockets; the simulator has none")]
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
        None
    }
}

fn page_of(recent: &Recent, query: &Query) -> Result<Page, Refused> {
    let kept = recent.page(query).ok_or_else(|| Refused::Unknown(unknown_start(query)))?;
    let (mut page, mut bytes) = (Page { alerts: Vec::new(), next: None }, 0);
    for of in &kept {
        if bytes >= limits::ALERTS_PAGE_BYTES {
            return Ok(page);
        }
        bytes += of.json.len();
        page.next = Some(of.brief.id.clone());
        page.alerts.push(String::from_utf8_lossy(&of.json).into_owned());
    }
    page.next.take_if(|_| kept.len() < query.limit);
    Ok(page)
}

/// The alert behind which a page should begin is not there.
fn unknown_start(query: &Query) -> String {
    let id = match &query.before {
        Some(Before::Alert(id)) => id.as_str(),
        _ => "",
    };
    format!("no alert has the id {id:?} that before names, or it is past its retention; begin at the newest, or with a time")
}
