//! The demo of system `scan`: files as Zeek takes them out of the traffic, scanned on this host, and no server.
//!
//! A writer makes files of our own templates below a scratch root, some of them in two pieces, some with the bytes of an earlier
//! one. Every file must have one stored answer, the right one, and every match one alert in the sink. Start at [`run`].

use std::{
    fs::{self, File},
    io::Write,
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
    Demo, read, settle,
    show::{Lines, Pace},
    start,
};
use crate::{
    cli::{BROKEN, UNAVAILABLE, inside::Inside, scratch::Scratch},
    io,
    metrics::Metrics,
    scan::tasks::{Figures, TaskFilter, Tasks},
    topology::scanning::{ScanError, Scanning},
};

mod sums;
mod template;

use sums::{Found, Sums, Written};
use template::{Expected, RULES};

/// Answers read at once.
const PAGE: usize = 500;

/// Runs the command: 0 if the sums add up, 70 if not, 69 if this build cannot scan.
///
/// # Errors
/// The scratch folder or the agent's threads cannot be had.
pub(super) fn run(args: &Demo) -> anyhow::Result<ExitCode> {
    if !cfg!(feature = "scan") {
        eprintln!("shipper: {}", ScanError::Lacking);
        return Ok(ExitCode::from(UNAVAILABLE));
    }
    let scratch = Scratch::make("shipper-demo")?;
    let (engine, why) = io::choose(args.engine).map_err(anyhow::Error::msg)?;
    let lines = Lines { json: args.json };
    let agent = Running::start(args, &scratch, engine)?;
    lines.say(&format!("engine {engine} ({why}); no server, no broker"));
    lines.say(&format!("writing {} files/s for {} s into {}", args.rate(), args.span.as_secs(), agent.files.root.display()));
    let written = agent.write(args, lines)?;
    agent.settle(&written, lines);
    let files = agent.files.clone();
    let (metrics, answers, counted, clean) = agent.stop()?;
    let found = Found { answers, ..files.read()? };
    let sums = Sums::new(&metrics, &counted, &written, &found, clean);
    show(lines, &sums);
    Ok(if sums.broken().is_empty() { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) })
}

/// Where things lie.
#[derive(Clone)]
struct Files {
    root: PathBuf,
    rules: PathBuf,
    alerts: PathBuf,
}

impl Files {
    /// The alerts that the agent wrote.
    fn read(&self) -> anyhow::Result<Found> {
        Found::of(&read(&self.alerts)?)
    }
}

/// The agent of the demo.
struct Running {
    inside: Inside,
    scanning: Scanning,
    files: Files,
    /// Ctrl-C: ends early, with sums.
    interrupted: Arc<AtomicBool>,
}

