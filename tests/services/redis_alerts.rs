//! Sink `redis` with form `alerts` against a real Redis, sentinels and a cluster: each alert once, whatever happens; what an
//! older dashboard reads; and what the HTTP face shows of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;
use shipper::{
    clock::{Clock, SystemClock},
    metrics::State,
    sinks::Level,
};

use crate::{
    agent::{House, wait},
    broker::{certificate, given, services},
    driven::{Driven, check, outage, spec, told},
};

const DAY_MS: i64 = 86_400_000;

fn redis(service: &str, args: &[&str]) -> String {
    services(&[&["tool", service][..], args].concat())
}

fn lines(service: &str, args: &[&str]) -> Vec<String> {
    redis(service, args).lines().map(str::to_owned).filter(|line| !line.is_empty()).collect()
}

fn number(service: &str, args: &[&str]) -> u64 {
    redis(service, args).trim().parse().unwrap()
}

fn settings(url: &str, more: &str) -> String {
    let password = given("REDIS_PASSWORD_FILE").unwrap();
    format!("url = {url:?}\nform = 'alerts'\nusername = 'shipper'\npassword_file = {password:?}\nbackoff_max = '1s'\n{more}\n")
}

fn start(url: &str, more: &str) -> Driven {
    Driven::start(spec("redis", &settings(url, more)))
}

/// A prefix of this run alone.
fn fresh(name: &str) -> String {
    format!("apt-{name}-{}:", std::process::id())
}

fn now_ms() -> i64 {
    (SystemClock::new().now() / 1_000_000) as i64
}

/// An alert as a detector writes it.
fn alert(n: u64, time_ms: i64) -> String {
    let severity = ["Critical", "High", "Medium", "Low"][n as usize % 4];
    let time = jiff::Timestamp::from_millisecond(time_ms).unwrap().strftime("%Y-%m-%dT%H:%M:%S.%3fZ");
    format!(
        r#"{{"schema":1,"id":"{n:032x}","entity":"host{}","entity_type":"host","event_type":"process","timestamp":"{time}","severity":"{severity}","prediction_score":0.75,"features":{{"cpu_usage_mean":0.9}},"detection_type":"feature_high","mitre_attack":{{"techniques":[],"tactics":[]}},"source":{{"type":"kafka","topic":"apt","partition":0,"offset":{n}}}}}"#,
        n % 5
    )
}

/// Alerts of the last seconds, a millisecond each.
fn alerts(from: u64, count: u64) -> Vec<String> {
    let base = now_ms() - 100_000;
    (from..from + count).map(|n| alert(n, base + n as i64)).collect()
}

/// Ids of the alerts on the list, in their order.
fn listed(service: &str, key: &str) -> Vec<u64> {
    let id = |line: &String| {
        let alert: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        u64::from_str_radix(alert["id"].as_str().unwrap(), 16).unwrap()
    };
    lines(service, &["lrange", key, "0", "-1"]).iter().map(id).collect()
}

/// Every alert up to `count` is stored once, on the list and in the indices.
#[track_caller]
fn each_once(service: &str, prefix: &str, count: u64, what: &str) {
    let key = |name: &str| format!("{prefix}{name}");
    let list = listed(service, &key("alerts"));
    let distinct: BTreeSet<u64> = list.iter().copied().collect();
    assert_eq!((list.len() as u64, distinct), (count, (0..count).collect()), "{what}: on the list");
    assert_eq!(number(service, &["zcard", &key("by_time")]), count, "{what}: by time");
    let by_entity: u64 = (0..5).map(|n| number(service, &["zcard", &key(&format!("by_entity:host{n}"))])).sum();
    assert_eq!(by_entity, count, "{what}: by entity");
    assert_eq!(number(service, &["hget", &key("stats"), "alerts"]), count, "{what}: counted");
}

