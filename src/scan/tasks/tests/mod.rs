//! The store whole, on a disk of its own.

#![allow(clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]

mod alerts;
mod faults;
mod kill;
mod measure;
mod names;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Map, Value, json};

use super::*;
use crate::{
    clock::Clock,
    scan::task::{Asker, Capability, Priority, Zeek},
};

const S: Nanos = 1_000_000_000;

/// A clock that a test turns.
#[derive(Clone)]
pub(super) struct Hand(Arc<AtomicU64>);

impl Hand {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1_700_000_000 * S)))
    }
    pub(super) fn turn(&self, span: Nanos) {
        self.0.fetch_add(span, Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed)
    }
    fn mono(&self) -> Nanos {
        self.now()
    }
}

/// As `alert` makes them, in short.
pub(super) fn alerts_of() -> AlertsOf {
    Arc::new(|outcome, _| {
        let alert = |found: &crate::scan::outcome::Match| {
            let value = json!({"rule_name": found.rule, "rule_namespace": found.namespace, "severity": found.severity,
                "file_path": outcome.path.lossy(), "file_type": outcome.mime, "sha256": outcome.sha256,
                "zeek_uid": outcome.zeek.as_ref().map_or("", |zeek| &zeek.uid), "fuid": outcome.zeek.as_ref().map_or("", |zeek| &zeek.fuid)});
            value.as_object().cloned().unwrap_or_default()
        };
        outcome.matches.iter().map(alert).collect()
    })
}

pub(super) fn open_in(dir: &Path, limits: Limits, clock: &Hand) -> Tasks {
    Tasks::open_at(dir, limits, alerts_of(), Arc::new(clock.clone())).unwrap()
}

pub(super) fn task(path: &str, priority: i64) -> Task {
    Task {
        task_id: String::new(),
        kind: "file_scan".into(),
        root: "zeek".into(),
        path: RelPath(path.as_bytes().to_vec()),
        size: None,
        sha256: None,
        priority: Priority::new(priority).unwrap(),
        submitted_at: 0.0,
        asker: Asker::Watch,
        attempt: 0,
        required_capabilities: Vec::new(),
        metadata: Map::new(),
        zeek: None,
    }
}

pub(super) fn identity(n: u64) -> Identity {
    Identity { dev: 1, inode: n, size: 68, mtime_ns: 5 }
}

pub(super) fn submission(path: &str, n: u64) -> Submission {
    Submission { task: task(path, 5), identity: Some(identity(n)) }
}

pub(super) fn outcome(lease: &Lease, verdict: Verdict) -> Outcome {
    Outcome {
        verdict,
        reasons: Vec::new(),
        sha256: "ab".into(),
        size: 68,
        rules_version: "sha256:1".into(),
        ..Outcome::error(&lease.task, Reason::Io)
    }
}

pub(super) fn matched(lease: &Lease, rules: &[&str]) -> Outcome {
    let found = |rule: &&str| crate::scan::outcome::Match {
        rule: (*rule).to_owned(),
        namespace: "own".into(),
        tags: Vec::new(),
        meta: Vec::new(),
        severity: 3,
        author: None,
        patterns: Vec::new(),
    };
    Outcome { matches: rules.iter().map(found).collect(), ..outcome(lease, Verdict::Matched) }
}

const ALL: &[Capability] = &[Capability::FileScan, Capability::YaraAnalysis, Capability::NetworkAnalysis, Capability::LogAnalysis];

fn one(store: &Tasks, submission: Submission) -> Submitted {
    store.submit(vec![submission]).wait().unwrap().remove(0)
}

