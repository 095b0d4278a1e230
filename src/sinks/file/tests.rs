//! Against a real folder: rotation under load, a crash before every step, limits, strangers.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods, reason = "tests")]

use std::{cell::Cell, collections::BTreeMap, fs, io::Read, path::Path, time::SystemTime};

use super::{
    archive::{Form, Stamp, list, name},
    sweep::{Event, Step, sweep},
    *,
};
use crate::{
    metrics::Board,
    sinks::{self, Driven, Home, Settle, Settled, until},
};

const SECOND: Nanos = 1_000_000_000;

fn parse(text: &str) -> (Box<dyn Spec>, String) {
    sinks::parse("file", text)
}

/// What a reader finds, in order: archives, each once, then the file.
fn read_back(path: &Path) -> String {
    let mut archives: BTreeMap<Stamp, String> = BTreeMap::new();
    for (stamp, form) in list(path).unwrap() {
        let bytes = fs::read(name(path, stamp, form)).unwrap();
        let text = match form {
            Form::Plain => String::from_utf8(bytes).unwrap(),
            Form::Gzip => {
                let mut text = String::new();
                flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).expect("a .gz is whole");
                text
            }
            Form::Part => continue,
        };
        let before = archives.insert(stamp, text.clone());
        assert!(before.is_none_or(|before| before == text), "two forms of {stamp} differ");
    }
    let live = fs::read_to_string(path).unwrap_or_default();
    archives.into_values().chain([live]).collect()
}

fn forms(path: &Path) -> Vec<Form> {
    list(path).unwrap().into_iter().map(|(_, form)| form).collect()
}

fn policy(path: &Path, limits: Limits) -> Policy {
    Policy { path: path.to_owned(), compress: true, limits }
}

fn live(path: &Path, size: u64) -> Live {
    Live::new(path.to_owned(), true, Rotation { size: Some(size), every: None }, TimeZone::UTC)
}

fn quiet(event: Event) {
    if let Event::Failed { what, path, error } = event {
        panic!("cannot {what} {}: {error}", path.display());
    }
}

/// Writes lines, rotates, sweeps, until `before` ends it. Gives the lines that were acked.
fn work(path: &Path, from: u32, lines: u32, limits: Limits, before: &dyn Fn(Step) -> io::Result<()>) -> (u32, io::Result<()>) {
    let mut live = live(path, 4096);
    for n in from..from + lines {
        let now = u64::from(n) * SECOND;
        let text = format!("{{\"n\":{n},\"pad\":\"{}\"}}\n", "x".repeat(1000));
        if live.is_due(text.len(), now).unwrap() {
            let swept = live.rotate(now, before).and_then(|_| sweep(&policy(path, limits), now, before, &mut |_| ()));
            if let Err(error) = swept {
                return (n, Err(error));
            }
        }
        live.write(text.as_bytes(), now).unwrap();
    }
    (from + lines, Ok(()))
}

fn numbers(text: &str) -> Vec<u32> {
    text.lines().map(|line| line.strip_prefix("{\"n\":").unwrap().split(',').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_crash_before_any_step_loses_no_line_and_leaves_no_half_archive() {
    for keep in [None, Some(2)] {
        let limits = Limits { keep, keep_for: None };
        let mut crashes = 0;
        for at in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("out.json");
            let left = Cell::new(at);
            let crash = |_| match left.get() {
                0 => Err(io::ErrorKind::Interrupted.into()),
                n => {
                    left.set(n - 1);
                    Ok(())
                }
            };
            let (acked, ended) = work(&path, 0, 16, limits, &crash);
            let found = numbers(&read_back(&path));
            let first = found.first().copied().unwrap_or(0);
            assert_eq!(found, (first..acked).collect::<Vec<_>>(), "after a crash at step {at}");
            assert!(keep.is_some() || first == 0, "step {at}: no line is missing at the start");

            // It starts again, and the crash leaves no trace.
            let (acked, again) = work(&path, acked, 8, limits, &|_| Ok(()));
            again.unwrap();
            sweep(&policy(&path, limits), 0, &|_| Ok(()), &mut quiet).unwrap();
            let found = numbers(&read_back(&path));
            let first = found.first().copied().unwrap();
            assert_eq!(found, (first..acked).collect::<Vec<_>>(), "recovered from a crash at step {at}");
            assert!(forms(&path).iter().all(|form| *form == Form::Gzip), "step {at}: {:?}", forms(&path));
            assert!(keep.is_none_or(|keep| forms(&path).len() <= keep), "step {at}: {:?}", forms(&path));
            if ended.is_ok() {
                break;
            }
            crashes += 1;
        }
        assert!(crashes > 20, "only {crashes} points: the crash is not where it should be");
    }
}

#[test]
fn what_must_be_durable_is_so_before_the_plain_archive_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.json");
    let steps = std::cell::RefCell::new(Vec::new());
    let note = |step| {
        steps.borrow_mut().push(step);
        Ok(())
    };
    let mut live = live(&path, 4096);
    live.write(b"{}\n", SECOND).unwrap();
    live.rotate(2 * SECOND, &note).unwrap();
    sweep(&policy(&path, Limits::default()), 0, &note, &mut quiet).unwrap();
    use Step::*;
    assert_eq!(*steps.borrow(), [Rename, SyncFolder, Write, Write, Sync, Rename, SyncFolder, Remove]);
}

