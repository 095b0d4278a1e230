//! Files by a pattern: each one a stream of its own, told apart by what it is and not by its name.
//!
//! One task reads them in turns, since a home hears one reader at a time; what is due is told by
//! small tasks that wait for a watch each. A file that is renamed within the pattern is still
//! itself; one that left the pattern is read to its end, given a moment for a late writer, and its
//! stream ends.
//!
//! A file that came and left the pattern between two looks was never seen; who renames files as they
//! finish should give them names that fit as well.
//!
//! Invariant: no two tails read the same file.

use std::{
    cell::Cell,
    io,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use super::{
    follow::{Follow, Look, Open, ReadError, Siblings, StartAt},
    glob::Pattern,
};
use crate::{
    checkpoint::{Row, SegmentRow},
    clock::Nanos,
    framing::Framing,
    io::{Io, LocalFuture, Stat},
    limits,
    metrics::{Standing, State},
    position::{Position, encode_name},
    ring::Signal,
    sources::{Admit, Chunk},
};

/// Files of a folder, by a pattern.
pub struct Many {
    pub io: Rc<dyn Io>,
    pub admit: Rc<dyn Admit>,
    pub standing: Standing,
    /// The source's name.
    pub name: String,
    pub folder: PathBuf,
    pub pattern: Pattern,
    pub start_at: StartAt,
    pub framing: Framing,
}

/// One file being read.
struct Tail {
    follow: Follow,
    open: Open,
    lag: Rc<Lagging>,
    due: Due,
    /// Since when no name in the pattern is its own, monotonic.
    gone: Option<Nanos>,
    trouble: Option<String>,
}

/// Whether a look is due; a task that waits for the watch says so until this is dropped.
pub(super) struct Due(Rc<Cell<bool>>);

impl Due {
    /// Due now, and whenever `path` may have changed; raises `bell` then.
    pub(super) fn on(io: &Rc<dyn Io>, path: &Path, bell: &Rc<Signal>) -> Self {
        let (due, watch, bell) = (Rc::new(Cell::new(true)), io.watch(path), bell.clone());
        let told = due.clone();
        io.spawn(
            "watch of a file",
            Box::pin(async move {
                // Whoever asked for it is gone when only this task still holds the flag.
                while Rc::strong_count(&told) > 1 {
                    watch.changed(Duration::from_millis(limits::SAFETY_POLL_MS)).await;
                    told.set(true);
                    bell.raise();
                }
            }),
        );
        Self(due)
    }
}

impl Many {
    /// Runs until the admission is closed.
    pub async fn run(self) {
        let bell = Rc::new(Signal::default());
        let folder = Due::on(&self.io, &self.folder, &bell);
        let total = Rc::new(Cell::new(0));
        let mut left = Some(self.admit.rows());
        let mut tails: Vec<Tail> = Vec::new();
        let mut trouble = None;
        while !self.admit.is_closed() {
            if folder.0.take() {
                trouble = self.look_around(&mut tails, &mut left, &bell, &total).await;
            }
            let mut again = false;
            for tail in tails.iter_mut().filter(|tail| tail.due.0.take()) {
                if self.admit.is_closed() {
                    break;
                }
                if !self.turn(tail).await {
                    tail.due.0.set(true);
                    again = true;
                }
            }
            self.end_those_gone(&mut tails).await;
            let said = trouble.iter().chain(tails.iter().filter_map(|tail| tail.trouble.as_ref())).next();
            self.standing.set(said.map_or(State::Ready, |said| State::Retrying(said.clone())));
            if again {
                self.io.pause().await;
                continue;
            }
            tokio::select! {
                biased;
                () = self.admit.closed() => {}
                () = bell.wait() => {}
            }
        }
    }

    /// Reads some of one file and looks at its end; true once it is reached.
    async fn turn(&self, tail: &mut Tail) -> bool {
        tail.trouble = None;
        let at_end = match tail.follow.read_some(&mut tail.open, limits::TURN_BYTES).await {
            Ok(at_end) => at_end,
            Err(ReadError::Restarted) => {
                tail.follow.restart(&mut tail.open).await;
                return false;
            }
            Err(ReadError::Io(e)) => {
                tail.trouble = Some(format!("cannot read {}: {e}; check its disk and its permissions", tail.open.path.display()));
                return true;
            }
        };
        // The names are the folder's business; only what became of the bytes is asked here.
        if at_end && matches!(tail.follow.look(&mut tail.open).await, Look::Restarted) {
            tail.follow.restart(&mut tail.open).await;
            return false;
        }
        at_end
    }

    /// What the folder holds now: begins with files that are new, follows names, notes who is gone.
    /// Returns what is in the way, for the operator.
    async fn look_around(
        &self,
        tails: &mut Vec<Tail>,
        left: &mut Option<Vec<Row>>,
        bell: &Rc<Signal>,
        total: &Rc<Cell<u64>>,
    ) -> Option<String> {
        let mut names = match self.io.list(&self.folder) {
            Ok(names) => names,
            Err(e) => return Some(format!("cannot list {}: {e}; waiting for it", self.folder.display())),
        };
        names.sort();
        let found: Vec<(PathBuf, Stat)> = names
            .iter()
            .filter(|path| path.file_name().is_some_and(|name| self.pattern.matches(&name.to_string_lossy())))
            .filter_map(|path| Some((path.clone(), self.io.stat(path).ok()?)))
            .filter(|(_, stat)| stat.is_file)
            .collect();
        let now = self.io.clock().mono();
        for tail in tails.iter_mut() {
            match found.iter().find(|(_, stat)| same(stat, &tail.open.stat)) {
                Some((path, _)) => {
                    tail.gone = None;
                    if *path != tail.follow.path {
                        tracing::info!(from = %tail.follow.path.display(), to = %path.display(), "renamed");
                        tail.follow.path.clone_from(path);
                        tail.open.path.clone_from(path);
                        tail.due = Due::on(&self.io, path, bell);
                    }
                }
                None => tail.gone = tail.gone.or(Some(now)),
            }
        }
        // Rows of the checkpoint are there on the first look only; without any it is the first start.
        let rows = left.take();
        let first = rows.as_ref().is_some_and(Vec::is_empty);
        let mut rows = rows.unwrap_or_default();
        let mut trouble = None;
        let before = tails.len();
        // Those that the checkpoint knows come first, so that the limit leaves out new ones.
        let (known, new): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, stat)| rows.iter().any(|row| is_of(row, stat)));
        for (path, stat) in known.into_iter().chain(new) {
            if tails.iter().any(|tail| same(&stat, &tail.open.stat)) {
                continue;
            }
            if tails.len() >= limits::GLOB_FILES_MAX {
                let (most, path) = (limits::GLOB_FILES_MAX, self.folder.display());
                trouble =
                    Some(format!("more than {most} files match in {path}, the others wait; narrow the pattern or move old files away"));
                break;
            }
            let row = rows.iter().position(|row| is_of(row, &stat)).map(|at| rows.swap_remove(at));
            match self.take_up(&path, &stat, row.as_ref(), first, bell, total).await {
                Ok(tail) => tails.push(tail),
                Err(what) => {
                    trouble = trouble.or(Some(what));
                    // Not forgotten: the next look finds it.
                    if let Some(row) = row {
                        left.get_or_insert_default().push(row);
                    }
                }
            }
        }
        self.take_up_lost(rows, &names, tails, bell, total).await;
        // Where each begins is on disk before its first bytes go out; one save for all that are new.
        if tails.len() > before {
            self.admit.saved().await;
        }
        trouble
    }

    /// Files that the checkpoint knows and that left the pattern while nobody looked.
    async fn take_up_lost(&self, rows: Vec<Row>, names: &[PathBuf], tails: &mut Vec<Tail>, bell: &Rc<Signal>, total: &Rc<Cell<u64>>) {
        for row in rows {
            let stats = names.iter().filter_map(|path| Some((path, self.io.stat(path).ok()?)));
            let found = stats.filter(|(_, stat)| stat.is_file && !tails.iter().any(|tail| same(stat, &tail.open.stat)));
            let found = found.into_iter().find(|(_, stat)| is_of(&row, stat));
            if let Some((path, stat)) = found
                && let Ok(mut tail) = self.take_up(path, &stat, Some(&row), false, bell, total).await
            {
                tail.gone = Some(self.io.clock().mono());
                tails.push(tail);
                continue;
            }
            let (path, offset) = (row.segments.last().map(|s| s.path.as_str()), row.lowest().and_then(Position::file_offset));
            tracing::error!(path, offset, "a file that was being read is gone; if it had grown since, that is lost");
            self.admit.end(&row.stream);
        }
    }

    /// Begins with one file, where the checkpoint or `start_at` says.
    async fn take_up(
        &self,
        path: &Path,
        stat: &Stat,
        row: Option<&Row>,
        first: bool,
        bell: &Rc<Signal>,
        total: &Rc<Cell<u64>>,
    ) -> Result<Tail, String> {
        let stream = row.map_or_else(|| fingerprint(stat), |row| row.stream.clone());
        let lag = Rc::new(Lagging { admit: self.admit.clone(), total: total.clone(), own: Cell::new(0) });
        let itself = Itself(format!("file/{}/{}", encode_name(&self.name), encode_name(&stream)));
        let start_at = if first { self.start_at } else { StartAt::Beginning };
        let (io, standing) = (self.io.clone(), self.standing.clone());
        let follow = Follow::new(io, lag.clone(), standing, path.to_owned(), stream, Box::new(itself), start_at).with(self.framing);
        // Opened before anything is said of it: the name may belong to another file by now.
        let open = follow.open(path, None).await.map_err(|e| follow.not_open(&e))?;
        if !same(&open.stat, stat) {
            return Err(format!("{} changed hands just now; looking again", path.display()));
        }
        let open = match row {
            Some(row) => {
                let found = follow.resume(row).await.map_err(|e| follow.not_open(&e))?.0;
                found.ok_or_else(|| format!("{} went away just now; looking again", path.display()))?
            }
            None => follow.begin_in(open).await.map_err(|e| follow.not_open(&e))?,
        };
        follow.make_known(&open);
        tracing::info!(path = %path.display(), stream = follow.stream, offset = open.offset, "file");
        Ok(Tail { due: Due::on(&self.io, path, bell), follow, open, lag, gone: None, trouble: None })
    }

    async fn end_those_gone(&self, tails: &mut Vec<Tail>) {
        let now = self.io.clock().mono();
        let grace = limits::VANISHED_FILE_GRACE_MS * 1_000_000;
        let mut at = 0;
        while let Some(tail) = tails.get(at) {
            let over = tail.gone.is_some_and(|gone| now.saturating_sub(gone) >= grace)
                && tail.open.file.stat().map_or(0, |stat| stat.size) <= tail.open.offset;
            if !over || self.admit.is_closed() {
                at += 1;
                continue;
            }
            let mut tail = tails.swap_remove(at);
            tail.follow.lose_part(&mut tail.open).await;
            tail.lag.lag(0);
            tracing::info!(path = %tail.open.path.display(), read = tail.open.offset, "file is gone and read to its end");
            self.admit.end(&tail.follow.stream);
        }
    }
}

