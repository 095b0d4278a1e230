//! Listing folders: regular files and subfolders, no links, no other device.

use std::os::fd::AsFd;

use rustix::fs::{Dir, FileType};

use super::{OpenFailure, Roots, identity, look_at};
use crate::{
    limits,
    scan::{
        outcome::Reason,
        task::{Identity, RelPath},
    },
};

/// What a folder holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    File { name: Vec<u8>, identity: Identity },
    Folder { name: Vec<u8> },
}

/// Why a folder is not walked.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    #[error("the folder holds more than {max} files; scan its subfolders one by one")]
    TooManyFiles { max: usize },
    #[error(transparent)]
    Open(#[from] OpenFailure),
}

impl Roots {
    /// All that one folder holds, in no order. What vanishes meanwhile, links, pipes, sockets and other devices are left out.
    ///
    /// # Errors
    /// As [`Self::open_folder`]; `io` if it cannot be read to its end.
    pub fn list(&self, root: &str, folder: &RelPath) -> Result<Vec<Entry>, OpenFailure> {
        self.list_anew(root, folder, |_, _| None)
    }

    /// As [`Self::list`], but without a look at files that are known: most of what a listing costs.
    ///
    /// - `known`: asked by name and inode; what it gives is believed.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn list_anew(
        &self,
        root: &str,
        folder: &RelPath,
        known: impl Fn(&[u8], u64) -> Option<Identity>,
    ) -> Result<Vec<Entry>, OpenFailure> {
        let mut found = Vec::new();
        self.each(root, folder, known, |entry| {
            found.push(entry);
            Ok::<_, OpenFailure>(())
        })?;
        Ok(found)
    }

    /// All files below a folder, sorted by path.
    ///
    /// - `max`: files.
    ///
    /// # Errors
    /// More files than that, or more names of any kind than [`limits::SCAN_WALK_ENTRIES_MAX`]; a folder that cannot be
    /// opened. A subfolder that vanishes meanwhile is left out.
    pub fn walk(&self, root: &str, folder: &RelPath, max: usize) -> Result<Vec<(RelPath, Identity)>, WalkError> {
        let (mut found, mut entries) = (Vec::new(), 0);
        let mut left = vec![folder.clone()];
        while let Some(at) = left.pop() {
            let walked = self.each(
                root,
                &at,
                |_, _| None,
                |entry| {
                    entries += 1;
                    match entry {
                        Entry::File { name, identity } => found.push((below(&at, &name), identity)),
                        Entry::Folder { name } => left.push(below(&at, &name)),
                    }
                    if found.len() > max || entries > limits::SCAN_WALK_ENTRIES_MAX {
                        return Err(WalkError::TooManyFiles { max });
                    }
                    Ok(())
                },
            );
            match walked {
                Err(WalkError::Open(OpenFailure { reason: Reason::NotFound | Reason::NotAllowed, .. })) if at != *folder => {}
                walked => walked?,
            }
        }
        found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(found)
    }

    fn each<E: From<OpenFailure>>(
        &self,
        root: &str,
        folder: &RelPath,
        known: impl Fn(&[u8], u64) -> Option<Identity>,
        mut with: impl FnMut(Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        let fd = self.open_folder(root, folder)?;
        let dev = rustix::fs::fstat(&fd).map_err(OpenFailure::from)?.st_dev;
        for entry in Dir::read_from(&fd).map_err(OpenFailure::from)? {
            let entry = entry.map_err(OpenFailure::from)?;
            let name = entry.file_name().to_bytes();
            // The kind that a listing tells spares a look at what is not wanted.
            let wanted = matches!(entry.file_type(), FileType::RegularFile | FileType::Directory | FileType::Unknown);
            if matches!(name, b"." | b"..") || !wanted {
                continue;
            }
            if let Some(identity) = known(name, entry.ino()).filter(|_| entry.file_type() == FileType::RegularFile) {
                with(Entry::File { name: name.to_vec(), identity })?;
                continue;
            }
            let Some(stat) = look_at(fd.as_fd(), name)?.filter(|stat| stat.st_dev == dev) else { continue };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => with(Entry::File { name: name.to_vec(), identity: identity(&stat) })?,
                FileType::Directory => with(Entry::Folder { name: name.to_vec() })?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// The path of a name in a folder.
pub fn below(folder: &RelPath, name: &[u8]) -> RelPath {
    if folder.0.is_empty() { RelPath(name.to_vec()) } else { RelPath([&folder.0, name].join(&b'/')) }
}
