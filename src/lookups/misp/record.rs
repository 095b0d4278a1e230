//! What is emitted: a match for each indicator that MISP knows, a gap for each that it will not take. Pure.
//!
//! ```json
//! {"misp":{"event_id":"3","category":"Network activity","type":"ip-dst","value":"192.0.2.7","attribute_id":"7","attribute_uuid":"…","event_uuid":"…",
//!          "event_info":"Emotet","tags":["tlp:green"],"to_ids":true,"via":"value","others":[…]},
//!  "ioc":{"type":"ip","value":"192.0.2.7","field":"data.srcip"},"alert_id":"1710401112.100",
//!  "full_alert":{…},"original_rule":{…},"original_agent":{…},"timestamp":"2026-03-14T05:25:12.004Z"}
//! ```

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{attribute::Attribute, core::Match};
use crate::{
    alert::{Node, Parser},
    clock::Nanos,
};

/// Further attributes of one indicator that its record names.
const OTHERS_MAX: usize = 20;

/// A message of handler `ioc`, as far as it matters here.
#[derive(Debug, Deserialize)]
pub struct Asked {
    #[serde(default)]
    pub alert_id: Value,
    pub iocs: Vec<Ioc>,
}

/// One indicator of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Ioc {
    #[serde(rename = "type")]
    pub kind: String,
    pub value: String,
    /// Where it stood in the alert.
    #[serde(default)]
    pub field: String,
    /// Warninglists that hold it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warninglists: Vec<String>,
}

impl Asked {
    /// Reads a message.
    ///
    /// # Errors
    /// What it is not, and the remedy.
    pub fn parse(payload: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(payload).map_err(|e| format!("is no list of indicators ({e}); wire the lookup to a handler of kind ioc"))
    }
}

#[derive(Serialize)]
struct Known<'a> {
    event_id: &'a str,
    category: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    value: &'a str,
    attribute_id: &'a str,
    attribute_uuid: &'a str,
    event_uuid: &'a str,
    event_info: &'a str,
    tags: &'a [Box<str>],
    to_ids: bool,
    via: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    others: Vec<Known<'a>>,
}

impl<'a> Known<'a> {
    fn of(hit: &'a Match, others: Vec<Known<'a>>) -> Self {
        let Attribute { id, uuid, event_id, event_uuid, event_info, kind, category, value, to_ids, tags, .. } = &*hit.attribute;
        Self {
            event_id,
            category,
            kind,
            value,
            attribute_id: id,
            attribute_uuid: uuid,
            event_uuid,
            event_info,
            tags,
            to_ids: *to_ids,
            via: hit.via.as_str(),
            others,
        }
    }
}

/// The record of one indicator that MISP knows.
///
/// - `hits`: at least one; the first that is nearest to the indicator stands for it, up to twenty
///   others beside it.
/// - `frame`: the alert as it was read; empty where it is not at hand.
/// - `now`: wall time.
pub fn matched(ioc: &Ioc, alert_id: &Value, hits: &[Match], frame: &[u8], parser: &mut Parser, now: Nanos) -> Vec<u8> {
    let mut nearest: Vec<&Match> = hits.iter().collect();
    nearest.sort_by_key(|hit| hit.via);
    let mut nearest = nearest.into_iter();
    let first = nearest.next();
    let others = nearest.take(OTHERS_MAX).map(|hit| Known::of(hit, Vec::new())).collect();
    let mut out = Vec::with_capacity(frame.len() + 1024);
    out.extend_from_slice(b"{\"misp\":");
    put(&mut out, &first.map(|hit| Known::of(hit, others)));
    ends(&mut out, ioc, alert_id);
    let mut alert = parser.alert(frame.trim_ascii_end());
    let root = alert.root().ok().filter(|root| root.is_object());
    let mut part = |name: &str, node: Option<Node<'_>>| {
        out.extend_from_slice(name.as_bytes());
        match node {
            Some(node) => out.extend_from_slice(node.raw()),
            None => out.extend_from_slice(b"{}"),
        }
    };
    part(",\"full_alert\":", root);
    part(",\"original_rule\":", root.and_then(|root| root.get("rule")).filter(|node| node.is_object()));
    part(",\"original_agent\":", root.and_then(|root| root.get("agent")).filter(|node| node.is_object()));
    stamp(&mut out, now);
    out
}

/// The record of one indicator that MISP will never take, so that an analyst sees the gap.
pub fn failed(ioc: &Ioc, alert_id: &Value, why: &str, now: Nanos) -> Vec<u8> {
    let mut out = b"{\"error\":".to_vec();
    put(&mut out, &why);
    ends(&mut out, ioc, alert_id);
    stamp(&mut out, now);
    out
}

