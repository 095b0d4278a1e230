//! What every engine on a real host asks of the file system in the same way: names, identity,
//! the hot read.

#![allow(clippy::disallowed_methods, reason = "this is where the real file system is")]

use std::{
    fs,
    io::{self, IoSliceMut},
    num::NonZeroU64,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    buffer::spare_capacity,
    fs::{Advice, AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, StatxTimestamp, makedev},
    io::{Errno, ReadWriteFlags},
};

use super::Stat;

/// Opens a file for reading.
///
/// Opening never blocks: a pipe that someone put under the name of a log would otherwise hold a
/// whole shard until a writer comes. On regular files the flag changes nothing.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    Ok(rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?)
}

/// What the kernel calls the time since its start; empty where /proc does not tell.
pub(super) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// Opens once more, with O_DIRECT, what `fd` has open, whatever its name leads to by now.
///
/// # Errors
/// EINVAL where the file system has no O_DIRECT; as open(2) where /proc is not mounted.
pub(super) fn reopen_direct(fd: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::DIRECT;
    Ok(rustix::io::retry_on_intr(|| rustix::fs::open(by_number(&fd), flags, Mode::empty()))?)
}

/// A name that leads to what `fd` has open and to nothing else.
pub(super) fn by_number(fd: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// Identity and size of an open file.
pub(super) fn stat_of(fd: impl AsFd) -> io::Result<Stat> {
    stat_at(fd.as_fd(), Path::new(""), AtFlags::EMPTY_PATH)
}

/// Identity and size of what a name leads to now, links followed.
pub(super) fn stat(path: &Path) -> io::Result<Stat> {
    stat_at(CWD, path, AtFlags::empty())
}

fn stat_at(dir: impl AsFd, path: &Path, flags: AtFlags) -> io::Result<Stat> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    match rustix::fs::statx(&dir, path, flags, mask) {
        Ok(found) => {
            // A file system that keeps no birth time leaves the bit out of the answer.
            let has_birth = found.stx_mask & StatxFlags::BTIME.bits() != 0;
            Ok(Stat {
                device: makedev(found.stx_dev_major, found.stx_dev_minor),
                inode: found.stx_ino,
                born: if has_birth { nanos(&found.stx_btime) } else { 0 },
                size: found.stx_size,
                modified: nanos(&found.stx_mtime),
                is_file: FileType::from_raw_mode(u32::from(found.stx_mode)) == FileType::RegularFile,
            })
        }
        // RHEL 7's kernel has no statx(2), and some containers forbid it.
        Err(Errno::NOSYS | Errno::PERM) => old_stat(dir, path, flags),
        Err(e) => Err(e.into()),
    }
}

fn old_stat(dir: impl AsFd, path: &Path, flags: AtFlags) -> io::Result<Stat> {
    let found = if flags.contains(AtFlags::EMPTY_PATH) { rustix::fs::fstat(dir)? } else { rustix::fs::statat(dir, path, flags)? };
    Ok(Stat {
        device: found.st_dev,
        inode: found.st_ino,
        born: 0,
        size: u64::try_from(found.st_size).unwrap_or(0),
        modified: since_epoch(found.st_mtime, found.st_mtime_nsec),
        is_file: FileType::from_raw_mode(found.st_mode) == FileType::RegularFile,
    })
}

fn nanos(at: &StatxTimestamp) -> u64 {
    since_epoch(at.tv_sec, u64::from(at.tv_nsec))
}

/// Moments before 1970 count as 1970.
fn since_epoch(seconds: i64, nanos: u64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// Whole paths of what is in a folder.
pub(super) fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
}

/// Appends up to `len` bytes from `offset` to `bytes`, through the page cache.
///
/// The kernel writes into the buffer's spare room, so nothing is zeroed first. Only where the
/// room is much larger than what is asked for is a stretch of it zeroed and cut to measure.
pub(super) fn read_at(fd: impl AsFd, offset: u64, len: usize, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let before = bytes.len();
    bytes.reserve(len);
    let count = if bytes.capacity() - before <= len.saturating_mul(2) {
        rustix::io::retry_on_intr(|| rustix::io::pread(&fd, spare_capacity(bytes), offset))?
    } else {
        bytes.resize(before + len, 0);
        let read = rustix::io::retry_on_intr(|| rustix::io::pread(&fd, &mut bytes[before..], offset));
        bytes.truncate(before + read.unwrap_or(0));
        read?
    };
    // The spare room may have taken more than was asked for.
    let count = count.min(len);
    bytes.truncate(before + count);
    Ok(count)
}

/// Reads as [`read_at`], but only what is in the page cache already.
///
/// # Errors
/// `WouldBlock` if the first byte is not; `Unsupported` where the file system cannot tell.
pub(super) fn read_cached(fd: impl AsFd, offset: u64, len: usize, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let before = bytes.len();
    // This call wants a buffer that is filled already, so zero no more than can be read: a tail
    // asks for a whole slab and gets one line.
    let there = if len <= TAIL_BYTES {
        len
    } else {
        usize::try_from(stat_of(&fd)?.size.saturating_sub(offset)).unwrap_or(usize::MAX).max(TAIL_BYTES)
    };
    bytes.resize(before + len.min(there), 0);
    let read = rustix::io::retry_on_intr(|| {
        rustix::io::preadv2(&fd, &mut [IoSliceMut::new(&mut bytes[before..])], offset, ReadWriteFlags::NOWAIT)
    });
    bytes.truncate(before + read.unwrap_or(0));
    Ok(read?)
}

/// Reads as [`read_at`], and drops from the page cache what was read.
pub(super) fn read_behind(fd: impl AsFd, offset: u64, len: usize, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let count = read_at(&fd, offset, len, bytes)?;
    drop_behind(fd, offset, count);
    Ok(count)
}

/// Drops from the page cache what was read cold all the same.
pub(super) fn drop_behind(fd: impl AsFd, offset: u64, count: usize) {
    if let Some(len) = NonZeroU64::new(count as u64) {
        // Advice that is not taken costs others some cache, no more.
        let _ = rustix::fs::fadvise(&fd, offset, Some(len), Advice::DontNeed);
    }
}

/// Bytes that are zeroed without asking how many there are to read.
const TAIL_BYTES: usize = 4 * 4096;
