//! Counters, and how components stand.
//!
//! Counters are shared atomics, added to once per batch or per rare event, read when scraped.
//! [`Board`] shows every component's standing: what `/health`, the log and source `agent` tell.
//!
//! The law of accounting and its counters are in [`counts`].
//!
//! Refuses to know what is counted.

pub mod counts;
mod figures;
mod graph;
mod news;
mod own;
pub mod progress;
mod recent;

pub use counts::{BranchCounts, Level, Metrics, Reasons, SourceCounts};
pub use figures::{Counted, Figure, Figures};
pub use graph::{LookupCounts, StageCounts};
pub use news::{Change, Listener, Loss, News};
pub use progress::{Behind, Progress};
pub use recent::Tries;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
};

use crate::{clock::Nanos, limits::CERTIFICATE_WARN_DAYS};

/// A monotonic count.
pub type Count = Counter<u64, AtomicU64>;

/// How often values were how large.
pub type Distribution = Histogram;

/// Name and value of each label, in a fixed order.
pub type Labels = Vec<(&'static str, String)>;

/// A family of counts that differ in their labels.
pub type Counts = Family<Labels, Count>;

/// How a component stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Not yet connected or opened.
    Starting,
    /// It works.
    Ready,
    /// The other side is away; it tries on.
    Retrying(String),
    /// Configuration or credential is refused; nothing is admitted until it is mended.
    Holding(String),
}

impl State {
    /// Every word that [`word`](Self::word) can give.
    pub const WORDS: [&str; 4] = ["starting", "ready", "retrying", "holding"];

    /// The state in one word, for a label or a colour.
    pub fn word(&self) -> &'static str {
        let [starting, ready, retrying, holding] = Self::WORDS;
        match self {
            State::Starting => starting,
            State::Ready => ready,
            State::Retrying(_) => retrying,
            State::Holding(_) => holding,
        }
    }
    /// How bad it is: of several instances of a component the worst counts.
    fn rank(&self) -> u8 {
        match self {
            State::Ready => 0,
            State::Starting => 1,
            State::Retrying(_) => 2,
            State::Holding(_) => 3,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Starting => f.write_str("starting"),
            State::Ready => f.write_str("ready"),
            State::Retrying(why) => write!(f, "retrying: {why}"),
            State::Holding(why) => write!(f, "holding: {why}"),
        }
    }
}

/// Every component's standing.
#[derive(Clone, Debug, Default)]
pub struct Board {
    rows: Arc<Mutex<Vec<Arc<Row>>>>,
    listeners: Arc<Mutex<Vec<Weak<Listener>>>>,
    entered: Arc<AtomicU64>,
    /// How many graphs have begun, times two; odd while the current one ends for the next.
    chapter: Arc<AtomicU64>,
    dropped: Counts,
    archives: Counts,
    figures: own::Figures,
    certificates: Arc<Mutex<BTreeMap<String, Certificate>>>,
}

/// The certificate of a component that ends first.
#[derive(Clone, Copy, Debug, Default)]
struct Certificate {
    /// Wall time.
    ends: Nanos,
    /// When its near end was last logged, wall time.
    warned: Nanos,
}

const DAY: Nanos = 86_400_000_000_000;

#[derive(Debug)]
struct Row {
    number: u64,
    component: String,
    state: Mutex<State>,
    /// Most messages held since it stood well.
    held: AtomicU64,
    words: Mutex<Words>,
    recent: Mutex<recent::Recent>,
}

/// How a component's trouble and its end are called in the agent's own events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    pub trouble: &'static str,
    pub end: &'static str,
}

impl Default for Words {
    fn default() -> Self {
        Self { trouble: "error", end: "recovered" }
    }
}

