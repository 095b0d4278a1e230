//! Source `kafka` on a real Kafka: each record at least once, none lost, repeats only where nothing was committed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use shipper::net::kafka::{reader::Reader, settings::Connection};

use crate::{
    agent::{House, PATIENCE, wait},
    broker::{given, make_topic, services},
    kafka_writer::Writer,
};

/// Records of the runs.
fn events() -> u64 {
    std::env::var("SERVICES_EVENTS").map_or(20_000, |text| text.parse().expect("SERVICES_EVENTS is a number"))
}

/// How to reach the plain cluster.
pub fn connection(brokers: &str) -> Connection {
    Connection { brokers: vec![brokers.to_owned()], client_id: "test".into(), ..Connection::default() }
}

fn house(brokers: &str, topic: &str, more: &str) -> (House, PathBuf) {
    let mut out = PathBuf::new();
    let house = House::with(|dir| {
        out = dir.join("out.jsonl");
        let path = out.display().to_string();
        format!(
            "[sources.events]\nkind = \"kafka\"\nbrokers = [{brokers:?}]\ntopics = [{topic:?}]\ngroup = \"g-{topic}\"\ncommit_interval = \"500ms\"\n\
             session_timeout = \"6s\"\n{more}\n[handlers.all]\nkind = \"forward\"\ninputs = [\"events\"]\n\
             [sinks.out]\nkind = \"file\"\npath = {path:?}\ninputs = [\"all\"]\n"
        )
    });
    (house, out)
}

fn found(out: &[&Path]) -> BTreeMap<u64, u64> {
    let mut all = BTreeMap::new();
    for path in out {
        let text = fs::read_to_string(path).unwrap_or_default();
        for line in text.lines().filter(|line| line.starts_with("{\"n\":") && line.ends_with('}')) {
            *all.entry(line[5..].split(',').next().unwrap().parse().unwrap()).or_default() += 1;
        }
    }
    all
}

#[track_caller]
fn until_found(out: &[&Path], what: &str, count: u64) {
    let missing = || count - found(out).keys().filter(|n| **n < count).count() as u64;
    wait(&format!("{what}: all {count} are found"), || missing() == 0, || format!("{} are missing", missing()));
}

/// What the group `g-TOPIC` has committed, by partition.
fn committed(topic: &str) -> BTreeMap<u32, u64> {
    committed_by(&format!("g-{topic}"), topic)
}

/// What a group has committed, by partition.
pub fn committed_by(group: &str, topic: &str) -> BTreeMap<u32, u64> {
    let text = services(&["tool", "kafka", "groups", "--describe", "--group", group]);
    let row = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        (columns.get(1) == Some(&topic)).then(|| Some((columns.get(2)?.parse().ok()?, columns.get(3)?.parse().ok()?))).flatten()
    };
    text.lines().filter_map(row).collect()
}

#[test]
fn kills_lose_nothing_and_repeat_only_what_was_not_committed() {
    let Some(brokers) = given("KAFKA_BROKERS") else { return };
    make_topic("kafka", "in-kills", 3, &[]);
    let (house, out) = house(&brokers, "in-kills", "");
    let mut writer = Writer::open(&connection(&brokers), "in-kills");
    let (count, mut agent, mut may_repeat) = (events(), house.start(), 0);
    for part in 0..4 {
        // Counted before the write: all of a part may be out when the write returns.
        let before = found(&[&out]).len();
        writer.write(count * part / 4..count * (part + 1) / 4);
        if part < 3 {
            wait("some of it is out", || found(&[&out]).len() > before, || agent.said());
            agent.kill();
            // Nobody commits now: what is out and not below the group's offsets may come again.
            may_repeat += found(&[&out]).len() as u64 - committed("in-kills").values().sum::<u64>();
            agent = house.start();
        }
    }
    until_found(&[&out], "kills", count);
    wait("all is committed", || committed("in-kills").values().sum::<u64>() == count, || format!("{:?}", committed("in-kills")));
    agent.stop();
    let repeated: u64 = found(&[&out]).values().map(|times| times - 1).sum();
    eprintln!("{count} records, three kills, {repeated} repeated of {may_repeat} that were not committed");
    assert!(repeated <= may_repeat);
    // A clean start after a clean stop repeats nothing.
    let before = found(&[&out]);
    let agent = house.start();
    writer.write(count..count + 100);
    until_found(&[&out], "after a clean stop", count + 100);
    agent.stop();
    let after = found(&[&out]);
    assert!(before.iter().all(|(n, times)| after[n] == *times));
}

