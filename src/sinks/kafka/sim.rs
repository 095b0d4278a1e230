//! A simulated cluster behind the producer's port: time and tasks are the executor's, chance is
//! the seed's, so one seed is one run.
//!
//! It models what the sink must survive: batches that fail together for one message, a broker that
//! is away, answers that are lost (a retry then adds nothing, a new producer's resend adds a
//! repeat), passing and standing refusals.

use std::{cell::RefCell, collections::VecDeque, rc::Rc, sync::Arc, time::Duration};

use crate::{
    batch::Message,
    io::Executor,
    metrics::State,
    net::kafka::{
        fates::{Failure, Fate},
        port::{Event, Producer, SendError, Tag},
    },
    ring::Signal,
};

/// A message as the simulated broker holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub key: Option<Vec<u8>>,
    pub payload: Vec<u8>,
    pub headers: Vec<(&'static str, Vec<u8>)>,
    pub time_ms: i64,
}

/// What the simulated world does; change it while it runs.
#[derive(Clone, Debug)]
pub struct Weather {
    /// False: nothing is answered.
    pub up: bool,
    /// Between sending and the answer.
    pub latency: Duration,
    /// While set, every batch fails so.
    pub refusal: Option<Failure>,
    /// While set, the connection is refused so: nothing is answered, and the standing tells it.
    pub login: Option<String>,
    /// While set, no producer can be made: settings or files are wrong.
    pub files: Option<String>,
    /// Bytes of a payload beyond which its whole batch is refused.
    pub message_bytes_max: usize,
    /// Of a thousand batches, how many lose their answer and are tried again.
    pub lost_answers: u32,
    /// Of a thousand batches, how many fail for a passing reason.
    pub failures: u32,
    /// Of a thousand batches, how many break the producer.
    pub fatal: u32,
}

impl Default for Weather {
    fn default() -> Self {
        let latency = Duration::from_millis(2);
        let message_bytes_max = 1_000_000;
        Self { up: true, latency, refusal: None, login: None, files: None, message_bytes_max, lost_answers: 0, failures: 0, fatal: 0 }
    }
}

/// The cluster. Clones share it.
#[derive(Clone)]
pub struct Cluster(Rc<RefCell<Inner>>);

struct Inner {
    weather: Weather,
    changed: bool,
    random: u64,
    partitions: Vec<Vec<Accepted>>,
    queue: VecDeque<(Tag, Accepted)>,
    /// Messages at the queue's start that the broker has, whose answer was lost.
    known: usize,
    answers: VecDeque<Answer>,
    generation: u64,
    running: bool,
    signal: Arc<Signal>,
}

enum Answer {
    Delivered(Vec<Tag>),
    Failed(Tag, Failure),
    Stands(State),
    Broken(String),
}

/// Messages that a simulated producer holds.
const QUEUE_MAX: usize = 500;
/// Messages of one simulated batch.
const BATCH_MAX: usize = 50;

impl Cluster {
    /// A cluster with one topic of `partitions` partitions.
    pub fn new(seed: u64, partitions: usize) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            weather: Weather::default(),
            changed: false,
            random: seed,
            partitions: vec![Vec::new(); partitions.max(1)],
            queue: VecDeque::new(),
            known: 0,
            answers: VecDeque::new(),
            generation: 0,
            running: false,
            signal: Arc::default(),
        })))
    }
    /// Changes the weather.
    pub fn change(&self, change: impl FnOnce(&mut Weather)) {
        let mut inner = self.0.borrow_mut();
        change(&mut inner.weather);
        inner.changed = true;
        inner.signal.raise();
    }
    /// What the broker holds, by partition, in order.
    pub fn accepted(&self) -> Vec<Vec<Accepted>> {
        self.0.borrow().partitions.clone()
    }
    /// A producer of its topic.
    pub fn producer(&self, on: Rc<dyn Executor>) -> Simulated {
        Simulated { cluster: self.clone(), on, signal: self.0.borrow().signal.clone(), open: false }
    }
}

impl Inner {
    /// SplitMix64: enough chance for weather.
    fn chance(&mut self, per_mille: u32) -> bool {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % 1000 < u64::from(per_mille)
    }

