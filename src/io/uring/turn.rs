//! Looking beyond the tasks of one's own thread while they are busy.
//!
//! glommio looks at its ring, its timers and the wakes from other threads when no task is ready, or
//! when its preemption timer says so. That timer is not used ([`beat`](super::beat)), so once in a
//! while every task that pauses steps aside until the executor has looked.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    time::Duration,
};

use glommio::timer::Timer;

use crate::{clock::Clock, limits};

/// The shortest wait that a timer still takes for one: of none at all it says at once that it is
/// over. It has passed by the time the executor looks.
const ASIDE: Duration = Duration::from_micros(1);

/// When the executor last looked.
#[derive(Default)]
pub(super) struct Turn {
    /// Monotonic nanoseconds.
    last: Cell<u64>,
    /// A look is wanted: until then all pausing tasks step aside, or one would keep it from coming.
    due: Cell<bool>,
}

impl Turn {
    /// Lets other tasks run, and once in [`limits::TURN_MS`] the executor itself.
    pub(super) async fn pause(&self, clock: &dyn Clock) {
        if clock.mono().saturating_sub(self.last.get()) >= limits::TURN_MS * 1_000_000 {
            self.due.set(true);
        }
        if self.due.get() && step_aside().await {
            self.due.set(false);
            self.last.set(clock.mono());
        } else {
            glommio::executor().yield_now().await;
        }
    }
}

/// Waits for the executor to look; false if the wait was over before it began.
async fn step_aside() -> bool {
    let mut timer = pin!(Timer::new(ASIDE));
    let mut waited = false;
    poll_fn(|cx| {
        let polled = timer.as_mut().poll(cx).map(drop);
        waited |= polled.is_pending();
        polled
    })
    .await;
    waited
}
