//! What is asked next, and what of an answer is news. Pure: no server, no clock, no JSON.
//!
//! The list of agents is read in *looks*: page after page, in the order of ids, each page beginning with the last agent of the
//! one before. A look begins `every` after the last one began.
//!
//! | | | because |
//! |---|---|---|
//! | an agent that is not known | `new` | the first look tells all of them |
//! | its status is another than was handed in | `status` | |
//! | a page does not begin with the last agent of the one before | the look is not whole | agents were removed or added before it, so one may have been jumped over |
//! | the number of agents is another than on the first page, or than was listed | the same | |
//! | an agent is listed twice, or without id or status; the server says that some are missing | the same | |
//! | the list is empty | the same | a manager lists itself up to 4.x; an empty list is rather a fault there |
//! | two whole looks, one after the other, lack an agent | `gone` | looks that are not whole say nothing of who is missing |
//! | a page fails | the look is dropped, another one begins | what was seen stands |
//! | the server is too busy, or wants a new token | the same page is asked for again | |
//! | an answer is too long | pages half as long | memory |
//! | more agents than `agents_max` | those that come later are passed over | memory |
//!
//! Each change of an agent has a number, one more than the last, so that (id, number, status before, status) names it for good: also for
//! an agent that is gone and comes back, whose numbers go on from a floor above all that are gone.
//!
//! What is saved ([`Core::save`]) speaks of settled changes alone: a kill repeats at most what was not, under the same name
//! as long as the agent's status is still the same.
//!
//! Invariants: an agent that is on the list all the time is never told as gone, whatever the list does meanwhile; what was handed in
//! is told once, but for what a kill repeats.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::clock::Nanos;

#[cfg(test)]
mod tests;

/// Agents of a page that is made shorter, at least.
pub(super) const PAGE_MIN: u64 = 10;
/// Agents of a page at most, which is what the server allows.
pub(super) const PAGE_MAX: u64 = 100_000;
/// Agents of one look; a server that lists more is not asked on.
const LISTED_MAX: u64 = 10_000_000;
/// Bytes of an id; Wazuh's have some digits.
const ID_BYTES: usize = 64;
/// Whole looks that lack an agent before it is gone.
const LACKS: u8 = 2;
/// The format of what is saved.
const FORMAT: u8 = 1;

/// How it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// From the beginning of a look to that of the next.
    pub every: Nanos,
    /// Agents of a page.
    pub page: u64,
    /// Agents that are known.
    pub agents_max: usize,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask for this page; then [`Core::page`], or [`Core::broke`].
    Page { offset: u64, limit: u64 },
    /// Nothing before this monotonic time.
    Wait(Nanos),
}

/// An agent on a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen<'a> {
    /// Empty where the server gave none.
    pub id: &'a str,
    pub name: &'a str,
    pub ip: &'a str,
    /// Empty where the server gave none.
    pub status: &'a str,
}

/// A page, as far as decisions are made by it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page<'a> {
    pub seen: &'a [Seen<'a>],
    /// Agents of the whole list, as the server counts them.
    pub total: u64,
    /// The server says that not all could be had.
    pub is_partial: bool,
}

/// Why a change is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    New,
    Status,
    Gone,
}

impl Event {
    /// As in a record.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Status => "status",
            Self::Gone => "gone",
        }
    }
}

/// News of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub event: Event,
    pub id: Box<str>,
    pub name: Box<str>,
    pub ip: Box<str>,
    /// `None`: gone.
    pub status: Option<Box<str>>,
    /// `None`: new.
    pub previous: Option<Box<str>>,
    pub number: u64,
    /// Which of the page's it is; `None`: gone.
    pub seen: Option<usize>,
}

/// What a page came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// In the order of the page; those that are gone last.
    pub changes: Vec<Change>,
    /// Agents that were passed over for want of room.
    pub too_many: u64,
    /// Agents that were passed over since they have no id, or no status.
    pub strange: u64,
    /// At the end of a look: true if it was whole.
    pub ended: Option<bool>,
}

/// What is known of an agent.
#[derive(Clone, Debug)]
struct Agent {
    name: Box<str>,
    ip: Box<str>,
    /// As handed in; `None`: gone.
    status: Option<Box<str>>,
    /// As settled; `None`: nobody was told of it, or that it is gone.
    settled: Option<Box<str>>,
    /// Number of its next change, and of its next one as far as is settled.
    next: u64,
    settled_next: u64,
    /// The last look that saw it.
    look: u64,
    /// Whole looks that lacked it since.
    lacks: u8,
}

