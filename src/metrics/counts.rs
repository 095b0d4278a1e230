//! The counters of the accounting law, and the registry that tells them.
//!
//! Per branch, in bytes of frames, each span once:
//!
//! ```text
//! read = shipped + dropped by rule{reason} + dead letter{reason} + in flight
//! ```
//!
//! `reread` and `missed` stand beside it, per source. [`BranchCounts`] and [`SourceCounts`] are
//! built once and hold their own clones, so a batch costs a few atomic additions and no lookup.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Metric, Registry},
};

use super::{Behind, Board, Count, Counts, Figures, Labels, Progress, State, figures::Known, graph::Families, labels};
use crate::clock::Nanos;

/// A value that goes up and down.
pub type Level = Gauge;

/// A value in seconds, or days where its name says so, that goes up and down.
pub type Seconds = Gauge<f64, AtomicU64>;

/// Every counter of the agent.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    read: Counts,
    shipped: Counts,
    dropped: Counts,
    dead_letter: Counts,
    cut: Counts,
    found: Counts,
    figures: Known,
    in_flight: Family<Labels, Level>,
    emitted: Counts,
    delivered: Counts,
    latency: Family<Labels, Histogram, fn() -> Histogram>,
    records: Counts,
    reread: Counts,
    missed: Counts,
    helped: Counts,
    lag: Family<Labels, Level>,
    lag_seconds: Family<Labels, Seconds>,
    states: Family<Labels, Level>,
    certificate_days: Family<Labels, Seconds>,
    shed: Count,
    checkpoint_age: Seconds,
    /// Wall time of the last save, nanoseconds since 1970; 0 for none.
    saved_at: Arc<AtomicU64>,
    branches: Arc<Mutex<BTreeMap<(String, String), BranchCounts>>>,
    progress: Arc<Mutex<BTreeMap<String, Arc<Progress>>>>,
    board: Board,
    pub(super) graph: Families,
}

/// Half a millisecond to a minute, each bucket twice the one before.
fn latency_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 18))
}

impl Metrics {
    /// All families, at zero; what components drop is counted on `board`.
    pub fn new(board: &Board) -> Self {
        let metrics = Self {
            registry: Arc::default(),
            read: Counts::default(),
            shipped: Counts::default(),
            dropped: Counts::default(),
            dead_letter: Counts::default(),
            cut: Counts::default(),
            found: Counts::default(),
            figures: Known::default(),
            in_flight: Family::default(),
            emitted: Counts::default(),
            delivered: Counts::default(),
            latency: Family::new_with_constructor(latency_histogram),
            records: Counts::default(),
            reread: Counts::default(),
            missed: Counts::default(),
            helped: Counts::default(),
            lag: Family::default(),
            lag_seconds: Family::default(),
            states: Family::default(),
            certificate_days: Family::default(),
            shed: Count::default(),
            checkpoint_age: Seconds::default(),
            saved_at: Arc::default(),
            branches: Arc::default(),
            progress: Arc::default(),
            board: board.clone(),
            graph: Families::default(),
        };
        metrics.register("shipper_read_bytes", "Bytes of frames offered to a branch", metrics.read.clone());
        metrics.register("shipper_shipped_bytes", "Bytes of frames of which a required message was delivered", metrics.shipped.clone());
        metrics.register("shipper_dropped_bytes", "Bytes of frames that a rule dropped", metrics.dropped.clone());
        metrics.register("shipper_dead_letter_bytes", "Bytes of frames that went into the dead letter", metrics.dead_letter.clone());
        metrics.register("shipper_cut_records", "Records of which a limit of the handler left something out", metrics.cut.clone());
        metrics.register("shipper_found_indicators", "Indicators that a handler found in records, by type", metrics.found.clone());
        metrics.register("shipper_in_flight_bytes", "Bytes of frames read and not yet acked", metrics.in_flight.clone());
        metrics.register("shipper_emitted_messages", "Messages for required sinks, one for each sink", metrics.emitted.clone());
        metrics.register("shipper_delivered_messages", "Messages that required sinks delivered", metrics.delivered.clone());
        metrics.register("shipper_ack_latency_seconds", "From read to acked, of whole batches", metrics.latency.clone());
        metrics.register("shipper_read_records", "Frames read from a source", metrics.records.clone());
        metrics.register("shipper_reread_bytes", "Bytes read again that were read before", metrics.reread.clone());
        metrics.register("shipper_missed_bytes", "Bytes that vanished unread or were jumped over", metrics.missed.clone());
        metrics.register("shipper_helped_slabs", "Slabs of a lagging source that other shards handled", metrics.helped.clone());
        metrics.register("shipper_lag_bytes", "Bytes between a source's end and its watermark", metrics.lag.clone());
        metrics.register("shipper_lag_seconds", "Age of the oldest unacked bytes of a source", metrics.lag_seconds.clone());
        metrics.register("shipper_component_state", "1 for the state that a component is in, 0 for the others", metrics.states.clone());
        metrics.register(
            "shipper_certificate_days",
            "Until the first certificate that a component needs ends; negative when it has ended",
            metrics.certificate_days.clone(),
        );
        metrics.register(
            "shipper_checkpoint_age_seconds",
            "Since the checkpoint was last saved, which is done when something moved; NaN before the first save",
            metrics.checkpoint_age.clone(),
        );
        metrics.register("shipper_shed_messages", "Messages that a sink which is not required lost", metrics.shed.clone());
        metrics.register("shipper_dropped_messages", "Messages that a component let go on purpose", board.dropped().clone());
        metrics.register("shipper_archives", "Archives of files that rotate, by what happened to them", board.archives().clone());
        metrics.graph.register(&metrics);
        metrics
    }

