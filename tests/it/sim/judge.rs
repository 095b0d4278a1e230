//! What must be true of a run: nothing lost, nothing invented, order, addresses, sums.

use std::collections::{BTreeMap, BTreeSet};

use shipper::{
    batch::{DraftPool, ORIGIN_HEADER},
    checkpoint::{Checkpoint, Row},
    dead_letter::{self, Found, Kind},
    framing::whole_frames,
    io::Slab,
    position::Position,
    sinks::kafka::sim::{Accepted, Cluster},
    sources::{At, Chunk, ChunkKind},
    topology::{Plan, handle::Desk},
};

use super::world::{Dated, World};

/// An address, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// `2026-03-14/000`
    pub segment: String,
    pub incarnation: u16,
    pub offset: u64,
    pub len: u64,
}

impl Address {
    pub fn parse(origin: &str) -> Self {
        Self::try_parse(origin).unwrap_or_else(|| panic!("{origin:?} is no address"))
    }

    fn try_parse(origin: &str) -> Option<Self> {
        let (stream, place) = origin.strip_prefix("mgr-1/alerts/")?.rsplit_once('/')?;
        let (segment, life) = stream.split_once('~').unwrap_or((stream, "0"));
        let (offset, len) = place.split_once('+')?;
        Some(Self { segment: segment.to_owned(), incarnation: life.parse().ok()?, offset: offset.parse().ok()?, len: len.parse().ok()? })
    }

    /// Where it lies in the order of the stream, and whether it is at or above a position.
    pub fn is_at_or_above(&self, at: &Position) -> bool {
        let Position::File { segment, incarnation, offset } = at else { panic!("{at:?} is no place in a file") };
        (self.number(), self.incarnation, self.offset) >= (*segment, *incarnation, *offset)
    }

    pub fn number(&self) -> u32 {
        let (date, part) = self.segment.split_once('/').unwrap();
        let date: jiff::civil::Date = date.parse().unwrap();
        let days = (date - jiff::civil::date(1970, 1, 1)).get_days();
        shipper::position::Segment::new(u32::try_from(days).unwrap(), part.parse().unwrap()).unwrap().0
    }
}

pub fn origin_of(message: &Accepted) -> String {
    let (_, value) = message.headers.iter().find(|(name, _)| *name == ORIGIN_HEADER).expect("every message has an origin");
    String::from_utf8(value.clone()).unwrap()
}

/// One sink of the plan: which branch feeds it, and its topic.
pub struct Topic {
    pub sink: String,
    pub branch: String,
    /// Slot of the output that it takes.
    pub output: u8,
    pub cluster: Cluster,
}

/// What one life of the agent began with.
pub struct Begun {
    pub rows: Vec<Row>,
    pub ends: Vec<usize>,
    pub letters: usize,
}

/// Collects over all lives.
#[derive(Default)]
pub struct Judge {
    /// By (sink, origin): the bytes that it names.
    names: BTreeMap<(String, String), Vec<u8>>,
    pub generation: u64,
    /// When the last first run began, monotonic nanoseconds: one without a checkpoint.
    first_run: u64,
    /// Every dead letter so far: (branch, origin, kind is record, bytes).
    letters: Vec<(String, String, bool, Vec<u8>)>,
}

fn show(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let cut: String = text.chars().take(120).collect();
    format!("{} bytes {cut:?}", bytes.len())
}

impl Judge {
    /// What the checkpoint says at a start: generations do not go back.
    pub fn starts(&mut self, checkpoint: Option<&Checkpoint>, now: u64) {
        if checkpoint.is_none() {
            self.first_run = now;
        }
        let generation = checkpoint.map_or(0, |c| c.generation);
        assert!(generation >= self.generation, "checkpoint generation {generation} after {}", self.generation);
        self.generation = generation;
    }

    /// Looks at what a life delivered.
    ///
    /// - `repeats`: the weather may have made the producer send again.
    /// - `reorders`: it may have made it send out of order.
    pub fn ends(&mut self, begun: &Begun, topics: &[Topic], letters: Vec<Letter>, repeats: bool, reorders: bool) {
        let mut delivered: BTreeSet<(String, String)> = BTreeSet::new();
        for (topic, from) in topics.iter().zip(&begun.ends) {
            let watermark = begun.rows.iter().find_map(|row| row.branch(&topic.branch));
            let all: Vec<Accepted> = topic.cluster.accepted().concat();
            let mut last: Option<(u32, u16, u64)> = None;
            let mut seen = BTreeSet::new();
            for message in &all[*from..] {
                let origin = origin_of(message);
                let address = Address::parse(&origin);
                let sink = &topic.sink;
                delivered.insert((sink.clone(), origin.clone()));
                if let Some(watermark) = watermark {
                    assert!(address.is_at_or_above(watermark), "{sink}: {origin} came again below the saved watermark {watermark:?}");
                }
                let named = self.names.entry((sink.clone(), origin.clone())).or_insert_with(|| message.payload.clone());
                assert!(
                    *named == message.payload,
                    "{sink}: {origin} names two byte strings: {} and {}",
                    show(named),
                    show(&message.payload)
                );
                if !seen.insert(origin.clone()) {
                    assert!(repeats, "{sink}: {origin} was sent twice in one life");
                    continue;
                }
                let place = (address.number(), address.incarnation, address.offset);
                assert!(reorders || last.is_none_or(|last| last < place), "{sink}: {origin} came after {last:?}");
                last = last.max(Some(place));
            }
        }
        for letter in letters.get(begun.letters.min(letters.len())..).unwrap_or_default() {
            if let Some(sink) = &letter.sink {
                assert!(
                    !delivered.contains(&(sink.clone(), letter.origin.clone())),
                    "{}: delivered, and in the dead letter of sink {sink}",
                    letter.origin
                );
            }
        }
        self.letters = letters.into_iter().map(|letter| (letter.branch, letter.origin, letter.sink.is_none(), letter.bytes)).collect();
    }

