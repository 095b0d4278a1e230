//! Cold reading: whole aligned blocks past the page cache, several of them in flight while a file
//! is read from front to back.
//!
//! An engine says how one block is fetched; this module knows which blocks are wanted next. A
//! read that does not continue the last one is a seek: what was read ahead is dropped, and only
//! the blocks that it touches are fetched, until the next read continues it.
//!
//! Invariant: of a block only those bytes are believed that lay within the file's length when it
//! was asked for. Direct reads at the end of a file come back rounded, with whatever the buffer
//! held before.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    ops::Deref,
    rc::Rc,
};

use super::LocalFuture;

/// Bytes of a block that are in the file, from the block's start.
pub(super) type Block = Box<dyn Deref<Target = [u8]>>;

/// How blocks of one file are had.
pub(super) trait Blocks {
    /// Bytes in the file now.
    fn size(&self) -> io::Result<u64>;
    /// Begins to read the block at `from`, of which the bytes below `size` count. The read goes on
    /// while nobody waits for it, and also if the future is dropped.
    fn fetch(&self, from: u64, size: u64) -> LocalFuture<'static, io::Result<Block>>;
}

/// How many blocks of all files of one executor may be read ahead.
#[derive(Clone)]
pub(super) struct Budget(Rc<Cell<usize>>);

impl Budget {
    pub(super) fn new(blocks: usize) -> Self {
        Self(Rc::new(Cell::new(blocks)))
    }

    fn take(&self) -> Option<Permit> {
        self.0.set(self.0.get().checked_sub(1)?);
        Some(Permit(self.clone()))
    }
}

struct Permit(Budget);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get() + 1);
    }
}

/// The blocks of one file that are on their way or not yet used up.
pub(super) struct Ahead {
    /// Bytes of a block, a power of two.
    block: u64,
    /// Blocks in flight while reading goes on from front to back.
    depth: usize,
    budget: Budget,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// Where the last read ended: one that begins here continues it.
    expected: Option<u64>,
    /// Blocks without a gap, the one being used up first.
    queue: VecDeque<Slot>,
}

struct Slot {
    from: u64,
    reading: Reading,
    /// The first block of a read needs none, so that reading never stands still for want of it.
    _permit: Option<Permit>,
}

enum Reading {
    InFlight(LocalFuture<'static, io::Result<Block>>),
    Done(Block),
}

impl Ahead {
    pub(super) fn new(block: usize, depth: usize, budget: Budget) -> Self {
        assert!(block.is_power_of_two(), "blocks are aligned by their own size");
        Self { block: block as u64, depth, budget, state: RefCell::default() }
    }

    /// Drops what was read ahead.
    pub(super) fn clear(&self) {
        self.state.take();
    }

    /// Appends up to `len` bytes from `offset` to `into`; fewer only at the end of the file.
    ///
    /// # Errors
    /// As `blocks`; the blocks that were read ahead are then forgotten.
    pub(super) async fn read(&self, blocks: &dyn Blocks, offset: u64, len: usize, into: &mut Vec<u8>) -> io::Result<usize> {
        // Taken out while reading: after an error, or when the reader loses patience and drops
        // this future, the next read simply begins anew.
        let mut state = self.state.take();
        let goes_on = state.expected == Some(offset);
        let (before, end) = (into.len(), offset.saturating_add(len as u64));
        let (mut at, mut size, mut looked_again) = (offset, blocks.size()?, false);
        while at < end {
            let from = at & !(self.block - 1);
            if state.queue.front().is_none_or(|slot| slot.from != from) {
                state.queue.clear();
            }
            let until = if goes_on { u64::MAX } else { end };
            self.fill(&mut state.queue, blocks, from, until, size);
            let Some(slot) = state.queue.front_mut() else { break };
            let bytes = slot.bytes().await?;
            let rest = usize::try_from(at - from).ok().and_then(|used| bytes.get(used..)).unwrap_or_default();
            let part = &rest[..rest.len().min((end - at) as usize)];
            if part.is_empty() {
                // The block ends early: it was read when the file was shorter, or this is the end.
                state.queue.clear();
                if looked_again {
                    break;
                }
                (size, looked_again) = (blocks.size()?, true);
                continue;
            }
            into.extend_from_slice(part);
            at += part.len() as u64;
            looked_again = false;
            if at == from + self.block {
                state.queue.pop_front();
            }
        }
        state.expected = Some(at);
        self.state.replace(state);
        Ok(into.len() - before)
    }

