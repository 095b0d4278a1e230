//! Messages in order, with their origins: what handlers write and sinks take.
//!
//! One slab becomes one batch. Payloads are bytes of the batch's arena, or of its slab where a
//! frame is passed on as it was read. A batch is shared by its sinks (`Arc`) and goes back to the
//! pools of its slab and arena when the last of them lets go.
//!
//! Refuses to know who handles and who sends. Start at [`Outbox`] (writing) and
//! [`Batch::message`] (reading).

use std::{ops::Range, sync::Arc};

use crate::{
    io::Slab,
    metrics::{Counted, Figure},
    position::{Origin, Position},
    ring::Ring,
};

/// The header that says where a record's bytes lie.
pub const ORIGIN_HEADER: &str = "shipper-origin";

/// Messages of one slab, in the order of its records.
#[derive(Debug)]
pub struct Batch {
    /// Dense number within the stream, given by the ledger.
    pub seq: u64,
    /// The stream's number on its home shard.
    pub stream: u32,
    /// Everything up to here has been read.
    pub end: Option<Position>,
    /// Wall time at which the bytes were seen, nanoseconds since 1970.
    pub received: u64,
    /// Number of its first message; not 0 in what was made later of another batch's messages.
    base: u32,
    slab: Slab,
    parts: Parts,
    pool: Option<Arc<Ring<Parts>>>,
}

/// The reusable memory of a batch.
#[derive(Debug, Default)]
struct Parts {
    arena: Vec<u8>,
    messages: Vec<Meta>,
    headers: Vec<(&'static str, Span)>,
    records: Vec<Place>,
    /// Records that a branch cut at a limit of its own.
    cuts: Vec<(u8, &'static str)>,
    /// What a branch found in records, by type.
    finds: Vec<(u8, &'static str, u32)>,
    /// What a branch's handler counts of its own.
    figures: Vec<Counting>,
}

/// What one branch counted, and how many times.
#[derive(Clone, Copy, Debug)]
pub struct Counting {
    pub branch: u8,
    pub figure: &'static Figure,
    pub counted: Counted,
    pub times: u32,
}

impl Counting {
    /// True if one count can stand for both. Words are compared by their place: two that are equal and lie apart
    /// are counted in two rows, with the same sum.
    fn is_same(&self, branch: u8, figure: &'static Figure, counted: Counted) -> bool {
        let same = |a: &'static str, b: &'static str| std::ptr::eq(a.as_ptr(), b.as_ptr()) && a.len() == b.len();
        self.branch == branch
            && std::ptr::eq(self.figure, figure)
            && match (self.counted, counted) {
                (Counted::One([a, b]), Counted::One([c, d])) => same(a, c) && same(b, d),
                (Counted::Value(a), Counted::Value(b)) => a == b,
                _ => false,
            }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

/// Where a record that emitted something lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes from the start of the slab, and length with the terminator.
    pub start: u32,
    pub len: u32,
}

#[derive(Clone, Copy, Debug)]
struct Meta {
    output: u8,
    branch: u8,
    record: u32,
    key: Option<Span>,
    headers: (u32, u32),
    payload: Payload,
    time_ms: i64,
}

#[derive(Clone, Copy, Debug)]
enum Payload {
    Slab(Span),
    Arena(Span),
}

/// One message, as a sink sees it.
#[derive(Clone, Copy, Debug)]
pub struct Message<'b> {
    /// Slot of the output in the topology's list.
    pub output: u8,
    /// Branch that owes it.
    pub branch: u8,
    /// Number of its record in [`Batch::records`].
    pub record: u32,
    pub key: Option<&'b [u8]>,
    pub payload: &'b [u8],
    /// Milliseconds since 1970, for sinks whose records carry a time.
    pub time_ms: i64,
    headers: &'b [(&'static str, Span)],
    arena: &'b [u8],
}

impl<'b> Message<'b> {
    /// Header names and values, in the order written.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &'b [u8])> + use<'b> {
        let arena = self.arena;
        self.headers.iter().map(move |(name, span)| (*name, span.of(arena)))
    }
    /// Where its record lies, as the header `shipper-origin` says it; empty if it has none.
    pub fn origin(&self) -> &'b [u8] {
        self.headers().find(|(name, _)| *name == ORIGIN_HEADER).map_or(&[], |(_, value)| value)
    }
}

