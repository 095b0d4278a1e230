//! Writes an export: whole or not at all, under one name below one folder, never over a file that is there.

use std::{
    io::{self, Write},
    path::Path,
};

use rustix::fs::{Mode, OFlags, RenameFlags, fsync, openat, renameat_with, unlinkat};

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The name is no name of ours.
    #[error("the name must be 1 to 128 of letters, digits, dots, dashes and underscores, and not begin with a dot")]
    Name,
    /// A file has it already.
    #[error("a file of this name is there already; choose another name")]
    Exists,
    #[error("cannot write the export; check that monitor.export_dir exists, is ours, and has room")]
    Io(#[source] io::Error),
}

/// Whether a file may be called so.
pub fn is_name(name: &str) -> bool {
    (1..=128).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// Writes `bytes` as `dir/name`, mode 0640.
///
/// # Errors
/// As [`ExportError`] says; then nothing is left behind.
///
/// # Source
/// renameat2(2) with `RENAME_NOREPLACE`.
pub fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), ExportError> {
    if !is_name(name) {
        return Err(ExportError::Name);
    }
    let io = |error: rustix::io::Errno| ExportError::Io(error.into());
    let folder = rustix::fs::open(dir, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(io)?;
    // No export is called so: names do not begin with a dot.
    let part = format!(".{name}.part");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(&folder, &part, flags, Mode::from_raw_mode(0o640)).map_err(io)?;
    let mut file = std::fs::File::from(fd);
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).map_err(ExportError::Io);
    let renamed = written.and_then(|()| match renameat_with(&folder, &part, &folder, name, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::EXIST) => Err(ExportError::Exists),
        other => other.map_err(io),
    });
    if let Err(error) = renamed {
        let _ = unlinkat(&folder, &part, rustix::fs::AtFlags::empty());
        return Err(error);
    }
    fsync(&folder).map_err(io)
}
