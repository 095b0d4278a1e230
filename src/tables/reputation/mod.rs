//! Which list of bad addresses an address is on.
//!
//! All networks of all lists of a table stand in one sorted array, outer ones before those inside, each with the number
//! of its list: 7 bytes for IPv4, 19 for IPv6. Networks nest or are apart, so of all that begin at or before an
//! address the last one holds it, or one of those around that one does; which network is around another is noted for
//! those alone that lie inside one. A look-up is a binary search and a walk outwards.
//!
//! ```text
//! a: 198.51.0.0/16     |------------------------|
//! b: 198.51.7.0/24            |-----|
//!                                        ^ begins behind both: b does not hold it, a around b does
//! ```
//!
//! The array is filled and sorted in place, so a table that is read anew takes its own size twice, and a million single
//! addresses take 7 MB, of IPv6 19 MB.
//!
//! Networks of `allow` win over all. The operator's own `bad_ips` are taken as given, and come before the lists.
//! A private address is on no list, unless the table says so.

mod json;
mod lists;

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    networks::{Networks, canonical},
    private::is_private,
};

pub use lists::{LeftOut, count, read};

/// The name under which an address of `bad_ips` is found.
pub const OWN: &str = "bad_ips";
/// Lists of one table at most: a list's number is a `u16`.
pub const LISTS_MAX: usize = 4096;

/// Address, most significant byte first, then prefix length, then the list's number: they sort by address, outer
/// networks first, and of equal ones the first list's first.
type Packed4 = [u8; 7];
type Packed6 = [u8; 19];

/// Reads packed networks.
trait Packed: Ord + Copy {
    /// First and last address, as numbers.
    fn span(&self) -> (u128, u128);
    /// Its bytes without the list's number.
    fn network(&self) -> &[u8];
    /// Of its list.
    fn number(&self) -> u16;
    fn set_number(&mut self, number: u16);
}

impl Packed for Packed4 {
    fn span(&self) -> (u128, u128) {
        let [a, b, c, d, prefix, ..] = *self;
        let first = u32::from_be_bytes([a, b, c, d]);
        (first.into(), (first | u32::MAX.checked_shr(prefix.into()).unwrap_or(0)).into())
    }
    fn network(&self) -> &[u8] {
        let [network @ .., _, _] = self;
        network
    }
    fn number(&self) -> u16 {
        let [.., high, low] = *self;
        u16::from_be_bytes([high, low])
    }
    fn set_number(&mut self, number: u16) {
        let [.., high, low] = self;
        [*high, *low] = number.to_be_bytes();
    }
}

impl Packed for Packed6 {
    fn span(&self) -> (u128, u128) {
        let [address @ .., prefix, _, _] = self;
        let first = u128::from_be_bytes(*address);
        (first, first | u128::MAX.checked_shr((*prefix).into()).unwrap_or(0))
    }
    fn network(&self) -> &[u8] {
        let [network @ .., _, _] = self;
        network
    }
    fn number(&self) -> u16 {
        let [.., high, low] = *self;
        u16::from_be_bytes([high, low])
    }
    fn set_number(&mut self, number: u16) {
        let [.., high, low] = self;
        [*high, *low] = number.to_be_bytes();
    }
}

/// Networks of one family, sorted.
#[derive(Debug)]
struct Sorted<P> {
    all: Vec<P>,
    /// Of each network inside another: its place, and that of the next one around it. By place.
    around: Vec<(u32, u32)>,
}

impl<P> Default for Sorted<P> {
    fn default() -> Self {
        Self { all: Vec::new(), around: Vec::new() }
    }
}