#[test]
fn a_file_goes_from_submission_to_its_outcome_and_is_known_after() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Hand::new());
    let store = open_in(dir.path(), Limits::default(), &clock);
    let Submitted::Queued(id) = one(&store, submission("a", 1)) else { panic!() };
    assert_eq!(one(&store, submission("a", 1)), Submitted::UnderWay(id.clone()));
    assert!(store.wait_ready(Duration::from_secs(5)));
    let leases = store.lease("w1", ALL, 5, Take::Next).wait().unwrap();
    assert_eq!(leases.len(), 1);
    assert_eq!(leases[0].deadline, clock.now() + 90 * S);
    assert!(!store.wait_ready(Duration::ZERO));
    assert!(store.started("w1", &id).wait().unwrap());
    assert!(!store.started("w2", &id).wait().unwrap());
    let outcome = matched(&leases[0], &["eicar", "av"]);
    let has_more = |than: u64| {
        let more = std::pin::pin!(store.more_alerts(than));
        more.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready()
    };
    assert!(!has_more(0));
    assert_eq!(store.finish("w2", outcome.clone()).wait().unwrap(), Finished::NoLease);
    assert_eq!(store.finish("w1", outcome.clone()).wait().unwrap(), Finished::Applied { alerts: vec![1, 2] });
    assert!(has_more(0) && has_more(1) && !has_more(2));
    assert_eq!(store.finish("w1", outcome).wait().unwrap(), Finished::Duplicate);
    assert_eq!(one(&store, submission("a", 1)), Submitted::Known { id: id.clone(), verdict: Some(Verdict::Matched) });
    let Submitted::Queued(other) = one(&store, submission("a", 2)) else { panic!() };
    assert_ne!(other, id);
    let figures = store.figures();
    assert_eq!((figures.queued, figures.leased, figures.done, figures.alerts), (1, 0, 1, 2));
    let standing = store.task(&id).wait().unwrap().unwrap();
    assert_eq!((standing.state, standing.task.attempt), (State::Done, 1));
    assert_eq!(standing.outcome.unwrap().worker_id, "w1");
    store.close();
    assert_eq!(store.submit(Vec::new()).wait(), Err(Away::Closed));
}

fn lease_one(store: &Tasks, worker: &str, take: Take) -> Lease {
    let mut leases = store.lease(worker, ALL, 1, take).wait().unwrap();
    assert_eq!(leases.len(), 1, "{:?}", store.figures());
    leases.remove(0)
}

fn queued(submitted: Submitted) -> TaskId {
    let Submitted::Queued(id) = submitted else { panic!("{submitted:?}") };
    id
}

fn state(store: &Tasks, id: &str) -> State {
    store.task(id).wait().unwrap().unwrap().state
}

/// A submission, a lease and an outcome.
fn done(store: &Tasks, submission: Submission, of: impl FnOnce(&Lease) -> Outcome) -> TaskId {
    let id = queued(one(store, submission));
    let lease = lease_one(store, "w1", Take::Started);
    assert!(matches!(store.finish("w1", of(&lease)).wait().unwrap(), Finished::Applied { .. }));
    id
}

#[test]
fn what_was_queued_or_leased_is_so_after_a_restart() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Hand::new());
    let ids = {
        let store = open_in(dir.path(), Limits::default(), &clock);
        let ids: Vec<_> = (0..4).map(|n| queued(one(&store, submission(&format!("f{n}"), n)))).collect();
        assert_eq!(lease_one(&store, "w1", Take::Started).task.task_id, ids[0]);
        assert_eq!(lease_one(&store, "w2", Take::Next).task.task_id, ids[1]);
        assert_eq!(lease_one(&store, "w2", Take::Started).task.task_id, ids[2]);
        let given = store.give_back_because("w2", &ids[2], Loss::Io, "EIO on read").wait().unwrap();
        assert_eq!(given, GivenBack::Requeued { at: clock.now() + 5 * S });
        store.close();
        ids
    };
    clock.turn(3 * S);
    let store = open_in(dir.path(), Limits::default(), &clock);
    let figures = store.figures();
    assert_eq!((figures.queued, figures.leased), (2, 2));
    assert_eq!(figures.in_flight, BTreeMap::from([("w1".to_owned(), 1), ("w2".to_owned(), 1)]));
    // The lease of before still counts, the backoff too.
    assert_eq!(lease_one(&store, "w3", Take::Next).task.task_id, ids[3]);
    assert!(store.lease("w3", ALL, 9, Take::Next).wait().unwrap().is_empty());
    assert!(store.started("w2", &ids[1]).wait().unwrap());
    let lease = Lease { task: store.task(&ids[0]).wait().unwrap().unwrap().task, identity: None, deadline: 0, alone: false };
    assert_eq!(store.finish("w1", outcome(&lease, Verdict::Clean)).wait().unwrap(), Finished::Applied { alerts: Vec::new() });
    clock.turn(2 * S);
    let again = lease_one(&store, "w3", Take::Next);
    assert_eq!((again.task.task_id.as_str(), again.task.attempt), (ids[2].as_str(), 1));
}

