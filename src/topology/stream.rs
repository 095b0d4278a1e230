//! One stream of a home: its ledger, what is in flight of it, and the files it lies in.

use std::collections::VecDeque;

use super::{flight::Flight, home::Setup, staged::Mark};
use crate::{
    checkpoint::{BranchRow, Ladder, Row, SegmentRow},
    ledger::Ledger,
    position::Position,
};

/// One stream.
pub(super) struct Stream {
    pub name: String,
    /// Which of the home's streams it is, in the order of opening; never given again.
    pub born: u64,
    pub ledger: Ledger,
    /// By number: the first is `first`.
    pub in_flight: VecDeque<Flight>,
    pub first: u64,
    /// Chunks of the source for which nothing is owed any more, without a gap.
    pub settled: u64,
    /// Mask of the branches that feed a stage which holds the source.
    pub held: u64,
    /// What a saved snapshot of such a stage has of it; `None` until one is saved.
    pub kept: Option<Kept>,
    /// Where each branch stood before this start; below it nothing is offered.
    pub start: Vec<Position>,
    /// Everything below has been admitted; `None` before the first batch.
    pub end: Option<Position>,
    /// Bytes of the batches in flight.
    pub unacked: u64,
    pub segments: Vec<(SegmentRow, Ladder)>,
    pub dirty: bool,
    /// Nothing more will come; it leaves once nothing is owed, and its row with it or not.
    pub leaves: Option<Leaves>,
}

/// What becomes of the row of a stream that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaves {
    /// It is forgotten: the stream has ended for good.
    Forgotten,
    /// It stays: the stream may come back.
    Kept,
}

/// How far a stream was at a snapshot that is saved.
pub(super) struct Kept {
    /// For each branch.
    pub at: Vec<Position>,
    pub chunks: u64,
}

impl Stream {
    /// How far the branch is for good: below it, everything is settled and in every snapshot that must have it.
    pub fn position(&self, branch: usize) -> &Position {
        let settled = self.ledger.watermark(branch);
        if self.held >> branch & 1 == 0 {
            return settled;
        }
        let kept = self.kept.as_ref().and_then(|kept| kept.at.get(branch)).unwrap_or(&self.start[branch]);
        kept.min(settled)
    }

    /// Chunks of the source that need never be had again, without a gap.
    pub fn done(&self) -> u64 {
        match self.held {
            0 => self.settled,
            _ => self.settled.min(self.kept.as_ref().map_or(0, |kept| kept.chunks)),
        }
    }

    /// How far it is now, for a snapshot.
    pub fn mark(&self) -> Mark {
        let at = |start: &Position| self.end.as_ref().map_or(start, |end| end.max(start)).clone();
        Mark {
            born: self.born,
            name: self.name.clone(),
            seq: self.first + self.in_flight.len() as u64,
            at: self.start.iter().map(at).collect(),
            chunks: self.settled + self.in_flight.iter().filter(|flight| flight.is_of_source).count() as u64,
        }
    }

    /// A batch in flight.
    ///
    /// # Panics
    /// If it is none: answers are for batches in flight.
    pub fn flight(&mut self, seq: u64) -> &mut Flight {
        let at = seq.checked_sub(self.first).expect("an answer is for a batch in flight") as usize;
        &mut self.in_flight[at]
    }

    /// Forgets the oldest batches as far as nothing is owed for them; true if there were any.
    pub fn trim(&mut self) -> bool {
        let before = self.first;
        while let Some(flight) = self.in_flight.pop_front_if(|flight| flight.account.open == 0) {
            self.unacked -= flight.batch.slab().bytes.len() as u64;
            self.first += 1;
            self.settled += u64::from(flight.is_of_source);
        }
        self.first > before
    }

    /// Forgets files that every branch has left behind.
    pub fn forget(&mut self) {
        let lowest = (0..self.start.len()).map(|branch| self.position(branch)).min();
        if let Some(Position::File { segment, incarnation, .. }) = lowest {
            let at = (*segment, *incarnation);
            self.segments.retain(|(row, _)| (row.segment, row.incarnation) >= at);
        }
    }

    /// What is to be saved of it.
    pub fn row(&self, setup: &Setup) -> Row {
        let branches: Vec<BranchRow> = setup
            .branches
            .iter()
            .enumerate()
            .map(|(number, branch)| BranchRow { branch: branch.name.clone(), position: self.position(number).clone() })
            .collect();
        let segments = self.segments.iter().map(|(row, ladder)| SegmentRow { rungs: ladder.rungs().to_vec(), ..row.clone() }).collect();
        Row {
            source: setup.source.clone(),
            stream: self.name.clone(),
            kind: setup.kind.clone(),
            segments,
            branches,
            stretches: Vec::new(),
            drained: false,
        }
    }

    /// True if every batch below `seq` is settled.
    pub fn is_settled(&self, seq: u64) -> bool {
        self.first >= seq
    }
}
