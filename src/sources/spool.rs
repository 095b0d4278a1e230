//! The messages that a lookup could not ask about when they came, brought again: a source that the plan
//! adds for each lookup with a spool, and that no config names.
//!
//! Its one stream has the lookup's name. It reads what is durable of the spool's segments, in order, and hands it in as any source does. So what
//! a message owes, what it becomes, a restart and a kill are the business of the home, as for a file; the
//! watermark says what is worked off. What lies below it is removed, a segment at a time, and all of it
//! once nothing is owed.

use std::{path::PathBuf, rc::Rc, sync::Arc, time::Duration};

use super::{Admit, At, Chunk, ChunkKind, Source, SourceError, Spec};
use crate::{
    io::{self, Io, LocalFuture, Slab},
    limits,
    metrics::{Level, Standing, State},
    position::{Position, encode_name},
    spool::{self, Next},
    store::{Asked, Spool, StoreHandle},
};

/// What the plan asks for.
#[derive(Clone, Debug)]
pub struct Spooled {
    /// The lookup's name.
    pub lookup: String,
    pub state_dir: PathBuf,
}

impl Spec for Spooled {
    fn build(&self, name: &str, _instance: &str) -> Box<dyn Source> {
        Box::new(Running { spec: self.clone(), origin: format!("spool/{}", encode_name(name)) })
    }
    fn keeps_running(&self) -> bool {
        false
    }
    fn is_kept(&self) -> bool {
        true
    }
}

struct Running {
    spec: Spooled,
    origin: String,
}

impl Source for Running {
    fn run(self: Box<Self>, io: Rc<dyn Io>, admit: Rc<dyn Admit>, standing: Standing) -> LocalFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let store = admit.store();
            standing.set(State::Ready);
            match store {
                Some(store) => Reader::new(*self, io, admit, store, standing).run().await,
                // Without a store nothing was ever put by.
                None => admit.closed().await,
            }
            Ok(())
        })
    }
}

struct Reader {
    io: Rc<dyn Io>,
    admit: Rc<dyn Admit>,
    standing: Standing,
    store: StoreHandle,
    spool: Arc<Spool>,
    spec: Spooled,
    origin: String,
    /// What is handed in next: segment and offset.
    at: (u32, u64),
    /// The end of what was handed in last.
    handed: (u32, u64),
    /// The file being read.
    open: Option<(u32, Rc<dyn io::File>)>,
    /// What the store was told last: everything below is worked off.
    told: (u32, u64),
    bytes: Level,
}

impl Reader {
    fn new(running: Running, io: Rc<dyn Io>, admit: Rc<dyn Admit>, store: StoreHandle, standing: Standing) -> Self {
        let Running { spec, origin } = running;
        let spool = store.spool(&spec.lookup);
        let at = match admit.resume(&spec.lookup).as_ref().and_then(|row| row.lowest()) {
            Some(Position::File { segment, offset, .. }) => (*segment, *offset),
            _ => (0, 0),
        };
        let bytes = standing.level("shipper_spool_stored_bytes", "Bytes on disk of messages that wait for a lookup", &[]);
        Self { io, admit, standing, store, spool, spec, origin, at, handed: at, open: None, told: (0, 0), bytes }
    }

    async fn run(mut self) {
        let (segment, offset) = self.at;
        self.admit.open(&self.spec.lookup, Position::File { segment, incarnation: 0, offset });
        let left = self.spool.bytes();
        if left > 0 {
            tracing::info!(
                lookup = self.spec.lookup,
                bytes = left,
                "messages of an earlier run wait in the spool and are asked about again"
            );
        }
        while !self.admit.is_closed() {
            let moved = match self.step().await {
                Ok(moved) => {
                    self.standing.set(State::Ready);
                    moved
                }
                Err(why) => {
                    self.standing.set(State::Retrying(why));
                    false
                }
            };
            self.clear();
            if moved {
                continue;
            }
            // Only while something is on disk there is anything to look after.
            let patience = async {
                match self.spool.bytes() {
                    0 => std::future::pending().await,
                    _ => self.io.sleep(Duration::from_millis(limits::SPOOL_LOOK_MS)).await,
                }
            };
            tokio::select! {
                biased;
                () = self.admit.closed() => {}
                () = self.spool.changed() => {}
                () = patience => {}
            }
        }
        self.clear();
    }

