//! The folder `intel` in the state folder: indicators of MISP, as files that a start need not build.
//!
//! | file | holds |
//! |---|---|
//! | `current` | which generation counts, when and of what it was built, how much it holds: JSON behind a line with a checksum |
//! | `filter-N`, `mirror-N` | the tables of generation N |
//! | `changes-N` | what has changed since, if anything |
//! | `lock` | held by whoever writes |
//!
//! A generation is built under other names, made durable, renamed, and counts once `current` names
//! it; then older ones are removed. Who has one open goes on with it. So a crash at any call leaves
//! the old generation or the new one, whole. All files are ours alone (0600).

mod import;
mod status;

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    net::IpAddr,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{Mode, OFlags};

pub use import::Import;
pub use status::{FORMAT, Status};

use crate::{
    io::{
        Disk,
        disk::{LockError, StateLock},
    },
    tables::{
        Attribute, Filter, Hit, Indicators, Key, Mirror, MirrorError, ReadAt, TableError, Uuid,
        changes::{Change, Changes},
    },
};

/// Why the tables cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum IntelError {
    /// A call failed.
    #[error("cannot {what} {}; fix its permissions, or the disk under it", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    /// The file that names what counts is not what was written.
    #[error("{} is damaged: {why}; run `shipper intel import` again", path.display())]
    Damaged { path: PathBuf, why: String },
    /// A later shipper wrote it.
    #[error("{} has format {found}, this build reads up to {known}; upgrade shipper, or run `shipper intel import` again", path.display())]
    TooNew { path: PathBuf, found: u32, known: u32 },
    /// A table is not what was written.
    #[error("{}", path.display())]
    Table { path: PathBuf, source: TableError },
    /// The mirror is not what was written, or cannot be read.
    #[error("{}", path.display())]
    Mirror { path: PathBuf, source: MirrorError },
    /// Another process writes.
    #[error("{}", busy(.0))]
    Lock(#[from] LockError),
}

fn busy(error: &LockError) -> String {
    match error {
        LockError::Held { dir, holder } => {
            format!("another import or synchronisation ({holder}) writes into {}; try again when it has ended", dir.display())
        }
        LockError::Io { .. } => error.to_string(),
    }
}

fn fail(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IntelError {
    let path = path.to_owned();
    move |source| IntelError::Io { what, path, source }
}

/// The folder of a state folder.
pub fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("intel")
}

/// The file that is replaced last whenever the tables change.
pub fn current(state_dir: &Path) -> PathBuf {
    folder(state_dir).join(status::NAME)
}

/// Makes the folder and takes the right to write into it, which [`Tables::change`] wants; an
/// [`Import`] takes it itself.
///
/// - `own`: as for [`Import::begin`].
///
/// # Errors
/// If another process writes, or the folder cannot be used.
pub fn lock(disk: &dyn Disk, state_dir: &Path, own: &Own) -> Result<StateLock, IntelError> {
    let dir = folder(state_dir);
    disk.make_dir(&dir).map_err(fail("make the folder", &dir))?;
    let lock = StateLock::take(&dir)?;
    for path in [&dir, &dir.join("lock")] {
        own(path).map_err(fail("give away", path))?;
    }
    Ok(lock)
}

/// A mirror's file, read at any place.
#[derive(Debug)]
pub struct Pread(File);

impl ReadAt for Pread {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

impl Pread {
    /// Opens a file; a symbolic link in the last place of its name is not followed.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(path: &Path) -> io::Result<Self> {
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?;
        Ok(Self(File::from(fd)))
    }
}

/// The tables of one generation.
#[derive(Debug)]
pub struct Tables {
    pub status: Status,
    /// In memory; asked for every indicator of an alert.
    pub indicators: Arc<Indicators>,
    changes: Changes,
    mirror: Arc<Mirror<Pread>>,
    dir: PathBuf,
}

impl Tables {
    /// Reads what counts; `None` if nothing was ever imported. Takes no lock.
    ///
    /// # Errors
    /// [`IntelError`], which names the file and the remedy.
    pub fn load(disk: &dyn Disk, state_dir: &Path) -> Result<Option<Self>, IntelError> {
        Self::load_after(disk, state_dir, None)
    }

