//! Storms: the table, a scanner, restarts, and counts against a naive twin.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    batch::{Apart, Batch},
    position::Position,
    register::{Errors, Node as Tree},
};

const SECOND: Nanos = 1_000_000_000;
const WALL: Nanos = 1_773_466_512_000_000_000;

fn parse(settings: &str) -> (Box<dyn Spec>, String) {
    let (node, mut errors) = (Tree::parse_toml(settings).unwrap(), Errors::default());
    let spec = Storm.parse(&mut Section::open("stages.calm", &node, FIELDS, &[], &mut errors));
    (spec, errors.to_string())
}

fn stage(settings: &str) -> Box<dyn Stage> {
    let (spec, errors) = parse(settings);
    assert_eq!(errors, "");
    spec.build(&Shelf::default())
}

fn at(second: u64) -> Now {
    Now { mono: second * SECOND, wall: WALL + second * SECOND }
}

fn passes(stage: &mut dyn Stage, origin: &str, payload: &str, now: Now) -> bool {
    let mut batch = Batch::apart(0, 0, Position::Count(0), 0);
    let time_ms = i64::try_from(now.wall / 1_000_000).unwrap();
    batch.push(Apart { output: 0, branch: 0, origin: origin.as_bytes(), key: Some(b"k"), payload: payload.as_bytes(), time_ms });
    let mut out = Out::default();
    let fate = stage.take(&batch.message(0), now, &mut out);
    assert_eq!(fate == Fate::Emitted, out.passed().eq([0]));
    assert!(fate == Fate::Emitted || fate == Fate::Dropped("storm"));
    fate == Fate::Emitted
}

fn ticked(stage: &mut dyn Stage, now: Now) -> Vec<(String, String)> {
    let mut late = Late::default();
    stage.tick(now, &mut late);
    texts(late)
}

fn texts(late: Late) -> Vec<(String, String)> {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    late.messages.into_iter().map(|m| (text(m.origin), text(m.payload))).collect()
}

fn alert(client: &str, level: &str, severity: u32, uri: &str, tx_id: &str) -> String {
    format!(
        r#"{{"timestamp":1,"severity":{severity},"client_ip":"{client}","rule_id":"942100","uri":"{uri}","tx_id":"{tx_id}","level":"{level}","attack_type":"sqli","blocked":true,"host":"shop.example"}}"#
    )
}

