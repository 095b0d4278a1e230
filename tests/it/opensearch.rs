//! Source `opensearch` in a running agent, against a stand-in that does what a real server does only when it is ill:
//! failed shards, limits, half answers; and that speaks as Elasticsearch does, which is not to be had. What a real
//! OpenSearch does is in `tests/services`.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use shipper::{io::Engine, metrics::State};

use crate::agent::{Started, start, until};

/// What goes wrong with one search.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Status(u16, &'static str),
    /// 200, with a shard missing.
    Partial,
    TimedOut,
    /// The point in time is not there any more.
    Gone,
    /// The connection ends in the middle of the body.
    Half,
    Html,
}

#[derive(Clone, Debug)]
struct Document {
    id: String,
    at: i64,
    tie: u64,
    source: String,
}

#[derive(Default)]
struct World {
    is_elastic: bool,
    /// What Authorization must be; empty: nothing.
    login: String,
    documents: Vec<Document>,
    /// For the next searches, in turn.
    faults: VecDeque<Option<Fault>>,
    points: BTreeMap<String, Vec<Document>>,
    opened: u32,
    closed: u32,
    /// Requests, with the time of each.
    asked: Vec<(Instant, String, Value)>,
}

/// The running stand-in.
struct Cluster {
    url: String,
    world: Arc<Mutex<World>>,
}

impl Cluster {
    fn start(world: World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let world = Arc::new(Mutex::new(world));
        let of = world.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let world = of.clone();
                std::thread::spawn(move || while serve(&stream, &world).is_some() {});
            }
        });
        Self { url, world }
    }
    fn with<T>(&self, of: impl FnOnce(&mut World) -> T) -> T {
        of(&mut self.world.lock().unwrap())
    }
    fn add(&self, documents: impl IntoIterator<Item = Document>) {
        self.with(|world| world.documents.extend(documents));
    }
}

fn send(to: &mut &TcpStream, status: u16, headers: &str, body: &str) -> Option<()> {
    write!(to, "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len()).ok()
}

fn serve(stream: &TcpStream, world: &Mutex<World>) -> Option<()> {
    let (mut reader, mut line, mut length, mut login) = (BufReader::new(stream), String::new(), 0, String::new());
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|n| *n > 0)?;
        let header = header.trim_end();
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(": ").unwrap();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "authorization" => login = value.to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap().to_owned());
    let mut world = world.lock().unwrap();
    world.asked.push((Instant::now(), format!("{method} {path}"), body.clone()));
    answer(&mut &*stream, &mut world, (method, &path), &login, &body)
}

fn error(kind: &str, reason: &str) -> String {
    json!({"error": {"root_cause": [{"type": kind, "reason": reason}], "type": kind, "reason": reason}}).to_string()
}