#[test]
fn a_full_disk_keeps_the_plain_archive_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.json");
    let plain = name(&path, Stamp::after(None, SECOND), Form::Plain);
    fs::write(&plain, "x".repeat(1 << 20)).unwrap();
    let writes = Cell::new(0);
    let full = |step| match step {
        Step::Write if writes.replace(writes.get() + 1) == 3 => Err(io::ErrorKind::StorageFull.into()),
        _ => Ok(()),
    };
    let mut events = Vec::new();
    sweep(&policy(&path, Limits::default()), 0, &full, &mut |event| events.push(event)).unwrap();
    let [Event::Failed { what: "compress", path: at, error }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((at, error.kind()), (&plain, io::ErrorKind::StorageFull));
    assert_eq!(forms(&path), [Form::Plain], "the part gives its room back");
    assert_eq!(fs::metadata(&plain).unwrap().len(), 1 << 20);
}

#[test]
fn an_archive_that_somebody_still_writes_to_stays_until_all_of_it_is_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.json");
    let plain = name(&path, Stamp::after(None, SECOND), Form::Plain);
    fs::write(&plain, "one\n").unwrap();
    let late = |step| match step {
        Step::Sync => io::Write::write_all(&mut fs::OpenOptions::new().append(true).open(&plain)?, b"two\n"),
        _ => Ok(()),
    };
    sweep(&policy(&path, Limits::default()), 0, &late, &mut quiet).unwrap();
    assert_eq!((forms(&path), read_back(&path).as_str()), (vec![Form::Plain], "one\ntwo\n"));
    sweep(&policy(&path, Limits::default()), 0, &|_| Ok(()), &mut quiet).unwrap();
    assert_eq!((forms(&path), read_back(&path).as_str()), (vec![Form::Gzip], "one\ntwo\n"));
}

#[test]
fn a_part_that_another_agent_writes_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.json");
    let stamp = Stamp::after(None, SECOND);
    let [plain, part] = [Form::Plain, Form::Part].map(|form| name(&path, stamp, form));
    fs::write(&plain, "one\n").unwrap();
    let other = fs::File::create(&part).unwrap();
    rustix::fs::flock(&other, rustix::fs::FlockOperation::LockExclusive).unwrap();
    sweep(&policy(&path, Limits::default()), 0, &|_| Ok(()), &mut quiet).unwrap();
    assert_eq!(forms(&path), [Form::Plain, Form::Part]);
    drop(other);
    sweep(&policy(&path, Limits::default()), 0, &|_| Ok(()), &mut quiet).unwrap();
    assert_eq!(forms(&path), [Form::Gzip]);
    // A part whose archive is gone is a crash's.
    fs::write(&part, "half").unwrap();
    sweep(&policy(&path, Limits::default()), 0, &|_| Ok(()), &mut quiet).unwrap();
    assert_eq!(forms(&path), [Form::Gzip]);
}

