//! One search of MISP on its way: what it asks, which page, and what was found so far. Pure.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use super::super::{attribute::Attribute, value};
use crate::limits;

/// What a search asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Attributes with any of these values, in normal form.
    Values(Vec<Rc<str>>),
    /// Attributes whose value is a network.
    Networks,
    /// A value that nobody has, to see whether MISP takes searches at all.
    Canary,
}

/// A search, from its first page to its last.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) ask: Ask,
    /// From 1.
    pub(super) page: u32,
    /// The page that was sent last, 0 for none.
    sent: u32,
    /// Searches that went well when this one was made.
    pub(super) born: u64,
    failures: u32,
    /// Failures with a success of another search before each.
    strikes: u32,
    /// Searches that had gone well when it last failed.
    struck_at: u64,
    found: HashMap<Rc<str>, Vec<Rc<Attribute>>>,
    seen: HashSet<Box<str>>,
    networks: Vec<Attribute>,
    /// Rows that hold no value of this search.
    pub(super) foreign: u64,
}

/// What a search found, at its end.
#[derive(Debug)]
pub(super) enum Found {
    /// Each value with its attributes.
    Values(Vec<(Rc<str>, Vec<Rc<Attribute>>)>),
    Networks(Vec<Attribute>),
    Canary,
}

impl Batch {
    pub(super) fn new(ask: Ask, born: u64) -> Self {
        let found = match &ask {
            Ask::Values(values) => values.iter().map(|value| (value.clone(), Vec::new())).collect(),
            Ask::Networks | Ask::Canary => HashMap::new(),
        };
        Self {
            ask,
            page: 1,
            sent: 0,
            born,
            failures: 0,
            strikes: 0,
            struck_at: born,
            found,
            seen: HashSet::new(),
            networks: Vec::new(),
            foreign: 0,
        }
    }

    /// It is sent; true if this page was sent before.
    pub(super) fn is_sent_again(&mut self) -> bool {
        std::mem::replace(&mut self.sent, self.page) == self.page
    }

    /// Takes one page. True if there is another.
    ///
    /// The last page is the first that is not full, what MISP left out counted in. A full page that
    /// brings nothing new is the last too: some servers do not turn pages.
    pub(super) fn take(&mut self, rows: Vec<Attribute>, skipped: u64, page_rows: u32) -> bool {
        let is_full = rows.len() as u64 + skipped >= u64::from(page_rows);
        let mut is_news = rows.is_empty();
        for row in rows {
            let name = if row.id.is_empty() { &row.uuid } else { &row.id };
            if name.is_empty() || self.seen.insert(name.clone()) {
                is_news |= !name.is_empty();
                self.sort_in(row);
            }
        }
        self.page += 1;
        is_full && is_news && self.page <= limits::MISP_PAGES_MAX && self.ask != Ask::Canary
    }

    fn sort_in(&mut self, row: Attribute) {
        if row.deleted {
            return;
        }
        if self.ask == Ask::Networks {
            return self.networks.push(row);
        }
        let row = Rc::new(row);
        let mut is_ours = false;
        for part in value::parts(&row.kind, &row.value) {
            if let Some(list) = self.found.get_mut(value::normal(part).as_str()) {
                is_ours = true;
                if list.last().is_none_or(|last| !Rc::ptr_eq(last, &row)) {
                    list.push(row.clone());
                }
            }
        }
        self.foreign += u64::from(!is_ours);
    }

    /// It failed for a reason that may pass. Returns how often it did so though others went well.
    ///
    /// - `successes`: searches that have gone well so far.
    pub(super) fn strike(&mut self, successes: u64) -> u32 {
        self.failures += 1;
        if successes > self.struck_at {
            self.strikes += 1;
            self.struck_at = successes;
        }
        self.strikes
    }

    /// True after every third failure.
    pub(super) fn is_third_failure(&self) -> bool {
        self.failures.is_multiple_of(3)
    }

    /// Two searches in place of this one, from their first pages; `None` if it asks one thing only.
    pub(super) fn halve(&self) -> Option<[Batch; 2]> {
        let Ask::Values(values) = &self.ask else { return None };
        let (left, right) = values.split_at_checked(values.len() / 2).filter(|(left, _)| !left.is_empty())?;
        Some([left, right].map(|half| Batch::new(Ask::Values(half.to_vec()), self.born)))
    }

    pub(super) fn finish(mut self) -> Found {
        match self.ask {
            // In the order asked: a map's own order would differ from run to run.
            Ask::Values(values) => {
                let found = values.into_iter().map(|value| {
                    let hits = self.found.remove(&value).unwrap_or_default();
                    (value, hits)
                });
                Found::Values(found.collect())
            }
            Ask::Networks => Found::Networks(self.networks),
            Ask::Canary => Found::Canary,
        }
    }
}
