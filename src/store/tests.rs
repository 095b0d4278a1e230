//! Stops and failures at every call of the disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

use super::{
    twin::{At, LEFT, Left, TwinDisk},
    *,
};
use crate::{
    checkpoint::{Checkpoint, Snapshot},
    clock::SystemClock,
    dead_letter::{self, Entry, Found, Header, Kind},
    io::{Disk, disk::RealDisk},
    metrics::{Board, State},
};

const DIR: &str = "/state";

fn small() -> Options {
    Options { dead_letter_bytes_max: 1 << 20, segment_bytes: 700, ..Options::default() }
}

fn entry(tag: u64) -> Entry {
    let header = Header {
        kind: Kind::Record,
        origin: format!("m/alerts/2026-03-14/000/{tag}+9"),
        branch: "dfn".into(),
        output: None,
        sink: None,
        key: None,
        reason: "not_json".into(),
        detail: String::new(),
        time: "2026-03-14T06:25:12Z".into(),
    };
    Entry { header, bytes: tag.to_string().into_bytes() }
}

fn letter(tag: u64) -> Job {
    Job::DeadLetter { entry: entry(tag), tag }
}

/// A save whose content names its tag.
fn save(tag: u64) -> Job {
    Job::Save { checkpoint: Checkpoint { instance: "m".into(), saved_at: tag.to_string(), ..Checkpoint::default() }, tag }
}

const NAME: &str = "once.alerts";

/// A snapshot whose content names its tag.
fn snapshot(tag: u64) -> Job {
    let body = tag.to_string().into_bytes().into();
    Job::Snapshot { name: NAME.into(), snapshot: Snapshot { kind: "dedup".into(), places: Vec::new(), body }, tag }
}

/// The tag of the snapshot that a start finds.
fn found_snapshot(writer: &mut Writer) -> Option<u64> {
    let found = writer.take_snapshots();
    assert!(found.keys().all(|name| name == NAME), "{found:?}");
    found.get(NAME).map(|snapshot| std::str::from_utf8(&snapshot.body).unwrap().parse().unwrap())
}

#[test]
fn an_agent_may_get_another_name_at_any_save() {
    let disk = TwinDisk::default();
    let open = || Writer::open(Box::new(disk.clone()), Path::new(DIR), small()).unwrap();
    let named = |name: &str, tag| Job::Save { checkpoint: Checkpoint { instance: name.into(), ..Checkpoint::default() }, tag };
    for (before, name) in (0..).zip(["m", "m", "n", "m", "m", "o", "o", "o", "p"]) {
        // Killed after each save: the next start believes what the last one left.
        let (mut writer, saved) = open();
        assert_eq!(saved.map_or(0, |c| c.generation), before);
        assert_eq!(writer.commit(vec![named(name, 1)]), [Done::Saved { tag: 1, generation: before + 1 }], "{name}");
    }
}

fn script() -> Vec<Vec<Job>> {
    vec![
        vec![letter(1), save(2)],
        vec![save(3), snapshot(14)],
        vec![letter(4), letter(5), letter(6)],
        vec![letter(7), snapshot(15), letter(8), letter(9), save(10), snapshot(16), save(11)],
        vec![letter(12), save(13)],
        vec![snapshot(17)],
    ]
}

/// How often the dead letter on `disk` holds each tag.
fn kept(disk: &TwinDisk) -> BTreeMap<u64, usize> {
    let mut kept = BTreeMap::new();
    for path in disk.names().iter().filter(|path| dead_letter::segment_number(path).is_some()) {
        for found in dead_letter::entries(&disk.read(path).unwrap()) {
            match found {
                Found::Entry { bytes, .. } => *kept.entry(std::str::from_utf8(bytes).unwrap().parse().unwrap()).or_insert(0) += 1,
                Found::Torn { .. } => {}
                Found::Damaged { .. } => panic!("{} is damaged", path.display()),
            }
        }
    }
    kept
}

/// What a run was promised, and what it asked for.
#[derive(Debug, Default)]
struct Run {
    asked_saves: BTreeSet<u64>,
    saved: Option<u64>,
    kept: BTreeSet<u64>,
    remembered: Option<u64>,
}

impl Run {
    fn note(&mut self, done: Vec<Done>) {
        for done in done {
            match done {
                Done::Saved { tag, .. } => assert!(self.saved.replace(tag).is_none_or(|before| before < tag), "answered twice: {tag}"),
                Done::Remembered { tag } => {
                    assert!(self.remembered.replace(tag).is_none_or(|before| before < tag), "answered twice: {tag}");
                }
                Done::Kept { tag } => assert!(self.kept.insert(tag), "answered twice: {tag}"),
            }
        }
    }

