//! The question that is asked for every indicator of an alert: might MISP know it?

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    attribute::Indicator,
    changes::Changes,
    filter::Filter,
    key::Key,
    kinds::Kind,
    networks::{self, Networks},
    value::{self, Expand},
};

/// What the tables say of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// It is certainly no indicator.
    No,
    /// It is one, or one of the few that look like one: the mirror or MISP knows.
    Value,
    /// It is an address in this network, which is one; the innermost, if there are several.
    Network(IpNet),
}

/// Filter and changes together. Never says no for an indicator that was put in.
#[derive(Clone, Debug)]
pub struct Indicators {
    filter: Arc<Filter>,
    /// Changed keys; true for one that is an indicator now.
    changed: BTreeMap<Key, bool>,
    /// Networks of both, without those that are gone.
    networks: Networks,
}

impl Indicators {
    /// Lays changes over a filter.
    pub fn new(filter: impl Into<Arc<Filter>>, changes: &Changes) -> Self {
        let mut table = Self { filter: filter.into(), changed: BTreeMap::new(), networks: Networks::default() };
        table.set_changes(changes);
        table
    }

    /// Other changes over the same filter, which both then share.
    pub fn with_changes(&self, changes: &Changes) -> Self {
        Self::new(self.filter.clone(), changes)
    }

    fn set_changes(&mut self, changes: &Changes) {
        let changed: BTreeMap<Key, bool> = changes.iter().map(|(key, now)| (key, !now.is_empty())).collect();
        let stay = self.filter.networks().iter().map(|(net, _)| net).filter(|net| changed.get(&key_of(*net)) != Some(&false));
        let come = changes.iter().flat_map(|(_, now)| now).filter(|attribute| attribute.kind == Kind::Ip);
        let come = come.filter_map(|attribute| match &attribute.indicator {
            Indicator::Text(text) if text.contains('/') => networks::parse(text).filter(|net| !networks::is_too_wide(*net)),
            _ => None,
        });
        self.networks = Networks::build(stay.chain(come).map(|net| (net, 0)));
        self.changed = changed;
    }

    /// True if something may be known of an indicator: of itself, the host of a URL, a name above, a
    /// network around. Never false for what a lookup that asks by [`value::asks`] would find here.
    ///
    /// - `kind`: `ip`, `domain`, `url`, …
    pub fn may_know(&self, kind: &str, value: &str) -> bool {
        value::any_ask(kind, value, Expand::ALL, |value, _| self.probe(value.as_bytes()) != Hit::No)
    }

    /// Asks for one value in normal form; an address also for the networks around it.
    ///
    /// 64 bits of MD5 and three places in memory: about 200 ns.
    pub fn probe(&self, value: &[u8]) -> Hit {
        let key = Key::of(value);
        let is_known = self.changed.get(&key).copied().unwrap_or_else(|| self.filter.may_hold(key));
        if is_known {
            return Hit::Value;
        }
        if self.networks.is_empty() {
            return Hit::No;
        }
        address(value).map_or(Hit::No, |address| self.around(address))
    }

    fn around(&self, address: IpAddr) -> Hit {
        self.networks.around(address).next().map_or(Hit::No, |(net, _)| Hit::Network(net))
    }

    /// Indicators of the last full build.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Networks in CIDR form, changes included.
    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    /// Keys that have changed since the full build.
    pub fn changed(&self) -> usize {
        self.changed.len()
    }
}

/// The key of a network, whose normal form is its CIDR form.
fn key_of(net: IpNet) -> Key {
    Key::of(net.to_string().as_bytes())
}

/// The address that a value is; anything else costs a look at its first bytes.
fn address(value: &[u8]) -> Option<IpAddr> {
    let is_possible = value.len() <= 45 && value.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':'));
    if !is_possible {
        return None;
    }
    let text = std::str::from_utf8(value).ok()?;
    let is_v6 = text.contains(':');
    if is_v6 { text.parse::<Ipv6Addr>().ok().map(IpAddr::V6) } else { text.parse().ok() }
}

/// A domain and the names above it that hold a dot: `a.b.example`, `b.example`.
///
/// The last label alone is left out; whether a parent is worth asking for (the registrable domain
/// is, `co.uk` is not) is the caller's to say.
pub fn parents(domain: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(domain);
    std::iter::from_fn(move || {
        let here = rest?;
        rest = here.split_once('.').map(|(_, above)| above);
        Some(here)
    })
    .filter(|name| name.contains('.'))
}

/// The host of an URL, without user, port and brackets; `None` if it has none.
pub fn host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let host = match place.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None => place.split(':').next()?,
    };
    (!host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::tables::{
        attribute::Attribute,
        build::{Builder, InMemory},
        changes::Change,
    };

    fn bare(value: &str) -> Attribute {
        Attribute::bare(Indicator::Text(value.into()), Kind::guess(value))
    }

    fn filter(values: &[&str]) -> Filter {
        let mut builder = Builder::new(InMemory::default());
        for value in values {
            builder.add(&bare(value)).unwrap().unwrap();
        }
        let mut bytes = Vec::new();
        builder.finish(&mut bytes, std::io::sink(), 0, &mut |_| ()).unwrap();
        Filter::parse(bytes).unwrap()
    }

    fn net(text: &str) -> Hit {
        Hit::Network(networks::parse(text).unwrap())
    }

    #[test]
    fn changes_win_over_the_filter() {
        let filter = filter(&["a.example", "b.example", "198.51.100.0/24", "203.0.113.0/24"]);
        let table = Indicators::new(filter.clone(), &Changes::default());
        for (value, hit) in [
            ("a.example", Hit::Value),
            ("c.example", Hit::No),
            ("198.51.100.9", net("198.51.100.0/24")),
            ("::ffff:198.51.100.9", net("198.51.100.0/24")),
            ("198.51.101.9", Hit::No),
            ("198.51.100.0/24", Hit::Value),
        ] {
            assert_eq!(table.probe(value.as_bytes()), hit, "{value}");
        }
        let mut changes = Changes::default();
        for (value, change) in
            [("a.example", Change::Gone), ("c.example", Change::Put), ("198.51.100.0/24", Change::Gone), ("2001:db8::/32", Change::Put)]
        {
            changes.apply(bare(value), change, |_| Ok::<_, Infallible>(vec![bare(value)])).unwrap();
        }
        let table = Indicators::new(filter, &changes);
        for (value, hit) in [
            ("a.example", Hit::No),
            ("b.example", Hit::Value),
            ("c.example", Hit::Value),
            ("198.51.100.9", Hit::No),
            ("203.0.113.9", net("203.0.113.0/24")),
            ("2001:db8::9", net("2001:db8::/32")),
        ] {
            assert_eq!(table.probe(value.as_bytes()), hit, "{value}");
        }
        assert_eq!((table.changed(), table.networks().len()), (4, 2));
    }

    #[test]
    fn hosts_and_parents_are_offered() {
        for (url, expected) in [
            ("http://evil.example/a", Some("evil.example")),
            ("https://user:word@evil.example:8443/a@b", Some("evil.example")),
            ("http://[2001:db8::1]:80/", Some("2001:db8::1")),
            ("http://203.0.113.9?x", Some("203.0.113.9")),
            ("evil.example/a", None),
            ("http:///a", None),
            ("http://", None),
            ("http://[", None),
        ] {
            assert_eq!(host(url), expected, "{url}");
        }
        assert!(parents("a.b.example").eq(["a.b.example", "b.example"]));
        assert!(parents("example").eq([""; 0]));
        assert!(parents("").eq([""; 0]));
    }
}
