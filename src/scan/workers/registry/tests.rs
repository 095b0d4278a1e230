//! Who may register, who is well, who is asked next.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may fail")]

use std::cell::Cell;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const SECOND: Nanos = 1_000_000_000;

/// A clock that is set by hand, in seconds since it began; its wall time began at 1000.
#[derive(Default)]
struct Hand(Cell<Nanos>);

impl Hand {
    fn to(&self, seconds: f64) -> &Self {
        self.0.set((seconds * 1e9) as Nanos);
        self
    }
}

impl Clock for Hand {
    fn now(&self) -> Nanos {
        1000 * SECOND + self.0.get()
    }
    fn mono(&self) -> Nanos {
        self.0.get()
    }
}

fn registration(id: &str, more: serde_json::Value) -> Registration {
    let mut whole = json!({"worker_id": id, "host": "127.0.0.1", "port": 8001, "max_tasks": 2});
    for (name, value) in more.as_object().expect("an object") {
        whole[name] = value.clone();
    }
    Registration::parse(whole.as_object().expect("an object")).expect("valid")
}

fn heartbeat(value: serde_json::Value) -> Heartbeat {
    Heartbeat::parse(value.as_object().expect("an object")).expect("valid")
}

const HERE: &[IpAddr] = &[IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)];

fn registry() -> Registry {
    Registry::new(Settings { max: 3, ..Settings::default() }, Balance::default())
}

fn join(registry: &mut Registry, id: &str, more: serde_json::Value, clock: &Hand) -> Result<Registered, Refusal> {
    registry.register(registration(id, more), HERE, Some(HERE[0]), clock)
}

fn none(_: &str) -> u32 {
    0
}

#[test]
fn a_status_is_a_matter_of_time_alone() {
    let (mut registry, clock) = (registry(), Hand::default());
    join(&mut registry, "w-1", json!({}), &clock).expect("registered");
    let rows = [
        (0.0, Status::Healthy),
        (48.0, Status::Healthy),
        (48.001, Status::Unhealthy),
        (60.0, Status::Unhealthy),
        (60.001, Status::Offline),
    ];
    for (at, want) in rows {
        assert_eq!(registry.status("w-1", clock.to(at)), Some(want), "at {at}");
    }
    registry.heartbeat("w-1", Heartbeat::default(), clock.to(100.0)).expect("known");
    assert_eq!(registry.status("w-1", clock.to(148.0)), Some(Status::Healthy));
    assert_eq!(registry.status("w-2", &clock), None);
    assert_eq!(registry.counts(&clock), BTreeMap::from([(Status::Healthy, 1)]));
}

#[test]
fn the_same_id_is_replaced_by_its_own_instance_or_when_it_stands_badly() {
    let rows = [
        // Instance of the first, of the second, seconds between, what comes of it.
        (json!("a"), json!("a"), 1.0, Ok(Registered::Replaced)),
        (json!("a"), json!("b"), 1.0, Err(Refusal::Taken("w-1".into()))),
        (json!("a"), json!(null), 1.0, Err(Refusal::Taken("w-1".into()))),
        (json!(null), json!("a"), 48.0, Err(Refusal::Taken("w-1".into()))),
        (json!(null), json!(null), 1.0, Err(Refusal::Taken("w-1".into()))),
        (json!(null), json!(null), 49.0, Ok(Registered::Replaced)),
        (json!("a"), json!("b"), 61.0, Ok(Registered::Replaced)),
    ];
    for (first, second, later, want) in rows {
        let (mut registry, clock) = (registry(), Hand::default());
        assert_eq!(join(&mut registry, "w-1", json!({"instance_id": first}), &clock), Ok(Registered::New));
        let found = join(&mut registry, "w-1", json!({"instance_id": second, "port": 9000}), clock.to(later));
        assert_eq!(found, want, "{first} then {second} after {later} s");
        let port = registry.place("w-1").map(|(_, _, port)| port);
        assert_eq!(port, Some(if want.is_ok() { 9000 } else { 8001 }));
    }
}

