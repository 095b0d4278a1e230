//! A naive twin, the scenario of the corpus, and lines that are broken.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, reason = "tests state what must hold")]
#![allow(clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]

use std::{collections::BTreeSet, fs, path::Path};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    related::{community_id, is_within},
    *,
};
use crate::{
    limits,
    scan::{corpus, task::RelPath, zeek},
};

const SECOND: i64 = 1_000_000_000;

fn event(line: &Value) -> Event {
    event::read(line.as_object().unwrap()).unwrap().unwrap()
}

fn held(lines: &[Value]) -> Held {
    let mut held = Held::new(&Correlate::default());
    for (n, line) in lines.iter().enumerate() {
        held.put(event(line), n as u64);
    }
    held
}

fn alert(at: &str, src: &str, dest: &str) -> Value {
    let end = |text: &str| text.parse::<SocketAddr>().unwrap();
    json!({"timestamp": at, "event_type": "alert", "flow_id": 7, "proto": "TCP",
        "src_ip": end(src).ip(), "src_port": end(src).port(), "dest_ip": end(dest).ip(), "dest_port": end(dest).port(),
        "alert": {"gid": 1, "signature_id": 5, "signature": "x", "severity": 2, "action": "allowed", "category": ""}})
}

fn transfer() -> Transfer {
    Transfer {
        flows: vec![("192.0.2.1:1000".parse().unwrap(), "198.51.100.1:80".parse().unwrap())],
        hosts: vec!["192.0.2.1".parse().unwrap()],
        span: Some((1_767_322_800 * SECOND, 1_767_322_810 * SECOND)),
        sha256: "aa".repeat(32),
        md5: String::new(),
    }
}