/// One component's place on the board.
#[derive(Clone, Debug)]
pub struct Standing {
    board: Board,
    row: Arc<Row>,
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// A row for `component` (`sinks.dfn_cert`), starting.
    pub fn enter(&self, component: impl Into<String>) -> Standing {
        let row = Arc::new(Row {
            number: self.entered.fetch_add(1, Ordering::Relaxed),
            component: component.into(),
            state: Mutex::new(State::Starting),
            held: AtomicU64::new(0),
            words: Mutex::default(),
            recent: Mutex::default(),
        });
        lock(&self.rows).push(row.clone());
        Standing { board: self.clone(), row }
    }
    /// All rows now.
    pub fn rows(&self) -> Vec<(String, State)> {
        lock(&self.rows).iter().map(|row| (row.component.clone(), lock(&row.state).clone())).collect()
    }
    /// A graph begins: the rows of an earlier one are gone.
    pub fn begin(&self) {
        lock(&self.rows).clear();
        lock(&self.certificates).clear();
        self.figures.begin();
        self.chapter.store((self.chapter.load(Ordering::Relaxed) | 1) + 1, Ordering::Relaxed);
    }
    /// The graph ends so that the next can begin in its place.
    pub fn end_for_next(&self) {
        self.chapter.fetch_or(1, Ordering::Relaxed);
    }
    /// True if this graph took the place of an earlier one.
    pub fn is_next(&self) -> bool {
        self.chapter.load(Ordering::Relaxed) / 2 > 1
    }
    /// True if another graph will take the place of this one.
    pub fn has_next(&self) -> bool {
        self.chapter.load(Ordering::Relaxed) % 2 == 1
    }
    /// Each component once, in the order of entering, with the worst state of its instances: a sink
    /// may run on several shards.
    pub fn standings(&self) -> Vec<(String, State)> {
        let mut all: Vec<(String, State)> = Vec::new();
        for (component, state) in self.rows() {
            match all.iter_mut().find(|(name, _)| *name == component) {
                Some((_, worst)) if state.rank() > worst.rank() => *worst = state,
                Some(_) => {}
                None => all.push((component, state)),
            }
        }
        all
    }
    /// Messages that components let go on purpose: a sink that is not required, by age or room.
    pub fn dropped(&self) -> &Counts {
        &self.dropped
    }
    /// What became of the archives of files that rotate.
    pub fn archives(&self) -> &Counts {
        &self.archives
    }
    /// Each component with what it counts of its own, as far as that says something: a line for the log.
    pub fn figures(&self) -> Vec<(String, String)> {
        self.figures.lines()
    }
    /// Each component with the figures of its own, zero or not: `redis_lag{stream=waf}` and its value.
    pub fn figures_told(&self) -> Vec<(String, Vec<(String, i64)>)> {
        self.figures.told()
    }
    /// Each component with a certificate, and when the first of them ends, wall time.
    pub fn certificates(&self) -> Vec<(String, Nanos)> {
        lock(&self.certificates).iter().map(|(component, certificate)| (component.clone(), certificate.ends)).collect()
    }
    /// Gathers news from now on, until the listener is dropped; those who are in trouble already
    /// are its first news. Without a listener nothing is gathered.
    ///
    /// - `wake`: called after each piece of news, from any thread.
    pub fn listen(&self, wake: impl Fn() + Send + Sync + 'static) -> Arc<Listener> {
        let listener = Arc::new(Listener::new(wake));
        lock(&self.listeners).push(Arc::downgrade(&listener));
        for row in lock(&self.rows).iter() {
            let now = lock(&row.state).clone();
            if matches!(now, State::Retrying(_) | State::Holding(_)) {
                listener.changed(row.change(State::Starting, now));
            }
        }
        listener
    }
    fn tell(&self, tell: impl Fn(&Listener)) {
        lock(&self.listeners).retain(|listener| listener.upgrade().inspect(|listener| tell(listener)).is_some());
    }
}

impl Row {
    fn change(&self, before: State, now: State) -> Change {
        let held = self.held.load(Ordering::Relaxed);
        Change { row: self.number, component: self.component.clone(), before, now, held, words: *lock(&self.words) }
    }
}

