//! RabbitMQ, by lapin. The only file that names it.
//!
//! | queue | holds |
//! |---|---|
//! | `<queue>` | tasks; quorum, or classic with priorities |
//! | `<queue>.dead` | what no node understood, by the exchange `<queue>.dlx` |
//! | `<queue>.results.<node>` | outcomes for a node |
//!
//! A task that is published counts as shared when the broker has confirmed it. A task that is taken is acked when its
//! outcome is stored, and its owner's queue has confirmed that outcome. As many are taken as there are slots.
//!
//! A connection that breaks is made anew from nothing: what was not confirmed waits here again, what was not acked
//! comes once more and is known by its id.
//!
//! A broker may be there, have the queue, say that it runs, and yet never answer for it: a quorum queue without a leader.
//! So a connection is no proof that the queue works. Once an answer failed to come, the broker counts as away until one came.

#![allow(clippy::disallowed_methods, reason = "a broker is of the real machine: the simulator has none, and its time is the system's")]

use std::{
    future::Future,
    path::Path,
    pin::Pin,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Error, ErrorKind, ExchangeKind,
    message::{Delivery, DeliveryResult},
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, BasicRejectOptions, ConfirmSelectOptions,
        ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    runtime::default_runtime,
    tcp::{OwnedIdentity, OwnedTLSConfig},
    types::{AMQPValue, FieldTable, LongString, ShortString},
    uri::{AMQPScheme, AMQPUri},
};
use tokio::sync::mpsc;

use super::{
    desk::{Desk, Ended, Taken},
    envelope,
};
use crate::{
    metrics::State,
    net::{
        backoff::{Backoff, Rolls},
        secret::Secret,
    },
    scan::{settings::Rabbitmq, task::TaskId, tasks::Away, workers::fields::is_id},
};

/// Patience with one question to the broker.
const ASK: Duration = Duration::from_secs(10);
/// Patience with all that is asked at the start.
const CHECK: Duration = Duration::from_secs(5);
/// Patience with the last word on a connection.
const CLOSE: Duration = Duration::from_secs(1);
/// Seconds between heartbeats: a broker that is silent for two of them is away.
const HEARTBEAT_S: u16 = 10;
/// Tasks published before their confirms are awaited.
const AT_ONCE: usize = 64;
/// Between two looks at tasks that were taken: at first, and at most.
const LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));
/// Between two looks at what might be shared, where the last one found nothing.
const NOTHING_TO_SHARE: Duration = Duration::from_millis(200);
/// Between two questions how long the queues are.
const COUNT: Duration = Duration::from_secs(10);

/// Why a session ended, or none began.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// It will not work until a person mends something.
    #[error("{0}")]
    Wrong(String),
    /// A queue is there with other arguments.
    #[error("{0}")]
    Unequal(String),
    /// Try again.
    #[error("{0}")]
    Away(String),
    /// It is there and does not answer for the queue of tasks. Try again.
    #[error("{0}")]
    Silent(String),
}

impl From<Away> for Trouble {
    fn from(away: Away) -> Self {
        Self::Away(away.to_string())
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        let ErrorKind::ProtocolError(told) = error.kind() else {
            let text = error.to_string();
            return if text.to_ascii_lowercase().contains("certificate") {
                Self::Wrong(format!("{text}; see scan.queue.rabbitmq.tls, and the name in url: the broker's certificate must be for it"))
            } else {
                Self::Away(text)
            };
        };
        let text = told.get_message().to_string();
        match told.get_id() {
            406 => Self::Unequal(text),
            403 => Self::Wrong(format!("it refuses us: {text}; see the user's name, password and permissions")),
            530 => Self::Wrong(format!("it refuses us: {text}; see the virtual host in url, and the user's right to it")),
            _ => Self::Away(text),
        }
    }
}

/// The queues of a node, and where they are.
#[derive(Debug)]
pub struct Place {
    settings: Rabbitmq,
    node: String,
    /// Tasks that the queue holds.
    size_max: u64,
}

