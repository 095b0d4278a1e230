//! The HTTP face of a real agent, asked over real sockets.

use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use shipper::{
    api::{Bound, Listen},
    io::Engine,
    metrics::State,
};

use crate::agent::{Started, start_facing, until};

/// What came back.
struct Reply {
    code: u16,
    head: String,
    body: String,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> Reply {
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{head}"));
    Reply { code, head: head.to_owned(), body: body.to_owned() }
}

fn ask(address: SocketAddr, method: &str, path: &str) -> Reply {
    exchange(TcpStream::connect(address).unwrap(), &format!("{method} {path} HTTP/1.1\r\nHost: here\r\n\r\n"))
}

fn get(address: SocketAddr, path: &str) -> Reply {
    ask(address, "GET", path)
}

fn config(file: &Path, out: &Path, more: &str) -> String {
    format!(
        "{more}\n[sources.alerts]\nkind = \"wazuh\"\npath = {:?}\nstart_at = \"beginning\"\n[handlers.all]\nkind = \"forward\"\ninputs = [\"alerts\"]\n[sinks.out]\nkind = \"file\"\ninputs = [\"all\"]\npath = {:?}\n",
        file.display().to_string(),
        out.display().to_string()
    )
}

fn start(config: &str, dir: &Path) -> (Started, SocketAddr) {
    let bound = Bound::bind(&Listen::Tcp(([127, 0, 0, 1], 0).into())).unwrap();
    let address = bound.address().parse().unwrap();
    (start_facing(config, &dir.join("state"), Engine::Pread, Some(bound)), address)
}

fn line(n: u64) -> String {
    format!("{{\"timestamp\":\"2026-03-14T06:25:12.001+0100\",\"rule\":{{\"level\":3,\"id\":\"5501\"}},\"id\":\"{n}\"}}\n")
}

/// Samples by name and labels, comments left out.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

/// The sum of a counter over all its labels but these.
fn sum(samples: &BTreeMap<String, f64>, name: &str, labels: &str) -> f64 {
    samples.iter().filter(|(found, _)| found.starts_with(&format!("{name}{{")) && found.contains(labels)).map(|(_, value)| value).sum()
}

#[test]
fn the_figures_add_up_and_the_health_is_fine() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (dir.path().join("alerts.json"), dir.path().join("out.json"));
    let whole: String = (0..500).map(line).chain(["{\"timestamp\":\"cut in the mid\n".to_owned()]).collect();
    fs::write(&file, &whole).unwrap();
    let (started, address) = start(&config(&file, &out, ""), dir.path());
    let counts = started.metrics.branch("alerts", "all");
    until("everything is acked and saved", || {
        counts.read.get() == whole.len() as u64
            && counts.in_flight.get() == 0
            && get(address, "/health").json()["checkpoint_age_seconds"].is_f64()
    });

    let reply = get(address, "/metrics");
    assert_eq!((reply.code, reply.header("content-type")), (200, Some("application/openmetrics-text; version=1.0.0; charset=utf-8")));
    assert!(reply.body.ends_with("# EOF\n"));
    let found = samples(&reply.body);
    let at = "source=\"alerts\",branch=\"all\"";
    let told: Vec<f64> =
        ["read", "shipped", "dropped", "dead_letter"].iter().map(|n| sum(&found, &format!("shipper_{n}_bytes_total"), at)).collect();
    let in_flight = sum(&found, "shipper_in_flight_bytes", at);
    assert_eq!(told[0], whole.len() as f64);
    assert_eq!(told[0], told[1] + told[2] + told[3] + in_flight, "read = shipped + dropped + dead letter + in flight: {told:?}");
    assert!(told[3] > 0.0, "the broken line is a dead letter");
    let version = env!("CARGO_PKG_VERSION");
    for (sample, is) in [
        ("shipper_read_records_total{source=\"alerts\"}", Some(501.0)),
        ("shipper_lag_bytes{source=\"alerts\"}", Some(0.0)),
        ("shipper_component_state{component=\"sources.alerts\",state=\"ready\"}", Some(1.0)),
        ("shipper_component_state{component=\"sinks.out\",state=\"holding\"}", Some(0.0)),
        (&format!("shipper_build_info{{version=\"{version}\"}}"), Some(1.0)),
        ("shipper_agent_info{instance=\"mgr-1\",engine=\"pread\"}", Some(1.0)),
        ("shipper_checkpoint_age_seconds", None),
        ("shipper_dead_letter_stored_bytes", None),
        ("shipper_dead_letter_limit_bytes", Some(f64::from(1 << 30))),
        ("shipper_uptime_seconds", None),
        ("process_cpu_seconds_total", None),
        ("process_resident_memory_bytes", None),
        ("process_start_time_seconds", None),
        ("process_open_fds", None),
    ] {
        let value = *found.get(sample).unwrap_or_else(|| panic!("{sample} is not in\n{}", reply.body));
        assert!(is.map_or(value > 0.0, |is| value == is), "{sample} is {value}");
    }

