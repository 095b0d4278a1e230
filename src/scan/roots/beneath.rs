//! Opening beneath a folder: nothing on the way may be a link or lead out of it.

use std::os::fd::OwnedFd;

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};

/// Tries of one opening: the kernel says "again" when somebody renames folders meanwhile.
const TRIES: u32 = 16;

/// How it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// openat2(2), since Linux 5.6: the kernel walks.
    Openat2,
    /// One name after the other, where openat2 is not known or forbidden.
    Steps,
}

impl Way {
    /// What works here.
    pub(super) fn find() -> Self {
        let tried =
            rustix::fs::openat2(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
        if tried.is_ok() { Self::Openat2 } else { Self::Steps }
    }

    /// Opens `path`, which has no `..` and no first `/`, for reading, with `more` flags.
    ///
    /// # Errors
    /// `ELOOP` for a link, whatever it leads to.
    pub(super) fn open(self, folder: &OwnedFd, path: &[u8], more: OFlags) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | more;
        match self {
            Self::Openat2 => {
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
                let mut tries = 0;
                loop {
                    tries += 1;
                    match rustix::fs::openat2(folder, path, flags, Mode::empty(), resolve) {
                        Err(Errno::AGAIN | Errno::INTR) if tries < TRIES => {}
                        answer => return answer,
                    }
                }
            }
            Self::Steps => {
                let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
                    Some(at) => (path.get(..at), path.get(at + 1..).unwrap_or_default()),
                    None => (None, path),
                };
                let mut at: Option<OwnedFd> = None;
                for part in above.into_iter().flat_map(|above| above.split(|byte| *byte == b'/')) {
                    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                    at = Some(open_one(at.as_ref().unwrap_or(folder), part, step)?);
                }
                open_one(at.as_ref().unwrap_or(folder), name, flags)
            }
        }
    }
}

/// Opens a name that is no link.
fn open_one(folder: &OwnedFd, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let opened = rustix::io::retry_on_intr(|| rustix::fs::openat(folder, name, flags | OFlags::NOFOLLOW, Mode::empty()));
    // With O_DIRECTORY a link is "not a directory", as a file is; openat2 tells them apart, so we do.
    if matches!(opened, Err(Errno::NOTDIR)) {
        let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            return Err(Errno::LOOP);
        }
    }
    opened
}