/// The name of a file's stream: what a file keeps when it is renamed.
fn fingerprint(stat: &Stat) -> String {
    format!("{:x}-{:x}-{:x}", stat.device, stat.inode, stat.born)
}

/// True for what [`fingerprint`] gives: a path is named otherwise.
pub(super) fn is_fingerprint(stream: &str) -> bool {
    let is_hex = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_hexdigit());
    stream.split('-').count() == 3 && stream.split('-').all(is_hex)
}

/// Text of an origin before the offset.
pub(super) fn origin(name: &str, incarnation: u16) -> String {
    match incarnation {
        0 => name.to_owned(),
        n => format!("{name}~{n}"),
    }
}

fn same(a: &Stat, b: &Stat) -> bool {
    (a.device, a.inode, a.born) == (b.device, b.inode, b.born)
}

/// True if the checkpoint's row speaks of this file.
fn is_of(row: &Row, stat: &Stat) -> bool {
    let is = |s: &SegmentRow| (s.device, s.inode) == (stat.device, stat.inode) && (s.born == 0 || stat.born == 0 || s.born == stat.born);
    row.segments.iter().any(is)
}

/// A stream of one file: nothing stands beside it.
struct Itself(String);

impl Siblings for Itself {
    fn files(&self, _io: &dyn Io) -> io::Result<Vec<(u32, PathBuf)>> {
        Ok(Vec::new())
    }
    fn unnamed(&self, _io: &dyn Io) -> u32 {
        0
    }
    fn origin(&self, _segment: u32, incarnation: u16) -> Arc<str> {
        origin(&self.0, incarnation).into()
    }
}

