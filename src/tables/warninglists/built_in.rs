//! Lists of our own: what is harmless by a standard, and a few services that everybody uses.

use std::sync::LazyLock;

use super::{Builder, Category, ListError, Warninglists, kinds_of};

/// Addresses that nobody on the internet has.
///
/// # Source
/// IANA's registries of special-purpose addresses (RFC 6890 and its updates), RFC 5771, RFC 4291.
const NOT_PUBLIC: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "64:ff9b:1::/48",
    "100::/64",
    "2001:2::/48",
    "2001:db8::/32",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "ff00::/8",
];

/// Names that are set aside.
///
/// # Source
/// RFC 2606, RFC 6761, RFC 6762, RFC 7686 leaves `onion` out on purpose, RFC 8375, RFC 9476.
const RESERVED_NAMES: &[&str] = &[
    "example",
    "example.com",
    "example.net",
    "example.org",
    "test",
    "invalid",
    "localhost",
    "local",
    "home.arpa",
    "in-addr.arpa",
    "ip6.arpa",
    "alt",
];

/// Hashes of no bytes at all, which every empty file has.
///
/// # Source
/// Computed: MD5, SHA-1, SHA-256 and SHA-512 of the empty string. An import hash is an MD5, so a
/// program without imports has the first as well.
const EMPTY_HASHES: &[&str] = &[
    "d41d8cd98f00b204e9800998ecf8427e",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
];

/// Resolvers that are open to all: an address that half the world asks. Bad use of one is news all the
/// same, so it is only noted.
///
/// # Source
/// Their operators' own pages: Google Public DNS, Cloudflare 1.1.1.1, Quad9, OpenDNS, AdGuard DNS,
/// DNS4EU, Control D, Verisign.
const RESOLVERS: &[&str] = &[
    "8.8.8.8/32",
    "8.8.4.4/32",
    "2001:4860:4860::8888/128",
    "2001:4860:4860::8844/128",
    "1.1.1.1/32",
    "1.0.0.1/32",
    "2606:4700:4700::1111/128",
    "2606:4700:4700::1001/128",
    "9.9.9.9/32",
    "149.112.112.112/32",
    "2620:fe::fe/128",
    "2620:fe::9/128",
    "208.67.222.222/32",
    "208.67.220.220/32",
    "94.140.14.14/32",
    "94.140.15.15/32",
    "64.6.64.6/32",
    "64.6.65.6/32",
];

/// Hashes whose digits are all the same: fill values, not hashes.
static CONSTANT_HASHES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let digit = |digit: char| [32, 40, 64, 128].map(|length| digit.to_string().repeat(length));
    ('0'..='9').chain('a'..='f').flat_map(digit).collect()
});

/// The lists of our own alone.
pub fn built_in() -> &'static Warninglists {
    static BUILT_IN: LazyLock<Warninglists> = LazyLock::new(|| {
        let mut builder = Builder::new();
        // A few lists of a few entries always fit, as a test shows.
        builder.add_built_in().and_then(|()| builder.build()).unwrap_or_default()
    });
    &BUILT_IN
}

/// Id, name, kinds, type, entries, and what a match means.
type OwnList<'l> = (&'l str, &'l str, u16, &'l str, &'l [&'l str], Category);

impl Builder {
    /// Adds the lists of our own.
    ///
    /// # Errors
    /// [`ListError::TooMany`] beside very many others.
    pub fn add_built_in(&mut self) -> Result<(), ListError> {
        let addresses = kinds_of(["ip-src", "ip-dst", "url"].into_iter());
        let names = kinds_of(["domain", "hostname", "url", "email"].into_iter());
        let hashes = kinds_of(["md5", "sha1", "sha256", "sha512", "imphash", "ja3-fingerprint-md5"].into_iter());
        let constant: Vec<&str> = CONSTANT_HASHES.iter().map(String::as_str).collect();
        let of = Category::FalsePositive;
        let lists: [OwnList<'_>; 5] = [
            ("built-in-addresses", "Addresses that are not public", addresses, "cidr", NOT_PUBLIC, of),
            ("built-in-names", "Names that are reserved", names, "hostname", RESERVED_NAMES, of),
            ("built-in-empty", "Hashes of nothing", hashes, "string", EMPTY_HASHES, of),
            ("built-in-constant", "Hashes of one digit", hashes, "string", &constant, of),
            ("built-in-resolvers", "Public resolvers", addresses, "cidr", RESOLVERS, Category::Known),
        ];
        for (id, name, kinds, list_type, entries, category) in lists {
            self.add_list(id, name.to_owned(), 1, category, kinds, list_type, entries.iter().copied())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::{
        key::{hex, md5},
        kinds::Kind,
    };

    #[test]
    fn what_is_harmless_by_a_standard_is_built_in() {
        let mut builder = Builder::new();
        builder.add_built_in().unwrap();
        assert_eq!(builder.unusable(), []);
        let lists = builder.build().unwrap();
        let harmless = |kind, value: &str| lists.is_harmless(kind, value);
        for address in [
            "10.1.2.3",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.169.254",
            "255.255.255.255",
            "224.0.0.1",
            "fe80::1",
            "::1",
            "2001:db8::5",
            "::ffff:10.0.0.1",
        ] {
            assert!(harmless(Kind::Ip, address), "{address}");
        }
        for address in ["8.8.8.8", "172.32.0.1", "11.0.0.0", "2600::1", "9.255.255.255"] {
            assert!(!harmless(Kind::Ip, address), "{address}");
        }
        assert!(harmless(Kind::Url, "http://192.168.0.1/x") && !harmless(Kind::Url, "http://evil.net/192.168.0.1"));
        assert!(harmless(Kind::Domain, "www.example.com") && harmless(Kind::Email, "a@b.test") && harmless(Kind::Domain, "printer.local"));
        assert!(!harmless(Kind::Domain, "notexample.com") && !harmless(Kind::Domain, "example.com.evil.net"));
        assert!(
            harmless(Kind::Md5, &hex(&md5(b""))) && harmless(Kind::Sha256, &"0".repeat(64)) && harmless(Kind::Imphash, &"f".repeat(32))
        );
        assert!(!harmless(Kind::Md5, &hex(&md5(b"x"))));
        assert_eq!(lists.check(Kind::Ip, "1.1.1.1").iter().map(|list| list.name.as_str()).collect::<Vec<_>>(), ["Public resolvers"]);
        assert!(lists.lists().iter().all(|list| list.entries > 3));
    }
}
