//! Sorts any number of attributes into a filter and a mirror, in little memory.
//!
//! Attributes go, encoded, into one of 256 spools by the first byte of their key. When all are
//! there, one spool after another is read, sorted in memory and written out: the spools are in the
//! order of the keys, so both files grow from front to back. Of ten million attributes of 100
//! bytes a spool has 4 MB; buffers before it are another 4 MB.
//!
//! Of attributes with one UUID and indicator the last changed stays; of equal ones, one.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use ipnet::IpNet;

use super::{
    attribute::{self, Attribute, Indicator, Uuid, VALUE_BYTES_MAX},
    filter::FilterWriter,
    key::Key,
    kinds::Kind,
    mirror::{self, Mirror, MirrorError, MirrorWriter, ReadAt},
    networks::{self, Networks},
};

/// Attributes kept of one key, the last changed first: more are of no use to who reads a hit.
pub const ATTRIBUTES_PER_KEY_MAX: usize = 200;
/// Networks in CIDR form, which are held in memory.
pub const NETWORKS_MAX: usize = 500_000;

/// Spools: one for each first byte of a key.
const SPOOLS: usize = 256;
/// Bytes gathered for a spool before they are written.
const BUFFER_BYTES: usize = 16 << 10;

/// Where attributes wait until all are there.
pub trait Spool {
    /// Appends to one of 256 spools.
    ///
    /// # Errors
    /// As write(2).
    fn append(&mut self, spool: u8, bytes: &[u8]) -> io::Result<()>;
    /// Puts all that was appended to one in place of what is in `into`, and forgets it. The buffer
    /// is the same for all 256: 256 of their own size would leave an allocator full of holes.
    ///
    /// # Errors
    /// As read(2).
    fn take(&mut self, spool: u8, into: &mut Vec<u8>) -> io::Result<()>;
}

/// Spools in memory, for small sets and tests.
#[derive(Debug)]
pub struct InMemory(Vec<Vec<u8>>);

impl Default for InMemory {
    fn default() -> Self {
        Self(vec![Vec::new(); SPOOLS])
    }
}

impl Spool for InMemory {
    fn append(&mut self, spool: u8, bytes: &[u8]) -> io::Result<()> {
        if let Some(held) = self.0.get_mut(usize::from(spool)) {
            held.extend_from_slice(bytes);
        }
        Ok(())
    }
    fn take(&mut self, spool: u8, into: &mut Vec<u8>) -> io::Result<()> {
        *into = self.0.get_mut(usize::from(spool)).map(std::mem::take).unwrap_or_default();
        Ok(())
    }
}

/// What was built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Built {
    /// Distinct indicators.
    pub indicators: u64,
    /// Attributes that tell of them.
    pub attributes: u64,
    /// Networks in CIDR form, which are indicators too.
    pub networks: u64,
    /// Indicators by kind.
    pub by_kind: BTreeMap<&'static str, u64>,
    /// Attributes that said the same as another, or were older.
    pub repeated: u64,
    /// Attributes left out because their key has too many.
    pub crowded: u64,
}

/// Why an indicator is not taken. Its `Display` is a reason for people to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refused {
    #[error("longer than 8 KiB")]
    TooLong,
    #[error("a network so wide that it would match everything")]
    TooWide,
    #[error("more than 500000 networks")]
    TooManyNetworks,
}

/// Takes attributes and builds the tables.
#[derive(Debug)]
pub struct Builder<S> {
    spool: S,
    buffers: Vec<Vec<u8>>,
    networks: Vec<IpNet>,
    taken: u64,
}

impl<S: Spool> Builder<S> {
    /// Begins with empty spools.
    pub fn new(spool: S) -> Self {
        Self { spool, buffers: vec![Vec::new(); SPOOLS], networks: Vec::new(), taken: 0 }
    }

