//! Slabs to batches: probe, parse, salvage, handle. Plain functions on bytes.
//!
//! A [`Desk`] serves one source on one shard; what it makes of a slab depends on the slab alone,
//! so any shard may do it.

use std::ops::Range;

use crate::{
    alert::{Parser, Piece, salvage},
    batch::{Again, Draft, DraftPool, Place},
    framing::{Framing, Look, Probe},
    handlers::{Fate, Handler, Needles, Record, Rejection},
    position::{Origin, Position},
    sources::{At, Chunk, ChunkKind},
    spool::{self, Found},
};

/// The handlers of one source, and the memory they share.
pub struct Desk {
    probe: Probe,
    seats: Vec<Seat>,
    parser: Parser,
    pool: DraftPool,
    looks: Vec<Look>,
}

/// A handler and, for each of its outputs, the slot in the topology; `None` is unwired.
pub type Branch = (Box<dyn Handler>, Vec<Option<u8>>);

/// One branch at the desk.
struct Seat {
    handler: Box<dyn Handler>,
    routes: Vec<Option<u8>>,
    needles: Needles,
    /// Slot of the output for records that are refused; `None`: they go to the dead letter on disk.
    rejected: [Option<u8>; 1],
}

/// What became of a slab.
pub struct Handled {
    pub draft: Draft,
    /// One for each branch of the source, in its order.
    pub tallies: Vec<Tally>,
    pub rejected: Vec<Rejected>,
    pub records: u32,
}

/// A handled slab on its way to admission.
pub struct Ready {
    pub handled: Handled,
    pub at: At,
    /// Wall time at which its bytes were seen.
    pub received: u64,
    /// CRC of the last bytes, for the ladder.
    pub rung: Option<u32>,
}

/// Bytes of one branch that are settled already, and what it was offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub read: u64,
    pub dropped: Vec<(&'static str, u64)>,
}

impl Tally {
    fn drop(&mut self, reason: &'static str, bytes: u64) {
        if bytes == 0 {
            return;
        }
        match self.dropped.iter_mut().find(|(r, _)| *r == reason) {
            Some((_, sum)) => *sum += bytes,
            None => self.dropped.push((reason, bytes)),
        }
    }
}

/// A record for the dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    pub place: Place,
    /// As the header `shipper-origin` would say it.
    pub origin: String,
    /// Bit n: branch n of the source owes it.
    pub branches: u64,
    /// Bit n: it is a message of branch n, on the output for what is refused.
    pub sent: u64,
    pub reason: &'static str,
    pub detail: String,
}

impl Desk {
    /// A desk for the branches of one source, in their order.
    ///
    /// - `use_probe`: false to parse every frame, for the law's test and for measuring.
    pub fn new(branches: Vec<Branch>, pool: DraftPool, use_probe: bool) -> Self {
        let seats: Vec<Seat> = branches
            .into_iter()
            .map(|(handler, routes)| {
                let needles = if use_probe { handler.needles() } else { Needles::All };
                Seat { handler, routes, needles, rejected: [None] }
            })
            .collect();
        let wants: Vec<Option<Vec<Vec<u8>>>> = seats
            .iter()
            .map(|seat| match &seat.needles {
                Needles::All => None,
                Needles::Any(list) => Some(list.clone()),
            })
            .collect();
        Self { probe: Probe::new(&wants), seats, parser: Parser::new(), pool, looks: Vec::new() }
    }

    /// Records that a branch refuses become messages on these outputs, one for each branch; `None`: they do not.
    pub fn rejecting(mut self, outputs: impl Iterator<Item = Option<u8>>) -> Self {
        self.seats.iter_mut().zip(outputs).for_each(|(seat, output)| seat.rejected = [output]);
        self
    }

