//! Which of the workers that accept gets a task. Pure.
//!
//! | algorithm | who |
//! |---|---|
//! | `load_based` | least load; of equals the one unused for longest, then the first id |
//! | `round_robin` | the first id above the last one that was used, from the start where there is none |
//! | `capability_based` | of those that can do all that the task asks for, by load; if there is none, by load among all, or nobody (`strict`) |

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use crate::scan::{
    settings::{Algorithm, Balance},
    task::Capability,
};

/// A worker that accepts.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'w> {
    pub id: &'w str,
    /// 0 to 1.
    pub load: f64,
    /// Number of its last turn; `None` before its first.
    pub used: Option<u64>,
    pub capabilities: &'w BTreeSet<Capability>,
}

/// Who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice<'w> {
    Worker(&'w str),
    /// This one, although it cannot do all that the task asks for.
    Incapable(&'w str),
    Nobody,
}

/// Chooses.
///
/// - `candidates`: in any order, each id once.
/// - `last`: who was chosen last.
pub fn choose<'w>(balance: &Balance, candidates: &[Candidate<'w>], required: &[Capability], last: Option<&str>) -> Choice<'w> {
    let least = |among: &mut dyn Iterator<Item = &Candidate<'w>>| {
        among.min_by(|a, b| a.load.total_cmp(&b.load).then(a.used.cmp(&b.used)).then(a.id.cmp(b.id))).map(|found| found.id)
    };
    match balance.algorithm {
        Algorithm::LoadBased => least(&mut candidates.iter()).map_or(Choice::Nobody, Choice::Worker),
        Algorithm::RoundRobin => {
            let ids = || candidates.iter().map(|each| each.id);
            let above = ids().filter(|id| last.is_none_or(|last| *id > last)).min();
            above.or_else(|| ids().min()).map_or(Choice::Nobody, Choice::Worker)
        }
        Algorithm::CapabilityBased => {
            let can = |each: &&Candidate<'w>| required.iter().all(|asked| each.capabilities.contains(asked));
            match least(&mut candidates.iter().filter(can)) {
                Some(id) => Choice::Worker(id),
                None if balance.strict => Choice::Nobody,
                None => least(&mut candidates.iter()).map_or(Choice::Nobody, Choice::Incapable),
            }
        }
    }
}

