//! What is wrong with a foreign configuration: all of it, each with its key.

use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportError {
    /// The key as upstream writes it (`misc.own_network`, `CACHE_TTL_HOURS`); empty where the file,
    /// the flags or their form as a whole is wrong.
    pub key: String,
    /// What is wrong and the remedy.
    pub what: String,
}

/// All that is wrong, at least one thing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ImportErrors(pub Vec<ImportError>);

impl fmt::Display for ImportErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            let (end, colon) = (if n > 0 { "\n" } else { "" }, if error.key.is_empty() { "" } else { ": " });
            write!(f, "{end}{}{colon}{}", error.key, error.what)?;
        }
        Ok(())
    }
}
