//! Workers: who they are, whether they live, what they get.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::super::{
    Shared,
    call::Call,
    schema::{Schema, must, or},
    shapes::{COUNT, DONE, FREE, HEARTBEAT, NUMBER, REGISTRATION, TASK, TEXT, WORKER, list},
    table::{Brings, Holds, May, Outcome, Route, Verb, ok},
};
use crate::{
    api::{access::Role, listen::Caller, refusal::Refusal},
    scan::{
        settings::{Algorithm, QueueKind, Role as Duty},
        tasks::{Lease, Take},
        workers::{Heartbeat, Problem, Refusal as Refused, Registered, Registration},
    },
};

const ADMIN: May = May::Has(Role::Admin);
const VIEWER: May = May::Has(Role::Viewer);
const WORKER_DONE: Schema = Schema::Open(&[must("success", Schema::Bool, ""), must("worker_id", TEXT, ""), must("message", TEXT, "")]);

pub(super) static ROUTES: &[Route] = &[
    Route {
        verb: Verb::Post,
        path: "/distributed/start",
        may: ADMIN,
        doc: "Accepts and gives out tasks again.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(200, Holds::Json(DONE), "")],
        refusals: &[(409, "it runs already")],
        run: |shared, _| {
            Box::pin(async move {
                if !shared.scan.tasks.is_paused() {
                    return Err(Refusal::conflict("already_running", "distribution runs already"));
                }
                shared.scan.tasks.pause(false);
                ok(&json!({"success": true, "message": "started"}))
            })
        },
    },
    Route {
        verb: Verb::Post,
        path: "/distributed/stop",
        may: ADMIN,
        doc: "Gives out no more tasks and accepts none; what is under way ends.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(200, Holds::Json(DONE), "")],
        refusals: &[(409, "it is stopped already")],
        run: |shared, _| {
            Box::pin(async move {
                if shared.scan.tasks.is_paused() {
                    return Err(Refusal::conflict("already_stopped", "distribution is stopped already"));
                }
                shared.scan.tasks.pause(true);
                ok(&json!({"success": true, "message": "stopped"}))
            })
        },
    },
    Route {
        verb: Verb::Get,
        path: "/distributed/status",
        may: VIEWER,
        doc: "Queue, workers and settings.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(
            200,
            Holds::Json(Schema::Open(&[
                must("running", Schema::Bool, ""),
                must("message_queue", Schema::Open(&[must("type", TEXT, ""), must("queue_size", COUNT, "")]), ""),
                must(
                    "workers",
                    Schema::Open(&[must("total", COUNT, ""), must("healthy", COUNT, ""), must("workers", list(&WORKER), "")]),
                    "",
                ),
                must("load_balancer", Schema::Open(&[must("algorithm", TEXT, "")]), ""),
                must("tasks", FREE, "by state"),
                must("config", FREE, "in use, without secrets"),
            ])),
            "",
        )],
        refusals: &[],
        run: |shared, _| Box::pin(status(shared)),
    },
    Route {
        verb: Verb::Post,
        path: "/distributed/workers/register",
        may: May::Has(Role::Worker),
        doc: "Registers a worker, or a new life of it.",
        query: &[],
        brings: Brings::Json(REGISTRATION),
        answers: &[(
            200,
            Holds::Json(Schema::Open(&[
                must("success", Schema::Bool, ""),
                must("worker_id", TEXT, ""),
                must("message", TEXT, ""),
                must("timestamp", NUMBER, ""),
                must("requeued", COUNT, "tasks of an earlier life"),
            ])),
            "",
        )],
        refusals: &[(409, "a healthy worker has this id")],
        run: |shared, call| Box::pin(register(shared, call)),
    },
    Route {
        verb: Verb::Get,
        path: "/distributed/workers",
        may: VIEWER,
        doc: "All workers, by id.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(200, Holds::Json(Schema::Open(&[must("workers", list(&WORKER), "")])), "")],
        refusals: &[],
        run: |shared, _| {
            Box::pin(async move {
                let in_flight = shared.in_flight();
                let rows = shared.registry().rows(&in_flight, &shared.clock);
                ok(&json!({"workers": rows}))
            })
        },
    },
    Route {
        verb: Verb::Get,
        path: "/distributed/workers/{id}",
        may: May::Own,
        doc: "One worker.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(200, Holds::Json(WORKER), "")],
        refusals: &[],
        run: |shared, call| {
            Box::pin(async move {
                let in_flight = shared.in_flight();
                let row = shared.registry().row(call.id(), &in_flight, &shared.clock).ok_or_else(unknown)?;
                ok(&json!(row))
            })
        },
    },
    Route {
        verb: Verb::Delete,
        path: "/distributed/workers/{id}",
        may: May::Own,
        doc: "Forgets a worker; what it had is given to others.",
        query: &[],
        brings: Brings::Nothing,
        answers: &[(
            200,
            Holds::Json(Schema::Open(&[must("success", Schema::Bool, ""), must("worker_id", TEXT, ""), must("requeued", COUNT, "")])),
            "",
        )],
        refusals: &[],
        run: |shared, call| Box::pin(remove(shared, call)),
    },
    Route {
        verb: Verb::Put,
        path: "/distributed/workers/{id}/heartbeat",
        may: May::Own,
        doc: "Says that a worker lives; what is absent is as it was.",
        query: &[],
        brings: Brings::Json(HEARTBEAT),
        answers: &[(200, Holds::Json(WORKER_DONE), "")],
        refusals: &[(404, "it has to register")],
        run: |shared, call| Box::pin(heartbeat(shared, call)),
    },
    Route {
        verb: Verb::Post,
        path: "/distributed/workers/{id}/lease",
        may: May::Own,
        doc: "Gives tasks to a worker, as many as it has room for; waits for the first.",
        query: &[],
        brings: Brings::Json(Schema::Object(&[
            or("max", Schema::Whole { min: 1, max: 100 }, "1", ""),
            or("wait_s", Schema::Whole { min: 0, max: 30 }, "0", "seconds"),
        ])),
        answers: &[(
            200,
            Holds::Json(Schema::Open(&[must("tasks", list(&LEASED), "started: each with `deadline`, seconds since 1970, and `alone`")])),
            "",
        )],
        refusals: &[(404, "it has to register")],
        run: |shared, call| Box::pin(lease(shared, call)),
    },
];

