//! The whole agent as one of the ways that are measured.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, Instant},
};

use shipper::{
    cli::{inside::Inside, scratch::Scratch},
    io::{Asked, Engine, choose},
    synth::writer::dated,
    topology::Host,
};

use crate::size::{Begun, Round};

/// Without progress for this long a run has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is run: an agent that follows a channel. One alert is acked first, so that connections and
/// saved starts are not timed; then the writer rotates to a part that is there in whole.
pub struct Job<'j> {
    /// The part.
    pub part: &'j Path,
    /// `kind = …` and the settings of handler `h`, as TOML.
    pub handler: &'j str,
    /// Of sink `out`.
    pub sink: &'j str,
    pub cores: usize,
    /// Address of the embedded broker, if the sink names it.
    pub embedded: Option<String>,
    /// Bytes of the part.
    pub bytes: u64,
}

impl Job<'_> {
    /// Runs an agent until every byte is acked. Its start and its end are not timed.
    pub fn run(&self, engine: Engine) -> anyhow::Result<Round> {
        let scratch = Scratch::make("shipper-bench")?;
        let (channel, day) = (scratch.path().join("alerts.json"), jiff::civil::date(2026, 3, 14));
        let (first, part) = (dated(scratch.path(), day, 0), dated(scratch.path(), day, 1));
        fs::create_dir_all(first.parent().unwrap_or(scratch.path()))?;
        fs::write(&first, FIRST)?;
        fs::hard_link(&first, &channel)?;
        let config = format!(
            "instance = \"bench\"\ncores = {}\n[state]\ndir = {:?}\n[sources.in]\nkind = \"wazuh\"\npath = {channel:?}\nstart_at = \"beginning\"\n[handlers.h]\n{}\ninputs = [\"in\"]\n[sinks.out]\n{}\ninputs = [\"h\"]\n",
            self.cores,
            scratch.path().join("state"),
            self.handler,
            self.sink
        );
        let host = Host { name: "bench".into(), embedded: self.embedded.clone() };
        let inside = Inside::start(&config, &host, &scratch.path().join("state"), engine, Vec::new())?;
        let counts = inside.metrics.branch("in", "h");
        let acked = || counts.shipped.get() + counts.dropped.total() + counts.dead_letter.total();
        until(&inside, acked, FIRST.len() as u64)?;
        let to = fs::canonicalize(self.part)?;
        let begun = Begun::now();
        symlink(&to, &part)?;
        fs::remove_file(&channel)?;
        symlink(&to, &channel)?;
        until(&inside, acked, FIRST.len() as u64 + self.bytes)?;
        let round = begun.done(0, self.bytes);
        let lines = inside.metrics.source("in").records.get();
        anyhow::ensure!(inside.agent.drain(), "the agent stopped before all was acked");
        Ok(Round { lines, ..round })
    }
}

/// The alert that comes before: handler `dfn` ships it too.
const FIRST: &[u8] = b"{\"timestamp\":\"2026-03-14T06:25:12.001+0100\",\"rule\":{\"level\":3,\"id\":\"1\",\"groups\":[\"fail2ban\"]},\"agent\":{\"id\":\"000\",\"name\":\"m\"},\"id\":\"1\",\"data\":{\"program_name\":\"fail2ban.actions\",\"srcip\":\"1.1.1.1\"}}\n";

/// Waits until so many bytes are acked.
fn until(inside: &Inside, acked: impl Fn() -> u64, bytes: u64) -> anyhow::Result<()> {
    let (mut moved, mut before) = (Instant::now(), 0);
    loop {
        let done = acked();
        if done >= bytes {
            return Ok(());
        }
        if done != before {
            (moved, before) = (Instant::now(), done);
        }
        anyhow::ensure!(moved.elapsed() < PATIENCE, "{done} of {bytes} bytes are acked and nothing moves; {:?}", inside.board.rows());
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// The engines that work here, each with its name.
pub fn engines() -> Vec<(&'static str, Engine)> {
    let mut all = vec![("pread", Engine::Pread)];
    if choose(Asked::Uring).is_ok() {
        all.push(("uring", Engine::Uring));
    }
    all
}
