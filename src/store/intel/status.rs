//! The file `current`: which generation of the tables counts.

use std::{collections::BTreeMap, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{IntelError, Own, fail, settle};
use crate::io::Disk;

/// The format that this build writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

const MAGIC: &str = "shipper-intel";
pub(super) const NAME: &str = "current";

/// What is imported, for people and for the reader of the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Counts up with every import.
    pub generation: u64,
    /// Wall time, seconds since 1970.
    pub built: u64,
    /// What it was built of: paths, or the name of a server.
    pub sources: Vec<String>,
    /// Distinct indicators.
    pub indicators: u64,
    /// Attributes that tell of them.
    pub attributes: u64,
    /// Networks in CIDR form among the indicators.
    pub networks: u64,
    pub by_kind: BTreeMap<String, u64>,
    /// Attributes that said the same as another, or were older.
    pub repeated: u64,
    /// What was left out, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Of a synchronisation: what it was of (server and filters), and the time up to which changes
    /// were fetched, seconds since 1970. Absent after an import of files.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub synced: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub until: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Status {
    /// Reads what counts; `None` if there is nothing.
    ///
    /// # Errors
    /// If the file cannot be read, or is not what was written.
    pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, IntelError> {
        let path = dir.join(NAME);
        let bytes = match disk.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail("read", &path)(error)),
        };
        let damaged = |why: &str| IntelError::Damaged { path: path.clone(), why: why.to_owned() };
        let end = memchr::memchr(b'\n', &bytes).ok_or_else(|| damaged("it has no first line"))?;
        let (first, body) = bytes.split_at_checked(end + 1).ok_or_else(|| damaged("it has no first line"))?;
        let first = std::str::from_utf8(first).map_err(|_| damaged("its first line is not ours"))?;
        let mut words = first.trim_end().split(' ');
        if words.next() != Some(MAGIC) {
            return Err(damaged("its first line is not ours"));
        }
        let found = words.next().and_then(|word| word.parse::<u32>().ok()).ok_or_else(|| damaged("its first line names no format"))?;
        if found > FORMAT {
            return Err(IntelError::TooNew { path, found, known: FORMAT });
        }
        let crc = words.next().and_then(|word| u32::from_str_radix(word.strip_prefix("crc32c=")?, 16).ok());
        if crc != Some(crc32c::crc32c(body)) {
            return Err(damaged("its checksum does not match its body"));
        }
        serde_json::from_slice(body).map(Some).map_err(|error| damaged(&format!("its body cannot be read: {error}")))
    }

    /// Makes this what counts.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn write(&self, disk: &dyn Disk, dir: &Path, own: &Own) -> Result<(), IntelError> {
        let encode = |error: serde_json::Error| fail("write", &dir.join(NAME))(error.into());
        let mut body = serde_json::to_vec_pretty(self).map_err(encode)?;
        body.push(b'\n');
        let mut bytes = format!("{MAGIC} {FORMAT} crc32c={:08x}\n", crc32c::crc32c(&body)).into_bytes();
        bytes.append(&mut body);
        let unfinished = dir.join(format!("{NAME}.tmp"));
        disk.write(&unfinished, &bytes).map_err(fail("write", &unfinished))?;
        settle(disk, dir, NAME, own)
    }
}
