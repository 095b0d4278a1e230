//! Shards that help a home which lags: whole slabs go out to be handled and come back as batches.
//!
//! A home gives a slab only to a shard that has nothing or little to do, and puts the batches back
//! in order itself. What a [`Desk`] makes of a slab depends on the slab alone, so it does not
//! matter who handles it.
//!
//! Invariant: every errand is answered before its shard ends, since shards end together.

use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::handle::{Desk, Ready};
use crate::{
    io::Executor,
    limits,
    ring::{Mailbox, Signal},
    sources::Chunk,
};

/// A slab on its way to another shard.
pub struct Errand {
    /// Index of the source, whose handlers are wanted.
    pub source: usize,
    pub chunk: Chunk,
    /// For each branch, bytes from the chunk's start that it has acked before a restart.
    pub from: Vec<u64>,
    /// Takes the outcome home, from whatever thread.
    pub reply: Box<dyn FnOnce(Ready) + Send>,
}

/// One shard as an aide.
struct Aide {
    errands: Arc<Mailbox<Box<Errand>>>,
    all_done: Signal,
}

/// The shards of one agent, as aides of each other. Clones are the same.
#[derive(Clone)]
pub struct Aides {
    shards: Arc<[Aide]>,
    /// Homes that may still have errands out.
    homes: Arc<AtomicUsize>,
}

impl Aides {
    /// `shards` shards, none of them busy; `homes` sources.
    pub fn new(shards: usize, homes: usize) -> Self {
        let shards = (0..shards).map(|_| Aide { errands: Mailbox::new(limits::ERRANDS), all_done: Signal::default() }).collect();
        Self { shards, homes: Arc::new(AtomicUsize::new(homes)) }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Gives an errand to a shard other than `own` that is idle.
    ///
    /// # Errors
    /// The errand, if none is.
    pub fn give(&self, own: usize, errand: Box<Errand>) -> Result<(), Box<Errand>> {
        let others = self.shards.iter().enumerate().filter(|(shard, _)| *shard != own);
        match others.map(|(_, aide)| &aide.errands).min_by_key(|errands| errands.len()) {
            Some(errands) => errands.push(errand),
            None => Err(errand),
        }
    }

    /// Handles what is given to `shard`, until the thread ends.
    ///
    /// - `desk`: makes a desk for a source.
    pub async fn serve(self, shard: usize, on: Rc<dyn Executor>, desk: impl Fn(usize) -> Desk) {
        let mut desks = BTreeMap::new();
        while let Some(errand) = self.shards[shard].errands.pop().await {
            let Errand { source, chunk, from, reply } = *errand;
            reply(desks.entry(source).or_insert_with(|| desk(source)).ready(chunk, &from));
            on.pause().await;
        }
    }

    /// A home will give no errand any more, and has all back.
    pub fn home_is_done(&self) {
        if self.homes.fetch_sub(1, Ordering::AcqRel) == 1 {
            for aide in self.shards.iter() {
                aide.all_done.raise();
            }
        }
    }

    /// Waits until that is true of every home: `shard` may end.
    pub async fn homes_are_done(&self, shard: usize) {
        while self.homes.load(Ordering::Acquire) > 0 {
            self.shards[shard].all_done.wait().await;
        }
    }
}
