//! Sink `redis` against a real Redis: each message once on a list whatever happens to connections, and every trouble told.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use shipper::{metrics::State, sinks::Level};

use crate::{
    agent::wait,
    broker::{certificate, given, services},
    driven::{Driven, check, outage, spec},
};

/// Who disturbs `redis-alerts` has it alone.
pub static ALERTS: Mutex<()> = Mutex::new(());

fn redis(service: &str, args: &[&str]) -> String {
    services(&[&["tool", service][..], args].concat())
}

fn lines(service: &str, args: &[&str]) -> Vec<String> {
    redis(service, args).lines().map(str::to_owned).collect()
}

fn settings(url: &str, more: &str) -> String {
    let password = given("REDIS_PASSWORD_FILE").unwrap();
    format!("url = {url:?}\nusername = 'shipper'\npassword_file = {password:?}\nbackoff_max = '1s'\n{more}\n")
}

fn start(url: &str, more: &str) -> Driven {
    Driven::start(spec("redis", &settings(url, more)))
}

/// A key of this run alone: what an earlier one pushed is known for a day.
fn fresh(name: &str) -> String {
    format!("waf:{name}:{}", std::process::id())
}

fn messages(from: u64, count: u64) -> Vec<String> {
    (from..from + count).map(|n| format!("{{\"severity\":95,\"tx_id\":\"t{n}\"}}")).collect()
}

#[test]
fn a_message_is_on_the_list_once_however_often_it_comes() {
    let Some(tcp) = given("REDIS_URL") else { return };
    let (tls, socket) = (given("REDIS_TLS_URL").unwrap(), given("REDIS_SOCKET").unwrap());
    let ca = format!("tls.ca = {:?}", certificate("ca.pem"));
    for (name, url, more) in [("tcp", &tcp, ""), ("tls", &tls, ca.as_str()), ("socket", &socket, "")] {
        let key = fresh(name);
        let of = format!("list = {key:?}\nlist_max = 150\nlist_expires = '1h'\nseen_for = '10m'\n{more}");
        let found = check(&*spec("redis", &settings(url, &of)));
        assert!(found.iter().all(|f| f.level == Level::Good), "{found:?}");
        let sink = start(url, &of);
        let all = messages(0, 100);
        // Twice in one run, and once more by an agent that knows nothing of it.
        (0..2).for_each(|_| sink.push(0, &all));
        assert_eq!(sink.settled(), []);
        assert_eq!(
            (sink.count("redis_messages", "form", "list\",outcome=\"sent"), sink.count("redis_messages", "form", "list\",outcome=\"known")),
            (100, 100)
        );
        sink.finish();
        let again = start(url, &of);
        again.push(0, &all);
        assert_eq!(again.settled(), []);
        let newest_first: Vec<String> = all.iter().rev().cloned().collect();
        assert_eq!(lines("redis", &["lrange", &key, "0", "-1"]), newest_first);
        // Equal bytes of another record are another message; the list keeps its length.
        again.push(1000, &all);
        assert_eq!(again.settled(), []);
        again.finish();
        assert_eq!(redis("redis", &["llen", &key]).trim(), "150");
        let lives: u64 = redis("redis", &["ttl", &key]).trim().parse().unwrap();
        assert!((3000..=3600).contains(&lives), "{lives}");
        let seen = lines("redis", &["--scan", "--pattern", &format!("{{{key}}}:seen:*")]);
        assert_eq!(seen.len(), 200);
        let lives: u64 = redis("redis", &["ttl", &seen[0]]).trim().parse().unwrap();
        assert!((500..=600).contains(&lives), "{lives}");
    }
}

