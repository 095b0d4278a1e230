//! The running lookup: messages of handler `ioc` in, matches and gaps out.
//!
//! A message is settled when every one of its indicators has a verdict and all that was learned is
//! emitted. While MISP is away that takes as long as it takes: the source's credits are out, so it
//! reads no further, and nothing is skipped. With a spool messages are put by instead and brought again
//! by a source of their own; those wait here, and are what shows that MISP is back.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    super::{Emit, Inbox, Lookup, LookupError, Parcel, PutBy},
    client::Client,
    core::{Token, Verdict},
    mirror::Mirror,
    periodic::Periodic,
    record::{self, Asked},
    settings::{Mode, Settings},
};
use crate::{
    alert::Parser,
    io::{Executor, LocalFuture},
    limits,
    metrics::Standing,
    store::intel::Tables,
    tables::Held,
};

/// Index of each output in [`OUTPUTS`].
const MATCHED: usize = 0;
const FAILED: usize = 1;
/// The outputs: matches, and indicators that could not be asked about.
pub(super) const OUTPUTS: &[&str] = &["", "failed"];
/// Messages taken before other tasks of the thread have a turn.
const TAKEN_A_TURN: usize = 64;

/// The lookup, ready to run.
pub(super) struct Running {
    pub settings: Settings,
    pub name: String,
    /// Where the table is that the settings name.
    pub held: Option<Arc<Held<Tables>>>,
    pub state_dir: PathBuf,
}

/// Who answers.
enum Oracle {
    Misp(Client),
    Mirror(Mirror),
}

impl Oracle {
    /// Asks; what it gives back names the question for [`forget`](Self::forget), if it can be forgotten.
    fn ask_then(&self, kind: &str, value: &str, then: impl FnOnce(Verdict) + 'static) -> Option<Token> {
        match self {
            Oracle::Misp(client) => Some(client.ask_then(kind, value, then)),
            Oracle::Mirror(mirror) => {
                mirror.ask_then(kind, value, then);
                None
            }
        }
    }
    fn is_away(&self) -> bool {
        match self {
            Oracle::Misp(client) => client.is_away(),
            // What it waits for is a disk of this machine, which the spool would need as well.
            Oracle::Mirror(_) => false,
        }
    }
    fn forget(&self, tokens: &HashSet<Token>) {
        if let Oracle::Misp(client) = self {
            client.forget(tokens);
        }
    }
}

impl Lookup for Running {
    fn run(
        self: Box<Self>,
        inbox: Arc<Inbox>,
        emit: Emit,
        on: Rc<dyn Executor>,
        standing: Standing,
    ) -> LocalFuture<'static, Result<(), LookupError>> {
        if let Some(every) = self.settings.sync_every {
            let sync = Periodic::new(
                self.settings.clone(),
                self.state_dir.clone(),
                every,
                standing.board().enter(format!("lookups.{}.sync", self.name)),
            );
            on.spawn("misp sync", Box::pin(sync.go_on(on.clone())));
        }
        let client = match (self.settings.mode, &self.held) {
            (Mode::Mirror, Some(held)) => Oracle::Mirror(Mirror::start(&self.settings, held.clone(), on.clone(), standing)),
            _ => Oracle::Misp(Client::start(&self.settings, on.clone(), standing)),
        };
        let desk = Rc::new(Desk {
            emit,
            parser: RefCell::default(),
            taken: Cell::new(0),
            open: RefCell::default(),
            kept: RefCell::default(),
            is_told: Cell::new(false),
            done: Notify::new(),
            on,
        });
        Box::pin(async move { desk.work(&client, &inbox).await })
    }
}

/// What every message shares.
struct Desk {
    emit: Emit,
    parser: RefCell<Parser>,
    /// Messages taken so far.
    taken: Cell<u64>,
    /// Messages that are not settled, in the order of taking.
    open: RefCell<BTreeMap<u64, Rc<Task>>>,
    /// Those that lie in the spool as well: they come again if they are not settled.
    kept: RefCell<BTreeMap<u64, Rc<Task>>>,
    /// That messages are put by has been told.
    is_told: Cell<bool>,
    /// Raised when the last open message is settled.
    done: Notify,
    on: Rc<dyn Executor>,
}

/// One message on its way.
struct Task {
    desk: Rc<Desk>,
    id: u64,
    parcel: Parcel,
    number: u32,
    asked: Asked,
    verdicts: RefCell<Vec<Option<Verdict>>>,
    owed: Cell<usize>,
    /// Its questions.
    tokens: RefCell<Vec<Token>>,
}

impl Desk {
    async fn work(self: Rc<Self>, client: &Oracle, inbox: &Inbox) -> Result<(), LookupError> {
        loop {
            let mut taken = 0;
            while let Some(parcel) = inbox.try_pop() {
                let mut away = Vec::new();
                for number in parcel.numbers() {
                    let Some(task) = self.take(&parcel, number) else { continue };
                    match self.is_to_be_put_by(client, &parcel, number) {
                        true => away.push(task),
                        false => self.ask(client, task),
                    }
                    taken += 1;
                    if taken % TAKEN_A_TURN == 0 {
                        self.on.pause().await;
                    }
                }
                if away.is_empty() {
                    continue;
                }
                let numbers = away.iter().map(|task| task.number).collect();
                if !self.emit.spool().is_some_and(|spool| self.put(spool, &parcel, numbers)) {
                    away.into_iter().for_each(|task| self.ask(client, task));
                }
            }
            if self.is_told.get() && !client.is_away() {
                self.is_told.set(false);
                tracing::info!("MISP answers again; messages that were put by are asked about beside new ones");
            }
            self.put_by(client);
            if inbox.is_closed() && inbox.is_empty() && self.open.borrow().is_empty() {
                // What is kept holds us, and we hold it.
                self.kept.take();
                return Ok(());
            }
            tokio::select! {
                () = inbox.changed() => {}
                () = self.done.notified() => {}
                () = self.patience() => {}
            }
        }
    }

