//! A folder for the length of a command, and the synthetic writer's operations executed in it.

#![allow(clippy::disallowed_methods, reason = "a command of the operator works on real files")]

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::{
    clock::{Clock, SystemClock},
    synth::writer::Op,
};

/// A folder that is gone, with all in it, when this value is.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes a folder of its own below the system's folder for temporary files.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make(prefix: &str) -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("{prefix}-{}-{}", std::process::id(), SystemClock::new().now() / 1_000_000));
        fs::create_dir(&path)
            .with_context(|| format!("cannot make scratch folder {}; set TMPDIR to one that can be written", path.display()))?;
        Ok(Self(path))
    }
    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }
    /// What tells it from others: process and time.
    pub fn id(&self) -> String {
        let name = self.0.file_name().unwrap_or_default().to_string_lossy();
        name.rsplit('-').take(2).collect::<Vec<_>>().join("-")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Executes one operation.
///
/// # Errors
/// Those of the file system; a directory that exists and a name that is already gone are none.
pub fn apply(op: &Op) -> io::Result<()> {
    match op {
        Op::MakeDir(path) => fs::create_dir_all(path),
        Op::Create(path) => OpenOptions::new().create(true).append(true).open(path).map(drop),
        Op::Append { path, bytes } => OpenOptions::new().append(true).open(path)?.write_all(bytes),
        Op::Unlink(path) => match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        },
        Op::Link { from, to } => fs::hard_link(from, to),
        Op::Truncate { path, len } => OpenOptions::new().write(true).open(path)?.set_len(*len),
    }
}

/// Executes operations in order and stops at the first that fails.
///
/// # Errors
/// As [`apply`].
pub fn apply_all(ops: &[Op]) -> io::Result<()> {
    ops.iter().try_for_each(apply)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::synth::writer::{Rotation, Writer};

    #[test]
    fn alerts_json_is_a_second_name_of_the_dated_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(dir.path(), jiff::civil::date(2026, 3, 14));
        apply_all(&writer.open()).unwrap();
        apply_all(&writer.write(&[b'x'; 5000])).unwrap();
        let old = writer.path().to_owned();
        apply_all(&writer.rotate(Rotation::Part)).unwrap();
        apply_all(&writer.write(b"{}\n")).unwrap();
        apply_all(&writer.flush()).unwrap();
        assert_eq!(fs::read(old).unwrap().len(), 5000);
        let (name, dated) = (dir.path().join("alerts.json"), writer.path());
        assert_eq!(fs::read(&name).unwrap(), b"{}\n");
        assert_eq!(fs::metadata(&name).unwrap().ino(), fs::metadata(dated).unwrap().ino());
        apply(&Op::Truncate { path: name.clone(), len: 1 }).unwrap();
        assert_eq!(fs::read(dated).unwrap(), b"{");
        apply(&Op::Unlink(name.clone())).unwrap();
        apply(&Op::Unlink(name)).unwrap();
    }
}
