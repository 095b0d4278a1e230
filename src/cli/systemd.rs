//! What systemd is told: ready, reloading, stopping, a line of status, and that all threads turn.
//!
//! Without `NOTIFY_SOCKET` nothing is told, nothing is counted and nothing wakes.

use std::{rc::Rc, time::Duration};

use sd_notify::NotifyState;

use crate::{
    io::Io,
    metrics::{Board, Metrics, State},
    topology::pulse::{Pulse, Watchdog},
};

/// Time between two lines of status; the first comes sooner.
const STATUS_EVERY: Duration = Duration::from_secs(10);
const STATUS_FIRST: Duration = Duration::from_secs(1);
/// Looks of the watchdog in the span that systemd allows.
const LOOKS: u32 = 8;

/// The way to systemd.
#[derive(Clone, Copy, Debug)]
pub struct Systemd {
    is_there: bool,
    watchdog: Option<Duration>,
}

impl Systemd {
    /// Reads what systemd has put into the environment.
    #[allow(clippy::disallowed_methods, reason = "systemd names its socket in the environment")]
    pub fn of_this_process() -> Self {
        let is_there = std::env::var_os("NOTIFY_SOCKET").is_some();
        let watchdog = sd_notify::watchdog_enabled().filter(|span| is_there && !span.is_zero());
        Self { is_there, watchdog }
    }

    /// The pulse that the agent's threads should have; `None` without a watchdog.
    pub fn pulse(&self) -> Option<Pulse> {
        // Often enough for every look, seldom enough for an agent that idles.
        let beat = |span: Duration| (span / LOOKS).clamp(Duration::from_millis(50), Duration::from_secs(10));
        self.watchdog.map(|span| Pulse::new(beat(span)))
    }

    /// The agent runs, also after a reload that failed.
    pub fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }
    /// A reload begins; systemd waits for [`ready`](Self::ready).
    pub fn reloading(&self) {
        // Type=notify-reload wants to know that this came after its signal.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
    }
    /// The agent drains and ends.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// Tells status and watchdog, for the life of the process.
    pub async fn keep(self, io: Rc<dyn Io>, pulse: Option<Pulse>, board: Board, metrics: Metrics) {
        if !self.is_there {
            return;
        }
        let on = io.clone();
        let watch = async move {
            match (self.watchdog, pulse) {
                (Some(span), Some(pulse)) => feed(&*on, span, Watchdog::new(pulse)).await,
                _ => std::future::pending().await,
            }
        };
        let status = async move {
            let (mut told, mut before, mut span) = (String::new(), records(&metrics), STATUS_FIRST);
            loop {
                io.sleep(span).await;
                let now = records(&metrics);
                let text = status(&board, &metrics, (now - before) / span.as_secs(), &*io);
                if text != told {
                    tell(&[NotifyState::Status(&text)]);
                    told = text;
                }
                (before, span) = (now, STATUS_EVERY);
            }
        };
        tokio::join!(watch, status);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(states) {
        tracing::debug!("cannot tell systemd: {e}");
    }
}

/// Tells that all threads turn, twice in each span. Looks more often, so that one late beat costs
/// no restart.
async fn feed(io: &dyn Io, span: Duration, mut dog: Watchdog) {
    let mut told: Vec<String> = Vec::new();
    let mut since = 0;
    loop {
        if since >= LOOKS / 2 - 1 {
            match dog.all_turned() {
                Ok(()) => {
                    tell(&[NotifyState::Watchdog]);
                    since = 0;
                    told.clear();
                }
                Err(still) if still != told => {
                    // At the end of the span systemd restarts the agent.
                    tracing::error!(threads = still.join(", "), "threads stand still; systemd is not told that the agent lives");
                    told = still;
                }
                Err(_) => {}
            }
        } else {
            since += 1;
        }
        io.sleep(span / LOOKS).await;
    }
}

fn records(metrics: &Metrics) -> u64 {
    metrics.sources(0, 0).iter().map(|(_, counts, _)| counts.records.get()).sum()
}

/// `120 records/s, 3 MiB behind; sinks.out retrying`
fn status(board: &Board, metrics: &Metrics, rate: u64, io: &dyn Io) -> String {
    let clock = io.clock();
    let lag: u64 = metrics.sources(clock.now(), clock.mono()).iter().map(|(_, _, behind)| behind.lag()).sum();
    let mut text = format!("{rate} records/s, {} behind", size(lag));
    for (component, state) in board.standings() {
        if matches!(state, State::Retrying(_) | State::Holding(_)) {
            text.push_str(&format!("; {component} {}", state.word()));
        }
    }
    text
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}
