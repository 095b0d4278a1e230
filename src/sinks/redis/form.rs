//! The forms in which a message goes to Redis, as commands. Pure.
//!
//! A list gets each message once, however often its record is read: the script first sets a key
//! of that message's own, which lives for `seen_for`, and pushes only if that was not there. If it cannot
//! push it takes the key back, so that nothing is taken for pushed that is not. A stream does so if asked to.

use sha2::{Digest, Sha256};

use super::alerts::Alerts;
use crate::{clock::Nanos, detect::kept::Brief, net::redis::commands::Command, sinks::Owed};

/// One form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    List {
        key: String,
        /// Entries that are kept, the newest.
        most: u64,
        /// Seconds after the last push at which the list is gone; 0: never.
        lives: u64,
        /// Seconds in which a message is known.
        seen_for: u64,
    },
    Stream {
        key: String,
        /// Entries that are kept, about.
        most: u64,
        field: String,
        /// Seconds in which a message is known; 0: it is added as often as it comes.
        seen_for: u64,
    },
    Publish {
        channel: String,
    },
    /// As alerts, under their own ids.
    Alerts(Alerts),
}

/// A message that was taken on.
#[derive(Debug)]
pub(super) struct Taken {
    pub owed: Owed,
    /// What it is found by, where it is stored as an alert.
    pub brief: Option<Brief>,
}

impl AsRef<[u8]> for Taken {
    fn as_ref(&self) -> &[u8] {
        self.owed.payload()
    }
}

/// KEYS: list, seen. ARGV: message, seconds seen, last index kept, seconds the list lives.
const PUSH: &str = "local new = redis.pcall('SET', KEYS[2], 1, 'NX', 'EX', ARGV[2]) \
if not new then return 0 end if new.err then return new end \
local done = redis.pcall('LPUSH', KEYS[1], ARGV[1]) \
if type(done) == 'table' and done.err then redis.pcall('EXPIRE', KEYS[2], 0) return done end \
redis.pcall('LTRIM', KEYS[1], 0, ARGV[3]) \
if ARGV[4] ~= '0' then redis.pcall('EXPIRE', KEYS[1], ARGV[4]) end return 1";

/// KEYS: stream, seen. ARGV: message, seconds seen, entries kept, field.
const ADD: &str = "local new = redis.pcall('SET', KEYS[2], 1, 'NX', 'EX', ARGV[2]) \
if not new then return 0 end if new.err then return new end \
local done = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', ARGV[4], ARGV[1]) \
if type(done) == 'table' and done.err then redis.pcall('EXPIRE', KEYS[2], 0) return done end return 1";

impl Form {
    /// How it is called in texts.
    pub(super) fn name(&self) -> String {
        match self {
            Self::List { key, .. } => format!("list {key}"),
            Self::Stream { key, .. } => format!("stream {key}"),
            Self::Publish { channel } => format!("channel {channel}"),
            Self::Alerts(alerts) => format!("alerts {}", alerts.keys.list()),
        }
    }
    /// Its setting, which is its label as well.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::List { .. } => "list",
            Self::Stream { .. } => "stream",
            Self::Publish { .. } => "publish",
            Self::Alerts(_) => "alerts",
        }
    }
    /// The keys that every message is written to, and the types that Redis has to find there.
    pub(super) fn keys(&self) -> Vec<(String, &'static str)> {
        match self {
            Self::List { key, .. } => vec![(key.clone(), "list")],
            Self::Stream { key, .. } => vec![(key.clone(), "stream")],
            Self::Publish { .. } => Vec::new(),
            Self::Alerts(alerts) => alerts.held(),
        }
    }
    /// True if an answer of 0 says that the message was known.
    pub(super) fn knows(&self) -> bool {
        !matches!(self, Self::Publish { .. })
    }

    /// The command for one message. Its answer is 0 where the message was known.
    ///
    /// - `origin`: where its record lies, as the header `shipper-origin` says it.
    /// - `brief`: of an alert.
    /// - `now`: wall time.
    pub(super) fn command(&self, origin: &[u8], payload: &[u8], brief: Option<&Brief>, now: Nanos) -> Command {
        match self {
            Self::List { key, most, lives, seen_for } => {
                let (seen, numbers) = (seen(key, origin, payload), [seen_for, &most.saturating_sub(1), lives].map(|n| n.to_string()));
                let [seen_for, last, lives] = numbers.each_ref().map(|n| n.as_bytes());
                Command::of(&[b"EVAL", PUSH.as_bytes(), b"2", key.as_bytes(), seen.as_bytes(), payload, seen_for, last, lives])
            }
            Self::Stream { key, most, field, seen_for: 0 } => {
                let most = most.to_string();
                Command::of(&[b"XADD", key.as_bytes(), b"MAXLEN", b"~", most.as_bytes(), b"*", field.as_bytes(), payload])
            }
            Self::Stream { key, most, field, seen_for } => {
                let (seen, numbers) = (seen(key, origin, payload), [seen_for, most].map(|n| n.to_string()));
                let [seen_for, most] = numbers.each_ref().map(|n| n.as_bytes());
                Command::of(&[b"EVAL", ADD.as_bytes(), b"2", key.as_bytes(), seen.as_bytes(), payload, seen_for, most, field.as_bytes()])
            }
            Self::Publish { channel } => Command::of(&[b"PUBLISH", channel.as_bytes(), payload]),
            Self::Alerts(alerts) => match brief {
                Some(brief) => alerts.command(brief, payload, now),
                None => unreachable!("what is no alert is refused before it is sent"),
            },
        }
    }
}

