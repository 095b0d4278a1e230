//! A topic against the files that it came from.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use jiff::civil::Date;
use shipper::{
    net::kafka::{reader::Reader, settings::Connection},
    position::Segment,
    synth::writer::dated,
};

/// What was found in a topic.
#[derive(Debug, Default)]
pub struct Found {
    /// How often each record was found, by (segment, offset).
    pub times: BTreeMap<(u32, u64), u32>,
    /// Messages that lie behind one with a higher address in their partition.
    pub steps_back: u64,
    pub messages: u64,
}

impl Found {
    /// Records found more than once.
    pub fn repeated(&self) -> impl Iterator<Item = ((u32, u64), u32)> {
        self.times.iter().filter(|(_, times)| **times > 1).map(|(at, times)| (*at, *times))
    }
}

/// A connection without TLS and login.
pub fn plain(brokers: &str) -> Connection {
    Connection { brokers: brokers.split(',').map(str::to_owned).collect(), client_id: "test".into(), ..Connection::default() }
}

/// Reads a topic and compares each message with the bytes that its address names.
///
/// # Panics
/// Where they differ.
#[track_caller]
pub fn read(connection: &Connection, topic: &str, base: &Path) -> Found {
    let mut files: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut reader = Reader::open(connection, topic, Duration::from_secs(60)).unwrap();
    let (mut found, mut last) = (Found::default(), BTreeMap::<i32, (u32, u64)>::new());
    let mut quiet = Instant::now();
    while quiet.elapsed() < Duration::from_secs(5) {
        let Some(message) = reader.next(Duration::from_millis(200)).unwrap() else { continue };
        quiet = Instant::now();
        let origin = String::from_utf8(message.header("shipper-origin").expect("every message has an origin").to_vec()).unwrap();
        let (segment, offset, len) = address(&origin);
        let file = files.entry(segment).or_insert_with(|| fs::read(file_of(base, segment)).unwrap());
        let end = usize::try_from(offset + len).unwrap();
        let line = &file[usize::try_from(offset).unwrap()..end];
        assert!(line.strip_suffix(b"\n") == Some(&message.payload), "{origin} names other bytes than the message holds");
        let at = (segment, offset);
        *found.times.entry(at).or_default() += 1;
        found.messages += 1;
        if last.insert(message.partition, at).is_some_and(|before| before >= at) {
            found.steps_back += 1;
        }
    }
    found
}

/// Reads a topic as [`read`] does: every line of every file is in it.
///
/// # Panics
/// Where one is missing.
#[track_caller]
pub fn compare(connection: &Connection, topic: &str, base: &Path) -> Found {
    let found = read(connection, topic, base);
    let (mut segment, _) = *found.times.keys().next().expect("the topic is not empty");
    while file_of(base, segment).exists() {
        let file = fs::read(file_of(base, segment)).unwrap();
        let mut next = 0;
        for ((_, offset), _) in found.times.range((segment, 0)..(segment + 1, 0)) {
            assert_eq!(*offset, next, "bytes {next}..{offset} of {} are in no message", file_of(base, segment).display());
            next = offset + 1 + memchr::memchr(b'\n', &file[usize::try_from(*offset).unwrap()..]).unwrap() as u64;
        }
        assert_eq!(next, file.len() as u64, "the rest of {} is in no message", file_of(base, segment).display());
        segment += 1;
    }
    found
}

/// Segment, offset and length of `mgr-1/alerts/2026-03-14/000/1024+621`.
fn address(origin: &str) -> (u32, u64, u64) {
    let parts: Vec<&str> = origin.split('/').collect();
    let ["mgr-1", "alerts", day, part, place] = parts[..] else { panic!("{origin}: not an address of this channel") };
    let day: Date = day.parse().unwrap();
    let days = u32::try_from((day - Date::constant(1970, 1, 1)).get_days()).unwrap();
    let (offset, len) = place.split_once('+').unwrap();
    (Segment::new(days, part.parse().unwrap()).unwrap().0, offset.parse().unwrap(), len.parse().unwrap())
}

fn file_of(base: &Path, segment: u32) -> std::path::PathBuf {
    let day = Date::constant(1970, 1, 1) + jiff::Span::new().days(i64::from(Segment(segment).days()));
    dated(base, day, Segment(segment).part())
}
