//! What agent and scan child say to each other.

use serde::{Deserialize, Serialize};

use crate::scan::{
    buffer::{Job, Limits},
    outcome::Outcome,
};

/// From the agent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// With two files: sources as JSON, and where the compiled set goes.
    Compile { relaxed: bool },
    /// With a file: a compiled set, which takes the place of the one before.
    Load { limits: Limits },
    /// With the file that is to be scanned.
    Scan { job: Box<Job> },
    /// To [`Tell::Hashed`].
    Cached { outcome: Option<Box<Outcome>> },
}

/// From the child.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Tell {
    Compiled {
        error: Option<String>,
    },
    Loaded {
        error: Option<String>,
    },
    Hashed {
        sha256: String,
        size: u64,
        rules_version: String,
    },
    /// The file itself is done; its members take up to three times as long.
    Unpacking,
    Done {
        outcome: Box<Outcome>,
    },
    /// It changed while it was read.
    Changed,
    Unread {
        error: String,
    },
}
