//! `shipper import waf`: the environment of the realtime processor of WAF events as our configuration.
//!
//! That program is configured by variables alone, as the Wazuh MISP Processor is: a Compose file, a file of
//! `NAME=value` lines, or this process's environment. Start at [`run`]; `write.rs` writes.

pub mod write;

use std::{path::PathBuf, process::ExitCode};

use argh::FromArgs;
use serde_json::json;

use self::write::{Keys, NAMES};
use super::{
    USAGE,
    misp::{Named, Read},
    print, refused, show,
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
    let named =
        Named { file: args.file.as_deref(), format: args.format.as_deref(), service: args.service.as_deref(), with_environment: args.env };
    let Read { service, notes, variables } = match named.read(MARK, |name| NAMES.contains(&name)) {
        Ok(Ok(read)) => read,
        Ok(Err(errors)) => return refused(&errors, args.json),
        Err(what) => {
            eprintln!("shipper import waf: {what}");
            return Ok(ExitCode::from(USAGE));
        }
    };
    if args.json {
        print(&format!("{}\n", json!({ "accepted": write::accepted(&variables) })))?;
        return Ok(ExitCode::SUCCESS);
    }
    let keys = Keys { token: &args.token_file, password: &args.password_file };
    let written = write::written(&variables, &notes, service.as_ref(), named.folder().as_deref(), &keys);
    show(&written)?;
    Ok(ExitCode::SUCCESS)
}
