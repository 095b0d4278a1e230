//! Live alerts into a real topic: all of them, in order, through kills and outages.

use std::time::Duration;

use crate::{
    agent::{House, Process, manager},
    broker::{allow, certificate, given, make_topic, services},
    topic::{Found, compare, plain},
};

/// Alerts of the long runs.
fn alerts() -> u64 {
    std::env::var("SERVICES_ALERTS").map_or(100_000, |text| text.replace('M', "000000").parse().expect("SERVICES_ALERTS is a number"))
}

/// Alerts a second.
const RATE: u64 = 20_000;
/// Bytes of an alert of the natural mix, roughly: two rotations on the way.
const ALERT_BYTES: u64 = 1585;

/// Ships `count` live alerts over `rotations`, with `kills` on the way; gives what the topic holds
/// and the watermark that was saved at each kill.
fn ship(house: &House, topic: &str, count: u64, rotations: u64, kills: u64) -> (Found, Vec<(u32, u64)>) {
    let mut agent = house.start();
    let mut writer = manager(&house.alerts(), count, RATE, count * ALERT_BYTES / (rotations + 1) + ALERT_BYTES * 100);
    let mut watermarks = Vec::new();
    let whole = Duration::from_secs(count / RATE);
    for _ in 0..kills {
        std::thread::sleep(whole / u32::try_from(kills + 1).unwrap());
        agent.kill();
        watermarks.push(house.watermark());
        agent = house.start();
    }
    assert!(writer.wait().unwrap().success());
    drain(house, agent);
    assert_eq!(house.dead_letters(), []);
    let found = compare(&plain(&given(admin(topic)).unwrap()), topic, &house.alerts());
    eprintln!("{topic}: {} messages, {} records, {} repeated", found.messages, found.times.len(), found.repeated().count());
    assert_eq!(found.times.len() as u64, count);
    (found, watermarks)
}

/// The address at which the administrator reads what was written to `topic`.
fn admin(topic: &str) -> &'static str {
    if topic.starts_with("tls") { "KAFKA_TLS_ADMIN_BROKERS" } else { "KAFKA_BROKERS" }
}

/// Waits until all is acked and saved, then stops.
fn drain(house: &House, agent: Process) {
    house.until_saved();
    agent.stop();
}

#[track_caller]
fn check_repeats(found: &Found, watermarks: &[(u32, u64)]) {
    for (at, times) in found.repeated() {
        let may = watermarks.iter().filter(|watermark| **watermark <= at).count();
        assert!(times as usize - 1 <= may, "{at:?} was found {times} times, the saved watermarks were {watermarks:?}");
    }
}

#[test]
fn live_alerts_over_two_rotations_lie_in_the_topic_in_order_and_once() {
    let Some(brokers) = given("KAFKA_BROKERS") else { return };
    make_topic("kafka", "live", 3, &[]);
    let house = House::new(&format!("brokers = [\"{brokers}\"]\ntopic = \"live\""));
    let (found, _) = ship(&house, "live", alerts(), 2, 0);
    assert_eq!((found.repeated().count(), found.steps_back), (0, 0));
}

#[test]
fn three_kills_lose_nothing_and_repeat_only_what_was_not_saved() {
    let Some(brokers) = given("KAFKA_BROKERS") else { return };
    make_topic("kafka", "kills", 1, &[]);
    let house = House::new(&format!("brokers = [\"{brokers}\"]\ntopic = \"kills\""));
    let (found, watermarks) = ship(&house, "kills", alerts(), 2, 3);
    check_repeats(&found, &watermarks);
    assert!(found.steps_back <= 3, "at most one step back a kill");
}

#[test]
fn client_certificates_through_a_rotation_and_a_kill() {
    let Some(brokers) = given("KAFKA_TLS_BROKERS") else { return };
    make_topic("kafka-tls", "tls-mtls", 1, &[]);
    allow("tls-mtls", "alice");
    let house = House::new(&format!(
        "brokers = [\"{brokers}\"]\ntopic = \"tls-mtls\"\ntls.ca = {:?}\ntls.cert = {:?}\ntls.key = {:?}",
        certificate("ca.pem"),
        certificate("alice.pem"),
        certificate("alice.key")
    ));
    let (found, watermarks) = ship(&house, "tls-mtls", 100_000, 1, 1);
    check_repeats(&found, &watermarks);
}

#[test]
fn scram_over_tls_through_a_rotation_and_a_kill() {
    let Some(brokers) = given("KAFKA_SASL_BROKERS") else { return };
    make_topic("kafka-tls", "tls-scram", 1, &[]);
    allow("tls-scram", "bob");
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "bob-secret\n").unwrap();
    let house = House::new(&format!(
        "brokers = [\"{brokers}\"]\ntopic = \"tls-scram\"\ntls.ca = {:?}\nsasl.mechanism = \"SCRAM-SHA-512\"\nsasl.username = \"bob\"\nsasl.password_file = {:?}",
        certificate("ca.pem"),
        secret.path()
    ));
    let (found, watermarks) = ship(&house, "tls-scram", 100_000, 1, 1);
    check_repeats(&found, &watermarks);
}

/// The broker of this test alone, since a pause is felt by everyone.
#[test]
fn a_broker_that_stands_still_for_a_minute_costs_time_and_nothing_else() {
    let Some(brokers) = given("KAFKA_PAUSED_BROKERS") else { return };
    make_topic("kafka-paused", "paused", 1, &[]);
    let house = House::new(&format!("brokers = [\"{brokers}\"]\ntopic = \"paused\""));
    let agent = house.start();
    let mut writer = manager(&house.alerts(), 80_000, 1000, 80_000 * ALERT_BYTES);
    std::thread::sleep(Duration::from_secs(5));
    services(&["pause", "kafka-paused"]);
    let line = agent.says(&["sinks.kafka", "retrying"]);
    assert!(line.contains("no answer") || line.contains("no broker answers") || line.contains("did not answer"), "{line}");
    std::thread::sleep(Duration::from_secs(60));
    services(&["resume", "kafka-paused"]);
    assert!(writer.wait().unwrap().success());
    drain(&house, agent);
    let found = compare(&plain(&brokers), "paused", &house.alerts());
    assert_eq!((found.times.len(), found.repeated().count(), found.steps_back), (80_000, 0, 0));
    assert_eq!(house.dead_letters(), []);
}
