//! What is known of a file beyond its bytes: the connection that carried it, and what Suricata said of that.
//!
//! Logs are read when somebody needs an answer, and now and then so that rows do not pile up. Nothing here is owed: a row that is
//! lost costs a relation, never a file.

use std::{
    collections::{BTreeSet, VecDeque},
    rc::Rc,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    clock::Nanos,
    io::Io,
    limits,
    scan::{
        outcome::{Outcome, Reason},
        settings::Correlate,
        suricata::{Eve, Transfer},
        task::{Asker, Task, TaskId, Zeek as Named},
        tasks::{AlertFilter, Page, Tasks},
        zeek::{Answer, Facts, Late, Logs},
    },
};

/// Between two looks at a log whose row is late.
const LOOK: Duration = Duration::from_millis(500);

/// Zeek's and Suricata's logs beside the answers.
pub(super) struct Related {
    tasks: Tasks,
    zeek: Option<Mutex<Zeek>>,
    suricata: Option<Mutex<Suricata>>,
}

struct Zeek {
    logs: Logs,
    late: Late,
    is_told: bool,
}

struct Suricata {
    eve: Eve,
    path: String,
    /// Files of the last minutes with what relates them, for events that come later.
    files: VecDeque<(TaskId, Transfer)>,
    /// Task and key of relations that were told.
    told: BTreeSet<(TaskId, String)>,
    /// The newest last.
    relations: VecDeque<Value>,
    is_told: bool,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Zeek {
    /// Reads what has come; gives the names of files that are whole now, and whether rows came.
    fn refresh(&mut self, mono: Nanos) -> (Vec<Vec<u8>>, bool) {
        let (news, read) = self.logs.refresh(mono);
        match read {
            Err(error) if !self.is_told => {
                tracing::warn!("Zeek's log cannot be read, answers go without its connections: {error}");
                self.is_told = true;
            }
            Err(_) => {}
            Ok(()) => self.is_told = false,
        }
        (news.named, news.rows > 0)
    }
}

impl Suricata {
    fn refresh(&mut self, mono: Nanos) {
        match self.eve.refresh(mono) {
            Err(error) if !self.is_told => {
                tracing::warn!("Suricata's log cannot be read, answers go without its alerts: {error}");
                self.is_told = true;
            }
            Err(_) => {}
            Ok(_) => self.is_told = false,
        }
    }

    /// New relations of a file.
    fn relate(&mut self, task: &TaskId, transfer: &Transfer) -> Vec<Value> {
        let mut found = Vec::new();
        for relation in self.eve.related(transfer) {
            if self.told.len() >= limits::SCAN_RELATIONS_MAX {
                self.told.pop_first();
            }
            if !self.told.insert((task.clone(), relation.key.clone())) {
                continue;
            }
            let told = serde_json::to_value(&relation).unwrap_or_default();
            if self.relations.len() >= limits::SCAN_RELATIONS_SHOWN {
                self.relations.pop_front();
            }
            self.relations.push_back(json!({"task_id": task, "relation": told}));
            found.push(told);
        }
        found
    }
}

impl Related {
    pub(super) fn new(settings: &Correlate, tasks: Tasks) -> Self {
        let zeek =
            settings.zeek_logs.as_ref().map(|folder| Mutex::new(Zeek { logs: Logs::new(folder), late: Late::default(), is_told: false }));
        let suricata = settings.eve.as_ref().map(|path| {
            Mutex::new(Suricata {
                eve: Eve::new(path.clone(), settings),
                path: path.display().to_string(),
                files: VecDeque::new(),
                told: BTreeSet::new(),
                relations: VecDeque::new(),
                is_told: false,
            })
        });
        Self { tasks, zeek, suricata }
    }

    /// True if it reads a log.
    pub(super) fn has_logs(&self) -> bool {
        self.zeek.is_some() || self.suricata.is_some()
    }

    /// What Zeek's log says of a task's file; waits a while for a row that is late, where there is something to tell.
    ///
    /// - `waits`: whether anybody would hear of it.
    pub(super) async fn facts(&self, io: &Rc<dyn Io>, task: &Task, waits: bool) -> Option<Facts> {
        let zeek = self.zeek.as_ref().filter(|_| task.asker != Asker::Upload)?;
        let since = io.clock().mono();
        loop {
            let mono = io.clock().mono();
            let answer = {
                let mut zeek = lock(zeek);
                zeek.refresh(mono);
                zeek.logs.ask(&task.path, since, mono)
            };
            match answer {
                Answer::Known(facts) => return Some(*facts),
                Answer::Wait(until) if waits => {
                    let left = Duration::from_nanos(until.saturating_sub(mono));
                    io.sleep(left.min(LOOK)).await;
                }
                Answer::Wait(_) => return None,
                Answer::Without(fuid) => return Some(Facts { zeek: Named { fuid, ..Named::default() }, ..Facts::default() }),
            }
        }
    }

