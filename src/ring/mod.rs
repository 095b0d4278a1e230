//! Where threads meet: bounded, lock-free hand-over with at most one wake outstanding.
//!
//! What crosses is a whole slab or batch, never a record. A [`Ring`] is a queue without a waker;
//! a [`Signal`] is a waker without a queue; [`Mailbox`] is both. Foreign threads wake a shard only
//! through an `AtomicWaker`: many wakes before the task has looked are one.
//!
//! Invariant: whoever pushes, signals after the push; whoever waits, registers before it looks
//! again. `tests/loom` walks every order of the steps of [`Signal`] and [`Mailbox`].

mod mailbox;
mod signal;

/// What `tests/loom` replaces by its own.
mod sync {
    pub use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    pub use atomic_waker::AtomicWaker;
}

use std::fmt;

use crossbeam::queue::{ArrayQueue, SegQueue};
pub use mailbox::Mailbox;
pub use signal::Signal;

/// A bounded queue between threads.
pub struct Ring<T>(ArrayQueue<T>);

impl<T> Ring<T> {
    /// A ring of `slots` places, at least one.
    pub fn new(slots: usize) -> Self {
        Self(ArrayQueue::new(slots.max(1)))
    }
    /// Hands `item` over, or gives it back if the ring is full.
    ///
    /// # Errors
    /// The item itself.
    pub fn push(&self, item: T) -> Result<(), T> {
        self.0.push(item)
    }
    /// The oldest item.
    pub fn pop(&self) -> Option<T> {
        self.0.pop()
    }
    /// Items waiting.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ring({}/{})", self.0.len(), self.0.capacity())
    }
}

/// Answers on their way home: a queue that cannot be full, since each item answers one that was
/// counted when it was sent. One task waits, any thread pushes.
#[derive(Debug, Default)]
pub struct Returns<T> {
    queue: SegQueue<T>,
    signal: Signal,
}

impl<T> Returns<T> {
    /// An empty queue.
    pub fn new() -> Self {
        Self { queue: SegQueue::new(), signal: Signal::default() }
    }
    /// Hands an answer over and wakes the reader.
    pub fn push(&self, item: T) {
        self.queue.push(item);
        self.signal.raise();
    }
    /// The oldest answer, without waiting.
    pub fn try_pop(&self) -> Option<T> {
        self.queue.pop()
    }
    /// Waits for the next push or nudge.
    pub async fn changed(&self) {
        self.signal.wait().await;
    }
    /// Wakes the reader without an answer.
    pub fn nudge(&self) {
        self.signal.raise();
    }
}