    let health = get(address, "/health");
    let told = health.json();
    assert_eq!((health.code, health.header("content-type")), (200, Some("application/json")));
    assert_eq!(told["status"], "ok", "{told}");
    let names: Vec<_> = told["components"].as_array().unwrap().iter().map(|c| format!("{} {}", c["name"], c["state"])).collect();
    assert_eq!(names, ["\"sources.alerts\" \"ready\"", "\"sinks.out\" \"ready\"", "\"store\" \"ready\""]);
    assert_eq!((&told["streams"][0]["source"], &told["streams"][0]["lag_bytes"]), (&"alerts".into(), &0.into()));
    assert!(told["dead_letter"]["bytes"].as_u64().unwrap() > 0);
    assert_eq!(get(address, "/health/live").code, 200);
    assert_eq!(get(address, "/health/ready").code, 200);
    assert!(started.agent.drain());
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused, "a drained agent answers no more");
}

#[test]
fn a_sink_that_holds_fails_health_and_readiness_and_not_liveness() {
    let dir = tempfile::tempdir().unwrap();
    let (started, address) = start(&config(&dir.path().join("absent.json"), &dir.path().join("out.json"), ""), dir.path());
    until("the sink is open", || started.board.standings().contains(&("sinks.out".into(), State::Ready)));
    until("the file is waited for", || get(address, "/health/ready").body.contains("is not there"));
    let unready = get(address, "/health/ready");
    assert_eq!((unready.code, &unready.json()["waiting_for"][0]["name"]), (503, &"sources.alerts".into()));
    assert_eq!((get(address, "/health").code, get(address, "/health").json()["status"].clone()), (200, "degraded".into()));

    fs::write(dir.path().join("absent.json"), line(0)).unwrap();
    until("the source is open", || get(address, "/health/ready").code == 200);
    // As a further instance of it, on another shard, would say.
    let instance = started.board.enter("sinks.out");
    instance.set(State::Holding("<script>alert(1)</script> & \"not authorised\"".into()));
    let (health, ready) = (get(address, "/health"), get(address, "/health/ready"));
    assert_eq!((health.code, ready.code, get(address, "/health/live").code), (503, 503, 200));
    assert_eq!(health.json()["status"], "failing");
    assert!(health.json()["reasons"][0].as_str().unwrap().starts_with("sinks.out is holding: <script>"), "{}", health.body);
    assert_eq!(ready.json()["waiting_for"][0]["name"], "sinks.out");

    let page = get(address, "/");
    assert_eq!((page.code, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.header("content-security-policy").is_some_and(|policy| policy.starts_with("default-src 'none'")), "{}", page.head);
    assert!(!page.body.contains("<script"), "{}", page.body);
    assert!(page.body.contains("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;not authorised&quot;"), "{}", page.body);
    for fetched in ["src=", "url(", "@import", "<link"] {
        assert!(!page.body.contains(fetched), "the page fetches something: {fetched}");
    }
    instance.set(State::Ready);
    assert_eq!((get(address, "/health").code, get(address, "/health/ready").code), (200, 200));
    started.agent.drain();
}

#[test]
fn a_source_that_brings_nothing_where_something_is_expected_fails_health_until_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("alerts.json");
    fs::write(&file, line(0)).unwrap();
    let config = config(&file, &dir.path().join("out.json"), "").replace("start_at", "expect_events_every = \"1s\"\nstart_at");
    let (started, address) = start(&config, dir.path());
    until("it is silent", || get(address, "/health").code == 503);
    let told = get(address, "/health").json();
    assert!(told["reasons"].to_string().contains("sources.alerts.events is holding: no record came for 1 s"), "{told}");
    assert!(
        samples(&get(address, "/metrics").body)["shipper_component_state{component=\"sources.alerts.events\",state=\"holding\"}"] == 1.0
    );
    let append = || {
        let mut all = fs::File::options().append(true).open(&file).unwrap();
        all.write_all(line(1).as_bytes()).unwrap();
    };
    until("it is heard of", || {
        append();
        get(address, "/health").code == 200
    });
    assert!(started.agent.drain());
}