    /// True for a message that came while MISP is away, and is not on disk yet.
    fn is_to_be_put_by(&self, client: &Oracle, parcel: &Parcel, number: u32) -> bool {
        self.emit.spool().is_some_and(|spool| spool.is_on() && !spool.has(parcel, number) && client.is_away())
    }

    /// Until open messages are looked after; for ever where that is of no use.
    async fn patience(&self) {
        let is_of_use = self.emit.spool().is_some_and(PutBy::is_on) && !self.open.borrow().is_empty();
        match is_of_use {
            true => self.on.sleep(Duration::from_millis(limits::LOOKUP_LOOK_MS)).await,
            false => std::future::pending().await,
        }
    }

    fn put(&self, spool: &PutBy, parcel: &Parcel, numbers: Vec<u32>) -> bool {
        let has_put = spool.put(&self.on, parcel, numbers);
        if has_put && !self.is_told.replace(true) {
            tracing::warn!("MISP gives no answers: messages are put by on disk, and none is skipped");
        }
        has_put
    }

    /// Puts by what was asked about before MISP went away.
    fn put_by(&self, client: &Oracle) {
        let Some(spool) = self.emit.spool().filter(|spool| spool.is_on() && client.is_away()) else { return };
        loop {
            let open = self.open.borrow();
            let Some(first) = open.values().next() else { return };
            // Messages of one parcel stand together.
            let is_beside = |task: &&Rc<Task>| Arc::ptr_eq(&task.parcel.batch, &first.parcel.batch);
            let tasks: Vec<Rc<Task>> = open.values().take_while(is_beside).cloned().collect();
            drop(open);
            let Some(first) = tasks.first() else { return };
            if !self.put(spool, &first.parcel, tasks.iter().map(|task| task.number).collect()) {
                return;
            }
            let mut tokens = HashSet::new();
            for task in &tasks {
                self.open.borrow_mut().remove(&task.id);
                tokens.extend(task.tokens.borrow().iter());
            }
            client.forget(&tokens);
        }
    }

    /// Reads a message; one that is no question is refused.
    fn take(self: &Rc<Self>, parcel: &Parcel, number: u32) -> Option<Rc<Task>> {
        let batch = &parcel.batch;
        let asked = match Asked::parse(batch.message(number).payload) {
            Ok(asked) => asked,
            Err(why) => {
                parcel.acks.refused(batch.stream, batch.seq, number, why);
                return None;
            }
        };
        let count = asked.iocs.len();
        let id = self.taken.get();
        self.taken.set(id + 1);
        Some(Rc::new(Task {
            desk: self.clone(),
            id,
            parcel: parcel.clone(),
            number,
            asked,
            verdicts: RefCell::new(vec![None; count]),
            owed: Cell::new(count),
            tokens: RefCell::default(),
        }))
    }

    fn ask(&self, client: &Oracle, task: Rc<Task>) {
        let is_kept = self.emit.spool().is_some_and(|spool| spool.has(&task.parcel, task.number));
        let of = if is_kept { &self.kept } else { &self.open };
        of.borrow_mut().insert(task.id, task.clone());
        if task.asked.iocs.is_empty() {
            return task.settle();
        }
        for (n, ioc) in task.asked.iocs.iter().enumerate() {
            let of = task.clone();
            let token = client.ask_then(&ioc.kind, &ioc.value, move |verdict| of.answered(n, verdict));
            task.tokens.borrow_mut().extend(token);
        }
    }
}

impl Task {
    fn answered(&self, n: usize, verdict: Verdict) {
        self.verdicts.borrow_mut()[n] = Some(verdict);
        self.owed.set(self.owed.get() - 1);
        if self.owed.get() == 0 {
            self.settle();
        }
    }

    /// Every verdict is there: emits what was learned, in the order of the indicators.
    fn settle(&self) {
        let Task { desk, parcel, number, asked, .. } = self;
        let (batch, number) = (&parcel.batch, *number);
        let now = desk.on.clock().now();
        let record = batch.message(number).record;
        // A message that a stage held back has left its record behind.
        let has_record = (record as usize) < batch.records().len();
        for (ioc, verdict) in asked.iocs.iter().zip(self.verdicts.take()) {
            match verdict {
                Some(Verdict::Hit(hits)) if desk.emit.wants(MATCHED) => {
                    let frame = if has_record { batch.record_bytes(record) } else { &[] };
                    let text = record::matched(ioc, &asked.alert_id, &hits, frame, &mut desk.parser.borrow_mut(), now);
                    desk.emit.child(parcel, number, MATCHED, None, text);
                }
                Some(Verdict::Failed(why)) if desk.emit.wants(FAILED) => {
                    desk.emit.child(parcel, number, FAILED, None, record::failed(ioc, &asked.alert_id, &why, now));
                }
                _ => {}
            }
        }
        parcel.acks.delivered_one(batch.stream, batch.seq, number);
        desk.kept.borrow_mut().remove(&self.id);
        desk.open.borrow_mut().remove(&self.id);
        if desk.open.borrow().is_empty() {
            desk.done.notify_one();
        }
    }
}
