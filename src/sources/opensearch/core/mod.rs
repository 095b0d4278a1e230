//! What is asked next, and what is done with an answer. Pure: no server, no clock, no JSON.
//!
//! Documents are read in *rounds*. A round fixes a point in time, asks for all documents of a span of time page by
//! page, in the order of their times, and lets the point in time go. The next one begins `every` after it began.
//!
//! | | | because |
//! |---|---|---|
//! | a span begins | `overlap` before the latest time that was handed in | documents become visible late |
//! | a span ends | `settle` before now | what is not searchable yet must not be jumped over |
//! | a document that was handed in before | is passed over ([`Seen`]) | it lies within `overlap` |
//! | a page is full | its last documents with the same sort keys are left to the next page | the keys after the time need not be unique, and `search_after` jumps over equal ones |
//! | a page is full of equal keys | it is asked again, twice as long | |
//! | a page is not full | the round ends | |
//! | a page begins below what was handed in | only names are asked for, and then the documents that are new | nearly all of them are known |
//! | an answer is too long | shorter pages; below [`PAGE_MIN`] only names, and then fewer and fewer documents at a time | memory |
//! | the point in time is gone | another one, from the cursor | documents that were handed in are known |
//!
//! What is saved ([`Core::save`]) speaks of settled documents alone, so that a kill repeats at most what was not.
//!
//! Invariants: a document is handed in once, but for what a kill repeats, as long as no more than `seen_max` lie in the span;
//! the cursor never falls; what is below a saved cursor less `overlap` was asked for.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::collections::{HashSet, VecDeque};

use super::{
    seen::{Ms, Name, Seen, i64_of, name},
    tally::{Span, Tally},
};
use crate::clock::Nanos;

/// Documents of a page that is made shorter, at least.
pub(super) const PAGE_MIN: usize = 32;
/// Documents of a page at most: `index.max_result_window` is that by default.
pub(super) const PAGE_MAX: usize = 10_000;
/// The first byte of what is saved.
const FORMAT: u8 = 1;

/// How it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// How far back late documents are looked for.
    pub overlap: Ms,
    /// How old a document must be.
    pub settle: Ms,
    /// From the beginning of a round to that of the next.
    pub every: Nanos,
    /// Documents of a page.
    pub page: usize,
    /// Documents that are remembered.
    pub seen_max: usize,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Fix a point in time; then [`Core::opened`].
    Open,
    /// Count documents by minutes; then [`Core::counted`].
    Count { pit: String, span: Span },
    /// Ask for a page; then [`Core::page`].
    Search(Search),
    /// Ask for these documents; then [`Core::fetched`].
    Fetch { pit: String, singles: Vec<Single> },
    /// Let the point in time go; nothing to be said of it.
    Close { pit: String },
    /// Nothing before this monotonic time.
    Wait(Nanos),
}

/// A page to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Search {
    pub pit: String,
    pub span: Span,
    /// Sort keys of the document before it, as the server wrote them.
    pub after: Option<String>,
    pub size: usize,
    /// Without the documents themselves.
    pub is_bare: bool,
}

/// A document of a page, without itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit<'a> {
    pub index: &'a str,
    pub id: &'a str,
    pub at: Ms,
    /// Its sort keys, as the server wrote them.
    pub sort: &'a str,
}

/// A document that is to be handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Which of the page's it is.
    pub hit: usize,
    pub name: Name,
    pub at: Ms,
    pub is_late: bool,
}

/// A document that is asked for by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Single {
    pub index: String,
    pub id: String,
    pub name: Name,
    pub at: Ms,
    pub is_late: bool,
}

#[derive(Debug)]
struct Round {
    began: Nanos,
    span: Span,
    pit: Option<String>,
    is_counted: bool,
    after: Option<String>,
    /// Time of the last document that was looked at.
    at: Ms,
    /// Documents of the page that was asked for, and whether without themselves.
    size: usize,
    was_bare: bool,
    /// Longer than a page, since all keys of the last one were equal.
    grown: Option<usize>,
    /// The next page has no room for documents.
    is_bare: bool,
    singles: VecDeque<Single>,
    /// How many of these at a time.
    fetch: usize,
    is_last: bool,
}

/// Documents on their way, and the cursor behind them.
#[derive(Debug)]
struct Batch {
    documents: Vec<(Name, Ms)>,
    reached: Ms,
}

/// The reader of one stream of documents.
#[derive(Debug)]
pub(super) struct Core {
    rules: Rules,
    /// Latest time that was handed in.
    reached: Ms,
    /// The same of what is settled.
    settled: Ms,
    seen: Seen,
    tally: Tally,
    under_way: VecDeque<Batch>,
    /// Batches that are settled.
    done: u64,
    round: Option<Round>,
    due: Nanos,
    /// Documents of a page; fewer while they are long.
    page: usize,
    /// Handed in below this, a document is late.
    late_below: Ms,
    /// Documents of the span were forgotten since that was asked.
    has_forgotten: bool,
}

