//! The commands; one file a command.
//!
//! Exit codes: 0 fine, 64 usage, 69 something needed is not there, 70 we are wrong, 74 I/O,
//! 78 config.

pub mod apt;
pub mod check;
pub mod dead_letter;
pub mod demo;
pub mod doctor;
pub mod flights;
pub mod import;
pub mod inside;
pub mod intel;
pub mod keys;
pub mod list;
pub mod live;
pub mod log;
pub mod manual;
mod progress;
pub mod run;
pub mod scan;
pub mod scratch;
pub mod signals;
pub mod state;
pub mod systemd;
pub mod try_records;
pub mod waf;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use argh::FromArgs;

use crate::topology::ConfigError;

/// Usage: the command line is wrong.
pub const USAGE: u8 = 64;
/// Something needed is not there, or another agent holds the state.
pub const UNAVAILABLE: u8 = 69;
/// We are wrong.
pub const BROKEN: u8 = 70;
/// Input or output failed.
pub const IO: u8 = 74;
/// The config is wrong.
pub const CONFIG: u8 = 78;

/// Where the config is, unless said otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/shipper/shipper.toml";

/// A log shipper agent: reads alerts, recognises what matters, hands it on, loses nothing.
#[derive(FromArgs, Debug)]
#[argh(
    example = "{command_name} --cores 4",
    example = "{command_name} check --config shipper.toml",
    example = "{command_name} demo",
    example = "{command_name} try --handler dfn < alerts.json"
)]
struct Shipper {
    /// config file (default /etc/shipper/shipper.toml)
    #[argh(option)]
    config: Option<PathBuf>,
    /// shards, each pinned to a core
    #[argh(option)]
    cores: Option<usize>,
    /// auto, uring or pread
    #[argh(option)]
    engine: Option<String>,
    /// print the version
    #[argh(switch)]
    version: bool,
    #[argh(subcommand)]
    command: Option<Command>,
}

#[derive(FromArgs, Debug)]
#[argh(subcommand)]
enum Command {
    Run(run::Run),
    Check(check::Check),
    Try(try_records::Try),
    Demo(demo::Demo),
    List(list::List),
    Import(import::Import),
    Doctor(doctor::Doctor),
    State(state::State),
    DeadLetter(dead_letter::DeadLetter),
    Intel(intel::Intel),
    Waf(waf::Waf),
    Apt(apt::Apt),
    Scan(scan::Scan),
    Keys(keys::Keys),
}

/// Parses the command line, runs the command, prints what failed, chooses the exit code.
pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let mut args: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    if args == ["scan-child"] {
        // For agents alone, so no command of the list.
        return scan::child();
    }
    if let ["apt", "score", files @ ..] = &mut args[..] {
        // The parser takes every word that begins with a dash for an option.
        files.iter_mut().filter(|file| **file == "-").for_each(|file| *file = apt::STDIN);
    }
    let shipper = match Shipper::from_args(&["shipper"], &args) {
        Ok(shipper) => shipper,
        Err(exit) if exit.status.is_ok() => {
            println!("{}", exit.output);
            return ExitCode::SUCCESS;
        }
        Err(exit) => {
            eprintln!("{}", exit.output.trim_end());
            return ExitCode::from(USAGE);
        }
    };
    if shipper.version {
        println!("shipper {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let outcome = match shipper.command {
        None => run::run(run::Run {
            config: shipper.config,
            cores: shipper.cores,
            engine: shipper.engine,
            role: None,
            master: None,
            key_file: None,
        }),
        Some(Command::Run(args)) => run::run(args),
        Some(Command::Check(args)) => check::run(&args),
        Some(Command::Try(args)) => try_records::run(&args),
        Some(Command::Demo(args)) => demo::run(&args),
        Some(Command::List(args)) => list::run(&args),
        Some(Command::Import(args)) => import::run(args),
        Some(Command::Doctor(args)) => doctor::run(&args),
        Some(Command::State(args)) => state::run(&args),
        Some(Command::DeadLetter(args)) => dead_letter::run(&args),
        Some(Command::Intel(args)) => intel::run(&args),
        Some(Command::Waf(args)) => waf::run(&args),
        Some(Command::Apt(args)) => apt::run(&args),
        Some(Command::Scan(args)) => scan::run(&args),
        Some(Command::Keys(args)) => keys::run(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("shipper: {error:#}");
            ExitCode::from(code_of(&error))
        }
    }
}

/// Text of others for a terminal: one line, and no control character that it would obey.
fn plain(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// Writes to standard output; a reader that has gone is no failure.
fn tell(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e).context("cannot write to standard output"),
        _ => Ok(()),
    }
}

/// The exit code that an error stands for.
fn code_of(error: &anyhow::Error) -> u8 {
    if let Some(config) = error.downcast_ref::<ConfigError>() {
        return match config {
            ConfigError::Read { .. } => UNAVAILABLE,
            ConfigError::Invalid { .. } => CONFIG,
        };
    }
    if let Some(crate::topology::face::OpenError::Access(_)) = error.downcast_ref() {
        return CONFIG;
    }
    if error.downcast_ref::<crate::topology::face::OpenError>().is_some()
        || error.downcast_ref::<crate::api::BindError>().is_some()
        || error.downcast_ref::<crate::store::StoreError>().is_some()
        || error.downcast_ref::<crate::topology::scanning::ScanError>().is_some()
        || matches!(error.downcast_ref(), Some(crate::topology::run::RunError::Snapshot { .. }))
        || error.downcast_ref::<crate::io::disk::LockError>().is_some()
        || matches!(error.downcast_ref(), Some(crate::store::intel::IntelError::Lock(_)))
    {
        return UNAVAILABLE;
    }
    IO
}
