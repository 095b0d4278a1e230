//! The lookup `misp` against a stand-in of MISP, over real connections.

use std::{rc::Rc, time::Duration};

use shipper::{
    lookups::misp::{
        self,
        answer::Outcome,
        core::Verdict,
        query::Pass,
        session::{Session, Sync, Version},
    },
    metrics::State,
};

use crate::misp_standin::{Fault, KEY, Misp, World, ask_all, key_file, on_edge, row, settings, until};

fn is_hit(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Hit(_))
}

/// A thousand indicators, 829 of them known to MISP; question n is about indicator n % 1000.
fn thousand() -> World {
    World { rows: (0..829).map(|n| row("domain", format!("n{n}.evil.example"))).collect(), ..World::default() }
}

fn questions(count: usize) -> impl Iterator<Item = (&'static str, String)> {
    (0..count).map(|n| ("domain", format!("n{}.evil.example", n % 1000)))
}

#[track_caller]
fn are_right(verdicts: &[Verdict]) {
    for (n, verdict) in verdicts.iter().enumerate() {
        assert!(!matches!(verdict, Verdict::Failed(_)), "{n}: {verdict:?}");
        assert_eq!(is_hit(verdict), n % 1000 < 829, "{n}: {verdict:?}");
    }
}

#[test]
fn twenty_thousand_questions_are_answered_with_ten_calls_at_most() {
    let misp = Misp::start(thousand());
    let key = key_file(KEY);
    let settings = settings(&misp, key.path(), "parents = false\n");
    on_edge(async move |on, standing| {
        let client = misp::Client::start(&settings, on, standing.clone());
        let verdicts = ask_all(&client, questions(20_000)).await;
        are_right(&verdicts);
        assert_eq!((verdicts.len(), verdicts.iter().filter(|v| is_hit(v)).count()), (20_000, 829 * 20));
        let searches = misp.searches();
        assert!(searches.len() <= 10, "{}", searches.len());
        assert!(searches.iter().all(|body| body["value"]["OR"].is_array() && body["to_ids"] == 1 && body["enforceWarninglist"] == 1));
        let Verdict::Hit(hits) = &verdicts[7] else { unreachable!() };
        let hit = &hits[0].attribute;
        assert_eq!((&*hit.event_info, &*hit.kind, &*hit.value, &*hit.tags[0]), ("Emotet, again", "domain", "n7.evil.example", "tlp:green"));
        assert_eq!(standing.get(), State::Ready);
        // Again: from the cache, and hits all the same.
        are_right(&ask_all(&client, questions(1000)).await);
        assert_eq!(misp.searches().len(), searches.len());
    });
}

#[test]
fn errors_hangs_resets_and_an_outage_lose_nothing() {
    let world = World { faults: vec![(1, Fault::Status(500)), (1, Fault::Hang), (5, Fault::Reset), (2, Fault::Half)], ..thousand() };
    let misp = Misp::start(world);
    let key = key_file(KEY);
    let mut settings = settings(&misp, key.path(), "batch = 5\nparents = false\n");
    settings.http.timeout = Duration::from_millis(500);
    on_edge(async move |on, standing| {
        let client = Rc::new(misp::Client::start(&settings, on.clone(), standing.clone()));
        let asking = client.clone();
        let (send, mut done) = tokio::sync::oneshot::channel();
        on.spawn(
            "ask",
            Box::pin(async move {
                let _ = send.send(ask_all(&asking, questions(3000)).await);
            }),
        );
        until(|| misp.searches().len() > 30).await;
        misp.out(true);
        until(|| matches!(standing.get(), State::Retrying(_))).await;
        assert!(done.try_recv().is_err(), "nothing is skipped while MISP is away");
        misp.out(false);
        are_right(&done.await.unwrap());
        assert_eq!(standing.get(), State::Ready);
        let counts = client.counts();
        assert!(counts.failures > 0 && counts.given_up == 0, "{counts:?}");
    });
}

#[test]
fn its_own_limit_is_heeded() {
    let misp = Misp::start(World { limit: Some((3, Duration::from_secs(1))), ..thousand() });
    let key = key_file(KEY);
    let settings = settings(&misp, key.path(), "connections = 2\nparents = false\n");
    on_edge(async move |on, standing| {
        let client = misp::Client::start(&settings, on, standing);
        are_right(&ask_all(&client, questions(1000)).await);
        assert!((1..=2).contains(&misp.limited()), "those in flight at the first 429, no more: {}", misp.limited());
        assert_eq!(client.counts().limited, misp.limited());
    });
}

