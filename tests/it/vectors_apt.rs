//! The vectors of APT detection: what records of every kind are, which of them are alerts, and what those say.
//!
//! They lie outside of the package (`SHIPPER_VECTORS`, or `../shared/vectors`), as do the corpora of real events
//! (`SHIPPER_CORPUS`, or `../shared/corpus`). Where they are absent the tests say so. Group `window` is the detector's.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde_json::{Value, json};
use shipper::{
    alert::Parser,
    batch::{Draft, Place},
    detect::{Event, FEATURES, Severity, attack},
    handlers::{self, Fate, Handler, Record},
    io::Slab,
    position::{Origin, Position},
    register::{Errors, Node, Section},
    tables::Shelf,
};

fn folder(variable: &str, name: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared").join(name), PathBuf::from)
}

fn handler() -> Box<dyn Handler> {
    let kind = handlers::ALL.iter().find(|kind| kind.name() == "apt").expect("the kind is registered");
    let (node, mut errors) = (Node::parse_scalar("{}"), Errors::default());
    let spec = kind.parse(&mut Section::open("handlers.apt", &node, kind.fields(), &[], &mut errors));
    assert!(errors.is_empty(), "{errors}");
    spec.build(&Shelf::default())
}

/// What became of a record.
struct Came {
    fate: Fate,
    alerts: Vec<Value>,
    /// Techniques that the event itself names, and the level of its rule.
    named: BTreeSet<String>,
    level: u8,
    facts: BTreeMap<&'static str, Value>,
}

fn run(handler: &mut dyn Handler, frame: &[u8]) -> Came {
    let mut parser = Parser::new();
    let mut draft = Draft::new(Slab::from_bytes(frame.to_vec()));
    let origin = Origin { stream: "kafka/apt_topic/0", offset: 7, len: None };
    let place = Place { start: 0, len: u32::try_from(frame.len()).unwrap() };
    let record = Record { frame, origin, received: 1_740_823_200_000_000_000, own: false };
    let fate = {
        let (_, mut out) = draft.outbox(place, 0, &[Some(0), Some(1)], origin);
        handler.handle(&record, &mut parser.alert(frame), &mut out)
    };
    let batch = draft.finish(0, Position::Count(1), 0);
    let (mut alerts, mut named, mut level, mut events) = (Vec::new(), BTreeSet::new(), 0, 0);
    for n in batch.numbers() {
        let message = batch.message(n);
        if message.output == 0 {
            alerts.push(serde_json::from_slice(message.payload).expect("alerts are JSON"));
            continue;
        }
        let event = Event::read(message.payload).expect("an event");
        named.extend(event.techniques.iter().map(|(id, _)| id.to_string()));
        level = event.level;
        events += 1;
    }
    assert_eq!((fate == Fate::Emitted, events), (events == 1, usize::from(events == 1)), "an event, or a reason: {fate:?}");
    let facts = handler.explain(&record, &mut parser.alert(frame));
    let facts = facts.into_iter().map(|(name, text)| (name, serde_json::from_str(&text).expect("facts are JSON"))).collect();
    Came { fate, alerts, named, level, facts }
}

/// Numbers as they are compared: with six decimals.
fn rounded(features: &Value) -> Value {
    let round = |(name, value): (&String, &Value)| (name.clone(), json!((value.as_f64().expect("a number") * 1e6).round() / 1e6));
    Value::Object(features.as_object().expect("features").iter().map(round).collect())
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|one| one["id"].as_str().expect("an id")).collect()
}

