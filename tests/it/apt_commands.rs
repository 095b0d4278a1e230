//! `shipper apt produce` and `simulate` as processes, on standard output and on a broker inside the test.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use shipper::net::kafka::{mock::Embedded, reader::Reader, settings::Connection};

fn apt(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shipper")).arg("apt").args(args).output().unwrap()
}

#[track_caller]
fn lines(args: &[&str]) -> Vec<Value> {
    let done = apt(args);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn is_high(message: &Value) -> bool {
    message.as_object().unwrap().values().any(|x| x.as_f64().is_some_and(|x| x > 0.8))
}

#[test]
fn twenty_messages_have_seven_anomalies_or_none() {
    let messages = lines(&["produce", "--num", "20", "--rate", "0", "--output", "stdout"]);
    assert_eq!((messages.len(), messages.iter().filter(|message| is_high(message)).count()), (20, 7));
    let calm = lines(&["produce", "--num", "20", "--rate", "0", "--no-anomalies", "--output", "stdout"]);
    assert_eq!((calm.len(), calm.iter().filter(|message| is_high(message)).count()), (20, 0));
    let begun = Instant::now();
    lines(&["produce", "--num", "3", "--rate", "10", "--output", "stdout"]);
    assert!(begun.elapsed() >= Duration::from_millis(200), "three at ten a second take two tenths");
}

/// The messages of a topic, as key and value.
fn topic(brokers: Vec<String>, topic: &str, count: usize) -> Vec<(String, Value)> {
    let connection = Connection { brokers, client_id: "test".into(), ..Connection::default() };
    let mut reader = Reader::open(&connection, topic, Duration::from_secs(60)).unwrap();
    let (mut found, begun) = (Vec::new(), Instant::now());
    while found.len() < count && begun.elapsed() < Duration::from_secs(60) {
        if let Some(message) = reader.next(Duration::from_millis(200)).unwrap() {
            let key = String::from_utf8(message.key.clone().unwrap_or_default()).unwrap();
            found.push((key, serde_json::from_slice(&message.payload).unwrap()));
        }
    }
    found
}

#[test]
fn what_is_sent_to_kafka_is_acknowledged_and_keyed_by_its_entity() {
    let broker = Embedded::start(1).unwrap();
    broker.create_topic("apt", 3).unwrap();
    let brokers = broker.brokers().join(",");
    let done = apt(&["produce", "--num", "50", "--rate", "0", "--brokers", &brokers, "--topic", "apt"]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.contains("50 messages, 17 anomalous: all acknowledged"), "{said}");
    let found = topic(broker.brokers(), "apt", 50);
    assert_eq!(found.len(), 50);
    assert!(found.iter().all(|(key, message)| message["entity"] == key.as_str()), "{found:?}");
}

#[test]
fn a_message_that_the_broker_refuses_is_told_and_the_command_fails() {
    let broker = Embedded::start(1).unwrap();
    broker.create_topic("apt", 1).unwrap();
    broker.refuse_next(1);
    let done = apt(&["produce", "--num", "1", "--rate", "0", "--brokers", &broker.brokers().join(","), "--topic", "apt"]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(74), "{said}");
    assert!(said.contains("0 acknowledged, 1 not; the first: topic \"apt\": larger than the topic takes"), "{said}");
}

#[test]
fn brokers_and_topic_are_those_of_a_config_and_no_password_is_shown() {
    let broker = Embedded::start(1).unwrap();
    broker.create_topic("of-config", 1).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("shipper.toml");
    let brokers = broker.brokers();
    std::fs::write(
        &config,
        format!("[sources.events]\nkind = \"kafka\"\nbrokers = {brokers:?}\ntopics = [\"of-config\"]\ngroup = \"g\"\n[sinks.other]\nkind = \"kafka\"\nbrokers = [\"nowhere.invalid:9\"]\ntopic = \"t\"\n"),
    )
    .unwrap();
    let path = config.display().to_string();
    let done = apt(&["produce", "--num", "2", "--rate", "0", "--config", &path, "--component", "sources.events"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(topic(brokers, "of-config", 2).len(), 2);
    for (args, code, part) in [
        (&["--config", &path][..], 64, "say which with --component: sources.events, sinks.other"),
        (&["--config", "/nowhere.toml"], 69, "/nowhere.toml"),
        (&["--output", "pigeon"], 64, "no output \"pigeon\"; known: kafka, stdout"),
        (&["--rate", "-1"], 64, "no rate"),
        (&["--brokers", "nowhere"], 78, "flag --brokers"),
    ] {
        let done = apt(&[&["produce", "--num", "1"][..], args].concat());
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.code() == Some(code) && said.contains(part), "{args:?}: {:?} {said}", done.status);
    }
}

/// A simulation that takes no time.
const SITE: &[&str] = &["simulate", "--output", "stdout", "--speed", "0", "--start", "2026-03-16T00:00:00Z", "--duration"];

#[test]
fn a_day_of_a_site_is_made_in_a_moment_and_is_the_same_again() {
    let day = [SITE, &["24h"]].concat();
    let (done, events) = (apt(&day), lines(&day));
    assert_eq!(done.stdout, apt(&day).stdout);
    assert_ne!(done.stdout, apt(&[&day[..], &["--seed", "2"]].concat()).stdout);
    let (first, last) = (&events[0]["timestamp"], &events.last().unwrap()["timestamp"]);
    assert_eq!((first, last.as_str().unwrap() < "2026-03-17"), (&"2026-03-16T00:00:00.000Z".into(), true));
    // Five turns a minute, and attacks at every third minute or so, two at a time.
    let of_attacks = events.iter().filter(|event| event["scenario_id"].is_string()).count();
    assert_eq!(events.len() - of_attacks, 24 * 60 * 5);
    assert!(of_attacks > 1000, "{of_attacks}");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(said.contains(&format!("{} events, ", events.len())) && said.contains("all written"), "{said}");
}

#[test]
fn an_attack_that_is_asked_for_starts_at_once_and_again() {
    let events = lines(&[SITE, &["2h", "--scenario", "brute_force", "--scenario", "data_exfiltration"]].concat());
    let mut ids: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for event in events.iter().filter(|event| event["scenario_id"].is_string()) {
        ids.entry(event["scenario_type"].as_str().unwrap()).or_default().insert(event["scenario_id"].as_str().unwrap());
    }
    assert_eq!(events[1]["scenario_type"], "brute_force");
    assert!(ids.len() == 2 && ids.values().all(|ids| ids.len() > 5), "{ids:?}");
}

/// What `shipper try --handler apt --explain` says of lines.
fn tried(lines: &[u8]) -> Vec<Value> {
    use std::io::Write;
    let mut child = Command::new(env!("CARGO_BIN_EXE_shipper"))
        .args(["try", "--handler", "apt", "--explain"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut into, lines) = (child.stdin.take().unwrap(), lines.to_vec());
    let writer = std::thread::spawn(move || into.write_all(&lines).unwrap());
    let done = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(done.status.success());
    String::from_utf8(done.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The alert among the messages of a record.
fn alert(record: &Value) -> Option<Value> {
    let messages = record["messages"].as_array()?;
    let alert = messages.iter().find(|message| message["output"] == "apt")?;
    Some(serde_json::from_str(alert["value"].as_str().unwrap()).unwrap())
}

#[test]
fn the_handler_takes_what_is_made_for_what_it_is_meant_to_be() {
    let produced = apt(&["produce", "--num", "20", "--rate", "0", "--output", "stdout"]).stdout;
    let records = tried(&produced);
    assert!(records.iter().all(|record| record["facts"]["apt"]["kind"] == "features"), "{records:?}");
    let alerts: Vec<usize> = records.iter().enumerate().filter(|(_, record)| alert(record).is_some()).map(|(n, _)| n).collect();
    assert_eq!(alerts, [0, 3, 6, 9, 12, 15, 18]);

    let simulated = apt(&[SITE, &["4h", "--frequency", "high"]].concat()).stdout;
    let events: Vec<Value> =
        simulated.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(|line| serde_json::from_slice(line).unwrap()).collect();
    let records = tried(&simulated);
    assert_eq!(records.len(), events.len());
    for (event, record) in events.iter().zip(&records) {
        let facts = &record["facts"]["apt"];
        assert_eq!(
            (&facts["kind"], &facts["entity"], &facts["event_type"]),
            (&"sim".into(), &event["entity"], &event["event_type"]),
            "{event}"
        );
        match alert(record) {
            Some(alert) if event["suspicious"] == true => {
                let of = |value: &Value| {
                    value["mitre_attack"]["techniques"]
                        .as_array()
                        .map_or(BTreeSet::new(), |all| all.iter().map(|t| t["id"].to_string()).collect())
                };
                let (said, told) = (of(event), of(&alert));
                assert!(said.is_empty() || said == told, "{event}\n{alert}");
            }
            Some(_) => {}
            None => assert_ne!(event["suspicious"], true, "{event}"),
        }
    }
}

#[test]
fn techniques_have_the_names_and_tactics_of_the_table() {
    use shipper::detect::attack::known;
    let mut seen = BTreeSet::new();
    for event in lines(&[SITE, &["24h", "--frequency", "high", "--rate", "20"]].concat()) {
        for technique in event["mitre_attack"]["techniques"].as_array().into_iter().flatten() {
            let id = technique["id"].as_str().unwrap();
            let parent = id.split('.').next().unwrap();
            let (name, tactics) = known(parent);
            assert_eq!(technique["name"], name, "{id}");
            let said: Vec<_> =
                technique["tactics"].as_array().unwrap().iter().map(|t| (t["id"].as_str().unwrap(), t["name"].as_str().unwrap())).collect();
            assert_eq!(said, tactics.list().collect::<Vec<_>>(), "{id}");
            seen.insert(id.to_owned());
        }
    }
    assert!(seen.len() >= 40, "{seen:?}");
}
