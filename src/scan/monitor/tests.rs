//! Figures, rules that fire and resolve, summaries, exports.

#![allow(clippy::disallowed_methods, reason = "tests look at real files")]

use proptest::prelude::*;
use serde_json::Value;

use super::{
    export::{ExportError, is_name, write},
    *,
};

const SECOND: Nanos = 1_000_000_000;

/// Seconds after a wall time of 1000 s.
fn at(s: u64) -> Moment {
    Moment { wall: (1000 + s) * SECOND, mono: s * SECOND }
}

fn rule(metric: &str, condition: Condition, threshold: f64, for_s: u64, clear_s: u64) -> Rule {
    Rule { metric: metric.into(), condition, threshold, level: AlertLevel::Error, message: "it is {value}".into(), for_s, clear_s }
}

fn monitor() -> Monitor {
    let mut monitor = Monitor::new(Settings::default());
    let names: Vec<String> = monitor.rules().map(|(name, _)| name.to_owned()).collect();
    names.iter().for_each(|name| assert_eq!(monitor.remove_rule(name, at(0)), Some(vec![])));
    monitor
}

/// What each check says of one rule: `+` fired, `-` resolved, `.` nothing.
fn marks(changes: &[Change]) -> &'static str {
    match changes {
        [] => ".",
        [Change::Fired(_)] => "+",
        [Change::Resolved(alert)] if alert.resolved_by.as_deref() == Some("auto") => "-",
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rule_fires_and_resolves_by_its_spans() {
    // A check every 10 s; T is true, F false, _ absent.
    let rows = [
        ((0, 0), "FTTFT", ".+.-+"),
        ((20, 0), "TTTFT", "..+-."),
        ((20, 0), "TFTTT", "....+"),
        ((0, 20), "TFFFF", "+..-."),
        ((0, 20), "TFTFFF", "+....-"),
        // No data neither fires nor resolves, and no span goes on over it.
        ((20, 20), "T_TTTFF_FFF", "....+.....-"),
        ((0, 0), "____", "...."),
        ((0, 0), "T__F", "+..-"),
    ];
    for ((for_s, clear_s), values, expected) in rows {
        let mut monitor = monitor();
        monitor.set_rule("r", rule("m", Condition::Above, 5.0, for_s, clear_s)).unwrap();
        let mut said = String::new();
        for (n, value) in (0..).zip(values.chars()) {
            let now = at(n * 10);
            let value = match value {
                'T' => Some(6.0),
                'F' => Some(5.0),
                _ => None,
            };
            monitor.gauge("m", value, now);
            said.push_str(marks(&monitor.check(now)));
        }
        assert_eq!(said, expected, "for {for_s} s, clear {clear_s} s: {values}");
    }
}

#[test]
fn what_a_person_resolved_fires_again_only_after_it_was_false() {
    let mut monitor = monitor();
    monitor.set_rule("r", rule("m", Condition::AtLeast, 1.0, 0, 120)).unwrap();
    monitor.record("m", Kind::Gauge, 1.5, at(0));
    let Some(Change::Fired(alert)) = monitor.check(at(0)).pop() else { panic!() };
    assert_eq!((alert.message.as_str(), alert.title.as_str(), alert.timestamp), ("it is 1.5", "Alert: r", 1000.0));
    let Resolved::Done(change) = monitor.resolve(&alert.alert_id, "anna", at(5)) else { panic!() };
    let Change::Resolved(resolved) = *change else { panic!() };
    assert_eq!((resolved.resolved_by.as_deref(), resolved.resolved_at), (Some("anna"), Some(1005.0)));
    assert_eq!(monitor.resolve(&alert.alert_id, "anna", at(6)), Resolved::Already);
    assert_eq!(monitor.resolve("alert_1_1", "anna", at(6)), Resolved::Unknown);
    assert_eq!(monitor.check(at(10)), []);
    monitor.record("m", Kind::Gauge, 0.0, at(20));
    assert_eq!(monitor.check(at(20)), []);
    monitor.record("m", Kind::Gauge, 1.0, at(30));
    assert_eq!(marks(&monitor.check(at(30))), "+");
}

#[test]
fn ids_are_never_the_same_not_even_after_a_restart() {
    let mut monitor = monitor();
    for name in ["a", "b", "c"] {
        monitor.set_rule(name, rule("m", Condition::Above, 0.0, 0, 0)).unwrap();
    }
    monitor.record("m", Kind::Gauge, 1.0, at(0));
    let fired = monitor.check(at(0));
    let ids: Vec<String> = monitor.active().map(|alert| alert.alert_id.clone()).collect();
    assert_eq!((fired.len(), ids.as_slice()), (3, &["alert_1000000_1", "alert_1000000_2", "alert_1000000_3"].map(String::from)[..]));

    let mut next = self::monitor();
    next.set_rule("a", rule("m", Condition::Above, 0.0, 0, 0)).unwrap();
    next.set_rule("z", rule("m", Condition::Above, 0.0, 0, 0)).unwrap();
    next.restore(monitor.active().cloned().collect::<Vec<_>>());
    next.record("m", Kind::Gauge, 1.0, at(0));
    // The clock was set back; `a` is active already.
    let Some(Change::Fired(alert)) = next.check(Moment { wall: 5, mono: 5 }).pop() else { panic!() };
    assert_eq!((alert.alert_id.as_str(), alert.source.as_str()), ("alert_1000000_4", "z"));
}

#[test]
fn rules_are_taken_over() {
    let mut monitor = Monitor::new(Settings::default());
    let mine = rule("m", Condition::Below, 2.0, 1, 2);
    let kept = [("mine", serde_json::json!(mine)), ("low_disk_space", Value::Null), ("odd", serde_json::json!({"metric": 1}))];
    assert_eq!(monitor.restore_rules(kept.map(|(name, row)| (name.to_owned(), row)), at(0)), ["odd"]);
    let rules: BTreeMap<&str, &Rule> = monitor.rules().collect();
    assert_eq!((rules.len(), rules["mine"]), (7, &mine));
    assert!(!rules.contains_key("low_disk_space"));
}

#[test]
fn every_default_rule_can_fire_and_resolve() {
    let mut monitor = Monitor::new(Settings::default());
    let bad_host = Host { cpu_percent: Some(99.0), memory_percent: Some(99.0), disk_percent: Some(99.0), ..Host::default() };
    for n in 0..20 {
        monitor.finished(Finished { is_error: n % 2 == 0, scan_ms: 5.0, wait_ms: 1.0 }, at(0));
    }
    let bad = Figures { queued: 101, workers: 2, workers_healthy: 1, workers_offline: 1, ..Figures::default() };
    monitor.collect(&bad, &bad_host, at(70));
    let mut fired: Vec<String> = monitor
        .check(at(70))
        .into_iter()
        .map(|change| match change {
            Change::Fired(alert) => alert.source,
            Change::Resolved(alert) => panic!("{alert:?}"),
        })
        .collect();
    fired.sort();
    let mut all: Vec<String> = monitor.rules().map(|(name, _)| name.to_owned()).collect();
    all.sort();
    assert_eq!(fired, all);
    // Idle: throughput is 0 and nothing waits.
    for n in 0..20 {
        monitor.finished(Finished { is_error: false, scan_ms: 5.0, wait_ms: 1.0 }, at(390 + n));
    }
    let good_host = Host { cpu_percent: Some(1.0), memory_percent: Some(1.0), disk_percent: Some(1.0), ..Host::default() };
    monitor.collect(&Figures { workers: 1, workers_healthy: 1, ..Figures::default() }, &good_host, at(500));
    assert_eq!(monitor.check(at(500)), []);
    assert_eq!(monitor.check(at(620)).len(), 7);
    assert_eq!(monitor.active().count(), 0);
}

#[test]
fn rates_are_those_of_their_windows() {
    let mut monitor = monitor();
    let seen = |monitor: &mut Monitor, s| {
        monitor.collect(&Figures::default(), &Host::default(), at(s));
        ["scanner.throughput", "scanner.error_rate", "scanner.average_scan_time_ms"].map(|name| monitor.value(name))
    };
    assert_eq!(seen(&mut monitor, 0), [Some(0.0), None, None]);
    for n in 0..30 {
        monitor.finished(Finished { is_error: n < 3, scan_ms: f64::from(n), wait_ms: 0.0 }, at(10));
    }
    assert_eq!(seen(&mut monitor, 60), [Some(0.5), Some(0.1), Some(14.5)]);
    let p95 = monitor.value("scanner.p95_scan_time_ms").unwrap();
    assert!((27.0..=29.0).contains(&p95), "{p95}");
    let (counts, sum, all) = monitor.scan_seconds(&[0.0099, 0.05, 60.0]);
    assert_eq!((counts, all), (vec![10, 30, 30], 30));
    assert!((sum - 0.435).abs() < 1e-9, "{sum}");
    assert_eq!(seen(&mut monitor, 70), [Some(0.0), Some(0.1), Some(14.5)]);
    assert_eq!(seen(&mut monitor, 311), [Some(0.0), None, None]);
}

#[test]
fn network_counts_are_differences() {
    let mut monitor = monitor();
    let totals = [(Some(1000), 0.0), (Some(1500), 500.0), (None, 500.0), (Some(9000), 500.0), (Some(9001), 501.0), (Some(3), 501.0)];
    for (n, (total, expected)) in (0..).zip(totals) {
        monitor.collect(&Figures::default(), &Host { network_sent: total, ..Host::default() }, at(n));
        assert_eq!(monitor.value("system.network_bytes_sent").unwrap_or(0.0), expected, "look {n}");
    }
}

#[test]
fn summaries_and_exports_are_of_the_window() {
    let mut monitor = monitor();
    for n in 0..8 {
        monitor.record("g", Kind::Gauge, n as f64, at(n * 10));
    }
    monitor.record("t", Kind::Timer, 2.5, at(70));
    monitor.record("nan", Kind::Gauge, f64::NAN, at(70));
    let told = monitor.summary(3600, at(70));
    let expected = serde_json::json!({"count": 8, "min": 0.0, "max": 7.0, "avg": 3.5, "median": 3.5, "latest": 7.0, "trend": "increasing"});
    assert_eq!(told["g"], expected);
    assert_eq!(monitor.summary(10, at(70))["g"]["count"], 2);
    assert_eq!(monitor.summary(1, at(700)), serde_json::json!({}));
    assert_eq!(
        monitor.csv(10, at(70)),
        "time,name,kind,value\n1970-01-01T00:17:40.000Z,g,gauge,6\n1970-01-01T00:17:50.000Z,g,gauge,7\n1970-01-01T00:17:50.000Z,t,timer,2.5\n"
    );
    let metrics = monitor.metrics();
    assert_eq!((&metrics["gauges"]["g"], &metrics["timers"]["t"]["count"]), (&Value::from(7.0), &Value::from(1)));
    assert_eq!(metrics["timers"]["t"]["avg_ms"], 2.5);
    assert_eq!(metrics["gauges"].get("nan"), None);
}

#[test]
fn performance_has_a_baseline_and_a_trend() {
    let mut monitor = monitor();
    for n in 0..12 {
        let figures = Figures { queued: 10 + n, ..Figures::default() };
        // Two looks a minute are one sample.
        monitor.collect(&figures, &Host::default(), at(n * 60));
        monitor.collect(&Figures::default(), &Host::default(), at(n * 60 + 30));
        let trend = &monitor.performance()["metrics"]["queue_size"]["trend"];
        assert_eq!(trend, if n < 9 { "insufficient_data" } else { "increasing" }, "sample {n}");
    }
    let told = monitor.performance();
    let queue = &told["metrics"]["queue_size"];
    assert_eq!((&told["samples"], &queue["current"], &queue["min"]), (&Value::from(12), &Value::from(21.0), &Value::from(10.0)));
    let deviation = queue["baseline_deviation"].as_f64().unwrap();
    assert!((deviation - 5.5 / 15.5 * 100.0).abs() < 1e-9, "{deviation}");
    assert_eq!(told["metrics"]["cpu"]["current"], Value::Null);
}

#[test]
fn the_worst_part_is_the_health() {
    use Grade::{Critical, Healthy, Warning};
    // Queue, workers, healthy, cpu, disk.
    let rows = [
        ((0, 1, 1, 10.0, 10.0), Healthy),
        ((1000, 1, 1, 80.0, 90.0), Healthy),
        ((1001, 1, 1, 10.0, 10.0), Warning),
        ((0, 0, 0, 10.0, 10.0), Critical),
        ((0, 4, 3, 10.0, 10.0), Warning),
        ((0, 5, 4, 10.0, 10.0), Healthy),
        ((0, 2, 1, 10.0, 10.0), Critical),
        ((0, 1, 1, 80.1, 10.0), Warning),
        ((0, 1, 1, 90.1, 10.0), Critical),
        ((0, 1, 1, 10.0, 90.1), Warning),
        ((0, 1, 1, 10.0, 95.1), Critical),
    ];
    for ((queued, workers, workers_healthy, cpu, disk), expected) in rows {
        let mut monitor = monitor();
        let host = Host { cpu_percent: Some(cpu), disk_percent: Some(disk), ..Host::default() };
        monitor.collect(&Figures { queued, workers, workers_healthy, ..Figures::default() }, &host, at(0));
        assert_eq!(monitor.health().overall, expected, "{queued} {workers} {workers_healthy} {cpu} {disk}");
    }
    assert_eq!(monitor().health().overall, Healthy, "nothing was measured");
}

#[test]
fn a_wrong_rule_is_told_by_its_field() {
    let good = rule("a.b", Condition::Equal, 1.0, 0, 0);
    let long = "x".repeat(1025);
    let with = |change: fn(&mut Rule)| {
        let mut rule = good.clone();
        change(&mut rule);
        rule
    };
    let rows = [
        (with(|r| r.metric = "a b".into()), "metric"),
        (with(|r| r.metric.clear()), "metric"),
        (with(|r| r.threshold = f64::INFINITY), "threshold"),
        (with(|r| r.message = "{value.__class__}".into()), "message"),
        (with(|r| r.message = "{{value}}".into()), "message"),
        (with(|r| r.message.clear()), "message"),
        (with(|r| r.for_s = 86_401), "for_s"),
        (Rule { message: long, ..good.clone() }, "message"),
    ];
    let mut monitor = monitor();
    for (rule, expected) in rows {
        assert!(matches!(monitor.set_rule("r", rule), Err(RuleError::Field(field, _)) if field == expected), "{expected}");
    }
    for name in ["", "A", "a-b", &"x".repeat(65)] {
        assert_eq!(monitor.set_rule(name, good.clone()), Err(RuleError::Name), "{name:?}");
    }
    for n in 0..limits::MONITOR_RULES_MAX {
        assert_eq!(monitor.set_rule(&format!("r{n}"), good.clone()), Ok(()));
    }
    assert_eq!(monitor.set_rule("one_more", good.clone()), Err(RuleError::TooMany));
    assert_eq!(monitor.set_rule("r0", good), Ok(()));
}

#[test]
fn history_forgets_the_oldest_that_is_over_and_nothing_active() {
    let mut monitor = Monitor::new(Settings { history_max: 3, ..Settings::default() });
    for name in ["a", "b", "c", "d", "e"] {
        monitor.set_rule(name, rule(name, Condition::Above, 0.0, 0, 0)).unwrap();
    }
    let mut step = |name: &str, value: f64, s| {
        monitor.record(name, Kind::Gauge, value, at(s));
        monitor.check(at(s));
        monitor.rules.history().map(|alert| alert.source.clone()).collect::<String>()
    };
    step("a", 1.0, 1);
    step("b", 1.0, 2);
    step("b", 0.0, 3);
    assert_eq!(step("c", 1.0, 4), "abc");
    assert_eq!(step("d", 1.0, 5), "acd");
    assert_eq!(step("e", 1.0, 6), "acde", "all are active");
    let told = monitor.alerts();
    assert_eq!((&told["summary"]["active_alerts"], &told["summary"]["alerts_by_level"]["error"]), (&Value::from(4), &Value::from(4)));
    assert_eq!(told["alert_history"][0]["source"], "e", "the newest first");
}

#[test]
fn an_export_is_new_whole_and_below_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.csv", b"one").unwrap();
    assert!(matches!(write(dir.path(), "a.csv", b"two"), Err(ExportError::Exists)));
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
    assert!(matches!(write(dir.path(), "link", b"two"), Err(ExportError::Exists)));
    for name in ["", ".", "..", ".a", "a/b", "../a", "/tmp/a", "a\0b", "ä", &"x".repeat(129)] {
        assert!(!is_name(name), "{name:?}");
        assert!(matches!(write(dir.path(), name, b"x"), Err(ExportError::Name)), "{name:?}");
    }
    assert!(matches!(write(&dir.path().join("none"), "a", b"x"), Err(ExportError::Io(_))));
    let mut names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a.csv", "link"], "nothing half is left");
    assert_eq!(std::fs::read(dir.path().join("a.csv")).unwrap(), b"one");
}

proptest! {
    /// Whatever is measured: at most one alert of a rule is active, and each is fired once and resolved at most once.
    #[test]
    fn alerts_come_in_pairs(values in prop::collection::vec(prop::option::of(0u8..3), 1..60), for_s in 0u64..30, clear_s in 0u64..30) {
        let mut monitor = monitor();
        monitor.set_rule("r", rule("m", Condition::Above, 0.5, for_s, clear_s)).unwrap();
        let (mut open, mut seen) = (None, std::collections::BTreeSet::new());
        for (n, value) in (0..).zip(values) {
            monitor.gauge("m", value.map(f64::from), at(n * 7));
            for change in monitor.check(at(n * 7)) {
                match change {
                    Change::Fired(alert) => {
                        prop_assert!(open.is_none() && seen.insert(alert.alert_id.clone()));
                        prop_assert!(value.is_some_and(|value| value > 0));
                        open = Some(alert.alert_id);
                    }
                    Change::Resolved(alert) => {
                        prop_assert_eq!(open.take(), Some(alert.alert_id));
                        prop_assert_eq!(value, Some(0));
                    }
                }
            }
            prop_assert_eq!(monitor.active().count(), usize::from(open.is_some()));
        }
    }
}
