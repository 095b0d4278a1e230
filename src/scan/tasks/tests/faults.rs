//! Files that are not what we wrote, and disks that do not take what we write.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use super::{super::*, Hand, alerts_of, done, lease_one, matched, one, open_in, queued, state, submission};
use crate::clock::Clock;

const DIR: &str = "SCAN_STORE_FULL_DIR";

/// A store with all kinds of rows, closed: (outcomes, queued).
fn filled(dir: &Path) -> (u64, u64) {
    let clock = Hand::new();
    let store = open_in(dir, Limits::default(), &clock);
    for n in 0..60 {
        done(&store, submission(&format!("done{n}"), n), |lease| Outcome { sha256: format!("s{n}"), ..matched(lease, &["one", "two"]) });
        store.audit(serde_json::json!({"n": n})).wait().unwrap();
    }
    for n in 0..20 {
        one(&store, submission(&format!("wait{n}"), n));
    }
    store.put_worker("w1", serde_json::json!({"port": 1})).wait().unwrap();
    store.close();
    (60, 20)
}

fn file(dir: &Path) -> PathBuf {
    dir.join("scan.redb")
}

fn refusal(dir: &Path) -> OpenError {
    match Tasks::open(dir, Limits::default(), alerts_of()) {
        Err(error) => error,
        Ok(store) => panic!("{store:?}"),
    }
}

/// One write by hand.
fn by_hand(dir: &Path, write: impl FnOnce(&redb::WriteTransaction)) {
    let database = redb::Database::open(file(dir)).unwrap();
    let txn = database.begin_write().unwrap();
    write(&txn);
    txn.commit().unwrap();
}

#[test]
fn a_byte_that_flipped_anywhere_is_refused_or_means_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let sums = filled(dir.path());
    let whole = fs::read(file(dir.path())).unwrap();
    let (mut refused, mut opened) = (0, 0);
    for n in 0..120usize {
        // Everywhere in the file, the header oftener.
        let at = if n % 10 == 0 { n / 10 * 11 % 320 } else { n.wrapping_mul(2_654_435_761) % whole.len() };
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (n % 8);
        let other = tempfile::tempdir().unwrap();
        fs::write(file(other.path()), &bytes).unwrap();
        // By the clock of the rows: by today's they would be too old to be kept.
        match Tasks::open_at(other.path(), Limits::default(), alerts_of(), Arc::new(Hand::new())) {
            Ok(store) => {
                opened += 1;
                let figures = store.figures();
                // The last commit, or the one before it if the newest root was hit.
                assert_eq!((figures.done, figures.queued), sums, "byte {at}");
            }
            Err(error) => {
                refused += 1;
                let text = error.to_string();
                assert!(matches!(error, OpenError::Corrupt { .. } | OpenError::TooNew { .. }), "byte {at}: {text}");
                assert!(text.contains("shipper scan repair") || text.contains("upgrade shipper"), "{text}");
            }
        }
    }
    assert!(refused > 10 && opened > 10, "{refused} refused, {opened} opened: the bytes are not spread");
}

#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    for bytes in [&b"not a database"[..], &[0; 4096], &[0xff; 100_000]] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(file(dir.path()), bytes).unwrap();
        let error = refusal(dir.path());
        assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
        assert_eq!(fs::read(file(dir.path())).unwrap(), bytes);
    }
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let whole = fs::read(file(dir.path())).unwrap();
    for part in [1, 2, 3] {
        fs::write(file(dir.path()), &whole[..whole.len() * part / 4]).unwrap();
        let error = refusal(dir.path());
        assert!(matches!(error, OpenError::Corrupt { .. }), "{part} of 4: {error:?}");
    }
}

#[test]
fn a_later_format_is_refused_also_by_repair() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    by_hand(dir.path(), |txn| {
        txn.open_table(redb::TableDefinition::<&str, u64>::new("meta")).unwrap().insert("format", 2).unwrap();
        // As it may well have become.
        txn.delete_table(redb::TableDefinition::<&str, &[u8]>::new("tasks")).unwrap();
        txn.open_table(redb::TableDefinition::<u64, u64>::new("tasks")).unwrap();
    });
    for error in [refusal(dir.path()), repair(dir.path(), How::Save, 0).unwrap_err()] {
        assert!(matches!(error, OpenError::TooNew { found: 2, known: 1, .. }), "{error:?}");
    }
}

