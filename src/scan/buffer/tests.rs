//! One buffer with real rules: the rows of the corpus, limits, filters, what is known already.

#![allow(clippy::disallowed_methods, reason = "tests read samples")]

use super::*;

#[test]
fn extensions_are_those_of_names() {
    for (name, expected) in [("a.EXE", ".exe"), ("a.jpg.exe", ".exe"), ("a", ""), (".hidden", ""), ("..", ""), (".a.b", ".b"), ("a.", ".")]
    {
        assert_eq!(extension(name), expected, "{name}");
    }
    let names = Names::of("/root/sub/Setup.EXE", "");
    assert_eq!((names.filename.as_str(), names.filepath.as_str(), names.extension.as_str()), ("Setup.EXE", "/root/sub", ".exe"));
}

#[cfg(feature = "scan")]
mod with_rules {
    use std::{cell::Cell, fs, path::Path};

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        clock::SystemClock,
        scan::{corpus, yara::Set},
    };

    fn limits() -> Limits {
        Limits::from(&settings::Settings::default())
    }

    fn job(path: &str) -> Job {
        serde_json::from_value(json!({"task_id": "t", "root": "r", "root_path": "/zeek/extract_files", "file_path": path})).unwrap()
    }

    /// No cache.
    struct Alone;

    impl Surroundings for Alone {
        fn cached(&mut self, _: &str, _: u64, _: &str) -> Option<Outcome> {
            None
        }
        fn unpacking(&mut self) {}
    }

    fn scan_with(set: &Set, name: &str, bytes: &[u8], limits: &Limits) -> Outcome {
        let rules = settings::Rules { matches_max: limits.matches_max, ..settings::Rules::default() };
        scan(bytes, &job(name), limits, &mut set.scanners(&rules), &mut Alone, &SystemClock::new())
    }

    fn names(matches: &[Match]) -> Vec<String> {
        matches.iter().map(|found| format!("{}:{}", found.namespace, found.rule)).collect()
    }

    fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
        crate::scan::buffer::unpack::tests::zip(members)
    }

    #[test]
    fn every_sample_has_the_matches_of_its_row() {
        let Some(samples) = corpus::samples() else { return };
        let corpus = corpus::dir().unwrap();
        let (own, all) = (corpus::copy_of("own"), corpus::copy_of(""));
        let sets = [
            ("own", corpus::set(&[own.path().to_owned()])),
            ("upstream", corpus::set(&[corpus.join("upstream/index.yar")])),
            ("all", corpus::set(&[all.path().to_owned()])),
        ];
        let limits = Limits { file_bytes_max: 64 << 20, depth_max: 0, ..limits() };
        let mut wrong = Vec::new();
        let rows = corpus::expected();
        for row in &rows {
            let name = row["sample"].as_str().unwrap();
            let bytes = fs::read(samples.join(name)).unwrap();
            for (label, set) in &sets {
                let is_timeout = row[label] == "timeout";
                let limits = Limits { timeout_s: if is_timeout { 1 } else { 120 }, ..limits.clone() };
                let outcome = scan_with(set, name, &bytes, &limits);
                // Files under another zlib are other bytes.
                if row["bytes_depend_on_zlib"] != true {
                    let hashes = (json!(outcome.md5), json!(outcome.sha1), json!(outcome.sha256), json!(outcome.size));
                    assert_eq!(hashes, (row["md5"].clone(), row["sha1"].clone(), row["sha256"].clone(), row["size"].clone()), "{name}");
                }
                if is_timeout {
                    assert!(outcome.partial && outcome.reasons.contains(&Reason::Timeout), "{name}: {:?}", outcome.reasons);
                    continue;
                }
                let found: Vec<String> = names(&outcome.matches).iter().map(|found| found.replace("index:", "default:")).collect();
                if json!(found) != row[label] {
                    wrong.push(format!("{name}, {label}: {found:?}, expected {}", row[label]));
                }
            }
        }
        assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    }

    /// Expected members as (depth, name, size, SHA-256 or reason), depth first.
    fn flat(rows: &Value, into: &mut Vec<(u64, String, Value, String)>) {
        for row in rows.as_array().unwrap() {
            let answer = row.get("sha256").or(row.get("refused")).unwrap().as_str().unwrap();
            let size = row.get("size").filter(|_| row.get("sha256").is_some()).cloned().unwrap_or(json!(0));
            into.push((row["depth"].as_u64().unwrap(), row["name"].as_str().unwrap().into(), size, answer.into()));
            if let Some(children) = row.get("children") {
                flat(children, into);
            }
        }
    }

    #[test]
    fn every_archive_has_the_members_of_its_row() {
        let Some(samples) = corpus::samples() else { return };
        let set = corpus::set_of("rule never { condition: false }");
        // What the rows were made with.
        let limits = Limits { depth_max: 8, children_max: 100_000, bytes_max: 1 << 30, ratio_max: 100_000, timeout_s: 300, ..limits() };
        let mut seen = 0;
        for row in corpus::expected().iter().filter(|row| row.get("children").is_some()) {
            let name = row["sample"].as_str().unwrap();
            let mut expected = Vec::new();
            let only = row["children"].get("first");
            flat(only.unwrap_or(&row["children"]), &mut expected);
            let limits = if only.is_some() { Limits { children_max: 3, ..limits.clone() } } else { limits.clone() };
            let outcome = scan_with(&set, name, &fs::read(samples.join(name)).unwrap(), &limits);
            let found: Vec<_> = outcome
                .children
                .iter()
                .map(|child| {
                    let reason = child.reasons.iter().find(|reason| **reason != Reason::LimitDepth);
                    let reason = reason.map(|reason| json!(reason).as_str().unwrap().replace("refused", "not_a_file"));
                    let size = if reason.is_some() { 0 } else { child.size };
                    (u64::from(child.depth), child.name.clone(), json!(size), reason.unwrap_or(child.sha256.clone()))
                })
                .collect();
            assert_eq!(found, expected, "{name}");
            seen += 1;
        }
        assert!(seen >= 15, "{seen} archives");
    }

    #[test]
    fn severities_are_as_authors_meant_them() {
        let Some(samples) = corpus::samples() else { return };
        let own = corpus::copy_of("own");
        let outcome = scan_with(
            &corpus::set(&[own.path().to_owned()]),
            "severities.txt",
            &fs::read(samples.join("severities.txt")).unwrap(),
            &limits(),
        );
        let found: Vec<_> = outcome
            .matches
            .iter()
            .filter(|found| found.namespace == "own/50_severity")
            .map(|found| (found.rule.as_str(), found.severity))
            .collect();
        let expected = [
            ("sev_bool", 0),
            ("sev_both", 2),
            ("sev_digits", 7),
            ("sev_int_0", 0),
            ("sev_int_10", 10),
            ("sev_int_11", 10),
            ("sev_int_neg", 0),
            ("sev_junk", 0),
            ("sev_missing", 0),
            ("sev_score", 8),
            ("sev_word", 7),
            ("sev_word_caps", 9),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_shape_of_a_match_is_the_specified_one() {
        let set = corpus::set_of(
            "rule r : z a { meta: severity = \"High\" author = \"A\" author = \"B\" strings: $x = \"ab\" xor(1) $y = \"no\" condition: $x or $y }",
        );
        let outcome = scan_with(&set, "f", b"..`c..`c", &Limits { match_bytes: 1, ..limits() });
        let found = serde_json::to_value(&outcome.matches).unwrap();
        assert_eq!(
            found,
            json!([{"rule": "r", "namespace": "t", "tags": ["a", "z"], "meta": [["severity", "High"], ["author", "A"], ["author", "B"]],
                "severity": 7, "author": "A", "patterns": [{"id": "$x", "count": 2, "at": [
                    {"offset": 2, "length": 2, "data": "6063", "xor": 1}, {"offset": 6, "length": 2, "data": "6063", "xor": 1}]}]}])
        );
        assert_eq!((outcome.verdict, outcome.partial), (Verdict::Matched, false));
    }

    #[test]
    fn a_match_limit_makes_the_answer_partial() {
        let set = corpus::set_of(
            "rule many { strings: $a = \"A\" condition: #a > 150 } rule quiet { strings: $b = \"B\" condition: #b > 10000 }",
        );
        let limits = Limits { matches_max: 100, ..limits() };
        let outcome = scan_with(&set, "f", &[b'A'; 200], &limits);
        assert_eq!((outcome.verdict, outcome.partial, outcome.reasons), (Verdict::Clean, true, vec![Reason::MatchLimit]));
        assert!(!scan_with(&set, "f", &[b'A'; 99], &limits).partial);
        // A rule that does not match has reached it as well.
        assert!(scan_with(&set, "f", &[b'B'; 200], &limits).partial);
    }

    #[test]
    fn filters_are_exact_or_of_a_type() {
        let set = corpus::set_of("rule yes { condition: true }");
        let with = |mime: &[&str], extensions: &[&str]| {
            let settings = settings::Settings {
                mime_types: mime.iter().map(|mime| (*mime).to_owned()).collect(),
                extensions: extensions.iter().map(|suffix| (*suffix).to_owned()).collect(),
                ..settings::Settings::default()
            };
            let outcome = scan_with(&set, "a.TXT", b"hello", &Limits::from(&settings));
            (outcome.verdict, outcome.reasons.first().copied(), outcome.matches.len())
        };
        let skipped = |reason| (Verdict::Skipped, Some(reason), 0);
        let matched = (Verdict::Matched, None, 1);
        assert_eq!(with(&["text/plain"], &[]), matched);
        assert_eq!(with(&["image/png", "text/*"], &["TXT", ".doc"]), matched);
        assert_eq!(with(&["text"], &[]), skipped(Reason::ExcludedMime));
        assert_eq!(with(&["text/pla"], &[]), skipped(Reason::ExcludedMime));
        assert_eq!(with(&["te*"], &[]), skipped(Reason::ExcludedMime));
        assert_eq!(with(&[], &[".exe"]), skipped(Reason::ExcludedExtension));
    }

    #[test]
    fn the_size_limit_is_the_last_size_that_is_scanned() {
        let set = corpus::set_of("rule yes { condition: true }");
        let limits = Limits { file_bytes_max: 5, ..limits() };
        assert_eq!(scan_with(&set, "f", b"12345", &limits).verdict, Verdict::Matched);
        let outcome = scan_with(&set, "f", b"123456", &limits);
        assert_eq!((outcome.verdict, outcome.reasons, outcome.size), (Verdict::Error, vec![Reason::TooLarge], 6));
    }

    #[test]
    fn what_asks_for_names_is_asked_again_when_bytes_are_known() {
        struct Kept(Outcome, Cell<u32>);
        impl Surroundings for Kept {
            fn cached(&mut self, sha256: &str, size: u64, version: &str) -> Option<Outcome> {
                self.1.set(self.1.get() + 1);
                (self.0.sha256 == sha256 && self.0.size == size && self.0.rules_version == version).then(|| self.0.clone())
            }
            fn unpacking(&mut self) {
                panic!("members are known as well");
            }
        }
        let set = corpus::set_of(
            "rule bytes { strings: $a = \"eicar\" condition: $a }\nrule name { condition: extension == \".scr\" and filepath == \"/zeek/extract_files/d\" }\nrule needs { condition: name }",
        );
        let archive = zip(&[("d/x.scr", b"eicar")]);
        let first = scan_with(&set, "d/one.zip", &archive, &limits());
        assert_eq!(names(&first.matches), ["t:bytes"]);
        assert_eq!(names(&first.children[0].matches), ["t:bytes"], "a member's folder is that of its archive");
        let mut kept = Kept(first, Cell::new(0));
        let again = |name: &str, kept: &mut Kept| {
            scan(&archive, &job(name), &limits(), &mut set.scanners(&settings::Rules::default()), kept, &SystemClock::new())
        };
        let other = again("d/two.scr", &mut kept);
        assert_eq!(names(&other.matches), ["t:bytes", "t:name", "t:needs"]);
        assert!(other.cached && !other.partial && other.children.len() == 1);
        // And a kept answer of another name loses what that name said.
        kept.0 = other;
        assert_eq!(names(&again("d/three.zip", &mut kept).matches), ["t:bytes"]);
        assert_eq!(kept.1.get(), 2);
    }

    #[test]
    fn a_global_rule_that_asks_for_names_decides_over_its_namespace() {
        let set = corpus::set_of("global rule only_scr { condition: extension == \".scr\" }\nrule bytes { condition: true }");
        assert_eq!(names(&scan_with(&set, "a.txt", b"x", &limits()).matches), [""; 0]);
        assert_eq!(names(&scan_with(&set, "a.scr", b"x", &limits()).matches), ["t:bytes", "t:only_scr"]);
        assert_eq!(set.view.rules.len(), 2);
    }

    #[test]
    fn bombs_and_what_cannot_be_read_are_partial_and_say_why() {
        let Some(samples) = corpus::samples() else { return };
        let set = corpus::set_of("rule eicar { strings: $a = \"EICAR-STANDARD\" condition: $a }");
        use Reason::*;
        let rows: [(&str, &[Reason], Verdict); 12] = [
            ("bomb_16m.zip", &[LimitRatio], Verdict::Clean),
            ("bomb_16m.gz", &[LimitRatio], Verdict::Clean),
            ("bomb_nested.zip", &[LimitRatio], Verdict::Clean),
            ("bomb_overlap.zip", &[LimitChildren, LimitRatio], Verdict::Clean),
            ("many_small.zip", &[LimitChildren], Verdict::Clean),
            ("eicar_nested30.zip", &[LimitDepth], Verdict::Matched),
            ("eicar_encrypted_flag.zip", &[Encrypted], Verdict::Matched),
            ("truncated.zip", &[Corrupt], Verdict::Clean),
            ("truncated.gz", &[Corrupt], Verdict::Clean),
            ("traversal.tar", &[Refused], Verdict::Matched),
            ("eicar_deflated.zip", &[], Verdict::Matched),
            ("eicar_two_members.gz", &[], Verdict::Matched),
        ];
        for (name, reasons, verdict) in rows {
            let outcome = scan_with(&set, name, &fs::read(samples.join(name)).unwrap(), &limits());
            assert_eq!((outcome.reasons.as_slice(), outcome.verdict, outcome.partial), (reasons, verdict, !reasons.is_empty()), "{name}");
        }
        let many = scan_with(&set, "many", &fs::read(samples.join("many_small.zip")).unwrap(), &limits());
        assert_eq!(many.children.len(), 500);
        let bytes = scan_with(&set, "b", &fs::read(samples.join("bomb_16m.zip")).unwrap(), &Limits { bytes_max: 1 << 19, ..limits() });
        assert_eq!(bytes.reasons, [LimitBytes]);
    }

    #[test]
    fn a_slow_rule_ends_in_time_and_is_no_clean_answer() {
        let set = corpus::set_of(
            "rule slow { condition: for any i in (0 .. filesize - 1) : ( for any j in (0 .. filesize - 1) : ( uint8(j) == 0x42 ) ) }\nrule name { condition: extension == \".scr\" }",
        );
        let clock = SystemClock::new();
        let bytes = vec![b'C'; 2 << 20];
        let outcome = scan_with(&set, "f", &bytes, &Limits { timeout_s: 1, ..limits() });
        assert_eq!((outcome.verdict, outcome.partial, outcome.reasons.as_slice()), (Verdict::Error, true, &[Reason::Timeout][..]));
        assert!(clock.mono() < 3_000_000_000, "took {} ms", clock.mono() / 1_000_000);
    }

    #[test]
    fn a_cut_capture_is_never_clean() {
        let set = corpus::set_of("rule no { condition: false }");
        let mut job = job("f");
        job.zeek = Some(Zeek { reasons: vec!["missing_bytes".into(), "cutoff".into(), "else".into()], ..Zeek::default() });
        let outcome = scan(b"x", &job, &limits(), &mut set.scanners(&settings::Rules::default()), &mut Alone, &SystemClock::new());
        assert_eq!((outcome.verdict, outcome.partial, outcome.reasons), (Verdict::Clean, true, vec![Reason::Cutoff, Reason::MissingBytes]));
    }

    #[test]
    fn relaxed_rules_need_the_setting() {
        let Some(corpus) = corpus::dir() else { return };
        let sources = crate::scan::rules::load(&[corpus.join("own/needs_relaxed")]);
        let rules = |relaxed| crate::scan::yara::compile(&sources, relaxed).unwrap().view.rules.len();
        assert_eq!((rules(true), rules(false)), (2, 0));
        let text = fs::read(Path::new(corpus::samples().unwrap()).join("relaxed.txt")).unwrap();
        let outcome = scan_with(&corpus::set(&[corpus.join("own/needs_relaxed")]), "relaxed.txt", &text, &limits());
        assert_eq!(outcome.matches.len(), 2);
    }
}
