//! The thread that outlives whatever the agent is made of: it hears signals and keeps systemd told.

use std::{rc::Rc, sync::Arc};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    clock::SystemClock,
    io::{self, Io, LocalFuture, Watcher},
    ring::Signal,
};

/// What signals ask of the main thread, which is unparked by each.
#[derive(Debug, Default)]
pub struct Asked {
    /// SIGTERM or SIGINT.
    pub stop: Signal,
    /// SIGHUP: take the config anew, and open the log anew.
    pub hangup: Signal,
    /// SIGUSR1: open the log anew.
    pub reopen: Signal,
}

/// What else runs on the thread, beside listening.
pub type Beside = Box<dyn FnOnce(Rc<dyn Io>) -> LocalFuture<'static, ()> + Send>;

impl Asked {
    /// Listens on a thread of its own for the life of the process: the agent may be built anew
    /// meanwhile, and no signal is lost. Returns once signals are caught.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn listen(watcher: &Watcher, clock: SystemClock, beside: Beside) -> anyhow::Result<Arc<Self>> {
        let asked = Arc::new(Self::default());
        let (tells, main) = (asked.clone(), std::thread::current());
        let setup =
            io::Setup { name: "signals".into(), core: None, network: true, slabs: io::SlabPool::new(1), watcher: watcher.clone(), clock };
        let (catching, caught) = std::sync::mpsc::channel();
        let body = move |io: Rc<dyn Io>| -> LocalFuture<'static, ()> {
            Box::pin(async move {
                let kinds =
                    [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::user_defined1()].map(signal);
                let _ = catching.send(());
                let beside = beside(io.clone());
                io.spawn("systemd", beside);
                let [Ok(mut term), Ok(mut int), Ok(mut hup), Ok(mut usr)] = kinds else {
                    tracing::error!("cannot catch signals; a stop will not drain, and what is unacked is read again at the next start");
                    return std::future::pending().await;
                };
                loop {
                    tokio::select! {
                        _ = term.recv() => tells.stop.raise(),
                        _ = int.recv() => tells.stop.raise(),
                        _ = hup.recv() => tells.hangup.raise(),
                        _ = usr.recv() => tells.reopen.raise(),
                    }
                    main.unpark();
                }
            })
        };
        io::spawn(io::Engine::Pread, setup, body).context("cannot start the thread that hears signals")?;
        let _ = caught.recv();
        Ok(asked)
    }
}
