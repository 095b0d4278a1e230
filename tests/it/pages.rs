//! What we tell people, held against what is there: links, metrics, log lines, commands, the unit.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// README.md, CHANGELOG.md and every page below docs/.
fn pages() -> Vec<(PathBuf, String)> {
    let mut pages = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            match entry.is_dir() {
                true => folders.push(entry),
                false if entry.extension().is_some_and(|e| e == "md") => pages.push(entry),
                false => {}
            }
        }
    }
    assert!(pages.len() > 8, "{pages:?}");
    pages.into_iter().map(|path| (path.clone(), text(&path))).collect()
}

/// All source code in one.
fn source() -> String {
    let mut all = String::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            match entry.is_dir() {
                true => folders.push(entry),
                false if entry.extension().is_some_and(|e| e == "rs") => all += &text(&entry),
                false => {}
            }
        }
    }
    all
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let mut seen = 0;
    for (page, text) in pages() {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|target| !target.contains("://")) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { page.clone() } else { page.parent().expect("a folder").join(file) };
            assert!(file.exists(), "{}: {target} leads nowhere", page.display());
            if !anchor.is_empty() {
                let headline = |line: &str| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
                let found = self::text(&file).lines().any(|line| line.starts_with('#') && headline(line) == anchor);
                assert!(found, "{}: {target} names no headline", page.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 10, "only {seen} links found");
}

#[test]
fn every_metric_that_a_page_names_is_told() {
    let source = source();
    let mut named = BTreeSet::new();
    for (_, text) in pages() {
        let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
        let metrics = words.filter(|word| word.starts_with("shipper_") && word.len() > "shipper_".len());
        named.extend(metrics.map(|word| word.strip_suffix("_total").unwrap_or(word).to_owned()));
    }
    assert!(named.len() > 8, "{named:?}");
    let unknown: Vec<_> = named.iter().filter(|name| !source.contains(&format!("\"{name}\""))).collect();
    assert!(unknown.is_empty(), "no such metric: {unknown:?}");
}

#[test]
fn every_log_line_that_is_explained_can_be_written() {
    let (source, page) = (source(), text(&root().join("docs/OPERATING.md")));
    let table = page.split("## What a log line means").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("the table");
    let mut seen = 0;
    for line in table.lines().filter(|line| line.starts_with("| `")) {
        let cell = line.split('`').nth(1).expect("a cell");
        for piece in cell.split('…').map(str::trim).filter(|piece| !piece.is_empty()) {
            assert!(source.contains(piece.trim_end_matches('=')), "nothing logs {piece:?}");
        }
        seen += 1;
    }
    assert!(seen > 10, "only {seen} lines found");
}

/// The commands that `shipper --help` lists.
fn commands() -> Vec<String> {
    let help = Command::new(env!("CARGO_BIN_EXE_shipper")).arg("--help").output().expect("it runs");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let listed = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("commands");
    // A wrapped description stands further to the right than a name.
    let named = listed.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    named.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn the_man_page_names_every_command_and_no_other() {
    let page = text(&root().join("packaging/man/shipper.8"));
    let section = page.split(".SH COMMANDS").nth(1).and_then(|rest| rest.split(".SH ").next()).expect("the section");
    let mut told: Vec<String> = section.lines().filter_map(|line| line.strip_prefix(".B ")).map(|name| name.replace('\\', "")).collect();
    let mut known = commands();
    told.sort();
    known.sort();
    assert_eq!(told, known);
}

#[test]
fn every_command_that_a_page_names_is_one() {
    let mut known = commands();
    // What an agent starts, and nobody else: help does not list it.
    known.push("scan-child".into());
    let mut seen = BTreeSet::new();
    for (page, text) in pages() {
        for quoted in text.split('`').skip(1).step_by(2).chain(text.lines()) {
            let Some(word) = quoted.strip_prefix("shipper ").and_then(|rest| rest.split_whitespace().next()) else { continue };
            let is_command = word.len() > 2 && word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with("--");
            if is_command && quoted.len() < 120 {
                assert!(known.iter().any(|name| name == word), "{}: no command {word:?} in {quoted:?}", page.display());
                seen.insert(word.to_owned());
            }
        }
    }
    assert!(seen.len() > 5, "{seen:?}");
}

#[test]
fn the_unit_and_the_agent_agree() {
    let unit = text(&root().join("packaging/shipper.service"));
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(&format!("{key}="))).map(str::to_owned);
    let run = text(&root().join("src/cli/systemd.rs"));
    assert_eq!(value("Type").as_deref(), Some("notify"));
    assert!(run.contains("NotifyState::Ready"), "Type=notify waits for it");
    // Without somebody who answers, a watchdog would kill a healthy agent once a minute.
    assert_eq!(value("WatchdogSec").is_some(), source().contains("NotifyState::Watchdog"));
    assert_eq!(value("RestartPreventExitStatus").as_deref(), Some("64 78"), "usage and config do not mend themselves");
    let seconds = value("TimeoutStopSec").and_then(|v| v.strip_suffix('s')?.parse::<u64>().ok()).expect("seconds");
    let globals = shipper::topology::globals::GLOBALS;
    let drain = globals.iter().find(|field| field.name == "drain_for").and_then(|field| field.default).expect("a default");
    let drain = shipper::register::section::parse_span(drain.trim_matches('"')).expect("a span").as_secs();
    assert!(seconds > 2 * drain, "a stop may take twice {drain} s, systemd kills after {seconds} s");
}
