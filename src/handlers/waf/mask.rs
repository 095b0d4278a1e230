//! Addresses as they may be shown.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{hmac::Keyed, tables::networks::canonical};

/// How addresses are hidden.
#[derive(Clone, Debug)]
pub enum Mask {
    Off,
    /// Only the network stays: /24 of IPv4, /48 of IPv6.
    Truncate,
    /// `h:` and 16 hex digits that only the owner of the key can make.
    Hash(Box<Keyed>),
}

/// What stands for text that is no address.
const MASKED: &str = "masked";

impl Mask {
    /// Writes an address as it may be shown.
    ///
    /// - `address`: `text` as an address, if it is one.
    pub fn show(&self, text: &str, address: Option<IpAddr>, out: &mut String) {
        out.clear();
        match (self, address) {
            (Mask::Off, _) => out.push_str(text),
            _ if text.is_empty() => {}
            (_, None) => out.push_str(MASKED),
            (Mask::Truncate, Some(address)) => {
                use fmt::Write;
                // Writing into a string cannot fail.
                let _ = match canonical(address) {
                    IpAddr::V4(v4) => write!(out, "{}", Ipv4Addr::from_bits(v4.to_bits() & !0 << 8)),
                    IpAddr::V6(v6) => write!(out, "{}", Ipv6Addr::from_bits(v6.to_bits() & !0 << 80)),
                };
            }
            (Mask::Hash(key), Some(address)) => {
                use fmt::Write;
                out.push_str("h:");
                let hash = match canonical(address) {
                    IpAddr::V4(v4) => key.hash(&v4.octets()),
                    IpAddr::V6(v6) => key.hash(&v6.octets()),
                };
                for byte in hash.iter().take(8) {
                    let _ = write!(out, "{byte:02x}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(mask: &Mask, text: &str) -> String {
        let mut out = String::from("before");
        mask.show(text, text.parse().ok(), &mut out);
        out
    }

    #[test]
    fn a_network_stays_of_an_address() {
        for (text, expected) in [
            ("203.0.113.77", "203.0.113.0"),
            ("::ffff:203.0.113.77", "203.0.113.0"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
            ("::1", "::"),
            ("unix:/run/x", "masked"),
            ("203.0.113.077", "masked"),
            ("", ""),
        ] {
            assert_eq!(shown(&Mask::Truncate, text), expected, "{text}");
            assert_eq!(shown(&Mask::Off, text), text);
        }
    }

    #[test]
    fn a_hash_is_that_of_the_packed_address() {
        let mask = Mask::Hash(Box::new(Keyed::new(b"secret")));
        // `printf '\xcb\x00\x71\x4d' | openssl dgst -sha256 -hmac secret`
        assert_eq!(shown(&mask, "203.0.113.77"), "h:b75a9741e025dea0");
        assert_eq!(shown(&mask, "::ffff:203.0.113.77"), shown(&mask, "203.0.113.77"));
        assert_ne!(shown(&mask, "203.0.113.78"), shown(&mask, "203.0.113.77"));
        assert_eq!((shown(&mask, "unix:"), shown(&mask, "")), ("masked".to_owned(), String::new()));
        assert_eq!(format!("{mask:?}"), "Hash(***)");
    }
}
