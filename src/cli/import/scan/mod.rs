//! `shipper import scan`: the JSON files of the Zeek-YARA scanner as our configuration.
//!
//! Start at [`run`]; `keys.rs` knows every key, `write.rs` writes.

pub mod keys;
pub mod write;

use std::{path::PathBuf, process::ExitCode};

use argh::FromArgs;
use serde_json::json;

use super::{
    USAGE,
    apt::given::Config,
    errors::{ImportError, ImportErrors},
    given::Given,
    print, read_file, refused, show,
};

/// the Zeek-YARA scanner: its JSON files
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "scan",
    example = "shipper import scan default_config.json > shipper.toml",
    example = "shipper import scan production_config.json distributed_config.json",
    example = "shipper import scan --master https://scan.example:8000 default_config.json   # for a worker"
)]
pub struct Scan {
    /// write the configuration of a worker of this master (https://host:port)
    #[argh(option)]
    master: Option<String>,
    /// folder in which passwords and keys will lie, a file each (default /etc/shipper); they are read when the agent starts, not here
    #[argh(option, default = "PathBuf::from(\"/etc/shipper\")")]
    secrets: PathBuf,
    /// print what was given as JSON, or what is wrong; secrets masked
    #[argh(switch)]
    json: bool,
    /// the files: the scanner's own, and its distributed_config.json if there is one; of equal keys the last stands
    #[argh(positional)]
    files: Vec<String>,
}

/// Runs the command: prints our configuration, and what changed on stderr.
///
/// Exit code 0; 64 for a wrong use; 78 where a file is wrong.
///
/// # Errors
/// Stdout cannot be written.
pub fn run(args: &Scan) -> anyhow::Result<ExitCode> {
    let usage = |what: &str| {
        eprintln!("shipper import scan: {what}");
        Ok(ExitCode::from(USAGE))
    };
    if args.files.is_empty() {
        return usage("no file named; name the scanner's JSON file, such as config/default_config.json");
    }
    if args.master.as_deref().is_some_and(|url| !url.starts_with("https://") && !url.starts_with("http://")) {
        return usage("--master is no address of HTTP; write it as https://scan.example:8000");
    }
    let config = match read(&args.files) {
        Ok(config) => config,
        Err(errors) => return refused(&errors, args.json),
    };
    if args.json {
        print(&format!("{}\n", json!({ "accepted": config.accepted() })))?;
        return Ok(ExitCode::SUCCESS);
    }
    let written = write::written(&config, &write::Places { secrets: &args.secrets, master: args.master.as_deref() });
    show(&written)?;
    Ok(ExitCode::SUCCESS)
}

/// Reads all files as one.
fn read(files: &[String]) -> Result<Config, ImportErrors> {
    let whole = |what: String| ImportErrors(vec![ImportError { key: String::new(), what }]);
    let mut all = Vec::new();
    for file in files {
        let text = read_file(file.as_ref()).map_err(|error| whole(format!("{error:#}")))?;
        match Given::parse_json(&text).map_err(|what| whole(format!("{file}: {what}")))? {
            Given::Table(entries) => all.extend(entries),
            other => return Err(whole(format!("{file}: is {}; it must be an object of settings", other.shown()))),
        }
    }
    Config::by(&Given::Table(all), keys::KEYS)
}
