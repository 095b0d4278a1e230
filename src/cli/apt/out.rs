//! Where messages of the commands go, at which rate, and what became of them.

#![allow(clippy::disallowed_methods, reason = "a person looks at a real clock")]

use std::{
    fmt,
    io::{self, BufWriter, Write},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;

use super::{broker::Broker, connection::Found, stream::Stream};
use crate::{
    cli::{IO, progress::Progress},
    clock::{Clock, Nanos, SystemClock},
    synth::apt::Made,
};

/// Between two looks at a client while nothing is to be sent.
const LOOK: Duration = Duration::from_millis(5);

/// What became of the messages.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    /// Acknowledged, or written.
    pub done: u64,
    pub failed: u64,
    /// Why the first failed.
    pub why: Option<String>,
    /// Nobody acknowledges what is written to standard output.
    is_written: bool,
}

impl Account {
    pub(super) fn fail(&mut self, messages: u64, why: &str) {
        self.failed += messages;
        if messages > 0 {
            self.why.get_or_insert_with(|| why.to_owned());
        }
    }

    /// 0 if none failed.
    pub(super) fn code(&self) -> ExitCode {
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(IO) }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            None if self.is_written => f.write_str("all written"),
            None => f.write_str("all acknowledged"),
            Some(why) => write!(f, "{} acknowledged, {} not; the first: {why}", self.done, self.failed),
        }
    }
}

/// A place that takes messages.
pub(super) enum Out {
    Stdout(BufWriter<io::Stdout>, Account),
    Kafka(Box<Broker>),
    Redis(Box<Stream>),
}

impl Out {
    /// Standard output, one message a line.
    pub(super) fn stdout() -> Self {
        Self::Stdout(BufWriter::new(io::stdout()), Account { is_written: true, ..Account::default() })
    }

    /// A server.
    ///
    /// # Errors
    /// If the client cannot be made; a server that is away is told later.
    pub(super) fn to(found: Found) -> anyhow::Result<Self> {
        Ok(match found {
            Found::Kafka { connection, topic } => Self::Kafka(Box::new(Broker::open(connection, &topic)?)),
            Found::Redis { server, key, field } => Self::Redis(Box::new(Stream::open(server, key, field)?)),
        })
    }

    /// Takes a message; waits while there is no room.
    ///
    /// # Errors
    /// If standard output fails; a server's failures are counted.
    pub(super) fn send(&mut self, made: &Made) -> anyhow::Result<()> {
        match self {
            Self::Stdout(out, account) => {
                written(out.write_all(&made.json).and_then(|()| out.write_all(b"\n")))?;
                account.done += 1;
            }
            Self::Kafka(broker) => broker.send(&made.entity, &made.json),
            Self::Redis(stream) => stream.send(&made.json),
        }
        Ok(())
    }

    /// Lets what was sent go out, and hears answers; never waits long.
    ///
    /// # Errors
    /// If standard output fails.
    pub(super) fn serve(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Stdout(out, _) => written(out.flush())?,
            Self::Kafka(broker) => broker.serve(),
            Self::Redis(stream) => stream.flush(),
        }
        Ok(())
    }

    /// Waits until every message has its answer.
    ///
    /// # Errors
    /// If standard output fails.
    pub(super) fn finish(self) -> anyhow::Result<Account> {
        match self {
            Self::Stdout(mut out, account) => written(out.flush()).map(|()| account),
            Self::Kafka(broker) => Ok(broker.finish()),
            Self::Redis(stream) => Ok(stream.finish()),
        }
    }

    /// How the connection stands, where that is worth telling.
    fn trouble(&self) -> Option<&str> {
        match self {
            Self::Kafka(broker) => broker.trouble(),
            _ => None,
        }
    }
}

fn written(done: io::Result<()>) -> anyhow::Result<()> {
    match done {
        // Whoever closed the pipe does not want more.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Gone.into()),
        done => done.context("cannot write to standard output"),
    }
}

/// The reader of standard output has gone: an end, and no failure.
#[derive(Debug)]
pub(super) struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reader of standard output has gone")
    }
}

impl std::error::Error for Gone {}

/// Set by Ctrl-C or SIGTERM: what was sent is waited for, and no more is.
#[derive(Clone, Debug, Default)]
pub(super) struct Interrupted(Arc<AtomicBool>);

impl Interrupted {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Listens for Ctrl-C and SIGTERM on a thread of its own.
pub(super) fn interrupts() -> Interrupted {
    use tokio::signal::unix::{SignalKind, signal};
    let interrupted = Interrupted::default();
    let flag = interrupted.clone();
    let listens = std::thread::Builder::new().name("signals".into()).spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let [Ok(mut term), Ok(mut int)] = [SignalKind::terminate(), SignalKind::interrupt()].map(signal) else { return };
            // The first stops, the second is for who does not want to wait for answers.
            for _ in 0..2 {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = int.recv() => {}
                }
                if flag.0.swap(true, Ordering::Relaxed) {
                    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
                }
            }
        });
    });
    // Without it the signals end the process at once, as they do by default.
    drop(listens);
    interrupted
}

/// So many a second, and how far it is.
pub(super) struct Pace {
    begun: Instant,
    /// A second; 0: as fast as they are taken.
    rate: f64,
    progress: Progress,
}

impl Pace {
    pub(super) fn new(rate: f64) -> Self {
        Self { begun: Instant::now(), rate, progress: Progress::new(0) }
    }

    /// Waits until message `n` is due; false if it was interrupted.
    ///
    /// # Errors
    /// If standard output fails.
    pub(super) fn wait(&self, n: u64, interrupted: &Interrupted, out: &mut Out) -> anyhow::Result<bool> {
        if self.rate <= 0.0 {
            return Ok(!interrupted.is_set());
        }
        self.until(Duration::try_from_secs_f64(n as f64 / self.rate).unwrap_or(Duration::MAX), interrupted, out)
    }

    /// Waits until so long after the start; false if it was interrupted.
    ///
    /// # Errors
    /// If standard output fails.
    pub(super) fn until(&self, due: Duration, interrupted: &Interrupted, out: &mut Out) -> anyhow::Result<bool> {
        loop {
            if interrupted.is_set() {
                return Ok(false);
            }
            let left = due.saturating_sub(self.begun.elapsed());
            if left.is_zero() {
                return Ok(true);
            }
            out.serve()?;
            std::thread::sleep(left.min(LOOK));
        }
    }

    /// Says how far it is, a few times a minute, on a terminal twice a second.
    pub(super) fn tell(&mut self, what: &str, out: &Out) {
        match out.trouble() {
            Some(trouble) => self.progress.say(&format!("{what}; {trouble}")),
            None => self.progress.say(what),
        }
    }

    pub(super) fn end(&self) {
        self.progress.end();
    }
}

/// Wall time.
pub(super) fn now() -> Nanos {
    SystemClock::new().now()
}

/// A rate of the command line.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && (0.0..=1e9).contains(&rate) => Ok(rate),
        _ => Err(format!("{text:?} is no rate; write a number from 0")),
    }
}
