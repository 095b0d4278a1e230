//! APT detection on a real Kafka and a real Redis: `shipper apt produce` on one side, the alerts that are stored on the other.
//! Each alert is there once, whoever is killed, away, or joins and leaves the group.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Command, Output},
    sync::PoisonError,
    time::{Duration, Instant},
};

use serde_json::Value;
use shipper::synth::apt::features::Features;

use crate::{
    agent::{House, wait},
    broker::{given, make_topic, services},
    driven::{outage, told},
    kafka_source::{committed_by, connection},
    kafka_writer::Writer,
    redis_sink::ALERTS,
};

/// Anomalies of twenty messages.
const OF_TWENTY: usize = 7;
/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// When the events of a run begin: six hours ago.
fn begin() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap() - 6 * 3600 * SECOND
}

/// Messages of the run with poison: `SERVICES_MESSAGES`.
fn messages() -> u64 {
    std::env::var("SERVICES_MESSAGES").map_or(100_000, |text| text.parse().expect("SERVICES_MESSAGES is a number"))
}

/// A site: its topic, and the server and prefix of its alerts.
struct Site {
    brokers: String,
    topic: String,
    service: &'static str,
    redis: String,
    prefix: String,
}

impl Site {
    /// With a topic of its own; nothing if a server is not there.
    fn new(name: &str, partitions: u32, service: &'static str) -> Option<Self> {
        let (brokers, redis) = (given("KAFKA_BROKERS")?, given(if service == "redis" { "REDIS_URL" } else { "REDIS_ALERTS_URL" })?);
        let topic = format!("apt-{name}-{}", std::process::id());
        make_topic("kafka", &topic, partitions, &[]);
        Some(Self { brokers, topic, service, redis, prefix: format!("apt:{name}:{}:", std::process::id()) })
    }

    /// An agent that detects.
    ///
    /// - `more`: settings of the stage, and further tables.
    fn house(&self, more: &str) -> House {
        self.house_of(&self.group(), more)
    }

    fn group(&self) -> String {
        format!("g-{}", self.topic)
    }

    /// The same in another group.
    fn house_of(&self, group: &str, more: &str) -> House {
        let Self { brokers, topic, redis, prefix, .. } = self;
        let password = given("REDIS_PASSWORD_FILE").unwrap();
        House::with(|_| {
            format!(
                r#"
[sources.events]
kind = "kafka"
brokers = [{brokers:?}]
topics = [{topic:?}]
group = {group:?}
commit_interval = "500ms"
session_timeout = "6s"
[handlers.apt]
kind = "apt"
inputs = ["events"]
[sinks.alerts]
kind = "redis"
inputs = ["apt", "detector"]
form = "alerts"
url = {redis:?}
username = "shipper"
password_file = {password:?}
prefix = {prefix:?}
max_alerts = 1000000
timeout = "1s"
backoff_max = "1s"
[stages.detector]
kind = "detector"
inputs = ["apt.event"]
{more}
"#
            )
        })
    }

    /// `shipper apt produce` into the topic.
    fn produce(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shipper"));
        command.args(["apt", "produce", "--rate", "0", "--brokers", &self.brokers, "--topic", &self.topic]).args(args).output().unwrap()
    }

