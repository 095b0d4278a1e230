//! The demo of system `misp`: alerts whose indicators an exported file knows, and no server.
//!
//! A manager writes alerts, one in twenty with an indicator out of a numbered set, some of them
//! twice. An export that knows a tenth of that set, among many others, is imported into the local
//! tables; the agent finds what it knows, and folds repeats. Its files are read back while they
//! are written. Start at [`run`].

use std::{
    fmt::Write as _,
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

use super::{Demo, ROTATE_AT, settle, show::Lines, start};
use crate::{
    cli::{BROKEN, inside::Inside, intel, live::LiveWriter, scratch::Scratch},
    io,
    synth::{
        Mix, Synth,
        indicators::{Indicators, indicator},
    },
};

mod readback;
mod show;
mod sums;

use readback::Readback;
use show::Show;
use sums::{Sums, Written};

/// Indicators that alerts carry; those below [`KNOWN`] are in the export.
const CARRIED: u64 = 300;
const KNOWN: u64 = 30;
/// Others of the export, by number: no alert carries one of them.
const OTHERS: std::ops::Range<u64> = 10_000..60_000;
/// One alert in so many carries an indicator of the set.
const CARRIES_EACH: u64 = 20;
/// One in so many of those that are known is written twice.
const REPEATS_EACH: u64 = 10;
/// Seconds in which matches of one indicator are one and a count.
const WINDOW: u64 = 5;
/// Ids of alerts that carry an indicator begin here, so that the others' are never theirs.
const FIRST_ID: u64 = 1 << 40;

/// Runs the command: 0 if the sums add up, 70 if not.
///
/// # Errors
/// The scratch folder, the tables or the agent's threads cannot be had.
pub(super) fn run(args: &Demo) -> anyhow::Result<ExitCode> {
    let scratch = Scratch::make("shipper-demo")?;
    let (engine, why) = io::choose(args.engine).map_err(anyhow::Error::msg)?;
    let lines = Lines { json: args.json };
    let export = scratch.path().join("misp-export.csv");
    fs::write(&export, exported()).with_context(|| format!("cannot write {}; check its space", export.display()))?;
    let state = scratch.path().join("state");
    fs::create_dir(&state).with_context(|| format!("cannot make {}; check its space", state.display()))?;
    let status = intel::import_quietly(&export, &state)?;
    let agent = Running::start(args, &scratch, engine)?;
    lines.say(&format!("engine {engine} ({why}); {} indicators from {}, no server", status.indicators, export.display()));
    lines.say(&format!(
        "writing {} alerts/s for {} s below {}, one in {CARRIES_EACH} with one of {CARRIED} indicators, of which {KNOWN} are known",
        args.rate(),
        args.span.as_secs(),
        scratch.path().join("alerts").display()
    ));
    let readback = Readback::start(&scratch.path().join("parsed.log"), &scratch.path().join("matched.log"))?;
    let mut show = Show::new(lines, agent.inside.metrics.clone());
    let written = agent.write(args, &scratch, &readback, &mut show)?;
    agent.settle(&written, &readback, lines);
    let (metrics, clean) = agent.inside.stop();
    let sums = Sums::new(&metrics, &written, &readback.finish()?, clean);
    show.end(&sums);
    Ok(if sums.broken().is_empty() { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) })
}

/// The export, as `restSearch` gives CSV: what is known of the set, and many others.
fn exported() -> String {
    let mut text = String::from("uuid,event_id,category,type,value,comment,to_ids,date\n");
    for n in (0..KNOWN).chain(OTHERS) {
        let (kind, value) = indicator(n);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "5f0c0000-0000-4000-8000-{n:012x},{},\"Network activity\",\"{kind}\",\"{value}\",\"\",1,1773465912",
            n / 100 + 1
        );
    }
    text
}

/// The agent of the demo.
struct Running {
    inside: Inside,
    /// Ctrl-C: ends early, with sums.
    interrupted: Arc<AtomicBool>,
}

