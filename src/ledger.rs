//! What is owed for each admitted batch, and how far each branch has settled without a gap.
//!
//! Pure: it knows sequence numbers, opaque positions and counts, no bytes, no time. One ledger
//! serves one stream, whatever its source is. Invariants: numbers are dense; a watermark never
//! falls; nothing is settled twice. A broken one is our own mistake and aborts: the restart
//! resumes from the checkpoint.

use std::collections::VecDeque;

use crate::position::Position;

/// The ledger of one stream.
#[derive(Debug)]
pub struct Ledger {
    /// Number of the oldest batch that some branch still owes.
    first: u64,
    batches: VecDeque<Entry>,
    /// `branches` counts per batch, in the order of `batches`.
    owed: VecDeque<u32>,
    branches: Vec<Branch>,
    bytes: u64,
}

#[derive(Debug)]
struct Entry {
    end: Position,
    bytes: u32,
}

#[derive(Debug)]
struct Branch {
    /// Number of the first batch that is not settled, or the next to be admitted.
    next: u64,
    watermark: Position,
}

impl Ledger {
    /// A ledger whose branches stand at `from`, one position each.
    pub fn new(from: Vec<Position>) -> Self {
        let branches = from.into_iter().map(|watermark| Branch { next: 0, watermark }).collect();
        Self { first: 0, batches: VecDeque::new(), owed: VecDeque::new(), branches, bytes: 0 }
    }

    /// Takes in the next batch and numbers it.
    ///
    /// - `end`: everything of the stream below it has now been admitted.
    /// - `bytes`: what it takes of the credits until it is settled.
    /// - `owed`: for each branch how many settlements it waits for; 0 is settled at once.
    ///
    /// # Panics
    /// If `owed` has not one number for each branch.
    pub fn admit(&mut self, end: Position, bytes: u32, owed: &[u32]) -> u64 {
        assert_eq!(owed.len(), self.branches.len(), "one count for each branch");
        let seq = self.first + self.batches.len() as u64;
        self.batches.push_back(Entry { end, bytes });
        self.owed.extend(owed);
        self.bytes += u64::from(bytes);
        self.advance();
        seq
    }

    /// Batch `seq`, of which this branch still owes something, owes `n` more and takes `bytes` more of
    /// the credits: something was made of its messages.
    ///
    /// # Panics
    /// If the branch owes nothing of the batch: it may be acked already.
    pub fn owe(&mut self, seq: u64, branch: usize, n: u32, bytes: u32) {
        let at = seq.checked_sub(self.first).expect("a batch that owes is there") as usize;
        let owed = &mut self.owed[at * self.branches.len() + branch];
        assert!(*owed > 0, "what is made of a message comes before its settlement");
        *owed += n;
        let entry = &mut self.batches[at];
        let before = entry.bytes;
        entry.bytes = before.saturating_add(bytes);
        self.bytes += u64::from(entry.bytes - before);
    }

    /// Settles `n` messages of batch `seq`, and advances over batches that owe nothing more.
    ///
    /// | watermark | settled           | becomes | because                       |
    /// |-----------|-------------------|---------|-------------------------------|
    /// | batch 7   | the last of 8     | batch 8 | contiguous                    |
    /// | batch 7   | the last of 9     | batch 7 | 8 still owes                  |
    /// | batch 7   | one more of 7     | abort   | settled twice: we are wrong   |
    ///
    /// # Panics
    /// If the batch does not owe so many.
    pub fn settle(&mut self, seq: u64, branch: usize, n: u32) {
        let at = seq.checked_sub(self.first).expect("a batch is settled once") as usize;
        let owed = &mut self.owed[at * self.branches.len() + branch];
        *owed = owed.checked_sub(n).expect("a message is settled once");
        if *owed == 0 && self.branches[branch].next == seq {
            self.advance();
        }
    }

    /// Where the branch stands: everything below is acked.
    pub fn watermark(&self, branch: usize) -> &Position {
        &self.branches[branch].watermark
    }

