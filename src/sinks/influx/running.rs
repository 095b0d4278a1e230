//! The running sink: takes, gathers, writes, heeds the answer.
//!
//! One request is out at a time, so lines are settled in order. While it is out parcels are taken on,
//! up to a few batches; more waits in the inbox. One task, which owns everything.
//!
//! After five failures in a row the breaker is open: a ping every few seconds finds out whether somebody
//! is there, and only then a whole request is sent again.

use std::{future::Future, rc::Rc, sync::Arc, time::Duration};

use super::{
    fates::{self, Cause, Fate, Outcome},
    lines::{Lines, Settled, Verdict},
    session::Session,
    settings::Settings,
};
use crate::{
    clock::{Nanos, nanos},
    io::{Executor, LocalFuture},
    limits,
    metrics::{Count, Level, Standing, State},
    net::{
        backoff::{Backoff, Rolls},
        breaker::{self, Breaker, Gate, Ticket},
    },
    sinks::{Inbox, Owed, Sink, SinkError},
};

/// An `influx` sink, not yet running.
pub(super) struct Influx {
    pub name: String,
    pub settings: Settings,
}

/// The first wait before a request is sent again.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Between two pings of a server that is away.
const PROBE_EVERY: Duration = Duration::from_secs(5);

impl Sink for Influx {
    fn run(self: Box<Self>, inbox: Arc<Inbox>, on: Rc<dyn Executor>, standing: Standing) -> LocalFuture<'static, Result<(), SinkError>> {
        let Self { name, settings } = *self;
        let breaker = breaker::Limits { failures: 5, share: 101, wait: PROBE_EVERY, wait_max: PROBE_EVERY, ..breaker::Limits::default() };
        let running = Running {
            lines: Lines::new(settings.bounds),
            session: None,
            breaker: Breaker::new(breaker),
            backoff: Backoff::new(FIRST_WAIT, settings.backoff_max),
            rolls: Rolls::new(on.clock().now()),
            rests_until: 0,
            is_gathered: false,
            has_failed: false,
            is_small: false,
            figures: Figures::new(&standing),
            name,
            settings,
            on,
            standing,
        };
        Box::pin(running.work(inbox))
    }
}

/// What it counts of its own.
struct Figures {
    written: Count,
    refused: [(Cause, Count); Cause::ALL.len()],
    waiting: Level,
    open: Level,
}

impl Figures {
    fn new(standing: &Standing) -> Self {
        let lines =
            |outcome| standing.count("shipper_influx_lines", "Lines that were settled, by what became of them", &[("outcome", outcome)]);
        Self {
            written: lines("written"),
            refused: Cause::ALL.map(|cause| (cause, lines(cause.word()))),
            waiting: standing.level("shipper_influx_waiting_lines", "Lines that are taken and not yet settled", &[]),
            open: standing.level("shipper_influx_breaker_open", "1 while a server that does not answer is only pinged", &[]),
        }
    }
}

struct Running {
    name: String,
    settings: Settings,
    on: Rc<dyn Executor>,
    standing: Standing,
    lines: Lines<Owed>,
    /// `None` until it is opened, and after a hold.
    session: Option<Session>,
    breaker: Breaker,
    backoff: Backoff,
    rolls: Rolls,
    /// Monotonic time before which nothing is tried.
    rests_until: Nanos,
    /// The first request after a failure does not wait for more lines.
    is_gathered: bool,
    /// The last request was not taken.
    has_failed: bool,
    /// It was told that bodies are too large.
    is_small: bool,
    figures: Figures,
}

/// What is to be done next.
enum Next {
    /// Nothing before this monotonic time, unless a parcel comes.
    Rest(Option<Nanos>),
    Open,
    /// True if somebody must be found to be there first.
    Write(Ticket, bool),
}

impl Running {
    async fn work(mut self, inbox: Arc<Inbox>) -> Result<(), SinkError> {
        loop {
            self.take_on(&inbox);
            if inbox.is_closed() {
                // What is required and not acked is read again; nobody should wait for the rest at a stop
                // once the server does not take it.
                let is_away = self.has_failed || self.on.clock().mono() < self.rests_until;
                let is_done = self.lines.is_empty() && inbox.is_empty();
                if is_done || self.settings.is_required || is_away {
                    return Ok(());
                }
                self.is_gathered = true;
            }
            let now = self.on.clock().mono();
            match self.next(now) {
                Next::Open => self.open(&inbox).await?,
                Next::Write(ticket, is_trial) => self.write(&inbox, ticket, is_trial).await?,
                Next::Rest(until) => self.rest(&inbox, now, until).await,
            }
        }
    }

