//! Refused bytes as they were read, with the reason: how they lie in a segment.
//!
//! A segment is a file of entries of a [`journal`]: a header (JSON, see [`Header`]), then the
//! refused bytes. No I/O here; `store` writes and fsyncs.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::journal::{self, Magic};

/// First bytes of an entry.
const MAGIC: Magic = [0xD1, b'L', 0xE7, b'1'];

/// Bytes. Of each text in a header only this much is kept: a detail may quote what a peer said.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A record: its bytes as they were read, with the terminator.
    Record,
    /// A message: its payload for one sink or lookup.
    Message,
}

/// Where refused bytes come from and why they were refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub kind: Kind,
    /// As the message header `shipper-origin` says it.
    pub origin: String,
    /// The branch that owed it.
    pub branch: String,
    /// Of a message: the output it was emitted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Of a message: the sink or lookup that refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// Of a message: its key, as far as it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// A metric label: `not_json`, `too_long`, …
    pub reason: String,
    /// For a person.
    #[serde(default)]
    pub detail: String,
    /// Wall time at which it was refused, RFC 3339.
    pub time: String,
}

impl Header {
    /// Shortens every text to what an entry may hold.
    fn cut(&self) -> Self {
        Self {
            kind: self.kind,
            origin: cut(&self.origin),
            branch: cut(&self.branch),
            output: self.output.as_deref().map(cut),
            sink: self.sink.as_deref().map(cut),
            key: self.key.as_deref().map(cut),
            reason: cut(&self.reason),
            detail: cut(&self.detail),
            time: cut(&self.time),
        }
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().find(|(at, c)| at + c.len_utf8() > TEXT_BYTES_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// One entry of the dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub header: Header,
    pub bytes: Vec<u8>,
}

impl Entry {
    /// Without what anybody wrote: how long the bytes were and their SHA-256 stand in place of the detail, since that may quote
    /// them. Whoever has the bytes elsewhere finds them by it, and by the place.
    pub fn masked(self) -> Self {
        let Self { header, bytes } = self;
        let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let detail = format!("masked: {} bytes, sha256 {sum}", bytes.len());
        Self { header: Header { key: None, detail, ..header }, bytes: Vec::new() }
    }
}

/// Appends an entry to `segment`.
///
/// Names and details beyond 4 KiB are cut. Refused bytes are at most a few MiB, being part of
/// one batch; what cannot be framed (4 GiB) would be cut too.
///
/// - `base`: the offset in the file at which `segment` will be appended; the entry's checksum
///   covers its place.
pub fn append(segment: &mut Vec<u8>, base: u64, entry: &Entry) {
    // A struct of strings always serialises; an empty header would show as damage, not as a loss.
    let header = serde_json::to_vec(&entry.header.cut()).unwrap_or_default();
    journal::append(MAGIC, segment, base, &header, &[&entry.bytes]);
}

/// What a segment holds, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'s> {
    /// A whole entry.
    Entry {
        /// Bytes from the start of the segment.
        offset: u64,
        header: Box<Header>,
        bytes: &'s [u8],
    },
    /// Bytes `from..to` fit no entry, and entries follow: the disk damaged them.
    Damaged { from: u64, to: u64 },
    /// From here to the end there is no whole entry: a write that a crash cut off.
    Torn { from: u64 },
}

/// Reads a whole segment.
pub fn entries(segment: &[u8]) -> impl Iterator<Item = Found<'_>> {
    let header = |bytes: &[u8]| serde_json::from_slice(bytes).ok();
    journal::entries(MAGIC, segment, 0, header).map(|found| match found {
        journal::Found::Entry { from, header, body, .. } => Found::Entry { offset: from as u64, header, bytes: body },
        journal::Found::Damaged { from, to } => Found::Damaged { from: from as u64, to: to as u64 },
        journal::Found::Torn { from } => Found::Torn { from: from as u64 },
    })
}

/// The file name of a segment: `00000042.dlq`.
pub fn segment_name(number: u32) -> String {
    format!("{number:08}.dlq")
}

