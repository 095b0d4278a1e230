//! Networks that MISP knows: no question for an address finds them, so all are loaded and kept here. Pure.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    rc::Rc,
};

use ipnet::IpNet;

use super::{attribute::Attribute, value};

/// Shorter prefixes hold half the world; an attribute with one is a mistake.
const PREFIX_MIN: [u8; 2] = [8, 16];

/// Attributes by network.
#[derive(Clone, Debug, Default)]
pub struct Networks {
    by_network: HashMap<IpNet, Vec<Rc<Attribute>>>,
    /// Lengths of prefixes that occur, for each version: as many probes as there are lengths.
    lengths: [BTreeSet<u8>; 2],
}

impl Networks {
    /// Those in the values of these attributes; what holds no network is passed over.
    pub fn new(attributes: impl IntoIterator<Item = Attribute>) -> Self {
        let mut networks = Self::default();
        for attribute in attributes {
            networks.add(Rc::new(attribute));
        }
        networks
    }

    /// Adds one attribute; false if it holds no network.
    fn add(&mut self, attribute: Rc<Attribute>) -> bool {
        let found: BTreeSet<IpNet> = value::parts(&attribute.kind, &attribute.value)
            .filter_map(|part| part.trim().parse::<IpNet>().ok())
            .map(|net| net.trunc())
            .collect();
        let mut is_any = false;
        for net in found {
            let version = usize::from(net.addr().is_ipv6());
            if net.prefix_len() < PREFIX_MIN[version] {
                continue;
            }
            self.lengths[version].insert(net.prefix_len());
            self.by_network.entry(net).or_default().push(attribute.clone());
            is_any = true;
        }
        is_any
    }

    /// Attributes whose network holds the address, the narrowest first.
    pub fn of(&self, address: IpAddr) -> Vec<Rc<Attribute>> {
        let mut found = Vec::new();
        for length in self.lengths[usize::from(address.is_ipv6())].iter().rev() {
            let net = IpNet::new(address, *length).map(|net| net.trunc());
            found.extend(net.ok().and_then(|net| self.by_network.get(&net)).into_iter().flatten().cloned());
        }
        found
    }

    /// Networks held.
    pub fn len(&self) -> usize {
        self.by_network.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.by_network.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attribute(value: &str) -> Attribute {
        Attribute { kind: "ip-dst".into(), value: value.into(), ..Attribute::default() }
    }

    fn of(networks: &Networks, address: &str) -> Vec<String> {
        networks.of(address.parse().unwrap()).iter().map(|a| a.value.to_string()).collect()
    }

    #[test]
    fn an_address_finds_its_networks_the_narrowest_first() {
        let values = ["192.0.2.0/24", "192.0.2.128/25", "192.0.2.129/25", "10.0.0.0/7", "2001:db8::/32", "8.8.8.8", "not/a/net"];
        let networks = Networks::new(values.map(attribute));
        assert_eq!(of(&networks, "192.0.2.200"), ["192.0.2.128/25", "192.0.2.129/25", "192.0.2.0/24"]);
        assert_eq!(of(&networks, "192.0.2.1"), ["192.0.2.0/24"]);
        assert_eq!(of(&networks, "2001:db8::1"), ["2001:db8::/32"]);
        assert_eq!(of(&networks, "10.0.0.1"), Vec::<String>::new(), "a seventh of the world is a mistake");
        assert_eq!(networks.len(), 3);
        let composite = Attribute { kind: "ip-dst|port".into(), value: "192.0.2.0/24|443".into(), ..Attribute::default() };
        assert_eq!(of(&Networks::new([composite]), "192.0.2.9"), ["192.0.2.0/24|443"]);
    }

    proptest! {
        #[test]
        fn it_agrees_with_looking_at_each(nets in prop::collection::vec((any::<u16>(), 8u8..=32), 0..16), address: u16) {
            let ip = |low: u16| std::net::Ipv4Addr::from(0x0102_0000 | u32::from(low));
            let values: Vec<_> = nets.iter().map(|(low, length)| format!("{}/{length}", ip(*low))).collect();
            let networks = Networks::new(values.iter().map(|value| attribute(value)));
            let address = IpAddr::from(ip(address));
            let mut found: Vec<_> = networks.of(address).iter().map(|a| a.value.to_string()).collect();
            let mut twin: Vec<_> = values.into_iter().filter(|value| value.parse::<IpNet>().unwrap().contains(&address)).collect();
            found.sort();
            twin.sort();
            prop_assert_eq!(found, twin);
        }
    }
}
