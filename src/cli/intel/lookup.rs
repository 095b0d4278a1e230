//! `shipper intel lookup`: what the local tables know of a value.

use std::{path::PathBuf, process::ExitCode};

use argh::FromArgs;
use serde_json::{Value, json};

use super::{object, state_dir, status::load};
use crate::{
    cli::{USAGE, plain, tell},
    lookups::misp::local::normal_form,
    tables::{
        Attribute, Indicator, Kind,
        indicators::{host, parents},
    },
};

/// Ask the local tables for values, as the agent does.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "lookup",
    example = "shipper intel lookup 203.0.113.9",
    example = "shipper intel lookup http://evil.example/a d41d8cd98f00b204e9800998ecf8427e",
    example = "shipper intel lookup --json evil.example | jq -r '.found[].event_info'",
    note = "A URL is also asked for by its host, a name by the names above it, an address by the networks around it. Ends with 0 whatever the answer is, and with 69 where nothing was imported or a table cannot be read."
)]
pub struct Lookup {
    /// addresses, names, URLs, e-mail addresses, hashes
    #[argh(positional)]
    values: Vec<String>,
    /// config file that names the state folder (default /etc/shipper/shipper.toml)
    #[argh(option)]
    config: Option<PathBuf>,
    /// state folder; no config is read then
    #[argh(option)]
    state: Option<PathBuf>,
    /// one JSON object a value
    #[argh(switch)]
    json: bool,
}

/// What to ask for a value: itself, its host, names above.
fn asked(kind: Kind, value: &str) -> Vec<(&'static str, String)> {
    let mut asked = Vec::new();
    asked.extend(normal_form(kind, value).map(|own| ("value", own)));
    let own = asked.first().map_or(value, |(_, own)| own.as_str()).to_owned();
    let name = match kind {
        Kind::Url => host(&own).map(str::to_owned),
        Kind::Email => own.rsplit_once('@').map(|(_, domain)| domain.to_owned()),
        Kind::Domain => Some(own),
        _ => None,
    };
    let Some(name) = name else { return asked };
    if let Some(address) = normal_form(Kind::Ip, &name) {
        asked.push(("host", address));
        return asked;
    }
    let is_host = kind != Kind::Domain;
    for (number, above) in parents(&name).enumerate().filter(|(number, _)| is_host || *number > 0) {
        asked.push((if number == 0 { "host" } else { "parent" }, above.to_owned()));
    }
    asked
}

/// Runs the command.
///
/// # Errors
/// If neither config nor folder can be found, a table cannot be read, or standard output fails.
pub(super) fn run(args: &Lookup) -> anyhow::Result<ExitCode> {
    if args.values.is_empty() {
        eprintln!("shipper: no value; name addresses, names, URLs or hashes");
        return Ok(ExitCode::from(USAGE));
    }
    let state = state_dir(args.config.as_ref(), args.state.as_ref())?;
    let tables = match load(&state)? {
        Ok(tables) => tables,
        Err((what, code)) => {
            eprintln!("shipper: {what}");
            return Ok(code);
        }
    };
    for value in &args.values {
        let kind = Kind::guess(value);
        let mut found: Vec<(&'static str, String, Attribute)> = Vec::new();
        for (via, own) in asked(kind, value) {
            let all = match tables.find(own.as_bytes()) {
                Ok(all) => all,
                Err(error) => {
                    eprintln!("shipper: {:#}", anyhow::Error::new(error));
                    return Ok(ExitCode::from(crate::cli::UNAVAILABLE));
                }
            };
            for attribute in all {
                let is_network = attribute.kind == Kind::Ip && matches!(&attribute.indicator, Indicator::Text(text) if *text != own);
                found.push((if is_network { "network" } else { via }, own.clone(), attribute));
            }
        }
        tell(&if args.json { format!("{}\n", told(kind, value, &found)) } else { text(kind, value, &found) })?;
    }
    Ok(ExitCode::SUCCESS)
}

fn told(kind: Kind, value: &str, found: &[(&'static str, String, Attribute)]) -> Value {
    let one = |(via, asked, attribute): &(&'static str, String, Attribute)| {
        let mut told = object(attribute);
        told["via"] = (*via).into();
        told["asked"] = asked.as_str().into();
        told
    };
    json!({"value": value, "kind": kind.name(), "normal": normal_form(kind, value), "known": !found.is_empty(), "found": found.iter().map(one).collect::<Vec<_>>()})
}

fn text(kind: Kind, value: &str, found: &[(&'static str, String, Attribute)]) -> String {
    if found.is_empty() {
        let why = if normal_form(kind, value).is_none() { "not an indicator by its form" } else { "not known" };
        return format!("{}  {why}\n", plain(value));
    }
    let mut text = format!("{}  KNOWN ({})\n", plain(value), kind.name());
    for (via, asked, attribute) in found {
        let Attribute { misp_type, category, event_id, event_info, tags, .. } = attribute;
        let mut parts = Vec::new();
        let network = match &attribute.indicator {
            Indicator::Text(text) if *via == "network" => text,
            _ => asked,
        };
        if *via != "value" {
            parts.push(format!("by its {via} {network}"));
        }
        for (name, member) in [("type", misp_type), ("category", category), ("event", event_id)] {
            if !member.is_empty() {
                parts.push(format!("{name} {member}"));
            }
        }
        if let Some(uuid) = attribute.event_uuid.filter(|_| event_id.is_empty()) {
            parts.push(format!("event {uuid}"));
        }
        if !event_info.is_empty() {
            parts.push(format!("\"{event_info}\""));
        }
        if !tags.is_empty() {
            parts.push(tags.join(" "));
        }
        let parts = if parts.is_empty() { "in a list, without details".to_owned() } else { parts.join(", ") };
        text += &format!("  {}\n", plain(&parts));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_asked_for_by_all_it_stands_for() {
        let of = |value: &str| asked(Kind::guess(value), value).into_iter().map(|(via, own)| format!("{via} {own}")).collect::<Vec<_>>();
        assert_eq!(of("203.0.113.9"), ["value 203.0.113.9"]);
        assert_eq!(of("a.Evil.com"), ["value a.evil.com", "parent evil.com"]);
        assert_eq!(of("HTTP://a.evil.com/X"), ["value http://a.evil.com/X", "host a.evil.com", "parent evil.com"]);
        assert_eq!(of("http://203.0.113.9:8080/"), ["value http://203.0.113.9:8080/", "host 203.0.113.9"]);
        assert_eq!(of("bob@evil.com"), ["value bob@evil.com", "host evil.com"]);
        assert_eq!(of("word"), [""; 0]);
    }
}
