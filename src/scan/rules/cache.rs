//! Compiled sets on disk, so that a restart need not compile: one file in a folder of ours, by version and engine.
//!
//! Nothing here is needed: what cannot be read is compiled again, what cannot be written is said and left.

#![allow(clippy::disallowed_methods, reason = "threads of the scan, which no simulator runs")]

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::load::hex;
use crate::limits::RULE_COMPILED_BYTES;

/// A folder of compiled sets.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// - `state`: the agent's state directory; `rules` is made below it.
    pub fn new(state: &Path) -> Self {
        Self { dir: state.join("rules") }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.dir.join(format!("{}.compiled", hex(&Sha256::digest(key.as_bytes()))))
    }

    /// The bytes that were kept under `key`, if nobody but us could have written them.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        let me = rustix::process::geteuid().as_raw();
        let dir = fs::symlink_metadata(&self.dir).ok()?;
        let file = fs::OpenOptions::new().read(true).custom_flags(flags()).open(self.path(key)).ok()?;
        let meta = file.metadata().ok()?;
        let ours = |meta: &fs::Metadata| meta.uid() == me && meta.mode() & 0o022 == 0;
        if !dir.is_dir() || !meta.is_file() || !ours(&dir) || !ours(&meta) || meta.len() > RULE_COMPILED_BYTES {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(RULE_COMPILED_BYTES).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Keeps `bytes` under `key`, and nothing else.
    pub fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let (path, fresh) = (self.path(key), self.dir.join("new"));
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(flags()).open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        for entry in fs::read_dir(&self.dir)? {
            let other = entry?.path();
            if other != path && other.extension().is_some_and(|suffix| suffix == "compiled") {
                fs::remove_file(other)?;
            }
        }
        Ok(())
    }
}

fn flags() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_what_we_alone_could_write_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        assert_eq!(cache.get("a"), None);
        cache.put("a", b"one").unwrap();
        assert_eq!(cache.get("a").as_deref(), Some(&b"one"[..]));
        fs::set_permissions(cache.path("a"), fs::Permissions::from_mode(0o620)).unwrap();
        assert_eq!(cache.get("a"), None, "the group may write it");
        cache.put("a", b"two").unwrap();
        assert_eq!(cache.get("a").as_deref(), Some(&b"two"[..]));
        fs::set_permissions(dir.path().join("rules"), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(cache.get("a"), None, "anybody may put a file there");
        fs::set_permissions(dir.path().join("rules"), fs::Permissions::from_mode(0o700)).unwrap();
        cache.put("b", b"three").unwrap();
        assert_eq!(cache.get("a"), None, "one set is kept");
        fs::remove_file(cache.path("b")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", cache.path("b")).unwrap();
        assert_eq!(cache.get("b"), None);
    }
}
