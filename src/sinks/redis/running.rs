//! The running sink: takes, sends in pipelines, heeds each answer.
//!
//! One connection, one pipeline out at a time. What Redis answers decides message by message; what has no
//! answer is sent again, which a list takes once. One task, which owns everything.

use std::{future::Future, rc::Rc, sync::Arc, time::Duration};

use super::{
    fates::{self, Fate},
    settings::Settings,
    waiting::{Verdict, Waiting},
};
use crate::{
    clock::{Nanos, nanos},
    io::{Executor, LocalFuture},
    limits,
    metrics::{Count, Standing, State},
    net::backoff::{Backoff, Rolls},
    net::redis::commands::{Answer, Command, Connection, NoAnswer, Refusal},
    sinks::{Inbox, Owed, Sink, SinkError},
};

/// A `redis` sink, not yet running.
pub(super) struct Redis {
    pub name: String,
    pub settings: Settings,
}

/// The first wait before something is tried again.
const FIRST_WAIT: Duration = Duration::from_millis(200);

impl Sink for Redis {
    fn run(self: Box<Self>, inbox: Arc<Inbox>, on: Rc<dyn Executor>, standing: Standing) -> LocalFuture<'static, Result<(), SinkError>> {
        let Self { name, settings } = *self;
        let count = |form, outcome| {
            standing.count("shipper_redis_messages", "Messages by form and by what became of them", &[("form", form), ("outcome", outcome)])
        };
        let figures = settings.forms.iter().map(|form| ["sent", "known", "refused"].map(|outcome| count(form.word(), outcome))).collect();
        let running = Running {
            waiting: Waiting::new(settings.forms.len().max(1)),
            connection: None,
            backoff: Backoff::new(FIRST_WAIT, settings.backoff_max),
            rolls: Rolls::new(on.clock().now()),
            rests_until: 0,
            has_failed: false,
            figures,
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
    waiting: Waiting<Owed>,
    connection: Option<Connection>,
    backoff: Backoff,
    rolls: Rolls,
    /// Monotonic time before which nothing is tried.
    rests_until: Nanos,
    /// The last pipeline was not taken as a whole.
    has_failed: bool,
    /// For each form: sent, known already, refused.
    figures: Vec<[Count; 3]>,
}

impl Running {
    async fn work(mut self, inbox: Arc<Inbox>) -> Result<(), SinkError> {
        loop {
            self.take_on(&inbox);
            let now = self.on.clock().mono();
            if inbox.is_closed() {
                // What is required and not acked is read again; nobody should wait for the rest at a stop
                // once the server does not take it.
                let is_away = self.has_failed || now < self.rests_until;
                if self.waiting.is_empty() && inbox.is_empty() || self.settings.is_required || is_away {
                    return Ok(());
                }
            }
            if now < self.rests_until {
                self.rest(&inbox, Some(self.rests_until - now)).await;
            } else if self.connection.is_none() {
                self.open(&inbox).await;
            } else if self.waiting.is_empty() {
                self.rest(&inbox, None).await;
            } else {
                self.send(&inbox).await;
            }
        }
    }