fn answer(to: &mut &TcpStream, world: &mut World, request: (&str, &str), login: &str, body: &Value) -> Option<()> {
    let product = if world.is_elastic { "X-elastic-product: Elasticsearch\r\n" } else { "" };
    if !world.login.is_empty() && login != world.login {
        return send(to, 401, product, &error("security_exception", "unable to authenticate"));
    }
    let open = if world.is_elastic { "/_pit?" } else { "/_search/point_in_time?" };
    match request {
        ("GET", "/") if world.is_elastic => {
            send(to, 200, product, r#"{"version":{"number":"8.14.0","build_flavor":"default"},"tagline":"You Know, for Search"}"#)
        }
        ("GET", "/") => send(to, 200, "", r#"{"version":{"distribution":"opensearch","number":"2.19.1"}}"#),
        ("POST", path) if path.contains(open) => {
            world.opened += 1;
            let pit = format!("pit-{}", world.opened);
            world.points.insert(pit.clone(), world.documents.clone());
            let name = if world.is_elastic { "id" } else { "pit_id" };
            send(to, 200, product, &json!({name: pit, "_shards": {"total": 2, "successful": 2, "failed": 0}}).to_string())
        }
        ("DELETE", "/_pit" | "/_search/point_in_time") => {
            let pit = if world.is_elastic { &body["id"] } else { &body["pit_id"][0] };
            world.closed += u32::from(world.points.remove(pit.as_str().unwrap()).is_some());
            send(to, 200, product, "{}")
        }
        ("POST", "/_search?allow_partial_search_results=false") => search(to, world, body, product),
        other => send(to, 404, product, &error("no_such_path", &format!("{other:?}"))),
    }
}

fn search(to: &mut &TcpStream, world: &mut World, body: &Value, product: &str) -> Option<()> {
    let missing = || error("search_context_missing_exception", "No search context found for id [7]");
    assert_eq!(body["track_total_hits"], false, "{body}");
    let tie = body.pointer("/sort/1").map(|tie| tie.as_object().unwrap().keys().next().unwrap().clone());
    if !world.is_elastic && tie.as_deref() == Some("_shard_doc") {
        return send(to, 400, "", &error("query_shard_exception", "No mapping found for [_shard_doc] in order to sort on"));
    }
    let fault = if body.get("aggs").is_none() { world.faults.pop_front().flatten() } else { None };
    match fault {
        Some(Fault::Status(status, headers)) => return send(to, status, headers, &error("es_rejected_execution_exception", "busy")),
        Some(Fault::Html) => return send(to, 200, "", "<html>welcome</html>"),
        Some(Fault::Gone) => return send(to, 404, product, &missing()),
        _ => {}
    }
    let Some(view) = world.points.get(body["pit"]["id"].as_str().unwrap()) else { return send(to, 404, product, &missing()) };
    let filter = &body["query"]["bool"]["filter"];
    let mut found: Vec<&Document> = match filter.pointer("/0/ids/values/0") {
        Some(id) => view.iter().filter(|document| document.id == id.as_str().unwrap()).collect(),
        None => {
            let range = &filter[0]["range"]["timestamp"];
            let (from, until) = (range["gte"].as_i64().unwrap(), range["lt"].as_i64().unwrap());
            view.iter().filter(|document| (from..until).contains(&document.at)).collect()
        }
    };
    if body.get("aggs").is_some() {
        let mut minutes = BTreeMap::new();
        found.iter().for_each(|document| *minutes.entry(document.at.div_euclid(60_000) * 60_000).or_insert(0) += 1);
        let buckets: Vec<Value> = minutes.iter().map(|(key, count)| json!({"key": key, "doc_count": count})).collect();
        let answer = json!({"timed_out": false, "_shards": {"failed": 0}, "aggregations": {"minutes": {"buckets": buckets}}});
        return send(to, 200, product, &answer.to_string());
    }
    found.sort_by_key(|document| (document.at, document.tie));
    if let Some(after) = body.get("search_after") {
        let after = (after[0].as_i64().unwrap(), after[1].as_u64().unwrap());
        found.retain(|document| (document.at, document.tie) > after);
    }
    let is_bare = body["_source"] == false;
    let hit = |document: &&Document| {
        let Document { id, at, tie, source } = document;
        let source = if is_bare { String::new() } else { format!(",\"_source\":{source}") };
        format!("{{\"_index\":\"alerts-1\",\"_id\":{id:?},\"_score\":null{source},\"sort\":[{at},{tie}]}}")
    };
    let hits: Vec<String> = found.iter().take(usize::try_from(body["size"].as_u64().unwrap()).unwrap()).map(hit).collect();
    let (timed_out, shards) = match fault {
        Some(Fault::TimedOut) => (true, json!({"total": 2, "failed": 0})),
        Some(Fault::Partial) => (
            false,
            json!({"total": 2, "failed": 1, "failures": [{"reason": {"type": "circuit_breaking_exception", "reason": "Data too large"}}]}),
        ),
        _ => (false, json!({"total": 2, "failed": 0})),
    };
    // A shard that failed has left some out.
    let hits = if matches!(fault, Some(Fault::Partial | Fault::TimedOut)) { hits[..hits.len() / 2].join(",") } else { hits.join(",") };
    let text =
        format!("{{\"pit_id\":{},\"timed_out\":{timed_out},\"_shards\":{shards},\"hits\":{{\"hits\":[{hits}]}}}}", body["pit"]["id"]);
    if fault == Some(Fault::Half) {
        write!(to, "HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n{}", text.len(), &text[..text.len() / 2]).ok()?;
        let _ = to.shutdown(std::net::Shutdown::Both);
        return None;
    }
    send(to, 200, product, &text)
}

/// Milliseconds since 1970, some seconds ago.
fn ago(seconds: i64) -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap() - seconds * 1000
}

/// `of` documents, two with each tie, which two shards may have, and `of / 10` with each time. Numbers are such as only their
/// text is true to.
fn documents(of: std::ops::Range<u64>, at: i64) -> Vec<Document> {
    let one = |n: u64| Document {
        id: format!("d{n}"),
        at: at + i64::try_from(n % 10).unwrap(),
        tie: n / 20,
        source: format!("{{ \"n\":{n}, \"big\":1.50e+400, \"long\":12345678901234567890 }}"),
    };
    of.map(one).collect()
}

struct Site {
    cluster: Cluster,
    dir: tempfile::TempDir,
    more: String,
}

impl Site {
    fn new(world: World, more: &str) -> Self {
        Self { cluster: Cluster::start(world), dir: tempfile::tempdir().unwrap(), more: more.to_owned() }
    }
    fn out(&self) -> PathBuf {
        self.dir.path().join("out.jsonl")
    }
    fn start(&self) -> Started {
        self.start_at(&format!("[{:?}]", self.cluster.url))
    }
    fn start_at(&self, hosts: &str) -> Started {
        let (out, more) = (self.out(), &self.more);
        let config = format!(
            "drain_for = \"10s\"\n[sources.alerts]\nkind = \"opensearch\"\nhosts = {hosts}\nindices = \"alerts-*\"\ntimestamp_field = \"timestamp\"\n\
             settle = \"0\"\nfetch_every = \"1s\"\npage = 50\n{more}\n[handlers.all]\nkind = \"forward\"\ninputs = [\"alerts\"]\n\
             [sinks.out]\nkind = \"file\"\ninputs = [\"all\"]\npath = {out:?}\n"
        );
        start(&config, &self.dir.path().join("state"), Engine::Pread)
    }
    /// How often each document is in the file; each must be there byte for byte.
    fn found(&self) -> BTreeMap<u64, u32> {
        let mut times = BTreeMap::new();
        let text = fs::read_to_string(self.out()).unwrap_or_default();
        // The last line may be under way.
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let n: u64 = line.strip_prefix("{ \"n\":").unwrap().split(',').next().unwrap().parse().unwrap();
            assert_eq!(line, documents(n..n + 1, 0)[0].source);
            *times.entry(n).or_default() += 1;
        }
        times
    }
    #[track_caller]
    fn until_found(&self, of: u64) {
        until(&format!("all {of} are found"), || self.found().len() as u64 >= of);
    }
}

