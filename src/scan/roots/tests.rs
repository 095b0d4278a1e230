//! Own small trees, each opened in both ways, and the hostile one of the corpus where it is there.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, reason = "tests state what must hold")]
#![allow(clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]

use std::{
    fs,
    os::{fd::AsFd, unix::ffi::OsStrExt, unix::fs as unix, unix::net::UnixListener},
    path::Path,
    process::Command,
};

use proptest::prelude::*;
use rustix::fs::{FileType, Mode};

use super::{beneath::Way, *};

fn root(name: &str, path: &Path) -> Root {
    Root { name: name.into(), path: path.to_owned(), watch: false, depth: 0 }
}

/// The same tree, opened in each way.
fn each_way(roots: &[Root]) -> [Roots; 2] {
    assert_eq!(Way::find(), Way::Openat2, "these tests want a kernel with openat2, to hold the fallback against it");
    [Way::Openat2, Way::Steps].map(|way| Roots::open_by(roots, way).unwrap())
}

fn rel(path: impl AsRef<[u8]>) -> RelPath {
    RelPath(path.as_ref().to_vec())
}

/// `ok` and what was read, or the reason.
fn read(roots: &Roots, path: impl AsRef<[u8]>) -> Result<Vec<u8>, Reason> {
    let opened = roots.open_file("r", &rel(path), 1 << 20).map_err(|failure| failure.reason)?;
    let whole = read_whole(opened.fd.as_fd(), 1 << 20).map_err(|failure| failure.reason)?;
    assert_eq!(whole.identity, opened.identity);
    Ok(whole.bytes)
}

#[test]
fn a_path_is_judged_by_its_text_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("a/in/b"));
    fs::create_dir_all(&b).unwrap();
    fs::create_dir(dir.path().join("up")).unwrap();
    let gone = dir.path().join("gone");
    let roots = Roots::open(&[root("a", &a), root("b", &b), root("gone", &gone), root(UPLOAD, &dir.path().join("up"))]).unwrap();
    let at = |path: &str| dir.path().join(path).as_os_str().as_bytes().to_vec();
    #[allow(clippy::type_complexity, reason = "a table")]
    let cases: &[(Option<&str>, Vec<u8>, Option<(&str, &[u8])>)] = &[
        (None, b"x".to_vec(), Some(("a", b"x"))),
        (None, b"./x//y/".to_vec(), Some(("a", b"x/y"))),
        (Some("b"), b"x".to_vec(), Some(("b", b"x"))),
        (Some("b"), b"".to_vec(), Some(("b", b""))),
        (Some("gone"), b"x".to_vec(), Some(("gone", b"x"))),
        (Some("c"), b"x".to_vec(), None),
        (Some(UPLOAD), b"x".to_vec(), None),
        (None, at("up/x"), None),
        (None, at("a/x"), Some(("a", b"x"))),
        (None, at("a"), Some(("a", b""))),
        (None, at("a/in/b/x"), Some(("b", b"x"))), // the inner root
        (Some("a"), at("a/in/b/x"), Some(("a", b"in/b/x"))),
        (Some("b"), at("a/x"), None),
        (None, at("ab/x"), None), // a common beginning is not "below"
        (None, at(""), None),
        (None, b"/etc/passwd".to_vec(), None),
        (None, b"/nonexistent".to_vec(), None),
        (None, b"/".to_vec(), None),
        (None, b"..".to_vec(), None),
        (None, b"x/../x".to_vec(), None),
        (None, at("a/../a/x"), None),
        (None, b"x\0y".to_vec(), None),
        (None, b"x..y/...".to_vec(), Some(("a", b"x..y/..."))),
        (None, b"\xff\xfe\n\x1b".to_vec(), Some(("a", b"\xff\xfe\n\x1b"))),
        (None, vec![b'x'; 4096], Some(("a", &[b'x'; 4096]))),
        (None, vec![b'x'; 4097], None),
    ];
    for (name, path, expected) in cases {
        let found = roots.resolve(*name, path);
        let expected = expected.map(|(name, path)| (name, rel(path))).ok_or(NotAllowed);
        assert_eq!(found, expected, "{name:?} {}", path.escape_ascii());
    }
}

