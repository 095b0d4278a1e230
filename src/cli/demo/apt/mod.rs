//! The demo of system `apt`: a site's events, in them two attacks, into alerts, and no server.
//!
//! A simulated site writes its events into a log, each of its days in a few seconds, with messages of ten features
//! and lines that are no event among them; logrotate renames the log on the way. The agent's files are read when all is
//! acked: each event that marks itself must be an alert, each anomalous message one and no other, and every event must
//! stand in exactly one window. Start at [`run`].

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

use super::{
    Demo, ROTATE_AT,
    event_log::EventLog,
    read, settle,
    show::{Lines, Pace},
    start,
};
use crate::{
    cli::{BROKEN, inside::Inside, scratch::Scratch},
    clock::{Clock, SystemClock},
    io,
    synth::apt::{
        features::Features,
        scenario,
        simulation::{Settings, Simulation},
    },
};

mod sums;

use sums::{Found, Sums, Written};

/// Events of the site in one of its minutes: a day is then some 86,000.
const PER_MINUTE: f64 = 60.0;
/// After so many events comes a message of ten features.
const FEATURES_EACH: u64 = 10;
/// After so many events comes a line that is none.
const FOREIGN_EACH: u64 = 100;
/// What such a line is.
const FOREIGN: &[u8] = b"{\"entity\":\"host1\",\"cpu_usage_mean\":NaN}\n";
/// Where in the run attacks begin: the detector has seen what is usual by then.
const ATTACKS_AT: f64 = 0.7;

/// Runs the command: 0 if the sums add up, 70 if not.
///
/// # Errors
/// The scratch folder or the agent's threads cannot be had.
pub(super) fn run(args: &Demo) -> anyhow::Result<ExitCode> {
    let scratch = Scratch::make("shipper-demo")?;
    let (engine, why) = io::choose(args.engine).map_err(anyhow::Error::msg)?;
    let lines = Lines { json: args.json };
    let agent = Running::start(args, &scratch, engine)?;
    lines.say(&format!("engine {engine} ({why}); no server"));
    lines.say(&format!(
        "writing {} events/s of a simulated site for {} s into {}, {PER_MINUTE} to a minute of its clock",
        args.rate(),
        args.span.as_secs(),
        agent.files.log.display()
    ));
    let written = agent.write(args, lines)?;
    agent.settle(&written, lines);
    let files = agent.files.clone();
    let (metrics, clean) = agent.inside.stop();
    let sums = Sums::new(&metrics, &written, &files.read()?, clean);
    show(lines, &sums);
    Ok(if sums.broken().is_empty() { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) })
}

/// Where things lie.
#[derive(Clone)]
struct Files {
    log: PathBuf,
    single: PathBuf,
    rare: PathBuf,
    windows: PathBuf,
}

impl Files {
    /// What the agent wrote.
    fn read(&self) -> anyhow::Result<Found> {
        Found::of(&read(&self.single)?, &read(&self.rare)?, &read(&self.windows)?)
    }
}

/// The agent of the demo.
struct Running {
    inside: Inside,
    files: Files,
    /// Ctrl-C: ends early, with sums.
    interrupted: Arc<AtomicBool>,
}

impl Running {
    fn start(args: &Demo, scratch: &Scratch, engine: io::Engine) -> anyhow::Result<Self> {
        let at = |name: &str| scratch.path().join(name);
        let files = Files { log: at("events.json"), single: at("single.json"), rare: at("rare.json"), windows: at("windows.json") };
        let (inside, interrupted) = start(args, scratch, engine, |name, cores, state| config(name, cores, state, &files))?;
        Ok(Self { inside, files, interrupted })
    }