impl Batch {
    fn over(slab: Slab, parts: Parts, pool: Option<Arc<Ring<Parts>>>) -> Self {
        Self { seq: 0, stream: 0, end: None, received: 0, base: 0, slab, parts, pool }
    }
    /// Messages in it.
    pub fn len(&self) -> usize {
        self.parts.messages.len()
    }
    /// True if nothing was emitted.
    pub fn is_empty(&self) -> bool {
        self.parts.messages.is_empty()
    }
    /// The numbers of its messages, in order.
    pub fn numbers(&self) -> Range<u32> {
        self.base..self.base + narrow(self.len())
    }
    /// The message of this number.
    ///
    /// # Panics
    /// If there is none: numbers come from this batch.
    pub fn message(&self, n: u32) -> Message<'_> {
        let meta = &self.parts.messages[(n - self.base) as usize];
        Message {
            output: meta.output,
            branch: meta.branch,
            record: meta.record,
            key: meta.key.map(|span| span.of(&self.parts.arena)),
            payload: match meta.payload {
                Payload::Slab(span) => span.of(&self.slab.bytes),
                Payload::Arena(span) => span.of(&self.parts.arena),
            },
            time_ms: meta.time_ms,
            headers: &self.parts.headers[meta.headers.0 as usize..meta.headers.1 as usize],
            arena: &self.parts.arena,
        }
    }
    /// These messages in a batch of their own, copied, which holds no slab: for a taker that may
    /// keep them long. It has no record bytes.
    ///
    /// # Panics
    /// If there are not so many: numbers come from this batch.
    pub fn only(&self, numbers: &[u32]) -> Self {
        let mut parts = Parts::default();
        let put = |arena: &mut Vec<u8>, bytes: &[u8]| {
            let start = narrow(arena.len());
            arena.extend_from_slice(bytes);
            Span { start, end: narrow(arena.len()) }
        };
        for n in numbers {
            let message = self.message(*n);
            let first = narrow(parts.headers.len());
            for (name, value) in message.headers() {
                let span = put(&mut parts.arena, value);
                parts.headers.push((name, span));
            }
            let key = message.key.map(|key| put(&mut parts.arena, key));
            let payload = Payload::Arena(put(&mut parts.arena, message.payload));
            let headers = (first, narrow(parts.headers.len()));
            let Message { output, branch, record, time_ms, .. } = message;
            parts.messages.push(Meta { output, branch, record, key, headers, payload, time_ms });
        }
        Self {
            seq: self.seq,
            stream: self.stream,
            end: self.end.clone(),
            received: self.received,
            base: 0,
            slab: Slab::default(),
            parts,
            pool: None,
        }
    }
    /// An empty batch without bytes of its own, for messages that no slab brought.
    ///
    /// - `base`: number of its first message.
    /// - `received`: wall time.
    pub fn apart(stream: u32, base: u32, end: Position, received: u64) -> Self {
        let mut batch = Self::over(Slab::default(), Parts::default(), None);
        (batch.stream, batch.base, batch.end, batch.received) = (stream, base, Some(end), received);
        batch.parts.records.push(Place { start: 0, len: 0 });
        batch
    }
    /// Adds a message to a batch that was made [`apart`](Self::apart).
    pub fn push(&mut self, message: Apart<'_>) {
        let headers = narrow(self.parts.headers.len());
        let origin = self.put(message.origin);
        self.parts.headers.push((ORIGIN_HEADER, origin));
        let key = message.key.map(|key| self.put(key));
        let payload = Payload::Arena(self.put(message.payload));
        let Apart { output, branch, time_ms, .. } = message;
        self.parts.messages.push(Meta { output, branch, record: 0, key, headers: (headers, headers + 1), payload, time_ms });
    }
    /// Adds message `n` once more, for another output; nothing is copied.
    pub fn pass_on(&mut self, n: u32, output: u8) {
        let meta = self.parts.messages[(n - self.base) as usize];
        self.parts.messages.push(Meta { output, ..meta });
    }
    /// Adds a message for the record of message `n`, with its headers and time.
    ///
    /// - `key`: `None` keeps the key of message `n`.
    pub fn derive(&mut self, n: u32, output: u8, key: Option<&[u8]>, payload: &[u8]) {
        let meta = self.parts.messages[(n - self.base) as usize];
        let key = key.map_or(meta.key, |key| Some(self.put(key)));
        let payload = Payload::Arena(self.put(payload));
        self.parts.messages.push(Meta { output, key, payload, ..meta });
    }

    fn put(&mut self, bytes: &[u8]) -> Span {
        let start = narrow(self.parts.arena.len());
        self.parts.arena.extend_from_slice(bytes);
        Span { start, end: narrow(self.parts.arena.len()) }
    }

    /// Bytes of memory that it takes, about.
    pub fn memory(&self) -> usize {
        self.slab.bytes.len() + self.parts.arena.len() + self.parts.messages.len() * size_of::<Meta>()
    }
    /// Records that emitted something, in order.
    pub fn records(&self) -> &[Place] {
        &self.parts.records
    }
    /// A record's bytes as they were read, with the terminator.
    pub fn record_bytes(&self, n: u32) -> &[u8] {
        let place = self.parts.records[n as usize];
        &self.slab.bytes[place.start as usize..(place.start + place.len) as usize]
    }
    /// The bytes that were read.
    pub fn slab(&self) -> &Slab {
        &self.slab
    }
}

