//! Drives the engine: sends what it says, tells it what came of it, hands verdicts out.
//!
//! One task on the edge thread decides; each call to MISP and Redis is a task of its own, so that
//! nothing waits for a slow answer but its own questions.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    future::pending,
    rc::Rc,
    time::Duration,
};

use tokio::sync::{Notify, oneshot};

use super::{
    answer::Outcome,
    core::{Core, Counts, Learned, Step, Token, Verdict},
    figures::Figures,
    query,
    session::Session,
    settings::Settings,
    shared::Shared,
    sightings::Sightings,
    value::{self, Via},
};
use crate::{clock::Nanos, io::Executor, metrics::Standing};

/// Entries for the shared cache that wait while it is slow; past this they are let go.
const KEEP_MAX: usize = 20_000;
const SECOND: Nanos = 1_000_000_000;

/// A MISP that can be asked. Questions that are open when it is dropped get no verdict.
#[derive(Debug)]
pub struct Client(Rc<Inner>);

type Then = Box<dyn FnOnce(Verdict)>;

struct Inner {
    core: RefCell<Core>,
    waiting: RefCell<HashMap<Token, (Rc<str>, Then)>>,
    tokens: Cell<Token>,
    session: Rc<Session>,
    shared: Option<Shared>,
    keeping: RefCell<Vec<Learned>>,
    is_keeping: Cell<bool>,
    sightings: RefCell<Option<Sightings>>,
    is_sighting: Cell<bool>,
    /// Raised whenever the engine was told something.
    told: Notify,
    is_closed: Cell<bool>,
    standing: Standing,
    figures: Figures,
    on: Rc<dyn Executor>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}, {} open", self.session, self.core.borrow().open())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.0.is_closed.set(true);
        self.0.told.notify_one();
    }
}

impl Client {
    /// Starts one; connects when there is something to ask.
    ///
    /// - `on`: of a thread with tokio and its network.
    pub fn start(settings: &Settings, on: Rc<dyn Executor>, standing: Standing) -> Self {
        // Other agents must not come back from an outage in step with this one.
        let seed = on.clock().now();
        let mut limits = settings.limits;
        limits.seed = seed;
        let page_rows = limits.page_rows;
        let session = Session::new(settings.http.clone(), settings.key_file.clone(), settings.filters.clone(), page_rows);
        let inner = Rc::new(Inner {
            core: RefCell::new(Core::new(limits)),
            waiting: RefCell::default(),
            tokens: Cell::new(0),
            session: Rc::new(session),
            shared: settings.redis.clone().map(|(redis, prefix)| Shared::new(redis, prefix, seed)),
            keeping: RefCell::default(),
            is_keeping: Cell::new(false),
            sightings: RefCell::new(settings.sightings.map(|window| Sightings::new(crate::clock::nanos(window)))),
            is_sighting: Cell::new(false),
            told: Notify::new(),
            is_closed: Cell::new(false),
            figures: Figures::new(&standing, settings),
            standing,
            on: on.clone(),
        });
        on.spawn("misp", Box::pin(inner.clone().work()));
        Self(inner)
    }

    /// Asks, and calls `then` with the verdict; at once if it is known.
    ///
    /// - `kind`: `ip`, `domain`, `url`, …; by it is chosen what else is asked.
    ///
    /// Returns the question's name, by which it can be forgotten.
    pub fn ask_then(&self, kind: &str, value: &str, then: impl FnOnce(Verdict) + 'static) -> Token {
        let inner = &self.0;
        inner.figures.asked(kind);
        let token = inner.tokens.get() + 1;
        inner.tokens.set(token);
        inner.waiting.borrow_mut().insert(token, (value::normal(value).into(), Box::new(then)));
        inner.core.borrow_mut().ask(inner.now(), token, kind, value);
        inner.hand_out();
        inner.told.notify_one();
        token
    }

    /// Forgets questions: nobody is called for them any more.
    pub fn forget(&self, tokens: &HashSet<Token>) {
        let inner = &self.0;
        tokens.iter().for_each(|token| _ = inner.waiting.borrow_mut().remove(token));
        inner.core.borrow_mut().forget(tokens);
        inner.told.notify_one();
    }

    /// True while no answers are to be had.
    pub fn is_away(&self) -> bool {
        self.0.core.borrow().is_away(self.0.now())
    }

    /// Asks and waits for the verdict, through whatever outage.
    pub async fn ask(&self, kind: &str, value: &str) -> Verdict {
        let (send, receive) = oneshot::channel();
        self.ask_then(kind, value, move |verdict| {
            let _ = send.send(verdict); // nobody waits any more
        });
        match receive.await {
            Ok(verdict) => verdict,
            // Only a drop of this very object forgets a question, and we borrow it.
            Err(_) => pending().await,
        }
    }

    /// The way to it, for what is no question: its version, a synchronisation.
    pub fn session(&self) -> &Rc<Session> {
        &self.0.session
    }

    /// Questions without a verdict.
    pub fn open(&self) -> usize {
        self.0.waiting.borrow().len()
    }