/// A broker, and what passes between it and the store.
#[derive(Debug)]
pub struct Broker {
    place: Place,
    desk: Desk,
    /// Messages that were delivered: tasks, outcomes.
    delivered: [AtomicU64; 2],
    /// All that was delivered of them is dealt with.
    is_idle: [AtomicBool; 2],
    /// The last question to the queue of tasks was not answered.
    is_silent: AtomicBool,
}

impl Place {
    /// - `node`: as [`Desk::node`].
    pub fn new(settings: Rabbitmq, node: String, size_max: u64) -> Self {
        Self { settings, node, size_max }
    }

    /// Asks the broker whether it works with us, and makes the queues. A broker that is away is no error: it may come.
    ///
    /// # Errors
    /// What a person must mend: a queue with other arguments (which one), a login, an address.
    pub async fn check(&self) -> Result<(), String> {
        match tokio::time::timeout(CHECK, self.open()).await {
            Ok(Ok((connection, _))) => {
                let _ = tokio::time::timeout(CLOSE, connection.close(200, "checked".into())).await; // it ends either way
                Ok(())
            }
            Err(_) | Ok(Err(Trouble::Away(_) | Trouble::Silent(_))) => Ok(()),
            Ok(Err(trouble)) => Err(trouble.to_string()),
        }
    }

    /// Where it is, with the login.
    fn uri(&self) -> Result<AMQPUri, Trouble> {
        let settings = &self.settings;
        let wrong = |what: String| Trouble::Wrong(format!("scan.queue.rabbitmq.url {what}; write amqp://host:port/vhost"));
        let mut uri: AMQPUri = settings.url.parse().map_err(|e| wrong(format!("is no address of AMQP: {e}")))?;
        if uri.scheme == AMQPScheme::AMQPS && !cfg!(feature = "amqp-tls") {
            return Err(wrong("asks for TLS, which this build leaves out (feature amqp-tls)".into()));
        }
        let login = &mut uri.authority.userinfo;
        if let Some(username) = &settings.username {
            login.username.clone_from(username);
        }
        if let Some(path) = &settings.password_file {
            login.password = password(path)?.reveal().to_owned();
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
        Ok(uri)
    }

    /// What vouches for the broker, and for us. Files are read at each connection.
    fn tls(&self) -> Result<OwnedTLSConfig, Trouble> {
        let tls = &self.settings.tls;
        let cert_chain = tls.ca.as_ref().map(|ca| pem("ca", ca, "CERTIFICATE")).transpose()?;
        let identity = match &tls.own {
            Some((cert, key)) => Some(OwnedIdentity::PKCS8 {
                pem: pem("cert", cert, "CERTIFICATE")?.into_bytes(),
                key: pem("key", key, "PRIVATE KEY")?.into_bytes(),
            }),
            None => None,
        };
        Ok(OwnedTLSConfig { identity, cert_chain })
    }

    /// Connects, and makes what is to be there. Gives back the channel that publishes.
    async fn open(&self) -> Result<(Connection, Channel), Trouble> {
        let uri = self.uri()?;
        let at = format!("{}:{}", uri.authority.host, uri.authority.port);
        let named = ConnectionProperties::default().with_connection_name(LongString::from(format!("shipper {}", self.node)));
        let connecting = Connection::connect_uri_with_config(uri, named, self.tls()?, default_runtime()?);
        let connection = within(&format!("{at} gives no connection"), connecting).await?;
        let channel = within(&at, connection.create_channel()).await?;
        within(&at, channel.confirm_select(ConfirmSelectOptions::default())).await?;
        self.declare(&channel).await?;
        Ok((connection, channel))
    }

    async fn declare(&self, channel: &Channel) -> Result<(), Trouble> {
        let queue = &self.settings.queue;
        let (exchange, dead, results) = (format!("{queue}.dlx"), format!("{queue}.dead"), self.results(&self.node));
        let unequal = |name: &str, trouble: Trouble| match trouble {
            Trouble::Unequal(text) => Trouble::Unequal(format!(
                "RabbitMQ has {name} with other arguments than scan.queue asks for: {text}; give scan.queue.rabbitmq.queue another name, or delete it there once it is empty"
            )),
            other => other,
        };
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        within("exchange", channel.exchange_declare(short(&exchange), ExchangeKind::Direct, durable, FieldTable::default()))
            .await
            .map_err(|trouble| unequal(&format!("exchange {exchange}"), trouble))?;
        let kind = if self.settings.is_quorum { "quorum" } else { "classic" };
        for (name, arguments) in [
            (&dead, table(&[("x-queue-type", text(kind))])),
            (queue, self.arguments()),
            // One that is lost is made again, so it need not be a quorum's.
            (&results, table(&[("x-queue-type", text("classic"))])),
        ] {
            within("queue", channel.queue_declare(short(name), QueueDeclareOptions::durable(), arguments))
                .await
                .map_err(|trouble| unequal(&format!("queue {name}"), trouble))?;
        }
        within(
            "binding",
            channel.queue_bind(short(&dead), short(&exchange), short(queue), QueueBindOptions::default(), FieldTable::default()),
        )
        .await
    }

    /// Arguments of the queue of tasks.
    fn arguments(&self) -> FieldTable {
        let most = AMQPValue::LongLongInt(i64::try_from(self.size_max).unwrap_or(i64::MAX));
        let mut arguments = vec![
            ("x-dead-letter-exchange", text(&format!("{}.dlx", self.settings.queue))),
            ("x-overflow", text("reject-publish")),
            ("x-max-length", most),
        ];
        if self.settings.is_quorum {
            arguments.extend([("x-queue-type", text("quorum")), ("x-dead-letter-strategy", text("at-least-once"))]);
        } else {
            arguments.extend([("x-queue-type", text("classic")), ("x-max-priority", AMQPValue::LongInt(10))]);
        }
        table(&arguments)
    }

    /// The queue of outcomes for a node.
    fn results(&self, node: &str) -> String {
        format!("{}.results.{node}", self.settings.queue)
    }
}

impl Broker {
    /// Connects to nobody yet.
    pub fn new(settings: Rabbitmq, desk: Desk, size_max: u64) -> Self {
        let place = Place::new(settings, desk.node.clone(), size_max);
        Self { place, desk, delivered: Default::default(), is_idle: Default::default(), is_silent: AtomicBool::default() }
    }

