//! What Redis says against a command means, for its message and for the operator. Pure table.
//!
//! | fate | the sink |
//! |---|---|
//! | retry | sends it again, after a growing wait |
//! | elsewhere | the same, over a new connection: the name may lead to another server now |
//! | hold | stops, reads password and CA anew every half minute, says why; never the dead letter |
//! | refused | gives that message up: it had a command of its own |

use crate::net::redis::commands::{NoAnswer, Refusal};

/// What becomes of a command that was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Retry,
    Elsewhere,
    Hold,
    Refused,
}

/// Every error that has a meaning of its own, and the remedy: its code, what its words hold (empty: any).
/// The first row that fits counts.
///
/// What is not listed is retried: losing time is better than losing a record, and the text shows it.
pub(super) const FATES: &[(&str, &str, Fate, &str)] = &[
    ("NOAUTH", "", Fate::Hold, "it wants a password: set username and password_file"),
    ("WRONGPASS", "", Fate::Hold, "user or password is refused: see username and password_file"),
    (
        "NOPERM",
        "",
        Fate::Hold,
        "the user may not do this: allow EVAL, SET, EXPIRE, LPUSH, LTRIM, XADD and PUBLISH, the keys and their {KEY}:seen:*, and the \
         channel; for form alerts also TYPE, DEL, ZADD, ZINCRBY, ZREMRANGEBYSCORE, ZREMRANGEBYRANK, HINCRBY, HDEL and RPUSH, all keys \
         with its prefix",
    ),
    ("OOM", "", Fate::Retry, "its memory is full: raise maxmemory, or let it evict; alerts wait"),
    ("READONLY", "", Fate::Elsewhere, "it is a replica: name the primary"),
    ("MASTERDOWN", "", Fate::Elsewhere, "it is a replica without its primary"),
    ("LOADING", "", Fate::Retry, "it reads its data; wait"),
    ("BUSY", "", Fate::Retry, "somebody's script runs too long there"),
    ("MISCONF", "", Fate::Retry, "it cannot write its data to disk: see its log"),
    ("NOREPLICAS", "", Fate::Retry, "too few replicas follow it"),
    ("CLUSTERDOWN", "", Fate::Retry, "its cluster is not whole"),
    ("TRYAGAIN", "", Fate::Retry, "its cluster moves the key"),
    ("MOVED", "", Fate::Hold, "it is a node of a cluster: write url as redis+cluster://…"),
    ("CROSSSLOT", "", Fate::Hold, "it is a cluster, where all keys must be in one slot: write url as redis+cluster://…"),
    ("ASK", "", Fate::Retry, "its cluster moves the key"),
    ("WRONGTYPE", "", Fate::Hold, "the key holds something else: name another key, or remove that one"),
    ("ERR", "max number of clients reached", Fate::Retry, "raise its maxclients"),
    ("ERR", "DB index is out of range", Fate::Hold, "see db"),
    ("ERR", "unknown command", Fate::Hold, "it does not know the command, or hides it: Redis 5 or newer is needed"),
    ("ERR", "string exceeds maximum allowed size", Fate::Refused, "the message is longer than proto-max-bulk-len"),
    ("ERR", "invalid password", Fate::Hold, "the password is refused: see password_file"),
    ("ERR", "without any password configured", Fate::Hold, "it has no password: remove password_file"),
];

/// Judges what a node of a cluster says; it is asked anew where the slot is.
pub(super) fn judge_node(refusal: &Refusal, of: &str) -> (Fate, String) {
    match refusal.code.as_str() {
        "MOVED" => (Fate::Elsewhere, format!("{of}: {}; its slot has moved", refusal.text)),
        "ASK" => (Fate::Retry, format!("{of}: {}; its slot is on the move", refusal.text)),
        _ => judge(refusal, of),
    }
}

/// Judges one error.
///
/// - `of`: what it was about, as texts call it.
pub(super) fn judge(refusal: &Refusal, of: &str) -> (Fate, String) {
    let Refusal { code, text } = refusal;
    // Redis 6 wraps what a command in a script says into words of its own.
    let is_said = |word: &str| code == word || code == "ERR" && text.split([' ', ':', '-']).any(|part| part == word);
    let row = FATES.iter().find(|(word, says, ..)| match *word {
        "ERR" => code == "ERR" && text.contains(says),
        word => is_said(word),
    });
    let (fate, remedy) = row.map_or((Fate::Retry, "see its log"), |(_, _, fate, remedy)| (*fate, *remedy));
    let said = if text.contains(code.as_str()) { text.clone() } else { format!("{code} {text}") };
    (fate, format!("{of}: {said}; {remedy}"))
}

