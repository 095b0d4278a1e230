//! Which list of bad addresses an address is on.
//!
//! A [`List`] is what one file held: networks, sorted, 5 bytes each for IPv4 and 17 for IPv6. All lists of a
//! table are cut together into stretches of addresses, each with the list whose network is the longest there; a
//! look-up is one binary search. A million single addresses of IPv4 cost 17 MB, of IPv6 53 MB.
//!
//! ```text
//! a: 198.51.0.0/16     |------------------------|
//! b: 198.51.7.0/24            |-----|
//! stretches            |  a   |  b  |     a     |  none
//! ```
//!
//! Networks of `allow` win over all. The operator's own `bad_ips` are taken as given, and come before the lists.
//! A private address is on no list, unless the table says so.

mod lists;

use std::{cmp::Reverse, collections::BinaryHeap, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::{
    networks::{Networks, canonical},
    private::is_private,
};

pub use lists::{LeftOut, Parsed, parse};

/// The name under which an address of `bad_ips` is found.
pub const OWN: &str = "bad_ips";
/// Lists of one table at most: a list's number is a `u16`.
pub const LISTS_MAX: usize = 4096;

/// No list.
const NONE: u16 = u16::MAX;

/// Address, most significant byte first, then prefix length: they sort by address, outer networks first.
type Packed4 = [u8; 5];
type Packed6 = [u8; 17];

/// The networks of one list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// As records name it.
    pub name: String,
    v4: Vec<Packed4>,
    v6: Vec<Packed6>,
}

impl List {
    /// An empty list with room for so many networks.
    fn with_capacity(name: impl Into<String>, networks: usize) -> Self {
        // What of it stays unused is never touched, and costs nothing.
        Self { name: name.into(), v4: Vec::with_capacity(networks), v6: Vec::with_capacity(networks) }
    }

    /// A list; equal networks are one. Host bits must be clear.
    pub fn new(name: impl Into<String>, networks: impl IntoIterator<Item = IpNet>) -> Self {
        let mut list = Self { name: name.into(), ..Self::default() };
        networks.into_iter().for_each(|network| list.push(network));
        list.finished()
    }

    fn push(&mut self, network: IpNet) {
        match network {
            IpNet::V4(net) => {
                let [a, b, c, d] = net.network().octets();
                self.v4.push([a, b, c, d, net.prefix_len()]);
            }
            IpNet::V6(net) => {
                let mut packed = [net.prefix_len(); 17];
                if let Some(address) = packed.first_chunk_mut() {
                    *address = net.network().octets();
                }
                self.v6.push(packed);
            }
        }
    }

    fn finished(mut self) -> Self {
        self.v4.sort_unstable();
        self.v4.dedup();
        trim(&mut self.v4);
        self.v6.sort_unstable();
        self.v6.dedup();
        trim(&mut self.v6);
        self
    }

    /// Networks in it.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// True if no address is on it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Gives room back, where that is worth a copy.
fn trim<T>(entries: &mut Vec<T>) {
    if entries.len() < entries.capacity() / 8 * 7 {
        entries.shrink_to_fit();
    }
}

/// First and last address of a packed network, as numbers.
fn span4([a, b, c, d, prefix]: &Packed4) -> (u128, u128) {
    let first = u32::from_be_bytes([*a, *b, *c, *d]);
    (first.into(), (first | u32::MAX.checked_shr(u32::from(*prefix)).unwrap_or(0)).into())
}

fn span6([address @ .., prefix]: &Packed6) -> (u128, u128) {
    let first = u128::from_be_bytes(*address);
    (first, first | u128::MAX.checked_shr(u32::from(*prefix)).unwrap_or(0))
}

/// A network of list `.1`, its number `.2` there; the heap gives the first network, and of equal ones the last list's.
type Next<const N: usize> = Reverse<([u8; N], Reverse<usize>, usize)>;

/// Stretches of addresses, each from its address to the next one's, and the list that holds there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Stretches<A> {
    from: Vec<A>,
    list: Vec<u16>,
}

