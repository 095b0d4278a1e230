//! What a handler counts of its own, by what it saw in records.
//!
//! A [`Figure`] says what is counted and is a `static` of its handler. Its metric is told from the first record on
//! that counts.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    metrics::{family::Family, histogram::Histogram},
    registry::Registry,
};

use super::{Counts, Labels};

/// A metric of a handler.
#[derive(Debug)]
pub struct Figure {
    /// `shipper_<system>_<noun>`, or another's name where that is asked for; counters get their `_total` when told.
    pub name: &'static str,
    pub help: &'static str,
    /// Names of its labels beside `source` and `branch`; an empty one is none.
    pub labels: [&'static str; 2],
    /// Upper ends of its buckets; none for a counter.
    pub buckets: &'static [f64],
}

/// What was counted.
#[derive(Clone, Copy, Debug)]
pub enum Counted {
    /// One more, with these values of the labels.
    One([&'static str; 2]),
    /// A value for the buckets.
    Value(i64),
}

type Histograms = Family<Labels, Histogram, Buckets>;

/// Makes histograms.
#[derive(Clone, Copy)]
struct Buckets(&'static [f64]);

impl prometheus_client::metrics::family::MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// Every figure that was counted so far.
#[derive(Clone, Default)]
pub(super) struct Known {
    counts: Arc<Mutex<BTreeMap<&'static str, Counts>>>,
    histograms: Arc<Mutex<BTreeMap<&'static str, Histograms>>>,
}

/// The figures of one branch of one source.
#[derive(Clone)]
pub struct Figures {
    registry: Arc<Mutex<Registry>>,
    known: Known,
    at: Labels,
}

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Figures({:?})", self.at)
    }
}

impl Figures {
    pub(super) fn new(registry: &Arc<Mutex<Registry>>, known: &Known, at: &Labels) -> Self {
        Self { registry: registry.clone(), known: known.clone(), at: at.clone() }
    }

    /// Adds what was counted so many times; for sums of a batch, not for each record.
    pub fn add(&self, figure: &'static Figure, counted: Counted, times: u32) {
        match counted {
            Counted::One(words) => {
                let mut known = self.known.counts.lock().unwrap_or_else(PoisonError::into_inner);
                let family = known.entry(figure.name).or_insert_with(|| {
                    let family = Counts::default();
                    self.registry.lock().unwrap_or_else(PoisonError::into_inner).register(figure.name, figure.help, family.clone());
                    family
                });
                family.get_or_create_owned(&self.labels(figure, words)).inc_by(u64::from(times));
            }
            Counted::Value(value) => {
                let histogram = self.histogram(figure, [""; 2]);
                for _ in 0..times {
                    histogram.observe(value as f64);
                }
            }
        }
    }

    /// The histogram of a figure, for keeping: for what is counted where no batch is being written.
    ///
    /// - `words`: values of the figure's labels.
    pub fn histogram(&self, figure: &'static Figure, words: [&str; 2]) -> Histogram {
        let mut known = self.known.histograms.lock().unwrap_or_else(PoisonError::into_inner);
        let family = known.entry(figure.name).or_insert_with(|| {
            let family = Family::new_with_constructor(Buckets(figure.buckets));
            self.registry.lock().unwrap_or_else(PoisonError::into_inner).register(figure.name, figure.help, family.clone());
            family
        });
        family.get_or_create_owned(&self.labels(figure, words))
    }

    fn labels(&self, figure: &Figure, words: [&str; 2]) -> Labels {
        let own = figure.labels.into_iter().zip(words).filter(|(name, _)| !name.is_empty());
        self.at.iter().cloned().chain(own.map(|(name, word)| (name, word.to_owned()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Board, Metrics};

    static SEEN: Figure = Figure { name: "shipper_test_seen", help: "Seen", labels: ["kind", ""], buckets: &[] };
    static WEIGHT: Figure = Figure { name: "shipper_test_weight", help: "Weight", labels: ["", ""], buckets: &[1.0, 10.0] };

    #[test]
    fn a_figure_is_told_from_its_first_record_on() {
        let metrics = Metrics::new(&Board::default());
        assert!(!metrics.text().contains("shipper_test"));
        for branch in ["a", "b"] {
            let figures = metrics.branch("s", branch).figures;
            figures.add(&SEEN, Counted::One(["x", ""]), 2);
            figures.add(&SEEN, Counted::One(["x", ""]), 1);
            figures.add(&WEIGHT, Counted::Value(7), 3);
        }
        static SPAN: Figure = Figure { name: "shipper_test_span", help: "Span", labels: ["by", ""], buckets: &[0.5] };
        metrics.branch("s", "a").figures.histogram(&SPAN, ["me", ""]).observe(0.25);
        metrics.branch("s", "a").figures.histogram(&SPAN, ["me", ""]).observe(2.0);
        let text = metrics.text();
        for line in [
            "shipper_test_span_bucket{le=\"0.5\",source=\"s\",branch=\"a\",by=\"me\"} 1",
            "shipper_test_span_count{source=\"s\",branch=\"a\",by=\"me\"} 2",
            "shipper_test_seen_total{source=\"s\",branch=\"a\",kind=\"x\"} 3",
            "shipper_test_seen_total{source=\"s\",branch=\"b\",kind=\"x\"} 3",
            "shipper_test_weight_bucket{le=\"1.0\",source=\"s\",branch=\"a\"} 0",
            "shipper_test_weight_bucket{le=\"10.0\",source=\"s\",branch=\"a\"} 3",
            "shipper_test_weight_sum{source=\"s\",branch=\"a\"} 21.0",
        ] {
            assert!(text.lines().any(|told| told == line), "{line}\n{text}");
        }
        assert_eq!(text.matches("# TYPE shipper_test_seen ").count(), 1, "one family for both branches");
    }
}
