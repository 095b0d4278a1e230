//! What the handler does with whole records, and that no bytes of a client break what it writes.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "tests state what must hold"
)]

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    alert::Parser,
    batch::{Draft, Place},
    io::Slab,
    position::{Origin, Position},
    register::{Errors, Node},
    synth::firewall::{Events, Expected, Form},
    tables::{GeoIp, Reputation, Suppressions, networks, reputation},
};

/// The handler with these settings, as TOML.
fn with(settings: &str) -> Box<dyn Handler> {
    let (node, mut errors) = (Node::parse_toml(settings).unwrap(), Errors::default());
    let spec = Waf.parse(&mut Section::open("handlers.waf", &node, Waf.fields(), &[], &mut errors));
    assert!(errors.is_empty(), "{errors}");
    spec.build(&Shelf::default())
}

/// All that is wrong with these settings.
fn wrong(settings: &str) -> String {
    let (node, mut errors) = (Node::parse_toml(settings).unwrap(), Errors::default());
    Waf.parse(&mut Section::open("handlers.waf", &node, Waf.fields(), &[], &mut errors));
    errors.to_string()
}

/// Points, alerts and the limits that cut something.
struct Came {
    fate: Fate,
    lines: Vec<String>,
    alerts: Vec<Value>,
    cuts: Vec<&'static str>,
}

fn run_wired(handler: &mut dyn Handler, frame: &[u8], received: u64, routes: &[Option<u8>]) -> Came {
    let origin = Origin { stream: "redis/waf", offset: 7, len: None };
    let mut draft = Draft::new(Slab::from_bytes(frame.to_vec()));
    let place = Place { start: 0, len: u32::try_from(frame.len()).unwrap() };
    let fate = {
        let (_, mut out) = draft.outbox(place, 0, routes, origin);
        let record = Record { frame, origin, received, own: false };
        handler.handle(&record, &mut Parser::new().alert(frame), &mut out)
    };
    let cuts = draft.cuts().iter().map(|(_, limit)| *limit).collect();
    let batch = draft.finish(0, Position::Count(1), 0);
    let (mut lines, mut alerts) = (Vec::new(), Vec::new());
    for n in batch.numbers() {
        let message = batch.message(n);
        match message.output {
            0 => lines.push(String::from_utf8(message.payload.to_vec()).unwrap()),
            _ => alerts.push(serde_json::from_slice(message.payload).unwrap()),
        }
    }
    Came { fate, lines, alerts, cuts }
}

fn run(handler: &mut dyn Handler, event: &Value) -> Came {
    run_wired(handler, event.to_string().as_bytes(), 1_640_995_200_000_000_000, &[Some(0), Some(1)])
}

/// The seed document's own event.
fn seed() -> Value {
    json!({
        "transaction": {
            "id": "tx-123456", "client_ip": "192.168.1.100", "anomaly_score": 65,
            "request": {"uri": "/admin/login?user=x&password=y", "method": "POST"},
            "response": {"http_code": 403},
            "messages": [{"details": {"ruleId": "942100", "msg": "m"}}],
        },
        "classification": {"track": "realtime", "rule_id": "942100"},
    })
}

#[test]
fn an_alert_has_the_members_that_are_asked_for() {
    let came = run(&mut *with(""), &seed());
    let upstream = json!({"timestamp": 1_640_995_200, "severity": 95, "client_ip": "192.168.1.100", "rule_id": "942100",
        "uri": "/admin/login?user=x&password=y", "tx_id": "tx-123456"});
    assert_eq!(came.alerts, [upstream]);
    let came = run(&mut *with("alert_fields = 'full'\nuri = 'redact'\nhost_from = 'name'"), &seed());
    let full = json!({"timestamp": 1_640_995_200, "severity": 95, "client_ip": "192.168.1.100", "rule_id": "942100",
        "uri": "/admin/login?user=x&password=***", "tx_id": "tx-123456", "level": "critical", "attack_type": "sqli", "blocked": true, "host": ""});
    assert_eq!(came.alerts, [full]);
}

