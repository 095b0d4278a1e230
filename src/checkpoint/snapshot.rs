//! What a stage remembers, as a file.
//!
//! ```text
//! shipper-snapshot 1 kind=dedup crc32c=9a1fd2c4 bytes=1432
//! …
//! ```
//!
//! The body is the stage's own business. A snapshot speaks of settled records only, so losing one
//! loses no record; it is refused when damaged all the same, because then the disk is not to be
//! trusted and a person should know.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// The format that this build writes, and the newest that it reads.
pub const SNAPSHOT_FORMAT: u32 = 1;

const MAGIC: &str = "shipper-snapshot";

/// Bytes within which the first line must end.
const FIRST_LINE_BYTES_MAX: usize = 256;

/// What one stage remembered of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The stage's kind.
    pub kind: String,
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
        let Self { kind, body } = self;
        let first = format!("{MAGIC} {SNAPSHOT_FORMAT} kind={kind} crc32c={:08x} bytes={}\n", crc32c::crc32c(body), body.len());
        let mut bytes = first.into_bytes();
        bytes.extend_from_slice(body);
        bytes
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
        let end = bytes.iter().take(FIRST_LINE_BYTES_MAX).position(|byte| *byte == b'\n');
        let (first, body) = end
            .and_then(|end| Some((std::str::from_utf8(bytes.get(..end)?).ok()?, bytes.get(end + 1..)?)))
            .ok_or_else(|| damaged(format!("its first line is not \"{MAGIC} …\"")))?;
        let mut words = first.split(' ');
        if words.next() != Some(MAGIC) {
            return Err(damaged(format!("its first line is not \"{MAGIC} …\"")));
        }
        let format: u32 =
            words.next().and_then(|word| word.parse().ok()).ok_or_else(|| damaged("its first line names no format".into()))?;
        if format > SNAPSHOT_FORMAT {
            return Err(SnapshotError::TooNew { path: path.to_owned(), found: format, known: SNAPSHOT_FORMAT });
        }
        let mut named = |name: &str| words.next().and_then(|word| word.strip_prefix(name)?.strip_prefix('='));
        let kind = named("kind");
        let crc = named("crc32c").and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let length = named("bytes").and_then(|n| n.parse::<usize>().ok());
        let (Some(kind), Some(crc), Some(length)) = (kind, crc, length) else {
            return Err(damaged("its first line is incomplete".into()));
        };
        if body.len() != length {
            return Err(damaged(format!("its body has {} bytes instead of {length}", body.len())));
        }
        if crc32c::crc32c(body) != crc {
            return Err(damaged("its checksum does not match its body".into()));
        }
        Ok(Self { kind: kind.to_owned(), body: body.into() })
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
        let good = Snapshot { kind: "dedup".into(), body: b"body of it".as_slice().into() };
        let bytes = good.encode();
        assert_eq!(read(&bytes).unwrap(), good);
        let text = String::from_utf8(bytes).unwrap();
        let cases = [
            (String::new(), "is damaged: its first line is not \"shipper-snapshot …\""),
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

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_are_no_snapshot(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(read(&bytes).is_err());
        }
    }
}
