//! `shipper apt score` as a process: records in, alerts out.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

/// What the command says of these records.
fn score(args: &[&str], records: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_shipper"))
        .args(["apt", "score"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let records = records.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&records));
    let done = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    done
}

fn alerts(done: &Output) -> Vec<Value> {
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn made(args: &[&str]) -> Vec<u8> {
    let done = Command::new(env!("CARGO_BIN_EXE_shipper")).arg("apt").args(args).args(["--output", "stdout"]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

#[test]
fn of_twenty_messages_seven_are_alerts_or_none() {
    let done = score(&["-"], &made(&["produce", "--num", "20", "--rate", "0"]));
    let found = alerts(&done);
    assert_eq!(found.iter().filter(|alert| alert["detection_type"] == "feature_high").count(), 7);
    assert_eq!(found.len(), 7, "and no window of so few is one: {found:?}");
    assert!(String::from_utf8_lossy(&done.stderr).contains("20 records, 20 events, 7 alerts"), "{:?}", done.stderr);
    let calm = score(&[], &made(&["produce", "--num", "20", "--rate", "0", "--no-anomalies"]));
    assert_eq!(alerts(&calm), Vec::<Value>::new());
}

#[test]
fn what_is_refused_is_told_and_is_not_in_the_way() {
    let records = b"{\"entity\":\"a\",\"cpu_usage_mean\":0.9}\n[1]\n\n{\"a\":NaN}\n\xff\n{\"entity\":\"b\",\"disk_io_mean\":0.95}";
    let done = score(&["--single", "-"], records);
    let found = alerts(&done);
    assert_eq!(found.iter().map(|alert| alert["entity"].as_str().unwrap()).collect::<Vec<_>>(), ["a", "b"]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("6 records, 2 events, 2 alerts; refused: 1 not_json, 1 not_object, 1 not_utf8"), "{said}");
}

#[test]
fn the_settings_are_those_of_the_config_that_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("shipper.toml");
    let text = "[sources.in]\nkind = \"stdin\"\n[handlers.judge]\nkind = \"apt\"\ninputs = [\"in\"]\nwazuh_alert_level = 3\n[sinks.out]\nkind = \"stdout\"\ninputs = [\"judge\"]\n";
    std::fs::write(&config, text).unwrap();
    let record = br#"{"timestamp":"2025-03-01T10:00:00Z","rule":{"id":"5","level":3},"agent":{"name":"web1"}}"#;
    let config = config.display().to_string();
    assert_eq!(alerts(&score(&["--single", "-"], record)).len(), 0);
    let found = alerts(&score(&["--single", "--config", &config, "-"], record));
    assert_eq!((found.len(), &found[0]["severity"]), (1, &Value::from("Low")));
    std::fs::write(&config, text.replace("\"apt\"", "\"forward\"").replace("wazuh_alert_level = 3\n", "")).unwrap();
    let done = score(&["--config", &config, "-"], record);
    assert_eq!(done.status.code(), Some(78), "{}", String::from_utf8_lossy(&done.stderr));
}
