//! What the handler does with whole records; tests/it/sigma.rs holds rules against events through `shipper try`.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "tests state what must hold"
)]

use std::{fs, path::Path};

use super::*;
use crate::{
    alert::Parser,
    batch::{Draft, Place},
    io::Slab,
    position::{Origin, Position},
    register::{Errors, Node as Setting},
    tables::sigma::Builder,
};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/sigma");

/// Our own rules.
fn rules() -> Rules {
    let mut builder = Builder::default();
    for folder in ["windows", "other"] {
        for entry in fs::read_dir(Path::new(DATA).join("rules").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            builder.add(path.to_str().unwrap(), &fs::read_to_string(&path).unwrap());
        }
    }
    let (rules, left) = builder.build();
    assert_eq!((left.broken, left.correlations), (Vec::new(), 1));
    rules
}

fn parse(settings: &str) -> (Box<dyn Spec>, String) {
    let node = Setting::parse_toml(&format!("rules = 'r'\n{settings}")).unwrap();
    let mut errors = Errors::default();
    let spec = Sigma.parse(&mut Section::open("handlers.s", &node, FIELDS, &[], &mut errors));
    (spec, errors.to_string())
}

fn with(settings: &str, rules: Option<Rules>) -> Box<dyn Handler> {
    let (spec, errors) = parse(settings);
    assert_eq!(errors, "");
    let mut shelf = Shelf::default();
    shelf.place::<Rules>("r");
    if let Some(rules) = rules {
        shelf.of::<Rules>("r").unwrap().put(Arc::new(rules));
    }
    spec.build(&shelf)
}

/// What became of a frame, and the messages that came of it: output and payload.
fn messages(handler: &mut dyn Handler, frame: &[u8]) -> (Fate, Vec<(u8, serde_json::Value)>) {
    let origin = Origin { stream: "kafka/events/0", offset: 7, len: None };
    let mut draft = Draft::new(Slab::from_bytes(frame.to_vec()));
    let place = Place { start: 0, len: u32::try_from(frame.len()).unwrap() };
    let fate = {
        let (_, mut out) = draft.outbox(place, 0, &[Some(0), Some(1)], origin);
        let record = Record { frame, origin, received: 0, own: false };
        handler.handle(&record, &mut Parser::new().alert(frame), &mut out)
    };
    let batch = draft.finish(0, Position::Count(1), 0);
    let message = |n| (batch.message(n).output, serde_json::from_slice(batch.message(n).payload).unwrap());
    (fate, batch.numbers().map(message).collect())
}

/// What became of a frame, and how many messages came of it.
fn run(handler: &mut dyn Handler, frame: &[u8]) -> (Fate, usize) {
    let (fate, messages) = messages(handler, frame);
    (fate, messages.len())
}

fn events() -> Vec<String> {
    let text = fs::read_to_string(Path::new(DATA).join("events.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].to_string()).collect()
}

#[test]
fn each_of_our_events_sets_off_exactly_its_rules() {
    let text = fs::read_to_string(Path::new(DATA).join("events.jsonl")).unwrap();
    let mut handler = with("category = 'webserver'", Some(rules()));
    for case in text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()) {
        let mut wanted: Vec<String> = case["rules"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect();
        wanted.sort();
        let (_, messages) = messages(&mut *handler, case["event"].to_string().as_bytes());
        let alerts =
            messages.iter().filter(|(output, _)| *output == 0).map(|(_, alert)| alert["details"]["rule_id"].as_str().unwrap().to_owned());
        let mut found: Vec<String> = alerts.collect();
        found.sort();
        assert_eq!(found, wanted, "{}", case["event"]);
        let marks = messages.iter().filter(|(output, mark)| *output == 1 && mark["counts"] == false).count();
        assert_eq!(marks, usize::from(!wanted.is_empty()), "{}", case["event"]);
    }
}

#[test]
fn a_frame_without_a_needle_never_emits() {
    let mut emitted = 0;
    for form in Form::ALL {
        let mut handler = with(&format!("forms = ['{}']\ncategory = 'webserver'\n", form.word()), Some(rules()));
        let Needles::Any(needles) = handler.needles() else {
            assert_eq!(form, Form::Other);
            continue;
        };
        for event in events() {
            let is_wanted = needles.iter().any(|needle| memchr::memmem::find(event.as_bytes(), needle).is_some());
            let (fate, _) = run(&mut *handler, event.as_bytes());
            assert!(is_wanted || matches!(fate, Fate::Dropped(_)), "{form:?}: {event}");
            emitted += usize::from(fate == Fate::Emitted);
        }
    }
    assert!(emitted > 10, "{emitted}");
}

#[test]
fn without_rules_and_for_a_log_without_rules_the_reason_is_told() {
    let first = events().remove(0);
    assert_eq!(run(&mut *with("", None), first.as_bytes()), (Fate::Dropped("no_rules"), 0));
    let mut handler = with("forms = ['evtx']", Some(rules()));
    for (frame, why) in [
        (r#"{"Event":{"System":{"Channel":"Some/Other","EventID":4}}}"#, "no_rule_for_log"),
        (r#"{"Event":{"System":{"Channel":"Security","EventID":4624}},"x":1}"#, "no_match"),
        (r#"{"uid":"C","id.orig_h":"10.0.0.1"}"#, "other_form"),
        ("  ", "empty"),
    ] {
        assert_eq!(run(&mut *handler, frame.as_bytes()), (Fate::Dropped(why), 0), "{frame}");
    }
}

#[test]
fn settings_that_cannot_be_meant_are_told() {
    for (settings, expected) in
        [("forms = ['evtxx']", "no form \"evtxx\"; known: evtx"), ("forms = []", "is empty"), ("level = 'grave'", "is not one of")]
    {
        let errors = parse(settings).1;
        assert!(errors.contains(expected), "{settings}: {errors}");
    }
}
