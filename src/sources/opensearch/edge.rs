//! The half of the source that speaks to the servers, on the edge thread.
//!
//! Two loops. One does what [`Core`] says: it asks, and hands in what came. A node that does not answer ends a *session*,
//! and the next one in turn is asked. The other hears what is settled, and has it saved.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use super::{
    answer::Document,
    core::{Core, Hit, Single, Step, Taken},
    fates::{OUTCOMES, Trouble},
    request::{Flavour, Tie, cursor},
    seen::{Ms, Name, name},
    session::Session,
    settings::Settings,
};
use crate::{
    clock::Nanos,
    io::Executor,
    limits,
    metrics::{Count, Level, Standing, State},
    net::{
        backoff::{Backoff, Rolls},
        http::Reply,
    },
    position::{Position, encode_name},
    sources::{Brought, Entries, Way},
};

const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(60);
const MS: Nanos = 1_000_000;
/// Points in time that may be lost one after another, with no page between, before that counts as an outage.
const GONE_MAX: u32 = 3;
/// For the last word to a server, at the end.
const LAST_WORD: Duration = Duration::from_secs(1);

/// The half on the edge thread.
pub(super) struct Edge {
    settings: Settings,
    way: Arc<Way<Core>>,
    on: Rc<dyn Executor>,
    standing: Standing,
    core: RefCell<Core>,
    flavour: Cell<Option<Flavour>>,
    tie: Cell<Tie>,
    origin: Arc<str>,
    has_told_forgotten: Cell<bool>,
    has_told_uncounted: Cell<bool>,
    figures: Figures,
}

struct Figures {
    requests: Vec<(&'static str, Count)>,
    pits: Count,
    late: Count,
    lost: Count,
    seen: Level,
}

impl Figures {
    fn new(standing: &Standing) -> Self {
        let requests = |outcome| {
            (outcome, standing.count("shipper_opensearch_requests", "Requests to OpenSearch or Elasticsearch", &[("outcome", outcome)]))
        };
        Self {
            requests: OUTCOMES.into_iter().map(requests).collect(),
            pits: standing.count("shipper_opensearch_points_in_time", "Points in time that were fixed", &[]),
            late: standing.count("shipper_opensearch_late", "Documents that became visible after later ones were handed in", &[]),
            lost: standing.count(
                "shipper_opensearch_lost",
                "Documents that became visible later than overlap allows, and were not read",
                &[],
            ),
            seen: standing.level("shipper_opensearch_seen", "Documents that are remembered so as to be passed over", &[]),
        }
    }
    /// A request has come to this: a word of [`OUTCOMES`].
    fn asked(&self, word: &str) {
        if let Some((_, count)) = self.requests.iter().find(|(known, _)| *known == word) {
            count.inc();
        }
    }
}

/// Why a session ends.
enum End {
    /// The home takes no more.
    Closed,
    Trouble(Trouble),
}

impl From<Trouble> for End {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

/// Runs until the home is over.
pub(super) async fn run(settings: Settings, way: Arc<Way<Core>>, on: Rc<dyn Executor>, standing: Standing) {
    if let Some(core) = way.begun().await {
        if !settings.bare_hosts.is_empty() {
            let hosts = settings.bare_hosts.join(", ");
            tracing::warn!(
                hosts,
                "hosts without a scheme are asked by http, and secrets go in plain text; write https:// before them, or http://"
            );
        }
        let edge = Edge {
            flavour: Cell::new(settings.flavour),
            figures: Figures::new(&standing),
            way: way.clone(),
            core: RefCell::new(core),
            tie: Cell::new(Tie::ShardDoc),
            origin: "opensearch".into(),
            has_told_forgotten: Cell::new(false),
            has_told_uncounted: Cell::new(false),
            settings,
            on,
            standing,
        };
        tokio::join!(edge.read(), edge.keep());
    }
    way.link.finish();
}

impl Edge {
    fn now(&self) -> Nanos {
        self.on.clock().now()
    }