/// What became of a record, in the words of the vectors.
fn record(value: &Value, expected: &Value) -> Value {
    let came = run(&mut *handler(), value.as_str().unwrap_or("").as_bytes());
    let mut shown = match &came.fate {
        Fate::Rejected(rejection) => return json!({"disposition": "dead_letter", "reason": rejection.reason}),
        // A record without a value never comes this far; an empty one is dropped here.
        Fate::Dropped("empty") => return json!({"disposition": "skip", "reason": if value.is_null() { "tombstone" } else { "empty" }}),
        Fate::Dropped(reason) => return json!({"disposition": "dropped", "reason": reason}),
        Fate::Emitted => json!({"disposition": "event", "techniques": came.named}),
    };
    for name in ["kind", "entity", "entity_type", "event_type", "ts"] {
        shown[name] = came.facts[name].clone();
    }
    shown["features"] = rounded(&came.facts["features"]);
    for name in ["missing", "invalid"] {
        if expected.get(name).is_some() {
            shown[name] = came.facts[name].clone();
        } else {
            assert_eq!(came.facts[name], json!([]));
        }
    }
    if expected.get("severity").is_some() {
        shown["severity"] = Severity::of_wazuh_level(came.level).word().into();
    }
    shown["alert"] = match &came.alerts[..] {
        [] => Value::Null,
        [alert] => json!({
            "severity": alert["severity"], "score": alert["prediction_score"],
            "techniques": ids(&alert["mitre_attack"]["techniques"]), "reason": alert["details"]["reason"],
        }),
        more => json!(format!("{} alerts", more.len())),
    };
    shown
}

fn tactics<'i>(ids: impl IntoIterator<Item = &'i str>) -> Vec<&'static str> {
    let all = ids.into_iter().fold(attack::Tactics::default(), |all, id| all.and(attack::tactics(id)));
    all.list().map(|(id, _)| id).collect()
}

fn inferred(input: &Value) -> Value {
    let mut features = [0.0; 10];
    for (feature, name) in features.iter_mut().zip(FEATURES) {
        *feature = input["features"][name].as_f64().unwrap_or(0.0);
    }
    let text = |name: &str| input[name].as_str().unwrap_or("");
    let found = attack::infer(&features, input["score"].as_f64().expect("a score"), text("event_type"), text("entity_type"));
    let names: BTreeMap<_, _> = found.iter().map(|id| (*id, attack::known(id).0)).collect();
    json!({"techniques": found, "names": names, "tactics": tactics(found.iter().copied())})
}

fn severity(input: &Value) -> Value {
    let words: Vec<_> = match input["scores"].as_array() {
        Some(scores) => scores.iter().map(|score| Severity::of_score(score.as_f64().expect("a score")).word()).collect(),
        None => {
            let levels = input["levels"].as_array().expect("levels").iter();
            levels.map(|level| Severity::of_wazuh_level(level.as_u64().expect("a level") as u8).word()).collect()
        }
    };
    json!({ "severity": words })
}

fn sigma(input: &Value) -> Value {
    let tags = input["tags"].as_array().expect("tags").iter().filter_map(Value::as_str);
    let (techniques, tactics) = attack::of_sigma_tags(tags);
    let tactics: Vec<_> = tactics.list().map(|(id, _)| id).collect();
    let severity = input["level"].as_str().and_then(Severity::of_word).map(Severity::word);
    json!({"techniques": techniques, "tactics": tactics, "severity": severity})
}

fn confidence(input: &Value) -> Value {
    let features = input["features"].as_object().expect("features");
    let high = attack::high(features.iter().map(|(name, value)| (name.as_str(), value.as_f64().expect("a number"))));
    json!({"confidence": attack::confidence(input["score"].as_f64().expect("a score"), high), "anomalous_features": high})
}

#[test]
fn every_golden_vector_gives_what_is_expected() {
    let path = folder("SHIPPER_VECTORS", "vectors").join("apt.jsonl");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: no vectors at {}", path.display());
        return;
    };
    let (mut passed, mut failed, mut others) = (0, 0, 0);
    for line in text.lines() {
        let vector: Value = serde_json::from_str(line).expect("a vector a line");
        let (input, expected) = (&vector["input"], &vector["expected"]);
        let came = match vector["group"].as_str().expect("a group") {
            "window" => {
                others += 1;
                continue;
            }
            "mitre_map" => inferred(input),
            "severity" => severity(input),
            "sigma_tags" => sigma(input),
            "confidence" => confidence(input),
            _ => record(&input["value"], expected),
        };
        if came == *expected {
            passed += 1;
        } else {
            failed += 1;
            println!("{} ({})\n  came     {came}\n  expected {expected}", vector["id"], vector["why"]);
        }
    }
    println!("{}: {passed} passed, {failed} failed; {others} are the detector's", path.display());
    assert!(passed > 0);
    assert_eq!(failed, 0, "see above");
}

