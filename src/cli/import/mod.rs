//! `shipper import`: turns the configuration of another shipper into ours.
//!
//! Our TOML goes to stdout, with what was left out or changed as comments; the same list goes to
//! stderr. Nothing is started, connected or opened but the files that were named.

#![allow(clippy::disallowed_methods, reason = "a command of the operator works on real files")]

pub mod apt;
pub mod dfn;
pub mod env_file;
pub mod errors;
pub mod given;
pub mod keys;
pub mod misp;
pub mod options;
pub mod page;
pub mod scan;
pub mod values;
pub mod waf;
pub mod write;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use serde_json::json;

use self::{
    env_file::Form,
    errors::{ImportError, ImportErrors},
    given::Format,
};

/// A configuration larger than this is none; 1 MiB.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The exit code of a configuration that is wrong.
const CONFIG: u8 = 78;
/// The exit code of a wrong use.
const USAGE: u8 = 64;

/// turn the configuration of another shipper into ours
#[derive(argh::FromArgs, Debug)]
#[argh(subcommand, name = "import")]
pub struct Import {
    #[argh(subcommand)]
    system: System,
}

#[derive(argh::FromArgs, Debug)]
#[argh(subcommand)]
enum System {
    Dfn(Dfn),
    Misp(misp::Misp),
    Waf(waf::Waf),
    Apt(apt::Apt),
    Scan(scan::Scan),
}

/// wazuh-dfn: its YAML or TOML file, its environment variables and its flags
#[derive(argh::FromArgs, Debug)]
#[argh(subcommand, name = "dfn")]
struct Dfn {
    /// yaml or toml; without it the file's name decides
    #[argh(option)]
    format: Option<String>,
    /// a file of NAME=value lines (a unit's EnvironmentFile, a .env), beside our own environment
    #[argh(option)]
    env_file: Option<PathBuf>,
    /// print what differs from wazuh-dfn's defaults as JSON, or the first wrong key; secrets masked
    #[argh(switch)]
    json: bool,
    /// wazuh-dfn's configuration file, then any flags of its command line; "-" for no file
    #[argh(positional, greedy)]
    file_and_flags: Vec<String>,
}

/// Runs `shipper import …`: prints our configuration, and what changed on stderr.
///
/// Exit code 0; 64 for a wrong use; 78 where a key of the foreign configuration is wrong.
///
/// # Errors
/// A file that cannot be read, or stdout that cannot be written.
pub fn run(args: Import) -> anyhow::Result<ExitCode> {
    match args.system {
        System::Dfn(args) => dfn(args),
        System::Misp(args) => misp::run(&args),
        System::Waf(args) => waf::run(&args),
        System::Apt(args) => apt::run(&args),
        System::Scan(args) => scan::run(&args),
    }
}

fn dfn(args: Dfn) -> anyhow::Result<ExitCode> {
    let Some((file, flags)) = args.file_and_flags.split_first().map(|(file, flags)| (file.clone(), flags.to_vec())) else {
        eprintln!("shipper import dfn: no file named; name wazuh-dfn's configuration, or - for environment and flags alone");
        return Ok(ExitCode::from(USAGE));
    };
    let path = match file.as_str() {
        "-" => dfn::config_path(&flags),
        path => Some(path.to_owned()),
    };
    let format = match &args.format {
        Some(word) => match Format::of_word(word) {
            Some(format) => Some(format),
            None => {
                eprintln!("shipper import dfn: --format is {word:?}; it must be yaml or toml");
                return Ok(ExitCode::from(USAGE));
            }
        },
        None => None,
    };
    let text = match &path {
        Some(path) => match read_file(path.as_ref()) {
            Ok(text) => Some(text),
            Err(error) => return refused(&ImportErrors(vec![ImportError { key: String::new(), what: format!("{error:#}") }]), args.json),
        },
        None => None,
    };
    let named = path.as_deref().map_or(Format::Yaml, |path| if path.ends_with(".toml") { Format::Toml } else { Format::Yaml });
    let mut env: Vec<(String, String)> =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
    if let Some(path) = &args.env_file {
        let lines = env_file::lines(&read_file(path)?, Form::Unit);
        env.extend(lines.into_iter().filter_map(|line| Some((line.name, line.value?))));
    }
    let imported = match dfn::read(text.as_deref().map(|text| (text, format.unwrap_or(named))), &flags, &env) {
        Ok(imported) => imported,
        Err(errors) => return refused(&errors, args.json),
    };
    if args.json {
        let mut accepted = imported.accepted();
        if let Some(token) = accepted.pointer_mut("/health/api/auth_token") {
            *token = json!("***");
        }
        print(&format!("{}\n", json!({ "accepted": accepted })))?;
    } else {
        let written = write::written(&imported);
        show(&written)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to stdout")
}

/// Prints a configuration, and what changed on stderr.
fn show(written: &page::Written) -> anyhow::Result<()> {
    for note in &written.notes {
        eprintln!("{note}");
    }
    print(&written.toml)
}

fn refused(errors: &ImportErrors, as_json: bool) -> anyhow::Result<ExitCode> {
    eprintln!("{errors}");
    if as_json {
        let first = errors.0.first().map(|error| error.key.as_str()).unwrap_or_default();
        let all: Vec<_> = errors.0.iter().map(|error| json!({ "key": error.key, "what": error.what })).collect();
        print(&format!("{}\n", json!({ "error": { "key": first }, "errors": all })))?;
    }
    Ok(ExitCode::from(CONFIG))
}

fn read_file(path: &std::path::Path) -> anyhow::Result<String> {
    use std::io::Read as _;
    let what = || format!("cannot read {}; name a file that is there and may be read", path.display());
    let mut text = String::new();
    let file = fs::File::open(path).with_context(what)?;
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).with_context(what)?;
    anyhow::ensure!(read as u64 <= FILE_BYTES_MAX, "{} is larger than {FILE_BYTES_MAX} bytes; name a configuration", path.display());
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_wazuh_dfn_may_follow_the_file() {
        use argh::FromArgs as _;
        let args = Import::from_args(&["shipper", "import"], &["dfn", "--json", "c.yaml", "-t", "toml", "--misc-num-workers", "7"]);
        let System::Dfn(args) = args.expect("valid").system else { panic!("another system") };
        assert!(args.json);
        assert_eq!(args.file_and_flags, ["c.yaml", "-t", "toml", "--misc-num-workers", "7"]);
    }
}
