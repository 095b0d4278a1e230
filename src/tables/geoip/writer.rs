//! Writes small databases in MaxMind's form, so that tests need nobody's data.
//!
//! Source: MaxMind DB file format specification 2.0: a tree of 24-bit records, 16 NULs, values, metadata.

use std::net::IpAddr;

use ipnet::IpNet;

/// A value of the format, as far as our databases have them.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(&'static str),
    Double(f64),
    U16(u16),
    U32(u32),
    U64(u64),
    Map(Vec<(&'static str, Value)>),
    Texts(Vec<&'static str>),
}

/// Bytes of values that [`cities`] has at least.
pub(crate) const DATA_BYTES_MIN: usize = 60;

fn control(kind: u8, size: usize, out: &mut Vec<u8>) {
    let (first, more) = match size {
        0..29 => (u8::try_from(size).unwrap(), None),
        _ => (29, Some(u8::try_from(size - 29).unwrap())),
    };
    match kind {
        1..=7 => out.push(kind << 5 | first),
        _ => out.extend([first, kind - 7]),
    }
    out.extend(more);
}

impl Value {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::Text(text) => {
                control(2, text.len(), out);
                out.extend_from_slice(text.as_bytes());
            }
            Value::Double(x) => {
                control(3, 8, out);
                out.extend(x.to_be_bytes());
            }
            Value::U16(n) => {
                control(5, 2, out);
                out.extend(n.to_be_bytes());
            }
            Value::U32(n) => {
                control(6, 4, out);
                out.extend(n.to_be_bytes());
            }
            Value::U64(n) => {
                control(9, 8, out);
                out.extend(n.to_be_bytes());
            }
            Value::Map(entries) => {
                control(7, entries.len(), out);
                for (key, value) in entries {
                    Value::Text(key).write(out);
                    value.write(out);
                }
            }
            Value::Texts(all) => {
                control(11, all.len(), out);
                all.iter().for_each(|text| Value::Text(text).write(out));
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Child {
    Nothing,
    Node(usize),
    /// Offset among the values.
    Value(usize),
}

/// A database of that type with a value for each network; networks must not nest.
pub(crate) fn database(kind: &'static str, networks: &[(&str, Value)]) -> Vec<u8> {
    let (mut nodes, mut values) = (vec![[Child::Nothing; 2]], Vec::new());
    for (text, value) in networks {
        let net: IpNet = text.parse().unwrap();
        // IPv4 lies in ::/96.
        let (bits, length) = match net.network() {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), net.prefix_len() + 96),
            IpAddr::V6(v6) => (v6.to_bits(), net.prefix_len()),
        };
        let at = values.len();
        value.write(&mut values);
        let mut node = 0;
        for depth in 0..length {
            let side = usize::from(bits >> (127 - depth) & 1 == 1);
            if depth + 1 == length {
                nodes[node][side] = Child::Value(at);
            } else {
                let next = match nodes[node][side] {
                    Child::Node(next) => next,
                    _ => {
                        nodes.push([Child::Nothing; 2]);
                        nodes.len() - 1
                    }
                };
                nodes[node][side] = Child::Node(next);
                node = next;
            }
        }
    }
    let mut bytes = Vec::new();
    for child in nodes.iter().flatten() {
        let record = match child {
            Child::Nothing => nodes.len(),
            Child::Node(next) => *next,
            Child::Value(at) => nodes.len() + 16 + at,
        };
        bytes.extend_from_slice(&u32::try_from(record).unwrap().to_be_bytes()[1..]);
    }
    bytes.extend([0; 16]);
    bytes.extend(values);
    bytes.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    let metadata = Value::Map(vec![
        ("node_count", Value::U32(u32::try_from(nodes.len()).unwrap())),
        ("record_size", Value::U16(24)),
        ("ip_version", Value::U16(6)),
        ("database_type", Value::Text(kind)),
        ("languages", Value::Texts(vec!["en"])),
        ("binary_format_major_version", Value::U16(2)),
        ("binary_format_minor_version", Value::U16(0)),
        ("build_epoch", Value::U64(1_795_478_400)),
        ("description", Value::Map(vec![("en", Value::Text("made by a test"))])),
    ]);
    metadata.write(&mut bytes);
    bytes
}

fn country(code: &'static str) -> (&'static str, Value) {
    ("country", Value::Map(vec![("geoname_id", Value::U32(1)), ("iso_code", Value::Text(code))]))
}

/// Three networks: one with a city, one with a country, one of IPv6.
pub(crate) fn cities() -> Vec<u8> {
    let names = Value::Map(vec![("de", Value::Text("Trier (de)")), ("en", Value::Text("Trier"))]);
    let location = Value::Map(vec![
        ("accuracy_radius", Value::U16(20)),
        ("latitude", Value::Double(49.75)),
        ("longitude", Value::Double(6.64)),
        ("time_zone", Value::Text("Europe/Berlin")),
    ]);
    let trier = Value::Map(vec![
        ("city", Value::Map(vec![("geoname_id", Value::U32(2)), ("names", names)])),
        country("DE"),
        ("location", location),
    ]);
    database(
        "GeoLite2-City",
        &[
            ("203.0.113.0/24", trier),
            ("198.51.100.0/24", Value::Map(vec![country("NL")])),
            ("2001:db8::/32", Value::Map(vec![country("FR")])),
        ],
    )
}

/// One network with its system.
pub(crate) fn systems() -> Vec<u8> {
    let system = Value::Map(vec![
        ("autonomous_system_number", Value::U32(680)),
        ("autonomous_system_organization", Value::Text("Verein zur Foerderung eines Deutschen Forschungsnetzes e.V.")),
    ]);
    database("GeoLite2-ASN", &[("203.0.113.0/24", system)])
}