#[test]
fn two_agents_do_not_share_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path(), Limits::default(), &Hand::new());
    assert!(matches!(refusal(dir.path()), OpenError::InUse { .. }));
    assert!(matches!(repair(dir.path(), How::Save, 0), Err(OpenError::InUse { .. })));
    store.close();
}

#[test]
fn the_store_is_ours_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    open_in(&state, Limits::default(), &Hand::new()).close();
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(file(&state)).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn repair_saves_what_can_be_read_and_keeps_the_rest_aside() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Hand::new());
    let (outcomes, waiting) = filled(dir.path());
    let before = {
        let store = open_in(dir.path(), Limits::default(), &clock);
        let all = store.tasks(TaskFilter::default(), None, 1000).wait().unwrap();
        store.close();
        all.into_iter().map(|standing| (standing.task.task_id, standing.state)).collect::<Vec<_>>()
    };
    let waits = &before.iter().find(|(_, state)| *state == State::Queued).unwrap().0;
    let ended = &before.iter().find(|(_, state)| *state == State::Done).unwrap().0;
    by_hand(dir.path(), |txn| {
        let rows = |name| txn.open_table(redb::TableDefinition::<&str, &[u8]>::new(name)).unwrap();
        rows("live").insert(waits.as_str(), &b"{\"seq\":"[..]).unwrap();
        rows("tasks").insert(ended.as_str(), &b"\xff"[..]).unwrap();
    });
    let error = refusal(dir.path());
    let OpenError::Corrupt { why, .. } = &error else { panic!("{error:?}") };
    assert!(why.starts_with(&format!("live/{waits}")), "{why}");
    let repaired = repair(dir.path(), How::Save, clock.now()).unwrap();
    assert_eq!(repaired.queued, waiting);
    let table = |name: &str| repaired.tables.iter().find(|(table, ..)| *table == name).map(|(_, kept, lost)| (*kept, *lost)).unwrap();
    assert_eq!((table("tasks"), table("live"), table("alerts")), ((79, 1), (19, 1), (120, 0)));
    assert!(repaired.aside.is_file());
    let store = open_in(dir.path(), Limits::default(), &clock);
    let figures = store.figures();
    assert_eq!((figures.done, figures.queued, figures.alerts), (outcomes - 1, waiting, 120));
    assert_eq!(state(&store, waits), State::Queued);
    // Found as before, and numbers go on.
    let found =
        store.alerts(AlertFilter { rule_name: Some("one".into()), ..AlertFilter::default() }, Page { number: 1, size: 1 }).wait().unwrap();
    assert_eq!(found.total, 60);
    assert_eq!(store.audit(serde_json::json!({})).wait().unwrap(), 61);
    assert!(matches!(one(&store, submission("done7", 7)), Submitted::Known { verdict: Some(Verdict::Matched), .. }));
    assert!(matches!(one(&store, submission("wait7", 7)), Submitted::UnderWay(_)));
    assert!(store.cached("s7", 68, "sha256:1").wait().unwrap().is_some());
    assert_eq!(store.workers().wait().unwrap().len(), 1);
    assert_eq!(store.done_older_than(u64::MAX, None, 1000).wait().unwrap().len(), 60);
}

#[test]
fn repair_of_a_file_without_sense_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(file(dir.path()), b"sense").unwrap();
    for how in [How::Save, How::Forget] {
        let repaired = repair(dir.path(), how, how as u64 * 1_000_000_000).unwrap();
        assert_eq!((repaired.queued, repaired.tables.len()), (0, 0));
        let store = open_in(dir.path(), Limits::default(), &Hand::new());
        queued(one(&store, submission("a", 1)));
        store.close();
    }
    assert_eq!(fs::read(dir.path().join("scan.redb.broken-0")).unwrap(), b"sense");
}

