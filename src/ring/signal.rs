//! One waiting task, woken by any thread.

use std::{future::poll_fn, task::Poll};

use super::sync::{AtomicBool, AtomicWaker, Ordering};

/// Says "look again" to one waiting task; repeated signals before it looks are one.
#[derive(Debug, Default)]
pub struct Signal {
    raised: AtomicBool,
    waker: AtomicWaker,
}

impl Signal {
    /// Raises the signal. Callable from any thread, also from librdkafka's.
    pub fn raise(&self) {
        // Release: what was written before the signal is seen by the Acquire in `take`. A swap and no
        // store: of two that raise at once, both are seen by who takes the later one.
        self.raised.swap(true, Ordering::Release);
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
        // Acquire: pairs with the Release in `raise`. The load spares a write to a line that others read.
        self.raised.load(Ordering::Relaxed) && self.raised.swap(false, Ordering::Acquire)
    }

    /// The waker's cell, for foreign callbacks that can only wake.
    pub fn waker(&self) -> &AtomicWaker {
        &self.waker
    }
}
