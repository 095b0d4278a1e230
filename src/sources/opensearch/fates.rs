//! What an answer means for the reader, and for the operator. Pure.
//!
//! | answer | trouble | the source |
//! |---|---|---|
//! | 200 | none | |
//! | none, 408, 429, 5xx, one that is no JSON | away | asks again, the next host, after a growing wait or what `Retry-After` says |
//! | 200 with failed shards, or timed out | away | the same: no document of such a page is taken |
//! | any, that says `search_context_missing_exception` | gone | fixes another point in time and goes on from its cursor |
//! | longer than we take | too long | asks for less |
//! | 400 that does not know `_shard_doc` | no tie | sorts by `_seq_no` from then on |
//! | 401, 403, 404, 3xx, all other 4xx, no trust in its certificate | wrong | holds: a person must mend it; asks again every half minute |
//! | 400 of OpenSearch to a pattern that no index fits | wrong | the same: there may be one tomorrow |

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use serde_json::Value;

use super::answer::{Flaw, is_gone, reason};
use crate::{
    clock::Nanos,
    net::http::{HttpError, Reply},
};

/// Characters of a server's own words that are shown.
const SAID_CHARS: usize = 300;

/// Why there is no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Asked again later; nanoseconds that the server wants us to wait.
    Away(String, Option<Nanos>),
    /// Not all of it: asked again later.
    Partial(String),
    /// A person must mend it.
    Wrong(String),
    Gone,
    TooLong,
    NoTie,
}

/// The label `outcome` of requests.
pub(super) const OUTCOMES: [&str; 7] = ["good", "away", "busy", "partial", "expired", "too_long", "refused"];

impl Trouble {
    /// In one word, for a label.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Away(_, Some(_)) => "busy",
            Self::Away(..) => "away",
            Self::Partial(_) => "partial",
            Self::Wrong(_) | Self::NoTie => "refused",
            Self::Gone => "expired",
            Self::TooLong => "too_long",
        }
    }
}

/// What a page that is none means.
pub(super) fn flawed(flaw: Flaw, place: &str) -> Trouble {
    match flaw {
        Flaw::Gone => Trouble::Gone,
        Flaw::Partial(what) => Trouble::Partial(format!("{place}: {what}; no half page is taken, see the cluster's health")),
        Flaw::Strange(what) => Trouble::Away(format!("{place} answers with {what}; see hosts, and any proxy on the way"), None),
    }
}

/// The reply, if its status says that it is one.
///
/// - `place`: how the server is called in texts; `doing`: what was asked for, as in "to search a, b-*".
/// - `now`: wall time.
///
/// # Errors
/// What it means otherwise.
pub(super) fn judge(reply: Result<Reply, HttpError>, place: &str, doing: &str, now: Nanos) -> Result<Reply, Trouble> {
    let reply = match reply {
        Ok(reply) if reply.status == 200 => return Ok(reply),
        Ok(reply) => reply,
        Err(HttpError::TooLong(_)) => return Err(Trouble::TooLong),
        Err(error @ (HttpError::Settings(_) | HttpError::Ours(_))) => return Err(Trouble::Wrong(error.to_string())),
        Err(error @ HttpError::Away(_)) => return Err(Trouble::Away(error.to_string(), None)),
    };
    let error: Option<Value> = serde_json::from_slice::<Value>(&reply.body).ok().and_then(|all| all.get("error").cloned());
    if error.as_ref().is_some_and(is_gone) {
        return Err(Trouble::Gone);
    }
    let why = error.as_ref().and_then(reason).unwrap_or_default();
    if reply.status == 400 && why.contains("[_shard_doc]") {
        return Err(Trouble::NoTie);
    }
    // So says OpenSearch of a pattern that no index fits.
    if reply.status == 400 && why.contains("invalid id: [null]") {
        return Err(Trouble::Wrong(format!(
            "{place} has no index for what was asked, {doing}; see indices, or wait for the first document"
        )));
    }
    let says = format!("{place} answers {}{} {doing}", reply.status, said(&why, &reply));
    Err(match reply.status {
        408 | 429 | 500..=599 => Trouble::Away(format!("{says}; see the cluster's health and load"), reply.retry_after(now)),
        401 => Trouble::Wrong(format!("{says}; see username and password_file, api_key_file or bearer_file")),
        403 => Trouble::Wrong(format!("{says}; grant this user read on the indices")),
        404 => Trouble::Wrong(format!("{says}; see indices, and that hosts name OpenSearch or Elasticsearch from 7.12 itself")),
        300..=399 => Trouble::Wrong(format!("{says}; no redirection is followed, give hosts as the server itself has them")),
        _ => Trouble::Wrong(format!("{says}; see query, timestamp_field and page")),
    })
}

