//! The golden vectors of DFN shipping: what upstream's own code made of an alert, and what ours
//! must make of it.
//!
//! They lie outside of the package (`SHIPPER_VECTORS`, or `../shared/vectors`); where they are
//! absent the tests say so and pass.

use std::path::PathBuf;

use serde_json::Value;
use shipper::{
    alert::{Parser, Piece, looks_broken, salvage},
    batch::{Draft, Place},
    handlers::{self, Fate, Handler, Record},
    io::Slab,
    position::{Origin, Position},
    register::{Errors, Node, Section, tree},
};

/// What came out of one line.
#[derive(Debug, Default)]
struct Outcome {
    kafka: Vec<String>,
    wazuh: Vec<String>,
    dead: Vec<String>,
}

fn vectors() -> Option<Vec<Value>> {
    let folder = std::env::var_os("SHIPPER_VECTORS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/vectors")), PathBuf::from);
    let path = folder.join("dfn.jsonl");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: no vectors at {}", path.display());
        return None;
    };
    Some(text.lines().map(|line| serde_json::from_str(line).expect("a vector a line")).collect())
}

/// The handler with the settings that a vector asks for.
fn handler(own_network: Option<&str>) -> Box<dyn Handler> {
    let kind = handlers::ALL.iter().find(|kind| kind.name() == "dfn").expect("the kind is registered");
    let place = tree::Place::Default;
    let key = |name: &str| tree::Key { name: name.into(), place: place.clone() };
    let mut entries = Vec::new();
    if let Some(network) = own_network {
        entries.push((key("own_networks"), Node { value: tree::Value::Text(network.into()), place: place.clone() }));
    }
    let node = Node { value: tree::Value::Table(entries), place: place.clone() };
    let mut errors = Errors::default();
    let spec = kind.parse(&mut Section::open("handlers.dfn", &node, kind.fields(), &[], &mut errors));
    assert!(errors.is_empty(), "{errors}");
    spec.build(&shipper::tables::Shelf::default())
}

/// One line, as a shard takes it: looked at, parsed, taken apart where it is broken, handled.
fn run(handler: &mut dyn Handler, line: &[u8], own: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let mut parser = Parser::new();
    let whole = !looks_broken(line) || parser.alert(line).root().is_ok();
    let pieces = if whole { vec![Piece::Alert(0..line.len())] } else { salvage(line) };
    for piece in pieces {
        let bytes = &line[piece.range()];
        match piece {
            Piece::Alert(_) => handle(handler, &mut parser, bytes, own, &mut outcome),
            Piece::Broken(..) => outcome.dead.push(String::from_utf8_lossy(bytes).into_owned()),
            Piece::Padding(_) => {}
        }
    }
    outcome
}

fn handle(handler: &mut dyn Handler, parser: &mut Parser, frame: &[u8], own: bool, outcome: &mut Outcome) {
    let mut draft = Draft::new(Slab::from_bytes(frame.to_vec()));
    let origin = Origin { stream: "mgr/alerts/2026-03-14/000", offset: 0, len: None };
    let place = Place { start: 0, len: u32::try_from(frame.len()).unwrap() };
    let mut alert = parser.alert(frame);
    let fate = {
        let (_, mut out) = draft.outbox(place, 0, &[Some(0), Some(1)], origin);
        handler.handle(&Record { frame, origin, received: 0, own }, &mut alert, &mut out)
    };
    let emitted = draft.len();
    match fate {
        Fate::Emitted => assert!(emitted > 0, "emitted, and nothing there"),
        Fate::Dropped(_) => assert_eq!(emitted, 0),
        Fate::Rejected(rejection) => {
            assert_eq!((emitted, rejection.reason), (0, "not_json"));
            outcome.dead.push(String::from_utf8_lossy(frame).into_owned());
        }
    }
    let batch = draft.finish(0, Position::Count(1), 0);
    for n in 0..u32::try_from(batch.len()).unwrap() {
        let message = batch.message(n);
        assert_eq!(message.key, None);
        let text = String::from_utf8(message.payload.to_vec()).expect("payloads are UTF-8");
        if message.output == 0 { &mut outcome.kafka } else { &mut outcome.wazuh }.push(text);
    }
}

/// JSON as the rules compare it: numbers by value, so -0 is 0 and 1.0 is 1.
fn normal(text: &str) -> Value {
    fn numbers(value: Value) -> Value {
        match value {
            Value::Number(n) => n.as_f64().map_or(Value::Null, |x| serde_json::json!({ "number": (x + 0.0).to_string() })),
            Value::Array(items) => items.into_iter().map(numbers).collect(),
            Value::Object(members) => Value::Object(members.into_iter().map(|(k, v)| (k, numbers(v))).collect()),
            other => other,
        }
    }
    // 1e400 is JSON but no double: text that stands for itself.
    let text = text.replace("1e400", "\"1e400\"");
    let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("not JSON ({e}): {text}"));
    numbers(value)
}

/// A queue record split where its JSON begins.
fn record(text: &str) -> (String, Value) {
    let at = text.find("dfn:{").expect("a record of the integration") + "dfn:".len();
    (text[..at].to_owned(), normal(&text[at..]))
}