    /// Asks for the block at `from` and those behind it, as far as they are wanted and allowed.
    fn fill(&self, queue: &mut VecDeque<Slot>, blocks: &dyn Blocks, from: u64, until: u64, size: u64) {
        let mut next = queue.back().map_or(from, |last| last.from + self.block);
        while queue.len() < self.depth && next < size && next < until {
            let permit = if queue.is_empty() {
                None
            } else {
                match self.budget.take() {
                    None => return,
                    permit => permit,
                }
            };
            queue.push_back(Slot { from: next, reading: Reading::InFlight(blocks.fetch(next, size)), _permit: permit });
            next += self.block;
        }
    }
}

impl Slot {
    async fn bytes(&mut self) -> io::Result<&[u8]> {
        if let Reading::InFlight(reading) = &mut self.reading {
            self.reading = Reading::Done(reading.await?);
        }
        match &self.reading {
            Reading::Done(block) => Ok(block),
            Reading::InFlight(_) => Ok(&[]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Future, ready},
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use proptest::prelude::*;

    use super::*;

    /// A file in memory whose blocks come rounded up to 4 bytes, with rubbish behind the end.
    struct Memory {
        bytes: RefCell<Vec<u8>>,
        fetched: Cell<usize>,
    }

    impl Memory {
        fn new(bytes: &[u8]) -> Self {
            Self { bytes: RefCell::new(bytes.to_vec()), fetched: Cell::new(0) }
        }
    }

    impl Blocks for Memory {
        fn size(&self) -> io::Result<u64> {
            Ok(self.bytes.borrow().len() as u64)
        }
        fn fetch(&self, from: u64, size: u64) -> LocalFuture<'static, io::Result<Block>> {
            self.fetched.set(self.fetched.get() + 1);
            let bytes = self.bytes.borrow();
            let from = (from as usize).min(bytes.len());
            let mut block = bytes[from..(from + 8).min(bytes.len())].to_vec();
            block.resize(block.len().next_multiple_of(4), 0xEE);
            block.truncate((size as usize).saturating_sub(from));
            Box::pin(ready(Ok(Box::new(block) as Block)))
        }
    }

    fn now<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("nothing here waits"),
        }
    }

    fn read(ahead: &Ahead, file: &Memory, offset: u64, len: usize) -> Vec<u8> {
        let mut into = b"carried".to_vec();
        let count = now(ahead.read(file, offset, len, &mut into)).expect("memory cannot fail");
        assert_eq!(count, into.len() - 7);
        into.split_off(7)
    }

    #[test]
    fn only_reading_that_goes_on_reads_ahead() {
        let file = Memory::new(&[7; 80]);
        let ahead = Ahead::new(8, 4, Budget::new(100));
        read(&ahead, &file, 16, 6);
        assert_eq!(file.fetched.get(), 1, "a first read fetches what it touches");
        read(&ahead, &file, 22, 4);
        assert_eq!(file.fetched.get(), 5, "the second goes on, and four blocks are kept in flight");
        read(&ahead, &file, 0, 2);
        assert_eq!(file.fetched.get(), 6, "a seek starts over");
    }

    #[test]
    fn files_share_what_may_be_read_ahead() {
        let files = [Memory::new(&[1; 80]), Memory::new(&[2; 80])];
        let budget = Budget::new(3);
        let aheads = [Ahead::new(8, 4, budget.clone()), Ahead::new(8, 4, budget.clone())];
        for (ahead, file) in aheads.iter().zip(&files) {
            read(ahead, file, 0, 4);
            read(ahead, file, 4, 2);
        }
        assert_eq!(files.each_ref().map(|f| f.fetched.get()), [4, 1], "the first took all, the second still reads");
        aheads[0].clear();
        read(&aheads[1], &files[1], 6, 1);
        assert_eq!(files[1].fetched.get(), 4);
        drop(aheads);
        assert_eq!(budget.0.get(), 3, "everything is given back");
    }

    proptest! {
        /// Any reads of a growing file give what a plain slice gives.
        #[test]
        fn reads_are_slices(
            start in 0usize..30,
            depth in 1usize..4,
            budget in 0usize..4,
            steps in prop::collection::vec((any::<bool>(), 0u64..70, 1usize..20, 0usize..12), 0..24),
        ) {
            let content: Vec<u8> = (0..=255).cycle().take(400).collect();
            let file = Memory::new(&content[..start]);
            let ahead = Ahead::new(8, depth, Budget::new(budget));
            let (mut size, mut at) = (start, 0);
            for (seeks, to, len, grow) in steps {
                let offset = if seeks { to } else { at };
                let got = read(&ahead, &file, offset, len);
                let whole = content[..size].get(offset as usize..).unwrap_or_default();
                prop_assert_eq!(&got[..], &whole[..len.min(whole.len())]);
                at = offset + got.len() as u64;
                size += grow;
                *file.bytes.borrow_mut() = content[..size].to_vec();
            }
        }
    }
}
