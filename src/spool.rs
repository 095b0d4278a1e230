//! Messages that wait on disk for a lookup: how they lie in a segment.
//!
//! A segment is a file of entries of a [`journal`]: a header (JSON), then the message's key, its
//! payload and its record. They are brought again in the order in which they were put by; places are
//! [`Position::File`](crate::position::Position::File), the segment's number and the offset in it. No
//! I/O here; `store` writes and fsyncs.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::{ops::Range, path::Path};

use serde::{Deserialize, Serialize};

use crate::journal::{self, Magic};

/// What the source that reads a spool has for its kind in checkpoints; its stream is the lookup's name.
pub const KIND: &str = "spool";

/// First bytes of an entry.
const MAGIC: Magic = [0xD1, b'S', 0xE7, b'1'];

/// A message with all that it is asked about with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Where the record lies, as the header `shipper-origin` says it.
    pub origin: String,
    /// Milliseconds since 1970, for sinks whose records carry a time.
    pub time_ms: i64,
    pub key: Option<Vec<u8>>,
    pub payload: Vec<u8>,
    /// The record as it was read, with the terminator; empty where it is not at hand.
    pub record: Vec<u8>,
}

/// Bytes of an entry beside its texts: its frame and the numbers of its header.
const BESIDE_BYTES: usize = journal::FRAME_BYTES + 128;

impl Entry {
    /// Bytes that it takes in a segment at most.
    pub fn bytes(&self) -> u64 {
        let key = self.key.as_ref().map_or(0, Vec::len);
        (BESIDE_BYTES + self.origin.len() + key + self.payload.len() + self.record.len()) as u64
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Header {
    origin: String,
    time_ms: i64,
    /// Bytes of each part of the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<u32>,
    payload: u32,
    record: u32,
}

/// Appends an entry to `segment`.
///
/// - `base`: the offset in the file at which `segment` will be appended.
pub fn append(segment: &mut Vec<u8>, base: u64, entry: &Entry) {
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let Entry { origin, time_ms, key, payload, record } = entry;
    let (key_len, payload_len) = (key.as_ref().map(|key| narrow(key.len())), narrow(payload.len()));
    let header = Header { origin: origin.clone(), time_ms: *time_ms, key: key_len, payload: payload_len, record: narrow(record.len()) };
    // Numbers and a text always serialise; an empty header would show as damage, not as a loss.
    let header = serde_json::to_vec(&header).unwrap_or_default();
    journal::append(MAGIC, segment, base, &header, &[key.as_deref().unwrap_or_default(), payload, record]);
}

/// What a part of a segment holds, in order. Places are bytes from its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Message(Message),
    /// No entry, and the disk damaged it.
    Damaged {
        from: usize,
        to: usize,
    },
}

/// An entry where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where the whole entry lies.
    pub from: usize,
    pub to: usize,
    pub origin: String,
    pub time_ms: i64,
    pub key: Option<Range<usize>>,
    pub payload: Range<usize>,
    pub record: Range<usize>,
}

/// Reads whole entries.
///
/// - `base`: the offset of `bytes` in the segment.
pub fn entries(bytes: &[u8], base: u64) -> impl Iterator<Item = Found> + '_ {
    let header = |bytes: &[u8]| serde_json::from_slice::<Header>(bytes).ok();
    journal::entries(MAGIC, bytes, base, header).map(move |found| match found {
        journal::Found::Entry { from, to, header: Header { origin, time_ms, key, payload, record }, body } => {
            let [key_len, payload_len, record_len] = [key.unwrap_or(0), payload, record].map(|len| len as usize);
            if key_len + payload_len + record_len != body.len() {
                return Found::Damaged { from, to };
            }
            let start = to - body.len();
            let (payload, record) = (start + key_len..to - record_len, to - record_len..to);
            Found::Message(Message { from, to, origin, time_ms, key: key.map(|_| start..start + key_len), payload, record })
        }
        journal::Found::Damaged { from, to } => Found::Damaged { from, to },
        journal::Found::Torn { from } => Found::Damaged { from, to: bytes.len() },
    })
}

