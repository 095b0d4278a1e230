//! `shipper state` and `shipper dead-letter`: what they say of a state folder, whoever uses it.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use shipper::{
    checkpoint::{BranchRow, Checkpoint, Row, SegmentRow},
    dead_letter::{Entry, Header, Kind},
    io::disk::RealDisk,
    position::{Position, Segment},
    store::{Done, Job, Options, Writer},
};

use crate::agent::until;

fn shipper(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shipper")).args(args).stdin(Stdio::null()).output().unwrap()
}

/// What the command says, and with which code it ends.
#[track_caller]
fn said(args: &[&str], code: i32) -> (String, String) {
    let output = shipper(args);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{out}\n{err}");
    (out, err)
}

#[track_caller]
fn object(args: &[&str], code: i32) -> Value {
    let (out, _) = said(args, code);
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

fn path(dir: &Path) -> &str {
    dir.to_str().unwrap()
}

fn checkpoint() -> Checkpoint {
    let day = Segment::new(20_526, 2).unwrap().0;
    let at = |offset| Position::File { segment: day, incarnation: 1, offset };
    let row = |source: &str, stream: &str, kind: &str, branches: Vec<BranchRow>| Row {
        source: source.into(),
        stream: stream.into(),
        kind: kind.into(),
        branches,
        ..Row::default()
    };
    let branch = |branch: &str, position| BranchRow { branch: branch.into(), position };
    Checkpoint {
        instance: "mgr-1".into(),
        instance_before: None,
        saved_at: "2026-03-14T06:25:12.000Z".into(),
        generation: 0,
        rows: vec![
            Row {
                segments: vec![SegmentRow {
                    segment: day,
                    incarnation: 1,
                    path: "/logs/alerts.json".into(),
                    inode: 11,
                    ..SegmentRow::default()
                }],
                ..row("alerts", "alerts", "wazuh", vec![branch("dfn", at(300_000)), branch("all", at(262_144))])
            },
            row("old", "stdin/7", "stdin", vec![branch("all", Position::Count(12))]),
        ],
    }
}

fn letter(origin: &str, kind: Kind, bytes: &[u8]) -> Entry {
    let of_message = |text: &str| (kind == Kind::Message).then(|| text.to_owned());
    let header = Header {
        kind,
        origin: origin.into(),
        branch: "dfn".into(),
        output: of_message("dfn"),
        sink: of_message("dfn_cert"),
        key: None,
        reason: if kind == Kind::Record { "not_json" } else { "refused" }.into(),
        detail: if kind == Kind::Record { "" } else { "too large \u{1b}[31m" }.into(),
        time: "2026-03-14T06:25:12.000Z".into(),
    };
    Entry { header, bytes: bytes.to_vec() }
}

/// Saves the example so often, and these letters with it.
fn save(dir: &Path, times: u64, letters: Vec<Entry>) {
    let (mut writer, _) = Writer::open(Box::new(RealDisk::new()), dir, Options::default()).unwrap();
    for tag in 1..=times {
        assert_eq!(writer.commit(vec![Job::Save { checkpoint: checkpoint(), tag }]), [Done::Saved { tag, generation: tag }]);
    }
    let jobs = letters.into_iter().map(|entry| Job::DeadLetter { entry, tag: 0 }).collect();
    writer.commit(jobs);
    assert_eq!(writer.waiting(), 0);
}

#[test]
fn a_saved_state_is_shown_with_addresses_as_the_header_says_them() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), 2, vec![]);
    let settings = dir.path().join("shipper.toml");
    let text = format!("[state]\ndir = {:?}\n[sources.alerts]\nkind = \"wazuh\"\nno_such_setting = 1\n", path(dir.path()));
    fs::write(&settings, text).unwrap();
    let told = object(&["state", "show", "--json", "--config", path(&settings)], 0);
    assert_eq!(
        told["positions"],
        json!([
            {"source": "alerts", "stream": "alerts", "kind": "wazuh", "branch": "dfn", "orphan": false, "segment": 21_018_626,
             "incarnation": 1, "offset": 300_000, "address": "mgr-1/alerts/2026-03-14/002~1/300000"},
            {"source": "alerts", "stream": "alerts", "kind": "wazuh", "branch": "all", "orphan": false, "segment": 21_018_626,
             "incarnation": 1, "offset": 262_144, "address": "mgr-1/alerts/2026-03-14/002~1/262144"},
            {"source": "old", "stream": "stdin/7", "kind": "stdin", "branch": "all", "orphan": true, "count": 12, "address": "stdin/7/12"},
        ])
    );
    assert_eq!((&told["status"], &told["checkpoint"], &told["generation"]), (&json!("saved"), &json!("checkpoint.b"), &json!(2)));
    assert_eq!((&told["instance"], &told["saved_at"]), (&json!("mgr-1"), &json!("2026-03-14T06:25:12.000Z")));
    assert_eq!(
        told["files"][0],
        json!({"file": "checkpoint.a", "counts": false, "status": "whole", "generation": 1, "saved_at": "2026-03-14T06:25:12.000Z", "instance": "mgr-1"})
    );
    assert_eq!(told["segments"][0]["path"], "/logs/alerts.json");

    let (text, warned) = said(&["state", "show", "--config", path(&settings)], 0);
    assert!(warned.contains("has errors"), "a config with a wrong setting is told, and its folder still read: {warned}");
    let text: Vec<&str> = text.lines().map(|line| line.split(" (").next().unwrap()).collect();
    assert_eq!(
        text,
        [
            &format!("state in {}", dir.path().display()),
            "  checkpoint.a  generation 1, saved 2026-03-14T06:25:12.000Z",
            "  checkpoint.b  counts: generation 2, saved 2026-03-14T06:25:12.000Z",
            "instance mgr-1",
            "",
            "alerts",
            "  acked by dfn  below mgr-1/alerts/2026-03-14/002~1/300000",
            "  acked by all  below mgr-1/alerts/2026-03-14/002~1/262144",
            "  file /logs/alerts.json",
            "",
            "old",
            "  acked by all  below stdin/7/12",
        ]
    );
    assert!(said(&["state", "show", "--config", path(&settings)], 0).0.contains("ORPHAN: the config has no such source"));
}

