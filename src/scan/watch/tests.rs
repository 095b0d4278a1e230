//! The core against a naive twin; the thread against real writers.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, reason = "tests state what must hold")]
#![allow(clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::Path,
    process::Command,
    sync::mpsc,
    time::Instant,
};

use proptest::prelude::*;

use super::*;
use crate::{clock::SystemClock, scan::corpus};

mod naive {
    //! Decides from the whole history, without a table.

    use super::super::core::NAMED_FOR;
    use crate::scan::task::Identity;

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub(super) enum What {
        Closed(Option<Identity>),
        Listed(Option<Identity>),
        Named,
    }

    /// What was seen of one file, when (monotonic and wall time are one), and whether it was handed on then.
    #[derive(Debug, Default)]
    pub(super) struct History(Vec<(u64, What, bool)>);

    impl History {
        /// The identity that is handed on now, if any.
        pub(super) fn see(&mut self, now: u64, what: What, settle: u64) -> Option<Identity> {
            let identity_of = |what: &What| match what {
                What::Closed(identity) | What::Listed(identity) => Some(*identity),
                What::Named => None,
            };
            // What it is now, and the run of looks back to which it has been so.
            let current = identity_of(&what).or_else(|| self.0.iter().rev().find_map(|(_, what, _)| identity_of(what))).flatten();
            let is_so = |what: &What| identity_of(what).is_none_or(|identity| identity == current);
            let mut run: Vec<_> = self.0.iter().rev().take_while(|(_, what, _)| is_so(what)).collect();
            // A name that was told before the first of these looks was about what it had been.
            while run.pop_if(|(_, what, _)| *what == What::Named).is_some() {}
            let handed_on_before = run.iter().any(|(_, _, handed_on)| *handed_on);
            let since = run.iter().rev().find(|(_, what, _)| *what != What::Named).map_or(now, |(at, _, _)| *at);
            let is_named = self.0.iter().any(|(at, what, handed_on)| *what == What::Named && !*handed_on && now < at + NAMED_FOR);
            let goes = current.is_some_and(|identity| {
                !handed_on_before
                    && match what {
                        What::Closed(_) | What::Named => true,
                        What::Listed(_) => now - since >= settle || now.saturating_sub(identity.mtime_ns as u64) >= settle || is_named,
                    }
            });
            self.0.push((now, what, goes));
            current.filter(|_| goes)
        }
    }
}

/// What happens to one of two files.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Write,
    /// Written by somebody who sets the time of writing.
    WriteOld,
    Close,
    Remove,
    List,
    Name,
    Pass(u64),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => Just(Deed::Write),
        1 => Just(Deed::WriteOld),
        2 => Just(Deed::Close), // a write without one is a close that was lost
        1 => Just(Deed::Remove),
        4 => Just(Deed::List),
        1 => Just(Deed::Name),
        3 => (0..4u64).prop_map(|n| Deed::Pass(n * 40)),
    ]
}

const SECOND: u64 = 1_000_000_000;
const SETTLE: u64 = 100 * SECOND;

proptest! {
    #[test]
    fn the_core_agrees_with_its_naive_twin(deeds in prop::collection::vec((0..2usize, deed()), 0..60)) {
        let folder = Folder { root: 0, path: RelPath(b"node".to_vec()) };
        let names = [b"a".to_vec(), b"b".to_vec()];
        let mut core = Core::new(SETTLE);
        let mut twins = [naive::History::default(), naive::History::default()];
        let mut files: [Option<Identity>; 2] = [None, None];
        let mut last: [Option<Identity>; 2] = [None, None];
        let (mut now, mut inode) = (1000 * SECOND, 0);
        // At the end everything is closed or still.
        let end = [(0, Deed::List), (0, Deed::Pass(101)), (0, Deed::List)];
        for (n, deed) in deeds.into_iter().chain(end) {
            let mut expected = Vec::new();
            match deed {
                Deed::Write | Deed::WriteOld => {
                    inode += 1;
                    let of = files[n].map_or(inode, |file| file.inode);
                    let age = if matches!(deed, Deed::WriteOld) { 90 * SECOND } else { 0 };
                    let size = files[n].map_or(1, |file| file.size + 1);
                    files[n] = Some(Identity { dev: 1, inode: of, size, mtime_ns: (now - age) as i64 });
                }
                Deed::Close => {
                    core.closed(&folder, &names[n], files[n]);
                    expected.extend(twins[n].see(now, naive::What::Closed(files[n]), SETTLE).map(|identity| (n, identity)));
                }
                Deed::Remove => files[n] = None,
                Deed::List => {
                    let listed: BTreeMap<_, _> =
                        names.iter().cloned().zip(files).filter_map(|(name, file)| Some((name, file?))).collect();
                    core.listed(&folder, &listed, Now { mono: now, wall: now });
                    for n in 0..2 {
                        expected.extend(twins[n].see(now, naive::What::Listed(files[n]), SETTLE).map(|identity| (n, identity)));
                    }
                }
                Deed::Name => {
                    // By its name or by its path, as it comes.
                    let by = if now % (2 * SECOND) == 0 { names[n].clone() } else { [b"node/", names[n].as_slice()].concat() };
                    core.named(&by, Now { mono: now, wall: now });
                    expected.extend(twins[n].see(now, naive::What::Named, SETTLE).map(|identity| (n, identity)));
                }
                Deed::Pass(seconds) => now += seconds * SECOND,
            }
            let due: Vec<_> = core.due().into_iter().map(|(at, name, identity)| {
                assert_eq!(at, folder);
                (names.iter().position(|known| *known == name).unwrap(), identity)
            }).collect();
            for (n, identity) in &due {
                last[*n] = Some(*identity);
            }
            prop_assert_eq!(due, expected, "at {} s, {:?}", now / SECOND, deed);
        }
        for n in 0..2 {
            prop_assert!(files[n].is_none() || last[n] == files[n], "a file was missed, or is handed on as what it was");
        }
    }
}

