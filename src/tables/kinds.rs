//! MISP's attribute types, as far as an alert can hold them.

use std::net::IpAddr;

/// What an indicator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An address, or a network in CIDR form.
    Ip,
    Domain,
    Url,
    Email,
    Md5,
    Sha1,
    Sha256,
    Sha512,
    Imphash,
    Ja3,
    /// An export that does not say, and a value whose form does not either.
    Unknown,
}

impl Kind {
    /// Every kind, in the order of their codes.
    pub const ALL: [Self; 11] = [
        Self::Ip,
        Self::Domain,
        Self::Url,
        Self::Email,
        Self::Md5,
        Self::Sha1,
        Self::Sha256,
        Self::Sha512,
        Self::Imphash,
        Self::Ja3,
        Self::Unknown,
    ];

    /// `ip`, `domain`, …
    pub fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Domain => "domain",
            Self::Url => "url",
            Self::Email => "email",
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Imphash => "imphash",
            Self::Ja3 => "ja3",
            Self::Unknown => "unknown",
        }
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What a value looks like; exports of bare values do not say.
    pub fn guess(value: &str) -> Self {
        let is_hex = !value.is_empty() && value.bytes().all(|b| b.is_ascii_hexdigit());
        match value.len() {
            32 if is_hex => return Self::Md5,
            40 if is_hex => return Self::Sha1,
            64 if is_hex => return Self::Sha256,
            128 if is_hex => return Self::Sha512,
            _ => {}
        }
        let address = value.split_once('/').map_or(value, |(address, _)| address);
        if address.parse::<IpAddr>().is_ok() {
            return Self::Ip;
        }
        if value.contains("://") {
            return Self::Url;
        }
        if value.contains('@') {
            return Self::Email;
        }
        let is_name = |label: &str| !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
        let mut labels = value.trim_end_matches('.').split('.').peekable();
        if value.contains('.') && labels.peek().is_some() && labels.all(is_name) {
            return Self::Domain;
        }
        Self::Unknown
    }
}

/// The parts of a MISP type: one, or the two of a composite (`a|b`). A part that no alert is
/// searched for is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    pub first: Option<Kind>,
    pub second: Option<Kind>,
    pub is_composite: bool,
}

/// What a MISP type holds; `None` for types that are no indicators of ours (`comment`, `text`, …).
///
/// # Source
/// The type list of MISP 2.5 (`describeTypes`), and its rule that `|` in a type's name, and
/// `malware-sample`, mean a value of two parts.
pub fn parts(misp_type: &str) -> Option<Parts> {
    let (first, second) = match misp_type.split_once('|') {
        Some((first, second)) => (single(first), single(second)),
        None if misp_type == "malware-sample" => (None, Some(Kind::Md5)),
        None => (single(misp_type), None),
    };
    let is_composite = misp_type.contains('|') || misp_type == "malware-sample";
    (first.is_some() || second.is_some()).then_some(Parts { first, second, is_composite })
}

fn single(part: &str) -> Option<Kind> {
    Some(match part {
        "ip" | "ip-src" | "ip-dst" => Kind::Ip,
        "domain" | "hostname" => Kind::Domain,
        "url" | "uri" | "link" => Kind::Url,
        "email" | "email-src" | "email-dst" | "email-reply-to" | "target-email" | "whois-registrant-email" | "dns-soa-email" => Kind::Email,
        "md5" => Kind::Md5,
        "sha1" => Kind::Sha1,
        "sha256" => Kind::Sha256,
        "sha512" => Kind::Sha512,
        "imphash" => Kind::Imphash,
        "ja3-fingerprint-md5" => Kind::Ja3,
        _ => return None,
    })
}

/// The values of an attribute that an alert can hold, each with its kind.
///
/// An export that names no type has values of one part or two: a `|` parts them, since no normal
/// form of an indicator holds one.
pub fn values<'v>(misp_type: Option<&str>, value: &'v str) -> impl Iterator<Item = (Kind, &'v str)> {
    let pair = match misp_type {
        Some(name) => match parts(name) {
            Some(Parts { first, second, is_composite: true }) => {
                // An URL may hold a `|`, and stands in no composite.
                let (a, b) = value.split_once('|').map_or((value, None), |(a, b)| (a, Some(b)));
                [first.map(|kind| (kind, a)), second.zip(b)]
            }
            Some(Parts { first, .. }) => [first.map(|kind| (kind, value)), None],
            None => [None, None],
        },
        None => match value.split_once('|') {
            Some((a, b)) if !value.contains("://") => [Some((Kind::guess(a), a)), Some((Kind::guess(b), b))],
            _ => [Some((Kind::guess(value), value)), None],
        },
    };
    pair.into_iter().flatten().filter(|(_, value)| !value.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_without_a_type_is_what_it_looks_like() {
        let a = |n| "a".repeat(n);
        for (value, kind) in [
            ("203.0.113.9", Kind::Ip),
            ("2001:db8::1", Kind::Ip),
            ("203.0.113.0/24", Kind::Ip),
            ("evil.example", Kind::Domain),
            ("xn--e1afmkfd.xn--p1ai", Kind::Domain),
            ("_dmarc.evil.example.", Kind::Domain),
            ("http://evil.example/a|b", Kind::Url),
            ("bob@evil.example", Kind::Email),
            (&a(32), Kind::Md5),
            (&a(40), Kind::Sha1),
            (&a(64), Kind::Sha256),
            (&a(128), Kind::Sha512),
            ("", Kind::Unknown),
            ("word", Kind::Unknown),
            ("two words.txt", Kind::Unknown),
            ("..", Kind::Unknown),
        ] {
            assert_eq!(Kind::guess(value), kind, "{value}");
        }
    }

    #[test]
    fn a_composite_gives_the_parts_that_alerts_hold() {
        let of =
            |misp_type: Option<&str>, value: &str| values(misp_type, value).map(|(k, v)| format!("{}:{v}", k.name())).collect::<Vec<_>>();
        let md5 = "d".repeat(32);
        for (misp_type, value, expected) in [
            (Some("ip-dst"), "203.0.113.9", vec!["ip:203.0.113.9"]),
            (Some("ip-dst|port"), "203.0.113.9|443", vec!["ip:203.0.113.9"]),
            (Some("domain|ip"), "evil.example|203.0.113.9", vec!["domain:evil.example", "ip:203.0.113.9"]),
            (Some("domain|ip"), "evil.example", vec!["domain:evil.example"]),
            (Some("filename|sha256"), "a.exe|ff", vec!["sha256:ff"]),
            (Some("malware-sample"), "a.exe|ff", vec!["md5:ff"]),
            (Some("url"), "http://evil.example/a|b", vec!["url:http://evil.example/a|b"]),
            (Some("comment"), "203.0.113.9", vec![]),
            (Some("filename"), "a.exe", vec![]),
            (Some("domain"), " ", vec![]),
            (None, "evil.example|203.0.113.9", vec!["domain:evil.example", "ip:203.0.113.9"]),
            (None, "http://evil.example/a|b", vec!["url:http://evil.example/a|b"]),
        ] {
            assert_eq!(of(misp_type, value), expected, "{misp_type:?} {value}");
        }
        assert_eq!(of(None, &format!("a.exe|{md5}")), ["domain:a.exe".to_owned(), format!("md5:{md5}")]);
    }

    #[test]
    fn every_kind_has_one_name() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.name()), Some(kind));
        }
        assert_eq!(Kind::parse("IP"), None);
    }
}
