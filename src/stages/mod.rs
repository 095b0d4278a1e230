//! What remembers earlier messages: drops repeats, folds storms, counts.
//!
//! A stage sits on the home shard of its source and takes messages in the order of admission. It
//! is plain and pure: it is told the time, does no I/O, and its memory is bounded; what it forgets
//! for want of room is counted. A message that a stage took is done with: what the stage passes on
//! or makes of it belongs to the same record and is owed in its place; if there is nothing of the
//! kind, the record's bytes count as dropped with the stage's reason. What it emits later, by
//! itself ([`Stage::tick`]), is owed like any other message.
//!
//! A stage may save a snapshot. It speaks only of records that are settled, and is never an ack:
//! see `docs/decisions/0007-stages-and-lookups.md`.
//!
//! Adding one is one file and one line in [`ALL`].

use std::{fmt, sync::Arc};

use sha2::{Digest, Sha256};

use crate::{
    alert::{Node, Parser, json_str},
    batch::Message,
    clock::Nanos,
    detect::kept::Questions,
    register::{Field, Section, Type},
    tables::Shelf,
};

crate::register! { Kind:
    dedup::Dedup,
    suppress::Suppress,
    storm::Storm,
    rates::Rates,
    changes::Changes,
    detector::Kinds,
}

/// Words of levels, and a severity at which each begins.
const LEVELS: [(&str, u32); 4] = [("low", 0), ("medium", 40), ("high", 60), ("critical", 80)];
const WORDS: Type = Type::Choice(&["low", "medium", "high", "critical"]);

/// What exists: a kind of stage.
pub trait Kind: Sync {
    /// As in `kind = "…"`.
    fn name(&self) -> &'static str;
    /// One line for `shipper list`.
    fn about(&self) -> &'static str;
    /// Its settings.
    fn fields(&self) -> &'static [Field];
    /// Its outputs, the primary one first and empty, another by what follows the dot.
    fn outputs(&self) -> &'static [&'static str];
    /// Reads its settings; wrong ones are noted in the section.
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec>;
}

/// What the config asks for, checked.
pub trait Spec: Send + Sync + fmt::Debug {
    /// One running stage, which remembers nothing; called once per source that feeds it.
    ///
    /// - `tables`: has every table that the settings name.
    fn build(&self, tables: &Shelf) -> Box<dyn Stage>;
    /// Whether it holds its sources: what it remembers can be had again only by reading again. No saved place of the
    /// branches that feed it then runs ahead of its saved snapshot, and a start goes on where the snapshot ends. Gives
    /// how often a snapshot is taken, nanoseconds; `None` if a crash may cost what it remembers.
    fn holds(&self) -> Option<Nanos> {
        None
    }
    /// Members at the top of payloads without which it does nothing with them, and the setting that names them.
    fn needs(&self) -> (&'static str, Vec<&str>) {
        ("", Vec::new())
    }
    /// Questions for the behaviour of entities that its stages answer at each message and tick, if they can.
    fn questions(&self) -> Option<Arc<Questions>> {
        None
    }
}

/// The present, by both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic: for spans and deadlines.
    pub mono: Nanos,
    /// Nanoseconds since 1970, may jump: for what people read.
    pub wall: Nanos,
}

/// What became of a message in one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was passed on, or something was made of it.
    Emitted,
    /// Nothing goes on, by rule; the reason is a metric label.
    Dropped(&'static str),
}

/// A running stage.
pub trait Stage: Send {
    /// Takes one message, in order.
    fn take(&mut self, message: &Message<'_>, now: Now, out: &mut Out) -> Fate;
    /// Emits what is due by itself. Called at or after [`due`](Self::due).
    fn tick(&mut self, now: Now, out: &mut Late) {
        let _ = (now, out);
    }
    /// When it wants to be told the time, monotonic nanoseconds; `None` while it holds nothing back.
    fn due(&self) -> Option<Nanos> {
        None
    }
    /// Emits all that it holds back: nothing will be kept.
    fn flush(&mut self, now: Now, out: &mut Late) {
        let _ = (now, out);
    }
    /// What it remembers, as bytes; `None` if it need not be kept.
    fn save(&self, now: Now) -> Option<Vec<u8>> {
        let _ = now;
        None
    }
    /// Remembers what an earlier run saved. What is too old by now is forgotten.
    ///
    /// # Errors
    /// What is wrong with the bytes; the stage is then as it was.
    fn load(&mut self, saved: &[u8], now: Now) -> Result<(), String> {
        let _ = (saved, now);
        Ok(())
    }
    /// Messages, windows or whatever it counts, remembered now.
    fn entries(&self) -> usize;
    /// Entries that went for want of room since the last call.
    fn take_evicted(&mut self) -> u64;
}

/// What a stage emits for the message that it takes.
#[derive(Debug, Default)]
pub struct Out {
    passed: u64,
    arena: Vec<u8>,
    made: Vec<Made>,
}

/// A message made of the one that was taken.
#[derive(Clone, Copy, Debug)]
struct Made {
    output: usize,
    key_end: Option<usize>,
    end: usize,
}

impl Out {
    /// Passes the message on as it is; nothing is copied.
    ///
    /// - `output`: index in [`Kind::outputs`], below 64.
    pub fn pass(&mut self, output: usize) {
        self.passed |= 1 << output;
    }
    /// Emits another payload for the same record.
    ///
    /// - `key`: `None` keeps the message's own.
    pub fn message(&mut self, output: usize, key: Option<&[u8]>, payload: &[u8]) {
        self.arena.extend_from_slice(key.unwrap_or_default());
        let key_end = key.map(|_| self.arena.len());
        self.arena.extend_from_slice(payload);
        self.made.push(Made { output, key_end, end: self.arena.len() });
    }
    /// Outputs on which the message is passed on, lowest first.
    pub fn passed(&self) -> impl Iterator<Item = usize> + use<> {
        let passed = self.passed;
        (0..64).filter(move |output| passed >> output & 1 == 1)
    }
    /// What was made of it: output, key, payload.
    pub fn made(&self) -> impl Iterator<Item = (usize, Option<&[u8]>, &[u8])> {
        let mut start = 0;
        self.made.iter().map(move |made| {
            let key = made.key_end.and_then(|end| self.arena.get(start..end));
            let payload = self.arena.get(made.key_end.unwrap_or(start)..made.end).unwrap_or_default();
            start = made.end;
            (made.output, key, payload)
        })
    }
    /// Forgets what was emitted, for the next message.
    pub fn clear(&mut self) {
        self.passed = 0;
        self.arena.clear();
        self.made.clear();
    }
}

/// What a stage emits by itself.
#[derive(Debug, Default)]
pub struct Late {
    pub messages: Vec<LateMessage>,
}

/// A message that no record brings at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateMessage {
    /// Index in [`Kind::outputs`].
    pub output: usize,
    /// Of a record that nothing was emitted for on this output: one address, one message.
    pub origin: Vec<u8>,
    pub key: Option<Vec<u8>>,
    pub payload: Vec<u8>,
    /// Milliseconds since 1970.
    pub time_ms: i64,
}

