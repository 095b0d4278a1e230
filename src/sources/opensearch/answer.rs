//! What a server answers, taken apart without a copy: documents as the bytes that it sent. Pure.
//!
//! A page may have tens of megabytes, of which only names and sort keys are of interest here, so no tree is made of it:
//! one pass finds where each value begins and ends. A document's bytes are not looked into; whether they are JSON is for
//! those to say who read them.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::{borrow::Cow, ops::Range};

use serde_json::Value;

use super::seen::Ms;

/// A document as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Document<'a> {
    pub index: Cow<'a, str>,
    pub id: Cow<'a, str>,
    /// The value of the time field, by which it was sorted.
    pub at: Ms,
    /// Its sort keys as they came.
    pub sort: &'a str,
    /// `_source`; `None` where it was not asked for, or the index keeps none.
    pub source: Option<&'a [u8]>,
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page<'a> {
    /// The point in time's name from now on.
    pub pit: Option<Cow<'a, str>>,
    pub documents: Vec<Document<'a>>,
}

/// Why an answer with status 200 is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Not every shard answered, or not in time.
    Partial(String),
    /// A shard has lost the point in time.
    Gone,
    /// It is not what was asked for.
    Strange(String),
}

fn strange(what: impl Into<String>) -> Flaw {
    Flaw::Strange(what.into())
}

/// Reads a page.
///
/// # Errors
/// [`Flaw`]; no document of such a page may be used.
pub(super) fn page(body: &[u8]) -> Result<Page<'_>, Flaw> {
    let (mut pit, mut documents, mut flaw) = (None, None, None);
    for (key, value) in members(body, 0).map_err(strange)? {
        match key {
            b"pit_id" => pit = Some(text(slice(body, &value))?),
            b"timed_out" if slice(body, &value) == b"true" => flaw = flaw.or(Some(Flaw::Partial("the search timed out".into()))),
            b"_shards" => flaw = shards(slice(body, &value)).err().or(flaw),
            b"hits" => {
                let hits = members(body, value.start).map_err(strange)?.into_iter().find(|(key, _)| *key == b"hits");
                let (_, hits) = hits.ok_or_else(|| strange("no hits.hits"))?;
                let all = elements(body, hits.start).map_err(strange)?;
                documents = Some(all.into_iter().map(|at| document(body, at.start)).collect::<Result<Vec<_>, _>>()?);
            }
            _ => {}
        }
    }
    match flaw {
        Some(flaw) => Err(flaw),
        None => Ok(Page { pit, documents: documents.ok_or_else(|| strange("no hits"))? }),
    }
}

fn document(body: &[u8], at: usize) -> Result<Document<'_>, Flaw> {
    let (mut index, mut id, mut sort, mut source) = (None, None, None, None);
    for (key, value) in members(body, at).map_err(strange)? {
        let value = slice(body, &value);
        match key {
            b"_index" => index = Some(text(value)?),
            b"_id" => id = Some(text(value)?),
            b"sort" => sort = std::str::from_utf8(value).ok(),
            b"_source" => source = Some(value),
            _ => {}
        }
    }
    let (Some(index), Some(id), Some(sort)) = (index, id, sort) else { return Err(strange("a hit without _index, _id or sort")) };
    let keys: Vec<Value> = serde_json::from_str(sort).map_err(|_| strange("sort keys that are no list"))?;
    let at = keys.first().and_then(ms).ok_or_else(|| strange("a sort key that is no time"))?;
    Ok(Document { index, id, at, sort, source })
}

/// A time as it is sorted by: milliseconds, or nanoseconds where the server does not heed `numeric_type`.
fn ms(key: &Value) -> Option<Ms> {
    /// The year 318857 in milliseconds, April 1970 in nanoseconds.
    const NANOSECONDS_FROM: Ms = 10_000_000_000_000_000;
    let n = key.as_i64()?;
    Some(if n.abs() >= NANOSECONDS_FROM { n.div_euclid(1_000_000) } else { n })
}

/// `_shards`: whether every one of them answered.
pub(super) fn shards(bytes: &[u8]) -> Result<(), Flaw> {
    let shards: Value = serde_json::from_slice(bytes).map_err(|_| strange("_shards that are no object"))?;
    let count = |name: &str| shards.get(name).and_then(Value::as_u64).unwrap_or(0);
    let failures: Vec<&Value> = shards.get("failures").and_then(Value::as_array).into_iter().flatten().collect();
    if failures.iter().any(|failure| is_gone(failure)) {
        return Err(Flaw::Gone);
    }
    if count("failed") == 0 && failures.is_empty() {
        return Ok(());
    }
    let why = failures.iter().find_map(|failure| reason(failure.get("reason")?)).map(|why| format!(" ({why})")).unwrap_or_default();
    Err(Flaw::Partial(format!("{} of {} shards failed{why}", count("failed").max(failures.len() as u64), count("total"))))
}

