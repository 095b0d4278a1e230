//! Real processes: killed, stopped, late, bombed, given new rules.

#![allow(clippy::disallowed_methods, reason = "tests read files and start processes")]

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
    sync::atomic::AtomicU32,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::*;
use crate::scan::{
    corpus,
    outcome::{Reason, Verdict},
};

/// What a child of these tests runs: this binary, of which it wants one test.
fn program() -> Program {
    let path = std::env::current_exe().unwrap();
    let (_, module) = module_path!().split_once("::").unwrap();
    Program { path, args: vec![format!("{module}::the_child_of_other_tests"), "--exact".into(), "--nocapture".into()], socket: None }
}

#[test]
fn the_child_of_other_tests() {
    use std::os::fd::AsFd;
    let stdin = std::io::stdin();
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&stdin).unwrap().st_mode);
    if kind == rustix::fs::FileType::Socket {
        let code = child::serve(stdin.as_fd().try_clone_to_owned().unwrap());
        std::process::exit(if code == std::process::ExitCode::SUCCESS { 0 } else { 1 });
    }
}

fn nobody() -> Arc<NothingKept> {
    Arc::new(NothingKept)
}

fn settings(rules: &Path, children: usize) -> Settings {
    let mut settings = Settings::default();
    settings.rules.paths = vec![rules.to_owned()];
    settings.children = children;
    settings.timeout_s = 30;
    settings
}

/// A folder with one rule file.
fn rules(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("t.yar"), text).unwrap();
    dir
}

fn job(name: &str) -> Job {
    serde_json::from_value(json!({"task_id": format!("t-{name}"), "root": "r", "file_path": name, "attempt": 1, "worker_id": "w"})).unwrap()
}

fn bytes(content: &[u8]) -> OwnedFd {
    use std::io::Write;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file.into()
}

fn names(outcome: &Outcome) -> Vec<&str> {
    outcome.matches.iter().map(|found| found.rule.as_str()).collect()
}

/// The one child, when it is at its file.
fn busy_pid(children: &Children) -> Pid {
    until(|| (children.children().1 == 1).then_some(()));
    Pid::from_raw(i32::try_from(children.pids()[0]).unwrap()).unwrap()
}

fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "waited for a minute");
        std::thread::sleep(Duration::from_millis(2));
    }
}

const SLOW: &str = "rule slow { condition: uint32(0) == 0x574F4C53 and for any i in (0 .. filesize - 1) : ( for any j in (0 .. filesize - 1) : ( \
                    uint8(j) == 0x42 ) ) } rule eicar { strings: $a = \"EICAR\" condition: $a }";

fn slow_file() -> Vec<u8> {
    [b"SLOW".to_vec(), vec![b'C'; 2 << 20]].concat()
}

#[test]
fn many_files_over_a_few_children() {
    let dir = rules("rule eicar { strings: $a = \"EICAR\" condition: $a } rule root_owns { condition: owner != \"\" }");
    let children = Children::start(program(), &settings(dir.path(), 2), None, nobody()).unwrap();
    let answers: Vec<_> =
        (0..60).map(|n| children.scan(job(&n.to_string()), bytes(if n % 3 == 0 { b"..EICAR.." } else { b"plain" }))).collect();
    for (n, answer) in answers.into_iter().enumerate() {
        let outcome = answer.wait().unwrap();
        assert_eq!((outcome.task_id.as_str(), outcome.worker_id.as_str()), (format!("t-{n}").as_str(), "w"));
        assert_eq!(names(&outcome), if n % 3 == 0 { vec!["eicar", "root_owns"] } else { vec!["root_owns"] }, "{n}");
        assert_eq!(outcome.rules_version, children.rules().version);
    }
    assert_eq!((children.children(), children.deaths()), ((2, 0), 0));
    children.set_children(0);
    let waits = children.scan(job("late"), bytes(b"EICAR"));
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(children.shared.work().jobs.len(), 1, "none is there to take it");
    children.set_children(1);
    assert!(waits.wait().is_ok());
    children.end();
    assert_eq!(children.scan(job("x"), bytes(b"")).wait().unwrap_err().why, Why::Closed);
}

