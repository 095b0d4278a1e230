//! Sigma: every event sets off the rules that it must, through the command that an operator has for it.
//!
//! The small set in tests/data/sigma is ours. Real rules and events are read from `SHIPPER_CORPUS` (default `../shared/corpus`);
//! where they are absent the test says so.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

const OURS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/sigma");

/// What `try` says of these events, one answer each.
fn tried(rules: &Path, settings: &str, events: &[String]) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("shipper.toml");
    let text = format!(
        "[sources.in]\nkind = \"stdin\"\n[tables.rules]\nkind = \"sigma\"\npath = {rules:?}\n\
         [handlers.sigma]\nkind = \"sigma\"\ninputs = [\"in\"]\nrules = \"rules\"\n{settings}\
         [sinks.alerts]\nkind = \"stdout\"\ninputs = [\"sigma\"]\n"
    );
    fs::write(&config, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_shipper"))
        .args(["try", "--explain", "--received", "1796029300000000000", "--config"])
        .arg(&config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let lines = events.join("\n") + "\n";
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{output:?}");
    let answers: Vec<Value> = String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), events.len());
    answers
}

/// The values of the messages on an output.
fn values(answer: &Value, output: &str) -> Vec<Value> {
    let of = |message: &&Value| message["output"] == output;
    let messages = answer["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    messages.iter().filter(of).map(|message| serde_json::from_str(message["value"].as_str().unwrap()).unwrap()).collect()
}

/// The rules whose alerts came.
fn rules_of(answer: &Value) -> BTreeSet<String> {
    values(answer, "sigma").iter().map(|alert| alert["details"]["rule_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_of_our_events_sets_off_exactly_its_rules() {
    let text = fs::read_to_string(Path::new(OURS).join("events.jsonl")).unwrap();
    let cases: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<String> = cases.iter().map(|case| case["event"].to_string()).collect();
    let settings = "category = \"webserver\"\n";
    for (answer, case) in tried(&Path::new(OURS).join("rules"), settings, &events).iter().zip(&cases) {
        let wanted: BTreeSet<String> = case["rules"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect();
        assert_eq!(rules_of(answer), wanted, "{}\n{answer}", case["event"]);
        let marks = values(answer, "sigma.event");
        assert_eq!(marks.len(), usize::from(!wanted.is_empty()), "{answer}");
        assert!(marks.iter().all(|mark| mark["counts"] == false && mark["source"] == "sigma"), "{answer}");
        assert_eq!(answer["fate"] == "emitted", !wanted.is_empty(), "{answer}");
        assert_eq!(answer["facts"]["sigma"]["rules"].as_array().map_or(0, Vec::len), wanted.len(), "{answer}");
    }
}

#[test]
fn an_alert_says_who_when_which_rule_and_which_techniques() {
    let text = fs::read_to_string(Path::new(OURS).join("events.jsonl")).unwrap();
    let event = serde_json::from_str::<Value>(text.lines().next().unwrap()).unwrap()["event"].to_string();
    let answers = tried(&Path::new(OURS).join("rules"), "", &[event.clone(), event.clone()]);
    let alert = &values(&answers[0], "sigma")[0];
    for (member, value) in [
        ("detection_type", "sigma"),
        ("entity", "pc-1.example.org"),
        ("entity_type", "host"),
        ("event_type", "process"),
        ("severity", "High"),
        ("timestamp", "2026-11-30T09:00:00.125Z"),
        ("message", "PowerShell with an encoded command"),
    ] {
        assert_eq!(alert[member], value, "{alert}");
    }
    assert_eq!(alert["prediction_score"], 0.8);
    let techniques: Vec<&str> = alert["mitre_attack"]["techniques"].as_array().unwrap().iter().map(|t| t["id"].as_str().unwrap()).collect();
    assert_eq!(techniques, ["T1027", "T1059.001"]);
    assert_ne!(alert["id"], values(&answers[1], "sigma")[0]["id"], "another record is another alert");
    let mark = &values(&answers[0], "sigma.event")[0];
    assert_eq!((&mark["sigma"], &mark["entity"]), (&Value::from("High"), &Value::from("pc-1.example.org")));
    let high = tried(&Path::new(OURS).join("rules"), "level = \"critical\"\n", &[event]);
    assert_eq!((values(&high[0], "sigma").len(), values(&high[0], "sigma.event").len()), (0, 1), "below the level a mark is left");
}

#[test]
fn what_is_no_event_is_told() {
    let lines = ["[1]", "{\"a\":", "{\"a\":1}", "{\"Event\":{\"System\":{\"Channel\":\"Some/Other\",\"EventID\":1}}}"].map(str::to_owned);
    let answers = tried(&Path::new(OURS).join("rules"), "", &lines);
    let fates: Vec<(&str, &str)> =
        answers.iter().map(|answer| (answer["fate"].as_str().unwrap(), answer["reason"].as_str().unwrap_or_default())).collect();
    assert_eq!(fates, [("rejected", "not_object"), ("rejected", "not_json"), ("dropped", ""), ("dropped", "")]);
}

#[test]
fn check_names_a_broken_rule_and_the_rules_that_count_over_time() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules");
    fs::create_dir(&rules).unwrap();
    for (from, to) in [("broken.yml", "broken.yml"), ("rules/windows/run_key.yml", "run_key.yml"), ("rules/other/burst.yml", "burst.yml")] {
        fs::copy(Path::new(OURS).join(from), rules.join(to)).unwrap();
    }
    let config = dir.path().join("shipper.toml");
    let text = format!(
        "[sources.in]\nkind = \"stdin\"\n[tables.rules]\nkind = \"sigma\"\npath = {rules:?}\n[handlers.sigma]\nkind = \"sigma\"\n\
         inputs = [\"in\"]\nrules = \"rules\"\n[sinks.alerts]\nkind = \"blackhole\"\ninputs = [\"sigma\"]\n"
    );
    fs::write(&config, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_shipper")).args(["check", "--offline", "--config"]).arg(&config).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("the Sigma rule broken.yml"), "{said}");
    assert!(said.contains("1 Sigma rules for 1 log sources, 1 left out, and 1 correlation rules, which are not evaluated"), "{said}");
}

#[test]
fn every_event_of_the_corpus_sets_off_its_rule() {
    let folder = std::env::var_os("SHIPPER_CORPUS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus")), PathBuf::from)
        .join("apt");
    let (Ok(events), Ok(rules)) = (fs::read_to_string(folder.join("sigma_events.jsonl")), fs::read(folder.join("sigma_rules.yml.gz")))
    else {
        println!("skipped: no corpus of Sigma rules in {}", folder.display());
        return;
    };
    let mut text = String::new();
    flate2::read::GzDecoder::new(&rules[..]).read_to_string(&mut text).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rules.yml");
    fs::write(&path, text).unwrap();
    let cases: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let records: Vec<String> = cases.iter().map(|case| case["event"].to_string()).collect();
    let answers = tried(&path, "", &records);
    let missed: Vec<String> = answers
        .iter()
        .zip(&cases)
        .filter(|(answer, case)| !rules_of(answer).contains(case["rule"].as_str().unwrap()))
        .map(|(answer, case)| format!("{} ({}): {}", case["title"], case["rule_path"], answer["facts"]))
        .collect();
    println!("{} of {} events set off their rule", cases.len() - missed.len(), cases.len());
    assert!(missed.is_empty(), "{} of {} missed:\n{}", missed.len(), cases.len(), missed.join("\n"));
}
