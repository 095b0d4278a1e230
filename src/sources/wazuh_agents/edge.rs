//! The half of the source that speaks to the server, on the edge thread.
//!
//! Two loops. One does what [`Core`] says: it asks, and hands in what is news; where the server does not answer it waits and
//! opens the way anew. The other hears what is settled, and has it saved.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use super::{
    answer::Page,
    core::{self, Change, Core, Seen, Step, Taken},
    fates::{OUTCOMES, Trouble},
    record,
    session::Session,
    settings::Settings,
    token::Login,
};
use crate::{
    clock::Nanos,
    io::Executor,
    json::time,
    limits,
    metrics::{Count, Level, Standing, State},
    net::{
        backoff::{Backoff, Rolls},
        secret::Secret,
    },
    position::{Position, encode_name},
    sources::{Brought, Entries, Way},
};

const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(60);
const MS: Nanos = 1_000_000;
/// The statuses that Wazuh knows; any other is counted as `other`.
const STATUSES: [&str; 5] = ["active", "disconnected", "pending", "never_connected", "other"];

struct Edge {
    source: String,
    settings: Settings,
    way: Arc<Way<Core>>,
    on: Rc<dyn Executor>,
    standing: Standing,
    core: RefCell<Core>,
    login: RefCell<Login>,
    token: RefCell<Option<Secret>>,
    origin: Arc<str>,
    /// How many agents had each status when that was last told.
    told: Cell<Option<[u64; 5]>>,
    has_told_too_many: Cell<bool>,
    has_told_strange: Cell<bool>,
    figures: Figures,
}

