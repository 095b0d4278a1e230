//! The folder on a real disk: whole generations, whatever ends an import.

#![allow(clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, sync::Arc};

use super::*;
use crate::{
    io::disk::RealDisk,
    tables::{Indicator, Kind},
};

fn attribute(value: &str, info: &str) -> Attribute {
    Attribute { event_info: info.into(), ..Attribute::bare(Indicator::Text(value.into()), Kind::guess(value)) }
}

fn import(state: &Path, values: &[&str], keep: bool) -> Status {
    let mut import = Import::begin(Arc::new(RealDisk::new()), state, Box::new(|_| Ok(()))).unwrap();
    if keep {
        import.add_current().unwrap();
    }
    for value in values {
        import.add(&attribute(value, "first")).unwrap().unwrap();
    }
    import.finish(vec!["test".into()], BTreeMap::new(), 1_700_000_000, &mut |_| ()).unwrap()
}

fn names(state: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder(state)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn load(state: &Path) -> Tables {
    Tables::load(&RealDisk::new(), state).unwrap().unwrap()
}

#[test]
fn what_is_imported_is_found_after_a_start() {
    let state = tempfile::tempdir().unwrap();
    assert!(Tables::load(&RealDisk::new(), state.path()).unwrap().is_none());
    let values: Vec<String> = (0..3_000).map(|n| format!("h{n}.example")).collect();
    let mut given: Vec<&str> = values.iter().map(String::as_str).collect();
    given.push("198.51.100.0/24");
    let status = import(state.path(), &given, false);
    assert_eq!((status.generation, status.indicators, status.networks), (1, 3_001, 1));
    assert_eq!(names(state.path()), ["current", "filter-1", "lock", "mirror-1"]);
    for name in names(state.path()) {
        let mode = fs::metadata(folder(state.path()).join(&name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600, "{name}");
    }
    let tables = load(state.path());
    assert_eq!(tables.status, status);
    for value in &values {
        assert_eq!(tables.find(value.as_bytes()).unwrap(), [attribute(value, "first")]);
    }
    assert_eq!(tables.find(b"198.51.100.77").unwrap(), [attribute("198.51.100.0/24", "first")]);
    assert_eq!(tables.find(b"other.example").unwrap(), []);
}

#[test]
fn an_import_replaces_or_adds_and_old_generations_go() {
    let state = tempfile::tempdir().unwrap();
    import(state.path(), &["a.example", "b.example"], false);
    let old = load(state.path());
    import(state.path(), &["c.example"], true);
    let tables = load(state.path());
    assert_eq!(tables.status.generation, 2);
    for value in ["a.example", "b.example", "c.example"] {
        assert_eq!(tables.find(value.as_bytes()).unwrap().len(), 1, "{value}");
    }
    import(state.path(), &["d.example"], false);
    assert_eq!(names(state.path()), ["current", "filter-3", "lock", "mirror-3"]);
    let tables = load(state.path());
    assert!(tables.find(b"a.example").unwrap().is_empty() && tables.find(b"d.example").unwrap().len() == 1);
    assert_eq!(old.find(b"a.example").unwrap().len(), 1, "who has the old one open goes on with it");
}

#[test]
fn changes_are_laid_over_and_last() {
    let state = tempfile::tempdir().unwrap();
    let disk = RealDisk::new();
    import(state.path(), &["a.example", "b.example", "198.51.100.0/24"], false);
    let mut tables = load(state.path());
    let gone = vec![
        (attribute("a.example", "first"), Change::Gone),
        (attribute("198.51.100.0/24", "first"), Change::Gone),
        (attribute("c.example", "later"), Change::Put),
        (attribute("203.0.113.0/24", "later"), Change::Put),
    ];
    assert!(!tables.change(&disk, gone, 77, &|_| Ok(())).unwrap());
    for tables in [tables, load(state.path())] {
        let found = |value: &str| tables.find(value.as_bytes()).unwrap().first().map(|found| found.event_info.clone());
        assert_eq!([found("a.example"), found("198.51.100.7")], [None, None]);
        assert_eq!(found("b.example").as_deref(), Some("first"));
        assert_eq!([found("c.example"), found("203.0.113.7")], [Some("later".into()), Some("later".into())]);
        assert_eq!(tables.changed_until(), 77);
    }
    import(state.path(), &["d.example"], true);
    let tables = load(state.path());
    assert_eq!((tables.status.indicators, tables.indicators.changed()), (4, 0), "b, c, d and a network");
    assert!(tables.find(b"a.example").unwrap().is_empty() && tables.find(b"c.example").unwrap().len() == 1);
    assert_eq!(names(state.path()), ["current", "filter-2", "lock", "mirror-2"]);
}

#[test]
fn an_import_that_is_given_up_or_killed_changes_nothing() {
    let state = tempfile::tempdir().unwrap();
    import(state.path(), &["a.example"], false);
    let before = names(state.path());
    let mut given_up = Import::begin(Arc::new(RealDisk::new()), state.path(), Box::new(|_| Ok(()))).unwrap();
    let long = "x".repeat(4000);
    for n in 0..2_000 {
        given_up.add(&attribute(&format!("{n}{long}.example"), "")).unwrap().unwrap();
    }
    assert!(names(state.path()).iter().any(|name| name.starts_with("spool-")), "it had begun");
    let second = Import::begin(Arc::new(RealDisk::new()), state.path(), Box::new(|_| Ok(()))).unwrap_err();
    assert!(matches!(second, IntelError::Lock(LockError::Held { .. })), "{second}");
    drop(given_up);
    assert_eq!(names(state.path()), before);

    for name in ["spool-00", "filter-2.tmp", "mirror-2.tmp", "current.tmp", "filter-9"] {
        fs::write(folder(state.path()).join(name), "left by a kill").unwrap();
    }
    assert_eq!(load(state.path()).find(b"a.example").unwrap().len(), 1);
    assert_eq!(import(state.path(), &["b.example"], true).generation, 10, "no number is used twice");
    assert_eq!(names(state.path()), ["current", "filter-10", "lock", "mirror-10"]);
}

#[test]
fn a_damaged_file_is_named_with_its_remedy() {
    let state = tempfile::tempdir().unwrap();
    import(state.path(), &["a.example"], false);
    for name in ["current", "filter-1", "mirror-1"] {
        let path = folder(state.path()).join(name);
        let good = fs::read(&path).unwrap();
        let mut bytes = good.clone();
        let at = bytes.len() - 20;
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = Tables::load(&RealDisk::new(), state.path()).unwrap_err();
        let chain = format!("{error}: {}", std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default());
        assert!(chain.contains(name) && chain.contains("damaged") && chain.contains("run `shipper intel import` again"), "{chain}");
        fs::write(&path, good).unwrap();
    }
    fs::write(folder(state.path()).join("current"), "shipper-intel 9 crc32c=0\n").unwrap();
    let error = Tables::load(&RealDisk::new(), state.path()).unwrap_err().to_string();
    assert!(error.contains("has format 9, this build reads up to 1; upgrade shipper"), "{error}");
    assert_eq!(import(state.path(), &["b.example"], false).indicators, 1, "a new import mends it");
}
