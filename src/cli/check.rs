//! `shipper check`: everything wrong with a config, at once, and whether its sinks would take
//! what we send.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use argh::FromArgs;

use super::{CONFIG, DEFAULT_CONFIG, UNAVAILABLE};
use crate::{
    sinks::Level,
    topology::{ConfigError, Host, Plan},
};

/// Check a config: every error at once, each with its line and remedy.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "check", example = "shipper check", example = "shipper check --config shipper.toml --offline")]
pub struct Check {
    /// config file (default /etc/shipper/shipper.toml)
    #[argh(option)]
    config: Option<PathBuf>,
    /// do not ask the other side of any sink
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
    let mut worst = Level::Good;
    if !args.offline {
        for sink in &plan.sinks {
            for finding in sink.spec.check(&sink.name) {
                worst = worst.max(finding.level);
                let mark = match finding.level {
                    Level::Good => "good",
                    Level::Warning => "warning",
                    Level::Bad => "bad",
                };
                println!("sinks.{}: {mark}: {}", sink.name, finding.text);
            }
        }
    }
    Ok(if worst == Level::Bad { ExitCode::from(UNAVAILABLE) } else { ExitCode::SUCCESS })
}
