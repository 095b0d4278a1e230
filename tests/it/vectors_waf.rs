//! The vectors of the handler `waf`: events of every engine, and what each comes to, field by field.
//!
//! Ours (`tests/data/waf.jsonl`) are always there; the golden ones lie outside of the package
//! (`SHIPPER_VECTORS`, or `../shared/vectors`), as do the corpora of real events (`SHIPPER_CORPUS`, or
//! `../shared/corpus`). Where they are absent the tests say so.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use shipper::{
    alert::Parser,
    batch::{Draft, Place},
    handlers::{self, Fate, Handler, Record},
    io::Slab,
    position::{Origin, Position},
    register::{Errors, Node, Section},
};

/// A setting as TOML.
fn toml(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let members: Vec<_> = members.iter().map(|(key, value)| format!("{key:?} = {}", toml(value))).collect();
            format!("{{ {} }}", members.join(", "))
        }
        scalar => scalar.to_string(),
    }
}

/// The handler with these settings, and a layout.
fn handler(config: &Value, layout: &str) -> Box<dyn Handler> {
    let mut text = format!("layout = {layout:?}\n");
    for (key, value) in config.as_object().into_iter().flatten() {
        text.push_str(&format!("{key} = {}\n", toml(value)));
    }
    with(&text)
}

