//! Starting a thread with an executor of either engine.

use std::{
    cell::RefCell,
    fmt, io,
    rc::Rc,
    sync::mpsc,
    thread::{self, JoinHandle},
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::{Io, LocalFuture, SlabPool, Watcher, local, pread::Pread, uring::Uring};
use crate::clock::SystemClock;

/// How a thread runs tasks and reads files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Cold reads by glommio on io_uring. Ask [`choose`](super::choose) first whether it can start:
    /// a refused io_uring is not an error of glommio's, it is a panic.
    Uring,
    /// Cold reads by pread(2) on a thread that waits for the disk.
    Pread,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring => "uring",
            Self::Pread => "pread",
        })
    }
}

/// What a thread is started with.
#[derive(Debug)]
pub struct Setup {
    /// The thread's name, as `ps -L` and `top -H` show it: 15 bytes are seen.
    pub name: String,
    /// The core that the thread stays on; `None` leaves it to the kernel.
    pub core: Option<usize>,
    /// True for the edge: tasks may use tokio's sockets.
    pub network: bool,
    pub slabs: SlabPool,
    pub watcher: Watcher,
    pub clock: SystemClock,
}

/// A started thread.
#[derive(Debug)]
pub struct Running<T>(JoinHandle<Option<T>>);

impl<T> Running<T> {
    /// Waits for the thread's body to end, and gives what it returned.
    ///
    /// # Errors
    /// What the thread panicked with.
    pub fn join(self) -> thread::Result<T> {
        // Only a failed start has no outcome, and that was `spawn`'s error.
        self.0.join().map(|outcome| outcome.expect("a thread that began has an outcome"))
    }
    /// True once the body has ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
    /// The thread, for its name and id.
    pub fn thread(&self) -> &thread::Thread {
        self.0.thread()
    }
}

/// Starts a thread with an executor and runs `body` on it until its future ends; what it spawned
/// ends with it. Returns once the executor runs.
///
/// # Errors
/// The thread, its core or its executor cannot be had.
pub fn spawn<T: Send + 'static>(
    engine: Engine,
    setup: Setup,
    body: impl FnOnce(Rc<dyn Io>) -> LocalFuture<'static, T> + Send + 'static,
) -> io::Result<Running<T>> {
    let name = setup.name.replace('\0', "?");
    let failed = format!("cannot start thread {name}");
    let (started, starts) = mpsc::channel();
    let thread = thread::Builder::new().name(name).spawn(move || {
        let begun = || started.send(Ok(())).unwrap_or(());
        let cold: Rc<dyn local::Engine> = match engine {
            Engine::Uring => Rc::new(Uring::default()),
            Engine::Pread => Rc::new(Pread::default()),
        };
        let ran = pin(setup.core).and_then(|()| local::run(setup, cold, begun, body));
        match ran {
            Ok(outcome) => Some(outcome),
            Err(e) => {
                let _ = started.send(Err(e));
                None
            }
        }
    })?;
    match starts.recv() {
        Ok(Ok(())) => Ok(Running(thread)),
        Ok(Err(e)) => Err(io::Error::new(e.kind(), format!("{failed}: {e}"))),
        Err(_) => Err(io::Error::other(format!("{failed}: it ended before it began"))),
    }
}

/// The cores that this process may use, lowest first. Containers and `CPUAffinity=` make them
/// fewer than the host has.
///
/// # Errors
/// As sched_getaffinity(2).
pub fn cores() -> io::Result<Vec<usize>> {
    let allowed = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect())
}

thread_local! {
    /// The cores of a thread before it was bound to one of them.
    static UNBOUND: RefCell<Option<CpuSet>> = const { RefCell::new(None) };
}

fn pin(core: Option<usize>) -> io::Result<()> {
    let Some(core) = core else { return Ok(()) };
    let before = sched_getaffinity(None)?;
    stay_on(&only(core)).map_err(|e| {
        io::Error::new(
            e.kind(),
            format!("cannot stay on core {core}: {e}; ask for fewer cores, or allow it by CPUAffinity= or the container's cpuset"),
        )
    })?;
    UNBOUND.set(Some(before));
    Ok(())
}

fn only(core: usize) -> CpuSet {
    let mut only = CpuSet::new();
    if core < CpuSet::MAX_CPU {
        only.set(core);
    }
    only
}

fn stay_on(cores: &CpuSet) -> io::Result<()> {
    Ok(sched_setaffinity(None, cores)?)
}

/// Runs `start`, which starts threads, its own or a library's, so that they may use all cores of this process:
/// a thread inherits the cores of whoever starts it, and would share the one core of a pinned thread with it.
pub fn unbound<T>(start: impl FnOnce() -> T) -> T {
    /// Brings the thread back to its core, whatever `start` does.
    struct Back(CpuSet);
    impl Drop for Back {
        fn drop(&mut self) {
            if let Err(error) = stay_on(&self.0) {
                tracing::warn!(%error, "a pinned thread did not come back to its core; it goes on without one");
            }
        }
    }
    let here = UNBOUND.with_borrow(|before| {
        let before = before.as_ref()?;
        let here = sched_getaffinity(None).ok()?;
        stay_on(before).ok()?;
        Some(Back(here))
    });
    let started = start();
    drop(here);
    started
}

/// Starts a thread that may use all cores of this process, also where this one is pinned.
///
/// # Errors
/// As pthread_create(3).
pub fn aside<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    unbound(|| thread::Builder::new().name(name.to_owned()).spawn(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pinned_thread_starts_is_not_pinned_and_it_stays_so() {
        thread::spawn(|| {
            let all = cores().unwrap();
            let last = *all.last().unwrap();
            pin(Some(last)).unwrap();
            let theirs = aside("aside", || cores().unwrap()).unwrap().join().unwrap();
            assert_eq!(theirs, all);
            assert_eq!(cores().unwrap(), [last]);
            let panicked = std::panic::catch_unwind(|| unbound(|| panic!("in the middle")));
            assert!(panicked.is_err());
            assert_eq!(cores().unwrap(), [last], "back also after a panic");
        })
        .join()
        .unwrap();
    }
}
