//! Tables in a running agent: indicators from exported files or from MISP, without a restart.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use shipper::{
    io::{Engine, disk::RealDisk},
    lookups::misp::{
        self, Mirror,
        core::Verdict,
        sync::{Place, SyncError, Synced, sync},
    },
    metrics::State,
    store::intel::Tables,
    tables::{Held, Indicator},
};
use tempfile::TempDir;

use crate::{
    agent::{Started, start, until},
    misp_standin::{KEY, Misp, World, ask_all, key_file, on_edge, row, settings},
};

/// A folder with a file of alerts, a state folder and what comes out.
struct Bench {
    dir: TempDir,
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
    /// Alerts, each with an address and a name.
    fn alerts(&self, values: &[(&str, &str)]) {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(self.path("in")).unwrap();
        let (mut text, size) = (String::new(), file.metadata().unwrap().len() as usize);
        for (address, name) in values {
            let alert = json!({
                "timestamp": "2026-03-14T06:25:12.004+0100", "id": format!("1710401112.{}", size + text.len()), "rule": {"level": 3},
                "agent": {"id": "014"}, "data": {"srcip": address, "dns": {"question": {"name": name}}},
            });
            text += &format!("{alert}\n");
        }
        file.write_all(text.as_bytes()).unwrap();
    }
    fn import(&self, values: &str, more: &[&str]) {
        fs::write(self.path("list.txt"), values).unwrap();
        let list = self.path("list.txt");
        let mut args = vec!["intel", "import", list.to_str().unwrap(), "--state"];
        let state = self.path("state");
        args.push(state.to_str().unwrap());
        args.extend(more);
        let output = Command::new(env!("CARGO_BIN_EXE_shipper")).args(args).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    fn config(&self, lookup: &str) -> String {
        format!(
            "[state]\ndir = {:?}\n[sources.in]\nkind = \"file\"\npath = {:?}\nstart_at = \"beginning\"\n\
             [tables.known]\nkind = \"indicators\"\n\
             [handlers.ioc]\nkind = \"ioc\"\ninputs = [\"in\"]\nindicators = \"known\"\n\
             [lookups.misp]\nkind = \"misp\"\ninputs = [\"ioc.known\"]\nindicators = \"known\"\n{lookup}\
             [sinks.parsed]\nkind = \"file\"\ninputs = [\"ioc\"]\npath = {:?}\n\
             [sinks.asked]\nkind = \"file\"\ninputs = [\"ioc.known\"]\npath = {:?}\n\
             [sinks.matched]\nkind = \"file\"\ninputs = [\"misp\"]\npath = {:?}\n",
            self.path("state"),
            self.path("in"),
            self.path("parsed"),
            self.path("asked"),
            self.path("matched"),
        )
    }
    fn start(&self, lookup: &str) -> Started {
        start(&self.config(lookup), &self.path("state"), Engine::Pread)
    }
    fn lines(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        // A write in the making may be seen in part.
        text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(|line| serde_json::from_str(line).unwrap()).collect()
    }
    /// Values of indicators, or of matches, that came out.
    fn values(&self, name: &str) -> Vec<String> {
        let of = |line: &Value| match line["iocs"].as_array() {
            Some(iocs) => iocs.iter().map(|ioc| ioc["value"].as_str().unwrap().to_owned()).collect(),
            None => vec![line["ioc"]["value"].as_str().unwrap().to_owned()],
        };
        self.lines(name).iter().flat_map(of).collect()
    }
}

fn state_of(started: &Started, component: &str) -> Option<State> {
    started.board.standings().into_iter().find(|(name, _)| name == component).map(|(_, state)| state)
}

const MIRROR: &str = "mode = \"mirror\"\n";

#[test]
fn exported_files_are_enough_and_a_new_import_is_taken_without_a_restart() {
    let bench = Bench::new();
    bench.import("evil.com\n45.155.205.0/24\nhttp://bad.net/a\n", &[]);
    bench.alerts(&[("45.155.205.233", "www.evil.com"), ("91.240.118.172", "good.org"), ("91.240.118.173", "evil.com")]);
    let agent = bench.start(MIRROR);
    until("three matches", || bench.lines("matched").len() == 3);
    assert_eq!(bench.values("matched"), ["www.evil.com", "45.155.205.233", "evil.com"]);
    let lines = bench.lines("matched");
    let first = &lines[1];
    let expected = json!({
        "event_id": "", "category": "", "type": "", "value": "45.155.205.0/24", "attribute_id": "", "attribute_uuid": "", "event_uuid": "",
        "event_info": "", "tags": [], "to_ids": true, "via": "network",
    });
    assert_eq!((&first["misp"], &first["ioc"]["field"]), (&expected, &json!("data.srcip")));
    assert_eq!((&first["full_alert"]["agent"]["id"], &first["original_rule"]), (&json!("014"), &json!({"level": 3})));
    assert_eq!(lines[0]["misp"]["via"], "parent");
    assert_eq!(bench.values("asked"), ["www.evil.com", "45.155.205.233", "evil.com"], "nothing else goes to the lookup");
    assert_eq!(bench.values("parsed").len(), 6, "all indicators are there as well");

    bench.import("good.org\n", &["--add"]);
    until("the new generation", || Tables::load(&RealDisk::new(), &bench.path("state")).unwrap().unwrap().status.generation == 2);
    // What is read before the agent looks at the files is not found; so alerts come until one is.
    until("the new indicator", || {
        bench.alerts(&[("91.240.118.172", "good.org")]);
        std::thread::sleep(Duration::from_millis(100));
        bench.values("matched").contains(&"good.org".to_owned())
    });
    bench.alerts(&[("91.240.118.172", "evil.com")]);
    until("the old ones still", || bench.values("matched").iter().filter(|value| *value == "evil.com").count() == 2);
    assert_eq!(state_of(&agent, "tables.known"), Some(State::Ready));

    // A damaged generation is told, and the one before stays in use.
    let current = bench.path("state/intel/current");
    let text = fs::read_to_string(&current).unwrap();
    fs::write(&current, text.replace("generation", "Generation")).unwrap();
    until("the damage is told", || matches!(state_of(&agent, "tables.known"), Some(State::Retrying(_))));
    let Some(State::Retrying(why)) = state_of(&agent, "tables.known") else { unreachable!() };
    assert!(
        why.contains("current is damaged") && why.contains("run `shipper intel import` again") && why.contains("stays in use"),
        "{why}"
    );
    bench.alerts(&[("91.240.118.172", "evil.com")]);
    until("still", || bench.values("matched").iter().filter(|value| *value == "evil.com").count() == 3);
    fs::write(&current, text).unwrap();
    until("it is mended", || state_of(&agent, "tables.known") == Some(State::Ready));
    assert!(agent.agent.drain());
}

#[test]
fn without_a_table_questions_wait_and_nothing_is_skipped() {
    let bench = Bench::new();
    bench.alerts(&[("45.155.205.233", "www.evil.com"), ("91.240.118.172", "good.org")]);
    let agent = bench.start(MIRROR);
    until("all are let through", || bench.values("asked").len() == 4);
    for component in ["tables.known", "lookups.misp"] {
        until("it is told", || matches!(state_of(&agent, component), Some(State::Holding(_))));
        let Some(State::Holding(why)) = state_of(&agent, component) else { unreachable!() };
        assert!(why.contains("shipper intel import"), "{component}: {why}");
    }
    assert_eq!(bench.lines("matched").len(), 0);
    bench.import("evil.com\n", &[]);
    until("the match", || bench.values("matched") == ["www.evil.com"]);
    until("it goes on", || state_of(&agent, "lookups.misp") == Some(State::Ready));
    assert!(agent.agent.drain());
}

#[test]
fn an_indicator_that_is_new_in_misp_is_found_by_the_next_synchronisation() {
    let bench = Bench::new();
    let misp = Misp::start(World { rows: vec![row("domain", "evil.com"), row("ip-dst|port", "45.155.205.233|443")], ..World::default() });
    let key = key_file(KEY);
    let lookup = format!("{MIRROR}url = {:?}\nkey_file = {:?}\nsync_every = \"10s\"\n", misp.url(), key.path());
    bench.alerts(&[("45.155.205.233", "www.evil.com"), ("91.240.118.172", "good.org")]);
    let agent = bench.start(&lookup);
    until("two matches", || bench.lines("matched").len() == 2);
    let by_address = &bench.lines("matched")[1]["misp"];
    assert_eq!((&by_address["value"], &by_address["event_info"]), (&json!("45.155.205.233|443"), &json!("Emotet, again")));
    let searches = misp.searches();
    assert!(searches.iter().all(|body| body["value"].is_null()), "no indicator of an alert is told to MISP");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    misp.change(|world| {
        world.rows[0].deleted = true;
        world.rows[0].timestamp = now;
        let mut new = row("domain", "good.org");
        (new.timestamp, new.event_timestamp, new.publish_timestamp) = (now, now, now);
        world.rows.push(new);
    });
    let of = |value: &str| bench.values("matched").iter().filter(|matched| *matched == value).count();
    until("the new one", || {
        bench.alerts(&[("91.240.118.172", "good.org")]);
        std::thread::sleep(Duration::from_millis(200));
        of("good.org") > 0
    });
    let before = of("www.evil.com");
    bench.alerts(&[("91.240.118.172", "www.evil.com"), ("91.240.118.172", "good.org")]);
    let parsed = bench.lines("in").len();
    until("all is read", || bench.lines("parsed").len() == parsed);
    assert_eq!(of("www.evil.com"), before, "what was deleted there is gone here");
    assert!(agent.agent.drain());
}

fn place(state: &Path) -> Place {
    Place { disk: Arc::new(RealDisk::new()), state_dir: state.to_owned(), own: |_| Box::new(|_| Ok(())) }
}

const DAY: Duration = Duration::from_secs(86_400);

fn synced(misp: &Misp, key: &Path, state: &Path, now: u64) -> Result<Synced, SyncError> {
    sync(&settings(misp, key, "page = 10\n"), &place(state), false, DAY, now, &mut |_| ())
}

/// Each value that the tables know, with its events' ids.
fn known(state: &Path, values: &BTreeSet<String>) -> BTreeMap<String, BTreeSet<String>> {
    let tables = Tables::load(&RealDisk::new(), state).unwrap().unwrap();
    let of = |value: &String| {
        let found = tables.find(value.as_bytes()).unwrap();
        assert!(found.iter().all(|found| matches!(&found.indicator, Indicator::Text(text) if text == value)));
        (value.clone(), found.into_iter().map(|found| found.id).collect::<BTreeSet<_>>())
    };
    values.iter().map(of).filter(|(_, found)| !found.is_empty()).collect()
}

#[test]
fn after_every_synchronisation_the_tables_are_what_misp_has() {
    let dir = tempfile::tempdir().unwrap();
    let misp = Misp::start(World::default());
    let key = key_file(KEY);
    // A stream of accidents, the same in every run.
    let mut seed = 7u64;
    let mut roll = move |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    let mut now = 1_700_000_000;
    let mut values = BTreeSet::new();
    let (mut wholes, mut changes) = (0, 0);
    for _ in 0..60 {
        now += 2_000;
        for _ in 0..roll(6) {
            let (what, n, value) = (roll(7), roll(20), format!("n{}.evil.com", roll(40)));
            values.insert(value.clone());
            let at = now - roll(600);
            misp.change(|world| {
                let rows = &mut world.rows;
                if rows.len() < 20 || what == 0 {
                    let mut new = row("domain", value);
                    (new.timestamp, new.event_timestamp, new.publish_timestamp) = (at, at, at);
                    rows.push(new);
                    return;
                }
                let row = &mut rows[n as usize];
                match what {
                    1 => (row.deleted, row.timestamp, row.event_timestamp) = (true, at, at),
                    2 => (row.deleted, row.timestamp, row.event_timestamp) = (false, at, at),
                    3 => (row.to_ids, row.timestamp, row.event_timestamp) = (!row.to_ids, at, at),
                    4 => (row.published, row.event_timestamp) = (false, at),
                    5 => (row.published, row.event_timestamp, row.publish_timestamp) = (true, at, at),
                    _ => {}
                }
            });
        }
        match synced(&misp, key.path(), dir.path(), now).unwrap().whole {
            Some(_) => wholes += 1,
            None => changes += 1,
        }
        let mut expected: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        misp.change(|world| {
            for (id, row) in world.rows.iter().enumerate().filter(|(_, row)| !row.deleted && row.to_ids && row.published) {
                expected.entry(row.value.clone()).or_default().insert(id.to_string());
            }
        });
        assert_eq!(known(dir.path(), &values), expected, "at {now}");
    }
    assert_eq!((wholes, changes), (2, 58), "60 times 2000 s are a day and a half");
    // Nothing changes: nothing but the time does.
    let synced = synced(&misp, key.path(), dir.path(), now + 1_000).unwrap();
    assert_eq!((synced.whole, synced.put + synced.gone > 0), (None, synced.rows > 0));
    let tables = Tables::load(&RealDisk::new(), dir.path()).unwrap().unwrap();
    assert_eq!(tables.changed_until(), now + 1_000);
}

#[test]
fn an_outage_or_a_wrong_key_leaves_the_tables_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let misp = Misp::start(World { rows: vec![row("domain", "evil.com")], ..World::default() });
    let key = key_file(KEY);
    synced(&misp, key.path(), dir.path(), 1_700_000_000).unwrap();
    let values = BTreeSet::from(["evil.com".to_owned()]);
    misp.set_key("another");
    let error = synced(&misp, key.path(), dir.path(), 1_700_000_100).unwrap_err();
    assert!(matches!(&error, SyncError::Denied(why) if why.contains("key_file")), "{error}");
    // A day later everything would be fetched; it is not, and what is there stays.
    let error = synced(&misp, key.path(), dir.path(), 1_700_100_000).unwrap_err();
    assert!(matches!(error, SyncError::Denied(_)), "{error}");
    assert_eq!(known(dir.path(), &values).len(), 1);
    let names: Vec<_> = fs::read_dir(dir.path().join("intel")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_str().unwrap().ends_with(".tmp")), "{names:?}");
    misp.set_key(KEY);
    assert_eq!(synced(&misp, key.path(), dir.path(), 1_700_100_000).unwrap().whole, Some("the last whole fetch is old"));
}

