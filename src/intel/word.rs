//! The rules for a word: hash, address, e-mail address, name, by the word and by what is next to it.

use std::net::IpAddr;

use super::{
    IocType, address,
    field::Before,
    name::{self, is_below, is_invisible},
    scan::{ALPHA, BACK, HIGH, Scan},
};

/// Words before a slash that are no product: what follows is an address.
const NO_PRODUCTS: &[&str] = &[
    "tcp",
    "udp",
    "icmp",
    "ip",
    "ipv4",
    "http",
    "https",
    "src",
    "dst",
    "source",
    "destination",
    "from",
    "to",
    "client",
    "server",
    "host",
    "peer",
    "remote",
    "inside",
    "outside",
    "internal",
    "external",
    "trust",
    "untrust",
    "dmz",
    "lan",
    "wan",
    "internet",
    "direct",
];

/// What DNS servers write behind a name, before `IN`.
const TYPES: &[&str] = &["A", "AAAA", "NS", "MX", "TXT", "CNAME", "PTR", "SRV", "SOA", "HTTPS"];

/// Hashes of nothing.
const EMPTY: &[&str] = &[
    "d41d8cd98f00b204e9800998ecf8427e",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
];

/// Digits of the shortest hash.
const HASH_MIN: usize = 32;
/// Bytes of a word in which a name is looked for: no name is longer, not even in Unicode.
const WORD_MAX: usize = 1024;
/// Bytes of an address of version 6 with a version 4 one in it.
const V6_MAX: usize = 46;
/// Bytes before the `@` (RFC 5321 §4.5.3.1.1).
const LOCAL_MAX: usize = 64;

impl<'a> Scan<'a> {
    /// Judges the word; gives back where the pass goes on.
    pub(super) fn word(&mut self, from: usize, to: usize, seen: u8) -> usize {
        // Hashes, and the name in it.
        self.step(3 * (to - from));
        if seen & HIGH == 0 {
            return self.part(from, to, seen);
        }
        // Beyond ASCII some characters belong to a word, and some end it.
        let is_word = |c: char| c.is_ascii() || c.is_alphanumeric() || is_invisible(c);
        let mut at = from;
        for part in self.slice(from, to).split(|c| !is_word(c)) {
            // Where each part begins is known by its address, since what splits them has any length.
            let start = part.as_ptr() as usize - self.text.as_ptr() as usize;
            let seen = if part.is_ascii() { seen & !HIGH } else { seen };
            at = at.max(self.part(start, start + part.len(), seen));
        }
        at.max(to)
    }

    fn part(&mut self, mut from: usize, to: usize, seen: u8) -> usize {
        // What stands before it is looked at twice at most: for a key, and for a path.
        self.step(2 * BACK);
        let mut escape = None;
        match self.before(from) {
            // `%3Devil.top`: two digits belong to the escape.
            Some(b'%') => {
                if let Ok(byte) = u8::from_str_radix(self.slice(from, (from + 2).min(to)), 16) {
                    escape = Some(byte);
                    from = (from + 2).min(to);
                }
            }
            // `\n1.2.3.4`: so does the letter of an escape, where it cannot be a folder's.
            Some(b'\\') if matches!(self.after(from), Some(b'n' | b'r' | b't')) => {
                let word = self.slice(from + 1, to);
                if word.bytes().all(|b| b.is_ascii_digit() || b == b'.') || matches!(word.len(), 32 | 40 | 64 | 128) {
                    from += 1;
                }
            }
            _ => {}
        }
        let word = self.slice(from, to);
        if word.len() >= HASH_MIN && seen & HIGH == 0 {
            if let Some(end) = self.hidden(from, to) {
                return end;
            }
            let mut next = long_run(word, 0);
            while let Some((start, run)) = next {
                self.hash(from + start, run);
                next = long_run(word, start + run.len());
            }
        }
        let bare = bare(word);
        if bare.len() > WORD_MAX || !bare.contains('.') {
            return to;
        }
        // What stands before an `@` is looked at from behind it.
        if self.after(to) == Some(b'@') && self.after(to + 1).is_some_and(|b| b.is_ascii_alphanumeric() || b >= 0x80) {
            return to;
        }
        let is_number = seen & ALPHA == 0 || bare.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-'));
        if is_number {
            self.numbers(from, to, word, bare);
        } else if !(self.before(from) == Some(b'@') && self.email(from, bare)) {
            self.name(from, to, bare, escape);
        }
        to
    }

