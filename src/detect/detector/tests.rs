//! The detector beside a naive twin, over cuts, and at its bounds.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::{borrow::Cow, collections::BTreeMap};

use proptest::prelude::*;

use super::*;
use crate::detect::{Class, attack::Evidence, seed::Chance};

fn event<'a>(ts_ms: i64, entity: &'a str, kind: &'a str) -> Event<'a> {
    Event {
        ts_ms,
        entity: Cow::Borrowed(entity),
        entity_type: Cow::Borrowed("host"),
        source: Class::Wazuh,
        event_type: Cow::Borrowed("alert"),
        kind: Cow::Borrowed(kind),
        counts: true,
        features: [0.0; 10],
        present: 0b11_1111_1111,
        level: 3,
        sigma: None,
        techniques: Vec::new(),
        agent_id: Cow::Borrowed("001"),
    }
}

const START: i64 = 1_740_823_200_000;

/// A day of a small site, and now and then something odd: milliseconds, entity, kind.
fn site(seed: u64, n: usize) -> Vec<(i64, String, String)> {
    let (mut chance, mut ms) = (Chance(seed), START);
    let mut all = Vec::new();
    while all.len() < n {
        ms += chance.below(20_000) as i64;
        let entity = format!("host{}", chance.below(6));
        let kind = format!("rule {}", chance.below(4) * chance.below(3));
        // Some are late, some very late.
        let back = match chance.below(40) {
            0 => 400_000,
            1..=4 => 15_000,
            _ => 0,
        };
        all.push((ms - back, entity.clone(), kind));
        if chance.below(150) == 0 {
            (0..60).for_each(|n| all.push((ms, entity.clone(), format!("attack {n}"))));
        }
    }
    all
}

fn settings() -> Settings {
    Settings { window_ms: 60_000, lateness_ms: 10_000, threshold: 0.6, entities_max: 5, ..Settings::default() }
}

fn all(detector: &mut Detector) -> Vec<Scored> {
    std::iter::from_fn(|| detector.next()).collect()
}

