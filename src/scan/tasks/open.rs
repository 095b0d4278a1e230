//! The file of the store: made, opened, refused.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use redb::{Builder, Database, DatabaseError, Durability, WriteTransaction};

use super::{
    Counts, Limits,
    rows::{self, FORMAT, Fault, Tables},
    store::Memory,
};
use crate::limits::{SCAN_STORE_CACHE_BYTES, SCAN_STORE_CHECK_BYTES};

/// Its name in the state directory.
pub const FILE: &str = "scan.redb";

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot open the task store {path}; see that its folder can be written and has space")]
    Io { path: PathBuf, source: io::Error },
    #[error("the task store {path} is in use by another agent; stop that one, or give this one a state directory of its own")]
    InUse { path: PathBuf },
    #[error("the task store {path} has format {found}, this build reads up to {known}; upgrade shipper")]
    TooNew { path: PathBuf, found: u64, known: u64 },
    #[error("the task store {path} is damaged ({why}); run `shipper scan repair` to save what can be read")]
    Corrupt { path: PathBuf, why: String },
}

/// Opens the file, or makes it.
///
/// A file up to [`SCAN_STORE_CHECK_BYTES`] is read and its checksums are compared; a longer one only after a crash.
///
/// # Errors
/// See [`OpenError`].
#[allow(clippy::disallowed_methods, reason = "the file belongs to redb, which opens it by name")]
pub(super) fn open(dir: &Path) -> Result<Database, OpenError> {
    let path = dir.join(FILE);
    let io = |source| OpenError::Io { path: path.clone(), source };
    if !dir.is_dir() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
    }
    let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    drop(file);
    if bytes == 0 {
        // The new name must outlive a power cut as the rows do.
        fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)?;
    }
    let mut builder = Builder::new();
    builder.set_cache_size(SCAN_STORE_CACHE_BYTES).set_check_integrity_on_open(bytes > 0 && bytes <= SCAN_STORE_CHECK_BYTES);
    builder.create(&path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path: path.clone() },
        error => refused(&path, Fault::from(error)),
    })
}

/// Reads the format and builds memory from the rows.
///
/// # Errors
/// See [`OpenError`].
pub(super) fn load(database: &Database, dir: &Path, limits: &Limits) -> Result<Memory, OpenError> {
    let path = dir.join(FILE);
    let loaded = || -> Result<Result<Memory, u64>, Fault> {
        let txn = begin(database)?;
        // Before any other table: a later format may have others under the same names.
        let found = rows::format(&txn)?;
        if let Some(found) = found.filter(|found| *found > FORMAT) {
            return Ok(Err(found));
        }
        let mut tables = Tables::new(&txn)?;
        if found.is_none() {
            tables.write().meta.insert("format", FORMAT)?;
        }
        let memory = Memory::load(&tables, limits, Counts::default())?;
        memory.count_sizes(&tables)?;
        drop(tables);
        txn.commit()?;
        Ok(Ok(memory))
    };
    match loaded() {
        Ok(Ok(memory)) => Ok(memory),
        Ok(Err(found)) => Err(OpenError::TooNew { path, found, known: FORMAT }),
        Err(fault) => Err(refused(&path, fault)),
    }
}

/// A transaction whose commit is on the disk when it returns.
pub(super) fn begin(database: &Database) -> Result<WriteTransaction, Fault> {
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    Ok(txn)
}

pub(super) fn refused(path: &Path, fault: Fault) -> OpenError {
    let path = path.to_owned();
    match fault {
        Fault::Disk(redb::Error::Io(source))
            if source.kind() != io::ErrorKind::InvalidData && source.kind() != io::ErrorKind::UnexpectedEof =>
        {
            OpenError::Io { path, source }
        }
        Fault::Disk(error) => OpenError::Corrupt { path, why: error.to_string() },
        Fault::Corrupt { row, why } => OpenError::Corrupt { path, why: format!("{row}: {why}") },
    }
}
