//! What a real broker refuses: named in one line with the remedy, held, mended, and nothing lost.

use std::fs;

use shipper::dead_letter::Kind;

use crate::{
    agent::{House, Process},
    broker::{allow, certificate, given, make_topic},
    topic::{compare, plain},
};

/// Lines as a manager writes them.
fn lines(from: u32, to: u32) -> String {
    let line = |n| format!("{{\"timestamp\":\"2026-03-14T06:25:12.001+0100\",\"rule\":{{\"level\":3,\"id\":\"5501\"}},\"id\":\"{n}\"}}\n");
    (from..to).map(line).collect()
}

/// Starts an agent on 500 lines and waits until it says that it holds, in one line with every part.
#[track_caller]
fn held(house: &House, parts: &[&str]) -> Process {
    house.append(&lines(0, 500));
    let agent = house.start();
    agent.says(&[&["sinks.kafka", "holding"], parts].concat());
    agent
}

/// More lines once it is mended: each arrives once, and none was refused.
#[track_caller]
fn check_mended(house: &House, agent: Process, brokers: &str, topic: &str) {
    house.append(&lines(500, 600));
    house.until_saved();
    let told = agent.lines(" ERROR ");
    assert!(told <= 5, "{told} lines of errors for one trouble");
    agent.stop();
    let found = compare(&plain(brokers), topic, &house.alerts());
    assert_eq!((found.times.len(), found.repeated().count(), found.steps_back), (600, 0, 0));
    assert_eq!(house.dead_letters(), [], "what is held never goes to the dead letter");
}

#[test]
fn a_topic_that_may_not_be_written_is_held_until_it_may() {
    let (Some(brokers), Some(admin)) = (given("KAFKA_TLS_BROKERS"), given("KAFKA_TLS_ADMIN_BROKERS")) else { return };
    make_topic("kafka-tls", "forbidden", 1, &[]);
    let house = House::new(&mtls(&brokers, "forbidden", "bob"));
    let agent = held(&house, &["forbidden", "not authorised", "Write"]);
    allow("forbidden", "bob");
    check_mended(&house, agent, &admin, "forbidden");
}

#[test]
fn a_topic_that_is_not_there_is_held_until_it_is_made() {
    let Some(brokers) = given("KAFKA_BROKERS") else { return };
    let house = House::new(&format!("brokers = [\"{brokers}\"]\ntopic = \"not-there\""));
    let agent = held(&house, &["not-there", "create"]);
    make_topic("kafka", "not-there", 1, &[]);
    check_mended(&house, agent, &brokers, "not-there");
}

#[test]
fn a_wrong_password_is_held_until_the_file_is_right() {
    let (Some(brokers), Some(admin)) = (given("KAFKA_SASL_BROKERS"), given("KAFKA_TLS_ADMIN_BROKERS")) else { return };
    make_topic("kafka-tls", "password", 1, &[]);
    allow("password", "alice");
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "sesame").unwrap();
    let house = House::new(&format!(
        "brokers = [\"{brokers}\"]\ntopic = \"password\"\ntls.ca = {:?}\nsasl.mechanism = \"SCRAM-SHA-512\"\nsasl.username = \"alice\"\nsasl.password_file = {:?}",
        certificate("ca.pem"),
        secret.path()
    ));
    let agent = held(&house, &["user name or password", "sasl.username"]);
    fs::write(secret.path(), "alice-secret").unwrap();
    check_mended(&house, agent, &admin, "password");
}

#[test]
fn a_ca_that_did_not_sign_the_broker_is_held_until_the_file_is_right() {
    let (Some(brokers), Some(admin)) = (given("KAFKA_SASL_BROKERS"), given("KAFKA_TLS_ADMIN_BROKERS")) else { return };
    make_topic("kafka-tls", "ca", 1, &[]);
    allow("ca", "alice");
    let files = tempfile::tempdir().unwrap();
    let (ca, secret) = (files.path().join("ca.pem"), files.path().join("password"));
    fs::copy(certificate("stranger.pem"), &ca).unwrap();
    fs::write(&secret, "alice-secret").unwrap();
    let house = House::new(&format!(
        "brokers = [\"{brokers}\"]\ntopic = \"ca\"\ntls.ca = {ca:?}\nsasl.mechanism = \"PLAIN\"\nsasl.username = \"alice\"\nsasl.password_file = {secret:?}"
    ));
    let agent = held(&house, &["not signed by tls.ca"]);
    fs::copy(certificate("ca.pem"), &ca).unwrap();
    check_mended(&house, agent, &admin, "ca");
}

