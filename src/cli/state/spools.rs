//! What lies in the spools of lookups.

use std::{collections::BTreeMap, io, path::Path};

use crate::{
    checkpoint::Checkpoint,
    io::Disk,
    position::Position,
    spool::{self, Found},
    store::SPOOL,
    topology::spooled::name_of,
};

/// One spool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    pub lookup: String,
    pub segments: usize,
    pub bytes: u64,
    /// Messages that are not worked off, as of the checkpoint.
    pub messages: u64,
    /// Bytes that are no messages.
    pub damaged: u64,
}

/// Looks into every spool of a state folder.
///
/// # Errors
/// What cannot be read, and the remedy.
pub(super) fn look(disk: &dyn Disk, dir: &Path, checkpoint: Option<&Checkpoint>) -> Result<Vec<Waiting>, String> {
    let dir = dir.join(SPOOL);
    let failed =
        |path: &Path, error: io::Error| format!("cannot read spool {}: {error}; ask as the agent's user, or as root", path.display());
    let mut paths = match disk.list(&dir) {
        Ok(paths) => paths,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(&dir, error)),
    };
    paths.sort();
    let mut all: BTreeMap<String, Waiting> = BTreeMap::new();
    for path in &paths {
        let Some((lookup, segment)) = spool::segment_of(path) else { continue };
        let held = match disk.read(path) {
            Ok(held) => held,
            // A running agent may have worked it off since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(path, error)),
        };
        let mut rows = checkpoint.iter().flat_map(|checkpoint| &checkpoint.rows);
        let row = rows.find(|row| row.source == name_of(lookup));
        let below = match row.and_then(|row| row.lowest()) {
            Some(Position::File { segment, offset, .. }) => (*segment, *offset),
            _ => (0, 0),
        };
        let waiting = all.entry(lookup.to_owned()).or_insert_with(|| Waiting { lookup: lookup.to_owned(), ..Waiting::default() });
        waiting.segments += 1;
        waiting.bytes += held.len() as u64;
        let whole = spool::end(&held);
        for found in spool::entries(&held, 0) {
            match found {
                Found::Message(message) if (segment, message.from as u64) >= below => waiting.messages += 1,
                Found::Message(_) => {}
                // An entry that is being written, or that a crash cut off.
                Found::Damaged { from, .. } if whole == Ok(from) => {}
                Found::Damaged { from, to } => waiting.damaged += (to - from) as u64,
            }
        }
    }
    Ok(all.into_values().collect())
}
