//! Up to where each stream is counted.
//!
//! A snapshot may be newer than the saved position: what lies between them is read again, and must not be counted
//! again. A place in a stream says so, where places are numbers that grow (files, Kafka, Redis); where they are names of
//! documents, the last [`DOCUMENTS`] of them are remembered.

use std::collections::VecDeque;

use crate::detect::{
    saved::{CUT, Reader, Writer},
    seed::hash,
};

/// Streams that are remembered.
const STREAMS: usize = 256;
/// Documents that are remembered, by eight bytes each: half a minute of 8,000 a second, and snapshots are that far apart.
const DOCUMENTS: usize = 1 << 18;

/// Where a stream is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    stream: Box<[u8]>,
    /// Offset, or milliseconds and sequence of Redis.
    at: (u64, u64),
    /// Greatest time of its events: a topic that was made anew begins at 0 again, but with later ones.
    ms: i64,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// The one that came last is the last.
    seen: Vec<Place>,
    /// As they were when the snapshot was taken that was loaded, until they are passed.
    loaded: Vec<Place>,
    /// Hashes of the names of documents, the newest last.
    documents: VecDeque<u64>,
    /// Those of them that the snapshot had which was loaded, sorted.
    counted: Vec<u64>,
}

/// Stream and place of an origin, if its place is a number. A document's name says nothing of its place, digits or not.
fn place(origin: &[u8]) -> Option<(&[u8], (u64, u64))> {
    if origin.starts_with(b"opensearch/") {
        return None;
    }
    let cut = memchr::memrchr(b'/', origin)?;
    let (stream, place) = (origin.get(..cut)?, origin.get(cut + 1..)?);
    let number = |digits: &[u8]| {
        let mut n = 0_u64;
        for digit in digits {
            n = n.checked_mul(10)?.checked_add(u64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?))?;
        }
        (!digits.is_empty()).then_some(n)
    };
    let at = match place.iter().position(|byte| matches!(byte, b'+' | b'-')) {
        None => (number(place)?, 0),
        Some(end) if place.get(end) == Some(&b'+') => (number(place.get(..end)?)?, 0),
        Some(end) => (number(place.get(..end)?)?, number(place.get(end + 1..)?)?),
    };
    Some((stream, at))
}

impl Streams {
    /// Notes where an event lies; true if the snapshot that was loaded has it.
    pub(super) fn is_counted(&mut self, origin: &[u8], ms: i64) -> bool {
        let Some((stream, at)) = place(origin) else { return self.is_known(origin) };
        if !self.loaded.is_empty()
            && let Some(n) = self.loaded.iter().position(|known| *known.stream == *stream)
        {
            if self.loaded.get(n).is_some_and(|known| at <= known.at && ms <= known.ms) {
                return true;
            }
            self.loaded.swap_remove(n);
        }
        match self.seen.iter().rposition(|known| *known.stream == *stream) {
            Some(n) => {
                let last = self.seen.len() - 1;
                if n != last {
                    self.seen.swap(n, last);
                }
                if let Some(known) = self.seen.last_mut() {
                    (known.at, known.ms) = (at, known.ms.max(ms));
                }
            }
            None => {
                if self.seen.len() >= STREAMS {
                    self.seen.remove(0);
                }
                self.seen.push(Place { stream: stream.into(), at, ms });
            }
        }
        false
    }

    /// Notes a document; true if the snapshot that was loaded has it.
    fn is_known(&mut self, name: &[u8]) -> bool {
        let hash = hash(0, name);
        if name.is_empty() {
            return false;
        }
        if self.counted.binary_search(&hash).is_ok() {
            return true;
        }
        // One record may come twice, as event and as mark.
        if self.documents.back() != Some(&hash) {
            if self.documents.len() == DOCUMENTS {
                self.documents.pop_front();
            }
            self.documents.push_back(hash);
        }
        false
    }

