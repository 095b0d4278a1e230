//! `shipper intel import`: exported files into the local tables.

#![allow(clippy::disallowed_methods, reason = "a command of the operator works on real files")]

use std::{
    cell::Cell,
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, BufReader},
    path::{Path, PathBuf},
    process::ExitCode,
    rc::Rc,
    sync::Arc,
};

use anyhow::Context;
use argh::FromArgs;
use serde_json::json;

use super::{
    files::{Counted, Found, Said, open},
    state_dir,
};
use crate::{
    cli::{USAGE, plain, progress::Progress, state::own_as_folder, tell},
    clock::{Clock, SystemClock},
    io::disk::RealDisk,
    lookups::misp::local::normal_form,
    store::intel::{self, IntelError, Status},
    tables::exports::{self, Exported, Read, Reason},
};

/// Read exported files into the local tables, in place of what was imported before.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "import",
    example = "shipper intel import misp-export.csv",
    example = "shipper intel import --add feeds/circl/ blocklist.txt",
    example = "shipper intel import --format cache misp-cache.txt",
    note = "Takes CSV, text, hashes, JSON and cache exports, and the folder of a MISP feed (manifest.json with its events, or with hashes.csv). The format is told by the content; where it cannot be, the command says what to add. Attributes that are not for detection (to_ids 0) and types that no alert is searched for are left out and counted. What counted before does so until the last step; a running agent takes the new tables a second later, without a reload."
)]
pub struct Import {
    /// exported files, or folders of feeds
    #[argh(positional)]
    paths: Vec<PathBuf>,
    /// config file that names the state folder (default /etc/shipper/shipper.toml)
    #[argh(option)]
    config: Option<PathBuf>,
    /// state folder; no config is read then
    #[argh(option)]
    state: Option<PathBuf>,
    /// csv, text, hashes, cache or json, for all paths
    #[argh(option)]
    format: Option<String>,
    /// columns of CSV without a header, such as value,type,event_id,uuid,to_ids,timestamp
    #[argh(option)]
    columns: Option<String>,
    /// keep what was imported before
    #[argh(switch)]
    add: bool,
    /// take attributes too that are not for detection
    #[argh(switch)]
    all: bool,
    /// one JSON object
    #[argh(switch)]
    json: bool,
}

/// Examples of what was skipped that are told.
const EXAMPLES_MAX: usize = 10;

/// What is left out, by reason, with the first few places.
#[derive(Default)]
struct Skipped {
    by_reason: BTreeMap<String, u64>,
    examples: Vec<String>,
}

impl Skipped {
    fn count(&mut self, file: &Found, at: u64, reason: &dyn std::fmt::Display, is_defect: bool) {
        let reason = reason.to_string();
        if is_defect && self.examples.len() < EXAMPLES_MAX {
            self.examples.push(format!("{}:{at}: {reason}", file.path.display()));
        }
        *self.by_reason.entry(reason).or_default() += 1;
    }
}

