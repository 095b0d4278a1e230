//! The stage as a home drives it: events in, alerts and rows out, over snapshots and replays.

use std::borrow::Cow;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    batch::{Apart, Batch},
    detect::{Class, Severity, attack::Evidence, seed::Chance},
    position::Position,
    register::{Errors, Node as Tree},
};

const START: i64 = 1_740_823_200_000;

fn parse(settings: &str) -> (Box<dyn Spec>, String) {
    let (node, mut errors) = (Tree::parse_toml(settings).unwrap(), Errors::default());
    let spec = Kinds.parse(&mut Section::open("stages.behaviour", &node, FIELDS, &[], &mut errors));
    (spec, errors.to_string())
}

fn stage(settings: &str) -> Box<dyn Stage> {
    let (spec, errors) = parse(settings);
    assert_eq!(errors, "");
    spec.build(&Shelf::default())
}

#[test]
fn who_asks_for_an_entity_is_told_what_is_usual_for_it() {
    let spec = parse("").0;
    assert_eq!(spec.holds(), Some(30_000_000_000));
    let mut stage = spec.build(&Shelf::default());
    let questions = spec.questions().unwrap();
    for n in 0..40_i64 {
        let ms = START + n * 600_000;
        take(&mut *stage, n as u64, &event(ms, "host1", "a", true), now(ms));
        tick(&mut *stage, now(ms));
    }
    let (known, unknown) = (questions.ask("host1").unwrap(), questions.ask("host2").unwrap());
    let at = stage.due().unwrap();
    tick(&mut *stage, Now { mono: at, ..now(START) });
    let behaviour = known.answer().unwrap();
    assert_eq!((behaviour.data_points, behaviour.start_ms), (38, START));
    assert_eq!(behaviour.features["number_of_failed_logins_mean"].current, 0.5);
    assert_eq!(unknown.answer(), None);
}