/// Everything that is told of a stream, to the last bit.
///
/// - `cut`: before this event the detector is saved and loaded.
/// - `turns`: how many windows are scored after an event.
fn told_of(stream: &[(i64, String, String)], settings: Settings, cut: usize, turns: impl Fn(usize) -> usize) -> (Vec<String>, Vec<u8>) {
    let (mut detector, mut told, mut bursts) = (Detector::new(settings), Vec::new(), Vec::new());
    for (n, (ms, entity, kind)) in stream.iter().enumerate() {
        if n == cut {
            let mut out = Writer::default();
            detector.save(&mut out);
            let mut reader = Reader(&out.0);
            // What it has scored and not given yet is the caller's to keep.
            told.extend(detector.done.drain(..).map(|scored| format!("{scored:?}")));
            let tally = detector.tally;
            detector = Detector::load(settings, &mut reader).unwrap().unwrap();
            assert!(reader.0.is_empty());
            detector.tally = tally;
        }
        let mut event = event(*ms, entity, kind);
        event.features[1] = 0.25;
        bursts.extend(detector.take(&event, i64::MAX, format!("file/a/{n}").as_bytes()).map(|burst| format!("{n} {burst:?}")));
        told.extend((0..turns(n)).map_while(|_| detector.next()).map(|scored| format!("{scored:?}")));
    }
    detector.close_all();
    told.extend(all(&mut detector).iter().map(|scored| format!("{scored:?}")));
    told.extend(bursts);
    let mut out = Writer::default();
    detector.save(&mut out);
    (told, out.0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_told_depends_on_the_events_alone(seed in any::<u64>(), cut in 0..900usize, often in 1..50usize, engine in any::<bool>()) {
        let stream = site(seed, 900);
        let settings = Settings { engine: if engine { Engine::Rcf } else { Engine::Oif }, ..settings() };
        let whole = told_of(&stream, settings, usize::MAX, |_| usize::MAX);
        // Cut anywhere; scored at other moments; never before it must be.
        let other = told_of(&stream, settings, cut, |n| usize::from(n % often == 0) * 3);
        prop_assert_eq!(&whole.0, &other.0);
        prop_assert_eq!(&whole.1, &other.1);
        prop_assert_eq!(&told_of(&stream, settings, cut, |_| 0).0, &whole.0);
    }

    #[test]
    fn rows_are_those_of_a_twin_that_keeps_every_event(seed in any::<u64>()) {
        let stream = site(seed, 300);
        // Nothing is late, nobody is forgotten: then a window is whole.
        let settings = Settings { lateness_ms: 3_600_000, entities_max: 100, ..settings() };
        let mut detector = Detector::new(settings);
        let mut twin: BTreeMap<(i64, &str), Vec<&str>> = BTreeMap::new();
        for (ms, entity, kind) in &stream {
            detector.take(&event(*ms, entity, kind), i64::MAX, b"file/a/0");
            twin.entry((ms.div_euclid(60_000) * 60_000, entity)).or_default().push(kind);
        }
        detector.close_all();
        let scored = all(&mut detector);
        if detector.tally.closed_early > 0 {
            return Ok(());
        }
        // In order of end and name, which is the map's.
        prop_assert_eq!(scored.len(), twin.len());
        let mut before: BTreeMap<&str, (f64, Vec<f64>)> = BTreeMap::new();
        for (scored, ((start, entity), kinds)) in scored.iter().zip(&twin) {
            prop_assert_eq!((scored.window.start, &*scored.entity), (*start, *entity));
            let mut distinct = kinds.clone();
            distinct.sort_unstable();
            distinct.dedup();
            let row = scored.row;
            prop_assert_eq!((row.count, row.unique, row.level), (kinds.len() as f64, distinct.len() as f64, 3.0));
            let (previous, counts) = before.entry(*entity).or_default();
            counts.push(row.count);
            let last: Vec<f64> = counts.iter().rev().take(3).copied().collect();
            prop_assert!((row.count_mean - last.iter().sum::<f64>() / last.len() as f64).abs() < 1e-12);
            prop_assert_eq!(row.count_rate, if *previous > 0.0 { (row.count - *previous) / *previous } else { 0.0 });
            *previous = row.count;
        }
    }
}

/// A site of `entities` hosts with one window each ten minutes, `windows` times; gives what is told.
fn quiet(detector: &mut Detector, entities: usize, windows: std::ops::Range<i64>) -> Vec<Scored> {
    let mut told = Vec::new();
    for window in windows {
        for entity in 0..entities {
            let mut chance = Chance((window * 1000) as u64 + entity as u64);
            for n in 0..=chance.below(5) as i64 {
                let kind = format!("rule {}", chance.below(5));
                detector.take(&event(START + window * 600_000 + n, &format!("host{entity}"), &kind), i64::MAX, b"file/a/0");
            }
        }
        told.extend(all(detector));
    }
    told
}

#[test]
fn an_attack_is_told_with_its_causes_and_a_quiet_site_stays_within_its_budget() {
    let mut detector = Detector::new(Settings { budget_per_day: 10.0, ..Settings::default() });
    let told = quiet(&mut detector, 10, 0..1000);
    // 1,440 windows a day: a budget of ten is one in 144.
    assert!((detector.threshold() - (0.5 + 0.1 * 144.0_f64.log10())).abs() < 0.002, "{}", detector.threshold());
    let alerts = told[told.len() - 4320..].iter().filter(|scored| scored.is_alert).count();
    assert!((5..=60).contains(&alerts), "{alerts} in three days");
    for n in 0..400 {
        let mut event = event(START + 1000 * 600_000 + n, "host3", "rule 1");
        (event.kind, event.level) = (Cow::Owned(format!("attack {}", n % 20)), 13);
        event.features[2] = 1.0;
        event.techniques = vec![(Cow::Borrowed("T1110"), Evidence::Rule)];
        detector.take(&event, i64::MAX, format!("file/a/{n}").as_bytes());
    }
    let told: Vec<Scored> = quiet(&mut detector, 10, 1001..1003);
    let attack = told.iter().find(|scored| scored.window.start == START + 1000 * 600_000).unwrap();
    assert!(attack.is_alert && attack.p < 2e-4 && attack.score > 0.85, "{attack:?}");
    assert_eq!((attack.severity, attack.warming), (Severity::Critical, false), "the level of its rules lifts it");
    assert_eq!(attack.causes.first().map(|cause| (cause.feature, cause.value)), Some((2, 400.0)));
    assert_eq!(&*attack.window.techniques, [("T1110".into(), Evidence::Rule, 400)]);
    assert_eq!((attack.window.evidence().count(), &*attack.window.evidence().nth(1).unwrap()), (16, &b"file/a/1"[..]));
    assert!((attack.shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{:?}", attack.shares);
    assert!(attack.vector[6] > 5.0 && attack.vector[2] > 2.9, "{:?}", attack.vector);
}

#[test]
fn a_burst_is_told_at_once_and_once_a_window() {
    let mut detector = Detector::new(Settings::default());
    quiet(&mut detector, 10, 0..300);
    let mut bursts = Vec::new();
    for n in 0..3000 {
        let at = START + 300 * 600_000 + n;
        bursts.extend(detector.take(&event(at, "host3", "rule 1"), i64::MAX, b"file/a/0"));
        detector.take(&event(at, "host4", if n < 3 { "rule 2" } else { "rule 3" }), i64::MAX - n, b"file/a/0");
    }
    assert_eq!(bursts.len(), 1, "above {}", detector.burst_above);
    assert_eq!((bursts[0].start, bursts[0].severity, bursts[0].warming), (START + 300 * 600_000, Severity::Critical, false));
    assert!(bursts[0].events < 2000 && bursts[0].p <= 1e-4, "{:?}", bursts[0]);
}

#[test]
fn what_is_odd_is_not_learnt_until_it_is_a_hundredth_of_all() {
    let mut detector = Detector::new(Settings::default());
    quiet(&mut detector, 10, 0..150);
    let before = detector.tally.not_learnt;
    // A new habit of one host: every window has eighty events of a new kind.
    let mut scores = Vec::new();
    for window in 150..450 {
        (0..80).for_each(|n| {
            detector.take(&event(START + window * 600_000 + n, "host2", &format!("new {}", n % 3)), i64::MAX, b"");
        });
        let told = quiet(&mut detector, 10, window..window + 1);
        scores.extend(told.iter().filter(|scored| scored.window.events >= 80).map(|scored| scored.raw));
    }
    let not_learnt = detector.tally.not_learnt - before;
    // What was kept in one day of 1,440 windows, and a hundredth of two more.
    assert!((5..=60).contains(&not_learnt), "{not_learnt}");
    let mean = |scores: &[f64]| scores.iter().sum::<f64>() / scores.len() as f64;
    assert!(
        mean(&scores[250..]) < 0.75 * mean(&scores[..5]),
        "it is learnt after all: {} then {}",
        mean(&scores[..5]),
        mean(&scores[250..])
    );
}

#[test]
fn late_events_open_a_part_that_is_told_only_if_it_says_more() {
    let mut detector = Detector::new(Settings { budget_per_day: 0.0, ..Settings::default() });
    quiet(&mut detector, 10, 0..300);
    // Window 299 is closed by an event two windows later; then what was missing of it comes.
    detector.take(&event(START + 301 * 600_000, "host0", "rule 1"), i64::MAX, b"");
    all(&mut detector);
    for n in 0..300 {
        detector.take(&event(START + 299 * 600_000 + n, "host3", &format!("attack {n}")), i64::MAX, b"file/a/7");
    }
    detector.take(&event(START + 299 * 600_000, "host4", "rule 1"), i64::MAX, b"");
    assert_eq!(detector.tally.late_events, 301);
    let learnt = detector.ranks.len();
    detector.close_all();
    let told = all(&mut detector);
    let parts: Vec<(&str, u16, bool)> =
        told.iter().filter(|one| one.is_late).map(|one| (&*one.entity, one.window.part, one.is_alert)).collect();
    assert_eq!(parts, [("host3", 1, true), ("host4", 1, false)]);
    assert_eq!(detector.ranks.len(), learnt + 1, "of late parts nothing is learnt");
    // Again as much is not told again.
    for n in 0..300 {
        detector.take(&event(START + 299 * 600_000 + n, "host3", &format!("attack {n}")), i64::MAX, b"file/a/8");
    }
    detector.close_all();
    let again = all(&mut detector);
    assert_eq!((again[0].window.part, again[0].is_alert), (2, false));
}

#[test]
fn a_clock_ahead_closes_nobodys_windows() {
    let mut detector = Detector::new(Settings::default());
    detector.take(&event(START, "host1", "a"), START, b"");
    detector.take(&event(START + 86_400_000, "host2", "a"), START + 1, b"");
    detector.take(&event(START + 2, "host1", "a"), START + 2, b"");
    assert!(detector.next().is_none());
    assert_eq!(detector.tally.late_events, 0);
    detector.close_all();
    let told = all(&mut detector);
    assert_eq!(told.iter().map(|one| (&*one.entity, one.window.events)).collect::<Vec<_>>(), [("host1", 2), ("host2", 1)]);
}

#[test]
fn who_was_silent_longest_is_forgotten_and_its_windows_are_scored_first() {
    let mut detector = Detector::new(Settings { entities_max: 3, ..Settings::default() });
    for n in 0..10 {
        detector.take(&event(START + n, &format!("host{n}"), "a"), i64::MAX, b"");
    }
    assert_eq!((detector.entities(), detector.tally.evicted), (3, 7));
    let told = all(&mut detector);
    assert_eq!(told.iter().map(|one| &*one.entity).collect::<Vec<_>>(), (0..7).map(|n| format!("host{n}")).collect::<Vec<_>>());
    assert_eq!(detector.report("host1"), None);
    detector.close_all();
    assert_eq!(all(&mut detector).len(), 3);
    assert_eq!(detector.report("host9").map(|report| report.data_points), Some(1));
}

#[test]
fn a_mark_counts_as_no_event_and_lifts_its_window() {
    let mut detector = Detector::new(Settings::default());
    let mark = |ms, level| Event { counts: false, sigma: Some(level), source: Class::Sigma, ..event(ms, "host1", "rule") };
    detector.take(&mark(START, Severity::Low), i64::MAX, b"");
    detector.take(&event(START + 1, "host1", "a"), i64::MAX, b"");
    detector.take(&mark(START + 2, Severity::High), i64::MAX, b"");
    detector.take(&mark(START + 600_000, Severity::High), i64::MAX, b"");
    detector.close_all();
    let told = all(&mut detector);
    assert_eq!(told.len(), 1, "a window of marks alone is none");
    assert_eq!((told[0].window.events, told[0].window.sigma, told[0].severity), (1, Some(Severity::High), Severity::Low));
}

#[test]
fn a_snapshot_of_other_settings_is_of_no_use_and_a_damaged_one_is_an_error() {
    let (mut detector, mut out) = (Detector::new(Settings::default()), Writer::default());
    quiet(&mut detector, 3, 0..40);
    detector.save(&mut out);
    let other = Settings { window_ms: 300_000, ..Settings::default() };
    assert!(Detector::load(other, &mut Reader(&out.0)).unwrap().is_none());
    for end in (0..out.0.len()).step_by(211) {
        assert!(Detector::load(Settings::default(), &mut Reader(&out.0[..end])).is_err(), "{end}");
    }
    let more = Settings { threshold: 0.9, budget_per_day: 1.0, entities_max: 7, ..Settings::default() };
    assert!(Detector::load(more, &mut Reader(&out.0)).unwrap().is_some(), "what was learnt does not depend on these");
}
