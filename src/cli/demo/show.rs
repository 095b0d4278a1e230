//! What a person sees, whatever the system: lines as they come, the share of a core, sizes.

use std::{
    fs,
    io::Write,
    time::{Duration, Instant},
};

use serde::Serialize;

/// Threads of ours; librdkafka's are not among them, since the embedded broker and the reader of
/// the topic have the same names.
const OURS: &[&str] = &["shard-", "edge", "store", "watch", "out-"];
/// Clock ticks a second, as /proc counts them.
const TICKS: f64 = 100.0;

/// Where lines go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    /// The sums are one JSON object on standard output; the lines go to standard error.
    pub json: bool,
}

impl Lines {
    /// One line at once.
    pub(super) fn say(self, text: &str) {
        if self.json {
            eprintln!("{text}");
        } else {
            let mut out = std::io::stdout().lock();
            // Whoever closed the pipe does not want it.
            let _ = writeln!(out, "{text}").and_then(|()| out.flush());
        }
    }

    /// All of it as one JSON object.
    ///
    /// - `more`: beside the sums.
    pub(super) fn object(self, sums: &impl Serialize, broken: Vec<String>, more: &[(&str, f64)]) {
        let mut told = serde_json::to_value(sums).unwrap_or_default();
        told["adds_up"] = broken.is_empty().into();
        told["broken"] = broken.into();
        for (name, value) in more {
            told[*name] = (*value).into();
        }
        println!("{told}");
    }

    /// Whether it adds up: what does not, and the last word.
    pub(super) fn verdict(self, broken: &[String]) {
        for what in broken {
            self.say(&format!("WRONG     {what}"));
        }
        self.say(if broken.is_empty() { "the sums add up" } else { "the sums do not add up; this is a defect, please report these lines" });
    }
}

/// What has passed since the last line, which is told once a second.
#[derive(Debug)]
pub(super) struct Pace {
    begun: Instant,
    told: Instant,
    counts: Vec<u64>,
    ticks: u64,
}

/// One second, or a little more.
#[derive(Debug)]
pub(super) struct Second {
    /// Since the beginning.
    pub at: u64,
    /// Of each count, by the second.
    pub rates: Vec<f64>,
    /// Percent of a core that our threads used.
    pub core: f64,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), told: Instant::now(), counts: Vec::new(), ticks: ticks() }
    }

    /// What the second brought, when it is over.
    pub(super) fn turn(&mut self, counts: &[u64]) -> Option<Second> {
        let span = self.told.elapsed();
        if span < Duration::from_secs(1) {
            return None;
        }
        let seconds = span.as_secs_f64();
        self.counts.resize(counts.len(), 0);
        let rates = counts.iter().zip(&self.counts).map(|(now, before)| now.saturating_sub(*before) as f64 / seconds).collect();
        let spent = ticks();
        let core = spent.saturating_sub(self.ticks) as f64 / TICKS / seconds * 100.0;
        (self.counts, self.ticks, self.told) = (counts.to_vec(), spent, Instant::now());
        Some(Second { at: self.begun.elapsed().as_secs(), rates, core })
    }
}

pub(super) fn millis(nanos: u64) -> String {
    format!("{:.1} ms", nanos as f64 / 1e6)
}

pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// Clock ticks that our own threads have used.
fn ticks() -> u64 {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return 0 };
    tasks
        .flatten()
        .filter_map(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).ok()?;
            let (head, rest) = stat.rsplit_once(')')?;
            let name = head.split_once('(')?.1;
            let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
            // Fields 14 and 15 of proc(5): user and system time; the state is field 3.
            let used = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
            OURS.iter().any(|ours| name.starts_with(ours)).then_some(used)
        })
        .sum()
}
