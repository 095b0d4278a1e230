//! MISP's attributes as JSON: reading answers, and what is kept of them.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// What is kept of one attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attribute {
    pub id: Box<str>,
    pub uuid: Box<str>,
    pub event_id: Box<str>,
    pub event_uuid: Box<str>,
    pub event_info: Box<str>,
    /// MISP's type: `ip-dst`, `filename|sha256`, …
    pub kind: Box<str>,
    pub category: Box<str>,
    /// As MISP stores it: of a composite both parts.
    pub value: Box<str>,
    pub to_ids: bool,
    /// True in a synchronisation only, for one that was deleted.
    pub deleted: bool,
    /// Of its last change, seconds since 1970.
    pub timestamp: u64,
    /// Its own and its event's.
    pub tags: Vec<Box<str>>,
}

impl Attribute {
    /// Bytes that it takes in memory, about.
    pub fn weight(&self) -> usize {
        let texts = [&self.id, &self.uuid, &self.event_id, &self.event_uuid, &self.event_info, &self.kind, &self.category, &self.value];
        let tags: usize = self.tags.iter().map(|tag| tag.len() + size_of::<Box<str>>()).sum();
        size_of::<Self>() + texts.iter().map(|text| text.len()).sum::<usize>() + tags
    }
}

/// As MISP writes it, whatever of it is there; ids are texts or numbers.
#[derive(Deserialize)]
struct Written {
    #[serde(default, deserialize_with = "text")]
    id: Box<str>,
    #[serde(default, deserialize_with = "text")]
    uuid: Box<str>,
    #[serde(default, deserialize_with = "text")]
    event_id: Box<str>,
    #[serde(default, rename = "type", deserialize_with = "text")]
    kind: Box<str>,
    #[serde(default, deserialize_with = "text")]
    category: Box<str>,
    #[serde(default, deserialize_with = "text")]
    value: Box<str>,
    #[serde(default, deserialize_with = "yes")]
    to_ids: bool,
    #[serde(default, deserialize_with = "yes")]
    deleted: bool,
    #[serde(default, deserialize_with = "text")]
    timestamp: Box<str>,
    #[serde(default, rename = "Event", deserialize_with = "event")]
    event: Event,
    #[serde(default, rename = "Tag", deserialize_with = "tags")]
    tags: Vec<Box<str>>,
}

#[derive(Default)]
struct Event {
    id: Box<str>,
    info: Box<str>,
    uuid: Box<str>,
}

fn scalar(value: &Value) -> Box<str> {
    match value {
        Value::String(text) => text.as_str().into(),
        Value::Number(n) => n.to_string().into(),
        Value::Bool(b) => b.to_string().into(),
        _ => "".into(),
    }
}

fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Box<str>, D::Error> {
    Value::deserialize(from).map(|value| scalar(&value))
}

fn yes<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Value::deserialize(from).map(|value| matches!(&*scalar(&value), "true" | "1"))
}

fn event<'de, D: Deserializer<'de>>(from: D) -> Result<Event, D::Error> {
    let value = Value::deserialize(from)?;
    let of = |key| value.get(key).map(scalar).unwrap_or_default();
    Ok(Event { id: of("id"), info: of("info"), uuid: of("uuid") })
}

fn tags<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Box<str>>, D::Error> {
    let value = Value::deserialize(from)?;
    let names = value.as_array().into_iter().flatten().filter_map(|tag| tag.get("name")).map(scalar);
    Ok(names.filter(|name| !name.is_empty()).collect())
}

impl From<Written> for Attribute {
    fn from(written: Written) -> Self {
        let Written { id, uuid, event_id, kind, category, value, to_ids, deleted, timestamp, event, tags } = written;
        let event_id = if event_id.is_empty() { event.id } else { event_id };
        let timestamp = timestamp.parse().unwrap_or(0);
        let (event_uuid, event_info) = (event.uuid, event.info);
        Self { id, uuid, event_id, event_uuid, event_info, kind, category, value, to_ids, deleted, timestamp, tags }
    }
}

