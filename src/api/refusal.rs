//! The one shape of every refusal, and the strict reading of JSON.
//!
//! ```json
//! {"detail": "text", "error": {"code": "snake_case", "message": "text", "fields": [{"path": "priority", "problem": "must be 1 to 10"}]}}
//! ```

use std::fmt;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value, json};

use crate::limits;

/// Why a request is not answered as it wished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// For programs.
    pub(super) code: &'static str,
    /// For people.
    pub(super) message: String,
    /// Each field that is wrong, by its path, and what is wrong with it.
    pub(super) fields: Vec<(String, String)>,
    pub(super) retry_after_s: Option<u64>,
    pub(super) allow: Option<String>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), fields: Vec::new(), retry_after_s: None, allow: None }
    }
    pub(super) fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }
    pub(super) fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }
    pub(super) fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }
    pub(super) fn no_key() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "no_key", "this needs a key: send it as X-API-Key, or as Authorization: Bearer")
    }
    pub(super) fn wrong_key() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "wrong_key", "the key is not known, or may not be used from this address")
    }
    pub(super) fn too_many(ms: u64) -> Self {
        let refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", "too many requests; wait, then ask again");
        Self { retry_after_s: Some(ms.div_ceil(1000).max(1)), ..refusal }
    }
    pub(super) fn away(code: &'static str, message: impl Into<String>, retry_after_s: u64) -> Self {
        Self { retry_after_s: Some(retry_after_s), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message) }
    }
    /// We are wrong; what exactly is in the log, never in the answer.
    pub(super) fn internal(what: &dyn fmt::Display) -> Self {
        tracing::error!(error = %what, "api cannot answer");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong here; the agent's log says what, by the time")
    }
    /// 422 with what is wrong, field by field.
    pub(super) fn fields(fields: Vec<(String, String)>) -> Self {
        let message = match fields.as_slice() {
            [(path, problem)] => format!("{path}: {problem}"),
            many => format!("{} fields are wrong", many.len()),
        };
        Self { fields, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message) }
    }
    pub(super) fn field(path: &str, problem: impl Into<String>) -> Self {
        Self::fields(vec![(path.to_owned(), problem.into())])
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let fields: Vec<Value> = self.fields.iter().map(|(path, problem)| json!({"path": path, "problem": problem})).collect();
        let body = json!({"detail": self.message, "error": {"code": self.code, "message": self.message, "fields": fields}});
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::try_from(allow).ok()) {
            headers.insert(header::ALLOW, allow);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Reads JSON: UTF-8, one value, no key twice in an object, no deeper than [`API_JSON_DEPTH_MAX`](limits::API_JSON_DEPTH_MAX).
///
/// # Errors
/// What is wrong, as status 400.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, Refusal> {
    let wrong = |error: &dyn fmt::Display| Refusal::new(StatusCode::BAD_REQUEST, "invalid_json", format!("the body is not JSON: {error}"));
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0 }.deserialize(&mut reader).map_err(|error| wrong(&error))?;
    reader.end().map_err(|error| wrong(&error))?;
    Ok(value)
}

#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn within<E: Error>(self) -> Result<Self, E> {
        let depth = self.depth + 1;
        if depth > limits::API_JSON_DEPTH_MAX {
            return Err(E::custom(format!("it is deeper than {}", limits::API_JSON_DEPTH_MAX)));
        }
        Ok(Self { depth })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is out of range"))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut reader: A) -> Result<Value, A::Error> {
        let inner = self.within()?;
        let mut list = Vec::new();
        while let Some(value) = reader.next_element_seed(inner)? {
            list.push(value);
        }
        Ok(list.into())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut reader: A) -> Result<Value, A::Error> {
        let inner = self.within()?;
        let mut map = Map::new();
        while let Some(key) = reader.next_key::<String>()? {
            let value = reader.next_value_seed(inner)?;
            if map.contains_key(&key) {
                let shown: String = key.chars().take(64).collect();
                return Err(A::Error::custom(format!("the key \"{}\" stands twice in one object", shown.escape_debug())));
            }
            map.insert(key, value);
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_strict_json_is_read() {
        let deep = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        let good = [r#"{"a": 1, "b": {"a": 2}}"#, "[1.5e3, null, true, \"\\u00e4\"]", "18446744073709551615", &deep(32)];
        for text in good {
            assert_eq!(parse(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap(), "{text}");
        }
        let wrong = [
            (r#"{"a": 1, "a": 1}"#, "stands twice"),
            (r#"{"x": [{"b": 1, "\u0062": 2}]}"#, "stands twice"),
            (&deep(33), "deeper than 32"),
            (&"[".repeat(100_000), "deeper than 32"),
            ("NaN", "not JSON"),
            ("[Infinity]", "not JSON"),
            ("1e400", "out of range"),
            ("{} {}", "trailing"),
            ("", "EOF"),
            ("{'a': 1}", "not JSON"),
            ("[1,]", "not JSON"),
            (r#""\ud800""#, "not JSON"),
        ];
        for (text, expected) in wrong {
            let refusal = parse(text.as_bytes()).unwrap_err();
            assert!(refusal.status == StatusCode::BAD_REQUEST && refusal.message.contains(expected), "{text:.40}: {}", refusal.message);
        }
        assert!(parse(b"\"\xff\"").is_err());
    }
}
