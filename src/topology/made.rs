//! What stages and lookups make of messages, on its way through the home.
//!
//! What a lookup makes belongs to the batch of the message it was made of. What a stage emits by
//! itself, and what a lookup that is not required makes of a message that may be long settled, is
//! a batch of its own, which ends where the newest admitted one ends: it is owed like any other,
//! and moves no watermark beyond what was read.

use std::{rc::Rc, sync::Arc, time::Duration};

use super::{
    flight::{Account, Flight, Staged},
    home::{SourceHome, narrow},
    staged::{Aside, Mark},
    stream::{Kept, Stream},
};
use crate::{
    batch::{Apart, Batch},
    clock::Nanos,
    limits,
    parcel::{Child, Settled},
};

impl SourceHome {
    /// Shows a batch to the stages.
    pub(super) fn run_stages(&self, batch: &mut Batch) -> Staged {
        let mut stages = self.stages.borrow_mut();
        let staged = stages.run(batch, self.now());
        self.look_at(stages.due());
        staged
    }

    /// Wakes the one who ticks, if it would come too late.
    fn look_at(&self, due: Option<Nanos>) {
        if due.is_some_and(|due| self.looks_at.get().is_none_or(|at| due < at)) {
            self.staged.raise();
        }
    }

    /// Tells the stages the time when they want to know it, until the home is closed.
    pub async fn tick_now_and_then(self: Rc<Self>) {
        while !self.closed.get() {
            let due = self.stages.borrow().due();
            let left = due.map(|due| due.saturating_sub(self.on.clock().mono()));
            match left {
                // Without a stream or credits it is tried again when either changes.
                Some(0) if self.tick(false) => self.on.pause().await,
                None | Some(0) => {
                    self.looks_at.set(None);
                    self.staged.wait().await;
                }
                Some(left) => {
                    self.looks_at.set(due);
                    tokio::select! {
                        biased;
                        () = self.staged.wait() => {}
                        () = self.on.sleep(Duration::from_nanos(left)) => {}
                    }
                }
            }
        }
    }

    /// Emits all that stages hold back, if nothing keeps it for the next start.
    pub fn flush_stages(&self) {
        if self.has_stages() && self.setup.borrow().store.is_none() {
            self.tick(true);
        }
    }

    /// Takes in what stages emit by themselves; false if there is no room or no stream for it.
    fn tick(&self, all: bool) -> bool {
        let number = self.streams.borrow().iter().position(|s| !s.name.is_empty());
        let Some(number) = number.filter(|_| all || self.has_credit(limits::SLAB_BYTES as u64)) else { return false };
        let mut batch = self.apart(number);
        let staged = self.stages.borrow_mut().tick(&mut batch, self.now(), all);
        if !batch.is_empty() {
            self.admit_apart(batch, &staged);
        }
        true
    }

    /// An empty batch that ends where the newest one of the stream does.
    fn apart(&self, number: usize) -> Batch {
        let (streams, branches) = (self.streams.borrow(), self.setup.borrow().branches.len());
        let stream = &streams[number];
        let lowest = || (0..branches).map(|branch| stream.ledger.watermark(branch)).min();
        let end = stream.end.as_ref().or_else(lowest).expect("a source has a branch").clone();
        Batch::apart(narrow(number), 0, end, self.on.clock().now())
    }

    fn admit_apart(&self, mut batch: Batch, staged: &Staged) {
        let setup = self.setup.borrow();
        let mut streams = self.streams.borrow_mut();
        let stream = &mut streams[batch.stream as usize];
        let mut owed = vec![0u32; setup.branches.len()];
        let account = Account::of(&batch, Some(staged), &self.routes, &mut owed);
        for (branch, owed) in setup.branches.iter().zip(&owed) {
            branch.counts.emitted.inc_by(u64::from(*owed));
        }
        let charge = if account.open == 0 { 0 } else { narrow(batch.memory()) };
        let end = batch.end.clone().expect("a batch apart has an end");
        batch.seq = stream.ledger.admit(end, charge, &owed);
        let batch = Arc::new(batch);
        stream.in_flight.push_back(Flight::new(batch.clone(), account));
        let moved = stream.trim();
        self.tell(&setup, &streams, moved);
        drop(streams);
        self.hand_out(&setup, &batch, None);
    }

    pub(super) fn count_settled(&self, lookup: u8, messages: &Settled) {
        let setup = self.setup.borrow();
        let counts = setup.sinks.iter().find(|s| s.slot == lookup).and_then(|s| s.lookup.as_ref());
        let n = match messages {
            Settled::One(_) | Settled::Refused(..) => 1,
            Settled::Delivered(numbers) | Settled::PutBy(numbers) => numbers.len() as u64,
        };
        if let Some(counts) = counts {
            counts.settled.inc_by(n);
        }
    }

