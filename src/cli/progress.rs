//! How far a long command is, on standard error.

#![allow(clippy::disallowed_methods, reason = "a person looks at a real clock")]

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

/// How far it is, on standard error.
pub(super) struct Progress {
    begun: Instant,
    told: Instant,
    is_terminal: bool,
    pub bytes_all: u64,
    calls: u64,
    /// Looks at the clock once in so many calls.
    pub calls_each: u64,
}

impl Progress {
    pub fn new(bytes_all: u64) -> Self {
        let now = Instant::now();
        Self { begun: now, told: now, is_terminal: io::stderr().is_terminal(), bytes_all, calls: 0, calls_each: 4096 }
    }

    /// Tells at most twice a second, to a file at most every ten seconds.
    pub fn tell(&mut self, what: &str, bytes: u64, taken: u64) {
        // A look at the clock for each attribute would cost more than reading it.
        self.calls = self.calls.wrapping_add(1);
        if self.calls.is_multiple_of(self.calls_each) {
            let percent = bytes.saturating_mul(100).checked_div(self.bytes_all).unwrap_or(100).min(100);
            self.say(&format!("{what} {percent} %, {taken} taken"));
        }
    }

    /// Says how far it is in words of the caller's, as often as [`Progress::tell`].
    pub fn say(&mut self, what: &str) {
        let every = if self.is_terminal { Duration::from_millis(500) } else { Duration::from_secs(10) };
        if self.told.elapsed() < every {
            return;
        }
        self.told = Instant::now();
        let line = format!("{what}, {} s", self.begun.elapsed().as_secs());
        if self.is_terminal {
            eprint!("\r{line}\u{1b}[K");
            let _ = io::stderr().flush();
        } else {
            eprintln!("{line}");
        }
    }

    pub fn end(&self) {
        if self.is_terminal {
            eprint!("\r\u{1b}[K");
        }
    }
}
