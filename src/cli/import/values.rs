//! From a given value to the one that a key's type makes of it, or what is wrong with it.
//!
//! The coercions are those of the foreign program: a number may be text, a float for a whole
//! number must be whole, a boolean may be a word; text is never made of a number.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde_json::{Value, json};

use super::{
    given::Given,
    keys::{self, Kind},
};

/// Topic names may be this long.
const TOPIC_CHARS_MAX: usize = 249;
/// What the wire can carry, and what Kafka calls it.
pub const CODECS: &[&str] = &["gzip", "snappy", "lz4", "zstd", "none"];
const LEVELS: &[&str] = &["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];

/// Makes a typed value of a given one.
///
/// # Errors
/// What is wrong, and the remedy after `;`. The value itself is shown only where it is no secret.
pub fn typed(kind: Kind, given: &Given) -> Result<Value, String> {
    match kind {
        Kind::Text => text(given).map(Value::from),
        Kind::Filled => match text(given)? {
            "" => Err("is empty; name the file".into()),
            path => Ok(path.into()),
        },
        Kind::Maybe => maybe(given, |text| Ok(text.into())),
        Kind::Bool => boolean(given).map(Value::from),
        Kind::Int(min, max) => match whole(given)? {
            n if n < min && max == i64::MAX => Err(format!("is {n}; it must be {min} or more")),
            n if n < min || n > max => Err(format!("is {n}; it must be from {min} to {max}")),
            n => Ok(n.into()),
        },
        Kind::Above0 => match number(given)? {
            x if x > 0.0 && x.is_finite() => Ok(x.into()),
            x => Err(format!("is {x}; it must be a number above 0")),
        },
        Kind::Socket => socket(given),
        Kind::Allowed => allowed(given),
        Kind::Options => options(given),
        Kind::Network => maybe(given, |text| network(text).map(|_| text.into())),
        Kind::Brokers => brokers(text(given)?).map(|_| given_text(given)),
        Kind::Topic => maybe(given, topic),
        Kind::Codec => word(text(given)?, CODECS),
        Kind::Level => word(text(given)?, LEVELS),
    }
}

fn given_text(given: &Given) -> Value {
    match given {
        Given::Text(text) => text.as_str().into(),
        _ => Value::Null,
    }
}

fn text(given: &Given) -> Result<&str, String> {
    match given {
        Given::Text(text) => Ok(text),
        other => Err(format!("is {}, not text; put it in quotes", other.shown())),
    }
}

fn maybe(given: &Given, then: impl Fn(&str) -> Result<Value, String>) -> Result<Value, String> {
    if *given == Given::Null { Ok(Value::Null) } else { then(text(given)?) }
}

fn word(text: &str, words: &[&str]) -> Result<Value, String> {
    if words.contains(&text) { Ok(text.into()) } else { Err(format!("is {:?}; it must be one of {}", text, words.join(", "))) }
}

fn boolean(given: &Given) -> Result<bool, String> {
    let wrong = || Err(format!("is {}; it must be true or false", given.shown()));
    match given {
        Given::Bool(b) => Ok(*b),
        Given::Int(0) => Ok(false),
        Given::Int(1) => Ok(true),
        Given::Float(x) if *x == 0.0 || *x == 1.0 => Ok(*x == 1.0),
        Given::Text(text) => match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "t" | "yes" | "y" | "on" => Ok(true),
            "0" | "false" | "f" | "no" | "n" | "off" => Ok(false),
            _ => wrong(),
        },
        _ => wrong(),
    }
}

/// Digits with single underscores between them, a sign before.
fn digits(text: &str) -> Option<String> {
    let bare = text.strip_prefix(['+', '-']).unwrap_or(text);
    let good = bare.split('_').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    good.then(|| text.replace('_', ""))
}

