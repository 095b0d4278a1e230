//! Source `file` with a tree of which each file is a record: over real files, as ModSecurity writes them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde_json::Value;
use shipper::{io::Engine, metrics::State};

use crate::agent::{Started, start, until};

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(bench.path("state")).unwrap();
        bench
    }
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    fn start(&self, more: &str) -> Started {
        let text = format!(
            "[sources.audit]\nkind = 'file'\npath = {:?}\n{more}\n[handlers.waf]\nkind = 'waf'\ninputs = ['audit']\nalert_at = 0\n\
             [sinks.alerts]\nkind = 'file'\ninputs = ['waf.alert']\npath = {:?}\n",
            self.path("tree/**"),
            self.path("alerts")
        );
        start(&text, &self.path("state"), Engine::Pread)
    }
    /// Writes a file of the tree at once, as the engine does.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path("tree").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
    /// How often each event came.
    fn came(&self) -> BTreeMap<String, u32> {
        let mut counts = BTreeMap::new();
        let text = fs::read_to_string(self.path("alerts")).unwrap_or_default();
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let alert: Value = serde_json::from_str(line).unwrap();
            *counts.entry(alert["tx_id"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        counts
    }
}

fn event(id: &str) -> String {
    format!("{{\"transaction\":{{\"unique_id\":\"{id}\",\"client_ip\":\"203.0.113.9\",\"messages\":[]}}}}\n")
}

fn once(ids: &[&str]) -> BTreeMap<String, u32> {
    ids.iter().map(|id| ((*id).to_owned(), 1)).collect()
}

fn age(path: &Path, seconds: u64) {
    fs::File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
}

#[test]
fn each_file_comes_once_whatever_its_name_also_over_restarts() {
    let bench = Bench::new();
    let minute = |n: u32, id: &str| format!("20261124/20261124-10{n:02}/20261124-10{n:02}00-{id}");
    let old = bench.write(&minute(0, "a"), &event("a"));
    age(&old, 100);
    let started = bench.start("start_at = 'beginning'");
    until("what was there", || bench.came() == once(&["a"]));
    bench.write(&minute(1, "c"), &event("c"));
    bench.write(&minute(1, "b"), &event("b"));
    bench.write("20261125/20261125-0000/20261125-000000-d", &event("d"));
    until("new folders and names before those that came", || bench.came() == once(&["a", "b", "c", "d"]));
    // A slow request is written into the minute of its start, and two of one id share a file.
    bench.write(&minute(0, "e"), &event("e"));
    let both = bench.write(&minute(1, "f"), &event("f"));
    fs::write(&both, event("f") + &event("g")).unwrap();
    until("a late one, and both of a file", || ["e", "f", "g"].iter().all(|id| bench.came().contains_key(*id)));
    assert!(started.agent.drain());
    let before = bench.came();
    bench.write(&minute(2, "h"), &event("h"));
    let copied = bench.write(&minute(2, "copied"), &event("copied"));
    age(&copied, 3600);
    let started = bench.start("start_at = 'beginning'");
    until("what came meanwhile", || bench.came().contains_key("h"));
    let moved = bench.write(&minute(2, "moved"), &event("moved"));
    age(&moved, 50);
    bench.write(&minute(2, "i"), &event("i"));
    until("what comes now", || bench.came().contains_key("i"));
    let mut expected = before.clone();
    expected.extend(once(&["h", "i", "moved"]));
    until("what came just now and is old", || bench.came().contains_key("moved"));
    assert_eq!(bench.came(), expected, "nothing again, and of what came in between nothing that is older than what was done");
    assert!(before.iter().all(|(id, count)| *count == 1 || id == "f"), "{before:?}");
    assert_eq!(started.metrics.branch("audit", "waf").imbalance(), 0);
    assert!(started.agent.drain());
}

#[test]
fn a_file_waits_until_it_is_whole_and_what_never_is_goes_to_the_dead_letter() {
    let bench = Bench::new();
    let started = bench.start("");
    until("the folder is waited for", || {
        started
            .board
            .standings()
            .iter()
            .any(|(name, state)| name == "sources.audit" && matches!(state, State::Retrying(why) if why.contains("waiting for it")))
    });
    fs::create_dir(bench.path("tree")).unwrap();
    until("it is there", || started.board.standings().contains(&("sources.audit".into(), State::Ready)));
    let half = &event("slow")[..30];
    let path = bench.write("d/m/slow", half);
    std::thread::sleep(Duration::from_millis(300));
    fs::write(&path, event("slow")).unwrap();
    until("it is whole", || bench.came() == once(&["slow"]));
    bench.write("d/m/torn", half);
    bench.write("d/m/after", &event("after"));
    let counts = started.metrics.branch("audit", "waf");
    until("the one behind it", || bench.came() == once(&["after", "slow"]) && counts.dead_letter.each() == [("cut", 30)]);
    until("all is settled", || counts.in_flight.get() == 0);
    assert_eq!(counts.imbalance(), 0);
    assert!(started.agent.drain());
}
