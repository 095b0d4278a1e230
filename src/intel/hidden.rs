//! Text inside text, one level deep: URLs with percent escapes, what auditd writes as hexadecimal
//! digits, and what PowerShell takes as base 64.

use super::{
    IocType,
    field::Before,
    name,
    scan::{BACK, Scan},
    url::{self, Authority, Host},
};

/// Bytes of a URL; a longer one is an attack of its own, and no collection has it.
const URL_MAX: usize = 4096;

/// What stands before a URL in the encoding of a form, in a parameter or in HTML, and then ends it.
const QUOTES: &[(&str, &str)] = &[
    ("+", "+"),
    ("%20", "%20"),
    ("%22", "%22"),
    ("%27", "%27"),
    ("&quot;", "&quot;"),
    ("&#34;", "&#34;"),
    ("&#39;", "&#39;"),
    ("&lt;", "&gt;"),
];

impl<'a> Scan<'a> {
    /// Looks at the URL whose `://` begins at `colon`; gives back where the pass goes on.
    pub(super) fn url(&mut self, colon: usize) -> usize {
        let body = colon + 3;
        self.step(BACK);
        let Some((start, scheme)) = self.scheme(colon) else { return body };
        let mut end = self.end_of_url(body);
        // In other notations a blank or a quote is written otherwise, and ends what it would end there.
        for (open, close) in QUOTES {
            if self.back(start).ends_with(open) {
                let len = self.slice(body, end).find(close);
                self.step(len.unwrap_or(end - body));
                end = len.map_or(end, |len| body + len);
            }
        }
        if self.after(end) == Some(b'{') && self.before(end) == Some(b'$') {
            end -= 1;
        }
        let rest = self.slice(body, end);
        let head = rest.get(..rest.floor_char_boundary(url::AUTHORITY_MAX + 1)).unwrap_or_default();
        // The end of a sentence, or of a list, may come before any path.
        let (authority, _) = url::split(head);
        self.step(5 * authority.len());
        let mark = authority.find([',', ';', '(', ')', '!', '&', '=', '*', '$']).filter(|_| !authority.contains('@'));
        if let Some(mark) = mark {
            end = body + mark;
        }
        let rest = self.slice(body, end);
        let authority = url::trim(authority.get(..mark.unwrap_or(authority.len())).unwrap_or_default());
        // What is no host is looked at word by word; most that is none tells so soon.
        if !authority.contains(['.', '[']) && !authority.starts_with(|c: char| c.is_ascii_digit()) && !authority.contains('@') {
            return body;
        }
        let Some(found) = Authority::of(authority) else { return body };
        if self.is_reference(Before::of(self.back(start))) {
            self.leave(self.slice(start, end), "reference");
            return end;
        }
        match &found.host {
            Host::Address(ip) => {
                if !super::address::is_public(*ip) {
                    self.leave(self.slice(start, body + authority.len()), "not_public");
                    return body + authority.len();
                }
                if !self.extractor.wanted.own_networks.iter().any(|net| net.contains(ip)) {
                    self.keep_url(&found, scheme, "", rest);
                }
                self.public(*ip, authority);
            }
            Host::Name(written) => {
                let name = match name::judge(written, true) {
                    Ok(name) => name,
                    Err(why) => {
                        self.leave(self.slice(start, body + authority.len()), why);
                        return body;
                    }
                };
                if self.own(&name).is_none() {
                    self.keep_url(&found, scheme, &name, rest);
                }
                self.host(&name, 9);
            }
        }
        end
    }

    /// Keeps the URL; what it looks at is consumed with it.
    fn keep_url(&mut self, authority: &Authority<'_>, scheme: &str, name: &str, rest: &str) {
        self.step(4 * rest.len());
        let (_, tail) = url::split(url::trim(rest));
        if tail.len() > URL_MAX {
            self.leave(tail, "url_too_long");
            return;
        }
        let value = authority.url(scheme, name, tail);
        self.keep(IocType::Url, &value, 9);
        // A sample is often fetched by its hash.
        for run in tail.split(|c: char| !c.is_ascii_alphanumeric()).filter(|run| run.len() >= 32) {
            self.plain_hash(run, 5);
        }
    }