/// Somebody who listens on a channel.
fn listen(url: &str, channel: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(url.strip_prefix("redis://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(format!("AUTH default redis-secret\r\nSUBSCRIBE {channel}\r\n").as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while line != ":1\r\n" {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0);
    }
    reader
}

#[test]
fn an_alert_is_stored_once_with_its_indices_and_its_counts() {
    let Some(tcp) = given("REDIS_STORE_URL") else { return };
    let (tls, socket) = (given("REDIS_STORE_TLS_URL").unwrap(), given("REDIS_STORE_SOCKET").unwrap());
    let ca = format!("tls.ca = {:?}", certificate("ca.pem"));
    for (name, url, more) in [("tcp", &tcp, ""), ("tls", &tls, ca.as_str()), ("socket", &socket, "")] {
        let prefix = fresh(name);
        let of = format!("prefix = {prefix:?}\nmax_alerts = 200\n{more}");
        let found = check(&*spec("redis", &settings(url, &of)));
        assert!(found.iter().all(|f| f.level == Level::Good), "{found:?}");
        let mut heard = listen(&tcp, &format!("{prefix}new"));
        let sink = start(url, &of);
        let all = alerts(0, 300);
        // Twice in one run, and once more by an agent that knows nothing of it.
        (0..2).for_each(|_| sink.push(0, &all));
        assert_eq!(sink.settled(), []);
        let counted = |outcome: &str| sink.count("redis_messages", "form", &format!("alerts\",outcome=\"{outcome}"));
        assert_eq!((counted("sent"), counted("known")), (300, 300));
        sink.finish();
        let again = start(url, &of);
        again.push(0, &all);
        assert_eq!(again.settled(), []);
        again.finish();
        let key = |name: &str| format!("{prefix}{name}");
        let store = "redis-store";
        assert_eq!(lines(store, &["lrange", &key("alerts"), "0", "-1"]), all[100..], "what an older dashboard reads, the newest last");
        let ids: Vec<String> = (0..300).rev().map(|n| format!("{n:032x}")).collect();
        assert_eq!(lines(store, &["zrevrange", &key("by_time"), "0", "-1"]), ids);
        let of_one: Vec<&String> = ids.iter().filter(|id| u64::from_str_radix(id, 16).unwrap() % 5 == 3).collect();
        assert_eq!(lines(store, &["zrevrange", &key("by_entity:host3"), "0", "-1"]).iter().collect::<Vec<_>>(), of_one);
        let id = format!("alert:{:032x}", 7);
        assert_eq!(redis(store, &["get", &key(&id)]).trim_end(), all[7]);
        for (name, what) in [(id.as_str(), "an alert"), ("by_entity:host3", "places of an entity")] {
            let lives = number(store, &["ttl", &key(name)]);
            assert!((7_775_000..=7_776_000).contains(&lives), "{what}: {lives}");
        }
        let counts = lines(store, &["hgetall", &key("stats")]);
        let counts: BTreeMap<&str, &str> = counts.chunks(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
        let days: u64 = counts.iter().filter(|(field, _)| field.starts_with("day:")).map(|(_, n)| n.parse::<u64>().unwrap()).sum();
        assert_eq!((counts["alerts"], counts["severity:High"], counts["source:kafka"], days), ("300", "75", "300", 300), "{counts:?}");
        assert_eq!(number(store, &["zscore", &key("entities"), "host3"]), 60);
        let mut told = Vec::new();
        while told.len() < 300 {
            let mut line = String::new();
            assert!(heard.read_line(&mut line).unwrap() > 0);
            told.extend((line.trim_end().len() == 32).then(|| line.trim_end().to_owned()));
        }
        assert_eq!(told, ids.iter().rev().cloned().collect::<Vec<_>>(), "each is told of once, in order");
    }
}

#[test]
fn what_is_no_alert_is_refused_with_its_reason_and_the_others_are_stored() {
    let Some(url) = given("REDIS_STORE_URL") else { return };
    let prefix = fresh("refused");
    let sink = start(&url, &format!("prefix = {prefix:?}"));
    let good = alerts(0, 3);
    let bad = [
        good[0].replace("\"id\":", "\"no\":"),
        good[0].replace("host0", &"h".repeat(300)),
        good[0].replace("Critical", "grave"),
        "{\"timestamp\":\"cut".into(),
    ];
    sink.push(0, &[&good[0], &bad[0], &bad[1], &good[1], &bad[2], &bad[3], &good[2]]);
    let refused = sink.settled();
    let why: Vec<(u32, &str)> = refused.iter().map(|((_, number), why)| (*number, why.as_str())).collect();
    assert_eq!(why.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 4, 5], "{why:?}");
    for ((_, told), expected) in
        why.iter().zip(["it has no id", "its entity is longer than 256 bytes", "severity is none of", "is no alert"])
    {
        assert!(told.contains("sink it: the message is no alert") && told.contains(expected), "{told}");
    }
    sink.finish();
    assert_eq!(listed("redis-store", &format!("{prefix}alerts")), [0, 1, 2]);
}

#[test]
fn what_is_past_its_retention_leaves_the_indices() {
    let Some(url) = given("REDIS_STORE_URL") else { return };
    let prefix = fresh("retention");
    let of = format!("prefix = {prefix:?}\nretention = '7d'");
    let key = |name: &str| format!("{prefix}{name}");
    let sink = start(&url, &of);
    wait("the first look for old ones is over", || sink.state() == State::Ready, || sink.state().to_string());
    let now = now_ms();
    // One old, one new, and one from a clock that is a year ahead.
    sink.push(0, &[alert(0, now - 8 * DAY_MS), alert(5, now), alert(10, now + 365 * DAY_MS)]);
    assert_eq!(sink.settled(), []);
    let day = |ms: i64| format!("day:{}", jiff::Timestamp::from_millisecond(ms).unwrap().strftime("%Y-%m-%d"));
    assert_eq!(redis("redis-store", &["hget", &key("stats"), &day(now - 8 * DAY_MS)]).trim(), "1");
    sink.finish();
    let again = start(&url, &of);
    let times = || lines("redis-store", &["zrange", &key("by_time"), "0", "-1"]);
    wait("the old one has left", || times().len() == 2, || format!("{:?}", times()));
    assert_eq!(redis("redis-store", &["hget", &key("stats"), &day(now - 8 * DAY_MS)]).trim(), "");
    let score = number("redis-store", &["zscore", &key("by_time"), &format!("{:032x}", 10)]) as i64;
    assert!((now - 1000..now + 60_000).contains(&score), "one of the future is one of now: {score}, {now}");
    // The next alert of the entity takes the old one out of its index.
    again.push(10, &[alert(15, now)]);
    assert_eq!(again.settled(), []);
    assert_eq!(number("redis-store", &["zcard", &key("by_entity:host0")]), 3);
    again.finish();
}

#[test]
fn a_key_of_another_kind_holds_and_stores_no_half_of_an_alert() {
    let Some(url) = given("REDIS_STORE_URL") else { return };
    let prefix = fresh("wrongtype");
    let key = |name: &str| format!("{prefix}{name}");
    redis("redis-store", &["set", &key("stats"), "no hash"]);
    let found = check(&*spec("redis", &settings(&url, &format!("prefix = {prefix:?}"))));
    let told = format!("key {} holds a string, not a hash", key("stats"));
    assert!(found.iter().any(|f| f.level == Level::Bad && f.text.contains(&told)), "{found:?}");
    let sink = start(&url, &format!("prefix = {prefix:?}"));
    sink.push(0, &alerts(0, 3));
    sink.until_state("it holds", |state| matches!(state, State::Holding(why) if why.contains(&told)));
    assert_eq!(sink.answered(), 0);
    assert_eq!(redis("redis-store", &["exists", &key("alerts"), &key("by_time"), &key(&format!("alert:{:032x}", 0))]).trim(), "0");
    redis("redis-store", &["del", &key("stats")]);
    assert_eq!((sink.settled(), sink.state()), (Vec::new(), State::Ready));
    each_once("redis-store", &prefix, 3, "the key was put right");
    sink.finish();
}

#[test]
fn lost_connections_silence_a_full_memory_a_replica_and_a_kill_store_nothing_twice_and_lose_nothing() {
    // It is disturbed: only this test may use it.
    let Some(url) = given("REDIS_APT_URL") else { return };
    let service = "redis-apt";
    redis(service, &["flushall"]);
    let prefix = "apt_detection:";
    let sink = start(&url, "max_alerts = 1000000\ntimeout = '500ms'");
    let (mut pushed, part) = (0, 500);
    let mut push = |sink: &Driven| {
        sink.push(pushed, &alerts(pushed, part));
        pushed += part;
        pushed
    };
    let mut count = 0;
    for _ in 0..10 {
        count = push(&sink);
        redis(service, &["client", "kill", "user", "shipper"]);
        redis(service, &["script", "flush"]);
    }
    assert_eq!(sink.settled(), []);
    each_once(service, prefix, count, "connections were killed, scripts were flushed");

    // Commands that had no answer in time were done all the same, and are sent again.
    services(&["pause", service]);
    count = push(&sink);
    sink.until_state("the silence is told", |state| matches!(state, State::Retrying(_)));
    std::thread::sleep(outage());
    services(&["resume", service]);
    assert_eq!(sink.settled(), []);
    each_once(service, prefix, count, "it was silent");

    for (set, unset, why) in [
        (&["config", "set", "maxmemory", "1"], &["config", "set", "maxmemory", "0"], "its memory is full"),
        (&["replicaof", "127.0.0.1", "9", ""], &["replicaof", "no", "one", ""], "it is a replica: name the primary"),
    ] {
        let args = |all: &[&'static str; 4]| all.iter().copied().filter(|arg| !arg.is_empty()).collect::<Vec<_>>();
        redis(service, &args(set));
        count = push(&sink);
        sink.until_state(why, |state| matches!(state, State::Retrying(told) if told.contains(why)));
        redis(service, &args(unset));
        assert_eq!(sink.settled(), []);
        each_once(service, prefix, count, why);
    }
    sink.finish();
}

#[test]
fn after_a_failover_alerts_go_to_the_primary_that_sentinels_name() {
    let Some(first) = given("REDIS_SENTINEL_1_ADDRESS") else { return };
    let others = [given("REDIS_SENTINEL_2_ADDRESS").unwrap(), given("REDIS_SENTINEL_3_ADDRESS").unwrap()];
    // The first one is away all the time.
    let url = format!("redis+sentinel://127.0.0.1:9,{first},{},{}/mymaster", others[0], others[1]);
    let prefix = fresh("sentinel");
    let of = format!("prefix = {prefix:?}\ntimeout = '1s'");
    let primary = || {
        let address = lines("redis-sentinel-1", &["sentinel", "get-master-addr-by-name", "mymaster"]);
        let own = given("REDIS_PRIMARY_URL").unwrap();
        if own.ends_with(&format!(":{}", address[1])) { "redis-primary" } else { "redis-replica" }
    };
    let before = primary();
    let found = check(&*spec("redis", &settings(&url, &of)));
    assert!(found.iter().all(|f| f.level == Level::Good), "{found:?}");
    let sink = start(&url, &of);
    sink.push(0, &alerts(0, 500));
    assert_eq!(sink.settled(), []);
    let replica = if before == "redis-primary" { "redis-replica" } else { "redis-primary" };
    let there = || number(replica, &["zcard", &format!("{prefix}by_time")]);
    wait("the replica has them", || there() == 500, || there().to_string());
    services(&["kill", before]);
    let began = Instant::now();
    sink.push(500, &alerts(500, 500));
    assert_eq!(sink.settled(), []);
    told("alerts waited for the failover", began);
    // The sink may have asked another sentinel than we do, and they tell each other every two seconds.
    wait("all sentinels name the new primary", || primary() == replica, || primary().to_owned());
    each_once(replica, &prefix, 1000, "failed over");

    // The old one comes back as a replica; a primary that steps down by order is followed as well.
    services(&["start", before]);
    let role = || redis(before, &["info", "replication"]);
    wait("the old primary follows", || role().contains("role:slave") && role().contains("master_link_status:up"), role);
    let ordered = || redis("redis-sentinel-1", &["sentinel", "failover", "mymaster"]).contains("OK");
    wait("a sentinel takes the order", ordered, || redis("redis-sentinel-1", &["info", "sentinel"]));
    wait("the old primary leads again", || role().contains("role:master"), role);
    // Until it is told, the other one takes what the sink sends, and forgets it: an ordered failover is not coordinated.
    let other = || redis(replica, &["info", "replication"]);
    wait("the other one follows", || other().contains("role:slave"), other);
    sink.push(1000, &alerts(1000, 500));
    assert_eq!(sink.settled(), []);
    sink.until_state("it is well again", |state| *state == State::Ready);
    wait("the sentinels name it", || primary() == before, || primary().to_owned());
    each_once(before, &prefix, 1500, "failed back");
    sink.finish();
}

#[test]
fn in_a_cluster_all_keys_are_on_one_node_and_are_followed_when_they_move() {
    let Some(first) = given("REDIS_NODE_1_URL") else { return };
    let urls = [first, given("REDIS_NODE_2_URL").unwrap(), given("REDIS_NODE_3_URL").unwrap()];
    let hosts: Vec<&str> = urls.iter().map(|url| url.strip_prefix("redis://").unwrap()).collect();
    let url = format!("redis+cluster://127.0.0.1:9,{}", hosts.join(","));
    let tag = format!("apt-{}", std::process::id());
    let prefix = format!("{{{tag}}}:");
    let of = format!("prefix = {prefix:?}\ntimeout = '1s'");
    let found = check(&*spec("redis", &settings(&url, &of)));
    assert!(found.iter().all(|f| f.level == Level::Good), "{found:?}");
    let sink = start(&url, &of);
    sink.push(0, &alerts(0, 500));
    assert_eq!(sink.settled(), []);
    let nodes = ["redis-node-1", "redis-node-2", "redis-node-3"];
    let slot = redis(nodes[0], &["cluster", "keyslot", &tag]).trim().to_owned();
    let own_count = |node: &str| redis(node, &["cluster", "countkeysinslot", &slot]).trim().parse::<u64>().unwrap();
    let at = nodes.into_iter().position(|node| own_count(node) > 500).expect("one node has them all");
    each_once(nodes[at], &prefix, 500, "all is on one node");

    // Its slot moves, key by key, while alerts come.
    let to = (at + 1) % 3;
    let ids = nodes.map(|node| redis(node, &["cluster", "myid"]).trim().to_owned());
    redis(nodes[to], &["cluster", "setslot", &slot, "importing", &ids[at]]);
    redis(nodes[at], &["cluster", "setslot", &slot, "migrating", &ids[to]]);
    sink.push(500, &alerts(500, 500));
    sink.until_state("a new key is elsewhere", |state| matches!(state, State::Retrying(_)));
    let port = hosts[to].rsplit(':').next().unwrap();
    while own_count(nodes[at]) > 0 {
        let keys = lines(nodes[at], &["cluster", "getkeysinslot", &slot, "200"]);
        let mut args = vec!["migrate", "127.0.0.1", port, "", "0", "5000", "AUTH", "redis-secret", "KEYS"];
        args.extend(keys.iter().map(String::as_str));
        assert!(redis(nodes[at], &args).contains("OK"));
    }
    for node in [to, at, (at + 2) % 3] {
        redis(nodes[node], &["cluster", "setslot", &slot, "node", &ids[to]]);
    }
    assert_eq!((sink.settled(), sink.state()), (Vec::new(), State::Ready));
    each_once(nodes[to], &prefix, 1000, "the slot has moved");
    sink.finish();
    // Who writes to one node as if it were alone is told what to do.
    let alone = start(&urls[at], &of);
    alone.push(0, &alerts(0, 1));
    alone.until_state("it holds", |state| matches!(state, State::Holding(why) if why.contains("write url as redis+cluster://")));
    alone.finish();
}

/// What an agent's face says; its code, its head and its body.
fn ask(dir: &Path, path: &str) -> (u16, String, Value) {
    let mut stream = UnixStream::connect(dir.join("api.sock")).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n").as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, head.to_owned(), serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}")))
}