#[test]
fn only_regular_files_below_the_root_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join("r").join(name);
    fs::create_dir_all(at("folder/deep")).unwrap();
    fs::write(dir.path().join("secret"), b"secret").unwrap();
    fs::write(at("plain"), b"plain").unwrap();
    fs::write(at("folder/deep/down"), b"down").unwrap();
    fs::write(at("empty"), b"").unwrap();
    fs::write(at("exactly"), vec![7; 1 << 20]).unwrap();
    fs::write(at("one more"), vec![7; (1 << 20) + 1]).unwrap();
    fs::File::create(at("sparse")).unwrap().set_len(3 << 30).unwrap();
    unix::symlink("plain", at("sibling")).unwrap();
    unix::symlink("../secret", at("out")).unwrap();
    unix::symlink(dir.path().join("secret"), at("absolute")).unwrap();
    unix::symlink("nothing", at("dangling")).unwrap();
    unix::symlink("folder", at("alias")).unwrap();
    unix::symlink("/", at("slash")).unwrap();
    rustix::fs::mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    let outside = dir.path().join("secret");
    #[allow(clippy::type_complexity, reason = "a table")]
    let cases: &[(&[u8], Result<&[u8], Reason>)] = &[
        (b"plain", Ok(b"plain")),
        (b"folder/deep/down", Ok(b"down")),
        (b"empty", Ok(b"")),
        (b"one more", Err(Reason::TooLarge)),
        (b"sparse", Err(Reason::TooLarge)),
        (b"sibling", Err(Reason::NotAllowed)),
        (b"out", Err(Reason::NotAllowed)),
        (b"absolute", Err(Reason::NotAllowed)),
        (b"dangling", Err(Reason::NotAllowed)),
        (b"alias/deep/down", Err(Reason::NotAllowed)),
        (b"alias/nothing", Err(Reason::NotAllowed)),
        (b"slash/etc/passwd", Err(Reason::NotAllowed)),
        (b"pipe", Err(Reason::NotAFile)),
        (b"socket", Err(Reason::NotAFile)),
        (b"folder", Err(Reason::NotAFile)),
        (b"nothing", Err(Reason::NotFound)),
        (b"nothing/at/all", Err(Reason::NotFound)),
        (b"plain/below", Err(Reason::NotFound)),
        (&[b'n'; 256], Err(Reason::NotFound)),
        (&[b'n'; 4097], Err(Reason::NotAllowed)),
        // No task that we made has such a path; one that a broker brought may.
        (b"../secret", Err(Reason::NotAllowed)),
        (b"folder/../plain", Err(Reason::NotAllowed)),
        (b"folder/../../secret", Err(Reason::NotAllowed)),
        (outside.as_os_str().as_bytes(), Err(Reason::NotAllowed)),
        (b"/etc/passwd", Err(Reason::NotAllowed)),
        (b"", Err(Reason::NotAllowed)),
        (b".", Err(Reason::NotAllowed)),
        (b"plain/", Err(Reason::NotAllowed)),
        (b"folder//deep/down", Err(Reason::NotAllowed)),
        (b"pl\0ain", Err(Reason::NotAllowed)),
    ];
    for (roots, way) in each_way(&[root("r", &dir.path().join("r"))]).iter().zip(["openat2", "steps"]) {
        for (path, expected) in cases {
            assert_eq!(read(roots, path), expected.map(<[u8]>::to_vec), "{way}: {}", path.escape_ascii());
        }
        assert_eq!(read(roots, "exactly").unwrap().len(), 1 << 20, "{way}: a file of the limit is allowed");
        let strange = roots.open_file("nobody", &rel("plain"), 9).unwrap_err().reason;
        assert_eq!(strange, Reason::NotAllowed, "{way}: an unknown root");
    }
}

