//! The host's disk, and the lock that keeps two agents off one state folder.

#![allow(clippy::disallowed_methods, reason = "an engine is where the real machine is touched")]

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read, Seek, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process,
    sync::{Mutex, PoisonError},
};

use rustix::fs::{FlockOperation, Mode, OFlags};

use super::Disk;

/// The host's disk.
///
/// Files are made with mode 0600, folders with 0700, and a symbolic link in the last place of a
/// name is never followed: the state folder is ours alone.
#[derive(Debug, Default)]
pub struct RealDisk {
    /// The file written last. Its fsync must go through the same descriptor: the kernel tells a
    /// failed write-back once, to those who had the file open.
    written: Mutex<Option<(PathBuf, File)>>,
}

impl RealDisk {
    /// The host's disk.
    pub fn new() -> Self {
        Self::default()
    }

    fn put(&self, path: &Path, flags: OFlags, bytes: &[u8]) -> io::Result<()> {
        let mut file = open(path, OFlags::WRONLY | OFlags::CREATE | flags)?;
        let result = file.write_all(bytes);
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = Some((path.to_owned(), file));
        result
    }
}

fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let fd = rustix::fs::open(path, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::RUSR | Mode::WUSR)?;
    Ok(File::from(fd))
}

impl Disk for RealDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        open(path, OFlags::RDONLY)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
    fn reader(&self, path: &Path) -> io::Result<Box<dyn Read>> {
        Ok(Box::new(open(path, OFlags::RDONLY)?))
    }
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.put(path, OFlags::TRUNC, bytes)
    }
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.put(path, OFlags::APPEND, bytes)
    }
    fn sync(&self, path: &Path) -> io::Result<()> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner).take();
        match written {
            Some((name, file)) if name == path => file.sync_all(),
            _ => open(path, OFlags::RDONLY)?.sync_all(),
        }
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        open(dir, OFlags::RDONLY | OFlags::DIRECTORY)?.sync_all()
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        open(path, OFlags::WRONLY)?.set_len(len)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
    }
    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::symlink_metadata(path)?.len())
    }
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)
    }
}

/// The right to write into a state folder; given back when dropped, also by a crash.
#[derive(Debug)]
pub struct StateLock {
    // Held open: closing it releases the lock.
    _file: File,
}

/// Why the state folder is not ours. The command line exits with 69.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another agent runs on it.
    #[error("another shipper ({holder}) holds {}; stop it, or give this one a state folder of its own with `state_dir`", dir.display())]
    Held { dir: PathBuf, holder: String },
    /// The lock file cannot be made.
    #[error("cannot lock {}; fix the permissions of its folder", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl StateLock {
    /// Locks the folder `dir`, which must exist, and writes our process id into its file `lock`.
    ///
    /// # Errors
    /// [`LockError::Held`] names the process that has it.
    ///
    /// # Source
    /// flock(2): the lock belongs to the open file, so it ends with the process, however that ends.
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join("lock");
        let fail = |source: io::Error| LockError::Io { path: path.clone(), source };
        let mut file = open(&path, OFlags::RDWR | OFlags::CREATE).map_err(fail)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // The holder may not have written its number yet.
                let _ = file.read_to_string(&mut pid);
                let holder = match pid.trim() {
                    "" => "just starting".to_owned(),
                    pid => format!("pid {}", pid.chars().take(20).collect::<String>()),
                };
                return Err(LockError::Held { dir: dir.to_owned(), holder });
            }
            Err(errno) => return Err(fail(errno.into())),
        }
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", process::id())).map_err(fail)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn files_and_folders_are_ours_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let disk = RealDisk::new();
        let dir = scratch.path().join("state/dead-letter");
        disk.make_dir(&dir).unwrap();
        disk.make_dir(&dir).unwrap();
        let file = dir.join("f");
        disk.append(&file, b"one").unwrap();
        disk.append(&file, b"two").unwrap();
        disk.sync(&file).unwrap();
        disk.sync(&file).unwrap();
        disk.sync_dir(&dir).unwrap();
        assert_eq!((mode(&dir), mode(&file)), (0o700, 0o600));
        assert_eq!((disk.read(&file).unwrap(), disk.len(&file).unwrap()), (b"onetwo".to_vec(), 6));
        disk.truncate(&file, 4).unwrap();
        disk.rename(&file, &dir.join("g")).unwrap();
        assert_eq!(disk.list(&dir).unwrap(), [dir.join("g")]);
        disk.write(&dir.join("g"), b"x").unwrap();
        assert_eq!(disk.read(&dir.join("g")).unwrap(), b"x");
        disk.remove(&dir.join("g")).unwrap();
        assert_eq!(disk.read(&dir.join("g")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_planted_link_is_not_followed() {
        let scratch = tempfile::tempdir().unwrap();
        let target = scratch.path().join("target");
        fs::write(&target, b"precious").unwrap();
        let link = scratch.path().join("checkpoint.tmp");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let disk = RealDisk::new();
        assert!(disk.write(&link, b"ours").is_err());
        assert!(disk.append(&link, b"ours").is_err());
        assert!(disk.truncate(&link, 0).is_err());
        assert_eq!(fs::read(&target).unwrap(), b"precious");
    }

    #[test]
    fn a_second_start_is_told_who_holds_the_state() {
        let scratch = tempfile::tempdir().unwrap();
        let first = StateLock::take(scratch.path()).unwrap();
        let error = StateLock::take(scratch.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "another shipper (pid {}) holds {}; stop it, or give this one a state folder of its own with `state_dir`",
                process::id(),
                scratch.path().display()
            )
        );
        drop(first);
        StateLock::take(scratch.path()).unwrap();
    }
}