#[test]
fn a_lease_that_is_over_goes_back_by_itself_and_its_late_outcome_is_nobodys() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Hand::new());
    let store = open_in(dir.path(), Limits::default(), &clock);
    let id = queued(one(&store, submission("a", 1)));
    let lease = lease_one(&store, "w1", Take::Started);
    clock.turn(60 * S);
    assert_eq!(store.extend("w1", std::slice::from_ref(&id)).wait().unwrap(), 1);
    assert_eq!(store.extend("w2", std::slice::from_ref(&id)).wait().unwrap(), 0);
    clock.turn(89 * S);
    assert_eq!(state(&store, &id), State::Leased);
    clock.turn(2 * S);
    assert_eq!(store.finish("w1", outcome(&lease, Verdict::Clean)).wait().unwrap(), Finished::NoLease);
    assert_eq!(state(&store, &id), State::Queued);
    assert_eq!(store.figures().since_start.requeued, BTreeMap::from([("lease", 1)]));
    clock.turn(5 * S);
    let lease = lease_one(&store, "w2", Take::Started);
    assert_eq!(lease.task.attempt, 2);
    // Heartbeats do not carry it past its TTL.
    for _ in 0..7 {
        clock.turn(80 * S);
        store.extend("w2", std::slice::from_ref(&id)).wait().unwrap();
    }
    assert_eq!(state(&store, &id), State::Leased);
    clock.turn(80 * S);
    assert!(!store.started("w2", &id).wait().unwrap());
    assert_eq!(state(&store, &id), State::Queued);
}

#[test]
fn a_worker_that_is_lost_gives_everything_back() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Hand::new());
    let store = open_in(dir.path(), Limits::default(), &clock);
    let started = queued(one(&store, submission("a", 1)));
    lease_one(&store, "w1", Take::Started);
    let held = queued(one(&store, submission("b", 2)));
    lease_one(&store, "w1", Take::Next);
    assert_eq!(store.lost("w1").wait().unwrap(), 2);
    // What had not started is there at once, and has used no attempt.
    let lease = lease_one(&store, "w2", Take::Next);
    assert_eq!((&lease.task.task_id, lease.task.attempt), (&held, 0));
    assert!(store.lease("w2", ALL, 1, Take::Next).wait().unwrap().is_empty());
    clock.turn(5 * S);
    assert_eq!(lease_one(&store, "w2", Take::Next).task.task_id, started);
}

#[test]
fn what_killed_two_children_is_dead_and_stays_so_over_a_restart() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Hand::new());
    let store = open_in(dir.path(), Limits::default(), &clock);
    let id = queued(one(&store, submission("bomb", 1)));
    lease_one(&store, "w1", Take::Started);
    assert!(matches!(store.give_back("w1", &id, Loss::Child).wait().unwrap(), GivenBack::Requeued { .. }));
    store.close();
    drop(store);
    clock.turn(10 * S);
    let store = open_in(dir.path(), Limits::default(), &clock);
    lease_one(&store, "w2", Take::Started);
    assert_eq!(store.give_back("w2", &id, Loss::Child).wait().unwrap(), GivenBack::Dead(DeadReason::Poison));
    let dead = store.dead(None, 10).wait().unwrap();
    let why = dead[0].dead.clone().unwrap();
    assert_eq!((why.reason, why.attempts, why.last_error.as_str()), (DeadReason::Poison, 2, "child"));
    assert_eq!(why.workers, ["w1", "w2"]);
    assert_eq!(store.retry_dead(&id).wait().unwrap(), Retried::Poison);
    store.close();
    drop(store);
    let store = open_in(dir.path(), Limits::default(), &clock);
    assert_eq!(store.figures().dead, 1);
    assert_eq!(one(&store, submission("bomb", 1)), Submitted::Known { id: id.clone(), verdict: None });
    assert!(store.drop_dead(&id).wait().unwrap());
    assert!(!store.drop_dead(&id).wait().unwrap());
    let figures = store.figures();
    assert_eq!((figures.dead, figures.cancelled), (0, 1));
}

#[test]
fn a_timeout_has_one_more_chance_alone_and_is_then_an_error() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Hand::new());
    let store = open_in(dir.path(), Limits::default(), &clock);
    let id = queued(one(&store, submission("slow", 1)));
    assert!(!lease_one(&store, "w1", Take::Started).alone);
    assert!(matches!(store.give_back("w1", &id, Loss::Timeout).wait().unwrap(), GivenBack::Requeued { .. }));
    clock.turn(10 * S);
    assert!(lease_one(&store, "w1", Take::Started).alone);
    assert_eq!(store.give_back("w1", &id, Loss::Timeout).wait().unwrap(), GivenBack::TimedOut);
    let standing = store.task(&id).wait().unwrap().unwrap();
    let outcome = standing.outcome.unwrap();
    assert_eq!(
        (standing.state, outcome.verdict, outcome.reasons.as_slice(), outcome.attempt),
        (State::Done, Verdict::Error, &[Reason::Timeout][..], 2)
    );
}

