//! The running sink: order, fates, and how it stands.
//!
//! ```text
//! flow ──a message fails──▶ settle (nothing more is sent until all in flight are answered)
//!   ▲                          │
//!   │        ┌─────────────────┼───────────────────┐
//!   │      retry             hold               suspects
//!   │   short wait     wait, new producer,    groups, halved at each refusal;
//!   │        │         one message as probe   refused in a group of one is refused
//!   └────────┴─────────────────┴───────────────────┘
//! ```

use std::{future::Future, future::poll_fn, pin::pin, rc::Rc, sync::Arc, task::Poll, time::Duration};

use super::{Settings, window::Window};
use crate::{
    io::{Executor, LocalFuture},
    metrics::{Standing, State},
    net::kafka::{
        fates::{Failure, Fate},
        port::{Event, Producer, SendError, Tag},
    },
    ring::Signal,
    sinks::{Inbox, Sink, SinkError},
};

/// Between two looks at when our certificate ends.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(3600);
/// Messages that are proven together at first.
const GROUP_MAX: usize = 1024;

/// A Kafka sink over a producer, real or simulated.
pub struct Running {
    name: String,
    hold_retry: Duration,
    retry: Duration,
    topic: String,
    port: Box<dyn Producer>,
    window: Window,
    /// How the connection stands, as the producer last told.
    client: State,
    /// Why nothing is sent.
    stop: Option<Stop>,
    /// After a hold: one message in flight at most, until one is delivered.
    probing: bool,
    /// Suspects that may be in flight together; 0 before the first group.
    group: usize,
    /// The group in flight, while suspects are proven.
    proving: Option<Group>,
    renew: Option<String>,
    broken: Option<String>,
}

/// Suspects in flight together, and nothing else.
#[derive(Clone, Copy, Debug)]
struct Group {
    size: usize,
    refused: bool,
}

/// Nothing is sent until all in flight are answered and this time has come.
#[derive(Debug)]
struct Stop {
    state: State,
    /// Monotonic nanoseconds; set when the last answer is in.
    until: Option<u64>,
}

impl Running {
    /// A sink that sends through `port`.
    pub fn with_port(name: &str, settings: &Settings, port: Box<dyn Producer>) -> Self {
        Self {
            name: name.to_owned(),
            hold_retry: settings.hold_retry,
            retry: settings.retry,
            topic: settings.topic.clone(),
            port,
            window: Window::default(),
            client: State::Starting,
            stop: None,
            probing: false,
            group: 0,
            proving: None,
            renew: None,
            broken: None,
        }
    }

    /// Takes what the producer tells.
    fn answers(&mut self) {
        let Self { port, window, .. } = self;
        let mut failed: Vec<(Tag, Failure)> = Vec::new();
        let mut states: Vec<State> = Vec::new();
        let mut delivered = false;
        let renew = &mut self.renew;
        port.poll(&mut |event| match event {
            Event::Delivered(tags) => {
                for tag in tags {
                    if let Some(at) = window.find(*tag) {
                        window.delivered(at);
                        delivered = true;
                    }
                }
            }
            Event::Failed(tag, failure) => failed.push((tag, failure)),
            Event::Client(state) => states.push(state),
            Event::Broken(text) => *renew = Some(text),
        });
        if delivered {
            self.client = State::Ready;
            self.probing = false;
        }
        for (tag, failure) in failed {
            if let Some(at) = self.window.find(tag) {
                self.failed(at, failure);
            }
        }
        if let Some(state) = states.pop() {
            self.client = state;
        }
        if self.window.sent() == 0
            && let Some(group) = self.proving.take()
        {
            // Halved at each refusal, so that a lone culprit is found in few steps.
            self.group = if group.refused { (group.size / 2).max(1) } else { (group.size * 2).min(GROUP_MAX) };
        }
        self.window.tell();
    }

    fn failed(&mut self, at: super::window::At, failure: Failure) {
        match failure.fate {
            Fate::Retry => {
                self.window.again(at);
                self.stop(State::Retrying(failure.text));
            }
            Fate::Hold => {
                self.window.again(at);
                self.stop(State::Holding(failure.text));
            }
            Fate::Renew => {
                self.window.again(at);
                self.renew.get_or_insert(failure.text);
            }
            Fate::Abort => self.broken = Some(failure.text),
            Fate::Refused if self.proving.is_some_and(|group| group.size == 1) => self.window.refused(at, true, failure.text),
            Fate::Refused => {
                if let Some(group) = &mut self.proving {
                    group.refused = true;
                }
                self.window.suspect(at);
            }
        }
    }

    fn stop(&mut self, state: State) {
        let keeps = matches!((&self.stop, &state), (Some(Stop { state: State::Holding(_), .. }), State::Retrying(_)));
        if !keeps {
            self.stop = Some(Stop { state, until: None });
        }
    }

    /// Starts the producer anew; what is unanswered will be sent again.
    fn restart(&mut self, now: u64) {
        self.window.restart();
        (self.renew, self.proving, self.group) = (None, None, 0);
        match self.port.renew() {
            Ok(()) => {}
            Err(what) => self.stop = Some(Stop { state: State::Holding(what), until: Some(after(now, self.hold_retry)) }),
        }
    }

