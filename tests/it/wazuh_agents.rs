//! Source `wazuh_agents` in a running agent, against a server of HTTP and TLS that answers as Wazuh's API does: tokens that end,
//! lists that shift while they are read, refusals. A real Wazuh cannot be had here.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use openssl::{
    asn1::{Asn1Integer, Asn1Time},
    base64,
    bn::BigNum,
    hash::MessageDigest,
    pkey::{PKey, Private},
    rsa::Rsa,
    ssl::{SslAcceptor, SslMethod},
    x509::{X509, X509NameBuilder, extension::SubjectAlternativeName},
};
use serde_json::{Value, json};
use shipper::{io::Engine, metrics::State};

use crate::agent::{Started, start, until};

/// What becomes of the next questions for agents, in turn.
enum Fault {
    Status(u16, &'static str),
    /// The connection ends in the middle of the body.
    Half,
    /// 200, with an error of its own.
    Own,
    /// This happens to the list before a second page is answered.
    First(fn(&mut BTreeMap<u32, &'static str>)),
    None,
}

struct World {
    agents: BTreeMap<u32, &'static str>,
    password: &'static str,
    may_read: bool,
    /// Seconds that a token lives.
    life: u64,
    takes_tokens: bool,
    tokens: BTreeMap<String, Instant>,
    faults: VecDeque<Fault>,
    logins: Vec<Instant>,
    /// Offsets that were asked for, with the time and the answer's status.
    asked: Vec<(Instant, u64, u16)>,
}

impl World {
    fn new(agents: impl IntoIterator<Item = (u32, &'static str)>) -> Self {
        Self {
            agents: agents.into_iter().collect(),
            password: "s3cret:word",
            may_read: true,
            life: 900,
            takes_tokens: true,
            tokens: BTreeMap::new(),
            faults: VecDeque::new(),
            logins: Vec::new(),
            asked: Vec::new(),
        }
    }
}

/// The running server.
struct Server {
    url: String,
    world: Arc<Mutex<World>>,
}

impl Server {
    fn start(world: World, tls: Option<SslAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = if tls.is_some() { format!("https://localhost:{port}") } else { format!("http://127.0.0.1:{port}") };
        let world = Arc::new(Mutex::new(world));
        let of = world.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (world, tls) = (of.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    None => serve(stream, &world),
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream) {
                            serve(stream, &world);
                        }
                    }
                });
            }
        });
        Self { url, world }
    }
    fn with<T>(&self, of: impl FnOnce(&mut World) -> T) -> T {
        of(&mut self.world.lock().unwrap())
    }
    /// Looks that began.
    fn looks(&self) -> usize {
        self.with(|world| world.asked.iter().filter(|(_, offset, _)| *offset == 0).count())
    }
    /// Waits until two more looks are over.
    #[track_caller]
    fn until_looked(&self) {
        let looks = self.looks();
        until("it looks again", || self.looks() >= looks + 3);
    }
}

fn serve(stream: impl Read + Write, world: &Mutex<World>) {
    let mut reader = BufReader::new(stream);
    while let Some((head, body)) = request(&mut reader) {
        assert_eq!(body, "", "nothing but headers is sent");
        let (status, headers, answer, is_half) = answer(&mut world.lock().unwrap(), &head);
        let to = reader.get_mut();
        let whole =
            format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n{answer}", answer.len());
        let sent = if is_half { &whole[..whole.len() - answer.len() / 2] } else { &whole };
        if to.write_all(sent.as_bytes()).is_err() || is_half {
            return;
        }
    }
}

/// First line and headers in lower case, and the body.
fn request(reader: &mut impl BufRead) -> Option<(Vec<String>, String)> {
    let (mut head, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = n.parse().unwrap();
        }
        head.push(line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, String::from_utf8(body).unwrap()))
}

fn problem(title: &str, detail: &str) -> String {
    json!({"title": title, "detail": detail}).to_string()
}