#[test]
fn an_error_that_may_pass_is_tried_again_and_then_dead_until_somebody_asks() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Hand::new());
    let store = open_in(dir.path(), Limits::default(), &clock);
    let id = queued(one(&store, submission("a", 1)));
    for attempt in 1..=3 {
        let lease = lease_one(&store, "w1", Take::Started);
        assert_eq!(lease.task.attempt, attempt);
        let finished = store.finish("w1", Outcome::error(&lease.task, Reason::Io)).wait().unwrap();
        let at = clock.now() + [5, 30, 0][attempt as usize - 1] * S;
        let expected = if attempt < 3 { Finished::Requeued { at } } else { Finished::Dead(DeadReason::Attempts) };
        assert_eq!(finished, expected);
        clock.turn(200 * S);
    }
    // Others are told at once: not to be found is an answer.
    let gone = done(&store, submission("gone", 2), |lease| Outcome::error(&lease.task, Reason::NotFound));
    assert_eq!(state(&store, &gone), State::Done);
    // Somebody saw it again: it is there now.
    assert_ne!(queued(one(&store, submission("gone", 2))), gone);
    assert_eq!(store.retry_dead(&gone).wait().unwrap(), Retried::NotDead);
    assert_eq!(store.retry_dead("none").wait().unwrap(), Retried::Unknown);
    assert_eq!(store.retry_dead(&id).wait().unwrap(), Retried::Queued);
    assert_eq!(one(&store, submission("a", 1)), Submitted::UnderWay(id.clone()));
    let leases = store.lease("w1", ALL, 9, Take::Started).wait().unwrap();
    assert_eq!(leases.iter().map(|lease| lease.task.attempt).collect::<Vec<_>>(), [1, 1]);
    let lease = leases.iter().find(|lease| lease.task.task_id == id).unwrap();
    assert!(matches!(store.finish("w1", outcome(lease, Verdict::Clean)).wait().unwrap(), Finished::Applied { .. }));
    assert_eq!(one(&store, submission("a", 1)), Submitted::Known { id, verdict: Some(Verdict::Clean) });
    assert_eq!(store.figures().dead, 0);
}

#[test]
fn a_full_queue_refuses_and_says_when_there_is_room() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Hand::new());
    let store = open_in(dir.path(), Limits { size_max: 2, ..Limits::default() }, &clock);
    let submitted = store.submit((0..4).map(|n| submission(&format!("f{n}"), n)).collect()).wait().unwrap();
    assert!(matches!(submitted[..], [Submitted::Queued(_), Submitted::Queued(_), Submitted::Full, Submitted::Full]));
    assert!(matches!(one(&store, submission("f0", 0)), Submitted::UnderWay(_)));
    let waiter = |is_over: &Arc<AtomicBool>| {
        let (waits, is_over) = (store.clone(), is_over.clone());
        std::thread::spawn(move || waits.wait_room(&|| is_over.load(Ordering::Acquire)))
    };
    let is_over = Arc::new(AtomicBool::new(false));
    let (for_room, for_end) = (waiter(&Arc::default()), waiter(&is_over));
    std::thread::sleep(Duration::from_millis(50));
    assert!(!for_room.is_finished() && !for_end.is_finished());
    is_over.store(true, Ordering::Release);
    store.wake();
    for_end.join().unwrap();
    assert!(!for_room.is_finished(), "there is still no room");
    lease_one(&store, "w1", Take::Next);
    for_room.join().unwrap();
    assert!(matches!(one(&store, submission("f2", 2)), Submitted::Queued(_)));
    let for_close = waiter(&Arc::default());
    store.close();
    for_close.join().unwrap();
}

#[test]
fn an_outcome_of_other_bytes_is_refused_and_ends_the_lease() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Hand::new());
    let store = open_in(dir.path(), Limits::default(), &clock);
    let id = queued(one(&store, submission("a", 1)));
    let lease = lease_one(&store, "w1", Take::Started);
    assert!(!store.handed_out("w2", &id, "ff").wait().unwrap());
    assert!(store.handed_out("w1", &id, "ff").wait().unwrap());
    assert_eq!(store.finish("w1", outcome(&lease, Verdict::Clean)).wait().unwrap(), Finished::WrongBytes);
    assert_eq!(state(&store, &id), State::Queued);
    assert_eq!(store.finish("w1", Outcome { sha256: "ff".into(), ..outcome(&lease, Verdict::Clean) }).wait().unwrap(), Finished::NoLease);
    assert_eq!(store.figures().since_start.wrong_bytes, 1);
    // What was uploaded is known by its SHA-256 from the start.
    let upload = Task { sha256: Some("AB".into()), ..task("up", 9) };
    queued(one(&store, Submission { task: upload, identity: None }));
    let lease = lease_one(&store, "w1", Take::Started);
    assert!(matches!(store.finish("w1", outcome(&lease, Verdict::Clean)).wait().unwrap(), Finished::Applied { .. }));
}