#[test]
fn limits_take_our_archives_only_and_a_half_gz_of_somebody_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.json");
    let strangers = ["out.json.1", "out.json.1.gz", "out.json-20200101", "out.json.20200101T000000Z", "other.json.20200101T000000.000Z"];
    for name in strangers {
        fs::write(dir.path().join(name), name).unwrap();
    }
    fs::create_dir(dir.path().join("out.json.20200101T000000.000Z")).unwrap();
    let stamp = |second: u64| Stamp::after(None, second * SECOND);
    for second in 1..=4 {
        fs::write(name(&path, stamp(second), Form::Plain), format!("{second}\n")).unwrap();
    }
    fs::write(name(&path, stamp(4), Form::Gzip), "half of a gz").unwrap();
    let limits = Limits { keep: Some(3), keep_for: Some(Duration::from_secs(10)) };
    let mut removed = Vec::new();
    sweep(&policy(&path, limits), 12 * SECOND + 1, &|_| Ok(()), &mut |event| match event {
        Event::Removed { path, by } => removed.push((path, by)),
        event => assert!(matches!(event, Event::Compressed { .. }), "{event:?}"),
    })
    .unwrap();
    assert_eq!(removed, [(name(&path, stamp(1), Form::Plain), "keep"), (name(&path, stamp(2), Form::Plain), "keep_for")]);
    assert_eq!((read_back(&path).as_str(), forms(&path)), ("3\n4\n", vec![Form::Gzip; 2]));
    for name in strangers {
        assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), name, "none of ours");
    }
    assert!(dir.path().join("out.json.20200101T000000.000Z").is_dir());
}

#[test]
fn two_that_rename_one_file_do_not_both_write_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.json");
    let mut first = live(&path, 4096);
    first.write(b"1\n", SECOND).unwrap();
    let mut second = live(&path, 4096);
    let error = second.write(b"2\n", SECOND).unwrap_err().to_string();
    assert!(error.contains("another sink or agent") && error.contains("; give each"), "{error}");
    drop(first);
    second.write(b"2\n", SECOND).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n2\n");
}

#[test]
fn a_link_is_written_to_and_never_renamed() {
    let dir = tempfile::tempdir().unwrap();
    let (path, real) = (dir.path().join("out.json"), dir.path().join("real.json"));
    std::os::unix::fs::symlink(&real, &path).unwrap();
    let mut live = live(&path, 4);
    live.write(b"one\n", SECOND).unwrap();
    assert!(live.is_due(4, SECOND).unwrap());
    live.rotate(SECOND, &|_| Ok(())).unwrap_err();
    live.write(b"two\n", SECOND).unwrap();
    assert_eq!(fs::read_to_string(&real).unwrap(), "one\ntwo\n");
}

/// Takes answers and counts them.
#[derive(Default)]
struct Counting(std::sync::Mutex<u64>);

impl Home for Counting {
    fn settle(&self, _: u8, settle: Settle) {
        let Settled::Delivered(numbers) = settle.messages else { panic!("{settle:?}") };
        *self.0.lock().unwrap() += numbers.len() as u64;
    }
}

type Bench = Driven<Counting>;

fn start(path: &Path, more: &str) -> Bench {
    let (spec, errors) = parse(&format!("path = {path:?}\n{more}"));
    assert_eq!(errors, "");
    Driven::start(spec)
}

impl Bench {
    fn until_acked(&self, count: u64) {
        until("all is acked", || *self.home.0.lock().unwrap() == count);
    }
    fn archives(&self, event: &str) -> u64 {
        self.count("archives", "event", event)
    }
}

#[test]
fn lines_go_on_through_rotations_and_all_are_there_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.json");
    let bench = start(&path, "fsync = false\nrotate_size = '16 KiB'");
    let line = |n: u32| format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(500));
    for n in 0..2000 {
        bench.push(line(n));
    }
    bench.until_acked(2000);
    until("all archives are compressed", || bench.archives("compressed") >= bench.archives("rotated"));
    let archives = forms(&path);
    assert_eq!(archives.len() as u64, bench.archives("rotated"));
    assert!(archives.len() > 50 && archives.iter().all(|form| *form == Form::Gzip), "{archives:?}");
    assert_eq!(bench.archives("failed"), 0);
    assert!(fs::metadata(&path).unwrap().len() <= 16 << 10);
    bench.finish();
    assert_eq!(read_back(&path), (0..2000).map(|n| line(n) + "\n").collect::<String>());
}

