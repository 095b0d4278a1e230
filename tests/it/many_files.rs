//! Source `file` with a pattern: over real files, through renames, ends and restarts, on both engines.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use shipper::{
    checkpoint::Row,
    io::{Engine, disk::RealDisk},
    limits,
    metrics::State,
    register::Node,
    store::{Options, Writer},
    topology::{Host, Plan, config::Config},
};

use crate::agent::{start, until};

fn config(pattern: &Path, out: &Path) -> String {
    format!(
        "[sources.logs]\nkind = \"file\"\npath = {:?}\nstart_at = \"beginning\"\n[handlers.all]\nkind = \"forward\"\ninputs = [\"logs\"]\n\
         [sinks.out]\nkind = \"file\"\ninputs = [\"all\"]\npath = {:?}\n",
        pattern.display().to_string(),
        out.display().to_string()
    )
}

fn line(what: &str) -> String {
    format!("{{\"timestamp\":\"2026-03-14T06:25:12.001+0100\",\"id\":\"{what}\"}}\n")
}

fn append(path: &Path, what: &str) {
    let mut file = fs::File::options().create(true).append(true).open(path).unwrap();
    file.write_all(line(what).as_bytes()).unwrap();
}

/// How often each line came out.
fn came(out: &Path) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(out).unwrap_or_default().lines() {
        *counts.entry(line.split('"').nth(7).unwrap_or(line).to_owned()).or_default() += 1;
    }
    counts
}

fn once(names: &[&str]) -> BTreeMap<String, u32> {
    names.iter().map(|name| ((*name).to_owned(), 1)).collect()
}

/// True while this process holds an open file of that name.
fn is_held(path: &Path) -> bool {
    let fds = fs::read_dir("/proc/self/fd").unwrap().flatten();
    fds.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|link| link.to_string_lossy().starts_with(&*path.to_string_lossy()))
}

fn rows(state: &Path) -> Vec<Row> {
    Writer::open(Box::new(RealDisk::new()), state, Options::default()).unwrap().1.expect("a checkpoint").rows
}

fn engines() -> Vec<Engine> {
    let mut engines = vec![Engine::Pread];
    match shipper::io::choose(shipper::io::Asked::Uring) {
        Ok(_) => engines.push(Engine::Uring),
        Err(why) => println!("skipped on uring: {why}"),
    }
    engines
}

#[test]
fn every_line_of_every_file_comes_once_through_renames_ends_and_restarts() {
    for engine in engines() {
        let dir = tempfile::tempdir().unwrap();
        let (state, out, logs) = (dir.path().join("state"), dir.path().join("out"), dir.path().join("logs"));
        let log = |name: &str| -> PathBuf { logs.join(name) };
        let text = config(&log("*.log"), &out);

        // The folder comes later than the agent.
        let first = start(&text, &state, engine);
        fs::create_dir(&logs).unwrap();
        append(&log("a.log"), "a1");
        append(&log("b.log"), "b1");
        append(&log("ignored.txt"), "no");
        append(&log(".hidden.log"), "no");
        until("the files are found", || came(&out) == once(&["a1", "b1"]));

        // A new one; a rename within the pattern; one that leaves it, with a late writer, and its successor.
        append(&log("c.log"), "c1");
        fs::rename(log("a.log"), log("z.log")).unwrap();
        append(&log("z.log"), "a2");
        fs::rename(log("b.log"), log("b.log.1")).unwrap();
        append(&log("b.log.1"), "b2");
        append(&log("b.log"), "b3");
        until("each is read where it is now", || came(&out) == once(&["a1", "a2", "b1", "b2", "b3", "c1"]));

        // One that is cut and written anew begins anew.
        fs::write(log("c.log"), line("c2")).unwrap();
        until("the cut file is read again", || came(&out).contains_key("c2"));
        append(&log("c.log"), "c3");
        fs::remove_file(log("c.log")).unwrap();
        until("the end of a removed file is read", || came(&out).contains_key("c3"));
        until("the removed file is let go", || !is_held(&log("c.log")));
        until("the file that left the pattern is let go", || !is_held(&log("b.log.1")));
        assert!(first.agent.drain());
        assert_eq!(came(&out), once(&["a1", "a2", "b1", "b2", "b3", "c1", "c2", "c3"]), "{engine}");
        let left: Vec<_> = rows(&state).into_iter().map(|row| row.segments.last().unwrap().path.clone()).collect();
        assert_eq!(left.len(), 2, "only files that are there have a row: {left:?}");

        // While nobody looks: one grows, one is made, one grows and leaves the pattern, and is replaced.
        append(&log("z.log"), "a3");
        append(&log("d.log"), "d1");
        append(&log("b.log"), "b4");
        fs::rename(log("b.log"), log("b.log.2")).unwrap();
        append(&log("b.log"), "b5");
        let second = start(&text, &state, engine);
        let all = ["a1", "a2", "a3", "b1", "b2", "b3", "b4", "b5", "c1", "c2", "c3", "d1"];
        until("what came meanwhile is read", || came(&out).len() == all.len());
        assert!(second.agent.drain());
        assert_eq!(came(&out), once(&all), "{engine}");
    }
}