#[test]
fn the_community_id_is_that_of_the_specification() {
    // The TCP example of the specification's baseline.
    let (a, b) = ("128.232.110.120:34855".parse().unwrap(), "66.35.250.204:80".parse().unwrap());
    assert_eq!(community_id(a, b, 6), "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
    assert_eq!(community_id(b, a, 6), "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
}

#[test]
fn the_strongest_relation_is_told_within_its_reach() {
    let (here, there) = ("192.0.2.1:1000", "198.51.100.1:80");
    let hash = json!({"timestamp": "2026-01-02T03:00:00+0000", "event_type": "fileinfo", "flow_id": 9,
        "fileinfo": {"sha256": "AA".repeat(32), "tx_id": 3}});
    let id = json!({"timestamp": "2026-01-02T03:00:00+0000", "event_type": "alert", "flow_id": 9,
        "community_id": community_id(here.parse().unwrap(), there.parse().unwrap(), 17), "alert": {"signature_id": "12"}});
    let cases = [
        (alert("2026-01-02T03:00:00+0000", here, there), Some((Way::Flow, "7/-/1:5"))),
        (alert("2026-01-02T03:00:00+0000", there, here), Some((Way::Flow, "7/-/1:5"))),
        (alert("2026-01-02T02:55:00+0000", there, here), Some((Way::Flow, "7/-/1:5"))), // 300 s before the first byte
        (alert("2026-01-02T02:54:59+0000", there, here), None),
        (alert("2026-01-02T03:05:10+0000", there, here), Some((Way::Flow, "7/-/1:5"))), // and after the last
        (alert("2026-01-02T03:05:11+0000", there, here), None),
        (alert("2026-01-02T05:00:00+0200", there, here), Some((Way::Flow, "7/-/1:5"))),
        (alert("2026-01-02T03:00:00+0200", there, here), None),
        (alert("2026-01-02T03:01:10+0000", here, "203.0.113.1:80"), Some((Way::HostAndTime, "7/-/1:5"))),
        (alert("2026-01-02T03:01:11+0000", here, "203.0.113.1:80"), None),
        (alert("2026-01-02T03:00:00+0000", "203.0.113.2:1", "203.0.113.1:80"), None), // time alone
        (alert("2026-01-02T03:00:00+0000", "[::ffff:192.0.2.1]:1000", there), Some((Way::Flow, "7/-/1:5"))),
        (hash, Some((Way::Hash, "9/3/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"))),
        (id, Some((Way::Flow, "9/-/0:12"))),
    ];
    for (line, expected) in &cases {
        let found = held(std::slice::from_ref(line)).related(&transfer());
        let found: Vec<(Way, &str)> = found.iter().map(|relation| (relation.by, relation.key.as_str())).collect();
        let expected: Vec<(Way, &str)> = expected.map(|(way, key)| (way, key.get(..36).unwrap_or(key))).into_iter().collect();
        let found: Vec<(Way, &str)> = found.into_iter().map(|(way, key)| (way, key.get(..36).unwrap_or(key))).collect();
        assert_eq!(found, expected, "{line}");
    }
    let twice = held(&[cases[0].0.clone(), cases[0].0.clone(), cases[8].0.clone()]);
    assert_eq!(twice.related(&transfer()).len(), 1, "one key, one relation");
    let nothing = Transfer { span: None, ..transfer() };
    assert!(twice.related(&nothing).is_empty(), "no time, no relation by what comes again");
    let same_bytes = held(std::slice::from_ref(&cases[12].0)).related(&nothing);
    assert_eq!(same_bytes.iter().map(|relation| relation.by).collect::<Vec<_>>(), [Way::Hash], "the same bytes are the same bytes");
    let mut strict = Held::new(&Correlate { confidence_min: 90, ..Correlate::default() });
    strict.put(event(&cases[8].0), 0);
    assert!(strict.related(&transfer()).is_empty(), "below confidence_min nothing is shown");

    let shown = serde_json::to_value(&held(&[cases[0].0.clone()]).related(&transfer())[0]).unwrap();
    for (name, expected) in [("by", json!("flow")), ("confidence", json!(95)), ("signature_id", json!(5)), ("event_type", json!("alert"))] {
        assert_eq!(shown[name], expected, "{name}");
    }
}

#[test]
fn what_came_two_windows_ago_or_is_too_much_goes() {
    let line = alert("2026-01-02T03:00:00+0000", "192.0.2.1:1", "192.0.2.1:1");
    let mut held = Held::new(&Correlate::default());
    held.put(event(&line), 0);
    held.put(event(&line), 100 * SECOND as u64);
    held.forget(600 * SECOND as u64);
    assert_eq!(held.count(), (1, 0));
    held.forget(700 * SECOND as u64);
    assert_eq!(held.count(), (0, 0));
    for n in 0..limits::SCAN_EVE_EVENTS_MAX as u64 + 10 {
        held.put(event(&line), 700 * SECOND as u64 + n);
    }
    assert_eq!(held.count(), (limits::SCAN_EVE_EVENTS_MAX, 10));
    held.forget(u64::MAX);
    assert!(held.related(&transfer()).is_empty());
    assert_eq!(format!("{held:?}").matches("Host(").count(), 0, "nothing is left behind in the index");
}

/// Looks at every event in turn.
fn naive(events: &[Event], to: &Transfer, settings: &Correlate) -> Vec<(u64, Way)> {
    let (window, proximity) = (settings.window_s * SECOND as u64, settings.proximity_s * SECOND as u64);
    let mut found = Vec::new();
    for event in events {
        let same = |(a, b): &(SocketAddr, SocketAddr)| event.flow().is_some_and(|(c, d)| (*a, *b) == (c, d) || (*b, *a) == (c, d));
        let has_digest = event.sha256.as_ref().is_some_and(|sha256| *sha256 == to.sha256);
        let has_host = event.hosts().any(|host| to.hosts.contains(&host) || to.flows.iter().any(|(a, b)| [a.ip(), b.ip()].contains(&host)));
        let way = if to.flows.iter().any(same) && is_within(event.at, to, window) {
            Way::Flow
        } else if has_digest && (to.span.is_none() || is_within(event.at, to, window)) {
            Way::Hash
        } else if has_host && is_within(event.at, to, proximity) {
            Way::HostAndTime
        } else {
            continue;
        };
        found.push((event.flow_id, way));
    }
    found
}

proptest! {
    #[test]
    fn the_index_agrees_with_its_naive_twin(
        events in prop::collection::vec((0..800i64, 0..4u8, 0..4u8, 0..2u16, 0..3u8), 0..40),
        from in prop::option::weighted(0.8, 0..800i64), lasts in 0..200i64, flow in (0..4u8, 0..4u8, 0..2u16), host in 0..4u8, digest in 0..3u8, forget in 0..40u64,
    ) {
        let end = |host: u8, port: u16| SocketAddr::new(IpAddr::from([192, 0, 2, host]), port);
        let sha256 = |n: u8| format!("{n:02x}").repeat(32);
        let events: Vec<Event> = events.into_iter().enumerate().map(|(n, (at, a, b, port, digest))| {
            let mut event = event(&alert("2026-01-02T03:00:00+0000", &end(a, port).to_string(), &end(b, 80).to_string()));
            (event.at, event.flow_id) = (at * SECOND, n as u64);
            event.sha256 = (digest > 0).then(|| sha256(digest));
            event
        }).collect();
        let to = Transfer {
            flows: vec![(end(flow.0, flow.2), end(flow.1, 80))],
            hosts: vec![end(host, 0).ip()],
            span: from.map(|from| (from * SECOND, (from + lasts) * SECOND)),
            sha256: if digest > 0 { sha256(digest) } else { String::new() },
            md5: String::new(),
        };
        let settings = Correlate::default();
        let mut held = Held::new(&settings);
        for (n, event) in events.iter().enumerate() {
            held.put(event.clone(), n as u64);
        }
        // Those that came first are gone.
        held.forget(2 * settings.window_s * SECOND as u64 + forget);
        let left = events.get((forget as usize + 1).min(events.len())..).unwrap();
        let found: Vec<(u64, Way)> = held.related(&to).into_iter().map(|relation| (relation.event.flow_id, relation.by)).collect();
        prop_assert_eq!(found, naive(left, &to, &settings));
    }
}

/// The logs of a folder, read whole.
fn logs(folder: &Path) -> (zeek::Logs, Eve) {
    let (mut zeek, mut eve) = (zeek::Logs::new(folder), Eve::new(folder.join("eve.ndjson"), &Correlate::default()));
    zeek.refresh(0).1.unwrap();
    eve.refresh(0).unwrap();
    (zeek, eve)
}

#[test]
fn the_scenario_comes_out_as_it_says() {
    let Some(scenario) = corpus::path("zeek/scenario") else { return };
    // Once by the TSV log, once by the JSON one.
    for name in ["files.log", "files.ndjson"] {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(scenario.join(name), dir.path().join("files.log")).unwrap();
        fs::copy(scenario.join("eve.ndjson"), dir.path().join("eve.ndjson")).unwrap();
        let (zeek, eve) = logs(dir.path());
        let expected = fs::read_to_string(scenario.join("expected.jsonl")).unwrap();
        let mut rows = 0;
        for line in expected.lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            let Some(file) = row["file"].as_str() else { continue }; // not extracted, so never a task
            rows += 1;
            let (text, note) = (|name: &str| row[name].as_str().unwrap_or_default(), row["note"].as_str().unwrap());
            let path = RelPath(file.into());
            let answer = zeek.ask(&path, 0, 0);
            let (found, related) = match answer {
                zeek::Answer::Known(facts) => {
                    let related = eve.related(&facts.transfer(text("sha256"), ""));
                    (facts.zeek, related)
                }
                zeek::Answer::Wait(until) => {
                    assert_eq!((note, until), ("log_never", 10 * SECOND as u64));
                    let zeek::Answer::Without(fuid) = zeek.ask(&path, 0, until) else { panic!("it waits for ever") };
                    (crate::scan::task::Zeek { fuid, ..Default::default() }, Vec::new())
                }
                zeek::Answer::Without(_) => panic!("it does not wait"),
            };
            for (name, found) in [("fuid", &found.fuid), ("uid", &found.uid), ("sender", &found.sender), ("receiver", &found.receiver)] {
                assert_eq!(found, text(name), "{name} of {line}");
            }
            assert_eq!(!found.reasons.is_empty(), row["partial"].as_bool().unwrap(), "{line}");
            if row["partial"] == true {
                assert_eq!(found.reasons, [note], "{line}");
            }
            let by =
                |relation: &Relation| (relation.event.flow_id, serde_json::to_value(relation.by).unwrap().as_str().unwrap().to_owned());
            let related: BTreeSet<(u64, String)> = related.iter().map(by).collect();
            let pair = |pair: &Value| (pair["flow_id"].as_u64().unwrap(), pair["by"].as_str().unwrap().to_owned());
            let expected: BTreeSet<(u64, String)> = row["suricata"].as_array().unwrap().iter().map(pair).collect();
            assert_eq!(related, expected, "{line}");
        }
        assert_eq!(rows, 38, "{name}");
    }
}

#[test]
fn real_events_are_read_and_broken_ones_stop_nothing() {
    let Some(folder) = corpus::path("zeek") else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("eve.ndjson");
    fs::copy(folder.join("suricata_examples.ndjson"), &path).unwrap();
    let mut eve = Eve::new(path.clone(), &Correlate::default());
    assert_eq!(eve.refresh(0).unwrap(), 31);
    assert_eq!(eve.figures(), Figures { events: 31, alerts: 30, dropped: 0, refused: 0 });
    let broken = fs::read(folder.join("broken_lines.txt")).unwrap();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [whole, broken, b"\n".to_vec()].concat()).unwrap();
    // Of the broken ones none relates to anything.
    assert_eq!(eve.refresh(1).unwrap(), 0);
    assert!(eve.figures().refused >= 25, "{:?}", eve.figures());
}