#[test]
fn a_file_that_moves_under_the_reader_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    fs::write(&path, vec![1; 10]).unwrap();
    let [roots, _] = each_way(&[root("r", dir.path())]);
    let opened = roots.open_file("r", &rel("x"), 1 << 20).unwrap();
    let at_once = read_whole(opened.fd.as_fd(), 1 << 20).unwrap();
    assert_eq!((at_once.bytes, at_once.identity), (vec![1; 10], opened.identity));
    // A descriptor that somebody has read from still gives all.
    rustix::io::read(&opened.fd, &mut [0; 4]).unwrap();
    assert_eq!(read_whole(opened.fd.as_fd(), 10).unwrap().bytes.len(), 10);
    assert_eq!(read_whole(opened.fd.as_fd(), 9).unwrap_err().reason, Reason::TooLarge);

    // Written all the time by somebody else: what comes back is whole and of one moment, or `changed`.
    let writes = std::thread::spawn(move || {
        for n in 0..300u32 {
            fs::write(&path, vec![n as u8; 1 + (n as usize % 97) * 1000]).unwrap();
        }
    });
    let (mut whole, mut changed) = (0, 0);
    while !writes.is_finished() {
        match read_whole(opened.fd.as_fd(), 1 << 20) {
            Ok(read) => {
                whole += 1;
                assert_eq!(read.bytes.len() as u64, read.identity.size);
            }
            Err(failure) => {
                assert_eq!(failure.reason, Reason::Changed, "{failure:?}");
                changed += 1;
            }
        }
    }
    writes.join().unwrap();
    assert!(whole + changed > 0);
    let stays = read_whole(opened.fd.as_fd(), 1 << 20).unwrap();
    assert_ne!(stays.identity, opened.identity, "written since, so another identity");
}

#[test]
fn a_root_that_is_replaced_is_followed_only_if_it_is_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let (at, other) = (dir.path().join("r"), dir.path().join("other"));
    fs::create_dir(&other).unwrap();
    fs::write(other.join("x"), b"other").unwrap();
    for roots in each_way(&[root("r", &at)]) {
        assert_eq!(read(&roots, "x"), Err(Reason::NotFound), "a root may be missing");
        assert_eq!(roots.missing().count(), 1);
        fs::create_dir(&at).unwrap();
        fs::write(at.join("x"), b"first").unwrap();
        assert_eq!(read(&roots, "x").unwrap(), b"first", "and comes later");
        assert_eq!(roots.missing().count(), 0);

        fs::remove_dir_all(&at).unwrap();
        unix::symlink(&other, &at).unwrap();
        assert_eq!(read(&roots, "x"), Err(Reason::NotFound), "a link in its place is no root");
        assert!(roots.walk("r", &rel(""), 10).is_err());
        fs::remove_file(&at).unwrap();
        fs::write(&at, b"file").unwrap();
        assert_eq!(read(&roots, "x"), Err(Reason::NotFound), "nor is a file");
        fs::remove_file(&at).unwrap();
        fs::create_dir(&at).unwrap();
        fs::write(at.join("x"), b"second").unwrap();
        assert_eq!(read(&roots, "x").unwrap(), b"second", "a folder is");
        fs::remove_dir_all(&at).unwrap();
    }
}

#[test]
fn a_link_in_the_path_of_a_root_is_followed_once() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new, link) = (dir.path().join("zeek-7"), dir.path().join("zeek-8"), dir.path().join("zeek"));
    for (folder, bytes) in [(&old, "old"), (&new, "new")] {
        fs::create_dir_all(folder.join("files")).unwrap();
        fs::write(folder.join("files/x"), bytes).unwrap();
    }
    unix::symlink(&old, &link).unwrap();
    for roots in each_way(&[root("r", &link.join("files"))]) {
        assert_eq!(read(&roots, "x").unwrap(), b"old");
        let written = link.join("files/x");
        let real = old.join("files/x");
        for absolute in [&written, &real] {
            assert_eq!(roots.resolve(None, absolute.as_os_str().as_bytes()), Ok(("r", rel("x"))));
        }
        fs::remove_file(&link).unwrap();
        unix::symlink(&new, &link).unwrap();
        assert_eq!(read(&roots, "x").unwrap(), b"old", "the link may lead elsewhere now");
        fs::remove_file(&link).unwrap();
        unix::symlink(&old, &link).unwrap();
    }
}