impl Core {
    /// Begins at a time: documents before it are not wanted.
    pub(super) fn new(rules: Rules, start: Ms) -> Self {
        Self {
            rules,
            reached: start,
            settled: start,
            seen: Seen::new(rules.seen_max),
            tally: Tally::new(start),
            under_way: VecDeque::new(),
            done: 0,
            round: None,
            due: 0,
            page: rules.page,
            late_below: Ms::MIN,
            has_forgotten: false,
        }
    }

    /// Goes on from what was saved; `None` if it is not that.
    pub(super) fn load(rules: Rules, mut bytes: &[u8]) -> Option<Self> {
        let (format, rest) = bytes.split_first()?;
        bytes = rest;
        let (reached, tally) = (i64_of(&mut bytes)?, Tally::read(&mut bytes)?);
        let seen = Seen::read(rules.seen_max, &mut bytes)?;
        let core = Self { reached, settled: reached, tally, seen, ..Self::new(rules, reached) };
        (*format == FORMAT && bytes.is_empty()).then_some(core)
    }

    /// What of it holds after a kill: all that is settled, and nothing else.
    pub(super) fn save(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        out.extend_from_slice(&self.settled.to_le_bytes());
        let open = || self.under_way.iter().flat_map(|batch| &batch.documents);
        self.tally.write(open().map(|(_, at)| *at), &mut out);
        self.seen.write(&open().map(|(name, _)| *name).collect::<HashSet<_>>(), &mut out);
        out
    }

    /// Documents that are remembered.
    pub(super) fn remembered(&self) -> usize {
        self.seen.len()
    }

    /// True once after documents of the span were forgotten for want of room.
    pub(super) fn take_forgotten(&mut self) -> bool {
        std::mem::take(&mut self.has_forgotten)
    }

    /// The point in time that is fixed now.
    pub(super) fn pit(&self) -> Option<&str> {
        self.round.as_ref()?.pit.as_deref()
    }

    /// True between the first page of a round and the last.
    pub(super) fn is_behind(&self) -> bool {
        self.round.as_ref().is_some_and(|round| round.after.is_some() && !round.is_last)
    }

    /// Where the next span begins.
    fn from(&self) -> Ms {
        let back = self.reached.saturating_sub(self.rules.overlap);
        // What was forgotten would come again. With its own time forgotten the cursor itself is asked for all the same.
        let known = self.seen.forgotten().saturating_add(1).min(self.reached);
        back.max(known).max(self.tally.since())
    }

    /// What to do now.
    ///
    /// - `wall`: milliseconds since 1970.
    pub(super) fn next(&mut self, now: Nanos, wall: Ms) -> Step {
        if self.round.is_none() {
            if now < self.due {
                return Step::Wait(self.due);
            }
            let span = Span { from: self.from(), until: wall.saturating_sub(self.rules.settle) };
            if span.until <= span.from {
                self.due = now.saturating_add(self.rules.every);
                return Step::Wait(self.due);
            }
            let kept = self.settled.saturating_sub(self.rules.overlap);
            self.seen.prune(kept);
            self.tally.prune(kept);
            self.round = Some(Round {
                began: now,
                span,
                pit: None,
                is_counted: false,
                after: None,
                at: span.from,
                size: 0,
                was_bare: false,
                grown: None,
                is_bare: false,
                singles: VecDeque::new(),
                fetch: self.rules.page,
                is_last: false,
            });
        }
        let Some(round) = &mut self.round else { return Step::Wait(self.due) };
        let Some(pit) = &round.pit else { return Step::Open };
        if !round.singles.is_empty() {
            return Step::Fetch { pit: pit.clone(), singles: round.singles.iter().take(round.fetch).cloned().collect() };
        }
        if round.is_last {
            let step = Step::Close { pit: pit.clone() };
            self.due = round.began.saturating_add(self.rules.every);
            self.late_below = self.reached;
            self.round = None;
            return step;
        }
        if !round.is_counted {
            match self.tally.span(round.span.from) {
                Some(span) => return Step::Count { pit: pit.clone(), span },
                None => round.is_counted = true,
            }
        }
        round.size = round.grown.unwrap_or(self.page);
        round.was_bare = round.is_bare || round.at < self.late_below;
        Step::Search(Search { pit: pit.clone(), span: round.span, after: round.after.clone(), size: round.size, is_bare: round.was_bare })
    }

    /// A point in time is fixed.
    pub(super) fn opened(&mut self, pit: String) {
        if let Some(round) = &mut self.round {
            round.pit = Some(pit);
        }
    }