    /// Sends what may be sent now. Returns when to look again without being woken.
    fn pump(&mut self, now: u64) -> Option<u64> {
        if let Some(why) = self.renew.take() {
            tracing::warn!(sink = self.name, %why, "a new Kafka producer sends again what is unanswered");
            self.restart(now);
            // One that fails at once, each time, must not be made anew without a pause.
            self.stop.get_or_insert(Stop { state: State::Retrying(why), until: Some(after(now, self.retry)) });
        }
        if let Some(stop) = &mut self.stop {
            if self.window.sent() > 0 {
                return None;
            }
            let holds = matches!(stop.state, State::Holding(_));
            let until = *stop.until.get_or_insert(after(now, if holds { self.hold_retry } else { self.retry }));
            if now < until {
                return Some(until);
            }
            self.stop = None;
            if holds {
                self.probing = true;
                self.restart(now);
                if self.stop.is_some() {
                    return Some(after(now, self.hold_retry));
                }
            }
        }
        if matches!(self.client, State::Holding(_)) {
            // librdkafka tries on by itself; only new files need a new producer.
            if self.port.is_stale() {
                self.client = State::Starting;
                self.restart(now);
            } else {
                return Some(after(now, self.hold_retry));
            }
        }
        self.send(now);
        self.stop.is_some().then_some(now)
    }

    fn send(&mut self, now: u64) {
        if self.window.suspects() > 0 || self.proving.is_some() {
            if self.window.sent() > 0 {
                return;
            }
            if self.group == 0 {
                self.group = (self.window.suspects() / 2).clamp(1, GROUP_MAX);
            }
            let mut size = 0;
            while size < self.group
                && let Some(at) = self.window.next_suspect()
                && self.send_one(at, now)
            {
                size += 1;
            }
            if self.window.sent() > 0 {
                self.proving = Some(Group { size, refused: false });
            }
            return;
        }
        self.group = 0;
        while !(self.probing && self.window.sent() > 0)
            && let Some(at) = self.window.next_todo()
            && self.send_one(at, now)
        {}
    }

    /// Sends one; false if no more can be sent now.
    fn send_one(&mut self, at: super::window::At, now: u64) -> bool {
        let (message, tag) = self.window.message(at);
        match self.port.send(&message, tag) {
            Ok(()) => self.window.mark_sent(at),
            Err(SendError::Full) => return false,
            Err(SendError::TooLarge) => {
                let bytes = message.payload.len() + message.key.map_or(0, <[u8]>::len);
                let reason = format!(
                    "topic \"{}\": {bytes} bytes are more than a client may send; raise message.max.bytes in options, and max.message.bytes of the topic",
                    self.topic
                );
                self.window.refused(at, false, reason);
            }
            Err(SendError::Failed(failure)) => match failure.fate {
                Fate::Refused => self.window.refused(at, false, failure.text),
                Fate::Renew => {
                    self.renew = Some(failure.text);
                    self.stop = Some(Stop { state: State::Retrying("the producer starts anew".into()), until: Some(now) });
                    return false;
                }
                Fate::Abort => {
                    self.broken = Some(failure.text);
                    return false;
                }
                Fate::Retry => {
                    self.stop(State::Retrying(failure.text));
                    return false;
                }
                Fate::Hold => {
                    self.stop(State::Holding(failure.text));
                    return false;
                }
            },
        }
        true
    }

    fn standing(&self) -> State {
        match (&self.stop, &self.client) {
            (Some(stop), _) => stop.state.clone(),
            (None, client) => client.clone(),
        }
    }

    async fn work(mut self, inbox: Arc<Inbox>, on: Rc<dyn Executor>, standing: Standing) -> Result<(), SinkError> {
        let woken = self.port.woken();
        self.restart(on.clock().mono());
        let mut certificate = None;
        let mut look_again = 0;
        loop {
            self.answers();
            // One parcel a turn: answers are taken, and others run, between two.
            let taken = inbox.try_pop();
            let more = taken.is_some();
            if let Some(parcel) = taken {
                self.window.admit(parcel);
            }
            let now = on.clock().mono();
            let mut look = self.pump(now);
            if let Some(ends) = self.port.certificate_ends() {
                if certificate != Some(ends) || now >= look_again {
                    standing.certificate_ends(ends, on.clock().now());
                    (certificate, look_again) = (Some(ends), after(now, CERTIFICATE_LOOK));
                }
                look = Some(look.unwrap_or(u64::MAX).min(look_again));
            }
            if let Some(what) = self.broken.take() {
                return Err(SinkError::Broken { sink: self.name, what });
            }
            self.window.tell();
            standing.holds(self.window.open() as u64);
            standing.set(self.standing());
            if more {
                on.pause().await;
            } else if inbox.is_closed() && inbox.is_empty() && self.window.open() == 0 {
                return Ok(());
            } else {
                wait(&inbox, &woken, &*on, look).await;
            }
        }
    }
}

impl Sink for Running {
    fn run(self: Box<Self>, inbox: Arc<Inbox>, on: Rc<dyn Executor>, standing: Standing) -> LocalFuture<'static, Result<(), SinkError>> {
        Box::pin(self.work(inbox, on, standing))
    }
}

fn after(now: u64, span: Duration) -> u64 {
    now.saturating_add(crate::clock::nanos(span))
}

/// Waits for a parcel, an answer, or `until` (monotonic nanoseconds).
async fn wait(inbox: &Inbox, woken: &Signal, on: &dyn Executor, until: Option<u64>) {
    let mut changed = pin!(inbox.changed());
    let mut answered = pin!(woken.wait());
    let mut timer = until.map(|until| on.sleep(Duration::from_nanos(until.saturating_sub(on.clock().mono()))));
    poll_fn(|cx| {
        // All are polled each time: each registers the waker it will wake.
        let ready = [
            changed.as_mut().poll(cx).is_ready(),
            answered.as_mut().poll(cx).is_ready(),
            timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()),
        ];
        if ready.contains(&true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
