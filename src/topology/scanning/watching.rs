//! New files below the roots become tasks; while the store is full, the watch waits, and the folder is the queue.

use std::{
    ops::ControlFlow,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{give::plain, start::Shared};
use crate::{
    clock::{Clock, Nanos},
    scan::{
        task::{Asker, Priority, Task},
        tasks::{Away, Submission, Submitted, Tasks},
        watch::{Found, Watch},
    },
};

/// Between two tries of a store that cannot answer.
const AGAIN: Duration = Duration::from_secs(1);

/// The watch, running.
pub(super) struct Watching {
    watch: Watch,
    tasks: Tasks,
    end: Arc<End>,
}

/// The agent drains.
#[derive(Default)]
struct End {
    is: AtomicBool,
    lock: Mutex<()>,
    told: Condvar,
}

impl End {
    fn is_told(&self) -> bool {
        self.is.load(Ordering::Acquire)
    }
    /// Waits a while, or until the end.
    fn wait(&self, span: Duration) {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.told.wait_timeout_while(lock, span, |()| !self.is_told()));
    }
    fn tell(&self) {
        let _lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.is.store(true, Ordering::Release);
        self.told.notify_all();
    }
}

impl Watching {
    /// Starts it; `None` if no root is watched.
    ///
    /// # Errors
    /// Out of descriptors or threads.
    pub(super) fn start(shared: &Arc<Shared>) -> std::io::Result<Option<Self>> {
        let settings = &shared.plan.settings;
        if settings.roots.iter().all(|root| !root.watch) {
            return Ok(None);
        }
        let end = Arc::new(End::default());
        let (tasks, ends, clock) = (shared.tasks.clone(), end.clone(), shared.clock);
        let sink = move |found: &[Found]| submit(&tasks, &ends, found, clock.now());
        let settle = Duration::from_secs(settings.settle_s);
        let watch = Watch::start(shared.roots.clone(), &settings.roots, settle, shared.clock, sink)?;
        Ok(Some(Self { watch, tasks: shared.tasks.clone(), end }))
    }

    /// Ends it and waits for that. What it has not handed on is in the folder.
    pub(super) fn end(self) {
        self.end.tell();
        self.tasks.wake(); // it may wait for room
        self.watch.stop();
    }

    /// A log of Zeek's names a file that it has written whole.
    pub(super) fn named(&self, name: &[u8]) {
        self.watch.named(name);
    }
}

/// Hands files to the store, and waits until it has them all.
///
/// - `now`: wall time.
fn submit(tasks: &Tasks, end: &End, found: &[Found], now: Nanos) -> ControlFlow<()> {
    let task = |found: &Found| Task {
        task_id: String::new(),
        kind: "file_scan".into(),
        root: found.root.to_string(),
        path: found.path.clone(),
        size: Some(found.identity.size),
        sha256: None,
        priority: Priority::NORMAL,
        submitted_at: now as f64 / 1e9,
        asker: Asker::Watch,
        attempt: 0,
        required_capabilities: Vec::new(),
        metadata: serde_json::Map::new(),
        zeek: None,
    };
    let submission = |found: &Found| Submission { task: task(found), identity: Some(found.identity) };
    let mut left: Vec<Submission> = found.iter().map(submission).collect();
    // All of them at first: what is known needs no room.
    let mut at_once = left.len();
    let mut is_told = false;
    while !left.is_empty() {
        let offered = left[..at_once.min(left.len())].to_vec();
        match tasks.submit(offered).wait() {
            Ok(answers) => {
                let mut answers = answers.into_iter();
                left.retain(|_| answers.next().is_none_or(|answer| answer == Submitted::Full));
                if left.is_empty() {
                    break;
                }
                tasks.wait_room(&|| end.is_told());
                let figures = tasks.figures();
                at_once = usize::try_from(figures.size_max.saturating_sub(figures.queued)).unwrap_or(usize::MAX).max(1);
            }
            Err(Away::Closed) => return ControlFlow::Break(()),
            Err(away) => {
                if !is_told {
                    tracing::warn!("new files cannot be stored as tasks and wait in their folder: {}", plain(&away.to_string()));
                    is_told = true;
                }
                end.wait(AGAIN);
            }
        }
        if end.is_told() {
            return ControlFlow::Break(());
        }
    }
    ControlFlow::Continue(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]
mod tests {
    use std::{
        sync::atomic::AtomicU64,
        thread::{JoinHandle, sleep, spawn},
    };

    use super::*;
    use crate::scan::{
        task::{Capability, Identity, RelPath},
        tasks::{Limits, Take},
    };

    /// Counts how often the store looks at it: once for each commit, and while it waits for one.
    #[derive(Default)]
    struct Counted(AtomicU64);

    impl Clock for Counted {
        fn now(&self) -> Nanos {
            self.0.fetch_add(1, Ordering::Relaxed);
            1_700_000_000_000_000_000
        }
        fn mono(&self) -> Nanos {
            0
        }
    }

    fn found(n: u64) -> Found {
        let identity = Identity { dev: 1, inode: n, size: 1, mtime_ns: 1 };
        Found { root: "zeek".into(), path: RelPath(format!("f{n}").into_bytes()), identity }
    }

    /// A store for two waiting files, and one who brings it five.
    fn full() -> (tempfile::TempDir, Arc<Counted>, Tasks, Arc<End>, JoinHandle<ControlFlow<()>>) {
        let (dir, clock, end) = (tempfile::tempdir().unwrap(), Arc::new(Counted::default()), Arc::new(End::default()));
        let limits = Limits { size_max: 2, ..Limits::default() };
        let tasks = Tasks::open_at(dir.path(), limits, Arc::new(|_, _| Vec::new()), clock.clone()).unwrap();
        let (to, ends) = (tasks.clone(), end.clone());
        let brings = spawn(move || submit(&to, &ends, &(0..5).map(found).collect::<Vec<_>>(), 0));
        while tasks.figures().queued < 2 {
            sleep(Duration::from_millis(1));
        }
        sleep(Duration::from_millis(100));
        (dir, clock, tasks, end, brings)
    }

    #[test]
    fn a_full_store_is_left_alone_until_there_is_room_and_then_has_all() {
        let (_dir, clock, tasks, _end, brings) = full();
        let before = clock.0.load(Ordering::Relaxed);
        sleep(Duration::from_millis(700));
        assert_eq!(clock.0.load(Ordering::Relaxed), before, "nobody asks a store that is full");
        assert!(!brings.is_finished());
        let mut leased = Vec::new();
        while leased.len() < 5 {
            let leases = tasks.lease("w", &[Capability::FileScan], 1, Take::Next).wait().unwrap();
            leased.extend(leases.into_iter().map(|lease| String::from_utf8(lease.task.path.0).unwrap()));
        }
        assert_eq!(brings.join().unwrap(), ControlFlow::Continue(()));
        leased.sort();
        assert_eq!(leased, ["f0", "f1", "f2", "f3", "f4"]);
    }

    #[test]
    fn whoever_waits_for_room_ends_with_the_agent() {
        let (_dir, _clock, tasks, end, brings) = full();
        end.tell();
        tasks.wake();
        assert_eq!(brings.join().unwrap(), ControlFlow::Break(()));
        let (_dir, _clock, tasks, _end, brings) = full();
        tasks.close();
        assert_eq!(brings.join().unwrap(), ControlFlow::Break(()));
    }
}
