//! Numbers and spans as flags take them, and figures as people and programs read them.

use std::time::{Duration, Instant};

use serde::Serialize;
use shipper::{
    io,
    register::section::{parse_bytes, parse_span},
    synth::Mix,
};

/// `250`, `20K`, `1M`, `64 MiB`.
pub fn number(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 1_000),
        Some(b'M') => (&text[..text.len() - 1], 1_000_000),
        Some(b'G') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    let plain = digits.trim().parse::<u64>().ok().and_then(|n| n.checked_mul(factor));
    plain.or_else(|| parse_bytes(text)).ok_or_else(|| format!("{text:?} is no number; write 1000, 20K, 1M or 64 MiB"))
}

/// `10s`, `1m 30s`.
pub fn span(text: &str) -> Result<Duration, String> {
    parse_span(text).ok_or_else(|| format!("{text:?} is no span of time; write 10s, 500ms or 1m"))
}

/// The name of a mix.
pub fn mix(text: &str) -> Result<Mix, String> {
    let known = || Mix::ALL.map(|(name, _)| name).join(", ");
    Mix::ALL.iter().find(|(name, _)| *name == text).map(|(_, mix)| *mix).ok_or_else(|| format!("no mix {text:?}; known: {}", known()))
}

/// One measured way.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    pub name: String,
    pub lines: u64,
    pub bytes: u64,
    pub seconds: f64,
    pub gb_per_second: f64,
    pub lines_per_second: f64,
    /// CPU time of the whole process, an embedded broker's included.
    pub cpu_seconds_per_gb: f64,
}

impl Figure {
    pub fn new(name: impl Into<String>, round: Round) -> Self {
        let Round { lines, bytes, took, cpu } = round;
        let (seconds, gb) = (took.as_secs_f64().max(1e-9), bytes as f64 / 1e9);
        Self {
            name: name.into(),
            lines,
            bytes,
            seconds,
            gb_per_second: gb / seconds,
            lines_per_second: lines as f64 / seconds,
            cpu_seconds_per_gb: cpu.as_secs_f64() / gb.max(1e-9),
        }
    }
}

/// What one round did. Getting ready is not part of it.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    pub lines: u64,
    pub bytes: u64,
    pub took: Duration,
    pub cpu: Duration,
}

impl Round {
    /// Times `work`, which returns lines and bytes.
    pub fn of(work: impl FnOnce() -> anyhow::Result<(u64, u64)>) -> anyhow::Result<Self> {
        let begun = Begun::now();
        let (lines, bytes) = work()?;
        Ok(begun.done(lines, bytes))
    }
}

/// When a round began, on both clocks.
pub struct Begun {
    at: Instant,
    cpu: Duration,
}

impl Begun {
    #[allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    pub fn now() -> Self {
        let cpu = io::usage().cpu;
        Self { at: Instant::now(), cpu }
    }
    /// Time since.
    pub fn elapsed(&self) -> Duration {
        self.at.elapsed()
    }
    /// The round, which ends now.
    pub fn done(self, lines: u64, bytes: u64) -> Round {
        Round { lines, bytes, took: self.at.elapsed(), cpu: io::usage().cpu.saturating_sub(self.cpu) }
    }
}

/// A way of doing the work.
pub type Way<'w> = (&'w str, &'w mut dyn FnMut() -> anyhow::Result<Round>);

/// Runs every way `rounds` times, in turn, and keeps each one's quickest round.
///
/// Alternating spreads the machine's moods over all of them.
pub fn alternate(rounds: u32, ways: &mut [Way<'_>]) -> anyhow::Result<Vec<Figure>> {
    let mut best: Vec<Option<Figure>> = vec![None; ways.len()];
    for _ in 0..rounds.max(1) {
        for (best, (name, way)) in best.iter_mut().zip(ways.iter_mut()) {
            let figure = Figure::new(*name, way()?);
            if best.as_ref().is_none_or(|best| figure.seconds < best.seconds) {
                *best = Some(figure);
            }
        }
    }
    Ok(best.into_iter().flatten().collect())
}

/// Prints figures, the first of which is the reference of the others.
pub fn print(figures: &[Figure], json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(figures)?);
        return Ok(());
    }
    for figure in figures {
        let ratio = figures.first().map_or(1.0, |reference| figure.gb_per_second / reference.gb_per_second);
        println!(
            "{:<28} {:>8.3} GB/s  {:>12.0} lines/s  {:>8.3} s  {:>6.2} CPU-s/GB  {ratio:>5.2} of the reference",
            figure.name, figure.gb_per_second, figure.lines_per_second, figure.seconds, figure.cpu_seconds_per_gb
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_end_in_a_letter_or_a_unit() {
        for (text, expected) in [("0", 0), ("250", 250), ("20K", 20_000), ("1M", 1_000_000), ("64 KiB", 65_536), ("3G", 3_000_000_000)] {
            assert_eq!(number(text), Ok(expected));
        }
        for text in ["", "K", "x", "-1", "99999999999999999999", "99999999999999999G"] {
            assert!(number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_unknown_mix_is_answered_with_the_known_ones() {
        assert_eq!(mix("windos").unwrap_err(), "no mix \"windos\"; known: natural, windows, fail2ban, irrelevant, plain");
        assert_eq!(mix("windows"), Ok(Mix::Windows));
    }
}
