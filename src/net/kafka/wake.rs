//! librdkafka's queue wakes a task: the one place of the crate with `unsafe`.
//!
//! rust-rdkafka offers this for consumers only. The callback may run on any of librdkafka's
//! threads while it holds its queue's lock, so it may wake and nothing else.

#![allow(unsafe_code)]

use std::{ffi::c_void, ops::Deref, sync::Arc};

use rdkafka::{
    bindings as sys,
    producer::{BaseProducer, Producer, ProducerContext},
};

use crate::ring::Signal;

/// A producer whose main queue raises a signal whenever it goes from empty to non-empty.
///
/// The event is an edge: whoever waits drains the queue to empty first.
pub(super) struct Woken<C: ProducerContext + 'static> {
    producer: BaseProducer<C>,
    /// Kept alive for the callback, which borrows it until `drop` has switched it off.
    signal: Arc<Signal>,
}

unsafe extern "C" fn on_nonempty(_: *mut sys::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: `opaque` is the `Signal` inside the `Arc` of a `Woken` that is alive: its `drop`
    // takes the callback away under the queue's lock, which librdkafka holds around this call, so
    // no call begins or goes on after that. `Signal` is `Sync`, and `raise` sets a flag and wakes
    // a task; it calls no librdkafka function, which would deadlock on that lock.
    unsafe { (*opaque.cast::<Signal>()).raise() }
}

impl<C: ProducerContext + 'static> Woken<C> {
    /// Raises `signal` from now on. Events that came before raise it once, here.
    pub(super) fn new(producer: BaseProducer<C>, signal: Arc<Signal>) -> Self {
        let woken = Self { producer, signal };
        woken.callback(Some(on_nonempty));
        woken.signal.raise();
        woken
    }

    fn callback(&self, call: Option<unsafe extern "C" fn(*mut sys::rd_kafka_t, *mut c_void)>) {
        let opaque = Arc::as_ptr(&self.signal).cast_mut().cast::<c_void>();
        // SAFETY: the client is alive while `self.producer` is; `get_main` takes a reference of
        // the queue, which is given back. `opaque` stays valid until `drop` has set the callback
        // to none: `self.signal` is dropped after that.
        unsafe {
            let queue = sys::rd_kafka_queue_get_main(self.producer.client().native_ptr());
            sys::rd_kafka_queue_cb_event_enable(queue, call, opaque);
            sys::rd_kafka_queue_destroy(queue);
        }
    }
}

impl<C: ProducerContext + 'static> Drop for Woken<C> {
    fn drop(&mut self) {
        self.callback(None);
    }
}

impl<C: ProducerContext + 'static> Deref for Woken<C> {
    type Target = BaseProducer<C>;
    fn deref(&self) -> &BaseProducer<C> {
        &self.producer
    }
}