#[test]
fn the_first_goes_out_at_once_the_rest_as_one_summary_a_window() {
    let mut stage = stage("");
    let one = |level: &str, severity: u32, uri: &str, tx: &str| alert("192.0.2.9", level, severity, uri, tx);
    let rows = [
        ("a/0", one("high", 60, "/a", "t0"), 0, true),
        ("a/1", one("high", 61, "/a?x=1", "t1"), 1, false),
        ("a/2", one("high", 70, "/b", "t2"), 2, false),
        ("a/3", one("low", 10, "/a?x=2", "t3"), 5, false),
        ("a/1", one("high", 61, "/a?x=1", "t1"), 6, false),
        ("a/0", one("high", 60, "/a", "t0"), 7, true),
        ("a/4", one("critical", 95, "/c", "t4"), 8, true),
        ("a/5", one("critical", 99, "/\\\"d", "t\\u001b5"), 60, false),
        ("b/0", alert("192.0.2.8", "low", 1, "/a", "u0"), 60, true),
        ("b/1", r#"{"client_ip":"192.0.2.9","attack_type":"sqli"}"#.into(), 60, true),
        ("b/2", "no JSON".into(), 60, true),
    ];
    for (origin, payload, second, expected) in rows {
        assert_eq!(passes(&mut *stage, origin, &payload, at(second)), expected, "{origin} at {second}");
    }
    assert_eq!((stage.due(), stage.entries()), (Some(61 * SECOND), 2));
    assert_eq!(ticked(&mut *stage, at(60)), []);
    let summary = r#"{"timestamp":1,"severity":99,"client_ip":"192.0.2.9","rule_id":"942100","uri":"/\"d","tx_id":"t\u001b5","level":"critical","attack_type":"sqli","blocked":true,"host":"shop.example","count":4,"first":"2026-03-14T05:35:13.000Z","last":"2026-03-14T05:36:12.000Z","paths":3,"tx_ids":["t1","t2","t3","t\u001b5"]}"#;
    assert_eq!(ticked(&mut *stage, at(61)), [("a/5".to_owned(), summary.to_owned())]);
    // The next one is counted, and told within a window.
    assert!(!passes(&mut *stage, "a/6", &one("high", 60, "/a", "t6"), at(100)));
    assert_eq!(ticked(&mut *stage, at(159)), []);
    assert_eq!(ticked(&mut *stage, at(160)).len(), 1);
    // After the silence it is a first one again.
    assert_eq!(stage.due(), Some(660 * SECOND));
    assert_eq!(ticked(&mut *stage, at(699)), []);
    assert_eq!(stage.entries(), 1);
    assert!(passes(&mut *stage, "a/7", &one("low", 1, "/a", "t7"), at(700)));
    assert_eq!(stage.entries(), 1);
}

#[test]
fn a_scanner_with_26_599_requests_in_142_seconds_is_a_handful_of_alerts() {
    // Four kinds of attack and rising levels, as a scanner tries one after the other; 187 requests a second.
    let mut stage = stage("");
    let (mut sent, mut summaries) = (0, Vec::new());
    let total = 26_599;
    for n in 0..total {
        let ms = n * 142_000 / total;
        let now = Now { mono: ms * 1_000_000, wall: WALL + ms * 1_000_000 };
        let kind = ["scanner", "lfi", "sqli", "xss"][(n * 4 / total) as usize];
        let (level, severity) = if n % 50 == 49 { ("critical", 90) } else { ("high", 65) };
        let payload = format!(
            r#"{{"severity":{severity},"client_ip":"192.0.2.9","uri":"/cgi-bin/{n}?q=1","tx_id":"{n}","level":"{level}","attack_type":"{kind}","host":"shop.example"}}"#
        );
        while stage.due().is_some_and(|due| due <= now.mono) {
            summaries.extend(ticked(&mut *stage, now));
        }
        sent += u64::from(passes(&mut *stage, &format!("s/{n}"), &payload, now));
    }
    summaries.extend(ticked(&mut *stage, at(1000)));
    assert_eq!((sent, summaries.len()), (8, 4), "a first and a rise for each of four kinds, and a summary each");
    let field = |payload: &str, name: &str| {
        payload.split(&format!("\"{name}\":")).nth(1).unwrap().split([',', '}']).next().unwrap().parse::<u64>().unwrap()
    };
    let counted: u64 = summaries.iter().map(|(_, payload)| field(payload, "count")).sum();
    assert_eq!(sent + counted, total);
    assert!(summaries.iter().all(|(_, payload)| field(payload, "severity") == 90
        && field(payload, "paths") == 1000
        && payload.contains("\"paths_more\":true")));
}

#[test]
fn beyond_its_room_the_group_that_was_silent_longest_ends_with_its_summary() {
    let mut stage = stage("members = ['a']\ngroups = 2");
    for (n, a) in [1, 1, 2, 1, 2, 3].into_iter().enumerate() {
        passes(&mut *stage, &format!("s/{n}"), &format!("{{\"a\":{a}}}"), at(n as u64));
    }
    assert_eq!((stage.entries(), stage.take_evicted(), stage.take_evicted(), stage.due()), (2, 1, 0, Some(0)));
    let ended = ticked(&mut *stage, at(6));
    assert!(ended.len() == 1 && ended[0].0 == "s/3" && ended[0].1.contains("\"count\":2"), "{ended:?}");
    let mut groups = Groups::new(60, 600, 1000, 2000);
    let mut batch = Batch::apart(0, 0, Position::Count(0), 0);
    let payload = [b'x'; 300];
    for n in 0..20 {
        batch.push(Apart { output: 0, branch: 0, origin: format!("s/{n}").as_bytes(), key: None, payload: &payload, time_ms: 0 });
        let message = batch.message(n);
        let alarm = Alarm { message: &message, level: 0, severity: 0, path: None, tx_id: None };
        groups.passes(u128::from(n / 2), &alarm, Now { mono: u64::from(n), wall: 0 });
    }
    assert!(groups.len() < 6 && groups.evicted > 3, "{} groups, {} ended early", groups.len(), groups.evicted);
}

#[test]
fn groups_go_on_over_a_restart_and_no_alert_is_repeated() {
    let mut first = stage("");
    let payload = alert("192.0.2.9", "high", 60, "/a", "t");
    for (n, second) in [0, 1, 30].into_iter().enumerate() {
        passes(&mut *first, &format!("s/{n}"), &payload, at(second));
    }
    let saved = first.save(at(40)).unwrap();
    for away in [0, 20, 21, 589, 590, 5000] {
        let mut again = stage("");
        // Its own clock begins at 1000 s.
        let now = |later: u64| Now { mono: (1000 + later) * SECOND, wall: at(40 + away + later).wall };
        again.load(&saved, now(0)).unwrap();
        let mut told = ticked(&mut *again, now(0));
        assert_eq!(told.len(), usize::from(away >= 21), "away for {away} s");
        let is_known = away < 590;
        assert_eq!(again.entries(), usize::from(is_known));
        if is_known {
            assert!(!passes(&mut *again, "s/1", &payload, now(0)), "counted before");
            assert!(passes(&mut *again, "s/0", &payload, now(0)), "it is itself");
        }
        assert_eq!(passes(&mut *again, "s/3", &payload, now(0)), !is_known, "a restart repeats no alert");
        told.extend(ticked(&mut *again, now(700)));
        let counts: Vec<&str> =
            told.iter().map(|(_, payload)| payload.split("\"count\":").nth(1).unwrap().split(',').next().unwrap()).collect();
        assert_eq!(counts.iter().map(|count| count.parse::<u64>().unwrap()).sum::<u64>(), 2 + u64::from(is_known), "{told:?}");
    }
    assert_eq!(stage("").load(&saved[..saved.len() - 1], at(0)), Err("it ends in the middle of a group".into()));
    let mut late = Late::default();
    first.flush(at(40), &mut late);
    assert_eq!((late.messages.len(), first.entries()), (1, 0));
}

#[test]
fn wrong_settings_are_answered() {
    insta::assert_snapshot!(parse("members = []\nwindow = '0'\n").1, @r#"
    line 1: stages.calm.members: is empty; name members, as in members = ["client_ip", "attack_type", "host"]
    line 2: stages.calm.window: 0 counts nothing; write a span, such as "60s"
    "#);
    assert!(parse("silence = '10s'\n").1.contains("silence: is shorter than window"));
}

/// What a stage without bounds must do, told in the plainest way: every event of each group is kept.
#[derive(Default)]
struct Naive {
    /// By group: second of the last event, highest level, events that wait with the second of their summary.
    groups: BTreeMap<u8, (u64, u8, Waiting)>,
}

type Waiting = Vec<(u64, String)>;

impl Naive {
    fn take(&mut self, group: u8, level: u8, origin: &str, now: u64) -> bool {
        let Some((last, highest, waiting)) = self.groups.get_mut(&group) else {
            self.groups.insert(group, (now, level, Vec::new()));
            return true;
        };
        *last = now;
        if level > *highest {
            *highest = level;
            return true;
        }
        let end = waiting.first().map_or(now + 60, |(end, _)| *end);
        waiting.push((end, origin.to_owned()));
        false
    }

    /// Origin of the last event and count of each summary that is due.
    fn tick(&mut self, now: u64) -> Vec<(String, usize)> {
        let mut due = Vec::new();
        for (_, _, waiting) in self.groups.values_mut() {
            if waiting.first().is_some_and(|(end, _)| *end <= now) {
                due.push((waiting.last().unwrap().1.clone(), waiting.len()));
                waiting.clear();
            }
        }
        self.groups.retain(|_, (last, _, _)| *last + 600 > now);
        due
    }
}

proptest! {
    /// With room enough the stage does what the twin does, over restarts as well.
    #[test]
    fn it_agrees_with_a_twin_that_keeps_every_event(
        steps in proptest::collection::vec((0..5u8, 0..4u8, prop_oneof![4 => 0..40u64, 1 => 500..700u64], 0..12u8), 1..120),
    ) {
        let words = ["x", "low", "high", "critical"];
        let (mut stage, mut naive, mut now) = (stage("members = ['a']"), Naive::default(), 1000);
        for (n, (group, level, pass, what)) in steps.into_iter().enumerate() {
            now += pass;
            let mut told: Vec<(String, usize)> = ticked(&mut *stage, at(now)).into_iter().map(|(origin, payload)| {
                (origin, payload.split("\"count\":").nth(1).unwrap().split(',').next().unwrap().parse().unwrap())
            }).collect();
            let mut expected = naive.tick(now);
            told.sort();
            expected.sort();
            prop_assert_eq!(told, expected);
            let (origin, payload) = (format!("s/{n}"), format!("{{\"a\":{group},\"level\":\"{}\"}}", words[usize::from(level)]));
            prop_assert_eq!(passes(&mut *stage, &origin, &payload, at(now)), naive.take(group, level, &origin, now));
            if what == 0 {
                let saved = stage.save(at(now)).unwrap();
                stage = super::tests::stage("members = ['a']");
                stage.load(&saved, at(now)).unwrap();
            }
        }
    }

    /// Every event is sent or counted exactly once, whatever the times, the room and the restarts; a first one is sent.
    #[test]
    fn what_passes_and_what_is_counted_is_all_there_was(
        steps in proptest::collection::vec((0..6u8, 0..4u8, 0..100u64, 0..20u8), 1..150), room in 1..5usize,
    ) {
        let settings = format!("members = ['a']\ngroups = {room}");
        let (mut stage, mut now, mut sent, mut counted) = (stage(&settings), 0, 0, 0);
        let mut seen = std::collections::BTreeSet::new();
        let sum = |summaries: Vec<(String, String)>| -> u64 {
            let of = |payload: &str| payload.split("\"count\":").nth(1).unwrap().split(',').next().unwrap().parse::<u64>().unwrap();
            summaries.iter().map(|(_, payload)| of(payload)).sum()
        };
        let total = steps.len() as u64;
        for (n, (group, level, pass, what)) in steps.into_iter().enumerate() {
            now += pass;
            let passed = passes(&mut *stage, &format!("s/{n}"), &format!("{{\"a\":{group},\"level\":{level}}}"), at(now));
            prop_assert!(passed || !seen.insert(group), "the first one of all is never held back");
            seen.insert(group);
            sent += u64::from(passed);
            match what {
                0 => {
                    let saved = stage.save(at(now)).unwrap();
                    stage = super::tests::stage(&settings);
                    stage.load(&saved, at(now)).unwrap();
                }
                1..8 => counted += sum(ticked(&mut *stage, at(now))),
                _ => {}
            }
            prop_assert!(stage.entries() <= room);
        }
        let mut late = Late::default();
        stage.flush(at(now), &mut late);
        prop_assert_eq!(sent + counted + sum(texts(late)), total);
        prop_assert_eq!(stage.entries(), 0);
    }

    #[test]
    fn any_bytes_are_loaded_or_refused(saved in proptest::collection::vec(any::<u8>(), 0..400), mono: u64, wall: u64) {
        let mut groups = Groups::new(60 * SECOND, 600 * SECOND, 3, 1000);
        let _ = groups.load(&saved, Now { mono, wall });
        prop_assert!(groups.len() <= 3);
    }
}