/// A message for a batch that was made [`apart`](Batch::apart).
#[derive(Clone, Copy, Debug)]
pub struct Apart<'m> {
    /// Slot of the output in the topology's list.
    pub output: u8,
    /// Branch that owes it.
    pub branch: u8,
    /// Where its record lies, as the header `shipper-origin` says it.
    pub origin: &'m [u8],
    pub key: Option<&'m [u8]>,
    pub payload: &'m [u8],
    /// Milliseconds since 1970, for sinks whose records carry a time.
    pub time_ms: i64,
}

/// A message that was emitted before, for [`Draft::again`].
#[derive(Clone, Debug)]
pub struct Again<'a> {
    /// Slot of the output in the topology's list.
    pub output: u8,
    pub branch: u8,
    /// Where its record lies in the slab.
    pub place: Place,
    /// As the header `shipper-origin` said it.
    pub origin: &'a str,
    pub time_ms: i64,
    /// Where they lie in the slab.
    pub key: Option<Range<usize>>,
    pub payload: Range<usize>,
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            let mut parts = std::mem::take(&mut self.parts);
            parts.arena.clear();
            parts.messages.clear();
            parts.headers.clear();
            parts.records.clear();
            parts.cuts.clear();
            parts.finds.clear();
            parts.figures.clear();
            let _ = pool.push(parts);
        }
    }
}

/// A batch being written by handlers.
#[derive(Debug)]
pub struct Draft {
    batch: Batch,
}

/// Where drafts take their memory from and batches return it to.
#[derive(Clone, Debug)]
pub struct DraftPool(Arc<Ring<Parts>>);

impl DraftPool {
    /// Keeps the memory of up to `slots` batches.
    pub fn new(slots: usize) -> Self {
        Self(Arc::new(Ring::new(slots)))
    }
    /// A draft over `slab`.
    pub fn draft(&self, slab: Slab) -> Draft {
        let parts = self.0.pop().unwrap_or_default();
        Draft { batch: Batch::over(slab, parts, Some(self.0.clone())) }
    }
}

