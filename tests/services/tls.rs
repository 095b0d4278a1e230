//! Certificates of every kind, against a broker that wants one: what is taken is shipped with, what
//! is refused holds before anybody connects, and `shipper check` says the same.

use std::fs;

use crate::{
    agent::House,
    broker::{allow, certificate, given, make_topic},
    topic::{compare, plain},
};

fn lines(from: u32, to: u32) -> String {
    let line = |n| format!("{{\"timestamp\":\"2026-03-14T06:25:12.001+0100\",\"rule\":{{\"level\":3,\"id\":\"5501\"}},\"id\":\"{n}\"}}\n");
    (from..to).map(line).collect()
}

/// Files of one connection, by their names in the folder of certificates.
#[derive(Clone, Copy)]
struct Files(&'static str, &'static str, &'static str);

fn sink(brokers: &str, topic: &str, Files(ca, cert, key): Files, more: &str) -> String {
    let [ca, cert, key] = [ca, cert, key].map(certificate);
    format!("brokers = [\"{brokers}\"]\ntopic = \"{topic}\"\ntls.ca = {ca:?}\ntls.cert = {cert:?}\ntls.key = {key:?}\n{more}")
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} is not in\n{text}"));
}

#[test]
fn tls_certificates_that_are_good_ship() {
    let (Some(brokers), Some(admin)) = (given("KAFKA_TLS_BROKERS"), given("KAFKA_TLS_ADMIN_BROKERS")) else { return };
    let password = format!("tls.key_password_file = {:?}", certificate("locked.password"));
    let rows: [(&str, Files, &str, &[&str]); 8] = [
        ("alice", Files("ca.pem", "alice.pem", "alice.key"), "", &["EC P-256, fits the certificate"]),
        ("alice", Files("ca.pem", "rsa.pem", "rsa.key"), "", &["RSA 2048, fits"]),
        ("alice", Files("ca.pem", "ed25519.pem", "ed25519.key"), "", &["Ed25519, fits"]),
        ("alice", Files("ca.pem", "via-middle.pem", "via.key"), "", &["CN=middle\" (tls.cert"]),
        ("alice", Files("ca-middle.pem", "via.pem", "via.key"), "", &["CN=middle\" (tls.ca"]),
        ("alice", Files("middle-ca.pem", "via.pem", "via.key"), "", &["CN=middle\" (tls.ca"]),
        ("alice", Files("ca.pem", "alice.pem", "locked.key"), &password, &["fits the certificate"]),
        // Another customer's is taken, and said.
        ("bob", Files("ca.pem", "bob.pem", "bob.key"), "", &["warning: tls.cert: the certificate is for \"bob\", the topic is"]),
    ];
    for (n, (user, files, more, parts)) in rows.into_iter().enumerate() {
        let topic = format!("tls-{n}");
        make_topic("kafka-tls", &topic, 2, &[]);
        allow(&topic, user);
        let house = House::new(&sink(&brokers, &topic, files, more));
        house.append(&lines(0, 100));
        let (code, text) = house.check(&[]);
        eprintln!("{text}");
        assert_eq!(code, Some(0), "{text}");
        has(&text, parts);
        has(
            &text,
            &[
                "good: chain: ",
                "answers, 1 in the cluster",
                "it takes our certificate",
                &format!("topic \"{topic}\" is there: 2 partitions"),
            ],
        );
        let agent = house.start();
        house.until_saved();
        assert_eq!(agent.lines(" ERROR "), 0);
        agent.stop();
        assert_eq!(compare(&plain(&admin), &topic, &house.alerts()).times.len(), 100, "{topic}");
    }
}

#[test]
fn tls_certificates_that_are_bad_hold_with_the_words_of_check() {
    let Some(brokers) = given("KAFKA_TLS_BROKERS") else { return };
    let rows: [(Files, &[&str]); 9] = [
        (Files("ca.pem", "expired.pem", "alice.key"), &["tls.cert ", "is expired: it ended on 2020-02-01 00:00:00 UTC"]),
        (Files("ca.pem", "early.pem", "alice.key"), &["is not valid before 2045-01-01 00:00:00 UTC"]),
        (Files("ca.pem", "alice.pem", "bob.key"), &["tls.key ", "is not the key of tls.cert", "SHA-256"]),
        (Files("stranger.pem", "alice.pem", "alice.key"), &["signed by \"CN=shipper test CA\", which is not in tls.ca", "CN=stranger"]),
        (Files("namesake.pem", "alice.pem", "alice.key"), &["was not signed by \"CN=shipper test CA\" in tls.ca", "another key"]),
        (Files("nosign.pem", "by-nosign.pem", "alice.key"), &["tls.ca ", "\"CN=nosign\" may not sign certificates"]),
        (Files("ca.pem", "via.pem", "via.key"), &["\"O=shipper test, CN=middle\", which is not in tls.ca", "append the intermediate"]),
        (Files("ca.pem", "alice.pem", "locked.key"), &["tls.key ", "is encrypted", "tls.key_password_file"]),
        (Files("ca.pem", "gone.pem", "alice.key"), &["tls.cert ", "gone.pem: cannot be read: No such file"]),
    ];
    for (files, parts) in rows {
        let house = House::new(&sink(&brokers, "any", files, ""));
        house.append(&lines(0, 10));
        let agent = house.start();
        agent.says(&[&["ERROR", "sinks.kafka", "holding"], parts].concat());
        for more in [&[][..], &["--offline"]] {
            let (code, text) = house.check(more);
            assert_eq!(code, Some(69), "{text}");
            has(&text, &[&["sinks.kafka: bad: "], parts].concat());
        }
        assert_eq!(house.dead_letters(), [], "what is held never goes to the dead letter");
        agent.kill();
    }
}