struct Figures {
    requests: Vec<(&'static str, Count)>,
    agents: [Level; 5],
    whole: Count,
    shifted: Count,
    broken: Count,
    too_many: Count,
    strange: Count,
}

impl Figures {
    fn new(standing: &Standing) -> Self {
        let requests =
            |outcome| (outcome, standing.count("shipper_wazuh_agents_requests", "Requests to a Wazuh server", &[("outcome", outcome)]));
        let looks = |outcome| standing.count("shipper_wazuh_agents_looks", "Looks at the list of agents", &[("outcome", outcome)]);
        let passed = |why| standing.count("shipper_wazuh_agents_passed_over", "Agents on a list that were passed over", &[("why", why)]);
        Self {
            requests: OUTCOMES.into_iter().map(requests).collect(),
            agents: STATUSES.map(|status| standing.level("shipper_wazuh_agents", "Agents of Wazuh", &[("status", status)])),
            whole: looks("whole"),
            shifted: looks("shifted"),
            broken: looks("broken"),
            too_many: passed("too_many"),
            strange: passed("strange"),
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
pub(super) async fn run(source: String, settings: Settings, way: Arc<Way<Core>>, on: Rc<dyn Executor>, standing: Standing) {
    if let Some(core) = way.begun().await {
        let edge = Edge {
            origin: format!("wazuh_agents/{}", encode_name(&source)).into(),
            figures: Figures::new(&standing),
            way: way.clone(),
            core: RefCell::new(core),
            login: RefCell::default(),
            token: RefCell::default(),
            told: Cell::default(),
            has_told_too_many: Cell::new(false),
            has_told_strange: Cell::new(false),
            source,
            settings,
            on,
            standing,
        };
        let settle = |batches| edge.core.borrow_mut().settle(batches);
        tokio::join!(edge.read(), way.keep(&*edge.on, settle, || edge.core.borrow().save()));
    }
    way.link.finish();
}

impl Edge {
    fn now(&self) -> Nanos {
        self.on.clock().now()
    }

    fn mono(&self) -> Nanos {
        self.on.clock().mono()
    }

    /// Asks until the home takes no more.
    async fn read(&self) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        // Other agents must not come back from an outage in step with this one.
        let mut rolls = Rolls::new(self.now());
        loop {
            let has_answered = Cell::new(false);
            let trouble = match self.session(&has_answered).await {
                End::Closed => return,
                End::Trouble(trouble) => trouble,
            };
            if has_answered.get() {
                backoff.reset();
            }
            let wait = match trouble {
                // The same page is asked for again.
                Trouble::Busy(why, asked) => {
                    self.standing.set(State::Retrying(why));
                    backoff.wait(rolls.roll()).max(asked.unwrap_or(0))
                }
                Trouble::Away(why) => {
                    self.standing.set(State::Retrying(why));
                    self.broke();
                    backoff.wait(rolls.roll())
                }
                Trouble::Wrong(why) | Trouble::Refused(why) => {
                    self.standing.set(State::Holding(why));
                    self.broke();
                    limits::HOLD_RETRY_MS * MS
                }
                Trouble::TooLong => {
                    let place = &self.settings.http.base;
                    self.standing
                        .set(State::Holding(format!("{place} answers with more than can be read; see url, and any proxy on the way")));
                    self.broke();
                    limits::HOLD_RETRY_MS * MS
                }
            };
            if !self.sleep(wait).await {
                return;
            }
        }
    }

    fn broke(&self) {
        self.core.borrow_mut().broke();
        self.figures.broken.inc();
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

    /// Does what is to be done until that fails or the home takes no more.
    async fn session(&self, has_answered: &Cell<bool>) -> End {
        let session = match Session::open(&self.settings) {
            Ok(session) => session,
            Err(trouble) => return trouble.into(),
        };
        match self.work(&session, has_answered).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn work(&self, session: &Session, has_answered: &Cell<bool>) -> Result<std::convert::Infallible, End> {
        loop {
            let mono = self.mono();
            let step = self.core.borrow_mut().next(mono);
            let (offset, limit) = match step {
                Step::Wait(until) => {
                    if !self.sleep(until.saturating_sub(mono)).await {
                        return Err(End::Closed);
                    }
                    continue;
                }
                Step::Page { offset, limit } => (offset, limit),
            };
            // Nothing is asked for that could only wait here.
            if !self.way.link.has_room().await {
                return Err(End::Closed);
            }
            let token = self.token(session).await?;
            let asked = self.unless_closed(session.agents(&token, offset, limit, self.now())).await?;
            let page = match asked {
                Ok(page) => page,
                Err(trouble) => {
                    self.figures.asked(trouble.word());
                    match trouble {
                        Trouble::Refused(_) if self.login.borrow_mut().refused() => continue,
                        Trouble::Refused(why) => {
                            let what = "with a token that is new; see that the user still has a role with agent:read, and whether a proxy on the way takes the header away";
                            return Err(Trouble::Wrong(format!("{why} {what}")).into());
                        }
                        Trouble::TooLong if self.core.borrow_mut().too_long() => continue,
                        other => return Err(other.into()),
                    }
                }
            };
            self.figures.asked("good");
            self.login.borrow_mut().taken();
            has_answered.set(true);
            self.standing.set(State::Ready);
            let taken = self.paged(&page);
            self.bring(&page, &taken.changes).await?;
            if let Some(is_whole) = taken.ended {
                if is_whole { &self.figures.whole } else { &self.figures.shifted }.inc();
                self.summary();
            }
        }
    }

    /// A token that is good for some time.
    async fn token(&self, session: &Session) -> Result<Secret, End> {
        let asked = self.mono();
        if !self.login.borrow().is_due(asked)
            && let Some(token) = &*self.token.borrow()
        {
            return Ok(token.clone());
        }
        match self.unless_closed(session.login(&self.settings, self.now())).await? {
            Ok((token, life)) => {
                self.figures.asked("good");
                self.login.borrow_mut().got(asked, life);
                *self.token.borrow_mut() = Some(token.clone());
                Ok(token)
            }
            Err(trouble) => {
                self.figures.asked(trouble.word());
                Err(trouble.into())
            }
        }
    }

    /// A page has come: what of it is news.
    fn paged(&self, page: &Page) -> Taken {
        let seen: Vec<Seen<'_>> =
            page.agents.iter().map(|agent| Seen { id: &agent.id, name: &agent.name, ip: &agent.ip, status: &agent.status }).collect();
        let page = core::Page { seen: &seen, total: page.total, is_partial: page.is_partial };
        let taken = self.core.borrow_mut().page(&page);
        self.figures.too_many.inc_by(taken.too_many);
        self.figures.strange.inc_by(taken.strange);
        if taken.too_many > 0 && !self.has_told_too_many.replace(true) {
            let agents = limits::WAZUH_AGENTS_MAX;
            tracing::warn!(agents, "there are more agents than can be known; those that came later are passed over");
        }
        if taken.strange > 0 && !self.has_told_strange.replace(true) {
            tracing::warn!("the server lists agents without id or status, which are passed over; while it does, none is told as gone");
        }
        taken
    }

    async fn bring(&self, page: &Page, changes: &[Change]) -> Result<(), End> {
        let now = self.now();
        let at = i64::try_from(now / MS).unwrap_or(i64::MAX);
        let mut rest = changes;
        let mut line = Vec::new();
        while !rest.is_empty() {
            let (mut entries, mut taken) = (Entries::default(), 0);
            for change in rest {
                line.clear();
                record::write(&mut line, &self.source, at, change, change.seen.and_then(|seen| page.agents.get(seen)));
                if taken > 0 && entries.bytes() + line.len() > limits::ENTRIES_BYTES {
                    break;
                }
                entries.push(&line, place(change), now, None);
                taken += 1;
            }
            let (batch, more) = rest.split_at(taken);
            rest = more;
            // Behind this nothing waits: what is under way is on its way.
            if !self.way.link.has_room().await {
                return Err(End::Closed);
            }
            self.core.borrow_mut().hand_in(batch);
            let mut reached = Vec::new();
            time(&mut reached, at);
            let end = Position::Cursor(String::from_utf8_lossy(&reached).into());
            let chunk = entries.into_chunk(self.origin.clone(), end, now);
            self.way.link.bring(Brought { stream: 0, chunk, lag: 0 });
        }
        Ok(())
    }

    /// A look has ended: how many agents have which status.
    fn summary(&self) {
        let mut counts = [0; 5];
        for (status, agents) in self.core.borrow().statuses() {
            let at = STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len() - 1);
            counts[at] += agents;
        }
        for (level, count) in self.figures.agents.iter().zip(counts) {
            level.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        if self.told.replace(Some(counts)) != Some(counts) {
            let [active, disconnected, pending, never_connected, other] = counts;
            tracing::info!(source = self.source, active, disconnected, pending, never_connected, other, "agents of Wazuh, by status");
        }
    }
}

/// `id/number/before/status`, as an origin has it: the same change has the same one after a kill.
fn place(change: &Change) -> Position {
    let [id, before, status] =
        [&change.id, change.previous.as_deref().unwrap_or("new"), change.status.as_deref().unwrap_or("gone")].map(encode_name);
    Position::Cursor(format!("{id}/{}/{before}/{status}", change.number).into())
}
