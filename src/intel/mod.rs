//! Indicators: addresses, names, URLs, e-mail addresses and hashes, out of any text, in the form
//! in which a collection of indicators keeps them.
//!
//! | step | what it does | where |
//! |---|---|---|
//! | refang | `[.]`, `[at]`, `[://]` and their kin are undone; `\/` is `/` | `refang` |
//! | scan | one pass over the bytes of a text: words, URLs, addresses of version 6 | `scan` |
//! | field | what the name of a member, or a key before a word, says of it: a version, an identity | `field` |
//! | rules | is the word a public address, a name under a real TLD, a hash that means something | `word`, `name`, `address`, `url` |
//! | hidden | text inside text: percent escapes, auditd's hex, PowerShell's `-enc` | `hidden` |
//!
//! Everything is linear in the text, whatever it is made of: a look back is bounded, a look ahead
//! is consumed or bounded. [`Extractor::steps`] counts the bytes that were looked at, again each
//! time, and tests hold it to that. `docs/INDICATORS.md` has every rule with an example.
//!
//! Absent here: JSON, alerts, files, clocks, lists of what is harmless. A caller hands in one
//! text at a time.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

mod address;
mod name;
mod url;

/// What an indicator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IocType {
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
}

impl IocType {
    /// Every type, each at the index that is its number (`as usize`).
    pub const ALL: [IocType; 10] = [
        IocType::Ip,
        IocType::Domain,
        IocType::Url,
        IocType::Email,
        IocType::Md5,
        IocType::Sha1,
        IocType::Sha256,
        IocType::Sha512,
        IocType::Imphash,
        IocType::Ja3,
    ];

    /// Its name in records and settings: `ip`, `domain`, …
    pub fn as_str(self) -> &'static str {
        match self {
            IocType::Ip => "ip",
            IocType::Domain => "domain",
            IocType::Url => "url",
            IocType::Email => "email",
            IocType::Md5 => "md5",
            IocType::Sha1 => "sha1",
            IocType::Sha256 => "sha256",
            IocType::Sha512 => "sha512",
            IocType::Imphash => "imphash",
            IocType::Ja3 => "ja3",
        }
    }

    /// The type of that name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Hexadecimal digits of a hash of this type; `None` for what is no hash.
    fn digits(self) -> Option<usize> {
        match self {
            IocType::Md5 | IocType::Imphash | IocType::Ja3 => Some(32),
            IocType::Sha1 => Some(40),
            IocType::Sha256 => Some(64),
            IocType::Sha512 => Some(128),
            IocType::Ip | IocType::Domain | IocType::Url | IocType::Email => None,
        }
    }
}

/// The normal form of one value that is known to be of that type; `None` if it is not.
///
/// Two values that mean the same have one normal form, and extraction gives values in it: hashes,
/// names, e-mail addresses in lower case; names in punycode, without the root's dot and without
/// `*.`; addresses compressed, without zone, port and brackets, those of version 4 inside version
/// 6 as version 4; of a URL the scheme and the host so, the rest as it is. Blanks around it are
/// taken off.
///
/// It is about the form alone: a private address has one too.
pub fn normal(kind: IocType, value: &str) -> Option<String> {
    let value = value.trim();
    match kind {
        IocType::Ip => address::parse(value).map(|ip| ip.to_string()),
        IocType::Domain => name::form(value).ok(),
        IocType::Url => url::form(value),
        IocType::Email => {
            let (local, host) = value.rsplit_once('@')?;
            let local = local.strip_prefix("mailto:").unwrap_or(local);
            let is_local = !local.is_empty() && !local.chars().any(|c| c.is_whitespace() || c.is_control());
            Some(format!("{}@{}", is_local.then(|| local.to_lowercase())?, name::form(host).ok()?))
        }
        _ => (Some(value.len()) == kind.digits() && value.bytes().all(|b| b.is_ascii_hexdigit())).then(|| value.to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests;