#[test]
fn three_members_share_six_partitions_and_hand_them_over() {
    let Some(brokers) = given("KAFKA_BROKERS") else { return };
    make_topic("kafka", "in-shared", 6, &[]);
    let mut writer = Writer::open(&connection(&brokers), "in-shared");
    let houses: Vec<_> = (0..3).map(|_| house(&brokers, "in-shared", "")).collect();
    let outs: Vec<&Path> = houses.iter().map(|(_, out)| out.as_path()).collect();
    let mut agents = vec![Some(houses[0].0.start()), None, None];
    let mut count = 0;
    // One comes after another, then one is stopped, one is killed, and one comes back. Records come until whoever has
    // come gets some, however long the group takes.
    let steps: [(usize, &str); 6] = [(0, "wait"), (1, "start"), (2, "start"), (0, "stop"), (1, "kill"), (0, "start")];
    for (who, what) in steps {
        writer.write(count..count + events() / 6);
        count += events() / 6;
        match what {
            "start" => agents[who] = Some(houses[who].0.start()),
            "stop" => agents[who].take().unwrap().stop(),
            "kill" => agents[who].take().unwrap().kill(),
            _ => {}
        }
        let (before, began) = (found(&[outs[who]]).len(), Instant::now());
        while agents[who].is_some() && found(&[outs[who]]).len() == before {
            assert!(began.elapsed() < PATIENCE, "{who} has come and got nothing of {count} records");
            writer.write(count..count + 60);
            count += 60;
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    until_found(&outs, "members come and go", count);
    wait("all is committed", || committed("in-shared").values().sum::<u64>() == count, || format!("{:?}", committed("in-shared")));
    agents.into_iter().flatten().for_each(|agent| agent.stop());
    let by: Vec<usize> = outs.iter().map(|out| found(&[out]).len()).collect();
    let repeated: u64 = found(&outs).values().map(|times| times - 1).sum();
    eprintln!("{count} records over 6 partitions, by member {by:?}, {repeated} repeated");
    assert!(by.iter().all(|n| *n > 0), "{by:?}");
    for (house, _) in &houses {
        assert_eq!(house.dead_letters().len(), 0);
    }
}

/// Offsets that the agent says it is behind, by partition.
fn lags(socket: &Path) -> BTreeMap<String, i64> {
    let mut text = String::new();
    if let Ok(mut stream) = UnixStream::connect(socket) {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
        stream.read_to_string(&mut text).unwrap();
    }
    let row = |line: &str| {
        let (labels, value) = line.strip_prefix("shipper_kafka_lag_offsets{")?.split_once("} ")?;
        Some((labels.split("partition=\"").nth(1)?.split('"').next()?.to_owned(), value.parse().ok()?))
    };
    text.lines().filter_map(row).collect()
}

#[test]
fn the_lag_of_each_partition_is_told_in_offsets() {
    let Some(brokers) = given("KAFKA_BROKERS") else { return };
    make_topic("kafka", "in-lag", 2, &[]);
    let (mut folder, mut socket) = (PathBuf::new(), PathBuf::new());
    let house = House::with(|dir| {
        (folder, socket) = (dir.join("later"), dir.join("api.sock"));
        let (path, listen) = (folder.join("out.jsonl").display().to_string(), format!("unix:{}", socket.display()));
        format!(
            "[api]\nlisten = {listen:?}\n[sources.events]\nkind = \"kafka\"\nbrokers = [{brokers:?}]\ntopics = [\"in-lag\"]\ngroup = \"g-in-lag\"\n\
             options = {{ \"statistics.interval.ms\" = \"500\" }}\n[handlers.all]\nkind = \"forward\"\ninputs = [\"events\"]\n\
             [sinks.out]\nkind = \"file\"\npath = {path:?}\ninputs = [\"all\"]\n"
        )
    });
    let mut writer = Writer::open(&connection(&brokers), "in-lag");
    writer.write(0..1000);
    let agent = house.start();
    let sum = || lags(&socket).values().sum::<i64>();
    wait("nothing is settled yet", || lags(&socket).len() == 2 && sum() == 1000, || format!("{:?}\n{}", lags(&socket), agent.said()));
    fs::create_dir(&folder).unwrap();
    wait("all is settled", || lags(&socket).len() == 2 && sum() == 0, || format!("{:?}\n{}", lags(&socket), agent.said()));
    agent.stop();
}

#[test]
fn tombstones_are_passed_over_and_a_topic_that_is_not_there_holds() {
    let Some(brokers) = given("KAFKA_BROKERS") else { return };
    make_topic("kafka", "in-tombs", 1, &[]);
    let mut writer = Writer::open(&connection(&brokers), "in-tombs");
    writer.write(0..10);
    writer.tombstones(5);
    writer.write(10..20);
    writer.tombstones(5);
    let (house, out) = house(&brokers, "in-tombs", "");
    let agent = house.start();
    until_found(&[&out], "tombstones", 20);
    wait("they are committed as well", || committed("in-tombs").get(&0) == Some(&30), || format!("{:?}", committed("in-tombs")));
    agent.stop();
    let all: BTreeSet<u64> = found(&[&out]).into_keys().collect();
    assert_eq!(all, (0..20).collect());

    let missing = house.again(|graph| graph.replace("topics = [\"in-tombs\"]", "topics = [\"in-missing\"]"));
    let (code, text) = missing.check(&[]);
    assert!(code == Some(69) && text.contains("\"in-missing\" does not exist"), "{code:?} {text}");
    let agent = missing.start();
    agent.says(&["holding", "a topic does not exist"]);
    agent.stop();
}

#[test]
fn what_is_refused_goes_to_a_topic_with_its_key_and_its_reason_and_holds_nobody_up() {
    let Some(brokers) = given("KAFKA_BROKERS") else { return };
    make_topic("kafka", "in-poison", 3, &[]);
    make_topic("kafka", "in-poison.dlq", 1, &[]);
    let dlq = format!("[sinks.dlq]\nkind = \"kafka\"\nbrokers = [{brokers:?}]\ntopic = \"in-poison.dlq\"\ninputs = [\"all.rejected\"]\n");
    let (house, out) = house(&brokers, "in-poison", &dlq);
    let mut writer = Writer::open(&connection(&brokers), "in-poison");
    let (count, poison) = (events(), events() / 100);
    for part in 0..poison {
        writer.write(count * part / poison..count * (part + 1) / poison);
        writer.keyed(&format!("key-{part}"), &format!("{{\"broken\": {part}"));
    }
    let agent = house.start();
    until_found(&[&out], "with poison", count);
    agent.kill();
    let agent = house.start();
    wait("all is committed", || committed("in-poison").values().sum::<u64>() == count + poison, || format!("{:?}", committed("in-poison")));
    agent.stop();
    let mut reader = Reader::open(&connection(&brokers), "in-poison.dlq", Duration::from_secs(60)).unwrap();
    let (mut letters, mut quiet) = (BTreeMap::<String, u64>::new(), Instant::now());
    while quiet.elapsed() < Duration::from_secs(5) {
        let Some(letter) = reader.next(Duration::from_millis(200)).unwrap() else { continue };
        quiet = Instant::now();
        let header = |name: &str| String::from_utf8_lossy(letter.header(name).unwrap_or_else(|| panic!("no header {name}"))).into_owned();
        let key = String::from_utf8(letter.key.clone().expect("the key is kept")).unwrap();
        let part = key.strip_prefix("key-").unwrap();
        assert_eq!(letter.payload, format!("{{\"broken\": {part}").into_bytes());
        assert_eq!((header("shipper.reason"), header("shipper.topic")), ("not_json".into(), "in-poison".into()));
        assert!(header("shipper.timestamp").parse::<u64>().unwrap() > 1_700_000_000_000);
        let address = format!("kafka/in-poison/{}/{}", header("shipper.partition"), header("shipper.offset"));
        assert_eq!(header("shipper-origin"), address);
        *letters.entry(address).or_default() += 1;
    }
    let times: u64 = letters.values().sum();
    eprintln!("{count} records and {poison} that are none: {} in the topic for them, {times} times", letters.len());
    assert_eq!(letters.len() as u64, poison);
    assert_eq!(house.dead_letters().len(), 0);
}
