//! Where threads meet: bounded, lock-free hand-over with at most one wake outstanding.
//!
//! What crosses is a whole slab or batch, never a record. A [`Ring`] is a queue without a waker;
//! a [`Signal`] is a waker without a queue; [`Mailbox`] is both. Foreign threads wake a shard only
//! through an `AtomicWaker`: many wakes before the task has looked are one.
//!
//! Invariant: whoever pushes, signals after the push; whoever waits, registers before it looks
//! again.

use std::{
    fmt,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use atomic_waker::AtomicWaker;
use crossbeam::queue::{ArrayQueue, SegQueue};

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

/// Says "look again" to one waiting task; repeated signals before it looks are one.
#[derive(Debug, Default)]
pub struct Signal {
    raised: AtomicBool,
    waker: AtomicWaker,
}

impl Signal {
    /// Raises the signal. Callable from any thread, also from librdkafka's.
    pub fn raise(&self) {
        // Release: what was written before the signal is seen by the Acquire in `wait`.
        self.raised.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Waits until the signal is raised, and lowers it. One task at a time may wait.
    pub async fn wait(&self) {
        poll_fn(|cx| {
            if self.take() {
                return Poll::Ready(());
            }
            self.waker.register(cx.waker());
            // Again after registering: a raise between the two would find no waker.
            if self.take() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Lowers the signal; true if it was raised.
    pub fn take(&self) -> bool {
        // Acquire: pairs with the Release in `raise`.
        self.raised.swap(false, Ordering::Acquire)
    }

    /// The waker's cell, for foreign callbacks that can only wake.
    pub fn waker(&self) -> &AtomicWaker {
        &self.waker
    }
}

/// A ring with a signal: one task waits for what any thread pushes.
#[derive(Debug)]
pub struct Mailbox<T> {
    ring: Ring<T>,
    signal: Signal,
    closed: AtomicBool,
}

impl<T> Mailbox<T> {
    /// A mailbox of `slots` places.
    pub fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self { ring: Ring::new(slots), signal: Signal::default(), closed: AtomicBool::new(false) })
    }
    /// Hands `item` over and wakes the reader.
    ///
    /// # Errors
    /// The item itself if the mailbox is full.
    pub fn push(&self, item: T) -> Result<(), T> {
        self.ring.push(item)?;
        self.signal.raise();
        Ok(())
    }
    /// The oldest item, without waiting.
    pub fn try_pop(&self) -> Option<T> {
        self.ring.pop()
    }
    /// The oldest item; `None` once the mailbox is closed and empty.
    pub async fn pop(&self) -> Option<T> {
        loop {
            if let Some(item) = self.ring.pop() {
                return Some(item);
            }
            if self.closed.load(Ordering::Acquire) {
                return self.ring.pop();
            }
            self.signal.wait().await;
        }
    }
    /// Nothing more will be pushed: the reader ends when it has emptied the ring.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.signal.raise();
    }
    /// True after [`close`](Self::close).
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
    /// Items waiting.
    pub fn len(&self) -> usize {
        self.ring.len()
    }
    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }
    /// Wakes the reader without handing anything over.
    pub fn nudge(&self) {
        self.signal.raise();
    }
    /// Waits for the next push, close or nudge.
    pub async fn changed(&self) {
        self.signal.wait().await;
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