    /// Looks at everything once all is mended and drained.
    pub fn closes(&self, world: &World, plan: &Plan, topics: &[Topic]) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut found: BTreeMap<(&str, String, u64), Vec<&[u8]>> = BTreeMap::new();
        let accepted: Vec<Vec<Accepted>> = topics.iter().map(|topic| topic.cluster.accepted().concat()).collect();
        for (topic, messages) in topics.iter().zip(&accepted) {
            for message in messages {
                let address = Address::parse(&origin_of(message));
                found.entry((&topic.sink, address.segment, address.offset)).or_default().push(&message.payload);
            }
        }
        let mut rejected: BTreeMap<(String, u64), Vec<(&str, &[u8])>> = BTreeMap::new();
        for (branch, origin, _, bytes) in &self.letters {
            let address = Address::parse(origin);
            rejected.entry((address.segment, address.offset)).or_default().push((branch, bytes));
        }
        // A first run begins with the file that is there, not with those that were before.
        let first = found.keys().map(|(_, segment, _)| segment).chain(rejected.keys().map(|(segment, _)| segment)).min();
        let is_before = |dated: &Dated| dated.made < self.first_run + 100_000_000 && first.is_none_or(|first| dated.segment < *first);
        for (file, dated) in world.dated.iter().filter(|(_, dated)| !dated.excused && !is_before(dated)) {
            let content = world.files.content_of(*file);
            let expected = expect(plan, dated, &content);
            let dead_at = |offset: u64, branch: &str| {
                rejected
                    .get(&(dated.segment.clone(), offset))
                    .is_some_and(|all| all.iter().any(|(of, _)| of.split(',').any(|of| of == branch)))
            };
            for (output, offset, payload) in expected.messages {
                let waits = plan.outputs.iter().any(|o| o.slot == output && o.after.is_some());
                for topic in topics.iter().filter(|topic| topic.output == output) {
                    let there =
                        found.get(&(topic.sink.as_str(), dated.segment.clone(), offset)).is_some_and(|all| all.contains(&&payload[..]));
                    let dead = rejected
                        .get(&(dated.segment.clone(), offset))
                        .is_some_and(|all| all.iter().any(|(branch, bytes)| *branch == topic.branch && *bytes == &payload[..]));
                    // What waited for a refused message never goes out.
                    if !there && !dead && !(waits && dead_at(offset, &topic.branch)) {
                        wrong.push(format!("{}: {}/{offset} is lost: {}", topic.sink, dated.segment, show(&payload)));
                    }
                }
            }
            for (offset, bytes, reason) in expected.rejected {
                // What a power loss left of a line that was shipped whole is nobody's.
                let end = offset as usize + bytes.len();
                let is_rest = dated.cuts.iter().any(|cut| (offset as usize..=end).contains(cut));
                let there = rejected.get(&(dated.segment.clone(), offset)).is_some_and(|all| all.iter().any(|(_, b)| *b == &bytes[..]));
                if !there && !is_rest {
                    wrong.push(format!("{}/{offset} is not in the dead letter ({reason}): {}", dated.segment, show(&bytes)));
                }
            }
        }
        wrong
    }
}

/// A dead letter, as far as it matters here.
#[derive(Clone, Debug)]
pub struct Letter {
    pub branch: String,
    pub origin: String,
    /// Of a message.
    pub sink: Option<String>,
    pub bytes: Vec<u8>,
}

/// The dead letters in segments, oldest first.
pub fn letters(segments: &[Vec<u8>]) -> Vec<Letter> {
    let mut all = Vec::new();
    for segment in segments {
        for found in dead_letter::entries(segment) {
            if let Found::Entry { header, bytes, .. } = found {
                assert_eq!(header.kind == Kind::Message, header.sink.is_some());
                all.push(Letter { branch: header.branch, origin: header.origin, sink: header.sink, bytes: bytes.to_vec() });
            }
        }
    }
    all
}

struct Expected {
    /// Output, offset, payload.
    messages: Vec<(u8, u64, Vec<u8>)>,
    rejected: Vec<(u64, Vec<u8>, &'static str)>,
}

/// What handlers make of a file's whole lines: they know no place and no time.
fn expect(plan: &Plan, dated: &Dated, content: &[u8]) -> Expected {
    let branches = plan.branches_of(0).map(|handler| (handler.spec.build(), handler.routes.clone())).collect::<Vec<_>>();
    let from = vec![0; branches.len()];
    let mut desk = Desk::new(branches, DraftPool::new(1), true);
    let whole = whole_frames(content);
    let at = At::File { origin: format!("mgr-1/alerts/{}", dated.segment).into(), segment: 0, incarnation: 0, offset: 0 };
    let slab = Slab::from_bytes(content[..whole].to_vec());
    let (handled, _) = desk.handle(Chunk { slab, at, kind: ChunkKind::Lines, received: 0, own: false, rung: None }, &from);
    let rejected = handled.rejected.iter().map(|reject| {
        let start = reject.place.start as usize;
        (u64::from(reject.place.start), content[start..start + reject.place.len as usize].to_vec(), reject.reason)
    });
    let rejected = rejected.collect();
    let batch = handled.draft.finish(0, Position::Count(0), 0);
    let messages = (0..batch.len() as u32).map(|n| {
        let message = batch.message(n);
        let (_, origin) = message.headers().find(|(name, _)| *name == ORIGIN_HEADER).unwrap();
        (message.output, Address::parse(std::str::from_utf8(origin).unwrap()).offset, message.payload.to_vec())
    });
    Expected { messages: messages.collect(), rejected }
}
