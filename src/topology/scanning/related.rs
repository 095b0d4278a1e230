//! What is known of a file beyond its bytes: the connection that carried it, and what Suricata said of that.
//!
//! Logs are read when somebody needs an answer or waits for one and they change, and now and then so that rows do not pile up. Nothing here is owed: a row that is
//! lost costs a relation, never a file.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::poll_fn,
    rc::Rc,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    clock::Nanos,
    io::{Io, Watch},
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
    /// That there are more rows, or more files without one, than are remembered.
    is_bound_told: bool,
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
    /// Reads what has come; gives the names of files that are whole now.
    fn refresh(&mut self, mono: Nanos) -> Vec<Vec<u8>> {
        let (news, read) = self.logs.refresh(mono);
        match read {
            Err(error) if !self.is_told => {
                tracing::warn!("Zeek's log cannot be read, answers go without its connections: {error}");
                self.is_told = true;
            }
            Err(_) => {}
            Ok(()) => self.is_told = false,
        }
        self.tell_bounds();
        news.named
    }

    /// Says once that something gave way.
    fn tell_bounds(&mut self) {
        let ((_, rows), (files, _)) = (self.logs.index().count(), self.late.lost());
        if !self.is_bound_told && rows + files > 0 {
            self.is_bound_told = true;
            tracing::warn!(
                rows,
                files,
                "more of Zeek's log came at once than is remembered: some alerts stay without their connection; see shipper_scan_zeek_lost_total"
            );
        }
    }

    fn lost(&self) -> BTreeMap<&'static str, u64> {
        let ((_, rows), (files, given_up)) = (self.logs.index().count(), self.late.lost());
        BTreeMap::from([("row_bound", rows), ("late_bound", files), ("no_row", given_up)])
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
        let zeek = settings
            .zeek_logs
            .as_ref()
            .map(|folder| Mutex::new(Zeek { logs: Logs::new(folder), late: Late::default(), is_told: false, is_bound_told: false }));
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
        let mut watches: Vec<Rc<dyn Watch>> = Vec::new();
        loop {
            let mono = io.clock().mono();
            let answer = {
                let mut zeek = lock(zeek);
                zeek.refresh(mono);
                zeek.logs.ask(&task.path, since, mono)
            };
            match answer {
                Answer::Known(facts) => return Some(*facts),
                // What was written before the watch began, it does not tell.
                Answer::Wait(_) if waits && watches.is_empty() => watches = lock(zeek).logs.paths().map(|path| io.watch(path)).collect(),
                Answer::Wait(until) if waits => {
                    any_changed(&watches, Duration::from_nanos(until.saturating_sub(mono))).await;
                }
                Answer::Wait(_) => return None,
                Answer::Without(fuid) => return Some(without(fuid)),
            }
        }
    }

    /// Says in an answer of another host what is known now: that host does not wait for a row.
    pub(super) fn join(&self, task: &Task, outcome: &mut Outcome, mono: Nanos) {
        let facts = self.zeek.as_ref().filter(|_| task.asker != Asker::Upload).and_then(|zeek| {
            let mut zeek = lock(zeek);
            zeek.refresh(mono);
            match zeek.logs.ask(&task.path, 0, mono) {
                Answer::Known(facts) => Some(*facts),
                Answer::Without(fuid) => Some(without(fuid)),
                Answer::Wait(_) => None,
            }
        });
        self.settle(task, facts, outcome, mono);
    }

    /// Says in an answer what is known; what is not known yet of Zeek's is told later.
    pub(super) fn settle(&self, task: &Task, facts: Option<Facts>, outcome: &mut Outcome, mono: Nanos) {
        if facts.as_ref().is_none_or(|facts| facts.zeek.uid.is_empty()) {
            self.late(task, mono);
        }
        self.tell(task, facts, outcome, mono);
    }

    /// Says in an answer what is known.
    fn tell(&self, task: &Task, facts: Option<Facts>, outcome: &mut Outcome, mono: Nanos) {
        let facts = facts.or_else(|| Some(Facts { zeek: task.zeek.clone()?, ..Facts::default() }));
        if let Some(facts) = facts.as_ref().filter(|_| !outcome.sha256.is_empty()) {
            for reason in facts.zeek.reasons.iter().filter_map(|word| reason_of(word)) {
                outcome.partial = true;
                outcome.reasons.push(reason);
            }
            outcome.reasons.sort_unstable();
            outcome.reasons.dedup();
        }
        // A file of which Zeek knows nothing, an upload say, is related by its bytes.
        if let Some(suricata) = self.suricata.as_ref().filter(|_| facts.is_some() || !outcome.sha256.is_empty()) {
            let mut suricata = lock(suricata);
            suricata.refresh(mono);
            let transfer = facts.clone().unwrap_or_default().transfer(&outcome.sha256, &outcome.md5);
            outcome.correlated.extend(suricata.relate(&task.task_id, &transfer));
            if suricata.files.len() >= limits::SCAN_RELATED_FILES {
                suricata.files.pop_front();
            }
            suricata.files.push_back((task.task_id.clone(), transfer));
        }
        if let Some(facts) = facts {
            outcome.zeek = Some(facts.zeek);
        }
    }

    /// An answer went without a row of Zeek's; it is told as soon as there is one.
    fn late(&self, task: &Task, mono: Nanos) {
        if let Some(zeek) = self.zeek.as_ref().filter(|_| task.asker != Asker::Upload) {
            let mut zeek = lock(zeek);
            zeek.late.add(task.task_id.clone(), task.path.clone(), mono);
            zeek.tell_bounds();
        }
    }

    /// Reads what has come to the logs: late rows and new relations go to the store. Gives the names of files that are whole now.
    pub(super) async fn refresh(&self, mono: Nanos) -> Vec<Vec<u8>> {
        let (mut settled, mut whole) = (Vec::new(), Vec::new());
        if let Some(zeek) = &self.zeek {
            let mut zeek = lock(zeek);
            whole = zeek.refresh(mono);
            // Rows may also have come with a question for another file's.
            let Zeek { logs, late, .. } = &mut *zeek;
            settled = late.settle(logs.index(), mono);
        }
        if let Some(suricata) = &self.suricata {
            let mut suricata = lock(suricata);
            for (task, facts) in &settled {
                // Its connection may be what relates it.
                if let Some((_, transfer)) = suricata.files.iter_mut().find(|(id, _)| id == task) {
                    *transfer = facts.transfer(&transfer.sha256, &transfer.md5);
                }
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

    /// What was not joined to an answer, by why: rows of Zeek and files without one that gave way to newer ones, and files whose row
    /// never came. Nothing where its log is not read.
    pub(super) fn zeek_lost(&self) -> BTreeMap<&'static str, u64> {
        self.zeek.as_ref().map_or_else(BTreeMap::new, |zeek| lock(zeek).lost())
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

/// What is known of a file without a row.
fn without(fuid: String) -> Facts {
    Facts { zeek: Named { fuid, ..Named::default() }, ..Facts::default() }
}

/// Waits until one of the logs may have changed, at most so long.
async fn any_changed(watches: &[Rc<dyn Watch>], span: Duration) {
    let mut all: Vec<_> = watches.iter().map(|watch| watch.changed(span)).collect();
    poll_fn(|cx| if all.iter_mut().any(|changed| changed.as_mut().poll(cx).is_ready()) { Poll::Ready(()) } else { Poll::Pending }).await;
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]
mod tests {
    use std::{
        fs,
        io::Write,
        path::Path,
        sync::{Arc, mpsc},
    };

    use super::*;
    use crate::{
        clock::SystemClock,
        io::{Engine, Setup, SlabPool, Watcher, spawn},
        scan::{
            task::{Capability, Priority, RelPath},
            tasks::{Limits, Submission, Take},
        },
    };

    const SECOND: Nanos = 1_000_000_000;

    fn task(path: &str, asker: Asker) -> Task {
        Task {
            task_id: String::new(),
            kind: "file_scan".into(),
            root: "zeek".into(),
            path: RelPath(path.into()),
            size: None,
            sha256: None,
            priority: Priority::NORMAL,
            submitted_at: 0.0,
            asker,
            attempt: 0,
            required_capabilities: Vec::new(),
            metadata: serde_json::Map::new(),
            zeek: None,
        }
    }

    /// A store, and logs of both kinds in the same folder.
    fn related(dir: &Path) -> (Tasks, Related) {
        let alerts_of = |outcome: &Outcome, _| {
            let alert =
                json!({"rule_name": "r", "zeek_uid": outcome.zeek.as_ref().map_or("", |zeek| &zeek.uid), "correlated": outcome.correlated});
            vec![alert.as_object().cloned().unwrap_or_default()]
        };
        let tasks = Tasks::open(&dir.join("state"), Limits::default(), Arc::new(alerts_of)).unwrap();
        let settings = Correlate { zeek_logs: Some(dir.to_owned()), eve: Some(dir.join("eve.json")), ..Correlate::default() };
        (tasks.clone(), Related::new(&settings, tasks))
    }

    /// A task that is under way here, with the answer of a child.
    fn leased(tasks: &Tasks, task: Task) -> (Task, Outcome) {
        tasks.submit(vec![Submission { task, identity: None }]).wait().unwrap();
        let task = tasks.lease("w", &[Capability::FileScan], 1, Take::Local).wait().unwrap().remove(0).task;
        let outcome =
            Outcome { reasons: Vec::new(), sha256: "ab".repeat(32), md5: "cd".repeat(16), ..Outcome::error(&task, Reason::NotFound) };
        (task, outcome)
    }

    fn alert(tasks: &Tasks) -> serde_json::Map<String, Value> {
        tasks.alerts(AlertFilter::default(), Page { number: 1, size: 1 }).wait().unwrap().alerts.remove(0).alert
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn whoever_waits_for_a_row_is_called_when_it_comes() {
        let dir = tempfile::tempdir().unwrap();
        let (_tasks, related) = related(dir.path());
        let related = Arc::new(related);
        let names: Vec<String> = (0..5).map(|n| format!("extract-1-HTTP-FBbQxG1GXLXgmWhbk{n}")).collect();
        let setup = Setup {
            name: "related".into(),
            core: None,
            network: false,
            slabs: SlabPool::new(1),
            watcher: Watcher::new().unwrap(),
            clock: SystemClock::new(),
        };
        let log = dir.path().join("files.log");
        fs::write(&log, "").unwrap();
        let (waits, asked) = (related.clone(), names.clone());
        let (begins, begun) = mpsc::channel();
        let thread = spawn(Engine::Pread, setup, move |io: Rc<dyn Io>| {
            Box::pin(async move {
                let mut spans = Vec::new();
                for name in asked {
                    let began = io.clock().mono();
                    begins.send(()).unwrap();
                    let facts = waits.facts(&io, &task(&name, Asker::Watch), true).await.unwrap();
                    assert_eq!(facts.zeek.uid, "C1");
                    spans.push(Duration::from_nanos(io.clock().mono() - began));
                }
                spans
            })
        });
        let thread = thread.unwrap();
        for name in &names {
            begun.recv().unwrap();
            std::thread::sleep(Duration::from_millis(100));
            let row = json!({"fuid": name.rsplit('-').next(), "uid": "C1", "extracted": name});
            writeln!(fs::OpenOptions::new().append(true).open(&log).unwrap(), "{row}").unwrap();
        }
        // Without a call it would look once a second; the machine may be busy with others.
        let spans = thread.join().unwrap();
        assert!(spans.iter().min().unwrap() < &Duration::from_millis(450), "{spans:?}");
    }

    #[test]
    fn an_upload_is_related_by_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (tasks, related) = related(dir.path());
        let event = json!({"timestamp": "2026-01-02T03:00:00+0000", "event_type": "fileinfo", "flow_id": 9, "fileinfo": {"sha256": "AB".repeat(32)}});
        fs::write(dir.path().join("eve.json"), format!("{event}\n")).unwrap();
        let (task, mut outcome) = leased(&tasks, task("some/name", Asker::Upload));
        related.tell(&task, None, &mut outcome, SECOND);
        assert_eq!((outcome.correlated.len(), &outcome.correlated[0]["by"]), (1, &json!("hash")));
        assert_eq!(outcome.zeek, None);
        assert_eq!(related.correlations().len(), 1);
        // Without bytes there is nothing to go by.
        let mut nothing = Outcome::error(&task, Reason::NotFound);
        related.tell(&task, None, &mut nothing, SECOND);
        assert_eq!(nothing.correlated, Vec::<Value>::new());
    }

    #[test]
    fn an_answer_of_another_host_is_joined_to_what_is_known_here() {
        let dir = tempfile::tempdir().unwrap();
        let (tasks, related) = related(dir.path());
        let name = "extract-1-HTTP-FBbQxG1GXLXgmWhbk9";
        let (task, outcome) = leased(&tasks, task(name, Asker::Watch));
        let mut early = outcome.clone();
        related.join(&task, &mut early, 3600 * SECOND);
        assert_eq!(early.zeek.map(|zeek| (zeek.fuid, zeek.uid)), Some(("FBbQxG1GXLXgmWhbk9".into(), String::new())));
        fs::write(dir.path().join("files.log"), format!("{}\n", json!({"fuid": "FBbQxG1GXLXgmWhbk9", "uid": "C1", "missing_bytes": 1})))
            .unwrap();
        let mut outcome = outcome;
        related.join(&task, &mut outcome, 3601 * SECOND);
        assert_eq!(outcome.zeek.as_ref().map(|zeek| zeek.uid.as_str()), Some("C1"));
        assert_eq!((outcome.partial, outcome.reasons), (true, vec![Reason::MissingBytes]));
    }

    #[test]
    fn a_row_that_is_late_amends_the_alert_with_its_connection_and_what_suricata_said_of_that() {
        let dir = tempfile::tempdir().unwrap();
        let (tasks, related) = related(dir.path());
        let name = "extract-1-HTTP-FBbQxG1GXLXgmWhbk9";
        let (task, mut outcome) = leased(&tasks, task(name, Asker::Watch));
        related.tell(&task, None, &mut outcome, SECOND);
        related.late(&task, SECOND);
        tasks.finish("w", outcome).wait().unwrap();
        assert_eq!((&alert(&tasks)["zeek_uid"], &alert(&tasks)["correlated"]), (&json!(""), &json!([])));

        let row = json!({"ts": 1_767_322_800.0, "fuid": "FBbQxG1GXLXgmWhbk9", "uid": "C1", "extracted": name, "is_orig": false,
            "id.orig_h": "192.0.2.1", "id.orig_p": 1000, "id.resp_h": "198.51.100.1", "id.resp_p": 80});
        fs::write(dir.path().join("files.log"), format!("{row}\n")).unwrap();
        let event = json!({"timestamp": "2026-01-02T03:00:05+0000", "event_type": "alert", "flow_id": 7, "proto": "TCP", "alert": {"signature_id": 5},
            "src_ip": "198.51.100.1", "src_port": 80, "dest_ip": "192.0.2.1", "dest_port": 1000});
        fs::write(dir.path().join("eve.json"), format!("{event}\n")).unwrap();
        // Somebody else's question has read the row by then.
        lock(related.zeek.as_ref().unwrap()).refresh(2 * SECOND);
        run(related.refresh(3 * SECOND));
        let alert = alert(&tasks);
        assert_eq!((&alert["zeek_uid"], &alert["correlated"][0]["by"]), (&json!("C1"), &json!("flow")), "{alert:?}");
        assert_eq!(related.zeek_lost(), BTreeMap::from([("late_bound", 0), ("no_row", 0), ("row_bound", 0)]));
    }

    #[test]
    fn files_whose_row_never_comes_and_those_that_give_way_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let (_tasks, related) = related(dir.path());
        for n in 0..limits::SCAN_ZEEK_LATE_MAX + 2 {
            related.late(&task(&format!("f{n}"), Asker::Watch), SECOND);
        }
        run(related.refresh(2 * SECOND));
        assert_eq!((related.zeek_lost()["late_bound"], related.zeek_lost()["no_row"]), (2, 0));
        run(related.refresh(SECOND + limits::SCAN_ZEEK_ROW_MS * 1_000_000));
        assert_eq!((related.zeek_lost()["late_bound"], related.zeek_lost()["no_row"]), (2, limits::SCAN_ZEEK_LATE_MAX as u64));
        let without = Related::new(&Correlate::default(), related.tasks.clone());
        assert!(without.zeek_lost().is_empty(), "nothing is told where no log is read");
    }
}
