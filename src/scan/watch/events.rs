//! What the kernel tells of folders.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch},
    io::Errno,
};

use super::core::Folder;
use crate::scan::{roots::below, task::RelPath};

/// Bytes of events taken from the kernel at once.
const EVENTS_BYTES: usize = 16 << 10;

/// What happened since the last look, each name once.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Files closed after writing, or moved in.
    pub(super) closed: BTreeMap<Folder, BTreeSet<Vec<u8>>>,
    /// Folders made or moved in.
    pub(super) folders: BTreeSet<Folder>,
    /// More happened than the kernel could hold.
    pub(super) overflow: bool,
}

impl Seen {
    pub(super) fn is_empty(&self) -> bool {
        self.closed.is_empty() && self.folders.is_empty() && !self.overflow
    }

    pub(super) fn add(&mut self, later: Self) {
        for (folder, names) in later.closed {
            self.closed.entry(folder).or_default().extend(names);
        }
        self.folders.extend(later.folders);
        self.overflow |= later.overflow;
    }
}

/// Watches on folders.
pub(super) struct Events {
    fd: OwnedFd,
    folders: BTreeMap<i32, Folder>,
    buffer: Vec<MaybeUninit<u8>>,
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Events {
    pub(super) fn open() -> Result<Self, Errno> {
        let fd = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { fd, folders: BTreeMap::new(), buffer: vec![MaybeUninit::uninit(); EVENTS_BYTES] })
    }

    /// Watches an open folder under that name; again costs nothing.
    ///
    /// - `deeper`: folders that are made in it matter.
    ///
    /// # Errors
    /// What to do, in the operator's words.
    pub(super) fn watch(&mut self, open: &OwnedFd, folder: &Folder, deeper: bool) -> Result<(), String> {
        let mut what = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        what.set(WatchFlags::CREATE, deeper);
        // By its descriptor: the name might be another folder's by now.
        let number = add_watch(&self.fd, format!("/proc/self/fd/{}", open.as_raw_fd()), what).map_err(|errno| match errno {
            Errno::NOSPC => {
                "cannot watch all folders below the scan roots: fs.inotify.max_user_watches is used up; raise it, new files there are found by listing until then"
                    .to_owned()
            }
            errno => format!("cannot watch folders below the scan roots: {errno}; new files there are found by listing"),
        })?;
        self.folders.retain(|other, named| *other == number || named != folder);
        self.folders.insert(number, folder.clone());
        Ok(())
    }

    /// Lets go of the folders that are not among these, which are sorted.
    pub(super) fn keep(&mut self, folders: &[Folder]) {
        let gone: Vec<i32> =
            self.folders.iter().filter(|(_, folder)| folders.binary_search(folder).is_err()).map(|(number, _)| *number).collect();
        for number in gone {
            self.folders.remove(&number);
            let _ = remove_watch(&self.fd, number);
        }
    }

    /// Takes all that has happened.
    pub(super) fn take(&mut self) -> Seen {
        let mut seen = Seen::default();
        let mut reader = Reader::new(&self.fd, &mut self.buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::INTR) => continue,
                Err(_) => return seen,
            };
            let what = event.events();
            if what.contains(ReadFlags::QUEUE_OVERFLOW) {
                seen.overflow = true;
                continue;
            }
            if what.contains(ReadFlags::IGNORED) {
                self.folders.remove(&event.wd());
                continue;
            }
            let (Some(folder), Some(name)) = (self.folders.get(&event.wd()), event.file_name()) else { continue };
            let name = name.to_bytes();
            if what.contains(ReadFlags::ISDIR) {
                seen.folders.insert(Folder { root: folder.root, path: RelPath(below(&folder.path, name).0) });
            } else if what.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO) {
                if !seen.closed.contains_key(folder) {
                    seen.closed.insert(folder.clone(), BTreeSet::new());
                }
                if let Some(names) = seen.closed.get_mut(folder) {
                    names.insert(name.to_vec());
                }
            }
        }
    }
}
