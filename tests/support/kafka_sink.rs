//! A Kafka sink on a thread of its own, driven from a test.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use shipper::{
    batch::{Batch, Draft, Place},
    clock::SystemClock,
    io::{Engine, Running, Setup, Slab, SlabPool, Watcher, spawn},
    metrics::{Board, Standing, State},
    net::kafka::{
        reader::{Read, Reader},
        settings::Connection,
    },
    position::{Origin, Position},
    sinks::{Acks, Home, Inbox, Parcel, Pick, Settle, Settled, Spec, kafka::Settings},
};

/// How long a condition may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Answers, by (batch, message): the reason of a refusal, or `None` for a delivery.
#[derive(Default)]
pub struct Answers(Mutex<BTreeMap<(u64, u32), Option<String>>>);

impl Home for Answers {
    fn settle(&self, _: u8, settle: Settle) {
        let mut all = self.0.lock().unwrap();
        let mut note = |n: u32, what: Option<String>| {
            let before = all.insert((settle.seq, n), what);
            assert!(before.is_none(), "{}/{n} was answered twice", settle.seq);
        };
        match settle.messages {
            Settled::One(n) => note(n, None),
            Settled::Delivered(list) => list.into_iter().for_each(|n| note(n, None)),
            Settled::Refused(n, why) => note(n, Some(why)),
            Settled::PutBy(_) => unreachable!("a sink puts nothing by"),
        }
    }
}

/// A running sink.
pub struct Driven {
    inbox: Arc<Inbox>,
    pub answers: Arc<Answers>,
    pub standing: Standing,
    thread: Running<()>,
}

/// The settings of a sink that tests do not wait half a minute for.
pub fn settings(connection: Connection, topic: &str) -> Settings {
    let mut settings = Settings::new(connection, topic);
    settings.hold_retry = Duration::from_secs(2);
    settings
}

/// A connection without TLS and login.
pub fn plain(brokers: &str) -> Connection {
    Connection { brokers: brokers.split(',').map(str::to_owned).collect(), client_id: "test".into(), ..Connection::default() }
}

impl Driven {
    pub fn start(settings: &Settings) -> Self {
        let sink = settings.clone();
        let inbox = Inbox::new(4096);
        let standing = Board::default().enter("sinks.test");
        let (mail, stands) = (inbox.clone(), standing.clone());
        let (clock, watcher) = (SystemClock::new(), Watcher::new().unwrap());
        let setup = Setup { name: "sink".into(), core: None, network: false, slabs: SlabPool::new(4), watcher, clock };
        let thread = spawn(Engine::Pread, setup, move |io| {
            Box::pin(async move { sink.build("test").unwrap().run(mail, io, stands).await.unwrap() })
        })
        .unwrap();
        Self { inbox, answers: Arc::default(), standing, thread }
    }
    pub fn push(&self, batch: Batch) {
        let acks = Acks::new(self.answers.clone(), 0);
        assert!(self.inbox.push(Parcel { batch: Arc::new(batch), pick: Pick::Outputs(1), acks }).is_ok(), "room in the inbox");
    }
    pub fn answered(&self) -> usize {
        self.answers.0.lock().unwrap().len()
    }
    pub fn refused(&self) -> Vec<((u64, u32), String)> {
        self.answers.0.lock().unwrap().iter().filter_map(|(at, why)| Some((*at, why.clone()?))).collect()
    }
    #[track_caller]
    pub fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) {
        wait(what, || done(self), || format!("{}, {} answered", self.standing.get(), self.answered()));
    }
    pub fn finish(self) {
        self.inbox.close();
        wait("the sink ends", || self.thread.is_finished(), || self.standing.get().to_string());
        self.thread.join().unwrap();
    }
}

/// Waits until the sink holds, and gives the text.
#[track_caller]
#[allow(dead_code, reason = "one of the two binaries that share this file uses it")]
pub fn holds(sink: &Driven) -> String {
    sink.wait("the sink holds", |s| matches!(s.standing.get(), State::Holding(_)));
    sink.standing.get().to_string()
}

#[track_caller]
pub fn wait(what: &str, done: impl Fn() -> bool, now: impl Fn() -> String) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} until {what}; now: {}", now());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A batch whose n-th message is `payload(n)`.
pub fn batch(seq: u64, messages: u32, key: Option<&[u8]>, payload: impl Fn(u32) -> Vec<u8>) -> Batch {
    let mut draft = Draft::new(Slab::from_bytes(b"x\n".repeat(messages as usize)));
    for n in 0..messages {
        let origin = Origin { stream: "m/alerts/2026-03-14/000", offset: seq << 20 | u64::from(n), len: Some(2) };
        let (_, mut out) = draft.outbox(Place { start: n * 2, len: 2 }, 0, &[Some(0)], origin);
        let mut message = out.message(0);
        if let Some(key) = key {
            message = message.key(key);
        }
        message.payload(|w| w.extend_from_slice(&payload(n)));
    }
    let mut batch = draft.finish(1, Position::Count(seq), 0);
    batch.seq = seq;
    batch
}

/// `seq/n`, as a payload.
pub fn numbered(seq: u64) -> impl Fn(u32) -> Vec<u8> {
    move |n| format!("{seq:04}/{n:06}").into_bytes()
}

/// Reads `count` messages of a topic, and whatever comes right behind them.
pub fn read(connection: &Connection, topic: &str, count: usize) -> Vec<Read> {
    let mut reader = Reader::open(connection, topic, Duration::from_secs(30)).unwrap();
    let (mut all, began) = (Vec::new(), Instant::now());
    while all.len() < count && began.elapsed() < PATIENCE {
        all.extend(reader.next(Duration::from_millis(500)).unwrap());
    }
    while let Some(more) = reader.next(Duration::from_millis(500)).unwrap() {
        all.push(more);
    }
    all
}
