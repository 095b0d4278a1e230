//! Against a real datagram socket and a real TCP listener.

#![allow(clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]

use std::{
    io::{self, BufRead, BufReader},
    net::TcpListener,
    os::unix::net::UnixDatagram,
    path::Path,
};

use super::*;
use crate::sinks::{Driven, Home, Settle, parse, until};

/// Takes answers, which nobody waits for.
#[derive(Default)]
struct Nobody;

type Bench = Driven<Nobody>;

impl Home for Nobody {
    fn settle(&self, _: u8, _: Settle) {}
}

fn spec(text: &str) -> Box<dyn Spec> {
    let (spec, errors) = parse("wazuh_queue", text);
    assert_eq!(errors, "");
    spec
}

fn socket_at(path: &Path, more: &str) -> Box<dyn Spec> {
    spec(&format!("path = {:?}\nbackoff = \"10ms\"\n{more}", path.display().to_string()))
}

fn bind(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    socket
}

fn next(socket: &UnixDatagram) -> String {
    let mut bytes = vec![0; 1 << 17];
    let len = socket.recv(&mut bytes).unwrap();
    String::from_utf8(bytes[..len].to_vec()).unwrap()
}

#[test]
fn records_follow_the_manager_through_its_restart_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("queue");
    let bench = Bench::start(socket_at(&path, ""));
    until("its absence is told", || matches!(bench.state(), State::Retrying(why) if why.contains("is not there; start wazuh-manager")));
    bench.push(b"1:dfn:{\"n\": 1}");
    let manager = bind(&path);
    assert_eq!(next(&manager), "1:dfn:{\"n\": 1}");
    until("it stands well", || bench.state() == State::Ready);

    drop(manager);
    for n in 2..=4 {
        bench.push(format!("1:dfn:{{\"n\": {n}}}").as_bytes());
    }
    until("a dead socket is told", || matches!(bench.state(), State::Retrying(why) if why.contains("nobody reads")));
    std::fs::remove_file(&path).unwrap();
    let manager = bind(&path);
    for n in 2..=4 {
        assert_eq!(next(&manager), format!("1:dfn:{{\"n\": {n}}}"));
    }
    until("it stands well again", || bench.state() == State::Ready);
    let metrics = bench.finish();
    assert!(!metrics.text().contains("shipper_dropped_messages_total{"), "nothing is let go");
}

#[test]
fn a_manager_that_reads_slowly_gets_every_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("queue");
    let manager = bind(&path);
    let bench = Bench::start(socket_at(&path, ""));
    const RECORDS: usize = 5000;
    for n in 0..RECORDS {
        bench.push(format!("1:dfn:{n}").as_bytes());
    }
    // All are taken over although the kernel's queue holds but a few: nobody waits for the manager.
    until("the inbox is empty", || bench.inbox.is_empty());
    for n in 0..RECORDS {
        assert_eq!(next(&manager), format!("1:dfn:{n}"));
    }
    assert_eq!(bench.state(), State::Ready, "a queue that is full for a moment is no trouble");
    bench.finish();
}

#[test]
fn what_the_manager_would_cut_or_misread_is_let_go_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("queue");
    let manager = bind(&path);
    let bench = Bench::start(socket_at(&path, ""));
    let record = |len: usize| [b"1:dfn:".to_vec(), vec![b'x'; len - 6]].concat();
    bench.push(record(65_536));
    bench.push(record(65_535));
    bench.push(b"[\"not a record\"]");
    bench.push(b"");
    bench.push(b"1:dfn:{}");
    assert_eq!((next(&manager).len(), next(&manager).as_str()), (65_535, "1:dfn:{}"));
    assert_eq!((bench.dropped("too_long"), bench.dropped("malformed")), (1, 2));
    bench.finish();
}