fn answer(world: &mut World, head: &[String]) -> (u16, String, String, bool) {
    let given = |name: &str| {
        head.iter().find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
    };
    let login = given("authorization").unwrap_or_default();
    let words: Vec<&str> = head[0].split(' ').collect();
    match (words[0], words[1]) {
        ("POST", "/security/user/authenticate") => {
            world.logins.push(Instant::now());
            let expected = format!("Basic {}", base64::encode_block(format!("shipper:{}", world.password).as_bytes()));
            if login != expected {
                return (401, String::new(), problem("Unauthorized", "Invalid credentials"), false);
            }
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let part =
                |value: Value| base64::encode_block(value.to_string().as_bytes()).replace('+', "-").replace('/', "_").replace('=', "");
            let claims =
                json!({"iss": "wazuh", "aud": "Wazuh API REST", "nbf": now, "exp": now + world.life, "sub": "shipper", "run_as": false});
            let token = format!("{}.{}.sig{}", part(json!({"alg": "ES512", "typ": "JWT"})), part(claims), world.logins.len());
            world.tokens.insert(format!("Bearer {token}"), Instant::now() + Duration::from_secs(world.life));
            (200, String::new(), json!({"data": {"token": token}, "error": 0}).to_string(), false)
        }
        ("GET", path) if path.starts_with("/agents?") => {
            let query: BTreeMap<&str, &str> = path["/agents?".len()..].split('&').filter_map(|pair| pair.split_once('=')).collect();
            assert_eq!(query["sort"], "%2Bid");
            let number = |name: &str| query[name].parse::<usize>().unwrap();
            let (offset, limit) = (number("offset"), number("limit"));
            let (status, headers, body, is_half) = agents(world, login, offset, limit);
            world.asked.push((Instant::now(), offset as u64, status));
            (status, headers, body, is_half)
        }
        other => panic!("{other:?}"),
    }
}

fn agents(world: &mut World, login: &str, offset: usize, limit: usize) -> (u16, String, String, bool) {
    let is_good = world.takes_tokens && world.tokens.get(login).is_some_and(|until| Instant::now() < *until);
    if !is_good {
        return (401, String::new(), problem("Unauthorized", "Invalid token"), false);
    }
    if !world.may_read {
        return (403, String::new(), problem("Permission Denied", "Permission denied: Resource type: *:*"), false);
    }
    let is_early = matches!(world.faults.front(), Some(Fault::First(_))) && offset != 9;
    let fault = if is_early { None } else { world.faults.pop_front() }.unwrap_or(Fault::None);
    match fault {
        Fault::Status(status, headers) => return (status, headers.to_owned(), problem("Trouble", "as told"), false),
        Fault::Own => {
            let none = json!({"data": {"affected_items": [], "total_affected_items": 0, "failed_items": []}, "message": "No agent information was returned", "error": 1});
            return (200, String::new(), none.to_string(), false);
        }
        Fault::First(change) => change(&mut world.agents),
        Fault::Half | Fault::None => {}
    }
    let item = |(id, status): (&u32, &&str)| {
        json!({"id": format!("{id:03}"), "name": format!("host-{id}"), "ip": "10.0.0.1", "status": status, "node_name": "node01",
               "lastKeepAlive": "2026-11-30T22:05:01+00:00", "version": "Wazuh v4.12.0", "group": ["default"],
               "os": {"platform": "ubuntu", "name": "Ubuntu", "version": "22.04.3 LTS"}})
    };
    let items: Vec<Value> = world.agents.iter().skip(offset).take(limit).map(item).collect();
    let list = json!({"affected_items": items, "total_affected_items": world.agents.len(), "total_failed_items": 0, "failed_items": []});
    let body = json!({"data": list, "message": "All selected agents information was returned", "error": 0}).to_string();
    (200, String::new(), body, matches!(fault, Fault::Half))
}

fn many(of: std::ops::Range<u32>) -> impl Iterator<Item = (u32, &'static str)> {
    of.map(|id| (id, if id % 10 == 7 { "disconnected" } else { "active" }))
}

struct Site {
    server: Server,
    dir: tempfile::TempDir,
    more: String,
}

