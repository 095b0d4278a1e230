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
    drop(agent);
}
