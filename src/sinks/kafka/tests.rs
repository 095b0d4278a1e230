//! The sink on a simulated cluster and a machine with virtual time: every answer, any weather.

use std::{
    cell::Cell,
    collections::BTreeMap,
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    Running, Settings,
    sim::{Accepted, Cluster, Weather},
};
use crate::{
    batch::{Batch, Draft, Place},
    io::{Executor, Slab, sim::Machine},
    metrics::{Board, State},
    net::kafka::{
        fates::{Failure, Fate},
        settings::Connection,
    },
    position::{Origin, Position},
    sinks::{Acks, Home, Inbox, Parcel, Pick, Settle, Settled, Sink},
};

#[derive(Default)]
struct Answers(Mutex<Vec<Settle>>);

impl Home for Answers {
    fn settle(&self, _: u8, settle: Settle) {
        self.0.lock().unwrap().push(settle);
    }
}

impl Answers {
    /// By (batch, message): reasons of refusal, or `None` for a delivery.
    fn by_message(&self) -> BTreeMap<(u64, u32), Vec<Option<String>>> {
        let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for settle in self.0.lock().unwrap().iter() {
            let mut note = |n: u32, what: Option<String>| all.entry((settle.seq, n)).or_default().push(what);
            match &settle.messages {
                Settled::One(n) => note(*n, None),
                Settled::Delivered(list) => list.iter().for_each(|n| note(*n, None)),
                Settled::Refused(n, why) => note(*n, Some(why.clone())),
                Settled::PutBy(_) => unreachable!("a sink puts nothing by"),
            }
        }
        all
    }
}

/// A batch whose n-th message is `payload(n)`.
fn batch(seq: u64, messages: u32, key: Option<&[u8]>, payload: impl Fn(u32) -> Vec<u8>) -> Batch {
    let mut draft = Draft::new(Slab::from_bytes(b"x\n".repeat(messages as usize)));
    for n in 0..messages {
        let origin = Origin { stream: "m/alerts/2026-03-14/000", offset: u64::from(n) * 2, len: Some(2) };
        let (_, mut out) = draft.outbox(Place { start: n * 2, len: 2 }, 0, &[Some(0)], origin);
        let mut message = out.message(0);
        if let Some(key) = key {
            message = message.key(key);
        }
        message.time_ms(1_773_446_400_000 + i64::from(n)).payload(|w| w.extend_from_slice(&payload(n)));
    }
    let mut batch = draft.finish(1, Position::Count(seq), 0);
    batch.seq = seq;
    batch
}

struct Bench {
    machine: Rc<Machine>,
    cluster: Cluster,
    inbox: Arc<Inbox>,
    answers: Arc<Answers>,
    standing: crate::metrics::Standing,
    ended: Rc<Cell<bool>>,
}

impl Bench {
    fn new(seed: u64, change: impl FnOnce(&mut Weather)) -> Self {
        let machine = Rc::new(Machine::new(seed, 0));
        let cluster = Cluster::new(seed, 2);
        cluster.change(change);
        let port = cluster.producer(machine.clone());
        let sink = Running::with_port("out", &Settings::new(Connection::default(), "t"), Box::new(port));
        let inbox = Inbox::new(1024);
        let standing = Board::default().enter("sinks.out");
        let ended = Rc::new(Cell::new(false));
        let work = Box::new(sink).run(inbox.clone(), machine.clone(), standing.clone());
        let end = ended.clone();
        machine.spawn(
            "sink",
            Box::pin(async move {
                work.await.unwrap();
                end.set(true);
            }),
        );
        Self { machine, cluster, inbox, answers: Arc::default(), standing, ended }
    }
    fn push(&self, batch: Batch) {
        let acks = Acks::new(self.answers.clone(), 0);
        assert!(self.inbox.push(Parcel { batch: Arc::new(batch), pick: Pick::Outputs(1), acks }).is_ok(), "room in the inbox");
    }
    fn run_for(&self, span: Duration) {
        self.machine.run_for(span);
    }
    fn finish(&self) {
        self.inbox.close();
        let ended = self.ended.clone();
        assert!(self.machine.run(u64::MAX, move || ended.get()), "the sink ends once all is settled");
    }
    fn payloads(&self) -> Vec<Vec<u8>> {
        self.cluster.accepted().into_iter().flatten().map(|Accepted { payload, .. }| payload).collect()
    }
}

fn numbered(seq: u64) -> impl Fn(u32) -> Vec<u8> {
    move |n| format!("{seq:04}/{n:04}").into_bytes()
}

