//! Text that is never shown.

#![allow(clippy::disallowed_methods, reason = "secrets are files of the operator, read when a client is built")]

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::register::Section;

/// Text that is never shown: neither by `Debug` nor by `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text as secret.
    pub fn new(text: String) -> Self {
        Self(text)
    }
    /// The first line of a file, without its end.
    ///
    /// # Errors
    /// What is wrong with the file, and the remedy.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        Self::named("password", path)
    }
    /// The first line of a file, without its end.
    ///
    /// - `what`: what it is to the operator: a password, a key.
    ///
    /// # Errors
    /// What is wrong with the file, and the remedy.
    pub fn named(what: &str, path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| format!("cannot read the {what} in {}: {e}; create it, readable for the agent's user only", path.display()))?;
        match text.lines().next() {
            Some(line) if !line.is_empty() => Ok(Self(line.to_owned())),
            _ => Err(format!("the {what} in {} is empty; write it into the first line", path.display())),
        }
    }
    /// The text itself, for the client that must know it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a secret is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretIn {
    /// The first line of a file.
    File(PathBuf),
    /// A variable of the agent's environment.
    Env(String),
    /// A credential that systemd hands to the unit.
    Credential(String),
}

impl SecretIn {
    /// Reads the settings `NAME_file`, `NAME_env` and `NAME_credential`, of which one at most may be set.
    pub fn parse(section: &mut Section<'_>, name: &str) -> Option<Self> {
        let [file, env, credential] = ["file", "env", "credential"].map(|place| format!("{name}_{place}"));
        let found = [
            section.opt_path(&file).map(Self::File),
            section.opt_text(&env).map(Self::Env),
            section.opt_text(&credential).map(Self::Credential),
        ];
        let mut found = found.into_iter().flatten();
        let first = found.next();
        if found.next().is_some() {
            section.wrong(&file, format!("and {env} or {credential} name two places; remove all but one"));
        }
        first
    }

    /// Reads it.
    ///
    /// - `what`: what it is to the operator: a password, a token.
    ///
    /// # Errors
    /// What is missing, and the remedy.
    pub fn read(&self, what: &str) -> Result<Secret, String> {
        match self {
            Self::File(path) => Secret::named(what, path),
            Self::Env(name) => std::env::var(name).ok().filter(|text| !text.is_empty()).map(Secret::new).ok_or_else(|| {
                format!("environment variable {name} holds no {what}; set it for the agent, for example by EnvironmentFile= of its unit")
            }),
            Self::Credential(name) => {
                let dir = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                    format!("no systemd credentials here, so no {what}; add LoadCredential={name}:FILE to the unit, or give it by file")
                })?;
                Secret::named(what, &PathBuf::from(dir).join(name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register::{Errors, Field, Node, Type};

    const FIELDS: &[Field] = &[
        Field::optional("token_file", Type::Path, ""),
        Field::optional("token_env", Type::Text, ""),
        Field::optional("token_credential", Type::Text, ""),
    ];

    fn parse(text: &str) -> (Option<SecretIn>, String) {
        let (node, mut errors) = (Node::parse_toml(text).unwrap(), Errors::default());
        let found = SecretIn::parse(&mut Section::open("s", &node, FIELDS, &[], &mut errors), "token");
        (found, errors.to_string())
    }

    #[test]
    fn a_secret_has_one_place_and_says_what_is_missing() {
        assert_eq!(parse(""), (None, String::new()));
        let rows = [
            ("token_file = '/nowhere/t'", "cannot read the token in /nowhere/t"),
            ("token_env = 'SHIPPER_TEST_UNSET'", "variable SHIPPER_TEST_UNSET holds no token"),
            ("token_credential = 'influx'", "add LoadCredential=influx:FILE"),
        ];
        for (text, why) in rows {
            let (found, errors) = parse(text);
            assert_eq!(errors, "");
            assert!(found.unwrap().read("token").unwrap_err().contains(why), "{text}");
        }
        assert!(parse("token_file = '/t'\ntoken_env = 'T'").1.contains("token_file: and token_env or token_credential name two places"));
    }
}
