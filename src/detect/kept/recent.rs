//! The newest alerts in memory, for those who look without a database.
//!
//! One thread adds, another looks; both hold the lock for microseconds.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Before, Brief, Query, Stats};
use crate::limits;

/// An alert with what it is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub brief: Brief,
    pub json: Vec<u8>,
}

/// The newest by their event time: at most [`limits::RECENT_ALERTS`] and [`limits::RECENT_BYTES`].
#[derive(Default)]
pub struct Recent(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// By event time and id.
    alerts: BTreeMap<(i64, String), Arc<Kept>>,
    /// Event time of each id.
    times: HashMap<String, i64>,
    bytes: usize,
}

impl fmt::Debug for Recent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recent({})", self.lock().alerts.len())
    }
}

impl Recent {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an alert; false if it is there already.
    ///
    /// - `now_ms`: wall time. An alert of the future counts as of now, or it would stay in front for ever.
    pub fn add(&self, mut brief: Brief, json: &[u8], now_ms: i64) -> bool {
        brief.time_ms = brief.time_ms.min(now_ms);
        self.lock().add(Arc::new(Kept { brief, json: json.to_vec() }))
    }

    /// Takes over what another one has.
    pub fn adopt(&self, before: &Self) {
        let all: Vec<Arc<Kept>> = before.lock().alerts.values().cloned().collect();
        let mut inner = self.lock();
        all.into_iter().for_each(|kept| _ = inner.add(kept));
    }

    /// The alerts of a page, the newest first.
    ///
    /// `None`: the alert before which it begins is not there.
    pub fn page(&self, query: &Query) -> Option<Vec<Arc<Kept>>> {
        let inner = self.lock();
        let end = match &query.before {
            None => Bound::Unbounded,
            Some(Before::Time(time_ms)) => Bound::Excluded((*time_ms, String::new())),
            Some(Before::Alert(id)) => Bound::Excluded((*inner.times.get(id)?, id.clone())),
        };
        let newest = inner.alerts.range((Bound::Unbounded, end)).rev().map(|(_, kept)| kept);
        Some(newest.filter(|kept| query.wants(&kept.brief)).take(query.limit).cloned().collect())
    }

    /// The alert of this id.
    pub fn get(&self, id: &str) -> Option<Arc<Kept>> {
        let inner = self.lock();
        let time = *inner.times.get(id)?;
        inner.alerts.get(&(time, id.to_owned())).cloned()
    }

    /// What the alerts that are kept come to.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        self.lock().alerts.values().for_each(|kept| stats.add(&kept.brief));
        stats
    }
}

impl Inner {
    fn add(&mut self, kept: Arc<Kept>) -> bool {
        let Brief { id, time_ms, .. } = &kept.brief;
        if self.times.contains_key(id) {
            return false;
        }
        self.times.insert(id.clone(), *time_ms);
        self.bytes += kept.json.len();
        self.alerts.insert((*time_ms, id.clone()), kept);
        while self.alerts.len() > limits::RECENT_ALERTS || self.bytes > limits::RECENT_BYTES {
            let Some(((_, id), oldest)) = self.alerts.pop_first() else { break };
            self.times.remove(&id);
            self.bytes -= oldest.json.len();
        }
        true
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::detect::kept::brief::tests::alert;

    const NOW: i64 = 1_773_480_423_123;

    fn add(recent: &Recent, id: &str, entity: &str, time_ms: i64, severity: &str) -> bool {
        let json = alert(id, entity, time_ms, severity);
        recent.add(Brief::read(json.as_bytes()).unwrap(), json.as_bytes(), NOW)
    }

    fn ids(page: Option<Vec<Arc<Kept>>>) -> Vec<String> {
        page.unwrap().iter().map(|kept| kept.brief.id.clone()).collect()
    }

    #[test]
    fn a_page_is_the_newest_first_and_the_next_one_begins_behind_it() {
        let recent = Recent::default();
        for (n, severity) in ["High", "Low", "High", "Critical"].iter().enumerate() {
            assert!(add(&recent, &format!("a{n}"), &format!("host{}", n % 2), NOW - 1000 + n as i64 / 2, severity));
        }
        assert!(!add(&recent, "a0", "host0", NOW - 1000, "High"), "a repeat is a repeat");
        let page = |query| ids(recent.page(&query));
        assert_eq!(page(Query::default()), ["a3", "a2", "a1", "a0"]);
        assert_eq!(page(Query { severity: Some("High"), ..Query::default() }), ["a2", "a0"]);
        assert_eq!(page(Query { entity: Some("host1".into()), ..Query::default() }), ["a3", "a1"]);
        assert_eq!(page(Query { source: Some("other".into()), ..Query::default() }), [""; 0]);
        assert_eq!(page(Query { since_ms: NOW - 999, ..Query::default() }), ["a3", "a2"]);
        assert_eq!(page(Query { before: Some(Before::Time(NOW - 999)), ..Query::default() }), ["a1", "a0"]);
        let mut walked = Vec::new();
        let mut before = None;
        loop {
            let next = page(Query { before: before.take(), limit: 1, ..Query::default() });
            let Some(last) = next.last() else { break };
            before = Some(Before::Alert(last.clone()));
            walked.extend(next);
        }
        assert_eq!(walked, ["a3", "a2", "a1", "a0"]);
        assert!(recent.page(&Query { before: Some(Before::Alert("gone".into())), ..Query::default() }).is_none());
        let stats = recent.stats();
        assert_eq!((stats.alerts, stats.severities["High"], stats.entities["host1"], stats.days.len()), (4, 2, 2, 1));
        assert!(recent.get("a1").is_some_and(|kept| kept.brief.severity == "Low") && recent.get("b").is_none());
    }

    #[test]
    fn one_of_the_future_is_one_of_now_and_does_not_stay_in_front() {
        let recent = Recent::default();
        add(&recent, "future", "host", NOW + 86_400_000, "High");
        let json = alert("later", "host", NOW + 1, "High");
        recent.add(Brief::read(json.as_bytes()).unwrap(), json.as_bytes(), NOW + 1);
        assert_eq!(ids(recent.page(&Query::default())), ["later", "future"]);
        let after = Recent::default();
        after.adopt(&recent);
        assert_eq!(ids(after.page(&Query::default())), ["later", "future"]);
    }

    proptest! {
        #[test]
        fn the_newest_are_kept_whatever_order_they_come_in(mut times in prop::collection::vec(0i64..5000, 0..1500)) {
            let recent = Recent::default();
            for (n, time) in times.iter().enumerate() {
                let brief = Brief { id: n.to_string(), entity: "e".into(), time_ms: *time, severity: "Low", source: "kafka".into() };
                let is_new = recent.add(brief, b"{}", NOW);
                prop_assert!(is_new);
            }
            let kept: Vec<i64> = recent.page(&Query::default()).unwrap().iter().map(|kept| kept.brief.time_ms).collect();
            // The naive twin: sort, and take.
            times.sort_unstable_by(|a, b| b.cmp(a));
            times.truncate(limits::RECENT_ALERTS);
            prop_assert_eq!(kept, times);
            prop_assert_eq!(recent.lock().times.len(), recent.lock().alerts.len());
            prop_assert_eq!(recent.lock().bytes, 2 * recent.lock().alerts.len());
        }
    }
}