/// Fills its disk, waits for room, and compares. Does nothing unless it is told where.
#[test]
fn child_on_a_full_disk() {
    let Ok(dir) = std::env::var(DIR).map(PathBuf::from) else { return };
    let clock = Hand::new();
    let store = open_in(&dir, Limits { size_max: 1_000_000, ..Limits::default() }, &clock);
    let mut accepted = vec![queued(one(&store, submission("first", 1)))];
    let lease = lease_one(&store, "w1", Take::Started);
    let mut answers = Vec::new();
    for n in 0..3000 {
        let mut submission = submission(&format!("f{n}"), n);
        submission.task.metadata.insert("note".into(), "x".repeat(3000).into());
        answers.push(store.submit(vec![submission]));
        if store.figures().trouble.is_some() {
            break;
        }
    }
    for _ in 0..3000 {
        if store.figures().trouble.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let figures = store.figures();
    assert!(figures.trouble.is_some(), "the disk took it all: {figures:?}");
    // What was asked last waits; nobody is told that it is stored.
    let finished = store.finish("w1", matched(&lease, &["one"]));
    let told = std::pin::pin!(finished);
    // Room again.
    let pid = std::process::id().to_string();
    assert!(Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status().unwrap().success());
    for answer in answers {
        accepted.push(queued(answer.wait().unwrap().remove(0)));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(told).unwrap(), Finished::Applied { alerts: vec![1] });
    let count = accepted.len() as u64;
    let check = |store: &Tasks| {
        let figures = store.figures();
        assert_eq!((figures.done, figures.queued, figures.alerts, figures.trouble), (1, count - 1, 1, None));
        for id in &accepted {
            assert!(store.task(id).wait().unwrap().is_some(), "{id}");
        }
    };
    check(&store);
    assert_eq!(store.figures().since_start.submitted, count, "an operation that ran twice counts once");
    store.close();
    drop(store);
    check(&open_in(&dir, Limits::default(), &clock));
    println!("{count} accepted");
}

#[test]
fn a_full_disk_makes_everything_wait_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (_, name) = module_path!().split_once("::").unwrap();
    // A file may have 2 MiB (blocks of 1024 bytes); the signal of that limit is ignored, so that write(2) fails.
    let script = "trap '' XFSZ; ulimit -S -f 2048; exec \"$0\" \"$@\"";
    let output = Command::new("bash")
        .args(["-c", script, std::env::current_exe().unwrap().to_str().unwrap()])
        .args(["--exact", &format!("{name}::child_on_a_full_disk"), "--nocapture", "--test-threads=1"])
        .env(DIR, dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains(" accepted"), "{text}");
}

#[test]
fn a_commit_that_failed_and_yet_happened_takes_nothing_in_twice() {
    let (dir, clock, limits) = (tempfile::tempdir().unwrap(), Hand::new(), Limits::default());
    let database = open::open(dir.path()).unwrap();
    let unnamed = Submission { identity: None, ..submission("upload", 1) };
    let mut submissions = [unnamed, submission("a", 2)];
    let mut answers = Vec::new();
    for _ in 0..2 {
        // As after a failure: memory is what the rows say, and the same operation runs again.
        let mut memory = open::load(&database, dir.path(), &limits).unwrap();
        let mut ids = ids::Ids::new(b"seed");
        let txn = open::begin(&database).unwrap();
        let tables = rows::Tables::new(&txn).unwrap();
        let (memory, ids) = (&mut memory, &mut ids);
        let mut store = store::Store { memory, tables, ids, limits: &limits, alerts_of: &alerts_of(), now: clock.now() };
        answers.push(store.submit(&mut submissions, false).unwrap());
        drop(store);
        txn.commit().unwrap();
    }
    let expected = answers[0].iter().map(|submitted| Submitted::UnderWay(queued(submitted.clone())));
    assert_eq!(answers[1], expected.collect::<Vec<_>>());
    assert_eq!(open::load(&database, dir.path(), &limits).unwrap().core.queued(), 2);
}
