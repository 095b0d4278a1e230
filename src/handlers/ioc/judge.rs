//! Which indicators of an alert are harmless, and of which something may be known. Asks tables in
//! memory; looks at nothing else.

use std::sync::Arc;

use crate::{
    intel::{Ioc, IocType},
    tables::{
        Held, Indicators, Kind, Reader, Shelf, Warninglists,
        warninglists::{Category, built_in},
    },
};

/// What is said of one indicator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Verdict {
    is_harmless: bool,
    /// Something may be known of it.
    is_known: bool,
}

/// The tables of one handler on one shard, and what they said of the alert at hand.
#[derive(Debug)]
pub(super) struct Judge {
    indicators: Option<Reader<Indicators>>,
    /// `None`: the built-in ones.
    lists: Option<Reader<Warninglists>>,
    annotates: bool,
    verdicts: Vec<Verdict>,
    /// Names of lists, each with the number of the indicator that it holds; rising.
    notes: Vec<(usize, String)>,
}

impl Judge {
    /// - `indicators`, `warninglists`: names of tables.
    /// - `annotates`: what is harmless is kept.
    pub fn new(tables: &Shelf, indicators: Option<&str>, warninglists: Option<&str>, annotates: bool) -> Self {
        Self {
            // A table that nobody placed is one that is never filled.
            indicators: indicators.map(|name| tables.of(name).unwrap_or_else(|| Arc::new(Held::default())).reader()),
            lists: warninglists.and_then(|name| tables.of(name)).map(|held| held.reader()),
            annotates,
            verdicts: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Asks the tables for every indicator; false if none is worth a message.
    ///
    /// - `probes`: ask also whether something may be known of it.
    pub fn sort(&mut self, found: &[Ioc], probes: bool) -> bool {
        self.verdicts.clear();
        self.notes.clear();
        // Until the operator's lists are read, those of our own stand in.
        let lists = match self.lists.as_mut().and_then(Reader::get) {
            Some(lists) => lists,
            None => built_in(),
        };
        let table = self.indicators.as_mut().filter(|_| probes).map(Reader::get);
        let mut any = false;
        for (n, ioc) in found.iter().enumerate() {
            let named = lists.check(kind_of(ioc.kind), &ioc.value);
            let is_harmless = !self.annotates && named.iter().any(|list| list.category == Category::FalsePositive);
            self.notes.extend(named.into_iter().map(|list| (n, list.name.clone())));
            let is_known = !is_harmless
                && match &table {
                    // What is not there cannot say no.
                    Some(None) => true,
                    Some(Some(table)) => table.may_know(ioc.kind.as_str(), &ioc.value),
                    None => false,
                };
            self.verdicts.push(Verdict { is_harmless, is_known });
            any |= !is_harmless;
        }
        any
    }

    fn verdict(&self, n: usize) -> Verdict {
        self.verdicts.get(n).copied().unwrap_or_default()
    }

    /// True if the n-th is not harmless.
    pub fn is_kept(&self, n: usize) -> bool {
        !self.verdict(n).is_harmless
    }

    /// True if something may be known of the n-th.
    pub fn is_known(&self, n: usize) -> bool {
        self.verdict(n).is_known
    }

    /// True if something may be known of one of them.
    pub fn any_known(&self) -> bool {
        self.verdicts.iter().any(|verdict| verdict.is_known)
    }

    /// Names of the lists that hold the n-th.
    pub fn lists_of(&self, n: usize) -> impl Iterator<Item = &str> {
        self.notes.iter().filter(move |(of, _)| *of == n).map(|(_, name)| name.as_str())
    }
}

fn kind_of(kind: IocType) -> Kind {
    match kind {
        IocType::Ip => Kind::Ip,
        IocType::Domain => Kind::Domain,
        IocType::Url => Kind::Url,
        IocType::Email => Kind::Email,
        IocType::Md5 => Kind::Md5,
        IocType::Sha1 => Kind::Sha1,
        IocType::Sha256 => Kind::Sha256,
        IocType::Sha512 => Kind::Sha512,
        IocType::Imphash => Kind::Imphash,
        IocType::Ja3 => Kind::Ja3,
    }
}