fn whole(given: &Given) -> Result<i64, String> {
    let wrong = || format!("is {}; it must be a whole number", given.shown());
    match given {
        Given::Bool(b) => Ok(i64::from(*b)),
        Given::Int(n) => Ok(*n),
        // 2^53: a float beyond it does not say which whole number was meant.
        Given::Float(x) if x.fract() == 0.0 && x.abs() <= 9_007_199_254_740_992.0 => Ok(*x as i64),
        Given::Text(text) => {
            let text = text.trim();
            let whole = match text.split_once('.') {
                Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|b| b == b'0') => whole,
                Some(_) => return Err(wrong()),
                None => text,
            };
            digits(whole).and_then(|text| text.parse().ok()).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

fn number(given: &Given) -> Result<f64, String> {
    let wrong = || format!("is {}; it must be a number", given.shown());
    match given {
        Given::Bool(b) => Ok(f64::from(u8::from(*b))),
        Given::Int(n) => Ok(*n as f64),
        Given::Float(x) => Ok(*x),
        Given::Text(text) => {
            let text = text.trim();
            let between = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
            let parts: Vec<&str> = text.split('_').collect();
            let underscores = parts.windows(2).all(|pair| match pair {
                [left, right] => {
                    left.ends_with(|c: char| c.is_ascii_digit()) && right.get(..1).is_some_and(|first| between(first) && !first.is_empty())
                }
                _ => true,
            });
            if underscores { text.replace('_', "").parse().map_err(|_| wrong()) } else { Err(wrong()) }
        }
        _ => Err(wrong()),
    }
}

fn socket(given: &Given) -> Result<Value, String> {
    let pair = |host: &str, port: &Given| match (host, whole(port)) {
        ("", _) => Err("has no host; write (host, port)".into()),
        (_, Err(_)) => Err(format!("has the port {}; a port is a number from 1 to 65535", port.shown())),
        (_, Ok(port)) if !(1..=65_535).contains(&port) => Err(format!("has the port {port}; a port is from 1 to 65535")),
        (host, Ok(port)) => Ok(json!([host, port])),
    };
    match given {
        Given::Text(text) if text.is_empty() => Err("is empty; name the manager's queue socket".into()),
        Given::Text(text) if text.starts_with('(') && text.ends_with(')') => {
            let inner = text.trim_matches(['(', ')']);
            let parts: Vec<&str> = inner.split(',').collect();
            match parts.as_slice() {
                [host, port] => {
                    let host = host.trim().trim_matches(['\'', '"']);
                    let port = digits(port.trim()).ok_or_else(|| "has a port that is no number; write (host, port)".to_owned())?;
                    pair(host, &Given::Text(port))
                }
                _ => Err(format!("is {}; a pair is written (host, port)", given.shown())),
            }
        }
        Given::Text(text) => Ok(text.as_str().into()),
        Given::List(items) => match items.as_slice() {
            [Given::Text(host), port] => pair(host, port),
            _ => Err("is a list; a pair is [host, port]".into()),
        },
        other => Err(format!("is {}; it must be a path, or a pair of host and port", other.shown())),
    }
}

fn allowed(given: &Given) -> Result<Value, String> {
    let Given::List(items) = given else { return Err(format!("is {}; it must be a list of addresses", given.shown())) };
    if items.is_empty() {
        return Err("is empty; name at least one address".into());
    }
    let mut texts = Vec::new();
    for item in items {
        let item = text(item).map_err(|what| format!("holds something that {what}"))?;
        let bare = item.trim();
        let good = match bare.split_once('/') {
            _ if bare.is_empty() => true,
            Some((address, prefix)) => network_of(address, prefix).is_ok(),
            None => address(bare).is_some(),
        };
        if !good {
            return Err(format!("holds {item:?}, which is no address and no network"));
        }
        texts.push(item);
    }
    Ok(json!(texts))
}

/// An address as Python reads it: an IPv6 one may have a zone.
fn address(text: &str) -> Option<IpAddr> {
    match text.split_once('%') {
        Some((bare, zone)) if !zone.is_empty() && !zone.contains('%') => bare.parse().ok().filter(IpAddr::is_ipv6),
        Some(_) => None,
        None => text.parse().ok(),
    }
}

fn network_of(address_text: &str, prefix: &str) -> Result<IpNet, String> {
    let wrong = || format!("is {:?}, which is no network", format!("{address_text}/{prefix}"));
    let address = address(address_text).ok_or_else(wrong)?;
    let length = if !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit()) {
        prefix.parse().map_err(|_| wrong())?
    } else {
        // An IPv4 network may be written with a mask (255.0.0.0) or a host mask (0.255.255.255).
        let mask: Ipv4Addr = prefix.parse().ok().filter(|_| address.is_ipv4()).ok_or_else(wrong)?;
        let bits = u32::from(mask);
        let length = if bits.leading_ones() + bits.trailing_zeros() >= 32 { bits.leading_ones() } else { (!bits).leading_ones() };
        let mask_of = u32::MAX.checked_shl(32 - length).unwrap_or(0);
        if bits != mask_of && bits != !mask_of {
            return Err(wrong());
        }
        u8::try_from(length).map_err(|_| wrong())?
    };
    IpNet::new(address, length).map_err(|_| wrong())
}

/// Reads one network, strictly: with a `/` and no bits of a host behind it.
///
/// # Errors
/// What is wrong with it.
pub fn network(text: &str) -> Result<IpNet, String> {
    let Some((address, prefix)) = text.split_once('/') else {
        return Err(format!("is {text:?}; a network is written with its length, such as 10.0.0.0/8"));
    };
    let net = network_of(address, prefix).map_err(|what| format!("{what}; write one network, such as 10.0.0.0/8"))?;
    if net.addr() != net.network() {
        return Err(format!("is {text:?}, which has bits of a host; write {}", net.trunc()));
    }
    Ok(net)
}

/// The brokers of a text, `host` or `host:port` each, commas between.
///
/// # Errors
/// What is wrong with the first bad one.
pub fn brokers(text: &str) -> Result<Vec<String>, String> {
    let mut brokers = Vec::new();
    for broker in text.split(',') {
        let broker = broker.trim();
        let port = match broker.rsplit_once(':') {
            Some((host, _)) if host.contains(':') && !host.ends_with(']') => None, // an IPv6 address without brackets
            Some(("", _)) => return Err(format!("is {text:?}; a broker is host:port")),
            Some((_, port)) if broker.ends_with(']') && !port.is_empty() => None,
            Some((_, port)) => Some(port),
            None => None,
        };
        if broker.is_empty() {
            return Err("is empty; name a broker as host:port".into());
        }
        if broker.contains(|c: char| c.is_whitespace() || c == '/') {
            return Err(format!("is {text:?}; a broker is host:port, without blanks or a scheme"));
        }
        if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|n| n > 0)) {
            return Err(format!("is {text:?}; a port is from 1 to 65535"));
        }
        brokers.push(broker.to_owned());
    }
    Ok(brokers)
}