#[test]
fn without_a_rule_files_wait_for_one() {
    let dir = rules("rule broken { condition: }");
    assert!(matches!(Children::start(program(), &settings(dir.path(), 1), None, nobody()), Err(ReloadError::Refused { .. })));
    let (children, refused) = Children::start_or_wait(program(), &settings(dir.path(), 1), None, nobody()).unwrap();
    assert!(matches!(refused, Some(ReloadError::Refused { .. })));
    assert!(children.rules().rules.is_empty());
    let answer = children.scan(job("early"), bytes(b"EICAR"));
    assert!(children.reload(false).is_err());
    fs::write(dir.path().join("t.yar"), "rule eicar { strings: $a = \"EICAR\" condition: $a }").unwrap();
    assert!(children.has_changed());
    children.reload(false).unwrap();
    assert_eq!(names(&answer.wait().unwrap()), ["eicar"]);
}

#[test]
fn a_killed_child_is_replaced_and_its_file_given_back() {
    let dir = rules(SLOW);
    let children = Children::start(program(), &settings(dir.path(), 1), None, nobody()).unwrap();
    let answer = children.scan(job("slow"), bytes(&slow_file()));
    let next = children.scan(job("next"), bytes(b"EICAR"));
    let pid = busy_pid(&children);
    kill_process(pid, Signal::KILL).unwrap();
    let lost = answer.wait().unwrap_err();
    assert_eq!(lost.why, Why::Child);
    assert!(lost.text.contains("signal: 9"), "{}", lost.text);
    assert_eq!(names(&next.wait().unwrap()), ["eicar"], "the next child takes the next file");
    assert_eq!(children.deaths(), 1);
    assert!(!Path::new(&format!("/proc/{}", pid.as_raw_pid())).exists(), "it was waited for");
}

#[test]
fn files_around_the_one_that_killed_a_child_are_answered() {
    let dir = rules(SLOW);
    let children = Children::start(program(), &settings(dir.path(), 0), None, nobody()).unwrap();
    let quick = |name: &str| children.scan(job(name), bytes(b"EICAR"));
    let before: Vec<_> = ["a", "b", "c"].map(quick).into();
    let slow = children.scan(job("slow"), bytes(&slow_file()));
    let behind: Vec<_> = ["d", "e", "f"].map(quick).into();
    // One child has them all.
    children.set_children(1);
    for answer in before {
        assert_eq!(names(&answer.wait().unwrap()), ["eicar"]);
    }
    kill_process(busy_pid(&children), Signal::KILL).unwrap();
    assert_eq!(slow.wait().unwrap_err().why, Why::Child);
    for answer in behind {
        assert_eq!(names(&answer.wait().unwrap()), ["eicar"], "it was not begun, so nobody hears of it");
    }
    assert_eq!(children.deaths(), 1);
}

#[test]
fn files_behind_a_slow_one_go_to_other_children() {
    let dir = rules(SLOW);
    let children = Children::start(program(), &settings(dir.path(), 0), None, nobody()).unwrap();
    let slow = children.scan(job("slow"), bytes(&slow_file()));
    let behind: Vec<_> = (0..6).map(|n| children.scan(job(&n.to_string()), bytes(b"EICAR"))).collect();
    children.set_children(1);
    busy_pid(&children);
    until(|| (children.shared.work().jobs.len() == 6).then_some(()));
    children.set_children(2);
    for answer in behind {
        assert_eq!(names(&answer.wait().unwrap()), ["eicar"]);
    }
    assert_eq!(children.children(), (2, 1), "the slow one is still at its file");
    children.end();
    assert_eq!(slow.wait().unwrap_err().why, Why::Closed);
}