#[test]
fn no_more_than_max_register_and_a_known_one_may_come_again() {
    let (mut registry, clock) = (registry(), Hand::default());
    for id in ["w-1", "w-2", "w-3"] {
        assert_eq!(join(&mut registry, id, json!({"instance_id": "a"}), &clock), Ok(Registered::New));
    }
    assert_eq!(join(&mut registry, "w-4", json!({}), &clock), Err(Refusal::TooMany(3)));
    assert_eq!(join(&mut registry, "w-3", json!({"instance_id": "a"}), &clock), Ok(Registered::Replaced));
    assert!(registry.remove("w-1") && !registry.remove("w-1"));
    assert_eq!(join(&mut registry, "w-4", json!({}), &clock), Ok(Registered::New));
}

#[test]
fn only_allowed_networks_may_call_and_be_called() {
    let settings = Settings {
        hosts: ["127.0.0.0/8", "::1/128", "10.1.0.0/16"].map(|net| net.parse().expect("a network")).into(),
        ..Settings::default()
    };
    let of = |text: &str| text.split_whitespace().map(|address| address.parse().expect("an address")).collect::<Vec<IpAddr>>();
    let rows = [
        ("127.0.0.1", "127.0.0.1", Ok(Registered::New)),
        ("::1", "::ffff:127.0.0.1", Ok(Registered::New)),
        ("10.1.2.3 10.1.2.4", "10.1.2.3", Ok(Registered::New)),
        ("10.1.2.3 10.2.2.4", "10.1.2.3", Err(Refusal::Host)),
        ("169.254.169.254", "10.1.2.3", Err(Refusal::Host)),
        ("", "10.1.2.3", Err(Refusal::Host)),
        ("10.1.2.3", "10.2.0.1", Err(Refusal::Caller)),
        ("::ffff:10.2.0.1", "127.0.0.1", Err(Refusal::Host)),
    ];
    for (addresses, caller, want) in rows {
        let mut registry = Registry::new(settings.clone(), Balance::default());
        let found = registry.register(registration("w-1", json!({})), &of(addresses), of(caller).pop(), &Hand::default());
        assert_eq!(found, want, "{addresses} from {caller}");
        assert_eq!(registry.place("w-1").map(|(_, address, _)| address), if want.is_ok() { of(addresses).first().copied() } else { None });
    }
    assert_eq!(Refusal::TooMany(3).code(), "too_many_workers");
}

#[test]
fn what_a_heartbeat_does_not_say_stays_as_it_was() {
    let (mut registry, clock) = (registry(), Hand::default());
    assert_eq!(registry.heartbeat("w-1", Heartbeat::default(), &clock), None);
    join(&mut registry, "w-1", json!({}), &clock).expect("registered");
    let all = json!({"current_tasks": 2, "total_processed": 9, "error_count": 1, "average_processing_time": 2.0, "cpu_usage": 50, "memory_usage": 20, "running": ["t-1"]});
    assert_eq!(registry.heartbeat("w-1", heartbeat(all), clock.to(1.0)), Some(vec!["t-1".to_owned()]));
    let before = registry.row("w-1", &|_| 1, &clock).expect("known");
    assert!((before.load_factor - (0.15 + 0.06 + 0.2)).abs() < 1e-9);
    assert_eq!(registry.heartbeat("w-1", Heartbeat::default(), clock.to(2.0)), Some(vec![]));
    let after = registry.row("w-1", &|_| 1, &clock).expect("known");
    assert_eq!(after, Row { last_heartbeat: 1002.0, uptime: 2.0, ..before });
    assert_eq!((after.current_tasks, after.in_flight), (2, 1), "what it says, and what the leases say");
    registry.heartbeat("w-1", heartbeat(json!({"average_processing_time": 3.0})), &clock);
    let after = registry.row("w-1", &none, &clock).expect("known");
    assert!((after.average_processing_time - 2.1).abs() < 1e-9);
}

#[test]
fn nothing_that_a_worker_says_of_its_tasks_draws_more_of_them() {
    let (mut registry, clock) = (registry(), Hand::default());
    for id in ["w-1", "w-2"] {
        join(&mut registry, id, json!({}), &clock).expect("registered");
    }
    registry.heartbeat("w-1", heartbeat(json!({"current_tasks": 0})), &clock);
    let in_flight = |id: &str| u32::from(id == "w-1");
    assert_eq!(registry.pick(&[], &in_flight, &BTreeSet::new(), &clock), Pick::Worker("w-2".into()));
}

