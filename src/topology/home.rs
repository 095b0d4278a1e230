//! The home of a source's streams: credits, ledger, what is in flight, the accounting.
//!
//! One home for each source, on one shard. It is the only place where a source waits and the
//! only one that decides what is acked. Sinks and the store answer through [`Answers`], from any
//! thread; the home applies the answers in [`SourceHome::settle_all`].
//!
//! Invariants: a message is settled once by each required sink; a record's bytes are counted once
//! for each branch; nothing reaches a watermark before its dead letter is durable.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use super::{
    aides::{Aides, Errand},
    flight::{Account, Closed, End, Flight, Route, Taker},
    handle::{Desk, Handled, Ready, Rejected},
    order::Order,
    rows::{Rows, rfc3339},
    staged::{Mark, Stages},
    stream::{Leaves, Stream},
};
use crate::{
    batch::{Batch, Counting},
    checkpoint::Row,
    clock::Nanos,
    dead_letter::{Entry, Header, Kind},
    io::Executor,
    limits,
    metrics::{BranchCounts, Count, Distribution, LookupCounts, SourceCounts},
    parcel::{Acks, Child, Home, Inbox, Parcel, Pick, Settle, Settled},
    position::Position,
    ring::{Returns, Signal},
    sources::{At, Chunk},
    stages::Now,
    store::{Asked, StoreHandle},
};

/// What comes back to a home.
pub enum Answer {
    /// From a sink or a lookup.
    Sink(u8, Settle),
    /// What a lookup made of a message.
    Child(u8, Child),
    /// A dead letter is durable: of a batch, for these branches (bit n: branch n), one each.
    Kept { stream: u32, seq: u64, branches: u64, message: Option<u32> },
    /// A snapshot is saved that was taken when the streams were as far as this.
    Remembered(Vec<Mark>),
    /// From another shard: the slab of this ticket, handled.
    Handled(u64, Box<Ready>),
}

/// The way home, from any thread.
pub struct Answers(Returns<Answer>);

impl Answers {
    /// No answers yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Returns::new()))
    }

    pub(super) fn remembered(&self, marks: Vec<Mark>) {
        self.0.push(Answer::Remembered(marks));
    }
}

impl Home for Answers {
    fn settle(&self, sink: u8, settle: Settle) {
        self.0.push(Answer::Sink(sink, settle));
    }
    fn child(&self, lookup: u8, child: Child) {
        self.0.push(Answer::Child(lookup, child));
    }
}

/// A sink or a lookup as a home sees it.
#[derive(Clone)]
pub struct SinkEnd {
    pub slot: u8,
    pub name: String,
    pub inbox: Arc<Inbox>,
    pub required: bool,
    /// Outputs that it takes.
    pub outputs: u64,
    /// Messages that a sink which is not required lost to its full inbox.
    pub shed: Count,
    /// Of a lookup.
    pub lookup: Option<LookupCounts>,
}

/// An output as a home sees it.
#[derive(Clone, Debug)]
pub struct OutputEnd {
    pub name: String,
    /// Slot of the output that must be delivered first.
    pub after: Option<u8>,
    /// True if an output comes after it, or after what it is made of.
    pub first: bool,
}

/// A branch as a home sees it.
pub struct BranchEnd {
    pub name: String,
    pub counts: BranchCounts,
    /// Seconds from a record's own time to its delivery, where the handler tells them.
    pub from_event: Option<Distribution>,
    /// The same from its receipt.
    pub from_receipt: Option<Distribution>,
}

impl BranchEnd {
    /// A record was delivered.
    ///
    /// - `now`, `received`: wall time.
    /// - `time_ms`: the record's own; 0 is none.
    fn took(&self, now: Nanos, received: Nanos, time_ms: i64) {
        if let Some(seconds) = self.from_event.as_ref().filter(|_| time_ms > 0) {
            // A clock ahead of ours is no time travel.
            let since = u64::try_from(time_ms).unwrap_or(0).saturating_mul(1_000_000);
            seconds.observe(now.saturating_sub(since) as f64 / 1e9);
        }
        if let Some(seconds) = &self.from_receipt {
            seconds.observe(now.saturating_sub(received) as f64 / 1e9);
        }
    }
}