    /// Hands the next part in; false if there is none.
    async fn step(&mut self) -> Result<bool, String> {
        let ends = self.spool.ends();
        self.tell(&ends);
        let Some((segment, end)) = ends.iter().copied().find(|(number, end)| (*number, *end) > self.at && *end > 0) else {
            return Ok(false);
        };
        if segment > self.at.0 {
            self.at = (segment, 0);
        }
        let is_sealed = ends.last().is_some_and(|(last, _)| *last > segment);
        let offset = self.at.1;
        let left = usize::try_from(end - offset).unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        let mut wanted = limits::SLAB_BYTES.min(left);
        loop {
            self.read(segment, offset, wanted, &mut bytes).await?;
            match spool::next(&bytes, offset, left, is_sealed, limits::SLAB_BYTES) {
                Next::Wants(more) => wanted = more,
                Next::Entries(len) => {
                    bytes.truncate(len);
                    self.hand_in(bytes, ChunkKind::Spooled).await;
                    return Ok(true);
                }
                Next::Damaged(len) => {
                    let path = self.spool.path(&self.spec.state_dir, segment);
                    tracing::error!(path = %path.display(), offset, bytes = len, "the spool is damaged; what is damaged goes into the dead letter, all else is used; look at the disk");
                    bytes.truncate(len);
                    while !bytes.is_empty() {
                        let rest = bytes.split_off(bytes.len().min(limits::SLAB_BYTES));
                        self.hand_in(bytes, ChunkKind::Broken("spool_damaged")).await;
                        bytes = rest;
                    }
                    return Ok(true);
                }
                Next::CutOff | Next::End => {
                    self.at = (segment, end);
                    return Ok(true);
                }
            }
        }
    }

    async fn hand_in(&mut self, bytes: Vec<u8>, kind: ChunkKind) {
        let (segment, offset) = self.at;
        self.at.1 += bytes.len() as u64;
        let origin = format!("{}/{segment}", self.origin).into();
        let at = At::File { origin, segment, incarnation: 0, offset };
        let chunk = Chunk { slab: Slab::from_bytes(bytes), at, kind, received: self.io.clock().now(), own: false, rung: None };
        self.handed = self.at;
        self.admit.chunk(&self.spec.lookup, chunk).await;
    }

    /// Reads on until `wanted` bytes from `offset` on are at hand.
    async fn read(&mut self, segment: u32, offset: u64, wanted: usize, bytes: &mut Vec<u8>) -> Result<(), String> {
        let path = self.spool.path(&self.spec.state_dir, segment);
        let failed =
            |error: std::io::Error| format!("cannot read spool {}: {error}; fix its permissions, or the disk under it", path.display());
        let file = match &self.open {
            Some((number, file)) if *number == segment => file.clone(),
            _ => self.open.insert((segment, self.io.open(&path).map_err(failed)?)).1.clone(),
        };
        while bytes.len() < wanted {
            let len = (wanted - bytes.len()).min(limits::SLAB_BYTES);
            let slab = self.io.slabs().take(len);
            let (slab, read) = file.read_at(offset + bytes.len() as u64, len, false, slab).await;
            match read.map_err(failed)? {
                0 => {
                    // It was given as durable: whoever took it away is not us.
                    return Err(format!(
                        "spool {} ends at {} and should be longer; restore it, or remove it: what was in it is lost",
                        path.display(),
                        offset + bytes.len() as u64
                    ));
                }
                _ => bytes.extend_from_slice(&slab.bytes),
            }
        }
        Ok(())
    }

    /// Lets the store remove what is worked off.
    fn clear(&mut self) {
        let saved = self.admit.resume(&self.spec.lookup);
        let Some(Position::File { segment, offset, .. }) = saved.as_ref().and_then(|row| row.lowest()) else { return };
        // What was cut off at the end of a segment was never handed in, so nothing of it is owed.
        let below = if (*segment, *offset) >= self.handed { self.at } else { (*segment, *offset) };
        let ends = self.spool.ends();
        if below <= self.told || !ends.iter().any(|(number, end)| *end > 0 && (*number, *end) <= below) {
            return;
        }
        if self.store.ask(Asked::unspool(self.spec.lookup.clone(), below.0, below.1, Box::new(|_| {}))).is_ok() {
            self.told = below;
            // A file that is removed takes its room until it is closed.
            self.open = None;
        }
    }

    fn tell(&self, ends: &[(u32, u64)]) {
        let unread = |(number, end): &(u32, u64)| match number.cmp(&self.at.0) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => end.saturating_sub(self.at.1),
            std::cmp::Ordering::Greater => *end,
        };
        self.admit.lag(ends.iter().map(unread).sum());
        self.bytes.set(i64::try_from(self.spool.bytes()).unwrap_or(i64::MAX));
    }
}
