//! Source `redis_stream` on a real Redis: everything that was written and not trimmed or flushed comes out,
//! whoever is killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    ops::Range,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    agent::{House, wait},
    broker::{certificate, given},
};

/// Held by whoever flushes `redis-flushed`, or would mind.
pub static FLUSHED: Mutex<()> = Mutex::new(());

/// Events of the long runs.
pub fn events() -> u64 {
    std::env::var("SERVICES_EVENTS").map_or(20_000, |text| text.parse().expect("SERVICES_EVENTS is a number"))
}

/// What Redis answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Text(String),
    Number(i64),
    List(Vec<Reply>),
    Nil,
    Error(String),
}

impl Reply {
    pub fn list(&self) -> &[Reply] {
        match self {
            Reply::List(all) => all,
            Reply::Nil => &[],
            other => panic!("{other:?} is no list"),
        }
    }
    pub fn number(&self) -> i64 {
        match self {
            Reply::Number(n) => *n,
            other => panic!("{other:?} is no number"),
        }
    }
}

/// An administrator of a Redis: RESP by hand, so that what is tested does not test itself.
pub struct Admin(BufReader<TcpStream>);

impl Admin {
    pub fn of(url: &str) -> Self {
        let stream = TcpStream::connect(url.trim_start_matches("redis://")).unwrap();
        let mut admin = Self(BufReader::new(stream));
        assert_eq!(admin.ask(&["AUTH", "redis-secret"]), Reply::Text("OK".into()));
        admin
    }
    fn put(bytes: &mut Vec<u8>, args: &[&str]) {
        write!(bytes, "*{}\r\n", args.len()).unwrap();
        args.iter().for_each(|arg| write!(bytes, "${}\r\n{arg}\r\n", arg.len()).unwrap());
    }
    pub fn ask(&mut self, args: &[&str]) -> Reply {
        let mut bytes = Vec::new();
        Self::put(&mut bytes, args);
        self.0.get_mut().write_all(&bytes).unwrap();
        self.reply()
    }
    fn reply(&mut self) -> Reply {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let (kind, rest) = line.trim_end().split_at(1);
        match kind {
            "+" => Reply::Text(rest.into()),
            "-" => Reply::Error(rest.into()),
            ":" => Reply::Number(rest.parse().unwrap()),
            "$" if rest == "-1" => Reply::Nil,
            "*" if rest == "-1" => Reply::Nil,
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.0.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                Reply::Text(String::from_utf8(bytes).unwrap())
            }
            "*" => Reply::List((0..rest.parse::<usize>().unwrap()).map(|_| self.reply()).collect()),
            other => panic!("{other}{rest}"),
        }
    }
    fn add(&mut self, key: &str, numbers: Range<u64>, more: &[&str]) {
        self.add_each(key, numbers, more, event);
    }
    /// Adds an event for each number, many at a time; `more` stands between key and id (`MAXLEN`, `100`).
    pub fn add_each(&mut self, key: &str, numbers: Range<u64>, more: &[&str], event: fn(u64) -> String) {
        for first in numbers.clone().step_by(500) {
            let (mut bytes, last) = (Vec::new(), numbers.end.min(first + 500));
            for n in first..last {
                let event = event(n);
                Self::put(&mut bytes, &[&["XADD", key][..], more, &["*", "data", &event]].concat());
            }
            self.0.get_mut().write_all(&bytes).unwrap();
            for _ in first..last {
                assert!(matches!(self.reply(), Reply::Text(_)));
            }
        }
    }
    pub fn pending(&mut self, key: &str) -> i64 {
        self.ask(&["XPENDING", key, "waf"]).list()[0].number()
    }
}

/// An event of some 300 bytes, with a newline in it: an entry is no line.
fn event(n: u64) -> String {
    format!(
        "{{\"n\":{n},\"transaction\":{{\"id\":\"{n:032x}\",\"uri\":\"/{}\"}},\"pad\":\"{}\"}}",
        "a".repeat((n % 50) as usize),
        "x".repeat(200)
    )
}

/// Settings of the source, and where all goes.
fn house(url: &str, key: &str, more: &str) -> (House, PathBuf) {
    let password = given("REDIS_PASSWORD_FILE").unwrap();
    let mut out = PathBuf::new();
    let house = House::with(|dir| {
        out = dir.join("out.jsonl");
        let api = dir.join("api.sock");
        format!(
            "[api]\nlisten = \"unix:{}\"\n[sources.waf]\nkind = \"redis_stream\"\nurl = {url:?}\nusername = \"shipper\"\n\
             password_file = {password:?}\nstreams = [{key:?}]\ngroup = \"waf\"\nblock = \"200ms\"\n{more}\n\
             [handlers.all]\nkind = \"forward\"\ninputs = [\"waf\"]\n\
             [sinks.out]\nkind = \"file\"\npath = {:?}\ninputs = [\"all\"]\n",
            api.display(),
            out.display().to_string()
        )
    });
    (house, out)
}