#[test]
fn a_broker_may_bring_a_task_twice() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Hand::new());
    let store = open_in(dir.path(), Limits::default(), &clock);
    let named = Submission { task: Task { task_id: "from-elsewhere".into(), ..task("a", 5) }, identity: None };
    assert_eq!(one(&store, named.clone()), Submitted::Queued("from-elsewhere".into()));
    assert_eq!(one(&store, named.clone()), Submitted::UnderWay("from-elsewhere".into()));
    let lease = lease_one(&store, "broker", Take::Broker);
    assert_eq!(lease.deadline, clock.now() + 600 * S);
    store.finish("broker", outcome(&lease, Verdict::Clean)).wait().unwrap();
    assert_eq!(one(&store, named), Submitted::Known { id: "from-elsewhere".into(), verdict: Some(Verdict::Clean) });
    // Without an identity nothing is known of a file.
    let unnamed = Submission { task: task("a", 5), identity: None };
    assert_ne!(queued(one(&store, unnamed.clone())), queued(one(&store, unnamed)));
}

#[test]
fn known_files_are_scanned_again_only_when_told_to() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Hand::new());
    let store = open_in(dir.path(), Limits::default(), &clock);
    let first = done(&store, submission("a", 1), |lease| outcome(lease, Verdict::Clean));
    let known = store.known("zeek", &RelPath(b"a".to_vec())).wait().unwrap().unwrap();
    assert_eq!((known.task_id.as_str(), known.identity, known.verdict), (first.as_str(), identity(1), Some(Verdict::Clean)));
    let again = queued(store.submit_again(vec![submission("a", 1)]).wait().unwrap().remove(0));
    assert_ne!(first, again);
    assert_eq!(store.submit_again(vec![submission("a", 1)]).wait().unwrap(), [Submitted::UnderWay(again)]);
    // The outcome of an older task does not stand in for the newer bytes under that name.
    let lease = lease_one(&store, "w1", Take::Started);
    let newer = queued(one(&store, submission("a", 7)));
    store.finish("w1", outcome(&lease, Verdict::Clean)).wait().unwrap();
    let known = store.known("zeek", &RelPath(b"a".to_vec())).wait().unwrap().unwrap();
    assert_eq!((known.task_id, known.identity, known.verdict), (newer, identity(7), None));
    assert!(store.known("zeek", &RelPath(b"b".to_vec())).wait().unwrap().is_none());
}

#[test]
fn a_verdict_counts_for_a_day_and_only_a_whole_one() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Hand::new());
    let store = open_in(dir.path(), Limits::default(), &clock);
    let cached = |sha256: &str| store.cached(sha256, 68, "sha256:1").wait().unwrap();
    let of = |sha256: &'static str| move |lease: &Lease| Outcome { sha256: sha256.into(), ..matched(lease, &["eicar"]) };
    done(&store, submission("a", 1), of("whole"));
    done(&store, submission("b", 2), |lease| Outcome { partial: true, reasons: vec![Reason::Timeout], ..of("partial")(lease) });
    done(&store, submission("c", 3), |lease| Outcome { verdict: Verdict::Skipped, ..of("skipped")(lease) });
    done(&store, submission("d", 4), |lease| Outcome { cached: true, ..of("copied")(lease) });
    let cut = Zeek { reasons: vec!["cutoff".into()], ..Zeek::default() };
    done(&store, Submission { task: Task { zeek: Some(cut), ..task("e", 5) }, identity: None }, of("cut"));
    assert_eq!(["partial", "skipped", "copied", "cut"].map(cached), [const { None }; 4]);
    let hit = cached("whole").unwrap();
    assert!(hit.cached);
    assert_eq!(hit.matches.len(), 1);
    assert_eq!([67, 68, 69].map(|size| store.may_have_cached(size)), [false, true, false]);
    assert!(store.cached("whole", 69, "sha256:1").wait().unwrap().is_none());
    assert!(store.cached("whole", 68, "sha256:2").wait().unwrap().is_none());
    assert_eq!(store.figures().since_start.cache_hits, 1);
    clock.turn(23 * 3600 * S);
    assert!(cached("whole").is_some());
    store.close();
    let store = open_in(dir.path(), Limits::default(), &clock);
    assert!(store.may_have_cached(68) && !store.may_have_cached(69), "a new start knows what is kept");
    let cached = |sha256: &str| store.cached(sha256, 68, "sha256:1").wait().unwrap();
    assert!(cached("whole").is_some());
    clock.turn(2 * 3600 * S);
    assert!(cached("whole").is_none());
    // Retention removes it with one of its next steps.
    one(&store, submission("z", 9));
    assert!(!store.may_have_cached(68));
}

