//! Where the agent's bodies run: threads of this host, or one simulated machine.

use std::{io, rc::Rc, time::Duration};

use super::pulse::Pulse;
use crate::{
    clock::{Clock, SystemClock, nanos},
    io::{Engine, Io, LocalFuture, Running, Setup, SlabPool, Watcher, spawn},
    limits,
};

/// What runs on one thread until its future ends; false if it left something owed.
pub type Body = Box<dyn FnOnce(Rc<dyn Io>) -> LocalFuture<'static, bool> + Send>;

/// Which thread a body is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The n-th shard, on a core of its own.
    Shard(usize),
    /// The thread that may use sockets.
    Edge,
    /// A thread that may block, by what it does.
    Own(String),
}

/// Starts bodies and waits for them.
pub trait Host {
    /// A started body.
    type Started;
    /// The time that the agent goes by.
    fn clock(&self) -> &dyn Clock;
    /// Starts a body.
    ///
    /// # Errors
    /// The thread or its executor cannot be had.
    fn start(&self, place: Place, body: Body) -> io::Result<Self::Started>;
    /// Waits until a body has ended, at most `span`, and gives what it returned; false if it
    /// panicked, `None` if it still runs.
    fn ended(&self, started: &mut Self::Started, span: Option<Duration>) -> Option<bool>;
}

/// Threads of this host.
pub struct Threads {
    pub engine: Engine,
    /// The n-th shard stays on the n-th of these.
    pub cores: Vec<usize>,
    pub watcher: Watcher,
    pub clock: SystemClock,
    /// Where shards and the edge beat; `None` where nobody asks.
    pub pulse: Option<Pulse>,
}

impl Host for Threads {
    type Started = Option<Running<bool>>;

    fn clock(&self) -> &dyn Clock {
        &self.clock
    }

    fn start(&self, place: Place, body: Body) -> io::Result<Self::Started> {
        let (name, core, slabs, engine) = match &place {
            Place::Shard(n) => (format!("shard-{n}"), self.cores.get(*n).copied(), limits::SLABS_PER_SHARD, self.engine),
            Place::Edge => ("edge".to_owned(), None, 1, Engine::Pread),
            Place::Own(what) => (format!("out-{what}"), None, 1, Engine::Pread),
        };
        let setup = Setup {
            name,
            core,
            network: place == Place::Edge,
            slabs: SlabPool::new(slabs),
            watcher: self.watcher.clone(),
            clock: self.clock,
        };
        // A thread that may block on a disk is not asked.
        let beat = self.pulse.as_ref().filter(|_| !matches!(place, Place::Own(_))).map(|pulse| pulse.enter(setup.name.clone()));
        let body: Body = match beat {
            None => body,
            Some(beat) => Box::new(move |io| {
                io.spawn("beat", Box::pin(beat.on(io.clone())));
                body(io)
            }),
        };
        spawn(engine, setup, body).map(Some)
    }

    fn ended(&self, started: &mut Self::Started, span: Option<Duration>) -> Option<bool> {
        if let Some(span) = span {
            let deadline = self.clock.mono().saturating_add(nanos(span));
            while started.as_ref().is_some_and(|running| !running.is_finished()) {
                if self.clock.mono() >= deadline {
                    return None;
                }
                std::thread::park_timeout(Duration::from_millis(5));
            }
        }
        started.take().map(|running| running.join().unwrap_or(false))
    }
}