fn standing(started: &Started) -> State {
    started.board.standings().into_iter().find(|(name, _)| name == "sources.alerts").unwrap().1
}

/// A figure of the source, by its name and a part of its labels.
fn figure(started: &Started, name: &str, label: &str) -> u64 {
    let text = started.metrics.text();
    let of = |line: &&str| line.starts_with(name) && line.contains(label);
    text.lines().filter(of).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

#[test]
fn elasticsearch_is_asked_in_its_own_words() {
    let key = tempfile::NamedTempFile::new().unwrap();
    fs::write(key.path(), "my:key\n").unwrap();
    let world = World { is_elastic: true, login: "ApiKey bXk6a2V5".into(), documents: documents(0..500, ago(60)), ..World::default() };
    // What sorts by _shard_doc is unique.
    let site = Site::new(world, &format!("api_key_file = {:?}", key.path()));
    site.cluster.with(|world| world.documents.iter_mut().enumerate().for_each(|(n, document)| document.tie = n as u64));
    let started = site.start();
    site.until_found(500);
    until("it is ready", || standing(&started) == State::Ready);
    assert!(started.agent.drain());
    assert!(site.found().values().all(|times| *times == 1));
    site.cluster.with(|world| {
        let asked = |what: &str| world.asked.iter().filter(|(_, line, _)| line.starts_with(what)).count();
        assert_eq!((asked("GET /"), asked("GET")), (1, 1));
        assert!(asked("POST /alerts-*/_pit?keep_alive=2m") >= 1 && asked("DELETE /_pit") + 1 >= world.opened as usize, "{:?}", world.asked);
        assert!(world.points.len() <= 1 && world.closed + 1 >= world.opened, "points in time are let go");
        assert!(world.asked.iter().all(|(_, _, body)| body.to_string().contains("_shard_doc") || body.get("sort").is_none()));
    });
}

#[test]
fn whatever_goes_wrong_with_a_page_each_document_comes_once() {
    let site = Site::new(World { documents: documents(0..1000, ago(60)), ..World::default() }, "");
    let faults = [
        Fault::Partial,
        Fault::Status(503, ""),
        Fault::Half,
        Fault::Gone,
        Fault::TimedOut,
        Fault::Html,
        Fault::Gone,
        Fault::Status(429, "Retry-After: 3\r\n"),
    ];
    site.cluster.with(|world| world.faults.extend(faults.iter().flat_map(|fault| [Some(*fault), None])));
    let began = Instant::now();
    let started = site.start();
    until("failed shards are told", || matches!(standing(&started), State::Retrying(why) if why.contains("1 of 2 shards failed")));
    site.until_found(1000);
    let took = began.elapsed();
    until("it is ready", || standing(&started) == State::Ready);
    assert!(site.found().values().all(|times| *times == 1));
    assert!(took >= Duration::from_secs(3), "Retry-After is heeded: {took:?}");
    for (outcome, least) in [("partial", 2), ("away", 3), ("busy", 1), ("expired", 2), ("good", 20)] {
        let told = figure(&started, "shipper_opensearch_requests_total", outcome);
        assert!(told >= least, "{outcome}: {told}");
    }
    // Nothing new: the overlap is read again, and passed over.
    let rounds = site.cluster.with(|world| world.opened);
    until("it looks again", || site.cluster.with(|world| world.opened) > rounds + 1);
    assert!(started.agent.drain());
    // Nor after a start from what was saved.
    let started = site.start();
    let rounds = site.cluster.with(|world| world.opened);
    until("it looks again", || site.cluster.with(|world| world.opened) > rounds + 1);
    assert!(started.agent.drain());
    assert_eq!((site.found().len(), site.found().values().max()), (1000, Some(&1)));
}

#[test]
fn late_documents_come_and_those_that_are_too_late_are_counted() {
    let site = Site::new(World { documents: documents(0..10, ago(30)), ..World::default() }, "overlap = \"60s\"\n");
    let started = site.start();
    site.until_found(10);
    // Within the overlap, and well below it; the latter in a minute that is counted.
    site.cluster.add(documents(10..13, ago(60)));
    site.cluster.add(documents(100..107, ago(600)));
    site.until_found(13);
    until("the lost are counted", || figure(&started, "shipper_opensearch_lost_total", "") == 7);
    assert_eq!(figure(&started, "shipper_opensearch_late_total", ""), 3);
    let rounds = site.cluster.with(|world| world.opened);
    until("it looks again", || site.cluster.with(|world| world.opened) > rounds + 1);
    assert_eq!((figure(&started, "shipper_opensearch_lost_total", ""), site.found().len()), (7, 13), "each once");
    assert!(started.agent.drain());
}

#[test]
fn long_documents_make_pages_shorter_and_too_long_ones_go_to_the_dead_letter() {
    let source = |n: u64, bytes: usize| format!("{{ \"n\":{n}, \"pad\":\"{}\" }}", "x".repeat(bytes));
    let at = ago(60);
    let long =
        |n: u64, bytes: usize| Document { id: format!("d{n}"), at: at + i64::try_from(n).unwrap(), tie: n, source: source(n, bytes) };
    let mut all: Vec<Document> = (0..40).map(|n| long(n, 1 << 20)).collect();
    all.push(long(40, 5 << 20));
    all.push(long(41, 33 << 20));
    all.push(long(42, 10));
    let site = Site::new(World { documents: all, ..World::default() }, "");
    let started = site.start();
    let counts = started.metrics.branch("alerts", "all");
    until("all are settled", || {
        counts.in_flight.get() == 0 && fs::read(site.out()).is_ok_and(|bytes| bytes.ends_with(format!("{}\n", source(42, 10)).as_bytes()))
    });
    until("two are in the dead letter", || counts.dead_letter.total() == 4 << 20);
    assert!(started.agent.drain());
    let out = fs::read_to_string(site.out()).unwrap();
    assert_eq!(out.lines().count(), 41);
    let dead: Vec<u8> =
        fs::read_dir(site.dir.path().join("state/dead-letter")).unwrap().flat_map(|e| fs::read(e.unwrap().path()).unwrap()).collect();
    let dead = String::from_utf8_lossy(&dead);
    for origin in ["opensearch/alerts-1/d40", "opensearch/alerts-1/d41"] {
        assert!(dead.contains(origin), "{origin}");
    }
}

#[test]
fn a_wrong_password_holds_and_is_not_tried_in_a_loop() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "guess\n").unwrap();
    let site = Site::new(
        World { login: "nobody has it".into(), ..World::default() },
        &format!("username = \"u\"\npassword_file = {:?}", secret.path()),
    );
    let started = site.start();
    let says = |state: State| matches!(state, State::Holding(why) if why.contains("answers 401 (security_exception: unable to authenticate)") && why.contains("see username and password_file"));
    until("it holds", || says(standing(&started)));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(site.cluster.with(|world| world.asked.len()), 1, "asked once in half a minute");
    assert!(started.agent.drain());
}

#[test]
fn of_several_hosts_one_that_answers_is_enough() {
    let site = Site::new(World { documents: documents(0..100, ago(60)), ..World::default() }, "");
    let started = site.start_at(&format!("[\"http://127.0.0.1:9\", {:?}]", site.cluster.url));
    site.until_found(100);
    assert_eq!(standing(&started), State::Ready);
    assert!(started.agent.drain());
    let started = site.start_at("[\"http://127.0.0.1:9\", \"http://127.0.0.1:7\"]");
    let says = |state: State| matches!(state, State::Retrying(why) if why.contains("none of 2 hosts can be used; the first: cannot connect to http://127.0.0.1:9"));
    until("both are away", || says(standing(&started)));
    assert!(started.agent.drain());
}