    /// Takes what was handed in, as far as there is room.
    fn take_on(&mut self, inbox: &Inbox) {
        while self.waiting.len() < 2 * limits::REDIS_BATCH_MESSAGES
            && self.waiting.bytes() < 2 * limits::REDIS_BATCH_BYTES
            && let Some(parcel) = inbox.try_pop()
        {
            Owed::all(&parcel).for_each(|owed| self.waiting.push(owed));
        }
        if self.has_failed {
            self.standing.holds(self.waiting.len() as u64);
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

    /// Reads password and CA, and connects.
    async fn open(&mut self, inbox: &Inbox) {
        let server = self.settings.server.clone();
        match self.answer(inbox, async move { Connection::open(&server).await }).await {
            Ok(connection) => {
                self.connection = Some(connection);
                // After a failure the next answers tell how it stands.
                if !self.has_failed || self.waiting.is_empty() {
                    self.stands_well();
                }
            }
            Err(why) => self.no_answer(&why),
        }
    }

    /// Sends what the first messages owe, and heeds each answer.
    async fn send(&mut self, inbox: &Inbox) {
        let Some(mut connection) = self.connection.take() else { return };
        let next = self.waiting.next(limits::REDIS_BATCH_MESSAGES, limits::REDIS_BATCH_BYTES);
        let forms: Vec<usize> = next.iter().map(|(_, form)| *form).collect();
        let commands: Vec<Command> =
            next.iter().map(|(owed, form)| self.settings.forms[*form].command(owed.origin(), owed.payload())).collect();
        let call = async move {
            let answers = connection.send(&commands).await;
            (connection, answers)
        };
        let (connection, answers) = self.answer(inbox, call).await;
        match answers {
            Ok(answers) => {
                self.connection = Some(connection);
                self.heed(&forms, answers);
            }
            Err(why) => self.no_answer(&why),
        }
    }

    fn heed(&mut self, forms: &[usize], answers: Vec<Result<Answer, Refusal>>) {
        // Of many errors of one pipeline the worst says what to do, and its words are shown.
        let mut worst: Option<(Fate, String)> = None;
        let mut verdicts = Vec::with_capacity(answers.len());
        for (form, answer) in forms.iter().zip(answers) {
            let [sent, known, refused] = &self.figures[*form];
            verdicts.push(match answer {
                Ok(Answer::Number(0)) if self.settings.forms[*form].key().is_some() => {
                    known.inc();
                    Verdict::Done
                }
                Ok(_) => {
                    sent.inc();
                    Verdict::Done
                }
                Err(refusal) => {
                    let of = format!("{} {}", self.settings.server.place, self.settings.forms[*form].name());
                    match fates::judge(&refusal, &of) {
                        (Fate::Refused, text) => {
                            refused.inc();
                            Verdict::Refused(text)
                        }
                        (fate, text) => {
                            if worst.as_ref().is_none_or(|(known, _)| rank(fate) > rank(*known)) {
                                worst = Some((fate, text));
                            }
                            Verdict::Again
                        }
                    }
                }
            });
        }
        let mut delivered = Vec::new();
        for settled in self.waiting.settle(verdicts) {
            match settled.refused {
                None => delivered.push(settled.message),
                Some(why) => settled.message.refused(why),
            }
        }
        Owed::delivered(delivered);
        match worst {
            None => {
                self.backoff.reset();
                self.stands_well();
            }
            Some((fate, text)) => self.fails(fate, text),
        }
    }

    fn no_answer(&mut self, why: &NoAnswer) {
        let (fate, text) = fates::judge_no_answer(why, &self.settings.server.place.to_string());
        self.connection = None;
        self.fails(fate, text);
    }

    fn stands_well(&mut self) {
        self.has_failed = false;
        if self.standing.get() != State::Ready {
            self.standing.set(State::Ready);
        }
    }

    fn fails(&mut self, fate: Fate, text: String) {
        let now = self.on.clock().mono();
        self.has_failed = true;
        self.standing.holds(self.waiting.len() as u64);
        if fate != Fate::Retry {
            self.connection = None;
        }
        if fate == Fate::Hold {
            self.rests_until = now + nanos(Duration::from_millis(limits::HOLD_RETRY_MS));
            self.standing.set(State::Holding(text));
        } else {
            self.rests_until = now.saturating_add(self.backoff.wait(self.rolls.roll()));
            self.standing.set(State::Retrying(text));
        }
    }

    /// Waits for a parcel, or so many nanoseconds.
    async fn rest(&self, inbox: &Inbox, wait: Option<Nanos>) {
        let timer = async {
            match wait {
                Some(wait) => self.on.sleep(Duration::from_nanos(wait)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = inbox.changed() => {}
            () = timer => {}
        }
    }
}

/// How much a fate asks for.
fn rank(fate: Fate) -> u8 {
    match fate {
        Fate::Refused => 0,
        Fate::Retry => 1,
        Fate::Elsewhere => 2,
        Fate::Hold => 3,
    }
}

impl Drop for Running {
    /// Whatever ends it, by itself or by the drain's deadline: what nobody waits for and was not sent is counted.
    fn drop(&mut self) {
        let messages = self.waiting.len() as u64;
        if !self.settings.is_required && messages > 0 {
            self.standing.dropped("stopped", messages);
            let sink = &self.name;
            tracing::warn!(sink, messages, "messages for Redis are let go, since the agent stops and nobody waits for them");
        }
    }
}