    /// Takes in what a lookup made of a message.
    pub(super) fn child(&self, lookup: u8, child: Child) {
        let required = {
            let setup = self.setup.borrow();
            let end = setup.sinks.iter().find(|s| s.slot == lookup);
            if let Some(counts) = end.and_then(|end| end.lookup.as_ref()) {
                counts.emitted.inc();
            }
            end.is_some_and(|end| end.required)
        };
        if required {
            self.child_of_one_that_owes(lookup, child);
            return;
        }
        let known = self.streams.borrow().len() > child.stream as usize;
        let mut batch = self.apart(if known { child.stream as usize } else { 0 });
        batch.push(message(&child, child.branch));
        let staged = if self.has_stages() { self.run_stages(&mut batch) } else { Staged::default() };
        self.admit_apart(batch, &staged);
    }

    fn child_of_one_that_owes(&self, lookup: u8, child: Child) {
        let setup = self.setup.borrow();
        let mut streams = self.streams.borrow_mut();
        let stream = &mut streams[child.stream as usize];
        let flight = stream.flight(child.seq);
        let base = flight.account.messages();
        if base as usize + limits::OUTPUTS_MAX > limits::BATCH_MESSAGES_MAX {
            // Millions of answers to one slab: nothing that a lookup in its right mind gives.
            if let Some(end) = setup.sinks.iter().find(|s| s.slot == lookup) {
                end.shed.inc();
                tracing::error!(lookup = end.name, "a batch has too many messages; what the lookup made of one is lost");
            }
            return;
        }
        let branch = flight.message(child.parent).branch;
        let end = flight.batch.end.clone().expect("a batch that was admitted has an end");
        let mut batch = Batch::apart(child.stream, base, end, flight.batch.received);
        batch.seq = child.seq;
        batch.push(message(&child, branch));
        let staged = self.has_stages().then(|| self.run_stages(&mut batch));
        let more = flight.account.add(child.parent, &batch, staged.as_ref(), &self.routes);
        let batch = Arc::new(batch);
        flight.add_child(batch.clone());
        stream.ledger.owe(child.seq, usize::from(branch), more, narrow(batch.memory()));
        setup.branches[usize::from(branch)].counts.emitted.inc_by(u64::from(more));
        drop(streams);
        self.hand_out(&setup, &batch, None);
    }

    /// Lets snapshots be saved that speak of settled records only.
    ///
    /// - `last`: nothing will be taken any more.
    pub(super) fn remember(&self, last: bool) {
        if !self.has_stages() {
            return;
        }
        let setup = self.setup.borrow();
        if setup.store.is_none() {
            return;
        }
        let streams = self.streams.borrow();
        let mut stages = self.stages.borrow_mut();
        let is_settled = |mark: &Mark| streams.iter().find(|s| s.born == mark.born).is_none_or(|s| s.is_settled(mark.seq));
        let marks = || streams.iter().map(Stream::mark).collect();
        // Once for what was set aside before, once for what is set aside now and waits for nothing.
        for round in 0..2 {
            if let Some(Aside { snapshots, marks }) = stages.take_aside(is_settled) {
                let answers = self.answers.clone();
                setup.rows.remember(snapshots, Box::new(move |_| answers.remembered(marks)));
            }
            if round == 0 {
                stages.set_aside(&setup.source, &setup.branches, marks, self.now(), last);
            }
        }
    }

    /// A snapshot is saved: what it has need not be had again.
    pub(super) fn remembered(&self, marks: Vec<Mark>) {
        for stream in self.streams.borrow_mut().iter_mut() {
            if let Some(mark) = marks.iter().find(|mark| mark.born == stream.born) {
                stream.kept = Some(Kept { at: mark.at.clone(), chunks: mark.chunks });
                stream.dirty = true;
            }
        }
        self.settles.raise();
        self.kept.raise();
    }

    /// Takes a last snapshot and waits until it is saved, if a stage holds the source.
    pub async fn keep(&self) {
        if self.held == 0 {
            return;
        }
        loop {
            let (store, rows, instance) = {
                let setup = self.setup.borrow();
                (setup.store.clone(), setup.rows.clone(), setup.instance.clone())
            };
            let Some(store) = store else { return };
            self.remember(true);
            if self.streams.borrow().iter().all(|s| s.done() == s.settled) {
                return;
            }
            // The saver may have been asked already; asking twice costs a write.
            drop(rows.save(&store, &instance, self.on.clock().now(), Box::new(|_| {})));
            tokio::select! {
                biased;
                () = self.kept.wait() => {}
                () = self.on.sleep(Duration::from_millis(limits::CHECKPOINT_EVERY_MS)) => {}
            }
        }
    }
}

fn message(child: &Child, branch: u8) -> Apart<'_> {
    let Child { output, origin, key, payload, time_ms, .. } = child;
    Apart { output: *output, branch, origin, key: key.as_deref(), payload, time_ms: *time_ms }
}
