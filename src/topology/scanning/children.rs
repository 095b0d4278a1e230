//! Who scans on this host, as the loop sees it: the children, or nobody on a master that only gives out.

use std::{
    future::Future,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use super::{settings::ScanPlan, start::ScanError};
use crate::{
    ring::Signal,
    scan::{
        buffer::Job,
        children::{Children, Kept, Lost, Program, ReloadError, Why},
        outcome::Outcome,
        rules::{RuleError, RulesView},
        settings::{Role, Settings},
        task::Task,
        tasks::{Loss, Tasks},
    },
};

/// Comes later; on any thread.
pub(super) type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Errors of rules that the log tells.
pub(super) const ERRORS_TOLD: usize = 20;

/// What scans here.
pub(super) struct Scanner {
    /// `None` on a master.
    children: Option<Arc<Children>>,
    /// Name and place of each root, for rules that ask for the folder.
    roots: Vec<(String, String)>,
}

/// What the task store keeps.
struct Verdicts(Tasks);

impl Kept for Verdicts {
    fn may_have(&self, size: u64) -> bool {
        self.0.may_have_cached(size)
    }
    fn get(&self, sha256: &str, size: u64, rules_version: &str) -> Option<Outcome> {
        self.0.cached(sha256, size, rules_version).wait().ok().flatten()
    }
}

/// Why the rules in use stay, and what is wrong with the others.
pub(super) type Stays = (String, Vec<RuleError>);

impl Scanner {
    /// Starts the children of this host, with the rules as they are now.
    ///
    /// Without a rule files wait: other systems of the same agent have nothing to do with that.
    ///
    /// # Errors
    /// They cannot be started.
    pub(super) fn start(plan: &ScanPlan, state_dir: &Path, children: usize, tasks: &Tasks) -> Result<Self, ScanError> {
        let roots = plan.settings.roots.iter().map(|root| (root.name.clone(), root.path.display().to_string())).collect();
        if plan.settings.role == Role::Master {
            return Ok(Self { children: None, roots });
        }
        let settings = Settings { children, ..plan.settings.clone() };
        let program = plan.child_socket.clone().or_else(packaged).map_or_else(Program::own, Program::at);
        let (children, refused) =
            Children::start_or_wait(program, &settings, Some(state_dir.to_owned()), Arc::new(Verdicts(tasks.clone())))
                .map_err(|error| ScanError::Children(error.to_string()))?;
        if let Some((why, errors)) = refused.map(stays) {
            tracing::error!("nothing is scanned: {why}");
            errors.iter().take(ERRORS_TOLD).for_each(|error| tracing::error!("{error}"));
        }
        Ok(Self { children: Some(Arc::new(children)), roots })
    }

    /// Scans an opened file.
    ///
    /// # Errors
    /// Why there is no answer, and in words.
    pub(super) fn scan(&self, task: &Task, worker: &str, fd: OwnedFd) -> Later<Result<Outcome, (Loss, String)>> {
        let root_path = self.roots.iter().find(|(name, _)| *name == task.root).map(|(_, path)| path.clone()).unwrap_or_default();
        let job = Job {
            task_id: task.task_id.clone(),
            root: task.root.clone(),
            root_path,
            path: task.path.clone(),
            owner: String::new(),
            attempt: task.attempt,
            worker_id: worker.to_owned(),
            zeek: task.zeek.clone(),
        };
        let refused = |why: &str| -> Later<_> { Box::pin(std::future::ready(Err((Loss::Refused, why.to_owned())))) };
        match &self.children {
            Some(_) if self.places() == 0 => refused("no rule is loaded on this host, or its scan is stopped"),
            Some(children) => {
                let answer = children.scan(job, fd);
                Box::pin(async move { answer.await.map_err(lost) })
            }
            None => refused("nothing is scanned on this host"),
        }
    }

    /// How many children run, and how many are busy.
    pub(super) fn children(&self) -> (usize, usize) {
        self.children.as_ref().map_or((0, 0), |children| children.children())
    }

    /// Sets how many run; 0 stands still.
    pub(super) fn set_children(&self, wanted: usize) {
        if let Some(children) = &self.children {
            children.set_children(wanted);
        }
    }

    /// How many have died or were killed.
    pub(super) fn deaths(&self) -> u64 {
        self.children.as_ref().map_or(0, |children| children.deaths())
    }

    /// The rules in use.
    pub(super) fn rules(&self) -> Arc<RulesView> {
        self.children.as_ref().map_or_else(Arc::default, |children| children.rules())
    }

    /// Files that may be scanned at once now.
    pub(super) fn places(&self) -> usize {
        if self.rules().rules.is_empty() { 0 } else { self.children().0 }
    }

    /// True on a host that scans.
    pub(super) fn is_here(&self) -> bool {
        self.children.is_some()
    }

    /// Takes the rules anew, if their files have changed.
    ///
    /// - `force`: without asking whether they have; and whether also where many rules would vanish.
    ///
    /// # Errors
    /// See [`Stays`].
    pub(super) fn reload(&self, force: Option<bool>) -> Later<Result<Option<Arc<RulesView>>, Stays>> {
        let Some(children) = self.children.clone() else { return Box::pin(std::future::ready(Ok(None))) };
        // Compiling takes seconds.
        apart("scan-rules", move || match force {
            None if !children.has_changed() => Ok(None),
            _ => children.reload(force.unwrap_or(false)).map(Some).map_err(stays),
        })
    }

    /// Ends the children; what they were at is given back.
    pub(super) fn end(&self) {
        if let Some(children) = &self.children {
            children.end();
        }
    }
}

/// The socket of the packaged unit, where it is started and ours to use.
fn packaged() -> Option<PathBuf> {
    const SOCKET: &str = "/run/shipper-scan/socket";
    rustix::fs::access(SOCKET, rustix::fs::Access::WRITE_OK).is_ok().then(|| SOCKET.into())
}

fn stays(error: ReloadError) -> Stays {
    let why = error.to_string();
    match error {
        ReloadError::Refused { errors, .. } => (why, errors),
        ReloadError::NotBuilt | ReloadError::Compile(_) => (why, Vec::new()),
    }
}

fn lost(lost: Lost) -> (Loss, String) {
    let loss = match lost.why {
        Why::Child => Loss::Child,
        Why::Timeout => Loss::Timeout,
        Why::Changed => Loss::Changed,
        Why::Io => Loss::Io,
        Why::Closed => Loss::Worker,
    };
    (loss, lost.text)
}

/// Does what blocks on a thread of its own.
pub(super) fn apart<T: Send + 'static>(name: &'static str, work: impl FnOnce() -> T + Send + 'static) -> Later<T> {
    let slot = Arc::new((Mutex::new(None), Signal::default()));
    let tells = slot.clone();
    let body = move || {
        *tells.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(work());
        tells.1.raise();
    };
    let started = thread::Builder::new().name(name.to_owned()).spawn(body);
    Box::pin(async move {
        if let Err(error) = started {
            tracing::error!("cannot start thread {name}: {error}");
            return std::future::pending().await;
        }
        loop {
            slot.1.wait().await;
            if let Some(value) = slot.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return value;
            }
        }
    })
}