/// The handler with these settings, as TOML.
fn with(text: &str) -> Box<dyn Handler> {
    let node = Node::parse_toml(text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    let kind = handlers::ALL.iter().find(|kind| kind.name() == "waf").expect("the kind is registered");
    let mut errors = Errors::default();
    let spec = kind.parse(&mut Section::open("handlers.waf", &node, kind.fields(), &[], &mut errors));
    assert!(errors.is_empty(), "{errors}\n{text}");
    spec.build(&shipper::tables::Shelf::default())
}

/// What became of a record.
struct Came {
    fate: Fate,
    lines: Vec<String>,
    alerts: Vec<Value>,
    facts: BTreeMap<&'static str, Value>,
}

fn run(handler: &mut dyn Handler, frame: &[u8], received: u64) -> Came {
    let mut parser = Parser::new();
    let mut draft = Draft::new(Slab::from_bytes(frame.to_vec()));
    let origin = Origin { stream: "redis/waf", offset: 0, len: None };
    let place = Place { start: 0, len: u32::try_from(frame.len()).unwrap() };
    let record = Record { frame, origin, received, own: false };
    let fate = {
        let (_, mut out) = draft.outbox(place, 0, &[Some(0), Some(1)], origin);
        handler.handle(&record, &mut parser.alert(frame), &mut out)
    };
    let batch = draft.finish(0, Position::Count(1), 0);
    let (mut lines, mut alerts) = (Vec::new(), Vec::new());
    for n in batch.numbers() {
        let message = batch.message(n);
        match message.output {
            0 => lines.push(String::from_utf8(message.payload.to_vec()).expect("points are UTF-8")),
            _ => alerts.push(serde_json::from_slice(message.payload).expect("alerts are JSON")),
        }
    }
    assert_eq!(fate == Fate::Emitted, !lines.is_empty(), "points, or a reason: {fate:?}");
    let facts = handler.explain(&record, &mut parser.alert(frame));
    let facts = facts.into_iter().map(|(name, text)| (name, serde_json::from_str(&text).expect("facts are JSON"))).collect();
    Came { fate, lines, alerts, facts }
}

/// RFC 4648 §4.
fn decode64(text: &str) -> Vec<u8> {
    let letter = |b: u8| match b {
        b'A'..=b'Z' => u32::from(b - b'A'),
        b'a'..=b'z' => u32::from(b - b'a') + 26,
        b'0'..=b'9' => u32::from(b - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::new();
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let word = group.iter().fold(0, |word, b| word << 6 | letter(*b)) << (6 * (4 - group.len()));
        bytes.extend_from_slice(&word.to_be_bytes()[1..group.len()]);
    }
    bytes
}

/// The record's bytes: as they were read, as text, or as the event stands in the line.
fn frame_of(line: &str, vector: &Value) -> Vec<u8> {
    if let Some(text) = vector["raw_b64"].as_str() {
        return decode64(text);
    }
    if let Some(text) = vector["raw"].as_str() {
        return text.as_bytes().to_vec();
    }
    // As it was written: names repeat, and numbers keep their digits.
    let mut parser = Parser::new();
    let mut written = parser.alert(line.as_bytes());
    written.root().expect("JSON").get("event").expect("an event").raw().to_vec()
}

/// What is wrong; empty if nothing is.
fn judge(vector: &Value, frame: &[u8]) -> Vec<String> {
    let (config, expected) = (&vector["config"], &vector["expected"]);
    let received = vector["received_ns"].as_u64().expect("a time");
    let came = run(&mut *handler(config, "doc"), frame, received);
    let mut wrong = Vec::new();
    let mut compare = |what: &str, came: Value, expected: &Value| {
        if came != *expected {
            wrong.push(format!("  {what}\n    came     {came}\n    expected {expected}"));
        }
    };
    if let Some(reason) = expected["reject"].as_str() {
        let fate = match &came.fate {
            Fate::Rejected(rejection) => json!(rejection.reason),
            other => json!(format!("{other:?}")),
        };
        compare("reject", fate, &json!(reason));
        return wrong;
    }
    for name in ["anomaly_score", "severity", "level", "rule_id", "alert", "score_from", "attack_type", "blocked"] {
        compare(name, came.facts.get(name).cloned().unwrap_or_default(), &expected[name]);
    }
    compare("line_protocol", json!(came.lines.join("\n")), &expected["line_protocol"]);
    let records: Vec<Value> = expected.get("alert_record").cloned().into_iter().collect();
    compare("alert_record", json!(came.alerts), &json!(records));
    if expected.get("upstream_lines").is_some() {
        compare("upstream_lines", json!(run(&mut *handler(config, "upstream"), frame, received).lines), &expected["upstream_lines"]);
    }
    wrong
}

/// Every vector of a file has to pass.
fn check(path: &Path) {
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("skipped: no vectors at {}", path.display());
        return;
    };
    let (mut passed, mut failed) = (0, 0);
    for line in text.lines() {
        let vector: Value = serde_json::from_str(line).expect("a vector a line");
        let wrong = judge(&vector, &frame_of(line, &vector));
        if wrong.is_empty() {
            passed += 1;
        } else {
            failed += 1;
            println!("{} ({})\n{}", vector["name"], vector["why"], wrong.join("\n"));
        }
    }
    println!("{}: {passed} passed, {failed} failed", path.display());
    assert!(passed > 0);
    assert_eq!(failed, 0, "see above");
}

#[test]
fn every_golden_vector_gives_what_is_expected() {
    let folder = std::env::var_os("SHIPPER_VECTORS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/vectors")), PathBuf::from);
    check(&folder.join("waf.jsonl"));
}

/// Lines of a corpus as (what it is from, bytes); none where it is absent.
fn corpus(name: &str, of: &str) -> Vec<(String, Vec<u8>)> {
    let folder = std::env::var_os("SHIPPER_CORPUS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus")), PathBuf::from);
    let path = folder.join(name);
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: no corpus at {}", path.display());
        return Vec::new();
    };
    let lines = text.lines().map(|line| {
        let row: Value = serde_json::from_str(line).expect("a row a line");
        (row[of].as_str().expect("text").to_owned(), frame_of(line, &row))
    });
    lines.collect()
}

