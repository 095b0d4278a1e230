//! A ring that one task waits for.

use super::{
    Ring, Signal,
    sync::{Arc, AtomicBool, Ordering},
};

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
