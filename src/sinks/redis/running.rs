//! The running sink: takes, sends in pipelines, heeds each answer.
//!
//! One connection, one pipeline out at a time. What Redis answers decides message by message; what has no
//! answer is sent again, which a list takes once. One task, which owns everything.

use std::{future::Future, rc::Rc, sync::Arc, time::Duration};

use super::{
    fates::{self, Fate},
    form::Taken,
    settings::Settings,
    waiting::{Verdict, Waiting},
};
use crate::{
    clock::{Nanos, nanos},
    detect::kept::Brief,
    io::{Executor, LocalFuture},
    limits,
    metrics::{Count, Standing, State},
    net::backoff::{Backoff, Rolls},
    net::redis::{
        Place,
        commands::{Answer, Command, Connection, NoAnswer, Refusal},
    },
    sinks::{Inbox, Owed, PutBy, Sink, SinkError},
};

/// A `redis` sink, not yet running.
pub(super) struct Redis {
    pub name: String,
    pub settings: Settings,
    pub put_by: Option<PutBy>,
}

/// The first wait before something is tried again.
const FIRST_WAIT: Duration = Duration::from_millis(200);

impl Sink for Redis {
    fn may_put_by(&mut self, put_by: PutBy) {
        self.put_by = Some(put_by);
    }
    fn run(self: Box<Self>, inbox: Arc<Inbox>, on: Rc<dyn Executor>, standing: Standing) -> LocalFuture<'static, Result<(), SinkError>> {
        let Self { name, settings, put_by } = *self;
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
            failed_since: None,
            next_sweep: 0,
            put_by: put_by.filter(PutBy::is_on),
            has_put_by: false,
            batch: if settings.alerts().is_some() { limits::REDIS_ALERTS_BATCH } else { limits::REDIS_BATCH_MESSAGES },
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
    waiting: Waiting<Taken>,
    connection: Option<Connection>,
    backoff: Backoff,
    rolls: Rolls,
    /// Monotonic time before which nothing is tried.
    rests_until: Nanos,
    /// Monotonic time from which on no pipeline was taken as a whole.
    failed_since: Option<Nanos>,
    /// Monotonic time of the next look for what is past its retention.
    next_sweep: Nanos,
    /// Where messages go that cannot be sent for a while; `None`: they wait.
    put_by: Option<PutBy>,
    /// Since the last failure messages have been put by.
    has_put_by: bool,
    /// Messages of one pipeline.
    batch: usize,
    /// For each form: sent, known already, refused.
    figures: Vec<[Count; 3]>,
}

impl Running {
    async fn work(mut self, inbox: Arc<Inbox>) -> Result<(), SinkError> {
        loop {
            self.take_on(&inbox);
            let now = self.on.clock().mono();
            self.put_by(now);
            if inbox.is_closed() {
                // What is required and not acked is read again; nobody should wait for the rest at a stop
                // once the server does not take it.
                let is_away = self.failed_since.is_some() || now < self.rests_until;
                if self.waiting.is_empty() && inbox.is_empty() || self.settings.is_required || is_away {
                    return Ok(());
                }
            }
            if now < self.rests_until {
                let until = self.puts_by_from().filter(|from| *from > now).map_or(self.rests_until, |from| from.min(self.rests_until));
                self.rest(&inbox, Some(until - now)).await;
            } else if self.connection.is_none() {
                self.open(&inbox).await;
            } else if now >= self.next_sweep && self.settings.alerts().is_some() && self.failed_since.is_none() {
                self.sweep(&inbox, now).await;
            } else if self.waiting.is_empty() {
                let next = self.settings.alerts().map(|_| self.next_sweep.saturating_sub(now));
                self.rest(&inbox, next).await;
            } else {
                self.send(&inbox).await;
            }
        }
    }

    /// Takes what was handed in, as far as there is room.
    fn take_on(&mut self, inbox: &Inbox) {
        // What comes from a spool waits here, at most the credits of its source, and must not stand in front of others.
        while (self.put_by.is_some() || self.has_room())
            && let Some(parcel) = inbox.try_pop()
        {
            Owed::all(&parcel).for_each(|owed| self.take(owed));
        }
        if self.failed_since.is_some() {
            self.standing.holds(self.waiting.len() as u64);
        }
    }

    fn has_room(&self) -> bool {
        self.waiting.len() < 2 * limits::REDIS_BATCH_MESSAGES && self.waiting.bytes() < 2 * limits::REDIS_BATCH_BYTES
    }

    /// Takes one message; where alerts are stored, what is none is refused.
    fn take(&mut self, owed: Owed) {
        let brief = match self.settings.alerts().map(|_| Brief::read(owed.payload())) {
            None => None,
            Some(Ok(brief)) => Some(brief),
            Some(Err(why)) => {
                if let Some([_, _, refused]) = self.figures.first() {
                    refused.inc();
                }
                return owed.refused(format!("sink {}: the message {why}", self.name));
            }
        };
        self.waiting.push(Taken { owed, brief });
    }