/// A look that is not over.
#[derive(Debug)]
struct Look {
    began: Nanos,
    /// Where on the list the last page ended.
    read: u64,
    last: Option<Box<str>>,
    total: Option<u64>,
    is_whole: bool,
}

/// A change on its way.
#[derive(Debug)]
struct Sent {
    id: Box<str>,
    status: Option<Box<str>>,
    next: u64,
}

/// The reader of one list of agents.
#[derive(Debug)]
pub(super) struct Core {
    rules: Rules,
    agents: BTreeMap<Box<str>, Agent>,
    /// First number of an agent that is not known.
    floor: u64,
    under_way: VecDeque<Vec<Sent>>,
    /// Batches that are settled.
    done: u64,
    look: Option<Look>,
    /// Looks that began.
    looks: u64,
    due: Nanos,
    /// Agents of a page; fewer while answers are too long.
    page: u64,
}

#[derive(Serialize, Deserialize)]
struct Saved<'a> {
    format: u8,
    floor: u64,
    #[serde(borrow)]
    agents: Vec<SavedAgent<'a>>,
}

#[derive(Serialize, Deserialize)]
struct SavedAgent<'a> {
    #[serde(borrow)]
    id: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    name: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    ip: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    status: std::borrow::Cow<'a, str>,
    next: u64,
}

impl Core {
    /// Begins with nobody known.
    ///
    /// - `floor`: number of the first change; above all that were ever told under this name.
    pub(super) fn new(rules: Rules, floor: u64) -> Self {
        Self { rules, agents: BTreeMap::new(), floor, under_way: VecDeque::new(), done: 0, look: None, looks: 0, due: 0, page: rules.page }
    }

