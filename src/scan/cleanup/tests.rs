//! The plan by a table and by what must hold of any; removals on real folders.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, reason = "tests state what must hold")]
#![allow(clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
};

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;
use crate::scan::{
    outcome::Verdict::{Clean, Error, Matched, Skipped},
    settings::Root,
    task::Identity,
};

const HOUR: Nanos = 3_600_000_000_000;
const NOW: Nanos = 1000 * HOUR;

fn candidate(verdict: Option<super::super::outcome::Verdict>, partial: bool, hours: u64) -> Candidate {
    Candidate {
        root: "zeek".into(),
        path: RelPath(b"x".to_vec()),
        identity: Identity { dev: 1, inode: 2, size: 100, mtime_ns: 3 },
        verdict,
        partial,
        sha256: String::new(),
        ended_at: verdict.map(|_| NOW - hours * HOUR),
    }
}

fn root(name: &str, path: PathBuf, watch: bool) -> Root {
    Root { name: name.into(), path, watch, depth: 1 }
}

fn watched() -> Vec<Root> {
    vec![root("zeek", "/zeek".into(), true), root("other", "/other".into(), false)]
}

#[test]
fn age_and_outcome_decide() {
    let with = Cleanup { quarantine: Some("/q".into()), ..Cleanup::default() };
    let cases = [
        (candidate(Some(Clean), false, 23), Err("young")),
        (candidate(Some(Clean), false, 24), Ok(Way::Delete)),
        (candidate(Some(Skipped), false, 24), Ok(Way::Delete)),
        (candidate(Some(Matched), false, 167), Err("young")),
        (candidate(Some(Matched), false, 168), Ok(Way::Quarantine)),
        (candidate(Some(Clean), true, 999), Err("partial")),
        (candidate(Some(Matched), true, 999), Err("partial")),
        (candidate(Some(Error), false, 999), Err("error")),
        (candidate(None, false, 999), Err("no_outcome")),
        (Candidate { root: "other".into(), ..candidate(Some(Clean), false, 999) }, Err("not_watched")),
        (Candidate { root: "upload".into(), ..candidate(Some(Clean), false, 999) }, Err("not_watched")),
        // A clock that was set back makes nothing old.
        (Candidate { ended_at: Some(NOW + HOUR), ..candidate(Some(Clean), false, 0) }, Err("young")),
    ];
    for (candidate, expected) in cases {
        let plan = plan(std::slice::from_ref(&candidate), &watched(), &[], &with, NOW);
        let found = plan.steps.first().map(|step| step.way).ok_or_else(|| *plan.kept.keys().next().unwrap());
        assert_eq!((found, plan.steps.len() + plan.kept.len()), (expected, 1), "{candidate:?}");
    }
    let matched = [candidate(Some(Matched), false, 168)];
    assert_eq!(plan(&matched, &watched(), &[], &Cleanup::default(), NOW).steps[0].way, Way::Delete);
}

#[test]
fn a_full_disk_takes_the_oldest_clean_files() {
    let mut files: Vec<Candidate> = [5, 1, 9, 3, 7].map(|hours| candidate(Some(Clean), false, hours)).into();
    files.push(candidate(Some(Matched), false, 100));
    files.push(candidate(Some(Clean), true, 20));
    let steps = |used: u64| {
        let disk = Disk { dev: 1, used, available: 1000 - used };
        plan(&files, &watched(), &[disk], &Cleanup::default(), NOW).steps.iter().map(|step| step.candidate).collect::<Vec<_>>()
    };
    assert!(steps(899).is_empty(), "below disk_critical");
    assert_eq!(steps(900), [2], "down to disk_warn: 100 bytes");
    assert_eq!(steps(901), [2, 4]);
    assert_eq!(steps(1000), [2, 4], "to 800");
    let elsewhere = Disk { dev: 9, used: 1000, available: 0 };
    assert!(plan(&files, &watched(), &[elsewhere], &Cleanup::default(), NOW).steps.is_empty(), "another disk is full");
    assert_eq!(Disk { dev: 1, used: 1, available: 3 }.percent(), 25.0);
    assert_eq!(Disk { dev: 1, used: 0, available: 0 }.percent(), 0.0);
}