const LEASED: Schema = TASK;

pub(super) fn unknown() -> Refusal {
    Refusal::not_found("no_worker", "there is no such worker; it has to register")
}

fn problems(problems: Vec<Problem>) -> Refusal {
    Refusal::fields(problems.into_iter().map(|problem| (problem.path, problem.problem)).collect())
}

/// Settings in use. No secrets: those are in files whose names are left out, and whatever stands in an address is masked.
pub(super) fn effective(shared: &Shared) -> Value {
    let settings = &shared.scan.settings;
    let queue = match &settings.queue.kind {
        QueueKind::Memory => json!({"kind": "memory"}),
        QueueKind::Rabbitmq(rabbitmq) => json!({"kind": "rabbitmq", "url": masked(&rabbitmq.url), "queue": rabbitmq.queue}),
        QueueKind::Kafka(kafka) => json!({"kind": "kafka", "brokers": kafka.brokers, "topic": kafka.topic, "group": kafka.group}),
    };
    let roots: Vec<Value> =
        settings.roots.iter().map(|root| json!({"name": root.name, "watch": root.watch, "depth": root.depth})).collect();
    let role = match settings.role {
        Duty::Master => "master",
        Duty::Worker => "worker",
        Duty::Both => "both",
    };
    json!({
        "role": role,
        "roots": roots,
        "file_bytes_max": settings.file_bytes_max,
        "timeout_s": settings.timeout_s,
        "mime_types": settings.mime_types,
        "extensions": settings.extensions,
        "children": settings.children,
        "queue": queue,
        "queue_size_max": settings.queue.size_max,
        "attempts_max": settings.queue.attempts_max,
        "task_ttl_s": settings.queue.task_ttl_s,
        "heartbeat_s": settings.workers.heartbeat_s,
        "offline_s": settings.workers.offline_s,
        "workers_max": settings.workers.max,
        "algorithm": algorithm(settings.balance.algorithm),
    })
}

fn algorithm(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::LoadBased => "load_based",
        Algorithm::RoundRobin => "round_robin",
        Algorithm::CapabilityBased => "capability_based",
    }
}

/// An address without what stands before its `@`.
fn masked(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://***@{host}"),
        _ => url.to_owned(),
    }
}

async fn status(shared: Arc<Shared>) -> Outcome {
    let figures = shared.scan.tasks.figures();
    let in_flight = shared.in_flight();
    let config = effective(&shared);
    let rows = shared.registry().rows(&in_flight, &shared.clock);
    let healthy = rows.iter().filter(|row| row.status == crate::scan::workers::Status::Healthy).count();
    ok(&json!({
        "running": !shared.scan.tasks.is_paused(),
        "message_queue": {"type": config["queue"]["kind"], "queue_size": figures.queued},
        "workers": {"total": rows.len(), "healthy": healthy, "workers": rows},
        "load_balancer": {"algorithm": config["algorithm"]},
        "tasks": {"queued": figures.queued, "leased": figures.leased, "done": figures.done, "dead": figures.dead, "cancelled": figures.cancelled},
        "config": config,
    }))
}

