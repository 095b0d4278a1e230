//! What happens to components, gathered for those who listen: source `agent`.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, PoisonError},
};

use super::{State, Words};
use crate::limits;

/// A standing that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which row of the board: a sink that runs on several shards has one for each.
    pub row: u64,
    /// `sinks.dfn_cert`
    pub component: String,
    pub before: State,
    pub now: State,
    /// Most messages held since it stood well, where the component tells.
    pub held: u64,
    pub words: Words,
}

/// Messages that a component let go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    pub component: String,
    pub reason: &'static str,
    pub messages: u64,
}

/// What was gathered since the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// In order.
    pub changes: VecDeque<Change>,
    /// One for each component and reason.
    pub losses: Vec<Loss>,
    /// Changes that found no room: the oldest went first.
    pub overflow: u64,
}

/// One who listens to a board.
pub struct Listener {
    news: Mutex<News>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Listener {
    pub(super) fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self { news: Mutex::default(), wake: Box::new(wake) }
    }

    /// The news since the last call.
    pub fn take(&self) -> News {
        std::mem::take(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn changed(&self, change: Change) {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        if news.changes.len() >= limits::NEWS_MAX {
            news.changes.pop_front();
            news.overflow += 1;
        }
        news.changes.push_back(change);
        drop(news);
        (self.wake)();
    }

    pub(super) fn lost(&self, component: &str, reason: &'static str, messages: u64) {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        match news.losses.iter_mut().find(|loss| loss.component == component && loss.reason == reason) {
            // Who listens has been woken for it already.
            Some(loss) => loss.messages += messages,
            None => {
                news.losses.push(Loss { component: component.to_owned(), reason, messages });
                drop(news);
                (self.wake)();
            }
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;
    use crate::metrics::Board;

    #[test]
    fn news_are_gathered_only_while_somebody_listens_and_never_without_bound() {
        let board = Board::default();
        let (early, late) = (board.enter("sinks.early"), board.enter("sinks.late"));
        early.set(State::Retrying("away".into()));
        early.holds(7);
        let woken = Arc::new(AtomicU32::new(0));
        let counted = woken.clone();
        let listener = board.listen(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let news = listener.take();
        assert_eq!(news.changes.len(), 1, "who is in trouble already is told");
        assert_eq!((news.changes[0].component.as_str(), news.changes[0].held), ("sinks.early", 7));

        late.dropped("too_old", 2);
        late.dropped("too_old", 3);
        early.holds(4);
        early.set(State::Ready);
        early.holds(9);
        let news = listener.take();
        assert_eq!(news.losses, [Loss { component: "sinks.late".into(), reason: "too_old", messages: 5 }]);
        assert_eq!((news.changes[0].held, &news.changes[0].now), (7, &State::Ready), "the most that it held");
        assert_eq!(woken.load(Ordering::Relaxed), 3, "one for the trouble, one for the loss, one for its end");

        for n in 0..=limits::NEWS_MAX {
            late.set(State::Retrying(n.to_string()));
        }
        let news = listener.take();
        assert_eq!((news.changes.len(), news.overflow), (limits::NEWS_MAX, 1));
        assert_eq!(news.changes[0].now, State::Retrying("1".into()), "the oldest went first");
        drop(listener);
        late.set(State::Ready);
        assert_eq!(board.listen(|| ()).take(), News::default());
        let listener = board.listen(|| ());
        early.set(State::Holding("refused".into()));
        assert_eq!(listener.take().changes[0].held, 0, "what it had under way while it stood well is not held");
    }
}
