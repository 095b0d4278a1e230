//! Rows of MISP as attributes of the local tables, and back. Pure.
//!
//! A row stands in the tables under everything by which a search of MISP would find it: the whole
//! value and, of a composite, each part, in the form in which values are compared ([`value::normal`]).
//! So whoever goes by the tables finds what MISP would have found; a test holds it to that.

use std::collections::BTreeMap;

use super::{attribute::Attribute, value};
use crate::{
    intel::{IocType, normal},
    tables::{self, Indicator, Kind, Uuid, kinds, networks},
};

/// The form of a value in which the tables know it: that of extraction, and then that in which
/// values are asked for.
///
/// A network has no normal form among indicators of alerts: it is written in CIDR form.
pub fn normal_form(kind: Kind, value: &str) -> Option<String> {
    if kind == Kind::Ip && value.contains('/') {
        let net = networks::parse(value.trim())?;
        let is_one = net.prefix_len() == net.max_prefix_len();
        return Some(if is_one { net.addr().to_string() } else { net.to_string() });
    }
    // An export may name no type, and a value may look like none.
    let own = normal(IocType::of(kind.name())?, value)?;
    Some(value::normal(&own))
}

/// What the tables keep of a row: one attribute for each value by which it can be found; none if an
/// alert holds no such thing.
pub fn attributes(row: &Attribute) -> Vec<tables::Attribute> {
    let mut found: BTreeMap<String, Kind> = BTreeMap::new();
    for (kind, part) in kinds::values(Some(&row.kind), &row.value) {
        if let Some(form) = normal_form(kind, part) {
            found.entry(form).or_insert(kind);
        }
    }
    // MISP searches without a look at types: what the tables find strange is found all the same.
    for part in value::parts(&row.kind, &row.value) {
        let form = value::normal(part);
        // What a question could be: a normal form that is its own, of any type.
        let is_own = |of: &IocType| normal(*of, &form).is_some_and(|own| value::normal(&own) == form);
        if let Some(of) = IocType::ALL.iter().find(|of| is_own(of)) {
            found.entry(form.clone()).or_insert(Kind::parse(of.as_str()).unwrap_or(Kind::Unknown));
        }
    }
    let with = |(form, kind): (String, Kind)| tables::Attribute {
        misp_type: row.kind.to_string(),
        value: if *form == *row.value { String::new() } else { row.value.to_string() },
        category: row.category.to_string(),
        uuid: Uuid::parse(&row.uuid),
        id: row.id.to_string(),
        event_id: row.event_id.to_string(),
        event_uuid: Uuid::parse(&row.event_uuid),
        event_info: row.event_info.to_string(),
        tags: row.tags.iter().map(ToString::to_string).collect(),
        to_ids: Some(row.to_ids),
        timestamp: row.timestamp,
        ..tables::Attribute::bare(Indicator::Text(form), kind)
    };
    found.into_iter().map(with).collect()
}

