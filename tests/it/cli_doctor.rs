//! `shipper doctor` on the host that runs the tests.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

/// Findings by topic, with the command's exit code.
fn doctor(config: &Path) -> (Option<i32>, Vec<Value>) {
    let output = Command::new(env!("CARGO_BIN_EXE_shipper"))
        .args(["doctor", "--json", "--config"])
        .arg(config)
        .env_remove("WATCHDOG_USEC")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    (output.status.code(), told.as_array().unwrap().clone())
}

#[track_caller]
fn finding<'f>(findings: &'f [Value], topic: &str) -> &'f Value {
    findings.iter().find(|finding| finding["topic"] == topic).unwrap_or_else(|| panic!("nothing of {topic} in {findings:#?}"))
}

fn settings(dir: &Path, state: &str, alerts: &str) -> String {
    let path = |name: &str| dir.join(name).display().to_string();
    format!(
        "[state]\ndir = {:?}\n[sources.alerts]\nkind = \"wazuh\"\npath = {:?}\n[handlers.all]\nkind = \"forward\"\ninputs = [\"alerts\"]\n[sinks.out]\nkind = \"blackhole\"\ninputs = [\"all\"]\n",
        path(state),
        path(alerts)
    )
}

#[test]
fn what_is_fine_and_what_is_not_is_told_by_topic_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("shipper.toml");
    fs::write(dir.path().join("alerts.json"), "{}\n").unwrap();
    fs::write(&config, settings(dir.path(), "state", "alerts.json")).unwrap();
    let (code, findings) = doctor(&config);
    assert_eq!(code, Some(0), "{findings:#?}");
    for finding in &findings {
        let (level, remedy) = (finding["level"].as_str().unwrap(), &finding["remedy"]);
        assert!(["good", "warn", "bad"].contains(&level), "{finding}");
        assert_eq!(remedy.is_string(), level != "good", "what is not good has a remedy: {finding}");
        assert!(finding["what"].as_str().is_some_and(|what| !what.is_empty()), "{finding}");
    }
    for topic in [
        "user",
        "kernel",
        "engine",
        "--engine auto",
        "--engine uring",
        "--engine pread",
        "memlock",
        "inotify",
        "cores",
        "open files",
        "systemd",
        "clock",
    ] {
        finding(&findings, topic);
    }
    assert_eq!(finding(&findings, "--engine pread")["level"], "good", "it works everywhere");
    assert!(finding(&findings, "state")["what"].as_str().unwrap().ends_with("is not there yet; the first start makes it"));
    assert!(finding(&findings, "sources.alerts")["what"].as_str().unwrap().ends_with("alerts.json can be read, 3 bytes"));

    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(state.join("checkpoint.a"), "rubbish\n").unwrap();
    fs::write(&config, settings(dir.path(), "state", "absent.json")).unwrap();
    let (code, findings) = doctor(&config);
    assert_eq!(code, Some(69));
    assert_eq!(finding(&findings, "state")["level"], "warn", "others may look in");
    let checkpoint = finding(&findings, "checkpoint");
    assert_eq!(checkpoint["level"], "bad");
    assert!(checkpoint["remedy"].as_str().unwrap().contains("shipper state repair"), "{checkpoint}");
    assert_eq!(finding(&findings, "sources.alerts")["level"], "warn", "the agent waits for it");
    assert!(finding(&findings, "free space")["what"].as_str().unwrap().ends_with("for the state"));
}

#[test]
fn a_config_that_cannot_be_read_is_bad_and_hides_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (code, findings) = doctor(&dir.path().join("absent.toml"));
    assert_eq!((code, &finding(&findings, "config")["level"]), (Some(69), &"bad".into()));
    finding(&findings, "engine");

    let config = dir.path().join("shipper.toml");
    fs::write(&config, settings(dir.path(), "state", "alerts.json").replace("blackhole", "blackhol")).unwrap();
    let (code, findings) = doctor(&config);
    let told = finding(&findings, "config");
    assert_eq!(
        (code, told["level"].as_str(), told["remedy"].as_str()),
        (Some(69), Some("bad"), Some("`shipper check` tells each with its remedy"))
    );
    finding(&findings, "sources.alerts");
}

#[test]
fn the_text_has_a_mark_at_the_start_of_each_line_and_a_sum_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_shipper")).args(["doctor", "--config"]).arg(dir.path().join("absent.toml")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let (sum, findings) = lines.split_last().unwrap();
    assert!(findings.iter().all(|line| ["good  ", "warn  ", "bad   "].iter().any(|mark| line.starts_with(mark))), "{text}");
    assert!(findings.iter().all(|line| line.starts_with("good") || line.contains("; ")), "{text}");
    let count = |mark: &str| findings.iter().filter(|line| line.starts_with(mark)).count();
    assert_eq!(*sum, format!("{} good, {} to look at, {} bad", count("good"), count("warn"), count("bad")));
}