#[test]
fn health_tells_what_components_count_and_how_their_last_tries_went() {
    let dir = tempfile::tempdir().unwrap();
    let (started, address) = start(&config(&dir.path().join("alerts.json"), &dir.path().join("out.json"), ""), dir.path());
    let sink = started.board.enter("sinks.out");
    sink.level("shipper_test_waiting", "Waiting", &[("of", "a")]).set(7);
    let told =
        || get(address, "/health").json()["components"].as_array().unwrap().iter().find(|c| c["name"] == "sinks.out").unwrap().clone();
    assert_eq!((&told()["figures"]["test_waiting{of=a}"], told().get("last_success_seconds")), (&7.into(), None));
    let mono = 1;
    [false, true, false].into_iter().for_each(|is_good| sink.tried(is_good, mono));
    let tries = told();
    assert_eq!((&tries["last_5_minutes"]["succeeded"], &tries["last_5_minutes"]["failed"]), (&1.into(), &2.into()));
    assert!(tries["last_success_seconds"].as_f64().is_some_and(|seconds| seconds < 60.0), "{tries}");
    let all = get(address, "/health").json();
    assert!(all["resident_bytes"].as_u64().unwrap() > 0 && all["cpu_seconds"].as_f64().unwrap() > 0.0, "{all}");
    assert!(started.agent.drain());
}

#[test]
fn a_source_that_gets_nothing_acked_is_stalled_until_it_moves() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (dir.path().join("alerts.json"), dir.path().join("later/out.json"));
    fs::write(&file, line(0)).unwrap();
    let (started, address) = start(&config(&file, &out, "[health]\nstall_after = \"1s\""), dir.path());
    until("the source is stalled", || get(address, "/health").json()["streams"][0]["stalled"] == true);
    let health = get(address, "/health");
    assert_eq!(health.code, 503);
    let told = health.json();
    assert!(told["reasons"].to_string().contains("sources.alerts is stalled"), "{told}");
    assert_eq!(told["streams"][0]["unacked_bytes"], line(0).len());
    assert!(get(address, "/").body.contains("stalled"));
    let lag = samples(&get(address, "/metrics").body)["shipper_lag_seconds{source=\"alerts\"}"];
    assert!(lag >= 1.0, "{lag}");

    fs::create_dir(dir.path().join("later")).unwrap();
    until("it moves again", || get(address, "/health").code == 200);
    assert_eq!(get(address, "/health").json()["streams"][0]["lag_bytes"], 0);
    assert!(started.agent.drain());
}

fn alert(n: u64, now_ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(now_ms - 10_000 + n as i64).unwrap();
    let (severity, entity) = (["High", "Low"][n as usize % 2], ["host<1>", "host/2", "höst 3"][n as usize % 3]);
    format!(
        "{{\"id\":\"a{n:04}\",\"entity\":\"{entity}\",\"timestamp\":\"{time}\",\"severity\":\"{severity}\",\"prediction_score\":0.75,\
         \"features\":{{\"cpu_usage_mean\":{}}},\"source\":{{\"type\":\"kafka\"}}}}\n",
        n as f64 / 1000.0
    )
}