fn topic(text: &str) -> Result<Value, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() || matches!(text, "." | "..") || text.len() > TOPIC_CHARS_MAX || !text.chars().all(good) {
        return Err(format!("is no Kafka topic name; a name has 1 to {TOPIC_CHARS_MAX} of the characters a-z A-Z 0-9 . _ -"));
    }
    Ok(text.into())
}

fn options(given: &Given) -> Result<Value, String> {
    let Given::Table(entries) = given else { return Err(format!("is {}; it must be a table of options", given.shown())) };
    let mut map = serde_json::Map::new();
    for (name, value) in entries {
        if keys::option(name).is_none() {
            return Err(format!("has the option {name:?}, which nobody knows; remove it or mend its name"));
        }
        let value = match value {
            Given::Null => Value::Null,
            Given::Bool(b) => (*b).into(),
            Given::Int(n) => (*n).into(),
            Given::Float(x) => (*x).into(),
            Given::Text(text) => text.as_str().into(),
            other => return Err(format!("has {} as {name}; an option is text, a number or a boolean", other.shown())),
        };
        if name == "compression_type" || name == "compression.type" {
            let codec = value.as_str().unwrap_or("none");
            word(codec, CODECS).map_err(|what| format!("has a {name} that {what}"))?;
        }
        map.insert(name.clone(), value);
    }
    Ok(Value::Object(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(given: Given) -> Option<i64> {
        whole(&given).ok()
    }

    #[test]
    fn whole_numbers_are_coerced_as_upstream_does() {
        for (text, want) in [
            ("010", Some(10)),
            (" 5 ", Some(5)),
            ("5.0", Some(5)),
            ("5.00", Some(5)),
            ("+5", Some(5)),
            ("1_0", Some(10)),
            ("1__0", None),
            ("_1", None),
            ("1e3", None),
            ("5.", None),
            (".0", None),
            ("0x5", None),
            ("", None),
            ("5 0", None),
        ] {
            assert_eq!(int(Given::Text(text.into())), want, "{text:?}");
        }
        assert_eq!(int(Given::Bool(true)), Some(1));
        assert_eq!(int(Given::Float(60.0)), Some(60));
        assert_eq!(int(Given::Float(1.5)), None);
        assert_eq!(int(Given::Float(1e30)), None);
        assert_eq!(int(Given::Null), None);
    }

    #[test]
    fn numbers_are_coerced_as_upstream_does() {
        for (text, want) in
            [("1e3", Some(1000.0)), (" 2.5 ", Some(2.5)), ("1_0.5", Some(10.5)), ("1.", Some(1.0)), ("", None), ("1_", None)]
        {
            assert_eq!(number(&Given::Text(text.into())).ok(), want, "{text:?}");
        }
        assert!(typed(Kind::Above0, &Given::Text("nan".into())).is_err());
        assert!(typed(Kind::Above0, &Given::Float(f64::INFINITY)).is_err());
    }

    #[test]
    fn boolean_words_are_taken_and_slips_are_not() {
        for (given, want) in [
            (Given::Text("oN".into()), Some(true)),
            (Given::Text("n".into()), Some(false)),
            (Given::Text(" yes".into()), None),
            (Given::Text("treu".into()), None),
            (Given::Int(1), Some(true)),
            (Given::Int(2), None),
            (Given::Float(0.0), Some(false)),
            (Given::Null, None),
        ] {
            assert_eq!(boolean(&given).ok(), want, "{given:?}");
        }
    }

    #[test]
    fn networks_are_strict() {
        for (text, good) in [
            ("10.0.0.0/8", true),
            ("10.0.0.0/255.0.0.0", true),
            ("10.0.0.0/0.255.255.255", true),
            ("10.0.0.0/255.0.255.0", false),
            ("0.0.0.0/0", true),
            ("2001:db8::/32", true),
            ("2001:db8::/129", false),
            ("2001:db8::1/32", false),
            ("10.1.0.0/8", false),
            ("10.0.0.0/33", false),
            ("10.0.0.0/", false),
            ("10.0.0.0", false),
            ("10.0.0.0/8/8", false),
            ("10.0.0.0/8,192.168.0.0/16", false),
            ("010.0.0.0/8", false),
            (" 10.0.0.0/8", false),
            ("10.0.0.0/-1", false),
        ] {
            assert_eq!(network(text).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn allowed_addresses_may_have_bits_of_a_host() {
        let list = |items: &[&str]| Given::List(items.iter().map(|t| Given::Text((*t).into())).collect());
        for (items, good) in [
            (list(&["10.1.2.3/8", "::1", "fe80::1%eth0"]), true),
            (list(&[" 10.0.0.1 "]), true),
            (list(&["host"]), false),
            (list(&["10.0.0.0/33"]), false),
            (list(&[]), false),
            (Given::List(vec![Given::Int(1)]), false),
            (Given::Text("::1".into()), false),
        ] {
            assert_eq!(allowed(&items).is_ok(), good, "{items:?}");
        }
    }

    #[test]
    fn sockets_are_a_path_or_a_pair() {
        let text = |t: &str| socket(&Given::Text(t.into()));
        assert_eq!(text("/run/q"), Ok(json!("/run/q")));
        assert_eq!(text("(localhost, 1514)"), Ok(json!(["localhost", 1514])));
        assert_eq!(text("('h', 1)"), Ok(json!(["h", 1])));
        for bad in ["", "(h, x)", "(h, 0)", "(h, 70000)", "(h)", "(a, 1, 2)", "(, 5)"] {
            assert!(text(bad).is_err(), "{bad}");
        }
        assert!(socket(&Given::Int(5)).is_err());
        assert!(socket(&Given::List(vec![Given::Text("h".into())])).is_err());
    }

    #[test]
    fn brokers_and_topics_are_checked_before_anything_connects() {
        for (text, good) in [
            ("k:9093", true),
            ("k", true),
            ("a:1, b:2", true),
            ("[::1]:9093", true),
            ("::1", true),
            ("", false),
            ("k:0", false),
            ("k:x", false),
            ("k:", false),
            ("k:70000", false),
            ("ssl://k:1", false),
            ("a:1,,b:2", false),
            (":9092", false),
        ] {
            assert_eq!(brokers(text).is_ok(), good, "{text:?}");
        }
        for (text, good) in [("cust-1", true), ("a/b", false), ("..", false), ("", false), ("ä", false)] {
            assert_eq!(topic(text).is_ok(), good, "{text:?}");
        }
    }
}