#[test]
fn of_workers_with_the_same_tasks_the_host_that_is_less_busy_is_chosen() {
    let (mut registry, clock) = (registry(), Hand::default());
    for id in ["w-1", "w-2"] {
        join(&mut registry, id, json!({}), &clock).expect("registered");
    }
    registry.heartbeat("w-1", heartbeat(json!({"cpu_usage": 90.0, "memory_usage": 50.0})), &clock);
    registry.heartbeat("w-2", heartbeat(json!({"cpu_usage": 80.0, "memory_usage": 50.0})), &clock);
    let row = registry.row("w-1", &none, &clock).expect("known");
    assert_eq!((row.cpu_usage, row.memory_usage), (Some(90.0), Some(50.0)));
    assert!((row.load_factor - 0.42).abs() < 1e-9, "0.3 of the processors, 0.3 of memory: {row:?}");
    let pick = |registry: &mut Registry| registry.pick(&[], &none, &BTreeSet::new(), &clock);
    assert_eq!([pick(&mut registry), pick(&mut registry)], ["w-2", "w-2"].map(|id| Pick::Worker(id.into())));
    registry.heartbeat("w-1", heartbeat(json!({"cpu_usage": 10.0})), &clock);
    assert_eq!(pick(&mut registry), Pick::Worker("w-1".into()));
}

#[test]
fn whoever_is_full_silent_or_has_refused_gets_nothing() {
    let (mut registry, clock) = (registry(), Hand::default());
    for id in ["w-1", "w-2", "w-3"] {
        join(&mut registry, id, json!({}), &clock).expect("registered");
    }
    registry.heartbeat("w-1", Heartbeat::default(), clock.to(40.0));
    registry.heartbeat("w-2", Heartbeat::default(), clock.to(40.0));
    let clock = clock.to(50.0);
    let full = |id: &str| if id == "w-1" { 2 } else { 0 };
    assert_eq!(registry.pick(&[], &full, &BTreeSet::new(), clock), Pick::Worker("w-2".into()));
    assert_eq!(registry.pick(&[], &full, &BTreeSet::from(["w-2".into()]), clock), Pick::Nobody);
    assert_eq!(
        [registry.room("w-1", 0, clock), registry.room("w-1", 2, clock), registry.room("w-3", 0, clock), registry.room("w-9", 0, clock)],
        [2, 0, 0, 0]
    );
}

#[test]
fn equal_workers_take_turns() {
    let (mut registry, clock) = (registry(), Hand::default());
    for id in ["w-2", "w-1", "w-3"] {
        join(&mut registry, id, json!({}), &clock).expect("registered");
    }
    let turns: Vec<Pick> = (0..4).map(|_| registry.pick(&[], &none, &BTreeSet::new(), &clock)).collect();
    assert_eq!(turns, ["w-1", "w-2", "w-3", "w-1"].map(|id| Pick::Worker(id.into())));
}

#[test]
fn whoever_falls_is_told_once_and_the_time_of_the_next_fall_is_known() {
    let (mut registry, clock) = (registry(), Hand::default());
    assert_eq!(registry.next_fall(), None);
    join(&mut registry, "w-1", json!({}), &clock).expect("registered");
    join(&mut registry, "w-2", json!({}), clock.to(30.0)).expect("registered");
    assert_eq!(registry.next_fall(), Some(60 * SECOND + 1));
    assert!(registry.fallen(clock.to(60.0)).is_empty());
    clock.0.set(60 * SECOND + 1);
    assert_eq!(registry.fallen(&clock), ["w-1"]);
    assert!(registry.fallen(&clock).is_empty());
    assert_eq!(registry.next_fall(), Some(90 * SECOND + 1));
    registry.heartbeat("w-1", Heartbeat::default(), clock.to(200.0));
    assert_eq!(registry.fallen(&clock), ["w-2"]);
    assert_eq!(registry.fallen(clock.to(261.0)), ["w-1"], "it came back, and fell again");
}

#[test]
fn what_is_kept_comes_back_with_its_age() {
    let (mut before, clock) = (registry(), Hand::default());
    for (id, at) in [("w-1", 0.0), ("w-2", 40.0), ("w-3", 70.0)] {
        join(&mut before, id, json!({"instance_id": id}), clock.to(at)).expect("registered");
    }
    let kept: Vec<Kept> = ["w-1", "w-2", "w-3"].iter().filter_map(|id| before.kept(id).cloned()).collect();
    let text = serde_json::to_string(&kept).expect("JSON");
    // The process begins anew, so its monotonic time does; wall time has gone on to 1090.
    struct Anew;
    impl Clock for Anew {
        fn now(&self) -> Nanos {
            1090 * SECOND
        }
        fn mono(&self) -> Nanos {
            0
        }
    }
    let mut after = registry();
    after.restore(serde_json::from_str(&text).expect("as it was written"), &Anew);
    assert_eq!(
        ["w-1", "w-2", "w-3"].map(|id| after.status(id, &Anew)),
        [Some(Status::Offline), Some(Status::Unhealthy), Some(Status::Healthy)]
    );
    assert_eq!(after.fallen(&Anew), ["w-1"]);
    assert_eq!(after.kept("w-2"), before.kept("w-2"));
}

