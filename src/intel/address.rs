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

/// The normal form: as the standard library writes it, which takes four times as long for version 4.
pub(super) fn text(address: IpAddr) -> String {
    let IpAddr::V4(v4) = address else { return address.to_string() };
    let mut text = String::with_capacity(15);
    for (n, octet) in v4.octets().into_iter().enumerate() {
        if n > 0 {
            text.push('.');
        }
        let digits = [octet / 100, octet / 10 % 10, octet % 10];
        let skipped = if octet > 99 { 0 } else { 2 - usize::from(octet > 9) };
        text.extend(digits.into_iter().skip(skipped).map(|digit| char::from(b'0' + digit)));
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_the_standard_library_writes_them() {
        for octet in 0..=255_u8 {
            let found = IpAddr::from([octet, octet.wrapping_mul(7), 0, octet]);
            assert_eq!(text(found), found.to_string());
        }
        assert_eq!(text(IpAddr::from([0x2a0e, 0xb107, 0, 0, 0, 0, 0, 1])), "2a0e:b107::1");
    }
}