#[test]
fn each_file_has_its_own_time_from_when_it_is_begun() {
    let dir = rules(SLOW);
    let mut settings = settings(dir.path(), 1);
    settings.timeout_s = 3;
    let children = Children::start(program(), &settings, None, nobody()).unwrap();
    let answers: Vec<_> = (0..4).map(|n| children.scan(job(&n.to_string()), bytes(&slow_file()))).collect();
    for answer in answers {
        assert_eq!(answer.wait().unwrap().reasons, [Reason::Timeout], "the rules stopped, nobody killed a child");
    }
    assert_eq!(children.deaths(), 0, "four took longer than one may");
}

#[test]
fn ending_does_not_wait_for_a_slow_file() {
    let dir = rules(SLOW);
    let children = Children::start(program(), &settings(dir.path(), 1), None, nobody()).unwrap();
    let answers = [children.scan(job("slow"), bytes(&slow_file())), children.scan(job("waits"), bytes(b"x"))];
    until(|| (children.children().1 == 1).then_some(()));
    let began = Instant::now();
    drop(children);
    assert!(began.elapsed() < Duration::from_secs(5));
    for answer in answers {
        assert_eq!(answer.wait().unwrap_err().why, Why::Closed);
    }
}

#[test]
fn a_slow_rule_costs_its_own_file_the_timeout_and_its_neighbours_nothing() {
    let dir = rules(SLOW);
    let mut settings = settings(dir.path(), 2);
    settings.timeout_s = 2;
    let children = Children::start(program(), &settings, None, nobody()).unwrap();
    assert!(children.scan(job("warm"), bytes(b"x")).wait().is_ok());
    let began = Instant::now();
    let slow = children.scan(job("slow"), bytes(&slow_file()));
    for n in 0..20 {
        assert_eq!(names(&children.scan(job(&n.to_string()), bytes(b"EICAR")).wait().unwrap()), ["eicar"]);
    }
    let neighbours = began.elapsed();
    let outcome = slow.wait().unwrap();
    let took = began.elapsed();
    assert_eq!((outcome.verdict, outcome.partial, outcome.reasons), (Verdict::Error, true, vec![Reason::Timeout]));
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert!(neighbours < took, "{neighbours:?} of {took:?}");
}

#[test]
fn a_child_that_hangs_beyond_every_deadline_is_killed() {
    let dir = rules(SLOW);
    let mut settings = settings(dir.path(), 1);
    settings.timeout_s = 1;
    let children = Children::start(program(), &settings, None, nobody()).unwrap();
    let answer = children.scan(job("slow"), bytes(&slow_file()));
    // As if it were stuck where the engine's own timeout does not reach.
    kill_process(busy_pid(&children), Signal::STOP).unwrap();
    let lost = answer.wait().unwrap_err();
    assert_eq!((lost.why, children.deaths()), (Why::Timeout, 1), "{lost}");
    assert!(children.scan(job("next"), bytes(b"EICAR")).wait().is_ok());
}

#[test]
fn new_rules_take_over_whole_or_not_at_all() {
    let text = |names: std::ops::Range<usize>| names.map(|n| format!("rule r{n} {{ condition: true }}\n")).collect::<String>();
    let dir = rules(&text(0..20));
    let children = Children::start(program(), &settings(dir.path(), 2), None, nobody()).unwrap();
    let first = children.rules();
    let change = |content: &str| fs::write(dir.path().join("t.yar"), content).unwrap();
    assert!(!children.has_changed());
    // Under load: every outcome names the version whose rules it has.
    std::thread::scope(|scope| {
        let scanning = scope.spawn(|| (0..80).map(|n| children.scan(job(&n.to_string()), bytes(b"x")).wait().unwrap()).collect::<Vec<_>>());
        change(&text(0..21));
        assert!(children.has_changed());
        let second = children.reload(false).unwrap();
        assert!(!children.has_changed());
        assert_eq!((second.rules.len(), children.rules().version.clone()), (21, second.version.clone()));
        for outcome in scanning.join().unwrap() {
            let rules = if outcome.rules_version == first.version { 20 } else { 21 };
            assert!(outcome.matches.len() == rules && [&first.version, &second.version].contains(&&outcome.rules_version));
        }
    });
    let stays = children.rules();
    change(&text(0..10));
    let refused = children.reload(false).unwrap_err();
    assert!(matches!(refused, ReloadError::Refused { refusal: Refusal::Vanish { gone: 11, of: 21 }, .. }), "{refused}");
    change("rule broken { condition: nope }");
    let refused = children.reload(true).unwrap_err();
    assert!(matches!(&refused, ReloadError::Refused { refusal: Refusal::Empty, errors } if errors[0].code == "E009"), "{refused}");
    assert_eq!(children.rules(), stays);
    assert_eq!(children.scan(job("x"), bytes(b"x")).wait().unwrap().matches.len(), 21);
    change(&text(0..10));
    assert_eq!(children.reload(true).unwrap().rules.len(), 10);
    assert_eq!(children.scan(job("x"), bytes(b"x")).wait().unwrap().matches.len(), 10);
}

