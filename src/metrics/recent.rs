//! How a component's last tries to reach the other side went: for `/health`, which has no memory of its own.

use std::{collections::VecDeque, time::Duration};

use super::{Board, Standing, lock};
use crate::clock::Nanos;

/// Tries are counted in slots of so many nanoseconds, and so many of them are kept: five minutes.
const SLOT: Nanos = 10_000_000_000;
const SLOTS: u64 = 30;

/// Tries of one instance of a component.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Monotonic.
    last_good: Option<Nanos>,
    /// Number of the slot, good tries, bad tries; oldest first.
    slots: VecDeque<(u64, u64, u64)>,
}

/// Tries of the last five minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// Since the last good one, however long that is.
    pub last_good: Option<Duration>,
    pub good: u64,
    pub bad: u64,
}

impl Recent {
    fn tried(&mut self, is_good: bool, mono: Nanos) {
        let now = mono / SLOT;
        while self.slots.pop_front_if(|(slot, ..)| *slot + SLOTS <= now).is_some() {}
        if self.slots.back().is_none_or(|(slot, ..)| *slot != now) {
            self.slots.push_back((now, 0, 0));
        }
        if let Some((_, good, bad)) = self.slots.back_mut() {
            *if is_good { good } else { bad } += 1;
        }
        if is_good {
            self.last_good = Some(mono);
        }
    }

    fn tries(&self, mono: Nanos) -> Tries {
        let kept = self.slots.iter().filter(|(slot, ..)| slot + SLOTS > mono / SLOT);
        let (good, bad) = kept.fold((0, 0), |(good, bad), (_, more_good, more_bad)| (good + more_good, bad + more_bad));
        Tries { last_good: self.last_good.map(|at| Duration::from_nanos(mono.saturating_sub(at))), good, bad }
    }
}

impl Standing {
    /// Tells that the other side was asked for something, and whether it did it.
    ///
    /// - `mono`: monotonic now.
    pub fn tried(&self, is_good: bool, mono: Nanos) {
        lock(&self.row.recent).tried(is_good, mono);
    }
}

impl Board {
    /// Each component that ever tried, with the tries of all its instances.
    ///
    /// - `mono`: monotonic now.
    pub fn tries(&self, mono: Nanos) -> Vec<(String, Tries)> {
        let mut all: Vec<(String, Tries)> = Vec::new();
        for row in lock(&self.rows).iter() {
            let recent = lock(&row.recent);
            if recent.slots.is_empty() {
                continue;
            }
            let Tries { last_good, good, bad } = recent.tries(mono);
            match all.iter_mut().find(|(name, _)| *name == row.component) {
                Some((_, known)) => {
                    known.last_good = known.last_good.into_iter().chain(last_good).min();
                    (known.good, known.bad) = (known.good + good, known.bad + bad);
                }
                None => all.push((row.component.clone(), Tries { last_good, good, bad })),
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_of_five_minutes_are_told_of_all_instances() {
        let board = Board::default();
        let [one, two, _] = ["sinks.db", "sinks.db", "sinks.idle"].map(|name| board.enter(name));
        assert_eq!(board.tries(0), []);
        let minute = 60_000_000_000;
        one.tried(true, minute);
        one.tried(false, 2 * minute);
        two.tried(false, 3 * minute);
        let at = |mono| board.tries(mono)[0].1;
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(at(3 * minute), Tries { last_good: seconds(120), good: 1, bad: 2 });
        // The first slot ends five minutes after it began.
        assert_eq!(at(6 * minute - 1), Tries { last_good: Some(Duration::from_nanos(5 * minute - 1)), good: 1, bad: 2 });
        assert_eq!(at(6 * minute), Tries { last_good: seconds(300), good: 0, bad: 2 });
        two.tried(true, 20 * minute);
        assert_eq!(at(20 * minute), Tries { last_good: seconds(0), good: 1, bad: 0 });
        assert_eq!(board.tries(20 * minute).len(), 1);
    }
}
