//! The public rules and made-up samples that tests scan: `SHIPPER_CORPUS/yara`, by default beside the checkout.

#![allow(clippy::disallowed_methods, reason = "tests read files and the environment")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::scan::{
    rules::{self, RulesView},
    settings,
    yara::{self, Set},
};

/// The corpus, if it is there; else says so, and the caller's test ends.
pub(crate) fn dir() -> Option<PathBuf> {
    let folder =
        std::env::var_os("SHIPPER_CORPUS").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"), PathBuf::from);
    let dir = folder.join("yara");
    if dir.join("expected.jsonl").is_file() {
        return Some(dir);
    }
    eprintln!("skipped: no corpus at {}; SHIPPER_CORPUS says where it is", dir.display());
    None
}

/// A folder with all samples, made once.
pub(crate) fn samples() -> Option<&'static Path> {
    static MADE: OnceLock<Option<tempfile::TempDir>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let script = dir()?.join("gen_samples.py");
        let out = tempfile::tempdir().unwrap();
        match Command::new("python3").arg(script).arg(out.path()).arg("--big").status() {
            Ok(status) => assert!(status.success(), "gen_samples.py: {status}"),
            Err(error) => {
                eprintln!("skipped: python3 makes the samples: {error}");
                return None;
            }
        }
        Some(out)
    });
    made.as_ref().map(tempfile::TempDir::path)
}

/// What `expected.jsonl` says of each sample.
pub(crate) fn expected() -> Vec<serde_json::Value> {
    let text = fs::read_to_string(dir().unwrap().join("expected.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Rule files below `only`, without those that are meant to be broken; each under its own path.
pub(crate) fn copy_of(only: &str) -> tempfile::TempDir {
    let (from, to) = (dir().unwrap(), tempfile::tempdir().unwrap());
    copy(&from, &from.join(only), to.path());
    to
}

fn copy(base: &Path, from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let rel = path.strip_prefix(base).unwrap();
        if path.is_dir() {
            if rel != Path::new("own/bad") {
                copy(base, &path, to);
            }
        } else {
            fs::create_dir_all(to.join(rel).parent().unwrap()).unwrap();
            fs::write(to.join(rel), fs::read(&path).unwrap()).unwrap();
        }
    }
}

/// Loads, compiles, and opens what a scan child would.
pub(crate) fn set(paths: &[PathBuf]) -> Set {
    let compiled = yara::compile(&rules::load(paths), settings::Rules::default().relaxed).unwrap();
    Set::open(rules::compiled::Compiled::from_bytes(&compiled.to_bytes().unwrap()).unwrap()).unwrap()
}

/// A set of one text.
pub(crate) fn set_of(text: &str) -> Set {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("t.yar"), text).unwrap();
    set(&[dir.path().to_owned()])
}

/// Codes of errors by file name, and whether they cost rules; by file and line.
pub(crate) fn codes(view: &RulesView) -> Vec<(String, String, bool)> {
    let name = |file: &str| Path::new(file).file_name().unwrap().to_string_lossy().into_owned();
    view.errors.iter().map(|error| (name(&error.file), error.code.clone(), !error.harmless)).collect()
}
