//! The workers that are known here.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    balance::{self, Candidate, Choice},
    registration::{Heartbeat, Registration},
};
use crate::{
    clock::{Clock, Nanos},
    scan::{
        settings::{Algorithm, Balance, Workers as Settings},
        task::{Capability, TaskId},
    },
};

/// How a worker stands, by the time since it was heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Up to 0.8 of `offline_s`.
    Healthy,
    /// It gets nothing new.
    Unhealthy,
    /// Beyond `offline_s`: what it had is taken from it.
    Offline,
}

/// A registration that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    New,
    /// In place of an earlier one of the same id, whose leases are to be taken back.
    Replaced,
}

/// Why a registration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 409.
    #[error("worker {0} is registered and healthy; stop that one, or give this one an id of its own")]
    Taken(String),
    /// 503.
    #[error("{0} workers are registered, which is all that scan.workers.max allows; raise it, or remove some")]
    TooMany(usize),
    /// 403.
    #[error("the worker's host is not one of scan.workers.hosts; add its network there if it may be called")]
    Host,
    /// 403.
    #[error("the caller's address is not one of scan.workers.hosts; add its network there if workers may call from it")]
    Caller,
}

impl Refusal {
    /// A word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Taken(_) => "worker_exists",
            Self::TooMany(_) => "too_many_workers",
            Self::Host => "host_not_allowed",
            Self::Caller => "address_not_allowed",
        }
    }
}

/// Who gets a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    Worker(String),
    /// It waits.
    Nobody,
}

/// A worker as it is listed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub worker_id: String,
    pub host: String,
    pub port: u16,
    pub capabilities: BTreeSet<Capability>,
    pub status: Status,
    /// Seconds since 1970.
    pub last_heartbeat: f64,
    /// As it says.
    pub current_tasks: u64,
    /// As the leases say.
    pub in_flight: u32,
    pub max_tasks: u32,
    pub total_processed: u64,
    pub error_count: u64,
    /// Seconds.
    pub average_processing_time: f64,
    /// Percent, as it says.
    pub cpu_usage: Option<f64>,
    pub memory_usage: Option<f64>,
    /// 0 to 1.
    pub load_factor: f64,
    /// Seconds since it registered.
    pub uptime: f64,
    pub metadata: Map<String, Value>,
}

/// What is kept of a worker over a restart of this process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    #[serde(flatten)]
    pub registration: Registration,
    /// Where it may be called.
    pub address: IpAddr,
    /// Wall time, nanoseconds since 1970.
    pub registered: Nanos,
    /// Wall time of its last sign of life.
    pub heard: Nanos,
    pub current_tasks: u64,
    pub total_processed: u64,
    pub error_count: u64,
    pub average_processing_time: f64,
    /// Percent.
    pub cpu_usage: Option<f64>,
    pub memory_usage: Option<f64>,
}

#[derive(Clone, Debug)]
struct Worker {
    kept: Kept,
    /// Monotonic time of its last sign of life; before this process began for one of an earlier life of ours.
    heard: i64,
    /// Number of its last turn.
    used: Option<u64>,
    /// It was told that this one is offline.
    is_told: bool,
}

/// All workers. Every call is handed the clock or asks nothing of it.
#[derive(Debug)]
pub struct Registry {
    settings: Settings,
    balance: Balance,
    workers: BTreeMap<String, Worker>,
    /// Turns so far.
    turns: u64,
    /// Who had the last one.
    last: Option<String>,
    /// Tasks that went to a worker which cannot do all that they ask for.
    incapable: u64,
}

impl Registry {
    /// Nobody yet.
    pub fn new(settings: Settings, balance: Balance) -> Self {
        Self { settings, balance, workers: BTreeMap::new(), turns: 0, last: None, incapable: 0 }
    }

