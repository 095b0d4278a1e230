//! `shipper import waf`: the environment of the realtime processor of WAF events as our configuration.
//!
//! That program is configured by variables alone, as the Wazuh MISP Processor is: a Compose file, a file of
//! `NAME=value` lines, or this process's environment. Start at [`run`]; `write.rs` writes.

pub mod write;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use argh::FromArgs;
use serde_json::json;

use self::write::{Keys, NAMES};
use super::{
    USAGE,
    misp::{Kind, Read, compose::Variable, read_from},
    print, refused,
};

/// The variable by which the service of a Compose file is known.
const MARK: &str = "INFLUXDB_TOKEN";

/// the realtime processor of WAF events: its Compose file, its env file, or this process's environment
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "waf",
    example = "shipper import waf docker-compose.yml --service realtime-processor > shipper.toml",
    example = "shipper import waf --env"
)]
pub struct Waf {
    /// compose or env; without it the file's name and content decide
    #[argh(option)]
    format: Option<String>,
    /// which service of a Compose file; without it the one that has INFLUXDB_TOKEN
    #[argh(option)]
    service: Option<String>,
    /// this process's environment as well; it wins over the file
    #[argh(switch)]
    env: bool,
    /// where the token of InfluxDB will lie (default /etc/shipper/influx.token); it is read when the agent starts, not here
    #[argh(option, default = "PathBuf::from(\"/etc/shipper/influx.token\")")]
    token_file: PathBuf,
    /// where the password of Redis will lie (default /etc/shipper/redis.password), if its URL holds one
    #[argh(option, default = "PathBuf::from(\"/etc/shipper/redis.password\")")]
    password_file: PathBuf,
    /// print what was given as JSON; secrets masked
    #[argh(switch)]
    json: bool,
    /// the Compose file or env file; "-" for none
    #[argh(positional)]
    file: Option<String>,
}

/// Runs the command: prints our configuration, and what changed on stderr.
///
/// Exit code 0; 64 for a wrong use; 78 where the file is wrong.
///
/// # Errors
/// Stdout cannot be written.
pub fn run(args: &Waf) -> anyhow::Result<ExitCode> {
    let usage = |what: &str| {
        eprintln!("shipper import waf: {what}");
        Ok(ExitCode::from(USAGE))
    };
    let file = args.file.as_deref().filter(|file| *file != "-");
    if file.is_none() && !args.env {
        return usage("no file named; name the Compose file or the env file, or say --env for this process's environment");
    }
    let asked = match args.format.as_deref() {
        None => None,
        Some("compose") => Some(Kind::Compose),
        Some("env") => Some(Kind::Env),
        Some(word) => return usage(&format!("--format is {word:?}; it must be compose or env")),
    };
    let here: Vec<(String, String)> =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
    let read = match file {
        Some(file) => read_from(file, asked, args.service.as_deref(), MARK, &here),
        None => Ok(Read::default()),
    };
    let Read { service, notes, mut variables } = match read {
        Ok(read) => read,
        Err(errors) => return refused(&errors, args.json),
    };
    if args.env {
        let of = |(name, value): &(String, String)| Variable { name: name.clone(), value: value.clone(), place: "the environment".into() };
        variables.extend(here.iter().filter(|(name, _)| NAMES.contains(&name.as_str())).map(of));
    }
    if args.json {
        print(&format!("{}\n", json!({ "accepted": write::accepted(&variables) })))?;
        return Ok(ExitCode::SUCCESS);
    }
    let folder = file.and_then(|file| std::path::absolute(file).ok()).and_then(|file| file.parent().map(Path::to_owned));
    let keys = Keys { token: &args.token_file, password: &args.password_file };
    let written = write::written(&variables, &notes, service.as_ref(), folder.as_deref(), &keys);
    for note in &written.notes {
        eprintln!("{note}");
    }
    print(&written.toml)?;
    Ok(ExitCode::SUCCESS)
}