    /// Asks one node after another until the home takes no more.
    async fn read(&self) {
        let hosts = &self.settings.hosts;
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        // Other agents must not come back from an outage in step with this one.
        let mut rolls = Rolls::new(self.now());
        let (mut host, mut failed) = (0, 0);
        // What is told of an outage is what its first node says, so that it is told once.
        let mut first: Option<Trouble> = None;
        while let Some(url) = hosts.get(host) {
            let has_answered = Cell::new(false);
            let trouble = match self.session(url, &has_answered).await {
                End::Closed => return,
                End::Trouble(trouble) => trouble,
            };
            if has_answered.get() {
                (failed, first) = (0, None);
                backoff.reset();
            } else {
                // A node that held it may have gone for good.
                self.core.borrow_mut().expired();
            }
            host = (host + 1) % hosts.len();
            failed += 1;
            let asked = if let Trouble::Away(_, Some(wait)) = &trouble { *wait } else { 0 };
            let told = first.get_or_insert(trouble).clone();
            if failed < hosts.len() && asked == 0 {
                continue;
            }
            let of = if hosts.len() > 1 { format!("none of {} hosts can be used; the first: ", hosts.len()) } else { String::new() };
            let wait = match told {
                Trouble::Wrong(why) => {
                    self.standing.set(State::Holding(format!("{of}{why}")));
                    limits::HOLD_RETRY_MS * MS
                }
                Trouble::Away(why, _) | Trouble::Partial(why) => {
                    self.standing.set(State::Retrying(format!("{of}{why}")));
                    backoff.wait(rolls.roll()).max(asked)
                }
                Trouble::Gone | Trouble::TooLong | Trouble::NoTie => backoff.wait(rolls.roll()),
            };
            (failed, first) = (0, None);
            if !self.sleep(wait).await {
                return;
            }
        }
    }

    /// False if the home takes no more.
    async fn sleep(&self, span: Nanos) -> bool {
        tokio::select! {
            biased;
            () = self.way.link.closed() => false,
            () = self.on.sleep(Duration::from_nanos(span)) => true,
        }
    }

    /// What a request answers, unless the home takes no more before.
    async fn unless_closed<T>(&self, ask: impl Future<Output = Result<T, Trouble>>) -> Result<Result<T, Trouble>, End> {
        tokio::select! {
            biased;
            () = self.way.link.closed() => Err(End::Closed),
            answer = ask => Ok(answer),
        }
    }

    /// Does what is to be done, with one node, until that fails or the home takes no more.
    async fn session(&self, url: &str, has_answered: &Cell<bool>) -> End {
        let session = match Session::open(&self.settings, url) {
            Ok(session) => session,
            Err(trouble) => return trouble.into(),
        };
        match self.work(&session, has_answered).await {
            Ok(never) => match never {},
            Err(End::Closed) => {
                let pit = self.core.borrow().pit().map(str::to_owned);
                if let (Some(pit), Some(flavour)) = (pit, self.flavour.get()) {
                    tokio::select! {
                        () = session.close_pit(flavour, &pit) => {}
                        () = self.on.sleep(LAST_WORD) => {}
                    }
                }
                End::Closed
            }
            Err(end) => end,
        }
    }

