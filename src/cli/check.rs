//! `shipper check`: everything wrong with a config, at once, whether its sinks would take what we
//! send, and whether its lookups would be answered.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use argh::FromArgs;

use super::{CONFIG, DEFAULT_CONFIG, UNAVAILABLE};
use crate::{
    clock::{Clock, SystemClock},
    sinks::{Finding, Level},
    topology::{ConfigError, Host, Plan},
};

/// Check a config: every error at once, each with its line and remedy.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "check", example = "shipper check", example = "shipper check --config shipper.toml --offline")]
pub struct Check {
    /// config file (default /etc/shipper/shipper.toml)
    #[argh(option)]
    config: Option<PathBuf>,
    /// do not ask the other side of any sink or lookup
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
        "config {} is right: {} sources, {} handlers, {} sinks",
        path.display(),
        plan.sources.len(),
        plan.handlers.len(),
        plan.sinks.len()
    );
    let now = SystemClock::new().now();
    let mut worst = Level::Good;
    for sink in &plan.sinks {
        let name = format!("sinks.{}", sink.name);
        let files = told(&name, sink.spec.check_files(&sink.name, now));
        // What the files rule out need not be asked.
        let asked = if args.offline || files == Level::Bad { Level::Good } else { told(&name, sink.spec.check(&sink.name)) };
        worst = worst.max(files).max(asked);
    }
    for lookup in &plan.lookups {
        let name = format!("lookups.{}", lookup.name);
        let files = told(&name, lookup.spec.check_files(&lookup.name, now));
        let asked = if args.offline || files == Level::Bad { Level::Good } else { told(&name, lookup.spec.check(&lookup.name)) };
        worst = worst.max(files).max(asked);
    }
    Ok(if worst == Level::Bad { ExitCode::from(UNAVAILABLE) } else { ExitCode::SUCCESS })
}

/// Prints findings, and gives the worst level among them.
fn told(component: &str, findings: Vec<Finding>) -> Level {
    let mut worst = Level::Good;
    for finding in findings {
        worst = worst.max(finding.level);
        let mark = match finding.level {
            Level::Good => "good",
            Level::Warning => "warning",
            Level::Bad => "bad",
        };
        println!("{component}: {mark}: {}", finding.text);
    }
    worst
}
