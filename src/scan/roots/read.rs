//! One file into one buffer.

use std::os::fd::BorrowedFd;

use rustix::{
    fs::{FileType, Stat},
    io::Errno,
};

use super::{OpenFailure, identity};
use crate::scan::{outcome::Reason, task::Identity};

/// All bytes of a file, as they were at one moment.
#[derive(Debug)]
pub struct Whole {
    pub bytes: Vec<u8>,
    pub identity: Identity,
}

/// Reads all of a file, wherever its descriptor stands.
///
/// - `limit`: bytes; a file of so many is allowed. Holes count as what they read as.
///
/// # Errors
/// `not_a_file`; `too_large`, also if it grows past the limit meanwhile; `changed` if size, mtime or ctime are others
/// afterwards than before; `io`.
pub fn read_whole(fd: BorrowedFd<'_>, limit: u64) -> Result<Whole, OpenFailure> {
    let before = rustix::fs::fstat(fd)?;
    if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
        return Err(Reason::NotAFile.into());
    }
    let identity = identity(&before);
    if identity.size > limit {
        return Err(Reason::TooLarge.into());
    }
    // Room for one byte more than there should be tells whether it grew.
    let room = usize::try_from(identity.size.saturating_add(1)).map_err(|_| Reason::TooLarge)?;
    let mut bytes: Vec<u8> = Vec::new();
    bytes.try_reserve_exact(room).map_err(|_| OpenFailure { reason: Reason::Io, cause: Some(std::io::ErrorKind::OutOfMemory.into()) })?;
    bytes.resize(room, 0);
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(fd, rest, filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(OpenFailure { reason: Reason::Io, cause: Some(errno.into()) }),
        }
    }
    bytes.truncate(filled);
    let after = rustix::fs::fstat(fd)?;
    if u64::try_from(after.st_size).unwrap_or(0) > limit {
        return Err(Reason::TooLarge.into());
    }
    if filled as u64 != identity.size || moments(&before) != moments(&after) {
        return Err(Reason::Changed.into());
    }
    Ok(Whole { bytes, identity })
}

fn moments(stat: &Stat) -> (i64, i64, u64, i64, u64) {
    (stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec)
}