/// Counts by the beginnings of their minutes, of the answer to [`request::count`](super::request::count).
///
/// # Errors
/// As [`page`].
pub(super) fn counts(body: &[u8]) -> Result<Vec<(Ms, u64)>, Flaw> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| strange("no JSON"))?;
    if let Some(found) = answer.get("_shards") {
        shards(found.to_string().as_bytes())?;
    }
    if answer.get("timed_out").and_then(Value::as_bool) == Some(true) {
        return Err(Flaw::Partial("the count timed out".into()));
    }
    let buckets = answer.pointer("/aggregations/minutes/buckets").and_then(Value::as_array).ok_or_else(|| strange("no buckets"))?;
    let of = |bucket: &Value| Some((bucket.get("key")?.as_i64()?, bucket.get("doc_count")?.as_u64()?));
    buckets.iter().map(of).collect::<Option<Vec<_>>>().ok_or_else(|| strange("a bucket without key and doc_count"))
}

/// The name of a point in time: `id` in Elasticsearch, `pit_id` in OpenSearch.
///
/// # Errors
/// As [`page`]: one that does not hold all shards is none.
pub(super) fn pit(body: &[u8]) -> Result<String, Flaw> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| strange("no JSON"))?;
    if let Some(found) = answer.get("_shards") {
        shards(found.to_string().as_bytes())?;
    }
    let name = answer.get("pit_id").or_else(|| answer.get("id")).and_then(Value::as_str);
    name.map(str::to_owned).ok_or_else(|| strange("no id of a point in time"))
}

/// What an error says, as the operator should read it: the innermost reason that is told.
pub(super) fn reason(error: &Value) -> Option<String> {
    let of = |at: &Value| {
        let kind = at.get("type").and_then(Value::as_str).unwrap_or_default();
        let reason = at.get("reason").and_then(Value::as_str)?;
        Some(if kind.is_empty() { reason.to_owned() } else { format!("{kind}: {reason}") })
    };
    let root = error.get("root_cause").and_then(|causes| causes.get(0)).and_then(of);
    let failed = error.pointer("/failed_shards/0/reason").and_then(of);
    root.or(failed).or_else(|| of(error)).or_else(|| error.as_str().map(str::to_owned))
}

/// True if an error, or one of those that it is made of, says that a point in time is not there any more.
pub(super) fn is_gone(error: &Value) -> bool {
    let mut left = vec![error];
    while let Some(at) = left.pop() {
        match at {
            Value::Object(members) => {
                if members.get("type").and_then(Value::as_str) == Some("search_context_missing_exception") {
                    return true;
                }
                // Reasons are text, also of others; only their kinds are ours to go by.
                left.extend(members.values().filter(|value| value.is_object() || value.is_array()));
            }
            Value::Array(all) => left.extend(all),
            _ => {}
        }
    }
    false
}

/// A string without its quotes; a copy only if it has escapes.
fn text(value: &[u8]) -> Result<Cow<'_, str>, Flaw> {
    let inner = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).ok_or_else(|| strange("a name that is no text"))?;
    if memchr::memchr(b'\\', inner).is_some() {
        return serde_json::from_slice(value).map(Cow::Owned).map_err(|_| strange("a name that is no text"));
    }
    std::str::from_utf8(inner).map(Cow::Borrowed).map_err(|_| strange("a name that is no UTF-8"))
}

fn slice<'a>(body: &'a [u8], range: &Range<usize>) -> &'a [u8] {
    body.get(range.clone()).unwrap_or_default()
}

const EARLY: &str = "JSON that ends too early";
const BROKEN: &str = "what is no JSON";

/// A key, as it stands between its quotes, and where its value is.
type Member<'a> = (&'a [u8], Range<usize>);