    /// Takes in a record that these branches refuse.
    fn refuse(&self, handled: &mut Handled, place: Place, branches: u64, rejection: Rejection, seen: &Seen<'_>) {
        let origin = origin(seen.at, place, seen.number, seen.text);
        let sent = (0..self.seats.len())
            .filter(|b| branches >> b & 1 == 1 && self.seats[*b].rejected[0].is_some())
            .fold(0, |mask, b| mask | 1 << b);
        for (branch, seat) in self.seats.iter().enumerate().filter(|(branch, _)| sent >> branch & 1 == 1) {
            let bytes = &handled.draft.bytes()[place.start as usize..(place.start + place.len) as usize];
            // An entry has no terminator, and may end in a newline of its own.
            let is_line = !matches!(seen.at, At::Entries { .. });
            let frame = bytes.strip_suffix(b"\n").filter(|_| is_line).unwrap_or(bytes).len();
            // Its bytes are counted when it is admitted, so the message stands for none.
            let (_, mut out) = handled.draft.outbox(Place { len: 0, ..place }, narrow(branch) as u8, &seat.rejected, origin);
            let mut message = out.message(0).header("shipper.reason", rejection.reason.as_bytes());
            if !rejection.detail.is_empty() {
                message = message.header("shipper.detail", rejection.detail.as_bytes());
            }
            if let At::Entries { origin, entries, keys, .. } = seen.at
                && let Some(entry) = entries.get(seen.number as usize)
            {
                if let Position::Kafka { partition, offset, .. } = entry.position {
                    let topic = origin.split('/').nth(1).unwrap_or_default();
                    message = message
                        .header("shipper.topic", topic.as_bytes())
                        .header("shipper.partition", partition.to_string().as_bytes())
                        .header("shipper.offset", offset.to_string().as_bytes())
                        .header("shipper.timestamp", (entry.received / 1_000_000).to_string().as_bytes());
                }
                if let Some(key) = entry.key.and_then(|(start, end)| keys.get(start as usize..end as usize)) {
                    message = message.key(key);
                }
            }
            message.time_ms(i64::try_from(seen.received / 1_000_000).unwrap_or(0)).frame(0..frame);
        }
        let Rejection { reason, detail } = rejection;
        handled.rejected.push(Rejected { place, origin: origin.to_string(), branches: branches & !sent, sent, reason, detail });
    }

    /// Handles a chunk.
    ///
    /// - `from`: for each branch, bytes from the chunk's start that it has acked before a restart.
    pub fn handle(&mut self, chunk: Chunk, from: &[u64]) -> (Handled, At) {
        let Chunk { slab, at, kind, received, own, .. } = chunk;
        let mut handled =
            Handled { draft: self.pool.draft(slab), tallies: vec![Tally::default(); self.seats.len()], rejected: Vec::new(), records: 0 };
        let bytes = handled.draft.bytes().len() as u64;
        for (tally, from) in handled.tallies.iter_mut().zip(from) {
            tally.read = bytes.saturating_sub(*from);
        }
        match kind {
            ChunkKind::Broken(reason) => {
                let place = Place { start: 0, len: narrow(handled.draft.bytes().len()) };
                let branches = (0..self.seats.len()).filter(|b| from[*b] < bytes).fold(0, |mask, b| mask | 1 << b);
                handled.records = 1;
                let seen = Seen { at: &at, number: 0, text: "", received, own };
                self.refuse(&mut handled, place, branches, Rejection { reason, detail: String::new() }, &seen);
            }
            ChunkKind::Lines => self.frames(&mut handled, Framing::Lines, &at, (received, own), from),
            ChunkKind::Objects => self.frames(&mut handled, Framing::Objects, &at, (received, own), from),
            ChunkKind::Spooled => self.spooled(&mut handled, &at, from),
            ChunkKind::Entries => self.entries(&mut handled, &at, own, from),
        }
        (handled, at)
    }