/// What differs between two multisets; empty if nothing.
fn differ<T: PartialEq + std::fmt::Debug>(what: &str, came: Vec<T>, mut expected: Vec<T>) -> String {
    let mut text = String::new();
    for item in came {
        match expected.iter().position(|other| *other == item) {
            Some(n) => drop(expected.remove(n)),
            None => text.push_str(&format!("  {what} came, not expected: {}\n", short(&item))),
        }
    }
    for item in expected {
        text.push_str(&format!("  {what} expected, did not come: {}\n", short(&item)));
    }
    text
}

fn short(item: &impl std::fmt::Debug) -> String {
    let text = format!("{item:?}");
    match text.char_indices().nth(4000) {
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
        None => text,
    }
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|v| v.as_str().expect("text").to_owned()).collect()
}

/// What is wrong with what came; empty if nothing.
fn judge(vector: &Value, came: &Outcome) -> String {
    let expected = &vector["expected"];
    let outcome = expected["outcome"].as_str().expect("outcome");
    if expected["or"] == "dead_letter" && !came.dead.is_empty() && came.kafka.is_empty() {
        return String::new();
    }
    // A broker that is away is another test's business: what would go out is what must go out
    // when it is back.
    let sent = if outcome == "held" { &expected["after_recovery"] } else { expected };
    let values = |values: &Value| -> Vec<Value> {
        values.as_array().into_iter().flatten().map(|m| normal(m["value"].as_str().expect("text"))).collect()
    };
    let mut wrong = differ("kafka", came.kafka.iter().map(|v| normal(v)).collect(), values(&sent["kafka"]));
    if let Some(check) = expected["wazuh_check"].as_object() {
        let most = usize::try_from(check["max_bytes"].as_u64().unwrap()).unwrap();
        if came.wazuh.len() as u64 != check["count"].as_u64().unwrap() {
            wrong.push_str(&format!("  {} records\n", came.wazuh.len()));
        }
        for text in &came.wazuh {
            let (_, json) = record(text);
            if text.len() > most || text.len() + 32 < most {
                wrong.push_str(&format!("  a record of {} bytes, most is {most} and little should be lost\n", text.len()));
            }
            for (key, value) in check["json_has"].as_object().unwrap() {
                if json[key] != *value {
                    wrong.push_str(&format!("  {key} is {} in a record\n", json[key]));
                }
            }
        }
    } else {
        let records = |texts: Vec<String>| texts.iter().map(|t| record(t)).collect::<Vec<_>>();
        wrong.push_str(&differ("wazuh", records(came.wazuh.clone()), records(texts(&sent["wazuh"]))));
    }
    if (outcome == "dead_letter") == came.dead.is_empty() && expected.get("dead_letter").is_none() {
        wrong.push_str(&format!("  {} dead letters\n", came.dead.len()));
    }
    if let Some(part) = expected["dead_letter"].as_str()
        && !came.dead.iter().any(|dead| dead.contains(part))
    {
        wrong.push_str(&format!("  dead letters without {part:?}: {:?}\n", came.dead));
    }
    wrong
}

fn base64(text: &str) -> Vec<u8> {
    let mut bits = 0_u32;
    let mut count = 0;
    let mut bytes = Vec::new();
    for byte in text.bytes().filter(|b| *b != b'=') {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => panic!("{byte} is no base64"),
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

fn line(vector: &Value) -> Vec<u8> {
    match vector["alert"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => base64(vector["alert_b64"].as_str().expect("an alert")),
    }
}

#[test]
fn every_handler_vector_gives_what_is_expected() {
    let Some(vectors) = vectors() else { return };
    let (mut passed, mut failed) = (0, 0);
    for vector in vectors.iter().filter(|v| v["kind"] == "handler") {
        let mut handler = handler(vector["config"]["own_network"].as_str());
        let came = run(&mut *handler, &line(vector), false);
        let wrong = judge(vector, &came);
        if wrong.is_empty() {
            passed += 1;
        } else {
            failed += 1;
            println!("{}\n{wrong}", vector["name"]);
        }
    }
    println!("{passed} passed, {failed} failed");
    assert!(passed > 0);
    assert_eq!(failed, 0, "see above");
}

#[test]
fn a_frame_that_emits_holds_a_needle_or_a_unicode_escape() {
    let Some(vectors) = vectors() else { return };
    for vector in vectors.iter().filter(|v| v["kind"] == "handler") {
        let mut handler = handler(vector["config"]["own_network"].as_str());
        let line = line(vector);
        let handlers::Needles::Any(needles) = handler.needles() else { panic!("the default settings have needles") };
        let found = needles.iter().any(|n| line.windows(n.len()).any(|part| part == n)) || line.windows(2).any(|part| part == b"\\u");
        let came = run(&mut *handler, &line, false);
        assert!(found || came.kafka.is_empty(), "{}", vector["name"]);
    }
}

#[test]
fn a_start_is_told_to_the_manager() {
    let Some(vectors) = vectors() else { return };
    let vector = vectors.iter().find(|v| v["kind"] == "wazuh_start").expect("the start");
    let expected = &texts(&vector["expected"]["wazuh"])[0];
    let event = br#"{"timestamp":"2023-11-14T22:13:20Z","shipper":{"event":"start","component":"sinks.manager","description":"started"}}"#;
    let came = run(&mut *handler(None), event, true);
    assert!(came.kafka.is_empty());
    let (words, _) = expected.split_at(expected.find("2023").expect("a time"));
    assert_eq!(came.wazuh, [format!("{words}2023-11-14T22:13:20Z\"}}")]);
}