proptest! {
    #[test]
    fn a_plan_keeps_its_promises(
        files in prop::collection::vec((0..6u8, any::<bool>(), 0..200u64, 1..50u64, 1..3u64), 0..30),
        used in 0..1000u64, is_quarantined in any::<bool>(),
    ) {
        let files: Vec<Candidate> = files.into_iter().map(|(kind, partial, hours, size, dev)| {
            let verdict = [Some(Clean), Some(Clean), Some(Matched), Some(Skipped), Some(Error), None][usize::from(kind)];
            let mut candidate = candidate(verdict, partial, hours);
            (candidate.identity.size, candidate.identity.dev) = (size, dev);
            candidate
        }).collect();
        let settings = Cleanup { quarantine: is_quarantined.then(|| "/q".into()), ..Cleanup::default() };
        let disk = Disk { dev: 1, used, available: 1000 - used };
        let plan = plan(&files, &watched(), &[disk], &settings, NOW);
        let age = |number: usize| (NOW - files[number].ended_at.unwrap()) / HOUR;
        let goes: BTreeSet<usize> = plan.steps.iter().map(|step| step.candidate).collect();
        prop_assert_eq!(goes.len(), plan.steps.len(), "each once");
        prop_assert_eq!(goes.len() as u64 + plan.kept.values().sum::<u64>(), files.len() as u64, "nothing is uncounted");
        for step in &plan.steps {
            let file = &files[step.candidate];
            prop_assert!(!file.partial && !matches!(file.verdict, None | Some(Error)));
            let hours = if file.verdict == Some(Matched) { 168 } else { 24 };
            prop_assert_eq!(step.why == Why::Age, age(step.candidate) >= hours);
            prop_assert!(step.why == Why::Age || file.verdict != Some(Matched));
            prop_assert_eq!(step.way == Way::Quarantine, is_quarantined && file.verdict == Some(Matched));
        }
        // Naively: take clean files of that disk, the oldest first, until enough has gone.
        let goes_by_age = |number: &usize| plan.steps.iter().any(|step| step.candidate == *number && step.why == Why::Age);
        let is_spare = |number: &usize| {
            let file = &files[*number];
            !file.partial && matches!(file.verdict, Some(Clean | Skipped)) && file.identity.dev == 1 && !goes_by_age(number)
        };
        let mut left = used - plan.steps.iter().filter(|step| step.why == Why::Age && step.way == Way::Delete)
            .map(|step| &files[step.candidate].identity).filter(|file| file.dev == 1).map(|file| file.size).sum::<u64>().min(used);
        let mut expected = Vec::new();
        let mut spare: Vec<usize> = (0..files.len()).filter(is_spare).collect();
        spare.sort_by_key(|number| (std::cmp::Reverse(age(*number)), *number));
        for number in spare {
            if used >= 900 && left > 800 {
                left -= files[number].identity.size.min(left);
                expected.push(number);
            }
        }
        let by_disk: Vec<usize> = plan.steps.iter().filter(|step| step.why == Why::DiskFull).map(|step| step.candidate).collect();
        prop_assert_eq!(by_disk, expected);
    }
}

/// Real files, old enough to go.
struct Site {
    dir: tempfile::TempDir,
    roots: Roots,
    settings: Vec<Root>,
    candidates: Vec<Candidate>,
}