fn event(ts_ms: i64, entity: &str, kind: &str, counts: bool) -> Vec<u8> {
    let mut payload = Vec::new();
    Event {
        ts_ms,
        entity: Cow::Borrowed(entity),
        entity_type: Cow::Borrowed("host"),
        source: if counts { Class::Wazuh } else { Class::Sigma },
        event_type: Cow::Borrowed("authentication"),
        kind: Cow::Borrowed(kind),
        counts,
        features: [0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        present: 0b100,
        level: 5,
        sigma: (!counts).then_some(Severity::High),
        techniques: vec![(Cow::Borrowed("T1110"), Evidence::Rule)],
        agent_id: Cow::Borrowed("001"),
    }
    .write(&mut payload);
    payload
}

/// What came out: origin, output, payload; with origin none for what was made of a message at once.
type Told = Vec<(Option<String>, usize, String)>;

fn take(stage: &mut dyn Stage, n: u64, payload: &[u8], now: Now) -> (Fate, Told) {
    let mut batch = Batch::apart(0, 0, Position::Count(0), 0);
    let origin = format!("kafka/apt/0/{n}");
    batch.push(Apart { output: 0, branch: 0, origin: origin.as_bytes(), key: None, payload, time_ms: 0 });
    let mut out = Out::default();
    let fate = stage.take(&batch.message(0), now, &mut out);
    let told = out.made().map(|(output, _, payload)| (None, output, String::from_utf8(payload.to_vec()).unwrap())).collect();
    (fate, told)
}

fn tick(stage: &mut dyn Stage, now: Now) -> Told {
    let mut told = Vec::new();
    while stage.due().is_some_and(|due| due <= now.mono) {
        let mut late = Late::default();
        stage.tick(now, &mut late);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        told.extend(late.messages.into_iter().map(|one| (Some(text(one.origin)), one.output, text(one.payload))));
    }
    told
}

fn now(ms: i64) -> Now {
    Now { mono: 1, wall: u64::try_from(ms + 3_600_000).unwrap() * 1_000_000 }
}

/// Events of five hosts, with an attack now and then.
fn stream(seed: u64, n: usize) -> Vec<Vec<u8>> {
    let (mut chance, mut ms, mut all) = (Chance(seed), START, Vec::new());
    while all.len() < n {
        ms += chance.below(3000) as i64;
        let host = format!("host{}", chance.below(5));
        all.push(event(ms, &host, &format!("rule {}", chance.below(3)), true));
        if chance.below(200) == 0 {
            (0..50).for_each(|n| all.push(event(ms, &host, &format!("attack {}", n % 25), true)));
        } else if chance.below(60) == 0 {
            all.push(event(ms, &host, "sigma", false));
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// A run that is killed: its snapshot is older than what it took, or the saved position older than the snapshot.
    #[test]
    fn after_a_kill_and_a_replay_the_same_is_told(seed in any::<u64>(), saved in 1..900usize, from in 0..900usize, every in 1..40usize) {
        let settings = "window = '10s'\nallowed_lateness = '2s'\nthreshold = '0.6'\nalert_budget_per_day = 0";
        let stream = stream(seed, 900);
        let run = |stage: &mut dyn Stage, from: usize, to: usize, told: &mut Told| {
            for (n, payload) in stream.iter().enumerate().take(to).skip(from) {
                told.extend(take(stage, n as u64, payload, now(START)).1);
                if n % every == 0 {
                    told.extend(tick(stage, now(START)));
                }
            }
        };
        let (mut whole, mut told) = (stage(settings), Vec::new());
        run(&mut *whole, 0, stream.len(), &mut told);
        told.extend(tick(&mut *whole, now(START)));

        let (saved, from) = (saved.min(stream.len()), from.min(saved));
        let (mut one, mut again) = (stage(settings), Vec::new());
        run(&mut *one, 0, saved, &mut again);
        let bytes = one.save(now(START)).unwrap();
        let mut two = stage(settings);
        two.load(&bytes, now(START)).unwrap();
        prop_assert_eq!(two.entries(), one.entries());
        // What the snapshot has is read again and not counted again; then it goes on.
        run(&mut *two, from, stream.len(), &mut again);
        again.extend(tick(&mut *two, now(START)));
        let sorted = |told: &Told| { let mut told = told.clone(); told.sort(); told };
        prop_assert_eq!(sorted(&told), sorted(&again));
        prop_assert_eq!(whole.save(now(START)), two.save(now(START)));
        for end in (0..bytes.len()).step_by(997) {
            prop_assert!(stage(settings).load(&bytes[..end], now(START)).is_err());
        }
    }
}

#[test]
fn silence_closes_windows_and_an_alert_says_what_dashboards_read() {
    let mut stage = stage("window = '10s'\nthreshold = '0.6'\nalert_budget_per_day = 0\nidle_close = '2m'");
    assert_eq!(stage.due(), None);
    for n in 0..3000_i64 {
        let payload = event(START + n * 1000, &format!("host{}", n % 3), &format!("rule {}", n % 5), true);
        assert_eq!(take(&mut *stage, n as u64, &payload, now(START)).0, Fate::Dropped("windowed"));
    }
    tick(&mut *stage, now(START));
    for n in 0..200 {
        let payload = event(START + 3_000_000 + n, "host1", &format!("attack {n}"), true);
        take(&mut *stage, 3000 + n as u64, &payload, Now { mono: 5, ..now(START) });
    }
    take(&mut *stage, 3200, &event(START + 3_000_300, "host1", "sigma", false), Now { mono: 5, ..now(START) });
    let idle = 5 + 120_000_000_000;
    assert_eq!(stage.due(), Some(0), "the last events closed windows");
    tick(&mut *stage, now(START));
    assert!(tick(&mut *stage, Now { mono: idle - 1, ..now(START) }).is_empty());
    let told = tick(&mut *stage, Now { mono: idle, ..now(START) });
    assert_eq!(stage.due(), Some(idle + LOOK_EVERY), "only whether somebody asks");
    let alerts: Vec<&(Option<String>, usize, String)> =
        told.iter().filter(|(_, output, alert)| *output == 0 && alert.contains("\"events\":200")).collect();
    let [(origin, _, alert)] = alerts[..] else { panic!("{told:?}") };
    assert_eq!(origin.as_deref(), Some("kafka/apt/0/3000"));
    let alert: Value = serde_json::from_str(alert).unwrap();
    let expected = [
        ("entity", json!("host1")),
        ("entity_type", json!("host")),
        ("event_type", json!("authentication")),
        ("detection_type", json!("behavioral_analytics")),
        ("timestamp", json!("2025-03-01T10:50:10.000Z")),
        ("window", json!({"start": "2025-03-01T10:50:00.000Z", "end": "2025-03-01T10:50:10.000Z", "events": 200})),
        ("source", json!({"type": "behavioral_analytics", "agent_id": "001"})),
    ];
    for (member, value) in expected {
        assert_eq!(alert[member], value, "{alert:#}");
    }
    assert_eq!(alert["evidence"].as_array().unwrap().len(), 16);
    assert_eq!(alert["causes"][0]["feature"], "number_of_failed_logins_mean");
    assert_eq!(alert["mitre_attack"]["techniques"][0]["id"], "T1110");
    assert_eq!((&alert["detector"]["name"], alert["severity"].as_str()), (&json!("rcf"), Some("High")), "{alert:#}");
    assert!(alert["message"].as_str().unwrap().contains(" is as unusual: "), "{alert:#}");
    assert!(alert["details"]["shares"].as_object().unwrap().len() == 8 && alert["details"]["kinds"] == 200, "{alert:#}");
    let row: Value =
        serde_json::from_str(&told.iter().find(|(_, output, row)| *output == 1 && row.contains("\"alert\":true")).unwrap().2).unwrap();
    assert_eq!((&row["alert"], &row["number_of_failed_logins_mean"], &row["alert_count"]), (&json!(true), &json!(100), &json!(200)));
}

#[test]
fn what_is_no_event_is_dropped_and_wrong_settings_are_answered() {
    let mut stage = stage("");
    assert_eq!(take(&mut *stage, 0, b"{}", now(START)).0, Fate::Dropped("no_event"));
    assert!(parse("threshold = '7'").1.contains("is no number from 0.5 to 1"));
    assert!(parse("window = '1ms'").1.contains("is shorter than 1000 ms"));
    // At the end of a run that nothing keeps, all that is open is told.
    take(&mut *stage, 1, &event(START, "host1", "a", true), now(START));
    let mut late = Late::default();
    stage.flush(now(START), &mut late);
    assert_eq!(late.messages.iter().map(|one| one.output).collect::<Vec<_>>(), [1]);
}

#[test]
fn other_settings_begin_anew() {
    let mut one = stage("");
    take(&mut *one, 1, &event(START, "host1", "a", true), now(START));
    let bytes = one.save(now(START)).unwrap();
    let mut two = stage("seed = 7");
    two.load(&bytes, now(START)).unwrap();
    assert_eq!((one.entries(), two.entries()), (1, 0));
    assert_eq!(take(&mut *two, 1, &event(START, "host1", "a", true), now(START)).0, Fate::Dropped("windowed"));
}

#[test]
fn a_window_that_the_models_score_high_is_an_alert_of_theirs() {
    let (spec, errors) = parse("models = ['m']\nwindow = '10m'\n");
    assert_eq!(errors, "");
    let mut stage = spec.build(&crate::tables::model::tests::shelf_with("m", "alert_count", 2.5));
    for (n, (host, count)) in [("quiet", 2), ("busy", 3)].into_iter().enumerate() {
        for event_number in 0..count {
            let payload = event(START + event_number * 1000, host, "rule 1", true);
            take(&mut *stage, n as u64 * 10 + event_number as u64, &payload, now(START));
        }
    }
    let mut late = Late::default();
    stage.flush(now(START + 1_200_000), &mut late);
    let alerts: Vec<Value> =
        late.messages.iter().filter(|one| one.output == 0).map(|one| serde_json::from_slice(&one.payload).unwrap()).collect();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    for (member, value) in
        [("detection_type", json!("model")), ("entity", json!("busy")), ("severity", json!("Medium")), ("prediction_score", json!(0.75))]
    {
        assert_eq!(alerts[0][member], value, "{alerts:?}");
    }
    assert_eq!(alerts[0]["models"], json!({"m": 0.75}));
}
