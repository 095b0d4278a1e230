//! The `uring` engine: cold reading through io_uring, by glommio. Nothing else in the agent names
//! glommio.
//!
//! A backlog is read with O_DIRECT, a slab at a time, several in flight, into buffers that are
//! registered with the ring where the host allows it. The shard's tasks do not run on glommio
//! (`docs/decisions/0008-one-executor.md`); its executor is on the same thread, since its buffers
//! cannot leave it, and has a turn when a block is waited for. While the block is not there, other
//! tasks run once in [`limits::TURN_MS`].
//!
//! glommio's sharp edges, and what is done about each:
//!
//! - A refused io_uring is a panic that poisons the process: [`probe`](super::probe) asks first.
//! - Opening a path that vanishes panics: files are opened elsewhere, and handed over by number.
//! - `DmaFile::read_at` gives bytes that are not in the file: only aligned reads are made, and cut
//!   by our own knowledge of its length ([`ahead`](super::ahead)).
//! - Opening a direct file reads /sys and panics on what it does not know: [`sysfs`] looks first.
//! - The kernel may still write into a buffer of a read that nobody waits for any more: all reads
//!   are waited for before the executor ends.

use std::{
    cell::{Cell, OnceCell, RefCell},
    future::poll_fn,
    io,
    ops::Deref,
    os::fd::OwnedFd,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use glommio::{
    LocalExecutor, LocalExecutorBuilder, Placement,
    io::{DmaFile, ReadResult},
    timer::Timer,
};

use super::{
    LocalFuture,
    ahead::{Block, Blocks},
    host, local,
    watch::either,
};
use crate::limits;

mod sysfs;

/// The engine on one thread.
#[derive(Default)]
pub(super) struct Uring {
    /// Made by the first cold read.
    ring: OnceCell<Rc<Ring>>,
}

impl local::Engine for Uring {
    fn name(&self) -> &'static str {
        "uring"
    }

    fn blocks(&self) -> (usize, usize) {
        (limits::SLAB_BYTES, limits::COLD_READS)
    }

    fn open(self: Rc<Self>, fd: &Rc<OwnedFd>) -> io::Result<Box<dyn Blocks>> {
        sysfs::expected(host::stat_of(&**fd)?.device)?;
        let ring = match self.ring.get() {
            Some(ring) => ring,
            None => {
                let made = Ring::new()
                    .map(Rc::new)
                    .inspect_err(|e| tracing::warn!("cannot start io_uring for cold reads: {e}; they go through the page cache"))?;
                self.ring.get_or_init(|| made)
            }
        };
        // Its number stays ours meanwhile. Opened anew, since O_DIRECT belongs to the open file.
        let path = host::by_number(&**fd);
        let file = ring.executor.run(DmaFile::open(path)).map_err(io::Error::from)?;
        Ok(Box::new(Cold { fd: fd.clone(), file: Rc::new(file), ring: ring.clone() }))
    }

    fn end(&self) {
        if let Some(ring) = self.ring.get() {
            ring.settle();
        }
    }
}

/// glommio's executor, and what it is to read.
struct Ring {
    executor: LocalExecutor,
    orders: RefCell<Vec<Order>>,
    /// Reads that the kernel has not answered yet.
    in_flight: Rc<Cell<usize>>,
}

struct Order {
    file: Rc<DmaFile>,
    from: u64,
    within: usize,
    slot: Rc<Slot>,
}

/// Where a block arrives.
#[derive(Default)]
struct Slot {
    block: RefCell<Option<io::Result<Block>>>,
    waker: RefCell<Option<Waker>>,
}

impl Ring {
    fn new() -> io::Result<Self> {
        // Where three times as much does not fit RLIMIT_MEMLOCK it is silently not registered with
        // the rings, and still saves each read the zeroing of fresh pages (four times the CPU).
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .name("cold")
            .io_memory(limits::COLD_PINNED_BYTES)
            .preempt_timer(Duration::from_secs(3600))
            .make()
            .map_err(io::Error::from)?;
        Ok(Self { executor, orders: RefCell::default(), in_flight: Rc::default() })
    }

    /// Begins what was ordered, and waits until the slot is filled, a turn at most.
    fn turn(&self, slot: &Slot) {
        self.executor.run(async {
            self.begin();
            let filled = poll_fn(|cx| {
                if slot.block.borrow().is_some() {
                    return Poll::Ready(());
                }
                *slot.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            });
            either(filled, async { _ = Timer::new(Duration::from_millis(limits::TURN_MS)).await }).await;
        });
    }

    fn begin(&self) {
        for Order { file, from, within, slot } in self.orders.take() {
            // Alone with the order: its reader has gone elsewhere in the file.
            if Rc::strong_count(&slot) < 2 {
                continue;
            }
            let in_flight = self.in_flight.clone();
            in_flight.set(in_flight.get() + 1);
            glommio::spawn_local(async move {
                let read = file.read_at_aligned(from, limits::SLAB_BYTES).await.map_err(io::Error::from);
                in_flight.set(in_flight.get() - 1);
                *slot.block.borrow_mut() = Some(read.map(|read| Box::new(Part(read, within)) as Block));
                if let Some(waker) = slot.waker.take() {
                    waker.wake();
                }
            })
            .detach();
        }
    }

    fn settle(&self) {
        self.executor.run(async {
            while self.in_flight.get() > 0 {
                Timer::new(Duration::from_millis(1)).await;
            }
        });
    }
}

/// One file, read cold.
struct Cold {
    fd: Rc<OwnedFd>,
    file: Rc<DmaFile>,
    ring: Rc<Ring>,
}

/// The part of a read that is in the file.
struct Part(ReadResult, usize);

impl Deref for Part {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0[..self.0.len().min(self.1)]
    }
}

impl Blocks for Cold {
    fn size(&self) -> io::Result<u64> {
        Ok(host::stat_of(&*self.fd)?.size)
    }

    fn fetch(&self, from: u64, size: u64) -> LocalFuture<'static, io::Result<Block>> {
        let (ring, slot) = (self.ring.clone(), Rc::new(Slot::default()));
        let within = usize::try_from(size.saturating_sub(from)).unwrap_or(usize::MAX);
        ring.orders.borrow_mut().push(Order { file: self.file.clone(), from, within, slot: slot.clone() });
        Box::pin(async move {
            loop {
                if let Some(block) = slot.block.take() {
                    return block;
                }
                ring.turn(&slot);
                if slot.block.borrow().is_none() {
                    tokio::task::yield_now().await;
                }
            }
        })
    }
}