/// What to take next of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// So many bytes are whole entries.
    Entries(usize),
    /// So many bytes are damaged.
    Damaged(usize),
    /// So many bytes must be at hand to tell more.
    Wants(usize),
    /// The rest is what a crash left of an entry that was never answered.
    CutOff,
    /// Nothing is left.
    End,
}

/// Says what to take next: whole entries, as many as fit, or what is none.
///
/// | at hand | is |
/// |---|---|
/// | one whole entry or more | entries, up to `most` bytes, at least one |
/// | the beginning of an entry | wanted whole |
/// | no beginning of one | damaged up to the next entry; of that the whole rest is wanted first |
///
/// - `bytes`: the segment from `offset` on, or its beginning.
/// - `left`: bytes of the segment from `offset` on.
/// - `is_sealed`: nothing is appended any more: what stands at its end may be cut off.
/// - `most`: bytes to take at once.
pub fn next(bytes: &[u8], offset: u64, left: usize, is_sealed: bool, most: usize) -> Next {
    let mut taken = 0;
    while let Some(len) = bytes.get(taken..).and_then(|rest| journal::length(MAGIC, rest, offset + taken as u64)) {
        let end = taken.saturating_add(len);
        if end > left || taken > 0 && end > most {
            break;
        }
        if end > bytes.len() {
            return if taken > 0 { Next::Entries(taken) } else { Next::Wants(end) };
        }
        if !matches!(bytes.get(taken..end).and_then(|one| entries(one, offset + taken as u64).next()), Some(Found::Message(_))) {
            break;
        }
        taken = end;
    }
    if taken > 0 {
        return Next::Entries(taken);
    }
    if left == 0 {
        return Next::End;
    }
    if bytes.len() < left {
        return Next::Wants(if bytes.len() < journal::FRAME_BYTES { journal::FRAME_BYTES.min(left) } else { left });
    }
    let bytes = bytes.get(..left).unwrap_or(bytes);
    match entries(bytes, offset).next() {
        None => Next::End,
        Some(Found::Message(message)) => Next::Entries(message.to),
        Some(Found::Damaged { to, .. }) if to == left && is_sealed && journal::is_cut_off(MAGIC, bytes, offset) => Next::CutOff,
        Some(Found::Damaged { to, .. }) => Next::Damaged(to),
    }
}

/// Where a segment is gone on with: behind its last whole entry, if what follows is nothing but what a crash
/// cut off.
///
/// # Errors
/// Which bytes are damaged.
pub fn end(held: &[u8]) -> Result<usize, (usize, usize)> {
    for found in entries(held, 0) {
        if let Found::Damaged { from, to } = found {
            let is_cut_off = to == held.len() && journal::is_cut_off(MAGIC, held.get(from..).unwrap_or_default(), from as u64);
            return if is_cut_off { Ok(from) } else { Err((from, to)) };
        }
    }
    Ok(held.len())
}

/// The file name of a segment: `misp.00000042.spool`.
///
/// - `lookup`: a component's name, which has no dot.
pub fn segment_name(lookup: &str, number: u32) -> String {
    format!("{lookup}.{number:08}.spool")
}