/// The members of an object.
fn members(body: &[u8], at: usize) -> Result<Vec<Member<'_>>, &'static str> {
    let mut found = Vec::new();
    let mut at = expect(body, at, b'{')?;
    if body.get(blanks(body, at)) == Some(&b'}') {
        return Ok(found);
    }
    loop {
        let key = blanks(body, at);
        let end = string(body, key)?;
        let value = blanks(body, expect(body, end, b':')?);
        at = value_end(body, value)?;
        found.push((slice(body, &(key + 1..end - 1)), value..at));
        at = blanks(body, at);
        match body.get(at) {
            Some(b',') => at += 1,
            Some(b'}') => return Ok(found),
            Some(_) => return Err(BROKEN),
            None => return Err(EARLY),
        }
    }
}

/// Where the elements of a list are.
fn elements(body: &[u8], at: usize) -> Result<Vec<Range<usize>>, &'static str> {
    let mut found = Vec::new();
    let mut at = expect(body, at, b'[')?;
    if body.get(blanks(body, at)) == Some(&b']') {
        return Ok(found);
    }
    loop {
        let value = blanks(body, at);
        at = value_end(body, value)?;
        found.push(value..at);
        at = blanks(body, at);
        match body.get(at) {
            Some(b',') => at += 1,
            Some(b']') => return Ok(found),
            Some(_) => return Err(BROKEN),
            None => return Err(EARLY),
        }
    }
}

/// The place behind this byte, with blanks before it.
fn expect(body: &[u8], at: usize, byte: u8) -> Result<usize, &'static str> {
    let at = blanks(body, at);
    match body.get(at) {
        Some(found) if *found == byte => Ok(at + 1),
        Some(_) => Err(BROKEN),
        None => Err(EARLY),
    }
}

fn blanks(body: &[u8], at: usize) -> usize {
    let rest = body.get(at..).unwrap_or_default();
    at + rest.iter().position(|b| !matches!(b, b' ' | b'\t' | b'\r' | b'\n')).unwrap_or(rest.len())
}

/// The place behind a string that begins here.
fn string(body: &[u8], at: usize) -> Result<usize, &'static str> {
    let mut at = expect(body, at, b'"')?;
    loop {
        let next = memchr::memchr2(b'"', b'\\', body.get(at..).unwrap_or_default()).ok_or(EARLY)?;
        at += next;
        if body.get(at) == Some(&b'"') {
            return Ok(at + 1);
        }
        at += 2;
    }
}