    /// Runs the script until it ends or the disk stops.
    fn drive(disk: &TwinDisk) -> Self {
        let mut run = Self::default();
        // An operator starts it again where the folder cannot be opened.
        let mut tries = (0..3).filter_map(|_| Writer::open(Box::new(disk.clone()), Path::new(DIR), small()).ok());
        let Some((mut writer, _)) = tries.next() else {
            assert!(disk.is_stopped(), "two failed calls refuse no third start");
            return run;
        };
        for jobs in script() {
            run.asked_saves.extend(jobs.iter().filter_map(|job| if let Job::Save { tag, .. } = job { Some(*tag) } else { None }));
            run.note(writer.commit(jobs));
        }
        for _ in 0..4 {
            run.note(writer.commit(Vec::new()));
        }
        if !disk.is_stopped() {
            assert_eq!((writer.waiting(), writer.trouble()), (0, None), "what failed is tried again until it is done");
        }
        run
    }

    /// Everything that was promised is on the disk, nothing was refused, and it goes on from there.
    fn check(&self, disk: &TwinDisk, case: &str) {
        let (mut writer, checkpoint) =
            Writer::open(Box::new(disk.clone()), Path::new(DIR), small()).unwrap_or_else(|e| panic!("{case}: {e}"));
        let found = checkpoint.map(|checkpoint| checkpoint.saved_at.parse::<u64>().unwrap());
        assert!(found >= self.saved, "{case}: promised {:?}, found {found:?}", self.saved);
        assert!(found.is_none_or(|tag| self.asked_saves.contains(&tag)), "{case}: found {found:?}");
        let found = found_snapshot(&mut writer);
        assert!(found >= self.remembered, "{case}: promised snapshot {:?}, found {found:?}", self.remembered);
        assert!(found.is_none_or(|tag| [14, 16, 17].contains(&tag)), "{case}: found snapshot {found:?}");
        let letters = kept(disk);
        for tag in &self.kept {
            assert!(letters.contains_key(tag), "{case}: letter {tag} is gone");
        }
        let done = writer.commit(vec![letter(99), save(100), snapshot(101)]);
        assert_eq!(done.len(), 3, "{case}: {:?}", writer.trouble());
        drop(writer);
        let disk = disk.reboot(Left::Nothing, Left::Nothing);
        let (mut writer, checkpoint) =
            Writer::open(Box::new(disk.clone()), Path::new(DIR), small()).unwrap_or_else(|e| panic!("{case}, then: {e}"));
        assert_eq!(checkpoint.unwrap().saved_at, "100", "{case}");
        assert_eq!(found_snapshot(&mut writer), Some(101), "{case}");
        let letters = kept(&disk);
        assert!(self.kept.iter().chain(&[99]).all(|tag| letters.contains_key(tag)), "{case}: {letters:?}");
    }
}

fn calls_of_a_clean_run() -> usize {
    let disk = TwinDisk::default();
    let run = Run::drive(&disk);
    assert_eq!((run.saved, run.kept.len(), run.remembered), (Some(13), 8, Some(17)));
    disk.calls()
}

#[test]
fn a_stop_at_any_call_loses_nothing_that_was_answered() {
    let calls = calls_of_a_clean_run();
    assert!(calls > 30, "{calls}");
    for n in 1..=calls {
        for applied in 0..3 {
            let disk = TwinDisk::default().with(&[(n, At::Stop(applied))]);
            let run = Run::drive(&disk);
            assert!(disk.is_stopped());
            for contents in LEFT {
                for names in LEFT {
                    let case = format!("stop at call {n}, {applied}/2 done, contents {contents:?}, names {names:?}");
                    run.check(&disk.reboot(contents, names), &case);
                }
            }
        }
    }
}

#[test]
fn a_call_that_fails_is_tried_again_and_a_stop_thereafter_loses_nothing() {
    let calls = calls_of_a_clean_run();
    for n in 1..=calls {
        for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
            let disk = TwinDisk::default().with(&[(n, At::Fail(kind))]);
            let run = Run::drive(&disk);
            assert_eq!((run.saved, run.kept.len()), (Some(13), 8), "{kind} at call {n}");
            for contents in LEFT {
                run.check(&disk.reboot(contents, Left::Nothing), &format!("{kind} at call {n}, contents {contents:?}"));
            }
            for m in n + 1..=disk.calls() {
                let disk = TwinDisk::default().with(&[(n, At::Fail(kind)), (m, At::Stop(1))]);
                let run = Run::drive(&disk);
                for contents in LEFT {
                    for names in [Left::Nothing, Left::All] {
                        let case = format!("{kind} at call {n}, stop at {m}, contents {contents:?}, names {names:?}");
                        run.check(&disk.reboot(contents, names), &case);
                    }
                }
            }
        }
    }
}

