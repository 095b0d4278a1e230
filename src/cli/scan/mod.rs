//! `shipper scan`: looks into files with YARA rules, here and now, with the same children that an agent has.

mod files;
mod repair;
mod report;
mod rules;

use std::{
    collections::VecDeque,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use argh::FromArgs;

use super::{CONFIG, IO, UNAVAILABLE, USAGE, progress::Progress};
use crate::scan::{
    buffer::{Job, unseen},
    children::{Children, Lost, NothingKept, Program, ReloadError, answer::Answer},
    outcome::{Outcome, Reason, Verdict},
    settings::Settings,
    task::RelPath,
};
use report::Report;

/// Look into files with YARA rules. A folder called `rules` is `./rules`.
///
/// Exit codes: 0 everything is clean, 1 something matched, 74 nothing matched but something could not be scanned whole,
/// 69 this build has no YARA, 78 there is no usable rule.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "scan",
    example = "shipper scan suspicious.zip",
    example = "shipper scan --dir /opt/zeek/spool/extract_files --rules /etc/shipper/rules --json",
    example = "shipper scan rules check /etc/shipper/rules",
    example = "shipper scan repair",
    note = "Exit codes: 0 everything is clean, 1 something matched, 74 nothing matched but something could not be scanned whole, 69 this \
            build has no YARA, 78 there is no usable rule."
)]
pub struct Scan {
    /// files to look into
    #[argh(positional)]
    files: Vec<String>,
    /// a folder with all that is below it; links are not followed; may be given more than once
    #[argh(option)]
    dir: Vec<PathBuf>,
    /// rule file, or folder of *.yar and *.yara (default /etc/shipper/rules); may be given more than once
    #[argh(option)]
    rules: Vec<PathBuf>,
    /// processes that scan (default: as many as cores, at most 4)
    #[argh(option)]
    children: Option<usize>,
    /// seconds that one file may take, 1 to 300 (default 60)
    #[argh(option)]
    timeout: Option<u64>,
    /// largest file that is scanned, in bytes (default 20971520)
    #[argh(option)]
    max_bytes: Option<u64>,
    /// one outcome a line, as JSON; sums go to standard error
    #[argh(switch)]
    json: bool,
    #[argh(subcommand)]
    what: Option<What>,
}

#[derive(FromArgs, Debug)]
#[argh(subcommand)]
enum What {
    Rules(rules::Rules),
    Repair(repair::Repair),
}

/// Something matched.
const MATCHED: u8 = 1;

/// Runs the command.
///
/// # Errors
/// A folder cannot be listed, or output fails.
pub fn run(args: &Scan) -> anyhow::Result<ExitCode> {
    match &args.what {
        Some(What::Rules(rules)) => return rules::run(rules),
        Some(What::Repair(repair)) => return repair::run(repair),
        None => {}
    }
    if args.files.is_empty() && args.dir.is_empty() {
        eprintln!("shipper: name files, or a folder with --dir; `shipper scan --help` shows examples");
        return Ok(ExitCode::from(USAGE));
    }
    let mut settings = Settings::default();
    settings.timeout_s = args.timeout.unwrap_or(settings.timeout_s);
    settings.file_bytes_max = args.max_bytes.unwrap_or(settings.file_bytes_max);
    settings.children = args.children.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from).min(4));
    if !(1..=300).contains(&settings.timeout_s) || !(1..=64).contains(&settings.children) {
        eprintln!("shipper: --timeout is 1 to 300 seconds, --children is 1 to 64");
        return Ok(ExitCode::from(USAGE));
    }
    if !args.rules.is_empty() {
        settings.rules.paths = args.rules.clone();
    }
    let children = match Children::start(Program::own(), &settings, None, Arc::new(NothingKept)) {
        Ok(children) => children,
        Err(error) => return Ok(refused(&error)),
    };
    for error in children.rules().errors.iter().filter(|error| !error.harmless) {
        eprintln!("shipper: {error}");
    }
    let mut report = Report::new(args.json);
    let mut progress = Progress::new(0);
    let mut waiting: VecDeque<(PathBuf, Waiting)> = VecDeque::new();
    let files = args.files.iter().map(|file| Ok(files::Named { path: file.into(), is_given: true }));
    let mut found = files.chain(args.dir.iter().flat_map(|dir| files::Below::new(dir)));
    loop {
        // Enough that no child waits, and few enough to hold open.
        while waiting.len() < 4 * settings.children {
            let Some(file) = found.next() else { break };
            match file {
                Ok(file) => {
                    let begun = begin(&children, &file);
                    waiting.push_back((file.path, begun));
                }
                Err((path, error)) => report.failed(&path, &format!("cannot be listed: {error}"))?,
            }
        }
        let Some((path, begun)) = waiting.pop_front() else { break };
        match begun {
            Waiting::Scan(answer) => match answer.wait() {
                Ok(outcome) => report.outcome(&path, shown(outcome, &path))?,
                Err(Lost { text, .. }) => report.failed(&path, &text)?,
            },
            Waiting::Told(outcome) => report.outcome(&path, shown(*outcome, &path))?,
            Waiting::Failed(why) => report.failed(&path, &why)?,
        }
        progress.say(&report.progress());
    }
    progress.end();
    report.sums(&children.rules())?;
    Ok(ExitCode::from(report.code()))
}

