//! Records and what becomes of them, rule by rule.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    alert::Parser,
    batch::{Draft, Place},
    detect::{Event, attack::Evidence},
    io::Slab,
    position::{Origin, Position},
    register::{Errors, Node as Tree},
};

fn handler(settings: &str) -> Box<dyn Handler> {
    let (node, mut errors) = (Tree::parse_toml(settings).unwrap(), Errors::default());
    let spec = Apt.parse(&mut Section::open("handlers.apt", &node, Apt.fields(), &[], &mut errors));
    assert!(errors.is_empty(), "{errors}");
    spec.build(&Shelf::default())
}

/// What became of a record: its fate, alerts, and the event's payload.
fn run(settings: &str, frame: &[u8], routes: &[Option<u8>]) -> (Fate, Vec<Value>, Vec<Vec<u8>>) {
    let mut draft = Draft::new(Slab::from_bytes(frame.to_vec()));
    let origin = Origin { stream: "kafka/apt/3", offset: 17, len: None };
    let place = Place { start: 0, len: frame.len() as u32 };
    let record = Record { frame, origin, received: 1_740_823_299_000_000_000, own: false };
    let fate = {
        let (_, mut out) = draft.outbox(place, 0, routes, origin);
        handler(settings).handle(&record, &mut Parser::new().alert(frame), &mut out)
    };
    let batch = draft.finish(0, Position::Count(1), 0);
    let (mut alerts, mut events) = (Vec::new(), Vec::new());
    for n in batch.numbers() {
        let message = batch.message(n);
        match message.output {
            0 => alerts.push(serde_json::from_slice(message.payload).unwrap()),
            _ => events.push(message.payload.to_vec()),
        }
    }
    (fate, alerts, events)
}

#[test]
fn a_source_that_stays_away_is_an_alert_and_our_other_events_are_not() {
    let told = |event: &str, component: &str| {
        let frame = format!(
            r#"{{"timestamp":"2026-11-30T10:00:00.000+00:00","shipper":{{"event":"{event}","component":"{component}","description":"{component} has been in trouble for 60 s: retrying: away","seconds":60}}}}"#
        );
        let mut draft = Draft::new(Slab::from_bytes(frame.as_bytes().to_vec()));
        let origin = Origin { stream: "agent/mgr-1/1773480423123", offset: 4, len: None };
        let record = Record { frame: frame.as_bytes(), origin, received: 1_773_480_483_123_000_000, own: true };
        let fate = {
            let (_, mut out) = draft.outbox(Place { start: 0, len: frame.len() as u32 }, 0, BOTH, origin);
            handler("").handle(&record, &mut Parser::new().alert(frame.as_bytes()), &mut out)
        };
        let batch = draft.finish(0, Position::Count(1), 0);
        let alerts: Vec<Value> = batch.numbers().map(|n| serde_json::from_slice(batch.message(n).payload).unwrap()).collect();
        (fate, alerts)
    };
    let (fate, alerts) = told("lasting", "sources.events");
    assert_eq!(fate, Fate::Emitted);
    let alert = &alerts[0];
    let words = ["entity", "severity", "detection_type", "timestamp", "message"].map(|name| alert[name].as_str().unwrap());
    assert_eq!(
        words,
        ["system", "High", "system", "2026-03-14T09:28:03.123Z", "sources.events has been in trouble for 60 s: retrying: away"]
    );
    assert_eq!((alert["prediction_score"].as_f64(), &alert["source"]["type"]), (Some(0.85), &Value::from("system")));
    for (event, component) in
        [("error", "sources.events"), ("lasting", "sinks.out"), ("recovered", "sources.events"), ("loss", "sources.events")]
    {
        assert_eq!(told(event, component), (Fate::Dropped("own_event"), vec![]), "{event} of {component}");
    }
}

const BOTH: &[Option<u8>] = &[Some(0), Some(1)];