#[test]
fn a_missing_checkpoint_is_no_failure_and_an_unreadable_one_is() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["state", "show", "--dir", path(dir.path())];
    let (text, _) = said(&args, 0);
    assert!(text.contains("no checkpoint: the agent has not saved one yet"), "{text}");
    let all = [&args[..], &["--json"]].concat();
    assert_eq!((&object(&all, 0)["status"], &object(&all, 0)["positions"]), (&json!("missing"), &json!([])));

    save(dir.path(), 2, vec![]);
    let newest = dir.path().join("checkpoint.b");
    let mut bytes = fs::read(&newest).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    fs::write(&newest, bytes).unwrap();
    let (text, told) = said(&args, 69);
    assert!(told.contains("checkpoint.b is damaged: its checksum does not match"), "{told}");
    assert!(told.contains("shipper state repair"), "{told}");
    assert!(text.contains("no checkpoint counts; what the newest readable one says:"), "{text}");
    let told = object(&all, 69);
    assert_eq!((&told["status"], &told["checkpoint"], &told["generation"]), (&json!("unreadable"), &Value::Null, &json!(1)));
    assert_eq!(told["files"][1]["status"], "unreadable");
    assert!(told["error"].as_str().unwrap().contains("is damaged"));

    let (_, told) = said(&["state", "show", "--dir", path(&dir.path().join("absent"))], 69);
    assert!(told.contains("no agent has run with it; name another with --dir"), "{told}");
    let (_, told) = said(&["state", "show", "--config", path(&dir.path().join("absent.toml"))], 69);
    assert!(told.contains("cannot read config"), "{told}");
}