fn ends(out: &mut Vec<u8>, ioc: &Ioc, alert_id: &Value) {
    out.extend_from_slice(b",\"ioc\":");
    put(out, ioc);
    out.extend_from_slice(b",\"alert_id\":");
    put(out, alert_id);
}

fn put(out: &mut Vec<u8>, value: &impl Serialize) {
    // Texts and numbers into memory: neither can fail.
    let _ = serde_json::to_writer(out, value);
}

fn stamp(out: &mut Vec<u8>, now: Nanos) {
    let time = jiff::Timestamp::from_nanosecond(i128::from(now)).unwrap_or_default();
    out.extend_from_slice(format!(",\"timestamp\":\"{time:.3}\"}}").as_bytes());
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests state what must hold")]
mod tests {
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;
    use crate::lookups::misp::value::Via;

    fn hit(via: Via, id: &str) -> Match {
        let attribute = Attribute { id: id.into(), kind: "ip-dst".into(), tags: vec!["tlp:green".into()], ..Attribute::default() };
        Match { via, attribute: Rc::new(attribute) }
    }

    fn ioc() -> Ioc {
        Ioc { kind: "ip".into(), value: "192.0.2.7".into(), field: "data.srcip".into(), warninglists: Vec::new() }
    }

    #[test]
    fn a_match_holds_misps_words_the_indicator_and_the_whole_alert() {
        let frame = b"{\"id\":\"1.2\", \"rule\": {\"level\":3},\"agent\":{\"id\":\"000\"},\"data\":{\"srcip\":\"192.0.2.7\"}}\n";
        let hits = [hit(Via::Network, "9"), hit(Via::Value, "7")];
        let text = matched(&ioc(), &"1.2".into(), &hits, frame, &mut Parser::new(), 1_710_401_112_004_000_000);
        let expected = concat!(
            r#"{"misp":{"event_id":"","category":"","type":"ip-dst","value":"","attribute_id":"7","attribute_uuid":"","event_uuid":"","event_info":"","#,
            r#""tags":["tlp:green"],"to_ids":false,"via":"value","others":[{"event_id":"","category":"","type":"ip-dst","value":"","#,
            r#""attribute_id":"9","attribute_uuid":"","event_uuid":"","event_info":"","tags":["tlp:green"],"to_ids":false,"via":"network"}]},"#,
            r#""ioc":{"type":"ip","value":"192.0.2.7","field":"data.srcip"},"alert_id":"1.2","#,
            r#""full_alert":{"id":"1.2", "rule": {"level":3},"agent":{"id":"000"},"data":{"srcip":"192.0.2.7"}},"#,
            r#""original_rule":{"level":3},"original_agent":{"id":"000"},"timestamp":"2024-03-14T07:25:12.004Z"}"#
        );
        assert_eq!(String::from_utf8(text).unwrap(), expected);
        let gap = failed(&ioc(), &Value::Null, "no \"%\"", 1_710_401_112_004_000_000);
        let expected = r#"{"error":"no \"%\"","ioc":{"type":"ip","value":"192.0.2.7","field":"data.srcip"},"alert_id":null,"timestamp":"2024-03-14T07:25:12.004Z"}"#;
        assert_eq!(String::from_utf8(gap).unwrap(), expected);
    }

    #[test]
    fn what_is_no_list_of_indicators_is_said() {
        for payload in ["", "{}", "[1]", "{\"iocs\":[{}]}", "x"] {
            assert!(Asked::parse(payload.as_bytes()).unwrap_err().contains("kind ioc"), "{payload}");
        }
        let asked = Asked::parse(br#"{"alert_id":null,"iocs":[{"type":"md5","value":"aa","field":"f","confidence":0.9}],"timestamp":"x"}"#)
            .unwrap();
        assert_eq!((asked.alert_id, asked.iocs.len()), (Value::Null, 1));
    }

    proptest! {
        #[test]
        fn a_record_is_json_whatever_the_frame_is(frame in prop::collection::vec(any::<u8>(), 0..32), value in ".{0,8}") {
            let ioc = Ioc { value, ..ioc() };
            let text = matched(&ioc, &Value::Null, &[hit(Via::Value, "7")], &frame, &mut Parser::new(), 0);
            let read: Value = serde_json::from_slice(&text).unwrap();
            prop_assert_eq!(&read["ioc"]["value"], &Value::from(ioc.value));
        }
    }
}