impl Draft {
    /// A draft without a pool, for one-off records and tests.
    pub fn new(slab: Slab) -> Self {
        Self { batch: Batch::over(slab, Parts::default(), None) }
    }
    /// The bytes that were read.
    pub fn bytes(&self) -> &[u8] {
        &self.batch.slab.bytes
    }
    /// Splits into the bytes that are read and the outbox that is written, for one record of one
    /// handler.
    ///
    /// - `place`: where the record lies in the slab.
    /// - `branch`: which branch will owe the messages.
    /// - `routes`: for each of the handler's outputs its slot in the topology, `None` if unwired.
    pub fn outbox<'d>(&'d mut self, place: Place, branch: u8, routes: &'d [Option<u8>], origin: Origin<'d>) -> (&'d [u8], Outbox<'d>) {
        let Batch { slab, parts, .. } = &mut self.batch;
        let bytes = &slab.bytes[place.start as usize..(place.start + place.len) as usize];
        (bytes, Outbox { parts, place, branch, routes, origin })
    }
    /// Writes a message that was emitted before: its key and payload lie in the slab.
    ///
    pub fn again(&mut self, again: Again<'_>) {
        let Again { output, branch, place, origin, time_ms, key, payload } = again;
        let Batch { slab, parts, .. } = &mut self.batch;
        let put = |arena: &mut Vec<u8>, bytes: &[u8]| {
            let start = narrow(arena.len());
            arena.extend_from_slice(bytes);
            Span { start, end: narrow(arena.len()) }
        };
        let first = narrow(parts.headers.len());
        let origin = put(&mut parts.arena, origin.as_bytes());
        parts.headers.push((ORIGIN_HEADER, origin));
        let key = key.map(|key| put(&mut parts.arena, &slab.bytes[key]));
        let payload = Payload::Slab(Span { start: narrow(payload.start), end: narrow(payload.end) });
        parts.records.push(place);
        let record = narrow(parts.records.len() - 1);
        parts.messages.push(Meta { output, branch, record, key, headers: (first, first + 1), payload, time_ms });
    }
    /// Messages written so far.
    pub fn len(&self) -> usize {
        self.batch.len()
    }
    /// True if nothing was emitted so far.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }
    /// Branch and limit of every record that a handler cut ([`Outbox::cut`]).
    pub fn cuts(&self) -> &[(u8, &'static str)] {
        &self.batch.parts.cuts
    }
    /// Branch, type and number of what handlers found ([`Outbox::found`]).
    pub fn finds(&self) -> &[(u8, &'static str, u32)] {
        &self.batch.parts.finds
    }
    /// What handlers counted of their own ([`Outbox::count`]).
    pub fn figures(&self) -> &[Counting] {
        &self.batch.parts.figures
    }
    /// Forgets what was written after the first `messages` (a handler that emitted and then refused).
    pub fn cut_back(&mut self, messages: usize) {
        self.batch.parts.messages.truncate(messages);
    }
    /// Ends the writing.
    pub fn finish(self, stream: u32, end: Position, received: u64) -> Batch {
        let mut batch = self.batch;
        batch.stream = stream;
        batch.end = Some(end);
        batch.received = received;
        batch
    }
}

/// Where a handler puts its messages for one record.
///
/// ```text
/// if out.wants(CONFIRM) {
///     out.message(CONFIRM).payload(|w| w.extend_from_slice(b"1:dfn:{}"));
/// }
/// ```
#[derive(Debug)]
pub struct Outbox<'d> {
    parts: &'d mut Parts,
    place: Place,
    branch: u8,
    routes: &'d [Option<u8>],
    origin: Origin<'d>,
}

impl<'d> Outbox<'d> {
    /// True if the output is wired; what nobody takes need not be built.
    pub fn wants(&self, output: usize) -> bool {
        self.routes.get(output).copied().flatten().is_some()
    }

    /// Notes that a limit of the handler kept it from telling all of the record; counted by its name.
    pub fn cut(&mut self, limit: &'static str) {
        self.parts.cuts.push((self.branch, limit));
    }

    /// Counts the record in a figure of the handler's own.
    pub fn count(&mut self, figure: &'static Figure, counted: Counted) {
        let branch = self.branch;
        match self.parts.figures.iter_mut().find(|counting| counting.is_same(branch, figure, counted)) {
            Some(counting) => counting.times = counting.times.saturating_add(1),
            None => self.parts.figures.push(Counting { branch, figure, counted, times: 1 }),
        }
    }

