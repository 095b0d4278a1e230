//! Pooled buffers that hold whole frames.
//!
//! A slab is taken from its pool, filled by a reader, carried through handlers and sinks as part
//! of a batch, and finds its way back to the pool when the last holder lets go of it. Which
//! thread that is does not matter.

use std::{fmt, sync::Arc};

use crate::{limits, ring::Ring};

/// Where slabs come from and return to.
///
/// Taking one never waits: with the pool empty a new buffer is made, and dropped instead of
/// returned once the pool is full again. How many are alive is bounded by credits.
#[derive(Clone, Debug)]
pub struct SlabPool {
    free: Arc<Ring<Vec<u8>>>,
}

impl SlabPool {
    /// A pool that keeps up to `slots` buffers of [`limits::SLAB_BYTES`].
    pub fn new(slots: usize) -> Self {
        Self { free: Arc::new(Ring::new(slots)) }
    }

    /// An empty slab whose buffer has room for at least `room` bytes.
    pub fn take(&self, room: usize) -> Slab {
        let mut bytes = if room <= limits::SLAB_BYTES { self.free.pop().unwrap_or_default() } else { Vec::new() };
        bytes.clear();
        bytes.reserve(room.max(limits::SLAB_BYTES));
        Slab { bytes, pool: Some(self.clone()) }
    }
}

/// A buffer on loan from its pool.
#[derive(Default)]
pub struct Slab {
    /// What has been read.
    pub bytes: Vec<u8>,
    pool: Option<SlabPool>,
}

impl Slab {
    /// A slab without a pool, for tests and one-off records.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { bytes, pool: None }
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take()
            && self.bytes.capacity() <= 2 * limits::SLAB_BYTES
        {
            let _ = pool.free.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl fmt::Debug for Slab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slab({} bytes)", self.bytes.len())
    }
}
