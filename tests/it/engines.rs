//! One body for both engines: what a shard asks of a file, a folder, a watch and the time.

use std::{
    cell::Cell,
    fs,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use shipper::{
    clock::SystemClock,
    io::{self, Asked, Engine, Io, LocalFuture, Setup, SlabPool, Watcher},
    limits,
    ring::Mailbox,
};

const ENGINES: &[Engine] = &[Engine::Pread, Engine::Uring];

fn setup(name: &str) -> Setup {
    Setup {
        name: name.into(),
        core: None,
        network: false,
        slabs: SlabPool::new(limits::SLABS_PER_SHARD),
        watcher: Watcher::new().expect("a watcher"),
        clock: SystemClock::new(),
    }
}

/// Runs `body` once on each engine, in a folder of its own.
fn on_each(body: impl Fn(Rc<dyn Io>, PathBuf) -> LocalFuture<'static, ()> + Send + Sync + Copy + 'static) {
    for engine in ENGINES {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().to_owned();
        let thread = io::spawn(*engine, setup("shard"), move |io| {
            assert_eq!(io.engine(), engine.to_string());
            body(io, path)
        });
        thread.expect("the thread starts").join().expect("the body passes");
    }
}

async fn read(io: &Rc<dyn Io>, path: &Path, from: u64, cold: bool) -> Vec<u8> {
    let file = io.open(path).expect("opens");
    let mut all = Vec::new();
    loop {
        let slab = io.slabs().take(limits::SLAB_BYTES);
        let (slab, count) = file.read_at(from + all.len() as u64, limits::SLAB_BYTES, cold, slab).await;
        let count = count.expect("reads");
        assert_eq!(count, slab.bytes.len());
        if count == 0 {
            return all;
        }
        all.extend_from_slice(&slab.bytes);
    }
}

fn append(path: &Path, bytes: &[u8]) {
    let mut file = fs::File::options().create(true).append(true).open(path).expect("opens to append");
    file.write_all(bytes).expect("appends");
}

#[test]
fn a_file_is_read_through_its_life() {
    on_each(|io, dir| {
        Box::pin(async move {
            let path = dir.join("alerts.json");
            assert_eq!(io.open(&path).err().map(|e| e.kind()), Some(ErrorKind::NotFound));
            assert_eq!(io.stat(&path).err().map(|e| e.kind()), Some(ErrorKind::NotFound));
            append(&path, b"one\n");
            for cold in [false, true] {
                assert_eq!(read(&io, &path, 0, cold).await, b"one\n");
                assert_eq!(read(&io, &path, 2, cold).await, b"e\n");
                assert_eq!(read(&io, &path, 100, cold).await, b"", "beyond the end is the end");
            }
            let file = io.open(&path).expect("opens");
            let before = file.stat().expect("fstat");
            assert_eq!(before, io.stat(&path).expect("stat"));
            assert!(before.is_file);
            assert_eq!(before.size, 4);

            append(&path, b"two\n");
            let (slab, count) = file.read_at(4, 100, false, io.slabs().take(100)).await;
            assert_eq!((count.expect("reads"), &slab.bytes[..]), (4, &b"two\n"[..]), "growth is seen");
            let (slab, count) = file.read_at(0, 3, false, slab).await;
            assert_eq!((count.expect("reads"), &slab.bytes[..]), (3, &b"two\none"[..]), "no more than asked for, behind what is there");

            fs::rename(&path, dir.join("old.json")).expect("renames");
            append(&path, b"new\n");
            let after = io.stat(&path).expect("stat");
            assert_ne!(after.inode, before.inode);
            let same = file.stat().expect("fstat");
            assert_eq!((same.inode, same.born, same.size), (before.inode, before.born, 8), "an open file is not its name");

            fs::File::options().write(true).open(dir.join("old.json")).expect("opens").set_len(2).expect("truncates");
            assert_eq!(file.read_at(2, 10, false, io.slabs().take(10)).await.1.expect("reads"), 0);
            fs::remove_file(dir.join("old.json")).expect("removes");
            assert_eq!(file.read_at(0, 10, false, io.slabs().take(10)).await.1.expect("reads"), 2, "unlinked, still open");
            assert!(!io.stat(&dir).expect("stat").is_file);
            assert_eq!(io.list(&dir).expect("lists"), [path]);
            assert!(io.list(&dir.join("none")).is_err());
        })
    });
}

/// What inotify alone raises, without the poll that is its safety net.
#[test]
fn a_watch_wakes_on_append_and_on_a_swapped_link() {
    on_each(|io, dir| {
        Box::pin(async move {
            let (name, first, second) = (dir.join("late/alerts.json"), dir.join("1.json"), dir.join("2.json"));
            let watch = Watcher::new().expect("a watcher").watch(&name);
            let step = async |what: &str, change: &dyn Fn()| {
                // Whatever the step before still had to say must not be taken for this one.
                io.sleep(Duration::from_millis(50)).await;
                watch.signal().take();
                change();
                tokio::select! {
                    () = watch.signal().wait() => {}
                    () = io.sleep(Duration::from_secs(20)) => panic!("{what} raised nothing"),
                }
            };
            step("its folder being made", &|| fs::create_dir(dir.join("late")).expect("makes")).await;
            append(&first, b"a\n");
            step("a link to its name", &|| fs::hard_link(&first, &name).expect("links")).await;
            step("a write through its other name", &|| append(&first, b"b\n")).await;
            append(&second, b"");
            step("a swap", &|| {
                fs::remove_file(&name).expect("removes");
                fs::hard_link(&second, &name).expect("links");
            })
            .await;
            step("a write after the swap", &|| append(&second, b"c\n")).await;
            step("a rename over it", &|| fs::rename(&first, &name).expect("renames")).await;
            step("a truncation", &|| fs::File::options().write(true).open(&name).expect("opens").set_len(0).expect("cuts")).await;
            step("its removal", &|| fs::remove_file(&name).expect("removes")).await;
            step("its folder's removal", &|| fs::remove_dir(dir.join("late")).expect("removes")).await;
            step("its folder being made again", &|| fs::create_dir(dir.join("late")).expect("makes")).await;
            step("its return", &|| append(&name, b"d\n")).await;
        })
    });
}

/// A byte that says where in the file it lies.
fn content(bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

#[test]
fn a_cold_file_reads_as_it_was_written() {
    on_each(|io, dir| {
        Box::pin(async move {
            for bytes in [0, 1, 511, 512, 4097, 262_143, 262_145, 1_048_576, 5_000_001, 100_000_000] {
                let path = dir.join("cold");
                let written = content(bytes);
                fs::write(&path, &written).expect("writes");
                assert!(read(&io, &path, 0, true).await == written, "{bytes} bytes");
                let from = bytes * 2 / 3;
                assert!(read(&io, &path, from as u64, true).await == written[from..], "{bytes} bytes from {from}");
            }
        })
    });
}

#[test]
fn a_cold_file_may_grow_and_be_sought_in() {
    on_each(|io, dir| {
        Box::pin(async move {
            let path = dir.join("grows");
            let whole = content(3_000_000);
            fs::write(&path, &whole[..1_000_001]).expect("writes");
            let file = io.open(&path).expect("opens");
            let (mut at, mut size) = (0, 1_000_001);
            while at < whole.len() {
                let slab = io.slabs().take(limits::SLAB_BYTES);
                let (slab, count) = file.read_at(at as u64, 100_003, true, slab).await;
                let count = count.expect("reads");
                assert!(slab.bytes == whole[at..at + count], "{count} bytes at {at}");
                assert_eq!(count, 100_003.min(size - at), "a read is short only at the end");
                at += count;
                // It grows both while blocks are read ahead and once the end was met.
                if size < whole.len() && (count == 0 || at > 500_000) {
                    let more = (size + 77_777).min(whole.len());
                    append(&path, &whole[size..more]);
                    size = more;
                }
            }
            for (offset, len, cold) in [(2_999_990, 100, true), (5, 10, true), (1_000_000, 200_000, true), (9, 9, false), (15, 2, true)] {
                let (slab, count) = file.read_at(offset, len, cold, io.slabs().take(len)).await;
                let end = (offset as usize + len).min(whole.len());
                assert_eq!(count.expect("reads"), end - offset as usize);
                assert!(slab.bytes == whole[offset as usize..end], "{len} bytes at {offset}");
            }
        })
    });
}

#[test]
fn a_name_that_vanishes_is_an_error_and_no_panic() {
    on_each(|io, dir| {
        Box::pin(async move {
            let (kept, name) = (dir.join("kept"), dir.join("alerts.json"));
            fs::write(&kept, "x\n").expect("writes");
            let ends = Arc::new(AtomicBool::new(false));
            let swaps = thread::spawn({
                let (ends, kept, name) = (ends.clone(), kept.clone(), name.clone());
                move || {
                    while !ends.load(Ordering::Relaxed) {
                        fs::hard_link(&kept, &name).expect("links");
                        fs::remove_file(&name).expect("unlinks");
                    }
                }
            });
            let started = io.clock().mono();
            let (mut opened, mut missed) = (0u32, 0u32);
            while io.clock().mono() - started < 2_000_000_000 {
                match io.open(&name) {
                    Ok(file) => {
                        opened += 1;
                        for cold in [true, false] {
                            let (slab, count) = file.read_at(0, 10, cold, io.slabs().take(10)).await;
                            assert_eq!((count.expect("reads"), &slab.bytes[..]), (2, &b"x\n"[..]));
                        }
                    }
                    Err(e) if e.kind() == ErrorKind::NotFound => missed += 1,
                    Err(e) => panic!("{e}"),
                }
                if let Err(e) = io.stat(&name) {
                    assert_eq!(e.kind(), ErrorKind::NotFound);
                }
                io.pause().await;
            }
            ends.store(true, Ordering::Relaxed);
            swaps.join().expect("swaps");
            assert!(opened > 0, "never met the name");
            assert!(missed > 0, "never met its absence");
        })
    });
}

#[test]
fn another_thread_wakes_a_shard_and_sleep_lasts() {
    on_each(|io, _| {
        Box::pin(async move {
            let (there, back) = (Mailbox::<u32>::new(8), Mailbox::<u32>::new(8));
            let echo = thread::spawn({
                let (there, back) = (there.clone(), back.clone());
                move || {
                    for n in 0..1000 {
                        there.push(n).expect("room");
                        while back.try_pop() != Some(n) {
                            thread::yield_now();
                        }
                    }
                    there.close();
                }
            });
            let mut got = 0;
            while let Some(n) = there.pop().await {
                assert_eq!(n, got);
                got += 1;
                back.push(n).expect("room");
            }
            assert_eq!(got, 1000);
            echo.join().expect("echoes");

            let before = io.clock().mono();
            io.sleep(Duration::from_millis(20)).await;
            assert!(io.clock().mono() - before >= 20_000_000, "a sleep is never short");
            let watch = io.watch(Path::new("/nowhere/at/all"));
            watch.changed(Duration::MAX).await;
            watch.changed(Duration::from_millis(1)).await;
            watch.changed(Duration::MAX).await; // the safety net ends it
        })
    });
}

#[test]
fn tasks_share_the_thread_and_end_with_its_body() {
    struct Ends(Arc<AtomicBool>);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    for engine in ENGINES {
        let (dropped, never) = (Arc::new(AtomicBool::new(false)), Mailbox::<()>::new(1));
        let thread = io::spawn(*engine, setup("shard"), {
            let (dropped, never) = (dropped.clone(), never.clone());
            move |io| {
                Box::pin(async move {
                    let ends = Ends(dropped);
                    io.spawn(
                        "waits",
                        Box::pin(async move {
                            never.pop().await;
                            drop(ends);
                        }),
                    );
                    let turns = Rc::new(Cell::new(0));
                    for _ in 0..2 {
                        let (turning, turned) = (io.clone(), turns.clone());
                        let turn = async move {
                            for _ in 0..10 {
                                turned.set(turned.get() + 1);
                                turning.pause().await;
                            }
                        };
                        io.spawn("turns", Box::pin(turn));
                    }
                    while turns.get() < 20 {
                        io.pause().await;
                    }
                    thread::current().name().map(str::to_owned)
                })
            }
        });
        assert_eq!(thread.expect("starts").join().expect("runs").as_deref(), Some("shard"));
        assert!(dropped.load(Ordering::Relaxed), "{engine}: the waiting task was dropped with its thread");
        // The waker of a task that is gone must do no harm.
        never.push(()).expect("room");
    }
}

/// A shard that parses a backlog always has a task ready, and must hear acks and timers all the same.
#[test]
fn a_busy_shard_hears_other_threads_and_its_timers() {
    on_each(|io, _| {
        Box::pin(async move {
            let (acks, heard) = (Mailbox::<u32>::new(8), Rc::new(Cell::new(0)));
            let elsewhere = thread::spawn({
                let acks = acks.clone();
                move || {
                    for n in 0..20 {
                        acks.push(n).expect("room");
                        while !acks.is_empty() {
                            thread::yield_now();
                        }
                    }
                }
            });
            let (hears, timer) = (heard.clone(), io.clone());
            io.spawn(
                "hears",
                Box::pin(async move {
                    while acks.pop().await.is_some() {
                        timer.sleep(Duration::from_millis(1)).await;
                        hears.set(hears.get() + 1);
                    }
                }),
            );
            let spins = io.clone();
            io.spawn(
                "spins",
                Box::pin(async move {
                    loop {
                        spins.pause().await;
                    }
                }),
            );
            while heard.get() < 20 {
                io.pause().await;
            }
            elsewhere.join().expect("pushes");
        })
    });
}

#[test]
fn a_panic_in_a_task_ends_its_thread() {
    for engine in ENGINES {
        let thread = io::spawn(*engine, setup("shard"), |io| {
            Box::pin(async move {
                io.spawn("breaks", Box::pin(async { panic!("this panic is part of the test") }));
                io.sleep(Duration::from_secs(60)).await;
            })
        });
        assert!(thread.expect("starts").join().is_err(), "{engine}");
    }
}

#[test]
fn a_thread_stays_on_its_core() {
    let cores = io::cores().expect("cores");
    for engine in ENGINES {
        for core in &cores {
            let pinned = Setup { core: Some(*core), ..setup("pinned") };
            let thread = io::spawn(*engine, pinned, |_| Box::pin(async { io::cores().expect("cores") }));
            assert_eq!(thread.expect("starts").join().expect("runs"), [*core]);
        }
        let nowhere = Setup { core: Some(100_000), ..setup("nowhere") };
        let refused = io::spawn(*engine, nowhere, |_| Box::pin(async {})).expect_err("there is no such core");
        assert!(refused.to_string().starts_with("cannot start thread nowhere: cannot stay on core 100000"), "{refused}");
    }
}

#[test]
fn the_edge_may_use_sockets() {
    let edge = Setup { network: true, ..setup("edge") };
    let thread = io::spawn(Engine::Uring, edge, |_| {
        Box::pin(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
            let at = listener.local_addr().expect("has an address");
            let (connected, accepted) = tokio::join!(tokio::net::TcpStream::connect(at), listener.accept());
            connected.expect("connects");
            accepted.expect("accepts");
        })
    });
    thread.expect("starts").join().expect("runs");
}

/// What is forbidden to a child of this test, and what it then says.
const REFUSALS: &[(&str, &str)] = &[
    ("setup EPERM", "engine pread: io_uring_setup: Operation not permitted (os error 1)"),
    ("setup ENOSYS", "engine pread: io_uring_setup: Function not implemented (os error 38)"),
    ("register EPERM", "engine pread: io_uring_register: Operation not permitted (os error 1)"),
    ("enter EPERM", "engine pread: io_uring_enter: Operation not permitted (os error 1)"),
    ("memlock", "engine pread: RLIMIT_MEMLOCK is 65536 bytes, glommio wants 524288"),
];

#[test]
fn a_refused_io_uring_is_named_and_the_agent_still_reads() {
    const CASE: &str = "SHIPPER_TEST_REFUSE";
    if let Ok(case) = std::env::var(CASE) {
        refuse(&case);
        let (engine, why) = io::choose(Asked::Auto).expect("auto always finds an engine");
        println!("<{why}>");
        println!("<{}>", io::choose(Asked::Uring).expect_err("uring cannot be had"));
        let thread =
            io::spawn(engine, setup("shard"), |io| Box::pin(async move { read(&io, Path::new("/proc/self/comm"), 0, false).await.len() }));
        assert!(thread.expect("starts").join().expect("reads") > 0);
        return;
    }
    for (case, expected) in REFUSALS {
        let child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "engines::a_refused_io_uring_is_named_and_the_agent_still_reads", "--nocapture"])
            .env(CASE, case)
            .output()
            .expect("runs");
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success(), "{case}: {said}\n{}", String::from_utf8_lossy(&child.stderr));
        assert!(said.contains(&format!("<{expected}>")), "{case}: {said}");
        let what = expected.trim_start_matches("engine pread: ");
        assert!(said.contains(&format!("<cannot use engine uring: {what}; ")), "{case}: {said}");
    }
}

