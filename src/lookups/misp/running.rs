//! The running lookup: messages of handler `ioc` in, matches and gaps out.
//!
//! A message is settled when every one of its indicators has a verdict and all that was learned is
//! emitted. While MISP is away that takes as long as it takes: the source's credits are out, so it
//! reads no further, and nothing is skipped.

use std::{
    cell::{Cell, RefCell},
    path::PathBuf,
    rc::Rc,
    sync::Arc,
};

use tokio::sync::Notify;

use super::{
    super::{Emit, Inbox, Lookup, LookupError, Parcel},
    client::Client,
    core::Verdict,
    mirror::Mirror,
    periodic::Periodic,
    record::{self, Asked},
    settings::{Mode, Settings},
};
use crate::{
    alert::Parser,
    io::{Executor, LocalFuture},
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
    fn ask_then(&self, kind: &str, value: &str, then: impl FnOnce(Verdict) + 'static) {
        match self {
            Oracle::Misp(client) => client.ask_then(kind, value, then),
            Oracle::Mirror(mirror) => mirror.ask_then(kind, value, then),
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
        let desk = Rc::new(Desk { emit, parser: RefCell::default(), open: Cell::new(0), done: Notify::new(), on });
        Box::pin(async move { desk.work(&client, &inbox).await })
    }
}

/// What every message shares.
struct Desk {
    emit: Emit,
    parser: RefCell<Parser>,
    /// Messages that are not settled.
    open: Cell<u64>,
    /// Raised when the last open message is settled.
    done: Notify,
    on: Rc<dyn Executor>,
}

/// One message on its way.
struct Task {
    desk: Rc<Desk>,
    parcel: Parcel,
    number: u32,
    asked: Asked,
    verdicts: RefCell<Vec<Option<Verdict>>>,
    owed: Cell<usize>,
}

impl Desk {
    async fn work(self: Rc<Self>, client: &Oracle, inbox: &Inbox) -> Result<(), LookupError> {
        loop {
            let mut taken = 0;
            while let Some(parcel) = inbox.try_pop() {
                for number in parcel.numbers() {
                    self.take(client, &parcel, number);
                    taken += 1;
                    if taken % TAKEN_A_TURN == 0 {
                        self.on.pause().await;
                    }
                }
            }
            if inbox.is_closed() && inbox.is_empty() && self.open.get() == 0 {
                return Ok(());
            }
            tokio::select! {
                () = inbox.changed() => {}
                () = self.done.notified() => {}
            }
        }
    }

    fn take(self: &Rc<Self>, client: &Oracle, parcel: &Parcel, number: u32) {
        let batch = &parcel.batch;
        let asked = match Asked::parse(batch.message(number).payload) {
            Ok(asked) => asked,
            Err(why) => return parcel.acks.refused(batch.stream, batch.seq, number, why),
        };
        let count = asked.iocs.len();
        self.open.set(self.open.get() + 1);
        let task = Rc::new(Task {
            desk: self.clone(),
            parcel: parcel.clone(),
            number,
            asked,
            verdicts: RefCell::new(vec![None; count]),
            owed: Cell::new(count),
        });
        if count == 0 {
            return task.settle();
        }
        for (n, ioc) in task.asked.iocs.iter().enumerate() {
            let of = task.clone();
            client.ask_then(&ioc.kind, &ioc.value, move |verdict| of.answered(n, verdict));
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
        desk.open.set(desk.open.get() - 1);
        if desk.open.get() == 0 {
            desk.done.notify_one();
        }
    }
}
