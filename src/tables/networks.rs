//! Networks, and which of them hold an address.
//!
//! Networks in CIDR form nest or are apart, never anything between, so the whole set is cut into
//! stretches of addresses, each with the innermost network that holds it, and every network knows
//! the next one around it. A look-up is one binary search and a walk outwards:
//!
//! ```text
//! 10.0.0.0/8      |-------------------------------|
//! 10.1.0.0/16             |------|
//! stretches       |   /8  | /16  |      /8        |  none
//! ```
//!
//! One IPv4 network costs at most 2 × 20 bytes for its stretches and 24 for itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// No network.
const NONE: u32 = u32::MAX;

/// Where a stretch begins, as an address of IPv6 (IPv4 lies in `::ffff:0:0/96`), and the innermost
/// network of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    from: u128,
    net: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Net {
    net: IpNet,
    tag: u32,
    /// The next network around it.
    around: u32,
}

/// An unchangeable set of networks, each with a tag of the caller's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    nets: Vec<Net>,
    stretches: Vec<Stretch>,
}

/// An address as one of IPv6.
fn wide(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The same set of addresses with its host bits cleared; a network of mapped IPv4 is one of IPv4.
fn plain(net: IpNet) -> IpNet {
    match net.trunc() {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
            Some(v4) => Ipv4Net::new(v4, v6.prefix_len() - 96).map_or(IpNet::V6(v6), IpNet::V4),
            None => IpNet::V6(v6),
        },
        other => other,
    }
}

/// Reads a network or a single address: `203.0.113.0/24`, `2001:db8::/32`, `203.0.113.9`.
pub fn parse(text: &str) -> Option<IpNet> {
    if let Ok(net) = text.parse::<IpNet>() {
        return Some(plain(net));
    }
    text.parse::<IpAddr>().ok().map(|address| plain(IpNet::from(address)))
}

impl Networks {
    /// Builds the set. Host bits are ignored; equal networks with different tags all stay.
    pub fn build(given: impl IntoIterator<Item = (IpNet, u32)>) -> Self {
        let mut nets: Vec<Net> = given.into_iter().map(|(net, tag)| Net { net: plain(net), tag, around: NONE }).collect();
        // Outer before inner.
        let order = |net: &Net| (wide(net.net.network()), net.net.prefix_len() + if net.net.addr().is_ipv4() { 96 } else { 0 }, net.tag);
        nets.sort_unstable_by_key(order);
        nets.dedup();
        nets.truncate(NONE as usize);
        let mut stretches: Vec<Stretch> = Vec::new();
        let mut begin = |from: u128, net: u32| match stretches.last_mut() {
            Some(last) if last.from == from => last.net = net,
            _ => stretches.push(Stretch { from, net }),
        };
        // The networks that hold where we are, innermost last, each with its last address.
        let mut open: Vec<(u32, u128)> = Vec::new();
        let close = |open: &mut Vec<(u32, u128)>, before: Option<u128>, begin: &mut dyn FnMut(u128, u32)| {
            while let Some((_, last)) = open.last().copied().filter(|(_, last)| before.is_none_or(|before| *last < before)) {
                open.pop();
                if let Some(next) = last.checked_add(1) {
                    begin(next, open.last().map_or(NONE, |(net, _)| *net));
                }
            }
        };
        for (index, net) in nets.iter_mut().enumerate() {
            let (first, last) = (wide(net.net.network()), wide(net.net.broadcast()));
            close(&mut open, Some(first), &mut begin);
            net.around = open.last().map_or(NONE, |(net, _)| *net);
            let index = u32::try_from(index).unwrap_or(NONE);
            begin(first, index);
            open.push((index, last));
        }
        close(&mut open, None, &mut begin);
        stretches.shrink_to_fit();
        Self { nets, stretches }
    }

    /// How many networks there are.
    pub fn len(&self) -> usize {
        self.nets.len()
    }

    /// True if no address is in it.
    pub fn is_empty(&self) -> bool {
        self.nets.is_empty()
    }

    /// The networks that hold an address, innermost first, each with its tag.
    pub fn around(&self, address: IpAddr) -> impl Iterator<Item = (IpNet, u32)> + '_ {
        let address = wide(address);
        let after = self.stretches.partition_point(|stretch| stretch.from <= address);
        let mut at = after.checked_sub(1).and_then(|last| self.stretches.get(last)).map_or(NONE, |stretch| stretch.net);
        std::iter::from_fn(move || {
            let net = self.nets.get(at as usize)?;
            at = net.around;
            Some((net.net, net.tag))
        })
    }

    /// All networks with their tags, by address.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, u32)> + '_ {
        self.nets.iter().map(|net| (net.net, net.tag))
    }
}

/// Bytes of one network in [`encode`].
const ENCODED_BYTES: usize = 17;

/// Writes networks down, without tags: 16 bytes of address, and the prefix length: 0–32 for IPv4, 100 more than
/// itself for IPv6.
pub(super) fn encode(networks: &Networks) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(networks.len() * ENCODED_BYTES);
    for (net, _) in networks.iter() {
        bytes.extend_from_slice(&wide(net.network()).to_be_bytes());
        bytes.push(match net {
            IpNet::V4(v4) => v4.prefix_len(),
            IpNet::V6(v6) => 100 + v6.prefix_len(),
        });
    }
    bytes
}

