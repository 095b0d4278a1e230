//! The Kafka sink over the real producer and the Kafka source, on the broker inside the process.

use std::{path::Path, time::Duration};

use shipper::{
    clock::SystemClock,
    io,
    metrics::State,
    net::kafka::{mock::Embedded, port::Producer, producer::Client},
};

use crate::{
    agent::{Started, start, until},
    kafka_sink::{Driven, batch, numbered, plain, read, settings},
    kafka_writer::Writer,
};

#[test]
fn what_goes_in_lies_in_the_topic_in_order_with_headers() {
    let cluster = Embedded::start(1).unwrap();
    cluster.create_topic("t", 2).unwrap();
    let connection = plain(&cluster.brokers().join(","));
    let sink = Driven::start(&settings(connection.clone(), "t"));
    for seq in 0..50 {
        sink.push(batch(seq, 200, Some(b"k"), numbered(seq)));
    }
    sink.wait("all are answered", |s| s.answered() == 10_000);
    assert_eq!(sink.standing.get(), State::Ready);
    assert_eq!(sink.refused(), []);
    sink.finish();
    let all = read(&connection, "t", 10_000);
    let payloads: Vec<_> = all.iter().map(|m| m.payload.clone()).collect();
    let expected: Vec<_> = (0..50).flat_map(|seq| (0..200).map(move |n| numbered(seq)(n))).collect();
    assert!(payloads == expected, "one key is one partition, and its order is the stream's: {} messages", payloads.len());
    assert_eq!(all[1].header("shipper-origin"), Some(&b"m/alerts/2026-03-14/000/1+2"[..]));
    assert_eq!(all[1].key.as_deref(), Some(&b"k"[..]));
}

#[test]
fn a_producer_of_a_pinned_shard_has_the_other_cores() {
    let cluster = Embedded::start(1).unwrap();
    cluster.create_topic("t", 1).unwrap();
    let connection = plain(&cluster.brokers().join(","));
    let cores = io::cores().unwrap();
    let setup = io::Setup {
        name: "pinned".into(),
        core: cores.last().copied(),
        network: false,
        slabs: io::SlabPool::new(1),
        watcher: io::watch::Watcher::new().unwrap(),
        clock: SystemClock::new(),
    };
    let of = |status: &str| status.lines().find(|line| line.starts_with("Cpus_allowed_list")).unwrap_or_default().to_owned();
    let theirs = io::spawn(io::Engine::Pread, setup, move |_| {
        Box::pin(async move {
            let mut client = Client::new(connection, "t", Vec::new());
            client.renew().unwrap();
            let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
            let named = |task: &std::path::PathBuf| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("rdk:"));
            // A thread of another test may end meanwhile.
            tasks.filter(named).filter_map(|task| std::fs::read_to_string(task.join("status")).ok()).collect::<Vec<_>>()
        })
    });
    let theirs = theirs.unwrap().join().unwrap();
    assert!(theirs.len() >= 2, "its main thread and a broker's at least: {theirs:?}");
    let ours = of(&std::fs::read_to_string("/proc/self/status").unwrap());
    for status in theirs {
        assert_eq!(of(&status), ours, "{status}");
    }
}

#[test]
fn a_message_beyond_the_clients_limit_is_refused_at_once_and_alone() {
    let cluster = Embedded::start(1).unwrap();
    cluster.create_topic("t", 1).unwrap();
    let sink = Driven::start(&settings(plain(&cluster.brokers().join(",")), "t"));
    sink.push(batch(0, 3, None, |n| vec![b'x'; if n == 1 { 1_200_000 } else { 10 }]));
    sink.wait("all are answered", |s| s.answered() == 3);
    let refused = sink.refused();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].0, (0, 1));
    assert!(refused[0].1.contains("1200000 bytes"), "{}", refused[0].1);
    sink.finish();
}

#[test]
fn an_outage_is_shown_and_loses_nothing() {
    let cluster = Embedded::start(1).unwrap();
    cluster.create_topic("t", 1).unwrap();
    let connection = plain(&cluster.brokers().join(","));
    let sink = Driven::start(&settings(connection.clone(), "t"));
    sink.push(batch(0, 100, None, numbered(0)));
    sink.wait("the first are answered", |s| s.answered() == 100);
    cluster.set_down(true);
    sink.push(batch(1, 100, None, numbered(1)));
    sink.wait("the outage is shown", |s| matches!(s.standing.get(), State::Retrying(_)));
    assert_eq!(sink.answered(), 100);
    cluster.set_down(false);
    sink.wait("all are answered", |s| s.answered() == 200);
    sink.wait("it is ready again", |s| s.standing.get() == State::Ready);
    sink.finish();
    assert_eq!(read(&connection, "t", 200).len(), 200);
}

