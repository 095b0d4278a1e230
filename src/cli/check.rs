//! `shipper check`: everything wrong with a config, at once, whether its tables can be read, and
//! whether its sinks would take what we send and its sources be given what they ask for.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use argh::FromArgs;

use super::{CONFIG, DEFAULT_CONFIG, UNAVAILABLE};
use crate::{
    clock::{Clock, SystemClock},
    io::disk::RealDisk,
    sinks::{Finding, Level},
    topology::{ConfigError, Host, Plan, scanning::Scanning, sharing},
};

/// Check a config: every error at once, each with its line and remedy.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "check", example = "shipper check", example = "shipper check --config shipper.toml --offline")]
pub struct Check {
    /// config file (default /etc/shipper/shipper.toml)
    #[argh(option)]
    config: Option<PathBuf>,
    /// do not ask the other side of any source or sink
    #[argh(switch)]
    offline: bool,
}

/// Runs the command: 0, or 78 for the config, 69 for what it names.
///
/// # Errors
/// If the file cannot be read.
pub fn run(args: &Check) -> anyhow::Result<ExitCode> {
    let path = args.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG));
    let plan = match Plan::load(Some(path), std::env::vars(), &[], &Host::this()) {
        Ok(plan) => plan,
        Err(error @ ConfigError::Read { .. }) => return Err(error.into()),
        Err(error) => {
            eprintln!("{error}");
            return Ok(ExitCode::from(CONFIG));
        }
    };
    println!(
        "config {} is right: {} sources, {} handlers, {}{} sinks",
        path.display(),
        plan.written().0,
        plan.written().1,
        between(&plan),
        plan.sinks.len()
    );
    let now = SystemClock::new().now();
    let mut worst = Level::Good;
    for table in &plan.tables {
        worst = worst.max(told("tables", &table.name, table.spec.check(&RealDisk::new(), &plan.globals.state_dir)));
    }
    if let Err(error) = Scanning::check(&plan) {
        worst = worst.max(told("scan", "roots", vec![Finding { level: Level::Bad, text: error.to_string() }]));
    }
    if !args.offline
        && let Err(error) = Scanning::check_broker(&plan)
    {
        worst = worst.max(told("scan", "queue", vec![Finding { level: Level::Bad, text: error.to_string() }]));
    }
    for source in plan.sources.iter().filter(|_| !args.offline) {
        worst = worst.max(told("sources", &source.name, source.spec.check(&source.name)));
    }
    for sink in &plan.sinks {
        let files = told("sinks", &sink.name, sink.spec.check_files(&sink.name, now));
        // What the files rule out need not be asked.
        let skips = args.offline || files == Level::Bad;
        let asked = if skips { Level::Good } else { told("sinks", &sink.name, sink.spec.check(&sink.name)) };
        worst = worst.max(files).max(asked);
    }
    let shared = sharing::waits(&plan);
    for (n, lookup) in plan.lookups.iter().enumerate() {
        let others = shared.iter().filter(|(of, _)| *of == n).map(|(_, text)| Finding { level: Level::Warning, text: text.clone() });
        told("lookups", &lookup.name, others.collect());
        let files = told("lookups", &lookup.name, lookup.spec.check_files(&lookup.name, now));
        let skips = args.offline || files == Level::Bad;
        let asked = if skips { Level::Good } else { told("lookups", &lookup.name, lookup.spec.check(&lookup.name)) };
        worst = worst.max(files).max(asked);
    }
    Ok(if worst == Level::Bad { ExitCode::from(UNAVAILABLE) } else { ExitCode::SUCCESS })
}

/// Stages, lookups and tables, where there are any.
pub(in crate::cli) fn between(plan: &Plan) -> String {
    let counts = [("stages", plan.stages.len()), ("lookups", plan.lookups.len()), ("tables", plan.tables.len())];
    counts.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}, ")).collect()
}

/// Prints findings, and gives the worst level among them.
fn told(section: &str, name: &str, findings: Vec<Finding>) -> Level {
    let mut worst = Level::Good;
    for finding in findings {
        worst = worst.max(finding.level);
        let mark = match finding.level {
            Level::Good => "good",
            Level::Warning => "warning",
            Level::Bad => "bad",
        };
        println!("{section}.{name}: {mark}: {}", finding.text);
    }
    worst
}