/// Everything a home is built from.
pub struct Setup {
    /// The agent's name.
    pub instance: String,
    pub source: String,
    pub kind: String,
    pub desk: Desk,
    pub branches: Vec<BranchEnd>,
    pub outputs: Vec<OutputEnd>,
    pub stages: Stages,
    /// And lookups.
    pub sinks: Vec<SinkEnd>,
    /// See [`SourcePlan::gathers`](super::plan::SourcePlan::gathers).
    pub gathers: Duration,
    pub store: Option<StoreHandle>,
    /// Of what is refused the bytes are not kept.
    pub masks_letters: bool,
    pub rows: Rows,
    pub counts: SourceCounts,
    pub answers: Arc<Answers>,
    pub closed: Arc<Signal>,
    /// The other shards, and the numbers of this source and of its shard among them.
    pub aides: Option<(Aides, usize, usize)>,
}

/// Parcels in order, each with the taker's slot and inbox.
type Backlog = VecDeque<(u8, Arc<Inbox>, Parcel)>;

/// The home of one source.
pub struct SourceHome {
    pub(super) on: Rc<dyn Executor>,
    pub(super) setup: RefCell<Setup>,
    pub(super) answers: Arc<Answers>,
    /// For each output what its messages owe.
    pub(super) routes: Vec<Route>,
    pub(super) streams: RefCell<Vec<Stream>>,
    /// Streams opened so far.
    pub(super) born: Cell<u64>,
    pub(super) order: RefCell<Order<Ready>>,
    pub(super) stages: RefCell<Stages>,
    has_stages: bool,
    /// Mask of the branches that feed a stage which holds the source.
    pub(super) held: u64,
    /// Raised when a snapshot of such a stage is saved.
    pub(super) kept: Signal,
    /// Raised when stages should be looked at again.
    pub(super) staged: Signal,
    /// When the stages are looked at next without that, monotonic nanoseconds.
    pub(super) looks_at: Cell<Option<u64>>,
    /// Parcels that an inbox had no room for.
    backlog: Rc<RefCell<Backlog>>,
    /// Bytes that the source said it is behind.
    pub(super) behind: Cell<u64>,
    /// Raised when credits came back.
    pub(super) credit: Signal,
    pub(super) closed: Cell<bool>,
    /// True once the source has ended and nothing more is owed.
    drained: Cell<bool>,
    /// Raised when chunks were settled, and at the end.
    pub(super) settles: Signal,
    /// Nothing more will be settled.
    pub(super) is_over: Cell<bool>,
    /// Raised when the source says that it hands in no more.
    pub(super) last: Signal,
    /// Raised when answers were applied: what a drain waits for.
    idle: Signal,
    /// Raised when a row may have changed.
    changed: Signal,
}

impl SourceHome {
    /// A home without streams.
    pub fn new(on: Rc<dyn Executor>, mut setup: Setup) -> Rc<Self> {
        let answers = setup.answers.clone();
        let stages = std::mem::take(&mut setup.stages);
        // Where nothing is saved, nothing can run ahead of it.
        let held = if setup.store.is_some() { stages.held() } else { 0 };
        let route = |slot: usize, output: &OutputEnd| {
            let takers = setup.sinks.iter().filter(|s| s.required && s.outputs >> slot & 1 == 1);
            Route { required: narrow(takers.count()), first: output.first, held: output.after.is_some() }
        };
        let routes = setup.outputs.iter().enumerate().map(|(slot, output)| route(slot, output)).collect();
        Rc::new(Self {
            on,
            setup: RefCell::new(setup),
            answers,
            routes,
            streams: RefCell::default(),
            born: Cell::new(0),
            order: RefCell::default(),
            has_stages: !stages.is_empty(),
            held,
            kept: Signal::default(),
            stages: RefCell::new(stages),
            staged: Signal::default(),
            looks_at: Cell::new(None),
            backlog: Rc::default(),
            behind: Cell::new(0),
            credit: Signal::default(),
            closed: Cell::new(false),
            drained: Cell::new(false),
            settles: Signal::default(),
            is_over: Cell::new(false),
            last: Signal::default(),
            idle: Signal::default(),
            changed: Signal::default(),
        })
    }