    /// Takes what was handed in, as far as there is room.
    fn take_on(&mut self, inbox: &Inbox) {
        let now = self.on.clock().mono();
        let bounds = self.settings.bounds;
        while self.lines.bytes() < 2 * bounds.bytes
            && self.lines.len() < 2 * bounds.lines
            && let Some(parcel) = inbox.try_pop()
        {
            for owed in Owed::all(&parcel) {
                if let Err(owed) = self.lines.push(owed, now) {
                    self.count_refused(Cause::Unparsable, 1);
                    owed.refused("the message holds no line; wire an output of line protocol to this sink".into());
                }
            }
        }
        self.figures.waiting.set(i64::try_from(self.lines.len()).unwrap_or(i64::MAX));
        if self.has_failed {
            self.standing.holds(self.lines.messages() as u64);
        }
    }

    fn next(&mut self, now: Nanos) -> Next {
        if now < self.rests_until {
            return Next::Rest(Some(self.rests_until));
        }
        if self.session.is_none() {
            return Next::Open;
        }
        let Some(oldest) = self.lines.oldest() else { return Next::Rest(None) };
        let gathered = oldest.saturating_add(nanos(self.settings.linger));
        if !(self.lines.is_whole() || self.is_gathered) && now < gathered {
            return Next::Rest(Some(gathered));
        }
        let is_trial = !self.breaker.is_closed();
        match self.breaker.gate(now) {
            Gate::Pass(ticket) => Next::Write(ticket, is_trial),
            Gate::Until(at) => Next::Rest(Some(at)),
            // The trial is the request before this one, which has ended.
            Gate::Trial => Next::Rest(Some(now + nanos(PROBE_EVERY))),
        }
    }

    /// Waits for an answer, and takes parcels on meanwhile.
    async fn answer<T>(&mut self, inbox: &Inbox, call: impl Future<Output = T>) -> T {
        let mut call = std::pin::pin!(call);
        loop {
            tokio::select! {
                biased;
                answer = &mut call => return answer,
                () = inbox.changed() => self.take_on(inbox),
            }
        }
    }

    /// Reads secrets and CA, and finds out which API is there.
    async fn open(&mut self, inbox: &Inbox) -> Result<(), SinkError> {
        let settings = self.settings.clone();
        let wall = self.on.clock().now();
        match self.answer(inbox, async move { Session::open(&settings, wall).await }).await {
            Ok(session) => {
                tracing::debug!(sink = self.name, place = session.place, version = session.version, api = ?session.api, "InfluxDB is open");
                self.session = Some(session);
                // After a failure the next write tells how it stands.
                if !self.has_failed {
                    self.stands_well();
                }
                Ok(())
            }
            Err(outcome) => {
                let wait = self.backoff.wait(self.rolls.roll()).min(nanos(PROBE_EVERY));
                self.fails(outcome, wait)
            }
        }
    }

    /// Writes the first lines, and heeds what becomes of them.
    async fn write(&mut self, inbox: &Inbox, ticket: Ticket, is_trial: bool) -> Result<(), SinkError> {
        let Some(session) = self.session.clone() else { return Ok(()) };
        if is_trial {
            let pinged = session.clone();
            let reply = self.answer(inbox, async move { pinged.ping().await }).await;
            if reply.is_err() {
                let outcome = fates::judge(&reply, &session.place, self.on.clock().now());
                self.breaker.failed(self.on.clock().mono(), ticket, self.rolls.roll());
                return self.fails(outcome, 0);
            }
        }
        let count = self.lines.next();
        let (body, to) = (self.lines.body(count), session.clone());
        let reply = self.answer(inbox, async move { to.write(body).await }).await;
        let outcome = fates::judge(&reply, &session.place, self.on.clock().now());
        self.count_request(outcome.code);
        let outcome = match outcome.fate {
            Fate::Doubted if count == 1 => self.doubt(inbox, &session, outcome).await,
            _ => outcome,
        };
        self.heed(count, outcome, ticket)
    }

    /// A line stands alone and is refused with words that we do not know: is it the line, or the way?
    async fn doubt(&mut self, inbox: &Inbox, session: &Session, refusal: Outcome) -> Outcome {
        let to = session.clone();
        let reply = self.answer(inbox, async move { to.write(Vec::new()).await }).await;
        let way = fates::judge_empty(&reply, &session.place, self.on.clock().now());
        way.unwrap_or(Outcome { fate: Fate::Refused, ..refusal })
    }