#[test]
fn every_message_is_answered_once_in_any_weather() {
    for seed in 0..100_u64 {
        let bench = Bench::new(seed, |w| {
            w.lost_answers = u32::try_from(seed % 5).unwrap() * 60;
            w.failures = u32::try_from(seed % 3).unwrap() * 50;
            w.fatal = u32::try_from(seed % 7).unwrap() * 10;
            w.message_bytes_max = 100;
        });
        let bad = |seq: u64, n: u32| (seq * 31 + u64::from(n)).wrapping_mul(seed + 1) % 97 == 5;
        for seq in 0..12 {
            bench.push(batch(seq, 40, None, |n| {
                let mut text = numbered(seq)(n);
                if bad(seq, n) {
                    text.resize(200, b'x');
                }
                text
            }));
            if seq == 5 && seed % 2 == 0 {
                bench.cluster.change(|w| w.up = false);
                bench.run_for(Duration::from_secs(20));
                bench.cluster.change(|w| w.up = true);
            }
        }
        bench.finish();
        let answers = bench.answers.by_message();
        let accepted = bench.payloads();
        assert_eq!(answers.len(), 12 * 40, "seed {seed}");
        for ((seq, n), answer) in &answers {
            assert_eq!(answer.len(), 1, "seed {seed}: {seq}/{n} answered {answer:?}");
            assert_eq!(answer[0].is_some(), bad(*seq, *n), "seed {seed}: {seq}/{n} {answer:?}");
            let there = accepted.iter().any(|p| *p == numbered(*seq)(*n));
            assert_eq!(there, answer[0].is_none(), "seed {seed}: {seq}/{n} acked and in the topic are the same");
        }
    }
}

#[test]
fn lost_answers_and_outages_alone_neither_repeat_nor_reorder() {
    for seed in 0..40 {
        let bench = Bench::new(seed, |w| w.lost_answers = 300);
        for seq in 0..10 {
            bench.push(batch(seq, 100, Some(b"k"), numbered(seq)));
            bench.cluster.change(|w| w.up = seq % 3 != 1);
            bench.run_for(Duration::from_millis(50));
        }
        bench.cluster.change(|w| w.up = true);
        bench.finish();
        let expected: Vec<_> = (0..10).flat_map(|seq| (0..100).map(move |n| numbered(seq)(n))).collect();
        assert_eq!(bench.payloads(), expected, "seed {seed}");
    }
}

#[test]
fn what_a_person_must_mend_is_held_and_never_refused() {
    let forbidden = Failure { fate: Fate::Hold, text: "topic \"t\": not authorised to write; grant Write".into() };
    type Change = Box<dyn Fn(&mut Weather)>;
    let cases: Vec<(&str, Change, Change)> = vec![
        ("topic", Box::new(move |w| w.refusal = Some(forbidden.clone())), Box::new(|w| w.refusal = None)),
        ("login", Box::new(|w| w.login = Some("wrong password".into())), Box::new(|w| w.login = None)),
        ("files", Box::new(|w| w.files = Some("tls.ca is missing".into())), Box::new(|w| w.files = None)),
    ];
    for (name, spoil, mend) in cases {
        let bench = Bench::new(1, spoil);
        bench.push(batch(0, 100, Some(b"k"), numbered(0)));
        bench.run_for(Duration::from_secs(100));
        assert!(matches!(bench.standing.get(), State::Holding(_)), "{name}: {}", bench.standing.get());
        assert!(bench.answers.by_message().is_empty(), "{name}: nothing is settled while it holds");
        bench.cluster.change(mend);
        bench.run_for(Duration::from_secs(31));
        assert_eq!(bench.standing.get(), State::Ready, "{name}");
        bench.finish();
        let expected: Vec<_> = (0..100).map(numbered(0)).collect();
        assert_eq!(bench.payloads(), expected, "{name}");
    }
}

#[test]
fn an_outage_is_shown_and_ends() {
    let bench = Bench::new(1, |w| w.up = false);
    bench.run_for(Duration::from_secs(1));
    assert!(matches!(bench.standing.get(), State::Retrying(_)));
    bench.cluster.change(|w| w.up = true);
    bench.run_for(Duration::from_secs(1));
    assert_eq!(bench.standing.get(), State::Ready);
}

#[test]
fn a_producer_that_fails_at_once_is_made_anew_once_a_second() {
    let bench = Bench::new(1, |w| w.fatal = 1000);
    bench.push(batch(0, 10, None, numbered(0)));
    bench.run_for(Duration::from_secs(20));
    let started = bench.cluster.started();
    assert!((15..=22).contains(&started), "{started} producers in twenty seconds");
    assert!(matches!(bench.standing.get(), State::Retrying(_)), "{}", bench.standing.get());
    bench.cluster.change(|w| w.fatal = 0);
    bench.finish();
    assert_eq!(bench.payloads(), (0..10).map(numbered(0)).collect::<Vec<_>>());
}