    /// True if the source feeds a stage.
    pub fn has_stages(&self) -> bool {
        self.has_stages
    }

    /// Stops admission: sources end.
    pub fn close(&self) {
        self.closed.set(true);
        self.setup.borrow().closed.raise();
        self.credit.raise();
        self.staged.raise();
    }

    /// Batches that something is owed for.
    pub fn in_flight(&self) -> usize {
        self.streams.borrow().iter().map(|s| s.ledger.batches()).sum()
    }

    /// Applies answers as they come; runs beside the source until the thread ends.
    pub async fn serve(self: Rc<Self>) {
        loop {
            self.settle_all();
            self.answers.0.changed().await;
        }
    }

    /// Waits until nothing is owed.
    pub async fn drained(&self) {
        while self.in_flight() > 0 || self.order.borrow().len() > 0 {
            self.idle.wait().await;
        }
    }

    /// Waits until nothing is owed, or no answer has come for a while: for what is kept on disk anyway.
    pub async fn rests(&self) {
        let owed = || self.streams.borrow().iter().flat_map(|s| &s.in_flight).map(|flight| u64::from(flight.account.open)).sum::<u64>();
        loop {
            let before = owed();
            tokio::select! {
                biased;
                () = self.drained() => return,
                () = self.on.sleep(Duration::from_millis(limits::KEPT_REST_MS)) => {}
            }
            if owed() == before {
                return;
            }
        }
    }

    /// Tells the saver how far the streams are, some times a second and only when they move.
    pub async fn publish_now_and_then(self: Rc<Self>) {
        loop {
            let due = if self.has_stages { self.stages.borrow().snapshot_due() } else { None };
            match due.map(|due| due.saturating_sub(self.on.clock().mono())) {
                None => self.changed.wait().await,
                Some(left) => tokio::select! {
                    biased;
                    () = self.changed.wait() => {}
                    () = self.on.sleep(Duration::from_nanos(left)) => {}
                },
            }
            self.publish();
            self.on.sleep(Duration::from_millis(limits::CHECKPOINT_EVERY_MS / 4)).await;
        }
    }

    /// Applies every answer that has come.
    pub fn settle_all(&self) {
        let mut any = false;
        while let Some(answer) = self.answers.0.try_pop() {
            any = true;
            match answer {
                Answer::Sink(sink, settle) => self.settle(sink, settle),
                Answer::Child(lookup, child) => self.child(lookup, child),
                Answer::Kept { stream, seq, branches, message } => self.kept(stream, seq, branches, message),
                Answer::Remembered(marks) => self.remembered(marks),
                Answer::Handled(ticket, ready) => self.take_back(ticket, *ready),
            }
        }
        if any {
            self.changed.raise();
            self.credit.raise();
            self.idle.raise();
            if self.has_stages && self.looks_at.get().is_none() {
                self.staged.raise();
            }
        }
    }

    /// True if the credits have room for so many bytes and one more batch.
    ///
    /// All streams of the source count: the sinks' inboxes have room for one source's credits.
    pub(super) fn has_credit(&self, wanted: u64) -> bool {
        let (bytes, batches) = self.charged();
        batches < limits::CREDIT_BATCHES && (bytes == 0 || bytes + wanted <= limits::CREDIT_BYTES)
    }

