//! Tasks that are brought to workers which wait to be called, where this host's own children leave something over.
//!
//! A worker that cannot be called asks by itself: after one call in vain it is left alone until it registers again.

use std::{collections::BTreeSet, rc::Rc, sync::Arc, time::Duration};

use super::start::Shared;
use crate::{
    clock::Nanos,
    io::Io,
    net::{http, secret::Secret},
    scan::{
        task::Task,
        tasks::{Away, Loss, Take},
        workers::{
            Pick, Status,
            push::{Push, Pushed},
        },
    },
};

/// Between two looks for a worker that can be called.
const NOBODY: Duration = Duration::from_secs(30);
/// Between two looks for one that has room.
const NO_ROOM: Duration = Duration::from_secs(1);

/// A worker since it registered.
type Life = (String, Nanos);

/// Runs until the thread ends.
pub(super) async fn run(shared: Arc<Shared>, io: Rc<dyn Io>) {
    let worker = &shared.plan.worker;
    let key = worker.key_file.as_deref().map(|path| Secret::named("scan.worker.key_file", path)).transpose();
    let key = key.unwrap_or_else(|why| {
        tracing::error!("workers are called without a key: {why}");
        None
    });
    let tls = http::Settings {
        base: String::new(),
        verify: true,
        ca: worker.ca.clone(),
        own: None,
        proxy: None,
        connect_timeout: NO_ROOM,
        timeout: NO_ROOM,
        body_max: 0,
        idle_connections: 1,
    };
    let pusher = Pusher { push: Push::new(tls, key), shared };
    let mut deaf: BTreeSet<Life> = BTreeSet::new();
    loop {
        let others = pusher.lives();
        deaf.retain(|life| others.contains(life));
        if others.len() == deaf.len() {
            io.sleep(NOBODY).await;
            continue;
        }
        pusher.shared.tasks.ready().await;
        match pusher.next(&io, &mut deaf).await {
            Ok(true) => {}
            Ok(false) => io.sleep(NO_ROOM).await,
            Err(Away::Closed) => return,
            Err(_) => io.sleep(NO_ROOM).await,
        }
    }
}

struct Pusher {
    push: Push,
    shared: Arc<Shared>,
}

impl Pusher {
    /// Workers that are well.
    fn lives(&self) -> BTreeSet<Life> {
        let registry = self.shared.registry();
        let rows = registry.rows(&|_| 0, &self.shared.clock);
        let well = rows.into_iter().filter(|row| row.status == Status::Healthy);
        well.filter_map(|row| registry.kept(&row.worker_id).map(|kept| (row.worker_id.clone(), kept.registered))).collect()
    }

    /// Brings the next task to a worker; false if there is none that has room, or nothing to bring.
    async fn next(&self, io: &Rc<dyn Io>, deaf: &mut BTreeSet<Life>) -> Result<bool, Away> {
        let shared = &self.shared;
        let Some(task) = shared.tasks.peek(1).await?.pop() else { return Ok(false) };
        let mut passed_over: BTreeSet<String> = deaf.iter().map(|(worker, _)| worker.clone()).collect();
        loop {
            let figures = shared.tasks.figures();
            let in_flight = |worker: &str| figures.in_flight.get(worker).map_or(0, |n| u32::try_from(*n).unwrap_or(u32::MAX));
            let picked = shared.registry().pick(&task.required_capabilities, &in_flight, &passed_over, io.clock());
            let Pick::Worker(worker) = picked else { return Ok(false) };
            if self.bring(&worker, &task, deaf).await? {
                return Ok(true);
            }
            passed_over.insert(worker);
        }
    }

    /// Brings a task to a worker; false if another one may have it. True also if somebody else was faster.
    async fn bring(&self, worker: &str, task: &Task, deaf: &mut BTreeSet<Life>) -> Result<bool, Away> {
        let tasks = &self.shared.tasks;
        let place = {
            let registry = self.shared.registry();
            let registered = registry.kept(worker).map(|kept| kept.registered);
            registry.place(worker).map(|(host, address, port)| (host.to_owned(), address, port)).zip(registered)
        };
        let Some(((host, address, port), registered)) = place else { return Ok(false) };
        let mut leases = tasks.lease(worker, &task.required_capabilities, 1, Take::This(task.task_id.clone())).await?;
        let Some(lease) = leases.pop() else { return Ok(true) };
        let id = &lease.task.task_id;
        match self.push.task(&host, address, port, &lease.task).await {
            Pushed::Accepted => {
                tasks.started(worker, id).await?;
                Ok(true)
            }
            Pushed::Full => {
                tasks.give_back(worker, id, Loss::Refused).await?;
                Ok(false)
            }
            Pushed::Failed(why) => {
                tracing::info!(worker, "a worker cannot be called, and may ask for tasks by itself: {}", super::give::plain(&why));
                deaf.insert((worker.to_owned(), registered));
                tasks.give_back(worker, id, Loss::Refused).await?;
                Ok(false)
            }
        }
    }
}
