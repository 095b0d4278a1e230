//! Messages of ten features, as the test producer of APT detection sends them.
//!
//! Message `n` of a seed is always the same. Those whose number three divides are anomalous: two or three of
//! five features lie above 0.8, and no feature of any other message does, so how many alerts must come of a
//! run is known before it is sent.

use std::{io::Write, ops::RangeInclusive};

use super::{Made, draws::Draws, stamp};
use crate::clock::Nanos;

/// Who the messages are about.
const ENTITIES: [&str; 6] = ["host1", "host2", "host3", "workstation4", "server5", "laptop6"];
/// The ten features in their order, each with its usual range, in thousandths.
const FEATURES: [(&str, RangeInclusive<u64>); 10] = [
    ("network_traffic_volume_mean", 100..=700),
    ("number_of_logins_mean", 100..=500),
    ("number_of_failed_logins_mean", 100..=300),
    ("number_of_accessed_files_mean", 100..=700),
    ("number_of_email_sent_mean", 100..=400),
    ("cpu_usage_mean", 100..=600),
    ("memory_usage_mean", 200..=600),
    ("disk_io_mean", 100..=600),
    ("network_latency_mean", 100..=500),
    ("number_of_processes_mean", 100..=600),
];
/// Which of them an anomaly raises, by index.
const RAISED: [usize; 5] = [0, 2, 5, 6, 7];
/// To where, in millionths: above 0.8 in any case.
const HIGH: RangeInclusive<u64> = 800_001..=950_000;
/// Every so many messages one is anomalous, the first included.
const ANOMALOUS_EACH: u64 = 3;

/// Makes such messages.
#[derive(Clone, Debug)]
pub struct Features {
    seed: u64,
    has_anomalies: bool,
    next: u64,
}

impl Features {
    /// A maker that begins at message 0.
    pub fn new(seed: u64, has_anomalies: bool) -> Self {
        Self { seed, has_anomalies, next: 0 }
    }

    /// How many of the first `count` messages are anomalous.
    pub fn anomalous(&self, count: u64) -> u64 {
        if self.has_anomalies { count.div_ceil(ANOMALOUS_EACH) } else { 0 }
    }

    /// The next message.
    ///
    /// - `now`: its time.
    pub fn message(&mut self, now: Nanos) -> Made {
        let n = self.next;
        self.next += 1;
        let mut draws = Draws::new(self.seed ^ n.rotate_left(32));
        let entity = *draws.one(&ENTITIES);
        let mut values = FEATURES.map(|(_, range)| draws.from(range.start() * 1000, range.end() * 1000));
        if self.has_anomalies && n.is_multiple_of(ANOMALOUS_EACH) {
            let count = draws.from(2, 3) as usize;
            for raised in draws.some(&RAISED, count) {
                values[*raised] = draws.from(*HIGH.start(), *HIGH.end());
            }
        }
        let mut json = Vec::with_capacity(512);
        // Writing into a vector cannot fail.
        let _ = write!(json, "{{\"entity\":\"{entity}\"");
        for ((name, _), value) in FEATURES.iter().zip(values) {
            let _ = write!(json, ",\"{name}\":0.{value:06}");
        }
        let _ = write!(json, ",\"timestamp\":\"{}\"}}", stamp(now));
        Made { at: now, entity: entity.into(), json }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(made: &Made) -> Vec<f64> {
        let value: serde_json::Value = serde_json::from_slice(&made.json).expect("JSON");
        FEATURES.iter().map(|(name, _)| value[name].as_f64().expect("a number")).collect()
    }

    #[test]
    fn every_third_message_has_two_or_three_features_above_eight_tenths_and_no_other_has_one() {
        let mut features = Features::new(7, true);
        let (mut alerts, mut threes) = (0, 0);
        for n in 0..3000 {
            let high: Vec<usize> = values(&features.message(0)).iter().enumerate().filter(|(_, x)| **x > 0.8).map(|(n, _)| n).collect();
            assert_eq!(high.is_empty(), n % 3 != 0, "{n}: {high:?}");
            assert!(high.is_empty() || (2..=3).contains(&high.len()) && high.iter().all(|n| RAISED.contains(n)), "{n}: {high:?}");
            alerts += u64::from(!high.is_empty());
            threes += usize::from(high.len() == 3);
        }
        assert_eq!((alerts, features.anomalous(3000), features.anomalous(20)), (1000, 1000, 7));
        assert!((400..600).contains(&threes), "{threes} of 1000 have three");
    }

    #[test]
    fn without_anomalies_every_feature_lies_in_its_usual_range() {
        let mut features = Features::new(7, false);
        for _ in 0..1000 {
            let made = features.message(0);
            for (x, (name, range)) in values(&made).into_iter().zip(&FEATURES) {
                assert!((*range.start() as f64 / 1000.0..=*range.end() as f64 / 1000.0).contains(&x), "{name} {x}");
            }
            assert!(ENTITIES.contains(&&*made.entity));
        }
        assert_eq!(features.anomalous(20), 0);
    }

    #[test]
    fn a_message_is_that_of_its_seed_and_number() {
        let all = |seed| {
            let mut features = Features::new(seed, true);
            (0..50).map(|_| features.message(1_773_465_912_004_000_000).json).collect::<Vec<_>>()
        };
        assert_eq!(all(1), all(1));
        assert_ne!(all(1), all(2));
        assert!(all(1)[0].ends_with(br#","timestamp":"2026-03-14T05:25:12.004Z"}"#), "{}", String::from_utf8_lossy(&all(1)[0]));
    }
}
