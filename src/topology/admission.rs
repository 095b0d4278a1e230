//! The way into a home: where a source waits for credits, and says what it knows of its streams.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{
    home::SourceHome,
    stream::{Leaves, Stream},
};
use crate::{
    checkpoint::{Ladder, Row, SegmentRow, Snapshot},
    io::LocalFuture,
    ledger::Ledger,
    limits,
    position::Position,
    ring::Signal,
    sources::{Admit, At, Chunk},
    store::{Reply, StoreHandle},
};

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
        let born = self.born.get();
        self.born.set(born + 1);
        let stream = Stream {
            name: stream.to_owned(),
            born,
            end: None,
            ledger: Ledger::new(from.clone()),
            in_flight: VecDeque::new(),
            first: 0,
            settled: 0,
            held: self.held,
            kept: None,
            start: from,
            unacked: 0,
            segments,
            dirty: true,
            leaves: None,
        };
        // The place of a stream that has ended is free once nothing in flight names it any more.
        match streams.iter_mut().find(|s| s.name.is_empty() && s.in_flight.is_empty()) {
            Some(place) => *place = stream,
            None => streams.push(stream),
        }
        drop(streams);
        drop(setup);
        // Stages that had something to say may do so now.
        self.staged.raise();
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
                self.on.sleep(Duration::from_millis(limits::GROUP_COMMIT_MS)).await;
            }
            tokio::select! {
                biased;
                () = saved.wait() => {}
                () = self.closed() => {}
            }
        })
    }

    fn chunk<'a>(&'a self, stream: &'a str, chunk: Chunk) -> LocalFuture<'a, bool> {
        Box::pin(async move {
            let number = self.streams.borrow().iter().position(|s| s.name == stream).expect("a stream is opened before its first chunk");
            loop {
                if self.has_credit(chunk.slab.bytes.len().max(limits::SLAB_BYTES) as u64) {
                    break;
                }
                // A chunk that is not admitted is read again at the next start.
                if self.closed.get() {
                    return false;
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
            true
        })
    }

    fn settled(&self, stream: &str) -> u64 {
        self.streams.borrow().iter().find(|s| s.name == stream).map_or(0, Stream::done)
    }

    fn hurry(&self) {
        if self.held != 0 {
            self.stages.borrow_mut().hurry();
            self.publish_soon();
        }
    }

    fn settles(&self) -> LocalFuture<'_, bool> {
        Box::pin(async {
            if !self.is_over.get() {
                self.settles.wait().await;
            }
            !self.is_over.get()
        })
    }

    fn is_open(&self, stream: &str) -> bool {
        self.streams.borrow().iter().any(|s| s.name == stream)
    }

    fn used(&self) -> u8 {
        let (bytes, batches) = self.charged();
        let percent = (bytes * 100 / limits::CREDIT_BYTES).max(batches as u64 * 100 / limits::CREDIT_BATCHES as u64);
        u8::try_from(percent).unwrap_or(u8::MAX)
    }

    fn last(&self) {
        self.last.raise();
    }

    fn store(&self) -> Option<StoreHandle> {
        self.setup.borrow().store.clone()
    }

    fn gathers(&self) -> Duration {
        self.setup.borrow().gathers
    }

    fn lag(&self, bytes: u64) {
        self.behind.set(bytes);
        self.setup.borrow().counts.progress.unread(bytes, self.on.clock().mono());
    }

    fn end(&self, stream: &str) {
        let mut streams = self.streams.borrow_mut();
        match streams.iter_mut().find(|s| s.name == stream) {
            Some(open) => (open.leaves, open.dirty) = (Some(Leaves::Forgotten), true),
            None => {
                let setup = self.setup.borrow();
                setup.rows.remove(&setup.source, stream);
            }
        }
        drop(streams);
        self.publish();
    }

    fn leave(&self, stream: &str) {
        if let Some(open) = self.streams.borrow_mut().iter_mut().find(|s| s.name == stream) {
            (open.leaves, open.dirty) = (Some(Leaves::Kept), true);
        }
        self.publish();
    }

    fn kept(&self) -> Option<Arc<[u8]>> {
        let setup = self.setup.borrow();
        // A name without a dot is no stage's.
        let saved = setup.rows.snapshot(&setup.source)?;
        if saved.kind != setup.kind {
            tracing::warn!(
                source = setup.source,
                is = setup.kind,
                was = saved.kind,
                "the source was of another kind before and begins anew"
            );
            return None;
        }
        Some(saved.body)
    }

    fn keep(&self, body: Vec<u8>) {
        // Its rows first: what is kept may speak of what they say.
        self.publish();
        let setup = self.setup.borrow();
        let kept = Snapshot { kind: setup.kind.clone(), places: Vec::new(), body: body.into() };
        setup.rows.remember(vec![(setup.source.clone(), kept)], Box::new(|_| {}));
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
        // Redis itself keeps what is not acked, and gives it again in any order; of a cursor its source knows what was settled.
        (Position::Kafka { .. }, At::Entries { entries, .. }) => {
            entries.iter().take_while(|entry| entry.position < *start).map(|entry| u64::from(entry.len)).sum()
        }
        _ => 0,
    }
}
