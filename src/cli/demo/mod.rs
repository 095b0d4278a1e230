//! `shipper demo`: the main job of a system without a server, with sums that must add up.
//!
//! A manager writes synthetic alerts as Wazuh does, the agent inside this process does with them
//! what it is for, and what came out is read back and compared with what was written. Each system
//! has a folder; what they share is here and in `show.rs`.

#![allow(clippy::disallowed_methods, reason = "a demonstration works on real files in real time")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use argh::FromArgs;

use super::{inside::Inside, scratch::Scratch};
use crate::{
    io,
    metrics::{Board, State},
    register::section::parse_span,
    topology::{Host, run::EdgeTask},
};

mod account;
mod apt;
mod dfn;
mod event_log;
mod misp;
mod scan;
mod show;
mod waf;

/// Without progress for this long at the end, what is missing is missing.
const PATIENCE: Duration = Duration::from_secs(15);
/// Size of a part is reached about here on the way, so that every demo sees a rotation.
const ROTATE_AT: f64 = 0.5;

/// Do a system's job on synthetic alerts, without any server, and check the sums.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "demo",
    example = "shipper demo",
    example = "shipper demo --for 60s --rate 20000 --cores 2",
    example = "shipper demo --file alerts.json --json",
    example = "shipper demo --brokers kafka.example:9092   # topic shipper-demo must be there",
    example = "shipper demo --system misp",
    example = "shipper demo --system waf --rate 5000",
    example = "shipper demo --system apt",
    example = "shipper demo --system scan",
    note = "dfn ships to a broker inside this process and reads its topic back. misp plants known indicators in the alerts, imports an export that knows them, and finds each in what comes out. waf writes an audit log, scores it, and finds every event in the points. apt writes events of a simulated site with two attacks, and finds each that is grave in an alert and all of them in windows. scan writes files as Zeek does, scans them with rules of its own, and finds the right answer of each."
)]
pub struct Demo {
    /// which system: dfn, misp, waf, apt or scan
    #[argh(option, default = "String::from(\"dfn\")")]
    system: String,
    /// how long the manager writes (20s, 2m)
    #[argh(option, long = "for", from_str_fn(span), default = "Duration::from_secs(20)")]
    span: Duration,
    /// alerts a second (default 2000), or files (default 100)
    #[argh(option)]
    rate: Option<u64>,
    /// shards
    #[argh(option, default = "1")]
    cores: usize,
    /// auto, uring or pread
    #[argh(option, from_str_fn(engine), default = "io::Asked::Auto")]
    engine: io::Asked,
    /// dfn: ship this file once instead of writing one
    #[argh(option)]
    file: Option<PathBuf>,
    /// dfn: real brokers, host:port, with commas between; the topic is shipper-demo
    #[argh(option)]
    brokers: Option<String>,
    /// print the sums as one JSON object; the live lines go to standard error
    #[argh(switch)]
    json: bool,
}

impl Demo {
    /// Alerts or files a second.
    fn rate(&self) -> u64 {
        self.rate.unwrap_or(if self.system == "scan" { 100 } else { 2000 })
    }
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

/// Runs the command: 0 if the sums add up, 70 if not.
///
/// # Errors
/// The scratch folder, the broker or the agent's threads cannot be had.
pub fn run(args: &Demo) -> anyhow::Result<ExitCode> {
    let usage = |what: &str| {
        eprintln!("shipper: {what}");
        Ok(ExitCode::from(super::USAGE))
    };
    match args.system.as_str() {
        "dfn" => dfn::run(args),
        "misp" | "waf" | "apt" | "scan" if args.file.is_some() || args.brokers.is_some() => {
            usage("--file and --brokers are of system dfn: what is in a file of others nobody has planted")
        }
        "misp" => misp::run(args),
        "waf" => waf::run(args),
        "apt" => apt::run(args),
        "scan" => scan::run(args),
        system => usage(&format!("no system {system:?}; known: dfn, misp, waf, apt, scan")),
    }
}

/// Ctrl-C ends a demo early, with sums: the flag that it sets, and the task that hears it.
fn interrupts() -> (Arc<AtomicBool>, EdgeTask) {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    let task: EdgeTask = Box::new(move |_| {
        Box::pin(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                flag.store(true, Ordering::Relaxed);
            }
        })
    });
    (interrupted, task)
}

/// The agent of a demo without a broker, and the flag that Ctrl-C sets.
///
/// - `config`: what it runs, given its name, its shards and its state folder.
fn start(
    args: &Demo,
    scratch: &Scratch,
    engine: io::Engine,
    config: impl FnOnce(&str, usize, &Path) -> String,
) -> anyhow::Result<(Inside, Arc<AtomicBool>)> {
    let (instance, state) = (format!("demo-{}", scratch.id()), scratch.path().join("state"));
    let text = config(&instance, args.cores.max(1), &state);
    let (interrupted, ctrl_c) = interrupts();
    let inside = Inside::start(&text, &Host { name: instance, embedded: None }, &state, engine, vec![ctrl_c])?;
    Ok((inside, interrupted))
}

/// What the agent wrote into a file; nothing where it made none.
fn read(path: &Path) -> anyhow::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        other => other.with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Waits until it is done, or nothing moves any more; then the troubles are said.
///
/// - `now`: what moves, and whether it is done.
fn settle<M: PartialEq>(lines: show::Lines, board: &Board, now: impl Fn() -> (M, bool)) {
    let (mut moved, mut before) = (Instant::now(), now());
    while !before.1 {
        std::thread::sleep(Duration::from_millis(5));
        let next = now();
        if next.0 != before.0 {
            moved = Instant::now();
        }
        before = next;
        if moved.elapsed() > PATIENCE {
            return say_troubles(lines, board);
        }
    }
}

/// Says which components are not as they should be.
fn say_troubles(lines: show::Lines, board: &Board) {
    for (component, state) in board.rows() {
        if !matches!(state, State::Ready | State::Starting) {
            lines.say(&format!("{component}: {state}"));
        }
    }
}
