//! What an answer of MISP means. Pure.
//!
//! | answer | outcome | because |
//! |---|---|---|
//! | 200 with rows | rows | |
//! | 200 with anything else | away | half an answer, a page of a proxy: another try may bring it whole |
//! | 400, 413, 414, 422 | refused | a value is wrong: the batch is halved until it stands alone |
//! | 401, 403 | denied | the key: a person must mend it, and no try heals it |
//! | 404, 405, redirections | denied | the URL, or a proxy that takes the key away |
//! | 429 | limited | MISP's own limit; its headers say until when |
//! | 5xx, none at all | away | an outage |
//! | no trust in its certificate | denied | settings |

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use super::attribute::{self, Attribute};
use crate::{
    clock::Nanos,
    net::http::{HttpError, Reply},
};

const SECOND: Nanos = 1_000_000_000;
/// Seconds to wait after a 429 that does not say how long.
const LIMITED_SECONDS: u64 = 60;
/// Seconds that a header can make us wait: MISP counts over a quarter of an hour.
const LIMITED_SECONDS_MAX: u64 = 3600;
/// Characters of MISP's own message that are shown.
const MESSAGE_CHARS: usize = 200;

/// What became of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Rows {
        rows: Vec<Attribute>,
        /// Rows that MISP left out after counting them against the page.
        skipped: u64,
        /// Nanoseconds without another request, where its limit is used up by this one.
        rest: Option<Nanos>,
    },
    /// Its limit is used up: nothing for so many nanoseconds.
    Limited(Nanos),
    /// A person must mend settings, key or certificate.
    Denied(String),
    /// It does not take these values.
    Refused(String),
    /// No answer, or none that can be used: try again.
    Away(String),
}

/// Judges a search's answer.
pub fn judge(reply: Result<Reply, HttpError>) -> Outcome {
    let reply = match check(reply) {
        Ok(reply) => reply,
        Err(outcome) => return outcome,
    };
    match attribute::parse(&reply.body) {
        Err(what) => Outcome::Away(format!("MISP answers with {what}")),
        Ok(rows) => {
            let number = |name| reply.header(name).and_then(|text| text.trim().parse::<u64>().ok());
            let is_used_up = number("x-rate-limit-remaining") == Some(0);
            let rest = number("x-rate-limit-reset").filter(|_| is_used_up).map(|s| s.min(LIMITED_SECONDS_MAX) * SECOND);
            Outcome::Rows { rows, skipped: number("x-skipped-elements-count").unwrap_or(0), rest }
        }
    }
}

/// The reply, if its status is 200.
///
/// # Errors
/// What it means otherwise.
pub fn check(reply: Result<Reply, HttpError>) -> Result<Reply, Outcome> {
    let reply = match reply {
        Ok(reply) => reply,
        Err(HttpError::Settings(why)) => return Err(Outcome::Denied(why)),
        Err(error @ (HttpError::Away(_) | HttpError::TooLong(_) | HttpError::Ours(_))) => return Err(Outcome::Away(error.to_string())),
    };
    let said = message(&reply.body);
    Err(match reply.status {
        200 => return Ok(reply),
        400 | 413 | 414 | 422 => Outcome::Refused(format!("MISP answers {}{said}", reply.status)),
        401 | 403 => {
            let remedy = "check the key in key_file, its expiry and the addresses that it allows, and that its role may use the API";
            Outcome::Denied(format!("MISP refuses the key with {}{said}; {remedy}", reply.status))
        }
        404 | 405 => Outcome::Denied(format!("MISP answers {}{said}; url must be its base, such as https://misp.example", reply.status)),
        300..=399 => {
            let to = reply.header("location").map(|to| format!(" to {}", clean(to))).unwrap_or_default();
            let remedy = "give url as MISP itself has it; a proxy before it must pass Authorization on";
            Outcome::Denied(format!("MISP redirects{to}; {remedy}"))
        }
        429 => Outcome::Limited(limited_for(&reply)),
        status => Outcome::Away(format!("MISP answers {status}{said}")),
    })
}

