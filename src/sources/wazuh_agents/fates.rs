//! What an answer means for the reader, and for the operator. Pure.
//!
//! | answer | to a login | to a question |
//! |---|---|---|
//! | 200 | a token | a page |
//! | 401 | holds: user or password are wrong | the token is refused: see [`token`](super::token) |
//! | 403 | holds: too many failed logins, so this host is blocked there for a while | holds: the role lacks `agent:read` |
//! | 429 | the same again after `Retry-After`, or a growing wait | the same |
//! | none, 408, 5xx, one that is no JSON | tries again after a growing wait | the same, from the first page |
//! | longer than we take | holds | shorter pages |
//! | 3xx, all other 4xx, no trust in its certificate | holds: a person must mend it; asks again every half minute | the same |

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use super::answer::words;
use crate::{
    clock::Nanos,
    net::http::{HttpError, Reply},
};

/// Why there is no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Asked again later.
    Away(String),
    /// The same question is asked again; nanoseconds that the server wants us to wait.
    Busy(String, Option<Nanos>),
    /// A person must mend it.
    Wrong(String),
    /// The token is refused.
    Refused(String),
    TooLong,
}

/// The label `outcome` of requests.
pub(super) const OUTCOMES: [&str; 6] = ["good", "away", "busy", "refused", "renewed", "too_long"];

impl Trouble {
    /// In one word, for a label.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Away(_) => "away",
            Self::Busy(..) => "busy",
            Self::Wrong(_) => "refused",
            Self::Refused(_) => "renewed",
            Self::TooLong => "too_long",
        }
    }
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Login,
    Agents,
}

/// The reply, if its status says that it is one.
///
/// - `place`: how the server is called in texts.
/// - `now`: wall time.
///
/// # Errors
/// What it means otherwise. No text holds anything of a body that may hold a token.
pub(super) fn judge(reply: Result<Reply, HttpError>, place: &str, asked: Asked, now: Nanos) -> Result<Reply, Trouble> {
    let reply = match reply {
        Ok(reply) if reply.status == 200 => return Ok(reply),
        Ok(reply) => reply,
        Err(HttpError::TooLong(_)) => return Err(Trouble::TooLong),
        Err(error @ (HttpError::Settings(_) | HttpError::Ours(_))) => return Err(Trouble::Wrong(error.to_string())),
        Err(error @ HttpError::Away(_)) => return Err(Trouble::Away(error.to_string())),
    };
    let what = if asked == Asked::Login { "to the login" } else { "to the question for agents" };
    let said = words(&reply.body).map(|words| format!(" ({words})")).unwrap_or_default();
    let says = format!("{place} answers {}{said} {what}", reply.status);
    Err(match (reply.status, asked) {
        (429, _) => Trouble::Busy(
            format!("{says}; lower what others ask there, or raise max_request_per_minute in its api.yaml"),
            reply.retry_after(now),
        ),
        (408 | 500..=599, _) => Trouble::Away(format!("{says}; see api.log on the manager")),
        (401, Asked::Login) => {
            Trouble::Wrong(format!("{says}; see username and its password: those of a user of the server's API, not of the indexer"))
        }
        (401, Asked::Agents) => Trouble::Refused(says),
        (403, Asked::Login) => {
            Trouble::Wrong(format!("{says}; correct the password, and wait until block_time of its api.yaml has passed"))
        }
        (403, Asked::Agents) => Trouble::Wrong(format!("{says}; give this user a role with agent:read on agent:id:*")),
        (300..=399, _) => Trouble::Wrong(format!("{says}; no redirection is followed, give url as the server itself has it")),
        (404, _) => Trouble::Wrong(format!("{says}; see that url names the API of a Wazuh server from 4.0, port 55000 as a rule")),
        _ => Trouble::Wrong(format!("{says}; see page, and that url names the API of a Wazuh server from 4.0")),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests state what must hold")]
mod tests {
    use super::*;

    #[test]
    fn each_answer_has_its_meaning_and_words() {
        const SECOND: Nanos = 1_000_000_000;
        let of = |status: u16, header: Option<&str>, body: &str, asked: Asked| {
            let headers = header.iter().map(|value| ("retry-after".to_owned(), (*value).to_owned())).collect();
            judge(Ok(Reply { status, headers, body: body.as_bytes().to_vec() }), "https://w:55000", asked, 0)
        };
        assert!(of(200, None, "", Asked::Login).is_ok());
        let invalid = r#"{"title":"Unauthorized","detail":"Invalid credentials"}"#;
        let denied = r#"{"title":"Permission Denied","detail":"Permission denied: Resource type: *:*","error":4000}"#;
        let rows = [
            (401, Asked::Login, invalid, "refused", "answers 401 (Invalid credentials) to the login; see username and its password"),
            (401, Asked::Agents, invalid, "renewed", "to the question for agents"),
            (403, Asked::Agents, denied, "refused", "; give this user a role with agent:read"),
            (403, Asked::Login, denied, "refused", "block_time"),
            (500, Asked::Agents, "<html>", "away", "answers 500 to the question for agents; see api.log"),
            (503, Asked::Login, "", "away", "answers 503 to the login"),
            (429, Asked::Agents, "", "busy", "max_request_per_minute"),
            (404, Asked::Agents, "", "refused", "port 55000"),
            (302, Asked::Login, "", "refused", "no redirection"),
            (400, Asked::Agents, r#"{"detail":"Invalid field"}"#, "refused", "(Invalid field)"),
        ];
        for (status, asked, body, word, part) in rows {
            let trouble = of(status, None, body, asked).unwrap_err();
            assert_eq!(trouble.word(), word, "{status}");
            let (Trouble::Away(why) | Trouble::Busy(why, None) | Trouble::Wrong(why) | Trouble::Refused(why)) = trouble else {
                panic!("{status} {asked:?}");
            };
            assert!(why.contains(part), "{part}: {why}");
        }
        assert!(matches!(of(429, Some("7"), "", Asked::Login), Err(Trouble::Busy(_, Some(wait))) if wait == 7 * SECOND));
        let away = judge(Err(HttpError::Away("reset".into())), "p", Asked::Login, 0);
        assert_eq!(away.unwrap_err(), Trouble::Away("reset".into()));
    }
}
