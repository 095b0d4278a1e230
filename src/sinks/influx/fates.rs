//! What an answer means for the lines of a request, and for the operator. Pure tables.
//!
//! | fate | the sink |
//! |---|---|
//! | written | settles them |
//! | refused | halves the request until one line stands alone, and gives that up |
//! | doubted | the same, but a line that stands alone is given up only if an empty write is taken: else it holds |
//! | too large | halves the request, and sends smaller ones from then on |
//! | retry | sends them again, after a growing wait or what `Retry-After` says: the same point twice is one point |
//! | hold | stops, reads secrets and CA anew every half minute, says why; never the dead letter |
//! | abort | is wrong itself: the agent ends and resumes from the checkpoint |

use std::ops::RangeInclusive;

use crate::{
    clock::Nanos,
    net::http::{HttpError, Reply},
};

/// What becomes of the lines of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Written,
    Refused,
    Doubted,
    TooLarge,
    Retry,
    Hold,
    Abort,
}

/// What kind of refusal it is; the label `outcome` of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Unparsable,
    TypeConflict,
    Retention,
    Cardinality,
    TooLarge,
    Other,
}

impl Cause {
    pub(super) const ALL: [Self; 6] =
        [Self::Unparsable, Self::TypeConflict, Self::Retention, Self::Cardinality, Self::TooLarge, Self::Other];

    /// In one word, for a label.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Unparsable => "unparsable",
            Self::TypeConflict => "type_conflict",
            Self::Retention => "beyond_retention",
            Self::Cardinality => "cardinality",
            Self::TooLarge => "too_large",
            Self::Other => "refused",
        }
    }
}

/// One meaning of an answer.
pub(super) struct Row {
    pub status: RangeInclusive<u16>,
    /// What its text holds; empty: any.
    pub says: &'static str,
    pub fate: Fate,
    pub cause: Cause,
    pub remedy: &'static str,
}

const fn row(from: u16, to: u16, says: &'static str, fate: Fate, cause: Cause, remedy: &'static str) -> Row {
    Row { status: from..=to, says, fate, cause, remedy }
}

const CREDENTIALS: &str = "see token_file, or username and password_file, and what they may write";

/// Every answer that has a meaning of its own, and the remedy. The first row that fits counts.
///
/// Texts are those of InfluxDB 1.6 to 2.7 and of 3. What is not listed is retried: losing time is
/// better than losing a line, and the text shows it.
pub(super) const FATES: &[Row] = &[
    row(200, 299, "", Fate::Written, Cause::Other, ""),
    row(300, 399, "", Fate::Hold, Cause::Other, "no redirection is followed; give url as InfluxDB itself has it"),
    // The first, since its text repeats the line: words of an attacker.
    row(400, 400, "unable to parse", Fate::Refused, Cause::Unparsable, "it is no line protocol"),
    row(400, 400, "field type conflict", Fate::Refused, Cause::TypeConflict, "the field has another type there; drop or rename it"),
    row(400, 400, "beyond retention policy", Fate::Refused, Cause::Retention, "it is older than the retention allows"),
    row(400, 400, "max-values-per-tag", Fate::Refused, Cause::Cardinality, "make the tag a field, or raise max-values-per-tag"),
    row(400, 400, "max-series-per-database", Fate::Refused, Cause::Cardinality, "use fewer tags, or raise max-series-per-database"),
    row(400, 400, "partial write", Fate::Refused, Cause::Other, "see InfluxDB's log"),
    row(400, 400, "invalid line protocol", Fate::Refused, Cause::Unparsable, "it is no line protocol"),
    row(400, 400, "", Fate::Doubted, Cause::Other, "see org, bucket and rp"),
    row(401, 401, "", Fate::Hold, Cause::Other, CREDENTIALS),
    row(402, 402, "", Fate::Hold, Cause::Other, "its account is not paid for; ask whoever runs it"),
    row(403, 403, "", Fate::Hold, Cause::Other, CREDENTIALS),
    row(404, 404, "page not found", Fate::Hold, Cause::Other, "it has no such API; see api and url"),
    row(404, 404, "", Fate::Hold, Cause::Other, "make it there, or see org, bucket and rp"),
    row(405, 405, "", Fate::Hold, Cause::Other, "it takes no POST there; see url"),
    row(407, 407, "", Fate::Hold, Cause::Other, "the proxy wants a login; see proxy"),
    row(413, 413, "", Fate::TooLarge, Cause::TooLarge, "raise its limit on bodies"),
    row(415, 415, "", Fate::Hold, Cause::Other, "it does not take this body; see gzip and url"),
    row(422, 422, "field type conflict", Fate::Refused, Cause::TypeConflict, "the field has another type there; drop or rename it"),
    row(422, 422, "beyond retention policy", Fate::Refused, Cause::Retention, "it is older than the retention allows"),
    row(422, 422, "outside retention policy", Fate::Refused, Cause::Retention, "it is older than the retention allows"),
    row(422, 422, "", Fate::Refused, Cause::Other, "see InfluxDB's log"),
    row(429, 429, "", Fate::Retry, Cause::Other, "its limit is used up"),
    row(500, 500, "retention policy not found", Fate::Hold, Cause::Other, "make it there, or see rp"),
    row(500, 599, "", Fate::Retry, Cause::Other, "see InfluxDB's log"),
];

