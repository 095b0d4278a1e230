//! `shipper demo`: the main job on a broker inside the process, with sums that must add up.
//!
//! A manager writes synthetic alerts as Wazuh does, the agent ships them, a reader reads the topic
//! back while it is written. Start at [`run`].

#![allow(clippy::disallowed_methods, reason = "a demonstration works on real files in real time")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use argh::FromArgs;

use super::{flights::Flights, inside::Inside, live::LiveWriter, scratch::Scratch};
use crate::{
    io,
    metrics::{Metrics, State},
    net::kafka::{mock::Embedded, settings::Connection},
    register::section::parse_span,
    synth::{Class, Mix, Synth},
    topology::{Host, run::EdgeTask},
};

mod readback;
mod show;
mod sums;

use readback::Readback;
use show::Lines;
use sums::{Sums, Written};

/// Partitions of the demo's topic: the embedded broker keeps 5 MiB of each.
const PARTITIONS: u16 = 4;
/// Without progress for this long at the end, what is missing is missing.
const PATIENCE: Duration = Duration::from_secs(15);
/// Size of a part is reached about here on the way, so that every demo sees a rotation.
const ROTATE_AT: f64 = 0.5;

/// Ship synthetic alerts to a broker inside this process, and check the sums.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "demo",
    example = "shipper demo",
    example = "shipper demo --for 60s --rate 20000 --cores 2",
    example = "shipper demo --file alerts.json --json",
    example = "shipper demo --brokers kafka.example:9092   # topic shipper-demo must be there"
)]
pub struct Demo {
    /// which system: dfn
    #[argh(option, default = "String::from(\"dfn\")")]
    system: String,
    /// how long the manager writes (20s, 2m)
    #[argh(option, long = "for", from_str_fn(span), default = "Duration::from_secs(20)")]
    span: Duration,
    /// alerts a second
    #[argh(option, default = "2000")]
    rate: u64,
    /// shards
    #[argh(option, default = "1")]
    cores: usize,
    /// auto, uring or pread
    #[argh(option, from_str_fn(engine), default = "io::Asked::Auto")]
    engine: io::Asked,
    /// ship this file once instead of writing one
    #[argh(option)]
    file: Option<PathBuf>,
    /// real brokers, host:port, with commas between; the topic is shipper-demo
    #[argh(option)]
    brokers: Option<String>,
    /// print the sums as one JSON object; the live lines go to standard error
    #[argh(switch)]
    json: bool,
}

fn span(text: &str) -> Result<Duration, String> {
    parse_span(text).ok_or_else(|| format!("{text:?} is no span of time; write 20s or 2m"))
}

fn engine(text: &str) -> Result<io::Asked, String> {
    match text {
        "auto" => Ok(io::Asked::Auto),
        "uring" => Ok(io::Asked::Uring),
        "pread" => Ok(io::Asked::Pread),
        _ => Err(format!("no engine {text:?}; known: auto, uring, pread")),
    }
}

/// Name of the demo's topic.
pub const TOPIC: &str = "shipper-demo";

/// Runs the command: 0 if the sums add up, 70 if not.
///
/// # Errors
/// The scratch folder, the broker or the agent's threads cannot be had.
pub fn run(args: &Demo) -> anyhow::Result<ExitCode> {
    if args.system != "dfn" {
        eprintln!("shipper: no system {:?}; known: dfn", args.system);
        return Ok(ExitCode::from(super::USAGE));
    }
    let scratch = Scratch::make("shipper-demo")?;
    let embedded = match &args.brokers {
        None => {
            let embedded = Embedded::start(1).map_err(anyhow::Error::msg)?;
            embedded.create_topic(TOPIC, PARTITIONS).map_err(anyhow::Error::msg)?;
            Some(embedded)
        }
        Some(_) => None,
    };
    let brokers: Vec<String> = match (&embedded, &args.brokers) {
        (Some(embedded), _) => embedded.brokers(),
        (None, given) => given.iter().flat_map(|list| list.split(',')).map(str::to_owned).collect(),
    };
    let instance = format!("demo-{}", scratch.id());
    let (engine, why) = io::choose(args.engine).map_err(anyhow::Error::msg)?;
    let connection = Connection { brokers: brokers.clone(), client_id: "shipper-demo".into(), ..Connection::default() };
    let readback = match Readback::start(connection, TOPIC, &instance) {
        Ok(readback) => readback,
        Err(error) => {
            eprintln!("shipper: {error:#}; see --brokers, and make the topic first");
            return Ok(ExitCode::from(super::UNAVAILABLE));
        }
    };
    let agent = Running::start(args, &scratch, &instance, &brokers, engine, embedded.is_some())?;
    let mut lines = Lines::new(args.json, agent.inside.metrics.clone());
    lines.say(&format!(
        "engine {engine} ({why}); broker {}{}",
        brokers.join(","),
        if embedded.is_some() { ", inside this process" } else { "" }
    ));
    let written = match &args.file {
        Some(file) => {
            lines.say(&format!("shipping {} once through dfn", file.display()));
            agent.ship(file, &mut lines)?
        }
        None => {
            lines.say(&format!(
                "writing {} alerts/s for {} s below {}",
                args.rate,
                args.span.as_secs(),
                scratch.path().join("alerts").display()
            ));
            agent.write(args, &scratch, &mut lines)?
        }
    };
    agent.settle(&written, &readback, &mut lines);
    let (metrics, clean) = agent.stop();
    let sums = Sums::new(&metrics, written, readback.finish()?, clean);
    lines.end(&sums);
    Ok(if sums.broken().is_empty() { ExitCode::SUCCESS } else { ExitCode::from(super::BROKEN) })
}

