//! Folders of rules, good and broken.

use std::os::unix::fs::symlink;

use super::*;

fn write(dir: &Path, name: &str, text: impl AsRef<[u8]>) {
    fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
    fs::write(dir.join(name), text).unwrap();
}

fn codes(sources: &Sources) -> Vec<(&str, u32)> {
    sources.errors.iter().map(|error| (error.code.as_str(), error.line)).collect()
}

#[test]
fn files_are_sorted_and_named_by_their_path() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["z.yar", "a/b.yara", "a.yar", "a.yara", ".hidden.yar", "notes.txt", ".git/x.yar"] {
        write(dir.path(), name, "rule r { condition: true }");
    }
    let sources = load(&[dir.path().to_owned()]);
    let names: Vec<_> = sources.files.iter().map(|file| file.namespace.as_str()).collect();
    assert_eq!(names, ["a/b", "a", "a.yara", "z"]);
    assert_eq!(codes(&sources), [("namespace_taken", 0)]);
    assert!(sources.errors[0].harmless);
    let single = load(&[dir.path().join("notes.txt")]);
    assert_eq!(single.files[0].namespace, "notes");
}

#[test]
fn the_version_is_of_paths_and_contents() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.yar", "include \"b.inc\"\nrule a { condition: true }");
    write(dir.path(), "b.inc", "rule b { condition: true }");
    let paths = [dir.path().to_owned()];
    let (version, seen) = (load(&paths).version, stamp(&paths));
    assert_eq!(load(&paths).version, version);
    assert_eq!(stamp(&paths), seen);
    write(dir.path(), "b.inc", "rule b { condition: false }");
    assert_ne!(load(&paths).version, version, "what is included counts");
    assert_ne!(stamp(&paths), seen);
    let other = load(&paths).version;
    fs::rename(dir.path().join("a.yar"), dir.path().join("c.yar")).unwrap();
    assert_ne!(load(&paths).version, other, "names count");
}

#[test]
fn an_include_stands_where_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "a.yar",
        "rule one { condition: true }\ninclude \"sub/b.inc\"\nrule three { condition: two }\ninclude \"sub/b.inc\"\n",
    );
    write(dir.path(), "sub/b.inc", "\ninclude \"../c.inc\"\nrule two { condition: one }");
    write(dir.path(), "c.inc", "rule deep { condition: true }");
    let sources = load(&[dir.path().to_owned()]);
    assert_eq!(codes(&sources), []);
    let parts: Vec<_> =
        sources.files[0].parts.iter().map(|part| (part.declared[0].name.as_str(), part.declared[0].line, part.included)).collect();
    assert_eq!(parts, [("one", 1, false), ("deep", 1, true), ("two", 3, true), ("three", 3, false)]);
    for part in &sources.files[0].parts {
        let line = part.text.lines().nth(part.declared[0].line as usize - 1).unwrap();
        assert!(line.contains(&part.declared[0].name), "{}: {line}", part.file);
    }
}

#[test]
fn an_index_of_files_that_are_loaded_anyway_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "index.yar", "/* all */ include \"./a.yar\"\n");
    write(dir.path(), "a.yar", "rule a { condition: true }");
    let sources = load(&[dir.path().to_owned()]);
    assert_eq!(sources.files.iter().map(|file| file.namespace.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(codes(&sources), [("index", 0)]);
    let alone = load(&[dir.path().join("index.yar")]);
    assert_eq!(alone.files[0].parts.iter().filter(|part| part.included).count(), 1);
}

#[test]
fn nothing_outside_the_path_is_opened() {
    let (dir, outer) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(outer.path(), "secret.yar", "rule secret { condition: true }");
    symlink(outer.path().join("secret.yar"), dir.path().join("link.yar")).unwrap();
    symlink(outer.path(), dir.path().join("folder")).unwrap();
    symlink(outer.path().join("secret.yar"), dir.path().join("inc")).unwrap();
    write(dir.path(), "in/own.yar", "rule own { condition: true }");
    symlink("in/own.yar", dir.path().join("same.yar")).unwrap();
    let up = format!("../{}/secret.yar", outer.path().file_name().unwrap().to_str().unwrap());
    let text = format!(
        "include \"/etc/passwd\"\ninclude \"{up}\"\ninclude \"inc\"\ninclude \"in/../../../../../../../../../nowhere\"\ninclude \"no\"\n"
    );
    write(dir.path(), "a.yar", text + "include \"\"\nrule a { condition: true }");
    let sources = load(&[dir.path().to_owned()]);
    let names: Vec<_> = sources.files.iter().map(|file| file.namespace.as_str()).collect();
    assert_eq!(names, ["a", "in/own", "same"], "a link that stays inside is a name like others");
    let all = format!("{sources:?}");
    assert!(!all.contains("secret {") && !all.contains("root:"), "{all}");
    let mut told = codes(&sources);
    told.sort_unstable();
    let outside = [1, 2, 3, 4].map(|line| ("include_outside", line));
    let links = [("link_outside", 0); 3];
    let missing = [("include_missing", 5), ("include_missing", 6)];
    assert_eq!(told, [&missing[..], &outside, &links].concat());
}

#[test]
fn what_is_too_large_is_refused_alone() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "large.yar", vec![b' '; usize::try_from(RULE_FILE_BYTES).unwrap() + 1]);
    write(dir.path(), "small.yar", "rule a { condition: true }");
    let sources = load(&[dir.path().to_owned(), dir.path().join("absent")]);
    assert_eq!(sources.files.len(), 1);
    assert_eq!(codes(&sources), [("file_too_large", 0), ("unreadable", 0)]);
    for n in 0..16 {
        write(dir.path(), &format!("{n}.yar"), vec![b'\n'; usize::try_from(RULE_FILE_BYTES).unwrap()]);
    }
    let sources = load(&[dir.path().to_owned()]);
    assert!(sources.files.is_empty());
    assert_eq!(codes(&sources), [("folder_too_large", 0)]);
}

