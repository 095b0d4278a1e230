//! One answer that comes later, for threads and for tasks.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// Waits for an answer: a future, and [`Answer::wait`] for threads.
pub struct Answer<T>(Arc<Slot<T>>);

/// The other end. Dropped, it gives the answer that it was made with.
pub(super) struct Promise<T> {
    slot: Arc<Slot<T>>,
    unkept: Option<T>,
}

struct Slot<T> {
    told: Mutex<Told<T>>,
    is_told: Condvar,
}

struct Told<T> {
    answer: Option<T>,
    waker: Option<Waker>,
    /// A thread waits.
    is_awaited: bool,
}

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, Told<T>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer and its other end.
///
/// - `unkept`: the answer if nobody gives one.
pub(super) fn promise<T>(unkept: T) -> (Promise<T>, Answer<T>) {
    let slot = Arc::new(Slot { told: Mutex::new(Told { answer: None, waker: None, is_awaited: false }), is_told: Condvar::new() });
    (Promise { slot: slot.clone(), unkept: Some(unkept) }, Answer(slot))
}

impl<T> Promise<T> {
    pub(super) fn keep(mut self, answer: T) {
        self.unkept = Some(answer);
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let mut told = self.slot.lock();
        told.answer = self.unkept.take();
        let (waker, is_awaited) = (told.waker.take(), told.is_awaited);
        drop(told);
        if is_awaited {
            self.slot.is_told.notify_all();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Answer<T> {
    /// Blocks this thread; not for executors.
    pub fn wait(self) -> T {
        let mut told = self.0.lock();
        loop {
            match told.answer.take() {
                Some(answer) => return answer,
                None => {
                    told.is_awaited = true;
                    told = self.0.is_told.wait(told).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl<T> Future for Answer<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_promise_is_answered() {
        let (promise, answer) = promise_pair();
        promise.keep(2);
        assert_eq!(answer.wait(), 2);
        let (promise, answer) = promise_pair();
        let waiting = std::thread::spawn(move || answer.wait());
        drop(promise);
        assert_eq!(waiting.join().unwrap(), 1);
        let (promise, answer) = promise_pair();
        let waiting = std::thread::spawn(move || tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(answer));
        promise.keep(3);
        assert_eq!(waiting.join().unwrap(), 3);
    }

    fn promise_pair() -> (Promise<i32>, Answer<i32>) {
        promise(1)
    }
}
