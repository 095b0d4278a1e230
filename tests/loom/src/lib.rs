//! The waker's protocol under every order of its steps: no wake is lost, nothing is read too early.
//!
//! `src/ring/signal.rs` and `mailbox.rs` themselves run here, on loom's atomics. The queue inside a
//! ring is crossbeam's, which loom cannot see into: a locked one stands for it.

#![cfg(test)]

mod ring;

use loom::{
    future::block_on,
    model,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};
use ring::{Mailbox, Signal};

/// As `model`, with at most two involuntary switches in an order: all orders would take hours.
fn bounded(check: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(check);
}

#[test]
fn a_raise_before_during_or_after_the_wait_ends_it() {
    model(|| {
        let signal = Arc::new(Signal::default());
        let raiser = signal.clone();
        let thread = thread::spawn(move || raiser.raise());
        block_on(signal.wait());
        thread.join().unwrap();
    });
}

#[test]
fn what_was_written_before_the_raise_is_seen_after_the_wait() {
    model(|| {
        let shared = Arc::new((Signal::default(), AtomicU32::new(0)));
        let writer = shared.clone();
        let thread = thread::spawn(move || {
            writer.1.store(7, Ordering::Relaxed);
            writer.0.raise();
        });
        block_on(shared.0.wait());
        // Relaxed: only the signal's own ordering makes this the value that was written.
        assert_eq!(shared.1.load(Ordering::Relaxed), 7);
        thread.join().unwrap();
    });
}

#[test]
fn two_raises_wake_at_least_once_and_the_last_one_is_never_lost() {
    bounded(|| {
        let shared = Arc::new((Signal::default(), AtomicU32::new(0)));
        let threads = [1, 2].map(|bit| {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.1.fetch_or(bit, Ordering::Relaxed);
                shared.0.raise();
            })
        });
        while shared.1.load(Ordering::Relaxed) != 3 {
            block_on(shared.0.wait());
        }
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_mailbox_gives_all_that_was_pushed_then_ends() {
    bounded(|| {
        let mailbox = Mailbox::new(2);
        let pusher = mailbox.clone();
        let thread = thread::spawn(move || {
            pusher.push(1).unwrap();
            pusher.push(2).unwrap();
            pusher.close();
        });
        block_on(async {
            assert_eq!(mailbox.pop().await, Some(1));
            assert_eq!(mailbox.pop().await, Some(2));
            assert_eq!(mailbox.pop().await, None);
        });
        thread.join().unwrap();
    });
}

#[test]
fn two_threads_push_and_one_task_takes_both() {
    bounded(|| {
        let mailbox = Mailbox::new(2);
        let threads = [1, 2].map(|item| {
            let mailbox = mailbox.clone();
            thread::spawn(move || mailbox.push(item).unwrap())
        });
        let sum = block_on(async { mailbox.pop().await.unwrap() + mailbox.pop().await.unwrap() });
        assert_eq!(sum, 3);
        for thread in threads {
            thread.join().unwrap();
        }
    });
}
