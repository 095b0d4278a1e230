//! Values: what is asked for a question, what may be sent, and when two are the same.
//!
//! MISP's columns compare without case **and without accents**, so an answer may hold what nobody
//! asked for; a value counts only where both normal forms are equal, byte for byte. The tables and who
//! asks them go by the same forms and the same questions, so that nothing falls between them.

use std::net::IpAddr;

use crate::limits;

/// How a value came to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    /// It is the question's own value.
    Value,
    /// It is the host of the URL in question.
    Host,
    /// It is a parent, registered itself, of the name in question.
    Parent,
    /// It is a network that holds the address in question.
    Network,
}

impl Expand {
    /// Everything there is.
    pub const ALL: Self = Self { hosts: true, parents: true };
}

impl Via {
    /// Its name in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Via::Value => "value",
            Via::Host => "host",
            Via::Parent => "parent",
            Via::Network => "network",
        }
    }
}

/// What else is asked beside a value itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expand {
    /// The hosts of URLs.
    pub hosts: bool,
    /// The parents of names, down to the one that is registered.
    pub parents: bool,
}

/// The form in which values are compared, kept and sent: addresses compressed, those of version 4
/// inside version 6 as version 4; of a URL everything before its path in lower case; all else in
/// lower case.
pub fn normal(value: &str) -> String {
    let value = value.trim();
    if let Some(address) = address(value) {
        return address.to_string();
    }
    match value.find("://") {
        None => value.to_lowercase(),
        Some(at) => {
            let after = at + 3;
            let rest = value.get(after..).unwrap_or_default();
            let path = after + rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (head, tail) = value.split_at(path);
            format!("{}{tail}", head.to_lowercase())
        }
    }
}

/// The address that a value is, if it is one.
pub fn address(value: &str) -> Option<IpAddr> {
    value.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// The values that an attribute stands for: the whole, and each part of a composite one.
///
/// - `kind`: MISP's type; composites are named `a|b`, but for `malware-sample`, which is a file
///   name and a hash.
pub fn parts<'v>(kind: &str, value: &'v str) -> impl Iterator<Item = &'v str> {
    let is_composite = kind.contains('|') || kind == "malware-sample";
    std::iter::once(value).chain(value.split('|').filter(move |_| is_composite && value.contains('|')))
}

/// Whether MISP can be asked for exactly this value.
///
/// # Errors
/// Why not.
pub fn may_be_sent(value: &str) -> Result<(), &'static str> {
    // Also inside an OR list a % at either end makes the item a pattern: `%` alone is everything.
    if value.starts_with('%') || value.ends_with('%') {
        return Err("begins or ends with %, which MISP takes for a pattern");
    }
    if value.is_empty() {
        return Err("is empty");
    }
    if value.len() > limits::MISP_VALUE_BYTES_MAX {
        return Err("is longer than any value in MISP");
    }
    Ok(())
}

/// Tells each thing to ask for a value, as [`asks`] does, until `ask` gives true; gives back whether it
/// did. Where a value is in its normal form already, as those of extraction are, nothing is allocated.
pub fn any_ask(kind: &str, value: &str, expand: Expand, mut ask: impl FnMut(&str, Via) -> bool) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase() && byte != b':';
    if kind == "url" || !value.bytes().all(is_plain) || (kind == "ip" && !value.bytes().all(|b| b.is_ascii_digit() || b == b'.')) {
        return asks(kind, value, expand).iter().any(|(value, via)| ask(value, *via));
    }
    ask(value, Via::Value) || (kind == "domain" && expand.parents && parents(value).any(|parent| ask(parent, Via::Parent)))
}

/// What to ask for a value, each once, in normal form; the value itself first.
///
/// - `kind`: `url` and `domain` have more than themselves; any other word has not.
pub fn asks(kind: &str, value: &str, expand: Expand) -> Vec<(String, Via)> {
    let value = normal(value);
    let mut asks = vec![(value.clone(), Via::Value)];
    let mut name = None;
    match kind {
        "url" if expand.hosts => {
            if let Some(host) = host(&value) {
                if address(host).is_none() {
                    name = Some(host.to_owned());
                }
                asks.push((normal(host), Via::Host));
            }
        }
        "domain" => name = Some(value),
        _ => {}
    }
    if let Some(name) = name.filter(|_| expand.parents) {
        asks.extend(parents(&name).map(|parent| (parent.to_owned(), Via::Parent)));
    }
    let mut seen: Vec<&str> = Vec::new();
    let mut first = Vec::new();
    for (value, _) in &asks {
        first.push(!seen.contains(&value.as_str()));
        seen.push(value);
    }
    let mut first = first.into_iter();
    asks.retain(|_| first.next().unwrap_or_default());
    asks
}

/// The host of a URL in normal form, brackets off.
fn host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.split(']').next()?,
        None => host.split(':').next()?,
    };
    (!host.is_empty()).then_some(host)
}