#[test]
fn a_wrong_root_is_told_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), b"").unwrap();
    let told = |roots: &[Root]| Roots::open(roots).map(|_| ()).unwrap_err().to_string();
    assert!(told(&[root("r", Path::new("rel"))]).contains("is not absolute"));
    assert!(told(&[root("r", dir.path()), root("r", dir.path())]).contains("two scan roots are called r"));
    assert!(told(&[root("r", &dir.path().join("file"))]).contains("is not a folder"));
}

proptest! {
    #[test]
    fn both_ways_say_the_same_and_never_lead_out(path in prop::collection::vec(prop_oneof![
        Just("a"), Just("b"), Just("x"), Just("up"), Just("out"), Just("round"), Just("pipe"), Just(".."), Just("."), Just(""), Just("no"), Just("secret"),
    ], 0..6)) {
        // One tree for all cases; nothing changes it.
        static TREE: std::sync::OnceLock<(tempfile::TempDir, [Roots; 2])> = std::sync::OnceLock::new();
        let (dir, ways) = TREE.get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join("r").join(name);
            fs::create_dir_all(at("a/b")).unwrap();
            for name in ["x", "a/x", "a/b/x"] {
                fs::write(at(name), name).unwrap();
            }
            fs::write(dir.path().join("secret"), "secret").unwrap();
            unix::symlink("..", at("a/up")).unwrap();
            unix::symlink("../..", at("a/b/out")).unwrap();
            unix::symlink("b", at("a/round")).unwrap();
            unix::symlink(dir.path(), at("out")).unwrap();
            rustix::fs::mknodat(CWD, at("a/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
            let ways = each_way(&[root("r", &dir.path().join("r"))]);
            (dir, ways)
        });
        let text = path.join("/");
        let absolute = dir.path().join("r").as_os_str().as_bytes().to_vec();
        let asked = [text.clone().into_bytes(), [absolute, b"/".to_vec(), text.clone().into_bytes()].concat()];
        let [one, other] = ways;
        prop_assert_eq!(read(one, &text), read(other, &text));
        for asked in asked {
            let resolved = one.resolve(None, &asked);
            let is_outside = asked.starts_with(b"/") && !asked.starts_with(dir.path().as_os_str().as_bytes());
            prop_assert_eq!(resolved.is_err(), path.contains(&"..") || is_outside);
            let Ok((_, below)) = resolved else { continue };
            let found = read(one, &below.0);
            prop_assert_eq!(&found, &read(other, &below.0));
            if let Ok(bytes) = found {
                prop_assert_eq!(bytes, below.0, "each file says its own path");
            }
        }
    }
}

#[test]
fn a_walk_ends_at_links_and_at_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("a/b")).unwrap();
    for name in ["one", "a/two", "a/b/three", "z"] {
        fs::write(at(name), name).unwrap();
    }
    unix::symlink("..", at("a/loop")).unwrap();
    unix::symlink("/etc", at("etc")).unwrap();
    unix::symlink("one", at("also one")).unwrap();
    rustix::fs::mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    for roots in each_way(&[root("r", dir.path())]) {
        let names = |folder: &str, max| {
            let found = roots.walk("r", &rel(folder), max).map_err(|error| error.to_string())?;
            for (path, identity) in &found {
                assert_eq!(roots.look("r", path).unwrap(), Some(*identity));
                assert_eq!(read(&roots, &path.0).unwrap().len() as u64, identity.size);
            }
            Ok::<_, String>(found.iter().map(|(path, _)| path.lossy().into_owned()).collect::<Vec<_>>())
        };
        assert_eq!(names("", 4).unwrap(), ["a/b/three", "a/two", "one", "z"]);
        assert_eq!(names("a", 4).unwrap(), ["a/b/three", "a/two"]);
        assert!(names("", 3).unwrap_err().contains("more than 3 files"));
        for (folder, reason) in
            [("etc", Reason::NotAllowed), ("a/loop", Reason::NotAllowed), ("no", Reason::NotFound), ("one", Reason::NotFound)]
        {
            let Err(WalkError::Open(failure)) = roots.walk("r", &rel(folder), 9) else { panic!("{folder} was walked") };
            assert_eq!(failure.reason, reason, "{folder}");
        }
        assert_eq!(roots.look("r", &rel("etc")).unwrap(), None, "a link is no file");
        assert_eq!(roots.look("r", &rel("a")).unwrap(), None, "nor is a folder");
    }
}

