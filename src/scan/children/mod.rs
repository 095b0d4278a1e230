//! Scan children: processes that look into files, so that this one never does.
//!
//! ```text
//! scan ──→ queue ──→ thread scan-N ══ socket, open files ══ child N   (one file at a time, a few that wait behind it)
//!                         ▲
//! reload: files → sources → a child that compiles → set (memory, sealed) ──→ each child, between two files
//! ```
//!
//! One OS thread holds one child. A child that dies, or is late, is replaced, and its file is given back with the reason:
//! whoever asked decides whether it is tried again; files that waited behind it go to other children. The parent never holds the
//! bytes of a file.
//!
//! Refuses to know tasks, and to retry.

pub mod answer;
#[cfg(feature = "scan")]
pub mod child;
#[cfg(feature = "scan")]
mod confine;
mod message;
mod owners;
mod process;
mod reload;
mod socket;
mod thread;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use answer::{Answer, Promise, promise};
use owners::Owners;
use process::Process;

use super::{
    buffer::{Job, Limits},
    outcome::Outcome,
    rules::{Refusal, RuleError, RulesView},
    settings::{self, Settings},
};

/// Outcomes of earlier scans.
pub trait Kept: Send + Sync {
    /// `false` if there is surely none for a file of so many bytes.
    fn may_have(&self, size: u64) -> bool;
    /// The one of these bytes and rules. Called on threads that may wait.
    fn get(&self, sha256: &str, size: u64, rules_version: &str) -> Option<Outcome>;
}

/// Nothing is kept.
pub struct NothingKept;

impl Kept for NothingKept {
    fn may_have(&self, _: u64) -> bool {
        false
    }
    fn get(&self, _: &str, _: u64, _: &str) -> Option<Outcome> {
        None
    }
}

/// What a child runs.
#[derive(Clone, Debug)]
pub struct Program {
    pub path: PathBuf,
    pub args: Vec<String>,
    /// Where somebody else starts a child for each connection; then nothing is run here.
    pub socket: Option<PathBuf>,
}

impl Program {
    /// This very binary, also if its file was replaced meanwhile: `shipper scan-child`.
    pub fn own() -> Self {
        Self { path: "/proc/self/exe".into(), args: vec!["scan-child".into()], socket: None }
    }
    /// Children that a unit of the system starts, one for each connection to this socket.
    pub fn at(socket: PathBuf) -> Self {
        Self { socket: Some(socket), ..Self::own() }
    }
}

/// Why a file has no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The child died.
    Child,
    /// The child was late beyond every deadline, and was killed.
    Timeout,
    /// The file changed while it was read.
    Changed,
    /// The file could not be read, or no child could be started.
    Io,
    /// The children were ended.
    Closed,
}

/// A file without an outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Lost {
    pub why: Why,
    /// For people.
    pub text: String,
}

/// Why children, or new rules, cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error("this build has no YARA: build it with the feature `scan`, or take the packages")]
    NotBuilt,
    #[error("{refusal}")]
    Refused { refusal: Refusal, errors: Vec<RuleError> },
    #[error("the rules cannot be compiled: {0}")]
    Compile(String),
}

/// Processes that scan. Dropped, it ends them.
pub struct Children {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Held by whoever loads rules.
    reloading: Mutex<reload::Seen>,
}

struct Shared {
    program: Program,
    limits: Limits,
    rules: settings::Rules,
    state: Option<PathBuf>,
    kept: Arc<dyn Kept>,
    owners: Owners,
    work: Mutex<Work>,
    /// There is something new in `work`.
    changed: Condvar,
    busy: AtomicUsize,
    deaths: AtomicU64,
}

struct Work {
    jobs: VecDeque<Waiting>,
    /// Threads that wait for something new.
    idle: usize,
    wanted: usize,
    /// Threads that run, by their number.
    running: BTreeSet<usize>,
    /// Their children, where they have one.
    pids: BTreeMap<usize, u32>,
    set: Option<Arc<Loaded>>,
    is_over: bool,
}

/// A file that waits for a child.
struct Waiting {
    job: Job,
    fd: OwnedFd,
    /// Bytes, when it was opened; `None` if nobody can say.
    size: Option<u64>,
    promise: Promise<Result<Outcome, Lost>>,
}

/// A compiled set that children are to have.
struct Loaded {
    view: Arc<RulesView>,
    generation: u64,
    /// Sealed: nobody writes it any more.
    file: OwnedFd,
}

fn closed() -> Lost {
    Lost { why: Why::Closed, text: "the scan was ended".into() }
}

impl Shared {
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_pid(&self, number: usize, process: Option<&Process>) {
        let mut work = self.work();
        match process {
            Some(process) => work.pids.insert(number, process.pid()),
            None => work.pids.remove(&number),
        };
    }
}

impl Children {
    /// Loads the rules, and starts as many children as the settings say.
    ///
    /// - `state`: where compiled rules are kept; `None` compiles at each start.
    /// - `kept`: asked before rules are.
    ///
    /// # Errors
    /// There is no rule, no child can be run, or this build has no engine.
    pub fn start(program: Program, settings: &Settings, state: Option<PathBuf>, kept: Arc<dyn Kept>) -> Result<Self, ReloadError> {
        match Self::start_or_wait(program, settings, state, kept)? {
            (children, None) => Ok(children),
            (_, Some(refused)) => Err(refused),
        }
    }

