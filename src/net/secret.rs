//! Text that is never shown.

#![allow(clippy::disallowed_methods, reason = "secrets are files of the operator, read when a client is built")]

use std::{fmt, path::Path};

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