#[test]
fn alerts_in_memory_are_listed_counted_and_shown_and_what_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (dir.path().join("alerts.json"), dir.path().join("out.json"));
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let all: String = (0..1500).map(|n| alert(n, now_ms)).chain([line(7)]).collect();
    fs::write(&file, &all).unwrap();
    let config = config(&file, &out, "") + "[sinks.recent]\nkind = \"memory\"\nrequired = true\ninputs = [\"all\"]\n";
    let (started, address) = start(&config, dir.path());
    let counts = started.metrics.branch("alerts", "all");
    until("all is settled", || counts.read.get() == all.len() as u64 && counts.in_flight.get() == 0);
    assert_eq!(counts.dead_letter.total(), line(7).len() as u64, "what is no alert goes into the dead letter");

    let ids = |reply: &Reply| -> Vec<String> {
        assert_eq!((reply.code, reply.header("shipper-alerts")), (200, Some("memory")), "{}", reply.body);
        reply.json().as_array().unwrap().iter().map(|alert| alert["id"].as_str().unwrap().to_owned()).collect()
    };
    let list = get(address, "/api/alerts");
    assert_eq!(ids(&list), (500..1500).rev().map(|n| format!("a{n:04}")).collect::<Vec<_>>());
    assert_eq!(ids(&get(address, "/api/alerts?severity=high&limit=2")), ["a1498", "a1496"]);
    assert_eq!(ids(&get(address, "/api/alerts?entity=h%C3%B6st+3&limit=1&before=a1499")), ["a1496"]);
    let first = get(address, "/api/alerts?entity=host/2&limit=600");
    assert_eq!((ids(&first).len(), first.header("link")), (333, None));
    let page = get(address, "/api/alerts?limit=600");
    let next = page.header("link").unwrap().trim_start_matches('<').split('>').next().unwrap().to_owned();
    assert_eq!(ids(&get(address, &next)), (500..900).rev().map(|n| format!("a{n:04}")).collect::<Vec<_>>());
    assert_eq!(get(address, "/api/alerts/a0600").json()["severity"], "High");
    for (path, code, why) in [
        ("/api/alerts?days=seven", 400, "is no number of days"),
        ("/api/alerts?limit=2000", 400, "from 1 to 1000"),
        ("/api/alerts?sort=asc", 400, "no parameter"),
        ("/api/alerts?before=a0001", 404, "past its retention"),
        ("/api/alerts/a0001", 404, "no alert has the id"),
        ("/api/entity/host9", 404, "nothing is known of an entity"),
    ] {
        let reply = get(address, path);
        let told = reply.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(reply.code == code && told.contains(why), "{path}: {} {told}", reply.code);
    }
    let stats = get(address, "/api/stats").json();
    assert_eq!(
        (&stats["alert_count"], &stats["severity_counts"]["Critical"], &stats["severity_counts"]["High"]),
        (&1000.into(), &0.into(), &500.into())
    );
    assert_eq!(stats["source_counts"], serde_json::json!({"kafka": 1000}));
    let entity = get(address, "/api/entity/host%2F2").json();
    assert_eq!((&entity["entity"], &entity["of"], &entity["data_points"]), (&"host/2".into(), &"alerts".into(), &333.into()));
    assert_eq!(entity["features"]["cpu_usage_mean"]["max"], 1.498);
    let page = get(address, "/").body;
    assert!(page.contains("host&lt;1&gt;") && page.contains("/api/alerts/a1499"), "{page}");
    started.agent.drain();

    let (started, address) = start(&self::config(&dir.path().join("b.json"), &out, ""), &dir.path().join("other"));
    let nowhere = get(address, "/api/alerts");
    assert_eq!((nowhere.code, nowhere.json()["error"].as_str().unwrap().contains("add a sink of kind memory")), (404, true));
    assert!(!get(address, "/").body.contains("<h2>Alerts"));
    started.agent.drain();
}

#[test]
fn what_is_not_there_and_what_is_not_allowed_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (started, address) = start(&config(&dir.path().join("a.json"), &dir.path().join("out.json"), ""), dir.path());
    let unknown = get(address, "/nothing%3Cb%3E?x=1");
    assert_eq!((unknown.code, unknown.header("content-type")), (404, Some("application/json")));
    assert_eq!(
        unknown.json()["routes"],
        serde_json::json!([
            "/",
            "/metrics",
            "/health",
            "/health/live",
            "/health/ready",
            "/api/alerts",
            "/api/alerts/ID",
            "/api/stats",
            "/api/entity/ID"
        ])
    );
    for (method, path) in [("POST", "/"), ("DELETE", "/metrics"), ("PUT", "/health")] {
        let refused = ask(address, method, path);
        assert_eq!((refused.code, refused.header("allow")), (405, Some("GET, HEAD")), "{method} {path}");
        assert!(refused.json()["error"].as_str().unwrap().starts_with(method));
    }
    let head = ask(address, "HEAD", "/metrics");
    assert_eq!((head.code, head.body.as_str(), head.header("connection")), (200, "", Some("close")));

    // Longer than any request: the connection ends, the next one is served.
    let mut long = TcpStream::connect(address).unwrap();
    let _ = write!(long, "GET /{} HTTP/1.1\r\n", "x".repeat(64 << 10));
    let mut rest = Vec::new();
    let _ = long.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
    // Silent ones take no more than their own place.
    let silent: Vec<_> = (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert_eq!(get(address, "/health/live").code, 200);
    drop(silent);
    started.agent.drain();
}

