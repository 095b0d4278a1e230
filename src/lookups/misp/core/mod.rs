//! Which questions become which searches, when, and what their answers mean. Pure: time is handed
//! in, and whoever drives it sends what [`Core::next`] says and tells what came of it.
//!
//! question → values (hosts, parents, networks) → own cache → shared cache → batch → search → verdict
//!
//! - Equal values in flight are asked once.
//! - A search leaves when a batch is full or its oldest value has waited long enough, and when the
//!   connections, MISP's own limit, our rate and the breaker all let it.
//! - What fails for a passing reason is asked again, for ever: questions wait, none is skipped.
//! - What MISP refuses is halved until the bad value stands alone. Only then, and only where MISP
//!   takes other searches, the value is given up. A value that makes MISP fail again and again while
//!   others succeed is given up likewise.
//!
//! Invariant: every token gets exactly one verdict.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem,
    rc::Rc,
};

use super::{
    answer::Outcome,
    attribute::Attribute,
    cache::Cache,
    networks::Networks,
    value::{self, Expand, Via},
};
use crate::{
    clock::Nanos,
    limits,
    metrics::State,
    net::{
        backoff::Rolls,
        breaker::{self, Breaker, Gate, Ticket},
        bucket::Bucket,
    },
};
pub use batch::Ask;
use batch::{Batch, Found};

mod batch;
#[cfg(test)]
mod tests;

/// A question's name, chosen by who asks.
pub type Token = u64;

/// Failures beside others' successes after which a batch is halved, and a single value given up.
const STRIKES: [u32; 2] = [3, 10];
/// Keys of one round trip to the shared cache, and how many of these at a time.
const RECALL: [usize; 2] = [500, 2];
/// Nanoseconds that an entry of the shared cache without a time is believed.
const UNDATED: Nanos = 300_000_000_000;
const SECOND: Nanos = 1_000_000_000;

/// How it asks.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Values of one search.
    pub batch_values: usize,
    /// How long the first value of a batch waits for others.
    pub flush: Nanos,
    /// Searches at a time.
    pub connections: usize,
    /// Rows of one page.
    pub page_rows: u32,
    /// Searches a second, 0 for no limit of our own, and how many at once.
    pub rate: u32,
    pub burst: u32,
    pub breaker: breaker::Limits,
    /// How long searches may be out without any answer before MISP counts as away.
    pub silence: Nanos,
    /// Lives of what was found and of what was not.
    pub positive: Nanos,
    pub negative: Nanos,
    /// Of our own cache.
    pub cache_bytes: usize,
    /// Attributes kept of one value.
    pub hits_max: usize,
    /// Between two tries while a person has something to mend.
    pub hold_retry: Nanos,
    pub expand: Expand,
    /// How often networks are loaded; `None`: never, and addresses are asked for themselves alone.
    pub networks_every: Option<Nanos>,
    /// True if there is a shared cache.
    pub shared: bool,
    /// For jitter.
    pub seed: u64,
}

/// What MISP says to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Hit(Vec<Match>),
    Miss,
    /// MISP will never take it; why.
    Failed(String),
}

/// One attribute for a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    pub via: Via,
    pub attribute: Rc<Attribute>,
}

/// What the driver does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this search; its outcome goes to [`Core::answered`].
    Search { id: u64, ask: Ask, page: u32 },
    /// Ask the shared cache; what it says goes to [`Core::recalled`].
    Recall { id: u64, keys: Vec<Rc<str>> },
    /// Nothing before this time, or before something is told.
    Wait(Option<Nanos>),
}

/// Something to be kept in the shared cache.
#[derive(Clone, Debug)]
pub struct Learned {
    pub key: Rc<str>,
    pub hits: Hits,
    /// Seconds.
    pub lives: u64,
}

/// An entry of the shared cache: attributes, and the second since 1970 in which they were learned, 0 if
/// that is not known.
pub type Recalled = (Vec<Attribute>, u64);

