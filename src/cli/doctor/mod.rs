//! `shipper doctor`: what this host offers the agent and what it denies it, each with its remedy.
//!
//! It changes nothing, and on the network it asks only whoever keeps what a source reads how it is set up;
//! `shipper check` asks all other sides.

#![allow(clippy::disallowed_methods, reason = "a command of the operator looks at the real host")]

mod engines;
mod firewall;
mod host;
mod places;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use argh::FromArgs;
use serde_json::{Value, json};

use super::{DEFAULT_CONFIG, UNAVAILABLE, plain};
use crate::{
    clock::{Clock, SystemClock},
    sinks::Level,
    sources::Reads,
    topology::{Config, Host},
};

/// Look at this host with the agent's eyes: engine, limits, clock, state folder, files to be read.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "doctor",
    example = "shipper doctor",
    example = "sudo -u shipper shipper doctor --config shipper.toml",
    example = "shipper doctor --json | jq '.[] | select(.level != \"good\")'",
    note = "Ask as the agent's user: what may be read and written is that user's. Ends with 69 if something is bad, else with 0."
)]
pub struct Doctor {
    /// config file (default /etc/shipper/shipper.toml)
    #[argh(option)]
    config: Option<PathBuf>,
    /// one JSON array of objects: level, topic, what, remedy
    #[argh(switch)]
    json: bool,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    level: Level,
    /// A word or two to look for: `memlock`.
    topic: String,
    what: String,
    /// What to do, where there is something to do.
    remedy: Option<String>,
}

impl Finding {
    fn good(topic: impl Into<String>, what: impl Into<String>) -> Self {
        Self { level: Level::Good, topic: topic.into(), what: what.into(), remedy: None }
    }
    fn warn(topic: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Warning, topic: topic.into(), what: what.into(), remedy: Some(remedy.into()) }
    }
    fn bad(topic: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Bad, topic: topic.into(), what: what.into(), remedy: Some(remedy.into()) }
    }
    fn mark(&self) -> &'static str {
        match self.level {
            Level::Good => "good",
            Level::Warning => "warn",
            Level::Bad => "bad",
        }
    }
    fn object(&self) -> Value {
        json!({"level": self.mark(), "topic": self.topic, "what": self.what, "remedy": self.remedy})
    }
}

/// Runs the command.
///
/// # Errors
/// If standard output fails.
pub fn run(args: &Doctor) -> anyhow::Result<ExitCode> {
    let path = args.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG));
    // What cannot be read is told below; the rest of the host is looked at with the defaults.
    let config = Config::load(Some(path), std::env::vars(), &[], &Host::this())
        .unwrap_or_else(|_| Config::read(crate::register::Node::empty(), std::iter::empty(), &[], &Host::this()));
    let now = SystemClock::new().now();
    let mut findings = vec![host::user()];
    findings.push(places::config(path));
    let read: Vec<(&str, Reads)> = config
        .sources
        .iter()
        .flat_map(|source| {
            let reads = source.spec.as_ref().map(|spec| spec.reads()).unwrap_or_default();
            reads.into_iter().map(|reads| (source.name.as_str(), reads))
        })
        .collect();
    // The first folder that will be read stands for all.
    let folders = read.iter().filter_map(|(_, reads)| match reads {
        Reads::File(path) => path.parent(),
        Reads::Folder(path) => Some(path.as_path()),
    });
    let folder = folders.into_iter().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    findings.extend(engines::all(&config.globals, folder));
    findings.extend(host::all(&config.globals, now));
    findings.extend(places::state(&config.globals, now));
    findings.extend(places::api(&config.globals));
    findings.extend(read.iter().map(|(name, reads)| places::source(name, reads)));
    findings.extend(firewall::logs(&config));
    for source in &config.sources {
        let found = source.spec.as_ref().map(|spec| spec.survey()).unwrap_or_default();
        findings.extend(found.into_iter().map(|found| places::kept_by(&source.name, found)));
    }
    super::tell(&if args.json {
        format!("{:#}\n", Value::Array(findings.iter().map(Finding::object).collect()))
    } else {
        text(&findings)
    })?;
    let worst = findings.iter().map(|finding| finding.level).max();
    Ok(if worst == Some(Level::Bad) { ExitCode::from(UNAVAILABLE) } else { ExitCode::SUCCESS })
}

fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.topic.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let remedy = finding.remedy.as_deref().map(|remedy| format!("; {}", plain(remedy))).unwrap_or_default();
        text += &format!("{:4}  {:width$}  {}{remedy}\n", finding.mark(), finding.topic, plain(&finding.what));
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    text += &format!("{} good, {} to look at, {} bad\n", count(Level::Good), count(Level::Warning), count(Level::Bad));
    text
}

/// `12.3 GiB`, for a person.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_level_topic_what_and_remedy() {
        let findings = [
            Finding::good("kernel", "Linux 6.8"),
            Finding::warn("open files", "64", "set LimitNOFILE"),
            Finding::bad("clock", "1970\n", "set it"),
        ];
        assert_eq!(
            text(&findings),
            "good  kernel      Linux 6.8\nwarn  open files  64; set LimitNOFILE\nbad   clock       1970\\n; set it\n1 good, 1 to look at, 1 bad\n"
        );
        assert_eq!(findings[1].object(), json!({"level": "warn", "topic": "open files", "what": "64", "remedy": "set LimitNOFILE"}));
        assert_eq!([0, 1023, 1536, 5 << 30].map(size), ["0 bytes", "1023 bytes", "1.5 KiB", "5.0 GiB"]);
    }
}
