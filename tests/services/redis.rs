//! The cache of lookup `misp` in a real Redis: used where it can be, and never in the way.

use std::time::{Duration, Instant};

use shipper::lookups::misp::{self, Client, core::Verdict};

use crate::{
    broker::{given, services},
    misp_standin::{KEY, Misp, World, ask_all, key_file, on_edge, row, settings, until},
};

fn known() -> World {
    World { rows: (0..10).map(|n| row("domain", format!("n{n}.evil.example"))).collect(), ..World::default() }
}

/// Twenty names, the first ten of them known.
fn questions(prefix: &str) -> Vec<(&'static str, String)> {
    (0..20).map(|n| ("domain", format!("{prefix}n{n}.evil.example"))).collect()
}

#[track_caller]
fn are_right(verdicts: &[Verdict]) {
    for (n, verdict) in verdicts.iter().enumerate() {
        assert_eq!(matches!(verdict, Verdict::Hit(_)), n < 10, "{n}: {verdict:?}");
    }
}

fn with_redis(url: &str, prefix: &str, more: &str) -> String {
    let password = given("REDIS_PASSWORD_FILE").unwrap();
    format!(
        "parents = false\nredis.url = {url:?}\nredis.username = 'shipper'\nredis.password_file = {password:?}\nredis.prefix = {prefix:?}\n{more}"
    )
}

fn redis(service: &str, args: &[&str]) -> String {
    services(&[&["tool", service][..], args].concat())
}

/// Asks with one agent, then with another that knows nothing: it must not need MISP.
fn is_shared(url: &str, prefix: &'static str, more: &str) {
    // What an earlier run of these tests left.
    let keys: Vec<_> = questions(prefix).into_iter().map(|(_, key)| key).collect();
    redis("redis", &[&["del"][..], &keys.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    let misp = Misp::start(known());
    let key = key_file(KEY);
    let settings = settings(&misp, key.path(), &with_redis(url, prefix, more));
    on_edge(async move |on, standing| {
        let first = Client::start(&settings, on.clone(), standing.clone());
        are_right(&ask_all(&first, questions("")).await);
        assert_eq!(first.shared_trouble(), None);
        let searches = misp.searches().len();
        // What was learned is put there in a moment of its own.
        until(|| redis("redis", &["--scan", "--pattern", &format!("{prefix}n*")]).lines().count() == 20).await;
        let second = Client::start(&settings, on, standing);
        are_right(&ask_all(&second, questions("")).await);
        assert_eq!((second.counts().shared + second.counts().shared_empty, misp.searches().len()), (20, searches));
    });
}

#[test]
fn redis_is_shared_over_tcp_with_a_password_and_is_readable() {
    let Some(url) = given("REDIS_URL") else { return };
    is_shared(&url, "ioc:", "");
    let text = redis("redis", &["get", "ioc:n3.evil.example"]);
    let value: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    let hit = &value["response"]["Attribute"][0];
    assert_eq!((hit["value"].as_str(), hit["Event"]["info"].as_str()), (Some("n3.evil.example"), Some("Emotet, again")));
    let lives = |key: &str| redis("redis", &["ttl", key]).trim().parse::<u64>().unwrap();
    assert!((86_000..=86_400).contains(&lives("ioc:n3.evil.example")));
    assert!((3000..=3600).contains(&lives("ioc:n13.evil.example")));
}

#[test]
fn redis_is_shared_over_tls_and_by_a_socket() {
    let (Some(tls), Some(socket)) = (given("REDIS_TLS_URL"), given("REDIS_SOCKET")) else { return };
    let ca = format!("redis.ca = {:?}\n", crate::broker::certificate("ca.pem"));
    is_shared(&tls, "ioc:tls:", &ca);
    is_shared(&socket, "ioc:socket:", "");
}

/// One agent whose Redis is disturbed while it asks.
async fn goes_on(client: &Client, prefix: &str, why: &str) {
    let names: Vec<_> = (0..20).map(|n| ("md5", format!("{prefix}{n:030x}"))).collect();
    assert!(ask_all(client, names).await.iter().all(|verdict| *verdict == Verdict::Miss));
    let begun = Instant::now();
    while !client.shared_trouble().is_some_and(|trouble| trouble.contains(why)) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{why} is not in {:?}", client.shared_trouble());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn disturbed(url: &str, more: &str) -> (Misp, tempfile::NamedTempFile, misp::Settings) {
    let misp = Misp::start(known());
    let key = key_file(KEY);
    let mut settings = settings(&misp, key.path(), &with_redis(url, "ioc:", more));
    if let Some((redis, _)) = &mut settings.redis {
        redis.timeout = Duration::from_millis(500);
    }
    (misp, key, settings)
}

#[test]
fn redis_that_is_read_only_full_stopped_or_deaf_stops_no_lookup() {
    let Some(url) = given("REDIS_DISTURBED_URL") else { return };
    let (misp, _key, settings) = disturbed(&url, "");
    on_edge(async move |on, standing| {
        let client = Client::start(&settings, on, standing);
        let is_well = async |prefix: &str| {
            let names: Vec<_> = (0..5).map(|n| ("md5", format!("{prefix}{n:030x}"))).collect();
            ask_all(&client, names).await;
            client.shared_trouble().is_none()
        };
        assert!(is_well("a0").await);
        redis("redis-disturbed", &["replicaof", "127.0.0.1", "9"]);
        goes_on(&client, "a1", "READONLY").await;
        redis("redis-disturbed", &["replicaof", "no", "one"]);
        redis("redis-disturbed", &["config", "set", "maxmemory", "1"]);
        goes_on(&client, "a2", "OOM").await;
        redis("redis-disturbed", &["config", "set", "maxmemory", "0"]);
        assert!(is_well("a3").await || is_well("a4").await, "{:?}", client.shared_trouble());
        services(&["pause", "redis-disturbed"]);
        goes_on(&client, "a5", "redis://").await;
        services(&["resume", "redis-disturbed"]);
        services(&["stop", "redis-disturbed"]);
        goes_on(&client, "a6", "redis://").await;
        services(&["start", "redis-disturbed"]);
        let mut n = 0;
        while !is_well(&format!("b{n:02}")).await {
            n += 1;
            assert!(n < 90, "it is never used again: {:?}", client.shared_trouble());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(client.counts().failures, 0, "no error of Redis is one of MISP");
        drop(misp);
    });
}

#[test]
fn redis_with_a_wrong_password_or_a_strange_certificate_is_a_cache_that_is_away() {
    let (Some(url), Some(tls)) = (given("REDIS_URL"), given("REDIS_TLS_URL")) else { return };
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "wrong\n").unwrap();
    let stranger = format!("redis.ca = {:?}\n", crate::broker::certificate("stranger.pem"));
    for (url, more, why) in [(&url, "", "password_file"), (&tls, stranger.as_str(), "rediss://")] {
        let (_misp, _key, mut settings) = disturbed(url, more);
        if let Some((redis, _)) = settings.redis.as_mut().filter(|_| more.is_empty()) {
            redis.password_file = Some(password.path().to_owned());
        }
        on_edge(async move |on, standing| {
            let client = Client::start(&settings, on, standing);
            goes_on(&client, "c", why).await;
            let trouble = client.shared_trouble().unwrap();
            assert!(!trouble.contains("wrong\n") && !trouble.contains("'wrong'"), "{trouble}");
        });
    }
}
