//! Cold reading through the ring: O_DIRECT, a slab at a time, several in flight.

use std::{io, ops::Deref, os::fd::OwnedFd, rc::Rc};

use glommio::io::{DmaFile, ReadResult};

use super::{Reads, sysfs};
use crate::{
    io::LocalFuture,
    io::ahead::{Block, Blocks},
    io::host,
    limits,
};

/// One file, read cold.
pub(super) struct Cold {
    fd: Rc<OwnedFd>,
    file: Rc<DmaFile>,
    reads: Rc<Reads>,
}

impl Cold {
    /// Opens once more, with O_DIRECT, what `fd` has open.
    ///
    /// # Errors
    /// The file system has no O_DIRECT, /proc is not mounted, or /sys is not as glommio expects.
    pub(super) async fn open(fd: &Rc<OwnedFd>, reads: &Rc<Reads>) -> io::Result<Self> {
        sysfs::expected(host::stat_of(&**fd)?.device)?;
        let path = host::by_number(&**fd);
        let held = fd.clone();
        let opened = reads.begin(async move {
            let opened = DmaFile::open(path).await.map_err(io::Error::from);
            drop(held); // its number must stay ours until here
            opened
        });
        Ok(Self { fd: fd.clone(), file: Rc::new(opened.await?), reads: reads.clone() })
    }
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
        let file = self.file.clone();
        let within = usize::try_from(size.saturating_sub(from)).unwrap_or(usize::MAX);
        self.reads.begin(async move {
            let read = file.read_at_aligned(from, limits::SLAB_BYTES).await.map_err(io::Error::from)?;
            Ok(Box::new(Part(read, within)) as Block)
        })
    }
}
