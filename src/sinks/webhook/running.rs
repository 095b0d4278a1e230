//! The running sink: takes, gathers, posts, heeds the answer.
//!
//! One request is out at a time, so messages arrive in order. While it is out parcels are taken
//! on. One task, which owns everything.

use std::{rc::Rc, sync::Arc, time::Duration};

use super::{
    fates::{self, Fate, Outcome},
    form::{self, Alert, Form},
    session::Session,
    settings::Settings,
    waiting::{Item, Proof, Waiting},
};
use crate::{
    clock::{Nanos, nanos},
    io::{Executor, LocalFuture},
    limits,
    metrics::{Count, Standing, State},
    net::{
        backoff::Rolls,
        breaker::{self, Breaker, Gate, Ticket},
        bucket::Bucket,
    },
    sinks::{Inbox, Sink, SinkError},
};

/// A webhook, not yet running.
pub(super) struct Webhook {
    pub name: String,
    pub settings: Settings,
}

impl Sink for Webhook {
    fn run(self: Box<Self>, inbox: Arc<Inbox>, on: Rc<dyn Executor>, standing: Standing) -> LocalFuture<'static, Result<(), SinkError>> {
        let Self { name, settings } = *self;
        let count = |outcome| standing.count("shipper_webhook_messages", "Messages by what became of them", &[("outcome", outcome)]);
        let breaker = breaker::Limits { failures: 1, share: 101, wait_max: settings.backoff_max, ..breaker::Limits::default() };
        let running = Running {
            waiting: Waiting::new(settings.is_required),
            flight: Vec::new(),
            session: None,
            breaker: Breaker::new(breaker),
            rolls: Rolls::new(on.clock().now()),
            bucket: Bucket::new(settings.rate, 1),
            rests_until: 0,
            proof: Proof::default(),
            is_gathered: false,
            told: Vec::new(),
            has_failed: false,
            sent: count("sent"),
            refused: count("refused"),
            name,
            settings,
            on,
            standing,
        };
        Box::pin(running.work(inbox))
    }
}

struct Running {
    name: String,
    settings: Settings,
    on: Rc<dyn Executor>,
    standing: Standing,
    waiting: Waiting,
    /// What the request that is out holds.
    flight: Vec<Item>,
    /// `None` until it is opened, and after a hold.
    session: Option<Session>,
    breaker: Breaker,
    rolls: Rolls,
    bucket: Bucket,
    /// Monotonic time before which nothing is tried: after a hold, or as the receiver wishes.
    rests_until: Nanos,
    proof: Proof,
    /// The first request after a failure does not wait for more messages.
    is_gathered: bool,
    /// Reasons that were logged since it last stood well.
    told: Vec<&'static str>,
    /// The last request was not delivered.
    has_failed: bool,
    sent: Count,
    refused: Count,
}

/// What is to be done next.
enum Next {
    /// Nothing before this monotonic time, unless a parcel comes.
    Rest(Option<Nanos>),
    Open,
    Send(Ticket),
}

impl Running {
    async fn work(mut self, inbox: Arc<Inbox>) -> Result<(), SinkError> {
        loop {
            self.take_on(&inbox);
            if inbox.is_closed() && inbox.is_empty() {
                // What is required and not acked is read again; nobody should wait for the rest at a stop
                // once the receiver does not take it.
                let is_away = self.has_failed || self.on.clock().mono() < self.rests_until;
                if self.waiting.is_empty() || self.settings.is_required || is_away {
                    return Ok(());
                }
                self.is_gathered = true;
            }
            let now = self.on.clock().mono();
            match self.next(now) {
                Next::Open => self.open(now),
                Next::Send(ticket) => self.send(&inbox, ticket).await?,
                Next::Rest(until) => self.rest(&inbox, now, until).await,
            }
        }
    }

