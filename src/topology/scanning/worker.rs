//! The worker role: this host scans what a master gives it.

use std::{
    fs::File,
    io::Write,
    net::{IpAddr, ToSocketAddrs, UdpSocket},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::fs::{MemfdFlags, memfd_create};

use super::{
    children::Scanner,
    give::told,
    start::{ScanError, Shared},
};
use crate::{
    api::Listen,
    io::{Gauge, Load},
    net::{http, secret::Secret},
    scan::{
        outcome::Reason,
        task::{Capability, Task},
        tasks::Loss,
        workers::{
            Registration,
            client::{self, Scanned, Settings, Worker},
        },
    },
};

/// Where a worker without an API of its own says that it is called; it asks for tasks by itself.
const PORT: u16 = 8001;

/// Files as the children of this host scan them.
struct Here {
    shared: Arc<Shared>,
    gauge: Mutex<Gauge>,
}

impl client::Scanner for Here {
    fn has(&self, task: &Task) -> bool {
        self.shared.roots.look(&task.root, &task.path).is_ok_and(|found| found.is_some())
    }

    fn scan(&self, task: Task, bytes: Option<Vec<u8>>) -> Scanned {
        let shared = self.shared.clone();
        Box::pin(async move {
            let opened = match bytes {
                Some(bytes) => in_memory(&bytes).map_err(|error| (Loss::Io, error.to_string())),
                None => {
                    shared.roots.open_file(&task.root, &task.path, shared.plan.settings.file_bytes_max).map(|opened| opened.fd).map_err(
                        |failure| {
                            let loss = if failure.reason == Reason::Io { Loss::Io } else { Loss::Refused };
                            (loss, told(&failure))
                        },
                    )
                }
            };
            let scanner: &Scanner = &shared.scanner;
            let answer = match opened {
                Ok(fd) => scanner.scan(&task, &shared.plan.worker.id, fd).await,
                Err(failed) => Err(failed),
            };
            answer.map_err(|(loss, why)| {
                tracing::info!(task = task.task_id, loss = loss.as_str(), "a file is given back: {}", super::give::plain(&why));
                loss
            })
        })
    }

    fn load(&self) -> Load {
        self.gauge.lock().unwrap_or_else(PoisonError::into_inner).look()
    }
}

/// Bytes that the master sent, as a file that a child can read.
fn in_memory(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    use std::io::Seek;
    let mut file = File::from(memfd_create("shipper-file", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// A worker of the master that the config names.
///
/// - `listen`: where its own API is, which takes what the master brings.
///
/// # Errors
/// A key or certificate that cannot be read, an address that is none.
pub(super) fn worker(shared: &Arc<Shared>, listen: Option<&Listen>, drain: Duration) -> Result<Arc<Worker>, ScanError> {
    let plan = &shared.plan;
    let wrong = |what: String| ScanError::Worker(what);
    let base = plan.worker.master.clone().unwrap_or_default().trim_end_matches('/').to_owned();
    let key = plan.worker.key_file.as_deref().map(|path| Secret::named("scan.worker.key_file", path)).transpose().map_err(wrong)?;
    let registration = Registration {
        worker_id: plan.worker.id.clone(),
        host: own_address(&base).map_or_else(|| "127.0.0.1".into(), |address| address.to_string()),
        port: if let Some(Listen::Tcp(address)) = listen { address.port() } else { PORT },
        max_tasks: u32::try_from(plan.worker.tasks_max).unwrap_or(u32::MAX),
        capabilities: [Capability::FileScan, Capability::YaraAnalysis].into(),
        metadata: about(shared),
        instance_id: Some(format!("{}-{}", std::process::id(), crate::clock::Clock::now(&shared.clock))),
    };
    let settings = Settings {
        master: http::Settings {
            base,
            verify: true,
            ca: plan.worker.ca.clone(),
            own: None,
            proxy: None,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(60),
            body_max: 0,
            idle_connections: 4,
        },
        key,
        registration,
        heartbeat: Duration::from_secs(plan.settings.workers.heartbeat_s),
        file_bytes_max: plan.settings.file_bytes_max,
        drain,
        standing: Some(shared.standing.clone()),
    };
    let mut gauge = Gauge::default();
    gauge.look(); // the first heartbeat tells a share since now
    let here = Here { shared: shared.clone(), gauge: Mutex::new(gauge) };
    Worker::new(settings, Arc::new(here), Arc::new(shared.clock)).map(Arc::new).map_err(wrong)
}

/// What the master's list shows of this worker, and goes by for nothing.
fn about(shared: &Shared) -> serde_json::Map<String, serde_json::Value> {
    let about = serde_json::json!({
        "threads": shared.children.clamp(1, 32),
        "start_time": super::give::seconds(&shared.clock),
        "version": env!("CARGO_PKG_VERSION"),
        "platform": "linux",
    });
    about.as_object().cloned().unwrap_or_default()
}

/// The address of this host that the master sees: that of the way to it. No packet is sent.
fn own_address(base: &str) -> Option<IpAddr> {
    let authority = base.split("://").nth(1)?.split('/').next()?;
    let port = if base.starts_with("https") { 443 } else { 80 };
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let place = if has_port { authority.to_owned() } else { format!("{authority}:{port}") };
    let master = place.to_socket_addrs().ok()?.next()?;
    let any: IpAddr = if master.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(master).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
