//! For tests: a sink of the register on a thread of its own, with messages in and all that it tells.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]

use std::{
    cell::Cell,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{ALL, Acks, Home, Inbox, Parcel, Pick, Spec};
use crate::{
    batch::{Draft, Place},
    clock::SystemClock,
    io::{self, Engine, Io, LocalFuture, Setup, Slab, SlabPool, Watcher},
    metrics::{Board, Metrics, State},
    position::{Origin, Position},
    register::{Errors, Node, Section},
    ring::Mailbox,
};

/// What the config would say of a sink of this kind, and what is wrong with it.
pub(crate) fn parse(kind: &str, text: &str) -> (Box<dyn Spec>, String) {
    let kind = ALL.iter().find(|known| known.name() == kind).unwrap();
    let (node, mut errors) = (Node::parse_toml(text).unwrap(), Errors::default());
    let spec = kind.parse(&mut Section::open("it", &node, kind.fields(), &["required"], &mut errors));
    (spec, errors.to_string())
}

/// A running sink, `sinks.it` on its board. Messages are batches of their own, numbered as they are pushed.
pub(crate) struct Driven<H> {
    pub inbox: Arc<Inbox>,
    pub board: Board,
    pub home: Arc<H>,
    metrics: Metrics,
    pushed: Cell<u64>,
    thread: io::Running<()>,
}

impl<H: Home + Default + 'static> Driven<H> {
    pub fn start(spec: Box<dyn Spec>) -> Self {
        let (inbox, board): (Arc<Inbox>, _) = (Mailbox::new(8192), Board::default());
        let metrics = Metrics::new(&board);
        let (to, standing) = (inbox.clone(), board.enter("sinks.it"));
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
        Self { inbox, board, home: Arc::default(), metrics, pushed: Cell::new(0), thread }
    }
    pub fn push(&self, payload: impl AsRef<[u8]>) {
        let mut draft = Draft::new(Slab::from_bytes(b"x\n".to_vec()));
        let origin = Origin { stream: "m/alerts/2026-03-14/000", offset: 7, len: Some(2) };
        let write = |w: &mut Vec<u8>| w.extend_from_slice(payload.as_ref());
        draft.outbox(Place { start: 0, len: 2 }, 0, &[Some(0)], origin).1.message(0).payload(write);
        let mut batch = draft.finish(0, Position::Count(1), 0);
        batch.seq = self.pushed.replace(self.pushed.get() + 1);
        let parcel = Parcel { batch: Arc::new(batch), pick: Pick::Outputs(1), acks: Acks::new(self.home.clone(), 0) };
        assert!(self.inbox.push(parcel).is_ok(), "room in the inbox");
    }
    pub fn state(&self) -> State {
        self.board.rows()[0].1.clone()
    }
    /// A count of its own: `dropped_messages` with `reason`.
    pub fn count(&self, metric: &str, label: &str, value: &str) -> u64 {
        let text = self.metrics.text();
        let of = format!("shipper_{metric}_total{{component=\"sinks.it\",{label}=\"{value}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&of)).map_or(0, |n| n.parse().unwrap())
    }
    pub fn dropped(&self, reason: &str) -> u64 {
        self.count("dropped_messages", "reason", reason)
    }
    /// All figures now, as they are scraped.
    pub fn metrics_text(&self) -> String {
        self.metrics.text()
    }
    pub fn finish(self) -> Metrics {
        self.inbox.close();
        until("the sink ends", || self.thread.is_finished());
        self.thread.join().unwrap();
        self.metrics
    }
}

#[track_caller]
pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
