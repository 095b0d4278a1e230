//! Addresses: how they are written, and which of them mean somebody on the Internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Four decimal octets without leading zeros.
pub(super) fn v4(text: &str) -> Option<Ipv4Addr> {
    // The standard library takes exactly this form, at most 15 bytes of it.
    (text.len() <= 15).then(|| text.parse().ok()).flatten()
}

/// An address of version 6; one that carries a version 4 address is that.
pub(super) fn v6(text: &str) -> Option<IpAddr> {
    if text.len() > 45 {
        return None;
    }
    let address: Ipv6Addr = text.parse().ok()?;
    Some(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4))
}

/// True for a unicast address that is routed on the Internet.
///
/// RFC 6890 and its successors; of version 6 only what is assigned, 2000::/3, without the block
/// for documentation.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !matches!(
                (a, b, c),
                (0 | 10 | 127, ..)
                    | (100, 64..=127, _)
                    | (169, 254, _)
                    | (172, 16..=31, _)
                    | (192, 0, 0 | 2)
                    | (192, 88, 99)
                    | (192, 168, _)
                    | (198, 18 | 19, _)
                    | (198, 51, 100)
                    | (203, 0, 113)
                    | (224.., ..)
            )
        }
        IpAddr::V6(v6) => {
            let [a, b, ..] = v6.segments();
            a & 0xe000 == 0x2000 && (a, b) != (0x2001, 0x0db8)
        }
    }
}

/// An address as it is written alone: perhaps in brackets, with a port, a zone or a prefix.
pub(super) fn parse(text: &str) -> Option<IpAddr> {
    if let Some((inside, after)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        let is_port = |port: &str| !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
        return (after.is_empty() || after.strip_prefix(':').is_some_and(is_port)).then(|| parse(inside)).flatten();
    }
    let bare = text.split(['/', '%']).next().unwrap_or_default();
    match bare.split_once(':') {
        None => v4(bare).map(IpAddr::V4),
        Some((host, port)) if host.contains('.') => v4(host).filter(|_| port.parse::<u16>().is_ok()).map(IpAddr::V4),
        Some(_) => v6(bare),
    }
}