#[test]
fn neighbours_of_a_refused_batch_are_delivered() {
    let cluster = Embedded::start(1).unwrap();
    cluster.create_topic("t", 1).unwrap();
    let connection = plain(&cluster.brokers().join(","));
    let mut settings = settings(connection.clone(), "t");
    settings.linger = Duration::from_millis(200);
    let sink = Driven::start(&settings);
    sink.wait("the broker answered", |s| s.standing.get() == State::Ready);
    // The broker blames a whole batch once; each of its messages, proven again, is fine.
    cluster.refuse_next(1);
    sink.push(batch(0, 50, None, numbered(0)));
    sink.wait("all are answered", |s| s.answered() == 50);
    assert_eq!(sink.refused(), []);
    sink.finish();
    let payloads: Vec<_> = read(&connection, "t", 50).into_iter().map(|m| m.payload).collect();
    assert_eq!(payloads, (0..50).map(numbered(0)).collect::<Vec<_>>());
}

/// An agent that reads a topic of this cluster into a file.
fn reading(cluster: &Embedded, dir: &Path) -> Started {
    start(&reader(cluster, dir), &dir.join("state"), io::Engine::Pread)
}

fn reader(cluster: &Embedded, dir: &Path) -> String {
    let (brokers, out) = (cluster.brokers().join(","), dir.join("out"));
    format!(
        "[sources.events]\nkind = \"kafka\"\nbrokers = \"{brokers}\"\ntopics = \"^in\"\ngroup = \"g\"\ncommit_interval = \"100ms\"\nsession_timeout = \"6s\"\n\
         [handlers.all]\nkind = \"forward\"\ninputs = [\"events\"]\n[sinks.out]\nkind = \"file\"\npath = {:?}\ninputs = [\"all\"]\n",
        out.display().to_string()
    )
}

/// A broker with topic `in`, a folder with an empty state, and who writes into the topic.
fn topic(partitions: u16) -> (Embedded, tempfile::TempDir, Writer) {
    let cluster = Embedded::start(1).unwrap();
    cluster.create_topic("in", partitions).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("state")).unwrap();
    let writer = Writer::open(&plain(&cluster.brokers().join(",")), "in");
    (cluster, dir, writer)
}

fn numbers(dir: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(dir.join("out")).unwrap_or_default();
    let mut all: Vec<u64> = text.lines().map(|line| line[5..].split(',').next().unwrap().parse().unwrap()).collect();
    all.sort_unstable();
    all
}

#[test]
fn a_source_reads_every_partition_and_goes_on_where_it_was() {
    let (cluster, dir, mut writer) = topic(3);
    writer.write(0..3000);
    let started = reading(&cluster, dir.path());
    until("all is read", || numbers(dir.path()) == (0..3000).collect::<Vec<_>>());
    assert!(started.agent.drain(), "nothing is left");
    writer.write(3000..3100);
    writer.tombstones(3);
    let started = reading(&cluster, dir.path());
    until("the rest is read", || numbers(dir.path()).len() >= 3100);
    until("it is ready", || started.board.standings().iter().any(|(name, state)| name == "sources.events" && *state == State::Ready));
    assert!(started.metrics.text().contains("shipper_kafka_partitions{component=\"sources.events\"} 3"));
    assert!(started.agent.drain(), "nothing is left");
    assert_eq!(numbers(dir.path()), (0..3100).collect::<Vec<_>>(), "once each");
}

#[test]
fn the_later_of_checkpoint_and_group_says_where_reading_begins() {
    let (cluster, one, mut writer) = topic(1);
    writer.write(0..100);
    let two = tempfile::tempdir().unwrap();
    std::fs::create_dir(two.path().join("state")).unwrap();
    let started = reading(&cluster, one.path());
    until("all is read", || numbers(one.path()).len() == 100);
    assert!(started.agent.drain());
    writer.write(100..150);
    // Another agent of the group, without rows, goes on where the group is.
    let started = reading(&cluster, two.path());
    until("the rest is read", || numbers(two.path()).len() == 50);
    assert!(started.agent.drain());
    assert_eq!(numbers(two.path()), (100..150).collect::<Vec<_>>());
    // And the first one's rows, older by now, do not bring that again.
    writer.write(150..160);
    let started = reading(&cluster, one.path());
    until("the last is read", || numbers(one.path()).len() >= 110);
    assert!(started.agent.drain());
    assert_eq!(numbers(one.path()), (0..100).chain(150..160).collect::<Vec<_>>());
}