impl Running {
    fn start(args: &Demo, scratch: &Scratch, engine: io::Engine) -> anyhow::Result<Self> {
        let at = |name: &str| scratch.path().join(name);
        let files = Files { root: at("extract_files"), rules: at("rules"), alerts: at("alerts.json") };
        for folder in [&files.root, &files.rules] {
            fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        fs::write(files.rules.join("demo.yar"), RULES).with_context(|| format!("cannot write into {}", files.rules.display()))?;
        let (mut inside, interrupted) = start(args, scratch, engine, |name, cores, state| config(name, cores, state, &files))?;
        let scanning = inside.scanning.take().context("the config of the demo has no [scan]; this is a defect, please report it")?;
        Ok(Self { inside, scanning, files, interrupted })
    }

    /// Writes files at the rate until the time is over.
    fn write(&self, args: &Demo, lines: Lines) -> anyhow::Result<Written> {
        let (mut written, mut pace, begun) = (Written::default(), Pace::new(), Instant::now());
        while begun.elapsed() < args.span && !self.interrupted.load(Ordering::Relaxed) {
            let owed = (begun.elapsed().as_secs_f64() * args.rate() as f64) as u64;
            while written.files() < owed {
                let n = written.files();
                let expected = self.file(n)?;
                written.expect(template::name(n), expected);
            }
            let figures = self.scanning.tasks().figures();
            if let Some(second) = pace.turn(&[written.files(), figures.done, figures.alerts]) {
                lines.say(&format!(
                    "{:>4} s  {:>6.0} files/s written  {:>6.0} files/s scanned  {:>5.0} alerts/s  {:>5} wait  agent {:.1} % of a core, without its children",
                    second.at,
                    second.rates[0],
                    second.rates[1],
                    second.rates[2],
                    figures.queued + figures.leased,
                    second.core,
                ));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(written)
    }

    /// Writes the n-th file, and says what must be found in it.
    fn file(&self, n: u64) -> anyhow::Result<Expected> {
        let path = self.files.root.join(template::name(n));
        let failed = || format!("cannot write {}; check its space", path.display());
        let (bytes, expected) = template::file(n);
        let mut file = File::create(&path).with_context(failed)?;
        // Zeek writes what comes: nothing may be scanned before it is closed.
        let (first, second) = bytes.split_at(bytes.len() / 2);
        file.write_all(first).with_context(failed)?;
        if template::is_slow(n) {
            thread::sleep(Duration::from_millis(5));
        }
        file.write_all(second).with_context(failed)?;
        Ok(expected)
    }

    /// Waits until all is answered and told, or nothing moves any more.
    fn settle(&self, written: &Written, lines: Lines) {
        let counts = self.inside.metrics.branch("scan", "scan");
        let records = self.inside.metrics.source("scan").records;
        settle(lines, &self.inside.board, || {
            let figures = self.scanning.tasks().figures();
            let ended = figures.done + figures.dead;
            let moves = (ended, figures.alerts, records.get(), counts.in_flight.get());
            (moves, ended >= written.files() && records.get() >= figures.alerts && counts.in_flight.get() == 0)
        });
    }

    fn stop(self) -> anyhow::Result<(Metrics, Vec<sums::Answer>, Figures, bool)> {
        let Self { inside: Inside { agent, metrics, .. }, mut scanning, .. } = self;
        let rests = scanning.drain();
        let clean = agent.drain();
        let answers = answers(&scanning.tasks())?;
        let counted = scanning.tasks().figures();
        scanning.end();
        Ok((metrics, answers, counted, rests && clean))
    }
}

/// Every stored answer.
fn answers(tasks: &Tasks) -> anyhow::Result<Vec<sums::Answer>> {
    let (mut all, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = tasks.tasks(TaskFilter::default(), after.as_deref(), PAGE).wait()?;
        let Some(last) = page.last() else { return Ok(all) };
        after = Some(last.task.task_id.clone());
        all.extend(page.into_iter().map(|standing| sums::Answer::of(&standing)));
    }
}

fn show(lines: Lines, sums: &Sums) {
    let broken = sums.broken();
    if lines.json {
        return lines.object(sums, broken, &[]);
    }
    let say = |text: &str| lines.say(text);
    say(&format!("\nwritten   {} files, {} with the bytes of an earlier one", sums.files, sums.repeated_bytes));
    say(&format!(
        "answers   {} stored: {} clean, {} matched, {} of them from the cache",
        sums.answers, sums.clean, sums.matched, sums.cached
    ));
    say(&format!("alerts    {} stored, {} in the sink, {} of them twice", sums.alerts_stored, sums.alerts_told, sums.alerts_repeated));
    lines.verdict(&broken);
}

/// What the agent runs.
fn config(instance: &str, cores: usize, state: &Path, Files { root, rules, alerts }: &Files) -> String {
    format!(
        r#"
instance = {instance:?}
cores = {cores}
[state]
dir = {state:?}
[scan]
roots = [{{ name = "zeek", path = {root:?} }}]
[scan.rules]
paths = [{rules:?}]
[sources.scan]
kind = "scan"
[handlers.scan]
kind = "scan"
inputs = ["scan"]
[sinks.alerts]
kind = "file"
inputs = ["scan.alert"]
path = {alerts:?}
fsync = false
"#
    )
}