#[test]
fn a_cancelled_task_is_nobodys() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Hand::new());
    let store = open_in(dir.path(), Limits::default(), &clock);
    let id = queued(one(&store, submission("a", 1)));
    let lease = lease_one(&store, "w1", Take::Started);
    assert_eq!(store.cancel(&id).wait().unwrap(), Cancelled::Cancelled);
    assert_eq!(store.cancel(&id).wait().unwrap(), Cancelled::Ended(State::Cancelled));
    assert_eq!(store.cancel("none").wait().unwrap(), Cancelled::Unknown);
    assert_eq!(store.finish("w1", outcome(&lease, Verdict::Clean)).wait().unwrap(), Finished::NoLease);
    assert!(!store.started("w1", &id).wait().unwrap());
    let figures = store.figures();
    assert_eq!((figures.queued, figures.leased, figures.cancelled), (0, 0, 1));
}

#[test]
fn tasks_are_listed_page_by_page_in_each_state() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Hand::new());
    let store = open_in(dir.path(), Limits::default(), &clock);
    for n in 0..9 {
        done(&store, submission(&format!("done{n}"), n), |lease| outcome(lease, Verdict::Clean));
    }
    store.submit((0..5).map(|n| submission(&format!("wait{n}"), n)).collect()).wait().unwrap();
    store.lease("w1", ALL, 2, Take::Next).wait().unwrap();
    for (state, count) in [(None, 14), (Some(State::Done), 9), (Some(State::Queued), 3), (Some(State::Leased), 2), (Some(State::Dead), 0)] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.tasks(TaskFilter { state }, after.as_deref(), 2).wait().unwrap();
            assert!(page.iter().all(|standing| state.is_none_or(|state| standing.state == state)));
            let Some(last) = page.last() else { break };
            after = Some(last.task.task_id.clone());
            found.extend(page.into_iter().map(|standing| standing.task.task_id));
        }
        assert_eq!(found.len(), count, "{state:?}");
        assert!(found.is_sorted());
    }
    let next: Vec<_> = store.peek(2).wait().unwrap().into_iter().map(|task| task.path.lossy().into_owned()).collect();
    assert_eq!(next, ["wait2", "wait3"]);
}

#[test]
fn cleanup_is_told_what_has_an_outcome_and_nothing_else() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Hand::new());
    let store = open_in(dir.path(), Limits::default(), &clock);
    for n in 0..5 {
        done(&store, submission(&format!("f{n}"), n), |lease| if n == 2 { matched(lease, &["x"]) } else { outcome(lease, Verdict::Clean) });
        clock.turn(10 * S);
    }
    let cancelled = queued(one(&store, submission("cancelled", 8)));
    store.cancel(&cancelled).wait().unwrap();
    queued(one(&store, submission("waits", 9)));
    // Done, and then its name got new bytes.
    queued(one(&store, submission("f0", 77)));
    let before = clock.now() - 10 * S;
    let names = |known: &[Known]| known.iter().map(|known| known.path.lossy().into_owned()).collect::<Vec<_>>();
    let first = store.done_older_than(before, None, 2).wait().unwrap();
    assert_eq!(names(&first), ["f1", "f2"]);
    assert_eq!(first[1].verdict, Some(Verdict::Matched));
    let rest = store.done_older_than(before, first.last(), 9).wait().unwrap();
    assert_eq!(names(&rest), ["f3"]);
    assert!(store.forget_file("zeek", &RelPath(b"f1".to_vec())).wait().unwrap());
    assert!(!store.forget_file("zeek", &RelPath(b"f1".to_vec())).wait().unwrap());
    assert!(!store.forget_file("zeek", &RelPath(b"waits".to_vec())).wait().unwrap());
    assert_eq!(names(&store.done_older_than(before, None, 9).wait().unwrap()), ["f2", "f3"]);
}

