//! Sources that should have brought something, and did not.
//!
//! A writer that was switched off looks just like peace: nothing fails, nothing lags. Where the config says how
//! often records are to be expected (`expect_events_every`), a longer silence is trouble of its own, under the name
//! `sources.NAME.events`: it waits for a person, so it holds, which `/health`, the log and source `agent` tell.

use std::{rc::Rc, sync::Arc, time::Duration};

use super::Plan;
use crate::{
    clock::{Clock, Nanos},
    io::Io,
    metrics::{Board, Metrics, Progress, Standing, State},
};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One source that should not be silent.
struct Expected {
    every: Duration,
    progress: Arc<Progress>,
    standing: Standing,
}

/// Listens for silence in a running agent.
pub struct Listener {
    sources: Vec<Expected>,
    /// Monotonic.
    begun: Nanos,
}

impl Listener {
    /// Begins to listen; `None` if no source says how often records are to be expected.
    pub fn start(plan: &Plan, board: &Board, metrics: &Metrics, clock: &dyn Clock) -> Option<Self> {
        let expected = plan.sources.iter().filter_map(|source| {
            let standing = || {
                let standing = board.enter(format!("sources.{}.events", source.name));
                standing.set(State::Ready);
                standing
            };
            source.expects.map(|every| Expected { every, progress: metrics.source(&source.name).progress, standing: standing() })
        });
        let sources: Vec<Expected> = expected.collect();
        (!sources.is_empty()).then(|| Self { sources, begun: clock.mono() })
    }

    /// Goes on until the thread ends.
    pub async fn listen(self, io: Rc<dyn Io>) {
        loop {
            io.sleep(LOOK_EVERY).await;
            self.look(io.clock().mono());
        }
    }

    fn look(&self, mono: Nanos) {
        for Expected { every, progress, standing } in &self.sources {
            let silent = progress.silent(self.begun, mono);
            // Set once, so that the text does not change with every second.
            match (silent >= *every, standing.get()) {
                (true, State::Ready) => standing.set(State::Holding(told(*every))),
                (false, State::Holding(_)) => standing.set(State::Ready),
                _ => {}
            }
        }
    }
}

fn told(every: Duration) -> String {
    format!(
        "no record came for {} s, and expect_events_every says that one should; see whether its writer runs and still writes there, or raise expect_events_every",
        every.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_told_once_and_its_end() {
        const SECOND: Nanos = 1_000_000_000;
        let board = Board::default();
        let standing = board.enter("sources.audit.events");
        standing.set(State::Ready);
        let progress = Arc::new(Progress::default());
        let expected = Expected { every: Duration::from_secs(60), progress: progress.clone(), standing: standing.clone() };
        let listener = Listener { sources: vec![expected], begun: 10 * SECOND };
        let stands = |at: Nanos| {
            listener.look(at);
            standing.get().word()
        };
        assert_eq!(stands(69 * SECOND), "ready", "from our start on");
        assert_eq!(stands(70 * SECOND), "holding");
        let text = standing.get().to_string();
        assert_eq!((stands(500 * SECOND), standing.get().to_string()), ("holding", text));
        progress.came(500 * SECOND);
        assert_eq!((stands(501 * SECOND), stands(559 * SECOND), stands(560 * SECOND)), ("ready", "ready", "holding"));
    }
}