#[cfg(feature = "scan")]
#[test]
fn every_broken_file_costs_its_broken_rules_only() {
    let Some(corpus) = crate::scan::corpus::dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(corpus.join("own/bad")).unwrap() {
        let path = entry.unwrap().path();
        write(dir.path(), &format!("own/bad/{}", path.file_name().unwrap().to_str().unwrap()), fs::read(&path).unwrap());
    }
    let set = crate::scan::corpus::set(&[dir.path().to_owned()]);
    let expected = [
        ("bom.yar", "bom", false),
        ("deep_nesting.yar", "dropped", true),
        ("duplicate_rule.yar", "E012", true),
        ("duplicate_string.yar", "E023", true),
        ("duplicate_tag.yar", "E021", true),
        ("include_absolute.yar", "include_outside", true),
        ("include_missing.yar", "include_missing", true),
        ("include_self.yar", "include_circular", true),
        ("include_traversal.yar", "include_outside", true),
        ("invalid_regex.yar", "E014", true),
        ("keyword_name.yar", "E001", true),
        ("libyara_only_rule_wildcard.yar", "E001", true),
        ("not_utf8.yar", "not_utf8", false),
        ("one_bad_of_three.yar", "E009", true),
        ("syntax_error.yar", "E001", true),
        ("unknown_identifier.yar", "E009", true),
        ("unknown_module.yar", "E010", true),
        ("unreferenced_string.yar", "E022", true),
    ];
    let told = crate::scan::corpus::codes(&set.view);
    let told: Vec<_> = told.iter().map(|(file, code, costs)| (file.as_str(), code.as_str(), *costs)).collect();
    let mut first = told.clone();
    first.dedup_by_key(|row| row.0);
    assert_eq!(first, expected, "all: {told:?}");
    let left: Vec<_> = set.view.rules.iter().map(|rule| rule.name.as_str()).collect();
    for name in
        ["bom", "crlf", "twice", "inc_abs", "inc_missing", "inc_self", "inc", "w1", "long", "latin1", "good_one", "good_two", "r", "w"]
    {
        assert!(left.contains(&name), "{name} is not among {left:?}");
    }
    let line = |file: &str| set.view.errors.iter().find(|error| error.file.ends_with(file)).unwrap().line;
    assert_eq!((line("one_bad_of_three.yar"), line("duplicate_rule.yar"), line("syntax_error.yar")), (2, 2, 3));
    assert!(set.view.errors.iter().all(|error| !error.message.contains("root:")));
}

#[cfg(feature = "scan")]
#[test]
fn what_an_included_file_says_is_not_quoted() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.yar", "include \"b.inc\"\nrule a { condition: also_secret }");
    write(dir.path(), "b.inc", "\nrule b { condition: secret_word }");
    let set = crate::scan::corpus::set(&[dir.path().to_owned()]);
    let told: Vec<_> = set.view.errors.iter().map(|error| (error.line, error.code.as_str(), error.message.as_str())).collect();
    assert_eq!(told, [(2, "E009", "unknown identifier `also_secret`"), (2, "E009", "unknown identifier …")]);
}
