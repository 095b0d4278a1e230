//! `shipper intel`: exported files in, answers out.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

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

fn path(dir: &Path) -> &str {
    dir.to_str().unwrap()
}

const UUID: &str = "5a8b2c1d-0000-4000-8000-00000000abcd";
const EVENT: &str = "5a8b2c1d-0000-4000-8000-000000000042";
/// `printf sum.example.com | md5sum`
const SUM: &str = "755f55d7924d78c90e2cf9c46a5e82c7";

fn csv() -> String {
    let head = "uuid,event_id,category,type,value,comment,to_ids,date,object_relation,attribute_tag,object_uuid,object_name,object_meta_category\n";
    let row = |n: u32, misp_type: &str, value: &str, to_ids: u8| {
        format!(
            "\"5a8b2c1d-0000-4000-8000-{n:012}\",42,\"Network activity\",\"{misp_type}\",\"{value}\",\"\",{to_ids},20260314,\"\",\"tlp:green\",\"\",\"\",\"\"\n"
        )
    };
    [
        head.to_owned(),
        row(1, "ip-dst|port", "203.0.113.9|443", 1),
        row(2, "domain", "Evil.Example.com", 1),
        row(3, "ip-src", "198.51.100.0/24", 1),
        row(4, "comment", "nothing", 1),
        row(5, "domain", "quiet.example.com", 0),
        row(6, "md5", "too short", 1),
        row(7, "url", "http://evil.example.com/Path?a=1", 1),
        "\"broken\"line,\n".to_owned(),
        row(8, "ip-dst", "0.0.0.0/0", 1),
    ]
    .concat()
}

#[test]
fn an_export_is_imported_shown_and_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (state, file) = (dir.path().join("state"), dir.path().join("export.csv"));
    let at = ["--state", path(&state)];
    fs::write(&file, csv()).unwrap();
    let (_, told) = said(&["intel", "status", at[0], at[1]], 69);
    assert!(told.contains("fill the tables with `shipper intel import`"), "{told}");
    said(&["intel", "lookup", "203.0.113.9", at[0], at[1]], 69);

    let (text, _) = said(&["intel", "import", path(&file), at[0], at[1]], 0);
    for line in [
        "1 file read (1 csv)",
        "4 indicators, told by 4 attributes; 1 of them networks",
        "           2  ip",
        "           1  domain",
        "           1  url",
        "5 left out",
        "           1  of a type that no alert is searched for",
        "           1  not for detection (to_ids is 0)",
        "           1  a network so wide that it would match everything",
        "generation 1 counts from now on",
    ] {
        assert!(text.lines().any(|found| found == line), "{line:?} in\n{text}");
    }
    assert!(text.contains(&format!("{}:7: not in the form of its type", file.display())), "{text}");
    assert!(text.contains(&format!("{}:9: a quoted field that does not end as one", file.display())), "{text}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let folder = state.join("intel");
    assert_eq!((mode(&folder), mode(&folder.join("current")), mode(&folder.join("mirror-1"))), (0o700, 0o600, 0o600));

    let (text, _) = said(&["intel", "status", "--json", at[0], at[1]], 0);
    let status: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&status["status"], &status["indicators"], &status["networks"]), (&json!("whole"), &json!(4), &json!(1)));
    assert_eq!(status["by_kind"], json!({"ip": 2, "domain": 1, "url": 1}));
    assert!(said(&["intel", "status", at[0], at[1]], 0).0.contains("generation 1, built 20"));

    let lookup = |value: &str| {
        let (text, _) = said(&["intel", "lookup", "--json", value, at[0], at[1]], 0);
        let told: Value = serde_json::from_str(&text).unwrap();
        let via = told["found"].as_array().unwrap().iter().map(|found| found["via"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        (told, via)
    };
    for (value, via) in [
        ("203.0.113.9", &["value"][..]),
        ("EVIL.example.com", &["value"]),
        ("www.evil.example.com", &["parent"]),
        ("http://EVIL.example.com/Path?a=1", &["value", "host"]),
        ("http://203.0.113.9:8080/", &["host"]),
        ("198.51.100.77", &["network"]),
        ("a@evil.example.com", &["host"]),
        ("203.0.113.10", &[]),
        ("quiet.example.com", &[]),
        ("word", &[]),
    ] {
        assert_eq!(lookup(value).1, via, "{value}");
    }
    assert_eq!(
        lookup("203.0.113.9").0["found"][0],
        json!({
            "asked": "203.0.113.9", "via": "value", "indicator": "203.0.113.9", "value": "203.0.113.9|443", "kind": "ip", "type": "ip-dst|port",
            "category": "Network activity", "uuid": "5a8b2c1d-0000-4000-8000-000000000001", "id": null, "event_id": "42", "event_uuid": null, "event_info": null,
            "tags": ["tlp:green"], "to_ids": true, "timestamp": 1_773_446_400,
        })
    );
    let (text, _) = said(&["intel", "lookup", "198.51.100.77", "other.example.com", at[0], at[1]], 0);
    assert_eq!(
        text,
        "198.51.100.77  KNOWN (ip)\n  by its network 198.51.100.0/24, type ip-src, category Network activity, event 42, tlp:green\n\
         other.example.com  not known\n"
    );
    let (text, _) = said(&["intel", "import", "--all", "--json", path(&file), at[0], at[1]], 0);
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&told["status"]["generation"], &told["status"]["indicators"]), (&json!(2), &json!(5)));
}