#[test]
fn a_folder_that_is_gone_is_forgotten_and_others_are_known() {
    let folder = |path: &str| Folder { root: 0, path: RelPath(path.into()) };
    let mut core = Core::new(SETTLE);
    let file = Identity { dev: 1, inode: 2, size: 3, mtime_ns: 0 };
    for path in ["", "a", "a/b"] {
        core.closed(&folder(path), b"x", Some(file));
    }
    assert_eq!((core.due().len(), core.count(), core.folders()), (3, (3, 0), 3));
    core.keep(&[folder(""), folder("a/b")]);
    assert_eq!((core.count(), core.folders()), ((2, 0), 2));
    // Of what was handed on a listing need not look at the same inode again.
    let known = |path: &str, inode| core.handed_on(&folder(path), b"x", inode);
    assert_eq!([known("", 2), known("", 9), known("a", 2)], [Some(file), None, None]);
    assert_eq!(["", "a", "a/b/c"].map(|path| folder(path).levels()), [0, 1, 3]);
}

/// A watch on a folder of its own, and what it finds.
struct Site {
    dir: tempfile::TempDir,
    found: mpsc::Receiver<Found>,
    watch: Watch,
}

const NEVER: Duration = Duration::from_secs(1_000_000);

impl Site {
    fn new(depth: u32, settle: Duration, list_every: Duration) -> Self {
        let (send, found) = mpsc::channel();
        Self::with(tempfile::tempdir().unwrap(), depth, settle, list_every, found, move |batch| {
            for file in batch {
                let _ = send.send(file.clone());
            }
            ControlFlow::Continue(())
        })
    }

    fn with(
        dir: tempfile::TempDir,
        depth: u32,
        settle: Duration,
        list_every: Duration,
        found: mpsc::Receiver<Found>,
        sink: impl FnMut(&[Found]) -> ControlFlow<()> + Send + 'static,
    ) -> Self {
        let root = Root { name: "zeek".into(), path: dir.path().join("files"), watch: true, depth };
        fs::create_dir(&root.path).unwrap();
        let roots = Arc::new(Roots::open(std::slice::from_ref(&root)).unwrap());
        let watch = Watch::start_by(roots, &[root], settle, list_every, SystemClock::new(), Box::new(sink)).unwrap();
        let site = Self { dir, found, watch };
        site.until("the first listing", |figures| figures.listings > 0 && figures.folders > 0);
        site
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("files").join(name)
    }

    fn next(&self) -> Found {
        self.found.recv_timeout(Duration::from_secs(60)).expect("nothing was found for a minute")
    }

    /// Path and size of the next.
    fn next_is(&self, path: &str, size: u64) {
        let found = self.next();
        assert_eq!((found.path.lossy().as_ref(), found.identity.size), (path, size));
        assert_eq!(&*found.root, "zeek");
    }

