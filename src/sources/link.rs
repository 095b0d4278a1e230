//! What crosses between the half of a source on the edge thread, which speaks to a network, and the half on the home shard.
//!
//! Whole batches one way, through a ring that is soon full: the edge reads no more than the home takes. Counts
//! the other way: how many batches of each stream are settled, in the order in which they were handed in.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use crate::{
    limits,
    ring::{Mailbox, Signal},
    sources::Chunk,
};

/// A batch on its way to the home.
pub(in crate::sources) struct Brought {
    /// Index of the stream in the settings.
    pub stream: usize,
    pub chunk: Chunk,
    /// Bytes that the group has not read yet, about.
    pub lag: u64,
}

/// The way between both halves.
pub(in crate::sources) struct Link {
    brought: Arc<Mailbox<Brought>>,
    /// Raised when the home has taken a batch, or takes no more.
    room: Signal,
    /// For each stream, batches that are settled.
    settled: Vec<AtomicU64>,
    /// Raised when that has moved, and at the end.
    told: Signal,
    is_closed: AtomicBool,
    /// Raised once when the home takes no more.
    closed: Signal,
    is_over: AtomicBool,
    /// Raised when the edge has acked all that is settled, after the end.
    done: Signal,
}

impl Link {
    pub(in crate::sources) fn new(streams: usize) -> Arc<Self> {
        Arc::new(Self {
            brought: Mailbox::new(limits::BROUGHT_BATCHES),
            room: Signal::default(),
            settled: (0..streams).map(|_| AtomicU64::new(0)).collect(),
            told: Signal::default(),
            is_closed: AtomicBool::new(false),
            closed: Signal::default(),
            is_over: AtomicBool::new(false),
            done: Signal::default(),
        })
    }

    // The home's side.

    /// The next batch.
    pub(in crate::sources) async fn next(&self) -> Option<Brought> {
        let brought = self.brought.pop().await;
        self.room.raise();
        brought
    }
    /// So many batches of a stream are settled.
    pub(in crate::sources) fn settle(&self, stream: usize, batches: u64) {
        if let Some(settled) = self.settled.get(stream) {
            settled.store(batches, Ordering::Release);
        }
    }
    /// Wakes the edge for what was settled.
    pub(in crate::sources) fn tell(&self) {
        self.told.raise();
    }
    /// The home takes no more.
    pub(in crate::sources) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.closed.raise();
        self.room.raise();
        self.told.raise();
    }
    /// Nothing more will be settled.
    pub(in crate::sources) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        self.close();
    }
    /// Waits until the edge has acked what it can.
    pub(in crate::sources) async fn is_done(&self) {
        self.done.wait().await;
    }

    // The edge's side.

    /// Waits until there is room for one batch; false if the home takes no more.
    pub(in crate::sources) async fn has_room(&self) -> bool {
        while !self.is_closed() {
            if self.brought.len() < limits::BROUGHT_BATCHES {
                return true;
            }
            self.room.wait().await;
        }
        false
    }
    /// Hands a batch over, after [`has_room`](Self::has_room).
    ///
    /// # Panics
    /// If there is no room: nobody but the edge pushes.
    pub(in crate::sources) fn bring(&self, brought: Brought) {
        assert!(self.brought.push(brought).is_ok(), "there was room for a batch");
    }
    /// True once the home takes no more.
    pub(in crate::sources) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }
    /// Waits until the home takes no more. One task at a time may wait.
    pub(in crate::sources) async fn closed(&self) {
        while !self.is_closed() {
            self.closed.wait().await;
        }
    }
    /// True once nothing more will be settled.
    pub(in crate::sources) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
    /// Batches of a stream that are settled.
    pub(in crate::sources) fn settled(&self, stream: usize) -> u64 {
        self.settled.get(stream).map_or(0, |settled| settled.load(Ordering::Acquire))
    }
    /// Waits until that has moved, or the end has come.
    pub(in crate::sources) async fn told(&self) {
        self.told.wait().await;
    }
    /// Nothing is left to ack.
    pub(in crate::sources) fn finish(&self) {
        self.done.raise();
    }
}

/// Ends the link with the home's half, however that ends.
pub(in crate::sources) struct Ending(pub Arc<Link>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}