    /// Bytes and batches that take credits.
    pub(super) fn charged(&self) -> (u64, usize) {
        let (streams, order) = (self.streams.borrow(), self.order.borrow());
        let out = (order.bytes(), order.len());
        streams.iter().fold(out, |(bytes, batches), s| (bytes + s.ledger.bytes(), batches + s.in_flight.len()))
    }

    /// The present, as stages are told it.
    pub(super) fn now(&self) -> Now {
        let clock = self.on.clock();
        Now { mono: clock.mono(), wall: clock.now() }
    }

    /// Gives a slab to an idle shard while the source lags; what nobody takes comes back.
    pub(super) fn give_away(&self, ticket: u64, chunk: Chunk, from: Vec<u64>) -> Option<(Chunk, Vec<u64>)> {
        let setup = self.setup.borrow();
        let Some((aides, source, shard)) = setup.aides.as_ref().filter(|_| self.behind.get() >= limits::ERRAND_LAG_BYTES) else {
            return Some((chunk, from));
        };
        let answers = self.answers.clone();
        let reply = Box::new(move |ready| answers.0.push(Answer::Handled(ticket, Box::new(ready))));
        let errand = Errand { source: *source, chunk, from, reply };
        match aides.give(*shard, Box::new(errand)) {
            Ok(()) => {
                setup.counts.helped.inc();
                None
            }
            Err(errand) => Some((errand.chunk, errand.from)),
        }
    }

    /// A slab is handled: it is admitted once all before it are.
    pub(super) fn take_back(&self, ticket: u64, ready: Ready) {
        self.order.borrow_mut().put(ticket, ready);
        loop {
            let Some((stream, ready)) = self.order.borrow_mut().pop() else { break };
            let Ready { handled, at, received, rung } = ready;
            self.admit(stream, handled, at, received, rung);
        }
        self.changed.raise();
        self.idle.raise();
    }

    fn settle(&self, sink: u8, settle: Settle) {
        let end = |s: &SinkEnd| (s.required, s.lookup.as_ref().map_or(Taker::Sink, |_| Taker::Lookup));
        let (required, by) = self.setup.borrow().sinks.iter().find(|s| s.slot == sink).map_or((false, Taker::Sink), end);
        if by == Taker::Lookup {
            self.count_settled(sink, &settle.messages);
        }
        match settle.messages {
            Settled::One(n) if required => self.delivered(by, settle.stream, settle.seq, &[n]),
            Settled::Delivered(numbers) if required => self.delivered(by, settle.stream, settle.seq, &numbers),
            Settled::PutBy(numbers) if required => self.delivered(Taker::Spool, settle.stream, settle.seq, &numbers),
            Settled::Refused(n, reason) => self.refused(sink, required, settle.stream, settle.seq, n, &reason),
            Settled::One(_) | Settled::Delivered(_) | Settled::PutBy(_) => {}
        }
    }

    fn delivered(&self, by: Taker, stream: u32, seq: u64, numbers: &[u32]) {
        let setup = self.setup.borrow();
        let mut streams = self.streams.borrow_mut();
        let stream = &mut streams[stream as usize];
        let mut release = Vec::new();
        let mut settled = vec![0u32; setup.branches.len()];
        let flight = stream.flight(seq);
        let now = self.on.clock().now();
        for n in numbers {
            let message = flight.message(*n);
            let (branch, route, time_ms) = (usize::from(message.branch), self.routes[usize::from(message.output)], message.time_ms);
            if let Some(closed) = flight.account.delivered(*n, route, by, &mut release) {
                count(closed, &setup.branches);
                if flight.is_of_source && closed.end == End::Shipped {
                    setup.branches[branch].took(now, flight.batch.received, time_ms);
                }
            }
            settled[branch] += 1;
        }
        let (whole, received) = (flight.account.open == 0, flight.batch.received);
        for (branch, n) in settled.into_iter().enumerate().filter(|(_, n)| *n > 0) {
            let counts = &setup.branches[branch].counts;
            counts.delivered.inc_by(u64::from(n));
            if whole {
                counts.latency.observe(now.saturating_sub(received) as f64 / 1e9);
            }
            stream.ledger.settle(seq, branch, n);
        }
        let batch = stream.flight(seq).batch.clone();
        stream.dirty = true;
        let moved = stream.trim();
        self.tell(&setup, &streams, moved);
        drop(streams);
        if !release.is_empty() {
            self.hand_out(&setup, &batch, Some(&release));
        }
    }