    #[track_caller]
    fn until(&self, what: &str, is_so: impl Fn(&Figures) -> bool) {
        let from = Instant::now();
        while !is_so(&self.watch.figures()) {
            assert!(from.elapsed() < Duration::from_secs(60), "{what}: {:?}", self.watch.figures());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn what_is_closed_or_moved_in_is_found_at_once_and_once() {
    let site = Site::new(1, NEVER, NEVER);
    fs::write(site.at("written"), b"12345").unwrap();
    site.next_is("written", 5);

    let mut file = File::create(site.at("slow")).unwrap();
    file.write_all(b"12").unwrap();
    file.flush().unwrap();
    fs::write(site.dir.path().join("made elsewhere"), b"123").unwrap();
    fs::rename(site.dir.path().join("made elsewhere"), site.at("moved")).unwrap();
    site.next_is("moved", 3); // and not `slow`, which is open
    file.write_all(b"3456").unwrap();
    drop(file);
    site.next_is("slow", 6);

    // Touched by an opening for writing that wrote nothing: the same file.
    drop(fs::OpenOptions::new().append(true).open(site.at("slow")).unwrap());
    fs::write(site.at("slow"), b"again").unwrap();
    site.next_is("slow", 5);

    // Links, pipes and what has gone by then are nobody's task.
    std::os::unix::fs::symlink("/etc/passwd", site.at("link")).unwrap();
    fs::rename(site.at("link"), site.at("link moved")).unwrap();
    fs::write(site.at("last"), b"1").unwrap();
    site.next_is("last", 1);
    site.watch.stop();
}

#[test]
fn folders_are_watched_to_the_depth_asked_for() {
    let site = Site::new(1, NEVER, NEVER);
    fs::create_dir(site.at("node")).unwrap();
    site.until("the new folder", |figures| figures.folders == 2);
    fs::write(site.at("node/x"), b"1").unwrap();
    site.next_is("node/x", 1);
    fs::create_dir(site.at("node/deep")).unwrap();
    fs::write(site.at("node/deep/too deep"), b"1").unwrap();
    // A folder that is moved is watched under its new name.
    fs::rename(site.at("node"), site.at("other")).unwrap();
    fs::create_dir(site.at("node")).unwrap();
    site.until("both folders", |figures| figures.folders == 3);
    thread::sleep(Duration::from_millis(100));
    fs::write(site.at("other/y"), b"12").unwrap();
    site.next_is("other/y", 2);
    fs::write(site.at("node/z"), b"123").unwrap();
    site.next_is("node/z", 3);
    site.watch.stop();
}

#[test]
fn what_was_there_before_is_taken_when_it_is_still_or_named() {
    let site = Site::new(0, Duration::from_secs(3600), Duration::from_millis(50));
    // Made by links: nobody is seen to close them here.
    for (name, age) in [("old", 7200), ("named", 0), ("young", 0)] {
        let elsewhere = site.dir.path().join(name);
        fs::write(&elsewhere, name).unwrap();
        let mtime = std::time::SystemTime::now() - Duration::from_secs(age);
        File::options().write(true).open(&elsewhere).unwrap().set_modified(mtime).unwrap();
        fs::hard_link(&elsewhere, site.at(name)).unwrap();
    }
    site.next_is("old", 3);
    site.until("the others to be listed", |figures| figures.files == 3 && figures.waiting == 2);
    site.watch.named(b"../../named"); // no path of a file below the root
    site.watch.named(b"named");
    site.next_is("named", 5);
    // Named before it is seen.
    site.watch.named(b"later");
    let elsewhere = site.dir.path().join("later");
    fs::write(&elsewhere, b"later").unwrap();
    fs::hard_link(&elsewhere, site.at("later")).unwrap();
    site.next_is("later", 5);
    let from = site.watch.figures().listings;
    site.until("more listings", |figures| figures.listings > from + 3);
    assert_eq!((site.found.try_iter().count(), site.watch.figures().waiting), (0, 1), "nothing twice, and `young` waits");
    site.watch.stop();
}

#[test]
fn what_no_event_tells_is_found_by_a_whole_listing() {
    let site = Site::new(0, Duration::ZERO, Duration::from_millis(20));
    let outside = site.dir.path().join("x");
    fs::write(&outside, b"1").unwrap();
    fs::hard_link(&outside, site.at("x")).unwrap();
    site.next_is("x", 1);
    // Written through a name in another folder: the watched one hears nothing, as on a remote disk.
    let mut file = fs::OpenOptions::new().append(true).open(&outside).unwrap();
    file.write_all(b"23").unwrap();
    drop(file);
    site.next_is("x", 3);
    // So is another file under the name.
    let other = site.dir.path().join("y");
    fs::write(&other, b"12345").unwrap();
    fs::remove_file(site.at("x")).unwrap();
    fs::hard_link(&other, site.at("x")).unwrap();
    site.next_is("x", 5);
    site.watch.stop();
}

#[test]
fn a_root_that_goes_and_comes_is_watched_again() {
    let site = Site::new(0, NEVER, Duration::from_millis(50));
    fs::remove_dir_all(site.at("")).unwrap();
    site.until("the root to be missed", |figures| figures.folders == 0);
    fs::create_dir(site.at("")).unwrap();
    site.until("the root to be back", |figures| figures.folders == 1);
    fs::write(site.at("x"), b"1").unwrap();
    site.next_is("x", 1);
    site.watch.stop();
}

#[test]
fn an_idle_watch_sleeps() {
    let site = Site::new(1, NEVER, Duration::from_secs(30));
    fs::write(site.at("x"), b"1").unwrap();
    site.next_is("x", 1);
    let task = fs::read_dir("/proc/self/task")
        .unwrap()
        .map(|task| task.unwrap().path())
        .filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "scan-watch"))
        .collect::<Vec<_>>();
    let switches = || -> BTreeMap<_, _> {
        let of = |task: &Path| -> Option<String> {
            let status = fs::read_to_string(task.join("status")).ok()?;
            status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).map(str::to_owned)
        };
        task.iter().filter_map(|task| Some((task.clone(), of(task)?))).collect()
    };
    thread::sleep(Duration::from_millis(300));
    let before = switches();
    thread::sleep(Duration::from_secs(2));
    let after = switches();
    // Watches of other tests may run beside; ours is among those that did not move.
    let slept = before.iter().filter(|(task, switches)| after.get(*task) == Some(switches)).count();
    assert!(slept >= 1, "no watch slept for two seconds: {before:?} {after:?}");
    assert_eq!(site.watch.figures().listings, 1);
    site.watch.stop();
}