#[test]
fn compiled_rules_are_kept_and_only_used_for_what_they_were_made_of() {
    let (dir, state) = (rules("rule a { condition: true }"), tempfile::tempdir().unwrap());
    let start = |settings: &Settings| Children::start(program(), settings, Some(state.path().to_owned()), nobody());
    let settings = settings(dir.path(), 1);
    let version = start(&settings).unwrap().rules().version.clone();
    // With a program that compiles nothing: only what was kept can be there.
    let kept = Children::start(
        Program { path: "/bin/false".into(), args: Vec::new(), socket: None },
        &settings,
        Some(state.path().to_owned()),
        nobody(),
    );
    assert_eq!(kept.unwrap().rules().version, version);
    let file = fs::read_dir(state.path().join("rules")).unwrap().next().unwrap().unwrap().path();
    let mut damaged = fs::read(&file).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&file, damaged).unwrap();
    assert_eq!(start(&settings).unwrap().rules().version, version, "damage is compiled again");
    fs::write(dir.path().join("t.yar"), "rule b { condition: true }").unwrap();
    assert_eq!(start(&settings).unwrap().rules().rules[0].name, "b");
    let broken =
        Children::start(Program { path: "/bin/false".into(), args: Vec::new(), socket: None }, &settings, None, nobody()).err().unwrap();
    assert!(matches!(&broken, ReloadError::Compile(why) if why.contains("ended")), "{broken}");
}

/// Keeps one outcome.
#[derive(Default)]
struct OneKept {
    outcome: Mutex<Option<Outcome>>,
    asked: AtomicU32,
}

impl Kept for OneKept {
    fn may_have(&self, size: u64) -> bool {
        self.outcome.lock().unwrap().as_ref().is_some_and(|kept| kept.size == size)
    }
    fn get(&self, sha256: &str, size: u64, version: &str) -> Option<Outcome> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let kept = self.outcome.lock().unwrap().clone()?;
        (kept.sha256 == sha256 && kept.size == size && kept.rules_version == version).then_some(kept)
    }
}

#[test]
fn what_is_known_is_not_scanned_again() {
    let dir = rules("rule eicar { strings: $a = \"EICAR\" condition: $a } rule scr { condition: extension == \".scr\" }");
    let known = Arc::new(OneKept::default());
    let children = Children::start(program(), &settings(dir.path(), 1), None, known.clone()).unwrap();
    let first = children.scan(job("a.txt"), bytes(b"EICAR")).wait().unwrap();
    assert!(!first.cached);
    assert_eq!(known.asked.load(Ordering::Relaxed), 0, "nobody is asked for what nobody has");
    *known.outcome.lock().unwrap() = Some(first);
    let again = children.scan(job("b.scr"), bytes(b"EICAR")).wait().unwrap();
    assert_eq!((again.cached, names(&again), again.task_id.as_str()), (true, vec!["eicar", "scr"], "t-b.scr"));
    assert!(!children.scan(job("c"), bytes(b"other")).wait().unwrap().cached, "the same size, other bytes");
    assert_eq!(known.asked.load(Ordering::Relaxed), 2);
    assert!(!children.scan(job("d"), bytes(b"of another size")).wait().unwrap().cached);
    assert_eq!(known.asked.load(Ordering::Relaxed), 2);
    // With others behind it, which come while it waits for its answer.
    let many: Vec<_> = (0..12).map(|n| children.scan(job(&n.to_string()), bytes(b"EICAR"))).collect();
    assert!(many.into_iter().all(|answer| answer.wait().unwrap().cached));
}