    /// Handles a chunk, and keeps what its admission needs.
    pub fn ready(&mut self, chunk: Chunk, from: &[u64]) -> Ready {
        let (received, rung) = (chunk.received, chunk.rung);
        let (handled, at) = self.handle(chunk, from);
        Ready { handled, at, received, rung }
    }

    fn frames(&mut self, handled: &mut Handled, framing: Framing, at: &At, (received, own): (u64, bool), from: &[u64]) {
        let mut looks = std::mem::take(&mut self.looks);
        looks.clear();
        handled.records = self.probe.scan(handled.draft.bytes(), framing, |look| looks.push(look));
        // Bytes that each branch was shown; the rest it did not want.
        let mut shown = vec![0u64; self.seats.len()];
        for look in &looks {
            let seen = Seen { at, number: look.number, text: "", received, own };
            let whole = Place { start: narrow(look.frame.start), len: narrow(look.frame.next - look.frame.start) };
            let offered = (0..self.seats.len()).filter(|b| from[*b] <= look.frame.start as u64).fold(0u64, |mask, b| mask | 1 << b);
            let parses = !look.broken || self.parser.alert(&handled.draft.bytes()[look.frame.start..look.frame.end]).root().is_ok();
            if parses {
                // A run of NULs before an alert (a power cut left it) is no part of it.
                let frame = &handled.draft.bytes()[look.frame.start..look.frame.end];
                let lead = if look.broken { frame.iter().position(|b| *b != 0 && !b.is_ascii_whitespace()).unwrap_or(0) } else { 0 };
                if lead > 0 {
                    self.padding(handled, &mut shown, offered, lead as u64);
                }
                let place = Place { start: whole.start + narrow(lead), len: whole.len - narrow(lead) };
                self.offer(handled, &mut shown, place, look.frame.end - look.frame.start - lead, look.wanted & offered, &seen);
                continue;
            }
            let range = look.frame.start..look.frame.end;
            let others = self.salvaged(handled, &mut shown, range.clone(), whole, (look.wanted, offered), &seen);
            if others != 0 {
                let pieces = salvage(&handled.draft.bytes()[range]);
                self.pieces(handled, &mut shown, pieces, whole, (look.wanted, others), &seen);
            }
        }
        for ((tally, shown), seat) in handled.tallies.iter_mut().zip(&shown).zip(&self.seats) {
            debug_assert!(matches!(seat.needles, Needles::Any(_)) || tally.read == *shown, "a branch without needles sees everything");
            let unseen = tally.read.saturating_sub(*shown);
            tally.drop("unwanted", unseen);
        }
        self.looks = looks;
    }

    /// Asks the handlers that may want a frame that is not whole what they make of it, and goes through that.
    /// Returns the branches of `offered` whose handlers leave it to others.
    fn salvaged(
        &mut self,
        handled: &mut Handled,
        shown: &mut [u64],
        range: Range<usize>,
        whole: Place,
        (wanted, offered): (u64, u64),
        seen: &Seen<'_>,
    ) -> u64 {
        let mut others = offered;
        for branch in 0..self.seats.len() {
            if (wanted & offered) >> branch & 1 == 1
                && let Some(pieces) = self.seats[branch].handler.salvage(&handled.draft.bytes()[range.clone()])
            {
                others &= !(1 << branch);
                self.pieces(handled, shown, pieces, whole, (1 << branch, 1 << branch), seen);
            }
        }
        others
    }