/// The key that says that a message came before, in the slot of a cluster that has `key` itself.
///
/// A record may become several messages (an alert, and later the summary of those like it), so that the payload
/// belongs to what a message is known by.
fn seen(key: &str, origin: &[u8], payload: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update((origin.len() as u64).to_le_bytes());
    hash.update(origin);
    hash.update(payload);
    let hex: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let tagged = if hash_tag(key).is_some() { key.to_owned() } else { format!("{{{key}}}") };
    format!("{tagged}:seen:{hex}")
}

/// What of a key decides its slot, where that is not all of it: Redis Cluster specification, *Hash tags*.
pub(super) fn hash_tag(key: &str) -> Option<&str> {
    let (_, rest) = key.split_once('{')?;
    let (tag, _) = rest.split_once('}')?;
    (!tag.is_empty()).then_some(tag)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn list(key: &str) -> Form {
        Form::List { key: key.into(), most: 1000, lives: 86_400, seen_for: 3600 }
    }

    fn words(command: &Command) -> Vec<String> {
        command.0.iter().map(|word| String::from_utf8(word.clone()).unwrap()).collect()
    }

    #[test]
    fn each_form_is_one_command() {
        let stream = |seen_for| Form::Stream { key: "s".into(), most: 9, field: "data".into(), seen_for };
        let publish = Form::Publish { channel: "c".into() };
        let of = |form: &Form| words(&form.command(b"o", b"p", None, 0));
        let pushed = of(&list("waf:alerts"));
        assert_eq!(
            (&pushed[..1], &pushed[2..4], &pushed[5..]),
            (
                &["EVAL".to_owned()][..],
                &["2".to_owned(), "waf:alerts".to_owned()][..],
                &["p", "3600", "999", "86400"].map(str::to_owned)[..]
            )
        );
        assert!(pushed[4].starts_with("{waf:alerts}:seen:") && pushed[4].len() == "{waf:alerts}:seen:".len() + 32, "{}", pushed[4]);
        assert_eq!(of(&stream(0)), ["XADD", "s", "MAXLEN", "~", "9", "*", "data", "p"]);
        assert_eq!(of(&stream(60))[5..], ["p", "60", "9", "data"]);
        assert_eq!(of(&publish), ["PUBLISH", "c", "p"]);
        assert_eq!(
            [list("k"), stream(0), publish].map(|form| (form.name(), form.word(), form.keys())),
            [
                ("list k".to_owned(), "list", vec![("k".to_owned(), "list")]),
                ("stream s".to_owned(), "stream", vec![("s".to_owned(), "stream")]),
                ("channel c".to_owned(), "publish", vec![])
            ]
        );
    }

    #[test]
    fn a_message_is_known_by_its_origin_and_its_bytes() {
        let of = |origin: &str, payload: &str| seen("k", origin.as_bytes(), payload.as_bytes());
        assert_eq!(of("a", "b"), of("a", "b"));
        for (origin, payload) in [("a", "c"), ("c", "b"), ("ab", ""), ("", "ab")] {
            assert_ne!(of(origin, payload), of("a", "b"));
        }
    }

    #[test]
    fn both_keys_of_a_script_are_in_one_slot_of_a_cluster() {
        for (key, tag) in [("waf:alerts", None), ("{waf}:alerts", Some("waf")), ("a{b}c{d}", Some("b")), ("a{}b", None), ("a}b", None)] {
            assert_eq!(hash_tag(key), tag, "{key}");
        }
        assert_eq!(hash_tag(&seen("waf:alerts", b"o", b"p")), Some("waf:alerts"));
        assert_eq!(hash_tag(&seen("{waf}:alerts", b"o", b"p")), Some("waf"));
    }
}