    /// As [`Tables::load`], with the tables that were read before: of the same generation, only the
    /// changes are read.
    ///
    /// # Errors
    /// As [`Tables::load`].
    pub fn load_after(disk: &dyn Disk, state_dir: &Path, before: Option<&Self>) -> Result<Option<Self>, IntelError> {
        let dir = folder(state_dir);
        let mut tries = 0;
        loop {
            match Self::load_once(disk, &dir, before) {
                // A new generation came, and the old one went, between the first file and the last.
                Err(IntelError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound && tries < 3 => tries += 1,
                other => return other,
            }
        }
    }

    fn load_once(disk: &dyn Disk, dir: &Path, before: Option<&Self>) -> Result<Option<Self>, IntelError> {
        let Some(status) = Status::read(disk, dir)? else { return Ok(None) };
        if let Some(before) = before.filter(|before| (before.status.generation, &*before.dir) == (status.generation, dir)) {
            let changes = changes(disk, dir, status.generation)?;
            let indicators = Arc::new(before.indicators.with_changes(&changes));
            return Ok(Some(Self { status, indicators, changes, mirror: before.mirror.clone(), dir: dir.to_owned() }));
        }
        let path = dir.join(format!("filter-{}", status.generation));
        let bytes = disk.read(&path).map_err(fail("read", &path))?;
        let filter = Filter::parse(bytes).map_err(|source| IntelError::Table { path, source })?;
        let path = dir.join(format!("mirror-{}", status.generation));
        let file = Pread::open(&path).map_err(fail("open", &path))?;
        let mirror = Arc::new(Mirror::open(file).map_err(|source| IntelError::Mirror { path, source })?);
        let changes = changes(disk, dir, status.generation)?;
        let indicators = Arc::new(Indicators::new(filter, &changes));
        Ok(Some(Self { status, indicators, changes, mirror, dir: dir.to_owned() }))
    }

    /// What is known of a value in normal form; empty if it is no indicator, also where the filter
    /// said that it might be one. One read of the disk, if the filter says so.
    ///
    /// # Errors
    /// If the mirror cannot be read.
    pub fn find(&self, value: &[u8]) -> Result<Vec<Attribute>, IntelError> {
        match self.indicators.probe(value) {
            Hit::No => Ok(Vec::new()),
            Hit::Network(_) => self.networks_around(value),
            Hit::Value => {
                let found = self.of_value(value)?;
                if found.is_empty() { self.networks_around(value) } else { Ok(found) }
            }
        }
    }

    /// What is known of a value itself, and of the networks around it if it is an address.
    ///
    /// # Errors
    /// As [`Tables::find`].
    pub fn find_apart(&self, value: &[u8]) -> Result<(Vec<Attribute>, Vec<Attribute>), IntelError> {
        let own = if self.indicators.probe(value) == Hit::Value { self.of_value(value)? } else { Vec::new() };
        Ok((own, self.networks_around(value)?))
    }

    fn of_value(&self, value: &[u8]) -> Result<Vec<Attribute>, IntelError> {
        match self.changes.get(Key::of(value)) {
            Some(now) => Ok(now.iter().filter(|attribute| attribute.indicator.is(value)).cloned().collect()),
            None => self.mirror.find(value).map_err(|source| self.broken(source)),
        }
    }

    /// What is known of the networks around an address, innermost first.
    fn networks_around(&self, value: &[u8]) -> Result<Vec<Attribute>, IntelError> {
        let Some(address) = std::str::from_utf8(value).ok().and_then(|text| text.parse::<IpAddr>().ok()) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for (net, _) in self.indicators.networks().around(address) {
            found.extend(self.of_value(net.to_string().as_bytes())?);
        }
        Ok(found)
    }

    fn broken(&self, source: MirrorError) -> IntelError {
        IntelError::Mirror { path: self.dir.join(format!("mirror-{}", self.status.generation)), source }
    }

    /// Time up to which changes were fetched, seconds since 1970; 0 if never.
    pub fn changed_until(&self) -> u64 {
        self.changes.until.max(self.status.until)
    }

    /// Lays changes over the tables and makes them durable; what is asked afterwards sees them.
    ///
    /// - `all`: attributes and what becomes of each.
    /// - `until`: time up to which changes were fetched, seconds since 1970.
    /// - `own`: as for [`Import::begin`].
    ///
    /// Returns true when a full build is due. With an error nothing that counts has changed.
    ///
    /// # Errors
    /// If the mirror cannot be read, or the changes cannot be written.
    pub fn change(&mut self, disk: &dyn Disk, all: Vec<(Attribute, Change)>, until: u64, own: &Own) -> Result<bool, IntelError> {
        let mut changes = self.changes.clone();
        let mut keys_of: BTreeMap<Uuid, Vec<Key>> = BTreeMap::new();
        for (attribute, change) in all {
            if let Some(uuid) = attribute.uuid.filter(|_| change == Change::Put) {
                keys_of.entry(uuid).or_default().push(attribute.indicator.key());
            }
            changes.apply(attribute, change, |key| self.mirror.of_key(key)).map_err(|source| self.broken(source))?;
        }
        changes.forget(&keys_of);
        changes.until = until;
        let name = format!("changes-{}", self.status.generation);
        put(disk, &self.dir, &name, &changes.encode(), own)?;
        // By the file `current` a running agent sees that there is something new.
        self.status.until = until;
        self.status.write(disk, &self.dir, own)?;
        self.indicators = Arc::new(self.indicators.with_changes(&changes));
        self.changes = changes;
        Ok(self.changes.len() > crate::tables::changes::CHANGES_MAX)
    }
}

/// The changes of a generation; none if there is no such file.
fn changes(disk: &dyn Disk, dir: &Path, generation: u64) -> Result<Changes, IntelError> {
    let path = dir.join(format!("changes-{generation}"));
    match disk.read(&path) {
        Ok(bytes) => Changes::parse(&bytes).map_err(|source| IntelError::Table { path, source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Changes::default()),
        Err(error) => Err(fail("read", &path)(error)),
    }
}

/// Writes a whole file so that a crash leaves the old one or the new one.
fn put(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8], own: &Own) -> Result<(), IntelError> {
    let unfinished = dir.join(format!("{name}.tmp"));
    disk.write(&unfinished, bytes).map_err(fail("write", &unfinished))?;
    settle(disk, dir, name, own)
}

/// Gives a file to whoever is to read it.
pub type Own = dyn Fn(&Path) -> io::Result<()> + Send;

/// Makes `name.tmp` durable and gives it its name.
fn settle(disk: &dyn Disk, dir: &Path, name: &str, own: &Own) -> Result<(), IntelError> {
    let (unfinished, path) = (dir.join(format!("{name}.tmp")), dir.join(name));
    own(&unfinished).map_err(fail("give away", &unfinished))?;
    disk.sync(&unfinished).map_err(fail("fsync", &unfinished))?;
    disk.rename(&unfinished, &path).map_err(fail("rename", &unfinished))?;
    // The rename alone may not survive a power cut: the file is durable, its name is not.
    disk.sync_dir(dir).map_err(fail("fsync the folder", dir))
}

#[cfg(test)]
mod tests;