    /// Where the scheme before a colon begins, and what it is, if it is one of ours.
    fn scheme(&self, colon: usize) -> Option<(usize, &'static str)> {
        let letters = |b: &u8| b.is_ascii_alphabetic() || *b == b'*';
        let most = self.bytes.get(colon.saturating_sub(url::SCHEME_MAX + 3)..colon).unwrap_or_default();
        let len = most.iter().rev().take_while(|b| letters(b)).count();
        let start = colon - len;
        let at = |skip: usize| url::scheme(self.slice(start + skip, colon)).map(|scheme| (start + skip, scheme));
        // `%3Dhttp`, `%aahttp`, `\nhttp`: the first letters may belong to an escape.
        let skip = match self.bytes.get(start.saturating_sub(2)..start).unwrap_or_default() {
            [.., b'%'] => 2,
            [b'%', b'0'..=b'9'] | [.., b'\\'] => 1,
            _ => 0,
        };
        at(0).or_else(|| at(skip.min(len)))
    }

    /// Where the URL ends that has begun before `body`: found once for all URLs that are nested in it.
    fn end_of_url(&mut self, body: usize) -> usize {
        if self.url_end < body {
            let rest = self.text.get(body..).unwrap_or_default();
            let is_list = |at: usize| ["http", "hxxp", "ftp:"].iter().any(|next| rest.get(at + 1..).is_some_and(|rest| begins(rest, next)));
            let end = rest.char_indices().find(|(at, c)| ends_url(*c) || (*c == ',' && is_list(*at))).map_or(rest.len(), |(at, _)| at);
            self.step(end);
            self.url_end = body + end;
        }
        self.url_end
    }

    /// A URL as a parameter of another, its `://` escaped; gives back where the pass goes on.
    pub(super) fn percent(&mut self, at: usize) -> usize {
        let is_it = self.bytes.get(at..at + 9).is_some_and(|bytes| bytes.eq_ignore_ascii_case(b"%3a%2f%2f"));
        if !is_it || self.depth > 0 {
            return at + 1;
        }
        let Some((start, _)) = self.scheme(at) else { return at + 1 };
        let rest = self.text.get(at..).unwrap_or_default();
        let end = at + rest.find(|c: char| ends_url(c) || c == '&').unwrap_or(rest.len());
        let escaped = self.slice(start, end);
        self.step(2 * escaped.len());
        let text = unescape(escaped);
        self.extractor.scan(&text, self.place, 1);
        end
    }

    /// Text that is written as the digits of its bytes; gives back where the pass goes on, if it is one.
    pub(super) fn hidden(&mut self, from: usize, to: usize) -> Option<usize> {
        if self.depth > 0 {
            return None;
        }
        let before = Before::of(self.back(from));
        let is_hex = before.is_argument() || (self.place.says().hex && from == 0 && to == self.bytes.len());
        if !(is_hex || before.is_encoded()) || self.slice(from, to).contains(['.', '_']) {
            return None;
        }
        if is_hex {
            let text = hexadecimal(self.bytes.get(from..to)?)?;
            self.step(text.len());
            self.extractor.scan(&text, self.place, 1);
            return Some(to);
        }
        let is_digit = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
        let len = self.bytes.get(from..)?.iter().take_while(|b| is_digit(b)).count();
        self.step(2 * len);
        let text = utf_16(&base_64(self.bytes.get(from..from + len)?))?;
        self.extractor.scan(&text, self.place, 1);
        Some((from + len).max(to))
    }
}

fn begins(text: &str, with: &str) -> bool {
    text.get(..with.len()).is_some_and(|head| head.eq_ignore_ascii_case(with))
}

/// White space, controls, quotes, and what is neither letter nor digit beyond ASCII.
fn ends_url(c: char) -> bool {
    if c.is_ascii() {
        return c <= ' ' || matches!(c, '"' | '\'' | '<' | '>' | '`' | '|' | '\\' | '{' | '}' | '\u{7f}');
    }
    !c.is_alphanumeric()
}

/// Percent escapes undone, once.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let digits = text.get(at + 1..at + 3).filter(|digits| *byte == b'%' && digits.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What hexadecimal digits say, if it is text; a NUL between arguments is a blank.
fn hexadecimal(digits: &[u8]) -> Option<String> {
    let digit = |b: &u8| char::from(*b).to_digit(16);
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(high)? * 16 + digit(low)?).ok();
    let bytes: Option<Vec<u8>> = pairs.iter().map(|pair| byte(pair).map(|b| if b == 0 { b' ' } else { b })).collect();
    String::from_utf8(bytes?).ok().filter(|text| !text.chars().any(|c| c.is_control() && !c.is_whitespace()))
}

/// What base 64 says; it ends where it is none.
fn base_64(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => break,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    bytes
}

fn utf_16(bytes: &[u8]) -> Option<String> {
    let units = bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair));
    char::decode_utf16(units).collect::<Result<String, _>>().ok()
}
