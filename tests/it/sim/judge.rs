//! What must be true of a run: nothing lost, nothing invented, order, addresses, sums.

use std::collections::{BTreeMap, BTreeSet};

use shipper::{
    batch::{DraftPool, ORIGIN_HEADER},
    checkpoint::{Checkpoint, Row},
    dead_letter::{self, Found, Kind},
    framing::{frames, whole_frames},
    io::Slab,
    limits,
    position::{Position, Segment},
    sinks::kafka::sim::{Accepted, Cluster},
    sources::{At, Chunk, ChunkKind},
    topology::{Plan, handle::Desk},
};

use super::world::{Dated, World};

/// An address, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Its place in the config.
    pub source: usize,
    /// `2026-03-14/000`; empty where numbers are the agent's choice.
    pub segment: String,
    pub number: u32,
    pub incarnation: u16,
    pub offset: u64,
}

/// What the sources of the config are called, in its order.
pub const SOURCES: [&str; 2] = ["alerts", "app"];

impl Address {
    pub fn parse(origin: &str) -> Self {
        Self::try_parse(origin).unwrap_or_else(|| panic!("{origin:?} is no address"))
    }

    fn try_parse(origin: &str) -> Option<Self> {
        let (stream, place) = origin.rsplit_once('/')?;
        let (offset, len) = place.split_once('+')?;
        len.parse::<u32>().ok()?;
        let (stream, life) = stream.split_once('~').unwrap_or((stream, "0"));
        let (source, segment, number) = match stream.strip_prefix("mgr-1/alerts/") {
            Some(segment) => {
                let (date, part) = segment.split_once('/')?;
                let date: jiff::civil::Date = date.parse().ok()?;
                let days = (date - jiff::civil::date(1970, 1, 1)).get_days();
                (0, segment.to_owned(), Segment::new(u32::try_from(days).ok()?, part.parse().ok()?)?.0)
            }
            None => (1, String::new(), stream.strip_prefix("file/app/%2Fvar%2Flog%2Fapp.log/")?.parse().ok()?),
        };
        Some(Self { source, segment, number, incarnation: life.parse().ok()?, offset: offset.parse().ok()? })
    }

    fn place(&self) -> (u32, u16, u64) {
        (self.number, self.incarnation, self.offset)
    }
}

fn place_of(position: &Position) -> (u32, u16, u64) {
    let Position::File { segment, incarnation, offset } = position else { panic!("{position:?} is no place in a file") };
    (*segment, *incarnation, *offset)
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
    /// A stage before it drops what came before.
    pub is_staged: bool,
    /// A lookup before it puts by: what it makes comes late, and again after a kill.
    pub is_spooled: bool,
    /// A stage that holds the source makes what it takes: `holding` judges that.
    pub is_held: bool,
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
    /// When the last first run of the alerts began, monotonic nanoseconds: one without a row of them.
    first_run: u64,
    /// Every dead letter so far.
    letters: Vec<Letter>,
}

/// True if a checkpoint says where a source stands.
pub fn knows(checkpoint: Option<&Checkpoint>, source: &str) -> bool {
    checkpoint.is_some_and(|checkpoint| checkpoint.rows.iter().any(|row| row.source == source))
}

fn show(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let cut: String = text.chars().take(120).collect();
    format!("{} bytes {cut:?}", bytes.len())
}

