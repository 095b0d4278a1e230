//! The modules of shipper, with loom's parts in the places of the standard library's and crossbeam's.

#[path = "../../../src/ring/mailbox.rs"]
mod mailbox;
#[path = "../../../src/ring/signal.rs"]
mod signal;

pub use mailbox::Mailbox;
pub use signal::Signal;

pub mod sync {
    use std::task::Waker;

    pub use loom::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    /// `atomic_waker`'s face on loom's waker.
    #[derive(Debug, Default)]
    pub struct AtomicWaker(loom::future::AtomicWaker);

    impl AtomicWaker {
        pub fn register(&self, waker: &Waker) {
            self.0.register_by_ref(waker);
        }
        pub fn wake(&self) {
            self.0.wake();
        }
    }
}

/// Stands for crossbeam's queue.
#[derive(Debug)]
pub struct Ring<T>(loom::sync::Mutex<Vec<T>>, usize);

impl<T> Ring<T> {
    pub fn new(slots: usize) -> Self {
        Self(loom::sync::Mutex::new(Vec::new()), slots)
    }
    pub fn push(&self, item: T) -> Result<(), T> {
        let mut items = self.0.lock().unwrap();
        if items.len() == self.1 {
            return Err(item);
        }
        items.push(item);
        Ok(())
    }
    pub fn pop(&self) -> Option<T> {
        let mut items = self.0.lock().unwrap();
        (!items.is_empty()).then(|| items.remove(0))
    }
    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