#[test]
fn a_full_disk_is_told_waited_for_and_leaves_no_heap_of_segments() {
    let disk = TwinDisk::default();
    let (mut writer, _) = Writer::open(Box::new(disk.clone()), Path::new(DIR), small()).unwrap();
    assert_eq!(writer.commit(vec![letter(1), save(2)]).len(), 2);
    let plan: Vec<_> = (1..400).map(|n| (n, At::Fail(ErrorKind::StorageFull))).collect();
    let disk = disk.with(&plan);
    assert_eq!(writer.commit(vec![letter(3), save(4)]), []);
    for _ in 0..50 {
        assert_eq!(writer.commit(Vec::new()), []);
    }
    assert_eq!(
        writer.trouble().unwrap(),
        "cannot clean up dead letter /state/dead-letter/00000000.dlq: the disk says no; free disk space or fix its permissions; \
         and cannot save checkpoint /state/checkpoint.b: the disk says no; free disk space or fix its permissions"
    );
    let segments = disk.names().iter().filter(|path| dead_letter::segment_number(path).is_some()).count();
    assert!(segments <= 1, "{segments} segments");
    let disk = disk.with(&[]);
    let done = writer.commit(Vec::new());
    assert_eq!(done, [Done::Kept { tag: 3 }, Done::Saved { tag: 4, generation: 2 }]);
    assert_eq!(writer.trouble(), None);
    assert!(kept(&disk).keys().eq(&[1, 3]));
}

#[test]
fn letters_of_one_commit_share_an_fsync() {
    let disk = TwinDisk::default();
    let options = Options { segment_bytes: 1 << 20, dead_letter_bytes_max: 1 << 30, ..small() };
    let (mut writer, _) = Writer::open(Box::new(disk.clone()), Path::new(DIR), options).unwrap();
    writer.commit(vec![letter(1)]);
    let disk = disk.with(&[]);
    assert_eq!(writer.commit((2..500).map(letter).collect()).len(), 498);
    assert_eq!(disk.calls(), 2, "one append, one fsync");
}

#[test]
fn a_full_dead_letter_stops_until_there_is_room() {
    let disk = TwinDisk::default();
    let options = Options { dead_letter_bytes_max: 1000, ..small() };
    let (mut writer, _) = Writer::open(Box::new(disk.clone()), Path::new(DIR), options).unwrap();
    let done = writer.commit((1..=20).map(letter).chain([save(21)]).collect());
    assert!(done.len() > 2 && done.len() < 20, "{done:?}");
    assert!(done.contains(&Done::Saved { tag: 21, generation: 1 }), "the checkpoint is saved all the same");
    assert!(writer.trouble().unwrap().contains("/state/dead-letter is full (1000 bytes); look at it"), "{:?}", writer.trouble());
    assert!(writer.dead_letter_bytes() <= 1000);
    let waiting = writer.waiting();
    assert_eq!(writer.commit(Vec::new()), []);
    for path in disk.names().iter().filter(|path| dead_letter::segment_number(path).is_some()) {
        disk.remove(path).unwrap();
    }
    assert!(!writer.commit(Vec::new()).is_empty(), "an operator made room");
    assert!(writer.waiting() < waiting);
}

#[test]
fn the_oldest_gives_way_if_so_chosen_and_is_counted() {
    let disk = TwinDisk::default();
    let options = Options { dead_letter_bytes_max: 2000, on_full: OnFull::DropOldest, ..small() };
    let (mut writer, _) = Writer::open(Box::new(disk.clone()), Path::new(DIR), options).unwrap();
    for tag in 1..=40 {
        assert_eq!(writer.commit(vec![letter(tag)]), [Done::Kept { tag }]);
        assert!(writer.dead_letter_bytes() <= 2000);
    }
    let letters = kept(&disk);
    let dropped = writer.take_dropped();
    assert_eq!(letters.len() as u64 + dropped.entries, 40);
    assert!(letters.keys().copied().eq(1 + dropped.entries..=40), "the newest stay: {letters:?}");
    assert_eq!(writer.take_dropped(), Dropped::default());
    let mut long = entry(41);
    long.bytes = vec![b'x'; 3000];
    assert_eq!(writer.commit(vec![Job::DeadLetter { entry: long, tag: 41 }]), []);
    assert_eq!(kept(&disk), letters, "nothing is dropped for what can never fit");
}

