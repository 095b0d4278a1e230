//! The folders whose files may be scanned, and the only way in which one of these files is opened.
//!
//! - A file is named by a root and a path below it. [`Roots::resolve`] reads such a name out of a request by its text
//!   alone, so its answer cannot depend on what exists.
//! - [`Roots::open_file`] opens once, beneath the root's own descriptor: no `..`, no links, no other device, regular files
//!   only. What follows (size, hashes, rules) sees that one descriptor, through [`read_whole`].
//! - A folder that takes a root's place later is used only if there is no link on its whole path; links that the config
//!   itself has in a root's path are followed once, at the start.
//!
//! Refuses to write, and to know what a file is opened for.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

mod beneath;
mod read;
#[cfg(test)]
mod tests;
mod tree;

use std::{
    fmt, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};

use self::beneath::Way;
pub use self::{
    read::{Whole, read_whole},
    tree::{Entry, WalkError, below},
};
use super::{
    outcome::Reason,
    settings::Root,
    task::{Identity, RelPath},
};
use crate::limits;

/// The root in which uploaded bytes are kept. No request names a file in it.
pub const UPLOAD: &str = "upload";

/// The name is not below a root. Says nothing of what exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path is not allowed; name a file below one of the roots, relative to it or by its absolute path")]
pub struct NotAllowed;

/// A file that was opened, and what it was at that moment.
#[derive(Debug)]
pub struct Opened {
    pub fd: OwnedFd,
    pub identity: Identity,
}

/// A folder whose names can be looked at.
#[derive(Debug)]
pub struct Looks {
    fd: OwnedFd,
    dev: u64,
}

impl Looks {
    /// What a name is now; `None` if it is no regular file on the root's device.
    ///
    /// # Errors
    /// `io`, or a name that could not be.
    pub fn look(&self, name: &[u8]) -> Result<Option<Identity>, OpenFailure> {
        Ok(look_at(self.fd.as_fd(), name)?.filter(|stat| is_file(stat, self.dev)).map(|stat| identity(&stat)))
    }
}

/// Why a file is not opened or read. `reason` is one of those of verdict `error`.
#[derive(Debug, thiserror::Error)]
#[error("cannot open or read the file ({reason:?})")]
pub struct OpenFailure {
    pub reason: Reason,
    #[source]
    pub cause: Option<io::Error>,
}

impl From<Reason> for OpenFailure {
    fn from(reason: Reason) -> Self {
        Self { reason, cause: None }
    }
}

impl From<Errno> for OpenFailure {
    /// | what the kernel says | reason |
    /// |---|---|
    /// | a link on the way, a way out of the root | `not_allowed` |
    /// | no such name, or none that could be | `not_found` |
    /// | a socket, a device without a driver | `not_a_file` |
    /// | anything else | `io`, which is tried again |
    fn from(errno: Errno) -> Self {
        let reason = match errno {
            Errno::LOOP | Errno::XDEV => Reason::NotAllowed,
            Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::INVAL => Reason::NotFound,
            Errno::NXIO | Errno::NODEV => Reason::NotAFile,
            _ => Reason::Io,
        };
        Self { reason, cause: Some(errno.into()) }
    }
}

/// Why the roots cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    #[error("scan root {name} has path {path}, which is not absolute; write it from the first `/` on")]
    Relative { name: String, path: PathBuf },
    #[error("two scan roots are called {name}; rename one of them")]
    Twice { name: String },
    #[error("scan root {name}: {path} is not a folder; correct its path")]
    NotAFolder { name: String, path: PathBuf },
    #[error("cannot open scan root {name} at {path}; let the agent's user read it")]
    Open { name: String, path: PathBuf, source: io::Error },
}

/// All roots. One that does not exist yet is used from the moment at which it does.
pub struct Roots {
    roots: Vec<Held>,
    way: Way,
}

struct Held {
    name: String,
    /// As the operator wrote it.
    path: PathBuf,
    /// Without links: what they led to at the start.
    real: PathBuf,
    open: Mutex<Option<Arc<Folder>>>,
}

/// A root's folder, held open.
struct Folder {
    fd: OwnedFd,
    dev: u64,
    inode: u64,
}

impl Roots {
    /// Opens those that exist.
    ///
    /// # Errors
    /// All but "does not exist": a root that is written wrongly, is no folder, or may not be read.
    pub fn open(roots: &[Root]) -> Result<Self, RootsError> {
        Self::open_by(roots, Way::find())
    }

