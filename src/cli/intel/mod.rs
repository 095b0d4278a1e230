//! `shipper intel`: the local indicator tables, filled from files that MISP gives out.

mod files;
mod import;
mod lookup;
mod status;

use std::{path::PathBuf, process::ExitCode};

use argh::FromArgs;

use crate::{
    intel::{IocType, normal},
    tables::{Attribute, Indicator, Kind, networks},
};

/// Fill the local tables of indicators from exports of MISP, and ask them.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "intel",
    example = "shipper intel import misp-export.csv",
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
        What::Status(args) => status::run(args),
        What::Lookup(args) => lookup::run(args),
    }
}

/// The state folder: `--state`, else by the config.
fn state_dir(config: Option<&PathBuf>, state: Option<&PathBuf>) -> anyhow::Result<PathBuf> {
    Ok(super::state::Place::find_by(config.map(PathBuf::as_path), state.map(PathBuf::as_path), "--state")?.dir)
}

/// The form of a value in which the tables know it, which is the one that extraction gives.
///
/// A network has no normal form among indicators of alerts: it is written in CIDR form.
fn normal_form(kind: Kind, value: &str) -> Option<String> {
    if kind == Kind::Ip && value.contains('/') {
        let net = networks::parse(value.trim())?;
        let is_one = net.prefix_len() == net.max_prefix_len();
        return Some(if is_one { net.addr().to_string() } else { net.to_string() });
    }
    match IocType::of(kind.name()) {
        Some(kind) => normal(kind, value),
        // An export that names no type, and a value that looks like none.
        None => None,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_extraction_speak_of_one_form() {
        for (kind, value, expected) in [
            (Kind::Ip, "203.0.113.9", Some("203.0.113.9")),
            (Kind::Ip, "2001:DB8:0::1", Some("2001:db8::1")),
            (Kind::Ip, "203.0.113.77/24", Some("203.0.113.0/24")),
            (Kind::Ip, "203.0.113.9/32", Some("203.0.113.9")),
            (Kind::Ip, "203.0.113.0/40", None),
            (Kind::Domain, "Evil.Example.com.", Some("evil.example.com")),
            (Kind::Url, "HTTP://Evil.Example.com/Path", Some("http://evil.example.com/Path")),
            (Kind::Md5, "D41D8CD98F00B204E9800998ECF8427E", Some("d41d8cd98f00b204e9800998ecf8427e")),
            (Kind::Md5, "short", None),
            (Kind::Unknown, "word", None),
        ] {
            assert_eq!(normal_form(kind, value).as_deref(), expected, "{value}");
        }
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Unknown) {
            assert_eq!(IocType::of(kind.name()).map(IocType::as_str), Some(kind.name()));
        }
        assert_eq!(IocType::ALL.len() + 1, Kind::ALL.len());
    }
}