/// An attribute of the tables as MISP would answer it.
pub fn row(attribute: &tables::Attribute) -> Attribute {
    let own = match &attribute.indicator {
        Indicator::Text(text) => text.as_str(),
        Indicator::Sum(_) => "",
    };
    let value = if attribute.value.is_empty() { own } else { &attribute.value };
    let text = |uuid: Option<Uuid>| uuid.map(|uuid| uuid.to_string()).unwrap_or_default().into();
    Attribute {
        id: attribute.id.as_str().into(),
        uuid: text(attribute.uuid),
        event_id: attribute.event_id.as_str().into(),
        event_uuid: text(attribute.event_uuid),
        event_info: attribute.event_info.as_str().into(),
        kind: attribute.misp_type.as_str().into(),
        category: attribute.category.as_str().into(),
        value: value.into(),
        // Exports that do not say hold what is meant for detection.
        to_ids: attribute.to_ids.unwrap_or(true),
        deleted: false,
        timestamp: attribute.timestamp,
        tags: attribute.tags.iter().map(|tag| tag.as_str().into()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        lookups::misp::networks::Networks,
        tables::{
            Filter, Hit, Indicators,
            build::{Builder, InMemory},
            changes::Changes,
            value::{Expand, asks},
        },
    };

    #[test]
    fn tables_and_extraction_speak_of_one_form() {
        for (kind, value, expected) in [
            (Kind::Ip, "203.0.113.9", Some("203.0.113.9")),
            (Kind::Ip, "2001:DB8:0::1", Some("2001:db8::1")),
            (Kind::Ip, "203.0.113.77/24", Some("203.0.113.0/24")),
            (Kind::Ip, "203.0.113.9/32", Some("203.0.113.9")),
            (Kind::Ip, "203.0.113.0/40", None),
            (Kind::Domain, "Evil.Example.com.", Some("evil.example.com")),
            (Kind::Url, "HTTP://Evil.Example.com/Path", Some("http://evil.example.com/Path")),
            (Kind::Url, "http://User@Evil.Example.com/Path", Some("http://user@evil.example.com/Path")),
            (Kind::Md5, "D41D8CD98F00B204E9800998ECF8427E", Some("d41d8cd98f00b204e9800998ecf8427e")),
            (Kind::Md5, "short", None),
            (Kind::Unknown, "word", None),
        ] {
            assert_eq!(normal_form(kind, value).as_deref(), expected, "{value}");
        }
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Unknown) {
            assert_eq!(IocType::of(kind.name()).map(IocType::as_str), Some(kind.name()));
        }
        assert_eq!(IocType::ALL.len() + 1, Kind::ALL.len());
    }

    fn misp_row(kind: &str, value: &str) -> Attribute {
        Attribute {
            id: "7".into(),
            uuid: "5a8b2c1d-0000-4000-8000-00000000abcd".into(),
            event_id: "3".into(),
            event_uuid: "5a8b2c1d-0000-4000-8000-000000000042".into(),
            event_info: "Emotet".into(),
            kind: kind.into(),
            category: "Network activity".into(),
            value: value.into(),
            to_ids: true,
            deleted: false,
            timestamp: 1_700_000_000,
            tags: vec!["tlp:green".into()],
        }
    }

    #[test]
    fn a_row_comes_back_as_it_was_under_every_value_that_finds_it() {
        let sum = "0123456789abcdef0123456789abcdef";
        for (kind, value, forms) in [
            ("ip-dst|port", "203.0.113.9|443", vec!["203.0.113.9"]),
            ("domain|ip", "Evil.com|203.0.113.9", vec!["203.0.113.9", "evil.com"]),
            ("ip-src", "203.0.113.0/24", vec!["203.0.113.0/24"]),
            ("x509-fingerprint-md5", sum, vec![sum]),
            ("filename|md5", &format!("a b.exe|{sum}"), vec![sum]),
            ("comment", "seen in March", vec![]),
        ] {
            let misp = misp_row(kind, value);
            let kept = attributes(&misp);
            let texts: Vec<String> = kept
                .iter()
                .map(|kept| match &kept.indicator {
                    Indicator::Text(text) => text.clone(),
                    Indicator::Sum(_) => panic!(),
                })
                .collect();
            assert_eq!(texts, forms, "{kind}");
            assert!(kept.iter().all(|kept| row(kept) == misp), "{kind}");
        }
    }

    /// What a search of MISP finds: the lookup's own comparison, row by row, and its networks.
    fn finds(rows: &[Attribute], asked: &str) -> bool {
        let in_network = |address| {
            let nets = rows.iter().filter(|row| ["ip-src", "ip-dst"].contains(&&*row.kind)).cloned();
            !Networks::new(nets).of(address).is_empty()
        };
        value::address(asked).is_some_and(in_network)
            || rows.iter().any(|row| value::parts(&row.kind, &row.value).any(|part| value::normal(part) == asked))
    }

    fn word() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-cA-C]{1,2}(\\.[a-c]{1,2}){0,2}\\.(com|co\\.uk|org)",
            "1\\.2\\.3\\.[0-9]",
            "1\\.2\\.3\\.0/(6|24|29)",
            "(::ffff:1\\.2\\.3\\.4|2001:DB8::[0-9])",
            "(http|HTTPS)://([A-C]@)?[a-cA-C]{1,2}(\\.[a-c]{1,2}){0,2}\\.(com|org)(:80)?(/[aA?]{0,2})?",
            "http://1\\.2\\.3\\.[0-9]/a",
            "[aAb]{32}",
            "[aAb]{40}",
            "[aA]@[a-cA-C]{1,2}\\.(com|co\\.uk)",
            "[a-c |/%é]{0,6}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        /// The filter never loses: what MISP would have answered to any question that the lookup
        /// asks for an indicator, the filter lets through.
        #[test]
        fn what_misp_would_find_is_never_filtered_away(
            rows in prop::collection::vec((0usize..9, word(), word()), 0..6),
            asked in prop::collection::vec(word(), 1..8),
            at in 0usize..6,
            is_changed: bool,
        ) {
            let types = ["ip-dst", "domain", "url", "ip-dst|port", "domain|ip", "filename|md5", "md5", "comment", "malware-sample"];
            let rows: Vec<Attribute> = rows
                .into_iter()
                .map(|(kind, a, b)| misp_row(types[kind], &if types[kind].contains('|') || kind == 8 { format!("{a}|{b}") } else { a }))
                .collect();
            // Half of them in the full build, half as changes since.
            let mut builder = Builder::new(InMemory::default());
            let mut changes = Changes::default();
            for (n, row) in rows.iter().enumerate() {
                for kept in attributes(row) {
                    if is_changed && n % 2 == 1 {
                        changes.apply(kept, crate::tables::changes::Change::Put, |_| Ok::<_, std::convert::Infallible>(vec![])).unwrap();
                    } else {
                        builder.add(&kept).unwrap().ok();
                    }
                }
            }
            let mut bytes = Vec::new();
            builder.finish(&mut bytes, std::io::sink(), 0, &mut |_| ()).unwrap();
            let table = Indicators::new(Filter::parse(bytes).unwrap(), &changes);
            // Questions as they come out of alerts, some of them made of what MISP holds.
            let of_rows = rows.get(at).map(|row| row.value.to_string());
            for text in asked.into_iter().chain(of_rows) {
                for kind in IocType::ALL {
                    let Some(own) = normal(kind, &text) else { continue };
                    for expand in [Expand::ALL, Expand { hosts: false, parents: false }] {
                        let is_found = asks(kind.as_str(), &own, expand).iter().any(|(asked, _)| finds(&rows, asked));
                        prop_assert!(!is_found || table.may_know(kind.as_str(), &own), "{} {} of {:?}", kind.as_str(), own, rows);
                    }
                    if !table.may_know(kind.as_str(), &own) {
                        prop_assert_eq!(table.probe(value::normal(&own).as_bytes()), Hit::No);
                    }
                }
            }
        }
    }
}
