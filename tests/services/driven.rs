//! A sink of the register on a thread of its own, as the edge runs it, with messages in and its answers kept.

use std::{
    cell::Cell,
    collections::BTreeMap,
    rc::Rc,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use shipper::{
    batch::{Draft, Place},
    clock::SystemClock,
    io::{self, Engine, Io, LocalFuture, Setup, Slab, SlabPool, Watcher},
    metrics::{Board, Metrics, State},
    position::{Origin, Position},
    register::{Errors, Node, Section},
    ring::Mailbox,
    sinks::{ALL, Acks, Finding, Home, Inbox, Parcel, Pick, Settle, Settled, Spec},
};

use crate::agent::wait;

/// What the config says of a sink of this kind.
#[track_caller]
pub fn spec(kind: &str, text: &str) -> Box<dyn Spec> {
    let kind = ALL.iter().find(|known| known.name() == kind).unwrap();
    let (node, mut errors) = (Node::parse_toml(text).unwrap(), Errors::default());
    let spec = kind.parse(&mut Section::open("it", &node, kind.fields(), &["required"], &mut errors));
    assert!(errors.is_empty(), "{errors}\n{text}");
    spec
}

/// What `shipper check` says, connected.
pub fn check(spec: &dyn Spec) -> Vec<Finding> {
    [spec.check_files("it", 0), spec.check("it")].concat()
}

/// Why a message was refused, if it was.
type Answer = Option<String>;

/// Answers by batch and number.
#[derive(Default)]
struct Answers(Mutex<BTreeMap<(u64, u32), Vec<Answer>>>);

impl Home for Answers {
    fn settle(&self, _: u8, settle: Settle) {
        let mut all = self.0.lock().unwrap();
        let mut note = |number, refused| all.entry((settle.seq, number)).or_default().push(refused);
        match settle.messages {
            Settled::One(number) => note(number, None),
            Settled::Delivered(numbers) => numbers.into_iter().for_each(|number| note(number, None)),
            Settled::Refused(number, why) => note(number, Some(why)),
            Settled::PutBy(_) => panic!("no sink puts messages by"),
        }
    }
}

/// A running sink.
pub struct Driven {
    inbox: Arc<Inbox>,
    board: Board,
    answers: Arc<Answers>,
    metrics: Metrics,
    batches: Cell<u64>,
    pushed: Cell<usize>,
    thread: io::Running<()>,
}

impl Driven {
    pub fn start(spec: Box<dyn Spec>) -> Self {
        let (inbox, board): (Arc<Inbox>, _) = (Mailbox::new(8192), Board::default());
        let (metrics, to, standing) = (Metrics::new(&board), inbox.clone(), board.enter("sinks.it"));
        let setup = Setup {
            name: "sink".into(),
            core: None,
            network: true,
            slabs: SlabPool::new(1),
            watcher: Watcher::new().unwrap(),
            clock: SystemClock::new(),
        };
        let body = move |io: Rc<dyn Io>| -> LocalFuture<'static, ()> {
            Box::pin(async move { spec.build("it").unwrap().run(to, io, standing).await.unwrap() })
        };
        let thread = io::spawn(Engine::Pread, setup, body).unwrap();
        let (batches, pushed) = (Cell::new(0), Cell::new(0));
        Self { inbox, board, answers: Arc::default(), metrics, batches, pushed, thread }
    }

    /// Hands over one batch, whose records lie at `from`, `from + 1`, …
    pub fn push(&self, from: u64, payloads: &[impl AsRef<[u8]>]) {
        let mut draft = Draft::new(Slab::from_bytes(b"x\n".to_vec()));
        for (n, payload) in payloads.iter().enumerate() {
            let origin = Origin { stream: "m/alerts/2026-03-14/000", offset: from + n as u64, len: Some(1) };
            let write = |w: &mut Vec<u8>| w.extend_from_slice(payload.as_ref());
            draft.outbox(Place { start: 0, len: 2 }, 0, &[Some(0)], origin).1.message(0).payload(write);
        }
        let mut batch = draft.finish(0, Position::Count(1), 0);
        batch.seq = self.batches.replace(self.batches.get() + 1);
        self.pushed.set(self.pushed.get() + payloads.len());
        let acks = Acks::new(self.answers.clone(), 0);
        assert!(self.inbox.push(Parcel { batch: Arc::new(batch), pick: Pick::Outputs(1), acks }).is_ok(), "room in the inbox");
    }

    /// Waits until every message has its answer, which must be one; gives what was refused, in order, and why.
    #[track_caller]
    pub fn settled(&self) -> Vec<((u64, u32), String)> {
        wait("all is settled", || self.answers.0.lock().unwrap().len() == self.pushed.get(), || self.now());
        let all = self.answers.0.lock().unwrap();
        assert!(all.values().all(|answers| answers.len() == 1), "one answer each");
        all.iter().filter_map(|(at, answers)| Some((*at, answers[0].clone()?))).collect()
    }
    pub fn answered(&self) -> usize {
        self.answers.0.lock().unwrap().len()
    }
    #[track_caller]
    pub fn until_state(&self, what: &str, is: impl Fn(&State) -> bool) {
        wait(what, || is(&self.board.rows()[0].1), || self.now());
    }
    pub fn state(&self) -> State {
        self.board.rows()[0].1.clone()
    }
    fn now(&self) -> String {
        format!("{} of {} answered, {}", self.answered(), self.pushed.get(), self.state())
    }
    /// A count of its own.
    pub fn count(&self, metric: &str, label: &str, value: &str) -> u64 {
        let of = format!("shipper_{metric}_total{{component=\"sinks.it\",{label}=\"{value}\"}} ");
        self.metrics.text().lines().find_map(|line| line.strip_prefix(&of)).map_or(0, |n| n.parse().unwrap())
    }
    /// Closes the inbox, and waits for the end.
    #[track_caller]
    pub fn finish(self) {
        self.inbox.close();
        wait("the sink ends", || self.thread.is_finished(), String::new);
        self.thread.join().unwrap();
    }
}

/// How long a service that is disturbed is out: `SERVICES_OUTAGE`.
pub fn outage() -> Duration {
    let text = std::env::var("SERVICES_OUTAGE").unwrap_or_else(|_| "5s".into());
    shipper::register::section::parse_span(&text).expect("SERVICES_OUTAGE is a span of time, such as 60s")
}

/// Says how long something took.
pub fn told(what: &str, began: Instant) {
    eprintln!("{what} in {:.1} s", began.elapsed().as_secs_f64());
}