/// Runs the command.
///
/// # Errors
/// If a path cannot be read or its format not be told, another process imports, or a table cannot
/// be written.
pub(super) fn run(args: &Import) -> anyhow::Result<ExitCode> {
    const FORMATS: [&str; 5] = ["csv", "text", "hashes", "cache", "json"];
    if args.paths.is_empty() {
        eprintln!("shipper: no path; name exported files or the folder of a feed");
        return Ok(ExitCode::from(USAGE));
    }
    if let Some(format) = args.format.as_deref().filter(|format| !FORMATS.contains(format)) {
        eprintln!("shipper: no format {format:?}; known: {}", FORMATS.join(", "));
        return Ok(ExitCode::from(USAGE));
    }
    if args.columns.is_some() && args.format.as_deref().is_some_and(|format| format != "csv") {
        eprintln!("shipper: --columns are of CSV; leave --format out");
        return Ok(ExitCode::from(USAGE));
    }
    let state = state_dir(args.config.as_ref(), args.state.as_ref())?;
    let said = Said { format: args.format.clone(), columns: args.columns.clone() };
    // All paths are looked at before anything is written.
    let mut files = Vec::new();
    for path in &args.paths {
        files.extend(said.files(path)?);
    }
    // Files made by root must be readable for the agent's user, who owns the state folder.
    let owner = state.clone();
    let own = Box::new(move |path: &Path| own_as_folder(&owner, path));
    let mut import = intel::Import::begin(Arc::new(RealDisk::new()), &state, own)?;
    if args.add {
        import.add_current()?;
    }
    let mut skipped = Skipped::default();
    let mut progress = Progress::new(files.iter().map(|file| file.size).sum());
    let mut done = 0;
    for file in &files {
        one(file, args.all, &mut import, &mut skipped, &mut |import, bytes| progress.tell("reading", done + bytes, import.taken()))?;
        done += file.size;
    }
    let taken = import.taken();
    let sources = args.paths.iter().map(|path| path.display().to_string()).collect();
    let now = SystemClock::new().now() / 1_000_000_000;
    (progress.bytes_all, progress.calls_each) = (256, 1);
    let status = import.finish(sources, skipped.by_reason.clone(), now, &mut |step| progress.tell("sorting", u64::from(step), taken))?;
    progress.end();
    if args.json {
        tell(&format!("{:#}\n", json!({"files": files.len(), "status": status, "skipped_examples": skipped.examples})))?;
    } else {
        tell(&text(&status, &files, &skipped))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Imports one exported file, in place of what was there, and says nothing.
///
/// # Errors
/// As [`run`].
pub(in crate::cli) fn quietly(path: &Path, state: &Path) -> anyhow::Result<Status> {
    let owner = state.to_owned();
    let mut import = intel::Import::begin(Arc::new(RealDisk::new()), state, Box::new(move |path| own_as_folder(&owner, path)))?;
    let mut skipped = Skipped::default();
    for file in &(Said { format: None, columns: None }).files(path)? {
        one(file, false, &mut import, &mut skipped, &mut |_, _| {})?;
    }
    let now = SystemClock::new().now() / 1_000_000_000;
    Ok(import.finish(vec![path.display().to_string()], skipped.by_reason, now, &mut |_| {})?)
}

/// Reads one file into the tables.
fn one(
    file: &Found,
    all: bool,
    import: &mut intel::Import,
    skipped: &mut Skipped,
    progress: &mut dyn FnMut(&intel::Import, u64),
) -> anyhow::Result<()> {
    let (from, _) = open(&file.path)?;
    let bytes = Rc::new(Cell::new(0));
    let mut from = Counted { from: BufReader::with_capacity(256 << 10, from), bytes: Rc::clone(&bytes) };
    let mut failed: Option<IntelError> = None;
    let read = exports::read(&file.format, &mut from, &mut |read| {
        progress(import, bytes.get());
        let exported = match read {
            Read::Skipped { at, reason } => {
                skipped.count(file, at, &reason, true);
                return Ok(());
            }
            Read::Attribute(exported) => exported,
        };
        take(exported, file, all, import, skipped).map_err(|error| {
            failed = Some(error);
            io::Error::other("the tables cannot be written")
        })
    });
    match failed {
        Some(error) => Err(error.into()),
        None => read.with_context(|| format!("cannot read {}; fix the disk or take the file anew", file.path.display())),
    }
}

fn take(mut exported: Exported, file: &Found, all: bool, import: &mut intel::Import, skipped: &mut Skipped) -> Result<(), IntelError> {
    if let Some(reason) = exported.useless() {
        skipped.count(file, exported.at, &reason, false);
        return Ok(());
    }
    if exported.to_ids == Some(false) && !all {
        skipped.count(file, exported.at, &Reason::NotToIds, false);
        return Ok(());
    }
    if let Some(head) = file.events.as_ref().zip(exported.event_uuid).and_then(|(events, uuid)| events.get(&uuid)) {
        exported.event_info.clone_from(&head.info);
        exported.tags.clone_from(&head.tags);
    }
    let attributes = exported.attributes(normal_form);
    if attributes.is_empty() {
        skipped.count(file, exported.at, &Reason::NotNormal, true);
    }
    for attribute in &attributes {
        if let Err(refused) = import.add(attribute)? {
            skipped.count(file, exported.at, &refused, true);
        }
    }
    Ok(())
}

fn text(status: &Status, files: &[Found], skipped: &Skipped) -> String {
    let mut text = String::new();
    let mut formats: BTreeMap<&str, usize> = BTreeMap::new();
    for file in files {
        *formats.entry(file.format.name()).or_default() += 1;
    }
    let formats: Vec<String> = formats.iter().map(|(format, count)| format!("{count} {format}")).collect();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{} read ({})",
        if files.len() == 1 { "1 file".to_owned() } else { format!("{} files", files.len()) },
        formats.join(", ")
    );
    text += &super::status::counts(status);
    for example in &skipped.examples {
        let _ = writeln!(text, "  {}", plain(example));
    }
    let _ = writeln!(text, "generation {} counts from now on", status.generation);
    text
}
