//! What a stage remembers, or a source beside its rows, as a file.
//!
//! ```text
//! shipper-snapshot 1 crc32c=9a1fd2c4 bytes=1432 kind=dedup places=0
//! …
//! ```
//!
//! The body begins with the places up to which it speaks, so many bytes of JSON, if its stage holds its source
//! (`Stage::holds`); the rest is the stage's own business. A snapshot speaks of settled records only, so losing one
//! loses no record; it is refused when damaged all the same, because then the disk is not to be
//! trusted and a person should know.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::sealed::{Flaw, Sealed, seal};
use crate::position::Position;

/// The format that this build writes, and the newest that it reads.
pub const SNAPSHOT_FORMAT: u32 = 1;

const MAGIC: &str = "shipper-snapshot";

/// What one stage remembered of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The stage's kind.
    pub kind: String,
    /// By stream and branch, below which place everything is in the body: reading goes on there, whatever the
    /// checkpoint says. Empty where the stage can do without.
    pub places: Vec<(String, String, Position)>,
    pub body: Arc<[u8]>,
}

/// Why a snapshot cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes are not those that were written.
    #[error("snapshot {} is damaged: {what}; restore it from a backup, or remove it: its stage then begins anew, and what it would have dropped as a repeat is sent", path.display())]
    Damaged { path: PathBuf, what: String },
    /// A later shipper wrote it.
    #[error("snapshot {} has format {found}, this build reads up to {known}; upgrade shipper, or remove it: its stage then begins anew", path.display())]
    TooNew { path: PathBuf, found: u32, known: u32 },
}

impl Snapshot {
    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        if self.places.is_empty() {
            return seal(MAGIC, SNAPSHOT_FORMAT, &format!("kind={} places=0", self.kind), &self.body);
        }
        let mut body = serde_json::json!(self.places).to_string().into_bytes();
        let facts = format!("kind={} places={}", self.kind, body.len());
        body.extend_from_slice(&self.body);
        seal(MAGIC, SNAPSHOT_FORMAT, &facts, &body)
    }

    /// Reads a file's bytes.
    ///
    /// - `path`: where they come from, for the error.
    ///
    /// # Errors
    /// [`SnapshotError::TooNew`] if the first line names a later format, else
    /// [`SnapshotError::Damaged`].
    pub fn decode(path: &Path, bytes: &[u8]) -> Result<Self, SnapshotError> {
        let damaged = |what: String| SnapshotError::Damaged { path: path.to_owned(), what };
        let sealed = Sealed::open(MAGIC, SNAPSHOT_FORMAT, bytes).map_err(|flaw| match flaw {
            Flaw::Damaged(what) => damaged(what),
            Flaw::TooNew(found) => SnapshotError::TooNew { path: path.to_owned(), found, known: SNAPSHOT_FORMAT },
        })?;
        let kind = sealed.fact("kind").ok_or_else(|| damaged("its first line is incomplete".into()))?;
        // Before there were places nothing was said of them.
        let len = sealed.fact("places").map_or(Ok(0), str::parse).map_err(|_| damaged("its first line is incomplete".into()))?;
        let (places, body) = sealed.body.split_at_checked(len).ok_or_else(|| damaged("its places are cut".into()))?;
        let places = match places {
            [] => Vec::new(),
            json => serde_json::from_slice(json).map_err(|error| damaged(format!("its places cannot be read: {error}")))?,
        };
        Ok(Self { kind: kind.to_owned(), places, body: body.into() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Snapshot, SnapshotError> {
        Snapshot::decode(Path::new("/s/snapshot/once.alerts"), bytes)
    }

    #[test]
    fn every_way_of_being_wrong_has_its_sentence() {
        let good = Snapshot { kind: "dedup".into(), places: Vec::new(), body: b"body of it".as_slice().into() };
        let bytes = good.encode();
        assert_eq!(read(&bytes).unwrap(), good);
        let text = String::from_utf8(bytes).unwrap();
        let cases = [
            (String::new(), "is damaged: it is empty"),
            ("other 1\n".into(), "is damaged: its first line is not \"shipper-snapshot …\""),
            ("shipper-snapshot one\n".into(), "is damaged: its first line names no format"),
            ("shipper-snapshot 1 kind=dedup\n".into(), "is damaged: its first line is incomplete"),
            (text[..text.len() - 1].into(), "is damaged: its body has 9 bytes instead of 10"),
            (text.replace("body of", "body if"), "is damaged: its checksum does not match its body"),
            (text.replace("snapshot 1", "snapshot 2"), "has format 2, this build reads up to 1; upgrade shipper"),
        ];
        for (text, expected) in cases {
            let error = read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("snapshot /s/snapshot/once.alerts {expected}")), "{error}");
            assert!(error.contains("remove it: its stage then begins anew"), "{error}");
        }
    }

    #[test]
    fn places_stand_before_the_body_and_old_snapshots_have_none() {
        let place = |stream: &str, at| (stream.to_owned(), "apt".to_owned(), at);
        let places = vec![place("events/0", Position::Kafka { partition: 0, offset: 7, epoch: 0 }), place("a b", Position::Count(3))];
        let good = Snapshot { kind: "detector".into(), places, body: b"body of it".as_slice().into() };
        let bytes = good.encode();
        assert_eq!(read(&bytes).unwrap(), good);
        let old = seal(MAGIC, SNAPSHOT_FORMAT, "kind=dedup", b"body");
        assert_eq!(read(&old).unwrap(), Snapshot { kind: "dedup".into(), places: Vec::new(), body: b"body".as_slice().into() });
        for (facts, expected) in
            [("places=99", "its places are cut"), ("places=4", "its places cannot be read"), ("places=x", "its first line is incomplete")]
        {
            let error = read(&seal(MAGIC, SNAPSHOT_FORMAT, &format!("kind=detector {facts}"), b"body")).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_are_no_snapshot(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(read(&bytes).is_err());
        }
    }
}
