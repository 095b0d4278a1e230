//! Sink `influx` against real InfluxDB servers, which differ in what one bad line costs: 1.6 and 1.8 write the good ones
//! of a request, 2.7 writes none of it or, where only types disagree, the good ones.
//!
//! One test a server does one thing after the other, as it stops and starts that server.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::Value;
use shipper::{metrics::State, sinks::Level};

use crate::{
    broker::{given, services},
    driven::{Driven, check, outage, spec, told},
};

/// A server that was started.
pub struct Server {
    name: &'static str,
    url: String,
    /// Lines of TOML that say who we are.
    login: String,
    is_v2: bool,
}

impl Server {
    pub fn given(name: &'static str) -> Option<Self> {
        let of = |what: &str| format!("{}_{what}", name.to_uppercase());
        let url = given(&of("URL"))?;
        let is_v2 = name == "influx27";
        let login = match is_v2 {
            true => format!("org = 'shipper'\ntoken_file = {:?}\n", given(&of("TOKEN_FILE"))?),
            false => format!("username = 'shipper'\npassword_file = {:?}\n", given(&of("PASSWORD_FILE"))?),
        };
        Some(Self { name, url, login, is_v2 })
    }
    pub fn settings(&self, bucket: &str, more: &str) -> String {
        format!("url = {:?}\nbucket = {bucket:?}\n{}{more}\n", self.url, self.login)
    }
    fn start(&self, bucket: &str, more: &str) -> Driven {
        Driven::start(spec("influx", &self.settings(bucket, more)))
    }
    pub fn query(&self, bucket: &str, q: &str) -> Value {
        serde_json::from_str(&services(&["tool", self.name, bucket, q])).unwrap()
    }
    /// Points of a measurement.
    fn points(&self, bucket: &str, measurement: &str) -> usize {
        let answer = self.query(bucket, &format!("SELECT * FROM {measurement}"));
        let series = answer["results"][0]["series"].as_array().cloned().unwrap_or_default();
        series.iter().map(|series| series["values"].as_array().unwrap().len()).sum()
    }
}

fn vectors() -> Option<Vec<Value>> {
    let dir = std::env::var_os("SHIPPER_VECTORS").map_or_else(|| PathBuf::from("../shared/vectors"), PathBuf::from);
    match fs::read_to_string(dir.join("waf.jsonl")) {
        Ok(text) => Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()),
        Err(_) => {
            eprintln!("skipped: no {}", dir.join("waf.jsonl").display());
            None
        }
    }
}