/// The server's words, or the first of a body without, in brackets; nothing of a page for people.
fn said(why: &str, reply: &Reply) -> String {
    let body = String::from_utf8_lossy(&reply.body);
    let text = if why.is_empty() { body.trim() } else { why };
    if text.is_empty() || text.starts_with('<') {
        return String::new();
    }
    let clean: String = text.chars().take(SAID_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!(" ({clean})")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests state what must hold")]
mod tests {
    use super::*;

    fn of(status: u16, headers: &[(&str, &str)], body: &str) -> Result<Reply, Trouble> {
        let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        judge(Ok(Reply { status, headers, body: body.as_bytes().to_vec() }), "http://o:9200", "to search a", 0)
    }

    #[test]
    fn each_answer_has_its_meaning_and_words() {
        let gone = r#"{"error":{"root_cause":[{"type":"search_context_missing_exception","reason":"No search context found for id [7]"}],"type":"search_phase_execution_exception","reason":"all shards failed"},"status":404}"#;
        let tie = r#"{"error":{"root_cause":[{"type":"query_shard_exception","reason":"No mapping found for [_shard_doc] in order to sort on"}]},"status":400}"#;
        assert_eq!(of(404, &[], gone).unwrap_err(), Trouble::Gone);
        assert_eq!(of(503, &[], gone).unwrap_err(), Trouble::Gone, "with allow_partial_search_results=false");
        assert_eq!(of(400, &[], tie).unwrap_err(), Trouble::NoTie);
        assert!(of(200, &[], "").is_ok());
        let none = r#"{"error":{"root_cause":[{"type":"illegal_argument_exception","reason":"invalid id: [null]"}]},"status":400}"#;
        assert!(matches!(of(400, &[], none), Err(Trouble::Wrong(why)) if why.contains("has no index for what was asked")));
        type Row = (u16, &'static [(&'static str, &'static str)], &'static str, &'static str, Option<Nanos>);
        let rows: &[Row] = &[
            (429, &[("retry-after", "7")], "", "away", Some(7_000_000_000)),
            (429, &[], "{}", "away", None),
            (503, &[], "OpenSearch Security not initialized.", "away", None),
            (502, &[], "<html>bad gateway</html>", "away", None),
            (401, &[], "Unauthorized", "wrong", None),
            (403, &[], r#"{"error":{"root_cause":[{"type":"security_exception","reason":"no permissions"}]},"status":403}"#, "wrong", None),
            (
                404,
                &[],
                r#"{"error":{"root_cause":[{"type":"index_not_found_exception","reason":"no such index [a]"}]},"status":404}"#,
                "wrong",
                None,
            ),
            (400, &[], r#"{"error":{"type":"parsing_exception","reason":"unknown query [exsits]"},"status":400}"#, "wrong", None),
            (302, &[], "", "wrong", None),
        ];
        for (status, headers, body, fate, wait) in rows {
            match of(*status, headers, body).unwrap_err() {
                Trouble::Away(why, found) => {
                    assert_eq!((*fate, found), ("away", *wait), "{why}");
                    assert!(why.starts_with(&format!("http://o:9200 answers {status}")) && !why.contains('<'), "{why}");
                }
                Trouble::Wrong(why) => {
                    assert_eq!(*fate, "wrong", "{why}");
                    assert!(why.contains(" to search a; "), "{why}");
                }
                other => panic!("{status}: {other:?}"),
            }
        }
        let Trouble::Wrong(why) = of(403, &[], rows.get(5).unwrap().2).unwrap_err() else { panic!("403 is wrong") };
        assert!(why.contains("(security_exception: no permissions)"), "{why}");
    }
}