#[test]
fn the_command_fetches_everything_and_then_what_has_changed() {
    let dir = tempfile::tempdir().unwrap();
    let rows = (0..25).map(|n| row("domain", format!("n{n}.evil.com"))).chain([row("comment", "nothing")]).collect();
    let misp = Misp::start(World { rows, ..World::default() });
    let key = key_file(KEY);
    let config = dir.path().join("shipper.toml");
    let text = format!(
        "[state]\ndir = {:?}\n[lookups.misp]\nkind = \"misp\"\ninputs = [\"ioc.known\"]\nurl = {:?}\nkey_file = {:?}\npage = 10\n",
        dir.path().join("state"),
        misp.url(),
        key.path()
    );
    fs::write(&config, text).unwrap();
    let run = |args: &[&str], code: i32| {
        let output = Command::new(env!("CARGO_BIN_EXE_shipper")).args(["intel"]).args(args).stdin(Stdio::null()).output().unwrap();
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(code), "{args:?}\n{out}\n{err}");
        out + &err
    };
    let config = config.to_str().unwrap();
    let told = run(&["sync", "--config", config], 0);
    assert!(told.starts_with("everything fetched (there was nothing yet): 26 attributes read\n25 indicators"), "{told}");
    assert!(told.contains("           1  nothing that an alert holds") && told.contains("generation 1 counts from now on"), "{told}");
    let told = run(&["sync", "--config", config], 0);
    assert!(told.starts_with("changes fetched: "), "{told}");
    let told: Value = serde_json::from_str(&run(&["sync", "--config", config, "--full", "--json"], 0)).unwrap();
    assert_eq!((&told["whole"], &told["why"], &told["status"]["generation"]), (&json!(true), &json!("asked for"), &json!(2)));
    assert!(run(&["lookup", "n7.evil.com", "--config", config], 0).contains("KNOWN (domain)"));
    let (url, state) = (misp.url(), dir.path().join("other"));
    let flags = ["sync", "--url", &url, "--key-file", key.path().to_str().unwrap(), "--state", state.to_str().unwrap()];
    assert!(run(&flags, 0).contains("25 indicators"));
    run(&["sync", "--url", &url], 64);
    assert!(run(&["sync", "--config", config, "--lookup", "no"], 74).contains("no lookup \"no\" of kind misp; known: misp"));
    misp.set_key("another");
    assert!(run(&["sync", "--config", config], 69).contains("MISP refuses the key"));
}