impl<P: Packed> Sorted<P> {
    fn new(mut all: Vec<P>) -> Self {
        all.sort_unstable();
        trim(&mut all);
        let mut around = Vec::new();
        // The networks that hold where we are, innermost last; of equal ones the first.
        let mut open: Vec<u32> = Vec::new();
        for (place, network) in (0..).zip(&all) {
            let (first, last) = network.span();
            let at = |place: u32| all.get(place as usize).map_or((0, 0), P::span);
            while open.pop_if(|outer| at(*outer).1 < first).is_some() {}
            let outer = match open.last() {
                Some(same) if at(*same) == (first, last) => open.iter().rev().nth(1).copied(),
                outer => {
                    let outer = outer.copied();
                    open.push(place);
                    outer
                }
            };
            around.extend(outer.map(|outer| (place, outer)));
        }
        trim(&mut around);
        Self { all, around }
    }

    /// The number of the list whose network around an address is the longest.
    fn of(&self, address: u128) -> Option<u16> {
        let after = self.all.partition_point(|network| network.span().0 <= address);
        let mut place = after.checked_sub(1)?;
        loop {
            let network = self.all.get(place)?;
            if network.span().1 >= address {
                // Of equal networks the first one's list counts.
                let before = self.all.get(..place)?.iter().rev().take_while(|before| before.network() == network.network());
                return Some(before.last().unwrap_or(network).number());
            }
            let at = self.around.binary_search_by_key(&u32::try_from(place).ok()?, |(inner, _)| *inner).ok()?;
            place = self.around.get(at)?.1 as usize;
        }
    }

    fn bytes(&self) -> usize {
        self.all.len() * size_of::<P>() + self.around.len() * size_of::<(u32, u32)>()
    }
}

/// Gives room back, where that is worth a copy: what of it was never used was never touched, and costs nothing.
fn trim<T>(entries: &mut Vec<T>) {
    if entries.len() < entries.capacity() / 4 {
        entries.shrink_to_fit();
    }
}

/// What an operator says beside the lists.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// Addresses that are on no list, whatever the lists say.
    pub allow: Vec<IpNet>,
    /// Bad addresses, taken as given.
    pub bad: Vec<IpNet>,
    /// Private addresses may be on a list.
    pub match_private: bool,
}

/// One list of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// As records name it.
    pub name: String,
    /// How many networks it has, equal ones once.
    pub networks: usize,
}

/// A table in the making.
#[derive(Debug, Default)]
pub struct Builder {
    lists: Vec<List>,
    v4: Vec<Packed4>,
    v6: Vec<Packed6>,
}

impl Builder {
    /// An empty one with room for so many networks of each family; room that is not used costs nothing.
    pub fn with_capacity(networks: usize) -> Self {
        Self { lists: Vec::new(), v4: Vec::with_capacity(networks), v6: Vec::with_capacity(networks) }
    }

    /// Begins the next list. It counts once it is [`finished`](Adding::finish).
    pub fn begin(&mut self) -> Adding<'_> {
        let starts = (self.v4.len(), self.v6.len());
        Adding { starts, to: self }
    }

    /// Takes a list as another table has it; false if that has none of this name.
    pub fn keep(&mut self, name: &str, before: &Reputation) -> bool {
        let Some((number, list)) = (0..).zip(&before.lists).find(|(_, list)| list.name == name) else { return false };
        let own = self.number();
        self.v4.extend(before.v4.all.iter().filter(|packed| packed.number() == number).map(|packed| numbered(*packed, own)));
        self.v6.extend(before.v6.all.iter().filter(|packed| packed.number() == number).map(|packed| numbered(*packed, own)));
        self.lists.push(list.clone());
        true
    }

    /// Of the next list.
    fn number(&self) -> u16 {
        u16::try_from(self.lists.len()).unwrap_or(u16::MAX)
    }

    /// The table.
    pub fn finish(self, own: &Own) -> Reputation {
        let networks = |networks: &[IpNet]| Networks::build(networks.iter().map(|network| (*network, 0)));
        Reputation {
            lists: self.lists,
            v4: Sorted::new(self.v4),
            v6: Sorted::new(self.v6),
            allow: networks(&own.allow),
            bad: networks(&own.bad),
            match_private: own.match_private,
        }
    }
}

fn numbered<P: Packed>(mut packed: P, number: u16) -> P {
    packed.set_number(number);
    packed
}

