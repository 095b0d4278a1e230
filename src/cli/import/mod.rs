//! `shipper import`: turns the configuration of another shipper into ours.
//!
//! Our TOML goes to stdout, with what was left out or changed as comments; the same list goes to
//! stderr. Nothing is started, connected or opened but the files that were named.

#![allow(clippy::disallowed_methods, reason = "a command of the operator works on real files")]

pub mod dfn;
pub mod given;
pub mod keys;
pub mod options;
pub mod values;
pub mod write;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use serde_json::json;

use self::{
    dfn::{ImportError, ImportErrors},
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
    let System::Dfn(args) = args.system;
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
        env.extend(env_lines(&read_file(path)?));
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
        for note in &written.notes {
            eprintln!("{note}");
        }
        print(&written.toml)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to stdout")
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

/// The variables of an environment file: `NAME=value`, `export` before and quotes around allowed.
fn env_lines(text: &str) -> Vec<(String, String)> {
    let unquoted = |value: &str| {
        let inner = ['"', '\''].into_iter().find_map(|q| value.strip_prefix(q)?.strip_suffix(q));
        inner.unwrap_or(value).to_owned()
    };
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with(['#', ';']))
        .filter_map(|line| line.strip_prefix("export ").unwrap_or(line).split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), unquoted(value.trim())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_file_is_read() {
        let got = env_lines("# a\n\nexport A=1\nB = \"x y\"\nC='z'\nnothing\nD=\"\n");
        let want = [("A", "1"), ("B", "x y"), ("C", "z"), ("D", "\"")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(got, want);
    }

    #[test]
    fn flags_of_wazuh_dfn_may_follow_the_file() {
        use argh::FromArgs as _;
        let args = Import::from_args(&["shipper", "import"], &["dfn", "--json", "c.yaml", "-t", "toml", "--misc-num-workers", "7"]);
        let System::Dfn(args) = args.expect("valid").system;
        assert!(args.json);
        assert_eq!(args.file_and_flags, ["c.yaml", "-t", "toml", "--misc-num-workers", "7"]);
    }
}