    /// Writes events at the rate until the time is over.
    fn write(&self, args: &Demo, lines: Lines) -> anyhow::Result<Written> {
        let mut log = EventLog::create(self.files.log.clone())?;
        let start = SystemClock::new().now();
        let mut site = Simulation::new(Settings { per_minute: PER_MINUTE, ..Settings::new(1, start) });
        let (mut features, mut written) = (Features::new(1, true), Written::default());
        let (mut pace, begun, mut attacked, mut count) = (Pace::new(), Instant::now(), false, 0_u64);
        let counts = self.inside.metrics.branch("alerts", "apt");
        while begun.elapsed() < args.span && !self.interrupted.load(Ordering::Relaxed) {
            let past = begun.elapsed().as_secs_f64() / args.span.as_secs_f64();
            if !attacked && past > ATTACKS_AT {
                attacked = true;
                scenario::ALL.iter().for_each(|scenario| site.start(scenario));
            }
            let owed = (begun.elapsed().as_secs_f64() * args.rate() as f64) as u64;
            let mut block = Vec::new();
            while count < owed {
                count += 1;
                let made = site.next().context("a simulation has no end")?;
                written.site(&made.json)?;
                block.extend_from_slice(&made.json);
                block.push(b'\n');
                if count.is_multiple_of(FEATURES_EACH) {
                    written.features += 1;
                    block.extend_from_slice(&features.message(made.at).json);
                    block.push(b'\n');
                }
                if count.is_multiple_of(FOREIGN_EACH) {
                    block.extend_from_slice(FOREIGN);
                    written.foreign_bytes += FOREIGN.len() as u64;
                }
            }
            log.append(&block)?;
            if past > ROTATE_AT {
                log.rotate_once()?;
            }
            log.tell(lines, &mut pace, count, &counts);
            thread::sleep(Duration::from_millis(2));
        }
        (written.bytes, written.parts) = (log.bytes, log.parts);
        written.anomalous = features.anomalous(written.features);
        Ok(written)
    }

    /// Waits until all is acked, or nothing moves any more.
    fn settle(&self, written: &Written, lines: Lines) {
        let counts = self.inside.metrics.branch("alerts", "apt");
        settle(lines, &self.inside.board, || {
            let moves = (counts.read.get(), counts.in_flight.get());
            (moves, moves.0 >= written.bytes && moves.1 == 0)
        });
        // The last windows close after a while of silence.
        let (mut before, begun) = (0, Instant::now());
        while begun.elapsed() < WINDOWS_CLOSE {
            thread::sleep(Duration::from_millis(500));
            let length = fs::metadata(&self.files.windows).map_or(0, |file| file.len());
            if length == before && begun.elapsed() > IDLE_CLOSE * 2 {
                break;
            }
            before = length;
        }
    }
}

/// Silence after which windows are closed.
const IDLE_CLOSE: Duration = Duration::from_secs(1);
/// By then they have been closed and written.
const WINDOWS_CLOSE: Duration = Duration::from_secs(20);

fn show(lines: Lines, sums: &Sums) {
    let broken = sums.broken();
    if lines.json {
        return lines.object(sums, broken, &[]);
    }
    let (say, account) = (|text: &str| lines.say(text), &sums.account);
    say(&format!(
        "\nwritten   {} events of the site, {} of them marked, {} messages of features, {} anomalous, {} file(s)",
        sums.site_events, sums.marked_events, sums.feature_messages, sums.anomalous_messages, account.written_parts
    ));
    say(&format!(
        "alerts    {} of events of the site, {} of messages, all different: {}",
        sums.site_alerts,
        sums.feature_alerts,
        sums.alerts_differ()
    ));
    say(&format!("windows   {} with {} events, {} of them told as unusual", sums.windows, sums.events_in_windows, sums.window_alerts));
    say(&account.line());
    lines.verdict(&broken);
}

/// What the agent runs.
fn config(instance: &str, cores: usize, state: &Path, Files { log, single, rare, windows }: &Files) -> String {
    let idle = IDLE_CLOSE.as_secs();
    format!(
        r#"
instance = {instance:?}
cores = {cores}
[state]
dir = {state:?}
[sources.alerts]
kind = "file"
path = {log:?}
start_at = "beginning"
[handlers.apt]
kind = "apt"
inputs = ["alerts"]
[stages.detector]
kind = "detector"
inputs = ["apt.event"]
idle_close = "{idle}s"
[sinks.single]
kind = "file"
inputs = ["apt"]
path = {single:?}
fsync = false
[sinks.rare]
kind = "file"
inputs = ["detector"]
path = {rare:?}
fsync = false
[sinks.windows]
kind = "file"
inputs = ["detector.window"]
path = {windows:?}
fsync = false
"#
    )
}
