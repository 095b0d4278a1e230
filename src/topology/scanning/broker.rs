//! The broker that brings tasks to other hosts, where the config names one.

use std::sync::Arc;

use super::{settings::ScanPlan, start::Shared};
use crate::{
    metrics::Standing,
    net::kafka::settings::Connection,
    ring::Signal,
    scan::{
        queue::{
            desk::{Board, Desk},
            kafka,
        },
        settings::{QueueKind, Role},
    },
};
#[cfg(feature = "scan")]
use crate::{metrics::State, scan::queue::rabbitmq};

/// How this agent is called among those that share a broker: of an instance's name, what a name of a node may hold.
fn node(instance: &str) -> String {
    let plain: String = instance.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' }).collect();
    plain.chars().take(128).collect()
}

fn desk(shared: &Shared, instance: &str, board: &Arc<Board>) -> Desk {
    let roots = shared.roots.clone();
    let resolve = move |root: Option<&str>, path: &[u8]| roots.resolve(root, path).ok().map(|(root, path)| (root.to_owned(), path));
    let slots = if shared.plan.settings.role == Role::Master { 0 } else { shared.children };
    Desk::new(shared.tasks.clone(), node(instance), Arc::new(resolve), Arc::new(shared.clock), slots, board.clone())
}

/// Asks the broker whether it works with us; one that is away may come.
///
/// # Errors
/// What a person must mend.
#[cfg(feature = "scan")]
pub(super) fn check(plan: &ScanPlan, instance: &str) -> Result<(), String> {
    let settings = &plan.settings;
    let QueueKind::Rabbitmq(rabbitmq) = settings.queue.kind.clone() else { return Ok(()) };
    if settings.role == Role::Worker {
        return Ok(()); // it asks its master
    }
    let place = rabbitmq::Place::new(rabbitmq, node(instance), settings.queue.size_max);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(place.check())
}

/// Without RabbitMQ in the build there is nothing to ask.
#[cfg(not(feature = "scan"))]
pub(super) fn check(_: &ScanPlan, _: &str) -> Result<(), String> {
    Ok(())
}

/// Runs until `stop`; at once where there is no broker.
pub(super) async fn run(shared: Arc<Shared>, instance: String, stop: Arc<Signal>, standing: Option<Standing>) {
    match shared.plan.settings.queue.kind.clone() {
        QueueKind::Memory => {}
        QueueKind::Kafka(settings) => {
            let board = Arc::new(Board::shown("kafka", standing));
            let connection = Connection { client_id: format!("shipper-{}", node(&instance)), ..Connection::default() };
            let broker = kafka::Broker::new(connection, settings, desk(&shared, &instance, &board));
            broker.run(stop.wait()).await;
        }
        #[cfg(feature = "scan")]
        QueueKind::Rabbitmq(settings) => {
            let board = Arc::new(Board::shown("rabbitmq", standing));
            let broker = rabbitmq::Broker::new(settings, desk(&shared, &instance, &board), shared.plan.settings.queue.size_max);
            if let Err(why) = broker.run(stop.wait()).await {
                board.stands(State::Holding(why));
            }
        }
        #[cfg(not(feature = "scan"))]
        QueueKind::Rabbitmq(_) => {}
    }
}