#[test]
fn what_try_explains_has_these_names() {
    let explained = |settings: &str, frame: &str| {
        let record = Record { frame: frame.as_bytes(), origin: Origin { stream: "x", offset: 0, len: None }, received: 0, own: false };
        let facts = with(settings).explain(&record, &mut Parser::new().alert(frame.as_bytes()));
        facts.iter().map(|(name, value)| format!("{name}: {value}\n")).collect::<String>()
    };
    insta::assert_snapshot!(explained("", &seed().to_string()), @r#"
    anomaly_score: 65
    severity: 95
    level: "critical"
    rule_id: "942100"
    score_from: "transaction"
    attack_type: "sqli"
    blocked: true
    alert: true
    "#);
    insta::assert_snapshot!(explained("only_track = 'analytics'", &seed().to_string()), @r#"why_not: "other_track""#);
    insta::assert_snapshot!(explained("", "{}"), @r#"why_not: "has no object \"transaction\", nor has a text in message, log or event.original; name a source of audit events""#);
}

#[test]
fn the_lean_layout_has_few_tags() {
    let mut event = seed();
    event["transaction"]["host_ip"] = json!("10.0.1.175");
    let line = "waf_events,attack_type=sqli,blocked=true,host=10.0.1.175,severity_level=critical anomaly_score=65i,severity=95i,response_code=403i,\
        client_ip=\"192.168.1.100\",country=\"unknown\",method=\"POST\",rule_id=\"942100\",tx_id=\"tx-123456\",uri=\"/admin/login?user=x&password=y\" \
        1640995200000000000";
    assert_eq!(run(&mut *with("layout = 'lean'"), &event).lines, [line]);
}

#[test]
fn what_only_an_alert_sink_takes_is_no_loss() {
    let frame = seed().to_string();
    let only_alerts = [None, Some(1)];
    let came = run_wired(&mut *with(""), frame.as_bytes(), 0, &only_alerts);
    assert_eq!((came.fate, came.alerts.len()), (Fate::Emitted, 1));
    let came = run_wired(&mut *with("alert_at = 96"), frame.as_bytes(), 0, &only_alerts);
    assert_eq!(came.fate, Fate::Dropped("no_alert"));
}

#[test]
fn an_old_event_is_scored_and_alerts_nobody() {
    let mut event = seed();
    event["transaction"]["time_stamp"] = json!("2021-12-31T23:00:00Z");
    let came = run(&mut *with("alert_max_age = '1h'"), &event);
    assert_eq!((came.lines.len(), came.alerts.len()), (1, 1), "an hour, and a fraction that makes it younger");
    let came = run(&mut *with("alert_max_age = '59m'"), &event);
    assert_eq!((came.lines.len(), came.alerts.len()), (1, 0));
}

#[test]
fn tables_tell_of_addresses_and_hold_alerts_back() {
    let mut shelf = Shelf::default();
    shelf.place::<Reputation>("bad");
    shelf.place::<GeoIp>("geo");
    shelf.place::<Suppressions>("known");
    let settings = "reputation = 'bad'\ngeoip = 'geo'\nsuppressions = 'known'\nalert_fields = 'full'\nlayout = 'upstream'";
    let (node, mut errors) = (Node::parse_toml(settings).unwrap(), Errors::default());
    let spec = Waf.parse(&mut Section::open("handlers.waf", &node, Waf.fields(), &[], &mut errors));
    assert!(errors.is_empty(), "{errors}");
    let mut handler = spec.build(&shelf);
    let mut event = seed();
    event["transaction"]["client_ip"] = json!("203.0.113.9");
    event["transaction"]["request"]["hostname"] = json!("www.example.org");

    // No table is filled yet.
    let came = run(&mut *handler, &event);
    assert_eq!((&came.alerts[0]["severity"], came.alerts[0].get("reputation")), (&json!(95), None));
    assert!(came.lines[0].contains(",geo_city=unknown,"), "{}", came.lines[0]);

    let list = ("scanners", [networks::parse("203.0.113.0/24").unwrap()]);
    shelf.of("bad").unwrap().put(Arc::new(Reputation::of([list], &reputation::Own::default())));
    shelf.of("geo").unwrap().put(Arc::new(GeoIp::default()));
    let came = run(&mut *handler, &event);
    assert_eq!((&came.alerts[0]["severity"], &came.alerts[0]["reputation"]), (&json!(110), &json!("scanners")));
    event["transaction"]["client_ip"] = json!("unix:");
    assert!(run(&mut *handler, &event).lines[0].contains(",geo_city=private,"));

    let rule = suppressions::Rule {
        rules: vec![942_000..=942_999],
        hosts: vec!["www.example.org".into()],
        until: u64::MAX,
        reason: "a search".into(),
        ..Default::default()
    };
    let table = Arc::new(Suppressions::new(vec![rule], None));
    shelf.of("known").unwrap().put(table.clone());
    let came = run(&mut *handler, &event);
    assert_eq!((came.fate, came.lines.len(), came.alerts.len(), table.count()), (Fate::Emitted, 2, 0, 1));
    event["transaction"]["messages"].as_array_mut().unwrap().push(json!({"details": {"ruleId": "932160"}}));
    assert_eq!((run(&mut *handler, &event).alerts.len(), table.count()), (1, 1), "another rule is not covered");
}

#[test]
fn both_entries_of_one_request_have_one_key() {
    let entry = |id: &str, change: &dyn Fn(&mut Value)| {
        let mut event = json!({"transaction": {
            "client_ip": "203.0.113.9", "client_port": 4711, "host_ip": "192.0.2.80", "time_stamp": "Tue May 10 04:52:04 2022", "unique_id": id,
            "request": {"method": "GET", "uri": "/a?q=1"}, "response": {"http_code": 403},
            "messages": [{"details": {"ruleId": "942100"}}, {"details": {"ruleId": "920350"}}],
        }});
        change(&mut event["transaction"]);
        event
    };
    let keys = |settings: &str, event: &Value| -> Vec<Option<Vec<u8>>> {
        let mut handler = with(settings);
        let frame = event.to_string().into_bytes();
        let origin = Origin { stream: "redis/waf", offset: 7, len: None };
        let mut draft = Draft::new(Slab::from_bytes(frame.clone()));
        let place = Place { start: 0, len: u32::try_from(frame.len()).unwrap() };
        let record = Record { frame: &frame, origin, received: 0, own: false };
        handler.handle(&record, &mut Parser::new().alert(&frame), &mut draft.outbox(place, 0, &[Some(0), Some(1), Some(2)], origin).1);
        let batch = draft.finish(0, Position::Count(1), 0);
        batch.numbers().map(|n| batch.message(n).key.map(<[u8]>::to_vec)).collect()
    };
    let same = |_: &mut Value| {};
    assert_eq!(keys("alert_at = 1", &entry("165215832450.639870", &same)), [None, None, None]);
    let first = keys("key = 'request'\nalert_at = 1\nlayout = 'upstream'", &entry("165215832450.639870", &same));
    assert_eq!((first.len(), first[0].as_ref().unwrap().len()), (4, 32));
    assert!(first.iter().all(|key| *key == first[0]), "two points, the event, the alert");
    let of = |id: &str, change: &dyn Fn(&mut Value)| keys("key = 'request'", &entry(id, change)).remove(0);
    assert_eq!(of("165215832499.000001", &same), first[0], "the redirect has another id");
    assert_eq!(
        of("165215832499.000001", &|t| t["messages"].as_array_mut().unwrap().reverse()),
        first[0],
        "and may tell its rules in another order"
    );
    let others: [&dyn Fn(&mut Value); 6] = [
        &|t| t["client_port"] = json!(4712),
        &|t| t["client_ip"] = json!("203.0.113.8"),
        &|t| t["host_ip"] = json!("192.0.2.81"),
        &|t| t["request"]["uri"] = json!("/a?q=2"),
        &|t| t["messages"] = json!([{"details": {"ruleId": "942100"}}]),
        &|t| t["time_stamp"] = json!("Tue May 10 04:52:05 2022"),
    ];
    for (n, other) in others.into_iter().enumerate() {
        // With an id of its own no true second is known, so the stamp counts.
        assert_ne!(of("a", other), of("a", &same), "{n}");
    }
    let no_port = |t: &mut Value| _ = t.as_object_mut().unwrap().remove("client_port");
    assert_ne!(of("a", &no_port), of("b", &no_port), "without a port nothing tells that it is one connection");
}

fn figures(settings: &str, frame: &str) -> Vec<String> {
    let mut handler = with(settings);
    let frame = frame.as_bytes();
    let origin = Origin { stream: "redis/waf", offset: 7, len: None };
    let mut draft = Draft::new(Slab::from_bytes(frame.to_vec()));
    let place = Place { start: 0, len: u32::try_from(frame.len()).unwrap() };
    let record = Record { frame, origin, received: 0, own: false };
    handler.handle(&record, &mut Parser::new().alert(frame), &mut draft.outbox(place, 0, &[Some(0), Some(1)], origin).1);
    let told = |c: &crate::batch::Counting| format!("{}{:?} {:?}", c.figure.name, c.figure.labels, c.counted);
    draft.figures().iter().map(told).collect()
}

#[test]
fn what_is_refused_is_counted_by_reason() {
    assert_eq!(figures("", r#"{"a":1}"#), [r#"shipper_waf_refused["reason", ""] One(["no_transaction", ""])"#]);
    assert_eq!(figures("others = 'drop'", r#"{"a":1}"#), [""; 0], "what is somebody else's is not");
}

#[test]
fn figures_are_told_by_both_names_if_asked() {
    let counted = |settings: &str| {
        let mut told = figures(settings, &seed().to_string());
        told.retain(|text| text.starts_with("waf_"));
        told
    };
    assert_eq!(counted(""), Vec::<String>::new());
    let expected = [
        r#"waf_events_processed["severity", "rule_category"] One(["critical", "sqli"])"#,
        r#"waf_severity_scores["", ""] Value(95)"#,
        r#"waf_alerts_generated["alert_type", "severity"] One(["CRITICAL_SECURITY_EVENT", "critical"])"#,
    ];
    assert_eq!(counted("upstream_names = true"), expected);
    assert_eq!(counted("upstream_names = true\nalert_at = 96").len(), 2, "what is no alert is not counted as one");
}

#[test]
fn only_the_track_that_is_wanted_is_taken() {
    assert_eq!(run(&mut *with("only_track = 'realtime'"), &seed()).fate, Fate::Emitted);
    assert_eq!(run(&mut *with("only_track = 'analytics'"), &seed()).fate, Fate::Dropped("other_track"));
}

#[test]
fn messages_past_the_limit_are_counted() {
    let mut event = seed();
    let message = json!({"details": {"ruleId": "942100", "severity": "2"}});
    event["transaction"].as_object_mut().unwrap().remove("anomaly_score");
    event["transaction"]["messages"] = json!(vec![message; 2001]);
    let came = run(&mut *with(""), &event);
    assert!(came.lines[0].contains("anomaly_score=10000i"), "{}", came.lines[0]);
    assert_eq!(came.cuts, ["max_messages"]);
}

#[test]
fn proxies_tell_who_asked() {
    let mut event = seed();
    event["transaction"]["request"]["headers"] = json!({"X-Forwarded-For": "1.1.1.1, 203.0.113.9"});
    let settings = "client_ip_from = 'x-forwarded-for'\ntrusted_proxies = ['192.168.0.0/16']\nbad_ips = ['203.0.113.9']";
    let came = run(&mut *with(settings), &event);
    assert_eq!((&came.alerts[0]["client_ip"], &came.alerts[0]["severity"]), (&json!("203.0.113.9"), &json!(110)));
}

#[test]
fn what_is_no_event_has_a_reason_of_its_own() {
    let deep = format!("{{\"transaction\":{}1{}}}", "[".repeat(32), "]".repeat(32));
    let long = format!("{{\"transaction\":{{\"id\":\"{}\"}}}}", "x".repeat(2000));
    for (frame, reason) in [
        ("", "not_json"),
        ("{", "not_json"),
        ("[1]", "not_object"),
        ("\"transaction\"", "not_object"),
        ("{}", "no_transaction"),
        ("{\"transaction\":[]}", "no_transaction"),
        ("{\"message\":\"{\\\"transaction\\\":5}\"}", "no_transaction"),
        ("{\"message\":\"{\\\"transaction\\\":{\"}", "no_transaction"),
        ("{\"error\":\"ModSecurity was not compiled with JSON support.\"}", "no_json_support"),
        ("{\"activity_id\":1,\"category_uid\":4,\"class_uid\":4002,\"metadata\":{}}", "ocsf"),
        ("--a1b2c3d4-A--", "native_format"),
        (&deep, "too_deep"),
        (&long, "too_long"),
    ] {
        let came = run_wired(&mut *with("max_bytes = 1000"), frame.as_bytes(), 0, &[Some(0)]);
        match came.fate {
            Fate::Rejected(rejection) => assert_eq!(rejection.reason, reason, "{frame}"),
            other => panic!("{frame}: {other:?}"),
        }
        let foreign = !reason.starts_with("too_") && reason != "not_json";
        let came = run_wired(&mut *with("max_bytes = 1000\nothers = 'drop'"), frame.as_bytes(), 0, &[Some(0)]);
        assert_eq!(came.fate == Fate::Dropped(reason), foreign, "{frame}: {:?}", came.fate);
    }
}

#[test]
fn a_spoiled_version_hides_nothing() {
    let event = seed().to_string();
    let spoiled = |version: &str| event.replace("\"request\":{", &format!("\"request\":{{\"http_version\":{version},"));
    let expected = run_wired(&mut *with(""), event.as_bytes(), 0, &[Some(0)]).lines;
    for version in
        ["TEST", "HTTP\\1.0", "", " ", "1.1.1", "\\\"", "é", "{\"a\":[", "1}},{", "[[", "]}", "TEST,\"uri\":\"/innocent\",x", "'\"'"]
    {
        let frame = spoiled(version);
        let came = run_wired(&mut *with(""), frame.as_bytes(), 0, &[Some(0)]);
        // Members of our text are sorted, so `method` and `uri` follow.
        assert_eq!(came.lines, expected, "{version}: {:?}", came.fate);
        let packed = json!({"message": frame, "classification": {"rule_id": "1"}});
        assert_eq!(run_wired(&mut *with(""), packed.to_string().as_bytes(), 0, &[Some(0)]).lines, expected, "{version}, packed");
    }
}

#[test]
fn wrong_settings_are_told_with_their_remedy() {
    let text = wrong(
        "layout = 'tall'\nlevels = { critical = 50, high = 60 }\nweights = { sqli = 3, 949 = 5, 942 = 'x' }\nbad_ips = ['nowhere']\n\
         mask_ip = 'hash'\ntimezone = 'Mars/Olympus'\nclient_ip_from = 'x-forwarded-for'\nmax_bytes = 0\nanomaly_multiplier = 0",
    );
    for part in [
        "handlers.waf.layout: \"tall\" is not one of doc, upstream, lean",
        "levels.high: 60 is above levels.critical, 50",
        "weights: \"sqli\" is no category; write the first three digits",
        "weights: rules of 949 only keep the books",
        "weights: \"x\" for 942 is no whole number",
        "bad_ips: \"nowhere\" is no address or network; write it as",
        "mask_ip: hash needs a key; set mask_key_file",
        "timezone: no zone \"Mars/Olympus\"; write it as",
        "trusted_proxies: must be set for client_ip_from",
        "max_bytes: 0 would refuse everything",
        "anomaly_multiplier: 0 is not a whole number from 1 to 1000",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(wrong("trusted_proxies = ['10.0.0.0/8']").contains("is of no use alone"));
    assert!(wrong("mask_ip = 'hash'\nmask_key_file = '/nowhere/key'").contains("mask_key_file: cannot read the key in /nowhere/key"));
    assert!(wrong("mask_ip = 'hash'\nmask_key_file = '/a'\nmask_key_env = 'B'").contains("the key is also in mask_key_file; keep one"));
    assert!(wrong("mask_ip = 'hash'\nmask_key_env = 'SHIPPER_TEST_NO_SUCH_KEY'").contains("holds no key"));
}

#[test]
fn addresses_are_hashed_with_a_key_that_is_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "sesame\n").unwrap();
    let settings = format!("mask_ip = 'hash'\nmask_key_file = {:?}", path.to_str().unwrap());
    let came = run(&mut *with(&settings), &seed());
    let hash = came.alerts[0]["client_ip"].as_str().unwrap().to_owned();
    assert!(hash.len() == 18 && hash.starts_with("h:"), "{hash}");
    assert!(came.lines[0].contains(&format!("client_ip={hash},")));
    let (node, mut errors) = (Node::parse_toml(&settings).unwrap(), Errors::default());
    let spec = Waf.parse(&mut Section::open("handlers.waf", &node, Waf.fields(), &[], &mut errors));
    assert!(!format!("{spec:?}").contains("sesame"));
}

#[test]
fn synthetic_events_come_to_what_they_must() {
    for (_, form) in Form::ALL {
        let (mut events, mut handler, mut ids) = (Events::new(form, 50), with("alert_fields = 'full'\nalert_at = 0"), BTreeMap::new());
        for n in 0..2000 {
            let mut line = Vec::new();
            events.event(&mut line, 1_773_465_912_000_000_000 + n * 2_000_000);
            let came = run_wired(&mut *handler, line.trim_ascii_end(), 0, &[Some(0), Some(1)]);
            let Expected { severity, rule, .. } = Events::expected(n);
            let alert = &came.alerts[0];
            assert_eq!((&alert["severity"], &alert["rule_id"]), (&json!(severity), &json!(rule.to_string())), "{form:?} {n}");
            assert_eq!((&alert["client_ip"], &alert["blocked"]), (&json!(events.client(n).to_string()), &json!(true)));
            ids.insert(came.lines[0].clone(), n);
        }
        assert_eq!(ids.len(), 2000, "no two are one point");
    }
}

/// A slow and obvious reader of one line of the protocol, for comparison.
mod naive {
    use super::*;

    #[derive(Debug, PartialEq)]
    pub struct Point {
        pub measurement: String,
        pub tags: BTreeMap<String, String>,
        /// Texts with their quotes.
        pub fields: BTreeMap<String, String>,
        pub time: i64,
    }

    /// Splits at every `separator` that has no backslash before it.
    fn split(text: &str, separator: char) -> Vec<String> {
        let (mut parts, mut before) = (vec![String::new()], ' ');
        for c in text.chars() {
            if c == separator && before != '\\' {
                parts.push(String::new())
            } else {
                parts.last_mut().unwrap().push(c)
            }
            before = c;
        }
        parts
    }

    fn unescaped(text: &str) -> String {
        text.replace("\\,", ",").replace("\\=", "=").replace("\\ ", " ")
    }

    /// # Panics
    /// If the line is anything but one point.
    pub fn read(line: &str) -> Point {
        assert!(!line.contains(['\n', '\r']), "one line: {line:?}");
        // The first blank ends the tags, the last begins the time; blanks in texts are between.
        let tags_end = line.char_indices().find(|(at, c)| *c == ' ' && !line[..*at].ends_with('\\')).unwrap().0;
        let (fields, time) = line[tags_end + 1..].rsplit_once(' ').unwrap();
        let mut parts = split(&line[..tags_end], ',').into_iter();
        let measurement = parts.next().unwrap();
        let tags = parts.map(|part| {
            let pair = split(&part, '=');
            assert_eq!(pair.len(), 2, "{part:?} of {line:?}");
            assert!(!pair[1].is_empty() && !pair[1].ends_with('\\'), "{part:?}");
            (pair[0].clone(), unescaped(&pair[1]))
        });
        Point { measurement, tags: tags.collect(), fields: read_fields(fields), time: time.parse().unwrap() }
    }

    fn read_fields(text: &str) -> BTreeMap<String, String> {
        let (mut fields, mut rest) = (BTreeMap::new(), text);
        loop {
            let (name, value) = rest.split_once('=').unwrap();
            assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name:?}");
            let mut len = 0;
            if value.starts_with('"') {
                let mut chars = value.char_indices().skip(1);
                while let Some((at, c)) = chars.next() {
                    match c {
                        '\\' => drop(chars.next()),
                        '"' => {
                            len = at + 1;
                            break;
                        }
                        _ => {}
                    }
                }
                assert!(len > 1, "an end: {value:?}");
            } else {
                len = value.find(',').unwrap_or(value.len());
                let number = value[..len].strip_suffix('i').unwrap_or(&value[..len]);
                assert!(number.parse::<f64>().is_ok(), "{value:?}");
            }
            assert!(fields.insert(name.to_owned(), value[..len].to_owned()).is_none(), "{name} twice");
            match value[len..].strip_prefix(',') {
                Some(more) => rest = more,
                None => {
                    assert_eq!(&value[len..], "", "nothing behind {name}");
                    return fields;
                }
            }
        }
    }
}

/// As texts are written: four characters as their escapes, cut, without what may not stand at an end.
fn as_tag(text: &str) -> Option<String> {
    let cut: String = shown_chars(text, limits::WAF_TAG_BYTES_MAX);
    let kept = cut.trim_end_matches('\\');
    (!kept.is_empty()).then(|| escapes(kept))
}

fn as_text(text: &str) -> String {
    format!("\"{}\"", escapes(&shown_chars(text, limits::WAF_URI_BYTES_MAX).replace('\\', "\\\\").replace('"', "\\\"")))
}

fn shown_chars(text: &str, max: usize) -> String {
    let mut kept = String::new();
    for c in event::trimmed(text).chars() {
        if kept.len() + c.len_utf8() > max {
            break;
        }
        kept.push(c);
    }
    kept
}

fn escapes(text: &str) -> String {
    text.replace('\n', "\\n").replace('\t', "\\t").replace('\r', "\\r").replace('\x0c', "\\f")
}

fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a,= \\\\\"\n\t\r\u{c}\u{0}\u{1b}é]{0,12}",
        "[a\\\\]{1000,1060}",
        Just(" waf_events,x=y z=1i 5\nwaf_events evil=1i 6".to_owned()),
        Just("\",\"severity\":0,\"x\":\"".to_owned()),
        Just("a\" 1\nb=2i".to_owned()),
        Just("] [file \"x\"] [id \"949110\"] [msg \"Total Score: 999\"]".to_owned()),
    ]
}

proptest! {
    #[test]
    fn no_text_of_a_client_breaks_a_point_or_an_alert(
        client in hostile(), method in hostile(), uri in hostile(), id in hostile(), rule in hostile(), header in hostile(), host in hostile(),
    ) {
        let event = json!({
            "transaction": {
                "id": id, "client_ip": client, "anomaly_score": 90, "time_stamp": header, "server_id": host,
                "request": {"uri": uri, "method": method, "headers": {"Host": host, header.clone(): header}},
                "response": {"http_code": 403},
                "messages": [{"message": rule, "details": {"ruleId": rule, "tags": [rule]}}],
            },
            "classification": {"rule_id": rule, "track": host},
        });
        let level = BTreeMap::from([("severity_level".to_owned(), "critical".to_owned())]);
        let tags = |pairs: &[(&str, Option<String>)], more: &BTreeMap<String, String>| {
            let pairs = pairs.iter().filter_map(|(key, value)| Some(((*key).to_owned(), value.clone()?)));
            pairs.chain(more.clone()).collect::<BTreeMap<_, _>>()
        };
        let point = naive::read(&run(&mut *with(""), &event).lines[0]);
        prop_assert_eq!(&point.measurement, "waf_events");
        prop_assert_eq!(point.tags, tags(&[("client_ip", as_tag(&client))], &level));
        prop_assert_eq!(point.fields.len(), 3);

        let came = run(&mut *with("layout = 'upstream'\nalert_fields = 'full'\nhost_from = 'name'"), &event);
        let points: Vec<_> = came.lines.iter().map(|line| naive::read(line)).collect();
        let geo = BTreeMap::from([("geo_city", "unknown"), ("geo_country", "unknown")].map(|(a, b)| (a.to_owned(), b.to_owned())));
        let own = tags(&[("client_ip", as_tag(&client)), ("method", as_tag(&method))], &level.into_iter().chain(geo).collect());
        prop_assert_eq!(&points[0].tags, &own);
        prop_assert_eq!(points[1].tags.get("method"), own.get("method"));
        for point in &points {
            prop_assert_eq!(&point.fields["uri"], &as_text(&uri));
            prop_assert_eq!(point.time, points[0].time);
        }
        prop_assert_eq!(&came.alerts[0]["uri"], &json!(shown_chars(&uri, limits::WAF_URI_BYTES_MAX)));
        prop_assert_eq!(&came.alerts[0]["client_ip"], &json!(shown_chars(&client, limits::WAF_TAG_BYTES_MAX)));
        prop_assert_eq!(came.alerts[0].as_object().unwrap().len(), 10);

        let point = naive::read(&run(&mut *with("layout = 'lean'\nhost_from = 'name'"), &event).lines[0]);
        prop_assert_eq!(point.fields.len(), 9);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), cut in 0..400_usize, put in "[\\[\\]{}\",:0-9a\\\\ ]{0,8}") {
        run_wired(&mut *with(""), &bytes, 0, &[Some(0), Some(1)]);
        let mut frame = seed().to_string().into_bytes();
        let at = cut.min(frame.len());
        frame.splice(at..at, put.bytes());
        let came = run_wired(&mut *with("layout = 'upstream'"), &frame, 0, &[Some(0), Some(1)]);
        prop_assert_eq!(came.fate == Fate::Emitted, came.lines.len() == 2);
        came.lines.iter().for_each(|line| drop(naive::read(line)));
    }

    /// With `others = "drop"` frames without a needle are never shown to the handler.
    #[test]
    fn what_emits_has_a_needle(wraps in 0..3_usize, key in "message|log|original|x", escaped in any::<bool>()) {
        let mut event = seed();
        for _ in 0..wraps {
            event = json!({key.clone(): event.to_string()});
        }
        let mut frame = event.to_string();
        if escaped {
            frame = frame.replacen("transaction", "trans\\u0061ction", 1);
        }
        let mut handler = with("others = 'drop'");
        let Needles::Any(needles) = handler.needles() else { panic!("it has needles") };
        let has = |needle: &[u8]| frame.as_bytes().windows(needle.len()).any(|window| window == needle);
        let emits = run_wired(&mut *handler, frame.as_bytes(), 0, &[Some(0)]).fate == Fate::Emitted;
        prop_assert!(!emits || has(b"\\u00") || needles.iter().any(|needle| has(needle)), "{}", frame);
        prop_assert_eq!(emits, wraps == 0 || (wraps == 1 && (key == "message" || key == "log")), "{}", frame);
    }
}
