//! The demo of system `dfn`: alerts to Kafka on a broker inside the process.
//!
//! A manager writes synthetic alerts as Wazuh does, the agent ships them, a reader reads the topic
//! back while it is written. Start at [`run`].

use std::{
    fs,
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;

use super::{Demo, PATIENCE, ROTATE_AT, interrupts, settle, show::Lines};
use crate::{
    cli::{BROKEN, UNAVAILABLE, flights::Flights, inside::Inside, live::LiveWriter, scratch::Scratch},
    io,
    net::kafka::{mock::Embedded, settings::Connection},
    synth::{Class, Mix, Synth},
    topology::Host,
};

mod readback;
mod show;
mod sums;

use readback::Readback;
use show::Show;
use sums::{Sums, Written};

/// Partitions of the demo's topic: the embedded broker keeps 5 MiB of each.
const PARTITIONS: u16 = 4;
/// Name of the demo's topic.
const TOPIC: &str = "shipper-demo";

/// Runs the command: 0 if the sums add up, 70 if not.
///
/// # Errors
/// The scratch folder, the broker or the agent's threads cannot be had.
pub(super) fn run(args: &Demo) -> anyhow::Result<ExitCode> {
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
            return Ok(ExitCode::from(UNAVAILABLE));
        }
    };
    let agent = Running::start(args, &scratch, &instance, &brokers, engine, embedded.is_some())?;
    let lines = Lines { json: args.json };
    let mut show = Show::new(lines, agent.inside.metrics.clone());
    lines.say(&format!(
        "engine {engine} ({why}); broker {}{}",
        brokers.join(","),
        if embedded.is_some() { ", inside this process" } else { "" }
    ));
    let written = match &args.file {
        Some(file) => {
            lines.say(&format!("shipping {} once through dfn", file.display()));
            agent.ship(file, &mut show)?
        }
        None => {
            lines.say(&format!(
                "writing {} alerts/s for {} s below {}",
                args.rate(),
                args.span.as_secs(),
                scratch.path().join("alerts").display()
            ));
            agent.write(args, &scratch, &mut show)?
        }
    };
    agent.settle(&written, &readback, lines);
    let (metrics, clean) = agent.inside.stop();
    let sums = Sums::new(&metrics, written, readback.finish()?, clean);
    show.end(&sums);
    Ok(if sums.broken().is_empty() { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) })
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
        let (interrupted, ctrl_c) = interrupts();
        let inside = Inside::start(&text, &host, &state, engine, vec![ctrl_c])?;
        Ok(Self { inside, interrupted })
    }

    /// Writes alerts at the rate until the time is over.
    fn write(&self, args: &Demo, scratch: &Scratch, show: &mut Show) -> anyhow::Result<Written> {
        let failed = || format!("cannot write below {}; check its space", scratch.path().display());
        let mut writer = LiveWriter::open(&scratch.path().join("alerts"), Synth::new(1, Mix::Natural), 0, None).with_context(failed)?;
        let mut wanted = 0;
        let mut flights = Flights::watch(self.inside.metrics.branch("alerts", "dfn"))?;
        let begun = Instant::now();
        let mut rotated = false;
        while begun.elapsed() < args.span && !self.interrupted.load(Ordering::Relaxed) {
            let owed = (begun.elapsed().as_secs_f64() * args.rate() as f64) as u64;
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
            show.turn(writer.alerts(), writer.flushed(), flights.take());
            thread::sleep(Duration::from_millis(2));
        }
        writer.flush().with_context(failed)?;
        flights.flushed(writer.flushed());
        Ok(Written { alerts: Some(writer.alerts()), wanted: Some(wanted), bytes: writer.bytes(), parts: writer.parts() })
    }

    /// Waits until a file is read to its end.
    fn ship(&self, file: &Path, show: &mut Show) -> anyhow::Result<Written> {
        let bytes =
            fs::metadata(file).with_context(|| format!("cannot read {}; check the name and its permissions", file.display()))?.len();
        let counts = self.inside.metrics.branch("alerts", "dfn");
        let (mut moved, mut before) = (Instant::now(), 0);
        while counts.read.get() < bytes && moved.elapsed() < PATIENCE && !self.interrupted.load(Ordering::Relaxed) {
            if counts.read.get() != before {
                (moved, before) = (Instant::now(), counts.read.get());
            }
            show.turn(self.inside.metrics.source("alerts").records.get(), counts.read.get(), Vec::new());
            thread::sleep(Duration::from_millis(5));
        }
        // A last line without its newline is none yet.
        Ok(Written { alerts: None, wanted: None, bytes: counts.read.get(), parts: 1 })
    }

    /// Waits until all is acked and found, or nothing moves any more.
    fn settle(&self, written: &Written, readback: &Readback, lines: Lines) {
        let counts = self.inside.metrics.branch("alerts", "dfn");
        settle(lines, &self.inside.board, || {
            let moves = (counts.read.get(), counts.in_flight.get(), counts.delivered.get(), readback.found());
            (moves, moves.0 >= written.bytes && moves.1 == 0 && moves.3 >= moves.2)
        });
    }
}
