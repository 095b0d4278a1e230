//! Where matched files are kept: a folder of ours, each file once, by the SHA-256 of its bytes.

use std::{
    fs::File,
    io::{self, Write},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, RenameFlags},
    io::Errno,
};

use crate::scan::roots::Roots;

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    #[error("cannot use the quarantine folder {path}; make it yourself, mode 0700, owned by the agent's user")]
    Open { path: PathBuf, source: io::Error },
    #[error("the quarantine folder {path} is open to others; `chmod 0700` it, and let the agent's user own it")]
    Others { path: PathBuf },
    #[error("the quarantine folder {path} is below a scan root, so what is moved there would be scanned again; name another one")]
    Inside { path: PathBuf },
}

/// The folder, open.
#[derive(Debug)]
pub struct Quarantine {
    fd: OwnedFd,
}

impl Quarantine {
    /// Opens it, and makes it if it is not there.
    ///
    /// # Errors
    /// It cannot be made or opened, is a link, is not ours alone, or is below one of the roots.
    pub fn open(path: &Path, roots: &Roots) -> Result<Self, QuarantineError> {
        let real = path.parent().and_then(|above| Some(above.canonicalize().ok()?.join(path.file_name()?)));
        let is_below = |path: &Path| roots.resolve(None, path.as_os_str().as_bytes()).is_ok();
        if is_below(path) || real.is_some_and(|real| is_below(&real)) {
            return Err(QuarantineError::Inside { path: path.to_owned() });
        }
        let failed = |errno: Errno| QuarantineError::Open { path: path.to_owned(), source: errno.into() };
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
        let stat = rustix::fs::fstat(&fd).map_err(failed)?;
        if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o077 != 0 {
            return Err(QuarantineError::Others { path: path.to_owned() });
        }
        Ok(Self { fd })
    }

    /// Keeps bytes under their SHA-256, mode 0400, on disk when it comes back. Those that are there already are left alone.
    ///
    /// A copy, and not the file itself: somebody may still have that one open for writing.
    ///
    /// # Errors
    /// As open(2), write(2), fsync(2), rename(2).
    pub(super) fn keep(&self, sha256: &str, bytes: &[u8]) -> io::Result<()> {
        let new = format!(".new-{sha256}");
        match rustix::fs::unlinkat(&self.fd, &new, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&self.fd, &new, flags, Mode::RUSR)?);
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        let kept = written.and_then(|()| match rustix::fs::renameat_with(&self.fd, &new, &self.fd, sha256, RenameFlags::NOREPLACE) {
            // A file system that knows no such rename: the names are the same for the same bytes only.
            Err(Errno::INVAL | Errno::NOSYS) => Ok(rustix::fs::renameat(&self.fd, &new, &self.fd, sha256)?),
            Err(Errno::EXIST) => Ok(rustix::fs::unlinkat(&self.fd, &new, AtFlags::empty())?),
            answer => Ok(answer?),
        });
        if kept.is_err() {
            let _ = rustix::fs::unlinkat(&self.fd, &new, AtFlags::empty());
        }
        kept?;
        Ok(rustix::fs::fsync(&self.fd)?)
    }
}
