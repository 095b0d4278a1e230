//! What is saved of the watermarks, and how it is written down.
//!
//! A checkpoint is one line for the program and a JSON body that a person can read:
//!
//! ```text
//! shipper-checkpoint 1 crc32c=9a1fd2c4 bytes=1432 generation=871
//! {
//!   "instance": "mgr-1",
//!   …
//! ```
//!
//! Two generations lie side by side, `checkpoint.a` and `checkpoint.b`; [`choose`] says which one
//! counts. Nothing here touches a disk: `store` does, by the protocol that [`choose`] relies on.
//! Refuses to guess: what the protocol cannot have left behind is an error, never a first run.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

mod choose;
mod file;
mod ladder;
mod sealed;
mod snapshot;

use serde::{Deserialize, Serialize};

pub use choose::{Chosen, Slot, choose};
pub use file::{CheckpointError, FORMAT, decode, encode};
pub use ladder::{Ladder, rung_crc};
pub use snapshot::{SNAPSHOT_FORMAT, Snapshot, SnapshotError};

use crate::position::Position;

/// All watermarks of one agent at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The agent's name in stream addresses.
    pub instance: String,
    /// Its name in the generation before, where the setting was changed in between; given by the
    /// store. It tells a change from two agents' files copied together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_before: Option<String>,
    /// Wall time, RFC 3339; for people.
    pub saved_at: String,
    /// Raised by one with every save; given by the store.
    pub generation: u64,
    /// One for each stream, also of sources that the config no longer has.
    pub rows: Vec<Row>,
}

/// What is known of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The source's name in the config.
    pub source: String,
    /// The stream's name within the source: a channel, a path, a partition.
    pub stream: String,
    /// The source's kind.
    pub kind: String,
    /// The files of the stream that are still of interest, oldest first; empty where it has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<SegmentRow>,
    /// The watermark of each branch.
    pub branches: Vec<BranchRow>,
    /// Gaps that the backfill lane has still to read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stretches: Vec<Stretch>,
    /// True if nothing above the watermarks was ever handed on: the agent had drained.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drained: bool,
}

impl Row {
    /// The lowest watermark: where reading goes on. `None` without branches.
    pub fn lowest(&self) -> Option<&Position> {
        self.branches.iter().map(|branch| &branch.position).min()
    }
    /// The watermark of one branch.
    pub fn branch(&self, name: &str) -> Option<&Position> {
        self.branches.iter().find(|branch| branch.branch == name).map(|branch| &branch.position)
    }
}

/// One branch's watermark: everything below it is acked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchRow {
    pub branch: String,
    pub position: Position,
}

/// A span `from..to` that is read in the backfill lane, with its own watermarks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    pub from: Position,
    pub to: Position,
    /// Watermarks within the span; a branch that is missing has none yet and begins at `from`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<BranchRow>,
}

/// How a file of the stream is found again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRow {
    /// Its number in positions.
    pub segment: u32,
    /// Which life of it positions speak of.
    pub incarnation: u16,
    /// Where it was last seen.
    pub path: String,
    pub device: u64,
    pub inode: u64,
    /// Birth time, nanoseconds since 1970; 0 where the file system has none.
    pub born: u64,
    /// Bytes that `head_crc` covers, at most [`FINGERPRINT_BYTES`](crate::limits::FINGERPRINT_BYTES).
    pub head_len: u32,
    /// CRC32C of the first `head_len` bytes.
    pub head_crc: u32,
    /// True once nothing more will be appended and all of it is acked.
    pub finished: bool,
    /// The start of the host within which it was read, as [`Io::boot`](crate::io::Io::boot) names it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub boot: String,
    /// Lowest first; see [`Ladder`].
    #[serde(default)]
    pub rungs: Vec<Rung>,
}

/// An offset and the checksum of the bytes before it; written as `"262144:9a1fd2c4"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Rung {
    /// Bytes from the start of the (uncompressed) file.
    pub offset: u64,
    /// As [`rung_crc`] gives it.
    pub crc: u32,
}

impl From<Rung> for String {
    fn from(rung: Rung) -> Self {
        format!("{}:{:08x}", rung.offset, rung.crc)
    }
}

impl TryFrom<String> for Rung {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no rung; one reads \"262144:9a1fd2c4\"");
        let (offset, crc) = text.split_once(':').ok_or_else(wrong)?;
        Ok(Self { offset: offset.parse().map_err(|_| wrong())?, crc: u32::from_str_radix(crc, 16).map_err(|_| wrong())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_resumes_at_its_lowest_branch() {
        let at = |offset| Position::File { segment: 1, incarnation: 0, offset };
        let row = Row {
            branches: vec![BranchRow { branch: "dfn".into(), position: at(90) }, BranchRow { branch: "ioc".into(), position: at(20) }],
            ..Row::default()
        };
        assert_eq!(row.lowest(), Some(&at(20)));
        assert_eq!(row.branch("dfn"), Some(&at(90)));
        assert_eq!(row.branch("waf"), None);
    }
}