    /// A word of digits, dots and dashes: an address, two of them, or a version.
    fn numbers(&mut self, from: usize, to: usize, word: &str, bare: &str) {
        // One dot before it: the end of an object identifier.
        let is_tail = word.starts_with('.') && !word.starts_with("..");
        if !is_tail && let Some(found) = address::v4(bare) {
            return self.address(from, to, IpAddr::V4(found), bare);
        }
        let parts = || bare.split('-').map(address::v4);
        if bare.len() > 64 || is_tail || parts().any(|part| part.is_none()) {
            if bare.bytes().filter(|b| *b == b'.').count() >= 3 {
                self.leave(word, "not_an_address");
            }
            return;
        }
        for (found, text) in parts().zip(bare.split('-')) {
            if let Some(found) = found {
                self.address(from, to, IpAddr::V4(found), text);
            }
        }
    }

    /// The address of version 6 whose first group ends at a colon; gives back where the pass goes on.
    pub(super) fn version_6(&mut self, colon: usize) -> usize {
        let digits = self.bytes.get(colon.saturating_sub(4)..colon).unwrap_or_default();
        let digits = digits.iter().rev().take_while(|b| b.is_ascii_hexdigit()).count();
        let start = colon - digits;
        let is_first = match (digits, self.after(start)) {
            // `::ffff:1.2.3.4`; `0:0:…`; and nothing outside 2000::/3 is on the Internet.
            (0, _) => self.after(colon + 1) == Some(b':'),
            (4, Some(b'2' | b'3')) => true,
            (_, Some(b'0')) => self.slice(start, colon).bytes().all(|b| b == b'0'),
            _ => false,
        };
        let is_inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'.' | b'_') || b >= 0x80;
        if !is_first || self.before(start).is_some_and(is_inside) {
            return colon + 1;
        }
        let rest = self.bytes.get(start..).unwrap_or_default();
        let len = rest.iter().take(V6_MAX).take_while(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')).count();
        self.step(len + BACK);
        let end = start + len;
        let run = self.slice(start, end).trim_end_matches('.');
        let run = if run.ends_with("::") { run } else { run.trim_end_matches(':') };
        let is_glued = self.after(end).is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80);
        if is_glued || run.bytes().filter(|b| *b == b':').count() < 2 {
            return colon + 1;
        }
        // `2a0e::1.443`: so do some write a port.
        let found = address::v6(run)
            .or_else(|| run.split_once('.').and_then(|(run, port)| address::v6(run).filter(|_| port.parse::<u16>().is_ok())));
        match found {
            Some(found) => {
                self.address(start, end, found, run);
                end
            }
            None => colon + 1,
        }
    }

    fn address(&mut self, from: usize, to: usize, found: IpAddr, text: &str) {
        if let Some(why) = self.place.says().no_ip {
            return self.leave(text, why);
        }
        let back = self.back(from);
        let before = Before::of(back);
        if self.is_version(back, before, from, to) {
            return self.leave(text, "version");
        }
        if self.is_reference(before) {
            return self.leave(text, "reference");
        }
        self.public(found, text);
    }

    /// Keeps an address if it is somebody's on the Internet.
    pub(super) fn public(&mut self, found: IpAddr, text: &str) {
        if !address::is_public(found) {
            return self.leave(text, "not_public");
        }
        if self.extractor.wanted.own_networks.iter().any(|net| net.contains(&found)) {
            return self.leave(text, "own_network");
        }
        self.keep(IocType::Ip, &address::text(found), 9);
    }

    /// True if what stands before says that dotted numbers are a version.
    ///
    /// - `back`, `before`: what stands before the word.
    fn is_version(&self, back: &str, before: Before<'_>, from: usize, to: usize) -> bool {
        let next = self.bytes.get(to..).unwrap_or_default();
        let Some(product) = back.strip_suffix('/') else { return next.starts_with(b"~") || before.is_version() };
        // A port behind it: no version has one.
        if matches!(next, [b':' | b'(', b'0'..=b'9', ..]) {
            return false;
        }
        let before = product.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        let token = product.get(before.len()..).unwrap_or_default();
        let at_start = match before.chars().next_back() {
            None => back.len() == from,
            Some(c) => c.is_whitespace() || matches!(c, '"' | '\'' | '(' | '+' | ';' | ',' | '[' | '='),
        };
        // `HIER_DIRECT/` of a proxy.
        let is_code = token.contains('_') && !token.bytes().any(|b| b.is_ascii_lowercase());
        let is_known = NO_PRODUCTS.iter().any(|known| known.eq_ignore_ascii_case(token));
        at_start && token.bytes().any(|b| b.is_ascii_alphabetic()) && !is_code && !is_known
    }

    /// True if all of the text, or the key before the word, is a reference of a vendor.
    pub(super) fn is_reference(&self, before: Before<'_>) -> bool {
        self.place.says().reference || before.is_reference()
    }

    fn hash(&mut self, at: usize, run: &str) {
        if hash_type(run).is_none() {
            return;
        }
        let before = Before::of(self.back(at));
        if self.is_reference(before) {
            return self.leave(run, "reference");
        }
        let says = self.place.says();
        match run.len() {
            32 if says.imphash || before.is_imphash() => self.keep(IocType::Imphash, &run.to_ascii_lowercase(), 9),
            32 if says.ja3 || before.is_ja3() => self.keep(IocType::Ja3, &run.to_ascii_lowercase(), 9),
            // The digits of a commit are as many as those of a SHA-1.
            40 if before.word.eq_ignore_ascii_case("commit") => self.plain_hash(run, 5),
            _ => self.plain_hash(run, 9),
        }
    }

    /// Keeps digits as the hash that has so many, if they mean something.
    pub(super) fn plain_hash(&mut self, run: &str, confidence: u8) {
        let Some(kind) = hash_type(run) else { return };
        let value = run.to_ascii_lowercase();
        if EMPTY.contains(&value.as_str()) {
            self.leave(run, "empty_input");
        } else if value.bytes().all(|b| value.as_bytes().first() == Some(&b)) {
            self.leave(run, "constant_digits");
        } else {
            self.keep(kind, &value, confidence);
        }
    }

    /// True if the word behind an `@` is an e-mail address's, wanted or not.
    fn email(&mut self, from: usize, word: &str) -> bool {
        let back = self.back(from);
        let back = back.strip_suffix('@').unwrap_or(back);
        let is_local = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '%' | '+' | '-');
        let before = back.trim_end_matches(is_local);
        let mut local = back.get(before.len()..).unwrap_or_default();
        // `%3Cspam@`: the last escape ends where the address begins.
        if let Some((_, after)) = local.rsplit_once('%') {
            local = match after.get(..2).map(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit())) {
                Some(true) => after.get(2..).unwrap_or_default(),
                _ => after,
            };
        }
        let local = local.trim_start_matches(['.', '-', '+']);
        let is_cut = before.chars().next_back().is_some_and(|c| !c.is_ascii() && c.is_alphanumeric());
        if local.is_empty() || local.len() > LOCAL_MAX || is_cut {
            return false;
        }
        let start = from - 1 - local.len();
        let host = match name::judge(word, true) {
            Ok(host) => host,
            Err(why) => {
                self.leave(word, why);
                return true;
            }
        };
        let before = Before::of(self.back(start));
        let says = self.place.says();
        let why = match says.no_name.or(self.own(&host)) {
            Some(why) => Some(why),
            None if self.is_reference(before) => Some("reference"),
            None => before.is_identity().then_some("identity"),
        };
        let value = format!("{}@{host}", local.to_ascii_lowercase());
        if let Some(why) = why {
            self.leave(&value, why);
            return true;
        }
        if before.is_message_id() {
            self.leave(&value, "message_id");
        } else {
            self.keep(IocType::Email, &value, 8);
        }
        self.keep(IocType::Domain, &host, 8);
        true
    }

    fn name(&mut self, from: usize, to: usize, word: &str, escape: Option<u8>) {
        let says = self.place.says();
        let mut host = says.host;
        let mut judged = name::judge(word, host);
        if matches!(judged, Err("file_type" | "code")) && self.is_asked(from, to) {
            host = true;
            judged = name::judge(word, host);
        }
        let found = match judged {
            Ok(found) => found,
            Err("not_a_name") => return,
            Err(why) => return self.leave(word, why),
        };
        match says.no_name.or_else(|| self.no_host(from, to, escape)) {
            Some(why) => self.leave(word, why),
            None => self.host(&found, if host { 9 } else { 8 }),
        }
    }

    /// Why a word that is written like a name is none, by what is next to it.
    fn no_host(&self, from: usize, to: usize, escape: Option<u8>) -> Option<&'static str> {
        if matches!(escape, Some(b'/' | b'\\')) || self.is_in_path(from, to) {
            return Some("path");
        }
        let next = self.bytes.get(to..).unwrap_or_default();
        let back = self.back(from);
        let before = Before::of(back);
        match next {
            [b'(', ..] => return Some("code"),
            [b'=', after, ..] if *after != b'=' => return Some("key"),
            [b'"', b':', after, ..] if !after.is_ascii_digit() => return Some("key"),
            _ => {}
        }
        if back.ends_with(['$', '~']) || back.ends_with("${") || back.ends_with("::") {
            return Some("code");
        }
        if before.is_user() || (before.is_for() && next.starts_with(b" from ")) {
            return Some("user_name");
        }
        if self.is_reference(before) {
            return Some("reference");
        }
        before.is_identity().then_some("identity")
    }

    /// Keeps a name unless it is ours.
    pub(super) fn host(&mut self, name: &str, confidence: u8) {
        match self.own(name) {
            Some(why) => self.leave(name, why),
            None => self.keep(IocType::Domain, name, confidence),
        }
    }

    /// Why a name is ours, if it is.
    pub(super) fn own(&self, name: &str) -> Option<&'static str> {
        self.extractor.wanted.own_domains.iter().any(|own| is_below(name, own)).then_some("own_domain")
    }

    /// True if what is next to a name asks for a host: a word before it, or what DNS servers write behind it.
    fn is_asked(&self, from: usize, to: usize) -> bool {
        let next = self.bytes.get(to..(to + 12).min(self.bytes.len())).unwrap_or_default();
        let mut words = next.split(|b| *b == b' ').skip(usize::from(next.first() == Some(&b' ')));
        let is_type = |word: &[u8]| TYPES.iter().any(|known| known.as_bytes() == word);
        let is_query = match (words.next(), words.next()) {
            (Some(b"IN"), _) => true,
            (Some(word), Some(b"IN")) => is_type(word),
            _ => false,
        };
        is_query || Before::of(self.back(from)).is_host()
    }

    /// True if the word is a part of a path.
    fn is_in_path(&self, from: usize, to: usize) -> bool {
        let next = self.bytes.get(to..).unwrap_or_default();
        let back = self.back(from);
        match next {
            // An escaped quote ends a text, and so does an escaped end of a line.
            [b'\\', b'"' | b'\'', ..] => {}
            [b'\\', b'n' | b'r' | b't', after, ..] if !after.is_ascii_lowercase() => {}
            [b'\\', b'n' | b'r' | b't'] => {}
            [b'\\', ..] => {
                // `\\host\share`.
                let before = back.trim_end_matches('\\');
                let is_start = !before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, ':' | '.' | '_' | '%'));
                return !(back.len() >= before.len() + 2 && is_start);
            }
            _ => {}
        }
        if let Some(before) = back.strip_suffix("//") {
            // `//host/`, and schemes that are none of ours.
            return before.ends_with("file:") || before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_'));
        }
        if let Some(before) = back.strip_suffix('/') {
            // `HIER_DIRECT/host` of a proxy.
            let token = before.get(before.trim_end_matches(|c: char| c.is_ascii_uppercase() || c == '_').len()..).unwrap_or_default();
            return !(token == "DIRECT" || (token.contains('_') && token.len() > 2));
        }
        back.ends_with('\\')
    }
}

