//! The whole agent as a process, from a firewall's log over handler `waf` to a real InfluxDB and a real Redis: each event is
//! one point of each measurement, though its clock knows whole seconds only, and each alert is on the list once.

use std::{collections::BTreeSet, time::Instant};

use serde_json::Value;
use shipper::synth::firewall::{Events, Form};

use crate::{
    agent::{House, wait},
    broker::{given, services},
    driven::told,
};

const EVENTS: u64 = 10_000;
/// From which severity on an event is an alert, by default.
const ALERT_AT: u32 = 80;

fn points(measurement: &str) -> u64 {
    let answer: Value =
        serde_json::from_str(&services(&["tool", "influx16", "short", &format!("SELECT count(anomaly_score) FROM {measurement}")]))
            .unwrap();
    answer["results"][0]["series"][0]["values"][0][1].as_u64().unwrap_or(0)
}

#[test]
fn every_event_is_a_point_and_every_alert_is_on_the_list_once_over_kills_of_the_agent() {
    let (Some(influx), Some(redis)) = (given("INFLUX16_URL"), given("REDIS_URL")) else { return };
    let (login, password) = (given("INFLUX16_PASSWORD_FILE").unwrap(), given("REDIS_PASSWORD_FILE").unwrap());
    let key = format!("waf:firewall:{}", std::process::id());
    for measurement in ["waf_events", "waf_requests"] {
        services(&["tool", "influx16", "short", &format!("DROP MEASUREMENT {measurement}")]);
    }
    let house = House::with(|_| {
        format!(
            r#"
[handlers.waf]
kind = "waf"
inputs = ["alerts"]
layout = "upstream"
[sinks.points]
kind = "influx"
inputs = ["waf"]
url = {influx:?}
bucket = "short"
username = "shipper"
password_file = {login:?}
batch = 200
linger = "50ms"
[sinks.alerts]
kind = "redis"
inputs = ["waf.alert"]
url = {redis:?}
username = "shipper"
password_file = {password:?}
list = {key:?}
list_max = 1000000
"#
        )
    });
    // Five hundred a second, until now; their database keeps an hour.
    let now = u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap();
    let mut events = Events::new(Form::ModSecurity, 50);
    let mut text = Vec::new();
    (0..EVENTS).for_each(|n| events.event(&mut text, now - (EVENTS - n) * 2_000_000));
    let text = String::from_utf8(text).unwrap();
    let (first, last) = text.split_at(text.match_indices('\n').nth(EVENTS as usize / 2).unwrap().0 + 1);
    house.append(first);

    let began = Instant::now();
    for least in [500, 3000] {
        let agent = house.start();
        wait(
            &format!("there are {least} points"),
            || points("waf_events") >= least,
            || format!("{}; {}", points("waf_events"), agent.said()),
        );
        agent.kill();
    }
    let agent = house.start();
    house.append(last);
    house.until_saved();
    agent.stop();
    assert_eq!([points("waf_events"), points("waf_requests")], [EVENTS, EVENTS]);
    assert_eq!(house.dead_letters(), []);
    let listed = services(&["tool", "redis", "lrange", &key, "0", "-1"]);
    let ids: Vec<String> =
        listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["tx_id"].as_str().unwrap().to_owned()).collect();
    let expected = (0..EVENTS).filter(|n| Events::expected(*n).severity >= ALERT_AT).count();
    assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (expected, expected), "alerts, and alerts that differ");
    told(&format!("{EVENTS} events, {expected} alerts, over two kills"), began);
}