#[test]
fn bare_json_becomes_a_record_that_wazuh_reads_as_ours() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("queue");
    let manager = bind(&path);
    let bench = Bench::start(socket_at(&path, "integration = \"misp\""));
    for (payload, record) in [
        (r#"{"misp":{"value":"a.top"}}"#, r#"1:misp:{"integration":"misp","misp":{"value":"a.top"}}"#),
        ("{ }", r#"1:misp:{"integration":"misp" }"#),
        (r#"1:dfn:{"integration":"dfn"}"#, r#"1:dfn:{"integration":"dfn"}"#),
    ] {
        bench.push(payload.as_bytes());
        assert_eq!(next(&manager), record);
    }
    bench.finish();
    for name in ["", "a:b", "a\\\"b", "a b"] {
        let (_, errors) = parse("wazuh_queue", &format!("integration = \"{name}\""));
        assert!(errors.contains("must be up to 32 letters"), "{name}: {errors}");
    }
}

#[test]
fn what_waits_too_long_is_let_go_and_the_younger_follow() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("queue");
    let bench = Bench::start(socket_at(&path, "give_up_after = \"50ms\""));
    bench.push(b"1:dfn:old");
    until("it is let go", || bench.dropped("too_old") == 1);
    let manager = bind(&path);
    until("the queue is found", || bench.state() == State::Ready);
    bench.push(b"1:dfn:young");
    assert_eq!(next(&manager), "1:dfn:young");
    bench.finish();
}

#[test]
fn a_stop_waits_for_nobody_who_is_away_and_counts_what_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::start(spec(&format!("path = {:?}\nbackoff = \"1h\"", dir.path().join("queue").display().to_string())));
    until("its absence is told", || matches!(bench.state(), State::Retrying(_)));
    bench.push(b"1:dfn:1");
    bench.push(b"1:dfn:2");
    let metrics = bench.finish();
    assert!(metrics.text().contains("reason=\"stopped\"} 2\n"), "{}", metrics.text());
}

#[test]
fn a_stop_sends_what_waits_once_the_queue_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("queue");
    let bench = Bench::start(spec(&format!("path = {:?}\nbackoff = \"1h\"", path.display().to_string())));
    until("its absence is told", || matches!(bench.state(), State::Retrying(_)));
    let manager = bind(&path);
    bench.push(b"1:dfn:last words");
    bench.finish();
    assert_eq!(next(&manager), "1:dfn:last words");
}

#[test]
fn over_tcp_a_record_is_a_line_and_a_closed_connection_is_opened_anew() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let bench = Bench::start(spec(&format!("address = \"{address}\"\nbackoff = \"10ms\"")));
    let accept = || BufReader::new(listener.accept().unwrap().0);
    let line = |from: &mut BufReader<std::net::TcpStream>| {
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        line
    };
    let mut first = accept();
    bench.push(b"1:[1] (a\nb) any->dfn:{}");
    let long = [b"1:dfn:".to_vec(), vec![b'x'; 60_000]].concat();
    for _ in 0..200 {
        bench.push(&long);
    }
    assert_eq!(line(&mut first), "1:[1] (a b) any->dfn:{}\n");
    for _ in 0..200 {
        assert_eq!(line(&mut first).len(), long.len() + 1, "a full connection cuts nothing");
    }
    drop(first);
    let mut second = accept();
    bench.push(b"1:dfn:{}");
    assert_eq!(line(&mut second), "1:dfn:{}\n");
    bench.finish();
}

#[test]
fn the_check_names_what_is_wrong_with_the_queue() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let found = |name: &str| socket_at(&at(name), "").check("q").remove(0);
    let _manager = bind(&at("good"));
    drop(bind(&at("dead")));
    std::fs::write(at("file"), "").unwrap();
    let _stream = std::os::unix::net::UnixListener::bind(at("stream")).unwrap();
    let cases = [
        ("good", Level::Good, "takes records"),
        ("absent", Level::Warning, "is not there; start wazuh-manager"),
        ("dead", Level::Warning, "nobody reads"),
        ("file", Level::Bad, "is no datagram socket"),
        ("stream", Level::Bad, "is no datagram socket"),
    ];
    for (name, level, text) in cases {
        let finding = found(name);
        assert_eq!(finding.level, level, "{}", finding.text);
        assert!(finding.text.contains(text), "{}", finding.text);
    }
    let refused = io::Error::from_raw_os_error(rustix::io::Errno::ACCESS.raw_os_error());
    let State::Holding(why) = link::standing(&To::Socket("/q".into()), &refused) else { panic!("a refusal is held") };
    assert!(why.contains("usermod -aG wazuh shipper"), "{why}");
}
