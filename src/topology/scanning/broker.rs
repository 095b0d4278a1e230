//! The broker that brings tasks to other hosts, where the config names one.

use std::{rc::Rc, sync::Arc, time::Duration};

use super::start::Shared;
#[cfg(feature = "scan")]
use crate::scan::queue::rabbitmq;
use crate::{
    io::Io,
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

/// Runs until `stop`; at once where there is no broker.
pub(super) async fn run(shared: Arc<Shared>, io: Rc<dyn Io>, instance: String, stop: Arc<Signal>, standing: Option<Standing>) {
    match shared.plan.settings.queue.kind.clone() {
        QueueKind::Memory => {}
        QueueKind::Kafka(settings) => {
            let board = Arc::new(Board::new("kafka"));
            let connection = Connection { client_id: format!("shipper-{}", node(&instance)), ..Connection::default() };
            let broker = kafka::Broker::new(connection, settings, desk(&shared, &instance, &board));
            tokio::select! {
                () = broker.run(stop.wait()) => {}
                () = shown(&io, standing, &board) => {}
            }
        }
        #[cfg(feature = "scan")]
        QueueKind::Rabbitmq(settings) => {
            let board = Arc::new(Board::new("rabbitmq"));
            let broker = rabbitmq::Broker::new(settings, desk(&shared, &instance, &board), shared.plan.settings.queue.size_max);
            let ran = tokio::select! {
                ran = broker.run(stop.wait()) => ran,
                () = shown(&io, standing.clone(), &board) => Ok(()),
            };
            if let (Err(why), Some(standing)) = (ran, standing) {
                tracing::error!("the broker is not used: {why}");
                standing.set(crate::metrics::State::Holding(why));
            }
        }
        #[cfg(not(feature = "scan"))]
        QueueKind::Rabbitmq(_) => {}
    }
}

/// Says on the agent's board how the broker stands, for ever.
async fn shown(io: &Rc<dyn Io>, standing: Option<Standing>, board: &Board) {
    loop {
        if let Some(standing) = &standing {
            let now = board.state();
            if standing.get() != now {
                standing.set(now);
            }
        }
        io.sleep(Duration::from_secs(1)).await;
    }
}
