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
};

use super::{
    aides::{Aides, Errand},
    handle::{Desk, Handled, Ready, Rejected},
    order::Order,
    rows::{Rows, rfc3339},
};
use crate::{
    batch::{Batch, ORIGIN_HEADER},
    checkpoint::{BranchRow, Ladder, Row, SegmentRow},
    dead_letter::{Entry, Header, Kind},
    io::{Executor, LocalFuture},
    ledger::Ledger,
    limits,
    metrics::{BranchCounts, Count, SourceCounts},
    position::Position,
    ring::{Returns, Signal},
    sinks::{Acks, Home, Inbox, Parcel, Pick, Settle, Settled},
    sources::{Admit, At, Chunk},
    store::{Asked, Reply, StoreHandle},
};

/// What comes back to a home.
pub enum Answer {
    /// From a sink.
    Sink(u8, Settle),
    /// A dead letter is durable: of a batch, for these branches (bit n: branch n), one each.
    Kept { stream: u32, seq: u64, branches: u64, message: Option<u32> },
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
}

impl Home for Answers {
    fn settle(&self, sink: u8, settle: Settle) {
        self.0.push(Answer::Sink(sink, settle));
    }
}

/// A sink as a home sees it.
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
}

/// An output as a home sees it.
#[derive(Clone, Debug)]
pub struct OutputEnd {
    pub name: String,
    /// Slot of the output that must be delivered first.
    pub after: Option<u8>,
}

/// A branch as a home sees it.
pub struct BranchEnd {
    pub name: String,
    pub counts: BranchCounts,
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
    pub sinks: Vec<SinkEnd>,
    pub store: Option<StoreHandle>,
    pub rows: Rows,
    pub counts: SourceCounts,
    pub answers: Arc<Answers>,
    pub closed: Arc<Signal>,
    /// The other shards, and the numbers of this source and of its shard among them.
    pub aides: Option<(Aides, usize, usize)>,
}

/// The home of one source.
pub struct SourceHome {
    on: Rc<dyn Executor>,
    setup: RefCell<Setup>,
    answers: Arc<Answers>,
    streams: RefCell<Vec<Stream>>,
    order: RefCell<Order<Ready>>,
    /// Bytes that the source said it is behind.
    behind: Cell<u64>,
    /// Raised when credits came back.
    credit: Signal,
    closed: Cell<bool>,
    /// True once the source has ended and nothing more is owed.
    drained: Cell<bool>,
    /// Raised when answers were applied: what a drain waits for.
    idle: Signal,
    /// Raised when a row may have changed.
    changed: Signal,
}

struct Stream {
    name: String,
    ledger: Ledger,
    /// By number: the first is `first`.
    in_flight: VecDeque<InFlight>,
    first: u64,
    /// Where each branch stood before this start; below it nothing is offered.
    start: Vec<Position>,
    /// Bytes of the batches in flight.
    unacked: u64,
    segments: Vec<(SegmentRow, Ladder)>,
    dirty: bool,
    /// Nothing more will come; it leaves once nothing is owed.
    ended: bool,
}

struct InFlight {
    batch: Arc<Batch>,
    /// For each message its group.
    group_of: Vec<u32>,
    groups: Vec<Group>,
    /// Settlements that required sinks and the dead letter still owe, all branches.
    open: u32,
}

/// The messages of one record in one branch: they lie side by side.
struct Group {
    branch: u8,
    bytes: u32,
    /// Required settlements that are missing.
    pending: u32,
    /// Of these, on outputs that others wait for.
    first_pending: u32,
    refused: bool,
    delivered: bool,
    /// Messages on outputs that come after.
    held: Vec<u32>,
}

impl SourceHome {
    /// A home without streams.
    pub fn new(on: Rc<dyn Executor>, setup: Setup) -> Rc<Self> {
        let answers = setup.answers.clone();
        Rc::new(Self {
            on,
            setup: RefCell::new(setup),
            answers,
            streams: RefCell::default(),
            order: RefCell::default(),
            behind: Cell::new(0),
            credit: Signal::default(),
            closed: Cell::new(false),
            drained: Cell::new(false),
            idle: Signal::default(),
            changed: Signal::default(),
        })
    }

