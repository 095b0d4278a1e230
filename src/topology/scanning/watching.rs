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
    clock::Clock,
    scan::{
        task::{Asker, Priority, Task},
        tasks::{Away, Submission, Submitted},
        watch::{Found, Watch},
    },
};

/// Between two tries of a full store.
const AGAIN: Duration = Duration::from_millis(200);

/// The watch, running.
pub(super) struct Watching {
    watch: Watch,
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
    /// Waits a while, or until the end; true at the end.
    fn wait(&self, span: Duration) -> bool {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let is_not = |_: &mut ()| !self.is.load(Ordering::Acquire);
        drop(self.told.wait_timeout_while(lock, span, is_not));
        self.is.load(Ordering::Acquire)
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
        let (of, ends) = (shared.clone(), end.clone());
        let sink = move |found: &[Found]| submit(&of, &ends, found);
        let settle = Duration::from_secs(settings.settle_s);
        let watch = Watch::start(shared.roots.clone(), &settings.roots, settle, shared.clock, sink)?;
        Ok(Some(Self { watch, end }))
    }

    /// Ends it and waits for that. What it has not handed on is in the folder.
    pub(super) fn end(self) {
        self.end.tell();
        self.watch.stop();
    }

    /// A log of Zeek's names a file that it has written whole.
    pub(super) fn named(&self, name: &[u8]) {
        self.watch.named(name);
    }
}

/// Hands files to the store, and waits until it has them all.
fn submit(shared: &Shared, end: &End, found: &[Found]) -> ControlFlow<()> {
    let submitted_at = shared.clock.now() as f64 / 1e9;
    let task = |found: &Found| Task {
        task_id: String::new(),
        kind: "file_scan".into(),
        root: found.root.to_string(),
        path: found.path.clone(),
        size: Some(found.identity.size),
        sha256: None,
        priority: Priority::NORMAL,
        submitted_at,
        asker: Asker::Watch,
        attempt: 0,
        required_capabilities: Vec::new(),
        metadata: serde_json::Map::new(),
        zeek: None,
    };
    let submission = |found: &Found| Submission { task: task(found), identity: Some(found.identity) };
    let mut left: Vec<Submission> = found.iter().map(submission).collect();
    let mut is_told = false;
    while !left.is_empty() {
        match shared.tasks.submit(left.clone()).wait() {
            Ok(answers) => {
                let full = answers.into_iter().zip(left).filter(|(answer, _)| *answer == Submitted::Full).map(|(_, submission)| submission);
                left = full.collect();
            }
            Err(Away::Closed) => return ControlFlow::Break(()),
            Err(away) if !is_told => {
                tracing::warn!("new files cannot be stored as tasks and wait in their folder: {}", plain(&away.to_string()));
                is_told = true;
            }
            Err(_) => {}
        }
        if !left.is_empty() && end.wait(AGAIN) {
            return ControlFlow::Break(());
        }
    }
    ControlFlow::Continue(())
}