#[test]
fn a_wrong_key_holds_with_one_clear_message_until_it_is_mended() {
    let misp = Misp::start(thousand());
    let key = key_file("wrong");
    let settings = settings(&misp, key.path(), "parents = false\n");
    let path = key.path().to_owned();
    on_edge(async move |on, standing| {
        let client = Rc::new(misp::Client::start(&settings, on.clone(), standing.clone()));
        let asking = client.clone();
        let (send, mut done) = tokio::sync::oneshot::channel();
        on.spawn(
            "ask",
            Box::pin(async move {
                let _ = send.send(ask_all(&asking, questions(1000)).await);
            }),
        );
        until(|| matches!(standing.get(), State::Holding(_))).await;
        let State::Holding(why) = standing.get() else { unreachable!() };
        assert!(why.starts_with("MISP refuses the key with 403 (Authentication failed") && why.contains("key_file"), "{why}");
        assert!(!why.contains("wrong"), "the key is never shown");
        let refusals = misp.refusals();
        assert!(refusals <= 4, "{refusals} searches in flight, no more");
        until(|| misp.refusals() >= 6).await;
        assert!(done.try_recv().is_err());
        std::fs::write(&path, format!("{KEY}\n")).unwrap();
        are_right(&done.await.unwrap());
        assert_eq!((standing.get(), client.counts().failures), (State::Ready, 0));
    });
}

#[test]
fn bad_values_are_found_alone_and_the_others_get_their_answers() {
    let refused = ["n3.evil.example", "n950.evil.example"].map(str::to_owned).into();
    let misp = Misp::start(World { refused, ..thousand() });
    let key = key_file(KEY);
    let settings = settings(&misp, key.path(), "parents = false\n");
    on_edge(async move |on, standing| {
        let client = misp::Client::start(&settings, on, standing);
        let verdicts = ask_all(&client, questions(1000)).await;
        let failed: Vec<_> = verdicts.iter().enumerate().filter(|(_, v)| matches!(v, Verdict::Failed(_))).collect();
        let why = Verdict::Failed("MISP answers 400 (Invalid value)".into());
        assert_eq!(failed, [(3, &why), (950, &why)]);
        assert_eq!(verdicts.iter().filter(|v| is_hit(v)).count(), 828);
        assert!(misp.searches().len() <= 5 + 2 * 16 + 1, "{}", misp.searches().len());
    });
}

#[test]
fn answers_that_are_none_are_no_verdicts() {
    let rows: [(Fault, &str); 6] = [
        (Fault::Html, "retrying: MISP answers with a page of HTML"),
        (Fault::Half, "broke off in its answer"),
        (Fault::Endless, "the answer is longer than 1000000 bytes"),
        (Fault::Redirect, "holding: MISP redirects to /users/login"),
        (Fault::Hang, "does not answer in time"),
        (Fault::Status(404), "holding: MISP answers 404; url must be its base"),
    ];
    for (fault, expected) in rows {
        let misp = Misp::start(World { faults: vec![(100, fault)], ..thousand() });
        let key = key_file(KEY);
        let mut settings = settings(&misp, key.path(), "parents = false\n");
        settings.http.body_max = 1_000_000;
        settings.http.timeout = Duration::from_millis(500);
        on_edge(async move |on, standing| {
            let client = misp::Client::start(&settings, on, standing.clone());
            let question = client.ask("domain", "n1.evil.example");
            let trouble = async {
                until(|| standing.get().to_string().contains(expected)).await;
                misp.change(|world| world.faults.clear());
            };
            let (verdict, ()) = tokio::join!(question, trouble);
            assert!(is_hit(&verdict), "{fault:?}: {verdict:?}");
        });
    }
}

#[test]
fn another_value_than_the_one_asked_for_is_a_miss() {
    let misp = Misp::start(World { rows: vec![row("domain", "évil.example")], ..World::default() });
    let key = key_file(KEY);
    let settings = settings(&misp, key.path(), "parents = false\n");
    on_edge(async move |on, standing| {
        let client = misp::Client::start(&settings, on, standing);
        assert_eq!(client.ask("domain", "evil.example").await, Verdict::Miss, "MISP's collation calls them equal");
        misp.change(|world| world.faults = vec![(100, Fault::OtherValue)]);
        assert_eq!(client.ask("domain", "other.example").await, Verdict::Miss);
        assert_eq!(client.counts().foreign_rows, 2);
    });
}