/// A list in the making.
#[derive(Debug)]
pub struct Adding<'b> {
    to: &'b mut Builder,
    /// Where its networks begin.
    starts: (usize, usize),
}

impl Adding<'_> {
    /// Adds a network. Host bits must be clear.
    pub fn push(&mut self, network: IpNet) {
        let [high, low] = self.to.number().to_be_bytes();
        match network {
            IpNet::V4(net) => {
                let [a, b, c, d] = net.network().octets();
                self.to.v4.push([a, b, c, d, net.prefix_len(), high, low]);
            }
            IpNet::V6(net) => {
                let mut packed = [0; 19];
                let [address @ .., prefix, first, second] = &mut packed;
                *address = net.network().octets();
                [*prefix, *first, *second] = [net.prefix_len(), high, low];
                self.to.v6.push(packed);
            }
        }
    }

    /// Networks in it; equal ones are one from now on.
    pub fn count(&mut self) -> usize {
        let (v4, v6) = self.starts;
        dedup(&mut self.to.v4, v4) + dedup(&mut self.to.v6, v6)
    }

    /// Forgets what was added.
    pub fn clear(&mut self) {
        let (v4, v6) = self.starts;
        self.to.v4.truncate(v4);
        self.to.v6.truncate(v6);
    }

    /// The list is whole.
    pub fn finish(mut self, name: impl Into<String>) {
        let networks = self.count();
        self.to.lists.push(List { name: name.into(), networks });
    }
}

/// Sorts what stands behind `start`, of which equal ones become one; gives how many are left.
fn dedup<P: Packed>(all: &mut Vec<P>, start: usize) -> usize {
    all.get_mut(start..).unwrap_or_default().sort_unstable();
    let mut kept = start;
    for at in start..all.len() {
        let Some(next) = all.get(at).copied() else { break };
        if kept == start || all.get(kept - 1) != Some(&next) {
            if let Some(place) = all.get_mut(kept) {
                *place = next;
            }
            kept += 1;
        }
    }
    all.truncate(kept);
    kept - start
}

/// All lists of a table.
#[derive(Debug, Default)]
pub struct Reputation {
    lists: Vec<List>,
    v4: Sorted<Packed4>,
    v6: Sorted<Packed6>,
    allow: Networks,
    bad: Networks,
    match_private: bool,
}

impl Reputation {
    /// A table of lists that are at hand, each a name and its networks.
    pub fn of<'n, L: IntoIterator<Item = IpNet>>(lists: impl IntoIterator<Item = (&'n str, L)>, own: &Own) -> Self {
        let mut builder = Builder::default();
        for (name, networks) in lists {
            let mut adding = builder.begin();
            networks.into_iter().for_each(|network| adding.push(network));
            adding.finish(name);
        }
        builder.finish(own)
    }

    /// The list that an address is on: the one with the longest network around it; `None` if it is on none, or is
    /// allowed. An IPv4 address inside IPv6 is one of IPv4.
    pub fn list_of(&self, address: IpAddr) -> Option<&str> {
        let address = canonical(address);
        if self.allow.around(address).next().is_some() {
            return None;
        }
        if self.bad.around(address).next().is_some() {
            return Some(OWN);
        }
        if !self.match_private && is_private(address) {
            return None;
        }
        let number = match address {
            IpAddr::V4(v4) => self.v4.of(v4.to_bits().into()),
            IpAddr::V6(v6) => self.v6.of(v6.to_bits()),
        };
        Some(&self.lists.get(usize::from(number?))?.name)
    }

    /// Its lists, in the order of the config.
    pub fn lists(&self) -> &[List] {
        &self.lists
    }

    /// Networks of all lists, equal ones of two lists counted twice.
    pub fn len(&self) -> usize {
        self.lists.iter().map(|list| list.networks).sum::<usize>() + self.bad.len()
    }

    /// True if no address is on any list.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that the lists take.
    pub fn bytes(&self) -> usize {
        self.v4.bytes() + self.v6.bytes()
    }
}

#[cfg(test)]
mod tests;