    /// Works until `stop`; reconnects for ever.
    ///
    /// # Errors
    /// As [`Place::check`], if it never worked before.
    pub async fn run(&self, stop: impl Future<Output = ()>) -> Result<(), String> {
        tokio::pin!(stop);
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let mut rolls = Rolls::new(self.desk.clock.now());
        let mut has_worked = false;
        loop {
            let trouble = self.session(stop.as_mut(), &mut backoff, &mut has_worked).await;
            self.desk.take_back().await;
            let Some(trouble) = trouble else { break };
            match trouble {
                Trouble::Wrong(why) | Trouble::Unequal(why) if !has_worked => return Err(why),
                Trouble::Wrong(why) | Trouble::Unequal(why) => self.desk.board.stands(State::Holding(why)),
                Trouble::Away(why) => self.desk.board.stands(State::Retrying(why)),
                Trouble::Silent(why) => {
                    self.is_silent.store(true, Relaxed);
                    self.desk.board.stands(State::Retrying(why));
                }
            }
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = tokio::time::sleep(Duration::from_nanos(backoff.wait(rolls.roll()))) => {}
            }
        }
        Ok(())
    }

    /// One connection, until it breaks; `None` if it was stopped.
    async fn session(&self, mut stop: Pin<&mut impl Future<Output = ()>>, backoff: &mut Backoff, has_worked: &mut bool) -> Option<Trouble> {
        let (connection, channel) = tokio::select! {
            biased;
            () = stop.as_mut() => return None,
            open = self.place.open() => match open {
                Ok(open) => open,
                Err(trouble) => return Some(trouble),
            },
        };
        *has_worked = true;
        if !self.is_silent.load(Relaxed) {
            self.answers();
        }
        let ended = tokio::select! {
            biased;
            () = stop => None,
            trouble = self.shares(&channel) => Some(trouble),
            trouble = self.takes(&connection, &channel) => Some(trouble),
            trouble = self.returns(&connection) => Some(trouble),
            trouble = self.counts(&connection) => Some(trouble),
        };
        if !self.is_silent.load(Relaxed) {
            backoff.reset();
        }
        // Else it lives on without us, and keeps what it was delivered.
        let _ = tokio::time::timeout(CLOSE, connection.close(200, "ended".into())).await; // it is gone either way
        ended.map(|trouble| match trouble {
            Err(trouble) => trouble,
            Ok(never) => match never {},
        })
    }

