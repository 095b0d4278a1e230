//! `shipper intel`: the local indicator tables, filled from files that MISP gives out or from a MISP.

mod files;
mod import;
mod lookup;
mod status;
mod sync;

use std::{path::PathBuf, process::ExitCode};

use argh::FromArgs;

pub(in crate::cli) use import::quietly as import_quietly;

use crate::tables::{Attribute, Indicator};

/// Fill the local tables of indicators from exports of MISP or from MISP itself, and ask them.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "intel",
    example = "shipper intel import misp-export.csv",
    example = "shipper intel sync",
    example = "shipper intel status",
    example = "shipper intel lookup 203.0.113.9 evil.example"
)]
pub struct Intel {
    #[argh(subcommand)]
    what: What,
}

#[derive(FromArgs, Debug)]
#[argh(subcommand)]
enum What {
    Import(import::Import),
    Sync(sync::Sync),
    Status(status::Status),
    Lookup(lookup::Lookup),
}

/// Runs the command.
///
/// # Errors
/// If neither config nor folder can be found, a table cannot be read or written, or output fails.
pub fn run(args: &Intel) -> anyhow::Result<ExitCode> {
    match &args.what {
        What::Import(args) => import::run(args),
        What::Sync(args) => sync::run(args),
        What::Status(args) => status::run(args),
        What::Lookup(args) => lookup::run(args),
    }
}

/// The state folder: `--state`, else by the config.
fn state_dir(config: Option<&PathBuf>, state: Option<&PathBuf>) -> anyhow::Result<PathBuf> {
    Ok(super::state::Place::find_by(config.map(PathBuf::as_path), state.map(PathBuf::as_path), "--state")?.dir)
}

/// An attribute for programs.
fn object(attribute: &Attribute) -> serde_json::Value {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let (value, is_known) = match &attribute.indicator {
        Indicator::Text(value) => (text(value), true),
        Indicator::Sum(_) => (None, false),
    };
    serde_json::json!({
        "indicator": value,
        "value": if is_known { text(&attribute.value).or(value.clone()) } else { None },
        "kind": attribute.kind.name(),
        "type": text(&attribute.misp_type),
        "category": text(&attribute.category),
        "uuid": attribute.uuid.map(|uuid| uuid.to_string()),
        "id": text(&attribute.id),
        "event_id": text(&attribute.event_id),
        "event_uuid": attribute.event_uuid.map(|uuid| uuid.to_string()),
        "event_info": text(&attribute.event_info),
        "tags": attribute.tags,
        "to_ids": attribute.to_ids,
        "timestamp": (attribute.timestamp > 0).then_some(attribute.timestamp),
    })
}

/// Seconds since 1970 as a date and time of UTC.
fn time(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    at.map_or_else(|| seconds.to_string(), |at| at.to_string())
}