/// The place behind a value that begins here. Brackets are counted, not matched: who reads the value sees more.
fn value_end(body: &[u8], mut at: usize) -> Result<usize, &'static str> {
    let mut depth = 0usize;
    loop {
        match body.get(at) {
            Some(b'"') => at = string(body, at)?,
            Some(b'{' | b'[') => (depth, at) = (depth + 1, at + 1),
            Some(b'}' | b']') if depth == 0 => return Err(BROKEN),
            Some(b'}' | b']') => (depth, at) = (depth - 1, at + 1),
            Some(_) if depth == 0 => {
                let rest = body.get(at..).unwrap_or_default();
                let len = rest.iter().position(|b| matches!(b, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n')).ok_or(EARLY)?;
                return if len == 0 { Err(BROKEN) } else { Ok(at + len) };
            }
            Some(_) => at += 1,
            None => return Err(EARLY),
        }
        if depth == 0 {
            return Ok(at);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests state what must hold")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = r#"{"pit_id":"p2","took":3,"timed_out":false,"_shards":{"total":2,"successful":2,"skipped":0,"failed":0},
        "hits":{"max_score":null,"hits":[
        {"_index":"a-1","_id":"x\/1","_score":null,"_source":{ "n": 1.0e400, "big":12345678901234567890123, "t":"}\"]" },"sort":[1764500000123,7]},
        {"_index":"a-1","_id":"y","sort":[1764500000123456789,"z"]}]}}"#;

    #[test]
    fn a_page_is_taken_apart_and_no_byte_of_a_document_is_changed() {
        let page = page(GOOD.as_bytes()).unwrap();
        assert_eq!(page.pit.as_deref(), Some("p2"));
        let [one, two] = &page.documents[..] else { panic!("{page:?}") };
        assert_eq!((one.index.as_ref(), one.id.as_ref(), one.at, one.sort), ("a-1", "x/1", 1_764_500_000_123, "[1764500000123,7]"));
        assert_eq!(one.source.unwrap(), br#"{ "n": 1.0e400, "big":12345678901234567890123, "t":"}\"]" }"#);
        assert_eq!((two.at, two.source), (1_764_500_000_123, None), "nanoseconds");
        assert_eq!(super::page(br#"{"hits":{"hits":[]}}"#).unwrap().documents, []);
    }

    #[test]
    fn half_an_answer_is_none() {
        let with = |from: &str, to: &str| page(GOOD.replace(from, to).as_bytes()).unwrap_err();
        assert_eq!(with("\"timed_out\":false", "\"timed_out\":true"), Flaw::Partial("the search timed out".into()));
        assert_eq!(with("\"failed\":0", "\"failed\":1"), Flaw::Partial("1 of 2 shards failed".into()));
        let failures = |kind: &str| format!(r#""failed":1,"failures":[{{"shard":0,"reason":{{"type":"{kind}","reason":"no room"}}}}]"#);
        assert_eq!(
            with("\"failed\":0", &failures("circuit_breaking_exception")),
            Flaw::Partial("1 of 2 shards failed (circuit_breaking_exception: no room)".into())
        );
        assert_eq!(with("\"failed\":0", &failures("search_context_missing_exception")), Flaw::Gone);
        for (from, to) in [
            ("\"hits\":{", "\"hats\":{"),
            ("\"_id\":\"y\",", ""),
            ("[1764500000123,7]", "[null,7]"),
            ("\"sort\":[1764500000123,7]", "\"s\":1"),
        ] {
            assert!(matches!(with(from, to), Flaw::Strange(_)), "{from}");
        }
        for end in 0..GOOD.len() {
            assert!(page(&GOOD.as_bytes()[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn points_in_time_and_counts_are_read() {
        assert_eq!(pit(br#"{"pit_id":"o","_shards":{"total":1,"failed":0},"creation_time":1}"#), Ok("o".into()));
        assert_eq!(pit(br#"{"id":"e"}"#), Ok("e".into()));
        assert!(matches!(pit(br#"{"pit_id":"o","_shards":{"total":2,"failed":1}}"#), Err(Flaw::Partial(_))));
        assert!(matches!(pit(b"<html>"), Err(Flaw::Strange(_))));
        let body = br#"{"timed_out":false,"_shards":{"failed":0},"aggregations":{"minutes":{"buckets":[{"key":60000,"doc_count":2},{"key":120000,"doc_count":0}]}}}"#;
        assert_eq!(counts(body), Ok(vec![(60_000, 2), (120_000, 0)]));
        assert!(matches!(counts(br#"{"_shards":{"failed":1,"total":3}}"#), Err(Flaw::Partial(_))));
    }

    #[test]
    fn the_innermost_reason_is_told_and_only_kinds_are_gone_by() {
        let of = |text: &str| reason(&serde_json::from_str(text).unwrap());
        assert_eq!(of(r#"{"root_cause":[{"type":"a","reason":"b"}],"type":"c","reason":"d"}"#).as_deref(), Some("a: b"));
        assert_eq!(of(r#"{"root_cause":[],"type":"c","reason":"d"}"#).as_deref(), Some("c: d"));
        assert_eq!(of(r#""no permissions""#).as_deref(), Some("no permissions"));
        let gone = |text: &str| is_gone(&serde_json::from_str(text).unwrap());
        assert!(gone(r#"{"root_cause":[],"failed_shards":[{"reason":{"type":"search_context_missing_exception"}}]}"#));
        assert!(!gone(r#"{"type":"x","reason":"search_context_missing_exception"}"#));
    }

    proptest! {
        #[test]
        fn no_answer_panics(text in r#"[\[\]{}":,a\\ 1]{0,60}"#, cut in 0..600usize) {
            let _ = page(text.as_bytes());
            let mut good = GOOD.as_bytes().to_vec();
            let at = cut % good.len();
            good[at] = text.as_bytes().first().copied().unwrap_or(b' ');
            let _ = page(&good);
        }

        #[test]
        fn what_a_reader_of_json_finds_is_found(ids in prop::collection::vec(r#"[a-z"\\{}\[\]é]{1,6}"#, 0..5), source in r#"[a-z"\\{},é ]{0,8}"#) {
            let documents: Vec<_> = ids.iter().map(|id| serde_json::json!({
                "_index": "i", "_id": id, "_source": {"t": source, "l": [[], {}]}, "sort": [5, 1],
            })).collect();
            let body = serde_json::json!({"hits": {"hits": documents}}).to_string();
            let page = page(body.as_bytes()).unwrap();
            prop_assert_eq!(page.documents.len(), ids.len());
            for (found, id) in page.documents.iter().zip(&ids) {
                prop_assert_eq!(&found.id, id);
                let found: Value = serde_json::from_slice(found.source.unwrap()).unwrap();
                prop_assert_eq!(&found, &serde_json::json!({"t": source, "l": [[], {}]}));
            }
        }
    }
}
