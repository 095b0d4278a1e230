//! URLs: the schemes that count, and what is who in one.

use std::net::{IpAddr, Ipv4Addr};

use super::{address, name};

/// Schemes, and their defanged forms with what they stand for.
const SCHEMES: &[(&str, &str)] = &[
    ("http", "http"),
    ("https", "https"),
    ("hxxp", "http"),
    ("hxxps", "https"),
    ("ftp", "ftp"),
    ("ftps", "ftps"),
    ("sftp", "sftp"),
    ("ldap", "ldap"),
    ("ldaps", "ldaps"),
    ("rmi", "rmi"),
    ("ws", "ws"),
    ("wss", "wss"),
    ("tcp", "tcp"),
    ("hxtp", "http"),
    ("hxtps", "https"),
    ("htxp", "http"),
    ("htxps", "https"),
    ("h**p", "http"),
    ("h**ps", "https"),
    ("fxp", "ftp"),
    ("fxps", "ftps"),
];

/// Bytes of the longest of them.
pub(super) const SCHEME_MAX: usize = 5;
/// Bytes of what stands between `//` and the path: a name, a user and a port.
pub(super) const AUTHORITY_MAX: usize = 1024;

/// The scheme that a word is, in lower case and as it is meant.
pub(super) fn scheme(word: &str) -> Option<&'static str> {
    SCHEMES.iter().find(|(written, _)| written.eq_ignore_ascii_case(word)).map(|(_, meant)| *meant)
}

/// The host of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Address(IpAddr),
    /// A name, not yet judged, as it stands.
    Name(String),
}

/// What stands between `//` and the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authority<'t> {
    /// With its `@`; empty where there is none.
    user: &'t str,
    pub(super) host: Host,
    /// The host as it stands, for numbers that stay as they were written.
    written: &'t str,
    /// With its colon; empty where there is none.
    port: &'t str,
}

impl<'t> Authority<'t> {
    /// Takes it apart; `None` if it has no host or something that is no port.
    pub(super) fn of(text: &'t str) -> Option<Self> {
        if text.len() > AUTHORITY_MAX {
            return None;
        }
        let (user, rest) = text.split_at(text.rfind('@').map_or(0, |at| at + 1));
        let (written, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some(parts) => parts,
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        let is_port = |port: &str| port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
        if written.is_empty() || !(port.is_empty() || port.strip_prefix(':').is_some_and(is_port)) {
            return None;
        }
        let bare = written.split('%').next().unwrap_or_default();
        let found = address::v4(written).or_else(|| number(written)).map(IpAddr::V4).or_else(|| address::v6(bare));
        Some(Self { user, host: found.map_or_else(|| Host::Name(written.to_owned()), Host::Address), written, port })
    }

    /// The URL with its scheme and host in normal form.
    ///
    /// - `name`: the normal form of the host, where it is a name.
    pub(super) fn url(&self, scheme: &str, name: &str, tail: &str) -> String {
        let host = match &self.host {
            Host::Name(_) => name.to_owned(),
            Host::Address(IpAddr::V6(ip)) => format!("[{ip}]"),
            // A mapped address of version 6 is one of version 4; a number stays one.
            Host::Address(ip) if self.written.contains(':') => ip.to_string(),
            Host::Address(_) => self.written.to_ascii_lowercase(),
        };
        let Self { user, port, .. } = self;
        format!("{scheme}://{user}{host}{port}{tail}")
    }
}

/// A host that is one number is an address all the same: browsers and curl take it so.
fn number(text: &str) -> Option<Ipv4Addr> {
    let n = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if digits.len() <= 8 => u32::from_str_radix(digits, 16).ok()?,
        Some(_) => return None,
        None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok()?,
        None => return None,
    };
    // Less would be an address of network 0.
    (n >= 1 << 24).then(|| Ipv4Addr::from(n))
}

/// Authority, and what follows it.
pub(super) fn split(rest: &str) -> (&str, &str) {
    rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()))
}

/// The normal form of a URL.
pub(super) fn form(text: &str) -> Option<String> {
    let (word, rest) = text.split_once("://")?;
    let known = scheme(word).map(str::to_owned);
    let is_scheme = word.len() <= 32 && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    let scheme = known.or_else(|| is_scheme.then(|| word.to_ascii_lowercase())).filter(|scheme| !scheme.is_empty())?;
    let (authority, tail) = split(rest);
    let authority = Authority::of(authority)?;
    let host = match &authority.host {
        // A host without a dot is a host in a URL.
        Host::Name(written) if !written.contains('.') => written.to_lowercase(),
        Host::Name(written) => name::form(written).ok()?,
        Host::Address(_) => String::new(),
    };
    Some(authority.url(&scheme, &host, tail))
}

/// Without the closing marks of the sentence around it.
pub(super) fn trim(mut url: &str) -> &str {
    let count = |mark: u8| url.bytes().filter(|b| *b == mark).count();
    let mut open = [(')', count(b'('), count(b')')), (']', count(b'['), count(b']'))];
    while let Some(last) = url.chars().next_back() {
        let unbalanced = open.iter_mut().find(|(close, opened, closed)| *close == last && closed > opened);
        match unbalanced {
            Some((_, _, closed)) => *closed -= 1,
            None if matches!(last, '.' | ',' | ';' | ':' | '!' | '?') => {}
            None => break,
        }
        url = url.get(..url.len() - last.len_utf8()).unwrap_or_default();
    }
    url
}