    fn refused(&self, sink: u8, required: bool, stream: u32, seq: u64, n: u32, reason: &str) {
        let setup = self.setup.borrow();
        let mut streams = self.streams.borrow_mut();
        let flight = if required { Some(streams[stream as usize].flight(seq)) } else { None };
        // A sink that is not required took the message over: its batch may be long settled.
        let Some(flight) = flight else {
            if let Some(end) = setup.sinks.iter().find(|s| s.slot == sink) {
                end.shed.inc();
                tracing::error!(sink = end.name, reason, "message refused; it is lost, since the sink is not required");
            }
            return;
        };
        flight.account.refused(n);
        let message = flight.message(n);
        let entry = Entry {
            header: Header {
                kind: Kind::Message,
                origin: String::from_utf8_lossy(message.origin()).into_owned(),
                branch: setup.branches[usize::from(message.branch)].name.clone(),
                output: setup.outputs.get(usize::from(message.output)).map(|o| o.name.clone()),
                sink: setup.sinks.iter().find(|s| s.slot == sink).map(|s| s.name.clone()),
                key: message.key.map(|key| String::from_utf8_lossy(key).into_owned()),
                reason: "refused".into(),
                detail: reason.into(),
                time: rfc3339(self.on.clock().now()),
            },
            bytes: message.payload.to_vec(),
        };
        tracing::error!(sink = entry.header.sink, origin = entry.header.origin, reason, "message refused; it is in the dead letter");
        let answer = Answer::Kept { stream, seq, branches: 1 << message.branch, message: Some(n) };
        self.bury(&setup, entry, answer);
    }

    /// A dead letter is durable: what it owed is settled.
    fn kept(&self, stream: u32, seq: u64, branches: u64, message: Option<u32>) {
        let setup = self.setup.borrow();
        let mut streams = self.streams.borrow_mut();
        let stream = &mut streams[stream as usize];
        let flight = stream.flight(seq);
        let mut settled = Vec::new();
        match message {
            None => {
                for branch in 0..setup.branches.len() {
                    if branches >> branch & 1 == 1 {
                        flight.account.open -= 1;
                        settled.push((branch, 1));
                    }
                }
            }
            Some(n) => {
                let branch = usize::from(flight.message(n).branch);
                // What comes after another output is a handler's own: it lies in the batch itself.
                let (output, batch) = (flight.message(n).output, flight.batch.clone());
                let output_of = |of: u32| if of == n { output } else { batch.message(of).output };
                let (owed, closed) = flight.account.buried(n, &self.routes, output_of);
                if let Some(closed) = closed {
                    count(closed, &setup.branches);
                }
                settled.push((branch, owed));
            }
        }
        for (branch, n) in settled {
            stream.ledger.settle(seq, branch, n);
        }
        stream.dirty = true;
        let moved = stream.trim();
        self.tell(&setup, &streams, moved);
    }

    /// Tells how much is owed, for the lag and for who looks for a standstill.
    pub(super) fn tell(&self, setup: &Setup, streams: &[Stream], moved: bool) {
        if moved {
            self.settles.raise();
        }
        let unacked = streams.iter().map(|s| s.unacked).sum();
        let oldest = streams.iter().filter_map(|s| s.in_flight.front()).map(|flight| flight.batch.received).min();
        setup.counts.progress.unacked(unacked, oldest, moved, self.on.clock().mono());
    }