/// How often each event lies in the file.
fn found(out: &Path) -> BTreeMap<u64, u64> {
    let mut all = BTreeMap::new();
    let text = fs::read_to_string(out).unwrap_or_default();
    // A line that a kill cut off is written again.
    for line in text.lines().filter(|line| line.starts_with("{\"n\":") && line.ends_with('}')) {
        let n = line[5..].split(',').next().unwrap().parse().unwrap();
        *all.entry(n).or_default() += 1;
    }
    all
}

/// The sum of a metric over its labels, as the running agent tells it.
pub fn metric(house: &House, name: &str) -> u64 {
    let Ok(mut stream) = UnixStream::connect(house.dir.path().join("api.sock")) else { return 0 };
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let of = |line: &&str| line.starts_with(name) && line[name.len()..].starts_with(['{', ' ']);
    text.lines().filter(of).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

#[track_caller]
fn until_found(out: &Path, what: &str, wanted: &BTreeSet<u64>) {
    let missing = || {
        let found = found(out);
        wanted.iter().filter(|n| !found.contains_key(n)).count()
    };
    wait(&format!("{what}: all {} are found", wanted.len()), || missing() == 0, || format!("{} are missing", missing()));
}

#[test]
fn every_event_comes_out_that_was_not_trimmed_or_flushed_unread() {
    let Some(url) = given("REDIS_FLUSHED_URL") else { return };
    let _alone = FLUSHED.lock().unwrap_or_else(PoisonError::into_inner);
    let (count, key) = (events(), "waf:main");
    let mut admin = Admin::of(&url);
    admin.ask(&["DEL", key]);
    let (house, out) = house(&url, key, "min_idle = \"2s\"\nmax_deliveries = 100\n");
    let mut agent = house.start();
    let mut wanted = BTreeSet::new();

    // Killed five times while events come in, and somebody else takes some and dies.
    for part in 0..6 {
        let numbers = count * part / 6..count * (part + 1) / 6;
        admin.add(key, numbers.clone(), &[]);
        wanted.extend(numbers);
        if part == 2 {
            wait("the group is there", || Admin::of(&url).pending_or_none(key).is_some(), || "no group".into());
            let dead = admin.ask(&["XREADGROUP", "GROUP", "waf", "dead", "COUNT", "300", "STREAMS", key, ">"]);
            eprintln!("a consumer that dies has taken {} entries", dead.list().first().map_or(0, |s| s.list()[1].list().len()));
        }
        if part < 5 {
            std::thread::sleep(Duration::from_millis(300));
            agent.kill();
            agent = house.start();
        }
    }
    until_found(&out, "kills", &wanted);
    wait("all is acked", || Admin::of(&url).pending(key) == 0, || format!("{} pending", Admin::of(&url).pending(key)));
    assert_eq!(metric(&house, "shipper_lost_to_trim_total"), 0);
    agent.stop();

    // Trimmed while nobody reads: the oldest are lost, and counted.
    let trimmed = count..count + 3000;
    admin.add(key, trimmed.start..trimmed.end + 2000, &[]);
    wanted.extend(trimmed.end..trimmed.end + 2000);
    admin.ask(&["XTRIM", key, "MAXLEN", "2000"]);
    let agent = house.start();
    until_found(&out, "trimmed", &wanted);
    wait(
        "what was lost is counted",
        || metric(&house, "shipper_lost_to_trim_total") == 3000,
        || metric(&house, "shipper_lost_to_trim_total").to_string(),
    );
    agent.says(&["entries were trimmed before they were read", "3000"]);
    let before = found(&out);
    assert!(trimmed.clone().all(|n| !before.contains_key(&n)));

    // Trimmed while it reads, and is held up now and then: what is not there is what was counted.
    let mut next = trimmed.end + 2000;
    let racing = next;
    for _ in 0..10 {
        agent.signal(Signal::STOP);
        admin.add(key, next..next + 3000, &["MAXLEN", "1000"]);
        agent.signal(Signal::CONT);
        admin.add(key, next + 3000..next + 3200, &["MAXLEN", "1000"]);
        next += 3200;
        std::thread::sleep(Duration::from_millis(100));
    }
    wait("the last one is found", || found(&out).contains_key(&(next - 1)), || "it is not".into());
    let is_lost = || {
        let found = found(&out);
        (racing..next).filter(|n| !found.contains_key(n)).count() as u64
    };
    wait(
        "what is missing is what was counted",
        || metric(&house, "shipper_lost_to_trim_total") == 3000 + is_lost(),
        || format!("{} counted, {} missing", metric(&house, "shipper_lost_to_trim_total"), 3000 + is_lost()),
    );
    eprintln!("{} of {} racing events were trimmed unread, all counted", is_lost(), next - racing);
    assert!(is_lost() > 0, "nothing was trimmed, so nothing was shown");
    let counted = metric(&house, "shipper_lost_to_trim_total");

    // Everything flushed, with some unread.
    agent.signal(Signal::STOP);
    let flushed = next..next + 1000;
    admin.add(key, flushed.clone(), &[]);
    assert_eq!(admin.ask(&["FLUSHALL"]), Reply::Text("OK".into()));
    agent.signal(Signal::CONT);
    agent.says(&["the group had vanished and is made again at 0"]);
    let after = flushed.end..flushed.end + 1000;
    admin.add(key, after.clone(), &[]);
    let rest: BTreeSet<u64> = after.clone().collect();
    until_found(&out, "flushed", &rest);
    wait("all is acked", || Admin::of(&url).pending(key) == 0, || format!("{} pending", Admin::of(&url).pending(key)));
    assert_eq!(metric(&house, "shipper_lost_to_trim_total"), counted, "what is flushed was not trimmed");
    agent.stop();

    let found = found(&out);
    wanted.extend(rest);
    let missing: Vec<u64> = wanted.iter().copied().filter(|n| !found.contains_key(n)).collect();
    assert_eq!(missing, [0u64; 0]);
    let strange: Vec<u64> = found.keys().copied().filter(|n| *n >= after.end || trimmed.contains(n)).collect();
    assert_eq!(strange, [0u64; 0]);
    assert_eq!(house.dead_letters().len(), 0);
    let flushed_unread = flushed.filter(|n| !found.contains_key(n)).count();
    let repeated: u64 = found.values().map(|times| times - 1).sum();
    eprintln!("{} distinct events out, {repeated} repeated, {counted} lost to trim, {flushed_unread} flushed unread", found.len());
}

impl Admin {
    pub fn pending_or_none(&mut self, key: &str) -> Option<i64> {
        match self.ask(&["XPENDING", key, "waf"]) {
            Reply::List(all) => Some(all[0].number()),
            _ => None,
        }
    }
}

#[test]
fn what_kills_whoever_works_on_it_is_poison_and_what_holds_no_event_is_refused() {
    let Some(url) = given("REDIS_URL") else { return };
    let (key, dead) = ("waf:poison", "waf:poison:dead");
    let mut admin = Admin::of(&url);
    admin.ask(&["DEL", key, dead]);
    admin.ask(&["XGROUP", "CREATE", key, "waf", "0", "MKSTREAM"]);
    admin.add(key, 0..3, &[]);
    // Given out three times, and nobody comes back from it.
    let first = admin.ask(&["XREADGROUP", "GROUP", "waf", "victim", "COUNT", "1", "STREAMS", key, ">"]);
    let Reply::Text(id) = &first.list()[0].list()[1].list()[0].list()[0] else { panic!("{first:?}") };
    for _ in 0..3 {
        admin.ask(&["XREADGROUP", "GROUP", "waf", "victim", "STREAMS", key, "0"]);
    }
    admin.ask(&["XADD", key, "*", "a", "1", "b", "2"]);
    admin.ask(&["XADD", key, "*", "whatever", &event(7)]);
    let more = format!("min_idle = \"1s\"\nmax_deliveries = 3\ndead_stream = {dead:?}");
    let (house, out) = house(&url, key, &more);
    let agent = house.start();
    until_found(&out, "the others", &BTreeSet::from([1, 2, 7]));
    wait("both are refused", || house.dead_letters().len() == 2, || house.dead_letters().len().to_string());
    wait("all is acked", || Admin::of(&url).pending(key) == 0, || agent.said());
    let mut letters: Vec<_> = house.dead_letters().into_iter().map(|(header, bytes)| (header.reason, header.origin, bytes)).collect();
    letters.sort();
    assert_eq!(letters[0].0, "no_field");
    assert_eq!(letters[0].2, b"a: 1\nb: 2\n");
    assert_eq!((letters[1].0.as_str(), &letters[1].2), ("poison", &event(0).into_bytes()));
    assert_eq!(letters[1].1, format!("redis/waf:poison/{id}"));
    wait("the dead have a stream", || Admin::of(&url).ask(&["XLEN", dead]) == Reply::Number(2), || "not yet".into());
    agent.stop();
}

#[test]
fn a_clean_stop_is_no_failed_delivery() {
    let Some(url) = given("REDIS_URL") else { return };
    let key = "waf:stops";
    let mut admin = Admin::of(&url);
    admin.ask(&["DEL", key]);
    admin.add(key, 0..10, &[]);
    // Nothing goes out: the file cannot be made.
    let (mut house, out) = house(&url, key, "max_deliveries = 1");
    house.drain_for = "1s";
    fs::create_dir(&out).unwrap();
    // From the second on they are read again, some while the agent ends already.
    for ms in [300, 300, 0, 50, 100, 150, 200] {
        let agent = house.start();
        wait("they are given out", || Admin::of(&url).pending_or_none(key) == Some(10), || agent.said());
        std::thread::sleep(Duration::from_millis(ms));
        agent.end();
        let pending = admin.ask(&["XPENDING", key, "waf", "-", "+", "10"]);
        assert!(pending.list().iter().all(|entry| entry.list()[3] == Reply::Number(0)), "after {ms} ms: {pending:?}");
    }
    fs::remove_dir(&out).unwrap();
    let agent = house.start();
    until_found(&out, "at last", &(0..10).collect());
    assert_eq!(house.dead_letters().len(), 0);
    agent.stop();
}

#[test]
fn without_xautoclaim_and_scripts_what_others_left_is_claimed_all_the_same() {
    let Some(url) = given("REDIS_URL") else { return };
    let key = "waf:old";
    let mut admin = Admin::of(&url);
    admin.ask(&["DEL", key]);
    admin.ask(&["ACL", "SETUSER", "old", "on", ">old", "~waf:*", "+@all", "-xautoclaim", "-eval", "-@admin", "-@dangerous"]);
    admin.ask(&["XGROUP", "CREATE", key, "waf", "0", "MKSTREAM"]);
    admin.add(key, 0..50, &[]);
    admin.ask(&["XREADGROUP", "GROUP", "waf", "dead", "COUNT", "20", "STREAMS", key, ">"]);
    let (house, out) = house(&url, key, "min_idle = \"1s\"");
    let password = house.dir.path().join("old");
    fs::write(&password, "old\n").unwrap();
    let house = house.again(|graph| {
        let shipper = given("REDIS_PASSWORD_FILE").unwrap();
        graph.replace("username = \"shipper\"", "username = \"old\"").replace(&shipper, &password.display().to_string())
    });
    let agent = house.start();
    until_found(&out, "all", &(0..50).collect());
    agent.says(&["XAUTOCLAIM is not to be had"]);
    agent.says(&["entries that are trimmed unread cannot be counted here"]);
    wait("all is acked", || Admin::of(&url).pending(key) == 0, || agent.said());
    agent.stop();
    admin.ask(&["ACL", "DELUSER", "old"]);
}

#[test]
fn what_a_person_must_mend_is_said_once_and_shown() {
    let Some(url) = given("REDIS_URL") else { return };
    let mut admin = Admin::of(&url);
    admin.ask(&["DEL", "waf:held"]);
    admin.ask(&["SET", "waf:text", "no stream"]);
    let (house, out) = house(&url, "waf:held", "");
    let wrong = house.dir.path().join("wrong");
    fs::write(&wrong, "wrong\n").unwrap();
    let shipper = given("REDIS_PASSWORD_FILE").unwrap();
    for (from, to, why) in [
        (shipper.as_str(), wrong.to_str().unwrap(), "check username and password_file"),
        ("waf:held", "secret:held", "let it read, ack and claim by group"),
        ("waf:held", "waf:text", "correct streams"),
    ] {
        let house = house.again(|graph| graph.replace(from, to));
        let (code, text) = house.check(&[]);
        assert!(text.contains(why) && code == Some(69), "{code:?} {text}");
        let agent = house.start();
        let line = agent.says(&["holding", why]);
        assert!(!line.contains("wrong\n") && !line.contains("'wrong'"), "{line}");
        agent.stop();
    }
    let agent = house.start();
    admin.add("waf:held", 0..10, &[]);
    until_found(&out, "mended", &(0..10).collect());
    agent.stop();
}

#[test]
fn it_reads_over_tls_and_by_a_socket() {
    let (Some(tls), Some(socket), Some(url)) = (given("REDIS_TLS_URL"), given("REDIS_SOCKET"), given("REDIS_URL")) else { return };
    let mut admin = Admin::of(&url);
    for (way, key, more) in [(&tls, "waf:tls", format!("tls.ca = {:?}", certificate("ca.pem"))), (&socket, "waf:socket", String::new())] {
        admin.ask(&["DEL", key]);
        let (house, out) = house(way, key, &more);
        let (code, text) = house.check(&[]);
        assert!(text.contains("lets us in") && code == Some(0), "{code:?} {text}");
        let agent = house.start();
        admin.add(key, 0..10, &[]);
        until_found(&out, key, &(0..10).collect());
        agent.stop();
    }
}
