//! The house rules that a machine can read: arrows between modules, addresses of heavy
//! dependencies, reasons beside dependencies, names, scripts that explain themselves.
//!
//! Reads the checkout's text, not its types: a path is `crate::…`, wherever it stands. Comments
//! and strings are blanked first, so that prose may name anything.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Outermost first. A module may name modules in later rows, never in its own or an earlier one.
const LAYERS: &[&[&str]] = &[
    &["cli"],
    &["topology"],
    &["sources", "handlers", "stages", "lookups", "reference", "sinks", "scan", "api"],
    &["net", "put_by"],
    &["store", "parcel"],
    &["alert", "batch", "framing", "ledger", "checkpoint", "dead_letter", "spool", "tables", "intel", "detect", "synth"],
    &["io"],
    &["ring"],
    &["metrics", "register"],
    &["clock", "hmac", "journal", "json", "limits", "position"],
];

/// Arrows within a row that are meant.
const ARROWS: &[(&str, &str, &str)] = &[("api", "scan", "the REST routes of the scan")];

/// Arrows within `sources`: every other one there is a mistake.
const SOURCE_ARROWS: &[(&str, &str)] = &[("wazuh", "file")];

/// Macros exported at the root of the crate; `crate::register!` names no module.
const MACROS: &[&str] = &["register!"];

/// A crate, and the only places below the root that may name it.
const ADDRESSES: &[(&str, &[&str])] = &[
    ("simd_json", &["src/alert/", "tools/"]),
    ("glommio", &["src/io/uring/"]),
    ("io_uring", &["src/io/probe.rs"]),
    ("rdkafka", &["src/net/kafka/", "tools/"]),
    ("crossbeam", &["src/ring/"]),
    ("flate2", &["src/sinks/file/", "src/sinks/influx/", "src/cli/apt/", "src/scan/buffer/"]),
    ("yara_x", &["src/scan/yara.rs", "benches/"]),
    ("yara_x", &["src/scan/yara.rs"]),
    ("tlsh2", &["src/scan/buffer/"]),
    ("seccompiler", &["src/scan/children/"]),
    ("inotify", &["src/io/watch.rs"]),
    ("argh", &["src/cli/", "src/main.rs", "tools/"]),
    ("anyhow", &["src/cli/", "src/main.rs", "tools/"]),
    ("mimalloc", &["src/main.rs", "tools/"]),
    ("axum", &["src/api/"]),
    ("idna", &["src/intel/"]),
    ("lapin", &["src/scan/queue/rabbitmq.rs"]),
    ("maxminddb", &["src/tables/geoip/"]),
    ("openssl", &["src/net/tls/"]),
    ("reqwest", &["src/net/http.rs"]),
    ("rsigma_eval", &["src/tables/sigma/rsigma.rs"]),
    ("rsigma_parser", &["src/tables/sigma/rsigma.rs"]),
    ("tract_onnx", &["src/tables/model/onnx.rs"]),
    ("lapin", &["src/scan/queue/rabbitmq.rs"]),
    ("redb", &["src/scan/tasks/"]),
    ("redis", &["src/net/redis.rs", "src/net/redis/", "src/sinks/mod.rs"]), // sinks has a module of that name
    ("rustls", &["src/net/", "src/api/scan/tests/"]),                       // a client, for the proof that TLS is spoken
    ("tokio_rustls", &["src/net/acceptor.rs"]),
    ("prometheus_client", &["src/metrics.rs", "src/metrics/", "src/api/"]),
    ("saphyr", &["src/register/", "src/cli/import/"]),
    ("sha1", &["src/scan/buffer/", "src/scan/suricata/"]),
    ("toml", &["src/register/", "src/cli/import/"]),
    ("sd_notify", &["src/cli/systemd.rs"]),
    ("tracing_subscriber", &["src/cli/log.rs"]),
    (
        "rustix",
        &[
            "src/io/",
            "src/api/",
            "src/scan/",
            "src/store/",
            "src/store.rs",
            "src/topology/",
            "src/cli/",
            "tools/",
            "src/sinks/",
            "src/net/",
        ],
    ),
];

/// The address of `unsafe`.
const UNSAFE: &[&str] = &["src/net/kafka/wake.rs"];

/// Names that say nothing of what is inside.
const LEFT_AT_THE_DOOR: &[&str] =
    &["util", "utils", "helper", "helpers", "common", "misc", "manager", "service", "engine", "processor", "wrapper", "tmp", "new2"];