    /// Batches that some branch still owes.
    pub fn batches(&self) -> usize {
        self.batches.len()
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn advance(&mut self) {
        let width = self.branches.len();
        let admitted = self.first + self.batches.len() as u64;
        let mut lowest = admitted;
        for (number, branch) in self.branches.iter_mut().enumerate() {
            while branch.next < admitted {
                let at = (branch.next - self.first) as usize;
                if self.owed[at * width + number] > 0 {
                    break;
                }
                branch.next += 1;
                // A branch that had run ahead before a restart is not set back by rereading.
                if self.batches[at].end > branch.watermark {
                    branch.watermark = self.batches[at].end.clone();
                }
            }
            lowest = lowest.min(branch.next);
        }
        while self.first < lowest {
            let entry = self.batches.pop_front().expect("a numbered batch is there");
            self.bytes -= u64::from(entry.bytes);
            self.owed.drain(..width);
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u64) -> Position {
        Position::Count(n)
    }

    #[test]
    fn the_table_of_settle_holds() {
        let mut ledger = Ledger::new(vec![at(7)]);
        let eight = ledger.admit(at(8), 10, &[2]);
        let nine = ledger.admit(at(9), 10, &[1]);
        ledger.settle(nine, 0, 1);
        assert_eq!(ledger.watermark(0), &at(7), "8 still owes");
        ledger.settle(eight, 0, 1);
        assert_eq!(ledger.watermark(0), &at(7), "8 owes one more");
        ledger.settle(eight, 0, 1);
        assert_eq!(ledger.watermark(0), &at(9), "contiguous");
        assert_eq!((ledger.batches(), ledger.bytes()), (0, 0));
    }

    #[test]
    #[should_panic(expected = "a message is settled once")]
    fn settling_more_than_is_owed_aborts() {
        let mut ledger = Ledger::new(vec![at(0), at(0)]);
        let seq = ledger.admit(at(1), 1, &[1, 1]);
        ledger.settle(seq, 0, 1);
        ledger.settle(seq, 0, 1);
    }

    #[test]
    fn what_is_owed_later_is_waited_for_as_well() {
        let mut ledger = Ledger::new(vec![at(7)]);
        let eight = ledger.admit(at(8), 10, &[1]);
        ledger.owe(eight, 0, 2, 5);
        assert_eq!(ledger.bytes(), 15);
        ledger.settle(eight, 0, 1);
        ledger.settle(eight, 0, 1);
        assert_eq!(ledger.watermark(0), &at(7), "a child is still on its way");
        ledger.settle(eight, 0, 1);
        assert_eq!((ledger.watermark(0), ledger.bytes()), (&at(8), 0));
    }

    #[test]
    #[should_panic(expected = "comes before its settlement")]
    fn a_child_of_a_settled_message_aborts() {
        let mut ledger = Ledger::new(vec![at(0), at(0)]);
        let seq = ledger.admit(at(1), 1, &[1, 1]);
        ledger.settle(seq, 0, 1);
        ledger.owe(seq, 0, 1, 0);
    }

    #[test]
    fn a_branch_that_ran_ahead_is_not_set_back() {
        let mut ledger = Ledger::new(vec![at(1), at(5)]);
        ledger.admit(at(3), 1, &[0, 0]);
        assert_eq!((ledger.watermark(0), ledger.watermark(1)), (&at(3), &at(5)));
    }

    mod naive {
        /// Every batch ever, and a look through all of them for each question.
        pub struct Ledger(pub Vec<(u64, Vec<u32>)>);

        impl Ledger {
            pub fn watermark(&self, branch: usize) -> u64 {
                self.0.iter().take_while(|(_, owed)| owed[branch] == 0).map(|(end, _)| *end).last().unwrap_or(0)
            }
            pub fn in_flight(&self) -> usize {
                let settled = (0..2).map(|b| self.0.iter().take_while(|(_, owed)| owed[b] == 0).count()).min().unwrap_or(0);
                self.0.len() - settled
            }
        }
    }

    mod props {
        use proptest::prelude::*;

        use super::{super::*, at, naive};

        proptest! {
            #[test]
            fn the_ledger_agrees_with_a_list_of_everything(steps in proptest::collection::vec((0..4u8, 0..4u32, 0..4u32, any::<u16>()), 1..60)) {
                let mut ledger = Ledger::new(vec![at(0), at(0)]);
                let mut naive = naive::Ledger(Vec::new());
                for (what, a, b, pick) in steps {
                    if what == 0 || naive.0.is_empty() {
                        let end = naive.0.len() as u64 + 1;
                        prop_assert_eq!(ledger.admit(at(end), 1, &[a, b]), end - 1);
                        naive.0.push((end, vec![a, b]));
                    } else {
                        let seq = usize::from(pick) % naive.0.len();
                        let branch = usize::from(what) % 2;
                        let n = naive.0[seq].1[branch].min(a);
                        if n > 0 && b == 3 {
                            ledger.owe(seq as u64, branch, a, 0);
                            naive.0[seq].1[branch] += a;
                        } else if n > 0 {
                            ledger.settle(seq as u64, branch, n);
                            naive.0[seq].1[branch] -= n;
                        }
                    }
                    for branch in 0..2 {
                        prop_assert_eq!(ledger.watermark(branch), &at(naive.watermark(branch)));
                    }
                    prop_assert_eq!(ledger.batches(), naive.in_flight());
                    prop_assert_eq!(ledger.bytes(), naive.in_flight() as u64);
                }
            }
        }
    }
}