#[test]
fn what_is_too_old_goes_and_is_counted() {
    const HOUR: u64 = 3_600_000_000_000;
    let disk = TwinDisk::default();
    let open = || {
        let options = Options { dead_letter_age_max: Some(16 * HOUR), ..small() };
        Writer::open(Box::new(disk.clone()), Path::new(DIR), options).unwrap().0
    };
    let began = "2026-03-14T00:00:00Z".parse::<jiff::Timestamp>().unwrap();
    let at = |hour: u64| u64::try_from(began.as_nanosecond()).unwrap() + hour * HOUR;
    let (mut writer, mut expired) = (open(), 0);
    // One an hour, few enough that all would fit into one segment; an agent that is started anew each day.
    for hour in 1..=48 {
        if hour % 24 == 0 {
            writer = open();
        }
        let mut entry = entry(hour);
        entry.header.time = (began + jiff::SignedDuration::from_hours(hour as i64)).to_string();
        writer.commit(vec![Job::DeadLetter { entry, tag: hour }]);
        writer.age(at(hour));
        expired += writer.take_expired().entries;
        let oldest = kept(&disk).keys().next().copied().unwrap();
        assert!(hour - oldest <= 17, "at {hour} {oldest} is still there");
        assert!(oldest == 1 || hour - oldest >= 14, "at {hour} the oldest is {oldest}");
    }
    let left = kept(&disk).len() as u64;
    assert_eq!(expired + left, 48);
    assert_eq!(writer.take_dropped(), Dropped::default());
    writer.age(at(48 + 40));
    assert_eq!(kept(&disk).len(), 0);
    assert_eq!(writer.take_expired().entries, left);
}

#[test]
fn a_damaged_segment_is_left_alone_and_a_damaged_checkpoint_refused() {
    let disk = TwinDisk::default();
    let open = |disk: &TwinDisk| Writer::open(Box::new(disk.clone()), Path::new(DIR), Options::default());
    let (mut writer, _) = open(&disk).unwrap();
    writer.commit(vec![letter(1), letter(2), save(3)]);
    let segment = PathBuf::from("/state/dead-letter/00000000.dlq");
    disk.damage(&segment, 30);
    let before = disk.read(&segment).unwrap();
    let (mut writer, checkpoint) = open(&disk).unwrap();
    assert_eq!(checkpoint.unwrap().generation, 1);
    writer.commit(vec![letter(4)]);
    assert_eq!(disk.read(&segment).unwrap(), before);
    assert!(disk.names().contains(&"/state/dead-letter/00000001.dlq".into()));
    disk.damage(Path::new("/state/checkpoint.a"), 80);
    assert!(matches!(open(&disk), Err(StoreError::Checkpoint(_))));
}

#[test]
fn the_thread_answers_what_is_durable_and_ends_when_told() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("state");
    let board = Board::default();
    let (writer, first) = Writer::open(Box::new(RealDisk::new()), &dir, Options::default()).unwrap();
    assert_eq!(first, None);
    let standing = board.enter("store");
    let store = start(writer, SystemClock::new(), standing.clone()).unwrap();
    let (sender, answers) = mpsc::channel();
    let reply = || -> Reply {
        let sender = sender.clone();
        Box::new(move |done| sender.send(done).unwrap())
    };
    for tag in 1..=3 {
        store.ask(Asked::dead_letter(entry(tag), reply())).unwrap();
    }
    store.ask(Asked::save(Checkpoint::default(), reply())).unwrap();
    let answer = || answers.recv_timeout(Duration::from_secs(60)).unwrap();
    let done: Vec<_> = (0..4).map(|_| answer()).collect();
    assert_eq!(done.iter().filter(|done| matches!(done, Done::Kept { .. })).count(), 3);
    assert!(done.iter().any(|done| matches!(done, Done::Saved { generation: 1, .. })));
    assert_eq!(standing.get(), State::Ready);
    store.ask(Asked::save(Checkpoint::default(), reply())).unwrap();
    store.close();
    assert!(matches!(answers.try_recv(), Ok(Done::Saved { generation: 2, .. })), "a close waits for what was asked before");
    let (_, second) = Writer::open(Box::new(RealDisk::new()), &dir, Options::default()).unwrap();
    assert_eq!(second.unwrap().generation, 2);
}