    fn open_by(roots: &[Root], way: Way) -> Result<Self, RootsError> {
        let mut held: Vec<Held> = Vec::with_capacity(roots.len());
        for Root { name, path, .. } in roots {
            let (name, path) = (name.clone(), path.clone());
            if !path.is_absolute() {
                return Err(RootsError::Relative { name, path });
            }
            if held.iter().any(|other| other.name == name) {
                return Err(RootsError::Twice { name });
            }
            let root = Held { real: without_links(&path), name: name.clone(), path: path.clone(), open: Mutex::new(None) };
            match root.reopen() {
                Ok(()) | Err(Errno::NOENT) => held.push(root),
                Err(Errno::NOTDIR) => return Err(RootsError::NotAFolder { name, path }),
                Err(errno) => return Err(RootsError::Open { name, path, source: errno.into() }),
            }
        }
        Ok(Self { roots: held, way })
    }

    /// Names of all roots, in the order of the config.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.roots.iter().map(|root| root.name.as_str())
    }

    /// Which of them do not exist, or have become what may not be followed: name and path.
    pub fn missing(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.roots.iter().filter(|root| root.folder().is_none()).map(|root| (root.name.as_str(), root.path.as_path()))
    }

    /// What a request means by a path: the name of a root, and the path below it.
    ///
    /// - `root`: `None` is the first root for a relative path, and any for an absolute one.
    /// - `file_path`: relative to that root, or absolute and below it. Empty parts and `.` count for nothing.
    ///
    /// # Errors
    /// An unknown root, a path outside of it, `..` anywhere, a NUL, more than [`limits::SCAN_PATH_BYTES_MAX`] bytes. The
    /// disk is not asked.
    pub fn resolve(&self, root: Option<&str>, file_path: &[u8]) -> Result<(&str, RelPath), NotAllowed> {
        if file_path.len() > limits::SCAN_PATH_BYTES_MAX || file_path.contains(&0) || parts(file_path).any(|part| part == b"..") {
            return Err(NotAllowed);
        }
        let mut open = self.roots.iter().filter(|held| held.name != UPLOAD && root.is_none_or(|name| held.name == name));
        if !file_path.starts_with(b"/") {
            let held = open.next().ok_or(NotAllowed)?;
            return Ok((&held.name, joined(parts(file_path))));
        }
        // Of roots inside each other the inner one is meant.
        let below = |held: &Held| [&held.path, &held.real].into_iter().filter_map(|path| rest_below(path, file_path)).min_by_key(Vec::len);
        open.filter_map(|held| below(held).map(|rest| (held, rest)))
            .min_by_key(|(_, rest)| rest.len())
            .map(|(held, rest)| (held.name.as_str(), joined(rest.into_iter())))
            .ok_or(NotAllowed)
    }

    /// Opens a file for reading. Never waits: neither for a pipe's other end nor for a terminal.
    ///
    /// - `limit`: bytes; a file of so many is allowed.
    ///
    /// # Errors
    /// As [`OpenFailure`] says; a link is `not_allowed` wherever it leads, and whether what it leads to exists or not.
    pub fn open_file(&self, root: &str, path: &RelPath, limit: u64) -> Result<Opened, OpenFailure> {
        let folder = self.folder(root)?;
        let fd = self.way.open(&folder.fd, checked(path)?, OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Reason::NotAFile.into());
        }
        if stat.st_dev != folder.dev {
            return Err(Reason::NotAllowed.into());
        }
        let identity = identity(&stat);
        if identity.size > limit {
            return Err(Reason::TooLarge.into());
        }
        Ok(Opened { fd, identity })
    }

    /// Opens a folder, to list it or to act on names in it. An empty path is the root itself.
    ///
    /// # Errors
    /// As [`Self::open_file`]; what is no folder is `not_found`, another device `not_allowed`.
    pub fn open_folder(&self, root: &str, path: &RelPath) -> Result<OwnedFd, OpenFailure> {
        let folder = self.folder(root)?;
        let path = if path.0.is_empty() { b"." } else { checked(path)? };
        let fd = self.way.open(&folder.fd, path, OFlags::DIRECTORY)?;
        if rustix::fs::fstat(&fd)?.st_dev != folder.dev {
            return Err(Reason::NotAllowed.into());
        }
        Ok(fd)
    }

    /// What a name is now, without opening it; `None` if it is no regular file on the root's device.
    ///
    /// # Errors
    /// As [`Self::open_folder`] for the folder that it is in.
    pub fn look(&self, root: &str, path: &RelPath) -> Result<Option<Identity>, OpenFailure> {
        let (folder, name) = apart(path);
        self.look_in(root, &folder)?.look(name)
    }

    /// Opens a folder to look at names in it.
    ///
    /// # Errors
    /// As [`Self::open_folder`].
    pub fn look_in(&self, root: &str, folder: &RelPath) -> Result<Looks, OpenFailure> {
        let fd = self.open_folder(root, folder)?;
        let dev = rustix::fs::fstat(&fd)?.st_dev;
        Ok(Looks { fd, dev })
    }

    fn folder(&self, root: &str) -> Result<Arc<Folder>, OpenFailure> {
        let held = self.roots.iter().find(|held| held.name == root).ok_or(Reason::NotAllowed)?;
        held.folder().ok_or(Reason::NotFound.into())
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.roots.iter().map(|root| (&root.name, &root.path))).finish()
    }
}

