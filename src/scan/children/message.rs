//! What agent and scan child say to each other.

use serde::{Deserialize, Serialize};

use crate::scan::{
    buffer::{Job, Limits},
    outcome::Outcome,
};

/// From the agent.
///
/// - `J`: a job as it is held: lent by who asks, owned by who hears.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask<J = Box<Job>> {
    /// With two files: sources as JSON, and where the compiled set goes.
    Compile { relaxed: bool },
    /// With two files: a compiled set, which takes the place of the one before, and the bell.
    Load { limits: Limits },
    /// With the file that is to be scanned, after those that were asked for before.
    Scan {
        /// The answer names it.
        number: u64,
        job: J,
        /// Nothing is kept for files of so many bytes, so nobody need be asked.
        unkept: Option<u64>,
        /// The bell is rung when it is answered, as it is when nothing is left to do.
        rings: bool,
    },
    /// To [`Tell::Hashed`].
    Cached { outcome: Option<Box<Outcome>> },
    /// What was asked for and is not begun is somebody else's.
    Forget,
}

/// From the child. It answers a file before it begins the next one.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Tell {
    Compiled {
        error: Option<String>,
    },
    Loaded {
        error: Option<String>,
    },
    /// With a ring of the bell, as all that waits for an answer.
    Hashed {
        sha256: String,
        size: u64,
        rules_version: String,
    },
    /// The file itself is done; its members take up to three times as long.
    Unpacking,
    Answer {
        number: u64,
        answer: Answered,
    },
    /// To [`Ask::Forget`], with a ring.
    Forgot,
}

/// What became of a file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answered {
    Done(Box<Outcome>),
    /// It changed while it was read.
    Changed,
    /// In words.
    Unread(String),
}