#[test]
fn a_file_of_yesterday_is_rotated_at_start_and_one_of_today_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.json");
    fs::write(&path, "old\n").unwrap();
    let day = Duration::from_secs(86_400);
    fs::File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now() - day).unwrap();
    for _ in 0..2 {
        let bench = start(&path, "rotate_every = 'day'\ncompress = 'none'");
        until("it is ready", || bench.state() == State::Ready);
        bench.push("new");
        bench.until_acked(1);
        bench.finish();
        assert_eq!(forms(&path), [Form::Plain]);
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "new\nnew\n");
    assert_eq!(read_back(&path), "old\nnew\nnew\n");
}

#[test]
fn leftovers_of_a_crash_are_finished_at_start_and_limits_hold_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.json");
    for second in 1..=3 {
        fs::write(name(&path, Stamp::after(None, second * SECOND), Form::Plain), format!("{second}\n")).unwrap();
    }
    fs::write(name(&path, Stamp::after(None, 3 * SECOND), Form::Part), "half").unwrap();
    let bench = start(&path, "rotate_size = '4 KiB'\nkeep = 2");
    until("the folder is in order", || forms(&path) == [Form::Gzip; 2]);
    assert_eq!((bench.archives("compressed"), bench.archives("removed")), (2, 1));
    bench.finish();
    assert_eq!(read_back(&path), "2\n3\n");
}

#[test]
fn where_no_rotation_is_possible_the_file_is_written_on() {
    let dir = tempfile::tempdir().unwrap();
    let (path, real) = (dir.path().join("out.json"), dir.path().join("real.json"));
    std::os::unix::fs::symlink(&real, &path).unwrap();
    let bench = start(&path, "rotate_size = '4 KiB'");
    for _ in 0..20 {
        bench.push("x".repeat(500));
    }
    bench.until_acked(20);
    assert_eq!((bench.archives("failed"), bench.state()), (1, State::Ready));
    bench.finish();
    assert_eq!(fs::read_to_string(&real).unwrap().lines().count(), 20);
}

#[test]
fn another_program_may_rename_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (path, away) = (dir.path().join("out.json"), dir.path().join("out.json.1"));
    for more in ["", "rotate_size = '1 MiB'"] {
        let bench = start(&path, more);
        bench.push("one");
        bench.until_acked(1);
        fs::rename(&path, &away).unwrap();
        bench.push("two");
        bench.until_acked(2);
        bench.finish();
        assert_eq!([&away, &path].map(|at| fs::read_to_string(at).unwrap()), ["one\n", "two\n"]);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_sweep_ends_with_its_sink_and_the_next_one_finishes_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.json");
    let plain = name(&path, Stamp::after(None, SECOND), Form::Plain);
    let text: String = (0..200_000).map(|n| format!("{n} {:x}\n", n * 0x9e37_79b9_u64)).collect();
    fs::write(&plain, &text).unwrap();
    let board = Board::default();
    let mut sweeper = Sweeper::new(policy(&path, Limits::default()), "f", board.enter("sinks.f"));
    sweeper.look(0);
    drop(sweeper);
    assert_eq!(read_back(&path), text);
    let mut sweeper = Sweeper::new(policy(&path, Limits::default()), "f", board.enter("sinks.f"));
    sweeper.look(0);
    sweeper.look(0);
    until("it is done", || !sweeper.is_busy());
    assert_eq!((forms(&path), read_back(&path) == text), (vec![Form::Gzip], true));
}

#[test]
fn each_mistake_is_told_with_its_remedy() {
    let rows = [
        ("rotate_size = 0", "rotate_size: is at least 4 KiB"),
        ("keep = 3", "keep: says nothing without rotate_size or rotate_every"),
        ("compress = 'none'", "compress: says nothing without"),
        ("rotate_size = '1 GiB'\nkeep_for = '0'", "keep_for: must be longer than nothing"),
        ("rotate_every = 'week'", "is not one of never, hour, day"),
    ];
    for (more, expected) in rows {
        let (_, errors) = parse(&format!("path = '/x'\n{more}"));
        assert!(errors.contains(expected), "{more}: {errors}");
    }
    let warned = |more: &str| parse(&format!("path = '/nowhere/x'\n{more}")).0.check_files("f", 0).len();
    assert_eq!([warned(""), warned("rotate_every = 'day'"), warned("rotate_every = 'day'\nkeep_for = '90d'")], [0, 1, 0]);
}
