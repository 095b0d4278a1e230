//! Addresses that name nobody on the Internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), prefix))
}

const fn v6(a: u16, last: u16, prefix: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, 0, 0, 0, 0, 0, 0, last), prefix))
}

/// Networks that every site may use for itself, and those of one host or one link.
///
/// Source: RFC 1918, RFC 6598 (shared by carriers), RFC 3927, RFC 4193, RFC 4291, and 0.0.0.0/8 of RFC 1122.
pub const NETWORKS: &[IpNet] = &[
    v4(0, 0, 8),
    v4(10, 0, 8),
    v4(100, 64, 10),
    v4(127, 0, 8),
    v4(169, 254, 16),
    v4(172, 16, 12),
    v4(192, 168, 16),
    v6(0, 0, 128),
    v6(0, 1, 128),
    v6(0xfc00, 0, 7),
    v6(0xfe80, 0, 10),
];

/// True if an address lies in one of [`NETWORKS`].
pub fn is_private(address: IpAddr) -> bool {
    NETWORKS.iter().any(|network| network.contains(&address))
}

/// True if a whole network lies in one of [`NETWORKS`].
pub fn is_private_network(network: IpNet) -> bool {
    NETWORKS.iter().any(|private| private.contains(&network))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_private() {
        let private = [
            "0.1.2.3",
            "10.9.8.7",
            "100.127.0.1",
            "127.0.0.1",
            "169.254.9.9",
            "172.31.255.255",
            "192.168.1.100",
            "::",
            "::1",
            "fd00::1",
            "fe80::1",
        ];
        let public = ["1.0.0.1", "11.0.0.1", "100.128.0.1", "172.32.0.1", "192.169.0.1", "8.8.8.8", "2001:db8::1", "::2", "ff02::1"];
        assert!(private.iter().all(|text| is_private(text.parse().unwrap())));
        assert!(public.iter().all(|text| !is_private(text.parse().unwrap())));
        for (text, expected) in
            [("10.1.0.0/16", true), ("10.0.0.0/8", true), ("10.0.0.0/7", false), ("fd00::/8", true), ("fc00::/6", false)]
        {
            assert_eq!(is_private_network(text.parse().unwrap()), expected, "{text}");
        }
    }
}
