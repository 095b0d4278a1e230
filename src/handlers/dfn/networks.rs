//! Which addresses are ours, or nobody's on the Internet.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Networks of the operator, and whether private addresses count as ours.
#[derive(Clone, Debug, Default)]
pub(super) struct Networks {
    own: Vec<IpNet>,
    drop_private: bool,
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(std::net::Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, d: u16, last: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, last), prefix)
}

/// Not globally reachable by IANA's special-purpose registry for IPv4.
const NOT_GLOBAL_4: &[Ipv4Net] = &[
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(240, 0, 0, 0, 4),
];
/// Parts of these that are.
const GLOBAL_4: &[Ipv4Net] = &[v4(192, 0, 0, 9, 32), v4(192, 0, 0, 10, 32)];

/// Not globally reachable by the registry for IPv6.
const NOT_GLOBAL_6: &[Ipv6Net] = &[
    v6(0, 0, 0, 0, 0, 128),
    v6(0, 0, 0, 0, 1, 128),
    v6(0x64, 0xff9b, 1, 0, 0, 48),
    v6(0x100, 0, 0, 0, 0, 64),
    v6(0x2001, 0, 0, 0, 0, 23),
    v6(0x2001, 0xdb8, 0, 0, 0, 32),
    v6(0x2002, 0, 0, 0, 0, 16),
    v6(0x3fff, 0, 0, 0, 0, 20),
    v6(0x5f00, 0, 0, 0, 0, 16),
    v6(0xfc00, 0, 0, 0, 0, 7),
    v6(0xfe80, 0, 0, 0, 0, 10),
];
/// Parts of these that are.
const GLOBAL_6: &[Ipv6Net] = &[
    v6(0x2001, 1, 0, 0, 1, 128),
    v6(0x2001, 1, 0, 0, 2, 128),
    v6(0x2001, 3, 0, 0, 0, 32),
    v6(0x2001, 4, 0x112, 0, 0, 48),
    v6(0x2001, 0x20, 0, 0, 0, 28),
    v6(0x2001, 0x30, 0, 0, 0, 28),
];

impl Networks {
    /// Reads networks such as `136.199.0.0/16`; an address alone is a network of one.
    ///
    /// # Errors
    /// What is wrong, and the remedy.
    pub(super) fn parse(texts: &[String], drop_private: bool) -> Result<Self, String> {
        let mut own = Vec::new();
        for text in texts {
            let text = text.trim();
            let network = match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
                (Ok(network), _) => network,
                (_, Ok(address)) => IpNet::from(address),
                _ => return Err(format!("{text:?} is no network; write it as 136.199.0.0/16 or 2001:db8::/32")),
            };
            if network.trunc() != network {
                return Err(format!("{text} has bits set behind its prefix; did you mean {}?", network.trunc()));
            }
            own.push(network);
        }
        Ok(Self { own, drop_private })
    }

    /// Why a source should not be shipped: `own_network`, `not_global`; `None` if it should, and
    /// for what is no address.
    pub(super) fn internal(&self, source: &str) -> Option<&'static str> {
        if self.own.is_empty() && !self.drop_private {
            return None;
        }
        let address = address(source)?;
        if self.own.iter().any(|network| network.contains(&address)) {
            return Some("own_network");
        }
        (!is_global(address)).then_some("not_global")
    }
}

/// The address in a text: blanks and brackets around it and a zone behind it are put aside, and
/// an IPv4 address mapped into IPv6 is the IPv4 address.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let text = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text).trim();
    let bare = match text.split_once('%') {
        Some((address, zone)) if !zone.is_empty() && !zone.contains('%') => address.parse::<Ipv6Addr>().ok()?.into(),
        _ => text.parse::<IpAddr>().ok()?,
    };
    Some(bare.to_canonical())
}

fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => GLOBAL_4.iter().any(|n| n.contains(&a)) || !NOT_GLOBAL_4.iter().any(|n| n.contains(&a)),
        IpAddr::V6(a) => GLOBAL_6.iter().any(|n| n.contains(&a)) || !NOT_GLOBAL_6.iter().any(|n| n.contains(&a)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_judged_by_its_address() {
        let own = ["136.199.0.0/16".to_owned(), "2001:638:a0f::/48".into(), "192.0.2.7".into()];
        let networks = Networks::parse(&own, false).unwrap();
        let cases = [
            ("136.199.3.4", Some("own_network")),
            (" [136.199.3.4] ", Some("own_network")),
            ("::ffff:136.199.3.4", Some("own_network")),
            ("2001:638:a0f:1::2", Some("own_network")),
            ("192.0.2.7", Some("own_network")),
            ("192.0.2.8", Some("not_global")),
            ("136.200.0.0", None),
            ("::ffff:100.64.0.1", Some("not_global")),
            ("::ffff:8.8.8.8", None),
            ("fe80::1%eth0", Some("not_global")),
            ("2a02::1%", None),
            ("3fff:0fff::", Some("not_global")),
            ("2001:30::1", None),
            ("192.0.0.10", None),
            ("192.0.0.11", Some("not_global")),
            ("255.255.255.255", Some("not_global")),
            ("224.0.0.1", None),
            ("010.1.1.1", None),
            ("10.1.1.1:22", None),
            ("host.example", None),
            ("", None),
        ];
        for (source, why) in cases {
            assert_eq!(networks.internal(source), why, "{source}");
        }
        assert_eq!(Networks::default().internal("127.0.0.1"), None, "no filter unless asked for");
        assert_eq!(Networks::parse(&[], true).unwrap().internal("127.0.0.1"), Some("not_global"));
    }

    #[test]
    fn a_network_that_is_none_is_answered() {
        for wrong in ["10.0.0.0/33", "10.0.0.1/8", "here", "", "2001:db8::1/32"] {
            assert!(Networks::parse(&[wrong.to_owned()], false).is_err(), "{wrong}");
        }
    }
}