/// The attributes of one value.
pub type Hits = Rc<[Rc<Attribute>]>;

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub questions: u64,
    /// Verdicts, by kind; questions are these and the open ones.
    pub hits: u64,
    pub misses: u64,
    pub failed: u64,
    /// Values answered from our own cache: with attributes, and with none. And values that it did not have.
    pub cached: u64,
    pub cached_misses: u64,
    pub uncached: u64,
    /// Values that were in flight already.
    pub coalesced: u64,
    /// Values answered from the shared cache: with attributes, and with none. And values that it did not have.
    pub shared: u64,
    pub shared_empty: u64,
    pub shared_misses: u64,
    /// Searches sent, pages and tries each for itself.
    pub searches: u64,
    /// Of these: pages after the first, and pages sent again.
    pub pages: u64,
    pub again: u64,
    /// Values of searches, each once however many pages and tries it took.
    pub values: u64,
    /// Searches without a usable answer, and those of which MISP refused the key or the values.
    pub failures: u64,
    pub denied: u64,
    pub refused: u64,
    /// Times that MISP's own limit was met.
    pub limited: u64,
    /// Times that a search waited for MISP's own limit, and for ours.
    pub waited_for_misp: u64,
    pub waited_for_rate: u64,
    /// Times that the breaker opened, a trial that failed counted again.
    pub openings: u64,
    /// Values given up.
    pub given_up: u64,
    /// Rows that MISP sent though nobody asked.
    pub foreign_rows: u64,
    /// Attributes left out beyond the most that is kept of a value.
    pub cut_rows: u64,
}