/// The agent of the demo.
struct Running {
    inside: Inside,
    /// Ctrl-C: ends early, with sums.
    interrupted: Arc<AtomicBool>,
}

impl Running {
    fn start(
        args: &Demo,
        scratch: &Scratch,
        instance: &str,
        brokers: &[String],
        engine: io::Engine,
        embedded: bool,
    ) -> anyhow::Result<Self> {
        let source = match &args.file {
            None => format!("kind = \"wazuh\"\npath = {:?}\nstart_at = \"beginning\"", scratch.path().join("alerts").join("alerts.json")),
            Some(file) => format!("kind = \"file\"\npath = {file:?}\nstart_at = \"beginning\""),
        };
        let list =
            if embedded { "\"embedded\"".to_owned() } else { brokers.iter().map(|b| format!("{b:?}")).collect::<Vec<_>>().join(", ") };
        let state = scratch.path().join("state");
        let text = format!(
            "instance = {instance:?}\ncores = {}\n[state]\ndir = {state:?}\n[sources.alerts]\n{source}\n[handlers.dfn]\nkind = \"dfn\"\ninputs = [\"alerts\"]\n[sinks.kafka]\nkind = \"kafka\"\ninputs = [\"dfn\"]\nbrokers = [{list}]\ntopic = \"{TOPIC}\"\n",
            args.cores.max(1)
        );
        let host = Host { name: instance.to_owned(), embedded: embedded.then(|| brokers.join(",")) };
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = interrupted.clone();
        let ctrl_c: EdgeTask = Box::new(move |_| {
            Box::pin(async move {
                if tokio::signal::ctrl_c().await.is_ok() {
                    flag.store(true, Ordering::Relaxed);
                }
            })
        });
        let inside = Inside::start(&text, &host, &state, engine, vec![ctrl_c])?;
        Ok(Self { inside, interrupted })
    }

    /// Writes alerts at the rate until the time is over.
    fn write(&self, args: &Demo, scratch: &Scratch, lines: &mut Lines) -> anyhow::Result<Written> {
        let failed = || format!("cannot write below {}; check its space", scratch.path().display());
        let mut writer = LiveWriter::open(&scratch.path().join("alerts"), Synth::new(1, Mix::Natural), 0, None).with_context(failed)?;
        let mut wanted = 0;
        let mut flights = Flights::watch(self.inside.metrics.branch("alerts", "dfn"))?;
        let begun = Instant::now();
        let mut rotated = false;
        while begun.elapsed() < args.span && !self.interrupted.load(Ordering::Relaxed) {
            let owed = (begun.elapsed().as_secs_f64() * args.rate as f64) as u64;
            while writer.alerts() < owed {
                wanted += u64::from(matches!(writer.write().with_context(failed)?, Class::Ban | Class::WindowsSelected));
                flights.line(writer.bytes());
                flights.flushed(writer.flushed());
            }
            writer.tick().with_context(failed)?;
            flights.flushed(writer.flushed());
            if !rotated && begun.elapsed().as_secs_f64() > args.span.as_secs_f64() * ROTATE_AT {
                rotated = true;
                writer.rotate().with_context(failed)?;
            }
            lines.turn(writer.alerts(), writer.flushed(), &self.inside.metrics, flights.take());
            thread::sleep(Duration::from_millis(2));
        }
        writer.flush().with_context(failed)?;
        flights.flushed(writer.flushed());
        Ok(Written { alerts: Some(writer.alerts()), wanted: Some(wanted), bytes: writer.bytes(), parts: writer.parts() })
    }

    /// Waits until a file is read to its end.
    fn ship(&self, file: &Path, lines: &mut Lines) -> anyhow::Result<Written> {
        let bytes =
            fs::metadata(file).with_context(|| format!("cannot read {}; check the name and its permissions", file.display()))?.len();
        let counts = self.inside.metrics.branch("alerts", "dfn");
        let (mut moved, mut before) = (Instant::now(), 0);
        while counts.read.get() < bytes && moved.elapsed() < PATIENCE && !self.interrupted.load(Ordering::Relaxed) {
            if counts.read.get() != before {
                (moved, before) = (Instant::now(), counts.read.get());
            }
            lines.turn(self.inside.metrics.source("alerts").records.get(), counts.read.get(), &self.inside.metrics, Vec::new());
            thread::sleep(Duration::from_millis(5));
        }
        // A last line without its newline is none yet.
        Ok(Written { alerts: None, wanted: None, bytes: counts.read.get(), parts: 1 })
    }

    /// Waits until all is acked and found, or nothing moves any more.
    fn settle(&self, written: &Written, readback: &Readback, lines: &mut Lines) {
        let counts = self.inside.metrics.branch("alerts", "dfn");
        let now = || (counts.read.get(), counts.in_flight.get(), counts.delivered.get(), readback.found());
        let (mut moved, mut before) = (Instant::now(), now());
        loop {
            let (read, in_flight, delivered, found) = now();
            if read >= written.bytes && in_flight == 0 && found >= delivered {
                return;
            }
            if now() != before {
                (moved, before) = (Instant::now(), now());
            }
            if moved.elapsed() > PATIENCE {
                for (component, state) in self.inside.board.rows() {
                    if !matches!(state, State::Ready | State::Starting) {
                        lines.say(&format!("{component}: {state}"));
                    }
                }
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn stop(self) -> (Metrics, bool) {
        let Inside { agent, metrics, .. } = self.inside;
        (metrics, agent.drain())
    }
}