/// Lines. Past this, a file has a second noun in it.
const LINES_MAX: usize = 900;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `dir` with that extension, as a path from the root, sorted.
fn files(dir: &str, extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![root().join(dir)];
    while let Some(at) = left.pop() {
        for entry in fs::read_dir(&at).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Rust text with comments, strings and character literals blanked, byte for byte.
fn code(rust: &str) -> String {
    let bytes = rust.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match literal_end(bytes, at) {
            Some(end) => end,
            None => {
                at += 1;
                continue;
            }
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Where the comment, string or character literal that begins at `at` ends, if one begins there.
fn literal_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let is_word_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest.starts_with(b"//") {
        return Some(at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()));
    }
    if rest.starts_with(b"/*") {
        let (mut depth, mut n) = (1, 2);
        while n < rest.len() && depth > 0 {
            match &rest[n..] {
                [b'*', b'/', ..] => (depth, n) = (depth - 1, n + 2),
                [b'/', b'*', ..] => (depth, n) = (depth + 1, n + 2),
                _ => n += 1,
            }
        }
        return Some(at + n);
    }
    let raw = rest.strip_prefix(b"b").unwrap_or(rest);
    if !is_word_before && raw.starts_with(b"r") {
        let hashes = raw[1..].iter().take_while(|byte| **byte == b'#').count();
        if raw.get(1 + hashes) == Some(&b'"') {
            let mut close = vec![b'"'];
            close.extend(std::iter::repeat_n(b'#', hashes));
            let body = at + (rest.len() - raw.len()) + 2 + hashes;
            let length = bytes[body..].windows(close.len()).position(|found| found == close);
            return Some(length.map_or(bytes.len(), |length| body + length + close.len()));
        }
    }
    if rest[0] == b'"' {
        return Some(at + quoted(rest, b'"'));
    }
    // A quote begins a character if a backslash follows or one character and a quote; else a lifetime.
    if rest[0] == b'\'' {
        let is_char = match std::str::from_utf8(&rest[1..rest.len().min(6)]) {
            Ok(next) => next.starts_with('\\') || next.chars().nth(1) == Some('\''),
            Err(error) => rest[1..1 + error.valid_up_to()].first() == Some(&b'\\') || rest.get(2) == Some(&b'\''),
        };
        return is_char.then(|| at + quoted(rest, b'\''));
    }
    None
}

/// Length of a quoted literal with backslash escapes.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut n = 1;
    while n < rest.len() && rest[n] != quote {
        n += if rest[n] == b'\\' { 2 } else { 1 };
    }
    (n + 1).min(rest.len())
}

/// The paths that follow `crate::`, a group `{a::…, b}` taken apart, down to `depth` names.
fn crate_paths(code: &str, depth: usize) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let is_word_before = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        if !is_word_before {
            take_path(&code[at + "crate::".len()..], &[], depth, &mut found);
        }
    }
    found
}

/// Reads one path or group; gives back how many bytes it took.
fn take_path(code: &str, before: &[String], depth: usize, found: &mut Vec<Vec<String>>) -> usize {
    let start = code.len() - code.trim_start().len();
    let rest = &code[start..];
    if rest.starts_with('{') {
        let mut at = 1;
        loop {
            at += take_path(&rest[at..], before, depth, found);
            match rest[at..].trim_start().chars().next() {
                Some(',') => at += rest[at..].find(',').unwrap() + 1,
                Some('}') => return start + at + rest[at..].find('}').unwrap() + 1,
                _ => return start + at,
            }
        }
    }
    let mut length = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
    if length == 0 {
        return start + usize::from(rest.starts_with('*'));
    }
    let mut path = before.to_vec();
    path.push(rest[..length].to_owned());
    if rest[length..].starts_with('!') {
        path.last_mut().unwrap().push('!');
    }
    if rest[length..].starts_with("::") {
        if path.len() < depth {
            return start + length + 2 + take_path(&rest[length + 2..], &path, depth, found);
        }
        // Deeper names do not matter, but a group must be stepped over.
        let mut rubbish = Vec::new();
        length += 2 + take_path(&rest[length + 2..], &[], depth, &mut rubbish);
    }
    found.push(path);
    let alias = rest[length..].trim_start();
    if let Some(name) = alias.strip_prefix("as ") {
        let end = name.find([',', '}', ';']).unwrap_or(name.len());
        return start + (rest.len() - name.len()) + end;
    }
    start + length
}

fn row_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

/// `src/io/uring/mod.rs` → `io`, `uring`; the second is empty for `src/io/mod.rs`.
fn module_of(file: &str) -> (String, String) {
    let mut names = file.trim_start_matches("src/").trim_end_matches(".rs").split('/').filter(|name| *name != "mod");
    (names.next().unwrap_or_default().to_owned(), names.next().unwrap_or_default().to_owned())
}

