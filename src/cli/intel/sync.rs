//! `shipper intel sync`: the tables become what a MISP has.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, bail};
use argh::FromArgs;
use serde_json::json;

use super::state_dir;
use crate::cli::progress::Progress;
use crate::{
    cli::{DEFAULT_CONFIG, UNAVAILABLE, USAGE, state::own_as_folder, tell},
    clock::{Clock, SystemClock},
    io::disk::RealDisk,
    lookups::misp::{
        FIELDS, Settings,
        sync::{Place, Progress as At, SyncError, Synced, sync},
    },
    register::{Errors, Node, Section},
    topology::Config,
};

/// Make the local tables what a MISP has: everything the first time, then what has changed.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "sync",
    example = "shipper intel sync",
    example = "shipper intel sync --config shipper.toml --lookup misp --full",
    example = "shipper intel sync --url https://misp.example --key-file misp.key --state /var/lib/shipper",
    note = "URL, key, certificate and filters are those of a lookup of kind misp in the config, or given by flags. Takes changes since the last time, deletions included; everything where there was nothing yet, the server or its filters are others, or the last whole fetch is older than the lookup's rebuild_every. What was imported from files goes with a whole fetch. What counted before does so until the last step; a running agent takes the new tables a second later. Ends with 69 where MISP refuses the key or is away."
)]
pub struct Sync {
    /// config file (default /etc/shipper/shipper.toml)
    #[argh(option)]
    config: Option<PathBuf>,
    /// which lookup of the config, if it has several of kind misp
    #[argh(option)]
    lookup: Option<String>,
    /// base URL of the MISP; no config is read for it then
    #[argh(option)]
    url: Option<String>,
    /// file whose first line is the API key, with --url
    #[argh(option)]
    key_file: Option<PathBuf>,
    /// PEM file with the CA that vouches for the MISP, with --url
    #[argh(option)]
    ca: Option<PathBuf>,
    /// state folder; by the config where it is not given
    #[argh(option)]
    state: Option<PathBuf>,
    /// fetch everything anew
    #[argh(switch)]
    full: bool,
    /// one JSON object
    #[argh(switch)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// A wrong config, or tables that cannot be written.
pub(super) fn run(args: &Sync) -> anyhow::Result<ExitCode> {
    if args.url.is_some() != args.key_file.is_some() || (args.ca.is_some() && args.url.is_none()) {
        eprintln!("shipper: --url and --key-file go together, and --ca with them; or leave all out and name a config");
        return Ok(ExitCode::from(USAGE));
    }
    let settings = match &args.url {
        Some(url) => given(url, args)?,
        None => configured(args)?,
    };
    let place = Place {
        disk: Arc::new(RealDisk::new()),
        state_dir: state_dir(args.config.as_ref(), args.state.as_ref())?,
        // Files made by root must be readable for the agent's user, who owns the state folder.
        own: |owner| Box::new(move |path| own_as_folder(&owner, path)),
    };
    let mut progress = Progress::new(0);
    let now = SystemClock::new().now() / 1_000_000_000;
    let synced = sync(&settings, &place, args.full, settings.rebuild_every, now, &mut |at| match at {
        At::Rows(rows) => progress.say(&format!("reading, {rows} attributes")),
        At::Sorted(step) => progress.say(&format!("sorting {} %", u32::from(step) * 100 / 255)),
        At::Waiting(seconds) => progress.say(&format!("waiting {seconds} s for MISP's own limit")),
    });
    progress.end();
    match synced {
        Ok(synced) => {
            tell(&if args.json { object(&synced) } else { text(&synced) })?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error @ (SyncError::Denied(_) | SyncError::Away(_))) => {
            eprintln!("shipper: {error}");
            Ok(ExitCode::from(UNAVAILABLE))
        }
        Err(error) => Err(error.into()),
    }
}

/// Settings by flags, the rest by default.
fn given(url: &str, args: &Sync) -> anyhow::Result<Settings> {
    let mut node = Node::empty();
    let mut errors = Errors::default();
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let flags =
        [("url", Some(url.to_owned()), "--url"), ("key_file", path(&args.key_file), "--key-file"), ("tls.ca", path(&args.ca), "--ca")];
    for (name, value, flag) in flags {
        if let Some(value) = value {
            let place = crate::register::Place::Flag(flag.to_owned());
            node.set(name, crate::register::Value::Text(value), place, &mut errors);
        }
    }
    let settings = Settings::parse(&mut Section::open("", &node, FIELDS, &[], &mut errors));
    if !errors.is_empty() {
        bail!("{errors}");
    }
    Ok(settings)
}

/// Settings of a lookup in the config.
fn configured(args: &Sync) -> anyhow::Result<Settings> {
    let path = args.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG));
    let mut tree = Config::tree(path)?;
    let mut errors = Errors::default();
    tree.overlay_env(std::env::vars(), &mut errors);
    let lookups = tree.get("lookups").into_iter().flat_map(Node::entries);
    let is_misp = |node: &Node| node.get("kind").and_then(|kind| kind.value.as_text()).as_deref() == Some("misp");
    let found: Vec<_> = lookups.filter(|(_, node)| is_misp(node)).collect();
    let names = || found.iter().map(|(key, _)| key.name.as_str()).collect::<Vec<_>>().join(", ");
    let (key, node) = match (&args.lookup, found.as_slice()) {
        (_, []) => bail!("config {} has no lookup of kind misp; add one, or name a MISP with --url and --key-file", path.display()),
        (Some(name), all) => {
            let missing = || format!("config {} has no lookup {name:?} of kind misp; known: {}", path.display(), names());
            all.iter().find(|(key, _)| key.name == *name).with_context(missing)?
        }
        (None, [one]) => one,
        (None, _) => bail!("config {} has several lookups of kind misp; name one with --lookup: {}", path.display(), names()),
    };
    let section = format!("lookups.{}", key.name);
    let settings = Settings::parse(&mut Section::open(section.as_str(), node, FIELDS, &["kind", "inputs", "required"], &mut errors));
    if !errors.is_empty() {
        bail!("config {}\n{errors}", path.display());
    }
    if !settings.has_misp() {
        bail!("{section} in config {} names no MISP; set its url and key_file, or give --url and --key-file", path.display());
    }
    Ok(settings)
}

fn object(synced: &Synced) -> String {
    let Synced { whole, rows, put, gone, status, changed } = synced;
    let told = json!({
        "whole": whole.is_some(), "why": whole, "rows": rows, "put": put, "gone": gone, "changed": changed, "status": status,
    });
    format!("{told:#}\n")
}

fn text(synced: &Synced) -> String {
    let Synced { whole, rows, put, gone, status, changed } = synced;
    match whole {
        Some(why) => {
            let counts = super::status::counts(status);
            format!("everything fetched ({why}): {rows} attributes read\n{counts}generation {} counts from now on\n", status.generation)
        }
        None => format!(
            "changes fetched: {rows} attributes read, {put} put in, {gone} taken out\n{changed} indicators changed since generation {}\n",
            status.generation
        ),
    }
}