    /// Hands an entry to the store; its answer comes home when it is durable.
    fn bury(&self, setup: &Setup, entry: Entry, answer: Answer) {
        let answers = self.answers.clone();
        let Some(store) = setup.store.clone() else {
            // Without a store (`demo` on blackholes, benches) nothing outlives the process anyway.
            answers.0.push(answer);
            return;
        };
        let entry = if setup.masks_letters { entry.masked() } else { entry };
        let mut asked = Asked::dead_letter(entry, Box::new(move |_| answers.0.push(answer)));
        match store.ask(asked) {
            Ok(()) => {}
            Err(back) => {
                asked = back;
                let on = self.on.clone();
                self.on.spawn(
                    "dead letter",
                    Box::pin(async move {
                        loop {
                            on.sleep(Duration::from_millis(limits::GROUP_COMMIT_MS)).await;
                            match store.ask(asked) {
                                Ok(()) => return,
                                Err(back) => asked = back,
                            }
                        }
                    }),
                );
            }
        }
    }

    /// Gives the messages to their sinks: those that wait for nothing, or these.
    pub(super) fn hand_out(&self, setup: &Setup, batch: &Arc<Batch>, these: Option<&[u32]>) {
        let held: u64 = self.routes.iter().enumerate().filter(|(_, r)| r.held).fold(0, |mask, (slot, _)| mask | 1 << slot);
        let present: u64 = batch.numbers().fold(0, |mask, n| mask | 1 << batch.message(n).output);
        for sink in &setup.sinks {
            let pick = match these {
                None => {
                    let outputs = sink.outputs & present & !held;
                    if outputs == 0 {
                        continue;
                    }
                    Pick::Outputs(outputs)
                }
                Some(numbers) => {
                    let list: Vec<u32> = numbers.iter().copied().filter(|n| sink.outputs >> batch.message(*n).output & 1 == 1).collect();
                    if list.is_empty() {
                        continue;
                    }
                    Pick::These(list)
                }
            };
            let mut parcel = Parcel { batch: batch.clone(), pick, acks: Acks::new(self.answers.clone(), sink.slot) };
            if !sink.required {
                // It may keep them long, and no credit bounds that: it must not keep the slab.
                parcel.batch = Arc::new(batch.only(&parcel.numbers()));
                parcel.pick = Pick::These(parcel.batch.numbers().collect());
            }
            if let Some(counts) = &sink.lookup {
                counts.taken.inc_by(parcel.numbers().len() as u64);
            }
            if sink.required {
                self.give(sink, parcel);
            } else if let Err(mut parcel) = sink.inbox.push(parcel) {
                while let Some(oldest) = sink.inbox.try_pop() {
                    sink.shed.inc_by(oldest.numbers().len() as u64);
                    match sink.inbox.push(parcel) {
                        Ok(()) => break,
                        Err(back) => parcel = back,
                    }
                }
            }
        }
    }

    /// Gives a parcel to a taker that is required. Its inbox has room for all batches of all credits,
    /// but a batch may become many parcels where messages wait for others or lookups answer.
    fn give(&self, sink: &SinkEnd, parcel: Parcel) {
        let mut backlog = self.backlog.borrow_mut();
        let waits = backlog.iter().any(|(slot, ..)| *slot == sink.slot);
        let parcel = if waits { Err(parcel) } else { sink.inbox.push(parcel) };
        let Err(parcel) = parcel else { return };
        let first = backlog.is_empty();
        backlog.push_back((sink.slot, sink.inbox.clone(), parcel));
        if !first {
            return;
        }
        let (on, backlog) = (self.on.clone(), self.backlog.clone());
        self.on.spawn(
            "backlog",
            Box::pin(async move {
                while !backlog.borrow().is_empty() {
                    on.sleep(Duration::from_millis(limits::BACKLOG_RETRY_MS)).await;
                    let (mut full, mut left) = (0u64, VecDeque::new());
                    for (slot, inbox, parcel) in std::mem::take(&mut *backlog.borrow_mut()) {
                        let parcel = if full >> slot & 1 == 1 { Err(parcel) } else { inbox.push(parcel) };
                        if let Err(parcel) = parcel {
                            full |= 1 << slot;
                            left.push_back((slot, inbox, parcel));
                        }
                    }
                    *backlog.borrow_mut() = left;
                }
            }),
        );
    }