/// Writes the values of members of a JSON payload so that two payloads write the same only if their
/// values are the same; false if one is missing, `null`, or the payload is no JSON.
///
/// - `paths`: names from the topmost object inwards.
fn members(parser: &mut Parser, payload: &[u8], paths: &[Vec<String>], text: &mut Vec<u8>) -> bool {
    let mut alert = parser.alert(payload);
    alert.root().is_ok_and(|root| values(root, paths, text))
}

/// As [`members`], of a payload that is parsed.
fn values(root: Node<'_>, paths: &[Vec<String>], text: &mut Vec<u8>) -> bool {
    for path in paths {
        let found = path.iter().try_fold(root, |node, name| node.get(name));
        let Some(node) = found.filter(|node| !node.is_null()) else { return false };
        // JSON ends by itself, so values cannot run together.
        node.write_compact(text);
        text.push(b'\n');
    }
    true
}

/// What something is known by: half a SHA-256, which nobody can make two things share.
fn name(parts: &[&[u8]]) -> u128 {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().iter().take(16).fold(0, |name, byte| name << 8 | u128::from(*byte))
}

/// A wall time as people read it, in UTC.
fn rfc3339(wall: Nanos) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(wall)).unwrap_or_default();
    format!("{time:.3}")
}

/// True if a record lies at or before another of the same file.
fn is_at_or_before(origin: &[u8], other: &[u8]) -> bool {
    let place = |origin| {
        let (stream, place) = std::str::from_utf8(origin).ok()?.rsplit_once('/')?;
        let offset = place.split_once('+').map_or(place, |(offset, _)| offset);
        Some((stream, offset.parse::<u64>().ok()?))
    };
    match (place(origin), place(other)) {
        (Some((stream, offset)), Some((same, counted))) => stream == same && offset <= counted,
        _ => origin == other,
    }
}

/// Makes members addable: takes the closing brace of an object away, or puts what is none into one.
fn open_object(payload: &mut Vec<u8>) {
    let end = payload.trim_ascii_end().len();
    payload.truncate(end);
    if payload.pop_if(|last| *last == b'}').is_some() {
        payload.push(b',');
    } else {
        // Nothing that has members ends otherwise, unless it had to be mended to be read.
        let text = String::from_utf8_lossy(payload).into_owned();
        payload.clear();
        payload.extend_from_slice(b"{\"message\":");
        json_str(payload, &text);
        payload.push(b',');
    }
}

/// Writing what a stage saves, and reading it, piece by piece; `None` where it ends too early.
mod saved {
    /// A length of eight bytes, and as many.
    pub(super) fn write(out: &mut Vec<u8>, bytes: &[u8]) {
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(bytes);
    }

    /// What is left to read.
    pub(super) struct Reader<'b>(pub(super) &'b [u8]);

    impl Reader<'_> {
        fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
            let (taken, rest) = self.0.split_first_chunk::<N>()?;
            self.0 = rest;
            Some(*taken)
        }
        pub(super) fn u64(&mut self) -> Option<u64> {
            self.take().map(u64::from_le_bytes)
        }
        pub(super) fn u128(&mut self) -> Option<u128> {
            self.take().map(u128::from_le_bytes)
        }
        pub(super) fn u8(&mut self) -> Option<u8> {
            self.take().map(|[byte]| byte)
        }
        /// A length of eight bytes, and as many.
        pub(super) fn bytes(&mut self) -> Option<Vec<u8>> {
            let len = usize::try_from(self.u64()?).ok()?;
            let (taken, rest) = self.0.split_at_checked(len)?;
            self.0 = rest;
            Some(taken.to_vec())
        }
    }
}