impl Judge {
    /// What the checkpoint says at a start: generations do not go back.
    pub fn starts(&mut self, checkpoint: Option<&Checkpoint>, now: u64) {
        if !knows(checkpoint, SOURCES[0]) {
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
        for (topic, from) in topics.iter().zip(&begun.ends).filter(|(topic, _)| !topic.is_held) {
            let all: Vec<Accepted> = topic.cluster.accepted().concat();
            let mut last = [None; SOURCES.len()];
            let mut seen = BTreeSet::new();
            for message in &all[*from..] {
                let origin = origin_of(message);
                let address = Address::parse(&origin);
                let sink = &topic.sink;
                delivered.insert((sink.clone(), origin.clone()));
                let row = begun.rows.iter().find(|row| row.source == SOURCES[address.source]);
                if let Some(watermark) = row.and_then(|row| row.branch(&topic.branch)).filter(|_| !topic.is_spooled) {
                    assert!(address.place() >= place_of(watermark), "{sink}: {origin} came again below the saved watermark {watermark:?}");
                }
                let named = self.names.entry((sink.clone(), origin.clone())).or_insert_with(|| message.payload.clone());
                assert!(*named == message.payload, "{sink}: {origin} names both {} and {}", show(named), show(&message.payload));
                if !seen.insert(origin.clone()) {
                    assert!(repeats || topic.is_spooled, "{sink}: {origin} was sent twice in one life");
                    continue;
                }
                let last = &mut last[address.source];
                assert!(
                    reorders || topic.is_spooled || last.is_none_or(|last| last < address.place()),
                    "{sink}: {origin} came after {last:?}"
                );
                *last = (*last).max(Some(address.place()));
            }
        }
        for letter in letters.get(begun.letters.min(letters.len())..).unwrap_or_default() {
            if let Some(sink) = &letter.sink {
                let both = delivered.contains(&(sink.clone(), letter.origin.clone()));
                assert!(!both, "{}: delivered, and in the dead letter of sink {sink}", letter.origin);
            }
        }
        self.letters = letters;
    }

    /// True of a file that nobody reads: a first run begins with the file that is there, not with those that were before.
    ///
    /// - `first`: the first segment of which anything came.
    pub fn is_before(&self, dated: &Dated, first: Option<&String>) -> bool {
        !dated.segment.is_empty() && dated.made < self.first_run + 100_000_000 && first.is_none_or(|first| dated.segment < *first)
    }

    /// Looks at everything once all is mended and drained; gives what is wrong.
    pub fn closes(&self, world: &World, plan: &Plan, topics: &[Topic], last: &Checkpoint) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut found: BTreeMap<(&str, Place), Vec<Vec<u8>>> = BTreeMap::new();
        for topic in topics.iter().filter(|topic| !topic.is_held) {
            for message in topic.cluster.accepted().concat() {
                let address = Address::parse(&origin_of(&message));
                found.entry((&topic.sink, Place::of(&address))).or_default().push(message.payload);
            }
        }
        let mut rejected: BTreeMap<Place, Vec<&Letter>> = BTreeMap::new();
        for letter in &self.letters {
            rejected.entry(Place::of(&Address::parse(&letter.origin))).or_default().push(letter);
        }
        let mut legal: BTreeSet<(u8, Place, Vec<u8>)> = BTreeSet::new();
        let mut huge: Vec<(Place, Place)> = Vec::new();
        let segments = found.keys().map(|(_, place)| place).chain(rejected.keys()).filter(|place| place.source == 0);
        let first = segments.map(|place| &place.segment).min();
        let is_before = |dated: &Dated| self.is_before(dated, first);
        for (file, dated) in &world.dated {
            let content = world.files.content_of(*file);
            let place = |offset| Place { source: usize::from(dated.segment.is_empty()), segment: dated.segment.clone(), offset };
            for version in dated.before.iter().chain([&content]) {
                let expected = expect(plan, place(0).source, version);
                legal.extend(expected.messages.into_iter().map(|(output, offset, payload)| (output, place(offset), payload)));
                huge.extend(expected.huge.into_iter().map(|(from, to)| (place(from), place(to))));
            }
            if dated.excused || is_before(dated) {
                continue;
            }
            let expected = expect(plan, place(0).source, &content);
            for (output, offset, payload) in expected.messages {
                let waits = plan.outputs.iter().any(|o| o.slot == output && o.after.is_some());
                let letters = || rejected.get(&place(offset)).into_iter().flatten();
                for topic in topics.iter().filter(|topic| topic.output == output && !topic.is_held) {
                    let mut there = found.get(&(topic.sink.as_str(), place(offset))).is_some_and(|all| all.contains(&payload));
                    let mut dead = letters().any(|letter| letter.is_of(topic) && letter.bytes == payload);
                    if topic.is_staged && !there {
                        // The same bytes elsewhere: this one may be a repeat of theirs.
                        there = found.iter().any(|((sink, _), all)| *sink == topic.sink && all.contains(&payload));
                        dead |= self.letters.iter().any(|letter| letter.is_of(topic) && letter.bytes == payload);
                    }
                    // What waited for a refused message never goes out.
                    let held = waits && letters().any(|letter| letter.is_of(topic));
                    if !there && !dead && !held {
                        wrong.push(format!("{}: {} is lost: {}", topic.sink, place(offset), show(&payload)));
                    }
                }
            }
            for (offset, bytes, reason) in expected.rejected {
                // What a power loss left of a line that was shipped whole is nobody's.
                let end = offset as usize + bytes.len();
                let is_rest = dated.cuts.iter().any(|cut| (offset as usize..=end).contains(cut));
                let there = rejected.get(&place(offset)).is_some_and(|all| all.iter().any(|letter| letter.bytes == bytes));
                if !there && !is_rest {
                    wrong.push(format!("{} is not in the dead letter ({reason}): {}", place(offset), show(&bytes)));
                }
            }
        }
        for ((sink, place), payloads) in &found {
            let output = topics.iter().find(|topic| topic.sink == *sink).map_or(0, |topic| topic.output);
            for payload in payloads {
                let in_huge = huge.iter().any(|(from, to)| (from..to).contains(&place));
                if !in_huge && !legal.contains(&(output, place.clone(), payload.clone())) {
                    wrong.push(format!("{sink}: {place} was never written: {}", show(payload)));
                }
            }
        }
        wrong.extend(self.stands_at_the_end(world, last));
        wrong
    }