    /// Stops admission: sources end.
    pub fn close(&self) {
        self.closed.set(true);
        self.setup.borrow().closed.raise();
        self.credit.raise();
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

    /// Tells the saver how far the streams are, some times a second and only when they move.
    pub async fn publish_now_and_then(self: Rc<Self>) {
        loop {
            self.changed.wait().await;
            self.publish();
            self.on.sleep(std::time::Duration::from_millis(limits::CHECKPOINT_EVERY_MS / 4)).await;
        }
    }

    /// Applies every answer that has come.
    pub fn settle_all(&self) {
        let mut any = false;
        while let Some(answer) = self.answers.0.try_pop() {
            any = true;
            match answer {
                Answer::Sink(sink, settle) => self.settle(sink, settle),
                Answer::Kept { stream, seq, branches, message } => self.kept(stream, seq, branches, message),
                Answer::Handled(ticket, ready) => self.take_back(ticket, *ready),
            }
        }
        if any {
            self.changed.raise();
            self.credit.raise();
            self.idle.raise();
        }
    }

    /// Gives a slab to an idle shard while the source lags; what nobody takes comes back.
    fn give_away(&self, ticket: u64, chunk: Chunk, from: Vec<u64>) -> Option<(Chunk, Vec<u64>)> {
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
    fn take_back(&self, ticket: u64, ready: Ready) {
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
        let required = self.setup.borrow().sinks.iter().any(|s| s.slot == sink && s.required);
        match settle.messages {
            Settled::One(n) if required => self.delivered(settle.stream, settle.seq, &[n]),
            Settled::Delivered(numbers) if required => self.delivered(settle.stream, settle.seq, &numbers),
            Settled::Refused(n, reason) => self.refused(sink, required, settle.stream, settle.seq, n, &reason),
            Settled::One(_) | Settled::Delivered(_) => {}
        }
    }

    fn delivered(&self, stream: u32, seq: u64, numbers: &[u32]) {
        let setup = self.setup.borrow();
        let mut streams = self.streams.borrow_mut();
        let stream = &mut streams[stream as usize];
        let mut release = Vec::new();
        let mut settled = vec![0u32; setup.branches.len()];
        let flight = stream.flight(seq);
        let now = self.on.clock().now();
        for n in numbers {
            let message = flight.batch.message(*n);
            let group = &mut flight.groups[flight.group_of[*n as usize] as usize];
            group.delivered = true;
            group.pending = group.pending.checked_sub(1).expect("a message is settled once");
            if setup.outputs.iter().any(|o| o.after == Some(message.output)) {
                group.first_pending -= 1;
                if group.first_pending == 0 && !group.refused {
                    release.append(&mut group.held);
                }
            }
            flight.open -= 1;
            close_group(group, &setup.branches);
            settled[usize::from(message.branch)] += 1;
        }
        let (whole, received) = (flight.open == 0, flight.batch.received);
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
        let message = flight.batch.message(n);
        let group = &mut flight.groups[flight.group_of[n as usize] as usize];
        group.refused = true;
        let origin =
            message.headers().find(|(name, _)| *name == ORIGIN_HEADER).map(|(_, value)| String::from_utf8_lossy(value).into_owned());
        let origin = origin.unwrap_or_default();
        let entry = Entry {
            header: Header {
                kind: Kind::Message,
                origin,
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
                        flight.open -= 1;
                        settled.push((branch, 1));
                    }
                }
            }
            Some(n) => {
                let branch = usize::from(flight.batch.message(n).branch);
                let output = flight.batch.message(n).output;
                let group = &mut flight.groups[flight.group_of[n as usize] as usize];
                let mut owed = 1;
                group.pending -= 1;
                if setup.outputs.iter().any(|o| o.after == Some(output)) {
                    group.first_pending -= 1;
                    // What waited for the refused message never goes out.
                    for held in std::mem::take(&mut group.held) {
                        let required = required_sinks(&setup, flight.batch.message(held).output);
                        group.pending -= required;
                        owed += required;
                    }
                }
                flight.open -= owed;
                close_group(group, &setup.branches);
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
    fn tell(&self, setup: &Setup, streams: &[Stream], moved: bool) {
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
                            on.sleep(std::time::Duration::from_millis(limits::GROUP_COMMIT_MS)).await;
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
    fn hand_out(&self, setup: &Setup, batch: &Arc<Batch>, these: Option<&[u32]>) {
        let held: u64 = setup.outputs.iter().enumerate().filter(|(_, o)| o.after.is_some()).fold(0, |mask, (slot, _)| mask | 1 << slot);
        let present: u64 = (0..batch.len() as u32).fold(0, |mask, n| mask | 1 << batch.message(n).output);
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
                parcel.pick = Pick::These((0..narrow(parcel.batch.len())).collect());
            }
            if let Err(mut parcel) = sink.inbox.push(parcel) {
                assert!(!sink.required, "the inbox of a required sink has room for all credits");
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
        };
        if let (At::File { segment, incarnation, offset, .. }, Some(crc)) = (&at, rung)
            && let Some((_, ladder)) =
                stream.segments.iter_mut().find(|(row, _)| (row.segment, row.incarnation) == (*segment, *incarnation))
        {
            // The place that a restart looks for first: where the lowest branch stands, if it is here.
            let lowest = (0..setup.branches.len()).map(|branch| stream.ledger.watermark(branch)).min();
            let watermark = match lowest {
                Some(Position::File { segment: s, incarnation: i, offset }) if (s, i) == (segment, incarnation) => *offset,
                _ => 0,
            };
            ladder.push(offset + len, crc, watermark);
        }
        for (branch, limit) in draft.cuts() {
            setup.branches[usize::from(*branch)].counts.cut.add(limit, 1);
        }
        let mut owed = vec![0u32; setup.branches.len()];
        let mut batch = draft.finish(narrow(stream_number), end.clone(), received);
        let (mut group_of, mut groups) = (Vec::with_capacity(batch.len()), Vec::<Group>::new());
        let mut open = 0;
        let mut last = None;
        for n in 0..narrow(batch.len()) {
            let message = batch.message(n);
            if last != Some((message.record, message.branch)) {
                last = Some((message.record, message.branch));
                let bytes = batch.records()[message.record as usize].len;
                groups.push(Group {
                    branch: message.branch,
                    bytes,
                    pending: 0,
                    first_pending: 0,
                    refused: false,
                    delivered: false,
                    held: Vec::new(),
                });
            }
            let group = groups.last_mut().expect("a group was just made");
            let required = required_sinks(&setup, message.output);
            group.pending += required;
            open += required;
            owed[usize::from(message.branch)] += required;
            if setup.outputs.iter().any(|o| o.after == Some(message.output)) {
                group.first_pending += required;
            }
            if setup.outputs[usize::from(message.output)].after.is_some() {
                group.held.push(n);
            }
            group_of.push(narrow(groups.len() - 1));
        }
        for (tally, branch) in tallies.iter().zip(&setup.branches) {
            branch.counts.read.inc_by(tally.read);
            for (reason, bytes) in &tally.dropped {
                branch.counts.dropped.add(reason, *bytes);
            }
        }
        for (branch, owed) in setup.branches.iter().zip(&owed) {
            branch.counts.emitted.inc_by(u64::from(*owed));
        }
        for group in &mut groups {
            setup.branches[usize::from(group.branch)].counts.in_flight.inc_by(i64::from(group.bytes));
            close_group(group, &setup.branches);
        }
        for reject in &rejected {
            for (branch, end) in setup.branches.iter().enumerate() {
                if reject.branches >> branch & 1 == 1 {
                    owed[branch] += 1;
                    open += 1;
                    end.counts.dead_letter.add(reject.reason, u64::from(reject.place.len));
                }
            }
        }
        setup.counts.records.inc_by(u64::from(records));
        let charge = if open == 0 { 0 } else { narrow(batch.slab().bytes.len().max(limits::SLAB_BYTES)) };
        // Admitting may settle at once; the number is the batch's either way.
        batch.seq = stream.ledger.admit(end, charge, &owed);
        let batch = Arc::new(batch);
        // What nobody required waits for goes out at once.
        let free: Vec<u32> = groups.iter_mut().filter(|g| g.first_pending == 0).flat_map(|g| std::mem::take(&mut g.held)).collect();
        stream.in_flight.push_back(InFlight { batch: batch.clone(), group_of, groups, open });
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
        let Rejected { place, origin, branches, reason, detail } = reject;
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

    /// The source has ended: writes the last rows.
    pub fn finish(&self) {
        self.drained.set(self.in_flight() == 0 && self.order.borrow().len() == 0);
        self.streams.borrow_mut().iter_mut().for_each(|stream| stream.dirty = true);
        self.publish();
    }

    /// Writes the rows of streams that changed into the shared table.
    pub fn publish(&self) {
        let setup = self.setup.borrow();
        for stream in self.streams.borrow_mut().iter_mut().filter(|s| s.dirty) {
            stream.dirty = false;
            if stream.ended && stream.in_flight.is_empty() {
                setup.rows.remove(&setup.source, &stream.name);
                stream.name.clear();
                stream.ended = false;
            } else if !stream.name.is_empty() {
                stream.forget();
                setup.rows.put(Row { drained: self.drained.get(), ..stream.row(&setup) });
            }
        }
    }
}

impl Stream {
    fn flight(&mut self, seq: u64) -> &mut InFlight {
        let at = seq.checked_sub(self.first).expect("an answer is for a batch in flight") as usize;
        &mut self.in_flight[at]
    }

    /// Forgets the oldest batches as far as nothing is owed for them; true if there were any.
    fn trim(&mut self) -> bool {
        let before = self.first;
        while let Some(flight) = self.in_flight.pop_front_if(|flight| flight.open == 0) {
            self.unacked -= flight.batch.slab().bytes.len() as u64;
            self.first += 1;
        }
        self.first > before
    }

    /// Forgets files that every branch has left behind.
    fn forget(&mut self) {
        let lowest = (0..self.start.len()).map(|branch| self.ledger.watermark(branch)).min();
        if let Some(Position::File { segment, incarnation, .. }) = lowest {
            let at = (*segment, *incarnation);
            self.segments.retain(|(row, _)| (row.segment, row.incarnation) >= at);
        }
    }

    fn row(&self, setup: &Setup) -> Row {
        let branches: Vec<BranchRow> = setup
            .branches
            .iter()
            .enumerate()
            .map(|(number, branch)| BranchRow { branch: branch.name.clone(), position: self.ledger.watermark(number).clone() })
            .collect();
        let segments = self.segments.iter().map(|(row, ladder)| SegmentRow { rungs: ladder.rungs().to_vec(), ..row.clone() }).collect();
        Row {
            source: setup.source.clone(),
            stream: self.name.clone(),
            kind: setup.kind.clone(),
            segments,
            branches,
            stretches: Vec::new(),
            drained: false,
        }
    }
}

impl Admit for SourceHome {
    fn is_closed(&self) -> bool {
        self.closed.get()
    }

    fn closed(&self) -> LocalFuture<'_, ()> {
        Box::pin(async {
            let signal = self.setup.borrow().closed.clone();
            while !self.closed.get() {
                signal.wait().await;
            }
        })
    }

    fn resume(&self, stream: &str) -> Option<Row> {
        self.rows().into_iter().find(|row| row.stream == stream)
    }

    fn rows(&self) -> Vec<Row> {
        let setup = self.setup.borrow();
        setup.rows.of(&setup.source)
    }

    fn open(&self, stream: &str, start: Position) {
        let saved = self.resume(stream);
        let setup = self.setup.borrow();
        // A branch that is new begins where the reader begins.
        let from: Vec<Position> = setup
            .branches
            .iter()
            .map(|branch| {
                saved.as_ref().and_then(|row| row.branch(&branch.name)).filter(|at| **at >= start).cloned().unwrap_or_else(|| start.clone())
            })
            .collect();
        let mut streams = self.streams.borrow_mut();
        assert!(streams.iter().all(|s| s.name != stream), "a stream is opened once");
        let saved_segments = saved.map(|row| row.segments).unwrap_or_default();
        let segments = saved_segments
            .into_iter()
            .map(|row| {
                let ladder = Ladder::from_rungs(&row.rungs);
                (row, ladder)
            })
            .collect();
        let stream = Stream {
            name: stream.to_owned(),
            ledger: Ledger::new(from.clone()),
            in_flight: VecDeque::new(),
            first: 0,
            start: from,
            unacked: 0,
            segments,
            dirty: true,
            ended: false,
        };
        // The place of a stream that has ended is free: nothing in flight names it any more.
        match streams.iter_mut().find(|s| s.name.is_empty()) {
            Some(place) => *place = stream,
            None => streams.push(stream),
        }
        drop(streams);
        drop(setup);
        self.publish();
    }

    fn segment(&self, stream: &str, row: SegmentRow) {
        if let Some(stream) = self.streams.borrow_mut().iter_mut().find(|s| s.name == stream) {
            match stream.segments.iter_mut().find(|(r, _)| (r.segment, r.incarnation) == (row.segment, row.incarnation)) {
                Some((known, _)) => *known = row,
                None => {
                    let ladder = Ladder::from_rungs(&row.rungs);
                    stream.segments.push((row, ladder));
                }
            }
            stream.dirty = true;
        }
        self.publish();
    }

    fn saved(&self) -> LocalFuture<'_, ()> {
        Box::pin(async {
            self.publish();
            let (store, rows, instance) = {
                let setup = self.setup.borrow();
                (setup.store.clone(), setup.rows.clone(), setup.instance.clone())
            };
            let Some(store) = store else { return };
            let saved = Arc::new(Signal::default());
            let raised = saved.clone();
            let mut reply: Reply = Box::new(move |_| raised.raise());
            while let Err(back) = rows.save(&store, &instance, self.on.clock().now(), reply) {
                reply = back;
                self.on.sleep(std::time::Duration::from_millis(limits::GROUP_COMMIT_MS)).await;
            }
            tokio::select! {
                biased;
                () = saved.wait() => {}
                () = self.closed() => {}
            }
        })
    }

    fn chunk<'a>(&'a self, stream: &'a str, chunk: Chunk) -> LocalFuture<'a, ()> {
        Box::pin(async move {
            let number = self.streams.borrow().iter().position(|s| s.name == stream).expect("a stream is opened before its first chunk");
            loop {
                let (bytes, batches) = {
                    // All streams of the source: the sinks' inboxes have room for one source's credits.
                    let (streams, order) = (self.streams.borrow(), self.order.borrow());
                    let out = (order.bytes(), order.len());
                    streams.iter().fold(out, |(bytes, batches), s| (bytes + s.ledger.bytes(), batches + s.in_flight.len()))
                };
                let wanted = chunk.slab.bytes.len().max(limits::SLAB_BYTES) as u64;
                if batches < limits::CREDIT_BATCHES && (bytes == 0 || bytes + wanted <= limits::CREDIT_BYTES) {
                    break;
                }
                // A chunk that is not admitted is read again at the next start.
                if self.closed.get() {
                    return;
                }
                self.credit.wait().await;
            }
            let from: Vec<u64> = {
                let streams = self.streams.borrow();
                streams[number].start.iter().map(|start| below(start, &chunk)).collect()
            };
            let bytes = chunk.slab.bytes.len().max(limits::SLAB_BYTES) as u64;
            let ticket = self.order.borrow_mut().push(number, bytes);
            if let Some((chunk, from)) = self.give_away(ticket, chunk, from) {
                let ready = self.setup.borrow_mut().desk.ready(chunk, &from);
                self.take_back(ticket, ready);
            }
        })
    }

    fn lag(&self, bytes: u64) {
        self.behind.set(bytes);
        self.setup.borrow().counts.progress.unread(bytes, self.on.clock().mono());
    }

    fn end(&self, stream: &str) {
        let mut streams = self.streams.borrow_mut();
        match streams.iter_mut().find(|s| s.name == stream) {
            Some(open) => (open.ended, open.dirty) = (true, true),
            None => {
                let setup = self.setup.borrow();
                setup.rows.remove(&setup.source, stream);
            }
        }
        drop(streams);
        self.publish();
    }

    fn missed(&self, bytes: u64) {
        self.setup.borrow().counts.missed.inc_by(bytes);
    }
}

/// Bytes of a chunk that lie below `start`.
fn below(start: &Position, chunk: &Chunk) -> u64 {
    match (start, &chunk.at) {
        (Position::File { segment, incarnation, offset }, At::File { segment: s, incarnation: i, offset: o, .. }) => {
            match (s, i).cmp(&(segment, incarnation)) {
                std::cmp::Ordering::Less => chunk.slab.bytes.len() as u64,
                std::cmp::Ordering::Equal => offset.saturating_sub(*o).min(chunk.slab.bytes.len() as u64),
                std::cmp::Ordering::Greater => 0,
            }
        }
        _ => 0,
    }
}

fn required_sinks(setup: &Setup, output: u8) -> u32 {
    narrow(setup.sinks.iter().filter(|s| s.required && s.outputs >> output & 1 == 1).count())
}

/// Counts a record's bytes once nothing more is owed for it in this branch.
fn close_group(group: &mut Group, branches: &[BranchEnd]) {
    if group.pending > 0 {
        return;
    }
    let counts = &branches[usize::from(group.branch)].counts;
    let bytes = u64::from(group.bytes);
    counts.in_flight.dec_by(i64::from(group.bytes));
    if group.refused {
        counts.dead_letter.add("refused", bytes);
    } else if group.delivered {
        counts.shipped.inc_by(bytes);
    } else {
        counts.dropped.add("not_required", bytes);
    }
}

fn narrow(n: usize) -> u32 {
    u32::try_from(n).expect("counts of one batch fit 32 bits")
}