/// Verdicts as sets that can be compared: how it was found, and the attribute as records show it.
fn shown(verdicts: &[Verdict]) -> Vec<BTreeSet<String>> {
    let one = |verdict: &Verdict| match verdict {
        Verdict::Hit(hits) => hits.iter().map(|hit| format!("{} {:?}", hit.via.as_str(), hit.attribute)).collect(),
        Verdict::Miss => BTreeSet::new(),
        Verdict::Failed(why) => panic!("{why}"),
    };
    verdicts.iter().map(one).collect()
}

#[test]
fn a_mirror_answers_as_misp_does() {
    let dir = tempfile::tempdir().unwrap();
    let sum = "0123456789abcdef0123456789abcdef";
    let mut hidden = row("domain", "hidden.com");
    hidden.to_ids = false;
    let rows = vec![
        row("domain", "evil.com"),
        row("hostname", "www.evil.com"),
        row("domain|ip", "evil.com|45.155.205.233"),
        row("ip-src", "45.155.205.0/24"),
        row("ip-dst|port", "45.155.205.233|443"),
        row("url", "http://evil.com/A"),
        row("filename|md5", format!("a.exe|{sum}")),
        row("md5", sum.to_uppercase()),
        row("x509-fingerprint-md5", sum),
        row("email-src", "bob@evil.com"),
        row("ip-dst", "2001:4860::8"),
        row("domain", "évil.com"),
        hidden,
    ];
    let misp = Misp::start(World { rows, ..World::default() });
    let key = key_file(KEY);
    synced(&misp, key.path(), dir.path(), 1_700_000_000).unwrap();
    let mut settings = settings(&misp, key.path(), "");
    settings.limits.networks_every = Some(3_600_000_000_000);
    let tables = Tables::load(&RealDisk::new(), dir.path()).unwrap().unwrap();
    on_edge(async move |on, standing| {
        let questions = [
            ("domain", "evil.com"),
            ("domain", "a.www.evil.com"),
            ("domain", "hidden.com"),
            ("domain", "evil.com.br"),
            ("url", "http://www.evil.com/A"),
            ("url", "http://evil.com/A"),
            ("url", "http://evil.com/a"),
            ("url", "http://45.155.205.233:8080/"),
            ("ip", "45.155.205.233"),
            ("ip", "45.155.205.7"),
            ("ip", "45.155.206.7"),
            ("ip", "2001:4860::8"),
            ("md5", sum),
            ("imphash", sum),
            ("email", "bob@evil.com"),
            ("sha1", "0123456789abcdef0123456789abcdef01234567"),
        ];
        let client = misp::Client::start(&settings, on.clone(), standing.clone());
        let asked = ask_all(&client, questions.iter().map(|(kind, value)| (*kind, (*value).to_owned()))).await;
        let calls = misp.searches().len();
        let held = Arc::new(Held::default());
        held.put(Arc::new(tables));
        let mirror = Mirror::start(&settings, held, on, standing);
        let mut mirrored = Vec::new();
        for (kind, value) in questions {
            let verdict = std::rc::Rc::new(std::cell::RefCell::new(None));
            let into = verdict.clone();
            mirror.ask_then(kind, value, move |given| *into.borrow_mut() = Some(given));
            mirrored.push(verdict.take().expect("it is answered at once"));
        }
        let (asked, mirrored) = (shown(&asked), shown(&mirrored));
        for ((question, asked), mirrored) in questions.iter().zip(&asked).zip(&mirrored) {
            assert_eq!(mirrored, asked, "{question:?}");
        }
        assert!(asked.iter().filter(|found| !found.is_empty()).count() == 12, "{asked:?}");
        assert_eq!(misp.searches().len(), calls, "the mirror calls nobody");
    });
}
