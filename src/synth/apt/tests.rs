//! A whole simulation, and its form against events of the program that it stands in for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;

use super::{
    Made,
    features::Features,
    scenario,
    simulation::{Frequency, Hours, Settings, Simulation},
};

/// 2026-03-16T00:00:00Z, a Monday.
const MONDAY: u64 = 1_773_619_200_000_000_000;
const HOUR: u64 = 3_600_000_000_000;

fn quiet(seed: u64) -> Settings {
    Settings { frequency: Frequency::Off, ..Settings::new(seed, MONDAY) }
}

fn value(made: &Made) -> Value {
    serde_json::from_slice(&made.json).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&made.json)))
}

#[test]
fn a_seed_is_one_run_and_another_seed_is_another() {
    let run = |seed| Simulation::new(Settings::new(seed, MONDAY)).take(2000).collect::<Vec<_>>();
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    assert!(run(3).is_sorted_by_key(|made| made.at));
}

#[test]
fn generators_are_drawn_by_weight_and_their_kinds_evenly() {
    let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
    for made in Simulation::new(quiet(5)).take(20_000) {
        *kinds.entry(value(&made)["event_type"].as_str().expect("text").to_owned()).or_default() += 1;
    }
    let share = |names: [&str; 5]| names.map(|name| kinds[name]);
    let all = [
        (share(["network_connection", "port_scan", "traffic_spike", "dns_query", "firewall"]), 1600),
        (share(["process", "file", "registry", "authentication", "service"]), 1600),
        (share(["login", "privilege_change", "account_change", "password_change", "group_membership"]), 800),
    ];
    for (counts, expected) in all {
        assert!(counts.iter().all(|n| n.abs_diff(expected) < expected / 5), "{kinds:?}");
    }
    assert_eq!(kinds.len(), 15);
}

#[test]
fn severities_and_suspicions_are_as_frequent_as_they_are_said_to_be() {
    let (mut usual, mut grave, mut fails, mut logins) = (BTreeMap::<String, u32>::new(), BTreeSet::new(), 0u32, 0u32);
    for made in Simulation::new(quiet(6)).take(20_000) {
        let event = value(&made);
        let severity = event["severity"].as_str().expect("text").to_owned();
        if event["suspicious"] == true {
            assert!(event["reason"].is_string() && event["mitre_attack"]["techniques"].is_array(), "{event}");
            grave.insert(severity);
        } else {
            *usual.entry(severity).or_default() += 1;
        }
        if event["event_type"] == "login" {
            logins += 1;
            fails += u32::from(event["login_status"] == "failure");
        }
    }
    assert_eq!(grave, BTreeSet::from(["High".to_owned(), "Medium".to_owned()]));
    let all: u32 = usual.values().sum();
    for (name, percent) in [("Low", 50), ("Medium", 30), ("High", 15), ("Critical", 5)] {
        assert!((usual[name] * 100 / all).abs_diff(percent) <= 2, "{usual:?}");
    }
    assert!((fails * 100 / logins).abs_diff(20) <= 5, "{fails} of {logins}");
}

#[test]
fn the_clock_is_virtual_and_goes_by_the_rate() {
    let mut run = Simulation::new(Settings { per_minute: 600.0, ..quiet(1) });
    assert_eq!(run.nth(6000).map(|made| made.at), Some(MONDAY + 600_000_000_000));
}

#[test]
fn outside_of_working_hours_there_is_less_and_fewer_users() {
    let run = Simulation::new(Settings { hours: Some(Hours::default()), per_minute: 60.0, ..quiet(2) });
    let (mut by_day, mut by_night) = ([0u32; 2], [0u32; 2]);
    for made in run.take_while(|made| made.at < MONDAY + 24 * HOUR) {
        let counts = if (9..17).contains(&((made.at - MONDAY) / HOUR)) { &mut by_day } else { &mut by_night };
        counts[0] += 1;
        counts[1] += u32::from(value(&made)["entity_type"] == "user");
    }
    // Eight hours of day, sixteen of night.
    assert!((8 * 3600 - 60..=8 * 3600 + 60).contains(&by_day[0]), "{by_day:?}");
    assert!((16 * 720 - 60..=16 * 720 + 60).contains(&by_night[0]), "{by_night:?}");
    assert!((by_day[1] * 100 / by_day[0]).abs_diff(20) <= 2 && by_night[1] * 100 / by_night[0] <= 7, "{by_day:?} {by_night:?}");
}

#[test]
fn hours_may_go_over_midnight_and_belong_to_the_day_on_which_they_began() {
    let night = Hours { start: 22, end: 6, days: [true, false, false, false, false, false, false] };
    let at = |hour: u64| night.hold(MONDAY + hour * HOUR);
    assert_eq!([0, 5, 21, 22, 29, 30, 46].map(at), [false, false, false, true, true, false, false]);
    let saturday = MONDAY + 5 * 24 * HOUR + 12 * HOUR;
    assert!(Hours::default().hold(MONDAY + 9 * HOUR) && !Hours::default().hold(MONDAY + 17 * HOUR) && !Hours::default().hold(saturday));
}