#[test]
fn networks_parents_hosts_and_parts_are_found() {
    let rows = vec![
        row("ip-src", "192.0.2.0/24"),
        row("domain", "evil.co.uk"),
        row("filename|sha256", format!("a.exe|{}", "ab".repeat(32))),
        row("url", "HTTP://Evil.co.uk/X"),
    ];
    let misp = Misp::start(World { rows, ..World::default() });
    let key = key_file(KEY);
    let mut settings = settings(&misp, key.path(), "");
    settings.limits.networks_every = Some(u64::MAX);
    on_edge(async move |on, standing| {
        let client = misp::Client::start(&settings, on, standing);
        let hits = async |kind, value: &str| match client.ask(kind, value).await {
            Verdict::Hit(hits) => hits.iter().map(|hit| format!("{} {}", hit.via.as_str(), hit.attribute.id)).collect(),
            Verdict::Miss => Vec::new(),
            Verdict::Failed(why) => vec![why],
        };
        assert_eq!(hits("ip", "192.0.2.77").await, ["network 0"]);
        assert_eq!(hits("ip", "192.0.3.77").await, [] as [&str; 0]);
        assert_eq!(hits("domain", "a.b.evil.co.uk").await, ["parent 1"]);
        assert_eq!(hits("sha256", &"AB".repeat(32)).await, ["value 2"]);
        assert_eq!(hits("url", "http://evil.co.uk/X").await, ["host 1", "value 3"]);
        assert_eq!(hits("url", "http://evil.co.uk/x").await, ["host 1"], "a path has a case");
        assert_eq!(hits("url", "http://192.0.2.1/%").await, ["network 0"]);
    });
}

#[test]
fn seen_values_are_told_once() {
    let misp = Misp::start(World { may_sight: true, ..thousand() });
    let key = key_file(KEY);
    let settings = settings(&misp, key.path(), "parents = false\nsightings = true\n");
    on_edge(async move |on, standing| {
        let client = misp::Client::start(&settings, on, standing);
        ask_all(&client, (0..100).map(|_| ("domain", "n1.evil.example".to_owned()))).await;
        ask_all(&client, [("domain", "n900.evil.example".to_owned())]).await;
        until(|| !misp.sighted().is_empty()).await;
        let sighted = misp.sighted();
        assert_eq!(sighted.len(), 1);
        assert_eq!(
            (&sighted[0]["values"], &sighted[0]["source"]),
            (&serde_json::json!(["n1.evil.example"]), &serde_json::json!("shipper"))
        );
    });
}

#[test]
fn a_synchronisation_brings_every_row_and_then_only_what_changed() {
    let mut world = thousand();
    world.rows[5].timestamp += 100;
    (world.rows[6].timestamp, world.rows[6].deleted) = (1_700_000_200, true);
    let misp = Misp::start(world);
    let key = key_file(KEY);
    let settings = settings(&misp, key.path(), "page = 100\n");
    on_edge(async move |_, _| {
        let session = Rc::new(Session::new(settings.http, settings.key_file, settings.filters, settings.limits.page_rows));
        assert_eq!(session.version().await, Ok(Version { version: "2.5.1".into(), may_sight: false }));
        let all = async |pass| {
            let (mut sync, mut rows) = (Sync::of(session.clone(), pass), Vec::new());
            while let Some(page) = sync.next().await.unwrap() {
                rows.extend(page);
            }
            rows
        };
        assert_eq!(all(Pass::All).await.len(), 828, "one is deleted");
        let changed: Vec<_> = all(Pass::Changed(1_700_000_100)).await.into_iter().map(|row| (row.value.to_string(), row.deleted)).collect();
        assert_eq!(changed, [("n5.evil.example".to_owned(), false), ("n6.evil.example".to_owned(), true)]);
        misp.set_key("another");
        let why = session.version().await.unwrap_err();
        assert!(why.contains("403") && why.contains("key_file"), "{why}");
        assert!(matches!(Sync::of(session.clone(), Pass::All).next().await, Err(Outcome::Denied(_))));
    });
}