    /// Notes that the record holds `count` things of this type; counted by it.
    pub fn found(&mut self, kind: &'static str, count: u32) {
        match self.parts.finds.iter_mut().find(|(branch, known, _)| (*branch, *known) == (self.branch, kind)) {
            Some((_, _, sum)) => *sum = sum.saturating_add(count),
            None => self.parts.finds.push((self.branch, kind, count)),
        }
    }

    /// Begins a message on one of the handler's outputs (its index in `Handler::outputs`).
    ///
    /// The header `shipper-origin` is written first. On an unwired output the message is built
    /// and forgotten.
    pub fn message(&mut self, output: usize) -> Writing<'_, 'd> {
        let slot = self.routes.get(output).copied().flatten();
        let headers = self.parts.headers.len();
        let mut writing = Writing { out: self, slot, key: None, headers, time_ms: 0 };
        writing.origin();
        writing
    }
}

/// A message being written.
#[must_use = "a message is emitted by `payload` or `frame`"]
#[derive(Debug)]
pub struct Writing<'o, 'd> {
    out: &'o mut Outbox<'d>,
    slot: Option<u8>,
    key: Option<Span>,
    headers: usize,
    time_ms: i64,
}

impl Writing<'_, '_> {
    fn origin(&mut self) {
        use std::io::Write;
        let origin = self.out.origin;
        let start = self.out.parts.arena.len();
        let _ = write!(self.out.parts.arena, "{origin}");
        let span = self.span_from(start);
        self.out.parts.headers.push((ORIGIN_HEADER, span));
    }

    /// The message's key.
    pub fn key(mut self, key: &[u8]) -> Self {
        self.key = Some(self.put(key));
        self
    }
    /// One more header; the name is ours, never an alert's.
    pub fn header(mut self, name: &'static str, value: &[u8]) -> Self {
        let span = self.put(value);
        self.out.parts.headers.push((name, span));
        self
    }
    /// Milliseconds since 1970, for sinks whose records carry a time.
    pub fn time_ms(mut self, time_ms: i64) -> Self {
        self.time_ms = time_ms;
        self
    }
    /// Emits with the payload that `write` appends to the arena.
    ///
    /// `write` must only append: bytes before are other messages'.
    pub fn payload(self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.parts.arena.len();
        write(&mut self.out.parts.arena);
        let span = self.span_from(start);
        self.emit(Payload::Arena(span));
    }
    /// Emits with the record's own bytes, without its terminator and without a copy.
    pub fn frame(self, frame: Range<usize>) {
        let start = self.out.place.start;
        let span = Span { start: start + narrow(frame.start), end: start + narrow(frame.end) };
        self.emit(Payload::Slab(span));
    }

    fn put(&mut self, bytes: &[u8]) -> Span {
        let start = self.out.parts.arena.len();
        self.out.parts.arena.extend_from_slice(bytes);
        self.span_from(start)
    }

    fn span_from(&self, start: usize) -> Span {
        Span { start: narrow(start), end: narrow(self.out.parts.arena.len()) }
    }

    fn emit(self, payload: Payload) {
        let parts = &mut *self.out.parts;
        let Some(output) = self.slot else {
            parts.headers.truncate(self.headers);
            return;
        };
        if parts.records.last() != Some(&self.out.place) {
            parts.records.push(self.out.place);
        }
        parts.messages.push(Meta {
            output,
            branch: self.out.branch,
            record: narrow(parts.records.len() - 1),
            key: self.key,
            headers: (narrow(self.headers), narrow(parts.headers.len())),
            payload,
            time_ms: self.time_ms,
        });
    }
}

