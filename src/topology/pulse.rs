//! Whether the agent's threads turn: what the watchdog asks.
//!
//! Each thread's executor raises a count now and then ([`Beat`]); the store turns when it is
//! nudged. Whether a broker answers is no question here: an outage of a day stops no loop.

use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{io::Io, store::StoreHandle};

/// The counts of all threads.
#[derive(Clone, Debug)]
pub struct Pulse {
    every: Duration,
    threads: Arc<Mutex<Threads>>,
}

#[derive(Debug, Default)]
struct Threads {
    entered: u64,
    beats: BTreeMap<u64, (String, Arc<AtomicU64>)>,
    store: Option<(u64, StoreHandle)>,
}

impl Pulse {
    /// - `every`: time between two beats of a thread.
    pub fn new(every: Duration) -> Self {
        Self { every, threads: Arc::default() }
    }

    fn threads(&self) -> std::sync::MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread that must turn from now on, until its beat is dropped.
    pub fn enter(&self, name: impl Into<String>) -> Beat {
        let mut threads = self.threads();
        threads.entered += 1;
        let (number, count) = (threads.entered, Arc::new(AtomicU64::new(0)));
        threads.beats.insert(number, (name.into(), count.clone()));
        drop(threads);
        Beat { number, count, pulse: self.clone() }
    }

    /// The store that must turn from now on; `None` once it is about to end.
    pub fn store(&self, store: Option<StoreHandle>) {
        let mut threads = self.threads();
        // Its turns begin at nothing, so it is another than the one before.
        threads.entered += 1;
        let number = threads.entered;
        threads.store = store.map(|store| (number, store));
    }

    /// Where each thread stands: number, name, count.
    fn counts(&self) -> Vec<(u64, String, u64)> {
        let threads = self.threads();
        let beats = threads.beats.iter().map(|(number, (name, count))| (*number, name.clone(), count.load(Ordering::Relaxed)));
        let store = threads.store.as_ref().map(|(number, store)| (*number, "store".to_owned(), store.turns()));
        beats.chain(store).collect()
    }

    fn nudge(&self) {
        if let Some((_, store)) = &self.threads().store {
            store.nudge();
        }
    }
}

/// One thread's count; leaving it ends the watch over that thread.
#[derive(Debug)]
pub struct Beat {
    number: u64,
    count: Arc<AtomicU64>,
    pulse: Pulse,
}

impl Beat {
    /// Raises the count.
    pub fn raise(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Raises it now and then, until the executor ends.
    pub async fn on(self, io: Rc<dyn Io>) {
        loop {
            self.raise();
            io.sleep(self.pulse.every).await;
        }
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.pulse.threads().beats.remove(&self.number);
    }
}

/// One who asks whether all have turned since the last time they all had.
#[derive(Debug)]
pub struct Watchdog {
    pulse: Pulse,
    seen: BTreeMap<u64, u64>,
}

impl Watchdog {
    /// Nobody was seen yet.
    pub fn new(pulse: Pulse) -> Self {
        Self { pulse, seen: BTreeMap::new() }
    }

    /// True if every thread has turned since the last time this was true; a thread that is new has.
    ///
    /// # Errors
    /// The names of those that stand still.
    pub fn all_turned(&mut self) -> Result<(), Vec<String>> {
        let counts = self.pulse.counts();
        // The store sleeps while there is nothing to write. At every look, since one that is busy
        // takes a nudge without a turn.
        self.pulse.nudge();
        let stands = |(number, _, count): &&(u64, String, u64)| self.seen.get(number).is_some_and(|seen| seen == count);
        let still: Vec<String> = counts.iter().filter(stands).map(|(_, name, _)| name.clone()).collect();
        if !still.is_empty() {
            return Err(still);
        }
        self.seen = counts.into_iter().map(|(number, _, count)| (number, count)).collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_must_have_turned_since_they_last_all_had() {
        let pulse = Pulse::new(Duration::from_secs(1));
        let mut dog = Watchdog::new(pulse.clone());
        assert_eq!(dog.all_turned(), Ok(()), "nobody is there");
        let (one, two) = (pulse.enter("shard-0"), pulse.enter("edge"));
        assert_eq!(dog.all_turned(), Ok(()), "they are new");
        assert_eq!(dog.all_turned(), Err(vec!["shard-0".into(), "edge".into()]));
        one.raise();
        assert_eq!(dog.all_turned(), Err(vec!["edge".into()]));
        two.raise();
        assert_eq!(dog.all_turned(), Ok(()), "one turned before the last look, which counts");
        one.raise();
        drop(two);
        assert_eq!(dog.all_turned(), Ok(()), "who has ended need not turn");
        let again = pulse.enter("edge");
        one.raise();
        assert_eq!(dog.all_turned(), Ok(()));
        one.raise();
        assert_eq!(dog.all_turned(), Err(vec!["edge".into()]));
        drop(again);
        assert_eq!(dog.all_turned(), Ok(()));
    }
}
