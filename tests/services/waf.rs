//! A WAF's events from Redis to InfluxDB and a list of alerts, on the real servers: each event is one point and each
//! alert stands on the list once, whoever is killed, flushed or trimmed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
    time::Duration,
};

use crate::{
    agent::{House, wait},
    broker::{given, services},
    influx::Server,
    redis_stream::{Admin, FLUSHED, Reply, events, metric},
};

/// Every hundredth is an alert. It has no time of its own: that of its entry makes it the same point when it comes again.
fn event(n: u64) -> String {
    let score = if n.is_multiple_of(100) { 90 } else { 5 };
    format!(
        "{{\"transaction\":{{\"id\":\"t{n}\",\"client_ip\":\"203.0.113.{}\",\"anomaly_score\":{score},\"request\":{{\"method\":\"GET\",\"uri\":\"/{n}\"}},\"response\":{{\"http_code\":200}}}}}}",
        n % 200
    )
}

/// The house: one bucket, one key, one list of this run.
fn house(url: &str, influx: &Server, alerts: &str, (bucket, key, list): (&str, &str, &str)) -> House {
    let password = given("REDIS_PASSWORD_FILE").unwrap();
    House::with(|dir| {
        format!(
            "[api]\nlisten = \"unix:{}\"\n\
             [sources.events]\nkind = \"redis_stream\"\nurl = {url:?}\nusername = \"shipper\"\npassword_file = {password:?}\n\
             streams = [{key:?}]\ngroup = \"waf\"\nblock = \"200ms\"\nmin_idle = \"2s\"\nmax_deliveries = 100\n\
             [handlers.waf]\nkind = \"waf\"\ninputs = [\"events\"]\nlayout = \"upstream\"\n\
             [sinks.points]\nkind = \"influx\"\ninputs = [\"waf\"]\nlinger = \"100ms\"\n{}\
             [sinks.alerts]\nkind = \"redis\"\ninputs = [\"waf.alert\"]\nurl = {alerts:?}\nusername = \"shipper\"\n\
             password_file = {password:?}\nlist = {list:?}\nlist_max = 1000000\n",
            dir.join("api.sock").display(),
            influx.settings(bucket, ""),
        )
    })
}

/// The number of each point of a measurement, by its URI.
fn points(server: &Server, bucket: &str, measurement: &str) -> Vec<u64> {
    let answer = server.query(bucket, &format!("SELECT uri FROM {measurement}"));
    let series = answer["results"][0]["series"].as_array().cloned().unwrap_or_default();
    let rows = series.iter().flat_map(|series| series["values"].as_array().unwrap());
    rows.map(|row| row[1].as_str().unwrap()[1..].parse().unwrap()).collect()
}

#[test]
fn each_event_is_one_point_and_each_alert_is_pushed_once() {
    let (Some(url), Some(influx), Some(alerts)) = (given("REDIS_FLUSHED_URL"), Server::given("influx16"), given("REDIS_URL")) else {
        return;
    };
    let _alone = FLUSHED.lock().unwrap_or_else(PoisonError::into_inner);
    let run = std::process::id();
    let (count, key) = (events(), format!("waf:chain:{run}"));
    let (bucket, list) = (format!("chain{run}"), format!("waf:alerts:{run}"));
    // By its administrator: the agent's user may only write.
    services(&["tool", "influx16", "shipper", &format!("CREATE DATABASE {bucket}; GRANT WRITE ON {bucket} TO shipper")]);
    let mut admin = Admin::of(&url);
    let house = house(&url, &influx, &alerts, (&bucket, &key, &list));
    let mut agent = house.start();
    let mut wanted = BTreeSet::new();
    let is_done = || {
        let mut admin = Admin::of(&url);
        let groups = admin.ask(&["XINFO", "GROUPS", &key]);
        let lag = groups
            .list()
            .first()
            .and_then(|group| group.list().chunks(2).find(|pair| pair[0] == Reply::Text("lag".into())).map(|pair| pair[1].clone()));
        admin.pending_or_none(&key) == Some(0) && lag == Some(Reply::Number(0))
    };
    let all_is_acked = |what: &str| {
        wait(&format!("{what}: everything is read and acked"), is_done, || {
            format!("{:?} pending, {:?}", Admin::of(&url).pending_or_none(&key), Admin::of(&url).ask(&["XINFO", "GROUPS", &key]))
        });
    };

    for part in 0..6 {
        let numbers = count * part / 6..count * (part + 1) / 6;
        admin.add_each(&key, numbers.clone(), &[], event);
        wanted.extend(numbers);
        if part == 2 {
            wait("the group is there", || Admin::of(&url).pending_or_none(&key).is_some(), || "no group".into());
            let dead = admin.ask(&["XREADGROUP", "GROUP", "waf", "dead", "COUNT", "300", "STREAMS", &key, ">"]);
            eprintln!("a consumer that dies has taken {} events", dead.list().first().map_or(0, |s| s.list()[1].list().len()));
        }
        if part < 5 {
            std::thread::sleep(Duration::from_millis(500));
            agent.kill();
            agent = house.start();
        }
    }
    all_is_acked("kills");

    // Everything is flushed, the group with it; what comes then is read from the start of the new stream.
    assert_eq!(admin.ask(&["FLUSHALL"]), Reply::Text("OK".into()));
    let after = count..count + 1000;
    admin.add_each(&key, after.clone(), &[], event);
    wanted.extend(after.clone());
    all_is_acked("flushed");
    agent.stop();

    // Trimmed while nobody reads: three thousand are gone, two thousand are left.
    let trimmed = after.end..after.end + 3000;
    admin.add_each(&key, trimmed.start..trimmed.end + 2000, &[], event);
    wanted.extend(trimmed.end..trimmed.end + 2000);
    admin.ask(&["XTRIM", &key, "MAXLEN", "2000"]);
    let agent = house.start();
    all_is_acked("trimmed");
    wait(
        "what was trimmed is counted",
        || metric(&house, "shipper_lost_to_trim_total") == 3000,
        || metric(&house, "shipper_lost_to_trim_total").to_string(),
    );
    agent.stop();

    for measurement in ["waf_events", "waf_requests"] {
        let found = points(&influx, &bucket, measurement);
        let distinct: BTreeSet<u64> = found.iter().copied().collect();
        assert!(distinct == wanted, "{measurement}: {} of {} events are points", distinct.intersection(&wanted).count(), wanted.len());
        assert_eq!(found.len(), wanted.len(), "{measurement}: an event that comes again is the same point");
    }
    let mut pushed: BTreeMap<u64, u64> = BTreeMap::new();
    for line in services(&["tool", "redis", "lrange", &list, "0", "-1"]).lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        *pushed.entry(record["tx_id"].as_str().unwrap()[1..].parse().unwrap()).or_default() += 1;
    }
    let grave: BTreeMap<u64, u64> = wanted.iter().filter(|n| n.is_multiple_of(100)).map(|n| (*n, 1)).collect();
    assert!(pushed == grave, "{} alerts of {} events, {} pushed", grave.len(), wanted.len(), pushed.values().sum::<u64>());
    assert_eq!(house.dead_letters().len(), 0);
    eprintln!(
        "{} events, {} points in each measurement, {} alerts pushed once, 3000 lost to trim",
        wanted.len(),
        wanted.len(),
        grave.len()
    );
}