/// Lines as handler `ioc` writes them, passed on by `forward`: `count` messages of two names each.
fn messages(from: usize, count: usize) -> String {
    let line = |n: usize| {
        let ioc = |n: usize| format!(r#"{{"type":"domain","value":"n{}.evil.example","field":"data.url","confidence":0.8}}"#, n % 1000);
        format!("{{\"alert_id\":\"{n}\",\"iocs\":[{},{}],\"timestamp\":\"2026-03-14T05:25:12.004Z\"}}\n", ioc(n), ioc(n + 500))
    };
    (from..from + count).map(line).collect()
}

#[test]
fn an_agent_ships_a_match_for_each_known_indicator_and_waits_for_misp() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let misp = Misp::start(World { refused: ["n999.evil.example".to_owned()].into(), ..thousand() });
    let key = key_file("wrong");
    std::fs::write(path("in"), messages(0, 1500)).unwrap();
    let text = format!(
        "[sources.in]\nkind = \"file\"\npath = {:?}\nstart_at = \"beginning\"\n\
         [handlers.all]\nkind = \"forward\"\ninputs = [\"in\"]\n\
         [lookups.intel]\nkind = \"misp\"\ninputs = [\"all\"]\nurl = {:?}\nkey_file = {:?}\n\
         [sinks.out]\nkind = \"file\"\ninputs = [\"intel\"]\npath = {:?}\n\
         [sinks.gaps]\nkind = \"file\"\ninputs = [\"intel.failed\"]\npath = {:?}\n",
        path("in"),
        misp.url(),
        key.path(),
        path("out"),
        path("gaps")
    );
    let agent = crate::agent::start(&text, &path("state"), shipper::io::Engine::Pread);
    let lines = |name: &str| -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path(name)).unwrap_or_default();
        // A write in the making may be seen in part.
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    crate::agent::until("the key is refused", || misp.refusals() > 0);
    assert_eq!(lines("out").len(), 0);
    // What was mended is taken at the next try, half a minute later; a person would start anew.
    drop(agent);
    std::fs::write(key.path(), KEY).unwrap();
    let agent = crate::agent::start(&text, &path("state"), shipper::io::Engine::Pread);
    let known = |n: usize| [n, n + 500].into_iter().filter(|n| n % 1000 < 829).count();
    let expected: usize = (0..1500).map(known).sum();
    crate::agent::until("every match is there", || lines("out").len() >= expected);
    let out = lines("out");
    assert_eq!(out.len(), expected);
    let first: Vec<_> = out.iter().filter(|record| record["alert_id"] == "0").collect();
    for (record, name) in first.iter().zip(["n0.evil.example", "n500.evil.example"]) {
        assert_eq!((&record["misp"]["value"], &record["ioc"]["value"]), (&name.into(), &name.into()));
        assert_eq!((&record["full_alert"]["alert_id"], first.len()), (&"0".into(), 2), "the record as it was read");
        assert_eq!(record["misp"]["event_info"], "Emotet, again");
    }
    let gaps = lines("gaps");
    let of_bad: std::collections::BTreeSet<_> = gaps.iter().map(|gap| gap["alert_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(of_bad, ["499", "999", "1499"].map(str::to_owned).into());
    assert!(gaps.iter().all(|gap| gap["error"] == "MISP answers 400 (Invalid value)"));
    let text = |line: &str| {
        let text = agent.metrics.text();
        text.lines()
            .find_map(|l| l.strip_prefix(line)?.strip_prefix(' ')?.parse::<f64>().ok())
            .unwrap_or_else(|| panic!("no {line} in\n{text}"))
    };
    let of = |name: &str, labels: &str| text(&format!("shipper_misp_{name}{{component=\"lookups.intel\"{labels}}}"));
    let answered = |answer: &str| of("answered_indicators_total", &format!(",answer=\"{answer}\""));
    crate::agent::until("the last answer is counted", || of("open_indicators", "") == 0.0);
    assert_eq!(of("asked_indicators_total", ",type=\"domain\""), 3000.0);
    assert_eq!((answered("hit"), answered("failed")), (expected as f64, 3.0));
    assert_eq!(answered("hit") + answered("miss") + answered("failed"), 3000.0);
    let searches = ["first", "page", "again"].map(|kind| of("searches_total", &format!(",kind=\"{kind}\"")));
    assert_eq!(searches.iter().sum::<f64>(), misp.searches().len() as f64);
    assert_eq!((of("failed_searches_total", ",reason=\"denied\""), of("breaker_open", "")), (0.0, 0.0));
    assert!(of("failed_searches_total", ",reason=\"refused\"") >= 1.0 && of("cache_entries", "") >= 829.0);
    assert!(
        agent
            .metrics
            .figures()
            .iter()
            .any(|(name, said)| name == "lookups.intel" && said.contains("misp_asked_indicators{type=domain} 3000"))
    );
    drop(agent);
}

/// A lookup with a spool over messages of a file.
struct Outage {
    dir: tempfile::TempDir,
    misp: Misp,
    key: tempfile::NamedTempFile,
}

impl Outage {
    fn new(key: &str) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), misp: Misp::start(thousand()), key: key_file(key) }
    }
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }
    fn config(&self, while_away: &str) -> String {
        format!(
            "[state]\ndir = {:?}\n[sources.in]\nkind = \"file\"\npath = {:?}\nstart_at = \"beginning\"\n\
             [handlers.all]\nkind = \"forward\"\ninputs = [\"in\"]\n\
             [lookups.intel]\nkind = \"misp\"\ninputs = [\"all\"]\nurl = {:?}\nkey_file = {:?}\nwhile_away = \"{while_away}\"\n\
             timeout = \"2s\"\nbreaker.failures = 1\nbreaker.wait_max = \"1s\"\nnetworks_every = \"0\"\nrate = 0\n\
             [sinks.out]\nkind = \"file\"\ninputs = [\"intel\"]\npath = {:?}\nfsync = false\n",
            self.path("state"),
            self.path("in"),
            self.misp.url(),
            self.key.path(),
            self.path("out")
        )
    }
    fn start(&self, while_away: &str) -> crate::agent::Started {
        crate::agent::start(&self.config(while_away), &self.path("state"), shipper::io::Engine::Pread)
    }
    /// What `state show` says.
    fn state(&self) -> serde_json::Value {
        let shown = std::process::Command::new(env!("CARGO_BIN_EXE_shipper"))
            .args(["state", "show", "--json", "--dir"])
            .arg(self.path("state"))
            .output()
            .unwrap();
        serde_json::from_slice(&shown.stdout).unwrap_or_default()
    }
    /// Messages in the spool, and how far the source is.
    fn spooled(&self) -> (u64, u64) {
        let state = self.state();
        let read = state["positions"].as_array().into_iter().flatten().find(|row| row["source"] == "in");
        (state["spools"][0]["messages"].as_u64().unwrap_or(0), read.and_then(|row| row["offset"].as_u64()).unwrap_or(0))
    }
    fn spool_bytes(&self) -> u64 {
        let files = std::fs::read_dir(self.path("state").join("spool")).into_iter().flatten().flatten();
        // One that is worked off meanwhile is gone.
        files.map(|file| file.metadata().map_or(0, |of| of.len())).sum()
    }
    /// Alert and value of every match so far.
    fn matches(&self) -> std::collections::BTreeSet<(usize, String)> {
        let text = std::fs::read_to_string(self.path("out")).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let of = |line: &str| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(record["full_alert"]["alert_id"], record["alert_id"], "the record as it was read: {line}");
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            (text(&record["alert_id"]).parse().unwrap(), text(&record["ioc"]["value"]))
        };
        whole.map(of).collect()
    }
}

