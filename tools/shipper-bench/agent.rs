//! The whole agent as one of the ways that are measured.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use shipper::{
    cli::{inside::Inside, scratch::Scratch},
    io::{Asked, Engine, choose},
    topology::Host,
};

use crate::size::Round;

/// Without progress for this long a run has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is run.
pub struct Job<'j> {
    /// `kind = …` and the settings of source `in`, as TOML.
    pub source: &'j str,
    /// Of handler `h`.
    pub handler: &'j str,
    /// Of sink `out`.
    pub sink: &'j str,
    pub cores: usize,
    /// Address of the embedded broker, if the sink names it.
    pub embedded: Option<String>,
    /// Bytes that the source holds.
    pub bytes: u64,
}

impl Job<'_> {
    /// Runs an agent until every byte is acked. Its start and its end are not timed.
    pub fn run(&self, engine: Engine) -> anyhow::Result<Round> {
        let scratch = Scratch::make("shipper-bench")?;
        let config = format!(
            "instance = \"bench\"\ncores = {}\n[state]\ndir = {:?}\n[sources.in]\n{}\n[handlers.h]\n{}\ninputs = [\"in\"]\n[sinks.out]\n{}\ninputs = [\"h\"]\n",
            self.cores,
            scratch.path().join("state"),
            self.source,
            self.handler,
            self.sink
        );
        let host = Host { name: "bench".into(), embedded: self.embedded.clone() };
        let inside = Inside::start(&config, &host, &scratch.path().join("state"), engine, Vec::new())?;
        let counts = inside.metrics.branch("in", "h");
        let begun = Instant::now();
        let (mut moved, mut before) = (begun, 0);
        loop {
            let done = counts.shipped.get() + counts.dropped.total() + counts.dead_letter.total();
            if done >= self.bytes {
                break;
            }
            if done != before {
                (moved, before) = (Instant::now(), done);
            }
            anyhow::ensure!(
                moved.elapsed() < PATIENCE,
                "{done} of {} bytes are acked and nothing moves; {:?}",
                self.bytes,
                inside.board.rows()
            );
            std::thread::sleep(Duration::from_micros(500));
        }
        let took = begun.elapsed();
        let lines = inside.metrics.source("in").records.get();
        anyhow::ensure!(inside.agent.drain(), "the agent stopped before all was acked");
        Ok(Round { lines, bytes: self.bytes, took })
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

/// A file source on `path`, from its beginning.
pub fn file_source(path: &Path) -> String {
    format!("kind = \"file\"\npath = {path:?}\nstart_at = \"beginning\"")
}