    fn heed(&mut self, count: usize, outcome: Outcome, ticket: Ticket) -> Result<(), SinkError> {
        let now = self.on.clock().mono();
        match outcome.fate {
            Fate::Written => {
                self.is_well(now);
                self.is_gathered = false;
                let settled = self.lines.settle(count, Verdict::Written);
                self.finish(settled, outcome.cause);
            }
            Fate::Refused | Fate::Doubted => {
                self.is_well(now);
                let settled = self.lines.settle(count, Verdict::Refused(&outcome.text));
                self.finish(settled, outcome.cause);
            }
            Fate::TooLarge => {
                self.is_well(now);
                if !std::mem::replace(&mut self.is_small, true) && count > 1 {
                    let (sink, why) = (&self.name, &outcome.text);
                    tracing::warn!(sink, why, "InfluxDB takes smaller bodies only, and gets them; set batch_bytes below its limit");
                }
                let settled = self.lines.settle(count, Verdict::TooLarge(&outcome.text));
                self.finish(settled, outcome.cause);
            }
            Fate::Retry => {
                self.breaker.failed(now, ticket, self.rolls.roll());
                let wait = self.backoff.wait(self.rolls.roll());
                return self.fails(outcome, wait);
            }
            Fate::Hold | Fate::Abort => {
                self.breaker.abandoned(now, ticket);
                return self.fails(outcome, 0);
            }
        }
        Ok(())
    }

    /// It answers, and judges what it is sent.
    fn is_well(&mut self, now: Nanos) {
        self.standing.tried(true, now);
        self.breaker.succeeded(now);
        self.backoff.reset();
        self.figures.open.set(0);
        self.stands_well();
    }

    fn finish(&mut self, settled: Settled<Owed>, cause: Cause) {
        self.figures.written.inc_by(settled.written as u64);
        self.count_refused(cause, settled.refused as u64);
        let mut delivered = Vec::new();
        for done in settled.done {
            match done.refused {
                None => delivered.push(done.message),
                Some(why) => done.message.refused(why),
            }
        }
        Owed::delivered(delivered);
        self.figures.waiting.set(i64::try_from(self.lines.len()).unwrap_or(i64::MAX));
    }

    fn count_refused(&self, cause: Cause, lines: u64) {
        if let Some((_, count)) = self.figures.refused.iter().find(|(of, _)| *of == cause) {
            count.inc_by(lines);
        }
    }

    fn count_request(&self, code: &'static str) {
        self.standing.count("shipper_influx_batches", "Requests with lines, by status", &[("code", code)]).inc();
    }

    fn stands_well(&mut self) {
        self.has_failed = false;
        if self.standing.get() != State::Ready {
            self.standing.set(State::Ready);
        }
    }

    /// - `wait`: nanoseconds before the next try, where the server names no time of its own.
    fn fails(&mut self, outcome: Outcome, wait: Nanos) -> Result<(), SinkError> {
        let now = self.on.clock().mono();
        (self.has_failed, self.is_gathered) = (true, true);
        self.standing.tried(false, now);
        self.figures.open.set(i64::from(!self.breaker.is_closed()));
        self.standing.holds(self.lines.messages() as u64);
        match outcome.fate {
            Fate::Abort => return Err(SinkError::Broken { sink: self.name.clone(), what: outcome.text }),
            Fate::Hold => {
                self.rests_until = now + nanos(Duration::from_millis(limits::HOLD_RETRY_MS));
                self.session = None;
                self.standing.set(State::Holding(outcome.text));
            }
            _ => {
                self.rests_until = now.saturating_add(outcome.wait.unwrap_or(0).max(wait));
                self.standing.set(State::Retrying(outcome.text));
            }
        }
        Ok(())
    }

    /// Waits for a parcel, or the moment.
    async fn rest(&mut self, inbox: &Inbox, now: Nanos, until: Option<Nanos>) {
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
    /// Whatever ends it, by itself or by the drain's deadline: what nobody waits for and was not written is counted.
    fn drop(&mut self) {
        let messages = self.lines.messages() as u64;
        if !self.settings.is_required && messages > 0 {
            self.standing.dropped("stopped", messages);
            let sink = &self.name;
            tracing::warn!(sink, messages, "messages for InfluxDB are let go, since the agent stops and nobody waits for them");
        }
    }
}