    /// Adds a metric of a component's own.
    ///
    /// - `name`: `shipper_<noun>_<unit>`; counters get their `_total` when told.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).register(name, help, metric);
    }

    /// Messages that sinks which are not required lost, refused or for want of room.
    pub fn shed(&self) -> Count {
        self.shed.clone()
    }

    /// The graph is built anew: counts go on, what stood for parts of the old one is forgotten. What
    /// nobody acked any more will be read again, and is counted so (`dropped{reason="read_again"}`).
    pub fn begin_anew(&self) {
        for (_, _, counts) in self.branches() {
            let left = counts.in_flight.get();
            if let Ok(bytes @ 1..) = u64::try_from(left) {
                counts.dropped.add("read_again", bytes);
                counts.in_flight.dec_by(left);
            }
        }
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.states.clear();
        self.certificate_days.clear();
        self.lag.clear();
        self.lag_seconds.clear();
    }

    /// The counters of one source.
    pub fn source(&self, source: &str) -> SourceCounts {
        let at = labels([("source", source)]);
        SourceCounts {
            records: self.records.get_or_create_owned(&at),
            reread: self.reread.get_or_create_owned(&at),
            missed: self.missed.get_or_create_owned(&at),
            helped: self.helped.get_or_create_owned(&at),
            progress: self.progress.lock().unwrap_or_else(PoisonError::into_inner).entry(source.to_owned()).or_default().clone(),
        }
    }

    /// Every source so far, and how far it is behind.
    ///
    /// - `now`, `mono`: wall and monotonic time.
    pub fn sources(&self, now: Nanos, mono: Nanos) -> Vec<(String, SourceCounts, Behind)> {
        let names: Vec<String> = self.progress.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        let told = |source: String| {
            let counts = self.source(&source);
            let behind = counts.progress.behind(now, mono);
            (source, counts, behind)
        };
        names.into_iter().map(told).collect()
    }

    /// The checkpoint was saved.
    ///
    /// - `at`: wall time; an earlier one than is known counts for nothing.
    pub fn saved(&self, at: Nanos) {
        self.saved_at.fetch_max(at, Ordering::Relaxed);
    }

    /// Wall time at which the checkpoint was last saved; `None` before the first save.
    pub fn saved_at(&self) -> Option<Nanos> {
        Some(self.saved_at.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }

    /// Sets what depends on the moment of asking: lags, ages, states.
    ///
    /// - `now`, `mono`: wall and monotonic time.
    pub fn refresh(&self, now: Nanos, mono: Nanos) {
        for (source, _, behind) in self.sources(now, mono) {
            let at = labels([("source", &source)]);
            self.lag.get_or_create_owned(&at).set(i64::try_from(behind.lag()).unwrap_or(i64::MAX));
            self.lag_seconds.get_or_create_owned(&at).set(behind.age.as_secs_f64());
        }
        for (component, state) in self.board.standings() {
            for word in State::WORDS {
                let at = labels([("component", &component), ("state", word)]);
                self.states.get_or_create_owned(&at).set(i64::from(word == state.word()));
            }
        }
        for (component, ends) in self.board.certificates() {
            let days = (ends as f64 - now as f64) / 86_400e9;
            self.certificate_days.get_or_create_owned(&labels([("component", &component)])).set((days * 100.0).round() / 100.0);
        }
        self.checkpoint_age.set(self.saved_at().map_or(f64::NAN, |at| now.saturating_sub(at) as f64 / 1e9));
    }

    /// The counters of one branch of one source.
    pub fn branch(&self, source: &str, branch: &str) -> BranchCounts {
        let mut branches = self.branches.lock().unwrap_or_else(PoisonError::into_inner);
        let at = labels([("source", source), ("branch", branch)]);
        let make = || BranchCounts {
            read: self.read.get_or_create_owned(&at),
            shipped: self.shipped.get_or_create_owned(&at),
            dropped: Reasons::new(&self.dropped, &at),
            dead_letter: Reasons::new(&self.dead_letter, &at),
            cut: Reasons::new(&self.cut, &at),
            found: Reasons::by("type", &self.found, &at),
            figures: Figures::new(&self.registry, &self.figures, &at),
            in_flight: self.in_flight.get_or_create_owned(&at),
            emitted: self.emitted.get_or_create_owned(&at),
            delivered: self.delivered.get_or_create_owned(&at),
            latency: self.latency.get_or_create_owned(&at),
        };
        branches.entry((source.to_owned(), branch.to_owned())).or_insert_with(make).clone()
    }

    /// Every branch so far, as (source, branch, counters): what the simulator and the page sum up.
    pub fn branches(&self) -> Vec<(String, String, BranchCounts)> {
        let branches = self.branches.lock().unwrap_or_else(PoisonError::into_inner);
        branches.iter().map(|((source, branch), counts)| (source.clone(), branch.clone(), counts.clone())).collect()
    }

    /// Everything in Prometheus's text form (OpenMetrics).
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing into a string cannot fail.
        let _ = encode(&mut text, &registry);
        drop(registry);
        let end = text.trim_end_matches("# EOF\n").len();
        text.insert_str(end, &self.board.figures.text());
        text
    }

    /// Each component with what it counts of its own: see [`Board::figures`].
    pub fn figures(&self) -> Vec<(String, String)> {
        self.board.figures()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// Counters of one source.
#[derive(Clone, Debug)]
pub struct SourceCounts {
    /// Frames.
    pub records: Count,
    /// Bytes read again that were read before.
    pub reread: Count,
    /// Bytes that vanished unread or were jumped over.
    pub missed: Count,
    /// Slabs that other shards handled.
    pub helped: Count,
    /// How far it is behind.
    pub progress: Arc<Progress>,
}

/// Counters of one branch of one source, in bytes of frames.
#[derive(Clone, Debug)]
pub struct BranchCounts {
    /// Offered to the branch.
    pub read: Count,
    /// At least one required message was delivered, none refused.
    pub shipped: Count,
    /// Dropped by rule.
    pub dropped: Reasons,
    /// In the dead letter.
    pub dead_letter: Reasons,
    /// Records, by the limit of the handler that left something of them out.
    pub cut: Reasons,
    /// Indicators found in records, by type.
    pub found: Reasons,
    /// What the branch's handler counts of its own.
    pub figures: Figures,
    /// Read and not yet acked.
    pub in_flight: Level,
    /// Messages for required sinks: two sinks of one message are two.
    pub emitted: Count,
    /// Of these, delivered.
    pub delivered: Count,
    /// Seconds from read to acked; once per batch.
    pub latency: Histogram,
}

impl BranchCounts {
    /// Bytes that the law leaves unexplained: 0 while nobody has forgotten to count.
    pub fn imbalance(&self) -> i64 {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let told = self.shipped.get() + self.dropped.total() + self.dead_letter.total();
        signed(self.read.get()) - signed(told) - self.in_flight.get()
    }
}

/// A count by reason, or by whatever else its label says. A reason's counter is looked up once and then kept.
#[derive(Clone, Debug)]
pub struct Reasons {
    label: &'static str,
    family: Counts,
    at: Labels,
    known: Arc<Mutex<Vec<(&'static str, Count)>>>,
}

impl Reasons {
    pub(super) fn new(family: &Counts, at: &Labels) -> Self {
        Self::by("reason", family, at)
    }

    pub(super) fn by(label: &'static str, family: &Counts, at: &Labels) -> Self {
        Self { label, family: family.clone(), at: at.clone(), known: Arc::default() }
    }

    /// The counter of one reason, for keeping.
    pub fn of(&self, reason: &'static str) -> Count {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, count)) = known.iter().find(|(name, _)| *name == reason) {
            return count.clone();
        }
        let mut at = self.at.clone();
        at.push((self.label, reason.to_owned()));
        let count = self.family.get_or_create_owned(&at);
        known.push((reason, count.clone()));
        count
    }

    /// Adds to a reason; for sums of a batch, not for each record.
    pub fn add(&self, reason: &'static str, bytes: u64) {
        self.of(reason).inc_by(bytes);
    }

    /// Each reason so far with its count.
    pub fn each(&self) -> Vec<(&'static str, u64)> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(reason, count)| (*reason, count.get())).collect()
    }

    /// The sum over all reasons.
    pub fn total(&self) -> u64 {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(_, count)| count.get()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_law_balances_and_says_by_how_much_it_does_not() {
        let metrics = Metrics::new(&Board::default());
        let branch = metrics.branch("alerts", "dfn");
        branch.read.inc_by(100);
        branch.in_flight.inc_by(100);
        assert_eq!(branch.imbalance(), 0);
        branch.in_flight.dec_by(90);
        branch.shipped.inc_by(40);
        branch.dropped.add("unwanted", 30);
        branch.dropped.of("own_network").inc_by(10);
        assert_eq!(branch.imbalance(), 10);
        branch.dead_letter.add("not_json", 10);
        assert_eq!(branch.imbalance(), 0);
    }

    #[test]
    fn counters_of_the_same_place_are_the_same_counter() {
        let metrics = Metrics::new(&Board::default());
        metrics.branch("a", "b").shipped.inc_by(2);
        metrics.branch("a", "b").dropped.add("unwanted", 3);
        assert_eq!(metrics.branch("a", "b").shipped.get(), 2);
        assert_eq!(metrics.branch("a", "b").imbalance(), -5, "what another clone dropped is seen");
        let text = metrics.text();
        assert!(text.contains("shipper_shipped_bytes_total{source=\"a\",branch=\"b\"} 2\n"), "{text}");
        assert!(text.contains("shipper_dropped_bytes_total{source=\"a\",branch=\"b\",reason=\"unwanted\"} 3\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn what_depends_on_the_moment_is_told_as_of_now() {
        let board = Board::default();
        let metrics = Metrics::new(&board);
        board.enter("sinks.out").set(State::Ready);
        let second = 1_000_000_000;
        board.enter("sinks.tls").certificate_ends(10 * second + 129_600 * second, 10 * second);
        metrics.source("alerts").progress.unacked(12, Some(5 * second), false, second);
        metrics.refresh(10 * second, 2 * second);
        assert!(metrics.text().contains("\nshipper_checkpoint_age_seconds NaN\n"), "never saved is no age");
        metrics.saved(7 * second);
        metrics.saved(6 * second);
        metrics.refresh(10 * second, 2 * second);
        let text = metrics.text();
        for line in [
            "shipper_lag_bytes{source=\"alerts\"} 12\n",
            "shipper_lag_seconds{source=\"alerts\"} 5.0\n",
            "shipper_component_state{component=\"sinks.out\",state=\"ready\"} 1\n",
            "shipper_component_state{component=\"sinks.out\",state=\"holding\"} 0\n",
            "shipper_certificate_days{component=\"sinks.tls\"} 1.5\n",
            "shipper_checkpoint_age_seconds 3.0\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn what_is_left_in_flight_when_the_graph_is_built_anew_is_no_imbalance() {
        let metrics = Metrics::new(&Board::default());
        let branch = metrics.branch("alerts", "dfn");
        branch.read.inc_by(100);
        branch.shipped.inc_by(60);
        branch.in_flight.inc_by(40);
        metrics.begin_anew();
        assert_eq!((branch.imbalance(), branch.in_flight.get(), branch.dropped.total()), (0, 0, 40));
        metrics.begin_anew();
        assert_eq!(branch.dropped.total(), 40);
    }

    #[test]
    fn what_a_component_lets_go_is_told() {
        let board = Board::default();
        let metrics = Metrics::new(&board);
        board.enter("sinks.wazuh").dropped("too_old", 4);
        assert!(metrics.text().contains("shipper_dropped_messages_total{component=\"sinks.wazuh\",reason=\"too_old\"} 4\n"));
    }
}
