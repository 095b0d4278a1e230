//! What every stream has saved or is to save: the one table that the checkpoint is written from.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    checkpoint::{Checkpoint, Row, Snapshot},
    position::Position,
    store::{Asked, Reply, StoreHandle},
};

/// Rows of all streams, for the checkpoint. Shared by homes and the saver.
#[derive(Clone, Debug, Default)]
pub struct Rows(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    rows: BTreeMap<(String, String), Row>,
    changed: bool,
    /// What stages remember, by `<stage>.<source>`, as it is on disk or on its way.
    snapshots: BTreeMap<String, Snapshot>,
    /// Of these, what the store has not been asked to keep yet, and who wants to know when it is kept.
    fresh: BTreeMap<String, Option<Reply>>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("rows", &self.rows).field("changed", &self.changed).finish_non_exhaustive()
    }
}

impl Rows {
    /// The rows of a loaded checkpoint.
    pub fn new(rows: Vec<Row>) -> Self {
        let rows = rows.into_iter().map(|row| ((row.source.clone(), row.stream.clone()), row)).collect();
        Self(Arc::new(Mutex::new(Table { rows, ..Table::default() })))
    }
    /// The same, with what stages had saved.
    pub fn with_snapshots(self, snapshots: BTreeMap<String, Snapshot>) -> Self {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).snapshots = snapshots;
        self
    }
    /// What a stage saved under that name.
    pub(super) fn snapshot(&self, name: &str) -> Option<Snapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).snapshots.get(name).cloned()
    }
    /// Takes in what stages remember, for the next save. Rows at or after it must be there already.
    ///
    /// - `kept`: told when the one with places is kept, if there is one and no later one replaces it before that.
    pub(super) fn remember(&self, snapshots: Vec<(String, Snapshot)>, kept: Reply) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = Some(kept);
        for (name, snapshot) in snapshots {
            let kept = if snapshot.places.is_empty() { None } else { kept.take() };
            table.fresh.insert(name.clone(), kept);
            table.snapshots.insert(name, snapshot);
            table.changed = true;
        }
    }
    /// Sets branches of a source's streams back, or on, to where a snapshot ends. A stream that is not known is left alone.
    ///
    /// - `places`: stream, branch, and where it ends.
    pub(super) fn go_on_at(&self, source: &str, places: &[(String, String, Position)]) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (stream, branch, at) in places {
            if let Some(row) = table.rows.get_mut(&(source.to_owned(), stream.clone())) {
                row.branches.iter_mut().filter(|row| row.branch == *branch).for_each(|row| row.position = at.clone());
            }
        }
    }
    pub(super) fn put(&self, row: Row) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (row.source.clone(), row.stream.clone());
        if table.rows.get(&key) != Some(&row) {
            table.rows.insert(key, row);
            table.changed = true;
        }
    }
    pub(super) fn remove(&self, source: &str, stream: &str) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.changed |= table.rows.remove(&(source.to_owned(), stream.to_owned())).is_some();
    }
    /// The rows of one source.
    pub fn of(&self, source: &str) -> Vec<Row> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.rows.values().filter(|row| row.source == source).cloned().collect()
    }
    /// Asks the store to save all rows as they are now.
    ///
    /// Rows are copied and handed over under one lock: of two who ask, the later one's rows are
    /// the later ones, and the store saves those.
    ///
    /// - `instance`: the agent's name; `now`: wall time, nanoseconds since 1970.
    ///
    /// # Errors
    /// The reply, if the store takes no more jobs now.
    pub fn save(&self, store: &StoreHandle, instance: &str, now: u64, reply: Reply) -> Result<(), Reply> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = table.rows.values().cloned().collect();
        let checkpoint = Checkpoint { instance: instance.to_owned(), saved_at: rfc3339(now), rows, ..Checkpoint::default() };
        store.ask(Asked::save(checkpoint, reply)).map_err(|back| back.reply)?;
        table.changed = false;
        let Table { snapshots, fresh, changed, .. } = &mut *table;
        while let Some((name, kept)) = fresh.pop_first() {
            let Some(snapshot) = snapshots.get(&name) else { continue };
            let asked = Asked::remember(name.clone(), snapshot.clone(), kept.unwrap_or_else(|| Box::new(|_| {})));
            if let Err(back) = store.ask(asked) {
                // Asked again with the next save.
                fresh.insert(name, Some(back.reply));
                *changed = true;
                break;
            }
        }
        Ok(())
    }
    /// The next look finds a change, whether there is one or not.
    pub fn mark_changed(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).changed = true;
    }
    /// True if a row changed since the last save was asked for.
    pub fn are_changed(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).changed
    }
}

/// Wall time as people write it.
pub fn rfc3339(now: u64) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(now)).unwrap_or_default();
    format!("{time:.3}")
}
