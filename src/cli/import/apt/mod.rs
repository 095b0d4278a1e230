//! `shipper import apt`: the YAML file of the APT detection system as our configuration.
//!
//! Start at [`run`]; `given.rs` flattens the file and checks types, `keys.rs` knows every key, `write.rs` writes.

pub mod given;
pub mod keys;
pub mod write;

use std::{path::PathBuf, process::ExitCode};

use argh::FromArgs;
use serde_json::json;

use self::given::Config;
use super::{
    USAGE,
    errors::{ImportError, ImportErrors},
    given::{Format, Given},
    print, read_file, refused, show,
};

/// the APT detection system: its config.yaml
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "apt",
    example = "shipper import apt config.yaml > shipper.toml",
    example = "shipper import apt --indexer https://indexer.example:9200 config.yaml",
    example = "shipper import apt --manager config.yaml   # on the Wazuh manager itself"
)]
pub struct Apt {
    /// read alerts.json of this host, which is the Wazuh manager, and not the indexer
    #[argh(switch)]
    manager: bool,
    /// where Wazuh's indexer is (https://host:9200); without it, port 9200 of the host of api_url
    #[argh(option)]
    indexer: Option<String>,
    /// folder in which passwords and keys will lie, a file each (default /etc/shipper); they are read when the agent starts, not here
    #[argh(option, default = "PathBuf::from(\"/etc/shipper\")")]
    secrets: PathBuf,
    /// print what was given as JSON, or what is wrong; secrets masked
    #[argh(switch)]
    json: bool,
    /// the file
    #[argh(positional)]
    file: String,
}

/// Runs the command: prints our configuration, and what changed on stderr.
///
/// Exit code 0; 64 for a wrong use; 78 where the file is wrong.
///
/// # Errors
/// Stdout cannot be written.
pub fn run(args: &Apt) -> anyhow::Result<ExitCode> {
    if args.manager && args.indexer.is_some() {
        eprintln!("shipper import apt: --manager reads alerts.json and --indexer asks the indexer; say one of them");
        return Ok(ExitCode::from(USAGE));
    }
    let whole = |what: String| ImportErrors(vec![ImportError { key: String::new(), what }]);
    let read = read_file(args.file.as_ref()).map_err(|error| whole(format!("{error:#}")));
    let parsed = read.and_then(|text| Given::parse(&text, Format::Yaml).map_err(|what| whole(format!("{}: {what}", args.file))));
    let config = match parsed.and_then(|given| Config::of(&given)) {
        Ok(config) => config,
        Err(errors) => return refused(&errors, args.json),
    };
    if args.json {
        print(&format!("{}\n", json!({ "accepted": config.accepted() })))?;
        return Ok(ExitCode::SUCCESS);
    }
    let places = write::Places { secrets: &args.secrets, indexer: args.indexer.as_deref(), is_manager: args.manager };
    let written = write::written(&config, &places);
    show(&written)?;
    Ok(ExitCode::SUCCESS)
}