#[test]
fn tls_files_that_are_mended_let_it_go_on() {
    let (Some(brokers), Some(admin)) = (given("KAFKA_TLS_BROKERS"), given("KAFKA_TLS_ADMIN_BROKERS")) else { return };
    make_topic("kafka-tls", "mended", 1, &[]);
    allow("mended", "alice");
    let files = tempfile::tempdir().unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| files.path().join(name));
    fs::copy(certificate("expired.pem"), &cert).unwrap();
    fs::copy(certificate("alice.key"), &key).unwrap();
    let ca = certificate("ca.pem");
    let house =
        House::new(&format!("brokers = [\"{brokers}\"]\ntopic = \"mended\"\ntls.ca = {ca:?}\ntls.cert = {cert:?}\ntls.key = {key:?}"));
    house.append(&lines(0, 100));
    let agent = house.start();
    agent.says(&["ERROR", "sinks.kafka", "holding", "is expired"]);
    fs::copy(certificate("alice.pem"), &cert).unwrap();
    house.until_saved();
    assert_eq!(agent.lines(" ERROR "), 1);
    agent.stop();
    assert_eq!(compare(&plain(&admin), "mended", &house.alerts()).times.len(), 100);
    assert_eq!(house.dead_letters(), []);
}

#[test]
fn tls_check_says_what_the_broker_says() {
    let (Some(tls), Some(sasl), Some(open)) = (given("KAFKA_TLS_BROKERS"), given("KAFKA_SASL_BROKERS"), given("KAFKA_BROKERS")) else {
        return;
    };
    make_topic("kafka-tls", "nobodys", 1, &[]);
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "sesame").unwrap();
    let (ca, stranger) = (certificate("ca.pem"), certificate("stranger.pem"));
    let login = |user: &str, ca| {
        format!("tls.ca = {ca:?}\nsasl.mechanism = \"PLAIN\"\nsasl.username = \"{user}\"\nsasl.password_file = {:?}", secret.path())
    };
    let alice = Files("ca.pem", "alice.pem", "alice.key");
    let rows = [
        (sink(&tls, "nobodys", alice, ""), "does not exist, or this user may not see it"),
        (sink(&open, "any", alice, ""), "we speak TLS, the broker's port does not"),
        (sink("127.0.0.1:9", "any", alice, ""), "no broker answers"),
        (format!("brokers = [\"{tls}\"]\ntopic = \"any\""), "wants TLS"),
        (format!("brokers = [\"{sasl}\"]\ntopic = \"any\"\n{}", login("alice", &ca)), "refuses user name or password"),
        (format!("brokers = [\"{sasl}\"]\ntopic = \"any\"\n{}", login("alice", &stranger)), "not signed by tls.ca"),
        (format!("brokers = [\"{open}\"]\ntopic = \"is-not-there\""), "\"is-not-there\" does not exist"),
    ];
    for (settings, part) in rows {
        let (code, text) = House::new(&settings).check(&[]);
        eprintln!("{text}");
        assert_eq!(code, Some(69), "{text}");
        let bad: Vec<&str> = text.lines().filter(|line| line.starts_with("sinks.kafka: bad: ")).collect();
        assert!(bad.iter().any(|line| line.contains(part)), "{part:?} is not in\n{text}");
    }
    let (code, text) = House::new(&format!("brokers = [\"{open}\"]\ntopic = \"is-not-there\"")).check(&["--offline"]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = House::new("brokers = [\"kafka.example:9092\"]\ntopic = \"t\"").check(&["--offline"]);
    assert_eq!(code, Some(0), "{text}");
    has(&text, &["sinks.kafka: warning: alerts go in plain text to kafka.example:9092"]);
}