#[test]
fn a_unix_socket_is_served_and_removed_and_a_place_that_is_taken_refuses_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let settings = dir.path().join("shipper.toml");
    let socket = dir.path().join("api.sock");
    let written = |listen: &str, state: &str| {
        let globals = format!("[state]\ndir = {:?}\n[api]\nlisten = {listen:?}", dir.path().join(state).display().to_string());
        fs::write(&settings, config(&dir.path().join("alerts.json"), &dir.path().join("out.json"), &globals)).unwrap();
    };
    let agent =
        || Command::new(env!("CARGO_BIN_EXE_shipper")).args(["run", "--config"]).arg(&settings).stderr(Stdio::piped()).spawn().unwrap();
    written(&format!("unix:{}", socket.display()), "one");
    let mut first = agent();
    let live = || UnixStream::connect(&socket).is_ok();
    until("the socket is served", live);
    let reply = exchange(UnixStream::connect(&socket).unwrap(), "GET /health/live HTTP/1.0\r\n\r\n");
    assert_eq!((reply.code, &reply.json()["status"]), (200, &"live".into()));
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);

    written(&format!("unix:{}", socket.display()), "two");
    let second = agent().wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(69), "{told}");
    assert!(told.contains("another process does; stop it"), "{told}");
    assert!(live(), "the first is still there");

    let signal = |signal| rustix::process::kill_process(rustix::process::Pid::from_child(&first), signal).unwrap();
    let globals =
        format!("instance = \"anew\"\n[state]\ndir = {:?}\n[api]\nlisten = \"unix:{}\"", dir.path().join("one"), socket.display());
    fs::write(&settings, config(&dir.path().join("alerts.json"), &dir.path().join("out.json"), &globals)).unwrap();
    signal(rustix::process::Signal::HUP);
    let asked = |path: &str| {
        let stream = UnixStream::connect(&socket).ok()?;
        Some(exchange(stream, &format!("GET {path} HTTP/1.0\r\n\r\n")))
    };
    until("the config is taken anew", || asked("/health").is_some_and(|reply| reply.json()["instance"] == "anew"));
    let told = asked("/metrics").unwrap().body;
    let mut names: Vec<&str> = told.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!((names.len(), told.matches("# EOF").count()), (all, 1), "each metric once, also after a reload:\n{told}");

    signal(rustix::process::Signal::TERM);
    assert!(first.wait().unwrap().success());
    assert!(!socket.exists(), "a stopped agent takes its socket away");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    written(&taken.local_addr().unwrap().to_string(), "three");
    let third = agent().wait_with_output().unwrap();
    assert_eq!(third.status.code(), Some(69), "{}", String::from_utf8_lossy(&third.stderr));

    // A killed agent leaves its socket; the next one replaces it.
    written(&format!("unix:{}", socket.display()), "one");
    let mut killed = agent();
    until("the socket is served", live);
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(socket.exists());
    let mut again = agent();
    until("the socket is served again", live);
    again.kill().unwrap();
    again.wait().unwrap();
}

#[test]
fn a_connection_that_says_nothing_ends_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (started, address) = start(&config(&dir.path().join("a.json"), &dir.path().join("out.json"), ""), dir.path());
    let mut silent = TcpStream::connect(address).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    silent.write_all(b"GET / HT").unwrap();
    assert_eq!(silent.read(&mut [0; 16]).unwrap_or(0), 0, "it is closed without an answer");
    started.agent.drain();
}

#[test]
fn the_health_check_of_the_compose_file_tells_a_living_agent_from_none() {
    use shipper::cli::import::given::Given;
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/compose/compose.yaml")).unwrap();
    let at = |given: Given, name: &str| match given {
        Given::Table(entries) => entries.into_iter().find(|(key, _)| key == name).unwrap_or_else(|| panic!("no {name}")).1,
        other => panic!("{name}: {other:?}"),
    };
    let check =
        ["services", "shipper", "healthcheck", "test"].iter().fold(Given::parse_words(&text).unwrap(), |given, name| at(given, name));
    let Given::List(words) = check else { panic!("{check:?}") };
    let words: Vec<String> = words.into_iter().map(|word| if let Given::Text(text) = word { text } else { panic!("{word:?}") }).collect();
    let [cmd, program, flag, command] = &words[..] else { panic!("{words:?}") };
    assert_eq!((cmd.as_str(), flag.as_str()), ("CMD", "-c"));
    let run = |port: u16| {
        // Compose writes a dollar twice.
        let command = command.replace("$$", "$").replace("127.0.0.1/9600", &format!("127.0.0.1/{port}"));
        Command::new(program).args([flag, &command]).stderr(Stdio::null()).status().unwrap().success()
    };
    let dir = tempfile::tempdir().unwrap();
    let (started, address) = start(&config(&dir.path().join("alerts.json"), &dir.path().join("out"), ""), dir.path());
    assert!(run(address.port()), "{command}");
    started.agent.drain();
    assert!(!run(address.port()), "nobody listens any more");
}