#[test]
fn no_real_event_is_lost() {
    let mut table: BTreeMap<(&str, String), BTreeMap<String, u32>> = BTreeMap::new();
    for (file, of) in [("waf_modsec.jsonl", "engine"), ("waf_modsec_engine.jsonl", "engine"), ("waf_broken_lines.jsonl", "why")] {
        let mut handler = handler(&Value::Null, "doc");
        for (kind, frame) in corpus(file, of) {
            let came = run(&mut *handler, &frame, 1_640_995_200_000_000_000);
            let word = match &came.fate {
                Fate::Rejected(rejection) => format!("refused: {}", rejection.reason),
                _ => came.facts["level"].as_str().expect("a level").to_owned(),
            };
            *table.entry((file, kind)).or_default().entry(word).or_default() += 1;
        }
    }
    let mut scored = 0;
    for ((file, kind), levels) in &table {
        println!("{file} {kind}: {levels:?}");
        scored += levels.iter().filter(|(word, _)| !word.starts_with("refused")).map(|(_, count)| count).sum::<u32>();
    }
    if !table.is_empty() {
        assert_eq!(scored, 90 + 190 + 30, "every line of the corpora is an event");
    }
}

#[test]
fn one_event_is_one_point_although_clocks_have_whole_seconds() {
    let mut points: BTreeSet<String> = BTreeSet::new();
    let (mut handler, mut events) = (handler(&Value::Null, "doc"), 0);
    // What a database tells points apart by: tags and time.
    let mut take = |frame: &[u8]| {
        let line = run(&mut *handler, frame, 0).lines.remove(0);
        let (tags, rest) = line.split_once(" anomaly_score=").expect("a field");
        points.insert(format!("{tags} {}", rest.rsplit(' ').next().expect("a time")));
        events += 1;
    };
    // As a scanner would: one client, one second, one rule.
    for n in 0..209 {
        let (id, port, path) = (n % 50, 40_000 + n / 3, n % 7);
        let event = json!({"transaction": {
            "client_ip": "203.0.113.9", "client_port": port, "unique_id": format!("16521583{id:02}"), "time_stamp": "Tue May 10 04:52:04 2022",
            "request": {"method": "GET", "uri": format!("/{path}/{n}")}, "messages": [{"details": {"ruleId": "942100", "severity": "2"}}],
        }});
        take(event.to_string().as_bytes());
    }
    for (_, frame) in corpus("waf_modsec.jsonl", "engine").into_iter().chain(corpus("waf_modsec_engine.jsonl", "engine")) {
        take(&frame);
    }
    assert_eq!(points.len(), events);
}

/// What a block of the page says under an event.
fn check_example(event: &str, says: &str) {
    let (mut config, mut facts, mut lines, mut alerts, mut refused) = (String::new(), Vec::new(), Vec::new(), Vec::new(), None);
    for line in says.lines() {
        match line.split_once(' ').expect("two words") {
            ("with", setting) => config.push_str(&format!("{setting}\n")),
            ("fact", fact) => facts.push(fact),
            ("alert", alert) => alerts.push(alert),
            ("refused", reason) => refused = Some(reason),
            _ => lines.push(line),
        }
    }
    let came = run(&mut *with(&config), event.as_bytes(), 1_640_995_200_000_000_000);
    if let Some(reason) = refused {
        assert!(matches!(&came.fate, Fate::Rejected(rejection) if rejection.reason == reason), "{event}: {:?}", came.fate);
        return;
    }
    for fact in facts {
        let (name, expected) = fact.split_once(' ').expect("name and value");
        let value = &came.facts[name];
        assert_eq!(value.as_str().map_or_else(|| value.to_string(), str::to_owned), expected, "{name} of {event}");
    }
    if !lines.is_empty() {
        assert_eq!(came.lines, lines, "{event}");
    }
    if !alerts.is_empty() {
        let alerts: Vec<Value> = alerts.iter().map(|alert| serde_json::from_str(alert).expect("JSON")).collect();
        assert_eq!(came.alerts, alerts, "{event}");
    }
}

#[test]
fn every_example_of_the_page_gives_what_it_says() {
    let page = include_str!("../../docs/WAF.md");
    let mut checked = 0;
    for part in page.split("```json\n").skip(1) {
        let (event, rest) = part.split_once("\n```\n").expect("an end");
        let says = rest.strip_prefix("```text\n").and_then(|rest| rest.split_once("\n```")).expect("what it gives").0;
        check_example(event, says);
        checked += 1;
    }
    assert!(checked > 15, "{checked} examples");
}
