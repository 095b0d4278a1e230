//! Look-ups against a naive twin, and files in every form.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use proptest::prelude::*;

use super::*;
use crate::tables::networks;

/// What a file of these bytes holds, and what of it does not count.
fn parsed(bytes: &[u8], match_private: bool) -> (Builder, LeftOut) {
    let open = || -> std::io::Result<Box<dyn std::io::Read>> { Ok(Box::new(std::io::Cursor::new(bytes.to_vec()))) };
    let mut builder = Builder::default();
    let mut adding = builder.begin();
    let left_out = read(&open, match_private, &mut adding).unwrap();
    let networks = adding.count();
    assert!(count(&open).unwrap() >= networks);
    adding.finish("x");
    (builder, left_out)
}

fn entries(builder: &Builder) -> (&[Packed4], &[Packed6]) {
    (&builder.v4, &builder.v6)
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| networks::parse(text).unwrap()).collect()
}

#[test]
fn the_longest_network_names_the_list_and_allow_wins_over_all() {
    let lists = [
        ("a", nets(&["198.51.0.0/16", "2001:db8::/32", "203.0.113.9", "255.255.255.255"])),
        ("b", nets(&["198.51.7.0/24", "2001:db8:7::/48", "203.0.113.9", "172.0.0.0/8"])),
    ];
    let own = Own { allow: nets(&["198.51.7.7", "192.0.2.1"]), bad: nets(&["192.0.2.0/24", "10.0.0.66"]), match_private: false };
    let table = Reputation::of(lists, &own);
    for (address, expected) in [
        ("198.51.6.255", Some("a")),
        ("198.51.7.0", Some("b")),
        ("198.51.8.0", Some("a")),
        ("198.52.0.0", None),
        ("198.51.7.7", None),
        ("203.0.113.9", Some("a")),
        ("203.0.113.10", None),
        ("255.255.255.255", Some("a")),
        ("::ffff:198.51.7.1", Some("b")),
        ("2001:db8:6:ffff::", Some("a")),
        ("2001:db8:7::1", Some("b")),
        ("2001:db9::", None),
        ("192.0.2.2", Some(OWN)),
        ("192.0.2.1", None),
        ("10.0.0.66", Some(OWN)),
        ("172.15.0.1", Some("b")),
        ("172.16.0.1", None),
    ] {
        assert_eq!(table.list_of(address.parse().unwrap()), expected, "{address}");
    }
    assert_eq!((table.len(), table.lists().len(), table.is_empty()), (10, 2, false));
    let private = Reputation::of([("b", nets(&["172.0.0.0/8"]))], &Own { match_private: true, ..Own::default() });
    assert_eq!(private.list_of("172.16.0.1".parse().unwrap()), Some("b"));
}