    /// The last checkpoint stands behind the last whole line.
    fn stands_at_the_end(&self, world: &World, last: &Checkpoint) -> Option<String> {
        let row = last.rows.iter().find(|row| row.source == SOURCES[0])?;
        let at = place_of(row.lowest()?);
        for (file, dated) in world.dated.iter().filter(|(_, dated)| !dated.segment.is_empty() && !dated.excused) {
            let number = Address::parse(&format!("mgr-1/alerts/{}/0+0", dated.segment)).number;
            let whole = whole_frames(&world.files.content_of(*file)) as u64;
            if number > at.0 && whole > 0 || number == at.0 && whole > at.2 {
                return Some(format!("the last checkpoint stands at {at:?}, {} has {whole} bytes of whole lines", dated.segment));
            }
        }
        None
    }
}

/// Where a record begins, whatever life of the file it is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    source: usize,
    segment: String,
    offset: u64,
}

impl Place {
    fn of(address: &Address) -> Self {
        Self { source: address.source, segment: address.segment.clone(), offset: address.offset }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", SOURCES[self.source], self.segment, self.offset)
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

impl Letter {
    fn is_of(&self, topic: &Topic) -> bool {
        // What was put by is owed by the branch of the spool.
        self.branch.split(',').any(|of| of == topic.branch || topic.is_spooled && of == "echo:spool")
    }
}

/// The dead letters in segments, oldest first.
pub fn letters(segments: &[Vec<u8>]) -> Vec<Letter> {
    let mut all = Vec::new();
    for segment in segments {
        for found in dead_letter::entries(segment) {
            if let Found::Entry { header, bytes, .. } = found {
                // What a crash tore of a spool is of no file.
                if header.origin.starts_with("spool/") {
                    continue;
                }
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
    /// Lines that are longer than the limit: of those anything may come.
    huge: Vec<(u64, u64)>,
}

/// What handlers make of a file's whole lines: they know no place and no time.
fn expect(plan: &Plan, source: usize, content: &[u8]) -> Expected {
    let branches = plan.branches_of(source).map(|handler| (handler.spec.build(&plan.shelf), handler.routes.clone())).collect::<Vec<_>>();
    let from = vec![0; branches.len()];
    let mut desk = Desk::new(branches, DraftPool::new(1), true);
    let mut expected = Expected { messages: Vec::new(), rejected: Vec::new(), huge: Vec::new() };
    let mut lines = |start: usize, bytes: &[u8], expected: &mut Expected| {
        let at = At::File { origin: "file/app/%2Fvar%2Flog%2Fapp.log/0".into(), segment: 0, incarnation: 0, offset: start as u64 };
        let chunk = Chunk { slab: Slab::from_bytes(bytes.to_vec()), at, kind: ChunkKind::Lines, received: 0, own: false, rung: None };
        let (handled, _) = desk.handle(chunk, &from);
        for reject in &handled.rejected {
            let (at, len) = (reject.place.start as usize, reject.place.len as usize);
            expected.rejected.push(((start + at) as u64, bytes[at..at + len].to_vec(), reject.reason));
        }
        let batch = handled.draft.finish(0, Position::Count(0), 0);
        for n in 0..batch.len() as u32 {
            let message = batch.message(n);
            let (_, origin) = message.headers().find(|(name, _)| *name == ORIGIN_HEADER).unwrap();
            let offset = Address::parse(std::str::from_utf8(origin).unwrap()).offset;
            expected.messages.push((message.output, offset, message.payload.to_vec()));
        }
    };
    let content = &content[..whole_frames(content)];
    let mut start = 0;
    for frame in frames(content).filter(|frame| frame.next - frame.start > limits::FRAME_BYTES_MAX) {
        lines(start, &content[start..frame.start], &mut expected);
        expected.huge.push((frame.start as u64, frame.next as u64));
        start = frame.next;
    }
    lines(start, &content[start..], &mut expected);
    expected
}
