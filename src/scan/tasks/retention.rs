//! Forgets what is old, a few rows at a time, so that no commit waits for it.

use redb::{ReadableTable, ReadableTableMetadata};

use super::{
    Nanos, alerts,
    rows::{AuditRow, Fault, decode, get_file, state_key, verdict_size},
    store::Store,
};

/// Removes up to `rows` of each kind. `true` if there may be more.
pub(super) fn step(store: &mut Store<'_, '_>, rows: usize) -> Result<bool, Fault> {
    let mut is_more = false;
    for forget in [ended, alert, verdict, file, audited] {
        let mut count = 0;
        while count < rows && forget(store)? {
            count += 1;
        }
        is_more |= count == rows;
    }
    Ok(is_more)
}

fn before(now: Nanos, age: Nanos) -> Nanos {
    now.saturating_sub(age)
}

/// The task that ended first.
fn ended(store: &mut Store<'_, '_>) -> Result<bool, Fault> {
    let open = store.tables.read();
    let Some((at, id)) = open.ended.first()?.map(|(key, _)| (key.value().0, key.value().1.to_owned())) else { return Ok(false) };
    if at >= before(store.now, store.limits.results_age) && open.ended.len()? <= store.limits.results_max {
        return Ok(false);
    }
    let state = store.task_row(&id)?.and_then(|row| row.end).map(|end| end.state);
    let open = store.tables.write();
    open.ended.remove((at, id.as_str()))?;
    open.tasks.remove(id.as_str())?;
    if let Some(state) = state {
        open.states.remove((state_key(state), id.as_str()))?;
        store.memory.take(state);
    }
    Ok(true)
}

fn alert(store: &mut Store<'_, '_>) -> Result<bool, Fault> {
    let open = store.tables.read();
    let Some((at, id)) = open.alert_times.first()?.map(|(key, _)| key.value()) else { return Ok(false) };
    if at >= before(store.now, store.limits.results_age) && open.alerts.len()? <= store.limits.results_max {
        return Ok(false);
    }
    alerts::remove(&mut store.tables, id)?;
    store.memory.alerts = store.memory.alerts.saturating_sub(1);
    Ok(true)
}

fn verdict(store: &mut Store<'_, '_>) -> Result<bool, Fault> {
    let open = store.tables.read();
    let Some((at, key)) = open.verdict_ages.first()?.map(|(key, _)| (key.value().0, key.value().1.to_owned())) else { return Ok(false) };
    if at >= before(store.now, store.limits.verdict_ttl) && open.verdicts.len()? <= store.limits.results_max {
        return Ok(false);
    }
    let open = store.tables.write();
    open.verdict_ages.remove((at, key.as_str()))?;
    open.verdicts.remove(key.as_str())?;
    store.memory.sizes_gone.push(verdict_size(&key));
    Ok(true)
}

/// The name that nobody has seen for longest. One that is under way stays.
fn file(store: &mut Store<'_, '_>) -> Result<bool, Fault> {
    let open = store.tables.read();
    let Some((seen, key)) = open.files_seen.first()?.map(|(key, _)| (key.value().0, key.value().1.to_vec())) else { return Ok(false) };
    if seen >= before(store.now, store.limits.results_age) && open.files.len()? <= store.limits.results_max {
        return Ok(false);
    }
    match get_file(&open.files, &key)? {
        Some(file) if store.memory.core.get(&file.task_id).is_some() => return Ok(false),
        Some(file) => store.remove_file(&key, &file)?,
        None => {
            store.tables.write().files_seen.remove((seen, key.as_slice()))?;
        }
    }
    Ok(true)
}

fn audited(store: &mut Store<'_, '_>) -> Result<bool, Fault> {
    let open = store.tables.read();
    let first = open.audit.first()?.map(|(seq, row)| (seq.value(), decode::<AuditRow>(row.value(), || format!("audit/{}", seq.value()))));
    let Some((seq, row)) = first else { return Ok(false) };
    if row?.at >= before(store.now, store.limits.audit_age) && open.audit.len()? <= store.limits.audit_max {
        return Ok(false);
    }
    store.tables.write().audit.remove(seq)?;
    Ok(true)
}
