//! Alerts: stored under numbers that count up, found by index, newest first.
//!
//! `alert_index` holds (index, text, id) → time. What asks for equality is one range of it; what asks for a part of a
//! name first goes over the distinct names, of which there are as many as rules. Several questions are answered
//! by the ids that all of them give.

use std::collections::BTreeSet;

use redb::{ReadableTable, ReadableTableMetadata};
use serde_json::{Map, Value};

use super::{
    AlertId, Nanos,
    rows::{AlertRow, Fault, Tables, View, decode, encode},
};

/// A stored alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    pub id: AlertId,
    /// Wall time of its storing.
    pub at: Nanos,
    /// With its `id`.
    pub alert: Map<String, Value>,
}

/// Which alerts are asked for: those to which all of these apply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertFilter {
    pub severity: Option<u8>,
    pub severity_min: Option<u8>,
    /// A part of it, in any case.
    pub rule_name: Option<String>,
    pub namespace: Option<String>,
    /// A part of it, in any case.
    pub file_type: Option<String>,
    pub zeek_uid: Option<String>,
    pub fuid: Option<String>,
    pub sha256: Option<String>,
    pub task_id: Option<String>,
    /// Wall time, inclusive.
    pub start: Option<Nanos>,
    /// Wall time, inclusive.
    pub end: Option<Nanos>,
}

/// A page of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// From 1.
    pub number: u64,
    pub size: u64,
}

/// A page of alerts, and how many there are on all pages.
#[derive(Clone, Debug, PartialEq)]
pub struct Alerts {
    pub alerts: Vec<Alert>,
    pub total: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Index {
    Rule = 0,
    Namespace = 1,
    FileType = 2,
    Uid = 3,
    Fuid = 4,
    Sha256 = 5,
    Task = 6,
    Severity = 7,
    /// Task, rule and file: one alert each.
    Key = 8,
}

/// Longer texts are found by their beginning.
const TEXT_BYTES: usize = 512;

fn member<'a>(alert: &'a Map<String, Value>, name: &str) -> &'a str {
    alert.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn short(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES)).unwrap_or(text)
}

fn severity_text(severity: u64) -> String {
    format!("{severity:02}")
}

/// What an alert is found by.
fn texts(alert: &Map<String, Value>) -> Vec<(Index, String)> {
    let plain = |name| short(member(alert, name)).to_owned();
    let lower = |name| short(&member(alert, name).to_lowercase()).to_owned();
    let severity = alert.get("severity").and_then(Value::as_u64).unwrap_or(0);
    let mut texts = vec![
        (Index::Rule, lower("rule_name")),
        (Index::FileType, lower("file_type")),
        (Index::Severity, severity_text(severity)),
        (Index::Key, key(alert)),
    ];
    for (index, name) in [
        (Index::Namespace, "rule_namespace"),
        (Index::Uid, "zeek_uid"),
        (Index::Fuid, "fuid"),
        (Index::Sha256, "sha256"),
        (Index::Task, "task_id"),
    ] {
        let text = plain(name);
        if !text.is_empty() {
            texts.push((index, text));
        }
    }
    texts
}

fn key(alert: &Map<String, Value>) -> String {
    ["task_id", "rule_namespace", "rule_name", "file_path", "sha256"].map(|name| member(alert, name)).join("\u{0}")
}

/// Stores an alert, unless its task has one of this rule and file already.
pub(super) fn insert(tables: &mut Tables<'_>, mut alert: Map<String, Value>, at: Nanos) -> Result<Option<AlertId>, Fault> {
    let key = key(&alert);
    let is_known =
        tables.read().alert_index.range((Index::Key as u8, key.as_str(), 0)..=(Index::Key as u8, key.as_str(), u64::MAX))?.next().is_some();
    if is_known {
        return Ok(None);
    }
    let open = tables.write();
    // Never an old number again, even if the last alerts were removed.
    let last = open.alerts.last()?.map_or(0, |(id, _)| id.value());
    let id = last.max(open.meta.get("last_alert")?.map_or(0, |id| id.value())) + 1;
    open.meta.insert("last_alert", id)?;
    alert.insert("id".into(), id.into());
    put(tables, id, &AlertRow { at, alert })?;
    Ok(Some(id))
}