impl Standing {
    /// Sets how the component stands, and logs a change once.
    pub fn set(&self, state: State) {
        let component = &self.row.component;
        let before = {
            let mut current = lock(&self.row.state);
            if *current == state {
                return;
            }
            match &state {
                State::Starting | State::Ready => tracing::info!(component, state = %state, "component"),
                State::Retrying(_) => tracing::warn!(component, state = %state, "component"),
                State::Holding(_) => tracing::error!(component, state = %state, "component"),
            }
            std::mem::replace(&mut *current, state.clone())
        };
        let is_well = |state: &State| matches!(state, State::Starting | State::Ready);
        if is_well(&before) {
            self.row.held.store(0, Ordering::Relaxed);
        }
        let change = self.row.change(before, state);
        self.board.tell(|listener| listener.changed(change.clone()));
    }
    /// Tells how many messages the component holds while it is in trouble; the most that it held is
    /// told when the trouble ends.
    pub fn holds(&self, messages: u64) {
        self.row.held.fetch_max(messages, Ordering::Relaxed);
    }
    /// Calls this component's trouble and its end by other words than `error` and `recovered`.
    pub fn call(&self, words: Words) {
        *lock(&self.row.words) = words;
    }
    /// Counts messages that this component let go on purpose, by reason (`too_old`, `inbox_full`).
    pub fn dropped(&self, reason: &'static str, messages: u64) {
        let component = &self.row.component;
        self.board.dropped.get_or_create_owned(&labels([("component", component), ("reason", reason)])).inc_by(messages);
        self.board.tell(|listener| listener.lost(component, reason, messages));
    }
    /// Counts what happened to an archive of this component's file: `rotated`, `compressed`,
    /// `removed`, `failed`.
    pub fn archive(&self, event: &'static str) {
        self.board.archives.get_or_create_owned(&labels([("component", &self.row.component), ("event", event)])).inc();
    }
    /// Tells when the first certificate in use ends; to be called at every start and once a day.
    /// Where the end is near the log says so, once a day for all instances of the component.
    ///
    /// - `ends`, `now`: wall time.
    pub fn certificate_ends(&self, ends: Nanos, now: Nanos) {
        let component = &self.row.component;
        let mut all = lock(&self.board.certificates);
        let certificate = all.entry(component.clone()).or_default();
        certificate.ends = ends;
        let days = ends.saturating_sub(now) / DAY;
        if days < u64::from(CERTIFICATE_WARN_DAYS) && (certificate.warned == 0 || now.saturating_sub(certificate.warned) >= DAY) {
            certificate.warned = now;
            tracing::warn!(component, days, "a certificate ends soon; ask for a new one and write it to the same files");
        }
    }
    /// How it stands now.
    pub fn get(&self) -> State {
        lock(&self.row.state).clone()
    }
    /// The board that it stands on.
    pub fn board(&self) -> &Board {
        &self.board
    }
}

/// Makes a label set; `EncodeLabelSet` is prometheus-client's word for it.
pub fn labels<const N: usize>(pairs: [(&'static str, &str); N]) -> Labels
where
    Labels: EncodeLabelSet,
{
    pairs.into_iter().map(|(name, value)| (name, value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_knows_whether_it_goes_on() {
        let board = Board::default();
        let seen = || (board.is_next(), board.has_next());
        board.begin();
        board.enter("sinks.old");
        assert_eq!(seen(), (false, false));
        board.end_for_next();
        assert_eq!(seen(), (false, true));
        board.begin();
        assert_eq!((seen(), board.rows().len()), ((true, false), 0));
        board.begin();
        assert_eq!(seen(), (true, false));
    }

    #[test]
    fn the_near_end_of_a_certificate_is_logged_once_a_day_for_all_instances() {
        let board = Board::default();
        let [one, two] = ["sinks.out", "sinks.out"].map(|name| board.enter(name));
        let warned = || lock(&board.certificates)["sinks.out"].warned;
        one.certificate_ends(100 * DAY, 70 * DAY);
        assert_eq!(warned(), 0, "30 days left");
        one.certificate_ends(100 * DAY, 70 * DAY + 1);
        two.certificate_ends(100 * DAY, 71 * DAY);
        assert_eq!(warned(), 70 * DAY + 1);
        two.certificate_ends(100 * DAY, 71 * DAY + 1);
        assert_eq!(warned(), 71 * DAY + 1);
        two.certificate_ends(400 * DAY, 72 * DAY);
        assert_eq!(board.certificates(), [("sinks.out".to_owned(), 400 * DAY)]);
    }

    #[test]
    fn of_several_instances_the_worst_counts() {
        let board = Board::default();
        let [one, two, other] = ["sinks.out", "sinks.out", "sinks.nothing"].map(|name| board.enter(name));
        one.set(State::Ready);
        other.set(State::Ready);
        let words = || board.standings().into_iter().map(|(name, state)| format!("{name} {}", state.word())).collect::<Vec<_>>();
        assert_eq!(words(), ["sinks.out starting", "sinks.nothing ready"]);
        two.set(State::Holding("refused".into()));
        one.set(State::Retrying("away".into()));
        assert_eq!(words(), ["sinks.out holding", "sinks.nothing ready"]);
        two.set(State::Ready);
        assert_eq!(words(), ["sinks.out retrying", "sinks.nothing ready"]);
    }
}