/// Lengths inside one batch fit 32 bits: a slab is at most a few MiB, and a handler that writes
/// 4 GiB for one slab is our own mistake.
fn narrow(n: usize) -> u32 {
    u32::try_from(n).expect("a batch holds less than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin<'static> {
        Origin { stream: "m/alerts/2026-03-14/000", offset: 7, len: Some(4) }
    }

    #[test]
    fn what_is_written_is_what_a_sink_reads() {
        let mut draft = Draft::new(Slab::from_bytes(b"one\ntwo\n".to_vec()));
        let place = Place { start: 4, len: 4 };
        let (frame, mut out) = draft.outbox(place, 3, &[Some(9), None], origin());
        assert_eq!(frame, b"two\n");
        out.message(0).key(b"k").header("h", b"v").time_ms(5).payload(|w| w.extend_from_slice(b"made"));
        assert!(!out.wants(1));
        out.message(1).payload(|w| w.extend_from_slice(b"nobody takes this"));
        out.message(0).frame(0..3);
        let batch = draft.finish(1, Position::Count(2), 11);
        assert_eq!(batch.len(), 2);
        let first = batch.message(0);
        assert_eq!((first.output, first.branch, first.key, first.payload, first.time_ms), (9, 3, Some(&b"k"[..]), &b"made"[..], 5));
        let headers: Vec<_> = first.headers().collect();
        assert_eq!(headers, [("shipper-origin", &b"m/alerts/2026-03-14/000/7+4"[..]), ("h", b"v")]);
        assert_eq!(batch.message(1).payload, b"two");
        assert_eq!(batch.record_bytes(batch.message(1).record), b"two\n");
        assert_eq!(batch.records(), [place]);

        let apart = batch.only(&[1, 0]);
        assert_eq!((apart.len(), apart.stream, apart.received, apart.slab().bytes.len()), (2, 1, 11, 0));
        for (copy, of) in [(0, 1), (1, 0)] {
            let (copy, of) = (apart.message(copy), batch.message(of));
            assert_eq!((copy.output, copy.branch, copy.key, copy.payload), (of.output, of.branch, of.key, of.payload));
            assert_eq!((copy.time_ms, copy.headers().collect::<Vec<_>>()), (of.time_ms, of.headers().collect()));
        }
    }

    #[test]
    fn what_is_made_of_a_message_keeps_its_record_and_its_origin() {
        let mut draft = Draft::new(Slab::from_bytes(b"one\n".to_vec()));
        draft.outbox(Place { start: 0, len: 4 }, 3, &[Some(9)], origin()).1.message(0).key(b"k").time_ms(5).frame(0..3);
        let mut batch = draft.finish(1, Position::Count(2), 11);
        batch.pass_on(0, 4);
        batch.derive(0, 5, None, b"two");
        batch.derive(1, 6, Some(b"l"), b"three");
        let rows: Vec<_> = batch.numbers().map(|n| batch.message(n)).map(|m| (m.output, m.branch, m.record, m.key, m.payload)).collect();
        let (k, l) = (Some(&b"k"[..]), Some(&b"l"[..]));
        assert_eq!(rows, [(9, 3, 0, k, &b"one"[..]), (4, 3, 0, k, b"one"), (5, 3, 0, k, b"two"), (6, 3, 0, l, b"three")]);
        for n in batch.numbers() {
            assert_eq!((batch.message(n).origin(), batch.message(n).time_ms), (&b"m/alerts/2026-03-14/000/7+4"[..], 5));
        }

        let mut apart = Batch::apart(1, 4, Position::Count(2), 12);
        apart.push(Apart { output: 7, branch: 3, origin: b"o/1", key: None, payload: b"late", time_ms: 0 });
        apart.pass_on(4, 8);
        assert_eq!(apart.numbers(), 4..6);
        for (n, output) in [(4, 7), (5, 8)] {
            let message = apart.message(n);
            assert_eq!((message.output, message.payload, message.origin()), (output, &b"late"[..], &b"o/1"[..]));
            assert_eq!(apart.record_bytes(message.record), b"");
        }
        assert_eq!(apart.only(&[5]).numbers(), 0..1);
    }

    #[test]
    fn a_batch_gives_its_memory_back() {
        let pool = DraftPool::new(2);
        let mut draft = pool.draft(Slab::from_bytes(b"x\n".to_vec()));
        draft.outbox(Place { start: 0, len: 2 }, 0, &[Some(0)], origin()).1.message(0).frame(0..1);
        drop(draft.finish(0, Position::Count(1), 0));
        let again = pool.draft(Slab::default());
        assert!(again.is_empty());
        assert!(again.batch.parts.arena.capacity() > 0, "the arena came back");
    }
}
