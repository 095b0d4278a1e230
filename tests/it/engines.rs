//! One body for both engines: what a shard asks of a file, a folder, a watch and the time.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use shipper::{
    clock::SystemClock,
    io::{self, Engine, Io, LocalFuture, Setup, SlabPool, Watcher},
    limits,
};

const ENGINES: &[Engine] = &[Engine::Pread];

fn setup(name: &str) -> Setup {
    Setup {
        name: name.into(),
        core: None,
        network: false,
        slabs: SlabPool::new(limits::SLABS_PER_SHARD),
        watcher: Watcher::new().expect("a watcher"),
        clock: SystemClock::new(),
        cold: true,
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
            assert_eq!(io.open(&path).err().map(|e| e.kind()), Some(std::io::ErrorKind::NotFound));
            assert_eq!(io.stat(&path).err().map(|e| e.kind()), Some(std::io::ErrorKind::NotFound));
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