    /// Goes through the pieces of a frame that is not whole.
    ///
    /// - `whole`: where the frame lies; its terminator belongs to the last piece.
    /// - `wanted`, `offered`: branches that may want it, and that are to be told of it.
    fn pieces(
        &mut self,
        handled: &mut Handled,
        shown: &mut [u64],
        pieces: Vec<Piece>,
        whole: Place,
        (wanted, offered): (u64, u64),
        seen: &Seen<'_>,
    ) {
        let last = pieces.len().saturating_sub(1);
        if pieces.is_empty() {
            self.padding(handled, shown, offered, u64::from(whole.len));
        }
        for (number, piece) in pieces.into_iter().enumerate() {
            let range = piece.range();
            let end = if number == last { whole.len as usize } else { range.end };
            let place = Place { start: whole.start + narrow(range.start), len: narrow(end - range.start) };
            match piece {
                Piece::Alert(_) => self.offer(handled, shown, place, range.len(), wanted & offered, seen),
                Piece::Padding(_) => self.padding(handled, shown, offered, u64::from(place.len)),
                Piece::Broken(_, reason) => {
                    for (branch, shown) in shown.iter_mut().enumerate() {
                        *shown += if offered >> branch & 1 == 1 { u64::from(place.len) } else { 0 };
                    }
                    if offered != 0 {
                        self.refuse(handled, place, offered, Rejection { reason, detail: String::new() }, seen);
                    }
                }
            }
        }
    }

    /// Offers entries: records by themselves, that may hold newlines. What looks broken and is no JSON is left to
    /// handlers that can make something of it, and is not searched for others, since nothing else can be in it.
    fn entries(&mut self, handled: &mut Handled, at: &At, own: bool, from: &[u64]) {
        let At::Entries { origin: stream, entries, .. } = at else { return };
        let mut shown = vec![0u64; self.seats.len()];
        let mut text = String::new();
        for (number, entry) in (0..).zip(entries) {
            handled.records += 1;
            let place = Place { start: entry.start, len: entry.len };
            let offered = (0..self.seats.len()).filter(|b| from[*b] <= u64::from(entry.start)).fold(0u64, |mask, b| mask | 1 << b);
            text.clear();
            {
                use std::fmt::Write;
                let _ = match &entry.position {
                    Position::Redis { ms, .. } => write!(text, "{stream}/{ms}-"),
                    Position::Cursor(place) => write!(text, "{stream}/{place}"),
                    _ => Ok(()),
                };
            }
            let seen = Seen { at, number, text: &text, received: entry.received, own };
            let range = entry.start as usize..(entry.start + entry.len) as usize;
            let frame = &handled.draft.bytes()[range.clone()];
            let (wanted, looks_broken) = self.probe.look(frame);
            let refused = match &entry.refused {
                None if looks_broken => self.parser.alert(frame).root().err().map(|error| ("not_json", error.to_string())),
                refused => refused.clone(),
            };
            if let Some((reason, detail)) = refused {
                let offered = if entry.refused.is_some() {
                    offered
                } else {
                    self.salvaged(handled, &mut shown, range, place, (wanted, offered), &seen)
                };
                for (branch, shown) in shown.iter_mut().enumerate() {
                    *shown += if offered >> branch & 1 == 1 { u64::from(place.len) } else { 0 };
                }
                if offered != 0 {
                    self.refuse(handled, place, offered, Rejection { reason, detail }, &seen);
                }
                continue;
            }
            self.offer(handled, &mut shown, place, entry.len as usize, wanted & offered, &seen);
        }
        for (tally, shown) in handled.tallies.iter_mut().zip(&shown) {
            let unseen = tally.read.saturating_sub(*shown);
            tally.drop("unwanted", unseen);
        }
    }

