//! Files of bad addresses, in the forms in which they are handed round.
//!
//! | form | a line or element | left out |
//! |---|---|---|
//! | `.netset`, `.ipset`, plain lists | address or network first; behind a blank or comma anything | what follows `#` or `;` |
//! | Spamhaus DROP | `192.0.2.0/24 ; SBL1`, or a line of JSON with `cidr` | its line of `metadata` |
//! | CrowdSec, `cscli decisions list -o json` or its API | decisions of type `ban` with scope `Ip` or `Range` | simulated ones, other types and scopes |
//! | MISP, JSON of events or attributes | `ip-src`, `ip-dst`, also with a port | what is deleted or not for detection |
//!
//! The form is told by the content. What cannot be used is counted, and the first of it is named.

use std::fmt;

use serde_json::Value;

use super::{
    super::{networks, private::is_private_network},
    List,
};

/// Shortest prefix that is taken of IPv4: a wider network is a slip.
const V4_PREFIX_MIN: u8 = 8;
/// The same of IPv6: what registries give to one holder is longer.
const V6_PREFIX_MIN: u8 = 19;
/// Characters of a wrong line that are shown.
const SHOWN_CHARS: usize = 60;

/// A file of addresses, read.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub list: List,
    pub left_out: LeftOut,
}

/// What of a file does not count, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Inside private networks.
    pub private: u64,
    /// Wider than /8, or /19 of IPv6.
    pub too_wide: u64,
    /// No address and no network.
    pub unusable: u64,
    /// The first line that is too wide or unusable: its number from 1 (0 inside a JSON document), and its text.
    pub first: Option<(u64, String)>,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (count, what) in [(self.unusable, "unusable"), (self.too_wide, "too wide"), (self.private, "private")] {
            if count > 0 {
                write!(f, "{comma}{count} {what}")?;
                comma = ", ";
            }
        }
        match &self.first {
            Some((0, text)) => write!(f, " (first {text:?})"),
            Some((line, text)) => write!(f, " (first on line {line}: {text:?})"),
            None => Ok(()),
        }
    }
}

/// Reads a file of addresses.
///
/// - `match_private`: networks inside private ones count as well.
pub fn parse(name: &str, bytes: &[u8], match_private: bool) -> Parsed {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let lines = memchr::memchr_iter(b'\n', bytes).count() + 1;
    let mut found = Found { list: List::with_capacity(name, lines), left_out: LeftOut::default(), match_private };
    let is_json = matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'['));
    if is_json && let Ok(document) = serde_json::from_slice::<Value>(bytes) {
        found.document(&document, 0);
    } else {
        for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            found.line(number, line.trim_ascii());
        }
    }
    Parsed { list: found.list.finished(), left_out: found.left_out }
}

struct Found {
    list: List,
    left_out: LeftOut,
    match_private: bool,
}

impl Found {
    fn line(&mut self, number: u64, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        if line.first() == Some(&b'{') {
            match serde_json::from_str::<Value>(&text) {
                Ok(document) => self.document(&document, number),
                Err(_) => self.unusable(number, &text),
            }
            return;
        }
        let entry = text.split(['#', ';']).next().unwrap_or_default();
        let entry = entry.split([' ', '\t', ',']).find(|part| !part.is_empty()).unwrap_or_default();
        if !entry.is_empty() {
            self.entry(number, entry.trim_matches('"'));
        }
    }

    /// Takes what a JSON value holds; serde_json bounds its depth.
    fn document(&mut self, value: &Value, line: u64) {
        match value {
            Value::Array(all) => all.iter().for_each(|value| self.document(value, line)),
            Value::Object(members) => {
                let text = |name: &str| members.get(name).and_then(Value::as_str);
                let is = |name: &str, expected: bool| members.get(name).and_then(Value::as_bool) == Some(expected);
                match (text("cidr"), text("value"), text("scope"), text("type")) {
                    (Some(cidr), ..) => self.entry(line, cidr),
                    (_, Some(value), Some(scope), Some(kind)) => {
                        let is_address = ["ip", "range"].iter().any(|known| scope.eq_ignore_ascii_case(known));
                        if is_address && kind.eq_ignore_ascii_case("ban") && !is("simulated", true) {
                            self.entry(line, value);
                        }
                    }
                    (_, Some(value), None, Some("ip-src" | "ip-dst" | "ip-src|port" | "ip-dst|port"))
                        if !is("deleted", true) && !is("to_ids", false) =>
                    {
                        self.entry(line, value.split('|').next().unwrap_or_default());
                    }
                    _ => {}
                }
                for inside in ["decisions", "new", "response", "Event", "Object", "Attribute"] {
                    if let Some(value @ (Value::Array(_) | Value::Object(_))) = members.get(inside) {
                        self.document(value, line);
                    }
                }
            }
            _ => {}
        }
    }

    fn entry(&mut self, line: u64, text: &str) {
        let Some(network) = networks::parse(text) else { return self.unusable(line, text) };
        let shortest = if network.addr().is_ipv4() { V4_PREFIX_MIN } else { V6_PREFIX_MIN };
        if network.prefix_len() < shortest {
            self.left_out.too_wide += 1;
            self.first(line, text);
        } else if !self.match_private && is_private_network(network) {
            self.left_out.private += 1;
        } else {
            self.list.push(network);
        }
    }

    fn unusable(&mut self, line: u64, text: &str) {
        self.left_out.unusable += 1;
        self.first(line, text);
    }

    fn first(&mut self, line: u64, text: &str) {
        self.left_out.first.get_or_insert_with(|| (line, text.chars().take(SHOWN_CHARS).collect()));
    }
}
