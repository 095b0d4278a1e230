//! A damaged file: what can be read of it goes into a new one, and the old one is put aside, never removed.
//!
//! Only first rows are copied (tasks, queue, files, verdicts, alerts, audit, things); what finds them is made anew. A task
//! that was accepted and has no end goes back into the queue, even where its place there cannot be read.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable};
use serde::de::DeserializeOwned;

use super::{
    Nanos, OpenError, State, alerts,
    core::Live,
    open,
    rows::{AlertRow, AuditRow, Cached, FORMAT, Fault, FileRow, Remains, Tables, TaskRow, decode, encode, state_key},
};

/// What a person chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Saves what can be read.
    Save,
    /// Begins with an empty store.
    Forget,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// Where the old file is now.
    pub aside: PathBuf,
    /// Rows by table: kept, and not readable. A table that breaks off in its middle counts one that is not readable.
    pub tables: Vec<(&'static str, u64, u64)>,
    /// Tasks that are in the queue again.
    pub queued: u64,
}

/// Makes a store that opens, of one that does not. The agent must not run.
///
/// # Errors
/// [`OpenError::InUse`] while an agent runs; [`OpenError::TooNew`], since an older build would leave out what it does not know;
/// [`OpenError::Io`] if there is no file, or the new one cannot be written.
#[allow(clippy::disallowed_methods, reason = "the file belongs to redb, which opens it by name")]
pub fn repair(dir: &Path, how: How, now: Nanos) -> Result<Repaired, OpenError> {
    let path = dir.join(open::FILE);
    let io = |source| OpenError::Io { path: path.clone(), source };
    if !path.is_file() {
        return Err(io(io::Error::from(io::ErrorKind::NotFound)));
    }
    // In a folder of its own under the same name, so that it is made as any other.
    let aside = dir.join(format!("{}.broken-{}", open::FILE, now / 1_000_000_000));
    let fresh = dir.join("scan.repair");
    let _ = fs::remove_dir_all(&fresh); // of a repair that was cut off
    let mut repaired = Repaired { aside: aside.clone(), tables: Vec::new(), queued: 0 };
    let old = match redb::Builder::new().create(&path) {
        Err(redb::DatabaseError::DatabaseAlreadyOpen) => return Err(OpenError::InUse { path }),
        old => old.ok().filter(|_| how == How::Save),
    };
    let new = open::open(&fresh)?;
    let refused = |fault| open::refused(&fresh.join(open::FILE), fault);
    if let Some(found) = copy(old.as_ref(), &new, now, &mut repaired).map_err(refused)? {
        return Err(OpenError::TooNew { path, found, known: FORMAT });
    }
    drop((old, new));
    let moved = fs::rename(&path, &aside)
        .and_then(|()| fs::rename(fresh.join(open::FILE), &path))
        .and_then(|()| fs::remove_dir(&fresh))
        .and_then(|()| fs::File::open(dir)?.sync_all());
    moved.map_err(io)?;
    Ok(repaired)
}

/// Copies rows. Gives back the format if it is a later one.
fn copy(old: Option<&Database>, new: &Database, now: Nanos, repaired: &mut Repaired) -> Result<Option<u64>, Fault> {
    let txn = open::begin(new)?;
    let mut tables = Tables::new(&txn)?;
    tables.write().meta.insert("format", FORMAT)?;
    if let Some(remains) = old.and_then(|old| Some(Remains::new(&old.begin_read().ok()?))) {
        let number = |name: &str| remains.meta.as_ref()?.get(name).ok().flatten().map(|number| number.value());
        if let Some(found) = number("format").filter(|found| *found > FORMAT) {
            return Ok(Some(found));
        }
        for name in ["last_alert", "last_audit"] {
            if let Some(number) = number(name) {
                tables.write().meta.insert(name, number)?;
            }
        }
        copy_rows(&remains, &mut tables, now, repaired)?;
    }
    drop(tables);
    txn.commit()?;
    Ok(None)
}

