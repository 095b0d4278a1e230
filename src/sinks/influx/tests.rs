//! Against a server on a real socket that answers as InfluxDB 1.6, 1.8 and 2.7 do, and as none of them does on its own.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods, reason = "tests")]

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
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

/// One request as it came, its body unpacked.
#[derive(Clone, Debug, Default)]
struct Request {
    line: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
    fn is_write(&self) -> bool {
        self.line.contains("/write?")
    }
}

/// What the server does with a request.
#[derive(Clone, Debug)]
enum Answer {
    Status(u16, &'static str),
    /// With one header more.
    With(u16, &'static str),
    /// It says its version.
    Version(&'static str),
    /// Nothing comes, and the connection stays.
    Hang,
    /// The connection ends without an answer.
    Reset,
}

/// How a server takes a request with bad lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    /// The good ones of it, as 1.x.
    Part,
    /// None of it, as 2.x where a line cannot be parsed.
    None,
}

type Judge = dyn Fn(&Request, usize) -> Option<Answer> + Send + Sync;

/// Requests, each with when it came.
type Seen = Arc<Mutex<Vec<(Instant, Request)>>>;

/// A server with one bucket, in which a line that holds `bad` has no place.
struct Server {
    url: String,
    seen: Seen,
    stored: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// - `judge`: what to answer to a request, by it and its number; `None`: as the server does.
    fn start(takes: Takes, judge: impl Fn(&Request, usize) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (seen, stored): (Seen, Arc<Mutex<Vec<String>>>) = Default::default();
        let (notes, lines, judge): (_, _, Arc<Judge>) = (seen.clone(), stored.clone(), Arc::new(judge));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (notes, lines, judge) = (notes.clone(), lines.clone(), judge.clone());
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(&stream);
                    while let Some(request) = read(&mut reader) {
                        let number = {
                            let mut notes = notes.lock().unwrap();
                            notes.push((Instant::now(), request.clone()));
                            notes.len() - 1
                        };
                        let answer = judge(&request, number).unwrap_or_else(|| write(&request, takes, &lines));
                        if say(&stream, answer).is_none() {
                            return;
                        }
                    }
                });
            }
        });
        Self { url, seen, stored }
    }
    fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().iter().map(|(_, request)| request.clone()).collect()
    }
    /// Writes that held lines.
    fn writes(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.is_write() && !request.body.is_empty()).collect()
    }
    fn stored(&self) -> BTreeSet<String> {
        self.stored.lock().unwrap().iter().cloned().collect()
    }
    /// From one request to the next.
    fn waits(&self) -> Vec<Duration> {
        let seen = self.seen.lock().unwrap();
        seen.windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
    }
}

