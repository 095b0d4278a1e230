//! `shipper import misp`: the environment of the Wazuh MISP Processor as our configuration.
//!
//! That program is configured by variables alone, so what is read is a Docker Compose file with the
//! service that has `MISP_URL`, a file of `NAME=value` lines, or this process's environment. Start
//! at [`run`]; `given.rs` checks, `write.rs` writes.

pub mod compose;
pub mod given;
pub mod variables;
pub mod write;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use argh::FromArgs;
use serde_json::json;

use self::{
    compose::{Outside, Variable},
    given::Imported,
};
use super::{
    USAGE,
    env_file::{self, Form},
    errors::{ImportError, ImportErrors},
    print, read_file, refused, show,
};

/// The Wazuh MISP Processor: its Compose file, its env file, or this process's environment
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "misp",
    example = "shipper import misp docker-compose.yml > shipper.toml",
    example = "shipper import misp --service misp-processor compose.yaml",
    example = "docker compose config | shipper import misp --format compose /dev/stdin",
    example = "shipper import misp --env"
)]
pub struct Misp {
    /// compose or env; without it the file's name and content decide
    #[argh(option)]
    format: Option<String>,
    /// which service of a Compose file; without it the one that has MISP_URL
    #[argh(option)]
    service: Option<String>,
    /// this process's environment as well; it wins over the file
    #[argh(switch)]
    env: bool,
    /// where the API key will lie (default /etc/shipper/misp.key); it is read when the agent starts, not here
    #[argh(option, default = "String::from(\"/etc/shipper/misp.key\")")]
    key_file: String,
    /// print what differs from the defaults as JSON, or what is wrong; secrets masked
    #[argh(switch)]
    json: bool,
    /// the Compose file or env file; "-" for none
    #[argh(positional)]
    file: Option<String>,
}

/// Runs the command: prints our configuration, and what changed on stderr.
///
/// Exit code 0; 64 for a wrong use; 78 where a variable is wrong.
///
/// # Errors
/// Stdout cannot be written.
pub fn run(args: &Misp) -> anyhow::Result<ExitCode> {
    let named =
        Named { file: args.file.as_deref(), format: args.format.as_deref(), service: args.service.as_deref(), with_environment: args.env };
    let read = match named.read("MISP_URL", |name| variables::named(name).is_some()) {
        Ok(read) => read,
        Err(what) => {
            eprintln!("shipper import misp: {what}");
            return Ok(ExitCode::from(USAGE));
        }
    };
    let imported = read.and_then(|Read { service, notes, variables }| {
        let checked = given::check(&variables)?;
        let notes = notes.into_iter().chain(checked.notes.clone()).collect();
        Ok(Imported { service, notes, ..checked })
    });
    let imported = match imported {
        Ok(imported) => imported,
        Err(errors) => return refused(&errors, args.json),
    };
    if args.json {
        print(&format!("{}\n", json!({ "accepted": imported.accepted() })))?;
        return Ok(ExitCode::SUCCESS);
    }
    let written = write::written(&imported, &args.key_file, named.folder().as_deref());
    show(&written)?;
    Ok(ExitCode::SUCCESS)
}

/// What the command line of a program that is configured by variables alone names.
pub(super) struct Named<'a> {
    /// A Compose file or one of variables; `-` is none.
    pub file: Option<&'a str>,
    pub format: Option<&'a str>,
    pub service: Option<&'a str>,
    /// This process's environment as well, which wins over the file.
    pub with_environment: bool,
}