fn ids(alerts: &Value) -> Vec<u64> {
    alerts.as_array().unwrap().iter().map(|alert| u64::from_str_radix(alert["id"].as_str().unwrap(), 16).unwrap()).collect()
}

/// A house whose alerts go to this Redis, and into memory.
fn house(url: &str, prefix: &str, more: &str) -> House {
    let sink = settings(url, &format!("prefix = {prefix:?}\nmax_alerts = 1000000\n{more}"));
    House::with(|dir| {
        format!(
            "[api]\nlisten = \"unix:{}/api.sock\"\n[handlers.all]\nkind = \"forward\"\ninputs = [\"alerts\"]\n[sinks.store]\nkind = \"redis\"\ninputs = [\"all\"]\n{sink}[sinks.recent]\nkind = \"memory\"\ninputs = [\"all\"]\n",
            dir.display()
        )
    })
}

#[test]
fn a_killed_agent_stores_each_alert_once_and_its_face_shows_them() {
    let Some(url) = given("REDIS_STORE_URL") else { return };
    let prefix = fresh("killed");
    let house = house(&url, &prefix, "");
    let all = alerts(0, 20_000);
    let by_time = format!("{prefix}by_time");
    let there = || number("redis-store", &["zcard", &by_time]);
    for (n, part) in all.chunks(5000).enumerate() {
        house.append(&part.iter().map(|alert| format!("{alert}\n")).collect::<String>());
        let agent = house.start();
        wait("it is in the middle", || there() > n as u64 * 5000 + 1000, || there().to_string());
        agent.kill();
    }
    let agent = house.start();
    house.until_saved();
    each_once("redis-store", &prefix, 20_000, "killed four times");

    let dir = house.dir.path();
    let (code, head, page) = ask(dir, "/api/alerts");
    assert_eq!((code, ids(&page)), (200, (19_000..20_000).rev().collect()), "a page is the newest thousand");
    assert!(head.to_lowercase().contains("shipper-alerts: redis"), "{head}");
    // Link by link to the end: every alert once, in order.
    let (mut walked, mut next) = (Vec::new(), Some("/api/alerts?limit=999&entity=host3".to_owned()));
    while let Some(path) = next {
        let (_, head, page) = ask(dir, &path);
        walked.extend(ids(&page));
        let link = head.lines().find_map(|line| line.strip_prefix("link: <"));
        next = link.map(|link| link.split('>').next().unwrap().to_owned());
    }
    assert_eq!(walked, (0..20_000).rev().filter(|n| n % 5 == 3).collect::<Vec<u64>>());
    let (_, head, page) = ask(dir, "/api/alerts?severity=critical&source_type=kafka&limit=3");
    assert_eq!(ids(&page), [19_996, 19_992, 19_988]);
    assert!(head.contains("&limit=3&before="), "{head}");
    assert_eq!(ids(&ask(dir, &format!("/api/alerts?limit=2&before={:032x}", 100)).2), [99, 98]);
    assert_eq!(ids(&ask(dir, "/api/alerts?source_type=connector").2), [0u64; 0]);
    assert_eq!(ids(&ask(dir, "/api/alerts?days=0").2), [0u64; 0]);
    for (path, code) in [
        ("/api/alerts?days=x", 400),
        ("/api/alerts?limit=1001", 400),
        ("/api/alerts?before=abc", 404),
        ("/api/alerts/abc", 404),
        ("/api/entity/nobody", 404),
    ] {
        let (found, _, body) = ask(dir, path);
        assert!(found == code && body["error"].is_string(), "{path}: {found} {body}");
    }
    let (_, _, one) = ask(dir, &format!("/api/alerts/{:032x}", 7));
    assert_eq!(one, serde_json::from_str::<Value>(&all[7]).unwrap());
    let (_, _, stats) = ask(dir, "/api/stats");
    assert_eq!(
        (&stats["alert_count"], &stats["severity_counts"]["High"], &stats["entity_counts"]["host1"]),
        (&20_000.into(), &5000.into(), &4000.into())
    );
    let days: u64 = stats["timeline_data"].as_array().unwrap().iter().map(|day| day["count"].as_u64().unwrap()).sum();
    assert_eq!(days, 20_000);
    let (_, _, entity) = ask(dir, "/api/entity/host3");
    assert_eq!((&entity["of"], &entity["data_points"], &entity["anomaly_score"]["max"]), (&"alerts".into(), &1000.into(), &0.75.into()));
    agent.stop();
}