    /// Goes on from what was saved; `None` if it is not that.
    pub(super) fn load(rules: Rules, bytes: &[u8]) -> Option<Self> {
        let saved: Saved<'_> = serde_json::from_slice(bytes).ok()?;
        let agent = |saved: SavedAgent<'_>| {
            let status: Option<Box<str>> = Some(saved.status.into());
            let SavedAgent { id, name, ip, next, .. } = saved;
            let agent =
                Agent { name: name.into(), ip: ip.into(), settled: status.clone(), status, next, settled_next: next, look: 0, lacks: 0 };
            (id.into(), agent)
        };
        let agents = saved.agents.into_iter().map(agent).collect();
        (saved.format == FORMAT).then(|| Self { agents, ..Self::new(rules, saved.floor) })
    }

    /// What of it holds after a kill: all that is settled, and nothing else.
    pub(super) fn save(&self) -> Vec<u8> {
        let settled = self.agents.iter().filter_map(|(id, agent)| Some((id, agent, agent.settled.as_deref()?)));
        let agents = settled.map(|(id, agent, status)| SavedAgent {
            id: (&**id).into(),
            name: (&*agent.name).into(),
            ip: (&*agent.ip).into(),
            status: status.into(),
            next: agent.settled_next,
        });
        // Numbers and texts: nothing of it can fail to be written.
        serde_json::to_vec(&Saved { format: FORMAT, floor: self.floor, agents: agents.collect() }).unwrap_or_default()
    }

    /// How many agents have each status, as handed in.
    pub(super) fn statuses(&self) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        for status in self.agents.values().filter_map(|agent| agent.status.as_deref()) {
            *counts.entry(status).or_default() += 1;
        }
        counts
    }

    /// What to do now.
    pub(super) fn next(&mut self, now: Nanos) -> Step {
        if self.look.is_none() {
            if now < self.due {
                return Step::Wait(self.due);
            }
            self.looks += 1;
            self.look = Some(Look { began: now, read: 0, last: None, total: None, is_whole: true });
        }
        // The last agent that was listed is asked for again.
        let offset = self.look.as_ref().map_or(0, |look| look.read.saturating_sub(1));
        Step::Page { offset, limit: self.page }
    }

    /// The page could not be had: the look is over, and the next one begins at once.
    pub(super) fn broke(&mut self) {
        self.look = None;
        self.due = 0;
    }

    /// An answer was longer than we take. False if pages cannot be shorter.
    pub(super) fn too_long(&mut self) -> bool {
        let is_shorter = self.page > PAGE_MIN;
        self.page = (self.page / 2).max(PAGE_MIN);
        is_shorter
    }

    /// The page that was asked for has come.
    pub(super) fn page(&mut self, page: &Page<'_>) -> Taken {
        let mut taken = Taken::default();
        let Some(mut look) = self.look.take() else { return taken };
        let offset = look.read.saturating_sub(1);
        // Its first is the last of the page before, which was observed then.
        let again = look.last.is_some() && page.seen.first().map(|seen| seen.id) == look.last.as_deref();
        let mut whole = !page.is_partial && *look.total.get_or_insert(page.total) == page.total && (again || look.last.is_none());
        for (at, seen) in page.seen.iter().enumerate().skip(usize::from(again)) {
            if seen.id.is_empty() || seen.id.len() > ID_BYTES || seen.status.is_empty() {
                taken.strange += 1;
                whole = false;
                continue;
            }
            match self.observe(seen, at) {
                Observed::Known => {}
                Observed::Change(change) => taken.changes.push(change),
                Observed::Twice => whole = false,
                Observed::NoRoom => taken.too_many += 1,
            }
        }
        let before = std::mem::replace(&mut look.read, offset + page.seen.len() as u64);
        look.last = page.seen.last().map(|seen| seen.id.into()).or(look.last);
        look.is_whole &= whole;
        if look.read > before && look.read < page.total.min(LISTED_MAX) {
            self.look = Some(look);
            return taken;
        }
        let is_whole = look.is_whole && look.read == page.total && look.read > 0;
        if is_whole {
            self.lacking(&mut taken.changes);
        }
        taken.ended = Some(is_whole);
        self.due = look.began.saturating_add(self.rules.every);
        taken
    }

    fn observe(&mut self, seen: &Seen<'_>, at: usize) -> Observed {
        let full = self.agents.len() >= self.rules.agents_max;
        let agent = match self.agents.get_mut(seen.id) {
            Some(agent) if agent.look == self.looks => return Observed::Twice,
            Some(agent) => agent,
            None if full => return Observed::NoRoom,
            None => {
                let none = Agent {
                    name: "".into(),
                    ip: "".into(),
                    status: None,
                    settled: None,
                    next: self.floor,
                    settled_next: self.floor,
                    look: 0,
                    lacks: 0,
                };
                self.agents.entry(seen.id.into()).or_insert(none)
            }
        };
        (agent.look, agent.lacks) = (self.looks, 0);
        for (known, now) in [(&mut agent.name, seen.name), (&mut agent.ip, seen.ip)] {
            if **known != *now {
                *known = now.into();
            }
        }
        if agent.status.as_deref() == Some(seen.status) {
            return Observed::Known;
        }
        let status: Box<str> = seen.status.into();
        let previous = agent.status.replace(status.clone());
        let event = if previous.is_some() { Event::Status } else { Event::New };
        Observed::Change(agent.change(event, seen.id, Some(status), previous, Some(at)))
    }

    /// A whole look is over: whom it lacked.
    fn lacking(&mut self, changes: &mut Vec<Change>) {
        let lacking = self.agents.iter_mut().filter(|(_, agent)| agent.look != self.looks && agent.status.is_some());
        for (id, agent) in lacking {
            agent.lacks += 1;
            if agent.lacks >= LACKS {
                let previous = agent.status.take();
                changes.push(agent.change(Event::Gone, id, None, previous, None));
            }
        }
    }

    /// These changes, in the order in which they were taken, are one batch on its way.
    pub(super) fn hand_in(&mut self, changes: &[Change]) {
        let sent = |change: &Change| Sent { id: change.id.clone(), status: change.status.clone(), next: change.number + 1 };
        self.under_way.push_back(changes.iter().map(sent).collect());
    }

    /// So many batches of all that were handed in are settled; true if that is news.
    pub(super) fn settle(&mut self, batches: u64) -> bool {
        let before = self.done;
        while self.done < batches {
            let Some(batch) = self.under_way.pop_front() else { break };
            self.done += 1;
            for Sent { id, status, next } in batch {
                let Some(agent) = self.agents.get_mut(&id) else { continue };
                (agent.settled, agent.settled_next) = (status, next);
                if agent.settled.is_none() {
                    // Should its id come again, or have come again already, so do none of its numbers.
                    self.floor = self.floor.max(next);
                    if agent.settled_next == agent.next {
                        self.agents.remove(&id);
                    }
                }
            }
        }
        self.done > before
    }
}

impl Agent {
    fn change(&mut self, event: Event, id: &str, status: Option<Box<str>>, previous: Option<Box<str>>, seen: Option<usize>) -> Change {
        let number = self.next;
        self.next += 1;
        Change { event, id: id.into(), name: self.name.clone(), ip: self.ip.clone(), status, previous, number, seen }
    }
}

enum Observed {
    Known,
    Change(Change),
    /// In this look already.
    Twice,
    NoRoom,
}
