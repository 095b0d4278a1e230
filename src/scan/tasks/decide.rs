//! What comes after a task was lost: the table, without disk or clock.

use serde::{Deserialize, Serialize};

use super::{Limits, Nanos};

/// How a task came back without an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Its worker went away, or handed it back at a drain.
    Worker,
    /// Its lease ran out.
    Lease,
    /// Its worker would not have it: full, or an error of its own.
    Refused,
    Io,
    /// The file changed while it was read.
    Changed,
    /// The child that scanned it died.
    Child,
    /// It ran out of time.
    Timeout,
    /// The outcome was of other bytes than those handed out.
    WrongBytes,
}

impl Loss {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Lease => "lease",
            Self::Refused => "refused",
            Self::Io => "io",
            Self::Changed => "changed",
            Self::Child => "child",
            Self::Timeout => "timeout",
            Self::WrongBytes => "wrong_bytes",
        }
    }
}

/// Why nobody tries a task again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadReason {
    /// `attempts_max` starts without an outcome.
    Attempts,
    /// `poison_max` children died of it.
    Poison,
}

impl DeadReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Poison => "poison",
        }
    }
}

/// What a task has behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tries {
    /// Starts.
    pub attempt: u32,
    /// Handed back before a start, one after the other.
    pub refusals: u32,
    pub deaths: u32,
    pub timeouts: u32,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Waits again, until `at`.
    Again {
        at: Nanos,
    },
    Dead(DeadReason),
    /// Gets the outcome `error: timeout`.
    TimedOut,
}

/// Counts a loss, and says what comes next.
///
/// | loss                   | not started                 | started                                           |
/// |------------------------|-----------------------------|---------------------------------------------------|
/// | worker, refused        | at once, then each second   | after its backoff                                 |
/// | lease, wrong bytes     | counts as a start           | after its backoff                                 |
/// | io, changed            | counts as a start           | after its backoff                                 |
/// | child                  | counts as a start           | the second: dead, poison; else after its backoff  |
/// | timeout                | counts as a start           | the second, or the last attempt: `error: timeout` |
///
/// Whatever it was: with `attempts_max` starts behind it a task is dead.
pub(super) fn lost(tries: &mut Tries, loss: Loss, is_started: bool, limits: &Limits, now: Nanos) -> Next {
    if !is_started && matches!(loss, Loss::Worker | Loss::Refused) {
        tries.refusals = tries.refusals.saturating_add(1);
        let wait = if tries.refusals > 1 { 1_000_000_000 } else { 0 };
        return Next::Again { at: now.saturating_add(wait) };
    }
    if !is_started {
        tries.attempt = tries.attempt.saturating_add(1);
    }
    tries.refusals = 0;
    let is_last = tries.attempt >= limits.attempts_max;
    match loss {
        Loss::Child => {
            tries.deaths = tries.deaths.saturating_add(1);
            if tries.deaths >= limits.poison_max {
                return Next::Dead(DeadReason::Poison);
            }
        }
        Loss::Timeout => {
            tries.timeouts = tries.timeouts.saturating_add(1);
            if tries.timeouts > 1 || is_last {
                return Next::TimedOut;
            }
        }
        _ => {}
    }
    if is_last {
        return Next::Dead(DeadReason::Attempts);
    }
    let failed = usize::try_from(tries.attempt.saturating_sub(1)).unwrap_or(usize::MAX);
    let wait = limits.backoff.get(failed).or(limits.backoff.last()).copied().unwrap_or(0);
    Next::Again { at: now.saturating_add(wait) }
}