impl<'a> Named<'a> {
    fn file(&self) -> Option<&'a str> {
        self.file.filter(|file| *file != "-")
    }

    /// The folder of the file, from `/` on.
    pub(super) fn folder(&self) -> Option<PathBuf> {
        std::path::absolute(self.file()?).ok()?.parent().map(Path::to_owned)
    }

    /// Reads all that is named.
    ///
    /// - `mark`: the variable by which a service of a Compose file is known.
    /// - `is_ours`: variables of this process's environment that are the program's.
    ///
    /// # Errors
    /// Outside, how the command is used wrongly; inside, what is wrong with the file.
    pub(super) fn read(&self, mark: &str, is_ours: impl Fn(&str) -> bool) -> Result<Result<Read, ImportErrors>, String> {
        if self.file().is_none() && !self.with_environment {
            return Err("no file named; name the Compose file or the env file, or say --env for this process's environment".into());
        }
        let asked = match self.format {
            None => None,
            Some("compose") => Some(Kind::Compose),
            Some("env") => Some(Kind::Env),
            Some(word) => return Err(format!("--format is {word:?}; it must be compose or env")),
        };
        let here: Vec<(String, String)> =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
        let read = match self.file() {
            Some(file) => read_from(file, asked, self.service, mark, &here),
            None => Ok(Read::default()),
        };
        Ok(read.map(|mut read| {
            if self.with_environment {
                let ours = here.into_iter().filter(|(name, _)| is_ours(name));
                read.variables.extend(ours.map(|(name, value)| Variable { name, value, place: "the environment".into() }));
            }
            read
        }))
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Compose,
    Env,
}

impl Kind {
    /// By its name, else by its content.
    fn of(path: &Path, text: &str) -> Self {
        let is_yaml = path.extension().is_some_and(|end| end == "yml" || end == "yaml");
        let has_services = text.lines().any(|line| line.trim_end() == "services:" || line.starts_with("services: {"));
        if is_yaml || has_services { Self::Compose } else { Self::Env }
    }
}

/// What a file says, not checked yet.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// Of a Compose file.
    pub service: Option<compose::Service>,
    /// What was passed over, with its key.
    pub notes: Vec<(String, String)>,
    pub variables: Vec<Variable>,
}

/// Reads a file.
///
/// - `mark`: the variable by which a service of a Compose file is known.
/// - `here`: this process's environment.
fn read_from(file: &str, asked: Option<Kind>, service: Option<&str>, mark: &str, here: &[(String, String)]) -> Result<Read, ImportErrors> {
    let whole = |what: String| ImportErrors(vec![ImportError { key: String::new(), what }]);
    let path = PathBuf::from(file);
    let text = read_file(&path).map_err(|error| whole(format!("{error:#}")))?;
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    let shell = |name: &str| here.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    match asked.unwrap_or_else(|| Kind::of(&path, &text)) {
        Kind::Env => {
            if service.is_some() {
                return Err(whole("--service is for a Compose file, and this is none; say --format compose if it is".into()));
            }
            let variables = given::of_file(&text, file, &shell)?;
            Ok(Read { variables, ..Read::default() })
        }
        Kind::Compose => {
            // Compose takes variables from the shell, then from the file `.env` beside it.
            let beside = read_file(&folder.join(".env")).map(|text| env_file::lines(&text, Form::Dotenv)).unwrap_or_default();
            let dotenv = |name: &str| beside.iter().rev().find(|line| line.name == name).and_then(|line| line.value.clone());
            let variable = |name: &str| shell(name).or_else(|| dotenv(name));
            let open = |name: &str| read_file(&folder.join(name)).map_err(|error| format!("{error:#}"));
            let service = compose::read(&text, service, mark, &Outside { variable: &variable, file: &open })?;
            let mut notes = service.notes.clone();
            for name in ["compose.override.yaml", "compose.override.yml", "docker-compose.override.yaml", "docker-compose.override.yml"] {
                if folder.join(name).exists() && path.file_name().is_none_or(|this| this != name) {
                    let what = "lies beside the file and is not read; `docker compose config > F` writes out both, import F";
                    notes.push((name.to_owned(), what.to_owned()));
                }
            }
            let variables = service.variables.clone();
            Ok(Read { service: Some(service), notes, variables })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_name_or_its_content() {
        for (name, text, want) in [
            ("compose.yaml", "", Kind::Compose),
            ("docker-compose.yml", "x", Kind::Compose),
            ("/dev/stdin", "name: x\nservices:\n  a: {}\n", Kind::Compose),
            (".env", "MISP_URL=x\n", Kind::Env),
            ("misp.env", "A=services:\n", Kind::Env),
        ] {
            assert_eq!(Kind::of(Path::new(name), text), want, "{name}");
        }
    }
}
