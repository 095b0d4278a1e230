//! What stands around the handler of firewall events, in a running agent and on the command line.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use shipper::{
    io::Engine,
    register::Node,
    topology::{Host, Plan, config::Config},
};

use crate::agent::{Started, start, until};

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(bench.path("state")).unwrap();
        bench
    }
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    fn write(&self, name: &str, text: &str) {
        // In place of the file, as those do who replace files that are read.
        fs::write(self.path("new"), text).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }
    fn append(&self, text: &str) {
        let mut file = fs::File::options().create(true).append(true).open(self.path("audit.json")).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }
    fn start(&self, between: &str, sinks: &[(&str, &str)]) -> Started {
        start(&self.config(between, sinks), &self.path("state"), Engine::Pread)
    }
    fn config(&self, between: &str, sinks: &[(&str, &str)]) -> String {
        let mut text = format!(
            "[state]\ndir = {:?}\n[sources.audit]\nkind = 'file'\npath = {:?}\nstart_at = 'beginning'\nframing = 'json'\n{between}",
            self.path("state"),
            self.path("audit.json")
        );
        for (sink, input) in sinks {
            text += &format!("[sinks.{sink}]\nkind = 'file'\ninputs = ['{input}']\npath = {:?}\n", self.path(sink));
        }
        text
    }
    fn lines(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        // A write in the making may be seen in part.
        text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// An event of ModSecurity 3 with one rule that makes it critical by its stated score.
fn event(id: &str, client: &str, uri: &str, rule: &str) -> Value {
    json!({"transaction": {
        "client_ip": client, "time_stamp": "Tue May 10 04:52:04 2022", "unique_id": format!("165215832450.{id}"),
        "request": {"method": "GET", "uri": uri, "headers": {"Host": "shop.example"}}, "response": {"http_code": 403},
        "messages": [
            {"message": "An attack", "details": {"ruleId": rule, "severity": "2", "match": "Matched \"Operator `Rx' with parameter `x' against variable `ARGS:q' (Value: `1' )"}},
            {"message": "Inbound Anomaly Score Exceeded (Total Score: 90)", "details": {"ruleId": "949110", "severity": "0"}},
        ],
    }})
}

const HANDLER: &str = "[handlers.waf]\nkind = 'waf'\ninputs = ['audit']\nalert_fields = 'full'\nhost_from = 'name'\n";

#[test]
fn pretty_and_glued_events_become_one_alert_and_a_summary_and_a_restart_repeats_none() {
    let bench = Bench::new();
    let between = format!("{HANDLER}[stages.calm]\nkind = 'storm'\ninputs = ['waf.alert']\nwindow = '2s'\n");
    let sinks = [("alerts", "calm"), ("raw", "waf.alert")];
    let pretty = |id: &str| serde_json::to_string_pretty(&event(id, "203.0.113.9", &format!("/{id}?q=1"), "942100")).unwrap();
    let started = bench.start(&between, &sinks);
    // Over lines, glued, and cut in the middle with a whole one behind it.
    let cut = &pretty("000004")[..200];
    bench.append(&format!("{}\n{}{}\n", pretty("000001"), event("000002", "203.0.113.9", "/2", "942100"), pretty("000003")));
    bench.append(&format!("{cut}\n{}\n", event("000005", "203.0.113.9", "/5", "942110")));
    until("four alerts", || bench.lines("raw").len() == 4);
    let ids = |name: &str| -> Vec<String> {
        bench.lines(name).iter().map(|alert| alert["tx_id"].as_str().unwrap().split_once('.').unwrap().1.to_owned()).collect()
    };
    assert_eq!(ids("raw"), ["000001", "000002", "000003", "000005"]);
    until("the first and the summary", || bench.lines("alerts").len() == 2);
    assert_eq!(ids("alerts"), ["000001", "000002"]);
    let lines = bench.lines("alerts");
    assert_eq!(lines[0].get("count"), None);
    assert_eq!((&lines[1]["count"], &lines[1]["paths"], lines[1]["tx_ids"].as_array().unwrap().len()), (&json!(3), &json!(3), 3));
    let letters = started.metrics.branch("audit", "waf").dead_letter.each();
    assert_eq!(letters.iter().map(|(reason, _)| *reason).collect::<Vec<_>>(), ["cut"], "{letters:?}");
    assert!(started.agent.drain());
    // Of the same group after a restart: counted, not repeated.
    bench.append(&pretty("000006"));
    let started = bench.start(&between, &sinks);
    until("another summary", || bench.lines("alerts").len() == 3);
    assert_eq!((&bench.lines("alerts")[2]["count"], &ids("raw")[4..]), (&json!(1), &["000006".to_owned()][..]));
    assert_eq!(started.metrics.branch("audit", "waf").imbalance(), 0);
    assert!(started.agent.drain());
}

#[test]
fn both_entries_of_a_redirected_request_are_one_and_their_latency_is_told() {
    let bench = Bench::new();
    let between = format!(
        "{HANDLER}key = 'request'\nupstream_names = true\n[stages.once]\nkind = 'dedup'\ninputs = ['waf']\nby = 'key'\nwindow = '2s'\n\
         [stages.once_alert]\nkind = 'dedup'\ninputs = ['waf.alert']\nby = 'key'\nwindow = '2s'\n"
    );
    let started = bench.start(&between, &[("points", "once"), ("alerts", "once_alert")]);
    let entry = |id: &str, port: u16| {
        let mut event = event(id, "203.0.113.9", "/a", "942100");
        event["transaction"]["client_port"] = json!(port);
        format!("{event}\n")
    };
    bench.append(&(entry("000001", 4711) + &entry("000002", 4711) + &entry("000003", 4712)));
    let points = || fs::read_to_string(bench.path("points")).unwrap_or_default().lines().count();
    until("two requests", || points() == 2 && bench.lines("alerts").len() == 2);
    let ids: Vec<Value> = bench.lines("alerts").iter().map(|alert| alert["tx_id"].clone()).collect();
    assert_eq!(ids, ["165215832450.000001", "165215832450.000003"]);
    let counts = started.metrics.branch("audit", "waf");
    until("all is acked", || counts.in_flight.get() == 0);
    assert_eq!((counts.imbalance(), counts.dropped.each().first().map(|(reason, _)| *reason)), (0, Some("duplicate")));
    let text = started.metrics.text();
    for line in [
        "shipper_stage_dropped_messages_total{source=\"audit\",stage=\"once\",reason=\"duplicate\"} 1",
        // Of 2022, so beyond all buckets.
        "shipper_waf_latency_seconds_bucket{le=\"86400.0\",source=\"audit\",branch=\"waf\"} 0",
        "shipper_waf_latency_seconds_count{source=\"audit\",branch=\"waf\"} 2",
        "waf_events_processed_total{source=\"audit\",branch=\"waf\",severity=\"critical\",rule_category=\"sqli\"} 3",
        "waf_processing_latency_seconds_count{source=\"audit\",branch=\"waf\",processor_id=\"mgr-1\"} 2",
        "waf_severity_scores_bucket{le=\"+Inf\",source=\"audit\",branch=\"waf\"} 3",
    ] {
        assert!(text.lines().any(|told| told == line), "{line}\n{text}");
    }
    assert!(text.contains(
        "waf_alerts_generated_total{source=\"audit\",branch=\"waf\",alert_type=\"CRITICAL_SECURITY_EVENT\",severity=\"critical\"} 3"
    ));
    assert!(started.agent.drain());
}

#[test]
fn lists_and_suppressions_are_taken_anew_without_a_restart_and_rates_count_every_event() {
    let bench = Bench::new();
    bench.write("bots.netset", "# none yet\n198.51.100.0/24\n");
    bench.write("known.toml", "");
    let between = format!(
        "[tables.bad]\nkind = 'reputation'\nfiles = [{:?}]\n[tables.known]\nkind = 'suppressions'\npath = {:?}\n\
         {HANDLER}reputation = 'bad'\nsuppressions = 'known'\n[stages.often]\nkind = 'rates'\ninputs = ['waf.event']\nrequests = {{ above = 3 }}\nerrors = {{ above = 0 }}\nblocked = {{ above = 0 }}\n",
        bench.path("bots.netset"),
        bench.path("known.toml")
    );
    let started = bench.start(&between, &[("alerts", "waf.alert"), ("events", "waf.event"), ("rates", "often")]);
    let send = |id: &str| bench.append(&format!("{}\n", event(id, "203.0.113.9", "/search?q=1", "942100")));
    send("000001");
    until("an alert", || bench.lines("alerts").len() == 1);
    assert_eq!(bench.lines("alerts")[0].get("reputation"), None);
    bench.write("bots.netset", "198.51.100.0/24\n203.0.113.9\n");
    let mut n = 1;
    until("the list is known", || {
        n += 1;
        send(&format!("{n:06}"));
        std::thread::sleep(std::time::Duration::from_millis(200));
        bench.lines("alerts").last().is_some_and(|alert| alert["reputation"] == "bots")
    });
    until("all are through", || bench.lines("events").len() == n);
    bench.write("known.toml", "[[suppress]]\nrules = 942100\nhost = 'shop.example'\nuntil = 2099-01-01\nreason = 'search'\n");
    let component = |name: &str| started.board.standings().into_iter().find(|(known, _)| known == name).map(|(_, state)| state.word());
    let counts = started.metrics.branch("audit", "waf");
    let mut suppressed = 0;
    until("an alert is held back", || {
        n += 1;
        send(&format!("{n:06}"));
        // Both sinks have what they get of it: the file of alerts may be behind that of events.
        until("it is through", || bench.lines("events").len() == n && counts.in_flight.get() == 0);
        suppressed = n - bench.lines("alerts").len();
        suppressed > 0
    });
    assert_eq!(suppressed, 1, "the others went out");
    until("it is in the figures", || {
        started.metrics.text().contains("shipper_suppressed_alerts_total{component=\"tables.known\",reason=\"search\"} 1")
    });
    // A list that shrinks to nothing stays as it was, and says so.
    bench.write("bots.netset", "");
    until("it is told", || component("tables.bad") == Some("retrying"));
    bench.write("known.toml", "");
    until("a bad address again", || {
        n += 1;
        send(&format!("{n:06}"));
        until("it is through", || bench.lines("events").len() == n);
        bench.lines("alerts").last().is_some_and(|alert| alert["tx_id"].as_str().unwrap().ends_with(&format!("{n:06}")))
    });
    assert_eq!(bench.lines("alerts").last().unwrap()["reputation"], "bots");
    // All events have one time stamp, so their rate is told once.
    let rates = bench.lines("rates");
    assert_eq!(
        (rates.len(), &rates[0]["attack_type"], &rates[0]["client_ip"], &rates[0]["value"]),
        (1, &json!("request_rate"), &json!("203.0.113.9"), &json!(4))
    );
    let first = &bench.lines("events")[0];
    assert_eq!(
        (&first["rules"], &first["response_code"], &first["method"], &first["host"]),
        (&json!([942_100]), &json!(403), &json!("GET"), &json!("shop.example"))
    );
    assert!(started.agent.drain());
}

#[test]
fn a_stage_that_is_fed_with_records_that_lack_its_members_is_told_before_the_start() {
    let bench = Bench::new();
    let errors = |between: &str, sinks: &[(&str, &str)]| -> String {
        let text = bench.config(between, sinks);
        let host = Host { name: "h".into(), embedded: None };
        let config = Config::read(Node::parse_toml(&text).unwrap(), std::iter::empty(), &[], &host);
        Plan::build(config).err().map(|errors| errors.to_string()).unwrap_or_default()
    };
    let storm = "[handlers.waf]\nkind = 'waf'\ninputs = ['audit']\n[stages.calm]\nkind = 'storm'\ninputs = ['waf.alert']\n";
    let said = errors(storm, &[("alerts", "calm")]);
    assert!(said.contains("stages.calm.members: records of \"waf.alert\" have no attack_type, host; "), "{said}");
    assert_eq!(errors(&storm.replace("[stages", "alert_fields = 'full'\n[stages"), &[("alerts", "calm")]), "");
    assert_eq!(errors(&storm.replace("kind = 'storm'", "kind = 'storm'\nmembers = 'client_ip'"), &[("alerts", "calm")]), "");
    let rates =
        "[handlers.waf]\nkind = 'waf'\ninputs = ['audit']\nalert_fields = 'full'\n[stages.often]\nkind = 'rates'\ninputs = ['waf.alert']\n";
    assert!(errors(rates, &[("alerts", "often")]).contains("have no rules"), "{}", errors(rates, &[("alerts", "often")]));
}

fn shipper(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_shipper"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads files closes its input at once.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn said(args: &[&str], input: &str) -> (String, String) {
    let output = shipper(args, input);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert_eq!(output.status.code(), Some(0), "{args:?}\n{out}\n{err}");
    (out, err)
}

/// A log with a false positive of many clients, an attack of one, and a client that writes what a terminal would obey.
fn log() -> String {
    let mut log = String::new();
    for n in 0..30 {
        let event = event(&format!("{n:06}"), &format!("203.0.113.{n}"), &format!("/search?q={n}"), "942100");
        log += &if n % 2 == 0 { serde_json::to_string_pretty(&event).unwrap() } else { event.to_string() };
        log += "\n";
    }
    for n in 30..40 {
        log += &format!("{}\n", event(&format!("{n:06}"), "198.51.100.1", "/login", "932100"));
    }
    let mut evil = event("000040", "198.51.100.1", "/\u{1b}[2J\"x", "941100");
    evil["transaction"]["messages"][0]["details"]["match"] = json!("against variable `ARGS_NAMES:a\" \"id:1,allow\u{7}' (Value: `1' )");
    let v2 = json!({
        "transaction": {"time": "10/May/2022:06:28:50.123456 +0000", "transaction_id": "a", "remote_address": "203.0.113.9", "local_address": "192.0.2.1"},
        "request": {"request_line": "GET /old?x HTTP/1.1", "headers": {"Host": "old.example"}}, "response": {"status": 200},
        "audit_data": {"messages": ["Warning. Pattern match \"a\" at ARGS:id. [file \"/r.conf\"] [id \"942190\"] [msg \"words\"] [severity \"CRITICAL\"]"]},
    });
    log + &format!("{evil}\n{v2}\nno event\n{{\"a\":1}}\n")
}

#[test]
fn the_most_frequent_hits_come_with_directives_to_paste_and_nothing_that_a_terminal_obeys() {
    let bench = Bench::new();
    bench.append(&log());
    let file = bench.path("audit.json");
    let (text, err) = said(&["waf", "top", file.to_str().unwrap()], "");
    insta::assert_snapshot!(text, @r#"
      events  blocked  clients  rule, host, path, variable
          30       30       30  942100  shop.example  /search  ARGS:q
                                An attack
                                SecRule REQUEST_FILENAME "@streq /search" "id:10000,phase:1,pass,nolog,ctl:ruleRemoveTargetById=942100;ARGS:q"
                                SecRuleUpdateTargetById 942100 "!ARGS:q"
          10       10        1  932100  shop.example  /login  ARGS:q
                                An attack
                                SecRule REQUEST_FILENAME "@streq /login" "id:10001,phase:1,pass,nolog,ctl:ruleRemoveTargetById=932100;ARGS:q"
                                SecRuleUpdateTargetById 932100 "!ARGS:q"
           1        1        1  941100  shop.example  /\u{1b}[2J"x  ARGS_NAMES:a" "id:1,allow\u{7}
                                An attack
                                # its name cannot be pasted safely; exclude it by hand
           1        0        1  942190  old.example  /old  ARGS:id
                                words
                                SecRule REQUEST_FILENAME "@streq /old" "id:10003,phase:1,pass,nolog,ctl:ruleRemoveTargetById=942190;ARGS:id"
                                SecRuleUpdateTargetById 942190 "!ARGS:id"
    "#);
    assert_eq!(err, "shipper: left out, since they are no events: 1 no_transaction, 1 not_json\n");
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
    let (same, _) = said(&["waf", "top"], &log());
    assert_eq!(same, text, "standard input");
    let (json, _) = said(&["waf", "top", "--json", "--limit", "1", "--first-id", "77"], &log());
    let row: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        row,
        json!({
            "events": 30, "blocked": 30, "clients": 30, "rule": "942100", "host": "shop.example", "path": "/search", "variable": "ARGS:q",
            "message": "An attack",
            "exclude_here": "SecRule REQUEST_FILENAME \"@streq /search\" \"id:77,phase:1,pass,nolog,ctl:ruleRemoveTargetById=942100;ARGS:q\"",
            "exclude_everywhere": "SecRuleUpdateTargetById 942100 \"!ARGS:q\"",
        })
    );
    assert_eq!(said(&["waf", "top", "--since", "7d"], &log()).0, "no rule hit anything\n");
    assert!(said(&["waf", "top", "--since", "2022-05-10"], &log()).0.contains("942100"));
    let wrong = shipper(&["waf", "top", "--since", "soon"], "");
    assert_eq!((wrong.status.code(), String::from_utf8(wrong.stderr).unwrap().contains("write a span such as 24h")), (Some(64), true));
    let missing = shipper(&["waf", "top", "/nowhere/audit.json"], "");
    assert_eq!(
        (missing.status.code(), String::from_utf8(missing.stderr).unwrap().contains("cannot open /nowhere/audit.json")),
        (Some(74), true)
    );
}

#[test]
fn a_week_is_told_host_by_host_with_what_is_new() {
    let (text, err) = said(&["waf", "report", "--until", "2022-05-11"], &log());
    insta::assert_snapshot!(text, @"
    2022-05-04 00:00 to 2022-05-11 00:00 (UTC)

    shop.example
      events     41 (0 the week before)
      blocked    100 %, 41 (0 % the week before)
      top rules  942100 (30), 932100 (10), 941100 (1)
      new rules  unknown: there is no event of the week before

    old.example
      events     1 (0 the week before)
      blocked    0 %, 0 (0 % the week before)
      top rules  942190 (1)
      new rules  unknown: there is no event of the week before
    ");
    assert!(err.contains("left out"), "{err}");
    let (text, _) = said(&["waf", "report", "--until", "2022-05-18"], &log());
    assert!(text.contains("events     0 (41 the week before)"), "{text}");
    let both = format!(
        "{}{}",
        log(),
        log()
            .replace("Tue May 10 04:52:04 2022", "Tue May 17 04:52:04 2022")
            .replace("165215832450", "165276312450")
            .replace("932100", "934100")
    );
    let (json, _) = said(&["waf", "report", "--until", "2022-05-18", "--json"], &both);
    let shop: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&shop["host"], &shop["events"], &shop["events_before"], &shop["blocked_percent"]),
        (&json!("shop.example"), &json!(41), &json!(41), &json!(100.0))
    );
    assert_eq!(shop["new_rules"], json!([{"rule": "934100", "events": 10}]));
}

#[test]
fn real_logs_of_every_engine_are_read_where_they_are_there() {
    let folder =
        std::env::var_os("SHIPPER_CORPUS").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"), PathBuf::from);
    let Ok(text) = fs::read_to_string(folder.join("waf_modsec_engine.jsonl")) else {
        println!("skipped: no corpus in {}", folder.display());
        return;
    };
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].clone()).collect();
    let log: String = events.iter().map(|event| format!("{event}\n")).collect();
    let (json, err) = said(&["waf", "top", "--json", "--limit", "100000"], &log);
    assert_eq!(err, "");
    let rows: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let named = rows.iter().filter(|row| row["variable"].is_string()).count();
    println!("{} events, {} rows, {named} with a variable", events.len(), rows.len());
    assert!(named * 10 > rows.len() * 9, "{named} of {}", rows.len());
}