/// The source's admission as one file sees it: the lag that is told is that of all files.
struct Lagging {
    admit: Rc<dyn Admit>,
    total: Rc<Cell<u64>>,
    own: Cell<u64>,
}

impl Admit for Lagging {
    fn is_closed(&self) -> bool {
        self.admit.is_closed()
    }
    fn closed(&self) -> LocalFuture<'_, ()> {
        self.admit.closed()
    }
    fn resume(&self, stream: &str) -> Option<Row> {
        self.admit.resume(stream)
    }
    fn rows(&self) -> Vec<Row> {
        self.admit.rows()
    }
    fn open(&self, stream: &str, start: Position) {
        self.admit.open(stream, start);
    }
    fn segment(&self, stream: &str, row: SegmentRow) {
        self.admit.segment(stream, row);
    }
    fn saved(&self) -> LocalFuture<'_, ()> {
        self.admit.saved()
    }
    fn chunk<'a>(&'a self, stream: &'a str, chunk: Chunk) -> LocalFuture<'a, bool> {
        self.admit.chunk(stream, chunk)
    }
    fn lag(&self, bytes: u64) {
        let before = self.own.replace(bytes);
        self.total.set(self.total.get() - before + bytes);
        self.admit.lag(self.total.get());
    }
    fn missed(&self, bytes: u64) {
        self.admit.missed(bytes);
    }
    fn end(&self, stream: &str) {
        self.admit.end(stream);
    }
}
