//! `shipper state`: what is saved of the watermarks, read beside a running agent or after one.

mod repair;
mod show;
mod spools;

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use argh::FromArgs;

pub(super) use repair::own_as_folder;

use super::DEFAULT_CONFIG;
use crate::{
    checkpoint::{self, Checkpoint, CheckpointError, Chosen, Slot},
    io::Disk,
    topology::{Config, Host, spooled::name_of},
};

/// Look at what the agent has saved of how far it is.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "state", example = "shipper state show", example = "shipper state show --json", example = "shipper state repair")]
pub struct State {
    #[argh(subcommand)]
    what: What,
}

#[derive(FromArgs, Debug)]
#[argh(subcommand)]
enum What {
    Show(show::Show),
    Repair(repair::Repair),
}

/// Where the state lies.
pub struct Place {
    pub dir: PathBuf,
    /// Where the dead letter lies.
    pub letters: PathBuf,
    /// Names of the config's sources, where one was read.
    pub sources: Option<Vec<String>>,
}

impl Place {
    /// By `--dir`, else by the config. A config with wrong settings still names its state folder.
    ///
    /// # Errors
    /// If the config cannot be read at all.
    pub fn find(config: Option<&Path>, dir: Option<&Path>) -> anyhow::Result<Self> {
        Self::find_by(config, dir, "--dir")
    }

    /// As [`find`](Self::find), for a command whose flag for the folder has another name.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn find_by(config: Option<&Path>, dir: Option<&Path>, flag: &str) -> anyhow::Result<Self> {
        if let Some(dir) = dir {
            return Ok(Self { dir: dir.to_owned(), letters: dir.join("dead-letter"), sources: None });
        }
        let path = config.unwrap_or(Path::new(DEFAULT_CONFIG));
        let config = Config::load(Some(path), std::env::vars(), &[], &Host::this())
            .with_context(|| format!("cannot tell where the state is; name it with {flag}"))?;
        if !config.errors.is_empty() {
            eprintln!("shipper: config {} has errors, `shipper check` tells them; its state folder is taken as read", path.display());
        }
        let Config { globals, sources, lookups, sinks, .. } = config;
        let of_lookups = lookups.iter().filter(|lookup| lookup.spec.as_ref().is_some_and(|spec| spec.spool().is_some()));
        let of_sinks = sinks.iter().filter(|sink| sink.spec.as_ref().is_some_and(|spec| spec.spool().is_some()));
        let spools = of_lookups.map(|lookup| &lookup.name).chain(of_sinks.map(|sink| &sink.name)).map(|name| name_of(name));
        let sources = sources.into_iter().map(|source| source.name).chain(spools.collect::<Vec<_>>()).collect();
        Ok(Self { dir: globals.state_dir, letters: globals.dead_letter.path, sources: Some(sources) })
    }
}

/// One of the two files.
struct Held {
    slot: Slot,
    read: Result<Option<Checkpoint>, String>,
}

/// Both files, and which of them counts.
pub(super) struct Saved {
    files: Vec<Held>,
    pub(super) chosen: Result<Option<Chosen>, String>,
}

impl Saved {
    /// Reads both files of a state folder; takes no lock and changes nothing.
    pub(super) fn read(disk: &dyn Disk, dir: &Path) -> Self {
        let mut saved = Self::look(disk, dir);
        // A save between the two reads may make them look unlike a pair; it is no pair twice only
        // if it is none.
        for _ in 0..3 {
            if saved.chosen.is_ok() {
                break;
            }
            saved = Self::look(disk, dir);
        }
        saved
    }

    fn look(disk: &dyn Disk, dir: &Path) -> Self {
        let bytes = |slot: Slot| {
            let path = dir.join(slot.file_name());
            match disk.read(&path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(format!("cannot read {}: {e}; ask as the agent's user, or as root", path.display())),
            }
        };
        let (a, b) = (bytes(Slot::A), bytes(Slot::B));
        let decoded = |slot: Slot, bytes: &Result<Option<Vec<u8>>, String>| match bytes {
            Ok(Some(bytes)) => checkpoint::decode(&dir.join(slot.file_name()), bytes).map(Some).map_err(|e: CheckpointError| e.to_string()),
            Ok(None) => Ok(None),
            Err(e) => Err(e.clone()),
        };
        let files = vec![Held { slot: Slot::A, read: decoded(Slot::A, &a) }, Held { slot: Slot::B, read: decoded(Slot::B, &b) }];
        let chosen = match (a, b) {
            (Ok(a), Ok(b)) => checkpoint::choose(dir, a.as_deref(), b.as_deref()).map_err(|e| e.to_string()),
            (Err(e), _) | (_, Err(e)) => Err(e),
        };
        Self { files, chosen }
    }

    /// The one that counts; where none does, the newest that can be read, for a person to judge.
    fn best(&self) -> Option<&Checkpoint> {
        match &self.chosen {
            Ok(chosen) => chosen.as_ref().map(|chosen| &chosen.checkpoint),
            Err(_) => self.files.iter().filter_map(|held| held.read.as_ref().ok()?.as_ref()).max_by_key(|c| c.generation),
        }
    }
}

/// Why a state folder cannot be looked into; `None` if it can.
fn unreadable(disk: &dyn Disk, dir: &Path) -> Option<String> {
    let error = disk.list(dir).err()?;
    let dir = dir.display();
    Some(match error.kind() {
        io::ErrorKind::NotFound => format!("there is no state folder {dir}: no agent has run with it; name another with --dir"),
        _ => format!("cannot read state folder {dir}: {error}; ask as the agent's user, or as root"),
    })
}

/// Runs the command.
///
/// # Errors
/// If neither config nor folder can be found, another agent holds the state, or output fails.
pub fn run(args: &State) -> anyhow::Result<ExitCode> {
    match &args.what {
        What::Show(args) => show::run(args),
        What::Repair(args) => repair::run(args),
    }
}