    /// As [`start`](Self::start); where no rule is left files wait until a [`reload`](Self::reload) finds one, and the second says
    /// what is wrong.
    ///
    /// # Errors
    /// No child can be run, or this build has no engine.
    pub fn start_or_wait(
        program: Program,
        settings: &Settings,
        state: Option<PathBuf>,
        kept: Arc<dyn Kept>,
    ) -> Result<(Self, Option<ReloadError>), ReloadError> {
        if !cfg!(feature = "scan") {
            return Err(ReloadError::NotBuilt);
        }
        let mut seen = reload::Seen::default();
        let (set, refused) = match reload::set(&program, &settings.rules, state.as_deref(), &mut seen, None, false) {
            Ok(set) => (Some(Arc::new(set)), None),
            Err(refused @ ReloadError::Refused { .. }) => (None, Some(refused)),
            Err(other) => return Err(other),
        };
        let shared = Shared {
            program,
            limits: Limits::from(settings),
            rules: settings.rules.clone(),
            state,
            kept,
            owners: Owners::read(),
            work: Mutex::new(Work {
                jobs: VecDeque::new(),
                idle: 0,
                wanted: 0,
                running: BTreeSet::new(),
                pids: BTreeMap::new(),
                set,
                is_over: false,
            }),
            changed: Condvar::new(),
            busy: AtomicUsize::new(0),
            deaths: AtomicU64::new(0),
        };
        let children = Self { shared: Arc::new(shared), threads: Mutex::new(Vec::new()), reloading: Mutex::new(seen) };
        children.set_children(settings.children);
        Ok((children, refused))
    }

    /// Scans an open file. The first that is asked for is the first that is begun.
    pub fn scan(&self, mut job: Job, fd: OwnedFd) -> Answer<Result<Outcome, Lost>> {
        let stat = rustix::fs::fstat(&fd).ok();
        if let Some(stat) = stat.filter(|_| job.owner.is_empty()) {
            job.owner = self.shared.owners.of(&stat);
        }
        let size = stat.and_then(|stat| u64::try_from(stat.st_size).ok());
        let (promise, answer) = promise(Err(closed()));
        let mut work = self.shared.work();
        if !work.is_over {
            work.jobs.push_back(Waiting { job, fd, size, promise });
        }
        let is_awaited = work.idle > 0;
        drop(work);
        if is_awaited {
            self.shared.changed.notify_one();
        }
        answer
    }

    /// How many run, and how many of them are busy.
    pub fn children(&self) -> (usize, usize) {
        (self.shared.work().wanted, self.shared.busy.load(Ordering::Relaxed))
    }

    /// Sets how many run. 0 stands still: files wait. One that is busy ends after the files it has.
    pub fn set_children(&self, wanted: usize) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| !thread.is_finished());
        let mut work = self.shared.work();
        work.wanted = wanted;
        for number in 0..wanted {
            if !work.is_over && work.running.insert(number) {
                let shared = self.shared.clone();
                match std::thread::Builder::new().name(format!("scan-{number}")).spawn(move || thread::run(&shared, number)) {
                    Ok(thread) => threads.push(thread),
                    Err(error) => {
                        work.running.remove(&number);
                        tracing::error!(%error, number, "cannot start a thread for a scan child; files wait for the others");
                    }
                }
            }
        }
        drop(work);
        self.shared.changed.notify_all();
    }

    /// Children that died or were killed.
    pub fn deaths(&self) -> u64 {
        self.shared.deaths.load(Ordering::Relaxed)
    }

    /// Process ids of the children that run now, for those who watch what they use.
    pub fn pids(&self) -> Vec<u32> {
        self.shared.work().pids.values().copied().collect()
    }

    /// The rules that the next file is scanned with.
    pub fn rules(&self) -> Arc<RulesView> {
        self.shared.work().set.as_ref().map_or_else(Arc::default, |set| set.view.clone())
    }

    /// Whether the rules' files have changed since they were last read. Reads names and times, no file.
    pub fn has_changed(&self) -> bool {
        let seen = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        seen.has_changed(&self.shared.rules)
    }

    /// Reads the rules again, compiles them in a child if they are others, and hands them to the children whole.
    ///
    /// Blocks for as long as compiling takes. A file that is being scanned ends on the set that it began with.
    ///
    /// # Errors
    /// The set stays: nothing compiles, or too many rules would vanish and `force` was not said.
    pub fn reload(&self, force: bool) -> Result<Arc<RulesView>, ReloadError> {
        let mut seen = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &self.shared;
        let now = shared.work().set.clone();
        let set = reload::set(&shared.program, &shared.rules, shared.state.as_deref(), &mut seen, now.as_ref(), force)?;
        let view = set.view.clone();
        if now.is_none_or(|now| *view != *now.view) {
            shared.work().set = Some(Arc::new(set));
            shared.changed.notify_all();
        }
        Ok(view)
    }

    /// Ends the children, also busy ones: what they were at, and what waits, is given back as [`Why::Closed`].
    pub fn end(&self) {
        let mut work = self.shared.work();
        work.is_over = true;
        let waiting = std::mem::take(&mut work.jobs);
        drop(work);
        self.shared.changed.notify_all();
        waiting.into_iter().for_each(|waiting| waiting.promise.keep(Err(closed())));
        for thread in std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner)) {
            let _ = thread.join();
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(all(test, feature = "scan"))]
mod tests;