    /// The broker sees the first batch of the queue.
    fn step(&mut self) {
        if !self.weather.up || self.weather.login.is_some() {
            return;
        }
        let count = self.queue.len().min(BATCH_MAX);
        if self.chance(self.weather.fatal) {
            self.answers.push_back(Answer::Broken("simulated: the producer failed for good".into()));
            return;
        }
        let fits = self.queue.iter().take(count).all(|(_, m)| m.payload.len() <= self.weather.message_bytes_max);
        let failure = match &self.weather.refusal {
            _ if self.known > 0 => None,
            Some(failure) => Some(failure.clone()),
            None if !fits => Some(Failure { fate: Fate::Refused, text: "simulated: too large".into() }),
            None => self.chance(self.weather.failures).then(|| Failure { fate: Fate::Retry, text: "simulated: busy".into() }),
        };
        if let Some(failure) = failure {
            let failed = self.queue.drain(..count).map(|(tag, _)| Answer::Failed(tag, failure.clone()));
            self.answers.extend(failed);
            return;
        }
        let count = if self.known > 0 { self.known } else { count };
        if self.known == 0 {
            for (_, message) in self.queue.iter().take(count) {
                let sum = |bytes: &Vec<u8>| bytes.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
                let partition = message.key.as_ref().map_or(0, sum) % self.partitions.len();
                self.partitions[partition].push(message.clone());
            }
            if self.chance(self.weather.lost_answers) {
                self.known = count;
                return;
            }
        }
        self.known = 0;
        self.answers.push_back(Answer::Delivered(self.queue.drain(..count).map(|(tag, _)| tag).collect()));
    }
}

/// A producer of the simulated cluster.
pub struct Simulated {
    cluster: Cluster,
    on: Rc<dyn Executor>,
    signal: Arc<Signal>,
    open: bool,
}

impl Simulated {
    /// The task that stands for the wire; ends when nothing is queued.
    fn wire(&self) {
        let mut inner = self.cluster.0.borrow_mut();
        if std::mem::replace(&mut inner.running, true) {
            return;
        }
        let (cluster, on, signal, generation) = (self.cluster.clone(), self.on.clone(), self.signal.clone(), inner.generation);
        drop(inner);
        self.on.spawn(
            "simulated kafka",
            Box::pin(async move {
                loop {
                    let latency = cluster.0.borrow().weather.latency;
                    on.sleep(latency.max(Duration::from_micros(1))).await;
                    let mut inner = cluster.0.borrow_mut();
                    if inner.generation != generation {
                        return;
                    }
                    inner.step();
                    let done = inner.queue.is_empty();
                    let told = !inner.answers.is_empty();
                    if done {
                        inner.running = false;
                    }
                    drop(inner);
                    if told {
                        signal.raise();
                    }
                    if done {
                        return;
                    }
                }
            }),
        );
    }

    fn stands(inner: &Inner) -> State {
        match &inner.weather {
            Weather { login: Some(text), .. } => State::Holding(text.clone()),
            Weather { up: false, .. } => State::Retrying("simulated: no broker answers".into()),
            _ => State::Ready,
        }
    }
}

impl Producer for Simulated {
    fn send(&mut self, message: &Message<'_>, tag: Tag) -> Result<(), SendError> {
        let mut inner = self.cluster.0.borrow_mut();
        if !self.open || inner.queue.len() >= QUEUE_MAX {
            return Err(SendError::Full);
        }
        inner.queue.push_back((
            tag,
            Accepted {
                key: message.key.map(<[u8]>::to_vec),
                payload: message.payload.to_vec(),
                headers: message.headers().map(|(name, value)| (name, value.to_vec())).collect(),
                time_ms: message.time_ms,
            },
        ));
        drop(inner);
        self.wire();
        Ok(())
    }

    fn poll(&mut self, take: &mut dyn FnMut(Event<'_>)) {
        loop {
            let answer = self.cluster.0.borrow_mut().answers.pop_front();
            match answer {
                Some(Answer::Delivered(tags)) => take(Event::Delivered(&tags)),
                Some(Answer::Failed(tag, failure)) => take(Event::Failed(tag, failure)),
                Some(Answer::Stands(state)) => take(Event::Client(state)),
                Some(Answer::Broken(text)) => take(Event::Broken(text)),
                None => break,
            }
        }
        let mut inner = self.cluster.0.borrow_mut();
        if self.open && std::mem::take(&mut inner.changed) {
            let state = Self::stands(&inner);
            drop(inner);
            take(Event::Client(state));
        }
    }

    fn woken(&self) -> Arc<Signal> {
        self.signal.clone()
    }

    fn renew(&mut self) -> Result<(), String> {
        self.purge();
        let mut inner = self.cluster.0.borrow_mut();
        if let Some(what) = &inner.weather.files {
            return Err(what.clone());
        }
        let state = Self::stands(&inner);
        inner.answers.push_back(Answer::Stands(state));
        self.open = true;
        self.signal.raise();
        Ok(())
    }

    fn is_stale(&mut self) -> bool {
        self.cluster.0.borrow().weather.login.is_none()
    }

    fn in_flight(&self) -> usize {
        self.cluster.0.borrow().queue.len()
    }

    fn purge(&mut self) {
        let mut inner = self.cluster.0.borrow_mut();
        inner.generation += 1;
        inner.queue.clear();
        inner.answers.clear();
        (inner.known, inner.running) = (0, false);
        self.open = false;
    }
}