/// The number of a segment; `None` for any other file.
pub fn segment_number(path: &Path) -> Option<u32> {
    let digits = path.file_name()?.to_str()?.strip_suffix(".dlq")?;
    let number = digits.parse().ok()?;
    (segment_name(number).strip_suffix(".dlq") == Some(digits)).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(bytes: &[u8]) -> Entry {
        let header = Header {
            kind: Kind::Record,
            origin: "mgr-1/alerts/2026-03-14/000/1024+621".into(),
            branch: "dfn".into(),
            output: None,
            sink: None,
            key: None,
            reason: "not_json".into(),
            detail: "it ends in mid-line".into(),
            time: "2026-03-14T06:25:12Z".into(),
        };
        Entry { header, bytes: bytes.to_vec() }
    }

    #[test]
    fn a_masked_entry_holds_nothing_that_anybody_wrote() {
        let mut entry = entry(b"password=hush");
        (entry.header.key, entry.header.detail) = (Some("hush".into()), "near hush".into());
        let masked = entry.clone().masked();
        let mut segment = Vec::new();
        append(&mut segment, 0, &masked);
        assert!(!String::from_utf8_lossy(&segment).contains("hush"));
        let detail = "masked: 13 bytes, sha256 6867f15adf9bc65c020fc5ecfb3c4989827de59e0ea9863c1dbd74bb06f021fc";
        let expected = Header { key: None, detail: detail.into(), ..entry.header };
        assert_eq!(masked, Entry { header: expected, bytes: Vec::new() });
        assert!(matches!(entries(&segment).collect::<Vec<_>>()[..], [Found::Entry { .. }]));
    }

    /// Entries and where each begins; the last offset is the end.
    fn segment(bodies: &[&[u8]]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut starts = Vec::new();
        for body in bodies {
            starts.push(bytes.len());
            append(&mut bytes, 0, &entry(body));
        }
        starts.push(bytes.len());
        (bytes, starts)
    }

    /// Bodies found, `Err` for what is no entry.
    fn bodies(segment: &[u8]) -> Vec<Result<Vec<u8>, &'static str>> {
        let told = |found| match found {
            Found::Entry { bytes, .. } => Ok(bytes.to_vec()),
            Found::Damaged { .. } => Err("damaged"),
            Found::Torn { .. } => Err("torn"),
        };
        entries(segment).map(told).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let (bytes, _) = segment(&[b"one", b"", &[0, 255, 10]]);
        assert_eq!(bodies(&bytes), [Ok(b"one".to_vec()), Ok(vec![]), Ok(vec![0, 255, 10])]);
        let Some(Found::Entry { header, .. }) = entries(&bytes).next() else { panic!() };
        assert_eq!(*header, entry(b"").header);
    }

    #[test]
    fn a_cut_anywhere_loses_only_the_entry_that_is_cut() {
        let (bytes, starts) = segment(&[b"one", b"two", b"three"]);
        for cut in 0..bytes.len() {
            let whole = starts.iter().filter(|start| **start > 0 && **start <= cut).count();
            let found = bodies(&bytes[..cut]);
            assert_eq!(found.iter().filter(|body| body.is_ok()).count(), whole, "cut at {cut}");
            let torn = !starts.contains(&cut);
            assert_eq!(found.last().is_some_and(|last| *last == Err("torn")), torn, "cut at {cut}");
        }
    }

    #[test]
    fn damage_in_the_middle_is_told_and_the_next_entry_found() {
        let (bytes, starts) = segment(&[b"one", b"two", b"three"]);
        for at in starts[1]..starts[2] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert_eq!(bodies(&bytes), [Ok(b"one".to_vec()), Err("damaged"), Ok(b"three".to_vec())], "byte {at}");
        }
    }

    #[test]
    fn zeros_that_a_power_cut_left_are_torn_not_damaged() {
        let (mut bytes, starts) = segment(&[b"one"]);
        bytes.extend_from_slice(&[0; 5000]);
        assert_eq!(entries(&bytes).nth(1), Some(Found::Torn { from: starts[1] as u64 }));
    }

    #[test]
    fn refused_bytes_cannot_pose_as_an_entry() {
        let (forged, _) = segment(&[b"forged"]);
        let (mut bytes, starts) = segment(&[&forged, b"two"]);
        bytes[5] ^= 1;
        assert_eq!(entries(&bytes).next(), Some(Found::Damaged { from: 0, to: starts[1] as u64 }));
    }

    #[test]
    fn a_long_detail_is_cut_between_characters() {
        let mut long = entry(b"x");
        long.header.detail = "é".repeat(TEXT_BYTES_MAX);
        let mut bytes = Vec::new();
        append(&mut bytes, 0, &long);
        let Some(Found::Entry { header, .. }) = entries(&bytes).next() else { panic!() };
        assert_eq!(header.detail.len(), TEXT_BYTES_MAX + '…'.len_utf8());
    }

    #[test]
    fn only_our_own_names_are_segments() {
        let number = |name: &str| segment_number(Path::new(name));
        assert_eq!(number("/d/00000042.dlq"), Some(42));
        assert_eq!(number("/d/123456789.dlq"), Some(123_456_789));
        for name in ["42.dlq", "00000042.dlq.gz", "+0000042.dlq", "x.dlq", ".dlq"] {
            assert_eq!(number(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (mut segment, _) = segment(&[b"one"]);
            let whole = segment.len() as u64;
            segment.extend_from_slice(&bytes);
            let found: Vec<_> = entries(&segment).collect();
            let expected = if bytes.is_empty() { None } else { Some(Found::Torn { from: whole }) };
            prop_assert_eq!(found.get(1).cloned(), expected);
        }
    }
}