#[test]
fn a_refused_checkpoint_is_repaired_by_choice_and_the_agent_takes_it() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Writer::open(Box::new(RealDisk::new()), dir.path(), Options::default()).map(|(_, saved)| saved.map(|c| c.generation));
    let at = ["--dir", path(dir.path())];
    let repair = |more: &[&str], code| said(&[&["state", "repair"], more, &at[..]].concat(), code);
    save(dir.path(), 3, vec![]);
    assert!(repair(&[], 0).0.contains("nothing to repair"));

    // b holds generation 2, the older one; a, the newer one, is damaged.
    let newest = dir.path().join("checkpoint.a");
    fs::write(&newest, "rubbish\n").unwrap();
    assert!(open().is_err());
    let (text, _) = repair(&[], 69);
    assert!(text.contains("checkpoint.a is damaged") && text.contains("shipper state repair --use b   goes on from"), "{text}");
    let (_, told) = repair(&["--use", "a"], 69);
    assert!(told.contains("checkpoint.a is not whole"), "{told}");
    repair(&["--use", "c"], 64);
    repair(&["--use", "b", "--forget"], 64);
    let lock = shipper::io::disk::StateLock::take(dir.path()).unwrap();
    assert!(repair(&["--use", "b"], 69).1.contains("another shipper"), "a running agent is not repaired under its feet");
    drop(lock);
    assert!(open().is_err(), "nothing has changed so far");

    repair(&["--use", "b"], 0);
    assert_eq!(open().unwrap(), Some(3));
    assert_eq!(fs::read(dir.path().join("checkpoint.a.before-repair")).unwrap(), b"rubbish\n");
    assert_eq!(object(&["state", "show", "--json", at[0], at[1]], 0)["positions"].as_array().unwrap().len(), 3);

    repair(&["--forget"], 0);
    assert_eq!(open().unwrap(), None);
    assert!(dir.path().join("checkpoint.b.before-repair").exists());
}

#[test]
fn refused_bytes_are_listed_and_given_back_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let (record, message) = (&b"{\"timestamp\":\"cut\n"[..], &b"\0\xff payload"[..]);
    let origin = "mgr-1/alerts/2026-03-14/002/1024+18";
    save(dir.path(), 1, vec![letter(origin, Kind::Record, record), letter("mgr-1/alerts/2026-03-14/002/9+7", Kind::Message, message)]);
    let at = ["--dir", path(dir.path())];
    let (text, _) = said(&["dead-letter", "list", at[0], at[1]], 0);
    assert_eq!(
        text,
        "     1  2026-03-14T06:25:12.000Z  record   dfn  not_json  18 bytes  mgr-1/alerts/2026-03-14/002/1024+18\n     \
         2  2026-03-14T06:25:12.000Z  message  dfn  refused  10 bytes  mgr-1/alerts/2026-03-14/002/9+7  (too large \\u{1b}[31m)\n\
         2 entries, 28 bytes refused\n"
    );
    let (lines, _) = said(&["dead-letter", "list", "--json", at[0], at[1]], 0);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        lines[1],
        json!({"number": 2, "segment": 0, "kind": "message", "origin": "mgr-1/alerts/2026-03-14/002/9+7", "branch": "dfn", "output": "dfn",
               "sink": "dfn_cert", "key": null, "reason": "refused", "detail": "too large \u{1b}[31m", "time": "2026-03-14T06:25:12.000Z", "bytes": 10})
    );

    for (entry, bytes) in [("1", record), (origin, record), ("2", message)] {
        let shown = shipper(&["dead-letter", "show", entry, at[0], at[1]]);
        assert_eq!((shown.status.code(), &shown.stdout[..]), (Some(0), bytes), "{entry}");
        assert!(String::from_utf8(shown.stderr).unwrap().contains("reason "));
    }
    assert_eq!(object(&["dead-letter", "show", "--json", "1", at[0], at[1]], 0)["value"], "{\"timestamp\":\"cut\n");
    assert_eq!(object(&["dead-letter", "show", "--json", "2", at[0], at[1]], 0)["value_b64"], "AP8gcGF5bG9hZA==");
    let (_, told) = said(&["dead-letter", "show", "3", at[0], at[1]], 69);
    assert_eq!(told, "shipper: no entry \"3\" among the 2 in the dead letter; `shipper dead-letter list` shows them\n");

    let settings = dir.path().join("shipper.toml");
    let text = format!("[state]\ndir = {:?}\n[dead_letter]\npath = {:?}\n", path(dir.path()), path(&dir.path().join("apart")));
    fs::write(&settings, text).unwrap();
    let by_config = ["dead-letter", "list", "--config", path(&settings)];
    assert_eq!(said(&by_config, 0).0, "0 entries, 0 bytes refused\n", "the config's folder, which is not there yet");
    fs::rename(dir.path().join("dead-letter"), dir.path().join("apart")).unwrap();
    assert!(said(&by_config, 0).0.ends_with("2 entries, 28 bytes refused\n"));
    fs::rename(dir.path().join("apart"), dir.path().join("dead-letter")).unwrap();

    // What a crash cut off is told and hides nothing before it.
    let segment = dir.path().join("dead-letter/00000000.dlq");
    let whole = fs::read(&segment).unwrap();
    fs::write(&segment, &whole[..whole.len() - 1]).unwrap();
    let (text, told) = said(&["dead-letter", "list", at[0], at[1]], 0);
    assert!(text.ends_with("1 entry, 18 bytes refused\n"), "{text}");
    assert!(told.contains("ends in a part of an entry"), "{told}");
}

