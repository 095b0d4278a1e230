//! Which texts of an alert are looked at, what is written, and what any bytes cost.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    alert::Parser,
    batch::{Counting, Draft, Place},
    io::Slab,
    position::{Origin, Position},
    register::{Errors, Node as Setting, Value as Written, tree},
    tables::{
        self, Attribute, Filter, Indicator, Indicators, Warninglists,
        build::{Builder, InMemory},
        changes::Changes,
        warninglists,
    },
};

/// A payload and its key.
type Sent = (String, Option<String>);

/// A table `known` of these indicators and a table `lists` of one list of each category.
fn tables(known: &[&str]) -> Shelf {
    let mut shelf = Shelf::default();
    shelf.place::<Indicators>("known");
    shelf.place::<Warninglists>("lists");
    let mut builder = Builder::new(InMemory::default());
    for value in known {
        builder.add(&Attribute::bare(Indicator::Text((*value).into()), tables::Kind::guess(value))).unwrap().unwrap();
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes, std::io::sink(), 0, &mut |_| ()).unwrap();
    shelf.of("known").unwrap().put(Arc::new(Indicators::new(Filter::parse(bytes).unwrap(), &Changes::default())));
    let mut lists = warninglists::Builder::new();
    lists.add("good", br#"{"name":"Good ones","type":"hostname","list":["a.top"],"category":"false_positive"}"#).unwrap();
    lists.add("vpn", br#"{"name":"A VPN","type":"cidr","list":["45.155.205.0/24"],"category":"known"}"#).unwrap();
    shelf.of("lists").unwrap().put(Arc::new(lists.build().unwrap()));
    shelf
}

/// What is counted of an alert as possibly known.
fn known_counted(handler: &mut dyn Handler, alert: &Value) -> Vec<([&'static str; 2], u32)> {
    let frame = alert.to_string().into_bytes();
    let origin = Origin { stream: "m/alerts/2026-03-14/000", offset: 7, len: Some(9) };
    let mut draft = Draft::new(Slab::from_bytes(frame.clone()));
    let (_, mut out) = draft.outbox(Place { start: 0, len: 1 }, 0, &[None, Some(1)], origin);
    handler.handle(&Record { frame: &frame, origin, received: 0, own: false }, &mut Parser::new().alert(&frame), &mut out);
    let of = |counting: &Counting| match counting.counted {
        Counted::One(values) => (values, counting.times),
        Counted::Value(_) => panic!("{counting:?}"),
    };
    draft.figures().iter().map(of).collect()
}

/// Payloads on both outputs, first output first.
fn both(handler: &mut dyn Handler, alert: &Value, routes: &[Option<u8>]) -> (Fate, Vec<(u8, Value)>) {
    let frame = alert.to_string().into_bytes();
    let origin = Origin { stream: "m/alerts/2026-03-14/000", offset: 7, len: Some(9) };
    let mut draft = Draft::new(Slab::from_bytes(frame.clone()));
    let place = Place { start: 0, len: u32::try_from(frame.len()).unwrap() };
    let fate = {
        let (_, mut out) = draft.outbox(place, 0, routes, origin);
        let record = Record { frame: &frame, origin, received: 0, own: false };
        handler.handle(&record, &mut Parser::new().alert(&frame), &mut out)
    };
    let batch = draft.finish(0, Position::Count(1), 0);
    let sent = (0..u32::try_from(batch.len()).unwrap()).map(|n| {
        let message = batch.message(n);
        (message.output, serde_json::from_slice(message.payload).unwrap())
    });
    (fate, sent.collect())
}

fn values_of(payload: &Value) -> Vec<&str> {
    payload["iocs"].as_array().unwrap().iter().map(|ioc| ioc["value"].as_str().unwrap()).collect()
}

#[test]
fn output_known_has_only_what_the_table_may_know() {
    let wired = [Some(0), Some(1)];
    let with = |shelf: &Shelf| parse(&[("indicators", "\"known\"")]).0.build(shelf);
    let shelf = tables(&["top", "45.155.0.0/16", "evil-update.top"]);
    let mut handler = with(&shelf);
    let (fate, sent) = both(&mut *handler, &alert(), &wired);
    assert_eq!((fate, sent.len()), (Fate::Emitted, 2));
    assert_eq!(values_of(&sent[0].1), ["http://a.top/é", "a.top", "45.155.205.233", "evil-update.top"]);
    assert_eq!(values_of(&sent[1].1), ["45.155.205.233", "evil-update.top"]);
    assert_eq!(known_counted(&mut *handler, &alert()), [(["ip", ""], 1), (["domain", ""], 1)]);
    assert_eq!(sent[0].1["timestamp"], sent[1].1["timestamp"]);

    // Another table is seen at the next record.
    shelf.of("known").unwrap().put(tables(&["a.top"]).of::<Indicators>("known").unwrap().get().unwrap());
    let (_, sent) = both(&mut *handler, &alert(), &wired);
    assert_eq!(values_of(&sent[1].1), ["http://a.top/é", "a.top"], "the URL by its host");
    let (fate, sent) = both(&mut *handler, &alert(), &[None, Some(1)]);
    assert_eq!((fate, sent.len(), sent[0].0), (Fate::Emitted, 1, 1));

    shelf.of("known").unwrap().put(tables(&[]).of::<Indicators>("known").unwrap().get().unwrap());
    assert_eq!(both(&mut *handler, &alert(), &[None, Some(1)]), (Fate::Dropped("not_known"), vec![]));
    assert_eq!(both(&mut *handler, &alert(), &wired).1.len(), 1);

    // A table that is not there yet cannot say no.
    let mut empty = Shelf::default();
    empty.place::<Indicators>("known");
    let (_, sent) = both(&mut *with(&empty), &alert(), &wired);
    assert_eq!(values_of(&sent[1].1).len(), 4);
    let spec = parse(&[]).0;
    assert!(spec.lacks(KNOWN).is_some() && spec.lacks(PRIMARY).is_none());
    assert!(parse(&[("indicators", "\"known\"")]).0.lacks(KNOWN).is_none());
}

#[test]
fn what_a_list_calls_harmless_goes_and_what_it_knows_is_noted() {
    let shelf = tables(&["a.top"]);
    let settings = [("warninglists", "\"lists\""), ("indicators", "\"known\"")];
    let with = |more: &[(&str, &str)]| parse(&[&settings[..], more].concat()).0.build(&shelf);
    let (_, sent) = both(&mut *with(&[]), &alert(), &[Some(0), Some(1)]);
    assert_eq!(sent.len(), 1, "what is harmless is not looked up");
    assert_eq!(values_of(&sent[0].1), ["45.155.205.233", "evil-update.top"]);
    assert_eq!(sent[0].1["iocs"][0]["warninglists"], json!(["A VPN"]));
    assert!(sent[0].1["iocs"][1].get("warninglists").is_none());
    let (_, sent) = both(&mut *with(&[("harmless", "\"annotate\"")]), &alert(), &[Some(0), Some(1)]);
    assert_eq!(values_of(&sent[0].1).len(), 4);
    assert_eq!(sent[1].1["iocs"][1]["warninglists"], json!(["Good ones"]));
    assert_eq!(both(&mut *with(&[]), &json!({"full_log": "query: b.a.top"}), &[Some(0)]), (Fate::Dropped("harmless"), vec![]));
    let frame = alert().to_string();
    let record = Record { frame: frame.as_bytes(), origin: Origin { stream: "x", offset: 0, len: None }, received: 0, own: false };
    let facts = with(&[]).explain(&record, &mut Parser::new().alert(frame.as_bytes()));
    assert_eq!(facts[0], ("iocs", "2".into()));
    let left: Value = serde_json::from_str(&facts[1].1).unwrap();
    assert_eq!(left[1], json!({"value": "a.top", "field": "data.list[1].at", "why": "warninglist", "lists": ["Good ones"]}));
    assert_eq!(facts[2], ("may_be_known", "[]".into()));
    // Without a table of lists, those of our own.
    let (_, sent) = both(&mut *parse(&[]).0.build(&shelf), &json!({"data": {"srcip": "8.8.8.8"}}), &[Some(0)]);
    assert_eq!(sent[0].1["iocs"][0]["warninglists"], json!(["Public resolvers"]));
}

fn parse(settings: &[(&str, &str)]) -> (Box<dyn Spec>, Errors) {
    let key = |name: &str| tree::Key { name: name.into(), place: tree::Place::Default };
    let entries = settings.iter().map(|(name, text)| (key(name), Setting::parse_scalar(text))).collect();
    let node = Setting { value: Written::Table(entries), place: tree::Place::Default };
    let mut errors = Errors::default();
    let spec = Ioc.parse(&mut Section::open("handlers.ioc", &node, FIELDS, &[], &mut errors));
    (spec, errors)
}

fn handler(settings: &[(&str, &str)]) -> Box<dyn Handler> {
    let (spec, errors) = parse(settings);
    assert!(errors.is_empty(), "{errors}");
    spec.build(&crate::tables::Shelf::default())
}

/// Fate, messages, and the limits that were hit.
fn run(handler: &mut dyn Handler, frame: &[u8], own: bool) -> (Fate, Vec<Sent>, Vec<&'static str>) {
    let mut parser = Parser::new();
    let mut alert = parser.alert(frame);
    let origin = Origin { stream: "m/alerts/2026-03-14/000", offset: 7, len: Some(9) };
    let mut draft = Draft::new(Slab::from_bytes(frame.to_vec()));
    let place = Place { start: 0, len: u32::try_from(frame.len()).unwrap() };
    let fate = {
        let (_, mut out) = draft.outbox(place, 0, &[Some(0)], origin);
        handler.handle(&Record { frame, origin, received: 1_700_000_000_000_000_000, own }, &mut alert, &mut out)
    };
    let cuts = draft.cuts().iter().map(|(_, limit)| *limit).collect();
    let batch = draft.finish(0, Position::Count(1), 0);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let sent = (0..u32::try_from(batch.len()).unwrap()).map(|n| (text(batch.message(n).payload), batch.message(n).key.map(text))).collect();
    (fate, sent, cuts)
}

fn alert() -> Value {
    json!({"timestamp": "2026-03-14T06:25:12.004+0100", "id": "1710401112.100", "agent": {"id": "014"}, "location": "91.240.118.172->x",
        "full_log": "Ban 45.155.205.233 query: evil-update.top", "data": {"srcip": "45.155.205.233", "list": ["x", {"at": "http://a.top/é"}]}})
}

/// The values found, in order.
fn values(handler: &mut dyn Handler, alert: &Value) -> Vec<String> {
    let (_, sent, _) = run(handler, alert.to_string().as_bytes(), false);
    let found = |text: &String| -> Vec<String> {
        let payload: Value = serde_json::from_str(text).unwrap();
        payload["iocs"].as_array().unwrap().iter().map(|ioc| ioc["value"].as_str().unwrap().to_owned()).collect()
    };
    sent.iter().flat_map(|(text, _)| found(text)).collect()
}

#[test]
fn the_message_has_its_members_in_a_fixed_order() {
    let (fate, sent, cuts) = run(&mut *handler(&[]), alert().to_string().as_bytes(), false);
    let expected = "{\"alert_id\":\"1710401112.100\",\"iocs\":[\
        {\"type\":\"url\",\"value\":\"http://a.top/é\",\"field\":\"data.list[1].at\",\"confidence\":0.9},\
        {\"type\":\"domain\",\"value\":\"a.top\",\"field\":\"data.list[1].at\",\"confidence\":0.9},\
        {\"type\":\"ip\",\"value\":\"45.155.205.233\",\"field\":\"data.srcip\",\"confidence\":0.9},\
        {\"type\":\"domain\",\"value\":\"evil-update.top\",\"field\":\"full_log\",\"confidence\":0.8}],\
        \"timestamp\":\"2026-03-14T05:25:12.004Z\"}";
    assert_eq!((fate, cuts), (Fate::Emitted, vec![]));
    assert_eq!(sent, [(expected.to_owned(), None)]);
}

#[test]
fn what_an_alert_lacks_is_null_or_the_time_of_reading() {
    for (alert, head, tail) in [
        (json!({"full_log": "45.155.205.233"}), "{\"alert_id\":null,", "\"timestamp\":\"2023-11-14T22:13:20.000Z\"}"),
        (json!({"full_log": "45.155.205.233", "id": 17.50, "timestamp": "yesterday"}), "{\"alert_id\":\"17.5\",", "13:20.000Z\"}"),
    ] {
        let (_, sent, _) = run(&mut *handler(&[]), alert.to_string().as_bytes(), false);
        assert!(sent[0].0.starts_with(head) && sent[0].0.ends_with(tail), "{}", sent[0].0);
    }
}

#[test]
fn settings_choose_what_counts() {
    let all = ["http://a.top/é", "a.top", "45.155.205.233", "evil-update.top"];
    for (settings, expected) in [
        (&[][..], &all[..]),
        (&[("types", "[\"domain\", \"md5\"]")], &["a.top", "evil-update.top"]),
        (&[("own_domains", "[\".A.top\", \"update.top\"]")], &["45.155.205.233", "evil-update.top"]),
        (&[("own_networks", "[\"45.155.0.0/16\"]")], &["http://a.top/é", "a.top", "evil-update.top"]),
        (&[("max_iocs", "2")], &["http://a.top/é", "a.top"]),
    ] {
        assert_eq!(values(&mut *handler(settings), &alert()), expected, "{settings:?}");
    }
    let (_, sent, _) = run(&mut *handler(&[("key", "agent.id")]), alert().to_string().as_bytes(), false);
    assert_eq!(sent[0].1.as_deref(), Some("014"));
}

#[test]
fn the_defaults_are_the_limits() {
    let expected = format!("iocs_max: {}, bytes_max: {}", limits::IOCS_PER_ALERT, limits::IOC_TEXT_BYTES);
    let (spec, errors) = parse(&[]);
    assert!(errors.is_empty() && format!("{spec:?}").contains(&expected), "{spec:?}");
}

#[test]
fn wrong_settings_are_answered_with_what_is_right() {
    for (name, text, answer) in [
        ("types", "[\"ipv4\"]", "known: ip, domain, url"),
        ("own_domains", "[\"10.0.0.1\"]", "write it as uni-trier.de"),
        ("own_domains", "[\"top\"]", "write it as uni-trier.de"),
        ("own_networks", "[\"10.0.0\"]", "write it as 136.199.0.0/16"),
        ("max_iocs", "0", "1"),
        ("max_bytes", "0", "use 1 byte or more"),
    ] {
        let (_, errors) = parse(&[(name, text)]);
        assert!(errors.to_string().contains(answer), "{name}: {errors}");
    }
}

#[test]
fn a_limit_that_is_hit_is_told() {
    let frame = alert().to_string();
    let cuts = |settings: &[(&str, &str)]| run(&mut *handler(settings), frame.as_bytes(), false).2;
    assert_eq!(cuts(&[("max_iocs", "3")]), ["max_iocs"]);
    assert_eq!(cuts(&[("max_bytes", "20")]), ["max_bytes"]);
    assert_eq!(cuts(&[("max_iocs", "4")]), [""; 0]);
}

#[test]
fn what_holds_no_indicator_has_one_reason() {
    for (frame, own, reason) in [
        ("{}", false, "no_indicators"),
        ("[\"45.155.205.233\"]", false, "not_an_alert"),
        ("\"45.155.205.233\"", false, "not_an_alert"),
        ("{\"full_log\":\"45.155.205.233\"}", true, "own_event"),
        ("{\"full_log\":\"45.155.205.233\",\"data\":{\"integration\":\"misp\"}}", false, "own_integration"),
        ("{\"agent\":{\"id\":\"000\"},\"full_log\":\"45.155.205.233\",\"data\":{\"integration\":\"misp\"}}", false, "own_integration"),
        (
            "{\"full_log\":\"10.0.0.1 and a.local\",\"45.155.205.233\":{\"evil.top\":null},\"agent\":{\"ip\":\"45.155.205.233\"}}",
            false,
            "no_indicators",
        ),
    ] {
        assert_eq!(run(&mut *handler(&[]), frame.as_bytes(), own), (Fate::Dropped(reason), vec![], vec![]), "{frame}");
    }
    let of_an_agent = br#"{"agent":{"id":"014"},"full_log":"45.155.205.233","data":{"integration":"misp"}}"#;
    assert_eq!(run(&mut *handler(&[]), of_an_agent, false).0, Fate::Emitted, "a log line cannot hide itself");
    assert!(matches!(run(&mut *handler(&[]), b"{", false).0, Fate::Rejected(Rejection { reason: "not_json", .. })));
}

#[test]
fn an_explanation_says_what_was_left_out_and_why() {
    let frame = json!({"full_log": "10.0.0.1 C:\\x\\update.com backup.sh", "data": {"a": [{"fileVersion": "12.4.3.2"}]}}).to_string();
    let record = Record { frame: frame.as_bytes(), origin: Origin { stream: "x", offset: 0, len: None }, received: 0, own: false };
    let facts = handler(&[]).explain(&record, &mut Parser::new().alert(frame.as_bytes()));
    let left = |value: &str, field: &str, why: &str| json!({"value": value, "field": field, "why": why});
    assert_eq!(facts.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["iocs", "left_out"]);
    assert_eq!(
        serde_json::from_str::<Value>(&facts[1].1).unwrap(),
        json!([
            left("12.4.3.2", "data.a[0].fileVersion", "version_field"),
            left("10.0.0.1", "full_log", "not_public"),
            left("update.com", "full_log", "path"),
            left("backup.sh", "full_log", "file_type"),
        ])
    );
}

#[test]
fn a_way_that_is_long_or_deep_is_cut() {
    let deep = format!("{{\"data\":{}\"45.155.205.233\"{}}}", "{\"é\":".repeat(1000), "}".repeat(1000));
    let (_, sent, _) = run(&mut *handler(&[]), deep.as_bytes(), false);
    let payload: Value = serde_json::from_str(&sent[0].0).unwrap();
    let field = payload["iocs"][0]["field"].as_str().unwrap();
    assert!(field.starts_with("data.é.é.") && (limits::IOC_FIELD_BYTES - 3..=limits::IOC_FIELD_BYTES).contains(&field.len()), "{field}");
}

proptest! {
    /// Whatever comes: no panic, what is emitted is JSON, and `explain` finds as many.
    #[test]
    fn any_bytes_give_json_or_a_reason(text in "\\PC{0,200}|[a-f0-9.:/@\\[\\]\\\\%\"]{0,200}", raw in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut handler = handler(&[]);
        run(&mut *handler, &raw, false);
        for frame in [json!({"full_log": text}).to_string(), json!({"id": text, "timestamp": text, "data": {&text: [&text]}}).to_string()] {
            let (fate, sent, _) = run(&mut *handler, frame.as_bytes(), false);
            let record = Record { frame: frame.as_bytes(), origin: Origin { stream: "x", offset: 0, len: None }, received: 0, own: false };
            let facts = handler.explain(&record, &mut Parser::new().alert(frame.as_bytes()));
            let mut count = 0;
            for (payload, _) in &sent {
                count = serde_json::from_str::<Value>(payload).unwrap()["iocs"].as_array().unwrap().len();
            }
            prop_assert_eq!(fate == Fate::Emitted, count > 0);
            prop_assert_eq!(&facts[0], &("iocs", count.to_string()));
            for (_, fact) in &facts {
                prop_assert!(serde_json::from_str::<Value>(fact).is_ok(), "{}", fact);
            }
        }
    }
}

#[test]
fn what_is_found_is_counted_by_type() {
    let (mut handler, frame) = (handler(&[]), alert().to_string().into_bytes());
    let mut draft = Draft::new(Slab::from_bytes(frame.clone()));
    for _ in 0..2 {
        let origin = Origin { stream: "m/alerts/2026-03-14/000", offset: 7, len: Some(9) };
        let (_, mut out) = draft.outbox(Place { start: 0, len: 1 }, 3, &[Some(0)], origin);
        let mut parser = Parser::new();
        let record = Record { frame: &frame, origin, received: 0, own: false };
        assert_eq!(handler.handle(&record, &mut parser.alert(&frame), &mut out), Fate::Emitted);
    }
    let mut finds = draft.finds().to_vec();
    finds.sort_unstable();
    assert_eq!(finds, [(3, "domain", 4), (3, "ip", 2), (3, "url", 2)]);
}