    /// Takes over what was kept. A worker that was last heard of long ago is offline at once.
    pub fn restore(&mut self, kept: Vec<Kept>, clock: &dyn Clock) {
        let (wall, mono) = (clock.now(), signed(clock.mono()));
        for kept in kept {
            let age = signed(wall.saturating_sub(kept.heard));
            let worker = Worker { heard: mono.saturating_sub(age), used: None, is_told: false, kept };
            self.workers.insert(worker.kept.registration.worker_id.clone(), worker);
        }
    }

    /// New settings. Workers whose network is not allowed any more stay until they register again.
    pub fn reload(&mut self, settings: Settings, balance: Balance) {
        (self.settings, self.balance) = (settings, balance);
    }

    /// Registers a worker.
    ///
    /// - `addresses`: all that its host resolves to; it is called at the first one.
    /// - `caller`: where the request came from; `None` for one from within this host's own process or socket.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn register(
        &mut self,
        registration: Registration,
        addresses: &[IpAddr],
        caller: Option<IpAddr>,
        clock: &dyn Clock,
    ) -> Result<Registered, Refusal> {
        if caller.is_some_and(|caller| !self.is_allowed(caller)) {
            return Err(Refusal::Caller);
        }
        // All of them: a name with one address inside and one outside is a way out.
        let Some(address) = addresses.first().copied().filter(|_| addresses.iter().all(|each| self.is_allowed(*each))) else {
            return Err(Refusal::Host);
        };
        let (wall, mono) = (clock.now(), clock.mono());
        let id = registration.worker_id.clone();
        let registered = match self.workers.get(&id) {
            Some(old) => {
                let is_same = old.kept.registration.instance_id.is_some() && old.kept.registration.instance_id == registration.instance_id;
                if !is_same && self.status_of(old, mono) == Status::Healthy {
                    return Err(Refusal::Taken(id));
                }
                Registered::Replaced
            }
            None if self.workers.len() >= self.settings.max => return Err(Refusal::TooMany(self.settings.max)),
            None => Registered::New,
        };
        let kept = Kept {
            registration,
            address,
            registered: wall,
            heard: wall,
            current_tasks: 0,
            total_processed: 0,
            error_count: 0,
            average_processing_time: 0.0,
            cpu_usage: None,
            memory_usage: None,
        };
        self.workers.insert(id, Worker { kept, heard: signed(mono), used: None, is_told: false });
        Ok(registered)
    }

    /// Takes a heartbeat, and gives back the tasks whose leases go on; `None` for an unknown worker, which is to register.
    pub fn heartbeat(&mut self, id: &str, heartbeat: Heartbeat, clock: &dyn Clock) -> Option<Vec<TaskId>> {
        let worker = self.workers.get_mut(id)?;
        (worker.heard, worker.kept.heard, worker.is_told) = (signed(clock.mono()), clock.now(), false);
        let kept = &mut worker.kept;
        let keep = |old: &mut u64, new: Option<u64>| *old = new.unwrap_or(*old);
        keep(&mut kept.current_tasks, heartbeat.current_tasks);
        keep(&mut kept.total_processed, heartbeat.total_processed);
        keep(&mut kept.error_count, heartbeat.error_count);
        if let Some(seconds) = heartbeat.average_processing_time {
            let before = kept.average_processing_time;
            kept.average_processing_time = if before > 0.0 { before * 0.9 + seconds * 0.1 } else { seconds };
        }
        kept.cpu_usage = heartbeat.cpu_usage.or(kept.cpu_usage);
        kept.memory_usage = heartbeat.memory_usage.or(kept.memory_usage);
        Some(heartbeat.running)
    }

    /// Forgets a worker; false if nobody has that id.
    pub fn remove(&mut self, id: &str) -> bool {
        self.workers.remove(id).is_some()
    }

    /// True if workers may call from there, and may be called there.
    pub fn is_allowed(&self, address: IpAddr) -> bool {
        // A socket of both families shows an address of IPv4 in the form of IPv6.
        let address = address.to_canonical();
        self.settings.hosts.iter().any(|net: &IpNet| net.contains(&address))
    }

    /// How a worker stands.
    pub fn status(&self, id: &str, clock: &dyn Clock) -> Option<Status> {
        self.workers.get(id).map(|worker| self.status_of(worker, clock.mono()))
    }

    fn offline(&self) -> i64 {
        signed(self.settings.offline_s.saturating_mul(1_000_000_000))
    }

    fn status_of(&self, worker: &Worker, mono: Nanos) -> Status {
        let silence = signed(mono).saturating_sub(worker.heard);
        match self.offline() {
            offline if silence > offline => Status::Offline,
            // 0.8 of it, in whole numbers.
            offline if silence > offline / 5 * 4 => Status::Unhealthy,
            _ => Status::Healthy,
        }
    }

    /// Workers that have gone offline since this was asked last: what they have is to be taken back.
    pub fn fallen(&mut self, clock: &dyn Clock) -> Vec<String> {
        let mono = clock.mono();
        let fallen: Vec<String> = self
            .workers
            .iter()
            .filter(|(_, worker)| !worker.is_told && self.status_of(worker, mono) == Status::Offline)
            .map(|(id, _)| id.clone())
            .collect();
        for id in &fallen {
            if let Some(worker) = self.workers.get_mut(id) {
                worker.is_told = true;
            }
        }
        fallen
    }

    /// When [`fallen`](Self::fallen) is to be asked again if nothing is heard until then: monotonic time.
    pub fn next_fall(&self) -> Option<Nanos> {
        let first = self.workers.values().filter(|worker| !worker.is_told).map(|worker| worker.heard).min()?;
        Some(u64::try_from(first.saturating_add(self.offline()).saturating_add(1)).unwrap_or(0))
    }

    /// Who gets a task.
    ///
    /// - `in_flight`: live leases of a worker.
    /// - `passed_over`: workers that have refused this one just now.
    pub fn pick(
        &mut self,
        required: &[Capability],
        in_flight: &dyn Fn(&str) -> u32,
        passed_over: &BTreeSet<String>,
        clock: &dyn Clock,
    ) -> Pick {
        let mono = clock.mono();
        let candidates: Vec<Candidate<'_>> = self
            .workers
            .iter()
            .filter(|(id, worker)| !passed_over.contains(*id) && self.room_of(worker, in_flight(id), mono) > 0)
            .map(|(id, worker)| Candidate {
                id,
                load: self.load_of(worker, in_flight(id)),
                used: worker.used,
                capabilities: &worker.kept.registration.capabilities,
            })
            .collect();
        let (id, is_capable) = match balance::choose(&self.balance, &candidates, required, self.last.as_deref()) {
            Choice::Worker(id) => (id.to_owned(), true),
            Choice::Incapable(id) => (id.to_owned(), false),
            Choice::Nobody => return Pick::Nobody,
        };
        self.incapable += u64::from(!is_capable);
        self.turns += 1;
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.used = Some(self.turns);
        }
        self.last = Some(id.clone());
        Pick::Worker(id)
    }

    fn load_of(&self, worker: &Worker, in_flight: u32) -> f64 {
        let kept = &worker.kept;
        balance::load(&self.balance, kept.cpu_usage, kept.memory_usage, in_flight, kept.registration.max_tasks)
    }

    fn room_of(&self, worker: &Worker, in_flight: u32, mono: Nanos) -> u32 {
        match self.status_of(worker, mono) {
            Status::Healthy => worker.kept.registration.max_tasks.saturating_sub(in_flight),
            Status::Unhealthy | Status::Offline => 0,
        }
    }

    /// How many more tasks a worker may have; 0 for an unknown one.
    pub fn room(&self, id: &str, in_flight: u32, clock: &dyn Clock) -> u32 {
        self.workers.get(id).map_or(0, |worker| self.room_of(worker, in_flight, clock.mono()))
    }

    /// What tasks that a worker asks for by itself may require of it.
    ///
    /// By capability: what it can do and, unless it is strict, what nobody who stands well can do. Else everything.
    pub fn offered(&self, id: &str, clock: &dyn Clock) -> Vec<Capability> {
        const ALL: [Capability; 4] = [Capability::FileScan, Capability::YaraAnalysis, Capability::NetworkAnalysis, Capability::LogAnalysis];
        let Some(worker) = self.workers.get(id) else { return Vec::new() };
        let mono = clock.mono();
        let has = |worker: &Worker, asked: &Capability| worker.kept.registration.capabilities.contains(asked);
        let nobody =
            |asked: &Capability| !self.workers.values().any(|other| has(other, asked) && self.status_of(other, mono) == Status::Healthy);
        let is_offered = |asked: &Capability| match self.balance.algorithm {
            Algorithm::LoadBased | Algorithm::RoundRobin => true,
            Algorithm::CapabilityBased => has(worker, asked) || !self.balance.strict && nobody(asked),
        };
        ALL.into_iter().filter(is_offered).collect()
    }

    /// Where a worker is called: its host's name, the address that was checked, its port.
    pub fn place(&self, id: &str) -> Option<(&str, IpAddr, u16)> {
        let kept = &self.workers.get(id)?.kept;
        Some((&kept.registration.host, kept.address, kept.registration.port))
    }

    /// What is to be kept of a worker.
    pub fn kept(&self, id: &str) -> Option<&Kept> {
        self.workers.get(id).map(|worker| &worker.kept)
    }

    /// A worker as it is listed.
    pub fn row(&self, id: &str, in_flight: &dyn Fn(&str) -> u32, clock: &dyn Clock) -> Option<Row> {
        let worker = self.workers.get(id)?;
        let (kept, in_flight) = (&worker.kept, in_flight(id));
        let registration = &kept.registration;
        Some(Row {
            worker_id: registration.worker_id.clone(),
            host: registration.host.clone(),
            port: registration.port,
            capabilities: registration.capabilities.clone(),
            status: self.status_of(worker, clock.mono()),
            last_heartbeat: seconds(kept.heard),
            current_tasks: kept.current_tasks,
            in_flight,
            max_tasks: registration.max_tasks,
            total_processed: kept.total_processed,
            error_count: kept.error_count,
            average_processing_time: kept.average_processing_time,
            cpu_usage: kept.cpu_usage,
            memory_usage: kept.memory_usage,
            load_factor: self.load_of(worker, in_flight),
            uptime: seconds(clock.now().saturating_sub(kept.registered)),
            metadata: registration.metadata.clone(),
        })
    }

    /// All workers as they are listed, by id.
    pub fn rows(&self, in_flight: &dyn Fn(&str) -> u32, clock: &dyn Clock) -> Vec<Row> {
        self.workers.keys().filter_map(|id| self.row(id, in_flight, clock)).collect()
    }

    /// How many stand how.
    pub fn counts(&self, clock: &dyn Clock) -> BTreeMap<Status, usize> {
        let mut counts = BTreeMap::new();
        for worker in self.workers.values() {
            *counts.entry(self.status_of(worker, clock.mono())).or_default() += 1;
        }
        counts
    }

    /// Tasks that went to a worker which cannot do all that they ask for.
    pub fn incapable(&self) -> u64 {
        self.incapable
    }

    /// The networks, algorithm and weights in use.
    pub fn settings(&self) -> (&Settings, &Balance) {
        (&self.settings, &self.balance)
    }
}

/// Nanoseconds, of which a signed number holds 292 years.
fn signed(nanos: Nanos) -> i64 {
    i64::try_from(nanos).unwrap_or(i64::MAX)
}

#[allow(clippy::cast_precision_loss, reason = "seconds for people and JSON: microseconds are more than enough")]
fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests;