/// What makes a point: measurement with tags, and time. Lines with the same one are one point.
fn point(line: &str) -> (String, String) {
    let mut end = 0;
    let bytes = line.as_bytes();
    while bytes[end] != b' ' {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    (line[..end].to_owned(), line.rsplit(' ').next().unwrap().to_owned())
}

fn measurement(line: &str) -> &str {
    line.split([',', ' ']).next().unwrap()
}

fn takes_the_lines_of_all_vectors(server: &Server) {
    let Some(vectors) = vectors() else { return };
    let text = |line: &Value| line.as_str().unwrap().to_owned();
    let mut messages: Vec<String> = vectors.iter().filter_map(|vector| vector["expected"].get("line_protocol")).map(text).collect();
    // Layout `upstream` has two lines a message.
    let both = |lines: &Value| lines.as_array().unwrap().iter().map(text).collect::<Vec<_>>().join("\n");
    messages.extend(vectors.iter().filter_map(|vector| vector["expected"].get("upstream_lines")).map(both));
    let lines: Vec<&str> = messages.iter().flat_map(|message| message.lines()).collect();
    assert!(lines.len() > 400, "{}", lines.len());

    let sink = server.start("shipper", "linger = '100ms'");
    sink.push(0, &messages);
    assert_eq!(sink.settled(), [], "each is taken");
    assert_eq!(sink.count("influx_lines", "outcome", "written"), lines.len() as u64);
    sink.finish();
    let mut expected: BTreeMap<&str, BTreeSet<(String, String)>> = BTreeMap::new();
    for line in &lines {
        expected.entry(measurement(line)).or_default().insert(point(line));
    }
    for (measurement, points) in expected {
        assert_eq!(server.points("shipper", measurement), points.len(), "{measurement}");
    }
}

/// What Grafana puts in the place of its variables.
fn the_dashboard_has_something_to_show(server: &Server) {
    let board: Value = serde_json::from_str(include_str!("../../packaging/grafana/waf.json")).unwrap();
    let targets = board["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap().iter());
    let mut seen = 0;
    for query in targets.map(|target| target["query"].as_str().unwrap()) {
        let query = query.replace("$timeFilter", "time >= '2017-01-01' AND time < '2027-01-01'").replace("$__interval", "30d");
        let answer = server.query("shipper", &query);
        let series = answer["results"][0]["series"].as_array().map_or(0, Vec::len);
        assert!(series > 0, "{}: {query}: {answer}", server.name);
        seen += 1;
    }
    assert!(seen >= 10);
}

/// Lines that one measurement takes, and of each thousand one that no server of this version ever takes.
fn one_in_each_thousand(server: &Server, measurement: &str, bad: impl Fn(u64) -> String, cause: &str) {
    const LINES: u64 = 10_000;
    let began = Instant::now();
    let line =
        |n: u64| if n % 1000 == 321 { bad(n) } else { format!("{measurement},host=h{} f={n}i {}", n % 7, 1_796_010_428_000_000_000 + n) };
    let sink = server.start("shipper", "linger = '100ms'");
    sink.push(0, &[format!("{measurement},host=h f=0i 1")]);
    sink.settled();
    (0..LINES / 500).for_each(|part| sink.push(part * 500, &(part * 500..(part + 1) * 500).map(line).collect::<Vec<_>>()));
    let refused = sink.settled();
    let expected: Vec<(u64, u32)> = (0..LINES).filter(|n| n % 1000 == 321).map(|n| (1 + n / 500, (n % 500) as u32)).collect();
    assert_eq!(refused.iter().map(|(at, _)| *at).collect::<Vec<_>>(), expected, "those alone, one by one");
    assert_eq!(sink.count("influx_lines", "outcome", cause), LINES / 1000, "{:?}", refused[0]);
    sink.finish();
    assert_eq!(server.points("shipper", measurement) as u64, LINES - LINES / 1000 + 1, "no other is lost");
    told(&format!("{}: {LINES} lines, one in each thousand {cause}", server.name), began);
}

fn refuses_what_is_older_than_the_retention(server: &Server) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let sink = server.start("short", "linger = '100ms'");
    let measurement = format!("m{now}");
    sink.push(
        0,
        &[format!("{measurement} f=1i {now}"), format!("{measurement} f=1i 1796010428000000"), format!("{measurement} f=1i {}", now - 1)],
    );
    let refused = sink.settled();
    assert_eq!(refused.iter().map(|(at, _)| at.1).collect::<Vec<_>>(), [1], "{refused:?}");
    assert_eq!(sink.count("influx_lines", "outcome", "beyond_retention"), 1, "{refused:?}");
    sink.finish();
    assert_eq!(server.points("short", &measurement), 2);
}

/// 1.x takes as many values of one tag as it was told, here 500; what it looks at is how many there were before a request.
fn refuses_values_of_a_tag_beyond_its_limit(server: &Server) {
    let lines: Vec<String> = (0..520).map(|n| format!("many,client=c{n} f=1i {n}")).collect();
    let sink = server.start("shipper", "linger = '100ms'\nbatch = 100");
    sink.push(0, &lines);
    let refused = sink.settled();
    assert_eq!(refused.len(), 20);
    assert_eq!(sink.count("influx_lines", "outcome", "cardinality"), 20, "{:?}", refused[0]);
    sink.finish();
    assert_eq!(server.points("shipper", "many"), 500);
}

fn loses_nothing_over_an_outage(server: &Server) {
    const LINES: u64 = 20_000;
    let began = Instant::now();
    let sink = server.start("shipper", "linger = '50ms'\nbatch = 500\nbackoff_max = '2s'");
    let part = |n: u64| (n * 200..(n + 1) * 200).map(|n| format!("outage f={n}i {n}")).collect::<Vec<_>>();
    let parts = LINES / 200;
    (0..parts / 2).for_each(|n| sink.push(n * 200, &part(n)));
    services(&["kill", server.name]);
    sink.push(parts / 2 * 200, &part(parts / 2));
    sink.until_state("the trouble is told", |state| matches!(state, State::Retrying(_)));
    std::thread::sleep(outage());
    let answered = sink.answered();
    assert!(answered < LINES as usize / 2 + 200, "{answered}: the kill came too late to be one");
    services(&["start", server.name]);
    (parts / 2 + 1..parts).for_each(|n| sink.push(n * 200, &part(n)));
    assert_eq!(sink.settled(), [], "nothing is refused");
    assert_eq!(sink.state(), State::Ready);
    sink.finish();
    assert_eq!(server.points("shipper", "outage") as u64, LINES);
    told(&format!("{}: {LINES} lines over an outage of {:?}", server.name, outage()), began);
}

/// How long a line is on its way, with nothing to wait for.
fn is_written_at_once_where_nothing_lingers(server: &Server) {
    let sink = server.start("shipper", "linger = '0'");
    sink.until_state("it is ready", |state| *state == State::Ready);
    let mut took: Vec<Duration> = (0..300usize)
        .map(|n| {
            let began = Instant::now();
            sink.push(n as u64, &[format!("quick f={n}i {n}")]);
            while sink.answered() <= n && began.elapsed() < Duration::from_secs(60) {
                std::thread::sleep(Duration::from_micros(200));
            }
            began.elapsed()
        })
        .collect();
    took.sort();
    sink.finish();
    eprintln!("{}: a line is written after {:?} in the middle, {:?} at the 99th percentile", server.name, took[150], took[297]);
    assert!(took[150] < Duration::from_millis(50), "{took:?}");
}

fn bodies_that_are_too_large_become_smaller(server: &Server) {
    let sink = server.start("shipper", "linger = '200ms'\ngzip = false\nbatch = 100000\nbatch_bytes = '8 MiB'");
    let line = |n: u64| format!("large text=\"{}\" {n}", "x".repeat(1000));
    (0..10).for_each(|part| sink.push(part * 300, &(part * 300..(part + 1) * 300).map(line).collect::<Vec<_>>()));
    assert_eq!(sink.settled(), []);
    let is_limited = sink.count("influx_batches", "code", "413") > 0;
    assert_eq!(is_limited, !server.is_v2, "1.x was told to take 1 MB");
    sink.finish();
    assert_eq!(server.points("shipper", "large"), 3000);
}

/// What a person must mend holds, and goes on by itself when that is done: nothing is given up meanwhile.
fn holds_until_the_bucket_is_there_and_the_password_is_right(server: &Server) {
    let wrong = tempfile::NamedTempFile::new().unwrap();
    fs::write(wrong.path(), "wrong-secret\n").unwrap();
    let right = match server.is_v2 {
        true => given("INFLUX27_TOKEN_FILE").unwrap(),
        false => given(&format!("{}_PASSWORD_FILE", server.name.to_uppercase())).unwrap(),
    };
    let mut other = Server { login: server.login.replace(&right, wrong.path().to_str().unwrap()), url: server.url.clone(), ..*server };
    let held = other.start("shipper", "linger = '0'");
    held.push(0, &["held f=1i 1"]);
    held.until_state(
        "it holds",
        |state| matches!(state, State::Holding(why) if why.contains("answers 401") && !why.contains("wrong-secret")),
    );
    let found = check(&*spec("influx", &other.settings("shipper", "")));
    assert!(found.iter().any(|f| f.level == Level::Bad && f.text.contains("answers 401")), "{found:?}");

    other.login = server.login.clone();
    let missing = other.start("nowhere", "linger = '0'");
    missing.push(0, &["held f=1i 1"]);
    // A user of 1.8 who may write one database is told of no other.
    missing.until_state(
        "it holds",
        |state| matches!(state, State::Holding(why) if why.contains("answers 404") || why.contains("answers 403")),
    );

    fs::copy(&right, wrong.path()).unwrap();
    assert_eq!((held.settled(), held.state()), (Vec::new(), State::Ready));
    assert_eq!(missing.answered(), 0);
    held.finish();
    missing.finish();
    assert_eq!(server.points("shipper", "held"), 1);
}

fn is_found_good_by_check(server: &Server) {
    let found = check(&*spec("influx", &server.settings("shipper", "")));
    assert!(found.iter().all(|f| f.level == Level::Good), "{found:?}");
    let api = if server.name == "influx16" { "v1 (/write)" } else { "v2 (/api/v2/write)" };
    assert!(found.iter().any(|f| f.text.contains(&format!("takes writes by API {api}"))), "{found:?}");
}

fn all(name: &'static str) {
    let Some(server) = Server::given(name) else { return };
    is_found_good_by_check(&server);
    takes_the_lines_of_all_vectors(&server);
    the_dashboard_has_something_to_show(&server);
    one_in_each_thousand(&server, "types", |n| format!("types f=\"text\" {n}"), "type_conflict");
    one_in_each_thousand(&server, "words", |n| format!("words,host= f={n}i {n}"), "unparsable");
    refuses_what_is_older_than_the_retention(&server);
    if !server.is_v2 {
        refuses_values_of_a_tag_beyond_its_limit(&server);
    }
    is_written_at_once_where_nothing_lingers(&server);
    bodies_that_are_too_large_become_smaller(&server);
    loses_nothing_over_an_outage(&server);
    holds_until_the_bucket_is_there_and_the_password_is_right(&server);
}

#[test]
fn influx_1_6_loses_nothing_and_refuses_line_by_line() {
    all("influx16");
}

#[test]
fn influx_1_8_loses_nothing_and_refuses_line_by_line() {
    all("influx18");
}

#[test]
fn influx_2_7_loses_nothing_and_refuses_line_by_line() {
    all("influx27");
}