/// What one request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub fate: Fate,
    pub cause: Cause,
    /// What happened, and the remedy after `;`. Empty where all is well.
    pub text: String,
    /// Nanoseconds that the server wants us to wait.
    pub wait: Option<Nanos>,
    /// The label `code` of requests.
    pub code: &'static str,
}

/// Labels of requests: every status with a meaning of its own, and its family.
const CODES: &[(RangeInclusive<u16>, &str)] = &[
    (204..=204, "204"),
    (200..=299, "2xx"),
    (300..=399, "3xx"),
    (400..=400, "400"),
    (401..=401, "401"),
    (403..=403, "403"),
    (404..=404, "404"),
    (413..=413, "413"),
    (422..=422, "422"),
    (429..=429, "429"),
    (400..=499, "4xx"),
    (500..=500, "500"),
    (503..=503, "503"),
    (500..=599, "5xx"),
];
const NO_ANSWER: &str = "none";
const STRANGE: &str = "other";

/// Judges an answer, or that there is none.
///
/// - `place`: how the server and what is written there are called in texts.
/// - `now`: wall time.
pub(super) fn judge(reply: &Result<Reply, HttpError>, place: &str, now: Nanos) -> Outcome {
    let of = |fate, text: String| Outcome { fate, cause: Cause::Other, text, wait: None, code: NO_ANSWER };
    let reply = match reply {
        Ok(reply) => reply,
        Err(error @ (HttpError::Away(_) | HttpError::TooLong(_))) => return of(Fate::Retry, error.to_string()),
        Err(error @ HttpError::Settings(_)) => return of(Fate::Hold, error.to_string()),
        Err(error @ HttpError::Ours(_)) => return of(Fate::Abort, error.to_string()),
    };
    let (status, said) = (reply.status, said(&reply.body));
    let fits = |row: &&Row| row.status.contains(&status) && said.contains(row.says);
    let code = CODES.iter().find(|(range, _)| range.contains(&status)).map_or(STRANGE, |(_, code)| code);
    let (fate, cause, remedy) = FATES
        .iter()
        .find(fits)
        .map_or((Fate::Retry, Cause::Other, "that is no answer to a write; see url"), |row| (row.fate, row.cause, row.remedy));
    if fate == Fate::Written {
        return Outcome { fate, cause, text: String::new(), wait: None, code };
    }
    let wait = if fate == Fate::Retry { reply.retry_after(now) } else { None };
    let said = shown(&said);
    Outcome { fate, cause, text: format!("{place} answers {status}{said}; {remedy}"), wait, code }
}

/// Judges the answer to a write of nothing: what is wrong with the way, where the lines cannot be.
///
/// Gives nothing where the way is good.
pub(super) fn judge_empty(reply: &Result<Reply, HttpError>, place: &str, now: Nanos) -> Option<Outcome> {
    let outcome = judge(reply, place, now);
    match outcome.fate {
        Fate::Written => None,
        Fate::Retry | Fate::Hold | Fate::Abort => Some(outcome),
        Fate::Refused | Fate::Doubted | Fate::TooLarge => Some(Outcome { fate: Fate::Hold, ..outcome }),
    }
}

/// What the server says of an error: `error` of 1.x, `message` of 2.x, else the body's text.
fn said(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let member = |name: &str| Some(json.as_ref()?.get(name)?.as_str()?.to_owned());
    let text = member("error").or_else(|| member("message")).unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
    if text.starts_with('<') { String::new() } else { text }
}