/// What is wrong with `module` naming `named`, if anything.
fn judge(module: &str, named: &str) -> Option<String> {
    let (Some(from), Some(to)) = (row_of(module), row_of(named)) else {
        return Some(format!("`{named}` has no row in LAYERS; give it one in tests/it/tidy.rs"));
    };
    let is_meant = ARROWS.iter().any(|(a, b, _)| (*a, *b) == (module, named));
    (module != named && to <= from && !is_meant)
        .then(|| format!("{module} names crate::{named}, which is in {} row", if to == from { "its own" } else { "an earlier" }))
}

#[track_caller]
fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn a_module_names_only_later_rows() {
    let mut wrong = Vec::new();
    for file in files("src", "rs").iter().filter(|file| !["src/lib.rs", "src/main.rs"].contains(&file.as_str())) {
        let (module, _) = module_of(file);
        if row_of(&module).is_none() {
            wrong.push(format!("{file}: module `{module}` has no row in LAYERS; give it one in tests/it/tidy.rs"));
            continue;
        }
        for path in crate_paths(&code(&text(file)), 1).iter().filter(|path| !MACROS.contains(&path[0].as_str())) {
            wrong.extend(judge(&module, &path[0]).map(|what| format!("{file}: {what}")));
        }
    }
    none(&wrong);
}

#[test]
fn components_of_one_folder_do_not_name_each_other() {
    let mut wrong = Vec::new();
    for folder in ["sources", "handlers", "stages", "lookups", "reference", "sinks"] {
        let names: Vec<String> = files(&format!("src/{folder}"), "rs").iter().map(|file| module_of(file).1).collect();
        for file in files(&format!("src/{folder}"), "rs") {
            let (_, own) = module_of(&file);
            if own.is_empty() {
                continue; // mod.rs lists them all
            }
            let code = code(&text(&file));
            let up = code.match_indices("super::").filter(|_| file == format!("src/{folder}/{own}.rs") || file.ends_with("/mod.rs"));
            let mut named = crate_paths(&code, 2)
                .into_iter()
                .filter(|path| path[0] == folder)
                .filter_map(|path| path.get(1).cloned())
                .collect::<Vec<_>>();
            for (at, _) in up {
                let mut found = Vec::new();
                take_path(&code[at + "super::".len()..], &[], 1, &mut found);
                named.extend(found.into_iter().flatten());
            }
            for name in named.iter().filter(|name| **name != own && names.contains(name)) {
                if !(folder == "sources" && SOURCE_ARROWS.contains(&(own.as_str(), name.as_str()))) {
                    wrong.push(format!("{file}: names its neighbour {folder}::{name}"));
                }
            }
        }
    }
    none(&wrong);
}

#[test]
fn a_heavy_dependency_has_one_address() {
    let mut wrong = Vec::new();
    for file in files("src", "rs").into_iter().chain(files("tools", "rs")) {
        let code = code(&text(&file));
        for (name, places) in ADDRESSES.iter().filter(|(_, places)| !places.iter().any(|place| file.starts_with(place))) {
            for (at, _) in code.match_indices(&format!("{name}::")) {
                if !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                    wrong.push(format!("{file}: names {name}; its address is {}", places.join(", ")));
                }
            }
        }
    }
    none(&wrong);
}

#[test]
fn unsafe_has_one_address() {
    let is_unsafe = |code: &str| code.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == "unsafe");
    let wrong: Vec<String> = ["src", "tests", "benches", "tools"]
        .iter()
        .flat_map(|dir| files(dir, "rs"))
        .filter(|file| !UNSAFE.contains(&file.as_str()) && is_unsafe(&code(&text(file))))
        .map(|file| format!("{file}: has `unsafe`; its address is {}", UNSAFE.join(", ")))
        .collect();
    none(&wrong);
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let manifest = text("Cargo.toml");
    let mut section = "";
    let mut seen = 0;
    let mut wrong = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.contains("dependencies") && line.contains('=') && !line.trim_start().starts_with('#') {
            seen += 1;
            let reason = line.rsplit_once(" # ").map_or("", |(_, reason)| reason);
            if reason.len() < 10 {
                wrong.push(format!("Cargo.toml: `{}` has no reason", line.split('=').next().unwrap().trim()));
            }
        }
    }
    assert!(seen > 20, "only {seen} dependencies found: the manifest is not read right");
    none(&wrong);
}