impl Site {
    fn new(world: World) -> Self {
        Self::by(Server::start(world, None), "")
    }
    fn by(server: Server, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("password"), "s3cret:word\n").unwrap();
        Self { server, dir, more: more.to_owned() }
    }
    fn out(&self) -> PathBuf {
        self.dir.path().join("out.jsonl")
    }
    fn config(&self, sink: &str) -> String {
        let (url, password, more) = (&self.server.url, self.dir.path().join("password"), &self.more);
        format!(
            "drain_for = \"10s\"\n[sources.agents]\nkind = \"wazuh_agents\"\nurl = {url:?}\nusername = \"shipper\"\npassword_file = {password:?}\n\
             poll_interval = \"1s\"\npage = 10\n{more}\n[handlers.all]\nkind = \"forward\"\ninputs = [\"agents\"]\n[sinks.out]\ninputs = [\"all\"]\n{sink}\n"
        )
    }
    fn start(&self) -> Started {
        let sink = format!("kind = \"file\"\npath = {:?}", self.out());
        start(&self.config(&sink), &self.dir.path().join("state"), Engine::Pread)
    }
    /// The records so far: event, id, status before and now.
    fn told(&self) -> Vec<(String, u32, Option<String>, Option<String>)> {
        let text = fs::read_to_string(self.out()).unwrap_or_default();
        // The last line may be under way.
        let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        let read = |line: &str| {
            let record: Value = serde_json::from_str(line).unwrap();
            let told = &record["wazuh_agents"];
            let text = |name: &str| told[name].as_str().map(str::to_owned);
            let id = told["agent"]["id"].as_str().unwrap().parse().unwrap();
            assert!(
                told["source"] == "agents" && told["agent"]["name"] == format!("host-{id}") && record["timestamp"].is_string(),
                "{line}"
            );
            assert_eq!(told["event"] != "gone", told["os"]["version"] == "22.04.3 LTS" && told["groups"] == json!(["default"]), "{line}");
            (text("event").unwrap(), id, text("previous"), text("status"))
        };
        whole.map(read).collect()
    }
    #[track_caller]
    fn until_told(&self, of: usize) {
        until(&format!("{of} are told"), || self.told().len() >= of);
    }
}

fn standing(started: &Started) -> State {
    started.board.standings().into_iter().find(|(name, _)| name == "sources.agents").unwrap().1
}

#[track_caller]
fn until_holds(started: &Started, parts: &[&str]) {
    until(
        &format!("it holds: {parts:?}, not {:?}", standing(started)),
        || matches!(standing(started), State::Holding(why) if parts.iter().all(|part| why.contains(part))),
    );
    let State::Holding(why) = standing(started) else { panic!("it holds") };
    assert!(!why.contains("s3cret") && !why.contains("Bearer") && !why.contains("eyJ"), "{why}");
}

