//! `shipper dead-letter`: what was refused, and why; read beside a running agent or after one.

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use argh::FromArgs;
use serde_json::{Value, json};

use super::{UNAVAILABLE, plain, state::Place, try_records::base64};
use crate::{
    dead_letter::{Found, Header, Kind, entries, segment_number},
    io::{Disk, disk::RealDisk},
};

/// Look at refused records and messages.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "dead-letter", example = "shipper dead-letter list", example = "shipper dead-letter show 3")]
pub struct DeadLetter {
    #[argh(subcommand)]
    what: What,
}

#[derive(FromArgs, Debug)]
#[argh(subcommand)]
enum What {
    List(List),
    Show(Show),
}

/// List what was refused, oldest first: number, time, kind, branch, reason, size, origin.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "list",
    example = "shipper dead-letter list",
    example = "shipper dead-letter list --dir /var/lib/shipper",
    example = "shipper dead-letter list --json | jq -r .reason | sort | uniq -c"
)]
pub struct List {
    /// config file that names the state folder (default /etc/shipper/shipper.toml)
    #[argh(option)]
    config: Option<PathBuf>,
    /// state folder that the dead letter is in; no config is read then
    #[argh(option)]
    dir: Option<PathBuf>,
    /// one JSON object a line
    #[argh(switch)]
    json: bool,
}

/// Print the refused bytes of one entry as they are, and what is known of it on standard error.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "show",
    example = "shipper dead-letter show 3",
    example = "shipper dead-letter show mgr-1/alerts/2026-03-14/000/1024+621 > record",
    example = "shipper dead-letter show 3 --json"
)]
pub struct Show {
    /// number in the list, which counts from the oldest that is there, or an origin
    #[argh(positional)]
    entry: String,
    /// config file that names the state folder (default /etc/shipper/shipper.toml)
    #[argh(option)]
    config: Option<PathBuf>,
    /// state folder that the dead letter is in; no config is read then
    #[argh(option)]
    dir: Option<PathBuf>,
    /// one JSON object a line, with `value`, or `value_b64` where the bytes are no text
    #[argh(switch)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// If neither config nor folder can be found, or standard output fails.
pub fn run(args: &DeadLetter) -> anyhow::Result<ExitCode> {
    match &args.what {
        What::List(args) => list(args),
        What::Show(args) => show(args),
    }
}

/// One entry on its way to be told.
struct Letter<'s> {
    /// From 1, the oldest that is there.
    number: u64,
    segment: u32,
    header: &'s Header,
    bytes: &'s [u8],
}

fn list(args: &List) -> anyhow::Result<ExitCode> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let (mut count, mut bytes) = (0u64, 0u64);
    let ended = each(args.config.as_deref(), args.dir.as_deref(), &mut |letter| {
        count = letter.number;
        bytes += letter.bytes.len() as u64;
        if args.json {
            return writeln!(out, "{}", object(letter));
        }
        let Header { time, branch, origin, reason, detail, .. } = letter.header;
        let detail = if detail.is_empty() { String::new() } else { format!("  ({})", plain(detail)) };
        writeln!(
            out,
            "{:>6}  {}  {:7}  {}  {}  {} bytes  {}{detail}",
            letter.number,
            plain(time),
            kind(letter.header),
            plain(branch),
            plain(reason),
            letter.bytes.len(),
            plain(origin)
        )
    })?;
    if let Some(code) = ended {
        return Ok(code);
    }
    if !args.json {
        let entries = if count == 1 { "entry" } else { "entries" };
        finished(writeln!(out, "{count} {entries}, {bytes} bytes refused"))?;
    }
    finished(out.flush())?;
    Ok(ExitCode::SUCCESS)
}

fn show(args: &Show) -> anyhow::Result<ExitCode> {
    let number: Option<u64> = args.entry.parse().ok();
    let mut out = io::stdout().lock();
    let to_person = out.is_terminal();
    let (mut count, mut shown) = (0, 0);
    let ended = each(args.config.as_deref(), args.dir.as_deref(), &mut |letter| {
        count = letter.number;
        if number.map_or(letter.header.origin != args.entry, |number| number != letter.number) {
            return Ok(());
        }
        shown += 1;
        if args.json {
            let mut told = object(letter);
            match std::str::from_utf8(letter.bytes) {
                Ok(text) => told["value"] = text.into(),
                Err(_) => told["value_b64"] = base64(letter.bytes).into(),
            }
            return writeln!(out, "{told}");
        }
        eprintln!("{}", about(letter));
        if !to_person {
            return out.write_all(letter.bytes);
        }
        // A terminal obeys control characters, and these bytes are anybody's.
        let text = String::from_utf8_lossy(letter.bytes);
        let text: Vec<String> = text.trim_end_matches('\n').split('\n').map(plain).collect();
        writeln!(out, "{}", text.join("\n"))
    })?;
    if let Some(code) = ended {
        return Ok(code);
    }
    finished(out.flush())?;
    if shown > 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("shipper: no entry {:?} among the {count} in the dead letter; `shipper dead-letter list` shows them", args.entry);
    Ok(ExitCode::from(UNAVAILABLE))
}