/// Lines of a corpus; none where it is absent.
fn corpus(name: &str) -> Vec<String> {
    let path = folder("SHIPPER_CORPUS", "corpus").join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => text.lines().map(str::to_owned).collect(),
        Err(_) => {
            println!("skipped: no corpus at {}", path.display());
            Vec::new()
        }
    }
}

#[test]
fn every_real_record_is_an_event_of_its_kind() {
    let mut handler = handler();
    for (file, kind, alerts) in [
        ("wazuh_alerts.jsonl", "wazuh", 0..=200),
        ("apt/sim_events.jsonl", "sim", 50..=200),
        ("apt/feature_messages.jsonl", "features", 20..=20),
        ("apt/zeek_conn.jsonl", "zeek_conn", 0..=0),
        ("apt/sigma_events.jsonl", "evtx", 0..=0),
    ] {
        let (mut counts, mut found, mut types, mut untimed) = (BTreeMap::<String, u32>::new(), 0, BTreeMap::<String, u32>::new(), 0);
        for line in corpus(file) {
            let row: Value = serde_json::from_str(&line).expect("a row a line");
            let frame = if kind == "evtx" { row["event"].to_string() } else { line };
            let came = run(&mut *handler, frame.as_bytes());
            assert_eq!(came.fate, Fate::Emitted, "{frame}");
            untimed += u32::from(came.facts["ts"].is_null());
            assert_ne!(came.facts["entity"], "unknown_entity", "{frame}");
            *counts.entry(came.facts["kind"].as_str().expect("a kind").to_owned()).or_default() += 1;
            *types.entry(came.facts["event_type"].as_str().expect("a type").to_owned()).or_default() += 1;
            found += came.alerts.len();
        }
        println!("{file}: {counts:?}, {found} alerts, {untimed} without a time, {types:?}");
        // Alerts of old managers have times such as `2016 Dec 27 18:30:46`.
        assert!(untimed <= 4, "{file}: {untimed} without a time");
        if let Some(count) = counts.get(kind) {
            assert_eq!(counts.len(), 1, "{file}: {count} are {kind}");
            assert!(alerts.contains(&found), "{file}: {found} alerts");
        }
    }
}

/// What a block of the page says under a record.
fn check_example(frame: &str, says: &str) {
    let came = run(&mut *handler(), frame.as_bytes());
    for line in says.lines() {
        let (word, rest) = line.split_once(' ').expect("two words");
        let mut words: Vec<&str> = rest.split(' ').collect();
        match word {
            "refused" => assert!(matches!(&came.fate, Fate::Rejected(rejection) if rejection.reason == rest), "{frame}: {:?}", came.fate),
            "feature" => assert_eq!(
                came.facts["features"][words[0]],
                serde_json::from_str::<Value>(words[1]).expect("a number"),
                "{line} of {frame}"
            ),
            "technique" => assert!(came.named.contains(rest), "{frame}: {:?}", came.named),
            "missing" | "invalid" => assert_eq!(came.facts[word], json!(words), "{frame}"),
            "no" => assert_eq!(came.alerts, Vec::<Value>::new(), "{frame}"),
            "alert" => {
                let [alert] = &came.alerts[..] else { panic!("one alert of {frame}") };
                let score = alert["prediction_score"].to_string();
                let mut told =
                    vec![alert["detection_type"].as_str().expect("a type"), alert["severity"].as_str().expect("a severity"), &score];
                told.extend(ids(&alert["mitre_attack"]["techniques"]));
                assert_eq!(told, words, "{frame}");
            }
            fact => assert_eq!(came.facts[fact], words.pop().expect("a value"), "{fact} of {frame}"),
        }
    }
}

#[test]
fn every_example_of_the_page_gives_what_it_says() {
    let page = include_str!("../../docs/APT.md");
    let mut checked = 0;
    for part in page.split("```json\n").skip(1) {
        let (frame, rest) = part.split_once("\n```\n").expect("an end");
        let says = rest.strip_prefix("```text\n").and_then(|rest| rest.split_once("\n```")).expect("what it gives").0;
        check_example(frame, says);
        checked += 1;
    }
    assert!(checked >= 8, "{checked} examples");
}