#[test]
fn what_is_old_or_too_many_is_forgotten_and_its_file_is_not_scanned_again_for_that() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Hand::new());
    let few = Limits { results_max: 700, ..Limits::default() };
    let store = open_in(dir.path(), few, &clock);
    let submissions = |range: std::ops::Range<u64>| range.map(|n| submission(&format!("f{n}"), n)).collect::<Vec<_>>();
    let finish_all = || {
        for lease in store.lease("w1", ALL, 2000, Take::Started).wait().unwrap() {
            drop(store.finish("w1", matched(&lease, &["r"])));
        }
        store.audit(json!({"path": "/alerts"})).wait().unwrap();
    };
    store.submit(submissions(0..500)).wait().unwrap();
    finish_all();
    let wait_for = |what: &dyn Fn(&Figures) -> bool| {
        for _ in 0..400 {
            if what(&store.figures()) {
                return;
            }
            clock.turn(S); // the next step of retention
            store.lost("nobody").wait().unwrap();
        }
        panic!("{:?}", store.figures());
    };
    clock.turn(20 * 86_400 * S);
    store.submit(submissions(400..900)).wait().unwrap();
    finish_all();
    // 900 outcomes: the oldest go, so that 700 stay.
    clock.turn(3600 * S);
    wait_for(&|figures| figures.done == 700 && figures.alerts == 700);
    let page = store.alerts(AlertFilter::default(), Page { number: 1, size: 1 }).wait().unwrap();
    assert_eq!((page.total, page.alerts[0].id), (700, 900));
    let some =
        store.alerts(AlertFilter { rule_name: Some("R".into()), ..AlertFilter::default() }, Page { number: 700, size: 1 }).wait().unwrap();
    assert_eq!((some.total, some.alerts[0].id), (700, 201));
    // Seen 20 days later: its name stays longer than its outcome.
    clock.turn(15 * 86_400 * S);
    wait_for(&|figures| figures.done == 400 && figures.alerts == 400);
    assert!(matches!(one(&store, submission("f450", 450)), Submitted::Known { verdict: Some(Verdict::Matched), .. }));
    assert_eq!(store.audits(None, 10).wait().unwrap().len(), 2);
    clock.turn(80 * 86_400 * S);
    wait_for(&|figures| figures.done == 0 && figures.alerts == 0);
    assert_eq!(store.audits(None, 10).wait().unwrap().len(), 0);
    // Numbers are never given again.
    assert_eq!(store.audit(json!({})).wait().unwrap(), 3);
    let id = done(&store, submission("f450", 450), |lease| matched(lease, &["r"]));
    let alert = store.alerts(AlertFilter { task_id: Some(id), ..AlertFilter::default() }, Page { number: 1, size: 9 }).wait().unwrap();
    assert_eq!(alert.alerts[0].id, 901);
}

#[test]
fn zeeks_row_may_come_after_the_outcome() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Hand::new());
    let store = open_in(dir.path(), Limits::default(), &clock);
    let id = done(&store, submission("a", 1), |lease| matched(lease, &["r"]));
    let zeek = Zeek { fuid: "F1".into(), uid: "C1".into(), reasons: vec!["missing_bytes".into()], ..Zeek::default() };
    assert!(store.tell_zeek(&id, zeek.clone()).wait().unwrap());
    assert!(!store.tell_zeek("none", zeek).wait().unwrap());
    let found = store.alerts(
        AlertFilter { zeek_uid: Some("C1".into()), fuid: Some("F1".into()), ..AlertFilter::default() },
        Page { number: 1, size: 9 },
    );
    let found = found.wait().unwrap();
    assert_eq!((found.total, &found.alerts[0].alert["partial"]), (1, &json!(true)));
    let outcome = store.task(&id).wait().unwrap().unwrap().outcome.unwrap();
    assert_eq!((outcome.partial, outcome.reasons), (true, vec![Reason::MissingBytes]));
    assert!(store.known("zeek", &RelPath(b"a".to_vec())).wait().unwrap().unwrap().partial);
}

#[test]
fn rows_of_others_are_kept() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Hand::new());
    let store = open_in(dir.path(), Limits { monitor_alerts_max: 2, ..Limits::default() }, &clock);
    store.put_worker("w2", json!({"port": 1})).wait().unwrap();
    store.put_worker("w1", json!({"port": 2})).wait().unwrap();
    store.put_worker("w1", json!({"port": 3})).wait().unwrap();
    assert!(store.remove_worker("w2").wait().unwrap());
    assert!(!store.remove_worker("w2").wait().unwrap());
    // Alerts are fired, and resolved: each in the place of what it was, and told under a number of its own.
    let changes = [(0, false), (1, false), (2, false), (3, false), (1, true), (0, true), (3, true)];
    for ((n, resolved), number) in changes.into_iter().zip(100..) {
        let told = json!({"told": number});
        store.put_monitor_alert(&format!("alert_{n}"), json!({"resolved": resolved}), number, told).wait().unwrap();
    }
    store.put_monitor_rule("low", json!({"threshold": 1.5})).wait().unwrap();
    for n in 0..3 {
        assert_eq!(store.audit(json!({"n": n})).wait().unwrap(), n + 1);
    }
    store.close();
    drop(store);
    let store = open_in(dir.path(), Limits::default(), &clock);
    assert_eq!(store.workers().wait().unwrap(), [("w1".to_owned(), json!({"port": 3}))]);
    let alerts = store.monitor_alerts().wait().unwrap();
    // Of three resolved ones the oldest went; what is not resolved stays.
    assert_eq!(alerts.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["alert_1", "alert_2", "alert_3"]);
    assert_eq!(alerts[0].1, json!({"resolved": true}));
    let told: Vec<(u64, Value)> = (100..107).map(|number| (number, json!({"told": number}))).collect();
    assert_eq!(store.monitor_told().wait().unwrap(), told);
    assert_eq!(store.monitor_rules().wait().unwrap(), [("low".to_owned(), json!({"threshold": 1.5}))]);
    let entries = store.audits(Some(1), 1).wait().unwrap();
    assert_eq!((entries.len(), entries[0].seq, &entries[0].entry), (1, 2, &json!({"n": 1})));
}

