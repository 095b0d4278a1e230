//! `wazuh_queue`: records into the manager's queue, from which it makes events.
//!
//! One record is one datagram, `1:LOCATION:JSON`, as handler `dfn` writes it; of a bare JSON object, such
//! as a match of lookup `misp`, this sink makes one. Nothing answers, so a record is out once the kernel
//! has it. The manager may be away, restart, or read too slowly:
//! records then wait here ([`waiting`]), the oldest are let go by number, bytes and age, each
//! counted, and nobody else waits.
//!
//! A record that the manager would cut is not sent: cut JSON is none.

mod link;
#[cfg(test)]
mod tests;
mod waiting;

use std::{rc::Rc, sync::Arc, time::Duration};

use super::{Finding, Inbox, Kind, Level, Parcel, Sink, SinkError, Spec, Thread};
use crate::{
    clock::{Nanos, nanos},
    io::{Executor, LocalFuture},
    limits,
    metrics::{Standing, State, Words},
    register::{Field, Section, Type},
};
use link::{Link, Sent, To};
use waiting::Waiting;

/// The kind.
pub struct WazuhQueue;

const FIELDS: &[Field] = &[
    Field::new("path", Type::Path, "\"/var/ossec/queue/sockets/queue\"", "The manager's queue, a unix datagram socket of group wazuh."),
    Field::optional(
        "address",
        Type::Address,
        "Sends over TCP to this address in place of the socket, one record a line; for a relay on the manager's host.",
    ),
    Field::new(
        "integration",
        Type::Text,
        "\"shipper\"",
        "Location, and value of `data.integration`, of records that are bare JSON, such as matches of lookup misp; handler ioc passes over alerts made of them.",
    ),
    Field::new("backoff", Type::Span, "\"1s\"", "Wait before the queue is tried again when it is away; doubled up to 30 seconds."),
    Field::new(
        "give_up_after",
        Type::Span,
        "\"1h\"",
        "Age at which a record that could not be sent is let go, counted. At most 10,000 records and 16 MiB wait, the oldest go first.",
    ),
];

impl Kind for WazuhQueue {
    fn name(&self) -> &'static str {
        "wazuh_queue"
    }
    fn about(&self) -> &'static str {
        "records into the queue of the Wazuh manager on this host"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn required(&self) -> bool {
        false
    }
    fn thread(&self) -> Thread {
        Thread::Edge
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        let path = section.path("path");
        let address = section.opt_address("address");
        if address.is_some() && section.is_set("path") {
            section.wrong("address", "is set beside `path`; remove one of the two");
        }
        if !path.is_absolute() {
            section.wrong("path", "must be absolute; write \"/var/ossec/queue/sockets/queue\"");
        }
        let integration = section.text("integration");
        if !is_name(&integration) {
            section.wrong("integration", "must be up to 32 letters, digits, \"-\" and \"_\"; write \"misp\"");
        }
        let (backoff, give_up_after) = (section.span("backoff"), section.span("give_up_after"));
        for (name, span) in [("backoff", backoff), ("give_up_after", give_up_after)] {
            if span.is_zero() {
                section.wrong(name, "must be longer than nothing; write \"1s\"");
            }
        }
        Box::new(Settings { to: address.map_or_else(|| To::Socket(path), To::Address), integration, backoff, give_up_after })
    }
}

#[derive(Clone, Debug)]
struct Settings {
    to: To,
    integration: String,
    backoff: Duration,
    give_up_after: Duration,
}

impl Spec for Settings {
    fn build(&self, _name: &str) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(self.clone()))
    }

    fn check(&self, _name: &str) -> Vec<Finding> {
        let tried = match &self.to {
            To::Socket(path) => std::os::unix::net::UnixDatagram::unbound().and_then(|socket| socket.connect(path)),
            To::Address(address) => std::net::TcpStream::connect_timeout(address, Duration::from_secs(3)).map(drop),
        };
        let (level, text) = match tried.map_err(|e| link::standing(&self.to, &e)) {
            Ok(()) => (Level::Good, format!("{} takes records", self.to)),
            // It may just be stopped; records wait for it.
            Err(State::Retrying(why)) => (Level::Warning, why),
            Err(state) => (Level::Bad, state.to_string()),
        };
        vec![Finding { level, text }]
    }
}