    /// Says in an answer what is known.
    pub(super) fn tell(&self, task: &Task, facts: Option<Facts>, outcome: &mut Outcome, mono: Nanos) {
        let facts = facts.or_else(|| Some(Facts { zeek: task.zeek.clone()?, ..Facts::default() }));
        let Some(facts) = facts else { return };
        if !outcome.sha256.is_empty() {
            for reason in facts.zeek.reasons.iter().filter_map(|word| reason_of(word)) {
                outcome.partial = true;
                outcome.reasons.push(reason);
            }
            outcome.reasons.sort_unstable();
            outcome.reasons.dedup();
        }
        if let Some(suricata) = &self.suricata {
            let mut suricata = lock(suricata);
            suricata.refresh(mono);
            let transfer = facts.transfer(&outcome.sha256, &outcome.md5);
            outcome.correlated.extend(suricata.relate(&task.task_id, &transfer));
            if suricata.files.len() >= limits::SCAN_RELATED_FILES {
                suricata.files.pop_front();
            }
            suricata.files.push_back((task.task_id.clone(), transfer));
        }
        outcome.zeek = Some(facts.zeek);
    }

    /// An answer went without a row of Zeek's; it is told as soon as there is one.
    pub(super) fn late(&self, task: &Task, mono: Nanos) {
        if let Some(zeek) = &self.zeek {
            lock(zeek).late.add(task.task_id.clone(), task.path.clone(), mono);
        }
    }

    /// Reads what has come to the logs: late rows and new relations go to the store. Gives the names of files that are whole now.
    pub(super) async fn refresh(&self, mono: Nanos) -> Vec<Vec<u8>> {
        let (mut settled, mut whole) = (Vec::new(), Vec::new());
        if let Some(zeek) = &self.zeek {
            let mut zeek = lock(zeek);
            let (named, has_rows) = zeek.refresh(mono);
            whole = named;
            if has_rows && !zeek.late.is_empty() {
                let Zeek { logs, late, .. } = &mut *zeek;
                settled = late.settle(logs.index(), mono);
            }
        }
        for (task, facts) in settled {
            if let Err(away) = self.tasks.tell_zeek(&task, facts.zeek).await {
                tracing::warn!(task, "what Zeek says of a file could not be stored: {away}");
            }
        }
        self.correlate(mono).await;
        whole
    }

    /// Looks for new relations of files of the last minutes; how many there were.
    pub(super) async fn correlate(&self, mono: Nanos) -> usize {
        let Some(suricata) = &self.suricata else { return 0 };
        let new: Vec<(TaskId, Vec<Value>)> = {
            let mut suricata = lock(suricata);
            suricata.refresh(mono);
            let files: Vec<_> = suricata.files.iter().cloned().collect();
            files
                .into_iter()
                .map(|(task, transfer)| (task.clone(), suricata.relate(&task, &transfer)))
                .filter(|(_, new)| !new.is_empty())
                .collect()
        };
        let count = new.iter().map(|(_, relations)| relations.len()).sum();
        for (task, relations) in new {
            self.amend(&task, relations).await;
        }
        count
    }

    /// Adds relations to the alerts of a task.
    async fn amend(&self, task: &TaskId, relations: Vec<Value>) {
        let filter = AlertFilter { task_id: Some(task.clone()), ..AlertFilter::default() };
        let Ok(found) = self.tasks.alerts(filter, Page { number: 1, size: limits::SCAN_AMENDED_ALERTS }).await else { return };
        for alert in found.alerts {
            let before = alert.alert.get("correlated").and_then(Value::as_array).cloned().unwrap_or_default();
            let all: Vec<Value> = before.into_iter().chain(relations.iter().cloned()).collect();
            let members = std::iter::once(("correlated".to_owned(), Value::from(all))).collect();
            if let Err(away) = self.tasks.amend_alert(alert.id, members).await {
                tracing::warn!(task, "a relation could not be stored: {away}");
            }
        }
    }

    /// What is known of Suricata's log.
    pub(super) fn suricata(&self) -> Value {
        let Some(suricata) = &self.suricata else { return json!({"running": false, "alert_count": 0}) };
        let suricata = lock(suricata);
        let figures = suricata.eve.figures();
        json!({
            "running": true,
            "log": suricata.path,
            "alert_count": figures.alerts,
            "event_count": figures.events,
            "dropped": figures.dropped,
            "refused": figures.refused,
            "correlation_count": suricata.relations.len(),
        })
    }

    /// Its events in memory, the latest first.
    pub(super) fn suricata_alerts(&self) -> Vec<Value> {
        let Some(suricata) = &self.suricata else { return Vec::new() };
        lock(suricata).eve.events().filter_map(|event| serde_json::to_value(event).ok()).take(limits::SCAN_RELATIONS_SHOWN).collect()
    }

    /// Relations that were told, the newest first.
    pub(super) fn correlations(&self) -> Vec<Value> {
        let Some(suricata) = &self.suricata else { return Vec::new() };
        lock(suricata).relations.iter().rev().cloned().collect()
    }
}

/// What Zeek did not see of a file.
fn reason_of(word: &str) -> Option<Reason> {
    match word {
        "cutoff" => Some(Reason::Cutoff),
        "missing_bytes" => Some(Reason::MissingBytes),
        "timedout" => Some(Reason::Timedout),
        _ => None,
    }
}