fn kind(header: &Header) -> &'static str {
    match header.kind {
        Kind::Record => "record",
        Kind::Message => "message",
    }
}

/// What is known of an entry, for a person.
fn about(letter: &Letter<'_>) -> String {
    let Header { origin, branch, output, sink, key, reason, detail, time, .. } = letter.header;
    let mut text =
        format!("{} {} of {}\nrefused {}, branch {}", letter.number, kind(letter.header), plain(origin), plain(time), plain(branch));
    for (name, value) in [("output", output), ("sink", sink), ("key", key)] {
        if let Some(value) = value {
            text += &format!(", {name} {}", plain(value));
        }
    }
    text += &format!("\nreason {}", plain(reason));
    if !detail.is_empty() {
        text += &format!(": {}", plain(detail));
    }
    text
}

fn object(letter: &Letter<'_>) -> Value {
    let Header { origin, branch, output, sink, key, reason, detail, time, .. } = letter.header;
    json!({
        "number": letter.number,
        "segment": letter.segment,
        "kind": kind(letter.header),
        "origin": origin,
        "branch": branch,
        "output": output,
        "sink": sink,
        "key": key,
        "reason": reason,
        "detail": detail,
        "time": time,
        "bytes": letter.bytes.len(),
    })
}

/// Calls `tell` with each entry, oldest first; a code if the folder cannot be read.
fn each(
    config: Option<&Path>,
    dir: Option<&Path>,
    tell: &mut dyn FnMut(&Letter<'_>) -> io::Result<()>,
) -> anyhow::Result<Option<ExitCode>> {
    let Place { dir, letters, .. } = Place::find(config, dir)?;
    let disk = RealDisk::new();
    let unreadable = |what: String| {
        eprintln!("shipper: {what}");
        Ok(Some(ExitCode::from(UNAVAILABLE)))
    };
    if let Err(e) = disk.list(&dir) {
        return unreadable(match e.kind() {
            io::ErrorKind::NotFound => {
                format!("there is no state folder {}: no agent has run with it; name another with --dir", dir.display())
            }
            _ => format!("cannot read state folder {}: {e}; ask as the agent's user, or as root", dir.display()),
        });
    }
    let mut segments: Vec<(u32, PathBuf)> = match disk.list(&letters) {
        Ok(paths) => paths.into_iter().filter_map(|path| Some((segment_number(&path)?, path))).collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => {
            return unreadable(format!("cannot read the dead letter {}: {e}; ask as the agent's user, or as root", letters.display()));
        }
    };
    segments.sort_unstable();
    let mut number = 0;
    for (segment, path) in segments {
        let held = match disk.read(&path) {
            Ok(held) => held,
            // Dropped meanwhile, to make room.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return unreadable(format!("cannot read {}: {e}; ask as the agent's user, or as root", path.display())),
        };
        for found in entries(&held) {
            match found {
                Found::Entry { header, bytes, .. } => {
                    number += 1;
                    if finished(tell(&Letter { number, segment, header: &header, bytes }))?.is_none() {
                        return Ok(Some(ExitCode::SUCCESS));
                    }
                }
                Found::Damaged { from, to } => {
                    eprintln!("shipper: {} is damaged between bytes {from} and {to}; what was there is lost", path.display());
                }
                Found::Torn { from } => {
                    eprintln!(
                        "shipper: {} ends in a part of an entry at byte {from}: it is being written, or a crash cut it off",
                        path.display()
                    );
                }
            }
        }
    }
    Ok(None)
}

/// `None` if whoever reads our output has gone, which is no failure of ours.
fn finished(written: io::Result<()>) -> anyhow::Result<Option<()>> {
    match written {
        Ok(()) => Ok(Some(())),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(None),
        Err(e) => Err(e).context("cannot write to standard output"),
    }
}
