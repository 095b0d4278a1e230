//! Against a receiver on a real socket that answers as it is told: every fate, both ways to be required.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods, reason = "tests")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, atomic::AtomicBool, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use super::{
    fates::{FATES, Fate},
    *,
};
use crate::{
    metrics::State,
    sinks::{self, Driven, Home, Level, Settle, Settled, until},
};

/// One request as it came.
#[derive(Clone, Debug)]
struct Request {
    line: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What the receiver does with a request.
#[derive(Clone, Debug)]
enum Answer {
    Status(u16),
    /// With one header, and a body.
    With(u16, &'static str, &'static str),
    /// Nothing comes, and the connection stays.
    Hang,
    /// The connection ends without an answer.
    Reset,
    /// A status, and a body that breaks off.
    Half(u16),
}

type Judge = dyn Fn(&Request, usize) -> Answer + Send + Sync;

/// A receiver. It notes each request before it answers.
struct Receiver {
    url: String,
    seen: Arc<Mutex<Vec<(Instant, Request)>>>,
}

impl Receiver {
    /// - `judge`: what to answer to a request, by it and its number.
    fn start(judge: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<(Instant, Request)>>> = Arc::default();
        let (notes, judge): (_, Arc<Judge>) = (seen.clone(), Arc::new(judge));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (notes, judge) = (notes.clone(), judge.clone());
                std::thread::spawn(move || serve(&stream, &notes, &*judge));
            }
        });
        Self { url, seen }
    }
    fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().iter().map(|(_, request)| request.clone()).collect()
    }
    fn bodies(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.body).collect()
    }
    /// From one request to the next.
    fn waits(&self) -> Vec<Duration> {
        let seen = self.seen.lock().unwrap();
        seen.windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
    }
}

fn serve(stream: &TcpStream, notes: &Mutex<Vec<(Instant, Request)>>, judge: &Judge) {
    let (mut reader, mut to) = (BufReader::new(stream), stream);
    while let Some(request) = read(&mut reader) {
        let number = {
            let mut notes = notes.lock().unwrap();
            notes.push((Instant::now(), request.clone()));
            notes.len() - 1
        };
        let (status, header, body, length) = match judge(&request, number) {
            Answer::Status(status) => (status, "", "", 0),
            Answer::With(status, header, body) => (status, header, body, body.len()),
            Answer::Half(status) => (status, "", "half", 100),
            Answer::Hang => {
                std::thread::sleep(Duration::from_secs(60));
                return;
            }
            Answer::Reset => return,
        };
        let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
        let text = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{header}\r\n{body}");
        if to.write_all(text.as_bytes()).is_err() || length > body.len() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|n| *n > 0)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, n)| n.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { line: line.trim_end().to_owned(), headers, body: String::from_utf8(body).unwrap() })
}

/// Takes answers.
#[derive(Default)]
struct Answers {
    delivered: Mutex<Vec<u32>>,
    refused: Mutex<Vec<(u32, String)>>,
}

impl Home for Answers {
    fn settle(&self, _: u8, settle: Settle) {
        let seq = u32::try_from(settle.seq).unwrap();
        match settle.messages {
            Settled::One(_) => self.delivered.lock().unwrap().push(seq),
            Settled::Refused(_, why) => self.refused.lock().unwrap().push((seq, why)),
            Settled::Delivered(_) | Settled::PutBy(_) => panic!("one by one"),
        }
    }
}

fn parse(text: &str) -> (Box<dyn Spec>, String) {
    sinks::parse("webhook", text)
}

type Bench = Driven<Answers>;

fn start(url: &str, more: &str) -> Bench {
    let (spec, errors) = parse(&format!("url = {url:?}\n{more}"));
    assert_eq!(errors, "");
    Driven::start(spec)
}