#[test]
fn attacks_start_by_chance_and_by_hand_and_as_often_as_one_likes() {
    let minutes = 2000;
    for (frequency, low, high) in
        [(Frequency::Off, 0, 0), (Frequency::Low, 120, 280), (Frequency::Medium, 450, 750), (Frequency::High, 800, 1200)]
    {
        let mut run = Simulation::new(Settings { frequency, concurrent: 1000, ..Settings::new(8, MONDAY) });
        let _ = run.by_ref().take_while(|made| made.at < MONDAY + minutes * 60_000_000_000).count();
        assert!((low..=high).contains(&run.started()), "{frequency:?}: {} in {minutes} minutes", run.started());
    }
    let mut run = Simulation::new(Settings { frequency: Frequency::High, ..Settings::new(8, MONDAY) });
    for _ in 0..20_000 {
        let _ = run.next();
        assert!(run.active() <= 2);
    }
    let mut run = Simulation::new(quiet(9));
    let mut ids = BTreeSet::new();
    for _ in 0..3 {
        run.start(scenario::named("brute_force").expect("known"));
        run.start(scenario::named("brute_force").expect("known"));
        while run.active() > 0 {
            let event = value(&run.next().expect("endless"));
            ids.extend(event["scenario_id"].as_str().map(str::to_owned));
        }
    }
    assert_eq!(ids.len(), 6);
}

#[test]
fn names_of_documents_only_are_nobodys() {
    let text: Vec<u8> = Simulation::new(Settings::new(10, MONDAY)).take(5000).flat_map(|made| made.json).collect();
    let text = String::from_utf8(text).expect("UTF-8");
    let addresses = text.split('"').filter_map(|part| part.parse::<std::net::Ipv4Addr>().ok());
    let mut seen = 0;
    for address in addresses {
        assert!(address.is_private() || address.is_documentation(), "{address}");
        seen += 1;
    }
    assert!(seen > 1000, "{seen}");
}

/// Members of events by kind, and whether they are of a scenario: those of any, and those of every one.
type Members = BTreeMap<(String, bool), (BTreeSet<String>, BTreeSet<String>)>;

fn members(events: impl Iterator<Item = Value>) -> Members {
    let mut all = Members::new();
    for event in events {
        let names: BTreeSet<String> = event.as_object().expect("an object").keys().cloned().collect();
        let kind = (event["event_type"].as_str().unwrap_or("features").to_owned(), event["scenario_id"].is_string());
        let (any, every) = all.entry(kind).or_insert_with(|| (BTreeSet::new(), names.clone()));
        any.extend(names.iter().cloned());
        every.retain(|name| names.contains(name));
    }
    all
}

/// A file of `SHIPPER_CORPUS`, or `../shared/corpus`, if it is there.
fn corpus(name: &str) -> Option<Vec<Value>> {
    #[allow(clippy::disallowed_methods, reason = "a test is told where the corpus lies")]
    let folder = std::env::var("SHIPPER_CORPUS").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus").into());
    #[allow(clippy::disallowed_methods, reason = "a test reads the corpus")]
    let text = fs::read_to_string(Path::new(&folder).join("apt").join(name)).ok()?;
    Some(text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect())
}

#[test]
fn every_kind_of_event_has_the_members_that_the_program_gives_it() {
    let Some(theirs) = corpus("sim_events.jsonl") else { return eprintln!("skipped: no corpus") };
    let mut run = Simulation::new(quiet(11));
    let mut ours: Vec<Value> = run.by_ref().take(5000).map(|made| value(&made)).collect();
    for _ in 0..5 {
        scenario::ALL.iter().for_each(|scenario| run.start(scenario));
        while run.active() > 0 {
            ours.extend(run.next().map(|made| value(&made)));
        }
    }
    let (ours, theirs) = (members(ours.into_iter()), members(theirs.into_iter()));
    assert!(ours.keys().eq(theirs.keys()), "{:?}\n{:?}", ours.keys(), theirs.keys());
    for (kind, (any, every)) in &theirs {
        assert_eq!(&ours[kind].0, any, "{kind:?}: members of any event");
        assert_eq!(&ours[kind].1, every, "{kind:?}: members of every event");
    }
}

#[test]
fn messages_of_features_have_the_members_of_the_programs() {
    let Some(theirs) = corpus("feature_messages.jsonl") else { return eprintln!("skipped: no corpus") };
    let mut features = Features::new(1, true);
    let ours: Vec<Value> = (0..theirs.len()).map(|_| value(&features.message(MONDAY))).collect();
    let high = |events: &[Value]| {
        let above = |event: &Value| event.as_object().is_some_and(|object| object.values().any(|x| x.as_f64().is_some_and(|x| x > 0.8)));
        events.iter().filter(|event| above(event)).count()
    };
    assert_eq!(high(&ours), high(&theirs));
    assert_eq!(members(ours.into_iter()), members(theirs.into_iter()));
}
