//! Files per CPU second of agent and children together, beside the bare engine in one loop, without and with the digests that
//! every outcome has; noise; memory of a child.
//!
//! Rules and samples are those of the corpus (`SHIPPER_CORPUS/yara`, default `../shared/corpus`). Needs feature `scan` and python3.
//! CPU time is that of `/proc/PID/stat`, in hundredths of a second, so each part runs for some seconds.

#![allow(clippy::disallowed_methods, reason = "a bench reads what it measures")]

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(not(feature = "scan"))]
fn main() {
    eprintln!("skipped: needs the feature `scan`");
}

#[cfg(feature = "scan")]
fn main() -> std::process::ExitCode {
    with_engine::main()
}

#[cfg(feature = "scan")]
mod with_engine {
    use std::{
        collections::VecDeque,
        fs::{self, File},
        os::fd::AsFd,
        path::{Path, PathBuf},
        process::{Command, ExitCode},
        sync::Arc,
        time::{Duration, Instant},
    };

    use shipper::limits::CHILD_FILES_AT_ONCE;
    use shipper::scan::{
        buffer::{Engine, Job, Names, hashes::Hashes},
        children::{Children, Lost, NothingKept, Program, answer::Answer, child},
        outcome::Outcome,
        rules,
        settings::Settings,
        task::RelPath,
        yara::{self, Set},
    };

    /// How often all samples are scanned: one child sees them all, and is replaced after 5000.
    const ROUNDS: usize = 25;