#[test]
fn a_running_and_a_killed_agent_are_looked_at_alike() {
    let dir = tempfile::tempdir().unwrap();
    let (file, state, settings) = (dir.path().join("alerts.json"), dir.path().join("state"), dir.path().join("shipper.toml"));
    let line = "{\"timestamp\":\"2026-03-14T06:25:12.001+0100\",\"rule\":{\"level\":3},\"id\":\"1\"}\n";
    let whole = format!("{}{{\"timestamp\":\"cut in the mid\n", line.repeat(100));
    fs::write(&file, &whole).unwrap();
    let text = format!(
        "instance = \"mgr 1\"\n[state]\ndir = {:?}\n[sources.alerts]\nkind = \"wazuh\"\npath = {:?}\nstart_at = \"beginning\"\n[handlers.all]\nkind = \"forward\"\ninputs = [\"alerts\"]\n[sinks.out]\nkind = \"blackhole\"\ninputs = [\"all\"]\n",
        path(&state),
        path(&file)
    );
    fs::write(&settings, text).unwrap();
    let mut agent = Command::new(env!("CARGO_BIN_EXE_shipper"))
        .args(["run", "--config", path(&settings)])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let show = ["state", "show", "--json", "--config", path(&settings)];
    let shown = || -> Option<Value> { serde_json::from_slice(&shipper(&show).stdout).ok() };
    until("all is acked and saved", || shown().is_some_and(|told| told["positions"][0]["offset"] == whole.len()));
    let running = shown().unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();
    let killed = shown().unwrap();
    assert_eq!(killed["positions"], running["positions"]);
    let address = killed["positions"][0]["address"].as_str().unwrap();
    assert!(address.starts_with("mgr%201/alerts/") && address.ends_with(&format!("/{}", whole.len())), "{address}");
    assert_eq!(killed["positions"][0]["orphan"], false);

    let (lines, _) = said(&["dead-letter", "list", "--json", "--config", path(&settings)], 0);
    let told: Value = serde_json::from_str(&lines).unwrap();
    // The header's origin is the same address with the record's own offset and length.
    let broken = whole.len() - line.len() * 100;
    let origin = address.replace(&format!("/{}", whole.len()), &format!("/{}+{broken}", line.len() * 100));
    assert_eq!((&told["origin"], &told["bytes"]), (&json!(origin), &json!(broken)));
}