#[track_caller]
fn event(frame: &str, check: impl FnOnce(Event<'_>)) {
    let (fate, _, events) = run("", frame.as_bytes(), BOTH);
    assert_eq!(fate, Fate::Emitted, "{frame}");
    check(Event::read(&events[0]).unwrap());
}

fn refused(frame: &[u8]) -> &'static str {
    match run("", frame, BOTH).0 {
        Fate::Rejected(rejection) => {
            assert!(rejection.detail.len() <= 512);
            rejection.reason
        }
        Fate::Dropped(reason) => reason,
        Fate::Emitted => "emitted",
    }
}

#[test]
fn the_first_rule_that_fits_says_what_a_record_is() {
    let cases = [
        (r#"{"is_simulated":true,"rule":{"id":"1"},"agent":{}}"#, "sim"),
        (r#"{"is_simulated":1.0}"#, "sim"),
        (r#"{"is_simulated":"true"}"#, "other"),
        (r#"{"source":{"type":"simulation"},"cpu_usage_mean":1}"#, "sim"),
        (r#"{"source":"simulation","cpu_usage_mean":1}"#, "features"),
        (r#"{"rule":{"level":3},"manager":{}}"#, "wazuh"),
        (r#"{"rule":{"level":null,"id":null},"manager":{}}"#, "other"),
        (r#"{"rule":{"level":3}}"#, "other"),
        (r#"{"_index":"i","_source":{"rule":{"id":"5"},"agent":{"name":"a"}}}"#, "wazuh"),
        (r#"{"@timestamp":"2025-03-01T10:00:00Z","event":{"module":"system"}}"#, "ecs"),
        (r#"{"@timestamp":"2025-03-01T10:00:00Z","event.kind":"event"}"#, "ecs"),
        (r#"{"@timestamp":"2025-03-01T10:00:00Z","event":{"action":"x"}}"#, "other"),
        (r#"{"event":{"category":"file"}}"#, "other"),
        (r#"{"Event":{"System":{}}}"#, "evtx"),
        (r#"{"Event":{"System":1}}"#, "other"),
        (r#"{"uid":"C","id":{"orig_h":"::1"}}"#, "zeek_conn"),
        (r#"{"uid":"C","id.orig_h":"::1"}"#, "zeek_conn"),
        (r#"{"uid":"C"}"#, "other"),
        (r#"{"disk_io_mean":null}"#, "features"),
        ("{}", "other"),
    ];
    for (frame, kind) in cases {
        event(frame, |event| assert_eq!(event.source.word(), kind, "{frame}"));
    }
}

#[test]
fn an_entity_is_named_by_the_first_member_that_does() {
    let cases = [
        (r#"{"is_simulated":true,"entity":"","host":"h"}"#, "h"),
        (r#"{"cpu_usage_mean":0,"entity":17}"#, "17"),
        (r#"{"cpu_usage_mean":0,"entity":["a"]}"#, "unknown_entity"),
        (r#"{"host":{"name":"n"}}"#, "n"),
        (r#"{"rule":{"id":"1"},"agent":{"id":"003"},"manager":{"name":"m"}}"#, "003"),
        (r#"{"@timestamp":0,"event":{"kind":"e"},"host.hostname":"a","source":{"ip":"10.0.0.1"}}"#, "a"),
        (r#"{"@timestamp":0,"event":{"kind":"e"},"source":{"ip":"10.0.0.1"}}"#, "10.0.0.1"),
        (r#"{"Event":{"System":{"Computer":"c"}}}"#, "c"),
    ];
    for (frame, entity) in cases {
        event(frame, |event| assert_eq!(event.entity, entity, "{frame}"));
    }
    let long = format!(r#"{{"entity":"{}","event_type":"{}"}}"#, "é".repeat(200), "t".repeat(300));
    event(&long, |event| assert!(event.entity.starts_with("blake3:") && event.event_type.len() == 39 && event.kind.len() == 39));
}

#[test]
fn a_kind_is_the_rule_or_what_happened() {
    let cases = [
        (r#"{"rule":{"id":"5710"},"agent":{}}"#, "5710"),
        (r#"{"is_simulated":true,"event_type":"file","action":"created"}"#, "file created"),
        (r#"{"is_simulated":true,"event_type":"login","login_status":"failure"}"#, "login failure"),
        (r#"{"is_simulated":true}"#, "sim"),
        (r#"{"cpu_usage_mean":1}"#, "features"),
        (r#"{"@timestamp":0,"event":{"category":["process"],"action":"exec"}}"#, "process exec"),
        (r#"{"@timestamp":0,"event":{"category":["process"]},"rule":{"id":"r1"}}"#, "r1"),
        (r##"{"Event":{"System":{"EventID":{"#text":4624}}}}"##, "authentication 4624"),
        (r#"{"uid":"C","id.orig_h":"::1","proto":"udp","service":"dns"}"#, "network_connection dns"),
    ];
    for (frame, kind) in cases {
        event(frame, |event| assert_eq!(event.kind, kind, "{frame}"));
    }
}

/// Features that are not 0, by number.
fn features(frame: &str) -> Vec<(usize, f64)> {
    let mut found = Vec::new();
    event(frame, |event| found = (1..=10).zip(event.features).filter(|(_, value)| *value != 0.0).collect());
    found
}

#[test]
fn documents_are_counted_by_category_type_and_outcome() {
    let ecs = |rest: &str| features(&format!(r#"{{"@timestamp":0,"host":{{"name":"a"}},{rest}}}"#));
    assert_eq!(ecs(r#""event":{"category":["authentication"],"type":["denied"],"outcome":"success"}"#), [(3, 1.0)]);
    assert_eq!(ecs(r#""event":{"category":"authentication","action":"Login-Failed"}"#), [(3, 1.0)]);
    assert_eq!(ecs(r#""event":{"category":"authentication","action":"logged-in"}"#), [(2, 1.0)]);
    assert_eq!(ecs(r#""event":{"category":"authentication","outcome":"success"}"#), [(2, 1.0)]);
    assert_eq!(ecs(r#""event":{"category":"authentication","outcome":"unknown"}"#), []);
    assert_eq!(ecs(r#""event":{"category":"process","type":["end"]}"#), []);
    assert_eq!(ecs(r#""event":{"category":"process","type":["start","end"]}"#), [(10, 1.0)]);
    assert_eq!(ecs(r#""event":{"category":"email","type":["info"],"action":"send"}"#), [(5, 1.0)]);
    assert_eq!(ecs(r#""event":{"category":"email","type":["info"],"action":"receive"}"#), []);
    assert_eq!(ecs(r#""event.category":["network"],"network.bytes":-5"#), []);
    assert_eq!(ecs(r#""event.category":["network"],"network":{"latency":"2000"},"source":{"bytes":524288}"#), [(1, 0.5), (9, 1.0)]);
    assert_eq!(ecs(r#""event":{"module":"system"},"system":{"cpu":{"total.pct":1.5}}"#), [(6, 1.0)]);
    assert_eq!(
        ecs(r#""event":{"module":"system"},"system.cpu.total.pct":1,"system":{"cpu":{"cores":4},"filesystem":{"io":{"total":52428800}}}"#),
        [(6, 0.25), (8, 0.5)]
    );
}

#[test]
fn gauges_are_carried_only_where_they_are_measured() {
    let present = |frame: &str| {
        let mut bits = 0;
        event(frame, |event| bits = event.present);
        bits
    };
    assert_eq!(present(r#"{"rule":{"id":"1","groups":["system"]},"agent":{},"data":{"cpu":"0"}}"#), 1 << 5);
    assert_eq!(present(r#"{"rule":{"id":"1","groups":"authentication_failed,"},"agent":{}}"#), 1 << 2);
    assert_eq!(present(r#"{"is_simulated":true}"#), 1023);
    assert_eq!(present(r#"{"cpu_usage_mean":"0.5","disk_io_mean":1e400,"network_latency_mean":{}}"#), 1 << 5);
}

#[test]
fn windows_events_are_told_apart_by_their_provider() {
    let evtx = |system: &str| format!(r#"{{"Event":{{"System":{{"Computer":"c",{system}}}}}}}"#);
    let cases = [
        (r##""Provider":{"#attributes":{"Name":"Microsoft-Windows-Sysmon"}},"EventID":1"##, "process", 10),
        (r#""Provider":{"@Name":"Microsoft-Windows-Sysmon"},"EventID":"23""#, "file", 4),
        (r#""Provider":{"Name":"Microsoft-Windows-Sysmon"},"EventID":4624"#, "other", 0),
        (r#""Channel":"Microsoft-Windows-Sysmon/Operational","EventID":22"#, "dns_query", 0),
        (r#""Channel":"Security","EventID":4688"#, "process", 10),
        (r#""Channel":"Security","EventID":4663"#, "file", 4),
        (r#""Channel":"Security","EventID":4624"#, "authentication", 2),
        (r#""Channel":"Security","EventID":4625"#, "authentication", 3),
        (r##""Channel":"System","EventID":{"#attributes":{"Qualifiers":16384},"#text":7045}"##, "service", 0),
        (r#""Channel":"Security","EventID":1"#, "other", 0),
        (r#""EventID":null"#, "other", 0),
    ];
    for (system, event_type, number) in cases {
        let frame = evtx(system);
        event(&frame, |event| assert_eq!(event.event_type, event_type, "{frame}"));
        assert_eq!(features(&frame), if number == 0 { vec![] } else { vec![(number, 1.0)] }, "{frame}");
    }
    event(&evtx(r#""TimeCreated":{"@SystemTime":"2025-03-01T10:00:00.5Z"}"#), |event| assert_eq!(event.ts_ms, 1_740_823_200_500));
}

#[test]
fn what_a_record_names_is_taken_with_who_says_it() {
    let named = |frame: &str| {
        let mut found = Vec::new();
        event(frame, |event| found = event.techniques.into_iter().map(|(id, evidence)| (id.into_owned(), evidence)).collect());
        found
    };
    let one = |id: &str, evidence| vec![(id.to_owned(), evidence)];
    assert_eq!(named(r#"{"rule":{"id":"1","mitre":{"id":"t1110"}},"agent":{}}"#), one("T1110", Evidence::Rule));
    assert_eq!(named(r#"{"rule":{"id":"1","mitre":{"id":["T1110","T1110","x",1]}},"agent":{}}"#), one("T1110", Evidence::Rule));
    assert_eq!(named(r#"{"is_simulated":true,"mitre_attack":["T1046"]}"#), one("T1046", Evidence::Event));
    assert_eq!(named(r#"{"@timestamp":0,"event":{"kind":"e"},"threat.technique.id":"T1059"}"#), one("T1059", Evidence::Rule));
    let many: Vec<_> = (0..100).map(|n| format!("\"T{:04}\"", n + 1000)).collect();
    assert_eq!(named(&format!(r#"{{"is_simulated":true,"mitre_attack":[{}]}}"#, many.join(","))).len(), limits::ALERT_TECHNIQUES_MAX);
}

#[test]
fn the_time_of_arrival_stands_for_a_time_that_cannot_be_read() {
    for time in ["", r#","timestamp":"soon""#, r#","timestamp":null"#, r#","timestamp":1e300"#] {
        event(&format!(r#"{{"cpu_usage_mean":0{time}}}"#), |event| assert_eq!(event.ts_ms, 1_740_823_299_000));
    }
    event(r#"{"cpu_usage_mean":0,"timestamp":"2025-03-01T10:00:00"}"#, |event| assert_eq!(event.ts_ms, 1_740_823_200_000));
}

#[test]
fn what_is_no_record_is_refused_with_the_reason() {
    assert_eq!(refused(b"{\"a\":\"\xff\"}"), "not_utf8");
    assert_eq!(refused(b"\xff"), "not_utf8");
    assert_eq!(refused(br#"{"a":"\ud800"}"#), "emitted");
    assert_eq!(refused(b"{\"a\":Infinity}"), "not_json");
    assert_eq!(refused(b"{} x"), "not_json");
    assert_eq!(refused(b"null"), "not_object");
    assert_eq!(refused(b"  \t"), "empty");
    assert_eq!(refused(b""), "empty");
    let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    assert_eq!(refused(nested(64).as_bytes()), "emitted");
    assert_eq!(refused(nested(65).as_bytes()), "too_deep");
    assert_eq!(refused(nested(2000).as_bytes()), "too_deep");
    let long = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
    assert_eq!(refused(long(1 << 20).as_bytes()), "emitted");
    assert_eq!(refused(long((1 << 20) + 1).as_bytes()), "too_large");
}

#[test]
fn an_alert_is_what_is_grave_by_itself() {
    let alerts = |settings: &str, frame: &str| run(settings, frame.as_bytes(), BOTH).1;
    let level = |level: &str| {
        format!(
            r#"{{"timestamp":"2025-03-01T10:00:00Z","rule":{{"id":"5","level":{level},"description":"d"}},"agent":{{"id":"003","name":"web1"}}}}"#
        )
    };
    assert_eq!(alerts("", &level("11")).len(), 0);
    let [alert] = &alerts("", &level("\"12\""))[..] else { panic!("one alert") };
    assert_eq!((&alert["severity"], &alert["prediction_score"], &alert["message"]), (&json!("High"), &json!(0.75), &json!("d")));
    assert_eq!(alert["details"], json!({"reason": "wazuh_level", "rule_id": "5", "rule_level": 12}));
    assert_eq!((&alert["timestamp"], &alert["data_source"]), (&json!("2025-03-01T10:00:00.000Z"), &json!("wazuh")));
    assert_eq!(
        alert["source"],
        json!({"type": "kafka", "topic": "apt", "partition": 3, "offset": 17, "timestamp": "2025-03-01T10:01:39.000Z", "agent_id": "003"})
    );
    assert_eq!(alerts("", &level("300"))[0]["prediction_score"], json!(1));
    assert_eq!(alerts("wazuh_alert_level = 3", &level("3")).len(), 1);
    assert_eq!(alerts("wazuh_alert_level = 0", &level("16")).len(), 0);

    let [alert] = &alerts("", r#"{"entity":"h","cpu_usage_mean":0.81,"memory_usage_mean":"0.95"}"#)[..] else { panic!("one alert") };
    assert_eq!(alert["message"], "above 0.8: cpu_usage_mean 0.81, memory_usage_mean 0.95");
    assert_eq!((&alert["detection_type"], alert["features"].as_object().unwrap().len()), (&json!("feature_high"), 2));
    assert_eq!(alerts("", r#"{"cpu_usage_mean":0.8}"#).len(), 0);

    let sim = |rest: &str| alerts("", &format!(r#"{{"is_simulated":true,{rest}}}"#));
    let [alert] = &sim(r#""suspicious":true,"severity":"High","reason":"port scan detected""#)[..] else { panic!("one alert") };
    assert_eq!((&alert["detection_type"], &alert["severity"]), (&json!("simulation"), &json!("High")));
    assert_eq!((&alert["message"], &alert["details"]), (&json!("port scan detected"), &json!({"reason": "marked_suspicious"})));
    assert_eq!(sim(r#""suspicious":"true""#).len(), 0);
    // 0.7 and 0.1 are 0.8, and 0.8 is not above it.
    assert_eq!(sim(r#""severity":"Medium","event_type":"login","login_status":"failed""#).len(), 0);
}

#[test]
fn what_nobody_takes_is_not_built() {
    let (quiet, loud) = (&br#"{"cpu_usage_mean":0.1}"#[..], &br#"{"cpu_usage_mean":0.9}"#[..]);
    let cases = [
        (quiet, &[Some(0), None][..], Fate::Dropped("no_alert"), (0, 0)),
        (loud, &[Some(0), None], Fate::Emitted, (1, 0)),
        (quiet, &[None, Some(1)], Fate::Emitted, (0, 1)),
        (loud, &[None, Some(1)], Fate::Emitted, (0, 1)),
        (loud, BOTH, Fate::Emitted, (1, 1)),
    ];
    for (frame, routes, expected, counts) in cases {
        let (fate, alerts, events) = run("", frame, routes);
        assert_eq!((fate, (alerts.len(), events.len())), (expected, counts));
    }
}

#[test]
fn a_broken_line_is_taken_apart_only_where_alerts_of_a_manager_are_in_it() {
    let salvaged = |frame: &[u8]| -> Vec<String> {
        let pieces = handler("").salvage(frame).unwrap();
        pieces
            .into_iter()
            .map(|piece| match piece {
                Piece::Alert(range) => format!("alert {}", range.len()),
                Piece::Broken(range, reason) => format!("{reason} {}", range.len()),
                Piece::Padding(range) => format!("padding {}", range.len()),
            })
            .collect()
    };
    let alert = r#"{"timestamp":"t","rule":{"level":3}}"#;
    assert_eq!(salvaged(format!("{alert}{alert}").as_bytes()), ["alert 36", "alert 36"]);
    assert_eq!(salvaged(br#"{"entity":"a"}{"entity":"b"}"#), ["not_json 28"]);
    assert_eq!(salvaged(b"\xef\xbb\xbf{\"entity\":\"a\"}"), ["not_json 17"]);
    assert_eq!(salvaged(b"{\"a\":\"\xff"), ["not_utf8 7"]);
    assert_eq!(salvaged(b" "), [""; 0]);
    assert_eq!(salvaged(b"\0\0"), ["padding 2"]);
}

#[test]
fn facts_have_the_names_that_others_hold_on_to() {
    let frame = br#"{"entity":"h","event_type":"e","cpu_usage_mean":0.25,"disk_io_mean":[],"timestamp":1740823200}"#;
    let record = Record { frame, origin: Origin { stream: "stdin/1", offset: 0, len: None }, received: 0, own: false };
    let facts = handler("").explain(&record, &mut Parser::new().alert(frame));
    let names: Vec<_> = facts.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["kind", "entity", "entity_type", "event_type", "ts", "features", "missing", "invalid"]);
    let of = |name: &str| -> Value { serde_json::from_str(&facts.iter().find(|(known, _)| *known == name).unwrap().1).unwrap() };
    assert_eq!((of("ts"), of("invalid")), (json!("2025-03-01T10:00:00.000Z"), json!(["disk_io_mean"])));
    assert_eq!((of("features"), of("missing").as_array().unwrap().len()), (json!({"cpu_usage_mean": 0.25}), 8));
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|x| json!(if x.is_finite() { x } else { 0.0 })),
        prop::sample::select(vec![
            "simulation",
            "process",
            "file",
            "network",
            "authentication",
            "syscheck",
            "system",
            "T1059",
            "0.9",
            "12",
            "2025-03-01"
        ])
        .prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        let keys = prop::sample::select(vec![
            "type",
            "id",
            "level",
            "groups",
            "name",
            "category",
            "kind",
            "module",
            "System",
            "orig_h",
            "techniques",
            "cpu",
            "mitre",
            "bytes",
            "EventID",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((keys, inner), 0..4)
                .prop_map(|all| Value::Object(all.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

proptest! {
    /// Whatever stands in the members that are read, an event comes of it that reads again, and alerts within bounds.
    #[test]
    fn every_object_is_an_event(members in prop::collection::vec((0..members::TEST_NAMES.len(), values()), 0..12)) {
        let object: serde_json::Map<String, Value> = members.into_iter().map(|(n, value)| (members::TEST_NAMES[n].to_owned(), value)).collect();
        let frame = Value::Object(object).to_string();
        let (fate, alerts, events) = run("wazuh_alert_level = 1", frame.as_bytes(), BOTH);
        prop_assert_eq!(fate, Fate::Emitted);
        let event = Event::read(&events[0]).unwrap();
        prop_assert!(event.features.iter().all(|x| x.is_finite()));
        prop_assert!(alerts.len() <= 1);
    }
}