impl Sink for Settings {
    fn run(self: Box<Self>, inbox: Arc<Inbox>, on: Rc<dyn Executor>, standing: Standing) -> LocalFuture<'static, Result<(), SinkError>> {
        // Its own way into the manager is away: the manager hears only that it is back.
        standing.call(Words { trouble: "away", end: "reconnect" });
        let running = Running {
            wait: self.backoff,
            settings: *self,
            on,
            standing,
            link: None,
            waiting: Waiting::new(),
            next_try: 0,
            is_proven: false,
            full_since: None,
            told: Vec::new(),
            lost: 0,
        };
        Box::pin(running.work(inbox))
    }
}

/// Records sent before other tasks of the thread have a turn.
const SENT_A_TURN: usize = 64;
/// How long the queue may be full before that is shown: a manager at work is full now and then.
const FULL_FOR: Duration = Duration::from_secs(10);
/// A full queue is tried again after this time even if no wake-up came.
const FULL_RETRY: Duration = Duration::from_secs(1);
/// Wait for a kernel without memory.
const SHORT_RETRY: Duration = Duration::from_millis(100);

struct Running {
    settings: Settings,
    on: Rc<dyn Executor>,
    standing: Standing,
    link: Option<Link>,
    waiting: Waiting,
    /// Monotonic time of the next try to connect, and the wait after it.
    next_try: Nanos,
    wait: Duration,
    /// True once a record went out on this link.
    is_proven: bool,
    full_since: Option<Nanos>,
    /// Reasons that were logged since the last connection.
    told: Vec<&'static str>,
    /// Records let go since it last stood well.
    lost: u64,
}

/// Why sending stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// Nothing waits, or there is no link.
    Rests,
    /// More can be sent, after others had their turn.
    GoesOn,
    /// The queue is full.
    IsFull,
    /// The kernel has no memory for a record just now, and will not say when it has.
    IsShort,
}

impl Running {
    async fn work(mut self, inbox: Arc<Inbox>) -> Result<(), SinkError> {
        let mut last_try = false;
        loop {
            while let Some(parcel) = inbox.try_pop() {
                self.take(&parcel);
            }
            let now = self.on.clock().mono();
            let lost = self.waiting.expire(now.saturating_sub(nanos(self.settings.give_up_after)));
            self.let_go("too_old", lost);
            let ending = inbox.is_closed() && inbox.is_empty();
            if ending && self.waiting.is_empty() {
                return Ok(());
            }
            if self.link.is_none() && (now >= self.next_try || (ending && !last_try)) {
                last_try = ending;
                self.connect().await;
                continue;
            }
            if self.link.is_none() && ending {
                // Wazuh is away, and nobody should wait for it at a stop.
                return Ok(());
            }
            match self.send_some() {
                Pace::GoesOn => self.on.pause().await,
                // All is out; nothing would wake it any more.
                Pace::Rests if ending => {}
                pace => self.rest(&inbox, pace).await,
            }
        }
    }