#[test]
fn a_name_says_what_is_inside() {
    let mut wrong = Vec::new();
    for file in ["src", "tests", "benches", "tools"].iter().flat_map(|dir| files(dir, "rs").into_iter().chain(files(dir, "sh"))) {
        for name in file.split(['/', '.']).filter(|name| LEFT_AT_THE_DOOR.contains(name)) {
            wrong.push(format!("{file}: `{name}` says nothing of what is inside"));
        }
        let code = if file.ends_with(".rs") { code(&text(&file)) } else { String::new() };
        for name in LEFT_AT_THE_DOOR.iter().filter(|name| code.contains(&format!("mod {name} "))) {
            wrong.push(format!("{file}: module `{name}` says nothing of what is inside"));
        }
    }
    none(&wrong);
}

#[test]
fn no_file_is_longer_than_anyone_reads() {
    let long = |file: &String| text(file).lines().count();
    let wrong: Vec<String> = files("src", "rs")
        .into_iter()
        .filter(|file| long(file) > LINES_MAX)
        .map(|file| format!("{file}: {} lines; look for the second noun in it", long(&file)))
        .collect();
    none(&wrong);
}

#[test]
fn every_module_opens_with_what_it_is() {
    let wrong: Vec<String> = files("src", "rs")
        .into_iter()
        .filter(|file| file != "src/main.rs" && !text(file).starts_with("//!"))
        .map(|file| format!("{file}: does not open with a sentence (`//!`)"))
        .collect();
    none(&wrong);
}

/// Scripts of `tools/`: files with a first line that names a shell.
fn scripts() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(root().join("tools")).unwrap().flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    found.retain(|path| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"#!")));
    found.sort();
    found
}

#[test]
fn every_script_explains_itself() {
    let scripts = scripts();
    assert!(scripts.len() >= 5, "only {} scripts found in tools/", scripts.len());
    let mut wrong = Vec::new();
    for script in scripts {
        let said = Command::new(&script)
            .arg("--help")
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        let name = format!("tools/{}", script.file_name().unwrap().to_string_lossy());
        let help = String::from_utf8_lossy(&said.stdout);
        if !said.status.success() || !help.contains(&name) {
            wrong.push(format!("{name} --help ends with {} and says: {help}", said.status));
        }
    }
    none(&wrong);
}

#[test]
fn continuous_integration_only_calls_our_own_door() {
    let run = text(".ci/run");
    let lines: Vec<&str> = run.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()).collect();
    assert!(matches!(lines[..], [line] if line.contains("/tools/test")), "{lines:?}");
}

#[test]
fn the_reader_of_paths_sees_groups_and_is_not_fooled_by_prose() {
    let cases: &[(&str, &[&str])] = &[
        ("use crate::io::Slab;", &["io"]),
        ("use crate::{io::{Slab, SlabPool}, ring as r, clock};", &["io", "ring", "clock"]),
        ("use crate::{\n    a::{b::{c, d}, e},\n    f::*,\n};\nlet x = crate::g::h();", &["a", "f", "g"]),
        ("pub(crate) fn f(x: &crate::io::Slab) {}", &["io"]),
        ("// crate::cli\n/* crate::cli /* crate::cli */ crate::cli */", &[]),
        ("let s = \"crate::cli \\\" crate::cli\"; let r = r#\"crate::cli \"#; let b = b\"crate::cli\";", &[]),
        ("fn f<'a>(c: char) -> &'a str { let q = '\"'; crate::io::f('\\'', \"x\") }", &["io"]),
        ("crate::register! { Kind: }", &["register!"]),
        ("use mycrate::io; $crate::cli::x()", &[]),
    ];
    for (rust, expected) in cases {
        let found: Vec<String> = crate_paths(&code(rust), 1).into_iter().map(|mut path| path.remove(0)).collect();
        assert_eq!(found, *expected, "{rust}");
    }
    let deeper = crate_paths("use crate::sources::{file::Tail, wazuh};", 2);
    assert_eq!(deeper, [["sources", "file"], ["sources", "wazuh"]]);
}

#[test]
fn an_arrow_upwards_or_sideways_is_refused() {
    let verdicts: BTreeMap<(&str, &str), bool> =
        [("cli", "io"), ("io", "cli"), ("sinks", "handlers"), ("api", "scan"), ("scan", "api"), ("io", "io"), ("io", "nowhere")]
            .map(|(from, to)| ((from, to), judge(from, to).is_none()))
            .into();
    let allowed: Vec<_> = verdicts.iter().filter(|(_, is_allowed)| **is_allowed).map(|(pair, _)| *pair).collect();
    assert_eq!(allowed, [("api", "scan"), ("cli", "io"), ("io", "io")]);
}
