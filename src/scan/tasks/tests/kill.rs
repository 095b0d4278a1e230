//! Twenty times a process that works on the store is killed in the middle of whatever it does.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::{super::*, ALL, alerts_of, matched, outcome, submission};

const DIR: &str = "SCAN_STORE_KILL_DIR";
const SEED: &str = "SCAN_STORE_KILL_SEED";

fn limits() -> Limits {
    Limits { size_max: 500, attempts_max: 4, backoff: vec![0], lease: 300_000_000, task_ttl: 900_000_000, ..Limits::default() }
}

fn open(dir: &Path) -> Tasks {
    Tasks::open(dir, limits(), alerts_of()).unwrap()
}

/// Not random enough for anything else.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// What was answered, as a line that outlives the process.
fn note(dir: &Path, what: &str, id: &str) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(dir.join("journal")).unwrap();
    file.write_all(format!("{what} {id}\n").as_bytes()).unwrap();
}

fn journal(dir: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(dir.join("journal")).unwrap_or_default();
    text.lines().filter_map(|line| line.split_once(' ')).map(|(what, id)| (what.to_owned(), id.to_owned())).collect()
}

/// Works on the store until it is killed. Does nothing unless it is told where.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR).map(PathBuf::from) else { return };
    let seed: u64 = std::env::var(SEED).unwrap().parse().unwrap();
    let store = open(&dir);
    let workers: Vec<_> = (0..3)
        .map(|n| {
            let (store, dir) = (store.clone(), dir.clone());
            thread::spawn(move || work(&store, &dir, &format!("w{n}"), Dice(seed * 10 + n)))
        })
        .collect();
    let mut dice = Dice(seed);
    for n in 0.. {
        let submissions = (0..=dice.roll(4)).map(|part| submission(&format!("{seed}-{n}-{part}"), dice.roll(3))).collect();
        for submitted in store.submit(submissions).wait().unwrap() {
            match submitted {
                Submitted::Queued(id) => note(&dir, "accepted", &id),
                Submitted::Full => thread::sleep(Duration::from_millis(5)),
                other => panic!("{other:?}"),
            }
        }
        assert!(workers.iter().all(|worker| !worker.is_finished()));
    }
}

fn work(store: &Tasks, dir: &Path, name: &str, mut dice: Dice) {
    store.lost(name).wait().unwrap();
    loop {
        let take = if dice.roll(2) == 0 { Take::Started } else { Take::Next };
        for lease in store.lease(name, ALL, 1 + dice.roll(3) as usize, take.clone()).wait().unwrap() {
            let id = lease.task.task_id.clone();
            if take == Take::Next && !store.started(name, &id).wait().unwrap() {
                continue;
            }
            let given = match dice.roll(10) {
                0 => continue, // forgotten: the lease ends it
                1 => store.give_back(name, &id, Loss::Child),
                2 => store.give_back(name, &id, Loss::Timeout),
                3..=5 => {
                    let finished = store.finish(name, outcome(&lease, Verdict::Clean)).wait().unwrap();
                    if matches!(finished, Finished::Applied { .. }) {
                        note(dir, "applied", &id);
                    }
                    continue;
                }
                _ => {
                    let finished = store.finish(name, matched(&lease, &["one", "two"])).wait().unwrap();
                    if let Finished::Applied { alerts } = finished {
                        assert_eq!(alerts.len(), 2);
                        note(dir, "applied", &id);
                    }
                    continue;
                }
            };
            if given.wait().unwrap() == GivenBack::TimedOut {
                note(dir, "applied", &id);
            }
        }
    }
}

#[test]
fn nothing_that_was_answered_is_lost_or_done_twice_by_twenty_kills() {
    let dir = tempfile::tempdir().unwrap();
    let (_, name) = module_path!().split_once("::").unwrap();
    let mut dice = Dice(7);
    for round in 0..20u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("{name}::child"), "--nocapture", "--test-threads=1"])
            .env(DIR, dir.path())
            .env(SEED, round.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let before = journal(dir.path()).len();
        // It must have got to work, then it is hit anywhere.
        for _ in 0..3000 {
            if journal(dir.path()).len() > before || child.try_wait().unwrap().is_some() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(Duration::from_micros(dice.roll(300_000)));
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself in round {round}");
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        check(dir.path());
    }
    // What is left ends as anything else.
    let store = open(dir.path());
    for name in ["w0", "w1", "w2"] {
        store.lost(name).wait().unwrap();
    }
    let deadline = 400;
    for turn in 0.. {
        assert!(turn < deadline, "{:?}", store.figures());
        for lease in store.lease("last", ALL, 100, Take::Started).wait().unwrap() {
            store.finish("last", matched(&lease, &["one", "two"])).wait().unwrap();
        }
        let figures = store.figures();
        if figures.queued + figures.leased == 0 {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    store.close();
    drop(store);
    let (total, done) = check(dir.path());
    assert!(total > 200 && done > 100, "{total} accepted, {done} done: too little happened");
}

/// Compares the store with what was answered. Gives back how many tasks there are, and how many are done.
fn check(dir: &Path) -> (usize, usize) {
    let store = open(dir);
    let all = store.tasks(TaskFilter::default(), None, usize::MAX).wait().unwrap();
    let standings: BTreeMap<_, _> = all.iter().map(|standing| (standing.task.task_id.clone(), standing)).collect();
    let mut applied = BTreeMap::<_, u32>::new();
    for (what, id) in journal(dir) {
        let standing = standings.get(&id).unwrap_or_else(|| panic!("{id} was accepted and is not there"));
        if what == "applied" {
            assert_eq!(standing.state, State::Done, "{id}");
            *applied.entry(id).or_default() += 1;
        }
    }
    assert!(applied.values().all(|times| *times == 1), "applied twice");
    let mut alerts = BTreeMap::<String, u32>::new();
    for alert in store.alerts_after(0, usize::MAX).wait().unwrap() {
        *alerts.entry(alert.alert["task_id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let mut sums = BTreeMap::<_, u64>::new();
    for (id, standing) in &standings {
        *sums.entry(standing.state).or_default() += 1;
        let is_matched = standing.outcome.as_ref().is_some_and(|outcome| outcome.verdict == Verdict::Matched);
        assert_eq!(standing.outcome.is_some(), standing.state == State::Done, "{standing:?}");
        assert_eq!(alerts.get(id).copied().unwrap_or(0), if is_matched { 2 } else { 0 }, "{standing:?}");
    }
    let figures = store.figures();
    let sum = |state| sums.get(&state).copied().unwrap_or(0);
    // Leases may end between the list and the figures.
    assert_eq!(figures.queued + figures.leased + figures.dead + figures.done, standings.len() as u64);
    assert!(figures.done >= sum(State::Done) && figures.dead >= sum(State::Dead));
    assert_eq!(u64::from(alerts.values().sum::<u32>()), figures.alerts);
    store.close();
    (standings.len(), usize::try_from(sum(State::Done)).unwrap())
}