#[test]
fn every_form_of_a_file_is_read() {
    let netset = "# FireHOL-like\n203.0.113.0/24\n198.51.100.7\n\n2001:db8::/32 # six\n10.0.0.0/8\n0.0.0.0/1\n::/8\nnonsense\n";
    let drop = "; DROP list\r\n203.0.113.0/24 ; SBL1\r\n198.51.100.7/32 ; SBL2\r\n2001:db8::/32 ; SBL3\r\n";
    let drop_json = "{\"cidr\":\"203.0.113.0/24\",\"sblid\":\"SBL1\",\"rir\":\"x\"}\n{\"cidr\":\"198.51.100.7/32\",\"sblid\":\"SBL2\"}\n\
                     {\"cidr\":\"2001:db8::/32\"}\n{\"type\":\"metadata\",\"timestamp\":1764000000,\"records\":3}\n";
    let csv = "\u{feff}203.0.113.0/24,2026-01-01\n\"198.51.100.7\",x\n  2001:db8::/32\t5\n";
    let decision = |kind: &str, scope: &str, value: &str| {
        format!(r#"{{"duration":"3h","id":1,"origin":"crowdsec","scenario":"x","scope":"{scope}","type":"{kind}","value":"{value}"}}"#)
    };
    let three = [decision("ban", "Range", "203.0.113.0/24"), decision("ban", "ip", "198.51.100.7"), decision("Ban", "Ip", "2001:db8::/32")];
    let other = [
        decision("captcha", "Ip", "192.0.2.1"),
        decision("ban", "Country", "DE"),
        r#"{"scope":"Ip","type":"ban","value":"192.0.2.2","simulated":true}"#.to_owned(),
    ];
    let decisions = [three.as_slice(), &other].concat().join(",");
    let cscli = format!("[\n{{\"id\":7,\"decisions\":[{decisions}],\"scenario\":\"x\"}}\n]\n");
    let stream = format!("{{\"new\":[{decisions}],\"deleted\":[{}]}}", decision("ban", "Ip", "192.0.2.3"));
    let misp = r#"{"response":[{"Event":{"Attribute":[
        {"type":"ip-src","value":"203.0.113.0/24","to_ids":true},{"type":"ip-dst|port","value":"198.51.100.7|443"},
        {"type":"ip-dst","value":"192.0.2.4","to_ids":false},{"type":"domain","value":"evil.example"},
        {"type":"ip-src","value":"192.0.2.5","deleted":true}],
        "Object":[{"Attribute":[{"type":"ip-src","value":"2001:db8::/32"}]}]}}]}"#;
    let mut expected = Builder::default();
    let mut adding = expected.begin();
    nets(&["203.0.113.0/24", "198.51.100.7", "2001:db8::/32", "198.51.100.7"]).into_iter().for_each(|net| adding.push(net));
    adding.finish("x");
    assert_eq!(expected.lists[0].networks, 3, "equal ones are one");
    for text in [netset, drop, drop_json, csv, &cscli, &stream, misp] {
        let (found, left_out) = parsed(text.as_bytes(), false);
        assert_eq!(entries(&found), entries(&expected), "{text}");
        if text == netset {
            assert_eq!(left_out.to_string(), "1 unusable, 2 too wide, 1 private (first on line 7: \"0.0.0.0/1\")");
        } else {
            assert_eq!(left_out, LeftOut::default(), "{text}");
        }
    }
    assert_eq!(parsed(netset.as_bytes(), true).0.lists[0].networks, 4);
    let (broken, left_out) = parsed(b"{\"cidr\":\"203.0.113.0/24\"}\n{\"cidr\":\n\xff\n", false);
    assert_eq!((broken.lists[0].networks, left_out.unusable, left_out.first.unwrap().0), (1, 2, 2));
}

#[test]
fn lines_are_read_across_blocks_and_one_that_is_too_long_costs_itself() {
    let mut text = String::new();
    for n in 0..9000_u32 {
        text += &format!("203.{}.{}.7 # a line of some length, so that blocks end within it\n", n / 256, n % 256);
    }
    let long = format!("198.51.100.1\n{} 198.51.100.2\n198.51.100.3\n", "x".repeat(200_000));
    let (found, left_out) = parsed(format!("{text}{long}198.51.100.4").as_bytes(), false);
    assert_eq!((found.lists[0].networks, left_out.unusable, left_out.first.unwrap().0), (9003, 1, 9002));
}

#[test]
fn a_list_is_kept_as_another_table_has_it() {
    let before = Reputation::of([("a", nets(&["203.0.113.1"])), ("b", nets(&["203.0.113.2", "2001:db8::/32"]))], &Own::default());
    let mut builder = Builder::with_capacity(1);
    assert!(builder.keep("b", &before) && !builder.keep("c", &before));
    let mut adding = builder.begin();
    adding.push(nets(&["203.0.113.3"])[0]);
    adding.clear();
    adding.push(nets(&["203.0.113.4"])[0]);
    adding.finish("d");
    let table = builder.finish(&Own::default());
    let of = |address: &str| table.list_of(address.parse().unwrap()).map(str::to_owned);
    let found = ["203.0.113.1", "203.0.113.2", "2001:db8::7", "203.0.113.3", "203.0.113.4"].map(of);
    assert_eq!(found.each_ref().map(Option::as_deref), [None, Some("b"), Some("b"), None, Some("d")]);
    assert_eq!(table.len(), 3);
}