    /// Takes what was handed in, and lets go what has waited too long.
    fn take_on(&mut self, inbox: &Inbox) {
        let now = self.on.clock().mono();
        let mut lost = 0;
        while let Some(parcel) = inbox.try_pop() {
            lost += self.waiting.push(&parcel, now);
        }
        self.let_go("inbox_full", lost, "the receiver takes too little");
        if !self.settings.is_required {
            let lost = self.waiting.expire(now.saturating_sub(nanos(self.settings.give_up_after)));
            self.let_go("too_old", lost, "give_up_after is over");
        }
        if self.has_failed {
            self.standing.holds((self.waiting.len() + self.flight.len()) as u64);
        }
    }

    fn let_go(&mut self, reason: &'static str, messages: u64, why: &str) {
        if messages == 0 {
            return;
        }
        self.standing.dropped(reason, messages);
        if !self.told.contains(&reason) {
            self.told.push(reason);
            let sink = &self.name;
            tracing::warn!(
                sink,
                reason,
                messages,
                why,
                "a message for a webhook is let go; more are counted in shipper_dropped_messages_total"
            );
        }
    }

    fn next(&mut self, now: Nanos) -> Next {
        if now < self.rests_until {
            return Next::Rest(Some(self.rests_until));
        }
        if self.session.is_none() {
            return Next::Open;
        }
        let Some(oldest) = self.waiting.oldest() else { return Next::Rest(None) };
        let gathered = oldest.saturating_add(nanos(self.settings.linger));
        let is_whole = self.waiting.len() >= self.settings.batch || self.waiting.bytes() >= self.settings.batch_bytes;
        if !(is_whole || self.is_gathered || self.proof.is_open()) && now < gathered {
            return Next::Rest(Some(gathered));
        }
        let allowed = self.bucket.next(now);
        if allowed > now {
            return Next::Rest(Some(allowed));
        }
        match self.breaker.gate(now) {
            Gate::Pass(ticket) => Next::Send(ticket),
            Gate::Until(at) => Next::Rest(Some(at)),
            // The trial is the request before this one, which has ended.
            Gate::Trial => Next::Rest(Some(now + nanos(Duration::from_millis(limits::HOLD_RETRY_MS)))),
        }
    }

    /// Reads URL, secrets and CA.
    fn open(&mut self, now: Nanos) {
        match Session::open(&self.settings) {
            Ok(session) => {
                self.session = Some(session);
                // After a hold the next answer tells how it stands.
                if !self.has_failed {
                    self.stands_well();
                }
            }
            Err(why) => {
                self.rests_until = now + nanos(Duration::from_millis(limits::HOLD_RETRY_MS));
                self.standing.set(State::Holding(why));
            }
        }
    }

    fn stands_well(&mut self) {
        self.has_failed = false;
        if self.standing.get() != State::Ready {
            self.told.clear();
            self.standing.set(State::Ready);
        }
    }

    /// Posts the first that wait, takes parcels on until the answer is there, and heeds it.
    async fn send(&mut self, inbox: &Inbox, ticket: Ticket) -> Result<(), SinkError> {
        let Some(session) = self.session.clone() else { return Ok(()) };
        let taken = self.waiting.take(self.proof.size(self.settings.batch), self.settings.batch_bytes);
        self.flight = self.sift(taken);
        let now = self.on.clock().mono();
        if self.flight.is_empty() {
            self.breaker.abandoned(now, ticket);
            return Ok(());
        }
        // An error says that there is no token; there is, as `next` has seen.
        let _ = self.bucket.take(now);
        let base = session.base.clone();
        let body = session.body(&self.flight);
        let headers = session.headers(&self.flight, &body);
        let mut post = std::pin::pin!(session.post(body, headers));
        let reply = loop {
            tokio::select! {
                biased;
                reply = &mut post => break reply,
                () = inbox.changed() => self.take_on(inbox),
            }
        };
        let outcome = fates::judge(&reply, &base, self.on.clock().now());
        self.heed(outcome, ticket)
    }