/// Forbids something to this process, for ever.
fn refuse(case: &str) {
    use rustix::process::{Resource, Rlimit, setrlimit};
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
    let errno = |code: i32| SeccompAction::Errno(code as u32);
    let (call, action) = match case {
        "memlock" => {
            let few = Some(64 << 10);
            return setrlimit(Resource::Memlock, Rlimit { current: few, maximum: few }).expect("limits may always be lowered");
        }
        // The numbers are the same on every architecture.
        "setup EPERM" => (425, errno(1)),
        "setup ENOSYS" => (425, errno(38)),
        "enter EPERM" => (426, errno(1)),
        "register EPERM" => (427, errno(1)),
        _ => panic!("no case {case}"),
    };
    let arch = TargetArch::try_from(std::env::consts::ARCH).expect("a known architecture");
    let filter = SeccompFilter::new([(call, Vec::new())].into(), SeccompAction::Allow, action, arch).expect("a filter");
    let program = BpfProgram::try_from(filter).expect("a program");
    seccompiler::apply_filter_all_threads(&program).expect("applies");
}

#[test]
fn doctor_has_an_answer_to_each_question() {
    let folder = tempfile::tempdir().expect("a folder");
    let facts = io::facts(folder.path());
    let names: Vec<&str> = facts.iter().map(|(name, _)| name.as_str()).collect();
    for name in
        ["kernel", "engine", "kernel.io_uring_disabled", "memlock bytes", "open files", "O_DIRECT", "inotify", "max_user_watches", "cores"]
    {
        assert!(names.contains(&name), "{name} is missing from {names:?}");
    }
    assert!(facts.iter().all(|(_, value)| !value.is_empty()), "{facts:?}");
}