#[test]
fn a_million_entries_take_less_than_64_mib_also_while_they_are_read_anew() {
    // Scattered, so that nothing joins.
    let scattered = |n: u32| n.wrapping_mul(2_654_435_761);
    let v4 = (0..1_100_000).map(|n| IpNet::from(IpAddr::V4(Ipv4Addr::from_bits(scattered(n)))));
    let v6 = (0..1_100_000).map(|n| IpNet::from(IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) | u128::from(scattered(n)) << 40))));
    // In one network that is on the list as well: each knows what is around it.
    let nested = |all: &'static str| networks::parse(all).into_iter();
    for (networks, most) in [
        (v4.clone().collect::<Vec<_>>(), 8 << 20),
        (v6.clone().collect(), 21 << 20),
        (nested("0.0.0.0/0").chain(v4).collect(), 17 << 20),
        (nested("2001:db8::/32").chain(v6).collect(), 29 << 20),
    ] {
        let table = Reputation::of([("a", networks)], &Own::default());
        assert!(table.len() >= 1_100_000 && table.bytes() < most, "{} bytes of {}", table.bytes(), table.len());
        // The one in use and the next one.
        assert!(2 * table.bytes() < 64 << 20);
    }
}

/// Few addresses and lengths, so that networks nest, touch and repeat; at both ends of all addresses.
fn net() -> impl Strategy<Value = IpNet> {
    let bits = prop_oneof![8..12u8, 26..=32u8];
    (any::<bool>(), 0..8u32, bits).prop_map(|(is_v4, low, length)| match is_v4 {
        true => IpNet::V4(Ipv4Net::new(Ipv4Addr::from(low << 29 | low | 0x0100_0000), length).unwrap().trunc()),
        false => IpNet::V6(Ipv6Net::new(Ipv6Addr::from(u128::from(low) << 125 | u128::from(low)), length + 96).unwrap().trunc()),
    })
}

proptest! {
    #[test]
    fn a_look_up_agrees_with_a_look_at_every_network(
        lists in proptest::collection::vec(proptest::collection::vec(net(), 0..10), 0..4),
        allow in proptest::collection::vec(net(), 0..2),
        probes in proptest::collection::vec(net(), 1..12),
        match_private: bool,
    ) {
        let names = ["a", "b", "c", "d"];
        let table = Reputation::of(names.into_iter().zip(lists.clone()), &Own { allow: allow.clone(), bad: Vec::new(), match_private });
        let edges = lists.iter().flatten().flat_map(|net| {
            let after = match net.broadcast() {
                IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits().wrapping_add(1))),
                IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits().wrapping_add(1))),
            };
            [net.network(), net.broadcast(), after]
        });
        for address in probes.iter().map(IpNet::addr).chain(edges) {
            // A mapped address would be looked up as IPv4.
            if address != canonical(address) {
                continue;
            }
            let mut longest: Option<(u8, &str)> = None;
            for (list, name) in lists.iter().zip(names) {
                for net in list.iter().filter(|net| net.contains(&address)) {
                    if longest.is_none_or(|(length, _)| net.prefix_len() > length) {
                        longest = Some((net.prefix_len(), name));
                    }
                }
            }
            let is_out = allow.iter().any(|net| net.contains(&address)) || (!match_private && is_private(address));
            prop_assert_eq!(table.list_of(address), longest.filter(|_| !is_out).map(|(_, name)| name), "{}", address);
        }
    }

    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        parsed(&bytes, false);
    }
}
