//! `shipper scan repair`: a new task store from what can be read of a damaged one.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use argh::FromArgs;

use crate::{
    cli::{
        UNAVAILABLE,
        state::{Place, own_as_folder},
        tell,
    },
    clock::{Clock, SystemClock},
    io::disk::StateLock,
    scan::tasks::{self, How, OpenError},
};

/// Make a task store that opens where the agent refuses the one there is. The agent must be stopped.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "repair",
    example = "shipper scan repair",
    example = "shipper scan repair --dir /var/lib/shipper",
    example = "shipper scan repair --forget",
    note = "The old file is kept beside the new one as scan.redb.broken-SECONDS. A file whose task could not be read is found again by the \
            watch and scanned again; its alerts may come a second time."
)]
pub(super) struct Repair {
    /// config file that names the state folder (default /etc/shipper/shipper.toml)
    #[argh(option)]
    config: Option<PathBuf>,
    /// state folder; no config is read then
    #[argh(option)]
    dir: Option<PathBuf>,
    /// save nothing: begin with an empty store
    #[argh(switch)]
    forget: bool,
}

/// Runs the command.
///
/// # Errors
/// If neither config nor folder can be found, an agent runs, or the new file cannot be written.
pub(super) fn run(args: &Repair) -> anyhow::Result<ExitCode> {
    let place = Place::find(args.config.as_deref(), args.dir.as_deref())?;
    let _lock = StateLock::take(&place.dir)?;
    let how = if args.forget { How::Forget } else { How::Save };
    let repaired = match tasks::repair(&place.dir, how, SystemClock::new().now()) {
        Err(error @ (OpenError::InUse { .. } | OpenError::TooNew { .. })) => {
            eprintln!("shipper: {error}");
            return Ok(ExitCode::from(UNAVAILABLE));
        }
        repaired => repaired?,
    };
    for name in ["lock", tasks::FILE] {
        let path = place.dir.join(name);
        own_as_folder(&place.dir, &path).with_context(|| format!("cannot give {} to the folder's owner", path.display()))?;
    }
    let mut text = String::new();
    for (table, kept, unreadable) in &repaired.tables {
        text += &format!("{table}: {kept} kept, {unreadable} not readable\n");
    }
    text += &format!("{} files wait to be scanned; the old store is {}\n", repaired.queued, repaired.aside.display());
    tell(&text)?;
    Ok(ExitCode::SUCCESS)
}