/// Stores an alert under that number, and all that finds it.
pub(super) fn put(tables: &mut Tables<'_>, id: AlertId, row: &AlertRow) -> Result<(), Fault> {
    let open = tables.write();
    open.alert_times.insert((row.at, id), ())?;
    for (index, text) in texts(&row.alert) {
        open.alert_index.insert((index as u8, text.as_str(), id), row.at)?;
    }
    open.alerts.insert(id, encode(row).as_slice())?;
    Ok(())
}

/// Removes an alert and all that finds it.
pub(super) fn remove(tables: &mut Tables<'_>, id: AlertId) -> Result<(), Fault> {
    let open = tables.write();
    let Some(row) = open.alerts.remove(id)?.map(|row| decode::<AlertRow>(row.value(), || format!("alerts/{id}"))).transpose()? else {
        return Ok(());
    };
    open.alert_times.remove((row.at, id))?;
    for (index, text) in texts(&row.alert) {
        open.alert_index.remove((index as u8, text.as_str(), id))?;
    }
    Ok(())
}

/// Sets members of an alert. Its `id`, task, rule and time stay. `false` if there is none.
pub(super) fn amend(tables: &mut Tables<'_>, id: AlertId, members: &Map<String, Value>) -> Result<bool, Fault> {
    let Some(row) = tables.read().alerts.get(id)?.map(|row| decode::<AlertRow>(row.value(), || format!("alerts/{id}"))).transpose()? else {
        return Ok(false);
    };
    let AlertRow { at, mut alert } = row;
    let before = texts(&alert);
    let fixed = ["id", "task_id", "rule_name", "rule_namespace", "timestamp", "file_path", "sha256"];
    let free = members.iter().filter(|(name, _)| !fixed.contains(&name.as_str()));
    alert.extend(free.map(|(name, value)| (name.clone(), value.clone())));
    let open = tables.write();
    for (index, text) in before {
        open.alert_index.remove((index as u8, text.as_str(), id))?;
    }
    put(tables, id, &AlertRow { at, alert })?;
    Ok(true)
}