    /// Emits what a spool kept. What is read are the records' bytes, as they were when they were put by.
    fn spooled(&self, handled: &mut Handled, at: &At, from: &[u64]) {
        let base = if let At::File { offset, .. } = at { *offset } else { 0 };
        handled.tallies.iter_mut().for_each(|tally| tally.read = 0);
        let all: Vec<Found> = spool::entries(handled.draft.bytes(), base).collect();
        for found in all {
            handled.records += 1;
            let (start, place) = match &found {
                Found::Message(message) => (message.from, place(&message.record)),
                Found::Damaged { from, to } => (*from, place(&(*from..*to))),
            };
            let offered = (0..self.seats.len()).filter(|b| from[*b] <= start as u64);
            offered.clone().for_each(|branch| handled.tallies[branch].read += u64::from(place.len));
            match found {
                Found::Message(message) => {
                    for branch in offered {
                        let Some(output) = self.seats[branch].routes.first().copied().flatten() else { continue };
                        let (origin, key, payload) = (message.origin.as_str(), message.key.clone(), message.payload.clone());
                        let time_ms = message.time_ms;
                        handled.draft.again(Again { output, branch: narrow(branch) as u8, place, origin, time_ms, key, payload });
                    }
                }
                Found::Damaged { .. } => {
                    let (branches, origin) = (offered.fold(0, |mask, b| mask | 1 << b), origin(at, place, 0, "").to_string());
                    handled.rejected.push(Rejected { place, origin, branches, sent: 0, reason: "spool_damaged", detail: String::new() });
                }
            }
        }
    }

    fn padding(&self, handled: &mut Handled, shown: &mut [u64], offered: u64, len: u64) {
        for (branch, shown) in shown.iter_mut().enumerate() {
            if offered >> branch & 1 == 1 {
                *shown += len;
                handled.tallies[branch].drop("padding", len);
            }
        }
    }

    fn offer(&mut self, handled: &mut Handled, shown: &mut [u64], place: Place, frame_len: usize, wanted: u64, seen: &Seen<'_>) {
        for branch in (0..self.seats.len()).filter(|branch| wanted >> branch & 1 == 1) {
            let seat = &mut self.seats[branch];
            let len = u64::from(place.len);
            let before = handled.draft.len();
            let fate = {
                let origin = origin(seen.at, place, seen.number, seen.text);
                let (bytes, mut out) = handled.draft.outbox(place, narrow(branch) as u8, &seat.routes, origin);
                let frame = &bytes[..frame_len];
                let record = Record { frame, origin, received: seen.received, own: seen.own };
                let mut alert = self.parser.alert(frame);
                seat.handler.handle(&record, &mut alert, &mut out)
            };
            match fate {
                Fate::Emitted if handled.draft.len() > before => {}
                // Everything it emitted went to outputs that nobody wired.
                Fate::Emitted => handled.tallies[branch].drop("unwired", len),
                Fate::Dropped(reason) => {
                    handled.draft.cut_back(before);
                    handled.tallies[branch].drop(reason, len);
                }
                Fate::Rejected(rejection) => {
                    handled.draft.cut_back(before);
                    let start = place.start as usize;
                    let frame = &handled.draft.bytes()[start..start + frame_len];
                    // It looked whole and was not: two records in one line, for example.
                    let pieces = if rejection.reason == "not_json" { seat.handler.salvage(frame) } else { None };
                    if let Some(pieces) = pieces.filter(|pieces| pieces.len() > 1) {
                        self.pieces(handled, shown, pieces, place, (1 << branch, 1 << branch), seen);
                        continue;
                    }
                    self.refuse(handled, place, 1 << branch, rejection, seen);
                }
            }
            shown[branch] += len;
        }
    }
}

/// How a frame was seen.
struct Seen<'a> {
    at: &'a At,
    /// Which frame of the slab it is, from 0.
    number: u32,
    /// Of an entry whose place is two numbers: its origin up to the second; of one whose place is a text: all of it.
    text: &'a str,
    received: u64,
    own: bool,
}

/// The origin of a record of a chunk: its bytes in a file, else its number, else its own place.
fn origin<'a>(at: &'a At, place: Place, number: u32, text: &'a str) -> Origin<'a> {
    match at {
        At::File { origin, offset, .. } => Origin { stream: origin, offset: offset + u64::from(place.start), len: Some(place.len) },
        At::Count { origin, first } => Origin { stream: origin, offset: first + u64::from(number), len: None },
        At::Entries { origin, entries, .. } => match entries.get(number as usize).map(|entry| &entry.position) {
            Some(Position::Redis { seq, .. }) => Origin { stream: text, offset: *seq, len: None },
            Some(Position::Cursor(_)) => Origin { stream: text, offset: Origin::WHOLE, len: None },
            Some(Position::Kafka { offset, .. }) => Origin { stream: origin, offset: offset.unsigned_abs(), len: None },
            Some(Position::Count(n)) => Origin { stream: origin, offset: *n, len: None },
            _ => Origin { stream: origin, offset: u64::from(number), len: None },
        },
    }
}

