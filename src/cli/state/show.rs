//! `shipper state show`: where each branch of each stream goes on.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use argh::FromArgs;
use serde_json::{Map, Value, json};

use super::{
    Place, Saved,
    spools::{self, Waiting},
    unreadable,
};
use crate::{
    checkpoint::Slot,
    cli::{UNAVAILABLE, plain, tell},
    clock::{Clock, SystemClock},
    io::disk::RealDisk,
    position::Position,
    sources::{StreamName, address},
};

/// Show the checkpoint: where each branch of each stream goes on. Takes no lock, so it may be asked while an agent runs.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "show",
    example = "shipper state show",
    example = "shipper state show --dir /var/lib/shipper",
    example = "shipper state show --json | jq -r '.positions[].address'",
    note = "Ends with 0, also where nothing is saved yet, and with 69 where a checkpoint or its folder cannot be read."
)]
pub struct Show {
    /// config file that names the state folder (default /etc/shipper/shipper.toml)
    #[argh(option)]
    config: Option<PathBuf>,
    /// state folder; no config is read then
    #[argh(option)]
    dir: Option<PathBuf>,
    /// one JSON object
    #[argh(switch)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// If neither config nor folder can be found, or standard output fails.
pub(super) fn run(args: &Show) -> anyhow::Result<ExitCode> {
    let place = Place::find(args.config.as_deref(), args.dir.as_deref())?;
    let disk = RealDisk::new();
    if let Some(what) = unreadable(&disk, &place.dir) {
        if args.json {
            let told = json!({"state_dir": place.dir.display().to_string(), "status": "unreadable", "error": what, "positions": [], "segments": [], "spools": []});
            tell(&format!("{told:#}\n"))?;
        }
        eprintln!("shipper: {what}");
        return Ok(ExitCode::from(UNAVAILABLE));
    }
    let saved = Saved::read(&disk, &place.dir);
    let spools = spools::look(&disk, &place.dir, saved.best());
    let waiting = spools.as_deref().unwrap_or_default();
    let now = SystemClock::new().now();
    let text = if args.json { format!("{:#}\n", object(&place, &saved, waiting, now)) } else { table(&place, &saved, waiting, now) };
    tell(&text)?;
    if let Err(what) = &spools {
        eprintln!("shipper: {what}");
        return Ok(ExitCode::from(UNAVAILABLE));
    }
    match &saved.chosen {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(what) => {
            eprintln!("shipper: {what}");
            Ok(ExitCode::from(UNAVAILABLE))
        }
    }
}

/// Seconds since a checkpoint was saved; `None` if it does not say when, or the clock says later.
fn age_seconds(saved_at: &str, now: u64) -> Option<f64> {
    let at = saved_at.parse::<jiff::Timestamp>().ok()?;
    let at = u64::try_from(at.as_nanosecond()).ok()?;
    Some(now.checked_sub(at)? as f64 / 1e9)
}

fn is_orphan(place: &Place, source: &str) -> Option<bool> {
    place.sources.as_ref().map(|names| names.iter().all(|name| name != source))
}

fn object(place: &Place, saved: &Saved, waiting: &[Waiting], now: u64) -> Value {
    let (status, error) = match &saved.chosen {
        Ok(Some(_)) => ("saved", None),
        Ok(None) => ("missing", None),
        Err(what) => ("unreadable", Some(what)),
    };
    let counts = saved.chosen.as_ref().ok().and_then(|chosen| chosen.as_ref().map(|chosen| chosen.slot));
    let files: Vec<Value> = saved
        .files
        .iter()
        .map(|held| {
            let mut file = json!({"file": held.slot.file_name(), "counts": counts == Some(held.slot)});
            match &held.read {
                Ok(Some(c)) => {
                    file["status"] = "whole".into();
                    file["generation"] = c.generation.into();
                    file["saved_at"] = c.saved_at.as_str().into();
                    file["instance"] = c.instance.as_str().into();
                }
                Ok(None) => file["status"] = "missing".into(),
                Err(what) => {
                    file["status"] = "unreadable".into();
                    file["error"] = what.as_str().into();
                }
            }
            file
        })
        .collect();
    let mut all = json!({
        "state_dir": place.dir.display().to_string(),
        "status": status,
        "error": error,
        "checkpoint": counts.map(Slot::file_name),
        "files": files,
        "positions": [],
        "segments": [],
        "spools": waiting.iter().map(spool).collect::<Vec<_>>(),
    });
    let Some(best) = saved.best() else { return all };
    all["instance"] = best.instance.as_str().into();
    all["generation"] = best.generation.into();
    all["saved_at"] = best.saved_at.as_str().into();
    all["age_seconds"] = age_seconds(&best.saved_at, now).into();
    let mut positions = Vec::new();
    let mut segments = Vec::new();
    for row in &best.rows {
        let name = StreamName { instance: &best.instance, source: &row.source, stream: &row.stream };
        let common = json!({"source": row.source, "stream": row.stream, "kind": row.kind, "orphan": is_orphan(place, &row.source)});
        for branch in &row.branches {
            let mut entry = place_of(&branch.position);
            entry.extend(common.as_object().cloned().unwrap_or_default());
            entry.insert("branch".into(), branch.branch.as_str().into());
            entry.insert("address".into(), address(&row.kind, &name, &branch.position).into());
            positions.push(Value::Object(entry));
        }
        for segment in &row.segments {
            segments.push(json!({
                "source": row.source,
                "stream": row.stream,
                "segment": segment.segment,
                "incarnation": segment.incarnation,
                "path": segment.path,
                "device": segment.device,
                "inode": segment.inode,
                "finished": segment.finished,
                "rungs": segment.rungs.len(),
            }));
        }
    }
    all["positions"] = positions.into();
    all["segments"] = segments.into();
    all
}

fn spool(of: &Waiting) -> Value {
    let Waiting { lookup, segments, bytes, messages, damaged } = of;
    json!({"lookup": lookup, "messages": messages, "bytes": bytes, "segments": segments, "damaged_bytes": damaged})
}

/// The fields of a place, by its kind.
fn place_of(position: &Position) -> Map<String, Value> {
    let fields = match position {
        Position::File { segment, incarnation, offset } => json!({"segment": segment, "incarnation": incarnation, "offset": offset}),
        Position::Kafka { partition, offset, epoch } => json!({"partition": partition, "offset": offset, "epoch": epoch}),
        Position::Redis { ms, seq } => json!({"ms": ms, "seq": seq}),
        Position::Cursor(cursor) => json!({"cursor": cursor}),
        Position::Count(n) => json!({"count": n}),
    };
    fields.as_object().cloned().unwrap_or_default()
}

fn table(place: &Place, saved: &Saved, waiting: &[Waiting], now: u64) -> String {
    let mut text = Vec::new();
    // Writing into memory cannot fail.
    let _ = write_table(&mut text, place, saved, now).and_then(|()| write_spools(&mut text, waiting));
    String::from_utf8_lossy(&text).into_owned()
}

fn write_spools(out: &mut Vec<u8>, waiting: &[Waiting]) -> io::Result<()> {
    for Waiting { lookup, segments, bytes, messages, damaged } in waiting {
        write!(out, "\nspool of {}: {messages} messages wait, {bytes} bytes in {segments} segments", plain(lookup))?;
        match damaged {
            0 => writeln!(out)?,
            _ => writeln!(out, ", {damaged} bytes damaged: they go into the dead letter, all else is used")?,
        }
    }
    Ok(())
}

fn write_table(out: &mut Vec<u8>, place: &Place, saved: &Saved, now: u64) -> io::Result<()> {
    let counts = saved.chosen.as_ref().ok().and_then(|chosen| chosen.as_ref().map(|chosen| chosen.slot));
    writeln!(out, "state in {}", place.dir.display())?;
    for held in &saved.files {
        let name = held.slot.file_name();
        match &held.read {
            Ok(Some(c)) => {
                let age = age_seconds(&c.saved_at, now).map_or(String::new(), |age| format!(" ({age:.0} s ago)"));
                let mark = if counts == Some(held.slot) { "counts: " } else { "" };
                writeln!(out, "  {name}  {mark}generation {}, saved {}{age}", c.generation, plain(&c.saved_at))?;
            }
            Ok(None) => writeln!(out, "  {name}  missing")?,
            Err(_) => writeln!(out, "  {name}  unreadable")?,
        }
    }
    let Some(best) = saved.best() else {
        if saved.chosen.is_ok() {
            writeln!(out, "no checkpoint: the agent has not saved one yet, and its next start is a first one")?;
        }
        return Ok(());
    };
    if saved.chosen.is_err() {
        writeln!(out, "no checkpoint counts; what the newest readable one says:")?;
    }
    writeln!(out, "instance {}", plain(&best.instance))?;
    for row in &best.rows {
        let orphan = if is_orphan(place, &row.source) == Some(true) { "  ORPHAN: the config has no such source" } else { "" };
        writeln!(out, "\n{} ({}), stream {}{orphan}", plain(&row.source), plain(&row.kind), plain(&row.stream))?;
        let name = StreamName { instance: &best.instance, source: &row.source, stream: &row.stream };
        let width = row.branches.iter().map(|branch| branch.branch.len()).max().unwrap_or(0);
        for branch in &row.branches {
            writeln!(out, "  acked by {:width$}  below {}", plain(&branch.branch), plain(&address(&row.kind, &name, &branch.position)))?;
        }
        for segment in &row.segments {
            let life = if segment.incarnation == 0 { String::new() } else { format!(", incarnation {}", segment.incarnation) };
            let finished = if segment.finished { ", finished" } else { "" };
            writeln!(
                out,
                "  file {} (segment {}{life}, inode {}, {} rungs{finished})",
                plain(&segment.path),
                segment.segment,
                segment.inode,
                segment.rungs.len()
            )?;
        }
    }
    Ok(())
}