    /// Takes an attribute. `Ok(Err(_))` if it is no indicator that a table should have.
    ///
    /// # Errors
    /// As the spool.
    pub fn add(&mut self, attribute: &Attribute) -> io::Result<Result<(), Refused>> {
        if let Indicator::Text(text) = &attribute.indicator {
            if text.len() > VALUE_BYTES_MAX {
                return Ok(Err(Refused::TooLong));
            }
            if let Some(net) = network(attribute.kind, text) {
                if networks::is_too_wide(net) {
                    return Ok(Err(Refused::TooWide));
                }
                if self.networks.len() >= NETWORKS_MAX {
                    return Ok(Err(Refused::TooManyNetworks));
                }
                self.networks.push(net);
            }
        }
        let mut encoded = Vec::with_capacity(128);
        attribute::encode(attribute, &mut encoded);
        self.spool(attribute.indicator.key(), &encoded)?;
        Ok(Ok(()))
    }

    /// Takes every attribute of a mirror that `keeps` says yes to.
    ///
    /// # Errors
    /// If the mirror cannot be read, or as the spool.
    pub fn add_mirror<R: ReadAt>(&mut self, mirror: &Mirror<R>, mut keeps: impl FnMut(Key) -> bool) -> Result<(), MirrorError> {
        mirror.each(&mut |key, encoded| {
            if !keeps(key) {
                return Ok(());
            }
            // The few networks are wanted in memory as well.
            if attribute::kind_of(encoded) == Some(Kind::Ip)
                && let Some(Attribute { indicator: Indicator::Text(text), .. }) = attribute::decode(encoded)
                && let Some(net) = network(Kind::Ip, &text)
                && self.networks.len() < NETWORKS_MAX
            {
                self.networks.push(net);
            }
            Ok(self.spool(key, encoded)?)
        })
    }

    /// Attributes taken so far.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    fn spool(&mut self, key: Key, encoded: &[u8]) -> io::Result<()> {
        let number = (key.0 >> 56) as u8;
        let Some(buffer) = self.buffers.get_mut(usize::from(number)) else { return Ok(()) };
        buffer.extend_from_slice(&key.0.to_le_bytes());
        buffer.extend_from_slice(&u32::try_from(encoded.len()).map_err(io::Error::other)?.to_le_bytes());
        buffer.extend_from_slice(encoded);
        self.taken += 1;
        if buffer.len() >= BUFFER_BYTES {
            self.spool.append(number, buffer)?;
            buffer.clear();
        }
        Ok(())
    }

    /// Sorts what was taken into both tables.
    ///
    /// - `built`: wall time, seconds since 1970, for people.
    /// - `step`: called after each of 256 steps.
    ///
    /// # Errors
    /// As the spool, `filter` and `mirror`.
    pub fn finish(mut self, filter: impl Write, mirror: impl Write, built: u64, step: &mut dyn FnMut(u8)) -> Result<Built, MirrorError> {
        let mut totals = Built::default();
        let mut filter = FilterWriter::new(filter, self.taken)?;
        let mut mirror = MirrorWriter::new(mirror)?;
        let mut rows = Vec::new();
        for number in 0..=u8::MAX {
            if let Some(buffer) = self.buffers.get_mut(usize::from(number)).map(std::mem::take) {
                self.spool.append(number, &buffer)?;
            }
            self.spool.take(number, &mut rows)?;
            sort(&rows, &mut totals, &mut |key, encoded, is_new| {
                if is_new {
                    filter.push(key)?;
                }
                mirror.push(key, encoded)
            })?;
            step(number);
        }
        let networks = Networks::build(self.networks.into_iter().map(|net| (net, 0)));
        totals.networks = networks.len() as u64;
        filter.finish(&networks, built)?;
        mirror.finish()?;
        Ok(totals)
    }
}

/// The network that an indicator is, if it is more than one address.
fn network(kind: Kind, text: &str) -> Option<IpNet> {
    if kind != Kind::Ip || !text.contains('/') {
        return None;
    }
    networks::parse(text).filter(|net| net.prefix_len() < net.max_prefix_len())
}