    async fn work(&self, session: &Session, has_answered: &Cell<bool>) -> Result<std::convert::Infallible, End> {
        let flavour = match self.flavour.get() {
            Some(flavour) => flavour,
            None => {
                let about = self.unless_closed(session.about(self.now())).await??;
                tracing::info!(server = session.place, version = about.version, "documents come from {}", about.flavour.name());
                self.flavour.set(Some(about.flavour));
                about.flavour
            }
        };
        let wanted = &self.settings.wanted;
        let mut gone = 0;
        loop {
            let (mono, wall) = (self.on.clock().mono(), Ms::try_from(self.now() / MS).unwrap_or(Ms::MAX));
            let step = self.core.borrow_mut().next(mono, wall);
            let trouble = match step {
                Step::Wait(until) => {
                    // Where nothing was to be asked nobody has answered; what was before still stands.
                    if !self.sleep(until.saturating_sub(mono)).await {
                        return Err(End::Closed);
                    }
                    continue;
                }
                Step::Open => match self.unless_closed(session.open_pit(flavour, wanted, self.now())).await? {
                    Ok(pit) => {
                        self.figures.asked("good");
                        self.figures.pits.inc();
                        self.core.borrow_mut().opened(pit);
                        continue;
                    }
                    Err(trouble) => trouble,
                },
                Step::Count { pit, span } => match self.unless_closed(session.count(wanted, &pit, span, self.now())).await? {
                    Ok(counts) => {
                        self.figures.asked("good");
                        self.counted(&counts);
                        continue;
                    }
                    // The documents themselves may be had all the same; else the next question says so.
                    Err(Trouble::Wrong(why)) => {
                        self.figures.asked("refused");
                        self.core.borrow_mut().counted(&[]);
                        if !self.has_told_uncounted.replace(true) {
                            tracing::warn!(why, "documents that become visible too late cannot be counted here");
                        }
                        continue;
                    }
                    Err(trouble) => trouble,
                },
                Step::Close { pit } => {
                    self.figures.asked("good");
                    self.unless_closed(async {
                        session.close_pit(flavour, &pit).await;
                        Ok(())
                    })
                    .await??;
                    continue;
                }
                Step::Search(search) => {
                    // Nothing is asked for that could only wait here.
                    if !self.way.link.has_room().await {
                        return Err(End::Closed);
                    }
                    let reply = self.unless_closed(session.page(wanted, self.tie.get(), &search, self.now())).await?;
                    match reply.and_then(|reply| self.paged(session, &reply)) {
                        Ok(batches) => {
                            gone = 0;
                            has_answered.set(true);
                            self.figures.asked("good");
                            self.standing.set(State::Ready);
                            self.bring(batches).await?;
                            continue;
                        }
                        Err(trouble) => trouble,
                    }
                }
                Step::Fetch { pit, singles } => {
                    if !self.way.link.has_room().await {
                        return Err(End::Closed);
                    }
                    let reply = self.unless_closed(session.fetch(wanted, self.tie.get(), &pit, &singles, self.now())).await?;
                    match self.fetched(session, &singles, reply) {
                        Ok(batches) => {
                            self.figures.asked("good");
                            let names: Vec<Name> = batches.iter().flat_map(|batch| &batch.documents).map(|(name, _)| *name).collect();
                            self.bring(batches).await?;
                            self.core.borrow_mut().fetched(&names);
                            continue;
                        }
                        Err(trouble) => trouble,
                    }
                }
            };
            self.figures.asked(trouble.word());
            match trouble {
                Trouble::Gone if gone < GONE_MAX => {
                    gone += 1;
                    self.core.borrow_mut().expired();
                }
                Trouble::Gone => {
                    self.core.borrow_mut().expired();
                    let why = format!("{} loses every point in time; see its limits on them and its log", session.place);
                    return Err(Trouble::Away(why, None).into());
                }
                Trouble::TooLong => self.core.borrow_mut().too_long(),
                Trouble::NoTie if self.tie.get() == Tie::ShardDoc => self.tie.set(Tie::SeqNo),
                other => return Err(other.into()),
            }
        }
    }

    fn counted(&self, counts: &[(Ms, u64)]) {
        let lost = self.core.borrow_mut().counted(counts);
        if lost > 0 {
            self.figures.lost.inc_by(lost);
            tracing::error!(
                documents = lost,
                "documents became visible later than overlap allows, and are lost; raise overlap, or see what delays whoever writes the indices"
            );
        }
    }

    /// A page has come: the batches to be handed in.
    fn paged(&self, session: &Session, reply: &Reply) -> Result<Vec<Batch>, Trouble> {
        let page = session.read(reply)?;
        let hits: Vec<Hit<'_>> = page.documents.iter().map(|d| Hit { index: &d.index, id: &d.id, at: d.at, sort: d.sort }).collect();
        let is_short = reply.body.len() < limits::OPENSEARCH_ANSWER_BYTES / 4;
        let taken = {
            let mut core = self.core.borrow_mut();
            if let Some(pit) = &page.pit {
                core.renamed(pit);
            }
            let taken = core.page(&hits, is_short);
            // While pages are full there is as much again, at least.
            self.way.lags(if core.is_behind() { reply.body.len() as u64 } else { 0 });
            taken
        };
        Ok(batched(taken.into_iter().filter_map(|Taken { hit, name, at, is_late }| Some((page.documents.get(hit)?, name, at, is_late)))))
    }