impl Site {
    fn new(files: &[(&str, super::super::outcome::Verdict)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("zeek");
        fs::create_dir_all(at.join("node")).unwrap();
        let settings = vec![root("zeek", at.clone(), true)];
        let roots = Roots::open(&settings).unwrap();
        let mut candidates = Vec::new();
        for (name, verdict) in files {
            fs::write(at.join(name), name).unwrap();
            let path = RelPath(name.as_bytes().to_vec());
            candidates.push(Candidate {
                identity: roots.look("zeek", &path).unwrap().unwrap(),
                path,
                sha256: Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect(),
                ..candidate(Some(*verdict), false, 999)
            });
        }
        Self { dir, roots, settings, candidates }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join("zeek").join(name)
    }

    fn names(&self) -> Vec<String> {
        let found = self.roots.walk("zeek", &RelPath::default(), 100).unwrap();
        found.iter().map(|(path, _)| path.lossy().into_owned()).collect()
    }

    fn round(&self, quarantine: Option<&Quarantine>, is_dry: bool, audit: impl FnMut(&[Entry]) -> Result<(), String>) -> Report {
        let settings = Cleanup { quarantine: quarantine.map(|_| "/q".into()), ..Cleanup::default() };
        let plan = plan(&self.candidates, &self.settings, &disks(&self.roots), &settings, NOW);
        carry_out(&plan, &self.candidates, &self.roots, quarantine, is_dry, NOW, audit)
    }
}

#[test]
fn what_is_not_what_was_scanned_stays() {
    let files = ["same", "node/same too", "written", "replaced", "linked", "folder", "away", "node/away"];
    let site = Site::new(&files.map(|name| (name, Clean)));
    fs::write(site.at("written"), "another length").unwrap();
    fs::write(site.at("new"), "replaced").unwrap();
    fs::rename(site.at("new"), site.at("replaced")).unwrap();
    fs::remove_file(site.at("linked")).unwrap();
    fs::write(site.dir.path().join("outside"), "outside").unwrap();
    symlink(site.dir.path().join("outside"), site.at("linked")).unwrap();
    fs::remove_file(site.at("folder")).unwrap();
    fs::create_dir(site.at("folder")).unwrap();
    fs::remove_file(site.at("away")).unwrap();
    fs::remove_file(site.at("node/away")).unwrap();
    let mut entries = Vec::new();
    let dry = site.round(None, true, |_| panic!("a dry round has no audit"));
    assert_eq!((dry.removed, site.names().len(), dry.gone.len()), (2, 4, 2));
    let report = site.round(None, false, |new| {
        entries.extend_from_slice(new);
        Ok(())
    });
    assert_eq!(site.names(), ["replaced", "written"]);
    assert!(site.dir.path().join("outside").exists() && site.at("linked").is_symlink() && site.at("folder").is_dir());
    assert_eq!((report.processed, report.removed, report.quarantined), (8, 2, 0));
    assert_eq!(report.kept, BTreeMap::from([("changed", 4)]));
    assert_eq!(report.gone.len(), 4, "removed, or gone by themselves");
    assert!(report.freed > 0 && report.errors.is_empty(), "{report:?}");
    let told: Vec<_> = entries.iter().map(|entry| (entry.action, entry.path.lossy().into_owned(), entry.size)).collect();
    assert_eq!(told, [("delete", "same".to_owned(), 4), ("delete", "node/same too".to_owned(), 13)]);
    let shown = serde_json::to_value(&entries[0]).unwrap();
    for (name, expected) in
        [("by", "cleanup"), ("file_path", "same"), ("verdict", "clean"), ("why", "age"), ("time", "1970-02-11T16:00:00.000Z")]
    {
        assert_eq!(shown[name], expected, "{name}");
    }
}

#[test]
fn nothing_goes_without_an_audit() {
    let site = Site::new(&[("a", Clean), ("b", Clean)]);
    let report = site.round(None, false, |_| Err("the disk is full".into()));
    assert_eq!((site.names(), report.removed), (vec!["a".to_owned(), "b".to_owned()], 0));
    assert_eq!(report.kept, BTreeMap::from([("no_audit", 2)]));
    assert!(report.errors[0].contains("the disk is full"), "{report:?}");
    assert_eq!(report.json()["success"], false);
}

#[test]
fn a_removal_that_fails_is_in_the_audit_too() {
    let site = Site::new(&[("a", Clean), ("b", Clean)]);
    let mut actions = Vec::new();
    let report = site.round(None, false, |entries| {
        // Somebody writes between the audit and the removal.
        if actions.is_empty() {
            fs::write(site.at("a"), "written meanwhile").unwrap();
        }
        actions.extend(entries.iter().map(|entry| (entry.action, entry.path.lossy().into_owned())));
        Ok(())
    });
    assert_eq!(actions, [("delete", "a".to_owned()), ("delete", "b".to_owned()), ("failed", "a".to_owned())]);
    assert_eq!((site.names(), report.removed, report.errors.len()), (vec!["a".to_owned()], 1, 1));
}

#[test]
fn matched_files_go_into_the_quarantine() {
    let mut site = Site::new(&[("a", Matched), ("node/b", Matched), ("c", Clean), ("d", Matched)]);
    site.candidates[3].sha256 = "0".repeat(64); // not what is in the file
    let path = site.dir.path().join("quarantine");
    let quarantine = Quarantine::open(&path, &site.roots).unwrap();
    let report = site.round(Some(&quarantine), false, |_| Ok(()));
    assert_eq!((report.removed, report.quarantined), (3, 2), "{report:?}");
    assert_eq!((site.names(), &report.kept), (vec!["d".to_owned()], &BTreeMap::from([("changed", 1)])));
    let mut kept: Vec<String> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    kept.sort();
    let mut expected = vec![site.candidates[0].sha256.clone(), site.candidates[1].sha256.clone()];
    expected.sort();
    assert_eq!(kept, expected);
    for (n, bytes) in [(0, "a"), (1, "node/b")] {
        let file = path.join(&site.candidates[n].sha256);
        assert_eq!(fs::read_to_string(&file).unwrap(), bytes);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o400);
    }
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700);
    // The same bytes once more, over a copy that a crash left half written.
    quarantine.keep(&site.candidates[0].sha256, b"a").unwrap();
    fs::write(path.join(format!(".new-{}", "1".repeat(64))), "half").unwrap();
    quarantine.keep(&"1".repeat(64), b"whole").unwrap();
    assert_eq!(fs::read_to_string(path.join("1".repeat(64))).unwrap(), "whole");
    assert_eq!(fs::read_dir(&path).unwrap().count(), 3);

    // The plan wants one that could not be opened: matched files stay.
    let site = Site::new(&[("a", Matched)]);
    let settings = Cleanup { quarantine: Some("/q".into()), ..Cleanup::default() };
    let planned = plan(&site.candidates, &site.settings, &[], &settings, NOW);
    let dry = carry_out(&planned, &site.candidates, &site.roots, None, true, NOW, |_| Ok(()));
    assert_eq!((dry.removed, dry.quarantined, dry.kept.len()), (1, 1, 0));
    let report = carry_out(&planned, &site.candidates, &site.roots, None, false, NOW, |_| Ok(()));
    assert_eq!((site.names().len(), report.kept), (1, BTreeMap::from([("no_quarantine", 1)])));
}