impl Running {
    fn start(args: &Demo, scratch: &Scratch, engine: io::Engine) -> anyhow::Result<Self> {
        let at = |name: &str| scratch.path().join(name);
        let (alerts, parsed, matched) = (at("alerts").join("alerts.json"), at("parsed.log"), at("matched.log"));
        let (inside, interrupted) =
            start(args, scratch, engine, |name, cores, state| config(name, cores, state, &alerts, &parsed, &matched))?;
        Ok(Self { inside, interrupted })
    }

    /// Writes alerts at the rate until the time is over.
    fn write(&self, args: &Demo, scratch: &Scratch, readback: &Readback, show: &mut Show) -> anyhow::Result<Written> {
        let failed = || format!("cannot write below {}; check its space", scratch.path().display());
        let mut writer = LiveWriter::open(&scratch.path().join("alerts"), Synth::new(1, Mix::Natural), 0, None).with_context(failed)?;
        let mut carriers = Indicators::new(0, CARRIED).numbered_from(FIRST_ID);
        let mut written = Written::default();
        let begun = Instant::now();
        let mut rotated = false;
        while begun.elapsed() < args.span && !self.interrupted.load(Ordering::Relaxed) {
            let owed = (begun.elapsed().as_secs_f64() * args.rate() as f64) as u64;
            while writer.alerts() < owed {
                if !writer.alerts().is_multiple_of(CARRIES_EACH) {
                    writer.write().with_context(failed)?;
                    continue;
                }
                let n = writer.write_made(|line, now| carriers.alert(line, now)).with_context(failed)?;
                if n < KNOWN {
                    *written.planted.entry(indicator(n).1).or_default() += 1;
                    written.planted_alerts += 1;
                    if written.planted_alerts.is_multiple_of(REPEATS_EACH) {
                        written.repeated_alerts += 1;
                        writer.repeat().with_context(failed)?;
                    }
                }
            }
            writer.tick().with_context(failed)?;
            if !rotated && begun.elapsed().as_secs_f64() > args.span.as_secs_f64() * ROTATE_AT {
                rotated = true;
                writer.rotate().with_context(failed)?;
            }
            show.turn(writer.alerts(), writer.flushed(), readback);
            thread::sleep(Duration::from_millis(2));
        }
        writer.flush().with_context(failed)?;
        (written.alerts, written.bytes, written.parts) = (writer.alerts(), writer.bytes(), writer.parts());
        Ok(written)
    }

    /// Waits until all is acked and every match is found, those that a window still counts included,
    /// or nothing moves any more.
    fn settle(&self, written: &Written, readback: &Readback, lines: Lines) {
        let counts = self.inside.metrics.branch("alerts", "ioc");
        settle(lines, &self.inside.board, || {
            let moves = (counts.read.get(), counts.in_flight.get(), readback.represented());
            (moves, moves.0 >= written.bytes && moves.1 == 0 && moves.2 >= written.planted_alerts)
        });
    }
}

/// What the agent runs.
fn config(instance: &str, cores: usize, state: &Path, alerts: &Path, parsed: &Path, matched: &Path) -> String {
    format!(
        r#"
instance = {instance:?}
cores = {cores}
[state]
dir = {state:?}
[sources.alerts]
kind = "wazuh"
path = {alerts:?}
start_at = "beginning"
[tables.misp]
kind = "indicators"
[handlers.ioc]
kind = "ioc"
inputs = ["alerts"]
indicators = "misp"
[stages.dedup]
kind = "dedup"
inputs = ["ioc.known"]
members = ["alert_id"]
[lookups.misp]
kind = "misp"
inputs = ["dedup"]
mode = "mirror"
indicators = "misp"
[stages.suppress]
kind = "suppress"
inputs = ["misp"]
members = ["ioc.type", "ioc.value"]
window = "{WINDOW}s"
[sinks.matched]
kind = "file"
inputs = ["suppress"]
path = {matched:?}
fsync = false
[sinks.parsed]
kind = "file"
inputs = ["ioc"]
path = {parsed:?}
fsync = false
"#
    )
}