#[test]
fn of_what_was_told_the_newest_stay_in_the_order_of_numbers() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Hand::new());
    let store = open_in(dir.path(), Limits::default(), &clock);
    // Numbers of more digits come after those of fewer.
    let last = 10_000 + limits::MONITOR_RECORDS as u64;
    let kept: Vec<Answer<()>> =
        (9_998..=last).map(|n| store.put_monitor_alert("alert_1", json!({"resolved": false}), n, json!(n))).collect();
    kept.into_iter().for_each(|kept| kept.wait().unwrap());
    let told = store.monitor_told().wait().unwrap();
    assert_eq!(told.iter().map(|(number, _)| *number).collect::<Vec<_>>(), (10_001..=last).collect::<Vec<_>>());
}

#[test]
fn whoever_waits_for_a_task_is_woken_and_does_not_spin_over_what_it_cannot_do() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Hand::new());
    let store = open_in(dir.path(), Limits::default(), &clock);
    let (able, unable) = (store.clone(), store.clone());
    let needs = Task { required_capabilities: vec![Capability::LogAnalysis], ..task("a", 5) };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut waits = std::pin::pin!(able.ready());
        assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(waits.as_mut().poll(cx).is_pending())).await);
        store.submit(vec![Submission { task: needs, identity: None }]).await.unwrap();
        waits.await;
    });
    // It cannot do this one; after it saw that it waits for the next.
    assert!(unable.wait_ready(Duration::ZERO));
    assert!(unable.lease("w1", &[Capability::FileScan], 5, Take::Next).wait().unwrap().is_empty());
    assert!(!unable.wait_ready(Duration::ZERO));
    assert!(able.wait_ready(Duration::ZERO));
    store.pause(true);
    assert!(!able.wait_ready(Duration::ZERO));
    assert!(able.lease("w2", ALL, 5, Take::Next).wait().unwrap().is_empty());
    store.pause(false);
    assert_eq!(able.lease("w2", ALL, 1, Take::Next).wait().unwrap().len(), 1);
    one(&store, submission("b", 2));
    assert!(unable.wait_ready(Duration::from_secs(20)));
    store.close();
    assert!(unable.wait_ready(Duration::ZERO), "a closed store keeps nobody waiting");
}

#[test]
fn a_lease_lasts_as_long_as_its_taker_needs() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Hand::new());
    let store = open_in(dir.path(), Limits::default(), &clock);
    let ids: Vec<_> = (0..5).map(|n| queued(one(&store, submission(&format!("f{n}"), n)))).collect();
    let takes = [
        (Take::ThisForBroker(ids[4].clone()), &ids[4], 600, 0),
        (Take::This(ids[3].clone()), &ids[3], 90, 0),
        (Take::Local, &ids[0], 600, 1),
        (Take::Started, &ids[1], 90, 1),
        (Take::Broker, &ids[2], 600, 0),
    ];
    for (take, id, s, attempt) in takes {
        let lease = lease_one(&store, "w1", take.clone());
        assert_eq!((&lease.task.task_id, lease.deadline, lease.task.attempt), (id, clock.now() + s * S, attempt), "{take:?}");
    }
    // Given already.
    for take in [Take::This(ids[3].clone()), Take::ThisForBroker(ids[3].clone()), Take::This("none".into())] {
        assert!(store.lease("w2", ALL, 1, take).wait().unwrap().is_empty());
    }
    assert_eq!(store.figures().in_flight, BTreeMap::from([("w1".to_owned(), 5)]));
    assert_eq!(store.lost("w1").wait().unwrap(), 5);
}