/// Somebody who listens on a channel.
fn listen(url: &str, channel: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(url.strip_prefix("redis://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(format!("AUTH default redis-secret\r\nSUBSCRIBE {channel}\r\n").as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    // The last line of the answer to SUBSCRIBE is how many channels there are now.
    while line != ":1\r\n" {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0);
    }
    reader
}

#[test]
fn a_message_goes_out_in_every_form_that_is_asked_for() {
    let Some(url) = given("REDIS_URL") else { return };
    let [list, stream, single] = ["forms", "stream", "once"].map(fresh);
    let mut listener = listen(&url, "waf-channel");
    let sink =
        start(&url, &format!("list = {list:?}\nstream = {stream:?}\nstream_max = 100000\nstream_field = 'event'\npublish = 'waf-channel'"));
    let all = messages(0, 50);
    (0..2).for_each(|_| sink.push(0, &all));
    assert_eq!(sink.settled(), []);
    sink.finish();
    let once = start(&url, &format!("stream = {single:?}\nstream_once = true"));
    (0..2).for_each(|_| once.push(0, &all));
    assert_eq!(once.settled(), []);
    once.finish();
    assert_eq!([&stream, &single].map(|key| redis("redis", &["xlen", key]).trim().to_owned()), ["100", "50"]);
    assert_eq!(redis("redis", &["llen", &list]).trim(), "50");
    let first = lines("redis", &["xrange", &stream, "-", "+", "COUNT", "1"]);
    assert_eq!(first[1..], ["event".to_owned(), all[0].clone()], "{first:?}");
    let mut heard = Vec::new();
    while heard.len() < 100 {
        let mut line = String::new();
        assert!(listener.read_line(&mut line).unwrap() > 0);
        heard.extend(line.starts_with('{').then(|| line.trim_end().to_owned()));
    }
    assert_eq!(heard, [all.clone(), all].concat());
}

#[test]
fn what_a_person_must_mend_holds_and_names_it() {
    let Some(url) = given("REDIS_URL") else { return };
    let wrong = tempfile::NamedTempFile::new().unwrap();
    fs::write(wrong.path(), "wrong-secret\n").unwrap();
    let text = fresh("text");
    redis("redis", &["set", &text, "no list"]);
    let rows = [
        (format!("url = {url:?}\nlist = 'waf:x'\nusername = 'shipper'\npassword_file = {:?}", wrong.path()), "user or password is refused"),
        (format!("url = {url:?}\nlist = 'waf:x'"), "it wants a password: set username and password_file"),
        (settings(&url, "list = 'other:x'"), "list other:x: "),
        (settings(&url, &format!("list = {text:?}")), text.as_str()),
    ];
    let mut held = Vec::new();
    for (config, why) in rows {
        let sink = Driven::start(spec("redis", &config));
        sink.push(0, &messages(0, 3));
        sink.until_state(why, |state| matches!(state, State::Holding(told) if told.contains(why) && !told.contains("wrong-secret")));
        assert_eq!(sink.answered(), 0, "nothing is given up");
        held.push(sink);
    }
    let found = check(&*spec("redis", &settings(&url, &format!("list = {text:?}"))));
    assert!(found.iter().any(|f| f.level == Level::Bad && f.text.contains(&format!("key {text} holds a string, not a list"))), "{found:?}");
    // The key is put right: it goes on by itself.
    redis("redis", &["del", &text]);
    let mended = held.pop().unwrap();
    assert_eq!((mended.settled(), mended.state()), (Vec::new(), State::Ready));
    assert_eq!(redis("redis", &["llen", &text]).trim(), "3");
    mended.finish();
    held.into_iter().for_each(Driven::finish);
}

#[test]
fn lost_connections_a_full_memory_a_replica_and_a_flush_push_nothing_twice_and_lose_nothing() {
    let Some(url) = given("REDIS_ALERTS_URL") else { return };
    let _alone = ALERTS.lock().unwrap_or_else(PoisonError::into_inner);
    let service = "redis-alerts";
    redis(service, &["flushall"]);
    let sink = start(&url, "list = 'waf:alerts'\nlist_max = 1000000\ntimeout = '500ms'");
    let (mut pushed, part) = (0, 500);
    let mut push = |sink: &Driven| {
        sink.push(pushed, &messages(pushed, part));
        pushed += part;
    };
    let on_the_list = |what: &str, expected: u64| {
        let all = lines(service, &["lrange", "waf:alerts", "0", "-1"]);
        let distinct: BTreeSet<&String> = all.iter().collect();
        assert_eq!((all.len() as u64, distinct.len() as u64), (expected, expected), "{what}");
    };

    for _ in 0..10 {
        push(&sink);
        redis(service, &["client", "kill", "user", "shipper"]);
    }
    assert_eq!(sink.settled(), []);
    on_the_list("connections were killed", 5000);

    // Commands that had no answer in time were done all the same, and are sent again.
    services(&["pause", service]);
    push(&sink);
    sink.until_state("the silence is told", |state| matches!(state, State::Retrying(_)));
    std::thread::sleep(outage());
    services(&["resume", service]);
    assert_eq!(sink.settled(), []);
    on_the_list("it was silent", 5500);

    for (set, unset, why) in [
        (&["config", "set", "maxmemory", "1"], &["config", "set", "maxmemory", "0"], "its memory is full"),
        (&["replicaof", "127.0.0.1", "9", ""], &["replicaof", "no", "one", ""], "it is a replica: name the primary"),
    ] {
        let args = |all: &[&'static str; 4]| all.iter().copied().filter(|arg| !arg.is_empty()).collect::<Vec<_>>();
        redis(service, &args(set));
        push(&sink);
        sink.until_state(why, |state| matches!(state, State::Retrying(told) if told.contains(why)));
        redis(service, &args(unset));
        assert_eq!(sink.settled(), []);
        on_the_list(why, pushed_so_far(&sink));
    }

    redis(service, &["flushall"]);
    push(&sink);
    assert_eq!((sink.settled(), sink.state()), (Vec::new(), State::Ready));
    on_the_list("all was flushed before", 500);

    services(&["kill", service]);
    push(&sink);
    sink.until_state("the trouble is told", |state| matches!(state, State::Retrying(_)));
    services(&["start", service]);
    assert_eq!(sink.settled(), []);
    wait("it is ready", || sink.state() == State::Ready, || sink.state().to_string());
    // This server keeps nothing over a kill.
    on_the_list("it was killed", 500);
    sink.finish();
}

fn pushed_so_far(sink: &Driven) -> u64 {
    sink.answered() as u64
}