    pub(super) fn main() -> ExitCode {
        if std::env::args().nth(1).as_deref() == Some("scan-child") {
            return child::serve(std::io::stdin().as_fd().try_clone_to_owned().expect("a socket"));
        }
        let folder = std::env::var_os("SHIPPER_CORPUS")
            .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus")), PathBuf::from);
        let corpus = folder.join("yara");
        let samples = tempfile::tempdir().expect("a scratch folder");
        let made = Command::new("python3").arg(corpus.join("gen_samples.py")).arg(samples.path()).status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("skipped: no corpus at {}, or no python3; SHIPPER_CORPUS says where it is", corpus.display());
            return ExitCode::SUCCESS;
        }
        measure(&corpus, samples.path());
        ExitCode::SUCCESS
    }

    fn measure(corpus: &Path, samples: &Path) {
        let mut settings = Settings::default();
        // All but the rules that are meant to be broken.
        let parts = fs::read_dir(corpus).expect("the corpus").map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir());
        let own = fs::read_dir(corpus.join("own")).expect("own rules").map(|entry| entry.expect("an entry").path());
        let own = own.filter(|path| path.extension().is_some_and(|suffix| suffix == "yar"));
        settings.rules.paths = parts.filter(|path| !path.ends_with("own")).chain(own).collect();
        settings.rules.paths.sort();
        settings.children = 1;
        // Members would be work that the loop does not do.
        settings.unpack.depth_max = 0;

        let began = Instant::now();
        let compiled = yara::compile(&rules::load(&settings.rules.paths), true).expect("compiles");
        println!(
            "compile: {} rules in {:.2} s, {} KiB",
            compiled.view.rules.len(),
            began.elapsed().as_secs_f64(),
            compiled.whole.len() >> 10
        );
        let began = Instant::now();
        let set = Set::open(compiled).expect("opens");
        println!("load: {:.2} s", began.elapsed().as_secs_f64());
        let mut scanners = set.scanners(&settings.rules);
        let names = Names::default();

        let mut files: Vec<PathBuf> = fs::read_dir(samples).expect("samples").map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        // Its own binary is this one.
        let children = Children::start(Program::own(), &settings, None, Arc::new(NothingKept)).expect("a child");
        children.scan(job(&files[0]), open(&files[0])).wait().expect("an outcome");
        let pids: Vec<u32> = children.pids();

        // In turns, so that a busy machine is busy for all.
        let (mut loop_cpu, mut hashed_cpu, mut children_cpu) = (0, 0, 0);
        for _ in 0..ROUNDS {
            let before = cpu(&["self".to_owned()]);
            for file in &files {
                let bytes = fs::read(file).expect("a sample");
                divan::black_box(scanners.whole(&bytes, &names, Duration::from_secs(60)).expect("an answer"));
            }
            loop_cpu += cpu(&["self".to_owned()]) - before;

            let before = cpu(&["self".to_owned()]);
            for file in &files {
                let bytes = fs::read(file).expect("a sample");
                divan::black_box(Hashes::of(&bytes));
                divan::black_box(scanners.whole(&bytes, &names, Duration::from_secs(60)).expect("an answer"));
            }
            hashed_cpu += cpu(&["self".to_owned()]) - before;

            let all: Vec<String> = pids.iter().map(u32::to_string).chain(["self".to_owned()]).collect();
            let before = cpu(&all);
            // As many in hand as an agent has.
            let mut in_hand = VecDeque::new();
            for file in &files {
                in_hand.push_back(children.scan(job(file), open(file)));
                if in_hand.len() >= 2 * CHILD_FILES_AT_ONCE {
                    in_hand.drain(..CHILD_FILES_AT_ONCE).for_each(scanned);
                }
            }
            in_hand.into_iter().for_each(scanned);
            children_cpu += cpu(&all) - before;
        }
        let rate = |cpu: u64| (ROUNDS * files.len()) as f64 / (cpu as f64 / 100.0);
        println!(
            "{} files × {ROUNDS}: bare engine {:.0} files per CPU second, with the four digests {:.0}; agent and child {:.0}: {:.2} and {:.2} of it",
            files.len(),
            rate(loop_cpu),
            rate(hashed_cpu),
            rate(children_cpu),
            rate(children_cpu) / rate(loop_cpu),
            rate(children_cpu) / rate(hashed_cpu),
        );

        let mut noise = vec![0u8; 20 << 20];
        let mut state = 1u64;
        for chunk in noise.chunks_exact_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            chunk.copy_from_slice(&(state ^ state >> 29).to_le_bytes());
        }
        let path = samples.join("noise");
        fs::write(&path, &noise).expect("a sample");
        let began = Instant::now();
        divan::black_box(scanners.whole(&noise, &names, Duration::from_secs(60)).expect("an answer"));
        let bare = began.elapsed();
        let began = Instant::now();
        divan::black_box(Hashes::of(&noise));
        let digests = began.elapsed();
        let began = Instant::now();
        children.scan(job(&path), open(&path)).wait().expect("an outcome");
        println!("20 MiB of noise: bare engine {bare:.2?}, digests {digests:.2?}, child with both {:.2?}", began.elapsed());
        for pid in children.pids() {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a child");
            let kib = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map_or("", str::trim).to_owned();
            println!("child: resident {}, at most {}, address space at most {}", kib("VmRSS:"), kib("VmHWM:"), kib("VmPeak:"));
        }
    }

    fn scanned(answer: Answer<Result<Outcome, Lost>>) {
        drop(divan::black_box(answer.wait().expect("an outcome")));
    }

    fn job(path: &Path) -> Job {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        Job {
            task_id: name.clone(),
            root: "r".into(),
            root_path: "/zeek/extract_files".into(),
            path: RelPath(name.into_bytes()),
            owner: String::new(),
            attempt: 1,
            worker_id: "w".into(),
            zeek: None,
        }
    }

    fn open(path: &Path) -> std::os::fd::OwnedFd {
        File::open(path).expect("a sample").into()
    }

    /// Hundredths of a second that processes have worked so far, in user and system.
    fn cpu(pids: &[String]) -> u64 {
        let of = |pid: &String| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
            let (_, rest) = stat.rsplit_once(')').expect("a name in parentheses");
            let fields: Vec<&str> = rest.split_whitespace().collect();
            fields[11].parse::<u64>().expect("ticks") + fields[12].parse::<u64>().expect("ticks")
        };
        pids.iter().map(of).sum()
    }
}