#[test]
fn an_outage_of_the_brokers_is_waited_out() {
    let (cluster, dir, mut writer) = topic(1);
    writer.write(0..10);
    let started = reading(&cluster, dir.path());
    let stands = |wanted: fn(&State) -> bool| {
        let standings = started.board.standings();
        standings.iter().any(|(name, state)| name == "sources.events" && wanted(state))
    };
    until("all is read", || numbers(dir.path()).len() == 10);
    cluster.set_down(true);
    until("the outage is told", || stands(|state| matches!(state, State::Retrying(_))));
    cluster.set_down(false);
    until("it is ready again", || stands(|state| *state == State::Ready));
    writer.write(10..20);
    until("the rest is read", || numbers(dir.path()).len() == 20);
    assert!(started.agent.drain());
}

/// The group knows of none of it, but the agent does: it was away for so long that it lost the partition, and got it back.
#[test]
fn a_partition_that_comes_back_after_an_outage_goes_on_where_it_was_settled() {
    let (cluster, dir, mut writer) = topic(1);
    writer.write(0..10);
    let config = reader(&cluster, dir.path()).replace("commit_interval = \"100ms\"", "commit_interval = \"0s\"");
    let started = start(&config, &dir.path().join("state"), io::Engine::Pread);
    let has = |partitions| {
        let line = format!("shipper_kafka_partitions{{component=\"sources.events\"}} {partitions}");
        started.metrics.text().contains(&line)
    };
    until("all is read and acked", || {
        started.metrics.text().contains("shipper_in_flight_bytes{source=\"events\",branch=\"all\"} 0") && numbers(dir.path()).len() == 10
    });
    cluster.set_down(true);
    until("the partition is lost", || has(0));
    cluster.set_down(false);
    until("it is back", || has(1));
    writer.write(10..20);
    until("the rest is read", || numbers(dir.path()).contains(&19));
    assert!(started.agent.drain());
    assert_eq!(numbers(dir.path()), (0..20).collect::<Vec<_>>(), "once each");
}

#[test]
fn what_is_refused_is_in_another_topic_and_the_sums_add_up() {
    let (cluster, dir, mut writer) = topic(1);
    cluster.create_topic("dlq", 1).unwrap();
    let brokers = cluster.brokers().join(",");
    writer.write(0..10);
    writer.keyed("host-1", "{\"cut");
    writer.write(10..20);
    let config = format!(
        "[sources.events]\nkind = \"kafka\"\nbrokers = \"{brokers}\"\ntopics = \"in\"\ngroup = \"g\"\n\
         [handlers.all]\nkind = \"forward\"\ninputs = [\"events\"]\n\
         [sinks.out]\nkind = \"file\"\npath = {:?}\ninputs = [\"all\"]\n\
         [sinks.dlq]\nkind = \"kafka\"\nbrokers = \"{brokers}\"\ntopic = \"dlq\"\ninputs = [\"all.rejected\"]\n",
        dir.path().join("out").display().to_string()
    );
    let started = start(&config, &dir.path().join("state"), io::Engine::Pread);
    until("all is read", || numbers(dir.path()).len() == 20);
    let letters = read(&plain(&brokers), "dlq", 1);
    assert_eq!((letters[0].key.as_deref(), letters[0].payload.as_slice()), (Some(&b"host-1"[..]), &b"{\"cut"[..]));
    for (name, value) in
        [("shipper-origin", "kafka/in/0/10"), ("shipper.reason", "not_json"), ("shipper.topic", "in"), ("shipper.offset", "10")]
    {
        assert_eq!(letters[0].header(name), Some(value.as_bytes()), "{name}");
    }
    until("nothing is under way", || started.metrics.text().contains("shipper_in_flight_bytes{source=\"events\",branch=\"all\"} 0"));
    let text = started.metrics.text();
    let of = |name: &str| -> u64 {
        let rows = text.lines().filter(|line| line.starts_with(name) && line.contains("branch=\"all\""));
        rows.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    let (read, shipped, dead) = (of("shipper_read_bytes_total"), of("shipper_shipped_bytes_total"), of("shipper_dead_letter_bytes_total"));
    assert_eq!((read, dead), (shipped + 5, 5), "{text}");
    assert!(started.agent.drain());
}
