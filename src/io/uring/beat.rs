//! A timer against oversleeping.
//!
//! glommio 0.9 asks whether it should be preempted before it runs the first ready task; if so it
//! takes its queues for empty, and goes to sleep although tasks are ready (`run_task_queues`). That
//! takes an event of its latency ring at the wrong moment: a late write to its event descriptor by
//! a thread whose wake it has already seen, or an expired preemption timer. Whatever wakes it next
//! puts it right, so a timer bounds what the loss can cost: at an idle executor one beat a second,
//! at a busy one as many as it notices.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    time::Duration,
};

use glommio::timer::Timer;

use crate::limits;

/// Polls a second from which an executor counts as busy.
const BUSY_POLLS: u64 = 50;

/// Counts how often tasks are polled.
#[derive(Default)]
pub(super) struct Pulse(Cell<u64>);

impl Pulse {
    pub(super) fn count<T, F: Future<Output = T>>(self: &Rc<Self>, task: F) -> impl Future<Output = T> + use<T, F> {
        let pulse = self.clone();
        async move {
            let mut task = pin!(task);
            poll_fn(|cx| {
                pulse.0.set(pulse.0.get() + 1);
                task.as_mut().poll(cx)
            })
            .await
        }
    }
}

/// Wakes the executor now and then, for ever.
pub(super) async fn keep(pulse: Rc<Pulse>) {
    let (mut span, mut seen) = (limits::BEAT_MS_MIN, pulse.0.get());
    loop {
        Timer::new(Duration::from_millis(span)).await;
        let polls = pulse.0.get() - seen;
        seen += polls;
        span = next(span, polls);
    }
}

/// Milliseconds until the next beat, after one of `span` with so many polls.
fn next(span: u64, polls: u64) -> u64 {
    if polls * 1000 >= BUSY_POLLS * span { limits::BEAT_MS_MIN } else { (span * 4).min(limits::BEAT_MS_MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_are_rare_unless_there_is_work() {
        let mut spans = vec![limits::BEAT_MS_MIN];
        for _ in 0..4 {
            spans.push(next(spans[spans.len() - 1], 0));
        }
        assert_eq!(spans, [100, 400, 1000, 1000, 1000]);
        assert_eq!(next(1000, 3), 1000, "a stream looked at once a second is no work");
        assert_eq!(next(1000, 500), 100);
        assert_eq!(next(100, 10), 100);
    }
}