/// Every match that messages `0..count` must give.
fn matches_of(count: usize) -> std::collections::BTreeSet<(usize, String)> {
    let values = |n: usize| [n, n + 500].into_iter().map(|n| n % 1000).filter(|n| *n < 829).map(|n| format!("n{n}.evil.example"));
    (0..count).flat_map(|n| values(n).map(move |value| (n, value))).collect()
}

#[track_caller]
fn adds_up(metrics: &shipper::metrics::Metrics) {
    for (source, branch, counts) in metrics.branches() {
        assert_eq!((counts.imbalance(), counts.in_flight.get()), (0, 0), "{source}/{branch}");
    }
}

#[test]
fn an_outage_fills_the_spool_over_kills_and_every_known_indicator_is_told_when_misp_is_back() {
    let outage = Outage::new(KEY);
    outage.misp.out(true);
    let config = outage.path("shipper.toml");
    std::fs::write(&config, outage.config("spool")).unwrap();
    let mut text = String::new();
    let mut written = 0;
    for count in [3000, 2000] {
        text += &messages(written, count);
        written += count;
        std::fs::write(outage.path("in"), &text).unwrap();
        let mut agent = std::process::Command::new(env!("CARGO_BIN_EXE_shipper"))
            .args(["run", "--config"])
            .arg(&config)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        crate::agent::until("the source reads to its end, and all of it is in the spool", || {
            let (messages, offset) = outage.spooled();
            offset == text.len() as u64 && messages >= written as u64
        });
        agent.kill().unwrap();
        agent.wait().unwrap();
    }
    assert_eq!(outage.matches().len(), 0);
    // The third life begins while MISP is still away.
    let more = messages(written, 1000);
    written += 1000;
    std::fs::write(outage.path("in"), text + &more).unwrap();
    let agent = outage.start("spool");
    let counts = agent.metrics.branch("in", "all");
    crate::agent::until("the rest is put by", || counts.dropped.each() == [("spooled", more.len() as u64)]);
    assert_eq!((counts.read.get(), counts.in_flight.get(), counts.imbalance()), (more.len() as u64, 0, 0));
    let in_spool = outage.spool_bytes();
    assert!(in_spool > 6000 * 100, "{in_spool}");
    assert!(agent.metrics.text().contains(&format!("shipper_spool_stored_bytes{{component=\"sources.intel:spool\"}} {in_spool}\n")));
    outage.misp.out(false);
    let expected = matches_of(written);
    crate::agent::until("every known indicator is told", || outage.matches() == expected);
    crate::agent::until("the spool is empty", || outage.spool_bytes() == 0);
    let again = agent.metrics.branch("intel:spool", "intel:spool");
    assert!(again.read.get() >= messages(0, written).len() as u64, "every record once at least");
    assert!(agent.agent.drain());
    adds_up(&agent.metrics);
    assert_eq!((outage.spooled().0, outage.state()["spools"][0]["bytes"].as_u64()), (0, Some(0)));
    let spooled = agent.metrics.text();
    assert!(spooled.contains("shipper_spooled_messages_total{component=\"lookups.intel\"} 1000\n"), "{spooled}");
}

