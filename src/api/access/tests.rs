//! Keys of a file, roles, addresses and rates.

#![allow(clippy::disallowed_methods, reason = "tests write real files")]

use std::{fs, os::unix::fs::PermissionsExt};

use super::{
    keys::{digest, hex},
    *,
};
use crate::api::{Bound, Listen};

const SECOND: Nanos = 1_000_000_000;

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

fn line(name: &str, role: &str, key: &str, more: &str) -> String {
    format!("{name} {role} {} {more}\n", hex(&digest(key.as_bytes())))
}

fn gate(text: &str) -> Gate {
    Gate::new(Some(Keys::parse(text).unwrap()), &Settings::default())
}

#[test]
fn a_key_opens_what_its_line_says() {
    let certificate = [7; 32];
    let text = format!(
        "# ours\n\n{}{}{}c viewer,submitter cert:{}\n",
        line("a", "admin", "ka", ""),
        line("w", "W", "kw", "node-7 192.0.2.0/24 2001:db8::1"),
        line("v", "viewer", "kv", ""),
        hex(&certificate).to_uppercase()
    );
    let gate = gate(&text);
    // Key, certificate, whence: the name, or `-` for nobody, `!` for refused.
    let rows = [
        (Some("ka"), None, "198.51.100.1", "a"),
        (Some("kw"), None, "192.0.2.9", "w"),
        (Some("kw"), None, "2001:db8::1", "w"),
        (Some("kw"), None, "192.0.3.9", "!"),
        (Some("kA"), None, "198.51.100.2", "!"),
        (Some(""), None, "198.51.100.3", "!"),
        (None, None, "198.51.100.3", "-"),
        (None, Some(certificate), "198.51.100.3", "c"),
        (None, Some([8; 32]), "198.51.100.3", "-"),
        // A key whose digest is the certificate's is no certificate.
        (Some("kv"), Some(certificate), "198.51.100.3", "v"),
    ];
    for (key, certificate, from, expected) in rows {
        let found = match gate.enter(address(from), key.map(str::as_bytes), certificate, 0) {
            Ok(Some(who)) => who.name,
            Ok(None) => "-".into(),
            Err(Denied::Wrong) => "!".into(),
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(found, expected, "{key:?} {certificate:?} {from}");
    }
    let who = gate.enter(None, Some(b"kw"), None, 0).unwrap().unwrap();
    assert!(who.is(Role::Worker) && !who.is(Role::Viewer) && who.is_worker("node-7") && !who.is_worker("node-8"));
    let admin = gate.enter(None, Some(b"ka"), None, 0).unwrap().unwrap();
    assert!(Role::ALL.iter().all(|role| admin.is(*role)) && admin.is_worker("node-8"));
}

#[test]
fn a_wrong_line_is_told_by_its_number_and_never_quoted() {
    let good = line("a", "admin", "ka", "");
    let rows = [
        "a".to_owned(),
        "a root 00".to_owned(),
        "a admin 00".to_owned(),
        format!("a admin {}", "g".repeat(64)),
        format!("a admin {}", "+f".repeat(32)),
        line("ä", "admin", "k", ""),
        line("b", "admin", "k", "node-7"),
        line("b", "worker", "k", "node-7 node-8"),
        line("b", "worker", "k", "192.0.2.0/33"),
        line("a", "viewer", "other", ""),
        line("b", "viewer", "ka", ""),
    ];
    for wrong in rows {
        let (number, what) = Keys::parse(&format!("{good}#\n{wrong}")).unwrap_err();
        assert_eq!(number, 3, "{wrong}: {what}");
        let secret = wrong.split_whitespace().nth(2).unwrap_or("-- none --");
        assert!(!what.contains(secret), "{what}");
    }
    let key = Keys::parse(&line("w", "W", "k", "node-7 192.0.2.1")).unwrap();
    assert!(!format!("{key:?}").contains("kw"));
}

#[test]
fn guesses_are_limited_by_address_and_requests_by_key() {
    let settings = Settings { rate: Rate { count: 5, per_s: 60 }, auth_failures: Rate { count: 2, per_s: 60 }, ..Settings::default() };
    let gate = Gate::new(Some(Keys::parse(&line("a", "admin", "ka", "")).unwrap()), &settings);
    let ask = |from: &str, key: &[u8], s: u64| gate.enter(address(from), Some(key), None, s * SECOND).map(|who| who.is_some());
    assert_eq!(ask("192.0.2.1", b"x", 0), Err(Denied::Wrong));
    assert_eq!(ask("192.0.2.1", b"y", 0), Err(Denied::Wrong));
    // Even the right one waits now, and is not tried; others are not kept from it.
    assert_eq!(ask("192.0.2.1", b"ka", 0), Err(Denied::TooMany(30_000)));
    assert_eq!(ask("192.0.2.2", b"ka", 0), Ok(true));
    assert_eq!(ask("192.0.2.1", b"ka", 31), Ok(true));
    // Five of a key, whatever the address.
    let mut let_in = 0;
    for n in 0..20 {
        let_in += usize::from(ask(&format!("198.51.100.{n}"), b"ka", 200).is_ok());
    }
    assert_eq!(let_in, 5);
    let mut registered = 0;
    for _ in 0..20 {
        registered += usize::from(gate.register(address("192.0.2.1"), 0).is_ok());
    }
    assert_eq!(registered, 10);
}

#[test]
fn without_keys_everybody_near_may_do_all() {
    let who = Gate::default().enter(None, None, None, 0).unwrap();
    assert_eq!(who, Some(Who::local()));
}

#[test]
fn a_face_that_others_can_reach_needs_keys_and_tls() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys");
    fs::write(&file, line("a", "admin", "ka", "")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let guard = |listen: [u8; 4], settings: &Settings| {
        let mut bound = Bound::bind(&Listen::Tcp((listen, 0).into())).unwrap();
        settings.guard(&mut bound).map(|gate| gate.has_keys())
    };
    let keys = Settings { keys_file: Some(file.clone()), ..Settings::default() };
    assert!(matches!(guard([127, 0, 0, 1], &Settings::default()), Ok(false)));
    assert!(matches!(guard([127, 0, 0, 1], &keys), Ok(true)));
    assert!(matches!(guard([0, 0, 0, 0], &Settings::default()), Err(AccessError::NoKeys(_))));
    assert!(matches!(guard([0, 0, 0, 0], &keys), Err(AccessError::NoTls(_))));
    let tls = Files { cert: dir.path().join("none.pem"), key: dir.path().join("none.key"), client_ca: None };
    assert!(matches!(guard([0, 0, 0, 0], &Settings { tls: Some(tls), ..keys.clone() }), Err(AccessError::Tls(_))));

    for mode in [0o640, 0o604, 0o620, 0o660] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let told = guard([127, 0, 0, 1], &keys).unwrap_err().to_string();
        assert!(told.contains("chmod 0600"), "{told}");
    }
    fs::remove_file(&file).unwrap();
    assert!(matches!(guard([127, 0, 0, 1], &keys), Err(AccessError::Keys(_))));
}
