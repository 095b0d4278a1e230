//! Files as they are named by people, or found below a folder; opened so that nothing blocks and no link is followed unasked.

use std::{
    fs::{self, DirEntry},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, openat};

/// A file that is to be scanned.
pub(super) struct Named {
    pub path: PathBuf,
    /// Somebody named it: a link is meant.
    pub is_given: bool,
}

/// # Errors
/// It is not there, is a link that nobody named, or may not be read.
pub(super) fn open(file: &Named) -> io::Result<OwnedFd> {
    // Without NONBLOCK a FIFO would wait for a writer.
    let mut flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    if !file.is_given {
        flags |= OFlags::NOFOLLOW;
    }
    Ok(openat(CWD, &file.path, flags, Mode::empty())?)
}

/// Regular files below a folder, by name; what is no file and no folder is passed over.
pub(super) struct Below {
    /// Last in, first out: folders are read when their turn comes.
    todo: Vec<PathBuf>,
    /// Of the folder that is being listed, from its end.
    names: Vec<DirEntry>,
}

impl Below {
    pub(super) fn new(dir: &Path) -> Self {
        Self { todo: vec![dir.to_owned()], names: Vec::new() }
    }
}

impl Iterator for Below {
    /// A folder that cannot be listed is told with its error.
    type Item = Result<Named, (PathBuf, io::Error)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            while let Some(entry) = self.names.pop() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => self.todo.push(entry.path()),
                    Ok(kind) if kind.is_file() => return Some(Ok(Named { path: entry.path(), is_given: false })),
                    Ok(_) => {}
                    Err(error) => return Some(Err((entry.path(), error))),
                }
            }
            let dir = self.todo.pop()?;
            let listed = fs::read_dir(&dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            match listed {
                Ok(mut names) => {
                    names.sort_by_key(|entry| std::cmp::Reverse(entry.file_name()));
                    self.names = names;
                }
                Err(error) => return Some(Err((dir, error))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "a test makes files")]

    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn folders_are_listed_without_following_links() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("b/c")).unwrap();
        for name in ["z", "a", "b/c/x", "b/y"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        symlink("/etc", dir.path().join("link")).unwrap();
        symlink("a", dir.path().join("same")).unwrap();
        rustix::fs::mknodat(CWD, dir.path().join("fifo"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        let found: Vec<_> =
            Below::new(dir.path()).map(|file| file.ok().unwrap().path.strip_prefix(dir.path()).unwrap().to_owned()).collect();
        assert_eq!(found, ["a", "z", "b/y", "b/c/x"].map(PathBuf::from));
        let at = |name: &str, is_given| open(&Named { path: dir.path().join(name), is_given });
        assert!(at("same", true).is_ok() && at("same", false).is_err());
        assert!(at("fifo", false).is_ok(), "it does not wait for a writer");
        assert!(Below::new(&dir.path().join("absent")).next().unwrap().is_err());
    }
}