impl<A: Ord + Copy + TryFrom<u128>> Stretches<A> {
    /// Cuts sorted networks of several lists together. Of two equal ones the first list's wins.
    ///
    /// - `lists`: each with its networks, outer before inner.
    fn cut<const N: usize>(lists: &[&[[u8; N]]], span: impl Fn(&[u8; N]) -> (u128, u128)) -> Self {
        // Each network begins one stretch and ends one.
        let most = 2 * lists.iter().map(|list| list.len()).sum::<usize>();
        let mut stretches = Self { from: Vec::with_capacity(most), list: Vec::with_capacity(most) };
        // The next network of each list; of equal ones the first list's comes last, and holds.
        let mut next: BinaryHeap<Next<N>> = BinaryHeap::new();
        for (number, list) in lists.iter().enumerate() {
            next.extend(list.first().map(|first| Reverse((*first, Reverse(number), 0))));
        }
        // The networks that hold where we are, innermost last: last address and list.
        let mut open: Vec<(u128, u16)> = Vec::new();
        while let Some(Reverse((packed, Reverse(number), at))) = next.pop() {
            let following = lists.get(number).and_then(|list| list.get(at + 1));
            next.extend(following.map(|following| Reverse((*following, Reverse(number), at + 1))));
            let ((first, last), list) = (span(&packed), u16::try_from(number).unwrap_or(NONE));
            stretches.close(&mut open, Some(first));
            stretches.begin(first, list);
            open.push((last, list));
        }
        stretches.close(&mut open, None);
        trim(&mut stretches.from);
        trim(&mut stretches.list);
        stretches
    }

    /// Ends the networks that lie before an address, or all.
    fn close(&mut self, open: &mut Vec<(u128, u16)>, before: Option<u128>) {
        while let Some((last, _)) = open.pop_if(|(last, _)| before.is_none_or(|before| *last < before)) {
            if let Some(next) = last.checked_add(1) {
                self.begin(next, open.last().map_or(NONE, |(_, list)| *list));
            }
        }
    }

    fn begin(&mut self, from: u128, list: u16) {
        // Behind the last address of all there is nothing.
        let Ok(from) = A::try_from(from) else { return };
        if self.from.last() == Some(&from) {
            self.from.pop();
            self.list.pop();
        }
        if self.list.last().copied().unwrap_or(NONE) != list {
            self.from.push(from);
            self.list.push(list);
        }
    }

    fn of(&self, address: A) -> Option<usize> {
        let after = self.from.partition_point(|from| *from <= address);
        let list = after.checked_sub(1).and_then(|at| self.list.get(at))?;
        (*list != NONE).then_some(usize::from(*list))
    }

    fn bytes(&self) -> usize {
        self.from.capacity() * size_of::<A>() + self.list.capacity() * size_of::<u16>()
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

/// All lists of a table.
#[derive(Debug, Default)]
pub struct Reputation {
    lists: Vec<Arc<List>>,
    v4: Stretches<u32>,
    v6: Stretches<u128>,
    allow: Networks,
    bad: Networks,
    match_private: bool,
}

impl Reputation {
    /// Cuts lists together. Of networks of one length the first list's holds.
    ///
    /// - `lists`: at most [`LISTS_MAX`]; what is beyond counts for nothing.
    pub fn build(mut lists: Vec<Arc<List>>, own: &Own) -> Self {
        lists.truncate(LISTS_MAX);
        let v4: Vec<&[Packed4]> = lists.iter().map(|list| list.v4.as_slice()).collect();
        let v6: Vec<&[Packed6]> = lists.iter().map(|list| list.v6.as_slice()).collect();
        let (v4, v6) = (Stretches::cut(&v4, span4), Stretches::cut(&v6, span6));
        let networks = |networks: &[IpNet]| Networks::build(networks.iter().map(|network| (*network, 0)));
        Self { lists, v4, v6, allow: networks(&own.allow), bad: networks(&own.bad), match_private: own.match_private }
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
        let list = match address {
            IpAddr::V4(v4) => self.v4.of(v4.to_bits()),
            IpAddr::V6(v6) => self.v6.of(v6.to_bits()),
        };
        Some(&self.lists.get(list?)?.name)
    }

    /// Its lists, in the order of the config.
    pub fn lists(&self) -> &[Arc<List>] {
        &self.lists
    }

    /// Networks of all lists, equal ones of two lists counted twice.
    pub fn len(&self) -> usize {
        self.lists.iter().map(|list| list.len()).sum::<usize>() + self.bad.len()
    }

    /// True if no address is on any list.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that the lists take.
    pub fn bytes(&self) -> usize {
        let lists = self.lists.iter().map(|list| list.v4.capacity() * size_of::<Packed4>() + list.v6.capacity() * size_of::<Packed6>());
        lists.sum::<usize>() + self.v4.bytes() + self.v6.bytes()
    }
}

#[cfg(test)]
mod tests;