#[test]
fn an_answer_that_is_too_long_loses_places_and_no_match() {
    // Two hundred patterns, each found 14 times, each time with 4 KB of hex, in an archive and its three members.
    let patterns: String = (0..200).map(|n| format!("$a{n} = {{ 61 62 [1990] 61 62 }} ")).collect();
    let dir = rules(&format!("rule many {{ strings: {patterns} condition: any of them }}"));
    let mut settings = settings(dir.path(), 1);
    settings.rules.match_bytes = 4096;
    let children = Children::start(program(), &settings, None, nobody()).unwrap();
    let text = b"ab".repeat(1010);
    let members: Vec<(&str, &[u8])> = (0..3).map(|_| ("m", &text[..])).collect();
    let archive = bytes(&crate::scan::buffer::unpack::tests::zip(&members));
    let outcome = children.scan(job("long"), archive).wait().unwrap();
    assert_eq!(outcome.children.len(), 3);
    let first = &outcome.children[0].matches[0];
    assert_eq!((first.patterns.len(), first.patterns[0].count, first.patterns[0].at.len()), (200, 14, 0));
}

#[test]
fn what_is_no_file_or_too_large_is_not_read() {
    let dir = rules("rule yes { condition: true }");
    let mut settings = settings(dir.path(), 1);
    settings.file_bytes_max = 10;
    let children = Children::start(program(), &settings, None, nobody()).unwrap();
    let (pipe, _write): (std::io::PipeReader, _) = std::io::pipe().unwrap();
    let folder = File::open(dir.path()).unwrap();
    for (fd, reason, size) in
        [(OwnedFd::from(pipe), Reason::NotAFile, 0), (folder.into(), Reason::NotAFile, 0), (bytes(b"eleven byte"), Reason::TooLarge, 11)]
    {
        let outcome = children.scan(job("x"), fd).wait().unwrap();
        assert_eq!((outcome.verdict, outcome.reasons, outcome.size), (Verdict::Error, vec![reason], size));
    }
    fs::write(dir.path().join("small"), "small").unwrap();
    let write_only = fs::OpenOptions::new().write(true).open(dir.path().join("small")).unwrap();
    assert_eq!(children.scan(job("x"), write_only.into()).wait().unwrap_err().why, Why::Io);
    assert_eq!(children.scan(job("x"), bytes(b"ten bytes.")).wait().unwrap().verdict, Verdict::Matched);
    assert_eq!(children.deaths(), 0);
}

