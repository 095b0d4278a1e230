//! A new generation of the tables, from the first attribute to the name that makes it count.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{IntelError, Own, Pread, Status, changes, fail, folder, settle};
use crate::{
    io::{Disk, disk::StateLock},
    tables::{
        Attribute, Mirror, MirrorError, ReadAt,
        build::{Builder, Refused, Spool},
    },
};

/// Bytes gathered before they are appended to a table.
const OUT_BYTES: usize = 1 << 20;

type SharedDisk = Arc<dyn Disk + Sync>;

/// Spools as files.
struct Files {
    disk: SharedDisk,
    dir: PathBuf,
    made: [bool; 256],
}

impl Files {
    fn path(&self, spool: u8) -> PathBuf {
        self.dir.join(format!("spool-{spool:02x}"))
    }
}

impl Spool for Files {
    fn append(&mut self, spool: u8, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if let Some(made) = self.made.get_mut(usize::from(spool)) {
            *made = true;
        }
        self.disk.append(&self.path(spool), bytes)
    }

    fn take(&mut self, spool: u8, into: &mut Vec<u8>) -> io::Result<()> {
        into.clear();
        if !self.made.get_mut(usize::from(spool)).is_some_and(std::mem::take) {
            return Ok(());
        }
        let path = self.path(spool);
        let file = Pread::open(&path)?;
        let length = usize::try_from(file.size()?).map_err(io::Error::other)?;
        if into.capacity() < length {
            // Spools are alike: a little more than one of them holds is enough for all.
            *into = Vec::with_capacity(length + length / 16);
        }
        into.resize(length, 0);
        file.read_exact_at(into, 0)?;
        self.disk.remove(&path)
    }
}

/// A table on its way to the disk.
struct Out {
    disk: SharedDisk,
    path: PathBuf,
    buffer: Vec<u8>,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= OUT_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.disk.append(&self.path, &self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// An import on its way. Dropped before [`Import::finish`], it leaves what was there before.
pub struct Import {
    disk: SharedDisk,
    dir: PathBuf,
    before: Option<Status>,
    builder: Option<Builder<Files>>,
    own: Box<Own>,
    /// As in [`Status`].
    synced: String,
    until: u64,
    _lock: StateLock,
}

impl std::fmt::Debug for Import {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Import").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// True for what an import leaves behind when it is killed.
fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with("spool-") || name.ends_with(".tmp")
}

impl Import {
    /// Begins: makes the folder, takes its lock, removes what a killed import left.
    ///
    /// - `own`: called with the folder and with every file before it counts, to give it to whoever
    ///   is to read it.
    ///
    /// # Errors
    /// If another process writes, or the folder cannot be used. A generation that cannot be read
    /// is no error: it is about to be replaced.
    pub fn begin(disk: SharedDisk, state_dir: &Path, own: Box<Own>) -> Result<Self, IntelError> {
        let dir = folder(state_dir);
        disk.make_dir(&dir).map_err(fail("make the folder", &dir))?;
        let lock = StateLock::take(&dir)?;
        for path in [&dir, &dir.join("lock")] {
            own(path).map_err(fail("give away", path))?;
        }
        let before = Status::read(&*disk, &dir).ok().flatten();
        for path in disk.list(&dir).map_err(fail("list the folder", &dir))?.iter().filter(|path| is_unfinished(path)) {
            disk.remove(path).map_err(fail("remove", path))?;
        }
        let files = Files { disk: Arc::clone(&disk), dir: dir.clone(), made: [false; 256] };
        Ok(Self { disk, dir, before, builder: Some(Builder::new(files)), own, synced: String::new(), until: 0, _lock: lock })
    }

    /// The folder of the tables.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn builder(&mut self) -> io::Result<&mut Builder<Files>> {
        self.builder.as_mut().ok_or_else(|| io::Error::other("the import has ended; this is a defect of shipper"))
    }

    /// Takes an attribute. `Ok(Err(_))` if it is no indicator that a table should have.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add(&mut self, attribute: &Attribute) -> Result<Result<(), Refused>, IntelError> {
        let dir = self.dir.clone();
        self.builder().and_then(|builder| builder.add(attribute)).map_err(fail("write into", &dir))
    }