#[test]
fn a_wrong_key_stops_no_reading_and_what_the_disk_damaged_of_a_spool_is_in_the_dead_letter() {
    let outage = Outage::new("wrong");
    let text = messages(0, 2000);
    std::fs::write(outage.path("in"), &text).unwrap();
    let agent = outage.start("spool");
    let counts = agent.metrics.branch("in", "all");
    crate::agent::until("all is put by", || counts.dropped.total() == text.len() as u64);
    let state = agent.board.standings().into_iter().find(|(name, _)| name == "lookups.intel").unwrap().1;
    assert!(matches!(&state, State::Holding(why) if why.contains("key_file")), "{state}");
    let begun = std::time::Instant::now();
    assert!(agent.agent.drain(), "what is on disk owes nothing to a stop");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    adds_up_but_kept(&agent.metrics);
    assert_eq!(outage.spooled(), (2000, text.len() as u64));

    // A byte in the middle: of one message.
    let segment = std::fs::read_dir(outage.path("state").join("spool")).unwrap().flatten().next().unwrap().path();
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    assert!(outage.state()["spools"][0]["damaged_bytes"].as_u64().unwrap() > 0);
    std::fs::write(outage.key.path(), KEY).unwrap();
    // What is left is worked off, whatever the config says now.
    let agent = outage.start("wait");
    crate::agent::until("the spool is empty", || outage.spool_bytes() == 0);
    let again = agent.metrics.branch("intel:spool", "intel:spool");
    assert!(agent.agent.drain());
    adds_up(&agent.metrics);
    assert_eq!(again.dead_letter.each().iter().map(|(reason, _)| *reason).collect::<Vec<_>>(), ["spool_damaged"]);
    let (found, expected) = (outage.matches(), matches_of(2000));
    let lost: std::collections::BTreeSet<usize> = expected.difference(&found).map(|(alert, _)| *alert).collect();
    assert!(found.is_subset(&expected) && lost.len() == 1, "{lost:?}");
}

/// The sums, where what a spool keeps may be in flight.
#[track_caller]
fn adds_up_but_kept(metrics: &shipper::metrics::Metrics) {
    for (source, branch, counts) in metrics.branches() {
        assert_eq!(counts.imbalance(), 0, "{source}/{branch}");
        assert!(counts.in_flight.get() == 0 || source == "intel:spool", "{source}/{branch}");
    }
}