    /// The server calls the point in time by another name from now on.
    pub(super) fn renamed(&mut self, pit: &str) {
        if let Some(known) = self.round.as_mut().and_then(|round| round.pit.as_mut())
            && known != pit
        {
            pit.clone_into(known);
        }
    }

    /// The point in time is gone: another one is wanted, and all after the cursor is asked for again.
    pub(super) fn expired(&mut self) {
        let from = self.from();
        if let Some(round) = &mut self.round {
            (round.span.from, round.at) = (from, from);
            (round.pit, round.after, round.grown) = (None, None, None);
            (round.is_bare, round.is_last) = (false, false);
            round.singles.clear();
        }
    }

    /// The server has so many documents in the minutes that begin at these times. Gives how many more than before came
    /// too late.
    pub(super) fn counted(&mut self, counts: &[(Ms, u64)]) -> u64 {
        if let Some(round) = &mut self.round {
            round.is_counted = true;
        }
        self.tally.counted(counts)
    }

    /// An answer was longer than we take.
    pub(super) fn too_long(&mut self) {
        let Some(round) = &mut self.round else { return };
        if !round.singles.is_empty() {
            round.fetch = (round.fetch.min(round.singles.len()) / 2).max(1);
        } else if round.was_bare {
            self.page = (self.page / 2).max(1);
        } else if round.grown.is_none() && self.page > PAGE_MIN {
            self.page = (self.page / 2).max(PAGE_MIN);
        } else {
            round.is_bare = true;
        }
    }

    /// A page has come. Gives the documents to be handed in; of a bare page none, they are asked for by name.
    ///
    /// - `is_short`: the answer was well below what we take.
    pub(super) fn page(&mut self, hits: &[Hit<'_>], is_short: bool) -> Vec<Taken> {
        let Some(round) = &mut self.round else { return Vec::new() };
        let is_full = hits.len() >= round.size;
        let last = hits.last().map(|hit| hit.sort);
        let group = hits.iter().rev().take_while(|hit| Some(hit.sort) == last).count();
        let mut kept = if is_full { hits.len() - group } else { hits.len() };
        if is_full && kept == 0 {
            if round.size < PAGE_MAX {
                round.grown = Some((round.size * 2).min(PAGE_MAX));
                return Vec::new();
            }
            // More equal keys than a cluster has shards: they are unique but for shards.
            kept = hits.len();
        }
        let mut taken = Vec::new();
        let mut here = HashSet::new();
        for (number, hit) in hits.iter().enumerate().take(kept) {
            let name = name(hit.index, hit.id);
            if self.seen.has(name) {
                // One with several times may be asked for longer than the first of them says.
                self.has_forgotten |= self.seen.mark(name, hit.at.max(round.span.from));
            } else if here.insert(name) {
                taken.push(Taken { hit: number, name, at: hit.at, is_late: hit.at < self.late_below });
            }
        }
        if let Some(hit) = kept.checked_sub(1).and_then(|last| hits.get(last)) {
            round.after = Some(hit.sort.to_owned());
            round.at = hit.at;
        }
        (round.is_last, round.grown, round.is_bare) = (!is_full, None, false);
        if round.was_bare {
            round.fetch = self.rules.page;
            let single = |taken: Taken| {
                let hit = hits.get(taken.hit)?;
                let (index, id) = (hit.index.to_owned(), hit.id.to_owned());
                Some(Single { index, id, name: taken.name, at: taken.at, is_late: taken.is_late })
            };
            round.singles.extend(taken.into_iter().filter_map(single));
            return Vec::new();
        }
        if is_short && self.page < self.rules.page {
            self.page = (self.page * 2).min(self.rules.page);
        }
        taken
    }

    /// These of the documents that were asked for by name are handed in.
    pub(super) fn fetched(&mut self, names: &[Name]) {
        if let Some(round) = &mut self.round {
            round.singles.retain(|single| !names.contains(&single.name));
        }
    }

    /// These, which were taken, are one batch on its way. To be called for each batch that the home gets, in their order,
    /// which is that of their times but for late ones.
    ///
    /// Gives the cursor behind it.
    pub(super) fn hand_in(&mut self, documents: Vec<(Name, Ms)>) -> Ms {
        let from = self.round.as_ref().map_or(Ms::MIN, |round| round.span.from);
        for (name, at) in &documents {
            self.has_forgotten |= self.seen.mark(*name, (*at).max(from));
            self.tally.handed_in(*at);
            self.reached = self.reached.max(*at);
        }
        self.under_way.push_back(Batch { documents, reached: self.reached });
        self.reached
    }

    /// So many batches of all that were handed in are settled; true if that is news.
    pub(super) fn settle(&mut self, batches: u64) -> bool {
        let before = self.done;
        while self.done < batches {
            let Some(batch) = self.under_way.pop_front() else { break };
            self.done += 1;
            self.settled = batch.reached;
        }
        self.done > before
    }
}

#[cfg(test)]
mod tests;