    /// Monotonic time from which on messages are put by; `None` while it need not come to that.
    fn puts_by_from(&self) -> Option<Nanos> {
        self.put_by.as_ref()?;
        Some(self.failed_since?.saturating_add(nanos(Duration::from_millis(limits::REDIS_AWAY_MS))))
    }

    /// Puts by what waits, once Redis has been away for a while. What came from the spool waits: it lies on disk.
    fn put_by(&mut self, now: Nanos) {
        if self.puts_by_from().is_none_or(|from| now < from) {
            return;
        }
        let Some(put_by) = self.put_by.clone() else { return };
        let is_new = |taken: &&Taken| !put_by.brought(&taken.owed);
        loop {
            // Those of one batch at a time.
            let mut new = self.waiting.iter().filter(is_new);
            let Some(first) = new.next() else { return };
            let parcel = first.owed.parcel(Vec::new());
            let mut numbers = vec![first.owed.number()];
            numbers.extend(new.map_while(|taken| taken.owed.is_beside(&first.owed).then(|| taken.owed.number())));
            if !put_by.put(&self.on, &parcel, numbers.clone()) {
                return;
            }
            if !std::mem::replace(&mut self.has_put_by, true) {
                let sink = &self.name;
                tracing::warn!(sink, "Redis does not take messages: the sink puts messages by on disk, and none is skipped");
            }
            self.waiting.retain(|taken| !(taken.owed.is_of(&parcel) && numbers.contains(&taken.owed.number())));
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
                if self.failed_since.is_none() || self.waiting.is_empty() {
                    self.stands_well();
                }
            }
            Err(why) => self.no_answer(&why),
        }
    }

    /// Sends what the first messages owe, and heeds each answer.
    async fn send(&mut self, inbox: &Inbox) {
        let Some(mut connection) = self.connection.take() else { return };
        let next = self.waiting.next(self.batch, limits::REDIS_BATCH_BYTES);
        let forms: Vec<usize> = next.iter().map(|(_, form)| *form).collect();
        let now = self.on.clock().now();
        let command = |(Taken { owed, brief }, form): &(&Taken, usize)| {
            self.settings.forms[*form].command(owed.origin(), owed.payload(), brief.as_ref(), now)
        };
        let commands: Vec<Command> = next.iter().map(command).collect();
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

    /// Takes out of the indices what is past its retention.
    async fn sweep(&mut self, inbox: &Inbox, now: Nanos) {
        let (Some(alerts), Some(mut connection)) = (self.settings.alerts(), self.connection.take()) else { return };
        let commands = alerts.sweep(self.on.clock().now());
        let call = async move {
            let answers = connection.send(&commands).await;
            (connection, answers)
        };
        let (connection, answers) = self.answer(inbox, call).await;
        self.next_sweep = now.saturating_add(nanos(Duration::from_millis(limits::REDIS_SWEEP_MS)));
        match answers {
            Ok(answers) => {
                self.connection = Some(connection);
                // Alerts can still be stored, so nobody need wait.
                if let Some(refusal) = answers.into_iter().find_map(Result::err) {
                    let (sink, why) = (&self.name, self.judge(&refusal, "indices").1);
                    tracing::warn!(sink, why, "alerts that are past their retention stay in the indices of Redis");
                }
            }
            Err(why) => self.no_answer(&why),
        }
    }

    /// What an error means.
    ///
    /// - `of`: what it was about.
    fn judge(&self, refusal: &Refusal, of: &str) -> (Fate, String) {
        let place = &self.settings.server.place;
        let judge = if matches!(place, Place::Cluster { .. }) { fates::judge_node } else { fates::judge };
        judge(refusal, &format!("{place} {of}"))
    }

    fn heed(&mut self, forms: &[usize], answers: Vec<Result<Answer, Refusal>>) {
        // Of many errors of one pipeline the worst says what to do, and its words are shown.
        let mut worst: Option<(Fate, String)> = None;
        let mut verdicts = Vec::with_capacity(answers.len());
        for (form, answer) in forms.iter().zip(answers) {
            let [sent, known, refused] = &self.figures[*form];
            verdicts.push(match answer {
                Ok(Answer::Number(0)) if self.settings.forms[*form].knows() => {
                    known.inc();
                    Verdict::Done
                }
                Ok(_) => {
                    sent.inc();
                    Verdict::Done
                }
                Err(refusal) => match self.judge(&refusal, &self.settings.forms[*form].name()) {
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
                },
            });
        }
        let mut delivered = Vec::new();
        for settled in self.waiting.settle(verdicts) {
            match settled.refused {
                None => delivered.push(settled.message.owed),
                Some(why) => settled.message.owed.refused(why),
            }
        }
        Owed::delivered(delivered);
        match worst {
            None => {
                self.backoff.reset();
                self.standing.tried(true, self.on.clock().mono());
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
        self.failed_since = None;
        self.has_put_by = false;
        if self.standing.get() != State::Ready {
            self.standing.set(State::Ready);
        }
    }

    fn fails(&mut self, fate: Fate, text: String) {
        let now = self.on.clock().mono();
        self.failed_since.get_or_insert(now);
        self.standing.tried(false, now);
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
