//! The `pread` engine, which runs everywhere: cold reading by a thread of its own, O_DIRECT in blocks
//! of 1 MiB, as `dd` does, so that the disk is waited for elsewhere.
//!
//! The other way, buffered reads with the pages dropped behind them (`posix_fadvise`), copies every
//! byte once more and drops pages that the writer may still want. So that is only what is left
//! where a file system refuses O_DIRECT. The two were not measured against each other.

use std::{
    cell::OnceCell,
    io,
    ops::{Deref, Range},
    os::fd::OwnedFd,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Sender},
    },
};

use super::{
    LocalFuture,
    ahead::{Block, Blocks},
    host, local,
    start::aside,
};
use crate::{
    limits,
    ring::{Ring, Signal},
};

/// Buffers of direct reads begin at a multiple of this; no device asks for more.
const ALIGNMENT: usize = 4096;

/// One block being used up, one read, one waiting.
const DEPTH: usize = 3;

/// The engine on one thread.
#[derive(Default)]
pub(super) struct Pread {
    /// Started by the first cold read.
    reader: OnceCell<Reader>,
}

impl local::Engine for Pread {
    fn name(&self) -> &'static str {
        "pread"
    }

    fn blocks(&self) -> (usize, usize) {
        (limits::COLD_BLOCK_BYTES, DEPTH)
    }

    fn open(self: Rc<Self>, fd: &Rc<OwnedFd>) -> io::Result<Box<dyn Blocks>> {
        let direct = Arc::new(host::reopen_direct(&**fd)?);
        let reader = match self.reader.get() {
            Some(reader) => reader,
            None => {
                let started = Reader::start()
                    .inspect_err(|e| tracing::warn!("cannot start the thread for cold reads: {e}; they go through the page cache"))?;
                self.reader.get_or_init(|| started)
            }
        };
        Ok(Box::new(Cold { fd: direct, reader: reader.clone() }))
    }
}

/// The thread that reads for one executor. It ends when this and all its files are gone.
#[derive(Clone)]
struct Reader {
    orders: Sender<Order>,
}

struct Order {
    fd: Arc<OwnedFd>,
    from: u64,
    size: u64,
    reply: Arc<Reply>,
}

#[derive(Default)]
struct Reply {
    block: Mutex<Option<io::Result<Aligned>>>,
    signal: Signal,
}

/// A stretch of a buffer that begins where the device wants it, and whose room goes back to the
/// reader.
struct Aligned {
    bytes: Vec<u8>,
    part: Range<usize>,
    spare: Arc<Ring<Vec<u8>>>,
}

impl Deref for Aligned {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.bytes.get(self.part.clone()).unwrap_or_default()
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        let _ = self.spare.push(std::mem::take(&mut self.bytes));
    }
}

impl Reader {
    /// Starts the thread.
    ///
    /// # Errors
    /// As pthread_create(3).
    fn start() -> io::Result<Self> {
        let (orders, taken) = mpsc::channel::<Order>();
        let spare = Arc::new(Ring::new(limits::COLD_BLOCKS_AHEAD));
        aside("cold", move || {
            for order in taken {
                // Alone with the order: its reader has gone elsewhere in the file.
                if Arc::strong_count(&order.reply) > 1 {
                    let block = read(&order, &spare);
                    *order.reply.block.lock().unwrap_or_else(PoisonError::into_inner) = Some(block);
                    order.reply.signal.raise();
                }
            }
        })?;
        Ok(Self { orders })
    }
}

fn read(order: &Order, spare: &Arc<Ring<Vec<u8>>>) -> io::Result<Aligned> {
    let mut bytes = spare.pop().unwrap_or_default();
    bytes.resize(limits::COLD_BLOCK_BYTES + ALIGNMENT, 0);
    let start = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
    let room = bytes.get_mut(start..start + limits::COLD_BLOCK_BYTES).unwrap_or_default();
    let count = rustix::io::retry_on_intr(|| rustix::io::pread(&*order.fd, &mut *room, order.from))?;
    let within = usize::try_from(order.size.saturating_sub(order.from)).unwrap_or(usize::MAX);
    Ok(Aligned { bytes, part: start..start + count.min(within), spare: spare.clone() })
}

/// One file, read cold.
struct Cold {
    /// Opened anew with O_DIRECT, since the flag belongs to the open file.
    fd: Arc<OwnedFd>,
    reader: Reader,
}

impl Blocks for Cold {
    fn size(&self) -> io::Result<u64> {
        Ok(host::stat_of(&*self.fd)?.size)
    }

    fn fetch(&self, from: u64, size: u64) -> LocalFuture<'static, io::Result<Block>> {
        let reply = Arc::new(Reply::default());
        let sent = self.reader.orders.send(Order { fd: self.fd.clone(), from, size, reply: reply.clone() });
        Box::pin(async move {
            sent.map_err(|_| io::Error::other("the thread that reads cold files is gone"))?;
            loop {
                if let Some(block) = reply.block.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    return Ok(Box::new(block?) as Block);
                }
                reply.signal.wait().await;
            }
        })
    }
}