#[test]
fn while_redis_is_away_a_source_pauses_or_a_spool_takes_what_comes_and_nothing_is_lost() {
    let Some(url) = given("REDIS_AWAY_URL") else { return };
    let service = "redis-away";
    redis(service, &["flushall"]);
    for (name, more, spools) in [("waits", "", false), ("spools", "while_away = 'spool'", true)] {
        let prefix = fresh(name);
        // A timeout that is short, so that what was under way is soon known to be lost.
        let house = house(&url, &prefix, &format!("timeout = '500ms'\n{more}"));
        let count = 60_000;
        let write = |from: u64, to: u64| {
            for part in alerts(from, to - from).chunks(1000) {
                house.append(&part.iter().map(|alert| format!("{alert}\n")).collect::<String>());
            }
        };
        write(0, 1000);
        let agent = house.start();
        house.until_saved();
        services(&["pause", service]);
        write(1000, count);
        let dir = house.dir.path();
        if spools {
            house.until_saved();
            agent.says(&["sink puts messages by"]);
            // Also over a kill while it is away.
            agent.kill();
            let agent = house.start();
            let (_, head, _) = ask_soon(dir, "/api/stats");
            assert!(head.to_lowercase().contains("shipper-alerts: memory"), "{head}");
            services(&["resume", service]);
            settle(service, &prefix, count);
            let spool =
                || fs::read_dir(dir.join("state/spool")).unwrap().map(|file| file.unwrap().metadata().map_or(0, |m| m.len())).sum::<u64>();
            wait("the spool is empty", || spool() == 0, || spool().to_string());
            agent.stop();
        } else {
            std::thread::sleep(outage());
            // Not more than may be in flight was read: the file keeps the rest.
            let (segment, offset) = house.watermark();
            let size = fs::metadata(house.alerts().join("alerts.json")).unwrap().len();
            assert!(offset < size / 10, "{segment} {offset} of {size}");
            let (_, _, health) = ask(dir, "/health");
            assert!(health["status"] != "ok", "{health}");
            services(&["resume", service]);
            house.until_saved();
            agent.stop();
        }
        settle(service, &prefix, count);
        each_once(service, &prefix, count, name);
    }
}

/// What the face says once it listens.
fn ask_soon(dir: &Path, path: &str) -> (u16, String, Value) {
    wait("the face listens", || UnixStream::connect(dir.join("api.sock")).is_ok(), String::new);
    ask(dir, path)
}

fn settle(service: &str, prefix: &str, count: u64) {
    let there = || number(service, &["zcard", &format!("{prefix}by_time")]);
    wait("all is stored", || there() == count, || format!("{} of {count}", there()));
}