/// The names above one, nearest first, down to the one that is registered.
fn parents(name: &str) -> impl Iterator<Item = &str> {
    let last = psl::domain_str(name).unwrap_or(name);
    std::iter::successors(Some(name), move |name| {
        let (_, parent) = name.split_once('.')?;
        (parent.len() >= last.len()).then_some(parent)
    })
    .skip(1)
    .take(limits::MISP_PARENTS_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn normal_forms() {
        let rows = [
            ("1.2.3.4", "1.2.3.4"),
            ("2001:DB8:0:0::1", "2001:db8::1"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
            ("Evil.Example", "evil.example"),
            (" D41D8CD98F00B204E9800998ECF8427E ", "d41d8cd98f00b204e9800998ecf8427e"),
            ("HTTP://Evil.Example/Path?Q=A", "http://evil.example/Path?Q=A"),
            ("http://Evil.Example", "http://evil.example"),
            ("http://Evil.Example?A", "http://evil.example?A"),
            ("://", "://"),
            ("", ""),
        ];
        for (value, expected) in rows {
            assert_eq!(normal(value), expected, "{value}");
        }
    }

    #[test]
    fn what_differs_by_an_accent_or_in_a_path_is_not_the_same() {
        for (a, b) in [("évil.example", "evil.example"), ("http://e/A", "http://e/a"), ("1.2.3.4", "1.2.3.40")] {
            assert_ne!(normal(a), normal(b));
        }
    }

    #[test]
    fn composites_are_taken_apart_by_their_type() {
        let rows: [(&str, &str, &[&str]); 5] = [
            ("md5", "aa", &["aa"]),
            ("filename|sha256", "a.exe|bb", &["a.exe|bb", "a.exe", "bb"]),
            ("malware-sample", "a|b.exe|cc", &["a|b.exe|cc", "a", "b.exe", "cc"]),
            ("url", "http://e/a|b", &["http://e/a|b"]),
            ("ip-dst|port", "1.2.3.4", &["1.2.3.4"]),
        ];
        for (kind, value, expected) in rows {
            assert_eq!(parts(kind, value).collect::<Vec<_>>(), expected, "{kind} {value}");
        }
    }

    #[test]
    fn a_pattern_is_never_sent() {
        for value in ["%", "%a", "a%", ""] {
            assert!(may_be_sent(value).is_err(), "{value}");
        }
        for value in ["a%b", "!a", "a&&b", "a||b", "http://e/%20x"] {
            assert!(may_be_sent(value).is_ok(), "{value}");
        }
    }

    #[test]
    fn hosts_and_parents_are_asked_once_each() {
        let all = Expand { hosts: true, parents: true };
        let rows: [(&str, &str, &[&str]); 9] = [
            ("domain", "a.b.Evil.co.uk", &["a.b.evil.co.uk", "b.evil.co.uk", "evil.co.uk"]),
            ("domain", "evil.com", &["evil.com"]),
            ("domain", "x.me.blogspot.com", &["x.me.blogspot.com", "me.blogspot.com"]),
            ("url", "http://u@A.evil.com:80/x", &["http://u@a.evil.com:80/x", "a.evil.com", "evil.com"]),
            ("url", "http://[2001:DB8::1]:8/x", &["http://[2001:db8::1]:8/x", "2001:db8::1"]),
            ("url", "http://1.2.3.4/", &["http://1.2.3.4/", "1.2.3.4"]),
            ("url", "http:///x", &["http:///x"]),
            ("ip", "1.2.3.4", &["1.2.3.4"]),
            ("email", "A@Evil.com", &["a@evil.com"]),
        ];
        for (kind, value, expected) in rows {
            let asked: Vec<_> = asks(kind, value, all).into_iter().map(|(value, _)| value).collect();
            assert_eq!(asked, expected, "{kind} {value}");
            let [hosts, parents] = [false; 2];
            assert_eq!(asks(kind, value, Expand { hosts, parents }).len(), 1);
        }
    }

    proptest! {
        #[test]
        fn what_is_told_one_by_one_is_what_is_asked(
            value in "[a-cA-C.:/é%@|#? \\[\\]0-9]{0,24}|[a-c]{1,3}(\\.[a-c]{1,3}){1,4}|1\\.2\\.[0-9]{1,3}\\.0?4",
            hosts: bool, parents: bool, stop in 0usize..4,
        ) {
            for kind in ["url", "domain", "ip", "md5", "email"] {
                let expand = Expand { hosts, parents };
                let mut told = Vec::new();
                let is_stopped = any_ask(kind, &value, expand, |value, via| {
                    told.push((value.to_owned(), via));
                    false
                });
                prop_assert!(!is_stopped);
                let all = asks(kind, &value, expand);
                prop_assert_eq!(&told, &all);
                let mut left = stop;
                let stopped = any_ask(kind, &value, expand, |_, _| {
                    left = left.wrapping_sub(1);
                    left == usize::MAX
                });
                prop_assert_eq!(stopped, stop < all.len());
            }
        }

        #[test]
        fn a_normal_form_is_its_own_and_nothing_panics(value in "[a-cA-C.:/é%@|#? \\[\\]0-9]{0,24}") {
            let once = normal(&value);
            prop_assert_eq!(normal(&once), once.clone());
            for kind in ["url", "domain", "ip"] {
                let asked = asks(kind, &value, Expand { hosts: true, parents: true });
                prop_assert_eq!(&asked[0].0, &once);
            }
        }
    }
}
