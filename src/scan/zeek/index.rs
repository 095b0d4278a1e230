//! Rows by the id of their file, and by the name that the file got.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::{Facts, Row};
use crate::{clock::Nanos, limits, scan::task::RelPath};

/// Rows of the last minutes. Of more than [`limits::SCAN_ZEEK_ROWS_MAX`] the oldest go, counted.
#[derive(Debug, Default)]
pub struct Index {
    /// When each came, oldest first.
    came: VecDeque<(Nanos, Arc<Row>)>,
    by_fuid: BTreeMap<String, Vec<Arc<Row>>>,
    /// The last part of the name that Zeek gave the file.
    by_name: BTreeMap<Vec<u8>, Vec<Arc<Row>>>,
    dropped: u64,
}

impl Index {
    /// - `now`: monotonic, never less than before.
    pub fn put(&mut self, row: Row, now: Nanos) {
        let rows = self.by_fuid.entry(row.fuid.clone()).or_default();
        // Written to two logs, or read twice.
        if rows.iter().any(|other| **other == row) {
            return;
        }
        let row = Arc::new(row);
        rows.push(row.clone());
        if let Some(name) = &row.extracted {
            self.by_name.entry(last_part(name).to_vec()).or_default().push(row.clone());
        }
        self.came.push_back((now, row));
        if self.came.len() > limits::SCAN_ZEEK_ROWS_MAX {
            self.dropped += 1;
            self.pop();
        }
    }

    /// Lets go of what came too long ago.
    pub fn forget(&mut self, now: Nanos) {
        let span = limits::SCAN_ZEEK_ROW_MS * 1_000_000;
        while self.came.front().is_some_and(|(came, _)| now.saturating_sub(*came) >= span) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        let Some((_, row)) = self.came.pop_front() else { return };
        take_out(&mut self.by_fuid, &row.fuid, &row);
        if let Some(name) = &row.extracted {
            take_out(&mut self.by_name, last_part(name), &row);
        }
    }

    /// Rows that are held, and how many went before their time.
    pub fn count(&self) -> (usize, u64) {
        (self.came.len(), self.dropped)
    }

    /// All that is known of a file: by the row that names it, else by the id in its name.
    pub fn of(&self, path: &RelPath) -> Option<Facts> {
        let named = self.by_name.get(path.name()).into_iter().flatten();
        let by_name = named.rev().find(|row| row.extracted.as_deref().is_some_and(|name| means(name, &path.0)));
        let fuid = by_name.map_or_else(|| fuid_of(path.name()), |row| Some(row.fuid.as_str()))?;
        Some(facts(self.by_fuid.get(fuid)?))
    }
}

fn take_out<K: Ord + ?Sized, Q: Ord + std::borrow::Borrow<K>>(rows: &mut BTreeMap<Q, Vec<Arc<Row>>>, key: &K, row: &Arc<Row>) {
    if let Some(held) = rows.get_mut(key) {
        held.retain(|other| !Arc::ptr_eq(other, row));
        if held.is_empty() {
            rows.remove(key);
        }
    }
}

fn last_part(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// Whether the name that Zeek gave is this path, seen from a folder further up or down.
fn means(extracted: &[u8], path: &[u8]) -> bool {
    fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
        path.rsplit(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
    }
    parts(extracted).zip(parts(path)).all(|(a, b)| a == b)
}

/// The id in the name of an extracted file: the last of its parts between `-` that is `F` and 10 to 20 letters or digits,
/// without a suffix.
pub fn fuid_of(name: &[u8]) -> Option<&str> {
    name.rsplit(|byte| *byte == b'-').find_map(|part| {
        let stem = part.split(|byte| *byte == b'.').next()?;
        let is_fuid = stem.first() == Some(&b'F') && (11..=21).contains(&stem.len()) && stem.iter().all(u8::is_ascii_alphanumeric);
        is_fuid.then(|| std::str::from_utf8(stem).ok()).flatten()
    })
}

fn facts(rows: &[Arc<Row>]) -> Facts {
    let mut facts = Facts::default();
    for row in rows {
        let zeek = &mut facts.zeek;
        zeek.fuid.clone_from(&row.fuid);
        for connection in &row.connections {
            if !facts.connections.contains(connection) {
                facts.connections.push(connection.clone());
            }
            if !zeek.uids.contains(&connection.uid) {
                zeek.uids.push(connection.uid.clone());
            }
        }
        for host in &row.hosts {
            if !facts.hosts.contains(host) {
                facts.hosts.push(*host);
            }
        }
        let texts = [
            (&mut zeek.sender, &row.sender),
            (&mut zeek.receiver, &row.receiver),
            (&mut zeek.source, &row.source),
            (&mut zeek.mime_type, &row.mime_type),
            (&mut zeek.filename, &row.filename),
        ];
        for (known, text) in texts {
            if known.is_empty() {
                known.clone_from(text);
            }
        }
        let reasons = [(row.has_cutoff, "cutoff"), (row.has_missing_bytes, "missing_bytes"), (row.has_timed_out, "timedout")];
        for (_, reason) in reasons.iter().filter(|(is_so, _)| *is_so) {
            if !zeek.reasons.iter().any(|known| known == reason) {
                zeek.reasons.push((*reason).to_owned());
            }
        }
        facts.span = match (facts.span, row.span) {
            (Some((from, to)), Some((also_from, also_to))) => Some((from.min(also_from), to.max(also_to))),
            (span, also) => span.or(also),
        };
    }
    facts.zeek.uid = facts.zeek.uids.first().cloned().unwrap_or_default();
    facts.zeek.reasons.sort_unstable();
    facts
}
