//! What the server answers, taken apart. Pure.
//!
//! Texts are cut to [`limits::LOGGED_CHARS`], lists to [`GROUPS_MAX`]: Wazuh's own limits are lower, and what a record takes of a
//! server that has none must have one.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use crate::{limits, net::secret::Secret};

/// Groups of one agent; Wazuh allows 128.
const GROUPS_MAX: usize = 256;
/// Bytes of a token; Wazuh's have some hundreds.
const TOKEN_BYTES: usize = 16 << 10;

/// An agent as the server tells it; what it does not tell is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Agent {
    pub id: String,
    pub name: String,
    pub ip: String,
    pub status: String,
    pub last_keep_alive: String,
    pub version: String,
    pub os_platform: String,
    pub os_name: String,
    pub os_version: String,
    pub groups: Vec<String>,
    pub node: String,
}

/// A page of agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub agents: Vec<Agent>,
    /// Of the whole list.
    pub total: u64,
    /// The server says that some are missing.
    pub is_partial: bool,
}

#[derive(Deserialize)]
struct Whole {
    data: Option<List>,
    #[serde(default)]
    message: Value,
    #[serde(default)]
    error: Value,
}

#[derive(Deserialize)]
struct List {
    affected_items: Vec<Value>,
    total_affected_items: u64,
    #[serde(default)]
    failed_items: Vec<IgnoredAny>,
}

/// Reads a page.
///
/// # Errors
/// What is there instead.
pub(super) fn page(body: &[u8]) -> Result<Page, String> {
    let whole: Whole = serde_json::from_slice(body).map_err(|_| "something else than a list of agents".to_owned())?;
    let error = whole.error.as_u64().unwrap_or(0);
    match whole.data {
        Some(list) if error == 0 || !list.affected_items.is_empty() => Ok(Page {
            agents: list.affected_items.iter().map(agent).collect(),
            total: list.total_affected_items,
            is_partial: error != 0 || !list.failed_items.is_empty(),
        }),
        _ => Err(format!("error {error} ({}) and no agents", cut(whole.message.as_str().unwrap_or("no message")))),
    }
}

fn agent(told: &Value) -> Agent {
    let text = |path: &str| told.pointer(path).and_then(Value::as_str).map(cut).unwrap_or_default();
    let groups = told.get("group").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    Agent {
        // Never cut: two long ones could become one.
        id: told.get("id").and_then(Value::as_str).unwrap_or_default().to_owned(),
        name: text("/name"),
        ip: text("/ip"),
        status: text("/status"),
        last_keep_alive: text("/lastKeepAlive"),
        version: text("/version"),
        os_platform: text("/os/platform"),
        os_name: text("/os/name"),
        os_version: text("/os/version"),
        groups: groups.iter().filter_map(Value::as_str).take(GROUPS_MAX).map(cut).collect(),
        node: text("/node_name"),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(limits::LOGGED_CHARS).collect()
}

/// The token of an answer to a login: in its JSON, or bare.
///
/// # Errors
/// What is there instead; never the answer itself, which may hold one.
pub(super) fn token(body: &[u8]) -> Result<Secret, &'static str> {
    const NONE: &str = "something else than a token";
    let text = std::str::from_utf8(body).map_err(|_| NONE)?.trim();
    let json: Option<Value> = serde_json::from_str(text).ok();
    let token = match &json {
        Some(json) => json.pointer("/data/token").and_then(Value::as_str).ok_or(NONE)?,
        None => text,
    };
    let is_one = !token.is_empty() && token.len() <= TOKEN_BYTES && token.bytes().all(|b| b.is_ascii_graphic() && b != b'<');
    if is_one { Ok(Secret::new(token.to_owned())) } else { Err(NONE) }
}