    #[track_caller]
    fn produced(&self, args: &[&str]) {
        let done = self.produce(args);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn tool(&self, args: &[&str]) -> String {
        services(&[&["tool", self.service][..], args].concat())
    }

    fn count(&self) -> usize {
        self.tool(&["llen", &format!("{}alerts", self.prefix)]).trim().parse().unwrap()
    }

    /// The alerts that are stored: as many as there are ids.
    #[track_caller]
    fn alerts(&self) -> Vec<Value> {
        let lines = self.tool(&["lrange", &format!("{}alerts", self.prefix), "0", "-1"]);
        let alerts: Vec<Value> = lines.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect();
        let ids: BTreeSet<&str> = alerts.iter().map(|alert| alert["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), alerts.len(), "no alert is there twice");
        let keys = self.tool(&["--scan", "--pattern", &format!("{}alert:*", self.prefix)]);
        assert_eq!(keys.lines().count(), alerts.len(), "each is found by its id");
        alerts
    }

    /// Waits until the group has committed so many records.
    #[track_caller]
    fn until_committed(&self, count: u64) {
        self.until_committed_by(&self.group(), count);
    }

    #[track_caller]
    fn until_committed_by(&self, group: &str, count: u64) {
        let all = || committed_by(group, &self.topic).values().sum::<u64>();
        wait(&format!("{count} records are committed"), || all() == count, || all().to_string());
    }
}

/// Where the event of a stateless alert lies.
fn place(alert: &Value) -> (i64, i64) {
    (alert["source"]["partition"].as_i64().unwrap(), alert["source"]["offset"].as_i64().unwrap())
}

fn is_stateless(alert: &Value) -> bool {
    alert["detection_type"] == "feature_high"
}

#[test]
fn twenty_messages_are_seven_alerts_and_none_without_anomalies() {
    let (Some(site), Some(calm)) = (Site::new("twenty", 3, "redis"), Site::new("calm", 1, "redis")) else { return };
    let houses = [site.house(""), calm.house("")];
    let [agent, still] = houses.each_ref().map(House::start);
    site.produced(&["--num", "20"]);
    calm.produced(&["--num", "20", "--no-anomalies"]);
    wait("seven alerts are stored", || site.count() == OF_TWENTY, || format!("{}; {}", site.count(), agent.said()));
    site.until_committed(20);
    calm.until_committed(20);
    agent.stop();
    still.stop();
    let alerts = site.alerts();
    assert_eq!((alerts.len(), calm.alerts().len()), (OF_TWENTY, 0));
    for alert in &alerts {
        assert_eq!((&alert["detection_type"], &alert["severity"], &alert["schema"]), (&"feature_high".into(), &"Medium".into(), &1.into()));
        assert_eq!((&alert["source"]["type"], &alert["source"]["topic"]), (&"kafka".into(), &site.topic.clone().into()));
        let high = alert["features"].as_object().unwrap().values().filter(|x| x.as_f64().unwrap() > 0.8).count();
        assert!((2..=3).contains(&high), "{alert}");
    }
}

#[test]
fn killed_at_any_point_and_started_again_they_are_seven_and_not_eight() {
    let Some(site) = Site::new("killed", 2, "redis") else { return };
    let house = site.house("");
    site.produced(&["--num", "20"]);
    let began = Instant::now();
    // Before it is in the group, then one alert after another is stored, then all of them and nothing is committed yet.
    for least in [0, 1, 3, 5, OF_TWENTY, OF_TWENTY] {
        let agent = house.start();
        match least {
            0 => std::thread::sleep(Duration::from_millis(200)),
            least => {
                wait(&format!("{least} alerts are stored"), || site.count() >= least, || format!("{}; {}", site.count(), agent.said()))
            }
        }
        agent.kill();
        assert!(site.alerts().len() <= OF_TWENTY);
    }
    let agent = house.start();
    site.until_committed(20);
    agent.stop();
    assert_eq!(site.alerts().len(), OF_TWENTY);
    // Another agent and another group know nothing of it: all is read again, and stored already.
    let other = site.house_of("g-again", "");
    let agent = other.start();
    site.until_committed_by("g-again", 20);
    agent.stop();
    assert_eq!(site.alerts().len(), OF_TWENTY);
    told("six kills, and all of it read again by a second group: seven alerts", began);
}

/// A record that is no event: in turns by every reason.
fn poison(n: u64) -> Vec<u8> {
    match n % 5 {
        0 => b"\xff\xfe{\"entity\":\"host1\"}".to_vec(),
        1 => b"{\"entity\":\"host1\",\"cpu_usage_mean\":NaN}".to_vec(),
        2 => b"[1,2,3]".to_vec(),
        3 => b"{\"entity\":\"host1\"".to_vec(),
        _ => [b"{\"a\":".repeat(100), b"1".to_vec(), b"}".repeat(100)].concat(),
    }
}

#[test]
fn one_record_of_a_hundred_is_poison_and_all_others_are_handled() {
    let Some(site) = Site::new("poison", 3, "redis") else { return };
    let house = site.house("[sinks.events]\nkind = \"file\"\ninputs = [\"apt.event\"]\npath = \"EVENTS\"\n");
    let events = house.dir.path().join("events.jsonl");
    let house = house.again(|graph| graph.replace("EVENTS", &events.display().to_string()));
    let (count, began, begin) = (messages(), Instant::now(), begin());
    let mut features = Features::new(1, true);
    let mut writer = Writer::open(&connection(&site.brokers), &site.topic);
    let agent = house.start();
    let mut high = 0;
    writer.send((0..count).map(|n| {
        let made = features.message(begin + n * SECOND / 10);
        let is_poison = n % 100 == 50;
        high += usize::from(!is_poison && n % 3 == 0);
        (Some(made.entity.as_bytes().to_vec()), if is_poison { poison(n / 100) } else { made.json })
    }));
    site.until_committed(count);
    agent.stop();
    let handled = std::fs::read_to_string(&events).unwrap().lines().count() as u64;
    let letters = house.dead_letters();
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    letters.iter().for_each(|(header, _)| *reasons.entry(header.reason.clone()).or_default() += 1);
    assert_eq!((letters.len() as u64, handled), (count / 100, count - count / 100), "{reasons:?}");
    let reason = |name: &str| reasons.get(name).copied().unwrap_or(0);
    let fifth = count / 500;
    assert_eq!(["not_utf8", "not_json", "not_object", "too_deep"].map(reason), [fifth, 2 * fifth, fifth, fifth], "{reasons:?}");
    let alerts = site.alerts();
    let stateless = alerts.iter().filter(|alert| is_stateless(alert)).count();
    assert_eq!(stateless, high);
    told(&format!("{count} records, {} dead letters, {handled} handled, {stateless} alerts of events", letters.len()), began);
}

#[test]
fn redis_is_down_under_load_and_every_alert_is_stored_once() {
    let Some(site) = Site::new("outage", 3, "redis-alerts") else { return };
    let _alone = ALERTS.lock().unwrap_or_else(PoisonError::into_inner);
    let (house, began, begin) = (site.house(""), Instant::now(), begin());
    let agent = house.start();
    let mut features = Features::new(3, true);
    let mut writer = Writer::open(&connection(&site.brokers), &site.topic);
    let mut sent = 0;
    // A thousand a second, half a second at a time.
    let mut load = |span: Duration| {
        let end = Instant::now() + span;
        while Instant::now() < end {
            let part = Instant::now();
            writer.send((0..500).map(|_| {
                let made = features.message(begin + sent * SECOND / 100);
                sent += 1;
                (Some(made.entity.as_bytes().to_vec()), made.json)
            }));
            std::thread::sleep(Duration::from_millis(500).saturating_sub(part.elapsed()));
        }
        sent
    };
    load(Duration::from_secs(3));
    wait("alerts are stored", || site.count() > 100, || agent.said());
    // What it had acknowledged is on its disk when it ends.
    let _ = std::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tools/services"))
        .args(["tool", site.service, "shutdown", "save"])
        .output()
        .unwrap();
    load(outage());
    agent.says(&["sinks.alerts", "retrying"]);
    services(&["start", site.service]);
    let count = load(Duration::from_secs(3));
    site.until_committed(count);
    // Then silent for a moment, with connections that stay open.
    services(&["pause", site.service]);
    load(Duration::from_secs(3));
    services(&["resume", site.service]);
    let count = load(Duration::from_secs(1));
    site.until_committed(count);
    agent.stop();
    let alerts = site.alerts();
    let stateless: BTreeSet<_> = alerts.iter().filter(|alert| is_stateless(alert)).map(place).collect();
    assert_eq!(stateless.len() as u64, count.div_ceil(3), "one for every third of {count}");
    assert_eq!(house.dead_letters(), []);
    told(&format!("{count} messages, Redis down for {:?} and silent for 3 s, {} alerts", outage(), alerts.len()), began);
}

#[test]
fn three_consumers_come_and_go_and_no_alert_is_stored_twice() {
    let Some(site) = Site::new("shared", 6, "redis") else { return };
    let (began, begin) = (Instant::now(), begin());
    // Nearly every window is an alert.
    let often = "window = \"1m\"\nallowed_lateness = \"5s\"\nthreshold = \"0.5\"\nalert_budget_per_day = 0\n";
    let houses: Vec<House> = (0..3).map(|_| site.house(often)).collect();
    let mut features = Features::new(5, true);
    let mut writer = Writer::open(&connection(&site.brokers), &site.topic);
    let mut sent = 0;
    let mut write = |count: u64| {
        writer.send((0..count).map(|_| {
            let made = features.message(begin + sent * SECOND);
            sent += 1;
            (Some(made.entity.as_bytes().to_vec()), made.json)
        }));
        sent
    };
    let mut agents = vec![Some(houses[0].start()), None, None];
    let steps: [(usize, &str); 6] = [(1, "start"), (2, "start"), (0, "stop"), (1, "kill"), (0, "start"), (1, "start")];
    for (who, what) in steps {
        write(3000);
        std::thread::sleep(Duration::from_secs(2));
        match what {
            "start" => agents[who] = Some(houses[who].start()),
            "stop" => agents[who].take().unwrap().stop(),
            _ => agents[who].take().unwrap().kill(),
        }
    }
    let count = write(2000);
    site.until_committed(count);
    agents.into_iter().flatten().for_each(|agent| agent.stop());
    let alerts = site.alerts();
    let (stateless, windows): (Vec<_>, Vec<_>) = alerts.iter().partition(|alert| is_stateless(alert));
    let places: BTreeSet<_> = stateless.iter().map(|alert| place(alert)).collect();
    assert_eq!((stateless.len() as u64, places.len() as u64), (count.div_ceil(3), count.div_ceil(3)));
    let windows: Vec<_> = windows.into_iter().filter(|alert| alert["detection_type"] == "behavioral_analytics").collect();
    let distinct: BTreeSet<String> = windows.iter().map(|alert| format!("{} {}", alert["entity"], alert["window"]["start"])).collect();
    assert_eq!(distinct.len(), windows.len(), "one alert for an entity and a window");
    assert!(windows.len() > 100, "{} of windows", windows.len());
    for house in &houses {
        assert_eq!(house.dead_letters(), []);
    }
    told(&format!("{count} messages over 6 partitions, {} alerts of events, {} of windows", stateless.len(), windows.len()), began);
}

#[test]
fn a_topic_that_is_not_there_fails_and_is_named() {
    let Some(brokers) = given("KAFKA_BROKERS") else { return };
    let site = Site { brokers, topic: "apt-nowhere".into(), service: "redis", redis: String::new(), prefix: String::new() };
    let done = site.produce(&["--num", "3"]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(74), "{said}");
    assert!(said.contains("0 acknowledged, 3 not") && said.contains("topic \"apt-nowhere\": the topic does not exist"), "{said}");
}

#[test]
fn a_simulated_site_goes_through_a_stream_of_redis_by_the_login_of_the_config() {
    let Some(url) = given("REDIS_URL") else { return };
    let password = given("REDIS_PASSWORD_FILE").unwrap();
    let (key, run) = (format!("apt:events:{}", std::process::id()), std::process::id());
    let house = House::with(|dir| {
        format!(
            r#"
[sources.events]
kind = "redis_stream"
url = {url:?}
username = "shipper"
password_file = {password:?}
streams = [{key:?}]
group = "apt"
block = "200ms"
[handlers.apt]
kind = "apt"
inputs = ["events"]
[sinks.alerts]
kind = "file"
inputs = ["apt"]
path = "{0}/alerts.jsonl"
[sinks.all]
kind = "file"
inputs = ["apt.event"]
path = "{0}/events.jsonl"
"#,
            dir.display()
        )
    });
    let agent = house.start();
    let (args, config) = (["--speed", "0", "--duration", "2h", "--rate", "30"], house.config());
    let simulate = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shipper"));
        command.args(["apt", "simulate", "--output", "redis"]).args(args).args(more).output().unwrap()
    };
    let done = simulate(&["--config", &config.display().to_string()]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success() && said.contains("all acknowledged") && !said.contains("shipper-secret"), "{said}");
    let count: usize = services(&["tool", "redis", "xlen", &key]).trim().parse().unwrap();
    assert!(count > 3600 && said.contains(&format!("{count} events")), "{count}: {said}");
    let lines = |name: &str| std::fs::read_to_string(house.dir.path().join(name)).unwrap_or_default().lines().count();
    wait("every event is read", || lines("events.jsonl") == count, || format!("{} of {count}; {}", lines("events.jsonl"), agent.said()));
    assert!(lines("alerts.jsonl") > 100, "{}", lines("alerts.jsonl"));
    agent.stop();
    assert_eq!(house.dead_letters(), []);
    // Without the login that the config names it is refused, and nothing is written.
    let done = simulate(&["--url", &url, "--key", &format!("apt:refused:{run}")]);
    assert_eq!(done.status.code(), Some(74), "{}", String::from_utf8_lossy(&done.stderr));
}
