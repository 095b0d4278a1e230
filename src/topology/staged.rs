//! The stages of one source, in order, and what they remember.
//!
//! A snapshot is taken of all stages at one moment and set aside until every record that was
//! admitted before that moment is settled; only then may it be saved. So whatever a saved snapshot
//! remembers was delivered, dropped by rule or is in the dead letter, whichever of snapshot and
//! checkpoint a crash leaves the newer one (`docs/decisions/0007-stages-and-lookups.md`).

use super::flight::Staged;
use crate::{
    batch::{Apart, Batch},
    checkpoint::Snapshot,
    clock::Nanos,
    limits,
    metrics::StageCounts,
    stages::{Fate, Late, Now, Out, Stage},
};

/// A stage as a home sees it.
pub struct StageEnd {
    pub name: String,
    pub kind: &'static str,
    pub stage: Box<dyn Stage>,
    /// Mask of the output slots that it takes.
    pub inputs: u64,
    /// For each of its outputs the slot, `None` if nothing takes it.
    pub routes: Vec<Option<u8>>,
    /// Branch of the source that owes what it emits by itself.
    pub branch: u8,
    pub counts: StageCounts,
}

/// The stages of one source, each behind all that it takes from.
#[derive(Default)]
pub struct Stages {
    ends: Vec<StageEnd>,
    out: Out,
    /// Something was taken or emitted since the last snapshot.
    touched: bool,
    /// No snapshot is taken before, monotonic nanoseconds.
    rests_until: Nanos,
    aside: Option<Aside>,
}

/// A snapshot that waits for the records it speaks of.
struct Aside {
    /// Streams, and the batch up to which each must be settled.
    marks: Vec<(u64, u64)>,
    snapshots: Vec<(String, Snapshot)>,
}

impl Stages {
    /// - `ends`: each behind all that it takes from.
    pub fn new(ends: Vec<StageEnd>) -> Self {
        Self { ends, ..Self::default() }
    }

    /// True if the source has none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Shows every stage the messages it takes; what they emit is added to the batch.
    pub fn run(&mut self, batch: &mut Batch, now: Now) -> Staged {
        let mut staged = Staged::default();
        for end in &mut self.ends {
            let (mut taken, before) = (0, batch.len());
            for n in batch.numbers() {
                if end.inputs >> batch.message(n).output & 1 == 0 {
                    continue;
                }
                taken += 1;
                self.out.clear();
                let fate = end.stage.take(&batch.message(n), now, &mut self.out);
                let emitted = batch.len();
                for slot in self.out.passed().filter_map(|output| end.routes.get(output).copied().flatten()) {
                    batch.pass_on(n, slot);
                }
                for (output, key, payload) in self.out.made() {
                    if let Some(slot) = end.routes.get(output).copied().flatten() {
                        batch.derive(n, slot, key, payload);
                    }
                }
                let added = batch.len() - emitted;
                staged.parents.extend(std::iter::repeat_n(n, added));
                let reason = match fate {
                    _ if added > 0 => continue,
                    Fate::Dropped(reason) => reason,
                    Fate::Emitted => "unwired",
                };
                end.counts.dropped.add(reason, 1);
                staged.dropped.push((n, reason));
            }
            if taken > 0 {
                self.touched = true;
                end.counts.taken.inc_by(taken);
                end.counts.emitted.inc_by((batch.len() - before) as u64);
                end.tell();
            }
        }
        staged
    }

    /// When the first of them wants to be told the time; `None` while none does.
    pub fn due(&self) -> Option<Nanos> {
        self.ends.iter().filter_map(|end| end.stage.due()).min()
    }

    /// Tells those the time that want to be told; what they emit is added to the batch, and shown
    /// to the stages behind them.
    ///
    /// - `all`: everything that is held back is emitted.
    pub fn tick(&mut self, batch: &mut Batch, now: Now, all: bool) -> Staged {
        let mut late = Late::default();
        for end in &mut self.ends {
            if all {
                end.stage.flush(now, &mut late);
            } else if end.stage.due().is_some_and(|due| due <= now.mono) {
                end.stage.tick(now, &mut late);
            } else {
                continue;
            }
            self.touched = true;
            for message in late.messages.drain(..) {
                let Some(output) = end.routes.get(message.output).copied().flatten() else { continue };
                end.counts.late.inc();
                let (origin, key, payload) = (message.origin.as_slice(), message.key.as_deref(), message.payload.as_slice());
                batch.push(Apart { output, branch: end.branch, origin, key, payload, time_ms: message.time_ms });
            }
            end.tell();
        }
        self.run(batch, now)
    }

    /// Takes a snapshot if one is worth its while, and sets it aside.
    ///
    /// - `source`: its name, for the snapshots' names.
    /// - `marks`: for each stream, by its birth, the number that its next batch will have.
    /// - `last`: nothing will be taken any more.
    pub fn set_aside(&mut self, source: &str, marks: impl FnOnce() -> Vec<(u64, u64)>, now: Now, last: bool) {
        if !last && (!self.touched || self.aside.is_some() || now.mono < self.rests_until) {
            return;
        }
        let saved = |end: &StageEnd| {
            let body = end.stage.save(now)?;
            Some((snapshot_name(&end.name, source), Snapshot { kind: end.kind.to_owned(), body: body.into() }))
        };
        let snapshots: Vec<_> = self.ends.iter().filter_map(saved).collect();
        self.touched = false;
        let bytes: u64 = snapshots.iter().map(|(_, snapshot)| snapshot.body.len() as u64).sum();
        let rest = (bytes * 1000 / limits::SNAPSHOT_BYTES_PER_SECOND).max(limits::CHECKPOINT_EVERY_MS);
        self.rests_until = now.mono.saturating_add(rest * 1_000_000);
        if !snapshots.is_empty() {
            self.aside = Some(Aside { marks: marks(), snapshots });
        }
    }

    /// The snapshot set aside, once all it speaks of is settled.
    ///
    /// - `is_settled`: whether every batch of a stream below that number is.
    pub fn take_aside(&mut self, is_settled: impl Fn(u64, u64) -> bool) -> Option<Vec<(String, Snapshot)>> {
        let aside = self.aside.take_if(|aside| aside.marks.iter().all(|(stream, seq)| is_settled(*stream, *seq)))?;
        Some(aside.snapshots)
    }

    /// When a snapshot is to be taken though nothing more happens; `None` if there is nothing new.
    pub fn snapshot_due(&self) -> Option<Nanos> {
        (self.touched && self.aside.is_none()).then_some(self.rests_until)
    }
}

impl StageEnd {
    fn tell(&mut self) {
        self.counts.evicted.inc_by(self.stage.take_evicted());
        self.counts.entries.set(i64::try_from(self.stage.entries()).unwrap_or(i64::MAX));
    }
}

/// What a stage's snapshot of one source is called.
pub fn snapshot_name(stage: &str, source: &str) -> String {
    format!("{stage}.{source}")
}
