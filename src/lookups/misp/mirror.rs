//! Answers from the local tables: what MISP would say, without a call to it.
//!
//! A question is answered at once. While there is no table, or it cannot be read, questions wait
//! as they do while MISP is away: nothing is skipped. A search of the tables is a look at the
//! filter in memory and, after a yes, one read of the disk, mostly out of the page cache.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use super::{
    core::{Match, Verdict},
    local,
    settings::Settings,
    value::{self, Expand, Via},
};
use crate::{
    io::Executor,
    metrics::{Standing, State},
    store::intel::{IntelError, Tables},
    tables::{self, Held},
};

/// Between two tries while questions wait.
const RETRY: Duration = Duration::from_secs(1);

type Then = Box<dyn FnOnce(Verdict)>;

/// The tables as a MISP that can be asked.
pub struct Mirror(Rc<Inner>);

struct Inner {
    held: Arc<Held<Tables>>,
    expand: Expand,
    /// MISP's types that count; empty: any.
    types: Vec<String>,
    /// What is known not to be meant for detection does not count.
    to_ids: bool,
    hits_max: usize,
    /// Kind, value and who is to be told, in order.
    waiting: RefCell<VecDeque<(String, String, Then)>>,
    is_retrying: Cell<bool>,
    standing: Standing,
    on: Rc<dyn Executor>,
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mirror({} waiting)", self.0.waiting.borrow().len())
    }
}

impl Mirror {
    /// Starts one.
    ///
    /// - `held`: where the tables are, or will be.
    pub fn start(settings: &Settings, held: Arc<Held<Tables>>, on: Rc<dyn Executor>, standing: Standing) -> Self {
        let inner = Inner {
            held,
            expand: settings.limits.expand,
            types: settings.filters.types.clone(),
            to_ids: settings.filters.to_ids,
            hits_max: settings.limits.hits_max,
            waiting: RefCell::default(),
            is_retrying: Cell::new(false),
            standing,
            on,
        };
        inner.stand();
        Self(Rc::new(inner))
    }

    /// Asks, and calls `then` with the verdict; at once if the tables are there.
    ///
    /// - `kind`: `ip`, `domain`, `url`, …; by it is chosen what else is asked.
    pub fn ask_then(&self, kind: &str, value: &str, then: impl FnOnce(Verdict) + 'static) {
        let inner = &self.0;
        if inner.waiting.borrow().is_empty()
            && let Ok(verdict) = inner.answer(kind, value)
        {
            return then(verdict);
        }
        inner.waiting.borrow_mut().push_back((kind.to_owned(), value.to_owned(), Box::new(then)));
        if !inner.is_retrying.replace(true) {
            inner.on.spawn("misp mirror", Box::pin(inner.clone().retry()));
        }
    }
}

impl Inner {
    /// Says whether there is anything to answer from.
    fn stand(&self) {
        self.standing.set(match self.held.get() {
            Some(_) => State::Ready,
            None => State::Holding("its table is empty; fill it with `shipper intel import` or `shipper intel sync`".into()),
        });
    }

    /// Answers those who wait as soon as that can be done.
    async fn retry(self: Rc<Self>) {
        loop {
            let Some((kind, value)) = self.waiting.borrow().front().map(|(kind, value, _)| (kind.clone(), value.clone())) else { break };
            let Ok(verdict) = self.answer(&kind, &value) else {
                self.standing.holds(self.waiting.borrow().len() as u64);
                self.on.sleep(RETRY).await;
                continue;
            };
            let waited = self.waiting.borrow_mut().pop_front();
            if let Some((_, _, then)) = waited {
                then(verdict);
            }
        }
        self.is_retrying.set(false);
    }

    /// What the tables say; how it stands is told on the way.
    fn answer(&self, kind: &str, value: &str) -> Result<Verdict, ()> {
        let Some(tables) = self.held.get() else {
            self.stand();
            return Err(());
        };
        match self.search(&tables, kind, value) {
            Ok(verdict) => {
                self.standing.set(State::Ready);
                Ok(verdict)
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                self.standing.set(State::Holding(format!("{error}{cause}")));
                Err(())
            }
        }
    }

    fn search(&self, tables: &Tables, kind: &str, value: &str) -> Result<Verdict, IntelError> {
        let mut hits: Vec<Match> = Vec::new();
        for (asked, via) in value::asks(kind, value, self.expand) {
            let (own, around) = tables.find_apart(asked.as_bytes())?;
            let own = own.iter().filter(|attribute| self.counts(attribute)).take(self.hits_max).map(|attribute| (via, attribute));
            let around = around.iter().filter(|attribute| self.counts(attribute)).map(|attribute| (Via::Network, attribute));
            for (via, attribute) in own.chain(around) {
                let row = local::row(attribute);
                if !hits.iter().any(|hit| *hit.attribute == row) {
                    hits.push(Match { via, attribute: Rc::new(row) });
                }
            }
        }
        Ok(if hits.is_empty() { Verdict::Miss } else { Verdict::Hit(hits) })
    }

    fn counts(&self, attribute: &tables::Attribute) -> bool {
        let is_meant = !self.to_ids || attribute.to_ids != Some(false);
        is_meant && (self.types.is_empty() || self.types.contains(&attribute.misp_type))
    }
}