/// Reads what [`encode`] wrote; `None` if it did not.
pub(super) fn decode(bytes: &[u8]) -> Option<Networks> {
    let (whole, rest) = bytes.as_chunks::<ENCODED_BYTES>();
    if !rest.is_empty() {
        return None;
    }
    let mut nets = Vec::with_capacity(whole.len());
    for chunk in whole {
        let [address @ .., length] = chunk;
        let address = Ipv6Addr::from_bits(u128::from_be_bytes(*address));
        nets.push(match *length {
            length @ 0..=32 => IpNet::V4(Ipv4Net::new(address.to_ipv4_mapped()?, length).ok()?),
            length @ 100..=228 => IpNet::V6(Ipv6Net::new(address, length - 100).ok()?),
            _ => return None,
        });
    }
    Some(Networks::build(nets.into_iter().map(|net| (net, 0))))
}

/// True if a network is so wide that it would match half the world: below /8 of IPv4 or /16 of
/// IPv6. In an export that is a slip, not an indicator.
pub fn is_too_wide(net: IpNet) -> bool {
    match net {
        IpNet::V4(v4) => v4.prefix_len() < 8,
        IpNet::V6(v6) => v6.prefix_len() < 16,
    }
}

/// An address in the form of the tables: IPv6 compressed in lower case, mapped IPv4 as IPv4.
pub fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, |v4: Ipv4Addr| IpAddr::V4(v4)),
        IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(nets: &[&str]) -> Networks {
        Networks::build(nets.iter().zip(0..).map(|(net, tag)| (parse(net).unwrap(), tag)))
    }

    fn tags(networks: &Networks, address: &str) -> Vec<u32> {
        networks.around(address.parse().unwrap()).map(|(_, tag)| tag).collect()
    }

    #[test]
    fn an_address_is_in_every_network_around_it_innermost_first() {
        let networks = set(&["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "2001:db8::/32", "::ffff:10.1.0.0/112", "255.255.255.255", "::/0"]);
        for (address, expected) in [
            ("10.0.0.0", &[0, 6][..]),
            ("10.255.255.255", &[0, 6]),
            ("11.0.0.0", &[6]),
            ("9.255.255.255", &[6]),
            ("10.1.2.3", &[2, 4, 1, 0, 6]),
            ("10.1.2.4", &[4, 1, 0, 6]),
            ("::ffff:10.1.2.4", &[4, 1, 0, 6]),
            ("255.255.255.255", &[5, 6]),
            ("2001:db8:ffff::1", &[3, 6]),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &[6]),
        ] {
            assert_eq!(tags(&networks, address), expected, "{address}");
        }
        assert_eq!(tags(&set(&[]), "10.0.0.1"), [0; 0]);
    }

    #[test]
    fn what_is_no_network_is_none() {
        for text in ["", "10.0.0.0/33", "10.0.0/8", "10.0.0.1/", "::/129", "evil.example", "010.0.0.1"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("10.1.2.3/8"), parse("10.0.0.0/8"));
    }

    #[test]
    fn written_networks_are_read_again() {
        let networks = set(&["10.0.0.0/8", "10.1.2.3", "0.0.0.0/0", "::/0", "2001:db8::1", "2001:db8::/32"]);
        let read = decode(&encode(&networks)).unwrap();
        assert!(read.iter().map(|(net, _)| net).eq(networks.iter().map(|(net, _)| net)));
        assert_eq!(decode(&[0; 16]), None);
        assert_eq!(decode(&[0xff; 17]), None, "no length");
        assert_eq!(decode(&[&[0; 16][..], &[8]].concat()), None, "no IPv4 address");
    }

    /// Few addresses and lengths, so that networks nest, touch and repeat.
    fn net() -> impl Strategy<Value = IpNet> {
        let bits = prop_oneof![0..8u8, 24..=32u8];
        (any::<bool>(), 0..8u32, bits).prop_map(|(is_v4, low, length)| match is_v4 {
            true => IpNet::V4(Ipv4Net::new(Ipv4Addr::from(low << 29 | low), length).unwrap()),
            false => IpNet::V6(Ipv6Net::new(Ipv6Addr::from(u128::from(low) << 125 | u128::from(low)), length.saturating_add(90)).unwrap()),
        })
    }

    proptest! {
        #[test]
        fn the_set_agrees_with_a_look_at_every_network(nets in proptest::collection::vec(net(), 0..24), probes in proptest::collection::vec(net(), 1..24)) {
            let networks = Networks::build(nets.iter().zip(0..).map(|(net, tag)| (*net, tag)));
            let edges = nets.iter().flat_map(|net| [net.network(), net.broadcast()]);
            for address in probes.iter().map(IpNet::addr).chain(edges) {
                let mut found: Vec<u32> = networks.around(address).map(|(_, tag)| tag).collect();
                let inside: Vec<u8> = networks.around(address).map(|(net, _)| net.prefix_len() + if net.addr().is_ipv4() { 96 } else { 0 }).collect();
                prop_assert!(inside.is_sorted_by(|a, b| a >= b), "{inside:?}");
                found.sort_unstable();
                let naive: Vec<u32> = (0u32..).zip(&nets).filter(|(_, net)| {
                    let address = wide(address);
                    wide(net.network()) <= address && address <= wide(net.broadcast())
                }).map(|(tag, _)| tag).collect();
                prop_assert_eq!(found, naive, "{}", address);
            }
            let again = decode(&encode(&networks)).unwrap();
            prop_assert!(again.iter().map(|(net, _)| net).eq(Networks::build(nets.iter().map(|net| (*net, 0))).iter().map(|(net, _)| net)));
        }
    }
}
