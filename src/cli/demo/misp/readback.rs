//! Reads the agent's files back while they are written: what it parsed, what it matched.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context;
use serde::Deserialize;

/// A thread that reads.
pub(super) struct Readback {
    indicators: Arc<AtomicU64>,
    represented: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<anyhow::Result<Found>>,
}

/// What the files held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Alerts with indicators, and all of these.
    pub parsed_lines: u64,
    pub indicators: u64,
    /// Of each value of an indicator, how many alerts had it.
    pub parsed: BTreeMap<String, u64>,
    /// Matches that went out by themselves.
    pub first: u64,
    /// Matches that a summary counts.
    pub repeated: u64,
    /// Of each value, how many matches are told, alone or in a summary.
    pub matched: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Parsed {
    iocs: Vec<Ioc>,
}

#[derive(Deserialize)]
struct Matched {
    ioc: Ioc,
    #[serde(default)]
    repeated: u64,
}

#[derive(Deserialize)]
struct Ioc {
    value: String,
}

impl Found {
    fn parsed_line(&mut self, line: &[u8]) -> serde_json::Result<()> {
        let Parsed { iocs } = serde_json::from_slice(line)?;
        self.parsed_lines += 1;
        self.indicators += iocs.len() as u64;
        for ioc in iocs {
            *self.parsed.entry(ioc.value).or_default() += 1;
        }
        Ok(())
    }

    fn matched_line(&mut self, line: &[u8]) -> serde_json::Result<()> {
        let Matched { ioc, repeated } = serde_json::from_slice(line)?;
        // A summary is the first match once more, with the number of those that it stands for.
        let count = if repeated == 0 { &mut self.first } else { &mut self.repeated };
        *count += repeated.max(1);
        *self.matched.entry(ioc.value).or_default() += repeated.max(1);
        Ok(())
    }
}

impl Readback {
    /// Reads two files, which need not be there yet.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(parsed: &Path, matched: &Path) -> anyhow::Result<Self> {
        let (indicators, represented, over) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (of_parsed, of_matched, end) = (indicators.clone(), represented.clone(), over.clone());
        let (mut parsed, mut matched) = (Grown::new(parsed), Grown::new(matched));
        let thread = thread::Builder::new().name("demo-read".into()).spawn(move || {
            let mut found = Found::default();
            loop {
                // What was written before the end was told is read after it.
                let last = end.load(Ordering::Acquire);
                let more = parsed.lines(|line| found.parsed_line(line))? + matched.lines(|line| found.matched_line(line))?;
                of_parsed.store(found.indicators, Ordering::Relaxed);
                of_matched.store(found.first + found.repeated, Ordering::Relaxed);
                if last {
                    return Ok(found);
                }
                if more == 0 {
                    thread::sleep(Duration::from_millis(20));
                }
            }
        })?;
        Ok(Self { indicators, represented, over, thread })
    }

    /// Indicators found so far.
    pub(super) fn indicators(&self) -> u64 {
        self.indicators.load(Ordering::Relaxed)
    }

    /// Matches told so far, alone or in a summary.
    pub(super) fn represented(&self) -> u64 {
        self.represented.load(Ordering::Relaxed)
    }

    /// Reads what is left, and ends.
    ///
    /// # Errors
    /// A file cannot be read, or holds a line that is none of ours.
    pub(super) fn finish(self) -> anyhow::Result<Found> {
        self.over.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow::anyhow!("the reader of the agent's files panicked"))?
    }
}

/// A file that grows.
struct Grown {
    path: PathBuf,
    open: Option<File>,
    /// A line without its end.
    rest: Vec<u8>,
}

impl Grown {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), open: None, rest: Vec::new() }
    }

    /// Hands over the lines that came; how many.
    fn lines(&mut self, mut take: impl FnMut(&[u8]) -> serde_json::Result<()>) -> anyhow::Result<u64> {
        let what = || format!("cannot read {}", self.path.display());
        if self.open.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.open = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
                Err(error) => return Err(error).with_context(what),
            }
        }
        let Some(file) = &mut self.open else { return Ok(0) };
        file.read_to_end(&mut self.rest).with_context(what)?;
        let Some(end) = memchr::memrchr(b'\n', &self.rest) else { return Ok(0) };
        let after = self.rest.split_off(end + 1);
        let whole = std::mem::replace(&mut self.rest, after);
        let mut count = 0;
        for line in whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            take(line)
                .with_context(|| format!("{} holds a line that is none of ours: {}", self.path.display(), String::from_utf8_lossy(line)))?;
            count += 1;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn files_are_counted_while_they_grow() {
        let dir = tempfile::tempdir().unwrap();
        let (parsed, matched) = (dir.path().join("p"), dir.path().join("m"));
        let readback = Readback::start(&parsed, &matched).unwrap();
        fs_write(&parsed, "{\"iocs\":[{\"value\":\"a\"},{\"value\":\"b\"}]}\n{\"iocs\":[{\"val");
        while readback.indicators() < 2 {
            thread::yield_now();
        }
        fs_write(&parsed, "ue\":\"a\"}]}\n");
        fs_write(&matched, "{\"ioc\":{\"value\":\"a\"}}\n{\"ioc\":{\"value\":\"a\"},\"repeated\":7}\n");
        let found = readback.finish().unwrap();
        let counts = |pairs: &[(&str, u64)]| pairs.iter().map(|(value, n)| ((*value).to_owned(), *n)).collect::<BTreeMap<_, _>>();
        let want = Found {
            parsed_lines: 2,
            indicators: 3,
            parsed: counts(&[("a", 2), ("b", 1)]),
            first: 1,
            repeated: 7,
            matched: counts(&[("a", 8)]),
        };
        assert_eq!(found, want);
    }

    #[test]
    fn a_line_of_somebody_else_is_told() {
        let dir = tempfile::tempdir().unwrap();
        fs_write(&dir.path().join("p"), "nonsense\n");
        let readback = Readback::start(&dir.path().join("p"), &dir.path().join("m")).unwrap();
        assert!(readback.finish().unwrap_err().to_string().contains("none of ours: nonsense"));
    }

    fn fs_write(path: &Path, text: &str) {
        std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }
}