#[test]
fn a_full_queue_and_lost_events_lose_no_file() {
    let queued: u64 = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    if queued > 100_000 {
        return eprintln!("skipped: the kernel holds {queued} events");
    }
    let (send, found) = mpsc::channel();
    let (open, gate) = mpsc::channel::<()>();
    let (entered, is_waiting) = mpsc::channel();
    let mut is_open = false;
    // Many files, so in memory where there is room for them.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    // Nothing but an overflow may list again: there is no other listing for years.
    let site = Site::with(dir, 0, Duration::ZERO, NEVER, found, move |batch| {
        if !is_open {
            entered.send(()).unwrap();
            is_open = gate.recv().is_ok();
        }
        batch.iter().for_each(|file| drop(send.send(file.clone())));
        ControlFlow::Continue(())
    });
    fs::write(site.at("first"), "first").unwrap();
    is_waiting.recv_timeout(Duration::from_secs(60)).unwrap();
    // The kernel holds so many, and one less than is written.
    let count = queued + 2;
    for n in 1..count {
        fs::write(site.at(&n.to_string()), n.to_string()).unwrap();
    }
    open.send(()).unwrap();
    let mut seen = BTreeMap::new();
    while (seen.len() as u64) < count {
        let found = site.next();
        assert_eq!(found.identity.size as usize, found.path.0.len());
        *seen.entry(found.path.0).or_insert(0) += 1;
    }
    assert!(seen.values().all(|times| *times == 1), "each once");
    assert!(site.watch.figures().overflows >= 1);
    site.watch.stop();
}

#[test]
fn files_of_a_writer_like_zeek_are_found_whole() {
    let Some(generator) = corpus::path("yara/gen_samples.py") else { return };
    // 10,000 take two minutes or more; the writer waits 2 ms after each of its pieces.
    let count: usize = std::env::var("SHIPPER_ZEEK_FILES").ok().and_then(|count| count.parse().ok()).unwrap_or(150);
    let site = Site::new(1, NEVER, Duration::from_secs(30));
    let mut writer = Command::new("sh")
        .arg("-c")
        .arg(r#"ulimit -n 20000; exec python3 "$0" "$1" --zeek "$2""#)
        .args([generator.as_os_str(), site.at("").as_os_str()])
        .arg(count.to_string())
        .spawn()
        .unwrap();
    let mut seen = BTreeMap::new();
    while seen.len() < count {
        let Found { path, identity, .. } = site.next();
        let times: &mut Vec<Identity> = seen.entry(path.0).or_default();
        times.push(identity);
    }
    assert!(writer.wait().unwrap().success());
    for file in fs::read_dir(site.at("")).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_encoded_bytes();
        let sizes: Vec<u64> = seen[&name].iter().map(|identity| identity.size).collect();
        assert_eq!(sizes, [file.metadata().unwrap().len()], "{}: once, and whole", name.escape_ascii());
    }
    assert_eq!(seen.len(), count);
    site.watch.stop();
}