    fn admit(&self, stream_number: usize, handled: Handled, at: At, received: u64, rung: Option<u32>) {
        let setup = self.setup.borrow();
        let mut streams = self.streams.borrow_mut();
        let stream = &mut streams[stream_number];
        let Handled { draft, tallies, rejected, records } = handled;
        let len = draft.bytes().len() as u64;
        let end = match &at {
            At::File { segment, incarnation, offset, .. } => {
                Position::File { segment: *segment, incarnation: *incarnation, offset: offset + len }
            }
            At::Count { first, .. } => Position::Count(first + u64::from(records)),
            At::Entries { end, .. } => end.clone(),
        };
        // The place that a restart looks for first: where the lowest branch stands.
        let lowest = rung.and_then(|_| (0..setup.branches.len()).map(|branch| stream.position(branch)).min()).cloned();
        if let (At::File { segment, incarnation, offset, .. }, Some(crc)) = (&at, rung)
            && let Some((_, ladder)) =
                stream.segments.iter_mut().find(|(row, _)| (row.segment, row.incarnation) == (*segment, *incarnation))
        {
            let watermark = match lowest {
                Some(Position::File { segment: s, incarnation: i, offset }) if (s, i) == (*segment, *incarnation) => offset,
                _ => 0,
            };
            ladder.push(offset + len, crc, watermark);
        }
        for (branch, limit) in draft.cuts() {
            setup.branches[usize::from(*branch)].counts.cut.add(limit, 1);
        }
        for (branch, kind, count) in draft.finds() {
            setup.branches[usize::from(*branch)].counts.found.add(kind, u64::from(*count));
        }
        for Counting { branch, figure, counted, times } in draft.figures() {
            setup.branches[usize::from(*branch)].counts.figures.add(figure, *counted, *times);
        }
        let mut owed = vec![0u32; setup.branches.len()];
        let mut batch = draft.finish(narrow(stream_number), end.clone(), received);
        let staged = (self.has_stages && !batch.is_empty()).then(|| self.run_stages(&mut batch));
        if self.held != 0 {
            self.stages.borrow_mut().touch();
        }
        let mut account = Account::of(&batch, staged.as_ref(), &self.routes, &mut owed);
        // What nobody required waits for goes out at once.
        let free = account.free(&batch, &self.routes, &mut owed);
        for (tally, branch) in tallies.iter().zip(&setup.branches) {
            branch.counts.read.inc_by(tally.read);
            for (reason, bytes) in &tally.dropped {
                branch.counts.dropped.add(reason, *bytes);
            }
        }
        for (branch, owed) in setup.branches.iter().zip(&owed) {
            branch.counts.emitted.inc_by(u64::from(*owed));
        }
        for (branch, bytes) in account.bytes() {
            setup.branches[usize::from(branch)].counts.in_flight.inc_by(i64::from(bytes));
        }
        for closed in account.settled() {
            count(closed, &setup.branches);
        }
        for reject in &rejected {
            for (branch, end) in setup.branches.iter().enumerate() {
                let is_owed = reject.branches >> branch & 1 == 1;
                if is_owed {
                    owed[branch] += 1;
                    account.open += 1;
                }
                if is_owed || reject.sent >> branch & 1 == 1 {
                    end.counts.dead_letter.add(reject.reason, u64::from(reject.place.len));
                }
            }
        }
        setup.counts.records.inc_by(u64::from(records));
        if records > 0 {
            setup.counts.progress.came(self.on.clock().mono());
        }
        let charge = if account.open == 0 { 0 } else { narrow(batch.slab().bytes.len().max(limits::SLAB_BYTES)) };
        // Admitting may settle at once; the number is the batch's either way.
        stream.end = Some(end.clone());
        batch.seq = stream.ledger.admit(end, charge, &owed);
        let batch = Arc::new(batch);
        stream.in_flight.push_back(Flight::of_source(batch.clone(), account));
        stream.unacked += len;
        stream.dirty = true;
        let moved = stream.trim();
        self.tell(&setup, &streams, moved);
        drop(streams);
        for reject in rejected {
            self.reject(&setup, &batch, reject);
        }
        if !batch.is_empty() {
            self.hand_out(&setup, &batch, None);
            if !free.is_empty() {
                self.hand_out(&setup, &batch, Some(&free));
            }
        }
    }