impl Held {
    /// The folder that stands at the root's path now. Zeek makes its folder anew when it is deployed.
    fn folder(&self) -> Option<Arc<Folder>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let stands = rustix::fs::lstat(&self.real).ok();
        match (&open, stands) {
            (Some(folder), Some(stat)) if (folder.dev, folder.inode) == (stat.st_dev, stat.st_ino) => open,
            // A refusal leaves nothing: what was moved away is no root any more.
            _ => {
                let _ = self.reopen();
                self.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
            }
        }
    }

    fn reopen(&self) -> Result<(), Errno> {
        let opened = open_without_links(&self.real).and_then(|fd| rustix::fs::fstat(&fd).map(|stat| (fd, stat)));
        let (folder, answer) = match opened {
            Ok((fd, stat)) => (Some(Arc::new(Folder { fd, dev: stat.st_dev, inode: stat.st_ino })), Ok(())),
            Err(errno) => (None, Err(errno)),
        };
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = folder;
        answer
    }
}

/// The path with the links resolved that are on it now. Of what does not exist the text stays.
fn without_links(path: &Path) -> PathBuf {
    let known = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    known.map_or_else(|| path.to_owned(), |(above, real)| path.strip_prefix(above).map_or(real.clone(), |rest| real.join(rest)))
}

fn open_without_links(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let strict = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(CWD, path, flags, Mode::empty(), strict) {
        Err(Errno::NOSYS | Errno::PERM) => {
            let slash = rustix::fs::open("/", flags, Mode::empty())?;
            let below: Vec<u8> = path.as_os_str().as_bytes().iter().copied().skip_while(|byte| *byte == b'/').collect();
            Way::Steps.open(&slash, if below.is_empty() { b"." } else { &below }, OFlags::DIRECTORY)
        }
        answer => answer,
    }
}

/// The parts of a path, without those that count for nothing.
fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

fn joined<'p>(parts: impl Iterator<Item = &'p [u8]>) -> RelPath {
    RelPath(parts.collect::<Vec<_>>().join(&b'/'))
}

/// The parts of `path` behind those of `root`.
fn rest_below<'p>(root: &Path, path: &'p [u8]) -> Option<Vec<&'p [u8]>> {
    let mut left = parts(path);
    parts(root.as_os_str().as_bytes()).all(|part| left.next() == Some(part)).then(|| left.collect())
}

/// A path that may be handed to the kernel: not every one was made by [`Roots::resolve`].
fn checked(path: &RelPath) -> Result<&[u8], OpenFailure> {
    let bytes = path.0.as_slice();
    let is_plain = !bytes.is_empty() && bytes.len() <= limits::SCAN_PATH_BYTES_MAX && !bytes.contains(&0);
    let parts_are_names = bytes.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."));
    if is_plain && parts_are_names { Ok(bytes) } else { Err(Reason::NotAllowed.into()) }
}

/// The folder of a path, and the name in it.
pub fn apart(path: &RelPath) -> (RelPath, &[u8]) {
    let name = path.name();
    let folder = path.0.get(..path.0.len() - name.len()).unwrap_or_default();
    (RelPath(folder.strip_suffix(b"/").unwrap_or(folder).to_vec()), name)
}

/// What a name in a folder is, itself and not what it leads to; `None` if there is none.
pub fn look_at(folder: rustix::fd::BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stat>, OpenFailure> {
    match rustix::fs::statat(folder, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn is_file(stat: &Stat, dev: u64) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_dev == dev
}

/// What makes a file this file. A file that is read later than its `mtime_ns` by a tick of the kernel's clock (10 ms at
/// most) cannot be written again without another identity.
pub fn identity(stat: &Stat) -> Identity {
    Identity {
        dev: stat.st_dev,
        inode: stat.st_ino,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime_ns: stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
    }
}