/// What the server says of a refusal, in its own words: those of `detail`, else of `title`.
pub(super) fn words(body: &[u8]) -> Option<String> {
    let told: Value = serde_json::from_slice(body).ok()?;
    let text = ["detail", "title", "message"].iter().find_map(|name| told.get(*name)?.as_str())?;
    Some(text.chars().take(limits::LOGGED_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests state what must hold")]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_wazuh_writes_it() {
        let body = r#"{"data":{"affected_items":[
            {"os":{"name":"Ubuntu","platform":"ubuntu","version":"22.04.3 LTS"},"name":"wazuh-master","status":"active","node_name":"node01",
             "lastKeepAlive":"9999-12-31T23:59:59+00:00","ip":"127.0.0.1","id":"000","version":"Wazuh v4.12.0"},
            {"group":["default","dbms"],"status":"disconnected","node_name":"node02","lastKeepAlive":"2025-08-18T18:40:48+00:00",
             "ip":"172.16.1.85","id":"001","name":"ag","version":"Wazuh v4.9.2"},
            {"status":"never_connected","node_name":"unknown","ip":"any","id":"009","name":"a9"},
            {"id":7,"status":["odd"]}, "odd"],
            "total_affected_items":9,"total_failed_items":0,"failed_items":[]},"message":"All selected agents information was returned","error":0}"#;
        let page = page(body.as_bytes()).unwrap();
        assert_eq!((page.total, page.is_partial, page.agents.len()), (9, false, 5));
        let [master, one, nine, odd, text] = page.agents.try_into().unwrap();
        assert_eq!((master.os_platform.as_str(), master.os_version.as_str(), master.groups.len()), ("ubuntu", "22.04.3 LTS", 0));
        assert_eq!(
            (one.groups, one.node.as_str(), one.status.as_str()),
            (vec!["default".to_owned(), "dbms".into()], "node02", "disconnected")
        );
        assert_eq!(
            nine,
            Agent {
                id: "009".into(),
                name: "a9".into(),
                ip: "any".into(),
                status: "never_connected".into(),
                node: "unknown".into(),
                ..Agent::default()
            }
        );
        assert_eq!((odd, text), (Agent::default(), Agent::default()));
    }

    #[test]
    fn what_is_no_whole_page_is_told() {
        let failed = |error: &str, items: &str, failed: &str| {
            page(format!(r#"{{"data":{{"affected_items":{items},"total_affected_items":1,"failed_items":{failed}}},"message":"m","error":{error}}}"#).as_bytes())
        };
        assert!(failed("2", r#"[{"id":"1"}]"#, r#"[{"error":{"code":1701},"id":["5"]}]"#).unwrap().is_partial);
        assert!(!failed("0", "[]", "[]").unwrap().is_partial);
        assert_eq!(failed("1", "[]", "[]").unwrap_err(), "error 1 (m) and no agents");
        for none in ["", "[]", "<html>", r#"{"data":{"affected_items":{}}}"#, r#"{"data":{"token":"t"}}"#] {
            assert_eq!(page(none.as_bytes()).unwrap_err(), "something else than a list of agents", "{none}");
        }
    }

    #[test]
    fn a_token_comes_in_json_or_bare_and_nothing_else_is_one() {
        for body in [r#"{"data":{"token":"a.b-_.c"},"error":0}"#, "a.b-_.c", "a.b-_.c\n"] {
            assert_eq!(token(body.as_bytes()).unwrap().reveal(), "a.b-_.c");
        }
        for body in ["", "{}", r#"{"data":{}}"#, "<html>x</html>", "two words", r#"{"data":{"token":"a\nb"}}"#, r#""text""#] {
            assert_eq!(token(body.as_bytes()).unwrap_err(), "something else than a token", "{body}");
        }
        assert!(token(&[b'a'; TOKEN_BYTES + 1]).is_err());
        assert_eq!(words(br#"{"title":"Unauthorized","detail":"Invalid\ncredentials"}"#).as_deref(), Some("Invalid credentials"));
        assert_eq!(words(b"<html>"), None);
    }
}