/// What takes sorted rows: key, attribute, true for the first of its key.
type Give<'g> = dyn FnMut(Key, &[u8], bool) -> io::Result<()> + 'g;

/// Hands out the rows of one spool by key, without what repeats.
fn sort(rows: &[u8], totals: &mut Built, give: &mut Give<'_>) -> Result<(), MirrorError> {
    let mut sorted: Vec<(Key, &[u8])> = Vec::new();
    let mut rest = rows;
    while !rest.is_empty() {
        let (row, after) = mirror::row(rest)?;
        sorted.push(row);
        rest = after;
    }
    sorted.sort_unstable();
    let before = sorted.len();
    sorted.dedup();
    totals.repeated += (before - sorted.len()) as u64;
    for group in sorted.chunk_by(|a, b| a.0 == b.0) {
        let Some((key, first)) = group.first().copied() else { continue };
        totals.indicators += 1;
        let kind = attribute::kind_of(first).unwrap_or(Kind::Unknown);
        *totals.by_kind.entry(kind.name()).or_default() += 1;
        if group.len() == 1 {
            totals.attributes += 1;
            give(key, first, true)?;
            continue;
        }
        let mut is_new = true;
        for encoded in newest(group.iter().map(|(_, encoded)| *encoded).collect(), totals) {
            totals.attributes += 1;
            give(key, encoded, std::mem::take(&mut is_new))?;
        }
    }
    Ok(())
}