    /// Leaves out what this form cannot send: settled here, never sent.
    fn sift(&mut self, items: Vec<Item>) -> Vec<Item> {
        let mut good = Vec::with_capacity(items.len());
        for item in items {
            let wrong = match self.settings.form {
                Form::Json | Form::Ndjson => None,
                Form::Array => {
                    (!form::is_json(item.payload())).then(|| "the message is not JSON, and form array takes nothing else".to_owned())
                }
                Form::PagerDuty | Form::Slack => match Alert::parse(item.payload()) {
                    Ok(alert) if alert.severity < self.settings.from_severity => {
                        self.standing.dropped("below_severity", 1);
                        item.delivered();
                        continue;
                    }
                    Ok(_) => None,
                    Err(why) => Some(format!("{why}; wire an output of alerts, or choose another form")),
                },
            };
            match wrong {
                None => good.push(item),
                Some(why) => self.refuse(item, why),
            }
        }
        good
    }

    /// Gives one message up, proven alone.
    fn refuse(&mut self, item: Item, why: String) {
        self.refused.inc();
        if self.settings.is_required {
            item.refused(why);
        } else {
            self.let_go("refused", 1, &why);
        }
    }

    fn heed(&mut self, outcome: Outcome, ticket: Ticket) -> Result<(), SinkError> {
        let now = self.on.clock().mono();
        let flight = std::mem::take(&mut self.flight);
        let n = flight.len();
        let Outcome { fate, text, wait } = outcome;
        match fate {
            Fate::Delivered => {
                self.standing.tried(true, now);
                self.breaker.succeeded(now);
                self.sent.inc_by(n as u64);
                self.proof.delivered(n);
                self.is_gathered = false;
                flight.into_iter().for_each(Item::delivered);
                self.stands_well();
            }
            Fate::Refused => {
                // It answers, and judges what it is sent.
                self.standing.tried(true, now);
                self.breaker.succeeded(now);
                self.proof.refused(n);
                match <[Item; 1]>::try_from(flight) {
                    Ok([item]) => {
                        self.refuse(item, text);
                        self.stands_well();
                    }
                    Err(flight) => self.put_back(flight),
                }
            }
            Fate::Retry => {
                self.put_back(flight);
                self.breaker.failed(now, ticket, self.rolls.roll());
                self.rests_until = now.saturating_add(wait.unwrap_or(0));
                self.fails(State::Retrying(text));
            }
            Fate::Hold => {
                self.put_back(flight);
                self.breaker.abandoned(now, ticket);
                self.rests_until = now + nanos(Duration::from_millis(limits::HOLD_RETRY_MS));
                self.session = None;
                self.fails(State::Holding(text));
            }
            Fate::Abort => {
                self.put_back(flight);
                return Err(SinkError::Broken { sink: self.name.clone(), what: text });
            }
        }
        Ok(())
    }

    fn put_back(&mut self, flight: Vec<Item>) {
        let lost = self.waiting.put_back(flight);
        self.let_go("inbox_full", lost, "the receiver takes too little");
    }

    fn fails(&mut self, state: State) {
        (self.has_failed, self.is_gathered) = (true, true);
        self.standing.tried(false, self.on.clock().mono());
        self.standing.holds(self.waiting.len() as u64);
        self.standing.set(state);
    }

    /// Waits for a parcel, the moment, or that something is too old.
    async fn rest(&self, inbox: &Inbox, now: Nanos, until: Option<Nanos>) {
        let expiry = self.waiting.oldest().filter(|_| !self.settings.is_required);
        let expiry = expiry.map(|since| since.saturating_add(nanos(self.settings.give_up_after)).saturating_add(1));
        let until = until.into_iter().chain(expiry).min();
        let timer = async {
            match until {
                Some(until) => self.on.sleep(Duration::from_nanos(until.saturating_sub(now))).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = inbox.changed() => {}
            () = timer => {}
        }
    }
}

impl Drop for Running {
    /// Whatever ends it, by itself or by the drain's deadline: what nobody waits for and was not sent is counted.
    fn drop(&mut self) {
        if !self.settings.is_required {
            let left = self.waiting.len() + self.flight.len();
            self.let_go("stopped", left as u64, "the agent stops or takes a new config");
        }
    }
}