/// The engine.
#[derive(Debug)]
pub struct Core {
    limits: Limits,
    cache: Cache<Hits>,
    networks: Option<Networks>,
    networks_next: Nanos,
    /// Questions for addresses, until networks are loaded for the first time.
    parked: Vec<(Token, String, String)>,
    /// Values without an answer, and who waits for them.
    open: HashMap<Rc<str>, Vec<(Token, Via)>>,
    pending: HashMap<Token, Pending>,
    recall: VecDeque<Rc<str>>,
    recalling: HashMap<u64, Vec<Rc<str>>>,
    /// Values for the next batch, with the time they came.
    fresh: VecDeque<(Rc<str>, Nanos)>,
    /// Searches that go before all others: further pages, halves.
    ready: VecDeque<Batch>,
    /// Searches to be sent again.
    failed: VecDeque<Batch>,
    is_failed_turn: bool,
    flying: HashMap<u64, (Batch, Ticket)>,
    /// Values that MISP refused alone, until it is known whether it takes anything.
    suspects: Vec<(Rc<str>, String)>,
    is_canary_out: bool,
    bucket: Bucket,
    breaker: Breaker,
    limited_until: Nanos,
    /// The waits counted last, for MISP's limit and for ours: until when.
    waits: (Nanos, Nanos),
    hold: Option<(String, Nanos)>,
    /// Since when searches are out and MISP has given no sign of life.
    silent_since: Option<Nanos>,
    trouble: String,
    successes: u64,
    ids: u64,
    rolls: Rolls,
    verdicts: VecDeque<(Token, Verdict)>,
    learned: Vec<Learned>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Pending {
    owed: u32,
    hits: Vec<Match>,
    failed: Option<String>,
}

impl Pending {
    fn verdict(self) -> Verdict {
        match (self.hits.is_empty(), self.failed) {
            (false, _) => Verdict::Hit(self.hits),
            (true, Some(why)) => Verdict::Failed(why),
            (true, None) => Verdict::Miss,
        }
    }
    fn add(&mut self, via: Via, hits: &[Rc<Attribute>]) {
        for attribute in hits {
            if !self.hits.iter().any(|hit| Rc::ptr_eq(&hit.attribute, attribute)) {
                self.hits.push(Match { via, attribute: attribute.clone() });
            }
        }
    }
}

impl Core {
    /// One that has asked nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            cache: Cache::new(limits.cache_bytes),
            networks: limits.networks_every.is_none().then(Networks::default),
            networks_next: 0,
            parked: Vec::new(),
            open: HashMap::new(),
            pending: HashMap::new(),
            recall: VecDeque::new(),
            recalling: HashMap::new(),
            fresh: VecDeque::new(),
            ready: VecDeque::new(),
            failed: VecDeque::new(),
            is_failed_turn: false,
            flying: HashMap::new(),
            suspects: Vec::new(),
            is_canary_out: false,
            bucket: Bucket::new(limits.rate, limits.burst),
            breaker: Breaker::new(limits.breaker),
            limited_until: 0,
            waits: (0, 0),
            hold: None,
            silent_since: None,
            trouble: String::new(),
            successes: 0,
            ids: 0,
            rolls: Rolls::new(limits.seed),
            verdicts: VecDeque::new(),
            learned: Vec::new(),
            counts: Counts::default(),
            limits,
        }
    }

    /// Takes a question.
    ///
    /// - `token`: not that of another open question.
    /// - `kind`: `url`, `domain` and `ip` have more to be asked than themselves.
    pub fn ask(&mut self, now: Nanos, token: Token, kind: &str, value: &str) {
        self.counts.questions += 1;
        self.begin(now, token, kind, value);
    }

    fn begin(&mut self, now: Nanos, token: Token, kind: &str, value: &str) {
        let asks = value::asks(kind, value, self.limits.expand);
        let mut pending = Pending::default();
        let addresses = || asks.iter().filter_map(|(value, _)| value::address(value));
        match &self.networks {
            None if addresses().next().is_some() => return self.parked.push((token, kind.to_owned(), value.to_owned())),
            None => {}
            Some(networks) => addresses().for_each(|address| pending.add(Via::Network, &networks.of(address))),
        }
        for (value, via) in asks {
            if let Err(why) = value::may_be_sent(&value) {
                if via == Via::Value {
                    self.counts.given_up += 1;
                    pending.failed = Some(format!("the value {why}"));
                }
                continue;
            }
            if let Some(hits) = self.cache.get(&value, now) {
                *if hits.is_empty() { &mut self.counts.cached_misses } else { &mut self.counts.cached } += 1;
                pending.add(via, &hits);
                continue;
            }
            self.counts.uncached += 1;
            pending.owed += 1;
            let key: Rc<str> = value.into();
            if let Some(waiting) = self.open.get_mut(&key) {
                self.counts.coalesced += 1;
                waiting.push((token, via));
                continue;
            }
            self.open.insert(key.clone(), vec![(token, via)]);
            if self.limits.shared {
                self.recall.push_back(key);
            } else {
                self.fresh.push_back((key, now));
            }
        }
        if pending.owed == 0 {
            self.judge(token, pending);
        } else {
            let before = self.pending.insert(token, pending);
            assert!(before.is_none(), "a token names one open question");
        }
    }

    /// What to do now; to be called until it says to wait, and again whenever anything was told.
    pub fn next(&mut self, now: Nanos) -> Step {
        if !self.recall.is_empty() && self.recalling.len() < RECALL[1] {
            let count = self.recall.len().min(RECALL[0]);
            let keys: Vec<_> = self.recall.drain(..count).collect();
            let id = self.id();
            self.recalling.insert(id, keys.clone());
            return Step::Recall { id, keys };
        }
        let mut wake = None;
        if self.limits.networks_every.is_some() {
            if now >= self.networks_next {
                // Those in hand serve on until the new ones are whole.
                self.networks_next = Nanos::MAX;
                self.ready.push_front(Batch::new(Ask::Networks, self.successes));
            }
            wake = Some(self.networks_next).filter(|at| *at < Nanos::MAX);
        }
        let flush = self.fresh.front().map(|(_, since)| match self.fresh.len() >= self.limits.batch_values {
            true => now,
            false => since.saturating_add(self.limits.flush),
        });
        let is_ripe = flush.is_some_and(|at| at <= now);
        if self.ready.is_empty() && self.failed.is_empty() && !is_ripe {
            return Step::Wait(wake.into_iter().chain(flush).min());
        }
        match self.gate(now) {
            Err(until) => Step::Wait(until),
            Ok(ticket) => {
                let mut batch = self.pick(is_ripe);
                let id = self.id();
                self.counts.searches += 1;
                let (ask, page) = (batch.ask.clone(), batch.page);
                match (&ask, page) {
                    _ if batch.is_sent_again() => self.counts.again += 1,
                    (Ask::Values(values), 1) => self.counts.values += values.len() as u64,
                    (_, 1) => {}
                    _ => self.counts.pages += 1,
                }
                self.flying.insert(id, (batch, ticket));
                self.silent_since.get_or_insert(now);
                Step::Search { id, ask, page }
            }
        }
    }

    fn id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// The search that goes next. What failed and what is new take turns: a search that always fails
    /// must not be the only one that ever shows whether MISP is back.
    ///
    /// - `is_ripe`: a new batch is due.
    fn pick(&mut self, is_ripe: bool) -> Batch {
        if let Some(batch) = self.ready.pop_front() {
            return batch;
        }
        self.is_failed_turn = !self.is_failed_turn;
        if (self.is_failed_turn || !is_ripe)
            && let Some(batch) = self.failed.pop_front()
        {
            return batch;
        }
        self.gather()
    }

    /// Whether a search may leave now, or when.
    fn gate(&mut self, now: Nanos) -> Result<Ticket, Option<Nanos>> {
        if self.flying.len() >= self.limits.connections.max(1) {
            return Err(None);
        }
        if let Some((_, next_try)) = &self.hold {
            if now < *next_try {
                return Err(Some(*next_try));
            }
            if !self.flying.is_empty() {
                return Err(None); // one trial at a time
            }
        }
        if now < self.limited_until {
            self.counts.waited_for_misp += u64::from(mem::replace(&mut self.waits.0, self.limited_until) != self.limited_until);
            return Err(Some(self.limited_until));
        }
        let at = self.bucket.next(now);
        if at > now {
            self.counts.waited_for_rate += u64::from(mem::replace(&mut self.waits.1, at) != at);
            return Err(Some(at));
        }
        match self.breaker.gate(now) {
            Gate::Until(at) => Err(Some(at)),
            Gate::Trial => Err(None),
            Gate::Pass(ticket) => {
                let taken = self.bucket.take(now);
                debug_assert!(taken.is_ok(), "it said so");
                Ok(ticket)
            }
        }
    }

    /// A batch of what waits, bounded in number and bytes.
    fn gather(&mut self) -> Batch {
        let (mut values, mut bytes) = (Vec::new(), 0);
        while let Some((value, _)) = self.fresh.front() {
            bytes += value.len();
            if values.len() >= self.limits.batch_values.max(1) || (bytes > limits::MISP_BATCH_BYTES && !values.is_empty()) {
                break;
            }
            values.extend(self.fresh.pop_front().map(|(value, _)| value));
        }
        Batch::new(Ask::Values(values), self.successes)
    }

    /// What the shared cache had for the keys of a [`Step::Recall`]; `None` if it is away.
    ///
    /// - `wall`: seconds since 1970.
    /// - `values`: for each key its attributes and the second in which they were learned.
    pub fn recalled(&mut self, now: Nanos, wall: u64, id: u64, values: Option<Vec<Option<Recalled>>>) {
        let Some(keys) = self.recalling.remove(&id) else { return };
        let mut values = values.unwrap_or_default().into_iter();
        for key in keys {
            match values.next().flatten().and_then(|found| self.believe(&key, wall, found)) {
                Some((hits, left)) => {
                    *if hits.is_empty() { &mut self.counts.shared_empty } else { &mut self.counts.shared } += 1;
                    self.keep(now, &key, &hits, left);
                    self.resolve(&key, Ok(&hits));
                }
                None => {
                    self.counts.shared_misses += 1;
                    self.fresh.push_back((key, now));
                }
            }
        }
    }

    /// What of an entry of the shared cache holds, and for how long; others may have written it.
    fn believe(&self, key: &str, wall: u64, (attributes, at): Recalled) -> Option<(Hits, Nanos)> {
        let is_negative = attributes.is_empty();
        let is_same = |a: &Attribute| value::parts(&a.kind, &a.value).any(|part| value::normal(part) == key);
        let hits: Hits = attributes.into_iter().filter(is_same).take(self.limits.hits_max).map(Rc::new).collect();
        if hits.is_empty() != is_negative {
            return None;
        }
        let life = self.life(&hits);
        let left = match at {
            0 => life.min(UNDATED),
            _ => life.saturating_sub(wall.saturating_sub(at).saturating_mul(SECOND)),
        };
        (left > 0).then_some((hits, left))
    }

    fn life(&self, hits: &Hits) -> Nanos {
        if hits.is_empty() { self.limits.negative } else { self.limits.positive }
    }

    fn keep(&mut self, now: Nanos, key: &Rc<str>, hits: &Hits, life: Nanos) {
        let weight = hits.iter().map(|hit| hit.weight()).sum();
        self.cache.put(key.clone(), hits.clone(), weight, now.saturating_add(life));
    }

    /// What became of a [`Step::Search`].
    pub fn answered(&mut self, now: Nanos, id: u64, outcome: Outcome) {
        let Some((mut batch, ticket)) = self.flying.remove(&id) else { return };
        match outcome {
            Outcome::Rows { rows, skipped, rest } => {
                self.is_alive(now);
                self.hold = None;
                self.successes += 1;
                if let Some(rest) = rest {
                    self.limited_until = now.saturating_add(rest);
                }
                if batch.take(rows, skipped, self.limits.page_rows) {
                    self.ready.push_front(batch);
                } else {
                    self.counts.foreign_rows += batch.foreign;
                    self.finished(now, batch);
                }
            }
            Outcome::Limited(rest) => {
                self.is_alive(now);
                self.counts.limited += 1;
                self.limited_until = self.limited_until.max(now.saturating_add(rest));
                self.ready.push_front(batch);
            }
            Outcome::Denied(why) => {
                self.counts.denied += 1;
                self.breaker.abandoned(now, ticket);
                self.holds(now, why);
                self.ready.push_front(batch);
            }
            Outcome::Refused(why) => {
                self.counts.refused += 1;
                self.is_alive(now);
                self.refused(now, batch, why);
            }
            Outcome::Away(why) => {
                self.counts.failures += 1;
                self.trouble = why;
                let roll = self.rolls.roll();
                self.counts.openings += u64::from(self.breaker.failed(now, ticket, roll));
                self.struck(batch);
            }
        }
    }

    fn is_alive(&mut self, now: Nanos) {
        self.silent_since = (!self.flying.is_empty()).then_some(now);
        self.breaker.succeeded(now);
    }

    fn holds(&mut self, now: Nanos, why: String) {
        self.hold = Some((why, now.saturating_add(self.limits.hold_retry)));
    }

    fn finished(&mut self, now: Nanos, batch: Batch) {
        match batch.finish() {
            Found::Values(found) => {
                for (key, mut hits) in found {
                    self.counts.cut_rows += hits.len().saturating_sub(self.limits.hits_max) as u64;
                    hits.truncate(self.limits.hits_max);
                    let hits: Hits = hits.into();
                    let life = self.life(&hits);
                    self.keep(now, &key, &hits, life);
                    if self.limits.shared {
                        self.learned.push(Learned { key: key.clone(), hits: hits.clone(), lives: (life / SECOND).max(1) });
                    }
                    self.resolve(&key, Ok(&hits));
                }
            }
            Found::Networks(rows) => self.has_networks(now, Networks::new(rows)),
            Found::Canary => {
                self.is_canary_out = false;
                for (value, why) in mem::take(&mut self.suspects) {
                    self.give_up(&value, why);
                }
            }
        }
    }

    fn has_networks(&mut self, now: Nanos, networks: Networks) {
        self.networks = Some(networks);
        self.networks_next = now.saturating_add(self.limits.networks_every.unwrap_or(Nanos::MAX));
        for (token, kind, value) in mem::take(&mut self.parked) {
            self.begin(now, token, &kind, &value);
        }
    }

    /// MISP does not take this search.
    fn refused(&mut self, now: Nanos, batch: Batch, why: String) {
        if let Some(halves) = batch.halve() {
            return self.go_first(halves);
        }
        let takes_others = self.successes > batch.born;
        match batch.ask {
            Ask::Values(values) if takes_others => values.iter().for_each(|value| self.give_up(value, why.clone())),
            Ask::Values(values) => {
                self.suspects.extend(values.into_iter().map(|value| (value, why.clone())));
                self.send_canary();
            }
            // It is not the values: MISP, or something before it, takes no search of ours.
            Ask::Canary => {
                self.holds(now, format!("{why} to every search, a harmless one too; check url, and the log of MISP"));
                self.is_canary_out = false;
                for (value, _) in mem::take(&mut self.suspects) {
                    self.failed.push_back(Batch::new(Ask::Values(vec![value]), self.successes));
                }
            }
            Ask::Networks => {
                tracing::warn!(why, "MISP does not give its networks; addresses are looked up for themselves alone until the next try");
                let networks = self.networks.take().unwrap_or_default();
                self.has_networks(now, networks);
            }
        }
    }

    /// A search failed for a reason that may pass. One that fails while others do not is halved, and
    /// given up where it is one value.
    fn struck(&mut self, mut batch: Batch) {
        let strikes = batch.strike(self.successes);
        match &batch.ask {
            Ask::Canary if self.suspects.is_empty() => {
                self.is_canary_out = false;
                return;
            }
            Ask::Values(_) if strikes >= STRIKES[0] => {
                if let Some(halves) = batch.halve() {
                    return self.go_first(halves);
                }
            }
            _ => {}
        }
        match &batch.ask {
            Ask::Values(values) if strikes >= STRIKES[1] => {
                let why = format!("{}, {strikes} times to this value alone", self.trouble);
                return values.iter().for_each(|value| self.give_up(value, why.clone()));
            }
            // Where nothing else is asked, nothing else can succeed.
            Ask::Values(_) if batch.is_third_failure() => self.send_canary(),
            _ => {}
        }
        self.failed.push_back(batch);
    }

    fn go_first(&mut self, halves: [Batch; 2]) {
        halves.into_iter().rev().for_each(|half| self.ready.push_front(half));
    }

    fn send_canary(&mut self) {
        if !mem::replace(&mut self.is_canary_out, true) {
            self.ready.push_front(Batch::new(Ask::Canary, self.successes));
        }
    }

    fn give_up(&mut self, value: &Rc<str>, why: String) {
        self.counts.given_up += 1;
        self.resolve(value, Err(&why));
    }

    fn resolve(&mut self, key: &Rc<str>, answer: Result<&Hits, &String>) {
        for (token, via) in self.open.remove(key).unwrap_or_default() {
            let Some(pending) = self.pending.get_mut(&token) else { continue };
            match answer {
                Ok(hits) => pending.add(via, hits),
                Err(why) => pending.failed = Some(why.clone()),
            }
            pending.owed -= 1;
            if pending.owed == 0
                && let Some(pending) = self.pending.remove(&token)
            {
                self.judge(token, pending);
            }
        }
    }

    fn judge(&mut self, token: Token, pending: Pending) {
        let verdict = pending.verdict();
        *match verdict {
            Verdict::Hit(_) => &mut self.counts.hits,
            Verdict::Miss => &mut self.counts.misses,
            Verdict::Failed(_) => &mut self.counts.failed,
        } += 1;
        self.verdicts.push_back((token, verdict));
    }

    /// The next verdict, if there is one.
    pub fn verdict(&mut self) -> Option<(Token, Verdict)> {
        self.verdicts.pop_front()
    }

    /// What was learned since the last call, for the shared cache.
    pub fn learned(&mut self) -> Vec<Learned> {
        mem::take(&mut self.learned)
    }

    /// Questions without a verdict.
    pub fn open(&self) -> usize {
        self.pending.len() + self.parked.len() + self.verdicts.len()
    }

    /// True while MISP is left alone, or tried with one search at a time.
    pub fn is_open(&self) -> bool {
        !self.breaker.is_closed()
    }

    /// True while MISP's own limit is used up.
    pub fn is_limited(&self, now: Nanos) -> bool {
        now < self.limited_until
    }

    /// True while no answers are to be had: MISP is away or silent, has used up its limit, or a person must
    /// mend something.
    pub fn is_away(&self, now: Nanos) -> bool {
        let is_silent = self.silent_since.is_some_and(|since| now.saturating_sub(since) >= self.limits.silence);
        self.hold.is_some() || self.is_open() || self.is_limited(now) || is_silent
    }

    /// Forgets questions: they get no verdict. What is not on its way to MISP for others as well is not asked.
    pub fn forget(&mut self, tokens: &HashSet<Token>) {
        self.pending.retain(|token, _| !tokens.contains(token));
        self.parked.retain(|(token, ..)| !tokens.contains(token));
        self.verdicts.retain(|(token, _)| !tokens.contains(token));
        self.open.values_mut().for_each(|waiting| waiting.retain(|(token, _)| !tokens.contains(token)));
        let open = &mut self.open;
        let mut is_wanted = |key: &Rc<str>| match open.get(key) {
            Some(waiting) if waiting.is_empty() => {
                open.remove(key);
                false
            }
            _ => true,
        };
        self.recall.retain(&mut is_wanted);
        self.fresh.retain(|(key, _)| is_wanted(key));
    }

    /// How it stands.
    pub fn state(&self, now: Nanos) -> State {
        if let Some((why, _)) = &self.hold {
            State::Holding(why.clone())
        } else if !self.breaker.is_closed() {
            State::Retrying(self.trouble.clone())
        } else if now < self.limited_until {
            State::Retrying("MISP's own limit on searches is used up; raise it for this user's role, or wait".into())
        } else if self.successes == 0 {
            State::Starting
        } else {
            State::Ready
        }
    }

    /// Counts since the start.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Bytes and entries of its own cache.
    pub fn cache_size(&self) -> (usize, usize) {
        (self.cache.bytes(), self.cache.len())
    }

    /// Networks held.
    pub fn networks(&self) -> usize {
        self.networks.as_ref().map_or(0, Networks::len)
    }
}