    pub(super) fn save(&self, out: &mut Writer) {
        // What was not passed yet is still counted.
        let unpassed = self.loaded.iter().filter(|place| self.seen.iter().all(|seen| seen.stream != place.stream));
        let all: Vec<&Place> = unpassed.chain(&self.seen).collect();
        out.number(all.len() as u64);
        for place in all {
            out.bytes(&place.stream);
            out.number(place.at.0);
            out.number(place.at.1);
            out.signed(place.ms);
        }
        out.number(self.documents.len() as u64);
        self.documents.iter().for_each(|hash| out.u64(*hash));
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self, &'static str> {
        let mut loaded = Vec::new();
        for _ in 0..from.count()? {
            loaded.push(Place { stream: from.bytes()?.into(), at: (from.number()?, from.number()?), ms: from.signed()? });
        }
        let count = from.count()?;
        if count > DOCUMENTS {
            return Err(CUT);
        }
        let documents = (0..count).map(|_| from.u64()).collect::<Result<VecDeque<_>, _>>()?;
        let mut counted: Vec<u64> = documents.iter().copied().collect();
        counted.sort_unstable();
        Ok(Self { seen: Vec::new(), loaded, documents, counted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_numbers_of_every_source_that_has_them() {
        type Case<'a> = (&'a str, Option<(&'a str, (u64, u64))>);
        let cases: [Case<'_>; 8] = [
            ("kafka/apt/3/17", Some(("kafka/apt/3", (17, 0)))),
            ("mgr-1/alerts/2026-03-14/000~1/1000+345", Some(("mgr-1/alerts/2026-03-14/000~1", (1000, 0)))),
            ("redis/apt/1773480423123-7", Some(("redis/apt", (1_773_480_423_123, 7)))),
            ("stdin/17/0", Some(("stdin/17", (0, 0)))),
            ("opensearch/index/AbC", None),
            ("opensearch/index/17", None),
            ("", None),
            ("kafka/apt/3/", None),
        ];
        for (origin, expected) in cases {
            let expected = expected.map(|(stream, at)| (stream.as_bytes(), at));
            assert_eq!(place(origin.as_bytes()), expected, "{origin}");
        }
    }

    #[test]
    fn what_a_snapshot_has_is_counted_and_what_follows_is_not() {
        let mut streams = Streams::default();
        for n in 0..10 {
            assert!(!streams.is_counted(format!("kafka/a/0/{n}").as_bytes(), n));
            assert!(!streams.is_counted(format!("kafka/a/1/{}", n * 2).as_bytes(), n));
        }
        let again = |streams: &Streams| {
            let mut out = Writer::default();
            streams.save(&mut out);
            Streams::load(&mut Reader(&out.0)).unwrap()
        };
        // A second snapshot before anything is passed says the same.
        let mut streams = again(&again(&streams));
        assert!(streams.is_counted(b"kafka/a/0/3", 3) && streams.is_counted(b"kafka/a/0/9", 9));
        // Twice in one record, as event and as mark.
        assert!(!streams.is_counted(b"kafka/a/0/10", 10) && !streams.is_counted(b"kafka/a/0/10", 10));
        assert!(!streams.is_counted(b"kafka/b/0/1", 3), "another stream");
        assert!(!streams.is_counted(b"kafka/a/1/1", 99), "a topic that was made anew has later events");
        assert!(again(&streams).is_counted(b"kafka/a/0/10", 10));
        for n in 0..300 {
            streams.is_counted(format!("kafka/{n}/0/0").as_bytes(), 0);
        }
        assert_eq!(streams.seen.len(), STREAMS);
    }

    #[test]
    fn documents_that_a_snapshot_has_are_counted_by_their_names() {
        let again = |streams: &Streams| {
            let mut out = Writer::default();
            streams.save(&mut out);
            for end in 0..out.0.len().min(100) {
                assert!(Streams::load(&mut Reader(&out.0[..end])).is_err());
            }
            Streams::load(&mut Reader(&out.0)).unwrap()
        };
        let name = |n: usize| format!("opensearch/events/{n}").into_bytes();
        let mut streams = Streams::default();
        (0..10).for_each(|n| assert!(!streams.is_counted(&name(n), 0) && !streams.is_counted(&name(n), 0)));
        // In any order, as event and as mark, and after a second snapshot.
        let mut streams = again(&again(&streams));
        assert!((0..10).rev().all(|n| streams.is_counted(&name(n), 0) && streams.is_counted(&name(n), 0)));
        assert!(!streams.is_counted(&name(10), 0) && !streams.is_counted(b"", 0) && !streams.is_counted(b"", 0));
        assert!(again(&streams).is_counted(&name(10), 0));
        (0..DOCUMENTS).for_each(|n| {
            streams.is_counted(&name(100 + n), 0);
        });
        let mut streams = again(&streams);
        assert_eq!(streams.documents.len(), DOCUMENTS);
        assert!(!streams.is_counted(&name(3), 0) && streams.is_counted(&name(100), 0), "the oldest are forgotten");
    }
}