#[test]
fn another_device_is_not_entered() {
    // The one other device that is there without being root: the temporary folder and /dev/shm.
    let (dir, shm) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
    let device = |path: &Path| rustix::fs::stat(path).unwrap().st_dev;
    if device(dir.path()) == device(shm.path()) {
        return eprintln!("skipped: /tmp and /dev/shm are one device");
    }
    let slash = root("r", Path::new("/"));
    fs::write(shm.path().join("x"), b"x").unwrap();
    for roots in each_way(&[slash]) {
        let there = shm.path().join("x");
        let (name, path) = roots.resolve(None, there.as_os_str().as_bytes()).unwrap();
        assert_eq!((name, roots.open_file("r", &path, 9).unwrap_err().reason), ("r", Reason::NotAllowed));
        let folder = apart(&path).0;
        assert_eq!(roots.open_folder("r", &folder).unwrap_err().reason, Reason::NotAllowed);
        let dev = roots.list("r", &rel("")).unwrap();
        assert!(!dev.iter().any(|entry| matches!(entry, Entry::Folder { name } if name == b"proc")), "/proc is another device");
    }
}

#[test]
fn nothing_of_the_hostile_corpus_leads_out() {
    let Some(generator) = crate::scan::corpus::path("yara/gen_samples.py") else { return };
    let dir = tempfile::tempdir().unwrap();
    let made = Command::new("python3").arg(&generator).arg(dir.path()).arg("--hostile").status().unwrap();
    assert!(made.success());
    for roots in each_way(&[root("r", &dir.path().join("hostile"))]) {
        let entries = fs::read_dir(dir.path().join("hostile")).unwrap();
        let mut seen = 0;
        for entry in entries {
            let name = entry.unwrap().file_name();
            let name = name.as_bytes();
            let expected = match name {
                b"fifo" | b"sock" | b"dir.exe" => Err(Reason::NotAFile),
                b"sparse_3g.bin" => Err(Reason::TooLarge),
                // Whoever runs this as root may read it; else the kernel says no, which is tried again.
                b"no_read.txt" if !rustix::process::geteuid().is_root() => Err(Reason::Io),
                _ if name.starts_with(b"link_") => Err(Reason::NotAllowed),
                b"holes.bin" => Ok((1 << 20) + 68),
                _ => Ok(b"shipper-meta\n".len()),
            };
            let limit = 20 << 20;
            let opened = roots.open_file("r", &rel(name), limit);
            let found = opened.and_then(|opened| read_whole(opened.fd.as_fd(), limit)).map(|whole| whole.bytes.len());
            assert_eq!(found.map_err(|failure| failure.reason), expected, "{}", name.escape_ascii());
            seen += 1;
        }
        assert!(seen >= 25, "only {seen} names: the corpus is another one");
        let walked = roots.walk("r", &rel(""), 1000).unwrap();
        assert!(walked.iter().all(|(path, _)| !path.0.starts_with(b"link_")));
        assert!(walked.iter().any(|(path, _)| path.0 == b"not-utf8-\xff\xfe.bin"));
        assert!(walked.iter().any(|(path, _)| path.0 == b"dir.exe/sub/below.txt"));
    }
}