/// One attribute for each UUID and indicator, the last changed first.
fn newest<'r>(group: Vec<&'r [u8]>, totals: &mut Built) -> Vec<&'r [u8]> {
    let mut by_uuid: BTreeMap<(Uuid, Indicator), (u64, &'r [u8])> = BTreeMap::new();
    let mut all: Vec<(u64, &'r [u8])> = Vec::new();
    let before = group.len();
    for encoded in group {
        let Some(attribute) = attribute::decode(encoded) else { continue };
        match attribute.uuid {
            None => all.push((attribute.timestamp, encoded)),
            Some(uuid) => {
                let held = by_uuid.entry((uuid, attribute.indicator)).or_insert((0, encoded));
                if attribute.timestamp >= held.0 {
                    *held = (attribute.timestamp, encoded);
                }
            }
        }
    }
    all.extend(by_uuid.into_values());
    totals.repeated += (before - all.len()) as u64;
    all.sort_by_key(|(timestamp, _)| std::cmp::Reverse(*timestamp));
    totals.crowded += all.len().saturating_sub(ATTRIBUTES_PER_KEY_MAX) as u64;
    all.into_iter().take(ATTRIBUTES_PER_KEY_MAX).map(|(_, encoded)| encoded).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::tables::filter::Filter;

    fn build(attributes: &[Attribute]) -> (Built, Filter, Mirror<Vec<u8>>) {
        let mut builder = Builder::new(InMemory::default());
        for attribute in attributes {
            builder.add(attribute).unwrap().unwrap();
        }
        let (mut filter, mut mirror) = (Vec::new(), Vec::new());
        let mut steps = 0;
        let built = builder.finish(&mut filter, &mut mirror, 7, &mut |_| steps += 1).unwrap();
        assert_eq!(steps, 256);
        (built, Filter::parse(filter).unwrap(), Mirror::open(mirror).unwrap())
    }

    fn attribute(value: &str, id: u8, timestamp: u64) -> Attribute {
        Attribute { uuid: Some(Uuid([id; 16])), timestamp, ..Attribute::bare(Indicator::Text(value.into()), Kind::guess(value)) }
    }

    #[test]
    fn a_hundred_thousand_indicators_are_all_there() {
        let values: Vec<String> = (0..100_000).map(|n| format!("h{n}.example")).collect();
        let all: Vec<Attribute> = values.iter().map(|value| Attribute::bare(Indicator::Text(value.clone()), Kind::Domain)).collect();
        let (built, filter, mirror) = build(&all);
        assert_eq!((built.indicators, built.attributes, filter.keys(), mirror.keys()), (100_000, 100_000, 100_000, 100_000));
        assert_eq!(built.by_kind, BTreeMap::from([("domain", 100_000)]));
        let twin: HashSet<&str> = values.iter().map(String::as_str).collect();
        for n in 0..120_000 {
            let value = format!("h{n}.example");
            if twin.contains(value.as_str()) {
                assert!(filter.may_hold(Key::of(value.as_bytes())), "{value}");
            }
            if n % 500 == 0 {
                assert_eq!(mirror.find(value.as_bytes()).unwrap().len(), usize::from(twin.contains(value.as_str())), "{value}");
            }
        }
    }

    #[test]
    fn of_one_attribute_the_last_change_stays_and_of_equal_ones_one() {
        let old = attribute("evil.example", 1, 10);
        let new = Attribute { event_info: "later".into(), ..attribute("evil.example", 1, 20) };
        let other = attribute("evil.example", 2, 15);
        let bare = Attribute::bare(Indicator::Text("evil.example".into()), Kind::Domain);
        let (built, filter, mirror) = build(&[old.clone(), new.clone(), other.clone(), old, bare.clone(), bare.clone()]);
        assert_eq!(mirror.find(b"evil.example").unwrap(), [new, other, bare]);
        assert_eq!((built.indicators, built.attributes, built.repeated, filter.keys()), (1, 3, 3, 1));
    }

    #[test]
    fn a_crowded_key_keeps_the_last_changed() {
        let all: Vec<Attribute> =
            (0..=200).map(|n| Attribute { timestamp: n, ..Attribute::bare(Indicator::Text("192.0.2.1".into()), Kind::Ip) }).collect();
        let (built, _, mirror) = build(&all);
        let found = mirror.find(b"192.0.2.1").unwrap();
        assert_eq!((found.len(), found[0].timestamp, found[199].timestamp, built.crowded), (200, 200, 1, 1));
    }

    #[test]
    fn networks_are_in_the_filter_and_what_is_no_indicator_is_refused() {
        let net = Attribute::bare(Indicator::Text("198.51.100.0/24".into()), Kind::Ip);
        let (built, filter, mirror) = build(&[net.clone(), attribute("203.0.113.9", 1, 0)]);
        assert_eq!((built.networks, built.indicators), (1, 2));
        assert_eq!(filter.networks().around("198.51.100.77".parse().unwrap()).count(), 1);
        assert_eq!(mirror.find(b"198.51.100.0/24").unwrap(), [net]);
        let mut builder = Builder::new(InMemory::default());
        let mut add = |kind, text: String| builder.add(&Attribute::bare(Indicator::Text(text), kind)).unwrap();
        assert_eq!(add(Kind::Ip, "0.0.0.0/0".into()), Err(Refused::TooWide));
        assert_eq!(add(Kind::Url, "x".repeat(VALUE_BYTES_MAX + 1)), Err(Refused::TooLong));
        assert_eq!(builder.taken(), 0);
    }

    #[test]
    fn a_mirror_is_taken_over_but_for_what_is_replaced() {
        let net = Attribute::bare(Indicator::Text("198.51.100.0/24".into()), Kind::Ip);
        let (_, _, old) = build(&[attribute("a.example", 1, 0), attribute("b.example", 2, 0), net]);
        let mut builder = Builder::new(InMemory::default());
        builder.add_mirror(&old, |key| key != Key::of(b"a.example")).unwrap();
        builder.add(&attribute("c.example", 3, 0)).unwrap().unwrap();
        let (mut filter, mut mirror) = (Vec::new(), Vec::new());
        let built = builder.finish(&mut filter, &mut mirror, 7, &mut |_| ()).unwrap();
        assert_eq!((built.indicators, built.networks), (3, 1));
        let mirror = Mirror::open(mirror).unwrap();
        assert_eq!([&b"a.example"[..], b"b.example", b"c.example"].map(|value| mirror.find(value).unwrap().len()), [0, 1, 1]);
    }
}