#[test]
fn a_quarantine_is_ours_alone() {
    let site = Site::new(&[]);
    let dir = &site.dir;
    let told = |path: &std::path::Path| Quarantine::open(path, &site.roots).map(|_| ()).unwrap_err().to_string();
    let open = dir.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o750)).unwrap();
    assert!(told(&open).contains("chmod 0700"));
    let link = dir.path().join("link");
    let real = dir.path().join("real");
    Quarantine::open(&real, &site.roots).unwrap();
    symlink(&real, &link).unwrap();
    assert!(told(&link).contains("cannot use the quarantine folder"));
    let zeek = dir.path().join("also zeek");
    symlink(site.at(""), &zeek).unwrap();
    for inside in [site.at("q"), site.at("node/../q"), zeek.join("q"), site.at("")] {
        assert!(told(&inside).contains("is below a scan root"), "{}", inside.display());
    }
    assert!(told(&dir.path().join("no/where")).contains("cannot use the quarantine folder"));
}

#[test]
fn a_root_that_is_away_keeps_its_files_known() {
    let site = Site::new(&[("a", Clean)]);
    fs::rename(site.at(""), site.dir.path().join("elsewhere")).unwrap();
    let report = site.round(None, false, |_| Ok(()));
    assert_eq!((report.gone.len(), report.errors.len()), (0, 1), "{report:?}");
}

#[test]
fn totals_count_what_was_done() {
    let site = Site::new(&[("a", Clean), ("b", Clean)]);
    let mut totals = Totals::default();
    totals.add(&site.round(None, true, |_| Ok(())));
    assert_eq!(totals, Totals::default());
    totals.add(&site.round(None, false, |_| Ok(())));
    let shown = totals.json(&Cleanup::default(), false, fullest(&disks(&site.roots)));
    assert_eq!((&shown["files_deleted"], &shown["total_cleanups"]), (&json!(2), &json!(1)));
    assert_eq!(shown["last_cleanup"], "1970-02-11T16:00:00.000Z");
    assert_eq!(shown["configuration"]["retention_matched_hours"], 168);
    let percent = shown["disk_usage"]["usage_percent"].as_f64().unwrap();
    assert!((0.0..=100.0).contains(&percent), "{shown}");
}
