//! Archives in the background: compressed, and let go when they are too many or too old.
//!
//! What is to be done is read from the folder each time, so a crash at any point leaves nothing to
//! remember:
//!
//! | there is | a sweep |
//! |---|---|
//! | a plain archive | compresses it into `….gz.part`, syncs, renames to `….gz`, syncs the folder, removes the plain one |
//! | a part beside its plain archive | begins it anew |
//! | a part alone | removes it |
//! | plain and `.gz` of one stamp | compresses once more and replaces the `.gz`: nobody knows whose it is |
//! | more or older archives than may stay | removes these first, so that a full disk has room |
//!
//! A part is locked (flock(2)) by whoever writes it, so two agents on one folder do not meet in it.
//! A plain archive is removed only if it is as long as what was compressed of it.
//!
//! Invariant: a `.gz` is whole; every line is in the file, a plain archive or a `.gz`.

#![allow(clippy::disallowed_methods, reason = "a thread of its own, where it may block")]

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use flate2::{Compression, write::GzEncoder};
use rustix::fs::{FlockOperation, flock};

use super::archive::{Form, Limits, Stamp, folder, list, name};
use super::live::is_still;
use crate::{clock::Nanos, limits, metrics::Standing};

/// What is done with archives.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    /// The file that is written.
    pub path: PathBuf,
    pub compress: bool,
    pub limits: Limits,
}

/// A call that changes something on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A part is opened, or written to.
    Write,
    Sync,
    Rename,
    SyncFolder,
    Remove,
}

/// Asked before every step; an error ends the work there, as a crash would.
pub(super) type Before<'b> = &'b dyn Fn(Step) -> io::Result<()>;

/// What happened to an archive.
#[derive(Debug)]
pub(super) enum Event {
    Compressed { path: PathBuf, bytes: u64, compressed: u64 },
    Removed { path: PathBuf, by: &'static str },
    Failed { what: &'static str, path: PathBuf, error: io::Error },
}

/// Does whatever there is to do, the oldest first.
///
/// - `now`: wall time.
///
/// # Errors
/// If the folder cannot be read, or `before` ended it. What fails on one archive is told.
pub(super) fn sweep(policy: &Policy, now: Nanos, before: Before<'_>, tell: &mut dyn FnMut(Event)) -> io::Result<()> {
    let path = &policy.path;
    let all = list(path)?;
    let mut stamps: Vec<Stamp> = all.iter().filter(|(_, form)| *form != Form::Part).map(|(stamp, _)| *stamp).collect();
    stamps.dedup();
    let gone = policy.limits.exceeded(&stamps, now);
    for (stamp, form) in &all {
        let by = gone.iter().find(|(of, _)| of == stamp).map(|(_, by)| *by);
        let is_alone = || !all.contains(&(*stamp, Form::Plain)) || !policy.compress;
        let at = name(path, *stamp, *form);
        let (what, done) = match (form, by) {
            (Form::Part, _) if by.is_some() || is_alone() => ("remove", remove_part(&at, before)),
            (Form::Part, _) => continue,
            (_, Some(by)) => {
                let removed = before(Step::Remove).and_then(|()| fs::remove_file(&at));
                ("remove", removed.map(|()| tell(Event::Removed { path: at.clone(), by })))
            }
            (Form::Plain, None) if policy.compress => {
                let done = compress(&at, &name(path, *stamp, Form::Part), &name(path, *stamp, Form::Gzip), before);
                ("compress", done.map(|event| event.into_iter().for_each(&mut *tell)))
            }
            _ => continue,
        };
        match done {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            // Somebody else was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tell(Event::Failed { what, path: at, error }),
        }
    }
    Ok(())
}

/// Takes the lock of a part; `None` if another has it, or its name is another's by now.
fn lock(part: &Path) -> io::Result<Option<fs::File>> {
    let open = fs::OpenOptions::new().create(true).read(true).write(true).truncate(false).mode(0o640).open(part)?;
    let is_ours = flock(&open, FlockOperation::NonBlockingLockExclusive).is_ok() && is_still(&open, part);
    Ok(is_ours.then_some(open))
}

fn remove_part(part: &Path, before: Before<'_>) -> io::Result<()> {
    before(Step::Remove)?;
    match lock(part)? {
        Some(_locked) => fs::remove_file(part),
        None => Ok(()),
    }
}

/// Compresses one archive; `None` if that was not to be done now.
fn compress(plain: &Path, part: &Path, gzip: &Path, before: Before<'_>) -> io::Result<Option<Event>> {
    before(Step::Write)?;
    let input = fs::File::open(plain)?;
    let Some(output) = lock(part)? else { return Ok(None) };
    let done = pack(&input, &output, before).and_then(|bytes| {
        // Who still had it open may have written more, or it is another file by now.
        if input.metadata()?.len() != bytes || !is_still(&input, plain) {
            before(Step::Remove)?;
            fs::remove_file(part)?;
            return Ok(None);
        }
        before(Step::Rename)?;
        fs::rename(part, gzip)?;
        before(Step::SyncFolder)?;
        sync_folder(plain)?;
        before(Step::Remove)?;
        fs::remove_file(plain)?;
        Ok(Some(Event::Compressed { path: gzip.to_owned(), bytes, compressed: output.metadata()?.len() }))
    });
    if done.is_err() && is_still(&output, part) && before(Step::Remove).is_ok() {
        // A full disk needs the room.
        let _ = fs::remove_file(part);
    }
    done
}

/// Writes all of `input`, compressed, and syncs it; gives the bytes that were read.
fn pack(mut input: &fs::File, output: &fs::File, before: Before<'_>) -> io::Result<u64> {
    output.set_len(0)?;
    let mut encoder = GzEncoder::new(output, Compression::default());
    let mut chunk = vec![0; limits::COMPRESS_CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        // A signal must not look like the end of our own.
        let n = match input.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        before(Step::Write)?;
        encoder.write_all(&chunk[..n])?;
        bytes += n as u64;
    }
    encoder.finish()?;
    before(Step::Sync)?;
    output.set_permissions(input.metadata()?.permissions())?;
    output.sync_all()?;
    Ok(bytes)
}

/// Makes the names beside `path` durable.
///
/// # Errors
/// As fsync(2).
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(folder(path))?.sync_all()
}

/// Sweeps on a thread of its own that lives as long as there is something to do. Dropped, it ends
/// at the next chunk; the archive in work stays plain.
pub(super) struct Sweeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    name: String,
}