#[derive(Deserialize)]
struct Answer {
    response: Response,
    /// When it was put into a shared cache, seconds since 1970.
    #[serde(default)]
    at: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Response {
    Found {
        #[serde(rename = "Attribute")]
        attributes: Vec<Written>,
    },
    /// MISP before 2.4.100 for nothing found.
    Nothing([(); 0]),
}

/// The attributes in an answer to a search.
///
/// # Errors
/// What it is instead, short.
pub fn parse(body: &[u8]) -> Result<Vec<Attribute>, String> {
    parse_answer(body).map(|(attributes, _)| attributes)
}

fn parse_answer(body: &[u8]) -> Result<(Vec<Attribute>, u64), String> {
    let answer: Answer = serde_json::from_slice(body).map_err(|e| what_else(body, &e))?;
    let attributes = match answer.response {
        Response::Found { attributes } => attributes.into_iter().map(Attribute::from).collect(),
        Response::Nothing(_) => Vec::new(),
    };
    Ok((attributes, answer.at))
}

/// What a body is that is no answer.
fn what_else(body: &[u8], error: &serde_json::Error) -> String {
    let begin = body.trim_ascii_start();
    if begin.is_empty() {
        "an empty answer".into()
    } else if begin.starts_with(b"<") {
        "a page of HTML: a proxy or a login page answers in MISP's place".into()
    } else if error.is_eof() {
        "half an answer".into()
    } else {
        "JSON that is no answer of attributes/restSearch, or none at all".into()
    }
}

/// Attributes as they lie in a shared cache: shaped as MISP's own answer, so that whoever knows
/// that one can read it.
///
/// - `at`: seconds since 1970.
pub fn to_cache(attributes: &[impl AsRef<Attribute>], at: u64) -> Vec<u8> {
    #[derive(Serialize)]
    struct Out<'a> {
        at: u64,
        response: Found<'a>,
    }
    #[derive(Serialize)]
    struct Found<'a> {
        #[serde(rename = "Attribute")]
        attributes: Vec<Row<'a>>,
    }
    #[derive(Serialize)]
    struct Row<'a> {
        id: &'a str,
        uuid: &'a str,
        event_id: &'a str,
        #[serde(rename = "type")]
        kind: &'a str,
        category: &'a str,
        value: &'a str,
        to_ids: bool,
        timestamp: String,
        #[serde(rename = "Event")]
        event: Info<'a>,
        #[serde(rename = "Tag")]
        tags: Vec<Name<'a>>,
    }
    #[derive(Serialize)]
    struct Info<'a> {
        info: &'a str,
        uuid: &'a str,
    }
    #[derive(Serialize)]
    struct Name<'a> {
        name: &'a str,
    }
    let rows = attributes
        .iter()
        .map(|a| {
            let a = a.as_ref();
            Row {
                id: &a.id,
                uuid: &a.uuid,
                event_id: &a.event_id,
                kind: &a.kind,
                category: &a.category,
                value: &a.value,
                to_ids: a.to_ids,
                timestamp: a.timestamp.to_string(),
                event: Info { info: &a.event_info, uuid: &a.event_uuid },
                tags: a.tags.iter().map(|name| Name { name }).collect(),
            }
        })
        .collect();
    serde_json::to_vec(&Out { at, response: Found { attributes: rows } }).unwrap_or_default()
}

/// Reads what [`to_cache`] wrote, or another tool in the same shape; with its time, 0 where it has
/// none. `None` for anything else.
pub fn from_cache(bytes: &[u8]) -> Option<(Vec<Attribute>, u64)> {
    parse_answer(bytes).ok()
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests state what must hold")]
mod tests {
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;

    const ANSWER: &str = r#"{"response":{"Attribute":[{"id":"7","event_id":"3","object_id":"0","category":"Network activity","type":"ip-dst",
        "to_ids":true,"uuid":"u-7","timestamp":"1700000000","deleted":false,"value":"1.2.3.4","Event":{"id":"3","info":"Emotet","org_id":"1","uuid":"e-3"},
        "Tag":[{"id":"1","name":"tlp:green","colour":"x"},{"id":"2","name":"emotet","inherited":1}]}]}}"#;

    #[test]
    fn an_answer_is_read() {
        let read = parse(ANSWER.as_bytes()).unwrap();
        let expected = Attribute {
            id: "7".into(),
            uuid: "u-7".into(),
            event_id: "3".into(),
            event_uuid: "e-3".into(),
            event_info: "Emotet".into(),
            kind: "ip-dst".into(),
            category: "Network activity".into(),
            value: "1.2.3.4".into(),
            to_ids: true,
            deleted: false,
            timestamp: 1_700_000_000,
            tags: vec!["tlp:green".into(), "emotet".into()],
        };
        assert_eq!(read, [expected]);
    }

    #[test]
    fn numbers_and_gaps_are_taken_and_anything_else_is_called_by_its_name() {
        let loose = r#"{"response":{"Attribute":[{"id":7,"to_ids":"1","value":"a","Event":null,"Tag":null,"timestamp":5},{}]}}"#;
        let read = parse(loose.as_bytes()).unwrap();
        assert_eq!((&*read[0].id, read[0].to_ids, read[0].timestamp, read.len()), ("7", true, 5, 2));
        assert_eq!(parse(br#"{"response":[]}"#), Ok(vec![]));
        assert_eq!(parse(br#"{"response":{"Attribute":[]}}"#), Ok(vec![]));
        let rows = [
            ("", "an empty answer"),
            (" <!DOCTYPE html>", "HTML"),
            (&ANSWER[..200], "half an answer"),
            (r#"{"name":"x","message":"y","url":"/"}"#, "JSON that is no answer"),
            (r#"{"response":[{"Event":{}}]}"#, "JSON that is no answer"),
            ("[1]", "JSON that is no answer"),
        ];
        for (body, expected) in rows {
            let told = parse(body.as_bytes()).unwrap_err();
            assert!(told.contains(expected), "{body}: {told}");
        }
    }

    #[test]
    fn the_cache_gives_back_what_it_was_given() {
        let kept: Vec<Rc<Attribute>> = parse(ANSWER.as_bytes()).unwrap().into_iter().map(Rc::new).collect();
        let (again, at) = from_cache(&to_cache(&kept, 99)).unwrap();
        assert_eq!(at, 99);
        assert_eq!(again, kept.iter().map(|a| (**a).clone()).collect::<Vec<_>>());
        assert_eq!(from_cache(&to_cache(&[] as &[Rc<Attribute>], 5)), Some((vec![], 5)));
        assert_eq!(from_cache(br#"{"response":{"Attribute":[]}}"#), Some((vec![], 0)), "another tool's");
        assert_eq!(from_cache(b"1"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), cut in 0usize..500) {
            let _ = parse(&bytes);
            let _ = parse(&ANSWER.as_bytes()[..cut.min(ANSWER.len())]);
        }
    }
}