/// How busy a worker is: 0 to 1.
///
/// - `cpu`, `memory`: percent; where one of them is not known, the share of its tasks says all.
pub fn load(balance: &Balance, cpu: Option<f64>, memory: Option<f64>, in_flight: u32, max_tasks: u32) -> f64 {
    let queue = if max_tasks == 0 { 1.0 } else { (f64::from(in_flight) / f64::from(max_tasks)).min(1.0) };
    let sum = balance.cpu + balance.memory + balance.queue;
    match (cpu, memory) {
        (Some(cpu), Some(memory)) if sum > 0.0 => {
            let part = |percent: f64| (percent / 100.0).clamp(0.0, 1.0);
            (balance.cpu * part(cpu) + balance.memory * part(memory) + balance.queue * queue) / sum
        }
        _ => queue,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn by(algorithm: Algorithm, strict: bool) -> Balance {
        Balance { algorithm, strict, ..Balance::default() }
    }

    #[test]
    fn a_load_is_a_weighted_share_or_the_tasks_alone() {
        let rows = [
            (None, None, 0, 5, 0.0),
            (None, None, 2, 5, 0.4),
            (Some(90.0), None, 2, 5, 0.4),
            (None, Some(90.0), 5, 5, 1.0),
            (None, None, 9, 5, 1.0),
            (None, None, 0, 0, 1.0),
            (Some(0.0), Some(0.0), 5, 5, 0.4),
            (Some(100.0), Some(100.0), 5, 5, 1.0),
            (Some(50.0), Some(20.0), 1, 4, 0.31),
            (Some(900.0), Some(-3.0), 0, 4, 0.3),
        ];
        for (cpu, memory, in_flight, max, want) in rows {
            let found = load(&Balance::default(), cpu, memory, in_flight, max);
            assert!((found - want).abs() < 1e-9, "{cpu:?} {memory:?} {in_flight}/{max}: {found}, not {want}");
        }
        let none = Balance { cpu: 0.0, memory: 0.0, queue: 0.0, ..Balance::default() };
        assert!((load(&none, Some(90.0), Some(90.0), 1, 2) - 0.5).abs() < 1e-9, "weights of nothing");
    }

    #[test]
    fn each_algorithm_chooses_as_its_row_says() {
        let [scan, both] = [BTreeSet::from([Capability::FileScan]), BTreeSet::from([Capability::FileScan, Capability::LogAnalysis])];
        let of = |id, load, used, capabilities| Candidate { id, load, used, capabilities };
        let all = [of("a", 0.5, Some(1), &scan), of("b", 0.2, Some(4), &scan), of("c", 0.2, Some(2), &both), of("d", 0.9, None, &both)];
        let equal = [of("b", 0.0, None, &scan), of("a", 0.0, None, &scan), of("c", 0.0, Some(0), &scan)];
        use Algorithm::{CapabilityBased, LoadBased, RoundRobin};
        use Choice::{Incapable, Nobody, Worker};
        let log: &[Capability] = &[Capability::LogAnalysis];
        let net: &[Capability] = &[Capability::NetworkAnalysis];
        let rows: [(_, &[Candidate<'_>], &[Capability], Option<&str>, _); 14] = [
            (by(LoadBased, false), &all, &[], None, Worker("c")),
            (by(LoadBased, false), &equal, &[], None, Worker("a")),
            (by(LoadBased, true), &all, net, None, Worker("c")),
            (by(LoadBased, false), &[], &[], None, Nobody),
            (by(RoundRobin, false), &all, &[], None, Worker("a")),
            (by(RoundRobin, false), &all, &[], Some("a"), Worker("b")),
            (by(RoundRobin, false), &all, &[], Some("bb"), Worker("c")),
            (by(RoundRobin, false), &all, &[], Some("d"), Worker("a")),
            (by(RoundRobin, false), &[], &[], Some("d"), Nobody),
            (by(CapabilityBased, false), &all, log, None, Worker("c")),
            (by(CapabilityBased, false), &all, &[], None, Worker("c")),
            (by(CapabilityBased, false), &all, net, None, Incapable("c")),
            (by(CapabilityBased, true), &all, net, None, Nobody),
            (by(CapabilityBased, true), &all, log, None, Worker("c")),
        ];
        for (n, (balance, candidates, required, last, want)) in rows.into_iter().enumerate() {
            assert_eq!(choose(&balance, candidates, required, last), want, "row {n}");
        }
    }

    /// As slow and as plain as it can be said: sort, then take the first.
    mod naive {
        use super::*;

        pub fn choose<'w>(balance: &Balance, candidates: &[Candidate<'w>], required: &[Capability], last: Option<&str>) -> Choice<'w> {
            let mut sorted = candidates.to_vec();
            if balance.algorithm == Algorithm::RoundRobin {
                sorted.sort_by_key(|each| each.id);
                let (mut below, mut above) = (Vec::new(), Vec::new());
                for each in sorted {
                    match last {
                        Some(last) if each.id <= last => below.push(each),
                        _ => above.push(each),
                    }
                }
                above.extend(below);
                return above.first().map_or(Choice::Nobody, |first| Choice::Worker(first.id));
            }
            sorted.sort_by_key(|each| (each.load.to_bits(), each.used.map_or(0, |used| used + 1), each.id));
            if balance.algorithm == Algorithm::CapabilityBased {
                for each in &sorted {
                    let asked: BTreeSet<Capability> = required.iter().copied().collect();
                    if asked.is_subset(each.capabilities) {
                        return Choice::Worker(each.id);
                    }
                }
                return match sorted.first() {
                    Some(first) if !balance.strict => Choice::Incapable(first.id),
                    _ => Choice::Nobody,
                };
            }
            sorted.first().map_or(Choice::Nobody, |first| Choice::Worker(first.id))
        }
    }

    const FOUR: [Capability; 4] = [Capability::FileScan, Capability::YaraAnalysis, Capability::NetworkAnalysis, Capability::LogAnalysis];

    fn some_of_four() -> impl Strategy<Value = BTreeSet<Capability>> {
        prop::collection::btree_set(prop::sample::select(FOUR.to_vec()), 0..4)
    }

    proptest! {
        #[test]
        fn a_choice_is_that_of_the_naive_twin(
            workers in prop::collection::btree_map("[a-c]{1,2}", (0u8..4, prop::option::of(0u64..3), some_of_four()), 0..8),
            required in some_of_four(),
            last in prop::option::of("[a-c]{1,2}"),
            algorithm in prop::sample::select(vec![Algorithm::LoadBased, Algorithm::RoundRobin, Algorithm::CapabilityBased]),
            strict: bool,
        ) {
            let candidates: Vec<Candidate<'_>> = workers
                .iter()
                .rev()
                .map(|(id, (load, used, capabilities))| Candidate { id, load: f64::from(*load) / 4.0, used: *used, capabilities })
                .collect();
            let (balance, required): (_, Vec<_>) = (by(algorithm, strict), required.into_iter().collect());
            prop_assert_eq!(
                choose(&balance, &candidates, &required, last.as_deref()),
                naive::choose(&balance, &candidates, &required, last.as_deref())
            );
        }

        #[test]
        fn round_robin_comes_to_everybody_before_it_comes_again(ids in prop::collection::btree_set("[a-d]{1,3}", 1..8), start in "[a-d]{1,3}") {
            let none = BTreeSet::new();
            let candidates: Vec<Candidate<'_>> = ids.iter().map(|id| Candidate { id, load: 0.0, used: None, capabilities: &none }).collect();
            let (mut last, mut met) = (start, BTreeSet::new());
            for _ in 0..ids.len() {
                let Choice::Worker(id) = choose(&by(Algorithm::RoundRobin, false), &candidates, &[], Some(&last)) else { panic!("nobody") };
                prop_assert!(met.insert(id.to_owned()), "{} came twice", id);
                last = id.to_owned();
            }
        }
    }
}