/// All that a host's name resolves to.
async fn addresses(host: &str, port: u16) -> Vec<IpAddr> {
    if let Ok(address) = host.parse() {
        return vec![address];
    }
    let looked = tokio::time::timeout(Duration::from_secs(5), tokio::net::lookup_host((host, port))).await;
    match looked {
        Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
        _ => Vec::new(),
    }
}

async fn register(shared: Arc<Shared>, call: Call) -> Outcome {
    let address = call.caller.as_ref().and_then(Caller::address);
    shared.door.gate.register(address, shared.now().mono).map_err(Refusal::too_many)?;
    let empty = serde_json::Map::new();
    let registration = Registration::parse(call.body.as_object().unwrap_or(&empty)).map_err(problems)?;
    let id = registration.worker_id.clone();
    if !call.who.is_worker(&id) {
        return Err(Refusal::forbidden("other_worker", "this key is another worker's"));
    }
    let found = addresses(&registration.host, registration.port).await;
    let (registered, kept) = {
        let mut registry = shared.registry();
        let registered = registry.register(registration, &found, address, &shared.clock).map_err(|refused| {
            let (code, message) = (refused.code(), refused.to_string());
            match refused {
                Refused::Taken(_) => Refusal::conflict(code, message),
                Refused::TooMany(_) => Refusal::away(code, message, 60),
                Refused::Host | Refused::Caller => Refusal::forbidden(code, message),
            }
        })?;
        (registered, registry.kept(&id).map(|kept| json!(kept)))
    };
    let requeued = match registered {
        Registered::New => 0,
        Registered::Replaced => shared.scan.tasks.lost(&id).await.map_err(super::away)?,
    };
    if let Some(kept) = kept {
        shared.scan.tasks.put_worker(&id, kept).await.map_err(super::away)?;
    }
    let message = if registered == Registered::New { "registered" } else { "registered in place of an earlier one" };
    ok(&json!({"success": true, "worker_id": id, "message": message, "timestamp": shared.now().seconds(), "requeued": requeued}))
}

async fn remove(shared: Arc<Shared>, call: Call) -> Outcome {
    if !shared.registry().remove(call.id()) {
        return Err(unknown());
    }
    let requeued = shared.scan.tasks.lost(call.id()).await.map_err(super::away)?;
    shared.scan.tasks.remove_worker(call.id()).await.map_err(super::away)?;
    ok(&json!({"success": true, "worker_id": call.id(), "message": "removed", "requeued": requeued}))
}

async fn heartbeat(shared: Arc<Shared>, call: Call) -> Outcome {
    let empty = serde_json::Map::new();
    let heartbeat = Heartbeat::parse(call.body.as_object().unwrap_or(&empty)).map_err(problems)?;
    let (running, kept) = {
        let mut registry = shared.registry();
        let running = registry.heartbeat(call.id(), heartbeat, &shared.clock).ok_or_else(unknown)?;
        (running, registry.kept(call.id()).map(|kept| json!(kept)))
    };
    if !running.is_empty() {
        shared.scan.tasks.extend(call.id(), &running).await.map_err(super::away)?;
    }
    if let Some(kept) = kept {
        shared.scan.tasks.put_worker(call.id(), kept).await.map_err(super::away)?;
    }
    ok(&json!({"success": true, "worker_id": call.id(), "message": "heard"}))
}

/// A task as a worker gets it.
fn leased(lease: &Lease) -> Value {
    let mut told = json!(lease.task);
    told["deadline"] = json!(lease.deadline as f64 / 1e9);
    told["alone"] = json!(lease.alone);
    told
}

#[allow(clippy::disallowed_methods, reason = "a wait for tasks of others, which is no business of the simulated machine")]
async fn lease(shared: Arc<Shared>, call: Call) -> Outcome {
    let max = call.body["max"].as_u64().and_then(|max| u32::try_from(max).ok()).unwrap_or(1);
    let deadline = Instant::now() + Duration::from_secs(call.body["wait_s"].as_u64().unwrap_or(0).min(30));
    // A handle of its own waits for what this worker can do.
    let tasks = shared.scan.tasks.clone();
    loop {
        let in_flight = shared.in_flight()(call.id());
        let (able, room) = {
            let registry = shared.registry();
            registry.status(call.id(), &shared.clock).ok_or_else(unknown)?;
            (registry.offered(call.id(), &shared.clock), registry.room(call.id(), in_flight, &shared.clock))
        };
        let wanted = max.min(room) as usize;
        if wanted > 0 {
            let leases = tasks.lease(call.id(), &able, wanted, Take::Started).await.map_err(super::away)?;
            if !leases.is_empty() {
                return ok(&json!({"tasks": leases.iter().map(leased).collect::<Vec<_>>()}));
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return ok(&json!({"tasks": []}));
        }
        if wanted > 0 {
            let _ = tokio::time::timeout(left, tasks.ready()).await;
        } else {
            tokio::time::sleep(left.min(Duration::from_secs(1))).await;
        }
    }
}
