//! The stages of one source, in order, and what they remember.
//!
//! A snapshot is taken of all stages at one moment and set aside until every record that was
//! admitted before that moment is settled; only then may it be saved. So whatever a saved snapshot
//! remembers was delivered, dropped by rule or is in the dead letter, whichever of snapshot and
//! checkpoint a crash leaves the newer one (`docs/decisions/0007-stages-and-lookups.md`).

use super::{flight::Staged, home::BranchEnd};
use crate::{
    batch::{Apart, Batch},
    checkpoint::Snapshot,
    clock::Nanos,
    limits,
    metrics::StageCounts,
    position::Position,
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
    /// Mask of the branches of the source that feed it.
    pub feeds: u64,
    /// How often a snapshot is taken, nanoseconds, if it holds the source.
    pub holds: Option<Nanos>,
    pub counts: StageCounts,
}

/// The stages of one source, each behind all that it takes from.
#[derive(Default)]
pub struct Stages {
    ends: Vec<StageEnd>,
    out: Out,
    /// Something was taken or emitted since the last snapshot, or there is none yet.
    touched: bool,
    /// No snapshot is taken before, monotonic nanoseconds.
    rests_until: Nanos,
    aside: Option<Aside>,
}

/// A snapshot that waits for the records it speaks of.
pub struct Aside {
    /// How far each stream was.
    pub marks: Vec<Mark>,
    /// By name.
    pub snapshots: Vec<(String, Snapshot)>,
}

/// How far a stream was when a snapshot was taken.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Which of the home's streams it is.
    pub born: u64,
    pub name: String,
    /// The number that its next batch has.
    pub seq: u64,
    /// For each branch, below which place everything had been shown to the stages.
    pub at: Vec<Position>,
    /// Chunks that its source had handed in.
    pub chunks: u64,
}

impl Stages {
    /// - `ends`: each behind all that it takes from.
    pub fn new(ends: Vec<StageEnd>) -> Self {
        Self { ends, touched: true, ..Self::default() }
    }

    /// True if the source has none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Mask of the branches that feed a stage which holds its source.
    pub fn held(&self) -> u64 {
        self.ends.iter().filter(|end| end.holds.is_some()).fold(0, |mask, end| mask | end.feeds)
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
            // A look at the clock that nothing comes of changes nothing worth keeping.
            self.touched |= !late.messages.is_empty();
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
    /// - `branches`: of the source.
    /// - `marks`: how far each stream is.
    /// - `last`: nothing will be taken any more.
    pub fn set_aside(&mut self, source: &str, branches: &[BranchEnd], marks: impl FnOnce() -> Vec<Mark>, now: Now, last: bool) {
        if !self.touched || !last && (self.aside.is_some() || now.mono < self.rests_until) {
            return;
        }
        let marks = marks();
        let saved = |end: &StageEnd| {
            let body = end.stage.save(now)?;
            let held = if end.holds.is_some() { end.feeds } else { 0 };
            let place =
                |mark: &Mark, branch: usize| Some((mark.name.clone(), branches.get(branch)?.name.clone(), mark.at.get(branch)?.clone()));
            let of = |mark| (0..branches.len()).filter(|branch| held >> branch & 1 == 1).filter_map(move |branch| place(mark, branch));
            let places = marks.iter().filter(|mark| !mark.name.is_empty()).flat_map(of).collect();
            Some((snapshot_name(&end.name, source), Snapshot { kind: end.kind.to_owned(), places, body: body.into() }))
        };
        let snapshots: Vec<_> = self.ends.iter().filter_map(saved).collect();
        self.touched = false;
        let bytes: u64 = snapshots.iter().map(|(_, snapshot)| snapshot.body.len() as u64).sum();
        let rest = (bytes * 1000 / limits::SNAPSHOT_BYTES_PER_SECOND).max(limits::CHECKPOINT_EVERY_MS) * 1_000_000;
        let rest = match self.ends.iter().filter_map(|end| end.holds).min() {
            // All that was read since is read again after a crash: its stage says how much that may be.
            Some(every) => every.max(limits::CHECKPOINT_EVERY_MS * 1_000_000),
            None => rest,
        };
        self.rests_until = now.mono.saturating_add(rest);
        if !snapshots.is_empty() {
            self.aside = Some(Aside { marks, snapshots });
        }
    }

    /// Something was read that no stage may have seen: a stage that holds the source lets go of it all the same.
    pub fn touch(&mut self) {
        self.touched = true;
    }

    /// The next snapshot need not wait: others are to go on from it.
    pub fn hurry(&mut self) {
        self.rests_until = 0;
    }

    /// The snapshot set aside, once all it speaks of is settled.
    ///
    /// - `is_settled`: whether every batch of a stream below its mark is.
    pub fn take_aside(&mut self, is_settled: impl Fn(&Mark) -> bool) -> Option<Aside> {
        self.aside.take_if(|aside| aside.marks.iter().all(is_settled))
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