    /// Documents that were asked for by name have come, or one alone is longer than any answer may be.
    fn fetched(&self, session: &Session, singles: &[Single], reply: Result<Reply, Trouble>) -> Result<Vec<Batch>, Trouble> {
        let refused = |single: &Single, why| {
            let alone = Document { index: (&*single.index).into(), id: (&*single.id).into(), at: single.at, sort: "", source: None };
            let mut batch = Batch::default();
            batch.refuse(&alone, single.name, single.at, why);
            vec![batch]
        };
        let reply = match (reply, singles) {
            (Err(Trouble::TooLong), [single]) => {
                let what = format!("longer than {} bytes, of which nothing is kept", limits::OPENSEARCH_ANSWER_BYTES);
                return Ok(refused(single, ("too_long", what)));
            }
            (reply, _) => reply?,
        };
        let page = session.read(&reply)?;
        let by_name: HashMap<Name, &Single> = singles.iter().map(|single| (single.name, single)).collect();
        let found = page.documents.iter().filter_map(|document| {
            let single = by_name.get(&name(&document.index, &document.id))?;
            Some((document, single.name, single.at, single.is_late))
        });
        let batches = batched(found);
        match singles.first() {
            // A point in time does not change, so this is never so; but nothing may be asked for without an end.
            Some(single) if batches.is_empty() => Ok(refused(single, ("no_source", "it is listed, and cannot be had".to_owned()))),
            _ => Ok(batches),
        }
    }

    async fn bring(&self, batches: Vec<Batch>) -> Result<(), End> {
        for Batch { entries, documents, late } in batches {
            // Behind this nothing waits: what is under way is on its way.
            if !self.way.link.has_room().await {
                return Err(End::Closed);
            }
            self.figures.late.inc_by(late);
            let (reached, has_forgotten) = {
                let mut core = self.core.borrow_mut();
                (core.hand_in(documents), core.take_forgotten())
            };
            if has_forgotten && !self.has_told_forgotten.replace(true) {
                let documents = limits::OPENSEARCH_SEEN_MAX;
                tracing::warn!(
                    documents,
                    "more documents lie within overlap than can be remembered; late ones are looked for less far back, so set overlap lower"
                );
            }
            let end = Position::Cursor(cursor(reached).into());
            let chunk = entries.into_chunk(self.origin.clone(), end, self.now());
            self.way.link.bring(Brought { stream: 0, chunk, lag: self.way.lag() });
        }
        Ok(())
    }

    /// Hears what is settled and has it saved, until the home is over.
    async fn keep(&self) {
        let settle = |batches| {
            let mut core = self.core.borrow_mut();
            let is_news = core.settle(batches);
            self.figures.seen.set(i64::try_from(core.remembered()).unwrap_or(i64::MAX));
            is_news
        };
        self.way.keep(&*self.on, settle, || self.core.borrow().save()).await;
    }
}

/// Documents, in batches that are short enough.
fn batched<'d>(documents: impl Iterator<Item = (&'d Document<'d>, Name, Ms, bool)>) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for (document, name, at, is_late) in documents {
        let bytes = document.source.map_or(0, <[u8]>::len);
        if batches.last().is_none_or(|batch| batch.entries.bytes() + bytes > limits::ENTRIES_BYTES) {
            batches.push(Batch::default());
        }
        if let Some(batch) = batches.last_mut() {
            batch.push(document, name, at, is_late);
        }
    }
    batches
}

/// Documents of one batch.
#[derive(Default)]
struct Batch {
    entries: Entries,
    documents: Vec<(Name, Ms)>,
    late: u64,
}

impl Batch {
    fn push(&mut self, document: &Document<'_>, name: Name, at: Ms, is_late: bool) {
        self.late += u64::from(is_late);
        let Some(source) = document.source else {
            let what = "it came without _source; the index keeps none, or this user may not see it".to_owned();
            return self.refuse(document, name, at, ("no_source", what));
        };
        let kept = source.get(..limits::FRAME_BYTES_MAX).unwrap_or(source);
        let refused = (kept.len() < source.len())
            .then(|| ("too_long", format!("{} bytes, of which the first {} are kept", source.len(), limits::FRAME_BYTES_MAX)));
        self.entries.push(kept, place(document), nanos(at), refused);
        self.documents.push((name, at));
    }

    fn refuse(&mut self, document: &Document<'_>, name: Name, at: Ms, why: (&'static str, String)) {
        self.entries.push(b"", place(document), nanos(at), Some(why));
        self.documents.push((name, at));
    }
}

/// `index/id`, as an origin has it.
fn place(document: &Document<'_>) -> Position {
    Position::Cursor(format!("{}/{}", encode_name(&document.index), encode_name(&document.id)).into())
}

/// A document's time, nanoseconds since 1970; 0 where it is before.
fn nanos(at: Ms) -> Nanos {
    u64::try_from(at).unwrap_or(0).saturating_mul(MS)
}
