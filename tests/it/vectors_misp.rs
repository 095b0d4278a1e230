//! The vectors of indicators: alerts, and which indicators the handler `ioc` finds in them.
//!
//! Ours (`tests/data/ioc.jsonl`) are always there; the golden ones lie outside of the package
//! (`SHIPPER_VECTORS`, or `../shared/vectors`), and where they are absent the test says so.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde_json::Value;
use shipper::{
    alert::Parser,
    batch::{Draft, Place},
    handlers::{self, Fate, Handler, Record},
    io::Slab,
    position::{Origin, Position},
    register::{Errors, Node, Section},
    synth::indicators::{Indicators, indicator},
};

/// Type and value of each indicator.
type Found = BTreeSet<(String, String)>;

/// The handler with its defaults.
fn handler() -> Box<dyn Handler> {
    let kind = handlers::ALL.iter().find(|kind| kind.name() == "ioc").expect("the kind is registered");
    let mut errors = Errors::default();
    let spec = kind.parse(&mut Section::open("handlers.ioc", &Node::parse_scalar("{}"), kind.fields(), &[], &mut errors));
    assert!(errors.is_empty(), "{errors}");
    spec.build(&shipper::tables::Shelf::default())
}

/// Payload of the one message for an alert; `None` where there is none.
fn run(handler: &mut dyn Handler, frame: &[u8]) -> Option<Value> {
    let mut parser = Parser::new();
    let mut draft = Draft::new(Slab::from_bytes(frame.to_vec()));
    let origin = Origin { stream: "mgr/alerts/2026-03-14/000", offset: 0, len: None };
    let place = Place { start: 0, len: u32::try_from(frame.len()).unwrap() };
    let fate = {
        let (_, mut out) = draft.outbox(place, 0, &[Some(0)], origin);
        handler.handle(&Record { frame, origin, received: 0, own: false }, &mut parser.alert(frame), &mut out)
    };
    let batch = draft.finish(0, Position::Count(1), 0);
    assert_eq!((fate == Fate::Emitted, batch.len() > 1), (batch.len() == 1, false), "one message, or a reason: {fate:?}");
    (batch.len() == 1).then(|| serde_json::from_slice(batch.message(0).payload).expect("payloads are JSON"))
}

fn set(list: &Value) -> Found {
    let text = |ioc: &Value, key: &str| ioc[key].as_str().expect("text").to_owned();
    list.as_array().into_iter().flatten().map(|ioc| (text(ioc, "type"), text(ioc, "value"))).collect()
}

/// What is wrong; empty if nothing is.
fn judge(vector: &Value, came: Option<&Value>) -> String {
    let list = came.map_or(&Value::Null, |payload| &payload["iocs"]);
    let (found, expected, optional) = (set(list), set(&vector["expected"]), set(&vector["optional"]));
    let mut wrong = String::new();
    if found.len() != list.as_array().map_or(0, Vec::len) {
        wrong.push_str("  one came twice\n");
    }
    for missing in expected.difference(&found) {
        wrong.push_str(&format!("  expected, and did not come: {missing:?}\n"));
    }
    for extra in found.difference(&expected).filter(|ioc| !optional.contains(*ioc)) {
        wrong.push_str(&format!("  came, and is not expected: {extra:?}\n"));
    }
    if !wrong.is_empty() {
        wrong.push_str(&format!("  came: {found:?}\n  expected: {expected:?}\n"));
    }
    wrong
}

/// Indicators that did not stand where the vector says.
fn misplaced(vector: &Value, came: Option<&Value>) -> String {
    let list = came.map_or(&Value::Null, |payload| &payload["iocs"]);
    let mut wrong = String::new();
    for ioc in vector["expected"].as_array().into_iter().flatten().filter(|ioc| ioc["field"].is_string()) {
        let same = |came: &&Value| came["type"] == ioc["type"] && came["value"] == ioc["value"];
        if let Some(came) = list.as_array().into_iter().flatten().find(same).filter(|came| came["field"] != ioc["field"]) {
            wrong.push_str(&format!("  {} stood in {}, not in {}\n", came["value"], came["field"], ioc["field"]));
        }
    }
    wrong
}

/// Runs a file of vectors; every one of the tier `core` has to pass, and nine of ten of the others.
///
/// - `exact`: whether they are exact about the member in which an indicator stood first; else theirs is a hint.
fn check(path: &Path, exact: bool) {
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("skipped: no vectors at {}", path.display());
        return;
    };
    let mut handler = handler();
    // Passed and failed, by tier.
    let (mut core, mut stretch) = ([0, 0], [0, 0]);
    for line in text.lines() {
        let vector: Value = serde_json::from_str(line).expect("a vector a line");
        // As it was written: the order of its members says which comes first.
        let mut parser = Parser::new();
        let mut written = parser.alert(line.as_bytes());
        let alert = written.root().expect("JSON").get("alert").expect("an alert");
        let frame = alert.as_str().map_or(alert.raw(), str::as_bytes);
        let came = run(&mut *handler, frame);
        let mut wrong = judge(&vector, came.as_ref());
        let misplaced = misplaced(&vector, came.as_ref());
        if exact {
            wrong.push_str(&misplaced);
        } else if !misplaced.is_empty() {
            print!("{} passes, yet\n{misplaced}", vector["name"]);
        }
        let tier = if vector["tier"] == "stretch" { &mut stretch } else { &mut core };
        tier[usize::from(!wrong.is_empty())] += 1;
        if !wrong.is_empty() {
            println!("{}\n{wrong}", vector["name"]);
        }
    }
    println!("{}: core {} passed, {} failed; stretch {} passed, {} failed", path.display(), core[0], core[1], stretch[0], stretch[1]);
    assert!(core[0] > 0);
    assert_eq!(core[1], 0, "see above");
    assert!(10 * stretch[0] >= 9 * (stretch[0] + stretch[1]), "see above");
}

#[test]
fn every_vector_of_ours_gives_what_is_expected() {
    check(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/ioc.jsonl")), true);
}

#[test]
fn every_golden_vector_gives_what_is_expected() {
    let folder = std::env::var_os("SHIPPER_VECTORS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/vectors")), PathBuf::from);
    check(&folder.join("misp.jsonl"), false);
}

#[test]
fn a_synthetic_alert_has_the_one_indicator_that_it_was_given() {
    let (mut handler, mut made) = (handler(), Indicators::new(0, 1000));
    for _ in 0..2000 {
        let mut alert = Vec::new();
        let (kind, value) = indicator(made.alert(&mut alert, 1_773_465_912_000_000_000));
        let found = set(&run(&mut *handler, alert.trim_ascii_end()).expect("a message")["iocs"]);
        let kind = kind.trim_end_matches("-dst").to_owned();
        assert_eq!(found, [(kind, value)].into(), "{}", String::from_utf8_lossy(&alert));
    }
}