struct Shared {
    policy: Policy,
    standing: Standing,
    phase: Mutex<Phase>,
    is_ended: AtomicBool,
    /// The trouble that was told last; the same is not told twice.
    told: Mutex<Option<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Works,
    /// It works, and shall look again, at this wall time.
    Again(Nanos),
}

impl Sweeper {
    /// - `name`: of the sink; the thread is called by it.
    pub(super) fn new(policy: Policy, name: &str, standing: Standing) -> Self {
        let shared = Shared { policy, standing, phase: Mutex::new(Phase::Idle), is_ended: AtomicBool::new(false), told: Mutex::new(None) };
        Self { shared: Arc::new(shared), thread: None, name: name.to_owned() }
    }

    /// Has the folder looked through, now or as soon as the look at work is done.
    ///
    /// - `now`: wall time.
    pub(super) fn look(&mut self, now: Nanos) {
        let mut phase = self.shared.phase();
        if *phase != Phase::Idle {
            *phase = Phase::Again(now);
            return;
        }
        let shared = self.shared.clone();
        match thread::Builder::new().name(format!("gzip-{}", self.name)).spawn(move || shared.work(now)) {
            Ok(thread) => {
                *phase = Phase::Works;
                // The one before has ended: its phase was idle.
                self.thread = Some(thread);
            }
            Err(error) => {
                tracing::warn!(sink = self.name, %error, "cannot start the thread that compresses; archives stay plain until it can")
            }
        }
    }

    /// True while it works.
    #[cfg(test)]
    pub(super) fn is_busy(&self) -> bool {
        *self.shared.phase() != Phase::Idle
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.shared.is_ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of it was told where it happened; what it left is swept at the next start.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn phase(&self) -> std::sync::MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, mut now: Nanos) {
        // Deliveries go first; this takes what they leave.
        let _ = rustix::process::nice(10);
        let before = |step| match step {
            Step::Write if self.is_ended.load(Ordering::Relaxed) => Err(io::ErrorKind::Interrupted.into()),
            _ => Ok(()),
        };
        loop {
            let mut failed = None;
            let done = sweep(&self.policy, now, &before, &mut |event| {
                if let Event::Failed { what, path, error } = &event {
                    failed = Some(format!("cannot {what} {}: {error}", path.display()));
                }
                self.tell(event);
            });
            match done {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    failed = Some(format!("cannot list {}: {error}", folder(&self.policy.path).display()));
                }
                _ => {}
            }
            self.tell_trouble(failed);
            let mut phase = self.phase();
            match *phase {
                Phase::Again(at) if !self.is_ended.load(Ordering::Relaxed) => (*phase, now) = (Phase::Works, at),
                _ => {
                    *phase = Phase::Idle;
                    return;
                }
            }
        }
    }

    fn tell(&self, event: Event) {
        match event {
            Event::Compressed { path, bytes, compressed } => {
                self.standing.archive("compressed");
                tracing::info!(path = %path.display(), bytes, compressed, "archive compressed");
            }
            Event::Removed { path, by } => {
                self.standing.archive("removed");
                tracing::info!(path = %path.display(), by, "archive removed");
            }
            Event::Failed { .. } => self.standing.archive("failed"),
        }
    }

    fn tell_trouble(&self, trouble: Option<String>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = trouble.as_ref().filter(|_| *told != trouble) {
            tracing::warn!(why, "an archive stays as it is; free disk space or fix permissions, it is tried again every ten minutes");
        }
        *told = trouble;
    }
}