    /// Takes everything that counts now, changes included; nothing if nothing does.
    ///
    /// # Errors
    /// If it cannot be read, or cannot be written.
    pub fn add_current(&mut self) -> Result<(), IntelError> {
        let Some(before) = Status::read(&*self.disk, &self.dir)? else { return Ok(()) };
        let path = self.dir.join(format!("mirror-{}", before.generation));
        let broken = |source: MirrorError| IntelError::Mirror { path: path.clone(), source };
        let mirror = Mirror::open(Pread::open(&path).map_err(fail("open", &path))?).map_err(broken)?;
        let changes = changes(&*self.disk, &self.dir, before.generation)?;
        (self.synced, self.until) = (before.synced, changes.until.max(before.until));
        let dir = self.dir.clone();
        let builder = self.builder().map_err(fail("write into", &dir))?;
        builder.add_mirror(&mirror, |key| changes.get(key).is_none()).map_err(broken)?;
        for attribute in changes.iter().flat_map(|(_, now)| now) {
            // What was taken before is taken again.
            let _ = builder.add(attribute).map_err(fail("write into", &dir))?;
        }
        Ok(())
    }

    /// Says that this is a synchronisation.
    ///
    /// - `of`: server and filters, in words that are others when either is.
    /// - `until`: time from which on changes are to be fetched, seconds since 1970.
    pub fn synced(&mut self, of: String, until: u64) {
        (self.synced, self.until) = (of, until);
    }

    /// Attributes taken so far.
    pub fn taken(&self) -> u64 {
        self.builder.as_ref().map_or(0, Builder::taken)
    }

    /// Sorts what was taken into tables, makes them durable, and makes them count.
    ///
    /// - `built`: wall time, seconds since 1970.
    /// - `step`: called after each of 256 steps.
    ///
    /// # Errors
    /// If anything cannot be written: then what counted before still does.
    pub fn finish(
        mut self,
        sources: Vec<String>,
        skipped: BTreeMap<String, u64>,
        built: u64,
        step: &mut dyn FnMut(u8),
    ) -> Result<Status, IntelError> {
        let generation = self.before.as_ref().map_or(0, |before| before.generation).max(self.newest()?) + 1;
        let names = [format!("filter-{generation}"), format!("mirror-{generation}")];
        let out = |name: &String| Out { disk: Arc::clone(&self.disk), path: self.dir.join(format!("{name}.tmp")), buffer: Vec::new() };
        let [filter, mirror] = &names;
        let (filter, mirror) = (out(filter), out(mirror));
        let dir = self.dir.clone();
        let in_dir = move |source| fail("write into", &dir)(source);
        let Some(builder) = self.builder.take() else { return Err(in_dir(io::Error::other("the import has ended"))) };
        let totals = builder.finish(filter, mirror, built, step).map_err(|error| match error {
            MirrorError::Read(source) => in_dir(source),
            table @ MirrorError::Table(_) => IntelError::Mirror { path: self.dir.clone(), source: table },
        })?;
        for name in &names {
            settle(&*self.disk, &self.dir, name, &*self.own)?;
        }
        let status = Status {
            generation,
            built,
            sources,
            indicators: totals.indicators,
            attributes: totals.attributes,
            networks: totals.networks,
            by_kind: totals.by_kind.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect(),
            repeated: totals.repeated + totals.crowded,
            skipped,
            synced: std::mem::take(&mut self.synced),
            until: self.until,
        };
        status.write(&*self.disk, &self.dir, &*self.own)?;
        self.remove_older(generation);
        Ok(status)
    }

    /// The highest generation of any file, so that a number is never used twice.
    fn newest(&self) -> Result<u64, IntelError> {
        let listed = self.disk.list(&self.dir).map_err(fail("list the folder", &self.dir))?;
        Ok(listed.iter().filter_map(|path| generation_of(path)).max().unwrap_or(0))
    }

    /// Room on the disk, not correctness: what cannot be removed is so at the next import.
    fn remove_older(&self, generation: u64) {
        for path in self.disk.list(&self.dir).unwrap_or_default() {
            if generation_of(&path).is_some_and(|of| of < generation) {
                let _ = self.disk.remove(&path);
            }
        }
    }
}

fn generation_of(path: &Path) -> Option<u64> {
    let (table, number) = path.file_name()?.to_str()?.split_once('-')?;
    ["filter", "mirror", "changes"].contains(&table).then_some(number)?.parse().ok()
}

impl Drop for Import {
    fn drop(&mut self) {
        for path in self.disk.list(&self.dir).unwrap_or_default().iter().filter(|path| is_unfinished(path)) {
            let _ = self.disk.remove(path);
        }
    }
}