    /// Counts since the start.
    pub fn counts(&self) -> Counts {
        self.0.core.borrow().counts()
    }

    /// Bytes and entries of its own cache.
    pub fn cache_size(&self) -> (usize, usize) {
        self.0.core.borrow().cache_size()
    }

    /// What is wrong with the shared cache, if anything is.
    pub fn shared_trouble(&self) -> Option<String> {
        self.0.shared.as_ref().and_then(Shared::trouble)
    }
}

impl Inner {
    fn now(&self) -> Nanos {
        self.on.clock().mono()
    }

    /// Seconds since 1970.
    fn wall(&self) -> u64 {
        self.on.clock().now() / SECOND
    }

    async fn work(self: Rc<Self>) {
        while !self.is_closed.get() {
            let now = self.now();
            let step = self.core.borrow_mut().next(now);
            self.hand_out();
            match step {
                Step::Search { id, ask, page } => self.task("misp search", async move |inner| {
                    let outcome = inner.session.search(&ask, page).await;
                    inner.core.borrow_mut().answered(inner.now(), id, outcome);
                }),
                Step::Recall { id, keys } => self.task("misp recall", async move |inner| {
                    let found = match &inner.shared {
                        Some(shared) => shared.recall(inner.now(), &keys).await,
                        None => None,
                    };
                    inner.core.borrow_mut().recalled(inner.now(), inner.wall(), id, found);
                }),
                Step::Wait(until) => {
                    self.keep();
                    self.tell(now);
                    let state = self.core.borrow().state(now);
                    let is_well = matches!(state, crate::metrics::State::Ready);
                    self.standing.set(state);
                    let sight = if is_well { self.sight(now) } else { None };
                    self.rest(now, until.into_iter().chain(sight).min()).await;
                }
            }
        }
        self.tell(self.now());
    }

    fn tell(&self, now: Nanos) {
        let (core, open) = (self.core.borrow(), self.waiting.borrow().len());
        let has_redis = self.shared.as_ref().is_none_or(|shared| shared.trouble().is_none());
        self.figures.tell(&core, now, open, has_redis);
    }

    async fn rest(&self, now: Nanos, until: Option<Nanos>) {
        let timer = async {
            match until {
                Some(until) => self.on.sleep(Duration::from_nanos(until.saturating_sub(now))).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = self.told.notified() => {}
            () = timer => {}
        }
    }

    fn task<F: Future<Output = ()> + 'static>(self: &Rc<Self>, name: &'static str, body: impl FnOnce(Rc<Self>) -> F + 'static) {
        let inner = self.clone();
        self.on.spawn(
            name,
            Box::pin(async move {
                body(inner.clone()).await;
                inner.told.notify_one();
            }),
        );
    }

    /// Hands verdicts to those who wait. Whoever is called may ask again.
    fn hand_out(&self) {
        loop {
            let Some((token, verdict)) = self.core.borrow_mut().verdict() else { return };
            let Some((value, then)) = self.waiting.borrow_mut().remove(&token) else { continue };
            if let (Verdict::Hit(hits), Some(sightings)) = (&verdict, &mut *self.sightings.borrow_mut())
                && hits.iter().any(|hit| hit.via == Via::Value)
            {
                sightings.note(self.now(), &value);
            }
            then(verdict);
        }
    }

    /// Puts what was learned into the shared cache, in a task of its own.
    fn keep(self: &Rc<Self>) {
        if self.shared.is_none() {
            return;
        }
        {
            let mut keeping = self.keeping.borrow_mut();
            keeping.extend(self.core.borrow_mut().learned());
            keeping.truncate(KEEP_MAX);
            if keeping.is_empty() {
                return;
            }
        }
        if self.is_keeping.replace(true) {
            return;
        }
        self.task("misp keep", async move |inner| {
            let learned = inner.keeping.take();
            if let Some(shared) = &inner.shared {
                shared.keep(inner.now(), inner.wall(), &learned).await;
            }
            inner.is_keeping.set(false);
        });
    }

    /// Tells MISP what was seen, if that is due; gives back when it will be.
    fn sight(self: &Rc<Self>, now: Nanos) -> Option<Nanos> {
        if self.is_sighting.get() {
            return None;
        }
        let mut sightings = self.sightings.borrow_mut();
        let sightings = sightings.as_mut()?;
        self.figures.sighted("lost", usize::try_from(sightings.lost()).unwrap_or(0));
        let values = sightings.take(now);
        if values.is_empty() {
            return sightings.due();
        }
        self.is_sighting.set(true);
        self.task("misp sightings", async move |inner| {
            let told = inner.session.sight(query::sighting(&values, inner.wall())).await;
            match told {
                Ok(()) => inner.figures.sighted("told", values.len()),
                Err(Outcome::Refused(why)) => {
                    inner.figures.sighted("refused", values.len());
                    tracing::warn!(why, values = values.len(), "sightings are not taken");
                }
                Err(_) => {
                    if let Some(sightings) = &mut *inner.sightings.borrow_mut() {
                        sightings.give_back(inner.now(), values);
                    }
                }
            }
            inner.is_sighting.set(false);
        });
        None
    }
}
