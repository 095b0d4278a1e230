//! A simulated cluster behind the producer's port: time and tasks are the executor's, chance is
//! the seed's, so one seed is one run.
//!
//! It models what the sink must survive: batches that fail together for one message, a broker that
//! is away, answers that are lost (a retry then adds nothing, a new producer's resend adds a
//! repeat), passing and standing refusals.

use std::{
    collections::VecDeque,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    batch::Message,
    io::{Executor, sim::Chance},
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
pub struct Cluster(Arc<Mutex<Broker>>);

struct Broker {
    weather: Weather,
    /// Raised by each change of the weather.
    changes: u64,
    /// Producers that were started, renewed ones included.
    started: u64,
    chance: Chance,
    partitions: Vec<Vec<Accepted>>,
    signals: Vec<Arc<Signal>>,
}

/// What one producer has sent and not yet told.
#[derive(Default)]
struct Line {
    queue: VecDeque<(Tag, Accepted)>,
    /// Messages at the queue's start that the broker has, whose answer was lost.
    known: usize,
    answers: VecDeque<Answer>,
    generation: u64,
    running: bool,
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
        Self(Arc::new(Mutex::new(Broker {
            weather: Weather::default(),
            changes: 0,
            started: 0,
            chance: Chance::new(seed),
            partitions: vec![Vec::new(); partitions.max(1)],
            signals: Vec::new(),
        })))
    }
    /// Changes the weather.
    pub fn change(&self, change: impl FnOnce(&mut Weather)) {
        let mut broker = self.lock();
        change(&mut broker.weather);
        broker.changes += 1;
        broker.signals.iter().for_each(|signal| signal.raise());
    }
    /// What the broker holds, by partition, in order.
    pub fn accepted(&self) -> Vec<Vec<Accepted>> {
        self.lock().partitions.clone()
    }
    /// How many messages each partition holds.
    pub fn ends(&self) -> Vec<usize> {
        self.lock().partitions.iter().map(Vec::len).collect()
    }
    /// How many producers were started, renewed ones included.
    pub fn started(&self) -> u64 {
        self.lock().started
    }
    /// A producer of its topic.
    pub fn producer(&self, on: Rc<dyn Executor>) -> Simulated {
        let signal = Arc::new(Signal::default());
        self.lock().signals.push(signal.clone());
        Simulated { cluster: self.clone(), on, signal, line: Arc::default(), seen: 0, open: false }
    }
    fn lock(&self) -> MutexGuard<'_, Broker> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker {
    /// It sees the first batch of a producer's queue.
    fn step(&mut self, line: &mut Line) {
        if !self.weather.up || self.weather.login.is_some() {
            return;
        }
        let count = line.queue.len().min(BATCH_MAX);
        if self.chance.of_thousand(self.weather.fatal) {
            line.answers.push_back(Answer::Broken("simulated: the producer failed for good".into()));
            return;
        }
        let fits = line.queue.iter().take(count).all(|(_, m)| m.payload.len() <= self.weather.message_bytes_max);
        let failure = match &self.weather.refusal {
            _ if line.known > 0 => None,
            Some(failure) => Some(failure.clone()),
            None if !fits => Some(Failure { fate: Fate::Refused, text: "simulated: too large".into() }),
            None => self.chance.of_thousand(self.weather.failures).then(|| Failure { fate: Fate::Retry, text: "simulated: busy".into() }),
        };
        if let Some(failure) = failure {
            let failed = line.queue.drain(..count).map(|(tag, _)| Answer::Failed(tag, failure.clone()));
            line.answers.extend(failed);
            return;
        }
        let count = if line.known > 0 { line.known } else { count };
        if line.known == 0 {
            for (_, message) in line.queue.iter().take(count) {
                let sum = |bytes: &Vec<u8>| bytes.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
                let partition = message.key.as_ref().map_or(0, sum) % self.partitions.len();
                self.partitions[partition].push(message.clone());
            }
            if self.chance.of_thousand(self.weather.lost_answers) {
                line.known = count;
                return;
            }
        }
        line.known = 0;
        line.answers.push_back(Answer::Delivered(line.queue.drain(..count).map(|(tag, _)| tag).collect()));
    }

    fn stands(&self) -> State {
        match &self.weather {
            Weather { login: Some(text), .. } => State::Holding(text.clone()),
            Weather { up: false, .. } => State::Retrying("simulated: no broker answers".into()),
            _ => State::Ready,
        }
    }
}

