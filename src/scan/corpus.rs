//! Where the tests of scanning find the corpora: `SHIPPER_CORPUS`, or `../shared/corpus`.

use std::path::PathBuf;

/// A file or folder of the corpora; where it is absent, says so for the test that is skipped.
pub fn path(name: &str) -> Option<PathBuf> {
    let all = std::env::var_os("SHIPPER_CORPUS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus")), PathBuf::from);
    let path = all.join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is not there", path.display());
    None
}

#[cfg(feature = "scan")]
mod with_rules;
#[cfg(feature = "scan")]
pub(crate) use with_rules::*;
