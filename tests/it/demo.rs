//! `shipper demo`: the main job from a live file to a broker and back, on both engines.

use std::process::{Command, Output};

use serde_json::Value;

fn demo(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shipper")).arg("demo").args(args).output().unwrap()
}

#[track_caller]
fn sums(args: &[&str]) -> Value {
    let done = demo(args);
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{}: {text}{}", done.status, String::from_utf8_lossy(&done.stderr));
    serde_json::from_str(&text).unwrap()
}

fn engines() -> Vec<&'static str> {
    if shipper::io::choose(shipper::io::Asked::Uring).is_ok() {
        return vec!["pread", "uring"];
    }
    eprintln!("skipped on uring: this kernel refuses io_uring");
    vec!["pread"]
}

#[test]
fn live_alerts_are_found_in_the_topic_over_a_rotation_and_the_sums_add_up() {
    for engine in engines() {
        let sums = sums(&["--for", "3s", "--rate", "3000", "--json", "--engine", engine]);
        assert_eq!(sums["adds_up"], true, "{sums}");
        assert_eq!(sums["written_parts"], 2, "{sums}");
        assert!(sums["found_messages"].as_u64().unwrap() > 100, "{sums}");
    }
}

#[test]
fn planted_indicators_are_found_without_a_server_alone_or_in_summaries_and_the_sums_add_up() {
    for engine in engines() {
        let sums = sums(&["--system", "misp", "--for", "4s", "--rate", "2000", "--json", "--engine", engine]);
        assert_eq!(sums["adds_up"], true, "{sums}");
        let n = |name: &str| sums[name].as_u64().unwrap_or_else(|| panic!("{name}: {sums}"));
        assert!(n("planted_alerts") > n("planted_indicators") && n("planted_indicators") == 30, "{sums}");
        assert!(n("matches_in_summaries") > 0 && n("duplicates") > 0 && n("written_parts") == 2, "{sums}");
        assert!(n("indicators") > 10 * n("known_indicators"), "most of what is extracted is harmless: {sums}");
    }
}

#[test]
fn every_event_of_an_audit_log_is_one_point_and_every_grave_one_an_alert() {
    for engine in engines() {
        let sums = sums(&["--system", "waf", "--for", "3s", "--rate", "2000", "--json", "--engine", engine]);
        assert_eq!(sums["adds_up"], true, "{sums}");
        let n = |name: &str| sums[name].as_u64().unwrap_or_else(|| panic!("{name}: {sums}"));
        assert!(n("points") > 1000 && n("alerts") > 10 && n("spoiled_events") > 10, "{sums}");
        assert!(n("dead_letter_bytes") > 0 && n("written_parts") == 2, "{sums}");
    }
}

#[test]
fn events_of_a_site_are_alerts_where_they_are_grave_and_stand_in_one_window_each() {
    for engine in engines() {
        let sums = sums(&["--system", "apt", "--for", "4s", "--rate", "2000", "--json", "--engine", engine]);
        assert_eq!(sums["adds_up"], true, "{sums}");
        let n = |name: &str| sums[name].as_u64().unwrap_or_else(|| panic!("{name}: {sums}"));
        assert!(n("marked_events") > 100 && n("anomalous_messages") > 100 && n("windows") > 100, "{sums}");
        assert!(n("dead_letter_bytes") > 0 && n("written_parts") == 2, "{sums}");
    }
}

#[test]
fn a_file_of_broken_and_whole_lines_is_shipped_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("alerts.json");
    let made = Command::new(env!("CARGO_BIN_EXE_shipper-bench"))
        .args(["gen", "--count", "5000", "--mix", "fail2ban", "--out"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(made.status.success());
    let mut text = std::fs::read(&file).unwrap();
    text.extend_from_slice(b"{\"timestamp\":\"2026-03-14T06:\n");
    std::fs::write(&file, &text).unwrap();
    let sums = sums(&["--file", &file.display().to_string(), "--json", "--engine", "pread"]);
    assert_eq!((&sums["found_messages"], &sums["dead_letter_bytes"]), (&5000.into(), &29.into()), "{sums}");
}

#[test]
fn a_broker_that_is_not_there_and_a_system_that_is_unknown_are_told() {
    let done = demo(&["--brokers", "127.0.0.1:9", "--for", "1s"]);
    assert_eq!(done.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&done.stderr).contains("--brokers"));
    assert_eq!(demo(&["--system", "none"]).status.code(), Some(64));
    assert_eq!(demo(&["--system", "misp", "--file", "alerts.json"]).status.code(), Some(64));
    assert_eq!(demo(&["--system", "waf", "--brokers", "h:9092"]).status.code(), Some(64));
    assert_eq!(demo(&["--system", "apt", "--brokers", "h:9092"]).status.code(), Some(64));
    assert_eq!(demo(&["--system", "scan", "--file", "alerts.json"]).status.code(), Some(64));
}