/// A producer of the simulated cluster.
pub struct Simulated {
    cluster: Cluster,
    on: Rc<dyn Executor>,
    signal: Arc<Signal>,
    line: Arc<Mutex<Line>>,
    /// Changes of the weather that it has told.
    seen: u64,
    open: bool,
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Simulated {
    /// The task that stands for the wire; ends when nothing is queued.
    fn wire(&self) {
        let mut held = lock(&self.line);
        if std::mem::replace(&mut held.running, true) {
            return;
        }
        let (cluster, on, signal, line, generation) =
            (self.cluster.clone(), self.on.clone(), self.signal.clone(), self.line.clone(), held.generation);
        drop(held);
        self.on.spawn(
            "simulated kafka",
            Box::pin(async move {
                loop {
                    let latency = cluster.lock().weather.latency;
                    on.sleep(latency.max(Duration::from_micros(1))).await;
                    let mut line = lock(&line);
                    if line.generation != generation {
                        return;
                    }
                    cluster.lock().step(&mut line);
                    line.running = !line.queue.is_empty();
                    if !line.answers.is_empty() {
                        signal.raise();
                    }
                    if !line.running {
                        return;
                    }
                }
            }),
        );
    }
}

impl Producer for Simulated {
    fn send(&mut self, message: &Message<'_>, tag: Tag) -> Result<(), SendError> {
        let mut line = lock(&self.line);
        if !self.open || line.queue.len() >= QUEUE_MAX {
            return Err(SendError::Full);
        }
        line.queue.push_back((
            tag,
            Accepted {
                key: message.key.map(<[u8]>::to_vec),
                payload: message.payload.to_vec(),
                headers: message.headers().map(|(name, value)| (name, value.to_vec())).collect(),
                time_ms: message.time_ms,
            },
        ));
        drop(line);
        self.wire();
        Ok(())
    }

    fn poll(&mut self, take: &mut dyn FnMut(Event<'_>)) {
        loop {
            let answer = lock(&self.line).answers.pop_front();
            match answer {
                Some(Answer::Delivered(tags)) => take(Event::Delivered(&tags)),
                Some(Answer::Failed(tag, failure)) => take(Event::Failed(tag, failure)),
                Some(Answer::Stands(state)) => take(Event::Client(state)),
                Some(Answer::Broken(text)) => take(Event::Broken(text)),
                None => break,
            }
        }
        let (changes, state) = {
            let broker = self.cluster.lock();
            (broker.changes, broker.stands())
        };
        if self.open && std::mem::replace(&mut self.seen, changes) != changes {
            take(Event::Client(state));
        }
    }

    fn woken(&self) -> Arc<Signal> {
        self.signal.clone()
    }

    fn renew(&mut self) -> Result<(), String> {
        self.purge();
        let mut broker = self.cluster.lock();
        if let Some(what) = &broker.weather.files {
            return Err(what.clone());
        }
        broker.started += 1;
        lock(&self.line).answers.push_back(Answer::Stands(broker.stands()));
        self.open = true;
        self.signal.raise();
        Ok(())
    }

    fn is_stale(&mut self) -> bool {
        self.cluster.lock().weather.login.is_none()
    }

    fn in_flight(&self) -> usize {
        lock(&self.line).queue.len()
    }

    fn purge(&mut self) {
        let mut line = lock(&self.line);
        line.generation += 1;
        line.queue.clear();
        line.answers.clear();
        (line.known, line.running) = (0, false);
        self.open = false;
    }
}