/// Lookup and number of a segment; `None` for any other file.
pub fn segment_of(path: &Path) -> Option<(&str, u32)> {
    let name = path.file_name()?.to_str()?;
    let (lookup, digits) = name.strip_suffix(".spool")?.rsplit_once('.')?;
    let number = digits.parse().ok()?;
    (segment_name(lookup, number) == name).then_some((lookup, number))
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests state what must hold")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(n: usize) -> Entry {
        let key = (n % 2 == 1).then(|| vec![0xFF, n as u8]);
        Entry { origin: format!("m/alerts/{n}"), time_ms: n as i64, key, payload: vec![b'p'; n % 40], record: vec![b'r'; n % 7] }
    }

    /// A segment of so many entries, and where each begins; the last is the end.
    fn segment(count: usize) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut starts) = (Vec::new(), vec![0]);
        for n in 0..count {
            append(&mut bytes, 0, &entry(n));
            starts.push(bytes.len());
        }
        (bytes, starts)
    }

    fn read(bytes: &[u8], base: u64) -> Vec<Entry> {
        let of = |found| match found {
            Found::Message(Message { origin, time_ms, key, payload, record, .. }) => {
                let of = |range: Range<usize>| bytes[range].to_vec();
                Some(Entry { origin, time_ms, key: key.map(of), payload: of(payload), record: of(record) })
            }
            Found::Damaged { .. } => None,
        };
        entries(bytes, base).filter_map(of).collect()
    }

    /// Takes a segment as the source does, with so much at hand at first; gives the entries and the damaged bytes.
    fn take(segment: &[u8], hand: usize, is_sealed: bool, most: usize) -> (Vec<Entry>, usize) {
        let (mut at, mut all, mut damaged, mut wanted) = (0, Vec::new(), 0, hand);
        loop {
            let (rest, offset) = (&segment[at..], at as u64);
            match next(&rest[..wanted.min(rest.len())], offset, rest.len(), is_sealed, most) {
                Next::Entries(len) => {
                    all.extend(read(&rest[..len], offset));
                    (at, wanted) = (at + len, hand);
                }
                Next::Damaged(len) => {
                    assert!(len > 0);
                    (at, damaged, wanted) = (at + len, damaged + len, hand);
                }
                Next::Wants(bytes) => {
                    assert!(bytes > wanted.min(rest.len()) && bytes <= rest.len(), "it asks for more, and no more than there is");
                    wanted = bytes;
                }
                Next::CutOff | Next::End => return (all, damaged),
            }
        }
    }

    #[test]
    fn what_is_put_by_is_what_is_brought_again() {
        let (bytes, starts) = segment(9);
        assert_eq!(read(&bytes, 0), (0..9).map(entry).collect::<Vec<_>>());
        assert_eq!(read(&bytes[starts[4]..], starts[4] as u64), (4..9).map(entry).collect::<Vec<_>>());
        assert!(entry(8).bytes() >= (starts[9] - starts[8]) as u64);
        assert_eq!(segment_of(Path::new("/s/misp.00000042.spool")), Some(("misp", 42)));
        assert!(
            ["/s/misp.42.spool", "/s/00000042.spool", "/s/misp.00000042.spool.gz"].iter().all(|name| segment_of(Path::new(name)).is_none())
        );
    }

    #[test]
    fn a_cut_end_is_left_and_damage_is_told() {
        let (bytes, starts) = segment(3);
        for cut in 0..bytes.len() {
            let whole = starts.iter().filter(|start| **start > 0 && **start <= cut).count();
            let (found, damaged) = take(&bytes[..cut], 20, true, 1000);
            assert_eq!((found.len(), damaged), (whole, 0), "cut at {cut}");
            assert_eq!(end(&bytes[..cut]), Ok(starts[whole]), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            let hit = starts.partition_point(|start| *start <= at) - 1;
            let expected: Vec<Entry> = (0..3).filter(|n| *n != hit).map(entry).collect();
            assert_eq!(take(&bytes, 20, true, 1000), (expected, starts[hit + 1] - starts[hit]), "byte {at}");
            assert_eq!(end(&bytes), Err((starts[hit], starts[hit + 1])), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn every_good_entry_is_taken_once_whatever_stands_between(
            parts in prop::collection::vec((0usize..50, prop::collection::vec(any::<u8>(), 0..30)), 0..12),
            hand in 1usize..200,
            most in 1usize..300,
            is_sealed in any::<bool>(),
        ) {
            let (mut bytes, mut expected, mut junk) = (Vec::new(), Vec::new(), 0);
            for (n, between) in parts {
                append(&mut bytes, 0, &entry(n));
                expected.push(entry(n));
                junk += between.len();
                bytes.extend_from_slice(&between);
            }
            let (found, damaged) = take(&bytes, hand, is_sealed, most);
            prop_assert_eq!(found, expected);
            prop_assert!(damaged <= junk);
            prop_assert!(damaged == junk || is_sealed, "only at a sealed end something is let go");
        }
    }
}
