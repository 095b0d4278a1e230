//! Counters, and how components stand.
//!
//! Counters are shared atomics, added to once per batch or per rare event, read when scraped.
//! [`Board`] shows every component's standing: what `/health`, the log and source `agent` tell.
//!
//! The law of accounting and its counters are in [`counts`].
//!
//! Refuses to know what is counted.

pub mod counts;
pub mod progress;

pub use counts::{BranchCounts, Metrics, Reasons, SourceCounts};
pub use progress::{Behind, Progress};

use std::{
    fmt,
    sync::{Arc, Mutex, atomic::AtomicU64},
};

use prometheus_client::{encoding::EncodeLabelSet, metrics::counter::Counter, metrics::family::Family};

/// A monotonic count.
pub type Count = Counter<u64, AtomicU64>;

/// Name and value of each label, in a fixed order.
pub type Labels = Vec<(&'static str, String)>;

/// A family of counts that differ in their labels.
pub type Counts = Family<Labels, Count>;

/// How a component stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Not yet connected or opened.
    Starting,
    /// It works.
    Ready,
    /// The other side is away; it tries on.
    Retrying(String),
    /// Configuration or credential is refused; nothing is admitted until it is mended.
    Holding(String),
}

impl State {
    /// Every word that [`word`](Self::word) can give.
    pub const WORDS: [&str; 4] = ["starting", "ready", "retrying", "holding"];

    /// The state in one word, for a label or a colour.
    pub fn word(&self) -> &'static str {
        let [starting, ready, retrying, holding] = Self::WORDS;
        match self {
            State::Starting => starting,
            State::Ready => ready,
            State::Retrying(_) => retrying,
            State::Holding(_) => holding,
        }
    }
    /// How bad it is: of several instances of a component the worst counts.
    fn rank(&self) -> u8 {
        match self {
            State::Ready => 0,
            State::Starting => 1,
            State::Retrying(_) => 2,
            State::Holding(_) => 3,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Starting => f.write_str("starting"),
            State::Ready => f.write_str("ready"),
            State::Retrying(why) => write!(f, "retrying: {why}"),
            State::Holding(why) => write!(f, "holding: {why}"),
        }
    }
}

/// Every component's standing.
#[derive(Clone, Debug, Default)]
pub struct Board {
    rows: Arc<Mutex<Vec<(String, State)>>>,
    changes: Arc<Mutex<Vec<Change>>>,
    dropped: Counts,
}

/// A standing that changed: what source `agent` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `sinks.dfn_cert`
    pub component: String,
    pub before: State,
    pub now: State,
}

/// One component's place on the board.
#[derive(Clone, Debug)]
pub struct Standing {
    board: Board,
    row: usize,
}

impl Board {
    /// A row for `component` (`sinks.dfn_cert`), starting.
    pub fn enter(&self, component: impl Into<String>) -> Standing {
        let mut rows = self.rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        rows.push((component.into(), State::Starting));
        Standing { board: self.clone(), row: rows.len() - 1 }
    }
    /// All rows now.
    pub fn rows(&self) -> Vec<(String, State)> {
        self.rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
    /// Each component once, in the order of entering, with the worst state of its instances: a sink
    /// may run on several shards.
    pub fn standings(&self) -> Vec<(String, State)> {
        let mut all: Vec<(String, State)> = Vec::new();
        for (component, state) in self.rows() {
            match all.iter_mut().find(|(name, _)| *name == component) {
                Some((_, worst)) if state.rank() > worst.rank() => *worst = state,
                Some(_) => {}
                None => all.push((component, state)),
            }
        }
        all
    }
    /// Messages that components let go on purpose: a sink that is not required, by age or room.
    pub fn dropped(&self) -> &Counts {
        &self.dropped
    }
    /// Changes since the last call.
    pub fn take_changes(&self) -> Vec<Change> {
        std::mem::take(&mut self.changes.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Standing {
    /// Sets how the component stands, and logs a change once.
    pub fn set(&self, state: State) {
        let mut rows = self.board.rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (component, current) = &mut rows[self.row];
        if *current == state {
            return;
        }
        match &state {
            State::Starting | State::Ready => tracing::info!(component, state = %state, "component"),
            State::Retrying(_) => tracing::warn!(component, state = %state, "component"),
            State::Holding(_) => tracing::error!(component, state = %state, "component"),
        }
        let before = std::mem::replace(current, state.clone());
        let change = Change { component: component.clone(), before, now: state };
        drop(rows);
        self.board.changes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(change);
    }
    /// Counts messages that this component let go on purpose, by reason (`too_old`, `inbox_full`).
    pub fn dropped(&self, reason: &'static str, messages: u64) {
        let component = {
            let rows = self.board.rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            rows[self.row].0.clone()
        };
        self.board.dropped.get_or_create_owned(&labels([("component", &component), ("reason", reason)])).inc_by(messages);
    }
    /// How it stands now.
    pub fn get(&self) -> State {
        self.board.rows()[self.row].1.clone()
    }
}

/// Makes a label set; `EncodeLabelSet` is prometheus-client's word for it.
pub fn labels<const N: usize>(pairs: [(&'static str, &str); N]) -> Labels
where
    Labels: EncodeLabelSet,
{
    pairs.into_iter().map(|(name, value)| (name, value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_instances_the_worst_counts() {
        let board = Board::default();
        let [one, two, other] = ["sinks.out", "sinks.out", "sinks.nothing"].map(|name| board.enter(name));
        one.set(State::Ready);
        other.set(State::Ready);
        let words = || board.standings().into_iter().map(|(name, state)| format!("{name} {}", state.word())).collect::<Vec<_>>();
        assert_eq!(words(), ["sinks.out starting", "sinks.nothing ready"]);
        two.set(State::Holding("refused".into()));
        one.set(State::Retrying("away".into()));
        assert_eq!(words(), ["sinks.out holding", "sinks.nothing ready"]);
        two.set(State::Ready);
        assert_eq!(words(), ["sinks.out retrying", "sinks.nothing ready"]);
    }
}
