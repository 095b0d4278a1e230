//! A circuit breaker: stops asking someone who does not answer, and finds out when he is back. Pure.

use std::{collections::VecDeque, time::Duration};

use super::backoff::Backoff;
use crate::clock::{Nanos, nanos};

/// Parts of the window in which shares are counted.
const SLICES: u64 = 10;

/// When it opens and how it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Failures in a row that open it.
    pub failures: u32,
    /// Percent of failed calls within the window that open it; above 100 it never does.
    pub share: u32,
    /// Calls within the window below which the share says nothing.
    pub calls_min: u32,
    pub window: Duration,
    /// The first wait; doubled at each failed trial.
    pub wait: Duration,
    pub wait_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let (wait, wait_max) = (Duration::from_secs(1), Duration::from_secs(60));
        Self { failures: 5, share: 50, calls_min: 20, window: Duration::from_secs(30), wait, wait_max }
    }
}

/// What a call was allowed in; it is handed back with the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// Whether a call may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Pass(Ticket),
    /// Not before this time.
    Until(Nanos),
    /// One call is out to try; its outcome decides.
    Trial,
}

/// The breaker.
///
/// | state  | outcome                      | becomes                                  |
/// |--------|------------------------------|------------------------------------------|
/// | closed | failure below both limits    | closed                                   |
/// | closed | failure that reaches a limit | open for the first wait                  |
/// | open   | its wait is over             | trial: one call passes                   |
/// | trial  | its call failed              | open for twice the wait, up to the most  |
/// | open, trial | failure of an older call | unchanged: it was counted by opening    |
/// | any    | success                      | closed, waits begin anew                 |
#[derive(Clone, Debug)]
pub struct Breaker {
    limits: Limits,
    backoff: Backoff,
    state: State,
    /// Which opening this is; calls of an earlier one say nothing new by failing.
    generation: u64,
    in_a_row: u32,
    slices: VecDeque<Slice>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Nanos },
    Trial,
}

#[derive(Clone, Copy, Debug)]
struct Slice {
    number: u64,
    good: u32,
    bad: u32,
}

impl Breaker {
    /// A closed one.
    pub fn new(limits: Limits) -> Self {
        let backoff = Backoff::new(limits.wait, limits.wait_max);
        Self { limits, backoff, state: State::Closed, generation: 0, in_a_row: 0, slices: VecDeque::new() }
    }

    /// Asks to begin a call. After [`Gate::Pass`] the outcome must be told.
    pub fn gate(&mut self, now: Nanos) -> Gate {
        match self.state {
            State::Closed => Gate::Pass(Ticket(self.generation)),
            State::Open { until } if now < until => Gate::Until(until),
            State::Open { .. } => {
                self.state = State::Trial;
                Gate::Pass(Ticket(self.generation))
            }
            State::Trial => Gate::Trial,
        }
    }

    /// A call went well, or failed for a reason that shows the other side alive.
    pub fn succeeded(&mut self, now: Nanos) {
        if self.state != State::Closed {
            self.slices.clear();
        }
        self.state = State::Closed;
        self.in_a_row = 0;
        self.backoff.reset();
        self.slice(now).good += 1;
    }

    /// A call failed. Returns true if this opened the breaker.
    ///
    /// - `roll`: a random number, for jitter.
    pub fn failed(&mut self, now: Nanos, ticket: Ticket, roll: u64) -> bool {
        if ticket.0 != self.generation {
            return false;
        }
        self.slice(now).bad += 1;
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.state == State::Closed && self.in_a_row < self.limits.failures && !self.share_is_reached() {
            return false;
        }
        self.generation += 1;
        self.in_a_row = 0;
        self.slices.clear();
        self.state = State::Open { until: now.saturating_add(self.backoff.wait(roll)) };
        true
    }

    /// A call was given up without an outcome.
    pub fn abandoned(&mut self, now: Nanos, ticket: Ticket) {
        if ticket.0 == self.generation && self.state == State::Trial {
            self.state = State::Open { until: now };
        }
    }

