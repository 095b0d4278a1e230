//! `shipper state repair`: a person chooses what the agent must not choose by itself.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, lchown},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use argh::FromArgs;

use super::{Held, Place, Saved, unreadable};
use crate::{
    checkpoint::{self, Checkpoint, Slot},
    cli::{UNAVAILABLE, USAGE, plain, tell},
    io::{
        Disk,
        disk::{RealDisk, StateLock},
    },
};

/// See what can be resumed from where the checkpoint is refused, and choose. The agent must be stopped.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "repair",
    example = "shipper state repair",
    example = "shipper state repair --use a",
    example = "shipper state repair --forget",
    note = "What was acked after the chosen checkpoint was saved is sent again; nothing is lost by it. --forget makes the next start a first one, where `start_at` of each source counts. What is replaced is kept beside it as checkpoint.a|b.before-repair."
)]
pub struct Repair {
    /// config file that names the state folder (default /etc/shipper/shipper.toml)
    #[argh(option)]
    config: Option<PathBuf>,
    /// state folder; no config is read then
    #[argh(option)]
    dir: Option<PathBuf>,
    /// go on from this one: a or b
    #[argh(option, long = "use")]
    from: Option<String>,
    /// go on from neither: the next start is a first one
    #[argh(switch)]
    forget: bool,
}

/// Runs the command.
///
/// # Errors
/// If neither config nor folder can be found, an agent runs, or a file cannot be written.
pub(super) fn run(args: &Repair) -> anyhow::Result<ExitCode> {
    let from = match args.from.as_deref() {
        None => None,
        Some("a" | "checkpoint.a") => Some(Slot::A),
        Some("b" | "checkpoint.b") => Some(Slot::B),
        Some(other) => {
            eprintln!("shipper: no checkpoint {other:?}; --use a or --use b");
            return Ok(ExitCode::from(USAGE));
        }
    };
    if from.is_some() && args.forget {
        eprintln!("shipper: --use and --forget say different things; give one");
        return Ok(ExitCode::from(USAGE));
    }
    let place = Place::find(args.config.as_deref(), args.dir.as_deref())?;
    let disk = RealDisk::new();
    if let Some(what) = unreadable(&disk, &place.dir) {
        eprintln!("shipper: {what}");
        return Ok(ExitCode::from(UNAVAILABLE));
    }
    let _lock = StateLock::take(&place.dir)?;
    let lock = place.dir.join("lock");
    own_as_folder(&place.dir, &lock).with_context(|| format!("cannot give {} to the folder's owner", lock.display()))?;
    let saved = Saved::read(&disk, &place.dir);
    match from {
        _ if args.forget => forget(&disk, &place.dir, &saved),
        Some(slot) => go_on_from(&disk, &place.dir, &saved, slot),
        None => choices(&saved),
    }
}

/// Tells what there is to choose from.
fn choices(saved: &Saved) -> anyhow::Result<ExitCode> {
    let mut text = String::new();
    for Held { slot, read } in &saved.files {
        let what = match read {
            Ok(Some(c)) => {
                format!("whole: instance {}, generation {}, saved {}", plain(&c.instance), c.generation, plain(&c.saved_at))
            }
            Ok(None) => "missing".to_owned(),
            Err(what) => plain(what.split_once("; ").map_or(what, |(what, _)| what)),
        };
        text += &format!("{}  {what}\n", slot.file_name());
    }
    let Err(what) = &saved.chosen else {
        text += "nothing to repair: the agent starts with this\n";
        tell(&text)?;
        return Ok(ExitCode::SUCCESS);
    };
    text += &format!("the agent refuses to start: {}\n", plain(what.split_once("; ").map_or(what, |(what, _)| what)));
    for Held { slot, read } in &saved.files {
        if let Ok(Some(c)) = read {
            let letter = if *slot == Slot::A { "a" } else { "b" };
            text += &format!("shipper state repair --use {letter}   goes on from what was saved {}\n", plain(&c.saved_at));
        }
    }
    text += "shipper state repair --forget  makes the next start a first one\n";
    tell(&text)?;
    Ok(ExitCode::from(UNAVAILABLE))
}

/// Keeps the chosen one and puts its next generation over the other: at no moment is there none.
fn go_on_from(disk: &dyn Disk, dir: &Path, saved: &Saved, slot: Slot) -> anyhow::Result<ExitCode> {
    let held = saved.files.iter().find(|held| held.slot == slot);
    let Some(Ok(Some(chosen))) = held.map(|held| &held.read) else {
        eprintln!("shipper: {} is not whole; `shipper state repair` shows what can be resumed from", slot.file_name());
        return Ok(ExitCode::from(UNAVAILABLE));
    };
    set_aside(disk, dir, slot.other(), false)?;
    let next = Checkpoint { generation: chosen.generation + 1, instance_before: None, ..chosen.clone() };
    let (unfinished, path) = (dir.join("checkpoint.tmp"), dir.join(slot.other().file_name()));
    let bytes = checkpoint::encode(&next)?;
    disk.write(&unfinished, &bytes)
        .and_then(|()| own_as_folder(dir, &unfinished))
        .and_then(|()| disk.sync(&unfinished))
        .and_then(|()| disk.rename(&unfinished, &path))
        .and_then(|()| disk.sync_dir(dir))
        .with_context(|| format!("cannot write {}; free disk space or fix its permissions", path.display()))?;
    tell(&format!("the agent goes on from {}, saved {}\n", slot.file_name(), plain(&chosen.saved_at)))?;
    Ok(ExitCode::SUCCESS)
}

/// Sets both aside. If this stops half-way, what is left is refused, and not taken for a first run.
fn forget(disk: &dyn Disk, dir: &Path, saved: &Saved) -> anyhow::Result<ExitCode> {
    // The older one first: alone, the newer is refused.
    let generation = |held: &Held| held.read.as_ref().ok().and_then(|c| c.as_ref()).map_or(0, |c| c.generation);
    let mut slots: Vec<(u64, Slot)> = saved.files.iter().map(|held| (generation(held), held.slot)).collect();
    slots.sort_by_key(|(generation, _)| *generation);
    for (_, slot) in slots {
        set_aside(disk, dir, slot, true)?;
    }
    tell("both checkpoints are set aside; the next start is a first one\n")?;
    Ok(ExitCode::SUCCESS)
}

/// Keeps a file under another name, and with `away` also takes its own name away.
fn set_aside(disk: &dyn Disk, dir: &Path, slot: Slot, away: bool) -> anyhow::Result<()> {
    let (path, kept) = (dir.join(slot.file_name()), dir.join(format!("{}.before-repair", slot.file_name())));
    let aside = || {
        let bytes = match disk.read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        disk.write(&kept, &bytes)?;
        own_as_folder(dir, &kept)?;
        disk.sync(&kept)?;
        if away {
            disk.remove(&path)?;
        }
        disk.sync_dir(dir)
    };
    aside().with_context(|| format!("cannot keep {} as {}; free disk space or fix its permissions", path.display(), kept.display()))
}

/// What root makes here would be closed to the agent's user.
pub(crate) fn own_as_folder(dir: &Path, path: &Path) -> io::Result<()> {
    let (folder, file) = (fs::metadata(dir)?, fs::symlink_metadata(path)?);
    if (folder.uid(), folder.gid()) == (file.uid(), file.gid()) {
        return Ok(());
    }
    lchown(path, Some(folder.uid()), Some(folder.gid()))
}