/// What stands for an error of the rules, said.
fn refused(error: &ReloadError) -> ExitCode {
    if let ReloadError::Refused { errors, .. } = error {
        errors.iter().for_each(|error| eprintln!("shipper: {error}"));
    }
    eprintln!("shipper: {error}");
    ExitCode::from(match error {
        ReloadError::NotBuilt => UNAVAILABLE,
        ReloadError::Refused { .. } => CONFIG,
        ReloadError::Compile(_) => IO,
    })
}

/// A file that was begun.
enum Waiting {
    Scan(Answer<Result<Outcome, Lost>>),
    Told(Box<Outcome>),
    Failed(String),
}

fn begin(children: &Children, file: &files::Named) -> Waiting {
    let job = job(&file.path);
    match files::open(file) {
        Ok(fd) => Waiting::Scan(children.scan(job, fd)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Waiting::Told(Box::new(unseen(&job, Verdict::Error, Reason::NotFound))),
        // A link where none is followed.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            Waiting::Told(Box::new(unseen(&job, Verdict::Error, Reason::NotAFile)))
        }
        Err(error) => Waiting::Failed(format!("cannot be opened: {error}")),
    }
}

fn job(path: &Path) -> Job {
    // Rules ask for the folder from the root on.
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let below = whole.strip_prefix("/").unwrap_or(&whole).as_os_str().as_bytes().to_vec();
    Job {
        task_id: String::new(),
        root: String::new(),
        root_path: String::new(),
        path: RelPath(below),
        owner: String::new(),
        attempt: 1,
        worker_id: String::new(),
        zeek: None,
    }
}

/// The outcome under the name that the operator used.
fn shown(mut outcome: Outcome, path: &Path) -> Outcome {
    outcome.path = RelPath(path.as_os_str().as_bytes().to_vec());
    outcome
}

/// Serves as a scan child: what `shipper scan-child` does, which only an agent calls, with a socket for standard input.
pub fn child() -> ExitCode {
    let Some(socket) = socket() else {
        eprintln!("shipper: scan-child is started by an agent, with a socket for standard input; `shipper scan` is for people");
        return ExitCode::from(USAGE);
    };
    #[cfg(feature = "scan")]
    return crate::scan::children::child::serve(socket);
    #[cfg(not(feature = "scan"))]
    {
        drop(socket);
        refused(&ReloadError::NotBuilt)
    }
}

fn socket() -> Option<OwnedFd> {
    let stdin = io::stdin();
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&stdin).ok()?.st_mode);
    (kind == rustix::fs::FileType::Socket).then(|| rustix::io::dup(&stdin).ok()).flatten()
}
