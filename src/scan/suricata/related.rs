//! Events by what relates them: flow, Community ID, digest, host.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
};

use serde::Serialize;
use sha1::{Digest, Sha1};

use super::{Event, Transfer};
use crate::{clock::Nanos, limits, net::base64, scan::settings::Correlate};

/// By what an event relates to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    HostAndTime,
    Hash,
    Flow,
}

impl Way {
    /// 0 to 100.
    pub fn confidence(self) -> u8 {
        match self {
            Self::HostAndTime => 75,
            Self::Hash => 90,
            Self::Flow => 95,
        }
    }
}

/// An event that relates to a file, as JSON beside an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Relation {
    pub by: Way,
    pub confidence: u8,
    /// With the file's alert, what this relation is stored by, once.
    pub key: String,
    #[serde(flatten)]
    pub event: Event,
}

/// What a lookup is made by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    /// The lower end first.
    Flow(SocketAddr, SocketAddr),
    Community(String),
    Digest(String),
    Host(IpAddr),
}

/// Events of two windows by the time they came, so that nobody's clock can push others out.
#[derive(Debug)]
pub(super) struct Held {
    /// Nanoseconds.
    window: u64,
    proximity: u64,
    confidence_min: u8,
    came: VecDeque<(Nanos, Event)>,
    /// Number of the first of `came`; each next one has the next number.
    first: u64,
    /// Numbers, rising.
    by: BTreeMap<By, VecDeque<u64>>,
    dropped: u64,
}

impl Held {
    pub(super) fn new(settings: &Correlate) -> Self {
        Self {
            window: settings.window_s.saturating_mul(1_000_000_000),
            proximity: settings.proximity_s.saturating_mul(1_000_000_000),
            confidence_min: settings.confidence_min,
            came: VecDeque::new(),
            first: 0,
            by: BTreeMap::new(),
            dropped: 0,
        }
    }

    pub(super) fn put(&mut self, event: Event, now: Nanos) {
        if self.came.len() >= limits::SCAN_EVE_EVENTS_MAX {
            self.dropped += 1;
            self.pop();
        }
        let number = self.first + self.came.len() as u64;
        for by in ways_to(&event) {
            self.by.entry(by).or_default().push_back(number);
        }
        self.came.push_back((now, event));
    }

    /// Lets go of what came two windows ago.
    pub(super) fn forget(&mut self, now: Nanos) {
        let span = self.window.saturating_mul(2);
        while self.came.front().is_some_and(|(came, _)| now.saturating_sub(*came) >= span) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        let Some((_, event)) = self.came.pop_front() else { return };
        for by in ways_to(&event) {
            if let Some(numbers) = self.by.get_mut(&by) {
                numbers.pop_front_if(|number| *number == self.first);
                if numbers.is_empty() {
                    self.by.remove(&by);
                }
            }
        }
        self.first += 1;
    }

    pub(super) fn count(&self) -> (usize, u64) {
        (self.came.len(), self.dropped)
    }

    pub(super) fn events(&self) -> impl Iterator<Item = &Event> {
        self.came.iter().rev().map(|(_, event)| event)
    }

    pub(super) fn related(&self, to: &Transfer) -> Vec<Relation> {
        let mut asked: Vec<(By, Way)> = Vec::new();
        for (a, b) in &to.flows {
            let (a, b) = (canonical(*a), canonical(*b));
            asked.push((flow(a, b), Way::Flow));
            // Nobody says which protocol carried a file; TCP and UDP are what can.
            asked.extend([6, 17].map(|protocol| (By::Community(community_id(a, b, protocol)), Way::Flow)));
        }
        let digests = [&to.sha256, &to.md5].into_iter().filter(|digest| !digest.is_empty());
        asked.extend(digests.map(|digest| (By::Digest(digest.clone()), Way::Hash)));
        let ends = to.flows.iter().flat_map(|(a, b)| [a.ip(), b.ip()]);
        let hosts: BTreeSet<IpAddr> = to.hosts.iter().copied().chain(ends).map(|host| host.to_canonical()).collect();
        asked.extend(hosts.into_iter().map(|host| (By::Host(host), Way::HostAndTime)));

        let mut found: BTreeMap<u64, Way> = BTreeMap::new();
        for (by, way) in asked.iter().filter(|(_, way)| way.confidence() >= self.confidence_min) {
            for number in self.by.get(by).into_iter().flatten() {
                let Some(event) = self.event(*number) else { continue };
                // Of a file of unknown time equal bytes say enough: an event is held for two windows only.
                let is_near = is_within(event.at, to, self.reach(*way)) || *way == Way::Hash && to.span.is_none();
                if is_near {
                    found.entry(*number).and_modify(|known| *known = (*known).max(*way)).or_insert(*way);
                }
            }
        }
        let mut keys = BTreeSet::new();
        let relations = found.into_iter().filter_map(|(number, by)| {
            let event = self.event(number)?.clone();
            Some(Relation { by, confidence: by.confidence(), key: event.key(), event })
        });
        relations.filter(|relation| keys.insert(relation.key.clone())).collect()
    }

    fn event(&self, number: u64) -> Option<&Event> {
        self.came.get(usize::try_from(number.checked_sub(self.first)?).ok()?).map(|(_, event)| event)
    }

    pub(super) fn reach(&self, way: Way) -> u64 {
        if way == Way::HostAndTime { self.proximity } else { self.window }
    }
}

/// Whether a moment is in the file's span, or no further away than `reach`.
pub(super) fn is_within(at: i64, to: &Transfer, reach: u64) -> bool {
    to.span.is_some_and(|(from, until)| {
        let away = from.saturating_sub(at).max(at.saturating_sub(until)).max(0);
        away.unsigned_abs() <= reach
    })
}

/// Each once: an event from a host to itself has it twice.
fn ways_to(event: &Event) -> BTreeSet<By> {
    let flow = event.flow().map(|(a, b)| flow(a, b));
    let digests = [&event.sha256, &event.md5].into_iter().flatten().cloned().map(By::Digest);
    let community = event.community_id.clone().map(By::Community);
    flow.into_iter().chain(community).chain(digests).chain(event.hosts().map(By::Host)).collect()
}

fn canonical(end: SocketAddr) -> SocketAddr {
    SocketAddr::new(end.ip().to_canonical(), end.port())
}

fn flow(a: SocketAddr, b: SocketAddr) -> By {
    if a <= b { By::Flow(a, b) } else { By::Flow(b, a) }
}

/// Community ID, version 1, seed 0.
///
/// # Source
/// Community ID specification, version 1: SHA-1 over seed, the lower address, the higher one, protocol, a zero, and the
/// ports in the addresses' order, in network byte order.
pub(super) fn community_id(a: SocketAddr, b: SocketAddr, protocol: u8) -> String {
    let octets = |end: SocketAddr| match end.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let (mut low, mut high) = ((octets(a), a.port()), (octets(b), b.port()));
    if high < low {
        (low, high) = (high, low);
    }
    let mut sha1 = Sha1::new();
    sha1.update([0, 0]);
    sha1.update(&low.0);
    sha1.update(&high.0);
    sha1.update([protocol, 0]);
    sha1.update(low.1.to_be_bytes());
    sha1.update(high.1.to_be_bytes());
    format!("1:{}", base64::encode(&sha1.finalize()))
}