    /// The queue of tasks works, as far as is known.
    fn answers(&self) {
        self.is_silent.store(false, Relaxed);
        self.desk.board.stands(State::Ready);
    }

    /// Publishes what is left over here.
    async fn shares(&self, channel: &Channel) -> Result<Never, Trouble> {
        loop {
            if self.desk.tasks.figures().queued == 0 {
                self.answers(); // nobody waits for it
                self.desk.tasks.ready().await;
            }
            let shared = self.desk.surplus(AT_ONCE).await?;
            if shared.is_empty() {
                tokio::time::sleep(NOTHING_TO_SHARE).await;
                continue;
            }
            let mut confirms = Vec::with_capacity(shared.len());
            for task in &shared {
                let message = envelope::write(task, &self.desk.node, self.desk.now());
                let properties = properties().with_priority(task.priority.get()).with_message_id(short(&task.task_id));
                confirms.push((&task.task_id, publish(channel, &self.place.settings.queue, &message, properties).await?));
            }
            let mut is_full = false;
            for (id, confirm) in confirms {
                let is_there = is_kept(asks("a confirm", &self.place.settings.queue, self.place.settings.is_quorum, confirm).await?);
                self.answers();
                if is_there {
                    self.desk.confirmed(id);
                } else {
                    is_full = true;
                    self.desk.refused(id).await?;
                }
            }
            if is_full {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    /// Takes tasks, as many as there are slots, and acks each when its outcome is stored.
    async fn takes(&self, connection: &Connection, publisher: &Channel) -> Result<Never, Trouble> {
        if self.desk.slots == 0 {
            return std::future::pending().await;
        }
        let prefetch = u16::try_from(self.desk.slots).unwrap_or(u16::MAX);
        let mut deliveries = consume(connection, &self.place.settings.queue, self.place.settings.is_quorum, prefetch).await?;
        self.answers();
        let mut waiting: Vec<(Delivery, TaskId, Option<String>)> = Vec::new();
        let mut unread: Vec<Delivery> = Vec::new();
        let mut look = LOOK.0;
        loop {
            self.is_idle[0].store(waiting.is_empty() && unread.is_empty(), Relaxed);
            tokio::select! {
                biased;
                delivery = deliveries.recv() => {
                    unread.push(delivered(delivery)?);
                    self.delivered[0].fetch_add(1, Relaxed);
                    look = LOOK.0;
                }
                () = tokio::time::sleep(look), if !waiting.is_empty() || !unread.is_empty() => look = (look * 2).min(LOOK.1),
            }
            for delivery in std::mem::take(&mut unread) {
                match self.desk.take(&delivery.data).await? {
                    Taken::Waits { id, owner } => waiting.push((delivery, id, owner)),
                    Taken::Full => unread.push(delivery),
                    Taken::Elsewhere { outcome, owner } => {
                        if self.tell(publisher, &owner, &outcome).await? {
                            settle(delivery.ack(BasicAckOptions::default())).await?;
                        } else {
                            unread.push(delivery);
                        }
                    }
                    Taken::Bad(bad) => {
                        tracing::warn!(
                            queue = self.place.settings.queue,
                            reason = bad.code(),
                            "a message of the queue is not understood ({bad}); it is in the dead letter queue {}.dead",
                            self.place.settings.queue
                        );
                        settle(delivery.reject(BasicRejectOptions { requeue: false })).await?;
                    }
                }
            }
            for (delivery, id, owner) in std::mem::take(&mut waiting) {
                match self.desk.ended(&id).await? {
                    Ended::NotYet => waiting.push((delivery, id, owner)),
                    Ended::With(outcome) => {
                        let is_told = match (&outcome, &owner) {
                            (Some(outcome), Some(owner)) => self.tell(publisher, owner, outcome).await?,
                            _ => true,
                        };
                        if is_told {
                            settle(delivery.ack(BasicAckOptions::default())).await?;
                            look = LOOK.0;
                        } else {
                            waiting.push((delivery, id, owner));
                        }
                    }
                }
            }
        }
    }

    /// Sends an outcome to its owner; false if that is to be tried again.
    async fn tell(&self, channel: &Channel, owner: &str, outcome: &crate::scan::outcome::Outcome) -> Result<bool, Trouble> {
        // A queue of ours whatever the message says: the envelope let no other characters through.
        debug_assert!(is_id(owner));
        let Ok(message) = serde_json::to_vec(outcome) else { return Ok(true) };
        let properties = properties().with_correlation_id(short(&outcome.task_id));
        match within("a confirm", publish(channel, &self.place.results(owner), &message, properties).await?).await? {
            Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => {
                tracing::warn!(owner, task = outcome.task_id, "no node waits for an outcome any more; it stays here alone");
                Ok(true)
            }
            Confirmation::Ack(None) | Confirmation::NotRequested => Ok(true),
            Confirmation::Nack(None) => Ok(false),
        }
    }

    /// Takes outcomes of what was shared.
    async fn returns(&self, connection: &Connection) -> Result<Never, Trouble> {
        let mut deliveries = consume(connection, &self.place.results(&self.desk.node), false, AT_ONCE as u16).await?;
        loop {
            self.is_idle[1].store(true, Relaxed);
            let delivery = delivered(deliveries.recv().await)?;
            self.is_idle[1].store(false, Relaxed);
            self.delivered[1].fetch_add(1, Relaxed);
            self.desk.returned(&delivery.data).await?;
            settle(delivery.ack(BasicAckOptions::default())).await?;
        }
    }

    /// Asks now and then how long the queues are, and whether they have forgotten us: after it stood still a broker may think
    /// that a consumer has its fill, and gives it nothing for ever.
    async fn counts(&self, connection: &Connection) -> Result<Never, Trouble> {
        let channel = within("a channel", connection.create_channel()).await?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queues = [self.place.settings.queue.clone(), self.place.results(&self.desk.node)];
        let mut before = [None; 2];
        loop {
            for (n, name) in queues.iter().enumerate() {
                let queue = within("a count", channel.queue_declare(short(name), passive, FieldTable::default())).await?;
                let (ready, delivered) = (queue.message_count(), self.delivered[n].load(Relaxed));
                let takes = n == 1 || self.desk.slots > 0;
                let waits = takes && ready > 0 && self.is_idle[n].load(Relaxed);
                if waits && before[n] == Some(delivered) {
                    return Err(Trouble::Away(format!(
                        "{name} has {ready} messages and gives us none, though we wait for them; connecting anew"
                    )));
                }
                before[n] = waits.then_some(delivered);
                if n == 0 {
                    self.desk.board.size.store(ready.into(), Relaxed);
                }
            }
            tokio::time::sleep(COUNT).await;
        }
    }
}

/// No work of a session ends well.
enum Never {}

fn password(path: &Path) -> Result<Secret, Trouble> {
    Secret::from_file(path).map_err(Trouble::Wrong)
}

/// A PEM file that a setting of `tls` names, with one such block at least.
fn pem(setting: &str, path: &Path, block: &str) -> Result<String, Trouble> {
    let wrong = |what: String| {
        Trouble::Wrong(format!("scan.queue.rabbitmq.tls.{setting} {}: {what}; give a PEM file that we may read", path.display()))
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    if text.contains(&format!("{block}-----")) { Ok(text) } else { Err(wrong(format!("has no {block}"))) }
}

/// Waits no longer than [`ASK`] for what the broker answers.
async fn within<T>(what: &str, asked: impl Future<Output = Result<T, Error>>) -> Result<T, Trouble> {
    match tokio::time::timeout(ASK, asked).await {
        Ok(answer) => answer.map_err(|error| failed(what, error)),
        Err(_) => Err(Trouble::Away(format!("{what}: no answer within {} s", ASK.as_secs()))),
    }
}

/// Waits no longer than [`ASK`] for what only a queue itself answers.
async fn asks<T>(what: &str, queue: &str, is_quorum: bool, asked: impl Future<Output = Result<T, Error>>) -> Result<T, Trouble> {
    match tokio::time::timeout(ASK, asked).await {
        Ok(answer) => answer.map_err(|error| failed(what, error)),
        Err(_) => Err(Trouble::Silent(silence(what, queue, is_quorum))),
    }
}

/// Says what to do about a queue that does not answer.
fn silence(what: &str, queue: &str, is_quorum: bool) -> String {
    let seconds = ASK.as_secs();
    let remedy = if is_quorum {
        format!(
            "see `rabbitmq-queues quorum_status {queue}`; if no member of it leads and none is going to, remove it with `rabbitmqctl delete_queue {queue}`: it is made anew, and what this node had in it is given out again"
        )
    } else {
        "see the log of RabbitMQ".to_owned()
    };
    format!("{what}: RabbitMQ takes connections, but queue {queue} has not answered for {seconds} s; {remedy}")
}

fn failed(what: &str, error: Error) -> Trouble {
    match Trouble::from(error) {
        Trouble::Away(why) => Trouble::Away(format!("{what}: {why}")),
        other => other,
    }
}

/// An ack that the client has sent. One that it swallows, or never answers, would leave the broker waiting for ever.
async fn settle(acked: impl Future<Output = Result<bool, Error>>) -> Result<(), Trouble> {
    if within("an ack", acked).await? { Ok(()) } else { Err(Trouble::Away("an ack was not sent: the channel is closed".into())) }
}

/// Persistent.
fn properties() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(2).with_content_type("application/json".into())
}

async fn publish(channel: &Channel, queue: &str, message: &[u8], properties: BasicProperties) -> Result<lapin::PublisherConfirm, Trouble> {
    let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    within("a publish", channel.basic_publish("".into(), short(queue), mandatory, message, properties)).await
}

/// True if the broker has it: acked, and not returned as nobody's.
fn is_kept(confirmation: Confirmation) -> bool {
    confirmation.is_ack() && confirmation.take_message().is_none()
}

/// Deliveries of a queue, in order; so many are unacked at most.
async fn consume(
    connection: &Connection,
    queue: &str,
    is_quorum: bool,
    prefetch: u16,
) -> Result<mpsc::UnboundedReceiver<DeliveryResult>, Trouble> {
    let channel = within("a channel", connection.create_channel()).await?;
    within("a prefetch", channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
    let asked = channel.basic_consume(short(queue), "".into(), BasicConsumeOptions::default(), FieldTable::default());
    let consumer = asks("a consumer", queue, is_quorum, asked).await?;
    // Bounded by the prefetch.
    let (put, get) = mpsc::unbounded_channel();
    consumer.set_delegate(move |delivery: DeliveryResult| {
        let _ = put.send(delivery); // the session has ended
        std::future::ready(())
    });
    Ok(get)
}

fn delivered(delivery: Option<DeliveryResult>) -> Result<Delivery, Trouble> {
    match delivery {
        Some(Ok(Some(delivery))) => Ok(delivery),
        Some(Err(error)) => Err(error.into()),
        Some(Ok(None)) => Err(Trouble::Away("the queue was deleted, or its leader is away".into())),
        None => Err(Trouble::Away("the connection is closed".into())),
    }
}

fn short(name: &str) -> ShortString {
    name.into()
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn table(arguments: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert(short(name), value.clone());
    }
    table
}