/// As the real ones do it, in their own words.
fn write(request: &Request, takes: Takes, stored: &Mutex<Vec<String>>) -> Answer {
    if !request.is_write() {
        return Answer::Version("2.7.12");
    }
    let is_bad = |line: &&str| line.contains("bad");
    let bad = request.body.lines().filter(is_bad).count();
    if bad == 0 || takes == Takes::Part {
        stored.lock().unwrap().extend(request.body.lines().filter(|line| !is_bad(line)).map(str::to_owned));
    }
    match (bad, takes) {
        (0, _) => Answer::Status(204, ""),
        (_, Takes::Part) => Answer::Status(400, r#"{"error":"partial write: field type conflict: f dropped=1"}"#),
        (_, Takes::None) => Answer::Status(400, r#"{"code":"invalid","message":"unable to parse 'bad': missing fields"}"#),
    }
}

fn say(mut to: &TcpStream, answer: Answer) -> Option<()> {
    let (status, header, body) = match answer {
        Answer::Status(status, body) => (status, String::new(), body),
        Answer::With(status, header) => (status, format!("{header}\r\n"), ""),
        Answer::Version(version) => (204, format!("X-Influxdb-Version: {version}\r\n"), ""),
        Answer::Hang => {
            std::thread::sleep(Duration::from_secs(60));
            return None;
        }
        Answer::Reset => return None,
    };
    // RFC 9110 §8.6: no length with 204.
    let length = if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    to.write_all(format!("HTTP/1.1 {status} X\r\n{length}{header}\r\n{body}").as_bytes()).ok()
}

fn read(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut request = Request { line: line.trim_end().to_owned(), ..Request::default() };
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|n| *n > 0)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        request.headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let mut body = vec![0; request.header("content-length").map_or(0, |n| n.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    match request.header("content-encoding") {
        Some("gzip") => flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut request.body).map(drop).unwrap(),
        _ => request.body = String::from_utf8(body).unwrap(),
    }
    Some(request)
}

/// Takes answers, by number of the message.
#[derive(Default)]
struct Answers {
    delivered: Mutex<Vec<u64>>,
    refused: Mutex<Vec<(u64, String)>>,
}

impl Home for Answers {
    fn settle(&self, _: u8, settle: Settle) {
        match settle.messages {
            Settled::Delivered(_) => self.delivered.lock().unwrap().push(settle.seq),
            Settled::Refused(_, why) => self.refused.lock().unwrap().push((settle.seq, why)),
            Settled::One(_) | Settled::PutBy(_) => panic!("batches are answered together"),
        }
    }
}

type Bench = Driven<Answers>;

fn spec(url: &str, more: &str) -> Box<dyn Spec> {
    let (spec, errors) = sinks::parse("influx", &format!("url = {url:?}\nbucket = 'waf'\n{more}"));
    assert_eq!(errors, "");
    spec
}

fn start(url: &str, more: &str) -> Bench {
    Driven::start(spec(url, more))
}

impl Bench {
    fn lines(&self, outcome: &str) -> u64 {
        self.count("influx_lines", "outcome", outcome)
    }
    fn delivered(&self) -> Vec<u64> {
        self.home.delivered.lock().unwrap().clone()
    }
    fn refused(&self) -> Vec<(u64, String)> {
        self.home.refused.lock().unwrap().clone()
    }
    fn until_settled(&self, count: usize) {
        until("all is settled", || self.delivered().len() + self.refused().len() >= count);
    }
}

fn secret(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{text}\n")).unwrap();
    file
}

#[test]
fn the_way_is_that_of_the_version_and_says_who_we_are() {
    let key = secret("me:sesame");
    let (token, user) = (format!("token_file = {:?}\norg = 'o 1'", key.path()), "username = 'me'\npassword_file = ");
    let password = secret("sesame");
    let user = format!("{user}{:?}", password.path());
    let rows = [
        ("2.7.12", &token, "POST /api/v2/write?org=o%201&bucket=waf&precision=ns HTTP/1.1", "Token me:sesame"),
        ("1.8.10", &user, "POST /api/v2/write?bucket=waf&precision=ns HTTP/1.1", "Token me:sesame"),
        ("1.6.7", &user, "POST /write?db=waf&precision=ns HTTP/1.1", "Basic bWU6c2VzYW1l"),
        ("1.6.7", &token, "POST /write?db=waf&precision=ns HTTP/1.1", "Basic bWU6c2VzYW1l"),
    ];
    for (version, login, line, authorization) in rows {
        let server = Server::start(Takes::Part, move |request, _| (!request.is_write()).then_some(Answer::Version(version)));
        let bench = start(&server.url, &format!("linger = '0'\n{login}"));
        until("it is ready before any line", || bench.state() == State::Ready);
        bench.push("m f=1i 1");
        bench.until_settled(1);
        bench.finish();
        let [write] = &server.writes()[..] else { panic!("{:?}", server.requests()) };
        assert_eq!((write.line.as_str(), write.body.as_str()), (line, "m f=1i 1\n"));
        assert_eq!((write.header("authorization"), write.header("content-encoding")), (Some(authorization), Some("gzip")));
    }
}

#[test]
fn a_server_that_does_not_tell_its_version_is_asked_for_a_write_of_nothing() {
    for (is_old, line) in
        [(true, "POST /write?db=waf&precision=ns HTTP/1.1"), (false, "POST /api/v2/write?bucket=waf&precision=ns HTTP/1.1")]
    {
        let server = Server::start(Takes::Part, move |request, _| match request.is_write() {
            false => Some(Answer::Version("unknown")),
            true if is_old && request.line.contains("/api/v2/") => Some(Answer::Status(404, "404 page not found\n")),
            true => None,
        });
        let bench = start(&server.url, "linger = '0'\ngzip = false");
        bench.push("m f=1i 1");
        bench.until_settled(1);
        bench.finish();
        assert_eq!(server.writes()[0].line, line);
    }
}

#[test]
fn lines_go_together_by_number_by_bytes_and_by_time() {
    let rows = [("batch = 10\nlinger = '60s'", 10), ("batch_bytes = '1 KiB'\nlinger = '60s'", 85), ("linger = '0'", 0)];
    for (more, together) in rows {
        let server = Server::start(Takes::Part, |_, _| None);
        let bench = start(&server.url, more);
        (100..1000).for_each(|n| bench.push(format!("m f={n} {n}")));
        match together {
            0 => bench.until_settled(900),
            n => {
                // What is no whole batch waits for its time.
                bench.until_settled(900 / n * n);
                assert_eq!(bench.delivered().len(), 900 / n * n, "{more}");
                assert!(server.writes().iter().all(|write| write.body.lines().count() == n), "{more}");
            }
        }
        let written = bench.delivered();
        assert_eq!(written, (0..written.len() as u64).collect::<Vec<_>>(), "in order");
        assert!(bench.lines("written") == written.len() as u64 && bench.count("influx_batches", "code", "204") > 0);
        bench.finish();
    }
    let server = Server::start(Takes::Part, |_, _| None);
    let bench = start(&server.url, "linger = '300ms'");
    until("it is ready", || bench.state() == State::Ready);
    let began = Instant::now();
    bench.push("m f=1 1");
    bench.until_settled(1);
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    bench.finish();
}

#[test]
fn a_bad_line_is_proven_alone_and_all_others_are_written() {
    for takes in [Takes::Part, Takes::None] {
        let server = Server::start(takes, |_, _| None);
        let bench = start(&server.url, "linger = '200ms'");
        let line = |n: u64| if n % 1000 == 500 { format!("m f=bad {n}") } else { format!("m f=1i {n}") };
        (0..5000).for_each(|n| bench.push(line(n)));
        bench.until_settled(5000);
        let bad: Vec<u64> = (0..5).map(|n| n * 1000 + 500).collect();
        assert_eq!(bench.refused().iter().map(|(n, _)| *n).collect::<Vec<_>>(), bad, "one by one");
        assert_eq!(bench.delivered().len(), 4995);
        assert_eq!(server.stored(), (0..5000).filter(|n| n % 1000 != 500).map(line).collect());
        let cause = if takes == Takes::Part { "type_conflict" } else { "unparsable" };
        assert_eq!((bench.lines("written"), bench.lines(cause)), (4995, 5));
        assert!(bench.refused()[0].1.starts_with(&format!("{} bucket waf answers 400 (", server.url)), "{:?}", bench.refused()[0]);
        assert!(server.writes().len() < 120, "{} requests", server.writes().len());
        assert_eq!(bench.state(), State::Ready);
        bench.finish();
    }
}

#[test]
fn a_message_of_two_lines_is_refused_whole_and_its_good_line_is_written() {
    let server = Server::start(Takes::Part, |_, _| None);
    let bench = start(&server.url, "linger = '100ms'");
    ["a f=1 1\nb f=1 1", "a f=2 2\nb f=bad 2", "a f=3 3\nb f=3 3", "\n"].into_iter().for_each(|message| bench.push(message));
    bench.until_settled(4);
    assert_eq!(bench.delivered(), [0, 2]);
    let refused = bench.refused();
    let why = |seq| refused.iter().find(|(n, _)| *n == seq).map(|(_, why)| why.as_str()).unwrap();
    assert!(why(1).starts_with("line 2 of 2: ") && why(1).ends_with("(1 of 2 lines are refused, the others are written)"), "{}", why(1));
    assert!(why(3).starts_with("the message holds no line; wire"), "{}", why(3));
    let expected = ["a f=1 1", "b f=1 1", "a f=2 2", "a f=3 3", "b f=3 3"];
    assert_eq!(server.stored(), expected.map(str::to_owned).into());
    bench.finish();
}

#[test]
fn each_row_of_the_table_of_fates_is_what_a_sink_does() {
    for row in FATES {
        let (status, says) = (*row.status.start(), row.says);
        let server = Server::start(Takes::Part, move |request, _| {
            let is_lines = request.is_write() && !request.body.is_empty();
            is_lines.then_some(Answer::Status(status, says))
        });
        let bench = start(&server.url, "linger = '0'");
        bench.push("m f=1 1");
        match row.fate {
            Fate::Written => bench.until_settled(1),
            // A write of nothing is taken, so it is the line.
            Fate::Refused | Fate::Doubted | Fate::TooLarge => {
                bench.until_settled(1);
                assert!(bench.refused()[0].1.ends_with(row.remedy), "{status}: {:?}", bench.refused());
                assert_eq!(bench.lines(row.cause.word()), 1, "{status} {says}");
            }
            Fate::Retry => until("it waits", || matches!(bench.state(), State::Retrying(why) if why.ends_with(row.remedy))),
            Fate::Hold => until("it holds", || matches!(bench.state(), State::Holding(why) if why.ends_with(row.remedy))),
            Fate::Abort => panic!("no answer of a server ends the agent"),
        }
        let settled = (bench.delivered().len(), bench.refused().len());
        let is_refused = matches!(row.fate, Fate::Refused | Fate::Doubted | Fate::TooLarge);
        assert_eq!(settled, (usize::from(row.fate == Fate::Written), usize::from(is_refused)), "{status} {says}");
        bench.finish();
    }
}

#[test]
fn a_strange_refusal_is_the_ways_fault_where_nothing_can_be_written_either() {
    let server = Server::start(Takes::Part, |request, _| {
        request.is_write().then_some(Answer::Status(400, r#"{"code":"invalid","message":"Please provide either orgID or org"}"#))
    });
    let bench = start(&server.url, "linger = '0'");
    bench.push("m f=1 1");
    until(
        "it holds",
        || matches!(bench.state(), State::Holding(why) if why.contains("Please provide either orgID or org); see org, bucket and rp")),
    );
    assert_eq!((bench.delivered().len(), bench.refused().len()), (0, 0), "nothing is given up");
    bench.finish();
}

#[test]
fn what_is_too_large_is_halved_and_later_requests_are_smaller() {
    let server = Server::start(Takes::Part, |request, _| {
        (request.body.len() > 4000).then_some(Answer::Status(413, r#"{"error":"Request Entity Too Large"}"#))
    });
    let bench = start(&server.url, "linger = '100ms'\nbatch_bytes = '16 KiB'");
    let line = |n: u64| format!("m,t=some_tag f={n}i {n}");
    (10_000..14_000).for_each(|n| bench.push(line(n)));
    bench.push(format!("m f=\"{}\" 9", "x".repeat(5000)));
    bench.until_settled(4001);
    assert_eq!(bench.refused().iter().map(|(n, _)| *n).collect::<Vec<_>>(), [4000]);
    assert_eq!(server.stored().len(), 4000);
    let large = server.writes().iter().filter(|write| write.body.len() > 4000).count();
    assert!(large < 20, "{large} of {} requests", server.writes().len());
    bench.finish();
}

#[test]
fn errors_resets_and_hangs_lose_nothing_and_keep_the_order() {
    let server = Server::start(Takes::Part, |request, n| match n {
        _ if !request.is_write() => None,
        1 => Some(Answer::Status(500, r#"{"error":"timeout"}"#)),
        3 => Some(Answer::Reset),
        5 => Some(Answer::Hang),
        _ => None,
    });
    let bench = start(&server.url, "timeout = '1s'\nbatch = 1\nbackoff_max = '1s'");
    (0..6).for_each(|n| bench.push(format!("m f=1 {n}")));
    bench.until_settled(6);
    assert_eq!((bench.delivered(), bench.refused().len(), bench.state()), ((0..6).collect(), 0, State::Ready));
    assert!(bench.count("influx_batches", "code", "none") == 2 && bench.count("influx_batches", "code", "500") == 1);
    bench.finish();
}

#[test]
fn an_overloaded_server_is_left_alone_for_as_long_as_it_wishes() {
    for status in [429, 503] {
        let server =
            Server::start(Takes::Part, move |request, n| (request.is_write() && n == 1).then_some(Answer::With(status, "Retry-After: 2")));
        let bench = start(&server.url, "linger = '0'");
        bench.push("m f=1 1");
        until("it says so", || matches!(bench.state(), State::Retrying(why) if why.contains(&format!("answers {status}"))));
        bench.until_settled(1);
        bench.finish();
        assert!(server.waits()[1] >= Duration::from_millis(1990), "{:?}", server.waits());
    }
}

#[test]
fn waits_double_and_then_a_server_that_is_away_is_only_pinged() {
    let server = Server::start(Takes::Part, |_, n| (1..=5).contains(&n).then_some(Answer::Reset));
    let bench = start(&server.url, "linger = '0'");
    bench.push("m f=1 1");
    until("the breaker is open", || bench.metrics_text().contains("shipper_influx_breaker_open{component=\"sinks.it\"} 1\n"));
    bench.until_settled(1);
    assert!(bench.metrics_text().contains("shipper_influx_breaker_open{component=\"sinks.it\"} 0\n"));
    bench.finish();
    let requests: Vec<bool> = server.requests().iter().map(Request::is_write).collect();
    // A ping at the start; five writes fail; a ping is answered; the write.
    assert_eq!(requests, [false, true, true, true, true, true, false, true]);
    let waits = server.waits();
    for (wait, full) in waits[1..5].iter().zip([200, 400, 800, 1600]) {
        assert!(*wait >= Duration::from_millis(full / 2) && *wait <= Duration::from_millis(full + 500), "{waits:?}");
    }
}

#[test]
fn a_missing_secret_holds_before_anybody_connects() {
    let server = Server::start(Takes::Part, |_, _| None);
    let bench = start(&server.url, "token_file = '/nowhere/token'");
    bench.push("m f=1 1");
    until("it holds", || matches!(bench.state(), State::Holding(why) if why.contains("the token in /nowhere/token")));
    assert_eq!(server.requests().len(), 0);
    bench.finish();
}

#[test]
fn a_missing_database_is_made_only_where_that_is_asked_for() {
    for asks in [false, true] {
        let is_made = Arc::new(Mutex::new(false));
        let made = is_made.clone();
        let server = Server::start(Takes::Part, move |request, _| match &request.line {
            line if line.starts_with("GET /ping") => Some(Answer::Version("1.6.7")),
            line if line.starts_with("POST /query") => {
                assert_eq!(request.body, "q=CREATE%20DATABASE%20%22waf%22");
                *made.lock().unwrap() = true;
                Some(Answer::Status(200, r#"{"results":[{"statement_id":0}]}"#))
            }
            _ if !*made.lock().unwrap() => Some(Answer::Status(404, r#"{"error":"database not found: \"waf\""}"#)),
            _ => None,
        });
        let more = format!("linger = '0'\ncreate_database = {asks}");
        let found = spec(&server.url, &more).check("i");
        assert!(matches!(&found[..], [one] if (one.level == Level::Good) == asks), "{found:?}");
        assert!(!*is_made.lock().unwrap(), "a check makes nothing");
        let bench = start(&server.url, &more);
        bench.push("m f=1 1");
        if asks {
            bench.until_settled(1);
        } else {
            until(
                "it holds",
                || matches!(bench.state(), State::Holding(why) if why.contains("(database not found: \"waf\"); make it there")),
            );
        }
        assert_eq!(*is_made.lock().unwrap(), asks);
        bench.finish();
    }
}

#[test]
fn at_a_stop_what_is_required_is_read_again_and_the_rest_is_written_or_counted() {
    let server = Server::start(Takes::Part, |_, _| None);
    let bench = start(&server.url, "linger = '60s'\nrequired = false");
    (0..3).for_each(|n| bench.push(format!("m f=1 {n}")));
    until("it is taken on", || bench.inbox.is_empty());
    let text = bench.finish().text();
    assert!(server.stored().len() == 3 && !text.contains("stopped"), "{text}");

    let away = Server::start(Takes::Part, |request, _| request.is_write().then_some(Answer::Status(503, "")));
    for (more, stopped) in [("required = false", "reason=\"stopped\"} 3"), ("required = true", "")] {
        let bench = start(&away.url, &format!("linger = '50ms'\n{more}"));
        (0..3).for_each(|n| bench.push(format!("m f=1 {n}")));
        until("it waits", || matches!(bench.state(), State::Retrying(_)));
        let answers = bench.home.clone();
        let text = bench.finish().text();
        assert_eq!(text.contains("stopped"), !stopped.is_empty(), "{text}");
        assert!(text.contains(stopped));
        assert!(answers.delivered.lock().unwrap().is_empty() && answers.refused.lock().unwrap().is_empty());
    }
}

#[test]
fn check_tells_of_the_files_and_connected_whether_a_write_would_be_taken() {
    let found = |spec: &dyn Spec| {
        let all = [spec.check_files("i", 0), spec.check("i")].concat();
        all.into_iter().map(|finding| (finding.level, finding.text)).collect::<Vec<_>>()
    };
    let keys = r#"{"results":[{"series":[{"name":"m","columns":["tagKey"],"values":[["client_ip"],["host"]]}]}]}"#;
    let server = Server::start(Takes::Part, move |request, _| match &request.body {
        _ if request.is_write() => None,
        body if body.starts_with("q=SHOW%20TAG%20KEYS") => Some(Answer::Status(200, keys)),
        body if body.contains("client_ip") => {
            Some(Answer::Status(200, r#"{"results":[{"series":[{"name":"m","columns":["count"],"values":[[99000]]}]}]}"#))
        }
        body if body.contains("host") => {
            Some(Answer::Status(200, r#"{"results":[{"series":[{"name":"m","columns":["count"],"values":[[3]]}]}]}"#))
        }
        _ => Some(Answer::Version("1.8.10")),
    });
    let good = found(&*spec(&server.url, ""));
    assert_eq!(good.iter().map(|(level, _)| *level).collect::<Vec<_>>(), [Level::Good, Level::Good, Level::Warning], "{good:?}");
    assert!(good[1].1.ends_with("bucket waf: InfluxDB 1.8.10 takes writes by API v2 (/api/v2/write)"), "{good:?}");
    assert!(good[2].1.starts_with("tag \"client_ip\" has 99000 values; at 100000 (max-values-per-tag)"), "{good:?}");
    assert!(server.writes().is_empty(), "nothing is written");

    let missing = Server::start(Takes::Part, |request, _| {
        request.is_write().then_some(Answer::Status(404, r#"{"code":"not found","message":"bucket \"waf\" not found"}"#))
    });
    let token = secret("sesame");
    let rows = [
        (missing.url.clone(), String::new(), Level::Bad, "answers 404 (bucket \"waf\" not found); make it there"),
        ("http://127.0.0.1:1".into(), String::new(), Level::Bad, "cannot connect to http://127.0.0.1:1"),
        (server.url.clone(), "token_file = '/nowhere/t'".into(), Level::Bad, "cannot read the token in /nowhere/t"),
        ("https://127.0.0.1:1".into(), "tls.ca = '/nowhere/ca'".into(), Level::Bad, "tls.ca /nowhere/ca: cannot be read"),
        ("https://127.0.0.1:1".into(), "tls.verify = false".into(), Level::Warning, "tls.verify is false"),
        ("http://influx.invalid".into(), format!("token_file = {:?}", token.path()), Level::Warning, "lines and secrets go in plain text"),
    ];
    for (url, more, level, part) in rows {
        let found = found(&*spec(&url, &more));
        assert!(found.iter().any(|(l, t)| *l == level && t.contains(part)), "{url} {more}: {found:?}");
        assert!(found.iter().all(|(_, t)| !t.contains("sesame")), "{found:?}");
    }
}
