//! Selection, texts and confirmations, case by case.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    alert::Parser,
    batch::{Draft, Place},
    io::Slab,
    position::{Origin, Position},
    register::{Errors, Node as Setting, Value as Written, tree},
};

/// One message: payload, key, time, headers.
#[derive(Debug)]
struct Sent {
    confirms: bool,
    payload: String,
    key: Option<String>,
    time_ms: i64,
    headers: Vec<(&'static str, String)>,
}

fn parse(settings: &[(&str, &str)]) -> (Box<dyn Spec>, Errors) {
    let key = |name: &str| tree::Key { name: name.into(), place: tree::Place::Default };
    let mut entries: Vec<(tree::Key, Setting)> = Vec::new();
    for (name, text) in settings {
        let value = Setting::parse_scalar(text);
        match name.split_once('.') {
            Some((table, name)) => {
                let value = Written::Table(vec![(key(name), value)]);
                entries.push((key(table), Setting { value, place: tree::Place::Default }));
            }
            None => entries.push((key(name), value)),
        }
    }
    let node = Setting { value: Written::Table(entries), place: tree::Place::Default };
    let mut errors = Errors::default();
    let spec = Dfn.parse(&mut Section::open("handlers.dfn", &node, FIELDS, &[], &mut errors));
    (spec, errors)
}

fn handler(settings: &[(&str, &str)]) -> Box<dyn Handler> {
    let (spec, errors) = parse(settings);
    assert!(errors.is_empty(), "{errors}");
    spec.build(&crate::tables::Shelf::default())
}

fn run(handler: &mut dyn Handler, frame: &[u8], own: bool) -> (Fate, Vec<Sent>) {
    let mut parser = Parser::new();
    let mut alert = parser.alert(frame);
    let origin = Origin { stream: "m/alerts/2026-03-14/000", offset: 7, len: Some(9) };
    let mut draft = Draft::new(Slab::from_bytes(frame.to_vec()));
    let place = Place { start: 0, len: u32::try_from(frame.len()).unwrap() };
    let fate = {
        let (_, mut out) = draft.outbox(place, 0, &[Some(0), Some(1)], origin);
        handler.handle(&Record { frame, origin, received: 0, own }, &mut alert, &mut out)
    };
    let batch = draft.finish(0, Position::Count(1), 0);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let sent = (0..u32::try_from(batch.len()).unwrap())
        .map(|n| {
            let m = batch.message(n);
            let headers = m.headers().map(|(name, value)| (name, text(value))).collect();
            Sent { confirms: m.output == 1, payload: text(m.payload), key: m.key.map(text), time_ms: m.time_ms, headers }
        })
        .collect();
    (fate, sent)
}

fn ban() -> Value {
    json!({"timestamp": "2026-03-14T06:25:12.004+0100", "rule": {"groups": ["syslog", "fail2ban"]},
        "agent": {"id": "014", "name": "web-03", "ip": "172.20.4.13"}, "id": "1700000000.1",
        "full_log": "fail2ban: 2026 NOTICE [sshd] Ban 1.1.1.1",
        "data": {"srcip": "1.1.1.1", "severity": "NOTICE", "program_name": "fail2ban.actions", "pid": "7"}})
}

fn logon() -> Value {
    json!({"timestamp": "2026-03-14T06:25:12.004+0100", "rule": {"groups": ["windows"]}, "agent": {"id": "003", "name": "DC01"},
        "id": "1700000000.2", "data": {"win": {"system": {"eventID": "4625", "providerName": "P"}, "eventdata": {"ipAddress": "1.1.1.1"}}}})
}

#[test]
fn a_message_carries_headers_time_and_by_choice_a_key() {
    let frame = ban().to_string().into_bytes();
    let (fate, sent) = run(&mut *handler(&[]), &frame, false);
    assert_eq!(fate, Fate::Emitted);
    let [primary, confirmation] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((primary.confirms, primary.time_ms, primary.key.as_deref()), (false, 1_773_465_912_004, None));
    let names: Vec<_> = primary.headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let origin = "shipper-origin=m/alerts/2026-03-14/000/7+9";
    assert_eq!(names, [origin, "alert-id=1700000000.1", "agent-id=014", "content-type=application/json"]);
    assert!(confirmation.confirms);
    let (_, sent) = run(&mut *handler(&[("key", "agent.id"), ("headers", "origin")]), &frame, false);
    assert_eq!((sent[0].key.as_deref(), sent[0].headers.len()), (Some("014"), 1));
}

#[test]
fn a_true_rfc_5424_line_is_written_by_choice() {
    let (_, sent) = run(&mut *handler(&[("syslog", "rfc5424")]), ban().to_string().as_bytes(), false);
    let message: Value = serde_json::from_str(&sent[0].payload).unwrap();
    assert_eq!(message["event_raw"], "<37>1 2026-03-14T06:25:12.004+01:00 web-03 fail2ban.actions 7 - - 2026 NOTICE [sshd] Ban 1.1.1.1");
    assert_eq!(message["body"], "NOTICE [sshd] Ban 1.1.1.1");
    let mut odd = ban();
    odd["timestamp"] = json!("2017 Jan 05 14:11:21");
    odd["agent"]["name"] = json!("büro 3");
    odd["data"]["pid"] = Value::Null;
    let (_, sent) = run(&mut *handler(&[("syslog", "rfc5424")]), odd.to_string().as_bytes(), false);
    let message: Value = serde_json::from_str(&sent[0].payload).unwrap();
    assert_eq!(message["event_raw"], "<37>1 - b_ro_3 fail2ban.actions - - - 2026 NOTICE [sshd] Ban 1.1.1.1");
}

#[test]
fn what_is_not_shipped_has_its_reason() {
    let nets: &[(&str, &str)] = &[("own_networks", "[\"1.1.0.0/16\"]")];
    let change = |path: &str, value: Value| {
        let mut alert = ban();
        *alert.pointer_mut(path).unwrap() = value;
        alert
    };
    type Case<'a> = (&'a [(&'a str, &'a str)], Value, &'a str);
    let cases: &[Case<'_>] = &[
        (nets, ban(), "own_network"),
        (nets, change("/data/srcip", json!("10.0.0.1")), "not_global"),
        (&[("drop_private", "true")], change("/data/srcip", json!("::1")), "not_global"),
        (&[], change("/data/srcip", json!("")), "no_source"),
        (&[], change("/data/srcip", json!(0.0)), "no_source"),
        (&[], change("/data/program_name", json!("fail2ban.filter")), "unwanted"),
        (&[], change("/rule/groups", json!({"fail2ban": 1})), "unwanted"),
        (&[("programs", "[]")], ban(), "unwanted"),
        (&[("event_ids", "[]")], logon(), "unwanted"),
        (&[("event_ids", "[1, 2]")], logon(), "unwanted"),
        (&[], json!([1, 2]), "unwanted"),
        (&[], json!({"data": {"integration": "dfn", "win": {"system": {"eventID": "4625"}}}}), "own_integration"),
    ];
    for (settings, alert, why) in cases {
        let (fate, sent) = run(&mut *handler(settings), alert.to_string().as_bytes(), false);
        assert_eq!((fate, sent.len()), (Fate::Dropped(why), 0), "{alert}");
    }
    let (fate, _) = run(&mut *handler(&[]), b"{\"a\":NaN}", false);
    assert!(matches!(fate, Fate::Rejected(Rejection { reason: "not_json", .. })));
}

#[test]
fn explain_says_which_part_selected_an_alert_or_why_none_did() {
    let explain = |alert: &Value| {
        let frame = alert.to_string().into_bytes();
        let mut parser = Parser::new();
        let origin = Origin { stream: "s", offset: 0, len: None };
        let facts = handler(&[]).explain(&Record { frame: &frame, origin, received: 0, own: false }, &mut parser.alert(&frame));
        facts.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(explain(&ban()), "selected=[\"fail2ban\"] program=\"fail2ban.actions\"");
    assert_eq!(explain(&logon()), "selected=[\"windows\"] event_id=\"4625\"");
    assert_eq!(explain(&json!({})), "selected=[] why_not=\"unwanted\"");
}

#[test]
fn our_own_events_are_told_to_the_manager() {
    let event = |kind: &str, held: Option<u64>| {
        let mut event = json!({"timestamp": "2026-03-14T06:25:12+01:00", "shipper": {"event": kind, "component": "sinks.k", "description": "it is \"so\""}});
        if let Some(held) = held {
            event["shipper"]["held"] = json!(held);
        }
        let (fate, sent) = run(&mut *handler(&[]), event.to_string().as_bytes(), true);
        assert!(sent.iter().all(|s| s.confirms));
        match fate {
            Fate::Emitted => sent[0].payload.clone(),
            other => format!("{other:?}"),
        }
    };
    let start = r#"1:dfn:{"integration": "dfn", "description": "Wazuh service startup at 2026-03-14T06:25:12+01:00"}"#;
    assert_eq!(event("start", None), start);
    assert_eq!(event("reconnect", None), start.replace("startup", "reconnect"));
    assert_eq!(event("error", None), r#"1:dfn:{"error": 503, "description": "it is \"so\"", "integration": "dfn"}"#);
    assert_eq!(event("recovered", Some(12)), r#"1:dfn:{"integration": "dfn", "description": "it is \"so\"", "held": 12}"#);
    assert_eq!(event("chatter", None), r#"Dropped("own_event")"#);
    // The same bytes, read from a file, are an alert like any other.
    let (fate, _) = run(&mut *handler(&[]), br#"{"timestamp":"t","shipper":{"event":"start"}}"#, false);
    assert_eq!(fate, Fate::Dropped("unwanted"));
}

#[test]
fn wrong_settings_are_answered() {
    let cases: &[(&str, &str)] = &[
        ("own_networks", "[\"10.0.0.1/8\"]"),
        ("confirm.max_bytes", "100"),
        ("confirm.max_bytes", "70000"),
        ("confirm.integration", "\"a:b\""),
        ("syslog", "rfc3164"),
        ("event_id", "[1]"),
    ];
    for case in cases {
        let (_, errors) = parse(&[*case]);
        assert_eq!(errors.0.len(), 1, "{case:?}: {errors}");
    }
}

/// Anything that JSON can hold, in places where the handler looks.
fn odd() -> impl Strategy<Value = Value> {
    let names = prop_oneof!["\\PC{0,8}", Just("fail2ban.actions".into()), Just("4625".into()), Just("ß&<>\"'\u{0}\u{fffe}\n".to_owned())];
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-5i64..70_000).prop_map(Value::from),
        names.prop_map(Value::String),
        "[a:|é你\"]{0,3000}".prop_map(Value::String),
        Just(json!([])),
        Just(json!(["x", 1, null, {"é": "\""}])),
        Just(json!({"a b": "1", "1x": null, "é": "&", "": true})),
    ]
}

fn alerts() -> impl Strategy<Value = Value> {
    let places = [
        "/timestamp",
        "/id",
        "/agent",
        "/agent/id",
        "/agent/name",
        "/agent/ip",
        "/full_log",
        "/data/srcip",
        "/data/severity",
        "/data/pid",
        "/data/win/system/eventID",
        "/data/win/system/systemTime",
        "/data/win/system/providerName",
        "/data/win/eventdata",
        "/data/win/eventdata/ipAddress",
        "/data/win/logFileCleared",
    ];
    let id = prop::sample::select(vec!["1100", "1102", "4625", "4720"]);
    (id, prop::collection::vec((prop::sample::select(places.to_vec()), odd()), 0..5)).prop_map(|(id, changes)| {
        let mut alert = ban();
        alert["data"]["win"] = json!({"system": {"eventID": id, "providerName": "P", "systemTime": "t"}, "eventdata": {"k": "v"}, "logFileCleared": {"a": "b"}});
        for (place, value) in changes {
            if let Some(old) = alert.pointer_mut(place) {
                *old = value;
            }
        }
        alert
    })
}

/// A naive check that a text is well-formed XML of elements, attributes and text.
fn check_xml(xml: &str) {
    let allowed = |c: char| !matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
    assert!(xml.chars().all(allowed), "{xml}");
    let mut open = Vec::new();
    let mut rest = xml;
    while let Some(at) = rest.find('<') {
        check_text(&rest[..at]);
        let end = rest.find('>').expect("a tag ends");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{xml}");
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap();
        assert!(name.chars().all(|c| c.is_alphanumeric() || c == '_'), "{name}");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        tag.split('"').for_each(check_text);
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty() && rest.is_empty(), "{xml}");
}

fn check_text(text: &str) {
    for part in text.split('&').skip(1) {
        let known = ["amp;", "lt;", "gt;", "quot;", "#13;", "#10;", "#09;"];
        assert!(known.iter().any(|k| part.starts_with(k)), "{text}");
    }
}

proptest! {
    #[test]
    fn whatever_an_alert_holds_what_is_sent_is_well_formed(alert in alerts()) {
        for limit in ["1024", "65535"] {
            let (_, sent) = run(&mut *handler(&[("confirm.max_bytes", limit)]), alert.to_string().as_bytes(), false);
            for message in &sent {
                if message.confirms {
                    prop_assert!(message.payload.len() <= limit.parse().unwrap());
                    let at = message.payload.find("dfn:{").unwrap() + 4;
                    let json: Value = serde_json::from_str(&message.payload[at..]).unwrap();
                    prop_assert_eq!(&json["integration"], "dfn");
                    let full = message.payload.len() + 64 > limit.parse().unwrap();
                    prop_assert!(json.get("truncated").is_none() || full || limit == "1024");
                } else {
                    let json: Value = serde_json::from_str(&message.payload).unwrap();
                    prop_assert_eq!(&json["timestamp"], &alert["timestamp"]);
                    if json["event_format"] == "windows-xml" {
                        check_xml(json["event_raw"].as_str().unwrap());
                        prop_assert_eq!(&json["body"], &json["event_raw"]);
                        prop_assert_eq!(&json["data"], &alert["data"]);
                    } else {
                        let raw = json["event_raw"].as_str().unwrap();
                        prop_assert!(raw.ends_with(json["body"].as_str().unwrap()));
                    }
                }
            }
        }
    }

    #[test]
    fn a_valid_alert_gives_the_same_with_and_without_the_probe(alert in alerts(), program in "[a-z/.\"\\\\]{1,12}") {
        let mut alert = alert;
        alert["data"]["program_name"] = program.clone().into();
        alert["data"]["win"] = Value::Null;
        alert["data"]["srcip"] = "1.1.1.1".into();
        let list = format!("[{}]", serde_json::to_string(&program).unwrap());
        let (spec, errors) = parse(&[("programs", &list)]);
        prop_assert!(errors.is_empty());
        let mut handler = spec.build(&crate::tables::Shelf::default());
        for text in [alert.to_string(), alert.to_string().replace('/', "\\/")] {
            let frame = text.as_bytes();
            let found = match handler.needles() {
                Needles::All => true,
                Needles::Any(needles) => needles.iter().any(|n| memchr::memmem::find(frame, n).is_some()) || memchr::memmem::find(frame, b"\\u00").is_some(),
            };
            let (_, sent) = run(&mut *handler, frame, false);
            prop_assert!(!sent.is_empty() || alert["rule"]["groups"] != ban()["rule"]["groups"], "selected by its program: {}", text);
            prop_assert!(found);
        }
    }
}