#[test]
fn a_feed_and_lists_are_imported_together() {
    let dir = tempfile::tempdir().unwrap();
    let (state, feed, list) = (dir.path().join("state"), dir.path().join("feed"), dir.path().join("list.txt"));
    let at = ["--state", path(&state)];
    fs::create_dir(&feed).unwrap();
    let event = json!({"Event": {
        "Attribute": [{"uuid": UUID, "type": "domain", "category": "Network activity", "value": "evil.example.com", "to_ids": true}],
        "info": "Third wave\u{1b}[31m", "uuid": EVENT, "Tag": [{"name": "c2"}],
    }});
    fs::write(feed.join("manifest.json"), json!({EVENT: {"info": "Third wave"}}).to_string()).unwrap();
    fs::write(feed.join(format!("{EVENT}.json")), event.to_string()).unwrap();
    fs::write(&list, "203.0.113.9\n# ours\nnot an indicator\n").unwrap();
    let (text, _) = said(&["intel", "import", path(&feed), path(&list), at[0], at[1]], 0);
    assert!(text.contains("2 files read (1 json, 1 text)") && text.contains("2 indicators, told by 2 attributes"), "{text}");
    let (text, _) = said(&["intel", "lookup", "evil.example.com", "203.0.113.9", at[0], at[1]], 0);
    assert_eq!(
        text,
        format!(
            "evil.example.com  KNOWN (domain)\n  type domain, category Network activity, event {EVENT}, \"Third wave\\u{{1b}}[31m\", c2\n\
             203.0.113.9  KNOWN (ip)\n  in a list, without details\n"
        ),
        "an escape of a feed does not reach the terminal"
    );

    // A feed without its events: sums of values, told by the manifest.
    fs::remove_file(feed.join(format!("{EVENT}.json"))).unwrap();
    fs::write(feed.join("hashes.csv"), format!("{SUM},{EVENT}\n")).unwrap();
    let (text, _) = said(&["intel", "import", "--add", path(&feed), at[0], at[1]], 0);
    assert!(text.contains("1 cache") && text.contains("3 indicators"), "{text}");
    let (text, _) = said(&["intel", "lookup", "evil.example.com", "SUM.example.com", "other.example.com", at[0], at[1]], 0);
    assert!(text.starts_with("evil.example.com  KNOWN"), "{text}");
    assert!(
        text.contains(&format!("SUM.example.com  KNOWN (domain)\n  event {EVENT}, \"Third wave\"\nother.example.com  not known\n")),
        "{text}"
    );
}

#[test]
fn what_cannot_be_told_is_asked_and_nothing_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let (state, file) = (dir.path().join("state"), dir.path().join("list"));
    let at = ["--state", path(&state)];
    let import = |more: &[&str], code| said(&[&["intel", "import"], more, &at[..]].concat(), code).1;
    assert!(import(&[], 64).contains("no path"));
    assert!(import(&["--format", "xml", path(&file)], 64).contains("known: csv, text, hashes, cache, json"));
    assert!(import(&[path(&file)], 74).contains("name a file that is there"));
    assert!(import(&[path(dir.path())], 74).contains("is not the folder of a MISP feed"));
    fs::write(&file, "900150983cd24fb0d6963f7d28e17f72\n").unwrap();
    assert!(import(&[path(&file)], 74).contains("say with --format whether"));
    assert!(!state.exists(), "nothing is made before all is understood");
    import(&["--format", "hashes", path(&file)], 0);
    assert!(said(&["intel", "lookup", "900150983CD24FB0D6963F7D28E17F72", at[0], at[1]], 0).0.contains("KNOWN (md5)"));
    let lock = shipper::io::disk::StateLock::take(&state.join("intel")).unwrap();
    assert!(import(&["--format", "hashes", path(&file)], 69).contains("another shipper"));
    drop(lock);
    let newest = state.join("intel/mirror-1");
    let bytes = fs::read(&newest).unwrap();
    fs::write(&newest, &bytes[..bytes.len() - 1]).unwrap();
    assert!(said(&["intel", "status", at[0], at[1]], 69).1.contains("run `shipper intel import` again"));
}

#[test]
fn help_shows_how() {
    for command in [
        &["intel", "--help"][..],
        &["intel", "import", "--help"],
        &["intel", "status", "--help"],
        &["intel", "lookup", "--help"],
        &["intel", "sync", "--help"],
    ] {
        let (text, _) = said(command, 0);
        assert!(text.matches("shipper intel").count() >= 2, "{text}");
    }
}