    fn take(&mut self, parcel: &Parcel) {
        let now = self.on.clock().mono();
        for n in parcel.numbers() {
            let payload = parcel.batch.message(n).payload;
            let made = payload.strip_prefix(b"{").map(|rest| event(&self.settings.integration, rest));
            let record = made.as_deref().unwrap_or(payload);
            if record.len() > limits::WAZUH_RECORD_BYTES {
                self.let_go("too_long", 1);
            } else if !is_record(record) {
                self.let_go("malformed", 1);
            } else if matches!(self.settings.to, To::Address(_)) && record.contains(&b'\n') {
                // One record a line; in JSON a line end is an escape, so only a location can have one.
                let line: Vec<u8> = record.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }).collect();
                let lost = self.waiting.push(now, &line);
                self.let_go("inbox_full", lost);
            } else {
                let lost = self.waiting.push(now, record);
                self.let_go("inbox_full", lost);
            }
        }
    }

    fn let_go(&mut self, reason: &'static str, records: u64) {
        if records == 0 {
            return;
        }
        self.standing.dropped(reason, records);
        self.lost += records;
        if !self.told.contains(&reason) {
            self.told.push(reason);
            let to = &self.settings.to;
            tracing::warn!(%to, reason, records, "a record for Wazuh's queue is let go; more are counted in shipper_dropped_messages_total");
        }
    }

    async fn connect(&mut self) {
        match Link::open(&self.settings.to).await {
            Ok(link) => {
                self.link = Some(link);
                self.is_proven = false;
                self.stands_well();
            }
            Err(e) => self.is_away(&e),
        }
    }

    fn stands_well(&mut self) {
        self.full_since = None;
        self.standing.holds(self.waiting.len() as u64);
        if self.lost > 0 && self.standing.get() != State::Ready {
            tracing::warn!(to = %self.settings.to, lost = self.lost, waiting = self.waiting.len(), "Wazuh's queue is back");
        }
        if self.standing.get() != State::Ready {
            self.standing.set(State::Ready);
            (self.told, self.lost) = (Vec::new(), 0);
        }
    }

    fn is_away(&mut self, e: &std::io::Error) {
        self.full_since = None;
        self.standing.set(link::standing(&self.settings.to, e));
        if self.link.take().is_some() && self.is_proven {
            // It worked, and the manager may have started again: the next may be there already.
            self.wait = self.settings.backoff;
            self.next_try = 0;
            return;
        }
        self.next_try = self.on.clock().mono() + nanos(self.wait);
        let longest = Duration::from_millis(limits::WAZUH_BACKOFF_MS_MAX).max(self.settings.backoff);
        self.wait = (self.wait * 2).min(longest);
    }

    /// Sends what can be sent without waiting, at most a turn's worth.
    fn send_some(&mut self) -> Pace {
        for _ in 0..SENT_A_TURN {
            let (Some(link), Some(record)) = (&mut self.link, self.waiting.first()) else { return Pace::Rests };
            match link.send(record) {
                Sent::Whole => {
                    self.waiting.pop();
                    self.is_proven = true;
                    self.wait = self.settings.backoff;
                    if self.full_since.is_some() {
                        self.stands_well();
                    }
                }
                Sent::TooLong => {
                    self.waiting.pop();
                    self.let_go("too_long", 1);
                }
                Sent::Short => return Pace::IsShort,
                Sent::Full => {
                    let now = self.on.clock().mono();
                    let since = *self.full_since.get_or_insert(now);
                    if now.saturating_sub(since) >= nanos(FULL_FOR) {
                        let why = format!("{} is full: the manager does not read it; look at wazuh-analysisd", self.settings.to);
                        self.standing.set(State::Retrying(why));
                    }
                    return Pace::IsFull;
                }
                Sent::Broken(e) => {
                    self.is_away(&e);
                    return Pace::GoesOn;
                }
            }
        }
        Pace::GoesOn
    }

    /// Waits until there is something to do.
    async fn rest(&mut self, inbox: &Inbox, pace: Pace) {
        let now = self.on.clock().mono();
        let expiry = self.waiting.oldest().map(|since| since + nanos(self.settings.give_up_after) + 1);
        let until = match (&self.link, pace) {
            (None, _) => Some(self.next_try.min(expiry.unwrap_or(u64::MAX))),
            (Some(_), Pace::IsFull) => Some(now + nanos(FULL_RETRY)),
            (Some(_), Pace::IsShort) => Some(now + nanos(SHORT_RETRY)),
            (Some(_), _) => expiry,
        };
        let timer = async {
            match until {
                Some(until) => self.on.sleep(Duration::from_nanos(until.saturating_sub(now))).await,
                None => std::future::pending().await,
            }
        };
        let gone = match &self.link {
            None => tokio::select! {
                () = inbox.changed() => None,
                () = timer => None,
            },
            Some(link) => tokio::select! {
                () = inbox.changed() => None,
                () = timer => None,
                () = link.writable(), if pace == Pace::IsFull => None,
                e = link.closed() => Some(e),
            },
        };
        if let Some(e) = gone {
            self.is_away(&e);
        }
    }
}

impl Drop for Running {
    /// Whatever ends it, by itself or by the drain's deadline: what was not sent is counted.
    fn drop(&mut self) {
        self.let_go("stopped", self.waiting.len() as u64);
    }
}

/// True for what can stand between two colons and in a JSON string as it is.
fn is_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=32).contains(&text.len()) && text.chars().all(is_plain)
}

/// The record of a bare JSON object.
///
/// - `rest`: the object's bytes after `{`.
fn event(integration: &str, rest: &[u8]) -> Vec<u8> {
    let is_empty = rest.trim_ascii_start().starts_with(b"}");
    let comma: &[u8] = if is_empty { b"" } else { b"," };
    let head = format!("1:{integration}:{{\"integration\":\"{integration}\"");
    [head.as_bytes(), comma, rest].concat()
}

/// True for `1:…`: the manager takes the first byte for the number of one of its own queues.
fn is_record(payload: &[u8]) -> bool {
    payload.starts_with(b"1:")
}