/// The first run at or behind `at` without dots, dashes and underscores that may be a hash by its
/// length, and where it begins.
///
/// Looks at windows as long as the shortest hash: where one has a mark in it, no such run begins
/// before that mark. So most bytes of a word with many marks are never looked at.
///
/// - `at`: where a run begins or ends.
fn long_run(word: &str, mut at: usize) -> Option<(usize, &str)> {
    let bytes = word.as_bytes();
    loop {
        let window = bytes.get(at..at + HASH_MIN)?;
        match memchr::memrchr3(b'.', b'-', b'_', window) {
            Some(mark) => at += mark + 1,
            None => {
                let rest = bytes.get(at + HASH_MIN..)?;
                let len = HASH_MIN + memchr::memchr3(b'.', b'-', b'_', rest).unwrap_or(rest.len());
                return Some((at, word.get(at..at + len)?));
            }
        }
    }
}

/// The word without the dots and dashes around it.
fn bare(word: &str) -> &str {
    let is_inside = |b: &u8| !matches!(b, b'.' | b'-');
    let start = word.bytes().position(|b| is_inside(&b)).unwrap_or(word.len());
    let end = word.as_bytes().iter().rposition(is_inside).map_or(start, |last| last + 1);
    word.get(start..end).unwrap_or_default()
}