/// On one line and not long, in brackets.
fn shown(said: &str) -> String {
    if said.is_empty() {
        return String::new();
    }
    let mut clean: Vec<char> = said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.len() > SAID_FIRST + SAID_LAST {
        clean.splice(SAID_FIRST..clean.len() - SAID_LAST, [' ', '…', ' ']);
    }
    format!(" ({})", clean.into_iter().collect::<String>())
}

/// Characters of a server's own words that are shown: they repeat the line, and only then say what is wrong with it.
const SAID_FIRST: usize = 120;
const SAID_LAST: usize = 240;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;
    const PLACE: &str = "http://i:8086 bucket waf";

    fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Result<Reply, HttpError> {
        let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Ok(Reply { status, headers, body: body.as_bytes().to_vec() })
    }

    fn of(status: u16, body: &str) -> Outcome {
        judge(&reply(status, &[], body), PLACE, 0)
    }

    /// Answers as the servers give them, each with what is done.
    const ANSWERS: &[(u16, &str, Fate, Cause)] = {
        use self::Cause::*;
        use self::Fate::{Doubted, Hold, Refused, Retry, Written};
        &[
            (200, "", Written, Other),
            (204, "", Written, Other),
            (301, "", Hold, Other),
            (308, "", Hold, Other),
            (
                400,
                r#"{"error":"partial write: field type conflict: input field \"a\" on measurement \"m\" is type string, already exists as type integer dropped=1"}"#,
                Refused,
                TypeConflict,
            ),
            (400, r#"{"error":"partial write: points beyond retention policy dropped=1"}"#, Refused, Retention),
            (
                400,
                r#"{"error":"partial write: max-values-per-tag limit exceeded (100000/100000): measurement=\"m\" tag=\"t\" value=\"v\" dropped=1"}"#,
                Refused,
                Cardinality,
            ),
            (400, r#"{"error":"partial write: max-series-per-database limit exceeded: (1000000) dropped=1"}"#, Refused, Cardinality),
            (400, r#"{"error":"partial write: unable to parse 'm,a= f=1': missing tag value dropped=0"}"#, Refused, Unparsable),
            (400, r#"{"error":"unable to parse 'm': missing fields"}"#, Refused, Unparsable),
            (400, r#"{"code":"invalid","message":"unable to parse 'm,a= f=1': missing tag value"}"#, Refused, Unparsable),
            (400, r#"{"error":"partial write: something new dropped=1"}"#, Refused, Other),
            (400, r#"{"code":"invalid","message":"partial write of line protocol occurred","line":2,"data":[]}"#, Refused, Other),
            (400, r#"{"error":"parsing failed for write_lp endpoint: invalid line protocol"}"#, Refused, Unparsable),
            (400, r#"{"error":"database is required"}"#, Doubted, Other),
            (400, r#"{"code":"invalid","message":"Please provide either orgID or org"}"#, Doubted, Other),
            (400, "", Doubted, Other),
            (401, r#"{"error":"authorization failed"}"#, Hold, Other),
            (402, "", Hold, Other),
            (403, r#"{"code":"forbidden","message":"insufficient permissions for write"}"#, Hold, Other),
            (404, "404 page not found\n", Hold, Other),
            (404, r#"{"error":"database not found: \"x\""}"#, Hold, Other),
            (404, r#"{"code":"not found","message":"bucket \"x\" not found"}"#, Hold, Other),
            (405, "", Hold, Other),
            (406, "", Retry, Other),
            (407, "", Hold, Other),
            (408, "", Retry, Other),
            (413, r#"{"error":"Request Entity Too Large"}"#, Fate::TooLarge, Cause::TooLarge),
            (415, "", Hold, Other),
            (
                422,
                r#"{"code":"unprocessable entity","message":"failure writing points to database: partial write: field type conflict: …"}"#,
                Refused,
                TypeConflict,
            ),
            (
                422,
                r#"{"code":"unprocessable entity","message":"failure writing points to database: partial write: points beyond retention policy dropped=1"}"#,
                Refused,
                Retention,
            ),
            (422, r#"{"message":"outside retention policy"}"#, Refused, Retention),
            (422, "", Refused, Other),
            (429, "", Retry, Other),
            (500, r#"{"error":"retention policy not found: x"}"#, Hold, Other),
            (500, r#"{"error":"timeout"}"#, Retry, Other),
            (502, "<html>", Retry, Other),
            (503, "", Retry, Other),
            (504, "", Retry, Other),
            (600, "", Retry, Other),
        ]
    };

    #[test]
    fn every_answer_has_its_fate() {
        for (status, body, fate, cause) in ANSWERS {
            let outcome = of(*status, body);
            assert_eq!((outcome.fate, outcome.cause), (*fate, *cause), "{status} {body}");
        }
        for row in FATES {
            let is_tried = |(status, body, ..): &&(u16, &str, Fate, Cause)| {
                let said = said(body.as_bytes());
                let first = FATES.iter().find(|row| row.status.contains(status) && said.contains(row.says));
                first.is_some_and(|first| std::ptr::eq(first, row))
            };
            assert!(ANSWERS.iter().any(|answer| is_tried(&answer)), "no answer for {:?} {:?}", row.status, row.says);
            assert_eq!(row.remedy.is_empty(), row.fate == Fate::Written, "{:?} has a remedy", row.status);
        }
    }

    #[test]
    fn without_an_answer_the_error_says_which() {
        let of = |error: HttpError| judge(&Err(error), PLACE, 0);
        assert_eq!(of(HttpError::Away("a".into())).fate, Fate::Retry);
        assert_eq!(of(HttpError::TooLong(1)).fate, Fate::Retry);
        let held = of(HttpError::Settings("s".into()));
        assert_eq!((held.fate, held.text.as_str(), held.code), (Fate::Hold, "s", "none"));
        assert_eq!(of(HttpError::Ours("o".into())).fate, Fate::Abort);
    }

    #[test]
    fn a_write_of_nothing_is_the_ways_fault_alone() {
        let of = |status, body: &str| judge_empty(&reply(status, &[], body), PLACE, 0).map(|outcome| outcome.fate);
        assert_eq!(of(204, ""), None);
        assert_eq!(of(400, r#"{"error":"database is required"}"#), Some(Fate::Hold));
        assert_eq!(of(413, ""), Some(Fate::Hold));
        assert_eq!(of(503, ""), Some(Fate::Retry));
        assert_eq!(of(404, ""), Some(Fate::Hold));
    }

    #[test]
    fn its_words_are_shown_on_one_line_and_the_code_is_one_of_ours() {
        let text = |status, body: &str| of(status, body).text;
        let missing = "http://i:8086 bucket waf answers 404 (database not found: \"x\"); make it there, or see org, bucket and rp";
        assert_eq!(text(404, r#"{"error":"database not found: \"x\""}"#), missing);
        assert_eq!(text(502, "<html>"), "http://i:8086 bucket waf answers 502; see InfluxDB's log");
        let long = text(400, &format!(r#"{{"error":"unable to parse 'm {}': missing fields"}}"#, "x".repeat(9000)));
        assert!(long.len() < 480 && long.contains(": missing fields); ") && long.contains("(unable to parse 'm xxx"), "{long}");
        assert!(!text(500, "a\x1b[2Jb").contains('\x1b'));
        let rows = [(204, "204"), (200, "2xx"), (302, "3xx"), (401, "401"), (418, "4xx"), (503, "503"), (502, "5xx"), (700, "other")];
        for (status, code) in rows {
            assert_eq!(of(status, "").code, code);
        }
        assert_eq!(Cause::ALL.map(Cause::word).iter().collect::<std::collections::BTreeSet<_>>().len(), Cause::ALL.len());
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_more_than_an_hour() {
        let wait = |status, text: &str, now| judge(&reply(status, &[("retry-after", text)], ""), PLACE, now * SECOND).wait;
        assert_eq!(wait(429, "7", 0), Some(7 * SECOND));
        assert_eq!(wait(503, " 0 ", 0), Some(0));
        assert_eq!(wait(429, "9999999999", 0), Some(3600 * SECOND));
        // RFC 9110 §5.6.7.
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(wait(429, date, 784_111_770), Some(7 * SECOND));
        assert_eq!(wait(429, date, 784_111_800), Some(0));
        assert_eq!(wait(429, "soon", 0), None);
        assert_eq!(wait(401, "7", 0), None, "a hold has its own wait");
    }
}
