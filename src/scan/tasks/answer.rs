//! An answer that comes later: to await, or to wait for.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// Why the store gave no answer. Nothing says then whether it was stored: ask again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Away {
    #[error("the task store is closed; the agent is ending")]
    Closed,
    #[error("the task store has {0} operations waiting; its disk does not keep up, see the log and free space or ask again later")]
    Busy(usize),
    #[error("the task store cannot use its disk; see the log and free space or mend it")]
    Disk,
    #[error("row {row} of the task store is not readable ({why}); stop the agent and run `shipper scan repair`")]
    Corrupt { row: String, why: String },
}

/// Comes after the commit. Dropped, the operation is done all the same.
pub struct Answer<T>(Arc<Slot<T>>);

struct Slot<T> {
    told: Mutex<Told<T>>,
    is_told: Condvar,
}

struct Told<T> {
    answer: Option<Result<T, Away>>,
    /// Also after it was taken.
    is_set: bool,
    waker: Option<Waker>,
}

/// The other end of an [`Answer`]. Dropped, it says that the store is closed.
pub(super) struct Promise<T>(Arc<Slot<T>>);

/// An answer and its other end.
pub(super) fn promise<T>() -> (Promise<T>, Answer<T>) {
    let slot = Arc::new(Slot { told: Mutex::new(Told { answer: None, is_set: false, waker: None }), is_told: Condvar::new() });
    (Promise(slot.clone()), Answer(slot))
}

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, Told<T>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Promise<T> {
    pub fn tell(self, answer: Result<T, Away>) {
        self.set(answer);
    }
    fn set(&self, answer: Result<T, Away>) {
        let mut told = self.0.lock();
        if std::mem::replace(&mut told.is_set, true) {
            return;
        }
        told.answer = Some(answer);
        let waker = told.waker.take();
        drop(told);
        self.0.is_told.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        self.set(Err(Away::Closed)); // says nothing after `tell`
    }
}

impl<T> Answer<T> {
    /// Blocks the thread until it is there. Not for threads with an executor.
    ///
    /// # Errors
    /// See [`Away`].
    pub fn wait(self) -> Result<T, Away> {
        let mut told = self.0.lock();
        loop {
            if let Some(answer) = told.answer.take() {
                return answer;
            }
            told = self.0.is_told.wait(told).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T> Future for Answer<T> {
    type Output = Result<T, Away>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut told = self.0.lock();
        match told.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                told.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer")
    }
}
