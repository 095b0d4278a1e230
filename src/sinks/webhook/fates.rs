//! What an answer means for the messages of a request, and for the operator. Pure tables.
//!
//! | fate | the sink |
//! |---|---|
//! | delivered | settles them |
//! | retry | sends them again, after a growing wait or what `Retry-After` says |
//! | hold | stops, reads URL, CA and secrets anew every half minute, says why; never the dead letter |
//! | refused | halves the request until one message stands alone, and gives that up |
//! | abort | is wrong itself: the agent ends and resumes from the checkpoint |

use std::ops::RangeInclusive;

use crate::{
    clock::Nanos,
    net::http::{HttpError, Reply},
};

/// What becomes of the messages of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Delivered,
    Retry,
    Hold,
    Refused,
    Abort,
}

/// Every status that has a meaning of its own, and the remedy. The first row that fits counts.
///
/// What is not listed is retried: losing time is better than losing a record, and the text shows it.
pub(super) const FATES: &[(RangeInclusive<u16>, Fate, &str)] = &[
    (200..=299, Fate::Delivered, ""),
    (300..=399, Fate::Hold, "no redirection is followed; give url as the receiver itself has it"),
    (400..=400, Fate::Refused, "it calls the body wrong; see form"),
    (401..=401, Fate::Hold, "it refuses the credentials; see headers_file, headers_env and signature.key_file"),
    (402..=402, Fate::Hold, "its account is not paid for; ask whoever runs it"),
    (403..=403, Fate::Hold, "it refuses the credentials; see headers_file, headers_env and signature.key_file"),
    (404..=404, Fate::Hold, "it knows no such path; see url"),
    (405..=405, Fate::Hold, "it takes no POST there; see url"),
    (407..=407, Fate::Hold, "the proxy wants a login; see proxy"),
    (410..=410, Fate::Hold, "the webhook was taken away; make a new one and give its url"),
    (413..=413, Fate::Refused, "too large for it; lower batch_bytes, or raise its limit"),
    (415..=415, Fate::Hold, "it does not take this content type; see form and content_type"),
    (422..=422, Fate::Refused, "it calls the content wrong; see form"),
    (429..=429, Fate::Retry, "its limit is used up; set rate if that happens often"),
    (431..=431, Fate::Hold, "the headers are too large for it; see headers"),
    (500..=599, Fate::Retry, "see the receiver's log"),
];

/// What one request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub fate: Fate,
    /// What happened, and the remedy after `;`. Empty where all is well.
    pub text: String,
    /// Nanoseconds that the receiver wants us to wait.
    pub wait: Option<Nanos>,
}

/// Judges an answer, or that there is none.
///
/// - `base`: how the receiver is called in texts.
/// - `now`: wall time.
pub(super) fn judge(reply: &Result<Reply, HttpError>, base: &str, now: Nanos) -> Outcome {
    let of = |fate, text: String| Outcome { fate, text, wait: None };
    let reply = match reply {
        Ok(reply) => reply,
        Err(error @ (HttpError::Away(_) | HttpError::TooLong(_))) => return of(Fate::Retry, error.to_string()),
        Err(error @ HttpError::Settings(_)) => return of(Fate::Hold, error.to_string()),
        Err(error @ HttpError::Ours(_)) => return of(Fate::Abort, error.to_string()),
    };
    let status = reply.status;
    let row = FATES.iter().find(|(range, ..)| range.contains(&status));
    let (fate, remedy) = row.map_or((Fate::Retry, "that is no answer to a POST; see url"), |(_, fate, remedy)| (*fate, *remedy));
    if fate == Fate::Delivered {
        return of(fate, String::new());
    }
    let wait = if fate == Fate::Retry { reply.retry_after(now) } else { None };
    Outcome { fate, text: format!("{base} answers {status}{}; {remedy}", said(&reply.body)), wait }
}

/// What the receiver says of an error, on one line and not long, in brackets; nothing of a page for people.
fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if text.is_empty() || text.starts_with('<') {
        return String::new();
    }
    let clean: String = text.chars().take(SAID_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!(" ({clean})")
}

/// Characters of a receiver's own words that are shown.
const SAID_CHARS: usize = 200;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Result<Reply, HttpError> {
        let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Ok(Reply { status, headers, body: body.as_bytes().to_vec() })
    }

    fn of(status: u16) -> Fate {
        judge(&reply(status, &[], ""), "https://r", 0).fate
    }

    #[test]
    fn every_status_has_its_fate() {
        use Fate::*;
        let rows = [
            (199, Retry),
            (200, Delivered),
            (202, Delivered),
            (204, Delivered),
            (299, Delivered),
            (300, Hold),
            (301, Hold),
            (308, Hold),
            (400, Refused),
            (401, Hold),
            (402, Hold),
            (403, Hold),
            (404, Hold),
            (405, Hold),
            (406, Retry),
            (407, Hold),
            (408, Retry),
            (409, Retry),
            (410, Hold),
            (411, Retry),
            (413, Refused),
            (415, Hold),
            (418, Retry),
            (422, Refused),
            (425, Retry),
            (429, Retry),
            (431, Hold),
            (500, Retry),
            (501, Retry),
            (502, Retry),
            (503, Retry),
            (504, Retry),
            (599, Retry),
            (600, Retry),
        ];
        for (status, fate) in rows {
            assert_eq!(of(status), fate, "{status}");
        }
        for (range, fate, remedy) in FATES {
            assert!(rows.iter().any(|(status, _)| range.contains(status)), "no row for {range:?}");
            assert_eq!(remedy.is_empty(), *fate == Delivered, "{range:?} has a remedy");
        }
    }

    #[test]
    fn without_an_answer_the_error_says_which() {
        let of = |error: HttpError| judge(&Err(error), "https://r", 0);
        assert_eq!(of(HttpError::Away("a".into())).fate, Fate::Retry);
        assert_eq!(of(HttpError::TooLong(1)).fate, Fate::Retry);
        assert_eq!(of(HttpError::Settings("s".into())), Outcome { fate: Fate::Hold, text: "s".into(), wait: None });
        assert_eq!(of(HttpError::Ours("o".into())).fate, Fate::Abort);
    }

    #[test]
    fn its_words_are_shown_on_one_line() {
        let text = |status, body: &str| judge(&reply(status, &[], body), "https://hooks.example", 0).text;
        assert_eq!(text(404, " no_team\n"), "https://hooks.example answers 404 (no_team); it knows no such path; see url");
        assert_eq!(text(502, "<html>"), "https://hooks.example answers 502; see the receiver's log");
        assert!(text(500, &"a\nb".repeat(500)).len() < 280);
        assert!(!text(500, "a\x1b[2Jb").contains('\x1b'));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_more_than_an_hour() {
        let wait = |status, text: &str, now| judge(&reply(status, &[("retry-after", text)], ""), "r", now * SECOND).wait;
        assert_eq!(wait(429, "7", 0), Some(7 * SECOND));
        assert_eq!(wait(503, " 0 ", 0), Some(0));
        assert_eq!(wait(429, "99999999999999999999", 0), None);
        assert_eq!(wait(429, "9999999999", 0), Some(3600 * SECOND));
        // RFC 9110 §5.6.7.
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(wait(429, date, 784_111_770), Some(7 * SECOND));
        assert_eq!(wait(429, date, 784_111_800), Some(0));
        assert_eq!(wait(429, "soon", 0), None);
        assert_eq!(wait(401, "7", 0), None, "a hold has its own wait");
    }
}