/// A figure of the source, by its name and a part of its labels.
fn figure(started: &Started, name: &str, label: &str) -> u64 {
    let text = started.metrics.text();
    let of = |line: &&str| line.starts_with(name) && line.contains(label);
    text.lines().filter(of).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

fn known(id: u32, before: &str, now: &str) -> (String, u32, Option<String>, Option<String>) {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let event = if before.is_empty() {
        "new"
    } else if now.is_empty() {
        "gone"
    } else {
        "status"
    };
    (event.to_owned(), id, text(before), text(now))
}

#[test]
fn changes_are_told_once_over_restarts() {
    let site = Site::new(World::new(many(0..35)));
    let started = site.start();
    site.until_told(35);
    until("it is ready", || standing(&started) == State::Ready);
    assert_eq!(site.told(), many(0..35).map(|(id, status)| known(id, "", status)).collect::<Vec<_>>());
    site.server.with(|world| world.agents.insert(3, "disconnected"));
    site.until_told(36);
    site.server.until_looked();
    assert_eq!(site.told()[35..], [known(3, "active", "disconnected")]);
    for (status, agents) in [("\"active\"", 31), ("\"disconnected\"", 4), ("\"pending\"", 0)] {
        assert_eq!(figure(&started, "shipper_wazuh_agents{", &format!("status={status}")), agents, "{status}");
    }
    assert_eq!(site.server.with(|world| world.logins.len()), 1, "one token is enough");
    assert!(started.agent.drain());
    // While we are away one changes, one is removed, one comes, and one changes there and back.
    site.server.with(|world| {
        world.agents.insert(4, "pending");
        world.agents.remove(&5);
        world.agents.insert(36, "never_connected");
    });
    let started = site.start();
    site.until_told(39);
    site.server.until_looked();
    assert!(started.agent.drain());
    assert_eq!(site.told()[36..], [known(4, "active", "pending"), known(36, "", "never_connected"), known(5, "active", "")]);
}

#[test]
fn a_list_that_shifts_while_it_is_read_lacks_nobody() {
    let site = Site::new(World::new(many(0..35)));
    let started = site.start();
    site.until_told(35);
    // Before the second page one of the first is gone, and another is there at the end: the number is the same, and agent 10 is listed on
    // no page. Many looks in a row.
    fn shift(list: &mut BTreeMap<u32, &'static str>) {
        let (first, last) = (*list.keys().next().unwrap(), *list.keys().next_back().unwrap());
        list.remove(&first);
        list.insert(last + 1, "active");
    }
    site.server.with(|world| world.faults.extend((0..4).map(|_| Fault::First(shift))));
    until("the shifts are over", || site.server.with(|world| world.faults.is_empty()));
    assert!(figure(&started, "shipper_wazuh_agents_looks_total", "shifted") >= 3, "{}", started.metrics.text());
    assert!(site.told().iter().all(|(event, ..)| event != "gone"), "{:?}", site.told());
    // Once it stands still those that are gone are told, and nobody else.
    until("four are gone", || site.told().iter().filter(|(event, ..)| event == "gone").count() == 4);
    site.server.until_looked();
    assert!(started.agent.drain());
    let mut rest: BTreeMap<u32, String> = BTreeMap::new();
    for (_, id, _, status) in site.told() {
        match status {
            Some(status) => rest.insert(id, status),
            None => rest.remove(&id),
        };
    }
    assert_eq!(rest, site.server.with(|world| world.agents.iter().map(|(id, status)| (*id, (*status).to_owned())).collect()));
    assert_eq!(site.told().len(), 35 + 4 + 4);
}

#[test]
fn a_token_is_renewed_before_it_ends_and_once_where_it_is_refused() {
    let site = Site::new(World { life: 5, ..World::new(many(0..3)) });
    let started = site.start();
    until("there were three logins", || site.server.with(|world| world.logins.len()) >= 3);
    site.server.with(|world| {
        assert!(world.asked.iter().all(|(_, _, status)| *status == 200), "never with one that had ended: {:?}", world.asked);
        let spans: Vec<Duration> = world.logins.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(spans.iter().all(|span| *span >= Duration::from_millis(3900)), "at four fifths, not with every question: {spans:?}");
        // The server forgets them all, as after a restart or a new role.
        (world.life, world.asked) = (900, Vec::new());
        world.tokens.clear();
    });
    until("one is refused, and the next one taken", || site.server.with(|world| world.asked.len() >= 3));
    site.server.with(|world| {
        let statuses: Vec<u16> = world.asked.iter().map(|(_, _, status)| *status).collect();
        assert_eq!(statuses[..2], [401, 200], "the same page is asked for again");
        assert!(statuses[1..].iter().all(|status| *status == 200));
    });
    assert_eq!((standing(&started), site.told().len()), (State::Ready, 3));
    assert_eq!(figure(&started, "shipper_wazuh_agents_requests_total", "renewed"), 1);
    assert!(started.agent.drain());
}

#[test]
fn who_is_refused_holds_and_goes_on_once_it_is_mended() {
    // A wrong password: not tried in a loop, which would have this host blocked.
    let site = Site::new(World { password: "another", ..World::new(many(0..3)) });
    let started = site.start();
    until_holds(&started, &["answers 401 (Invalid credentials) to the login; see username and its password"]);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(site.server.with(|world| (world.logins.len(), world.asked.len())), (1, 0));
    // It is mended in the file, and nobody restarts anything.
    fs::write(site.dir.path().join("password"), "another\n").unwrap();
    site.until_told(3);
    until("it is ready", || standing(&started) == State::Ready);
    assert!(started.agent.drain());

    // A role that may not read agents.
    let site = Site::new(World { may_read: false, ..World::new(many(0..3)) });
    let started = site.start();
    until_holds(&started, &["answers 403 (Permission denied: Resource type: *:*)", "give this user a role with agent:read"]);
    assert!(started.agent.drain());

    // A token that is refused though it is new.
    let site = Site::new(World { takes_tokens: false, ..World::new(many(0..3)) });
    let started = site.start();
    until_holds(&started, &["answers 401 (Invalid token)", "with a token that is new"]);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(site.server.with(|world| (world.logins.len(), world.asked.len())), (2, 2));
    assert!(started.agent.drain());

    // No password at all.
    let site = Site::new(World::new(many(0..3)));
    fs::remove_file(site.dir.path().join("password")).unwrap();
    let started = site.start();
    until_holds(&started, &["cannot read the password in", "readable for the agent's user only"]);
    assert!(started.agent.drain());
}

#[test]
fn whatever_goes_wrong_with_a_page_each_agent_is_told_once() {
    let site = Site::new(World::new(many(0..35)));
    site.server.with(|world| {
        world.faults.extend([
            Fault::None,
            Fault::Status(500, ""),
            Fault::None,
            Fault::None,
            Fault::Half,
            Fault::None,
            Fault::Status(429, "Retry-After: 2\r\n"),
            Fault::Own,
        ]);
    });
    let started = site.start();
    until("it is away", || matches!(standing(&started), State::Retrying(why) if why.contains("answers 500 (as told)")));
    until("it is busy", || matches!(standing(&started), State::Retrying(why) if why.contains("answers 429")));
    until(
        "it says so itself",
        || matches!(standing(&started), State::Retrying(why) if why.contains("error 1 (No agent information was returned)")),
    );
    site.until_told(35);
    site.server.until_looked();
    until("it is ready", || standing(&started) == State::Ready);
    assert_eq!(site.told().len(), 35);
    site.server.with(|world| {
        let at = world.asked.iter().position(|(_, _, status)| *status == 429).unwrap();
        let [(told, offset, _), (again, next, _)] = [world.asked[at], world.asked[at + 1]];
        assert!(again - told >= Duration::from_secs(2), "Retry-After is heeded");
        assert_eq!((offset, next), (9, 9), "the same page again");
    });
    for (outcome, times) in [("away", 3), ("busy", 1)] {
        assert_eq!(figure(&started, "shipper_wazuh_agents_requests_total", outcome), times, "{outcome}");
    }
    assert!(started.agent.drain());
}

/// Runs the binary itself with a sink that never acks, so that it can be killed between a look and its acks.
fn spawn(site: &Site) -> Child {
    let path = site.dir.path().join("shipper.toml");
    let state = format!("[state]\ndir = {:?}\n", site.dir.path().join("state"));
    let sink = "kind = \"kafka\"\nbrokers = \"127.0.0.1:9\"\ntopic = \"t\"\n";
    let config = site.config(sink).replacen("[sources.agents]", &format!("{state}[sources.agents]"), 1);
    fs::write(&path, config).unwrap();
    Command::new(env!("CARGO_BIN_EXE_shipper")).args(["run", "--config"]).arg(path).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_kill_between_a_look_and_its_acks_misses_nothing_and_repeats_nothing() {
    let site = Site::new(World::new(many(0..15)));
    let kill = || {
        let mut agent = spawn(&site);
        // It has handed in what the first look showed, and saved what there is to be saved.
        let looks = site.server.looks();
        until("it looks some times", || site.server.looks() >= looks + 4);
        agent.kill().unwrap();
        agent.wait().unwrap();
    };
    kill();
    let started = site.start();
    site.until_told(15);
    site.server.until_looked();
    assert!(started.agent.drain());
    assert_eq!(site.told(), many(0..15).map(|(id, status)| known(id, "", status)).collect::<Vec<_>>());
    // What was told before stays told; what was under way comes.
    site.server.with(|world| world.agents.insert(3, "disconnected"));
    kill();
    let started = site.start();
    site.until_told(16);
    site.server.until_looked();
    assert!(started.agent.drain());
    assert_eq!(site.told()[15..], [known(3, "active", "disconnected")]);
}

/// A certificate and its key as Wazuh's API makes them for itself: self-signed, for `localhost` alone, with no other extension.
fn wazuhs() -> (X509, PKey<Private>) {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("O", "Wazuh").unwrap();
    name.append_entry_by_text("CN", "wazuh.com").unwrap();
    let name = name.build();
    let mut made = X509::builder().unwrap();
    made.set_version(2).unwrap();
    made.set_serial_number(&Asn1Integer::from_bn(&BigNum::from_u32(7).unwrap()).unwrap()).unwrap();
    made.set_subject_name(&name).unwrap();
    made.set_issuer_name(&name).unwrap();
    made.set_pubkey(&key).unwrap();
    made.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    made.set_not_after(&Asn1Time::days_from_now(365).unwrap()).unwrap();
    let names = SubjectAlternativeName::new().dns("localhost").build(&made.x509v3_context(None, None)).unwrap();
    made.append_extension(names).unwrap();
    made.sign(&key, MessageDigest::sha256()).unwrap();
    (made.build(), key)
}

#[test]
fn over_tls_its_own_certificate_is_trusted_where_it_is_named_and_not_otherwise() {
    let (certificate, key) = wazuhs();
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_certificate(&certificate).unwrap();
    acceptor.set_private_key(&key).unwrap();
    let acceptor = acceptor.build();
    let ca = tempfile::NamedTempFile::new().unwrap();
    fs::write(ca.path(), certificate.to_pem().unwrap()).unwrap();
    let server = || Server::start(World::new(many(0..15)), Some(acceptor.clone()));
    for more in [format!("tls.ca = {:?}", ca.path()), "tls.verify = false".to_owned()] {
        let site = Site::by(server(), &more);
        let started = site.start();
        site.until_told(15);
        assert_eq!(standing(&started), State::Ready);
        assert!(started.agent.drain());
    }
    let site = Site::by(server(), "");
    let started = site.start();
    until_holds(&started, &["; name its CA in tls.ca"]);
    assert!(site.server.with(|world| world.logins.is_empty()), "no password goes to whom we do not know");
    assert!(started.agent.drain());
}

#[test]
fn check_says_whether_it_would_work() {
    let site = Site::new(World::new(many(0..35)));
    let check = |config: String| {
        let path = site.dir.path().join("check.toml");
        fs::write(&path, config).unwrap();
        let done = Command::new(env!("CARGO_BIN_EXE_shipper")).args(["check", "--config"]).arg(path).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(!text.contains("s3cret"), "{text}");
        (done.status.code().unwrap(), text)
    };
    let config = || {
        format!(
            "[state]\ndir = {:?}\n{}",
            site.dir.path().join("state"),
            site.config("kind = \"blackhole\"").replacen("drain_for = \"10s\"\n", "", 1)
        )
    };
    let (code, text) = check(config());
    assert!(code == 0 && text.contains("lets us in and lists 35 agents"), "{code}: {text}");
    site.server.with(|world| world.may_read = false);
    let (code, text) = check(config());
    assert!(code != 0 && text.contains("give this user a role with agent:read"), "{code}: {text}");
    let (code, text) = check(config().replace("http://127.0.0.1", "http://manager.example"));
    assert!(code != 0 && text.contains("sources.agents.url: is plain http to another host"), "{code}: {text}");
    let (code, text) = check(config().replace("poll_interval = \"1s\"", "poll_intervall = \"1s\""));
    assert!(code != 0 && text.contains("poll_interval"), "{code}: {text}");
}

#[test]
fn handlers_of_alerts_take_its_records_without_harm() {
    let site = Site::new(World::new(many(0..15)));
    let path = |name: &str| site.dir.path().join(name);
    let more = format!(
        "[handlers.apt]\nkind = \"apt\"\ninputs = [\"agents\"]\n[handlers.dfn]\nkind = \"dfn\"\ninputs = [\"agents\"]\n\
         [sinks.events]\nkind = \"file\"\ninputs = [\"apt.event\"]\npath = {:?}\n[sinks.dfn]\nkind = \"file\"\ninputs = [\"dfn\"]\npath = {:?}\n[sinks.alerts]\nkind = \"file\"\ninputs = [\"apt\"]\npath = {:?}",
        path("events"),
        path("dfn"),
        path("alerts")
    );
    let config = format!("{}{more}", site.config(&format!("kind = \"file\"\npath = {:?}", site.out())));
    let started = start(&config, &path("state"), Engine::Pread);
    site.until_told(15);
    for handler in ["all", "apt", "dfn"] {
        let counts = started.metrics.branch("agents", handler);
        until("all is settled", || counts.in_flight.get() == 0);
        assert_eq!((counts.dead_letter.total(), counts.imbalance()), (0, 0), "{handler}");
    }
    assert!(started.agent.drain());
    let events = fs::read_to_string(path("events")).unwrap_or_default();
    assert_eq!(events.lines().filter(|line| line.contains("unknown_entity") && line.contains("other")).count(), 15, "{events}");
    for none in ["dfn", "alerts"] {
        assert_eq!(fs::read_to_string(path(none)).unwrap_or_default(), "", "{none}");
    }
}
