//! Reads the topic back while it is written: the embedded broker keeps only its newest messages.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context;

use crate::{
    batch::ORIGIN_HEADER,
    net::kafka::{reader::Reader, settings::Connection},
};

/// How long the broker may take to tell its partitions.
const PATIENCE: Duration = Duration::from_secs(10);

/// A thread that reads.
pub(super) struct Readback {
    found: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<Result<Found, String>>,
}

/// What the topic held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub messages: u64,
    /// Of these, with an address that was there before.
    pub repeated: u64,
}

impl Readback {
    /// - `instance`: only messages of this agent are counted.
    pub(super) fn start(connection: Connection, topic: &str, instance: &str) -> anyhow::Result<Self> {
        let mut reader = Reader::open(&connection, topic, PATIENCE)
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("cannot read topic {topic} back"))?;
        let (found, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (found.clone(), over.clone());
        let ours = format!("{instance}/").into_bytes();
        let thread = thread::Builder::new().name("demo-read".into()).spawn(move || {
            let (mut all, mut seen) = (Found::default(), HashSet::new());
            loop {
                match reader.next(Duration::from_millis(100))? {
                    Some(message) => {
                        let Some(origin) = message.header(ORIGIN_HEADER).filter(|o| o.starts_with(&ours) || o.starts_with(b"file/")) else {
                            continue;
                        };
                        all.messages += 1;
                        all.repeated += u64::from(!seen.insert(origin.to_vec()));
                        count.store(all.messages, Ordering::Relaxed);
                    }
                    None if end.load(Ordering::Relaxed) => return Ok(all),
                    None => {}
                }
            }
        })?;
        Ok(Self { found, over, thread })
    }

    /// Messages found so far.
    pub(super) fn found(&self) -> u64 {
        self.found.load(Ordering::Relaxed)
    }

    /// Reads what is left, and ends.
    pub(super) fn finish(self) -> anyhow::Result<Found> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the reader of the topic panicked"))?.map_err(anyhow::Error::msg)
    }
}