impl Bench {
    fn push_all(&self, count: u32) {
        (0..count).for_each(|n| self.push(format!("{{\"n\":{n}}}")));
    }
    fn delivered(&self) -> Vec<u32> {
        self.home.delivered.lock().unwrap().clone()
    }
    fn refused(&self) -> Vec<(u32, String)> {
        self.home.refused.lock().unwrap().clone()
    }
    fn until_delivered(&self, count: usize) {
        until("all is delivered", || self.delivered().len() >= count);
    }
}

fn secret(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{text}\n")).unwrap();
    file
}

#[test]
fn each_message_is_one_request_with_its_headers_and_its_signature() {
    let receiver = Receiver::start(|_, _| Answer::Status(204));
    let (token, key) = (secret("Bearer sesame"), secret("Jefe"));
    let more = format!(
        "required = true\nheaders.X-Team = 'soc'\nheaders_file.Authorization = {:?}\nsignature.key_file = {:?}",
        token.path(),
        key.path()
    );
    let bench = start(&format!("{}/in?x=1", receiver.url), &more);
    until("it is ready before any message", || bench.state() == State::Ready);
    bench.push("what do ya want for nothing?");
    bench.push("{\"n\":1}");
    bench.until_delivered(2);
    bench.finish();
    let requests = receiver.requests();
    assert_eq!(receiver.bodies(), ["what do ya want for nothing?", "{\"n\":1}"]);
    let first = &requests[0];
    assert_eq!(first.line, "POST /in?x=1 HTTP/1.1");
    let expected = [
        ("content-type", "application/json"),
        ("x-team", "soc"),
        ("authorization", "Bearer sesame"),
        // RFC 4231, test case 2.
        ("x-signature-256", "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        ("shipper-origin", "m/alerts/2026-03-14/000/7+2"),
    ];
    for (name, value) in expected {
        assert_eq!(first.header(name), Some(value), "{name} in {first:?}");
    }
    assert!(first.header("user-agent").unwrap().starts_with("shipper/"));
}

#[test]
fn many_go_in_one_request_as_an_array_or_as_lines() {
    for (form, kind) in [("array", "application/json"), ("ndjson", "application/x-ndjson")] {
        let receiver = Receiver::start(|_, _| Answer::Status(200));
        let bench = start(&receiver.url, &format!("required = true\nform = {form:?}\nbatch = 7\nlinger = '50ms'"));
        bench.push_all(20);
        bench.until_delivered(20);
        assert_eq!(bench.delivered(), (0..20).collect::<Vec<_>>());
        bench.finish();
        let mut numbers = Vec::new();
        for request in receiver.requests() {
            let body = if form == "array" { request.body.clone() } else { format!("[{}]", request.body.trim_end().replace('\n', ",")) };
            let items: Vec<serde_json::Value> = serde_json::from_str(&body).unwrap();
            assert!(items.len() <= 7 && request.header("content-type") == Some(kind) && request.header("shipper-origin").is_none());
            numbers.extend(items.into_iter().map(|item| item["n"].as_u64().unwrap()));
        }
        assert_eq!(numbers, (0..20).collect::<Vec<_>>());
        assert!(receiver.requests().len() <= 5, "{}", receiver.requests().len());
    }
}

#[test]
fn each_row_of_the_table_of_fates_is_what_a_sink_does() {
    for (range, fate, remedy) in FATES {
        let status = *range.start();
        let receiver = Receiver::start(move |_, _| Answer::Status(status));
        let bench = start(&receiver.url, "required = true");
        bench.push("{}");
        match fate {
            Fate::Delivered => bench.until_delivered(1),
            Fate::Refused => {
                until("it is refused", || !bench.refused().is_empty());
                assert!(bench.refused()[0].1.ends_with(remedy), "{status}: {:?}", bench.refused());
            }
            Fate::Retry => until("it waits", || matches!(bench.state(), State::Retrying(why) if why.ends_with(remedy))),
            Fate::Hold => until("it holds", || matches!(bench.state(), State::Holding(why) if why.ends_with(remedy))),
            Fate::Abort => panic!("no answer of a receiver ends the agent"),
        }
        let settled = (bench.delivered().len(), bench.refused().len());
        let expected = (usize::from(*fate == Fate::Delivered), usize::from(*fate == Fate::Refused));
        assert_eq!(settled, expected, "{status}");
        bench.finish();
    }
}

#[test]
fn one_bad_message_is_proven_alone_and_its_neighbours_are_delivered_in_order() {
    let receiver =
        Receiver::start(|request, _| if request.body.contains("\"n\":13}") { Answer::With(400, "", "bad n") } else { Answer::Status(200) });
    let bench = start(&receiver.url, "required = true\nform = 'ndjson'\nbatch = 50\nlinger = '100ms'");
    bench.push_all(50);
    bench.until_delivered(49);
    let expected: Vec<u32> = (0..50).filter(|n| *n != 13).collect();
    assert_eq!(bench.delivered(), expected);
    let [(13, why)] = &bench.refused()[..] else { panic!("{:?}", bench.refused()) };
    assert!(why.contains("answers 400 (bad n); it calls the body wrong"), "{why}");
    assert_eq!(bench.state(), State::Ready);
    assert!(receiver.requests().len() <= 20, "{}", receiver.requests().len());
    bench.finish();
}

#[test]
fn errors_resets_and_hangs_lose_nothing_and_keep_the_order() {
    let receiver = Receiver::start(|_, n| match n {
        0 => Answer::Status(500),
        2 => Answer::Reset,
        4 => Answer::Hang,
        _ => Answer::Status(200),
    });
    let bench = start(&receiver.url, "required = true\ntimeout = '1s'\nbackoff_max = '1s'");
    bench.push_all(5);
    until("the trouble is told", || matches!(bench.state(), State::Retrying(why) if why.contains("answers 500")));
    bench.until_delivered(5);
    assert_eq!((bench.delivered(), bench.refused().len()), ((0..5).collect(), 0));
    assert_eq!(bench.state(), State::Ready);
    bench.finish();
    let numbers: Vec<char> = receiver.bodies().iter().map(|body| body.chars().nth(5).unwrap()).collect();
    assert_eq!(numbers, ['0', '0', '1', '1', '2', '2', '3', '4'], "each that had no answer was sent again, next");
}

#[test]
fn a_status_is_the_answer_even_if_its_body_breaks_off() {
    let receiver = Receiver::start(|_, _| Answer::Half(200));
    let bench = start(&receiver.url, "required = true");
    bench.push_all(2);
    bench.until_delivered(2);
    bench.finish();
    assert_eq!(receiver.requests().len(), 2, "nothing is sent twice");
}

#[test]
fn retry_after_is_heeded() {
    let receiver = Receiver::start(|_, n| if n == 0 { Answer::With(429, "Retry-After: 3", "") } else { Answer::Status(200) });
    let bench = start(&receiver.url, "required = true\nbackoff_max = '1s'");
    bench.push_all(2);
    bench.until_delivered(2);
    bench.finish();
    let waits = receiver.waits();
    assert!(waits[0] >= Duration::from_millis(2990) && waits[1] < Duration::from_secs(2), "{waits:?}");
}

#[test]
fn a_rate_of_our_own_is_kept() {
    let receiver = Receiver::start(|_, _| Answer::Status(200));
    let bench = start(&receiver.url, "required = true\nrate = 20");
    bench.push_all(5);
    bench.until_delivered(5);
    bench.finish();
    let whole: Duration = receiver.waits().iter().sum();
    assert!(whole >= Duration::from_millis(190), "{:?}", receiver.waits());
}

#[test]
fn what_nobody_waits_for_is_bounded_by_age_and_by_number_and_counted() {
    let is_up = Arc::new(AtomicBool::new(false));
    let up = is_up.clone();
    let receiver = Receiver::start(move |_, _| if up.load(SeqCst) { Answer::Status(200) } else { Answer::Status(503) });
    let old = start(&receiver.url, "give_up_after = '1s'");
    old.push_all(1);
    until("the first is too old", || old.dropped("too_old") == 1);
    old.finish();
    let bench = start(&receiver.url, "form = 'ndjson'\nbatch = 10000\nbackoff_max = '1s'");
    bench.push("{}");
    until("the trouble is told", || matches!(bench.state(), State::Retrying(_)));
    for _ in 0..crate::limits::OPTIONAL_INBOX_MESSAGES + 4 {
        while bench.inbox.len() > 8000 {
            std::thread::sleep(Duration::from_millis(1));
        }
        bench.push("{}");
    }
    until("the oldest made room", || bench.dropped("inbox_full") == 5);
    is_up.store(true, SeqCst);
    let lines = || receiver.requests().last().map_or(0, |request| request.body.lines().count());
    until("the rest is delivered", || bench.state() == State::Ready && lines() == crate::limits::OPTIONAL_INBOX_MESSAGES);
    let metrics = bench.finish();
    assert!(!metrics.text().contains("reason=\"stopped\""), "all was out");
}

#[test]
fn a_refusal_that_nobody_waits_for_is_counted_and_others_go_on() {
    let receiver = Receiver::start(|request, _| if request.body.contains("bad") { Answer::Status(422) } else { Answer::Status(200) });
    let bench = start(&receiver.url, "");
    ["{\"a\":1}", "bad", "{\"b\":2}"].iter().for_each(|text| bench.push(text));
    until("the last is out", || receiver.bodies().len() == 3);
    until("the bad one is counted", || bench.dropped("refused") == 1);
    assert_eq!(bench.refused(), [], "nobody waits for it");
    bench.finish();
}

#[test]
fn what_is_left_at_a_stop_is_counted_or_read_again() {
    let receiver = Receiver::start(|_, _| Answer::Status(503));
    for (more, stopped) in [("", "reason=\"stopped\"} 3"), ("required = true", "")] {
        let bench = start(&receiver.url, more);
        bench.push_all(3);
        until("it waits", || matches!(bench.state(), State::Retrying(_)));
        let answers = bench.home.clone();
        let text = bench.finish().text();
        assert_eq!(text.contains("stopped"), !stopped.is_empty(), "{text}");
        assert!(text.contains(stopped));
        assert!(answers.delivered.lock().unwrap().is_empty() && answers.refused.lock().unwrap().is_empty());
    }
}

#[test]
fn what_waits_at_a_stop_still_goes_out_to_a_receiver_that_takes_it() {
    let receiver = Receiver::start(|_, _| Answer::Status(200));
    let bench = start(&receiver.url, "form = 'array'\nlinger = '60s'");
    bench.push_all(3);
    until("it is taken on", || bench.inbox.is_empty());
    let text = bench.finish().text();
    assert_eq!(receiver.bodies(), ["[{\"n\":0},{\"n\":1},{\"n\":2}]"]);
    assert!(!text.contains("stopped"), "{text}");
}

#[test]
fn a_missing_secret_holds_before_anybody_connects() {
    let receiver = Receiver::start(|_, _| Answer::Status(200));
    let bench = start(&receiver.url, "required = true\nheaders_file.Authorization = '/nowhere/token'");
    bench.push("{}");
    until("it holds", || matches!(bench.state(), State::Holding(why) if why.contains("value for header Authorization in /nowhere/token")));
    assert_eq!(receiver.requests().len(), 0);
    bench.finish();
}

const ALERT: &str = r#"{"timestamp":1796010428,"severity":95,"client_ip":"203.0.113.5","rule_id":"942100","uri":"/a","tx_id":"Z1"}"#;

#[test]
fn alerts_go_to_pagerduty_and_slack_and_what_is_none_is_refused() {
    let key = secret("integration");
    let rows = [
        ("pagerduty", format!("pagerduty.routing_key_file = {:?}", key.path()), 1),
        ("slack", "from_severity = 90".to_owned(), 1),
        ("slack", String::new(), 2),
    ];
    for (form, more, sent) in rows {
        let receiver = Receiver::start(|_, _| Answer::Status(202));
        let bench = start(&receiver.url, &format!("required = true\nform = {form:?}\n{more}"));
        [ALERT, &ALERT.replace("95", "89"), "{\"n\":1}"].iter().for_each(|text| bench.push(text));
        bench.until_delivered(2);
        until("the last is refused", || bench.refused().len() == 1);
        assert!(bench.refused()[0].1.contains("it has no number \"severity\"; wire"), "{:?}", bench.refused());
        assert_eq!((receiver.bodies().len(), bench.dropped("below_severity")), (sent, 2 - sent as u64));
        let body: serde_json::Value = serde_json::from_str(&receiver.bodies()[0]).unwrap();
        match form {
            "pagerduty" => assert_eq!((&body["routing_key"], &body["payload"]["severity"]), (&"integration".into(), &"critical".into())),
            _ => assert!(body["text"].as_str().unwrap().contains("203.0.113.5"), "{body}"),
        }
        bench.finish();
    }
}

#[test]
fn check_looks_at_everything_and_posts_nothing() {
    let receiver = Receiver::start(|_, _| Answer::Status(200));
    let found = |text: &str| parse(text).0.check_files("w", 0).into_iter().map(|f| (f.level, f.text)).collect::<Vec<_>>();
    let good = found(&format!("url = '{}/sesame'", receiver.url));
    assert!(good.len() == 1 && good[0].0 == Level::Good && !good[0].1.contains("sesame"), "{good:?}");
    let path = secret("/services/sesame");
    let [host, blank] = [".evil.example/sesame", "/ses ame"].map(secret);
    let rows = [
        (format!("url = 'https://hooks.example'\npath_file = {:?}", path.path()), Level::Good, "https://hooks.example: URL, certificates"),
        (format!("url = 'https://hooks.example'\npath_file = {:?}", host.path()), Level::Bad, "does not begin with a slash"),
        (format!("url = 'https://hooks.example'\npath_file = {:?}", blank.path()), Level::Bad, "is no path of a URL"),
        ("url = 'https://h'\npath_file = '/nowhere/path'".into(), Level::Bad, "cannot read the path in /nowhere/path"),
        ("url = 'https://h'\ntls.ca = '/nowhere/ca'".into(), Level::Bad, "tls.ca /nowhere/ca: cannot be read"),
        ("url = 'https://h'\nheaders_env.X-Key = 'SHIPPER_TEST_UNSET'".into(), Level::Bad, "variable SHIPPER_TEST_UNSET holds no value"),
        ("url = 'https://h'\nsignature.key_file = '/nowhere/key'".into(), Level::Bad, "the signature key in /nowhere/key"),
        ("url = 'http://hooks.example'".into(), Level::Warning, "messages go in plain text to http://hooks.example"),
        ("url = 'https://h'\ntls.verify = false".into(), Level::Warning, "tls.verify is false"),
        ("url = 'https://h/x'\nform = 'slack'".into(), Level::Warning, "move its path from url to path_file"),
        (
            format!("url = 'https://h/x'\nform = 'pagerduty'\npagerduty.routing_key_file = {:?}", path.path()),
            Level::Good,
            "where records are full (alert_fields = \"full\" of handler waf)",
        ),
    ];
    for (text, level, part) in rows {
        let found = found(&text);
        assert!(found.iter().any(|(l, t)| *l == level && t.contains(part)), "{text}: {found:?}");
        assert!(found.iter().all(|(_, t)| !t.contains("sesame")), "{found:?}");
    }
    assert_eq!(receiver.requests().len(), 0);
}