fn place(of: &std::ops::Range<usize>) -> Place {
    Place { start: narrow(of.start), len: narrow(of.len()) }
}

fn narrow(n: usize) -> u32 {
    u32::try_from(n).expect("a slab is smaller than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        handlers::ALL,
        io::Slab,
        register::{Errors, Node, Section},
    };

    fn forward() -> Desk {
        desk(&["forward"])
    }

    /// Handlers of these kinds with their defaults; output n of all is the n-th branch's first.
    fn desk(kinds: &[&str]) -> Desk {
        let branches = (0..).zip(kinds).map(|(slot, name)| {
            let kind = ALL.iter().find(|k| k.name() == *name).unwrap();
            let (node, mut errors) = (Node::parse_scalar("{}"), Errors::default());
            let spec = kind.parse(&mut Section::open("all", &node, kind.fields(), &[], &mut errors));
            (spec.build(&crate::tables::Shelf::default()), vec![Some(slot)])
        });
        Desk::new(branches.collect(), DraftPool::new(1), true)
    }

    #[test]
    fn a_handler_says_what_is_whole_of_a_broken_frame_and_the_others_are_asked_as_ever() {
        let event = r#"{"transaction":{"id":"x","anomaly_score":5}}"#;
        let spoiled = r#"{"transaction":{"request":{"http_version":{"timestamp",x,"uri":"/"},"anomaly_score":5}}"#;
        let alert = r#"{"timestamp":"t","rule":{"level":3}}"#;
        // What it is; lines of `waf`, payloads of `forward`, and what is refused: by which branches, bytes, why.
        type Refused<'a> = (u64, &'a str, &'a str);
        let cut = &event[..20];
        let (both, cut_and_whole, glued) = (format!("{event}{event}"), format!("{cut}{event}"), format!("{event}{alert}"));
        let cases: [(&str, usize, usize, &[Refused<'_>]); 6] = [
            (event, 1, 1, &[]),
            (&both, 2, 1, &[]),
            (&cut_and_whole, 1, 1, &[(1, cut, "cut")]),
            (spoiled, 1, 0, &[(2, spoiled, "cut")]),
            ("--a1b2c3d4-A--", 0, 0, &[(2, "--a1b2c3d4-A--", "not_json"), (1, "--a1b2c3d4-A--", "native_format")]),
            (&glued, 1, 1, &[(1, alert, "cut"), (2, event, "cut")]),
        ];
        for (frame, points, copies, refused) in cases {
            let at = At::File { origin: "f".into(), segment: 0, incarnation: 0, offset: 0 };
            let chunk = Chunk {
                slab: Slab::from_bytes(format!("{frame}\n").into_bytes()),
                at,
                kind: ChunkKind::Lines,
                received: 0,
                own: false,
                rung: None,
            };
            let (handled, _) = desk(&["waf", "forward"]).handle(chunk, &[0, 0]);
            let bytes = |place: &Place| {
                let text = &handled.draft.bytes()[place.start as usize..(place.start + place.len) as usize];
                String::from_utf8_lossy(text).trim_end().to_owned()
            };
            let mut told: Vec<_> = handled.rejected.iter().map(|r| (r.branches, bytes(&r.place), r.reason)).collect();
            let mut expected: Vec<_> = refused.iter().map(|(branches, text, reason)| (*branches, (*text).to_owned(), *reason)).collect();
            told.sort();
            expected.sort();
            assert_eq!(told, expected, "{frame}");
            for (branch, tally) in handled.tallies.iter().enumerate() {
                assert_eq!(tally.read, frame.len() as u64 + 1, "{frame}");
                assert!(
                    tally.dropped.iter().all(|(reason, _)| *reason != "unwanted"),
                    "branch {branch} saw all of {frame}: {:?}",
                    tally.dropped
                );
            }
            let batch = handled.draft.finish(0, crate::position::Position::Count(1), 0);
            let of = |output| batch.numbers().filter(|n| batch.message(*n).output == output).count();
            assert_eq!((of(0), of(1)), (points, copies), "{frame}");
        }
    }

    #[test]
    fn every_numbered_record_of_a_slab_has_an_origin_of_its_own() {
        let at = At::Count { origin: "stdin/1".into(), first: 40 };
        let slab = Slab::from_bytes(b"{\"a\":1}\nbroken\n{\"a\":2}\n".to_vec());
        let chunk = Chunk { slab, at, kind: ChunkKind::Lines, received: 0, own: false, rung: None };
        let (handled, _) = forward().handle(chunk, &[0]);
        assert_eq!(handled.rejected.iter().map(|r| r.origin.as_str()).collect::<Vec<_>>(), ["stdin/1/41"]);
        let batch = handled.draft.finish(0, crate::position::Position::Count(43), 0);
        let origins: Vec<_> = (0..2).map(|n| batch.message(n).headers().next().unwrap().1.to_vec()).collect();
        assert_eq!(origins, [b"stdin/1/40".to_vec(), b"stdin/1/42".to_vec()]);
    }

    fn again(chunk: &Chunk) -> Chunk {
        let Chunk { slab, at, kind, received, own, rung } = chunk;
        Chunk { slab: Slab::from_bytes(slab.bytes.clone()), at: at.clone(), kind: *kind, received: *received, own: *own, rung: *rung }
    }

    #[test]
    fn what_is_refused_is_a_message_where_an_output_for_it_is_taken() {
        use crate::sources::Entries;
        let mut entries = Entries::default();
        let place = |offset| Position::Kafka { partition: 2, offset, epoch: 0 };
        entries.push(b"{\"a\":1}", place(7), 1, None);
        entries.push(b"{\"cut\n", place(8), 1_700_000_000_123_000_000, None);
        entries.key(b"k8");
        entries.push(b"", place(9), 3, Some(("empty", "nothing in it".into())));
        let chunk = entries.into_chunk("kafka/events/2".into(), place(10), 9);
        let mut desk = desk(&["forward", "forward"]).rejecting([Some(7), None].into_iter());
        let (handled, _) = desk.handle(again(&chunk), &[0, 0]);
        // The first branch has its messages, the second owes the dead letter.
        let refused: Vec<_> = handled.rejected.iter().map(|r| (r.sent, r.branches, r.reason, r.origin.as_str())).collect();
        assert_eq!(refused, [(1, 2, "not_json", "kafka/events/2/8"), (1, 2, "empty", "kafka/events/2/9")]);
        let batch = handled.draft.finish(0, place(10), 0);
        let of = |output| batch.numbers().map(|n| batch.message(n)).filter(move |message| message.output == output);
        assert_eq!((of(0).count(), of(1).count(), of(7).count()), (1, 1, 2));
        let letter = of(7).next().unwrap();
        let headers: Vec<_> = letter
            .headers()
            .map(|(name, value)| (name, std::str::from_utf8(value).unwrap()))
            .filter(|(name, _)| *name != "shipper.detail")
            .collect();
        let expected = [
            ("shipper-origin", "kafka/events/2/8"),
            ("shipper.reason", "not_json"),
            ("shipper.topic", "events"),
            ("shipper.partition", "2"),
            ("shipper.offset", "8"),
            ("shipper.timestamp", "1700000000123"),
        ];
        assert_eq!((headers.as_slice(), letter.key, letter.payload, letter.branch), (&expected[..], Some(&b"k8"[..]), &b"{\"cut\n"[..], 0));
        assert_eq!(batch.records()[letter.record as usize].len, 0, "its bytes are counted when it is admitted");

        // Of a line the terminator stays behind.
        let at = At::File { origin: "f".into(), segment: 0, incarnation: 0, offset: 0 };
        let slab = Slab::from_bytes(b"{\"cut\n{}\n".to_vec());
        let chunk = Chunk { slab, at, kind: ChunkKind::Lines, received: 0, own: false, rung: None };
        let (handled, _) = desk.handle(chunk, &[0, 0]);
        let batch = handled.draft.finish(0, Position::Count(1), 0);
        let letters: Vec<_> = batch.numbers().map(|n| batch.message(n)).filter(|m| m.output == 7).map(|m| (m.key, m.payload)).collect();
        assert_eq!(letters, [(None, &b"{\"cut"[..])]);
    }

    #[test]
    fn an_entry_is_a_record_whatever_bytes_are_in_it() {
        use crate::sources::Entries;
        let mut entries = Entries::default();
        let redis = |ms, seq| Position::Redis { ms, seq };
        entries.push(b"{\"a\":\n1}\n", redis(1700, 0), 1, None);
        entries.push(b"--7b2d-A--\n{\"a\":1}", redis(1700, 3), 2, None);
        entries.push(b"field: {}", redis(1701, 0), 3, Some(("no_field", "no field".into())));
        entries.push(b"{}", redis(1702, 1), 4, None);
        let chunk = entries.into_chunk("redis/waf".into(), redis(1702, 1), 9);
        let all = chunk.slab.bytes.len() as u64;
        let (handled, _) = forward().handle(again(&chunk), &[0]);
        let refused: Vec<_> = handled.rejected.iter().map(|r| (r.origin.as_str(), r.reason)).collect();
        assert_eq!(refused, [("redis/waf/1700-3", "not_json"), ("redis/waf/1701-0", "no_field")]);
        assert_eq!((handled.records, handled.tallies[0].read, &handled.tallies[0].dropped), (4, all, &vec![]));
        let batch = handled.draft.finish(0, redis(1702, 1), 0);
        let told = |n| (batch.message(n).origin().to_vec(), batch.message(n).payload.to_vec());
        assert_eq!(told(0), (b"redis/waf/1700-0".to_vec(), b"{\"a\":\n1}\n".to_vec()));
        assert_eq!(told(1), (b"redis/waf/1702-1".to_vec(), b"{}".to_vec()));

        // What a branch has acked before is not offered again.
        let (handled, _) = forward().handle(chunk, &[all - 2]);
        assert_eq!((handled.rejected.len(), handled.tallies[0].read, handled.draft.len()), (0, 2, 1));
    }

    #[test]
    fn a_document_is_named_by_a_text_alone() {
        use crate::sources::Entries;
        let mut entries = Entries::default();
        let place = |text: &str| Position::Cursor(text.into());
        entries.push(b"{\"a\":1}", place("alerts/u1w"), 1, None);
        entries.push(b"", place("alerts/u%2F2"), 2, Some(("too_long", "it is".into())));
        let chunk = entries.into_chunk("opensearch".into(), place("2026-03-14T06:25:12.004Z"), 9);
        let (handled, _) = forward().handle(chunk, &[0]);
        assert_eq!(handled.rejected.iter().map(|r| r.origin.as_str()).collect::<Vec<_>>(), ["opensearch/alerts/u%2F2"]);
        let batch = handled.draft.finish(0, place(""), 0);
        assert_eq!((batch.message(0).origin(), batch.message(0).payload), (&b"opensearch/alerts/u1w"[..], &b"{\"a\":1}"[..]));
    }
}
