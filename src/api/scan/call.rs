//! A request that was let in, read: its ids, its parameters, its body.

use std::{future::poll_fn, pin::Pin, sync::Mutex};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use serde_json::{Map, Value};

use super::{
    schema::{Field, Schema},
    table::{Brings, Route},
};
use crate::{
    api::{
        access::Who,
        listen::Caller,
        refusal::{self, Refusal},
    },
    limits,
};

/// What a route gets.
pub(super) struct Call {
    pub(super) who: Who,
    /// False for nobody, where that is allowed.
    pub(super) is_known: bool,
    pub(super) caller: Option<Caller>,
    pub(super) headers: HeaderMap,
    /// Of the path, in order.
    pub(super) ids: Vec<String>,
    /// Parameters, checked; defaults are there.
    pub(super) query: Map<String, Value>,
    /// JSON, checked; null where none is read.
    pub(super) body: Value,
    /// Where bytes are brought: not read yet.
    pub(super) bytes: Mutex<Option<Body>>,
}

impl Call {
    /// The first id of the path.
    pub(super) fn id(&self) -> &str {
        self.ids.first().map_or("", String::as_str)
    }
    pub(super) fn text(&self, parameter: &str) -> Option<&str> {
        self.query.get(parameter).and_then(Value::as_str)
    }
    pub(super) fn number(&self, parameter: &str) -> Option<u64> {
        self.query.get(parameter).and_then(Value::as_u64)
    }
    /// A checked body as what it means.
    pub(super) fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, Refusal> {
        T::deserialize(&self.body).map_err(|error| Refusal::field("", error.to_string()))
    }
}

/// Reads parameters.
///
/// # Errors
/// 422 with everything that is wrong.
pub(super) fn query(fields: &'static [Field], text: &str) -> Result<Map<String, Value>, Refusal> {
    let (mut map, mut wrong) = (Map::new(), Vec::new());
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
            wrong.push(("query".to_owned(), "must be UTF-8, and its % must be followed by two hex digits".to_owned()));
            continue;
        };
        let read = fields.iter().find(|field| field.name == name).map_or(Value::Null, |field| field.of.read(&value));
        if map.insert(name.clone(), read).is_some() {
            wrong.push((name, "is given twice".to_owned()));
        }
    }
    let mut value = Value::Object(map);
    // An open object's members are looked up by reference: the fields live as long as the table.
    Schema::Object(fields).check(&mut value, "", &mut wrong);
    match value {
        Value::Object(map) if wrong.is_empty() => Ok(map),
        _ => Err(Refusal::fields(wrong)),
    }
}

/// Text of a form, `+` for a space.
fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'%' => {
                let (digits, tail) = tail.split_at_checked(2)?;
                let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = tail;
            }
            b'+' => bytes.push(b' '),
            other => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Reads what a request brings, within its time and its bounds.
///
/// # Errors
/// 400, 413, 415 or 422.
pub(super) async fn body(route: &Route, parts: &Parts, body: Body, caller: Option<&Caller>) -> Result<(Value, Option<Body>), Refusal> {
    let (schema, max) = match route.brings {
        Brings::Json(schema) => (schema, limits::API_BODY_BYTES_MAX),
        Brings::Large(schema) => (schema, limits::API_RESULT_BYTES_MAX),
        Brings::Nothing => return Ok((Value::Null, None)),
        Brings::Bytes => {
            media(&parts.headers, "application/octet-stream")?;
            return Ok((Value::Null, Some(body)));
        }
    };
    if let Some(caller) = caller {
        caller.allow(limits::API_BODY_MS, max + (64 << 10));
    }
    let bytes = whole(body, &parts.headers, max).await?;
    let mut value = if bytes.is_empty() {
        Value::Object(Map::new())
    } else {
        media(&parts.headers, "application/json")?;
        refusal::parse(&bytes)?
    };
    if let Some(caller) = caller {
        caller.allow(limits::API_ANSWER_MS, 0);
    }
    let mut wrong = Vec::new();
    schema.check(&mut value, "", &mut wrong);
    if bytes.is_empty() && !wrong.is_empty() {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "invalid_json", "the body is not JSON: it is empty"));
    }
    if wrong.is_empty() { Ok((value, None)) } else { Err(Refusal::fields(wrong)) }
}

fn media(headers: &HeaderMap, expected: &str) -> Result<(), Refusal> {
    let told = headers.get(header::CONTENT_TYPE).and_then(|told| told.to_str().ok()).unwrap_or_default();
    let mut parts = told.split(';').map(str::trim);
    let is_so = parts.next().is_some_and(|media| media.eq_ignore_ascii_case(expected));
    let charset =
        parts.find_map(|part| part.split_once('=').filter(|(name, _)| name.eq_ignore_ascii_case("charset")).map(|(_, value)| value));
    let is_utf8 = charset.is_none_or(|charset| charset.trim_matches('"').eq_ignore_ascii_case("utf-8"));
    let is_plain = !headers.contains_key(header::CONTENT_ENCODING);
    if is_so && is_utf8 && is_plain {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        format!("send {expected}, in UTF-8 where it is text, not compressed"),
    ))
}

/// 413.
pub(super) fn too_large(max: u64) -> Refusal {
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("the body has more than {max} bytes"))
}

/// All bytes of a body.
async fn whole(mut body: Body, headers: &HeaderMap, max: usize) -> Result<Bytes, Refusal> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|n| n.to_str().ok()?.parse::<usize>().ok()).unwrap_or(0);
    let mut bytes = Vec::with_capacity(announced.min(max));
    let mut is_too_large = announced > max;
    // What is too large is read to its end all the same, as far as the connection may: who still writes does not hear an answer.
    while let Some(block) = next(&mut body).await? {
        is_too_large |= bytes.len() + block.len() > max;
        if !is_too_large {
            bytes.extend_from_slice(&block);
        }
    }
    if is_too_large { Err(too_large(max as u64)) } else { Ok(bytes.into()) }
}

/// The next bytes of a body.
///
/// # Errors
/// 400 if the client stops in the middle of it, or sends more than it may.
pub(super) async fn next(body: &mut Body) -> Result<Option<Bytes>, Refusal> {
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        match frame {
            None => return Ok(None),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
            Some(Err(_)) => {
                let why = "the body is longer than allowed, or did not come whole in time";
                return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", why));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::scan::schema::{Form, may, or};

    const FIELDS: &[Field] = &[
        or("page", Schema::Whole { min: 1, max: 10 }, "1", ""),
        may("name", Schema::Text(Form::Free(4)), ""),
        may("is", Schema::Bool, ""),
    ];

    #[test]
    fn parameters_are_read_strictly() {
        let good = query(FIELDS, "name=%C3%A4+b&is=true").unwrap();
        assert_eq!(Value::Object(good), serde_json::json!({"page": 1, "name": "ä b", "is": true}));
        for wrong in
            ["page=0", "page=x", "page=1&page=2", "name=12345", "other=1", "is=yes", "name=%zz", "name=%f", "name=%FF", "page=+1", "page="]
        {
            let refusal = query(FIELDS, wrong).unwrap_err();
            assert_eq!(refusal.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
        }
    }
}