fn limited_for(reply: &Reply) -> Nanos {
    let number = |name| reply.header(name).and_then(|text| text.trim().parse::<u64>().ok());
    let seconds = number("retry-after").max(number("x-rate-limit-reset")).unwrap_or(LIMITED_SECONDS);
    seconds.clamp(1, LIMITED_SECONDS_MAX) * SECOND
}

/// What MISP says of an error, in brackets; nothing if it says nothing in its own way.
fn message(body: &[u8]) -> String {
    let said: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    match said.as_ref().and_then(|said| said.get("message")).and_then(|text| text.as_str()) {
        Some(text) if !text.trim().is_empty() => format!(" ({})", clean(text)),
        _ => String::new(),
    }
}

/// A foreign text on one line, not long.
fn clean(text: &str) -> String {
    text.trim().chars().take(MESSAGE_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests state what must hold")]
mod tests {
    use super::*;

    fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Result<Reply, HttpError> {
        let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Ok(Reply { status, headers, body: body.as_bytes().to_vec() })
    }

    #[test]
    fn every_status_has_its_outcome() {
        let said = r#"{"name":"Invalid","message":"no\nterms","url":"/"}"#;
        let word = |outcome: &Outcome| match outcome {
            Outcome::Rows { .. } => "rows",
            Outcome::Limited(_) => "limited",
            Outcome::Denied(_) => "denied",
            Outcome::Refused(_) => "refused",
            Outcome::Away(_) => "away",
        };
        let rows = [(200, "away"), (201, "away"), (302, "denied"), (400, "refused"), (401, "denied"), (403, "denied"), (404, "denied")];
        let more = [(405, "denied"), (413, "refused"), (418, "away"), (429, "limited"), (500, "away"), (502, "away"), (503, "away")];
        for (status, expected) in rows.into_iter().chain(more) {
            let outcome = judge(reply(status, &[], said));
            assert_eq!(word(&outcome), expected, "{status}: {outcome:?}");
        }
        assert_eq!(judge(reply(400, &[], said)), Outcome::Refused("MISP answers 400 (no terms)".into()));
        assert_eq!(judge(reply(500, &[], "<html>")), Outcome::Away("MISP answers 500".into()));
        assert_eq!(judge(Err(HttpError::Settings("x".into()))), Outcome::Denied("x".into()));
        assert_eq!(word(&judge(Err(HttpError::TooLong(5)))), "away");
        assert_eq!(word(&judge(reply(200, &[], r#"{"response":[]}"#))), "rows");
    }

    #[test]
    fn its_own_headers_say_how_long_to_rest() {
        let limited = |headers: &[(&str, &str)]| judge(reply(429, headers, ""));
        assert_eq!(limited(&[]), Outcome::Limited(60 * SECOND));
        assert_eq!(limited(&[("x-rate-limit-reset", "417")]), Outcome::Limited(417 * SECOND));
        assert_eq!(limited(&[("retry-after", "0")]), Outcome::Limited(SECOND));
        assert_eq!(limited(&[("retry-after", "999999999999")]), Outcome::Limited(3600 * SECOND));
        assert_eq!(limited(&[("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")]), Outcome::Limited(60 * SECOND));
        let rest = |headers: &[(&str, &str)]| match judge(reply(200, headers, r#"{"response":[]}"#)) {
            Outcome::Rows { rest, skipped, .. } => (rest, skipped),
            other => panic!("{other:?}"),
        };
        assert_eq!(rest(&[("x-rate-limit-remaining", "0"), ("x-rate-limit-reset", "5")]), (Some(5 * SECOND), 0));
        assert_eq!(rest(&[("x-rate-limit-remaining", "1"), ("x-rate-limit-reset", "5")]), (None, 0));
        assert_eq!(rest(&[("x-skipped-elements-count", "7")]), (None, 7));
    }
}