/// The hash that has so many hexadecimal digits.
fn hash_type(run: &str) -> Option<IocType> {
    let kind = match run.len() {
        32 => IocType::Md5,
        40 => IocType::Sha1,
        64 => IocType::Sha256,
        128 => IocType::Sha512,
        _ => return None,
    };
    run.bytes().all(|b| b.is_ascii_hexdigit()).then_some(kind)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every run, cut one after the other.
    fn naive(word: &str) -> Vec<(usize, &str)> {
        let place = |run: &str| run.as_ptr() as usize - word.as_ptr() as usize;
        word.split(['.', '-', '_']).filter(|run| run.len() >= HASH_MIN).map(|run| (place(run), run)).collect()
    }

    fn long_runs(word: &str) -> Vec<(usize, &str)> {
        let next = |(at, run): &(usize, &str)| long_run(word, at + run.len());
        std::iter::successors(long_run(word, 0), |found| next(found)).collect()
    }

    proptest! {
        #[test]
        fn long_runs_are_those_that_splitting_gives(lens in prop::collection::vec((0_usize..70, "[._-]"), 0..12), last in 0_usize..70) {
            let mut word: String = lens.into_iter().map(|(len, mark)| "f".repeat(len) + &mark).collect();
            word.push_str(&"0".repeat(last));
            prop_assert_eq!(long_runs(&word), naive(&word));
        }

        #[test]
        fn a_bare_word_is_what_trimming_gives(word in "[a.-]{0,8}") {
            prop_assert_eq!(bare(&word), word.trim_matches(['.', '-']));
        }
    }
}