/// A line of `/proc/PID/status` in KiB.
fn status(pid: u32, key: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find(|line| line.starts_with(key))?.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn bombs_stay_below_half_a_gigabyte_and_say_what_was_left_out() {
    let Some(samples) = corpus::samples() else { return };
    let all = corpus::copy_of("");
    let mut settings = settings(all.path(), 1);
    settings.timeout_s = 60;
    let children = Children::start(program(), &settings, None, nobody()).unwrap();
    let scan = |name: &str| children.scan(job(name), File::open(samples.join(name)).unwrap().into()).wait().unwrap();
    scan("eicar.com");
    for (name, reason) in [
        ("bomb_16m.zip", Reason::LimitRatio),
        ("bomb_16m.gz", Reason::LimitRatio),
        ("bomb_nested.zip", Reason::LimitRatio),
        ("bomb_overlap.zip", Reason::LimitRatio),
        ("many_small.zip", Reason::LimitChildren),
        ("eicar_nested30.zip", Reason::LimitDepth),
    ] {
        let outcome = scan(name);
        assert!(outcome.partial && outcome.reasons.contains(&reason), "{name}: {:?}", outcome.reasons);
    }
    assert!(scan("big_eicar_at_end.bin").verdict == Verdict::Matched);
    let hungry = bytes(&archive_of_much());
    let outcome = children.scan(job("much"), hungry).wait().unwrap();
    assert!(outcome.partial && outcome.reasons.contains(&Reason::LimitBytes), "{:?}", outcome.reasons);
    let mut most = 0;
    for pid in children.pids() {
        let (peak, space) = (status(pid, "VmHWM:").unwrap(), status(pid, "VmPeak:").unwrap());
        eprintln!("child {pid}: at most {} MiB resident, {} MiB of address space", peak >> 10, space >> 10);
        most = most.max(peak);
    }
    assert!(most > 0 && most < 512 << 10, "{most} KiB");
    assert_eq!(children.deaths(), 0);
}

/// Some 3 MiB that would become 160: each KiB of noise with 63 of zeros, which no ratio stops.
fn archive_of_much() -> Vec<u8> {
    let mut much = vec![0u8; 40 << 20];
    let mut state = 1u64;
    for block in much.chunks_mut(64 << 10) {
        for chunk in block[..1024].chunks_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            chunk.copy_from_slice(&(state ^ state >> 29).to_le_bytes());
        }
    }
    crate::scan::buffer::unpack::tests::zip_deflated(&[("a", &much), ("b", &much), ("c", &much), ("d", &much)])
}

#[test]
fn a_child_has_nothing_but_what_it_is_sent() {
    let dir = rules("rule yes { condition: true }");
    let children = Children::start(program(), &settings(dir.path(), 1), None, nobody()).unwrap();
    children.scan(job("x"), bytes(b"x")).wait().unwrap();
    // The thread that serves: in a test binary it is not the first.
    let is_confined = |pid: u32| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let mut statuses = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
        statuses.any(|text| text.contains("NoNewPrivs:\t1") && text.contains("Seccomp:\t2")).then_some(pid)
    };
    let read = |pid: u32, what: &str| fs::read(format!("/proc/{pid}/{what}")).ok();
    let seen: Vec<_> =
        children.pids().into_iter().filter_map(is_confined).filter_map(|pid| read(pid, "environ").zip(read(pid, "limits"))).collect();
    assert!(!seen.is_empty(), "no child is confined");
    for (environment, limits) in seen {
        assert_eq!(String::from_utf8_lossy(&environment), "MIMALLOC_ARENA_RESERVE=32MiB\0");
        let limits = String::from_utf8_lossy(&limits).into_owned();
        let space = limits.lines().find(|line| line.starts_with("Max address space")).unwrap();
        let space: u64 = space.split_whitespace().nth(3).unwrap().parse().unwrap();
        let most = crate::limits::CHILD_MEMORY_BYTES;
        assert!(space >= most && space < 3 * most, "{space}");
    }
}

#[test]
fn a_confined_process_opens_and_starts_nothing() {
    // In a process of its own, since it is for ever.
    let (_, module) = module_path!().split_once("::").unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args([&format!("{module}::confined"), "--exact", "--nocapture"])
        .env("CONFINED", "1")
        .output()
        .unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
}

#[test]
fn confined() {
    if std::env::var_os("CONFINED").is_none() {
        return;
    }
    assert_eq!(confine::confine(), [""; 0]);
    let refused = |error: std::io::Error| assert_eq!(error.raw_os_error(), Some(1), "{error}");
    refused(File::open("/etc/passwd").unwrap_err());
    refused(std::net::UdpSocket::bind("127.0.0.1:0").unwrap_err());
    refused(Command::new("/bin/true").spawn().unwrap_err());
    refused(fs::remove_file("/nonexistent").unwrap_err());
    refused(kill_process(rustix::process::getpid(), Signal::KILL).unwrap_err().into());
    assert!(Vec::<u8>::new().try_reserve(2 << 30).is_err(), "more memory than it may have");
    assert_eq!(std::thread::spawn(|| 3).join().unwrap(), 3);
}