/// Puts each row that can be read; counts.
fn each<K: redb::Key + 'static, T: DeserializeOwned>(
    name: &'static str,
    table: Option<&ReadOnlyTable<K, &'static [u8]>>,
    repaired: &mut Repaired,
    mut put: impl FnMut(K::SelfType<'_>, T) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let (mut kept, mut unreadable) = (0, 0);
    match table.map(ReadableTable::iter) {
        None | Some(Err(_)) => unreadable += 1,
        Some(Ok(rows)) => {
            for row in rows {
                // Behind a broken page there is no way on.
                let Ok((key, row)) = row else {
                    unreadable += 1;
                    break;
                };
                match decode(row.value(), String::new) {
                    Ok(row) => {
                        put(key.value(), row)?;
                        kept += 1;
                    }
                    Err(_) => unreadable += 1,
                }
            }
        }
    }
    repaired.tables.push((name, kept, unreadable));
    Ok(())
}

fn copy_rows(remains: &Remains, tables: &mut Tables<'_>, now: Nanos, repaired: &mut Repaired) -> Result<(), Fault> {
    let mut places = std::collections::BTreeMap::<String, Live>::new();
    each("live", remains.live.as_ref(), repaired, |id: &str, live: Live| {
        places.insert(id.to_owned(), live);
        Ok(())
    })?;
    let mut last = places.values().map(|live| live.seq).max().unwrap_or(0);
    let mut queued = 0;
    each("tasks", remains.tasks.as_ref(), repaired, |id: &str, row: TaskRow| {
        let open = tables.write();
        match &row.end {
            Some(end) => {
                open.states.insert((state_key(end.state), id), ())?;
                open.ended.insert((end.at, id), ())?;
            }
            None => {
                queued += 1;
                let live = places.remove(id).unwrap_or_else(|| {
                    last += 1;
                    Live::new(last, row.task.priority, row.task.required_capabilities.clone(), row.task.sha256.clone(), now)
                });
                open.live.insert(id, encode(&live).as_slice())?;
            }
        }
        open.tasks.insert(id, encode(&row).as_slice())?;
        Ok(())
    })?;
    repaired.queued = queued;
    each("files", remains.files.as_ref(), repaired, |key: &[u8], mut file: FileRow| {
        let open = tables.write();
        // Its task's end may be what was lost: then the file is scanned again.
        let end = open.tasks.get(file.task_id.as_str())?.and_then(|row| decode::<TaskRow>(row.value(), String::new).ok());
        if file.ended_at.is_none() && end.is_none() {
            return Ok(());
        }
        if let Some(end) = end.and_then(|row| row.end) {
            file.ended_at = Some(end.at);
            file.verdict = end.outcome.filter(|_| end.state == State::Done).map(|outcome| outcome.verdict);
        }
        open.files_seen.insert((file.seen, key), ())?;
        if let Some(at) = file.ended_at.filter(|_| file.verdict.is_some()) {
            open.files_done.insert((at, key), ())?;
        }
        open.files.insert(key, encode(&file).as_slice())?;
        Ok(())
    })?;
    each("verdicts", remains.verdicts.as_ref(), repaired, |key: &str, row: Cached| {
        let open = tables.write();
        open.verdict_ages.insert((row.at, key), ())?;
        open.verdicts.insert(key, encode(&row).as_slice())?;
        Ok(())
    })?;
    each("alerts", remains.alerts.as_ref(), repaired, |id: u64, row: AlertRow| alerts::put(tables, id, &row))?;
    each("audit", remains.audit.as_ref(), repaired, |seq: u64, row: AuditRow| {
        tables.write().audit.insert(seq, encode(&row).as_slice())?;
        Ok(())
    })?;
    each("things", remains.things.as_ref(), repaired, |key: (u8, &str), row: serde_json::Value| {
        tables.write().things.insert(key, encode(&row).as_slice())?;
        Ok(())
    })
}
