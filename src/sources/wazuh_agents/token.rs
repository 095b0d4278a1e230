//! When to log in, and what a refusal means. Pure: the token itself is elsewhere.
//!
//! | token | | |
//! |---|---|---|
//! | none | log in | |
//! | older than four fifths of its life, by our clock, from before it was asked for | log in | the server's clock may be another |
//! | refused (401), the last one that was new was not | log in, ask again | tokens end early: a new role, a restart, changed security settings |
//! | refused, as the one before it | hold | who may log in and is refused right after has no role that is valid there |

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use serde_json::Value;

use crate::{clock::Nanos, net::base64};

const SECOND: Nanos = 1_000_000_000;
/// Life of a token whose own words cannot be read: the server's default.
pub(super) const LIFE: Nanos = 900 * SECOND;
/// Of a token that says it lives longer; it costs nothing to ask sooner.
const LIFE_MAX: Nanos = 86_400 * SECOND;

/// What is known of the token.
#[derive(Debug, Default)]
pub(super) struct Login {
    /// When it is renewed, by the monotonic clock; `None`: there is none.
    until: Option<Nanos>,
    /// A token was refused, and none was taken since.
    was_refused: bool,
}

impl Login {
    /// True if there has to be a new one before anything is asked.
    pub(super) fn is_due(&self, now: Nanos) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    /// There is a new one.
    ///
    /// - `asked`: when it was asked for, by the monotonic clock.
    pub(super) fn got(&mut self, asked: Nanos, life: Nanos) {
        self.until = Some(asked.saturating_add(life / 5 * 4));
    }

    /// It was taken.
    pub(super) fn taken(&mut self) {
        self.was_refused = false;
    }

    /// It was refused. True if a new one may help.
    pub(super) fn refused(&mut self) -> bool {
        self.until = None;
        !std::mem::replace(&mut self.was_refused, true)
    }
}

/// How long a token lives, by its own words: RFC 7519 `exp` less `iat`, or `nbf` where there is no `iat`, as Wazuh writes it.
pub(super) fn life(token: &str) -> Nanos {
    let says = || {
        let payload = token.split('.').nth(1)?.replace('-', "+").replace('_', "/");
        let claims: Value = serde_json::from_slice(&base64::decode(&payload)?).ok()?;
        let at = |name: &str| claims.get(name)?.as_f64().filter(|at| at.is_finite());
        let seconds = at("exp")? - at("iat").or_else(|| at("nbf"))?;
        // Whole seconds are enough; a float that is negative becomes 0.
        Some((seconds as u64).saturating_mul(SECOND)).filter(|life| *life > 0)
    };
    says().unwrap_or(LIFE).min(LIFE_MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests state what must hold")]
mod tests {
    use super::*;

    fn jwt(claims: &str) -> String {
        let part = |text: &str| base64::encode(text.as_bytes()).replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned();
        format!("{}.{}.c2ln", part(r#"{"alg":"ES512","typ":"JWT"}"#), part(claims))
    }

    #[test]
    fn a_life_is_read_from_the_token_or_is_the_default() {
        let rows = [
            (r#"{"iss":"wazuh","nbf":1764540000,"exp":1764540900,"sub":"w"}"#, 900),
            (r#"{"nbf":1764540000,"exp":1764540030}"#, 30),
            (r#"{"iat":1764540000.5,"nbf":0,"exp":1764540060.5,"who":"äöü~~~???>>>"}"#, 60),
            (r#"{"nbf":1764540000,"exp":1764539000}"#, 900),
            (r#"{"nbf":1764540000,"exp":1764540000}"#, 900),
            (r#"{"exp":1764540900}"#, 900),
            (r#"{"nbf":0,"exp":1e300}"#, 86_400),
            (r#"{"nbf":"0","exp":9}"#, 900),
            ("no JSON", 900),
        ];
        for (claims, seconds) in rows {
            assert_eq!(life(&jwt(claims)), seconds * SECOND, "{claims}");
        }
        for none in ["", "opaque", "a.b", "a.%%%.c"] {
            assert_eq!(life(none), LIFE, "{none}");
        }
    }

    #[test]
    fn a_token_is_renewed_at_four_fifths_and_once_where_it_is_refused() {
        let mut login = Login::default();
        assert!(login.is_due(0));
        login.got(10 * SECOND, 100 * SECOND);
        assert!(!login.is_due(10 * SECOND) && !login.is_due(90 * SECOND - 1));
        assert!(login.is_due(90 * SECOND));
        login.got(90 * SECOND, 100 * SECOND);
        assert!(login.refused(), "a new one may help");
        assert!(login.is_due(91 * SECOND));
        login.got(91 * SECOND, 100 * SECOND);
        assert!(!login.refused(), "it did not");
        login.got(121 * SECOND, 100 * SECOND);
        login.taken();
        assert!(login.refused(), "one that was taken in between counts");
    }
}