/// Ids of the alerts of a task.
pub(super) fn of_task(table: &impl ReadableTable<(u8, &'static str, u64), u64>, task_id: &str) -> Result<Vec<AlertId>, Fault> {
    let text = short(task_id);
    let range = table.range((Index::Task as u8, text, 0)..=(Index::Task as u8, text, u64::MAX))?;
    range.map(|row| Ok(row?.0.value().2)).collect()
}

/// One alert.
pub(super) fn get(view: &View, id: AlertId) -> Result<Option<Alert>, Fault> {
    let row = view.alerts.get(id)?.map(|row| decode::<AlertRow>(row.value(), || format!("alerts/{id}"))).transpose()?;
    Ok(row.map(|row| row.alert(id)))
}

/// Alerts stored after that one, oldest first.
pub(super) fn after(view: &View, id: AlertId, limit: usize) -> Result<Vec<Alert>, Fault> {
    let mut found = Vec::new();
    for row in view.alerts.range(id.saturating_add(1)..)?.take(limit) {
        let (id, row) = row?;
        let id = id.value();
        found.push(decode::<AlertRow>(row.value(), || format!("alerts/{id}"))?.alert(id));
    }
    Ok(found)
}

/// A page of what a filter leaves, newest first.
pub(super) fn list(view: &View, filter: &AlertFilter, page: Page) -> Result<Alerts, Fault> {
    let skip = usize::try_from(page.number.saturating_sub(1).saturating_mul(page.size)).unwrap_or(usize::MAX);
    let size = usize::try_from(page.size).unwrap_or(usize::MAX);
    let (ids, total) = match matching(view, filter)? {
        None => {
            let total = view.alerts.len()?;
            if skip as u64 >= total {
                return Ok(Alerts { alerts: Vec::new(), total });
            }
            let ids = view.alerts.range::<u64>(..)?.rev().skip(skip).take(size);
            (ids.map(|row| Ok(row?.0.value())).collect::<Result<Vec<_>, Fault>>()?, total)
        }
        Some(ids) => (ids.iter().rev().skip(skip).take(size).copied().collect(), ids.len() as u64),
    };
    let mut alerts = Vec::with_capacity(ids.len());
    for id in ids {
        alerts.extend(get(view, id)?);
    }
    Ok(Alerts { alerts, total })
}

/// Ids that a filter leaves, ascending; `None` if it leaves all.
fn matching(view: &View, filter: &AlertFilter) -> Result<Option<Vec<AlertId>>, Fault> {
    let exact = [
        (Index::Uid, &filter.zeek_uid),
        (Index::Fuid, &filter.fuid),
        (Index::Sha256, &filter.sha256),
        (Index::Task, &filter.task_id),
        (Index::Namespace, &filter.namespace),
    ];
    let is_in_time = |at: Nanos| filter.start.is_none_or(|start| at >= start) && filter.end.is_none_or(|end| at <= end);
    let is_timed = filter.start.is_some() || filter.end.is_some();
    let mut sets: Vec<Vec<AlertId>> = Vec::new();
    let mut add = |index: Index, names: &[String]| -> Result<(), Fault> {
        let mut ids = Vec::new();
        for name in names {
            for row in view.alert_index.range((index as u8, name.as_str(), 0)..=(index as u8, name.as_str(), u64::MAX))? {
                let (key, at) = row?;
                if is_in_time(at.value()) {
                    ids.push(key.value().2);
                }
            }
        }
        ids.sort_unstable();
        sets.push(ids);
        Ok(())
    };
    for (index, text) in exact {
        if let Some(text) = text {
            // What has none is not in the index: there is nothing to find by an empty text.
            add(index, &[short(text).to_owned()])?;
        }
    }
    for (index, part) in [(Index::Rule, &filter.rule_name), (Index::FileType, &filter.file_type)] {
        if let Some(part) = part {
            add(index, &names_with(view, index, &part.to_lowercase())?)?;
        }
    }
    if let Some(severity) = filter.severity {
        add(Index::Severity, &[severity_text(severity.into())])?;
    }
    if let Some(least) = filter.severity_min {
        let names: Vec<_> = (u64::from(least)..=10).map(severity_text).collect();
        add(Index::Severity, &names)?;
    }
    if sets.is_empty() && is_timed {
        let range = (filter.start.unwrap_or(0), 0)..=(filter.end.unwrap_or(Nanos::MAX), u64::MAX);
        if range.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let mut ids = view.alert_times.range(range)?.map(|row| Ok(row?.0.value().1)).collect::<Result<Vec<_>, Fault>>()?;
        ids.sort_unstable();
        sets.push(ids);
    }
    sets.sort_by_key(Vec::len);
    let mut sets = sets.into_iter();
    let Some(mut left) = sets.next() else { return Ok(None) };
    for set in sets {
        left.retain(|id| set.binary_search(id).is_ok());
    }
    Ok(Some(left))
}

/// The distinct texts of an index in which `part` occurs. Goes from one to the next, whatever lies between.
fn names_with(view: &View, index: Index, part: &str) -> Result<Vec<String>, Fault> {
    let mut names = BTreeSet::new();
    let mut from = (String::new(), 0);
    loop {
        let mut range = view.alert_index.range((index as u8, from.0.as_str(), from.1)..(index as u8 + 1, "", 0))?;
        let Some(row) = range.next() else { break };
        let name = row?.0.value().1.to_owned();
        if name.contains(part) {
            names.insert(name.clone());
        }
        from = (name, u64::MAX);
    }
    Ok(names.into_iter().collect())
}