    /// True while calls pass without a trial.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    fn share_is_reached(&self) -> bool {
        let (good, bad) = self.slices.iter().fold((0u64, 0u64), |(good, bad), s| (good + u64::from(s.good), bad + u64::from(s.bad)));
        let all = good + bad;
        all >= u64::from(self.limits.calls_min.max(1)) && bad * 100 >= u64::from(self.limits.share) * all
    }

    /// The slice of now; those that have left the window are let go.
    fn slice(&mut self, now: Nanos) -> &mut Slice {
        let number = now / (nanos(self.limits.window) / SLICES).max(1);
        while self.slices.front().is_some_and(|first| first.number + SLICES <= number) {
            self.slices.pop_front();
        }
        if self.slices.back().is_none_or(|last| last.number < number) {
            self.slices.push_back(Slice { number, good: 0, bad: 0 });
        }
        let last = self.slices.len() - 1;
        &mut self.slices[last]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: Nanos = 1_000_000_000;

    fn pass(breaker: &mut Breaker, now: Nanos) -> Ticket {
        match breaker.gate(now) {
            Gate::Pass(ticket) => ticket,
            other => panic!("{other:?} at {now}"),
        }
    }

    fn fail(breaker: &mut Breaker, now: Nanos) -> bool {
        let ticket = pass(breaker, now);
        breaker.failed(now, ticket, 0)
    }

    #[test]
    fn failures_in_a_row_open_it_and_each_failed_trial_doubles_the_wait() {
        let mut breaker = Breaker::new(Limits { failures: 3, ..Limits::default() });
        assert_eq!([false, false, true], std::array::from_fn(|_| fail(&mut breaker, S)));
        let mut now = S;
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(breaker.gate(now), Gate::Until(now + wait * S));
            now += wait * S;
            let trial = pass(&mut breaker, now);
            assert_eq!(breaker.gate(now), Gate::Trial, "one at a time");
            assert!(breaker.failed(now, trial, 0));
        }
        now += 60 * S;
        pass(&mut breaker, now);
        breaker.succeeded(now);
        assert!(breaker.is_closed());
        assert_eq!([false, false, true], std::array::from_fn(|_| fail(&mut breaker, now)));
        assert_eq!(breaker.gate(now), Gate::Until(now + S), "waits begin anew");
    }

    #[test]
    fn a_success_resets_the_count() {
        let mut breaker = Breaker::new(Limits { failures: 3, ..Limits::default() });
        for _ in 0..5 {
            assert!(!fail(&mut breaker, S) && !fail(&mut breaker, S));
            breaker.succeeded(S);
        }
    }

    #[test]
    fn a_share_opens_it_though_no_row_is_long() {
        let mut breaker = Breaker::new(Limits { failures: 100, share: 50, calls_min: 20, ..Limits::default() });
        let opened = (0..20).find(|_| {
            breaker.succeeded(S);
            fail(&mut breaker, S)
        });
        assert_eq!(opened, Some(9), "the twentieth call is the tenth failure");
    }

    #[test]
    fn old_calls_that_fail_do_not_lengthen_the_wait() {
        let mut breaker = Breaker::new(Limits { failures: 1, ..Limits::default() });
        let [one, two] = std::array::from_fn(|_| pass(&mut breaker, S));
        assert!(breaker.failed(S, one, 0));
        assert!(!breaker.failed(S, two, 0));
        assert_eq!(breaker.gate(S), Gate::Until(2 * S));
    }

    #[test]
    fn a_trial_that_is_given_up_lets_the_next_one_pass() {
        let mut breaker = Breaker::new(Limits { failures: 1, ..Limits::default() });
        fail(&mut breaker, 0);
        let trial = pass(&mut breaker, 5 * S);
        breaker.abandoned(5 * S, trial);
        pass(&mut breaker, 5 * S);
    }

    mod naive {
        use super::*;

        /// Keeps every outcome since it last closed, and counts anew each time.
        pub fn opens(outcomes: &[(Nanos, bool)], limits: &Limits) -> bool {
            let Some((now, _)) = outcomes.last() else { return false };
            let row = outcomes.iter().rev().take_while(|(_, good)| !good).count();
            let slice = nanos(limits.window) / SLICES;
            let recent: Vec<_> = outcomes.iter().filter(|(at, _)| at / slice + SLICES > now / slice).collect();
            let bad = recent.iter().filter(|(_, good)| !good).count();
            let share = recent.len() >= limits.calls_min as usize && bad * 100 >= recent.len() * limits.share as usize;
            row >= limits.failures as usize || share
        }
    }

    proptest! {
        #[test]
        fn it_opens_when_counting_everything_says_so(
            steps in prop::collection::vec((0u64..8, any::<bool>()), 1..80),
            failures in 1u32..6, share in 1u32..120, calls_min in 1u32..8,
        ) {
            let limits = Limits { failures, share, calls_min, ..Limits::default() };
            let mut breaker = Breaker::new(limits);
            let (mut now, mut outcomes) = (0, Vec::new());
            for (step, good) in steps {
                now += step * S;
                let ticket = match breaker.gate(now) {
                    Gate::Pass(ticket) => ticket,
                    Gate::Until(at) => { now = at; pass(&mut breaker, at) }
                    Gate::Trial => unreachable!("every call has its outcome at once"),
                };
                let was_trial = !breaker.is_closed();
                if good {
                    if was_trial { outcomes.clear(); }
                    breaker.succeeded(now);
                    outcomes.push((now, true));
                    prop_assert!(breaker.is_closed());
                } else {
                    outcomes.push((now, false));
                    let opens = was_trial || naive::opens(&outcomes, &limits);
                    prop_assert_eq!(breaker.failed(now, ticket, 0), opens);
                    if opens { outcomes.clear(); }
                }
            }
        }
    }
}