#[test]
fn what_is_offered_to_a_worker_depends_on_the_balance() {
    use Capability::{FileScan, LogAnalysis, NetworkAnalysis, YaraAnalysis};
    let rows = [
        (Algorithm::LoadBased, true, vec![FileScan, YaraAnalysis, NetworkAnalysis, LogAnalysis]),
        (Algorithm::RoundRobin, false, vec![FileScan, YaraAnalysis, NetworkAnalysis, LogAnalysis]),
        (Algorithm::CapabilityBased, true, vec![FileScan]),
        // Somebody else can do log_analysis; network_analysis and yara_analysis nobody.
        (Algorithm::CapabilityBased, false, vec![FileScan, YaraAnalysis, NetworkAnalysis]),
    ];
    for (algorithm, strict, want) in rows {
        let balance = Balance { algorithm, strict, ..Balance::default() };
        let (mut registry, clock) = (Registry::new(Settings::default(), balance), Hand::default());
        join(&mut registry, "w-1", json!({"capabilities": ["file_scan"]}), &clock).expect("registered");
        join(&mut registry, "w-2", json!({"capabilities": ["log_analysis"]}), &clock).expect("registered");
        assert_eq!(registry.offered("w-1", &clock), want, "{algorithm:?} {strict}");
    }
}

#[test]
fn a_task_for_which_nobody_is_able_waits_or_is_counted() {
    for (strict, want, counted) in [(true, Pick::Nobody, 0), (false, Pick::Worker("w-1".into()), 1)] {
        let balance = Balance { algorithm: Algorithm::CapabilityBased, strict, ..Balance::default() };
        let (mut registry, clock) = (Registry::new(Settings::default(), balance), Hand::default());
        join(&mut registry, "w-1", json!({"capabilities": ["file_scan"]}), &clock).expect("registered");
        assert_eq!(registry.pick(&[Capability::LogAnalysis], &none, &BTreeSet::new(), &clock), want);
        assert_eq!(registry.incapable(), counted);
    }
}

proptest! {
    /// Whatever happens, nobody is given more than it takes, and whoever is picked stands well.
    #[test]
    fn nobody_is_overfilled(
        steps in prop::collection::vec((0u8..4, 0usize..3, 0u64..30), 1..60),
        algorithm in prop::sample::select(vec![Algorithm::LoadBased, Algorithm::RoundRobin, Algorithm::CapabilityBased]),
    ) {
        let balance = Balance { algorithm, ..Balance::default() };
        let (mut registry, clock) = (Registry::new(Settings::default(), balance), Hand::default());
        let mut leases: BTreeMap<String, u32> = BTreeMap::new();
        for (step, who, later) in steps {
            clock.0.set(clock.0.get() + later * SECOND);
            let id = ["w-a", "w-b", "w-c"][who];
            match step {
                0 => drop(join(&mut registry, id, json!({"instance_id": "a"}), &clock)),
                1 => drop(registry.heartbeat(id, Heartbeat::default(), &clock)),
                2 => for fallen in registry.fallen(&clock) { leases.remove(&fallen); },
                _ => {
                    let picked = registry.pick(&[], &|id| leases.get(id).copied().unwrap_or(0), &BTreeSet::new(), &clock);
                    match picked {
                        Pick::Worker(id) => {
                            prop_assert_eq!(registry.status(&id, &clock), Some(Status::Healthy));
                            *leases.entry(id.clone()).or_default() += 1;
                            prop_assert!(leases[&id] <= 2);
                        }
                        Pick::Nobody => {
                            let room: u32 = ["w-a", "w-b", "w-c"].iter().map(|id| registry.room(id, leases.get(*id).copied().unwrap_or(0), &clock)).sum();
                            prop_assert_eq!(room, 0);
                        }
                    }
                }
            }
        }
    }
}