    fn reject(&self, setup: &Setup, batch: &Batch, reject: Rejected) {
        let Rejected { place, origin, branches, reason, detail, .. } = reject;
        if branches == 0 {
            tracing::error!(origin, reason, detail, "record refused; it goes to the output for what is refused");
            return;
        }
        let names: Vec<&str> =
            setup.branches.iter().enumerate().filter(|(b, _)| branches >> b & 1 == 1).map(|(_, b)| b.name.as_str()).collect();
        let bytes = batch.slab().bytes.get(place.start as usize..(place.start + place.len) as usize).unwrap_or_default().to_vec();
        let header = Header {
            kind: Kind::Record,
            origin,
            branch: names.join(","),
            output: None,
            sink: None,
            key: None,
            reason: reason.into(),
            detail,
            time: rfc3339(self.on.clock().now()),
        };
        tracing::error!(origin = header.origin, reason, detail = header.detail, "record refused; it is in the dead letter");
        let answer = Answer::Kept { stream: batch.stream, seq: batch.seq, branches, message: None };
        self.bury(setup, Entry { header, bytes }, answer);
    }

    /// Waits until the source says that it hands in no more.
    pub async fn handed_in(&self) {
        self.last.wait().await;
    }

    /// The source has handed in its last, and nobody waits longer for what is owed: writes the last rows.
    pub fn finish(&self) {
        self.is_over.set(true);
        self.settles.raise();
        self.drained.set(self.in_flight() == 0 && self.order.borrow().len() == 0);
        self.streams.borrow_mut().iter_mut().for_each(|stream| stream.dirty = true);
        self.publish();
        self.remember(true);
    }

    /// Has the rows written soon, and a snapshot taken if one is due.
    pub(super) fn publish_soon(&self) {
        self.changed.raise();
    }

    /// Writes the rows of streams that changed into the shared table.
    pub fn publish(&self) {
        let setup = self.setup.borrow();
        for stream in self.streams.borrow_mut().iter_mut().filter(|s| s.dirty) {
            stream.dirty = false;
            let leaves = stream.leaves.take_if(|_| stream.in_flight.is_empty());
            if leaves == Some(Leaves::Forgotten) {
                setup.rows.remove(&setup.source, &stream.name);
            } else if !stream.name.is_empty() {
                stream.forget();
                setup.rows.put(Row { drained: self.drained.get(), ..stream.row(&setup) });
            }
            if leaves.is_some() {
                stream.name.clear();
            }
        }
        drop(setup);
        self.remember(false);
    }
}

/// Counts a record's bytes, for which nothing more is owed in its branch.
fn count(closed: Closed, branches: &[BranchEnd]) {
    let counts = &branches[usize::from(closed.branch)].counts;
    let bytes = u64::from(closed.bytes);
    counts.in_flight.dec_by(i64::from(closed.bytes));
    match closed.end {
        End::DeadLetter => counts.dead_letter.add("refused", bytes),
        End::Shipped => _ = counts.shipped.inc_by(bytes),
        End::Dropped(reason) => counts.dropped.add(reason, bytes),
    }
}

pub(super) fn narrow(n: usize) -> u32 {
    u32::try_from(n).expect("counts of one batch fit 32 bits")
}
