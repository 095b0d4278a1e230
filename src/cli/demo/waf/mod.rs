//! The demo of system `waf`: an engine's audit log, scored into points and alerts, and no server.
//!
//! An engine writes synthetic events into its log, some spoiled by their client, some bytes that are no event, and
//! logrotate renames the log on the way. The agent's files are read when all is acked: every event must be one
//! point with the severity that its number says, every grave one an alert. Start at [`run`].

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

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
    synth::firewall::{Events, Expected, Form},
};

mod sums;

use sums::{Found, Sums, Written};

/// Addresses that ask.
const CLIENTS: u64 = 200;
/// One event in so many has a version of HTTP that makes its line no JSON.
const SPOILED_EACH: u64 = 50;
/// After so many events comes a line that is none.
const FOREIGN_EACH: u64 = 100;
/// What such a line is.
const FOREIGN: &[u8] = b"{\"error\":\"ModSecurity was not compiled with JSON support.\"}\n";
/// Severity from which on events alert: the edge that the handler has unless told otherwise.
pub(super) const ALERT_AT: u32 = 80;

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
        "writing {} events/s of ModSecurity for {} s into {}, one in {SPOILED_EACH} spoiled by its client",
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
    points: PathBuf,
    alerts: PathBuf,
}

impl Files {
    /// What the agent wrote.
    fn read(&self) -> anyhow::Result<Found> {
        Found::of(&read(&self.points)?, &read(&self.alerts)?)
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
        let files = Files { log: at("modsec_audit.json"), points: at("points.lp"), alerts: at("alerts.json") };
        let (inside, interrupted) = start(args, scratch, engine, |name, cores, state| config(name, cores, state, &files))?;
        Ok(Self { inside, files, interrupted })
    }

    /// Writes events at the rate until the time is over.
    fn write(&self, args: &Demo, lines: Lines) -> anyhow::Result<Written> {
        let mut log = EventLog::create(self.files.log.clone())?;
        let (mut events, mut written, clock) = (Events::new(Form::ModSecurity, CLIENTS), Written::default(), SystemClock::new());
        let (mut pace, begun) = (Pace::new(), Instant::now());
        let counts = self.inside.metrics.branch("alerts", "waf");
        while begun.elapsed() < args.span && !self.interrupted.load(Ordering::Relaxed) {
            let owed = (begun.elapsed().as_secs_f64() * args.rate() as f64) as u64;
            let mut block = Vec::new();
            while events.ordinal() < owed {
                let n = events.ordinal();
                let start = block.len();
                events.event(&mut block, clock.now());
                if n.is_multiple_of(SPOILED_EACH) {
                    spoil(&mut block, start);
                    written.spoiled += 1;
                }
                written.expect(Events::expected(n));
                if n.is_multiple_of(FOREIGN_EACH) {
                    block.extend_from_slice(FOREIGN);
                    written.foreign_bytes += FOREIGN.len() as u64;
                }
            }
            log.append(&block)?;
            if begun.elapsed().as_secs_f64() > args.span.as_secs_f64() * ROTATE_AT {
                log.rotate_once()?;
            }
            log.tell(lines, &mut pace, events.ordinal(), &counts);
            thread::sleep(Duration::from_millis(2));
        }
        (written.bytes, written.parts) = (log.bytes, log.parts);
        Ok(written)
    }

    /// Waits until all is acked, or nothing moves any more.
    fn settle(&self, written: &Written, lines: Lines) {
        let counts = self.inside.metrics.branch("alerts", "waf");
        settle(lines, &self.inside.board, || {
            let moves = (counts.read.get(), counts.in_flight.get());
            (moves, moves.0 >= written.bytes && moves.1 == 0)
        });
    }
}

/// Puts a word in place of the version of HTTP of the event that begins at `start`.
fn spoil(block: &mut Vec<u8>, start: usize) {
    const VERSION: &[u8] = b"\"http_version\":1.1";
    if let Some(at) = memchr::memmem::find(&block[start..], VERSION) {
        let end = start + at + VERSION.len();
        block.splice(end - 3..end, *b"TEST");
    }
}

fn show(lines: Lines, sums: &Sums) {
    let broken = sums.broken();
    if lines.json {
        return lines.object(sums, broken, &[]);
    }
    let (say, account) = (|text: &str| lines.say(text), &sums.account);
    say(&format!(
        "\nwritten   {} events, {} of them spoiled, {} bytes, {} file(s)",
        sums.written_events, sums.spoiled_events, account.written_bytes, account.written_parts
    ));
    say(&format!("scored    {} points, all different: {}", sums.points, sums.points == sums.different_points));
    say(&format!("levels    {} critical, {} high, {} medium, {} low", sums.critical, sums.high, sums.medium, sums.low));
    say(&format!("alerts    {} of severity {ALERT_AT} and more", sums.alerts));
    say(&account.line());
    lines.verdict(&broken);
}

/// What the agent runs.
fn config(instance: &str, cores: usize, state: &Path, Files { log, points, alerts }: &Files) -> String {
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
[handlers.waf]
kind = "waf"
inputs = ["alerts"]
[sinks.points]
kind = "file"
inputs = ["waf"]
path = {points:?}
fsync = false
[sinks.alerts]
kind = "file"
inputs = ["waf.alert"]
path = {alerts:?}
fsync = false
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spoiled_event_is_no_json() {
        let mut block = b"x\n".to_vec();
        Events::new(Form::ModSecurity, 1).event(&mut block, 1_773_465_912_000_000_000);
        assert!(serde_json::from_slice::<serde_json::Value>(&block[2..]).is_ok());
        spoil(&mut block, 2);
        assert!(serde_json::from_slice::<serde_json::Value>(&block[2..]).is_err());
        assert!(String::from_utf8_lossy(&block).contains("\"http_version\":TEST,\"uri\":"));
    }
}