#[test]
fn a_certificate_that_the_broker_does_not_know_is_held() {
    let Some(brokers) = given("KAFKA_TLS_BROKERS") else { return };
    let files = tempfile::tempdir().unwrap();
    // Our own files fit each other: only the broker can tell that it does not know this signer.
    let ca = files.path().join("ca.pem");
    fs::write(&ca, [fs::read(certificate("ca.pem")).unwrap(), fs::read(certificate("stranger.pem")).unwrap()].concat()).unwrap();
    let house = House::new(&format!(
        "brokers = [\"{brokers}\"]\ntopic = \"any\"\ntls.ca = {ca:?}\ntls.cert = {:?}\ntls.key = {:?}",
        certificate("stranger.pem"),
        certificate("stranger.key")
    ));
    held(&house, &["does not", "tls.cert"]).kill();
}

#[test]
fn tls_on_a_plain_port_and_plain_text_on_a_tls_port_are_told() {
    let (Some(tls), Some(plain)) = (given("KAFKA_TLS_BROKERS"), given("KAFKA_BROKERS")) else { return };
    let house = House::new(&mtls(&plain, "any", "alice"));
    held(&house, &["speak TLS", "remove tls"]).kill();
    let house = House::new(&format!("brokers = [\"{tls}\"]\ntopic = \"any\""));
    house.append(&lines(0, 10));
    let agent = house.start();
    agent.says(&["sinks.kafka", "retrying", &tls, "wants TLS", "tls.ca"]);
    agent.kill();
}

#[test]
fn a_broker_that_is_not_there_is_told_with_its_address() {
    if given("KAFKA_BROKERS").is_none() {
        return;
    }
    let house = House::new("brokers = [\"127.0.0.1:9\"]\ntopic = \"any\"");
    house.append(&lines(0, 10));
    let agent = house.start();
    agent.says(&["sinks.kafka", "retrying", "127.0.0.1:9", "brokers"]);
    agent.kill();
    assert_eq!(house.dead_letters(), []);
}

#[test]
fn a_record_too_large_goes_to_the_dead_letter_and_its_neighbours_arrive() {
    let Some(brokers) = given("KAFKA_BROKERS") else { return };
    make_topic("kafka", "small", 1, &["--config", "max.message.bytes=20000"]);
    let house = House::new(&format!("brokers = [\"{brokers}\"]\ntopic = \"small\"\ncompression = \"none\"\nbatch_bytes = 15000"));
    let pad = "x".repeat(30_000);
    let large = |n: u32| format!("{{\"timestamp\":\"2026-03-14T06:25:12.001+0100\",\"id\":\"{n}\",\"pad\":\"{pad}\"}}\n");
    house.append(&[lines(0, 300), large(300), lines(301, 600), large(600), lines(601, 900)].concat());
    let agent = house.start();
    house.until_saved();
    agent.stop();
    let letters = house.dead_letters();
    let sizes: Vec<_> = letters.iter().map(|(header, bytes)| (header.kind, bytes.len())).collect();
    let large = large(300).len() - 1;
    assert_eq!(sizes, [(Kind::Message, large), (Kind::Message, large)]);
    assert!(letters.iter().all(|(h, _)| h.detail.contains("max.message.bytes") || h.reason.contains("max.message.bytes")), "{letters:?}");
    let found = crate::topic::read(&plain(&brokers), "small", &house.alerts());
    assert_eq!((found.times.len(), found.repeated().count()), (898, 0));
}

fn mtls(brokers: &str, topic: &str, who: &str) -> String {
    format!(
        "brokers = [\"{brokers}\"]\ntopic = \"{topic}\"\ntls.ca = {:?}\ntls.cert = {:?}\ntls.key = {:?}",
        certificate("ca.pem"),
        certificate(&format!("{who}.pem")),
        certificate(&format!("{who}.key"))
    )
}