#[test]
fn files_beyond_the_limit_are_told_and_wait_for_their_turn() {
    let dir = tempfile::tempdir().unwrap();
    let (state, out, logs) = (dir.path().join("state"), dir.path().join("out"), dir.path().join("logs"));
    fs::create_dir(&logs).unwrap();
    let all = limits::GLOB_FILES_MAX + 3;
    for n in 0..all {
        append(&logs.join(format!("{n:04}.log")), &n.to_string());
    }
    let started = start(&config(&logs.join("[0-9]*.log"), &out), &state, Engine::Pread);
    let told = || {
        let mut rows = started.board.rows().into_iter();
        rows.any(|(name, state)| {
            name == "sources.logs" && matches!(&state, State::Retrying(why) if why.contains("more than 256 files match"))
        })
    };
    until("the limit is told", told);
    until("those within the limit are read", || came(&out).len() == limits::GLOB_FILES_MAX);
    for n in 0..10 {
        fs::remove_file(logs.join(format!("{n:04}.log"))).unwrap();
    }
    until("the others have their turn", || came(&out).len() == all);
    until("nothing is in the way any more", || !told());
    assert!(started.agent.drain());
    assert!(came(&out).values().all(|times| *times == 1));
}

#[test]
fn only_the_name_may_be_a_pattern() {
    for (path, part) in [("/var/*/a.log", "pattern of folders"), ("/var/log/a[.log", "without its"), ("/var/log/*.log", "")] {
        let tree = Node::parse_toml(&config(Path::new(path), Path::new("/out"))).unwrap();
        let errors = Plan::build(Config::read(tree, std::iter::empty(), &[], &Host { name: "h".into(), embedded: None })).err();
        let told = errors.map(|errors| errors.to_string()).unwrap_or_default();
        assert!(told.contains(part) && told.is_empty() == part.is_empty(), "{path}: {told}");
    }
}

/// A running agent that ends with its test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn kills_while_files_come_and_move_lose_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let (out, logs, settings) = (dir.path().join("out"), dir.path().join("logs"), dir.path().join("shipper.toml"));
    fs::create_dir(&logs).unwrap();
    let state = format!("[state]\ndir = {:?}\n", dir.path().join("state").display().to_string());
    fs::write(&settings, state + &config(&logs.join("*.log"), &out)).unwrap();
    let run = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_shipper"));
        let null = std::process::Stdio::null;
        Killed(command.args(["run", "--config"]).arg(&settings).stdout(null()).stderr(null()).spawn().unwrap())
    };
    let mut written = 0;
    for round in 0..3 {
        let agent = run();
        let before = came(&out).len();
        for n in 0..300 {
            let file = logs.join(format!("{}.log", n % 7));
            append(&file, &written.to_string());
            written += 1;
            // Now and then one takes another name of the pattern, and its old name is another file.
            if n % 100 == 50 {
                fs::rename(&file, logs.join(format!("moved-{round}-{n}.log"))).unwrap();
            }
        }
        until("something came out", || came(&out).len() > before);
        drop(agent);
    }
    let _agent = run();
    until("every line came out", || came(&out).len() == written);
}
