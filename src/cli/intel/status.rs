//! `shipper intel status`: what the local tables hold.

use std::{fmt::Write as _, path::PathBuf, process::ExitCode};

use argh::FromArgs;
use serde_json::json;

use super::{state_dir, time};
use crate::{
    cli::{UNAVAILABLE, plain, tell},
    clock::{Clock, SystemClock},
    io::disk::RealDisk,
    store::intel::{self, Tables, folder},
};

/// Show what the local tables hold, after reading them as the agent does.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "status",
    example = "shipper intel status",
    example = "shipper intel status --state /var/lib/shipper",
    example = "shipper intel status --json | jq .indicators",
    note = "Ends with 0, and with 69 where nothing was imported or a table cannot be read."
)]
pub struct Status {
    /// config file that names the state folder (default /etc/shipper/shipper.toml)
    #[argh(option)]
    config: Option<PathBuf>,
    /// state folder; no config is read then
    #[argh(option)]
    state: Option<PathBuf>,
    /// one JSON object
    #[argh(switch)]
    json: bool,
}

/// Loads the tables; says why and gives a code if there are none.
pub(super) fn load(state: &std::path::Path) -> anyhow::Result<Result<Tables, (String, ExitCode)>> {
    Ok(match Tables::load(&RealDisk::new(), state) {
        Ok(Some(tables)) => Ok(tables),
        Ok(None) => Err((
            format!("there are no indicators in {}; fill the tables with `shipper intel import`", folder(state).display()),
            ExitCode::from(UNAVAILABLE),
        )),
        Err(error) => Err((format!("{:#}", anyhow::Error::new(error)), ExitCode::from(UNAVAILABLE))),
    })
}

/// Runs the command.
///
/// # Errors
/// If neither config nor folder can be found, or standard output fails.
pub(super) fn run(args: &Status) -> anyhow::Result<ExitCode> {
    let state = state_dir(args.config.as_ref(), args.state.as_ref())?;
    let tables = match load(&state)? {
        Ok(tables) => tables,
        Err((what, code)) => {
            if args.json {
                tell(&format!("{:#}\n", json!({"folder": folder(&state).display().to_string(), "status": "missing", "error": what})))?;
            }
            eprintln!("shipper: {what}");
            return Ok(code);
        }
    };
    let status = &tables.status;
    let age = (SystemClock::new().now() / 1_000_000_000).checked_sub(status.built);
    if args.json {
        let mut told = json!({"folder": folder(&state).display().to_string(), "status": "whole", "age_seconds": age});
        if let (Some(told), Ok(serde_json::Value::Object(more))) = (told.as_object_mut(), serde_json::to_value(status)) {
            told.extend(more);
            told.insert("built_at".into(), time(status.built).into());
            told.insert("changed".into(), tables.indicators.changed().into());
            told.insert("changed_until".into(), (tables.changed_until() > 0).then(|| time(tables.changed_until())).into());
            told.insert("memory_bytes".into(), tables.indicators.filter().bytes().into());
        }
        tell(&format!("{told:#}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!("indicators in {}\n", folder(&state).display());
    // Writing to a String cannot fail.
    let age = age.map_or(String::new(), |age| format!(" ({})", span(age)));
    let _ =
        writeln!(text, "generation {}, built {}{age} from {}", status.generation, time(status.built), plain(&status.sources.join(", ")));
    text += &counts(status);
    if tables.indicators.changed() > 0 {
        let _ = writeln!(text, "{} changed since, up to {}", tables.indicators.changed(), time(tables.changed_until()));
    }
    let _ = writeln!(text, "{} bytes of memory for the filter", tables.indicators.filter().bytes());
    tell(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7_200 => format!("{} min ago", seconds / 60),
        7_200..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// The counts of a generation.
pub(super) fn counts(status: &intel::Status) -> String {
    let mut text =
        format!("{} indicators, told by {} attributes; {} of them networks\n", status.indicators, status.attributes, status.networks);
    for (kind, count) in &status.by_kind {
        let _ = writeln!(text, "  {count:>10}  {kind}");
    }
    if status.repeated > 0 {
        let _ = writeln!(text, "{} attributes said the same as another, or were older", status.repeated);
    }
    if !status.skipped.is_empty() {
        let _ = writeln!(text, "{} left out", status.skipped.values().sum::<u64>());
        for (reason, count) in &status.skipped {
            let _ = writeln!(text, "  {count:>10}  {}", plain(reason));
        }
    }
    text
}