/// Judges that there is no answer.
pub(super) fn judge_no_answer(why: &NoAnswer, of: &str) -> (Fate, String) {
    match why {
        NoAnswer::Away(text) => (Fate::Elsewhere, format!("{of}: {text}; see that it runs, and network and firewall")),
        NoAnswer::Settings(text) => (Fate::Hold, text.clone()),
        NoAnswer::Refused(refusal) => judge(refusal, of),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What servers say, each with what is done.
    const SAID: &[(&str, &str, Fate)] = &[
        ("NOAUTH", "Authentication required.", Fate::Hold),
        ("WRONGPASS", "invalid username-password pair or user is disabled.", Fate::Hold),
        ("NOPERM", "this user has no permissions to run the 'eval' command", Fate::Hold),
        ("OOM", "command not allowed when used memory > 'maxmemory'.", Fate::Retry),
        (
            "ERR",
            "Error running script (call to f_1): @user_script:1: -OOM command not allowed when used memory > 'maxmemory'.",
            Fate::Retry,
        ),
        ("READONLY", "You can't write against a read only replica.", Fate::Elsewhere),
        ("MASTERDOWN", "Link with MASTER is down and replica-serve-stale-data is set to 'no'.", Fate::Elsewhere),
        ("LOADING", "Redis is loading the dataset in memory", Fate::Retry),
        ("BUSY", "Redis is busy running a script.", Fate::Retry),
        ("MISCONF", "Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.", Fate::Retry),
        ("NOREPLICAS", "Not enough good replicas to write.", Fate::Retry),
        ("CLUSTERDOWN", "The cluster is down", Fate::Retry),
        ("TRYAGAIN", "Multiple keys request during rehashing of slot", Fate::Retry),
        ("MOVED", "3999 127.0.0.1:6381", Fate::Hold),
        ("ASK", "3999 127.0.0.1:6381", Fate::Retry),
        ("CROSSSLOT", "Keys in request don't hash to the same slot", Fate::Hold),
        ("WRONGTYPE", "Operation against a key holding the wrong kind of value", Fate::Hold),
        ("ERR", "max number of clients reached", Fate::Retry),
        ("ERR", "DB index is out of range", Fate::Hold),
        ("ERR", "unknown command 'EVAL', with args beginning with: ", Fate::Hold),
        ("ERR", "string exceeds maximum allowed size (proto-max-bulk-len)", Fate::Refused),
        ("ERR", "invalid password", Fate::Hold),
        ("ERR", "AUTH <password> called without any password configured for the default user.", Fate::Hold),
        ("ERR", "something new", Fate::Retry),
        ("NEW", "something", Fate::Retry),
    ];

    #[test]
    fn every_error_has_its_fate() {
        for (code, text, fate) in SAID {
            let refusal = Refusal { code: (*code).into(), text: (*text).into() };
            let (judged, told) = judge(&refusal, "redis://r list k");
            assert_eq!(judged, *fate, "{code} {text}");
            assert!(told.starts_with("redis://r list k: ") && told.contains(text) && told.contains("; "), "{told}");
        }
        for (code, says, fate, remedy) in FATES {
            let is_tried = SAID.iter().any(|(c, text, f)| c == code && text.contains(says) && f == fate);
            assert!(is_tried && !remedy.is_empty(), "{code} {says} has an error and a remedy");
        }
    }

    #[test]
    fn a_slot_that_moves_is_followed() {
        let of =
            |code: &str| judge_node(&Refusal { code: code.into(), text: format!("{code} 3999 127.0.0.1:6381") }, "redis+cluster://r").0;
        assert_eq!(["MOVED", "ASK", "NOAUTH"].map(of), [Fate::Elsewhere, Fate::Retry, Fate::Hold]);
    }

    #[test]
    fn without_an_answer_it_is_tried_anew() {
        let of = |why| judge_no_answer(&why, "redis://r");
        assert_eq!(of(NoAnswer::Away("broken pipe".into())).0, Fate::Elsewhere);
        assert_eq!(of(NoAnswer::Settings("no CA".into())), (Fate::Hold, "no CA".into()));
        assert_eq!(of(NoAnswer::Refused(Refusal { code: "NOAUTH".into(), text: String::new() })).0, Fate::Hold);
    }
}
