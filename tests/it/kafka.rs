//! The Kafka sink over the real producer, on the broker inside the process.

use std::time::Duration;

use shipper::{
    clock::SystemClock,
    io,
    metrics::State,
    net::kafka::{mock::Embedded, port::Producer, producer::Client},
};

use crate::kafka_sink::{Driven, batch, numbered, plain, read, settings};

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
